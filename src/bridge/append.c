/* append.c: what came from Redis, into the ring. Records that find it full wait in one list, in order; meanwhile nothing more is taken from Redis, so the list
 * holds what one message and the ends of our own questions made. */
#include "bridge/state.h"

#include <assert.h>
#include <time.h>

#include "session/publish.h"
#include "shm/atomic.h"

#define PADDED(n_bytes) (((n_bytes) + 7u) & ~7u) /* records that wait lie aligned */

static void commit(struct bridge *b, const uint8_t *bytes, uint32_t n_bytes, uint64_t at)
{
    struct record_view view;
    uint8_t *out = ring_at(&b->ring, at);
    bool valid;

    memcpy(out, bytes, n_bytes);
    record_stamp(out, at);
    valid = record_view(&view, bytes, n_bytes);
    assert(valid);
    publish_note(&b->ring, &view, at);
    ring_commit(&b->ring, at, n_bytes);
    b->behind = ring_tail(&b->ring) - b->at > b->ring.units / 4;
    publish_target(&b->ring, &view, true);
    count_add(b->row, COUNT_RING_RECORDS, 1);
}

/* FULL means that the ring is: a turn that has committed as much as it may is ended here, and another begun. */
static enum ring_result reserve(struct bridge *b, uint32_t n_bytes, uint64_t *at)
{
    enum ring_result result = ring_reserve(&b->ring, n_bytes, at);

    if (result != RING_FULL)
        return result;
    ring_bells(&b->ring);
    return ring_reserve(&b->ring, n_bytes, at);
}

/* Room behind the records that wait; NULL: no memory. */
static uint8_t *pending_room(struct bridge *b, uint32_t n_bytes)
{
    if ((uint64_t)b->pending_at + b->n_pending + n_bytes > b->pending.n_max && b->pending_at > 0) {
        memmove(b->pending.bytes, b->pending.bytes + b->pending_at, b->n_pending);
        b->pending_at = 0;
    }
    if (bridge_room(&b->pending, (uint64_t)b->pending_at + b->n_pending + n_bytes) == NULL)
        return NULL;
    return (uint8_t *)b->pending.bytes + b->pending_at + b->n_pending;
}

void bridge_append(struct bridge *b, struct record_spec *spec)
{
    struct timespec ts;
    uint32_t n_bytes;
    uint8_t *bytes;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    spec->header.origin = ORIGIN_REDIS;
    spec->header.slot = PEAL_SLOT_BRIDGE;
    spec->header.generation = b->child->generation;
    spec->header.time_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    packer_pack(&b->packer, spec);
    n_bytes = record_size(spec);
    bytes = n_bytes == 0 ? NULL : pending_room(b, PADDED(n_bytes));
    if (bytes == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return;
    }
    record_write(bytes, spec, b->region.header->hash_key);
    b->n_pending += PADDED(n_bytes);
    bridge_retry(b);
}

void bridge_retry(struct bridge *b)
{
    while (b->n_pending > 0) {
        const uint8_t *bytes = (const uint8_t *)b->pending.bytes + b->pending_at;
        uint32_t n_bytes = ((const struct record_header *)(const void *)bytes)->n_bytes;
        uint64_t at;

        switch (reserve(b, n_bytes, &at)) {
        case RING_OK: commit(b, bytes, n_bytes, at); break;
        case RING_FULL:
            if (b->slot->waits_since_ms == 0)
                shm_store_u64(&b->slot->waits_since_ms, b->now_ms);
            return;
        case RING_TOO_BIG: count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1); break;
        }
        b->n_pending -= PADDED(n_bytes);
        b->pending_at += PADDED(n_bytes);
    }
    b->pending_at = 0;
    shm_store_u64(&b->slot->waits_since_ms, 0);
}
