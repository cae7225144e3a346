/* deferred.h: what must happen at a position of the ring: acknowledgements and answers that must not overtake the records before them, and
 * this worker's own joins and leaves, which take effect at the tail of the moment. One list in position order, bounded. */
#ifndef PEAL_SESSION_DEFERRED_H
#define PEAL_SESSION_DEFERRED_H

#include "base/slice.h"

enum deferred_kind {
    DEFERRED_SEND = 0, /* `bytes` to the connection */
    DEFERRED_ACTIVATE, /* the socket is in its namespace from here on; `bytes` is its CONNECT packet */
    DEFERRED_JOIN,     /* the socket enters `room` (a reference is held) */
    DEFERRED_LEAVE
};

struct deferred_item {
    uint64_t position;
    uint32_t conn;
    uint32_t conn_generation;
    uint32_t sock;
    uint32_t sock_generation;
    uint32_t room;
    uint32_t n_bytes;
    uint8_t *bytes; /* the list's own copy: in `small`, or allocated */
    uint8_t kind;   /* enum deferred_kind */
};

#define DEFERRED_SMALL_BYTES 64 /* what nearly every acknowledgement fits into: no allocation */

struct deferred {
    uint8_t (*small)[DEFERRED_SMALL_BYTES]; /* [max]: one for each place in the ring */
    struct deferred_item *items;            /* [max], a ring */
    uint32_t head;
    uint32_t n;
    uint32_t max;
};

MUST_USE int deferred_init(struct deferred *d, uint32_t max);
void deferred_destroy(struct deferred *d); /* empty */

/* Room for `n` more? Ask before doing something whose answer must not get lost. */
bool deferred_room(const struct deferred *d, uint32_t n);

/* Positions must not fall. `item.bytes` is copied (item.n_bytes). The caller has checked the room; out of memory: false, the answer is lost with
 * its connection, which the caller ends. */
MUST_USE bool deferred_push(struct deferred *d, const struct deferred_item *item);

/* What is due for one connection goes to another instead. */
void deferred_move(struct deferred *d, uint32_t from, uint32_t from_generation, uint32_t to,
                   uint32_t to_generation);

/* The first item that is due when everything before `position` has been taken in; NULL: none.
 * Valid until deferred_pop, which takes it off and frees its bytes; nothing may be pushed between. */
struct deferred_item *deferred_due(struct deferred *d, uint64_t position);
void deferred_pop(struct deferred *d);

#endif
