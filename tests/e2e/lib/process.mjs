// process.mjs: child processes of a test, told apart by pid and start time, so that a reused pid is nobody's survivor.
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defer, keepLog } from './test.mjs';
import { waitFor, within } from './wait.mjs';

// {pid, ppid, state, start, name}, or null when there is no such process. A zombie counts as gone.
export function processInfo(pid) {
  let text;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  const close = text.lastIndexOf(')');
  const fields = text.slice(close + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return { pid: Number(pid), ppid: Number(fields[1]), state: fields[0], start: fields[19], name: text.slice(text.indexOf('(') + 1, close) };
}

export function isAlive(process) {
  return processInfo(process.pid)?.start === process.start;
}

// All below pid, children first named.
export function descendants(pid) {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(processInfo).filter(Boolean);
  const found = [];
  const parents = new Set([pid]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const p of all) {
      if (parents.has(p.ppid) && !parents.has(p.pid)) {
        parents.add(p.pid);
        found.push(p);
        grown = true;
      }
    }
  }
  return found;
}

// Those that carry NAME=value in the environment they were started with, whoever is their parent by now.
export function processesMarked(name, value) {
  const mark = `${name}=${value}`;
  const found = [];
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark)) {
        const info = processInfo(pid);
        if (info) found.push(info);
      }
    } catch {
      // Gone meanwhile, or not ours.
    }
  }
  return found;
}

export async function temporaryFolder(t) {
  const path = await mkdtemp(join(tmpdir(), 'peal-e2e-'));
  defer(t, () => rm(path, { recursive: true, force: true }));
  return path;
}

// A port that was free a moment ago. Who can, listens on port 0 instead.
export async function freePort(host = '127.0.0.1') {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, host, resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// Starts a program, keeps what it prints (both streams, as text), and kills it at the end of the test at the latest.
// Gives {pid, child, log(), waitLog(regex), exited, hasExited(), kill(signal)}; exited resolves to {code, signal}.
export function startProcess(t, file, args, { name = file, env = process.env, cwd, stdio } = {}) {
  const child = spawn(file, args, { env, cwd, stdio: stdio ?? ['ignore', 'pipe', 'pipe'] });
  let text = '';
  let result = null;
  const add = (chunk) => {
    text += chunk;
  };
  child.stdout?.setEncoding('utf8').on('data', add);
  child.stderr?.setEncoding('utf8').on('data', add);
  const exited = new Promise((resolve) => {
    child.once('error', (error) => {
      text += `\n(cannot start: ${error.message})\n`;
      resolve((result = { code: null, signal: null, error }));
    });
    child.once('exit', (code, signal) => resolve((result = { code, signal })));
  });
  const self = {
    child,
    pid: child.pid,
    exited,
    hasExited: () => result !== null,
    log: () => text,
    kill: (signal = 'SIGKILL') => child.kill(signal),
    // The match of the first line that fits; an error when the process ends before.
    async waitLog(regex, { timeout = 10000 } = {}) {
      const look = () => {
        const match = text.match(regex);
        if (match) return match;
        return result ? { ended: true } : null;
      };
      const match = await waitFor(look, { timeout, what: () => `${regex} in the log of ${name}` });
      if (match.ended) throw new Error(`${name} ended (${JSON.stringify(result)}) without ${regex} in its log:\n${text.slice(-2000)}`);
      return match;
    },
  };
  keepLog(t, name, self.log);
  defer(t, async () => {
    if (result !== null) return;
    child.kill('SIGKILL');
    await within(exited, `the end of ${name}`, 5000);
  });
  return self;
}
