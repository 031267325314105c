// node-opcua with objects of the same size as the bridge's machines. Prints one line of JSON.
"use strict";
const { OPCUAServer, MessageSecurityMode, SecurityPolicy } = require("node-opcua");

const GROUPS = 20, VARIABLES = 4, EXTRA = 10;
const count = Number(process.argv[2]);

function add(namespace, folder, number) {
    const machine = namespace.addObject({ organizedBy: folder, nodeId: `s=m${number}`, browseName: `Printer ${number}` });
    for (let group = 0; group < GROUPS; group++) {
        const name = `m${number}.${group}`;
        const part = namespace.addObject({ componentOf: machine, nodeId: `s=${name}`, browseName: `Part ${group}` });
        for (let variable = 0; variable < VARIABLES; variable++)
            namespace.addVariable({
                componentOf: part, nodeId: `s=${name}.${variable}`, browseName: `Value ${variable}`,
                dataType: "Double", value: { dataType: "Double", value: 1 },
            });
    }
    return machine;
}

(async () => {
    const server = new OPCUAServer({
        port: Number(process.argv[3]), hostname: "127.0.0.1",
        securityModes: [MessageSecurityMode.None], securityPolicies: [SecurityPolicy.None],
    });
    await server.initialize();
    const space = server.engine.addressSpace, namespace = space.getOwnNamespace();
    const folder = namespace.addFolder(space.rootFolder.objects, { browseName: "Machines" });
    const cpu = () => process.cpuUsage().user + process.cpuUsage().system;
    let begin = cpu();
    for (let number = 0; number < count; number++) add(namespace, folder, number);
    const added = cpu() - begin;
    await server.start();
    const extra = [];
    for (let number = count; number < count + EXTRA; number++) extra.push(add(namespace, folder, number));
    begin = cpu();
    for (const machine of extra) namespace.deleteNode(machine);
    const removed = cpu() - begin;
    console.log(JSON.stringify({
        url: `opc.tcp://127.0.0.1:${process.argv[3]}/`, folder: folder.nodeId.toString(),
        add_ms: added / count / 1e3, remove_ms: removed / EXTRA / 1e3,
    }));
    process.stdin.on("end", () => server.shutdown(0).then(() => process.exit(0))).resume();
})();
