/* directory.c: member counts per bucket in private memory, one bit per worker and bucket in shared
 * memory.
 *
 * Invariant: a worker's bit of a bucket is set exactly while its count is not zero. Every word is
 *            shared by all workers, so bits change by locked or/and only; those are full fences
 *            too: a join whose bit is set before the worker looks at the ring again cannot be
 *            missed by a producer that committed later (directory_members comes after that
 *            producer's own fence).
 * Kept:      behind the masks, where recovery is on, one word per bucket: 0, or 1 + the last
 *            position from which on a socket that is away may want what is for the bucket. The history
 *            is what it can come back to, so the word is worth nothing once the ring has been written
 *            over that position: no count, no clock, nothing to take back when somebody dies.
 * Why:       a bucket can hold several rooms (a hash collision): the bit then wakes a worker for
 *            nothing, which costs a wake and nothing else, for names decide on delivery. */
#include "shm/directory.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shm/atomic.h"

struct directory {
    struct region *region;
    uint64_t bit;
    uint64_t mine[DIRECTORY_BUCKETS / 64]; /* a bit for each whose count is not zero */
    uint16_t n_members
        [DIRECTORY_BUCKETS]; /* rooms of the bucket: 16 M of them spread over all are 256 */
};

struct directory *directory_new(struct region *region)
{
    struct directory *d;

    assert(region->self < PEAL_SLOTS);
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    /* a few hundred rooms touch all of it: the host's cost, not theirs; as it is of the shared one (region.c) */
    if (madvise((void *)((uintptr_t)d & ~4095ul), sizeof *d, MADV_POPULATE_WRITE) != 0) {
        free(d);
        return NULL;
    }
    d->region = region;
    d->bit = 1ull << region->self;
    return d;
}

void directory_free(struct directory *d)
{
    free(d);
}

uint64_t directory_bytes(void)
{
    return sizeof(struct directory);
}

void directory_enter(struct directory *d, uint32_t bucket)
{
    assert(bucket < DIRECTORY_BUCKETS);
    assert(d->n_members[bucket] < UINT16_MAX);
    if (d->n_members[bucket]++ == 0) {
        d->mine[bucket / 64] |= 1ull << bucket % 64;
        shm_or_u64(&d->region->directory[bucket], d->bit);
    }
}

void directory_leave(struct directory *d, uint32_t bucket)
{
    assert(bucket < DIRECTORY_BUCKETS);
    assert(d->n_members[bucket] > 0);
    if (--d->n_members[bucket] == 0) {
        d->mine[bucket / 64] &= ~(1ull << bucket % 64);
        shm_and_u64(&d->region->directory[bucket], ~d->bit);
    }
}

bool directory_mine(const struct directory *d, uint32_t bucket)
{
    assert(bucket < DIRECTORY_BUCKETS);
    return (d->mine[bucket / 64] >> bucket % 64 & 1) != 0;
}

uint64_t directory_members(const struct region *region, uint32_t bucket)
{
    assert(bucket < DIRECTORY_BUCKETS);
    return shm_load_u64(&region->directory[bucket]);
}

void directory_keep(struct region *region, uint32_t bucket, uint64_t position)
{
    uint64_t found;

    assert(bucket < DIRECTORY_BUCKETS);
    if (region->kept == NULL)
        return;
    found = shm_load_u64(&region->kept[bucket]);
    while (found < position + 1 && !shm_cas_u64(&region->kept[bucket], &found, position + 1))
        ;
}

bool directory_wanted(const struct region *region, uint32_t bucket)
{
    const struct shm_ring *ring = &region->header->ring;
    uint64_t kept;

    assert(bucket < DIRECTORY_BUCKETS);
    /* Acquire: whoever finds the bit of the last member gone finds what was kept before it went. */
    if (shm_load_acquire_u64(&region->directory[bucket]) != 0)
        return true;
    kept = region->kept == NULL ? 0 : shm_load_u64(&region->kept[bucket]);
    return kept != 0 && shm_load_acquire_u64(&ring->tail) <= kept - 1 + ring->units;
}

void directory_clear(struct region *region, uint32_t slot)
{
    uint64_t bit;

    assert(slot < PEAL_SLOTS);
    bit = 1ull << slot;
    for (uint32_t bucket = 0; bucket < DIRECTORY_BUCKETS; bucket++)
        if (shm_load_u64(&region->directory[bucket]) &
            bit) /* nobody sets it: its process is dead */
            shm_and_u64(&region->directory[bucket], ~bit);
}
