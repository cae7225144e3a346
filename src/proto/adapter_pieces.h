/* adapter_pieces.h: writing what messages of both wires are made of; shared by adapter_encode.c and
 * sharded_encode.c, and by nobody else. */
#ifndef PEAL_PROTO_ADAPTER_PIECES_H
#define PEAL_PROTO_ADAPTER_PIECES_H

#include "proto/adapter.h"

/* The key of a MessagePack map's next member. */
void adapter_put_key(struct msgpack_sink *sink, const char *key);

/* The map {rooms, except, flags}, in Node's order. */
void adapter_put_opts(struct msgpack_sink *sink, const struct adapter_opts *opts);

/* JSON with attachments, as MessagePack. */
MUST_USE enum adapter_result adapter_put_value(struct msgpack_sink *sink,
                                               struct msgpack_sink *scratch,
                                               const struct msgpack_text *value);

/* A JSON array of strings. */
void adapter_put_json_names(struct msgpack_sink *sink, const struct slice *names, uint32_t n_names);

#endif
