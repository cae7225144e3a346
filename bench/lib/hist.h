/* hist.h: a log-linear histogram of times in nanoseconds (HDR style).
 *
 * Invariant: values below 256 are exact, others fall into one of 128 steps per power of two
 *            (error < 0.8 %); what is over HIST_MAX_NS is counted in the last bucket; `max_ns`
 *            is exact.
 * Owns:      nothing: a flat struct, made for shared memory and for adding up over processes. */
#ifndef BENCH_LIB_HIST_H
#define BENCH_LIB_HIST_H

#include <stdint.h>

#include "lib/json_out.h"

#define HIST_BUCKETS 4480u
#define HIST_MAX_NS  ((UINT64_C(1) << 41) - 1)

struct hist {
    uint64_t count;
    uint64_t max_ns;
    double sum_ns;
    uint64_t buckets[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value_ns);
void hist_merge(struct hist *into, const struct hist *from);

/* The value in ns below or at which `percent` (0 to 100) of the samples lie; 0 when empty. */
uint64_t hist_percentile(const struct hist *h, double percent);

/* Writes `key`: {count, mean_us, p50_us, p90_us, p99_us, p999_us, max_us}. */
void hist_json(struct json *j, const char *key, const struct hist *h);

#endif
