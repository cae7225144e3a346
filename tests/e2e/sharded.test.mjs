// sharded.test.mjs: redis_adapter = sharded: Peal hosts and Node servers with createShardedAdapter are one Socket.IO server, on one Redis 7 and on a Redis Cluster.
// @test parallel no-asan timeout=400
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { ask, ioClient, pealBinary, sleep, startNodeServer, startPeal, test, waitFor, within } from './lib/index.mjs';
import { engine, workersOf } from './lib/engine.mjs';
import { OPEN, fence, logged, sameList, step, taken } from './lib/cluster.mjs';
import { startRedisCluster, startSingleRedis } from './lib/redis-cluster.mjs';

const OK = { ok: true };
const PROMPT = 2500; // milliseconds; a peer that waits for us in vain waits 5 s
const MODES = ['dynamic', 'static', 'dynamic-private'];
const EXERCISE = join(dirname(pealBinary), 'modules', 'exercise.so');

// What Peal's relay does, on a Node server; and an application that answers `ping`.
function relay({ io, state }) {
  state.heard = [];
  for (const nsp of ['/', '/chat']) {
    io.of(nsp).on('connection', (socket) => {
      socket.on('join', async (rooms, ok) => {
        await socket.join(rooms);
        ok?.({ ok: true });
      });
      socket.on('leave', async (room, ok) => {
        await socket.leave(room);
        ok?.({ ok: true });
      });
      socket.on('publish', (rooms, ...args) => {
        const ok = typeof args.at(-1) === 'function' ? args.pop() : () => {};
        socket.to(rooms).emit(...args);
        ok({ ok: true });
      });
    });
    io.of(nsp).on('ping', (...args) => {
      const reply = typeof args.at(-1) === 'function' ? args.pop() : null;
      state.heard.push([nsp, ...args]);
      reply?.(['node', ...args]);
    });
  }
}

const namespaces = ['/', '/chat'];
const channel = (key, nsp, last) => `${key}#${nsp}#${last === undefined ? '' : `${last}#`}`;

// Until so many servers have subscribed to the channel.
async function counted(redis, name, n, timeout = 10000) {
  let found;
  await waitFor(async () => (found = await redis.count(name)) === n, { timeout, what: () => `${n} subscribed to ${name}; there are ${found}` });
}

// Two Peal hosts and one Node server of one mode: { redis, key, mode, peals, node, channel(nsp, last), counted(nsp, last, n) }.
async function startSharded(t, redis, mode, { key = 'socket.io', config = OPEN, options = {} } = {}) {
  const settings = { redis: redis.url, redis_adapter: 'sharded', redis_subscription_mode: mode, redis_key: key, ...options };
  const [node, ...peals] = await Promise.all([
    startNodeServer(t, { redis, adapter: { sharded: true, subscriptionMode: mode, channelPrefix: key }, setup: relay }),
    ...['one', 'two'].map((name) => startPeal(t, { name: `peal ${name} ${mode}`, config, options: settings })),
  ]);
  for (const nsp of namespaces) await counted(redis, channel(key, nsp), 3);
  await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1)));
  return {
    redis, key, mode, node, peals,
    channel: (nsp, last) => channel(key, nsp, last),
    counted: (nsp, last, n, timeout) => counted(redis, channel(key, nsp, last), n, timeout),
  };
}

const isOwn = (mode, room) => mode === 'dynamic-private' || (mode === 'dynamic' && room.length !== 20);

// The room's channel has been subscribed by so many hosts, if it has one in this mode.
const heardBy = (cluster, nsp, room, n) => cluster.counted(nsp, room, isOwn(cluster.mode, room) ? n : 0);

function values() {
  return [
    '', 'a', '😀', 'x'.repeat(70000), 'quotes " and \\ and \u0000\u001f\u2028', 0, 1, -1, 2 ** 53, 1.5, 5e-324, 1e21, NaN, null, true, [], {}, [null, undefined],
    { a: undefined, b: null, 2: 'two', 1: 'one', 'é"': [{}] }, new Date(1700000000123), Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(70000, 5),
    { deep: [Buffer.from('a'), { b: Buffer.from('b') }], d: new Date(0) }, new Uint8Array([1, 2]), { _placeholder: true, num: 0 }, { toJSON: () => ({ x: 1 }) },
  ];
}

async function everyValue(t, { peals, node }) {
  const clients = await Promise.all([peals[0], peals[0], peals[1], node, node].map((host) => logged(t, host)));
  for (const client of clients) assert.deepEqual(await ask(client, 'join', 'all'), OK);
  await fence(clients, (n) => node.run(({ io }, source, id) => {
    for (const [i, value] of (0, eval)(`(${source})`)().entries()) io.emit('v', i, value, 'last');
    io.emit('fence', id);
  }, values.toString(), n));
  const own = taken(clients[3]);
  assert.equal(own.length, values().length);
  clients.slice(0, 3).forEach((client, i) => sameList(taken(client), own, `from Node, client ${i}`));
  taken(clients[4]);
  const publishAll = async (from) => {
    await fence(clients.filter((client) => client !== from), async (n) => {
      values().forEach((value, i) => from.emit('publish', 'all', 'v', i, value, 'last'));
      assert.deepEqual(await ask(from, 'publish', 'all', 'fence', n), OK);
    });
    return clients.map((client) => taken(client));
  };
  const reference = (await publishAll(clients[3]))[4];
  for (const from of [clients[0], clients[2]]) {
    (await publishAll(from)).forEach((got, i) => sameList(got, clients[i] === from ? [] : reference, `from Peal, client ${i}`));
  }
}

async function selectors(t, cluster) {
  const { peals, node, mode } = cluster;
  const long = 'a room of 20 letters';
  for (const namespace of namespaces) {
    const clients = await Promise.all([peals[0], peals[0], peals[1], peals[1], node, node].map((host) => logged(t, host, { namespace })));
    const ids = clients.map(({ id }) => id);
    for (const [i, client] of clients.entries()) {
      for (const room of [i % 2 === 0 ? 'a' : 'b', 'sp ace#é😀', long, ...(i === 0 ? ['c'] : []), `{tag}${i}`]) assert.deepEqual(await ask(client, 'join', room), OK);
    }
    for (const room of ['a', 'b', 'sp ace#é😀']) await heardBy(cluster, namespace, room, 3);
    await heardBy(cluster, namespace, 'c', 1);
    if (mode === 'dynamic-private') for (const room of [long]) await heardBy(cluster, namespace, room, 3);
    for (const id of ids) await heardBy(cluster, namespace, id, 1);
    const all = [0, 1, 2, 3, 4, 5];
    const even = [0, 2, 4];
    const odd = [1, 3, 5];
    const cases = [
      [(to) => to, all],
      [(to) => to.to('a'), even],
      [(to) => to.in('sp ace#é😀'), all],
      [(to) => to.to('a room of 20 letters'), all],
      [(to) => to.to('a').to('b'), all],
      [(to) => to.to(['a', 'c']), even],
      [(to) => to.to('nobody'), []],
      [(to) => to.except('a'), odd],
      [(to, id) => to.except(id[3]), [0, 1, 2, 4, 5]],
      [(to, id) => to.to('a').except([id[0], id[4]]), [2]],
      [(to, id) => to.to(id[0]), [0]],
      [(to, id) => to.to(id[2]), [2]],
      [(to, id) => to.to(id[2]).to(id[5]), [2, 5]],
      [(to) => to.to('{tag}3'), [3]],
      [(to) => to.compress(false).to('b'), odd],
    ];
    // Node's local delivery waits for each publish: its own clients may see another order.
    const byNumber = (list) => [...list].sort(([, a], [, b]) => a - b);
    const check = (from) => {
      for (const [c, client] of clients.entries()) {
        const wanted = cases.flatMap((one, i) => (one[1].includes(c) && clients[c] !== from ? [['case', i, Buffer.from('b'), '😀'], ['case', i, 'text']] : []));
        const got = taken(client);
        sameList(byNumber(got), byNumber(wanted), `${namespace} client ${c}`);
      }
    };
    for (const [i, [select]] of cases.entries()) {
      await node.run(({ io }, nsp, text, id, number) => {
        (0, eval)(text)(io.of(nsp), id).emit('case', number, Buffer.from('b'), '😀');
        (0, eval)(text)(io.of(nsp), id).emit('case', number, 'text');
      }, namespace, select.toString(), ids, i);
    }
    await allThere(clients, cases.map(([, whom]) => whom), 2);
    check(null);
    // From clients: one room, several; the sender left out.
    for (const from of [clients[0], clients[3], clients[4]]) {
      for (const [room, event] of [['a', 'one'], [['a', 'c', 'b'], 'several'], ['nobody', 'none'], [long, 'long'], ['sp ace#é😀', 'last']]) assert.deepEqual(await ask(from, 'publish', room, event), OK);
      await waitFor(() => clients.every((client) => client === from || client.log.length >= (even.includes(clients.indexOf(client)) ? 4 : 3)));
      await sleep(20);
      for (const [c, client] of clients.entries()) {
        const wanted = client === from ? [] : [...(even.includes(c) ? ['one'] : []), 'several', 'long', 'last'];
        assert.deepEqual(taken(client).map(([event]) => event).sort(), [...wanted].sort(), `${namespace} from a client, client ${c}`);
      }
    }
    clients.forEach((client) => client.disconnect());
  }
}

// Every client has as many as are for it, and no more come.
async function allThere(clients, whom, times) {
  const wanted = clients.map((_, c) => whom.filter((list) => list.includes(c)).length * times);
  await waitFor(() => clients.every((client, c) => client.log.length >= wanted[c]), { what: () => JSON.stringify(clients.map((client, c) => [client.log.length, wanted[c]])) });
  await sleep(20);
}

async function comingAndGoing(t, cluster) {
  const { peals, node, mode } = cluster;
  const clients = await Promise.all([peals[0], peals[0], peals[1], node].map((host) => logged(t, host)));
  const [one, two, three, four] = clients;
  const { id } = two;
  const run = (text, ...args) => node.run(({ io }, body, list) => (0, eval)(body)(io, ...list), text.toString(), args);
  await run((to, [a, b, c]) => to.in([a, c]).socketsJoin(['x', 'y']), clients.map(({ id }) => id));
  for (const room of ['x', 'y']) await heardBy(cluster, '/', room, 2);
  await run((to) => { to.to('x').emit('m', 1); });
  await waitFor(() => one.log.length === 1 && three.log.length === 1);
  await run((to) => to.in('x').socketsLeave('x'));
  // (it goes by another master than what is for the room: no order between the two)
  await waitFor(async () => (await run(async (to) => (await to.in('x').fetchSockets()).length)) === 0, { what: 'all out of the room' });
  await run((to) => { to.to('x').emit('m', 2); to.to('y').emit('m', 3); });
  await waitFor(() => one.log.length === 2 && three.log.length === 2);
  assert.deepEqual([taken(one), taken(two), taken(three), taken(four)], [[['m', 1], ['m', 3]], [], [['m', 1], ['m', 3]], []]);
  // a room that nobody is in any more is given up after a while
  await heardBy(cluster, '/', 'x', 0);
  await heardBy(cluster, '/', 'y', mode === 'static' ? 0 : 2);
  // a leave and a join at once: the subscription stays, or comes back
  for (let i = 0; i < 20; i++) {
    assert.deepEqual(await ask(two, 'join', 'flap'), OK);
    assert.deepEqual(await ask(two, 'leave', 'flap'), OK);
  }
  assert.deepEqual(await ask(two, 'join', 'flap'), OK);
  await heardBy(cluster, '/', 'flap', 1);
  await run((to) => { to.to('flap').emit('m', 4); });
  await waitFor(() => two.log.length === 1);
  const gone = clients.map((client) => within(new Promise((resolve) => client.once('disconnect', resolve)), 'a disconnect', 20000));
  await run((to) => to.in('y').disconnectSockets());
  assert.equal(await gone[0], 'io server disconnect');
  await gone[2];
  assert.ok(two.connected && four.connected);
  await run((to) => to.disconnectSockets(true));
  await Promise.all(gone);
  for (const room of ['y', 'flap', id]) await heardBy(cluster, '/', room, 0);
  for (const peal of peals) await waitFor(async () => (await peal.metrics()).sum('peal_rooms') === 0, { what: 'no room left' });
}

const sorted = (list) => [...list].sort();

async function queries(t, { peals, node }) {
  const clients = await Promise.all([peals[0], peals[0], peals[1], node].map((host) => logged(t, host, { query: { who: 'me' }, auth: { token: 't' } })));
  for (const client of clients) await ask(client, 'join', ['room', `own ${client.id}`]);
  const timed = async (fn, ...args) => {
    const begin = performance.now();
    const value = await node.run(fn, ...args);
    return { value, took: performance.now() - begin };
  };
  let answer = await timed(async ({ io }) => (await io.in('room').fetchSockets()).map(({ id, rooms, data, handshake }) => ({ id, rooms: [...rooms], data, handshake })));
  assert.ok(answer.took < PROMPT, `fetchSockets took ${answer.took}`);
  assert.deepEqual(sorted(answer.value.map(({ id }) => id)), sorted(clients.map(({ id }) => id)));
  for (const { id, rooms, data, handshake } of answer.value) {
    assert.deepEqual(sorted(rooms), sorted([id, 'room', `own ${id}`]));
    assert.deepEqual([data, handshake.auth, handshake.query.who], [{}, { token: 't' }, 'me']);
  }
  answer = await timed(async ({ io }) => (await io.in('nobody').fetchSockets()).length);
  assert.ok(answer.took < PROMPT && answer.value === 0);

  const asked = (timeout) => timed(({ io }, ms) => new Promise((resolve) => io.to('room').timeout(ms).emit('q', 20, Buffer.from('q'), (error, answers) => resolve({ error: error?.message ?? null, answers }))), timeout);
  clients.forEach((client, i) => client.on('q', (x, bytes, reply) => reply({ n: x + i, bytes })));
  let acks = await asked(4000);
  assert.ok(acks.took < PROMPT, `acknowledgements took ${acks.took}`);
  assert.equal(acks.value.error, null);
  assert.deepEqual(sorted(acks.value.answers.map(({ n }) => n)), [20, 21, 22, 23]);
  assert.ok(acks.value.answers.every(({ bytes }) => Buffer.from(bytes).equals(Buffer.from('q'))));
  clients[2].off('q');
  acks = await asked(600);
  assert.deepEqual([acks.value.error, sorted(acks.value.answers.map(({ n }) => n))], ['operation has timed out', [20, 21, 23]]);
  const nobody = await timed(({ io }) => io.to('nobody').timeout(4000).emitWithAck('q', 1));
  assert.ok(nobody.took < PROMPT);
  assert.deepEqual(nobody.value, []);
  const sse = await timed(({ io }) => io.serverSideEmitWithAck('ping', 1));
  assert.ok(sse.took < PROMPT, `serverSideEmitWithAck took ${sse.took}`);
  assert.deepEqual(sse.value, [null, null]); // no application of the relay listens
  await node.run(({ io }) => { io.serverSideEmit('ping', 2); });
}

async function everyCall(t, redis, mode, key) {
  const cluster = await startSharded(t, redis, mode, { key });
  await step(t, `${mode}: every value, both ways, once`, () => everyValue(t, cluster));
  await step(t, `${mode}: rooms, except, flags and namespaces reach who is meant`, () => selectors(t, cluster));
  await step(t, `${mode}: joins, leaves and disconnects; channels come and go with the rooms`, () => comingAndGoing(t, cluster));
  await step(t, `${mode}: fetchSockets, acknowledgements and serverSideEmit are answered at once`, () => queries(t, cluster));
  for (const peal of cluster.peals) {
    const dropped = (await peal.metrics()).sum('peal_redis_dropped_total');
    assert.equal(dropped, 0, `${dropped} messages dropped`);
  }
}

test('one Redis 7: two Peal hosts and a Node server, in each mode', { timeout: 120000 }, async (t) => {
  const redis = await startSingleRedis(t);
  for (const mode of MODES) await everyCall(t, redis, mode, `single-${mode}`);
});

test('a Redis Cluster of three masters: the same', { timeout: 120000 }, async (t) => {
  const redis = await startRedisCluster(t);
  for (const mode of MODES) await everyCall(t, redis, mode, `cluster-${mode}`);
});

test('server-side emits of a Peal application, and answers to them', async (t) => {
  const redis = await startRedisCluster(t);
  const config = namespaces.map((nsp) => `[namespace "${nsp}"]\napp = module:${EXERCISE}\n`).join('');
  const { peals, node } = await startSharded(t, redis, 'dynamic', { config });
  const all = (client, event, ...args) => within(new Promise((resolve) => client.emit(event, ...args, (...list) => resolve(list))), event, 15000);
  for (const namespace of namespaces) {
    const client = await ioClient(t, peals[0].url, { namespace });
    for (let i = 0; i < 20; i++) assert.deepEqual(await all(client, 'cluster', 0, 0, 'ping', i, { a: [i] }), ['PEAL_OK']);
    assert.deepEqual(await all(client, 'cluster', 0, 0, 'ping', Buffer.from('bin'), 'é😀'), ['PEAL_OK']);
    let got = [];
    await waitFor(async () => (got = [...got, ...(await node.run(({ state }) => state.heard.splice(0)))]).length >= 21);
    assert.deepEqual(got.slice(0, 20), Array.from({ length: 20 }, (_, i) => [namespace, i, { a: [i] }]));
    assert.deepEqual([got[20][0], Buffer.from(got[20][1]), got[20][2]], [namespace, Buffer.from('bin'), 'é😀']);
    const [result, n, expected, ...answers] = await all(client, 'cluster', 4000, 0, 'ping', 'x');
    assert.deepEqual([result, n, expected], ['PEAL_OK', 2, 2]);
    assert.equal(answers.filter(([[who]]) => who === 'node').length, 1);
    const binary = await all(client, 'cluster', 4000, 0, 'ping', Buffer.from([1, 2]));
    assert.deepEqual(binary.slice(0, 3), ['PEAL_OK', 2, 2]);
    await node.run(({ state }) => { state.heard = []; });
  }
  const answers = await node.run(({ io }) => io.serverSideEmitWithAck('ping', 'x', Buffer.from('b')));
  assert.equal(answers.length, 2);
  for (const [who, x] of answers) assert.deepEqual([typeof who, x], ['number', 'x']);
});

test('a Peal application asks and changes the whole cluster', async (t) => {
  const redis = await startRedisCluster(t);
  const config = namespaces.map((nsp) => `[namespace "${nsp}"]\napp = module:${EXERCISE}\n`).join('');
  const { peals, node } = await startSharded(t, redis, 'dynamic', { config, options: { redis_request_timeout: '1500ms' } });
  const all = (client, event, ...args) => within(new Promise((resolve) => client.emit(event, ...args, (...list) => resolve(list))), event, 15000);
  const clients = await Promise.all([peals[0], peals[1], node].map(({ url }) => ioClient(t, url)));
  const ids = sorted(clients.map(({ id }) => id));
  const [client] = clients;
  for (const [i, one] of clients.entries()) one.on('q', (x, reply) => reply(x + i));
  assert.deepEqual(await all(client, 'change', 'join', {}, 'everybody'), ['PEAL_OK']);
  await waitFor(async () => (await node.run(async ({ io }) => (await io.in('everybody').fetchSockets()).length)) === 3, { what: 'all in the room' });
  let list;
  await waitFor(async () => (list = await all(client, 'fetch', { rooms: ['everybody'] }, 1))[2].length === 3);
  assert.deepEqual([list[0], sorted(list[2])], ['PEAL_OK', ids]);
  assert.deepEqual(await all(client, 'servers'), [2, 0]);
  assert.deepEqual((await all(client, 'fetch', {}, 2))[2], [3]);
  assert.deepEqual(sorted((await all(client, 'fetch', {}, 0))[2].map(({ id, rooms }) => `${id} ${rooms.length}`)), ids.map((id) => `${id} 2`));
  assert.deepEqual(sorted(new Set((await all(client, 'fetch', {}, 3))[2])), sorted([...ids, 'everybody']));
  const [result, n, ...answers] = await all(client, 'ask-room', { rooms: ['everybody'] }, 4000, 'q', 10);
  assert.deepEqual([result, n, sorted(answers.flat())], ['PEAL_OK', 3, [10, 11, 12]]);
  assert.deepEqual(await all(client, 'change', 'leave', { rooms: [clients[2].id] }, 'everybody'), ['PEAL_OK']);
  await waitFor(async () => (await node.run(async ({ io }) => (await io.in('everybody').fetchSockets()).length)) === 2, { what: 'one out of the room' });
  const gone = within(new Promise((resolve) => clients[2].once('disconnect', resolve)), 'the disconnect');
  assert.deepEqual(await all(client, 'change', 'disconnect', { rooms: [clients[2].id] }), ['PEAL_OK']);
  assert.equal(await gone, 'io server disconnect');
  // a server that is silent is missed; which one it was cannot be told with this adapter
  await node.run(({ io }) => { io.of('/').adapter.onMessage = () => {}; });
  assert.deepEqual((await all(client, 'fetch', {}, 2)).slice(0, 1), ['PEAL_TIMEOUT']);
  assert.deepEqual(await all(client, 'servers'), [2, 1]);
});

test('a slot moves to another master under traffic; a master drops connections; a master dies and comes back', { timeout: 120000 }, async (t) => {
  const redis = await startRedisCluster(t);
  const cluster = await startSharded(t, redis, 'dynamic');
  const { peals, node } = cluster;
  const clients = await Promise.all([peals[0], peals[1], node].map((host) => logged(t, host)));
  for (const client of clients) assert.deepEqual(await ask(client, 'join', ['moving', 'other', 'third']), OK);
  for (const room of ['moving', 'other', 'third']) await cluster.counted('/', room, 3);
  const dropped = async () => (await Promise.all(peals.map((peal) => peal.metrics()))).map((m) => m.sum('peal_redis_dropped_total'));
  const part = async (name, fn) => {
    try {
      await fn();
    } catch (error) {
      throw new Error(name, { cause: error });
    }
  };
  // whatever a client of each host says reaches both others, once
  const round = async (name, room, from = clients) => {
    for (const client of from) {
      await waitFor(async () => {
        assert.deepEqual(await ask(client, 'publish', room, name, client.id), OK);
        await sleep(50);
        return from.every((other) => other === client || other.log.some(([event, id]) => event === name && id === client.id));
      }, { timeout: 15000, what: () => `${name} of client ${clients.indexOf(client)} in ${room}: ${JSON.stringify(from.map((other) => other.log.length))}` });
    }
    from.forEach((client) => client.log.splice(0));
    for (const client of from) assert.deepEqual(await ask(client, 'publish', room, 'exactly', client.id), OK);
    await waitFor(() => from.every((client) => client.log.length >= from.length - 1));
    await sleep(30);
    for (const client of from) assert.deepEqual(sorted(taken(client).map(([event]) => event)), from.slice(1).map(() => 'exactly'), name);
  };
  await part('a room\'s slot, and the namespace\'s, move while messages flow', async () => {
    for (const name of [cluster.channel('/', 'moving'), cluster.channel('/')]) {
      const slot = await redis.slotOf(name);
      const from = await redis.owner(slot);
      let flowing = true;
      let sent = 0;
      const flow = (async () => {
        while (flowing) {
          assert.deepEqual(await ask(clients[0], 'publish', name.endsWith('moving#') ? 'moving' : ['moving', 'other'], 'flow', sent++), OK);
          await sleep(2);
        }
      })();
      await sleep(100);
      await redis.move(slot, (from + 1) % 3);
      await sleep(300);
      flowing = false;
      await flow;
      // (the cluster client of redis 4 does not subscribe again where a slot has gone: the Node server only speaks from here on)
      await waitFor(async () => (await redis.count(name)) >= 2, { timeout: 20000, what: 'both Peal hosts at the new master' });
      assert.equal(await redis.owner(slot), (from + 1) % 3);
      // in order and without doubles, and none lost but while a subscription was on its way to the new master
      const numbers = taken(clients[1]).filter(([event]) => event === 'flow').map(([, i]) => i);
      assert.ok(numbers.length > sent / 4 && numbers.every((n, i) => i === 0 || n > numbers[i - 1]), `${numbers.length} of ${sent}`);
      clients.forEach((client) => client.log.splice(0));
      await round('after the move', name.endsWith('moving#') ? 'moving' : ['moving', 'other'], clients.slice(0, 2));
      await node.run(({ io }) => { io.to('moving').emit('from node', 1); io.emit('from node', 2); });
      await waitFor(() => clients.slice(0, 2).every((client) => client.log.length === 2));
      clients.forEach((client) => client.log.splice(0));
    }
    assert.deepEqual(await dropped(), [0, 0], 'what was sent to the old master went on to the new one');
  });
  await node.stop();
  await part('one master drops its subscribers', async () => {
    const owner = await redis.owner(await redis.slotOf(cluster.channel('/', 'other')));
    await redis.masters[owner].client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1)));
    await waitFor(async () => (await redis.count(cluster.channel('/', 'other'))) >= 2, { timeout: 15000, what: 'both Peal hosts again' });
    await round('after the kill', 'other', clients.slice(0, 2));
  });
  await part('a master dies and comes back; the others serve on', async () => {
    const owners = await Promise.all(['moving', 'other', 'third'].map(async (room) => redis.owner(await redis.slotOf(cluster.channel('/', room)))));
    const main = await redis.owner(await redis.slotOf(cluster.channel('/')));
    const victim = [0, 1, 2].find((i) => i !== main && owners.includes(i)) ?? owners[0];
    const [lost, kept] = [['moving', 'other', 'third'][owners.indexOf(victim)], ['moving', 'other', 'third'][owners.findIndex((i) => i !== victim)]];
    await redis.masters[victim].stop('SIGKILL');
    await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 0)));
    if (kept !== undefined) await round('with a dead master', kept, clients.slice(0, 2));
    await redis.masters[victim].restart();
    await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { timeout: 20000 })));
    await round('with all masters', lost, clients.slice(0, 2));
    for (const client of clients.slice(0, 2)) assert.ok(client.connected);
  });
});

test('a worker is killed, the bridge is killed: rooms are known again, also those of clients that are away', { timeout: 60000 }, async (t) => {
  const redis = await startSingleRedis(t);
  const cluster = await startSharded(t, redis, 'dynamic', { options: { recovery: '1m' } });
  const { peals: [peal], node } = cluster;
  const clients = await Promise.all(Array.from({ length: 4 }, () => logged(t, peal)));
  for (const [i, client] of clients.entries()) assert.deepEqual(await ask(client, 'join', ['common', `room ${i}`]), OK);
  for (let i = 0; i < 4; i++) await cluster.counted('/', `room ${i}`, 1);
  // one that is lost, and comes back later
  const away = await engine(t, peal);
  Object.assign(away, await away.join());
  away.say('20["join","away"]');
  assert.equal(await away.hear(), '30[{"ok":true}]');
  await cluster.counted('/', 'away', 1);
  await node.run(({ io }) => { io.to('away').emit('first'); });
  const [, offset] = JSON.parse((await away.hear()).slice(1));
  away.reset();
  const bridge = () => peal.children().find(({ args }) => args?.includes('bridge'))?.pid;
  const killBridge = async () => {
    const old = bridge() ?? (await peal.api('workers')).bridge.pid;
    process.kill(old, 'SIGKILL');
    await cluster.counted('/', undefined, 2);
    await cluster.counted('/', undefined, 3, 15000);
    await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1);
  };
  await killBridge();
  for (let i = 0; i < 4; i++) await cluster.counted('/', `room ${i}`, 1);
  await cluster.counted('/', 'common', 1);
  await cluster.counted('/', 'away', 1);
  await node.run(({ io }) => {
    for (let i = 0; i < 4; i++) io.to(`room ${i}`).emit('to', i);
    io.to('common').emit('common');
    io.to('away').emit('missed');
  });
  await waitFor(() => clients.every((client) => client.log.length === 2));
  clients.forEach((client, i) => assert.deepEqual(taken(client).map((list) => list.slice(0, -1)), [['to', i], ['common']]));
  const back = await engine(t, peal);
  back.say(`0${JSON.stringify({ pid: away.pid, offset })}`);
  assert.deepEqual(JSON.parse((await back.hear()).slice(1))[0], 'missed');

  const victim = workersOf(peal)[0];
  process.kill(victim.pid, 'SIGKILL');
  await waitFor(() => workersOf(peal).filter(({ pid }) => pid !== victim.pid).length === 2, { what: 'the worker again' });
  const left = clients.filter((client) => client.connected);
  assert.ok(left.length < 4 || clients.length === left.length);
  const fresh = await logged(t, peal);
  assert.deepEqual(await ask(fresh, 'join', ['common', 'fresh']), OK);
  await cluster.counted('/', 'fresh', 1);
  await node.run(({ io }) => { io.to('fresh').emit('fresh'); io.to('common').emit('again'); });
  await waitFor(() => fresh.log.length === 2 && clients.filter(({ connected }) => connected).every((client) => client.log.length === 1));
});

test('many rooms: each gets its channel, and after a restart of Redis again', { timeout: 60000 }, async (t) => {
  const redis = await startSingleRedis(t);
  const { peals: [peal], node, ...cluster } = await startSharded(t, redis, 'dynamic');
  const client = await logged(t, peal);
  const rooms = Array.from({ length: 3000 }, (_, i) => `room ${i}`);
  await node.run(({ io }, id, names) => { for (let i = 0; i < names.length; i += 100) io.in(id).socketsJoin(names.slice(i, i + 100)); }, client.id, rooms);
  const channels = async () => Number((await redis.masters[0].client.sendCommand(['PUBSUB', 'SHARDCHANNELS'])).length);
  await waitFor(async () => (await channels()) >= rooms.length);
  await node.run(({ io }, names) => { names.forEach((name, i) => io.to(name).emit('n', i)); }, rooms);
  await waitFor(() => client.log.length === rooms.length, { what: () => `${client.log.length} of ${rooms.length}` });
  sameList(taken(client).sort(([, a], [, b]) => a - b), rooms.map((_, i) => ['n', i]), 'each room');
  await node.stop();
  await redis.masters[0].stop('SIGKILL');
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 0);
  await redis.masters[0].restart();
  await waitFor(async () => (await channels().catch(() => 0)) >= rooms.length, { timeout: 15000, what: 'all channels again' });
  client.disconnect();
  await waitFor(async () => (await channels()) <= 12, { timeout: 15000, what: 'no channel of a room' });
  assert.equal((await peal.metrics()).get('peal_redis_rooms_unheard_total'), 0);
  await cluster.counted('/', 'room 1', 0);
});
