/* backoff.c: see backoff.h.
 *
 * Invariant: died_ms holds the latest BACKOFF_FREE_DEATHS deaths, so the one about to be overwritten
 *            is the sixth from the end: where it lies within the window, this death is not free. */
#include "master/backoff.h"

uint32_t backoff_death(struct backoff *b, uint64_t now_ms)
{
    uint64_t *oldest = &b->died_ms[b->n_deaths % BACKOFF_FREE_DEATHS];
    int crowded = b->n_deaths >= BACKOFF_FREE_DEATHS && now_ms - *oldest < BACKOFF_WINDOW_MS;
    uint32_t delay_ms = BACKOFF_FIRST_MS;

    *oldest = now_ms;
    b->n_deaths++;
    if (!crowded) {
        b->n_delayed = 0;
        return 0;
    }
    for (uint32_t i = 0; i < b->n_delayed && delay_ms < BACKOFF_MAX_MS; i++)
        delay_ms *= 2;
    b->n_delayed++;
    return delay_ms < BACKOFF_MAX_MS ? delay_ms : BACKOFF_MAX_MS;
}
