/* cluster_internal.h: what the files of redis_cluster.h share. */
#ifndef PEAL_BRIDGE_CLUSTER_INTERNAL_H
#define PEAL_BRIDGE_CLUSTER_INTERNAL_H

#include "bridge/redis_cluster.h"

struct redisReply;

/* What answers of a publisher connection are to. */
enum flight_kind {
    FLIGHT_PUBLISH = 0,
    FLIGHT_LOST, /* it was not kept */
    FLIGHT_SENT_ELSEWHERE,
    FLIGHT_ASKING,
    FLIGHT_SLOTS,
    FLIGHT_COUNT
};

/* The context of replies. */
struct cluster_reading {
    struct cluster *cluster;
    struct cluster_node *node;
    const struct cluster_events *events;
};

/* --- cluster_map.c --- */

void cluster_open_node(struct cluster *c, struct cluster_node *n);
void cluster_close_node(struct cluster_node *n);

/* The node with that address, made if there is none. CHANNEL_NODE_NONE: too many masters, or no host that can be; told. */
MUST_USE uint8_t cluster_node_at(struct cluster *c, struct slice host, uint16_t port);
bool cluster_is_master(const struct cluster *c, uint8_t node); /* has it a slot? */

void cluster_set_slot(struct cluster *c, uint32_t slot, uint8_t node);
void cluster_refresh_soon(struct cluster *c); /* there is a sign that the map has changed */
void cluster_ask_for_map(struct cluster *c);  /* when it is time */
void cluster_on_slots(struct cluster *c, struct cluster_node *from, const struct redisReply *reply);

/* --- cluster_publish.c --- */

/* Queues a command whose answer `flight` stands for. False: it cannot be queued. */
MUST_USE bool cluster_say(struct cluster_node *n, uint32_t n_words, const struct slice *words,
                          struct backlog_item flight, struct slice channel, struct slice payload);

/* What waits, once more from the front. What can go goes; what cannot stays, in order. */
void cluster_send_waiting(struct cluster *c);
bool cluster_on_answer(void *context, struct redisReply *reply); /* link_on_reply */
void cluster_on_publisher_gone(struct cluster *c, struct cluster_node *n);

/* --- cluster_subscribe.c --- */

void cluster_sweep_all(struct cluster *c); /* every channel is to be looked at */
void cluster_sweep(struct cluster *c);     /* looks at a slice of them */
bool cluster_on_push(void *context, struct redisReply *reply); /* link_on_reply */

#endif
