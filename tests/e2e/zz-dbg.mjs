import { redisClient, startPeal, startRedis, test, waitFor, sleep } from './lib/index.mjs';
import { OPEN, logged, subscribed } from './lib/cluster.mjs';
import { createRequire } from 'node:module';
import { spawn, execSync } from 'node:child_process';
const { encode } = createRequire(import.meta.url)('notepack.io');
const broadcast = (packet = {}, opts = {}, uid = 'peer00') =>
  encode([uid, { type: 2, data: ['bad', 1], nsp: '/', ...packet }, { rooms: [], except: [], flags: {}, ...opts }]);
test('x', async (t) => {
  const redis = await startRedis(t);
  const peal = await startPeal(t, { config: OPEN, options: { redis: redis.url } });
  const pub = await redisClient(t, redis);
  await subscribed(pub, '/', 1);
  const bridge = execSync(`pgrep -P ${peal.pid} -f child=bridge`).toString().trim();
  const perf = spawn('perf', ['record', '-g', '-o', '/tmp/perf.cl', '-p', bridge, 'sleep', '5'], {stdio:'inherit'});
  const st = spawn('strace', ['-c', '-p', bridge], {stdio:'inherit'});
  await sleep(500);
    const m = broadcast({ data: ['giant', Buffer.alloc(10 << 20, 7)] });
    await pub.publish('socket.io#/#', m);
  await sleep(5500);
});
