/* dispatch.h: which application a packet is for, and what Node would do if it is for none. */
#ifndef PEAL_APP_DISPATCH_H
#define PEAL_APP_DISPATCH_H

#include "app/host.h"
#include "proto/socketio.h"

enum dispatch_result {
    DISPATCH_DONE = 0, /* also when the connection was ended over it */
    DISPATCH_FULL      /* nothing was done: again in the next turn */
};

/* A Socket.IO packet of a client, complete with its attachments. */
MUST_USE enum dispatch_result dispatch_packet(struct peal_host *host, struct conn *c,
                                              const struct sio_packet *packet,
                                              const struct slice *attachments,
                                              uint32_t n_attachments);

/* A frame of a plain client, to be published to its first room. */
MUST_USE enum dispatch_result dispatch_frame(struct peal_host *host, struct conn *c,
                                             struct slice payload, bool binary);

void dispatch_second(struct peal_host *host);

/* For hub.socket_recovered and hub.connect_anew: what became of a CONNECT that named a session to come back to. */
void dispatch_socket_recovered(void *context, struct sock *k);
void dispatch_connect_anew(void *context, struct session *n, uint16_t nsp, uint8_t section,
                           struct slice auth);

/* For hub.socket_gone; `context` is the struct peal_host. */
void dispatch_socket_gone(void *context, struct sock *k, enum close_reason reason);

#endif
