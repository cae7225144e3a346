// slow.test.mjs: clients that stop reading cost bytes, not megabytes, and nobody else's time.
// @test no-asan timeout=300
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { slow, startPeal, test, waitFor } from './lib/index.mjs';
import { relay, startLoad } from './lib/load.mjs';

const pssOf = (peal) =>
  [{ pid: peal.pid }, ...peal.children()].reduce((sum, p) => sum + Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${p.pid}/smaps_rollup`, 'latin1'))[1]) * 1024, 0);

test('1,000 clients that stop reading end by the policy, within the bound of memory', { timeout: 90000 }, async (t) => {
  const n = slow > 1 ? 100 : 1000;
  const options = { workers: 2, outq_bytes_max: '2M', event_bytes_max: '1M', max_message_bytes: 100000, outq_items_max: 64, outq_bytes_total: '64M', ping_interval: '20s' };
  const run = async (name, nSlow) => {
    const peal = await startPeal(t, { name, options, args: relay });
    const fresh = pssOf(peal);
    const load = startLoad(t, 'fanout', {
      url: `${peal.wsUrl}/`, clients: n + nSlow, slow: nSlow, room: 'r', publishers: 4, messages: 100, rate: 10, payload: 8000, 'tolerate-closes': true, timeout: 80,
    });
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, pssOf(peal));
    }, 200);
    const result = await load.result(80000).finally(() => clearInterval(watch));
    const metrics = await peal.metrics();
    await load.exited;
    return { result, metrics, grown: peak - fresh };
  };
  const none = await run('no slow ones', 0);
  const some = await run('slow ones', n);
  t.diagnostic(`p99 ${none.result.latency.p99_us} us without, ${some.result.latency.p99_us} us with; grown ${Math.round(some.grown / 1048576)} MiB`);
  assert.equal(none.result.ok, true, JSON.stringify(none.result));
  assert.equal(some.result.lost + some.result.repeated + some.result.clients_with_another_order, 0, JSON.stringify(some.result));
  assert.equal(some.metrics.get('peal_slow_consumers_total', { action: 'close' }), n);
  assert.equal(some.metrics.get('peal_closes_total', { reason: 'slow_consumer' }), n);
  assert.ok(some.result.latency.p99_us < none.result.latency.p99_us * 1.5 + 100000 * slow, 'the others');
  assert.ok(some.grown < 64 * 1048576 + n * 4096 + 32 * 1048576, `grown by ${some.grown}`);
});
