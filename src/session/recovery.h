/* recovery.h: connection state recovery: what is kept of a socket while it lives, and the way back of a client that lost its connection.
 *
 *     CONNECT with pid -> claim -> replay of what it missed -> its rooms, CONNECT with the same sid and pid
 *          |                ^
 *          +--> WAITING ----+   its old connection, wherever on this host, is ended first
 *
 * All of it does nothing, and costs a look at a pointer, where recovery is off. Source of the behaviour: socket.io 4.8.4 (connectionStateRecovery). */
#ifndef PEAL_SESSION_RECOVERY_H
#define PEAL_SESSION_RECOVERY_H

#include "session/hub.h"
#include "shm/recoverable.h"

MUST_USE bool recovery_open(struct hub *h); /* false: out of memory */
void recovery_close(struct hub *h);

/* --- while it lives --- */

/* An accepted Socket.IO socket gets its pid. */
void recovery_prepare(struct hub *h, struct sock *k);
void recovery_pid(struct hub *h, const struct sock *k, char pid[SOCKET_ID_CHARS]);

/* It is ACTIVE, and in no room. */
void recovery_started(struct hub *h, struct sock *k);

/* It has entered a room, or left it: records from `since` on are for it; records from `as_of` on have not been taken in. */
void recovery_entered(struct hub *h, struct sock *k, struct slice room, uint64_t since,
                      uint64_t as_of);
void recovery_left(struct hub *h, struct sock *k, struct slice room, uint64_t as_of);

/* Something was dropped that its offset does not know of: its sockets cannot come back. */
void recovery_lagged(struct hub *h, struct conn *c);

/* The socket is about to leave its rooms, and may come back: what is for them meanwhile must not be dropped. */
void recovery_leaving(struct hub *h, struct sock *k, enum close_reason reason);

/* The socket goes: its identity is kept for a while where the reason is a lost connection, else ended. */
void recovery_let_go(struct hub *h, struct sock *k, enum close_reason reason);

/* --- the way back --- */

/* A CONNECT for a namespace that this session is not in. True: it is coming back, and is answered later (socket_recovered or connect_anew are told);
 * false: it is a CONNECT like any other. `auth` is the validated payload, or absent. */
MUST_USE bool recovery_begin(struct hub *h, struct session *n, uint16_t nsp, uint8_t section,
                             struct slice auth);

/* Goes on with those who are coming back, up to a budget. Only between two records of the walk. */
void recovery_run(struct hub *h);

/* How long the loop may sleep for their sake. */
uint32_t recovery_wait_ms(const struct hub *h);

/* Once a second: frees what has expired, takes back what others have released. */
void recovery_second(struct hub *h);

#endif
