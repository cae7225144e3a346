/* cluster_subscribe.c: channels are subscribed at the masters that have their slots.
 *
 * Invariant: a channel is subscribed where channel.node and channel.epoch say, if that connection still stands; where it must be says the map. Whenever the
 *            two may differ (a connection has come, the map has changed, Redis has ended a subscription) all channels are looked at, in slices. */
#include <hiredis/hiredis.h>

#include "bridge/cluster_internal.h"

#define SWEEP_SLICE    8192
#define EXPIRE_SLICE   1024
#define SWEEP_RETRY_MS 20   /* a connection takes no more for now */
#define UNCONFIRMED_MS 1000 /* then a subscription is asked for again, if something was refused */

void cluster_sweep_all(struct cluster *c)
{
    c->sweep_left = c->channels.n_entries;
}

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

void cluster_sweep(struct cluster *c)
{
    if (c->sweep_again_at_ms != 0 && c->now_ms >= c->sweep_again_at_ms) {
        c->sweep_again_at_ms = 0;
        cluster_sweep_all(c);
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
            cluster_sweep_all(c);
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

    cluster_refresh_soon(c);
    c->sweep_again_at_ms = c->now_ms + UNCONFIRMED_MS; /* errors do not name their channel */
    if (r.kind == REFUSAL_MOVED) {
        node = cluster_node_at(c, r.host.n_bytes > 0 ? r.host : slice_text(n->redis.host), r.port);
        if (node != CHANNEL_NODE_NONE)
            cluster_set_slot(c, r.slot, node);
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
    cluster_refresh_soon(c);
    cluster_sweep_all(c);
}

bool cluster_on_push(void *context, struct redisReply *reply)
{
    struct cluster_reading *t = context;
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
