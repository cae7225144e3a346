/* driver.h: several client processes, because one may hold only RLIMIT_NOFILE descriptors.
 *
 * Invariant: no client process outlives the driver (PR_SET_PDEATHSIG) or its deadline.
 * Owns:      the shared memory until the process ends, and the children until driver_join(). */
#ifndef BENCH_LIB_DRIVER_H
#define BENCH_LIB_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DRIVER_PROCESSES_MAX 64u

struct driver {
    pid_t pids[DRIVER_PROCESSES_MAX];
    uint32_t count;
    uint32_t running;
    int worst_exit;
};

/* Zeroed memory shared with all children forked later. */
void *driver_share(size_t bytes);

/* Forks `count` (1 to DRIVER_PROCESSES_MAX) processes that run `body(index, ctx)` and exit with
 * its result. */
void driver_fork(struct driver *d, uint32_t count, int (*body)(uint32_t index, void *ctx),
                 void *ctx);

/* Reaps what has ended; true when nothing runs any more. A child killed by a signal counts as
 * exit 2. */
bool driver_poll(struct driver *d);

/* Waits until all have ended, at most until `deadline_ns`, then kills them. Returns the highest
 * exit code. */
int driver_join(struct driver *d, uint64_t deadline_ns);

/* Client processes for `n_clients` where the caller named `asked` (0: as few as the descriptor
 * limit allows). */
uint32_t driver_processes_for(uint32_t n_clients, uint32_t asked);

/* The share of `total` that falls to process `index` of `count`; shares differ by at most one. */
static inline uint32_t driver_share_of(uint32_t total, uint32_t index, uint32_t count)
{
    return total / count + (index < total % count);
}

#endif
