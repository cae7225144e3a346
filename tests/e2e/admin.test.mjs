// admin.test.mjs: the admin listener of a running server: what it shows, what it does, and whom it refuses. @test asan-soak parallel timeout=240
import assert from 'node:assert/strict';
import { request as httpClient, Agent } from 'node:http';
import { networkInterfaces } from 'node:os';
import { collect, freePort, httpRequest, ioClient, ioClients, rawConnect, readResponse, startBrowser, startPeal, startRedis, test, waitFor, wsClient } from './lib/index.mjs';
import { promtool } from './lib/promtool.mjs';

const json = { 'content-type': 'application/json' };
const post = (peal, path, body, headers = json, extra = {}) =>
  httpRequest(`${peal.adminUrl}/api/${path}`, { method: 'POST', headers, body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body), ...extra });
const postOk = async (peal, path, body, headers) => {
  const answer = await post(peal, path, body, headers);
  assert.equal(answer.status, 200, answer.body);
  assert.deepEqual(JSON.parse(answer.body), { ok: true });
};

const check = (text) => promtool('check', 'metrics', { input: text });

test('metrics pass promtool, and follow clients', async (t) => {
  const peal = await startPeal(t, { options: { demo: true } });
  const clients = await ioClients(t, peal.url, 6, { namespace: '/demo' });
  const plain = await wsClient(t, `${peal.wsUrl}/ws/public/news`);
  const opened = await waitFor(async () => {
    const m = await peal.metrics();
    return m.sum('peal_connections') === 7 && m.sum('peal_sockets') === 7 && m;
  }, { what: 'seven clients in the metrics' });
  assert.equal(opened.get('peal_sockets', { namespace: '/demo' }), 6);
  assert.equal(opened.get('peal_sockets', { namespace: '/ws' }), 1);
  assert.equal(opened.sum('peal_connections_accepted_total'), 7);
  assert.ok(opened.sum('peal_rooms') >= 1);
  assert.ok(opened.get('process_open_fds') > 7);
  assert.ok(opened.get('process_max_fds') >= opened.get('process_open_fds'));
  assert.ok(Math.abs(opened.get('process_start_time_seconds') - Date.now() / 1000) < 120);
  assert.ok(opened.samples.some((s) => s.name === 'peal_build_info' && s.labels.version));
  assert.ok(!opened.has('peal_redis_up'));

  const { status, headers, body } = await httpRequest(`${peal.adminUrl}/metrics`);
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  assert.deepEqual(await check(body), { code: 0, said: '' });
  // promtool is the judge only if it can find fault.
  assert.notEqual((await check(body.replace('# HELP peal_draining', '# HALP peal_draining'))).said, '');

  clients.forEach((c) => c.disconnect());
  plain.close();
  const closed = await waitFor(async () => {
    const m = await peal.metrics();
    return m.sum('peal_connections') === 0 && m;
  }, { what: 'no client in the metrics' });
  assert.equal(closed.sum('peal_closes_total'), 7);
  assert.equal(closed.sum('peal_sockets'), 0);
  assert.equal(closed.sum('peal_rooms'), 0);
});

test('accepted clients stay with their slot when a worker is killed', async (t) => {
  const peal = await startPeal(t);
  await ioClients(t, peal.url, 8);
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 8, { what: 'eight clients' });
  const before = await peal.metrics();
  const { workers } = await peal.api('workers');
  assert.equal(workers.reduce((n, w) => n + w.clients, 0), 8);
  process.kill(workers[1].pid, 'SIGKILL');
  const after = await waitFor(async () => {
    const m = await peal.metrics();
    return m.get('peal_worker_restarts_total') === 1 && m;
  }, { what: 'the restart' });
  for (const worker of [0, 1]) {
    assert.equal(after.get('peal_connections_accepted_total', { worker }), before.get('peal_connections_accepted_total', { worker }));
  }
  assert.equal(after.get('peal_connections', { worker: 1, transport: 'websocket' }), 0);
  assert.equal(after.get('peal_closes_total', { reason: 'worker_died' }), workers[1].clients);
  const successor = await waitFor(async () => {
    const [, w] = (await peal.api('workers')).workers;
    return w.ready && w;
  }, { what: 'the successor' });
  assert.notEqual(successor.pid, workers[1].pid);
  assert.equal(successor.restarts, 1);
});

test('the admin process itself can be killed, and what it showed is still there', async (t) => {
  const peal = await startPeal(t);
  await ioClients(t, peal.url, 3);
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 3, { what: 'three clients' });
  const pids = new Set([peal.pid, ...(await peal.api('workers')).workers.map((w) => w.pid)]);
  const [admin, ...rest] = peal.children().filter((p) => !pids.has(p.pid));
  assert.ok(admin);
  assert.equal(rest.length, 0);
  process.kill(admin.pid, 'SIGKILL');
  const m = await waitFor(async () => peal.metrics().catch(() => null), { what: 'its successor' });
  assert.equal(m.sum('peal_connections'), 3);
  assert.equal(m.sum('peal_connections_accepted_total'), 3);
  assert.equal(m.get('peal_worker_restarts_total'), 0);
});

test('health says why', async (t) => {
  const peal = await startPeal(t, { options: { drain_grace: '30s' } });
  assert.deepEqual(await httpRequest(`${peal.adminUrl}/livez`).then((a) => [a.status, a.body]), [200, 'ok\n']);
  assert.deepEqual(await httpRequest(`${peal.adminUrl}/readyz`).then((a) => [a.status, a.body]), [200, 'ready\n']);
  await postOk(peal, 'drain', {});
  await waitFor(async () => (await httpRequest(`${peal.adminUrl}/readyz`)).status === 503, { what: 'not ready' });
  assert.equal((await httpRequest(`${peal.adminUrl}/readyz`)).body, 'draining\n');
  assert.equal((await httpRequest(`${peal.adminUrl}/livez`)).status, 200);
  assert.equal((await peal.metrics()).get('peal_draining'), 1);
  assert.equal((await peal.api('workers')).draining, 'grace');
  await peal.stop('SIGKILL', { code: null });
});

test('Redis away is told, and makes a host unready only where that is wanted', async (t) => {
  const redis = `redis://127.0.0.1:${await freePort()}`;
  const readyz = (peal) => httpRequest(`${peal.adminUrl}/readyz`).then((a) => [a.status, a.body]);
  const lenient = await startPeal(t, { options: { redis } });
  assert.deepEqual(await readyz(lenient), [200, 'degraded: redis\n']);
  assert.equal((await lenient.metrics()).get('peal_redis_up'), 0);
  const strict = await startPeal(t, { options: { redis, ready_requires_redis: true } });
  assert.deepEqual(await readyz(strict), [503, 'not ready: redis\n']);

  const up = await startPeal(t, { options: { redis: (await startRedis(t)).url, ready_requires_redis: true } });
  await waitFor(async () => (await readyz(up))[0] === 200, { what: 'ready, once Redis is there' });
  assert.deepEqual(await readyz(up), [200, 'ready\n']);
  assert.equal((await up.metrics()).get('peal_redis_up'), 1);
  assert.deepEqual(await check((await httpRequest(`${up.adminUrl}/metrics`)).body), { code: 0, said: '' });
  assert.equal((await up.api('workers')).bridge.redis_up, true);
});

test('a drain asked for over the API ends the server', async (t) => {
  const peal = await startPeal(t);
  const client = await ioClient(t, peal.url);
  const reason = new Promise((resolve) => client.once('disconnect', resolve));
  await postOk(peal, 'drain', '');
  assert.notEqual(await reason, 'io server disconnect');
  await peal.stop(null);
});

test('what is emitted over the API reaches socket.io-clients, in rooms and outside', async (t) => {
  const peal = await startPeal(t, { options: { demo: true } });
  const clients = await ioClients(t, peal.url, 4, { namespace: '/demo' });
  const got = collect(clients, 'news');
  const joined = (c, room) => new Promise((resolve) => c.emit('join', room, resolve));
  assert.equal((await joined(clients[0], 'a')).ok, true);
  assert.equal((await joined(clients[1], 'a')).ok, true);
  assert.equal((await joined(clients[1], 'b')).ok, true);
  await postOk(peal, 'emit', { namespace: '/demo', rooms: ['a'], except: ['b'], event: 'news', args: ['to a, not b'] });
  await postOk(peal, 'emit', { namespace: '/demo', rooms: clients[3].id, event: 'news', args: ['to one', { deep: [1, null, '🔔'] }] });
  await postOk(peal, 'emit', '{"namespace":"/demo","event":"news","args":[12345678901234567,"all"]}');
  await postOk(peal, 'emit', { namespace: '/demo', event: 'news' });
  await waitFor(() => got.every((list) => list.at(-1)?.length === 0), { what: 'the last emit at every client' });
  const all = [12345678901234567, 'all'];
  assert.deepEqual(got, [[['to a, not b'], all, []], [all, []], [all, []], [['to one', { deep: [1, null, '🔔'] }], all, []]]);
});

test('frames posted over the API reach plain clients', async (t) => {
  const peal = await startPeal(t);
  const client = await wsClient(t, `${peal.wsUrl}/ws/public/news`);
  await waitFor(async () => (await peal.metrics()).sum('peal_sockets', { namespace: '/ws' }) === 1, { what: 'the member' });
  await postOk(peal, 'ws/public/news', '{"a": 1}');
  await postOk(peal, 'ws/public%2Fnews', Buffer.from([0, 255]), { 'content-type': 'application/octet-stream' });
  await postOk(peal, 'ws/public/other', '"not for us"');
  await postOk(peal, 'ws/public/news', 'ü', { 'content-type': 'text/markdown; charset=utf-8' });
  await postOk(peal, 'emit', { namespace: '/ws', rooms: 'public/news', event: 'message', args: ['last'] });
  await waitFor(() => client.messages.length >= 4, { what: 'the frames' });
  assert.deepEqual(client.messages.map(({ data, isBinary }) => [data.toString('latin1'), isBinary]),
    [['{"a": 1}', false], ['\u0000\u00ff', true], [Buffer.from('ü').toString('latin1'), false], ['last', false]]);
  for (const [type, body] of [['application/json', '{'], ['text/html', Buffer.from([0xff])], ['a/b; charset=utf-8', Buffer.from([0xc0, 0x80])]]) {
    assert.equal((await post(peal, 'ws/public/news', body, { 'content-type': type })).status, 400);
  }
});

test('a disconnect over the API ends sockets, or their connections', async (t) => {
  const peal = await startPeal(t, { options: { demo: true } });
  const clients = await ioClients(t, peal.url, 3, { namespace: '/demo' });
  const reasons = clients.map((c) => new Promise((resolve) => c.once('disconnect', resolve)));
  assert.equal((await new Promise((resolve) => clients[1].emit('join', 'out', resolve))).ok, true);
  await postOk(peal, 'disconnect', { namespace: '/demo', id: clients[0].id });
  assert.equal(await reasons[0], 'io server disconnect');
  await postOk(peal, 'disconnect', { namespace: '/demo', rooms: ['out'], close: true });
  await reasons[1];
  assert.ok(clients[2].connected);
  await waitFor(async () => (await peal.metrics()).sum('peal_sockets') === 1, { what: 'one socket left' });
});

test('bad requests get their status and change nothing', async (t) => {
  const peal = await startPeal(t);
  const before = (await peal.metrics()).get('peal_ring_records_total');
  for (const [path, body, status] of [
    ['emit', '{', 400], ['emit', '[]', 400], ['emit', {}, 400], ['emit', { event: 'disconnect' }, 400], ['emit', { event: 1 }, 400],
    ['emit', { event: 'e', room: 'a' }, 400], ['emit', { event: 'e', rooms: [] }, 400], ['emit', { event: 'e', args: 'x' }, 400],
    ['emit', { namespace: '/nowhere', event: 'e' }, 404], ['emit', { namespace: '/ws', event: 'e' }, 400],
    ['disconnect', {}, 400], ['disconnect', { id: 'x' }, 400], ['drain', { now: true }, 400], ['ws/', '1', 400], ['ws/%ff', '1', 400],
    ['limits', {}, 501], ['nothing', {}, 404],
  ]) {
    const answer = await post(peal, path, body);
    assert.equal(answer.status, status, `${path} ${JSON.stringify(body)}: ${answer.body}`);
    assert.equal(JSON.parse(answer.body).ok, false);
  }
  for (const [path, status] of [['/api/rooms', 501], ['/api/sockets', 501], ['/api/emit', 405], ['/nothing', 404], ['/metrics/', 404]]) {
    assert.equal((await httpRequest(peal.adminUrl + path)).status, status, path);
  }
  assert.equal((await httpRequest(`${peal.adminUrl}/api/emit`)).headers.allow, 'POST');
  assert.equal((await post(peal, 'workers', {})).headers.allow, 'GET, HEAD');
  assert.equal((await httpRequest(`${peal.adminUrl}/metrics`, { method: 'DELETE' })).status, 405);
  const m = await peal.metrics();
  assert.equal(m.get('peal_ring_records_total'), before);
  assert.equal(m.get('peal_draining'), 0);
});

test('an emit waits while the ring is full, and goes out when the watchdog has freed it', async (t) => {
  const peal = await startPeal(t, { options: { ring_bytes: '1M', event_bytes_max: '150K', max_message_bytes: 100000, outq_bytes_max: '1M' } });
  const client = await ioClient(t, peal.url);
  const [got] = collect([client], 'n');
  const stopped = await waitFor(async () => {
    const { workers } = await peal.api('workers');
    return workers.some((w) => w.clients === 1) && workers.find((w) => w.clients === 0);
  }, { what: 'the client on one worker, none on the other' });
  process.kill(stopped.pid, 'SIGSTOP');
  t.after(() => { try { process.kill(stopped.pid, 'SIGKILL'); } catch { /* the watchdog was first */ } });
  const text = 'x'.repeat(100000);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => post(peal, 'emit', { event: 'n', args: [n, text] }, json, { timeout: 10000 })));
  assert.deepEqual(answers.map((a) => a.status), Array(20).fill(200));
  assert.equal((await peal.waitEvent('worker_stalled')).pid, String(stopped.pid));
  await waitFor(() => got.length >= 20, { what: 'all emits at the client of the other worker' });
  assert.deepEqual(got.map(([n]) => n).sort((x, y) => x - y), Array.from({ length: 20 }, (_, n) => n));
});

test('other sites, foreign names and proxies are refused', async (t) => {
  const peal = await startPeal(t);
  const { adminPort: port } = peal;
  const emit = { event: 'e' };
  for (const [what, headers, status] of [
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
    ['a form with a file', { 'content-type': 'multipart/form-data; boundary=x' }, 415],
    ['text/plain', { 'content-type': 'text/plain' }, 415],
    ['no type', {}, 415],
    ['another site', { ...json, origin: 'http://evil.example' }, 403],
    ['another port', { ...json, origin: 'http://127.0.0.1:3000' }, 403],
    ['a sandboxed page', { ...json, origin: 'null' }, 403],
    ['a foreign Host', { ...json, host: 'evil.example' }, 403],
    ['a foreign Host with our port', { ...json, host: `evil.example:${port}` }, 403],
    ['a proxy', { ...json, 'x-forwarded-for': '127.0.0.1' }, 403],
    ['a proxy of the new kind', { ...json, forwarded: 'for=127.0.0.1' }, 403],
  ]) {
    const answer = await post(peal, 'emit', emit, headers);
    assert.equal(answer.status, status, what);
    const drain = await post(peal, 'drain', '', headers);
    assert.equal(drain.status, status, `${what}: drain`);
  }
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
    assert.equal((await post(peal, 'ws/public/a', 'x', { 'content-type': type })).status, 415, type);
  }
  assert.equal((await httpRequest(`${peal.adminUrl}/api/workers`, { headers: { host: 'evil.example' } })).status, 403);
  assert.equal((await httpRequest(`${peal.adminUrl}/api/nothing`, { headers: { host: 'evil.example' } })).status, 403);
  // A preflight is not granted, and nothing ever carries a CORS header.
  const preflight = await httpRequest(`${peal.adminUrl}/api/emit`, { method: 'OPTIONS', headers: { origin: 'http://evil.example', 'access-control-request-method': 'POST' } });
  assert.equal(preflight.status, 403);
  for (const answer of [preflight, await post(peal, 'emit', emit), await httpRequest(`${peal.adminUrl}/metrics`, { headers: { origin: 'http://evil.example' } })]) {
    assert.deepEqual(Object.keys(answer.headers).filter((h) => h.startsWith('access-control')), []);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
    assert.match(answer.headers['content-security-policy'], /frame-ancestors 'none'/);
  }
  assert.equal((await post(peal, 'emit', emit, { ...json, origin: `http://127.0.0.1:${port}` })).status, 200);
  assert.equal((await post(peal, 'emit', emit, { ...json, host: 'localhost' })).status, 200);
  assert.equal((await peal.metrics()).get('peal_draining'), 0);
});

test('with a token it is the token that counts', async (t) => {
  const peal = await startPeal(t, { options: { admin_token: 'a-long-secret' } });
  const get = (headers, path = '/api/workers') => httpRequest(peal.adminUrl + path, { headers });
  const right = { authorization: 'Bearer a-long-secret' };
  const none = await get({});
  assert.equal(none.status, 401);
  assert.equal(none.headers['www-authenticate'], 'Bearer');
  assert.equal((await get({ authorization: 'Bearer a-long-secreT' })).status, 401);
  assert.equal((await get({ authorization: 'Basic a-long-secret' })).status, 401);
  assert.equal((await get(right)).status, 200);
  assert.equal((await get({ ...right, host: 'peal.example', 'x-forwarded-for': '192.0.2.1' })).status, 200);
  assert.equal((await get({ ...right, origin: 'http://evil.example' })).status, 403);
  for (const path of ['/metrics', '/livez', '/readyz', '/']) assert.equal((await get({}, path)).status, 200, path);
  assert.ok(!peal.log().includes('a-long-secret'));
});

test('an exposed listener without a token shows metrics and health only, and says so', async (t) => {
  const peal = await startPeal(t, { options: { admin_listen: '0.0.0.0:0' } });
  const url = `http://127.0.0.1:${peal.adminPort}`;
  assert.equal((await peal.waitEvent('admin_exposed')).level, 'warning');
  for (const path of ['/metrics', '/livez', '/readyz']) assert.equal((await httpRequest(url + path)).status, 200, path);
  for (const path of ['/', '/dashboard.js', '/api/workers', '/nothing']) assert.equal((await httpRequest(url + path)).status, 403, path);
  assert.equal((await httpRequest(`${url}/api/drain`, { method: 'POST', headers: json })).status, 403);
});

test('an exposed listener with a token serves who has it, from anywhere', async (t) => {
  const peal = await startPeal(t, { options: { admin_listen: '0.0.0.0:0', admin_token: 's' } });
  const outside = Object.values(networkInterfaces()).flat().find((a) => a.family === 'IPv4' && !a.internal);
  const url = `http://${outside?.address ?? '127.0.0.1'}:${peal.adminPort}/api/workers`;
  assert.equal((await httpRequest(url)).status, 401);
  assert.equal((await httpRequest(url, { headers: { authorization: 'Bearer s' } })).status, 200);
  assert.deepEqual(peal.events('admin_exposed'), []);
});

test('connections are kept alive, pipelined, and bounded', async (t) => {
  const peal = await startPeal(t, { options: { header_timeout: '500ms' } });
  const get = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n';
  const raw = await rawConnect(t, peal.adminPort);
  const body = '{"event":"e"}';
  const emit = `POST /api/emit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  raw.write(get.repeat(20) + emit + get.replace('GET', 'HEAD') + get);
  for (let i = 0; i < 20; i++) assert.equal((await readResponse(raw)).status, 200, `answer ${i}`);
  assert.match((await readResponse(raw)).body.toString(), /"ok":true/);
  const head = (await raw.readUntil('\r\n\r\n')).toString();
  assert.match(head, /^HTTP\/1.1 200 .*content-length: 3/is);
  assert.equal((await readResponse(raw)).body.toString(), 'ok\n');

  const slow = await rawConnect(t, peal.adminPort);
  await slow.writeSlowly(emit, 1);
  assert.equal((await readResponse(slow)).status, 200);
  slow.write('GET /livez HTTP/1.1\r\n');
  assert.match((await slow.readAll()).toString(), /^HTTP\/1.1 408 /);

  for (const [what, bytes, status] of [
    ['chunks', 'POST /api/emit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 411],
    ['2 MB', 'POST /api/emit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n', 413],
    ['garbage', 'nonsense\r\n\r\n', 400],
    ['a long head', `GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ${'y'.repeat(20000)}\r\n\r\n`, 431],
    ['a refused body', `POST /api/emit HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\nxxxxx${get}`, 403],
  ]) {
    const connection = await rawConnect(t, peal.adminPort);
    connection.write(bytes);
    const answer = (await connection.readAll()).toString();
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `), what);
    assert.equal(answer.match(/HTTP\/1.1/g).length, 1, `${what}: one answer, then the end`);
  }
  const expecting = await rawConnect(t, peal.adminPort);
  expecting.write(emit.slice(0, emit.indexOf('\r\n\r\n')) + '\r\nExpect: 100-continue\r\n\r\n');
  assert.match((await expecting.readUntil('\r\n\r\n')).toString(), /^HTTP\/1.1 100 /);
  expecting.write(body);
  assert.equal((await readResponse(expecting)).status, 200);
});

test('who holds all connections does not keep others out', async (t) => {
  const peal = await startPeal(t);
  const held = await Promise.all(Array.from({ length: 80 }, () => rawConnect(t, peal.adminPort)));
  held.forEach((c, i) => i % 2 && c.write('GET /metrics HTTP/1.1\r\nHost: lo'));
  for (let i = 0; i < 5; i++) assert.equal((await httpRequest(`${peal.adminUrl}/livez`)).status, 200);
  const reader = await rawConnect(t, peal.adminPort);
  reader.pause(); // never reads; the answers fill its buffers
  for (let i = 0; i < 400; i++) reader.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 20; i++) {
    const status = await new Promise((resolve, reject) =>
      httpClient(`${peal.adminUrl}/livez`, { agent }, (res) => res.resume().on('end', () => resolve(res.statusCode))).on('error', reject).end());
    assert.equal(status, 200);
  }
  agent.destroy();
});

test('the dashboard works in a browser under its policy', async (t) => {
  const peal = await startPeal(t, { options: { demo: true } });
  await ioClients(t, peal.url, 3, { namespace: '/demo' });
  const browser = await startBrowser(t);
  const page = await browser.open(`${peal.adminUrl}/`);
  // Asked again and again from here: the page's policy lets nobody evaluate text in it later on.
  const shown = (what) => page.evaluate((query) => [...document.querySelectorAll(query)].map((node) => node.textContent), what);
  await waitFor(async () => (await shown('#workers tr')).length === 2 && (await shown('#state'))[0] === 'ready', { timeout: 10000, what: 'two workers, ready' });
  await waitFor(async () => (await shown('#totals dd'))[0] === '3', { timeout: 10000, what: 'three clients' });
  assert.deepEqual(page.problems, []);
});
