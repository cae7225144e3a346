// node-server.mjs: a real Socket.IO server with the real Redis adapter and emitter, in a process of its own.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { defer, keepLog } from './test.mjs';
import { within } from './wait.mjs';

const CHILD = fileURLToPath(new URL('./node-server-child.mjs', import.meta.url));

// Starts one on a free port, or on `port`. redis: { url }, of a cluster { rootNodes }. library: 'redis' (4), 'redis5' or 'ioredis'; options: of `new Server()`;
// adapter: of createAdapter(), with `sharded: true` of createShardedAdapter(); setup: a function run first in the child.
// Gives { url, port, pid, run(fn, ...args), stop(signal) }. run sends the function's text to the child and calls it there with
// ({ io, emitter, pub, state }, ...args); state is an object of the child for the test's own use, results and arguments are
// structured clones (Buffers too). It cannot see variables of the test: pass them.
export async function startNodeServer(t, { redis, library = 'redis', options = {}, adapter = {}, setup, port } = {}) {
  const child = fork(CHILD, [], { serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const waiting = new Map();
  let log = '';
  let next = 1;
  let ended = false;
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => (log += chunk));
  const exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
  exited.then((result) => {
    ended = true;
    for (const { reject } of waiting.values()) reject(new Error(`the node server ended: ${JSON.stringify(result)}\n${log}`));
    waiting.clear();
  });
  child.on('message', ({ id, error, value }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error !== undefined) call?.reject(new Error(`in the node server: ${error}`));
    else call?.resolve(value);
  });
  const call = (message, timeout = 10000) => {
    if (ended) return Promise.reject(new Error('the node server has ended'));
    const id = next++;
    const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    child.send({ ...message, id });
    return within(answer, 'the node server', timeout).finally(() => waiting.delete(id));
  };
  const stop = async (signal = 'SIGKILL') => {
    if (!ended) child.kill(signal);
    return within(exited, 'the end of the node server');
  };
  keepLog(t, `node server ${child.pid}`, () => log);
  defer(t, () => stop());
  const run = (fn, ...args) => call({ kind: 'run', source: fn.toString(), args });
  const started = await call({ kind: 'start', redisUrl: redis?.url, rootNodes: redis?.rootNodes, library, options, adapter, port }, 30000);
  if (setup) await run(setup);
  return { port: started.port, url: `http://127.0.0.1:${started.port}`, pid: child.pid, run, stop, exited, log: () => log };
}
