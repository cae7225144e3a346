/* pace.c: see pace.h. */
#include "master/pace.h"

#include <assert.h>

uint32_t pace_auto(uint64_t n_clients, uint32_t timeout_ms)
{
    uint64_t span_ms = (uint64_t)timeout_ms * 8 / 10, rate;

    if (span_ms == 0)
        span_ms = 1;
    rate = (n_clients * 1000 + span_ms - 1) / span_ms;
    if (rate < PACE_AUTO_MIN)
        return PACE_AUTO_MIN;
    return rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;
}

void pace_begin(struct pace *p, uint32_t rate, uint64_t now_ms)
{
    assert(rate > 0);
    *p = (struct pace){ rate, now_ms, 0 };
}

uint64_t pace_take(struct pace *p, uint64_t now_ms)
{
    uint64_t due = (now_ms - p->begun_ms) * p->rate / 1000, n;

    assert(now_ms >= p->begun_ms);
    assert(due >= p->due);
    n = due - p->due;
    p->due = due;
    return n;
}

void pace_share(uint64_t tokens, const uint64_t *wants, uint64_t *given, uint32_t n, uint32_t *turn)
{
    uint64_t all = 0, left;

    for (uint32_t i = 0; i < n; i++)
        all += wants[i];
    if (tokens > all)
        tokens = all;
    left = tokens;
    for (uint32_t i = 0; i < n; i++) {
        given[i] = all > 0 ? tokens * wants[i] / all : 0; /* rounded down: at most wants[i] */
        left -= given[i];
    }
    for (uint32_t i = 0; left > 0; i++) { /* fewer than n are left, and as many wants at least */
        uint32_t at = (*turn + i) % n;

        if (given[at] < wants[at]) {
            given[at]++;
            left--;
            if (left == 0)
                *turn = at + 1;
        }
    }
}
