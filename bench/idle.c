/* idle.c: what an idle connection costs the server in user space.
 *
 * PSS of all server processes with few and with many Socket.IO (or plain) connections; the slope
 * is the cost of one. PSS, because the ring and the session table are shared: what every process
 * maps is counted once.
 * Full:  --full is what the bars are taken by. 40,000 clients, counted from the fresh server, each
 *        with 900 bytes of a browser's headers and 700 of auth, in a shared room and one of its own;
 *        each has sent one message, received three and two pings. What of headers and auth the
 *        server keeps (fetch_handshake=minimal) is taken off: `own_bytes_per_connection`.
 *        The fresh server may be the ring, its commit words, the receive buffers and 8 MB a worker.
 *        After that everybody leaves, and what is not given back is printed.
 * Slab:  --slab takes kernel memory instead, in turns with a bare epoll server that carries as many.
 *        The kernel counts it for the whole machine: other work on it is noise, and the clients'
 *        half is in it on both sides.
 * Owns:  the server and the client processes.
 * Exit:  0, 1 when --bar or a bound is exceeded, 2 when the run is void. */
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

#define HEADER_BYTES_MIN 480u /* a browser's lines without a cookie */
#define HEADER_BYTES_MAX 2048u
#define AUTH_BYTES_MAX   1500u
#define MESSAGES         3u /* that each receives */
#define PINGS            2u
#define SLAB_ROUNDS      3u
#define LEAVE_MS         5000u
#define RING_BYTES       (64u << 20)  /* the default */
#define RECEIVE_BYTES    (512u << 10) /* of a worker */
#define WORKER_BYTES     (8u << 20)

#define USER_AGENT                                                                             \
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" \
    "%u.0.0.0 Safari/537.36"
#define FIRST_VERSION 126u

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
    bool full;
    bool slab;
    const char *side;
    const char *peal;
    const char *peers;
    struct opt_list peal_args;
} opt = { .from = 2000,
          .to = 14000,
          .workers = 2,
          .procs = 2,
          .settle_ms = 2000,
          .side = "peal_socketio",
          .peers = "bench/peers" };

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
    { "header-bytes", OPT_U32, &opt.header_bytes,
      "bytes of a browser's request headers, 480 to 2048 (0: none)" },
    { "auth-bytes", OPT_U32, &opt.auth_bytes, "socketio: bytes of auth, up to 1500 (0)" },
    { "rooms", OPT_FLAG, &opt.rooms, "each joins a shared room and one of its own" },
    { "full", OPT_FLAG, &opt.full, "the method of the bars, in place of the options above" },
    { "slab", OPT_FLAG, &opt.slab, "kernel memory beyond a bare epoll server's (plain)" },
    { "settle", OPT_U32, &opt.settle_ms, "ms of rest before each measurement (2000)" },
    { "bar", OPT_F64, &opt.bar, "exit 1 above this many bytes per connection" },
    { NULL, OPT_FLAG, NULL, NULL },
};

struct idle_shared {
    _Atomic uint32_t target; /* connections in all */
    _Atomic uint32_t ready;  /* connected, in their rooms, and their message is sent */
    _Atomic uint32_t lost;
    _Atomic uint64_t received;                     /* messages, by all */
    _Atomic uint32_t pinged[DRIVER_PROCESSES_MAX]; /* clients that have had their pings */
    _Atomic bool publish;                          /* the first client is to send to everybody */
    _Atomic bool leave;
    uint16_t port;
    uint32_t procs;
};

static const struct side_kind *kind;

struct idle_process {
    struct engine engine;
    struct idle_shared *shared;
    uint8_t *pings;    /* that each client has had, up to PINGS */
    struct target own; /* plain: the path names the client's rooms */
    uint32_t index;
    bool published;
};

static bool socketio(void)
{
    return kind->dialect == DIALECT_SOCKETIO;
}

static void say(struct engine *e, struct client *c, uint32_t ack, const char *what)
{
    struct idle_process *p = e->config.ctx;
    char packet[160];
    int n;

    if (!socketio())
        n = snprintf(packet, sizeof packet, "hello");
    else if (strcmp(what, "join") == 0)
        n = snprintf(packet, sizeof packet, "2%u[\"join\",[\"shared\",\"own-%u-%u\"]]", ack,
                     p->index, c->id);
    else if (strcmp(what, "shared") == 0)
        n = snprintf(packet, sizeof packet, "2%u[\"publish\",\"shared\",\"hello\"]", ack);
    else
        n = snprintf(packet, sizeof packet, "2%u[\"publish\",\"own-%u-%u\",\"hello\"]", ack,
                     p->index, c->id);
    (void)client_send(e, c, packet, (size_t)n);
}

static void on_open(struct engine *e, struct client *c)
{
    struct idle_process *p = e->config.ctx;

    if (socketio() && opt.rooms) {
        say(e, c, 1, "join");
        return;
    }
    if (opt.full && (p->index != 0 || c->id != 0))
        say(e, c, 2, "own");
    atomic_fetch_add(&p->shared->ready, 1);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct idle_process *p = e->config.ctx;
    bool acknowledges = socketio() && !binary && n > 2 && data[0] == '3';

    if (!acknowledges) {
        atomic_fetch_add(&p->shared->received, 1);
    } else if (data[1] == '1' && opt.full) {
        say(e, c, 2, "own");
    } else if (data[1] <= '2') {
        atomic_fetch_add(&p->shared->ready, 1);
    }
}

static void on_ping(struct engine *e, struct client *c)
{
    struct idle_process *p = e->config.ctx;

    if (p->pings[c->id] < PINGS)
        p->pings[c->id]++;
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct idle_process *p = e->config.ctx;
    char name[24];

    (void)was_open;
    if (!atomic_load(&p->shared->leave) && atomic_fetch_add(&p->shared->lost, 1) == 0)
        (void)fprintf(stderr, "idle: client %u ended: %s\n", c->id, cause_name(c->cause, name));
}

/* A plain client sends to the room that its path names: its own, where nobody hears it, but the first of all to the shared one. */
static const struct target *own_target(struct engine *e, const struct client *c)
{
    struct idle_process *p = e->config.ctx;
    bool first = p->index == 0 && c->id == 0;

    p->own = e->config.targets[0];
    (void)snprintf(p->own.path, sizeof p->own.path,
                   first ? "/ws/shared?room=own-%u-%u" : "/ws/own-%u-%u?room=shared", p->index,
                   c->id);
    return &p->own;
}

/* What a browser sends, `n` bytes in all; each client process is another one. */
static void fill_headers(char *out, uint32_t n, const struct idle_process *p)
{
    int used;

    out[0] = 0;
    if (n == 0)
        return;
    used = snprintf(out, n + 1,
                    "Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: " USER_AGENT
                    "\r\nOrigin: http://127.0.0.1:%u\r\nAccept: */*\r\nAccept-Encoding: gzip, "
                    "deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7\r\n"
                    "Sec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\n"
                    "Sec-Fetch-Site: same-origin\r\nCookie: session=",
                    FIRST_VERSION + p->index, p->shared->port);
    if (used < 0 || (uint32_t)used > n - 3)
        die("a browser's headers are over %u bytes", n);
    memset(out + used, 'c', n - (uint32_t)used - 2);
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

/* Bytes of one client's headers and auth that Peal keeps: when, two lengths, path and query, user-agent and origin, each with its name and two zeros. */
static uint32_t stored_bytes(uint16_t port)
{
    struct target t;
    char origin[40];
    char url[64];
    uint32_t n;

    if (!socketio())
        return 0;
    (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u", port);
    target_parse(&t, url, DIALECT_SOCKETIO);
    n = (uint32_t)(sizeof(uint64_t) + 2 * sizeof(uint32_t) + strlen(t.path)) + opt.auth_bytes;
    if (opt.header_bytes > 0) {
        (void)snprintf(origin, sizeof origin, "http://127.0.0.1:%u", port);
        n += (uint32_t)(strlen("user-agent") + sizeof USER_AGENT + strlen("origin") +
                        strlen(origin) + 4);
    }
    return n;
}

/* The first client of all says what everybody is to receive; who has been pinged is counted. */
static void attend(struct idle_process *p)
{
    struct engine *e = &p->engine;
    uint32_t pinged = 0;

    if (p->index == 0 && !p->published && atomic_load(&p->shared->publish)) {
        for (uint32_t i = 0; i < MESSAGES; i++)
            say(e, &e->clients[0], 3 + i, "shared");
        p->published = true;
    }
    for (uint32_t i = 0; opt.full && i < e->n_clients; i++)
        pinged += p->pings[i] == PINGS;
    atomic_store(&p->shared->pinged[p->index], pinged);
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
    if (opt.rooms && strcmp(kind->name, "peal") == 0)
        config.target_of = own_target;
    fill_headers(headers, opt.header_bytes, &p);
    fill_auth(auth, opt.auth_bytes);
    config.headers = headers;
    config.auth = auth;
    config.sources = 16;
    config.process = index;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.on_ping = on_ping;
    config.ctx = &p;
    p.pings = must_calloc(opt.to, 1);
    engine_init(&p.engine, &config, driver_share_of(opt.to, index, p.shared->procs));
    while (!atomic_load(&p.shared->leave)) {
        uint32_t share = driver_share_of(atomic_load(&p.shared->target), index, p.shared->procs);

        if (atomic_load(&p.shared->lost) > 0)
            return 2;
        if (share > started)
            started += engine_start(&p.engine, share - started);
        engine_turn(&p.engine, 20);
        attend(&p);
    }
    for (uint32_t i = 0; i < p.engine.n_clients; i++)
        client_close(&p.engine, &p.engine.clients[i], CLOSE_RESET); /* leaves no TIME_WAIT */
    return 0;
}

static bool is_done(struct idle_shared *shared, uint32_t target)
{
    uint32_t pinged = 0;

    if (atomic_load(&shared->ready) < target)
        return false;
    if (!opt.full)
        return true;
    atomic_store(&shared->publish, true);
    for (uint32_t i = 0; i < shared->procs; i++)
        pinged += atomic_load(&shared->pinged[i]);
    return pinged == target && atomic_load(&shared->received) == (uint64_t)MESSAGES * (target - 1);
}

/* Waits until all are connected, have had what is due to them, and are at rest. */
static void await(const struct server *server, struct driver *clients, struct idle_shared *shared,
                  uint32_t target)
{
    uint64_t end = now_ns() + 120 * NS_PER_S + target * NS_PER_MS * 4;
    uint64_t rest = UINT64_MAX;

    atomic_store(&shared->target, target);
    while (now_ns() < rest) {
        (void)poll(NULL, 0, 20);
        if (atomic_load(&shared->lost) > 0 || driver_poll(clients) ||
            clients->running < clients->count)
            die("connections were lost, the run is void (server's log: %s)", server->log);
        if (now_ns() > end)
            die("only %u of %u clients are ready, with %llu messages: the run is void",
                atomic_load(&shared->ready), target,
                (unsigned long long)atomic_load(&shared->received));
        if (rest == UINT64_MAX && is_done(shared, target))
            rest = now_ns() + opt.settle_ms * NS_PER_MS;
    }
}

static uint64_t measure(const struct server *server, uint32_t n_connections, uint64_t *files)
{
    uint64_t pss = proc_tree_pss_bytes(server->pid);
    struct json j;

    *files = proc_tree_pss_file_bytes(server->pid);
    json_begin(&j, "measured");
    json_u64(&j, "connections", n_connections);
    json_u64(&j, "pss_bytes", pss);
    json_u64(&j, "pss_file_bytes", *files);
    json_u64(&j, "processes", proc_tree_count(server->pid));
    json_print(&j);
    return pss;
}

static void leave(struct driver *clients, struct idle_shared *shared)
{
    atomic_store(&shared->leave, true);
    (void)driver_join(clients, now_ns() + 10 * NS_PER_S);
    (void)poll(NULL, 0, LEAVE_MS);
}

static void launch(struct server *server, const char *side, struct idle_shared *shared)
{
    struct server_options o = { .binary = opt.peal, .workers = opt.workers };

    kind = side_find(side);
    o.args = &opt.peal_args;
    *shared = (struct idle_shared){ .procs = driver_processes_for(opt.to, opt.procs) };
    side_launch(server, kind, o, opt.peers);
    shared->port = server->port;
    (void)poll(NULL, 0, (int)opt.settle_ms);
}

static int compare_user_space(struct idle_shared *shared)
{
    bool is_peal = strncmp(opt.side, "peal", 4) == 0;
    uint64_t fresh_max = RING_BYTES + RING_BYTES / 64 * sizeof(uint64_t) +
                         (uint64_t)opt.workers * (RECEIVE_BYTES + WORKER_BYTES);
    uint32_t base = opt.fresh ? 0 : opt.from;
    struct server server;
    struct driver clients;
    uint64_t fresh, low, high, left;
    uint64_t files_low, files_high, files_left;
    uint32_t stored;
    double slope, own;
    bool ok;
    struct json j;

    launch(&server, opt.side, shared);
    stored = is_peal ? stored_bytes(server.port) : 0;
    fresh = low = measure(&server, 0, &files_low);
    driver_fork(&clients, shared->procs, idle_main, shared);
    if (!opt.fresh) {
        await(&server, &clients, shared, opt.from);
        low = measure(&server, opt.from, &files_low);
    }
    await(&server, &clients, shared, opt.to);
    high = measure(&server, opt.to, &files_high);
    leave(&clients, shared);
    left = measure(&server, 0, &files_left);
    server_stop(server.pid);

    slope = ((double)high - (double)low) / (opt.to - base);
    own = slope - stored;
    ok = (opt.bar <= 0 || own <= opt.bar) && (!opt.full || !is_peal || fresh <= fresh_max);
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
    if (is_peal)
        json_u64(&j, "pss_fresh_max", fresh_max);
    json_u64(&j, "pss_from", low);
    json_u64(&j, "pss_to", high);
    json_u64(&j, "pss_left", left);
    json_f64(&j, "bytes_per_connection", slope);
    /* not connections', but noise: somebody else began or ceased to run the same files */
    json_f64(&j, "file_bytes_per_connection",
             ((double)files_high - (double)files_low) / (opt.to - base));
    json_u64(&j, "stored_bytes", stored);
    json_f64(&j, "own_bytes_per_connection", own);
    json_f64(&j, "bar", opt.bar);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

/* Kernel memory of the machine in slabs, in bytes. */
static uint64_t slab_bytes(void)
{
    unsigned long long kib = 0;
    char line[256];
    FILE *f = fopen("/proc/meminfo", "re");

    if (!f)
        die("/proc/meminfo cannot be read");
    while (fgets(line, sizeof line, f) && sscanf(line, "Slab: %llu kB", &kib) != 1)
        ;
    (void)fclose(f);
    return (uint64_t)kib * 1024;
}

static double slab_slope(const char *name, struct idle_shared *shared)
{
    struct server server;
    struct driver clients;
    uint64_t low;
    double slope;
    struct json j;

    launch(&server, name, shared);
    driver_fork(&clients, shared->procs, idle_main, shared);
    await(&server, &clients, shared, opt.from);
    low = slab_bytes();
    await(&server, &clients, shared, opt.to);
    slope = ((double)slab_bytes() - (double)low) / (opt.to - opt.from);
    leave(&clients, shared);
    server_stop(server.pid);
    json_begin(&j, "slab");
    json_text(&j, "side", name);
    json_f64(&j, "bytes_per_connection", slope);
    json_print(&j);
    return slope;
}

static int compare_slab(struct idle_shared *shared)
{
    double bare[SLAB_ROUNDS], ours[SLAB_ROUNDS], beyond[SLAB_ROUNDS];
    double median;
    bool ok;
    struct json j;

    for (uint32_t i = 0; i < SLAB_ROUNDS; i++) {
        bare[i] = slab_slope("bare_send", shared);
        ours[i] = slab_slope("peal", shared);
        beyond[i] = ours[i] - bare[i];
    }
    median = median_of(beyond, SLAB_ROUNDS); /* sorted by it */
    ok = opt.bar <= 0 || median <= opt.bar;
    json_begin(&j, "result");
    json_text(&j, "bench", "idle_slab");
    machine_json(&j);
    json_f64(&j, "bare_bytes_per_connection", median_of(bare, SLAB_ROUNDS));
    json_f64(&j, "bytes_per_connection", median_of(ours, SLAB_ROUNDS));
    json_f64(&j, "beyond_bare", median);
    json_f64(&j, "beyond_bare_min", beyond[0]);
    json_f64(&j, "beyond_bare_max", beyond[SLAB_ROUNDS - 1]);
    json_f64(&j, "bar", opt.bar);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

static void use_full_method(void)
{
    opt.to = 40000;
    opt.workers = 3;
    opt.procs = 3;
    opt.header_bytes = 900;
    opt.auth_bytes = 700; /* plain clients have none */
    opt.rooms = true;
    opt.fresh = true;
    if (opt.peal_args.count == OPT_LIST_MAX)
        die("too many --peal-arg");
    opt.peal_args.values[opt.peal_args.count++] = "--ping_interval=15s";
}

int main(int argc, char **argv)
{
    struct idle_shared *shared = driver_share(sizeof *shared);

    if (opt_parse(options, "idle: memory per idle connection", argc, argv))
        die("options only");
    if (opt.full)
        use_full_method();
    if (opt.from == 0 || opt.to <= opt.from)
        die("--to must be over --from, and that over 0");
    if (opt.header_bytes > HEADER_BYTES_MAX || opt.auth_bytes > AUTH_BYTES_MAX)
        die("at most %u header and %u auth bytes", HEADER_BYTES_MAX, AUTH_BYTES_MAX);
    if (opt.header_bytes > 0 && opt.header_bytes < HEADER_BYTES_MIN)
        die("a browser's headers are at least %u bytes", HEADER_BYTES_MIN);
    return opt.slab ? compare_slab(shared) : compare_user_space(shared);
}
