/* pace.h: how fast a drain closes, and whose clients go. Numbers only; told the time.
 *
 * Tokens are handed out by the clock since the beginning, not by the tick, so that a late tick is made
 * up for and each full second hands out the rate. A token that nobody can use expires: what could not
 * be closed now must not become a burst later. */
#ifndef PEAL_MASTER_PACE_H
#define PEAL_MASTER_PACE_H

#include <stdint.h>

#define PACE_TICK_MS  20
#define PACE_AUTO_MIN 100 /* per second */

struct pace {
    uint32_t rate; /* per second, > 0 */
    uint64_t begun_ms;
    uint64_t due; /* tokens handed out or expired so far */
};

/* The rate of `drain_rate = auto`: all within 80 % of the time there is. */
uint32_t pace_auto(uint64_t n_clients, uint32_t timeout_ms);

void pace_begin(struct pace *p, uint32_t rate, uint64_t now_ms);

/* Tokens that have come due since the last call. */
uint64_t pace_take(struct pace *p, uint64_t now_ms);

/* Splits `tokens` in proportion to what each can use: given[i] <= wants[i], and as many are given as
 * there are tokens or wants in all. `turn` rotates who gets the odd ones; the caller keeps it. */
void pace_share(uint64_t tokens, const uint64_t *wants, uint64_t *given, uint32_t n,
                uint32_t *turn);

#endif
