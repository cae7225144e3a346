/* forward.h: the built-in application `forward`: what clients do is told to the Node servers of the cluster, whose answers are the clients'. */
#ifndef PEAL_APP_FORWARD_H
#define PEAL_APP_FORWARD_H

#include "peal/app.h"
#include "shm/counters.h"

extern const struct peal_app forward_app;

/* Which of up to 1,024 parts a socket belongs to, by the 20 characters of its id: 32-bit FNV-1a, its halves xored, the lowest ten bits. Users' programs
 * share their work by it: it never changes. */
uint32_t forward_hash(struct peal_text id);

/* ["peal:disconnect",{"id","reason","data","hash"}]; also for the bridge, which says it for a dead worker's clients. `data` is JSON. */
void forward_put_disconnect(struct peal_out *out, struct peal_text id, struct peal_text reason,
                            struct peal_text data);
#define FORWARD_SETTLE_MS \
    3000 /* from when Redis is back until it is said: servers come back to it, too */
#define FORWARD_DISCONNECT_MAX (512 + PEAL_DATA_BYTES_MAX)

/* Counts: the one thing that app.h has nothing for (host.c). */
void forward_count(struct peal_host *host, enum forward_result result);

#endif
