/* append.c: the admin process as a producer of the ring. Packets are put together in memory of their
 * own before anything is reserved; the bells are rung after each record, for a turn has one.
 *
 * A full ring is told to the caller, who tries again; while it waits, the slot says so
 * (waits_since_ms), and the watchdog looks for who holds the ring up. */
#include "admin/state.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/json.h"
#include "proto/socketio.h"
#include "proto/ws.h"
#include "session/publish.h"
#include "shm/namespaces.h"
#include "shm/record.h"

static const char ws_namespace[] = "/ws";

static enum append_result append(struct admin *a, struct record_spec *spec)
{
    struct record_view view;
    uint32_t n_bytes;
    uint64_t at;
    bool valid;

    spec->header.origin = ORIGIN_LOCAL;
    spec->header.slot = (uint8_t)a->region.self;
    spec->header.generation = a->child->generation;
    spec->header.time_us = a->now_us;
    if (a->region.config->recovery_ms > 0)
        record_ask_offset(spec, a->region.header->epoch);
    n_bytes = record_size(spec);
    if (n_bytes == 0)
        return APPEND_TOO_BIG;
    if (ring_takes(&a->ring, n_bytes)) { /* else it is tried again, or never fits */
        packer_pack(&a->packer, spec);
        n_bytes = record_size(spec);
    }
    switch (ring_reserve(&a->ring, n_bytes, &at)) {
    case RING_OK: break;
    case RING_FULL: return APPEND_FULL;
    case RING_TOO_BIG: return APPEND_TOO_BIG;
    }
    record_write(ring_at(&a->ring, at), spec, a->region.header->hash_key);
    record_stamp(ring_at(&a->ring, at), at);
    valid = record_view(&view, ring_at(&a->ring, at), n_bytes);
    ring_commit(&a->ring, at, n_bytes);
    assert(valid); /* after the commit: a hole would cost others more than a bad record */
    publish_target(&a->ring, &view, a->region.config->redis.enabled);
    ring_bells(&a->ring);
    count_add(a->row, COUNT_RING_RECORDS, 1);
    return APPEND_OK;
}

static struct record_spec spec_of(const struct command *c, enum record_kind kind)
{
    struct record_spec spec = {
        .nsp = c->nsp,
        .rooms = c->names,
        .n_rooms = c->n_rooms,
        .except = c->names + c->n_rooms,
        .n_except = c->n_except,
    };

    spec.header.kind = (uint8_t)kind;
    return spec;
}

/* With Redis, other hosts may have namespaces that we have not. */
static bool namespace_may_be(const struct admin *a, struct slice name)
{
    return a->region.config->redis.enabled || slice_is(name, ws_namespace) ||
           config_namespace_find(a->region.config, name) != NULL ||
           namespace_find(&a->region, name) != NAMESPACE_NONE;
}

/* The packet's text; NULL: no memory. The caller frees it. */
static char *packet_text(const struct command *c, uint32_t *n_bytes, uint32_t *event_at)
{
    char *text =
        malloc((size_t)SIO_HEADER_MAX + c->nsp.n_bytes + c->event.n_bytes + c->args.n_bytes + 3);
    uint32_t n;

    if (text == NULL)
        return NULL;
    n = sio_put_header(text, SIO_EVENT, 0, c->nsp, -1);
    *event_at = n;
    text[n++] = '[';
    memcpy(text + n, c->event.bytes, c->event.n_bytes);
    n += c->event.n_bytes;
    if (c->n_args > 0) {
        text[n++] = ',';
        memcpy(text + n, c->args.bytes, c->args.n_bytes);
        n += c->args.n_bytes;
    }
    text[n++] = ']';
    *n_bytes = n;
    return text;
}

static enum append_result append_part(struct admin *a, const struct command *c,
                                      struct slice payload, enum record_encoding encoding,
                                      uint32_t event_at)
{
    struct record_spec spec = spec_of(c, RECORD_BROADCAST);
    const struct record_part part = { .payload = payload,
                                      .opcode =
                                          encoding == ENCODING_WS_BINARY ? WS_BINARY : WS_TEXT };

    if (payload.n_bytes > a->region.config->event_bytes_max)
        return APPEND_TOO_BIG;
    spec.parts = &part;
    spec.n_parts = 1;
    spec.event_at = event_at;
    spec.header.encoding = (uint8_t)encoding;
    return append(a, &spec);
}

/* To plain clients: what an event `message` with one argument is for them. */
static enum append_result append_emit_plain(struct admin *a, const struct command *c)
{
    enum append_result result;
    char *text;
    uint32_t n;

    if (!json_string_is(c->event, slice_text("message")) || c->n_args != 1)
        return APPEND_NOT_A_MESSAGE;
    if (c->args.bytes[0] != '"')
        return append_part(a, c, c->args, ENCODING_WS_JSON, 0);
    text = malloc(c->args.n_bytes); /* unescaped is never longer */
    if (text == NULL)
        return APPEND_NO_MEMORY;
    n = json_unescape(c->args, text, c->args.n_bytes);
    result = append_part(a, c, slice_of(text, n), ENCODING_WS_TEXT, 0);
    free(text);
    return result;
}

enum append_result append_emit(struct admin *a, const struct command *c)
{
    enum append_result result;
    uint32_t n_bytes, event_at;
    char *text;

    if (!namespace_may_be(a, c->nsp))
        return APPEND_NO_NAMESPACE;
    if (slice_is(c->nsp, ws_namespace))
        return append_emit_plain(a, c);
    text = packet_text(c, &n_bytes, &event_at);
    if (text == NULL)
        return APPEND_NO_MEMORY;
    result = append_part(a, c, slice_of(text, n_bytes), ENCODING_SOCKETIO, event_at);
    free(text);
    return result;
}

enum append_result append_disconnect(struct admin *a, const struct command *c)
{
    struct record_spec spec = spec_of(c, RECORD_DISCONNECT);

    assert(c->n_rooms > 0); /* without rooms it would be everybody */
    if (!namespace_may_be(a, c->nsp))
        return APPEND_NO_NAMESPACE;
    if (c->close)
        spec.header.flags = RECORD_CLOSE;
    return append(a, &spec);
}

enum append_result append_frame(struct admin *a, const struct command *c, struct slice payload,
                                bool binary)
{
    assert(slice_is(c->nsp, ws_namespace));
    assert(c->n_rooms == 1);
    return append_part(a, c, payload, binary ? ENCODING_WS_BINARY : ENCODING_WS_TEXT, 0);
}
