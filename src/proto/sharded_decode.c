/* sharded_decode.c: a message of the sharded adapter into the classic form.
 *
 * MessagePack is made JSON text first, so that there is one reader; a JSON event is taken as it
 * stands.
 *
 * Invariant: a list that cannot be read is an error, never an empty list, since no rooms means
 *            everybody. */
#include "proto/sharded.h"

#include <math.h>
#include <stddef.h>

#include "proto/adapter_fields.h"

enum sharded_type {
    SHARDED_BROADCAST = 3,
    SHARDED_JOIN,
    SHARDED_LEAVE,
    SHARDED_DISCONNECT,
    SHARDED_FETCH,
    SHARDED_FETCH_ANSWER,
    SHARDED_SERVER_EMIT,
    SHARDED_SERVER_EMIT_ANSWER,
    SHARDED_CLIENT_COUNT,
    SHARDED_CLIENT_ACK
};

static const struct {
    uint8_t type; /* enum adapter_type */
    bool is_answer;
    bool needs_id; /* nobody could be waiting for the answer, or know what it answers */
} kinds[] = {
    [SHARDED_BROADCAST] = { ADAPTER_BROADCAST, false, false },
    [SHARDED_JOIN] = { ADAPTER_JOIN, false, false },
    [SHARDED_LEAVE] = { ADAPTER_LEAVE, false, false },
    [SHARDED_DISCONNECT] = { ADAPTER_DISCONNECT, false, false },
    [SHARDED_FETCH] = { ADAPTER_FETCH, false, true },
    [SHARDED_FETCH_ANSWER] = { ADAPTER_FETCH, true, true },
    [SHARDED_SERVER_EMIT] = { ADAPTER_SERVER_EMIT, false, false },
    [SHARDED_SERVER_EMIT_ANSWER] = { ADAPTER_SERVER_EMIT, true, true },
    [SHARDED_CLIENT_COUNT] = { ADAPTER_CLIENT_COUNT, true, true },
    [SHARDED_CLIENT_ACK] = { ADAPTER_CLIENT_ACK, true, true },
};

static bool take_type(const struct adapter_field *f, enum sharded_type *type)
{
    double number;

    if (adapter_is_absent(f) || f->kind != JSON_NUMBER)
        return false;
    number = json_number(f->value);
    if (!(number >= SHARDED_BROADCAST) || number > SHARDED_CLIENT_ACK || trunc(number) != number)
        return false;
    *type = (enum sharded_type)(int)number;
    return true;
}

static bool take_data(enum sharded_type type, struct slice data, struct msgpack_sink *sink,
                      struct adapter_request *out)
{
    static const char *const names[MEMBERS] = {
        [MEMBER_REQUEST_ID] = "requestId",
        [MEMBER_ROOMS] = "rooms",
        [MEMBER_OPTS] = "opts",
        [MEMBER_CLOSE] = "close",
        [MEMBER_PACKET] = "packet",
        [MEMBER_COUNT] = "clientCount",
        [MEMBER_DATA] = "sockets",
    };
    struct adapter_field fields[MEMBERS];

    adapter_collect(data, names, fields, MEMBERS);
    out->request_id = adapter_take_string(&fields[MEMBER_REQUEST_ID], sink);
    if (out->request_id.bytes == NULL &&
        (kinds[type].needs_id || !adapter_is_absent(&fields[MEMBER_REQUEST_ID])))
        return false;
    switch (type) {
    case SHARDED_FETCH_ANSWER:
        out->data.json = fields[MEMBER_DATA].value;
        return !adapter_is_absent(&fields[MEMBER_DATA]) && fields[MEMBER_DATA].kind == JSON_ARRAY;
    case SHARDED_SERVER_EMIT_ANSWER: out->data.json = fields[MEMBER_PACKET].value; return true;
    case SHARDED_SERVER_EMIT: fields[MEMBER_DATA] = fields[MEMBER_PACKET]; break;
    case SHARDED_JOIN:
    case SHARDED_LEAVE:
    case SHARDED_DISCONNECT: /* without opts it would be the classic wire's old form */
        if (adapter_is_absent(&fields[MEMBER_OPTS]))
            return false;
        break;
    case SHARDED_BROADCAST:
    case SHARDED_FETCH:
    case SHARDED_CLIENT_COUNT:
    case SHARDED_CLIENT_ACK: break;
    }
    return adapter_take_body(fields, sink, out);
}

MUST_USE enum adapter_result sharded_read(struct slice payload, struct msgpack_sink *sink,
                                          struct sharded_message *out)
{
    enum { TYPE, DATA, UID, NSP, N_FIELDS };
    static const char *const names[N_FIELDS] = { "type", "data", "uid", "nsp" };
    struct adapter_field fields[N_FIELDS];
    struct adapter_request *r = &out->request;
    struct msgpack_text whole;
    enum adapter_result result;
    enum sharded_type type;

    memset(r, 0, offsetof(struct adapter_request, data.attachments));
    r->id = -1;
    r->opts.flags.compress = true;
    result = adapter_take_object(payload, sink, &whole);
    if (result != ADAPTER_OK)
        return result;
    adapter_collect(whole.json, names, fields, N_FIELDS);
    if (!take_type(&fields[TYPE], &type) || adapter_is_absent(&fields[DATA]) ||
        fields[DATA].kind != JSON_OBJECT)
        return ADAPTER_BAD;
    r->type = (enum adapter_type)kinds[type].type;
    out->is_answer = kinds[type].is_answer;
    r->uid = adapter_take_string(&fields[UID], sink);
    out->nsp = adapter_take_string(&fields[NSP], sink);
    if (out->nsp.bytes == NULL || !take_data(type, fields[DATA].value, sink, r))
        return ADAPTER_BAD;
    adapter_take_attachments(&whole, &r->data);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}
