/* sessions.c: the session table. Shared: 32-byte entries, one writer each. Private: which of this
 * worker's indices are free.
 *
 * Invariant: an entry is read under its stamp: even before, the same after. Entry words are written
 *            between an odd and the next even stamp, every one with release, so no reader can see a
 *            word of a change without seeing that the stamp has moved.
 * Bound:     a reader looks a fixed number of times: an entry whose owner was killed (or stopped)
 *            in mid-change reads as "no such identity", which is true: an identity is told to
 *            nobody before its claim is complete, and is dead once its release has begun.
 * Free list: an index is taken from the freed ones first (touched pages stay few), then from those
 *            never used, and only last from the few that were freed just now: a late answer for the
 *            last owner of an index must not find a new one, though the random part of the id would
 *            tell them apart anyway.
 * Two ends:  sockets are taken from the bottom of the arena upwards, Engine.IO sessions from the top
 *            downwards, each end with a free list of its own: what is kept at a socket's index in
 *            other tables (recoverable.h) has pages for sockets only, and no call here touches them
 *            for another kind. One who finds nothing more at the own end takes from the other.
 * Recovery:  an entry may outlive its connection (detached) or live at another worker. Its index is
 *            then not in the free list; it is in `away`, and sessions_collect finds out when it is
 *            free again: nobody has to tell. A successor makes its list from the table.
 * Untold:    a DEAD entry is the bridge's, which ends it by one store, as a detached one's mark by one
 *            compare-and-swap: its own end in the middle leaves no half. */
#include "shm/sessions.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "shm/atomic.h"
#include "shm/namespaces.h"
#include "shm/recoverable.h"

#define ID_BYTES     15u
#define RESTING      256u /* freed indices that are not used again if there are others */
#define RANDOM_BYTES 240u /* of one getrandom, which up to 256 bytes is never cut short: 16 ids */
#define STAMP_LOOKS  100u

/* Who takes indices from which end of the arena. */
enum { BOTTOM = 0, TOP, ENDS };

struct end {
    uint32_t n_touched; /* so many indices from this end on have been used */
    uint32_t n_freed;
    uint32_t resting_head;
    uint32_t n_resting;
    uint32_t resting[RESTING]; /* first in, first out */
};

struct sessions {
    struct region *region;
    uint32_t first; /* of this worker's indices */
    uint32_t per_slot;
    uint32_t n_used;
    struct end ends[ENDS];
    uint32_t *
        away; /* [per_slot]: indices that are detached, elsewhere or dead; NULL: there cannot be any */
    uint8_t *is_away; /* [per_slot] */
    uint32_t n_away;
    uint32_t away_at; /* where sessions_collect goes on */
    uint32_t n_random;
    uint8_t random[RANDOM_BYTES];
    /* per_slot of them, a stack from each end; memory is only what was touched */
    uint32_t freed[];
};

/* An entry without its stamp, as the words that are stored. */
union entry {
    struct shm_session fields;
    uint64_t words[4]; /* [0] is the stamp's place */
};
static_assert(sizeof(union entry) == sizeof(struct shm_session), "whole words");

static bool is_own(const struct sessions *s, uint32_t index)
{
    return index >= s->first && index - s->first < s->per_slot;
}

void session_watch(struct sessions *s, uint32_t index)
{
    if (s->away == NULL || !is_own(s, index) || s->is_away[index - s->first])
        return;
    s->is_away[index - s->first] = 1;
    s->away[s->n_away++] = index;
}

static uint8_t kind_of(const struct region *region, uint32_t index)
{
    union entry now;

    now.words[2] = shm_load_acquire_u64((const uint64_t *)&region->sessions[index] + 2);
    return now.fields.kind;
}

static bool is_recoverable(const struct region *region, uint32_t index)
{
    return region->recovery != NULL &&
           recovery_state(shm_load_acquire_u64(&region->recovery[index].state)) != RECOVERY_NONE;
}

static void for_arena(struct region *region, uint32_t slot, uint64_t table, uint32_t entry_bytes,
                      void (*each)(void *context, struct region *region, uint32_t index),
                      void *context)
{
    uint32_t per_slot = region->header->sessions_per_slot;

    region_each_touched(region, table, entry_bytes, slot * per_slot, (slot + 1) * per_slot, each,
                        context);
}

/* What an earlier process in the slot has left. */
static void inherit(struct sessions *s, uint32_t index)
{
    if (s->is_away[index - s->first])
        return;
    session_watch(s, index);
    s->n_used++;
}

static void inherit_dead(void *context, struct region *region, uint32_t index)
{
    if (kind_of(region, index) == SESSION_DEAD)
        inherit(context, index);
}

static void inherit_recoverable(void *context, struct region *region, uint32_t index)
{
    if (is_recoverable(region, index))
        inherit(context, index);
}

struct sessions *sessions_new(struct region *region)
{
    struct sessions *s;
    uint32_t per_slot = region->header->sessions_per_slot;

    assert(region->self < region->header->n_workers);
    s = calloc(1, sizeof *s + sizeof s->freed[0] *
                                  per_slot); /* fresh zero pages: untouched ones cost nothing */
    if (s == NULL)
        return NULL;
    s->region = region;
    s->per_slot = per_slot;
    s->first = region->self * per_slot;
    if (region->recovery == NULL && !config_forwards(region->config))
        return s;
    s->away = calloc(per_slot, sizeof *s->away);
    s->is_away = calloc(per_slot, sizeof *s->is_away);
    if (s->away == NULL || s->is_away == NULL) {
        sessions_free(s);
        return NULL;
    }
    for_arena(region, region->self, region->header->sessions_offset, sizeof(struct shm_session),
              inherit_dead, s);
    if (region->recovery != NULL)
        for_arena(region, region->self, region->header->recovery_offset,
                  sizeof(struct shm_recovery), inherit_recoverable, s);
    return s;
}

void sessions_free(struct sessions *s)
{
    if (s == NULL)
        return;
    free(s->away);
    free(s->is_away);
    free(s);
}

uint32_t sessions_used(const struct sessions *s)
{
    return s->n_used;
}

/* The n-th index from an end on. */
static uint32_t index_at(const struct sessions *s, uint32_t end, uint32_t n)
{
    return s->first + (end == BOTTOM ? n : s->per_slot - 1 - n);
}

static bool is_touched(const struct sessions *s, uint32_t index)
{
    return index - s->first < s->ends[BOTTOM].n_touched ||
           s->first + s->per_slot - 1 - index < s->ends[TOP].n_touched;
}

static uint32_t *freed_at(struct sessions *s, uint32_t end, uint32_t n)
{
    return &s->freed[end == BOTTOM ? n : s->per_slot - 1 - n];
}

static uint32_t take_freed(struct sessions *s, uint32_t end)
{
    struct end *e = &s->ends[end];

    return e->n_freed > 0 ? *freed_at(s, end, --e->n_freed) : SESSION_NONE;
}

static uint32_t take_fresh(struct sessions *s, uint32_t end)
{
    while (s->ends[BOTTOM].n_touched + s->ends[TOP].n_touched < s->per_slot) {
        uint32_t index = index_at(s, end, s->ends[end].n_touched++);

        if (s->is_away == NULL || !s->is_away[index - s->first])
            return index;
    }
    return SESSION_NONE;
}

static uint32_t take_resting(struct sessions *s, uint32_t end)
{
    struct end *e = &s->ends[end];
    uint32_t index;

    if (e->n_resting == 0)
        return SESSION_NONE;
    index = e->resting[e->resting_head];
    e->resting_head = (e->resting_head + 1) % RESTING;
    e->n_resting--;
    return index;
}

static uint32_t index_take(struct sessions *s, uint32_t end)
{
    uint32_t other = end == BOTTOM ? TOP : BOTTOM;
    uint32_t index = take_freed(s, end);

    if (index == SESSION_NONE)
        index = take_fresh(s, end);
    if (index == SESSION_NONE)
        index = take_freed(s, other);
    if (index == SESSION_NONE)
        index = take_resting(s, end);
    if (index == SESSION_NONE)
        index = take_resting(s, other);
    return index;
}

/* To the end that it was taken from, whoever had it. */
static void index_give(struct sessions *s, uint32_t index)
{
    uint32_t end = index - s->first < s->ends[BOTTOM].n_touched ? BOTTOM : TOP;
    struct end *e = &s->ends[end];
    uint32_t *place = &e->resting[(e->resting_head + e->n_resting) % RESTING];

    if (e->n_resting == RESTING) {
        *freed_at(s, end, e->n_freed++) =
            *place; /* the oldest has rested enough; its place is the new one's */
        e->resting_head = (e->resting_head + 1) % RESTING;
    } else {
        e->n_resting++;
    }
    *place = index;
}

static void random_take(struct sessions *s, uint8_t *out, uint32_t n)
{
    assert(n <= RANDOM_BYTES);
    if (s->n_random < n) {
        ssize_t got = getrandom(s->random, RANDOM_BYTES, 0);

        /* Cannot fail on a kernel that has it; a guessable id would be worse than an end. */
        assert(got == (ssize_t)RANDOM_BYTES);
        s->n_random = RANDOM_BYTES;
    }
    s->n_random -= n;
    memcpy(out, s->random + s->n_random, n);
    memset(s->random + s->n_random, 0, n); /* an id that was given out is found nowhere else */
}

void sessions_random(struct sessions *s, uint8_t *out, uint32_t n)
{
    random_take(s, out, n);
}

static void entry_store(struct shm_session *e, const union entry *value)
{
    uint64_t *words = (uint64_t *)e;
    uint64_t stamp =
        shm_load_u64(&e->stamp) | 1; /* odd already where an earlier owner died in between */

    shm_store_u64(&e->stamp, stamp);
    for (uint32_t i = 1; i < 4; i++)
        shm_store_release_u64(
            &words[i], value->words[i]); /* release: never seen without the odd stamp before it */
    shm_store_release_u64(&e->stamp,
                          stamp + 1); /* release: the words are there before it is even */
}

/* False: it was never seen at rest. */
static bool entry_load(const struct shm_session *e, union entry *value)
{
    const uint64_t *words = (const uint64_t *)e;

    for (uint32_t look = 0; look < STAMP_LOOKS; look++) {
        uint64_t stamp = shm_load_acquire_u64(&e->stamp); /* acquire: before the words */

        for (uint32_t i = 1; i < 4; i++)
            value->words[i] = shm_load_u64(&words[i]);
        shm_fence_load(); /* the words before the second look at the stamp */
        if (shm_load_u64(&e->stamp) == stamp && (stamp & 1) == 0)
            return true;
    }
    return false;
}

uint32_t session_claim(struct sessions *s, enum shm_session_kind kind, uint32_t local, uint16_t nsp,
                       uint8_t id[15])
{
    union entry value = { .fields = { .kind = (uint8_t)kind,
                                      .local = local,
                                      .nsp = nsp,
                                      .owner = (uint8_t)s->region->self } };
    uint32_t index;
    uint32_t n_index_bytes = 0;

    assert(kind == SESSION_SOCKET || kind == SESSION_ENGINE);
    index = index_take(s, kind == SESSION_SOCKET ? BOTTOM : TOP);
    if (index == SESSION_NONE)
        return SESSION_NONE;
    if (kind ==
        SESSION_SOCKET) { /* a socket id says where its entry is; a sid has that beside it */
        id[0] = (uint8_t)(index >> 16);
        id[1] = (uint8_t)(index >> 8);
        id[2] = (uint8_t)index;
        n_index_bytes = 3;
    }
    random_take(s, id + n_index_bytes, ID_BYTES - n_index_bytes);
    memcpy(value.fields.id, id, ID_BYTES);
    entry_store(&s->region->sessions[index], &value);
    s->n_used++;
    return index;
}

static void end_recovery(struct region *region, uint32_t index)
{
    uint64_t *state;
    uint64_t word;

    if (region->recovery == NULL)
        return;
    state = &region->recovery[index].state;
    word = shm_load_u64(state);
    if (recovery_state(word) !=
        RECOVERY_NONE) /* release: behind the identity, which is free then */
        shm_store_release_u64(state, ((word >> 16) + 1) << 16);
}

/* A socket of a dead worker that back ends believe to be there: in a namespace of theirs, or detached and marked. */
static bool is_untold(const struct region *region, const struct shm_session *e)
{
    if (e->kind == SESSION_DEAD)
        return true;
    return (e->kind == SESSION_SOCKET && namespace_is_forwarded(region, e->nsp)) ||
           (e->kind == SESSION_DETACHED && (e->flags & SESSION_UNTOLD) != 0);
}

/* In one store: beside the kind its word holds only bytes of the id. */
static void become_dead(struct shm_session *e)
{
    union entry value;

    memcpy(&value, e, sizeof value);
    value.fields.kind = SESSION_DEAD;
    shm_store_release_u64((uint64_t *)e + 2, value.words[2]);
}

/* An odd stamp: its holder died while it claimed it, when nobody knew of it yet, or released it, when its end had been told. */
void session_wipe(struct region *region, uint32_t index)
{
    static const union entry none = { .words = { 0 } };
    struct shm_session *e = &region->sessions[index];
    bool is_socket = e->kind != SESSION_ENGINE;

    if ((shm_load_u64(&e->stamp) & 1) == 0 && is_untold(region, e))
        become_dead(e);
    else
        entry_store(e, &none);
    if (is_socket)
        end_recovery(region, index);
}

void session_mark_untold(struct region *region, uint32_t index)
{
    struct shm_session *e = &region->sessions[index];
    union entry value;

    if (e->kind != SESSION_SOCKET || !namespace_is_forwarded(region, e->nsp))
        return;
    memcpy(&value, e, sizeof value);
    value.fields.flags |= SESSION_UNTOLD;
    shm_store_release_u64((uint64_t *)e + 3, value.words[3]);
}

struct region *sessions_region(struct sessions *s)
{
    return s->region;
}

void session_release(struct sessions *s, uint32_t index)
{
    union entry none = { .words = { 0 } };
    struct shm_session *e = &s->region->sessions[index];
    bool is_socket = e->kind != SESSION_ENGINE;

    assert(e->kind != SESSION_FREE);
    assert(is_own(s, index) || s->region->recovery != NULL);
    if (e->kind == SESSION_DETACHED && is_untold(s->region, e))
        become_dead(e); /* watched, in its arena, as it was */
    else
        entry_store(e, &none);
    if (is_socket)
        end_recovery(s->region, index);
    if (!is_own(s, index))
        return; /* whose arena it is in finds out (sessions_collect) */
    if (s->away != NULL && s->is_away[index - s->first])
        return; /* so do we */
    assert(s->n_used > 0);
    index_give(s, index);
    s->n_used--;
}

/* The kind lies in one word with bytes of the id that stay as they are: one store, so no stamp is needed, and a kill leaves one or the other. */
void session_detach(struct region *region, uint32_t index)
{
    struct shm_session *e = &region->sessions[index];
    union entry value;

    memcpy(&value, e, sizeof value);
    assert(value.fields.kind == SESSION_SOCKET || value.fields.kind == SESSION_DETACHED);
    value.fields.kind = SESSION_DETACHED;
    shm_store_release_u64((uint64_t *)e + 2, value.words[2]);
    if ((shm_load_u64(&e->stamp) & 1) != 0) /* a dead claimer was about to adopt it */
        shm_store_release_u64(&e->stamp, shm_load_u64(&e->stamp) + 1); /* release: the last word */
}

void session_adopt(struct sessions *s, uint32_t index, uint32_t local)
{
    union entry value;

    memcpy(&value, &s->region->sessions[index], sizeof value);
    assert(value.fields.kind == SESSION_DETACHED);
    value.fields.kind = SESSION_SOCKET;
    value.fields.owner = (uint8_t)s->region->self;
    value.fields.local = local;
    value.fields.flags = 0; /* who has it tells its end, or that it is back */
    entry_store(&s->region->sessions[index], &value);
}

/* True: it is this process's again, living or free, and need not be watched. */
static bool has_returned(struct sessions *s, uint32_t index, uint64_t now_ms)
{
    static struct shm_recovery none;
    struct shm_recovery *e = s->region->recovery == NULL ? &none : &s->region->recovery[index];
    uint64_t word = shm_load_acquire_u64(&e->state); /* acquire: what its last holder wrote */

    if (kind_of(s->region, index) == SESSION_DEAD)
        return false;
    switch (recovery_state(word)) {
    case RECOVERY_NONE: break; /* released elsewhere, or told */
    case RECOVERY_LIVE:
    case RECOVERY_SPOILED: /* an inherited one that is not yet passed by stays, or it would be a fresh one */
        return recovery_holder(word) == s->region->self && is_touched(s, index);
    case RECOVERY_CLAIMED: return false;
    case RECOVERY_DETACHED:
        if (shm_load_u64(&e->expires_ms) > now_ms)
            return false;
        if (!shm_cas_u64(&e->state, &word,
                         ((word >> 16) + 1) << 16 | s->region->self << 8 | RECOVERY_CLAIMED))
            return false;
        session_wipe(s->region, index);
        if (kind_of(s->region, index) == SESSION_DEAD)
            return false;
        break;
    }
    assert(s->n_used > 0);
    s->n_used--;
    if (is_touched(s, index)) /* else, inherited, it is still among the fresh ones */
        index_give(s, index);
    return true;
}

void sessions_collect(struct sessions *s, uint64_t now_ms, uint32_t budget)
{
    for (; budget > 0 && s->n_away > 0; budget--) {
        uint32_t index;

        if (s->away_at >= s->n_away)
            s->away_at = 0;
        index = s->away[s->away_at];
        if (!has_returned(s, index, now_ms)) {
            s->away_at++;
            continue;
        }
        s->is_away[index - s->first] = 0;
        s->away[s->away_at] = s->away[--s->n_away];
    }
}

bool session_find(const struct region *region, enum shm_session_kind kind, uint32_t index,
                  const uint8_t id[15], uint32_t *owner, uint32_t *local, uint16_t *nsp)
{
    union entry wanted = { .fields = { .kind = (uint8_t)kind } };
    union entry found;
    int32_t slot = session_owner(region, index);

    assert(kind == SESSION_SOCKET || kind == SESSION_ENGINE);
    if (slot < 0 || !entry_load(&region->sessions[index], &found))
        return false;
    memcpy(wanted.fields.id, id, ID_BYTES);
    /* Words 1 and 2 are the id and the kind. All of it is compared, in one step: how long it takes
     * tells nothing about a secret id. */
    if (((found.words[1] ^ wanted.words[1]) | (found.words[2] ^ wanted.words[2])) != 0)
        return false;
    *owner = (uint32_t)slot;
    *local = found.fields.local;
    *nsp = found.fields.nsp;
    return true;
}

bool session_exists(const struct region *region, uint32_t index, const uint8_t id[15])
{
    union entry found;

    if (session_owner(region, index) < 0)
        return false;
    if (!entry_load(&region->sessions[index], &found))
        return true;
    return (found.fields.kind == SESSION_SOCKET || found.fields.kind == SESSION_DETACHED) &&
           memcmp(found.fields.id, id, ID_BYTES) == 0;
}

int32_t session_owner(const struct region *region, uint32_t index)
{
    uint32_t per_slot = region->header->sessions_per_slot;
    union entry now;

    if (index >= region->header->n_workers * per_slot)
        return -1;
    now.words[2] = shm_load_u64((const uint64_t *)&region->sessions[index] + 2);
    now.words[3] = shm_load_u64((const uint64_t *)&region->sessions[index] + 3);
    return now.fields.kind == SESSION_FREE ? (int32_t)(index / per_slot) : now.fields.owner;
}

uint16_t session_nsp(const struct region *region, uint32_t index)
{
    union entry now;

    now.words[3] = shm_load_u64((const uint64_t *)&region->sessions[index] + 3);
    return now.fields.nsp;
}

static void clear(void *context, struct region *region, uint32_t index)
{
    const struct shm_session *e = &region->sessions[index];

    (void)context;
    if (e->kind == SESSION_FREE && (shm_load_u64(&e->stamp) & 1) == 0)
        return;
    if (e->kind == SESSION_ENGINE ||
        !is_recoverable(region, index)) /* else somebody's, or detached */
        session_wipe(region,
                     index); /* makes an odd stamp even, and further than any that a reader holds */
}

void sessions_clear(struct region *region, uint32_t slot)
{
    assert(slot < region->header->n_workers);
    for_arena(region, slot, region->header->sessions_offset, sizeof(struct shm_session), clear,
              NULL);
}

/* --- the bridge --- */

bool sessions_walked(const struct region *region, const struct session_walk *walk)
{
    return walk->at >= region->header->n_workers * region->header->sessions_per_slot;
}

/* On to the next entry on a page that was touched: as in for_touched. */
static void skip_hole(const struct region *region, struct session_walk *walk)
{
    uint64_t table = region->header->sessions_offset;
    uint32_t end = region->header->n_workers * region->header->sessions_per_slot;
    off_t data =
        lseek(region->fd, (off_t)(table + walk->at * sizeof(struct shm_session)), SEEK_DATA);
    off_t hole = data < 0 ? -1 : lseek(region->fd, data, SEEK_HOLE);
    uint64_t from = (uint64_t)data < table ? table : (uint64_t)data;

    if (data < 0 || hole < 0 || (from - table) / sizeof(struct shm_session) >= end) {
        walk->at = end;
        return;
    }
    walk->at = (uint32_t)((from - table) / sizeof(struct shm_session));
    walk->until = (uint32_t)(((uint64_t)hole - table) / sizeof(struct shm_session));
    if (walk->until > end)
        walk->until = end;
}

/* Takes the entry's mark away. False: it has none, or somebody was faster. */
static bool take_mark(struct shm_session *e, uint64_t slots, struct session_untold *out)
{
    union entry now;
    union entry told;

    now.words[2] = shm_load_acquire_u64((uint64_t *)e + 2); /* acquire: what it was before */
    now.words[3] = shm_load_u64((uint64_t *)e + 3);
    now.words[1] = shm_load_u64((uint64_t *)e + 1);
    told = now;
    if ((now.fields.kind != SESSION_DEAD && now.fields.kind != SESSION_DETACHED) ||
        now.fields.owner >= PEAL_WORKERS_MAX || (slots >> now.fields.owner & 1) == 0)
        return false;
    memcpy(out->id, now.fields.id, ID_BYTES);
    out->nsp = now.fields.nsp;
    if (now.fields.kind == SESSION_DEAD) {
        told.fields.kind = SESSION_FREE;
        shm_store_release_u64((uint64_t *)e + 2, told.words[2]); /* release: it has been read */
        return true;
    }
    told.fields.flags &= (uint8_t)~SESSION_UNTOLD;
    return (now.fields.flags & SESSION_UNTOLD) != 0 &&
           shm_cas_u64((uint64_t *)e + 3, &now.words[3], told.words[3]);
}

bool sessions_next_untold(struct region *region, uint64_t slots, struct session_walk *walk,
                          uint32_t *budget, struct session_untold *out)
{
    for (; *budget > 0 && !sessions_walked(region, walk); (*budget)--) {
        if (walk->at >= walk->until)
            skip_hole(region, walk);
        else if (take_mark(&region->sessions[walk->at++], slots, out))
            return true;
    }
    return false;
}
