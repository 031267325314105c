// Uses the services of a server with node-opcua's client and prints as JSON what it was told.
// argv: endpoint, folder for the client's certificate, user, password, NodeId to browse in portions,
//       NodeId of an object and of its method
"use strict";
const path = require("path");
const modules = path.join(__dirname, "../../e2e/node_modules");
const {
  OPCUAClient, MessageSecurityMode, SecurityPolicy, UserTokenType, AttributeIds, TimestampsToReturn,
  constructEventFilter,
} = require(path.join(modules, "node-opcua-client"));
const { OPCUACertificateManager } = require(path.join(modules, "node-opcua-certificate-manager"));
const { NumericRange } = require(path.join(modules, "node-opcua-numeric-range"));

const SERVER = "i=2253", NAMESPACES = "i=2255", SESSIONS = "i=3707", SUMMARY = "i=2275", SUBSCRIPTIONS = "i=2290", SECURITY = "i=3708";
const FIELDS = ["SourceName", "ClientUserId", "Status", "ServerId", "MethodId"];

async function main() {
  const [endpoint, folder, userName, password, browsed, object, method] = process.argv.slice(2);
  const manager = new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: folder });
  await manager.initialize();
  const client = OPCUAClient.create({
    endpointMustExist: false, securityMode: MessageSecurityMode.SignAndEncrypt,
    securityPolicy: SecurityPolicy.Basic256Sha256, connectionStrategy: { maxRetry: 0 },
    clientCertificateManager: manager,
  });
  await client.connect(endpoint);
  const session = await client.createSession({ type: UserTokenType.UserName, userName, password });
  const told = { portions: [] };
  session.requestedMaxReferencesPerNode = 5;
  let result = await session.browse({ nodeId: browsed, browseDirection: 0, resultMask: 63 });
  for (;;) {
    told.portions.push(result.references.map((reference) => reference.browseName.name));
    if (!result.continuationPoint || !result.continuationPoint.length) break;
    result = await session.browseNext(result.continuationPoint, false);
  }
  told.released = (await session.browseNext(Buffer.from("nonsense"), true)).statusCode.name;
  const values = await session.read([
    { nodeId: NAMESPACES, attributeId: AttributeIds.Value },
    { nodeId: NAMESPACES, attributeId: AttributeIds.Value, indexRange: new NumericRange("1:2") },
    { nodeId: NAMESPACES, attributeId: AttributeIds.Value, indexRange: new NumericRange("900:901") },
    { nodeId: SUMMARY, attributeId: AttributeIds.Value },
    { nodeId: SESSIONS, attributeId: AttributeIds.Value },
    { nodeId: SUBSCRIPTIONS, attributeId: AttributeIds.Value },
    { nodeId: SECURITY, attributeId: AttributeIds.Value },
  ]);
  told.namespaces = values[0].value.value;
  told.part = values[1].value.value;
  told.none = values[2].statusCode.name;
  told.sessions = values[3].value.value.currentSessionCount;
  told.reads = values[4].value.value.map((shown) => shown.readCount.totalCount);
  told.subscriptions = values[5].value.value.length;
  told.security = values[6].value.value.map((shown) => [shown.clientUserIdOfSession, shown.encoding, shown.transportProtocol]);
  told.audit = await audited(session, object, method);
  await session.close();
  await client.disconnect();
  await manager.dispose();
  console.log(JSON.stringify(told));
}

// What the audit event of a method call says.
async function audited(session, objectId, methodId) {
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 20, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 0,
  });
  const item = await subscription.monitor(
    { nodeId: SERVER, attributeId: AttributeIds.EventNotifier },
    { queueSize: 10, discardOldest: true, filter: constructEventFilter(FIELDS) }, TimestampsToReturn.Both,
  );
  const event = new Promise((resolve) => item.once("changed", resolve));
  await session.call({ objectId, methodId, inputArguments: [] });
  const values = (await event).map((field) => field.value);
  await subscription.terminate();
  return Object.fromEntries(FIELDS.map((name, index) => [name, String(values[index])]));
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
