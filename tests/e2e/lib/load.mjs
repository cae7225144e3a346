// load.mjs: bench/load as the crowd of a test: many clients in C, one JSON object a line.
import { fileURLToPath } from 'node:url';
import { startProcess } from './process.mjs';
import { waitFor } from './wait.mjs';

export const loadBinary = process.env.PEAL_LOAD ?? fileURLToPath(new URL('../../../build/bench/load', import.meta.url));

// Relay for everybody in "/": what the crowd needs.
export const relay = ['--namespace:/:app=relay', '--namespace:/:client_join=yes', '--namespace:/:client_publish=any'];

// Starts `load SCENARIO`, or another program beside it (`binary`); options become flags. Gives the process, lines() (parsed so far), result() (the last line, waited for), say(text).
export function startLoad(t, scenario, options, binary = loadBinary) {
  const flags = Object.entries(options).map(([key, value]) => (value === true ? `--${key}` : `--${key}=${value}`));
  const child = startProcess(t, binary, [scenario, ...flags], { name: `load ${scenario}`, stdio: ['pipe', 'pipe', 'pipe'] });
  const lines = () =>
    child
      .log()
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line));
  return {
    ...child,
    lines,
    last: (event) => lines().findLast((line) => line.event === event),
    say: (text) => child.child.stdin.write(`${text}\n`),
    result: (timeout = 60000) => waitFor(() => lines().find((line) => line.event === 'result'), { timeout, what: `the result of load ${scenario}` }),
  };
}
