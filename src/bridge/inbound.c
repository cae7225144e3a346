/* inbound.c: what peers publish, put into the ring in the order in which it came.
 *
 * Whatever does not decode is dropped and counted; a peer's mistake is never ours. Names over NAME_BYTES_MAX cannot be rooms of this host: they are left
 * out of lists, and a message for nothing but such rooms is for nobody here. */
#include "bridge/state.h"
#include "proto/engineio.h"
#include "proto/json.h"
#include "proto/socketio.h"
#include "proto/ws.h"
#include "shm/atomic.h"
#include "shm/sessions.h"

#include <stdlib.h>

#define ACK_TIMEOUT_MAX_MS 300000

static uint32_t live_workers(const struct bridge *b, uint64_t *mask)
{
    uint32_t n = 0;

    *mask = 0;
    for (uint32_t i = 0; i < b->region.header->n_workers; i++) {
        if (shm_load_acquire_u32(&b->region.header->slots[i].state) == SLOT_LIVE) {
            *mask |= 1ull << i;
            n++;
        }
    }
    return n;
}

/* Drops names that are too long from a list that we may write to; returns how many are left. */
static uint32_t short_names(const struct slice *names, uint32_t n, struct slice *out)
{
    uint32_t n_out = 0;

    for (uint32_t i = 0; i < n && n_out < RECORD_NAMES_MAX; i++)
        if (names[i].n_bytes <= NAME_BYTES_MAX)
            out[n_out++] = names[i];
    return n_out;
}

/* False: for nobody here. */
static bool put_selector(struct record_spec *spec, const struct adapter_opts *opts)
{
    static struct slice rooms[RECORD_NAMES_MAX];
    static struct slice except[RECORD_NAMES_MAX];

    spec->rooms = rooms;
    spec->except = except;
    spec->n_rooms = short_names(opts->rooms, opts->n_rooms, rooms);
    spec->n_except = short_names(opts->except, opts->n_except, except);
    return opts->n_rooms == 0 || spec->n_rooms > 0;
}

/* The one argument of `message` for plain clients; false: it is no such event. */
static bool plain_part(struct bridge *b, const struct msgpack_text *event, struct record_spec *spec,
                       struct record_part *part)
{
    struct json_iter it = json_iter_open(event->json);
    struct slice key, name, value, more;
    enum json_kind kind, more_kind;
    char text[8];

    if (!json_iter_next(&it, &key, &name, &kind) || kind != JSON_STRING ||
        json_unescape(name, text, sizeof text) != 7 || memcmp(text, "message", 7) != 0)
        return false;
    if (!json_iter_next(&it, &key, &value, &kind) || json_iter_next(&it, &key, &more, &more_kind))
        return false;
    if (event->n_attachments == 1 && kind == JSON_OBJECT) {
        *part = (struct record_part){ event->attachments[0], WS_BINARY };
        spec->header.encoding = ENCODING_WS_BINARY;
        return slice_is(value, "{\"_placeholder\":true,\"num\":0}");
    }
    if (event->n_attachments > 0)
        return false; /* binary inside of something: there is no text for it */
    spec->header.encoding = ENCODING_WS_JSON;
    if (kind == JSON_STRING) {
        char *out = bridge_room(&b->message, value.n_bytes);

        if (out == NULL)
            return false;
        value = slice_of(out, json_unescape(value, out, b->message.n_max));
        spec->header.encoding = ENCODING_WS_TEXT;
    }
    *part = (struct record_part){ value, WS_TEXT };
    return true;
}

/* A broadcast in the ring, from an event of Redis. `id` < 0: none. */
static void append_event(struct bridge *b, struct record_spec *spec,
                         const struct msgpack_text *event, double id)
{
    static struct record_part parts[1 + MSGPACK_ATTACHMENTS_MAX];
    char *text;
    uint32_t at;

    spec->header.kind = RECORD_BROADCAST;
    spec->parts = parts;
    spec->n_parts = 1;
    if (slice_is(spec->nsp, "/ws")) {
        if (plain_part(b, event, spec, &parts[0]))
            bridge_append(b, spec);
        else
            count_add(b->row, COUNT_WS_DROPPED, 1);
        return;
    }
    text = bridge_room(&b->message,
                       (uint64_t)SIO_HEADER_MAX + spec->nsp.n_bytes + event->json.n_bytes);
    if (text == NULL || 1 + event->n_attachments > RECORD_PARTS_MAX) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return;
    }
    at = sio_put_header(text, event->n_attachments > 0 ? SIO_BINARY_EVENT : SIO_EVENT,
                        event->n_attachments, spec->nsp, id);
    spec->event_at = at;
    memcpy(text + at, event->json.bytes, event->json.n_bytes);
    parts[0] = (struct record_part){ slice_of(text, at + event->json.n_bytes), WS_TEXT };
    for (uint32_t i = 0; i < event->n_attachments; i++)
        parts[1 + i] = (struct record_part){ event->attachments[i], WS_BINARY };
    spec->n_parts = 1 + event->n_attachments;
    spec->header.encoding = ENCODING_SOCKETIO;
    if (b->config->recovery_ms > 0 && id < 0)
        record_ask_offset(spec, b->region.header->epoch);
    bridge_append(b, spec);
}

void bridge_undecodable(struct bridge *b, enum adapter_result why)
{
    count_add(
        b->row,
        why == ADAPTER_TOO_BIG ? COUNT_REDIS_DROPPED_TOO_BIG : COUNT_REDIS_DROPPED_UNDECODABLE, 1);
}

bool bridge_decode_sink(struct bridge *b, struct slice payload, struct msgpack_sink *sink)
{
    char *bytes = payload.n_bytes > ring_record_bytes_max(&b->ring) * 2ull
                      ? NULL
                      : bridge_room(&b->scratch, 24 * (uint64_t)payload.n_bytes + 65536);

    if (bytes == NULL) {
        bridge_undecodable(b, ADAPTER_TOO_BIG);
        return false;
    }
    *sink = msgpack_sink_of(bytes, b->scratch.n_max);
    return true;
}

void inbound_broadcast(struct bridge *b, const struct bridge_namespace *n, struct slice channel,
                       struct slice payload)
{
    static struct msgpack_text event;
    struct record_spec spec = { .nsp = bridge_nsp(n) };
    struct adapter_broadcast broadcast;
    enum adapter_result result;
    struct msgpack_sink sink;
    struct slice room;

    if (!adapter_channel_room(channel, slice_text(b->config->redis_key), spec.nsp, &room))
        return; /* of another namespace, whose name begins like this one */
    if (adapter_broadcast_is_of(payload, bridge_uid(b)))
        return;
    if (!bridge_wants(b, spec.nsp, room)) {
        count_add(b->row, COUNT_REDIS_UNWANTED, 1);
        return;
    }
    if (!bridge_decode_sink(b, payload, &sink))
        return;
    result = adapter_open_broadcast(payload, &sink, &broadcast);
    if (result != ADAPTER_OK) {
        bridge_undecodable(b, result);
        return;
    }
    if (slice_equal(broadcast.uid, bridge_uid(b)) || !slice_equal(broadcast.nsp, spec.nsp))
        return; /* our own, or not for this namespace */
    result = adapter_take_event(&broadcast, &sink, &event);
    if (result != ADAPTER_OK) {
        bridge_undecodable(b, result);
        return;
    }
    if (!put_selector(&spec, &broadcast.opts))
        return;
    spec.header.flags =
        (uint8_t)((broadcast.opts.flags.is_volatile ? RECORD_VOLATILE : 0u) |
                  (broadcast.opts.flags.has_compress && !broadcast.opts.flags.compress
                       ? RECORD_NO_COMPRESS
                       : 0u));
    append_event(b, &spec, &event, broadcast.has_id ? broadcast.id : -1);
}

/* --- requests --- */

static bool is_local(const struct bridge *b, struct slice name)
{
    uint8_t id[SOCKET_ID_BYTES];
    uint32_t owner, local;
    uint16_t nsp;

    return name.n_bytes == SOCKET_ID_CHARS && base64url_decode(id, name) &&
           session_find(&b->region, SESSION_SOCKET, socket_id_index(id), id, &owner, &local, &nsp);
}

/* 2, 3 and 4: obeyed in their place in the order; a host's own have been obeyed in its ring. */
static void obey(struct bridge *b, const struct bridge_namespace *n,
                 const struct adapter_request *r)
{
    static struct slice names[RECORD_NAMES_MAX];
    struct record_spec spec = { .nsp = bridge_nsp(n) };
    struct adapter_opts old_form = { .rooms = &r->sid, .n_rooms = 1 };

    if (!put_selector(&spec, r->sid.bytes != NULL ? &old_form : &r->opts))
        return;
    spec.header.kind = r->type == ADAPTER_JOIN    ? RECORD_JOIN
                       : r->type == ADAPTER_LEAVE ? RECORD_LEAVE
                                                  : RECORD_DISCONNECT;
    spec.header.flags = r->close ? RECORD_CLOSE : 0;
    spec.args = names;
    spec.n_args = short_names(r->names, r->n_names, names);
    if (r->type == ADAPTER_DISCONNECT || spec.n_args > 0)
        bridge_append(b, &spec);
    if (r->sid.bytes != NULL && r->request_id.bytes != NULL && is_local(b, r->sid)) {
        char done[256];
        struct msgpack_sink sink = msgpack_sink_of(done, sizeof done);

        adapter_put_done(&sink, r->request_id);
        if (!sink.too_big)
            (void)bridge_respond(b, bridge_nsp(n), (struct slice){ NULL, 0 },
                                 msgpack_sink_slice(&sink, 0));
    }
}

static void ask(struct bridge *b, const struct bridge_namespace *n, const struct adapter_request *r)
{
    static const uint8_t details[] = { [ADAPTER_SOCKETS] = FETCH_SOCKET_IDS,
                                       [ADAPTER_ALL_ROOMS] = FETCH_ROOMS,
                                       [ADAPTER_FETCH] = FETCH_SOCKETS };
    struct record_spec spec = { .nsp = bridge_nsp(n) };
    struct bridge_query *q = query_open(b, n, r, b->config->redis_request_timeout_ms);

    if (q == NULL)
        return;
    (void)live_workers(b, &q->waiting);
    if (!put_selector(&spec, &r->opts) || q->waiting == 0) {
        q->until_ms = 0; /* answered, empty, at the end of this turn */
        return;
    }
    spec.header.kind = RECORD_FETCH;
    spec.header.id = q->id;
    spec.header.detail = details[r->type];
    spec.header.targets = q->waiting;
    bridge_append(b, &spec);
}

/* 7: every worker tells how many it asked; acknowledgements follow one by one. */
static void broadcast_with_ack(struct bridge *b, const struct bridge_namespace *n,
                               const struct adapter_request *r)
{
    struct record_spec spec = { .nsp = bridge_nsp(n) };
    double timeout =
        r->opts.flags.has_timeout ? r->opts.flags.timeout_ms : b->config->redis_request_timeout_ms;
    uint32_t timeout_ms =
        timeout > 0 && timeout < ACK_TIMEOUT_MAX_MS ? (uint32_t)timeout : ACK_TIMEOUT_MAX_MS;
    struct bridge_query *q = query_open(b, n, r, timeout_ms);

    if (q == NULL)
        return;
    (void)live_workers(b, &q->waiting);
    if (!put_selector(&spec, &r->opts) || q->waiting == 0) {
        q->waiting = 0;
        return; /* count 0, told at the end of this turn */
    }
    spec.header.flags = RECORD_WANTS_ACK;
    spec.header.id = q->id;
    spec.header.detail = timeout_ms;
    spec.header.targets = q->waiting;
    append_event(b, &spec, &r->data, (double)q->id);
}

/* Is there an application in that namespace that takes events of Peal's own? */
static bool is_forwarded(const struct bridge *b, struct slice nsp)
{
    const struct config_namespace *section = config_namespace_find(b->config, nsp);

    return section != NULL && section->app == APP_FORWARD;
}

/* 6: for the applications of all workers. The first that answers answers for this host; where nobody listens, whoever waits gets null at once. Events of
 * Peal's own (peal:) are for Node servers alone, but for peal:data, and never answered. */
static void server_emit(struct bridge *b, const struct bridge_namespace *n,
                        const struct adapter_request *r)
{
    static const char own_prefix[] = "peal:";
    static struct record_part parts[1 + SIO_ATTACHMENTS_MAX];
    struct record_spec spec = { .nsp = bridge_nsp(n), .parts = parts, .n_parts = 1 };
    struct json_iter it = json_iter_open(r->data.json);
    struct bridge_query *q = NULL;
    char name[sizeof "peal:data"] = "";
    struct slice key, first;
    enum json_kind kind;
    uint64_t workers;
    bool is_own;

    if (json_iter_next(&it, &key, &first, &kind) && kind == JSON_STRING)
        (void)json_unescape(first, name, sizeof name);
    is_own = memcmp(name, own_prefix, sizeof own_prefix - 1) == 0;
    if (is_own && (memcmp(name, "peal:data", sizeof name) != 0 || !is_forwarded(b, spec.nsp)))
        return;
    if (r->request_id.bytes != NULL && !is_own) {
        q = query_open(b, n, r, b->config->redis_request_timeout_ms);
        if (q == NULL)
            return;
    }
    (void)live_workers(b, &workers);
    if (workers == 0 || r->data.n_attachments > SIO_ATTACHMENTS_MAX)
        return; /* its question is answered at the end of this turn */
    parts[0] = (struct record_part){ .payload = r->data.json };
    for (uint32_t i = 0; i < r->data.n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = r->data.attachments[i] };
    spec.n_parts = 1 + r->data.n_attachments;
    spec.header.kind = RECORD_SERVER_EMIT;
    spec.header.targets = workers;
    if (q != NULL) {
        q->waiting = workers;
        spec.header.id = q->id;
        spec.header.flags = RECORD_WANTS_ACK;
    }
    bridge_append(b, &spec);
}

void inbound_request(struct bridge *b, const struct bridge_namespace *n, struct slice payload)
{
    static struct adapter_request r;
    struct msgpack_sink sink;
    enum adapter_result result;

    if (!bridge_decode_sink(b, payload, &sink))
        return;
    result = adapter_read_request(payload, &sink, &r);
    if (result != ADAPTER_OK) {
        bridge_undecodable(b, result);
        return;
    }
    if (slice_equal(r.uid, bridge_uid(b)))
        return; /* our own: our workers have seen it in the ring */
    switch (r.type) {
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
    case ADAPTER_DISCONNECT: obey(b, n, &r); break;
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_FETCH: ask(b, n, &r); break;
    case ADAPTER_SERVER_EMIT: server_emit(b, n, &r); break;
    case ADAPTER_BROADCAST: broadcast_with_ack(b, n, &r); break;
    case ADAPTER_CLIENT_COUNT: /* answers, on the wrong channel */
    case ADAPTER_CLIENT_ACK:
    case ADAPTER_TYPES: break;
    }
}
