// swarm.mjs: many real socket.io-clients in several processes that live through whatever happens to their servers, and keep a diary of it.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { defer } from './test.mjs';
import { within } from './wait.mjs';

const CHILD = fileURLToPath(new URL('./swarm-child.mjs', import.meta.url));

// groups: [{ n, options, address }]: n clients with these options of io(); address(i): the source address of the i-th of its group.
// batch: as many connect at a time. Gives
//   diaries()   [{ group, index, connected, host, transport, opens: [{ at, host }], ends: [{ at, host, reason, text }], errors: [{ at, text }], heard: [value] }]
//               at in ms since the epoch; host: the first four characters of the session's id, which for Peal say which run of which host made it; heard: the
//               argument of each event 'n'
//   leave()     all disconnect
export async function startSwarm(t, url, groups, { processes = 2, batch = 25, timeout = 60000 } = {}) {
  const parts = Array.from({ length: processes }, () => []);
  groups.forEach(({ n, options = {}, address }, group) => {
    for (let index = 0; index < n; index++) parts[index % processes].push({ group, index, options, address: address?.(index) });
  });
  let next = 1;
  const children = parts.map((clients) => {
    const child = fork(CHILD, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    defer(t, () => child.kill('SIGKILL'));
    const gone = new Promise((_, reject) => child.once('exit', (code) => reject(new Error(`a process of the swarm ended with ${code}`))));
    gone.catch(() => {});
    const ask = (message, limit = 30000) => {
      const id = next++;
      const answer = new Promise((resolve, reject) => {
        const onMessage = (reply) => {
          if (reply.id !== id) return;
          child.off('message', onMessage);
          if (reply.error) reject(new Error(`in the swarm: ${reply.error}`));
          else resolve(reply.value);
        };
        child.on('message', onMessage);
        child.send({ id, ...message });
      });
      return within(Promise.race([answer, gone]), `the swarm: ${Object.keys(message)[0]}`, limit);
    };
    return { ask, clients };
  });
  await Promise.all(children.map(({ ask, clients }) => ask({ open: { url, clients, batch: Math.ceil(batch / processes) } }, timeout)));
  return {
    diaries: async () => (await Promise.all(children.map(({ ask }) => ask({ diaries: true })))).flat(),
    leave: () => Promise.all(children.map(({ ask }) => ask({ leave: true }))),
  };
}
