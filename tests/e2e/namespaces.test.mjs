// namespaces.test.mjs: names that clients choose (`/name*`) come and go without end, have a bound that costs nobody else anything, and never get another's messages.
// @test asan-soak timeout=300
import assert from 'node:assert/strict';
import { httpRequest, redisClient, startNodeServer, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { logged } from './lib/cluster.mjs';
import { engine, sameWorkers, workersOf } from './lib/engine.mjs';

const DYNAMIC = 896; // NAMESPACES_DYNAMIC
const REFUSED = '{"message":"Too many namespaces in use under this prefix"}';
const CONFIG = `
[namespace "/"]
[namespace "/chat"]
[namespace "/dyn-*"]
[namespace "/room-*"]
`;

async function emit(peal, namespace, value) {
  const body = JSON.stringify({ namespace, event: 'e', args: [value] });
  const answer = await httpRequest(`${peal.adminUrl}/api/emit`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  return answer.status;
}

// CONNECT to a name, whatever the answer.
async function connect(ws, nsp) {
  ws.say(`0${nsp},`);
  const answer = await ws.hear();
  assert.ok(answer.slice(1).startsWith(`${nsp},`), `${nsp}: ${answer}`);
  return { joined: answer[0] === '0', text: answer.slice(1 + nsp.length + 1) };
}

// Holds names `first` to `last` open; gives how many were let in, and checks what the rest was told.
async function hold(ws, prefix, first, last) {
  let n = 0;
  for (let i = first; i < last; i++) {
    const { joined, text } = await connect(ws, `${prefix}-${i}`);
    if (joined) n++;
    else assert.equal(text, REFUSED);
  }
  return n;
}

test('one client goes through 3,000 namespaces, one after the other, and hears nothing of the last in the next', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, config: CONFIG });
  const workers = workersOf(peal);
  const ws = await engine(t, peal);
  for (let i = 0; i < 3000; i++) {
    const { joined, text } = await connect(ws, `/dyn-${i}`);
    assert.ok(joined, `the ${i + 1}th: ${text}`);
    if (i % 10 === 0) {
      if (i > 0) await emit(peal, `/dyn-${i - 1}`, 'old'); // 404 where the name has ended
      assert.equal(await emit(peal, `/dyn-${i}`, i), 200);
      assert.equal(await ws.hear(), `2/dyn-${i},["e",${i}]`);
    }
    ws.say(`1/dyn-${i},`);
  }
  assert.equal((await peal.metrics()).sum('peal_connects_refused_total'), 0);
  sameWorkers(peal, workers);
});

test('names in use are refused beyond the share of their prefix, and no other namespace suffers', async (t) => {
  const share = DYNAMIC / 2;
  const peal = await startPeal(t, { options: { workers: 4 }, config: CONFIG });
  const workers = workersOf(peal);
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => engine(t, peal)));
  const let_in = (await Promise.all([hold(a, '/dyn', 0, 1000), hold(b, '/dyn', 1000, 2000)])).reduce((x, y) => x + y);
  assert.equal(let_in, share);
  const refused = () => peal.metrics().then((m) => m.get('peal_connects_refused_total', { reason: 'too_many_namespaces' }));
  await waitFor(async () => (await refused()) === 2000 - share, { what: 'a count for each refusal' });
  for (const nsp of ['/', '/chat', '/dyn-0', '/dyn-1000']) assert.ok((await c.join(nsp)).sid, nsp);
  assert.equal(await hold(c, '/room', 0, share), share);
  assert.equal(await hold(c, '/room', share, share + 1), 0);
  // What is left can be had, by whoever comes; what only one of two has left cannot.
  a.say('1/dyn-0,');
  assert.deepEqual(await a.fence(), []);
  assert.equal(await hold(b, '/dyn', 3000, 3001), 0);
  c.say('1/dyn-0,');
  assert.deepEqual(await c.fence(), []);
  assert.equal(await hold(b, '/dyn', 3000, 3002), 1);
  assert.equal((await connect(a, '/dyn-0')).joined, false);
  assert.equal(await emit(peal, '/dyn-3000', 'new'), 200);
  assert.equal(await b.hear(), '2/dyn-3000,["e","new"]');
  assert.deepEqual([...(await a.fence()), ...(await c.fence())], []);
  sameWorkers(peal, workers);
});

test('a dead worker leaves its names to others', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, config: CONFIG });
  const clients = await Promise.all([engine(t, peal), engine(t, peal)]);
  assert.equal(await hold(clients[0], '/dyn', 0, 500), DYNAMIC / 2);
  const restarts = () => peal.metrics().then((m) => m.get('peal_worker_restarts_total'));
  // leastconn: one client each
  for (const { pid } of workersOf(peal)) {
    const before = await restarts();
    process.kill(pid, 'SIGKILL');
    await waitFor(async () => (await restarts()) > before, { what: 'a successor' });
  }
  const next = await engine(t, peal);
  assert.equal(await hold(next, '/dyn', 1000, 1500), DYNAMIC / 2);
});

test('the cluster is subscribed to the names that are there, and to no more', async (t) => {
  const redis = await startRedis(t);
  const setup = ({ io }) => void io.of(/^\/dyn-/);
  const [control, peal, node] = await Promise.all([
    redisClient(t, redis),
    startPeal(t, { options: { workers: 2, redis: redis.url }, config: CONFIG }),
    startNodeServer(t, { redis, setup }),
  ]);
  const channel = (nsp) => `socket.io-request#${nsp}#`;
  const count = async (nsp) => (await control.pubSubNumSub(channel(nsp)))[channel(nsp)];
  const patterns = async () => Number(await control.sendCommand(['PUBSUB', 'NUMPAT']));
  await waitFor(async () => (await count('/')) === 2, { what: 'both servers in /' });
  const fixed = await patterns();
  const ws = await engine(t, peal);
  for (let i = 0; i < 1000; i++) {
    assert.ok((await connect(ws, `/dyn-${i}`)).joined);
    ws.say(`1/dyn-${i},`);
  }
  assert.ok((await connect(ws, '/dyn-7')).joined); // which has ended meanwhile
  await waitFor(async () => (await count('/dyn-7')) === 1, { what: 'the subscription of a name that came again' });
  await waitFor(async () => (await count('/dyn-1')) === 0, { what: 'the end of the subscription of one that is gone' });
  assert.ok((await patterns()) - fixed <= DYNAMIC / 2, `${await patterns()} patterns`);
  await node.run(({ io }) => void io.of('/dyn-7').emit('e', 'from Node'));
  assert.equal(await ws.hear(), '2/dyn-7,["e","from Node"]');
  const client = await logged(t, node, { namespace: '/dyn-only-there' });
  await waitFor(async () => (await count('/dyn-only-there')) === 1, { what: "the Node server's subscription" }); // it comes after CONNECT's answer
  assert.equal(await emit(peal, '/dyn-only-there', 'from Peal'), 200); // though no client of Peal's is in it
  await waitFor(() => client.log.length > 0, { what: 'an event in a namespace of another host' });
  assert.deepEqual(client.log[0].slice(0, 2), ['e', 'from Peal']);
});

test('a name is kept for a client that may come back to it', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2, recovery: '60s' }, config: CONFIG });
  const [lost, other] = await Promise.all([engine(t, peal), engine(t, peal)]);
  const { sid, pid } = await lost.join('/dyn-mine');
  lost.socket.destroy();
  await waitFor(async () => (await peal.metrics()).sum('peal_connections') === 1, { what: 'the end of the lost connection' });
  for (let i = 0; i < 1000; i++) {
    assert.ok((await connect(other, `/dyn-${i}`)).joined);
    other.say(`1/dyn-${i},`);
  }
  const back = await engine(t, peal);
  assert.equal((await back.join('/dyn-mine', { pid })).sid, sid);
  assert.equal(await emit(peal, '/dyn-mine', 1), 200);
  assert.match(await back.hear(), /^2\/dyn-mine,\["e",1,/);
});
