// Watches one print with node-opcua: node watch_print.js ENDPOINT USER PASSWORD FOLDER
// Says "watching" when it is subscribed; after the program's state was Ended, prints what it saw as one JSON object.
"use strict";
const {
  OPCUAClient, MessageSecurityMode, SecurityPolicy, UserTokenType, AttributeIds, NodeClass, TimestampsToReturn,
  constructEventFilter, makeBrowsePath,
} = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

const [endpoint, userName, password, folder] = process.argv.slice(2);

async function readAll(session, nodeId, path, found) {
  const { references } = await session.browse({
    nodeId, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63,
  });
  for (const reference of references ?? []) {
    const at = path ? `${path}/${reference.browseName.name}` : reference.browseName.name;
    if (reference.nodeClass === NodeClass.Variable) {
      const data = await session.read({ nodeId: reference.nodeId, attributeId: AttributeIds.Value });
      found.values[at] = data.value.value?.text ?? data.value.value;
      if (data.statusCode.isBad()) found.bad.push(`${at}: ${data.statusCode.name}`);
    }
    await readAll(session, reference.nodeId, at, found);
  }
  return found;
}

async function main() {
  const certificates = new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: folder });
  await certificates.initialize();
  const client = OPCUAClient.create({
    endpointMustExist: false,
    securityMode: MessageSecurityMode.SignAndEncrypt,
    securityPolicy: SecurityPolicy.Basic256Sha256,
    connectionStrategy: { maxRetry: 0 },
    clientCertificateManager: certificates,
  });
  await client.connect(endpoint);
  const session = await client.createSession({ type: UserTokenType.UserName, userName, password });
  const namespaces = await session.readNamespaceArray();
  const index = (end) => namespaces.findIndex((uri) => uri.endsWith(end));
  const mach = index("/UA/Machinery/");
  const mt = index("/UA/MachineTool/");
  const machines = await session.browse({ nodeId: `ns=${mach};i=1001`, referenceTypeId: "Organizes", resultMask: 63 });
  const machine = machines.references[0].nodeId;
  const at = async (path) => {
    const found = await session.translateBrowsePath(makeBrowsePath(machine, path));
    return found.targets[0].targetId;
  };
  const watched = {
    programStates: await at(`/${mt}:Production/${mt}:ActiveProgram/${mt}:State/0:CurrentState`),
    itemStates: await at(`/${mach}:MachineryBuildingBlocks/${mach}:MachineryItemState/0:CurrentState`),
  };
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 10, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 100,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
  });
  const told = { programStates: [], itemStates: [], jobStates: [] };
  const jobs = index("/Machinery/Jobs/");
  const isa = index("/ISA95-JOBCONTROL_V2/");
  const results = await at(`/${mach}:MachineryBuildingBlocks/${jobs}:JobManagement/${jobs}:JobOrderResults`);
  const events = await subscription.monitor(
    { nodeId: results, attributeId: AttributeIds.EventNotifier },
    { samplingInterval: 0, queueSize: 20, discardOldest: true, filter: constructEventFilter([`${isa}:JobState`]) },
    TimestampsToReturn.Both);
  events.on("changed", ([states]) => told.jobStates.push(states.value[0].stateText.text));
  const over = new Promise((resolve) => {
    const check = () => {
      if (told.programStates.at(-1) === "Ended" && told.itemStates.at(-1) === "NotExecuting") resolve();
    };
    for (const name of Object.keys(watched)) {
      subscription.monitor(
        { nodeId: watched[name], attributeId: AttributeIds.Value },
        { samplingInterval: 0, queueSize: 20, discardOldest: true }, TimestampsToReturn.Both,
      ).then((item) => item.on("changed", (data) => { told[name].push(data.value.value.text); check(); }));
    }
  });
  while (!told.programStates.length || !told.itemStates.length) await new Promise((resolve) => setTimeout(resolve, 20));
  const control = `/${mach}:MachineryBuildingBlocks/${jobs}:JobManagement/${jobs}:JobOrderControl`;
  const workMasters = await at(`${control}/${isa}:WorkMaster`);
  while (!(await session.read({ nodeId: workMasters, attributeId: AttributeIds.Value })).value.value?.length) {
    await new Promise((resolve) => setTimeout(resolve, 100)); // the file was uploaded a moment ago
  }
  console.log("watching");
  await over;
  const found = await readAll(session, machine, "", { values: {}, bad: [] });
  console.log(JSON.stringify({ ...told, ...found }));
  await subscription.terminate();
  await session.close();
  await client.disconnect();
  await certificates.dispose();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
