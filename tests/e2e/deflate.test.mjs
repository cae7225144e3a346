// deflate.test.mjs: permessage-deflate: what is agreed on, one compressed copy for all, and what clients send compressed. @test parallel timeout=240
import assert from 'node:assert/strict';
import { deflateRawSync, inflateRawSync, constants } from 'node:zlib';
import { OP, ask, collect, frame, httpRequest, ioClient, rawConnect, rawWebSocket, readResponse, redisClient, startNodeServer, startPeal, startRedis, test, upgradeRequest, waitFor, wsClient } from './lib/index.mjs';
import { ENGINE, OPEN_RELAY, engine, expectClose, sameWorkers, workersOf } from './lib/engine.mjs';
import { subscribed } from './lib/cluster.mjs';

const CONFIG = `${OPEN_RELAY}\n[ws]\nclient_join = yes\nclient_publish = any\n`;
const OFFER = { lines: ['Sec-WebSocket-Extensions: permessage-deflate'] };
const AGREED = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const RSV1 = 4;
const TAIL = Buffer.from([0, 0, 0xff, 0xff]);

const start = (t, options = {}) => startPeal(t, { config: CONFIG, options: { deflate: 'yes', echo: 'yes', ...options } });
const pack = (text) => deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
const unpack = (payload) => inflateRawSync(Buffer.concat([payload, TAIL]), { finishFlush: constants.Z_SYNC_FLUSH });
const sized = (n, seed = 0) => JSON.stringify(Array.from({ length: 4000 }, (_, i) => ({ id: i + seed, name: `player ${(i * 7919 + seed) % 1000}`, alive: i % 3 === 0 }))).slice(0, n);
const copies = async (peal) => (await peal.metrics()).get('peal_deflate_copies_total');
const deflateClients = async (peal, n) => waitFor(async () => (await peal.metrics()).sum('peal_deflate_clients') === n, { what: `${n} clients with permessage-deflate` });

async function emit(peal, event, args, { rooms, namespace = '/' } = {}) {
  const answer = await httpRequest(`${peal.adminUrl}/api/emit`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ namespace, rooms, event, args }) });
  assert.equal(answer.status, 200, answer.body);
}

test('the answer to an offer, at all three endpoints', async (t) => {
  const peal = await start(t);
  const cases = [
    ['permessage-deflate', AGREED],
    ['permessage-deflate; client_max_window_bits', AGREED],
    ['permessage-deflate; client_max_window_bits="9"; server_no_context_takeover', AGREED],
    ['permessage-deflate; server_max_window_bits=15', `${AGREED}; server_max_window_bits=15`],
    ['permessage-deflate; server_max_window_bits=12', undefined],
    ['permessage-deflate; server_max_window_bits=12, permessage-deflate', AGREED],
    ['permessage-deflate; what=ever', undefined],
    ['x-webkit-deflate-frame', undefined],
  ];
  for (const path of [ENGINE, '/ws/room', '/echo']) {
    for (const [offer, answer] of cases) {
      const ws = await rawWebSocket(t, peal.port, path, { lines: [`Sec-WebSocket-Extensions: ${offer}`] });
      assert.equal(ws.response.headers['sec-websocket-extensions'], answer, `${path} ${offer}`);
      ws.reset();
    }
    const two = await rawWebSocket(t, peal.port, path, { lines: ['Sec-WebSocket-Extensions: permessage-deflate; no=1', 'sec-websocket-extensions: permessage-deflate; client_max_window_bits'] });
    assert.equal(two.response.headers['sec-websocket-extensions'], AGREED);
    const raw = await rawConnect(t, peal.port);
    raw.write(upgradeRequest(path, { host: `127.0.0.1:${peal.port}`, lines: ['Sec-WebSocket-Extensions: permessage-deflate; =15'] }));
    const refused = await readResponse(raw);
    assert.equal(refused.status, 400, path);
    assert.match(refused.body, /Sec-WebSocket-Extensions/);
  }
});

test('off by default: nothing is agreed on, and RSV1 ends the connection', async (t) => {
  const peal = await startPeal(t, { options: { echo: 'yes' } });
  const ws = await rawWebSocket(t, peal.port, '/echo', OFFER);
  assert.equal(ws.response.headers['sec-websocket-extensions'], undefined);
  ws.send(OP.TEXT, pack('x'), { rsv: RSV1 });
  await expectClose(ws, 1002);
  const odd = await rawWebSocket(t, peal.port, '/echo', { lines: ['Sec-WebSocket-Extensions: ;;;'] });
  assert.equal(odd.response.status, 101, 'nobody looks at it');
  assert.ok(!(await peal.metrics()).has('peal_deflate_copies_total'));
});

test('the package ws with its options, and plain clients beside it, get equal messages in one order on all workers', async (t) => {
  const peal = await start(t, { workers: 3 });
  const forms = [true, { clientMaxWindowBits: 10 }, { serverNoContextTakeover: true, clientNoContextTakeover: true }, { serverMaxWindowBits: 15, threshold: 0 }, false, false];
  const members = await Promise.all([...forms, ...forms].map((perMessageDeflate) => wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate })));
  for (const [i, member] of members.entries()) assert.equal(member.extensions, forms[i % forms.length] ? 'permessage-deflate' : '');
  await deflateClients(peal, 8);
  const sent = [];
  for (let i = 0; i < 60; i++) {
    const message = i % 7 === 3 ? Buffer.from(sized(3000, i)) : i % 3 === 0 ? `short ${i}` : sized(1024 + i * 500, i);
    sent.push(message.toString());
    members[i % 2 === 0 ? 0 : 5].send(message);
  }
  await waitFor(() => members.every(({ messages }, i) => messages.length === (i === 0 || i === 5 ? 30 : 60)), { what: 'all messages at all members', timeout: 15000 });
  const order = members[1].messages.map(({ data }) => data.toString());
  assert.deepEqual([...order].sort(), [...sent].sort());
  for (const [i, { messages }] of members.entries()) {
    const own = new Set(sent.filter((_, k) => (i === 0 ? k % 2 === 0 : i === 5 && k % 2 === 1)));
    assert.deepEqual(messages.map(({ data }) => data.toString()), order.filter((text) => !own.has(text)), `member ${i}`);
  }
  const metrics = await peal.metrics();
  assert.equal(metrics.get('peal_deflate_copies_total') + metrics.sum('peal_deflate_skipped_total'), sent.filter((text) => text.length >= 1024).length, 'once each');
  assert.ok(metrics.get('peal_deflate_bytes_total', { form: 'deflated' }) < metrics.get('peal_deflate_bytes_total', { form: 'plain' }) / 2);
  assert.ok(metrics.get('peal_inflated_total') > 0);
});

test('the frames: compressed from the threshold on, RSV1 on those only, and a copy only where somebody can use it', async (t) => {
  const peal = await start(t, { deflate_threshold: 500 });
  const plain = await rawWebSocket(t, peal.port, '/ws/room');
  const sender = await rawWebSocket(t, peal.port, '/ws/room?room=other');
  sender.text(sized(600));
  assert.equal((await plain.nextFrame()).rsv, 0);
  assert.equal(await copies(peal), 0, 'nobody here takes it');
  const elsewhere = await engine(t, peal, OFFER);
  await elsewhere.join();
  await deflateClients(peal, 1);
  sender.text(sized(600));
  assert.equal((await plain.nextFrame()).rsv, 0);
  assert.equal(await copies(peal), 0, 'nobody in the namespace');
  const packed = await rawWebSocket(t, peal.port, '/ws/room', OFFER);
  for (const [opcode, text, compressed] of [[OP.TEXT, sized(499), false], [OP.TEXT, sized(500), true], [OP.BINARY, sized(9000), true], [OP.TEXT, '', false], [OP.TEXT, sized(200000), true], [OP.TEXT, 'x', false]]) {
    sender.send(opcode, text);
    const [a, b] = [await plain.nextFrame(), await packed.nextFrame()];
    assert.deepEqual([a.rsv, b.rsv, a.opcode, b.opcode, b.fin, b.masked], [0, compressed ? RSV1 : 0, opcode, opcode, true, false]);
    assert.equal(a.payload.toString(), text);
    assert.equal((compressed ? unpack(b.payload) : b.payload).toString(), text);
    assert.ok(!compressed || b.payload.length < text.length / 2);
  }
  assert.equal(await copies(peal), 3);
  sender.send(OP.BINARY, Buffer.from(Array.from({ length: 4000 }, () => Math.floor(Math.random() * 256)))); // does not get smaller
  assert.equal((await packed.nextFrame()).rsv, 0);
  assert.equal((await peal.metrics()).get('peal_deflate_skipped_total', { reason: 'no_gain' }), 1);
  packed.send(OP.PING, 'x'.repeat(100));
  assert.equal((await packed.nextFrame()).rsv, 0, 'a control frame');
  packed.reset();
  elsewhere.reset();
  await deflateClients(peal, 0);
  sender.text(sized(600));
  await plain.nextFrame();
  await plain.nextFrame();
  assert.equal(await copies(peal), 3, 'the last one has gone');
});

test('Socket.IO: socket.io-client with perMessageDeflate, attachments, acknowledgements, and an upgrade from polling', async (t) => {
  const peal = await start(t, { workers: 2 });
  const perMessageDeflate = { threshold: 100 };
  const packed = await ioClient(t, peal.url, { perMessageDeflate });
  const upgraded = await ioClient(t, peal.url, { perMessageDeflate, transports: ['polling', 'websocket'] });
  const polling = await ioClient(t, peal.url, { transports: ['polling'] });
  const plain = await ioClient(t, peal.url, { perMessageDeflate: false });
  const all = [packed, upgraded, polling, plain];
  await waitFor(() => upgraded.io.engine.transport.name === 'websocket');
  await deflateClients(peal, 2);
  for (const socket of all) assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
  const got = collect(all, 'm');
  const values = [JSON.parse(sized(5000).replace(/,[^}]*$/, ']')), { text: sized(20000), binary: Buffer.from(sized(3000)), small: Buffer.from([1, 2, 3]) }, 'short', [Buffer.alloc(70000, 'ab'), sized(1500)]];
  const sender = await ioClient(t, peal.url, { perMessageDeflate });
  for (const value of values) assert.deepEqual(await ask(sender, 'publish', 'r', 'm', value), { ok: true });
  await waitFor(() => got.every((list) => list.length === values.length), { what: 'all events at all four', timeout: 10000 });
  for (const list of got) assert.deepEqual(list.map(([value]) => value), values);
  const metrics = await peal.metrics();
  assert.equal(metrics.get('peal_deflate_copies_total'), 3);
  assert.ok(metrics.get('peal_inflated_total') >= 5);
});

test('one copy for the members of all workers, also when one of them is killed', async (t) => {
  const peal = await start(t, { workers: 3 });
  const open = () => Promise.all(Array.from({ length: 6 }, () => wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate: true })));
  const members = await open();
  await deflateClients(peal, 6);
  await emit(peal, 'message', [sized(2000)], { rooms: ['room'], namespace: '/ws' });
  await waitFor(() => members.every(({ messages }) => messages.length === 1));
  assert.equal(await copies(peal), 1);
  const victim = workersOf(peal)[1];
  process.kill(victim.pid, 'SIGKILL');
  await waitFor(() => members.filter(({ readyState }) => readyState === 3).length === 2, { what: 'the two of the killed worker to go' });
  await deflateClients(peal, 4);
  await waitFor(() => workersOf(peal).length === 3 && workersOf(peal)[1].pid !== victim.pid, { what: 'a successor' });
  await emit(peal, 'message', [sized(2001)], { rooms: ['room'], namespace: '/ws' });
  await waitFor(() => members.filter(({ messages }) => messages.length === 2).length === 4);
  for (const member of members) member.terminate();
  await deflateClients(peal, 0);
  await emit(peal, 'message', [sized(2002)], { rooms: ['room'], namespace: '/ws' });
  assert.equal(await copies(peal), 2, 'what the dead worker had counted is withdrawn');
});

test('through Redis: a Node server\'s message is compressed by the bridge, and compress(false) by nobody', async (t) => {
  const redis = await startRedis(t);
  const peal = await start(t, { workers: 2, redis: redis.url });
  const node = await startNodeServer(t, { redis });
  const packed = await engine(t, peal, OFFER);
  const plain = await engine(t, peal);
  await packed.join();
  await plain.join();
  await deflateClients(peal, 1);
  await subscribed(await redisClient(t, redis), '/', 2);
  const next = async (ws) => {
    for (;;) {
      const got = await ws.nextFrame({ timeout: 10000 });
      if (got.payload.toString() === '2') ws.text('3');
      else return got;
    }
  };
  const text = sized(3000);
  await node.run(({ io }, value) => io.emit('m', value), text);
  const [a, b] = [await next(packed), await next(plain)];
  assert.deepEqual([a.rsv, b.rsv], [RSV1, 0]);
  assert.equal(unpack(a.payload).toString(), b.payload.toString());
  assert.equal(b.payload.toString(), `42${JSON.stringify(['m', text])}`);
  assert.equal(await copies(peal), 1);
  await node.run(({ io }, value) => io.compress(false).emit('m', value), text);
  assert.equal((await next(packed)).rsv, 0);
  assert.equal(await copies(peal), 1);
  await node.run(({ emitter }, value) => emitter.compress(false).emit('m', value), text);
  assert.equal((await next(packed)).rsv, 0);
  await node.run(({ emitter }, value) => emitter.emit('m', value), text);
  assert.equal((await next(packed)).rsv, RSV1);
  assert.equal(await copies(peal), 2);
});

test('recovery: the offset is in the compressed copy, and what was missed comes compressed', async (t) => {
  const peal = await start(t, { recovery: '1m' });
  const packed = await engine(t, peal, OFFER);
  const plain = await engine(t, peal);
  const { pid, sid } = await packed.join();
  await plain.join();
  await deflateClients(peal, 1);
  let offset;
  for (const text of [sized(2000), 'short', sized(70000), sized(1024)]) {
    await emit(peal, 'm', [text]);
    const [a, b] = [await packed.nextFrame(), await plain.nextFrame()];
    const [whole, same] = [a.rsv === RSV1 ? unpack(a.payload).toString() : a.payload.toString(), b.payload.toString()];
    assert.deepEqual([a.rsv, b.rsv], [text.length >= 1024 ? RSV1 : 0, 0]);
    assert.equal(whole, same);
    const [name, value, last] = JSON.parse(whole.slice(2));
    assert.deepEqual([name, value, /^[\w-]{32}$/.test(last), last === offset], ['m', text, true, false]);
    offset = last;
  }
  packed.reset();
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 1, { what: 'the loss to be noticed' });
  const spare = await engine(t, peal, OFFER); // there is somebody to compress for
  await spare.join();
  await emit(peal, 'm', [sized(5000)]);
  await emit(peal, 'm', ['little']);
  const again = await engine(t, peal, OFFER);
  again.say(`0${JSON.stringify({ pid, offset })}`);
  const first = await again.nextFrame();
  assert.equal(first.rsv, RSV1);
  assert.deepEqual(JSON.parse(unpack(first.payload).toString().slice(2)).slice(0, 2), ['m', sized(5000)]);
  const second = await again.nextFrame();
  assert.deepEqual([second.rsv, JSON.parse(second.payload.toString().slice(2))[1]], [0, 'little']);
  assert.equal(JSON.parse((await again.hear()).slice(1)).sid, sid);
  // and the real client goes on with it
  const client = await ioClient(t, peal.url, { perMessageDeflate: true, reconnection: true, reconnectionDelay: 50 });
  const got = collect([client], 'm')[0];
  await emit(peal, 'm', [sized(6000)]);
  await waitFor(() => got.length === 1);
  client.io.engine.transport.ws.terminate();
  await waitFor(() => !client.connected);
  await emit(peal, 'm', [sized(7000)]);
  await waitFor(() => client.connected && got.length === 2, { timeout: 10000 });
  assert.deepEqual([client.recovered, got[1][0]], [true, sized(7000)]);
});

test('a client that reads slowly gets every message, compressed, from its queue', async (t) => {
  const peal = await start(t, { workers: 2, ring_bytes: '16M', event_bytes_max: '3M' });
  const slowly = [await rawWebSocket(t, peal.port, '/ws/room', OFFER), await rawWebSocket(t, peal.port, '/ws/room')];
  const fast = await wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate: true });
  await deflateClients(peal, 2);
  for (const ws of slowly) ws.pause();
  const sent = [];
  const noise = Array.from({ length: 30000 }, () => Math.floor(Math.random() * 1e9)).join(',');
  for (let i = 0; i < 160; i++) {
    const text = `${i}:${noise.slice((i * 911) % 100000, ((i * 911) % 100000) + 60000)}`;
    sent.push(text);
    await emit(peal, 'message', [text], { rooms: ['room'], namespace: '/ws' });
    // A quarter of this small ring is what a worker without a CPU may miss before queues lose what they hold.
    if (i % 20 === 19) await waitFor(() => fast.messages.length === i + 1, { timeout: 20000 });
  }
  await waitFor(async () => (await peal.metrics()).sum('peal_outq_bytes') > 0, { what: 'queues', timeout: 10000 });
  for (const ws of slowly) ws.resume();
  let compressed = 0;
  for (const text of sent) {
    const [a, b] = [await slowly[0].nextFrame({ timeout: 20000 }), await slowly[1].nextFrame({ timeout: 20000 })];
    compressed += a.rsv === RSV1;
    assert.equal((a.rsv === RSV1 ? unpack(a.payload) : a.payload).toString(), text);
    assert.deepEqual([b.rsv, b.payload.toString() === text], [0, true]);
  }
  const metrics = await peal.metrics();
  assert.equal(compressed, metrics.get('peal_deflate_copies_total'));
  assert.ok(compressed > 0);
});

test('compressed messages in every form, and what is refused', async (t) => {
  const peal = await start(t, { max_message_bytes: 100000, workers: 1 });
  const before = workersOf(peal);
  const open = (path = '/echo') => rawWebSocket(t, peal.port, path, OFFER);
  const echo = await open();
  const echoed = async () => (await echo.nextFrame()).payload.toString();
  const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
  // RFC 7692 section 7.2.3
  for (const bytes of ['f2 48 cd c9 c9 07 00', '00 05 00 fa ff 48 65 6c 6c 6f 00', 'f3 48 cd c9 c9 07 00 00', 'f2 48 05 00 00 00 ff ff ca c9 c9 07 00', 'f3 48 cd c9 c9 07 00']) {
    echo.send(OP.TEXT, hex(bytes), { rsv: RSV1 });
    assert.equal(await echoed(), 'Hello', bytes);
  }
  for (const bytes of ['00', '']) {
    echo.send(OP.BINARY, hex(bytes), { rsv: RSV1 });
    assert.equal(await echoed(), '');
  }
  const text = `grüße 😀 ${sized(90000)}`;
  const whole = pack(text);
  echo.send(OP.TEXT, whole, { rsv: RSV1 });
  assert.equal(await echoed(), text);
  echo.text('not compressed');
  assert.equal(await echoed(), 'not compressed');
  // in pieces that cut characters and blocks, with an empty fragment, and a control frame in between
  for (const step of [1, 7, 1000]) {
    const part = step === 1 ? pack('grüße') : whole;
    for (let at = 0; at < part.length; at += step) {
      echo.send(at === 0 ? OP.TEXT : OP.CONTINUATION, part.subarray(at, at + step), { rsv: at === 0 ? RSV1 : 0, fin: false });
      if (at === 0) echo.send(OP.PING, 'between');
    }
    echo.send(OP.CONTINUATION, '', { fin: true });
    assert.equal((await echo.nextFrame()).opcode, OP.PONG);
    assert.equal(await echoed(), step === 1 ? 'grüße' : text);
  }
  const refused = [
    ['RSV1 on a continuation', 1002, (ws) => [ws.send(OP.TEXT, whole.subarray(0, 10), { rsv: RSV1, fin: false }), ws.send(OP.CONTINUATION, whole.subarray(10), { rsv: RSV1 })]],
    ['RSV1 on a ping', 1002, (ws) => ws.send(OP.PING, pack('x'), { rsv: RSV1 })],
    ['RSV1 on a close', 1002, (ws) => ws.send(OP.CLOSE, '', { rsv: RSV1 })],
    ['RSV2', 1002, (ws) => ws.send(OP.TEXT, pack('x'), { rsv: 6 })],
    ['RSV3', 1002, (ws) => ws.send(OP.TEXT, 'x', { rsv: 1 })],
    ['no deflate data', 1007, (ws) => ws.send(OP.BINARY, hex('07ffff'), { rsv: RSV1 })],
    ['cut off', 1007, (ws) => ws.send(OP.BINARY, whole.subarray(0, 5000), { rsv: RSV1 })],
    ['text that is not UTF-8', 1007, (ws) => ws.send(OP.TEXT, pack(Buffer.from([0x61, 0xff])), { rsv: RSV1 })],
    ['a character cut off', 1007, (ws) => ws.send(OP.TEXT, pack(Buffer.from('ü').subarray(0, 1)), { rsv: RSV1 })],
    ['a bomb', 1009, (ws) => ws.send(OP.BINARY, pack(Buffer.alloc(50e6)), { rsv: RSV1 })],
    ['a bomb in pieces', 1009, (ws) => [ws.send(OP.BINARY, pack(Buffer.alloc(100001)).subarray(0, 20), { rsv: RSV1, fin: false }), ws.send(OP.CONTINUATION, pack(Buffer.alloc(100001)).subarray(20))]],
    ['too much as it comes', 1009, (ws) => ws.send(OP.BINARY, Buffer.alloc(100001), { rsv: RSV1 })],
  ];
  for (const [what, code, send] of refused) {
    const ws = await open();
    send(ws);
    await expectClose(ws, code).catch((error) => assert.fail(`${what}: ${error.message}`));
  }
  echo.send(OP.BINARY, pack(Buffer.alloc(100000)), { rsv: RSV1 });
  assert.equal((await echo.nextFrame()).payload.length, 100000, 'the limit itself');
  // Socket.IO and rooms alike
  const sio = await engine(t, peal, OFFER);
  await sio.join();
  sio.send(OP.TEXT, pack('421["join","r"]'), { rsv: RSV1 });
  assert.equal(await sio.hear(), '31[{"ok":true}]');
  sio.send(OP.TEXT, pack('4'.repeat(200000)), { rsv: RSV1 });
  await expectClose(sio, 1009);
  const metrics = await peal.metrics();
  assert.deepEqual(['corrupt', 'too_big', 'utf8', 'memory'].map((reason) => metrics.get('peal_inflate_errors_total', { reason })), [2, 3, 2, 0]);
  assert.equal(metrics.get('peal_closes_total', { reason: 'too_big' }), 4);
  sameWorkers(peal, before);
});

// A turn commits 256 records at most; what comes beyond is kept, decompressed, until the next one.
test('a compressed message that has to wait for its turn is kept, and comes once', async (t) => {
  const peal = await start(t, { workers: 1 });
  const before = workersOf(peal);
  const reader = await wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate: true });
  const senders = await Promise.all(Array.from({ length: 4 }, () => rawWebSocket(t, peal.port, '/ws/room', OFFER)));
  for (const [k, sender] of senders.entries()) {
    sender.write(Buffer.concat(Array.from({ length: 1000 }, (_, i) => frame(OP.TEXT, pack(`${k}:${i}`), { rsv: RSV1 }))));
  }
  await waitFor(() => reader.messages.length === 4000, { timeout: 30000, what: () => `4000 messages, there are ${reader.messages.length}` });
  const texts = reader.messages.map(({ data }) => data.toString());
  for (const k of senders.keys()) assert.deepEqual(texts.filter((text) => text.startsWith(`${k}:`)), Array.from({ length: 1000 }, (_, i) => `${k}:${i}`));
  sameWorkers(peal, before);
});

test('compressing has a budget: beyond it messages go as they are', async (t) => {
  const peal = await start(t, { workers: 1, deflate_threshold: 0 });
  const reader = await wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate: true });
  const sender = await wsClient(t, `${peal.wsUrl}/ws/room`, { perMessageDeflate: false });
  await deflateClients(peal, 1);
  const big = Array.from({ length: 60000 }, () => Math.floor(Math.random() * 1e9)).join(' ').slice(0, 500000);
  let metrics;
  for (let sent = 0; sent === 0 || (metrics.get('peal_deflate_skipped_total', { reason: 'budget' }) === 0 && sent < 1000);) {
    for (let i = 0; i < 40; i++) sender.send(big);
    sent += 40;
    await waitFor(() => reader.messages.length === sent, { timeout: 30000 });
    metrics = await peal.metrics();
  }
  assert.ok(reader.messages.every(({ data }) => data.toString() === big));
  assert.ok(metrics.get('peal_deflate_skipped_total', { reason: 'budget' }) > 0);
  assert.ok(metrics.get('peal_deflate_copies_total') > 0);
  assert.ok(metrics.get('peal_deflate_seconds_total') > 0);
});
