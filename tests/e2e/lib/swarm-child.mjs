// swarm-child.mjs: one process of a swarm of real socket.io-clients (see swarm.mjs). Ends with its parent.
import { Agent } from 'node:http';
import { io } from 'socket.io-client';

const all = [];

function start(url, { group, index, options, address }) {
  // No kept connections: xmlhttprequest-ssl never ends the request that it repeats when a kept one was closed under it.
  const agent = address && new Agent({ localAddress: address });
  const socket = io(url, { forceNew: true, ...options, ...(agent ? { agent } : {}) });
  const diary = { group, index, opens: [], ends: [], errors: [], heard: [] };
  const text = ({ message = '', description = '', context } = {}) => `${message} ${description?.message ?? description} ${context?.responseText ?? ''}`.trim();
  let host = null;
  socket.on('connect', () => {
    host = socket.io.engine.id.slice(0, 4);
    diary.opens.push({ at: Date.now(), host });
  });
  socket.on('disconnect', (reason, details) => diary.ends.push({ at: Date.now(), host, reason, text: text(details) }));
  socket.on('connect_error', (error) => diary.errors.push({ at: Date.now(), text: text(error) }));
  socket.on('n', (value) => diary.heard.push(value));
  all.push({ socket, diary });
  return socket;
}

const connected = (socket) => new Promise((resolve) => (socket.connected ? resolve() : socket.once('connect', resolve)));

async function open({ url, clients, batch }) {
  for (let at = 0; at < clients.length; at += batch) await Promise.all(clients.slice(at, at + batch).map((client) => connected(start(url, client))));
}

const diaries = () =>
  all.map(({ socket, diary }) => ({ ...diary, connected: socket.connected, host: diary.opens.at(-1)?.host, transport: socket.io.engine?.transport?.name }));

process.on('message', async ({ id, ...message }) => {
  try {
    let value;
    if (message.open) await open(message.open);
    if (message.diaries) value = diaries();
    if (message.leave) for (const { socket } of all) socket.disconnect();
    process.send({ id, value });
  } catch (error) {
    process.send({ id, error: error.stack ?? String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
