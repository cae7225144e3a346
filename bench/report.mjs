#!/usr/bin/env node
// report.mjs: what bench/compare has measured as one page: every bar with its verdict, and plots.
//
//   report.mjs RESULTS.json [--html=FILE] [--svg-dir=FOLDER]
//
// The page needs nothing but itself: style and plots are in it. The plots of --svg-dir are files of their own, for a README. Both follow the reader's choice of light
// or dark. What was not measured is not plotted. Exit: 0, or 2 when the results cannot be read.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { figure, median } from './compare.mjs';

const WIDTH = 720;
const LABELS = 200; // room for names at the left of bars
const STYLE = `
.plot { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; --ink: #1b2330; --soft: #667085; --line: #e3e7ee; --paper: #ffffff;
  --peal: #0f62d6; --peal2: #6aa3f5; --bare: #98a2b3; --bare2: #c3cad6; --node: #3f9a56; --nchan: #d97a1f; }
@media (prefers-color-scheme: dark) { .plot { --ink: #e8ecf3; --soft: #98a3b5; --line: #2c3543; --paper: #141a23;
  --peal: #5b9bff; --peal2: #9cc4ff; --bare: #717d90; --bare2: #4d586a; --node: #63c47e; --nchan: #f0a052; } }
.plot .paper { fill: var(--paper); } .plot text { fill: var(--ink); } .plot .soft { fill: var(--soft); } .plot .title { font-size: 16px; font-weight: 650; }
.plot .grid { stroke: var(--line); stroke-width: 1; } .plot .spread { stroke: var(--ink); stroke-width: 1.5; opacity: .55; }
.plot .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
${['peal', 'peal2', 'bare', 'bare2', 'node', 'nchan'].map((c) => `.plot .fill-${c} { fill: var(--${c}); } .plot .stroke-${c} { stroke: var(--${c}); }`).join('\n')}`;

const NAMES = {
  peal: 'Peal', peal_socketio: 'Peal, Socket.IO', bare_send: 'bare send()', bare_send_coalescing: 'bare send(), coalescing', bare_uring: 'bare io_uring',
  bare_uring_coalescing: 'bare io_uring, coalescing', bare_echo: 'bare epoll echo', bare_connect: 'bare handshake', node: 'Node socket.io', node_cluster: 'Node, cluster adapter',
  node_redis: 'Node, Redis adapter', nchan: 'Nchan',
};
const nameOf = (side) => NAMES[side] ?? (NAMES[side.split(',')[0]] ? NAMES[side.split(',')[0]] + side.slice(side.indexOf(',')) : side);
const colourOf = (side) => (side.startsWith('peal_') ? 'peal2' : side.startsWith('bare_uring') ? 'bare2' : side.startsWith('bare') ? 'bare' : side.startsWith('node') ? 'node' : side === 'nchan' ? 'nchan' : 'peal');

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const short = (x) => (x >= 1e6 ? `${figure(x / 1e6)} M` : x >= 1e4 ? `${figure(x / 1e3)} k` : figure(x));

// ---- Plots: each gives the inside of an SVG and its height -----------------------------------------------------------------

const heading = (title, subtitle) => `<text class="title" x="16" y="28">${escape(title[0].toUpperCase() + title.slice(1))}</text><text class="soft" x="16" y="48">${escape(subtitle)}</text>`;

// Steps of 1, 2 or 5 up to and over `most`.
function ticks(most) {
  const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(most / 4))).find((s) => most / s <= 6);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

// bars: { side, values, note? }; the bar is as long as the median, the line over it shows lowest and highest.
function barPlot(title, subtitle, bars, show = short) {
  const top = 66;
  const scale = ticks(Math.max(...bars.map((bar) => Math.max(...bar.values))));
  const x = (value) => LABELS + (value / scale.at(-1)) * (WIDTH - LABELS - 110);
  const bottom = top + bars.length * 30;
  const grid = scale.map((t) => `<line class="grid" x1="${x(t)}" x2="${x(t)}" y1="${top - 6}" y2="${bottom}"/><text class="soft" x="${x(t)}" y="${bottom + 16}" text-anchor="middle">${short(t)}</text>`).join('');
  const rows = bars.map(({ side, label, values, note }, i) => {
    const y = top + i * 30;
    const middle = median(values);
    const line = values.length > 1 ? `<line class="spread" x1="${x(Math.min(...values))}" x2="${x(Math.max(...values))}" y1="${y + 11}" y2="${y + 11}"/>` : '';
    return `<text x="${LABELS - 10}" y="${y + 15}" text-anchor="end">${escape(label ?? nameOf(side))}</text><rect class="fill-${colourOf(side)}" x="${LABELS}" y="${y}" width="${Math.max(1, x(middle) - LABELS)}" height="22" rx="3"/>${line}`
      + `<text x="${Math.max(x(middle), x(Math.max(...values))) + 8}" y="${y + 15}">${escape(show(middle))}${note ? `<tspan class="soft"> ${escape(note)}</tspan>` : ''}</text>`;
  }).join('');
  return { body: heading(title, subtitle) + grid + rows, height: bottom + 30 };
}

// series: { side, label, points: [[x, y]] }; x in equal steps of its logarithm.
function linePlot(title, subtitle, xLabel, series) {
  const [top, bottom, left, right] = [72, 300, 64, WIDTH - 24];
  const xs = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const scale = ticks(Math.max(...series.flatMap(({ points }) => points.map(([, y]) => y))));
  const x = (value) => left + 20 + (xs.length > 1 ? Math.log(value / xs[0]) / Math.log(xs.at(-1) / xs[0]) : 0) * (right - left - 50);
  const y = (value) => bottom - (value / scale.at(-1)) * (bottom - top);
  const grid = scale.map((t) => `<line class="grid" x1="${left}" x2="${right}" y1="${y(t)}" y2="${y(t)}"/><text class="soft" x="${left - 8}" y="${y(t) + 4}" text-anchor="end">${short(t)}</text>`).join('')
    + xs.filter((v, i) => i === 0 || x(v) - x(xs[i - 1]) > 44).map((v) => `<text class="soft" x="${x(v)}" y="${bottom + 18}" text-anchor="middle">${short(v)}</text>`).join('')
    + `<text class="soft" x="${right}" y="${bottom + 38}" text-anchor="end">${escape(xLabel)}</text>`;
  const curves = series.map(({ side, points }) => `<polyline class="curve stroke-${colourOf(side)}" points="${points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ')}"/>`
    + points.map(([a, b]) => `<circle class="fill-${colourOf(side)}" cx="${x(a).toFixed(1)}" cy="${y(b).toFixed(1)}" r="4"><title>${figure(a)}: ${figure(b)}</title></circle>`).join('')).join('');
  const legend = series.map(({ side, label }, i) => `<rect class="fill-${colourOf(side)}" x="${left + i * 190}" y="${bottom + 28}" width="12" height="12" rx="2"/><text x="${left + 18 + i * 190}" y="${bottom + 39}">${escape(label ?? nameOf(side))}</text>`).join('');
  return { body: heading(title, subtitle) + grid + curves + legend, height: bottom + 54 };
}

const svg = ({ body, height }, style) => `<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" role="img">${style ? `<style>${STYLE}</style>` : ''}`
  + `<rect class="paper" width="${WIDTH}" height="${height}" rx="8"/>${body}</svg>`;

// ---- What is plotted -------------------------------------------------------------------------------------------------------

const perCpu = (row) => row.runs.all.sides.map((side) => ({ side: side.name, values: side.per_cpu_s }));
const costs = (result, times = 1) => result.sides.map((side) => ({ side: side.name, values: side.per_cpu_s.map((rate) => (1e6 * times) / rate) }));

function sweep(row, cost) {
  const sides = [...new Set(Object.values(row.runs).flatMap((result) => result.sides.map((side) => side.name)))];
  return sides.map((name) => ({ side: name,
    points: Object.entries(row.runs).filter(([x]) => Number(x)).flatMap(([x, result]) => result.sides.filter((side) => side.name === name).map((side) => [Number(x), cost(median(side.per_cpu_s), result)])) }));
}

const PLOTS = {
  fanout: (row) => [row.id, barPlot(row.title, 'deliveries per server-CPU-second, all processes of a server counted', perCpu(row))],
  latency: (row) => [row.id, barPlot(row.title, 'latency, ms, from when a message was due: median and 99th percentile',
    row.runs.all.sides.flatMap((side) => [['p50', side.p50_us], ['p99', side.p99_us]].map(([kind, us]) => ({ side: side.name, label: `${nameOf(side.name)}, ${kind}`, values: us.map((v) => v / 1000) }))))],
  echo: (row) => [row.id, barPlot('Echo, 1,000 connections', 'server CPU of a round trip, µs; Socket.IO: an event and its acknowledgement', costs(row.runs.all))],
  connects: (row) => [row.id, barPlot('New connections', 'per server-CPU-second; Socket.IO with its namespace', perCpu(row))],
  idle: (row) => [row.id, barPlot('Memory of an idle connection', 'bytes in user space; 900 bytes of headers, Socket.IO with 700 of auth, two rooms',
    Object.entries(row.runs).map(([name, result]) => ({ side: name, values: [result.bytes_per_connection] })))],
  members: (row) => [row.id, linePlot(row.title, 'server CPU of a delivery, µs', 'members of the room', sweep(row, (rate) => 1e6 / rate))],
  workers: (row) => [row.id, linePlot(row.title, 'server CPU of a message to all, µs', 'workers', sweep(row, (rate, result) => (1e6 * result.members) / rate))],
};

const plots = (results) => results.rows.filter((row) => PLOTS[row.group] && !row.failed && Object.keys(row.runs).length > 0).map((row) => PLOTS[row.group](row));

// ---- The page ----------------------------------------------------------------------------------------------------------------

const PAGE_STYLE = `
:root { color-scheme: light dark; --ink: #1b2330; --soft: #667085; --line: #e3e7ee; --back: #f4f6f9; --paper: #ffffff; --good: #1d7f3f; --bad: #c2321f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf3; --soft: #98a3b5; --line: #2c3543; --back: #0d1218; --paper: #141a23; --good: #63c47e; --bad: #ff7b68; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1480px; margin: 0 auto; padding: 32px 20px 60px; } h1 { margin: 0 0 4px; font-size: 28px; } h2 { margin: 36px 0 12px; font-size: 19px; } p { margin: 4px 0; color: var(--soft); }
.warning { color: var(--bad); font-weight: 600; } .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 16px; }
.plots svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; background: var(--paper); border: 1px solid var(--line); } td, th { padding: 7px 12px; border-top: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } .met { color: var(--good); } .missed { color: var(--bad); font-weight: 650; } code { font-size: 13px; }
${STYLE}`;

function barRow(row, bar, i) {
  const verdict = bar.met === null ? '' : bar.met ? '<span class="met">met</span>' : '<span class="missed">missed</span>';
  const value = bar.value === null ? '' : `${figure(bar.value)} ${bar.unit}`;
  const range = bar.low === undefined ? '' : `${figure(bar.low)} to ${figure(bar.high)}`;
  return `<tr><td>${i === 0 ? escape(row.title) : ''}</td><td>${escape(bar.text)}</td><td class="number">${escape(value)}</td><td class="number">${range}</td><td class="number">${escape(bar.bar ?? '')}</td><td>${verdict}</td></tr>`;
}

const failedRow = (row) => `<tr><td>${escape(row.title)}</td><td colspan="4"><code>${escape(row.failed)}</code></td><td><span class="missed">failed</span></td></tr>`;

function page(results) {
  const { machine } = results;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Peal: benchmarks</title><style>${PAGE_STYLE}</style></head>
<body><main>
<h1>Peal: ${results.met} of ${results.met + results.missed} bars met</h1>
<p>${escape(machine.cpu)}, ${machine.cpus} CPUs, Linux ${escape(machine.kernel)}, Node ${escape(machine.node)} · ${escape(results.when.slice(0, 16).replace('T', ' '))} UTC · ${Math.max(1, Math.round(results.seconds / 60))} min</p>
<p>Servers take turns within a run; figures are medians of the rounds, lines over bars their lowest and highest; all processes of a server count, Redis and nginx too.</p>
${results.coarse ? '<p class="warning">Coarse: few, short rounds. Ratios near a bar say little.</p>' : ''}${results.void ? `<p class="warning">${escape(results.void)}</p>` : ''}
<h2>Plots</h2><div class="plots">${plots(results).map(([, plot]) => svg(plot, false)).join('\n')}</div>
<h2>Bars</h2><div class="scroll"><table><tr><th>row</th><th>what</th><th>measured</th><th>rounds</th><th>bar</th><th></th></tr>
${results.rows.map((row) => (row.failed ? failedRow(row) : row.bars.map((bar, i) => barRow(row, bar, i)).join('\n'))).join('\n')}
</table></div>
</main></body></html>
`;
}

function main(argv) {
  const [file] = argv.filter((word) => !word.startsWith('--'));
  const option = (name) => argv.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
  const unknown = argv.find((word) => word.startsWith('--') && !/^--(html|svg-dir)=./.test(word));
  if (!file || unknown) throw new Error(`${unknown ? `what is ${unknown}? ` : ''}report.mjs RESULTS.json [--html=FILE] [--svg-dir=FOLDER]`);
  const results = JSON.parse(readFileSync(file, 'utf8'));
  const write = (path, text) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    console.log(path);
  };
  if (option('html')) write(option('html'), page(results));
  if (option('svg-dir')) for (const [name, plot] of plots(results)) write(join(option('svg-dir'), `${name}.svg`), `${svg(plot, true)}\n`);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(`report: ${error.message}`);
  process.exitCode = 2;
}
