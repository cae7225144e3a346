// drain.test.mjs: TERM: load balancers notice first, clients are sent away at a pace, nobody loses what was queued. @test asan-soak parallel
import assert from 'node:assert/strict';
import { collect, fetchText, httpRequest, ioClient, ioClients, rawConnect, slow, startForwarder, startPeal, test, waitFor, wsClient } from './lib/index.mjs';
import { workersOf } from './lib/engine.mjs';
import { relay, startLoad } from './lib/load.mjs';

const status = async (peal, path) => (await httpRequest(`${peal.url}${path}`)).status;

test('2,000 clients are drained at drain_rate, and the real ones come back on another server', { timeout: 90000 }, async (t) => {
  const crowd = slow > 1 ? 400 : 1850;
  const rate = slow > 1 ? 150 : 500;
  const first = await startPeal(t, { name: 'first', options: { workers: 4, drain_grace: '2s', drain_rate: rate, drain_timeout: '30s' }, args: relay });
  const second = await startPeal(t, { name: 'second', options: { workers: 2 }, args: relay });
  // a load balancer: new connections go to whoever is ready
  const balancer = await startForwarder(t, async () => ((await status(first, '/readyz').catch(() => 503)) === 200 ? first : second));
  const clients = await ioClients(t, `http://127.0.0.1:${balancer.port}`, 100, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
  const got = collect(clients, 'last');
  const reasons = new Map();
  const lastBefore = clients.map(() => 0);
  clients.forEach((socket, i) => socket.on('disconnect', (reason) => {
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    lastBefore[i] = got[i].length;
  }));
  await Promise.all(clients.map((socket) => socket.emitWithAck('join', 'r')));
  const load = startLoad(t, 'hold', { url: `${first.wsUrl}/`, clients: crowd, room: 'r', timeout: 80 });
  await waitFor(() => load.last('connected')?.open === crowd, { timeout: 30000, what: 'the crowd' });
  const silent = await Promise.all(Array.from({ length: 50 }, () => wsClient(t, `${first.wsUrl}/ws/public/quiet`)));
  silent.forEach((socket) => socket.pause());
  const publisher = await ioClient(t, first.url, {});
  let n = 0;
  let publishing = true;
  const traffic = (async () => {
    while (publishing && publisher.connected) {
      await publisher.emitWithAck('publish', 'r', 'last', n++).catch(() => {});
    }
  })();
  first.kill('SIGTERM');
  await waitFor(async () => (await status(first, '/readyz')) === 503, { what: 'readyz 503' });
  assert.equal((await first.metrics()).sum('peal_closes_total', { reason: 'drain' }), 0, 'readyz is 503 before the first close');
  const late = await ioClient(t, first.url, {}); // still served while load balancers have not noticed
  assert.equal(late.connected, true);
  await first.waitEvent('listeners_closed');
  const seconds = [];
  let before = 0;
  let mark = performance.now();
  while (!first.hasExited()) {
    await waitFor(() => performance.now() - mark >= 1000 || first.hasExited(), { timeout: 5000, interval: 1 });
    const text = await fetchText(`${first.adminUrl}/metrics`).catch(() => null);
    const closed = Number(/^peal_closes_total\{reason="drain"\} (\d+)/m.exec(text ?? '')?.[1] ?? NaN);
    const elapsed = performance.now() - mark;
    mark += elapsed;
    if (!Number.isNaN(closed)) {
      seconds.push(((closed - before) / elapsed) * 1000);
      before = closed;
    }
  }
  publishing = false;
  await traffic;
  t.diagnostic(`closes a second: ${seconds.map(Math.round).join(' ')}`);
  assert.deepEqual({ code: (await first.exited).code }, { code: 0 });
  assert.match(first.log(), /event=drained closed=\d+ forced=\d+/);
  // the first and the last second are cut ones
  for (const each of seconds.slice(1, -1).slice(0, Math.floor((crowd + 150) / rate) - 2)) assert.ok(each > rate * 0.9 && each < rate * 1.1, `${each} closes in a second`);
  assert.equal(reasons.has('io server disconnect'), false, 'the client would not come back by itself');
  await waitFor(() => clients.every((socket) => socket.connected), { timeout: 10000, what: 'all clients on the other server' });
  assert.equal((await second.metrics()).sum('peal_connections'), 100);
  // what each got is an unbroken beginning of the traffic
  for (const list of got) list.forEach(([value], i) => assert.equal(value, list[0][0] + i));
  await first.stop(null);
  load.child.stdin.end();
});

test('a drain without clients ends after its grace, and a second INT ends at once', async (t) => {
  const peal = await startPeal(t, { options: { drain_grace: '0s' } });
  await peal.stop('SIGINT');
  const held = await startPeal(t, { options: { drain_grace: '30s' } });
  await wsClient(t, `${held.wsUrl}/ws/public/x`);
  held.kill('SIGINT');
  await held.waitEvent('draining');
  await held.stop('SIGINT', { code: 1, timeout: 4000 });
});

test('signals to the whole process group are the master\'s business alone', async (t) => {
  const peal = await startPeal(t, { options: { drain_grace: '1s', workers: 2 } });
  const client = await wsClient(t, `${peal.wsUrl}/ws/public/x`);
  for (const child of peal.children()) {
    process.kill(child.pid, 'SIGTERM');
    process.kill(child.pid, 'SIGINT');
  }
  client.ping();
  await new Promise((resolve) => client.once('pong', resolve));
  assert.equal(peal.events('worker_died').length + peal.events('admin_died').length, 0);
});

// Sockets that nobody has looked at when the listeners close: behind max_pending others, which say nothing, or in the kernel's queue.
for (const balance of ['leastconn', 'reuseport']) {
  test(`who waits when the listeners close is told why, with balance = ${balance}`, async (t) => {
    const peal = await startPeal(t, { options: { workers: 1, balance, max_pending: 4, drain_grace: '0s', drain_rate: 1, drain_timeout: '20s', header_timeout: '20s' } });
    const [{ pid }] = workersOf(peal);
    for (let i = 0; i < 5; i++) await wsClient(t, `${peal.wsUrl}/ws/public/x`); // who is there while it drains
    const silent = await Promise.all(Array.from({ length: 4 }, () => rawConnect(t, peal.port)));
    await waitFor(async () => (await peal.api('workers')).workers[0].pending === 4, { what: 'four that say nothing' });
    process.kill(pid, 'SIGSTOP');
    const late = await Promise.all(Array.from({ length: 5 }, () => rawConnect(t, peal.port)));
    peal.kill('SIGTERM');
    await peal.waitEvent('listeners_closed');
    process.kill(pid, 'SIGCONT');
    for (const raw of late) assert.match((await raw.readAll()).toString(), /^HTTP\/1\.1 503 .*\r\n\r\nthe server is draining\r\n$/s);
    assert.equal((await peal.metrics()).get('peal_connections_refused_total', { reason: 'draining' }), 5);
    await assert.rejects(rawConnect(t, peal.port), /ECONNREFUSED/);
    for (const raw of silent) raw.reset();
    await peal.stop(null);
  });
}
