/* sharded.h: the wire of @socket.io/redis-adapter's sharded adapter (createShardedAdapter), whose
 * messages are those of socket.io-adapter's ClusterAdapter. Sans-IO, no allocation.
 *
 * Every message is {"type":n,"data":{...},"uid":"...","nsp":"/"}: JSON text, or MessagePack where
 * data of some types holds binary. It is read into the form of the classic wire (adapter.h), so
 * that whoever acts on it need not know which of the two it came by. What is not understood is
 * ADAPTER_BAD, to be dropped and counted. Slices live as long as the payload and the sink. */
#ifndef PEAL_PROTO_SHARDED_H
#define PEAL_PROTO_SHARDED_H

#include "proto/adapter.h"

#define SHARDED_UID_CHARS 16 /* of uids and request ids that we make: hexadecimal digits */

enum sharded_mode { SHARDED_DYNAMIC = 0, SHARDED_STATIC, SHARDED_DYNAMIC_PRIVATE };

/* ---- Channels: P#N#, P#N#UID#, P#N#ROOM#: the last two are told apart by who made the name ---- */

/* `last` is a room or a uid; bytes == NULL: the channel of the whole namespace. */
void sharded_put_channel(struct msgpack_sink *sink, struct slice prefix, struct slice nsp,
                         struct slice last);

/* Has a room a channel of its own: do messages to it alone go there? In `dynamic` all but names of
 * 20 UTF-16 units, which are taken for socket ids. */
MUST_USE bool sharded_room_has_channel(enum sharded_mode mode, struct slice room);

/* ---- Reading ---- */

/* The message's type is that of the classic wire: SOCKETS_JOIN is ADAPTER_JOIN, and so on.
 *   ADAPTER_BROADCAST    with request.request_id acknowledgements are wanted
 *   ADAPTER_FETCH        as an answer: data.json is the array of sockets
 *   ADAPTER_SERVER_EMIT  as an answer: data.json the value (bytes == NULL: none)
 *   ADAPTER_CLIENT_COUNT, ADAPTER_CLIENT_ACK: always answers */
struct sharded_message {
    struct adapter_request request;
    struct slice nsp;
    bool is_answer;
};

/* ADAPTER_BAD: what Node ignores or would fall over, and types of heartbeats, which this adapter
 * does not use. Sink: 24 times the payload and 16 KB is always enough. */
MUST_USE enum adapter_result sharded_read(struct slice payload, struct msgpack_sink *sink,
                                          struct sharded_message *out);

/* ---- Writing, byte for byte as Node ---- */

/* Who says it, and where. */
struct sharded_head {
    struct slice uid;
    struct slice nsp;
    struct slice request_id; /* bytes == NULL: none */
};

/* Text with attachments makes the message MessagePack; `scratch` as for msgpack_put_json. On
 * failure what was written is to be thrown away. `text` of a broadcast and of a server-side emit is
 * an array, [event,...]; the others may be without (NULL, or json.bytes == NULL). */
MUST_USE enum adapter_result sharded_put_broadcast(struct msgpack_sink *sink,
                                                   struct msgpack_sink *scratch,
                                                   const struct sharded_head *head,
                                                   const struct adapter_opts *opts,
                                                   const struct msgpack_text *event);
MUST_USE enum adapter_result sharded_put_server_emit(struct msgpack_sink *sink,
                                                     struct msgpack_sink *scratch,
                                                     const struct sharded_head *head,
                                                     const struct msgpack_text *event);
MUST_USE enum adapter_result sharded_put_emit_answer(struct msgpack_sink *sink,
                                                     struct msgpack_sink *scratch,
                                                     const struct sharded_head *head,
                                                     const struct msgpack_text *value);
MUST_USE enum adapter_result sharded_put_client_ack(struct msgpack_sink *sink,
                                                    struct msgpack_sink *scratch,
                                                    const struct sharded_head *head,
                                                    const struct msgpack_text *value);

/* JSON; ask the sink whether it was too small. */
void sharded_put_membership(struct msgpack_sink *sink, enum adapter_type type,
                            const struct sharded_head *head, const struct adapter_opts *opts,
                            const struct slice *names, uint32_t n_names);
void sharded_put_disconnect(struct msgpack_sink *sink, const struct sharded_head *head,
                            const struct adapter_opts *opts, bool close);
void sharded_put_fetch(struct msgpack_sink *sink, const struct sharded_head *head,
                       const struct adapter_opts *opts);
void sharded_put_client_count(struct msgpack_sink *sink, const struct sharded_head *head,
                              uint32_t n_clients);

/* `sockets`: entries of a JSON array with their commas, without brackets. */
void sharded_put_sockets(struct msgpack_sink *sink, const struct sharded_head *head,
                         struct slice sockets);

#endif
