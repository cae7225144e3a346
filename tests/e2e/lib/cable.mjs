// cable.mjs: a network namespace with two cables to ours: one that a test may cut, one for everything else.
import { execFileSync } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';

let count = 0;

const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe' });

// Lays a cable: { near, far }, the addresses of its ends.
function lay(t, namespace, name, net, host) {
  const [near, far] = [`${net}.${host}`, `${net}.${host + 1}`];
  ip('link', 'add', `${name}n`, 'type', 'veth', 'peer', 'name', `${name}f`, 'netns', namespace);
  defer(t, () => ip('link', 'del', `${name}n`));
  ip('addr', 'add', `${near}/30`, 'dev', `${name}n`);
  ip('-n', namespace, 'addr', 'add', `${far}/30`, 'dev', `${name}f`);
  ip('link', 'set', `${name}n`, 'up');
  ip('-n', namespace, 'link', 'set', `${name}f`, 'up');
  return { near, far, name: `${name}n` };
}

// Gives null where that is not allowed, the test then is skipped with the reason; else { cable, line, inside(program) } with cable and line the two
// cables ({ near, far } addresses; near is ours). cable can be cut: unplug() and plug(); or lose everything without a sign: swallow() and pass().
// inside(program) is the path of a script that runs it in the namespace.
export async function startNamespace(t) {
  const name = `peal-${process.pid}-${++count}`;
  const short = `p${process.pid}x${count}`; // names of devices have at most 15 characters
  const net = `10.${64 + (process.pid % 64)}.${(process.pid >> 6) % 256}`;
  let cable, line;
  try {
    ip('netns', 'add', name);
    defer(t, () => ip('netns', 'del', name));
    ip('-n', name, 'link', 'set', 'lo', 'up');
    cable = lay(t, name, `${short}a`, net, 8 * count + 1);
    line = lay(t, name, `${short}b`, net, 8 * count + 5);
  } catch (error) {
    t.skip(`no network namespaces here: ${error.stderr || error.message}`);
    return null;
  }
  const folder = await temporaryFolder(t);
  const blackhole = (what) => ip('route', what, 'blackhole', `${cable.far}/32`);
  return {
    line,
    cable: {
      ...cable,
      unplug: () => ip('link', 'set', cable.name, 'down'),
      plug: () => ip('link', 'set', cable.name, 'up'),
      swallow: () => blackhole('add'),
      pass: () => blackhole('del'),
    },
    async inside(program) {
      const path = join(folder, 'inside');
      await writeFile(path, `#!/bin/sh\nexec ip netns exec ${name} '${program}' "$@"\n`);
      await chmod(path, 0o755);
      return path;
    },
  };
}
