/* recoverable.c: rooms of sockets in shared memory, such that a kill at any moment leaves them as they were before or after a change.
 *
 * Invariant: the copy that `seq` points to is whole, with all its blocks; a change fills the other copy, with other blocks, and then stores `seq`.
 * Invariant: a block is in use exactly if the entry that it names is not NONE and has the seq that it names. Whoever frees an entry or replaces a copy
 *            need not free its blocks: they are found (recoverables_collect). The process whose arena they are in does so at once, to touch few pages.
 * Never:     more than RECOVERY_ROOMS_BYTES_MAX for one socket, or more blocks than the arena has: such a socket is SPOILED. */
#include "shm/recoverable.h"

#include <assert.h>
#include <stdlib.h>

#include "shm/atomic.h"
#include "shm/directory.h"
#include "shm/namespaces.h"
#include "shm/record.h"

#define ROOM_HEAD_BYTES 9u
static_assert(RECOVERY_ROOMS_BYTES_MAX <= UINT16_MAX, "a copy's n_bytes holds it");
#define SEQ_MASK 0x7fffffffull
#define USER_BIT (1ull << 63)

/* Where a test kills a process. */
#ifndef RECOVERABLE_MOMENT
#define RECOVERABLE_MOMENT() ((void)0)
#endif

struct recoverables {
    struct region *region;
    uint32_t first; /* of this worker's blocks */
    uint32_t per_slot;
    uint32_t n_fresh; /* blocks below first + n_fresh have been looked at */
    uint32_t n_free;
    uint32_t collect_at;
    uint64_t
        building; /* the user of the copy that is being put together: not in use by the rule, and not free */
    uint8_t scratch[RECOVERY_ROOMS_BYTES_MAX];
    uint32_t free[]; /* per_slot of them; only what is used is resident */
};

struct recoverables *recoverables_new(struct region *region)
{
    uint32_t per_slot = region->header->sessions_per_slot;
    struct recoverables *r = calloc(1, sizeof *r + sizeof r->free[0] * per_slot);

    if (r == NULL)
        return NULL;
    r->region = region;
    r->per_slot = per_slot;
    r->first = region->self * per_slot;
    return r;
}

void recoverables_free(struct recoverables *r)
{
    free(r);
}

/* --- the state --- */

static uint64_t word_with(uint64_t old, enum shm_recovery_state state, uint32_t holder)
{
    return ((old >> 16) + 1) << 16 | (uint64_t)holder << 8 | (uint64_t)state;
}

/* The holder's. Release: what it wrote is there before who may read it can know. */
static void become(struct region *region, uint32_t index, enum shm_recovery_state state,
                   uint32_t holder)
{
    uint64_t *word = &region->recovery[index].state;

    shm_store_release_u64(word, word_with(shm_load_u64(word), state, holder));
}

/* --- blocks --- */

static uint64_t user_of(uint32_t index, uint64_t seq)
{
    return USER_BIT | (seq & SEQ_MASK) << 24 | index;
}

static bool in_use(const struct recoverables *r, const struct shm_recovery_block *block)
{
    uint64_t user = shm_load_u64(&block->user);
    const struct shm_recovery *e;

    if ((user & USER_BIT) == 0)
        return false;
    if (user == r->building)
        return true;
    e = &r->region->recovery[user & 0xffffff];
    return recovery_state(shm_load_acquire_u64(&e->state)) != RECOVERY_NONE &&
           (user >> 24 & SEQ_MASK) == (shm_load_u64(&e->seq) & SEQ_MASK);
}

static void block_free(struct recoverables *r, uint32_t index)
{
    shm_store_u64(&r->region->blocks[index].user, 0);
    if (index - r->first < r->n_fresh) /* else, a predecessor's, it is still among the fresh ones */
        r->free[r->n_free++] = index;
}

void recoverables_collect(struct recoverables *r, uint32_t budget)
{
    for (; budget > 0 && r->n_fresh > 0; budget--) {
        struct shm_recovery_block *block;

        if (r->collect_at >= r->n_fresh)
            r->collect_at = 0;
        block = &r->region->blocks[r->first + r->collect_at];
        if (shm_load_u64(&block->user) != 0 && !in_use(r, block)) /* 0: it is in the list */
            block_free(r, r->first + r->collect_at);
        r->collect_at++;
    }
}

static bool block_take(struct recoverables *r, uint32_t *index)
{
    if (r->n_free == 0 && r->n_fresh == r->per_slot)
        recoverables_collect(r, 4096);
    if (r->n_free > 0) {
        *index = r->free[--r->n_free];
        return true;
    }
    while (r->n_fresh < r->per_slot) {
        *index = r->first + r->n_fresh++;
        if (!in_use(r, &r->region->blocks[*index])) /* a predecessor's, detached */
            return true;
    }
    return false;
}

/* Frees a chain of our own arena's; another's ends it, and is found by whose it is. */
static void chain_free(struct recoverables *r, uint32_t block, uint64_t user)
{
    for (uint32_t n = 0; block != 0 && n < r->per_slot; n++) {
        uint32_t index = block - 1;

        if (index < r->first || index - r->first >= r->per_slot)
            return;
        if (shm_load_u64(&r->region->blocks[index].user) != user)
            return;
        block = r->region->blocks[index].next;
        block_free(r, index);
    }
}

/* --- copies --- */

bool recoverable_store(struct recoverables *r, uint32_t index, struct slice rooms, uint64_t as_of)
{
    struct shm_recovery *e = &r->region->recovery[index];
    uint64_t seq = shm_load_u64(&e->seq);
    const struct shm_recovery_rooms *old = &e->rooms[seq & 1];
    struct shm_recovery_rooms *copy = &e->rooms[(seq + 1) & 1];
    uint32_t inline_bytes =
        rooms.n_bytes < RECOVERY_INLINE_BYTES ? rooms.n_bytes : RECOVERY_INLINE_BYTES;
    uint32_t *link = &copy->block;
    bool stored = true;

    assert(rooms.n_bytes <= RECOVERY_ROOMS_BYTES_MAX);
    r->building = user_of(index, seq + 1);
    e->as_of[(seq + 1) & 1] = as_of;
    copy->n_bytes = (uint16_t)rooms.n_bytes;
    copy->block = 0;
    if (inline_bytes > 0)
        memcpy(copy->bytes, rooms.bytes, inline_bytes);
    for (uint32_t at = inline_bytes; at < rooms.n_bytes && stored; at += RECOVERY_BLOCK_BYTES) {
        uint32_t left = rooms.n_bytes - at;
        uint32_t block;

        stored = block_take(r, &block);
        if (!stored)
            break;
        shm_store_u64(&r->region->blocks[block].user, r->building);
        r->region->blocks[block].next = 0;
        memcpy(r->region->blocks[block].bytes, rooms.bytes + at,
               left < RECOVERY_BLOCK_BYTES ? left : RECOVERY_BLOCK_BYTES);
        *link = block + 1;
        link = &r->region->blocks[block].next;
        RECOVERABLE_MOMENT();
    }
    if (stored) {
        RECOVERABLE_MOMENT();
        shm_store_release_u64(&e->seq, seq + 1); /* release: the copy is whole before it counts */
        chain_free(r, old->block, user_of(index, seq));
    } else {
        chain_free(r, copy->block, r->building);
    }
    r->building = 0;
    return stored;
}

bool recoverable_rooms(const struct region *region, uint32_t index,
                       uint8_t out[RECOVERY_ROOMS_BYTES_MAX], uint32_t *n_bytes)
{
    const struct shm_recovery *e = &region->recovery[index];
    uint64_t seq = shm_load_acquire_u64(&e->seq); /* acquire: before the copy */
    const struct shm_recovery_rooms *copy = &e->rooms[seq & 1];
    uint32_t n_blocks = region->header->n_workers * region->header->sessions_per_slot;
    uint32_t block = copy->block;
    uint32_t at;

    *n_bytes = copy->n_bytes;
    if (*n_bytes > RECOVERY_ROOMS_BYTES_MAX)
        return false;
    at = *n_bytes < RECOVERY_INLINE_BYTES ? *n_bytes : RECOVERY_INLINE_BYTES;
    memcpy(out, copy->bytes, at);
    while (at < *n_bytes) {
        uint32_t left = *n_bytes - at;
        uint32_t n = left < RECOVERY_BLOCK_BYTES ? left : RECOVERY_BLOCK_BYTES;

        if (block == 0 || block > n_blocks ||
            shm_load_u64(&region->blocks[block - 1].user) != user_of(index, seq))
            return false;
        memcpy(out + at, region->blocks[block - 1].bytes, n);
        at += n;
        block = region->blocks[block - 1].next;
    }
    return true;
}

bool recoverable_peek(const struct region *region, uint32_t index,
                      uint8_t out[RECOVERY_ROOMS_BYTES_MAX], struct slice *rooms)
{
    const struct shm_recovery *e = &region->recovery[index];
    uint64_t word = shm_load_acquire_u64(&e->state); /* acquire: before the copy */
    uint32_t n_bytes;

    if (recovery_state(word) != RECOVERY_DETACHED ||
        !recoverable_rooms(region, index, out, &n_bytes))
        return false;
    *rooms = slice_of(out, n_bytes);
    shm_fence_load(); /* the copy before the second look */
    return shm_load_u64(&e->state) == word;
}

/* --- lists of rooms --- */

bool recoverable_next_room(struct slice rooms, uint32_t *at, struct slice *name, uint64_t *since)
{
    uint8_t n;

    if (rooms.n_bytes - *at < ROOM_HEAD_BYTES)
        return false;
    memcpy(since, rooms.bytes + *at, sizeof *since);
    memcpy(&n, rooms.bytes + *at + sizeof *since, 1);
    if (rooms.n_bytes - *at - ROOM_HEAD_BYTES < n)
        return false;
    *name = slice_of(rooms.bytes + *at + ROOM_HEAD_BYTES, n);
    *at += ROOM_HEAD_BYTES + n;
    return true;
}

bool recoverable_put_room(uint8_t *rooms, uint32_t *n_bytes, struct slice name, uint64_t since)
{
    uint8_t *to = rooms + *n_bytes;
    uint8_t n = (uint8_t)name.n_bytes;

    assert(name.n_bytes <= NAME_BYTES_MAX);
    if (RECOVERY_ROOMS_BYTES_MAX - *n_bytes < ROOM_HEAD_BYTES + name.n_bytes)
        return false;
    memcpy(to, &since, sizeof since);
    memcpy(to + sizeof since, &n, 1);
    if (n > 0)
        memcpy(to + ROOM_HEAD_BYTES, name.bytes, n);
    *n_bytes += ROOM_HEAD_BYTES + n;
    return true;
}

bool recoverable_cut_room(uint8_t *rooms, uint32_t *n_bytes, struct slice name)
{
    uint32_t at = 0;
    uint32_t from = 0;
    struct slice found;
    uint64_t since;

    while (recoverable_next_room(slice_of(rooms, *n_bytes), &at, &found, &since)) {
        if (slice_equal(found, name)) {
            memmove(rooms + from, rooms + at, *n_bytes - at);
            *n_bytes -= at - from;
            return true;
        }
        from = at;
    }
    return false;
}

/* --- the holder --- */

void recoverable_prepare(struct sessions *s, struct region *region, uint32_t index)
{
    struct shm_recovery *e = &region->recovery[index];

    assert(recovery_state(shm_load_u64(&e->state)) == RECOVERY_NONE);
    sessions_random(s, e->secret, sizeof e->secret);
    e->nsp_life = (uint32_t)namespace_life(region, session_nsp(region, index));
}

void recoverable_pid(const struct region *region, uint32_t index, uint8_t pid[PID_BYTES])
{
    pid[0] = (uint8_t)(index >> 16);
    pid[1] = (uint8_t)(index >> 8);
    pid[2] = (uint8_t)index;
    memcpy(pid + 3, region->recovery[index].secret, PID_BYTES - 3);
}

void recoverable_open(struct region *region, uint32_t index, uint64_t position)
{
    struct shm_recovery *e = &region->recovery[index];
    uint64_t seq = shm_load_u64(&e->seq);
    struct shm_recovery_rooms *copy = &e->rooms[(seq + 1) & 1];

    assert(recovery_state(shm_load_u64(&e->state)) == RECOVERY_NONE);
    shm_store_u64(&e->start, position);
    e->as_of[(seq + 1) & 1] = position;
    copy->n_bytes = 0;
    copy->block = 0;
    shm_store_release_u64(&e->seq, seq + 1); /* release: as in recoverable_store */
    become(region, index, RECOVERY_LIVE, region->self);
}

bool recoverable_is_live(const struct region *region, uint32_t index)
{
    uint64_t word = shm_load_u64(&region->recovery[index].state);

    return recovery_state(word) == RECOVERY_LIVE && recovery_holder(word) == region->self;
}

bool recoverable_join(struct recoverables *r, uint32_t index, struct slice room, uint64_t since,
                      uint64_t as_of)
{
    uint32_t n_bytes;

    if (!recoverable_is_live(r->region, index))
        return true;
    if (recoverable_rooms(r->region, index, r->scratch, &n_bytes)) {
        (void)recoverable_cut_room(r->scratch, &n_bytes, room);
        if (recoverable_put_room(r->scratch, &n_bytes, room, since) &&
            recoverable_store(r, index, slice_of(r->scratch, n_bytes), as_of))
            return true;
    }
    (void)recoverable_spoil(r->region, index);
    return false;
}

bool recoverable_leave(struct recoverables *r, uint32_t index, struct slice room, uint64_t as_of)
{
    uint32_t n_bytes;

    if (!recoverable_is_live(r->region, index))
        return true;
    if (recoverable_rooms(r->region, index, r->scratch, &n_bytes)) {
        (void)recoverable_cut_room(r->scratch, &n_bytes, room);
        if (recoverable_store(r, index, slice_of(r->scratch, n_bytes), as_of))
            return true;
    }
    (void)recoverable_spoil(r->region, index);
    return false;
}

bool recoverable_spoil(struct region *region, uint32_t index)
{
    if (!recoverable_is_live(region, index))
        return false;
    become(region, index, RECOVERY_SPOILED, region->self);
    return true;
}

void recoverable_keep(struct region *region, uint32_t index)
{
    uint64_t tail = shm_load_acquire_u64(&region->header->ring.tail);
    const uint64_t *key = region->header->hash_key;
    uint8_t rooms[RECOVERY_ROOMS_BYTES_MAX];
    struct namespace_copy nsp;
    struct slice name;
    uint64_t since;
    uint32_t n_bytes;
    uint32_t at = 0;

    if (!namespace_copy(region, session_nsp(region, index), &nsp) ||
        !recoverable_rooms(region, index, rooms, &n_bytes))
        return; /* then it cannot come back either */
    directory_keep(
        region,
        record_bucket(record_hash(key, slice_of(nsp.name, nsp.n_bytes), (struct slice){ NULL, 0 })),
        tail);
    while (recoverable_next_room(slice_of(rooms, n_bytes), &at, &name, &since))
        directory_keep(
            region, record_bucket(record_hash(key, slice_of(nsp.name, nsp.n_bytes), name)), tail);
}

/* What was not taken in when the connection went: nothing before `position`, and nothing before what the rooms are as of. */
static void detach(struct region *region, uint32_t index, uint64_t position, uint64_t expires_ms)
{
    struct shm_recovery *e = &region->recovery[index];
    uint64_t as_of = e->as_of[shm_load_u64(&e->seq) & 1];

    shm_store_u64(&e->resume, as_of > position ? as_of : position);
    shm_store_u64(&e->expires_ms, expires_ms);
    session_detach(region, index);
    become(region, index, RECOVERY_DETACHED, 0);
}

void recoverable_detach(struct sessions *s, uint32_t index, uint64_t position, uint64_t expires_ms)
{
    struct region *region = sessions_region(s);

    /* before it is nobody's: afterwards another may have it already */
    session_watch(s, index);
    detach(region, index, position, expires_ms);
}

void recoverable_release(struct recoverables *r, struct sessions *s, uint32_t index)
{
    const struct shm_recovery *e = &r->region->recovery[index];
    uint64_t seq = shm_load_u64(&e->seq);
    uint32_t block =
        recovery_state(shm_load_u64(&e->state)) == RECOVERY_NONE ? 0 : e->rooms[seq & 1].block;

    session_release(s, index);
    chain_free(r, block, user_of(index, seq));
}

/* --- coming back --- */

enum recovery_claim recoverable_claim(struct region *region, const uint8_t pid[PID_BYTES],
                                      uint16_t nsp, uint64_t now_ms, uint32_t *index,
                                      uint64_t *word)
{
    uint32_t per_slot = region->header->sessions_per_slot;
    uint32_t at = (uint32_t)pid[0] << 16 | (uint32_t)pid[1] << 8 | pid[2];
    struct shm_slot *self = &region->header->slots[region->self];
    struct shm_recovery *e;
    uint8_t differs = 0;

    if (at >= region->header->n_workers * per_slot)
        return CLAIM_UNKNOWN;
    e = &region->recovery[at];
    *index = at;
    *word = shm_load_acquire_u64(&e->state); /* acquire: pid and time are of this state or later */
    if (recovery_state(*word) == RECOVERY_NONE || recovery_state(*word) == RECOVERY_SPOILED)
        return CLAIM_UNKNOWN;
    for (uint32_t i = 0; i < sizeof e->secret; i++) /* all of it: the time tells nothing about it */
        differs |= e->secret[i] ^ pid[3 + i];
    if (differs != 0 || session_nsp(region, at) != nsp ||
        e->nsp_life != (uint32_t)namespace_life(region, nsp))
        return CLAIM_UNKNOWN;
    if (recovery_state(*word) != RECOVERY_DETACHED)
        return CLAIM_BUSY;
    if (shm_load_u64(&e->expires_ms) <= now_ms)
        return CLAIM_EXPIRED;
    /* before the claim: who reaps us must know where to look */
    shm_store_u64(&self->arenas, shm_load_u64(&self->arenas) | 1ull << at / per_slot);
    return shm_cas_u64(&e->state, word, word_with(*word, RECOVERY_CLAIMED, region->self))
               ? CLAIM_OK
               : CLAIM_BUSY;
}

void recoverable_adopt(struct sessions *s, struct region *region, uint32_t index, uint32_t local)
{
    assert(recovery_state(shm_load_u64(&region->recovery[index].state)) == RECOVERY_CLAIMED);
    session_adopt(s, index, local);
    become(region, index, RECOVERY_LIVE, region->self);
}

/* --- the master --- */

struct reaping {
    uint32_t slot;
    uint32_t n;
    uint64_t cursor;
    uint64_t expires_ms;
};

static void reap(void *context, struct region *region, uint32_t index)
{
    struct reaping *reaping = context;
    struct shm_recovery *e = &region->recovery[index];
    struct shm_session *identity = &region->sessions[index];
    uint64_t word = shm_load_acquire_u64(&e->state);
    enum shm_recovery_state state = recovery_state(word);

    if (state == RECOVERY_NONE || state == RECOVERY_DETACHED ||
        recovery_holder(word) != reaping->slot)
        return;
    /* LIVE with an odd stamp, or free: it was being released. A claimer's odd stamp has the id behind it untouched. */
    if (state == RECOVERY_SPOILED || identity->kind == SESSION_FREE ||
        (state == RECOVERY_LIVE && (shm_load_u64(&identity->stamp) & 1) != 0)) {
        session_wipe(region, index);
        return;
    }
    session_mark_untold(region, index);
    recoverable_keep(region, index);
    /* A claimer had not begun to take anything in: what it found still counts. */
    detach(region, index, state == RECOVERY_CLAIMED ? shm_load_u64(&e->resume) : reaping->cursor,
           reaping->expires_ms);
    reaping->n++;
}

uint32_t recoverables_reap(struct region *region, uint32_t slot, uint64_t cursor,
                           uint64_t expires_ms)
{
    const struct shm_header *h = region->header;
    struct reaping reaping = { .slot = slot, .cursor = cursor, .expires_ms = expires_ms };
    uint64_t arenas = shm_load_u64(&h->slots[slot].arenas) | 1ull << slot;

    if (region->recovery == NULL)
        return 0;
    for (; arenas != 0; arenas &= arenas - 1) {
        uint32_t first = (uint32_t)__builtin_ctzll(arenas) * h->sessions_per_slot;

        region_each_touched(region, h->recovery_offset, sizeof(struct shm_recovery), first,
                            first + h->sessions_per_slot, reap, &reaping);
    }
    return reaping.n;
}
