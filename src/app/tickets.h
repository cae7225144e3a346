/* tickets.h: who waits for an answer of ours: a client that asked for an acknowledgement, or another worker. A ticket is good for one answer, and ends with
 * its client. Fixed pool; a list of tickets per asker, so that one who asks and asks costs nobody but himself. */
#ifndef PEAL_APP_TICKETS_H
#define PEAL_APP_TICKETS_H

#include "app/locals.h"

#define TICKETS_MAX (1u << 18) /* of a worker */

struct ticket {
    double id;           /* a client's acknowledgement id */
    uint64_t socket;     /* of that client; 0: another worker asks */
    uint64_t request;    /* ... with this request id */
    uint32_t generation; /* odd: in use */
    uint32_t next;       /* index + 1: of the list; of the free list */
    uint32_t prev;
    uint32_t slot; /* the worker that asks */
};

struct tickets {
    struct ticket *items; /* [TICKETS_MAX], pages as they are needed */
    uint32_t fresh;
    uint32_t free;
    struct ticket_list of_workers;
};

MUST_USE bool tickets_init(struct tickets *ts);
void tickets_destroy(struct tickets *ts);

/* A ticket like `like`; its handle. Over PEAL_ACKS_PER_SOCKET_MAX, or with a pool that is used up, the oldest of the list makes room; 0: it has none. */
uint64_t ticket_new(struct tickets *ts, struct ticket_list *list, const struct ticket *like);

/* What the handle stands for; NULL: it is used up. */
struct ticket *ticket_find(struct tickets *ts, uint64_t handle);
void ticket_use(struct tickets *ts, struct ticket_list *list, struct ticket *t);

/* All of a list end. */
void tickets_end(struct tickets *ts, struct ticket_list *list);

#endif
