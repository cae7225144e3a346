// cluster.test.mjs: two Peal hosts and Node servers with the real adapter and emitter on one Redis are one Socket.IO server.
// @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { ask, rawConnect, recordPublishes, sleep, startNodeServer, startPeal, startRedis, redisClient, test, waitFor, within, wsClient } from './lib/index.mjs';
import { engine, workersOf } from './lib/engine.mjs';
import { fence, logged, sameList, startCluster, step, subscribed, taken } from './lib/cluster.mjs';

const OK = { ok: true };
const PROMPT = 2500; // milliseconds; a peer that waits for us in vain waits 5 s

// Every value kind of the adapter's encoding. Runs in the Node server, too.
function values() {
  const object = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, i]));
  const exact = [
    '', 'a', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(255), 'x'.repeat(256), 'é'.repeat(32767), 'x'.repeat(65535), 'x'.repeat(65536), '😀', '👩‍👩‍👧‍👦 🇩🇪 e\u0301',
    'quotes " and \\ and / and \b\f\n\r\t', '\u0000\u0001\u001f\u007f\u0080', '\u2028\u2029\ufeff\uffff', '{"_placeholder":true,"num":0}', '日本語 العربية עברית',
    0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, Number.MAX_SAFE_INTEGER, 2 ** 53, 2 ** 53 + 2, 2 ** 63, 2 ** 64 - 2048,
    -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, Number.MIN_SAFE_INTEGER, -(2 ** 63),
    0.5, -1.5, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1e-7, 123456789.123, NaN, Infinity, -Infinity, -0,
    null, true, false, [], [[]], [null, undefined], [1, 'zwei', [3, [4, {}]]], Array.from({ length: 15 }, (_, i) => i), Array.from({ length: 16 }, (_, i) => i),
    Array.from({ length: 65536 }, () => 1), {}, { a: undefined, b: null, c: () => 1, d: 4 }, object(15), object(16), object(3000), { '': 1, 'é😀': 2, 'a"b': 3, 2: 'two', 1: 'one' },
    new Map([[1, 2]]), new Set([1]), /x/, { toJSON: () => ({ from: 'toJSON' }) }, new Date(1700000000000), new Date(1700000000123), new Date(0), new Date(-1), new Date(-62135596800000),
    new Date(8.64e15), new Date(4294967296000), Buffer.alloc(0), Buffer.from([0]), Buffer.alloc(255, 1), Buffer.alloc(256, 2), Buffer.alloc(65536, 3), Buffer.from([0, 255, 10, 13]),
    new Uint8Array([1, 2, 3]), new Uint8Array([9, 8, 7]).buffer, { nested: { deep: [Buffer.from('a'), { b: Buffer.from('b') }] }, text: '😀', n: 1.5 }, [Buffer.from('x'), Buffer.from('y')],
  ];
  // What the adapter garbles on the way: right is what another Node server makes of it.
  const garbled = [undefined, 2 ** 64, 2 ** 64 + 4096, 1e21, -1e21, 1.7976931348623157e308, new Date(NaN), new Uint16Array([1, 258, 65535]), new Float64Array([1.5])];
  return { exact, garbled };
}

// As JSON and the parser of clients make it; what a client may send.
function plainValues() {
  return [
    '', 'a', '😀', '👩‍👩‍👧‍👦', 'x'.repeat(300), 'é'.repeat(40000), '" \\ / \b\f\n\r\t \u0000\u0001\u007f\u2028', 0, -0, 1, -1, 127, 128, -33, 255, 65536, 4294967296, Number.MAX_SAFE_INTEGER,
    2 ** 53, 2 ** 64, 1e21, -1e21, 1.7976931348623157e308, 5e-324, 0.1, -1.5, 1e-7, NaN, Infinity, null, undefined, true, false, [], {}, [null, undefined, [[]]],
    { a: undefined, b: null, '': 1, 'é😀"': [{ c: {} }], 2: 'two', 1: 'one' }, new Date(1700000000123), Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(70000, 5),
    { nested: { deep: [Buffer.from('a'), { b: Buffer.from('b') }] }, text: '😀' }, [Buffer.from('x'), 1, Buffer.from('y')], Array.from({ length: 3000 }, (_, i) => i), new Uint8Array([1, 2]),
  ];
}

async function valuesFromNode(t, { peals, nodes }) {
  const clients = await Promise.all([peals[0], peals[0], peals[1], peals[1], nodes[0], nodes[1]].map((host) => logged(t, host)));
  const [own, remote] = clients.slice(4);
  const nExact = values().exact.length;
  await fence(clients, (n) =>
    nodes[0].run(({ io }, source, fenceId) => {
      const { exact, garbled } = (0, eval)(`(${source})`)();
      for (const [i, value] of [...exact, ...garbled].entries()) io.emit('v', i, value, 'last');
      io.emit('many', ...exact.slice(0, 30));
      io.emit('', 1);
      io.emit('none');
      io.emit('fence', fenceId);
    }, values.toString(), n));
  const [atOwn, atRemote] = [taken(own), taken(remote)];
  for (const client of clients.slice(0, 4)) {
    const got = taken(client);
    sameList(got, atRemote, 'as another Node server delivers');
    const right = (list) => list.filter(([event, i]) => event !== 'v' || i < nExact);
    sameList(right(got), right(atOwn), 'as the Node server delivers to its own');
  }
  assert.equal(atOwn.length, nExact + values().garbled.length + 3);
}

async function valuesFromPeal(t, { peals, nodes }) {
  const clients = await Promise.all([peals[0], peals[0], peals[1], nodes[0], nodes[0]].map((host) => logged(t, host)));
  for (const client of clients) assert.deepEqual(await ask(client, 'join', 'all'), OK);
  const publishAll = async (from) => {
    await fence(clients.filter((client) => client !== from), async (n) => {
      plainValues().forEach((value, i) => from.emit('publish', 'all', 'v', i, value, 'last'));
      from.emit('publish', 'all', 'many', ...plainValues());
      assert.deepEqual(await ask(from, 'publish', 'all', 'fence', n), OK);
    });
    return clients.map((client) => taken(client));
  };
  const reference = (await publishAll(clients[3]))[4];
  assert.equal(reference.length, plainValues().length + 1);
  for (const from of [clients[0], clients[2]]) {
    const got = await publishAll(from);
    clients.forEach((client, i) => sameList(got[i], client === from ? [] : reference, `client ${i}`));
  }
  // Node's client reaches both Peal hosts, too.
  const got = await publishAll(clients[4]);
  for (const i of [0, 1, 2, 3]) assert.equal(got[i].length, reference.length);
}

async function selectors(t, { peals, nodes, control, servers }) {
  for (const namespace of ['/', '/chat', '/dyn-1']) {
    const hosts = [peals[0], peals[0], peals[1], peals[1], nodes[0], nodes[0]];
    const clients = await Promise.all(hosts.map((host) => logged(t, host, { namespace })));
    await subscribed(control, namespace, '/dyn-1' === namespace ? 3 : servers.length);
    // a: one of each host; b: the others; c: the first of all; "sp ace#é😀": all
    for (const [i, client] of clients.entries()) {
      for (const room of [i % 2 === 0 ? 'a' : 'b', 'sp ace#é😀', '7', ...(i === 0 ? ['c'] : [])]) assert.deepEqual(await ask(client, 'join', room), OK);
    }
    const ids = clients.map(({ id }) => id);
    const all = [0, 1, 2, 3, 4, 5];
    const even = [0, 2, 4];
    const odd = [1, 3, 5];
    const cases = [
      [(to) => to, all],
      [(to) => to.to('a'), even],
      [(to) => to.in('sp ace#é😀'), all],
      [(to) => to.to('7'), all],
      [(to) => to.to('a').to('b'), all],
      [(to) => to.to(['a', 'c']), even],
      [(to) => to.to('b').to('c'), [0, ...odd]],
      [(to) => to.to('nobody'), []],
      [(to) => to.to(['nobody', 'c']), [0]],
      [(to) => to.except('a'), odd],
      [(to) => to.except(['a', 'b']), []],
      [(to, id) => to.except(id[3]), [0, 1, 2, 4, 5]],
      [(to, id) => to.to('a').except([id[0], id[4]]), [2]],
      [(to) => to.to('a').to('b').except('c'), [1, 2, 3, 4, 5]],
      [(to, id) => to.to(id[0]), [0]],
      [(to, id) => to.to(id[2]).to(id[5]), [2, 5]],
      [(to) => to.compress(false), all],
      [(to) => to.to('b').compress(true), odd],
      [(to) => to.volatile.to('a'), even, true],
      [(to) => to.volatile.compress(false).except('b'), even, true],
    ];
    for (const source of ['io', 'emitter']) {
      await fence(clients, async (n) => {
        for (const [i, [select]] of cases.entries()) {
          await nodes[0].run(({ io, emitter }, from, nsp, text, id, number) => {
            (0, eval)(text)((from === 'io' ? io : emitter).of(nsp), id).emit('case', number, Buffer.from('b'), '😀');
          }, source, namespace, select.toString(), ids, i);
        }
        await nodes[0].run(({ io }, nsp, id) => { io.of(nsp).emit('fence', id); }, namespace, n);
      });
      for (const [c, client] of clients.entries()) {
        // An own client of Node may lose what is volatile; ours are idle and must not.
        const kept = ([, , isVolatile]) => !(isVolatile && c >= 4);
        const wanted = cases.flatMap((one, i) => (kept(one) && one[1].includes(c) ? [['case', i, Buffer.from('b'), '😀']] : []));
        sameList(taken(client).filter(([, i]) => kept(cases[i])), wanted, `${namespace} ${source} client ${c}`);
      }
    }
    // From clients: one room, several, the sender left out.
    for (const from of [clients[0], clients[3], clients[4]]) {
      await fence(clients.filter((client) => client !== from), async (n) => {
        assert.deepEqual(await ask(from, 'publish', 'a', 'one', 1), OK);
        assert.deepEqual(await ask(from, 'publish', ['a', 'c', 'b'], 'several', 2), OK);
        assert.deepEqual(await ask(from, 'publish', 'nobody', 'none', 3), OK);
        assert.deepEqual(await ask(from, 'publish', 'sp ace#é😀', 'fence', n), OK);
      });
      for (const [c, client] of clients.entries()) {
        const wanted = client === from ? [] : [...(even.includes(c) ? [['one', 1]] : []), ['several', 2]];
        sameList(taken(client), wanted, `${namespace} from a client, client ${c}`);
      }
    }
    clients.forEach((client) => client.disconnect());
  }
}

async function joinThenEmit(t, { peals, nodes }) {
  const clients = await Promise.all([peals[0], peals[1], peals[0]].map((host) => logged(t, host)));
  await fence(clients, (n) =>
    nodes[0].run(({ io }, ids, fenceId) => {
      for (let i = 0; i < 1000; i++) {
        io.in(ids[i % 2]).socketsJoin(`r${i}`);
        io.to(`r${i}`).emit('k', i);
      }
      io.emit('fence', fenceId);
    }, clients.map(({ id }) => id), n));
  for (const c of [0, 1]) sameList(taken(clients[c]), Array.from({ length: 500 }, (_, i) => ['k', 2 * i + c]), `client ${c}`);
  sameList(taken(clients[2]), [], 'who was put nowhere');
}

async function remoteControl(t, { peals, nodes }) {
  for (const source of ['io', 'emitter']) {
    const clients = await Promise.all([peals[0], peals[0], peals[1], nodes[0]].map((host) => logged(t, host)));
    const [one, two, three, four] = clients;
    // A second namespace on the connections shows whether they live: socket.io-client ends one that it does not need.
    const chats = await Promise.all([one, two].map((client) => new Promise((resolve) => {
      const chat = client.io.socket('/chat');
      chat.once('connect', () => resolve(chat));
    })));
    const gone = clients.map((client) => within(new Promise((resolve) => client.once('disconnect', resolve)), 'a disconnect', 20000));
    gone.forEach((promise) => promise.catch(() => {}));
    const run = (text, ...args) =>
      nodes[0].run(({ io, emitter }, from, body, values) => { (0, eval)(body)(from === 'io' ? io : emitter, ...values); }, source, text.toString(), args);
    await fence(clients, (n) => run((to, [a, b, c, d], id) => {
      to.in([a, c]).socketsJoin(['x', 'y']);
      to.to('x').emit('m', 1);
      to.in('x').socketsJoin('z');
      to.to('z').except(d).emit('m', 2);
      to.in('z').except(a).socketsLeave(['x', 'z']);
      to.to('x').emit('m', 3);
      to.to('z').emit('m', 4);
      to.to('y').emit('m', 5);
      to.socketsJoin('everybody');
      to.to('everybody').emit('m', 6);
      to.in('everybody').socketsLeave('everybody');
      to.to('everybody').emit('m', 7);
      to.in(b).socketsJoin('only b');
      to.in('only b').emit('m', 8);
      to.emit('fence', id);
    }, clients.map(({ id }) => id), n));
    const numbers = (client) => taken(client).map(([, i]) => i);
    // a Node server obeys its own request only when Redis brings it back: of its own client only the end is certain
    assert.deepEqual(clients.slice(0, 3).map(numbers), [[1, 2, 3, 4, 5, 6], [6, 8], [1, 2, 5, 6]]);
    await run((to) => to.in('x').disconnectSockets(), []);
    assert.equal(await gone[0], 'io server disconnect');
    assert.ok(chats[0].connected, 'the connection stays, and its other namespace');
    const end = new Promise((resolve) => chats[1].once('disconnect', resolve));
    await run((to) => to.in('only b').disconnectSockets(true), []);
    assert.ok(['io server disconnect', 'transport close'].includes(await gone[1]));
    await within(end, 'the end of the connection, with its other namespace');
    assert.ok(three.connected && four.connected);
    await run((to) => to.of('/').except('nobody').disconnectSockets(true), []);
    await Promise.all(gone);
  }
  for (const peal of peals) await waitFor(async () => (await peal.metrics()).sum('peal_rooms') === 0, { what: 'no room left' });
}

// Names that both sides agree on, sorted.
const sorted = (list) => [...list].sort();

async function queries(t, { peals, nodes, control, servers }) {
  const clients = await Promise.all([peals[0], peals[0], peals[0], peals[0], peals[1], peals[1], nodes[0], nodes[1]].map((host) => logged(t, host, { query: { who: 'me' }, auth: { token: 't' } })));
  for (const client of clients) await ask(client, 'join', ['room', `own ${client.id}`]);
  const timed = async (fn, ...args) => {
    const begin = performance.now();
    const value = await nodes[0].run(fn, ...args);
    return { value, took: performance.now() - begin };
  };
  const fetch = () => timed(async ({ io }) => (await io.in('room').fetchSockets()).map(({ id, rooms, data, handshake }) => ({ id, rooms: [...rooms], data, handshake })));
  const allRooms = () => timed(async ({ io }) => [...(await io.of('/').adapter.allRooms())]);
  const asked = (timeout) => timed(({ io }, ms) => new Promise((resolve) => io.to('room').timeout(ms).emit('q', 20, Buffer.from('q'), (error, answers) => resolve({ error: error?.message ?? null, answers }))), timeout);
  clients.forEach((client, i) => client.on('q', (x, bytes, reply) => reply({ n: x + i, bytes })));

  let answer = await fetch();
  assert.ok(answer.took < PROMPT, `fetchSockets took ${answer.took}`);
  assert.deepEqual(sorted(answer.value.map(({ id }) => id)), sorted(clients.map(({ id }) => id)));
  for (const { id, rooms, data, handshake } of answer.value) {
    assert.deepEqual(sorted(rooms), sorted([id, 'room', `own ${id}`]));
    assert.deepEqual(data, {});
    assert.deepEqual([handshake.auth, handshake.query.who, handshake.secure, handshake.address.endsWith('127.0.0.1')], [{ token: 't' }, 'me', false, true]);
    assert.ok(Math.abs(new Date(handshake.time) - Date.now()) < 60000 && handshake.url.startsWith('/socket.io/'));
  }
  const rooms = await allRooms();
  assert.ok(rooms.took < PROMPT);
  assert.deepEqual(sorted(rooms.value), sorted(['room', ...clients.flatMap(({ id }) => [id, `own ${id}`])]));

  await nodes[1].run(({ io }) => { io.on('ping', (x, reply) => reply?.(`pong ${x}`)); });
  const sse = await timed(({ io }) => io.serverSideEmitWithAck('ping', 1));
  assert.ok(sse.took < PROMPT, `serverSideEmitWithAck took ${sse.took}`);
  assert.deepEqual(sorted(sse.value), sorted(['pong 1', null, null]));
  await nodes[0].run(({ emitter }) => { emitter.serverSideEmit('ping', 2); });

  let acks = await asked(4000);
  assert.ok(acks.took < PROMPT, `acknowledgements took ${acks.took}`);
  assert.equal(acks.value.error, null);
  assert.deepEqual(sorted(acks.value.answers.map(({ n }) => n)), clients.map((_, i) => 20 + i));
  assert.ok(acks.value.answers.every(({ bytes }) => Buffer.from(bytes).equals(Buffer.from('q'))));
  // One of ours does not answer: the caller's timeout, and the others' answers.
  clients[4].off('q');
  acks = await asked(600);
  assert.equal(acks.value.error, 'operation has timed out');
  assert.deepEqual(sorted(acks.value.answers.map(({ n }) => n)), [20, 21, 22, 23, 25, 26, 27]);
  clients[4].on('q', (x, bytes, reply) => reply({ n: x + 4, bytes }));
  const nobody = await timed(({ io }) => io.to('nobody').timeout(4000).emitWithAck('q', 1));
  assert.ok(nobody.took < PROMPT);
  assert.deepEqual(nobody.value, []);

  // A worker that is stopped cannot answer; when it is killed, the answer comes without it.
  for (const query of [fetch, allRooms, () => asked(4500)]) {
    // for the last one the worker that still has its first clients
    const victim = workersOf(peals[0])[query === fetch || query === allRooms ? 0 : 1];
    const alive = clients.filter((client) => client.connected);
    process.kill(victim.pid, 'SIGSTOP');
    const running = query();
    const first = await Promise.race([running, sleep(300, null)]);
    process.kill(victim.pid, 'SIGKILL');
    answer = await running;
    assert.equal(first, null, 'the stopped worker was waited for');
    assert.ok(answer.took < PROMPT, `${query} took ${answer.took}`);
    await waitFor(() => workersOf(peals[0]).filter(({ pid }) => pid !== victim.pid).length === 2, { what: 'the worker again' });
    await waitFor(async () => (await peals[0].api('workers')).workers.every(({ state }) => state === 'live'), { what: 'both workers live' });
    await sleep(50);
    const left = alive.filter((client) => client.connected);
    assert.ok(left.length >= 4 && left.length <= alive.length, `${left.length} of ${alive.length} clients left`);
    const got = query === fetch ? answer.value.map(({ id }) => id) : query === allRooms ? answer.value : answer.value.answers.map(({ n }) => clients[n - 20].id);
    for (const client of left) assert.ok(got.includes(client.id), `${query} has ${client.id}`);
    if (query !== fetch && query !== allRooms) assert.equal(answer.value.error, null);
  }
  await subscribed(control, '/', servers.length);
  // A client on the new worker is a member of the cluster.
  const fresh = await Promise.all([peals[0], peals[0]].map((host) => logged(t, host)));
  await fence(fresh, (n) => nodes[0].run(({ io }, id) => { io.emit('fence', id); }, n));
}

async function plainClients(t, { peals, nodes }) {
  const [one, two, other] = await Promise.all([
    wsClient(t, `${peals[0].wsUrl}/ws/room?room=second`),
    wsClient(t, `${peals[1].wsUrl}/ws/room`),
    wsClient(t, `${peals[1].wsUrl}/ws/other%20room`),
  ]);
  const peer = await logged(t, nodes[0], { namespace: '/ws' });
  await ask(peer, 'join', 'room');
  const shown = (ws) => ws.messages.splice(0).map(({ data, isBinary }) => (isBinary ? [data.toString('latin1')] : data.toString()));
  const dropped = async () => (await peals[0].metrics()).get('peal_ws_dropped_total');
  const before = await dropped();
  await nodes[0].run(({ io }) => {
    const ws = io.of('/ws');
    const room = ws.to('room');
    for (const x of ['text "é" 😀\n', '', Buffer.from('bin'), Buffer.alloc(0), { j: [1, 'é'] }, 5, null, true, [1, 2], 1.5]) room.emit('message', x);
    room.emit('other', 1); // four that plain clients cannot get
    room.emit('message');
    room.emit('message', 1, 2);
    room.emit('message', { a: Buffer.from('x') });
    ws.to('second').emit('message', 'second');
    ws.to('other room').emit('message', 'other');
    ws.emit('message', 'end');
  });
  await waitFor(() => [one, two, other].every((ws) => ws.messages.at(-1)?.data.toString() === 'end'));
  const wanted = ['text "é" 😀\n', '', ['bin'], [''], '{"j":[1,"é"]}', '5', 'null', 'true', '[1,2]', '1.5'];
  assert.deepEqual(shown(one), [...wanted, 'second', 'end']);
  assert.deepEqual(shown(two), [...wanted, 'end']);
  assert.deepEqual(shown(other), ['other', 'end']);
  assert.equal((await dropped()) - before, 4);

  await waitFor(() => peer.log.length > 0);
  await waitFor(() => peer.log.at(-1)[1] === 'end');
  peer.log.length = 0;
  one.send('hello é😀');
  one.send(Buffer.from([0, 255, 1]));
  one.send('');
  await waitFor(() => peer.log.length === 3 && two.messages.length === 3);
  assert.deepEqual(taken(peer), [['message', 'hello é😀'], ['message', Buffer.from([0, 255, 1])], ['message', '']]);
  assert.deepEqual(shown(two), ['hello é😀', ['\u0000\u00ff\u0001'], '']);
  two.send('back');
  await waitFor(() => peer.log.length === 1 && one.messages.length === 1);
  assert.deepEqual([shown(one), shown(two), shown(other)], [['back'], [], []]);
}

async function outage(t, { redis, peals, nodes, servers }) {
  const clients = await Promise.all([peals[0], peals[0], peals[1], nodes[0]].map((host) => logged(t, host)));
  for (const client of clients) await ask(client, 'join', 'all');
  const [one, two, three, four] = clients;
  const bridges = () => peals.map((peal) => peal.children().length);
  const before = bridges();
  for (const round of [1, 2]) {
    await redis.stop('SIGKILL');
    await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 0)));
    const begin = performance.now();
    for (let i = 0; i < 200; i++) one.emit('publish', 'all', 'local', i);
    await waitFor(() => two.log.length === 200);
    assert.ok(performance.now() - begin < 2000);
    sameList(taken(two), Array.from({ length: 200 }, (_, i) => ['local', i]), 'alone');
    assert.deepEqual([one, three, four].map((client) => taken(client).filter(([event]) => event !== 'fence').length), [0, 0, 0]);

    await redis.restart();
    const control = await redisClient(t, redis);
    await subscribed(control, '/', servers.length);
    await Promise.all(peals.map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1)));
    await fence(clients, (n) => nodes[0].run(({ io }, id) => { io.to('all').emit('from node', 1); io.emit('fence', id); }, n));
    await fence([two, three, four], (n) => ask(one, 'publish', 'all', 'fence', n));
    await fence([one, two, four], async (n) => {
      assert.deepEqual(await ask(three, 'publish', 'all', 'from peal', round), OK);
      await ask(three, 'publish', 'all', 'fence', n);
    });
    for (const client of clients) {
      const got = taken(client).filter(([event]) => event !== 'local');
      sameList(got, [['from node', 1], ...(client === three ? [] : [['from peal', round]])], 'together again');
    }
    assert.equal(clients.filter((client) => client.connected).length, 4);
  }
  assert.deepEqual(bridges(), before, 'no process has died');
}

test('two Peal hosts and two Node servers are one Socket.IO server', { timeout: 90000 }, async (t) => {
  const cluster = await startCluster(t, { nodes: 2 });
  await step(t, 'every value kind comes from Node as Node delivers it, once, and in order', () => valuesFromNode(t, cluster));
  await step(t, 'every value kind comes from a client of Peal to all others, once, and as from a client of Node', () => valuesFromPeal(t, cluster));
  await step(t, 'rooms, except, flags and namespaces reach who is meant, from Node, the emitter and clients', () => selectors(t, cluster));
  await step(t, 'a thousand times socketsJoin and then emit: the client gets the very next emit', () => joinThenEmit(t, cluster));
  await step(t, 'joins, leaves and disconnects from Node and from the emitter are obeyed', () => remoteControl(t, cluster));
  await step(t, 'fetchSockets, allRooms, serverSideEmit and acknowledgements are answered at once, also when a worker is killed meanwhile', () => queries(t, cluster));
  await step(t, 'plain WebSocket clients hear Node, and Node hears them', () => plainClients(t, cluster));
  await step(t, 'Redis killed and started again: hosts go on alone, and together again by themselves', () => outage(t, cluster));
});

test('default configuration: a client causes not one PUBLISH and hears no room that it was not put into', async (t) => {
  const redis = await startRedis(t);
  const heard = await recordPublishes(t, redis);
  const monitor = await rawConnect(t, redis.port);
  monitor.write('MONITOR\r\n');
  await monitor.readUntil('+OK\r\n');
  const published = () => monitor.buffered().toString().split('\n').filter((line) => /" ?|"publish"/i.test(line) && /\] "s?publish"/i.test(line) && !line.includes('-probe#'));
  const peal = await startPeal(t, { config: '', env: { REDIS_URL: redis.url } });
  const node = await startNodeServer(t, { redis });
  const control = await redisClient(t, redis);
  for (const nsp of ['/', '/ws']) {
    await node.run(({ io }, name) => { io.of(name); }, nsp);
    await subscribed(control, nsp, 2);
  }
  const base = published().length;
  const client = await logged(t, peal);
  const inner = await logged(t, peal);
  const rooms = ['r', 'public/x', 'admin', inner.id, '', '*', '/'];
  for (const room of [...rooms, rooms, null, 5, {}, undefined]) {
    client.emit('join', room, () => {});
    client.emit('subscribe', room);
    client.emit('publish', room, 'x', 1, () => {});
    client.emit('publish', room, 'x', Buffer.from('b'));
    client.emit('leave', room, () => {});
    client.emit('message', room);
    client.emit('peal:event', { id: inner.id, event: 'x', args: [] });
    client.emit('emit', room, 'x');
    client.emit('socket.io#/#', room);
  }
  for (const packet of ['1', '0/chat,', '0/ws,', '0/demo,', '0/', '2/ws,["message","x"]', '2/other,["x"]', '30[1]', '399999["x"]', '51-["publish","r","x",{"_placeholder":true,"num":0}]']) {
    const raw = await engine(t, peal);
    await raw.join();
    raw.say(packet);
    raw.text('4'); // whatever comes of it
  }
  const reader = await wsClient(t, `${peal.wsUrl}/ws/public/x`);
  const writer = await wsClient(t, `${peal.wsUrl}/ws/public/x?room=public/y`);
  const closed = new Promise((resolve) => writer.once('close', resolve));
  writer.send('frame');
  assert.equal(await within(closed, 'the close'), 1008);
  for (const path of ['x', 'private/x', 'public', 'public%2f..%2fx/../../x', 'public/x?room=private']) {
    const ws = await wsClient(t, `${peal.wsUrl}/ws/${path}`).catch(() => null);
    if (ws) assert.ok(path.startsWith('public%2f'), `/ws/${path} was let in`);
  }
  await sleep(200); // what would be published has been
  // The proof that the recorders work, and what may be heard: what is for all, and a public room.
  await fence([client, inner], (n) =>
    node.run(({ io }, names, id) => {
      for (const room of names.filter((name) => name.length < 20)) io.to(room).emit('secret', room);
      io.of('/ws').to(['x', 'private/x', 'private', 'public', '../x']).emit('message', 'secret');
      io.of('/ws').to('public/x').emit('message', 'open');
      io.emit('fence', id);
    }, rooms, n));
  await waitFor(() => reader.messages.length > 0);
  assert.deepEqual([taken(client), taken(inner)], [[], []]);
  assert.deepEqual(reader.messages.map(({ data }) => data.toString()), ['open']);
  await waitFor(() => heard.messages.some(({ channel }) => channel === 'socket.io#/#'));
  const fromNode = rooms.filter((name) => name.length < 20).length + 3;
  await waitFor(() => published().length - base >= fromNode);
  assert.equal(published().length - base, fromNode, published().join('\n'));
  assert.equal(heard.messages.filter(({ channel }) => /^socket\.io/.test(channel)).length, fromNode);
  assert.equal((await peal.metrics()).get('peal_redis_published_total'), 0);
});
