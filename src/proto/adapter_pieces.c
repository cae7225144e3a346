/* adapter_pieces.c: see adapter_pieces.h. */
#include "proto/adapter_pieces.h"

static void put_names(struct msgpack_sink *sink, const struct slice *names, uint32_t n_names)
{
    msgpack_put_array(sink, n_names);
    for (uint32_t i = 0; i < n_names; i++)
        msgpack_put_string(sink, names[i]);
}

void adapter_put_key(struct msgpack_sink *sink, const char *key)
{
    msgpack_put_string(sink, slice_text(key));
}

static void put_true(struct msgpack_sink *sink, const char *key, bool there)
{
    if (there) {
        adapter_put_key(sink, key);
        msgpack_put_bool(sink, true);
    }
}

static void put_flags(struct msgpack_sink *sink, const struct adapter_flags *flags)
{
    msgpack_put_map(sink, (uint32_t)flags->expects_single + flags->has_timeout +
                              flags->is_volatile + flags->has_compress + flags->is_broadcast);
    put_true(sink, "expectSingleResponse", flags->expects_single);
    if (flags->has_timeout) {
        adapter_put_key(sink, "timeout");
        msgpack_put_number(sink, flags->timeout_ms);
    }
    put_true(sink, "volatile", flags->is_volatile);
    if (flags->has_compress) {
        adapter_put_key(sink, "compress");
        msgpack_put_bool(sink, flags->compress);
    }
    put_true(sink, "broadcast", flags->is_broadcast);
}

void adapter_put_opts(struct msgpack_sink *sink, const struct adapter_opts *opts)
{
    msgpack_put_map(sink, 3);
    adapter_put_key(sink, "rooms");
    put_names(sink, opts->rooms, opts->n_rooms);
    adapter_put_key(sink, "except");
    put_names(sink, opts->except, opts->n_except);
    adapter_put_key(sink, "flags");
    put_flags(sink, &opts->flags);
}

MUST_USE enum adapter_result adapter_put_value(struct msgpack_sink *sink,
                                               struct msgpack_sink *scratch,
                                               const struct msgpack_text *value)
{
    switch (msgpack_put_json(sink, value, scratch)) {
    case MSGPACK_OK: return ADAPTER_OK;
    case MSGPACK_TOO_BIG: return ADAPTER_TOO_BIG;
    case MSGPACK_BAD: break;
    }
    return ADAPTER_BAD;
}

void adapter_put_json_names(struct msgpack_sink *sink, const struct slice *names, uint32_t n_names)
{
    msgpack_put_text(sink, "[");
    for (uint32_t i = 0; i < n_names; i++) {
        if (i > 0)
            msgpack_put_text(sink, ",");
        msgpack_put_json_string(sink, names[i]);
    }
    msgpack_put_text(sink, "]");
}
