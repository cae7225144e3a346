/* wire_sharded.c: redis_adapter = sharded: what the bridge says to peers with createShardedAdapter, and hears from them.
 *
 * For each namespace it subscribes P#N# and, for answers, P#N#UID#; in the dynamic modes P#N#ROOM# for each room that some worker has members in, too. The
 * workers tell of rooms that come and go (RECORD_ROOM_NEWS). A room that has gone is kept for some time: its members may come back by recovery, and
 * messages for it are what they will want then.
 *
 * Everything is asked for anew when this process begins, after records were missed, and when there is room again for rooms that were refused. */
#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "bridge/redis_cluster.h"
#include "bridge/wire.h"
#include "session/room_news.h"
#include "shm/atomic.h"
#include "shm/recoverable.h"

#define LINGER_MS \
    2000 /* a room without members is still listened to, besides the time that recovery allows */
#define ASK_AGAIN_MS 10000 /* for rooms that were refused */

#define CHANNEL_BYTES_MAX (CONFIG_TEXT_MAX + 2 * NAME_BYTES_MAX + 16)

_Static_assert((int)CONFIG_SUBSCRIPTIONS_DYNAMIC == (int)SHARDED_DYNAMIC, "one enumeration");
_Static_assert((int)CONFIG_SUBSCRIPTIONS_STATIC == (int)SHARDED_STATIC, "one enumeration");
_Static_assert((int)CONFIG_SUBSCRIPTIONS_DYNAMIC_PRIVATE == (int)SHARDED_DYNAMIC_PRIVATE,
               "one enumeration");

struct sharded {
    struct cluster cluster;
    enum sharded_mode mode;
    uint32_t linger_ms;
    uint64_t telling; /* workers that are telling everything: nothing is given up meanwhile */
    bool ask;         /* the workers for everything, as soon as the ring has room */
    bool refused;     /* rooms, for want of places */
    uint64_t ask_again_at_ms;
};

static struct slice text_of_channel(struct bridge *b, char text[CHANNEL_BYTES_MAX],
                                    struct slice nsp, struct slice last)
{
    struct msgpack_sink sink = msgpack_sink_of(text, CHANNEL_BYTES_MAX);

    sharded_put_channel(&sink, slice_text(b->config->redis_key), nsp, last);
    assert(!sink.too_big); /* room for the longest names there are */
    return msgpack_sink_slice(&sink, 0);
}

/* --- rooms --- */

static void hold_room(struct bridge *b, struct slice nsp, struct slice room, uint64_t holders)
{
    static struct log_rate rate;
    struct sharded *s = b->sharded;
    char text[CHANNEL_BYTES_MAX];
    uint32_t suppressed;

    if (!sharded_room_has_channel(s->mode, room) ||
        cluster_hold(&s->cluster, text_of_channel(b, text, nsp, room), holders))
        return;
    s->refused = true;
    s->ask_again_at_ms = b->now_ms + ASK_AGAIN_MS;
    count_add(b->row, COUNT_REDIS_ROOMS_UNHEARD, 1);
    if (log_allow(&rate, b->now_ms, 6, &suppressed))
        log_error("redis_rooms_full", "limit=%u key=%s suppressed=%u", BRIDGE_ROOMS_MAX,
                  "redis_subscription_mode", suppressed);
}

static void sharded_on_rooms(struct bridge *b, const struct record_view *news)
{
    struct sharded *s = b->sharded;
    uint8_t opcode;
    struct slice part = record_part(news, 0, &opcode);
    uint64_t worker = 1ull << news->header->slot;
    char text[CHANNEL_BYTES_MAX];
    enum room_news_op op;
    struct slice name;
    uint32_t at = 0;

    while (room_news_next(part, &at, &op, &name)) {
        switch (op) {
        case NEWS_COME: hold_room(b, news->nsp, name, worker); break;
        case NEWS_GONE:
            cluster_release(&s->cluster, text_of_channel(b, text, news->nsp, name), worker,
                            s->linger_ms);
            break;
        case NEWS_BEGIN:
            s->telling |= worker;
            cluster_release_all(&s->cluster, worker, s->linger_ms);
            break;
        case NEWS_WHOLE: s->telling &= ~worker; break;
        }
    }
}

static void sharded_on_worker_gone(struct bridge *b, uint32_t slot)
{
    if (slot >= PEAL_WORKERS_MAX)
        return;
    b->sharded->telling &= ~(1ull << slot);
    cluster_release_all(&b->sharded->cluster, 1ull << slot, b->sharded->linger_ms);
}

static void hold_rooms_of(void *context, struct region *region, uint32_t index)
{
    static uint8_t bytes[RECOVERY_ROOMS_BYTES_MAX];
    struct bridge *b = context;
    struct sharded *s = b->sharded;
    char text[CHANNEL_BYTES_MAX];
    struct namespace_copy nsp;
    struct slice rooms, name;
    uint64_t since;
    uint32_t at = 0;

    if (!recoverable_peek(region, index, bytes, &rooms) ||
        !namespace_copy(region, session_nsp(region, index), &nsp) ||
        (uint32_t)nsp.life != region->recovery[index].nsp_life)
        return;
    while (recoverable_next_room(rooms, &at, &name, &since)) {
        struct slice in = slice_of(nsp.name, nsp.n_bytes);

        hold_room(b, in, name, 1ull << PEAL_SLOT_ADMIN);
        cluster_release(&s->cluster, text_of_channel(b, text, in, name), 1ull << PEAL_SLOT_ADMIN,
                        s->linger_ms);
    }
}

/* Rooms of clients that may come back, which no worker knows of: for a bridge that begins. Held, and let go at once, they stay for as long as others. */
static void hold_detached(struct bridge *b)
{
    const struct shm_header *h = b->region.header;

    if (b->region.recovery == NULL || b->sharded->mode == SHARDED_STATIC)
        return;
    region_each_touched(&b->region, h->recovery_offset, sizeof(struct shm_recovery), 0,
                        h->n_workers * h->sessions_per_slot, hold_rooms_of, b);
}

static void ask_workers(struct bridge *b)
{
    struct sharded *s = b->sharded;
    struct record_spec spec = { .nsp = slice_of("/", 1) };

    if (b->lapped) {
        b->lapped = false;
        s->ask = s->mode != SHARDED_STATIC;
    }
    if (s->refused && b->now_ms >= s->ask_again_at_ms &&
        s->cluster.channels.n_used < BRIDGE_ROOMS_MAX / 10 * 9) {
        s->refused = false;
        s->ask = true;
    }
    if (!s->ask || b->n_pending > 0)
        return;
    s->ask = false;
    spec.header.kind = RECORD_FETCH;
    spec.header.detail = FETCH_ROOM_NEWS;
    spec.header.targets = (1ull << b->region.header->n_workers) - 1;
    bridge_append(b, &spec);
}

/* --- connections --- */

static bool sharded_open(struct bridge *b)
{
    struct sharded *s = calloc(1, sizeof *s);

    if (s == NULL ||
        !cluster_init(&s->cluster, b->config, b->tls, b->row, b->region.header->hash_key)) {
        free(s);
        return false;
    }
    b->sharded = s;
    s->mode = (enum sharded_mode)b->config->redis_subscription_mode;
    s->linger_ms = b->config->recovery_ms + LINGER_MS;
    s->ask = s->mode != SHARDED_STATIC;
    s->cluster.now_ms = b->now_ms;
    hold_detached(b);
    return true;
}

static void sharded_close(struct bridge *b)
{
    cluster_close(&b->sharded->cluster);
    free(b->sharded);
}

static uint32_t sharded_fds(struct bridge *b, struct pollfd *fds)
{
    return cluster_fds(&b->sharded->cluster, fds, !bridge_is_full(b));
}

static uint32_t sharded_wait_ms(struct bridge *b)
{
    return cluster_wait_ms(&b->sharded->cluster, b->now_ms);
}

/* The namespace that the message names, if it came on one of its channels. */
static const struct bridge_namespace *namespace_of(struct bridge *b, struct slice nsp,
                                                   struct slice channel)
{
    const struct bridge_namespace *n = bridge_find_namespace(b, nsp);
    char text[CHANNEL_BYTES_MAX];
    struct slice own;

    if (n == NULL)
        return NULL;
    own = text_of_channel(b, text, nsp, (struct slice){ NULL, 0 });
    return channel.n_bytes >= own.n_bytes && slice_equal(slice_of(channel.bytes, own.n_bytes), own)
               ? n
               : NULL;
}

/* An answer to a question of ours, in the form in which the classic wire gives it. */
static void take_answer(struct bridge *b, const struct adapter_request *r)
{
    static struct adapter_reply reply;

    reply.request_id = r->request_id;
    reply.uid = r->uid;
    reply.type = r->type == ADAPTER_FETCH ? ADAPTER_TYPES : r->type;
    reply.list = r->type == ADAPTER_FETCH
                     ? slice_of(r->data.json.bytes + 1, r->data.json.n_bytes - 2)
                     : (struct slice){ NULL, 0 };
    reply.client_count = r->client_count;
    reply.value.json = r->data.json;
    reply.value.n_attachments = r->data.n_attachments;
    memcpy(reply.value.attachments, r->data.attachments,
           r->data.n_attachments * sizeof r->data.attachments[0]);
    ask_take(b, &reply);
}

static bool on_message(void *context, struct slice channel, struct slice payload)
{
    static struct sharded_message message;
    const struct adapter_request *r = &message.request;
    const struct bridge_namespace *n;
    struct bridge *b = context;
    enum adapter_result result;
    struct msgpack_sink sink;

    count_add(b->row, COUNT_REDIS_RECEIVED, 1);
    if (!bridge_decode_sink(b, payload, &sink))
        return true;
    result = sharded_read(payload, &sink, &message);
    if (result != ADAPTER_OK) {
        bridge_undecodable(b, result);
        return true;
    }
    n = namespace_of(b, message.nsp, channel);
    if (n == NULL || slice_equal(r->uid, bridge_uid(b)))
        return true; /* of a namespace that there is not here, or our own */
    if (message.is_answer)
        take_answer(b, r);
    else if (r->type == ADAPTER_BROADCAST && r->request_id.bytes == NULL)
        inbound_event(b, n, &r->opts, &r->data, r->has_id ? r->id : -1);
    else
        inbound_act(b, n, r);
    return !bridge_is_full(b); /* the ring is full: what follows stays in Redis' hands, in order */
}

/* The namespace with that index. 0: whoever answered has the channel no more (a slot has moved), for we are there ourselves. */
static bool on_counted(void *context, uint64_t id, uint32_t n_servers)
{
    struct bridge *b = context;

    for (uint32_t i = 0; i < b->n_namespaces && n_servers > 0; i++) {
        if (b->namespaces[i].index != id)
            continue;
        ask_counted(b, &b->namespaces[i], n_servers);
        break;
    }
    return !bridge_is_full(b);
}

static void sharded_turn(struct bridge *b, const struct pollfd *fds)
{
    struct sharded *s = b->sharded;
    struct cluster_events events = { on_message, on_counted, b };

    (void)bridge_begin_turn(b);
    cluster_turn(&s->cluster, fds, !bridge_is_full(b), b->now_ms, &events);
    ask_workers(b);
    if (s->telling == 0)
        cluster_expire(&s->cluster);
}

static void sharded_flush(struct bridge *b)
{
    cluster_flush(&b->sharded->cluster, b->now_ms);
}

static void sharded_finish(struct bridge *b, const struct pollfd *fds)
{
    (void)fds; /* at most once: what is written is not asked after */
    sharded_flush(b);
}

static bool sharded_is_unsent(struct bridge *b)
{
    return cluster_unsent(&b->sharded->cluster);
}

static bool sharded_is_connected(struct bridge *b)
{
    return cluster_is_up(&b->sharded->cluster);
}

static bool sharded_is_subscribed(struct bridge *b)
{
    char text[CHANNEL_BYTES_MAX];

    for (uint32_t i = 0; i < b->n_namespaces; i++) {
        struct slice nsp = bridge_nsp(&b->namespaces[i]);

        if (!cluster_has(&b->sharded->cluster,
                         text_of_channel(b, text, nsp, (struct slice){ NULL, 0 })) ||
            !cluster_has(&b->sharded->cluster, text_of_channel(b, text, nsp, bridge_uid(b))))
            return false;
    }
    return true;
}

static bool sharded_is_up(struct bridge *b)
{
    b->ready = sharded_is_connected(b) && (b->ready || sharded_is_subscribed(b));
    return b->ready;
}

static void sharded_enter(struct bridge *b, struct bridge_namespace *n)
{
    char text[CHANNEL_BYTES_MAX];
    uint64_t self = 1ull << PEAL_SLOT_BRIDGE;

    n->subscribed =
        cluster_hold(&b->sharded->cluster,
                     text_of_channel(b, text, bridge_nsp(n), (struct slice){ NULL, 0 }), self) &&
        cluster_hold(&b->sharded->cluster, text_of_channel(b, text, bridge_nsp(n), bridge_uid(b)),
                     self);
    b->subscribed_at_ms = b->now_ms;
    if (!n->subscribed)
        log_error("out_of_memory", "what=%s", "channels of a namespace");
}

/* At once: peers count us by the channel. */
static void sharded_leave(struct bridge *b, struct bridge_namespace *n)
{
    char text[CHANNEL_BYTES_MAX];
    uint64_t self = 1ull << PEAL_SLOT_BRIDGE;

    cluster_release(&b->sharded->cluster,
                    text_of_channel(b, text, bridge_nsp(n), (struct slice){ NULL, 0 }), self, 0);
    cluster_release(&b->sharded->cluster, text_of_channel(b, text, bridge_nsp(n), bridge_uid(b)),
                    self, 0);
}

/* --- what is said --- */

static struct sharded_head head_of(struct bridge *b, const struct bridge_asker *asker)
{
    return (struct sharded_head){ bridge_uid(b), asker_nsp(asker), asker_request_id(asker) };
}

static bool sharded_publish(struct bridge *b, struct slice channel, struct slice payload)
{
    return cluster_publish(&b->sharded->cluster, channel, payload);
}

static void put_channel(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                        const struct adapter_opts *opts)
{
    bool own = opts->n_rooms == 1 && sharded_room_has_channel(b->sharded->mode, opts->rooms[0]);

    sharded_put_channel(sink, slice_text(b->config->redis_key), nsp,
                        own ? opts->rooms[0] : (struct slice){ NULL, 0 });
}

static enum adapter_result put_broadcast(struct bridge *b, struct msgpack_sink *sink,
                                         struct msgpack_sink *scratch, struct slice nsp,
                                         struct slice request_id, const struct adapter_opts *opts,
                                         const struct msgpack_text *event)
{
    struct sharded_head head = { bridge_uid(b), nsp, request_id };

    return sharded_put_broadcast(sink, scratch, &head, opts, event);
}

static void put_membership(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                           struct slice nsp, const struct adapter_opts *opts,
                           const struct slice *names, uint32_t n_names)
{
    struct sharded_head head = { bridge_uid(b), nsp, { NULL, 0 } };

    sharded_put_membership(sink, type, &head, opts, names, n_names);
}

static void put_disconnect(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                           const struct adapter_opts *opts, bool close)
{
    struct sharded_head head = { bridge_uid(b), nsp, { NULL, 0 } };

    sharded_put_disconnect(sink, &head, opts, close);
}

/* Channels of servers and of rooms cannot be told apart: who was silent has no name here. */
static bool ask_names(struct bridge *b, const struct bridge_namespace *n)
{
    (void)b;
    (void)n;
    return false;
}

static void put_query(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                      struct slice nsp, struct slice request_id, const struct adapter_opts *opts)
{
    struct sharded_head head = { bridge_uid(b), nsp, request_id };

    assert(type == ADAPTER_FETCH);
    sharded_put_fetch(sink, &head, opts);
}

static bool ask_count(struct bridge *b, const struct bridge_namespace *n)
{
    char text[CHANNEL_BYTES_MAX];

    return cluster_count(&b->sharded->cluster,
                         text_of_channel(b, text, bridge_nsp(n), (struct slice){ NULL, 0 }),
                         n->index);
}

static void put_request_channel(struct bridge *b, struct msgpack_sink *sink, struct slice nsp)
{
    sharded_put_channel(sink, slice_text(b->config->redis_key), nsp, (struct slice){ NULL, 0 });
}

static enum adapter_result put_server_emit(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch, struct slice nsp,
                                           struct slice request_id,
                                           const struct msgpack_text *event)
{
    struct sharded_head head = { bridge_uid(b), nsp, request_id };

    return sharded_put_server_emit(sink, scratch, &head, event);
}

static void put_answer_channel(struct bridge *b, struct msgpack_sink *sink,
                               const struct bridge_asker *asker)
{
    sharded_put_channel(sink, slice_text(b->config->redis_key), asker_nsp(asker), asker_uid(asker));
}

static bool put_list(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                     enum adapter_type type, struct slice entries)
{
    struct sharded_head head = head_of(b, asker);

    (void)type; /* only sockets are ever asked for */
    sharded_put_sockets(sink, &head, entries);
    return !sink->too_big;
}

static void put_count(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                      uint32_t n_clients)
{
    struct sharded_head head = head_of(b, asker);

    sharded_put_client_count(sink, &head, n_clients);
}

static enum adapter_result put_ack(struct bridge *b, struct msgpack_sink *sink,
                                   struct msgpack_sink *scratch, const struct bridge_asker *asker,
                                   const struct msgpack_text *value)
{
    struct sharded_head head = head_of(b, asker);

    return sharded_put_client_ack(sink, scratch, &head, value);
}

static enum adapter_result put_emit_answer(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch,
                                           const struct bridge_asker *asker,
                                           const struct msgpack_text *value)
{
    struct sharded_head head = head_of(b, asker);

    return sharded_put_emit_answer(sink, scratch, &head, value);
}

const struct wire wire_sharded = {
    .open = sharded_open,
    .close = sharded_close,
    .fds = sharded_fds,
    .wait_ms = sharded_wait_ms,
    .turn = sharded_turn,
    .flush = sharded_flush,
    .finish = sharded_finish,
    .is_unsent = sharded_is_unsent,
    .is_connected = sharded_is_connected,
    .is_subscribed = sharded_is_subscribed,
    .is_up = sharded_is_up,
    .enter = sharded_enter,
    .leave = sharded_leave,
    .on_rooms = sharded_on_rooms,
    .on_worker_gone = sharded_on_worker_gone,
    .publish = sharded_publish,
    .put_channel = put_channel,
    .put_broadcast = put_broadcast,
    .put_membership = put_membership,
    .put_disconnect = put_disconnect,
    .fetches_only = true,
    .ask_names = ask_names,
    .put_query = put_query,
    .ask_count = ask_count,
    .put_request_channel = put_request_channel,
    .put_server_emit = put_server_emit,
    .put_answer_channel = put_answer_channel,
    .put_list = put_list,
    .put_count = put_count,
    .put_ack = put_ack,
    .put_emit_answer = put_emit_answer,
};
