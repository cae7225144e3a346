/* polling.c: what WebSocket clients pay when the same messages go to clients that poll.
 *
 * One server with two workers; WebSocket members of a room on worker A, as many polling clients as asked for in a second room on worker B, and
 * as many in a third room on worker A. Which worker a client gets follows from its source address (balance = iphash). Rounds take turns: messages for the
 * WebSocket clients alone, for them and B's polling clients, for them and A's. Measured are worker A's CPU time per WebSocket delivery (the first two), and
 * how long a message takes to WebSocket clients (the first and the last). Every message is counted at every client: a loss voids the run.
 *
 * Owns:  the server and the client processes; all end with this one.
 * Exit:  0, 1 when a bar is missed, 2 when the run is void. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/hist.h"
#include "lib/machine.h"
#include "lib/poll_crowd.h"
#include "lib/proc.h"
#include "lib/util.h"

#define ROUNDS_MAX  64u
#define STAMP_CHARS 16u
#define PAYLOAD_MAX 4096u
#define SOURCES_MAX 32u
#define SETTLE_MS   500u

enum mode { MODE_ALONE = 0, MODE_OTHER, MODE_SAME, MODES };

static const char *const mode_names[MODES] = { "alone", "other_worker", "same_worker" };

static struct {
    uint32_t members;
    uint32_t polling;
    uint32_t rate;
    uint32_t payload;
    uint32_t rounds;
    uint32_t seconds;
    double cpu_bar;
    double p99_bar;
    const char *peal;
    struct opt_list peal_args;
} opt = { 1000, 200, 20, 128, 7, 5, 0, 0, NULL, { .count = 0 } };

static const struct opt options[] = {
    { "members", OPT_U32, &opt.members, "WebSocket members on worker A (1000)" },
    { "polling", OPT_U32, &opt.polling, "polling clients on worker B, and on worker A (200)" },
    { "rate", OPT_U32, &opt.rate, "messages a second (20)" },
    { "payload", OPT_U32, &opt.payload, "bytes of the event's argument, 16 to 4096 (128)" },
    { "rounds", OPT_U32, &opt.rounds, "rounds of each kind (7)" },
    { "seconds", OPT_U32, &opt.seconds, "of a round (5)" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "peal-arg", OPT_LIST, &opt.peal_args, "one more argument for peal, repeatable" },
    { "cpu-bar", OPT_F64, &opt.cpu_bar,
      "exit 1 when A's CPU per delivery rises by more than this factor (0: no bar)" },
    { "p99-bar", OPT_F64, &opt.p99_bar, "the same for the 99th percentile on one worker" },
    { NULL, OPT_FLAG, NULL, NULL },
};

/* In memory of all processes. */
struct shared {
    uint16_t port;
    struct in_addr source_of[2]; /* an address whose clients worker 0 gets, and one for worker 1 */
    uint32_t process_of[2];      /* engine.h: the process number that stands for it */
    _Atomic uint32_t ready;      /* processes */
    _Atomic uint32_t mode;
    _Atomic uint32_t run;
    _Atomic uint32_t stop;
    _Atomic uint64_t published[MODES];
    _Atomic uint64_t delivered; /* to WebSocket members */
    _Atomic uint64_t polled[MODES];
    struct hist latency[MODES][ROUNDS_MAX];
    _Atomic uint32_t round;
};

/* --- which worker has whom: asked of the server itself --- */

/* Numbers behind `key` in the answer of /api/workers, one per worker. */
static void ask_workers(uint16_t admin_port, const char *key, uint64_t out[2])
{
    static char answer[65536];
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(admin_port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    static const char ask[] =
        "GET /api/workers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    size_t n_bytes = 0;
    ssize_t n;
    const char *at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) != (ssize_t)sizeof ask - 1)
        die("the admin listener: %s", strerror(errno));
    while ((n = recv(fd, answer + n_bytes, sizeof answer - 1 - n_bytes, 0)) > 0)
        n_bytes += (size_t)n;
    (void)close(fd);
    answer[n_bytes] = 0;
    at = strstr(answer, "\"workers\":[");
    for (uint32_t i = 0; i < 2; i++) {
        at = at ? strstr(at, key) : NULL;
        if (at == NULL || sscanf(at + strlen(key), "%" SCNu64, &out[i]) != 1)
            die("/api/workers does not say %s: %s", key, answer);
        at++;
    }
}

/* Finds a source address for each worker: engine.h gives 127.(10 + process).0.1 to the clients of a process with one source. */
static void find_sources(struct shared *s, uint16_t admin_port)
{
    bool found[2] = { false, false };

    for (uint32_t process = 0; process < SOURCES_MAX && !(found[0] && found[1]); process++) {
        struct in_addr source = { htonl(127u << 24 | (10 + process) << 16 | 1) };
        struct poll_crowd probe;
        uint64_t before[2], after[2];
        uint64_t end = now_ns() + 10 * NS_PER_S;
        uint32_t worker;

        ask_workers(admin_port, "\"polling\":", before);
        poll_crowd_init(&probe, s->port, source, 1, "");
        while (probe.n_ready < 1 && now_ns() < end)
            poll_crowd_turn(&probe, 100);
        do {
            ask_workers(admin_port, "\"polling\":", after);
        } while (after[0] + after[1] == before[0] + before[1] && now_ns() < end);
        poll_crowd_destroy(
            &probe); /* its session ends by the ping timeout; nothing is sent to it */
        worker = after[1] > before[1];
        if (found[worker])
            continue;
        found[worker] = true;
        s->source_of[worker] = source;
        s->process_of[worker] = process;
    }
    if (!found[0] || !found[1])
        die("no source address among %u is worker %u's", SOURCES_MAX, found[0]);
}

/* --- WebSocket members and the publisher, client 0 --- */

struct group {
    struct engine engine;
    struct shared *shared;
    uint32_t joined;
    char publish[PAYLOAD_MAX + 64];
};

static void on_open(struct engine *e, struct client *c)
{
    static const char join[] = "21[\"join\",\"r\"]";

    (void)client_send(e, c, join, sizeof join - 1);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    char name[24];

    (void)e;
    die("WebSocket client %u was closed (%s) %s", c->id, cause_name(c->cause, name),
        was_open ? "in the run" : "before it was open");
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    static const char lead[] = "2[\"m\",\"";
    struct group *g = e->config.ctx;
    struct shared *s = g->shared;
    uint64_t sent;

    if (n > 2 && data[0] == '3') {
        if (++g->joined == e->n_clients)
            atomic_fetch_add(&s->ready, 1);
        return;
    }
    if (binary || c->id == 0 || n < sizeof lead + STAMP_CHARS ||
        memcmp(data, lead, sizeof lead - 1) != 0 ||
        !parse_hex(data + sizeof lead - 1, STAMP_CHARS, &sent))
        die("WebSocket client %u got what it was not to get", c->id);
    hist_add(&s->latency[atomic_load(&s->mode)][atomic_load(&s->round)], now_ns() - sent);
    atomic_fetch_add_explicit(&s->delivered, 1, memory_order_relaxed);
}

static void publish(struct group *g)
{
    static const char *const rooms[MODES] = { "\"r\"", "[\"r\",\"b\"]", "[\"r\",\"a\"]" };
    struct shared *s = g->shared;
    uint32_t mode = atomic_load(&s->mode);
    int n =
        snprintf(g->publish, sizeof g->publish, "2[\"publish\",%s,\"m\",\"%016" PRIx64 "%0*d\"]",
                 rooms[mode], now_ns(), (int)(opt.payload - STAMP_CHARS), 0);

    if (!client_send(&g->engine, &g->engine.clients[0], g->publish, (size_t)n))
        die("the publisher is gone");
    atomic_fetch_add(&s->published[mode], 1);
}

static int members_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = {
        .n_targets = 1, .nsp = "/", .connect_parallel = 64, .connect_timeout_ms = 20000
    };
    uint64_t due = 0;
    char url[64];

    (void)index;
    g.shared = ctx;
    (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u", g.shared->port);
    target_parse(&config.targets[0], url, DIALECT_SOCKETIO);
    config.dialect = DIALECT_SOCKETIO;
    config.sources = 1;
    config.process = g.shared->process_of[0];
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    engine_init(&g.engine, &config, opt.members + 1);
    (void)engine_start(&g.engine, UINT32_MAX);
    while (!atomic_load(&g.shared->stop)) {
        uint64_t now = now_ns();

        if (!atomic_load(&g.shared->run)) {
            due = 0;
        } else if (due <= now) {
            publish(&g);
            due = (due == 0 ? now : due) + NS_PER_S / opt.rate;
        }
        engine_turn(&g.engine, 1);
    }
    return 0;
}

/* --- polling clients: process 0 those of worker A, process 1 those of worker B --- */

static int polling_main(uint32_t index, void *ctx)
{
    struct shared *s = ctx;
    struct poll_crowd crowd;
    enum mode mode = index == 0 ? MODE_SAME : MODE_OTHER;
    bool told = false;

    poll_crowd_init(&crowd, s->port, s->source_of[index], opt.polling, index == 0 ? "a" : "b");
    while (!atomic_load(&s->stop)) {
        poll_crowd_turn(&crowd, 100);
        atomic_store(&s->polled[mode], crowd.n_events);
        if (!told && crowd.n_ready == crowd.n_clients) {
            told = true;
            atomic_fetch_add(&s->ready, 1);
        }
    }
    return 0;
}

/* --- rounds --- */

struct result {
    double cpu[MODES][ROUNDS_MAX]; /* worker A's ns per delivery */
    double p99[MODES][ROUNDS_MAX]; /* us */
};

static bool all_arrived(const struct shared *s)
{
    uint64_t n = 0;

    for (uint32_t mode = 0; mode < MODES; mode++) {
        n += atomic_load(&s->published[mode]);
        if (mode != MODE_ALONE &&
            atomic_load(&s->polled[mode]) != atomic_load(&s->published[mode]) * opt.polling)
            return false;
    }
    return atomic_load(&s->delivered) == n * opt.members;
}

static void check_clients(struct driver *members, struct driver *polling)
{
    if (driver_poll(members) || driver_poll(polling) || members->running < members->count ||
        polling->running < polling->count)
        die("the clients have failed, the run is void");
}

static void run_round(struct shared *s, struct driver *members, struct driver *polling,
                      pid_t worker, enum mode mode, uint32_t round, struct result *r)
{
    uint64_t delivered = atomic_load(&s->delivered);
    uint64_t cpu;
    uint64_t end;
    struct json j;

    atomic_store(&s->mode, mode);
    atomic_store(&s->round, round);
    cpu = proc_cpu_ns(worker);
    atomic_store(&s->run, 1);
    (void)poll(NULL, 0, (int)(opt.seconds * 1000));
    atomic_store(&s->run, 0);
    end = now_ns() + 10 * NS_PER_S;
    do {
        (void)poll(NULL, 0, SETTLE_MS);
        check_clients(members, polling);
        if (now_ns() > end)
            die("not everybody got every message, the run is void");
    } while (!all_arrived(s));
    delivered = atomic_load(&s->delivered) - delivered;
    r->cpu[mode][round] = (double)(proc_cpu_ns(worker) - cpu) / (double)delivered;
    r->p99[mode][round] = (double)hist_percentile(&s->latency[mode][round], 99) / 1e3;
    json_begin(&j, "round");
    json_text(&j, "kind", mode_names[mode]);
    json_u64(&j, "deliveries", delivered);
    json_f64(&j, "worker_cpu_ns_per_delivery", r->cpu[mode][round]);
    json_f64(&j, "p50_us", (double)hist_percentile(&s->latency[mode][round], 50) / 1e3);
    json_f64(&j, "p99_us", r->p99[mode][round]);
    json_print(&j);
}

/* The median of the rounds' ratios: neighbours in time share the machine's mood. */
static double ratio_of(const double *to, const double *from)
{
    double ratios[ROUNDS_MAX];

    for (uint32_t i = 0; i < opt.rounds; i++)
        ratios[i] = to[i] / from[i];
    return median_of(ratios, opt.rounds);
}

static int report(const struct result *r)
{
    double cpu = ratio_of(r->cpu[MODE_OTHER], r->cpu[MODE_ALONE]);
    double p99 = ratio_of(r->p99[MODE_SAME], r->p99[MODE_ALONE]);
    bool ok = (opt.cpu_bar <= 0 || cpu <= opt.cpu_bar) && (opt.p99_bar <= 0 || p99 <= opt.p99_bar);
    struct json j;

    json_begin(&j, "result");
    json_text(&j, "bench", "polling");
    machine_json(&j);
    json_u64(&j, "members", opt.members);
    json_u64(&j, "polling", opt.polling);
    json_u64(&j, "rate", opt.rate);
    for (uint32_t mode = 0; mode < MODES; mode++) {
        double all[ROUNDS_MAX];

        json_object(&j, mode_names[mode]);
        memcpy(all, r->cpu[mode], sizeof all);
        json_f64(&j, "worker_cpu_ns_per_delivery", median_of(all, opt.rounds));
        memcpy(all, r->p99[mode], sizeof all);
        json_f64(&j, "p99_us", median_of(all, opt.rounds));
        json_end(&j);
    }
    json_f64(&j, "cpu_ratio_other_worker", cpu);
    json_f64(&j, "cpu_bar", opt.cpu_bar);
    json_f64(&j, "p99_ratio_same_worker", p99);
    json_f64(&j, "p99_bar", opt.p99_bar);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

static void options_check(void)
{
    if (opt.members == 0 || opt.polling == 0 || opt.rate == 0 || opt.seconds == 0 ||
        opt.rounds == 0 || opt.rounds > ROUNDS_MAX)
        die("--members, --polling, --rate, --seconds and --rounds (1 to %u) must not be 0",
            ROUNDS_MAX);
    if (opt.payload <= STAMP_CHARS || opt.payload > PAYLOAD_MAX)
        die("--payload must be over %u, at most %u", STAMP_CHARS, PAYLOAD_MAX);
}

int main(int argc, char **argv)
{
    static struct result r;
    struct server_options o = { .name = "peal", .socketio = true, .workers = 2 };
    struct shared *s = driver_share(sizeof *s);
    struct server server;
    struct driver members, polling;
    uint64_t pids[2];
    uint64_t end;

    if (opt_parse(options, "polling: what WebSocket clients pay for clients that poll", argc, argv))
        die("options only");
    options_check();
    if (opt.peal_args.count == OPT_LIST_MAX)
        die("at most %d --peal-arg", OPT_LIST_MAX - 1);
    opt.peal_args.values[opt.peal_args.count++] = "--balance=iphash";
    o.binary = opt.peal;
    o.args = &opt.peal_args;
    server_launch(&server, &o);
    s->port = server.port;
    find_sources(s, server.admin_port);
    ask_workers(server.admin_port, "\"pid\":", pids);
    driver_fork(&members, 1, members_main, s);
    driver_fork(&polling, 2, polling_main, s);
    end = now_ns() + 60 * NS_PER_S;
    while (atomic_load(&s->ready) < 3) {
        (void)poll(NULL, 0, 20);
        check_clients(&members, &polling);
        if (now_ns() > end)
            die("connecting took more than 60 s, the run is void (server's log: %s)", server.log);
    }
    for (uint32_t round = 0; round < opt.rounds; round++)
        for (uint32_t mode = 0; mode < MODES; mode++)
            run_round(s, &members, &polling, (pid_t)pids[0], mode, round, &r);
    atomic_store(&s->stop, 1);
    (void)driver_join(&members, now_ns() + 5 * NS_PER_S);
    (void)driver_join(&polling, now_ns() + 5 * NS_PER_S);
    server_stop(server.pid);
    return report(&r);
}
