/* wire_pubsub.c: redis_adapter = pubsub: what the bridge says to peers with createAdapter and to emitters, and hears from them.
 *
 * One connection subscribes, one publishes, whatever the number of workers and namespaces; joins and leaves cause no traffic. While Redis is away what is to be
 * published waits in the link, within bounds; nothing of ours is published before our subscriptions stand (probe.c). */
#include <hiredis/hiredis.h>

#include "bridge/wire.h"

#define CHANNELS_MAX       256 /* of a list that Redis was asked for */
#define SUBSCRIPTIONS_EACH 4   /* of a namespace: one pattern, three channels */

static bool publish(struct bridge *b, struct slice channel, struct slice payload)
{
    struct slice words[3] = { slice_text("PUBLISH"), channel, payload };

    return link_message(&b->out, b->now_ms, 3, words); /* it counts what it drops */
}

/* key, suffix ("", "-response"), #nsp# and a tail. A namespace's name in a pattern must mean itself: Node does not escape it and filters afterwards; so do we,
 * besides. */
static void put_pattern(struct msgpack_sink *sink, struct slice key, const char *suffix,
                        struct slice nsp, const char *tail)
{
    struct slice texts[] = { key, slice_text(suffix), { "#", 1 }, nsp };

    for (uint32_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        for (uint32_t i = 0; i < texts[t].n_bytes; i++) {
            if (strchr("*?[]\\", texts[t].bytes[i]) != NULL)
                msgpack_put_text(sink, "\\");
            msgpack_put_bytes(sink, slice_of(texts[t].bytes + i, 1));
        }
    }
    msgpack_put_text(sink, tail);
}

/* (P)SUBSCRIBE and back: one pattern for broadcasts, exactly one subscription to the request channel, which is what peers count us by, and the two on which
 * our own requests are answered. */
static bool say(struct bridge *b, const struct bridge_namespace *n, const char *to_pattern,
                const char *to_channel)
{
    char text[4 * (CONFIG_TEXT_MAX + NAME_BYTES_MAX)];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);
    struct slice key = slice_text(b->config->redis_key);
    struct slice words[4] = { slice_text(to_pattern), { NULL, 0 } };
    uint32_t at[3];

    put_pattern(&sink, key, "", bridge_nsp(n), "#*");
    words[1] = msgpack_sink_slice(&sink, 0);
    if (sink.too_big || !link_command(&b->in, 2, words))
        return false;
    sink = msgpack_sink_of(text, sizeof text);
    adapter_put_request_channel(&sink, key, bridge_nsp(n));
    at[0] = sink.n_bytes;
    adapter_put_response_channel(&sink, key, bridge_nsp(n), (struct slice){ NULL, 0 });
    at[1] = sink.n_bytes;
    adapter_put_response_channel(&sink, key, bridge_nsp(n), bridge_uid(b));
    at[2] = sink.n_bytes;
    words[0] = slice_text(to_channel);
    words[1] = slice_of(text, at[0]);
    words[2] = slice_of(text + at[0], at[1] - at[0]);
    words[3] = slice_of(text + at[1], at[2] - at[1]);
    return !sink.too_big && link_command(&b->in, 4, words);
}

static void enter(struct bridge *b, struct bridge_namespace *n)
{
    if (n->subscribed || b->in.state != LINK_UP)
        return;
    n->subscribed = say(b, n, "PSUBSCRIBE", "SUBSCRIBE");
    if (!n->subscribed) {
        link_fail(&b->in, b->now_ms,
                  "out of memory"); /* half a subscription would be none to peers */
        return;
    }
    b->n_subscriptions += SUBSCRIPTIONS_EACH;
    b->subscribed_at_ms = b->now_ms;
}

static void leave(struct bridge *b, struct bridge_namespace *n)
{
    if (n->subscribed)
        (void)say(b, n, "PUNSUBSCRIBE", "UNSUBSCRIBE"); /* false: the connection ends */
}

static void on_subscriber_up(struct bridge *b)
{
    b->n_confirmed = 0;
    b->n_subscriptions = 0;
    for (uint32_t i = 0; i < b->n_namespaces; i++) {
        b->namespaces[i].subscribed = false;
        enter(b, &b->namespaces[i]);
    }
    if (b->in.state == LINK_UP)
        probe_subscribe(b);
}

static struct slice reply_text(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? slice_of(reply->str, (uint32_t)reply->len)
                                             : (struct slice){ NULL, 0 };
}

/* What stands between the key with `before` and `after`; absent: another form. */
static struct slice between(const struct bridge *b, struct slice text, const char *before,
                            const char *after)
{
    struct slice key = slice_text(b->config->redis_key);
    uint32_t n_before = key.n_bytes + (uint32_t)strlen(before);
    uint32_t n_after = (uint32_t)strlen(after);

    if (text.bytes == NULL || text.n_bytes < n_before + n_after ||
        memcmp(text.bytes, key.bytes, key.n_bytes) != 0 ||
        memcmp(text.bytes + key.n_bytes, before, strlen(before)) != 0 ||
        memcmp(text.bytes + text.n_bytes - n_after, after, n_after) != 0)
        return (struct slice){ NULL, 0 };
    return slice_of(text.bytes + n_before, text.n_bytes - n_before - n_after);
}

/* The pattern that a message came by says of which namespace it is: names may hold '#', so the channel does not. */
static void on_broadcast(struct bridge *b, struct slice pattern, struct slice channel,
                         struct slice payload)
{
    struct slice escaped = between(b, pattern, "#", "#*");
    const struct bridge_namespace *n;
    char name[NAME_BYTES_MAX];
    uint32_t n_bytes = 0;

    for (uint32_t i = 0; i < escaped.n_bytes && n_bytes < sizeof name; i++) {
        i += escaped.bytes[i] == '\\' && i + 1 < escaped.n_bytes; /* put_pattern */
        name[n_bytes++] = escaped.bytes[i];
    }
    n = n_bytes == 0 ? NULL : bridge_find_namespace(b, slice_of(name, n_bytes));
    if (n != NULL)
        inbound_broadcast(b, n, channel, payload);
}

enum channel_kind { CHANNEL_OTHER = 0, CHANNEL_REQUEST, CHANNEL_RESPONSE };

/* What a channel of ours is for, and of which namespace. A name may hold '#': the longest that fits is the right one. */
static enum channel_kind channel_kind(const struct bridge *b, struct slice channel,
                                      const struct bridge_namespace **n)
{
    struct slice response = between(b, channel, "-response#", "#");
    struct slice uid = bridge_uid(b);

    *n = bridge_find_namespace(b, between(b, channel, "-request#", "#"));
    if (*n != NULL)
        return CHANNEL_REQUEST;
    *n = bridge_find_namespace(b, response);
    if (*n == NULL && response.n_bytes > uid.n_bytes + 1 &&
        response.bytes[response.n_bytes - uid.n_bytes - 1] == '#' &&
        slice_equal(slice_of(response.bytes + response.n_bytes - uid.n_bytes, uid.n_bytes), uid))
        *n = bridge_find_namespace(b, slice_of(response.bytes, response.n_bytes - uid.n_bytes - 1));
    return *n != NULL ? CHANNEL_RESPONSE : CHANNEL_OTHER;
}

static void on_message(struct bridge *b, struct slice channel, struct slice payload)
{
    const struct bridge_namespace *n;

    switch (channel_kind(b, channel, &n)) {
    case CHANNEL_REQUEST: inbound_request(b, n, payload); break;
    case CHANNEL_RESPONSE: ask_answered(b, payload); break;
    case CHANNEL_OTHER: break;
    }
}

static bool on_subscriber_reply(void *context, struct redisReply *reply)
{
    struct bridge *b = context;
    struct slice kind, channel;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return true;
    kind = reply_text(reply->element[0]);
    channel = reply_text(reply->element[1]);
    if (slice_is(kind, "pmessage") && reply->elements == 4) {
        count_add(b->row, COUNT_REDIS_RECEIVED, 1);
        on_broadcast(b, channel, reply_text(reply->element[2]), reply_text(reply->element[3]));
    } else if (slice_is(kind, "message") && reply->elements == 3) {
        if (probe_is_channel(b, channel)) {
            probe_heard(b, reply_text(reply->element[2]));
        } else {
            count_add(b->row, COUNT_REDIS_RECEIVED, 1);
            on_message(b, channel, reply_text(reply->element[2]));
        }
    } else if (slice_is(kind, "subscribe") && probe_is_channel(b, channel)) {
        probe_confirmed(b);
    } else if (slice_is(kind, "psubscribe") || slice_is(kind, "subscribe")) {
        b->n_confirmed++;
    } else if (slice_is(kind, "pong")) {
        probe_pong(b);
    }
    return !bridge_is_full(b); /* the ring is full: what follows stays in Redis' hands, in order */
}

static void on_channels(struct bridge *b, const struct redisReply *reply)
{
    struct slice channels[CHANNELS_MAX];
    uint32_t n = 0;

    for (size_t i = 0; i < reply->elements && n < CHANNELS_MAX; i++)
        channels[n++] = reply_text(reply->element[i]);
    ask_listed(b, channels, n);
}

static bool on_publisher_reply(void *context, struct redisReply *reply)
{
    struct bridge *b = context;
    const struct bridge_namespace *n;

    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) == 0)
        probe_denied(b);
    if (reply->type != REDIS_REPLY_ARRAY)
        return true; /* how many got it: the link has counted it, and nobody else wants to know */
    /* PUBSUB NUMSUB and PUBSUB CHANNELS are the only answers that are lists */
    if (reply->elements != 2 || reply->element[1]->type != REDIS_REPLY_INTEGER)
        on_channels(b, reply);
    else if (channel_kind(b, reply_text(reply->element[0]), &n) == CHANNEL_REQUEST)
        ask_counted(b, n, (uint64_t)reply->element[1]->integer);
    return !bridge_is_full(b);
}

static bool open_links(struct bridge *b)
{
    link_init(&b->in, &b->config->redis, b->tls, "subscriber");
    link_init(&b->out, &b->config->redis, b->tls, "publisher");
    link_keep(&b->out, b->config->redis_buffer_bytes, b->config->redis_buffer_age_ms);
    b->out.held = true; /* until a probe has come through */
    return true;
}

static void close_links(struct bridge *b)
{
    link_close(&b->in);
    link_close(&b->out);
}

static uint32_t set_fds(struct bridge *b, struct pollfd *fds)
{
    short in = link_events(&b->in);
    short out = link_events(&b->out);

    fds[0] = (struct pollfd){ b->in.fd,
                              (short)(bridge_is_full(b) ? in & ~(POLLIN | POLLRDHUP) : in), 0 };
    fds[1] = (struct pollfd){ b->out.fd,
                              (short)(bridge_is_full(b) ? out & ~(POLLIN | POLLRDHUP) : out), 0 };
    return 2;
}

static uint32_t wait_ms(struct bridge *b)
{
    uint32_t in = link_wait_ms(&b->in, b->now_ms);
    uint32_t out = link_wait_ms(&b->out, b->now_ms);

    return in < out ? in : out;
}

/* While the ring has no room, what follows stays in Redis' hands, and it is no fault of Redis that we do not hear it. */
static void take_in(struct bridge *b, struct link *l, short events, bool was_full,
                    link_on_reply on_reply, void (*on_up)(struct bridge *b))
{
    if (was_full && !bridge_is_full(b) && l->state == LINK_UP) {
        (void)link_replies(l, b->now_ms, on_reply, b); /* what was left */
        events |= POLLIN;
    }
    if (link_on_events(l, events, !bridge_is_full(b), b->now_ms, on_reply, b) && on_up != NULL)
        on_up(b);
    if (!bridge_is_full(b) || l->state != LINK_UP)
        link_tick(l, b->now_ms);
}

static void turn(struct bridge *b, const struct pollfd *fds)
{
    bool was_full = bridge_begin_turn(b);

    take_in(b, &b->in, fds[0].revents, was_full, on_subscriber_reply, on_subscriber_up);
    take_in(b, &b->out, fds[1].revents, was_full, on_publisher_reply, NULL);
    b->drained = !bridge_is_full(b) && (fds[0].revents & POLLIN) == 0;
}

static void count_link(struct bridge *b, struct link *l)
{
    static const enum counter drops[LINK_DROPS] = {
        [LINK_DROP_FULL] = COUNT_REDIS_DROPPED_BUFFER,
        [LINK_DROP_OLD] = COUNT_REDIS_DROPPED_EXPIRED,
        [LINK_DROP_CUT] = COUNT_REDIS_DROPPED_DISCONNECTED,
        [LINK_DROP_REFUSED] = COUNT_REDIS_DROPPED_REFUSED,
        [LINK_DROP_TOO_BIG] = COUNT_REDIS_DROPPED_TOO_BIG,
    };

    for (uint32_t i = 0; i < LINK_DROPS; i++) {
        if (l->dropped[i] > 0)
            count_add(b->row, drops[i], l->dropped[i]);
        l->dropped[i] = 0;
    }
    if (l->n_published > 0)
        count_add(b->row, COUNT_REDIS_PUBLISHED, l->n_published);
    l->n_published = 0;
}

static void flush(struct bridge *b)
{
    probe_tick(b, b->drained);
    link_flush(&b->in, b->now_ms);
    link_flush(&b->out, b->now_ms);
    count_link(b, &b->in);
    count_link(b, &b->out);
}

static void finish(struct bridge *b, const struct pollfd *fds)
{
    (void)link_on_events(&b->out, fds[1].revents, true, b->now_ms, on_publisher_reply, b);
    count_link(b, &b->out);
}

static bool is_unsent(struct bridge *b)
{
    return b->out.state == LINK_UP && !b->out.held && !link_is_idle(&b->out);
}

static bool is_up(struct bridge *b)
{
    return b->out.state == LINK_UP && !b->out.held;
}

static bool is_connected(struct bridge *b)
{
    return b->in.state == LINK_UP && b->out.state == LINK_UP;
}

static bool is_subscribed(struct bridge *b)
{
    return !b->out.held && b->n_confirmed >= b->n_subscriptions;
}

static bool ask_count(struct bridge *b, const struct bridge_namespace *n)
{
    char text[2 * CONFIG_TEXT_MAX + NAME_BYTES_MAX];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);
    struct slice words[3] = { slice_text("PUBSUB"), slice_text("NUMSUB"), { NULL, 0 } };

    adapter_put_request_channel(&sink, slice_text(b->config->redis_key), bridge_nsp(n));
    words[2] = msgpack_sink_slice(&sink, 0);
    return !sink.too_big && link_command(&b->out, 3, words);
}

static void put_request_channel(struct bridge *b, struct msgpack_sink *sink, struct slice nsp)
{
    adapter_put_request_channel(sink, slice_text(b->config->redis_key), nsp);
}

static enum adapter_result put_server_emit(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch, struct slice nsp,
                                           struct slice request_id,
                                           const struct msgpack_text *event)
{
    (void)nsp;
    if (event->n_attachments > 0)
        return adapter_put_server_emit_binary(sink, scratch, bridge_uid(b), request_id, event);
    adapter_put_server_emit(sink, bridge_uid(b), request_id, event->json);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

/* The pattern hears every room. */
static void on_rooms(struct bridge *b, const struct record_view *news)
{
    (void)b;
    (void)news;
}

static void on_worker_gone(struct bridge *b, uint32_t slot)
{
    (void)b;
    (void)slot;
}

static void put_channel(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                        const struct adapter_opts *opts)
{
    adapter_put_channel(sink, slice_text(b->config->redis_key), nsp, opts);
}

static enum adapter_result put_broadcast(struct bridge *b, struct msgpack_sink *sink,
                                         struct msgpack_sink *scratch, struct slice nsp,
                                         struct slice request_id, const struct adapter_opts *opts,
                                         const struct msgpack_text *event)
{
    if (request_id.bytes != NULL)
        return adapter_put_broadcast_request(sink, scratch, bridge_uid(b), request_id, nsp, opts,
                                             event);
    return adapter_put_broadcast(sink, scratch, bridge_uid(b), nsp, -1, opts, event);
}

static void put_membership(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                           struct slice nsp, const struct adapter_opts *opts,
                           const struct slice *names, uint32_t n_names)
{
    (void)nsp;
    adapter_put_membership(sink, type, bridge_uid(b), opts, names, n_names);
}

static void put_disconnect(struct bridge *b, struct msgpack_sink *sink, struct slice nsp,
                           const struct adapter_opts *opts, bool close)
{
    (void)nsp;
    adapter_put_disconnect(sink, bridge_uid(b), opts, close);
}

static bool ask_names(struct bridge *b, const struct bridge_namespace *n)
{
    char text[4 * (CONFIG_TEXT_MAX + NAME_BYTES_MAX)];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);
    struct slice words[3] = { slice_text("PUBSUB"), slice_text("CHANNELS"), { NULL, 0 } };

    put_pattern(&sink, slice_text(b->config->redis_key), "-response", bridge_nsp(n), "#*#");
    words[2] = msgpack_sink_slice(&sink, 0);
    return !sink.too_big && link_command(&b->out, 3, words);
}

static void put_query(struct bridge *b, struct msgpack_sink *sink, enum adapter_type type,
                      struct slice nsp, struct slice request_id, const struct adapter_opts *opts)
{
    (void)nsp;
    adapter_put_query(sink, type, bridge_uid(b), request_id, opts);
}

/* Node's answers to server-side emits, and to requests of old emitters, go to the common channel always. */
static bool has_own_channel(const struct bridge *b, const struct bridge_asker *asker)
{
    return b->config->redis_own_channel && asker->n_uid > 0 &&
           (asker->type == ADAPTER_SOCKETS || asker->type == ADAPTER_ALL_ROOMS ||
            asker->type == ADAPTER_FETCH || asker->type == ADAPTER_BROADCAST);
}

static void put_answer_channel(struct bridge *b, struct msgpack_sink *sink,
                               const struct bridge_asker *asker)
{
    adapter_put_response_channel(sink, slice_text(b->config->redis_key), asker_nsp(asker),
                                 has_own_channel(b, asker) ? asker_uid(asker)
                                                           : (struct slice){ NULL, 0 });
}

static bool put_list(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                     enum adapter_type type, struct slice entries)
{
    struct adapter_answer list;

    if (!adapter_answer_begin(&list, sink, type, asker_request_id(asker), bridge_uid(b)))
        return false;
    if (entries.n_bytes > 0) /* with their commas, as the workers wrote them */
        msgpack_put_bytes(sink, entries);
    adapter_answer_end(&list);
    return true;
}

static void put_count(struct bridge *b, struct msgpack_sink *sink, const struct bridge_asker *asker,
                      uint32_t n_clients)
{
    adapter_put_client_count(sink, asker_request_id(asker), bridge_uid(b), n_clients);
}

static enum adapter_result put_ack(struct bridge *b, struct msgpack_sink *sink,
                                   struct msgpack_sink *scratch, const struct bridge_asker *asker,
                                   const struct msgpack_text *value)
{
    (void)b;
    return adapter_put_client_ack(sink, scratch, asker_request_id(asker), value);
}

static enum adapter_result put_emit_answer(struct bridge *b, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch,
                                           const struct bridge_asker *asker,
                                           const struct msgpack_text *value)
{
    (void)b;
    if (value->n_attachments > 0)
        return adapter_put_emit_answer_binary(sink, scratch, asker_request_id(asker), value);
    adapter_put_emit_answer(sink, asker_request_id(asker), value->json);
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

const struct wire wire_pubsub = {
    .open = open_links,
    .close = close_links,
    .fds = set_fds,
    .wait_ms = wait_ms,
    .turn = turn,
    .flush = flush,
    .finish = finish,
    .is_unsent = is_unsent,
    .is_connected = is_connected,
    .is_subscribed = is_subscribed,
    .is_up = is_up,
    .enter = enter,
    .leave = leave,
    .on_rooms = on_rooms,
    .on_worker_gone = on_worker_gone,
    .publish = publish,
    .put_channel = put_channel,
    .put_broadcast = put_broadcast,
    .put_membership = put_membership,
    .put_disconnect = put_disconnect,
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
