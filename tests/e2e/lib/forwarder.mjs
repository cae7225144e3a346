// forwarder.mjs: a TCP proxy of the test: a load balancer that asks who is ready, or a network that breaks.
import { connect, createServer } from 'node:net';
import { resetSocket } from './raw.mjs';
import { defer } from './test.mjs';

// pick() gives { host, port } (or null: the connection is refused) for each new connection; a promise is fine.
// Gives { port, url, connections(), cut() (resets all), pause() / resume() (bytes stop, connections stay), accept(yes) }.
export async function startForwarder(t, pick) {
  const pairs = new Set();
  let accepting = true;
  let paused = false;
  const server = createServer({ allowHalfOpen: true }, async (inner) => {
    inner.on('error', () => {});
    const target = accepting ? await Promise.resolve(pick()).catch(() => null) : null;
    if (!target) {
      resetSocket(inner);
      return;
    }
    const outer = connect({ host: '127.0.0.1', ...target, allowHalfOpen: true });
    const pair = { inner, outer, target };
    pairs.add(pair);
    const drop = () => {
      pairs.delete(pair);
      inner.destroy();
      outer.destroy();
    };
    outer.on('error', () => resetSocket(inner));
    inner.on('error', () => resetSocket(outer));
    inner.on('close', drop);
    outer.on('close', drop);
    inner.pipe(outer);
    outer.pipe(inner);
    if (paused) for (const socket of [inner, outer]) socket.pause();
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const cut = () => {
    for (const { inner, outer } of pairs) {
      resetSocket(inner);
      resetSocket(outer);
    }
  };
  const each = (method) => {
    for (const { inner, outer } of pairs) {
      inner[method]();
      outer[method]();
    }
  };
  defer(t, async () => {
    cut();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    connections: () => [...pairs],
    cut,
    pause: () => {
      paused = true;
      each('pause');
    },
    resume: () => {
      paused = false;
      each('resume');
    },
    accept: (yes) => {
      accepting = yes;
    },
  };
}
