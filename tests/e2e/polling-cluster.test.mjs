// polling-cluster.test.mjs: a crowd of real clients, most of which poll and then upgrade, the rest pinned to polling, on many workers without any
// stickiness, directly and through nginx. No request may miss its session. PEAL_FULL=1 is the whole bar: 700 clients, two minutes, 100,000
// deliveries each way. PEAL_TEST_TARGET=node shows that the crowd itself is sound. @test no-asan timeout=900
import assert from 'node:assert/strict';
import { test, waitFor } from './lib/index.mjs';
import { runCrowd } from './lib/crowd.mjs';
import { startNginx } from './lib/nginx.mjs';
import { onNode, startTarget } from './lib/target.mjs';

const FULL = process.env.PEAL_FULL === '1';
// Five that upgrade and two that poll in each group: everybody hears six others.
const GROUP = [null, null, null, null, null, ['polling'], ['polling']];
const SIZE = FULL ? { groups: 100, count: 24, seconds: 120, patience: 60 } : { groups: 20, count: 12, seconds: 5, patience: 30 };
const WORKERS = 8;

async function crowdThrough(t, { nginx, size = SIZE, balance = 'reuseport' }) {
  const target = await startTarget(t, { workers: WORKERS, balance });
  const front = nginx ? await startNginx(t, target, nginx) : target;
  const crowd = await runCrowd(t, front.url, { patterns: GROUP, ...size });
  const clients = size.groups * GROUP.length;
  t.diagnostic(`${crowd.clients} clients, ${crowd.acknowledged} published, ${crowd.deliveries} delivered`);
  // What would explain the rest comes first.
  assert.deepEqual(crowd.faults, [], `${crowd.nFaults} connections were troubled`);
  assert.deepEqual(crowd.wrong, [], `${crowd.nWrong} messages or transports were not as they must be`);
  assert.equal(crowd.missing, 0, 'messages or acknowledgements that never came');
  assert.deepEqual([crowd.clients, crowd.acknowledged, crowd.deliveries], [clients, clients * size.count, clients * size.count * (GROUP.length - 1)]);
  if (!onNode) await checkServer(target, clients);
  await crowd.leave();
  if (!onNode) await waitFor(async () => (await target.metrics()).sum('peal_connections') === 0, { timeout: 20000, what: 'no connection after all have left' });
}

async function checkServer(target, clients) {
  const metrics = await target.metrics();
  assert.equal(metrics.sum('peal_session_unknown_total'), 0, 'Session ID unknown');
  assert.equal(metrics.sum('peal_connections'), clients, 'each client counts once');
  assert.equal(metrics.sum('peal_connections_accepted_total'), clients);
  assert.equal(metrics.sum('peal_connections_refused_total'), 0);
  assert.equal(metrics.sum('peal_worker_restarts_total'), 0);
  assert.ok(metrics.sum('peal_handoffs_total') > clients, `only ${metrics.sum('peal_handoffs_total')} requests were handed over: not all workers took part`);
  const busy = Array.from({ length: WORKERS }, (_, worker) => metrics.sum('peal_connections', { worker }));
  assert.ok(busy.filter((n) => n > 0).length > WORKERS / 2, `clients of the workers: ${busy}`);
}

const options = { timeout: FULL ? 400000 : 120000 };

test('a crowd directly on eight workers: no session is missed, each message comes once and in order', options, (t) => crowdThrough(t, {}));

test('the same crowd through nginx with a pool of kept connections and no stickiness', options, (t) => crowdThrough(t, { nginx: { pool: true } }));

test('a small crowd through an nginx that says Connection: upgrade to every request', options, (t) =>
  crowdThrough(t, { nginx: { pool: false }, balance: 'leastconn', size: { groups: 4, count: 5, seconds: 2, patience: 30 } }));
