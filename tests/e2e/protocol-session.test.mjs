// protocol-session.test.mjs: sessions over time and at their limits: handshake, heartbeats, timeouts, sizes, fragments. Times are short, @test parallel
// and every wait is for what the server sends; what must not have happened is judged by the order of answers, not by a pause.
import assert from 'node:assert/strict';
import { OP, closePayload, frame, once, rawWebSocket, sleep, startPeal, test, wsClient } from './lib/index.mjs';
import { ENGINE, OPEN_RELAY, engine, expectClose, workersOf } from './lib/engine.mjs';

const now = () => performance.now();

test('the open packet has exactly the five keys, and secret and public ids differ', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, ping_interval: '1500ms', ping_timeout: '700ms', max_message_bytes: 4096 } });
  const one = await engine(t, peal);
  const two = await engine(t, peal);
  assert.match(one.openText, /^0\{"sid":"[\w-]{20,}","upgrades":\[\],"pingInterval":1500,"pingTimeout":700,"maxPayload":4096\}$/);
  const ids = [one.open.sid, two.open.sid, (await one.join()).sid, (await two.join()).sid];
  assert.equal(new Set(ids).size, 4);
  assert.match(ids[2], /^[\w-]{20}$/);
});

test('an answer to CONNECT has the key sid only, and a session may join, leave and join again', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 }, config: OPEN_RELAY });
  const ws = await engine(t, peal);
  const ids = [];
  for (const nsp of ['/', '/chat', '/dyn-1', '/dyn-2']) {
    const answer = await ws.join(nsp, { token: 'x'.repeat(100) });
    assert.deepEqual(Object.keys(answer), ['sid']);
    ids.push(answer.sid);
  }
  assert.equal(new Set(ids).size, 4, 'one id for each namespace');
  ws.say('1/chat,');
  ws.say('1/dyn-1');
  assert.deepEqual(await ws.fence(), [], 'leaving is not answered');
  assert.notEqual((await ws.join('/chat')).sid, ids[1]);
  ws.say('2/dyn-1,["x"]'); // an event to a namespace that was left ends the whole connection
  await expectClose(ws, null);
});

test('/ws is not for Socket.IO, and a refused client may try another namespace', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const ws = await engine(t, peal);
  for (const nsp of ['/ws', '/nope', '/\u00e9😀', '/a"b\\c', `/${'n'.repeat(254)}`, `/${'n'.repeat(5000)}`]) {
    ws.say(`0${nsp},`);
    assert.equal(await ws.hear(), `4${nsp},{"message":"Invalid namespace"}`);
  }
  await ws.join();
});

test('pings come, pongs keep the session, and without one it ends', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, ping_interval: '200ms', ping_timeout: '800ms' } });
  const ws = await engine(t, peal);
  await ws.join();
  let last = now();
  for (let i = 0; i < 4; i++) {
    assert.deepEqual((({ opcode, payload }) => [opcode, payload.toString()])(await ws.nextFrame()), [OP.TEXT, '2']);
    // the first has a phase of its own, half an interval to a whole one; then pingInterval after each pong
    if (i > 0) assert.ok(now() - last >= 180, `a ping after ${now() - last} ms`);
    last = now();
    ws.text('3');
  }
  assert.equal((await ws.nextFrame()).payload.toString(), '2');
  const pinged = now();
  await expectClose(ws, null);
  assert.ok(now() - pinged >= 780, `ended ${now() - pinged} ms after the ping`);
});

test('the first packet after a ping extends the time for the pong, a second does not', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, ping_interval: '100ms', ping_timeout: '1000ms' } });
  const ws = await engine(t, peal);
  await ws.join();
  await ws.nextFrame();
  const pinged = now();
  const later = (ms, packet) => setTimeout(() => ws.text(packet), ms);
  later(600, '42["x"]');
  later(1200, '42["y"]'); // beyond the first limit: that it arrives at all shows the extension
  later(1250, '40/ask,');
  assert.match(await ws.nextText(), /^44\/ask,/);
  await expectClose(ws, null);
  const took = now() - pinged;
  assert.ok(took >= 1580 && took < 2180, `ended ${took} ms after the ping: 600 + 1000, not 1200 + 1000`);
});

test('a plain WebSocket is pinged with ping frames, and ends without pongs', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, ping_interval: '100ms', ping_timeout: '800ms', echo: true } });
  const silenced = ['/echo', '/ws/public/a'].map(async (path) => {
    const ws = await rawWebSocket(t, peal.port, path);
    for (let i = 0; i < 2; i++) {
      const { opcode, payload } = await ws.nextFrame();
      assert.equal(opcode, OP.PING);
      ws.send(OP.PONG, payload);
    }
    assert.equal((await ws.nextFrame()).opcode, OP.PING);
    assert.equal((await ws.nextFrame()).opcode, OP.CLOSE);
    await ws.readAll();
  });
  const client = await wsClient(t, `${peal.wsUrl}/echo`); // the real thing answers by itself
  for (let i = 0; i < 3; i++) await once(client, 'ping');
  assert.equal(client.readyState, client.OPEN);
  await Promise.all(silenced);
});

test('a session that joins no namespace in time ends; one that joined and left stays', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, connect_timeout: '1s' } });
  const stays = await engine(t, peal);
  await stays.join();
  stays.say('1');
  const refused = await engine(t, peal);
  refused.say('0/nope,');
  assert.match(await refused.hear(), /^4\/nope/);
  const silent = await engine(t, peal);
  const began = now();
  await Promise.all([expectClose(refused, null), expectClose(silent, null)]);
  assert.ok(now() - began >= 900);
  assert.deepEqual(await stays.fence(), []);
});

test('a message of exactly the limit passes, one byte more is 1009 with a reason', async (t) => {
  const max = 3000;
  const peal = await startPeal(t, { options: { workers: 1, max_message_bytes: max, echo: true }, config: OPEN_RELAY });
  const ws = await rawWebSocket(t, peal.port, '/echo');
  const body = 'é'.repeat(max / 2);
  ws.text(body);
  assert.equal((await ws.nextFrame()).payload.toString(), body);
  // in fragments, with control frames between them, and an empty one
  ws.send(OP.TEXT, Buffer.from(body).subarray(0, 1001), { fin: false }); // cuts a character in two
  ws.send(OP.PING, 'between');
  ws.send(OP.CONTINUATION, '', { fin: false });
  ws.send(OP.CONTINUATION, Buffer.from(body).subarray(1001, 2000), { fin: false });
  ws.send(OP.PONG, 'unasked');
  ws.send(OP.CONTINUATION, Buffer.from(body).subarray(2000));
  const pong = await ws.nextFrame();
  assert.deepEqual([pong.opcode, pong.payload.toString()], [OP.PONG, 'between']);
  const whole = await ws.nextFrame();
  assert.deepEqual([whole.opcode, whole.fin, whole.payload.toString()], [OP.TEXT, true, body]);
  ws.send(OP.BINARY, Buffer.alloc(max, 7));
  assert.equal((await ws.nextFrame()).payload.length, max);

  const over = await rawWebSocket(t, peal.port, '/echo');
  over.text('x'.repeat(max + 1));
  await expectClose(over, 1009, { reason: /max_message_bytes/ });
  const sum = await rawWebSocket(t, peal.port, '/echo');
  sum.send(OP.BINARY, Buffer.alloc(max - 1), { fin: false });
  sum.send(OP.CONTINUATION, Buffer.alloc(2));
  await expectClose(sum, 1009, { reason: /max_message_bytes/ });
  const early = await rawWebSocket(t, peal.port, '/echo');
  early.write(frame(OP.TEXT, '', { length: max + 1 }).subarray(0, 8)); // its header is enough
  await expectClose(early, 1009, { reason: /max_message_bytes/ });

  // Socket.IO: the limit counts the packet's text, the 4 included; attachments one by one
  const io = await engine(t, peal);
  await io.join();
  const event = (n) => `42["x","${'y'.repeat(n - 10)}"]`;
  assert.equal(event(max).length, max);
  io.text(event(max));
  assert.deepEqual(await io.fence(), []);
  io.text(event(max + 1));
  await expectClose(io, 1009, { reason: /max_message_bytes/ });
  const attached = await engine(t, peal);
  await attached.join();
  attached.say('51-0["join",{"_placeholder":true,"num":0}]');
  attached.send(OP.BINARY, Buffer.alloc(max));
  assert.match(await attached.hear(), /^30\[\{"ok":false/);
  attached.say('51-["x",{"_placeholder":true,"num":0}]');
  attached.send(OP.BINARY, Buffer.alloc(max + 1));
  await expectClose(attached, 1009);
});

test('an event with its attachments over event_bytes_max is 1009 with a reason', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, max_message_bytes: 10000, event_bytes_max: 25000, outq_bytes_max: 30000, outq_soft: 30000 }, config: OPEN_RELAY });
  const ws = await engine(t, peal);
  await ws.join();
  ws.say('52-7["join",{"_placeholder":true,"num":1}]');
  for (let i = 0; i < 2; i++) ws.send(OP.BINARY, Buffer.alloc(10000));
  assert.match(await ws.hear(), /^37\[/);
  ws.say('53-["x"]');
  for (let i = 0; i < 3; i++) ws.send(OP.BINARY, Buffer.alloc(10000));
  await expectClose(ws, 1009, { reason: /event_bytes_max/ });
});

test('a close frame is answered with its code, and queued answers go before it', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  for (const [payload, code] of [['', null], [closePayload(1000), 1000], [closePayload(1001, 'going'), 1001], [closePayload(3000, 'é'), 3000], [closePayload(4999), 4999]]) {
    const ws = await rawWebSocket(t, peal.port, '/echo');
    ws.write(Buffer.concat([frame(OP.TEXT, 'last words'), frame(OP.CLOSE, payload), frame(OP.TEXT, 'never seen')]));
    assert.equal((await ws.nextFrame()).payload.toString(), 'last words');
    await expectClose(ws, code);
  }
  for (const [payload, code] of [[Buffer.from([3]), 1002], [closePayload(1005), 1002], [closePayload(1006), 1002], [closePayload(999), 1002],
    [closePayload(5000), 1002], [closePayload(1000, Buffer.from([0xff])), 1007]]) {
    const ws = await rawWebSocket(t, peal.port, '/echo');
    ws.send(OP.CLOSE, payload);
    await expectClose(ws, code);
  }
  const client = await wsClient(t, `${peal.wsUrl}/echo`);
  const closed = once(client, 'close');
  client.close(4001, 'bye');
  assert.equal((await closed)[0], 4001);
});

test('the first subprotocol offered is the answer, and an extension is not', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  for (const path of [ENGINE, '/echo', '/ws/public/a']) {
    const ws = await rawWebSocket(t, peal.port, path, { headers: { 'Sec-WebSocket-Protocol': 'graphql-ws , b', 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' } });
    assert.equal(ws.response.headers['sec-websocket-protocol'], 'graphql-ws');
    assert.equal(ws.response.headers['sec-websocket-extensions'], undefined);
    assert.equal((await rawWebSocket(t, peal.port, path)).response.headers['sec-websocket-protocol'], undefined);
  }
  const client = await wsClient(t, `${peal.wsUrl}/echo`, { protocols: ['one', 'two'] });
  assert.equal(client.protocol, 'one');
});

test('messages of every size of the length field are echoed whole, text and binary, many in one segment', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  const client = await wsClient(t, `${peal.wsUrl}/echo`);
  const sizes = [0, 1, 125, 126, 127, 65535, 65536, 300000, 1000000];
  for (const size of sizes) client.send(Buffer.alloc(size, size % 251));
  for (const size of sizes.slice(0, 7)) client.send('ü'.repeat(size >> 1));
  client.send('end');
  while (!client.messages.some(({ data, isBinary }) => !isBinary && data.toString() === 'end')) await once(client, 'message');
  sizes.forEach((size, i) => {
    assert.ok(client.messages[i].isBinary);
    assert.ok(client.messages[i].data.equals(Buffer.alloc(size, size % 251)), `${size} bytes`);
  });
  const raw = await rawWebSocket(t, peal.port, '/echo');
  raw.write(Buffer.concat(Array.from({ length: 500 }, (_, i) => frame(OP.TEXT, `m${i}`))));
  for (let i = 0; i < 500; i++) assert.equal((await raw.nextFrame()).payload.toString(), `m${i}`);
});

// The worker has no CPU for a second (SIGSTOP; the watchdog waits for two), and the pong lies in the kernel until long after its time.
test('a worker that comes back to its clients late does not take them for silent', { timeout: 30000 }, async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, ping_interval: '200ms', ping_timeout: '300ms' } });
  const [worker] = workersOf(peal);
  const ws = await engine(t, peal);
  await ws.join();
  for (let i = 0; i < 3; i++) {
    assert.equal((await ws.nextFrame()).payload.toString(), '2');
    process.kill(worker.pid, 'SIGSTOP');
    ws.text('3');
    await sleep(800);
    process.kill(worker.pid, 'SIGCONT');
  }
  const metrics = await peal.metrics();
  assert.equal(metrics.sum('peal_closes_total'), 0);
});
