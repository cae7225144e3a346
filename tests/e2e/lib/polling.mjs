// polling.mjs: HTTP byte by byte, and Engine.IO's long-polling by hand.
import assert from 'node:assert/strict';
import { rawConnect, rawWebSocket } from './raw.mjs';
import { slow } from './test.mjs';
import { sleep } from './wait.mjs';

export const PATH = '/socket.io/';
export const HANDSHAKE = `${PATH}?EIO=4&transport=polling`;
export const SEPARATOR = '\x1e';

// A request that is on its way has no sign by which it could be waited for: time in which a server on a busy machine has it for sure.
export const settle = () => sleep(150 * slow);

// Each connection from another loopback address: by hash or by chance it meets every worker.
let addresses = 0;
export const nextAddress = () => `127.0.0.${2 + (addresses++ % 200)}`;

// A request's bytes. headers: replaced or (null) dropped; a body gets its Content-Length unless a header says how long it is.
export function requestText(method, target, { headers = {}, body, version = '1.1', host = '127.0.0.1' } = {}) {
  const all = { Host: host, ...headers };
  const named = Object.keys(all).map((name) => name.toLowerCase());
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
  if (body !== undefined && !named.includes('content-length') && !named.includes('transfer-encoding')) all['Content-Length'] = bytes.length;
  const lines = Object.entries(all).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/${version}\r\n${lines.join('')}\r\n`, 'latin1'), bytes]);
}

// Chunks of a body, ready to be sent behind `Transfer-Encoding: chunked`.
export function chunked(...parts) {
  return [...parts, ''].map((part) => `${Buffer.byteLength(part).toString(16)}\r\n${part}\r\n`).join('');
}

// The next answer on a raw connection: { status, version, headers, names (as sent), body (text), bytes }. 1xx answers are answers.
export async function readAnswer(raw, { method = 'GET', timeout = 5000 } = {}) {
  const head = (await raw.readUntil('\r\n\r\n', { timeout })).toString('latin1');
  const [first, ...lines] = head.trimEnd().split('\r\n');
  const match = /^HTTP\/(1\.[01]) (\d{3})(?: |$)/.exec(first);
  if (!match) throw new Error(`no HTTP answer: ${JSON.stringify(head.slice(0, 200))}`);
  const status = Number(match[2]);
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  const answer = { status, version: match[1], headers, names: lines.map((line) => line.slice(0, line.indexOf(':'))) };
  let bytes = Buffer.alloc(0);
  if (method === 'HEAD' || status < 200 || status === 204 || status === 304) {
    // has none
  } else if (headers['transfer-encoding'] === 'chunked') bytes = await readChunks(raw, timeout);
  else if (headers['content-length'] !== undefined) bytes = Buffer.from(await raw.read(Number(headers['content-length']), { timeout }));
  else if (status !== 101) bytes = Buffer.from(await raw.readAll({ timeout }));
  return Object.assign(answer, { bytes, body: bytes.toString() });
}

async function readChunks(raw, timeout) {
  const parts = [];
  for (;;) {
    const line = (await raw.readUntil('\r\n', { timeout })).toString('latin1');
    const n = Number.parseInt(line, 16);
    if (!/^[0-9a-f]+\r\n$/i.test(line)) throw new Error(`bad chunk size ${JSON.stringify(line)}`);
    parts.push(Buffer.from(await raw.read(n, { timeout })));
    assert.equal((await raw.read(2, { timeout })).toString('latin1'), '\r\n', 'the end of a chunk');
    if (n === 0) return Buffer.concat(parts);
  }
}

// A kept connection: ask() one request after the other; write and read as rawConnect has them.
export async function httpConnection(t, target, options = {}) {
  const raw = await rawConnect(t, target.port, { localAddress: nextAddress(), ...options });
  return {
    ...raw,
    answer: (more) => readAnswer(raw, more),
    async ask(method, path, { timeout, ...request } = {}) {
      raw.write(requestText(method, path, request));
      return readAnswer(raw, { method, timeout });
    },
  };
}

// One request on a connection of its own.
export async function ask(t, target, method, path, options) {
  const connection = await httpConnection(t, target);
  try {
    return await connection.ask(method, path, options);
  } finally {
    connection.socket.destroy();
  }
}

const CODES = ['Transport unknown', 'Session ID unknown', 'Bad handshake method', 'Bad request', 'Forbidden', 'Unsupported protocol version'];

// The engine's own refusal, as HTTP has it.
export function isError(answer, code, what = '') {
  const wanted = { status: code === 4 ? 403 : 400, type: 'application/json', body: JSON.stringify({ code, message: CODES[code] }) };
  assert.deepEqual({ status: answer.status, type: answer.headers['content-type'], body: answer.body }, wanted, `${what}: an error of code ${code}`);
  assert.equal(answer.headers['cache-control'], undefined, `${what}: an error has no cache-control`);
}

export function isEmpty(answer, status, what = '') {
  assert.deepEqual({ status: answer.status, body: answer.body }, { status, body: '' }, `${what}: ${status} without a body`);
}

// What a POST gets that was taken.
export function isOk(answer, what = 'POST') {
  const { status, body, headers } = answer;
  assert.deepEqual(
    { status, body, type: headers['content-type'], length: headers['content-length'], cache: headers['cache-control'] },
    { status: 200, body: 'ok', type: 'text/html', length: '2', cache: 'no-store' },
    what,
  );
}

// What a GET gets. body: a text, or a RegExp for it.
export function isPoll(answer, body, what = 'GET') {
  assert.deepEqual(
    { status: answer.status, type: answer.headers['content-type'], cache: answer.headers['cache-control'] },
    { status: 200, type: 'text/plain; charset=UTF-8', cache: 'no-store' },
    `${what}: ${JSON.stringify(answer.body)}`,
  );
  if (answer.headers['content-encoding'] === undefined) assert.equal(answer.headers['content-length'], String(answer.bytes.length), `${what}: Content-Length`);
  if (body instanceof RegExp) assert.match(answer.body, body, what);
  else if (body !== undefined) assert.equal(answer.body, body, what);
}

// An open session that polls. headers: of its first request.
//   get(), post(body), ask(method): one request on a connection of its own        url: their target
//   hold()         a GET that the server has by now: { answer (a promise), connection }
//   say(…packets)  engine packets in one POST, which must be taken                hear() the next one; pings are answered, noops skipped
//   rest()         what came with the last packet heard and was not heard yet
//   join(nsp)      Socket.IO CONNECT, gives the answer's object                   gone() the session must be unknown
//   webSocket()    a raw WebSocket with this sid                                  upgrade() the whole way: gives that WebSocket, upgraded
export async function pollingSession(t, target, { path = PATH, headers } = {}) {
  const first = await ask(t, target, 'GET', `${path}?EIO=4&transport=polling`, { headers });
  isPoll(first, /^0\{.*\}$/, 'handshake');
  const open = JSON.parse(first.body.slice(1));
  const query = `${path}?EIO=4&sid=${open.sid}`;
  const url = `${query}&transport=polling`;
  const heard = [];
  const self = {
    target,
    first,
    open,
    sid: open.sid,
    url,
    ask: (method, options) => ask(t, target, method, url, options),
    get: (options) => self.ask('GET', options),
    post: (body, options) => self.ask('POST', { body, ...options }),
    async hold({ timeout = 20000, headers, wait = true } = {}) {
      const connection = await httpConnection(t, target);
      connection.write(requestText('GET', url, { headers }));
      const answer = connection.answer({ timeout });
      answer.catch(() => {}); // whoever wants it awaits it
      if (wait) await settle();
      return { answer, connection };
    },
    async say(...packets) {
      isOk(await self.post(packets.join(SEPARATOR)), `POST ${JSON.stringify(packets)}`);
    },
    async hear({ timeout = 5000, pings = false } = {}) {
      for (;;) {
        while (heard.length === 0) {
          const answer = await self.get({ timeout });
          isPoll(answer, undefined, 'a poll for the next packet');
          heard.push(...answer.body.split(SEPARATOR));
        }
        const packet = heard.shift();
        if (packet === '6' || (packet === '2' && !pings)) {
          if (packet === '2') await self.say('3');
        } else return packet;
      }
    },
    rest: () => heard.splice(0).filter((packet) => packet !== '6'),
    async join(nsp = '/', auth) {
      const name = nsp === '/' ? '' : `${nsp},`;
      await self.say(`40${name}${auth === undefined ? '' : JSON.stringify(auth)}`);
      const answer = await self.hear();
      assert.ok(answer.startsWith(`40${name}{`), `CONNECT ${nsp} was answered with ${answer}`);
      return JSON.parse(answer.slice(2 + name.length));
    },
    async gone(what = 'the session') {
      isError(await self.get(), 1, `${what} afterwards`);
    },
    // It lives: an acknowledged event of the relay comes back. Needs a joined "/".
    async lives(what = 'the session') {
      await self.say('4277["join","alive"]');
      assert.equal(await self.hear(), '4377[{"ok":true}]', `${what} lives`);
    },
    webSocket: (options) => rawWebSocket(t, target.port, `${query}&transport=websocket`, { localAddress: nextAddress(), ...options }),
    async upgrade() {
      const ws = await self.webSocket();
      ws.text('2probe');
      assert.equal(await ws.nextText(), '3probe');
      ws.text('5');
      return ws;
    },
  };
  return self;
}
