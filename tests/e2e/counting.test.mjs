// counting.test.mjs: after whatever happened, the counts are the test's own.
// @test no-asan timeout=300
import assert from 'node:assert/strict';
import { slow, startPeal, test, waitFor } from './lib/index.mjs';
import { relay, startLoad } from './lib/load.mjs';

test('random connects, clean closes, resets, half-opens and 20 kill -9s: counts are exact and no gauge is negative', { timeout: 120000 }, async (t) => {
  const clients = slow > 1 ? 2000 : 20000;
  const kills = 20;
  const peal = await startPeal(t, { options: { workers: 4, ping_interval: '2s', ping_timeout: '1s' }, args: relay });
  const churn = startLoad(t, 'churn', {
    url: `${peal.wsUrl}/`, clients, concurrent: 800, life: 400, 'tolerate-closes': true, stay: true, timeout: 110,
  });
  for (let i = 0; i < kills; i++) {
    const accepted = (await peal.metrics()).sum('peal_connections_accepted_total');
    await waitFor(async () => churn.last('churned') || (await peal.metrics()).sum('peal_connections_accepted_total') >= accepted + clients / (kills * 3), {
      timeout: 20000, what: 'more connects',
    });
    const worker = (await peal.api('workers')).workers.find((w) => w.slot === i % 4);
    if (worker.pid > 0) process.kill(worker.pid, 'SIGKILL');
    const metrics = await peal.metrics();
    for (const sample of metrics.samples) assert.ok(sample.value >= 0, `${sample.name} is ${sample.value}`);
    await waitFor(async () => (await peal.api('workers')).workers.filter((w) => w.state === 'live').length === 4, { timeout: 8000, what: 'the successor' });
  }
  await waitFor(() => churn.last('churned'), { timeout: 60000, what: 'the end of the churn' });
  // half-opens are found out within ping_interval + ping_timeout
  const open = () => churn.last('counts')?.open ?? 0;
  await waitFor(async () => {
    const metrics = await peal.metrics();
    const now = metrics.sum('peal_connections');
    return now === open() && metrics.sum('peal_connections_accepted_total') - metrics.sum('peal_closes_total') === now;
  }, { timeout: 8000, what: 'the counts of the test' });
  churn.child.stdin.end();
  await churn.exited;
  await waitFor(async () => {
    const metrics = await peal.metrics();
    return ['peal_connections', 'peal_rooms', 'peal_sockets'].every((name) => metrics.sum(name) === 0);
  }, { timeout: 8000, what: 'everything back to 0' });
  const metrics = await peal.metrics();
  assert.equal(metrics.sum('peal_connections_accepted_total'), metrics.sum('peal_closes_total'));
  assert.ok(metrics.get('peal_closes_total', { reason: 'worker_died' }) > 0);
});

test('a scrape under many clients costs little', { timeout: 60000 }, async (t) => {
  const clients = slow > 1 ? 1000 : 10000;
  const peal = await startPeal(t, { options: { workers: 2 }, args: relay });
  const load = startLoad(t, 'hold', { url: `${peal.wsUrl}/`, clients, timeout: 60 });
  await waitFor(() => load.last('connected'), { timeout: 40000, what: 'clients' });
  const { readFileSync } = await import('node:fs');
  const admin = peal.children().find((p) => readFileSync(`/proc/${p.pid}/cmdline`, 'latin1').includes('admin'));
  const cpu = () => {
    const fields = readFileSync(`/proc/${admin.pid}/stat`, 'latin1').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10; // ticks of 10 ms
  };
  const before = cpu();
  for (let i = 0; i < 20; i++) assert.equal((await peal.metrics()).sum('peal_connections'), clients);
  const each = (cpu() - before) / 20;
  t.diagnostic(`${each} ms of CPU a scrape with ${clients} clients`);
  assert.ok(each < 50 * slow, `${each} ms`);
  load.say('quit');
  await load.exited;
});
