/* adapter_request.c: requests and typed answers from Redis.
 *
 * They come as JSON or as MessagePack; the latter is made JSON text first, so that there is one
 * reader for both. That is a cost of requests only: broadcasts, which are many, have a reader of
 * their own (adapter_decode.c).
 *
 * Invariant: a list that cannot be read is an error, never an empty list, since no rooms means
 *            everybody.
 * Owns:      nothing; names and text lie in the caller's sink or in the payload. */
#include "proto/adapter_fields.h"

#include <math.h>

#define KEY_BYTES_MAX 32 /* longer than any name looked for, escapes included or not */

void adapter_collect(struct slice object, const char *const *names, struct adapter_field *fields,
                     uint32_t n_names)
{
    struct json_iter it = json_iter_open(object);
    struct slice key, value;
    enum json_kind kind;

    memset(fields, 0, n_names * sizeof *fields);
    while (json_iter_next(&it, &key, &value, &kind)) {
        char text[KEY_BYTES_MAX];
        uint32_t n = json_unescape(key, text, sizeof text);

        for (uint32_t i = 0; i < n_names && n <= sizeof text; i++)
            if (names[i] != NULL && slice_is(slice_of(text, n), names[i]))
                fields[i] = (struct adapter_field){ value, kind };
    }
}

bool adapter_is_absent(const struct adapter_field *f)
{
    return f->value.bytes == NULL || f->kind == JSON_NULL;
}

static bool is_object(const struct adapter_field *f)
{
    return f->value.bytes != NULL && f->kind == JSON_OBJECT;
}

static bool is_truthy(const struct adapter_field *f)
{
    if (adapter_is_absent(f))
        return false;
    switch (f->kind) {
    case JSON_NULL: return false;
    case JSON_BOOL: return f->value.bytes[0] == 't';
    case JSON_NUMBER: return json_number(f->value) != 0;
    case JSON_STRING: return f->value.n_bytes > 2;
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    return true;
}

/* A string unescaped; of other scalars their text in JavaScript. False: a list or an object. */
static bool take_name(struct slice raw, enum json_kind kind, struct msgpack_sink *sink,
                      struct slice *name)
{
    uint32_t from = sink->n_bytes;
    char digits[JSON_NUMBER_MAX];
    char *text;

    *name = raw;
    switch (kind) {
    case JSON_STRING:
        text = sink->bytes + from;
        msgpack_put_bytes(sink, raw); /* room, which the shorter text without escapes then takes */
        if (!sink->too_big)
            *name = slice_of(text, json_unescape(raw, text, raw.n_bytes));
        return true;
    case JSON_NUMBER:
        msgpack_put_bytes(sink, slice_of(digits, msgpack_number_name(digits, json_number(raw))));
        *name = msgpack_sink_slice(sink, from);
        return true;
    case JSON_NULL:
    case JSON_BOOL: return true; /* the text is its own name */
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    return false;
}

struct slice adapter_take_string(const struct adapter_field *f, struct msgpack_sink *sink)
{
    struct slice text = { NULL, 0 };

    if (f->value.bytes == NULL || f->kind != JSON_STRING ||
        !take_name(f->value, f->kind, sink, &text))
        return (struct slice){ NULL, 0 };
    return text;
}

static uint32_t count_items(struct slice array)
{
    struct json_iter it = json_iter_open(array);
    struct slice key, value;
    enum json_kind kind;
    uint32_t n = 0;

    while (json_iter_next(&it, &key, &value, &kind))
        n++;
    return n;
}

/* A list of names; absent is an empty one. With `or_one` a single name is a list of one. */
static bool take_names(const struct adapter_field *f, bool or_one, struct msgpack_sink *sink,
                       const struct slice **names, uint32_t *n_names)
{
    struct json_iter it;
    struct slice key, value;
    enum json_kind kind;
    struct slice *slots;
    uint32_t n = 0;

    *names = NULL;
    *n_names = 0;
    if (adapter_is_absent(f))
        return true;
    if (f->kind != JSON_ARRAY && !or_one)
        return false;
    slots = msgpack_sink_reserve(
        sink, sizeof *slots * (uint64_t)(f->kind == JSON_ARRAY ? count_items(f->value) : 1));
    if (slots == NULL)
        return true; /* the sink says why */
    if (f->kind != JSON_ARRAY) {
        n = 1;
        if (!take_name(f->value, f->kind, sink, slots))
            return false;
    } else {
        it = json_iter_open(f->value);
        while (json_iter_next(&it, &key, &value, &kind))
            if (!take_name(value, kind, sink, &slots[n++]))
                return false;
    }
    *names = slots;
    *n_names = n;
    return true;
}

static void take_flags(const struct adapter_field *f, struct adapter_flags *flags)
{
    enum { VOLATILE, COMPRESS, TIMEOUT, BROADCAST, SINGLE, N_FLAGS };
    static const char *const names[N_FLAGS] = { "volatile", "compress", "timeout", "broadcast",
                                                "expectSingleResponse" };
    struct adapter_field fields[N_FLAGS];

    *flags = (struct adapter_flags){ .compress = true };
    if (!is_object(f))
        return;
    adapter_collect(f->value, names, fields, N_FLAGS);
    flags->is_volatile = is_truthy(&fields[VOLATILE]);
    flags->is_broadcast = is_truthy(&fields[BROADCAST]);
    flags->expects_single = is_truthy(&fields[SINGLE]);
    flags->has_compress =
        !adapter_is_absent(&fields[COMPRESS]) && fields[COMPRESS].kind == JSON_BOOL;
    flags->compress = !flags->has_compress || is_truthy(&fields[COMPRESS]);
    flags->has_timeout = !adapter_is_absent(&fields[TIMEOUT]) &&
                         fields[TIMEOUT].kind == JSON_NUMBER &&
                         isfinite(json_number(fields[TIMEOUT].value));
    flags->timeout_ms = flags->has_timeout ? json_number(fields[TIMEOUT].value) : 0;
}

static bool take_opts(const struct adapter_field *f, struct msgpack_sink *sink,
                      struct adapter_opts *opts)
{
    enum { ROOMS, EXCEPT, FLAGS, N_OPTS };
    static const char *const names[N_OPTS] = { "rooms", "except", "flags" };
    struct adapter_field fields[N_OPTS];

    if (!is_object(f))
        return false;
    adapter_collect(f->value, names, fields, N_OPTS);
    take_flags(&fields[FLAGS], &opts->flags);
    return take_names(&fields[ROOMS], false, sink, &opts->rooms, &opts->n_rooms) &&
           take_names(&fields[EXCEPT], false, sink, &opts->except, &opts->n_except);
}

/* [event, ...] whose event is a name. */
static bool is_event(const struct adapter_field *f)
{
    struct json_iter it;
    struct slice key, value;
    enum json_kind kind;

    if (f->value.bytes == NULL || f->kind != JSON_ARRAY)
        return false;
    it = json_iter_open(f->value);
    return json_iter_next(&it, &key, &value, &kind) &&
           (kind == JSON_STRING || (kind == JSON_NUMBER && isfinite(json_number(value))));
}

static bool take_packet(const struct adapter_field *f, struct adapter_request *out)
{
    enum { TYPE, DATA, ID, N_PACKET };
    static const char *const names[N_PACKET] = { "type", "data", "id" };
    struct adapter_field fields[N_PACKET];

    if (!is_object(f))
        return false;
    adapter_collect(f->value, names, fields, N_PACKET);
    if (adapter_is_absent(&fields[TYPE]) || fields[TYPE].kind != JSON_NUMBER ||
        json_number(fields[TYPE].value) != 2 || !is_event(&fields[DATA]))
        return false;
    out->data.json = fields[DATA].value;
    if (adapter_is_absent(&fields[ID]))
        return true;
    if (fields[ID].kind != JSON_NUMBER)
        return false;
    out->has_id = true;
    out->id = json_number(fields[ID].value);
    return out->id >= 0 && isfinite(out->id) && trunc(out->id) == out->id;
}

/* 2, 3, 4: with `opts` for those it selects, in the old form for the socket `sid`. */
static bool take_change(const struct adapter_field *fields, struct msgpack_sink *sink,
                        struct adapter_request *out)
{
    bool is_old = adapter_is_absent(&fields[MEMBER_OPTS]);
    const struct adapter_field *rooms;

    out->close = is_truthy(&fields[MEMBER_CLOSE]);
    if (is_old) {
        out->sid = adapter_take_string(&fields[MEMBER_SID], sink);
        if (out->sid.bytes == NULL)
            return false;
    } else if (!take_opts(&fields[MEMBER_OPTS], sink, &out->opts)) {
        return false;
    }
    if (out->type == ADAPTER_DISCONNECT)
        return true;
    rooms = &fields[is_old ? MEMBER_ROOM : MEMBER_ROOMS];
    return !adapter_is_absent(rooms) && take_names(rooms, true, sink, &out->names, &out->n_names);
}

MUST_USE bool adapter_take_body(const struct adapter_field fields[MEMBERS],
                                struct msgpack_sink *sink, struct adapter_request *out)
{
    switch (out->type) {
    case ADAPTER_SOCKETS:
        return take_names(&fields[MEMBER_ROOMS], false, sink, &out->opts.rooms, &out->opts.n_rooms);
    case ADAPTER_ALL_ROOMS: return true;
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
    case ADAPTER_DISCONNECT: return take_change(fields, sink, out);
    case ADAPTER_FETCH: return take_opts(&fields[MEMBER_OPTS], sink, &out->opts);
    case ADAPTER_SERVER_EMIT:
        out->data.json = fields[MEMBER_DATA].value;
        return is_event(&fields[MEMBER_DATA]);
    case ADAPTER_BROADCAST:
        return take_packet(&fields[MEMBER_PACKET], out) &&
               take_opts(&fields[MEMBER_OPTS], sink, &out->opts);
    case ADAPTER_CLIENT_COUNT:
        if (adapter_is_absent(&fields[MEMBER_COUNT]) || fields[MEMBER_COUNT].kind != JSON_NUMBER)
            return false;
        out->client_count = json_number(fields[MEMBER_COUNT].value);
        return out->client_count >= 0 && isfinite(out->client_count);
    case ADAPTER_CLIENT_ACK: out->data.json = fields[MEMBER_PACKET].value; return true;
    case ADAPTER_TYPES: break;
    }
    return false;
}

static bool take_request(struct slice json, struct msgpack_sink *sink, struct adapter_request *out)
{
    static const char *const names[MEMBERS] = { [MEMBER_TYPE] = "type",
                                                [MEMBER_UID] = "uid",
                                                [MEMBER_REQUEST_ID] = "requestId",
                                                [MEMBER_ROOMS] = "rooms",
                                                [MEMBER_OPTS] = "opts",
                                                [MEMBER_SID] = "sid",
                                                [MEMBER_ROOM] = "room",
                                                [MEMBER_CLOSE] = "close",
                                                [MEMBER_DATA] = "data",
                                                [MEMBER_PACKET] = "packet",
                                                [MEMBER_COUNT] = "clientCount" };
    struct adapter_field fields[MEMBERS];
    double type;

    adapter_collect(json, names, fields, MEMBERS);
    if (adapter_is_absent(&fields[MEMBER_TYPE]) || fields[MEMBER_TYPE].kind != JSON_NUMBER)
        return false;
    type = json_number(fields[MEMBER_TYPE].value);
    if (!(type >= 0) || type >= ADAPTER_TYPES || trunc(type) != type)
        return false;
    out->type = (enum adapter_type)(int)type;
    out->uid = adapter_take_string(&fields[MEMBER_UID], sink);
    out->request_id = adapter_take_string(&fields[MEMBER_REQUEST_ID], sink);
    switch (out->type) {
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_FETCH:
    case ADAPTER_BROADCAST:
    case ADAPTER_CLIENT_COUNT:
    case ADAPTER_CLIENT_ACK:
        if (out->request_id.bytes == NULL)
            return false; /* nobody can be waiting for the answer */
        break;
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
    case ADAPTER_DISCONNECT:
    case ADAPTER_SERVER_EMIT:
    case ADAPTER_TYPES: break;
    }
    return adapter_take_body(fields, sink, out);
}

MUST_USE enum adapter_result adapter_take_object(struct slice payload, struct msgpack_sink *sink,
                                                 struct msgpack_text *whole)
{
    enum json_kind kind;
    enum msgpack_result result;

    whole->json = payload;
    whole->n_attachments = 0;
    if (payload.n_bytes == 0)
        return ADAPTER_BAD;
    if (payload.bytes[0] == '{')
        return json_valid(payload, &kind) ? ADAPTER_OK : ADAPTER_BAD;
    result = msgpack_to_json(&payload, sink, whole);
    if (result != MSGPACK_OK)
        return result == MSGPACK_BAD ? ADAPTER_BAD : ADAPTER_TOO_BIG;
    return payload.n_bytes == 0 && whole->json.bytes[0] == '{' ? ADAPTER_OK : ADAPTER_BAD;
}

void adapter_take_attachments(const struct msgpack_text *whole, struct msgpack_text *out)
{
    out->n_attachments = whole->n_attachments;
    memcpy(out->attachments, whole->attachments,
           whole->n_attachments * sizeof whole->attachments[0]);
}

MUST_USE enum adapter_result adapter_read_request(struct slice payload, struct msgpack_sink *sink,
                                                  struct adapter_request *out)
{
    struct msgpack_text whole;
    enum adapter_result result = adapter_take_object(payload, sink, &whole);

    *out = (struct adapter_request){ .client_count = 0, .id = -1, .opts.flags.compress = true };
    if (result != ADAPTER_OK)
        return result;
    if (!take_request(whole.json, sink, out))
        return ADAPTER_BAD;
    adapter_take_attachments(&whole, &out->data);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

/* What is between the brackets; never without address, which would mean that there is no list. */
static struct slice take_list(const struct adapter_field *f)
{
    if (adapter_is_absent(f) || f->kind != JSON_ARRAY)
        return (struct slice){ NULL, 0 };
    if (count_items(f->value) == 0)
        return slice_text("");
    return slice_of(f->value.bytes + 1, f->value.n_bytes - 2);
}

MUST_USE enum adapter_result adapter_read_reply(struct slice payload, struct msgpack_sink *sink,
                                                struct adapter_reply *out)
{
    enum { R_TYPE, R_REQUEST_ID, R_UID, R_SOCKETS, R_ROOMS, R_DATA, R_PACKET, R_COUNT, N_REPLY };
    static const char *const names[N_REPLY] = { "type",  "requestId", "uid",    "sockets",
                                                "rooms", "data",      "packet", "clientCount" };
    struct adapter_field fields[N_REPLY];
    struct msgpack_text whole;
    enum adapter_result result = adapter_take_object(payload, sink, &whole);
    double type;

    *out = (struct adapter_reply){ .type = ADAPTER_TYPES };
    if (result != ADAPTER_OK)
        return result;
    adapter_collect(whole.json, names, fields, N_REPLY);
    out->request_id = adapter_take_string(&fields[R_REQUEST_ID], sink);
    if (out->request_id.bytes == NULL)
        return ADAPTER_BAD;
    out->uid = adapter_take_string(&fields[R_UID], sink);
    type = !adapter_is_absent(&fields[R_TYPE]) && fields[R_TYPE].kind == JSON_NUMBER
               ? json_number(fields[R_TYPE].value)
               : -1;
    if (type == ADAPTER_SERVER_EMIT || type == ADAPTER_CLIENT_COUNT || type == ADAPTER_CLIENT_ACK)
        out->type = (enum adapter_type)(int)type;
    out->list = take_list(&fields[adapter_is_absent(&fields[R_SOCKETS]) ? R_ROOMS : R_SOCKETS]);
    out->value.json = fields[out->type == ADAPTER_CLIENT_ACK ? R_PACKET : R_DATA].value;
    adapter_take_attachments(&whole, &out->value);
    if (out->type == ADAPTER_CLIENT_COUNT) {
        if (adapter_is_absent(&fields[R_COUNT]) || fields[R_COUNT].kind != JSON_NUMBER)
            return ADAPTER_BAD;
        out->client_count = json_number(fields[R_COUNT].value);
        if (!(out->client_count >= 0) || !isfinite(out->client_count))
            return ADAPTER_BAD;
    }
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}
