// node-server-child.mjs: the other end of node-server.mjs. Ends with its parent.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient, createCluster } from 'redis';

const context = { io: null, emitter: null, pub: null, sub: null, state: {} };

async function start({ redisUrl, rootNodes, options, adapter, port = 0 }) {
  // What is not for Socket.IO would wait for ever.
  const server = createServer((req, res) => res.writeHead(404).end('not found'));
  context.io = new Server(server, options);
  if (adapter.sharded) {
    const { sharded, ...rest } = adapter;
    context.pub = rootNodes ? createCluster({ rootNodes, useReplicas: false }) : createClient({ url: redisUrl });
    context.sub = context.pub.duplicate();
    for (const client of [context.pub, context.sub]) client.on('error', (error) => console.error('redis:', error.message));
    await Promise.all([context.pub.connect(), context.sub.connect()]);
    context.io.adapter(createShardedAdapter(context.pub, context.sub, rest));
    context.io.of('/');
  } else if (redisUrl) {
    context.pub = createClient({ url: redisUrl });
    context.sub = context.pub.duplicate();
    for (const client of [context.pub, context.sub]) client.on('error', (error) => console.error('redis:', error.message));
    await Promise.all([context.pub.connect(), context.sub.connect()]);
    context.io.adapter(createAdapter(context.pub, context.sub, adapter));
    context.emitter = new Emitter(context.pub, adapter.key === undefined ? {} : { key: adapter.key });
    // The adapter subscribes without telling when it has: wait until this connection's subscriptions stand.
    context.io.of('/');
    await context.sub.ping();
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
