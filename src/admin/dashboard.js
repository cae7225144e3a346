// dashboard.js: asks /api/workers and /metrics every two seconds and shows what they say. Text only: nothing becomes markup.
'use strict';

const PERIOD_MS = 2000;
const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en');
let before = null; // the last counters, for rates
let timer = null;

const bytes = (n) => {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
};

function element(name, text, className) {
  const e = document.createElement(name);
  e.textContent = text;
  if (className) e.className = className;
  return e;
}

function say(text, bad) {
  at('state').textContent = text;
  at('state').className = bad ? 'bad' : '';
}

// Sums of the families, labels left aside; histograms' buckets do not matter here.
function sums(text) {
  const all = new Map();
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+)(?:\{.*\})? (\S+)$/.exec(line);
    if (match) all.set(match[1], (all.get(match[1]) ?? 0) + Number(match[2]));
  }
  return all;
}

function showTotals(workers, metrics) {
  const now = { time: performance.now(), metrics };
  const rate = (name) => {
    const earlier = before?.metrics.get(name);
    if (earlier === undefined) return '–';
    const seconds = (now.time - before.time) / 1000;
    return number.format(Math.max(0, Math.round((metrics.get(name) - earlier) / seconds)));
  };
  const total = (key) => workers.reduce((sum, w) => sum + w[key], 0);
  const rows = [
    ['Clients', number.format(total('clients'))],
    ['Rooms on workers', number.format(total('rooms'))],
    ['Messages in / s', rate('peal_messages_received_total')],
    ['Deliveries / s', rate('peal_deliveries_total')],
    ['Records / s', rate('peal_ring_records_total')],
    ['Closed', number.format(metrics.get('peal_closes_total') ?? 0)],
    ['Refused', number.format(metrics.get('peal_connections_refused_total') ?? 0)],
    ['Held for slow clients', bytes(total('outq_bytes'))],
  ];
  at('totals').replaceChildren(...rows.map(([name, value]) => {
    const box = document.createElement('div');
    box.append(element('dt', name), element('dd', value));
    return box;
  }));
  before = now;
}

function showWorkers(workers) {
  at('workers').replaceChildren(...workers.map((w) => {
    const row = element('tr', '', w.ready ? '' : 'away');
    const cells = [w.slot, w.ready ? 'ready' : w.state, w.pid, number.format(w.clients), w.limit === 0 ? 'none' : number.format(w.limit),
      number.format(w.pending), number.format(w.rooms), bytes(w.ring_lag_bytes), bytes(w.outq_bytes), number.format(w.restarts)];
    row.append(...cells.map((cell) => element('td', String(cell))));
    return row;
  }));
}

async function ask(path) {
  const token = sessionStorage.getItem('token');
  const answer = await fetch(path, { cache: 'no-store', headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (answer.status === 401) {
    sessionStorage.removeItem('token');
    at('login').hidden = false;
    throw new Error('a token is needed');
  }
  return answer;
}

async function turn() {
  try {
    const answer = await ask('/api/workers');
    const state = await answer.json();
    if (!answer.ok) throw new Error(state.error);
    const metrics = sums(await (await ask('/metrics')).text());
    const ready = await (await ask('/readyz')).text();
    at('login').hidden = true;
    at('about').textContent = `${state.version} · pid ${state.pid} · since ${new Date(state.started_ms).toLocaleString()}`;
    showTotals(state.workers, metrics);
    showWorkers(state.workers);
    say(ready.trim(), !ready.startsWith('ready'));
  } catch (error) {
    say(String(error.message), true);
  }
  timer = setTimeout(turn, PERIOD_MS);
}

at('login').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', at('token').value);
  at('token').value = '';
  clearTimeout(timer);
  turn();
});
turn();
