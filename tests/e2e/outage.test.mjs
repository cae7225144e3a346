// outage.test.mjs: Redis in all kinds of trouble, under load. Always: no process dies, local clients get every message exactly once and in one order, the
// bridge's memory stays within redis_buffer_bytes and what a bridge needs anyway, and messages go both ways again within 5 s of Redis being back, without
// anybody's doing. What peers get is in order and never twice, and each message that they do not get is counted.
//
// Messages a second: PEAL_OUTAGE_RATE, else 250; with PEAL_FULL=1 5,000, and outages of 30 s instead of 8. @test parallel no-asan timeout=600
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { defer, ioClient, pealBinary, redisClient, sleep, slow, startForwarder, startNodeServer, startPeal, startRedis, test, waitFor, wsClient } from './lib/index.mjs';
import { startNamespace } from './lib/cable.mjs';
import { relay, startLoad } from './lib/load.mjs';

const FULL = process.env.PEAL_FULL === '1';
const RATE = Number(process.env.PEAL_OUTAGE_RATE ?? (FULL ? 5000 : 250));
const OUTAGE_MS = FULL ? 30000 : 8000; // longer than a connection is waited for that does not answer
const BUFFER = 4 << 20;
const GROWTH_MAX = BUFFER + (slow > 1 ? 64 << 20 : 6 << 20); // and in flight, what the reader holds, and the allocator's reserve
const PUBLISHERS = 2;

const bridgeOf = (peal) => peal.children().find(({ pid }) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--child=bridge:'));

function privateBytes({ pid }) {
  return 1024 * Number(/^Pss_Anon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))[1]);
}

// One Peal and one Node server on the same Redis (each on a way of its own to it), and beats in both directions.
async function startScene(t, { redis, pealRedis = redis.url, options = {}, bin = pealBinary }) {
  const peal = await startPeal(t, { bin, options: { redis: pealRedis, redis_buffer_bytes: BUFFER, ...options }, args: relay });
  const node = await startNodeServer(t, {
    redis,
    setup: ({ io }) => {
      process.on('unhandledRejection', () => {}); // the adapter's, of a PUBLISH in flight
      io.on('connection', (socket) => socket.join(['r', 'beat']));
      setInterval(() => io.to('beat').emit('down', Date.now()), 50);
    },
  });
  // A client of Node's without a library: it shall not be what is too slow.
  const [here, there] = await Promise.all([ioClient(t, peal.url), wsClient(t, `ws://127.0.0.1:${node.port}/socket.io/?EIO=4&transport=websocket`)]);
  const scene = { peal, node, here, up: 0, down: 0, beats: 0, heard: [], dead: [] };
  here.emit('join', 'beat');
  here.on('down', (at) => (scene.down = Math.max(scene.down, at)));
  there.removeAllListeners('message');
  there.on('message', (data) => {
    const text = data.toString();
    if (text === '2') there.send('3');
    else if (text.startsWith('42["m","')) scene.heard.push(parseInt(text.slice(8).split('.')[1], 16));
    else if (text.startsWith('42["up",')) scene.up = Math.max(scene.up, Number(text.slice(8, -1)));
  });
  there.send('40');
  const timer = setInterval(() => {
    scene.beats++;
    here.emit('publish', 'beat', 'up', Date.now());
  }, 50);
  scene.stopBeats = () => clearInterval(timer);
  defer(t, scene.stopBeats);
  here.on('disconnect', (reason) => scene.dead.push(reason));
  // Until something that was said after `since` has come, each way: [from Peal, to Peal], in ms from then on.
  scene.bothWays = (since, timeout = 15000) =>
    Promise.all(['up', 'down'].map(async (way) => {
      await waitFor(() => scene[way] >= since, { timeout, what: () => `a message of after ${since}, from Peal ${scene.up}, to it ${scene.down}` });
      return Math.max(Date.now() - since, 0);
    }));
  await scene.bothWays(Date.now());
  return scene;
}

const outbound = ['expired', 'buffer', 'disconnected', 'refused'];

// Runs `trouble` under load; it gives when Redis was back. nodeStays: Node's own connections to Redis are not touched by it.
async function underLoad(t, scene, trouble, { nodeStays = true, seconds = 7 } = {}) {
  const { peal } = scene;
  const pids = peal.children().map(({ pid }) => pid).sort();
  const bridge = bridgeOf(peal);
  const perPublisher = Math.ceil((RATE / PUBLISHERS) * seconds);
  const load = startLoad(t, 'fanout', { url: `${peal.wsUrl}/`, clients: PUBLISHERS + 1, publishers: PUBLISHERS, rate: RATE / PUBLISHERS, messages: perPublisher, sources: 0, window: 1024,
    timeout: 200, settle: 3000 * slow });
  await waitFor(() => scene.heard.length > RATE, { timeout: 20000, what: 'the load' });
  const before = privateBytes(bridge);
  let most = 0;
  const sampler = setInterval(() => (most = Math.max(most, privateBytes(bridge))), 100);
  defer(t, () => clearInterval(sampler));
  const back = await trouble();
  const took = await scene.bothWays(back);
  const result = await load.result(180000);
  clearInterval(sampler);
  scene.stopBeats();

  // Local clients: everything, once, in one order. bench/load has looked.
  assert.equal(result.ok, true, JSON.stringify(result));
  assert.equal(result.sent, PUBLISHERS * perPublisher, 'the load was what it should be');
  assert.equal(result.lost + result.repeated + result.out_of_order + result.foreign + result.unanswered, 0);
  assert.deepEqual(scene.dead, [], 'no client was disconnected');
  assert.deepEqual(peal.children().map(({ pid }) => pid).sort(), pids, 'no process has ended');
  const total = PUBLISHERS * perPublisher;
  let published, dropped, all;
  await waitFor(async () => {
    const metrics = await peal.metrics();
    published = metrics.get('peal_redis_published_total');
    dropped = outbound.map((reason) => metrics.get('peal_redis_dropped_total', { reason }));
    all = dropped.reduce((a, b) => a + b, 0);
    return published + all === total + scene.beats;
  }, { timeout: 20000, what: () => `${published} published and ${outbound}: ${dropped} to be ${total + scene.beats}` });

  // The others: none missing that is not counted, in order, and none twice.
  if (nodeStays) await waitFor(() => scene.heard.length + all >= total, { timeout: 20000, what: () => `${scene.heard.length} heard and ${outbound}: ${dropped} to be ${total}` });
  const last = Array.from({ length: PUBLISHERS }, () => -1);
  for (const index of scene.heard) {
    const publisher = Math.floor(index / perPublisher);
    assert.ok(index > last[publisher], `message ${index} after ${last[publisher]}`);
    last[publisher] = index;
  }

  assert.ok(most - before <= GROWTH_MAX, `the bridge grew from ${before} to ${most}`);
  assert.ok(Math.max(...took) <= 5000 * slow, `from Peal and to it only ${took} ms after Redis was back`);
  t.diagnostic(`${RATE}/s: from Peal after ${took[0]} ms, to it ${took[1]}; bridge ${Math.round(before / 1024)}K, at most ${Math.round(most / 1024)}K; heard ${scene.heard.length} of ${total}; ` +
    outbound.map((reason, i) => `${reason} ${dropped[i]}`).join(', '));
  return Object.fromEntries(outbound.map((reason, i) => [reason, dropped[i]]));
}

const LONG = OUTAGE_MS / 1000 + 5; // seconds of load
const limits = { timeout: FULL ? 300000 : 120000 };

test('Redis is killed and comes back', limits, async (t) => {
  const redis = await startRedis(t);
  const scene = await startScene(t, { redis });
  await underLoad(t, scene, async () => {
    await redis.stop('SIGKILL');
    await waitFor(async () => (await scene.peal.metrics()).get('peal_redis_up') === 0);
    await sleep(3000);
    await redis.restart();
    return Date.now();
  }, { nodeStays: false });
});

test('Redis is restarted in order', limits, async (t) => {
  const redis = await startRedis(t);
  const scene = await startScene(t, { redis });
  await underLoad(t, scene, async () => {
    await redis.stop();
    await redis.restart();
    return Date.now();
  }, { nodeStays: false });
});

test('CLIENT PAUSE', limits, async (t) => {
  const redis = await startRedis(t);
  const scene = await startScene(t, { redis });
  const control = await redisClient(t, redis);
  await underLoad(t, scene, async () => {
    await control.sendCommand(['CLIENT', 'PAUSE', String(OUTAGE_MS), 'ALL']);
    const back = Date.now() + OUTAGE_MS;
    await scene.peal.waitEvent('redis_down', { timeout: 8000 });
    await sleep(back - Date.now());
    return back;
  }, { seconds: LONG });
});

test('Redis is stopped and goes on', limits, async (t) => {
  const redis = await startRedis(t);
  const scene = await startScene(t, { redis });
  await underLoad(t, scene, async () => {
    redis.kill('SIGSTOP');
    await sleep(OUTAGE_MS);
    assert.ok((await scene.peal.metrics()).get('peal_redis_lag_seconds') > 1, 'the probe tells');
    redis.kill('SIGCONT');
    return Date.now();
  }, { seconds: LONG });
});

test('Redis ends a subscriber whose buffer is full: nothing that was to be published is lost', limits, async (t) => {
  const redis = await startRedis(t, { args: ['--client-output-buffer-limit', 'pubsub 1mb 512kb 5'] });
  const scene = await startScene(t, { redis });
  const control = await redisClient(t, redis);
  const dropped = await underLoad(t, scene, async () => {
    await control.publish('socket.io#/#big#', Buffer.alloc(2 << 20, 'x'));
    const back = Date.now();
    await scene.peal.waitEvent('redis_down', { where: ({ link }) => link === 'subscriber' });
    return back;
  }, { nodeStays: false });
  assert.deepEqual(dropped, { expired: 0, buffer: 0, disconnected: 0, refused: 0 });
});

for (const [name, away, back] of [
  ['the cable to Redis is unplugged', 'unplug', 'plug'],
  ['the network to Redis loses everything without a sign', 'swallow', 'pass'],
]) {
  test(name, limits, async (t) => {
    const namespace = await startNamespace(t);
    if (namespace === null) return;
    const { cable, line } = namespace;
    const redis = await startRedis(t, { args: ['--bind', '127.0.0.1', cable.near] });
    const scene = await startScene(t, {
      redis,
      pealRedis: `redis://${cable.near}:${redis.port}`,
      bin: await namespace.inside(pealBinary),
      options: { listen: `${line.far}:0`, admin_listen: `${line.far}:0` },
    });
    await underLoad(t, scene, async () => {
      cable[away]();
      await scene.peal.waitEvent('redis_down', { timeout: 10000 });
      await sleep(OUTAGE_MS - 5000);
      cable[back]();
      return Date.now();
    }, { seconds: LONG });
  });
}

test('a short cut of our own connection costs at most what was in flight', limits, async (t) => {
  const redis = await startRedis(t);
  const way = await startForwarder(t, () => ({ port: redis.port }));
  const scene = await startScene(t, { redis, pealRedis: `redis://127.0.0.1:${way.port}` });
  const dropped = await underLoad(t, scene, async () => {
    way.accept(false);
    way.cut();
    await sleep(2000);
    way.accept(true);
    return Date.now();
  });
  assert.deepEqual([dropped.expired, dropped.buffer, dropped.refused], [0, 0, 0]);
});

test('what waits is bounded: by age, and by bytes, the oldest first', limits, async (t) => {
  const redis = await startRedis(t);
  const way = await startForwarder(t, () => ({ port: redis.port }));
  const start = (options) => startPeal(t, { options: { redis: `redis://127.0.0.1:${way.port}`, ...options }, args: relay });
  const [aged, full] = await Promise.all([start({ redis_buffer_age: '1s' }), start({ redis_buffer_bytes: '256K', redis_buffer_age: '1h' })]);
  const node = await startNodeServer(t, { redis, setup: ({ io }) => io.on('connection', (socket) => socket.join('r')) && undefined });
  const there = await ioClient(t, node.url);
  const heard = [];
  there.on('x', (from, n) => heard.push([from, n]));
  const clients = { aged: await ioClient(t, aged.url), full: await ioClient(t, full.url) };
  const up = (value) => Promise.all([aged, full].map((peal) => waitFor(async () => (await peal.metrics()).get('peal_redis_up') === value, { what: `peal_redis_up ${value}` })));
  const dropped = async (peal, reason) => (await peal.metrics()).get('peal_redis_dropped_total', { reason });
  const say = async (from, n) => assert.deepEqual(await clients[from].timeout(5000 * slow).emitWithAck('publish', 'r', 'x', from, n, 'x'.repeat(1000)), { ok: true });
  await up(1);
  way.accept(false);
  way.cut();
  await up(0);
  for (let n = 0; n < 10; n++) await say('aged', n);
  await waitFor(async () => (await dropped(aged, 'expired')) === 10, { timeout: 10000, what: 'the old ones' });
  for (let n = 0; n < 1000; n++) await say('full', n);
  assert.ok((await dropped(full, 'buffer')) > 700);
  way.accept(true);
  await up(1);
  await say('aged', 10);
  await say('full', 1000);
  const wait = (from, n) => waitFor(() => heard.some(([f, m]) => f === from && m === n), { what: `message ${n} of ${from}` });
  await Promise.all([wait('aged', 10), wait('full', 1000)]);
  assert.deepEqual(heard.filter(([from]) => from === 'aged'), [['aged', 10]]);
  const young = heard.filter(([from]) => from === 'full').map(([, n]) => n);
  assert.deepEqual(young, Array.from({ length: young.length }, (_, i) => 1001 - young.length + i), 'the youngest, all of them');
  assert.equal(young.length + (await dropped(full, 'buffer')), 1001);
});

test('a connection that is open, answers PING and hears nothing is made anew', limits, async (t) => {
  const [redis, other] = await Promise.all([startRedis(t), startRedis(t)]);
  let taken = 0;
  // A balancer that sends the first connection, the subscriber, elsewhere.
  const way = await startForwarder(t, () => ({ port: taken++ === 0 ? other.port : redis.port }));
  const peal = await startPeal(t, { options: { redis: `redis://127.0.0.1:${way.port}` }, args: relay });
  const event = await peal.waitEvent('redis_down', { timeout: 15000 });
  assert.match(event.reason, /deaf/);
  assert.equal(event.link, 'subscriber');
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { timeout: 5000, what: 'Redis' });
});
