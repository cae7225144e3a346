/* scale_clients.c: see scale_clients.h.
 *
 * A message is 2["s","KTTTTTTTTTTTTTTTT…"]: K is R (a room) or A (everybody), T the time at which it
 * was due, in hexadecimal nanoseconds: what waits in the publisher counts as latency. */
#include "lib/scale_clients.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

#define EVENT_LEAD         "2[\"s\",\""
#define LEAD_CHARS         (sizeof EVENT_LEAD - 1)
#define EVERYBODY          "all"
#define CONNECT_TIMEOUT_MS 60000u
#define TURN_MS            50
#define BESIDE_NS          (3 * NS_PER_S)
#define PUBLISH_TURN_MAX   64u    /* messages sent before what has come is looked at */
#define PORTS_PER_SOURCE   32000u /* of 64,512: a search for a free one stays short */

/* What is kept of a client besides the engine's state. */
struct beat {
    uint32_t last_ms; /* of its last ping; 0: none yet */
    uint32_t pings;   /* since SCALE_REST */
};

struct scale_process {
    const struct scale_options *options;
    struct scale_shared *shared;
    struct scale_counts *counts;
    struct engine engine;
    struct beat *beats;
    uint64_t due_ns; /* the next message to a room */
    uint64_t announce_due_ns;
    uint64_t random;
    uint32_t index;
    uint32_t phase;
};

static uint32_t number_of(const struct scale_process *p, uint32_t id)
{
    return id * p->options->procs + p->index;
}

static void on_open(struct engine *e, struct client *c)
{
    struct scale_process *p = e->config.ctx;
    char join[128];
    int n;

    atomic_fetch_add(&p->counts->opened, 1);
    if (p->options->members == 0) {
        atomic_fetch_add(&p->counts->joined, 1);
        return;
    }
    n = snprintf(join, sizeof join, "20[\"join\",[\"" EVERYBODY "\",\"r%u\"]]",
                 number_of(p, c->id) / p->options->members);
    (void)client_send(e, c, join, (size_t)n);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct scale_process *p = e->config.ctx;
    const char *error = strerror(errno); /* of a reset: what the kernel said */
    char name[24];

    if (atomic_fetch_add(&p->shared->closes[c->cause], 1) == 0)
        (void)fprintf(stderr, "scale: client %u ended, %s: %s (%s)\n", number_of(p, c->id),
                      was_open ? "connected" : "connecting", cause_name(c->cause, name), error);
    atomic_fetch_add(&p->counts->closed, 1);
}

static void on_ping(struct engine *e, struct client *c)
{
    struct scale_process *p = e->config.ctx;
    struct beat *b = &p->beats[c->id];
    uint32_t now_ms = (uint32_t)((now_ns() - e->began_ns) / NS_PER_MS);

    atomic_fetch_add_explicit(&p->counts->pings, 1, memory_order_relaxed);
    b->pings++;
    if (b->last_ms != 0 && p->phase > SCALE_CONNECT)
        hist_add(&p->counts->ping_gap, (now_ms - b->last_ms) * NS_PER_MS);
    b->last_ms = now_ms;
}

static void on_event(struct scale_process *p, const char *data, size_t n)
{
    uint64_t now = now_ns();
    uint64_t due = 0;
    bool to_room;

    if (n < LEAD_CHARS + SCALE_PAYLOAD_MIN || memcmp(data, EVENT_LEAD, LEAD_CHARS) != 0 ||
        !parse_hex(data + LEAD_CHARS + 1, 16, &due) || due > now) {
        atomic_fetch_add(&p->counts->foreign, 1);
        return;
    }
    to_room = data[LEAD_CHARS] == 'R';
    atomic_fetch_add_explicit(&p->counts->received, 1, memory_order_relaxed);
    hist_add(!to_room                                                  ? &p->counts->everybody
             : due - atomic_load(&p->shared->announced_ns) < BESIDE_NS ? &p->counts->beside
                                                                       : &p->counts->rooms,
             now - due);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct scale_process *p = e->config.ctx;
    struct sio_packet packet;

    (void)c;
    if (!binary && n > 0 && data[0] == '2') {
        on_event(p, data, n);
        return;
    }
    if (binary || sio_parse(data, n, "/", &packet) != WIRE_OK || packet.type != SIO_ACK ||
        !memmem(packet.args, packet.args_bytes, "\"ok\":true", 9))
        die("the server answers a join with: %.*s", (int)n, binary ? "bytes" : data);
    atomic_fetch_add(&p->counts->joined, 1);
}

/* Emits `publish` for a room; `reached` members are to get it. */
static void publish(struct scale_process *p, const char *room, char kind, uint64_t due_ns,
                    uint64_t reached)
{
    char packet[SCALE_PAYLOAD_MAX + 128];
    int n = snprintf(packet, sizeof packet, "2[\"publish\",\"%s\",\"s\",\"%c%016" PRIx64, room,
                     kind, due_ns);

    memset(packet + n, '.', p->options->payload - SCALE_PAYLOAD_MIN);
    n += (int)(p->options->payload - SCALE_PAYLOAD_MIN);
    memcpy(packet + n, "\"]", 2);
    if (!client_send(&p->engine, &p->engine.clients[0], packet, (size_t)n + 2))
        return;
    atomic_fetch_add(&p->counts->sent, 1);
    atomic_fetch_add(&p->counts->expected, reached);
}

static void publish_to_room(struct scale_process *p)
{
    const struct scale_options *o = p->options;
    uint32_t room =
        (uint32_t)(random_next(&p->random) % ((o->clients + o->members - 1) / o->members));
    uint32_t first = room * o->members;
    uint32_t size = o->clients - first < o->members ? o->clients - first : o->members;
    bool own = number_of(p, 0) / o->members == room; /* it does not get its own */
    char name[16];

    (void)snprintf(name, sizeof name, "r%u", room);
    publish(p, name, 'R', p->due_ns, size - own);
}

static void publish_to_everybody(struct scale_process *p)
{
    atomic_store(&p->shared->announced_ns, p->announce_due_ns);
    publish(p, EVERYBODY, 'A', p->announce_due_ns, p->options->clients - 1);
    p->announce_due_ns += (uint64_t)(p->options->announce_s * 1e9);
}

/* Sends what is due; returns the ms until more is. The schedule stands, whatever the server does. */
static int publish_due(struct scale_process *p)
{
    uint64_t every_ns = (uint64_t)(1e9 * p->options->procs / p->options->rate);
    uint64_t now = now_ns();
    uint32_t budget = PUBLISH_TURN_MAX;

    if (now >= p->announce_due_ns)
        publish_to_everybody(p);
    for (; now >= p->due_ns && budget > 0; budget--, p->due_ns += every_ns)
        publish_to_room(p);
    if (budget == 0)
        return 0;
    now = p->due_ns - now;
    return now > TURN_MS * NS_PER_MS ? TURN_MS : (int)(now / NS_PER_MS);
}

static void begin_rest(struct scale_process *p)
{
    for (uint32_t i = 0; i < p->engine.n_clients; i++)
        p->beats[i].pings = 0;
}

static void begin_fanout(struct scale_process *p)
{
    uint64_t now = now_ns();

    p->due_ns = now + random_next(&p->random) % (NS_PER_S / 2); /* not all at the same moment */
    p->announce_due_ns = UINT64_MAX;
    if (p->index == 0 && p->options->announce_s > 0)
        p->announce_due_ns = now + (uint64_t)(p->options->announce_s * 1e9) / 2;
}

static void report(struct scale_process *p)
{
    p->counts->pings_min = UINT32_MAX;
    for (uint32_t i = 0; i < p->engine.n_clients; i++) {
        uint32_t n = p->beats[i].pings;

        if (p->engine.clients[i].state != CLIENT_OPEN)
            continue;
        if (n < p->counts->pings_min)
            p->counts->pings_min = n;
        if (n > p->counts->pings_max)
            p->counts->pings_max = n;
    }
    atomic_fetch_add(&p->shared->reported, 1);
}

static void on_phase(struct scale_process *p, uint32_t phase)
{
    p->phase = phase;
    switch ((enum scale_phase)phase) {
    case SCALE_REST: begin_rest(p); return;
    case SCALE_FANOUT: begin_fanout(p); return;
    case SCALE_REPORT: report(p); return;
    case SCALE_CONNECT:
    case SCALE_DRAIN:
    case SCALE_END: return;
    }
}

static void process_init(struct scale_process *p, uint32_t index, const struct scale *s)
{
    const struct scale_options *o = &s->options;
    struct engine_config config = { .n_targets = 1,
                                    .dialect = DIALECT_SOCKETIO,
                                    .nsp = "/",
                                    .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                    .process = index,
                                    .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close,
                                    .on_ping = on_ping,
                                    .ctx = p };
    uint32_t n = driver_share_of(o->clients, index, o->procs);
    char url[64];

    p->options = o;
    p->shared = s->shared;
    p->counts = &s->shared->counts[index];
    p->index = index;
    p->random = now_ns() * (2 * index + 1) | 1;
    p->beats = must_calloc(n, sizeof *p->beats);
    (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u/", o->port);
    target_parse(&config.targets[0], url, config.dialect);
    config.sources = 1 + n / PORTS_PER_SOURCE;
    config.connect_parallel = o->parallel / o->procs > 0 ? o->parallel / o->procs : 1;
    engine_init(&p->engine, &config, n);
    (void)engine_start(&p->engine, n);
}

int scale_client_main(uint32_t index, void *ctx)
{
    static struct scale_process p;

    process_init(&p, index, ctx);
    for (;;) {
        uint32_t phase = atomic_load(&p.shared->phase);
        int wait_ms = TURN_MS;

        if (phase != p.phase)
            on_phase(&p, phase);
        if (phase == SCALE_END)
            return 0; /* the kernel closes what is open faster than we could */
        if (phase == SCALE_FANOUT)
            wait_ms = publish_due(&p);
        engine_turn(&p.engine, wait_ms);
    }
}
