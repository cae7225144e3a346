// scale.test.mjs: bench/scale in small: 600 clients on 3 workers, in rooms, pinged, with fan-out, and what it says of them; and what it says where it cannot run.
// @test parallel no-asan timeout=120
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { pealBinary, slow, startProcess, temporaryFolder, test, within } from './lib/index.mjs';
import { loadBinary } from './lib/load.mjs';

const scaleBinary = process.env.PEAL_SCALE ?? join(dirname(loadBinary), 'scale');
const root = process.getuid() === 0;

async function runScale(t, options, launcher = []) {
  const flags = Object.entries(options).map(([key, value]) => `--${key}=${value}`);
  const [file, ...args] = [...launcher, scaleBinary, ...flags];
  const child = startProcess(t, file, args, { name: 'scale', env: { ...process.env, TMPDIR: await temporaryFolder(t) } });
  const { code } = await within(child.exited, 'the end of scale', 60000);
  return { code, text: child.log(), lines: child.log().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)) };
}

const small = { clients: 600, workers: 3, 'ping-interval': 1000, 'ping-timeout': 15000, settle: 300, members: 20, rate: 100, announce: 1, peal: pealBinary };

test('600 clients are connected, pinged and get what is published, and the memory is told by kind', { timeout: 90000 }, async (t) => {
  if (!root) return t.skip('a network namespace needs root');
  const { code, lines, text } = await runScale(t, { ...small, bar: 1000000 });
  const result = lines.at(-1);
  assert.equal(code, 0, text);
  assert.equal(result.event, 'result');
  assert.equal(result.bench, 'scale');
  assert.equal(result.ok, true);
  assert.deepEqual([result.clients, result.opened, result.joined, result.closed], [600, 600, 600, 0]);
  assert.deepEqual(result.closes, {});
  assert.deepEqual(result.server_counters, { peal_closes_total: {}, peal_connections_refused_total: {}, peal_worker_restarts_total: {} });
  assert.equal(result.tcp_counters.ListenOverflows, 0);
  assert.equal(result.limits['net.ipv4.ip_local_port_range'], '1024 65535');
  assert.match(result.limits['net.ipv4.tcp_mem'], /^\d+ \d+ \d+$/);

  // Four intervals: the one of rest and the three of fan-out. On a machine that is busy the last pong of a client may be late.
  const { heartbeats, fanout, memory, connect } = result;
  assert.ok(connect.per_second > 0);
  assert.ok(heartbeats.pings >= 300, `${heartbeats.pings} pings while at rest`);
  assert.ok(heartbeats.pings_per_client_min >= 3, `${heartbeats.pings_per_client_min} pings for each client`);
  assert.ok(heartbeats.between_two.p50_us > 900000 && heartbeats.between_two.p50_us < 1500000 * slow, JSON.stringify(heartbeats));
  assert.equal(fanout.received, fanout.expected);
  assert.equal(fanout.foreign, 0);
  assert.equal(fanout.rooms.count + fanout.rooms_beside_everybody.count + fanout.everybody.count, fanout.received);
  assert.ok(fanout.everybody.count >= 599, 'a message to everybody has come');

  assert.deepEqual([memory.master.processes, memory.workers.processes, memory.admin.processes, memory.clients.processes], [1, 3, 1, 3]);
  for (const kind of ['master', 'workers', 'admin', 'clients']) {
    const m = memory[kind];
    assert.ok(m.pss_bytes > 0 && m.private_bytes > 0, kind);
    assert.ok(Math.abs(m.anon_bytes + m.shared_bytes + m.file_bytes - m.pss_bytes) <= 65536, `${kind}: the parts are the whole: ${JSON.stringify(m)}`);
  }
  assert.equal(memory.tcp_sockets, 2 * 600 + 2, 'both ends, and two listeners');
  for (const { cache, bytes } of memory.slab_caches_grown) assert.ok(cache.length > 0 && bytes > 0); // which, depends on what others have just given back
  return undefined;
});

test('a connection that is refused fails the run, and the result says who refused it, and what became of the others', { timeout: 60000 }, async (t) => {
  if (!root) return t.skip('a network namespace needs root');
  const { code, lines, text } = await runScale(t, { ...small, rate: 0, intervals: 2, 'peal-arg': '--max_connections=500' });
  const result = lines.at(-1);
  assert.equal(code, 1, text);
  assert.equal(result.ok, false);
  assert.deepEqual(result.closes, { http_503: 100 });
  assert.deepEqual(result.server_counters.peal_connections_refused_total, { host_limit: 100 });
  assert.deepEqual([result.joined, result.closed], [500, 100]);
  assert.ok(result.heartbeats.pings_per_client_min >= 1, JSON.stringify(result.heartbeats));
  return undefined;
});

test('more bytes than --bar are exit 1', { timeout: 60000 }, async (t) => {
  if (!root) return t.skip('a network namespace needs root');
  const { code, lines, text } = await runScale(t, { ...small, rate: 0, intervals: 1, bar: 1 });
  assert.equal(code, 1, text);
  assert.equal(lines.at(-1).ok, false);
  assert.equal(lines.at(-1).closed, 0);
  return undefined;
});

for (const [what, options, expected] of [
  ['no such option', { bogus: 1 }, /unknown option --bogus=1/],
  ['no number', { clients: 'many' }, /bad value in --clients=many/],
  ['no client', { clients: 0 }, /--clients = 0: 1 to 4000000/],
  ['too many workers', { workers: 63 }, /--workers = 63: 1 to 62/],
  ['more processes than clients', { clients: 2, procs: 3 }, /--procs = 3: .* one client each/],
  ['a message too short for its time', { payload: 16 }, /--payload = 16: 17 to 8192/],
  ['messages to rooms that nobody is in', { members: 0, rate: 1 }, /--members = 0: .*--rate=0/],
  ['more clients than descriptors', { clients: 4000000, workers: 1, procs: 64 }, /4000000 clients on 1 workers are 4000000 descriptors in each.*RLIMIT_NOFILE is \d+/],
]) {
  test(`refused with the reason: ${what}`, async (t) => {
    const { code, text, lines } = await runScale(t, options);
    assert.equal(code, 2, text);
    assert.match(text, expected);
    assert.deepEqual(lines, []);
  });
}

test('who may not have a network namespace is told what it needs', async (t) => {
  if (!root) return t.skip('is root no more than it is');
  const { code, text } = await runScale(t, { clients: 10, workers: 1 }, ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--']);
  assert.equal(code, 2, text);
  assert.match(text, /a network namespace of its own: .*needs root \(CAP_SYS_ADMIN\)/);
  return undefined;
});
