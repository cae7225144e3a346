/* metrics.c: see metrics.h. One function per family that is more than a counter summed over all
 * rows; those are in the table `plain`. */
#include "admin/metrics.h"

#include <stdio.h>
#include "shm/atomic.h"
#include "shm/counters.h"
#include "shm/namespaces.h"

extern const char peal_version[]; /* made by the Makefile, in one object only */

struct scrape {
    struct metrics *metrics;
    const struct region *region;
    const struct ring *ring;
    struct counters_sum sum;
    uint64_t now_us;
    struct page *out;
};

typedef unsigned long long ull;

static const struct shm_slot *slot_at(const struct scrape *s, uint32_t slot)
{
    return &s->region->header->slots[slot];
}

static uint64_t row_gauge(const struct region *region, uint32_t slot, enum gauge which)
{
    return shm_load_u64(&region->counters[slot].gauges[which]);
}

static void family(struct scrape *s, const char *name, const char *type, const char *help)
{
    page_printf(s->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(struct scrape *s, const char *name, uint64_t value)
{
    page_printf(s->out, "%s %llu\n", name, (ull)value);
}

static void single(struct scrape *s, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    family(s, name, type, help);
    sample(s, name, value);
}

static void labelled(struct scrape *s, const char *name, const char *label, const char *value,
                     uint64_t n)
{
    page_printf(s->out, "%s{%s=\"%s\"} %llu\n", name, label, value, (ull)n);
}

static void seconds(struct scrape *s, const char *name, const char *type, const char *help,
                    uint64_t us)
{
    family(s, name, type, help);
    page_printf(s->out, "%s %llu.%06llu\n", name, (ull)(us / 1000000), (ull)(us % 1000000));
}

/* --- by worker --- */

static void by_worker(struct scrape *s, const char *name, const char *type, const char *help,
                      uint64_t (*value)(const struct scrape *s, uint32_t slot))
{
    family(s, name, type, help);
    for (uint32_t i = 0; i < s->region->header->n_workers; i++)
        page_printf(s->out, "%s{worker=\"%u\"} %llu\n", name, i, (ull)value(s, i));
}

static uint64_t worker_accepted(const struct scrape *s, uint32_t slot)
{
    return s->sum.accepted[slot];
}

static uint64_t worker_pending(const struct scrape *s, uint32_t slot)
{
    return shm_load_u32(&slot_at(s, slot)->n_pending);
}

static uint64_t worker_rooms(const struct scrape *s, uint32_t slot)
{
    return row_gauge(s->region, slot, GAUGE_ROOMS);
}

static uint64_t worker_outq(const struct scrape *s, uint32_t slot)
{
    return row_gauge(s->region, slot, GAUGE_OUTQ_BYTES);
}

static uint64_t worker_deflate(const struct scrape *s, uint32_t slot)
{
    return row_gauge(s->region, slot, GAUGE_DEFLATE_CLIENTS);
}

static void write_connections(struct scrape *s)
{
    static const char *const transports[] = { "websocket", "polling" };
    const uint32_t n_workers = s->region->header->n_workers;

    family(s, "peal_connections", "gauge",
           "Clients (WebSockets and Engine.IO sessions) open now, by worker slot and transport.");
    for (uint32_t i = 0; i < n_workers; i++) {
        for (uint32_t t = 0; t < 2; t++)
            page_printf(
                s->out, "peal_connections{worker=\"%u\",transport=\"%s\"} %llu\n", i, transports[t],
                (ull)row_gauge(s->region, i, (enum gauge)(GAUGE_CONNECTIONS_WEBSOCKET + t)));
    }
    family(s, "peal_connections_limit", "gauge", "Clients that a worker may have.");
    for (uint32_t i = 0; i < n_workers; i++) {
        uint32_t limit = slot_at(s, i)->max_connections;

        if (limit == 0)
            page_printf(s->out, "peal_connections_limit{worker=\"%u\"} +Inf\n", i);
        else
            page_printf(s->out, "peal_connections_limit{worker=\"%u\"} %u\n", i, limit);
    }
    by_worker(s, "peal_connections_accepted_total", "counter",
              "Clients that became one, by worker slot.", worker_accepted);
    by_worker(s, "peal_pending_connections", "gauge",
              "TCP sockets that are not yet, or not any more, part of a client.", worker_pending);
}

static void write_refused(struct scrape *s)
{
    static const char *const reasons[] = { "host_limit", "worker_limit", "ip_limit", "rate",
                                           "pending",    "memory",       "draining", "origin" };
    static const char name[] = "peal_connections_refused_total";

    _Static_assert(sizeof reasons / sizeof reasons[0] ==
                       COUNT_REFUSED_ORIGIN - COUNT_REFUSED_HOST_LIMIT + 1,
                   "a name for each");
    family(s, name, "counter", "Connections that were not let in, by reason.");
    for (uint32_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        labelled(s, name, "reason", reasons[i], s->sum.counters[COUNT_REFUSED_HOST_LIMIT + i]);
}

static void write_proxy_headers(struct scrape *s)
{
    static const char *const reasons[] = { "missing", "malformed", "timeout" };
    static const char name[] = "peal_proxy_headers_refused_total";

    family(s, name, "counter",
           "Connections closed because they did not begin with a PROXY header, by what was wrong.");
    for (uint32_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        labelled(s, name, "reason", reasons[i], s->sum.counters[COUNT_PROXY_MISSING + i]);
}

static void write_closes(struct scrape *s)
{
    family(s, "peal_closes_total", "counter", "Clients that ended, by reason.");
    for (uint32_t i = 0; i < CLOSE_REASONS; i++)
        labelled(s, "peal_closes_total", "reason", close_reason_name((enum close_reason)i),
                 s->sum.counters[COUNT_CLOSE_FIRST + i]);
}

static void write_recoveries(struct scrape *s)
{
    family(s, "peal_recoveries_total", "counter",
           "Clients that wanted their session back and got it, or why they did not.");
    for (uint32_t i = 0; i < RECOVERY_RESULTS; i++)
        labelled(s, "peal_recoveries_total", "result",
                 recovery_result_name((enum recovery_result)i),
                 s->sum.counters[COUNT_RECOVERY_FIRST + i]);
}

static void write_forward(struct scrape *s)
{
    family(s, "peal_forward_total", "counter",
           "What became of clients and events of app = forward, by result.");
    for (uint32_t i = 0; i < FORWARD_RESULTS; i++)
        labelled(s, "peal_forward_total", "result", forward_result_name((enum forward_result)i),
                 s->sum.counters[COUNT_FORWARD_FIRST + i]);
}

static void write_deflate(struct scrape *s)
{
    static const char bytes[] = "peal_deflate_bytes_total";
    static const char skipped[] = "peal_deflate_skipped_total";
    static const char failed[] = "peal_inflate_errors_total";

    if (!s->region->config->deflate)
        return;
    by_worker(s, "peal_deflate_clients", "gauge",
              "WebSocket clients that take compressed messages, by worker slot.", worker_deflate);
    single(s, "peal_deflate_copies_total", "counter",
           "Messages that were compressed, once each for all clients of this host.",
           s->sum.counters[COUNT_DEFLATE_COPIES]);
    family(s, bytes, "counter", "Bytes of those messages before and after.");
    labelled(s, bytes, "form", "plain", s->sum.counters[COUNT_DEFLATE_PLAIN_BYTES]);
    labelled(s, bytes, "form", "deflated", s->sum.counters[COUNT_DEFLATE_PACKED_BYTES]);
    seconds(s, "peal_deflate_seconds_total", "counter", "Time spent compressing.",
            s->sum.counters[COUNT_DEFLATE_US]);
    family(s, skipped, "counter",
           "Messages long enough to be compressed that went as they are, by reason.");
    for (uint32_t i = 0; i < DEFLATE_SKIPS; i++)
        labelled(s, skipped, "reason", deflate_skip_name((enum deflate_skip)i),
                 s->sum.counters[COUNT_DEFLATE_SKIPPED_FIRST + i]);
    single(s, "peal_inflated_total", "counter", "Compressed messages of clients.",
           s->sum.counters[COUNT_INFLATED]);
    family(s, failed, "counter",
           "Clients closed because of a compressed message, by what was wrong with it.");
    for (uint32_t i = 0; i < INFLATE_FAILURES; i++)
        labelled(s, failed, "reason", inflate_failure_name((enum inflate_failure)i),
                 s->sum.counters[COUNT_INFLATE_FAILED_FIRST + i]);
}

static void write_connects_refused(struct scrape *s)
{
    static const char name[] = "peal_connects_refused_total";

    family(s, name, "counter",
           "CONNECTs to namespaces that were answered with an error, by reason.");
    for (uint32_t i = 0; i < CONNECT_REFUSALS; i++)
        labelled(s, name, "reason", connect_refusal_name((enum connect_refusal)i),
                 s->sum.counters[COUNT_CONNECT_REFUSED_FIRST + i]);
}

/* --- namespaces --- */

static uint64_t namespace_sockets(const struct region *region, uint32_t index)
{
    uint64_t n = 0;

    for (uint32_t row = 0; row < PEAL_SLOTS_ALL; row++)
        n += shm_load_u32(&region->counters[row].sockets[index]);
    return n;
}

/* The label of a name, made if it has none yet; NAMESPACES_NAMED: `other`. */
static uint16_t label_of(struct metrics *m, struct slice name)
{
    struct metrics_label *label;

    for (uint32_t i = 0; i < m->n_labels; i++)
        if (slice_equal(slice_of(m->labels[i].name, m->labels[i].n_bytes), name))
            return (uint16_t)i;
    if (m->n_labels == NAMESPACES_NAMED)
        return NAMESPACES_NAMED;
    label = &m->labels[m->n_labels];
    label->n_bytes = name.n_bytes;
    memcpy(label->name, name.bytes, name.n_bytes);
    return (uint16_t)m->n_labels++;
}

void metrics_init(struct metrics *m, const struct region *region)
{
    const struct config *c = region->config;

    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < c->n_namespaces; i++) /* those have been there from the start */
        if (!c->namespaces[i].is_prefix)
            (void)label_of(m, slice_text(c->namespaces[i].name));
}

/* Adds the sockets of one namespace to its label. An index that is another name's meanwhile had no sockets. */
static void add_sockets(struct scrape *s, uint32_t index, uint64_t n_of[NAMESPACES_NAMED + 1])
{
    struct metrics *m = s->metrics;
    struct namespace_copy name;
    uint64_t n;

    if (!namespace_copy(s->region, index, &name))
        return;
    n = namespace_sockets(s->region, index);
    if (n == 0 || namespace_life(s->region, index) != name.life)
        return;
    if (m->life[index] != name.life) {
        m->life[index] = name.life;
        m->label[index] = label_of(m, slice_of(name.name, name.n_bytes));
    }
    n_of[m->label[index]] += n;
}

static void write_sockets(struct scrape *s)
{
    static const char name[] = "peal_sockets";
    struct metrics *m = s->metrics;
    uint64_t n_of[NAMESPACES_NAMED + 1] = { 0 };

    family(s, name, "gauge",
           "Socket.IO sockets, and plain clients under /ws, by namespace: the first 100, then "
           "other.");
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++)
        add_sockets(s, i, n_of);
    for (uint32_t i = 0; i < m->n_labels; i++) {
        struct metrics_label *label = &m->labels[i];

        label->was_used = label->was_used || n_of[i] > 0;
        if (!label->was_used)
            continue;
        page_printf(s->out, "%s{namespace=\"", name);
        page_put_label(s->out, slice_of(label->name, label->n_bytes));
        page_printf(s->out, "\"} %llu\n", (ull)n_of[i]);
    }
    m->others = m->others || n_of[NAMESPACES_NAMED] > 0;
    if (m->others)
        labelled(s, name, "namespace", "other", n_of[NAMESPACES_NAMED]);
}

/* --- counters that need no more than their sum --- */

static const struct {
    const char *name;
    const char *help;
    enum counter counter;
} plain[] = {
    { "peal_messages_received_total", "Messages from clients.", COUNT_MESSAGES_RECEIVED },
    { "peal_events_unhandled_total", "Events of clients that no application took.",
      COUNT_EVENTS_UNHANDLED },
    { "peal_deliveries_total", "Messages handed to the kernel for clients.", COUNT_DELIVERIES },
    { "peal_sends_total", "Send requests; one may hold several messages.", COUNT_SENDS },
    { "peal_bytes_received_total", "Bytes received from clients.", COUNT_BYTES_RECEIVED },
    { "peal_bytes_sent_total", "Bytes handed to the kernel for clients.", COUNT_BYTES_SENT },
    { "peal_ring_records_total", "Records appended to the ring.", COUNT_RING_RECORDS },
    { "peal_ring_lapped_total", "Records that were overwritten before somebody had read them.",
      COUNT_RING_LAPPED },
    { "peal_bells_rung_total", "Processes that were woken for a record.", COUNT_BELLS_RUNG },
    { "peal_bells_spared_total", "Processes that did not have to be woken.", COUNT_BELLS_SPARED },
    { "peal_ws_dropped_total", "Events for plain clients that are not a single message, dropped.",
      COUNT_WS_DROPPED },
    { "peal_inbound_evicted_total",
      "Clients closed because half-received messages were over inbound_bytes_total.",
      COUNT_INBOUND_EVICTED },
    { "peal_sends_short_total", "Sends that a full socket took in part.", COUNT_SEND_SHORT },
    { "peal_sends_blocked_total", "Sends that a full socket did not take.", COUNT_SEND_AGAIN },
    { "peal_uring_enters_total", "System calls of the workers' loops.", COUNT_ENTERS },
    { "peal_drain_forced_total", "Clients that were left when drain_timeout had passed.",
      COUNT_FORCED_CLOSES },
};

static void write_plain(struct scrape *s)
{
    for (uint32_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        single(s, plain[i].name, "counter", plain[i].help, s->sum.counters[plain[i].counter]);
    family(s, "peal_session_unknown_total", "counter",
           "Requests with a session id that is not known, by cause.");
    labelled(s, "peal_session_unknown_total", "cause", "malformed",
             s->sum.counters[COUNT_SESSION_UNKNOWN_MALFORMED]);
    labelled(s, "peal_session_unknown_total", "cause", "other_host",
             s->sum.counters[COUNT_SESSION_UNKNOWN_OTHER_HOST]);
    labelled(s, "peal_session_unknown_total", "cause", "ended",
             s->sum.counters[COUNT_SESSION_UNKNOWN_ENDED]);
    family(s, "peal_slow_consumers_total", "counter",
           "Clients that did not read fast enough, by what was done to them.");
    labelled(s, "peal_slow_consumers_total", "action", "close", s->sum.counters[COUNT_SLOW_CLOSE]);
    labelled(s, "peal_slow_consumers_total", "action", "drop", s->sum.counters[COUNT_SLOW_DROP]);
    family(s, "peal_handoffs_total", "counter",
           "Connections passed from one process to another, by kind.");
    labelled(s, "peal_handoffs_total", "kind", "placement",
             s->sum.counters[COUNT_HANDOFF_PLACEMENT]);
    labelled(s, "peal_handoffs_total", "kind", "request", s->sum.counters[COUNT_HANDOFF_REQUEST]);
}

/* --- histograms --- */

static void histogram(struct scrape *s, enum histogram which, const char *name, const char *help)
{
    const struct shm_histogram *h = &s->sum.histograms[which];
    uint64_t n = 0;

    family(s, name, "histogram", help);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        n += h->buckets[i];
        page_printf(s->out, "%s_bucket{le=\"%.9g\"} %llu\n", name, (double)(10ull << i) / 1e6,
                    (ull)n);
    }
    n += h->buckets[HISTOGRAM_BUCKETS - 1];
    page_printf(s->out, "%s_bucket{le=\"+Inf\"} %llu\n", name, (ull)n);
    page_printf(s->out, "%s_sum %llu.%06llu\n%s_count %llu\n", name, (ull)(h->sum_us / 1000000),
                (ull)(h->sum_us % 1000000), name, (ull)n);
}

static void write_histograms(struct scrape *s)
{
    histogram(s, HISTOGRAM_BROADCAST, "peal_broadcast_seconds",
              "From the append of a broadcast to the end of a worker's sweep over it.");
    histogram(s, HISTOGRAM_PING_RTT, "peal_ping_rtt_seconds",
              "From a ping to the client's answer.");
    histogram(s, HISTOGRAM_LOOP, "peal_loop_seconds",
              "Turns of the workers' loops, without the time asleep.");
}

/* --- the ring and the processes --- */

uint64_t metrics_lag_bytes(const struct region *region, uint32_t slot)
{
    /* The cursor first: the tail read after it cannot be behind it. */
    uint64_t cursor = shm_load_acquire_u64(&region->header->slots[slot].cursor);
    uint64_t tail = shm_load_acquire_u64(&region->header->ring.tail);

    return tail > cursor ? (tail - cursor) * RING_UNIT_BYTES : 0;
}

bool metrics_slot_serves(const struct region *region, uint32_t slot)
{
    const struct shm_slot *s = &region->header->slots[slot];

    return shm_load_acquire_u32(&s->state) == SLOT_LIVE &&
           shm_load_u64(&s->ready_generation) == shm_load_u32(&s->generation);
}

static void write_lag(struct scrape *s)
{
    static const char name[] = "peal_ring_lag_bytes";
    char process[16];

    family(s, name, "gauge",
           "Bytes of the ring that a consumer (worker slot, or bridge) has not taken in yet.");
    for (uint32_t i = 0; i < s->region->header->n_workers; i++) {
        uint32_t state = shm_load_acquire_u32(&slot_at(s, i)->state);

        if (state != SLOT_STARTING && state != SLOT_LIVE)
            continue; /* nobody there who could lag */
        snprintf(process, sizeof process, "%u", i);
        labelled(s, name, "process", process, metrics_lag_bytes(s->region, i));
    }
    if (s->region->config->redis.enabled)
        labelled(s, name, "process", "bridge", metrics_lag_bytes(s->region, PEAL_SLOT_BRIDGE));
}

static void write_memory(struct scrape *s)
{
    static const char name[] = "peal_memory_bytes";
    const struct shm_header *h = s->region->header;
    const uint64_t ring = h->ring.units * RING_UNIT_BYTES;
    const uint64_t commits = h->ring.units * sizeof(uint64_t);
    uint64_t outq = 0, inbound = 0;

    for (uint32_t i = 0; i < h->n_workers; i++) {
        outq += row_gauge(s->region, i, GAUGE_OUTQ_BYTES);
        inbound += row_gauge(s->region, i, GAUGE_INBOUND_BYTES);
    }
    family(s, name, "gauge",
           "Memory by kind: ring, commits (a word per unit of it), tables (the rest of the shared "
           "region) and receive_buffers are fixed at start, outq and inbound are held now.");
    labelled(s, name, "kind", "ring", ring);
    labelled(s, name, "kind", "commits", commits);
    labelled(s, name, "kind", "tables", h->region_bytes - ring - commits);
    labelled(s, name, "kind", "receive_buffers", (uint64_t)h->n_workers * RECEIVE_BYTES_WORKER);
    labelled(s, name, "kind", "outq", outq);
    labelled(s, name, "kind", "inbound", inbound);
}

static void write_state(struct scrape *s)
{
    const struct shm_header *h = s->region->header;

    by_worker(s, "peal_rooms", "gauge", "Rooms with members on this worker.", worker_rooms);
    by_worker(s, "peal_outq_bytes", "gauge",
              "Bytes held for clients that are slower than their messages come.", worker_outq);
    write_lag(s);
    single(s, "peal_ring_voids_total", "counter",
           "Holes that dead producers left in the ring, filled by the master.",
           shm_load_u64(&h->voids_total));
    seconds(s, "peal_history_seconds", "gauge",
            "Age of the oldest record that the ring still holds.",
            metrics_history_us(s->ring, s->now_us));
    single(s, "peal_worker_restarts_total", "counter", "Workers that were started again.",
           shm_load_u64(&h->restarts_total));
    single(s, "peal_draining", "gauge", "1 while this host is being emptied.",
           shm_load_acquire_u32(&h->draining) != DRAIN_NO);
    write_memory(s);
}

static void write_redis(struct scrape *s)
{
    static const char dropped[] = "peal_redis_dropped_total";
    static const char truncated[] = "peal_redis_answers_truncated_total";
    static const char *const reasons[] = { "undecodable", "too_big", "disconnected", "buffer",
                                           "lapped",      "expired", "refused" };
    const struct shm_slot *bridge = slot_at(s, PEAL_SLOT_BRIDGE);

    _Static_assert(sizeof reasons / sizeof reasons[0] ==
                       COUNT_REDIS_DROPPED_REFUSED - COUNT_REDIS_DROPPED_UNDECODABLE + 1,
                   "a name for each");
    if (!s->region->config->redis.enabled)
        return;
    single(s, "peal_redis_up", "gauge",
           "1 while both connections to Redis are up and a probe has come through both.",
           shm_load_acquire_u64(&bridge->redis_up) != 0);
    seconds(s, "peal_redis_lag_seconds", "gauge",
            "Time that the last probe took through Redis and back.",
            shm_load_u64(&bridge->redis_lag_us));
    family(s, dropped, "counter", "Messages to or from Redis that were dropped, by reason.");
    for (uint32_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        labelled(s, dropped, "reason", reasons[i],
                 s->sum.counters[COUNT_REDIS_DROPPED_UNDECODABLE + i]);
    family(s, truncated, "counter", "Answers to cluster queries cut at redis_answer_max_bytes.");
    labelled(s, truncated, "type", "sockets", s->sum.counters[COUNT_REDIS_TRUNCATED_SOCKETS]);
    labelled(s, truncated, "type", "rooms", s->sum.counters[COUNT_REDIS_TRUNCATED_ROOMS]);
    single(s, "peal_redis_published_total", "counter", "Messages that Redis has taken.",
           s->sum.counters[COUNT_REDIS_PUBLISHED]);
    single(s, "peal_redis_received_total", "counter", "Messages received from Redis.",
           s->sum.counters[COUNT_REDIS_RECEIVED]);
    if (s->region->config->redis_sharded)
        single(s, "peal_redis_rooms_unheard_total", "counter",
               "Rooms that got no channel of their own, for want of places.",
               s->sum.counters[COUNT_REDIS_ROOMS_UNHEARD]);
    single(s, "peal_redis_unwanted_total", "counter",
           "Messages received from Redis for rooms without members here, dropped undecoded.",
           s->sum.counters[COUNT_REDIS_UNWANTED]);
}

static void write_process(struct scrape *s)
{
    uint64_t open, max, started_ms = s->region->header->started_ms;

    metrics_descriptors(s->region, &open, &max);
    single(s, "process_open_fds", "gauge", "Open descriptors, of all Peal processes together.",
           open);
    single(s, "process_max_fds", "gauge",
           "Limits of open descriptors, of all Peal processes together.", max);
    family(s, "process_start_time_seconds", "gauge",
           "When this Peal was started, in seconds since 1970.");
    page_printf(s->out, "process_start_time_seconds %llu.%03llu\n", (ull)(started_ms / 1000),
                (ull)(started_ms % 1000));
    family(s, "peal_build_info", "gauge", "1; the version is in the label.");
    page_printf(s->out, "peal_build_info{version=\"");
    page_put_label(s->out, slice_text(peal_version));
    page_printf(s->out, "\"} 1\n");
}

void metrics_write(struct metrics *m, const struct ring *ring, uint64_t now_us, struct page *out)
{
    struct scrape s = {
        .metrics = m, .region = ring->region, .ring = ring, .now_us = now_us, .out = out
    };

    counters_read(s.region, &s.sum);
    write_connections(&s);
    write_refused(&s);
    write_proxy_headers(&s);
    write_closes(&s);
    write_recoveries(&s);
    write_forward(&s);
    write_connects_refused(&s);
    write_deflate(&s);
    write_sockets(&s);
    write_plain(&s);
    write_state(&s);
    write_histograms(&s);
    write_redis(&s);
    write_process(&s);
}
