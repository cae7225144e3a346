// course.test.mjs: a Peal host joins what courses teach: two Node servers with createAdapter(pubClient, subClient) behind nginx with ip_hash (deploy/nginx/course.conf,
// unchanged but for addresses). Nothing of it is changed for Peal's sake; Peal's one setting, `origins`, is what its refusal says. @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { defer, freePort, httpRequest, startBrowser, startNodeServer, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { startDeployedNginx } from './lib/deployed.mjs';
import { startSwarm } from './lib/swarm.mjs';

const CLIENTS = 300;
const NETWORKS = 60; // /24s: ip_hash looks at no more of an address
const CLIENT_FILES = fileURLToPath(new URL('../node_modules/socket.io/client-dist', import.meta.url));
const HANDSHAKE = '/socket.io/?EIO=4&transport=polling';

// A page that a browser shows, from an origin of its own.
async function startPages(t) {
  const pages = createServer((request, response) => response.writeHead(200, { 'Content-Type': 'text/html' }).end('<p>elsewhere'));
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  defer(t, () => {
    pages.closeAllConnections();
    pages.close();
  });
  return `http://127.0.0.1:${pages.address().port}`;
}

const page = (server) => `<!doctype html><title>course</title><script src="${server}/socket.io/socket.io.js"></script><script>
  window.seen = { connects: 0, errors: [], heard: [] };
  const socket = io(${JSON.stringify(server)});
  socket.on('connect', () => seen.connects++);
  socket.on('connect_error', (error) => seen.errors.push(error.message));
  socket.on('n', (value) => seen.heard.push(value));
  window.transport = () => socket.io.engine?.transport?.name;
</script>`;

test('two Node servers and a Peal host behind the ip_hash block of the course', { timeout: 150000 }, async (t) => {
  const redis = await startRedis(t);
  const port = await freePort();
  const setup = ({ io, state }) => {
    state.refused = [];
    io.engine.on('connection_error', ({ code, message }) => state.refused.push({ code, message }));
  };
  const nodes = [await startNodeServer(t, { redis, setup }), await startNodeServer(t, { redis, setup })];
  const options = { listen: `127.0.0.1:${port}`, redis: redis.url, client_files: CLIENT_FILES };
  const start = (more, name) => startPeal(t, { name, options: { ...options, ...more } });
  const hosts = { '10.0.0.21:3000': nodes[0].port, '10.0.0.22:3000': nodes[1].port, '10.0.0.11:3000': port };
  const first = await start({}, 'peal without origins');
  const front = await startDeployedNginx(t, 'nginx/course.conf', hosts);

  // A browser with a page of another origin, whose network is Peal's: refused, and told what to set.
  const origin = await startPages(t);
  const refusal = await httpRequest(`${front.url}${HANDSHAKE}`, { headers: { Origin: origin } });
  assert.equal(refusal.status, 403, 'the browser\'s network is that of the third server of three');
  const [, origins] = /set on the server: origins = (\S+)/.exec(refusal.body) ?? [];
  assert.ok(origins, refusal.body);
  await first.stop();
  const peal = await start({ origins }, 'peal');

  const swarm = await startSwarm(t, front.url, [{ n: CLIENTS, address: (i) => `127.${1 + (i % NETWORKS)}.7.${1 + Math.floor(i / NETWORKS)}` }]);
  const browser = await startBrowser(t);
  const window = await browser.open(`${origin}/`, { content: page(front.url) });
  await waitFor(() => window.evaluate('window.seen?.connects === 1 && transport() === "websocket"'), { timeout: 15000, what: 'the browser on a WebSocket' });
  await waitFor(async () => (await swarm.diaries()).every(({ transport }) => transport === 'websocket'), { timeout: 20000, interval: 100, what: 'all clients on WebSockets' });

  const counts = await Promise.all(nodes.map((node) => node.run(({ io }) => io.engine.clientsCount)));
  counts.push((await peal.metrics()).sum('peal_connections'));
  t.diagnostic(`clients of node one, node two, peal: ${counts}`);
  assert.equal(counts.reduce((a, b) => a + b), CLIENTS + 1);
  for (const n of counts) assert.ok(n >= 50, `clients of the servers: ${counts}`);

  const values = ['from node one', 'from node two', 'from peal'];
  for (const [i, node] of nodes.entries()) await node.run(({ io }, value) => void io.emit('n', value), values[i]);
  const answer = await httpRequest(`${peal.adminUrl}/api/emit`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ namespace: '/', event: 'n', args: [values[2]] }),
  });
  assert.equal(answer.status, 200, answer.body);
  const everybody = async () => [...(await swarm.diaries()).map(({ heard }) => heard), (await window.evaluate('window.seen')).heard];
  await waitFor(async () => (await everybody()).every((heard) => heard.length >= values.length), { timeout: 15000, interval: 100, what: 'all three events at every client' });
  // What would come twice has come when a later event of the same server has.
  for (const node of nodes) await node.run(({ io }) => void io.emit('n', 'end'));
  await waitFor(async () => (await everybody()).every((heard) => heard.filter((value) => value === 'end').length === 2), { timeout: 15000, interval: 100, what: 'the last event at every client' });
  for (const heard of await everybody()) assert.deepEqual(heard.filter((value) => value !== 'end').sort(), values, 'each event exactly once');

  const diaries = await swarm.diaries();
  assert.deepEqual(diaries.flatMap(({ errors, ends }) => [...errors, ...ends]), [], 'nobody lost a connection, or was refused one');
  assert.equal((await peal.metrics()).sum('peal_session_unknown_total'), 0);
  for (const node of nodes) assert.deepEqual(await node.run(({ state }) => state.refused), []);
  const seen = await window.evaluate('window.seen');
  assert.deepEqual({ connects: seen.connects, errors: seen.errors, problems: window.problems }, { connects: 1, errors: [], problems: [] });
  await swarm.leave();
});
