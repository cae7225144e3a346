// crowd.mjs: many real socket.io-clients in several processes, in small groups that talk among themselves.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { defer, slow } from './test.mjs';
import { within } from './wait.mjs';

const CHILD = fileURLToPath(new URL('./crowd-child.mjs', import.meta.url));

// patterns: the transports of each member of a group (null: the client's default); groups of them; each member publishes `count` numbers in about
// `seconds` to the others. Gives { clients, deliveries, acknowledged, missing, faults, wrong, nFaults, nWrong, leave() } when all is heard or
// patience (seconds) is at its end: the clients stay until leave().
export async function runCrowd(t, url, { patterns, groups, count, seconds, processes = 2, patience = 30, batch = 4 }) {
  const parts = [];
  for (let p = 0, first = 0; p < processes; p++) {
    const n = Math.floor((groups * (p + 1)) / processes) - first;
    parts.push({ first, groups: n });
    first += n;
  }
  const limit = (seconds * 2 + patience * 3) * 1000;
  const children = [];
  const results = await Promise.all(parts.map(async (part) => {
    const child = fork(CHILD, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    children.push(child);
    defer(t, () => child.kill('SIGKILL'));
    const answer = new Promise((resolve, reject) => {
      child.once('message', ({ result, error }) => (error ? reject(new Error(`in the crowd: ${error}`)) : resolve(result)));
      child.once('exit', (code) => reject(new Error(`a process of the crowd ended with ${code}`)));
    });
    child.send({ run: { url, patterns, count, seconds, batch, patience: patience * slow, ...part } });
    return within(answer, 'the crowd', limit);
  }));
  const sum = (key) => results.reduce((n, result) => n + result[key], 0);
  const total = Object.fromEntries(['clients', 'deliveries', 'acknowledged', 'missing', 'nFaults', 'nWrong'].map((key) => [key, sum(key)]));
  return {
    ...total,
    faults: results.flatMap(({ faults }) => faults),
    wrong: results.flatMap(({ wrong }) => wrong),
    leave: () => Promise.all(children.map((child) => new Promise((resolve) => {
      child.once('exit', resolve);
      child.send({ leave: true });
    }))),
  };
}
