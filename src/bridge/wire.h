/* wire.h: the seam between what the bridge does and how it is said. There are two wires: the classic adapter's (wire_pubsub.c) and the sharded one's
 * (wire_sharded.c); redis_adapter chooses once, at start. What a message means is no matter of the wire: inbound.c, outbound.c, query.c, ask.c. */
#ifndef PEAL_BRIDGE_WIRE_H
#define PEAL_BRIDGE_WIRE_H

#include <poll.h>

#include "bridge/state.h"

#define WIRE_FDS_MAX (2 * REDIS_MASTERS_MAX)

struct wire {
    /* --- connections --- */
    bool (*open)(struct bridge *b); /* false: out of memory */
    void (*close)(struct bridge *b);
    uint32_t (*fds)(struct bridge *b, struct pollfd *fds); /* at most WIRE_FDS_MAX */
    uint32_t (*wait_ms)(struct bridge *b);                 /* how long a sleep may last */
    void (*turn)(struct bridge *b,
                 const struct pollfd *fds); /* after poll: connects, reads, acts on what came */
    void (*flush)(struct bridge *b);
    void (*finish)(
        struct bridge *b,
        const struct pollfd *fds);       /* in the end, instead of turn and flush: only writes */
    bool (*is_unsent)(struct bridge *b); /* something can still be written */
    bool (*is_connected)(struct bridge *b);
    bool (*is_subscribed)(
        struct bridge *b); /* connected, and all subscriptions of namespaces confirmed */
    bool (*is_up)(
        struct bridge *b); /* the same, but that a namespace that has just come does not count */

    /* --- subscriptions --- */
    void (*enter)(struct bridge *b, struct bridge_namespace *n); /* may be called again */
    void (*leave)(struct bridge *b, struct bridge_namespace *n);
    void (*on_rooms)(struct bridge *b, const struct record_view *news); /* RECORD_ROOM_NEWS */
    void (*on_worker_gone)(struct bridge *b, uint32_t slot);

    /* --- what is said; into sinks, of which the caller asks whether they were too small --- */
    bool (*publish)(struct bridge *b, struct slice channel,
                    struct slice payload); /* false: counted by the caller */
    void (*put_channel)(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                        const struct adapter_opts *opts);
    /* request_id.bytes != NULL: acknowledgements are wanted, opts has a timeout; it goes to the channel for requests. */
    enum adapter_result (*put_broadcast)(struct bridge *b, struct msgpack_sink *sink,
                                         struct msgpack_sink *scratch, struct slice nsp,
                                         struct slice request_id, const struct adapter_opts *opts,
                                         const struct msgpack_text *event);

    void (*put_membership)(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                           struct slice nsp, const struct adapter_opts *opts,
                           const struct slice *names, uint32_t n_names);
    void (*put_disconnect)(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                           const struct adapter_opts *opts, bool close);

    /* --- questions of our own --- */
    bool
        fetches_only; /* sockets with all that is told of them are the only thing that can be asked for */
    bool (*ask_count)(struct bridge *b,
                      const struct bridge_namespace *n); /* ask_counted tells; false: not now */
    bool (*ask_names)(struct bridge *b,
                      const struct bridge_namespace
                          *n); /* who is there: ask_listed tells; false: not now, or never */
    void (*put_query)(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                      struct slice nsp, struct slice request_id, const struct adapter_opts *opts);
    void (*put_request_channel)(struct bridge *b, struct msgpack_sink *sink, struct slice nsp);
    enum adapter_result (*put_server_emit)(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch, struct slice nsp,
                                           struct slice request_id,
                                           const struct msgpack_text *event);

    /* --- answers to a peer's question --- */
    void (*put_answer_channel)(struct bridge *b, struct msgpack_sink *sink,
                               const struct bridge_asker *asker);
    /* `entries` of a JSON array, without brackets. False: it does not fit. */
    bool (*put_list)(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                     enum adapter_type type, struct slice entries);
    void (*put_count)(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                      uint32_t n_clients);
    enum adapter_result (*put_ack)(struct bridge *b, struct msgpack_sink *sink,
                                   struct msgpack_sink *scratch, const struct bridge_asker *asker,
                                   const struct msgpack_text *value);
    enum adapter_result (*put_emit_answer)(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch,
                                           const struct bridge_asker *asker,
                                           const struct msgpack_text *value);
};

extern const struct wire wire_pubsub;
extern const struct wire wire_sharded;

#endif
