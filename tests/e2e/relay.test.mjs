// relay.test.mjs: `app = relay` with the real socket.io-client: policies, refusals, and that what is relayed is what was sent. @test parallel
import assert from 'node:assert/strict';
import { ask, collect, ioClient, ioClients, once, recordPublishes, redisClient, startPeal, startRedis, test, waitFor } from './lib/index.mjs';
import { OPEN_RELAY, engine } from './lib/engine.mjs';

const OK = { ok: true };
const refused = (answer, why) => {
  assert.equal(answer.ok, false, JSON.stringify(answer));
  assert.match(answer.error, why);
};

const POLICIES = `
[namespace "/"]
[namespace "/closed"]
app = relay
[namespace "/joiners"]
app = relay
client_join = yes
[namespace "/joined"]
app = relay
client_join = yes
client_publish = joined
max_rooms_per_socket = 3
[namespace "/any"]
app = relay
client_publish = any
[namespace "/team-*"]
app = relay
client_join = yes
client_publish = joined
`;

test('each policy lets in what it says, and nothing else', async (t) => {
  const peal = await startPeal(t, { config: POLICIES });
  const at = (namespace) => ioClient(t, peal.url, { namespace });

  const closed = await at('/closed');
  refused(await ask(closed, 'join', 'r'), /client_join = no/);
  refused(await ask(closed, 'publish', 'r', 'x'), /client_publish = none/);

  const joiners = await at('/joiners');
  assert.deepEqual(await ask(joiners, 'join', 'r'), OK);
  refused(await ask(joiners, 'publish', 'r', 'x'), /client_publish = none/);

  const [one, two] = [await at('/joined'), await at('/joined')];
  const [got] = collect([two], 'x');
  refused(await ask(one, 'publish', 'r', 'x'), /not in the room/);
  assert.deepEqual(await ask(two, 'join', 'r'), OK);
  refused(await ask(one, 'publish', 'r', 'x'), /not in the room/);
  assert.deepEqual(await ask(one, 'join', 'r'), OK);
  refused(await ask(one, 'publish', ['r', 'other'], 'x'), /not in the room/);
  assert.deepEqual(await ask(one, 'publish', 'r', 'x', 1), OK);
  assert.deepEqual(await ask(one, 'leave', 'r'), OK);
  refused(await ask(one, 'publish', 'r', 'x', 2), /not in the room/);
  await waitFor(() => got.length === 1);

  const any = await at('/any');
  refused(await ask(any, 'join', 'r'), /client_join = no/);
  assert.deepEqual(await ask(any, 'publish', 'r', 'x', 3), OK);
  assert.deepEqual(await ask(any, 'publish', ['nobody', 'here'], 'x'), OK);

  // the same room name in another namespace is another room
  const [a, b] = [await at('/team-a'), await at('/team-b')];
  const [inB] = collect([b], 'x');
  await ask(a, 'join', 'r');
  await ask(b, 'join', 'r');
  assert.deepEqual(await ask(a, 'publish', 'r', 'x', 4), OK);
  const c = await at('/team-b');
  await ask(c, 'join', 'r');
  assert.deepEqual(await ask(c, 'publish', 'r', 'x', 5), OK);
  await waitFor(() => inB.length > 0);
  assert.deepEqual(inB, [[5]]);
  assert.deepEqual(got, [[1]]);
  await assert.rejects(at('/team'), /Invalid namespace/);
  await assert.rejects(at('/nope'), /Invalid namespace/);
});

test('with client_join = no a client cannot leave a room either', async (t) => {
  const peal = await startPeal(t, { config: POLICIES });
  refused(await ask(await ioClient(t, peal.url, { namespace: '/closed' }), 'leave', 'r'), /client_join = no/);
});

test('what no policy allows is refused, with the reason', async (t) => {
  const peal = await startPeal(t, { config: OPEN_RELAY });
  const [one, victim] = await ioClients(t, peal.url, 2);
  for (const room of [victim.id, one.id, [victim.id], ['fine', victim.id], 'AAAAAAAAAAAAAAAAAAAA']) {
    for (const event of ['join', 'leave']) refused(await ask(one, event, room), /socket id/);
    refused(await ask(one, 'publish', room, 'x'), /socket id/);
  }
  for (const event of ['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']) {
    refused(await ask(one, 'publish', 'r', event, 1), /reserved/);
  }
  for (const event of [1, null, true, {}, [], ['x'], 1e400]) refused(await ask(one, 'publish', 'r', event), /event must be a string/);
  for (const room of [1, null, true, {}, [1], [['r']], ['r', null]]) refused(await ask(one, 'join', room), /room must be a string/);
  refused(await ask(one, 'join'), /no room/);
  refused(await ask(one, 'join', []), /no room/);
  refused(await ask(one, 'publish', [], 'x'), /no room/);
  refused(await ask(one, 'publish', 'r'), /no event/);
  refused(await ask(one, 'publish'), /no room/);
  // escapes do not get around it
  const raw = await engine(t, peal);
  await raw.join();
  raw.say('21["publish","r","\\u0064isconnect"]');
  assert.match(await raw.hear(), /reserved/);
  raw.say(`22["join","\\u00${victim.id.charCodeAt(0).toString(16)}${victim.id.slice(1)}"]`);
  assert.match(await raw.hear(), /socket id/);
  assert.equal(victim.connected, true);
});

test('names of 255 bytes are fine, of 256 are not, counted in UTF-8', async (t) => {
  const peal = await startPeal(t, { config: OPEN_RELAY });
  const [one, two] = await ioClients(t, peal.url, 2);
  for (const longest of ['r'.repeat(255), `${'é'.repeat(127)}r`, `${'😀'.repeat(63)}abc`, '']) {
    assert.equal(longest === '' || Buffer.byteLength(longest) === 255, true);
    assert.deepEqual(await ask(two, 'join', longest), OK);
    const arrived = once(two, longest || 'empty');
    assert.deepEqual(await ask(one, 'publish', longest, longest || 'empty', 'v'), OK);
    assert.deepEqual(await arrived, ['v']);
  }
  for (const long of ['r'.repeat(256), 'é'.repeat(128), '😀'.repeat(64), 'r'.repeat(100000)]) {
    refused(await ask(one, 'join', long), /over 255 bytes/);
    refused(await ask(one, 'publish', long, 'x'), /over 255 bytes/);
    refused(await ask(one, 'publish', 'r', long), /event name over 255 bytes/);
  }
});

test('max_rooms_per_socket bounds the rooms of a socket, in one call or in many', async (t) => {
  const peal = await startPeal(t, { config: POLICIES });
  const one = await ioClient(t, peal.url, { namespace: '/joined' });
  refused(await ask(one, 'join', ['a', 'b', 'c', 'd']), /max_rooms_per_socket/);
  assert.deepEqual(await ask(one, 'join', ['a', 'b']), OK);
  refused(await ask(one, 'join', ['c', 'd']), /max_rooms_per_socket/);
  assert.deepEqual(await ask(one, 'join', 'c'), OK);
  assert.deepEqual(await ask(one, 'join', ['a', 'b', 'c']), OK, 'those it is in already cost nothing');
  refused(await ask(one, 'join', 'd'), /max_rooms_per_socket/);
  assert.deepEqual(await ask(one, 'leave', ['a', 'never joined']), OK);
  assert.deepEqual(await ask(one, 'join', 'd'), OK);
  const full = await startPeal(t, { options: { workers: 1 }, config: '[namespace "/"]\napp = relay\nclient_join = yes\nclient_publish = joined\n' });
  const many = await ioClient(t, full.url);
  const rooms = Array.from({ length: 64 }, (_, i) => `room ${i}`);
  assert.deepEqual(await ask(many, 'join', rooms), OK);
  refused(await ask(many, 'join', 'one more'), /max_rooms_per_socket/);
  const reader = await ioClient(t, full.url);
  await ask(reader, 'join', rooms.slice(60));
  const got = collect([reader], 'x')[0];
  assert.deepEqual(await ask(many, 'publish', rooms, 'x'), OK);
  await ask(many, 'publish', 'room 60', 'end');
  await ask(reader, 'leave', 'room 1');
  assert.equal(got.length, 1, 'a member of several of the rooms gets it once');
});

test('events that the relay does not know are ignored in silence, and so are acknowledgements to them', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 }, config: OPEN_RELAY });
  const [one, two] = await ioClients(t, peal.url, 2);
  let acknowledged = 0;
  const heard = [];
  two.onAny((...args) => heard.push(args));
  for (const event of ['message', 'error', 'connection', 'Join', 'stats', 'x'.repeat(1000)]) one.emit(event, 'r', () => acknowledged++);
  one.emit('with binary', Buffer.from('abc'), () => acknowledged++);
  assert.deepEqual(await ask(one, 'join', 'r'), OK);
  assert.deepEqual([acknowledged, heard, one.connected, two.connected], [0, [], true, true]);
  const nothing = await startPeal(t, { options: { workers: 1 } });
  const raw = await engine(t, nothing);
  await raw.join();
  raw.say('25["join","r"]');
  raw.say('26["publish","r","x"]');
  assert.deepEqual(await raw.fence(), [], 'without a relay, `join` is such an event too');
});

test('text, emoji, binary and nested values arrive as they were sent, on every worker, and not at the sender', async (t) => {
  const peal = await startPeal(t, { options: { workers: 3 }, config: OPEN_RELAY });
  const clients = await ioClients(t, peal.url, 6);
  const got = collect(clients, 'things');
  for (const client of clients) await ask(client, 'join', 'r');
  const sets = [
    [],
    ['plain', '😀 ü \u2028 \u0000 "\\/', -1.5, 1e21, true, null, { a: [1, { b: {} }], é: 'ß' }],
    [Buffer.from([0, 1, 2, 255])],
    [{ deep: [{ er: Buffer.alloc(70000, 9) }], text: 'x' }, Buffer.alloc(0), 'between', new Uint8Array([5, 6])],
    Array.from({ length: 10 }, (_, i) => Buffer.from(`part ${i}`)),
    ['x'.repeat(500000)],
  ];
  for (const [i, set] of sets.entries()) {
    const sender = clients[i];
    assert.deepEqual(await ask(sender, 'publish', 'r', 'things', ...set), OK);
    const others = got.filter((_, at) => at !== i);
    const expected = set.map((value) => (value instanceof Uint8Array ? Buffer.from(value) : value));
    await waitFor(() => others.every((list) => list.length > 0), { what: `set ${i}` });
    for (const list of others) assert.deepEqual(list.shift(), expected);
    assert.deepEqual(got[i], []);
  }
  // a publish without an acknowledgement is one too
  clients[0].emit('publish', ['r', 'q'], 'things', 'silent');
  await waitFor(() => got.slice(1).every((list) => list.length === 1));
  // an event sent by a client who has left is not missed, who joined after it does not get it
  await ask(clients[5], 'leave', 'r');
  assert.deepEqual(await ask(clients[0], 'publish', 'r', 'things', 'without five'), OK);
  await ask(clients[5], 'join', 'r');
  assert.deepEqual(await ask(clients[0], 'publish', 'r', 'things', 'with five'), OK);
  await waitFor(() => got[5].length === 2);
  assert.deepEqual(got[5], [['silent'], ['with five']]);
});

test('join and publish in one breath: the order of one client’s packets is their order', async (t) => {
  const peal = await startPeal(t, { config: OPEN_RELAY });
  const raw = await engine(t, peal);
  const other = await engine(t, peal);
  await raw.join('/dyn-x');
  await other.join('/dyn-x');
  for (let i = 0; i < 50; i++) {
    for (const ws of [other, raw]) ws.write(Buffer.concat([`42/dyn-x,1["join","r${i}"]`, `42/dyn-x,2["publish","r${i}","x",${i}]`, `42/dyn-x,3["leave","r${i}"]`].map((text) => frameOf(text))));
    // what the other publishes may come in between, while both are in the room
    const answers = [];
    while (answers.length < 3) {
      const heard = await raw.hear();
      if (heard[0] === '3') answers.push(heard);
      else assert.equal(heard, `2/dyn-x,["x",${i}]`);
    }
    assert.deepEqual(answers, [1, 2, 3].map((id) => `3/dyn-x,${id}[{"ok":true}]`));
    for (let n = 0; n < 3; ) if ((await other.hear())[0] === '3') n++;
  }
});

function frameOf(text) {
  const body = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]);
}

test('several namespaces share one connection, each with its own auth, rooms and end', async (t) => {
  const peal = await startPeal(t, { config: OPEN_RELAY });
  const root = await ioClient(t, peal.url, { auth: { token: 'a' } });
  const manager = root.io;
  const chat = manager.socket('/chat', { auth: (give) => give({ token: 'ü😀', n: [1] }) });
  const dyn = manager.socket('/dyn-42');
  await Promise.all([once(chat, 'connect'), once(dyn, 'connect')]);
  assert.equal(new Set([root.id, chat.id, dyn.id]).size, 3);
  assert.deepEqual(await ask(dyn, 'join', 'r'), OK);
  assert.deepEqual(await ask(root, 'join', 'r'), OK);
  chat.disconnect();
  assert.deepEqual(await ask(root, 'publish', 'r', 'x'), OK);
  chat.connect();
  await once(chat, 'connect');
  assert.equal(manager._readyState, 'open');
  dyn.disconnect();
  assert.deepEqual(await ask(root, 'leave', 'r'), OK);
});

test('an acknowledged publish reaches a member who is on another worker before a later one of its sender', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, config: OPEN_RELAY });
  const [one, two] = await ioClients(t, peal.url, 2);
  const got = collect([two], 'n')[0];
  await ask(two, 'join', 'r');
  for (let i = 0; i < 200; i++) one.emit('publish', 'r', 'n', i);
  assert.deepEqual(await ask(one, 'publish', 'r', 'n', 200), OK);
  await waitFor(() => got.length === 201);
  assert.deepEqual(got.map(([n]) => n), Array.from({ length: 201 }, (_, i) => i));
});

test('with the default configuration and Redis set no client causes a PUBLISH, nor reaches a room', async (t) => {
  const redis = await startRedis(t);
  const published = await recordPublishes(t, redis, '*');
  const peal = await startPeal(t, { options: { workers: 2, redis: redis.url } });
  const raw = await engine(t, peal);
  const victim = await ioClient(t, peal.url);
  await raw.join();
  const before = published.messages.length;
  for (const packet of ['21["join","r"]', '22["publish","r","x"]', `23["publish","${victim.id}","x"]`, '2["leave","r"]', '2["message","x"]', '2["disconnect-me"]',
    '51-["x",{"_placeholder":true,"num":0}]']) raw.say(packet);
  raw.send(2, 'abc');
  assert.deepEqual(await raw.fence(), []);
  raw.say('1');
  assert.deepEqual(await raw.fence(), []);
  // publishing it ourselves shows that the recorder would have heard it
  const client = await redisClient(t, redis);
  await client.publish('end', 'end');
  await published.waitFor(({ channel }) => channel === 'end');
  const own = published.messages.slice(before).filter(({ channel }) => channel !== 'end');
  assert.deepEqual(own.map(({ channel }) => channel), []);
  assert.equal(victim.connected, true);
});
