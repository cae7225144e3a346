// browser.test.mjs: the real client bundle in a real browser: it connects, upgrades and chats; its page is hidden, freezes and comes back; its worker dies; the
// whole server is started anew. Screenshots are kept in build/artifacts. PEAL_TEST_TARGET=node asks the real server. @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defer, freePort, sleep, startBrowser, test, waitFor } from './lib/index.mjs';
import { workersOf } from './lib/engine.mjs';
import { startTabs } from './lib/devtools.mjs';
import { onNode, startTarget } from './lib/target.mjs';

const ROOT = process.env.PEAL_ROOT ?? fileURLToPath(new URL('../..', import.meta.url));
const PICTURES = join(ROOT, 'build/artifacts');
const CLIENT_FILES = fileURLToPath(new URL('../node_modules/socket.io/client-dist', import.meta.url));

// A chat as an application would write it, with the bundle that the server itself serves. Everything that happens is kept in window.seen.
const page = (server, options) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>chat</title>
<body style="font:16px sans-serif;margin:2em"><h1>Chat</h1>
<p>Status: <b id="status">…</b>, over <b id="transport">…</b></p>
<form id="form"><input id="text" autocomplete="off"><button>Send</button></form><ul id="log"></ul>
<script src="${server}/socket.io/socket.io.js"></script>
<script>
  window.seen = { connects: 0, disconnects: [], errors: [], upgrades: [], recovered: [], lines: [] };
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  const line = (text) => {
    seen.lines.push(text);
    document.getElementById('log').appendChild(document.createElement('li')).textContent = text;
  };
  const socket = io(${server ? `${JSON.stringify(server)}, ` : ''}${JSON.stringify({ reconnectionDelay: 200, reconnectionDelayMax: 500, ...options })});
  socket.io.on('open', () => {
    show('transport', socket.io.engine.transport.name);
    socket.io.engine.on('upgrade', (transport) => { seen.upgrades.push(transport.name); show('transport', transport.name); });
  });
  socket.on('connect', () => {
    seen.connects++;
    seen.recovered.push(socket.recovered === true);
    socket.emit('join', 'lobby', () => show('status', 'connected'));
  });
  socket.on('disconnect', (reason) => { seen.disconnects.push(reason); show('status', 'disconnected: ' + reason); });
  socket.on('connect_error', (error) => { seen.errors.push(error.message); });
  socket.on('said', (text) => line(text));
  document.getElementById('form').onsubmit = (event) => {
    event.preventDefault();
    const input = document.getElementById('text');
    const text = input.value;
    input.value = '';
    socket.emit('publish', 'lobby', 'said', text, () => line(text + ' (sent)'));
  };
</script></body></html>`;

// origin: of the page, where it is not the server's.
async function openChat(browser, target, { context, options, origin = target.url } = {}) {
  const window = await browser.open(`${origin}/chat-page`, { context, content: page(origin === target.url ? '' : target.url, options) });
  return Object.assign(window, {
    seen: () => window.evaluate('window.seen'),
    is: (status, timeout = 20000) => waitFor(async () => (await window.textContent('#status')) === status, { timeout, what: `the status ${status}` }),
    over: (transport) => waitFor(async () => (await window.textContent('#transport')) === transport, { timeout: 10000, what: `a page over ${transport}` }),
    async say(text) {
      await window.fill('#text', text);
      await window.click('button');
      await window.hears(`${text} (sent)`);
    },
    hears: (text) => waitFor(async () => (await window.evaluate('window.seen.lines')).includes(text), { timeout: 15000, what: `the line ${JSON.stringify(text)}` }),
      count: async (text) => (await window.evaluate('window.seen.lines')).filter((line) => line === text).length,
    async picture(name) {
      await window.bringToFront(); // what is behind is not painted
      await window.screenshot({ path: join(PICTURES, `${onNode ? 'node' : 'peal'}-${name}.png`) });
    },
  });
}

async function chat(one, two, round) {
  await one.say(`from one, ${round}`);
  await two.hears(`from one, ${round}`);
  await two.say(`from two, ${round} €😀`);
  await one.hears(`from two, ${round} €😀`);
}

const withFiles = (peal = {}) => ({ client_files: CLIENT_FILES, ...peal });
const RECOVERY = { peal: withFiles({ recovery: '2m' }), node: { connectionStateRecovery: {} } };

test('two windows connect by polling, upgrade and chat; so do two that only poll, over connections that they share', { timeout: 90000 }, async (t) => {
  await mkdir(PICTURES, { recursive: true });
  const target = await startTarget(t, { workers: 4, balance: 'reuseport', peal: withFiles() });
  const browser = await startBrowser(t);
  const context = await browser.browser.newContext();
  const windows = [];
  for (const options of [{}, {}, { transports: ['polling'] }, { transports: ['polling'] }]) windows.push(await openChat(browser, target, { context, options }));
  const [one, two, three, four] = windows;
  for (const window of windows) await window.is('connected');
  for (const window of [one, two]) {
    await window.over('websocket');
    assert.deepEqual((await window.seen()).upgrades, ['websocket']);
  }
  await chat(one, two, 1);
  await three.hears('from one, 1');
  for (let round = 2; round < 5; round++) await chat(three, four, round);
  await one.hears('from two, 4 €😀');
  for (const window of windows) {
    const { connects, disconnects, errors } = await window.seen();
    const problems = window.problems.filter((text) => !/404/.test(text)); // the icon of the page
    assert.deepEqual({ connects, disconnects, errors, problems }, { connects: 1, disconnects: [], errors: [], problems: [] });
  }
  assert.equal(await three.textContent('#transport'), 'polling');
  await one.picture('chat');
  await three.picture('chat-polling');
  if (onNode) return;
  const metrics = await target.metrics();
  assert.equal(metrics.sum('peal_connections'), 4);
  assert.equal(metrics.sum('peal_session_unknown_total'), 0);
  for (const window of windows) await window.close();
  await waitFor(async () => (await target.metrics()).sum('peal_connections') === 0, { timeout: 10000, what: 'no client when its window is closed' });
});

test('a page that is hidden stays connected; one that was frozen connects again when it wakes', { timeout: 90000 }, async (t) => {
  await mkdir(PICTURES, { recursive: true });
  const target = await startTarget(t, { workers: 2, pingInterval: 1500, pingTimeout: 5000, ...RECOVERY });
  const tabs = await startTabs(t);
  const open = async () => {
    const tab = await tabs.open(`${target.url}/chat-page`, page('', {}));
    const seen = () => tab.evaluate('window.seen');
    return Object.assign(tab, {
      seen,
      status: (status) => waitFor(async () => (await tab.evaluate('document.getElementById("status").textContent')) === status, { timeout: 20000, what: `a tab that is ${status}` }),
      say: (text) => tab.evaluate(`new Promise((resolve) => socket.emit('publish', 'lobby', 'said', ${JSON.stringify(text)}, () => resolve()))`),
      hears: (text) => waitFor(async () => (await seen()).lines.includes(text), { timeout: 15000, what: `the line ${text}` }),
    });
  };
  const two = await open();
  await two.status('connected');
  const one = await open(); // in front of the other
  await one.status('connected');
  await one.front();
  await waitFor(async () => (await two.evaluate('document.visibilityState')) === 'hidden', { what: 'a hidden tab' });
  // Several heartbeats long, though a browser holds back the timers of such a page.
  for (let i = 0; i < 5; i++) {
    await one.say(`to a hidden page ${i}`);
    await sleep(1000);
  }
  await two.hears('to a hidden page 4');
  const hidden = await two.seen();
  assert.deepEqual(hidden.lines, [0, 1, 2, 3, 4].map((i) => `to a hidden page ${i}`), 'each line once and in order');
  assert.equal(hidden.connects, 1, 'to be hidden is no disconnection');
  await two.front();
  await two.say('here again');
  await one.hears('here again');

  // The browser itself cuts the WebSocket of a page that it freezes; nothing runs there until it wakes.
  await one.front();
  await two.freeze(true);
  if (!onNode) await waitFor(async () => (await target.metrics()).sum('peal_connections') === 1, { timeout: 25000, what: 'the end of the connection of a frozen page' });
  await one.say('while it sleeps');
  await two.freeze(false);
  await two.front();
  await waitFor(async () => (await two.seen()).connects === 2, { timeout: 20000, what: 'a page that connects again' });
  await two.status('connected');
  await one.say('welcome back');
  await two.hears('welcome back');
  const woken = await two.seen();
  assert.deepEqual(woken.lines.slice(-2), ['while it sleeps', 'welcome back'], 'nothing was missed');
  assert.deepEqual(woken.recovered, [false, true]);
  assert.equal((await one.seen()).connects, 1);
  await two.picture(join(PICTURES, `${onNode ? 'node' : 'peal'}-back-again.png`));
});

test('its worker is killed: the page comes back by itself, other pages notice nothing', { timeout: 90000, skip: onNode }, async (t) => {
  await mkdir(PICTURES, { recursive: true });
  const target = await startTarget(t, { workers: 2, ...RECOVERY });
  const browser = await startBrowser(t);
  for (const options of [{}, { transports: ['polling'] }]) {
    const one = await openChat(browser, target, { options });
    await one.is('connected');
    if (!options.transports) await one.over('websocket');
    const victim = await waitFor(async () => {
      const metrics = await target.metrics();
      return workersOf(target).find(({ slot }) => metrics.sum('peal_connections', { worker: slot }) === 1);
    }, { what: 'the worker of the only page' });
    const two = await openChat(browser, target, { options });
    await two.is('connected');
    await chat(one, two, 'before');
    const other = (await target.metrics()).sum('peal_connections', { worker: 1 - victim.slot });
    assert.equal(other, 1, 'leastconn gives the second page the other worker');
    process.kill(victim.pid, 'SIGKILL');
    await waitFor(async () => (await one.seen()).connects === 2, { timeout: 20000, what: 'a page that connects again' });
    await one.is('connected');
    await chat(one, two, 'after');
    const seen = await one.seen();
    assert.equal(seen.disconnects.length, 1);
    assert.deepEqual(seen.recovered, [false, true]);
    assert.equal((await two.seen()).connects, 1, 'the other page noticed nothing');
    await one.picture(`worker-killed${options.transports ? '-polling' : ''}`);
    await one.close();
    await two.close();
    await waitFor(async () => (await target.metrics()).sum('peal_connections') === 0, { timeout: 10000, what: 'no client when its window is closed' });
  }
});

test('the whole server is started anew: pages come back by themselves', { timeout: 90000 }, async (t) => {
  await mkdir(PICTURES, { recursive: true });
  const port = await freePort();
  const settings = { workers: 2, port, ...RECOVERY };
  const target = await startTarget(t, settings);
  const browser = await startBrowser(t);
  const one = await openChat(browser, target);
  const two = await openChat(browser, target, { options: { transports: ['polling'] } });
  for (const window of [one, two]) await window.is('connected');
  await one.over('websocket');
  await chat(one, two, 1);
  await target.stop('SIGKILL');
  for (const window of [one, two]) await waitFor(async () => (await window.seen()).disconnects.length === 1, { timeout: 10000, what: 'a page that notices' });
  await one.picture('server-gone');
  await startTarget(t, { ...settings, name: 'target again' });
  for (const window of [one, two]) {
    await waitFor(async () => (await window.seen()).connects === 2, { timeout: 20000, what: 'a page that connects again' });
    await window.is('connected');
    assert.deepEqual((await window.seen()).recovered, [false, false]);
  }
  await chat(one, two, 2);
  await one.picture('server-back');
});

test('a page of another origin, where it is let in, and where it is not', { timeout: 60000 }, async (t) => {
  const pages = createServer((request, response) => response.writeHead(200, { 'Content-Type': 'text/html' }).end('<p>elsewhere'));
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  defer(t, () => {
    pages.closeAllConnections();
    pages.close();
  });
  const origin = `http://127.0.0.1:${pages.address().port}`;
  const target = await startTarget(t, { workers: 2, node: { cors: { origin: [origin] } }, peal: withFiles({ origins: origin }) });
  const browser = await startBrowser(t);
  const one = await openChat(browser, target, { origin });
  const two = await openChat(browser, target, { origin, options: { transports: ['polling'] } });
  for (const window of [one, two]) await window.is('connected');
  await one.over('websocket');
  await chat(one, two, 1);
  const strange = await startTarget(t, { workers: 1, peal: withFiles() });
  const shut = await openChat(browser, strange, { origin });
  await waitFor(async () => (await shut.seen()).errors.length > 0, { timeout: 15000, what: 'an error for a page of a foreign origin' });
  assert.equal((await shut.seen()).connects, 0);
});
