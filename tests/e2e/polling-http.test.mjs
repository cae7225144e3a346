// polling-http.test.mjs: long-polling over every way to send HTTP: kept connections that carry sessions of several workers, pipelined, split, chunked,
// large, slow and faulty requests. PEAL_TEST_TARGET=node asks the real server. @test parallel timeout=120
import assert from 'node:assert/strict';
import { sleep, slow, test } from './lib/index.mjs';
import { engine, sameWorkers, staysPending, workersOf } from './lib/engine.mjs';
import { HANDSHAKE, PATH, ask, chunked, httpConnection, isEmpty, isError, isOk, isPoll, pollingSession, readAnswer, requestText, settle } from './lib/polling.mjs';
import { onNode, runCases, startTarget } from './lib/target.mjs';

const FLEETS = onNode ? [{}] : [{ workers: 4, balance: 'leastconn' }, { workers: 4, balance: 'reuseport' }];

// Sessions that have joined "/", opened from different addresses: on all workers.
async function sessions(t, target, n) {
  const all = await Promise.all(Array.from({ length: n }, () => pollingSession(t, target)));
  await Promise.all(all.map((s) => s.join()));
  return all;
}

const joinPacket = (id, room = 'a') => `42${id}["join","${room}"]`;
const ackOf = (id) => `43${id}[{"ok":true}]`;
const post = (s, body, options = {}) => requestText('POST', s.url, { body, ...options });
const get = (s, options = {}) => requestText('GET', s.url, options);

// The POST is taken and its acknowledgement comes, both on this connection.
async function roundTrip(connection, s, id, options = {}) {
  connection.write(post(s, joinPacket(id), options));
  isOk(await connection.answer(), `POST ${id}`);
  isPoll(await connection.ask('GET', s.url), ackOf(id), `GET ${id}`);
}

// Two pieces, two segments.
async function inPieces(connection, ...pieces) {
  for (const piece of pieces) {
    connection.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const KEPT = {
  'kept: one connection carries a whole session': async (t, target) => {
    const c = await httpConnection(t, target);
    const first = await c.ask('GET', HANDSHAKE);
    const url = `${HANDSHAKE}&sid=${JSON.parse(first.body.slice(1)).sid}`;
    isOk(await c.ask('POST', url, { body: '40' }));
    isPoll(await c.ask('GET', url), /^40\{/);
    for (let i = 0; i < 20; i++) {
      isOk(await c.ask('POST', url, { body: joinPacket(i) }));
      isPoll(await c.ask('GET', url), ackOf(i));
    }
    isEmpty(await c.ask('DELETE', url), 500, 'DELETE');
    isError(await c.ask('GET', `${HANDSHAKE}&sid=nobody`), 1);
    isOk(await c.ask('POST', url, { body: '1' }));
    isError(await c.ask('GET', url), 1);
  },
  'kept: one connection alternates between sessions of all workers': async (t, target) => {
    const all = await sessions(t, target, 12);
    const before = onNode ? 0 : (await target.metrics()).sum('peal_handoffs_total');
    const c = await httpConnection(t, target);
    for (let i = 0; i < 120; i++) await roundTrip(c, all[(i * 7) % all.length], i);
    if (!onNode) assert.ok((await target.metrics()).sum('peal_handoffs_total') > before + 40, 'requests were handed over, not relayed by chance to their own worker');
  },
  'kept: a pool of connections, shared by all sessions as a proxy does it': async (t, target) => {
    const all = await sessions(t, target, 16);
    const idle = await Promise.all(Array.from({ length: 4 }, () => httpConnection(t, target)));
    const waiting = [];
    const borrow = () => (idle.length > 0 ? idle.shift() : new Promise((resolve) => waiting.push(resolve)));
    const giveBack = (c) => (waiting.length > 0 ? waiting.shift()(c) : idle.push(c));
    await Promise.all(all.map(async (s, k) => {
      for (let i = 0; i < 15; i++) {
        const c = await borrow();
        await roundTrip(c, s, k * 100 + i);
        giveBack(c);
      }
    }));
  },
  'kept: the connection a GET waits on serves on afterwards, for another session too': async (t, target) => {
    const [a, b] = await sessions(t, target, 2);
    const c = await httpConnection(t, target);
    for (let i = 0; i < 5; i++) {
      c.write(get(a));
      await settle();
      isOk(await a.post(joinPacket(i)));
      isPoll(await c.answer(), ackOf(i));
      await roundTrip(c, b, 50 + i);
    }
  },
  'kept: Connection: close is obeyed': async (t, target) => {
    const [s] = await sessions(t, target, 1);
    const c = await httpConnection(t, target);
    const answer = await c.ask('POST', s.url, { body: joinPacket(1), headers: { Connection: 'close' } });
    isOk(answer);
    assert.equal(answer.headers.connection, 'close');
    assert.equal((await c.readAll()).length, 0);
    isPoll(await s.get({ headers: { Connection: 'close' } }), ackOf(1));
  },
};

const PIPELINED = {
  'pipelined: two requests of different sessions in one write': async (t, target) => {
    const all = await sessions(t, target, 8);
    const c = await httpConnection(t, target);
    for (let i = 0; i < all.length; i++) {
      const [a, b] = [all[i], all[(i + 1) % all.length]];
      c.write(Buffer.concat([post(a, joinPacket(1)), post(b, joinPacket(2))]));
      isOk(await c.answer(), 'the first POST');
      isOk(await c.answer(), 'the second POST');
      c.write(Buffer.concat([get(a), get(b)]));
      isPoll(await c.answer(), ackOf(1), 'the first GET');
      isPoll(await c.answer(), ackOf(2), 'the second GET');
    }
  },
  'pipelined: forty requests of sixteen sessions, faults among them, in one write': async (t, target) => {
    // two POSTs of one session would overlap on a server that starts them all at once
    const all = await sessions(t, target, 16);
    const c = await httpConnection(t, target);
    const requests = [];
    const checks = [];
    const add = (bytes, check, method) => {
      requests.push(bytes);
      checks.push({ check, method });
    };
    for (let i = 0; i < 8; i++) {
      const s = all[i];
      add(post(s, joinPacket(i)), (answer) => isOk(answer, `POST ${i}`));
      add(get({ url: `${HANDSHAKE}&sid=nobody${i}` }), (answer) => isError(answer, 1));
      add(requestText('HEAD', s.url), (answer) => assert.equal(answer.status, 500), 'HEAD');
      add(post(all[8 + i], chunked('40/', 'nowhere'), { headers: { 'Transfer-Encoding': 'chunked' } }), (answer) => isOk(answer, `chunked POST ${i}`));
      add(requestText('GET', HANDSHAKE), (answer) => isPoll(answer, /^0\{/));
    }
    c.write(Buffer.concat(requests));
    for (const { check, method } of checks) check(await readAnswer(c, { method }));
    for (let i = 0; i < 8; i++) {
      assert.equal(await all[i].hear(), ackOf(i));
      assert.equal(await all[8 + i].hear(), '44/nowhere,{"message":"Invalid namespace"}');
    }
  },
  'pipelined: what stands behind a GET that waits is answered after it': async (t, target) => {
    const [a, b] = await sessions(t, target, 2);
    const c = await httpConnection(t, target);
    c.write(Buffer.concat([get(a), post(b, joinPacket(2)), get(b)]));
    const first = c.answer({ timeout: 10000 });
    assert.ok(await staysPending(first, 200), 'nothing overtakes the GET');
    isOk(await a.post(joinPacket(1)));
    isPoll(await first, ackOf(1));
    isOk(await c.answer());
    isPoll(await c.answer(), ackOf(2));
  },
  'pipelined: a WebSocket request behind polls of other sessions, with frames right behind it': async (t, target) => {
    const [a, b] = await sessions(t, target, 2);
    const ws = await engine(t, target);
    await ws.join();
    const c = await httpConnection(t, target);
    c.write(post(a, joinPacket(1)));
    isOk(await c.answer());
    c.write(post(b, joinPacket(2)));
    isOk(await c.answer());
    const upgrade = requestText('GET', b.url.replace('transport=polling', 'transport=websocket'), {
      headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' } });
    c.write(Buffer.concat([get(a), upgrade]));
    isPoll(await c.answer(), ackOf(1));
    assert.equal((await c.answer()).status, 101, 'on a connection that carried polls before');
  },
};

const SPLIT = {
  'split: a POST and a GET cut at every byte': async (t, target) => {
    const all = await sessions(t, target, 8);
    const c = await httpConnection(t, target);
    const n = post(all[0], joinPacket('100')).length;
    for (let cut = 1; cut < n; cut++) {
      const s = all[cut % all.length];
      const bytes = post(s, joinPacket(100 + cut));
      await inPieces(c, bytes.subarray(0, cut), bytes.subarray(cut));
      isOk(await c.answer(), `a POST cut at ${cut}`);
      const poll = get(s);
      const at = Math.min(cut, poll.length - 1);
      await inPieces(c, poll.subarray(0, at), poll.subarray(at));
      isPoll(await c.answer(), ackOf(100 + cut), `a GET cut at ${at}`);
    }
  },
  'split: byte by byte': async (t, target) => {
    const all = await sessions(t, target, 4);
    const c = await httpConnection(t, target);
    for (const [i, s] of all.entries()) {
      await c.writeSlowly(Buffer.concat([post(s, joinPacket(i)), get(s)]));
      isOk(await c.answer());
      isPoll(await c.answer(), ackOf(i));
    }
  },
  'split: two pipelined requests of two sessions cut around their border': async (t, target) => {
    const all = await sessions(t, target, 6);
    const c = await httpConnection(t, target);
    const border = post(all[0], joinPacket(1)).length;
    for (let cut = border - 12; cut < border + 60; cut++) {
      const [a, b] = [all[cut % 6], all[(cut + 1) % 6]];
      const both = Buffer.concat([post(a, joinPacket(1)), post(b, joinPacket(2))]);
      await inPieces(c, both.subarray(0, cut), both.subarray(cut));
      isOk(await c.answer(), `the first, cut at ${cut}`);
      isOk(await c.answer(), `the second, cut at ${cut}`);
      isPoll(await c.ask('GET', a.url), ackOf(1));
      isPoll(await c.ask('GET', b.url), ackOf(2));
    }
  },
  'split: head and body apart, so that the body comes after the request was handed over': async (t, target) => {
    const all = await sessions(t, target, 4);
    const c = await httpConnection(t, target);
    for (const [i, s] of all.entries()) {
      const bytes = post(s, joinPacket(i));
      const body = bytes.length - joinPacket(i).length;
      c.write(bytes.subarray(0, body));
      await settle();
      c.write(bytes.subarray(body));
      isOk(await c.answer());
      isPoll(await c.ask('GET', s.url), ackOf(i));
    }
  },
};

const FORMS = {
  'forms: Expect: 100-continue, awaited or not': async (t, target) => {
    const all = await sessions(t, target, 4);
    const c = await httpConnection(t, target);
    const Expect = '100-continue';
    for (const [i, s] of all.entries()) {
      const bytes = post(s, joinPacket(i), { headers: { Expect } });
      const body = bytes.length - joinPacket(i).length;
      c.write(bytes.subarray(0, body));
      const interim = await c.answer();
      assert.equal(interim.status, 100);
      assert.equal(interim.body, '');
      c.write(bytes.subarray(body));
      isOk(await c.answer());
      isPoll(await c.ask('GET', s.url), ackOf(i));
      // Who does not wait may get the interim answer all the same.
      c.write(post(s, joinPacket(i + 10), { headers: { Expect } }));
      let answer = await c.answer();
      if (answer.status === 100) answer = await c.answer();
      isOk(answer);
      isPoll(await c.ask('GET', s.url), ackOf(i + 10));
    }
    assert.equal((await ask(t, target, 'POST', all[0].url, { body: '3', headers: { Expect: 'miracles' } })).status, 417);
    await all[0].lives();
  },
  'forms: HTTP/1.0': async (t, target) => {
    const c = await httpConnection(t, target);
    c.write(`GET ${HANDSHAKE} HTTP/1.0\r\n\r\n`);
    const first = await c.answer();
    isPoll(first, /^0\{/, 'without Host');
    assert.equal(first.headers.connection, 'close');
    assert.equal((await c.readAll()).length, 0);
    const url = `${HANDSHAKE}&sid=${JSON.parse(first.body.slice(1)).sid}`;
    const kept = await httpConnection(t, target);
    const headers = { Connection: 'keep-alive' };
    isOk(await kept.ask('POST', url, { version: '1.0', body: '40', headers }));
    isPoll(await kept.ask('GET', url, { version: '1.0', headers }), /^40\{/);
    // an error has no chunks there
    const wrong = await kept.ask('GET', `${HANDSHAKE}&sid=x`, { version: '1.0', headers });
    assert.equal(wrong.headers['transfer-encoding'], undefined);
    assert.equal(wrong.body, '{"code":1,"message":"Session ID unknown"}');
    const big = 'x'.repeat(2000);
    isOk(await ask(t, target, 'POST', url, { version: '1.0', body: `40/${big}` }));
    isPoll(await ask(t, target, 'GET', url, { version: '1.0' }), `44/${big},{"message":"Invalid namespace"}`);
  },
  'forms: HEAD has no body, and the connection serves on': async (t, target) => {
    const [s] = await sessions(t, target, 1);
    const c = await httpConnection(t, target);
    assert.equal((await c.ask('HEAD', HANDSHAKE)).status, 400);
    assert.equal((await c.ask('HEAD', s.url)).status, 500);
    await roundTrip(c, s, 1);
  },
  'forms: nginx says Connection: upgrade to everybody': async (t, target) => {
    const [s] = await sessions(t, target, 1);
    const c = await httpConnection(t, target);
    for (const connection of ['upgrade', 'Upgrade', 'keep-alive, Upgrade']) {
      const headers = { Connection: connection };
      isPoll(await c.ask('GET', HANDSHAKE, { headers }), /^0\{/, connection);
      isOk(await c.ask('POST', s.url, { body: joinPacket(1), headers }), connection);
      isPoll(await c.ask('GET', s.url, { headers }), ackOf(1), connection);
    }
    isError(await c.ask('GET', `${PATH}?EIO=4&transport=websocket`, { headers: { Connection: 'upgrade' } }), 3);
  },
  'forms: chunked bodies': async (t, target) => {
    const all = await sessions(t, target, 4);
    const c = await httpConnection(t, target);
    const body = joinPacket(7);
    const headers = { 'Transfer-Encoding': 'chunked' };
    const forms = [
      chunked(body),
      chunked(...body),
      chunked(body.slice(0, 3), body.slice(3)),
      `${body.length.toString(16).toUpperCase()};name=value;other="quoted"\r\n${body}\r\n0\r\n\r\n`,
      `000${body.length.toString(16)}\r\n${body}\r\n00\r\n\r\n`,
      `${body.length.toString(16)}\r\n${body}\r\n0\r\nX-Trailer: yes\r\nX-Other: no\r\n\r\n`,
    ];
    for (const [i, form] of forms.entries()) {
      const s = all[i % all.length];
      isOk(await c.ask('POST', s.url, { body: form, headers }), JSON.stringify(form));
      isPoll(await c.ask('GET', s.url), ackOf(7), JSON.stringify(form));
    }
    const whole = post(all[0], forms[2], { headers });
    for (let cut = whole.length - forms[2].length - 4; cut < whole.length; cut++) {
      await inPieces(c, whole.subarray(0, cut), whole.subarray(cut));
      isOk(await c.answer(), `chunked, cut at ${cut} of ${whole.length}`);
      isPoll(await c.ask('GET', all[0].url), ackOf(7));
    }
    isOk(await c.ask('POST', all[1].url, { body: chunked(), headers }), 'no chunk: an empty body, which is no packet');
    isError(await c.ask('GET', all[1].url), 1);
  },
  'forms: bodies up to the limit of a megabyte, in any pieces, four at once': async (t, target) => {
    const all = await sessions(t, target, 4);
    const reader = await pollingSession(t, target);
    await reader.join();
    for (const s of [reader, ...all]) {
      await s.say('420["join","large"]');
      assert.equal(await s.hear(), ackOf(0));
    }
    const [a] = all;
    const packet = (s, k) => {
      const head = `42["publish","large","n",${k},"`;
      return `${head}${'abcdefghij'.repeat(100000).slice(0, 1000000 - head.length - 2)}"]`;
    };
    const got = (async () => {
      const seen = [];
      while (seen.length < 4) {
        const event = JSON.parse((await reader.hear({ timeout: 20000 })).slice(2));
        assert.equal(event[2], 'abcdefghij'.repeat(100000).slice(0, event[2].length));
        seen.push(event[1]);
      }
      return seen.sort();
    })();
    await Promise.all(all.map(async (s, k) => {
      const c = await httpConnection(t, target);
      const bytes = post(s, packet(s, k));
      const step = [bytes.length, 65536, 100001, 16384][k];
      for (let at = 0; at < bytes.length; at += step) await inPieces(c, bytes.subarray(at, at + step));
      isOk(await c.answer({ timeout: 20000 }), `a megabyte in pieces of ${step}`);
      if (k === 0) {
        isEmpty(await c.ask('POST', a.url, { body: `${packet(a, 0)}x`, timeout: 20000 }), 413, 'a byte more');
      }
    }));
    assert.deepEqual(await got, [0, 1, 2, 3]);
    for (const s of all) {
      const others = [];
      while (others.length < 3) others.push(JSON.parse((await s.hear({ timeout: 20000 })).slice(2))[1]);
      assert.equal(new Set(others).size, 3, 'each of the others once');
    }
  },
};

const FAULTS = {
  'faults: heads that are no requests get 400, and the session they name lives': async (t, target) => {
    const [s] = await sessions(t, target, 1);
    const cases = [
      ['Content-Length: 2', 'Content-Length: 3'],
      ['Content-Length: 2', 'Transfer-Encoding: chunked'],
      ['Content-Length: -2'],
      ['Content-Length: 2x'],
      ['Content-Length: +2'],
      ['Content-Length: 0x2'],
      ['Content-Length: 2, 3'],
      ['Content-Length: 99999999999999999999999'],
      ['Content-Length:'],
      ['Transfer-Encoding: chunked, identity'],
      ['Bad Name: x', 'Content-Length: 2'],
      ['X: a\x00b', 'Content-Length: 2'],
    ];
    for (const lines of cases) {
      const c = await httpConnection(t, target);
      c.write(Buffer.from(`POST ${s.url} HTTP/1.1\r\nHost: 127.0.0.1\r\n${lines.join('\r\n')}\r\n\r\n41`, 'latin1'));
      const answer = await c.answer();
      assert.equal(answer.status, 400, JSON.stringify(lines));
      assert.equal(answer.headers.connection, 'close', JSON.stringify(lines));
      assert.equal((await c.readAll()).length, 0, `${JSON.stringify(lines)}: one answer, then the end`);
    }
    const hostless = await httpConnection(t, target);
    hostless.write(`GET ${s.url} HTTP/1.1\r\n\r\n`);
    assert.equal((await hostless.answer()).status, 400, 'HTTP/1.1 without Host');
    await s.lives();
  },
  'faults: a body whose chunks are wrong ends the connection, with 400 if with anything': async (t, target) => {
    for (const body of ['zz\r\n40\r\n0\r\n\r\n', '2\r\n40XX0\r\n\r\n', '-2\r\n40\r\n0\r\n\r\n', 'ffffffffffffffffff\r\n40', '\r\n40\r\n0\r\n\r\n', '0x2\r\n40\r\n0\r\n\r\n']) {
      const [s] = await sessions(t, target, 1);
      const c = await httpConnection(t, target);
      c.write(post(s, body, { headers: { 'Transfer-Encoding': 'chunked' } }));
      const text = (await c.readAll()).toString();
      assert.match(text, /^(HTTP\/1\.1 400 [^]*)?$/, JSON.stringify(body));
      assert.doesNotMatch(text, /ok$/, JSON.stringify(body));
      await settle();
      await s.gone(`the session of ${JSON.stringify(body)}`);
    }
  },
  'faults: a body that is taken for a request would be smuggled': async (t, target) => {
    const [a, b] = await sessions(t, target, 2);
    const smuggled = post(b, '1').toString();
    const c = await httpConnection(t, target);
    // with a length, in chunks, and where the body is not wanted at all
    isOk(await c.ask('POST', a.url, { body: `40/${smuggled}` }));
    isOk(await c.ask('POST', a.url, { body: chunked(`40/${smuggled}`), headers: { 'Transfer-Encoding': 'chunked' } }));
    isEmpty(await c.ask('PUT', a.url, { body: smuggled }), 500, 'PUT');
    await settle();
    await b.lives();
  },
};

for (const fleet of FLEETS) {
  test(`polling over HTTP: ${onNode ? 'node' : `${fleet.workers} workers, ${fleet.balance}`}`, { concurrency: 4, timeout: 60000 }, async (t) => {
    const target = await startTarget(t, { ...fleet, pingInterval: 24 * 3600 * 1000 }); // no ping in front of an answer
    const workers = onNode ? null : workersOf(target);
    await runCases(t, { ...KEPT, ...PIPELINED, ...SPLIT, ...FORMS, ...FAULTS }, target);
    if (!onNode) sameWorkers(target, workers);
  });
}

test('a head that does not end ends at header_timeout; a GET that waits is no slow request', { skip: onNode }, async (t) => {
  const short = 500 * slow;
  const target = await startTarget(t, { workers: 2, peal: { header_timeout: `${short}ms`, message_timeout: `${short}ms` } });
  const all = await sessions(t, target, 2);
  const waiting = await all[0].hold();
  // Part of a head behind a request that was served and handed over.
  const behind = await httpConnection(t, target);
  behind.write(Buffer.concat([post(all[1], joinPacket(4)), get(all[1]).subarray(0, 30)]));
  isOk(await behind.answer());
  const head = await httpConnection(t, target);
  head.write(`GET ${all[0].url} HTTP/1.1\r\nHost: x\r\nX-Slow`);
  assert.match((await head.readAll({ timeout: 10000 })).toString(), /^(HTTP\/1\.1 408 [^]*)?$/, 'a head that does not end');
  assert.match((await behind.readAll({ timeout: 10000 })).toString(), /^(HTTP\/1\.1 408 [^]*)?$/, 'a second head that does not end');
  assert.ok(await staysPending(waiting.answer, short), 'the GET waits on');
  await all[0].say(joinPacket(3));
  isPoll(await waiting.answer, ackOf(3));
});

test('a body that does not end in message_timeout ends its session', { skip: onNode }, async (t) => {
  const short = 500 * slow;
  const target = await startTarget(t, { workers: 2, peal: { message_timeout: `${short}ms` } });
  const [s, other] = await sessions(t, target, 2);
  const c = await httpConnection(t, target);
  const bytes = post(s, joinPacket(1).padEnd(200));
  c.write(bytes.subarray(0, bytes.length - 100));
  const dripping = setInterval(() => c.socket.writable && !c.hasEnded() && c.write(' '), short / 10); // 100 bytes take ten times as long
  const since = performance.now();
  try {
    const text = (await c.readAll({ timeout: 10000 })).toString();
    assert.match(text, /^(HTTP\/1\.1 (408|400) [^]*)?$/);
    assert.ok(performance.now() - since > short * 0.8, `ended after ${performance.now() - since} ms`);
  } finally {
    clearInterval(dripping);
  }
  await settle();
  await s.gone('the session whose body never ended');
  await other.lives();
});
