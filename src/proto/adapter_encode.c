/* adapter_encode.c: what goes to Redis, byte for byte as a Node server would write it: channel
 * names, broadcasts, answers, requests.
 *
 * A message that a Node server cannot read to its last byte ends that server, so event text is
 * validated before it goes out, and a sink that overflowed never yields a message (the caller
 * asks `too_big`). */
#include "proto/adapter_pieces.h"

#include <assert.h>

#include "proto/json.h"

/* ---- channels ---- */

static void put_channel_base(struct msgpack_sink *sink, struct slice key, const char *suffix,
                             struct slice nsp)
{
    msgpack_put_bytes(sink, key);
    msgpack_put_text(sink, suffix);
    msgpack_put_text(sink, "#");
    msgpack_put_bytes(sink, nsp);
    msgpack_put_text(sink, "#");
}

void adapter_put_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp,
                         const struct adapter_opts *opts)
{
    put_channel_base(sink, key, "", nsp);
    if (opts->n_rooms == 1) {
        msgpack_put_bytes(sink, opts->rooms[0]);
        msgpack_put_text(sink, "#");
    }
}

void adapter_put_request_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp)
{
    put_channel_base(sink, key, "-request", nsp);
}

void adapter_put_response_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp,
                                  struct slice uid)
{
    put_channel_base(sink, key, "-response", nsp);
    if (uid.bytes != NULL) {
        msgpack_put_bytes(sink, uid);
        msgpack_put_text(sink, "#");
    }
}

static bool take_prefix(struct slice *text, struct slice prefix)
{
    if (text->n_bytes < prefix.n_bytes ||
        !slice_equal(slice_of(text->bytes, prefix.n_bytes), prefix))
        return false;
    *text = slice_of(text->bytes + prefix.n_bytes, text->n_bytes - prefix.n_bytes);
    return true;
}

MUST_USE bool adapter_channel_room(struct slice channel, struct slice key, struct slice nsp,
                                   struct slice *room)
{
    struct slice hash = slice_text("#");

    *room = (struct slice){ NULL, 0 };
    if (!take_prefix(&channel, key) || !take_prefix(&channel, hash) ||
        !take_prefix(&channel, nsp) || !take_prefix(&channel, hash))
        return false;
    if (channel.n_bytes > 1) /* Node cuts off the last character, whatever it is */
        *room = slice_of(channel.bytes, channel.n_bytes - 1);
    return true;
}

/* ---- broadcasts ---- */

static bool is_array(struct slice json)
{
    uint32_t i = 0;

    while (i < json.n_bytes && memchr(" \t\r\n", json.bytes[i], 4) != NULL)
        i++;
    return i < json.n_bytes && json.bytes[i] == '[';
}

MUST_USE enum adapter_result adapter_put_broadcast(struct msgpack_sink *sink,
                                                   struct msgpack_sink *scratch, struct slice uid,
                                                   struct slice nsp, double id,
                                                   const struct adapter_opts *opts,
                                                   const struct msgpack_text *event)
{
    enum adapter_result result;

    if (!is_array(event->json))
        return ADAPTER_BAD;
    msgpack_put_array(sink, 3);
    msgpack_put_string(sink, uid);
    msgpack_put_map(sink, id >= 0 ? 4 : 3);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, 2);
    adapter_put_key(sink, "data");
    result = adapter_put_value(sink, scratch, event);
    if (result != ADAPTER_OK)
        return result;
    if (id >= 0) {
        adapter_put_key(sink, "id");
        msgpack_put_number(sink, id);
    }
    adapter_put_key(sink, "nsp");
    msgpack_put_string(sink, nsp);
    adapter_put_opts(sink, opts);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

/* ---- answers ---- */

static void put_request_id(struct msgpack_sink *sink, struct slice request_id)
{
    msgpack_put_text(sink, "\"requestId\":");
    msgpack_put_json_string(sink, request_id);
}

/* Behind the request id, if it is to be said. */
static void put_answerer(struct msgpack_sink *sink, struct slice uid)
{
    if (uid.bytes == NULL)
        return;
    msgpack_put_text(sink, ",\"uid\":");
    msgpack_put_json_string(sink, uid);
}

#define LIST_END "]}"

MUST_USE bool adapter_answer_begin(struct adapter_answer *a, struct msgpack_sink *sink,
                                   enum adapter_type type, struct slice request_id,
                                   struct slice uid)
{
    assert(type == ADAPTER_SOCKETS || type == ADAPTER_ALL_ROOMS || type == ADAPTER_FETCH);
    *a = (struct adapter_answer){ ._sink = sink };
    msgpack_put_text(sink, "{");
    put_request_id(sink, request_id);
    put_answerer(sink, uid);
    msgpack_put_text(sink, type == ADAPTER_ALL_ROOMS ? ",\"rooms\":[" : ",\"sockets\":[");
    if (sink->too_big || sink->n_max - sink->n_bytes < strlen(LIST_END))
        return false;
    sink->n_max -= (uint32_t)strlen(LIST_END); /* kept for adapter_answer_end */
    return true;
}

/* Begins an entry; `mark` is what end_entry goes back to. */
static uint32_t begin_entry(struct adapter_answer *a)
{
    uint32_t mark = a->_sink->n_bytes;

    if (a->_any)
        msgpack_put_text(a->_sink, ",");
    return mark;
}

static bool end_entry(struct adapter_answer *a, uint32_t mark)
{
    if (a->_sink->too_big) {
        a->_sink->too_big = false;
        a->_sink->n_bytes = mark;
        return false;
    }
    a->_any = true;
    return true;
}

MUST_USE bool adapter_answer_name(struct adapter_answer *a, struct slice name)
{
    uint32_t mark = begin_entry(a);

    msgpack_put_json_string(a->_sink, name);
    return end_entry(a, mark);
}

MUST_USE bool adapter_answer_socket(struct adapter_answer *a, const struct adapter_socket *socket)
{
    uint32_t mark = begin_entry(a);

    msgpack_put_text(a->_sink, "{\"id\":");
    msgpack_put_json_string(a->_sink, socket->id);
    msgpack_put_text(a->_sink, ",\"handshake\":");
    msgpack_put_bytes(a->_sink, socket->handshake);
    msgpack_put_text(a->_sink, ",\"rooms\":");
    adapter_put_json_names(a->_sink, socket->rooms, socket->n_rooms);
    msgpack_put_text(a->_sink, ",\"data\":");
    msgpack_put_bytes(a->_sink, socket->data);
    msgpack_put_text(a->_sink, "}");
    return end_entry(a, mark);
}

void adapter_answer_end(struct adapter_answer *a)
{
    a->_sink->n_max += (uint32_t)strlen(LIST_END);
    msgpack_put_text(a->_sink, LIST_END);
    assert(!a->_sink->too_big);
}

void adapter_put_done(struct msgpack_sink *sink, struct slice request_id)
{
    msgpack_put_text(sink, "{");
    if (request_id.bytes != NULL)
        put_request_id(sink, request_id);
    msgpack_put_text(sink, "}");
}

void adapter_put_emit_answer(struct msgpack_sink *sink, struct slice request_id, struct slice data)
{
    msgpack_put_text(sink, "{\"type\":6,");
    put_request_id(sink, request_id);
    if (data.bytes != NULL) {
        msgpack_put_text(sink, ",\"data\":");
        msgpack_put_bytes(sink, data);
    }
    msgpack_put_text(sink, "}");
}

void adapter_put_client_count(struct msgpack_sink *sink, struct slice request_id, struct slice uid,
                              uint32_t n_clients)
{
    char digits[JSON_NUMBER_MAX];

    msgpack_put_text(sink, "{\"type\":8,");
    put_request_id(sink, request_id);
    put_answerer(sink, uid);
    msgpack_put_text(sink, ",\"clientCount\":");
    msgpack_put_bytes(sink, slice_of(digits, json_put_number(digits, n_clients)));
    msgpack_put_text(sink, "}");
}

/* {type, requestId} and, if there is one, a value under `name`. */
static enum adapter_result put_value(struct msgpack_sink *sink, struct msgpack_sink *scratch,
                                     enum adapter_type type, struct slice request_id,
                                     const char *name, const struct msgpack_text *value)
{
    bool has_value = value != NULL && value->json.bytes != NULL;
    enum adapter_result result = ADAPTER_OK;

    msgpack_put_map(sink, has_value ? 3 : 2);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, type);
    adapter_put_key(sink, "requestId");
    msgpack_put_string(sink, request_id);
    if (has_value) {
        adapter_put_key(sink, name);
        result = adapter_put_value(sink, scratch, value);
    }
    return result == ADAPTER_OK && sink->too_big ? ADAPTER_TOO_BIG : result;
}

MUST_USE enum adapter_result adapter_put_client_ack(struct msgpack_sink *sink,
                                                    struct msgpack_sink *scratch,
                                                    struct slice request_id,
                                                    const struct msgpack_text *value)
{
    return put_value(sink, scratch, ADAPTER_CLIENT_ACK, request_id, "packet", value);
}

MUST_USE enum adapter_result adapter_put_emit_answer_binary(struct msgpack_sink *sink,
                                                            struct msgpack_sink *scratch,
                                                            struct slice request_id,
                                                            const struct msgpack_text *data)
{
    return put_value(sink, scratch, ADAPTER_SERVER_EMIT, request_id, "data", data);
}

/* ---- requests ---- */

static void put_request_head(struct msgpack_sink *sink, struct slice uid, struct slice request_id,
                             const char *type)
{
    msgpack_put_text(sink, "{");
    if (uid.bytes != NULL) {
        msgpack_put_text(sink, "\"uid\":");
        msgpack_put_json_string(sink, uid);
        msgpack_put_text(sink, ",");
    }
    if (request_id.bytes != NULL) {
        put_request_id(sink, request_id);
        msgpack_put_text(sink, ",");
    }
    msgpack_put_text(sink, "\"type\":");
    msgpack_put_text(sink, type);
}

static void put_json_opts(struct msgpack_sink *sink, const struct adapter_opts *opts)
{
    msgpack_put_text(sink, ",\"opts\":{\"rooms\":");
    adapter_put_json_names(sink, opts->rooms, opts->n_rooms);
    msgpack_put_text(sink, ",\"except\":");
    adapter_put_json_names(sink, opts->except, opts->n_except);
    msgpack_put_text(sink, "}");
}

void adapter_put_membership(struct msgpack_sink *sink, enum adapter_type type, struct slice uid,
                            const struct adapter_opts *opts, const struct slice *names,
                            uint32_t n_names)
{
    assert(type == ADAPTER_JOIN || type == ADAPTER_LEAVE);
    put_request_head(sink, uid, (struct slice){ NULL, 0 }, type == ADAPTER_JOIN ? "2" : "3");
    put_json_opts(sink, opts);
    msgpack_put_text(sink, ",\"rooms\":");
    adapter_put_json_names(sink, names, n_names);
    msgpack_put_text(sink, "}");
}

void adapter_put_disconnect(struct msgpack_sink *sink, struct slice uid,
                            const struct adapter_opts *opts, bool close)
{
    put_request_head(sink, uid, (struct slice){ NULL, 0 }, "4");
    put_json_opts(sink, opts);
    msgpack_put_text(sink, close ? ",\"close\":true}" : ",\"close\":false}");
}

void adapter_put_server_emit(struct msgpack_sink *sink, struct slice uid, struct slice request_id,
                             struct slice data)
{
    put_request_head(sink, uid, request_id, "6");
    msgpack_put_text(sink, ",\"data\":");
    msgpack_put_bytes(sink, data);
    msgpack_put_text(sink, "}");
}

void adapter_put_query(struct msgpack_sink *sink, enum adapter_type type, struct slice uid,
                       struct slice request_id, const struct adapter_opts *opts)
{
    assert(type == ADAPTER_SOCKETS || type == ADAPTER_ALL_ROOMS || type == ADAPTER_FETCH);
    put_request_head(sink, uid, request_id,
                     type == ADAPTER_SOCKETS     ? "0"
                     : type == ADAPTER_ALL_ROOMS ? "1"
                                                 : "5");
    if (type == ADAPTER_SOCKETS) {
        msgpack_put_text(sink, ",\"rooms\":");
        adapter_put_json_names(sink, opts->rooms, opts->n_rooms);
    } else if (type == ADAPTER_FETCH) {
        put_json_opts(sink, opts);
    }
    msgpack_put_text(sink, "}");
}

MUST_USE enum adapter_result adapter_put_broadcast_request(
    struct msgpack_sink *sink, struct msgpack_sink *scratch, struct slice uid,
    struct slice request_id, struct slice nsp, const struct adapter_opts *opts,
    const struct msgpack_text *event)
{
    enum adapter_result result;

    if (!is_array(event->json))
        return ADAPTER_BAD;
    msgpack_put_map(sink, 5);
    adapter_put_key(sink, "uid");
    msgpack_put_string(sink, uid);
    adapter_put_key(sink, "requestId");
    msgpack_put_string(sink, request_id);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, ADAPTER_BROADCAST);
    adapter_put_key(sink, "packet");
    msgpack_put_map(sink, 3);
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, 2);
    adapter_put_key(sink, "data");
    result = adapter_put_value(sink, scratch, event);
    if (result != ADAPTER_OK)
        return result;
    adapter_put_key(sink, "nsp");
    msgpack_put_string(sink, nsp);
    adapter_put_key(sink, "opts");
    adapter_put_opts(sink, opts);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

MUST_USE enum adapter_result adapter_put_server_emit_binary(struct msgpack_sink *sink,
                                                            struct msgpack_sink *scratch,
                                                            struct slice uid,
                                                            struct slice request_id,
                                                            const struct msgpack_text *data)
{
    enum adapter_result result;

    msgpack_put_map(sink, request_id.bytes != NULL ? 4 : 3);
    adapter_put_key(sink, "uid");
    msgpack_put_string(sink, uid);
    if (request_id.bytes != NULL) {
        adapter_put_key(sink, "requestId");
        msgpack_put_string(sink, request_id);
    }
    adapter_put_key(sink, "type");
    msgpack_put_number(sink, ADAPTER_SERVER_EMIT);
    adapter_put_key(sink, "data");
    result = adapter_put_value(sink, scratch, data);
    return result == ADAPTER_OK && sink->too_big ? ADAPTER_TOO_BIG : result;
}
