// forward.test.mjs: app = forward: a Node application behind Peal, its handlers unchanged, against the same application without Peal; and what can go wrong.
// PEAL_FULL=1: the load test in full.
// @test parallel no-asan timeout=400
import assert from 'node:assert/strict';
import { ask, ioClient, ioClients, once, redisClient, sleep, slow, startNodeServer, startPeal, startRedis, test, waitFor, within } from './lib/index.mjs';
import { subscribed } from './lib/cluster.mjs';
import { workersOf } from './lib/engine.mjs';

const chatFile = new URL('./lib/chat.mjs', import.meta.url).href;
const pealFile = new URL('../../deploy/node/peal.mjs', import.meta.url).href;
const FORWARD = '[namespace "/"]\napp = forward\n[namespace "/chat"]\napp = forward\n';

// In a Node server: the application, for its own clients (index undefined) or for those of Peal.
async function serveChat({ io, pub, state }, chatUrl, pealUrl, index, count) {
  const [{ chat }, { peal }] = await Promise.all([import(chatUrl), import(pealUrl)]);
  const store = (message) => pub.rPush('stored', JSON.stringify(message));
  for (const nsp of [io, io.of('/chat')]) chat(index === undefined ? nsp : peal(nsp, { index, count }), nsp, store);
  state.heard = [];
  for (const event of ['peal:connect', 'peal:event', 'peal:disconnect'])
    io.on(event, (e, reply) => state.heard.push([event, e, typeof reply]));
}

const startServers = async (t, redis, n) => {
  const nodes = await Promise.all(Array.from({ length: n }, () => startNodeServer(t, { redis })));
  await Promise.all(nodes.map((node, i) => node.run(serveChat, chatFile, pealFile, i, n)));
  return nodes;
};

// Peal in front of `servers` Node servers.
async function startForward(t, { servers = 2, workers = 2, options = {}, config = FORWARD } = {}) {
  const redis = await startRedis(t);
  const [control, nodes, peal] = await Promise.all([
    redisClient(t, redis), startServers(t, redis, servers), startPeal(t, { config, options: { workers, redis: redis.url, ...options } }),
  ]);
  for (const nsp of ['/', '/chat']) await subscribed(control, nsp, servers + 1);
  return { redis, control, nodes, peal, url: peal.url, stored: async () => (await control.lRange('stored', 0, -1)).map((text) => JSON.parse(text)) };
}

const heard = async (node, event) => (await node.run(({ state }) => state.heard)).filter(([name]) => name === event).map(([, e]) => e);
const results = async (peal) => Object.fromEntries((await peal.metrics()).samples.filter((s) => s.name === 'peal_forward_total' && s.value > 0).map((s) => [s.labels.result, s.value]));
const auth = (user) => ({ token: `token of ${user}` });
const person = (t, url, user, options = {}) => ioClient(t, url, { auth: auth(user), ...options });

// ---- The same application, with Peal and without ----

// What each client saw in each step, acknowledgements in their place among the events.
async function transcript(t, url, namespace, nodes) {
  const steps = [];
  const clients = new Map();
  let fences = 0;
  const come = async (user, options = {}) => {
    const client = await ioClient(t, url, { namespace, auth: auth(user), connected: false, ...options });
    client.log = [];
    client.onAny((...args) => client.log.push(args.filter((value) => typeof value !== 'function')));
    client.on('connect', () => client.log.push(['connect']));
    client.on('disconnect', (reason) => client.log.push(['disconnect', reason]));
    client.on('connect_error', (e) => client.log.push(['connect_error', e.message, e.data]));
    client.on('ring', (n, answer) => answer(`${user} here`, n));
    clients.set(user, client);
    await waitFor(() => client.log.length > 0, { what: `${user} to hear something` });
    return client;
  };
  const tell = (client, ...args) =>
    within(new Promise((done) => client.emit(...args, (...values) => done(client.log.push(['ack', args[0], ...values])))), `the acknowledgement of ${args[0]}`);
  // Everything that came of a step has come: all events have been handled, and all servers say so behind what they have sent.
  const step = async (name) => {
    const living = [...clients.values()].filter((client) => client.connected);
    await Promise.all(living.map((client) => ask(client, 'several')));
    for (const node of nodes) {
      const id = ++fences;
      await node.run(({ io }, nsp, n) => io.of(nsp).emit('fence', n), namespace, id);
      await waitFor(() => living.every((client) => client.log.some(([event, n]) => event === 'fence' && n === id)), { what: `fence ${id} of ${name}` });
    }
    steps.push([name, Object.fromEntries([...clients].map(([user, client]) => [user, client.log.splice(0).filter(([event]) => event !== 'fence')]))]);
  };
  const seen = (client, event) => waitFor(() => client.log.some(([name]) => name === event), { what: event });

  const ann = await come('ann');
  await seen(ann, 'welcome');
  await step('the first');
  const bob = await come('bob', { query: { level: 'high' } });
  await seen(bob, 'welcome');
  await step('the second');
  await come('nobody', { auth: { token: 'wrong' } });
  await step('a bad token');
  clients.delete('nobody');
  await Promise.all([tell(ann, 'enter', 'r')]);
  await step('ann enters');
  await tell(bob, 'enter', 'r');
  await step('bob enters');
  await tell(ann, 'message', 'r', 'hello');
  await tell(bob, 'message', 'r', 'é "\\\u2028 \u0000');
  await step('messages');
  bob.emit('private', 'ann', { deep: [1, null, { x: true }] });
  await step('a private one');
  await tell(bob, 'several');
  ann.emit('unknown', 1);
  ann.emit('call me');
  await seen(ann, 'heard');
  await step('answers');
  await tell(ann, 'file', 'f', Buffer.from([0, 1, 255]));
  await tell(ann, 'file', 'empty', Buffer.alloc(0));
  await step('binary');
  bob.emit('leave', 'r');
  await step('bob leaves the room');
  await tell(ann, 'message', 'r', 'alone');
  await step('a message for nobody');
  const cy = await come('cy');
  await seen(cy, 'welcome');
  cy.emit('throw me out', false);
  await seen(cy, 'disconnect');
  await seen(ann, 'gone');
  await step('cy is thrown out');
  cy.connect();
  await seen(cy, 'welcome');
  await step('and back');
  cy.emit('throw me out', true);
  await seen(cy, 'disconnect');
  await seen(ann, 'gone');
  await step('with the connection');
  bob.disconnect();
  await seen(ann, 'gone');
  await step('bob leaves');
  return steps;
}

for (const namespace of ['/', '/chat']) {
  test(`the application behaves in ${namespace} as it does without Peal`, { timeout: 90000 }, async (t) => {
    const plain = await startRedis(t);
    const native = await startNodeServer(t, { redis: plain });
    await native.run(serveChat, chatFile, pealFile);
    const wanted = await transcript(t, native.url, namespace, [native]);
    const { url, nodes, control } = await startForward(t);
    const got = await transcript(t, url, namespace, nodes);
    for (const [i, step] of wanted.entries()) assert.deepEqual(got[i], step);
    assert.equal(got.length, wanted.length);
    assert.deepEqual(await control.lRange('stored', 0, -1), await (await redisClient(t, plain)).lRange('stored', 0, -1));
  });
}

// ---- What Node servers hear, without peal.mjs ----

// 32-bit FNV-1a, its halves xored, the lowest ten bits: as the README says.
function hashOf(id) {
  let hash = 2166136261;
  for (const byte of Buffer.from(id)) hash = Math.imul(hash ^ byte, 16777619);
  return ((hash ^ (hash >>> 16)) >>> 0) & 1023;
}

// Peal and one Node server that answers peal:connect as `answers` says: a list of functions (io, e) => answer, one for each reply.
async function startRaw(t, { connect = '() => ({ ok: true })', event = '(e) => e.args', ...more } = {}) {
  const redis = await startRedis(t);
  const [control, node, peal] = await Promise.all([
    redisClient(t, redis), startNodeServer(t, { redis }), startPeal(t, { config: FORWARD, options: { workers: 2, redis: redis.url, ...more.options } }),
  ]);
  await node.run(({ io, state }, connectText, eventText) => {
    Object.assign(state, { heard: [], connect: (0, eval)(connectText), event: (0, eval)(eventText) });
    for (const event of ['peal:connect', 'peal:event', 'peal:disconnect']) io.on(event, (e, reply) => state.heard.push([event, e, typeof reply]));
    io.on('peal:connect', async (e, reply) => {
      const answer = await state.connect(e, io, reply);
      if (answer !== undefined) reply(answer);
    });
    io.on('peal:event', async (e, reply) => {
      const answer = await state.event(e, io, reply);
      if (answer !== undefined) reply?.(answer);
    });
  }, connect, event);
  await subscribed(control, '/', 2);
  return { redis, control, node, peal, url: peal.url, all: () => node.run(({ state }) => state.heard) };
}

test('events have the form that the contract names', async (t) => {
  const { node, peal, url, all } = await startRaw(t, {
    connect: `(e, io) => { setImmediate(() => { io.to('late').emit('welcome', 'late'); }); return { ok: true, rooms: ['r', 'late'], data: { user: 'ann' } }; }`,
    event: `(e, io) => (e.event === 'members' ? io.in('r').fetchSockets().then((all) => [all.map((s) => ({ id: s.id, rooms: [...s.rooms], data: s.data }))]) : e.args)`,
  });
  const client = await ioClient(t, url, { auth: { token: 't' }, query: { q: '1' }, connected: false });
  const [[welcome]] = await Promise.all([once(client, 'welcome'), once(client, 'connect')]); // it was in the room as of the answer
  assert.equal(welcome, 'late');
  const { id } = client;
  client.emit('plain', 1, { two: [null] });
  assert.deepEqual(await ask(client, 'with "ack"\\', 'é'), 'é');
  const bytes = Buffer.from([0, 128, 255]);
  assert.deepEqual(await ask(client, 'binary', bytes, { deep: [bytes] }, Buffer.alloc(0)), [bytes, { deep: [bytes] }, Buffer.alloc(0)]);
  client.emit('nothing');
  assert.deepEqual(await ask(client, 'members'), [{ id, rooms: [id, 'r', 'late'], data: { user: 'ann' } }]);
  client.disconnect();
  await waitFor(async () => (await all()).length === 7);
  const [connect, ...rest] = await all();
  const hash = hashOf(id);
  const data = { user: 'ann' };
  assert.deepEqual([connect[0], connect[2], Object.keys(connect[1])], ['peal:connect', 'function', ['id', 'handshake', 'hash']]);
  assert.deepEqual([connect[1].id, connect[1].hash, connect[1].handshake.auth, connect[1].handshake.query.q], [id, hash, { token: 't' }, '1']);
  assert.deepEqual(Object.keys(connect[1].handshake).sort(), ['address', 'auth', 'headers', 'issued', 'query', 'secure', 'time', 'url', 'xdomain']);
  assert.deepEqual(rest, [
    ['peal:event', { id, seq: 1, event: 'plain', args: [1, { two: [null] }], data, hash }, 'undefined'],
    ['peal:event', { id, seq: 2, event: 'with "ack"\\', args: ['é'], data, hash }, 'function'],
    ['peal:event', { id, seq: 3, event: 'binary', args: [bytes, { deep: [bytes] }, Buffer.alloc(0)], data, hash }, 'function'],
    ['peal:event', { id, seq: 4, event: 'nothing', args: [], data, hash }, 'undefined'],
    ['peal:event', { id, seq: 5, event: 'members', args: [], data, hash }, 'function'],
    ['peal:disconnect', { id, reason: 'client namespace disconnect', data, hash }, 'undefined'],
  ]);
  assert.deepEqual(await results(peal), { accepted: 1, events: 5, acknowledged: 3, ended: 1 });
  assert.equal(node.log(), '');
});

test('the first answer of the right shape decides; others are ignored and counted', async (t) => {
  const { url, peal, node } = await startRaw(t, {
    connect: `async (e, io, reply) => ({ wrong: 'yes', none: { rooms: [] }, text: { ok: 'true' }, list: [true], rooms: { ok: true, rooms: [1] }, long: { ok: true, rooms: ['x'.repeat(256)] },
      many: { ok: true, rooms: Array.from({ length: 65 }, (_, i) => 'r' + i) }, data: { ok: true, data: 'x'.repeat(5000) }, bare: { ok: false },
      message: { ok: false, message: 'é"\\\\', data: { code: [1, null] } } })[e.handshake.auth.want]`,
    event: `(e) => ({ object: { 0: 1 }, text: 'x', nothing: null, buffers: [{ type: 'Buffer', data: [1, 2] }, [{ data: [], type: 'Buffer' }], { type: 'Buffer', data: [256] }, { type: 'Buffer' },
      { type: 'Buffer', data: [1], more: 0 }, '{"type":"Buffer","data":[1]}', { _placeholder: 1 }], eleven: Array.from({ length: 11 }, () => Buffer.from([1])), ten: Array.from({ length: 10 }, () => Buffer.from([7])) })[e.event]`,
    options: {},
  });
  const refused = (want) => ioClient(t, url, { auth: { want } }).then(() => assert.fail(`${want} was let in`), (e) => [e.message, e.data]);
  for (const want of ['wrong', 'none', 'text', 'list']) assert.deepEqual(await refused(want), ['no back end answered', undefined], want);
  for (const want of ['rooms', 'long', 'many', 'data']) assert.match((await refused(want))[0], /too large/, want);
  assert.deepEqual(await refused('bare'), ['refused', undefined]);
  assert.deepEqual(await refused('message'), ['é"\\', { code: [1, null] }]);
  await node.run(({ state }) => void (state.connect = () => ({ ok: true })));
  const client = await ioClient(t, url);
  const silent = ['object', 'text', 'nothing', 'eleven'].map((event) => ask(client, event).then(() => assert.fail(`${event} was acknowledged`), () => {}));
  assert.deepEqual(await ask(client, 'buffers'), [Buffer.from([1, 2]), [Buffer.alloc(0)], { type: 'Buffer', data: [256] }, { type: 'Buffer' }, { type: 'Buffer', data: [1], more: 0 },
    '{"type":"Buffer","data":[1]}', { _placeholder: 1 }]);
  assert.deepEqual(await ask(client, 'ten'), Array.from({ length: 10 }, () => Buffer.from([7])));
  await Promise.all(silent);
  const counted = await results(peal);
  assert.deepEqual([counted.bad_answer, counted.refused, counted.no_answer, counted.unacknowledged, counted.acknowledged], [8, 6, 4, 4, 2]);
});

test('peal:disconnect follows each peal:connect: refused, timed out, gone while it waited, accepted too late', async (t) => {
  const { url, peal, node, all } = await startRaw(t, {
    connect: `(e) => { const { want } = e.handshake.auth; return want === 'no' ? { ok: false, message: 'no' } : new Promise((answer) => setTimeout(answer, want, { ok: true })); }`,
    options: { 'namespace:/:forward_timeout': '300ms' },
  });
  const ends = async () => (await all()).filter(([event]) => event === 'peal:disconnect').map(([, e]) => e);
  const idOf = async (want) => (await all()).find(([event, e]) => event === 'peal:connect' && e.handshake.auth.want === want)?.[1].id;
  await assert.rejects(ioClient(t, url, { auth: { want: 'no' } }), /^Error: no$/);
  await waitFor(async () => (await ends()).length === 1);
  assert.deepEqual(await ends(), [{ id: await idOf('no'), reason: 'refused', data: {}, hash: hashOf(await idOf('no')) }]);
  await assert.rejects(ioClient(t, url, { auth: { want: 1000 } }), /no back end answered/);
  await waitFor(async () => (await ends()).length === 2); // at once
  await waitFor(async () => (await ends()).length === 3); // and when it was accepted after all
  assert.deepEqual((await ends()).slice(1).map(({ id, reason }) => [id, reason]), Array(2).fill([await idOf(1000), 'timeout']));
  const leaver = await ioClient(t, url, { auth: { want: 200 }, connected: false });
  await waitFor(() => idOf(200));
  leaver.disconnect();
  await waitFor(async () => (await ends()).length === 5);
  assert.deepEqual((await ends()).slice(3).map(({ id, reason }) => [id, reason]), Array(2).fill([await idOf(200), 'transport close']));
  assert.equal((await peal.metrics()).sum('peal_sockets'), 0);
  assert.deepEqual(await results(peal), { refused: 1, no_answer: 1, late: 2, ended: 5 });
  assert.equal(node.log(), '');
});

test('peal:data changes what comes with events and what fetchSockets shows', async (t) => {
  const { url, peal, node } = await startRaw(t, { event: '(e) => [e.data]' });
  const [client, other] = [await ioClient(t, url), await ioClient(t, url)];
  assert.deepEqual(await ask(client, 'data'), {});
  const set = (id, data) => node.run(({ io }, e) => void io.serverSideEmit('peal:data', e), { id, data });
  await set(client.id, { n: [1], t: 'é' });
  await waitFor(async () => (await ask(client, 'data')).n);
  assert.deepEqual(await ask(client, 'data'), { n: [1], t: 'é' });
  assert.deepEqual(await ask(other, 'data'), {});
  assert.deepEqual(await node.run(({ io }, id) => io.in(id).fetchSockets().then(([s]) => s.data), client.id), { n: [1], t: 'é' });
  await set(client.id, 'x'.repeat(5000));
  await set('no such socket', {});
  await node.run(({ io }) => void io.serverSideEmit('peal:data', 'nonsense'));
  await waitFor(async () => (await results(peal)).bad_data === 1);
  assert.deepEqual(await ask(client, 'data'), { n: [1], t: 'é' });
});

// ---- Failures ----

test('Redis away: events with an acknowledgement are told so, nobody is let in; ends are told when it is back', async (t) => {
  const { redis, url, peal, node, all } = await startRaw(t);
  const [client, leaver] = [await ioClient(t, url), await ioClient(t, url)];
  await redis.stop('SIGKILL');
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 0);
  assert.deepEqual(await ask(client, 'x'), { ok: false, error: 'back end unreachable' });
  client.emit('without');
  await assert.rejects(ioClient(t, url), /no back end answered/);
  const { id } = leaver;
  leaver.disconnect();
  await redis.restart();
  await waitFor(async () => (await all()).some(([event, e]) => event === 'peal:disconnect' && e.id === id), { timeout: 15000 });
  await waitFor(async () => (await ask(client, 'x', 1)) === 1, { timeout: 15000 });
  const events = (await all()).filter(([event]) => event === 'peal:event');
  assert.ok(events[0][1].seq > 2, 'the lost ones are missing in the sequence');
  assert.ok((await results(peal)).unreachable >= 3);
});

test('all Node servers killed: clients are refused, none is let in; a new one serves those that are there', async (t) => {
  const { redis, nodes, url, control, peal } = await startForward(t, { options: { 'namespace:/:forward_timeout': '500ms' } });
  const before = await person(t, url, 'ann');
  await Promise.all(nodes.map((node) => node.stop('SIGKILL')));
  const tries = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => person(t, url, `n${i}`)));
  for (const { status, reason } of tries) assert.deepEqual([status, reason?.message], ['rejected', 'no back end answered']);
  assert.equal((await peal.metrics()).get('peal_sockets', { namespace: '/' }), 1);
  await startServers(t, redis, 1);
  await subscribed(control, '/', 2);
  const answers = Promise.all([ask(before, 'enter', 'r'), ask(before, 'several'), ask(before, 'message', 'r', 'late')]);
  assert.deepEqual(await answers, [{ ok: true }, [1, 'two', { three: [null, true] }], { ok: true }]);
  const [got] = [await person(t, url, 'bob')].map((bob) => once(bob, 'private'));
  before.emit('private', 'bob', 'hello');
  assert.deepEqual(await got, ['ann', 'hello']);
});

test('Node servers that do not answer: refused after forward_timeout, and events stay without acknowledgement', async (t) => {
  const { nodes, url, peal } = await startForward(t, { servers: 1, options: { 'namespace:/:forward_timeout': '500ms' } });
  const client = await person(t, url, 'ann');
  process.kill(nodes[0].pid, 'SIGSTOP');
  await assert.rejects(person(t, url, 'bob'), /no back end answered/);
  client.emit('several', () => {});
  await waitFor(async () => (await results(peal)).unacknowledged === 1);
  process.kill(nodes[0].pid, 'SIGCONT');
  assert.deepEqual(await ask(client, 'several'), [1, 'two', { three: [null, true] }]);
});

const bridgeOf = async (peal) => (await peal.api('workers')).bridge.pid;
const idsOf = (list) => list.map(({ id }) => id).sort();

for (const recovery of ['0', '1m']) {
  test(`kill -9 of a worker: the ends of its clients are told, of no others (recovery = ${recovery})`, async (t) => {
    const { url, peal, nodes } = await startForward(t, { options: { recovery } });
    const clients = await ioClients(t, url, 40, { auth: auth('ann') });
    const mark = async (node) => (await heard(node, 'peal:disconnect')).map(({ id, reason, data, hash }) => ({ id, reason, data, hash }));
    const [killed] = workersOf(peal);
    const ids = clients.map(({ id }) => id);
    process.kill(killed.pid, 'SIGKILL');
    await waitFor(() => clients.filter(({ connected }) => connected).length < 40);
    await waitFor(async () => (await mark(nodes[0])).length === clients.filter(({ connected }) => !connected).length);
    const ends = await mark(nodes[0]);
    const lost = ids.filter((_, i) => !clients[i].connected);
    assert.ok(lost.length > 5 && lost.length < 35, `${lost.length} were on it`);
    assert.deepEqual(idsOf(ends), lost.sort());
    for (const { id, reason, data, hash } of ends) assert.deepEqual([reason, data, hash], ['worker died', {}, hashOf(id)]);
    const again = await ioClients(t, url, 40, { auth: auth('bob') }); // the successor's part of the table is whole
    await Promise.all([...again, ...clients.filter((c) => c.connected)].map((c) => ask(c, 'several')));
    assert.equal((await mark(nodes[0])).length, lost.length);
    assert.equal((await results(peal)).ended, lost.length);
  });
}

test('kill -9 of a worker while Redis is away, and of the bridge: the ends are told when it is back', async (t) => {
  const { redis, url, peal, nodes } = await startForward(t, { workers: 1 });
  const clients = await ioClients(t, url, 10, { auth: auth('ann') });
  const ids = clients.map(({ id }) => id).sort();
  await redis.stop('SIGKILL');
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 0);
  process.kill(workersOf(peal)[0].pid, 'SIGKILL');
  await peal.waitEvent('worker_died');
  await waitFor(() => clients.every((client) => !client.connected));
  process.kill(await bridgeOf(peal), 'SIGKILL');
  await peal.waitEvent('bridge_died');
  await redis.restart();
  await waitFor(async () => (await heard(nodes[0], 'peal:disconnect')).length >= 10, { timeout: 20000 });
  assert.deepEqual(idsOf(await heard(nodes[0], 'peal:disconnect')), ids);
  await person(t, url, 'bob');
});

test('a client that comes back after a lost connection is told to the servers again, and keeps its rooms', async (t) => {
  const { url, nodes, peal } = await startForward(t, { options: { recovery: '1m' } });
  const client = await person(t, url, 'ann', { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
  await ask(client, 'enter', 'r');
  const { id } = client;
  client.io.engine.close();
  await waitFor(() => client.connected && client.recovered && client.id === id);
  await waitFor(async () => (await heard(nodes[0], 'peal:connect')).length === 2);
  assert.deepEqual((await heard(nodes[0], 'peal:connect')).map((e) => [e.id, e.recovered]), [[id, undefined], [id, true]]);
  assert.deepEqual(await ask(client, 'several'), [1, 'two', { three: [null, true] }]);
  assert.deepEqual((await heard(nodes[0], 'peal:disconnect')).map((e) => e.id), [id]);
  assert.deepEqual(await results(peal), { accepted: 2, events: 2, acknowledged: 2, ended: 1 });
});

for (const [how, options, signal] of [['drained', {}, 'SIGTERM'], ['in a hurry', { drain_rate: 1, drain_timeout: '100ms' }, 'SIGTERM']]) {
  test(`a host that stops, ${how}, tells the ends of its clients`, async (t) => {
    const { url, peal, nodes } = await startForward(t, { options });
    const clients = await ioClients(t, url, 20, { auth: auth('ann') });
    const ids = clients.map(({ id }) => id).sort();
    await peal.stop(signal);
    await waitFor(async () => (await heard(nodes[0], 'peal:disconnect')).length === 20);
    assert.deepEqual(idsOf(await heard(nodes[0], 'peal:disconnect')), ids);
  });
}

test('app = forward without redis is refused at start', async (t) => {
  const peal = await startPeal(t, { config: FORWARD, ready: false });
  assert.equal((await within(peal.exited, 'its end')).code, 2);
  assert.match(peal.log(), /app = forward: namespace "\/": app = forward needs redis, and it is not set/);
});

// ---- Load ----

const full = process.env.PEAL_FULL === '1';

// `n` clients, each with `each` events: `chunk` bytes of text more in each.
async function everythingStored(t, { n, each, chunk = 0, options = {}, timeout = 60000 }) {
  // what is measured is whether everything comes, not how soon
  const { url, stored, peal } = await startForward(t, { options: { 'namespace:/:forward_timeout': '40s', ...options } });
  const clients = [];
  for (let i = 0; i < n; i += 50) clients.push(...(await Promise.all(Array.from({ length: Math.min(50, n - i) }, (_, k) => person(t, url, `u${i + k}`)))));
  const began = performance.now();
  const more = 'x'.repeat(chunk);
  const answers = clients.flatMap((client) => Array.from({ length: each }, (_, i) => new Promise((done) => client.emit('message', 'r', `${i}${more}`, done))));
  let n_answered = 0;
  for (const answer of answers) answer.then(() => n_answered++);
  await waitFor(() => n_answered === answers.length, { timeout, what: () => `${answers.length} acknowledgements; there are ${n_answered}` }).catch(async (error) => {
    assert.fail(`${error.message}; ${JSON.stringify(await results(peal))}, ${(await stored()).length} stored`);
  });
  const all = await Promise.all(answers);
  const seconds = (performance.now() - began) / 1000;
  assert.ok(all.every(({ ok }) => ok === true));
  const kept = await stored();
  assert.equal(kept.length, n * each);
  const by = new Map();
  for (const { user, text } of kept) by.set(user, [...(by.get(user) ?? []), Number.parseInt(text, 10)]);
  assert.equal(by.size, n);
  for (const [user, list] of by) assert.deepEqual(list, Array.from({ length: each }, (_, i) => i), user);
  t.diagnostic(`${n * each} events in ${seconds.toFixed(2)} s: ${Math.round((n * each) / seconds)} a second`);
  return peal;
}

test('messages are stored exactly once, and each client\'s in order', { timeout: 240000 }, async (t) => {
  await everythingStored(t, { n: full ? 1000 : 100, each: 20 });
});

test('a ring that is full holds clients back and loses nothing', { timeout: 120000 }, async (t) => {
  const small = { ring_bytes: '1M', event_bytes_max: '128K', max_message_bytes: '128K', outq_bytes_max: '4M' };
  await everythingStored(t, { n: 20, each: 50, chunk: 10000, options: small });
});
