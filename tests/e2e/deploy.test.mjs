// deploy.test.mjs: every file of deploy/ is what it says: the programs that read it accept it, its numbers agree with each other, its metrics exist, and Peal serves
// within the bounds that it sets. What the load balancers do is in course.test.mjs and hosts.test.mjs. @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import YAML from 'yaml';
import { ask, fetchText, ioClient, parseMetrics, pealBinary, startPeal, startRedis, temporaryFolder, test, waitFor } from './lib/index.mjs';
import { DEPLOY, deployed, nginxMain } from './lib/deployed.mjs';
import { workersOf } from './lib/engine.mjs';
import { relay } from './lib/load.mjs';
import { promtool } from './lib/promtool.mjs';
import { confined } from './lib/seccomp.mjs';

const run = promisify(execFile);
const read = (file) => readFile(join(DEPLOY, file), 'utf8');
const has = (program) => ['/usr/bin', '/bin', '/usr/sbin'].some((dir) => existsSync(join(dir, program)));
const seconds = (text) => Number(/^(\d+)s?$/.exec(text)[1]);

// Key → value of the first section of an INI file or a systemd unit; of a repeated key a list.
const valuesOf = (text) => Object.fromEntries([...text.matchAll(/^(\w+) ?= ?(.*)$/gm)].map(([, key, value]) => [key, value]));

async function pealCheck(t, text) {
  const file = join(await temporaryFolder(t), 'peal.ini');
  await writeFile(file, text);
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('PEAL_') && key !== 'REDIS_URL'));
  return run(pealBinary, ['check', '--config', file], { env });
}

const HOSTS = Object.fromEntries([1, 2, 3].map((i) => [`10.0.0.1${i}:3000`, 3000 + i]));
const NGINX = {
  'nginx/course.conf': { '10.0.0.21:3000': 3021, '10.0.0.22:3000': 3022, '10.0.0.11:3000': 3011 },
  'nginx/one-host.conf': { '10.0.0.11:3000': 3011 },
  'nginx/several-hosts.conf': HOSTS,
};

test('nginx accepts its files, and they wait longer than the longest silence of a client', async (t) => {
  assert.deepEqual((await readdir(join(DEPLOY, 'nginx'))).map((name) => `nginx/${name}`).sort(), Object.keys(NGINX).sort(), 'each file is tested');
  const silence = 25 + 20; // the defaults of ping_interval and ping_timeout
  for (const [file, hosts] of Object.entries(NGINX)) {
    const dir = await temporaryFolder(t);
    const text = await deployed(file, { port: 8080, hosts });
    await writeFile(join(dir, 'site.conf'), text);
    await writeFile(join(dir, 'nginx.conf'), nginxMain(dir, join(dir, 'site.conf')));
    const { stderr } = await run('nginx', ['-t', '-c', join(dir, 'nginx.conf'), '-p', dir, '-e', join(dir, 'error.log')]);
    assert.doesNotMatch(stderr, /\[(warn|emerg|alert)\]/, file);
    const timeout = /proxy_read_timeout (\d+)s;/.exec(text)?.[1] ?? 60; // nginx's own default
    assert.ok(Number(timeout) > silence, `${file}: proxy_read_timeout`);
  }
});

test('HAProxy accepts its files without a warning', async (t) => {
  for (const file of await readdir(join(DEPLOY, 'haproxy'))) {
    const dir = await temporaryFolder(t);
    const text = await deployed(`haproxy/${file}`, { port: 8080, hosts: HOSTS });
    await writeFile(join(dir, file), text);
    const { stdout, stderr } = await run('haproxy', ['-c', '-f', join(dir, file)]);
    assert.match(stdout + stderr, /^Configuration file is valid$/m);
    assert.doesNotMatch(stdout + stderr, /WARNING|ALERT/, file);
    for (const name of ['client', 'server', 'tunnel']) assert.ok(seconds(new RegExp(`timeout ${name} (\\S+)`).exec(text)[1]) > 45, `${file}: timeout ${name}`);
  }
});

test('the configurations pass peal check, with what is commented out as well', async (t) => {
  const example = await read('peal.ini');
  assert.match((await pealCheck(t, example)).stdout, /: ok$/m);
  const dir = await temporaryFolder(t);
  const secrets = join(dir, 'secret');
  await writeFile(secrets, 'sesame\n');
  const all = example.replaceAll(/^# (\w+ = )/gm, '$1').replaceAll(/\/etc\/peal\/\S+-(password|token)/g, secrets);
  assert.ok(all.split('\n').filter((line) => /^\w+ = /.test(line)).length > example.split('\n').filter((line) => /^\w+ = /.test(line)).length + 2);
  assert.match((await pealCheck(t, all)).stdout, /: ok$/m);
  const [{ data }] = YAML.parseAllDocuments(await read('kubernetes/peal.yaml')).map((document) => document.toJS());
  assert.match((await pealCheck(t, data['peal.ini'])).stdout, /: ok$/m);
});

test('the Kubernetes manifest is whole, and gives a drain the time that it takes', async () => {
  const documents = YAML.parseAllDocuments(await read('kubernetes/peal.yaml'));
  for (const document of documents) assert.deepEqual([...document.errors, ...document.warnings], []);
  const objects = documents.map((document) => document.toJS());
  const one = (kind, name = 'peal') => objects.find((object) => object.kind === kind && object.metadata.name === name);
  const deployment = one('Deployment');
  const pod = deployment.spec.template.spec;
  const [container] = pod.containers;
  const settings = valuesOf(one('ConfigMap').data['peal.ini'].replaceAll(/^\s+/gm, ''));
  const drain = seconds(settings.drain_grace) + seconds(settings.drain_timeout);
  assert.ok(pod.terminationGracePeriodSeconds > drain + 10, 'terminationGracePeriodSeconds');
  const probe = container.readinessProbe;
  assert.ok(probe.periodSeconds * probe.failureThreshold < seconds(settings.drain_grace), 'a drain is noticed within its grace');
  assert.deepEqual([container.readinessProbe, container.livenessProbe, container.startupProbe].map(({ httpGet }) => httpGet.path), ['/readyz', '/livez', '/livez']);
  const ports = Object.fromEntries(container.ports.map(({ name, containerPort }) => [name, containerPort]));
  assert.deepEqual(ports, { clients: Number(settings.listen.split(':').at(-1)), admin: Number(settings.admin_listen.split(':').at(-1)) });
  for (const service of objects.filter(({ kind }) => kind === 'Service')) {
    assert.deepEqual(service.spec.selector, deployment.spec.template.metadata.labels);
    for (const { name, port, targetPort } of service.spec.ports) assert.deepEqual([ports[targetPort], name], [port, targetPort]);
  }
  for (const { selector } of [deployment.spec, one('PodDisruptionBudget').spec]) assert.deepEqual(selector.matchLabels, deployment.spec.template.metadata.labels);
  assert.deepEqual(pod.securityContext.seccompProfile, { type: 'Localhost', localhostProfile: 'peal.json' });
  assert.equal(pod.securityContext.runAsNonRoot, true);
  assert.deepEqual(pod.volumes.map(({ name }) => name), container.volumeMounts.map(({ name }) => name));
  assert.equal(String(pod.securityContext.runAsUser), /^USER (\d+):/m.exec(await read('docker/Dockerfile'))[1], 'the image\'s account');
});

test('systemd accepts the unit, which stops for longer than a drain takes', { skip: !has('systemd-analyze') && 'no systemd-analyze' }, async (t) => {
  const unit = await read('systemd/peal.service');
  const values = valuesOf(unit);
  const settings = valuesOf(await read('peal.ini'));
  assert.ok(seconds(values.TimeoutStopSec) > seconds(settings.drain_grace) + seconds(settings.drain_timeout) + 10);
  assert.equal(values.KillMode, 'mixed');
  assert.equal(values.Type, 'notify');
  const dir = await temporaryFolder(t);
  await writeFile(join(dir, 'peal.service'), unit.replace('/usr/local/bin/peal', pealBinary));
  const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', join(dir, 'peal.service')]);
  assert.equal(stdout + stderr, '');
  const security = await run('systemd-analyze', ['security', '--offline=yes', '--threshold=20', '--no-pager', join(dir, 'peal.service')]);
  assert.match(security.stdout, /Overall exposure level for peal\.service: [01]\.\d OK/);
});

// Clients of both transports, a broadcast through Redis, a worker that dies and its successor, metrics, a drain: what a server does in its life.
async function aLife(t, bin) {
  const redis = await startRedis(t);
  const options = { workers: 2, redis: redis.url, demo: true, recovery: '2m', drain_grace: '100ms' };
  const peal = await startPeal(t, { bin, options, args: relay });
  const clients = [await ioClient(t, peal.url), await ioClient(t, peal.url, { transports: ['polling'] }), await ioClient(t, peal.url, { transports: ['polling', 'websocket'] })];
  for (const client of clients) assert.deepEqual(await ask(client, 'join', 'r'), { ok: true });
  const heard = Promise.all(clients.slice(1).map((client) => new Promise((resolve) => client.once('hello', resolve))));
  assert.deepEqual(await ask(clients[0], 'publish', 'r', 'hello', 1), { ok: true });
  await heard;
  assert.match(await fetchText(peal.url), /<html/);
  await waitFor(async () => (await peal.metrics()).get('peal_redis_up') === 1, { what: 'Redis' });
  const [victim] = workersOf(peal);
  process.kill(victim.pid, 'SIGKILL');
  await waitFor(() => workersOf(peal).some(({ slot, generation }) => slot === victim.slot && generation > victim.generation), { timeout: 10000, what: 'the successor' });
  const late = await waitFor(() => ioClient(t, peal.url), { timeout: 10000, what: 'a client after it' });
  assert.ok(late.connected);
  await peal.stop();
}

test('Docker\'s profile is enough for a whole life, and without io_uring in it Peal says what is missing', async (t) => {
  const profile = JSON.parse(await read('docker/seccomp.json'));
  const unknown = [];
  await aLife(t, await confined(await temporaryFolder(t), pealBinary, profile, { unknown: (name) => unknown.push(name) }));
  assert.deepEqual(unknown, [], 'each name is a system call');
  const names = profile.syscalls.flatMap((rule) => rule.names);
  assert.equal(new Set(names).size, names.length, 'no name twice');
  for (const name of ['mount', 'ptrace', 'bpf', 'unshare', 'setns', 'keyctl', 'perf_event_open', 'userfaultfd']) assert.ok(!names.includes(name), name);
  for (const rule of profile.syscalls) rule.names = rule.names.filter((name) => !name.startsWith('io_uring'));
  const refused = await startPeal(t, { bin: await confined(await temporaryFolder(t), pealBinary, profile), ready: false });
  assert.equal((await refused.exited).code, 1);
  assert.match(refused.log(), /io_uring.*seccomp/s);
});

test('the unit\'s SystemCallFilter is enough for a whole life', { skip: !has('systemd-analyze') && 'no systemd-analyze' }, async (t) => {
  const groups = new Map();
  const { stdout } = await run('systemd-analyze', ['syscall-filter', '--no-pager']);
  for (const line of stdout.split('\n')) {
    const [, name] = /^\s*([@\w-]+)$/.exec(line) ?? [];
    if (/^@/.test(line)) groups.set(line.trim(), []);
    else if (name) [...groups.values()].at(-1).push(name);
  }
  const expand = (name) => (name.startsWith('@') ? groups.get(name).flatMap(expand) : [name]);
  // What systemd lets through in every allow-list, and what its own steps behind the filter need.
  const names = new Set(['@default', 'execve', ...[...(await read('systemd/peal.service')).matchAll(/^SystemCallFilter=(.*)$/gm)].flatMap(([, list]) => list.split(' '))].flatMap(expand));
  assert.ok(names.has('io_uring_enter') && !names.has('mount'));
  const profile = { defaultAction: 'SCMP_ACT_ERRNO', syscalls: [{ names: [...names], action: 'SCMP_ACT_ALLOW' }] };
  await aLife(t, await confined(await temporaryFolder(t), pealBinary, profile));
});

test('the image has each library that the program needs, and no other', { skip: !has('dpkg') && 'no dpkg' }, async () => {
  const text = (await read('docker/Dockerfile')).replaceAll(/^#.*$/gm, '').replaceAll('\\\n', ' ');
  const stages = text.split(/^FROM /m);
  const installed = /apt-get install -y --no-install-recommends (.*?)&&/.exec(stages.at(-1))[1].trim().split(/\s+/);
  const { stdout } = await run('ldd', [pealBinary]);
  const libraries = [...stdout.matchAll(/=> (\/\S+)/g)].map(([, path]) => path);
  // By pattern: dpkg knows some by their names of before /usr was merged, others by those of after.
  const found = await run('dpkg', ['-S', ...libraries.map((path) => `*/x86_64-linux-gnu/${basename(path)}`)]);
  const owners = [...found.stdout.matchAll(/^([^:,]+)/gm)].map(([, name]) => name);
  const wanted = [...new Set(owners)].filter((name) => !['libc6', 'libgcc-s1', 'libstdc++6'].includes(name)).sort();
  assert.deepEqual(installed, wanted);
  assert.match(stages.at(-1), /^USER (?!0|root)/m);
});

test('the sysctl file sets what this kernel has, and says why', async () => {
  const lines = (await read('sysctl/60-peal.conf')).split('\n');
  const settings = lines.flatMap((line, i) => {
    const match = /^(-?)([a-z][\w.]*) = (.+)$/.exec(line);
    return match ? [{ optional: match[1] === '-', key: match[2], before: lines[i - 1] }] : [];
  });
  assert.equal(settings.length, lines.filter((line) => line !== '' && !line.startsWith('#')).length, 'each line is one setting');
  for (const { key, optional, before } of settings) {
    assert.match(before, /^(#|net\.ipv4\.ip_local_port_range)/, `${key} is explained`);
    const path = `/proc/sys/${key.replaceAll('.', '/')}`;
    if (!optional && key !== 'kernel.io_uring_disabled') assert.ok(existsSync(path), `${key} exists`); // that one since Linux 6.6
  }
});

// Names and label matchers in PromQL: [{ name, labels: { reason: 'origin' } }], only matchers for equality.
function metricsIn(expression) {
  return [...expression.matchAll(/\b((?:peal|process)_\w+)(?:\{([^}]*)\})?/g)].map(([, name, matchers = '']) => ({
    name,
    labels: Object.fromEntries([...matchers.matchAll(/(\w+)="([^"$]*)"/g)].map(([, key, value]) => [key, value]).filter(([key]) => key !== 'job' && key !== 'instance')),
  }));
}

test('Prometheus accepts its files, its alerts fire when they must and only then, and Grafana\'s panels show metrics that there are', async (t) => {
  const cwd = join(DEPLOY, 'prometheus');
  const config = await promtool('check', 'config', 'prometheus.yml', { cwd });
  assert.equal(config.code, 0, config.said);
  const rules = await promtool('test', 'rules', 'alerts.test.yml', { cwd });
  assert.equal(rules.code, 0, rules.said);
  const alerts = YAML.parse(await read('prometheus/alerts.yml')).groups.flatMap((group) => group.rules);
  const tested = await read('prometheus/alerts.test.yml');
  for (const { alert, annotations, labels } of alerts) {
    assert.ok(tested.includes(`alertname="${alert}"`), `${alert} is tested`);
    assert.ok(annotations.summary && annotations.action && ['page', 'warning'].includes(labels.severity), alert);
  }

  const dashboard = JSON.parse(await read('grafana/peal.json'));
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
  const shown = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
  // Its expressions as rules, to have them parsed.
  const asRules = { groups: [{ name: 'dashboard', rules: shown.map(({ expr }, i) => ({ record: `panel_${i}`, expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*') })) }] };
  const file = join(await temporaryFolder(t), 'dashboard.yml');
  await writeFile(file, YAML.stringify(asRules));
  const parsed = await promtool('check', 'rules', file);
  assert.equal(parsed.code, 0, parsed.said);

  const redis = await startRedis(t);
  const peal = await startPeal(t, { options: { redis: redis.url, demo: true, recovery: '1m' } });
  await ioClient(t, peal.url, { namespace: '/demo' });
  const text = await fetchText(`${peal.adminUrl}/metrics`);
  const metrics = parseMetrics(text);
  const expressions = [...alerts.map(({ expr }) => expr), ...shown.map(({ expr }) => expr), ...dashboard.annotations.list.map(({ expr }) => expr), dashboard.templating.list[1].query.query];
  for (const expression of expressions) assert.ok(metricsIn(expression).length > 0 || /\bup\{/.test(expression), expression);
  for (const { name, labels } of expressions.flatMap(metricsIn)) {
    assert.ok(metrics.samples.some((sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)),
      `${name} ${JSON.stringify(labels)} is not in /metrics`);
  }
});
