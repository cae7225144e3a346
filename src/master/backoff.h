/* backoff.h: when a slot's next process is started: its first five deaths within 60 s at once, then
 * after 100 ms doubling to 5 s. Numbers only; told the time. */
#ifndef PEAL_MASTER_BACKOFF_H
#define PEAL_MASTER_BACKOFF_H

#include <stdint.h>

#define BACKOFF_FREE_DEATHS 5
#define BACKOFF_WINDOW_MS   60000
#define BACKOFF_FIRST_MS    100
#define BACKOFF_MAX_MS      5000

/* Zero is a slot that never died. */
struct backoff {
    uint64_t died_ms[BACKOFF_FREE_DEATHS]; /* the latest deaths, a ring */
    uint32_t n_deaths;                     /* in all */
    uint32_t n_delayed;                    /* one after the other */
};

/* A death at `now_ms`: how long to wait before the restart, in ms. */
uint32_t backoff_death(struct backoff *b, uint64_t now_ms);

#endif
