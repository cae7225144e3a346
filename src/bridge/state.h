/* state.h: what the files of the bridge share. bridge.c is the loop; outbound.c ring -> Redis; inbound.c Redis -> ring; query.c questions of peers;
 * probe.c whether Redis hears us. */
#ifndef PEAL_BRIDGE_STATE_H
#define PEAL_BRIDGE_STATE_H

#include "bridge/link.h"
#include "net/child.h"
#include "proto/adapter.h"
#include "shm/counters.h"
#include "shm/namespaces.h"
#include "shm/record.h"
#include "shm/ring.h"

#define BRIDGE_QUERIES_MAX 256
#define PROBE_CHANNEL_MAX  (CONFIG_TEXT_MAX + 64)

/* A namespace that this host has subscribed to. */
struct bridge_namespace {
    uint32_t
        index; /* in the host's table, of which `name` is a copy: the table may give the index to another name */
    struct namespace_copy name;
    bool subscribed; /* asked for on the present connection */
};

/* A peer's question that the workers are answering. */
struct bridge_query {
    uint64_t id;  /* in the ring; 0: free */
    uint8_t type; /* enum adapter_type */
    bool truncated;
    bool counted; /* BROADCAST: the client count has been published */
    char request_id[64];
    uint32_t n_request_id;
    char nsp[NAME_BYTES_MAX + 1]; /* it may have ended on this host when the answer is complete */
    uint32_t n_nsp;
    uint64_t waiting; /* workers whose answer is to come */
    uint64_t until_ms;
    uint32_t n_clients;
    char *answer; /* JSON list so far, without brackets */
    uint32_t n_answer;
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
    struct link in;  /* subscriptions */
    struct link out; /* PUBLISH */
    struct tls_context *tls;
    struct bridge_probe probe;
    struct bridge_namespace namespaces[NAMESPACES_MAX]; /* no two have one index */
    uint32_t n_namespaces;
    uint16_t at_index[NAMESPACES_MAX]; /* place in `namespaces` + 1; 0: none */
    uint64_t changes_seen;             /* of the host's table */
    char uid
        [ADAPTER_UID_CHARS]; /* of this host in the cluster. Node has one for each namespace, but nothing looks at two together */
    struct bridge_query queries[BRIDGE_QUERIES_MAX];
    struct bridge_buffer payload, scratch, record, pending, message;
    uint32_t
        n_pending; /* bytes of a record that waits for room in the ring; nothing more is taken from Redis meanwhile */
    uint64_t at; /* position in the ring */
    uint64_t now_ms;
    bool stop;
};

/* NULL: out of memory. The content is not kept. */
MUST_USE char *bridge_room(struct bridge_buffer *b, uint64_t n_bytes);

struct slice bridge_nsp(const struct bridge_namespace *n);
struct slice bridge_uid(const struct bridge *b);

/* PUBLISH, at once or when Redis is there again. False: no memory; counted. */
bool bridge_publish(struct bridge *b, struct slice channel, struct slice payload);
bool bridge_respond(struct bridge *b, struct slice nsp, struct slice payload);

/* Appends a record that came from Redis. FULL: it is kept and bridge.n_pending is not 0. */
void bridge_append(struct bridge *b, struct record_spec *spec);
void bridge_retry(struct bridge *b);

/* wanted.c: can a broadcast be for anybody here? room.bytes == NULL: for the namespace as a whole, or for several rooms. */
bool bridge_wants(const struct bridge *b, struct slice nsp, struct slice room);

/* outbound.c: one record of the ring; copied, so that it cannot change under us. */
void outbound_record(struct bridge *b, const struct record_view *view);

/* inbound.c: a message of a broadcast channel, and one of a request channel. */
void inbound_broadcast(struct bridge *b, const struct bridge_namespace *n, struct slice channel,
                       struct slice payload);
void inbound_request(struct bridge *b, const struct bridge_namespace *n, struct slice payload);

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
struct bridge_query *query_open(struct bridge *b, const struct bridge_namespace *n,
                                enum adapter_type type, struct slice request_id,
                                uint32_t timeout_ms); /* NULL: too many */
void query_reply(struct bridge *b, const struct record_view *view);
void query_ack(struct bridge *b, const struct record_view *view);
void query_gone(struct bridge *b, uint32_t slot);
void query_expire(struct bridge *b);

#endif
