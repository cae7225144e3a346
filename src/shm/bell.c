/* bell.c: parking and doorbells. The protocol is tests/model/bell.pml, step for step.
 *
 * A consumer that finds nothing parks: it says where it waits, and whether that position was the
 * tail or a hole (reserved, not committed). A producer rings after its commits: at a hole exactly
 * those whose position it committed; at the tail those whom the records are for, and those whom it
 * leaves more than a quarter of the ring behind (who walks on before producers find the ring full).
 *
 * Invariant: nobody sleeps while there is something for it. The producer stores commits, fences,
 *            loads parked words; the consumer stores its parked word, fences, loads commit word and
 *            tail: one of the two sees the other.
 * Invariant: whoever dies between commit and bell has somebody ring for it: the master rings
 *            everybody, once per death. */
#include "shm/ring_internal.h"

#include <errno.h>
#include <unistd.h>

#include "shm/directory.h"
#include "shm/sessions.h"

/* The torture test rings nobody at a hole, to be seen to fail. */
#ifndef RING_BELLS_AT_HOLES
#define RING_BELLS_AT_HOLES true
#endif

static uint64_t parked_word(uint64_t position, bool at_hole)
{
    return position * 2 + at_hole;
}

static uint64_t slot_bit(uint32_t slot)
{
    return slot < PEAL_SLOTS ? 1ull << slot : 0; /* the master has none */
}

/* --- whom the turn is for --- */

void ring_target_mask(struct ring *ring, uint64_t slots)
{
    assert(ring->_n_committed > 0);
    ring->_targets.mask |= slots;
}

/* Adds to a set that is small: mostly one room, many times. False: no room left. */
static bool set_add(uint32_t *set, uint32_t *n, uint32_t value)
{
    if (*n > 0 && set[*n - 1] == value)
        return true;
    if (*n == RING_TURN_BUCKETS_MAX)
        return false;
    set[(*n)++] = value;
    return true;
}

void ring_target_bucket(struct ring *ring, uint32_t bucket)
{
    struct ring_targets *t = &ring->_targets;

    assert(ring->_n_committed > 0);
    assert(bucket < DIRECTORY_BUCKETS);
    if (!set_add(t->buckets, &t->n_buckets, bucket))
        t->everybody = true;
}

void ring_target_session(struct ring *ring, uint32_t index)
{
    struct ring_targets *t = &ring->_targets;

    assert(ring->_n_committed > 0);
    if (!set_add(t->sessions, &t->n_sessions, index))
        t->everybody = true;
}

static uint64_t targets_mask(const struct ring *ring)
{
    const struct ring_targets *t = &ring->_targets;
    uint64_t mask = t->mask;

    if (t->everybody)
        return UINT64_MAX;
    for (uint32_t i = 0; i < t->n_buckets; i++)
        mask |= directory_members(ring->region, t->buckets[i]);
    for (uint32_t i = 0; i < t->n_sessions; i++) {
        int32_t owner = session_owner(ring->region, t->sessions[i]);

        if (owner >= 0) /* an index out of range is nobody's: it came from a client */
            mask |= slot_bit((uint32_t)owner);
    }
    return mask;
}

/* --- ringing --- */

static void bell_write(int fd)
{
    static const uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);

    assert(n == (ssize_t)sizeof one ||
           errno == EAGAIN); /* EAGAIN: the counter is at its end, so the bell is rung */
}

/* Positions grow within a turn. */
static bool turn_committed(const struct ring *ring, uint64_t position)
{
    uint32_t low = 0, high = ring->_n_committed;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (ring->_committed[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ring->_n_committed && ring->_committed[low] == position;
}

static bool bell_is_due(const struct ring *ring, uint64_t word, bool is_target)
{
    uint64_t position = word / 2;

    if (word & 1)
        return RING_BELLS_AT_HOLES && turn_committed(ring, position);
    return is_target || ring->_end > position + ring->units / 4;
}

void ring_bells(struct ring *ring)
{
    uint64_t sleepers, targets;

    if (ring->_n_committed == 0)
        return;
    /* Our commits before all that follows: the directory, and who is parked. The fence in
     * ring_park is the other half. */
    shm_fence();
    targets = targets_mask(ring);
    sleepers = shm_load_u64(&ring_shared(ring)->consumers) | slot_bit(PEAL_SLOT_ADMIN) |
               slot_bit(PEAL_SLOT_BRIDGE); /* these two park, but gate nothing */
    sleepers &= ~slot_bit(ring->region->self);
    for (; sleepers != 0; sleepers &= sleepers - 1) {
        uint32_t slot = (uint32_t)__builtin_ctzll(sleepers);
        uint64_t word = shm_load_u64(&ring_slot(ring, slot)->parked);
        int fd = ring->region->bells[slot];

        if (word == RING_NOT_PARKED || fd < 0)
            continue;
        if (bell_is_due(ring, word, (targets & slot_bit(slot)) != 0)) {
            bell_write(fd);
            ring->bells_rung++;
        } else {
            ring->bells_spared++;
        }
    }
    ring->_n_committed = 0;
    ring->_targets.mask = 0;
    ring->_targets.n_buckets = 0;
    ring->_targets.n_sessions = 0;
    ring->_targets.everybody = false;
}

void ring_bell_all(struct ring *ring)
{
    struct shm_ring *shared = ring_shared(ring);

    for (uint32_t slot = 0; slot < PEAL_SLOTS; slot++)
        if (ring->region->bells[slot] >= 0)
            bell_write(ring->region->bells[slot]);
    shm_store_u64(&shared->bells_all, shared->bells_all + 1);
}

/* --- parking --- */

bool ring_park(struct ring *ring, uint64_t position)
{
    struct shm_slot *self = ring->slot;
    bool at_hole;

    assert(shm_load_u64(&self->parked) == RING_NOT_PARKED);
    ring_release(ring,
                 position); /* the cursor first: who is asleep must not hold what it has walked */
    do {
        at_hole = ring_tail(ring) != position;
        RING_MOMENT(RING_MOMENT_PARKING);
        shm_store_release_u64(&self->parked,
                              parked_word(position, at_hole)); /* release: behind the cursor */
        shm_fence(); /* the parked word before the second look. Against the fence in ring_bells. */
        if (ring_is_committed(ring, position)) {
            shm_store_u64(&self->parked, RING_NOT_PARKED);
            return false;
        }
        if (at_hole || ring_tail(ring) == position)
            return true;
        /* The tail has moved and there is no commit: whoever reserved here does not know that we
         * wait for it. Once more, as at a hole. */
        shm_store_u64(&self->parked, RING_NOT_PARKED);
    } while (true);
}

void ring_unpark(struct ring *ring)
{
    shm_store_u64(&ring->slot->parked, RING_NOT_PARKED);
}
