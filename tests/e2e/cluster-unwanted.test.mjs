// cluster-unwanted.test.mjs: what comes from Redis for nobody here is dropped before it is decoded; what somebody can want never is: not the emit right
// after a join, not what a client misses while it is away.
// @test parallel no-asan timeout=200
import assert from 'node:assert/strict';
import { redisClient, sleep, startNodeServer, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { workersOf } from './lib/engine.mjs';
import { fence, logged, OPEN, sameList, subscribed, taken } from './lib/cluster.mjs';

async function start(t, options = {}) {
  const redis = await startRedis(t);
  const [control, peal, node] = await Promise.all([
    redisClient(t, redis),
    startPeal(t, { config: OPEN, options: { redis: redis.url, workers: 2, ...options } }),
    startNodeServer(t, { redis }),
  ]);
  await subscribed(control, '/', 2);
  return { control, peal, node };
}

const counts = async (peal) => {
  const metrics = await peal.metrics();
  return { unwanted: metrics.get('peal_redis_unwanted_total'), dropped: metrics.sum('peal_redis_dropped_total'), received: metrics.get('peal_redis_received_total') };
};
// With recovery each event has an argument more.
const told = (client) => taken(client).map(([event, i]) => [event, i]);

for (const recovery of ['0', '1m']) {
  test(`recovery = ${recovery}: a message for nobody is dropped undecoded`, async (t) => {
    const { control, peal, node } = await start(t, { recovery });
    const client = await logged(t, peal);
    const id = 'AAAAaaaaBBBBbbbbCCCC'; // of no socket
    const before = await counts(peal);
    await fence([client], (n) => node.run(({ io, emitter }, own, fenceId) => {
      for (let i = 0; i < 100; i++) {
        io.to('nobody').emit('x', i);
        emitter.to('nobody else').emit('x', { i });
        io.to(own).emit('x', i);
      }
      io.of('/chat').emit('x', 'a namespace without sockets');
      io.emit('fence', fenceId);
    }, id, n));
    for (const room of ['nobody', id, 'n'.repeat(256)]) await control.publish(`socket.io#/#${room}#`, 'not even MessagePack');
    await fence([client], (n) => node.run(({ io }, fenceId) => { io.emit('fence', fenceId); }, n));
    await waitFor(async () => (await counts(peal)).unwanted - before.unwanted === 304, { what: 'what is for nobody to be dropped' });
    const after = await counts(peal);
    assert.equal(after.dropped, before.dropped, 'none of it was looked at');
    assert.equal(after.received - before.received, 306);
    // The same to somebody is looked at.
    await control.publish(`socket.io#/#${client.id}#`, 'not even MessagePack');
    await waitFor(async () => (await counts(peal)).dropped - before.dropped === 1);
    assert.deepEqual(taken(client), []);
  });

  test(`recovery = ${recovery}: a thousand times socketsJoin and then emit: the very next emit arrives`, async (t) => {
    const { peal, node } = await start(t, { recovery });
    const clients = await Promise.all(Array.from({ length: 4 }, () => logged(t, peal))); // on both workers
    for (const source of ['io', 'emitter']) {
      await fence(clients, (n) => node.run(({ io, emitter }, from, ids, fenceId) => {
        const to = from === 'io' ? io : emitter;
        for (let i = 0; i < 1000; i++) {
          to.in(ids[i % 4]).socketsJoin(`${from} ${i}`);
          to.to(`${from} ${i}`).emit('k', i);
          to.to(ids[i % 4]).emit('own', i);
        }
        to.emit('fence', fenceId);
      }, source, clients.map(({ id }) => id), n));
      for (const c of [0, 1, 2, 3]) {
        const wanted = Array.from({ length: 250 }, (_, i) => [['k', 4 * i + c], ['own', 4 * i + c]]).flat();
        sameList(told(clients[c]), wanted, `${source}, client ${c}`);
      }
    }
    // One after the other, so that each finds everything at rest.
    const [client] = clients;
    for (let i = 0; i < 50; i++) {
      await node.run(({ io }, id, room) => {
        io.in(id).socketsJoin(room);
        io.to(room).emit('k', room);
        io.in(id).socketsLeave(room);
        io.in(id).socketsJoin(room);
        io.to(room).emit('k', room);
      }, client.id, `single ${i}`);
      await waitFor(() => client.log.length === 2 * i + 2, { what: `both emits to room ${i}` });
    }
  });
}

test('a client that is away, or whose worker is killed, misses nothing that was for its rooms, its id, and rooms that it was put into meanwhile', async (t) => {
  const { peal, node } = await start(t, { recovery: '1m' });
  const client = await logged(t, peal, { reconnection: true, reconnectionDelay: 700, reconnectionDelayMax: 700, randomizationFactor: 0 });
  const witness = await logged(t, peal);
  const { id } = client;
  await node.run(({ io }, sid) => { io.in(sid).socketsJoin('alone'); }, id);
  let total = 0;
  const ends = [
    () => client.io.engine.close(),
    () => {
      // of all workers: one has the client
      for (const { pid } of workersOf(peal)) process.kill(pid, 'SIGKILL');
    },
  ];
  for (const [round, end] of ends.entries()) {
    const back = new Promise((resolve) => client.once('connect', resolve));
    const talking = node.run(async ({ io }, sid, n) => {
      for (let i = 0; i < 150; i++) {
        io.to('alone').emit('m', `alone ${n} ${i}`);
        io.to(sid).emit('m', `own ${n} ${i}`);
        if (i === 75) io.in(sid).socketsJoin(`late ${n}`);
        if (i >= 75) io.to(`late ${n}`).emit('m', `late ${n} ${i}`);
        await new Promise((resolve) => setTimeout(resolve, 4));
      }
    }, id, round);
    await sleep(100);
    end();
    await talking;
    await back;
    assert.equal(client.id, id);
    assert.equal(client.recovered, true);
    total += 375;
    await waitFor(() => client.log.length >= total, { what: () => `${total} events; there are ${client.log.length}` });
    await fence([client], (n) => node.run(({ io }, fenceId) => { io.emit('fence', fenceId); }, n));
  }
  const wanted = [0, 1].flatMap((n) => Array.from({ length: 150 }, (_, i) => [`alone ${n} ${i}`, `own ${n} ${i}`, ...(i >= 75 ? [`late ${n} ${i}`] : [])]).flat());
  sameList(taken(client).map(([, text]) => text), wanted, 'everything, once, and in order');
  assert.equal(witness.log.filter(([event]) => event === 'm').length, 0);
});
