/* publish.c: the producer's side of the ring for a worker.
 *
 * Nothing waits here: a full ring is told to the caller, whose packet stays unconsumed and is tried again in the next turn. Records without such a
 * caller (replies) wait in a list of at most REPLIES_QUEUED_MAX; beyond it the newest is dropped, and the asker runs into its timeout. */
#include "session/publish.h"

#include <assert.h>
#include <stdlib.h>

#include "shm/atomic.h"

struct reply {
    struct reply *next;
    uint32_t n_bytes;
    _Alignas(8) uint8_t bytes[]; /* a whole record */
};

struct replies {
    struct reply *first;
    struct reply *last;
    uint32_t n;
};

static void target_names(struct ring *ring, const struct record_view *view)
{
    struct record_names it = record_names_open(view, RECORD_ROOMS);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        uint8_t id[SOCKET_ID_BYTES];

        ring_target_bucket(ring, record_bucket(hash));
        if (name.n_bytes == SOCKET_ID_CHARS && base64url_decode(id, name))
            ring_target_session(ring, socket_id_index(id));
    }
}

void publish_note(struct ring *ring, const struct record_view *view, uint64_t at)
{
    uint64_t end = at + (view->header->n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
    struct record_names it;
    struct slice name;
    uint64_t hash;

    /* a back end's answer may let a client in, and into rooms (app = forward) */
    if (view->header->kind == RECORD_REPLY && view->header->origin == ORIGIN_REDIS &&
        config_forwards(ring->region->config))
        ring_note_join(ring, end);
    if (view->header->kind != RECORD_JOIN)
        return;
    ring_note_join(ring, end);
    it = record_names_open(view, RECORD_ARGS);
    while (record_names_next(&it, &name, &hash))
        directory_keep(ring->region, record_bucket(hash), end);
}

void publish_target(struct ring *ring, const struct record_view *view, bool bridge)
{
    const struct record_header *header = view->header;

    switch ((enum record_kind)header->kind) {
    case RECORD_BROADCAST:
    case RECORD_JOIN:
    case RECORD_LEAVE:
    case RECORD_DISCONNECT:
        if (header->n_rooms == 0)
            ring_target_bucket(ring,
                               record_bucket(record_hash(ring->region->header->hash_key, view->nsp,
                                                         (struct slice){ NULL, 0 })));
        else
            target_names(ring, view);
        if (bridge && header->origin == ORIGIN_LOCAL && (header->flags & RECORD_LOCAL) == 0)
            ring_target_mask(ring, 1ull << PEAL_SLOT_BRIDGE);
        break;
    case RECORD_NAMESPACE: ring_target_mask(ring, 1ull << PEAL_SLOT_BRIDGE); break;
    case RECORD_VOID:
    case RECORD_FETCH:
    case RECORD_SERVER_EMIT:
    case RECORD_ACK:
    case RECORD_REPLY:
    case RECORD_GONE:
    case RECORD_ROOM_NEWS:
    case RECORD_KINDS: break;
    }
    if (header->targets != 0)
        ring_target_mask(ring, header->targets);
}

static enum ring_result append(struct hub *h, const struct record_spec *spec, const uint8_t *ready,
                               uint32_t n_bytes)
{
    struct record_view view;
    enum ring_result result;
    uint8_t *out;
    uint64_t at;
    bool valid;

    result = ring_reserve(&h->ring, n_bytes, &at);
    if (result != RING_OK)
        return result;
    out = ring_at(&h->ring, at);
    if (spec != NULL)
        record_write(out, spec, h->region.header->hash_key);
    else
        memcpy(out, ready, n_bytes);
    record_stamp(out, at);
    valid = record_view(&view, out, n_bytes);
    assert(valid);
    publish_note(&h->ring, &view, at);
    ring_commit(&h->ring, at, n_bytes);
    publish_target(&h->ring, &view, h->config->redis.enabled);
    h->n_appended++;
    h->last_append = at + (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
    count_add(h->row, COUNT_RING_RECORDS, 1);
    return RING_OK;
}

static uint32_t prepare(struct hub *h, struct record_spec *spec)
{
    spec->header.slot = (uint8_t)h->region.self;
    spec->header.generation = shm_load_u32(&h->slot->generation);
    spec->header.time_us = h->now_us;
    if (h->config->recovery_ms > 0)
        record_ask_offset(spec, h->region.header->epoch);
    return record_size(spec);
}

enum ring_result publish(struct hub *h, struct record_spec *spec)
{
    uint32_t n_bytes = prepare(h, spec);

    if (n_bytes == 0)
        return RING_TOO_BIG;
    if (ring_takes(&h->ring, n_bytes)) { /* else it comes again, or never fits */
        packer_pack(&h->packer, spec);
        n_bytes = record_size(spec);
    }
    return append(h, spec, NULL, n_bytes);
}

struct replies *replies_new(void)
{
    return calloc(1, sizeof(struct replies));
}

void replies_free(struct replies *r)
{
    if (r == NULL)
        return;
    while (r->first != NULL) {
        struct reply *reply = r->first;

        r->first = reply->next;
        free(reply);
    }
    free(r);
}

void replies_push(struct hub *h, const struct record_spec *spec)
{
    struct replies *r = h->replies;
    struct record_spec copy = *spec;
    uint32_t n_bytes = prepare(h, &copy);
    struct reply *reply;

    if (n_bytes == 0)
        return;
    if (r->n == 0 && append(h, &copy, NULL, n_bytes) != RING_FULL)
        return;
    reply = r->n < REPLIES_QUEUED_MAX ? malloc(sizeof *reply + n_bytes) : NULL;
    if (reply == NULL)
        return; /* the asker does not wait for ever */
    reply->next = NULL;
    reply->n_bytes = n_bytes;
    record_write(reply->bytes, &copy, h->region.header->hash_key);
    if (r->last != NULL)
        r->last->next = reply;
    else
        r->first = reply;
    r->last = reply;
    r->n++;
}

bool replies_flush(struct hub *h)
{
    struct replies *r = h->replies;

    while (r->first != NULL) {
        struct reply *reply = r->first;

        if (append(h, NULL, reply->bytes, reply->n_bytes) == RING_FULL)
            return false;
        r->first = reply->next;
        if (r->first == NULL)
            r->last = NULL;
        r->n--;
        free(reply);
    }
    return true;
}
