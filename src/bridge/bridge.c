/* bridge.c: the loop of the process that joins this host to a cluster over Redis.
 *
 * It stands between no two local clients: local delivery goes through the ring and does not wait for it. It never gates the ring, either: it reads copies
 * and validates them, and skips, counted, what was overwritten before it came to it. Its cursor is moved before a message is published, so a
 * successor repeats nothing: at most once towards Redis.
 * What it says and hears goes over one of two wires (wire.h). */
#include "bridge/bridge.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "bridge/tls.h"
#include "bridge/wire.h"
#include "session/publish.h"
#include "shm/atomic.h"

#define RECORDS_PER_TURN 256
#define FULL_RETRY_MS    2
#define STOP_FLUSH_MS    1000

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
    return slice_of(b->uid, b->n_uid);
}

bool bridge_publish(struct bridge *b, struct slice channel, struct slice payload)
{
    return b->wire->publish(b, channel, payload);
}

bool bridge_respond(struct bridge *b, const struct bridge_asker *asker, struct slice payload)
{
    char name[2 * CONFIG_TEXT_MAX + NAME_BYTES_MAX];
    struct msgpack_sink sink = msgpack_sink_of(name, sizeof name);

    b->wire->put_answer_channel(b, &sink, asker);
    return !sink.too_big && bridge_publish(b, msgpack_sink_slice(&sink, 0), payload);
}

const struct bridge_namespace *bridge_find_namespace(const struct bridge *b, struct slice name)
{
    uint32_t index = name.bytes == NULL ? NAMESPACE_NONE : namespace_find(&b->region, name);
    const struct bridge_namespace *n;

    if (index == NAMESPACE_NONE || b->at_index[index] == 0)
        return NULL;
    n = &b->namespaces[b->at_index[index] - 1];
    return slice_equal(bridge_nsp(n), name) ? n : NULL;
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
        b->wire->leave(b, n);
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
        b->wire->enter(b, n);
    }
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
    case RECORD_GONE:
        query_gone(b, header->detail);
        b->wire->on_worker_gone(b, header->detail);
        if (header->detail < PEAL_WORKERS_MAX)
            untold_begin(b, 1ull << header->detail);
        break;
    case RECORD_ROOM_NEWS: b->wire->on_rooms(b, view); break;
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
    b->held = false;
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
            b->lapped = true;
            b->at = ring_resync(&b->ring, b->at);
            untold_begin(b, UINT64_MAX); /* a worker's end may have been among it */
            shm_store_u64(&b->slot->cursor, b->at);
            continue;
        }
        if (is_question((const struct record_header *)(const void *)b->record.bytes) &&
            ask_must_wait(b)) {
            b->held = true; /* and what is behind it waits, too: one order */
            return;
        }
        b->at += (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
        shm_store_release_u64(&b->slot->cursor, b->at); /* before it is published: at most once */
        if (record_view(&view, (const uint8_t *)b->record.bytes, n_bytes))
            on_record(b, &view);
    }
}

/* What workers said before they ended. */
static void walk_to_end(struct bridge *b)
{
    uint64_t end = ring_tail(&b->ring);
    uint64_t before;

    do {
        before = b->at;
        walk(b);
    } while (b->at < end && b->at != before);
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
    uint8_t raw[SHARDED_UID_CHARS];
    bool sharded = b->config->redis_sharded;

    if (getrandom(raw, sizeof raw, 0) != sizeof raw)
        abort(); /* never for so few bytes */
    b->n_uid = sharded ? SHARDED_UID_CHARS : ADAPTER_UID_CHARS;
    for (uint32_t i = 0; i < b->n_uid; i++)
        b->uid[i] =
            sharded
                ? "0123456789abcdef"[raw[i] & 15]
                : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[raw[i] & 63];
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
    b->wire = b->config->redis_sharded ? &wire_sharded : &wire_pubsub;
    open_tls(b);
    make_uid(b);
    log_info("cluster_uid", "uid=%.*s", (int)b->n_uid, b->uid);
    if (bridge_room(&b->record, 65536) == NULL || !packer_open(&b->packer, &b->ring, b->row) ||
        !ask_open(b) || !b->wire->open(b))
        return false;
    follow_namespaces(b);
    untold_begin(b, UINT64_MAX); /* what an earlier process here has left */
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

enum { P_BELL = 0, P_LIFE, P_SIGNAL, P_WIRE };

static void sleep_until(struct bridge *b, struct pollfd *fds, uint32_t n_fds)
{
    uint32_t wait = b->wire->wait_ms(b);

    if (b->behind)
        wait = 0;
    if (wait > ask_rest_ms(b))
        wait = ask_rest_ms(b);
    if ((b->n_pending > 0 || b->held) && wait > FULL_RETRY_MS)
        wait = FULL_RETRY_MS;
    if (wait > untold_rest_ms(b))
        wait = untold_rest_ms(b);
    if (wait > 0 && !b->held && !ring_park(&b->ring, b->at))
        wait = 0;
    (void)poll(fds, n_fds, (int)wait); /* EINTR: as if nothing had come */
    ring_unpark(&b->ring);
    b->now_ms = clock_ms();
    shm_store_u64(&b->slot->progress, b->slot->progress + 1);
}

static void turn(struct bridge *b, int signal_fd)
{
    struct pollfd fds[P_WIRE + WIRE_FDS_MAX] = {
        [P_BELL] = { b->region.bells[b->child->slot], POLLIN, 0 },
        [P_LIFE] = { b->child->life_fd, POLLIN, 0 },
        [P_SIGNAL] = { signal_fd, POLLIN, 0 },
    };
    uint64_t rung;

    sleep_until(b, fds, P_WIRE + b->wire->fds(b, fds + P_WIRE));
    if ((fds[P_BELL].revents & POLLIN) != 0 && read(fds[P_BELL].fd, &rung, sizeof rung) < 0)
        log_warning("bell_unreadable", "error=%s", strerror(errno));
    if ((fds[P_LIFE].revents & (POLLIN | POLLHUP)) != 0)
        b->stop = true;
    if ((fds[P_SIGNAL].revents & POLLIN) != 0)
        read_signals(b, signal_fd);
    b->wire->turn(b, fds + P_WIRE);
    ring_bells(&b->ring);
    follow_namespaces(b);
    walk(b);
    untold_turn(b);
    query_expire(b);
    ask_expire(b);
    ring_bells(&b->ring);
    b->wire->flush(b);
    count_add(b->row, COUNT_BELLS_RUNG, b->ring.bells_rung - b->row->counters[COUNT_BELLS_RUNG]);
    count_add(b->row, COUNT_BELLS_SPARED,
              b->ring.bells_spared - b->row->counters[COUNT_BELLS_SPARED]);
    shm_store_u64(&b->slot->redis_up, b->wire->is_up(b));
}

/* What has been said already goes out, if Redis is there; nothing new is. */
static void flush_last(struct bridge *b)
{
    uint64_t until_ms = b->now_ms + STOP_FLUSH_MS;

    while (b->wire->is_unsent(b) && b->now_ms < until_ms) {
        struct pollfd fds[WIRE_FDS_MAX];

        (void)poll(fds, b->wire->fds(b, fds), 50);
        b->now_ms = clock_ms();
        b->wire->finish(b, fds);
    }
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
    walk_to_end(b);
    flush_last(b);
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX; i++)
        free(b->queries[i].answer);
    ask_close(b);
    free(b->payload.bytes);
    free(b->message.bytes);
    free(b->scratch.bytes);
    free(b->record.bytes);
    free(b->pending.bytes);
    packer_close(&b->packer);
    b->wire->close(b);
    tls_context_free(b->tls);
    free(b);
    return 0;
}
