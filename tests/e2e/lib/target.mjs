// target.mjs: one test, two servers. Peal is tested; with PEAL_TEST_TARGET=node the test itself is, against the real Socket.IO server.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { httpRequest } from './http.mjs';
import { startNodeServer } from './node-server.mjs';
import { pealBinary, startPeal } from './peal.mjs';
import { slow } from './test.mjs';

export const onNode = process.env.PEAL_TEST_TARGET === 'node';

const fleet = (workers, balance) => ({ name: `${workers} worker${workers > 1 ? 's' : ''}, ${balance}`, workers, balance });

// 1 and 4 workers and each way a connection finds its worker. A sanitizer is after other things than these differences; Node has one process.
export const FLEETS = onNode
  ? [{ name: 'node', workers: 1 }]
  : slow > 1
    ? [fleet(1, 'leastconn'), fleet(4, 'reuseport')]
    : [1, 4].flatMap((workers) => ['leastconn', 'reuseport', 'iphash'].map((balance) => fleet(workers, balance)));

// The module that does what the official test suite wants of a server (tests/modules/conformance.c).
export function conformanceModule() {
  const build = dirname(pealBinary);
  const places = [join(build, 'modules/conformance.so'), join(build, 'tests/modules/conformance.so')];
  const found = places.find((place) => existsSync(place));
  if (!found) throw new Error(`the conformance module is not built: neither ${places.join(' nor ')} exists`);
  return found;
}

// What Peal is told for an application, and the function that is the same application on a Node server.
const APPS = {
  // client_join and client_publish as open as they get
  relay: {
    config: () => ['/', '/chat'].map((name) => `[namespace "${name}"]\napp = relay\nclient_join = yes\nclient_publish = any\n`).join(''),
    setup: ({ io }) => {
      for (const nsp of [io.of('/'), io.of('/chat')]) {
        nsp.on('connection', (socket) => {
          const done = { ok: true };
          socket.on('join', async (rooms, ok) => {
            await socket.join(rooms);
            ok?.(done);
          });
          socket.on('leave', async (rooms, ok) => {
            for (const room of [rooms].flat()) await socket.leave(room);
            ok?.(done);
          });
          socket.on('publish', (rooms, ...args) => {
            const ok = typeof args.at(-1) === 'function' ? args.pop() : () => {};
            socket.to(rooms).emit(...args);
            ok(done);
          });
        });
      }
    },
  },
  // What served when vectors/ was recorded; Peal has no such application, the conformance module comes near (see recorded.mjs).
  recorded: {
    config: () => APPS.conformance.config() + `[namespace "/dyn-*"]\napp = module:${conformanceModule()}\n`,
    setup: ({ io }) => {
      const serve = (nsp) =>
        nsp.on('connection', (socket) => {
          socket.on('echo', (...args) => {
            const ack = typeof args.at(-1) === 'function' ? args.pop() : null;
            if (ack) ack(...args);
            else socket.emit('echoed', ...args);
          });
          socket.on('askme', (...args) => socket.emit(...args, (...answer) => socket.emit('answer', ...answer)));
          socket.on('big', (n) => socket.emit('big', 'x'.repeat(n)));
          socket.on('bye', (close) => socket.disconnect(close));
          socket.on('three', () => {
            socket.emit('a', 1);
            socket.emit('b', Buffer.from([1, 2, 3]));
            socket.emit('c', '€😀');
          });
        });
      const refuse = (nsp, make) => nsp.use((socket, next) => next(make(socket)));
      for (const nsp of [io.of('/'), io.of('/chat'), io.of(/^\/dyn-\d+$/)]) serve(nsp);
      refuse(io.of('/deny'), (socket) => Object.assign(new Error('Not authorized'), { data: { code: 401, auth: socket.handshake.auth } }));
      refuse(io.of('/deny2'), () => new Error('no data'));
    },
  },
  conformance: {
    config: () => ['/', '/custom', '/chat'].map((name) => `[namespace "${name}"]\napp = module:${conformanceModule()}\n`).join(''),
    setup: ({ io }) => {
      for (const nsp of [io.of('/'), io.of('/custom'), io.of('/chat')]) {
        nsp.on('connection', (socket) => {
          socket.emit('auth', socket.handshake.auth);
          socket.on('message', (...args) => socket.emit('message-back', ...args));
          socket.on('message-with-ack', (...args) => {
            const ack = args.pop();
            ack(...args);
          });
          socket.on('join', async (room, ack) => {
            await socket.join(room);
            ack?.();
          });
          socket.on('leave', async (room, ack) => {
            await socket.leave(room);
            ack?.();
          });
          socket.on('to', (room, event, ...args) => nsp.to(room).emit(event, ...args));
        });
      }
    },
  },
};

const MILLISECONDS = { pingInterval: 'ping_interval', pingTimeout: 'ping_timeout', upgradeTimeout: 'upgrade_timeout', connectTimeout: 'connect_timeout' };

// Starts the target. Options by their Socket.IO names: pingInterval, pingTimeout, upgradeTimeout, connectTimeout (ms), maxHttpBufferSize,
// transports; port: another than a free one; peal: further keys for Peal only, node: for the Node server only. Gives what startPeal or startNodeServer gives, and
//   disconnect(room, { close, nsp, id })    the server disconnects all in a room, or the socket with that id
export async function startTarget(t, { app = 'relay', workers = 2, balance = 'leastconn', name = 'target', port, transports, maxHttpBufferSize, peal = {}, node = {}, ...times } = {}) {
  const { config, setup } = APPS[app];
  if (onNode) {
    const options = { ...times, ...node };
    if (transports) options.transports = transports;
    if (maxHttpBufferSize) options.maxHttpBufferSize = maxHttpBufferSize;
    const server = await startNodeServer(t, { options, setup, port });
    return Object.assign(server, {
      disconnect: (room, { close = false, nsp = '/', id } = {}) => server.run(({ io }, n, r, c) => void io.of(n).in(r).disconnectSockets(c), nsp, id ?? room, close),
    });
  }
  // Sessions of a test that has ended and asks no more would keep a drain waiting to its end.
  const options = { workers, balance, drain_timeout: '100ms', ...peal };
  for (const [key, value] of Object.entries(times)) options[MILLISECONDS[key]] = `${value}ms`;
  if (port) options.listen = `127.0.0.1:${port}`;
  if (transports) options.transports = transports.join(', ');
  if (maxHttpBufferSize) options.max_message_bytes = maxHttpBufferSize;
  const server = await startPeal(t, { name, config: config(), options });
  return Object.assign(server, {
    async disconnect(room, { close = false, nsp = '/', id } = {}) {
      const body = JSON.stringify({ namespace: nsp, ...(id ? { id } : { rooms: [room] }), close });
      const answer = await httpRequest(`${server.adminUrl}/api/disconnect`, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
      if (answer.status !== 200) throw new Error(`/api/disconnect: ${answer.status} ${answer.body}`);
    },
  });
}

// Cases as parts of one test, beside each other, with one server: each named in the report; the first failure fails the test, so that its logs
// are printed. cases: { name: async (…args) => … }.
export async function runCases(t, cases, ...args) {
  const failures = [];
  await Promise.all(Object.entries(cases).map(([name, fn]) =>
    t.test(name, async () => {
      try {
        await fn(t, ...args);
      } catch (error) {
        failures.push(error);
        throw error;
      }
    })));
  if (failures.length > 0) throw failures[0];
}
