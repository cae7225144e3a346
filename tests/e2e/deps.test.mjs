// deps.test.mjs: what installs dependencies waits while another apt-get is at work. Real apt-get, on a dpkg state and lists of the test's own.
// @test parallel no-asan no-tsan
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProcess, temporaryFolder, test, within } from './lib/index.mjs';
import { staysPending } from './lib/engine.mjs';

const deps = fileURLToPath(new URL('../../.ci/deps', import.meta.url));
const canInstall = process.getuid() === 0 && existsSync('/usr/bin/apt-get');

// Holds the lock in the way of dpkg and apt (fcntl), until it is killed.
const HOLD = `use Fcntl; open(F, '>>', $ARGV[0]) or die $!; my $lock = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0);
fcntl(F, F_SETLK, $lock) or die $!; $| = 1; print "held\\n"; sleep 600`;

// cppcheck is missing in PATH, and installed as far as that dpkg knows: apt-get takes its locks and has nothing to do. \`known\` false: it must
// fetch the lists first, which are of no source.
async function machine(t, { known = true } = {}) {
  const root = await temporaryFolder(t);
  const path = (...names) => join(root, ...names);
  for (const dir of ['state/lists/partial', 'dpkg', 'cache/archives/partial', 'etc', 'bin']) await mkdir(path(dir), { recursive: true });
  await writeFile(path('dpkg/status'), known ? 'Package: cppcheck\nStatus: install ok installed\nVersion: 999\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n\n' : '');
  await writeFile(path('apt.conf'), `Dir::State "${path('state')}";\nDir::State::lists "${path('state/lists')}";\nDir::State::status "${path('dpkg/status')}";\n` +
    `Dir::Cache "${path('cache')}";\nDir::Etc "${path('etc')}";\n`);
  for (const dir of ['/usr/sbin', '/usr/bin', '/bin'])
    for (const name of readdirSync(dir)) if (name !== 'cppcheck') await symlink(join(dir, name), path('bin', name)).catch(() => {});
  for (const name of ['clang-format-14', 'clang-tidy-14']) await symlink('/bin/true', path('bin', name)).catch(() => {});
  return { path, env: { PATH: path('bin'), APT_CONFIG: path('apt.conf'), BUILD: path('build'), HOME: root } };
}

for (const [lock, known] of [['dpkg/lock-frontend', true], ['cache/archives/lock', true], ['state/lists/lock', false]]) {
  test(`another apt-get that holds ${lock} is waited for`, { skip: !canInstall && 'needs root and apt-get' }, async (t) => {
    const { path, env } = await machine(t, { known });
    const holder = startProcess(t, 'perl', ['-e', HOLD, path(lock)], { name: 'holder' });
    await holder.waitLog(/held/);
    const run = startProcess(t, deps, ['lint'], { name: 'deps', env });
    assert.ok(await staysPending(run.exited, 2000), 'it waits');
    holder.kill('SIGKILL');
    const { code } = await within(run.exited, 'the end of deps', 30000);
    if (known) assert.equal(code, 0);
    else assert.match(run.log(), /could not install: cppcheck/); // there is no source to have it from
  });
}
