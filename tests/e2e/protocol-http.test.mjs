// protocol-http.test.mjs: requests on the client listener: which answer, in which order of checks, and what becomes of the connection. @test parallel
import assert from 'node:assert/strict';
import { frame, httpRequest, OP, rawConnect, rawWebSocket, readResponse, startPeal, test, upgradeRequest } from './lib/index.mjs';
import { ENGINE, expectClose, sameWorkers, workersOf } from './lib/engine.mjs';

const TEXT = 'text/plain; charset=utf-8';

async function ask(t, peal, text) {
  const raw = await rawConnect(t, peal.port);
  raw.write(text);
  const answer = await readResponse(raw);
  return { ...answer, raw };
}

const get = (target, lines = []) => `GET ${target} HTTP/1.1\r\nHost: x\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;

test('faults of an Engine.IO request are found in the order that engine.io finds them', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const cases = [
    // what is asked, code of the answer
    ['GET', '/socket.io/', 0],
    ['GET', '/socket.io/?EIO=4', 0],
    ['GET', '/socket.io/?EIO=4&transport=abc', 0],
    ['GET', '/socket.io/?EIO=4&transport=webtransport', 0],
    ['GET', '/socket.io/?transport=websocket&transport=abc&EIO=4', 0],
    ['POST', '/socket.io/?transport=abc&sid=x', 0],
    ['GET', '/socket.io/?EIO=3&transport=websocket&sid=unknown', 1],
    ['POST', '/socket.io/?EIO=4&transport=websocket&sid=unknown', 1],
    ['POST', '/socket.io/?EIO=4&transport=websocket', 2],
    ['PUT', '/socket.io/?EIO=4&transport=websocket&sid=', 2],
    ['OPTIONS', '/socket.io/?EIO=4&transport=websocket', 2],
    ['GET', '/socket.io/?EIO=4&transport=websocket', 3],
    ['GET', '/socket.io/?EIO=3&transport=websocket', 3],
    ['GET', '/socket.io/anything?EIO=4&transport=websocket', 3],
  ];
  const messages = ['Transport unknown', 'Session ID unknown', 'Bad handshake method', 'Bad request'];
  for (const [method, target, code] of cases) {
    const { status, headers, body } = await httpRequest(peal.url + target, { method });
    assert.equal(status, 400, `${method} ${target}`);
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(body, JSON.stringify({ code, message: messages[code] }), `${method} ${target}`);
  }
  assert.equal((await httpRequest(`${peal.url}/socket.io?EIO=4&transport=websocket`)).status, 404, 'the path is a prefix, its slash included');
});

test('an upgrade that is refused gets a bare text and the connection ends', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const cases = [
    [upgradeRequest('/socket.io/?EIO=4&transport=abc'), 400, 'Transport unknown'],
    [upgradeRequest('/socket.io/?EIO=4&transport=websocket&sid=nobody'), 400, 'Session ID unknown'],
    [upgradeRequest('/socket.io/?EIO=3&transport=websocket'), 400, 'Unsupported protocol version'],
    [upgradeRequest('/socket.io/?transport=websocket'), 400, 'Unsupported protocol version'],
    [upgradeRequest('/socket.io/?EIO=44&transport=websocket'), 400, 'Unsupported protocol version'],
    [upgradeRequest(ENGINE, { headers: { 'Sec-WebSocket-Version': '12' } }), 400, /Sec-WebSocket-Version/],
    [upgradeRequest(ENGINE, { headers: { 'Sec-WebSocket-Version': null } }), 400, /Sec-WebSocket-Version/],
    [upgradeRequest(ENGINE, { headers: { 'Sec-WebSocket-Key': null } }), 400, /Sec-WebSocket-Key/],
    [upgradeRequest(ENGINE, { key: 'short' }), 400, /Sec-WebSocket-Key/],
    [upgradeRequest(ENGINE, { lines: ['Origin: http://a\x01b'] }), 400, undefined],
  ];
  for (const [request, status, body] of cases) {
    const answer = await ask(t, peal, request);
    assert.equal(answer.status, status, request);
    assert.equal(answer.headers.connection, 'close', request);
    if (body instanceof RegExp) assert.match(answer.body, body);
    else if (body) assert.equal(answer.body, body, request);
    assert.equal((await answer.raw.readAll()).length, 0, 'nothing follows');
  }
  const version = await ask(t, peal, upgradeRequest(ENGINE, { headers: { 'Sec-WebSocket-Version': '12' } }));
  assert.match(version.headers['sec-websocket-version'], /\b13\b/);
  // The last of a repeated key counts, percent-decoded, and others are the application's.
  await rawWebSocket(t, peal.port, '/socket.io/?token=1&EIO=3&EIO=%34&transport=web%73ocket&sid=&t=x&b64=1');
  await rawWebSocket(t, peal.port, '/socket.io/some/where?EIO=4&transport=websocket');
});

test('the path of the configuration is the path', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, path: '/live/' } });
  await rawWebSocket(t, peal.port, '/live/?EIO=4&transport=websocket');
  assert.equal((await httpRequest(`${peal.url}/socket.io/?EIO=4&transport=websocket`)).status, 404);
});

test('health is told on the client listener, and only where it is wanted', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  for (const path of ['/livez', '/readyz']) {
    const { status, headers, body } = await httpRequest(peal.url + path);
    assert.equal(status, 200, path);
    assert.equal(headers['content-type'], TEXT);
    assert.equal(headers['cache-control'], 'no-store');
    assert.ok(body.length > 0);
    const head = await httpRequest(peal.url + path, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.headers['content-length'], String(body.length));
    assert.equal(head.body, '');
    const post = await httpRequest(peal.url + path, { method: 'POST' });
    assert.equal(post.status, 405);
    assert.equal(post.headers.allow, 'GET, HEAD');
    assert.equal((await httpRequest(`${peal.url}${path}x`)).status, 404);
  }
  assert.equal((await httpRequest(`${peal.url}/livez?probe=1`)).status, 200);
  const silent = await startPeal(t, { options: { workers: 1, health: false } });
  assert.equal((await httpRequest(`${silent.url}/livez`)).status, 404);
  assert.equal((await httpRequest(`${silent.url}/readyz`)).status, 404);
});

test('what is no resource is not found, whatever the method', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  for (const target of ['/', '/ws', '/echo', '/metrics', '/api/workers', '/favicon.ico', '/socket.io']) {
    assert.equal((await httpRequest(peal.url + target)).status, 404, target);
    assert.equal((await ask(t, peal, upgradeRequest(target))).status, 404, `upgrade ${target}`);
  }
  assert.equal((await httpRequest(`${peal.url}/nothing`, { method: 'HEAD' })).status, 404);
  assert.equal((await httpRequest(`${peal.url}/nothing`, { method: 'DELETE' })).status, 404);
});

test('a WebSocket endpoint asked without an upgrade says which it needs', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  for (const target of ['/echo', '/ws/public/a']) {
    const answer = await ask(t, peal, get(target));
    assert.equal(answer.status, 426, target);
    assert.equal(answer.headers.upgrade, 'websocket');
    const old = await ask(t, peal, upgradeRequest(target, { headers: { 'Sec-WebSocket-Version': '8' } }));
    assert.equal(old.status, 426, target);
    assert.equal(old.headers['sec-websocket-version'], '13');
    assert.equal((await ask(t, peal, upgradeRequest(target).replace('GET', 'POST'))).status, 405);
    // nginx says `Connection: upgrade` to everybody; without Upgrade it means nothing
    assert.equal((await ask(t, peal, upgradeRequest(target, { headers: { Upgrade: null } }))).status, 426);
  }
});

test('heads that are too long or malformed end with the status that fits', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const workers = workersOf(peal);
  const cases = [
    [get(`/${'a'.repeat(8192)}`), 414],
    [`GET /${'a'.repeat(20000)}`, 414],
    [get('/livez', [`X: ${'b'.repeat(16384)}`]), 431],
    [get('/livez', Array.from({ length: 120 }, (_, i) => `X-${i}: 1`)), 431],
    [`GET /livez HTTP/1.1\r\nHost: x\r\n${'A: b\r\n'.repeat(4000)}`, 431],
    ['GET /livez HTTP/1.1\r\n\r\n', 400],
    ['GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
    ['GET /livez HTTP/1.1\nHost: a\n\n', 400],
    ['GET /livez HTTP/2.0\r\nHost: a\r\n\r\n', 505],
    ['GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    [get('/livez', ['Content-Length: 1', 'Content-Length: 2']), 400],
    [get('/livez', ['Content-Length: 3', 'Transfer-Encoding: chunked']), 400],
    [get('/livez', ['Bad Name: 1']), 400],
    [get('/livez', ['X: a\x00b']), 400],
    ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
  ];
  for (const [request, status] of cases) {
    const answer = await ask(t, peal, Buffer.from(request, 'latin1'));
    assert.equal(answer.status, status, JSON.stringify(request.slice(0, 80)));
    assert.equal(answer.headers.connection, 'close');
    await answer.raw.readAll();
  }
  sameWorkers(peal, workers);
});

test('a connection is kept, pipelined requests are answered in order, and HTTP/1.0 ends', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const raw = await rawConnect(t, peal.port);
  raw.write(get('/livez'));
  assert.equal((await readResponse(raw)).headers.connection, 'keep-alive');
  raw.write(get('/livez') + get('/readyz') + get('/nothing') + 'HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.equal((await readResponse(raw)).body, 'alive\n');
  assert.equal((await readResponse(raw)).body, 'ready\n');
  assert.equal((await readResponse(raw)).status, 404);
  assert.match((await raw.readUntil('\r\n\r\n')).toString(), /^HTTP\/1.1 200 .*Content-Length: 6\r\n/s);
  // 300 at once, more than one receive buffer holds, cut wherever the segments end
  raw.write(get('/livez', [`X-Pad: ${'p'.repeat(100)}`]).repeat(300));
  for (let i = 0; i < 300; i++) assert.equal((await readResponse(raw)).status, 200);
  raw.write('GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  assert.equal((await readResponse(raw)).headers.connection, 'close');
  assert.equal((await raw.readAll()).length, 0);

  const old = await ask(t, peal, 'GET /livez HTTP/1.0\r\n\r\n');
  assert.equal(old.status, 200);
  assert.equal(old.headers.connection, 'close');
  await old.raw.readAll();
  const kept = await ask(t, peal, 'GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
  assert.equal(kept.headers.connection, 'keep-alive');
  kept.raw.write('GET /livez HTTP/1.0\r\n\r\n');
  assert.equal((await readResponse(kept.raw)).status, 200);
});

test('a request with a body is answered and its connection ends: the body is never taken for a request', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  const smuggled = get('/readyz');
  const answer = await ask(t, peal, `POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`);
  assert.equal(answer.status, 405);
  assert.equal(answer.headers.connection, 'close');
  assert.equal((await answer.raw.readAll()).length, 0);
});

test('a request whose sender ends its side at once is answered', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1 } });
  for (const request of [get('/livez'), get('/livez', ['Connection: close']), get('/nothing'), 'GET /livez HTTP/1.0\r\n\r\n']) {
    const raw = await rawConnect(t, peal.port);
    raw.socket.end(request);
    assert.match((await raw.readAll()).toString(), /^HTTP\/1\.1 (200|404) /);
  }
});

test('a request in single bytes, and one that takes up where the last segment ended, are served', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  const raw = await rawConnect(t, peal.port);
  await raw.writeSlowly(get('/livez') + get('/readyz'));
  assert.equal((await readResponse(raw)).body, 'alive\n');
  assert.equal((await readResponse(raw)).body, 'ready\n');
  raw.write(get('/livez') + get('/readyz').slice(0, 20));
  assert.equal((await readResponse(raw)).body, 'alive\n');
  raw.write(get('/readyz').slice(20));
  assert.equal((await readResponse(raw)).body, 'ready\n');
});

test('first frames right behind the handshake, in its segment, are not lost', async (t) => {
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  const echo = await rawWebSocket(t, peal.port, '/echo', { pipelined: Buffer.concat([frame(OP.TEXT, 'one'), frame(OP.BINARY, 'two'), frame(OP.PING, 'p')]) });
  const got = new Set();
  for (let i = 0; i < 3; i++) got.add((await echo.nextFrame()).payload.toString());
  assert.deepEqual(got, new Set(['one', 'two', 'p']));

  const io = await rawWebSocket(t, peal.port, ENGINE, { pipelined: frame(OP.TEXT, '40') });
  assert.match(await io.nextText(), /^0\{/, 'open comes first');
  assert.match(await io.nextText(), /^40\{"sid":"[\w-]{20}"\}$/);

  const half = frame(OP.TEXT, '40');
  const cut = await rawWebSocket(t, peal.port, ENGINE, { pipelined: half.subarray(0, 3) });
  assert.match(await cut.nextText(), /^0\{/);
  cut.write(half.subarray(3));
  assert.match(await cut.nextText(), /^40/);

  const bad = await rawWebSocket(t, peal.port, '/echo', { pipelined: frame(OP.TEXT, 'x', { mask: false }) });
  await expectClose(bad, 1002);

  // A request pipelined before the upgrade is answered first, on the same connection.
  const raw = await rawConnect(t, peal.port);
  raw.write(Buffer.concat([Buffer.from(get('/livez') + upgradeRequest('/echo')), frame(OP.TEXT, 'three')]));
  assert.equal((await readResponse(raw)).body, 'alive\n');
  assert.equal((await readResponse(raw)).status, 101);
  assert.equal((await raw.read(7)).toString('latin1'), '\x81\x05three');
});

test('browser origins: the same host by default, a list, or any; the refusal names origin, host and the fix', async (t) => {
  const asked = async (peal, host, origin, target = ENGINE) =>
    ask(t, peal, upgradeRequest(target, { host, headers: origin === undefined ? {} : { Origin: origin } }));
  const peal = await startPeal(t, { options: { workers: 1, echo: true } });
  for (const target of [ENGINE, '/echo', '/ws/public/x']) {
    for (const [host, origin, status] of [
      ['chat.example', undefined, 101],
      ['chat.example', 'http://chat.example', 101],
      ['chat.example', 'HTTPS://CHAT.example', 101], // a proxy that ends TLS leaves the Host as it is
      ['chat.example:443', 'https://chat.example', 101],
      ['chat.example:3000', 'http://chat.example:3000', 101],
      ['chat.example:3000', 'http://chat.example:3001', 403],
      ['chat.example', 'http://evil.example', 403],
      ['chat.example', 'http://chat.example.evil.example', 403],
      ['chat.example', 'null', 403],
      ['chat.example', '', 403],
    ]) {
      const answer = await asked(peal, host, origin, target);
      assert.equal(answer.status, status, `${target}: ${host} asked from ${origin}`);
      if (status !== 403) continue;
      assert.match(answer.body, /origins/);
      assert.ok(answer.body.includes(host), answer.body);
      if (origin) assert.ok(answer.body.includes(origin), answer.body);
      assert.equal(answer.headers.connection, 'close');
    }
  }
  await peal.waitEvent('origin_refused', { where: ({ origin }) => origin === 'http://evil.example' });

  const listed = await startPeal(t, { options: { workers: 1, origins: 'https://a.example,https://b.example:8443,same-host' } });
  for (const [origin, status] of [['https://a.example', 101], ['https://a.example:443', 101], ['http://a.example', 403], ['https://b.example:8443', 101],
    ['https://b.example', 403], ['https://x.a.example', 403], ['http://self.example', 101], ['http://other.example', 403]]) {
    assert.equal((await asked(listed, 'self.example', origin)).status, status, origin);
  }
  const open = await startPeal(t, { options: { workers: 1, origins: '*' } });
  assert.equal((await asked(open, 'self.example', 'http://anywhere.example')).status, 101);
  assert.equal((await asked(open, 'self.example', 'null')).status, 101);
});
