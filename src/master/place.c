/* place.c: see place.h. */
#include "master/place.h"

#include <assert.h>

uint32_t place_used(uint64_t places, uint32_t n_given)
{
    uint32_t clients = (uint32_t)places, settled = (uint32_t)(places >> 32);

    return clients + (n_given - settled);
}

static uint32_t place_room(const struct place_worker *w)
{
    if (w->limit == 0) /* no limit: the fewest clients are the most room */
        return UINT32_MAX - w->used;
    return w->used < w->limit ? w->limit - w->used : 0;
}

struct place_choice place_anywhere(const struct place_worker *workers, uint32_t n,
                                   enum parcel_refusal refusal, uint32_t *turn)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = (*turn + i) % n;

        if (!workers[slot].is_live || workers[slot].is_stuck)
            continue;
        *turn = slot + 1;
        return (struct place_choice){ PLACE_REFUSED, slot, refusal };
    }
    return (struct place_choice){ PLACE_WAIT, 0, REFUSE_NOT };
}

struct place_choice place_choose(const struct place_worker *workers, uint32_t n,
                                 uint64_t host_limit, uint32_t *turn)
{
    uint32_t best = UINT32_MAX, best_room = 0;
    bool room_but_stuck = false;
    uint64_t used = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = (*turn + i) % n;
        uint32_t room = place_room(&workers[slot]);

        used += workers[slot].used; /* of dead ones too: what they had is given back when reaped */
        if (!workers[slot].is_live || room == 0)
            continue;
        if (workers[slot].is_stuck) {
            room_but_stuck = true;
        } else if (room > best_room) {
            best = slot;
            best_room = room;
        }
    }
    if (host_limit > 0 && used >= host_limit)
        return place_anywhere(workers, n, REFUSE_HOST_LIMIT, turn);
    if (best != UINT32_MAX) {
        *turn = best + 1;
        return (struct place_choice){ PLACE_GIVEN, best, REFUSE_NOT };
    }
    if (room_but_stuck) /* refusing now would be a lie: there is room */
        return (struct place_choice){ PLACE_WAIT, 0, REFUSE_NOT };
    return place_anywhere(workers, n, REFUSE_WORKER_LIMIT, turn);
}

void place_rate_init(struct place_rate *r, uint32_t per_second, uint64_t now_ms)
{
    *r = (struct place_rate){ per_second, (uint64_t)per_second * 1000, now_ms };
}

bool place_rate_take(struct place_rate *r, uint64_t now_ms)
{
    const uint64_t full = (uint64_t)r->per_second * 1000;

    if (r->per_second == 0)
        return true;
    assert(now_ms >= r->filled_ms);
    /* a second fills the bucket; the cut keeps the product small after a long silence */
    if (now_ms - r->filled_ms >= 1000)
        r->tokens_milli = full;
    else
        r->tokens_milli += (now_ms - r->filled_ms) * r->per_second;
    if (r->tokens_milli > full)
        r->tokens_milli = full;
    r->filled_ms = now_ms;
    if (r->tokens_milli < 1000)
        return false;
    r->tokens_milli -= 1000;
    return true;
}
