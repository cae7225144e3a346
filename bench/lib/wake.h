/* wake.h: what it costs at least that one process wakes another.
 *
 * Two processes, each asleep in an io_uring that reads its eventfd, wake each other in turns: what a
 * worker does to a parked one, and nothing else. */
#ifndef BENCH_LIB_WAKE_H
#define BENCH_LIB_WAKE_H

#include <stdint.h>

#include "lib/hist.h"

struct wake_cost {
    double cpu_us;       /* of both, a wake: write, sleep, wake-up */
    struct hist one_way; /* half of each round trip */
};

/* `n` round trips. Forks; dies when io_uring is refused. */
void wake_measure(struct wake_cost *out, uint32_t n);

/* CPU of a wake, in µs, where `sleepers` processes are woken together, `n` times, `rate` times a second: they have slept long enough to
 * have left the caches, as those of a server with little to do. */
double wake_measure_seldom(uint32_t sleepers, uint32_t n, double rate);

#endif
