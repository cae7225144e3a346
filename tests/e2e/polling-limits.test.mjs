// polling-limits.test.mjs: who polls is one client, however many connections that takes: at the limit of clients, in the counts, and in a drain.
// Peal alone: Node has neither. @test parallel no-asan timeout=240
import assert from 'node:assert/strict';
import { OP, httpRequest, slow, sleep, test, upgradeRequest, waitFor } from './lib/index.mjs';
import { ENGINE, engine, workersOf } from './lib/engine.mjs';
import { HANDSHAKE, SEPARATOR, ask, httpConnection, isOk, isPoll, pollingSession, readAnswer, requestText, settle } from './lib/polling.mjs';
import { onNode, startTarget } from './lib/target.mjs';

const WORKERS = 4;
const EACH = slow > 1 ? 20 : 50;
const ALL = WORKERS * EACH;

const joinPacket = (id, room = 'a') => `42${id}["join","${room}"]`;
const ackOf = (id) => `43${id}[{"ok":true}]`;

// A few at a time.
async function inBatches(items, size, fn) {
  const out = [];
  for (let at = 0; at < items.length; at += size) out.push(...(await Promise.all(items.slice(at, at + size).map(fn))));
  return out;
}

const range = (n) => Array.from({ length: n }, (_, i) => i);
const perWorker = async (peal) => {
  const metrics = await peal.metrics();
  return range(WORKERS).map((worker) => metrics.sum('peal_connections', { worker }));
};

// Sessions until every worker is full. Where a connection's worker is a matter of hashing, some are refused on the way.
async function fill(t, peal) {
  const sessions = [];
  for (let tries = 0; tries < ALL * 20; tries++) {
    const answer = await ask(t, peal, 'GET', HANDSHAKE);
    if (answer.status === 200) sessions.push(JSON.parse(answer.body.slice(1)).sid);
    else assert.equal(answer.status, 503, answer.body);
    if (sessions.length >= ALL && (await perWorker(peal)).every((n) => n >= EACH)) return sessions;
  }
  throw new Error(`${sessions.length} sessions, ${await perWorker(peal)} on the workers: they never became full`);
}

function refused(answer, what) {
  assert.equal(answer.status, 503, `${what}: ${answer.body}`);
  assert.match(answer.headers['retry-after'] ?? '', /^\d+$/, `${what}: Retry-After`);
}

for (const balance of ['leastconn', 'reuseport']) {
  test(`at the limit of ${EACH} a worker, who is there polls, posts and upgrades, and newcomers get 503: ${balance}`, { skip: onNode, timeout: 90000 }, async (t) => {
    const peal = await startTarget(t, { workers: WORKERS, balance, peal: { max_connections_per_worker: EACH } });
    const sids = await fill(t, peal);
    // Exact where the master places, over by one a worker at most where the kernel does.
    const most = balance === 'leastconn' ? ALL : ALL + WORKERS;
    assert.ok(sids.length <= most, `${sids.length} sessions`);
    const before = (await peal.metrics()).sum('peal_connections_refused_total');

    let newcomers = true;
    let rounds = 0;
    // Each goes round once and once more after its upgrade; one in four upgrades. Every answer is looked at: a refusal is a failure.
    const living = sids.map(async (sid, i) => {
      const url = `${HANDSHAKE}&sid=${sid}`;
      const once = async (id) => {
        isOk(await ask(t, peal, 'POST', url, { body: joinPacket(id), timeout: 20000 }), `POST ${id} of client ${i}`);
        const answer = await ask(t, peal, 'GET', url, { timeout: 20000 });
        isPoll(answer, ackOf(id), `GET ${id} of client ${i}`);
        rounds++;
      };
      isOk(await ask(t, peal, 'POST', url, { body: '40', timeout: 20000 }));
      isPoll(await ask(t, peal, 'GET', url, { timeout: 20000 }), /^40\{/);
      for (let id = 0; newcomers || id < 3; id++) {
        await once(id);
        await sleep(50 + Math.random() * 300);
      }
      if (i % 4 !== 0) return null;
      const connection = await httpConnection(t, peal);
      connection.write(upgradeRequest(`/socket.io/?EIO=4&transport=websocket&sid=${sid}`));
      const answer = await readAnswer(connection, { timeout: 20000 });
      assert.equal(answer.status, 101, `the upgrade of client ${i} at the limit: ${answer.body}`);
      return { connection, sid };
    });
    for (const one of living) one.catch(() => {});
    let most_seen = 0;
    await inBatches(range(ALL), 10, async (i) => {
      if (i % 2 === 0) refused(await ask(t, peal, 'GET', HANDSHAKE, { timeout: 20000 }), `newcomer ${i} by polling`);
      else {
        const connection = await httpConnection(t, peal);
        connection.write(upgradeRequest(ENGINE));
        refused(await readAnswer(connection, { timeout: 20000 }), `newcomer ${i} by WebSocket`);
        connection.socket.destroy();
      }
      if (i % 20 === 0) most_seen = Math.max(most_seen, (await peal.metrics()).sum('peal_connections'));
    });
    newcomers = false;
    await Promise.all(living);
    assert.equal(most_seen, sids.length, 'a client of many connections counts once');
    const metrics = await peal.metrics();
    assert.equal(metrics.sum('peal_connections'), sids.length, 'nobody left, nobody came');
    assert.equal(metrics.sum('peal_connections_refused_total') - before, ALL, 'exactly the newcomers were refused');
    assert.equal(metrics.sum('peal_session_unknown_total'), 0);
    t.diagnostic(`${sids.length} clients made ${rounds} rounds while ${ALL} newcomers were refused`);

    // A place that is given back is taken.
    for (const sid of sids.slice(1, 6)) isOk(await ask(t, peal, 'POST', `${HANDSHAKE}&sid=${sid}`, { body: '1' }));
    await waitFor(async () => (await peal.metrics()).sum('peal_connections') === sids.length - 5, { what: 'five clients fewer' });
    await waitFor(async () => {
      await ask(t, peal, 'GET', HANDSHAKE);
      return (await perWorker(peal)).every((n) => n >= EACH);
    }, { timeout: 20000, what: 'full workers again' });
  });
}

test('each client counts once, under its transport, whatever becomes of it', { skip: onNode, timeout: 90000 }, async (t) => {
  const peal = await startTarget(t, { workers: WORKERS, peal: { ping_interval: `${1000 * slow}ms`, ping_timeout: `${1000 * slow}ms` } });
  const counts = async () => {
    const metrics = await peal.metrics();
    for (const { name, value } of metrics.samples) assert.ok(value >= 0, `${name} is ${value}`);
    return {
      polling: metrics.sum('peal_connections', { transport: 'polling' }),
      websocket: metrics.sum('peal_connections', { transport: 'websocket' }),
      all: metrics.sum('peal_connections'),
      open: metrics.sum('peal_connections_accepted_total') - metrics.sum('peal_closes_total'),
      accepted: metrics.sum('peal_connections_accepted_total'),
    };
  };
  const live = new Set(); // sessions that go on, polling
  const upgraded = new Set(); // and over WebSocket
  // Keeps a session alive, one way or the other; pongs are part of hear() and nextText().
  const keep = (s) => {
    live.add(s);
    const loop = async () => {
      while (live.has(s)) {
        const answer = await ask(t, peal, 'GET', s.url, { timeout: 20000 });
        if (answer.status !== 200) throw new Error(`a session that should live: ${answer.status} ${answer.body}`);
        if (answer.body.split(SEPARATOR).includes('2') && live.has(s)) await s.say('3');
      }
    };
    s.loop = loop();
    s.loop.catch((error) => (s.failure = error));
  };
  const fates = {
    polls: async (s) => keep(s),
    upgrades: async (s) => {
      const ws = await s.upgrade();
      upgraded.add(ws);
      // the answer to a ping is part of reading
      ws.nextText({ timeout: 60000 }).catch(() => {});
    },
    leaves: (s) => s.say('1'),
    'sends nonsense': (s) => s.say('abc'),
    'loses its GET': async (s) => (await s.hold()).connection.reset(),
    'is never seen again': async () => {},
    'upgrades and is cut': async (s) => (await s.upgrade()).reset(),
    'upgrades and closes': async (s) => (await s.upgrade()).send(OP.CLOSE),
    'probes and is cut, then leaves': async (s) => {
      const ws = await s.webSocket();
      ws.text('2probe');
      assert.equal(await ws.nextText(), '3probe');
      ws.reset();
      await s.say('1');
    },
    'overlaps its GETs': async (s) => {
      await s.hold();
      await s.get();
    },
  };
  const names = Object.keys(fates);
  await inBatches(range(slow > 1 ? 60 : 200), 20, async (i) => fates[names[i % names.length]](await pollingSession(t, peal)));
  assert.ok(live.size > 0 && upgraded.size > 0);
  const expected = () => ({ polling: live.size, websocket: upgraded.size, all: live.size + upgraded.size, open: live.size + upgraded.size });
  let last;
  // Those never seen again are found out within ping_interval + ping_timeout.
  await waitFor(async () => {
    const { accepted, ...now } = await counts();
    last = now;
    return JSON.stringify(now) === JSON.stringify(expected());
  }, { timeout: 15000, interval: 100, what: () => `${JSON.stringify(expected())}; counted are ${JSON.stringify(last)}` });
  assert.equal((await counts()).accepted, slow > 1 ? 60 : 200, 'an upgrade is no other client');
  for (const s of live) assert.equal(s.failure, undefined, s.failure?.message);

  // A worker dies with its polling and upgraded clients: they are gone, the rest counts on.
  const [victim] = workersOf(peal);
  const gone = (await peal.metrics()).sum('peal_connections', { worker: victim.slot });
  const total = live.size + upgraded.size;
  process.kill(victim.pid, 'SIGKILL');
  await waitFor(async () => {
    const now = await counts();
    return now.all === total - gone && now.open === now.all;
  }, { timeout: 10000, what: `${total} - ${gone} clients after the death of a worker` });
  live.clear();
  for (const ws of upgraded) ws.socket.destroy();
  await waitFor(async () => {
    const now = await counts();
    return now.all === 0 && now.open === 0;
  }, { timeout: 20000, interval: 100, what: 'everything back to 0' });
});

const WAYS = ['waits in a GET', 'comes back on its kept connection', 'comes back on new connections'];

test('a drain of clients that poll, with and without a pending GET: all at its pace, queued messages first, exit 0', { skip: onNode, timeout: 90000 }, async (t) => {
  const n = slow > 1 ? 60 : 201;
  const rate = slow > 1 ? 20 : 100;
  const peal = await startTarget(t, { workers: WORKERS, peal: { drain_grace: '1s', drain_rate: rate, drain_timeout: '40s' } });
  const publisher = await engine(t, peal);
  await publisher.join();
  const clients = await inBatches(range(n), 20, async (i) => {
    const s = await pollingSession(t, peal);
    await s.join();
    await s.say(joinPacket(0, 'all'));
    assert.equal(await s.hear(), ackOf(0));
    const connection = await httpConnection(t, peal);
    isOk(await connection.ask('POST', s.url, { body: '3' }));
    return { s, connection, way: WAYS[i % WAYS.length], packets: [], closedAt: 0 };
  });
  // Polls until it is told that it is over. A browser keeps its connections; Node's client opens one for each request.
  const poll = async (client) => {
    for (;;) {
      const options = { timeout: 60000 };
      const answer = client.way === WAYS[2] ? await client.s.get(options) : await client.connection.ask('GET', client.s.url, options);
      isPoll(answer, undefined, `a GET in the drain, of a client that ${client.way}`);
      client.packets.push(...answer.body.split(SEPARATOR));
      if (client.packets.at(-1) === '1') {
        client.closedAt = performance.now();
        return;
      }
    }
  };
  const waiting = clients.filter(({ way }) => way === WAYS[0]).map(poll);
  for (const one of waiting) one.catch(() => {});
  await sleep(300 * slow);
  for (let i = 0; i < 3; i++) publisher.say(`2["publish","all","n",${i}]`);
  await publisher.fence();
  peal.kill('SIGTERM');
  await waitFor(async () => (await httpRequest(`${peal.url}/readyz`)).status === 503, { what: 'readyz 503' });
  for (let i = 3; i < 6; i++) publisher.say(`2["publish","all","n",${i}]`);
  // In the grace, new ones are served.
  const late = await pollingSession(t, peal);
  await late.join();
  await late.say('1');
  await peal.waitEvent('closing', { timeout: 20000 });
  const returning = clients.filter(({ way }) => way !== WAYS[0]).map(async (client) => {
    await sleep(Math.random() * 1000 * slow);
    await poll(client);
  });
  for (const one of returning) one.catch(() => {});
  // After it, no more; those who are there still are.
  refused(await ask(t, peal, 'GET', HANDSHAKE), 'a newcomer to a host that closes');
  await Promise.all([...waiting, ...returning]);
  for (const [i, { packets, way }] of clients.entries()) {
    const expected = [...range(6).map((k) => `42["n",${k}]`), '1'];
    assert.deepEqual(packets.filter((packet) => packet !== '2' && packet !== '6'), expected, `client ${i}, which ${way}: all messages, then the end, and no DISCONNECT`);
  }
  const times = clients.map(({ closedAt }) => closedAt).sort((a, b) => a - b);
  const took = (times.at(-1) - times[0]) / 1000;
  assert.ok(took > (n / rate) * 0.5, `all were closed within ${took} s at ${rate} a second`);
  const { code } = await peal.exited;
  assert.equal(code, 0);
  const [drained] = peal.events('drained');
  assert.equal(Number(drained.forced), 0, 'nobody was cut off');
  assert.ok(Number(drained.closed) >= n, `drained closed=${drained.closed}`);
  await peal.stop(null);
});

test('why a client that polls was closed is counted as it was decided, however it ends', { skip: onNode, timeout: 60000 }, async (t) => {
  const peal = await startTarget(t, { workers: 1, peal: { drain_grace: '100ms', drain_rate: 100, drain_timeout: '30s' } });
  const [gone, stays] = [await pollingSession(t, peal), await pollingSession(t, peal)];
  for (const s of [gone, stays]) await s.join();
  peal.kill('SIGTERM');
  await peal.waitEvent('closing', { timeout: 20000 });
  await sleep(500 * slow); // both have been closed, and neither has been told: nobody polls
  const c = await httpConnection(t, peal);
  const post = requestText('POST', gone.url, { body: 'x'.repeat(50) }).toString();
  c.write(post.slice(0, -20));
  await settle();
  c.socket.resetAndDestroy(); // in the middle of its body
  const closes = await waitFor(async () => {
    const metrics = await peal.metrics();
    return metrics.sum('peal_closes_total') > 0 && metrics;
  }, { what: 'the end of the first one' });
  assert.equal(closes.get('peal_closes_total', { reason: 'drain' }), 1);
  assert.equal(closes.sum('peal_closes_total'), 1);
  assert.equal((await stays.get()).body, '6\x1e1');
  assert.equal((await peal.exited).code, 0);
  await peal.stop(null);
});
