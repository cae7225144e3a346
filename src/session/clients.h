/* clients.h: the life of a client: opening, namespaces, heartbeat, and every way to end.
 *
 * Ends are of two kinds. client_end is orderly: the client is taken out of all rooms at once, what was queued goes out, then a close frame, then the
 * socket lingers. client_gone is for sockets that are broken or not worth waiting for. Both may be called in any state and more than once. */
#ifndef PEAL_SESSION_CLIENTS_H
#define PEAL_SESSION_CLIENTS_H

#include "session/hub.h"

#define CLIENT_CONNECT_MAX 448 /* bytes of a CONNECT packet with its frame header */

/* Opening: `address` is the client's, from here on; it has been counted in ip_counts, and is given back when the client ends (not if it is not opened). */

/* A WebSocket that speaks Engine.IO: makes its session and sends the open packet. Takes over `handshake` (handshake_keep) if it succeeds. False: tables
 * are full; nothing happened. */
MUST_USE bool client_open_socketio(struct hub *h, struct conn *c,
                                   const struct peer_address *address, char *handshake);

/* A client that polls: makes its virtual connection and its session, whose open packet is the first thing in the queue. `c` is the connection of its
 * first request; the client takes over its place. `sid` gets EIO_SID_CHARS. NULL: tables are full; nothing happened. */
MUST_USE struct session *client_open_polling(struct hub *h, struct conn *c,
                                             const struct peer_address *address, char *handshake,
                                             char *sid);

/* An upgrade: the session and all its sockets are carried by `to`, a WebSocket with nothing queued, from here on. `from` is its virtual connection, which
 * ends. Nothing is lost, repeated or out of order: the queue moves, and so do the places in rooms. */
void client_move(struct hub *h, struct session *n, struct conn *from, struct conn *to);

/* A plain WebSocket in these rooms of /ws; frames go to the first. */
MUST_USE bool client_open_room(struct hub *h, struct conn *c, const struct peer_address *address,
                               const struct slice *rooms, uint32_t n_rooms);

/* /echo: no namespace, no socket. */
MUST_USE bool client_open_echo(struct hub *h, struct conn *c, const struct peer_address *address);

/* A CONNECT for a namespace that the caller uses: the socket, PENDING. NULL: tables are full. `auth` is copied. */
MUST_USE struct sock *client_connect(struct hub *h, struct session *n, uint16_t nsp,
                                     uint8_t section, struct slice auth);

/* A socket that came back with its identity: ACTIVE from here on, in no room yet. Between two records only. NULL: the table is full; nothing happened. */
MUST_USE struct sock *client_restore(struct hub *h, struct session *n, uint16_t nsp,
                                     uint8_t section, uint32_t identity, struct slice auth);
void client_send_connect(struct hub *h, struct sock *k);

/* The answer to a PENDING socket. `rooms`: joined before anything else reaches it. */
void client_accept(struct hub *h, struct sock *k, const struct slice *rooms, uint32_t n_rooms);
void client_refuse(struct hub *h, struct sock *k, enum connect_refusal reason, struct slice message,
                   struct slice data);
void client_send_connect_error(struct hub *h, struct conn *c, struct slice nsp,
                               struct slice message, struct slice data);

/* Takes a socket out of its namespace; `tell`: with a DISCONNECT packet. The connection stays. */
void client_leave(struct hub *h, struct sock *k, enum close_reason reason, bool tell);

/* Ends: see above. `code`: of the close frame (WS_CLOSE_NO_STATUS: none in it); `why` may be NULL. */
void client_end(struct hub *h, struct conn *c, enum close_reason reason, uint16_t code,
                const char *why);
void client_gone(struct hub *h, struct conn *c, enum close_reason reason);

/* Decides an end from within a flush; carried out by clients_bury. */
void client_condemn(struct hub *h, struct conn *c, enum close_reason reason, bool finished);
void clients_bury(struct hub *h);

/* Slow consumer: by policy closes, or drops what is queued. */
void client_lagged(struct hub *h, struct conn *c);

/* Once in a while: limits of queues that grow old or large. */
void clients_check_queues(struct hub *h);

/* Sends now, or in front of what waits (`urgent`). */
void client_send(struct hub *h, struct conn *c, const void *bytes, uint32_t n_bytes, bool urgent);

/* Is there room for `n` more things that are done later: joins, answers? */
bool client_has_room(const struct hub *h, uint32_t n);

/* Sends when everything that was in the ring up to now has been taken in (`at_tail`), or what this worker appended itself. */
void client_send_later(struct hub *h, struct conn *c, const void *bytes, uint32_t n_bytes,
                       bool at_tail);

/* Carries out what is due when the ring has been taken in up to `position`. */
void clients_run_deferred(struct hub *h, uint64_t position);

/* Heartbeat and timers. */
void client_on_pong(struct hub *h, struct conn *c);
void client_on_packet(struct hub *h,
                      struct conn *c); /* any other packet: extends a waiting ping's timeout once */
void client_on_timer(struct hub *h, struct conn *c);
void client_arm_timer(struct hub *h, struct conn *c);

/* Joins and leaves of this worker's own, at the tail. JOIN_LIMIT: max_rooms_per_socket; JOIN_FULL: nothing was done, try again next turn. */
enum join_result { JOIN_OK = 0, JOIN_LIMIT, JOIN_FULL };
MUST_USE enum join_result client_join(struct hub *h, struct sock *k, const struct slice *rooms,
                                      uint32_t n_rooms, uint32_t max_rooms);
MUST_USE enum join_result client_leave_rooms(struct hub *h, struct sock *k,
                                             const struct slice *rooms, uint32_t n_rooms);

/* Is it in the room, or about to be by a join of its own? `room` may be ROOM_NONE. */
bool client_in_room(struct hub *h, const struct sock *k, uint32_t room);

/* The 20 characters of a socket's id. */
void client_socket_id(struct hub *h, const struct sock *k, char id[SOCKET_ID_CHARS]);

/* Counts and places in the shared slot, after a change. */
void client_settled(struct hub *h,
                    struct conn *c); /* a placed connection is a client, was none, or ended */

/* Wraps a Socket.IO packet's text in a frame: `out` has WS_HEADER_MAX + n_bytes bytes. */
uint32_t client_frame_text(uint8_t *out, const void *text, uint32_t n_bytes);

#endif
