// websocket.test.mjs: plain WebSocket clients: rooms at /ws/ROOM under their policy, and /echo, with the package ws and by hand. @test parallel
import assert from 'node:assert/strict';
import { OP, once, rawConnect, rawWebSocket, readResponse, startPeal, test, upgradeRequest, waitFor, wsClient } from './lib/index.mjs';
import { expectClose, sameWorkers, workersOf } from './lib/engine.mjs';

const PUBLISHERS = { config: '[ws]\nclient_join = yes\nclient_publish = joined\n' };
const texts = (client) => client.messages.map(({ data }) => data.toString());

async function statusOf(t, peal, path) {
  const raw = await rawConnect(t, peal.port);
  raw.write(upgradeRequest(path));
  return readResponse(raw);
}

test('a frame goes to every other member of the first room, on all workers, text as text and binary as binary', async (t) => {
  const peal = await startPeal(t, { options: { workers: 3 }, ...PUBLISHERS });
  const members = await Promise.all(Array.from({ length: 6 }, () => wsClient(t, `${peal.wsUrl}/ws/room`)));
  const apart = await wsClient(t, `${peal.wsUrl}/ws/other`);
  members[0].send('grüße 😀');
  members[0].send(Buffer.from([0, 255, 1]));
  members[0].send('');
  members[0].send('x'.repeat(200000));
  await waitFor(() => members.slice(1).every(({ messages }) => messages.length === 4), { what: 'four messages at five members' });
  for (const { messages } of members.slice(1)) {
    assert.deepEqual(messages.map(({ isBinary }) => isBinary), [false, true, false, false]);
    assert.deepEqual([messages[0].data.toString(), [...messages[1].data], messages[2].data.length, messages[3].data.length], ['grüße 😀', [0, 255, 1], 0, 200000]);
  }
  members[1].send('back');
  await waitFor(() => members[0].messages.length === 1);
  assert.deepEqual(apart.messages, []);
});

test('all senders of a room are heard by all in the same order', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, ...PUBLISHERS });
  const readers = await Promise.all(Array.from({ length: 4 }, () => wsClient(t, `${peal.wsUrl}/ws/r`)));
  const writers = await Promise.all(Array.from({ length: 4 }, () => wsClient(t, `${peal.wsUrl}/ws/r`)));
  for (let i = 0; i < 100; i++) writers.forEach((writer, w) => writer.send(`${w}:${i}`));
  await waitFor(() => readers.every(({ messages }) => messages.length === 400), { timeout: 10000, what: '400 messages at each reader' });
  const order = texts(readers[0]);
  for (const reader of readers) assert.deepEqual(texts(reader), order);
  for (let w = 0; w < 4; w++) assert.deepEqual(order.filter((text) => text.startsWith(`${w}:`)), Array.from({ length: 100 }, (_, i) => `${w}:${i}`));
});

test('room names are percent-decoded, a plus in the path is a plus, and more rooms come in the query', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, ...PUBLISHERS });
  for (const [from, to] of [['/ws/a%20b', '/ws/%61%20b'], ['/ws/a+b', '/ws/a%2Bb'], ['/ws/a/b/c', '/ws/a%2fb%2Fc'], ['/ws/%F0%9F%98%80', '/ws/x?room=%f0%9f%98%80']]) {
    const reader = await wsClient(t, peal.wsUrl + to);
    const sender = await wsClient(t, peal.wsUrl + from);
    sender.send(from);
    await waitFor(() => reader.messages.length === 1, { what: `${from} at ${to}` });
    assert.deepEqual(texts(reader), [from]);
  }
  const sender = await wsClient(t, `${peal.wsUrl}/ws/a%20b`);
  const several = await wsClient(t, `${peal.wsUrl}/ws/first?room=a+b&x=1&room=third`);
  const third = await wsClient(t, `${peal.wsUrl}/ws/third`);
  sender.send('to the second room');
  third.send('to the third');
  await waitFor(() => several.messages.length === 2);
  several.send('only to the first');
  const first = await wsClient(t, `${peal.wsUrl}/ws/first`);
  several.send('after');
  await waitFor(() => first.messages.length === 1);
  assert.deepEqual([texts(first), texts(third), texts(sender)], [['after'], [], []]);
});

test('by default only rooms under public/ are open, and a frame is answered with 1008', async (t) => {
  const peal = await startPeal(t);
  for (const path of ['/ws/room', '/ws/public', '/ws/Public/a', '/ws/publicity/a', '/ws/public/a?room=secret', '/ws/x%2Fpublic/']) {
    const answer = await statusOf(t, peal, path);
    assert.equal(answer.status, 403, path);
    assert.match(answer.body, /public\//);
  }
  await rawWebSocket(t, peal.port, '/ws/%70ublic%2Fnews?room=public/b');
  for (const [opcode, payload] of [[OP.TEXT, 'hello'], [OP.BINARY, 'x'], [OP.TEXT, '']]) {
    const ws = await rawWebSocket(t, peal.port, '/ws/public/a');
    ws.send(OP.PING, 'control frames are fine');
    assert.equal((await ws.nextFrame()).opcode, OP.PONG);
    ws.send(opcode, payload);
    await expectClose(ws, 1008, { reason: /client_publish = none/ });
  }
});

test('rooms that are none are refused before the upgrade', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 }, config: '[ws]\nclient_join = yes\nclient_publish = any\n' });
  const workers = workersOf(peal);
  for (const [path, status] of [
    ['/ws/', 400], ['/ws/%', 400], ['/ws/%zz', 400], ['/ws/a?room=', 400], ['/ws/a?room=%4', 400], ['/ws/a?room', 400],
    [`/ws/${'r'.repeat(256)}`, 400], [`/ws/${'%41'.repeat(256)}`, 400], [`/ws/a?${'room=b&'.repeat(64)}`, 400],
    ['/ws/AAAAAAAAAAAAAAAAAAAA', 403], ['/ws/a?room=AAAAAAAAAAAAAAAAAAA%41', 403], ['/ws', 404], ['/wsx', 404],
  ]) assert.equal((await statusOf(t, peal, path)).status, status, path);
  await rawWebSocket(t, peal.port, `/ws/${'r'.repeat(255)}`);
  await rawWebSocket(t, peal.port, `/ws/a?${Array.from({ length: 63 }, (_, i) => `room=b${i}`).join('&')}`);
  sameWorkers(peal, workers);
});

test('a name with any byte in it is one room, and no other', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, ...PUBLISHERS });
  for (const name of ['%00', 'a%00b', '%FF%FE', '..%2F..', '%0d%0aX:%20y']) {
    const [one, two] = [await wsClient(t, `${peal.wsUrl}/ws/${name}`), await wsClient(t, `${peal.wsUrl}/ws/${name}`)];
    one.send(name);
    await waitFor(() => two.messages.length === 1, { what: name });
  }
});

test('the same room twice is one membership', async (t) => {
  const peal = await startPeal(t, { options: { workers: 2 }, ...PUBLISHERS });
  const reader = await wsClient(t, `${peal.wsUrl}/ws/r?room=r&room=r`);
  const sender = await wsClient(t, `${peal.wsUrl}/ws/r`);
  sender.send('once');
  sender.send('end');
  await waitFor(() => texts(reader).includes('end'));
  assert.deepEqual(texts(reader), ['once', 'end']);
  reader.close();
  await once(reader, 'close');
  sender.send('to nobody');
  sender.ping(); // its pong says that the frame before has been taken
  await once(sender, 'pong');
  const again = await wsClient(t, `${peal.wsUrl}/ws/r`);
  sender.send('to the next');
  await waitFor(() => again.messages.length > 0);
  assert.deepEqual(texts(again), ['to the next']);
});

test('/echo echoes, and is there only where echo = yes', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  const client = await wsClient(t, `${peal.wsUrl}/echo?anything`);
  client.send('ü');
  client.send(Buffer.from([1, 2]));
  client.ping('are you there');
  assert.equal((await once(client, 'pong'))[0].toString(), 'are you there');
  await waitFor(() => client.messages.length === 2);
  assert.deepEqual(client.messages.map(({ data, isBinary }) => [data.toString('hex'), isBinary]), [['c3bc', false], ['0102', true]]);
  assert.equal((await statusOf(t, peal, '/echo/')).status, 404);
});

test('an echo client that does not read is not read either, and loses nothing', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  const client = await wsClient(t, `${peal.wsUrl}/echo`);
  client.pause();
  for (let i = 0; i < 200; i++) client.send(Buffer.alloc(100000, i));
  const other = await wsClient(t, `${peal.wsUrl}/echo`); // the worker is not stuck
  other.send('still here');
  await waitFor(() => other.messages.length === 1);
  client.resume();
  await waitFor(() => client.messages.length === 200, { timeout: 15000, what: '20 MB back' });
  client.messages.forEach(({ data }, i) => assert.ok(data.length === 100000 && data[0] === i && data[99999] === i));
});
