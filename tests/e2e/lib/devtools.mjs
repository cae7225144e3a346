// devtools.mjs: Chromium's tabs by its own protocol, for what playwright keeps from a page: to be in the background, and to be frozen there.
import { writeFile } from 'node:fs/promises';
import WebSocket from 'ws';
import { startProcess, temporaryFolder } from './process.mjs';
import { defer } from './test.mjs';
import { once, waitFor, within } from './wait.mjs';

// Gives { open(url, content) → a tab: { evaluate(expression), front(), freeze(yes), picture(path) } }. content as in browser.mjs.
export async function startTabs(t, { executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium' } = {}) {
  const profile = await temporaryFolder(t);
  const run = startProcess(t, executablePath, ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
    '--no-first-run', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'], { name: 'chromium' });
  const [, url] = await run.waitLog(/DevTools listening on (ws:\S+)/, { timeout: 30000 });
  const socket = new WebSocket(url);
  await once(socket, 'open');
  const waiting = new Map();
  let last = 0;
  socket.on('message', (data) => {
    const { id, error, result } = JSON.parse(data);
    const call = waiting.get(id);
    waiting.delete(id);
    if (error) call?.reject(new Error(`devtools: ${error.message}`));
    else call?.resolve(result);
  });
  const send = (method, params = {}, sessionId = undefined) => {
    const id = ++last;
    const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    socket.send(JSON.stringify({ id, method, params, sessionId }));
    return within(answer, `the answer to ${method}`, 10000);
  };
  defer(t, async () => {
    // Orderly, so that no process of it stays and its profile can be removed.
    await send('Browser.close').catch(() => {});
    socket.terminate();
    await within(run.exited, 'the end of chromium', 10000);
  });
  return { open: (address, content) => openTab(send, address, content) };
}

async function openTab(send, address, content) {
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true }, sessionId);
    if (exceptionDetails) throw new Error(`in the page: ${exceptionDetails.text} ${exceptionDetails.exception?.description ?? ''}`);
    return result.value;
  };
  await send('Target.activateTarget', { targetId });
  await send('Page.enable', {}, sessionId);
  await send('Page.navigate', { url: address }, sessionId);
  await waitFor(async () => (await evaluate('location.href + " " + document.readyState')) === `${address} complete`, { timeout: 15000, what: `${address} in a tab` });
  await evaluate(`document.open(); document.write(${JSON.stringify(content)}); document.close();`);
  return {
    evaluate,
    front: () => send('Target.activateTarget', { targetId }),
    freeze: (yes) => send('Page.setWebLifecycleState', { state: yes ? 'frozen' : 'active' }, sessionId),
    async picture(path) {
      const { data } = await send('Page.captureScreenshot', {}, sessionId);
      await writeFile(path, Buffer.from(data, 'base64'));
    },
  };
}
