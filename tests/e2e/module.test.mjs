// module.test.mjs: app = module:PATH, with the real socket.io-client: the two examples, each part of app.h, what is refused, and modules that do not load.
// @test parallel timeout=240
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ask, collect, ioClient, ioClients, once, parseLogLine, pealBinary, startPeal, temporaryFolder, test, waitFor, within } from './lib/index.mjs';
import { engine, workersOf } from './lib/engine.mjs';

const modules = join(dirname(pealBinary), 'modules');
const module_ = (name) => `module:${join(modules, name)}.so`;
const serving = (name, namespaces = ['/'], more = '') =>
  `${namespaces.map((nsp) => `[namespace "${nsp}"]\napp = ${module_(name)}\n`).join('')}${more}`;
const start = (t, name, { workers = 1, namespaces, more, options = {}, ...rest } = {}) =>
  startPeal(t, { config: serving(name, namespaces, more), options: { workers, ...options }, ...rest });
const apps = (peal, app) => peal.events('app').filter((e) => e.app === app).map((e) => e.text);

// A client whose first `event` after the connect is not missed.
async function greeted(t, peal, event, options) {
  const socket = await ioClient(t, peal.url, { ...options, connected: false });
  const [args] = await Promise.all([once(socket, event), once(socket, 'connect')]);
  return [socket, args];
}

// Clients until each worker has one. Gives them by worker.
async function onEachWorker(t, peal, options) {
  const by = new Map();
  for (let i = 0; by.size < peal.workers && i < 200; i++) {
    const [socket, [hello]] = await greeted(t, peal, 'hello', options);
    if (by.has(hello.worker)) socket.disconnect();
    else by.set(hello.worker, socket);
  }
  assert.equal(by.size, peal.workers);
  return [...by].sort(([a], [b]) => a - b).map(([, socket]) => socket);
}

// ---- The examples ----

for (const workers of [1, 4]) {
  for (const transports of [['websocket'], ['polling']]) {
    test(`conformance with ${workers} workers over ${transports}`, async (t) => {
      const peal = await start(t, 'conformance', { workers, namespaces: ['/', '/custom'] });
      for (const namespace of ['/', '/custom']) {
        const [plain, none] = await greeted(t, peal, 'auth', { namespace, transports });
        assert.deepEqual(none, [{}]);
        const [socket, auth] = await greeted(t, peal, 'auth', { namespace, transports, auth: { token: 'abc' } });
        assert.deepEqual(auth, [{ token: 'abc' }]);
        const binary = Buffer.from([0, 1, 255]);
        for (const args of [[], [1, '2', { 3: [true] }], [binary, { a: [binary] }, null], ['é "\\\n', -0.5, Buffer.alloc(0)]]) {
          const back = once(socket, 'message-back');
          socket.emit('message', ...args);
          assert.deepEqual(await back, args);
          assert.deepEqual([await ask(socket, 'message-with-ack', ...args)].flat(args.length === 1 ? 0 : 1), args);
        }
        const [got] = collect([plain], 'news');
        assert.deepEqual(await ask(plain, 'join', 'r'), []);
        assert.deepEqual(await ask(socket, 'join', 'r'), []);
        const mine = once(socket, 'news');
        socket.emit('to', 'r', 'news', { n: 1 }, binary);
        assert.deepEqual(await mine, [{ n: 1 }, binary]); // the sender included
        await waitFor(() => got.length === 1);
        assert.deepEqual(got[0], [{ n: 1 }, binary]);
        assert.deepEqual(await ask(plain, 'leave', 'r'), []);
        const again = once(socket, 'news');
        socket.emit('to', 'r', 'news', 2);
        assert.deepEqual(await again, [2]);
        assert.equal(got.length, 1);
      }
    });
  }

  test(`chat with ${workers} workers: rooms, the last messages, typing, presence`, async (t) => {
    const peal = await start(t, 'chat', { workers });
    await assert.rejects(ioClient(t, peal.url), (e) => e.message === 'a name is needed' && e.data.field === 'name');
    await assert.rejects(ioClient(t, peal.url, { auth: { name: 'n'.repeat(33) } }), /a name is needed/);
    const person = (name) => ioClient(t, peal.url, { auth: { name } });
    const [ann, bob, cy] = [await person('ann'), await person('b"o\\b'), await person('cy')];
    const [entered, left] = [collect([ann], 'entered')[0], collect([ann], 'left')[0]];
    assert.deepEqual(await ask(ann, 'enter', 'lobby'), { messages: [], present: [] });
    assert.deepEqual(await ask(bob, 'enter', 'lobby'), { messages: [], present: ['ann'] });
    await waitFor(() => entered.length === 1);
    assert.deepEqual(entered[0], [{ room: 'lobby', name: 'b"o\\b' }]);
    assert.match((await ask(cy, 'say', 'lobby', 'me too')).error, /not in the room/);
    const saids = collect([ann, bob], 'said');
    for (let i = 0; i < 25; i++) assert.deepEqual(await ask(i % 2 ? ann : bob, 'say', 'lobby', `text ${i}`), { ok: true });
    await waitFor(() => saids.every((got) => got.length === 25));
    assert.deepEqual(saids[0], saids[1]);
    const { messages, present } = await ask(cy, 'enter', 'lobby');
    assert.deepEqual(messages.map((m) => m.text), Array.from({ length: 20 }, (_, i) => `text ${i + 5}`));
    assert.deepEqual(messages[0], { room: 'lobby', name: 'ann', text: 'text 5' });
    assert.deepEqual(present.sort(), ['ann', 'b"o\\b']);
    const typing = once(ann, 'typing');
    cy.emit('typing', 'lobby', true);
    assert.deepEqual(await typing, [{ room: 'lobby', name: 'cy', typing: true }]);
    assert.deepEqual(await ask(bob, 'leave', 'lobby'), []);
    await waitFor(() => left.length === 1);
    assert.deepEqual((await ask(ann, 'who', 'lobby')).sort(), ['ann', 'cy']);
    cy.disconnect();
    await waitFor(() => left.length === 2);
    assert.deepEqual(left[1], [{ room: 'lobby', name: 'cy' }]);
    assert.deepEqual(await ask(ann, 'who', 'lobby'), ['ann']);
  });
}

test('a worker of chat that is new has the messages of the others', async (t) => {
  const peal = await start(t, 'chat', { workers: 2 });
  const before = await ioClient(t, peal.url, { auth: { name: 'ann' } });
  await ask(before, 'enter', 'r');
  for (let i = 0; i < 3; i++) await ask(before, 'say', 'r', `${i}`);
  for (const { pid } of workersOf(peal)) {
    // whichever has ann: one is killed, its successor asks the other; then the other one is. A successor that serves nobody yet has
    // perhaps not asked yet: clients are let in until each worker has some
    const gone = workersOf(peal).length;
    process.kill(pid, 'SIGKILL');
    await waitFor(() => workersOf(peal).length === gone && !workersOf(peal).some((w) => w.pid === pid));
    const seen = async () => {
      const clients = await Promise.all(Array.from({ length: 8 }, (_, i) => ioClient(t, peal.url, { auth: { name: `n${i}` } })));
      const lists = await Promise.all(clients.map((c) => ask(c, 'enter', 'r')));
      const m = await peal.metrics();
      const everywhere = [0, 1].every((worker) => m.get('peal_connections', { worker, transport: 'websocket' }) > 0);
      clients.forEach((c) => c.disconnect());
      return everywhere && lists.every(({ messages }) => messages.map((m) => m.text).join() === '0,1,2');
    };
    await waitFor(() => seen().catch(() => false), { timeout: 20000 });
  }
});

test("the README's module builds as it says there, and does what it says", async (t) => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const code = /```c\n(#include <peal\/app\.h>[^]*?)```/.exec(await readFile(join(root, 'README.md'), 'utf8'))[1];
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'hello.c'), code);
  const built = spawnSync('gcc', ['-std=c11', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', `-I${join(root, 'include')}`, '-o', 'hello.so', 'hello.c'], { cwd: folder, encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  const peal = await startPeal(t, { config: `[namespace "/"]\napp = module:${join(folder, 'hello.so')}\n`, options: { workers: 2 } });
  await assert.rejects(ioClient(t, peal.url), (e) => e.message === 'not authorized' && /door/.test(e.data.hint));
  const enter = () => greeted(t, peal, 'welcome', { auth: { token: 'sesame' } });
  const [[one, welcome], [two]] = [await enter(), await enter()];
  assert.deepEqual(welcome, [{ room: 'lobby' }]);
  const [mine, theirs] = collect([one, two], 'said');
  assert.deepEqual(await ask(one, 'say', 'hi', Buffer.from('there')), { ok: true });
  await waitFor(() => theirs.length === 1);
  assert.deepEqual([mine, theirs], [[], [['hi', Buffer.from('there')]]]);
});

// ---- Being let in, leaving ----

test('a client is let in, refused with error and data, let in later, or not answered in time', async (t) => {
  const peal = await start(t, 'exercise', { workers: 2, options: { connect_timeout: '300ms' } });
  const as = (mode) => ioClient(t, peal.url, { auth: { mode } });
  await assert.rejects(as('refuse'), (e) => e.message === 'not "you"' && assert.deepEqual(e.data, { code: 7, list: [1] }) === undefined);
  await assert.rejects(as('refuse-plain'), (e) => e.message === 'no' && e.data === undefined);
  for (const mode of ['timer', 'thread']) assert.deepEqual(await ask(await as(mode), 'rooms'), ['PEAL_OK', ['late', 'comers']]);
  // the session has a namespace: only the application's time is up
  const raw = await engine(t, peal);
  await raw.join('/', { mode: 'plain' });
  assert.match(await raw.hear(), /hello/);
  const never = await ioClient(t, peal.url, { auth: { mode: 'never' }, connected: false });
  const [error] = await Promise.race([once(never, 'connect_error'), once(never, 'disconnect')]);
  assert.ok(error);
});

test('one that waits to be let in is told when its time is up, and answered late it is gone', async (t) => {
  const peal = await start(t, 'exercise', { namespaces: ['/', '/slow'], options: { connect_timeout: '250ms' } });
  const raw = await engine(t, peal);
  await raw.join('/');
  assert.match(await raw.hear(), /hello/);
  raw.say('0/slow,{"mode":"never"}');
  assert.equal(await raw.hear(), '4/slow,{"message":"the application did not answer in time"}');
  raw.say('0/slow,{"mode":"timer"}');
  assert.match(await raw.hear(), /^0\/slow,\{"sid"/);
});

test('connection comes before the first event, however early that is sent', async (t) => {
  const peal = await start(t, 'exercise');
  const raw = await engine(t, peal);
  raw.say('0');
  raw.say('21["rooms"]');
  assert.match(await raw.hear(), /^0\{/);
  assert.match(await raw.hear(), /^2\["hello"/);
  assert.equal(await raw.hear(), '31["PEAL_OK",[]]');
});

test('disconnecting sees the rooms, disconnect does not; nothing can be done to who leaves', async (t) => {
  const peal = await start(t, 'exercise', { workers: 2 });
  const [watcher] = await greeted(t, peal, 'hello');
  await ask(watcher, 'join', 'watch');
  const [first, second] = ['leaving', 'has-left'].map((event) => collect([watcher], event)[0]);
  const leaving = async (socket, leave, reason) => {
    const { id } = socket;
    await ask(socket, 'join', 'a');
    await ask(socket, 'join', 'b');
    await ask(socket, 'data', { n: 1 });
    first.length = second.length = 0;
    await leave(socket);
    await waitFor(() => second.length === 1);
    const refused = ['PEAL_GONE', 'PEAL_GONE', 'PEAL_GONE', 'mine'];
    assert.deepEqual(first, [[id, reason, ['a', 'b'], { n: 1 }, refused]]);
    assert.deepEqual(second, [[id, reason, [], { n: 1 }, refused]]);
  };
  const other = async () => (await greeted(t, peal, 'hello'))[0];
  await leaving(await other(), (s) => s.disconnect(), 'client namespace disconnect');
  await leaving(await other(), (s) => s.io.engine.close(), 'transport close');
  await leaving(await other(), (s) => ask(watcher, 'change', 'disconnect', { rooms: [s.id] }), 'server namespace disconnect');
  await leaving(await other(), (s) => ask(watcher, 'change', 'close', { rooms: [s.id] }), 'server namespace disconnect');
});

test('kicked: from the namespace the connection stays, closed it goes, all its namespaces told', async (t) => {
  const peal = await start(t, 'exercise', { namespaces: ['/', '/two'] });
  const [kicker] = await greeted(t, peal, 'hello');
  const raw = await engine(t, peal);
  const { sid } = await raw.join('/');
  await raw.hear();
  await raw.join('/two');
  await raw.hear();
  assert.deepEqual(await ask(kicker, 'kick', sid, false), ['PEAL_OK', false]);
  assert.equal(await raw.hear(), '1');
  raw.say('2/two,5["rooms"]');
  assert.equal(await raw.hear(), '3/two,5["PEAL_OK",[]]');
  const again = (await raw.join('/')).sid;
  await raw.hear();
  assert.deepEqual(await ask(kicker, 'kick', again, true), ['PEAL_OK', true]);
  assert.deepEqual([await raw.hear(), await raw.hear()].sort(), ['1', '1/two,']);
  assert.equal((await raw.nextFrame()).opcode, 8);
  assert.equal(await ask(kicker, 'kick', again, true).then(([r]) => r), 'PEAL_GONE');
  // oneself, out of one's own event, which lies in a message of several pieces: the handler reads it afterwards
  const ends = once(kicker, 'disconnect');
  kicker.emit('kick', kicker.id, true, 'x'.repeat(100000));
  assert.deepEqual((await ends)[0], 'io server disconnect');
});

// ---- Acknowledgements, requests ----

test('an acknowledgement of one socket: the answer, binary too; silence; gone', async (t) => {
  const peal = await start(t, 'exercise', { workers: 2 });
  const [socket] = await greeted(t, peal, 'hello');
  socket.on('question', (a, b, answer) => answer(b, a));
  socket.on('silence', () => {});
  socket.on('nothing', (answer) => answer());
  assert.deepEqual(await ask(socket, 'ask', 5000, 'question', 1, { x: 2 }), ['PEAL_OK', 1, [{ x: 2 }, 1]]);
  assert.deepEqual(await ask(socket, 'ask', 5000, 'question', Buffer.from('a'), Buffer.from('b')), ['PEAL_OK', 1, [Buffer.from('b'), Buffer.from('a')]]);
  assert.deepEqual(await ask(socket, 'ask', 5000, 'nothing'), ['PEAL_OK', 1, []]);
  assert.deepEqual(await ask(socket, 'ask', 100, 'silence'), ['PEAL_TIMEOUT', 1]);
  assert.deepEqual(await ask(socket, 'ask', 0, 'silence'), 'PEAL_INVALID');
  // many at a time, each with its own answer
  const many = await Promise.all(Array.from({ length: 500 }, (_, i) => ask(socket, 'ask', 5000, 'question', i, `${i}`)));
  many.forEach((answer, i) => assert.deepEqual(answer, ['PEAL_OK', 1, [`${i}`, i]]));
});

test('acknowledgements of a room on all workers: complete, or what came in time', async (t) => {
  const peal = await start(t, 'exercise', { workers: 4 });
  const sockets = await onEachWorker(t, peal);
  for (const [i, socket] of sockets.entries()) {
    await ask(socket, 'join', 'r');
    socket.on('name', (answer) => answer(i));
    if (i > 0) socket.on('some', (answer) => answer(i));
  }
  const [result, asked, ...answers] = await ask(sockets[0], 'ask-room', { rooms: ['r'] }, 5000, 'name');
  assert.deepEqual([result, asked, answers.flat().sort()], ['PEAL_OK', 4, [0, 1, 2, 3]]);
  const [late, of, ...some] = await ask(sockets[1], 'ask-room', { rooms: ['r'] }, 300, 'some');
  assert.deepEqual([late, of, some.flat().sort()], ['PEAL_TIMEOUT', 4, [1, 2, 3]]);
  const excepted = await ask(sockets[0], 'ask-room', { rooms: ['r'], except: [sockets[1].id, sockets[2].id] }, 5000, 'name');
  assert.deepEqual([excepted[0], excepted[1], excepted.slice(2).flat().sort()], ['PEAL_OK', 2, [0, 3]]);
  assert.deepEqual(await ask(sockets[0], 'ask-room', { rooms: ['nobody'] }, 5000, 'name'), ['PEAL_OK', 0]);
});

test('fetchSockets tells id, handshake, rooms and data of all workers; ids; how many', async (t) => {
  const peal = await start(t, 'exercise', { workers: 4 });
  const sockets = await onEachWorker(t, peal, { query: { q: '1' }, auth: { mode: 'x' } });
  for (const [i, socket] of sockets.entries()) {
    await ask(socket, 'join', 'r');
    assert.deepEqual(await ask(socket, 'data', { i, text: 'é"' }), ['PEAL_OK', { i, text: 'é"' }]);
  }
  const [result, , list] = await ask(sockets[0], 'fetch', { rooms: ['r'], except: [sockets[3].id] }, 0);
  assert.equal(result, 'PEAL_OK');
  assert.deepEqual(list.map((s) => s.data.i).sort(), [0, 1, 2]);
  const own = list.find((s) => s.id === sockets[0].id);
  assert.deepEqual(own.rooms.sort(), [sockets[0].id, 'r'].sort());
  assert.deepEqual([own.data.text, own.handshake.query.q, own.handshake.auth], ['é"', '1', { mode: 'x' }]);
  const [, handshake] = await ask(sockets[0], 'handshake');
  assert.deepEqual(handshake, own.handshake);
  assert.equal(handshake.address, '127.0.0.1');
  assert.deepEqual((await ask(sockets[0], 'fetch', { rooms: ['r'] }, 1))[2].sort(), sockets.map((s) => s.id).sort());
  assert.deepEqual(await ask(sockets[0], 'fetch', {}, 2), ['PEAL_OK', 0, [4]]);
  assert.deepEqual(await ask(sockets[0], 'fetch', { rooms: ['nobody'] }, 0), ['PEAL_OK', 0, []]);
  assert.deepEqual(await ask(sockets[0], 'data', null), ['PEAL_OK', {}]);
});

test('a request ends with a worker that dies', async (t) => {
  const peal = await start(t, 'exercise', { workers: 2 });
  const sockets = await onEachWorker(t, peal);
  const pid = workersOf(peal).find((w) => w.slot === 1).pid;
  process.kill(pid, 'SIGSTOP');
  const answer = ask(sockets[0], 'server', false, 'x');
  await ask(sockets[0], 'rooms'); // it has been asked
  process.kill(pid, 'SIGKILL');
  assert.deepEqual(await answer, ['PEAL_GONE', 1]);
});

test('serverSideEmit reaches the others, or all, once each, and gathers their answers', async (t) => {
  const peal = await start(t, 'exercise', { workers: 4 });
  const sockets = await onEachWorker(t, peal);
  const others = await ask(sockets[2], 'server', false, 'a', { b: 1 });
  assert.deepEqual(others.slice(0, 2), ['PEAL_OK', 3]);
  assert.deepEqual(others.slice(2).sort(), [[0, 'a', { b: 1 }], [1, 'a', { b: 1 }], [3, 'a', { b: 1 }]]);
  const all = await ask(sockets[2], 'server', true);
  assert.deepEqual(all.slice(2).sort(), [[0], [1], [2], [3]]);
  const alone = await start(t, 'exercise', { name: 'alone' });
  assert.deepEqual(await ask((await greeted(t, alone, 'hello'))[0], 'server', false, 'x'), ['PEAL_OK', 0]);
});

// ---- Selectors, changes ----

test('emits reach the rooms named without the excepted, each once; all workers', async (t) => {
  const peal = await start(t, 'exercise', { workers: 4 });
  const sockets = await onEachWorker(t, peal);
  const got = collect(sockets, 'e');
  const fence = async () => {
    await ask(sockets[0], 'emit', {}, 'fence');
  };
  for (const [i, socket] of sockets.entries()) for (const room of [`r${i}`, i % 2 ? 'odd' : 'even', 'all']) await ask(socket, 'join', room);
  const fences = collect(sockets, 'fence');
  const emit = async (to, ...args) => {
    assert.equal(await ask(sockets[0], 'emit', to, 'e', ...args), 'PEAL_OK');
    const n = fences[0].length + 1;
    await fence();
    await waitFor(() => fences.every((f) => f.length === n));
    return got.map((g) => g.splice(0).length);
  };
  assert.deepEqual(await emit({}), [1, 1, 1, 1]);
  assert.deepEqual(await emit({ rooms: ['odd'] }), [0, 1, 0, 1]);
  assert.deepEqual(await emit({ rooms: ['odd', 'all', 'r1'] }), [1, 1, 1, 1]);
  assert.deepEqual(await emit({ rooms: ['all'], except: ['odd', 'r0'] }), [0, 0, 1, 0]);
  assert.deepEqual(await emit({ except: [sockets[3].id], local: true }), [1, 1, 1, 0]);
  assert.deepEqual(await emit({ rooms: [sockets[2].id], volatile: true }), [0, 0, 1, 0]);
  assert.equal(await ask(sockets[0], 'change', 'join', { rooms: ['odd'] }, 'new'), 'PEAL_OK');
  assert.deepEqual(await emit({ rooms: ['new'] }), [0, 1, 0, 1]);
  assert.equal(await ask(sockets[0], 'change', 'leave', { rooms: ['r1'] }, 'new'), 'PEAL_OK');
  assert.deepEqual(await emit({ rooms: ['new'] }), [0, 0, 0, 1]);
});

test('joins, leaves and their limit', async (t) => {
  const peal = await start(t, 'exercise', { more: 'max_rooms_per_socket = 2\n' });
  const [socket] = await greeted(t, peal, 'hello');
  for (const room of ['a', 'b', 'b']) assert.equal(await ask(socket, 'join', room), 'PEAL_OK');
  assert.equal(await ask(socket, 'join', 'c'), 'PEAL_LIMIT');
  assert.deepEqual(await ask(socket, 'rooms'), ['PEAL_OK', ['a', 'b']]);
  assert.equal(await ask(socket, 'leave', 'a'), 'PEAL_OK');
  assert.equal(await ask(socket, 'join', 'c'), 'PEAL_OK');
});

// ---- Time, threads, a full ring ----

test('timers, and an answer from another thread', async (t) => {
  const peal = await start(t, 'exercise');
  const [socket] = await greeted(t, peal, 'hello');
  const [ticks] = collect([socket], 'tick');
  assert.equal(await ask(socket, 'tick'), 'PEAL_OK');
  await waitFor(() => ticks.length === 3);
  assert.deepEqual(await Promise.all([1, 2, 3].map((n) => ask(socket, 'later', n))), [2, 4, 6]);
  assert.deepEqual(ticks, [[1], [2], [3]]); // and no more
  // the client leaves before its answer is there
  socket.emit('later', 4, () => {});
  await ask(socket, 'rooms');
  socket.disconnect();
  await waitFor(() => apps(peal, 'exercise').includes('job: PEAL_GONE'));
  await waitFor(() => apps(peal, 'thread').includes('worked'));
});

test('one handler emits more than a turn takes; a ring that is full is told, and the event comes again', async (t) => {
  const peal = await start(t, 'exercise', { workers: 2, options: { ring_bytes: '1M', event_bytes_max: '128K', max_message_bytes: '128K', outq_bytes_max: '16M' } });
  const [one, two] = await onEachWorker(t, peal);
  await ask(two, 'join', 'flooded');
  const [got] = collect([two], 'flood');
  assert.deepEqual(await ask(one, 'flood', 1000, 10), ['PEAL_OK', 1000]);
  await waitFor(() => got.length === 1000);
  assert.deepEqual(got.map(([n]) => n), Array.from({ length: 1000 }, (_, i) => i));
  // nobody is to get what follows: it is the ring that is filled, not a client
  assert.equal(await ask(two, 'leave', 'flooded'), 'PEAL_OK');
  const [result, taken] = await ask(one, 'flood', 1000, 60000);
  assert.equal(result, 'PEAL_FULL');
  assert.ok(taken > 4 && taken < 18, `${taken} of 60 KB in a ring of 1 MB`);
  // a handler that finds it full at its first emit is called again, and every event comes through
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(one, 'flood', 1, 100000)));
  assert.deepEqual(answers, Array.from({ length: 40 }, () => ['PEAL_OK', 1]));
  await ask(two, 'join', 'flooded');
  assert.deepEqual(await ask(one, 'flood', 5, 10), ['PEAL_OK', 5]);
  await waitFor(() => got.length === 1005);
});

test('a handler that takes over 100 ms is logged by name, not too often', async (t) => {
  const peal = await start(t, 'exercise');
  const [socket] = await greeted(t, peal, 'hello');
  for (let i = 0; i < 9; i++) await ask(socket, 'slow', 130);
  await ask(socket, 'slow', 1);
  await ask(socket, 'later', 1); // its lines come behind all those of before
  await waitFor(() => apps(peal, 'exercise').includes('job: PEAL_OK'));
  const slow = peal.events('app_slow');
  assert.equal(slow.length, 6);
  assert.deepEqual([slow[0].app, slow[0].handler, slow[0].name], ['exercise', 'event', 'slow']);
  assert.ok(Number(slow[0].ms) >= 100);
});

test('several namespaces, one instance; several modules beside the relay', async (t) => {
  const peal = await startPeal(t, {
    options: { workers: 1 },
    config: `${serving('exercise', ['/', '/two', '/dyn-*'])}${serving('conformance', ['/conformance'])}[namespace "/relay"]\napp = relay\nclient_join = yes\n`,
  });
  assert.deepEqual(apps(peal, 'exercise'), ['start']);
  for (const namespace of ['/', '/two', '/dyn-1']) {
    const [socket] = await greeted(t, peal, 'hello', { namespace });
    await ask(socket, 'join', 'r');
    assert.deepEqual(await ask(socket, 'fetch', { rooms: ['r'] }, 2), ['PEAL_OK', 0, [1]]);
  }
  assert.deepEqual((await greeted(t, peal, 'auth', { namespace: '/conformance' }))[1], [{}]);
  assert.deepEqual(await ask(await ioClient(t, peal.url, { namespace: '/relay' }), 'join', 'r'), { ok: true });
  await peal.stop();
  await waitFor(() => apps(peal, 'exercise').at(-1) === 'stop');
});

// ---- What is refused ----

test('misuse is refused: stale, foreign, twice, from another thread, after the end', async (t) => {
  const peal = await start(t, 'misuse', { workers: 2 });
  const gone = Array(11).fill('PEAL_GONE').concat(false);
  const socket = await ioClient(t, peal.url);
  const connect = await waitFor(() => apps(peal, 'misuse').find((text) => text.startsWith('connect ')));
  assert.deepEqual(
    JSON.parse(connect.replace('connect ', '')),
    ['PEAL_INVALID', 'PEAL_INVALID', 'PEAL_INVALID', 'PEAL_OK', 'PEAL_INVALID', 'PEAL_INVALID'],
  );
  assert.deepEqual(await ask(socket, 'foreign'), [...gone, ...gone, ...gone, 'PEAL_GONE', 'PEAL_GONE']);
  const threads = await ask(socket, 'thread');
  assert.deepEqual(threads, [...Array(11).fill('PEAL_THREAD'), false, ...Array(8).fill('PEAL_THREAD'), false, 'PEAL_OK']);
  await waitFor(() => peal.events('app_misuse').some((e) => e.function === 'peal_emit' && e.result === 'PEAL_THREAD'));
  await waitFor(() => apps(peal, 'thread').includes('from outside'));
  assert.deepEqual(await ask(socket, 'twice'), ['PEAL_INVALID', 'PEAL_OK']);
  await waitFor(() => apps(peal, 'misuse').includes('second answer: PEAL_GONE'));
  const results = await ask(socket, 'arguments');
  assert.equal(results.pop(), false);
  assert.deepEqual(results, Array(results.length).fill('PEAL_INVALID'));
  for (const event of ['after-disconnect', 'after-close']) {
    const other = await ioClient(t, peal.url);
    const end = once(other, 'disconnect');
    other.emit(event, 'y'.repeat(70000), () => {});
    await end;
    const line = await waitFor(() => apps(peal, 'misuse').find((text) => text.includes(event)));
    assert.ok(line.startsWith(JSON.stringify(['PEAL_OK', ...gone, 'PEAL_GONE'])), line.slice(0, 400));
  }
  // there were as many as workers that have seen one leave
  await waitFor(async () => JSON.stringify(await ask(await ioClient(t, peal.url), 'gone')) === JSON.stringify(gone));
  assert.equal(workersOf(peal).length, 2);
});

test('the bounds hold: timers, data, posts, requests', async (t) => {
  const peal = await start(t, 'misuse', { workers: 4 });
  const socket = await ioClient(t, peal.url);
  const expected = [true, true, true, 'PEAL_OK', 'PEAL_LIMIT', true, 'PEAL_OK', 'PEAL_OK', 'PEAL_FULL', 'PEAL_LIMIT', true];
  assert.deepEqual(await within(new Promise((resolve) => socket.emit('limits', (...values) => resolve(values))), 'limits', 20000), expected);
  await waitFor(async () => (await ask(socket, 'twice')).length === 2); // it goes on
});

// ---- Loading ----

const BAD = [
  ['bad_version', /bad_version\.so: was built for version 1 of peal\/app\.h, this server has version 3/],
  ['bad_symbol', /bad_symbol\.so: exports no `peal_module`/],
  ['bad_name', /bad_name\.so: its name has to be of 1 to 63 visible ASCII characters/],
  ['bad_undefined', /bad_undefined\.so: cannot be loaded: .*undefined symbol: peal_does_not_exist/],
  ['bad_crash', /bad_crash\.so: crashes when it is loaded: Aborted/],
  ['bad_exit', /bad_exit\.so: ends the process when it is loaded \(exit 0\)/],
  ['not_there', /not_there\.so: cannot be read: No such file or directory/],
];

test('a module that does not load is one line with file and reason, exit 2, from check and serve alike', async (t) => {
  const folder = await temporaryFolder(t);
  const run = (...args) => spawnSync(pealBinary, args, { encoding: 'utf8', timeout: 30000, env: { PATH: process.env.PATH } });
  for (const [name, reason] of BAD) {
    const file = join(folder, `${name}.ini`);
    await writeFile(file, serving(name, ['/', '/chat*']));
    for (const args of [['check', '--config', file], ['serve', '--config', file, '--listen=127.0.0.1:0', '--admin_listen=127.0.0.1:0']]) {
      const { status, stderr } = run(...args);
      assert.equal(status, 2, stderr);
      assert.match(stderr, reason);
      assert.match(stderr, /^namespace "\/": app = module:/);
      assert.equal(stderr.trim().split('\n').length, 1, stderr); // once for all namespaces that name it
    }
  }
  const text = join(folder, 'text.so');
  await writeFile(text, 'this is no shared object');
  const { status, stderr } = run('check', '--config', await (async () => {
    const file = join(folder, 'text.ini');
    await writeFile(file, `[namespace "/"]\napp = module:${text}\n`);
    return file;
  })());
  assert.equal(status, 2);
  assert.match(stderr, /text\.so: cannot be loaded: .*(invalid ELF header|file too short)/);
  const good = join(folder, 'good.ini');
  await writeFile(good, `${serving('chat')}${serving('conformance', ['/c'])}`);
  assert.equal(run('check', '--config', good).status, 0);
});

test('a module whose start says no is named in the log, and serves nobody', async (t) => {
  const peal = await start(t, 'exercise', { env: { EXERCISE_NO_START: '1' }, ready: false });
  const line = await waitFor(() => peal.log().split('\n').map(parseLogLine).find((f) => f.event === 'module_refused'));
  assert.deepEqual([line.app, line.reason], ['exercise', 'its start() said no']);
  await peal.stop('SIGTERM', { code: null });
});
