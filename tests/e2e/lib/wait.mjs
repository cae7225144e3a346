// wait.mjs: waiting for events, never for time to pass.
import { setTimeout as sleep } from 'node:timers/promises';
import { slow } from './test.mjs';

export { sleep };

// Calls condition until what it gives is truthy, and gives that. Time in milliseconds, more under a sanitizer.
export async function waitFor(condition, { timeout = 5000, interval = 10, what = 'condition' } = {}) {
  const end = performance.now() + timeout * slow;
  let last;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= end) {
      const name = typeof what === 'function' ? what() : what;
      throw new Error(`waited ${timeout * slow} ms for ${name}`, { cause: last });
    }
    await sleep(interval);
  }
}

// The promise, or an error that names what did not come in time.
export async function within(promise, what, timeout = 5000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeout * slow} ms for ${what}`)), timeout * slow);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// The arguments of the next such event of an emitter.
export function once(emitter, event, { timeout = 5000 } = {}) {
  let listener;
  const seen = new Promise((resolve) => {
    listener = (...args) => resolve(args);
    emitter.once(event, listener);
  });
  return within(seen, `event ${String(event)}`, timeout).finally(() => emitter.off(event, listener));
}
