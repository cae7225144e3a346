// mixed-cluster.test.mjs: Node servers and Peal hosts in one cluster, each asking the others: every call, in every direction, as if all were Node.
// @test no-asan timeout=300
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { ioClient, pealBinary, redisClient, startNodeServer, startPeal, startRedis, test, waitFor, within } from './lib/index.mjs';
import { subscribed } from './lib/cluster.mjs';

const EXERCISE = join(dirname(pealBinary), 'modules', 'exercise.so');
const CONFIG = ['/', '/chat'].map((nsp) => `[namespace "${nsp}"]\napp = module:${EXERCISE}\n`).join('');

// { redis, control, peals: [2], nodes: [2] } of one cluster, and clients with the exercise's events on each Peal host.
async function startMixed(t, { options = {}, adapter = { requestsTimeout: 1000 } } = {}) {
  const redis = await startRedis(t);
  const setup = ({ io, state }) => {
    state.heard = [];
    for (const nsp of ['/', '/chat']) {
      io.of(nsp).on('ping', (...args) => {
        const reply = typeof args.at(-1) === 'function' ? args.pop() : null;
        state.heard.push([nsp, ...args]);
        if (args[0] !== 'silence') reply?.(['node', ...args]);
      });
    }
  };
  const [control, ...servers] = await Promise.all([
    redisClient(t, redis),
    ...['one', 'two'].map((name) => startPeal(t, { name: `peal ${name}`, config: CONFIG, options: { redis: redis.url, ...options } })),
    ...[1, 2].map(() => startNodeServer(t, { redis, adapter, setup })),
  ]);
  for (const nsp of ['/', '/chat']) await subscribed(control, nsp, 4);
  return { redis, control, peals: servers.slice(0, 2), nodes: servers.slice(2) };
}

// An acknowledged emit: all that the acknowledgement was called with.
const ask = (client, event, ...args) => within(new Promise((resolve) => client.emit(event, ...args, (...values) => resolve(values))), `the acknowledgement of ${event}`, 15000);
const heard = (node) => node.run(({ state }) => state.heard.splice(0));
const sorted = (list) => [...list].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

test('server-side emits of a Peal host: without and with answers, binary, in order', async (t) => {
  const { peals, nodes, redis } = await startMixed(t);
  for (const namespace of ['/', '/chat']) {
    const client = await ioClient(t, peals[0].url, { namespace });
    assert.deepEqual(await ask(client, 'reachable'), ['PEAL_OK']);
    for (let i = 0; i < 50; i++) assert.deepEqual(await ask(client, 'cluster', 0, 0, 'ping', i, { a: [i] }), ['PEAL_OK']);
    assert.deepEqual(await ask(client, 'cluster', 0, 0, 'ping', Buffer.from('bin'), 'é😀'), ['PEAL_OK']);
    const wanted = [...Array.from({ length: 50 }, (_, i) => [namespace, i, { a: [i] }]), [namespace, Buffer.from('bin'), 'é😀']];
    for (const node of nodes) {
      let got = [];
      await waitFor(async () => (got = [...got, ...(await heard(node))]).length >= wanted.length);
      assert.deepEqual(got.map((list) => list.map((x) => (x instanceof Uint8Array ? Buffer.from(x) : x))), wanted);
    }
    // two Node servers and the other Peal host, of whose workers one speaks for all
    const [result, n, expected, ...answers] = await ask(client, 'cluster', 4000, 0, 'ping', 'x', { y: null });
    assert.deepEqual([result, n, expected], ['PEAL_OK', 3, 3]);
    const list = sorted(answers.map(([value]) => value));
    assert.deepEqual(list.slice(0, 2), [['node', 'x', { y: null }], ['node', 'x', { y: null }]]);
    assert.deepEqual(list[2].slice(1), ['x', { y: null }]);
    assert.ok([0, 1].includes(list[2][0]));
    // no more wanted than one; nobody answers in time; binary both ways: to Peal and back, Node's is JSON
    assert.deepEqual((await ask(client, 'cluster', 4000, 1, 'ping', 'first')).slice(0, 2), ['PEAL_OK', 1]);
    const begin = performance.now();
    assert.deepEqual(await ask(client, 'cluster', 300, 0, 'ping', 'silence'), ['PEAL_TIMEOUT', 0, 3]);
    assert.ok(performance.now() - begin >= 300);
    const binary = await ask(client, 'cluster', 4000, 0, 'ping', Buffer.from([1, 2]));
    assert.deepEqual(binary.slice(0, 3), ['PEAL_OK', 3, 3]);
    assert.deepEqual(sorted(binary.slice(3)), sorted(['binary', [['node', { type: 'Buffer', data: [1, 2] }]], [['node', { type: 'Buffer', data: [1, 2] }]]]));
    // of an event that nobody knows: the other Peal host says so at once, the Node servers say nothing
    assert.deepEqual(await ask(client, 'cluster', 300, 0, 'unknown'), ['PEAL_TIMEOUT', 1, 3, [null]]);
    for (const node of nodes) await heard(node);
  }
  const client = await ioClient(t, peals[0].url);
  const before = peals[0].events('app').filter((e) => e.text.startsWith('ping')).length;
  assert.equal((await ask(client, 'cluster', 4000, 0, 'ping', 'x'))[1], 3);
  assert.equal(peals[0].events('app').filter((e) => e.text.startsWith('ping')).length, before, 'an own event is not heard');
  await redis.stop();
  await waitFor(async () => (await ask(client, 'reachable'))[0] === 'PEAL_UNREACHABLE');
  assert.deepEqual(await ask(client, 'cluster', 1000, 0, 'ping'), ['PEAL_UNREACHABLE']);
  await redis.restart();
  await waitFor(async () => (await ask(client, 'reachable'))[0] === 'PEAL_OK');
});

test('requests under way end when Redis goes away, and when its process dies', async (t) => {
  const { peals, redis } = await startMixed(t);
  const client = await ioClient(t, peals[0].url);
  const running = Promise.all(Array.from({ length: 20 }, () => ask(client, 'cluster', 9000, 0, 'ping', 'silence')));
  await ask(client, 'cluster', 0, 0, 'ping');
  await redis.stop();
  for (const [result, n] of await running) assert.deepEqual([result, n], ['PEAL_UNREACHABLE', 0]);
  await redis.restart();
  await waitFor(async () => (await ask(client, 'cluster', 300, 0, 'ping', 'x'))[2] >= 1);
  const more = ask(client, 'cluster', 9000, 0, 'ping', 'silence');
  await ask(client, 'cluster', 0, 0, 'ping');
  const bridge = peals[0].children().find(({ args }) => args?.includes('bridge'))?.pid ?? (await peals[0].api('workers')).bridge.pid;
  process.kill(bridge, 'SIGKILL');
  assert.deepEqual((await more).slice(0, 1), ['PEAL_GONE']);
  await waitFor(async () => (await ask(client, 'cluster', 300, 0, 'ping', 'x'))[0] === 'PEAL_OK');
});

test('without Redis nothing is reachable', async (t) => {
  const peal = await startPeal(t, { config: CONFIG });
  const client = await ioClient(t, peal.url);
  assert.deepEqual(await ask(client, 'reachable'), ['PEAL_UNREACHABLE']);
  assert.deepEqual(await ask(client, 'cluster', 1000, 0, 'ping'), ['PEAL_UNREACHABLE']);
  assert.deepEqual(await ask(client, 'cluster', 0, 0, 'ping'), ['PEAL_UNREACHABLE']);
});

test('server-side emits of a Node server reach every worker, and the first answer is the host\'s', async (t) => {
  const { peals, nodes } = await startMixed(t);
  const pings = (peal) => peal.events('app').filter((e) => e.text === 'ping from the cluster').length;
  for (const nsp of ['/', '/chat']) {
    const emit = (...args) => nodes[0].run(({ io }, name, values) => io.of(name).serverSideEmitWithAck(...values).catch(({ message, responses }) => [message, responses]), nsp, args);
    let answers = await emit('ping', 'x', Buffer.from('b'));
    assert.equal(answers.length, 3);
    for (const value of answers) assert.deepEqual(value.slice(1, 2), ['x']);
    assert.equal(answers.filter(([who]) => who === 'node').length, 1);
    for (const [who, , bytes] of answers) assert.ok(who === 'node' || typeof who === 'number', JSON.stringify(bytes));
    // nobody listens: each Peal host says so, the other Node server says nothing
    answers = await emit('unknown', 1);
    assert.deepEqual(answers[1], [null, null]);
    // events of Peal's own are not answered
    const [message] = await emit('peal:event', {});
    assert.match(message, /only 0 responses received out of 3/);
  }
  const before = peals.map(pings);
  for (let i = 0; i < 10; i++) await nodes[0].run(({ io, emitter }) => { io.serverSideEmit('ping', 1); emitter.serverSideEmit('ping', 2); });
  for (const [i, peal] of peals.entries()) await waitFor(() => pings(peal) - before[i] === 40, { what: () => `${pings(peal) - before[i]} of 40 events` });
});
