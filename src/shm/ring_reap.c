/* ring_reap.c: the master's part: what a dead producer left behind, and who gates. The protocol is
 * tests/model/ring.pml.
 *
 * A dead producer's intent says that it may have reserved at a position. If the tail has passed it
 * and there is no commit, somebody has: a live process with the same intent (it will commit, or
 * move on), or one of the dead with it. Of these the shortest whose end is known to be a boundary
 * had reserved: an attempt that failed was for the same beginning, and had a longer one succeeded
 * there would be no boundary inside it.
 *
 * Invariant: evidence is read in the order in which it moves: tail, intents, commit words. Each
 *            piece is there before the one before it goes, so read in this order none slips past
 *            (ring.pml, -DCOMMIT_READ_FIRST). An intent of the dead is evidence too, until the
 *            commit word stands.
 * Never:     waits: the master calls again. */
#include "shm/ring_internal.h"

/* Does a record begin at `b`, or end there? An intent is only ever an observed tail, so it proves
 * one. */
static bool is_boundary(const struct ring *ring, uint64_t b)
{
    if (ring_tail(ring) == b)
        return true;
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        if (shm_load_acquire_u64(&ring_slot(ring, slot)->intent_at) ==
            b) /* acquire: the commit word only after it */
            return true;
    return ring_is_committed(ring, b);
}

/* Is the unit at `at` reserved and not committed? A lapped position is not a hole, though its
 * commit word has another's position: holes gate. The tail is read behind the commit word: as long
 * as it has not lapped the position, nobody else's word was there. */
static bool is_hole_at(const struct ring *ring, uint64_t at)
{
    if (ring_tail(ring) <= at || ring_is_committed(ring, at))
        return false;
    return ring_tail(ring) <= at + ring->units;
}

static bool live_has_intent(const struct ring *ring, uint64_t at, const bool dead[PEAL_SLOTS_ALL])
{
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        if (!dead[slot] && shm_load_acquire_u64(&ring_slot(ring, slot)->intent_at) ==
                               at) /* acquire: gone means committed */
            return true;
    return false;
}

/* How many units were reserved at the hole `at`. */
static uint32_t hole_units(const struct ring *ring, uint64_t at, const bool dead[PEAL_SLOTS_ALL])
{
    uint32_t best = 0;

    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        const struct shm_slot *s = ring_slot(ring, slot);
        uint32_t n = shm_load_u32(&s->intent_units);

        if (!dead[slot] || shm_load_u64(&s->intent_at) != at)
            continue;
        if ((best == 0 || n < best) && is_boundary(ring, at + n))
            best = n;
    }
    return best;
}

static void void_commit(struct ring *ring, uint64_t at, uint32_t n_units, uint32_t slot)
{
    struct record_header header = { .n_bytes = n_units * RING_UNIT_BYTES,
                                    .kind = RECORD_VOID,
                                    .slot = (uint8_t)slot,
                                    .generation = ring_slot(ring, slot)->generation };
    struct shm_header *h = ring->region->header;

    memcpy(ring_at(ring, at), &header, sizeof header);
    ring_commit_store(ring, at); /* release: the header before */
    shm_store_u64(&h->voids_total, h->voids_total + 1);
}

bool ring_reap_intent(struct ring *ring, uint32_t slot, const bool dead[PEAL_SLOTS_ALL],
                      bool *voided)
{
    struct shm_slot *s = ring_slot(ring, slot);
    uint64_t at = shm_load_acquire_u64(&s->intent_at);
    uint32_t n_units;

    assert(slot < PEAL_SLOTS_ALL);
    assert(dead[slot]);
    assert(!dead[ring->region->self]);
    *voided = false;
    if (at == RING_NO_INTENT)
        return true;
    if (is_hole_at(ring, at)) {
        if (live_has_intent(ring, at, dead))
            return false;
        if (is_hole_at(ring,
                       at)) { /* else a live one had it, and has committed since the first look */
            n_units = hole_units(ring, at, dead);
            assert(n_units > 0);
            assert(n_units <= ring->units / 4);
            void_commit(ring, at, n_units, slot);
            *voided = true;
        }
    }
    /* Only now, and behind the commit word (release): until then it was evidence, and kept the hole
     * from being lapped. */
    shm_store_release_u64(&s->intent_at, RING_NO_INTENT);
    return true;
}

void ring_consumer_add(struct ring *ring, uint32_t slot, uint64_t position)
{
    struct shm_slot *s = ring_slot(ring, slot);
    uint64_t tail;

    assert(slot < PEAL_SLOTS);
    shm_store_u64(&s->parked, RING_NOT_PARKED);
    shm_store_release_u64(&s->cursor,
                          position); /* release: who sees the bit sees a cursor of this life */
    shm_or_u64(&ring_shared(ring)->consumers,
               1ull << slot); /* a full fence: the bit before the tail is read */
    /* A producer may have found a floor without this consumer, beyond `position`, but never beyond
     * the tail as of now: from there on everything is kept. Nobody whom earlier records concern is
     * with a worker that begins. */
    tail = ring_tail(ring);
    if (tail > position)
        shm_store_release_u64(&s->cursor, tail);
}

void ring_consumer_remove(struct ring *ring, uint32_t slot)
{
    assert(slot < PEAL_SLOTS);
    shm_and_u64(&ring_shared(ring)->consumers, ~(1ull << slot));
}
