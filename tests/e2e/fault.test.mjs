// fault.test.mjs: workers and the master die; what must not be lost is not lost.
// @test no-asan timeout=300
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { rawConnect, slow, sleep, startPeal, test, waitFor, wsClient } from './lib/index.mjs';
import { relay, startLoad } from './lib/load.mjs';

const workerPid = async (peal, slot) => (await peal.api('workers')).workers.find((w) => w.slot === slot).pid;

test('kill -9 of a worker: what was acknowledged reaches every member on the others exactly once, and without a gap', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { options: { workers: 4 }, args: relay });
  const clients = slow > 1 ? 500 : 5000;
  const load = startLoad(t, 'fanout', {
    url: `${peal.wsUrl}/`, clients, publishers: 10, messages: 40, rate: slow > 1 ? 4 : 6, room: 'r', 'tolerate-closes': true, 'each-close': true,
  });
  await waitFor(async () => (await peal.metrics()).sum('peal_deliveries_total') > clients * 60, { timeout: 40000, what: 'traffic' });
  process.kill(await workerPid(peal, 1), 'SIGKILL');
  const result = await load.result();
  t.diagnostic(`closed ${clients - result.open}, longest gap of a survivor ${result.longest_gap.max_us / 1000} ms`);
  assert.equal(result.ok, true, JSON.stringify(result));
  assert.equal(result.lost + result.repeated + result.out_of_order + result.clients_with_another_order, 0);
  assert.ok(result.open < clients && result.open >= clients / 2, 'one worker of four has taken its clients along');
  // the bar is 250 ms; the machine itself may stop for a moment
  assert.ok(result.longest_gap.max_us < 250000 * slow * 2, `a gap of ${result.longest_gap.max_us} us`);
  await load.exited;
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 0, { what: 'connections 0' });
  const metrics = await peal.metrics();
  const accepted = metrics.sum('peal_connections_accepted_total');
  assert.equal(accepted, clients);
  assert.equal(metrics.sum('peal_closes_total'), accepted);
  assert.equal(metrics.get('peal_closes_total', { reason: 'worker_died' }), clients - result.open);
  assert.equal(metrics.sum('peal_rooms') + metrics.sum('peal_sockets'), 0);
  assert.equal(metrics.get('peal_worker_restarts_total'), 1);
});

test('a stopped worker that is killed: every connection in its listener\'s queue is served by the successor', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { options: { workers: 2, balance: 'reuseport' } });
  const victim = await workerPid(peal, 0);
  process.kill(victim, 'SIGSTOP');
  // what it accepts before it stops is its own, and dies with it
  await waitFor(() => readFileSync(`/proc/${victim}/stat`, 'latin1').split(') ')[1][0] === 'T', { what: 'the stop' });
  const waiting = new Set();
  const answers = [];
  const sockets = [];
  t.after(() => sockets.forEach((s) => s.destroy()));
  const open = () =>
    new Promise((resolve, reject) => {
      const s = connect(peal.port, '127.0.0.1');
      sockets.push(s);
      s.once('connect', () => {
        waiting.add(s);
        s.write('GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
        resolve();
      });
      s.on('data', (d) => {
        answers.push(String(d).split('\r\n')[0]);
        waiting.delete(s);
      });
      s.once('error', reject);
    });
  while (waiting.size < 300) {
    for (let i = 0; i < 50; i++) await open();
    await sleep(30); // the other worker answers what is its own
  }
  const stuck = waiting.size;
  process.kill(victim, 'SIGKILL');
  await waitFor(() => waiting.size === 0, { timeout: 5000, what: () => `answers to ${waiting.size} of ${stuck} connections` });
  assert.ok(stuck >= 300);
  assert.ok(answers.every((a) => a === 'HTTP/1.1 200 OK'));
});

test('SIGKILL of the master: the listeners close at once, clients are told 1012, and nothing is left', { timeout: 30000 }, async (t) => {
  for (const balance of ['leastconn', 'reuseport']) {
    const peal = await startPeal(t, { options: { workers: 2, balance } });
    const client = await wsClient(t, `${peal.wsUrl}/ws/public/x`);
    const closed = new Promise((resolve) => client.once('close', (code) => resolve(code)));
    const refused = async () => {
      try {
        (await rawConnect(t, peal.port)).destroy();
        return false;
      } catch {
        return true;
      }
    };
    peal.kill('SIGKILL');
    await peal.exited;
    const began = performance.now();
    await waitFor(refused, { timeout: 2000, interval: 5, what: 'closed listeners' });
    t.diagnostic(`${balance}: listeners closed after ${Math.round(performance.now() - began)} ms`);
    assert.equal(await closed, 1012);
    await peal.stop(null, { code: null, survivorTimeout: 7000 });
  }
});

test('a worker that is stopped while others wait for it is replaced', { timeout: 60000 }, async (t) => {
  // a ring of 4 MB: 20 publishers fill it while one worker sleeps
  const peal = await startPeal(t, { options: { workers: 2, ring_bytes: '4M', event_bytes_max: '512K', max_message_bytes: 400000, outq_bytes_max: '1M', outq_soft: '256K' }, args: relay });
  const victim = await workerPid(peal, 0);
  const load = startLoad(t, 'fanout', { url: `${peal.wsUrl}/`, clients: 100, publishers: 20, messages: 60, payload: 8000, room: 'r', 'tolerate-closes': true });
  await waitFor(async () => (await peal.metrics()).sum('peal_deliveries_total') > 100, { timeout: 20000, what: 'traffic' });
  process.kill(victim, 'SIGSTOP');
  await peal.waitEvent('worker_stalled', { timeout: 15000 });
  const result = await load.result();
  assert.equal(result.ok, true, JSON.stringify(result));
  assert.equal((await peal.metrics()).get('peal_worker_restarts_total'), 1);
});
