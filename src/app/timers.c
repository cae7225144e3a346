/* timers.c: see timers.h. A handle is index + 1 and the generation. */
#include "app/timers.h"

#include <assert.h>
#include <sys/mman.h>

bool timers_init(struct timers *ts, uint64_t now_ms)
{
    void *area = mmap(NULL, TIMERS_ALL * sizeof *ts->items, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    ts->items = area == MAP_FAILED ? NULL : area;
    ts->fresh = 0;
    ts->free = 0;
    ts->n_apps = 0;
    if (ts->items == NULL)
        return false;
    wheel_init(&ts->wheel, ts->items, sizeof *ts->items, offsetof(struct timer, node), TIMERS_ALL,
               now_ms);
    return true;
}

void timers_destroy(struct timers *ts)
{
    if (ts->items != NULL)
        (void)munmap(ts->items, TIMERS_ALL * sizeof *ts->items);
    ts->items = NULL;
}

peal_timer timer_new(struct timers *ts, struct app *app, uint64_t at_ms, uint32_t every_ms,
                     peal_fn fn, void *context)
{
    struct timer *t;
    uint32_t place;

    if (app != NULL && ts->n_apps == PEAL_TIMERS_MAX)
        return 0;
    assert(ts->free != 0 || ts->fresh < TIMERS_ALL); /* the others are bounded by their owners */
    place = ts->free != 0 ? ts->free : ++ts->fresh;
    t = &ts->items[place - 1];
    if (ts->free == place)
        ts->free = t->next_free;
    t->generation++;
    assert(t->generation % 2 == 1);
    t->fn = fn;
    t->context = context;
    t->app = app;
    t->every_ms = every_ms;
    ts->n_apps += app != NULL;
    wheel_arm(&ts->wheel, place - 1, at_ms);
    return (uint64_t)t->generation << 32 | place;
}

static void release(struct timers *ts, struct timer *t)
{
    t->generation++;
    ts->n_apps -= t->app != NULL;
    t->next_free = ts->free;
    ts->free = (uint32_t)(t - ts->items) + 1;
}

void timer_cancel(struct timers *ts, peal_timer timer)
{
    uint32_t place = (uint32_t)timer;
    struct timer *t;

    if (place == 0 || place > ts->fresh)
        return;
    t = &ts->items[place - 1];
    if (t->generation % 2 == 0 || t->generation != (uint32_t)(timer >> 32))
        return;
    wheel_cancel(&ts->wheel, place - 1);
    release(ts, t);
}

bool timers_due(struct timers *ts, uint64_t now_ms, uint32_t *budget, struct timer *out)
{
    uint32_t index = wheel_expire(&ts->wheel, now_ms, budget);
    struct timer *t;

    if (index == WHEEL_NONE)
        return false;
    t = &ts->items[index];
    *out = *t;
    if (t->every_ms != 0)
        wheel_arm(&ts->wheel, index, now_ms + t->every_ms);
    else
        release(ts, t);
    return true;
}

uint32_t timers_next_ms(const struct timers *ts, uint64_t now_ms)
{
    return wheel_next_ms(&ts->wheel, now_ms);
}
