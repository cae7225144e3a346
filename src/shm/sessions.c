/* sessions.c: the session table. Shared: 32-byte entries, one writer each. Private: which of this
 * worker's indices are free.
 *
 * Invariant: an entry is read under its stamp: even before, the same after. Entry words are written
 *            between an odd and the next even stamp, every one with release, so no reader can see a
 *            word of a change without seeing that the stamp has moved.
 * Bound:     a reader looks a fixed number of times: an entry whose owner was killed (or stopped)
 *            in mid-change reads as "no such identity", which is true: an identity is told to
 * nobody before its claim is complete, and is dead once its release has begun. Free list: an index
 *            is taken from the freed ones first (touched pages stay few), then from those never
 *            used, and only last from the few that were freed just now: a late answer for the last
 *            owner of an index must not find a new one, though the random part of the id would tell
 *            them apart anyway. */
#include "shm/sessions.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "shm/atomic.h"

#define ID_BYTES     15u
#define RESTING      256u /* freed indices that are not used again if there are others */
#define RANDOM_BYTES 240u /* of one getrandom, which up to 256 bytes is never cut short: 16 ids */
#define STAMP_LOOKS  100u

struct sessions {
    struct region *region;
    uint32_t first; /* of this worker's indices */
    uint32_t per_slot;
    uint32_t n_used;
    uint32_t n_touched; /* indices below first + n_touched have been used */
    uint32_t n_freed;
    uint32_t resting_head;
    uint32_t n_resting;
    uint32_t resting[RESTING]; /* first in, first out */
    uint32_t n_random;
    uint8_t random[RANDOM_BYTES];
    uint32_t freed
        []; /* last in, first out; per_slot of them, of which memory is only what was touched */
};

/* An entry without its stamp, as the words that are stored. */
union entry {
    struct shm_session fields;
    uint64_t words[4]; /* [0] is the stamp's place */
};
static_assert(sizeof(union entry) == sizeof(struct shm_session), "whole words");

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
    return s;
}

void sessions_free(struct sessions *s)
{
    free(s);
}

uint32_t sessions_used(const struct sessions *s)
{
    return s->n_used;
}

static uint32_t index_take(struct sessions *s)
{
    uint32_t index;

    if (s->n_freed > 0)
        return s->freed[--s->n_freed];
    if (s->n_touched < s->per_slot)
        return s->first + s->n_touched++;
    if (s->n_resting == 0)
        return SESSION_NONE;
    index = s->resting[s->resting_head];
    s->resting_head = (s->resting_head + 1) % RESTING;
    s->n_resting--;
    return index;
}

static void index_give(struct sessions *s, uint32_t index)
{
    uint32_t *place = &s->resting[(s->resting_head + s->n_resting) % RESTING];

    if (s->n_resting == RESTING) {
        s->freed[s->n_freed++] =
            *place; /* the oldest has rested enough; its place is the new one's */
        s->resting_head = (s->resting_head + 1) % RESTING;
    } else {
        s->n_resting++;
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

static bool is_own(const struct sessions *s, uint32_t index)
{
    return index >= s->first && index - s->first < s->per_slot;
}

uint32_t session_claim(struct sessions *s, enum shm_session_kind kind, uint32_t local, uint16_t nsp,
                       uint8_t id[15])
{
    union entry value = { .fields = { .kind = (uint8_t)kind, .local = local, .nsp = nsp } };
    uint32_t index;
    uint32_t n_index_bytes = 0;

    assert(kind == SESSION_SOCKET || kind == SESSION_ENGINE);
    index = index_take(s);
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

void session_release(struct sessions *s, uint32_t index)
{
    union entry none = { .words = { 0 } };

    assert(is_own(s, index));
    assert(s->region->sessions[index].kind != SESSION_FREE);
    assert(s->n_used > 0);
    entry_store(&s->region->sessions[index], &none);
    index_give(s, index);
    s->n_used--;
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

int32_t session_owner(const struct region *region, uint32_t index)
{
    uint32_t per_slot = region->header->sessions_per_slot;

    if (index >= region->header->n_workers * per_slot)
        return -1;
    return (int32_t)(index / per_slot);
}

/* Only pages that the dead worker touched are looked at: reading a hole of the file through the
 * mapping would allocate it. */
void sessions_clear(struct region *region, uint32_t slot)
{
    static const union entry none = { .words = { 0 } };
    uint64_t table = region->header->sessions_offset;
    uint64_t slot_bytes = (uint64_t)region->header->sessions_per_slot * sizeof(struct shm_session);
    off_t end = (off_t)(table + (slot + 1) * slot_bytes);
    off_t at = (off_t)(table + slot * slot_bytes);

    assert(slot < region->header->n_workers);
    while (at < end) {
        off_t data = lseek(region->fd, at, SEEK_DATA); /* nobody uses the file's offset */
        off_t hole;
        uint64_t first, last;

        if (data < 0 || data >= end)
            return; /* ENXIO: nothing but holes */
        hole = lseek(region->fd, data, SEEK_HOLE);
        if (hole < 0 || hole > end)
            hole = end;
        first = ((uint64_t)data - table) / sizeof(struct shm_session);
        last = ((uint64_t)hole - table) / sizeof(struct shm_session);
        for (uint64_t index = first; index < last; index++) {
            struct shm_session *e = &region->sessions[index];

            if (e->kind != SESSION_FREE || (shm_load_u64(&e->stamp) & 1) != 0)
                entry_store(
                    e,
                    &none); /* makes an odd stamp even, and further than any that a reader holds */
        }
        at = hole;
    }
}
