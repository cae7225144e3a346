// redis-cluster.mjs: a real Redis Cluster of the test's own: three masters on the loopback, without replicas.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { createClient } from 'redis';
import { freePort } from './process.mjs';
import { startRedis } from './redis.mjs';
import { defer } from './test.mjs';
import { waitFor } from './wait.mjs';

const run = promisify(execFile);

// A node's bus is on its port + 10000, which must exist.
async function portBelow(max) {
  for (;;) {
    const port = await freePort();
    if (port < max) return port;
  }
}

// Gives { url, rootNodes, masters: [{ port, url, id, client, … of startRedis }], count(channel), owner(slot), slotOf(name), move(slot, to) }.
export async function startRedisCluster(t, { masters: n = 3 } = {}) {
  const masters = [];
  for (let i = 0; i < n; i++) {
    masters.push(await startRedis(t, { port: await portBelow(55000), args: ['--cluster-enabled', 'yes', '--cluster-config-file', `nodes-${i}.conf`, '--cluster-node-timeout', '2000'] }));
  }
  const addresses = masters.map(({ port }) => `127.0.0.1:${port}`);
  await run('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', '0', '--cluster-yes']);
  for (const master of masters) {
    master.client = createClient({ url: master.url });
    master.client.on('error', () => {});
    await master.client.connect();
    defer(t, () => (master.client.isOpen ? master.client.disconnect() : undefined));
    master.id = await master.client.sendCommand(['CLUSTER', 'MYID']);
  }
  const self = {
    url: masters[0].url,
    rootNodes: masters.map(({ url }) => ({ url })),
    masters,
    slotOf: (name) => masters[0].client.sendCommand(['CLUSTER', 'KEYSLOT', name]),
    async owner(slot) {
      const slots = await masters[0].client.sendCommand(['CLUSTER', 'SLOTS']);
      const range = slots.find(([from, to]) => from <= slot && slot <= to);
      return masters.findIndex(({ port }) => port === range[2][1]);
    },
    // How many subscribe to a channel, on all masters.
    async count(channel) {
      const counts = await Promise.all(masters.map(({ client }) => client.sendCommand(['PUBSUB', 'SHARDNUMSUB', channel])));
      return counts.reduce((sum, [, count]) => sum + count, 0);
    },
    // Gives a slot to another master, the new one first, as the specification says.
    async move(slot, to) {
      const from = await self.owner(slot);
      const order = [masters[to], masters[from], ...masters.filter((_, i) => i !== to && i !== from)];
      await masters[to].client.sendCommand(['CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', masters[from].id]);
      await masters[from].client.sendCommand(['CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', masters[to].id]);
      for (const { client } of order) await client.sendCommand(['CLUSTER', 'SETSLOT', String(slot), 'NODE', masters[to].id]);
    },
  };
  await waitFor(async () => {
    const states = await Promise.all(masters.map(({ client }) => client.sendCommand(['CLUSTER', 'INFO'])));
    return states.every((text) => text.includes('cluster_state:ok'));
  }, { timeout: 20000, what: 'a cluster that is ok' });
  return self;
}

// One Redis with the same ways to look at it.
export async function startSingleRedis(t) {
  const redis = await startRedis(t);
  const client = createClient({ url: redis.url });
  client.on('error', () => {});
  await client.connect();
  defer(t, () => (client.isOpen ? client.disconnect() : undefined));
  return { ...redis, masters: [Object.assign(redis, { client })], count: async (channel) => (await client.sendCommand(['PUBSUB', 'SHARDNUMSUB', channel]))[1] };
}
