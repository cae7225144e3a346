// demo.test.mjs: the page of `demo = yes` in a real browser: two windows chat, see their workers and the counters, and survive a kill -9.
// @test parallel no-asan timeout=300
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { httpRequest, startBrowser, startPeal, test, waitFor } from './lib/index.mjs';
import { workersOf } from './lib/engine.mjs';

const PICTURES = join(process.env.PEAL_ROOT ?? fileURLToPath(new URL('../..', import.meta.url)), 'build/test-artefacts');

async function connected(page) {
  await waitFor(async () => /^connected to worker \d+$/.test(await page.textContent('#status')), { timeout: 15000, what: 'a connected page' });
  return Number(/\d+/.exec(await page.textContent('#status'))[0]);
}

async function say(page, text) {
  await page.fill('#text', text);
  await page.click('#send');
  await waitFor(async () => (await lines(page)).some((line) => line.includes(text) && line.endsWith('delivered')), { what: `${text}, delivered` });
}

const lines = (page) => page.$$eval('#log li', (items) => items.map((item) => item.textContent));
const sees = (page, text) => waitFor(async () => (await lines(page)).some((line) => line.includes(text)), { timeout: 10000, what: `${text} on the page` });
const counter = async (page, id) => Number((await page.textContent(`#${id}`)).replaceAll(',', ''));

test('the page is one document under a strict policy, and only where demo = yes', async (t) => {
  const peal = await startPeal(t, { options: { demo: true, workers: 1 } });
  const { status, headers, body } = await httpRequest(`${peal.url}/`);
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/html; charset=utf-8');
  assert.match(headers['content-security-policy'], /default-src 'none'.*frame-ancestors 'none'/);
  assert.doesNotMatch(body, /(src|href)=|url\(|@import|innerHTML|document\.write|insertAdjacent/, 'loads nothing, and makes no markup of text');
  const head = await httpRequest(`${peal.url}/`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], String(Buffer.byteLength(body)));
  assert.equal(head.body, '');
  const plain = await startPeal(t, { options: { workers: 1 } });
  assert.equal((await httpRequest(`${plain.url}/`)).status, 404);
});

test('the page knows the configured path, whatever it is', async (t) => {
  const pathOf = async (peal) => JSON.parse(/const PATH = ("(?:[^"\\]|\\.)*");/.exec((await httpRequest(`${peal.url}/`)).body)[1]);
  const odd = "/it's&odd;/é/";
  assert.equal(await pathOf(await startPeal(t, { options: { demo: true, workers: 1, path: odd } })), odd);
  const peal = await startPeal(t, { options: { demo: true, workers: 1, path: '/live/chat' } });
  assert.equal(await pathOf(peal), '/live/chat/');
  const { body } = await httpRequest(`${peal.url}/`);
  assert.equal(body.match(/<\/script>/g).length, 1);
  const page = await (await startBrowser(t)).open(`${peal.url}/`);
  await connected(page);
});

test('two windows chat, count, and chat again after the worker of one was killed', { timeout: 90000 }, async (t) => {
  await mkdir(PICTURES, { recursive: true });
  const peal = await startPeal(t, { options: { demo: true, workers: 2 } });
  const browser = await startBrowser(t);
  const one = await browser.open(`${peal.url}/`);
  const two = await browser.open(`${peal.url}/`);
  const workers = [await connected(one), await connected(two)];
  assert.notEqual(workers[0], workers[1], 'leastconn gives the second window the other worker');
  assert.equal(await counter(one, 'worker'), workers[0]);
  assert.equal(await counter(one, 'workers'), 2);
  await waitFor(async () => (await counter(one, 'connections')) === 2, { what: 'two connections on the page' });
  await sees(one, 'has come');

  const before = await counter(one, 'deliveries');
  await say(one, 'hello <b>you</b> & "all" 😀');
  await sees(two, 'hello <b>you</b> & "all" 😀');
  await say(two, 'back at you');
  await sees(one, 'back at you');
  assert.equal(await one.$('#log li b b'), null, 'what others write is text');
  await waitFor(async () => (await counter(one, 'deliveries')) > before, { what: 'counters that move' });
  await one.screenshot({ path: join(PICTURES, 'demo-light.png') });
  await two.emulateMedia({ colorScheme: 'dark' });
  await two.screenshot({ path: join(PICTURES, 'demo-dark.png') });

  await two.fill('#room', 'elsewhere');
  await two.click('#who button');
  await sees(two, 'you are in room elsewhere');
  await say(one, 'nobody hears this');
  await two.fill('#room', 'lobby');
  await two.click('#who button');
  await sees(one, 'has come');
  await say(one, 'heard again');
  await sees(two, 'heard again');
  assert.ok(!(await lines(two)).some((line) => line.includes('nobody hears this')), 'a room left is left');

  const victim = workersOf(peal).find(({ slot }) => slot === workers[0]);
  await two.evaluate(() => { window.seen = []; new MutationObserver(() => window.seen.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true }); });
  await one.evaluate(() => { window.seen = []; new MutationObserver(() => window.seen.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true }); });
  process.kill(victim.pid, 'SIGKILL');
  await sees(one, 'connection lost');
  await connected(one);
  assert.ok((await one.evaluate(() => window.seen)).some((text) => /trying again in \d/.test(text)), 'the page says when it tries again');
  assert.equal(await counter(one, 'reconnects'), 1);
  assert.deepEqual(await two.evaluate(() => window.seen), [], 'the other window noticed nothing');
  await say(one, 'here I am again');
  await sees(two, 'here I am again');
  await say(two, 'welcome back');
  await sees(one, 'welcome back');
  await one.screenshot({ path: join(PICTURES, 'demo-reconnected.png') });

  await one.setViewportSize({ width: 380, height: 800 });
  await one.screenshot({ path: join(PICTURES, 'demo-narrow.png') });
  assert.ok(await one.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth), 'nothing sticks out on a telephone');
  const unexpected = [...one.problems, ...two.problems].filter((text) => !/WebSocket connection to|favicon/.test(text));
  assert.deepEqual(unexpected, []);
});
