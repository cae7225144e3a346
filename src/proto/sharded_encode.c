/* sharded_encode.c: what goes to Redis in sharded mode, byte for byte as a Node server would write
 * it: members in its order, JSON without white space, MessagePack only where there is binary.
 *
 * Event text is validated before it goes out: a peer must be able to read all of it. */
#include "proto/sharded.h"

#include <assert.h>

#include "proto/adapter_pieces.h"
#include "proto/json.h"

#define SOCKET_ID_UNITS 20 /* what Node takes for a socket id, in UTF-16 units */

/* ---- channels ---- */

void sharded_put_channel(struct msgpack_sink *sink, struct slice prefix, struct slice nsp,
                         struct slice last)
{
    msgpack_put_bytes(sink, prefix);
    msgpack_put_text(sink, "#");
    msgpack_put_bytes(sink, nsp);
    msgpack_put_text(sink, "#");
    if (last.bytes == NULL)
        return;
    msgpack_put_bytes(sink, last);
    msgpack_put_text(sink, "#");
}

static uint32_t utf16_units(struct slice text)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < text.n_bytes; i++) {
        uint8_t c = (uint8_t)text.bytes[i];

        n += (c & 0xc0) != 0x80; /* a character begins */
        n += c >= 0xf0;          /* one that takes two units */
    }
    return n;
}

bool sharded_room_has_channel(enum sharded_mode mode, struct slice room)
{
    switch (mode) {
    case SHARDED_DYNAMIC: return utf16_units(room) != SOCKET_ID_UNITS;
    case SHARDED_DYNAMIC_PRIVATE: return true;
    case SHARDED_STATIC: break;
    }
    return false;
}

/* ---- JSON ---- */

static void text_begin(struct msgpack_sink *sink, const char *type)
{
    msgpack_put_text(sink, "{\"type\":");
    msgpack_put_text(sink, type);
    msgpack_put_text(sink, ",\"data\":{");
}

static void text_request_id(struct msgpack_sink *sink, const struct sharded_head *head)
{
    msgpack_put_text(sink, "\"requestId\":");
    msgpack_put_json_string(sink, head->request_id);
}

static void text_end(struct msgpack_sink *sink, const struct sharded_head *head)
{
    msgpack_put_text(sink, "},\"uid\":");
    msgpack_put_json_string(sink, head->uid);
    msgpack_put_text(sink, ",\"nsp\":");
    msgpack_put_json_string(sink, head->nsp);
    msgpack_put_text(sink, "}");
}

static void text_member(struct msgpack_sink *sink, const char *name, struct slice text)
{
    if (sink->n_bytes > 0 && !sink->too_big && sink->bytes[sink->n_bytes - 1] != '{')
        msgpack_put_text(sink, ",");
    msgpack_put_text(sink, "\"");
    msgpack_put_text(sink, name);
    msgpack_put_text(sink, "\":");
    msgpack_put_bytes(sink, text);
}

static struct slice text_bool(bool value)
{
    return slice_text(value ? "true" : "false");
}

static void text_opts(struct msgpack_sink *sink, const struct adapter_opts *opts)
{
    const struct adapter_flags *flags = &opts->flags;
    char digits[JSON_NUMBER_MAX];

    msgpack_put_text(sink, "\"opts\":{\"rooms\":");
    adapter_put_json_names(sink, opts->rooms, opts->n_rooms);
    msgpack_put_text(sink, ",\"except\":");
    adapter_put_json_names(sink, opts->except, opts->n_except);
    msgpack_put_text(sink, ",\"flags\":{");
    if (flags->expects_single)
        text_member(sink, "expectSingleResponse", text_bool(true));
    if (flags->has_timeout)
        text_member(sink, "timeout", slice_of(digits, json_put_number(digits, flags->timeout_ms)));
    if (flags->is_volatile)
        text_member(sink, "volatile", text_bool(true));
    if (flags->has_compress)
        text_member(sink, "compress", text_bool(flags->compress));
    if (flags->is_broadcast)
        text_member(sink, "broadcast", text_bool(true));
    msgpack_put_text(sink, "}}");
}

/* ---- MessagePack ---- */

static void pack_begin(struct msgpack_sink *sink, uint32_t type, uint32_t n_members)
{
    msgpack_put_map(sink, 4);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, type);
    adapter_put_key(sink, "data");
    msgpack_put_map(sink, n_members);
}

static void pack_request_id(struct msgpack_sink *sink, const struct sharded_head *head)
{
    if (head->request_id.bytes == NULL)
        return;
    adapter_put_key(sink, "requestId");
    msgpack_put_string(sink, head->request_id);
}

static void pack_end(struct msgpack_sink *sink, const struct sharded_head *head)
{
    adapter_put_key(sink, "uid");
    msgpack_put_string(sink, head->uid);
    adapter_put_key(sink, "nsp");
    msgpack_put_string(sink, head->nsp);
}

static void pack_opts(struct msgpack_sink *sink, const struct adapter_opts *opts)
{
    adapter_put_key(sink, "opts");
    adapter_put_opts(sink, opts);
}

/* ---- both ---- */

static enum adapter_result done(const struct msgpack_sink *sink, enum adapter_result result)
{
    return result == ADAPTER_OK && sink->too_big ? ADAPTER_TOO_BIG : result;
}

static bool is_event(const struct msgpack_text *text)
{
    enum json_kind kind;

    return json_valid(text->json, &kind) && kind == JSON_ARRAY;
}

MUST_USE enum adapter_result sharded_put_broadcast(struct msgpack_sink *sink,
                                                   struct msgpack_sink *scratch,
                                                   const struct sharded_head *head,
                                                   const struct adapter_opts *opts,
                                                   const struct msgpack_text *event)
{
    bool has_id = head->request_id.bytes != NULL;
    enum adapter_result result;

    if (!is_event(event))
        return ADAPTER_BAD;
    if (event->n_attachments == 0) {
        text_begin(sink, "3");
        msgpack_put_text(sink, "\"packet\":{\"type\":2,\"data\":");
        msgpack_put_bytes(sink, event->json);
        msgpack_put_text(sink, "},");
        if (has_id) {
            text_request_id(sink, head);
            msgpack_put_text(sink, ",");
        }
        text_opts(sink, opts);
        text_end(sink, head);
        return done(sink, ADAPTER_OK);
    }
    pack_begin(sink, 3, has_id ? 3 : 2);
    adapter_put_key(sink, "packet");
    msgpack_put_map(sink, 2);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, 2);
    adapter_put_key(sink, "data");
    result = adapter_put_value(sink, scratch, event);
    pack_request_id(sink, head);
    pack_opts(sink, opts);
    pack_end(sink, head);
    return done(sink, result);
}

/* [requestId,] packet: 9, 10 and 12. */
static enum adapter_result put_packet(struct msgpack_sink *sink, struct msgpack_sink *scratch,
                                      uint32_t type, const struct sharded_head *head,
                                      const struct msgpack_text *value)
{
    bool has_value = value != NULL && value->json.bytes != NULL;
    enum json_kind kind;
    enum adapter_result result;
    char digits[JSON_NUMBER_MAX + 1] = { 0 };

    if (has_value && !json_valid(value->json, &kind))
        return ADAPTER_BAD;
    if (!has_value || value->n_attachments == 0) {
        (void)json_put_number(digits, type);
        text_begin(sink, digits);
        if (head->request_id.bytes != NULL)
            text_request_id(sink, head);
        if (has_value)
            text_member(sink, "packet", value->json);
        text_end(sink, head);
        return done(sink, ADAPTER_OK);
    }
    pack_begin(sink, type, head->request_id.bytes != NULL ? 2 : 1);
    pack_request_id(sink, head);
    adapter_put_key(sink, "packet");
    result = adapter_put_value(sink, scratch, value);
    pack_end(sink, head);
    return done(sink, result);
}

MUST_USE enum adapter_result sharded_put_server_emit(struct msgpack_sink *sink,
                                                     struct msgpack_sink *scratch,
                                                     const struct sharded_head *head,
                                                     const struct msgpack_text *event)
{
    return is_event(event) ? put_packet(sink, scratch, 9, head, event) : ADAPTER_BAD;
}

MUST_USE enum adapter_result sharded_put_emit_answer(struct msgpack_sink *sink,
                                                     struct msgpack_sink *scratch,
                                                     const struct sharded_head *head,
                                                     const struct msgpack_text *value)
{
    return put_packet(sink, scratch, 10, head, value);
}

MUST_USE enum adapter_result sharded_put_client_ack(struct msgpack_sink *sink,
                                                    struct msgpack_sink *scratch,
                                                    const struct sharded_head *head,
                                                    const struct msgpack_text *value)
{
    return put_packet(sink, scratch, 12, head, value);
}

/* ---- JSON only ---- */

void sharded_put_membership(struct msgpack_sink *sink, enum adapter_type type,
                            const struct sharded_head *head, const struct adapter_opts *opts,
                            const struct slice *names, uint32_t n_names)
{
    assert(type == ADAPTER_JOIN || type == ADAPTER_LEAVE);
    text_begin(sink, type == ADAPTER_JOIN ? "4" : "5");
    text_opts(sink, opts);
    msgpack_put_text(sink, ",\"rooms\":");
    adapter_put_json_names(sink, names, n_names);
    text_end(sink, head);
}

void sharded_put_disconnect(struct msgpack_sink *sink, const struct sharded_head *head,
                            const struct adapter_opts *opts, bool close)
{
    text_begin(sink, "6");
    text_opts(sink, opts);
    text_member(sink, "close", text_bool(close));
    text_end(sink, head);
}

void sharded_put_fetch(struct msgpack_sink *sink, const struct sharded_head *head,
                       const struct adapter_opts *opts)
{
    text_begin(sink, "7");
    text_opts(sink, opts);
    msgpack_put_text(sink, ",");
    text_request_id(sink, head);
    text_end(sink, head);
}

void sharded_put_client_count(struct msgpack_sink *sink, const struct sharded_head *head,
                              uint32_t n_clients)
{
    char digits[JSON_NUMBER_MAX];

    text_begin(sink, "11");
    text_request_id(sink, head);
    text_member(sink, "clientCount", slice_of(digits, json_put_number(digits, n_clients)));
    text_end(sink, head);
}

void sharded_put_sockets(struct msgpack_sink *sink, const struct sharded_head *head,
                         struct slice sockets)
{
    text_begin(sink, "8");
    text_request_id(sink, head);
    msgpack_put_text(sink, ",\"sockets\":[");
    msgpack_put_bytes(sink, sockets);
    msgpack_put_text(sink, "]");
    text_end(sink, head);
}
