// rungs.test.mjs: every rung of the ladder of kernel features serves alike; where io_uring is refused, Peal ends within a second and says what to change.
// @test parallel no-asan timeout=120
import assert from 'node:assert/strict';
import { access, chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { frame, OP, pealBinary, rawWebSocket, slow, startPeal, temporaryFolder, test, waitFor } from './lib/index.mjs';
import { FANOUT_CONFIG, fanOut, roomOf } from './lib/fanout.mjs';
import { sameWorkers, workersOf } from './lib/engine.mjs';

for (const rung of ['1', '2', '3']) {
  test(`PEAL_RUNG=${rung}: 100 clients, 8 publishers with 500 messages each, one order, exactly once`, { timeout: 60000 }, async (t) => {
    const peal = await startPeal(t, { options: { workers: 4, echo: true }, config: FANOUT_CONFIG, env: { PEAL_RUNG: rung } });
    if (peal.readyFields.rung !== rung) return t.skip(`this kernel goes up to rung ${peal.readyFields.rung}`);
    const workers = workersOf(peal);
    await fanOut(await roomOf(t, peal, 100), { publishers: 8, messages: 500 });
    const echo = await rawWebSocket(t, peal.port, '/echo');
    echo.write(Buffer.concat([frame(OP.BINARY, Buffer.alloc(900000, 1)), frame(OP.TEXT, 'end')]));
    assert.equal((await echo.nextFrame()).payload.length, 900000);
    assert.equal((await echo.nextFrame()).payload.toString(), 'end');
    sameWorkers(peal, workers);
    return undefined;
  });
}

// Ends by itself within a second, code 1, one line on an error, which names cause and remedy.
async function refuses(t, start, line) {
  const began = performance.now();
  const peal = await startPeal(t, { ready: false, ...start });
  assert.deepEqual(await peal.exited, { code: 1, signal: null });
  const took = performance.now() - began;
  assert.ok(took < 1000 * slow, `ended after ${took} ms`);
  await waitFor(() => line.test(peal.log()), { what: line });
  const lines = peal.log().split('\n').filter((text) => /level=(error|warning)/.test(text));
  assert.equal(lines.length, 1, peal.log());
  assert.match(lines[0], line);
  assert.doesNotMatch(peal.log(), /event=ready/);
}

test('a rung that there is not is refused, with cause and remedy', async (t) => {
  for (const rung of ['0', '4', 'x', '12']) {
    await refuses(t, { env: { PEAL_RUNG: rung } }, new RegExp(`PEAL_RUNG=${rung} is not supported.*unset PEAL_RUNG`));
  }
});

test('where seccomp refuses io_uring, Peal ends and says so', async (t) => {
  const build = process.env.PEAL_BUILD ?? fileURLToPath(new URL('../../build', import.meta.url));
  const launcher = `${build}/tests/fault/no_uring`;
  try {
    await access(launcher);
  } catch {
    return t.skip('tests/fault/no_uring is not built');
  }
  // startPeal starts one program: a script that runs the server behind the filter.
  const script = join(await temporaryFolder(t), 'peal');
  await writeFile(script, `#!/bin/sh\nexec '${launcher}' '${pealBinary}' "$@"\n`);
  await chmod(script, 0o755);
  await refuses(t, { bin: script }, /io_uring is refused \(EPERM\).*seccomp.*allow io_uring_setup/);
  return undefined;
});
