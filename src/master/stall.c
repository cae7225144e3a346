/* stall.c: see stall.h. */
#include "master/stall.h"

enum stall_verdict stall_look(struct stall *s, const struct stall_sight *sight, uint64_t now_ms)
{
    uint64_t from_ms;

    if (!s->seen || s->progress != sight->progress) {
        s->seen = true;
        s->progress = sight->progress;
        s->moved_ms = now_ms;
    }
    if (!sight->is_stopped)
        s->stopped_since_ms = 0;
    else if (s->stopped_since_ms == 0)
        s->stopped_since_ms = now_ms;
    if (s->stopped_since_ms != 0 && now_ms - s->stopped_since_ms >= STALL_TIMEOUT_MS)
        return STALL_STOPPED;

    if (!sight->is_floor || sight->wait_from_ms == 0)
        return STALL_NOT;
    from_ms = sight->wait_from_ms > s->moved_ms ? sight->wait_from_ms : s->moved_ms;
    return now_ms > from_ms && now_ms - from_ms >= STALL_TIMEOUT_MS ? STALL_GATES : STALL_NOT;
}
