// crowd-child.mjs: one process of a crowd of real socket.io-clients (see crowd.mjs). Groups of clients share a room; as soon as all of a group
// have joined, each publishes its numbers to it and hears those of the others. Ends with its parent.
import { io } from 'socket.io-client';

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function startClient({ url, transports, index, faults }) {
  const socket = io(url, { forceNew: true, reconnectionDelay: 200, ...(transports ? { transports } : {}) });
  const client = { socket, index, heard: new Map(), acknowledged: 0, connects: 0, wrong: [] };
  const fault = (text) => faults.push(`client ${index}: ${text}`);
  socket.on('connect', () => {
    if (++client.connects > 1) fault('reconnected');
  });
  socket.on('disconnect', (reason, details) => {
    if (!client.leaving) fault(`disconnected: ${reason} ${details?.description ?? ''}`);
  });
  socket.on('connect_error', (error) => fault(`connect_error: ${error.message} ${error.context?.responseText ?? error.description ?? ''}`));
  socket.on('n', (from, i) => {
    const seen = client.heard.get(from) ?? 0;
    if (i !== seen) client.wrong.push(`number ${i} of client ${from} where ${seen} was next`);
    client.heard.set(from, seen + 1);
  });
  return client;
}

async function joined(client, room, milliseconds) {
  const answer = await client.socket.timeout(milliseconds).emitWithAck('join', room);
  if (answer?.ok !== true) throw new Error(`client ${client.index}: join was answered with ${JSON.stringify(answer)}`);
}

// count numbers in about `seconds`, the first at once: members may be upgrading still.
async function publish(client, { room, count, seconds }) {
  for (let i = 0; i < count; i++) {
    client.socket.emit('publish', room, 'n', client.index, i, (answer) => {
      if (answer?.ok === true) client.acknowledged++;
      else client.wrong.push(`publish ${i} was answered with ${JSON.stringify(answer)}`);
    });
    await wait((seconds * 1000 * (0.5 + Math.random())) / count);
  }
}

async function crowd({ url, groups, first, patterns, count, seconds, patience, batch }) {
  const faults = [];
  const clients = [];
  const publishing = [];
  for (let g = 0; g < groups; g++) {
    const room = `group ${first + g}`;
    const members = patterns.map((transports, k) => startClient({ url, transports, index: (first + g) * patterns.length + k, faults }));
    clients.push(...members);
    const ready = Promise.all(members.map((client) => joined(client, room, patience * 1000)));
    publishing.push(ready.then(() => Promise.all(members.map((client) => publish(client, { room, count, seconds })))));
    if (g % batch === batch - 1) await ready;
  }
  await Promise.all(publishing);
  const others = patterns.length - 1;
  const missing = () => clients.reduce((n, { heard, acknowledged }) => n + (count - acknowledged) + (count * others - [...heard.values()].reduce((a, b) => a + b, 0)), 0);
  for (const end = Date.now() + patience * 1000; missing() > 0 && Date.now() < end; ) await wait(50);
  await wait(200); // what would come twice has come by now
  const deliveries = clients.reduce((n, { heard }) => n + [...heard.values()].reduce((a, b) => a + b, 0), 0);
  const wrong = clients.flatMap((client) => client.wrong.map((text) => `client ${client.index}: ${text}`));
  for (const [i, client] of clients.entries()) {
    const transport = client.socket.io.engine?.transport?.name;
    const wanted = (patterns[i % patterns.length] ?? ['websocket'])[0];
    if (transport !== wanted) wrong.push(`client ${client.index} is on ${transport} at the end, not on ${wanted}`);
  }
  return { clients: clients.length, deliveries, acknowledged: clients.reduce((n, c) => n + c.acknowledged, 0), missing: missing(), faults, wrong, all: clients };
}

let all = [];
process.on('message', async ({ run, leave }) => {
  try {
    if (run) {
      const result = await crowd(run);
      all = result.all;
      delete result.all;
      process.send({ result: { ...result, faults: result.faults.slice(0, 20), wrong: result.wrong.slice(0, 20), nFaults: result.faults.length, nWrong: result.wrong.length } });
    }
    if (leave) {
      for (const client of all) {
        client.leaving = true;
        client.socket.disconnect();
      }
      await wait(300);
      process.exit(0);
    }
  } catch (error) {
    process.send({ error: error.stack ?? String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
