// Asks for job responses with node-opcua: node job_responses.js ENDPOINT NAMESPACE_URI NAME JOB_ORDER_ID
// Prints one JSON object: what each of the two methods gave.
const { OPCUAClient, DataType, VariantArrayType, makeBrowsePath, NodeId } = require("node-opcua-client");

(async () => {
    const [endpoint, uri, name, jobOrderId] = process.argv.slice(2);
    const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1 } });
    await client.connect(endpoint);
    const session = await client.createSession();
    const namespaces = await session.readNamespaceArray();
    const ns = (suffix) => namespaces.findIndex((one) => one.endsWith(suffix));
    const [mach, jobs, isa] = ["/UA/Machinery/", "/Machinery/Jobs/", "/ISA95-JOBCONTROL_V2/"].map(ns);
    const results = `/${mach}:MachineryBuildingBlocks/${jobs}:JobManagement/${jobs}:JobOrderResults`;
    const find = async (path) => {
        const machine = `ns=${namespaces.indexOf(uri)};s=${name}`;
        const found = await session.translateBrowsePath(makeBrowsePath(machine, path));
        return found.targets[0].targetId;
    };
    const objectId = await find(results);
    const call = async (method, argument) => {
        const methodId = await find(`${results}/${isa}:${method}`);
        const answer = await session.call({ objectId, methodId, inputArguments: [argument] });
        const [output, status] = (answer.outputArguments ?? []).map((one) => one.value);
        return { status: answer.statusCode.name, output, returned: status?.[1] ?? null, high: status?.[0] ?? null };
    };
    const byId = (id) => call("RequestJobResponseByJobOrderID", { dataType: DataType.String, value: id });
    const inState = async (number) => {
        const state = await session.constructExtensionObject(new NodeId(NodeId.NodeIdType?.NUMERIC ?? 1, 3006, isa), {
            browsePath: { elements: [] }, stateText: { text: "" }, stateNumber: number,
        });
        return call("RequestJobResponseByJobOrderState", {
            dataType: DataType.ExtensionObject, arrayType: VariantArrayType.Array, value: [state],
        });
    };
    console.log(JSON.stringify({
        known: await byId(jobOrderId), unknown: await byId("nobody knows it"),
        running: await inState(3), ended: await inState(5), impossible: await inState(77),
    }));
    await session.close();
    await client.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
