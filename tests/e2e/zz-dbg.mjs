import { redisClient, startPeal, startRedis, test, waitFor, sleep } from './lib/index.mjs';
import { OPEN, logged, subscribed } from './lib/cluster.mjs';
import { createRequire } from 'node:module';
import { execSync } from 'node:child_process';
const { encode } = createRequire(import.meta.url)('notepack.io');
const broadcast = (packet = {}, opts = {}, uid = 'peer00') =>
  encode([uid, { type: 2, data: ['bad', 1], nsp: '/', ...packet }, { rooms: [], except: [], flags: {}, ...opts }]);
test('x', async (t) => {
  const redis = await startRedis(t);
  const peal = await startPeal(t, { config: OPEN, options: { redis: redis.url } });
  const pub = await redisClient(t, redis);
  await subscribed(pub, '/', 1);
  const c = await logged(t, peal, {});
  for (const mb of [4, 8, 12, 15, 17, 20]) {
    const t0 = performance.now();
    await pub.publish('socket.io#/#', broadcast({ data: ['giant', Buffer.alloc(mb << 20, 7)] }));
    const t1 = performance.now();
    await pub.publish('socket.io#/#', broadcast({ data: ['fence', mb] }));
    try { await waitFor(() => c.log.at(-1)?.[1] === mb, {timeout: 4000}); } catch (e) { console.error('late', mb, c.connected); console.error(execSync('ps -eo pid,ppid,stat,wchan:20,time,args | grep "child=" | grep -v grep').toString().slice(0,3000)); console.error((await peal.metrics()).samples.filter(s=>/redis|outq|closes|slow/.test(s.name)&&s.value).map(s=>s.name+JSON.stringify(s.labels)+s.value).join('\n'));}
    console.error(mb, Math.round(t1 - t0), Math.round(performance.now() - t1), c.log.length, c.connected);
  }
});
