/* ring_produce.c: reserving and committing. The protocol is tests/model/ring.pml, step for step;
 * this says what the machine adds to it.
 *
 * Invariant: for each reservation under way its producer's slot says where it begins (intent_at,
 *            stored before the compare-and-swap that makes it one, cleared after the commit word):
 *            whoever outlives the producer finds the hole.
 * Invariant: tail <= floor + units. The floor is the least of: the cursors that gate, the
 *            beginnings of reservations under way, the tail. So nothing is overwritten that a
 *            gating consumer needs, and no hole is ever lapped, even while no consumer lives.
 * Caching:   a floor that was found once is good for ever. What it is the least of only grows: a
 *            cursor never goes back, and whatever begins later begins at a later tail: a
 *            reservation, and a consumer that the master adds, for it begins at the tail as of after it gates
 *            (ring_consumer_add). A cached floor may be too low, never too high, so it is looked up
 *            anew only when it is not enough: once per lap while consumers keep up.
 * Overtaken: an intent more than a whole ring behind the tail is no reservation, for a true hole
 *            cannot be lapped: it is an attempt whose compare-and-swap will fail. */
#include "shm/ring_internal.h"

void ring_open(struct ring *ring, struct region *region)
{
    memset(ring, 0, sizeof *ring);
    ring->region = region;
    ring->slot = &region->header->slots[region->self];
    ring->units = region->header->ring.units;
}

uint8_t *ring_at(const struct ring *ring, uint64_t position)
{
    return ring->region->payload + (position & (ring->units - 1)) * RING_UNIT_BYTES;
}

uint64_t ring_tail(const struct ring *ring)
{
    /* Acquire: what is looked at next is as of this tail or later. */
    return shm_load_acquire_u64(&ring_shared(ring)->tail);
}

uint64_t ring_capacity_bytes(const struct ring *ring)
{
    return ring->units * RING_UNIT_BYTES;
}

uint32_t ring_record_bytes_max(const struct ring *ring)
{
    return (uint32_t)(ring->units / 4 * RING_UNIT_BYTES); /* RING_BYTES_MAX / 4 fits */
}

static bool is_lapped(const struct ring *ring, uint64_t position, uint64_t tail)
{
    return position + ring->units < tail;
}

/* The least of `tail` and the cursors that gate. */
static uint64_t cursors_least(const struct ring *ring, uint64_t consumers, uint64_t tail)
{
    uint64_t least = tail;

    for (; consumers != 0; consumers &= consumers - 1) {
        uint32_t slot = (uint32_t)__builtin_ctzll(consumers);
        /* Acquire: the consumer's reads of what we are about to overwrite came before it moved its
         * cursor. */
        uint64_t cursor = shm_load_acquire_u64(&ring_slot(ring, slot)->cursor);

        if (cursor < least)
            least = cursor;
    }
    return least;
}

/* The least of `least` and the reservations of others under way. Those reserved before `tail` was
 * read are seen: the intent was stored before the tail moved. */
static uint64_t intents_least(const struct ring *ring, uint64_t least, uint64_t tail)
{
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        /* Acquire: an intent that is gone leaves a commit behind, and what its producer wrote. */
        uint64_t intent = shm_load_acquire_u64(&ring_slot(ring, slot)->intent_at);

        if (slot == ring->region->self || intent >= least || is_lapped(ring, intent, tail))
            continue;
        least = intent;
    }
    return least;
}

/* `tail` was read before, and is an upper bound: a consumer that begins to gate behind our back
 * does so at a later tail (ring_consumer_add): it cannot stand below what is found without it. */
static uint64_t floor_look(const struct ring *ring, uint64_t tail)
{
    /* Acquire: the mask before the cursors. */
    uint64_t consumers = shm_load_acquire_u64(&ring_shared(ring)->consumers);

    RING_MOMENT(RING_MOMENT_FLOOR);
    return intents_least(ring, cursors_least(ring, consumers, tail), tail);
}

static bool has_room(struct ring *ring, uint64_t tail, uint32_t n_units)
{
    uint64_t floor;

    if (tail + n_units <= ring->_floor + ring->units)
        return true;
    floor = floor_look(ring, tail);
    if (floor > ring->_floor)
        ring->_floor = floor;
    return tail + n_units <= ring->_floor + ring->units;
}

bool ring_takes(struct ring *ring, uint32_t n_bytes)
{
    uint32_t n_units = ring_units_of(n_bytes);

    return n_units <= ring->units / 4 && has_room(ring, ring_tail(ring), n_units);
}

enum ring_result ring_reserve(struct ring *ring, uint32_t n_bytes, uint64_t *at)
{
    struct shm_slot *self = ring->slot;
    uint32_t n_units = ring_units_of(n_bytes);
    uint64_t tail;

    assert(n_bytes >= RING_UNIT_BYTES);
    assert(shm_load_u64(&self->intent_at) == RING_NO_INTENT);
    if (n_units > ring->units / 4)
        return RING_TOO_BIG;
    if (ring->_n_committed == RING_TURN_COMMITS_MAX)
        return RING_FULL;
    shm_store_u32(&self->intent_units, n_units);
    tail = ring_tail(ring);
    do {
        if (!has_room(ring, tail, n_units)) {
            /* Or the master would wait for us, we for a consumer, and that for the master. */
            shm_store_u64(&self->intent_at, RING_NO_INTENT);
            return RING_FULL;
        }
        /* Release: the position makes the pair valid, so the length is there before it. The
         * compare-and-swap is the full fence that has both seen before the tail moves; if it fails,
         * the tail that it found is as good as one read anew. */
        shm_store_release_u64(&self->intent_at, tail);
        RING_MOMENT(RING_MOMENT_INTENT_SET);
    } while (!shm_cas_u64(&ring_shared(ring)->tail, &tail, tail + n_units));
    *at = tail;
    return RING_OK;
}

void ring_commit(struct ring *ring, uint64_t at, uint32_t n_bytes)
{
    struct shm_slot *self = ring->slot;

    assert(shm_load_u64(&self->intent_at) == at);
    assert(self->intent_units == ring_units_of(n_bytes));
    assert(((const struct record_header *)ring_at(ring, at))->n_bytes == n_bytes);
    ring_commit_store(ring, at); /* release: the record before its commit word */
    RING_MOMENT(RING_MOMENT_INTENT_LEFT);
    shm_store_release_u64(
        &self->intent_at,
        RING_NO_INTENT); /* release: who finds no intent any more finds the commit */
    ring->_committed[ring->_n_committed++] = at;
    ring->_end = at + ring_units_of(n_bytes);
}

void ring_note_join(struct ring *ring, uint64_t end)
{
    uint64_t *joins = &ring_shared(ring)->joins;
    uint64_t found = shm_load_u64(joins);

    assert(shm_load_u64(&ring->slot->intent_at) != RING_NO_INTENT);
    while (found < end && !shm_cas_u64(joins, &found, end))
        ;
}

bool ring_joins_taken(const struct ring *ring)
{
    /* Acquire: the word before the cursors. A cursor is loaded with acquire, too (cursors_least): the
     * directory is looked at as of it or later. */
    uint64_t joins = shm_load_acquire_u64(&ring_shared(ring)->joins);
    uint64_t consumers = shm_load_acquire_u64(&ring_shared(ring)->consumers);

    return cursors_least(ring, consumers, joins) == joins;
}

void ring_check(const struct ring *ring)
{
    uint64_t cursor = shm_load_acquire_u64(&ring->slot->cursor);
    uint64_t parked = shm_load_u64(&ring->slot->parked);
    uint64_t tail = ring_tail(ring);

    assert(ring->units == ring_shared(ring)->units);
    assert(cursor <= tail);
    assert(ring->_floor <= tail);
    assert(ring->_end <= tail);
    assert(ring->_n_committed <= RING_TURN_COMMITS_MAX);
    for (uint32_t i = 1; i < ring->_n_committed; i++)
        assert(ring->_committed[i - 1] < ring->_committed[i]);
    assert(ring->_n_committed == 0 || ring->_committed[ring->_n_committed - 1] < ring->_end);
    assert(parked == RING_NOT_PARKED || parked / 2 == cursor);
    assert(ring->_targets.n_buckets <= RING_TURN_BUCKETS_MAX);
    assert(ring->_targets.n_sessions <= RING_TURN_BUCKETS_MAX);
}
