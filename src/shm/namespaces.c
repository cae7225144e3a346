/* namespaces.c: open addressing over entries that never move: FREE -> CLAIMED -> READY, or FREE ->
 * CLAIMED -> ABANDONED.
 *
 * Invariant: no name is READY twice. Whoever adds a name walks the same row of entries from the
 *            same start and settles each before it goes on: a FREE one it claims, a READY one it
 *            compares, and a CLAIMED one it gives a moment and then abandons by compare-and-swap.
 *            Its owner makes it READY by compare-and-swap too, so exactly one of the two succeeds;
 *            an owner that was only slow finds its entry abandoned and begins anew. READY and
 *            ABANDONED are final: an entry that was passed stays passed.
 * Bound:     nobody waits for another process: the moment is a number of looks. A kill between
 *            claim and name costs one entry.
 * Why:       entries are never removed: an index is used in counters, session entries and by the
 *            bridge for as long as the host lives. */
#include "shm/namespaces.h"

#include <assert.h>

#include "shm/atomic.h"
#include "shm/record.h"

#define CLAIM_LOOKS 10000u /* some 10 us: the owner has only a short name to copy */

static uint32_t start_of(const struct region *region, struct slice name)
{
    uint64_t hash = record_hash(region->header->hash_key, name, slice_of(NULL, 0));

    return (uint32_t)(hash % NAMESPACES_MAX);
}

static struct slice name_of(const struct shm_namespace *e)
{
    return slice_of(e->name, e->n_bytes);
}

uint32_t namespace_find(const struct region *region, struct slice name)
{
    uint32_t start;

    if (name.n_bytes > NAME_BYTES_MAX)
        return NAMESPACE_NONE;
    start = start_of(region, name);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        uint32_t index = (start + i) % NAMESPACES_MAX;
        const struct shm_namespace *e = &region->namespaces[index];

        switch (shm_load_acquire_u32(&e->state)) { /* acquire: READY was stored behind the name */
        case NAMESPACE_FREE: return NAMESPACE_NONE;
        case NAMESPACE_READY:
            if (slice_equal(name_of(e), name))
                return index;
            break;
        default: break; /* not there yet, or never */
        }
    }
    return NAMESPACE_NONE;
}

/* Fills an entry that this process has claimed. False: somebody gave up on us. */
static bool entry_publish(struct shm_namespace *e, struct slice name, uint16_t section)
{
    e->n_bytes = (uint16_t)name.n_bytes;
    e->section = section;
    memcpy(e->name, name.bytes, name.n_bytes);
    e->name[name.n_bytes] = 0;
    return shm_cas_u32(&e->state, NAMESPACE_CLAIMED,
                       NAMESPACE_READY); /* a full fence: the name is there before */
}

/* Waits a bounded moment for a claimed entry, then makes sure that it never becomes READY behind
 * our back. Returns its final state. */
static uint32_t entry_settle(struct shm_namespace *e)
{
    for (uint32_t look = 0; look < CLAIM_LOOKS; look++) {
        uint32_t state = shm_load_acquire_u32(&e->state);

        if (state != NAMESPACE_CLAIMED)
            return state;
    }
    if (shm_cas_u32(&e->state, NAMESPACE_CLAIMED, NAMESPACE_ABANDONED))
        return NAMESPACE_ABANDONED;
    return shm_load_acquire_u32(&e->state);
}

uint32_t namespace_intern(struct region *region, struct slice name, uint16_t section, bool *added)
{
    uint32_t start;
    uint32_t i = 0;

    *added = false;
    if (name.n_bytes > NAME_BYTES_MAX)
        return NAMESPACE_NONE;
    start = start_of(region, name);
    while (i < NAMESPACES_MAX) {
        uint32_t index = (start + i) % NAMESPACES_MAX;
        struct shm_namespace *e = &region->namespaces[index];

        if (shm_cas_u32(&e->state, NAMESPACE_FREE, NAMESPACE_CLAIMED)) {
            if (entry_publish(e, name, section)) {
                *added = true;
                return index;
            }
            i = 0; /* abandoned: by now somebody else may have added the name before or behind */
            continue;
        }
        if (entry_settle(e) == NAMESPACE_READY && slice_equal(name_of(e), name))
            return index;
        i++;
    }
    return NAMESPACE_NONE;
}

struct slice namespace_name(const struct region *region, uint32_t index)
{
    const struct shm_namespace *e;

    if (index >= NAMESPACES_MAX)
        return slice_of(NULL, 0);
    e = &region->namespaces[index];
    if (shm_load_acquire_u32(&e->state) != NAMESPACE_READY) /* acquire: as in namespace_find */
        return slice_of(NULL, 0);
    return name_of(e);
}
