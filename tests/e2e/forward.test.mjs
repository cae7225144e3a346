// forward.test.mjs: app = forward: a Node application behind Peal, its handlers unchanged, against the same application without Peal; and what can go wrong.
// PEAL_FULL=1: the load test in full.
// @test parallel timeout=400
import assert from 'node:assert/strict';
import { ask, ioClient, ioClients, once, redisClient, sleep, slow, startNodeServer, startPeal, startRedis, test, waitFor, within } from './lib/index.mjs';
import { subscribed } from './lib/cluster.mjs';
import { workersOf } from './lib/engine.mjs';

const chatFile = new URL('./lib/chat.mjs', import.meta.url).href;
const pealFile = new URL('../../deploy/node/peal.mjs', import.meta.url).href;
const FORWARD = '[namespace "/"]\napp = forward\n[namespace "/chat"]\napp = forward\n';

// In a Node server: the application, for its own clients (index undefined) or for those of Peal.
async function serveChat({ io, pub, state }, chatUrl, pealUrl, index, count) {
  const [{ chat }, { peal }] = await Promise.all([import(chatUrl), import(pealUrl)]);
  const store = (message) => pub.rPush('stored', JSON.stringify(message));
  for (const nsp of [io, io.of('/chat')]) chat(index === undefined ? nsp : peal(nsp, { index, count }), nsp, store);
  state.heard = [];
  for (const event of ['peal:connect', 'peal:event', 'peal:disconnect'])
    io.on(event, (e, reply) => state.heard.push([event, e, typeof reply]));
}

const startServers = async (t, redis, n) => {
  const nodes = await Promise.all(Array.from({ length: n }, () => startNodeServer(t, { redis })));
  await Promise.all(nodes.map((node, i) => node.run(serveChat, chatFile, pealFile, i, n)));
  return nodes;
};

// Peal in front of `servers` Node servers.
async function startForward(t, { servers = 2, workers = 2, options = {}, config = FORWARD } = {}) {
  const redis = await startRedis(t);
  const [control, nodes, peal] = await Promise.all([
    redisClient(t, redis), startServers(t, redis, servers), startPeal(t, { config, options: { workers, redis: redis.url, ...options } }),
  ]);
  for (const nsp of ['/', '/chat']) await subscribed(control, nsp, servers + 1);
  return { redis, control, nodes, peal, url: peal.url, stored: async () => (await control.lRange('stored', 0, -1)).map((text) => JSON.parse(text)) };
}

const heard = async (node, event) => (await node.run(({ state }) => state.heard)).filter(([name]) => name === event).map(([, e]) => e);
const results = async (peal) => Object.fromEntries((await peal.metrics()).samples.filter((s) => s.name === 'peal_forward_total' && s.value > 0).map((s) => [s.labels.result, s.value]));
const auth = (user) => ({ token: `token of ${user}` });
const person = (t, url, user, options = {}) => ioClient(t, url, { auth: auth(user), ...options });

// ---- The same application, with Peal and without ----

// What each client saw in each step, acknowledgements in their place among the events.
async function transcript(t, url, namespace, nodes) {
  const steps = [];
  const clients = new Map();
  let fences = 0;
  const come = async (user, options = {}) => {
    const client = await ioClient(t, url, { namespace, auth: auth(user), connected: false, ...options });
    client.log = [];
    client.onAny((...args) => client.log.push(args));
    client.on('connect', () => client.log.push(['connect']));
    client.on('disconnect', (reason) => client.log.push(['disconnect', reason]));
    client.on('connect_error', (e) => client.log.push(['connect_error', e.message, e.data]));
    client.on('ring', (n, answer) => answer(`${user} here`, n));
    clients.set(user, client);
    await waitFor(() => client.log.length > 0, { what: `${user} to hear something` });
    return client;
  };
  const tell = (client, ...args) =>
    within(new Promise((done) => client.emit(...args, (...values) => done(client.log.push(['ack', args[0], ...values])))), `the acknowledgement of ${args[0]}`);
  // Everything that came of a step has come: all events have been handled, and all servers say so behind what they have sent.
  const step = async (name) => {
    const living = [...clients.values()].filter((client) => client.connected);
    await Promise.all(living.map((client) => ask(client, 'several')));
    for (const node of nodes) {
      const id = ++fences;
      await node.run(({ io }, nsp, n) => io.of(nsp).emit('fence', n), namespace, id);
      await waitFor(() => living.every((client) => client.log.some(([event, n]) => event === 'fence' && n === id)), { what: `fence ${id} of ${name}` });
    }
    steps.push([name, Object.fromEntries([...clients].map(([user, client]) => [user, client.log.splice(0).filter(([event]) => event !== 'fence')]))]);
  };
  const seen = (client, event) => waitFor(() => client.log.some(([name]) => name === event), { what: event });

  const ann = await come('ann');
  await seen(ann, 'welcome');
  await step('the first');
  const bob = await come('bob', { query: { level: 'high' } });
  await seen(bob, 'welcome');
  await step('the second');
  await come('nobody', { auth: { token: 'wrong' } });
  await step('a bad token');
  clients.delete('nobody');
  await Promise.all([tell(ann, 'enter', 'r')]);
  await step('ann enters');
  await tell(bob, 'enter', 'r');
  await step('bob enters');
  await tell(ann, 'message', 'r', 'hello');
  await tell(bob, 'message', 'r', 'é "\\\u2028 \u0000');
  await step('messages');
  bob.emit('private', 'ann', { deep: [1, null, { x: true }] });
  await step('a private one');
  await tell(bob, 'several');
  ann.emit('unknown', 1);
  ann.emit('call me');
  await seen(ann, 'heard');
  await step('answers');
  await tell(ann, 'file', 'f', Buffer.from([0, 1, 255]));
  await tell(ann, 'file', 'empty', Buffer.alloc(0));
  await step('binary');
  bob.emit('leave', 'r');
  await step('bob leaves the room');
  await tell(ann, 'message', 'r', 'alone');
  await step('a message for nobody');
  const cy = await come('cy');
  await seen(cy, 'welcome');
  cy.emit('throw me out', false);
  await seen(cy, 'disconnect');
  await seen(ann, 'gone');
  await step('cy is thrown out');
  cy.connect();
  await seen(cy, 'welcome');
  await step('and back');
  cy.emit('throw me out', true);
  await seen(cy, 'disconnect');
  await seen(ann, 'gone');
  await step('with the connection');
  bob.disconnect();
  await seen(ann, 'gone');
  await step('bob leaves');
  return steps;
}

for (const namespace of ['/', '/chat']) {
  test(`the application behaves in ${namespace} as it does without Peal`, { timeout: 90000 }, async (t) => {
    const plain = await startRedis(t);
    const native = await startNodeServer(t, { redis: plain });
    await native.run(serveChat, chatFile, pealFile);
    const wanted = await transcript(t, native.url, namespace, [native]);
    const { url, nodes, control } = await startForward(t);
    const got = await transcript(t, url, namespace, nodes);
    for (const [i, step] of wanted.entries()) assert.deepEqual(got[i], step);
    assert.equal(got.length, wanted.length);
    assert.deepEqual(await control.lRange('stored', 0, -1), await (await redisClient(t, plain)).lRange('stored', 0, -1));
  });
}
