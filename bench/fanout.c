/* fanout.c: what one delivery costs: Peal against the bare loops, interleaved in one run.
 *
 * Every side has a server of its own and client processes of its own, all connected for the
 * whole run, and takes its turn A/B/A/B. A round lasts until its server has used `round-cpu`
 * seconds of user and system time, all its processes together. The payload is the whole
 * WebSocket message, so that all sides write equal bytes. Closed loop: --in-flight=W sends
 * message k when all members have message k - W; --pending=W writes W messages in one go when
 * all members have all. Every frame is checked (length and sequence): a loss voids the run.
 *
 * Owns:  the servers and the client processes; all end with this one.
 * Exit:  0, 1 when --bar is missed, 2 when the run is void. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/hist.h"
#include "lib/machine.h"
#include "lib/proc.h"
#include "lib/util.h"

#define SIDES_MAX  4u
#define ROUNDS_MAX 64u
#define WINDOW \
    1024u /* messages that may be under way; --in-flight and --pending stay below half of it */
#define WINDOW_USED_MAX 512u
#define SEQ_DIGITS      8u
#define STAMP_CHARS     (SEQ_DIGITS + 1 + 16 + 1) /* "SEQ.NANOSECONDS." */
#define PAYLOAD_MAX     4096u

static struct {
    uint32_t members;
    uint32_t payload;
    uint32_t in_flight;
    uint32_t pending;
    uint32_t rounds;
    uint32_t workers;
    uint32_t procs;
    uint32_t server_cpus; /* masks */
    uint32_t client_cpus;
    uint32_t round_seconds_max;
    double round_cpu;
    double bar;
    const char *sides;
    const char *dialect;
    const char *peal;
    struct opt_list peal_args;
} opt = { 1000, 128,           1, 0, 5, 1, 0, 1, 1, 60, 2.0, 0, "peal,bare_send", "plain",
          NULL, { .count = 0 } };

static const struct opt options[] = {
    { "members", OPT_U32, &opt.members, "members of the room beside the publisher (1000)" },
    { "payload", OPT_U32, &opt.payload, "bytes of a WebSocket message as members get it (128)" },
    { "in-flight", OPT_U32, &opt.in_flight, "messages on their way at any time (1)" },
    { "pending", OPT_U32, &opt.pending,
      "instead: messages written in one go, next when all have all" },
    { "rounds", OPT_U32, &opt.rounds, "rounds of each side (5)" },
    { "round-cpu", OPT_F64, &opt.round_cpu, "server CPU seconds of a round (2)" },
    { "round-seconds-max", OPT_U32, &opt.round_seconds_max,
      "and at most this long by the clock (60)" },
    { "sides", OPT_TEXT, &opt.sides,
      "comma-separated: peal, bare_send, bare_uring; the ratio is first : second" },
    { "dialect", OPT_TEXT, &opt.dialect,
      "plain or socketio: how peal is spoken to; bare servers: plain" },
    { "workers", OPT_U32, &opt.workers, "peal's workers (1)" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "peal-arg", OPT_LIST, &opt.peal_args, "one more argument for peal, repeatable" },
    { "procs", OPT_U32, &opt.procs, "client processes of a side (as few as can hold them)" },
    { "server-cpus", OPT_U32, &opt.server_cpus, "CPU mask of the servers (1; 0: any)" },
    { "client-cpus", OPT_U32, &opt.client_cpus,
      "CPU mask of the clients (1, the servers': what waking another core costs is not the "
      "server's; "
      "0: all others)" },
    { "bar", OPT_F64, &opt.bar, "exit 1 when the ratio is below this" },
    { NULL, OPT_FLAG, NULL, NULL },
};

/* Shared by the parent and the clients of one side. Message numbers only grow. */
struct side_shared {
    _Atomic uint32_t processes_ready;
    _Atomic uint32_t failed;
    _Atomic uint32_t run;
    _Atomic uint32_t record; /* latencies are taken */
    _Atomic uint64_t published;
    _Atomic uint64_t completed;
    _Atomic uint32_t processes_done[WINDOW]; /* by message: processes whose members all have it */
    struct hist latency[DRIVER_PROCESSES_MAX];
};

struct side {
    char name[16];
    enum dialect dialect;
    struct server server;
    struct side_shared *shared;
    struct driver clients;
    uint32_t n_procs;
    int wake; /* eventfd: the publisher has something to do */
    double rates[ROUNDS_MAX];
    double cpu_seconds[ROUNDS_MAX];
    uint64_t messages[ROUNDS_MAX];
};

/* One client process. Client 0 of process 0 is the publisher. */
struct group {
    struct side *side;
    struct engine engine;
    uint32_t index;
    uint32_t members;
    uint32_t joined;
    uint64_t *received;          /* by client */
    uint32_t local_done[WINDOW]; /* by message: members here that have it */
    uint64_t digits_of;          /* the number in `digits` */
    char digits[SEQ_DIGITS + 1];
    size_t stamp_at;      /* offset of the stamp in what on_message gets */
    size_t message_bytes; /* length of what on_message gets */
    char publish[PAYLOAD_MAX + 64];
    size_t publish_bytes;
    size_t publish_stamp_at;
};

static void side_fail(struct group *g, const char *why)
{
    if (atomic_exchange(&g->side->shared->failed, 1) == 0)
        (void)fprintf(stderr, "fanout: %s: %s\n", g->side->name, why);
}

static bool is_publisher(const struct group *g, const struct client *c)
{
    return g->index == 0 && c->id == 0;
}

static void signal_publisher(const struct side *s)
{
    uint64_t one = 1;

    if (write(s->wake, &one, sizeof one) != sizeof one)
        die("eventfd: %s", strerror(errno));
}

static void on_joined(struct group *g)
{
    if (++g->joined == g->engine.n_clients)
        atomic_fetch_add(&g->side->shared->processes_ready, 1);
}

static void on_open(struct engine *e, struct client *c)
{
    static const char join[] = "21[\"join\",\"r\"]";

    if (e->config.dialect == DIALECT_PLAIN)
        on_joined(e->config.ctx);
    else
        (void)client_send(e, c, join, sizeof join - 1);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    char name[24];
    char why[128];

    (void)snprintf(why, sizeof why, "client %u was closed (%s) %s", c->id,
                   cause_name(c->cause, name), was_open ? "in the run" : "before it was open");
    side_fail(e->config.ctx, why);
}

/* A member here has message `seq`; the last one here tells the publisher. */
static void count_done(struct group *g, uint64_t seq)
{
    struct side_shared *s = g->side->shared;

    if (++g->local_done[seq % WINDOW] < g->members)
        return;
    g->local_done[seq % WINDOW] = 0;
    if (atomic_fetch_add(&s->processes_done[seq % WINDOW], 1) + 1 < g->side->n_procs)
        return;
    atomic_store(&s->processes_done[seq % WINDOW], 0);
    atomic_store(&s->completed, seq + 1);
    if (g->index != 0)
        signal_publisher(g->side);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct group *g = e->config.ctx;
    uint64_t seq = g->received[c->id];
    uint64_t sent;

    if (e->config.dialect == DIALECT_SOCKETIO && n >= 2 && data[0] == '3' &&
        g->received[c->id] == 0) {
        on_joined(g);
        return;
    }
    if (g->digits_of != seq) {
        g->digits_of = seq;
        (void)snprintf(g->digits, sizeof g->digits, "%08" PRIu32, (uint32_t)(seq % 100000000));
    }
    if (binary || is_publisher(g, c) || n != g->message_bytes ||
        memcmp(data + g->stamp_at, g->digits, SEQ_DIGITS) != 0) {
        side_fail(g, "a member got what it was not to get next");
        return;
    }
    g->received[c->id]++;
    if (atomic_load_explicit(&g->side->shared->record, memory_order_relaxed)) {
        if (!parse_hex(data + g->stamp_at + SEQ_DIGITS + 1, 16, &sent))
            die("a stamp is damaged");
        hist_add(&g->side->shared->latency[g->index], now_ns() - sent);
    }
    count_done(g, seq);
}

/* Message text: STAMP and x's. Both the emitted packet and the length to expect follow from
 * `payload`. */
static void prepare_message(struct group *g)
{
    bool sio = g->side->dialect == DIALECT_SOCKETIO;
    const char *lead = sio ? "2[\"publish\",\"r\",\"m\",\"" : "";
    const char *tail = sio ? "\"]" : "";
    size_t around = sio ? strlen("42[\"m\",\"\"]") : 0;
    size_t text;

    if (opt.payload < around + STAMP_CHARS || opt.payload > PAYLOAD_MAX)
        die("--payload must be %zu to %u", around + STAMP_CHARS, PAYLOAD_MAX);
    text = opt.payload - around;
    g->publish_stamp_at = strlen(lead);
    g->stamp_at = sio ? strlen("2[\"m\",\"") : 0;
    g->message_bytes = opt.payload - (sio ? 1 : 0);
    memcpy(g->publish, lead, strlen(lead));
    memset(g->publish + strlen(lead), 'x', text);
    memcpy(g->publish + strlen(lead) + text, tail, strlen(tail));
    g->publish_bytes = strlen(lead) + text + strlen(tail);
}

static void publish_one(struct group *g)
{
    struct side_shared *s = g->side->shared;
    char stamp[STAMP_CHARS + 1];
    uint64_t seq = atomic_load(&s->published);

    (void)snprintf(stamp, sizeof stamp, "%08" PRIu32 ".%016" PRIx64 ".",
                   (uint32_t)(seq % 100000000), now_ns());
    memcpy(g->publish + g->publish_stamp_at, stamp, STAMP_CHARS);
    atomic_store(&s->published, seq + 1);
    (void)client_send(&g->engine, &g->engine.clients[0], g->publish, g->publish_bytes);
}

static void publish_due(struct group *g)
{
    struct side_shared *s = g->side->shared;
    uint64_t under_way = atomic_load(&s->published) - atomic_load(&s->completed);
    uint32_t n = 0;

    if (!atomic_load(&s->run))
        return;
    if (opt.pending > 0)
        n = under_way == 0 ? opt.pending : 0;
    else if (under_way < opt.in_flight)
        n = opt.in_flight - (uint32_t)under_way;
    if (n == 0)
        return;
    engine_cork(&g->engine, &g->engine.clients[0]);
    while (n-- > 0)
        publish_one(g);
    engine_uncork(&g->engine);
}

static uint64_t client_mask(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t all = n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;

    return opt.client_cpus ? opt.client_cpus : all & ~(uint64_t)opt.server_cpus;
}

static int group_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = {
        .n_targets = 1, .nsp = "/", .connect_parallel = 256, .connect_timeout_ms = 20000
    };
    char url[64];

    g.side = ctx;
    g.index = index;
    g.members = driver_share_of(opt.members, index, g.side->n_procs);
    (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u%s", g.side->server.port,
                   g.side->dialect == DIALECT_PLAIN ? "/ws/r" : "");
    proc_pin(client_mask());
    target_parse(&config.targets[0], url, g.side->dialect);
    config.dialect = g.side->dialect;
    config.sources = 16;
    config.process = index;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    engine_init(&g.engine, &config, g.members + (index == 0));
    g.received = must_calloc(g.engine.n_clients, sizeof *g.received);
    g.digits_of = UINT64_MAX;
    prepare_message(&g);
    if (index == 0)
        engine_watch(&g.engine, g.side->wake);
    (void)engine_start(&g.engine, UINT32_MAX);
    while (!atomic_load(&g.side->shared->failed)) {
        engine_turn(&g.engine, 100);
        if (index == 0)
            publish_due(&g);
    }
    return 2;
}

static void sides_stop(struct side *sides, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        (void)driver_join(&sides[i].clients, 0);
        server_stop(sides[i].server.pid);
    }
}

static void check_side(struct side *s)
{
    if (driver_poll(&s->clients) || s->clients.running < s->n_procs ||
        atomic_load(&s->shared->failed))
        die("%s: the clients have failed, the run is void (server's log: %s)", s->name,
            s->server.log);
}

static void wait_until(struct side *s, bool (*done)(struct side *), uint32_t timeout_ms,
                       const char *what)
{
    uint64_t end = now_ns() + timeout_ms * NS_PER_MS;

    while (!done(s)) {
        check_side(s);
        if (now_ns() > end)
            die("%s: %s took more than %u ms, the run is void (server's log: %s)", s->name, what,
                timeout_ms, s->server.log);
        (void)poll(NULL, 0, 10);
    }
}

static bool all_joined(struct side *s)
{
    return atomic_load(&s->shared->processes_ready) == s->n_procs;
}

static bool all_delivered(struct side *s)
{
    return atomic_load(&s->shared->published) == atomic_load(&s->shared->completed);
}

static void side_start(struct side *s, const char *name)
{
    struct server_options o = { .name = name, .workers = opt.workers, .cpu_mask = opt.server_cpus };
    bool peal = strcmp(name, "peal") == 0;

    if (snprintf(s->name, sizeof s->name, "%s", name) >= (int)sizeof s->name)
        die("no side is called %s", name);
    s->dialect = peal && strcmp(opt.dialect, "socketio") == 0 ? DIALECT_SOCKETIO : DIALECT_PLAIN;
    o.binary = peal ? opt.peal : NULL;
    o.socketio = s->dialect == DIALECT_SOCKETIO;
    o.args = peal ? &opt.peal_args : NULL;
    s->n_procs = driver_processes_for(opt.members + 1, opt.procs);
    s->shared = driver_share(sizeof *s->shared);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake < 0)
        die("eventfd: %s", strerror(errno));
    server_launch(&s->server, &o);
    driver_fork(&s->clients, s->n_procs, group_main, s);
    wait_until(s, all_joined, 60000 + opt.members * 2, "connecting");
}

/* Runs until the server has used `cpu_s`; returns what it used, and the messages everybody has
 * got by then. */
static double side_run(struct side *s, double cpu_s, uint64_t *messages)
{
    uint64_t cpu = proc_tree_cpu_ns(s->server.pid);
    uint64_t completed = atomic_load(&s->shared->completed);
    uint64_t end = now_ns() + opt.round_seconds_max * NS_PER_S;

    atomic_store(&s->shared->run, 1);
    signal_publisher(s);
    do {
        (void)poll(NULL, 0,
                   100); /* reading the whole of /proc more often would weigh on the clients */
        check_side(s);
    } while ((double)(proc_tree_cpu_ns(s->server.pid) - cpu) < cpu_s * 1e9 && now_ns() < end);
    atomic_store(&s->shared->run, 0);
    wait_until(s, all_delivered, 10000, "delivering the last messages");
    *messages = atomic_load(&s->shared->completed) - completed;
    return (double)(proc_tree_cpu_ns(s->server.pid) - cpu) / 1e9;
}

static void side_round(struct side *s, uint32_t round)
{
    struct json j;

    s->cpu_seconds[round] = side_run(s, opt.round_cpu, &s->messages[round]);
    if (s->cpu_seconds[round] <= 0)
        die("%s: no CPU time was used in a round", s->name);
    s->rates[round] = (double)s->messages[round] * opt.members / s->cpu_seconds[round];
    json_begin(&j, "round");
    json_u64(&j, "round", round + 1);
    json_text(&j, "side", s->name);
    json_u64(&j, "deliveries", s->messages[round] * opt.members);
    json_f64(&j, "server_cpu_s", s->cpu_seconds[round]);
    json_f64(&j, "deliveries_per_cpu_s", s->rates[round]);
    json_print(&j);
}

/* Spread: (highest - lowest) / median of the rounds. */
static double side_json(struct json *j, const struct side *s)
{
    static struct hist all;
    double sorted[ROUNDS_MAX];
    double median;

    memcpy(sorted, s->rates, sizeof sorted);
    median = median_of(sorted, opt.rounds);
    json_object(j, NULL);
    json_text(j, "name", s->name);
    json_text(j, "dialect", s->dialect == DIALECT_PLAIN ? "plain" : "socketio");
    json_array(j, "deliveries_per_cpu_s");
    for (uint32_t i = 0; i < opt.rounds; i++)
        json_f64(j, NULL, s->rates[i]);
    json_end(j);
    json_f64(j, "median", median);
    json_f64(j, "spread", (sorted[opt.rounds - 1] - sorted[0]) / median);
    memset(&all, 0, sizeof all);
    for (uint32_t i = 0; i < s->n_procs; i++)
        hist_merge(&all, &s->shared->latency[i]);
    hist_json(j, "latency", &all);
    json_end(j);
    return median;
}

/* The ratio is the median of the rounds' ratios: neighbours in time share the machine's mood. */
static int report(struct side *sides, uint32_t n)
{
    double medians[SIDES_MAX];
    double ratios[ROUNDS_MAX];
    double ratio = 0;
    struct json j;

    json_begin(&j, "result");
    json_text(&j, "bench", "fanout");
    machine_json(&j);
    json_u64(&j, "members", opt.members);
    json_u64(&j, "payload", opt.payload);
    json_u64(&j, "in_flight", opt.pending ? 0 : opt.in_flight);
    json_u64(&j, "pending", opt.pending);
    json_array(&j, "sides");
    for (uint32_t i = 0; i < n; i++)
        medians[i] = side_json(&j, &sides[i]);
    json_end(&j);
    if (n > 1) {
        for (uint32_t i = 0; i < opt.rounds; i++)
            ratios[i] = sides[0].rates[i] / sides[1].rates[i];
        ratio = median_of(ratios, opt.rounds);
        json_f64(&j, "ratio", ratio);
        json_f64(&j, "ratio_lowest", ratios[0]);
        json_f64(&j, "ratio_highest", ratios[opt.rounds - 1]);
        json_f64(&j, "ratio_of_medians", medians[0] / medians[1]);
    }
    json_f64(&j, "bar", opt.bar);
    json_bool(&j, "ok", ratio >= opt.bar);
    json_print(&j);
    return ratio >= opt.bar ? 0 : 1;
}

static void options_check(void)
{
    if (opt.members == 0 || opt.rounds == 0 || opt.rounds > ROUNDS_MAX || opt.round_cpu <= 0)
        die("--members, --rounds (1 to %u) and --round-cpu must not be 0", ROUNDS_MAX);
    if (opt.in_flight == 0 || opt.in_flight > WINDOW_USED_MAX || opt.pending > WINDOW_USED_MAX)
        die("--in-flight and --pending are at most %u", WINDOW_USED_MAX);
    if (strcmp(opt.dialect, "plain") != 0 && strcmp(opt.dialect, "socketio") != 0)
        die("--dialect is plain or socketio");
}

int main(int argc, char **argv)
{
    static struct side sides[SIDES_MAX];
    char names[128];
    char *next = names;
    uint32_t n = 0;
    uint64_t ignored;
    int result;

    if (opt_parse(options, "fanout: deliveries per server-CPU-second, servers against each other",
                  argc, argv))
        die("options only");
    options_check();
    if (snprintf(names, sizeof names, "%s", opt.sides) >= (int)sizeof names)
        die("--sides is too long");
    for (char *name; (name = strsep(&next, ",")) != NULL;) {
        if (n == SIDES_MAX)
            die("at most %u sides", SIDES_MAX);
        side_start(&sides[n++], name);
    }
    proc_pin(client_mask());
    for (uint32_t i = 0; i < n; i++) {
        (void)side_run(&sides[i], opt.round_cpu / 8, &ignored); /* warm */
        atomic_store(&sides[i].shared->record, 1);
    }
    for (uint32_t round = 0; round < opt.rounds; round++) {
        for (uint32_t i = 0; i < n; i++)
            side_round(&sides[i], round);
    }
    result = report(sides, n);
    sides_stop(sides, n);
    return result;
}
