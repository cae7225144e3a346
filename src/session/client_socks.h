/* client_socks.h: what clients.c needs of client_socks.c, besides what clients.h has for everybody. */
#ifndef PEAL_SESSION_CLIENT_SOCKS_H
#define PEAL_SESSION_CLIENT_SOCKS_H

#include "session/clients.h"

/* A socket with an identity of its own, PENDING. NULL: tables are full. */
struct sock *client_sock_new(struct hub *h, struct session *n, uint16_t nsp, uint8_t section);

/* Joins rooms at the tail, before anything else reaches it. */
void client_hold_rooms(struct hub *h, struct sock *k, const struct slice *rooms, uint32_t n_rooms);

/* It is in its namespace from the tail on. */
void client_activate(struct hub *h, struct sock *k);

/* All sockets of a session leave, without a packet. */
void client_drop_socks(struct hub *h, struct session *n, enum close_reason reason);

/* Gauge of sockets in a namespace. */
void client_count_socket(struct hub *h, const struct sock *k, int by);

/* Of that only whether it takes compressed messages. */
void client_count_deflater(struct hub *h, const struct sock *k, int by);

#endif
