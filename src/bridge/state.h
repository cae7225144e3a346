/* state.h: what the files of the bridge share. bridge.c is the loop; outbound.c ring -> Redis; inbound.c Redis -> ring; query.c questions of peers; ask.c
 * questions of our own; untold.c what dead workers could not say; probe.c whether Redis hears us. */
#ifndef PEAL_BRIDGE_STATE_H
#define PEAL_BRIDGE_STATE_H

#include "base/wheel.h"
#include "bridge/link.h"
#include "net/child.h"
#include "proto/sharded.h"
#include "session/packer.h"
#include "shm/counters.h"
#include "shm/namespaces.h"
#include "shm/record.h"
#include "shm/ring.h"
#include "shm/sessions.h"

#define BRIDGE_QUERIES_MAX 256
#define ANSWER_BYTES_MAX   4096   /* of one without a list: names, escaped, and little more */
#define BRIDGE_ASKS_MAX    262144 /* questions of our own under way, of all workers */
#define ASK_UNCOUNTED      UINT32_MAX
#define PROBE_CHANNEL_MAX  (CONFIG_TEXT_MAX + 64)

/* A namespace that this host has subscribed to. */
struct bridge_namespace {
    uint32_t
        index; /* in the host's table, of which `name` is a copy: the table may give the index to another name */
    struct namespace_copy name;
    bool subscribed; /* asked for on the present connection */
};

/* Who asked, and where its answers go. */
struct bridge_asker {
    char request_id[64];
    char uid[64];                 /* empty: it said none */
    char nsp[NAME_BYTES_MAX + 1]; /* it may have ended on this host when the answer is complete */
    uint32_t n_request_id;
    uint32_t n_uid;
    uint32_t n_nsp;
    uint8_t type; /* enum adapter_type: of the question */
};

/* A peer's question that the workers are answering. */
struct bridge_query {
    uint64_t id;  /* in the ring; 0: free */
    uint8_t type; /* enum adapter_type */
    bool truncated;
    bool counted; /* BROADCAST: the client count has been published */
    struct bridge_asker asker;
    uint64_t waiting; /* workers whose answer is to come */
    uint64_t until_ms;
    uint32_t n_clients;
    char *answer; /* JSON list so far, without brackets */
    uint32_t n_answer;
};

/* A worker's question that the other servers are answering. */
struct bridge_ask {
    struct wheel_node deadline;
    uint64_t request; /* of the worker, in the ring; 0: free */
    uint32_t salt;
    uint32_t nsp; /* index in the host's table */
    uint32_t n_answers;
    uint32_t n_expected; /* ASK_UNCOUNTED: Redis has not told yet */
    uint32_t next;       /* index + 1: of those that wait for their count; of the free ones */
    uint32_t prev;
    uint32_t n_clients;   /* BROADCAST: of all servers that have told */
    uint32_t n_acks;      /* ... whose acknowledgements have come */
    uint32_t n_answerers; /* servers that have said who they are */
    char (*answerers)[ADAPTER_UID_CHARS];
    uint8_t slot;  /* the worker */
    uint8_t type;  /* enum adapter_type: the request that was published */
    uint8_t fetch; /* enum record_fetch: what the worker wants of it */
    bool told;     /* BROADCAST: the worker knows that all servers have answered */
    bool naming;   /* its time is up; Redis has been asked who is there */
};

struct bridge_asks {
    struct bridge_ask *items; /* [BRIDGE_ASKS_MAX] */
    struct wheel wheel;
    uint32_t n;
    uint32_t fresh; /* places that have been used */
    uint32_t free;  /* index + 1 */
    uint32_t first_uncounted;
    uint32_t last_uncounted;
    bool listing;     /* Redis has been asked who is there, ... */
    uint32_t listed;  /* ... in this namespace */
    uint64_t list_ms; /* ... at this time */
};

/* Whether what is published comes back (probe.c). */
struct bridge_probe {
    bool subscribed; /* its channel, confirmed on the present connection */
    bool refused;    /* ... by the rights of Redis' user */
    bool is_out;     /* published, and not back yet */
    bool proven;     /* one has come back over the two present connections */
    uint64_t n;      /* of the last one: what it says */
    uint64_t sent_ms, sent_us;
};

/* Ends of dead workers' clients that are to be told. */
struct bridge_untold {
    uint64_t next;  /* slots whose clients are to be looked for ... */
    uint64_t from;  /* ... when the bridge has come here in the ring */
    uint64_t slots; /* those that are being looked for */
    uint64_t since_ms;
    uint64_t settled_at_ms; /* Redis is back for a while then */
    struct session_walk walk;
};

/* Memory that grows to what was needed once, for building messages. */
struct bridge_buffer {
    char *bytes;
    uint32_t n_max;
};

struct bridge {
    const struct child *child;
    const struct config *config;
    struct region region;
    struct ring ring;
    struct shm_slot *slot;
    struct shm_counters *row;
    const struct wire *wire;
    struct tls_context *tls;
    /* the classic wire's */
    struct link in;  /* subscriptions */
    struct link out; /* PUBLISH */
    struct bridge_probe probe;
    uint32_t n_confirmed; /* subscriptions confirmed on the present connection */
    uint32_t n_subscriptions;
    bool drained; /* all that the subscriber's connection held in this turn has been taken in */
    /* the sharded wire's */
    struct sharded *sharded;
    bool ready; /* all subscriptions have been confirmed once since it was connected */

    struct bridge_namespace namespaces[NAMESPACES_MAX]; /* no two have one index */
    uint32_t n_namespaces;
    uint16_t at_index[NAMESPACES_MAX]; /* place in `namespaces` + 1; 0: none */
    uint64_t changes_seen;             /* of the host's table */
    uint64_t subscribed_at_ms;         /* when the last subscription of a namespace was asked for */
    char uid
        [SHARDED_UID_CHARS]; /* of this host in the cluster. Node has one for each namespace, but nothing looks at two together */
    uint32_t n_uid;
    struct bridge_asks asks;
    struct bridge_untold untold;
    struct bridge_query queries[BRIDGE_QUERIES_MAX];
    uint32_t queries_end; /* places from here on are free: each turn looks at the others only */
    struct bridge_buffer payload, scratch, record, pending, message;
    struct packer packer;
    uint32_t n_pending; /* bytes of records that wait for room in the ring, in `pending` from ... */
    uint32_t pending_at; /* ... here on; nothing more is taken from Redis meanwhile */
    bool held;           /* the record at `at` waits for something else than the ring */
    bool lapped;         /* records were missed: what is known of rooms is not whole */
    uint64_t at;         /* position in the ring */
    bool
        behind; /* a quarter of the ring is still to be read: what is appended must not overwrite it */
    uint64_t now_ms;
    bool stop;
};

/* NULL: out of memory. The content is not kept. */
MUST_USE char *bridge_room(struct bridge_buffer *b, uint64_t n_bytes);

struct slice bridge_nsp(const struct bridge_namespace *n);
struct slice bridge_uid(const struct bridge *b);
/* PUBLISH, at once or when Redis is there again. False: no memory; counted. */
bool bridge_publish(struct bridge *b, struct slice channel, struct slice payload);
bool bridge_respond(struct bridge *b, const struct bridge_asker *asker, struct slice payload);

/* Appends a record that came from Redis. FULL: it is kept, behind those that are, and bridge.n_pending is not 0. */
void bridge_append(struct bridge *b, struct record_spec *spec);
void bridge_retry(struct bridge *b);

/* Nothing more can be taken from Redis in this turn: what follows stays in its hands, in order. */
static inline bool bridge_is_full(const struct bridge *b)
{
    return b->n_pending > 0 || b->behind;
}

/* At the beginning of the next: it may again, for what could not be appended is, if there is room. True: something was left where it was. */
static inline bool bridge_begin_turn(struct bridge *b)
{
    bool was_full = bridge_is_full(b);

    b->behind = false;
    bridge_retry(b);
    return was_full;
}

/* Memory for what decoding makes of a payload. False: the payload is larger than any record, or there is no memory; counted. */
MUST_USE bool bridge_decode_sink(struct bridge *b, struct slice payload, struct msgpack_sink *sink);
void bridge_undecodable(struct bridge *b, enum adapter_result why);

/* The namespace of that name. NULL: we have not subscribed to it, or no more. */
const struct bridge_namespace *bridge_find_namespace(const struct bridge *b, struct slice name);

/* wanted.c: can a broadcast be for anybody here? room.bytes == NULL: for the namespace as a whole, or for several rooms. */
bool bridge_wants(const struct bridge *b, struct slice nsp, struct slice room);

/* outbound.c: one record of the ring; copied, so that it cannot change under us: a broadcast, and a join, leave or disconnect. */
void outbound_record(struct bridge *b, const struct record_view *view);
void outbound_change(struct bridge *b, const struct record_view *view);
/* A record's selector, in memory that the next call uses again. Returns how many bytes its names take at most in a message. */
uint64_t outbound_selector(const struct record_view *view, struct adapter_opts *opts);
/* A broadcast's event, in the record and in b->payload. False: no memory. */
MUST_USE bool outbound_event(struct bridge *b, const struct record_view *view,
                             struct msgpack_text *event);

/* inbound.c: a message of a broadcast channel, and one of a request channel. */
void inbound_broadcast(struct bridge *b, const struct bridge_namespace *n, struct slice channel,
                       struct slice payload);
void inbound_request(struct bridge *b, const struct bridge_namespace *n, struct slice payload);

/* What has been decoded and is not our own: a request, or an event (a broadcast that nobody waits for). `id` < 0: none. */
void inbound_act(struct bridge *b, const struct bridge_namespace *n,
                 const struct adapter_request *r);
void inbound_event(struct bridge *b, const struct bridge_namespace *n,
                   const struct adapter_opts *opts, const struct msgpack_text *event, double id);
/* probe.c: is told when the subscriber is up, when its subscription is confirmed, when a PING is answered, and what comes on its channel. */
bool probe_is_channel(const struct bridge *b, struct slice channel);
void probe_subscribe(struct bridge *b);
void probe_confirmed(struct bridge *b);
void probe_pong(struct bridge *b);
void probe_denied(struct bridge *b); /* Redis does not let us publish, it perhaps */
void probe_heard(struct bridge *b, struct slice payload);
/* Once per turn. drained: all that the subscriber's connection holds has been taken in. */
void probe_tick(struct bridge *b, bool drained);

/* query.c */
/* NULL: too many, or the asker's names are too long. */
struct bridge_query *query_open(struct bridge *b, const struct bridge_namespace *n,
                                const struct adapter_request *r, uint32_t timeout_ms);
MUST_USE bool query_asker(struct bridge_asker *asker, const struct bridge_namespace *n,
                          const struct adapter_request *r);
struct slice asker_nsp(const struct bridge_asker *asker);
struct slice asker_request_id(const struct bridge_asker *asker);
struct slice asker_uid(const struct bridge_asker *asker);
void query_reply(struct bridge *b, const struct record_view *view);
void query_ack(struct bridge *b, const struct record_view *view);
void query_gone(struct bridge *b, uint32_t slot);
void query_expire(struct bridge *b);

/* untold.c: clients of these slots have died; once a turn; how long that may wait. */
void untold_begin(struct bridge *b, uint64_t slots);
void untold_turn(struct bridge *b);
uint32_t untold_rest_ms(const struct bridge *b);

/* ask.c */
MUST_USE bool ask_open(struct bridge *b);
void ask_close(struct bridge *b);
/* A record that asks the cluster: server-side emit, fetch, or broadcast with acknowledgements. Not while it must wait: for room in the ring, or for
 * subscriptions that are about to be confirmed. */
bool ask_must_wait(struct bridge *b);
void ask_record(struct bridge *b, const struct record_view *view);
/* Redis has told how many servers have that namespace, and which channels are subscribed to; a payload of a response channel. */
void ask_counted(struct bridge *b, const struct bridge_namespace *n, uint64_t n_servers);
void ask_listed(struct bridge *b, const struct slice *channels, uint32_t n_channels);
void ask_answered(struct bridge *b, struct slice payload);
void ask_take(struct bridge *b, const struct adapter_reply *r); /* one that has been decoded */
/* Once a turn: those end whose time is up, or whose answers may have been missed. */
void ask_expire(struct bridge *b);
uint32_t ask_rest_ms(const struct bridge *b); /* WHEEL_NONE: nothing waits */

#endif
