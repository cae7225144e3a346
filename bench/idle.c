/* idle.c: what an idle connection costs the server in user space.
 *
 * PSS of all server processes with few and with many connections; the slope
 * is the cost of one. PSS, because the ring and the session table are shared: what every process
 * maps is counted once. --header-bytes, --auth-bytes and --rooms make the connections those of
 * the "idle bytes" row: what a browser sends at the handshake, and membership of a shared room
 * and of one of its own.
 * Owns:  the server and the client processes.
 * Exit:  0, 1 when --bar is exceeded, 2 when the run is void. */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/json_out.h"
#include "lib/proc.h"
#include "lib/sides.h"
#include "lib/util.h"

#define HEADER_BYTES_MAX 2048u
#define AUTH_BYTES_MAX   1500u

static struct {
    uint32_t from;
    uint32_t to;
    uint32_t workers;
    uint32_t procs;
    uint32_t header_bytes;
    uint32_t auth_bytes;
    uint32_t settle_ms;
    double bar;
    bool rooms;
    bool fresh;
    const char *side;
    const char *peal;
    const char *peers;
    struct opt_list peal_args;
} opt = { 2000,          14000,         2, 2, 0, 0, 2000, 0, false, false, "peal_socketio", NULL,
          "bench/peers", { .count = 0 } };

static const struct opt options[] = {
    { "from", OPT_U32, &opt.from, "connections at the first measurement (2000)" },
    { "to", OPT_U32, &opt.to, "connections at the second (14000)" },
    { "fresh", OPT_FLAG, &opt.fresh, "slope from the fresh server instead of from --from" },
    { "side", OPT_TEXT, &opt.side, "one of fanout's sides (peal_socketio)" },
    { "workers", OPT_U32, &opt.workers, "peal's workers (2)" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "peers", OPT_TEXT, &opt.peers, "folder of the peers (bench/peers)" },
    { "peal-arg", OPT_LIST, &opt.peal_args, "one more argument for peal, repeatable" },
    { "procs", OPT_U32, &opt.procs, "client processes (2)" },
    { "header-bytes", OPT_U32, &opt.header_bytes, "further request header bytes, up to 2048 (0)" },
    { "auth-bytes", OPT_U32, &opt.auth_bytes, "socketio: bytes of auth, up to 1500 (0)" },
    { "rooms", OPT_FLAG, &opt.rooms, "socketio: each joins a shared room and one of its own" },
    { "settle", OPT_U32, &opt.settle_ms, "ms of rest before each measurement (2000)" },
    { "bar", OPT_F64, &opt.bar, "exit 1 above this many bytes per connection" },
    { NULL, OPT_FLAG, NULL, NULL },
};

struct idle_shared {
    _Atomic uint32_t target; /* connections in all */
    _Atomic uint32_t ready;  /* connected, and in their rooms */
    _Atomic uint32_t lost;
    uint16_t port;
    uint32_t procs;
};

static const struct side_kind *kind;

struct idle_process {
    struct engine engine;
    struct idle_shared *shared;
    uint32_t index;
};

static bool socketio(void)
{
    return kind->dialect == DIALECT_SOCKETIO;
}

static void on_open(struct engine *e, struct client *c)
{
    struct idle_process *p = e->config.ctx;
    char join[128];
    int n;

    if (!opt.rooms || !socketio()) {
        atomic_fetch_add(&p->shared->ready, 1);
        return;
    }
    n = snprintf(join, sizeof join, "21[\"join\",[\"shared\",\"own-%u-%u\"]]", p->index, c->id);
    (void)client_send(e, c, join, (size_t)n);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct idle_process *p = e->config.ctx;

    (void)c;
    if (opt.rooms && !binary && n > 2 && memcmp(data, "31", 2) == 0)
        atomic_fetch_add(&p->shared->ready, 1);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct idle_process *p = e->config.ctx;
    char name[24];

    (void)was_open;
    if (atomic_fetch_add(&p->shared->lost, 1) == 0)
        (void)fprintf(stderr, "idle: client %u ended: %s\n", c->id, cause_name(c->cause, name));
}

/* Lines of what browsers send, `n` bytes in all. */
static void fill_headers(char *out, uint32_t n)
{
    static const char lead[] = "User-Agent: ";

    out[0] = 0;
    if (n < sizeof lead + 2)
        return;
    memset(out, 'M', n);
    memcpy(out, lead, sizeof lead - 1);
    memcpy(out + n - 2, "\r\n", 3);
}

static void fill_auth(char *out, uint32_t n)
{
    static const char lead[] = "{\"token\":\"";

    out[0] = 0;
    if (n < sizeof lead + 2)
        return;
    memset(out, 't', n);
    memcpy(out, lead, sizeof lead - 1);
    memcpy(out + n - 2, "\"}", 3);
}

static int idle_main(uint32_t index, void *ctx)
{
    static struct idle_process p;
    static char headers[HEADER_BYTES_MAX + 1];
    static char auth[AUTH_BYTES_MAX + 1];
    struct engine_config config = {
        .n_targets = 1, .nsp = "/", .connect_parallel = 128, .connect_timeout_ms = 30000
    };
    uint32_t started = 0;

    p.shared = ctx;
    p.index = index;
    config.dialect = kind->dialect;
    side_target(&config.targets[0], kind, p.shared->port, 0, false);
    fill_headers(headers, opt.header_bytes);
    fill_auth(auth, opt.auth_bytes);
    config.headers = headers;
    config.auth = auth;
    config.sources = 16;
    config.process = index;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &p;
    engine_init(&p.engine, &config, driver_share_of(opt.to, index, p.shared->procs));
    while (atomic_load(&p.shared->lost) == 0) { /* or until the parent kills us */
        uint32_t share = driver_share_of(atomic_load(&p.shared->target), index, p.shared->procs);

        if (share > started)
            started += engine_start(&p.engine, share - started);
        engine_turn(&p.engine, 20);
    }
    return 2;
}

/* Waits until all are connected and at rest; returns the PSS of the server. */
static uint64_t measure(const struct server *server, struct driver *clients,
                        struct idle_shared *shared, uint32_t target)
{
    uint64_t end = now_ns() + 60 * NS_PER_S + target * NS_PER_MS * 4;
    uint64_t rest = UINT64_MAX;
    uint64_t pss;
    struct json j;

    atomic_store(&shared->target, target);
    while (now_ns() < rest) {
        (void)poll(NULL, 0, 20);
        if (atomic_load(&shared->lost) > 0 || driver_poll(clients) ||
            clients->running < clients->count)
            die("connections were lost, the run is void (server's log: %s)", server->log);
        if (now_ns() > end)
            die("only %u of %u clients are ready, the run is void", atomic_load(&shared->ready),
                target);
        if (rest == UINT64_MAX && atomic_load(&shared->ready) == target)
            rest = now_ns() + opt.settle_ms * NS_PER_MS;
    }
    pss = proc_tree_pss_bytes(server->pid);
    json_begin(&j, "measured");
    json_u64(&j, "connections", target);
    json_u64(&j, "pss_bytes", pss);
    json_u64(&j, "processes", proc_tree_count(server->pid));
    json_print(&j);
    return pss;
}

static int report(uint64_t fresh, uint64_t low, uint64_t high)
{
    uint32_t base = opt.fresh ? 0 : opt.from;
    double slope = ((double)high - (double)(opt.fresh ? fresh : low)) / (opt.to - base);
    bool ok = opt.bar <= 0 || slope <= opt.bar;
    struct json j;

    json_begin(&j, "result");
    json_text(&j, "bench", "idle");
    machine_json(&j);
    json_text(&j, "side", opt.side);
    json_u64(&j, "workers", opt.workers);
    json_u64(&j, "from", base);
    json_u64(&j, "to", opt.to);
    json_u64(&j, "header_bytes", opt.header_bytes);
    json_u64(&j, "auth_bytes", opt.auth_bytes);
    json_u64(&j, "pss_fresh", fresh);
    json_u64(&j, "pss_from", low);
    json_u64(&j, "pss_to", high);
    json_f64(&j, "bytes_per_connection", slope);
    json_f64(&j, "bar", opt.bar);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct server_options o = { .binary = NULL };
    struct server server;
    struct driver clients;
    struct idle_shared *shared = driver_share(sizeof *shared);
    uint64_t fresh;
    uint64_t low;
    uint64_t high;

    if (opt_parse(options, "idle: bytes of user-space memory per idle connection", argc, argv))
        die("options only");
    if (opt.from == 0 || opt.to <= opt.from)
        die("--to must be over --from, and that over 0");
    if (opt.header_bytes > HEADER_BYTES_MAX || opt.auth_bytes > AUTH_BYTES_MAX)
        die("at most %u header and %u auth bytes", HEADER_BYTES_MAX, AUTH_BYTES_MAX);
    kind = side_find(opt.side);
    o.binary = opt.peal;
    o.workers = opt.workers;
    o.args = &opt.peal_args;
    shared->procs = driver_processes_for(opt.to, opt.procs);
    side_launch(&server, kind, o, opt.peers);
    shared->port = server.port;
    (void)poll(NULL, 0, (int)opt.settle_ms);
    fresh = proc_tree_pss_bytes(server.pid);
    driver_fork(&clients, shared->procs, idle_main, shared);
    low = measure(&server, &clients, shared, opt.from);
    high = measure(&server, &clients, shared, opt.to);
    (void)driver_join(&clients, 0);
    server_stop(server.pid);
    return report(fresh, low, high);
}
