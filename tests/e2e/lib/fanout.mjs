// fanout.mjs: many real clients in one room, several of them publishing as fast as they can: does everybody get everything, once, in one order?
import assert from 'node:assert/strict';
import { ask, ioClient } from './clients.mjs';
import { waitFor } from './wait.mjs';

// Members of a room of `nsp`: addresses spread over 127.0.0.x, so that iphash has something to hash.
export async function roomOf(t, peal, n, { namespace = '/', room = 'room' } = {}) {
  const members = [];
  while (members.length < n) {
    const batch = Array.from({ length: Math.min(20, n - members.length) }, (_, i) =>
      ioClient(t, peal.url, { namespace, localAddress: `127.0.0.${2 + ((members.length + i) % 200)}`, timeout: 20000 }));
    members.push(...(await Promise.all(batch)));
  }
  for (const answer of await Promise.all(members.map((member) => ask(member, 'join', room)))) assert.deepEqual(answer, { ok: true });
  return members;
}

// The first `publishers` members publish `messages` each; all wait for all. Throws unless every member has got every message of the
// others exactly once, in one order that is the same for all, and each publisher's in the order sent.
export async function fanOut(members, { publishers, messages, room = 'room', timeout = 60000 }) {
  const total = publishers * messages;
  const heard = members.map((member) => {
    const got = [];
    member.on('n', (n) => got.push(n));
    return got;
  });
  const wanted = members.map((_, m) => (m < publishers ? total - messages : total));
  // Acknowledged now and then: a publisher is ahead of the server by a bounded number of messages.
  const publish = async (member, p) => {
    for (let i = 0; i < messages; i++) {
      const args = ['publish', room, 'n', p * messages + i];
      if (i % 50 === 49 || i === messages - 1) assert.deepEqual(await ask(member, ...args), { ok: true });
      else member.emit(...args);
    }
  };
  await Promise.all(members.slice(0, publishers).map(publish));
  await waitFor(() => heard.every((got, m) => got.length >= wanted[m]), {
    timeout,
    interval: 50,
    what: () => `every message at every member; missing: ${heard.map((got, m) => wanted[m] - got.length).filter((n) => n > 0).slice(0, 10)}`,
  });
  const order = heard.at(-1);
  assert.ok(members.length > publishers, 'somebody must only listen');
  assert.equal(new Set(order).size, total, 'each message once');
  assert.ok(order.every((n) => Number.isInteger(n) && n >= 0 && n < total));
  const last = new Array(publishers).fill(-1);
  for (const n of order) {
    const p = Math.floor(n / messages);
    assert.equal(n % messages, last[p] + 1, `messages of publisher ${p} in the order sent`);
    last[p] = n % messages;
  }
  heard.forEach((got, m) => {
    const expected = m < publishers ? order.filter((n) => Math.floor(n / messages) !== m) : order;
    assert.equal(got.length, expected.length, `member ${m}`);
    const wrong = got.findIndex((n, i) => n !== expected[i]);
    assert.equal(wrong, -1, `member ${m} has ${got[wrong]} at ${wrong}, others ${expected[wrong]}`);
  });
}

export const FANOUT_CONFIG = '[namespace "/"]\napp = relay\nclient_join = yes\nclient_publish = joined\n';
