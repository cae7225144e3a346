// mixed-cluster.test.mjs: Node servers and Peal hosts in one cluster, each asking the others: every call, in every direction, as if all were Node.
// @test parallel no-asan timeout=600
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ioClient, pealBinary, redisClient, startNodeServer, startPeal, startRedis, test, waitFor, within } from './lib/index.mjs';
import { fence, logged, subscribed, taken } from './lib/cluster.mjs';

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
  assert.deepEqual((await more).slice(0, 1), ['PEAL_UNREACHABLE']);
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

test('a query returns what came in time, and names who was silent', async (t) => {
  const redis = await startRedis(t);
  const peals = await Promise.all([0, 1, 2].map((i) => startPeal(t, { name: `peal ${i}`, config: CONFIG, options: { redis: redis.url, redis_request_timeout: '500ms' } })));
  const control = await redisClient(t, redis);
  await subscribed(control, '/', 3);
  const uid = (i) => peals[i].events('cluster_uid').at(-1).uid;
  const clients = await Promise.all(peals.map((peal) => ioClient(t, peal.url)));
  const ids = clients.map(({ id }) => id);
  for (const client of clients) client.on('q', (reply) => reply('yes'));
  assert.deepEqual(sorted((await ask(clients[0], 'fetch', {}, 1))[2]), sorted(ids));
  assert.deepEqual(await ask(clients[0], 'servers'), [2, 0]);
  // here alone: nobody else is asked, and a client that says nothing is waited for no longer than was said
  assert.deepEqual(await ask(clients[0], 'fetch', { local: true }, 1), ['PEAL_OK', 0, [ids[0]]]);
  assert.deepEqual(await ask(clients[0], 'ask-room', { local: true }, 3000, 'q'), ['PEAL_OK', 1, ['yes']]);
  assert.deepEqual(await ask(clients[0], 'servers'), [0, 0]);

  // The process of host `i` that speaks with Redis is stopped for one question: not for long, or its master gets it a successor.
  const whileSilent = async (i, ...question) => {
    const { pid } = (await peals[i].api('workers')).bridge;
    process.kill(pid, 'SIGSTOP');
    try {
      return [...(await ask(clients[0], ...question)), await ask(clients[0], 'servers')];
    } finally {
      process.kill(pid, 'SIGCONT');
      await waitFor(async () => (await ask(clients[0], 'fetch', {}, 2))[0] === 'PEAL_OK');
    }
  };
  const here = sorted(ids.slice(0, 2));
  for (const [what, wanted] of [[1, here], [2, [2]], [3, here]]) {
    const [result, , list, servers] = await whileSilent(2, 'fetch', {}, what);
    assert.deepEqual([result, sorted(list), servers], ['PEAL_TIMEOUT', wanted, [2, 1, uid(2)]]);
  }
  const [result, , list] = await whileSilent(2, 'fetch', {}, 0);
  assert.deepEqual([result, sorted(list.map(({ id }) => id))], ['PEAL_TIMEOUT', here]);
  assert.deepEqual(await whileSilent(2, 'ask-room', {}, 500, 'q'), ['PEAL_TIMEOUT', 2, ['yes'], ['yes'], [2, 1, uid(2)]]);
  assert.ok(peals[0].events('cluster_silent').length > 0);

  // a Node server does not say who it is
  const server = await startNodeServer(t, { redis });
  await subscribed(control, '/', 4);
  const [, , , [n, silent, ...names]] = await whileSilent(1, 'fetch', {}, 2);
  assert.deepEqual([n, silent, sorted(names)], [3, 1, sorted([uid(1), await server.run(({ io }) => io.of('/').adapter.uid)])]);

  // without Redis: this host's part, and that it is no more than that
  await redis.stop();
  await waitFor(async () => (await ask(clients[0], 'reachable'))[0] === 'PEAL_UNREACHABLE');
  assert.deepEqual(await ask(clients[0], 'fetch', {}, 1), ['PEAL_UNREACHABLE', 0, [ids[0]]]);
  assert.deepEqual(await ask(clients[0], 'ask-room', {}, 3000, 'q'), ['PEAL_UNREACHABLE', 1, ['yes']]);
  assert.deepEqual(await ask(clients[0], 'change', 'join', {}, 'still'), ['PEAL_OK']);
  assert.deepEqual(await ask(clients[0], 'fetch', { rooms: ['still'], local: true }, 1), ['PEAL_OK', 0, [ids[0]]]);
});

test('odd answers of a peer are taken for what is right in them, and never more', async (t) => {
  const redis = await startRedis(t);
  const peal = await startPeal(t, { config: CONFIG, options: { redis: redis.url, redis_request_timeout: '400ms' } });
  const [pub, sub] = await Promise.all([redisClient(t, redis), redisClient(t, redis)]);
  let answers = [];
  await sub.subscribe('socket.io-request#/#', async (message) => {
    const request = JSON.parse(message);
    for (const answer of answers) await pub.publish('socket.io-response#/#', typeof answer === 'string' ? answer : JSON.stringify({ requestId: request.requestId, ...answer }));
  });
  await subscribed(pub, '/', 2);
  const client = await ioClient(t, peal.url);
  const { id } = client;
  client.on('q', (reply) => reply('here'));
  const fetch = async (what, ...list) => {
    answers = list;
    return ask(client, 'fetch', {}, what);
  };
  const odd = [1, null, 'ok', { id: 'of an object' }, { id: 5 }, {}, [], true];
  assert.deepEqual(sorted((await fetch(1, { sockets: odd }))[2]), sorted([id, 'ok', 'of an object']));
  assert.deepEqual((await fetch(0, { sockets: odd }))[2].filter((socket) => socket.id !== id), [{ id: 'of an object' }, { id: 5 }, {}]);
  assert.deepEqual(await fetch(2, { sockets: odd }), ['PEAL_OK', 0, [1 + odd.length]]);
  assert.deepEqual(sorted((await fetch(3, { rooms: ['r', 'r', id, 7] }))[2]), sorted([id, 'r']));
  // without a list; twice; after nothing but rubbish
  assert.deepEqual(await fetch(1, {}), ['PEAL_OK', 0, [id]]);
  assert.deepEqual(await fetch(1, { sockets: [] }, { sockets: ['late'] }), ['PEAL_OK', 0, [id]]);
  assert.deepEqual(await fetch(1, '{', '[]', 'null', '\u0080', JSON.stringify({ requestId: '!!!!!!', sockets: ['x'] }), JSON.stringify({ requestId: 'x'.repeat(70000) })), ['PEAL_TIMEOUT', 0, [id]]);
  assert.deepEqual(await ask(client, 'servers'), [1, 1]); // one that has no channel for answers has no name
  assert.deepEqual(await fetch(1, { type: 6, data: 1 }), ['PEAL_OK', 0, [id]]);
  // of a server-side emit
  answers = [{ type: 8, clientCount: 1 }, { sockets: [] }, { type: 6, data: { a: 1 } }, { type: 6, data: 2 }];
  assert.deepEqual(await ask(client, 'cluster', 2000, 0, 'x'), ['PEAL_OK', 1, 1, [{ a: 1 }]]);
  answers = [{ type: 6 }];
  assert.deepEqual(await ask(client, 'cluster', 2000, 0, 'x'), ['PEAL_OK', 1, 1, []]);
  // requests that say our own uid are ours: nothing is done twice
  await pub.publish('socket.io-request#/#', JSON.stringify({ uid: peal.events('cluster_uid')[0].uid, type: 4, opts: { rooms: [], except: [] }, close: true }));
  assert.deepEqual((await fetch(1, { sockets: [] }))[2], [id]);
  assert.ok(client.connected);
});

test('POST /api/disconnect reaches every server', async (t) => {
  const { peals, nodes } = await startMixed(t);
  const clients = await Promise.all([...peals, ...nodes].map((server) => ioClient(t, server.url)));
  await nodes[0].run(({ io }) => io.socketsJoin('out'));
  await waitFor(() => nodes[0].run(async ({ io }) => (await io.in('out').fetchSockets()).length === 4));
  const gone = Promise.all(clients.map((client) => new Promise((resolve) => client.once('disconnect', resolve))));
  const answer = await fetch(`${peals[0].adminUrl}/api/disconnect`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ namespace: '/', rooms: ['out'] }) });
  assert.equal(answer.status, 200);
  assert.deepEqual(await within(gone, 'the disconnects'), Array(4).fill('io server disconnect'));
});

// ---- Every call, in every direction ----
//
// The same calls are made in a cluster of four Node servers and in one of two Peal hosts (in place of the first two) and two Node servers. What all clients
// got and what each call brought must be the same. The application of the Peal hosts is tests/modules/exercise.c; this is what it does, in Node's own API.
const node = ({ io, state }) => {
  state.heard = [];
  const select = (nsp, { rooms = [], except = [], local = false, volatile = false } = {}) => {
    let to = nsp;
    for (const room of rooms) to = to.to(room);
    if (except.length > 0) to = to.except(except);
    if (local) to = to.local;
    return volatile ? to.volatile.compress(false) : to;
  };
  const fetches = [
    async (to) => (await to.fetchSockets()).map(({ id, handshake, rooms, data }) => ({ id, handshake, rooms: [...rooms], data })),
    async (to) => (await to.fetchSockets()).map(({ id }) => id),
    async (to) => [(await to.fetchSockets()).length],
    async (_, nsp) => [...(await nsp.adapter.allRooms())],
  ];
  for (const name of ['/', '/chat']) {
    const nsp = io.of(name);
    nsp.on('ping', (...args) => {
      const reply = typeof args.at(-1) === 'function' ? args.pop() : null;
      state.heard.push([name, ...args]);
      if (args[0] !== 'silence') reply?.(['server', ...args]);
    });
    nsp.on('connection', (socket) => {
      const on = (event, fn) =>
        socket.on(event, async (...args) => {
          const reply = typeof args.at(-1) === 'function' ? args.pop() : () => {};
          reply(...(await fn(...args)));
        });
      on('join', async (room) => {
        await socket.join(room);
        return ['PEAL_OK'];
      });
      on('data', async (data) => {
        socket.data = data;
        return ['PEAL_OK', data];
      });
      on('emit', async (to, ...args) => {
        select(nsp, to).emit(...args);
        return ['PEAL_OK'];
      });
      on('change', async (what, to, room) => {
        const target = select(nsp, to);
        if (what === 'join') target.socketsJoin(room);
        else if (what === 'leave') target.socketsLeave(room);
        else target.disconnectSockets(what === 'close');
        return ['PEAL_OK'];
      });
      on('fetch', async (to, what) => ['PEAL_OK', 0, await fetches[what](select(nsp, to), nsp)]);
      on('ask-room', (to, timeout, ...args) =>
        new Promise((resolve) => {
          select(nsp, to).timeout(timeout).emit(...args, (error, answers) => resolve([error ? 'PEAL_TIMEOUT' : 'PEAL_OK', 0, ...answers.map((value) => [value])]));
        }));
      on('cluster', async (timeout, _, ...args) => {
        if (timeout === 0) {
          nsp.serverSideEmit(...args);
          return ['PEAL_OK'];
        }
        const answers = await nsp.serverSideEmitWithAck(...args);
        return ['PEAL_OK', answers.length, answers.length, ...answers.map((value) => [value])];
      });
    });
  }
};

const N_CLIENTS = 8; // two of each server

// { servers, nodes, clients: { '/': [8], '/chat': [8] }, control }; client 2s and 2s + 1 are of server s.
async function startSuite(t, { peals, key, library = 'redis', own = false }) {
  const redis = await startRedis(t);
  const adapter = { requestsTimeout: 2000, ...(key === undefined ? {} : { key }), ...(own ? { publishOnSpecificResponseChannel: true } : {}) };
  const options = { redis: redis.url, redis_own_channel: own, ...(key === undefined ? {} : { redis_key: key }) };
  const [control, ...servers] = await Promise.all([
    redisClient(t, redis),
    ...Array.from({ length: peals }, (_, i) => startPeal(t, { name: `peal ${i}`, config: CONFIG, options })),
    ...Array.from({ length: 4 - peals }, () => startNodeServer(t, { redis, library, adapter, setup: node })),
  ]);
  const channel = (nsp) => `${key ?? 'socket.io'}-request#${nsp}#`;
  for (const nsp of ['/', '/chat']) await waitFor(async () => (await control.pubSubNumSub(channel(nsp)))[channel(nsp)] === 4, { what: `four servers in ${nsp}` });
  const clients = {};
  for (const namespace of ['/', '/chat']) {
    clients[namespace] = await Promise.all(Array.from({ length: N_CLIENTS }, (_, i) => logged(t, servers[i >> 1], { namespace, auth: { n: i }, query: { who: `client ${i}` } })));
    for (const [i, client] of clients[namespace].entries()) {
      client.log.splice(0); // the exercise's greeting
      for (const room of ['all', i % 2 === 0 ? 'even' : 'odd', `own ${i}`, ...(i === 1 || i === 6 ? ['é#😀'] : [])]) await ask(client, 'join', room);
      await ask(client, 'data', { n: i });
      client.on('q', (x, reply) => reply({ n: i, x }));
      client.on('q silent', (x, reply) => i !== 0 && i !== 7 && reply(i));
      client.on('disconnect', (reason) => client.log.push(['disconnect', reason]));
    }
  }
  return { servers, peals: servers.slice(0, peals), nodes: servers.slice(peals), clients };
}

// Ids as numbers of clients, so that two clusters can be compared; and what no two servers say alike is left out.
function named(clients) {
  const names = new Map(clients.map(({ id }, i) => [id, `id ${i}`]));
  const name = (value) => {
    if (typeof value === 'string') return names.get(value) ?? value;
    if (typeof value === 'function') return 'an acknowledgement';
    if (Buffer.isBuffer(value) || value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return value.map(name);
    if ('issued' in (value.handshake ?? {})) {
      const { auth, query, secure, xdomain, url, headers, issued, time, address } = value.handshake;
      const { EIO, transport, who } = query;
      assert.ok(Math.abs(issued - Date.now()) < 100000 && Math.abs(new Date(time) - issued) < 1000 && typeof headers['user-agent'] !== 'number');
      const handshake = { auth, query: { EIO, transport, who }, secure, xdomain, url: url.split('?')[0], address: address.replace('::ffff:', '') };
      return { id: name(value.id), handshake, rooms: sorted(name(value.rooms)), data: value.data };
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, name(v)]));
  };
  return name;
}

const S = (text) => (0, eval)(`(${text})`);

// Makes all calls in one namespace and gives [what, ...what it brought, ...what each client got] for each.
async function transcript({ nodes, clients: all }, nsp) {
  const clients = all[nsp];
  const ids = clients.map(({ id }) => id);
  const name = named(clients);
  const steps = [];
  // What was changed has been changed everywhere: whoever asks all servers and has their answers asked behind it.
  const settle = async () => {
    const alive = clients.filter(({ connected }) => connected);
    for (const client of [0, 2, 4, 6].map((i) => clients[i]).filter(({ connected }) => connected)) assert.equal((await ask(client, 'cluster', 8000, 0, 'ping', 'sync'))[0], 'PEAL_OK');
    await fence(alive, (n) => nodes[0].run(({ emitter }, at, id) => { emitter.of(at).emit('fence', id); }, nsp, n));
    await fence(alive, (n) => nodes.at(-1).run(({ io }, at, id) => { io.of(at).emit('fence', id); }, nsp, n));
  };
  // `by`: the client whose server makes the call; without one it is a Node server or the emitter, and everything is waited for.
  const step = async (what, call, { by, ends } = {}) => {
    const value = await call().catch((error) => {
      throw new Error(`${nsp} ${what}`, { cause: error });
    });
    if (ends) await waitFor(() => ends.every((i) => !clients[i].connected), { what: `the end of clients ${ends} by ${what}` });
    if (by) await fence(clients, (n) => ask(by, 'emit', {}, 'fence', n));
    else await settle();
    steps.push({ what: `${nsp} ${what}`, value: name(value ?? null), got: clients.map((client) => name(taken(client))) });
  };
  const unordered = ([result, , ...rest]) => [result, sorted(name(rest))];
  const binary = Buffer.from([0, 1, 255]);

  // every server asks, through a client of its own
  for (const [s, of] of [0, 2, 4, 6].map((i) => clients[i]).entries()) {
    const by = `by ${s}`;
    const emits = [
      [{}], [{ rooms: ['all'] }], [{ rooms: ['even'] }], [{ rooms: ['even', 'é#😀'] }], [{ rooms: ['odd'], except: ['é#😀'] }], [{ except: ['even'] }], [{ except: [ids[0], ids[7]] }],
      [{ rooms: [ids[2]] }], [{ rooms: [ids[5], ids[6]] }], [{ rooms: ['nobody'] }], [{ rooms: ['even'], local: true }], [{ local: true }], [{ rooms: ['odd'], volatile: true }],
    ];
    for (const [to] of emits) await step(`${by} emit ${JSON.stringify(name(to))}`, () => ask(of, 'emit', to, 'e', 1, { b: [binary] }, 'é😀', null), { by: of });
    for (const to of [{}, { rooms: ['even'] }, { rooms: ['odd'], except: ['é#😀'] }, { rooms: [ids[1]] }, { rooms: ['nobody'] }, { local: true }]) {
      // Node's own, with `local`, waits for the other servers, which it has not asked, until its time is up
      if (!to.local) await step(`${by} ask ${JSON.stringify(name(to))}`, async () => unordered(await ask(of, 'ask-room', to, 4000, 'q', { x: [1, 'é'] })), { by: of });
      for (const what of [0, 1, 2]) await step(`${by} fetch ${what} ${JSON.stringify(name(to))}`, async () => unordered(await ask(of, 'fetch', to, what)).map((list) => (Array.isArray(list) ? sorted(list.flat()) : list)), { by: of });
    }
    await step(`${by} ask, two silent`, async () => unordered(await ask(of, 'ask-room', { rooms: ['all'] }, 400, 'q silent', 1)), { by: of });
    await step(`${by} all rooms`, async () => sorted(name((await ask(of, 'fetch', {}, 3))[2])), { by: of });
    await step(`${by} join by id`, () => ask(of, 'change', 'join', { rooms: [ids[1], ids[6]] }, `new ${s}`));
    await step(`${by} to the new room`, () => ask(of, 'emit', { rooms: [`new ${s}`] }, 'n', s), { by: of });
    await step(`${by} join of a room, but one`, () => ask(of, 'change', 'join', { rooms: ['odd'], except: [ids[3]] }, `more ${s}`));
    await step(`${by} join of all`, () => ask(of, 'change', 'join', {}, `everybody ${s}`));
    await step(`${by} leave`, () => ask(of, 'change', 'leave', { rooms: [`everybody ${s}`], except: [`new ${s}`] }, `everybody ${s}`));
    await step(`${by} local join`, () => ask(of, 'change', 'join', { local: true }, `here ${s}`));
    await step(`${by} rooms then`, async () => sorted(name((await ask(of, 'fetch', {}, 3))[2])), { by: of });
    await step(`${by} sockets then`, async () => sorted(name((await ask(of, 'fetch', { rooms: [`more ${s}`, `everybody ${s}`, `here ${s}`] }, 0))[2])), { by: of });
    await step(`${by} join and emit at once`, async () => {
      // to a client of its own Node emits too early: it is obeyed when Redis brings it back
      void ask(of, 'change', 'join', { rooms: ['even'], except: [of.id] }, `at once ${s}`);
      return ask(of, 'emit', { rooms: [`at once ${s}`] }, 'at once');
    });
    await step(`${by} server-side emit`, () => ask(of, 'cluster', 0, 0, 'ping', by, binary, { a: null }));
    await step(`${by} server-side emit with answers`, async () => {
      const answers = (await ask(of, 'cluster', 4000, 0, 'ping', by, { a: [null, 'é'] })).flat().map((value) => (typeof value?.[0] === 'number' ? ['server', ...value.slice(1)] : value));
      return answers;
    });
  }
  // what only a Node server has, and the emitter
  for (const [s, server] of nodes.slice(-2).entries()) {
    const run = (what, fn, order = (x) => x) => step(`by node ${s}: ${what}`, async () => order(await server.run(S(`({ io, emitter }, at, source, ids) => (0, eval)(source)(io.of(at), emitter.of(at), ids)`), nsp, fn.toString(), ids)));
    await run('to().to(), in()', async (io) => void io.to('even').to(['odd', 'é#😀']).in('own 3').emit('chain'));
    await run('except().compress(true)', async (io) => void io.except('odd').except(['own 0']).compress(true).emit('chain'));
    await run('send', async (io) => void io.send('a', 1));
    await run('broadcast of a socket', async (io) => {
      const [first] = [...io.sockets.values()].sort((a, b) => a.handshake.auth.n - b.handshake.auth.n); // they came in any order
      first.broadcast.to('all').emit('from a socket');
    });
    await run('emitWithAck', (io) => io.in('odd').timeout(4000).emitWithAck('q', 'w'), sorted);
    await run('remote sockets', async (io) => {
      for (const socket of await io.in('own 1').fetchSockets()) {
        socket.emit('remote', 1);
        socket.join('remote room');
        socket.leave('own 1');
        return [await socket.timeout(4000).emitWithAck('q', 'r'), socket.data, socket.rooms.size];
      }
    });
    await run('remote room', async (io) => {
      io.to('remote room').emit('remote room');
      io.in('remote room').socketsJoin('own 1');
    });
    await run('serverCount', (io) => io.adapter.serverCount());
    await run('allRooms', async (io) => [...(await io.adapter.allRooms())], (list) => sorted(name(list)));
    await run('emitter', async (_, emitter, ids) => {
      emitter.emit('emitter', 1);
      emitter.to('even').emit('emitter', 2, Buffer.from('b'));
      emitter.to('even').to('odd').except('é#😀').emit('emitter', 3);
      emitter.except(ids[4]).emit('emitter', 4);
    });
    await run('emitter volatile', async (_, emitter, ids) => void emitter.to(ids[3]).volatile.compress(false).emit('emitter', 5));
    await run('emitter joins', async (_, emitter, ids) => {
      emitter.in([ids[0], ids[5]]).socketsJoin(['by emitter', 'too']);
      emitter.to('by emitter').emit('emitter', 6);
      emitter.in('by emitter').except(ids[0]).socketsLeave('too');
      emitter.to('too').emit('emitter', 7);
      emitter.serverSideEmit('ping', 'emitter');
    });
    await run('rooms after', async (io) => (await io.in('by emitter').fetchSockets()).map(({ id, rooms }) => [id, [...rooms].includes('too')]), (list) => sorted(name(list)));
  }
  // what is binary comes as such from a Peal host, and as JSON has it from a Node server
  const asJson = (args) => args.map((x) => (x instanceof Uint8Array ? Buffer.from(x).toJSON() : x));
  steps.push({ what: `${nsp} heard by the Node servers`, value: (await Promise.all(nodes.slice(-2).map(heard))).map((list) => list.filter(([at, x]) => at === nsp && x !== 'sync').map(asJson)) });
  // ends: each server one of another kind, the emitter the last
  await step('by 0 disconnect', () => ask(clients[0], 'change', 'disconnect', { rooms: ['own 5', 'own 1'] }), { ends: [1, 5] });
  await step('by 4 close', () => ask(clients[4], 'change', 'close', { rooms: ['own 3', 'own 7'] }), { ends: [3, 7] });
  await step('by the emitter', () => nodes.at(-1).run(({ emitter }, at, list) => { emitter.of(at).in(list).disconnectSockets(); }, nsp, [ids[2], ids[6]]), { ends: [2, 6] });
  await step('who is left', async () => sorted(name((await ask(clients[0], 'fetch', {}, 1))[2])));
  return steps;
}

const calls = async (t, { namespaces = ['/', '/chat'], ...options }) => {
  const cluster = await startSuite(t, options);
  const list = [];
  for (const nsp of namespaces) list.push(...(await transcript(cluster, nsp)));
  return list;
};
const LONG = { timeout: 200000 };
let reference;

test('every call between four Node servers, to compare with', LONG, async (t) => {
  reference = await calls(t, { peals: 0 });
  t.diagnostic(`${reference.length} calls`);
});

const VARIANTS = {
  'redis 4': {},
  'redis 5, a key of its own, answers on the asker\'s channel': { library: 'redis5', key: 'my:key', own: true, namespaces: ['/'] },
  ioredis: { library: 'ioredis', namespaces: ['/chat'] },
};
for (const [variant, options] of Object.entries(VARIANTS)) {
  test(`every call brings the same with two Peal hosts and two Node servers: ${variant}`, LONG, async (t) => {
    const got = await calls(t, { peals: 2, ...options });
    const wanted = reference.filter(({ what }) => (options.namespaces ?? ['/', '/chat']).includes(what.split(' ')[0]));
    const differ = wanted.flatMap((one, i) => (isDeepStrictEqual(got[i], one) ? [] : [{ wanted: one, got: got[i] }]));
    assert.equal(differ.map((one) => JSON.stringify(one)).join('\n'), '');
    assert.equal(got.length, wanted.length);
  });
}
