/* scale.c: very many live connections on one machine, with the clients on it.
 *
 *     scale                                             200,000 in rooms, with fan-out
 *     scale --clients=1000000 --workers=60 --procs=60 --rate=0 --members=0      a million, idle
 *
 * In a network namespace of its own it starts Peal and as many client processes as descriptors ask
 * for, connects Socket.IO clients and joins them to rooms; lets them rest for one ping interval,
 * which tells what heartbeats cost; publishes to rooms and to everybody for --intervals more; and
 * says where the memory is: by kind of process, and in the kernel by slab cache.
 * Owns:  the namespace, the server and the client processes.
 * Exit:  0; 1 when a connection was refused or closed, a delivery was lost or repeated, a client was
 *        not pinged, or --bar is exceeded; 2 when the run itself failed. */
#include <assert.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "lib/driver.h"
#include "lib/json_out.h"
#include "lib/machine.h"
#include "lib/proc.h"
#include "lib/scale_clients.h"
#include "lib/scale_counters.h"
#include "lib/scale_host.h"
#include "lib/scale_memory.h"
#include "lib/util.h"

#define TICK_MS     20
#define PROGRESS_NS NS_PER_S
#define DRAIN_NS    (20 * NS_PER_S)

static struct scale scale = {
    .options = { .clients = 200000,
                 .procs = 0,
                 .members = 100,
                 .payload = 128,
                 .parallel = 1024,
                 .rate = 200,
                 .announce_s = 30 },
};
static struct {
    uint32_t workers;
    uint32_t ping_interval_ms;
    uint32_t ping_timeout_ms;
    uint32_t intervals;
    uint32_t settle_ms;
    uint32_t timeout_s;
    double bar;
    const char *peal;
    struct opt_list peal_args;
} opt = { 12, 25000, 20000, 3, 3000, 900, 0, NULL, { .count = 0 } };

static const struct opt options[] = {
    { "clients", OPT_U32, &scale.options.clients, "connections (200000)" },
    { "workers", OPT_U32, &opt.workers, "peal's workers (12)" },
    { "procs", OPT_U32, &scale.options.procs, "client processes (as many as workers)" },
    { "members", OPT_U32, &scale.options.members,
      "of a room; each client is also in one of everybody; 0: no rooms (100)" },
    { "rate", OPT_F64, &scale.options.rate, "messages a second to rooms, 0: no fan-out (200)" },
    { "announce", OPT_F64, &scale.options.announce_s,
      "seconds between two messages to everybody, 0: none (30)" },
    { "payload", OPT_U32, &scale.options.payload, "bytes of text of a message, 17 to 8192 (128)" },
    { "ping-interval", OPT_U32, &opt.ping_interval_ms, "ms (25000)" },
    { "ping-timeout", OPT_U32, &opt.ping_timeout_ms, "ms (20000)" },
    { "intervals", OPT_U32, &opt.intervals, "ping intervals that all are held, with fan-out (3)" },
    { "settle", OPT_U32, &opt.settle_ms, "ms of rest before memory is measured (3000)" },
    { "parallel", OPT_U32, &scale.options.parallel,
      "handshakes at a time, all processes together, up to 4000 (1024)" },
    { "timeout", OPT_U32, &opt.timeout_s, "seconds for the whole run (900)" },
    { "bar", OPT_F64, &opt.bar, "exit 1 above this many bytes of the server per connection" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "peal-arg", OPT_LIST, &opt.peal_args, "one more argument for peal, repeatable" },
    { NULL, OPT_FLAG, NULL, NULL },
};

/* What a stretch of time cost. */
struct window {
    uint64_t began_ns;
    uint64_t ns;
    uint64_t server_ns;
    uint64_t clients_ns;
    uint64_t busy_ns; /* all CPUs, whoever it was for */
    uint64_t pings;
};

struct run {
    struct server server;
    struct driver clients;
    struct scale_host host;
    struct scale_memory fresh;
    struct scale_memory full;
    struct scale_memory end;
    struct window connect;
    struct window rest;
    struct window fanout;
    uint64_t deadline_ns;
    uint64_t tcp_queued_max; /* of those told with the progress */
    struct json json;
};

static struct scale_shared *shared(void)
{
    assert(scale.shared != NULL);
    return scale.shared;
}

static struct scale_counts *counts_of(uint32_t process)
{
    return &shared()->counts[process];
}

/* A counter over all client processes. */
static uint64_t sum_u64(size_t offset)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < scale.options.procs; i++)
        sum += atomic_load((_Atomic uint64_t *)(void *)((char *)counts_of(i) + offset));
    return sum;
}

static uint32_t sum_u32(size_t offset)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < scale.options.procs; i++)
        sum += atomic_load((_Atomic uint32_t *)(void *)((char *)counts_of(i) + offset));
    return sum;
}

#define SUM_U64(field) sum_u64(offsetof(struct scale_counts, field))
#define SUM_U32(field) sum_u32(offsetof(struct scale_counts, field))

static void tick(struct run *r)
{
    (void)poll(NULL, 0, TICK_MS);
    (void)driver_poll(&r->clients);
    if (r->clients.running < r->clients.count)
        die("a client process has ended early");
    if (now_ns() > r->deadline_ns)
        die("not done after %u s (--timeout); the server's log: %s", opt.timeout_s, r->server.log);
}

static uint64_t clients_cpu_ns(const struct run *r)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->clients.count; i++)
        sum += proc_cpu_ns(r->clients.pids[i]);
    return sum;
}

static void window_begin(struct run *r, struct window *w)
{
    *w = (struct window){ .began_ns = now_ns(),
                          .server_ns = proc_tree_cpu_ns(r->server.pid),
                          .clients_ns = clients_cpu_ns(r),
                          .busy_ns = proc_machine_busy_ns(),
                          .pings = SUM_U64(pings) };
}

static void window_end(struct run *r, struct window *w)
{
    w->ns = now_ns() - w->began_ns;
    w->server_ns = proc_tree_cpu_ns(r->server.pid) - w->server_ns;
    w->clients_ns = clients_cpu_ns(r) - w->clients_ns;
    w->busy_ns = proc_machine_busy_ns() - w->busy_ns;
    w->pings = SUM_U64(pings) - w->pings;
}

static void progress(struct run *r, const char *event)
{
    uint64_t queued = scale_memory_tcp_queued();

    if (queued > r->tcp_queued_max)
        r->tcp_queued_max = queued;
    json_begin(&r->json, event);
    json_u64(&r->json, "t_ms", (now_ns() - r->connect.began_ns) / NS_PER_MS);
    json_u64(&r->json, "opened", SUM_U32(opened));
    json_u64(&r->json, "joined", SUM_U32(joined));
    json_u64(&r->json, "closed", SUM_U32(closed));
    json_u64(&r->json, "pings", SUM_U64(pings));
    json_u64(&r->json, "received", SUM_U64(received));
    json_u64(&r->json, "tcp_queued_bytes", queued);
    json_print(&r->json);
}

/* Ticks for `ns`, or until `done`; says what goes on from time to time. */
static void watch(struct run *r, const char *event, uint64_t ns, bool (*done)(void))
{
    uint64_t end = now_ns() + ns;
    uint64_t next = now_ns() + PROGRESS_NS;

    while (now_ns() < end && !(done && done())) {
        tick(r);
        if (now_ns() >= next) {
            progress(r, event);
            next += PROGRESS_NS;
        }
    }
}

/* Those that are lost meanwhile make the run a failure, but are no reason to say nothing of the others. */
static bool all_tried(void)
{
    return SUM_U32(joined) + SUM_U32(closed) >= scale.options.clients;
}

static bool all_received(void)
{
    return SUM_U64(received) >= SUM_U64(expected);
}

static bool all_reported(void)
{
    return atomic_load(&shared()->reported) == scale.options.procs;
}

static void measure(struct run *r, struct scale_memory *m, const char *event)
{
    scale_memory_read(m, r->server.pid, &r->clients);
    json_begin(&r->json, event);
    json_u64(&r->json, "t_ms", (now_ns() - r->connect.began_ns) / NS_PER_MS);
    json_u64(&r->json, "server_pss_bytes", scale_memory_server(m));
    json_u64(&r->json, "clients_pss_bytes", scale_memory_clients(m));
    json_u64(&r->json, "slab_bytes", m->slab);
    json_u64(&r->json, "available_bytes", m->available);
    json_print(&r->json);
}

static void phase(enum scale_phase next)
{
    atomic_store(&shared()->phase, next);
}

/* Rest and fan-out, once all are there. */
static void hold(struct run *r)
{
    uint64_t interval_ns = opt.ping_interval_ms * NS_PER_MS;
    bool fanout = scale.options.rate > 0;

    watch(r, "settling", opt.settle_ms * NS_PER_MS, NULL);
    measure(r, &r->full, "measured");
    phase(SCALE_REST);
    window_begin(r, &r->rest);
    watch(r, "resting", interval_ns * (fanout ? 1 : opt.intervals), NULL);
    window_end(r, &r->rest);
    if (fanout) {
        phase(SCALE_FANOUT);
        window_begin(r, &r->fanout);
        watch(r, "publishing", interval_ns * opt.intervals, NULL);
        window_end(r, &r->fanout);
        phase(SCALE_DRAIN);
        watch(r, "draining", DRAIN_NS, all_received);
    }
    measure(r, &r->end, "measured");
    phase(SCALE_REPORT);
    watch(r, "reporting", DRAIN_NS, all_reported);
}

static void run_launch(struct run *r)
{
    struct server_options o = {
        .name = "peal", .binary = opt.peal, .socketio = true, .workers = opt.workers
    };
    struct opt_list args = opt.peal_args;
    char pings[2][48];

    (void)snprintf(pings[0], sizeof pings[0], "--ping_interval=%ums", opt.ping_interval_ms);
    (void)snprintf(pings[1], sizeof pings[1], "--ping_timeout=%ums", opt.ping_timeout_ms);
    for (uint32_t i = 0; i < 2; i++) {
        if (args.count == OPT_LIST_MAX)
            die("at most %d --peal-arg", OPT_LIST_MAX - 2);
        args.values[args.count++] = pings[i];
    }
    o.args = &args;
    server_launch(&r->server, &o);
    scale.options.port = r->server.port;
}

static void window_json(struct json *j, const char *key, const struct window *w)
{
    double seconds = (double)w->ns / 1e9;

    json_object(j, key);
    json_f64(j, "seconds", seconds);
    json_u64(j, "pings", w->pings);
    json_f64(j, "server_cpu_seconds", (double)w->server_ns / 1e9);
    json_f64(j, "client_cpu_seconds", (double)w->clients_ns / 1e9);
    /* What others took from us: with much of it the times below say little. */
    json_f64(j, "other_cpu_seconds",
             ((double)w->busy_ns - (double)w->server_ns - (double)w->clients_ns) / 1e9);
    json_f64(j, "server_cpu_seconds_per_second", (double)w->server_ns / (double)w->ns);
}

static void connect_json(struct json *j, const struct window *w)
{
    double n = SUM_U32(joined);

    window_json(j, "connect", w);
    json_f64(j, "per_second", n * 1e9 / (double)w->ns);
    json_f64(j, "per_server_cpu_second", n * 1e9 / (double)w->server_ns);
    json_end(j);
}

static void heartbeats_json(struct json *j, const struct window *w)
{
    static struct hist gaps;
    uint32_t least = UINT32_MAX;
    uint32_t most = 0;

    for (uint32_t i = 0; i < scale.options.procs; i++) {
        const struct scale_counts *c = counts_of(i);

        hist_merge(&gaps, &c->ping_gap);
        least = c->pings_min < least ? c->pings_min : least;
        most = c->pings_max > most ? c->pings_max : most;
    }
    window_json(j, "heartbeats", w);
    json_f64(j, "server_cpu_us_per_ping",
             w->pings ? (double)w->server_ns / 1e3 / (double)w->pings : 0);
    json_f64(j, "server_cpu_us_per_connection_and_second",
             (double)w->server_ns / 1e3 / scale.options.clients / ((double)w->ns / 1e9));
    json_u64(j, "pings_per_client_min", least);
    json_u64(j, "pings_per_client_max", most);
    hist_json(j, "between_two", &gaps);
    json_end(j);
}

static void fanout_json(struct json *j, const struct window *w)
{
    static struct hist rooms, beside, everybody;
    uint64_t received = SUM_U64(received);

    for (uint32_t i = 0; i < scale.options.procs; i++) {
        hist_merge(&rooms, &counts_of(i)->rooms);
        hist_merge(&beside, &counts_of(i)->beside);
        hist_merge(&everybody, &counts_of(i)->everybody);
    }
    window_json(j, "fanout", w);
    json_u64(j, "published", SUM_U64(sent));
    json_u64(j, "expected", SUM_U64(expected));
    json_u64(j, "received", received);
    json_u64(j, "foreign", SUM_U64(foreign));
    json_f64(j, "deliveries_per_second", (double)received * 1e9 / (double)w->ns);
    hist_json(j, "rooms", &rooms);
    hist_json(j, "rooms_beside_everybody", &beside);
    hist_json(j, "everybody", &everybody);
    json_end(j);
}

static void closes_json(struct json *j)
{
    char name[24];

    json_object(j, "closes");
    for (uint32_t i = 0; i < CAUSES; i++) {
        uint32_t n = atomic_load(&shared()->closes[i]);

        if (n > 0)
            json_u64(j, cause_name(i, name), n);
    }
    json_end(j);
}

/* Everybody connected, nobody closed, everything delivered once, everybody pinged in each interval
 * but, as the time between two is an interval and a round trip, one. */
static bool is_good(double bytes)
{
    uint32_t intervals = opt.intervals + (scale.options.rate > 0);

    for (uint32_t i = 0; i < scale.options.procs; i++) {
        if (counts_of(i)->pings_min + 1 < intervals)
            return false;
    }
    return SUM_U32(joined) == scale.options.clients && SUM_U32(closed) == 0 &&
           SUM_U64(foreign) == 0 && SUM_U64(received) == SUM_U64(expected) &&
           (opt.bar <= 0 || bytes <= opt.bar);
}

static int finish(struct run *r, bool held)
{
    double bytes =
        ((double)scale_memory_server(&r->full) - (double)scale_memory_server(&r->fresh)) /
        scale.options.clients;
    bool ok = held && is_good(bytes);
    struct json *j = &r->json;

    json_begin(j, "result");
    json_text(j, "bench", "scale");
    machine_json(j);
    scale_host_json(j, &r->host);
    json_u64(j, "clients", scale.options.clients);
    json_u64(j, "workers", opt.workers);
    json_u64(j, "procs", scale.options.procs);
    json_u64(j, "members", scale.options.members);
    json_u64(j, "ping_interval_ms", opt.ping_interval_ms);
    json_u64(j, "opened", SUM_U32(opened));
    json_u64(j, "joined", SUM_U32(joined));
    json_u64(j, "closed", SUM_U32(closed));
    closes_json(j);
    scale_counters_server(j, r->server.admin_port);
    scale_counters_tcp(j);
    connect_json(j, &r->connect);
    if (held)
        heartbeats_json(j, &r->rest);
    if (held && scale.options.rate > 0)
        fanout_json(j, &r->fanout);
    if (held) {
        json_f64(j, "server_bytes_per_connection", bytes);
        scale_memory_json(j, "memory", &r->full, &r->fresh, scale.options.clients);
        scale_memory_json(j, "memory_at_end", &r->end, &r->fresh, scale.options.clients);
    }
    json_u64(j, "tcp_queued_bytes_max", r->tcp_queued_max);
    json_f64(j, "bar", opt.bar);
    json_text(j, "server_log", r->server.log);
    json_bool(j, "ok", ok);
    json_print(j);
    phase(SCALE_END);
    (void)driver_join(&r->clients, now_ns() + 60 * NS_PER_S);
    server_stop(r->server.pid);
    return ok ? 0 : 1;
}

static void options_check(void)
{
    struct scale_options *o = &scale.options;

    if (o->procs == 0)
        o->procs = opt.workers;
    if (o->clients == 0 || o->clients > 4000000)
        die("--clients = %u: 1 to 4000000", o->clients);
    if (opt.workers == 0 || opt.workers > 62)
        die("--workers = %u: 1 to 62", opt.workers);
    if (o->procs > DRIVER_PROCESSES_MAX || o->procs > o->clients)
        die("--procs = %u: at most %u, and one client each", o->procs, DRIVER_PROCESSES_MAX);
    if (o->payload < SCALE_PAYLOAD_MIN || o->payload > SCALE_PAYLOAD_MAX)
        die("--payload = %u: %u to %u", o->payload, SCALE_PAYLOAD_MIN, SCALE_PAYLOAD_MAX);
    if (o->parallel == 0 || o->parallel > 4000)
        die("--parallel = %u: 1 to 4000, which is what waits at a listener", o->parallel);
    if (o->rate > 0 && o->members == 0)
        die("--members = 0: there are no rooms to publish to, take --rate=0");
    if (o->rate > 100000 || o->announce_s > 86400)
        die("--rate is at most 100000, --announce at most 86400");
    if (opt.ping_interval_ms < 50 || opt.ping_timeout_ms < 50 || opt.intervals == 0)
        die("--ping-interval and --ping-timeout are at least 50 ms, --intervals at least 1");
}

int main(int argc, char **argv)
{
    static struct run r;
    bool connected;

    if (opt_parse(options, "scale: very many live connections, both ends on this machine", argc,
                  argv))
        die("options only");
    options_check();
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        die("signal");
    r.deadline_ns = now_ns() + opt.timeout_s * NS_PER_S;
    scale_host_check(&r.host, scale.options.clients, opt.workers, scale.options.procs);
    scale.options.procs = driver_processes_for(scale.options.clients, scale.options.procs);
    scale_host_enter(scale.options.clients);
    scale.shared = driver_share(sizeof *scale.shared);
    run_launch(&r);
    (void)poll(NULL, 0, (int)opt.settle_ms);
    scale_memory_read(&r.fresh, r.server.pid, NULL);
    window_begin(&r, &r.connect); /* no client has used any time */
    driver_fork(&r.clients, scale.options.procs, scale_client_main, &scale);
    watch(&r, "connecting", UINT64_MAX / 2, all_tried);
    window_end(&r, &r.connect);
    connected = SUM_U32(joined) > 0;
    progress(&r, "connected");
    if (connected)
        hold(&r);
    return finish(&r, connected);
}
