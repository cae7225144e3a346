// socketio-suite.test.mjs: what the official Socket.IO suite (protocol 5) asserts, over WebSocket and over polling, with each number of workers
// and each way a connection finds its worker; the application is the conformance module. PEAL_TEST_TARGET=node asks the real server.
// @test parallel no-asan timeout=180
import assert from 'node:assert/strict';
import { OP, slow, test, within } from './lib/index.mjs';
import { engine } from './lib/engine.mjs';
import { HANDSHAKE, ask, isError, isOk, isPoll, pollingSession } from './lib/polling.mjs';
import { FLEETS, runCases, startTarget } from './lib/target.mjs';

const SOON = { timeout: 5000 };

// Both transports with one face: say(text), sayBinary(bytes), hear() → a text, or a Buffer; closed(). Pings are heard when asked for.
const TRANSPORTS = {
  async websocket(t, target) {
    const ws = await engine(t, target);
    return {
      say: (...packets) => packets.forEach((packet) => (Buffer.isBuffer(packet) ? ws.send(OP.BINARY, packet) : ws.text(packet))),
      async hear({ pings = false } = {}) {
        for (;;) {
          const { opcode, payload } = await ws.nextFrame(SOON);
          if (opcode === OP.CLOSE) throw new Error('closed instead of a packet');
          const text = payload.toString();
          if (opcode === OP.TEXT && text === '2' && !pings) ws.text('3');
          else return opcode === OP.TEXT ? text : payload;
        }
      },
      async closed() {
        const { code, reason } = await ws.nextClose(SOON);
        assert.deepEqual({ code, reason }, { code: 1005, reason: '' }, 'a close frame without a code');
      },
    };
  },
  async polling(t, target) {
    const s = await pollingSession(t, target);
    return {
      say: (...packets) => s.say(...packets.map((packet) => (Buffer.isBuffer(packet) ? `b${packet.toString('base64')}` : packet))),
      async hear(options) {
        const packet = await s.hear(options);
        return packet[0] === 'b' ? Buffer.from(packet.slice(1), 'base64') : packet;
      },
      async closed() {
        // A pending GET tells it, or the next one.
        for (;;) {
          const answer = await s.get(SOON);
          if (answer.status === 400) return isError(answer, 1);
          isPoll(answer, undefined);
          assert.match(answer.body, /^(2|6|1|6\x1e1)$/, 'nothing but the close');
        }
      },
    };
  },
};

// CONNECT to "/", both answers taken.
async function opened(connection, name = '') {
  await connection.say(`40${name && `${name},`}`);
  assert.match(await connection.hear(), name ? new RegExp(`^40${name},\\{"sid":"[\\w-]{20}"\\}$`) : /^40\{"sid":"[\w-]{20}"\}$/);
  assert.equal(await connection.hear(), `42${name && `${name},`}["auth",{}]`);
}

const SUITE = {
  'connect: to the main namespace': (c) => opened(c),
  'connect: to the main namespace with a payload': async (c) => {
    await c.say('40{"token":"123"}');
    assert.match(await c.hear(), /^40\{"sid":"[\w-]{20}"\}$/);
    assert.equal(await c.hear(), '42["auth",{"token":"123"}]');
  },
  'connect: to a custom namespace': (c) => opened(c, '/custom'),
  'connect: to a custom namespace with a payload': async (c) => {
    await c.say('40/custom,{"token":"abc"}');
    assert.match(await c.hear(), /^40\/custom,\{"sid":"[\w-]{20}"\}$/);
    assert.equal(await c.hear(), '42/custom,["auth",{"token":"abc"}]');
  },
  'connect: to an unknown namespace is refused': async (c) => {
    await c.say('40/random');
    assert.equal(await c.hear(), '44/random,{"message":"Invalid namespace"}');
    await opened(c);
  },
  'connect: an invalid handshake closes': async (c) => {
    await c.say('4abc');
    await c.closed();
  },
  'disconnect: from a custom namespace, the other one works on': async (c) => {
    await opened(c);
    await opened(c, '/custom');
    await c.say('41/custom');
    await c.say('42["message","message to main namespace"]');
    assert.equal(await c.hear(), '42["message-back","message to main namespace"]');
  },
  'message: plain text': async (c) => {
    await opened(c);
    await c.say('42["message",1,"2",{"3":[true]}]');
    assert.equal(await c.hear(), '42["message-back",1,"2",{"3":[true]}]');
  },
  'message: plain text to a custom namespace': async (c) => {
    await opened(c, '/custom');
    await c.say('42/custom,["message",1,"2",{"3":[true]}]');
    assert.equal(await c.hear(), '42/custom,["message-back",1,"2",{"3":[true]}]');
  },
  'message: binary': async (c) => {
    await opened(c);
    await c.say('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6]));
    assert.equal(await c.hear(), '452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
    assert.deepEqual([await c.hear(), await c.hear()], [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])]);
  },
  'message: plain text with an acknowledgement': async (c) => {
    await opened(c);
    await c.say('42456["message-with-ack",1,"2",{"3":[false]}]');
    assert.equal(await c.hear(), '43456[1,"2",{"3":[false]}]');
  },
  'message: binary with an acknowledgement': async (c) => {
    await opened(c);
    await c.say('452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6]));
    assert.equal(await c.hear(), '462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]');
    assert.deepEqual([await c.hear(), await c.hear()], [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])]);
  },
  'message: an unknown packet type closes': async (c) => {
    await opened(c);
    await c.say('4abc');
    await c.closed();
  },
  'message: an invalid payload closes': async (c) => {
    await opened(c);
    await c.say('42{}');
    await c.closed();
  },
  'message: an invalid acknowledgement id closes': async (c) => {
    await opened(c);
    await c.say('42abc["message-with-ack",1,"2",{"3":[false]}]');
    await c.closed();
  },
  'rooms: join, to the whole room, leave': async (c) => {
    await opened(c);
    await c.say('420["join","r"]');
    assert.equal(await c.hear(), '430[]');
    await c.say('42["to","r","news",1,{"a":null}]');
    assert.equal(await c.hear(), '42["news",1,{"a":null}]', 'the sender included');
    await c.say('421["leave","r"]');
    assert.equal(await c.hear(), '431[]');
    await c.say('42["to","r","news",2]', '42["message","after"]');
    assert.equal(await c.hear(), '42["message-back","after"]');
  },
};

const INTERVAL = 300 * slow;
const TIMEOUT = 600 * slow;

const CLOCK = {
  'connect: without any handshake the connection is closed': async (c) => {
    // Whichever is first: connect_timeout, or the ping that is never answered.
    await within(c.closed(), 'the end of a connection that asks for nothing', 3000);
  },
  'disconnect: from the main namespace, the next packet is a ping': async (c) => {
    await opened(c);
    await c.say('41');
    assert.equal(await c.hear({ pings: true }), '2');
  },
};

const bothTransports = (cases) => Object.fromEntries(Object.entries(TRANSPORTS).flatMap(([transport, connect]) =>
  Object.entries(cases).map(([name, fn]) => [`${transport}: ${name}`, async (t, target) => fn(await connect(t, target))])));

for (const fleet of FLEETS) {
  test(`the official Socket.IO suite: ${fleet.name}`, { concurrency: 8 }, async (t) => {
    const target = await startTarget(t, { ...fleet, app: 'conformance' });
    await runCases(t, bothTransports(SUITE), target);
  });

  test(`the official Socket.IO suite, what the clock decides: ${fleet.name}`, { concurrency: 8 }, async (t) => {
    const target = await startTarget(t, { ...fleet, app: 'conformance', pingInterval: INTERVAL, pingTimeout: TIMEOUT, connectTimeout: 1000 * slow });
    await runCases(t, bothTransports(CLOCK), target);
  });
}

test('the handshake, heartbeat and close of the same suite, with its application', async (t) => {
  const target = await startTarget(t, { app: 'conformance', workers: 4, pingInterval: INTERVAL, pingTimeout: TIMEOUT });
  isPoll(await ask(t, target, 'GET', HANDSHAKE), /^0\{"sid":"[\w-]+","upgrades":\["websocket"\],"pingInterval":\d+,"pingTimeout":\d+,"maxPayload":1000000\}$/);
  const s = await pollingSession(t, target);
  for (let round = 0; round < 3; round++) {
    isPoll(await s.get(), '2');
    isOk(await s.post('3'));
  }
  const ws = await s.webSocket();
  ws.text('2probe');
  assert.equal(await ws.nextText(), '3probe');
  await s.say('1');
  await s.gone();
});
