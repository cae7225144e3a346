// cluster.mjs: hosts of both kinds on one Redis, and clients that log all they get.
import assert from 'node:assert/strict';
import { ioClient } from './clients.mjs';
import { startNodeServer } from './node-server.mjs';
import { startPeal } from './peal.mjs';
import { redisClient, startRedis } from './redis.mjs';
import { waitFor } from './wait.mjs';

// A relay as open as it gets, everywhere.
export const OPEN = `${['/', '/chat', '/dyn*'].map((name) => `[namespace "${name}"]\napp = relay\nclient_join = yes\nclient_publish = any\n`).join('')}
[ws]
client_join = yes
client_publish = any
`;

// The same on a Node server: what Peal's relay does, written with its API.
function relay({ io }) {
  const serve = (nsp) =>
    nsp.on('connection', (socket) => {
      socket.on('join', async (rooms, ok) => {
        await socket.join(rooms);
        ok?.({ ok: true });
      });
      socket.on('publish', (rooms, ...args) => {
        const ok = typeof args.at(-1) === 'function' ? args.pop() : () => {};
        socket.to(rooms).emit(...args);
        ok({ ok: true });
      });
    });
  serve(io.of('/'));
  serve(io.of('/chat'));
  serve(io.of(/^\/dyn/));
  serve(io.of('/ws'));
}

// Waits until n servers of the cluster have subscribed to the namespace, which is when a server of it may count on them.
export function subscribed(control, nsp, n) {
  const channel = `socket.io-request#${nsp}#`;
  let found;
  return waitFor(async () => (found = (await control.pubSubNumSub(channel))[channel]) === n, {
    timeout: 10000,
    what: () => `${n} servers in ${nsp}; there are ${found}`,
  });
}

// Two Peal hosts and `nodes` Node servers. Gives { redis, control, peals, nodes, servers } with control a client for PUBSUB NUMSUB.
export async function startCluster(t, { nodes = 1, config = OPEN, options = {} } = {}) {
  const redis = await startRedis(t);
  const [control, ...servers] = await Promise.all([
    redisClient(t, redis),
    ...['one', 'two'].map((name) => startPeal(t, { name: `peal ${name}`, config, options: { redis: redis.url, ...options } })),
    ...Array.from({ length: nodes }, () => startNodeServer(t, { redis, setup: relay })),
  ]);
  for (const nsp of ['/', '/chat', '/ws']) await subscribed(control, nsp, servers.length);
  return { redis, control, servers, peals: servers.slice(0, 2), nodes: servers.slice(2) };
}

const open = [];

// A part of a test that uses the test's cluster: its clients are gone when it ends, and it fails the test (whose logs are then printed).
export async function step(t, name, fn) {
  let failure = null;
  await t.test(name, async () => {
    try {
      await fn();
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      for (const client of open.splice(0)) client.disconnect();
    }
  });
  if (failure) throw failure;
}

// A client with .log of [event, ...args].
export async function logged(t, host, options = {}) {
  const client = await ioClient(t, host.url, options);
  open.push(client);
  client.log = [];
  client.onAny((...args) => client.log.push(args));
  return client;
}

// Everything sent before on the connection that `send` uses has come where it comes: `send` must emit `fence, n` to all of them.
let fences = 0;
export async function fence(clients, send) {
  const n = ++fences;
  await send(n);
  const has = (client) => client.log.some(([event, id]) => event === 'fence' && id === n);
  await waitFor(() => clients.every(has), { what: () => `fence ${n} at client ${clients.findIndex((client) => !has(client))} of ${clients.length}` });
}

// What the client got since the last call, without fences.
export function taken(client) {
  return client.log.splice(0).filter(([event]) => event !== 'fence');
}

// Both lists are the same, and if not, the message says where.
export function sameList(got, wanted, what) {
  const at = wanted.findIndex((value, i) => {
    try {
      assert.deepStrictEqual(got[i], value);
      return false;
    } catch {
      return true;
    }
  });
  if (at >= 0) assert.deepStrictEqual({ what, at, value: got[at] }, { what, at, value: wanted[at] });
  assert.equal(got.length, wanted.length, `${what}: as many messages`);
}
