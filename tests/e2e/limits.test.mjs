// limits.test.mjs: limits are exact, refusals say why and when to come back, and are counted by reason.
// @test parallel timeout=300
import assert from 'node:assert/strict';
import { frame, httpRequest, OP, rawConnect, rawWebSocket, readResponse, startPeal, test, upgradeRequest, waitFor } from './lib/index.mjs';
import { ENGINE, engine, sameWorkers, workersOf } from './lib/engine.mjs';

// All at once: { served: [raw connections], refused: [answers] }.
async function connectMany(t, peal, n, path = ENGINE) {
  const tries = await Promise.all(Array.from({ length: n }, async () => {
    const raw = await rawConnect(t, peal.port);
    raw.write(upgradeRequest(path));
    const answer = await readResponse(raw, { timeout: 20000 });
    return { raw, answer };
  }));
  for (const { answer } of tries) assert.ok(answer.status === 101 || answer.status === 503, `status ${answer.status}`);
  return { served: tries.filter(({ answer }) => answer.status === 101).map(({ raw }) => raw), refused: tries.filter(({ answer }) => answer.status === 503) };
}

async function mustBeRefused({ raw, answer }, why) {
  assert.ok(Number(answer.headers['retry-after']) > 0, 'Retry-After');
  assert.equal(answer.headers.connection, 'close');
  assert.match(answer.body, why);
  assert.equal((await raw.readAll()).length, 0);
}

// Clients per worker by the metrics, once they add up to `total`.
async function perWorker(peal, total) {
  const metrics = await waitFor(async () => {
    const m = await peal.metrics();
    return m.sum('peal_connections') === total && m;
  }, { what: `${total} connections in the metrics` });
  return Array.from({ length: peal.workers }, (_, worker) => metrics.sum('peal_connections', { worker }));
}

test('of 260 connections exactly 200 are served, 50 by each of 4 workers; after 10 leave, exactly 10 more come in', async (t) => {
  const peal = await startPeal(t, { args: ['--workers=4', '--max-connections-per-worker=50'] });
  const { served, refused } = await connectMany(t, peal, 260);
  assert.deepEqual([served.length, refused.length], [200, 60]);
  for (const one of refused) await mustBeRefused(one, /full/);
  assert.deepEqual(await perWorker(peal, 200), [50, 50, 50, 50]);
  const metrics = await peal.metrics();
  assert.equal(metrics.sum('peal_connections_refused_total'), 60);
  assert.equal(metrics.sum('peal_connections_refused_total', { reason: 'worker_limit' }) + metrics.sum('peal_connections_refused_total', { reason: 'host_limit' }), 60);
  for (let worker = 0; worker < 4; worker++) assert.equal(metrics.get('peal_connections_limit', { worker }), 50);
  // health is asked without a place
  assert.equal((await httpRequest(`${peal.url}/readyz`)).status, 200);

  for (const raw of served.splice(0, 10)) raw.reset();
  await perWorker(peal, 190);
  const more = await connectMany(t, peal, 30);
  assert.deepEqual([more.served.length, more.refused.length], [10, 20]);
  assert.deepEqual(await perWorker(peal, 200), [50, 50, 50, 50]);
  const after = await peal.metrics();
  assert.equal(after.sum('peal_connections_accepted_total'), 210);
  assert.equal(after.sum('peal_connections_accepted_total') - after.sum('peal_closes_total'), 200);
});

for (const balance of ['leastconn', 'reuseport', 'iphash']) {
  test(`max_connections holds for the host with balance = ${balance}`, async (t) => {
    const peal = await startPeal(t, { options: { workers: 2, max_connections: 20, balance } });
    const { served, refused } = await connectMany(t, peal, 40);
    // workers that count for themselves may both see the last place free
    const over = balance === 'leastconn' ? 0 : 2;
    assert.ok(served.length >= 20 && served.length <= 20 + over, `${served.length} served`);
    for (const one of refused) await mustBeRefused(one, /max_connections/);
    assert.equal((await peal.metrics()).sum('peal_connections_refused_total', { reason: 'host_limit' }), refused.length);
    for (const raw of served.splice(0, 5)) raw.end();
    await perWorker(peal, served.length);
    const room = 20 - served.length;
    const more = await connectMany(t, peal, 15);
    assert.ok(more.served.length >= room && more.served.length <= room + over, `${more.served.length} more`);
  });
}

test('places are given back by all that is no client: health checks, files, refusals, silence, resets', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2, max_connections: 4, header_timeout: '500ms' } });
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 10 }, () => httpRequest(`${peal.url}/livez`)));
    await Promise.all(Array.from({ length: 10 }, () => httpRequest(`${peal.url}/nothing`)));
    for (let i = 0; i < 5; i++) (await rawConnect(t, peal.port)).reset();
    const silent = await Promise.all(Array.from({ length: 4 }, () => rawConnect(t, peal.port)));
    await Promise.all(silent.map((raw) => raw.readAll()));
    const { served } = await waitFor(async () => {
      const tried = await connectMany(t, peal, 4);
      if (tried.served.length === 4) return tried;
      for (const raw of tried.served) raw.reset();
      return null;
    }, { what: 'four places' });
    assert.equal((await connectMany(t, peal, 3)).served.length, 0);
    for (const raw of served) raw.reset();
    await perWorker(peal, 0);
  }
});

test('connections that say nothing end at header_timeout, and shut nobody out before', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, header_timeout: '1s', max_pending: 1024 } });
  const silent = await Promise.all(Array.from({ length: 200 }, () => rawConnect(t, peal.port)));
  const began = performance.now();
  await engine(t, peal);
  assert.ok(silent.every((raw) => !raw.hasEnded()), 'still waiting');
  await Promise.all(silent.map((raw) => raw.readAll()));
  assert.ok(performance.now() - began > 800);
});

test('beyond max_pending new sockets wait, then are told so; sockets of clients do not count', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, max_pending: 10, header_timeout: '30s' } });
  const workers = workersOf(peal);
  for (let i = 0; i < 15; i++) await engine(t, peal); // more clients than max_pending: they are none
  const silent = [];
  for (let i = 0; i < 10; i++) silent.push(await rawConnect(t, peal.port));
  // Ten say nothing. What comes then waits a moment for room, and is refused with a reason; by a reset, if it had said more than was read.
  const late = await Promise.all(Array.from({ length: 3 }, () => rawConnect(t, peal.port)));
  for (const raw of late) raw.socket.on('error', () => {});
  late[0].write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
  const [, ...answers] = await Promise.all(late.map((raw) => raw.readAll()));
  for (const answer of answers) {
    const text = answer.toString();
    assert.match(text, /^HTTP\/1\.1 503 .*Retry-After: \d+.*max_pending/s);
    assert.equal(text.length - text.indexOf('\r\n\r\n') - 4, Number(/Content-Length: (\d+)/.exec(text)[1]), 'Content-Length');
  }
  await waitFor(async () => (await peal.metrics()).sum('peal_connections_refused_total', { reason: 'pending' }) === 3, { what: 'three, counted' });
  assert.equal((await peal.metrics()).sum('peal_pending_connections'), 10, 'never more than max_pending');
  assert.ok(silent.every((raw) => !raw.hasEnded()));
  for (const raw of silent) raw.reset();
  await waitFor(async () => (await httpRequest(`${peal.url}/livez`).catch(() => ({}))).status === 200, { what: 'service after the silence' });
  await engine(t, peal);
  sameWorkers(peal, workers);
});

for (const balance of ['leastconn', 'reuseport', 'iphash']) {
  test(`max_pending holds for what comes all at once, with balance = ${balance}`, async (t) => {
    const peal = await startPeal(t, { options: { workers: 1, max_pending: 10, header_timeout: '30s', balance } });
    const [worker] = workersOf(peal);
    const pending = async () => (await peal.api('workers')).workers[0].pending;
    await engine(t, peal);
    process.kill(worker.pid, 'SIGSTOP');
    const silent = await Promise.all(Array.from({ length: 60 }, () => rawConnect(t, peal.port)));
    process.kill(worker.pid, 'SIGCONT');
    let most = 0;
    await waitFor(async () => {
      most = Math.max(most, await pending());
      return silent.filter((raw) => raw.hasEnded()).length === 50;
    }, { what: 'the refusal of fifty' });
    assert.equal(most, 10);
    assert.equal((await peal.metrics()).sum('peal_connections_refused_total', { reason: 'pending' }), 50);
    for (const raw of silent.filter((one) => one.hasEnded())) assert.match((await raw.readAll()).toString(), /max_pending/);
    for (const raw of silent) raw.reset();
    await waitFor(async () => (await httpRequest(`${peal.url}/livez`).catch(() => ({}))).status === 200, { what: 'service' });
    sameWorkers(peal, [worker]);
  });
}

test('a refused client reads its answer even if it had more to say', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, max_connections: 1 } });
  await engine(t, peal);
  for (let i = 0; i < 20; i++) {
    const raw = await rawConnect(t, peal.port);
    raw.write(Buffer.concat([Buffer.from(upgradeRequest(ENGINE)), Buffer.alloc(30000, 'x')]));
    const answer = await readResponse(raw);
    assert.equal(answer.status, 503);
    await mustBeRefused({ raw, answer }, /max_connections/);
  }
});

test('a half-received message ends at message_timeout with a reason, one that makes progress too', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, message_timeout: '400ms', echo: true } });
  for (const prepare of [
    (ws) => ws.write(frame(OP.TEXT, 'abc', { length: 100 })),
    (ws) => ws.write(frame(OP.TEXT, 'abc').subarray(0, 1)),
    (ws) => ws.send(OP.TEXT, 'abc', { fin: false }),
    (ws) => ws.writeSlowly(frame(OP.TEXT, 'a'.repeat(120)), 20),
  ]) {
    const ws = await rawWebSocket(t, peal.port, '/echo');
    prepare(ws);
    const { code, reason } = await ws.nextClose();
    assert.equal(code, 1008);
    assert.match(reason, /message_timeout/);
    await ws.readAll();
  }
  const io = await engine(t, peal);
  await io.join();
  io.say('52-["x",{"_placeholder":true,"num":0}]');
  io.send(OP.BINARY, 'one of two');
  assert.equal((await io.nextClose()).code, 1008);
  // a pause between whole messages is nothing to it
  const calm = await rawWebSocket(t, peal.port, '/echo');
  const idle = await rawWebSocket(t, peal.port, '/echo');
  idle.write(frame(OP.TEXT, 'x', { length: 50 }));
  await idle.nextClose();
  calm.text('still here');
  assert.equal((await calm.nextFrame()).payload.toString(), 'still here');
});

test('attachments that never come: beyond inbound_bytes_total the oldest goes, counted, and memory stays bounded', async (t) => {
  const total = 4 * 1024 * 1024;
  const peal = await startPeal(t, { options: { workers: 2, inbound_bytes_total: total, message_timeout: '60s' }, config: '[namespace "/"]\n' });
  const workers = workersOf(peal);
  const closed = [];
  let n = 0;
  const bystander = await engine(t, peal);
  await bystander.join();
  for (; closed.length < 3 && n < 40; n++) {
    const ws = await engine(t, peal);
    await ws.join();
    const at = n;
    ws.nextClose({ timeout: 60000 }).then(({ code, reason }) => closed.push({ at, code, reason }), () => {});
    ws.say('52-["x",{"_placeholder":true,"num":0}]');
    ws.send(OP.BINARY, Buffer.alloc(900000));
    ws.socket.uncork();
    await waitFor(async () => {
      const m = await peal.metrics();
      return m.sum('peal_memory_bytes', { kind: 'inbound' }) <= total + 2 * 900000 + 65536;
    }, { what: 'inbound bytes within the bound' });
    // its bytes have been taken when the fence of another session on each worker is through: not needed, the counters tell
    await waitFor(async () => closed.length > 0 || (await peal.metrics()).sum('peal_bytes_received_total') > (at + 1) * 900000, { what: 'the attachment taken in' });
  }
  await waitFor(() => closed.length >= 3, { what: 'three evictions' });
  assert.ok(n >= 4, `the first went after ${n}`);
  for (const { code, reason } of closed) {
    assert.equal(code, 1013);
    assert.match(reason, /inbound_bytes_total/);
  }
  assert.ok(closed.some(({ at }) => at === 0 || at === 1), `the oldest of a worker first: ${closed.map(({ at }) => at)}`);
  assert.ok((await peal.metrics()).sum('peal_inbound_evicted_total') >= 3);
  assert.deepEqual(await bystander.fence(), []);
  sameWorkers(peal, workers);
});
