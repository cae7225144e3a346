// redis.mjs: a Redis of the test's own, on a free port, that keeps nothing on disk.
import { freePort, startProcess, temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';
import { waitFor, within } from './wait.mjs';

// Gives the process and { url, port, stop(), restart() }: restart brings an empty Redis back on the same port.
export async function startRedis(t, { args = [], port } = {}) {
  const dir = await temporaryFolder(t);
  const self = { port: port ?? (await freePort()) };
  self.url = `redis://127.0.0.1:${self.port}`;
  const launch = async () => {
    const run = startProcess(t, 'redis-server', ['--port', String(self.port), '--bind', '127.0.0.1', '--dir', dir, '--save', '',
      '--appendonly', 'no', '--daemonize', 'no', '--protected-mode', 'no', ...args], { name: `redis ${self.port}` });
    await run.waitLog(/Ready to accept connections/);
    Object.assign(self, run);
  };
  self.stop = async (signal = 'SIGTERM') => {
    if (!self.hasExited()) self.kill(signal);
    return within(self.exited, 'the end of redis');
  };
  self.restart = launch;
  await launch();
  return self;
}

// A connected client of the `redis` package, closed at the end of the test.
export async function redisClient(t, redis, options = {}) {
  const { createClient } = await import('redis'); // half a second of CPU: only who needs it pays it
  const client = createClient({ url: redis.url, ...options });
  client.on('error', () => {}); // while Redis is away, as the test wants it
  await client.connect();
  defer(t, () => (client.isOpen ? client.disconnect() : undefined));
  return client;
}

// Everything that is published, in order: { messages: [{ channel, message: Buffer }] }, without what bridges say to themselves. Waits until it listens.
export async function recordPublishes(t, redis, pattern = '*') {
  const client = await redisClient(t, redis);
  const messages = [];
  const add = (message, channel) => {
    if (!channel.includes('-probe#')) messages.push({ channel: channel.toString(), message });
  };
  await client.pSubscribe(pattern, add, true);
  return { messages, waitFor: (condition, options) => waitFor(() => messages.find(condition), { what: 'a publish', ...options }) };
}
