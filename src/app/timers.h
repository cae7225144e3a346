/* timers.h: functions that are called later: an application's timers, and the deadlines of this layer. One fixed pool, one wheel. */
#ifndef PEAL_APP_TIMERS_H
#define PEAL_APP_TIMERS_H

#include "base/wheel.h"
#include "peal/app.h"
#include "peal/limits.h"

/* Applications' own, requests under way, CONNECTs that wait. */
#define TIMERS_ALL (PEAL_TIMERS_MAX + PEAL_REQUESTS_MAX + PENDING_CONNECTS_MAX)

struct app;

struct timer {
    peal_fn fn;
    void *context;
    struct app *app; /* NULL: this layer's own */
    struct wheel_node node;
    uint32_t generation; /* odd: in use */
    uint32_t every_ms;   /* 0: once */
    uint32_t next_free;  /* index + 1 */
};

struct timers {
    struct timer *items; /* [TIMERS_ALL], pages as they are needed */
    uint32_t fresh;
    uint32_t free;
    uint32_t n_apps; /* in use by applications */
    struct wheel wheel;
};

bool timers_init(struct timers *ts, uint64_t now_ms);
void timers_destroy(struct timers *ts);

/* Arms one; 0: PEAL_TIMERS_MAX of applications are armed (`app` != NULL). */
peal_timer timer_new(struct timers *ts, struct app *app, uint64_t at_ms, uint32_t every_ms,
                     peal_fn fn, void *context);
void timer_cancel(struct timers *ts, peal_timer timer); /* nothing happens if it is over */

/* The next one that is due. One that is called once is over already; one that is called again and again has been armed anew. False: none is due, or `budget`
 * is used up. */
bool timers_due(struct timers *ts, uint64_t now_ms, uint32_t *budget, struct timer *out);

/* How long until the next one; WHEEL_NONE: there is none. */
uint32_t timers_next_ms(const struct timers *ts, uint64_t now_ms);

#endif
