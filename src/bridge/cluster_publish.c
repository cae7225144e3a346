/* cluster_publish.c: what is published, answered, refused and sent elsewhere.
 *
 * Invariant: a flight is in its node's list exactly until its answer has come or the connection is gone. Messages of one slot keep their order: while some of
 *            them wait, all that follow do; those that the wrong master has refused go to the right one together. (If we learn of a move before the refusals
 *            have come, newer ones go ahead: Pub/Sub promises no order between connections.) */
#include <hiredis/hiredis.h>

#include "bridge/cluster_internal.h"

#define ATTEMPTS_MAX 5

/* --- commands --- */

/* Queues a command whose answer `flight` stands for. False: it cannot be queued. */
bool cluster_say(struct cluster_node *n, uint32_t n_words, const struct slice *words,
                 struct backlog_item flight, struct slice channel, struct slice payload)
{
    struct slice none = { "", 0 };

    if (!link_command(&n->out, n_words, words))
        return false;
    if (backlog_push(&n->flights, flight, channel, payload, REDIS_FLIGHT_BYTES))
        return true;
    if (flight.kind == FLIGHT_PUBLISH)
        flight.kind = FLIGHT_LOST;
    if (backlog_push(&n->flights, flight, none, none, UINT32_MAX))
        return true;
    link_close(&n->out); /* no memory: answers could not be told apart */
    return false;
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
    if (cluster_say(n, 3, words, item, channel, payload))
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
void cluster_send_waiting(struct cluster *c)
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
           cluster_say(&c->nodes[node], 3, words,
                       (struct backlog_item){ .kind = FLIGHT_COUNT, .id = id }, none, none);
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
    uint8_t node = cluster_node_at(c, host, r->port);
    struct slice words[3] = { slice_text("SPUBLISH"), backlog_channel(f), backlog_payload(f) };
    struct slice asking = slice_text("ASKING");
    struct slice none = { "", 0 };
    struct backlog_item again = *f;

    cluster_refresh_soon(c);
    if (node == CHANNEL_NODE_NONE || &c->nodes[node] == from) {
        drop_message(c, COUNT_REDIS_DROPPED_REFUSED);
        return;
    }
    if (r->kind == REFUSAL_MOVED) {
        cluster_set_slot(c, r->slot, node);
        follow_moved(c, from, r->slot);
        return;
    }
    again.attempts++;
    if (again.attempts > ATTEMPTS_MAX ||
        !cluster_say(&c->nodes[node], 1, &asking, (struct backlog_item){ .kind = FLIGHT_ASKING },
                     none, none) ||
        !cluster_say(&c->nodes[node], 3, words, again, words[1], words[2]))
        wait_for_node(c, again, words[1], words[2]);
}

static void on_refused_publish(struct cluster *c, struct cluster_node *from, struct backlog_item *f,
                               const struct redisReply *reply)
{
    struct redis_redirection r = redis_redirection(slice_of(reply->str, (uint32_t)reply->len));

    switch (r.kind) {
    case REFUSAL_MOVED:
    case REFUSAL_ASK: on_redirection(c, from, f, &r); return;
    case REFUSAL_NOT_NOW: cluster_refresh_soon(c); break;
    case REFUSAL_OTHER:
    case REFUSAL_NO_CLUSTER: break; /* the link has told */
    }
    drop_message(c, COUNT_REDIS_DROPPED_REFUSED);
}

bool cluster_on_answer(void *context, struct redisReply *reply)
{
    struct cluster_reading *t = context;
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
    case FLIGHT_SLOTS: cluster_on_slots(c, n, reply); break;
    case FLIGHT_COUNT:
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
            reply->element[1]->type == REDIS_REPLY_INTEGER)
            c->paused =
                !t->events->counted(t->events->context, id, (uint32_t)reply->element[1]->integer);
        break;
    }
    backlog_pop(&n->flights); /* its node is there still: only idle ones go */
    return !c->paused;
}

void cluster_on_publisher_gone(struct cluster *c, struct cluster_node *n)
{
    for (struct backlog_item *f = backlog_first(&n->flights); f != NULL;
         f = backlog_next(&n->flights, f)) {
        if (f->kind == FLIGHT_PUBLISH || f->kind == FLIGHT_LOST)
            drop_message(c, COUNT_REDIS_DROPPED_DISCONNECTED);
        if (f->kind == FLIGHT_SLOTS)
            c->asking = false;
    }
    backlog_free(&n->flights);
    cluster_refresh_soon(c);
}
