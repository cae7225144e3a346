// engine.mjs: Engine.IO and Socket.IO spoken by hand, and what tests of the client side share.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { OP, rawWebSocket } from './raw.mjs';
import { slow } from './test.mjs';

export const ENGINE = '/socket.io/?EIO=4&transport=websocket';

export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8')).vectors;
}

// A relay in "/" as open as it gets, and namespaces of every kind beside it.
export const OPEN_RELAY = `
[namespace "/"]
app = relay
client_join = yes
client_publish = any
[namespace "/chat"]
[namespace "/dyn-*"]
app = relay
client_join = yes
client_publish = joined
`;

// An open Engine.IO session over a raw WebSocket, its first packet read into .open. Besides what rawWebSocket gives:
//   say(packet)      a Socket.IO packet, without the 4 in front
//   hear()           the next one; Engine.IO pings are answered
//   join(nsp, auth)  CONNECT, gives the answer's object
//   fence()          everything sent before has been answered: gives those answers (binary ones as Buffers)
export async function engine(t, peal, { path = ENGINE, ...options } = {}) {
  const ws = await rawWebSocket(t, peal.port, path, options);
  const first = await ws.nextText();
  let fences = 0;
  const self = {
    ...ws,
    open: JSON.parse(first.slice(1)),
    openText: first,
    say: (packet) => ws.text(`4${packet}`),
    hear: async (more) => {
      const text = await ws.nextText(more);
      if (text[0] !== '4') throw new Error(`no message: ${text}`);
      return text.slice(1);
    },
    join: async (nsp = '/', auth) => {
      const name = nsp === '/' ? '' : `${nsp},`;
      self.say(`0${name}${auth === undefined ? '' : JSON.stringify(auth)}`);
      const answer = await self.hear();
      if (!answer.startsWith(`0${name}{`)) throw new Error(`not joined: ${answer}`);
      return JSON.parse(answer.slice(1 + name.length));
    },
    // A refused CONNECT is answered in order, in any state of the session, and changes nothing.
    fence: async (more) => {
      const nsp = `/fence-${++fences}`;
      const got = [];
      self.say(`0${nsp},`);
      for (;;) {
        const { opcode, payload } = await ws.nextFrame(more);
        const text = payload.toString();
        if (opcode === OP.CLOSE) throw new Error(`closed: ${payload.toString('hex')}; before it ${got}`);
        if (opcode === OP.PING) ws.send(OP.PONG, payload);
        else if (opcode === OP.TEXT && text === '2') ws.text('3');
        else if (text === `44${nsp},{"message":"Invalid namespace"}`) return got;
        else got.push(opcode === OP.TEXT ? text : payload);
      }
    },
  };
  return self;
}

// The next frame must be a close frame, with nothing but Engine.IO pings before it, and then the connection ends. A code of null
// is Node's way: a close frame without one.
export async function expectClose(ws, code, { reason, timeout = 5000 } = {}) {
  for (;;) {
    const { opcode, payload } = await ws.nextFrame({ timeout });
    if (opcode === OP.TEXT && payload.toString() === '2') continue;
    if (opcode !== OP.CLOSE) throw new Error(`no close frame but opcode ${opcode}: ${payload}`);
    const got = payload.length === 0 ? null : payload.readUInt16BE();
    if (got !== code) throw new Error(`close code ${got} instead of ${code}: ${payload.subarray(2)}`);
    const text = payload.subarray(2).toString();
    if (reason !== undefined && !reason.test(text)) throw new Error(`reason ${JSON.stringify(text)} instead of ${reason}`);
    break;
  }
  const rest = await ws.readAll({ timeout });
  if (rest.length > 0) throw new Error(`${rest.length} bytes after the close frame`);
}

// Worker processes: { pid, slot, generation }, by slot.
export function workersOf(peal) {
  const found = [];
  for (const { pid } of peal.children()) {
    const match = /--child=worker:(\d+):(\d+)/.exec(commandLine(pid));
    if (match) found.push({ pid, slot: Number(match[1]), generation: Number(match[2]) });
  }
  return found.sort((a, b) => a.slot - b.slot);
}

function commandLine(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

// No worker has died since: same pids. Throws otherwise.
export function sameWorkers(peal, before) {
  const now = workersOf(peal);
  if (JSON.stringify(now) !== JSON.stringify(before)) throw new Error(`workers were ${JSON.stringify(before)}, are ${JSON.stringify(now)}`);
}

// True when the promise has not settled after so many milliseconds (stretched under a sanitizer).
export async function staysPending(promise, milliseconds) {
  const pending = Symbol('pending');
  return (await Promise.race([promise.catch(() => null), sleep(milliseconds * slow, pending)])) === pending;
}
