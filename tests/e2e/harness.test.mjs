// harness.test.mjs: the tests' own tools, without Peal. @test parallel no-asan
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { OP, closePayload, collect, defer, frame, fetchText, httpRequest, ioClient, isAlive, parseAddress, parseLogLine, parseMetrics,
  processInfo, rawWebSocket, recordPublishes, redisClient, startBrowser, startForwarder, startNodeServer, startPeal, startRedis,
  temporaryFolder, test, waitFor, wsClient } from './lib/index.mjs';

// A program that looks like a Peal from outside: says that it is ready, and ends on TERM. extra: shell code before it is ready.
async function fakePeal(t, extra = '', onTerm = 'exit 0') {
  const path = join(await temporaryFolder(t), 'peal');
  await writeFile(path, `#!/bin/bash
trap '${onTerm}' TERM
echo "args=$*" >&2
${extra}
echo "level=info event=ready listen=127.0.0.1:3001 admin=[::1]:9301 workers=2 pid=$$" >&2
while :; do sleep 0.05; done
`);
  await chmod(path, 0o755);
  return path;
}

test('a log line with quotes and escapes is parsed', () => {
  assert.deepEqual(parseLogLine('time=1 event=ready text="a \\"b\\" c=d" empty= n=3'), { time: '1', event: 'ready', text: 'a "b" c=d', empty: '', n: '3' });
});

test('addresses of all kinds are parsed', () => {
  assert.deepEqual(parseAddress('127.0.0.1:80'), { host: '127.0.0.1', port: 80 });
  assert.deepEqual(parseAddress('[::]:3000,127.0.0.1:1'), { host: '::', port: 3000 });
  assert.deepEqual(parseAddress('unix:/tmp/x'), { path: '/tmp/x' });
});

test('metrics are parsed, and a bad line is an error', () => {
  const m = parseMetrics('# TYPE a gauge\na{worker="0",x="q\\"\\n"} 3\na{worker="1"} 4e1\nb_bucket{le="+Inf"} +Inf\n');
  assert.equal(m.sum('a'), 43);
  assert.equal(m.get('a', { worker: 1 }), 40);
  assert.equal(m.samples[0].labels.x, 'q"\n');
  assert.equal(m.types.get('a'), 'gauge');
  assert.throws(() => m.get('a'), /2 samples/);
  assert.throws(() => parseMetrics('a{x=1} 2'), /bad labels/);
  assert.throws(() => parseMetrics('nonsense'), /not a metric/);
});

test('waitFor gives the value, and its error names what was awaited', async () => {
  let n = 0;
  assert.equal(await waitFor(() => ++n > 3 && n), 4);
  await assert.rejects(waitFor(() => false, { timeout: 20, what: 'Godot' }), /Godot/);
});

test('a peal is started with the defaults that the test did not replace, and stopped', async (t) => {
  const peal = await startPeal(t, { bin: await fakePeal(t), options: { workers: 3, demo: true, drain_grace: null }, args: ['--admin-listen=127.0.0.1:7'] });
  assert.equal(peal.port, 3001);
  assert.equal(peal.url, 'http://127.0.0.1:3001');
  assert.equal(peal.adminPort, 9301);
  assert.equal(peal.workers, 2);
  const [{ args }] = [{ args: /args=(.*)/.exec(peal.log())[1] }];
  assert.equal(args, 'serve --listen=127.0.0.1:0 --workers=3 --drain_timeout=2s --demo=yes --admin-listen=127.0.0.1:7');
  assert.deepEqual(await peal.stop(), { code: 0, signal: null });
});

test('neither the settings nor the Redis of the caller reach a peal', async (t) => {
  process.env.REDIS_URL = 'redis://nowhere';
  process.env.PEAL_WORKERS = '9';
  defer(t, () => {
    delete process.env.REDIS_URL;
    delete process.env.PEAL_WORKERS;
  });
  const peal = await startPeal(t, { bin: await fakePeal(t, 'echo "saw=$REDIS_URL,$PEAL_WORKERS,$PEAL_RUNG" >&2'), env: { PEAL_RUNG: '2' } });
  assert.match(peal.log(), /saw=,,2/);
});

test('a child that outlives its peal is found, and killed', async (t) => {
  const peal = await startPeal(t, { bin: await fakePeal(t, 'setsid sleep 60 & echo "child=$!" >&2') });
  const child = processInfo(Number(/child=(\d+)/.exec(peal.log())[1]));
  await assert.rejects(peal.stop('SIGTERM', { survivorTimeout: 200 }), /outlived peal/);
  assert.ok(isAlive(child));
  process.kill(child.pid, 'SIGKILL');
});

test('a report of a sanitizer fails the stop', async (t) => {
  const peal = await startPeal(t, { bin: await fakePeal(t, 'echo "==1==ERROR: AddressSanitizer: heap-use-after-free" >&2') });
  await assert.rejects(peal.stop(), /reported: ERROR: AddressSanitizer/);
});

test('another exit code than expected fails the stop', async (t) => {
  const peal = await startPeal(t, { bin: await fakePeal(t, '', 'exit 3') });
  await assert.rejects(peal.stop(), /instead of code 0/);
});

test('a peal that ends before it is ready is an error with its log', async (t) => {
  await assert.rejects(startPeal(t, { bin: await fakePeal(t, 'echo "no luck"; exit 1') }).finally(() => {}), /no luck/);
});

test('raw frames reach a real WebSocket server, and its answers are read', async (t) => {
  const http = createServer();
  const server = new WebSocketServer({ server: http });
  server.on('connection', (ws) => {
    ws.on('message', (data, binary) => ws.send(data, { binary }));
    ws.on('error', () => {});
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  defer(t, () => {
    for (const client of server.clients) client.terminate();
    http.close();
  });
  const { port } = http.address();
  const early = Buffer.concat([frame(OP.TEXT, 'he', { fin: false }), frame(OP.PING, 'p'), frame(OP.CONTINUATION, 'llo')]);
  const ws = await rawWebSocket(t, port, '/', { pipelined: early });
  const pong = await ws.nextFrame();
  assert.deepEqual([pong.opcode, pong.payload.toString()], [OP.PONG, 'p']);
  assert.equal(await ws.nextText(), 'hello');
  for (const [n, form] of [[5, 7], [200, 16], [70000, 64], [1, 16]]) {
    ws.send(OP.BINARY, Buffer.alloc(n, 7), { form: n === 1 ? undefined : form });
    assert.equal((await ws.nextFrame()).payload.length, n);
  }
  await ws.writeSlowly(frame(OP.TEXT, 'slow'));
  assert.equal(await ws.nextText(), 'slow');
  ws.send(OP.CLOSE, closePayload(1000, 'bye'));
  assert.deepEqual(await ws.nextClose(), { code: 1000, reason: 'bye' });

  const bad = await rawWebSocket(t, port, '/');
  bad.send(OP.TEXT, 'x', { mask: false });
  assert.equal((await bad.nextClose()).code, 1002);
  const plain = await wsClient(t, `ws://127.0.0.1:${port}`);
  plain.send('there');
  await waitFor(() => plain.messages.length === 1);
  assert.equal(plain.messages[0].data.toString(), 'there');
});

test('a forwarder forwards, breaks, and refuses', async (t) => {
  const http = createServer((req, res) => res.end(`host ${req.headers.host}`));
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  defer(t, () => http.close());
  const forwarder = await startForwarder(t, () => ({ port: http.address().port }));
  assert.equal(await fetchText(forwarder.url, { headers: { Host: 'evil.example' } }), 'host evil.example');
  forwarder.accept(false);
  await assert.rejects(httpRequest(forwarder.url));
});

test('two Node servers on one Redis reach each other’s clients, and the emitter both', async (t) => {
  const redis = await startRedis(t);
  const [one, two] = await Promise.all([startNodeServer(t, { redis }), startNodeServer(t, { redis })]);
  const clients = await Promise.all([ioClient(t, one.url), ioClient(t, two.url)]);
  const got = collect(clients, 'hi');
  const published = await recordPublishes(t, redis);
  await one.run(({ io }, bytes) => {
    io.emit('hi', 'ü😀', { bytes });
  }, Buffer.from([1, 2, 255]));
  await waitFor(() => got.every((list) => list.length === 1), { what: 'the broadcast' });
  for (const [[text, { bytes }]] of got) {
    assert.equal(text, 'ü😀');
    assert.deepEqual([...bytes], [1, 2, 255]);
  }
  await two.run(({ emitter }) => {
    emitter.emit('hi', 2);
  });
  await waitFor(() => got.every((list) => list.length === 2), { what: "the emitter's broadcast" });
  assert.ok(published.messages.some(({ channel }) => channel === 'socket.io#/#'));
  assert.equal(await one.run(async ({ io }) => (await io.fetchSockets()).length), 2);
  await assert.rejects(one.run(() => {
    throw new Error('on purpose');
  }), /on purpose/);
});

test('a Redis can go away and come back on its port', async (t) => {
  const redis = await startRedis(t);
  const client = await redisClient(t, redis, { socket: { reconnectStrategy: 20 } });
  assert.equal(await client.ping(), 'PONG');
  await redis.stop();
  assert.ok(redis.hasExited());
  await redis.restart();
  await waitFor(async () => (await client.ping()) === 'PONG');
});

test('a page runs in the browser, and its errors are seen', async (t) => {
  const http = createServer((req, res) => {
    res.setHeader('Content-Type', 'text/html');
    res.end('<p id="p">no</p><script>document.getElementById("p").textContent = "yes"; setTimeout(() => { throw new Error("boom") })</script>');
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  defer(t, () => http.close());
  const browser = await startBrowser(t);
  const page = await browser.open(`http://127.0.0.1:${http.address().port}/`);
  assert.equal(await page.textContent('#p'), 'yes');
  await waitFor(() => page.problems.some((text) => text.includes('boom')));
});
