/* connects.c: what a new connection costs the server, until the client may speak.
 *
 * Plain: TCP and the WebSocket handshake. Socket.IO: Engine.IO's greeting and the namespace as well.
 * A round is as many batches as it takes: --connections are opened, --parallel at a time, the
 * server's CPU is read, then all are reset, which is not counted.
 * Exit:  0, 1 when --bar is missed, 2 when the run is void. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/contest.h"
#include "lib/proc.h"
#include "lib/util.h"

#define BATCH_MS_MAX 60000u
#define REST_MS      100u
#define RESTS_MAX    50u

static struct {
    struct contest_options contest;
    uint32_t connections;
    uint32_t parallel;
} opt = { CONTEST_DEFAULTS("peal,bare_connect"), 10000, 128 };

static const struct opt options[] = {
    { "connections", OPT_U32, &opt.connections, "of a batch (10000)" },
    { "parallel", OPT_U32, &opt.parallel, "at a time, by each client process (128)" },
    CONTEST_OPTIONS(opt.contest),
    { NULL, OPT_FLAG, NULL, NULL },
};

/* Shared by the parent and the clients: batch k is open or opening when `batch` is 2k + 1, and gone
 * or going when it is 2k + 2. */
struct batch_shared {
    _Atomic uint32_t batch;
    _Atomic uint32_t processes_closed;
};

struct group {
    struct side *side;
    struct engine engine;
    struct target target;
    uint32_t index;
    bool closing;
};

static const struct target *target_of(struct engine *e, const struct client *c)
{
    struct group *g = e->config.ctx;

    (void)c;
    side_target(&g->target, g->side->kind, g->side->server.port, 0, false);
    return &g->target;
}

static void on_open(struct engine *e, struct client *c)
{
    const struct group *g = e->config.ctx;

    (void)c;
    contest_count(&g->side->shared->units[g->index], 1);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    const struct group *g = e->config.ctx;

    (void)c;
    (void)data;
    (void)n;
    (void)binary;
    contest_fail(g->side, "a client got a message that nobody sent");
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    const struct group *g = e->config.ctx;

    if (!g->closing)
        contest_closed(g->side, c, was_open);
}

/* Opens a batch, holds it until it is to go, resets it. */
static void batch_run(struct group *g, const struct engine_config *config, uint32_t batch)
{
    struct batch_shared *b = g->side->own;
    uint32_t n = driver_share_of(opt.connections, g->index, g->side->n_procs);

    g->closing = false;
    engine_init(&g->engine, config, n);
    contest_count(&g->side->shared->asked[g->index], n);
    (void)engine_start(&g->engine, n);
    while (atomic_load(&b->batch) == batch && !atomic_load(&g->side->shared->failed))
        engine_turn(&g->engine, 1);
    g->closing = true;
    for (uint32_t i = 0; i < n; i++)
        client_close(&g->engine, &g->engine.clients[i], CLOSE_RESET);
    engine_destroy(&g->engine);
    atomic_fetch_add(&b->processes_closed, 1);
}

static int group_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = contest_engine(ctx, index);
    const struct batch_shared *b;

    g.side = ctx;
    g.index = index;
    b = g.side->own;
    contest_pin(&opt.contest);
    config.connect_parallel = opt.parallel;
    config.sources = 32;
    config.target_of = target_of;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    contest_ready(g.side);
    for (uint32_t done = 0; !atomic_load(&g.side->shared->failed);) {
        uint32_t batch = atomic_load(&b->batch);

        if (batch != done && batch % 2 == 1)
            batch_run(&g, &config, batch);
        done = batch;
        (void)poll(NULL, 0, 1);
    }
    return 2;
}

static bool all_closed(const struct side *s)
{
    const struct batch_shared *b = s->own;

    return atomic_load(&b->processes_closed) == s->n_procs;
}

static bool all_open(const struct side *s)
{
    const struct batch_shared *b = s->own;

    return contest_units(s) == (uint64_t)opt.connections * ((atomic_load(&b->batch) + 1) / 2);
}

/* What the end of a batch costs the server is not to fall into the next one. */
static void let_rest(const struct side *s)
{
    uint64_t before = proc_tree_cpu_ns(s->server.pid);

    for (uint32_t i = 0; i < RESTS_MAX; i++) {
        uint64_t now;

        (void)poll(NULL, 0, REST_MS);
        now = proc_tree_cpu_ns(s->server.pid);
        if (now == before)
            return;
        before = now;
    }
}

/* One batch; returns the CPU seconds from the first connect until all are open. */
static double batch_measure(struct side *s)
{
    struct batch_shared *b = s->own;
    uint64_t cpu = proc_tree_cpu_ns(s->server.pid);
    double used;

    atomic_fetch_add(&b->batch, 1);
    contest_wait(s, all_open, BATCH_MS_MAX, "connecting");
    used = (double)(proc_tree_cpu_ns(s->server.pid) - cpu) / 1e9;
    atomic_store(&b->processes_closed, 0);
    atomic_fetch_add(&b->batch, 1);
    contest_wait(s, all_closed, BATCH_MS_MAX, "closing");
    let_rest(s);
    return used;
}

static double round_of_batches(struct side *s, double cpu_s, uint64_t *units)
{
    struct batch_shared *b = s->own;
    uint64_t end = now_ns() + opt.contest.round_seconds_max * NS_PER_S;
    double used = 0;

    if (atomic_load(&b->batch) == 0)
        (void)batch_measure(s); /* warm: Node compiles */
    for (*units = 0; used < cpu_s && now_ns() < end; *units += opt.connections)
        used += batch_measure(s);
    return used;
}

static void describe(struct json *j)
{
    json_u64(j, "connections", opt.connections);
    json_u64(j, "parallel", opt.parallel);
}

int main(int argc, char **argv)
{
    struct contest contest = { .bench = "connects",
                               .unit = "connects",
                               .options = &opt.contest,
                               .own_bytes = sizeof(struct batch_shared),
                               .body = group_main,
                               .round = round_of_batches,
                               .describe = describe };

    if (opt_parse(options, "connects: new connections per server-CPU-second", argc, argv))
        die("options only");
    if (opt.connections == 0 || opt.parallel == 0 || opt.parallel > 1024)
        die("--connections must not be 0, --parallel 1 to 1024");
    contest.clients = opt.connections;
    return contest_main(&contest);
}
