/* adapter_fields.h: reading members of JSON requests; shared by adapter_request.c and
 * sharded_decode.c, and by nobody else. */
#ifndef PEAL_PROTO_ADAPTER_FIELDS_H
#define PEAL_PROTO_ADAPTER_FIELDS_H

#include "proto/adapter.h"
#include "proto/json.h"

struct adapter_field {
    struct slice value; /* bytes == NULL: no such member */
    enum json_kind kind;
};

/* What requests of both wires are made of. */
enum adapter_member {
    MEMBER_TYPE,
    MEMBER_UID,
    MEMBER_REQUEST_ID,
    MEMBER_ROOMS,
    MEMBER_OPTS,
    MEMBER_SID,
    MEMBER_ROOM,
    MEMBER_CLOSE,
    MEMBER_DATA,
    MEMBER_PACKET,
    MEMBER_COUNT,
    MEMBERS
};

/* The members with these names (NULL: none is looked for); of a repeated one the last counts, as
 * in JavaScript. */
void adapter_collect(struct slice object, const char *const *names, struct adapter_field *fields,
                     uint32_t n_names);

bool adapter_is_absent(const struct adapter_field *f); /* not there, or null */

/* A text that only counts if it is a string; else it stays absent. */
struct slice adapter_take_string(const struct adapter_field *f, struct msgpack_sink *sink);

/* What out->type is made of. False: it cannot be read. */
MUST_USE bool adapter_take_body(const struct adapter_field fields[MEMBERS],
                                struct msgpack_sink *sink, struct adapter_request *out);

/* The JSON object that a payload is, in either form, and its attachments. */
MUST_USE enum adapter_result adapter_take_object(struct slice payload, struct msgpack_sink *sink,
                                                 struct msgpack_text *whole);
void adapter_take_attachments(const struct msgpack_text *whole, struct msgpack_text *out);

#endif
