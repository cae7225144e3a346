/* load_idle.c: what clients cost that do nothing: memory of the server's processes, kernel slab, and
 * the CPU of their pings.
 *
 * First --warm clients (0: none, the fresh server) connect, then the rest; each time the server rests
 * for --settle before it is measured. The slope between both is the cost of one. Socket.IO clients
 * join --room. Then all are held for --hold-time seconds, in which pings are answered and counted.
 * Slab is the whole machine's: here both ends of every connection. Another server measured by the same
 * command has the same client end, so the difference of two such figures is the servers'. */
#include <stdio.h>

#include "lib/load.h"

enum { PHASE_WARM = 1, PHASE_ALL, PHASE_HELD };

struct idle_shared {
    _Atomic uint64_t pings; /* while all are held */
};

static void on_open(struct engine *e, struct client *c)
{
    struct load_process *p = e->config.ctx;

    load_opened(p);
    if (e->config.dialect == DIALECT_SOCKETIO)
        load_join(p, c, UINT32_MAX);
    else
        atomic_fetch_add(&p->shared->joined_total, 1);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    load_closed(e->config.ctx, c, was_open, c->cause == CAUSE_OURS);
}

static void on_ping(struct engine *e, struct client *c)
{
    struct load_process *p = e->config.ctx;
    struct idle_shared *s = p->scenario;

    (void)c;
    if (atomic_load(&p->shared->phase) == PHASE_ALL)
        atomic_fetch_add(&s->pings, 1);
}

static void start(struct engine *e, uint32_t n)
{
    (void)engine_start(e, n);
    while (e->next_start < e->start_end || e->n_starting > 0)
        engine_turn(e, 20);
}

static int idle_main(uint32_t index, void *ctx)
{
    static struct load_process p;
    struct engine_config config = {
        .on_open = on_open, .on_message = load_on_message, .on_close = on_close, .on_ping = on_ping
    };
    const struct load *l = ctx;

    load_process_init(&p, index, l, &config, driver_share_of(l->options->clients, index, l->procs));
    p.scenario = load_extra(l->shared);
    start(&p.engine, driver_share_of(l->options->warm, index, l->procs));
    load_arrive(&p, PHASE_WARM);
    start(&p.engine, UINT32_MAX);
    load_arrive(&p, PHASE_ALL);
    load_arrive(&p, PHASE_HELD);
    return load_process_end(&p);
}

/* When all of `phase` have come: waits for the joins, lets the server rest, reads. */
static void measure(struct load *l, uint32_t phase, struct meter_sample *out)
{
    uint64_t end;

    while (atomic_load(&l->shared->arrived[phase]) < l->procs ||
           atomic_load(&l->shared->joined_total) < atomic_load(&l->shared->open))
        load_tick(l);
    end = now_ns() + l->options->settle_ms * NS_PER_MS;
    while (now_ns() < end)
        load_tick(l);
    meter_read(&l->meter, out);
}

static double slope(uint64_t before, uint64_t after, uint32_t n)
{
    return ((double)after - (double)before) / n;
}

int load_run_idle(const struct load_options *o)
{
    static struct load l;
    uint32_t n = o->clients - o->warm;
    struct idle_shared *s;
    struct meter_sample warm;
    struct meter_sample all;
    double rate;
    uint64_t end;
    bool ok;

    if (o->warm >= o->clients)
        die("--warm must be less than --clients");
    load_prepare(&l, o, o->clients, sizeof *s);
    s = load_extra(l.shared);
    warm = l.meter.begin;
    load_fork(&l, idle_main);
    if (o->warm > 0)
        measure(&l, PHASE_WARM, &warm);
    load_phase(&l, PHASE_WARM, "warm");
    measure(&l, PHASE_ALL, &all);
    meter_begin(&l.meter);
    load_phase(&l, PHASE_ALL, "idle");
    end = now_ns() + o->hold_s * NS_PER_S;
    while (now_ns() < end)
        load_tick(&l);
    meter_end(&l.meter);
    load_phase(&l, PHASE_HELD, "held");
    rate = o->hold_s > 0 ? (double)atomic_load(&s->pings) / o->hold_s : 0;
    ok = atomic_load(&l.shared->open) == o->clients;
    load_result(&l, "idle");
    json_u64(&l.json, "warm", o->warm);
    json_f64(&l.json, "pss_bytes_per_connection", slope(warm.pss_bytes, all.pss_bytes, n));
    json_f64(&l.json, "slab_bytes_per_connection", slope(warm.slab_bytes, all.slab_bytes, n));
    json_u64(&l.json, "pings", atomic_load(&s->pings));
    json_f64(&l.json, "pings_per_second", rate);
    json_f64(&l.json, "cpu_us_per_ping",
             atomic_load(&s->pings) > 0
                 ? meter_cpu_s(&l.meter) * 1e6 / (double)atomic_load(&s->pings)
                 : 0);
    return load_finish(&l, o->tolerate_closes || ok);
}
