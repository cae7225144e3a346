/* gaps.h: for how long somebody made no progress, and what of it was the machine's fault. Header
 * only.
 *
 * Gaps of the observed and of an idle process are noted as intervals of one clock; what is asked
 * for is the longest gap after each event (a death), less the time in which the idle one could not
 * run either. */
#ifndef PEAL_TESTS_GAPS_H
#define PEAL_TESTS_GAPS_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define GAPS_MAX   (1u << 16)
#define GAP_MIN_US 2000 /* shorter ones are not noted */

static inline uint64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

struct gap {
    uint64_t from_us, to_us;
};

/* One writer. Full when n is GAPS_MAX: then nothing more is noted. */
struct gaps {
    uint32_t n;
    struct gap at[GAPS_MAX];
};

static inline void gap_note(struct gaps *gaps, uint64_t from_us, uint64_t to_us)
{
    if (to_us - from_us >= GAP_MIN_US && gaps->n < GAPS_MAX)
        gaps->at[gaps->n++] = (struct gap){ from_us, to_us };
}

/* Of a gap, what `idle` was not late for as well. */
static inline uint64_t gap_less(const struct gap *gap, const struct gaps *idle)
{
    uint64_t left = gap->to_us - gap->from_us;

    for (uint32_t i = 0; i < idle->n; i++) {
        uint64_t from = idle->at[i].from_us, to = idle->at[i].to_us;

        from = from > gap->from_us ? from : gap->from_us;
        to = to < gap->to_us ? to : gap->to_us;
        left -= to > from ? to - from : 0;
    }
    return left;
}

/* Raises longest[e] to the longest gap that ended after event `e` and before the next; `idle` may
 * be NULL. */
static inline void gaps_longest(const struct gaps *gaps, const struct gaps *idle,
                                const uint64_t *events_us, uint32_t n_events, uint64_t *longest)
{
    uint32_t event = 0;

    for (uint32_t i = 0; i < gaps->n; i++) {
        const struct gap *gap = &gaps->at[i];
        uint64_t us = idle != NULL ? gap_less(gap, idle) : gap->to_us - gap->from_us;

        while (event + 1 < n_events && events_us[event + 1] < gap->to_us)
            event++;
        if (us > longest[event])
            longest[event] = us;
    }
}

static inline int gap_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Sorts; `n` > 0. */
static inline void gaps_p99_max(uint64_t *longest, uint32_t n, uint64_t *p99, uint64_t *max)
{
    qsort(longest, n, sizeof longest[0], gap_compare);
    *p99 = longest[n * 99 / 100];
    *max = longest[n - 1];
}

#endif
