/* dispatch.h: between a worker and its applications: which one a packet is for, what Node would do if it is for none, and what they are told when. */
#ifndef PEAL_APP_DISPATCH_H
#define PEAL_APP_DISPATCH_H

#include "app/host.h"
#include "proto/socketio.h"

enum dispatch_result {
    DISPATCH_DONE = 0, /* also when the connection was ended over it */
    DISPATCH_FULL      /* nothing was done: again in the next turn */
};

/* Applications of all namespaces: modules are loaded, each once, and started. False: one of them cannot (logged); the worker ends. host->hub is set, and its
 * tables are there; sets its hooks. */
MUST_USE bool dispatch_open(struct peal_host *host);
/* No socket is left. */
void dispatch_close(struct peal_host *host);

/* The part of dispatch_open that concerns sockets that come back (recovery). */
void dispatch_hook_recovery(struct peal_host *host);

/* A Socket.IO packet of a client, complete with its attachments. */
MUST_USE enum dispatch_result dispatch_packet(struct peal_host *host, struct conn *c,
                                              const struct sio_packet *packet,
                                              const struct slice *attachments,
                                              uint32_t n_attachments);

/* The name of an event, its array's first element, unescaped into `name`; absent if it is a number, or too long. */
struct peal_text dispatch_event_name(struct slice array, char name[NAME_BYTES_MAX + 1]);

/* A frame of a plain client, to be published to its first room. */
MUST_USE enum dispatch_result dispatch_frame(struct peal_host *host, struct conn *c,
                                             struct slice payload, bool binary);

/* Once a turn: timers, what other threads posted, `connection` handlers that found the ring full. */
void dispatch_turn(struct peal_host *host);
/* How long until the next turn has something to do here, in ms. */
uint32_t dispatch_rest_ms(const struct peal_host *host);
/* Does anything wait for room in the ring? */
bool dispatch_waits(const struct peal_host *host);

void dispatch_second(struct peal_host *host);

#endif
