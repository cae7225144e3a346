/* deflate.c: what permessage-deflate costs the server: a broadcast of JSON to clients that agreed on it, against the same broadcast
 * to as many that did not.
 *
 * Each side has a Peal of its own (deflate = yes, or no) and one client process, connected for the whole run; they take turns. A round lasts until the
 * server has used `round-cpu` seconds, all its processes together. A closed loop: a message is published when all members have the one before. Of
 * each message the bytes that the first member got are decompressed and compared with what was published, and all others' are compared with those.
 *
 * Owns:  the servers and the client processes; all end with this one.
 * Exit:  0, 1 when --bar is missed, 2 when the run is void. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/json_out.h"
#include "lib/machine.h"
#include "lib/proc.h"
#include "lib/util.h"

#define ROUNDS_MAX  64u
#define PAYLOAD_MIN 64u
#define PAYLOAD_MAX (256u << 10)
#define SIDES       2u

static struct {
    uint32_t members;
    uint32_t payload;
    uint32_t rounds;
    uint32_t workers;
    uint32_t server_cpus; /* masks */
    uint32_t client_cpus;
    uint32_t round_seconds_max;
    double round_cpu;
    double bar;
    const char *peal;
} opt = { 1000, 1024, 5, 1, 1, 1, 60, 2.0, 0, NULL };

static const struct opt options[] = {
    { "members", OPT_U32, &opt.members, "members of the room beside the publisher (1000)" },
    { "payload", OPT_U32, &opt.payload, "bytes of JSON in a message (1024)" },
    { "rounds", OPT_U32, &opt.rounds, "rounds of each side (5)" },
    { "round-cpu", OPT_F64, &opt.round_cpu, "server CPU seconds of a round (2)" },
    { "round-seconds-max", OPT_U32, &opt.round_seconds_max,
      "and at most this long by the clock (60)" },
    { "workers", OPT_U32, &opt.workers, "peal's workers (1)" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "server-cpus", OPT_U32, &opt.server_cpus, "CPU mask of the servers (1; 0: any)" },
    { "client-cpus", OPT_U32, &opt.client_cpus, "CPU mask of the clients (1; 0: any)" },
    { "bar", OPT_F64, &opt.bar,
      "exit 1 when deflate takes more than so many times the CPU of plain (0: no bar)" },
    { NULL, OPT_FLAG, NULL, NULL },
};

/* Shared by the parent and the clients of one side. */
struct side_shared {
    _Atomic uint32_t ready;
    _Atomic uint32_t failed;
    _Atomic uint32_t run;
    _Atomic uint64_t published;
    _Atomic uint64_t completed;
    _Atomic uint64_t frame_bytes; /* payload of the last message as members got it */
};

struct side {
    const char *name;
    bool deflate;
    struct server server;
    struct side_shared *shared;
    struct driver clients;
    double cpu_us[ROUNDS_MAX]; /* for a message, to all members */
};

/* The client process of a side. Client 0 is the publisher. */
struct group {
    struct side *side;
    struct engine engine;
    uint32_t joined;
    uint32_t done; /* members that have the message under way */
    uint8_t *has;  /* by client: 1: has it */
    uint64_t random;
    char text[PAYLOAD_MAX];
    char first[PAYLOAD_MAX + 64]; /* what the first member got of it */
    size_t first_bytes;
    uint8_t plain[PAYLOAD_MAX + 64];
    z_stream stream;
};

static void side_fail(struct group *g, const char *why)
{
    if (atomic_exchange(&g->side->shared->failed, 1) == 0)
        (void)fprintf(stderr, "deflate: %s: %s\n", g->side->name, why);
}

static void on_open(struct engine *e, struct client *c)
{
    struct group *g = e->config.ctx;

    (void)c;
    if (++g->joined == g->engine.n_clients)
        atomic_store(&g->side->shared->ready, 1);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    char name[24];
    char why[128];

    (void)snprintf(why, sizeof why, "client %u was closed (%s) %s", c->id,
                   cause_name(c->cause, name), was_open ? "in the run" : "before it was open");
    side_fail(e->config.ctx, why);
}

/* A list of objects as a game or a ticker sends them, new in each message. */
static void next_text(struct group *g)
{
    size_t n = 0;

    while (n < opt.payload) {
        uint64_t r = random_next(&g->random);
        char object[160];
        int length =
            snprintf(object, sizeof object,
                     "%s{\"id\":%u,\"symbol\":\"%c%c%c\",\"bid\":%u.%02u,\"ask\":%u.%02u,"
                     "\"volume\":%u,\"open\":%s}",
                     n == 0 ? "[" : ",", (unsigned int)(r % 100000), 'A' + (int)(r >> 20) % 26,
                     'A' + (int)(r >> 25 & 15), 'A' + (int)(r >> 29 & 15),
                     (unsigned int)(r >> 33 & 511), (unsigned int)(r >> 42) % 100,
                     (unsigned int)(r >> 33 & 511), (unsigned int)(r >> 49) % 100,
                     (unsigned int)(r >> 12 & 0xffff), (r & 1) != 0 ? "true" : "false");
        size_t take = (size_t)length < opt.payload - n ? (size_t)length : opt.payload - n;

        memcpy(g->text + n, object, take);
        n += take;
    }
    g->text[opt.payload - 1] = ']';
}

/* Is it, decompressed or as it is, what was published? */
static bool is_right(struct group *g, const char *data, size_t n)
{
    z_stream *z = &g->stream;

    if (!g->side->deflate)
        return n == opt.payload && memcmp(data, g->text, n) == 0;
    if (n + 4 > sizeof g->first || inflateReset(z) != Z_OK)
        return false;
    memcpy(g->first, data, n);
    memcpy(g->first + n, "\0\0\xff\xff", 4);
    z->next_in = (Bytef *)g->first;
    z->avail_in = (uInt)n + 4;
    z->next_out = g->plain;
    z->avail_out = sizeof g->plain;
    return inflate(z, Z_SYNC_FLUSH) == Z_OK && z->total_out == opt.payload &&
           memcmp(g->plain, g->text, opt.payload) == 0;
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct group *g = e->config.ctx;
    struct side_shared *s = g->side->shared;

    if (binary || c->id == 0 || g->has[c->id] != 0) {
        side_fail(g, "a client got what it was not to get");
        return;
    }
    if (g->done == 0) {
        if (!is_right(g, data, n)) {
            side_fail(g, "a member got something else than was published");
            return;
        }
        memcpy(g->first, data, n);
        g->first_bytes = n;
        atomic_store(&s->frame_bytes, n);
    } else if (n != g->first_bytes || memcmp(data, g->first, n) != 0) {
        side_fail(g, "members got different bytes");
        return;
    }
    g->has[c->id] = 1;
    if (++g->done == opt.members)
        atomic_fetch_add(&s->completed, 1);
}

static void publish_due(struct group *g)
{
    struct side_shared *s = g->side->shared;

    if (!atomic_load(&s->run) || atomic_load(&s->published) != atomic_load(&s->completed))
        return;
    memset(g->has, 0, g->engine.n_clients);
    g->done = 0;
    next_text(g);
    atomic_fetch_add(&s->published, 1);
    (void)client_send(&g->engine, &g->engine.clients[0], g->text, opt.payload);
}

static int group_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = {
        .n_targets = 1, .nsp = "/", .connect_parallel = 256, .connect_timeout_ms = 20000
    };
    char url[64];

    (void)index;
    g.side = ctx;
    g.random = 88172645463325252ull;
    (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u/ws/r", g.side->server.port);
    proc_pin(opt.client_cpus);
    target_parse(&config.targets[0], url, DIALECT_PLAIN);
    config.dialect = DIALECT_PLAIN;
    config.headers = g.side->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : NULL;
    config.sources = 16;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    if (inflateInit2(&g.stream, -MAX_WBITS) != Z_OK)
        die("out of memory");
    engine_init(&g.engine, &config, opt.members + 1);
    g.has = must_calloc(g.engine.n_clients, sizeof *g.has);
    (void)engine_start(&g.engine, UINT32_MAX);
    while (!atomic_load(&g.side->shared->failed)) {
        engine_turn(&g.engine, atomic_load(&g.side->shared->run) ? 100 : 5);
        publish_due(&g);
    }
    return 2;
}

static void check_side(struct side *s)
{
    if (driver_poll(&s->clients) || atomic_load(&s->shared->failed))
        die("%s: the clients have failed, the run is void (server's log: %s)", s->name,
            s->server.log);
}

static bool is_ready(const struct side *s)
{
    return atomic_load(&s->shared->ready) == 1;
}

static bool is_delivered(const struct side *s)
{
    return atomic_load(&s->shared->published) == atomic_load(&s->shared->completed);
}

static void wait_until(struct side *s, bool (*done)(const struct side *), uint32_t timeout_ms,
                       const char *what)
{
    uint64_t end = now_ns() + timeout_ms * NS_PER_MS;

    while (!done(s)) {
        check_side(s);
        if (now_ns() > end)
            die("%s: %s took more than %u ms, the run is void (server's log: %s)", s->name, what,
                timeout_ms, s->server.log);
        (void)usleep(10000);
    }
}

static void side_start(struct side *s)
{
    const struct opt_list args = { .values = { "--deflate=yes" }, .count = s->deflate ? 1 : 0 };
    struct server_options o = { .name = "peal",
                                .binary = opt.peal,
                                .workers = opt.workers,
                                .cpu_mask = opt.server_cpus,
                                .args = &args };

    s->shared = driver_share(sizeof *s->shared);
    server_launch(&s->server, &o);
    driver_fork(&s->clients, 1, group_main, s);
    wait_until(s, is_ready, 60000 + opt.members * 2, "connecting");
}

/* Microseconds of server CPU for a message. */
static double side_run(struct side *s, double cpu_s)
{
    uint64_t cpu = proc_tree_cpu_ns(s->server.pid);
    uint64_t completed = atomic_load(&s->shared->completed);
    uint64_t end = now_ns() + opt.round_seconds_max * NS_PER_S;

    atomic_store(&s->shared->run, 1);
    do {
        (void)usleep(100000);
        check_side(s);
    } while ((double)(proc_tree_cpu_ns(s->server.pid) - cpu) < cpu_s * 1e9 && now_ns() < end);
    atomic_store(&s->shared->run, 0);
    wait_until(s, is_delivered, 10000, "delivering the last message");
    completed = atomic_load(&s->shared->completed) - completed;
    if (completed == 0)
        die("%s: no message in a round", s->name);
    return (double)(proc_tree_cpu_ns(s->server.pid) - cpu) / 1e3 / (double)completed;
}

static void side_json(struct json *j, const struct side *s)
{
    double sorted[ROUNDS_MAX];
    double median;

    memcpy(sorted, s->cpu_us, sizeof sorted);
    median = median_of(sorted, opt.rounds);
    json_object(j, NULL);
    json_text(j, "name", s->name);
    json_array(j, "cpu_us_per_message");
    for (uint32_t i = 0; i < opt.rounds; i++)
        json_f64(j, NULL, s->cpu_us[i]);
    json_end(j);
    json_f64(j, "median", median);
    json_f64(j, "spread", (sorted[opt.rounds - 1] - sorted[0]) / median);
    json_u64(j, "payload_bytes_on_the_wire", atomic_load(&s->shared->frame_bytes));
    json_end(j);
}

/* The ratio is the median of the rounds' ratios: neighbours in time share the machine's mood. */
static int report(const struct side sides[SIDES])
{
    double ratios[ROUNDS_MAX];
    double ratio;
    struct json j;
    bool ok;

    for (uint32_t i = 0; i < opt.rounds; i++)
        ratios[i] = sides[1].cpu_us[i] / sides[0].cpu_us[i];
    ratio = median_of(ratios, opt.rounds);
    ok = opt.bar <= 0 || ratio <= opt.bar;
    json_begin(&j, "result");
    json_text(&j, "bench", "deflate");
    machine_json(&j);
    json_u64(&j, "members", opt.members);
    json_u64(&j, "payload", opt.payload);
    json_array(&j, "sides");
    for (uint32_t i = 0; i < SIDES; i++)
        side_json(&j, &sides[i]);
    json_end(&j);
    json_f64(&j, "ratio", ratio);
    json_f64(&j, "ratio_lowest", ratios[0]);
    json_f64(&j, "ratio_highest", ratios[opt.rounds - 1]);
    json_f64(&j, "bar", opt.bar);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct side sides[SIDES] = { { .name = "plain" },
                                        { .name = "deflate", .deflate = true } };
    int result;

    if (opt_parse(options, "deflate: server CPU of a broadcast to deflate clients, against plain",
                  argc, argv))
        die("options only");
    if (opt.members == 0 || opt.rounds == 0 || opt.rounds > ROUNDS_MAX || opt.round_cpu <= 0)
        die("--members, --rounds (1 to %u) and --round-cpu must not be 0", ROUNDS_MAX);
    if (opt.payload < PAYLOAD_MIN || opt.payload > PAYLOAD_MAX)
        die("--payload must be %u to %u", PAYLOAD_MIN, PAYLOAD_MAX);
    for (uint32_t i = 0; i < SIDES; i++)
        side_start(&sides[i]);
    for (uint32_t i = 0; i < SIDES; i++)
        (void)side_run(&sides[i], opt.round_cpu / 8); /* warm */
    for (uint32_t round = 0; round < opt.rounds; round++)
        for (uint32_t i = 0; i < SIDES; i++)
            sides[i].cpu_us[round] = side_run(&sides[i], opt.round_cpu);
    result = report(sides);
    for (uint32_t i = 0; i < SIDES; i++) {
        (void)driver_join(&sides[i].clients, 0);
        server_stop(sides[i].server.pid);
    }
    return result;
}
