/* adapter.h: the wire of a Socket.IO Redis cluster (@socket.io/redis-adapter 8 and
 * @socket.io/redis-emitter 5). Sans-IO, no allocation.
 *
 * It stands between that wire and our own form, in which an event is JSON text with attachments
 * (struct msgpack_text). Foreign bytes are input: what is not understood is ADAPTER_BAD, to be
 * dropped and counted. Decoded slices point into the payload, into the sink or to constants: they
 * live as long as the first two. Nothing here knows uids, pending requests or which rooms exist.
 *
 * A broadcast is decoded in two steps, so that what is our own (uid), of another namespace (nsp) or
 * unheard (rooms) costs no conversion. */
#ifndef PEAL_PROTO_ADAPTER_H
#define PEAL_PROTO_ADAPTER_H

#include "base/slice.h"
#include "proto/msgpack.h"

#define ADAPTER_UID_CHARS 6 /* of uids and request ids that we make: characters of base64url */

enum adapter_result { ADAPTER_OK = 0, ADAPTER_BAD, ADAPTER_TOO_BIG };

struct adapter_flags {
    bool is_volatile;
    bool is_broadcast;
    bool expects_single; /* expectSingleResponse */
    bool has_compress;
    bool compress; /* looked at by readers; written only with has_compress. True if not given */
    bool has_timeout;
    double timeout_ms;
};

/* Whom a message is for. No rooms: everybody in the namespace. Names are UTF-8; a number (or true,
 * false, null) in a list from Redis has become its text. A list may name a room twice. */
struct adapter_opts {
    const struct slice *rooms;
    const struct slice *except;
    uint32_t n_rooms;
    uint32_t n_except;
    struct adapter_flags flags;
};

/* ---- Channels: K#N#, K#N#ROOM#, K-request#N#, K-response#N#, K-response#N#UID# ---- */

/* Where a broadcast goes: with exactly one room to that room's channel. */
void adapter_put_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp,
                         const struct adapter_opts *opts);
void adapter_put_request_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp);

/* With uid.bytes != NULL the channel of that one node. */
void adapter_put_response_channel(struct msgpack_sink *sink, struct slice key, struct slice nsp,
                                  struct slice uid);

/* Is `channel` one of the broadcasts of this namespace? `room` gets the name that gates it
 * (bytes == NULL: none): a node without a member there drops the message undecoded. Who gets it is
 * decided by opts.rooms alone. */
MUST_USE bool adapter_channel_room(struct slice channel, struct slice key, struct slice nsp,
                                   struct slice *room);

/* ---- Broadcasts ---- */

struct adapter_broadcast {
    struct slice uid; /* bytes == NULL if it is no string: then it is nobody's own */
    struct slice nsp; /* "/" if the packet names none */
    bool has_id;
    double id; /* acknowledgement id, a whole number >= 0: goes to the clients as it is */
    struct adapter_opts opts;
    struct slice _data;
};

/* Walks the whole payload and reads all but the event. Lists go into `sink`: 16 bytes a room and
 * copies of names that are not ASCII; 24 times the payload is always enough.
 * ADAPTER_BAD: not [uid, packet, opts], not packet type 2, data that is no array with a name (a
 * string or a number) in front, lists that cannot be read, trailing bytes. Reserved event names are
 * let through as Node does: ask sio_event_reserved if you will not have them. */
MUST_USE enum adapter_result adapter_open_broadcast(struct slice payload, struct msgpack_sink *sink,
                                                    struct adapter_broadcast *out);

/* Is it a broadcast of `uid`, a text of ADAPTER_UID_CHARS? A look at its first bytes, which are what we and Node write there; no proof that the rest is one. */
MUST_USE bool adapter_broadcast_is_of(struct slice payload, struct slice uid);

/* Converts the event; see msgpack_to_json. */
MUST_USE enum adapter_result adapter_take_event(const struct adapter_broadcast *b,
                                                struct msgpack_sink *sink,
                                                struct msgpack_text *event);

/* Writes [uid, {type,data,(id,)nsp}, {rooms,except,flags}] as a Node server does. `event->json` is
 * an array; `id` < 0: none; `scratch` as for msgpack_put_json. On failure what was written is to be
 * thrown away. */
MUST_USE enum adapter_result adapter_put_broadcast(struct msgpack_sink *sink,
                                                   struct msgpack_sink *scratch, struct slice uid,
                                                   struct slice nsp, double id,
                                                   const struct adapter_opts *opts,
                                                   const struct msgpack_text *event);

/* ---- Requests ---- */

enum adapter_type {
    ADAPTER_SOCKETS = 0,
    ADAPTER_ALL_ROOMS,
    ADAPTER_JOIN,
    ADAPTER_LEAVE,
    ADAPTER_DISCONNECT,
    ADAPTER_FETCH,
    ADAPTER_SERVER_EMIT,
    ADAPTER_BROADCAST,
    ADAPTER_CLIENT_COUNT, /* answer */
    ADAPTER_CLIENT_ACK,   /* answer */
    ADAPTER_TYPES
};

struct adapter_request {
    enum adapter_type type;

    /* bytes == NULL: none (the emitter's 2, 3, 4). 2, 3 and 4 are obeyed whosever they are. */
    struct slice uid;

    /* bytes == NULL: none. Always there for 0, 1, 5, 7, 8, 9; with 6 it asks for an answer. */
    struct slice request_id;

    /* 2, 3, 4: bytes != NULL is the old form, for that one socket; answered with adapter_put_done
     * if it is here and there is a request id. */
    struct slice sid;

    struct adapter_opts opts;  /* 2, 3, 4 in the new form, 5, 7; 0: its rooms */
    const struct slice *names; /* 2, 3: rooms to join or leave */
    uint32_t n_names;
    bool close;          /* 4 */
    double client_count; /* 8 */
    bool has_id;         /* 7: packet.id, as in a broadcast */
    double id;

    /* 6: [event,...]; 7: [event,...] of the packet; 9: the acknowledgement (json.bytes == NULL:
     * none). From a JSON payload it is the text as it stands there, white space and all. */
    struct msgpack_text data;
};

/* Decodes a request, or an answer of type 8 or 9, as JSON (first byte `{`) or MessagePack.
 * ADAPTER_BAD: whatever Node ignores or would fall over; answers without a type (to 0, 1, 5), too.
 * Sink: 24 times the payload and 16 KB is always enough. The event may be two levels less deep than
 * that of a broadcast. */
MUST_USE enum adapter_result adapter_read_request(struct slice payload, struct msgpack_sink *sink,
                                                  struct adapter_request *out);

/* Requests 2 and 3. uid.bytes == NULL: without, as the emitter. */
void adapter_put_membership(struct msgpack_sink *sink, enum adapter_type type, struct slice uid,
                            const struct adapter_opts *opts, const struct slice *names,
                            uint32_t n_names);

/* Request 4. */
void adapter_put_disconnect(struct msgpack_sink *sink, struct slice uid,
                            const struct adapter_opts *opts, bool close);

/* Requests 0 (opts: rooms only), 1 (no opts) and 5. */
void adapter_put_query(struct msgpack_sink *sink, enum adapter_type type, struct slice uid,
                       struct slice request_id, const struct adapter_opts *opts);

/* Request 7. opts.flags.timeout_ms is how long acknowledgements are waited for; `event`, `scratch`
 * and failure as with adapter_put_broadcast. */
MUST_USE enum adapter_result adapter_put_broadcast_request(
    struct msgpack_sink *sink, struct msgpack_sink *scratch, struct slice uid,
    struct slice request_id, struct slice nsp, const struct adapter_opts *opts,
    const struct msgpack_text *event);

/* Request 6. `data` is valid JSON text, [event,...]; request_id.bytes == NULL: no answer wanted. */
void adapter_put_server_emit(struct msgpack_sink *sink, struct slice uid, struct slice request_id,
                             struct slice data);

/* The same as MessagePack, which takes attachments; `scratch` as for msgpack_put_json. */
MUST_USE enum adapter_result adapter_put_server_emit_binary(struct msgpack_sink *sink,
                                                            struct msgpack_sink *scratch,
                                                            struct slice uid,
                                                            struct slice request_id,
                                                            const struct msgpack_text *data);

/* ---- Answers ---- */

/* An answer to a request of ours, as far as it can be read without knowing the request. */
struct adapter_reply {
    struct slice request_id;
    struct slice uid;       /* of who answers: Peal hosts say it, Node servers do not (NULL) */
    enum adapter_type type; /* 6, 8, 9; ADAPTER_TYPES: none, as answers to 0 to 5 have */

    /* 0 and 5: sockets, 1: rooms; the elements of the array with their commas, without its
     * brackets. bytes == NULL: there is no such array. */
    struct slice list;
    double client_count; /* 8 */

    /* 6: data, 9: packet (json.bytes == NULL: none). From a JSON payload it is the text as it
     * stands there. */
    struct msgpack_text value;
};

/* Decodes an answer, as JSON (first byte `{`) or MessagePack. ADAPTER_BAD: it is none, or names no
 * request. Sink: 4 KB is enough for JSON, else as for adapter_read_request. */
MUST_USE enum adapter_result adapter_read_reply(struct slice payload, struct msgpack_sink *sink,
                                                struct adapter_reply *out);

/* An answer that is a list: to 0 and 5 `sockets`, to 1 `rooms`. Begin, add, end. An entry that does
 * not fit into the sink as a whole is not added: the answer stays valid JSON. With uid.bytes != NULL
 * it says who answers, which Node does not, and ignores. */
struct adapter_answer {
    struct msgpack_sink *_sink;
    bool _any;
};

/* What a fetch tells about a socket; handshake and data are ready, valid JSON. */
struct adapter_socket {
    struct slice id;
    struct slice handshake;
    const struct slice *rooms;
    uint32_t n_rooms;
    struct slice data;
};

/* False: not even an empty list fits. */
MUST_USE bool adapter_answer_begin(struct adapter_answer *a, struct msgpack_sink *sink,
                                   enum adapter_type type, struct slice request_id,
                                   struct slice uid);

/* False: does not fit, nothing changed; a shorter entry still may. */
MUST_USE bool adapter_answer_name(struct adapter_answer *a, struct slice name);
MUST_USE bool adapter_answer_socket(struct adapter_answer *a, const struct adapter_socket *socket);

void adapter_answer_end(struct adapter_answer *a);

/* To 2, 3, 4 in the old form: {"requestId"}. */
void adapter_put_done(struct msgpack_sink *sink, struct slice request_id);

/* To 6. `data` is valid JSON, or left out with bytes == NULL. Always goes to the common channel. */
void adapter_put_emit_answer(struct msgpack_sink *sink, struct slice request_id, struct slice data);

/* The same as MessagePack, which takes attachments. */
MUST_USE enum adapter_result adapter_put_emit_answer_binary(struct msgpack_sink *sink,
                                                            struct msgpack_sink *scratch,
                                                            struct slice request_id,
                                                            const struct msgpack_text *data);

/* To 7: at once, even if there are none. `uid` as in a list. */
void adapter_put_client_count(struct msgpack_sink *sink, struct slice request_id, struct slice uid,
                              uint32_t n_clients);

/* To 7: one for each client. `value` is the first argument of its acknowledgement; NULL, or without
 * json: it had none. */
MUST_USE enum adapter_result adapter_put_client_ack(struct msgpack_sink *sink,
                                                    struct msgpack_sink *scratch,
                                                    struct slice request_id,
                                                    const struct msgpack_text *value);

#endif
