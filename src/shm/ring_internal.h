/* ring_internal.h: what the four files of the ring share: ring_produce.c, ring_consume.c,
 * ring_reap.c, bell.c. Not for anybody else. */
#ifndef PEAL_SHM_RING_INTERNAL_H
#define PEAL_SHM_RING_INTERNAL_H

#include <assert.h>

#include "shm/atomic.h"
#include "shm/record.h"
#include "shm/ring.h"

/* Moments at which a test wants to stop or kill a process, or let another one be quicker. They compile
 * to nothing elsewhere. */
enum ring_moment {
    RING_MOMENT_FLOOR = 0,   /* who gates is known, where they stand is not */
    RING_MOMENT_INTENT_SET,  /* the intent is stored, nothing is reserved */
    RING_MOMENT_INTENT_LEFT, /* committed, the intent still stands */
    RING_MOMENT_PARKING,     /* the tail was read, the parked word is not stored */
    RING_MOMENTS
};
#ifndef RING_MOMENT
#define RING_MOMENT(what) ((void)0)
#endif

static inline struct shm_ring *ring_shared(const struct ring *ring)
{
    return &ring->region->header->ring;
}

static inline struct shm_slot *ring_slot(const struct ring *ring, uint32_t slot)
{
    return &ring->region->header->slots[slot];
}

static inline uint32_t ring_units_of(uint32_t n_bytes)
{
    return n_bytes / RING_UNIT_BYTES + (n_bytes % RING_UNIT_BYTES != 0);
}

static inline uint64_t *ring_commit_word(const struct ring *ring, uint64_t position)
{
    return &ring->region->commits[position & (ring->units - 1)];
}

/* Acquire: whoever sees the commit sees the record. */
static inline bool ring_is_committed(const struct ring *ring, uint64_t position)
{
    return shm_load_acquire_u64(ring_commit_word(ring, position)) == position + 1;
}

/* The word goes from one lap's position to the next's, so it says of which lap the record is.
 * Release: the record is there before. */
static inline void ring_commit_store(const struct ring *ring, uint64_t position)
{
    shm_store_release_u64(ring_commit_word(ring, position), position + 1);
}

#endif
