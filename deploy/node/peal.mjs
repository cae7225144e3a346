// peal.mjs: the handlers of a Socket.IO application, for clients that are connected to Peal (app = forward) instead of to this process.
//   const serve = (io) => io.use(checkToken).on('connection', onConnection);   // what you have
//   serve(io);            // clients of this process, as ever
//   serve(peal(io));      // and clients of Peal. Another namespace: serve(peal(io.of('/chat')))
// `io` needs the Redis adapter. What clients of Peal do comes as events that every server of the cluster hears; which of several processes serves a
// client, its `hash` decides: give each of them its number and how many there are: PEAL_INDEX (from 0) and PEAL_COUNT, or { index, count }.
import { EventEmitter } from 'node:events';

const call = EventEmitter.prototype.emit; // calls handlers; a socket's own `emit` sends to its client

// Acknowledgements travel as JSON, in which a Buffer has a form that Peal knows. What else is binary for Socket.IO is made a Buffer.
function answerable(value) {
  if (typeof value !== 'object' || value === null || typeof value.toJSON === 'function') return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer) return Buffer.from(value);
  return Array.isArray(value) ? value.map(answerable) : Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, answerable(inner)]));
}

// A client of Peal. To send to it is to emit to the room of its id: it is in it, wherever it is connected.
class PealSocket extends EventEmitter {
  connected = false;
  waiting = []; // events that came before the middleware was through: of a client that had been let in earlier
  #data;
  #told = '{}'; // what Peal has of data
  constructor(nsp, { id, handshake, data = {}, recovered = false }) {
    super();
    Object.assign(this, { nsp, id, handshake, data, recovered, rooms: new Set([id]) });
  }
  get data() { return this.#data; }
  set data(value) { // an assignment to a member is noticed at once, what lies deeper when a handler returns
    const notice = (done) => { queueMicrotask(() => this.tellData()); return done; };
    this.#data = new Proxy(value, { set: (data, key, to) => notice(Reflect.set(data, key, to)), deleteProperty: (data, key) => notice(delete data[key]) });
    notice();
  }
  tellData() { // Peal gives it back with each event, and shows it in fetchSockets()
    const json = JSON.stringify(this.#data);
    if (this.connected && json !== this.#told) this.nsp.serverSideEmit('peal:data', { id: this.id, data: JSON.parse(json) });
    this.#told = json;
  }
  emit(event, ...args) { // an acknowledgement has one value, and may take a minute
    if (typeof args.at(-1) !== 'function') return this.nsp.in(this.id).emit(event, ...args);
    const answered = args.pop();
    return this.nsp.in(this.id).timeout(60000).emit(event, ...args, (_, answers) => answers?.length > 0 && answered(answers[0]));
  }
  join(rooms) {
    for (const room of [rooms].flat()) this.rooms.add(room);
    if (this.connected) this.nsp.in(this.id).socketsJoin(rooms); // else they are part of the answer to Peal
  }
  leave(room) { this.rooms.delete(room); this.nsp.in(this.id).socketsLeave(room); }
  to(room) { return this.nsp.to(room).except(this.id); }
  get broadcast() { return this.nsp.except(this.id); }
  disconnect(close = false) { this.nsp.in(this.id).disconnectSockets(close); return this; }
  hear(event, args, reply) {
    if (!this.connected) return void this.waiting.push([event, args, reply]);
    const ack = reply ? [(...values) => reply(answerable(values))] : [];
    if (event !== 'error' || this.listenerCount(event) > 0) call.call(this, event, ...args, ...ack);
    this.tellData();
  }
  end(reason) {
    if (this.connected) call.call(this, 'disconnecting', reason);
    this.rooms.clear();
    if (this.connected) { this.connected = false; call.call(this, 'disconnect', reason); }
  }
}

export function peal(io, { index = Number(process.env.PEAL_INDEX ?? 0), count = Number(process.env.PEAL_COUNT ?? 1) } = {}) {
  if (!(Number.isInteger(index) && index >= 0 && index < count && count <= 1024)) throw new RangeError(`peal: index ${index} of ${count}`);
  const nsp = io.of?.('/') ?? io; // a Server stands for its main namespace
  const app = new EventEmitter(), middleware = [], sockets = new Map();
  const on = (event, handler) => nsp.on(event, (e, reply) => { if (e.hash % count === index) handler(e, sockets.get(e.id), reply); });
  const admit = async (socket, reply) => {
    try {
      for (const fn of middleware) await new Promise((go, stop) => { fn(socket, (error) => (error ? stop(error) : go())); });
    } catch (error) {
      return reply({ ok: false, message: error.message, data: error.data }); // peal:disconnect follows
    }
    if (sockets.get(socket.id) !== socket) return; // it has left meanwhile
    socket.tellData();
    reply({ ok: true, rooms: [...socket.rooms].filter((room) => room !== socket.id), data: { ...socket.data } });
    socket.connected = true;
    call.call(app, 'connection', socket);
    for (const event of socket.waiting) socket.hear(...event);
    socket.tellData();
  };
  on('peal:connect', (e, before, reply) => {
    before?.end('transport close'); // it is back before its end was heard of
    admit(sockets.set(e.id, new PealSocket(nsp, e)).get(e.id), reply);
  });
  on('peal:event', (e, socket = new PealSocket(nsp, e), reply) => {
    socket.hear(e.event, e.args, reply);
    if (sockets.get(e.id)) return;
    sockets.set(e.id, socket); // this process is new, and the client was let in by the one before: as if it had come just now
    const take = ({ ok, rooms, data }) => (ok ? nsp.in(e.id).socketsJoin(rooms) || nsp.serverSideEmit('peal:data', { id: e.id, data }) : socket.disconnect(true));
    const found = ([known]) => (known ? admit(Object.assign(socket, { handshake: known.handshake, rooms: new Set(known.rooms) }), take) : sockets.delete(e.id));
    nsp.in(e.id).fetchSockets().catch(() => []).then(found);
  });
  on('peal:disconnect', (e, socket) => { sockets.delete(e.id); socket?.end(e.reason); });
  app.use = (fn) => { middleware.push(fn); return app; };
  return app;
}
