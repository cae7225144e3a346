// recovery.test.mjs: connection state recovery: a client that comes back has its id, its rooms and everything it missed, or it is told that it has not.
// @test parallel timeout=400
import assert from 'node:assert/strict';
import { ask, defer, httpRequest, ioClient, recordPublishes, redisClient, slow, sleep, startNodeServer, startPeal, startRedis, test, waitFor, wsClient } from './lib/index.mjs';
import { engine, OPEN_RELAY, workersOf } from './lib/engine.mjs';
import { subscribed } from './lib/cluster.mjs';

const PID = /^[\w-]{20}$/;
const OFFSET = /^[\w-]{32}$/;
const SECRET = `${OPEN_RELAY}\n[ws]\nclient_join = yes\nclient_publish = any\n`;

const start = (t, options = {}, more = {}) => startPeal(t, { config: SECRET, options: { recovery: '1m', ...options }, ...more });
const recoveries = async (peal) => Object.fromEntries((await peal.metrics()).samples.filter((s) => s.name === 'peal_recoveries_total' && s.value > 0).map((s) => [s.labels.result, s.value]));

// Events of no client's: they survive every worker.
async function emit(peal, event, args, { rooms, except, namespace = '/' } = {}) {
  const answer = await httpRequest(`${peal.adminUrl}/api/emit`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ namespace, rooms, except, event, args }),
  });
  assert.equal(answer.status, 200, answer.body);
}

// A lost connection: the server sees a reset.
async function lose(peal, client) {
  const before = (await peal.metrics()).sum('peal_connections');
  client.reset();
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') < before, { what: 'the loss to be noticed' });
}

// A raw client in rooms, and what it needs to come back.
async function member(t, peal, rooms = []) {
  const client = await engine(t, peal);
  Object.assign(client, await client.join());
  for (const [i, room] of rooms.entries()) {
    client.say(`2${i}["join",${JSON.stringify(room)}]`);
    assert.equal(await client.hear(), `3${i}[{"ok":true}]`);
  }
  return client;
}

// CONNECT with pid and offset: everything up to the CONNECT packet.
async function back(t, peal, auth) {
  const client = await engine(t, peal);
  client.missed = [];
  client.say(`0${JSON.stringify(auth)}`);
  for (;;) {
    const { opcode, payload } = await client.nextFrame();
    const text = payload.toString();
    if (opcode === 1 && text.startsWith('40')) {
      Object.assign(client, JSON.parse(text.slice(2)));
      return client;
    }
    if (opcode === 1 && text === '2') client.text('3');
    else client.missed.push(opcode === 1 ? text : payload);
  }
}

const events = (texts) => texts.map((text) => JSON.parse(text.replace(/^\d+-?/, '')).slice(0, -1));

test('off: CONNECT carries only sid, events no extra argument, and a pid means nothing', async (t) => {
  const peal = await startPeal(t, { config: SECRET });
  const client = await engine(t, peal);
  assert.deepEqual(Object.keys(await client.join('/', { pid: 'A'.repeat(20), offset: 'x' })), ['sid']);
  await emit(peal, 'e', [1]);
  assert.equal(await client.hear(), '2["e",1]');
  assert.equal((await peal.metrics()).sum('peal_recoveries_total'), 0);
});

test('on the wire: pid, offsets, and what was missed in front of the CONNECT packet', async (t) => {
  const peal = await start(t);
  const client = await member(t, peal, ['r']);
  const other = await member(t, peal);
  assert.deepEqual(Object.keys(await (await engine(t, peal)).join()), ['sid', 'pid']);
  assert.match(client.pid, PID);
  assert.notEqual(client.pid, client.sid);

  await emit(peal, 'empty', []);
  const [name, first] = JSON.parse((await client.hear()).slice(1));
  assert.deepEqual([name, OFFSET.test(first)], ['empty', true]);
  other.say('2["publish","r","m",{"a":[1]}] ');
  const [, value, offset] = JSON.parse((await client.hear()).slice(1));
  assert.deepEqual([value, OFFSET.test(offset), offset === first], [{ a: [1] }, true, false]);
  other.say('51-["publish","r","b",{"_placeholder":true,"num":0}]');
  other.send(2, Buffer.from([1, 2, 3]));
  const [, placeholder, last] = JSON.parse((await client.hear()).replace('51-', ''));
  const bytes = (await client.nextFrame()).payload;
  assert.deepEqual([placeholder, OFFSET.test(last), [...bytes]], [{ _placeholder: true, num: 0 }, true, [1, 2, 3]]);

  await lose(peal, client);
  other.say('2["publish","r","m",1]');
  other.say('2["publish","elsewhere","m",2]');
  other.say('51-["publish",["r","elsewhere"],"b",{"_placeholder":true,"num":0}]');
  other.send(2, Buffer.from([4]));
  await other.fence(); // they are in the ring
  await emit(peal, 'm', [3], { rooms: [client.sid] });
  await emit(peal, 'm', [4], { except: ['r'] });
  await emit(peal, 'm', [5]);
  await other.fence();
  const again = await back(t, peal, { pid: client.pid, offset: last });
  assert.deepEqual([again.sid, again.pid], [client.sid, client.pid]);
  const texts = again.missed.filter((m) => typeof m === 'string');
  assert.deepEqual(events(texts.map((m) => m.replace(/^451-/, '42'))), [['m', 1], ['b', { _placeholder: true, num: 0 }], ['m', 3], ['m', 5]]);
  assert.deepEqual(again.missed.filter((m) => typeof m !== 'string').map((m) => [...m]), [[4]]);
  // it is in its room, and what it does is in order
  other.say('2["publish","r","m",6]');
  assert.deepEqual(events([await again.hear()]), [['m', 6]]);
  assert.deepEqual(await recoveries(peal), { recovered: 1 });
});

test('plain WebSocket clients get no offset', async (t) => {
  const peal = await start(t);
  const plain = await wsClient(t, `${peal.wsUrl}/ws/x`);
  await emit(peal, 'message', ['text'], { rooms: ['x'], namespace: '/ws' });
  await emit(peal, 'message', [{ a: ['b'] }], { rooms: ['x'], namespace: '/ws' });
  await waitFor(() => plain.messages.length === 2);
  assert.deepEqual(plain.messages.map((m) => m.data.toString()), ['text', '{"a":["b"]}']);
});

test('what it may not have: unknown pid, unknown offset, other host, ended by itself, expired', async (t) => {
  const peal = await start(t, { recovery: '2s' });
  const fresh = async (auth, old) => {
    const client = await back(t, peal, auth);
    assert.deepEqual(client.missed, []);
    assert.match(client.pid, PID);
    assert.ok(client.pid !== old?.pid && client.sid !== old?.sid, 'a new session');
    return client;
  };
  await fresh({ pid: 'AAAA', offset: 'x' });
  await fresh({ pid: 'A'.repeat(20) });
  await fresh({ pid: 7 });
  const lost = async () => {
    const client = await member(t, peal, ['r']);
    await emit(peal, 'e', []);
    client.offset = JSON.parse((await client.hear()).slice(1)).at(-1);
    await lose(peal, client);
    return client;
  };
  let old = await lost();
  await fresh({ pid: old.pid, offset: 'an application\'s' }, old);
  old = await lost();
  await fresh({ pid: old.pid, offset: old.offset.slice(0, 8) + old.offset.slice(8).replace(/[\w-]{4}/g, 'AAA_') }, old); // no record there
  old = await lost();
  await fresh({ pid: old.pid, offset: old.offset.slice(0, 2) + 'AAAAAA' + old.offset.slice(8) }, old);
  // the pid of one does not open the session of another namespace
  old = await lost();
  const elsewhere = await engine(t, peal);
  assert.notEqual((await elsewhere.join('/chat', { pid: old.pid, offset: old.offset })).pid, old.pid);
  // its own leaving ends it, and so does the server's
  old = await member(t, peal);
  old.say('1');
  await old.fence();
  await fresh({ pid: old.pid }, old);
  old = await lost();
  await sleep(2100);
  await fresh({ pid: old.pid, offset: old.offset }, old);
  const seen = await recoveries(peal);
  assert.deepEqual(seen, { unknown_pid: 4, unknown_offset: 2, other_host: 1, expired: 1 });
  // expired entries are free again
  await waitFor(async () => (await peal.metrics()).sum('peal_sockets') > 0);
});

test('an overrun history gives a new session, never a hole', { timeout: 90000 }, async (t) => {
  const peal = await start(t, { workers: 2, ring_bytes: '1M', event_bytes_max: '128K', max_message_bytes: 100000, outq_bytes_max: '1M', outq_soft: '256K' });
  const client = await member(t, peal, ['r']);
  await emit(peal, 'e', [], { rooms: ['r'] });
  const offset = JSON.parse((await client.hear()).slice(1)).at(-1);
  await lose(peal, client);
  for (let i = 0; i < 30; i++) await emit(peal, 'm', ['x'.repeat(50000)], { rooms: ['nobody'] });
  const fresh = await back(t, peal, { pid: client.pid, offset });
  assert.notEqual(fresh.sid, client.sid);
  assert.deepEqual(fresh.missed, []);
  assert.deepEqual(await recoveries(peal), { overrun: 1 });
  assert.ok((await peal.metrics()).get('peal_history_seconds') > 0);
});

test('a connection that the server still believes in is taken over, on the same worker and across', async (t) => {
  for (const workers of [1, 3]) {
    const peal = await start(t, { workers });
    let client = await member(t, peal, ['r']);
    const { sid, pid } = client;
    let offset;
    for (let i = 0; i < 4; i++) {
      await emit(peal, 'm', [i], { rooms: ['r'] });
      const event = JSON.parse((await client.hear()).slice(1));
      assert.equal(event[1], i);
      offset = event.at(-1);
      const next = await back(t, peal, { pid, offset });
      assert.deepEqual([next.sid, next.pid, next.missed], [sid, pid, []]);
      await client.readAll(); // the old one has ended
      client = next;
    }
    assert.deepEqual(await recoveries(peal), { recovered: 4 });
    assert.equal((await peal.metrics()).sum('peal_connections'), 1);
  }
});

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) test(`socket.io-client over ${transports}: a lost connection, killed workers, two offline periods in a row, and before the first event`, { timeout: 90000 }, async (t) => {
  const peal = await start(t, { workers: 3 });
  const client = await ioClient(t, peal.url, { transports, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
  const { id } = client;
  const got = [];
  const recovered = [];
  client.on('m', (...args) => got.push(args.slice(0, -1))); // as with Node, handlers see the offset
  client.on('connect', () => recovered.push([client.id === id, client.recovered]));
  assert.deepEqual(await ask(client, 'join', ['r', 's']), { ok: true });
  const again = async (n) => waitFor(() => recovered.length === n, { what: `connection ${n} again` });

  // before the first event, and nothing comes meanwhile: twice
  for (const n of [1, 2]) {
    client.io.engine.close();
    await again(n);
  }
  await emit(peal, 'm', [0], { rooms: ['r'] });
  // What the client has received and not handled when its connection closes it hands out later, and has not said that it has it: wait.
  await waitFor(() => got.length === 1, { what: 'the first event' });
  client.io.engine.close();
  await emit(peal, 'm', [1], { rooms: ['s', 'r'] });
  await again(3);
  // the worker that has it dies, whichever that is, with an event that nobody may have sent
  for (let i = 2; i < 5; i++) {
    const before = recovered.length;
    await emit(peal, 'm', [i], { rooms: ['r'] });
    // A client whose WebSocket is lost while it has paused polling for it notices by the ping timeout only.
    await waitFor(() => client.io.engine.transport.name === transports.at(-1), { timeout: 10000, what: 'the upgrade' });
    for (const { pid } of workersOf(peal)) process.kill(pid, 'SIGKILL');
    await emit(peal, 'm', [10 * i], { rooms: ['r'] });
    await waitFor(() => recovered.length > before, { timeout: 10000, what: 'the client again' });
    await waitFor(() => got.some(([x]) => x === 10 * i), { what: `event ${10 * i}` });
  }
  assert.deepEqual(got, [[0], [1], [2], [20], [3], [30], [4], [40]]);
  assert.ok(recovered.every(([same, yes]) => same && yes), JSON.stringify(recovered));
  assert.deepEqual(await ask(client, 'leave', 'r'), { ok: true });
  client.io.engine.close();
  await emit(peal, 'm', ['left'], { rooms: ['r'] });
  await emit(peal, 'm', ['in'], { rooms: ['s'] });
  await waitFor(() => got.at(-1)[0] === 'in');
  assert.equal(got.length, 9);
});

test('rooms: many of them, long names, from when one joined on', { timeout: 60000 }, async (t) => {
  const peal = await start(t, { workers: 2 });
  const names = Array.from({ length: 60 }, (_, i) => `room ${i} `.padEnd(i % 2 ? 255 : 20, 'é').slice(0, i % 2 ? 130 : 20));
  const client = await member(t, peal);
  await emit(peal, 'm', ['before'], { rooms: [names[0]] });
  for (const [i, name] of names.entries()) {
    client.say(`2${i}["join",${JSON.stringify(name)}]`);
    assert.equal(await client.hear(), `3${i}[{"ok":true}]`);
  }
  for (let i = 0; i < 60; i += 3) {
    client.say(`2${i}["leave",${JSON.stringify(names[i])}]`);
    assert.equal(await client.hear(), `3${i}[{"ok":true}]`);
  }
  for (const { pid } of workersOf(peal)) process.kill(pid, 'SIGKILL');
  for (const [i, name] of names.entries()) await emit(peal, 'm', [i], { rooms: [name] });
  const expected = names.map((_, i) => ['m', i]).filter(([, i]) => i % 3);
  const again = await waitFor(() => back(t, peal, { pid: client.pid }), { timeout: 10000, what: 'a worker' });
  assert.equal(again.sid, client.sid);
  assert.deepEqual(events(again.missed), expected);
  for (const [i, name] of names.entries()) await emit(peal, 'm', [i], { rooms: [name] });
  for (const wanted of expected) assert.deepEqual(events([await again.hear()]), [wanted]);
});

test('namespaces of one connection come back each by itself', async (t) => {
  const peal = await start(t, { workers: 2 });
  const open = () => ioClient(t, peal.url, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
  const root = await open();
  const chat = root.io.socket('/chat');
  chat.connect();
  defer(t, () => chat.disconnect());
  await waitFor(() => root.connected && chat.connected);
  const ids = [root.id, chat.id];
  const got = [];
  root.on('m', (x) => got.push(['/', x]));
  chat.on('m', (x) => got.push(['/chat', x]));
  root.io.engine.close();
  await emit(peal, 'm', [1]);
  await emit(peal, 'm', [2], { namespace: '/chat' });
  await waitFor(() => root.connected && chat.connected && got.length === 2, { what: 'both' });
  assert.deepEqual([root.id, chat.id, root.recovered, chat.recovered], [...ids, true, true]);
  assert.deepEqual(got.sort(), [['/', 1], ['/chat', 2]]);
});

test('Redis: messages and joins of other servers reach who was away; what is published carries no offset', { timeout: 60000 }, async (t) => {
  const redis = await startRedis(t);
  const heard = await recordPublishes(t, redis, 'socket.io#/#*');
  const peal = await start(t, { workers: 2, redis: redis.url });
  const node = await startNodeServer(t, { redis });
  await subscribed(await redisClient(t, redis), '/', 2);
  const remote = await ioClient(t, node.url);
  const remoteGot = [];
  remote.onAny((...args) => remoteGot.push(args));
  const client = await member(t, peal, ['r']);
  // everything that the Node server has published is in the ring
  const watcher = await member(t, peal);
  let fences = 0;
  const fence = async () => {
    await node.run(({ io }, sid, n) => io.to(sid).emit('fence', n), watcher.sid, ++fences);
    for (;;) {
      const [event, n] = JSON.parse((await watcher.nextText()).replace(/^4\d+-?/, ''));
      if (event === 'fence' && n === fences) return;
      if (event === 'b' || (event === 'm' && n === 2)) await watcher.nextFrame();
    }
  };
  await node.run(({ io }) => io.to('r').emit('m', 'text', Buffer.from([9])));
  const offset = JSON.parse((await client.hear()).replace('51-', '')).at(-1);
  assert.match(offset, OFFSET);
  assert.deepEqual([...(await client.nextFrame()).payload], [9]);

  await lose(peal, client);
  await emit(peal, 'm', ['local', 'x']);
  await waitFor(() => remoteGot.some(([, x]) => x === 'local'), { what: 'the way over Redis' });
  assert.deepEqual(remoteGot.filter(([, x]) => x === 'local'), [['m', 'local', 'x']]);
  await node.run(async ({ io }, sid) => {
    io.to('later').emit('m', 'not yet');
    io.in(sid).socketsJoin('later');
    io.in('r').socketsJoin(['by room', 'left']);
    io.in(sid).socketsLeave('left');
    io.to('later').emit('m', 1);
    io.to('left').emit('m', 'left');
    io.to('by room').except('nobody').emit('m', 2, Buffer.from([7]));
    io.to('r').except('later').emit('m', 'excepted');
    io.volatile.to('r').emit('m', 'volatile');
    io.emit('m', 3);
  }, client.sid);
  await fence();
  const again = await back(t, peal, { pid: client.pid, offset });
  assert.equal(again.sid, client.sid);
  assert.deepEqual(events(again.missed.filter((m) => typeof m === 'string').map((m) => m.replace(/^451-/, '42'))), [
    ['m', 'local', 'x'], ['m', 1], ['m', 2, { _placeholder: true, num: 0 }], ['m', 3],
  ]);
  await node.run(({ io }) => io.to('later').emit('m', 4));
  assert.deepEqual(events([await again.hear()]), [['m', 4]]);
  assert.ok(heard.messages.some((m) => m.message.includes('local')));

  // a binary event of ours, as another server hears it
  await node.run(({ io }) => io.socketsJoin('everybody'));
  await fence();
  again.say('51-["publish","everybody","b",{"_placeholder":true,"num":0},"last"]');
  again.send(2, Buffer.from([1]));
  await waitFor(() => remoteGot.some(([e]) => e === 'b'), { what: 'the binary event' });
  const [, bytes, last, ...rest] = remoteGot.find(([e]) => e === 'b');
  assert.deepEqual([[...bytes], last, rest], [[1], 'last', []]);

  // who was disconnected while away is not let back in
  await lose(peal, again);
  await node.run(({ io }, sid) => io.in(sid).disconnectSockets(), client.sid);
  await fence();
  assert.notEqual((await back(t, peal, { pid: client.pid, offset })).sid, client.sid);
  assert.deepEqual(await recoveries(peal), { recovered: 1, disconnected: 1 });
});

test('workers killed one after the other under publishing: everything exactly once, in order', { timeout: 240000 }, async (t) => {
  const full = process.env.PEAL_FULL === '1';
  const n = full ? 300 : 60 / slow;
  const peal = await start(t, { workers: 4 });
  const clients = [];
  while (clients.length < n) {
    const batch = Math.min(20, n - clients.length);
    clients.push(...(await Promise.all(Array.from({ length: batch }, () => ioClient(t, peal.url, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 5000 })))));
  }
  const seen = clients.map((client) => {
    const state = { got: [], pids: new Set([client._pid]), recovered: 0 };
    client.on('m', (x) => state.got.push(x));
    client.on('connect', () => {
      state.pids.add(client._pid);
      state.recovered += client.recovered ? 1 : 0;
    });
    return state;
  });
  await Promise.all(clients.map((client) => ask(client, 'join', 'r')));
  let sent = 0;
  let publishing = true;
  const publisher = (async () => {
    while (publishing) {
      await emit(peal, 'm', [sent++], { rooms: ['r'] });
      await sleep(2);
    }
  })();
  for (let round = 0; round < 2; round++) {
    for (let slot = 0; slot < 4; slot++) {
      await waitFor(() => clients.every((client) => client.connected), { timeout: 20000, what: 'all clients' });
      await sleep(200);
      process.kill((await waitFor(() => workersOf(peal).find((w) => w.slot === slot))).pid, 'SIGKILL');
      await sleep(300);
    }
  }
  publishing = false;
  await publisher;
  await waitFor(() => clients.every((client, i) => client.connected && seen[i].got.at(-1) === sent - 1), { timeout: 20000, what: 'quiet' });
  const wanted = Array.from({ length: sent }, (_, i) => i);
  const kept = seen.filter((state) => state.pids.size === 1);
  t.diagnostic(`${sent} messages, ${seen.reduce((sum, s) => sum + s.recovered, 0)} recoveries, ${kept.length} of ${n} kept their pid`);
  for (const state of kept) assert.deepEqual(state.got, wanted);
  assert.equal(kept.length, n, JSON.stringify(await recoveries(peal)));
  assert.ok(seen.some((state) => state.recovered > 1));
});
