/* emit.c: see emit.h. The packet's text is put together in the hub's scratch memory before anything is reserved. */
#include "session/emit.h"

#include <stdlib.h>

#include "proto/socketio.h"
#include "session/publish.h"

static struct record_spec spec_of(const struct emit *to)
{
    struct record_spec spec = {
        .nsp = to->nsp,
        .rooms = to->rooms,
        .n_rooms = to->n_rooms,
        .except = to->except,
        .n_except = to->n_except,
    };

    spec.header.kind = RECORD_BROADCAST;
    spec.header.origin = ORIGIN_LOCAL;
    spec.header.flags = to->flags;
    if ((to->flags & RECORD_WANTS_ACK) != 0) {
        spec.header.id = to->ack_id;
        spec.header.detail = to->timeout_ms;
        spec.header.targets = to->targets;
    }
    return spec;
}

static char *scratch(struct hub *h, uint64_t n_bytes)
{
    if (n_bytes > ring_record_bytes_max(&h->ring))
        return NULL;
    if (n_bytes > h->scratch_bytes) {
        uint64_t want = h->scratch_bytes == 0 ? 4096 : h->scratch_bytes;
        char *grown;

        while (want < n_bytes)
            want *= 2;
        grown = realloc(h->scratch, want);
        if (grown == NULL)
            return NULL;
        h->scratch = grown;
        h->scratch_bytes = want;
    }
    return h->scratch;
}

enum ring_result emit_event(struct hub *h, const struct emit *to, struct slice head,
                            struct slice tail, const struct slice *attachments,
                            uint32_t n_attachments)
{
    struct record_spec spec = spec_of(to);
    struct record_part parts[1 + SIO_ATTACHMENTS_MAX];
    uint64_t n_max = (uint64_t)SIO_HEADER_MAX + to->nsp.n_bytes + head.n_bytes + tail.n_bytes;
    char *text = scratch(h, n_max);
    uint32_t at;

    if (text == NULL || n_attachments > SIO_ATTACHMENTS_MAX)
        return RING_TOO_BIG;
    at = sio_put_header(text, n_attachments > 0 ? SIO_BINARY_EVENT : SIO_EVENT, n_attachments,
                        to->nsp, (to->flags & RECORD_WANTS_ACK) != 0 ? (double)to->ack_id : -1);
    spec.event_at = at;
    memcpy(text + at, head.bytes, head.n_bytes);
    at += head.n_bytes;
    if (tail.n_bytes > 0)
        memcpy(text + at, tail.bytes, tail.n_bytes);
    at += tail.n_bytes;
    while (at > spec.event_at && text[at - 1] != ']')
        at--; /* white space that a client left behind its array: an offset goes before the bracket */
    parts[0] = (struct record_part){ .payload = slice_of(text, at), .opcode = WS_TEXT };
    for (uint32_t i = 0; i < n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = attachments[i], .opcode = WS_BINARY };
    spec.parts = parts;
    spec.n_parts = 1 + n_attachments;
    spec.header.encoding = ENCODING_SOCKETIO;
    return publish(h, &spec);
}

enum ring_result emit_frame(struct hub *h, const struct emit *to, struct slice payload, bool binary)
{
    struct record_spec spec = spec_of(to);
    struct record_part part = { .payload = payload, .opcode = binary ? WS_BINARY : WS_TEXT };

    spec.parts = &part;
    spec.n_parts = 1;
    spec.header.encoding = binary ? ENCODING_WS_BINARY : ENCODING_WS_TEXT;
    return publish(h, &spec);
}
