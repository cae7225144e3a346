// hosts.test.mjs: three hosts behind the load balancers of deploy/, each sticky in its way; one host is drained and comes back, one dies. Nobody outside the dead
// one's sessions may ever hear "Session ID unknown". PEAL_FULL=1 is the whole bar: 300 clients that poll and 700 WebSockets. @test parallel no-asan timeout=900
import assert from 'node:assert/strict';
import { freePort, httpRequest, ioClient, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { startDeployedHaproxy, startDeployedNginx } from './lib/deployed.mjs';
import { startSwarm } from './lib/swarm.mjs';

const FULL = process.env.PEAL_FULL === '1';
const SIZE = FULL ? { polling: 300, websocket: 700, rate: 50 } : { polling: 60, websocket: 140, rate: 20 };
const NAMES = ['one', 'two', 'three'];
const UNKNOWN = /Session ID unknown/;

async function startHost(t, name, port, redis) {
  // Hardly any two clients share an address: if the load balancer did not name them, and Peal believe it, few would be let in.
  const addresses = { trusted_proxies: '127.0.0.1', max_connections_per_ip: 4 };
  const options = { listen: `127.0.0.1:${port}`, cookie: 'io', redis: redis.url, drain_grace: '4s', drain_rate: SIZE.rate, drain_timeout: '60s', ...addresses };
  const host = await startPeal(t, { name, options });
  const probe = await ioClient(t, host.url);
  host.id = probe.io.engine.id.slice(0, 4);
  probe.disconnect();
  return host;
}

// As when its power is cut: no process of it says goodbye.
async function cutPower(host) {
  host.kill('SIGSTOP');
  for (const { pid } of host.children()) process.kill(pid, 'SIGKILL');
  await host.stop('SIGKILL');
}

async function everybodyHears(swarm, host, value) {
  const body = JSON.stringify({ namespace: '/', event: 'n', args: [value] });
  const answer = await httpRequest(`${host.adminUrl}/api/emit`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
  assert.equal(answer.status, 200, answer.body);
  await waitFor(async () => (await swarm.diaries()).every(({ heard }) => heard.includes(value)), { timeout: 15000, interval: 100, what: `event ${value} at every client` });
}

// All of the swarm are connected to one of these hosts. Gives the diaries.
async function settled(swarm, hosts, { timeout = 40000 } = {}) {
  const ids = hosts.map(({ id }) => id);
  let diaries;
  const away = () => diaries.filter(({ connected, host }) => !connected || !ids.includes(host));
  await waitFor(async () => away(diaries = await swarm.diaries()).length === 0, {
    timeout, interval: 100, what: () => `${away().length} clients, such as ${JSON.stringify(away()[0])}`,
  });
  return diaries;
}

const sumOf = async (hosts, name, labels) => (await Promise.all(hosts.map((host) => host.metrics()))).reduce((n, metrics) => n + metrics.sum(name, labels), 0);

// The most events in any second of a list of times.
function busiestSecond(times) {
  times.sort((a, b) => a - b);
  return Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + 1000).length));
}

async function drained(t, swarm, host, others) {
  const before = (await swarm.diaries()).filter((diary) => diary.host === host.id);
  assert.ok(before.some(({ transport }) => transport === 'polling') && before.some(({ transport }) => transport === 'websocket'), 'it has clients of both kinds');
  const begun = Date.now();
  host.kill('SIGTERM');
  const closing = Date.parse((await host.waitEvent('closing', { timeout: 15000 })).time);
  await host.stop(null, { timeout: 90000 });
  const took = (Date.now() - closing) / 1000;
  const diaries = await settled(swarm, others);
  const all = diaries.flatMap(({ ends }) => ends);
  assert.ok(all.every((end) => end.host === host.id), `only its clients were disconnected: ${JSON.stringify(all.find((end) => end.host !== host.id))}`);
  assert.deepEqual([...new Set(all.map(({ reason }) => reason))], ['transport close']);
  assert.equal(all.length, before.length, 'each of them once');
  assert.deepEqual(diaries.flatMap(({ errors }) => errors), [], 'nobody was refused on the way back');
  const busiest = busiestSecond(all.map(({ at }) => at));
  const back = diaries.filter(({ ends }) => ends.length > 0).map(({ ends, opens }) => opens.at(-1).at - ends[0].at).sort((a, b) => a - b);
  const last = host.events('drained')[0];
  t.diagnostic(`drain: ${before.length} clients in ${took.toFixed(1)} s at drain_rate = ${SIZE.rate}, at most ${busiest} in a second, first after ${Math.min(...all.map(({ at }) => at)) - begun} ms; ` +
    `back elsewhere after ${back[0]} to ${back.at(-1)} ms`);
  assert.equal(last.forced, '0');
  // Clients learn of it late on a busy machine, never early: so many by then are the most.
  all.sort((a, b) => a.at - b.at).forEach(({ at }, i) =>
    assert.ok(i + 1 <= (SIZE.rate * (at - closing)) / 1000 + SIZE.rate / 2, `${i + 1} were closed within ${at - closing} ms`));
  assert.ok(took < before.length / SIZE.rate + 15, `the drain of ${before.length} took ${took} s`);
}

async function hostsBehind(t, { balancer, options }) {
  const redis = await startRedis(t);
  const ports = await Promise.all(NAMES.map(() => freePort()));
  const hosts = await Promise.all(NAMES.map((name, i) => startHost(t, name, ports[i], redis)));
  const front = await balancer(t, Object.fromEntries(ports.map((port, i) => [`10.0.0.1${i + 1}:3000`, port])));
  const address = (i) => `127.${1 + (i % 100)}.${1 + (i % 7)}.${1 + (i % 250)}`;
  const groups = [
    { n: SIZE.polling, options: { transports: ['polling'], ...options }, address },
    { n: SIZE.websocket, options: { transports: ['websocket'], ...options }, address },
  ];
  const swarm = await startSwarm(t, front.url, groups);
  const counts = () => Promise.all(hosts.map((host) => sumOf([host], 'peal_connections')));
  await settled(swarm, hosts);
  t.diagnostic(`clients of the hosts: ${await counts()}`);
  for (const n of await counts()) assert.ok(n >= (SIZE.polling + SIZE.websocket) / 6, `clients of the hosts: ${await counts()}`);
  await everybodyHears(swarm, hosts[0], 1);

  await drained(t, swarm, hosts[0], hosts.slice(1));
  await everybodyHears(swarm, hosts[1], 2);
  assert.equal(await sumOf(hosts.slice(1), 'peal_session_unknown_total'), 0, 'Session ID unknown after a drain');

  // Back on its address, it is given new clients again.
  hosts[0] = await startHost(t, 'one again', ports[0], redis);
  const fresh = await waitFor(async () => {
    const more = await startSwarm(t, front.url, [{ n: 30, options: { transports: ['polling'], ...options }, address: (i) => `127.0.${i}.${i + 1}` }], { processes: 1 });
    return (await more.diaries()).some(({ host }) => host === hosts[0].id) ? more : void (await more.leave());
  }, { timeout: 30000, interval: 500, what: 'new clients on the host that is back' });
  const calm = await settled(swarm, hosts);
  const [, victim] = hosts;
  const lost = calm.filter(({ host }) => host === victim.id).length + (await fresh.diaries()).filter(({ host }) => host === victim.id).length;
  const endsBefore = calm.flatMap(({ ends }) => ends).length;
  const killed = Date.now();
  await cutPower(victim);
  const rest = [hosts[0], hosts[2]];
  const diaries = [...(await settled(swarm, rest)), ...(await settled(fresh, rest))];
  const ends = diaries.flatMap((diary) => diary.ends);
  const foreign = ends.filter(({ at, host }) => at >= killed && host !== victim.id);
  assert.deepEqual(foreign, [], 'clients of the others noticed nothing');
  assert.equal(ends.length - endsBefore, lost, 'each client of the dead host lost its connection once');
  const unknown = diaries.flatMap((diary) => [...diary.ends, ...diary.errors]).filter(({ text }) => UNKNOWN.test(text));
  assert.ok(unknown.every(({ host }) => host === victim.id), `"Session ID unknown" for a session of a living host: ${JSON.stringify(unknown[0])}`);
  const back = diaries.flatMap((diary) => diary.opens).filter(({ at }) => at > killed).map(({ at }) => at - killed);
  t.diagnostic(`death: ${lost} clients, back elsewhere after ${Math.min(...back)} to ${Math.max(...back)} ms; "Session ID unknown": ${unknown.length}, all of them the dead host's`);
  await everybodyHears(swarm, hosts[0], 3);
  await everybodyHears(swarm, hosts[2], 4);
  for (const { heard } of await swarm.diaries()) assert.deepEqual(heard, [1, 2, 3, 4], 'each broadcast once, from any host');
  assert.equal(await sumOf(rest, 'peal_session_unknown_total', { cause: 'malformed' }) + (await sumOf(rest, 'peal_session_unknown_total', { cause: 'ended' })), 0);
  await Promise.all([swarm.leave(), fresh.leave()]);
  await waitFor(async () => (await sumOf(rest, 'peal_connections')) === 0, { timeout: 10000, what: 'no client after all have left' });
}

const limits = { timeout: FULL ? 250000 : 150000 };
const jar = { withCredentials: true };

test('three hosts behind HAProxy that knows hosts by their session ids: clients need no cookie', limits, (t) =>
  hostsBehind(t, { balancer: (t_, hosts) => startDeployedHaproxy(t_, 'haproxy/haproxy.cfg', hosts), options: {} }));

test('three hosts behind HAProxy with a cookie of its own', limits, (t) =>
  hostsBehind(t, { balancer: (t_, hosts) => startDeployedHaproxy(t_, 'haproxy/cookie.cfg', hosts), options: jar }));

test('three hosts behind nginx with a cookie that names the host', limits, (t) =>
  hostsBehind(t, { balancer: (t_, hosts) => startDeployedNginx(t_, 'nginx/several-hosts.conf', hosts), options: jar }));
