/* redis_cluster.c: see redis_cluster.h.
 *
 * Invariant: a channel is subscribed where channel.node and channel.epoch say, if that connection still stands; where it must be says the map. Whenever the
 *            two may differ (a connection has come, the map has changed, Redis has ended a subscription) all channels are looked at, in slices.
 *            A flight is in its node's list exactly until its answer has come or the connection is gone.
 * Owns:      the nodes' links. Node 0 is the configured one; it is used without being a master only while there is no other. */
#include "bridge/redis_cluster.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define REFRESH_MS      10000 /* without a sign of a change */
#define REFRESH_SOON_MS 100   /* with one */
#define SWEEP_SLICE     8192
#define EXPIRE_SLICE    1024
#define SWEEP_RETRY_MS  20   /* a connection takes no more for now */
#define UNCONFIRMED_MS  1000 /* then a subscription is asked for again, if something was refused */
#define ATTEMPTS_MAX    5
#define FLIGHT_BYTES_MAX \
    (4u << 20) /* of one node: what goes over it is not kept, and lost if refused */

enum flight_kind {
    FLIGHT_PUBLISH = 0,
    FLIGHT_LOST, /* it was not kept */
    FLIGHT_SENT_ELSEWHERE,
    FLIGHT_ASKING,
    FLIGHT_SLOTS,
    FLIGHT_COUNT
};

static void open_node(struct cluster *c, struct cluster_node *n)
{
    n->used = true;
    link_init(&n->in, &n->redis, c->tls, "subscriber");
    link_init(&n->out, &n->redis, c->tls, "publisher");
}

bool cluster_init(struct cluster *c, const struct config *config, struct tls_context *tls,
                  struct shm_counters *row, const uint64_t key[2])
{
    struct cluster_node *first = &c->nodes[0];

    memset(c, 0, sizeof *c);
    c->config = config;
    c->tls = tls;
    c->row = row;
    memset(c->map, CHANNEL_NODE_NONE, sizeof c->map);
    c->n_uncovered = REDIS_SLOTS;
    first->redis = config->redis;
    open_node(c, first);
    return channels_init(&c->channels, BRIDGE_ROOMS_MAX + 2 * NAMESPACES_MAX, key);
}

static void close_node(struct cluster_node *n)
{
    link_close(&n->in);
    link_close(&n->out);
    backlog_free(&n->flights);
    n->used = n->in_up = n->out_up = false;
}

void cluster_close(struct cluster *c)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used)
            close_node(&c->nodes[i]);
    backlog_free(&c->waiting);
    channels_destroy(&c->channels);
}

static void refresh_soon(struct cluster *c)
{
    if (c->refresh_at_ms > c->now_ms + REFRESH_SOON_MS)
        c->refresh_at_ms = c->now_ms + REFRESH_SOON_MS;
}

static void sweep_from_here(struct cluster *c)
{
    c->sweep_left = c->channels.n_entries;
}

/* --- nodes --- */

static bool is_at(const struct cluster_node *n, struct slice host, uint16_t port)
{
    return n->used && !n->redis.is_unix && n->redis.port == port && slice_is(host, n->redis.host);
}

/* CHANNEL_NODE_NONE: too many masters, or no host that can be. */
static uint8_t node_at(struct cluster *c, struct slice host, uint16_t port)
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
    open_node(c, n);
    return free_place;
}

static bool is_master(const struct cluster *c, uint8_t node)
{
    return memchr(c->map, node, sizeof c->map) != NULL;
}

/* Nodes that have no slot any more go; the configured one when there is another to ask. */
static void drop_idle_nodes(struct cluster *c)
{
    bool any = false;

    for (uint8_t i = 1; i < REDIS_MASTERS_MAX; i++) {
        struct cluster_node *n = &c->nodes[i];

        if (n->used && !is_master(c, i))
            close_node(n);
        any = any || (n->used && n->out.state == LINK_UP);
    }
    if (any && c->nodes[0].used && !is_master(c, 0))
        close_node(&c->nodes[0]);
}

/* --- the map --- */

static void set_slot(struct cluster *c, uint32_t slot, uint8_t node)
{
    if (c->map[slot] == node)
        return;
    c->n_uncovered += node == CHANNEL_NODE_NONE;
    c->n_uncovered -= c->map[slot] == CHANNEL_NODE_NONE;
    c->map[slot] = node;
    c->try_waiting = true;
    sweep_from_here(c);
}

static void all_slots_of(struct cluster *c, uint8_t node)
{
    for (uint32_t s = 0; s < REDIS_SLOTS; s++)
        set_slot(c, s, node);
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
    node = node_at(c, host, (uint16_t)master->element[1]->integer);
    for (long long s = range->element[0]->integer; s <= range->element[1]->integer; s++)
        map[s] = node;
    return true;
}

static void on_slots(struct cluster *c, struct cluster_node *from, const struct redisReply *reply)
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
        set_slot(c, s, map[s]);
    if (c->n_uncovered > 0)
        c->refresh_at_ms = c->now_ms + 5 * REFRESH_SOON_MS;
    drop_idle_nodes(c);
}

/* --- commands --- */

/* Queues a command whose answer `flight` stands for. False: it cannot be queued. */
static bool say(struct cluster_node *n, uint32_t n_words, const struct slice *words,
                struct backlog_item flight, struct slice channel, struct slice payload)
{
    struct slice none = { "", 0 };

    if (!link_command(&n->out, n_words, words))
        return false;
    if (backlog_push(&n->flights, flight, channel, payload, FLIGHT_BYTES_MAX))
        return true;
    if (flight.kind == FLIGHT_PUBLISH)
        flight.kind = FLIGHT_LOST;
    if (backlog_push(&n->flights, flight, none, none, UINT32_MAX))
        return true;
    link_close(&n->out); /* no memory: answers could not be told apart */
    return false;
}

static void ask_for_map(struct cluster *c)
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
        c->asking = say(n, 2, words, (struct backlog_item){ .kind = FLIGHT_SLOTS }, none, none);
    }
    if (!any && !c->nodes[0].used)
        open_node(c, &c->nodes[0]); /* nobody else is left to be asked */
}

static void drop_message(struct cluster *c, enum counter why)
{
    count_add(c->row, why, 1);
}

/* redis_buffer_bytes is for the host: here it is one buffer. */
static uint32_t waiting_max(const struct cluster *c)
{
    return (uint32_t)c->config->redis_buffer_bytes; /* at most 1 GB */
}

static void wait_for_node(struct cluster *c, struct backlog_item item, struct slice channel,
                          struct slice payload)
{
    uint64_t n_bytes = sizeof item + channel.n_bytes + (uint64_t)payload.n_bytes;

    while (!backlog_push(&c->waiting, item, channel, payload, waiting_max(c))) {
        struct backlog_item *oldest = backlog_first(&c->waiting);

        if (oldest == NULL || n_bytes > c->config->redis_buffer_bytes / 2) { /* or no memory */
            drop_message(c, COUNT_REDIS_DROPPED_BUFFER);
            return;
        }
        c->n_waiting_of[oldest->slot]--;
        backlog_pop(&c->waiting);
        drop_message(c, COUNT_REDIS_DROPPED_BUFFER);
    }
    c->n_waiting_of[item.slot]++;
}

static bool send_now(struct cluster *c, struct backlog_item item, struct slice channel,
                     struct slice payload)
{
    struct slice words[3] = { slice_text("SPUBLISH"), channel, payload };
    struct cluster_node *n =
        c->map[item.slot] == CHANNEL_NODE_NONE ? NULL : &c->nodes[c->map[item.slot]];

    if (n == NULL || n->out.state != LINK_UP)
        return false;
    if (say(n, 3, words, item, channel, payload))
        return true;
    c->try_waiting = true; /* it takes no more for now */
    return false;
}

/* Sends it, or lets it wait behind those of its slot. */
static void publish(struct cluster *c, struct backlog_item item, struct slice channel,
                    struct slice payload)
{
    if (item.attempts > ATTEMPTS_MAX)
        drop_message(c, COUNT_REDIS_DROPPED_REFUSED);
    else if (c->n_waiting_of[item.slot] > 0 || !send_now(c, item, channel, payload))
        wait_for_node(c, item, channel, payload);
}

bool cluster_publish(struct cluster *c, struct slice channel, struct slice payload)
{
    struct backlog_item item = { .kind = FLIGHT_PUBLISH,
                                 .slot = redis_slot(channel),
                                 .since_ms = c->now_ms };

    publish(c, item, channel, payload);
    return true;
}

/* What waits, once more from the front. What can go goes; what cannot stays, in order. */
static void send_waiting(struct cluster *c)
{
    uint32_t n = backlog_first(&c->waiting) == NULL ? 0 : c->waiting.n_items;
    struct backlog still = { 0 };

    if (n == 0)
        return;
    if (!c->try_waiting &&
        c->now_ms - backlog_first(&c->waiting)->since_ms <= c->config->redis_buffer_age_ms)
        return;
    c->try_waiting = false;
    memset(c->n_waiting_of, 0, sizeof c->n_waiting_of);
    for (; n > 0; n--) {
        struct backlog_item *item = backlog_first(&c->waiting);
        struct slice channel = backlog_channel(item);
        struct slice payload = backlog_payload(item);

        if (c->now_ms - item->since_ms > c->config->redis_buffer_age_ms) {
            drop_message(c, COUNT_REDIS_DROPPED_EXPIRED);
        } else if (c->n_waiting_of[item->slot] > 0 || !send_now(c, *item, channel, payload)) {
            if (backlog_push(&still, *item, channel, payload, waiting_max(c)))
                c->n_waiting_of[item->slot]++;
            else
                drop_message(c, COUNT_REDIS_DROPPED_BUFFER);
        }
        backlog_pop(&c->waiting);
    }
    backlog_free(&c->waiting);
    c->waiting = still;
}

bool cluster_count(struct cluster *c, struct slice channel, uint64_t id)
{
    struct slice words[3] = { slice_text("PUBSUB"), slice_text("SHARDNUMSUB"), channel };
    uint8_t node = c->map[redis_slot(channel)];
    struct slice none = { "", 0 };

    return node != CHANNEL_NODE_NONE && c->nodes[node].out.state == LINK_UP &&
           say(&c->nodes[node], 3, words, (struct backlog_item){ .kind = FLIGHT_COUNT, .id = id },
               none, none);
}

/* --- answers to commands --- */

/* A slot is elsewhere: what was sent to the wrong node goes to the right one, before anything newer of that slot does. */
static void follow_moved(struct cluster *c, struct cluster_node *from, uint16_t slot)
{
    for (struct backlog_item *f = backlog_first(&from->flights); f != NULL;
         f = backlog_next(&from->flights, f)) {
        struct backlog_item again = *f;

        if (f->slot != slot || (f->kind != FLIGHT_PUBLISH && f->kind != FLIGHT_LOST))
            continue;
        again.attempts++;
        if (f->kind == FLIGHT_LOST)
            drop_message(c, COUNT_REDIS_DROPPED_BUFFER);
        else
            publish(c, again, backlog_channel(f), backlog_payload(f));
        f->kind = FLIGHT_SENT_ELSEWHERE;
    }
}

static void on_redirection(struct cluster *c, struct cluster_node *from, struct backlog_item *f,
                           const struct redis_redirection *r)
{
    struct slice host = r->host.n_bytes > 0 ? r->host : slice_text(from->redis.host);
    uint8_t node = node_at(c, host, r->port);
    struct slice words[3] = { slice_text("SPUBLISH"), backlog_channel(f), backlog_payload(f) };
    struct slice asking = slice_text("ASKING");
    struct slice none = { "", 0 };
    struct backlog_item again = *f;

    refresh_soon(c);
    if (node == CHANNEL_NODE_NONE || &c->nodes[node] == from) {
        drop_message(c, COUNT_REDIS_DROPPED_REFUSED);
        return;
    }
    if (r->kind == REFUSAL_MOVED) {
        set_slot(c, r->slot, node);
        follow_moved(c, from, r->slot);
        return;
    }
    again.attempts++;
    if (again.attempts > ATTEMPTS_MAX ||
        !say(&c->nodes[node], 1, &asking, (struct backlog_item){ .kind = FLIGHT_ASKING }, none,
             none) ||
        !say(&c->nodes[node], 3, words, again, words[1], words[2]))
        wait_for_node(c, again, words[1], words[2]);
}

static void on_refused_publish(struct cluster *c, struct cluster_node *from, struct backlog_item *f,
                               const struct redisReply *reply)
{
    struct redis_redirection r = redis_redirection(slice_of(reply->str, (uint32_t)reply->len));

    switch (r.kind) {
    case REFUSAL_MOVED:
    case REFUSAL_ASK: on_redirection(c, from, f, &r); return;
    case REFUSAL_NOT_NOW: refresh_soon(c); break;
    case REFUSAL_OTHER:
    case REFUSAL_NO_CLUSTER: break; /* the link has told */
    }
    drop_message(c, COUNT_REDIS_DROPPED_REFUSED);
}

struct turn {
    struct cluster *cluster;
    struct cluster_node *node;
    const struct cluster_events *events;
};

static bool on_answer(void *context, struct redisReply *reply)
{
    struct turn *t = context;
    struct cluster *c = t->cluster;
    struct cluster_node *n = t->node;
    struct backlog_item *f = backlog_first(&n->flights);
    uint64_t id;

    if (f == NULL || (reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "PONG") == 0))
        return true; /* the link's own */
    id = f->id;
    switch ((enum flight_kind)f->kind) {
    case FLIGHT_PUBLISH:
        if (reply->type == REDIS_REPLY_ERROR)
            on_refused_publish(c, n, f, reply);
        else
            count_add(c->row, COUNT_REDIS_PUBLISHED, 1);
        break;
    case FLIGHT_LOST:
        count_add(c->row,
                  reply->type == REDIS_REPLY_ERROR ? COUNT_REDIS_DROPPED_BUFFER
                                                   : COUNT_REDIS_PUBLISHED,
                  1);
        break;
    case FLIGHT_SENT_ELSEWHERE:
    case FLIGHT_ASKING: break;
    case FLIGHT_SLOTS: on_slots(c, n, reply); break;
    case FLIGHT_COUNT:
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
            reply->element[1]->type == REDIS_REPLY_INTEGER)
            c->paused =
                !t->events->counted(t->events->context, id, (uint32_t)reply->element[1]->integer);
        break;
    }
    if (n->used && n->flights.n_items > 0) /* the node may have gone with the new map */
        backlog_pop(&n->flights);
    return n->used && !c->paused;
}

/* --- subscriptions --- */

static bool stands(const struct cluster *c, const struct channel *ch)
{
    const struct cluster_node *n = ch->node == CHANNEL_NODE_NONE ? NULL : &c->nodes[ch->node];

    return n != NULL && n->used && n->in.state == LINK_UP && ch->epoch == n->epoch &&
           ch->node == c->map[ch->slot];
}

/* Asks for the subscription where it must be, if it is not there yet. False: the connection takes no more for now. */
static bool subscribe(struct cluster *c, struct channel *ch)
{
    struct slice words[2] = { slice_text("SSUBSCRIBE"), channel_name(ch) };
    uint8_t node = c->map[ch->slot];
    struct cluster_node *n = node == CHANNEL_NODE_NONE ? NULL : &c->nodes[node];

    if (n == NULL || n->in.state != LINK_UP ||
        (stands(c, ch) && (ch->confirmed || c->now_ms - ch->asked_ms < UNCONFIRMED_MS)))
        return true; /* its coming up is one reason to look again */
    if (!link_command(&n->in, 2, words))
        return false;
    ch->node = node;
    ch->epoch = n->epoch;
    ch->asked_ms = c->now_ms;
    ch->confirmed = false;
    return true;
}

static void unsubscribe(struct cluster *c, const struct channel *ch)
{
    struct slice words[2] = { slice_text("SUNSUBSCRIBE"), channel_name(ch) };

    if (stands(c, ch) && !link_command(&c->nodes[ch->node].in, 2, words))
        link_close(&c->nodes[ch->node].in); /* full: everything is asked for anew */
}

static void sweep(struct cluster *c)
{
    if (c->sweep_again_at_ms != 0 && c->now_ms >= c->sweep_again_at_ms) {
        c->sweep_again_at_ms = 0;
        sweep_from_here(c);
    }
    for (uint32_t i = 0; i < SWEEP_SLICE && c->sweep_left > 0; i++) {
        struct channel *ch;

        if (c->sweep_at >= c->channels.n_entries)
            c->sweep_at = 0;
        ch = &c->channels.entries[c->sweep_at];
        if (ch->name != NULL && !subscribe(c, ch)) {
            c->sweep_left = 0;
            c->sweep_again_at_ms = c->now_ms + SWEEP_RETRY_MS;
            return;
        }
        c->sweep_at++;
        c->sweep_left--;
    }
}

/* Room for one more channel of a room: of those that nobody holds the oldest goes for it. */
static bool make_room(struct cluster *c)
{
    uint32_t oldest = channels_oldest(&c->channels);

    if (c->channels.n_used < BRIDGE_ROOMS_MAX)
        return true;
    if (oldest == CHANNEL_NONE)
        return false;
    unsubscribe(c, &c->channels.entries[oldest]);
    channels_remove(&c->channels, oldest);
    return true;
}

bool cluster_hold(struct cluster *c, struct slice channel, uint64_t holders)
{
    bool fits = (holders >> PEAL_SLOT_BRIDGE & 1) != 0 ||
                channels_find(&c->channels, channel) != CHANNEL_NONE || make_room(c);
    uint32_t index = fits ? channels_hold(&c->channels, channel, holders) : CHANNEL_NONE;
    struct channel *ch;

    if (index == CHANNEL_NONE)
        return false;
    ch = &c->channels.entries[index];
    if (ch->node == CHANNEL_NODE_NONE) {
        ch->slot = redis_slot(channel);
        if (!subscribe(c, ch))
            sweep_from_here(c);
    }
    return true;
}

void cluster_release(struct cluster *c, struct slice channel, uint64_t holders, uint32_t linger_ms)
{
    uint32_t index = channels_find(&c->channels, channel);

    if (index == CHANNEL_NONE)
        return;
    channels_release(&c->channels, index, holders, c->now_ms + linger_ms);
    if (linger_ms == 0 && c->channels.entries[index].holders == 0) {
        unsubscribe(c, &c->channels.entries[index]);
        channels_remove(&c->channels, index);
    }
}

void cluster_release_all(struct cluster *c, uint64_t holders, uint32_t linger_ms)
{
    for (uint32_t i = 0; i < c->channels.n_entries; i++)
        if (c->channels.entries[i].name != NULL)
            channels_release(&c->channels, i, holders, c->now_ms + linger_ms);
}

void cluster_expire(struct cluster *c)
{
    for (uint32_t i = 0; i < EXPIRE_SLICE; i++) {
        uint32_t oldest = channels_oldest(&c->channels);

        if (oldest == CHANNEL_NONE || c->channels.entries[oldest].until_ms > c->now_ms)
            return;
        unsubscribe(c, &c->channels.entries[oldest]);
        channels_remove(&c->channels, oldest);
    }
}

bool cluster_has(const struct cluster *c, struct slice channel)
{
    uint32_t index = channels_find(&c->channels, channel);
    const struct channel *ch = index == CHANNEL_NONE ? NULL : &c->channels.entries[index];

    return ch != NULL && ch->confirmed && stands(c, ch);
}

static struct slice text_of(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? slice_of(reply->str, (uint32_t)reply->len)
                                             : (struct slice){ NULL, 0 };
}

static void on_refused_subscription(struct cluster *c, struct cluster_node *n,
                                    const struct redisReply *reply)
{
    struct redis_redirection r = redis_redirection(slice_of(reply->str, (uint32_t)reply->len));
    uint8_t node;

    refresh_soon(c);
    c->sweep_again_at_ms = c->now_ms + UNCONFIRMED_MS; /* errors do not name their channel */
    if (r.kind == REFUSAL_MOVED) {
        node = node_at(c, r.host.n_bytes > 0 ? r.host : slice_text(n->redis.host), r.port);
        if (node != CHANNEL_NODE_NONE)
            set_slot(c, r.slot, node);
    }
}

/* Redis has confirmed a subscription, or ended one: because we asked for it, or since it has the slot no more. */
static void on_subscription(struct cluster *c, struct cluster_node *n, struct slice channel,
                            bool there)
{
    uint32_t index = channels_find(&c->channels, channel);
    struct channel *ch = index == CHANNEL_NONE ? NULL : &c->channels.entries[index];

    if (ch == NULL || ch->node != n - c->nodes || ch->epoch != n->epoch)
        return;
    ch->confirmed = there;
    if (there)
        return;
    ch->node = CHANNEL_NODE_NONE;
    refresh_soon(c);
    sweep_from_here(c);
}

static bool on_push(void *context, struct redisReply *reply)
{
    struct turn *t = context;
    struct slice kind;

    if (reply->type == REDIS_REPLY_ERROR)
        on_refused_subscription(t->cluster, t->node, reply);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return true;
    kind = text_of(reply->element[0]);
    if (slice_is(kind, "smessage") && reply->elements == 3)
        t->cluster->paused = !t->events->message(t->events->context, text_of(reply->element[1]),
                                                 text_of(reply->element[2]));
    else if (slice_is(kind, "ssubscribe"))
        on_subscription(t->cluster, t->node, text_of(reply->element[1]), true);
    else if (slice_is(kind, "sunsubscribe"))
        on_subscription(t->cluster, t->node, text_of(reply->element[1]), false);
    return !t->cluster->paused;
}

/* --- the loop --- */

uint32_t cluster_fds(const struct cluster *c, struct pollfd *fds, bool read)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        const struct cluster_node *n = &c->nodes[i];
        short in = n->used ? link_events(&n->in) : 0;

        short out = n->used ? link_events(&n->out) : 0;

        fds[2 * i] =
            (struct pollfd){ n->used ? n->in.fd : -1, (short)(read ? in : in & ~POLLIN), 0 };
        fds[2 * i + 1] =
            (struct pollfd){ n->used ? n->out.fd : -1, (short)(read ? out : out & ~POLLIN), 0 };
    }
    return CLUSTER_FDS_MAX;
}

uint32_t cluster_wait_ms(const struct cluster *c, uint64_t now_ms)
{
    uint64_t wait = c->sweep_left > 0 ? 0 : 1000;

    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        const struct cluster_node *n = &c->nodes[i];

        if (n->used && link_wait_ms(&n->in, now_ms) < wait)
            wait = link_wait_ms(&n->in, now_ms);
        if (n->used && link_wait_ms(&n->out, now_ms) < wait)
            wait = link_wait_ms(&n->out, now_ms);
    }
    if (c->refresh_at_ms > now_ms && c->refresh_at_ms - now_ms < wait)
        wait = c->refresh_at_ms - now_ms;
    if (c->sweep_again_at_ms > now_ms && c->sweep_again_at_ms - now_ms < wait)
        wait = c->sweep_again_at_ms - now_ms;
    return (uint32_t)wait;
}

/* What it had not answered is lost, or is not: nobody can know. */
static void on_publisher_gone(struct cluster *c, struct cluster_node *n)
{
    for (struct backlog_item *f = backlog_first(&n->flights); f != NULL;
         f = backlog_next(&n->flights, f)) {
        if (f->kind == FLIGHT_PUBLISH || f->kind == FLIGHT_LOST)
            drop_message(c, COUNT_REDIS_DROPPED_DISCONNECTED);
        if (f->kind == FLIGHT_SLOTS)
            c->asking = false;
    }
    backlog_free(&n->flights);
    refresh_soon(c);
}

/* Takes what is left from a turn that was paused, and what has come; while it is paused, silence is no fault of Redis. True: it came up just now. */
static bool read_link(struct cluster *c, struct link *l, short events, link_on_reply on_reply,
                      struct turn *t)
{
    bool came_up;

    if (!c->paused && l->state == LINK_UP)
        link_replies(l, c->now_ms, on_reply, t);
    came_up = link_on_events(l, events, !c->paused, c->now_ms, on_reply, t);
    if (t->node->used && (!c->paused || l->state != LINK_UP))
        link_tick(l, c->now_ms);
    return came_up;
}

static void node_turn(struct cluster *c, struct cluster_node *n, short in_events, short out_events,
                      const struct cluster_events *events)
{
    struct turn t = { c, n, events };

    (void)read_link(c, &n->out, out_events, on_answer, &t);
    if (!n->used)
        return; /* the answer was a map without it */
    if (read_link(c, &n->in, in_events, on_push, &t))
        n->epoch++;
    if (n->in_up != (n->in.state == LINK_UP)) {
        n->in_up = !n->in_up;
        sweep_from_here(c);
    }
    if (n->out_up != (n->out.state == LINK_UP)) {
        n->out_up = !n->out_up;
        if (!n->out_up)
            on_publisher_gone(c, n);
        else if (c->single || c->n_uncovered > 0)
            c->refresh_at_ms = c->now_ms;
        c->try_waiting = c->try_waiting || n->out_up;
    }
}

void cluster_turn(struct cluster *c, const struct pollfd *fds, bool read, uint64_t now_ms,
                  const struct cluster_events *events)
{
    c->now_ms = now_ms;
    c->paused = !read;
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        struct cluster_node *n = &c->nodes[i];
        /* a node that has come since has other descriptors than those that were polled for */
        short in = fds[2 * i].fd == n->in.fd ? fds[2 * i].revents : 0;
        short out = fds[2 * i + 1].fd == n->out.fd ? fds[2 * i + 1].revents : 0;

        if (n->used)
            node_turn(c, n, in, out, events);
    }
    ask_for_map(c);
    send_waiting(c);
    sweep(c);
}

void cluster_flush(struct cluster *c, uint64_t now_ms)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        if (!c->nodes[i].used)
            continue;
        link_flush(&c->nodes[i].in, now_ms);
        link_flush(&c->nodes[i].out, now_ms);
    }
}

bool cluster_unsent(const struct cluster *c)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used && c->nodes[i].out.state == LINK_UP &&
            (link_events(&c->nodes[i].out) & POLLOUT) != 0)
            return true;
    return false;
}

bool cluster_is_up(const struct cluster *c)
{
    if (c->n_uncovered > 0)
        return false;
    for (uint8_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used &&
            (c->nodes[i].in.state != LINK_UP || c->nodes[i].out.state != LINK_UP) &&
            is_master(c, i))
            return false;
    return true;
}
