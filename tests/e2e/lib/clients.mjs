// clients.mjs: real socket.io-clients and ws clients, closed at the end of the test.
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import { defer } from './test.mjs';
import { once, within } from './wait.mjs';

// A connected socket.io-client over WebSocket, with a connection of its own. options: of io(); namespace: "/chat".
// connected: false does not wait.
export async function ioClient(t, url, { namespace = '/', connected = true, timeout = 10000, ...options } = {}) {
  const socket = io(url + namespace, { transports: ['websocket'], forceNew: true, reconnection: false, ...options });
  defer(t, () => socket.disconnect());
  if (!connected) return socket;
  const opened = new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  await within(opened, `socket.io-client on ${url}${namespace}`, timeout);
  return socket;
}

// Many at once, a few at a time, so that the connecting itself is no load test.
export async function ioClients(t, url, n, options = {}) {
  const sockets = [];
  while (sockets.length < n) {
    const batch = Math.min(25, n - sockets.length);
    sockets.push(...(await Promise.all(Array.from({ length: batch }, () => ioClient(t, typeof url === 'function' ? url(sockets.length) : url, options)))));
  }
  return sockets;
}

// An acknowledged emit: what the server's acknowledgement was called with (one argument: it, else the list).
export async function ask(socket, event, ...args) {
  const answer = await within(new Promise((resolve) => socket.emit(event, ...args, (...values) => resolve(values))), `the acknowledgement of ${event}`, 10000);
  return answer.length === 1 ? answer[0] : answer;
}

// Each client's events of that name, as lists of arguments: [[…], …] per client, filled as they come.
export function collect(sockets, event) {
  return sockets.map((socket) => {
    const got = [];
    socket.on(event, (...args) => got.push(args));
    return got;
  });
}

// An open plain WebSocket (package ws) with .messages: [{ data: Buffer, isBinary }] as they come.
export async function wsClient(t, url, { protocols, ...options } = {}) {
  const socket = new WebSocket(url, protocols, options);
  socket.messages = [];
  socket.on('message', (data, isBinary) => socket.messages.push({ data, isBinary }));
  socket.on('error', () => {}); // a test that cares awaits `open` or `close`
  defer(t, () => socket.terminate());
  const failed = new Promise((_, reject) => socket.once('error', reject));
  failed.catch(() => {});
  await Promise.race([once(socket, 'open'), failed]);
  return socket;
}
