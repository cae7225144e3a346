// promtool.mjs: Prometheus' own judge of what it will be given.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { fileURLToPath } from 'node:url';

function find() {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  const build = process.env.BUILD?.startsWith('/') ? process.env.BUILD : `${root}/${process.env.BUILD ?? 'build'}`;
  const places = [process.env.PROMTOOL, `${process.env.PEAL_TOOLS}/promtool`, `${build}/tools/promtool`, `${root}/build/tools/promtool`, ...process.env.PATH.split(':').map((dir) => `${dir}/promtool`)];
  const found = places.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error('no promtool: set PROMTOOL, or run .ci/deps e2e');
  return found;
}

// promtool('check', 'metrics', { input: text }) → { code, said }
export async function promtool(...args) {
  const { input = '', cwd } = typeof args.at(-1) === 'object' ? args.pop() : {};
  const child = spawn(find(), args, { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  child.stderr.on('data', (chunk) => (said += chunk));
  child.stdin.on('error', () => {}); // it need not read
  child.stdin.end(input);
  const code = await new Promise((resolve) => child.on('close', resolve));
  return { code, said };
}
