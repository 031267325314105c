// Resolves browse paths with node-opcua: node translate_paths.js ENDPOINT NODE_ID, a JSON list of paths on stdin
// Prints one JSON list: of each path its NodeIds, data type and status, with the id of its unit if it has one.
const { OPCUAClient, AttributeIds, makeBrowsePath } = require("node-opcua-client");
const { readFileSync } = require("node:fs");

(async () => {
    const [endpoint, machine] = process.argv.slice(2);
    const paths = JSON.parse(readFileSync(0, "utf8"));
    const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1 } });
    await client.connect(endpoint);
    const session = await client.createSession();
    const translate = async (all) => (await session.translateBrowsePath(all.map((path) => makeBrowsePath(machine, path))))
        .map((one) => (one.targets ?? []).map((target) => target.targetId.toString()));
    const found = await translate(paths);
    const units = await translate(paths.map((path) => `${path}/0:EngineeringUnits`));
    const read = async (nodeId, attributeId) => nodeId && session.read({ nodeId, attributeId });
    const answers = [];
    for (const [index, path] of paths.entries()) {
        const nodeId = found[index][0];
        const value = await read(nodeId, AttributeIds.Value);
        const unit = await read(units[index][0], AttributeIds.Value);
        answers.push({
            path, nodeIds: found[index], status: value?.statusCode.name,
            dataType: (await read(nodeId, AttributeIds.DataType))?.value.value.toString(),
            unit: unit?.value.value.unitId ?? null, hasValue: (value?.value.value ?? null) !== null,
        });
    }
    console.log(JSON.stringify(answers));
    await session.close();
    await client.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
