// cluster-fetch.test.mjs: a host with very many sockets is asked for all of them: answered in time, cut where it must be, and nobody's connection to Redis suffers.
// 2,000 sockets; with PEAL_FULL=1 20,000. @test no-asan timeout=300
import assert from 'node:assert/strict';
import { redisClient, startNodeServer, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { subscribed } from './lib/cluster.mjs';
import { relay, startLoad } from './lib/load.mjs';

const N = process.env.PEAL_FULL === '1' ? 20000 : 2000;
// an entry has about 250 bytes
const LIMITS = { whole: '16M', cut: N === 20000 ? '4M' : '256K' };

// The connections that Redis has, by id: one that was lost and came back has another.
const connections = async (control) => (await control.sendCommand(['CLIENT', 'LIST'])).split('\n').filter((line) => /\bname=|\baddr=/.test(line)).map((line) => /\bid=(\d+)/.exec(line)[1]).sort();

for (const [how, limit] of Object.entries(LIMITS)) {
  test(`fetchSockets of ${N} sockets, redis_answer_max_bytes = ${limit}: ${how}`, { timeout: 140000 }, async (t) => {
    const redis = await startRedis(t);
    const control = await redisClient(t, redis);
    const options = { workers: 2, redis: redis.url, redis_answer_max_bytes: limit };
    const [peal, other, node] = await Promise.all([
      startPeal(t, { options, args: relay }),
      startPeal(t, { name: 'other', options, args: relay }),
      startNodeServer(t, { redis, adapter: { requestsTimeout: 10000 } }),
    ]);
    await subscribed(control, '/', 3);
    const load = startLoad(t, 'hold', { url: `${peal.wsUrl}/`, clients: N, room: 'r', timeout: 130 });
    await waitFor(async () => (await peal.metrics()).sum('peal_sockets', { namespace: '/' }) === N, { timeout: 100000, interval: 500, what: `${N} sockets` });
    const before = await connections(control);
    // it is 2 s on a machine that does nothing else
    const took = [];
    for (let i = 0; i < 3; i++) {
      const { n, ms } = await node.run(async ({ io }) => {
        const begin = performance.now();
        const n = (await io.fetchSockets()).length;
        return { n, ms: performance.now() - begin };
      });
      took.push(Math.round(ms));
      if (how === 'whole') assert.equal(n, N);
      else assert.ok(n > 500 && n < N, `${n} sockets in an answer that was cut`);
    }
    const rooms = await node.run(async ({ io }) => (await io.of('/').adapter.allRooms()).size);
    assert.ok(how === 'whole' ? rooms === N + 1 : rooms > 500, `${rooms} rooms`);
    t.diagnostic(`fetchSockets took ${took} ms`);
    assert.ok(Math.min(...took) < 4000, `fetchSockets took ${took} ms`);
    const truncated = (await peal.metrics()).get('peal_redis_answers_truncated_total', { type: 'sockets' });
    assert.equal(truncated, how === 'whole' ? 0 : 3);
    assert.deepEqual(await connections(control), before, 'nobody lost its connection to Redis');
    for (const host of [peal, other]) assert.equal(host.events('redis_down').length, 0);
    assert.equal((await peal.metrics()).sum('peal_sockets', { namespace: '/' }), N, 'nor a client its own');
    load.say('quit');
  });
}
