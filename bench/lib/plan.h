/* plan.h: what is fixed before a run begins: which message is due when and goes to which room, and
 * when a client that was cut tries again.
 *
 * Invariant: all of it follows from the options and the seed, so every process, and a reader of the
 *            result, comes to the same.
 * Never:     looks at a clock or a socket. */
#ifndef BENCH_LIB_PLAN_H
#define BENCH_LIB_PLAN_H

#include <stdint.h>

/* The real client's defaults: reconnectionDelay, reconnectionDelayMax, randomizationFactor (socket.io-client,
 * manager.ts; the formula is in its contrib/backo2.ts). */
#define PLAN_BACK_OFF_MS     1000u
#define PLAN_BACK_OFF_MAX_MS 5000u
#define PLAN_BACK_OFF_JITTER 0.5

struct plan {
    double rate;    /* messages a second of all publishers together; 0: a closed loop */
    uint32_t burst; /* that many are due at once */
    uint32_t rooms;
    uint64_t seed;
    double *upto; /* zipf: the share of all rooms up to each; NULL: all rooms alike */
};

/* `zipf` 0: all rooms alike; else room r has a share like 1 / (r + 1)^zipf. Dies when out of memory. */
void plan_init(struct plan *p, uint32_t rooms, double zipf, uint64_t seed);
void plan_destroy(struct plan *p);

/* When message `k` is due, in ns after the first one; only where there is a rate. */
uint64_t plan_due_ns(const struct plan *p, uint64_t k);
/* Where message `k` goes, where it may go anywhere. */
uint32_t plan_room_of_message(const struct plan *p, uint64_t k);
/* The room of member `j`: in turns, or by the shares. */
uint32_t plan_room_of_member(const struct plan *p, uint32_t j);

/* What random_next() of process number `process` begins with. */
uint64_t plan_random(uint32_t seed, uint32_t process);
/* How long a client waits before attempt number `attempts` (from 0) to come back. `random` as for random_next(). */
uint32_t plan_back_off_ms(uint32_t attempts, uint64_t *random);

#endif
