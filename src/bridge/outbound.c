/* outbound.c: what this host does to clients everywhere, in the bytes that a Node server with the same adapter would have published: broadcasts, and joins, leaves
 * and disconnects of those that a selector names. The workers have obeyed the latter when they came to the record, and so does every other host: what comes
 * back to us of our own is dropped (inbound.c). */
#include "bridge/state.h"

#include <assert.h>

#include "proto/json.h"

#define NAMES_MAX RECORD_NAMES_MAX

static uint32_t take_names(const struct record_view *view, enum record_list list, struct slice *out)
{
    struct record_names it = record_names_open(view, list);
    uint64_t hash;
    uint32_t n = 0;

    while (n < NAMES_MAX && record_names_next(&it, &out[n], &hash))
        n++;
    return n;
}

uint64_t outbound_selector(const struct record_view *view, struct adapter_opts *opts)
{
    static struct slice rooms[NAMES_MAX];
    static struct slice except[NAMES_MAX];
    uint64_t n_bytes = 0;

    *opts = (struct adapter_opts){ .rooms = rooms, .except = except };
    opts->n_rooms = take_names(view, RECORD_ROOMS, rooms);
    opts->n_except = take_names(view, RECORD_EXCEPT, except);
    opts->flags.is_volatile = (view->header->flags & RECORD_VOLATILE) != 0;
    opts->flags.has_compress = (view->header->flags & RECORD_NO_COMPRESS) != 0;
    for (uint32_t i = 0; i < opts->n_rooms; i++)
        n_bytes += 6ull * rooms[i].n_bytes + 5;
    for (uint32_t i = 0; i < opts->n_except; i++)
        n_bytes += 6ull * except[i].n_bytes + 5;
    return n_bytes;
}

/* The event as JSON with attachments. A plain client's frame is the event `message` with one argument. False: no memory. */
bool outbound_event(struct bridge *b, const struct record_view *view, struct msgpack_text *event)
{
    uint8_t opcode;
    struct slice payload = record_part(view, 0, &opcode);
    struct msgpack_sink sink;
    char *text;

    event->n_attachments = 0;
    if (view->header->encoding == ENCODING_SOCKETIO) {
        event->json = view->event;
        if (view->n_offset_bytes > 0) { /* of this host alone: what others get is the event */
            event->json.n_bytes -= view->n_offset_bytes;
            text = bridge_room(&b->payload, event->json.n_bytes);
            if (text == NULL)
                return false;
            memcpy(text, event->json.bytes, event->json.n_bytes - 1);
            text[event->json.n_bytes - 1] = ']';
            event->json.bytes = text;
        }
        for (uint32_t i = 1;
             i < view->header->n_parts && event->n_attachments < MSGPACK_ATTACHMENTS_MAX; i++)
            event->attachments[event->n_attachments++] = record_part(view, i, &opcode);
        return true;
    }
    text = bridge_room(&b->payload, 64 + 6 * (uint64_t)payload.n_bytes);
    if (text == NULL)
        return false;
    sink = msgpack_sink_of(text, b->payload.n_max);
    msgpack_put_text(&sink, "[\"message\",");
    if (view->header->encoding == ENCODING_WS_TEXT) {
        msgpack_put_json_string(&sink, payload);
    } else if (view->header->encoding == ENCODING_WS_BINARY) {
        msgpack_put_text(&sink, "{\"_placeholder\":true,\"num\":0}");
        event->attachments[event->n_attachments++] = payload;
    } else {
        msgpack_put_bytes(&sink, payload);
    }
    msgpack_put_text(&sink, "]");
    event->json = msgpack_sink_slice(&sink, 0);
    return !sink.too_big;
}

void outbound_record(struct bridge *b, const struct record_view *view)
{
    static struct msgpack_text event; /* 4 KB of attachments; one thread */
    struct adapter_opts opts;
    struct msgpack_sink sink;
    struct msgpack_sink scratch;
    struct slice channel;
    uint64_t n_names;
    uint64_t n_bytes;

    n_names = outbound_selector(view, &opts);
    if (!outbound_event(b, view, &event)) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return;
    }
    n_bytes = view->header->n_bytes;
    if (bridge_room(&b->scratch, 7 * n_bytes + n_names + 4096) == NULL ||
        bridge_room(&b->message, 4 * n_bytes + n_names + 4096) == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return;
    }
    sink = msgpack_sink_of(b->message.bytes, b->message.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    adapter_put_channel(&sink, slice_text(b->config->redis_key), view->nsp, &opts);
    channel = msgpack_sink_slice(&sink, 0);
    if (adapter_put_broadcast(&sink, &scratch, bridge_uid(b), view->nsp, -1, &opts, &event) !=
        ADAPTER_OK) {
        count_add(b->row, COUNT_REDIS_DROPPED_UNDECODABLE,
                  1); /* nothing that could hurt a peer is published */
        return;
    }
    (void)bridge_publish(b, channel,
                         msgpack_sink_slice(&sink, channel.n_bytes)); /* counted there */
}

void outbound_change(struct bridge *b, const struct record_view *view)
{
    static struct slice names[NAMES_MAX];
    enum record_kind kind = (enum record_kind)view->header->kind;
    uint64_t n_bytes;
    uint32_t n_names;
    struct adapter_opts opts;
    struct msgpack_sink sink;
    struct slice channel;

    n_bytes = outbound_selector(view, &opts);
    n_names = take_names(view, RECORD_ARGS, names);
    for (uint32_t i = 0; i < n_names; i++)
        n_bytes += 6ull * names[i].n_bytes + 5;
    if (bridge_room(&b->message, n_bytes + 4096) == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return;
    }
    sink = msgpack_sink_of(b->message.bytes, b->message.n_max);
    adapter_put_request_channel(&sink, slice_text(b->config->redis_key), view->nsp);
    channel = msgpack_sink_slice(&sink, 0);
    if (kind == RECORD_DISCONNECT)
        adapter_put_disconnect(&sink, bridge_uid(b), &opts,
                               (view->header->flags & RECORD_CLOSE) != 0);
    else
        adapter_put_membership(&sink, kind == RECORD_JOIN ? ADAPTER_JOIN : ADAPTER_LEAVE,
                               bridge_uid(b), &opts, names, n_names);
    assert(!sink.too_big);
    (void)bridge_publish(b, channel, msgpack_sink_slice(&sink, channel.n_bytes));
}
