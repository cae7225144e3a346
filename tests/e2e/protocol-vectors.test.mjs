// protocol-vectors.test.mjs: what was recorded with the real Node server, replayed byte by byte: same answers, same closes. @test parallel timeout=60
//
// The recorded server had handlers (`echo`, `askme`, refusing middleware). Peal's applications are others, so of such vectors only
// what the protocol decides is looked at; whole vectors that are about a handler's answer are named in SKIPPED, with the test that stands
// for them.
import assert from 'node:assert/strict';
import { OP, ioClient, rawWebSocket, startPeal, test, waitFor } from './lib/index.mjs';
import { ENGINE, OPEN_RELAY, engine, expectClose, vectors } from './lib/engine.mjs';

const SKIPPED = {
  'connect-denied': 'needs a middleware that refuses: no application of this build does',
  'connect-denied-no-data': 'the same',
  'connect-denied-then-retry': 'the same; that a refused client may try again is in protocol-session',
  'connect-dynamic-no': 'a pattern here is a prefix, /dyn-*, not an expression',
  'ack-roundtrip': 'a server that asks: only Redis and modules do',
  'ack-no-payload': 'the same',
  'binary-ack': 'the same',
};
// Acknowledgements of `echo`: replayed below with `join`, which answers too.
const ACKNOWLEDGED = ['event-ack', 'event-ack-zero', 'event-chat-ack', 'event-huge-id', 'event-space-in-id', 'event-id-leading-zero',
  'event-whitespace-json', 'binary-event-ack', 'binary-chat'];
// Values that `echo` sends back: published below to a real client, which must end up with the same.
const CARRIED = ['event', 'event-proto-key', 'event-duplicate-key', 'event-escapes', 'event-lone-surrogate', 'binary-event', 'binary-swapped',
  'binary-same-twice', 'binary-unused', 'binary-nested', 'binary-empty-attachment', 'binary-count-exp', 'binary-ten', 'placeholder-in-text-event'];

const asText = (text) => text.replace(/"sid":"[\w-]{20}"/, '"sid":"ID"');

async function replay(t, peal, vector) {
  const ws = await engine(t, peal);
  for (const { send, got } of vector.steps) {
    if (typeof send === 'string') ws.text(send);
    else ws.send(OP.BINARY, Buffer.from(send.hex, 'hex'));
    for (const expected of got) {
      if (typeof expected === 'string' && !/^4[0-2]\[?"?echoed|^42\["echoed|^43|^45|^46/.test(expected)) assert.equal(asText(await ws.nextText()), asText(expected), vector.name);
      else if (expected.op === OP.CLOSE) {
        await expectClose(ws, null);
        return;
      }
    }
  }
  assert.equal(vector.closed, false, vector.name);
  // Nothing more has come, and the session is as good as before. A header that waits for its attachments cannot be asked that way.
  const last = vector.steps.at(-1);
  assert.deepEqual(await ws.fence(), [], `${vector.name}: after ${JSON.stringify(last.send)}`);
}

test('every packet recorded with Node is answered, refused or ignored alike', async (t) => {
  const peal = await startPeal(t, { config: '[namespace "/"]\n[namespace "/chat"]\n[namespace "/dyn-*"]\n' });
  const all = vectors('socketio-packets');
  const named = new Set(all.map(({ name }) => name));
  for (const name of [...Object.keys(SKIPPED), ...ACKNOWLEDGED, ...CARRIED]) assert.ok(named.has(name), `${name} is not among the vectors`);
  let n = 0;
  for (const vector of all) {
    if (SKIPPED[vector.name] || vector.steps.some(({ send }) => typeof send === 'string' && send.includes('"askme"'))) continue;
    await replay(t, peal, vector);
    n++;
  }
  assert.equal(n, all.length - Object.keys(SKIPPED).length);
});

test('an acknowledgement carries the id that JavaScript reads', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 }, config: OPEN_RELAY.replace('[namespace "/chat"]', '[namespace "/chat"]\napp = relay\nclient_join = yes') });
  for (const vector of vectors('socketio-packets').filter(({ name }) => ACKNOWLEDGED.includes(name))) {
    const ws = await engine(t, peal);
    for (const { send, got } of vector.steps) {
      if (typeof send === 'string') ws.text(send.replace(/"echo".*\]/s, '"join","r"]'));
      else ws.send(OP.BINARY, Buffer.from(send.hex, 'hex'));
      for (const expected of got.filter((one) => typeof one === 'string')) {
        const answer = expected.replace(/^(4)[36](?:\d+-)?(.*?)\[.*$/s, (_, four, head) => `${four}3${head}[{"ok":true}]`);
        assert.equal(asText(await ws.nextText()), asText(answer), vector.name);
      }
    }
  }
});

test('what was echoed then reaches another client now, value by value', async (t) => {
  const peal = await startPeal(t, { config: OPEN_RELAY });
  const reader = await ioClient(t, peal.url);
  const got = [];
  reader.on('echoed', (...args) => got.push(args));
  await new Promise((resolve) => reader.emit('join', 'r', resolve));
  for (const vector of vectors('socketio-packets').filter(({ name }) => CARRIED.includes(name))) {
    const ws = await engine(t, peal);
    for (const { send, got: answers } of vector.steps) {
      if (typeof send === 'string') ws.text(send.replace('"echo"', '"publish","r","echoed"'));
      else ws.send(OP.BINARY, Buffer.from(send.hex, 'hex'));
      for (const answer of answers) if (typeof answer === 'string' && answer.startsWith('40')) await ws.nextText();
    }
    await waitFor(() => got.length > 0, { what: vector.name });
    assert.deepEqual(plain(got.pop()), echoedArguments(vector), vector.name);
  }
});

// Buffers as hex, prototypes left alone.
function plain(value) {
  if (Buffer.isBuffer(value)) return `hex:${value.toString('hex')}`;
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  return value;
}

// What the recorded answer means to a client.
function echoedArguments(vector) {
  const answers = vector.steps.flatMap(({ got }) => got);
  const text = answers.find((one) => typeof one === 'string' && one.includes('"echoed"'));
  const parts = answers.filter((one) => one.op === OP.BINARY).map(({ hex }) => `hex:${hex}`);
  const binary = text[1] === '5';
  const revive = (key, value) => (binary && value?._placeholder === true ? parts[value.num] : value);
  return JSON.parse(text.slice(text.indexOf('[')), revive).slice(1);
}

// --- websocket.json: raw bytes ---

const SKIPPED_BYTES = {
  'deflate-on': 'Peal agrees on no context takeover, Node keeps it: deflate.test.mjs',
  'server-disconnect': 'needs a handler that disconnects',
  'server-disconnect-close': 'the same',
  'server-close': 'a shutdown: tested with the drain',
};
// Timing vectors use pingInterval 100 and pingTimeout 80: the order is the same with longer times, which a busy machine keeps as well.
const LONGER = 6;
const OPTIONS = { pingInterval: ['ping_interval', 'ms'], pingTimeout: ['ping_timeout', 'ms'], connectTimeout: ['connect_timeout', 'ms'], maxHttpBufferSize: ['max_message_bytes', ''] };

function optionsOf(vector) {
  const options = { workers: 1 };
  for (const [key, value] of Object.entries(JSON.parse(vector.options ?? '{}'))) if (OPTIONS[key]) options[OPTIONS[key][0]] = OPTIONS[key][1] ? `${value * LONGER}${OPTIONS[key][1]}` : value;
  return options;
}

// Server frames of a transcript, as texts: { opcode, text } ; the client's bytes as they were.
function framesOf(hex) {
  const bytes = Buffer.from(hex, 'hex');
  const frames = [];
  for (let at = 0; at < bytes.length; ) {
    const short = bytes[at + 1] & 0x7f;
    const head = short === 126 ? 4 : 2;
    const n = short === 126 ? bytes.readUInt16BE(at + 2) : short;
    frames.push({ opcode: bytes[at] & 15, payload: bytes.subarray(at + head, at + head + n) });
    at += head + n;
  }
  return frames;
}

// But for the id and the times, an open packet is the same text.
const same = (payload) => payload.toString().replace(/"sid":"[\w-]+"/, '').replace(/"(pingInterval|pingTimeout)":\d+/g, '$1');

async function replayBytes(t, peal, vector) {
  const request = vector.transcript[0].text.split('\r\n').slice(1).filter((line) => /^Sec-WebSocket-(Protocol|Extensions)/.test(line));
  const ws = await rawWebSocket(t, peal.port, ENGINE, { lines: request });
  const answer = vector.transcript[1].text;
  assert.equal(ws.response.headers['sec-websocket-protocol'], /Sec-WebSocket-Protocol: (.*)\r/.exec(answer)?.[1], vector.name);
  assert.equal(ws.response.headers['sec-websocket-extensions'], undefined, vector.name);
  for (const { dir, hex } of vector.transcript.slice(2)) {
    if (dir === 'c>') ws.write(Buffer.from(hex, 'hex'));
    if (dir !== 's>') continue;
    for (const expected of framesOf(hex)) {
      if (expected.payload.toString().includes('"echoed"') || /^43/.test(expected.payload.toString())) continue; // the handler's
      const frame = await ws.nextFrame();
      assert.equal(frame.opcode, expected.opcode, `${vector.name}: ${frame.payload} instead of ${expected.payload}`);
      assert.equal(frame.masked, false);
      assert.equal(frame.fin, true);
      // Peal's close frames for faults say why, behind the same code.
      if (frame.opcode === OP.CLOSE) assert.deepEqual(frame.payload.subarray(0, 2), expected.payload, vector.name);
      else assert.equal(same(frame.payload), same(expected.payload), vector.name);
    }
  }
  if (vector.socketClosed) assert.equal((await ws.readAll()).length, 0, `${vector.name}: bytes after the close frame`);
  else {
    ws.send(OP.PING, 'alive?');
    for (;;) {
      const { opcode, payload } = await ws.nextFrame();
      if (opcode === OP.PONG) break;
      assert.equal(payload.toString(), '2', vector.name);
    }
  }
}

test('every exchange of bytes recorded with Node goes alike', async (t) => {
  const groups = new Map();
  for (const vector of vectors('websocket')) {
    if (SKIPPED_BYTES[vector.name]) continue;
    const options = JSON.stringify(optionsOf(vector));
    groups.set(options, [...(groups.get(options) ?? []), vector]);
  }
  await Promise.all([...groups].map(async ([options, group]) => {
    const peal = await startPeal(t, { options: JSON.parse(options) });
    for (const vector of group) await replayBytes(t, peal, vector);
  }));
});
