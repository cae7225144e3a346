// polling.test.mjs: long-polling and upgrade: what the official Engine.IO suite asserts, and every fact about them that a client can see, with
// each number of workers and each way a connection finds its worker. Here the connections of one session come from many addresses, so
// they meet all workers. PEAL_TEST_TARGET=node asks the real Socket.IO server. @test parallel timeout=180
import assert from 'node:assert/strict';
import { gunzipSync, inflateSync } from 'node:zlib';
import { OP, frame, slow, sleep, test, upgradeRequest, waitFor } from './lib/index.mjs';
import { ENGINE, engine, staysPending } from './lib/engine.mjs';
import { HANDSHAKE, PATH, SEPARATOR, ask, chunked, httpConnection, isEmpty, isError, isOk, isPoll, pollingSession, requestText, settle } from './lib/polling.mjs';
import { FLEETS, onNode, runCases, startTarget } from './lib/target.mjs';

const NOBODY = 'AAAAAAAAAAAAAAAAAAAA';
const LIMIT = 2000;

// A raw WebSocket must get an empty close frame (after pings at most), and once that is answered, the end.
async function closedEmpty(ws) {
  for (;;) {
    const { opcode, payload } = await ws.nextFrame();
    if (opcode === OP.TEXT && payload.toString() === '2') continue;
    assert.deepEqual({ opcode, payload: payload.toString('hex') }, { opcode: OP.CLOSE, payload: '' }, 'an empty close frame');
    break;
  }
  ws.send(OP.CLOSE);
  assert.equal((await ws.readAll()).length, 0, 'bytes after the close frame');
  ws.socket.destroy();
}

// A second client in a room, over WebSocket: publishes what the session under test shall get.
async function publisher(t, target) {
  const ws = await engine(t, target);
  await ws.join();
  return {
    ...ws,
    publish: (room, ...args) => ws.say(`2${JSON.stringify(['publish', room, ...args])}`),
    // with one attachment
    publishBinary: (room, event, bytes) => {
      ws.say(`51-${JSON.stringify(['publish', room, event, { _placeholder: true, num: 0 }])}`);
      ws.send(OP.BINARY, bytes);
    },
  };
}

let rooms = 0;
const newRoom = () => `room-${++rooms}`;

async function joined(t, target, { room = newRoom(), publish = true } = {}) {
  const s = await pollingSession(t, target);
  await s.join();
  await s.say(`420["join","${room}"]`);
  assert.equal(await s.hear(), '430[{"ok":true}]');
  return { s, room, other: publish ? await publisher(t, target) : null };
}

const HANDSHAKES = {
  'handshake: a session opens, and the first packet has exactly its five keys': async (t, target) => {
    const answer = await ask(t, target, 'GET', `${HANDSHAKE}&t=abc123`);
    isPoll(answer, /^0\{"sid":"[\w-]+","upgrades":\["websocket"\],"pingInterval":25000,"pingTimeout":20000,"maxPayload":2000\}$/, 'handshake');
    const other = await ask(t, target, 'GET', HANDSHAKE);
    assert.notEqual(JSON.parse(answer.body.slice(1)).sid, JSON.parse(other.body.slice(1)).sid);
    assert.equal(answer.headers['set-cookie'], undefined);
    assert.equal(answer.headers['access-control-allow-origin'], undefined);
  },
  'handshake: the path is a prefix, keys are decoded, the last one counts, an empty sid is none': async (t, target) => {
    for (const path of [`${PATH}anything?EIO=4&transport=polling`, `${HANDSHAKE}&sid=`, `${PATH}?transport=polling&EIO=4`, `${PATH}?user=1&EIO=4&transport=polling&t=x`,
      `${PATH}?EIO=4&tr%61nsport=p%6Flling`, `${PATH}?EIO=3&EIO=4&transport=abc&transport=polling`, `${HANDSHAKE}&sid=nobody&sid=`, `${HANDSHAKE}&b64=1`, `${HANDSHAKE}&a=%zz&=&&x`]) {
      isPoll(await ask(t, target, 'GET', path), /^0\{/, path);
    }
    assert.equal((await ask(t, target, 'GET', '/socket.io?EIO=4&transport=polling')).status, 404);
  },
  'handshake: a missing or wrong EIO is code 5': async (t, target) => {
    for (const query of ['', 'EIO=abc&', 'EIO=3&', 'EIO=5&', 'EIO=44&', 'EIO=+4&', 'EIO=&']) isError(await ask(t, target, 'GET', `${PATH}?${query}transport=polling`), 5, query);
  },
  'handshake: a missing or wrong transport is code 0': async (t, target) => {
    for (const query of ['EIO=4', 'EIO=4&transport=abc', 'EIO=4&transport=webtransport', 'EIO=4&transport=constructor', 'EIO=4&transport=', 'EIO=4&transport=Polling', ''])
      isError(await ask(t, target, 'GET', `${PATH}?${query}`), 0, query);
    isError(await ask(t, target, 'GET', PATH), 0, 'no query');
  },
  'handshake: another method is code 2': async (t, target) => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) isError(await ask(t, target, method, HANDSHAKE, { body: method === 'OPTIONS' ? undefined : 'x' }), 2, method);
    const head = await ask(t, target, 'HEAD', HANDSHAKE);
    assert.equal(head.status, 400);
    assert.equal(head.headers['content-type'], 'application/json');
  },
  'handshake: WebSocket without an upgrade is code 3': async (t, target) => {
    isError(await ask(t, target, 'GET', `${PATH}?EIO=4&transport=websocket`), 3);
  },
  'handshake over WebSocket: the first message, and what closes at once': async (t, target) => {
    const ws = await engine(t, target);
    assert.match(ws.openText, /^0\{"sid":"[\w-]+","upgrades":\[\],"pingInterval":25000,"pingTimeout":20000,"maxPayload":2000\}$/);
    for (const query of ['transport=websocket', 'EIO=abc&transport=websocket', 'EIO=4', 'EIO=4&transport=abc']) {
      const connection = await httpConnection(t, target);
      connection.write(upgradeRequest(`${PATH}?${query}`));
      const text = (await connection.readAll()).toString();
      assert.match(text, /HTTP\/1\.1 400 Bad Request\r\n/, query);
      assert.doesNotMatch(text, /0\{"sid"/, query);
    }
  },
  'an upgrade for an unknown session is refused with the bare message': async (t, target) => {
    const connection = await httpConnection(t, target);
    connection.write(upgradeRequest(`${PATH}?EIO=4&transport=websocket&sid=${NOBODY}`));
    const answer = await connection.answer();
    assert.deepEqual({ status: answer.status, body: answer.body, connection: answer.headers.connection }, { status: 400, body: 'Session ID unknown', connection: 'close' });
    assert.equal((await connection.readAll()).length, 0);
  },
};

const CHECKS = {
  'checks: their order, and none of them hurts the session': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const sid = `sid=${s.sid}`;
    isError(await ask(t, target, 'GET', `${PATH}?EIO=4&transport=abc&${sid}`), 0, 'transport before sid');
    isError(await ask(t, target, 'POST', `${PATH}?EIO=3&transport=polling&sid=${NOBODY}`, { body: '40' }), 1, 'sid before EIO');
    isError(await ask(t, target, 'PUT', `${PATH}?EIO=4&transport=websocket&sid=${NOBODY}`), 1, 'sid before method and transport');
    isError(await ask(t, target, 'GET', `${PATH}?EIO=4&transport=websocket&${sid}`), 3, 'TRANSPORT_MISMATCH');
    isError(await ask(t, target, 'POST', `${PATH}?EIO=4&transport=websocket&${sid}`, { body: '41' }), 3, 'TRANSPORT_MISMATCH of a POST');
    isError(await ask(t, target, 'GET', `${PATH}?EIO=3&transport=polling&${sid}`), 3, 'PROTOCOL_MISMATCH');
    isError(await ask(t, target, 'POST', `${PATH}?transport=polling&${sid}`, { body: '41' }), 3, 'PROTOCOL_MISMATCH of a POST');
    for (const bad of ['__proto__', 'x', `${s.sid}x`, s.sid.slice(1), s.sid.toLowerCase() === s.sid ? s.sid.toUpperCase() : s.sid.toLowerCase(), '%00', 'a'.repeat(500)])
      isError(await ask(t, target, 'GET', `${HANDSHAKE}&sid=${bad}`), 1, `sid ${bad}`);
    await s.lives();
  },
  'checks: other methods with a sid get 500, and the session lives on': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    for (const method of ['DELETE', 'PUT', 'PATCH', 'OPTIONS']) isEmpty(await s.ask(method, method === 'OPTIONS' ? {} : { body: '41' }), 500, method);
    assert.equal((await s.ask('HEAD')).status, 500);
    await s.lives();
  },
  'checks: a session over WebSocket has no polling': async (t, target) => {
    const ws = await engine(t, target);
    const url = `${HANDSHAKE}&sid=${ws.open.sid}`;
    isError(await ask(t, target, 'GET', url), 3, 'GET');
    isError(await ask(t, target, 'POST', url, { body: '40' }), 3, 'POST');
    await ws.join();
    assert.deepEqual(await ws.fence(), []);
  },
};

const MESSAGES = {
  'message: one plain text packet': async (t, target) => {
    const s = await pollingSession(t, target);
    isOk(await s.post('40', { headers: { 'Content-Type': 'text/plain;charset=UTF-8' } }));
    isPoll(await s.get(), /^40\{"sid":"[\w-]{20}"\}$/);
    isOk(await s.post('420["join","a"]'));
    isPoll(await s.get(), '430[{"ok":true}]');
  },
  'message: several packets come back in one body': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.say('40', '40/chat,');
    const got = [await s.hear(), await s.hear()];
    await s.say('420["join","a"]', '421["leave","a"]', '42/chat,2["join","b"]');
    while (got.length < 5) got.push(await s.hear());
    assert.match(got.find((one) => one.startsWith('40{')), /^40\{"sid":"[\w-]{20}"\}$/);
    assert.match(got.find((one) => one.startsWith('40/chat')), /^40\/chat,\{"sid":"[\w-]{20}"\}$/);
    assert.deepEqual(got.filter((one) => one.startsWith('43')), ['430[{"ok":true}]', '431[{"ok":true}]', '43/chat,2[{"ok":true}]']);
    // All that has gathered goes at once.
    await s.say('423["join","a"]', '424["join","b"]', '425["join","c"]');
    await settle();
    isPoll(await s.get(), ['433', '434', '435'].map((head) => `${head}[{"ok":true}]`).join(SEPARATOR));
  },
  'message: text and binary in one body, in order': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    other.publish(room, 'hello');
    other.publishBinary(room, 'data', Buffer.from([1, 2, 3, 4]));
    other.publishBinary(room, 'none', Buffer.alloc(0));
    other.publishBinary(room, 'more', Buffer.from([251, 255, 254]));
    other.publish(room, 'last', '€😀');
    await other.fence();
    await settle();
    const binary = (name, data) => [`451-["${name}",{"_placeholder":true,"num":0}]`, `b${data}`];
    isPoll(await s.get(), ['42["hello"]', ...binary('data', 'AQIDBA=='), ...binary('none', ''), ...binary('more', '+//+'), '42["last","€😀"]'].join(SEPARATOR));
  },
  'message: binary and UTF-8 from a client, and lenient base64': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    other.say(`20["join","${room}"]`);
    assert.equal(await other.hear(), '30[{"ok":true}]');
    const head = (name) => `451-["publish","${room}","${name}",{"_placeholder":true,"num":0}]`;
    await s.say(head('a'), 'bAQID/w==', `42["publish","${room}","text","€😀"]`);
    await s.say(head('b'), 'b+//+', head('c'), 'b-__-', head('d'), 'bAQ', head('e'), 'b');
    // A header in one POST and its attachment in the next.
    await s.say(head('f'));
    await s.say('bBg==');
    const got = [];
    for (const [name, hex] of [['a', '010203ff'], ['text'], ['b', 'fbfffe'], ['c', 'fbfffe'], ['d', '01'], ['e', ''], ['f', '06']]) {
      const text = await other.hear();
      if (hex === undefined) {
        assert.equal(text, '2["text","€😀"]');
        continue;
      }
      assert.equal(text, `51-["${name}",{"_placeholder":true,"num":0}]`);
      const { opcode, payload } = await other.nextFrame();
      got.push([opcode, payload.toString('hex')]);
      assert.deepEqual(got.at(-1), [OP.BINARY, hex], name);
    }
  },
  'message: any Content-Type is text, and none is fine; only application/octet-stream is not': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    let n = 0;
    for (const type of [null, 'text/plain;charset=UTF-8', 'text/plain', 'application/json', 'application/octet-stream; charset=x', 'application/x-www-form-urlencoded']) {
      isOk(await s.post(`42${++n}["join","a"]`, { headers: { 'Content-Type': type } }), `Content-Type ${type}`);
      assert.equal(await s.hear(), `43${n}[{"ok":true}]`, `Content-Type ${type}`);
    }
    const held = await s.hold();
    isEmpty(await s.post('\x04x', { headers: { 'Content-Type': 'application/octet-stream' } }), 400, 'octet-stream');
    isPoll(await held.answer, '1', 'the pending GET');
    await s.gone();
  },
  'message: engine packets that mean nothing here are ignored': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    for (const packet of ['0', '0{"sid":"x"}', '3', '3probe', '5', '6', '6x']) await s.say(packet);
    await s.lives();
  },
  'message: a ping from the client closes': async (t, target) => {
    const s = await pollingSession(t, target);
    const held = await s.hold();
    isOk(await s.post('2'));
    isPoll(await held.answer, '1');
    await s.gone();
  },
  'message: what is no packet is taken, and closes the session': async (t, target) => {
    for (const body of ['abc', '', '7', SEPARATOR, `40${SEPARATOR}`, `40${SEPARATOR}abc`, `${SEPARATOR}40`]) {
      const s = await pollingSession(t, target);
      isOk(await s.post(body), `POST ${JSON.stringify(body)}`);
      await s.gone(JSON.stringify(body));
    }
    const s = await pollingSession(t, target);
    const held = await s.hold();
    isOk(await s.post('abc'));
    isPoll(await held.answer, '1', 'the pending GET');
    await s.gone();
  },
  'message: what is no Socket.IO packet is taken, and closes the session': async (t, target) => {
    for (const body of ['4', '4abc', '42["a"', '42["connect"]', '44{"message":"x"}']) {
      const s = await pollingSession(t, target);
      await s.join();
      const held = await s.hold();
      isOk(await s.post(body), body);
      isPoll(await held.answer, '1', body);
      await s.gone(body);
    }
  },
};

const LIMITS = {
  'limit: exactly the limit is fine, a byte more is 413 and the session lives': async (t, target) => {
    const { s, room, other } = await joined(t, target, {});
    const head = `42["publish","${room}","fill","`;
    other.say(`20["join","${room}"]`);
    await other.hear();
    const post = (n, unit = 'x') => `${head}${unit.repeat((n - head.length - 2) / Buffer.byteLength(unit))}"]`;
    assert.equal(Buffer.byteLength(post(LIMIT)), LIMIT);
    isOk(await s.post(post(LIMIT)), 'exactly the limit');
    assert.equal((await other.hear()).length, post(LIMIT).length - 1 - `"publish","${room}",`.length);
    isEmpty(await s.post(post(LIMIT + 1)), 413, 'one more');
    isEmpty(await s.post(`${'4"'.repeat(LIMIT * 20)}`), 413, 'far more');
    // Bytes count, not characters; and those of a body of unknown length too.
    const wide = `${head}${'€'.repeat(LIMIT / 3)}"]`;
    assert.ok(wide.length < LIMIT);
    isEmpty(await s.post(wide), 413, 'characters of three bytes');
    isEmpty(await s.post(chunked(post(LIMIT).slice(0, 700), post(LIMIT).slice(700), 'x'), { headers: { 'Transfer-Encoding': 'chunked' } }), 413, 'chunked');
    isOk(await s.post(chunked(post(LIMIT).slice(0, 700), post(LIMIT).slice(700)), { headers: { 'Transfer-Encoding': 'chunked' } }), 'chunked, exactly the limit');
    await other.hear();
    await s.lives();
  },
  'limit: a pending GET does not notice a 413': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    const held = await s.hold();
    isEmpty(await s.post('4'.repeat(LIMIT + 1)), 413);
    other.publish(room, 'still', 'here');
    isPoll(await held.answer, '42["still","here"]');
  },
};

const OVERLAPS = {
  'overlap: of two GETs the first gets a close, the second 400, and the session is gone': async (t, target) => {
    const s = await pollingSession(t, target);
    const held = await s.hold();
    isEmpty(await s.get(), 400, 'the second GET');
    isPoll(await held.answer, '1', 'the first GET');
    await s.gone();
  },
  'overlap: of two POSTs the first loses its connection, the second gets 400, and the session is gone': async (t, target) => {
    const s = await pollingSession(t, target);
    const first = await httpConnection(t, target);
    first.write(requestText('POST', s.url, { headers: { 'Content-Length': 10 }, body: '40' }));
    await settle();
    isEmpty(await s.post('40'), 400, 'the second POST');
    assert.equal((await first.readAll()).toString(), '', 'the first POST gets no answer');
    await s.gone();
  },
  'overlap: a GET and a POST are none': async (t, target) => {
    const s = await pollingSession(t, target);
    const held = await s.hold();
    isOk(await s.post('40'));
    isPoll(await held.answer, /^40\{/);
    const post = await httpConnection(t, target);
    const bytes = requestText('POST', s.url, { body: '429["join","a"]' });
    post.write(bytes.subarray(0, -3));
    const second = await s.hold();
    post.write(bytes.subarray(-3));
    isOk(await post.answer());
    isPoll(await second.answer, '439[{"ok":true}]');
  },
  'lost: a GET that the client gives up closes the session': async (t, target) => {
    for (const how of ['destroy', 'reset']) {
      const s = await pollingSession(t, target);
      const held = await s.hold();
      if (how === 'reset') held.connection.reset();
      else held.connection.socket.destroy();
      await settle();
      assert.equal((await s.get()).status, 400, how);
      await s.gone(how);
    }
  },
  'lost: a POST that ends before its body closes the session': async (t, target) => {
    for (const how of ['destroy', 'reset']) {
      const s = await pollingSession(t, target);
      const post = await httpConnection(t, target);
      post.write(requestText('POST', s.url, { headers: { 'Content-Length': 10 }, body: '40' }));
      await settle();
      if (how === 'reset') post.reset();
      else post.socket.destroy();
      await settle();
      const next = await s.get({ timeout: 2000 });
      isError(next, 1, `after ${how}`);
    }
  },
};

const CLOSES = {
  'close: asked by the client, a pending GET gets a noop': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const held = await s.hold();
    isOk(await s.post('1'));
    isPoll(await held.answer, '6', 'the pending GET');
    await s.gone();
    isError(await s.post('40'), 1, 'a POST afterwards');
  },
  'close: asked by the client without a GET, and what stands behind it is not processed': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    other.say(`20["join","${room}"]`);
    await other.hear();
    await s.say('1', `42["publish","${room}","too late"]`);
    await s.gone();
    assert.deepEqual(await other.fence(), []);
  },
  'close: by the server with a GET pending: its packets first, then a close': async (t, target) => {
    const { s, room } = await joined(t, target, { publish: false });
    const held = await s.hold();
    await target.disconnect(room, { close: true });
    isPoll(await held.answer, '41', 'the pending GET');
    isPoll(await s.get(), `6${SEPARATOR}1`, 'the next GET');
    await s.gone();
  },
  'close: by the server without a GET: nothing is lost': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    other.publish(room, 'before', 1);
    await other.fence();
    await settle();
    await target.disconnect(room, { close: true });
    await settle();
    isPoll(await s.get(), `42["before",1]${SEPARATOR}41`, 'the first GET');
    isPoll(await s.get(), `6${SEPARATOR}1`, 'the second GET');
    await s.gone();
  },
  'close: of a namespace only, the session lives': async (t, target) => {
    const { s, room } = await joined(t, target, { publish: false });
    const held = await s.hold();
    await target.disconnect(room);
    isPoll(await held.answer, '41');
    await s.join();
    await s.lives();
  },
  'close: of the namespace by the client, the session lives': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    await s.say('41');
    const held = await s.hold();
    assert.ok(await staysPending(held.answer, 100), 'DISCONNECT has no answer');
    await s.say('40');
    isPoll(await held.answer, /^40\{/);
  },
};

const COMPRESSION = {
  'compression: from 1024 bytes on, as the client accepts it': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    const filler = (n) => 'z'.repeat(n - '42["fill",""]'.length);
    const poll = async (n, accept) => {
      other.publish(room, 'fill', filler(n));
      await other.fence();
      return s.get({ headers: { 'Accept-Encoding': accept } });
    };
    for (const [n, accept, encoding] of [[1024, 'gzip, deflate, br', 'gzip'], [1023, 'gzip, deflate', undefined], [1500, 'deflate', 'deflate'], [1500, null, undefined],
      [1500, 'br', undefined], [1500, 'gzip;q=0, deflate;q=0', undefined], [1500, 'identity', undefined], [1500, 'deflate;q=0.5, gzip', 'gzip'], [1500, '*', 'gzip']]) {
      const answer = await poll(n, accept);
      const what = `${n} bytes with Accept-Encoding ${accept}`;
      assert.equal(answer.headers['content-encoding'], encoding, what);
      const bytes = encoding === 'gzip' ? gunzipSync(answer.bytes) : encoding === 'deflate' ? inflateSync(answer.bytes) : answer.bytes;
      assert.equal(bytes.toString(), `42["fill","${filler(n)}"]`, what);
      isPoll(answer, undefined, what);
    }
    await s.lives();
  },
  'old browsers of Microsoft get X-XSS-Protection: 0': async (t, target) => {
    for (const [agent, value] of [['Mozilla/4.0 (compatible;MSIE 8.0)', '0'], ['Mozilla/5.0 (Windows; Trident/7.0)', '0'], ['Mozilla/5.0', undefined]])
      assert.equal((await ask(t, target, 'GET', HANDSHAKE, { headers: { 'User-Agent': agent } })).headers['x-xss-protection'], value, agent);
  },
};

const UPGRADES = {
  'upgrade: the whole way: probe, noop, then WebSocket alone': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const ws = await s.webSocket();
    assert.equal(ws.response.headers.connection.toLowerCase(), 'upgrade');
    ws.text('2probe');
    assert.equal(await ws.nextText(), '3probe');
    isPoll(await s.get(), '6', 'a GET started after the probe');
    ws.text('5');
    ws.text('421["join","x"]');
    assert.equal(await ws.nextText(), '431[{"ok":true}]');
    isError(await s.get(), 3, 'a GET after the upgrade');
    isError(await s.post('41'), 3, 'a POST after the upgrade');
    const second = await s.webSocket();
    await closedEmpty(second);
    ws.text('422["join","y"]');
    assert.equal(await ws.nextText(), '432[{"ok":true}]', 'the WebSocket still works');
    ws.send(OP.CLOSE);
    await ws.nextClose();
    ws.socket.destroy();
    await waitFor(async () => (await s.get()).body.includes('"code":1'), { what: 'the end of the session with its WebSocket' });
  },
  'upgrade: a GET that is pending already gets the noop': async (t, target) => {
    const s = await pollingSession(t, target);
    const held = await s.hold();
    const ws = await s.webSocket();
    assert.ok(await staysPending(held.answer, 50), 'a WebSocket that has not probed answers no GET');
    ws.text('2probe');
    assert.equal(await ws.nextText(), '3probe');
    isPoll(await held.answer, '6');
    // and the next one after it again
    isPoll(await s.get(), '6');
    ws.text('5');
    ws.text('40');
    assert.match(await ws.nextText(), /^40\{/);
  },
  'upgrade: messages during the probe go both ways over polling': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    const ws = await s.webSocket();
    ws.text('2probe');
    assert.equal(await ws.nextText(), '3probe');
    await s.say('427["join","more"]');
    assert.equal(await s.hear(), '437[{"ok":true}]');
    other.publish(room, 'over polling');
    assert.equal(await s.hear(), '42["over polling"]');
    ws.text('5');
    other.publish(room, 'over websocket');
    assert.equal(await ws.nextText(), '42["over websocket"]');
  },
  'upgrade: what has gathered goes over the WebSocket, in order, and nothing is lost around it': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    for (let i = 0; i < 50; i++) other.publish(room, 'n', i);
    await other.fence();
    await settle();
    const ws = await s.upgrade();
    for (let i = 50; i < 100; i++) other.publish(room, 'n', i);
    for (let i = 0; i < 100; i++) assert.equal(await ws.nextText(), `42["n",${i}]`);
  },
  'upgrade: binary that has gathered arrives as frames': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    other.publishBinary(room, 'data', Buffer.from([9, 8, 7]));
    await other.fence();
    await settle();
    const ws = await s.upgrade();
    assert.equal(await ws.nextText(), '451-["data",{"_placeholder":true,"num":0}]');
    const { opcode, payload } = await ws.nextFrame();
    assert.deepEqual([opcode, payload.toString('hex')], [OP.BINARY, '090807']);
  },
  'upgrade: a 5 without a probe is accepted': async (t, target) => {
    const s = await pollingSession(t, target);
    const ws = await s.webSocket();
    ws.text('5');
    ws.text('40');
    assert.match(await ws.nextText(), /^40\{/);
    isError(await s.get(), 3);
  },
  'upgrade: anything else on the probing socket closes it alone': async (t, target) => {
    for (const fault of ['2hello', '2', '40', '3probe', '6', 'abc', '', '1', Buffer.from('5')]) {
      const s = await pollingSession(t, target);
      await s.join();
      const ws = await s.webSocket();
      if (typeof fault === 'string') ws.text(fault);
      else ws.send(OP.BINARY, fault);
      await closedEmpty(ws).catch((error) => {
        throw new Error(`after ${JSON.stringify(fault)}: ${error.message}`);
      });
      await s.lives(`the session after ${JSON.stringify(fault)} on its probe`);
    }
  },
  'upgrade: a probing socket that is lost or closed leaves the session alone, and the next one may upgrade': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const closing = await s.webSocket();
    closing.text('2probe');
    assert.equal(await closing.nextText(), '3probe');
    closing.send(OP.CLOSE);
    await closing.nextClose();
    closing.socket.destroy();
    await settle();
    await s.lives();
    const lost = await s.webSocket();
    lost.text('2probe');
    assert.equal(await lost.nextText(), '3probe');
    lost.reset();
    await settle();
    await s.lives();
    const ws = await s.upgrade();
    ws.text('421["join","x"]');
    assert.equal(await ws.nextText(), '431[{"ok":true}]');
  },
  'upgrade: a second WebSocket while one upgrades is closed, the first goes on': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const ws = await s.webSocket();
    ws.text('2probe');
    assert.equal(await ws.nextText(), '3probe');
    await closedEmpty(await s.webSocket());
    ws.text('5');
    ws.text('421["join","x"]');
    assert.equal(await ws.nextText(), '431[{"ok":true}]');
  },
  'upgrade: a WebSocket that comes to a session which is one already changes nothing there': async (t, target) => {
    const ws = await engine(t, target);
    await ws.join();
    const connection = await httpConnection(t, target);
    connection.write(upgradeRequest(`${ENGINE}&sid=${ws.open.sid}`));
    await connection.answer();
    assert.deepEqual(await ws.fence(), []);
  },
  'upgrade: EIO must be the session\'s': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.join();
    const connection = await httpConnection(t, target);
    connection.write(upgradeRequest(`${PATH}?EIO=3&transport=websocket&sid=${s.sid}`));
    const answer = await connection.answer();
    assert.deepEqual({ status: answer.status, body: answer.body }, { status: 400, body: 'Bad request' });
    await s.lives();
  },
  'upgrade: a session closed by its client while it probes takes the probing socket along': async (t, target) => {
    const s = await pollingSession(t, target);
    const ws = await s.webSocket();
    ws.text('2probe');
    assert.equal(await ws.nextText(), '3probe');
    await s.say('1');
    await closedEmpty(ws);
    await s.gone();
  },
  'upgrade: probe, 5 and the first message in one segment with the request': async (t, target) => {
    const s = await pollingSession(t, target);
    const ws = await s.webSocket({ pipelined: Buffer.concat(['2probe', '5', '40'].map((text) => frame(OP.TEXT, text))) });
    assert.equal(await ws.nextText(), '3probe');
    assert.match(await ws.nextText(), /^40\{/);
  },
  'upgrade: ten at once under traffic lose nothing and swap nothing': async (t, target) => {
    const { s, room, other } = await joined(t, target);
    const sessions = [s];
    for (let i = 0; i < 9; i++) sessions.push((await joined(t, target, { room, publish: false })).s);
    let publishing = true;
    let n = 0;
    const traffic = (async () => {
      while (publishing) {
        other.publish(room, 'n', n++);
        await other.fence();
      }
    })();
    const got = await Promise.all(sessions.map(async (session) => {
      const numbers = [];
      const take = (packet) => numbers.push(Number(/^42\["n",(\d+)\]$/.exec(packet)?.[1] ?? assert.fail(packet)));
      for (let i = 0; i < 20; i++) take(await session.hear());
      const ws = await session.webSocket();
      ws.text('2probe');
      assert.equal(await ws.nextText(), '3probe');
      for (let i = 0; i < 20; i++) take(await session.hear());
      // what came in the body of the last GET but was not looked at yet stands before what the WebSocket brings
      for (const packet of session.rest()) take(packet);
      ws.text('5');
      for (let i = 0; i < 20; i++) take(await ws.nextText());
      return numbers;
    }));
    publishing = false;
    await traffic;
    for (const numbers of got) assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i), 'each once and in order');
  },
};

const INTERVAL = 300 * slow;
const TIMEOUT = 900 * slow;

// The target has short times here, so all of these live under the clock.
const CLOCK = {
  'heartbeat: pings and pongs over polling': async (t, target) => {
    const s = await pollingSession(t, target);
    const begin = performance.now();
    for (let round = 1; round <= 3; round++) {
      isPoll(await s.get(), '2', `ping ${round}`);
      // Peal spreads first pings over the second half of the interval.
      assert.ok(performance.now() - begin > (round - 0.6) * INTERVAL, `ping ${round} came after ${performance.now() - begin} ms`);
      await s.say('3');
    }
    await s.join();
  },
  'heartbeat: without a pong a pending GET gets a close': async (t, target) => {
    const s = await pollingSession(t, target);
    isPoll(await s.get(), '2');
    const since = performance.now();
    const held = await s.hold({ wait: false });
    isPoll(await held.answer, '1', 'the GET in which the session ended');
    assert.ok(performance.now() - since > TIMEOUT * 0.8, `closed after ${performance.now() - since} ms`);
    await s.gone();
  },
  'heartbeat: who never polls is gone after interval and timeout': async (t, target) => {
    const s = await pollingSession(t, target);
    await sleep((INTERVAL + TIMEOUT) * 1.5);
    await s.gone();
  },
  'heartbeat: another packet restarts the timeout, once for each ping': async (t, target) => {
    const s = await pollingSession(t, target);
    isPoll(await s.get(), '2');
    const held = await s.hold({ wait: false });
    await sleep(TIMEOUT * 0.5);
    const first = performance.now();
    await s.say('6');
    await sleep(TIMEOUT * 0.6);
    const second = performance.now();
    await s.say('6');
    isPoll(await held.answer, '1');
    const end = performance.now();
    assert.ok(end - first > TIMEOUT * 0.9, `${end - first} ms after the first packet`);
    assert.ok(end - second < TIMEOUT, `${end - second} ms after the second packet, which restarts nothing`);
    await s.gone();
  },
  'heartbeat: a pong without a ping changes nothing': async (t, target) => {
    const s = await pollingSession(t, target);
    await s.say('3', '3');
    isPoll(await s.get(), '2');
  },
  'heartbeat: goes on over the WebSocket after an upgrade': async (t, target) => {
    const s = await pollingSession(t, target);
    const ws = await s.upgrade();
    const next = async () => {
      const { opcode, payload } = await ws.nextFrame();
      return [opcode, payload.toString()];
    };
    // An outstanding ping of the polling time needs no answer any more; what restarts the clock is a pong.
    ws.text('3');
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await next(), [OP.TEXT, '2']);
      ws.text('3');
    }
    assert.deepEqual(await next(), [OP.TEXT, '2']);
    await closedEmpty(ws);
    await s.gone();
  },
  'heartbeat over WebSocket: pings, and the end without pongs': async (t, target) => {
    const ws = await engine(t, target);
    for (let round = 0; round < 3; round++) {
      assert.equal((await ws.nextFrame()).payload.toString(), '2');
      ws.text('3');
    }
    assert.equal((await ws.nextFrame()).payload.toString(), '2');
    await closedEmpty(ws);
  },
  'upgrade timeout: the probing socket is closed, the session lives': async (t, target) => {
    for (const probed of [true, false]) {
      const s = await pollingSession(t, target);
      await s.join();
      const ws = await s.webSocket();
      const since = performance.now();
      if (probed) {
        ws.text('2probe');
        assert.equal(await ws.nextText(), '3probe');
      }
      const closed = closedEmpty(ws);
      closed.catch(() => {});
      while (await staysPending(closed, 0)) {
        // alive meanwhile, pongs included
        await s.say('420["join","a"]');
        assert.equal(await s.hear(), '430[{"ok":true}]');
      }
      await closed;
      assert.ok(performance.now() - since > UPGRADE * 0.8, `closed after ${performance.now() - since} ms`);
      await s.lives();
      const again = await s.upgrade();
      again.text('421["join","x"]');
      assert.equal(await again.nextText(), '431[{"ok":true}]');
    }
  },
};
const UPGRADE = 600 * slow;

for (const fleet of FLEETS) {
  test(`polling and upgrade: ${fleet.name}`, { concurrency: 16, timeout: 90000 }, async (t) => {
    const target = await startTarget(t, { ...fleet, maxHttpBufferSize: LIMIT });
    const quick = await startTarget(t, { ...fleet, name: 'target with short times', pingInterval: INTERVAL, pingTimeout: TIMEOUT, upgradeTimeout: UPGRADE });
    const ended = await Promise.allSettled([
      runCases(t, { ...HANDSHAKES, ...CHECKS, ...MESSAGES, ...LIMITS, ...OVERLAPS, ...CLOSES, ...COMPRESSION, ...UPGRADES }, target),
      runCases(t, CLOCK, quick),
    ]);
    for (const { reason } of ended) if (reason) throw reason;
    if (onNode) return;
    assert.equal((await target.metrics()).sum('peal_worker_restarts_total'), 0, 'no worker died');
    await Promise.all([target.stop(), quick.stop()]);
  });
}

test('a transport that is switched off is unknown, and is not offered', async (t) => {
  const polling = await startTarget(t, { transports: ['polling'], workers: 1 });
  isPoll(await ask(t, polling, 'GET', HANDSHAKE), /"upgrades":\[\]/);
  const connection = await httpConnection(t, polling);
  connection.write(upgradeRequest(ENGINE));
  const refused = await connection.answer();
  // Node takes it for a plain request then.
  assert.equal(refused.status, 400);
  assert.match(refused.body, /Transport unknown/);
  const webSocket = await startTarget(t, { transports: ['websocket'], workers: 1 });
  isError(await ask(t, webSocket, 'GET', HANDSHAKE), 0);
  await engine(t, webSocket);
});

test('Peal alone: JSONP is refused as an old protocol; causes of an unknown sid are counted', { skip: onNode }, async (t) => {
  const target = await startTarget(t, { workers: 2 });
  isError(await ask(t, target, 'GET', `${HANDSHAKE}&j=3`), 5, 'JSONP');
  const before = (await target.metrics()).sum('peal_session_unknown_total');
  for (let i = 0; i < 10; i++) isError(await ask(t, target, 'GET', `${HANDSHAKE}&sid=${NOBODY}`), 1);
  await waitFor(async () => (await target.metrics()).sum('peal_session_unknown_total') === before + 10, { what: 'ten unknown sids in peal_session_unknown_total' });
});
