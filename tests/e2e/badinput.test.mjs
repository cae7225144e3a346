// badinput.test.mjs: what no well-behaved client sends. No crash, no leak, no hang; the close code or status that fits; and others are served as before.
// @test parallel timeout=120
//
// Meant for the sanitizers' build above all: the harness fails a test when the log holds a report, or when the exit code (which a leak changes) is not 0.
import assert from 'node:assert/strict';
import { frame, httpRequest, OP, rawConnect, rawWebSocket, readResponse, slow, startPeal, test, upgradeRequest, waitFor } from './lib/index.mjs';
import { ENGINE, OPEN_RELAY, engine, expectClose, sameWorkers, workersOf } from './lib/engine.mjs';

// A peal, and what must hold after whatever was done to it.
async function victim(t, { options = {}, config = OPEN_RELAY } = {}) {
  const peal = await startPeal(t, { options: { workers: 2, echo: true, ...options }, config });
  const workers = workersOf(peal);
  const bystander = await engine(t, peal);
  await bystander.join();
  return {
    peal,
    async mustBeSound() {
      assert.deepEqual(await bystander.fence(), [], 'who did nothing is served');
      assert.equal((await httpRequest(`${peal.url}/livez`)).status, 200);
      sameWorkers(peal, workers);
      peal.checkHealth();
    },
  };
}

const PROTOCOL = [
  ['an unmasked text frame', frame(OP.TEXT, 'x', { mask: false }), 1002],
  ['an unmasked ping', frame(OP.PING, '', { mask: false }), 1002],
  ['an unmasked close', frame(OP.CLOSE, '', { mask: false }), 1002],
  ['RSV1', frame(OP.TEXT, 'x', { rsv: 4 }), 1002],
  ['RSV2', frame(OP.TEXT, 'x', { rsv: 2 }), 1002],
  ['RSV3', frame(OP.PING, 'x', { rsv: 1 }), 1002],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`reserved opcode ${opcode}`, frame(opcode, 'x'), 1002]),
  ['a ping of 126 bytes', frame(OP.PING, Buffer.alloc(126)), 1002],
  ['a pong of 70000 bytes', frame(OP.PONG, Buffer.alloc(70000)), 1002],
  ['a close of 126 bytes', frame(OP.CLOSE, Buffer.alloc(126, 3)), 1002],
  ['a fragmented ping', frame(OP.PING, 'x', { fin: false }), 1002],
  ['a fragmented close', frame(OP.CLOSE, '', { fin: false }), 1002],
  ['a continuation of nothing', frame(OP.CONTINUATION, 'x'), 1002],
  ['a text within a text', Buffer.concat([frame(OP.TEXT, 'x', { fin: false }), frame(OP.TEXT, 'y')]), 1002],
  ['a length of 126 in the 16-bit form of 5', frame(OP.TEXT, 'hello', { form: 16 }), 1002],
  ['a length in the 64-bit form of 5', frame(OP.TEXT, 'hello', { form: 64 }), 1002],
  ['a length of 2^63', frame(OP.TEXT, '', { length: 1n << 63n }).subarray(0, 10), 1002],
  ['a length of 2^64-1', frame(OP.BINARY, '', { length: (1n << 64n) - 1n }).subarray(0, 10), 1002],
  ['a length of 2^63-1', frame(OP.BINARY, '', { length: (1n << 63n) - 1n }).subarray(0, 10), 1009],
  ['a length of 2^32', frame(OP.TEXT, '', { length: 1n << 32n }).subarray(0, 10), 1009],
  ['a length over the limit in a later fragment', Buffer.concat([frame(OP.TEXT, 'x', { fin: false }), frame(OP.CONTINUATION, '', { length: 1000000 }).subarray(0, 10)]), 1009],
  ...[
    ['ff', 'ff'], ['a lone continuation byte', '80'], ['an overlong slash', 'c0af'], ['an overlong NUL', 'e08080'], ['a surrogate', 'eda080'],
    ['beyond U+10FFFF', 'f4908080'], ['five bytes', 'f888808080'], ['a cut character', 'e282'],
  ].map(([name, hex]) => [`bad UTF-8: ${name}`, frame(OP.TEXT, Buffer.concat([Buffer.from('4'), Buffer.from(hex, 'hex')])), 1007]),
  ['bad UTF-8 in a second fragment', Buffer.concat([frame(OP.TEXT, Buffer.from('34e2', 'hex'), { fin: false }), frame(OP.CONTINUATION, Buffer.from('28', 'hex'))]), 1007],
  ['bad UTF-8 before the frame is whole', frame(OP.TEXT, Buffer.from('34ff', 'hex'), { length: 1000 }), 1007],
  ['a close reason that is no UTF-8', frame(OP.CLOSE, Buffer.from('03e8ff', 'hex')), 1007],
  ['a close of one byte', frame(OP.CLOSE, 'x'), 1002],
  ['close code 1005', frame(OP.CLOSE, Buffer.from('03ed', 'hex')), 1002],
];

for (const path of ['/echo', '/ws/public/a', ENGINE]) {
  test(`faults of the framing end with the code that RFC 6455 asks for, at ${path}`, async (t) => {
    const { peal, mustBeSound } = await victim(t);
    await Promise.all(PROTOCOL.map(async ([name, bytes, code]) => {
      const ws = await rawWebSocket(t, peal.port, path);
      if (path === ENGINE) await ws.nextText();
      ws.write(bytes);
      await expectClose(ws, code).catch((error) => {
        throw new Error(`${name}: ${error.message}`);
      });
    }));
    // the same, byte by byte, and with more behind it
    await Promise.all(PROTOCOL.filter(([, bytes]) => bytes.length < 200).map(async ([name, bytes, code]) => {
      const ws = await rawWebSocket(t, peal.port, path);
      if (path === ENGINE) await ws.nextText();
      ws.socket.on('error', () => {});
      await ws.writeSlowly(bytes);
      ws.write(frame(OP.TEXT, 'behind'));
      await expectClose(ws, code).catch((error) => {
        throw new Error(`slowly, ${name}: ${error.message}`);
      });
    }));
    await mustBeSound();
    const m = await peal.metrics();
    assert.ok(m.sum('peal_closes_total', { reason: 'protocol_error' }) > PROTOCOL.length, 'counted');
  });
}

test('Socket.IO packets of every bad kind end the session, and only it', async (t) => {
  const { peal, mustBeSound } = await victim(t);
  const deep = (n) => '['.repeat(n) + ']'.repeat(n);
  const packets = [
    `42${deep(100000)}`, `42["x",${deep(100000)}]`, `42["x",${'{"a":'.repeat(50000)}1${'}'.repeat(50000)}]`, '40{"a":'.repeat(1000),
    '4'.repeat(100000), `42["${'\\u'.repeat(1000)}"]`, `42["\\ud800\\u"]`, '42["x",1e]', '42["x",01]', '42["x",+1]', '42["x",.5]', '42["x",NaN]', '42["x",\'y\']',
    '42["x",]', '42[,"x"]', '42["x"', '42"', '42["a\tb"]', '42["a\u0000b"]', '42\ufeff["x"]x', '45', '45-', '45999999999999999999-["x"]', '451e400-["x"]', '45-1-["x"]', '4599-["x"]',
    `4${'5'.repeat(300)}-["x"]`, '40,', '47', '4a', '4', 'x', '7', '2', '', '4\u0664',
  ];
  await Promise.all(packets.map(async (packet) => {
    const ws = await engine(t, peal);
    await ws.join();
    ws.text(packet);
    await expectClose(ws, null).catch((error) => {
      throw new Error(`${JSON.stringify(packet.slice(0, 60))}: ${error.message}`);
    });
  }));
  // big but fine
  const ws = await engine(t, peal);
  await ws.join();
  for (const packet of [`42["x",${'['.repeat(50)}${']'.repeat(50)}]`, `42["x",${'0'.repeat(1)}.${'1'.repeat(100000)}]`, `42["${'n'.repeat(900000)}"]`,
    `42["x"${',1'.repeat(400000)}]`, `42${'9'.repeat(1000)}["x"]`, `43${'9'.repeat(100000)}[]`, `42["x",${'{"a":1,'.repeat(1)}"b":{}}]`]) {
    ws.text(packet);
    assert.deepEqual(await ws.fence(), [], packet.slice(0, 40));
  }
  await mustBeSound();
});

test('a session sent in single bytes is a session', async (t) => {
  const { peal, mustBeSound } = await victim(t);
  const raw = await rawConnect(t, peal.port);
  await raw.writeSlowly(Buffer.concat([
    Buffer.from(upgradeRequest(ENGINE)), frame(OP.TEXT, '40'), frame(OP.PING, 'p'), frame(OP.TEXT, '421["jo', { fin: false }),
  ]));
  assert.equal((await readResponse(raw)).status, 101);
  await raw.writeSlowly(Buffer.concat([frame(OP.PING, 'q'), frame(OP.CONTINUATION, 'in","r"]')]));
  await raw.writeSlowly(Buffer.concat([frame(OP.TEXT, '451-2["join",{"_placeholder":true,"num":0}]'), frame(OP.BINARY, 'abc')]));
  await raw.readUntil('431[{"ok":true}]');
  await raw.readUntil('432[{"ok":false');
  await mustBeSound();
});

test('sockets that are half closed, or reset in the middle of anything, leave nothing behind', async (t) => {
  const { peal, mustBeSound } = await victim(t);
  const handshake = Buffer.from(upgradeRequest(ENGINE));
  const stages = [
    Buffer.alloc(0), handshake.subarray(0, 1), handshake.subarray(0, 40), handshake.subarray(0, handshake.length - 1), handshake,
    Buffer.concat([handshake, frame(OP.TEXT, '40').subarray(0, 1)]),
    Buffer.concat([handshake, frame(OP.TEXT, '40').subarray(0, 5)]),
    Buffer.concat([handshake, frame(OP.TEXT, '40')]),
    Buffer.concat([handshake, frame(OP.TEXT, '40'), frame(OP.TEXT, '42["x', { fin: false })]),
    Buffer.concat([handshake, frame(OP.TEXT, '40'), frame(OP.TEXT, '452-["x",{"_placeholder":true,"num":0}]')]),
    Buffer.concat([handshake, frame(OP.TEXT, '40'), frame(OP.TEXT, '452-["x",{"_placeholder":true,"num":0}]'), frame(OP.BINARY, Buffer.alloc(50000))]),
    Buffer.concat([handshake, frame(OP.TEXT, '40'), frame(OP.TEXT, '421["join","r"]'), frame(OP.TEXT, '422["publish","r","x"]')]),
    Buffer.concat([handshake, frame(OP.TEXT, '40'), frame(OP.CLOSE, '')]),
    Buffer.concat([handshake, frame(OP.BINARY, '', { length: 900000 })]),
    Buffer.concat([Buffer.from(upgradeRequest('/ws/public/a')), frame(OP.PING, 'x')]),
    Buffer.concat([Buffer.from(upgradeRequest('/echo')), frame(OP.BINARY, Buffer.alloc(300000))]),
  ];
  for (const end of ['end', 'reset', 'destroy']) {
    await Promise.all(stages.flatMap((bytes) => [0, 1, 2].map(async (wait) => {
      const raw = await rawConnect(t, peal.port);
      raw.socket.on('error', () => {});
      await new Promise((resolve) => raw.socket.write(bytes, resolve));
      if (wait === 1) await new Promise((resolve) => setImmediate(resolve));
      if (wait === 2 && bytes.length >= handshake.length) await raw.readUntil('\r\n\r\n').catch(() => {});
      if (end === 'end') raw.end();
      else if (end === 'reset') raw.reset();
      else raw.socket.destroy();
      await raw.readAll();
      raw.socket.destroy();
    })));
  }
  await mustBeSound();
  await waitFor(async () => {
    const m = await peal.metrics();
    return m.sum('peal_connections') === 1 && m.sum('peal_pending_connections') === 0 && m.sum('peal_memory_bytes', { kind: 'inbound' }) === 0;
  }, { what: 'one client, nothing pending, nothing held' });
});

test('slow heads and slow messages end at their timeouts, many at a time', async (t) => {
  const { peal, mustBeSound } = await victim(t, { options: { header_timeout: '600ms', message_timeout: '600ms' } });
  const began = performance.now();
  const slowHeads = Array.from({ length: 60 }, async () => {
    const raw = await rawConnect(t, peal.port);
    raw.socket.on('error', () => {});
    raw.writeSlowly(`GET /livez HTTP/1.1\r\nHost: x\r\n${'X-A: b\r\n'.repeat(400)}`, 20);
    await raw.readAll({ timeout: 5000 });
  });
  const slowMessages = Array.from({ length: 60 }, async (_, i) => {
    const ws = await rawWebSocket(t, peal.port, '/echo');
    ws.socket.on('error', () => {});
    ws.writeSlowly(i % 2 ? frame(OP.TEXT, 'x'.repeat(3000)) : Buffer.concat([frame(OP.TEXT, 'x', { fin: false }), ...Array.from({ length: 400 }, () => frame(OP.CONTINUATION, 'x', { fin: false }))]), 20);
    await ws.readAll({ timeout: 5000 });
  });
  await Promise.all([...slowHeads, ...slowMessages]);
  assert.ok(performance.now() - began < 5000 * slow);
  await mustBeSound();
});

test('idle kept connections end too', async (t) => {
  const { peal, mustBeSound } = await victim(t, { options: { header_timeout: '1s' } });
  const raw = await rawConnect(t, peal.port);
  raw.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.equal((await readResponse(raw)).headers.connection, 'keep-alive');
  assert.equal((await raw.readAll({ timeout: 5000 })).length, 0);
  await mustBeSound();
});

test('header bombs and floods of connections are refused or served, not felt', async (t) => {
  const { peal, mustBeSound } = await victim(t, { options: { header_timeout: '1s' } });
  await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    const raw = await rawConnect(t, peal.port);
    raw.socket.on('error', () => {});
    const line = i % 3 === 0 ? `A${'a'.repeat(3000)}: b\r\n` : i % 3 === 1 ? 'a: b\r\n' : `Cookie: ${'c'.repeat(60000)}\r\n`;
    raw.write(`GET /livez HTTP/1.1\r\nHost: x\r\n${line.repeat(i % 3 === 2 ? 1 : Math.ceil(40000 / line.length))}`);
    assert.equal((await readResponse(raw)).status, 431);
    await raw.readAll();
  }));
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 200 }, async (_, i) => {
      const raw = await rawConnect(t, peal.port);
      raw.socket.on('error', () => {});
      if (i % 4 === 0) raw.write(upgradeRequest(ENGINE));
      if (i % 4 === 1) raw.write(Buffer.alloc(100, i));
      if (i % 2 === 0) raw.reset();
      else raw.socket.destroy();
    }));
  }
  await mustBeSound();
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 1, { what: 'one client left' });
});

test('ten attachments of a megabyte arrive whole, and an eleventh is a parse error', async (t) => {
  const { peal, mustBeSound } = await victim(t);
  const reader = await engine(t, peal);
  const sender = await engine(t, peal);
  await reader.join();
  await sender.join();
  reader.say('21["join","r"]');
  await reader.hear();
  const parts = Array.from({ length: 10 }, (_, i) => Buffer.alloc(1000000, i + 1));
  const holes = parts.map((_, num) => `{"_placeholder":true,"num":${num}}`).join(',');
  sender.say(`510-7["publish","r","big",${holes}]`);
  for (const part of parts) sender.send(OP.BINARY, part);
  assert.equal(await sender.hear({ timeout: 20000 }), '37[{"ok":true}]');
  assert.equal(await reader.hear({ timeout: 20000 }), `510-["big",${holes}]`);
  for (const part of parts) {
    const { opcode, payload } = await reader.nextFrame({ timeout: 20000 });
    assert.ok(opcode === OP.BINARY && payload.equals(part));
  }
  sender.say(`511-["publish","r","big",${holes},1]`);
  await expectClose(sender, null);
  await mustBeSound();
});

test('attachments that never come cost bounded memory: the oldest event goes, counted', async (t) => {
  const { peal, mustBeSound } = await victim(t, { options: { workers: 1, inbound_bytes_total: '1M' } });
  const waiting = [];
  for (let i = 0; i < 6; i++) {
    const ws = await engine(t, peal);
    await ws.join();
    ws.say('52-["x",{"_placeholder":true,"num":0}]');
    ws.send(OP.BINARY, Buffer.alloc(300000, i));
    ws.send(OP.PING, 'taken'); // answered when the attachment has been
    const first = await ws.nextFrame();
    if (first.opcode === OP.PONG) waiting.push(ws);
  }
  for (const ws of waiting.slice(0, 2)) {
    const { code, reason } = await ws.nextClose();
    assert.equal(code, 1013);
    assert.match(reason, /inbound_bytes_total/);
  }
  const last = waiting.at(-1);
  last.send(OP.BINARY, 'the second');
  assert.deepEqual(await last.fence(), [], 'the youngest may finish');
  const m = await peal.metrics();
  assert.ok(m.sum('peal_inbound_evicted_total') >= 2);
  assert.ok(m.sum('peal_memory_bytes', { kind: 'inbound' }) <= 1024 * 1024);
  await mustBeSound();
});

test('an attachment that comes while answers are queued to the brim waits, and is not lost', async (t) => {
  const { peal, mustBeSound } = await victim(t, { options: { workers: 1 } });
  const [reader, sender] = [await engine(t, peal), await engine(t, peal)];
  const floods = await Promise.all(Array.from({ length: 16 }, () => engine(t, peal)));
  for (const ws of [reader, sender, ...floods]) await ws.join();
  reader.say('21["join","r"]');
  await reader.hear();
  sender.say('51-5["publish","r","late",{"_placeholder":true,"num":0}]');
  assert.deepEqual(await reader.fence(), []);
  const [worker] = workersOf(peal);
  const rooms = JSON.stringify(Array.from({ length: 64 }, (_, i) => String.fromCharCode(33 + i)).filter((c) => c !== '"' && c !== '\\'));
  // One turn of the worker gets all of it: appends, after which answers wait for the cursor, then joins and leaves by the thousand, as many as
  // one receive buffer of each connection holds, then the attachment.
  const flood = Buffer.concat([frame(OP.TEXT, '42["publish","nobody","x"]'), frame(OP.TEXT, `42["join",${rooms}]`),
    ...Array.from({ length: 13 }, () => frame(OP.TEXT, `42["leave",${rooms}]`))]);
  assert.ok(flood.length <= 4096);
  process.kill(worker.pid, 'SIGSTOP');
  for (const ws of floods) ws.write(flood);
  await waitFor(() => floods.every(({ socket }) => socket.writableLength === 0), { what: 'the flood sent' });
  sender.send(OP.BINARY, 'payload');
  await waitFor(() => sender.socket.writableLength === 0, { what: 'the attachment sent' });
  process.kill(worker.pid, 'SIGCONT');
  assert.equal(await sender.hear(), '35[{"ok":true}]');
  assert.equal(await reader.hear(), '51-["late",{"_placeholder":true,"num":0}]');
  assert.equal((await reader.nextFrame()).payload.toString(), 'payload');
  await mustBeSound();
});
