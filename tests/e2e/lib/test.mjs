// test.mjs: node's test(), with what a failed test needs to be understood, and clean-up that is part of the test.
//
// Resources register with their test: defer(t, fn) runs fn when the test is over, last registered first, and what it throws
// (a process that survived, a sanitizer's finding) fails the test. keepLog(t, name, fn) names a log, printed if the test fails.
import nodeTest from 'node:test';

const states = new WeakMap();

// Everything under a sanitizer takes longer; limits in tests are written for the normal build and multiplied by this.
export const slow = process.env.PEAL_SAN ? 4 : 1;

function stateOf(t) {
  const state = states.get(t);
  if (!state) throw new Error('use the test() of lib/index.mjs: the clean-up hangs on it');
  return state;
}

export function defer(t, fn) {
  stateOf(t).cleanups.push(fn);
}

export function keepLog(t, name, text) {
  stateOf(t).logs.push({ name, text });
}

function printLogs(state, title) {
  for (const { name, text } of state.logs) {
    const all = text();
    const shown = all.length > 40000 ? `(the last 40000 characters)\n${all.slice(-40000)}` : all;
    console.error(`---- ${title}: ${name}\n${shown}`);
  }
}

async function cleanUp(state) {
  const errors = [];
  for (const fn of state.cleanups.reverse()) {
    try {
      await fn();
    } catch (error) {
      errors.push(error);
    }
  }
  return errors;
}

// Set a timeout (milliseconds, default 60 s) in options; it is multiplied under a sanitizer. The clean-up is always run.
export function test(name, options, fn) {
  if (typeof options === 'function') [options, fn] = [{}, options];
  const limit = (options.timeout ?? 60000) * slow;
  // node's own limit is the last resort: on it no clean-up of ours would run.
  return nodeTest(name, { ...options, timeout: limit + 60000 }, async (t) => {
    const state = { cleanups: [], logs: [] };
    states.set(t, state);
    let failure = null;
    let timer;
    try {
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`the test took over ${limit} ms`)), limit);
      });
      await Promise.race([fn(t), late]);
    } catch (error) {
      failure = error;
    } finally {
      clearTimeout(timer);
    }
    const errors = await cleanUp(state);
    if (failure || errors.length > 0) printLogs(state, name);
    for (const error of errors) console.error('in clean-up:', error);
    if (failure) throw failure;
    if (errors.length > 0) throw errors[0];
  });
}
