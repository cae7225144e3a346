#!/usr/bin/env node
// node.mjs: a Socket.IO server as its documentation sets it up, with the relay that Peal has built in: `join` and `publish`.
//
//   node.mjs PORT alone | cluster | redis
//
// alone: one process. cluster: node:cluster with @socket.io/sticky and @socket.io/cluster-adapter. redis: the same number of
// processes with @socket.io/redis-adapter and a redis-server of their own. Both have as many processes as the machine has CPUs, two at least.
// WebSockets only, through `ws`; all that was started ends with this process.
import { spawn } from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { createAdapter as createClusterAdapter, setupPrimary } from '@socket.io/cluster-adapter';
import { createAdapter as createRedisAdapter } from '@socket.io/redis-adapter';
import { setupMaster, setupWorker } from '@socket.io/sticky';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [port, kind] = process.argv.slice(2);

function serve(options) {
  const server = createServer();
  const io = new Server(server, { transports: ['websocket'], ...options });
  io.on('connection', (socket) => {
    socket.on('join', (rooms, done) => {
      socket.join(rooms);
      done?.({ ok: true });
    });
    socket.on('publish', (rooms, event, ...args) => socket.to(rooms).emit(event, ...args));
    socket.on('message-with-ack', (...args) => args.pop()(...args));
  });
  return { io, server };
}

const listen = (server) => once(server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 }), 'listening');

function forkAll() {
  for (let i = Math.max(2, availableParallelism()); i > 0; i--) cluster.fork();
  cluster.on('exit', (worker, code) => {
    console.error(`worker ${worker.process.pid} ended with ${code}`);
    process.exit(1);
  });
}

// Workers say when they serve, so that the port opens when all can.
const workersReady = () => new Promise((resolve) => {
  const workers = new Set(Object.values(cluster.workers));
  cluster.on('message', (worker, message) => {
    if (message === 'ready' && workers.delete(worker) && workers.size === 0) resolve();
  });
});

async function startRedis() {
  const probe = createTcpServer();
  await once(probe.listen(0, '127.0.0.1'), 'listening');
  const redisPort = probe.address().port;
  await new Promise((resolve) => probe.close(resolve));
  const redis = spawn('setpriv', ['--pdeathsig', 'KILL', 'redis-server', '--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--loglevel', 'warning'],
    { stdio: ['ignore', 'inherit', 'inherit'] });
  redis.on('exit', (code) => {
    console.error(`redis-server ended with ${code}`);
    process.exit(1);
  });
  for (;;) {
    const socket = connect(redisPort, '127.0.0.1');
    const open = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
    socket.destroy();
    if (open) return redisPort;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const start = {
  async alone() {
    await listen(serve({}).server);
  },
  async cluster() {
    if (cluster.isPrimary) {
      const server = createServer();
      // Until the worker has confirmed that it has the socket, this process goes on reading from it and drops what comes: the CONNECT of a client that is quick.
      server.on('connection', (socket) => socket.once('data', () => socket._handle.readStop()));
      setupMaster(server, { loadBalancingMethod: 'least-connection' });
      setupPrimary();
      forkAll();
      await workersReady();
      await listen(server);
    } else {
      setupWorker(serve({ adapter: createClusterAdapter() }).io);
      process.send('ready');
    }
  },
  async redis() {
    if (cluster.isPrimary) {
      process.env.PEER_REDIS = `redis://127.0.0.1:${await startRedis()}`;
      forkAll();
      await workersReady();
    } else {
      const pub = createClient({ url: process.env.PEER_REDIS });
      const sub = pub.duplicate();
      await Promise.all([pub.connect(), sub.connect()]);
      await listen(serve({ adapter: createRedisAdapter(pub, sub) }).server);
      process.send('ready');
    }
  },
};

if (!start[kind] || !(port > 0)) {
  console.error('node.mjs PORT alone|cluster|redis');
  process.exit(2);
}
process.on('SIGINT', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
await start[kind]();
