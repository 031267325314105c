// Watches a machine with node-opcua: node watch_machine.js ENDPOINT NAMESPACE_URI NAME PATH...
// Prints a line of JSON for each value of a path and for each event of the machine, and "watching" when all paths
// have told their first value; ends when its standard input does.
"use strict";
const {
  OPCUAClient, AttributeIds, TimestampsToReturn, constructEventFilter,
} = require("node-opcua-client");

async function main() {
  const [endpoint, uri, name, ...paths] = process.argv.slice(2);
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  const machine = `ns=${(await session.readNamespaceArray()).indexOf(uri)};s=${name}`;
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 10, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 100,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
  });
  const sampling = { samplingInterval: 0, queueSize: 100, discardOldest: true };
  const events = await subscription.monitor(
    { nodeId: machine, attributeId: AttributeIds.EventNotifier },
    { ...sampling, filter: constructEventFilter(["Message"]) }, TimestampsToReturn.Both);
  events.on("changed", ([message]) => console.log(JSON.stringify(["event", message.value.text])));
  for (const path of paths) {
    const item = await subscription.monitor(
      { nodeId: `${machine}.${path}`, attributeId: AttributeIds.Value }, sampling, TimestampsToReturn.Both);
    await new Promise((resolve) => item.on("changed", (data) => {
      const value = data.statusCode.isGood() ? data.value.value?.text ?? data.value.value : data.statusCode.name;
      console.log(JSON.stringify([path, value]));
      resolve();
    }));
  }
  console.log("watching");
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
  await session.close();
  await client.disconnect();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
