// fanout.test.mjs: 4 workers, 100 real clients over WebSocket, 8 publishers with 500 messages each to one room: everybody gets everything exactly once,
// and all see the same order; however connections find their worker. @test asan-soak timeout=120
import assert from 'node:assert/strict';
import { startPeal, test, waitFor, wsClient } from './lib/index.mjs';
import { FANOUT_CONFIG, fanOut, roomOf } from './lib/fanout.mjs';
import { sameWorkers, workersOf } from './lib/engine.mjs';

for (const balance of ['leastconn', 'reuseport', 'iphash']) {
  test(`every member gets every message once and in one order, with balance = ${balance}`, { timeout: 60000 }, async (t) => {
    const peal = await startPeal(t, { options: { workers: 4, balance }, config: FANOUT_CONFIG });
    const workers = workersOf(peal);
    const members = await roomOf(t, peal, 100);
    const metrics = await waitFor(async () => {
      const m = await peal.metrics();
      return m.sum('peal_connections') === 100 && m;
    }, { what: '100 connections in the metrics' });
    const each = [0, 1, 2, 3].map((worker) => metrics.sum('peal_connections', { worker }));
    if (balance === 'leastconn') assert.deepEqual(each, [25, 25, 25, 25]);
    else assert.ok(each.every((n) => n > 0), `each worker has some: ${each}`);
    await fanOut(members, { publishers: 8, messages: 500 });
    sameWorkers(peal, workers);
    const after = await peal.metrics();
    assert.ok(after.sum('peal_deliveries_total') >= 8 * 500 * 99, 'counted as delivered');
    assert.equal(after.sum('peal_slow_consumers_total'), 0);
    assert.equal(after.sum('peal_worker_restarts_total'), 0);
    for (const member of members) member.disconnect();
    await waitFor(async () => {
      const m = await peal.metrics();
      return m.sum('peal_connections') === 0 && m.sum('peal_rooms') === 0 && m.sum('peal_sockets') === 0;
    }, { what: 'gauges back at 0' });
    const end = await peal.metrics();
    assert.equal(end.sum('peal_connections_accepted_total') - end.sum('peal_closes_total'), 0);
  });
}

test('iphash sends one address to one worker, always', async (t) => {
  const peal = await startPeal(t, { options: { workers: 4, balance: 'iphash' }, config: FANOUT_CONFIG });
  for (let i = 0; i < 12; i++) await wsClient(t, `${peal.wsUrl}/ws/public/a`, { localAddress: '127.0.0.77' });
  const metrics = await waitFor(async () => {
    const m = await peal.metrics();
    return m.sum('peal_connections') === 12 && m;
  }, { what: '12 connections' });
  assert.deepEqual([0, 1, 2, 3].map((worker) => metrics.sum('peal_connections', { worker })).filter((n) => n > 0), [12]);
});
