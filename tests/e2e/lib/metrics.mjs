// metrics.mjs: Prometheus' text format, as far as a test needs it, and strict: a line that does not parse is an error.
const NAME = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?(?:[0-9.eE+-]+|Inf|NaN)|\+Inf)(?: -?\d+)?$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(,|$)/y;

function parseLabels(text) {
  const labels = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const match = LABEL.exec(text);
    if (!match) throw new Error(`bad labels: ${text}`);
    labels[match[1]] = match[2].replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
  }
  return labels;
}

function parseNumber(text) {
  if (text === '+Inf' || text === 'Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  return Number(text);
}

// Gives { samples, types, get(name, labels), sum(name, labels), has(name) }. get wants exactly one sample that has at least the
// labels named, sum adds all such up (0 when there is none).
export function parseMetrics(text) {
  const samples = [];
  const types = new Map();
  for (const line of text.split('\n')) {
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (type) types.set(type[1], type[2]);
    if (line === '' || line.startsWith('#')) continue;
    const match = NAME.exec(line);
    if (!match) throw new Error(`not a metric: ${line}`);
    samples.push({ name: match[1], labels: parseLabels(match[2] ?? ''), value: parseNumber(match[3]) });
  }
  const find = (name, labels) =>
    samples.filter((s) => s.name === name && Object.entries(labels).every(([key, value]) => s.labels[key] === String(value)));
  return {
    samples,
    types,
    has: (name) => samples.some((s) => s.name === name),
    sum: (name, labels = {}) => find(name, labels).reduce((total, s) => total + s.value, 0),
    get(name, labels = {}) {
      const found = find(name, labels);
      if (found.length !== 1) throw new Error(`${found.length} samples of ${name} ${JSON.stringify(labels)}`);
      return found[0].value;
    },
  };
}
