/* echo.c: what a round trip costs the server: an echo, or a Socket.IO event with an acknowledgement.
 *
 * Each connection has one message under way; the next goes when the answer is there. Plain sides
 * send the message back, Socket.IO ones answer `message-with-ack` with its argument: Peal by
 * --module (tests/modules/conformance.c), Node in JavaScript.
 * Exit:  0, 1 when --bar is missed, 2 when the run is void. */
#include <stdio.h>
#include <string.h>

#include "lib/contest.h"
#include "lib/util.h"

#define PAYLOAD_MAX 4096u

static struct {
    struct contest_options contest;
    uint32_t connections;
    uint32_t payload;
    const char *module;
} opt = { CONTEST_DEFAULTS("peal,bare_echo"), 1000, 64, "build/modules/conformance.so" };

static const struct opt options[] = {
    { "connections", OPT_U32, &opt.connections, "of a side (1000)" },
    { "payload", OPT_U32, &opt.payload, "bytes of the message, or of the event's argument (64)" },
    { "module", OPT_TEXT, &opt.module,
      "what answers in peal_socketio (build/modules/conformance.so)" },
    CONTEST_OPTIONS(opt.contest),
    { NULL, OPT_FLAG, NULL, NULL },
};

/* One client process. */
struct group {
    struct side *side;
    struct engine engine;
    struct target target;
    uint32_t index;
    uint32_t n_ready;
    bool running;
    uint64_t *sent_ns; /* by client */
    char question[PAYLOAD_MAX + 64];
    char answer[PAYLOAD_MAX + 64];
    size_t question_bytes;
    size_t answer_bytes;
};

static const struct target *target_of(struct engine *e, const struct client *c)
{
    struct group *g = e->config.ctx;
    const struct side_kind *kind = g->side->kind;

    (void)c;
    side_target(&g->target, kind, g->side->server.port, 0, false);
    if (strcmp(kind->name, "peal") == 0)
        (void)strcpy(g->target.path, "/echo");
    return &g->target;
}

static void ask(struct group *g, struct client *c)
{
    g->sent_ns[c->id] = now_ns();
    contest_count(&g->side->shared->asked[g->index], 1);
    (void)client_send(&g->engine, c, g->question, g->question_bytes);
}

static void on_open(struct engine *e, struct client *c)
{
    struct group *g = e->config.ctx;

    (void)c;
    if (++g->n_ready == e->n_clients)
        contest_ready(g->side);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    const struct group *g = e->config.ctx;

    contest_closed(g->side, c, was_open);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct group *g = e->config.ctx;

    if (e->config.dialect == DIALECT_SOCKETIO && n > 0 && data[0] == '2')
        return; /* the module greets with an event */
    if (binary || n != g->answer_bytes || memcmp(data, g->answer, n) != 0) {
        contest_fail(g->side, "an answer is another than expected");
        return;
    }
    hist_add(&g->side->shared->latency[g->index], now_ns() - g->sent_ns[c->id]);
    contest_count(&g->side->shared->units[g->index], 1);
    if (atomic_load_explicit(&g->side->shared->run, memory_order_relaxed))
        ask(g, c);
}

static void prepare_message(struct group *g)
{
    bool sio = g->side->kind->dialect == DIALECT_SOCKETIO;
    char text[PAYLOAD_MAX + 1];

    memset(text, 'x', opt.payload);
    text[opt.payload] = 0;
    g->question_bytes = (size_t)snprintf(g->question, sizeof g->question,
                                         sio ? "21[\"message-with-ack\",\"%s\"]" : "%s", text);
    g->answer_bytes =
        (size_t)snprintf(g->answer, sizeof g->answer, sio ? "31[\"%s\"]" : "%s", text);
}

static int group_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = contest_engine(ctx, index);

    g.side = ctx;
    g.index = index;
    contest_pin(&opt.contest);
    config.target_of = target_of;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    engine_init(&g.engine, &config, driver_share_of(opt.connections, index, g.side->n_procs));
    g.sent_ns = must_calloc(g.engine.n_clients, sizeof *g.sent_ns);
    prepare_message(&g);
    (void)engine_start(&g.engine, UINT32_MAX);
    while (!atomic_load(&g.side->shared->failed)) {
        bool run = atomic_load(&g.side->shared->run) != 0;

        if (run && !g.running) {
            for (uint32_t i = 0; i < g.engine.n_clients; i++)
                ask(&g, &g.engine.clients[i]);
        }
        g.running = run;
        engine_turn(&g.engine, 10);
    }
    return 2;
}

static void describe(struct json *j)
{
    json_u64(j, "connections", opt.connections);
    json_u64(j, "payload", opt.payload);
}

int main(int argc, char **argv)
{
    struct contest contest = { .bench = "echo",
                               .unit = "round_trips",
                               .options = &opt.contest,
                               .body = group_main,
                               .describe = describe };
    char app[512];

    if (opt_parse(options, "echo: round trips per server-CPU-second, servers against each other",
                  argc, argv))
        die("options only");
    if (opt.connections == 0 || opt.payload == 0 || opt.payload > PAYLOAD_MAX)
        die("--connections must not be 0, --payload 1 to %u", PAYLOAD_MAX);
    (void)snprintf(app, sizeof app, "module:%s", opt.module);
    opt.contest.app = app;
    if (opt.contest.peal_args.count == OPT_LIST_MAX)
        die("at most %d --peal-arg here", OPT_LIST_MAX - 1);
    opt.contest.peal_args.values[opt.contest.peal_args.count++] = "--echo=yes";
    contest.clients = opt.connections;
    return contest_main(&contest);
}
