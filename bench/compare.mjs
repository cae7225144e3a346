#!/usr/bin/env node
// compare.mjs: the grid: Peal against bare loops and against its peers, row by row, each row with its bars.
//
//   compare.mjs [--quick] [--rows=REGEX] [--sides=A,B] [--out=FILE] [--bin=FOLDER] [--list] [-- further options of the row's program]
//
// A row is one or several runs of a program of this folder (fanout, echo, connects, idle, …), which measures its sides in turns. The rows are below, in ROWS;
// what they mean is in README. All results go to FILE as JSON (bench/report makes a page of it), the table to standard output.
// --quick: fewer and shorter rounds, fewer members and sides: the same table, coarser. --sides: only these of a row's sides; bars of others are left out.
// Exit: 0 all bars are met, 1 one is missed, 2 a run failed, or the bare send() loop was too slow for the run to say anything.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

// ---- Numbers ------------------------------------------------------------------------------------------------------------

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
export const spread = (values) => (Math.max(...values) - Math.min(...values)) / median(values);

// Three digits, and as many more as there are before the point.
export const figure = (x) => (x >= 1000 ? Math.round(x).toLocaleString('en-US') : String(+x.toPrecision(3)));

// ---- Bars ---------------------------------------------------------------------------------------------------------------

const NODE = ['node', 'node_cluster', 'node_redis'];
const sideOf = (result, name) => result?.sides.find((side) => side.name === name);
const best = (result, names) => names.map((name) => sideOf(result, name)).filter(Boolean).sort((a, b) => median(b.per_cpu_s) - median(a.per_cpu_s))[0];
const holds = (value, { min = -Infinity, max = Infinity }) => value >= min && value <= max;
const bound = ({ min, max }) => (min === undefined ? `≤ ${figure(max)}` : `≥ ${figure(min)}`);

// of : against, by round, since neighbours in time share the machine's mood. `against` may be several: the best of them.
function ratio(run, of, against, limit, { key = 'per_cpu_s', inverse = false } = {}) {
  return (results) => {
    const a = sideOf(results[run], of);
    const b = best(results[run], [against].flat());
    if (!a || !b) return [];
    const ratios = a[key].map((value, i) => (inverse ? b[key][i] / value : value / b[key][i]));
    const value = median(ratios);
    return [{ text: `${of} : ${b.name}${key === 'p99_us' ? ', p99' : inverse ? ', CPU' : ''}`, value, low: Math.min(...ratios), high: Math.max(...ratios), unit: '×', bar: bound(limit), met: holds(value, limit) }];
  };
}
const cost = (run, of, against, limit) => ratio(run, of, against, limit, { inverse: true });
const p99 = (run, of, against, limit) => ratio(run, of, against, limit, { key: 'p99_us' });

const atMost = (run, text, key, unit, max) => (results) => (results[run]
  ? [{ text, value: results[run][key], unit, bar: bound({ max }), met: results[run][key] <= max }] : []);

// ---- The grid -----------------------------------------------------------------------------------------------------------
// A row: id, title, group (what the report plots together), runs: by name { program, args, sides }, and bars. `quick` are options that come last with --quick, `full`
// those without it, `quickSides` what is left of the sides; a run or row with `quick: null` is left out then.

const run = (program, args, more = {}) => ({ program, args, ...more });
const fanout = (args, sides, more) => run('fanout', args, { sides, ...more });

const fanoutRow = (members, payload, load, sides, bars, more = {}) => ({
  id: `fanout-${members}-${payload}-${load.replace('=', '-')}`,
  title: `fan-out, ${figure(members)} members, ${payload} bytes, ${load.replace('in-flight=1', 'one in flight').replace('pending=', '')}${load.startsWith('pending') ? ' pending' : ''}`,
  group: 'fanout',
  runs: { all: fanout([`--members=${members}`, `--payload=${payload}`, `--${load}`], sides, more) },
  bars: bars.map(([of, against, min]) => ratio('all', of, against, { min })),
});

// Coarsely it is the slope from 1,000 to 4,000 connections, since a fresh server's buffers would weigh too much among so few.
const idle = (side, to, args = []) => run('idle', [`--side=${side}`, `--to=${to}`, '--from=1000', '--workers=4', '--procs=4', '--header-bytes=900', '--auth-bytes=700', '--rooms', ...args],
  { full: ['--fresh'], quick: ['--to=4000', '--settle=300'] });

const MEMBERS = [10, 100, 1000, 10000, 19000, 50000];
const BARE_MEMBERS_MAX = 19000; // one process, 20,000 descriptors
const WORKERS = [1, 2, 4, 8];

// Server CPU of a delivery in µs.
const costOf = (result, name) => 1e6 / median(sideOf(result, name).per_cpu_s);

// How much a delivery grows dearer from the cheapest number of members on, beyond what the bare loop does over the same numbers.
function flat(results) {
  const sizes = MEMBERS.filter((n) => sideOf(results[n], 'peal'));
  if (sizes.length < 2) return [];
  const cheapest = sizes.reduce((a, b) => (costOf(results[a], 'peal') <= costOf(results[b], 'peal') ? a : b));
  const dearest = sizes.filter((n) => n >= cheapest).reduce((a, b) => (costOf(results[a], 'peal') >= costOf(results[b], 'peal') ? a : b));
  const growth = (name, a, b) => costOf(results[b], name) / costOf(results[a], name);
  const bare = [cheapest, dearest].map((n) => sizes.filter((m) => m <= n && sideOf(results[m], 'bare_send')).at(-1));
  const value = growth('peal', cheapest, dearest) / (bare[0] === undefined ? 1 : Math.max(1, growth('bare_send', ...bare)));
  return [{ text: `dearest : cheapest, ${figure(dearest)} and ${figure(cheapest)} members, beyond what bare_send shows (${bare.map(figure).join(' → ')})`, value, unit: '×', bar: '≤ 1.5', met: value <= 1.5 }];
}

// Server CPU that a message costs more for each further worker, which has some of the members; a bar of null only shows it.
const furtherWorker = (max) => (results) => {
  const [first, last] = [WORKERS[0], WORKERS.at(-1)];
  const [one, all] = [first, last].map((n) => results[`awake, ${n}`]);
  if (!one || !all) return [];
  const message = (result) => costOf(result, 'peal') * result.members;
  const value = (message(all) - message(one)) / (last - first);
  return [{ text: `each further worker, ${first} → ${last}, awake: server CPU a message`, value, unit: 'µs', bar: `≤ ${max}`, met: value <= max }];
};
// Few members, or the deliveries would hide what a worker costs.
const fewMembers = () => [WORKERS[0], WORKERS.at(-1)].map((n) => [`awake, ${n}`, fanout(['--members=40', '--payload=64', `--workers=${n}`, '--in-flight=64'], ['peal'])]);

// A program that has bars of its own and is to meet them all.
const own = (id, title, program, args, text) => ({
  id, title, group: 'other', quick: null, runs: { all: run(program, args) },
  bars: [({ all }) => [{ text, value: null, bar: 'all', met: all.ok }]],
});

const bareAndPeers = ['peal', 'bare_send', 'bare_uring', 'peal_socketio', ...NODE, 'nchan'];
const pending = ['peal', 'bare_send', 'bare_send_coalescing', 'bare_uring_coalescing'];

export const ROWS = [
  fanoutRow(1000, 64, 'in-flight=1', bareAndPeers, [['peal', 'bare_send', 2.0], ['peal', 'bare_uring', 0.8], ['peal_socketio', NODE, 6], ['peal', 'nchan', 2.5]],
    { quickSides: ['peal', 'bare_send', 'bare_uring', 'peal_socketio', 'node', 'nchan'] }),
  fanoutRow(1000, 512, 'in-flight=1', ['peal', 'bare_send', 'bare_uring'], [['peal', 'bare_send', 2.0], ['peal', 'bare_uring', 0.8]]),
  fanoutRow(10000, 64, 'in-flight=1', ['peal', 'bare_send', 'bare_uring', 'peal_socketio', ...NODE], [['peal', 'bare_send', 1.5], ['peal', 'bare_uring', 0.8], ['peal_socketio', NODE, 4]],
    { quickSides: ['peal', 'bare_send', 'bare_uring'] }),
  fanoutRow(10000, 512, 'in-flight=1', ['peal', 'bare_send', 'bare_uring'], [['peal', 'bare_send', 1.5], ['peal', 'bare_uring', 0.8]]),
  fanoutRow(1000, 64, 'pending=4', pending, [['peal', 'bare_send', 6], ['peal', 'bare_uring_coalescing', 0.6]]),
  fanoutRow(1000, 64, 'pending=16', [...pending, 'peal_socketio', ...NODE, 'nchan'], [['peal', 'bare_send', 15], ['peal', 'bare_uring_coalescing', 0.6], ['peal_socketio', NODE, 25], ['peal', 'nchan', 8]],
    { quickSides: [...pending, 'peal_socketio', 'node', 'nchan'] }),
  fanoutRow(10000, 64, 'pending=4', pending, [['peal', 'bare_send', 4], ['peal', 'bare_uring_coalescing', 0.6]], { quickSides: ['peal', 'bare_send', 'bare_uring_coalescing'] }),
  fanoutRow(10000, 64, 'pending=16', pending, [['peal', 'bare_send', 10], ['peal', 'bare_uring_coalescing', 0.6]], { quickSides: ['peal', 'bare_send', 'bare_uring_coalescing'], quick: ['--rounds=2'] }),
  {
    id: 'rooms', title: '10 rooms of 100 members, 64 bytes, 50,000 deliveries a second', group: 'latency',
    runs: { all: fanout(['--members=1000', '--rooms=10', '--rate=50000', '--payload=64', '--rounds=7', '--round-cpu=0.01', '--round-samples=100000'], ['peal', 'bare_send'], { quick: ['--round-samples=25000', '--round-cpu=0.01'] }) },
    bars: [p99('all', 'peal', 'bare_send', { max: 0.6 })],
  },
  {
    id: 'echo', title: 'echo, 1,000 connections, 64 bytes; Socket.IO: an event with acknowledgement', group: 'echo',
    runs: { all: run('echo', ['--connections=1000'], { sides: ['peal', 'bare_echo', 'peal_socketio', 'node'] }) },
    bars: [cost('all', 'peal', 'bare_echo', { max: 0.8 }), cost('all', 'peal_socketio', 'bare_echo', { max: 1.0 }), cost('all', 'node', 'peal_socketio', { min: 4 })],
  },
  {
    id: 'connects', title: 'new connections per server-CPU-second; Socket.IO with its namespace', group: 'connects',
    runs: { all: run('connects', ['--connections=10000'], { sides: ['peal', 'bare_connect', 'peal_socketio', 'node', 'nchan'], quick: ['--connections=1000'] }) },
    bars: [ratio('all', 'peal', 'bare_connect', { min: 0.75 }), ratio('all', 'peal_socketio', 'bare_connect', { min: 0.5 })],
  },
  {
    id: 'idle', title: 'idle connection, user space', group: 'idle',
    runs: {
      peal: idle('peal', 40000),
      peal_socketio: idle('peal_socketio', 40000),
      'peal_socketio, recovery on': idle('peal_socketio', 40000, ['--peal-arg=--recovery=2m']),
      nchan: idle('nchan', 14000),
      node: idle('node', 14000),
    },
    bars: [
      atMost('peal', 'peal', 'bytes_per_connection', 'bytes', 384),
      atMost('peal_socketio', 'peal_socketio, without the stored handshake and auth', 'own_bytes_per_connection', 'bytes', 512),
      ({ peal_socketio: off, 'peal_socketio, recovery on': on }) => (off && on
        ? [{ text: 'recovery on adds', value: on.bytes_per_connection - off.bytes_per_connection, unit: 'bytes', bar: '≤ 192', met: on.bytes_per_connection - off.bytes_per_connection <= 192 }] : []),
    ],
  },
  {
    id: 'members', title: 'a delivery, 64 bytes, 4 in flight, as members grow', group: 'members',
    runs: Object.fromEntries(MEMBERS.map((n) => [n, fanout([`--members=${n}`, '--payload=64', '--in-flight=4', ...(n > BARE_MEMBERS_MAX ? ['--workers=4'] : [])],
      n > BARE_MEMBERS_MAX ? ['peal'] : ['peal', 'bare_send'], n === 100 || n > 10000 ? { quick: null } : {})])),
    bars: [flat],
  },
  {
    id: 'workers', title: 'a room of 1,000 members, one in flight, as workers grow, all on one CPU', group: 'workers',
    runs: {
      ...Object.fromEntries(WORKERS.map((n) => [n, fanout(['--members=1000', '--payload=64', `--workers=${n}`], ['peal'], n === 2 || n === 4 ? { quick: null } : {})])),
      ...Object.fromEntries(fewMembers()),
    },
    bars: [furtherWorker(1)],
  },
  own('polling', 'what WebSocket clients pay when the same messages go to clients that poll', 'polling', ['--cpu-bar=1.1', '--p99-bar=1.25'], 'CPU a delivery 1.1 ×, p99 on the same worker 1.25 ×'),
  own('bridge', 'a hop over Redis', 'bridge', ['--p50-bar=150', '--p99-bar=5', '--out-bar=100000', '--in-bar=100000'], 'adds 150 µs, p99 5 ×, 100,000 messages a second out and in'),
  own('deflate', 'a broadcast of 1 KB of JSON to 1,000 clients with permessage-deflate', 'deflate', ['--bar=1.3'], 'CPU 1.3 × the plain one'),
  own('slow', '1 % of the members do not read', 'bars', ['slow'], "others' p99 1.5 ×"),
  own('storm', '20,000 clients cut at once', 'bars', ['storm'], 'back within 1.5 × their connect time and the back-off, none refused'),
  own('parked', 'a message that wakes further workers', 'bars', ['parked'], 'CPU for each 1.3 × a bare wake'),
  own('unicast', '50,000 messages a second to single clients, 8 workers', 'bars', ['unicast'], 'workers woken a message 1 (1.2 at the mean), CPU 1.3 × of one worker and the wakes'),
  own('unicast-redis', 'the same through Redis', 'bars', ['unicast', '--redis'], 'the same'),
  own('scale', '200,000 live connections over three ping intervals, with fan-out', 'scale', [], 'all connected, none closed, no delivery lost'),
];

// The bare send() loop of the table that the bars were made with, deliveries per server-CPU-second. More than 35 % below it, a machine says nothing.
const REFERENCE = { row: 'fanout-1000-64-in-flight-1', side: 'bare_send', per_cpu_s: 220000, least: 0.65 };

// ---- Running ------------------------------------------------------------------------------------------------------------

const QUICK = { fanout: ['--rounds=3', '--round-cpu=0.15'], echo: ['--rounds=3', '--round-cpu=0.3'], connects: ['--rounds=3', '--round-cpu=0.1'] };

function options(argv) {
  const o = { quick: false, rows: /./, out: null, bin: join(here, '..', 'build', 'bench'), list: false, sides: null, further: [] };
  for (const [i, word] of argv.entries()) {
    const [, name, value] = /^--([a-z]*)(?:=(.*))?$/.exec(word) ?? [];
    if (word === '--') return { ...o, further: argv.slice(i + 1) };
    if (name === 'quick' || name === 'list') o[name] = true;
    else if (name === 'rows' && value) o.rows = new RegExp(`^(?:${value})$`);
    else if (name === 'sides' && value) o.sides = value.split(',');
    else if ((name === 'out' || name === 'bin') && value) o[name] = value;
    else throw new Error(`what is ${word}? compare.mjs [--quick] [--rows=REGEX] [--sides=A,B] [--out=FILE] [--bin=FOLDER] [--list] [-- options of the program]`);
  }
  return o;
}

function argumentsOf(r, o) {
  const sides = (o.quick && r.quickSides) || r.sides;
  const chosen = sides?.filter((side) => !o.sides || o.sides.includes(side));
  const module = r.program === 'echo' ? [`--module=${join(o.bin, '..', 'modules', 'conformance.so')}`] : [];
  const peers = r.sides || r.program === 'idle' ? [`--peers=${join(here, 'peers')}`] : [];
  return [...r.args, ...(chosen ? [`--sides=${chosen}`] : []), ...module, ...peers, ...(o.quick ? [...(QUICK[r.program] ?? []), ...(r.quick ?? [])] : (r.full ?? [])), ...o.further];
}

// The last result of a program; throws when it says nothing (exit 2).
async function measure(r, o) {
  const child = spawn(join(o.bin, r.program), argumentsOf(r, o), { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  const ended = new Promise((resolve) => {
    child.on('close', resolve).on('error', (error) => {
      errors = error.message;
      resolve(null);
    });
  });
  let result = null;
  child.stderr.setEncoding('utf8').on('data', (text) => { errors = (errors + text).slice(-2000); });
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line);
    if (event.event === 'result') result = event;
  }
  const code = await ended;
  if (code > 1 || code === null || !result) throw new Error(`${r.program} ended with ${code}: ${errors.trim()}`);
  return result;
}

async function measureRow(row, o) {
  const results = {};
  const chosen = Object.entries(row.runs).filter(([, r]) => !(o.quick && r.quick === null));
  for (const [name, r] of chosen) {
    if (r.sides && o.sides && !r.sides.some((side) => o.sides.includes(side))) continue;
    results[name] = await measure(r, o);
  }
  return { id: row.id, title: row.title, group: row.group, runs: results, bars: row.bars.flatMap((bar) => bar(results)) };
}

const sideText = (side, rate) => `${side.name} ${rate ? `p99 ${figure(median(side.p99_us) / 1000)} ms` : figure(median(side.per_cpu_s))} ±${Math.round(spread(rate ? side.p99_us : side.per_cpu_s) * 50)} %`;

function runText(name, result) {
  const lead = name === 'all' ? '' : `${name}: `;
  if (result.bytes_per_connection !== undefined) return `${lead}${figure(result.bytes_per_connection)} bytes`;
  return lead + (result.sides ?? []).map((side) => sideText(side, result.rate > 0)).join(' · ');
}

function barText({ text, value, low, high, unit, bar, met }) {
  const verdict = met === null ? 'shown ' : met ? 'met   ' : 'MISSED';
  const measured = value === null ? '' : ` = ${figure(value)} ${unit}${low === undefined ? '' : ` (${figure(low)} to ${figure(high)})`}`;
  return `  ${verdict} ${text}${measured}${bar ? `, bar ${bar}` : ''}`;
}

function print(row) {
  const unit = Object.values(row.runs)[0]?.unit;
  console.log(`\n${row.title}${unit ? ` (${unit.replaceAll('_', ' ')} per server-CPU-second)` : ''}`);
  for (const [name, result] of Object.entries(row.runs)) console.log(`    ${runText(name, result)}`);
  if (row.failed) console.log(`  FAILED ${row.failed}`);
  for (const bar of row.bars) console.log(barText(bar));
}

// Why the run is void, or null.
function voidReason(rows, o) {
  const reference = sideOf(rows.find((row) => row.id === REFERENCE.row)?.runs.all, REFERENCE.side);
  if (!reference || o.further.length > 0) return null;
  const rate = median(reference.per_cpu_s);
  return rate >= REFERENCE.per_cpu_s * REFERENCE.least ? null
    : `void: the bare send() loop made ${figure(rate)} deliveries per CPU-second, more than 35 % below the ${figure(REFERENCE.per_cpu_s)} of the table: this machine is too slow, or busy`;
}

async function main() {
  const o = options(process.argv.slice(2));
  const chosen = ROWS.filter((row) => o.rows.test(row.id) && !(o.quick && row.quick === null));
  if (o.list || chosen.length === 0) {
    for (const row of ROWS) console.log(`${row.id.padEnd(30)} ${row.title}`);
    return o.list ? 0 : 2;
  }
  const began = Date.now();
  const machine = { cpu: cpus()[0].model, cpus: availableParallelism(), kernel: release(), node: process.version };
  console.log(`${machine.cpu}, ${machine.cpus} CPUs, Linux ${machine.kernel}${o.quick ? '. Coarse: few, short rounds' : ''}. Medians of the rounds; ± half the spread; ratios with their lowest and highest round`);
  const rows = [];
  for (const row of chosen) {
    const start = Date.now();
    rows.push(await measureRow(row, o).catch((error) => ({ id: row.id, title: row.title, group: row.group, runs: {}, bars: [], failed: error.message })));
    rows.at(-1).seconds = (Date.now() - start) / 1000;
    print(rows.at(-1));
  }
  const voided = voidReason(rows, o);
  const bars = rows.flatMap((row) => row.bars.filter((bar) => bar.met !== null));
  const missed = bars.filter((bar) => !bar.met).length;
  const failed = rows.filter((row) => row.failed).length;
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`\n${bars.length - missed} of ${bars.length} bars met, ${missed} missed${failed ? `, ${failed} rows failed` : ''}, in ${seconds} s${o.quick ? ' (coarse)' : ''}${voided ? `\n${voided}` : ''}`);
  if (o.out) {
    mkdirSync(dirname(o.out), { recursive: true });
    writeFileSync(o.out, `${JSON.stringify({ machine, when: new Date(began).toISOString(), seconds, coarse: o.quick, void: voided, met: bars.length - missed, missed, failed, rows }, null, 1)}\n`);
  }
  return voided || failed ? 2 : missed ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main().catch((error) => {
    console.error(`compare: ${error.message}`);
    return 2;
  });
}
