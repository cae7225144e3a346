// raw.mjs: TCP and WebSocket byte by byte, for what no well-behaved client would send.
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { defer } from './test.mjs';
import { sleep, within } from './wait.mjs';

export const OP = { CONTINUATION: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 };

// Ends a socket with RST. Node leaves the handle open, and spins, when that is asked of a socket that is already shutting down.
export function resetSocket(socket) {
  if (socket.destroyed) return;
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

// A TCP connection whose bytes are read when asked for.
//   { socket, write(bytes), writeSlowly(bytes, ms), read(n), readUntil(text), readAll(), end(), reset(), pause(), closed }
// read(n) fails when the connection ends before; readAll gives what comes until the end; closed resolves to { error }.
export async function rawConnect(t, port, { host = '127.0.0.1', path, localAddress, allowHalfOpen = true } = {}) {
  const socket = path ? connect({ path, allowHalfOpen }) : connect({ port, host, localAddress, allowHalfOpen });
  let buffer = Buffer.alloc(0);
  let ended = false;
  let error = null;
  let wake = () => {};
  defer(t, () => socket.destroy());
  socket.on('data', (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    wake();
  });
  socket.on('end', () => {
    ended = true;
    wake();
  });
  const closed = new Promise((resolve) => {
    socket.on('error', (e) => {
      error = e;
    });
    socket.on('close', () => {
      ended = true;
      wake();
      resolve({ error });
    });
  });
  await within(new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject)), 'a TCP connection');
  socket.setNoDelay(true);

  // Waits until enough() gives a length to take from the front.
  const take = async (enough, what, timeout) => {
    const attempt = async () => {
      for (;;) {
        const n = enough();
        if (n !== null) {
          const out = buffer.subarray(0, n);
          buffer = buffer.subarray(n);
          return out;
        }
        if (ended) throw new Error(`the connection ended before ${what}; ${buffer.length} bytes: ${buffer.toString('latin1').slice(0, 200)}`, { cause: error });
        await new Promise((resolve) => (wake = resolve));
      }
    };
    return within(attempt(), what, timeout);
  };
  const self = {
    socket,
    closed,
    hasEnded: () => ended,
    buffered: () => buffer,
    write: (bytes) => socket.write(bytes),
    async writeSlowly(bytes, milliseconds = 0, step = 1) {
      const all = Buffer.from(bytes);
      for (let at = 0; at < all.length && !socket.destroyed; at += step) {
        socket.write(all.subarray(at, at + step));
        await (milliseconds > 0 ? sleep(milliseconds) : new Promise((resolve) => setImmediate(resolve)));
      }
    },
    read: (n, { timeout = 5000 } = {}) => take(() => (buffer.length >= n ? n : null), `${n} bytes`, timeout),
    readUntil: (text, { timeout = 5000 } = {}) =>
      take(() => {
        const at = buffer.indexOf(text);
        return at < 0 ? null : at + text.length;
      }, JSON.stringify(text), timeout),
    readAll: ({ timeout = 5000 } = {}) => take(() => (ended ? buffer.length : null), 'the end of the connection', timeout),
    end: () => socket.end(),
    reset: () => resetSocket(socket),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  };
  return self;
}

// One HTTP answer's head: { status, headers }, and the body too when it has a Content-Length.
export async function readResponse(raw, { timeout = 5000 } = {}) {
  const head = (await raw.readUntil('\r\n\r\n', { timeout })).toString('latin1');
  const [first, ...lines] = head.trimEnd().split('\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1]);
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
  const n = Number(headers['content-length'] ?? 0);
  const body = n > 0 ? (await raw.read(n, { timeout })).toString() : '';
  return { status, headers, body };
}

// A frame as a client sends it, or as no client should: wrong masks, bits, opcodes and length forms are all possible.
//   form: 7, 16, 64 (bits of the length field; default the shortest); length: what the header claims, default the truth
export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, key = randomBytes(4), form, length } = {}) {
  const body = Buffer.from(payload);
  const claimed = BigInt(length ?? body.length);
  const bits = form ?? (claimed < 126n ? 7 : claimed < 65536n ? 16 : 64);
  const head = Buffer.alloc(2 + (bits === 16 ? 2 : bits === 64 ? 8 : 0));
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (bits === 7 ? Number(claimed) : bits === 16 ? 126 : 127);
  if (bits === 16) head.writeUInt16BE(Number(claimed), 2);
  if (bits === 64) head.writeBigUInt64BE(claimed, 2);
  if (!mask) return Buffer.concat([head, body]);
  const masked = Buffer.from(body);
  for (let i = 0; i < masked.length; i++) masked[i] ^= key[i % 4];
  return Buffer.concat([head, key, masked]);
}

export function closePayload(code, reason = '') {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, Buffer.from(reason)]);
}

// The bytes of an upgrade request. headers: replaces or (null) drops; lines: further header lines as they are.
export function upgradeRequest(path, { host = 'localhost', key = randomBytes(16).toString('base64'), headers = {}, lines = [] } = {}) {
  const all = { Host: host, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, ...headers };
  const text = Object.entries(all).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
  return `GET ${path} HTTP/1.1\r\n${[...text, ...lines].join('\r\n')}\r\n\r\n`;
}

// A raw connection after a WebSocket handshake, and
//   { send(opcode, payload, options), text(s), nextFrame(), nextText(), nextClose() }
// nextFrame gives { fin, rsv, opcode, masked, payload }; nextClose skips to the close frame: { code, reason }.
// With `pipelined` those bytes follow the request in the same segment.
export async function rawWebSocket(t, port, path, { pipelined, host, headers, lines, ...options } = {}) {
  const raw = await rawConnect(t, port, options);
  const key = randomBytes(16).toString('base64');
  const request = Buffer.from(upgradeRequest(path, { key, headers, lines, host: host ?? `127.0.0.1:${port}` }));
  raw.write(pipelined ? Buffer.concat([request, Buffer.from(pipelined)]) : request);
  const response = await readResponse(raw);
  if (response.status !== 101) throw Object.assign(new Error(`no upgrade: ${response.status} ${response.body}`), { response });
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  if (response.headers['sec-websocket-accept'] !== accept) throw new Error('wrong Sec-WebSocket-Accept');
  return webSocketOver(raw, response);
}

export function webSocketOver(raw, response) {
  const self = {
    ...raw,
    response,
    send: (opcode, payload, options) => raw.write(frame(opcode, payload, options)),
    text: (payload) => raw.write(frame(OP.TEXT, payload)),
    async nextFrame(options) {
      const [first, second] = await raw.read(2, options);
      let n = second & 0x7f;
      if (n === 126) n = (await raw.read(2, options)).readUInt16BE();
      else if (n === 127) n = Number((await raw.read(8, options)).readBigUInt64BE());
      const masked = (second & 0x80) !== 0;
      const payload = n > 0 ? Buffer.from(await raw.read(n, options)) : Buffer.alloc(0);
      return { fin: (first & 0x80) !== 0, rsv: (first >> 4) & 7, opcode: first & 15, masked, payload };
    },
    // The next text message that is no Engine.IO ping (which is answered).
    async nextText(options) {
      for (;;) {
        const { opcode, payload } = await self.nextFrame(options);
        if (opcode === OP.PING) self.send(OP.PONG, payload);
        else if (opcode === OP.CLOSE) throw new Error(`closed: ${payload.length >= 2 ? payload.readUInt16BE() : 'no code'} ${payload.subarray(2)}`);
        else if (opcode === OP.TEXT && payload.toString() === '2') self.text('3');
        else if (opcode === OP.TEXT) return payload.toString();
      }
    },
    async nextClose(options) {
      for (;;) {
        const { opcode, payload } = await self.nextFrame(options);
        if (opcode === OP.CLOSE) return { code: payload.length >= 2 ? payload.readUInt16BE() : 1005, reason: payload.subarray(2).toString() };
      }
    },
  };
  return self;
}
