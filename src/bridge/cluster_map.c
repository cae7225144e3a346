/* cluster_map.c: which masters there are, and whose each slot is.
 *
 * Invariant: n_uncovered says how many slots are nobody's. After any change what waits and what is subscribed is looked at again.
 * Owns:      the nodes' links. Node 0 is the configured one; it is used without being a master only while there is no other to ask. */
#include <hiredis/hiredis.h>

#include "base/log.h"
#include "bridge/cluster_internal.h"

#define REFRESH_MS      10000 /* without a sign of a change */
#define REFRESH_SOON_MS 100   /* with one */

void cluster_open_node(struct cluster *c, struct cluster_node *n)
{
    n->used = true;
    link_init(&n->in, &n->redis, c->tls, "subscriber");
    link_init(&n->out, &n->redis, c->tls, "publisher");
}

void cluster_close_node(struct cluster_node *n)
{
    link_close(&n->in);
    link_close(&n->out);
    backlog_free(&n->flights);
    n->used = n->in_up = n->out_up = false;
}

void cluster_refresh_soon(struct cluster *c)
{
    if (c->refresh_at_ms > c->now_ms + REFRESH_SOON_MS)
        c->refresh_at_ms = c->now_ms + REFRESH_SOON_MS;
}

/* --- nodes --- */

static bool is_at(const struct cluster_node *n, struct slice host, uint16_t port)
{
    return n->used && !n->redis.is_unix && n->redis.port == port && slice_is(host, n->redis.host);
}

/* CHANNEL_NODE_NONE: too many masters, or no host that can be. */
uint8_t cluster_node_at(struct cluster *c, struct slice host, uint16_t port)
{
    static struct log_rate rate;
    uint32_t suppressed;
    uint8_t free_place = CHANNEL_NODE_NONE;
    struct cluster_node *n;

    for (uint8_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        if (is_at(&c->nodes[i], host, port))
            return i;
        if (!c->nodes[i].used && i > 0 && free_place == CHANNEL_NODE_NONE)
            free_place = i;
    }
    if (free_place == CHANNEL_NODE_NONE || host.n_bytes >= sizeof c->config->redis.host) {
        if (log_allow(&rate, c->now_ms, 6, &suppressed))
            log_error("redis_masters", "host=%.*s port=%u limit=%u suppressed=%u",
                      (int)host.n_bytes, host.bytes, port, REDIS_MASTERS_MAX, suppressed);
        return CHANNEL_NODE_NONE;
    }
    n = &c->nodes[free_place];
    n->redis = c->config->redis;
    n->redis.is_unix = false;
    n->redis.port = port;
    memcpy(n->redis.host, host.bytes, host.n_bytes);
    n->redis.host[host.n_bytes] = '\0';
    cluster_open_node(c, n);
    return free_place;
}

bool cluster_is_master(const struct cluster *c, uint8_t node)
{
    return memchr(c->map, node, sizeof c->map) != NULL;
}

static bool is_idle(const struct cluster *c, uint8_t node)
{
    return c->nodes[node].used && !cluster_is_master(c, node) &&
           c->nodes[node].flights.n_items == 0;
}

/* Nodes that have no slot any more go when they have answered everything; the configured one when there is another to ask. */
static void drop_idle_nodes(struct cluster *c)
{
    bool any = false;

    for (uint8_t i = 1; i < REDIS_MASTERS_MAX; i++) {
        struct cluster_node *n = &c->nodes[i];

        if (is_idle(c, i))
            cluster_close_node(n);
        any = any || (n->used && n->out.state == LINK_UP);
    }
    if (any && is_idle(c, 0))
        cluster_close_node(&c->nodes[0]);
}

/* --- the map --- */

void cluster_set_slot(struct cluster *c, uint32_t slot, uint8_t node)
{
    if (c->map[slot] == node)
        return;
    c->n_uncovered += node == CHANNEL_NODE_NONE;
    c->n_uncovered -= c->map[slot] == CHANNEL_NODE_NONE;
    c->map[slot] = node;
    c->try_waiting = true;
    cluster_sweep_all(c);
}

static void all_slots_of(struct cluster *c, uint8_t node)
{
    for (uint32_t s = 0; s < REDIS_SLOTS; s++)
        cluster_set_slot(c, s, node);
}

static bool take_range(struct cluster *c, const struct cluster_node *from,
                       const struct redisReply *range, uint8_t map[REDIS_SLOTS])
{
    const struct redisReply *master =
        range->type == REDIS_REPLY_ARRAY && range->elements >= 3 ? range->element[2] : NULL;
    struct slice host;
    uint8_t node;

    if (master == NULL || range->element[0]->type != REDIS_REPLY_INTEGER ||
        range->element[1]->type != REDIS_REPLY_INTEGER || master->type != REDIS_REPLY_ARRAY ||
        master->elements < 2 || master->element[1]->type != REDIS_REPLY_INTEGER ||
        range->element[0]->integer < 0 || range->element[1]->integer >= REDIS_SLOTS ||
        master->element[1]->integer <= 0 || master->element[1]->integer > UINT16_MAX)
        return false;
    host = master->element[0]->type == REDIS_REPLY_STRING
               ? slice_of(master->element[0]->str, (uint32_t)master->element[0]->len)
               : slice_text(from->redis.host);
    if (host.n_bytes == 0 || slice_is(host, "?")) /* it does not know its own address */
        host = slice_text(from->redis.host);
    node = cluster_node_at(c, host, (uint16_t)master->element[1]->integer);
    for (long long s = range->element[0]->integer; s <= range->element[1]->integer; s++)
        map[s] = node;
    return true;
}

void cluster_on_slots(struct cluster *c, struct cluster_node *from, const struct redisReply *reply)
{
    uint8_t map[REDIS_SLOTS];

    c->asking = false;
    c->refresh_at_ms = c->now_ms + REFRESH_MS;
    if (reply->type == REDIS_REPLY_ERROR) {
        struct redis_redirection r = redis_redirection(slice_of(reply->str, (uint32_t)reply->len));

        c->single = r.kind == REFUSAL_NO_CLUSTER;
        if (c->single) {
            c->refresh_at_ms = UINT64_MAX; /* until the next connection */
            all_slots_of(c, (uint8_t)(from - c->nodes));
        }
        return;
    }
    c->single = false;
    memset(map, CHANNEL_NODE_NONE, sizeof map);
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        if (!take_range(c, from, reply->element[i], map)) {
            log_error("redis_error", "command=%s error=%s", "CLUSTER SLOTS", "unreadable answer");
            return;
        }
    }
    for (uint32_t s = 0; s < REDIS_SLOTS; s++)
        cluster_set_slot(c, s, map[s]);
    if (c->n_uncovered > 0)
        c->refresh_at_ms = c->now_ms + 5 * REFRESH_SOON_MS;
    drop_idle_nodes(c);
}

void cluster_ask_for_map(struct cluster *c)
{
    struct slice words[2] = { slice_text("CLUSTER"), slice_text("SLOTS") };
    struct slice none = { "", 0 };
    bool any = false;

    if (c->asking || c->now_ms < c->refresh_at_ms)
        return;
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX && !c->asking; i++) {
        struct cluster_node *n = &c->nodes[c->ask_at++ % REDIS_MASTERS_MAX];

        if (!n->used || n->out.state != LINK_UP)
            continue;
        any = true;
        c->asking =
            cluster_say(n, 2, words, (struct backlog_item){ .kind = FLIGHT_SLOTS }, none, none);
    }
    if (!any && !c->nodes[0].used)
        cluster_open_node(c, &c->nodes[0]); /* nobody else is left to be asked */
}
