// recorded.mjs: transcripts of tests/vectors/, and what stands between them and the server under test: ids, dates, header order, and the
// application. The recorded server echoed; the conformance module of Peal calls the same things by other names, and greets with `auth`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { SEPARATOR, httpConnection, readAnswer } from './polling.mjs';
import { OP, frame } from './raw.mjs';
import { onNode } from './target.mjs';

export function recorded(name) {
  return JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8')).vectors;
}

// A recorded packet of the client, as this server's application understands it.
export function translate(packet) {
  if (onNode) return packet;
  return packet.replace(/^(4(?:2|5[^-]*-)(?:\/[^,]+,)?)([\d ]*)(\s*\[\s*)"echo"/, (_, head, id, open) => `${head}${id}${open}"message${id === '' ? '' : '-with-ack'}"`);
}

// A recorded packet of the server, as this one's application says it.
export const translateBack = (packet) => (onNode ? packet : packet.replace('["echoed"', '["message-back"'));

// The greeting, which the recorded server did not have.
export const isGreeting = (packet) => !onNode && /^42(\/[^,]+,)?\["auth",/.test(packet);

// What of a packet is compared: ids are any 20 characters or more, and JSON is what JavaScript reads: Peal forwards the text of values as it was.
export function masked(packet) {
  const at = packet.search(/[[{]/);
  if (at < 0 || /^b/.test(packet)) return packet;
  let json = packet.slice(at);
  try {
    json = JSON.stringify(JSON.parse(json));
  } catch {
    // a namespace with a bracket in its name
  }
  return (packet.slice(0, at) + json).replace(/"(sid|pid)":"[\w-]{20,}"/g, '"$1":"ID"');
}

// A packet with its attachments, as a client sees it: which of them is sent once or twice, or at all, and in which order, is the server's business.
// next() gives texts and hex: the packet's text first. Gives a text.
export async function meaning(next) {
  const text = await next();
  const parts = /^4[56](\d+)-/.exec(text);
  const attachments = [];
  for (let i = 0; i < Number(parts?.[1] ?? 0); i++) attachments.push((await next()).hex);
  const whole = masked(text);
  if (!parts) return whole;
  const at = whole.indexOf('[');
  const revive = (key, value) => (value?._placeholder === true ? { hex: attachments[value.num] } : value);
  const head = `4${Number(text[1]) - 3}${whole.slice(parts[0].length, at)}`;
  return `${head}${JSON.stringify(JSON.parse(whole.slice(at), revive))}`;
}

// "HTTP/1.1 200 OK\r\n…" as recorded (latin1) → { status, headers, body (UTF-8 text) }
export function parseRecorded(text) {
  const at = text.indexOf('\r\n\r\n');
  const [first, ...lines] = text.slice(0, at).split('\r\n');
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  let bytes = Buffer.from(text.slice(at + 4), 'latin1');
  if (headers['transfer-encoding'] === 'chunked') {
    const parts = [];
    for (let rest = bytes; rest.length > 0; ) {
      const end = rest.indexOf('\r\n');
      const n = Number.parseInt(rest.subarray(0, end).toString('latin1'), 16);
      parts.push(rest.subarray(end + 2, end + 2 + n));
      rest = rest.subarray(end + 2 + n + 2);
    }
    bytes = Buffer.concat(parts);
  }
  return { status: Number(first.split(' ')[1]), headers, body: bytes.toString() };
}

// Headers that are the server's own business: when it answered, how it frames the body, how long it keeps the connection. Whether the
// connection ends is compared.
const OWN = ['date', 'keep-alive', 'transfer-encoding', 'content-length', 'connection'];

function comparedHeaders(headers, ignored) {
  const rest = Object.entries(headers).filter(([name]) => !OWN.includes(name) && !ignored.includes(name));
  // A list of names has no order.
  const value = (name, text) => (name === 'vary' ? text.split(/, */).sort().join(', ') : name === 'set-cookie' ? text.replace(/^(\w+)=[\w-]+/, '$1=ID') : text);
  return { ...Object.fromEntries(rest.map(([name, text]) => [name, value(name, text)])), ends: headers.connection?.toLowerCase() === 'close' };
}

// The answer says what was recorded. ignore: header names; body: false does not look at it. Behind a refusal Peal may end a connection that Node
// keeps: it does not read on behind a body that nobody asked for.
export function sameAnswer(answer, text, what, { ignore = [], body = true } = {}) {
  const wanted = parseRecorded(text);
  const got = { status: answer.status, headers: comparedHeaders(answer.headers, ignore), body: body ? masked(answer.body) : '' };
  const expected = { status: wanted.status, headers: comparedHeaders(wanted.headers, ignore), body: body ? masked(wanted.body) : '' };
  if (wanted.status >= 400 && !expected.headers.ends) got.headers.ends = expected.headers.ends;
  const { bytes, ...shown } = answer;
  assert.deepEqual(got, expected, `${what}: answered ${JSON.stringify(shown)}`);
}

// The bytes of a recorded request for this session: other sid, translated body, its length.
export function requestFor(text, sid) {
  const at = text.indexOf('\r\n\r\n') + 4;
  const body = Buffer.from(text.slice(at), 'latin1').toString();
  const mine = Buffer.from(body.split(SEPARATOR).map(translate).join(SEPARATOR));
  let head = text.slice(0, at);
  if (sid !== undefined) head = head.replace(/([?&]sid=)[\w-]{20}/, `$1${sid}`);
  if (mine.length !== Buffer.byteLength(body)) head = head.replace(/Content-Length: \d+/, `Content-Length: ${mine.length}`);
  return Buffer.concat([Buffer.from(head, 'latin1'), mine]);
}

// One recorded exchange on a connection of its own. A poll's packets are compared one by one: how many of them share a body is a matter
// of time, so GETs are repeated until as many have come; greetings among them are counted.
export async function exchange(t, target, { request, response, sid, what, ...options }) {
  const method = request.slice(0, request.indexOf(' '));
  const once = async () => {
    const connection = await httpConnection(t, target);
    connection.write(requestFor(request, sid));
    return { connection, answer: await readAnswer(connection, { method }) };
  };
  let { connection, answer } = await once();
  const wanted = parseRecorded(response);
  if (method !== 'GET' || wanted.status !== 200 || !/[?&]sid=[\w-]/.test(request)) {
    sameAnswer(answer, response, what, options);
    return { connection, answer };
  }
  sameAnswer(answer, response, what, { ...options, body: false });
  const packets = wanted.body.split(SEPARATOR).map(translateBack);
  const got = [];
  let greetings = 0;
  for (;;) {
    for (const packet of answer.body.split(SEPARATOR)) {
      if (isGreeting(packet)) greetings++;
      else got.push(packet);
    }
    if (got.length >= packets.length) break;
    ({ connection, answer } = await once());
    sameAnswer(answer, response, what, { ...options, body: false });
  }
  assert.deepEqual(got.map(masked), packets.map(masked), `${what}: the packets`);
  return { connection, answer, greetings };
}

// Frames of recorded WebSocket bytes: { first (its first byte), opcode, payload (unmasked), masked }
export function framesOf(hex) {
  const bytes = Buffer.from(hex, 'hex');
  const frames = [];
  for (let at = 0; at < bytes.length; ) {
    const short = bytes[at + 1] & 0x7f;
    const isMasked = bytes[at + 1] >= 0x80;
    let head = at + 2;
    let n = short;
    if (short === 126) {
      n = bytes.readUInt16BE(head);
      head += 2;
    }
    const key = isMasked ? bytes.subarray(head, head + 4) : null;
    if (key) head += 4;
    const payload = Buffer.from(bytes.subarray(head, head + n));
    if (key) for (let i = 0; i < n; i++) payload[i] ^= key[i % 4];
    frames.push({ first: bytes[at], opcode: bytes[at] & 15, payload, masked: isMasked });
    at = head + n;
  }
  return frames;
}

// Recorded bytes of the client: as they were, unless a text in them has another name here.
export function clientFrames(hex) {
  if (onNode || !framesOf(hex).some(({ payload }) => payload.includes('"echo"'))) return Buffer.from(hex, 'hex');
  return Buffer.concat(framesOf(hex).map(({ first, opcode, payload }) => {
    // a beginning of a fragmented text as well
    const text = opcode === OP.TEXT ? translate(payload.toString()) : payload;
    return frame(opcode, text, { fin: first >= 0x80, rsv: (first >> 4) & 7 });
  }));
}

// The next frame of a raw WebSocket that is no greeting.
export async function nextFrame(ws, options) {
  for (;;) {
    const got = await ws.nextFrame(options);
    if (got.opcode !== OP.TEXT || !isGreeting(got.payload.toString())) return got;
  }
}

// The frame is the recorded one; times in an open packet are those of the test.
export function sameFrame(got, expected, what) {
  const text = ({ opcode, payload }) =>
    opcode === OP.TEXT ? masked(translateBack(payload.toString())).replace(/"(pingInterval|pingTimeout)":\d+/g, '"$1":N') : payload.toString('hex');
  // Peal's close frames for faults say why, behind the same code.
  if (expected.opcode === OP.CLOSE) got = { ...got, payload: got.payload.subarray(0, 2) };
  assert.deepEqual({ opcode: got.opcode, payload: text(got), fin: got.fin, masked: got.masked }, { opcode: expected.opcode, payload: text(expected), fin: true, masked: false }, what);
}
