// redis-access.test.mjs: every way to a real Redis: password, user, password file, database, TLS, Unix socket; and what is said when it is the wrong one.
// @test parallel no-asan timeout=240
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createClient } from 'redis';
import { defer, freePort, ioClient, startNodeServer, startPeal, startProcess, startRedis, temporaryFolder, test, waitFor } from './lib/index.mjs';

// Both ways through Redis: what a Node server emits comes, and what we publish is heard by a client of the test's own (given, connected).
async function works(t, options, admin, { namespace = 'socket.io', env } = {}) {
  const peal = await startPeal(t, { options, env, config: '[namespace "/"]\napp = relay\nclient_join = yes\nclient_publish = any\n' });
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { timeout: 10000, what: 'Redis' });
  const sub = admin.duplicate();
  await sub.connect();
  defer(t, () => sub.disconnect());
  const heard = [];
  await sub.subscribe(`${namespace}#/#r#`, (message) => heard.push(message), true);
  const client = await ioClient(t, peal.url);
  client.emit('publish', 'r', 'x', 1);
  await waitFor(() => heard.length === 1, { what: 'our message in Redis' });
  const got = [];
  client.on('y', (...args) => got.push(args));
  const { encode } = await import('notepack.io').then((m) => m.default ?? m);
  await admin.publish(`${namespace}#/#`, encode(['peer00', { type: 2, data: ['y', 2], nsp: '/' }, { rooms: [], except: [], flags: {} }]));
  await waitFor(() => got.length === 1, { what: 'a message out of Redis' });
  const metrics = await peal.metrics();
  assert.ok(metrics.get('peal_redis_lag_seconds') > 0);
  assert.equal(metrics.sum('peal_redis_dropped_total'), 0);
  return peal;
}

async function client(t, options) {
  const c = createClient(options);
  c.on('error', () => {});
  await c.connect();
  defer(t, () => c.disconnect());
  return c;
}

// It stays away, says why and what to do, and does not try all the time.
async function refused(t, options, { reason, remedy, logged = 'redis_down', slow = true }) {
  const peal = await startPeal(t, { options });
  const event = await peal.waitEvent(logged, { timeout: 15000, where: (fields) => reason.test(fields.reason) });
  if (remedy) assert.match(event.remedy, remedy);
  if (slow) assert.ok(parseInt(event.retry_in, 10) >= 2500, `a retry in ${event.retry_in}`);
  assert.equal((await peal.metrics()).get('peal_redis_up'), 0);
  return peal;
}

test('a password: in the URL, in a file, and the wrong one', async (t) => {
  const redis = await startRedis(t, { args: ['--requirepass', 'geheim/:@'] });
  const admin = await client(t, { url: redis.url, password: 'geheim/:@' });
  const host = `127.0.0.1:${redis.port}`;
  await works(t, { redis: `redis://:geheim%2F%3A%40@${host}/3` }, admin);
  const file = join(await temporaryFolder(t), 'password');
  await writeFile(file, 'geheim/:@\nsecond line\n');
  await works(t, { redis: `redis://${host}`, redis_password_file: file }, admin);
  await works(t, {}, admin, { env: { REDIS_URL: `redis://default:geheim%2F%3A%40@${host}` } });
  const wrong = await refused(t, { redis: `redis://:falsch@${host}` }, { reason: /^WRONGPASS/, remedy: /redis_password_file/ });
  await refused(t, { redis: `redis://${host}` }, { reason: /^NOAUTH/, remedy: /password/ });
  await refused(t, { redis: `redis://:geheim%2F%3A%40@${host}/999` }, { reason: /DB index/, remedy: /number behind the host/ });
  // What is put right in Redis is noticed without anybody's doing.
  const tries = (link) => wrong.events('redis_down').filter((fields) => fields.link === link).map(({ time }) => Date.parse(time));
  await waitFor(() => tries('publisher').length > 2, { timeout: 25000, interval: 100, what: 'further attempts' });
  tries('publisher').forEach((time, i, all) => assert.ok(i === 0 || time - all[i - 1] >= 2400, `${all}`));
  await admin.sendCommand(['CONFIG', 'SET', 'requirepass', 'falsch']);
  await waitFor(async () => (await wrong.metrics()).get('peal_redis_up') === 1, { timeout: 31000, interval: 100, what: 'the password put right' });
  assert.ok(![wrong.log()].some((text) => text.includes('falsch')), 'no password in the log');
});

test('a user with no more rights than needed, and one with less', async (t) => {
  const redis = await startRedis(t);
  const admin = await client(t, { url: redis.url });
  const host = `127.0.0.1:${redis.port}`;
  await admin.sendCommand(['ACL', 'SETUSER', 'peal', 'on', '>p', 'resetchannels', '&socket.io*', '&socket.io#/#*', '&socket.io#/ws#*', '-@all', '+@pubsub', '+@connection']);
  await works(t, { redis: `redis://peal:p@${host}` }, admin);
  await admin.sendCommand(['ACL', 'SETUSER', 'strict', 'on', '>p', 'resetchannels', '&socket.io#*', '&socket.io-re*', '&socket.io#/#*', '&socket.io#/ws#*', '-@all', '+@pubsub', '+@connection']);
  const strict = await startPeal(t, { options: { redis: `redis://strict:p@${host}` } });
  await strict.waitEvent('redis_probe_refused');
  await waitFor(async () => (await strict.metrics()).get('peal_redis_up') === 1, { what: 'up without a probe' });
  await admin.sendCommand(['ACL', 'SETUSER', 'nobody', 'on', '>p', '-@all']);
  await refused(t, { redis: `redis://nobody:p@${host}` }, { reason: /^NOPERM/, remedy: /ACL SETUSER/ });
  await refused(t, { redis: `redis://peal:q@${host}` }, { reason: /^WRONGPASS/, remedy: /user and password/ });
  // A right that is taken away while we use it: told, counted, survived.
  await admin.sendCommand(['ACL', 'SETUSER', 'mute', 'on', '>p', 'allchannels', '-@all', '+@pubsub', '+@connection']);
  const mute = await works(t, { redis: `redis://mute:p@${host}` }, admin);
  await admin.sendCommand(['ACL', 'SETUSER', 'mute', '-publish']);
  const speaker = await ioClient(t, mute.url);
  speaker.emit('publish', 'r', 'x', 1);
  const error = await mute.waitEvent('redis_error');
  assert.match(error.error, /^NOPERM/);
  assert.match(error.remedy, /ACL SETUSER/);
  const refusals = async () => (await mute.metrics()).get('peal_redis_dropped_total', { reason: 'refused' });
  await waitFor(async () => (await refusals()) === 1, { what: 'the refusal counted' });
  await mute.waitEvent('redis_probe_refused');
  speaker.emit('publish', 'r', 'x', 2);
  await waitFor(async () => (await refusals()) === 2, { what: 'the second refusal counted, not held back' });
  assert.equal(mute.events('redis_down').length, 0);
});

test('a Unix socket', async (t) => {
  const path = join(await temporaryFolder(t), 'redis.sock');
  const redis = await startRedis(t, { args: ['--unixsocket', path, '--requirepass', 'p'] });
  const admin = await client(t, { url: redis.url, password: 'p' });
  const file = join(await temporaryFolder(t), 'password');
  await writeFile(file, 'p');
  await works(t, { redis: `unix:${path}`, redis_password_file: file }, admin);
  await refused(t, { redis: `unix:${path}.not` }, { reason: /No such file/, slow: false });
});

// An authority, and what it has signed: a server for localhost, one for another name, a client; and an authority that nobody knows.
async function certificates(t) {
  const dir = await temporaryFolder(t);
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const authority = (name) => openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.pem`,
    '-days', '2', '-subj', `/CN=${name}`);
  const sign = async (name, by, extension) => {
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    await writeFile(join(dir, `${name}.ext`), extension);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', `${by}.pem`, '-CAkey', `${by}.key`, '-CAcreateserial', '-out', `${name}.pem`, '-days', '2', '-extfile', `${name}.ext`);
  };
  authority('ca');
  authority('stranger');
  await sign('server', 'ca', 'subjectAltName = DNS:localhost, IP:127.0.0.1');
  await sign('other', 'ca', 'subjectAltName = DNS:redis.example');
  await sign('client', 'ca', 'extendedKeyUsage = clientAuth');
  return (name) => join(dir, name);
}

const tlsRedis = async (t, file, server, args = []) => {
  const port = await freePort();
  const redis = await startRedis(t, { args: ['--tls-port', String(port), '--tls-cert-file', file(`${server}.pem`), '--tls-key-file', file(`${server}.key`), '--tls-ca-cert-file',
    file('ca.pem'), ...args] });
  return { redis, port };
};

test('TLS: verified by authority and name, refused otherwise, with a certificate of our own where Redis wants one', { timeout: 120000 }, async (t) => {
  const file = await certificates(t);
  const { redis, port } = await tlsRedis(t, file, 'server', ['--tls-auth-clients', 'no', '--requirepass', 'p']);
  const admin = await client(t, { url: redis.url, password: 'p' });
  const ca = { redis_ca_file: file('ca.pem') };
  await works(t, { redis: `rediss://:p@localhost:${port}/1`, ...ca }, admin);
  await works(t, { redis: `rediss://:p@127.0.0.1:${port}`, ...ca }, admin);
  // The system's own store, as far as OpenSSL lets itself be told where that is.
  await works(t, { redis: `rediss://:p@localhost:${port}` }, admin, { env: { SSL_CERT_FILE: file('ca.pem') } });
  await refused(t, { redis: `rediss://:p@localhost:${port}` }, { reason: /^certificate: /, remedy: /redis_ca_file/ });
  await refused(t, { redis: `rediss://:p@localhost:${port}`, redis_ca_file: file('stranger.pem') }, { reason: /^certificate: /, remedy: /redis_ca_file/ });
  await refused(t, { redis: `rediss://:falsch@localhost:${port}`, ...ca }, { reason: /^WRONGPASS/ });
  await refused(t, { redis: `rediss://:p@localhost:${redis.port}`, ...ca }, { reason: /^TLS: /, remedy: /redis:\/\//, slow: false });
  await refused(t, { redis: `redis://:p@127.0.0.1:${port}` }, { reason: /./, remedy: /rediss/, slow: false });
  await writeFile(file('empty.pem'), 'nothing\n');
  await refused(t, { redis: `rediss://:p@localhost:${port}`, redis_ca_file: file('empty.pem') }, { logged: 'redis_tls_unusable', reason: /redis_ca_file = .*empty\.pem/, slow: false });

  const other = await tlsRedis(t, file, 'other', ['--tls-auth-clients', 'no']);
  await refused(t, { redis: `rediss://localhost:${other.port}`, ...ca }, { reason: /hostname mismatch/, remedy: /name/ });
  await refused(t, { redis: `rediss://127.0.0.1:${other.port}`, ...ca }, { reason: /IP address mismatch/, remedy: /address/ });

  const mutual = await tlsRedis(t, file, 'server');
  const own = { redis_cert_file: file('client.pem'), redis_cert_key_file: file('client.key') };
  await works(t, { redis: `rediss://localhost:${mutual.port}`, ...ca, ...own }, await client(t, { url: mutual.redis.url }));
  await refused(t, { redis: `rediss://localhost:${mutual.port}`, ...ca }, { reason: /certificate required/, remedy: /redis_cert_file/ });
});

test('TLS: large messages both ways, many at once, and a restart', { timeout: 90000 }, async (t) => {
  const file = await certificates(t);
  const { redis, port } = await tlsRedis(t, file, 'server', ['--tls-auth-clients', 'no']);
  const peal = await startPeal(t, {
    options: { redis: `rediss://localhost:${port}`, redis_ca_file: file('ca.pem'), max_message_bytes: '8M' },
    config: '[namespace "/"]\napp = relay\nclient_join = yes\nclient_publish = any\n',
  });
  const node = await startNodeServer(t, { redis, options: { maxHttpBufferSize: 2e7 }, setup: () => { process.on('unhandledRejection', () => {}); } });
  const [here, there] = await Promise.all([ioClient(t, peal.url), ioClient(t, node.url)]);
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { what: 'Redis' });
  const got = { here: [], there: [] };
  here.on('m', (bytes, n) => got.here.push([bytes.length, n]));
  there.on('m', (bytes, n) => got.there.push([bytes.length, n]));
  await node.run(({ io }) => io.socketsJoin('r'));
  for (const round of [1, 2]) {
    const lengths = [1, 5000000, 16384, 16385, ...Array.from({ length: 800 }, (_, i) => (i * 37) % 3000)];
    for (const [n, length] of lengths.entries()) here.emit('publish', 'r', 'm', Buffer.alloc(length, n), n);
    await node.run(({ io }, list) => list.forEach((length, n) => io.emit('m', Buffer.alloc(length, n), n)), lengths);
    const wanted = lengths.map((length, n) => [length, n]);
    await waitFor(() => got.here.length >= wanted.length && got.there.length >= 2 * wanted.length, { timeout: 20000, what: () => `${got.here.length} and ${got.there.length} of ${wanted.length}` });
    assert.deepEqual(got.here, wanted);
    assert.equal(got.there.length, 2 * wanted.length); // its own server's, and ours
    if (round === 2) break;
    await redis.stop();
    await redis.restart();
    await waitFor(() => peal.events('redis_up').length >= 4, { timeout: 10000, what: 'both links again' });
    await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { what: 'Redis again' });
    await waitFor(() => node.run(({ sub }) => sub.isReady), { what: 'Node again' });
    got.here.length = got.there.length = 0;
  }
});

test('keys that do not fit together are refused before anything starts', async (t) => {
  const file = await certificates(t);
  const check = async (options, text) => {
    const run = startProcess(t, process.env.PEAL_BIN, ['serve', ...Object.entries(options).map(([key, value]) => `--${key}=${value}`)], { name: 'serve' });
    assert.equal((await run.exited).code, 2, text);
    assert.ok(run.log().includes(text), `${run.log()}\nlacks ${text}`);
  };
  await check({ redis: 'redis://h', redis_ca_file: file('ca.pem') }, 'redis_ca_file');
  await check({ redis: 'rediss://h', redis_ca_file: '/no/such/file' }, 'redis_ca_file = /no/such/file: cannot be read: No such file');
  await check({ redis: 'rediss://h', redis_cert_file: file('client.pem') }, 'a certificate needs its key');
  await check({ redis: 'rediss://h', redis_cert_key_file: file('client.key') }, 'a key its certificate');
  await check({ redis: 'redis://h', redis_buffer_bytes: '100K' }, 'redis_buffer_bytes = 100K: 256K to 1G');
  await check({ redis: 'redis://h', redis_buffer_age: '1ms' }, 'redis_buffer_age = 1ms: 10ms to 1h');
});
