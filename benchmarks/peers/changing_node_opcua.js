// node-opcua with values that change. Prints one line of JSON, then writes until told to end.
"use strict";
const { OPCUAServer, MessageSecurityMode, SecurityPolicy } = require("node-opcua");

const items = Number(process.argv[2]), rate = Number(process.argv[3]), port = Number(process.argv[4]);

(async () => {
    const server = new OPCUAServer({
        port, hostname: "127.0.0.1",
        securityModes: [MessageSecurityMode.None], securityPolicies: [SecurityPolicy.None],
    });
    await server.initialize();
    const space = server.engine.addressSpace, namespace = space.getOwnNamespace();
    const nodes = [];
    for (let number = 0; number < items; number++)
        nodes.push(namespace.addVariable({
            organizedBy: space.rootFolder.objects, nodeId: `s=v${number}`, browseName: `V${number}`, dataType: "Double",
            minimumSamplingInterval: 0, value: { dataType: "Double", value: 0 },
        }));
    await server.start();
    console.log(JSON.stringify({ url: `opc.tcp://127.0.0.1:${port}/`, nodes: nodes.map((node) => node.nodeId.toString()) }));
    const begin = Date.now();
    let done = 0;
    const timer = setInterval(() => {
        const due = (Date.now() - begin) / 1000 * rate;
        for (; done < due; done++) nodes[done % items].setValueFromSource({ dataType: "Double", value: done + 1 });
    }, 5);
    process.stdin.on("end", () => { clearInterval(timer); server.shutdown(0).then(() => process.exit(0)); }).resume();
})();
