/* redis_cluster.h: sharded Pub/Sub on a Redis Cluster, or on one Redis 7, which is a cluster of one.
 *
 * Two connections to each master: one subscribes, one publishes. Which master has a slot is asked (CLUSTER SLOTS) at the beginning, after every sign that
 * it has changed, and now and then; a redirection (MOVED, ASK) is followed at once: the message that was refused, and those of its slot behind it, go to
 * the new master, in their order. Subscriptions follow their slots: Redis ends them (sunsubscribe) where a slot has left.
 *
 * A message for a slot whose master is not connected waits, bounded in bytes and time; what a connection had not answered when it broke is lost: at most
 * once. */
#ifndef PEAL_BRIDGE_REDIS_CLUSTER_H
#define PEAL_BRIDGE_REDIS_CLUSTER_H

#include <poll.h>

#include "bridge/backlog.h"
#include "bridge/channels.h"
#include "bridge/link.h"
#include "proto/redis_slot.h"
#include "shm/counters.h"

#define CLUSTER_FDS_MAX (2 * REDIS_MASTERS_MAX)

struct cluster_node {
    struct config_redis redis; /* where, and who we are there */
    struct link in;
    struct link out;
    bool used;
    bool in_up;             /* as of the last look */
    bool out_up;            /* ... */
    uint32_t epoch;         /* of the subscriber connection; grows with each */
    struct backlog flights; /* commands of the publisher connection that are not answered yet */
};

struct cluster {
    const struct config *config; /* config->redis: where to begin: node 0 is always this one */
    struct tls_context *tls;
    struct shm_counters *row;
    struct cluster_node nodes[REDIS_MASTERS_MAX];
    uint8_t map[REDIS_SLOTS]; /* index of a node; CHANNEL_NODE_NONE: nobody's */
    struct channels channels;
    uint32_t n_uncovered; /* slots that are nobody's */
    bool single;          /* no cluster at all */
    bool asking;          /* for the map */
    uint32_t ask_at;      /* whom to ask next */
    uint64_t refresh_at_ms;
    struct backlog waiting; /* messages that cannot be sent yet */
    uint32_t n_waiting_of[REDIS_SLOTS];
    bool try_waiting;
    bool paused; /* no more is taken from Redis in this turn */
    uint32_t
        sweep_at; /* channels are looked at from here on, for whether they are subscribed where they must be */
    uint32_t sweep_left;
    uint64_t sweep_again_at_ms; /* 0: no need */
    uint64_t now_ms;
};

struct cluster_events {
    /* A message of a channel. False: no more for now. */
    bool (*message)(void *context, struct slice channel, struct slice payload);
    /* An answer to cluster_count. False: no more of anything for now. */
    bool (*counted)(void *context, uint64_t id, uint32_t n);
    void *context;
};

/* `key` is that of the room hashes; all is borrowed. False: out of memory. */
MUST_USE bool cluster_init(struct cluster *c, const struct config *config, struct tls_context *tls,
                           struct shm_counters *row, const uint64_t key[2]);
void cluster_close(struct cluster *c);

/* --- the loop --- */

/* Fills in what to poll for, at most CLUSTER_FDS_MAX; returns how many. `read` = false: not for messages. */
uint32_t cluster_fds(const struct cluster *c, struct pollfd *fds, bool read);
uint32_t cluster_wait_ms(const struct cluster *c, uint64_t now_ms);

/* After poll, with the same `fds`. */
void cluster_turn(struct cluster *c, const struct pollfd *fds, bool read, uint64_t now_ms,
                  const struct cluster_events *events);
void cluster_flush(struct cluster *c, uint64_t now_ms);
bool cluster_unsent(const struct cluster *c); /* something is still to be written */

/* Every slot has a master, and both connections to each stand. */
bool cluster_is_up(const struct cluster *c);

/* --- what it does --- */

/* SPUBLISH. False: it can neither be sent nor wait; counted. */
bool cluster_publish(struct cluster *c, struct slice channel, struct slice payload);

/* How many are subscribed to a channel (PUBSUB SHARDNUMSUB); events.counted tells. False: not now. */
MUST_USE bool cluster_count(struct cluster *c, struct slice channel, uint64_t id);

/* `holders` need the channel from now on; and no more: if nobody else does it is given up after `linger_ms`. False: there is no room for it; the bridge's own
 * (PEAL_SLOT_BRIDGE) always have room. */
bool cluster_hold(struct cluster *c, struct slice channel, uint64_t holders);
void cluster_release(struct cluster *c, struct slice channel, uint64_t holders, uint32_t linger_ms);
void cluster_release_all(struct cluster *c, uint64_t holders, uint32_t linger_ms);

/* Ends subscriptions whose time has run out, a few in a turn. */
void cluster_expire(struct cluster *c);

/* Is it subscribed, and has Redis said so? */
bool cluster_has(const struct cluster *c, struct slice channel);

#endif
