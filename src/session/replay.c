/* replay.c: see replay.h.
 *
 * Invariant: a record is looked at only if it was still there after it was copied (ring_copy). A replay whose next record is gone is at its end: what was
 *            given before is no more than a part, and its caller gives up the session.
 * Invariant: an open replay holds the directory's buckets of its namespace and of each of its rooms.
 * Never:     more than REPLAY_CHECKS_PER_TURN looks or REPLAY_BYTES_PER_TURN copied in one call. */
#include "session/replay.h"

#include <assert.h>
#include <stdlib.h>

static bool room_add_to(struct replay *r, uint64_t hash, struct slice name, uint64_t since)
{
    struct replay_room *room;

    if (r->n_rooms == r->rooms_max) {
        uint32_t max = r->rooms_max == 0 ? 4 : r->rooms_max * 2;
        struct replay_room *rooms = reallocarray(r->rooms, max, sizeof *rooms);

        if (rooms == NULL)
            return false;
        r->rooms = rooms;
        r->rooms_max = max;
    }
    room = &r->rooms[r->n_rooms++];
    room->hash = hash;
    room->since = since;
    room->n_bytes = (uint8_t)name.n_bytes;
    if (name.n_bytes > 0)
        memcpy(room->name, name.bytes, name.n_bytes);
    directory_enter(r->directory, record_bucket(hash));
    return true;
}

bool replay_open(struct replay *r, const uint64_t hash_key[2], struct slice stored)
{
    uint32_t at = 0;
    struct slice name;
    uint64_t since;

    r->rooms = NULL;
    r->n_rooms = r->rooms_max = 0;
    r->everyone = record_hash(hash_key, r->nsp, (struct slice){ NULL, 0 });
    r->is_open = true;
    directory_enter(r->directory, record_bucket(r->everyone));
    while (recoverable_next_room(stored, &at, &name, &since)) {
        if (!room_add_to(r, record_hash(hash_key, r->nsp, name), name, since)) {
            replay_close(r);
            return false;
        }
    }
    if (at == stored.n_bytes)
        return true;
    replay_close(r);
    return false;
}

void replay_close(struct replay *r)
{
    for (uint32_t i = 0; i < r->n_rooms; i++)
        directory_leave(r->directory, record_bucket(r->rooms[i].hash));
    if (r->is_open)
        directory_leave(r->directory, record_bucket(r->everyone));
    r->is_open = false;
    free(r->rooms);
    r->rooms = NULL;
    r->n_rooms = r->rooms_max = 0;
}

bool replay_rooms(const struct replay *r, uint8_t *out, uint32_t *n_bytes)
{
    *n_bytes = 0;
    for (uint32_t i = 0; i < r->n_rooms; i++) {
        const struct replay_room *room = &r->rooms[i];

        if (!recoverable_put_room(out, n_bytes, slice_of(room->name, room->n_bytes), room->since))
            return false;
    }
    return true;
}

static struct replay_room *room_of(const struct replay *r, uint64_t hash, struct slice name)
{
    for (uint32_t i = 0; i < r->n_rooms; i++) {
        struct replay_room *room = &r->rooms[i];

        if (room->hash == hash && slice_equal(slice_of(room->name, room->n_bytes), name))
            return room;
    }
    return NULL;
}

/* Is the socket in one of the record's rooms, its own id's included? */
static bool meets(const struct replay *r, const struct record_view *view, enum record_list list)
{
    struct record_names it = record_names_open(view, list);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        const struct replay_room *room = room_of(r, hash, name);

        if (room != NULL && room->since <= r->at)
            return true;
        if (slice_equal(name, slice_of(r->id, sizeof r->id)))
            return true;
    }
    return false;
}

static bool selects(const struct replay *r, const struct record_view *view)
{
    if (!slice_equal(view->nsp, r->nsp))
        return false;
    if (view->header->n_rooms > 0 && !meets(r, view, RECORD_ROOMS))
        return false;
    return view->header->n_except == 0 || !meets(r, view, RECORD_EXCEPT);
}

static void join(struct replay *r, const struct record_view *view)
{
    struct record_names it = record_names_open(view, RECORD_ARGS);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        if (room_of(r, hash, name) != NULL)
            continue;
        if (!room_add_to(r, hash, name, r->at))
            r->end = REPLAY_OVERRUN; /* no memory: better no session than a wrong one */
        r->changed = true;
    }
}

static void leave(struct replay *r, const struct record_view *view)
{
    struct record_names it = record_names_open(view, RECORD_ARGS);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        struct replay_room *room = room_of(r, hash, name);

        if (room == NULL)
            continue;
        directory_leave(r->directory, record_bucket(hash));
        *room = r->rooms[--r->n_rooms];
        r->changed = true;
    }
}

/* An event carries an offset exactly if it asks for no acknowledgement; those that do are not given again, nor are volatile ones. */
static bool is_kept(const struct record_header *header)
{
    return header->offset_at != 0 && (header->flags & RECORD_VOLATILE) == 0;
}

static void look(const struct replay_walk *w, struct replay *r, const struct record_view *view)
{
    const struct record_header *header = view->header;

    switch ((enum record_kind)header->kind) {
    case RECORD_BROADCAST:
        if (r->at >= r->from && is_kept(header) && selects(r, view)) {
            r->n_given += view->frames.n_bytes;
            w->give(w->context, r, view);
        }
        break;
    case RECORD_JOIN:
        if (r->at >= r->resume && selects(r, view))
            join(r, view);
        break;
    case RECORD_LEAVE:
        if (r->at >= r->resume && selects(r, view))
            leave(r, view);
        break;
    case RECORD_DISCONNECT:
        if (r->at >= r->resume && (header->flags & RECORD_LOST) == 0 && selects(r, view))
            r->end = REPLAY_DISCONNECTED;
        break;
    case RECORD_VOID:
    case RECORD_FETCH:
    case RECORD_SERVER_EMIT:
    case RECORD_ACK:
    case RECORD_REPLY:
    case RECORD_GONE:
    case RECORD_NAMESPACE:
    case RECORD_KINDS: break;
    }
}

static bool goes_on(const struct replay_walk *w, const struct replay *r)
{
    return r->end == REPLAY_GOES_ON && !r->blocked && r->n_given < REPLAY_AHEAD_BYTES &&
           r->at < w->until;
}

/* The record at `at`, copied. False: it is gone. */
static bool fetch(struct replay_walk *w, uint64_t at, struct record_view *view, uint32_t *n_bytes)
{
    for (uint32_t look_twice = 0; look_twice < 2; look_twice++) {
        uint8_t *grown;

        if (ring_copy(w->ring, at, w->record, w->record_max, n_bytes) != HISTORY_OK)
            return false;
        if (*n_bytes <= w->record_max)
            return record_view(view, w->record, *n_bytes);
        grown = realloc(w->record, *n_bytes);
        if (grown == NULL)
            return false;
        w->record = grown;
        w->record_max = *n_bytes;
    }
    return false;
}

bool replay_walk(struct replay_walk *w, struct replay *const *replays, uint32_t n)
{
    uint64_t next = UINT64_MAX;
    uint64_t checks = 0;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < n; i++)
        if (goes_on(w, replays[i]) && replays[i]->at < next)
            next = replays[i]->at;
    while (next != UINT64_MAX && checks < REPLAY_CHECKS_PER_TURN && bytes < REPLAY_BYTES_PER_TURN) {
        uint64_t at = next;
        struct record_view view;
        uint32_t n_bytes = 0;
        bool there = fetch(w, at, &view, &n_bytes);

        next = UINT64_MAX;
        for (uint32_t i = 0; i < n; i++) {
            struct replay *r = replays[i];

            if (!goes_on(w, r))
                continue;
            if (r->at == at && !there) {
                r->end = REPLAY_OVERRUN;
                continue;
            }
            if (r->at == at) {
                look(w, r, &view);
                r->at += (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
            }
            if (goes_on(w, r) && r->at < next)
                next = r->at;
        }
        checks += 1 + n;
        bytes += n_bytes;
    }
    return next == UINT64_MAX;
}
