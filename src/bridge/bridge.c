/* bridge.c: the loop of the process that joins this host to a cluster over Redis.
 *
 * It stands between no two local clients: local delivery goes through the ring and does not wait for it. It never gates the ring, either: it reads copies
 * and validates them, and skips, counted, what was overwritten before it came to it. Its cursor is moved before a message is published, so a
 * successor repeats nothing: at most once towards Redis.
 * One connection subscribes, one publishes, whatever the number of workers and namespaces; joins and leaves cause no traffic. While Redis is away what is to be
 * published waits in the link, within bounds; nothing of ours is published before our subscriptions stand. */
#include "bridge/bridge.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "bridge/state.h"
#include "bridge/tls.h"
#include "shm/atomic.h"

#define RECORDS_PER_TURN   256
#define FULL_RETRY_MS      2
#define STOP_FLUSH_MS      1000
#define CHANNELS_MAX       256 /* of a list that Redis was asked for */
#define SUBSCRIPTIONS_EACH 4   /* of a namespace: one pattern, three channels */

char *bridge_room(struct bridge_buffer *b, uint64_t n_bytes)
{
    if (n_bytes > b->n_max) {
        uint64_t want = b->n_max == 0 ? 65536 : b->n_max;
        char *bytes;

        while (want < n_bytes)
            want *= 2;
        if (want > UINT32_MAX)
            return NULL;
        bytes = realloc(b->bytes, want);
        if (bytes == NULL)
            return NULL;
        b->bytes = bytes;
        b->n_max = (uint32_t)want;
    }
    return b->bytes;
}

struct slice bridge_nsp(const struct bridge_namespace *n)
{
    return slice_of(n->name.name, n->name.n_bytes);
}

struct slice bridge_uid(const struct bridge *b)
{
    return slice_of(b->uid, ADAPTER_UID_CHARS);
}

/* --- towards Redis --- */

bool bridge_publish(struct bridge *b, struct slice channel, struct slice payload)
{
    struct slice words[3] = { slice_text("PUBLISH"), channel, payload };

    return link_message(&b->out, b->now_ms, 3, words); /* it counts what it drops */
}

bool bridge_respond(struct bridge *b, struct slice nsp, struct slice asker, struct slice payload)
{
    char name[2 * CONFIG_TEXT_MAX + NAME_BYTES_MAX];
    struct msgpack_sink sink = msgpack_sink_of(name, sizeof name);

    adapter_put_response_channel(&sink, slice_text(b->config->redis_key), nsp, asker);
    return !sink.too_big && bridge_publish(b, msgpack_sink_slice(&sink, 0), payload);
}

/* Node does not escape a namespace's name and filters afterwards; so do we, besides. */
void bridge_put_pattern(struct msgpack_sink *sink, struct slice key, const char *suffix,
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

    bridge_put_pattern(&sink, key, "", bridge_nsp(n), "#*");
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

static void subscribe(struct bridge *b, struct bridge_namespace *n)
{
    if (n->subscribed || b->in.state != LINK_UP)
        return;
    n->subscribed = say(b, n, "PSUBSCRIBE", "SUBSCRIBE");
    b->n_subscriptions += SUBSCRIPTIONS_EACH;
    b->subscribed_at_ms = b->now_ms;
}

static bool is_there(const struct bridge *b, const struct bridge_namespace *n)
{
    struct namespace_copy now;

    return namespace_copy(&b->region, n->index, &now) && now.life == n->name.life;
}

/* The host's namespaces are those of its table. First what has gone, then what has come: a name may have both. */
static void follow_namespaces(struct bridge *b)
{
    uint64_t changes = namespaces_changes(&b->region);
    bool known[NAMESPACES_MAX] = { false };

    if (changes == b->changes_seen)
        return;
    b->changes_seen = changes; /* read before the table: what comes meanwhile is looked at again */
    for (uint32_t i = 0; i < b->n_namespaces;) {
        struct bridge_namespace *n = &b->namespaces[i];

        if (is_there(b, n)) {
            known[n->index] = true;
            i++;
            continue;
        }
        if (n->subscribed)
            (void)say(b, n, "PUNSUBSCRIBE", "UNSUBSCRIBE"); /* false: the connection ends */
        b->at_index[n->index] = 0;
        *n = b->namespaces[--b->n_namespaces];
        if (i < b->n_namespaces)
            b->at_index[n->index] = (uint16_t)(i + 1);
    }
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        struct bridge_namespace *n;

        if (known[i])
            continue; /* at most one for each index: there is room */
        n = &b->namespaces[b->n_namespaces];
        *n = (struct bridge_namespace){ .index = i };
        if (!namespace_copy(&b->region, i, &n->name))
            continue;
        b->at_index[i] = (uint16_t)++b->n_namespaces;
        subscribe(b, n);
    }
}

static void on_subscriber_up(struct bridge *b)
{
    b->n_confirmed = 0;
    b->n_subscriptions = 0;
    for (uint32_t i = 0; i < b->n_namespaces; i++) {
        b->namespaces[i].subscribed = false;
        subscribe(b, &b->namespaces[i]);
    }
    probe_subscribe(b);
}

/* --- from Redis --- */

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

/* NULL: we have not subscribed to it, or no more. */
static const struct bridge_namespace *find_namespace(const struct bridge *b, struct slice name)
{
    uint32_t index = name.bytes == NULL ? NAMESPACE_NONE : namespace_find(&b->region, name);
    const struct bridge_namespace *n;

    if (index == NAMESPACE_NONE || b->at_index[index] == 0)
        return NULL;
    n = &b->namespaces[b->at_index[index] - 1];
    return slice_equal(bridge_nsp(n), name) ? n : NULL;
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
        i += escaped.bytes[i] == '\\' && i + 1 < escaped.n_bytes; /* bridge_put_pattern */
        name[n_bytes++] = escaped.bytes[i];
    }
    n = n_bytes == 0 ? NULL : find_namespace(b, slice_of(name, n_bytes));
    if (n != NULL)
        inbound_broadcast(b, n, channel, payload);
}

/* Of the channels for answers we have subscribed to our own only, whatever their namespace. */
static void on_message(struct bridge *b, struct slice channel, struct slice payload)
{
    const struct bridge_namespace *n = find_namespace(b, between(b, channel, "-request#", "#"));

    if (n != NULL)
        inbound_request(b, n, payload);
    else if (between(b, channel, "-response#", "#").bytes != NULL)
        ask_answered(b, payload);
}

static bool on_subscriber_reply(void *context, struct redisReply *reply)
{
    struct bridge *b = context;
    struct slice kind;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return true;
    kind = reply_text(reply->element[0]);
    if (slice_is(kind, "pmessage") && reply->elements == 4) {
        count_add(b->row, COUNT_REDIS_RECEIVED, 1);
        on_broadcast(b, reply_text(reply->element[1]), reply_text(reply->element[2]),
                     reply_text(reply->element[3]));
    } else if (slice_is(kind, "message") && reply->elements == 3) {
        struct slice channel = reply_text(reply->element[1]);

        if (probe_is_channel(b, channel)) {
            probe_heard(b, reply_text(reply->element[2]));
        } else {
            count_add(b->row, COUNT_REDIS_RECEIVED, 1);
            on_message(b, channel, reply_text(reply->element[2]));
        }
    } else if (slice_is(kind, "subscribe") && probe_is_channel(b, reply_text(reply->element[1]))) {
        probe_confirmed(b);
    } else if (slice_is(kind, "psubscribe") || slice_is(kind, "subscribe")) {
        b->n_confirmed++;
    } else if (slice_is(kind, "pong")) {
        probe_pong(b);
    }
    return b->n_pending == 0; /* the ring is full: what follows stays in Redis' hands, in order */
}

static void on_count(struct bridge *b, struct slice channel, uint64_t n_servers)
{
    const struct bridge_namespace *n = find_namespace(b, between(b, channel, "-request#", "#"));

    if (n != NULL)
        ask_counted(b, n, n_servers);
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

    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) == 0)
        probe_denied(b);
    if (reply->type != REDIS_REPLY_ARRAY)
        return true; /* how many got it: the link has counted it, and nobody else wants to know */
    /* PUBSUB NUMSUB and PUBSUB CHANNELS are the only answers that are lists */
    if (reply->elements == 2 && reply->element[1]->type == REDIS_REPLY_INTEGER)
        on_count(b, reply_text(reply->element[0]), (uint64_t)reply->element[1]->integer);
    else
        on_channels(b, reply);
    return true;
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

/* --- the ring --- */

/* Is it for us to ask the cluster? */
static bool is_question(const struct record_header *header)
{
    if (header->origin != ORIGIN_LOCAL || (header->targets >> PEAL_SLOT_BRIDGE & 1) == 0)
        return false;
    return header->kind == RECORD_SERVER_EMIT || header->kind == RECORD_FETCH ||
           (header->kind == RECORD_BROADCAST && (header->flags & RECORD_WANTS_ACK) != 0);
}

static void on_record(struct bridge *b, const struct record_view *view)
{
    const struct record_header *header = view->header;
    bool for_us = (header->targets >> PEAL_SLOT_BRIDGE & 1) != 0;
    bool for_all = header->origin == ORIGIN_LOCAL && (header->flags & RECORD_LOCAL) == 0;

    if (is_question(header)) {
        ask_record(b, view);
        return;
    }
    switch ((enum record_kind)header->kind) {
    case RECORD_BROADCAST:
        if (for_all)
            outbound_record(b, view);
        break;
    case RECORD_JOIN:
    case RECORD_LEAVE:
    case RECORD_DISCONNECT:
        if (for_all)
            outbound_change(b, view);
        break;
    case RECORD_REPLY:
        if (for_us)
            query_reply(b, view);
        break;
    case RECORD_ACK:
        if (for_us)
            query_ack(b, view);
        break;
    case RECORD_GONE: query_gone(b, header->detail); break;
    case RECORD_SERVER_EMIT:
    case RECORD_FETCH:
    case RECORD_NAMESPACE: /* it has woken us, which was all (follow_namespaces) */
    case RECORD_VOID:
    case RECORD_KINDS: break;
    }
}

/* Takes in what is there, up to a budget; whether something is left shows when it parks. */
static void walk(struct bridge *b)
{
    b->walk_held = false;
    for (uint32_t i = 0; i < RECORDS_PER_TURN; i++) {
        struct record_view view;
        uint32_t n_bytes = 0;
        enum ring_history found =
            ring_copy(&b->ring, b->at, (uint8_t *)b->record.bytes, b->record.n_max, &n_bytes);

        if (found == HISTORY_OK && n_bytes > b->record.n_max) {
            if (bridge_room(&b->record, n_bytes) == NULL)
                abort(); /* a record is at most a quarter of the ring; the master starts another */
            continue;
        }
        if (found == HISTORY_NOT_YET)
            return;
        if (found == HISTORY_GONE) {
            count_add(b->row, COUNT_REDIS_DROPPED_LAPPED, 1);
            b->at = ring_resync(&b->ring, b->at);
            shm_store_u64(&b->slot->cursor, b->at);
            continue;
        }
        if (is_question((const struct record_header *)(const void *)b->record.bytes) &&
            ask_must_wait(b)) {
            b->walk_held = true; /* and what is behind it waits, too: one order */
            return;
        }
        b->at += (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
        shm_store_release_u64(&b->slot->cursor, b->at); /* before it is published: at most once */
        if (record_view(&view, (const uint8_t *)b->record.bytes, n_bytes))
            on_record(b, &view);
    }
}

/* --- life --- */

static uint64_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int open_signals(void)
{
    sigset_t mask;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void make_uid(struct bridge *b)
{
    uint8_t raw[ADAPTER_UID_CHARS];

    if (getrandom(raw, sizeof raw, 0) != sizeof raw)
        abort(); /* never for so few bytes */
    for (uint32_t i = 0; i < ADAPTER_UID_CHARS; i++)
        b->uid[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[raw[i] & 63];
}

/* Without it the links stay down: they say that, and it is said here why. */
static void open_tls(struct bridge *b)
{
    const struct config *c = b->config;
    char why[TLS_WHY_MAX];

    if (!c->redis.tls)
        return;
    b->tls = tls_context_new(c->redis_ca_file, c->redis_cert_file, c->redis_cert_key_file, why);
    if (b->tls == NULL)
        log_error("redis_tls_unusable", "reason=%s", why);
}

static bool open_bridge(struct bridge *b, const struct child *child)
{
    b->child = child;
    if (region_open(&b->region, child->region_fd, child->slot, child->bells) < 0)
        return false;
    b->config = b->region.config;
    log_init("bridge", (enum log_level)b->config->log_level,
             (enum log_format)b->config->log_format);
    b->slot = &b->region.header->slots[child->slot];
    b->row = &b->region.counters[child->slot];
    ring_open(&b->ring, &b->region);
    b->at = shm_load_u64(&b->slot->cursor);
    b->now_ms = clock_ms();
    open_tls(b);
    link_init(&b->in, &b->config->redis, b->tls, "subscriber");
    link_init(&b->out, &b->config->redis, b->tls, "publisher");
    link_keep(&b->out, b->config->redis_buffer_bytes, b->config->redis_buffer_age_ms);
    b->out.held = true; /* until a probe has come through */
    if (bridge_room(&b->record, 65536) == NULL || !ask_open(b))
        return false;
    make_uid(b);
    log_info("cluster_uid", "uid=%.*s", ADAPTER_UID_CHARS, b->uid);
    follow_namespaces(b);
    shm_store_release_u64(&b->slot->ready_generation, child->generation);
    return true;
}

static void read_signals(struct bridge *b, int fd)
{
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof info) == sizeof info)
        if (info.ssi_pid == (uint32_t)b->region.header->master_pid)
            b->stop = true;
}

enum { P_BELL = 0, P_LIFE, P_SIGNAL, P_IN, P_OUT, P_N };

static void sleep_until(struct bridge *b, struct pollfd fds[P_N])
{
    uint32_t wait = link_wait_ms(&b->out, b->now_ms);
    uint32_t wait_in = b->n_pending > 0 ? FULL_RETRY_MS : link_wait_ms(&b->in, b->now_ms);

    wait = wait < wait_in ? wait : wait_in;
    if (wait > ask_rest_ms(b))
        wait = ask_rest_ms(b);
    if (b->walk_held && wait > FULL_RETRY_MS)
        wait = FULL_RETRY_MS;
    if (wait > 0 && !b->walk_held && !ring_park(&b->ring, b->at))
        wait = 0;
    (void)poll(fds, P_N, (int)wait); /* EINTR: as if nothing had come */
    ring_unpark(&b->ring);
    b->now_ms = clock_ms();
    shm_store_u64(&b->slot->progress, b->slot->progress + 1);
}

/* While the ring has no room, what follows stays in Redis' hands, and it is no fault of Redis that we do not hear it. */
static void take_in(struct bridge *b, short events)
{
    bool was_full = b->n_pending > 0;

    bridge_retry(b);
    if (b->n_pending > 0)
        return;
    if (was_full && b->in.state == LINK_UP) {
        (void)link_replies(&b->in, b->now_ms, on_subscriber_reply, b); /* what was left */
        events |= POLLIN;
    }
    if (link_on_events(&b->in, events, b->n_pending == 0, b->now_ms, on_subscriber_reply, b))
        on_subscriber_up(b);
    if (b->n_pending == 0)
        link_tick(&b->in, b->now_ms);
}

static void turn(struct bridge *b, int signal_fd)
{
    struct pollfd fds[P_N] = {
        [P_BELL] = { b->region.bells[b->child->slot], POLLIN, 0 },
        [P_LIFE] = { b->child->life_fd, POLLIN, 0 },
        [P_SIGNAL] = { signal_fd, POLLIN, 0 },
        [P_IN] = { b->in.fd,
                   (short)(b->n_pending > 0 ? link_events(&b->in) & ~POLLIN : link_events(&b->in)),
                   0 },
        [P_OUT] = { b->out.fd, link_events(&b->out), 0 },
    };
    uint64_t rung;

    sleep_until(b, fds);
    if ((fds[P_BELL].revents & POLLIN) != 0 && read(fds[P_BELL].fd, &rung, sizeof rung) < 0)
        log_warning("bell_unreadable", "error=%s", strerror(errno));
    if ((fds[P_LIFE].revents & (POLLIN | POLLHUP)) != 0)
        b->stop = true;
    if ((fds[P_SIGNAL].revents & POLLIN) != 0)
        read_signals(b, signal_fd);
    take_in(b, fds[P_IN].revents);
    (void)link_on_events(&b->out, fds[P_OUT].revents, true, b->now_ms, on_publisher_reply, b);
    link_tick(&b->out, b->now_ms);
    ring_bells(&b->ring);
    follow_namespaces(b);
    walk(b);
    query_expire(b);
    ask_expire(b);
    ring_bells(&b->ring);
    probe_tick(b, b->n_pending == 0 && (fds[P_IN].revents & POLLIN) == 0);
    link_flush(&b->in, b->now_ms);
    link_flush(&b->out, b->now_ms);
    count_link(b, &b->in);
    count_link(b, &b->out);
    shm_store_u64(&b->slot->redis_up, b->out.state == LINK_UP && !b->out.held);
}

/* What has been said already goes out, if Redis is there; nothing new is. */
static void flush_last(struct bridge *b)
{
    uint64_t until_ms = b->now_ms + STOP_FLUSH_MS;

    while (b->out.state == LINK_UP && !b->out.held && !link_is_idle(&b->out) &&
           b->now_ms < until_ms) {
        struct pollfd fd = { b->out.fd, link_events(&b->out), 0 };

        (void)poll(&fd, 1, 50);
        b->now_ms = clock_ms();
        (void)link_on_events(&b->out, fd.revents, true, b->now_ms, on_publisher_reply, b);
    }
    count_link(b, &b->out);
}

int bridge_main(const struct child *child)
{
    struct bridge *b = calloc(1, sizeof *b);
    int signal_fd;

    if (b == NULL)
        return 1;
    signal_fd = open_signals();
    if (signal_fd < 0 || !open_bridge(b, child)) {
        free(b);
        return 1;
    }
    while (!b->stop)
        turn(b, signal_fd);
    flush_last(b);
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX; i++)
        free(b->queries[i].answer);
    ask_close(b);
    free(b->payload.bytes);
    free(b->message.bytes);
    free(b->scratch.bytes);
    free(b->record.bytes);
    free(b->pending.bytes);
    link_close(&b->in);
    link_close(&b->out);
    tls_context_free(b->tls);
    free(b);
    return 0;
}
