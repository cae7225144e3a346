// compare.test.mjs: bench/compare measures a row, judges it by its bars and says what it could not measure; bench/report makes a page and plots of all rows. @test parallel no-asan
import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROWS } from '../../bench/compare.mjs';
import { loadBinary } from './lib/load.mjs';
import { startProcess, temporaryFolder, test, within } from './lib/index.mjs';

const program = (name) => fileURLToPath(new URL(`../../bench/${name}.mjs`, import.meta.url));

// Runs it to its end. Gives its exit code and all that it printed.
async function runToEnd(t, name, args) {
  const run = startProcess(t, process.execPath, [program(name), ...args], { name });
  const { code } = await within(run.exited, `the end of ${name}`, 60000);
  return { code, text: run.log() };
}

// What a row's programs could have said. `rate` gives a side's deliveries per CPU-second, `p99` its milliseconds.
function canned(row, { rate = () => 1000, p99 = () => 1 } = {}) {
  const side = (name) => ({ name, dialect: 'plain', per_cpu_s: [0.9, 1, 1.2].map((x) => x * rate(name)), p50_us: [100, 110, 120], p99_us: [1, 1, 1].map((x) => x * 1000 * p99(name)) });
  return Object.fromEntries(Object.entries(row.runs).map(([name, run]) => [name,
    { unit: 'deliveries', members: 1000, rate: 0, ok: true, ...(run.program === 'idle' ? { bytes_per_connection: 400, own_bytes_per_connection: 300 } : {}), sides: run.sides?.map(side) }]));
}

const barsOf = (id, results) => {
  const row = ROWS.find((r) => r.id === id);
  return row.bars.flatMap((bar) => bar(canned(row, results)));
};

test('a row is measured in turns, printed, kept as JSON, and judged', async (t) => {
  const out = join(await temporaryFolder(t), 'deep', 'results.json');
  const { code, text } = await runToEnd(t, 'compare', ['--rows=fanout-1000-64-in-flight-1', '--sides=peal,bare_send', `--bin=${dirname(loadBinary)}`, `--out=${out}`,
    '--', '--members=20', '--rounds=2', '--round-cpu=0.05', `--peal=${process.env.PEAL_BIN}`]);
  const { rows, met, missed } = JSON.parse(await readFile(out, 'utf8'));
  assert.equal(rows.length, 1, text);
  const [{ runs, bars, failed }] = rows;
  assert.equal(failed, undefined, text);
  assert.deepEqual(runs.all.sides.map((side) => [side.name, side.per_cpu_s.length]), [['peal', 2], ['bare_send', 2]]);
  assert.ok(runs.all.sides.every((side) => side.per_cpu_s.every((rate) => rate > 0)), text);
  assert.equal(bars.length, 1, 'the bars of sides that were not there are left out');
  assert.equal(bars[0].text, 'peal : bare_send');
  assert.equal(bars[0].met, bars[0].value >= 2);
  assert.equal(met + missed, 1);
  assert.equal(code, missed, text);
  assert.match(text, /(met {3}|MISSED) peal : bare_send = /);
});

test('what cannot be measured is said, and is no pass', async (t) => {
  const nowhere = await runToEnd(t, 'compare', ['--rows=echo', '--bin=/nonexistent']);
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.text, /FAILED .*nonexistent/);
  const unknown = await runToEnd(t, 'compare', ['--bogus']);
  assert.equal(unknown.code, 2);
  assert.match(unknown.text, /what is --bogus\?/);
  const side = await runToEnd(t, 'compare', ['--rows=rooms', `--bin=${dirname(loadBinary)}`, '--', '--sides=nobody']);
  assert.equal(side.code, 2);
  assert.match(side.text, /no side is called 'nobody'/);
});

test('a bar takes the best of several peers, and knows which way it goes', () => {
  const rates = { peal: 400, peal_socketio: 400, bare_send: 200, bare_uring: 1000, node: 20, node_cluster: 50, node_redis: 30, nchan: 100 };
  const bars = barsOf('fanout-1000-64-in-flight-1', { rate: (name) => rates[name] });
  assert.deepEqual(bars.map(({ text, value, met }) => [text, value, met]), [
    ['peal : bare_send', 2, true], ['peal : bare_uring', 0.4, false], ['peal_socketio : node_cluster', 8, true], ['peal : nchan', 4, true]]);
  assert.deepEqual(barsOf('rooms', { p99: (name) => (name === 'peal' ? 5 : 10) }).map(({ value, met }) => [value, met]), [[0.5, true]]);
  // CPU of a round trip: the reverse of the rate.
  assert.deepEqual(barsOf('echo', { rate: (name) => ({ peal: 200, node: 20 })[name] ?? 100 }).map(({ value, met }) => [value, met]), [[0.5, true], [1, true], [5, true]]);
  // Members are in numeric order, and growth that the bare loop shows too is taken off.
  assert.deepEqual(barsOf('members').map(({ value, met }) => [value, met]), [[1, true]]);
});

test('the report has every bar and plot, and needs nothing but itself', async (t) => {
  const folder = await temporaryFolder(t);
  const rows = ROWS.map((row) => ({ id: row.id, title: row.title, group: row.group, runs: canned(row), bars: row.bars.flatMap((bar) => bar(canned(row))) }));
  rows.push({ id: 'broken', title: 'a row <that> failed', group: 'fanout', runs: {}, bars: [], failed: 'fanout ended with 2: "no" & never' });
  const results = { machine: { cpu: 'A CPU', cpus: 2, kernel: '6.1', node: 'v20' }, when: '2024-01-02T03:04:05.678Z', seconds: 100, coarse: true, void: 'void: too slow', met: 3, missed: 4, failed: 1, rows };
  await writeFile(join(folder, 'results.json'), JSON.stringify(results));
  const { code, text } = await runToEnd(t, 'report', [join(folder, 'results.json'), `--html=${folder}/page/report.html`, `--svg-dir=${folder}/plots`]);
  assert.equal(code, 0, text);
  const html = await readFile(join(folder, 'page', 'report.html'), 'utf8');
  for (const word of ['3 of 7 bars met', 'Coarse', 'void: too slow', 'a row &lt;that&gt; failed', '&quot;no&quot; &amp; never', 'prefers-color-scheme: dark']) assert.ok(html.includes(word), `no ${word}`);
  assert.doesNotMatch(html.replaceAll('http://www.w3.org/2000/svg', ''), /https?:|src=|@import|<script|<link|NaN|undefined|Infinity/);
  const plotted = rows.filter((row) => row.group !== 'other' && !row.failed).map((row) => `${row.id}.svg`);
  assert.deepEqual((await readdir(join(folder, 'plots'))).sort(), plotted.sort());
  for (const name of plotted) {
    const svg = await readFile(join(folder, 'plots', name), 'utf8');
    assert.match(svg, /^<svg [^>]*viewBox="0 0 720 \d+"[^>]*><style>[\s\S]*<\/svg>\n$/, name);
    assert.doesNotMatch(svg, /NaN|undefined|Infinity/, name);
  }
});

test('results that cannot be read are refused', async (t) => {
  const file = join(await temporaryFolder(t), 'results.json');
  await writeFile(file, '{"rows":');
  for (const args of [[file, '--html=/nonexistent/x'], ['/nonexistent'], [], [file, '--pdf=x']]) {
    const { code, text } = await runToEnd(t, 'report', args);
    assert.equal(code, 2, args.join(' '));
    assert.match(text, /^report: /m);
  }
});
