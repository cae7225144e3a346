// peal.mjs: a Peal under test. Free ports, its log parsed, and at the end: did it stop, did all of it, and was it healthy?
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchText } from './http.mjs';
import { parseMetrics } from './metrics.mjs';
import { descendants, isAlive, processesMarked, processInfo, startProcess, temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';
import { waitFor, within } from './wait.mjs';

export const pealBinary = process.env.PEAL_BIN ?? fileURLToPath(new URL('../../../build/peal', import.meta.url));

const SANITIZER = /ERROR: (Address|Leak|Thread|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed/;

// What a test wants unless it says otherwise: free ports, and a drain that does not wait for load balancers.
const DEFAULTS = { listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', workers: 2, drain_grace: '0s', drain_timeout: '2s' };

// `event=ready listen=127.0.0.1:3000 text="a \"b\""` → { event: 'ready', … }
export function parseLogLine(line) {
  const fields = {};
  for (const [, key, quoted, plain] of line.matchAll(/([A-Za-z_][\w.]*)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g)) {
    fields[key] = quoted === undefined ? plain : quoted.replace(/\\(.)/g, '$1');
  }
  return fields;
}

// "127.0.0.1:3000", "[::]:3000" or "unix:/path" → { host, port } or { path }; of several the first.
export function parseAddress(text) {
  const first = text.split(',')[0];
  if (first.startsWith('unix:')) return { path: first.slice(5) };
  const colon = first.lastIndexOf(':');
  return { host: first.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(first.slice(colon + 1)) };
}

function flagsOf(options, args) {
  // A repeated key is an error of the user's: what a test names itself replaces the default.
  const named = new Set(args.map((arg) => /^--([^=:]+)/.exec(arg)?.[1].replaceAll('-', '_')));
  const merged = { ...DEFAULTS, ...options };
  const flags = [];
  for (const [key, value] of Object.entries(merged)) {
    if (value === null || named.has(key)) continue;
    const text = value === true ? 'yes' : value === false ? 'no' : String(value);
    flags.push(`--${key}=${text}`);
  }
  return [...flags, ...args];
}

// The environment of the test runner is no configuration of the server: PEAL_… and REDIS_URL are what the test gives.
function cleanEnvironment(extra) {
  const env = {};
  for (const [key, value] of Object.entries(process.env)) {
    if (!key.startsWith('PEAL_') && key !== 'REDIS_URL') env[key] = value;
  }
  return { ...env, ...extra };
}

// Starts `peal serve` and waits until it is ready.
//   options   configuration as an object ({ workers: 4, demo: true }); null drops a default
//   args      further flags as they are          config   text of an INI file          env   further environment
//   ready     false: do not wait (a start that must fail: await .exited, read .log())
//   bin       the binary, default $PEAL_BIN
// Gives the process (see process.mjs) and { url, wsUrl, host, port, adminUrl, adminPort, workers, events(name),
// waitEvent(name), children(), metrics(), api(path), stop(signal) }.
export async function startPeal(t, { options = {}, args = [], config, env = {}, ready = true, bin = pealBinary, name = 'peal', startTimeout = 10000 } = {}) {
  const mark = randomUUID();
  const fileFlags = [];
  if (config !== undefined) {
    const path = join(await temporaryFolder(t), 'peal.ini');
    await writeFile(path, config);
    fileFlags.push('--config', path);
  }
  const process_ = startProcess(t, bin, ['serve', ...fileFlags, ...flagsOf(options, args)], {
    name,
    env: cleanEnvironment({ ...env, TEST_MARK: mark }),
  });
  const known = new Map();
  const remember = () => {
    const all = process_.pid === undefined ? [] : [processInfo(process_.pid), ...descendants(process_.pid), ...processesMarked('TEST_MARK', mark)];
    for (const p of all.filter(Boolean)) known.set(`${p.pid}/${p.start}`, p);
  };
  const alive = () => [...known.values()].filter(isAlive);
  const survivors = () => {
    remember();
    return alive();
  };
  let stopped = false;
  let wasReady = false;
  const self = {
    ...process_,
    events: (event) => process_.log().split('\n').map(parseLogLine).filter((fields) => event === undefined || fields.event === event),
    waitEvent: (event, { timeout = 10000, where = () => true } = {}) =>
      waitFor(() => self.events(event).find(where), { timeout, what: `event=${event} in the log of ${name}` }),
    // Processes below the master, living ones.
    children: () => descendants(process_.pid),
    metrics: async () => parseMetrics(await fetchText(`${self.adminUrl}/metrics`)),
    api: async (path) => JSON.parse(await fetchText(`${self.adminUrl}/api/${path}`)),
    // Sends the signal (null: it is ending by itself; code null: any exit will do), waits for the end, and for the end of every process of it.
    async stop(signal = 'SIGTERM', { timeout = 15000, code = 0, survivorTimeout = 7000 } = {}) {
      stopped = true;
      remember();
      if (signal !== null && !process_.hasExited()) process_.kill(signal);
      const result = await within(process_.exited, `the end of ${name} after ${signal}`, timeout);
      // Looking through all processes is dear: only when those that were known are gone.
      await waitFor(() => alive().length === 0 && survivors().length === 0, {
        timeout: survivorTimeout,
        what: () => `the end of ${survivors().map((p) => `${p.name}(${p.pid})`).join(', ')}, which outlived ${name}`,
      });
      self.checkHealth();
      if (code !== null && signal !== 'SIGKILL' && result.code !== code) {
        throw new Error(`${name} ended with ${JSON.stringify(result)} instead of code ${code}`);
      }
      return result;
    },
    // Throws when the log holds a sanitizer's report or a failed assertion.
    checkHealth() {
      const found = SANITIZER.exec(process_.log());
      if (found) throw new Error(`${name} reported: ${found[0]}`);
    },
  };
  defer(t, async () => {
    try {
      if (!stopped) await self.stop(process_.hasExited() ? null : 'SIGTERM', { code: wasReady ? 0 : null });
    } finally {
      // Whatever went wrong, nothing of it stays behind.
      for (const p of survivors()) {
        try {
          process.kill(p.pid, 'SIGKILL');
        } catch {
          // Gone in between.
        }
      }
    }
  });
  if (!ready) return self;
  const [line] = await process_.waitLog(/^.*\bevent=ready\b.*$/m, { timeout: startTimeout });
  wasReady = true;
  const fields = parseLogLine(line);
  const client = parseAddress(fields.listen);
  const admin = parseAddress(fields.admin);
  remember();
  return Object.assign(self, {
    host: client.host,
    port: client.port,
    url: `http://${client.host}:${client.port}`,
    wsUrl: `ws://${client.host}:${client.port}`,
    adminHost: admin.host,
    adminPort: admin.port,
    adminUrl: `http://${admin.host}:${admin.port}`,
    workers: Number(fields.workers),
    readyFields: fields,
  });
}
