// load.test.mjs: bench/load itself: each scenario against a real server, small, and do its numbers add up; does it notice what a bad server does?
// @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { pealBinary, startNodeServer, startPeal, test, waitFor } from './lib/index.mjs';
import { loadBinary, relay, startLoad } from './lib/load.mjs';

const everything = ['--echo=yes', '--ws:client_join=yes', '--ws:client_publish=any', ...relay];

// The result of one run, its exit code checked; `ok: false` for one that must find something.
async function run(t, scenario, options, { ok = true } = {}) {
  const load = startLoad(t, scenario, { timeout: 30, ...options });
  const result = await load.result(30000);
  const { code } = await load.exited;
  assert.equal(result.ok, ok, JSON.stringify(result));
  assert.equal(code, ok ? 0 : 1);
  return result;
}

function assertLossless(result) {
  for (const name of ['lost', 'repeated', 'out_of_order', 'foreign', 'refused', 'unexpected_closes']) assert.equal(result[name], 0, `${name}: ${JSON.stringify(result)}`);
}

function assertMeasured(result) {
  const { server } = result;
  assert.ok(server.processes >= 3 && server.pss_bytes > 1 << 20 && server.slab_bytes > 1 << 20, JSON.stringify(server));
  assert.ok(server.cpu_seconds >= 0 && server.seconds > 0, JSON.stringify(server));
}

// Like Peal's relay. `mistake` changes what reaches a room: (n, emit), n counts the publishes.
async function startNodeRelay(t, mistake = (n, emit) => emit()) {
  const node = await startNodeServer(t, {});
  await node.run(({ io, state }, text) => {
    const mistake = (0, eval)(text);
    state.n = 0;
    io.on('connection', (socket) => {
      socket.on('join', (room, ack) => {
        socket.join(room);
        ack({ ok: true });
      });
      socket.on('publish', (room, event, ...args) => {
        const ack = args.pop();
        mistake(state.n++, () => socket.to(room).emit(event, ...args));
        ack({ ok: true });
      });
      socket.on('same', (text, ack) => ack(text));
    });
  }, mistake.toString());
  return node;
}

test('fan-out in one room, closed and open loop, both dialects', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { args: everything });
  const url = `${peal.wsUrl}/`;
  const [closed, open, burst, plain] = await Promise.all([
    run(t, 'fanout', { url, clients: 60, publishers: 4, messages: 25, room: 'a' }),
    run(t, 'fanout', { url, clients: 60, publishers: 4, messages: 25, rate: 50, room: 'b', procs: 2 }),
    run(t, 'fanout', { url, clients: 60, publishers: 4, messages: 25, rate: 50, burst: 5, room: 'c' }),
    run(t, 'fanout', { url: `${url}ws/d`, dialect: 'plain', clients: 60, publishers: 4, messages: 25, rate: 50 }),
  ]);
  for (const result of [closed, open, burst, plain]) {
    assertLossless(result);
    assertMeasured(result);
    assert.equal(result.expected, 100 * 59);
    assert.equal(result.received, result.expected);
    assert.equal(result.latency.count, result.expected);
    assert.equal(result.clients_with_another_order, 0);
  }
  assert.equal(open.client_processes, 2);
});

test('fan-out in many rooms: alike, zipf, bursts, both dialects', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { args: everything });
  const url = `${peal.wsUrl}/`;
  const many = { clients: 84, publishers: 4, messages: 50, rooms: 8 };
  const [closed, open, burst, zipf, plain] = await Promise.all([
    run(t, 'fanout', { url, ...many, room: 'a', procs: 2 }),
    run(t, 'fanout', { url, ...many, room: 'b', 'total-rate': 400 }),
    run(t, 'fanout', { url, ...many, room: 'c', 'total-rate': 400, burst: 20, unacknowledged: true }),
    run(t, 'fanout', { url, ...many, room: 'd', zipf: 1.2 }),
    run(t, 'fanout', { url: `${url}ws/e`, dialect: 'plain', ...many, 'total-rate': 400 }),
  ]);
  for (const result of [closed, open, burst, zipf, plain]) {
    assertLossless(result);
    assertMeasured(result);
    assert.equal(result.sent, 200);
    assert.equal(result.got, result.expected);
    assert.equal(result.received, result.expected);
  }
  for (const result of [closed, open, burst, plain]) assert.equal(result.expected, 200 * 10); // members of each room
  assert.equal(closed.acknowledged, 200);
  assert.equal(burst.acknowledged, 0);
  assert.deepEqual([closed.loop, open.loop, open.rate], ['closed', 'open', 400]);
  assert.equal(open.send_lag.count, 200);
});

test('unicast: each member its own room, and Peal tells whom it woke', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { options: { workers: 4 }, args: everything });
  const result = await run(t, 'unicast', { url: `${peal.wsUrl}/`, clients: 104, publishers: 4, messages: 50, 'total-rate': 500, 'admin-url': peal.adminUrl, probes: 5 });
  assertLossless(result);
  assert.equal(result.rooms, 100);
  assert.equal(result.got, 205); // and the probes
  assert.equal(result.woken.probes, 5);
  assert.ok(result.woken.probe_max <= 2 && result.woken.per_message < 2, JSON.stringify(result.woken));
});

test('connects, idle clients, round trips, slow readers, churn', { timeout: 60000 }, async (t) => {
  const peal = await startPeal(t, { options: { ping_interval: '300ms', ping_timeout: '10s' }, args: everything });
  const url = `${peal.wsUrl}/`;
  const [connect, plainConnect, idle, echo, ack, openAck, slow, churn] = await Promise.all([
    run(t, 'connect', { url, clients: 40, rounds: 3, settle: 50 }),
    run(t, 'connect', { url: `${url}ws/r`, dialect: 'plain', clients: 40, rounds: 2, settle: 50, procs: 2 }),
    run(t, 'idle', { url, clients: 60, warm: 10, settle: 100, 'hold-time': 1, room: 'idle' }),
    run(t, 'echo', { url: `${url}echo`, dialect: 'plain', clients: 20, window: 4 }),
    run(t, 'echo', { url, clients: 20 }),
    run(t, 'echo', { url, clients: 20, 'total-rate': 800 }),
    run(t, 'slow', { url, clients: 100, slow: 1, messages: 20, room: 'slow' }),
    run(t, 'churn', { url, clients: 60, concurrent: 30, life: 100, mix: 'clean:50,reset:50', room: 'churn' }),
  ]);
  assert.deepEqual([connect.opened, connect.latency.count, plainConnect.opened], [120, 120, 80]);
  for (const one of [connect, plainConnect]) assert.ok(one.connects_per_second.min > 0 && one.connects_per_second.max >= one.connects_per_second.median, JSON.stringify(one));
  assert.equal(idle.open, 60);
  assert.ok(idle.pings >= 60, JSON.stringify(idle));
  for (const one of [echo, ack, openAck]) {
    assertLossless(one);
    assert.deepEqual([one.expected, one.answered, one.latency.count], [1000, 1000, 1000]);
  }
  assert.equal(openAck.loop, 'open');
  assertLossless(slow);
  assert.equal(slow.scenario, 'slow');
  assert.equal(slow.verified_clients, 99);
  assert.equal(slow.expected, 98 * 20); // the slow one is owed nothing, the publisher has its own
  assert.equal(churn.opened, 60);
  for (const one of [connect, idle, echo, slow, churn]) assertMeasured(one);
});

test('a storm: cut by ourselves, by the death of a worker, and slowed down by a limit', { timeout: 60000 }, async (t) => {
  const [free, limited] = await Promise.all([startPeal(t, { options: { workers: 1 }, args: everything }), startPeal(t, { options: { accept_rate: 16 }, args: everything })]);
  const slowly = run(t, 'storm', { url: `${limited.wsUrl}/`, clients: 40, 'connect-rate': 14 });
  const killed = startLoad(t, 'storm', { url: `${free.wsUrl}/ws/r`, dialect: 'plain', clients: 50, cut: 'server', timeout: 30 });
  await waitFor(() => killed.last('waiting_for_cut'), { timeout: 20000, what: 'the moment to strike' });
  process.kill((await free.api('workers')).workers[0].pid, 'SIGKILL');
  const cut = await killed.result();
  assert.equal(cut.ok, true, JSON.stringify(cut));
  assert.equal((cut.closes.reset ?? 0) + (cut.closes.eof ?? 0), 50, JSON.stringify(cut));
  const judged = startLoad(t, 'storm', { url: `${free.wsUrl}/`, clients: 20, bar: 1.5 });
  const dropped = await run(t, 'storm', { url: `${free.wsUrl}/`, clients: 100, procs: 2 });
  const refused = await slowly;
  for (const result of [cut, dropped, refused]) {
    assert.equal(result.open, result.clients);
    assert.ok(result.back_seconds >= 0.5, JSON.stringify(result)); // nobody is back before the shortest back-off
  }
  assert.equal(dropped.latency.count, 100);
  assert.deepEqual([dropped.attempts, dropped.refusals], [100, {}]);
  // 40 within a second, where 32 may come; on a machine that stumbles they may come later
  t.diagnostic(`refused by the limit: ${JSON.stringify(refused.refusals)}`);
  assert.ok(Object.keys(refused.refusals).every((cause) => cause === 'http_503'), JSON.stringify(refused.refusals));
  assert.equal(refused.attempts, 40 + (refused.refusals.http_503 ?? 0));
  const { bound_seconds: bound, back_seconds: back, longest_back_off_seconds: longest, connects_per_second: rate, ok } = await judged.result();
  assert.ok(Math.abs(bound - (1.5 * 20 / rate + longest)) < 0.01);
  assert.equal(ok, back <= bound);
});

test('a Node server is measured by the same scenarios', { timeout: 60000 }, async (t) => {
  const node = await startNodeRelay(t);
  const url = `ws://127.0.0.1:${node.port}/`;
  const [fanout, rooms, unicast, echo, connect, storm] = await Promise.all([
    run(t, 'fanout', { url, clients: 40, publishers: 2, messages: 20 }),
    run(t, 'fanout', { url, clients: 42, publishers: 2, messages: 20, rooms: 4, 'total-rate': 100, room: 'x' }),
    run(t, 'unicast', { url, clients: 42, publishers: 2, messages: 20, room: 'y' }),
    run(t, 'echo', { url, clients: 10, messages: 20, 'echo-event': 'same' }),
    run(t, 'connect', { url, clients: 30, rounds: 2, settle: 50 }),
    run(t, 'storm', { url, clients: 30 }),
  ]);
  for (const result of [fanout, rooms, unicast, echo]) assertLossless(result);
  assert.equal(fanout.expected, 40 * 39);
  assert.equal(rooms.got, 400);
  assert.equal(unicast.got, 40);
  assert.equal(fanout.server.processes, 1);
  assert.ok(fanout.server.pss_bytes > 1 << 20);
  assert.deepEqual([echo.answered, connect.opened, storm.attempts], [200, 60, 30]);
});

test('what a bad server loses, repeats and confuses is counted exactly', { timeout: 60000 }, async (t) => {
  const mistake = (n, emit) => {
    if (n === 10) return; // lost
    if (n === 20) return void (globalThis.late = emit); // overtaken by the next
    emit();
    if (n === 21) globalThis.late();
    if (n === 30) emit(); // repeated
  };
  const once = async (options) => {
    const node = await startNodeRelay(t, mistake);
    return run(t, 'fanout', { url: `ws://127.0.0.1:${node.port}/`, clients: 9, publishers: 1, messages: 50, window: 1, settle: 500, ...options }, { ok: false });
  };
  const [room, rooms] = await Promise.all([once({}), once({ rooms: 2 })]);
  assert.deepEqual([room.expected, room.lost, room.repeated, room.out_of_order], [400, 8, 8, 8], JSON.stringify(room));
  assert.equal(rooms.expected, 200);
  assert.deepEqual([rooms.lost, rooms.repeated, rooms.got], [4, 4, 196], JSON.stringify(rooms)); // four members a room
});

test('the bars of several runs start their servers and judge', { timeout: 60000 }, async (t) => {
  const bar = async (name, options) => {
    const bars = startLoad(t, name, { peal: pealBinary, ...options }, join(dirname(loadBinary), 'bars'));
    const result = await bars.result();
    assert.equal((await bars.exited).code, result.ok ? 0 : 1);
    for (const round of bars.lines().filter((line) => line.event === 'round')) assert.equal(round.ok, true, JSON.stringify(round));
    return result;
  };
  const [slow, storm, local, remote, parked] = await Promise.all([
    bar('slow', { clients: 100, rounds: 1, seconds: 1, 'p99-bar': 0.001 }),
    bar('storm', { clients: 60, 'storm-bar': 1000 }),
    bar('unicast', { clients: 40, workers: 3, rounds: 1, seconds: 1, rate: 200, probes: 5, 'cpu-bar': 0.0001 }),
    bar('unicast', { clients: 40, workers: 3, rounds: 1, seconds: 1, rate: 200, probes: 5, redis: true }),
    bar('parked', { clients: 6, workers: 3, rounds: 1, seconds: 1, rate: 50, 'parked-bar': 1000 }),
  ]);
  assert.deepEqual([slow.ok, storm.ok, local.ok, parked.ok], [false, true, false, true]); // by the bars given
  assert.ok(parked.cpu_us_of_a_bare_wake.median > 0.5, JSON.stringify(parked));
  assert.ok(slow.ratio.median > 0.001 && storm.share_of_bound.median <= 1);
  for (const unicast of [local, remote]) assert.ok(unicast.cpu_us_of_a_bare_wake.median > 0.5 && unicast.woken_per_message.median <= 3, JSON.stringify(unicast));
  assert.ok(remote.probe_mean.median >= 0.5, JSON.stringify(remote)); // the bridge rings the member's worker, and nobody else counts
});

test('the plan: shares, times and the back-off of the real client', { timeout: 60000 }, async (t) => {
  const plan = await run(t, 'plan', { clients: 10000, rooms: 10, zipf: 1, messages: 1000, 'total-rate': 1000, burst: 4, seed: 5 });
  const harmonic = Array.from({ length: 10 }, (_, r) => 1 / (r + 1)).reduce((a, b) => a + b);
  const drawn = Array(10).fill(0);
  for (const room of plan.rooms_of_messages) drawn[room]++;
  for (let r = 0; r < 10; r++) {
    const share = 1 / (r + 1) / harmonic;
    assert.ok(Math.abs(plan.members[r] / 10000 - share) < 0.02, `members ${plan.members}`);
    assert.ok(Math.abs(drawn[r] / 1000 - share) < 0.06, `messages ${drawn}`);
  }
  assert.deepEqual(plan.due_us.slice(0, 9), [0, 0, 0, 0, 4000, 4000, 4000, 4000, 8000]);
  const alike = await run(t, 'plan', { clients: 100, rooms: 10, messages: 10 });
  assert.deepEqual(alike.members, Array(10).fill(10));
  const again = await run(t, 'plan', { clients: 100, rooms: 10, messages: 10 });
  assert.deepEqual(again.rooms_of_messages, alike.rooms_of_messages);
  const first = new Set();
  for (let seed = 1; seed <= 5; seed++) {
    const { back_off_ms: waits } = await run(t, 'plan', { seed, messages: 1 });
    waits.forEach((ms, attempt) => {
      assert.ok(ms >= Math.min(5000, 500 * 2 ** attempt) && ms <= Math.min(5000, 1500 * 2 ** attempt), `${attempt}: ${waits}`);
    });
    first.add(waits[0]);
  }
  assert.ok(first.size > 2, [...first].join());
});

test('wrong input is told what is allowed, exit 2', { timeout: 60000 }, async (t) => {
  const url = 'ws://127.0.0.1:1/';
  const cases = [
    ['nonsense', { url }, /unknown scenario 'nonsense'/],
    ['fanout', {}, /--url is missing/],
    ['fanout', { url: 'ws://example.org/' }, /is not like ws:/],
    ['fanout', { url, dialect: 'mqtt' }, /--dialect is plain or socketio, not 'mqtt'/],
    ['fanout', { url, clients: 0 }, /--clients is 1 to 4000000/],
    ['fanout', { url, rate: 1, 'total-rate': 1 }, /--rate or --total-rate, not both/],
    ['fanout', { url, rooms: 2, payload: 52 }, /--payload must be 53 to 65536/],
    ['fanout', { url, rooms: 1048577, clients: 9 }, /1048577 rooms and 1 publishers: at most 1048576 rooms/],
    ['fanout', { url, rooms: 2, slow: 1 }, /--slow goes with one room/],
    ['fanout', { url, zipf: 1 }, /need --rooms over 1/],
    ['fanout', { url, burst: 0 }, /--burst/],
    ['fanout', { url, rooms: 2, unacknowledged: true }, /--unacknowledged needs/],
    ['unicast', { url, dialect: 'plain' }, /room of its path only/],
    ['unicast', { url, probes: 1001, clients: 9 }, /--probes is at most 1000/],
    ['echo', { url, payload: 17 }, /--payload must be 18 to 65536/],
    ['echo', { url, window: 1025 }, /--window is at most 1024/],
    ['storm', { url, cut: 'off' }, /--cut is drop or server, not 'off'/],
    ['storm', { url, clients: 2 }, /only 0 of 2 clients got in before the storm/],
    ['connect', { url, rounds: 33 }, /--rounds 1 to 32/],
    ['idle', { url, warm: 100 }, /--warm must be less/],
    ['idle', { url, 'server-pid': 999999999 }, /no process 999999999/],
    ['idle', { url, 'server-pid': 'x' }, /--server-pid is a number/],
    ['plan', { rooms: 1001 }, /at most 1000 rooms/],
    ['echo', { url, clients: 'many' }, /bad value in --clients/],
    ['echo', { url, colour: 'red' }, /unknown option --colour/],
  ];
  await Promise.all(cases.map(async ([scenario, options, message]) => {
    const load = startLoad(t, scenario, options);
    assert.equal((await load.exited).code, 2, `${scenario} ${JSON.stringify(options)}\n${load.log()}`);
    await waitFor(() => message.test(load.log()), { what: `${message} in: ${load.log()}` }); // the end is told before its last words
  }));
  const peal = await startPeal(t, { args: everything });
  for (const [adminUrl, message] of [[`http://127.0.0.1:${peal.port}`, /gives no metrics: HTTP\/1.1 404/], ['http://127.0.0.1:1', /refused/]]) {
    const load = startLoad(t, 'unicast', { url: `${peal.wsUrl}/`, clients: 5, 'admin-url': adminUrl });
    assert.equal((await load.exited).code, 2);
    await waitFor(() => message.test(load.log()), { what: `${message} in: ${load.log()}` }); // the end is told before its last words
  }
});
