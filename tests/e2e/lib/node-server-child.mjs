// node-server-child.mjs: the other end of node-server.mjs. Ends with its parent.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { Emitter } from '@socket.io/redis-emitter';

const context = { io: null, emitter: null, pub: null, sub: null, state: {} };

// A client of one of the three packages that the adapter takes; each takes half a second of CPU to load.
async function newClient(library, url, rootNodes) {
  const { createClient, createCluster, Redis } = await import(library ?? 'redis');
  if (rootNodes) return createCluster({ rootNodes, useReplicas: false });
  return library === 'ioredis' ? new Redis(url, { lazyConnect: true }) : createClient({ url });
}

// Two of them, connected.
async function connect(library, url, rootNodes) {
  const pub = await newClient(library, url, rootNodes);
  const sub = pub.duplicate();
  for (const client of [pub, sub]) client.on('error', (error) => console.error('redis:', error.message));
  await Promise.all([pub.connect(), sub.connect()]);
  return { pub, sub };
}

async function start({ redisUrl, rootNodes, library, options, adapter, port = 0 }) {
  // What is not for Socket.IO would wait for ever.
  const server = createServer((req, res) => res.writeHead(404).end('not found'));
  context.io = new Server(server, options);
  if (redisUrl) Object.assign(context, await connect(library, redisUrl, rootNodes));
  if (adapter.sharded) {
    const { sharded, ...rest } = adapter;
    context.io.adapter(createShardedAdapter(context.pub, context.sub, rest));
    context.io.of('/');
  } else if (redisUrl) {
    context.io.adapter(createAdapter(context.pub, context.sub, adapter));
    context.emitter = new Emitter(context.pub, adapter.key === undefined ? {} : { key: adapter.key });
    // The adapter subscribes without telling when it has: Redis knows the channel that is this server's alone, the last one.
    const { specificResponseChannel } = context.io.of('/').adapter;
    const words = ['PUBSUB', 'CHANNELS', specificResponseChannel];
    const channels = () => (library === 'ioredis' ? context.pub.call(...words) : context.pub.sendCommand(words));
    while ((await channels()).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { port: server.address().port };
}

process.on('message', async ({ id, kind, source, args, ...rest }) => {
  try {
    // The function comes from the test itself.
    const value = kind === 'start' ? await start(rest) : await (0, eval)(`(${source})`)(context, ...args);
    process.send({ id, value });
  } catch (error) {
    process.send({ id, error: error.stack ?? String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
