// Reads a machine with node-opcua: node read_machine.js ENDPOINT NAMESPACE_URI NAME
// Prints one JSON object: the value, status and type of every variable below the machine, by path of browse names.
const { OPCUAClient, NodeClass, AttributeIds, DataType, makeBrowsePath } = require("node-opcua-client");

async function read(session, nodeId, path, found) {
    const { references } = await session.browse({
        nodeId, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63,
    });
    for (const reference of references ?? []) {
        const at = path ? `${path}/${reference.browseName.name}` : reference.browseName.name;
        if (reference.nodeClass === NodeClass.Variable) {
            const data = await session.read({ nodeId: reference.nodeId, attributeId: AttributeIds.Value });
            found[at] = {
                value: data.value.value, status: data.statusCode.name, type: DataType[data.value.dataType],
                time: data.sourceTimestamp,
            };
        }
        await read(session, reference.nodeId, at, found);
    }
    return found;
}

(async () => {
    const [endpoint, uri, name] = process.argv.slice(2);
    const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1 } });
    await client.connect(endpoint);
    const session = await client.createSession();
    const namespaces = await session.readNamespaceArray();
    const machine = `ns=${namespaces.indexOf(uri)};s=${name}`;
    const ns = (suffix) => namespaces.findIndex((one) => one.endsWith(suffix));
    const mt = ns("/MachineTool/");
    const state = await session.translateBrowsePath(makeBrowsePath(
        machine, `/${mt}:Production/${mt}:ActiveProgram/${mt}:State/0:CurrentState/0:Number`));
    const found = await read(session, machine, "", {});
    console.log(JSON.stringify({ translated: state.targets?.map((target) => target.targetId.value), found }));
    await session.close();
    await client.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
