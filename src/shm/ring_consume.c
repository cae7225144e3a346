/* ring_consume.c: walking the records, and reading what lies behind the cursors.
 *
 * A consumer whose cursor gates reads in place: nothing at or behind its cursor is overwritten.
 * Everybody else (readers of history, a bridge that was overtaken) copies first and then asks
 * whether what it copied was still there: producers move the tail, with a full fence, before they
 * overwrite anything, so a tail that has not reached position + capacity after the copy proves the
 * copy. */
#include "shm/ring_internal.h"

#include <stddef.h>

static bool length_ok(const struct ring *ring, uint32_t n_bytes)
{
    return n_bytes >= RING_UNIT_BYTES && n_bytes <= ring_record_bytes_max(ring);
}

const uint8_t *ring_peek(const struct ring *ring, uint64_t position, uint32_t *n_units)
{
    const uint8_t *record = ring_at(ring, position);
    uint32_t n_bytes;

    if (!ring_is_committed(ring, position))
        return NULL;
    n_bytes = ((const struct record_header *)record)->n_bytes;
    assert(length_ok(ring, n_bytes));
    *n_units = ring_units_of(n_bytes);
    assert(position + *n_units <= ring_tail(ring));
    return record;
}

void ring_release(struct ring *ring, uint64_t position)
{
    assert(position >= shm_load_u64(&ring->slot->cursor));
    shm_store_release_u64(&ring->slot->cursor,
                          position); /* release: we have read before others may overwrite */
}

/* Bytes that somebody may be overwriting at this moment; the caller finds out afterwards.
 * ThreadSanitizer must not look. */
#ifdef SHM_ATOMIC_BUILTIN
__attribute__((noinline, no_sanitize_thread)) static void racy_copy(uint8_t *out,
                                                                    const uint8_t *from, uint32_t n)
{
    const volatile uint8_t *at =
        from; /* volatile: or the loop becomes a call of memcpy, which is looked at */
    volatile uint8_t *to = out;

    for (uint32_t i = 0; i < n; i++)
        to[i] = at[i];
}
#else
static void racy_copy(uint8_t *out, const uint8_t *from, uint32_t n)
{
    memcpy(out, from, n);
}
#endif

/* Is what was read at `position` still what was there? */
static bool still_there(const struct ring *ring, uint64_t position)
{
    shm_fence_load(); /* what was read before the tail */
    return ring_tail(ring) <= position + ring->units;
}

/* Below the tail and not committed: a hole, or nothing that ever began a record? A hole has an
 * intent, stored before the tail moved and cleared after the commit: so if there is none, the
 * commit word says it at the second look. */
static bool is_hole(const struct ring *ring, uint64_t position)
{
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        if (shm_load_acquire_u64(&ring_slot(ring, slot)->intent_at) ==
            position) /* acquire: gone means committed */
            return true;
    return false;
}

enum ring_history ring_copy(const struct ring *ring, uint64_t position, uint8_t *out,
                            uint32_t out_max, uint32_t *n_bytes)
{
    const uint8_t *record = ring_at(ring, position);
    uint32_t n;

    if (position >= ring_tail(ring))
        return HISTORY_NOT_YET;
    if (!still_there(ring, position))
        return HISTORY_GONE;
    if (!ring_is_committed(ring, position)) {
        if (is_hole(ring, position))
            return HISTORY_NOT_YET;
        if (!ring_is_committed(ring, position))
            return HISTORY_GONE;
    }
    racy_copy((uint8_t *)&n, record + offsetof(struct record_header, n_bytes), sizeof n);
    if (!still_there(ring, position) || !length_ok(ring, n))
        return HISTORY_GONE;
    *n_bytes = n;
    if (n > out_max)
        return HISTORY_OK;
    racy_copy(out, record, n);
    return still_there(ring, position) ? HISTORY_OK : HISTORY_GONE;
}

uint64_t ring_resync(const struct ring *ring, uint64_t position)
{
    uint64_t intents[PEAL_SLOTS_ALL];
    uint64_t tail = ring_tail(
        ring); /* before the intents: whatever is reserved below it has one, or a commit */

    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        intents[slot] = shm_load_acquire_u64(
            &ring_slot(ring, slot)->intent_at); /* acquire: gone means committed */
    if (tail > ring->units && position < tail - ring->units)
        position = tail - ring->units;
    for (; position < tail; position++) {
        if (ring_is_committed(ring, position))
            return position;
        for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
            if (intents[slot] ==
                position) /* an intent is an observed tail: a record begins here, soon */
                return position;
    }
    return tail;
}
