// polling-vectors.test.mjs: what was recorded with the real server and the real client, replayed: the same answers, ids, dates and header order
// aside. Differences that are meant are in DIFFERENT and SKIPPED, with their reason. PEAL_TEST_TARGET=node replays all of it against the real
// server. @test parallel no-asan timeout=120
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { OP, slow, test } from './lib/index.mjs';
import { staysPending } from './lib/engine.mjs';
import { HANDSHAKE, ask, httpConnection, isError, isPoll, pollingSession, readAnswer, settle } from './lib/polling.mjs';
import { webSocketOver } from './lib/raw.mjs';
import { clientFrames, exchange, framesOf, isGreeting, masked, meaning, nextFrame, parseRecorded, recorded, requestFor, sameAnswer, sameFrame, translate, translateBack } from './lib/recorded.mjs';
import { onNode, startTarget } from './lib/target.mjs';

const CLIENT_FILES = fileURLToPath(new URL('../node_modules/socket.io/client-dist', import.meta.url));
// Recorded times were those of an idle machine: the order of things is the same with longer ones.
const LONGER = 6 * slow;

// Not replayed, on either server.
const SKIPPED = {
  forbidden: 'allowRequest is a function of the application; what Peal refuses by origin is in protocol-http',
  'forbidden-no-message': 'the same',
  'forbidden-ws': 'the same',
  recovery: 'state recovery has tests of its own',
  'recovery-refused': 'the same',
  'deflate-on': 'permessage-deflate has tests of its own',
  'server-close': 'a shutdown: tested with the drain',
};

// Peal answers otherwise, for a reason: not replayed against Peal, but what it does instead is asserted below or in the file named.
const DIFFERENT = {
  'connect-error-middleware': 'the conformance module refuses nobody; refusals by modules are tested with the module API',
  'connect-denied': 'the same',
  'connect-denied-no-data': 'the same',
  'connect-denied-then-retry': 'the same',
  'connect-dynamic-no': 'a pattern of namespaces is a prefix, /dyn-*, not an expression',
  'ack-from-client': 'the conformance module asks nobody; acknowledgements towards modules are tested with the module API',
  'ack-roundtrip': 'the same',
  'ack-no-payload': 'the same',
  'binary-ack': 'the same',
  'invalid-origin': 'no header may hold a control character: protocol-http',
  'options-no-cors': 'a foreign Origin is refused by `origins`; without one the answer is the same: protocol-http',
  'event-whitespace-json': 'arguments are forwarded as they were written, white space included',
  'event-duplicate-key': 'the same',
  'event-big-number': 'the same',
  'ws-no-eio': 'refused before the 101, as the handbook has it, not after it',
  'ws-version-12': 'version 8 is not spoken, so it is not offered: protocol-http',
  'ws-other-path': '404 at once instead of silence for a second: protocol-http',
  'cors-string': 'cors_origin is always a list: who is not on it gets no header',
  'cookie-custom': 'only the name of the cookie can be chosen',
  'eio3-handshake': 'EIO 3 is not built: refused with code 5',
  'eio3-b64': 'the same',
  jsonp: 'JSONP is not built: refused with code 5',
};

const wanted = (vector) => !SKIPPED[vector.name] && (onNode || !DIFFERENT[vector.name]);

test('every name that is not replayed is one of the vectors', () => {
  const names = new Set(['http-polling', 'http-errors-and-options', 'websocket', 'client-sessions', 'socketio-packets'].flatMap((file) => recorded(file).map(({ name }) => name)));
  for (const name of [...Object.keys(SKIPPED), ...Object.keys(DIFFERENT)]) assert.ok(names.has(name), name);
});

// ---- http-polling.json ------------------------------------------------------------------------------------------------

// On Peal the application cannot send these by itself: the client asks it to.
async function makeServerSay(s, event) {
  if (onNode) return s.say(`42${event}`);
  await s.say('42["join","me"]');
  const [name, n] = JSON.parse(event);
  if (name === 'big') return s.say(`42["to","me","big","${'x'.repeat(n)}"]`);
  return s.say('42["to","me","a",1]', '451-["to","me","b",{"_placeholder":true,"num":0}]', 'bAQID', '42["to","me","c","€😀"]');
}

async function joined(t, target) {
  const s = await pollingSession(t, target);
  const { sid } = await s.join();
  s.socketId = sid;
  if (!onNode) assert.ok(isGreeting(await s.hear()), 'the module greets');
  return s;
}

// The recorded GET and its answer, which is not compared with the packets of others.
async function pollLike(t, target, s, { request, response, end }, what) {
  if (response === '') {
    const held = await s.hold({ wait: false });
    assert.ok(await staysPending(held.answer, 200), `${what}: ${end}`);
    return;
  }
  await exchange(t, target, { request, response, sid: s.sid, what });
}

test('http-polling: a session, packet by packet', async (t) => {
  const target = await startTarget(t, { app: 'recorded' });
  const all = recorded('http-polling');
  const byName = Object.fromEntries(all.map((vector) => [vector.name, vector]));
  await exchange(t, target, { ...byName.handshake, what: 'handshake' });
  const s = await pollingSession(t, target);
  let socketId;
  let greetings = onNode ? 0 : 2; // of "/" and "/chat"
  const session = all.slice(1, all.findIndex(({ name }) => name === 'gzip-poll'));
  assert.equal(session.length, 18);
  for (const { name, request, response } of session) {
    if (request.includes('42["three"]')) {
      await makeServerSay(s, '["three"]');
      continue;
    }
    const { answer, greetings: n = 0 } = await exchange(t, target, { request, response, sid: s.sid, what: name });
    greetings -= n;
    socketId ??= /^40\{"sid":"([\w-]{20})"/.exec(answer.body)?.[1];
  }
  for (; greetings > 0; greetings--) assert.ok(isGreeting(await s.hear()), 'a greeting that has not come yet');

  await makeServerSay(s, '["big",3000]');
  const big = await s.get({ headers: { 'Accept-Encoding': 'gzip, deflate, br' } });
  sameAnswer(big, byName['gzip-poll'].responseHead, 'gzip-poll', { body: false });
  assert.equal(gunzipSync(big.bytes).toString(), `42["big","${'x'.repeat(3000)}"]`);
  await makeServerSay(s, '["big",900]');
  const small = await s.get({ headers: { 'Accept-Encoding': 'gzip, deflate' } });
  sameAnswer(small, byName['below-threshold-poll'].responseHead, 'below-threshold-poll', { body: false });
  assert.equal(small.headers['content-length'], '912');

  const { response, after } = byName['server-disconnect-close'];
  const held = await s.hold();
  await target.disconnect(null, { id: socketId, close: true });
  const first = await held.answer;
  sameAnswer(first, response, 'server-disconnect-close', { body: false });
  const packets = first.body.split('\x1e');
  if (packets.length < 2) {
    const second = await s.get();
    sameAnswer(second, after.response, 'server-disconnect-close, the next GET', { body: false });
    packets.push(...second.body.split('\x1e'));
  }
  assert.deepEqual(packets.sort(), ['41', '41/chat,'], 'each namespace is told');
});

test('http-polling: heartbeat and its end', async (t) => {
  const target = await startTarget(t, { app: 'recorded', workers: 1, pingInterval: 150 * LONGER, pingTimeout: 100 * LONGER });
  const byName = Object.fromEntries(recorded('http-polling').map((vector) => [vector.name, vector]));
  const s = await pollingSession(t, target);
  const begin = performance.now();
  await exchange(t, target, { ...byName['ping-poll'], sid: s.sid, what: 'ping-poll' });
  // Peal spreads first pings over the second half of the interval.
  assert.ok(performance.now() - begin > 150 * LONGER * (onNode ? 0.8 : 0.4), 'held until the ping');
  await exchange(t, target, { ...byName['pong-post'], sid: s.sid, what: 'pong-post' });
  isPoll(await s.get(), '2');
  isPoll(await s.get(), '1');
  await exchange(t, target, { ...byName['ping-timeout'], sid: s.sid, what: 'ping-timeout' });
});

// A recorded WebSocket conversation: requests with this sid, frames compared. Gives the connection.
// before: what has to be waited for before the client says that it switches.
async function converse(t, target, entries, sid, what, before = null) {
  const connection = await httpConnection(t, target);
  let ws = null;
  for (const [i, { dir, text, hex }] of entries.entries()) {
    const where = `${what}, entry ${i}`;
    if (dir === 'c>' && text !== undefined) connection.write(requestFor(text, sid));
    else if (dir === 'c>') {
      if (framesOf(hex)[0].payload.toString() === '5') await before;
      connection.write(clientFrames(hex));
    } else if (dir === 's>' && text !== undefined) {
      const answer = await readAnswer(connection);
      sameAnswer(answer, text, where);
      if (answer.status === 101) ws = webSocketOver(connection, answer);
    } else if (dir === 's>') for (const expected of framesOf(hex)) sameFrame(await nextFrame(ws), expected, where);
  }
  return { connection, ws };
}

test('http-polling: upgrades, whole and faulty', async (t) => {
  const target = await startTarget(t, { app: 'recorded', upgradeTimeout: 150 * LONGER });
  for (const vector of recorded('http-polling').filter(({ name }) => name.startsWith('upgrade'))) {
    const s = await joined(t, target);
    const held = vector.pendingGet ? await s.hold() : null;
    const { ws } = await converse(t, target, vector.webSocket, s.sid, vector.name, held?.answer);
    if (held) sameAnswer(await held.answer, vector.pendingGet.response, `${vector.name}: the pending GET`);
    if (vector.closed) assert.equal((await ws.readAll()).length, 0, `${vector.name}: the end after the close frame`);
    if (vector.pollAfterUpgrade) await pollLike(t, target, s, vector.pollAfterUpgrade, `${vector.name}: a poll afterwards`);
    if (vector.secondWebSocketAfterUpgrade) await converse(t, target, vector.secondWebSocketAfterUpgrade, s.sid, `${vector.name}: a second WebSocket`);
    if (vector.sessionAfter) await pollLike(t, target, s, vector.sessionAfter, `${vector.name}: the session afterwards`);
  }
});

// ---- http-errors-and-options.json ---------------------------------------------------------------------------------------

// The options of a vector, as each server takes them.
function optionsOf(vector) {
  const { cleanupEmptyChildNamespaces, allowRequest, ...options } = JSON.parse(vector.options ?? '{}');
  if (onNode) {
    if (options.cors?.origin instanceof Array) options.cors.origin = options.cors.origin.map((one) => (one.startsWith('/') ? new RegExp(one.slice(1, -1)) : one));
    return { node: options };
  }
  const peal = { workers: 2 };
  const { cors, cookie, path, transports, maxHttpBufferSize, serveClient } = options;
  if (path) peal.path = path;
  if (cookie === true) peal.cookie = 'io';
  if (cors?.origin === '*') peal.origins = '*';
  else if (cors) {
    // Whoever is let in, these get the headers. An expression is written out.
    peal.cors_origin = [cors.origin].flat().map((one) => (one.startsWith('/') ? 'http://b.example' : one)).join(',');
    peal.origins = 'http://a.example,http://b.example,http://evil.example';
    if (cors.credentials) peal.cors_credentials = true;
  }
  if (vector.name === 'client-file' || vector.clientFile) peal.client_files = serveClient === false ? null : CLIENT_FILES;
  return { peal, transports, maxHttpBufferSize };
}

const overlap = {
  async 'get-overlap'(t, target, s, { first, second }) {
    const held = await s.hold();
    sameAnswer(await s.get(), second.response, 'get-overlap: the second');
    sameAnswer(await held.answer, first.response, 'get-overlap: the first');
  },
  async 'post-overlap'(t, target, s, { second }) {
    const first = await httpConnection(t, target);
    first.write(`POST ${s.url} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n42`);
    await settle();
    await exchange(t, target, { ...second, sid: s.sid, what: 'post-overlap: the second' });
    assert.equal((await first.readAll()).length, 0, 'post-overlap: the first gets no answer');
  },
  async 'get-cancelled'(t, target, s) {
    const held = await s.hold();
    held.connection.reset();
    await settle();
    await s.get(); // an overlap if the loss has not been noticed: closed then as well
  },
  async 'post-close-packet'(t, target, s, { get, post }) {
    const held = await s.hold();
    await exchange(t, target, { ...post, sid: s.sid, what: 'post-close-packet' });
    sameAnswer(await held.answer, get.response, 'post-close-packet: the pending GET');
  },
};

const special = {
  async 'too-large-post'(t, target, vector) {
    const s = await joined(t, target);
    await exchange(t, target, { ...vector, sid: s.sid, what: vector.name });
    await pollLike(t, target, s, vector.after, 'too-large-post: the session afterwards');
  },
  async 'exact-size-post'(t, target, vector) {
    const s = await joined(t, target);
    // The event has a longer name on Peal: as many bytes fewer of its argument.
    const longer = onNode ? 0 : 'message'.length - 'echo'.length;
    await exchange(t, target, { ...vector, request: vector.request.replace('x'.repeat(longer + 1), 'x'), sid: s.sid, what: vector.name });
    assert.equal(translateBack('42["echoed"').length + 87 - longer + 4, (await s.hear()).length);
  },
  async 'cors-list'(t, target, vector) {
    for (const part of ['get', 'refused', 'noOrigin', 'error']) await exchange(t, target, { ...vector[part], what: `cors-list: ${part}` });
    // methods, allowedHeaders and maxAge are not options of Peal: the defaults.
    const ignore = onNode ? [] : ['access-control-allow-methods', 'access-control-allow-headers', 'access-control-max-age', 'vary'];
    const { answer } = await exchange(t, target, { ...vector.preflight, what: 'cors-list: preflight', ignore });
    if (!onNode) {
      assert.equal(answer.headers['access-control-allow-methods'], 'GET,HEAD,PUT,PATCH,POST,DELETE');
      assert.match(answer.headers.vary, /Origin/);
    }
    const file = await ask(t, target, 'GET', '/socket.io/socket.io.min.js', { headers: { Origin: 'http://a.example' } });
    sameAnswer(file, vector.clientFile, 'cors-list: a client file', { body: false, ignore: ['etag'] });
  },
  async 'cors-ws'(t, target, vector) {
    // cors_origin is a list: the recorded Origin is not on it.
    const mine = (entry) => (!onNode && entry.text ? { ...entry, text: entry.text.replace('http://evil.example', 'http://a.example') } : entry);
    await converse(t, target, vector.transcript.map(mine), undefined, vector.name);
  },
  async 'cookie-ws'(t, target, vector) {
    await converse(t, target, vector.transcript, undefined, vector.name);
  },
  async cookie(t, target, vector) {
    const { answer } = await exchange(t, target, { ...vector, what: 'cookie' });
    const { sid } = JSON.parse(answer.body.slice(1));
    assert.equal(answer.headers['set-cookie'], `io=${sid}; Path=/; HttpOnly; SameSite=Lax`);
    await exchange(t, target, { ...vector.later, sid, what: 'cookie: later' });
  },
  async 'cookie-custom'(t, target, vector) {
    await exchange(t, target, { ...vector, what: 'cookie-custom' });
  },
  async 'other-path'(t, target, { rt, old }) {
    await exchange(t, target, { ...rt, what: 'other-path' });
    // The 404 is whoever's serves the rest.
    const answer = await ask(t, target, 'GET', HANDSHAKE);
    assert.equal(answer.status, parseRecorded(old.response).status);
  },
  async 'client-file'(t, target, { plain, map, notModified, unknownFile }) {
    // The tag is the server's own; a client file may be sent as it is whatever encodings are accepted.
    const ignore = ['etag'];
    const get = (path, headers) => ask(t, target, 'GET', path, { headers });
    const min = await get('/socket.io/socket.io.min.js');
    sameAnswer(min, plain.head, 'client-file', { body: false, ignore });
    for (const [name, type] of [['socket.io.js', 'javascript'], ['socket.io.min.js', 'javascript'], ['socket.io.esm.min.js', 'javascript'], ['socket.io.msgpack.min.js', 'javascript'],
      ['socket.io.js.map', 'json'], ['socket.io.min.js.map', 'json'], ['socket.io.esm.min.js.map', 'json'], ['socket.io.msgpack.min.js.map', 'json']]) {
      const file = await get(`/socket.io/${name}`, { 'If-None-Match': '"nope"' });
      sameAnswer(file, type === 'json' ? map.head : plain.head, name, { body: false, ignore });
      assert.ok(file.bytes.equals(readFileSync(`${CLIENT_FILES}/${name}`)), `${name} is the file`);
      const { etag } = file.headers;
      assert.match(etag, /^"[^"]+"$/);
      for (const tag of [etag, `W/${etag}`]) sameAnswer(await get(`/socket.io/${name}?x=1`, { 'If-None-Match': tag }), notModified.head, `${name} with ${tag}`, { ignore });
    }
    const zipped = await get('/socket.io/socket.io.min.js', { 'Accept-Encoding': 'gzip' });
    const bytes = zipped.headers['content-encoding'] === 'gzip' ? gunzipSync(zipped.bytes) : zipped.bytes;
    assert.ok(bytes.equals(readFileSync(`${CLIENT_FILES}/socket.io.min.js`)), 'with Accept-Encoding');
    sameAnswer(await get('/socket.io/other.js'), unknownFile.head, 'an unknown file', { body: false });
    for (const path of ['/socket.io/../socket.io.js', '/socket.io/%2e%2e/package.json', '/socket.io/x/socket.io.js', '/socket.io/package.json', '/socket.io/.hidden'])
      assert.notEqual((await get(path)).status, 200, path);
  },
  async 'eio3-handshake'(t, target, { open }) {
    const { connection, answer } = await exchange(t, target, { ...open, what: 'eio3-handshake' }).catch((error) => ({ error }));
    assert.ok(connection && answer, 'only Node can, and only if it is told to');
  },
  async jsonp(t, target, { handshake }) {
    const answer = await ask(t, target, 'GET', `${HANDSHAKE}&j=3`);
    assert.equal(answer.status, parseRecorded(handshake.response).status);
  },
  async 'ws-other-path'(t, target) {
    const connection = await httpConnection(t, target);
    connection.write('GET /other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n');
    assert.equal((await connection.readAll()).length, 0);
  },
};

// Four servers at a time: what takes long is that each of them ends orderly.
async function sideBySide(items, fn) {
  const rest = [...items];
  const work = async () => {
    while (rest.length > 0) await fn(rest.shift());
  };
  await Promise.all(Array.from({ length: 4 }, work));
}

// A vector that is one request and its bytes.
async function plain(t, target, vector) {
  const { request, response, end, name } = vector;
  const s = /[?&]sid=[\w-]{20}/.test(request) && !/sid=A{20}/.test(request) ? await joined(t, target) : null;
  if (name.startsWith('ws-')) {
    const connection = await httpConnection(t, target);
    connection.write(requestFor(request, s?.sid));
    const answer = await readAnswer(connection);
    const [first, ...rest] = response.split(/(?<=\r\n\r\n)(?=HTTP)/);
    sameAnswer(answer, first, name, { body: answer.status !== 101 });
    if (name === 'ws-transport-polling') assert.equal((await connection.read(2)).toString('hex'), '8800');
    else assert.equal((await connection.readAll()).toString('latin1'), rest.join(''), name);
    return;
  }
  if (name === 'path-without-slash') {
    // The 404 is whoever's serves the rest of the paths.
    const { pathname, search } = new URL(request.split(' ')[1], 'http://x');
    assert.equal((await ask(t, target, 'GET', pathname + search)).status, parseRecorded(response).status, name);
    return;
  }
  const { connection } = await exchange(t, target, { request, response, sid: s?.sid, what: name });
  if (end === 'closed by server') await connection.readAll();
}

test('http-errors-and-options: each request gets the recorded answer', async (t) => {
  const groups = new Map();
  for (const vector of recorded('http-errors-and-options').filter(wanted)) {
    const key = JSON.stringify([vector.options, vector.name === 'client-file']);
    groups.set(key, [...(groups.get(key) ?? []), vector]);
  }
  await sideBySide([...groups.values()], async (vectors) => {
    const target = await startTarget(t, { app: 'recorded', ...optionsOf(vectors[0]) });
    let last = null; // the session that a vector "…/after" asks about
    for (const vector of vectors) {
      const name = vector.name.replace(/\/after$/, '');
      if (vector.name.endsWith('/after')) {
        if (name === 'get-cancelled') {
          last = await joined(t, target);
          await overlap[name](t, target, last, vector);
        }
        await exchange(t, target, { ...vector, sid: last.sid, what: vector.name });
      } else if (special[name]) await special[name](t, target, vector);
      else if (overlap[name] || name.startsWith('post-') && name !== 'post-without-sid') {
        last = await joined(t, target);
        if (overlap[name]) await overlap[name](t, target, last, vector);
        else await exchange(t, target, { ...vector, sid: last.sid, what: name });
      } else await plain(t, target, vector);
    }
    await target.stop();
  });
});

test('Peal instead: what it refuses, and where', { skip: onNode }, async (t) => {
  const target = await startTarget(t, { app: 'recorded' });
  for (const [name, pick] of [['eio3-handshake', ({ open }) => open.request], ['eio3-b64', ({ request }) => request], ['jsonp', ({ handshake }) => handshake.request]]) {
    const connection = await httpConnection(t, target);
    connection.write(pick(recorded('http-errors-and-options').find((vector) => vector.name === name)));
    isError(await connection.answer(), 5, name);
  }
  const connection = await httpConnection(t, target);
  connection.write(recorded('http-errors-and-options').find(({ name }) => name === 'ws-no-eio').request);
  const answer = await connection.answer();
  assert.deepEqual({ status: answer.status, body: answer.body }, { status: 400, body: 'Unsupported protocol version' });
  const preflight = await ask(t, target, 'OPTIONS', HANDSHAKE, { headers: { Origin: 'http://example.com', 'Access-Control-Request-Method': 'GET' } });
  assert.equal(preflight.headers['access-control-allow-origin'], undefined, 'a foreign origin is allowed nothing');
});

// ---- socketio-packets.json, over polling ----------------------------------------------------------------------------------

// Binary frames are base64 here, and a close frame is the end of the session.
async function replayPolling(t, target, vector) {
  const s = await pollingSession(t, target);
  for (const { send, got } of vector.steps) {
    const what = `${vector.name}: after ${JSON.stringify(send)}`;
    await s.say(typeof send === 'string' ? translate(send) : `b${Buffer.from(send.hex, 'hex').toString('base64')}`);
    const rest = got.map((one) => (typeof one === 'string' ? translateBack(one) : one));
    while (rest.length > 0) {
      if (rest[0].op === OP.CLOSE) {
        await closedByServer(s, what);
        return;
      }
      const expected = await meaning(() => rest.shift());
      assert.equal(await meaning(async () => asRecorded(await hearNoGreeting(s))), expected, what);
    }
  }
  assert.equal(vector.closed, false, vector.name);
  // Nothing more has come, and the session is as good as before; one that waits for attachments could not answer this.
  await s.say('40/fence,');
  assert.equal(await hearNoGreeting(s), '44/fence,{"message":"Invalid namespace"}', vector.name);
}

const asRecorded = (packet) => (packet[0] === 'b' ? { hex: Buffer.from(packet.slice(1), 'base64').toString('hex') } : packet);

// The server's close waits for a GET.
async function closedByServer(s, what) {
  const packets = s.rest();
  const left = () => packets.filter((packet) => !isGreeting(packet));
  while (left().length === 0) {
    const answer = await s.get();
    isPoll(answer, undefined, what);
    packets.push(...answer.body.split('\x1e'));
  }
  assert.deepEqual(left(), ['6', '1'], what);
  await s.gone(what);
}

async function hearNoGreeting(s) {
  for (;;) {
    const packet = await s.hear();
    if (!isGreeting(packet)) return packet;
  }
}

test('socketio-packets: every packet is answered, refused or ignored alike, over polling', async (t) => {
  const target = await startTarget(t, { app: 'recorded', workers: 4 });
  const vectors = recorded('socketio-packets').filter(wanted);
  // The counter of acknowledgements that the server asks for is one for all of a namespace: in turn.
  for (const vector of vectors) await replayPolling(t, target, vector);
  assert.equal(vectors.length, recorded('socketio-packets').length - (onNode ? 0 : Object.keys(DIFFERENT).filter((name) => recorded('socketio-packets').some((v) => v.name === name)).length));
});

// ---- websocket.json -----------------------------------------------------------------------------------------------------

function webSocketOptions(vector) {
  const { pingInterval, pingTimeout, connectTimeout, maxHttpBufferSize } = JSON.parse(vector.options ?? '{}');
  const options = {};
  for (const [key, value] of Object.entries({ pingInterval, pingTimeout, connectTimeout })) if (value !== undefined) options[key] = value * LONGER;
  return { ...options, ...(maxHttpBufferSize === undefined ? {} : { maxHttpBufferSize }) };
}

test('websocket: the recorded bytes, with the application', async (t) => {
  const groups = new Map();
  for (const vector of recorded('websocket').filter(wanted)) {
    const key = JSON.stringify(webSocketOptions(vector));
    groups.set(key, [...(groups.get(key) ?? []), vector]);
  }
  await Promise.all([...groups].map(async ([key, vectors]) => {
    const target = await startTarget(t, { app: 'recorded', workers: 1, ...JSON.parse(key) });
    for (const vector of vectors) {
      if (vector.name === 'exact-size' && !onNode) continue; // 100 bytes with the other name of the event are another vector: polling.test.mjs
      await replayBytes(t, target, vector);
    }
  }));
});

async function replayBytes(t, target, vector) {
  const connection = await httpConnection(t, target);
  let ws = null;
  let id = null;
  const parted = { got: [], wanted: [] }; // which namespace is told first that it is over is nobody's promise
  for (const [i, { dir, text, hex }] of vector.transcript.entries()) {
    const what = `${vector.name}, entry ${i}`;
    if (dir === 'c>' && text !== undefined) connection.write(text);
    else if (dir === 's>' && text !== undefined) {
      const answer = await readAnswer(connection);
      sameAnswer(answer, text, what);
      ws = webSocketOver(connection, answer);
    } else if (dir === 'c>') {
      const bye = framesOf(hex).find(({ payload }) => payload.includes('42["bye"'));
      if (bye && !onNode) await target.disconnect(null, { id, close: bye.payload.includes('true') });
      else connection.write(clientFrames(hex));
    } else if (dir === 's>') {
      for (const expected of framesOf(hex)) {
        const got = await nextFrame(ws);
        if (/^41/.test(expected.payload)) {
          parted.got.push(got.payload.toString());
          parted.wanted.push(expected.payload.toString());
        } else sameFrame(got, expected, what);
        id ??= /^40\{"sid":"([\w-]{20})"/.exec(got.payload)?.[1] ?? null;
      }
    }
  }
  assert.deepEqual(parted.got.sort(), parted.wanted.sort(), vector.name);
  if (vector.socketClosed) assert.equal((await ws.readAll()).length, 0, `${vector.name}: bytes after the close frame`);
  else if (!/close/.test(vector.name)) {
    ws.send(OP.PING, 'alive?');
    for (;;) {
      const { opcode, payload } = await nextFrame(ws);
      if (opcode === OP.PONG) break;
      assert.match(payload.toString(), vector.name === 'session' ? /^451-|^\x01/ : /^2$/, vector.name);
    }
  }
  connection.socket.destroy();
}

// ---- client-sessions.json -------------------------------------------------------------------------------------------------

test('client-sessions: what the real client sent, connection by connection, is answered alike', async (t) => {
  for (const vector of recorded('client-sessions').filter(wanted)) { // alone: their requests race otherwise
    const { pingInterval, pingTimeout } = JSON.parse(vector.serverOptions);
    const times = pingInterval ? { pingInterval: pingInterval * LONGER, pingTimeout: pingTimeout * LONGER } : {};
    const target = await startTarget(t, { app: 'recorded', workers: 4, ...times });
    await replayClient(t, target, vector);
    await target.stop();
  }
});

const isPollRequest = (text) => /^GET \S*transport=polling\S*[?&]sid=/.test(text);

// How many packets share a body is a matter of time: what came early waits in state.queue, and the GET that was recorded for it is not sent.
async function replayClient(t, target, { name, transcript }) {
  const connections = new Map();
  const state = { sid: undefined, socketId: undefined, queue: [], polling: false };
  for (const [i, entry] of transcript.entries()) {
    const what = `${name}, entry ${i}`;
    if (!connections.has(entry.conn)) connections.set(entry.conn, { raw: await httpConnection(t, target), ws: null, request: null, asks: true });
    const c = connections.get(entry.conn);
    if (entry.dir === 'c>') await send(target, state, c, entry);
    else if (entry.end) {
      if (c.asks) assert.equal((await c.raw.readAll()).length, 0, `${what}: the end of connection ${entry.conn}`);
    } else if (entry.text !== undefined || entry.hex.startsWith('48545450')) await receiveAnswer(t, target, c, entry, { what, state });
    else await receiveFrames(c, entry.hex, { what, state });
  }
}

async function send(target, state, c, { text, hex }) {
  const packet = text ?? framesOf(hex)[0].payload.toString();
  const bye = /42\["bye",(true|false)\]/.exec(packet);
  if (bye && !onNode) {
    // Peal's module does not disconnect: the operator does.
    await target.disconnect(null, { id: state.socketId, close: bye[1] === 'true' });
    c.asks = text === undefined;
  } else if (text === undefined) c.raw.write(clientFrames(hex));
  else {
    c.request = text;
    // A POST must not overtake the GET before it, which is on a connection of its own.
    if (text.startsWith('POST') && state.polling) await new Promise((done) => setTimeout(done, 100)); // it may be handed from worker to worker
    if (isPollRequest(text)) {
      c.asks = state.queue.length === 0;
      state.polling = c.asks;
    }
    if (c.asks) c.raw.write(requestFor(text, state.sid));
  }
}

const withoutTimes = (packet) => masked(packet).replace(/"ping(Interval|Timeout)":\d+/g, '');

function learn(state, packet) {
  state.sid ??= /^0\{"sid":"([\w-]+)"/.exec(packet)?.[1];
  state.socketId ??= /^40(?:\/chat,)?\{"sid":"([\w-]+)"/.exec(packet)?.[1];
}

async function receiveAnswer(t, target, c, { text, hex }, { what, state }) {
  const whole = text ?? Buffer.from(hex, 'hex').toString('latin1');
  const expected = parseRecorded(whole);
  const polled = isPollRequest(c.request) && expected.status === 200;
  if (!c.asks && !polled) return;
  const queue = polled ? state.queue : [];
  if (c.asks) {
    const answer = await readAnswer(c.raw, { timeout: 10000 });
    sameAnswer(answer, whole, what, { body: false });
    if (answer.status === 101) {
      c.ws = webSocketOver(c.raw, answer);
      const behind = hex === undefined ? '' : hex.slice((whole.indexOf('\r\n\r\n') + 4) * 2);
      if (behind !== '') await receiveFrames(c, behind, { what, state });
      return;
    }
    const packets = answer.body.split('\x1e');
    queue.push(...packets.filter((one) => !isGreeting(one)));
    if (polled) state.polling = false;
    // The greeting of Peal's module may come in the next body: it is taken here, or it would take the next GET away.
    for (let greeted = packets.some(isGreeting); polled && !onNode && packets.some((one) => one.startsWith('40')) && !greeted;) {
      const more = await httpConnection(t, target);
      more.write(requestFor(c.request, state.sid));
      const { body } = await readAnswer(more, { timeout: 10000 });
      greeted = body.split('\x1e').some(isGreeting);
      queue.push(...body.split('\x1e').filter((one) => !isGreeting(one)));
    }
  }
  const wantedPackets = expected.body.split('\x1e').map(translateBack);
  while (queue.length < wantedPackets.length) {
    assert.ok(polled, `${what}: ${JSON.stringify(queue)} instead of ${JSON.stringify(wantedPackets)}`);
    const again = await httpConnection(t, target);
    again.write(requestFor(c.request, state.sid));
    const { status, body } = await readAnswer(again, { timeout: 10000 });
    assert.equal(status, 200, `${what}: ${body}`);
    queue.push(...body.split('\x1e').filter((one) => !isGreeting(one)));
  }
  const got = queue.splice(0, wantedPackets.length);
  got.forEach((packet) => learn(state, packet));
  assert.deepEqual(got.map(withoutTimes), wantedPackets.map(withoutTimes), what);
}

async function receiveFrames(c, hex, { what, state }) {
  for (const expected of framesOf(hex)) {
    const got = await nextFrame(c.ws, { timeout: 10000 });
    sameFrame(got, expected, what);
    learn(state, got.payload.toString());
  }
}
