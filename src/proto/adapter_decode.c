/* adapter_decode.c: a broadcast from Redis, from MessagePack to selector and event.
 *
 * Invariant: what is ADAPTER_OK was walked to its last byte. The data is only looked at, not
 *            converted, until adapter_take_event.
 * Owns:      nothing; slices point into the payload, into the caller's sink, or to constants. */
#include "proto/adapter.h"

#include <assert.h>
#include <math.h>

#include "proto/json.h"

static bool is_undefined(struct slice bytes)
{
    struct msgpack_value value;

    return msgpack_read(&bytes, &value) && value.kind == MSGPACK_UNDEFINED;
}

/* The values of the members that have these names; bytes == NULL where there is none. As in
 * JavaScript the last one counts, and one that is `undefined` is none. */
static bool collect(struct slice *rest, const char *const *names, struct slice *values,
                    uint32_t n_names)
{
    struct msgpack_value map;
    struct msgpack_value key;

    memset(values, 0, n_names * sizeof *values);
    if (!msgpack_read(rest, &map) || map.kind != MSGPACK_MAP)
        return false;
    for (uint32_t i = 0; i < map.n_items; i++) {
        struct slice ahead = *rest;
        struct slice value;

        if (!msgpack_skip(rest)) /* the key, whatever it is */
            return false;
        if (!msgpack_read(&ahead, &key))
            return false;
        value = *rest;
        if (!msgpack_skip(rest))
            return false;
        value.n_bytes -= rest->n_bytes;
        for (uint32_t k = 0; k < n_names && key.kind == MSGPACK_STRING; k++)
            if (slice_is(key.bytes, names[k]))
                values[k] = is_undefined(value) ? (struct slice){ NULL, 0 } : value;
    }
    return true;
}

/* A member's value; `undefined` where there is none. */
static struct msgpack_value value_of(struct slice bytes)
{
    struct msgpack_value value;
    bool good = bytes.bytes != NULL && msgpack_read(&bytes, &value);

    if (!good) {
        assert(bytes.bytes == NULL); /* it has been walked */
        value = (struct msgpack_value){ .kind = MSGPACK_UNDEFINED };
    }
    return value;
}

static bool is_absent(const struct msgpack_value *value)
{
    return value->kind == MSGPACK_NIL || value->kind == MSGPACK_UNDEFINED;
}

static bool is_truthy(const struct msgpack_value *value)
{
    if (value->kind == MSGPACK_BOOL)
        return value->boolean;
    if (value->kind == MSGPACK_NUMBER)
        return value->number != 0 && !isnan(value->number);
    return !is_absent(value) && (value->kind != MSGPACK_STRING || value->bytes.n_bytes > 0);
}

static bool is_ascii(struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes; i++)
        if ((uint8_t)text.bytes[i] >= 0x80)
            return false;
    return true;
}

/* Text as JavaScript decodes it: what is not UTF-8 becomes U+FFFD. ASCII is borrowed, the rest
 * goes through the JSON writer, which knows how to do that. */
static struct slice take_text(struct slice bytes, struct msgpack_sink *sink)
{
    uint32_t from = sink->n_bytes;
    struct slice quoted;
    char *text;

    if (is_ascii(bytes))
        return bytes;
    msgpack_put_json_string(sink, bytes);
    quoted = msgpack_sink_slice(sink, from);
    text = sink->bytes + sink->n_bytes;
    msgpack_put_bytes(sink, quoted); /* room, which the shorter text without escapes then takes */
    return sink->too_big ? bytes : slice_of(text, json_unescape(quoted, text, quoted.n_bytes));
}

static bool take_name(struct slice *rest, struct msgpack_sink *sink, struct slice *name)
{
    struct msgpack_value value;
    char digits[JSON_NUMBER_MAX];
    uint32_t from = sink->n_bytes;

    if (!msgpack_read(rest, &value))
        return false;
    if (value.kind == MSGPACK_STRING) {
        *name = take_text(value.bytes, sink);
    } else if (value.kind == MSGPACK_NUMBER) {
        msgpack_put_bytes(sink, slice_of(digits, msgpack_number_name(digits, value.number)));
        *name = msgpack_sink_slice(sink, from);
    } else if (value.kind == MSGPACK_BOOL || is_absent(&value)) {
        *name = slice_text(value.kind != MSGPACK_BOOL ? "null" : value.boolean ? "true" : "false");
    } else {
        return false; /* dropping it could turn "nobody" into "everybody" */
    }
    return true;
}

static bool take_names(struct slice bytes, struct msgpack_sink *sink, const struct slice **names,
                       uint32_t *n_names)
{
    struct msgpack_value list = value_of(bytes);
    struct slice *slots;

    *names = NULL;
    *n_names = 0;
    if (is_absent(&list))
        return true;
    if (list.kind != MSGPACK_ARRAY || !msgpack_read(&bytes, &list))
        return false;
    slots = msgpack_sink_reserve(sink, (uint64_t)list.n_items * sizeof *slots);
    if (slots == NULL)
        return true; /* the sink says why */
    for (uint32_t i = 0; i < list.n_items; i++)
        if (!take_name(&bytes, sink, &slots[i]))
            return false;
    *names = slots;
    *n_names = list.n_items;
    return true;
}

static void take_flags(struct slice bytes, struct adapter_flags *flags)
{
    enum { VOLATILE, COMPRESS, TIMEOUT, BROADCAST, SINGLE, N_FLAGS };
    static const char *const names[N_FLAGS] = { "volatile", "compress", "timeout", "broadcast",
                                                "expectSingleResponse" };
    struct slice fields[N_FLAGS];
    struct msgpack_value value = value_of(bytes);

    *flags = (struct adapter_flags){ .compress = true };
    if (value.kind != MSGPACK_MAP || !collect(&bytes, names, fields, N_FLAGS))
        return; /* JavaScript finds no flags in anything else either */
    value = value_of(fields[VOLATILE]);
    flags->is_volatile = is_truthy(&value);
    value = value_of(fields[BROADCAST]);
    flags->is_broadcast = is_truthy(&value);
    value = value_of(fields[SINGLE]);
    flags->expects_single = is_truthy(&value);
    value = value_of(fields[COMPRESS]);
    flags->has_compress = value.kind == MSGPACK_BOOL;
    flags->compress = !flags->has_compress || value.boolean;
    value = value_of(fields[TIMEOUT]);
    flags->has_timeout = value.kind == MSGPACK_NUMBER && isfinite(value.number);
    flags->timeout_ms = flags->has_timeout ? value.number : 0;
}

static bool take_opts(struct slice *rest, struct msgpack_sink *sink, struct adapter_opts *opts)
{
    enum { ROOMS, EXCEPT, FLAGS, N_OPTS };
    static const char *const names[N_OPTS] = { "rooms", "except", "flags" };
    struct slice fields[N_OPTS];

    if (!collect(rest, names, fields, N_OPTS))
        return false;
    take_flags(fields[FLAGS], &opts->flags);
    return take_names(fields[ROOMS], sink, &opts->rooms, &opts->n_rooms) &&
           take_names(fields[EXCEPT], sink, &opts->except, &opts->n_except);
}

/* Clients close on an event whose name is neither text nor number. */
static bool is_event(struct slice bytes)
{
    struct msgpack_value value = value_of(bytes);

    if (value.kind != MSGPACK_ARRAY || value.n_items == 0)
        return false;
    if (!msgpack_read(&bytes, &value)) /* the head of the array, again */
        return false;
    return msgpack_read(&bytes, &value) &&
           (value.kind == MSGPACK_STRING ||
            (value.kind == MSGPACK_NUMBER && isfinite(value.number)));
}

static bool take_packet(struct slice *rest, struct msgpack_sink *sink,
                        struct adapter_broadcast *out)
{
    enum { TYPE, DATA, NSP, ID, N_PACKET };
    static const char *const names[N_PACKET] = { "type", "data", "nsp", "id" };
    struct slice fields[N_PACKET];
    struct msgpack_value type, nsp, id;

    if (!collect(rest, names, fields, N_PACKET))
        return false;
    type = value_of(fields[TYPE]);
    nsp = value_of(fields[NSP]);
    id = value_of(fields[ID]);
    if (type.kind != MSGPACK_NUMBER || type.number != 2 || !is_event(fields[DATA]))
        return false;
    if (nsp.kind != MSGPACK_UNDEFINED && nsp.kind != MSGPACK_STRING)
        return false;
    if (!is_absent(&id) && (id.kind != MSGPACK_NUMBER || !(id.number >= 0) ||
                            trunc(id.number) != id.number || !isfinite(id.number)))
        return false;
    out->_data = fields[DATA];
    out->nsp = nsp.kind == MSGPACK_STRING ? take_text(nsp.bytes, sink) : slice_text("/");
    out->has_id = !is_absent(&id);
    out->id = id.number;
    return true;
}

MUST_USE bool adapter_broadcast_is_of(struct slice payload, struct slice uid)
{
    static const char head[2] = { '\x93', (char)(0xa0 | ADAPTER_UID_CHARS) };

    assert(uid.n_bytes == ADAPTER_UID_CHARS);
    return payload.n_bytes > sizeof head + ADAPTER_UID_CHARS &&
           memcmp(payload.bytes, head, sizeof head) == 0 &&
           memcmp(payload.bytes + sizeof head, uid.bytes, ADAPTER_UID_CHARS) == 0;
}

MUST_USE enum adapter_result adapter_open_broadcast(struct slice payload, struct msgpack_sink *sink,
                                                    struct adapter_broadcast *out)
{
    struct msgpack_value list, uid;
    struct slice rest = payload;
    struct slice uid_bytes;

    *out = (struct adapter_broadcast){ .id = -1 };
    if (!msgpack_read(&rest, &list) || list.kind != MSGPACK_ARRAY || list.n_items < 3)
        return ADAPTER_BAD;
    uid_bytes = rest;
    if (!msgpack_skip(&rest))
        return ADAPTER_BAD;
    uid = value_of(uid_bytes);
    if (uid.kind == MSGPACK_STRING)
        out->uid = take_text(uid.bytes, sink);
    if (!take_packet(&rest, sink, out) || !take_opts(&rest, sink, &out->opts))
        return ADAPTER_BAD;
    for (uint32_t i = 3; i < list.n_items; i++) /* JavaScript takes three and ignores the rest */
        if (!msgpack_skip(&rest))
            return ADAPTER_BAD;
    if (rest.n_bytes != 0)
        return ADAPTER_BAD;
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

MUST_USE enum adapter_result adapter_take_event(const struct adapter_broadcast *b,
                                                struct msgpack_sink *sink,
                                                struct msgpack_text *event)
{
    struct slice rest = b->_data;

    switch (msgpack_to_json(&rest, sink, event)) {
    case MSGPACK_OK: return ADAPTER_OK;
    case MSGPACK_TOO_BIG: return ADAPTER_TOO_BIG;
    case MSGPACK_BAD: break;
    }
    return ADAPTER_BAD;
}
