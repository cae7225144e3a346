/* place.h: which worker a new connection goes to (leastconn). Numbers only.
 *
 * A place is a client that is, or a connection that may become one. The worker reports both halves in
 * one word (shm_slot.places): clients in the low half, settled connections in the high one. What the
 * master has given and the worker has not settled is still on its way. A connection that becomes a
 * client moves from one side of the sum to the other in one store, so the sum never jumps up but by
 * what the master gives: the limits are exact. */
#ifndef PEAL_MASTER_PLACE_H
#define PEAL_MASTER_PLACE_H

#include "base/slice.h"
#include "net/inbox.h"

struct place_worker {
    bool is_live;
    bool is_stuck;  /* its inbox is full: nothing can be sent to it in this turn */
    uint32_t used;  /* place_used */
    uint32_t limit; /* 0 = none */
};

enum place_verdict {
    PLACE_GIVEN = 0, /* to `slot`, which has room */
    PLACE_REFUSED,   /* to `slot`, without a place and with `refusal` */
    PLACE_WAIT       /* for an inbox to drain, or for a worker to live */
};

struct place_choice {
    enum place_verdict verdict;
    uint32_t slot;
    enum parcel_refusal refusal;
};

/* Places taken at a worker: `places` is its word, read at once; `n_given` wraps with its high half. */
uint32_t place_used(uint64_t places, uint32_t n_given);

/* The live worker with the most room. `host_limit` 0 = none. `turn` is where to begin looking, so
 * that equals take turns; the caller keeps it. Changes nothing else. */
MUST_USE struct place_choice place_choose(const struct place_worker *workers, uint32_t n,
                                          uint64_t host_limit, uint32_t *turn);

/* Any live worker that is not stuck, in turn, for what needs no place. */
MUST_USE struct place_choice place_anywhere(const struct place_worker *workers, uint32_t n,
                                            enum parcel_refusal refusal, uint32_t *turn);

/* New connections per second: a bucket that holds one second's worth and begins full. */
struct place_rate {
    uint32_t per_second; /* 0 = off */
    uint64_t tokens_milli;
    uint64_t filled_ms;
};
void place_rate_init(struct place_rate *r, uint32_t per_second, uint64_t now_ms);
MUST_USE bool place_rate_take(struct place_rate *r, uint64_t now_ms);

#endif
