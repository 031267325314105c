// Connects with node-opcua's client and prints as JSON what came of it.
// argv: endpoint, security mode (None, Sign, SignAndEncrypt), folder for the client's certificate,
//       user ("" for anonymous), password, NodeId to read and browse ("" for none), security policy,
//       files of the user's certificate (DER) and key (PEM) in place of user and password
"use strict";
const fs = require("fs");
const path = require("path");
const modules = path.join(__dirname, "../../e2e/node_modules");
const {
  OPCUAClient, MessageSecurityMode, SecurityPolicy, UserTokenType, AttributeIds, TimestampsToReturn,
} = require(path.join(modules, "node-opcua-client"));
const { OPCUACertificateManager } = require(path.join(modules, "node-opcua-certificate-manager"));

async function main() {
  const [endpoint, mode, folder, user, password, nodeId, policy = "Basic256Sha256", certificate, key] = process.argv.slice(2);
  const manager = new OPCUACertificateManager({ automaticallyAcceptUnknownCertificate: true, rootFolder: folder });
  await manager.initialize();
  const client = OPCUAClient.create({
    endpointMustExist: false,
    securityMode: MessageSecurityMode[mode],
    securityPolicy: mode === "None" ? SecurityPolicy.None : SecurityPolicy[policy],
    connectionStrategy: { maxRetry: 0 },
    clientCertificateManager: manager,
    requestedSessionTimeout: 60000,
  });
  const answer = { connected: false };
  try {
    await client.connect(endpoint);
    const identity = certificate ? {
      type: UserTokenType.Certificate, certificateData: fs.readFileSync(certificate), privateKey: fs.readFileSync(key, "utf8"),
    } : user ? { type: UserTokenType.UserName, userName: user, password } : { type: UserTokenType.Anonymous };
    const session = await client.createSession(identity);
    answer.connected = true;
    if (nodeId) {
      const value = await session.read({ nodeId, attributeId: AttributeIds.Value }, 0);
      answer.value = value.value.value;
      answer.status = value.statusCode.name;
      answer.changes = await changes(session, nodeId);
    }
    await session.close();
  } catch (error) {
    answer.error = error.message;
  }
  await client.disconnect().catch((error) => { answer.disconnect = error.message; });
  await manager.dispose();
  console.log(JSON.stringify(answer));
}

// The first two values that a monitored item tells: the present one, and the next.
async function changes(session, nodeId) {
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 20, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 0,
  });
  const item = await subscription.monitor(
    { nodeId, attributeId: AttributeIds.Value }, { samplingInterval: 0, queueSize: 10, discardOldest: true }, TimestampsToReturn.Both,
  );
  const seen = [];
  const firstTwo = await new Promise((resolve) => item.on("changed", (value) => {
    seen.push(value.value.value);
    if (seen.length === 2) resolve([...seen]); // more may come before the subscription has ended
  }));
  await subscription.terminate();
  return firstTwo;
}

main().then(() => process.exit(0));
