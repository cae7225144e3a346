// cluster-hostile.test.mjs: whoever can publish to Redis can publish anything. Peal drops and counts it, and goes on.
// @test parallel timeout=300
import assert from 'node:assert/strict';
import { redisClient, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { OPEN, logged, subscribed } from './lib/cluster.mjs';
import { createRequire } from 'node:module';

const { encode } = createRequire(import.meta.url)('notepack.io');

const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const nested = (n, byte, inner) => Buffer.concat([Buffer.alloc(n, byte), hex(inner)]);
const broadcast = (packet = {}, opts = {}, uid = 'peer00') =>
  encode([uid, { type: 2, data: ['bad', 1], nsp: '/', ...packet }, { rooms: [], except: [], flags: {}, ...opts }]);
// A broadcast whose only argument is these bytes.
const withArgument = (bytes) => {
  const whole = encode(['peer00', { type: 2, data: ['bad', 'MARK'], nsp: '/' }, { rooms: [], except: [], flags: {} }]);
  const at = whole.indexOf(Buffer.concat([hex('a4'), Buffer.from('MARK')]));
  return Buffer.concat([whole.subarray(0, at), bytes, whole.subarray(at + 5)]);
};
const good = broadcast({ data: ['good', 'x'.repeat(300), { a: [1, 2.5, null, 'é😀'] }] });

// Not a broadcast: dropped, counted.
const UNDECODABLE = {
  empty: Buffer.alloc(0),
  'array of 2^32-1': hex('ddffffffff'),
  'map of 2^31': hex('df80000000'),
  'array of 3 with an array of 2^32-1 as uid': hex('93ddffffffff'),
  'array of 3 with a map of 2^31 as packet': hex('93a470656572df80000000'),
  'string of 2^32-1': hex('93dbffffffff41'),
  'bin of 2^32-1': hex('93c6ffffffff41'),
  'ext of 2^32-1': hex('93c9ffffffff0141'),
  'never used byte': hex('c1'),
  nil: hex('c0'),
  'a number': hex('01'),
  text: Buffer.from('hello'),
  'a map': encode({ a: 1 }),
  'array of 1': encode(['peer00']),
  'array of 2': encode(['peer00', { type: 2, data: ['bad'], nsp: '/' }]),
  'packet is text': encode(['peer00', 'packet', { rooms: [] }]),
  'packet is nil': encode(['peer00', null, { rooms: [] }]),
  'opts are nil': encode(['peer00', { type: 2, data: ['bad'], nsp: '/' }, null]),
  'data is a map': broadcast({ data: { a: 1 } }),
  'data is empty': broadcast({ data: [] }),
  'type 0': broadcast({ type: 0, data: { sid: 'x' } }),
  'type 1': broadcast({ type: 1 }),
  'type 4': broadcast({ type: 4, data: { message: 'x' } }),
  'nesting of 100000 arrays of 1': nested(100000, 0x91, 'c0'),
  'nesting of 100000 maps of 1': nested(100000, 0x81, 'c0'),
  'deep argument': withArgument(nested(100000, 0x91, 'c0')),
  'argument of 2^32-1 items': withArgument(hex('ddffffffff')),
  'argument of 2^31 pairs': withArgument(hex('df80000000')),
  'ext that is longer than all': withArgument(hex('c9fffffff0ff')),
  'trailing byte': Buffer.concat([broadcast(), hex('c0')]),
  'itself twice': Buffer.concat([broadcast(), broadcast()]),
};

// Right but for nobody here, or odd but taken: nothing to count, and not one byte for a client unless `bad` is right.
const IGNORED = {
  'other namespace': broadcast({ nsp: '/other' }),
  'namespace of Peal, wrong channel': broadcast({ nsp: '/chat' }),
  'room that nobody has': broadcast({}, { rooms: ['nobody'] }),
  'room of 100000 bytes': broadcast({}, { rooms: ['r'.repeat(100000)] }),
};

async function startHost(t) {
  const redis = await startRedis(t);
  const peal = await startPeal(t, { config: OPEN, options: { redis: redis.url } });
  const pub = await redisClient(t, redis);
  await subscribed(pub, '/', 1);
  const client = await logged(t, peal, {});
  const pids = () => peal.children().map(({ pid }) => pid).sort();
  const before = pids();
  let fences = 0;
  return {
    peal,
    pub,
    client,
    dropped: async () => (await peal.metrics()).sum('peal_redis_dropped_total'),
    // The next good message comes whole, and nothing came before it; all processes are those of the start.
    async stillWell(after) {
      const n = ++fences;
      await pub.publish('socket.io#/#', good);
      await pub.publish('socket.io#/#', broadcast({ data: ['fence', n] }));
      await waitFor(() => client.log.at(-1)?.[1] === n, { timeout: 20000, what: `a good message after ${after}` });
      const got = client.log.splice(0);
      assert.deepEqual(got, [['good', 'x'.repeat(300), { a: [1, 2.5, null, 'é😀'] }], ['fence', n]], `after ${after}`);
      assert.deepEqual(pids(), before, `processes after ${after}`);
    },
  };
}

test('what is no broadcast is dropped and counted, and the next message comes', async (t) => {
  const host = await startHost(t);
  await host.stillWell('the start');
  let expected = await host.dropped();
  for (const [name, payload] of Object.entries(UNDECODABLE)) {
    await host.pub.publish('socket.io#/#', payload);
    await host.stillWell(name);
    assert.equal(await host.dropped(), ++expected, name);
  }
  for (const [name, payload] of Object.entries(IGNORED)) {
    await host.pub.publish('socket.io#/#', payload);
    await host.stillWell(name);
    assert.equal(await host.dropped(), expected, name);
  }
});

test('every broadcast cut anywhere, and with any byte changed, leaves the host well', async (t) => {
  const host = await startHost(t);
  const whole = broadcast({ data: ['bad', { a: [1, 'zwei', Buffer.from('drei')], d: new Date(0) }] }, { rooms: ['r', 's'], except: ['t'], flags: { compress: false } });
  const before = await host.dropped();
  const sent = [];
  for (let n = 0; n < whole.length; n++) sent.push(host.pub.publish('socket.io#/#', whole.subarray(0, n)));
  await Promise.all(sent);
  await host.stillWell('cuts');
  assert.equal(await host.dropped(), before + whole.length, 'each cut counted');
  for (let at = 0; at < whole.length; at++) {
    for (const bit of [1, 0x10, 0x40, 0x80, 0xff]) {
      const changed = Buffer.from(whole);
      changed[at] ^= bit;
      await host.pub.publish('socket.io#/#', changed);
    }
  }
  // a changed name of a key (rooms) makes it a broadcast to all, rightly
  await host.pub.publish('socket.io#/#', broadcast({ data: ['end'] }));
  await waitFor(() => host.client.log.at(-1)?.[0] === 'end');
  host.client.log.length = 0;
  await host.stillWell('changed bytes');
});

test('requests that are none do nothing, and answers stay right', async (t) => {
  const host = await startHost(t);
  const answers = [];
  const sub = host.pub.duplicate();
  await sub.connect();
  await sub.pSubscribe('socket.io-response#*', (message) => answers.push(message.toString()), true);
  const id = host.client.id;
  const bad = [
    '', '{', '{"type":', 'null', '[]', '{}', '{"type":2}', '{"type":99,"requestId":"abcdef"}', '{"type":"2","opts":{"rooms":[]},"rooms":["r"]}', '{"type":5}',
    '{"type":5,"requestId":5,"opts":{}}', '{"type":7,"requestId":"abcdef"}', '{"type":7,"requestId":"abcdef","packet":{"data":5},"opts":{}}', '{"type":1e309,"requestId":"abcdef"}',
    `{"type":1,"requestId":"${'r'.repeat(5000)}"}`, `{"type":4,"opts":5,"close":true}`, `${'['.repeat(100000)}`, `{"type":5,"requestId":"abcdef","opts":${'{"rooms":'.repeat(50000)}`,
    '{"type":3,"opts":{"rooms":[]},"rooms":"notalist"}', hex('ddffffffff'), hex('df80000000'), nested(100000, 0x81, 'c0'), hex('82a474797065'), hex('81a47479706507'),
  ];
  for (const payload of bad) {
    await host.pub.publish('socket.io-request#/#', payload);
    await host.stillWell(payload.toString('latin1').slice(0, 60));
  }
  assert.ok(host.client.connected);
  assert.ok((await host.dropped()) >= 10, 'counted');
  answers.length = 0;
  await host.pub.publish('socket.io-request#/#', JSON.stringify({ uid: 'peer00', requestId: 'lastxx', type: 0, rooms: [] }));
  await waitFor(() => answers.find((text) => text.includes('lastxx')));
  assert.deepEqual(answers.map((text) => JSON.parse(text)), [{ requestId: 'lastxx', uid: host.peal.events('cluster_uid')[0].uid, sockets: [id] }]);
  await sub.disconnect();
});

test('a giant is dropped as too big, a large one comes', async (t) => {
  const host = await startHost(t);
  await host.pub.publish('socket.io#/#', broadcast({ data: ['large', Buffer.alloc(4 << 20, 7)] }));
  await waitFor(() => host.client.log.length === 1);
  const [[event, bytes]] = host.client.log.splice(0);
  assert.equal(event, 'large');
  assert.ok(bytes.equals(Buffer.alloc(4 << 20, 7)));
  const tooBig = async () => (await host.peal.metrics()).get('peal_redis_dropped_total', { reason: 'too_big' });
  const [before, total] = [await tooBig(), await host.dropped()];
  await host.pub.publish('socket.io#/#', broadcast({ data: ['giant', Buffer.alloc(20 << 20, 7)] }));
  await host.stillWell('20 MB');
  await host.pub.publish('socket.io#/#', broadcast({ data: ['giant', Array.from({ length: 5000 }, (_, i) => Buffer.from([i & 255]))] }));
  await host.stillWell('5000 attachments');
  assert.equal(await tooBig(), before + 1);
  assert.equal(await host.dropped(), total + 2);

  // Redis itself ends a subscriber for whom more than 32 MB wait: Peal comes back.
  await host.pub.publish('socket.io#/#', broadcast({ data: ['giant', Buffer.alloc(40 << 20, 7)] }));
  await host.peal.waitEvent('redis_down');
  await waitFor(() => host.peal.events('redis_up').filter(({ link }) => link === 'subscriber').length === 2, { what: 'the subscriber again' });
  await waitFor(async () => (await host.peal.metrics()).get('peal_redis_up') === 1);
  await host.stillWell('40 MB');
});
