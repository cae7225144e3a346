// addresses.test.mjs: whose address a client has: behind real nginx and HAProxy, and behind proxies that lie; limits by it; what a kill leaves of them.
// @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { httpRequest, ioClient, ask as askClient, pealBinary, rawConnect, readResponse, startNodeServer, startPeal, startRedis, temporaryFolder, test, upgradeRequest, waitFor } from './lib/index.mjs';
import { ENGINE, sameWorkers, workersOf } from './lib/engine.mjs';
import { ask, HANDSHAKE, pollingSession } from './lib/polling.mjs';
import { startHaproxy, startNginxForwarding, startNginxStream } from './lib/proxies.mjs';
import { webSocketOver } from './lib/raw.mjs';

const BALANCES = ['leastconn', 'reuseport', 'iphash'];
// Its event `handshake` is acknowledged with what peal_handshake says.
const CONFIG = `[namespace "/"]\napp = module:${join(dirname(pealBinary), 'modules', 'exercise.so')}\n`;

const start = (t, options, more = {}) => startPeal(t, { config: CONFIG, ...more, options: { workers: 4, ...options } });
const xff = (value) => ({ 'X-Forwarded-For': value });
const localAddress = (n) => `127.0.0.${2 + (n % 200)}`;

// Asks for a WebSocket: `bytes` first, then the request. Gives the connection and the answer.
async function knock(t, target, { bytes = '', headers, path = ENGINE, ...options } = {}) {
  const raw = await rawConnect(t, target.port, options);
  raw.write(Buffer.concat([Buffer.from(bytes), Buffer.from(upgradeRequest(path, { headers }))]));
  return { raw, answer: await readResponse(raw, { timeout: 20000 }) };
}

// The address that an open Socket.IO WebSocket has for the application.
async function addressOf(ws) {
  const hear = async () => {
    for (;;) {
      const text = await ws.nextText();
      if (text.startsWith('43')) return text;
    }
  };
  ws.text('4277["handshake"]');
  const [result, handshake] = JSON.parse((await hear()).slice('4377'.length));
  assert.equal(result, 'PEAL_OK');
  return handshake.address;
}

async function join_(ws) {
  ws.text('40');
  for (let text = ''; !text.startsWith('40{'); text = await ws.nextText());
}

// The same of a new one.
async function seenAs(t, target, options) {
  const { raw, answer } = await knock(t, target, options);
  assert.equal(answer.status, 101, answer.body);
  const ws = webSocketOver(raw, answer);
  await join_(ws);
  const address = await addressOf(ws);
  raw.reset();
  return address;
}

// All at once, each with those headers: { served: [connections], refused: [answers] }.
async function knockMany(t, peal, n, headers) {
  const tries = await Promise.all(Array.from({ length: n }, (_, i) => knock(t, peal, { headers: typeof headers === 'function' ? headers(i) : headers, localAddress: localAddress(i) })));
  for (const { answer } of tries) assert.ok(answer.status === 101 || answer.status === 503, `status ${answer.status}`);
  return { served: tries.filter(({ answer }) => answer.status === 101).map(({ raw }) => raw), refused: tries.filter(({ answer }) => answer.status === 503).map(({ answer }) => answer) };
}

function mustBeRefused(answer) {
  assert.equal(answer.status, 503);
  assert.ok(Number(answer.headers['retry-after']) > 0, 'Retry-After');
  assert.match(answer.body, /max_connections_per_ip/);
}

const connections = (peal, n) => waitFor(async () => (await peal.metrics()).sum('peal_connections') === n, { what: `${n} clients` });
const refusedByIp = async (peal) => (await peal.metrics()).get('peal_connections_refused_total', { reason: 'ip_limit' });

// ---- X-Forwarded-For ----

for (const balance of BALANCES) {
  test(`X-Forwarded-For of trusted proxies, and of nobody else, is the client's address for good, with balance = ${balance}`, async (t) => {
    const peal = await start(t, { balance, trusted_proxies: '127.0.0.0/25, 10.0.0.0/8' });
    for (const [headers, from, address] of [
      [{}, 3, '127.0.0.5'],
      [xff('203.0.113.7'), 3, '203.0.113.7'],
      [xff('198.51.100.1, 203.0.113.7'), 4, '203.0.113.7'],
      [xff('198.51.100.1, 203.0.113.7, 10.9.8.7'), 5, '203.0.113.7'],
      [xff('[2001:db8::1]:4711, 127.0.0.77'), 6, '2001:db8::1'],
      [xff('203.0.113.7, unknown'), 7, '127.0.0.9'],
      [xff('203.0.113.7'), 150, '127.0.0.152'], // not in 127.0.0.0/25
    ])
      assert.equal(await seenAs(t, peal, { headers, localAddress: localAddress(from) }), address, JSON.stringify(headers));

    // A session that polls: its requests come to all workers, from all kinds of addresses, and change nothing; nor does the upgrade.
    for (let i = 0; i < 4; i++) {
      const session = await pollingSession(t, peal, { headers: xff(`203.0.113.${i}`) });
      await session.join();
      const ask_ = async () => {
        await session.say('4277["handshake"]');
        let packet;
        while (!(packet = await session.hear()).startsWith('4377'));
        return JSON.parse(packet.slice(4))[1];
      };
      const handshake = await ask_();
      assert.deepEqual([handshake.address, handshake.headers['x-forwarded-for']], [`203.0.113.${i}`, `203.0.113.${i}`]);
      const { raw, answer } = await knock(t, peal, { path: `${session.url.replace('polling', 'websocket')}`, headers: xff('198.51.100.99') });
      assert.equal(answer.status, 101);
      const ws = webSocketOver(raw, answer);
      ws.text('2probe');
      assert.equal(await ws.nextText(), '3probe');
      ws.text('5');
      assert.equal(await addressOf(ws), `203.0.113.${i}`);
      raw.reset();
    }
  });
}

test('a UNIX listener: X-Forwarded-For counts where `unix` is trusted', async (t) => {
  const dir = await temporaryFolder(t);
  for (const [trusted, address] of [['none', 'unix'], ['unix', '203.0.113.7']]) {
    const path = join(dir, trusted);
    const peal = await start(t, { listen: `127.0.0.1:0,unix:${path}`, trusted_proxies: trusted, workers: 2 });
    const raw = await rawConnect(t, undefined, { path });
    raw.write(upgradeRequest(ENGINE, { headers: xff('203.0.113.7') }));
    const ws = webSocketOver(raw, await readResponse(raw));
    await join_(ws);
    assert.equal(await addressOf(ws), address);
    const nginx = await startNginxForwarding(t, peal, { upstream: `unix:${path}` });
    assert.equal(await seenAs(t, nginx, { localAddress: '127.0.0.42' }), trusted === 'unix' ? '127.0.0.42' : 'unix');
  }
});

test('same-host looks at X-Forwarded-Host, if a trusted proxy says it', async (t) => {
  const peal = await start(t, { trusted_proxies: '127.0.0.1', workers: 2 });
  const status = async (headers, localAddress_ = '127.0.0.1') => (await knock(t, peal, { headers, localAddress: localAddress_ })).answer.status;
  const page = { Origin: 'https://app.example.com', Host: 'inner:3000' };
  assert.equal(await status(page), 403);
  assert.equal(await status({ ...page, 'X-Forwarded-Host': 'app.example.com' }), 101);
  assert.equal(await status({ ...page, 'X-Forwarded-Host': 'app.example.com, other' }), 101);
  assert.equal(await status({ ...page, 'X-Forwarded-Host': 'other, app.example.com' }), 403);
  assert.equal(await status({ ...page, 'X-Forwarded-Host': 'app.example.com' }, '127.0.0.3'), 403);
  assert.equal(await status({ Origin: 'https://app.example.com', Host: 'app.example.com', 'X-Forwarded-Host': 'inner' }, '127.0.0.3'), 101);
  const { answer } = await knock(t, peal, { headers: { ...page, 'X-Forwarded-Host': 'else.example.com' } });
  assert.match(answer.body, /https:\/\/app\.example\.com is not allowed for host else\.example\.com/);
});

// ---- max_connections_per_ip ----

for (const balance of BALANCES) {
  test(`of 40 clients of one address at once exactly 5 are served by 4 workers with balance = ${balance}`, async (t) => {
    const peal = await start(t, { balance, trusted_proxies: '127.0.0.0/8', max_connections_per_ip: 5 });
    const workers = workersOf(peal);
    const { served, refused } = await knockMany(t, peal, 40, xff('203.0.113.7'));
    assert.deepEqual([served.length, refused.length], [5, 35]);
    refused.forEach(mustBeRefused);
    assert.equal(await refusedByIp(peal), 35);
    // others are others; all of one /64 are one
    const six = await knockMany(t, peal, 20, (i) => xff(`2001:db8:0:1:${i}::${i}`));
    const next = await knockMany(t, peal, 5, (i) => xff(`2001:db8:0:2::${i}`));
    assert.deepEqual([six.served.length, next.served.length], [5, 5]);
    // who has a session is never refused, nor is who wants none
    assert.equal((await httpRequest(`${peal.url}/readyz`, { headers: xff('203.0.113.7') })).status, 200);
    assert.equal((await ask(t, peal, 'GET', HANDSHAKE, { headers: xff('203.0.113.7') })).status, 503);
    // as many as leave come in again
    for (const raw of served.splice(0, 3)) raw.reset();
    await connections(peal, 12);
    const again = await knockMany(t, peal, 20, xff('203.0.113.7'));
    assert.deepEqual([again.served.length, again.refused.length], [3, 17]);
    for (const raw of [...served, ...six.served, ...next.served, ...again.served]) raw.reset();
    await connections(peal, 0);
    assert.equal((await knockMany(t, peal, 9, xff('203.0.113.7'))).served.length, 5);
    sameWorkers(peal, workers);
  });

  test(`a session that polls is one client, and its upgrade is none more, with balance = ${balance}`, async (t) => {
    const peal = await start(t, { balance, trusted_proxies: '127.0.0.0/8', max_connections_per_ip: 2 });
    const headers = xff('203.0.113.7');
    const one = await pollingSession(t, peal, { headers });
    const two = await pollingSession(t, peal, { headers });
    mustBeRefused(await ask(t, peal, 'GET', HANDSHAKE, { headers }));
    mustBeRefused((await knock(t, peal, { headers })).answer);
    mustBeRefused((await knock(t, peal, { headers, path: '/ws/public/x' })).answer);
    for (const session of [one, two]) await session.join();
    for (let i = 0; i < 5; i++) for (const session of [one, two]) await session.say('4277["handshake"]');
    const ws = await one.upgrade();
    mustBeRefused((await knock(t, peal, { headers })).answer);
    ws.reset();
    await connections(peal, 1);
    const room = await knock(t, peal, { headers, path: '/ws/public/x' });
    assert.equal(room.answer.status, 101);
    mustBeRefused((await knock(t, peal, { headers })).answer);
    await two.say('1'); // the client's own end
    await connections(peal, 1);
    assert.equal((await knock(t, peal, { headers })).answer.status, 101);
    mustBeRefused((await knock(t, peal, { headers })).answer);
  });

  test(`kill -9 of a worker: its clients are not counted any more, the others' are, with balance = ${balance}`, async (t) => {
    const peal = await start(t, { balance, trusted_proxies: '127.0.0.0/8', max_connections_per_ip: 12, recovery: '0' });
    for (let round = 0; round < 3; round++) {
      const { served } = await knockMany(t, peal, 30, xff('203.0.113.7'));
      const { served: others } = await knockMany(t, peal, 4, xff('203.0.113.8'));
      assert.equal(served.length, 12);
      const victim = workersOf(peal)[round];
      const begun = knockMany(t, peal, 20, xff('203.0.113.9')).catch(() => null); // some of them are on their way meanwhile
      process.kill(victim.pid, 'SIGKILL');
      await begun;
      await waitFor(() => workersOf(peal).some(({ slot, generation }) => slot === victim.slot && generation > victim.generation), { what: 'the successor' });
      const again = await waitFor(async () => {
        const tried = await knockMany(t, peal, 20, xff('203.0.113.7')).catch(() => null); // some may still meet the worker that is not there
        const left = served.filter((raw) => !raw.hasEnded());
        if (tried && tried.served.length + left.length === 12) return tried;
        for (const raw of tried?.served ?? []) raw.reset();
        return null;
      }, { timeout: 15000, what: 'exactly twelve' });
      assert.equal((await knockMany(t, peal, 5, xff('203.0.113.7'))).served.length, 0, 'no more than twelve');
      for (const raw of [...served, ...others, ...again.served]) raw.reset();
    }
  });
}

// ---- Warnings ----

test('most clients have one address: said where that matters', async (t) => {
  const limited = await start(t, { max_connections_per_ip: 50, workers: 2 });
  await Promise.all(Array.from({ length: 7 }, () => knock(t, limited)));
  assert.equal(limited.events('one_address').length, 0);
  await Promise.all(Array.from({ length: 5 }, () => knock(t, limited)));
  const said = await limited.waitEvent('one_address');
  assert.deepEqual([said.level, said.address, said.concerns], ['warning', '127.0.0.1', 'max_connections_per_ip']);
  assert.ok(Number(said.clients) * 2 > Number(said.of));

  const hashed = await start(t, { balance: 'iphash', workers: 2 });
  await Promise.all(Array.from({ length: 12 }, () => knock(t, hashed)));
  assert.equal((await hashed.waitEvent('one_address')).concerns, 'balance = iphash');
  assert.equal(hashed.events('iphash_sees_proxies').length, 0);

  const spread = await start(t, { max_connections_per_ip: 50, workers: 2, trusted_proxies: '127.0.0.1' });
  for (let i = 0; i < 40; i++) await knock(t, spread, { headers: xff(`203.0.113.${i % 4}`) });
  const free = await start(t, { workers: 2 });
  await Promise.all(Array.from({ length: 20 }, () => knock(t, free)));
  for (const peal of [spread, free]) assert.equal(peal.events('one_address').length, 0);
});

test('what is seldom meant is said at start', async (t) => {
  const open = await start(t, { proxy_protocol: 'on', workers: 1 });
  const hashed = await start(t, { trusted_proxies: '10.0.0.0/8', balance: 'iphash', workers: 1 });
  assert.equal(open.events('proxy_protocol_open').length, 1);
  assert.equal(hashed.events('iphash_sees_proxies').length, 1);
  const fine = await start(t, { proxy_protocol: 'on', trusted_proxies: '10.0.0.0/8', workers: 1 });
  assert.deepEqual(fine.events().filter(({ level }) => level === 'warning'), []);
});

// ---- The PROXY protocol ----

const V2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
function v2(command, family, body = '', length) {
  const bytes = Buffer.from(body, 'latin1');
  const head = Buffer.from([command, family, 0, 0]);
  head.writeUInt16BE(length ?? bytes.length, 2);
  return Buffer.concat([V2, head, bytes]);
}
const FOUR = Buffer.from([203, 0, 113, 7, 127, 0, 0, 1, 0x10, 0x92, 0, 80]).toString('latin1');
const SIX = Buffer.concat([Buffer.from('20010db8000000000000000000000007', 'hex'), Buffer.alloc(15), Buffer.from([1, 0x10, 0x92, 0, 80])]).toString('latin1');
const refusedHeaders = async (peal, reason) => (await peal.metrics()).get('peal_proxy_headers_refused_total', { reason });

for (const balance of BALANCES) {
  test(`PROXY headers name the client, whole or byte by byte, with balance = ${balance}`, async (t) => {
    const peal = await start(t, { balance, proxy_protocol: 'on', trusted_proxies: '127.0.0.0/8' });
    const headers = [
      ['PROXY TCP4 203.0.113.7 127.0.0.1 4242 80\r\n', '203.0.113.7'],
      ['PROXY TCP6 2001:db8::7 ::1 4242 80\r\n', '2001:db8::7'],
      ['PROXY TCP6 ::ffff:203.0.113.7 ::ffff:127.0.0.1 4242 80\r\n', '203.0.113.7'],
      ['PROXY UNKNOWN\r\n', null],
      [`PROXY UNKNOWN ${'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff '.repeat(2)}65535 65535\r\n`, null], // 107 bytes
      [v2(0x21, 0x11, FOUR), '203.0.113.7'],
      [v2(0x21, 0x21, SIX), '2001:db8::7'],
      [v2(0x21, 0x11, `${FOUR}\x04\0\x03abc\x02\0\x01x`), '203.0.113.7'],
      [v2(0x21, 0x11, FOUR + 'x'.repeat(16384 - 16 - 12)), '203.0.113.7'], // as long as one may be
      [v2(0x20, 0x00), null],
      [v2(0x20, 0x11, FOUR), null],
      [v2(0x21, 0x31, '\0'.repeat(216)), null],
      [v2(0x21, 0x12, FOUR), null],
    ];
    await Promise.all(headers.map(async ([bytes, address], i) => {
      const from = localAddress(i);
      assert.equal(await seenAs(t, peal, { bytes, localAddress: from }), address ?? from, String(bytes).slice(0, 60));
      // who does not know whom he has there does not know what that one says of himself either
      assert.equal(await seenAs(t, peal, { bytes, localAddress: from, headers: xff('198.51.100.1') }), address ?? from);
    }));
    for (const [bytes, address] of [headers[0], headers[6], headers[7]]) {
      const raw = await rawConnect(t, peal.port);
      await raw.writeSlowly(bytes, 0, 1);
      await raw.writeSlowly(upgradeRequest(ENGINE), 0, 7);
      const ws = webSocketOver(raw, await readResponse(raw));
      await join_(ws);
      assert.equal(await addressOf(ws), address);
    }
    assert.equal((await peal.metrics()).sum('peal_proxy_headers_refused_total'), 0);
  });
}

test('a proxy behind a proxy: the PROXY header names one that is trusted, X-Forwarded-For goes on from there', async (t) => {
  const peal = await start(t, { proxy_protocol: 'on', trusted_proxies: '127.0.0.1, 192.0.2.0/24', workers: 2 });
  const from = (address) => `PROXY TCP4 ${address} 127.0.0.1 1 80\r\n`;
  assert.equal(await seenAs(t, peal, { bytes: from('192.0.2.9'), headers: xff('203.0.113.7') }), '203.0.113.7');
  assert.equal(await seenAs(t, peal, { bytes: from('198.51.100.9'), headers: xff('203.0.113.7') }), '198.51.100.9');
});

test('a PROXY header that is none closes the connection without a word, counted; nobody else notices', async (t) => {
  const peal = await start(t, { proxy_protocol: 'on', trusted_proxies: '127.0.0.0/8', workers: 2, header_timeout: '700ms' });
  const workers = workersOf(peal);
  const bad = [
    'PROXY TCP4 203.0.113.7 127.0.0.1 4242 65536\r\n',
    'PROXY TCP4 203.0.113.7 127.0.0.1 4242 80 \r\n',
    'PROXY TCP4 2001:db8::7 ::1 4242 80\r\n',
    'PROXY TCP9 203.0.113.7 127.0.0.1 4242 80\r\n',
    `PROXY UNKNOWN ${'x'.repeat(200)}`,
    `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`, // 108 bytes
    'PROXY TCP4 203.0.113.7 127.0.0.1 4242 80\rX',
    v2(0x11, 0x11, FOUR),
    v2(0x22, 0x11, FOUR),
    v2(0x21, 0x13, FOUR),
    v2(0x21, 0x21, FOUR), // shorter than its addresses
    v2(0x21, 0x11, FOUR.slice(0, 11)),
    v2(0x21, 0x11, FOUR, 65535),
    v2(0x21, 0x11, FOUR, 16384),
  ];
  const missing = ['GET /livez HTTP/1.1\r\nHost: x\r\n\r\n', '\x16\x03\x01\x02\0', ' PROXY UNKNOWN\r\n', 'PROXYTCP4 ', `${V2.subarray(0, 11).toString('latin1')}X`, upgradeRequest(ENGINE)];
  for (const bytes of [...bad, ...missing]) {
    const raw = await rawConnect(t, peal.port);
    raw.socket.on('error', () => {}); // what was not read makes a reset of it
    raw.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    assert.equal((await raw.readAll()).length, 0, String(bytes).slice(0, 60));
  }
  assert.deepEqual([await refusedHeaders(peal, 'malformed'), await refusedHeaders(peal, 'missing'), await refusedHeaders(peal, 'timeout')], [bad.length, missing.length, 0]);
  assert.ok(peal.events('proxy_header_refused').length > 0);
  // begun, and not finished: header_timeout; nothing at all is no header refused, only an idle connection
  const silent = await rawConnect(t, peal.port);
  const half = await Promise.all(['PROXY', 'PROXY TCP4 203.0.113.7 ', V2, v2(0x21, 0x11, FOUR.slice(0, 5), 12)].map(async (bytes) => {
    const raw = await rawConnect(t, peal.port);
    raw.write(bytes);
    return raw;
  }));
  for (const raw of [...half, silent]) assert.equal((await raw.readAll()).length, 0);
  assert.equal(await refusedHeaders(peal, 'timeout'), half.length);
  // who ends by himself before is none either
  for (const bytes of ['', 'PROX', v2(0x21, 0x11, FOUR).subarray(0, 20)]) {
    const raw = await rawConnect(t, peal.port);
    raw.write(bytes);
    raw.end();
    assert.equal((await raw.readAll()).length, 0);
  }
  assert.equal((await peal.metrics()).sum('peal_proxy_headers_refused_total'), bad.length + missing.length + half.length);
  assert.equal(await seenAs(t, peal, { bytes: v2(0x21, 0x11, FOUR) }), '203.0.113.7');
  await waitFor(async () => (await peal.metrics()).sum('peal_pending_connections') === 0, { what: 'nothing left' });
  sameWorkers(peal, workers);
});

test('PROXY bytes where nobody asked for them are no HTTP; from peers that are not trusted neither', async (t) => {
  const off = await start(t, { workers: 1, trusted_proxies: '127.0.0.0/8' });
  const untrusted = await start(t, { workers: 1, proxy_protocol: 'on', trusted_proxies: '10.0.0.0/8' });
  for (const peal of [off, untrusted]) {
    for (const bytes of ['PROXY TCP4 203.0.113.7 127.0.0.1 4242 80\r\n', v2(0x21, 0x11, FOUR)]) {
      const { answer } = await knock(t, peal, { bytes });
      assert.equal(answer.status, 400);
    }
    assert.equal(await seenAs(t, peal, { localAddress: '127.0.0.8' }), '127.0.0.8');
  }
});

test('many requests on one connection have the address that its PROXY header gave, at whatever worker', async (t) => {
  const peal = await start(t, { proxy_protocol: 'on', trusted_proxies: '127.0.0.0/8', max_connections_per_ip: 8 });
  const raw = await rawConnect(t, peal.port);
  const request = (path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
  raw.write('PROXY TCP4 203.0.113.7 127.0.0.1 4242 80\r\n');
  const sids = [];
  for (let i = 0; i < 8; i++) {
    raw.write(request(HANDSHAKE));
    const { status, body } = await readResponse(raw);
    assert.equal(status, 200);
    sids.push(JSON.parse(body.slice(1)).sid);
  }
  raw.write(request(HANDSHAKE));
  mustBeRefused(await readResponse(raw));
  // sessions of all workers, each from a connection that has been at others before; then one that wants to open one
  const other = await rawConnect(t, peal.port);
  other.write('PROXY TCP4 203.0.113.7 127.0.0.1 4243 80\r\n');
  for (const sid of sids) {
    other.write(`POST /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n40`);
    assert.equal((await readResponse(other)).status, 200);
  }
  other.write(request(HANDSHAKE));
  mustBeRefused(await readResponse(other));
  assert.equal((await knock(t, peal, { bytes: 'PROXY UNKNOWN\r\n' })).answer.status, 101);
});

// ---- Real proxies ----

test('behind nginx (X-Forwarded-For), the address of its client, WebSocket and polling; a forged one is not believed', async (t) => {
  const peal = await start(t, { trusted_proxies: '127.0.0.1', max_connections_per_ip: 2 });
  const nginx = await startNginxForwarding(t, peal);
  assert.equal(await seenAs(t, nginx, { localAddress: '127.0.0.21' }), '127.0.0.21');
  assert.equal(await seenAs(t, nginx, { localAddress: '127.0.0.22', headers: xff('203.0.113.7') }), '127.0.0.22');
  assert.equal((await knock(t, nginx, { headers: { Origin: `http://127.0.0.1:${nginx.port}`, Host: `127.0.0.1:${nginx.port}` } })).answer.status, 101);
  await connections(peal, 1);
  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    const socket = await ioClient(t, nginx.url, { transports, localAddress: '127.0.0.33' });
    const [, handshake] = await askClient(socket, 'handshake');
    assert.equal(handshake.address, transports[0] === 'websocket' ? '127.0.0.33' : handshake.address);
    assert.match(handshake.address, /^127\.0\.0\.\d+$/);
    assert.equal(handshake.headers['x-forwarded-for'], handshake.address);
    socket.disconnect();
    await connections(peal, 1);
  }
  const many = await Promise.all(Array.from({ length: 12 }, () => knock(t, nginx, { localAddress: '127.0.0.51' })));
  assert.equal(many.filter(({ answer }) => answer.status === 101).length, 2);
  many.filter(({ answer }) => answer.status !== 101).forEach(({ answer }) => mustBeRefused(answer));
});

for (const [name, proxy] of [
  ['nginx stream (proxy_protocol on)', (t, peal) => startNginxStream(t, peal)],
  ['HAProxy (send-proxy)', (t, peal) => startHaproxy(t, peal, { server: 'send-proxy' })],
  ['HAProxy (send-proxy-v2, with TLVs)', (t, peal) => startHaproxy(t, peal, { server: 'send-proxy-v2 proxy-v2-options crc32c,unique-id' })],
  ['HAProxy in mode http (send-proxy-v2)', (t, peal) => startHaproxy(t, peal, { mode: 'http', server: 'send-proxy-v2', backend: ['option forwardfor'] })],
]) {
  test(`behind ${name} clients have their own addresses`, async (t) => {
    const peal = await start(t, { proxy_protocol: 'on', trusted_proxies: '127.0.0.1', max_connections_per_ip: 3 });
    const front = await proxy(t, peal);
    assert.equal(await seenAs(t, front, { localAddress: '127.0.0.21' }), '127.0.0.21');
    assert.equal(await seenAs(t, front, { localAddress: '127.0.0.22', headers: xff('203.0.113.7') }), '127.0.0.22');
    const many = await Promise.all(Array.from({ length: 30 }, (_, i) => knock(t, front, { localAddress: `127.0.0.${60 + (i % 3)}` })));
    assert.equal(many.filter(({ answer }) => answer.status === 101).length, 9, 'three of each');
    // the checks of the proxy come with headers of their own
    assert.equal((await httpRequest(`${front.url}/readyz`)).status, 200);
    assert.equal((await peal.metrics()).sum('peal_proxy_headers_refused_total'), 0);
    const socket = await ioClient(t, front.url, { transports: ['polling', 'websocket'] });
    assert.equal((await askClient(socket, 'handshake'))[1].address, '127.0.0.1');
  });
}

test('behind HAProxy in mode http (option forwardfor)', async (t) => {
  const peal = await start(t, { trusted_proxies: '127.0.0.1' });
  const front = await startHaproxy(t, peal, { mode: 'http', backend: ['option forwardfor'] });
  assert.equal(await seenAs(t, front, { localAddress: '127.0.0.21' }), '127.0.0.21');
  assert.equal(await seenAs(t, front, { localAddress: '127.0.0.22', headers: xff('203.0.113.7') }), '127.0.0.22');
});

test("a Node server's fetchSockets shows the trusted address", async (t) => {
  const redis = await startRedis(t);
  const peal = await start(t, { trusted_proxies: '127.0.0.1', redis: redis.url, workers: 2 });
  const node = await startNodeServer(t, { redis });
  const raws = await Promise.all(['203.0.113.7', '2001:db8::7'].map((address) => knock(t, peal, { headers: xff(address) })));
  for (const { raw, answer } of raws) await join_(webSocketOver(raw, answer));
  const addresses = await waitFor(async () => {
    const found = await node.run(async ({ io }) => (await io.fetchSockets()).map(({ handshake }) => handshake.address));
    return found.length === 2 && found;
  }, { what: 'both sockets' });
  assert.deepEqual(addresses.sort(), ['2001:db8::7', '203.0.113.7']);
});
