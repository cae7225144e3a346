// chat.mjs: a chat application as one writes it with Socket.IO. It knows nothing of Peal: `app` is an `io`, a namespace, or what peal(io) gives.
//   io      for what goes to others        store   an async function: keeps a message
export function chat(app, io, store) {
  app.use((socket, next) => {
    const user = /^token of (\w+)$/.exec(socket.handshake.auth.token)?.[1];
    if (user) {
      socket.data.user = user;
      return next();
    }
    const error = new Error('not authorized');
    error.data = { code: 401, hint: 'a token, please' };
    next(error);
  });
  app.use(async (socket, next) => {
    await null;
    socket.data.level = socket.handshake.query.level ?? 'none';
    next();
  });
  app.on('connection', (socket) => {
    const { user } = socket.data;
    socket.join(`of ${user}`);
    socket.emit('welcome', { user, level: socket.data.level });
    socket.broadcast.emit('came', user);
    socket.on('enter', (room, ack) => {
      socket.join(room);
      socket.to(room).emit('entered', room, user);
      socket.emit('topic', room, `about ${room}`);
      ack({ ok: true });
      socket.emit('hint', room);
    });
    socket.on('leave', (room) => {
      socket.leave(room);
      io.to(room).emit('left', room, user);
    });
    socket.on('message', async (room, text, ack) => {
      await store({ user, room, text });
      socket.to(room).emit('message', room, user, text);
      ack({ ok: true });
    });
    socket.on('private', (to, text) => io.to(`of ${to}`).emit('private', user, text));
    socket.on('several', (ack) => ack(1, 'two', { three: [null, true] }));
    socket.on('file', (name, bytes, ack) => {
      if (!Buffer.isBuffer(bytes)) throw new Error('not a Buffer');
      socket.data.files = (socket.data.files ?? 0) + 1;
      ack({ name, size: bytes.length, back: bytes, view: new Uint8Array([1, 2]), n: socket.data.files });
      socket.emit('file', name, bytes);
    });
    socket.on('call me', () => socket.emit('ring', 1, (answer) => socket.emit('heard', answer)));
    socket.on('nothing', () => {}); // and no acknowledgement
    socket.on('throw me out', (close) => socket.disconnect(close));
    socket.on('disconnecting', () => io.emit('going', user, [...socket.rooms].filter((room) => room !== socket.id).sort()));
    socket.on('disconnect', (reason) => io.emit('gone', user, reason));
  });
}
