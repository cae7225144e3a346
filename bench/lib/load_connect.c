/* load_connect.c: how fast clients come: the whole handshake, TCP, upgrade and (Socket.IO) the
 * namespace's CONNECT.
 *
 * `rounds` times all clients connect, at most --connect-parallel of a process at a time, then all of
 * them leave at once. Rates and the server's CPU are of the connecting alone; the server has --settle
 * to get over the leaving. `latency` is of each client, from connect() to open.
 * Invariant: a round begins when the last one's clients are closed on both ends, and ends with the
 *            last client that opens. */
#include <poll.h>
#include <stdio.h>

#include "lib/load.h"

enum { PHASE_READY = 1, PHASE_FIRST_ROUND }; /* two phases a round: begun, done */

struct connect_shared {
    _Atomic uint64_t last_open_ns;
    _Atomic uint32_t opened; /* in this round */
};

struct connects {
    struct load_process load;
    struct connect_shared *shared;
    uint64_t *began_ns; /* by client */
    uint32_t settled;   /* of this round: open or refused */
};

static void on_open(struct engine *e, struct client *c)
{
    struct connects *k = ((struct load_process *)e->config.ctx)->scenario;
    uint64_t now = now_ns();
    uint64_t last = atomic_load(&k->shared->last_open_ns);

    k->settled++;
    load_opened(&k->load);
    atomic_fetch_add(&k->shared->opened, 1);
    hist_add(&k->load.shared->latency[k->load.index], now - k->began_ns[c->id]);
    while (now > last && !atomic_compare_exchange_weak(&k->shared->last_open_ns, &last, now))
        ;
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct connects *k = ((struct load_process *)e->config.ctx)->scenario;

    k->settled += !was_open;
    load_closed(&k->load, c, was_open, c->cause == CAUSE_OURS);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    (void)data;
    (void)n;
    (void)binary;
    (void)load_message(e->config.ctx, c);
}

static void round_of(struct connects *k)
{
    struct engine *e = &k->load.engine;
    uint32_t started = 0;

    k->settled = 0;
    while (k->settled < e->n_clients) {
        while (started < e->n_clients && e->n_starting < e->config.connect_parallel) {
            k->began_ns[started] = now_ns();
            engine_begin(e, &e->clients[started++]);
        }
        engine_turn(e,
                    started < e->n_clients && e->n_starting < e->config.connect_parallel ? 0 : 5);
    }
}

static int connect_main(uint32_t index, void *ctx)
{
    static struct connects k;
    struct engine_config config = { .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close };
    const struct load *l = ctx;
    uint32_t n = driver_share_of(l->options->clients, index, l->procs);

    load_process_init(&k.load, index, l, &config, n);
    k.load.scenario = &k;
    k.shared = load_extra(l->shared);
    k.began_ns = must_calloc(n, sizeof *k.began_ns);
    load_arrive(&k.load, PHASE_READY);
    for (uint32_t r = 0; r < l->options->rounds; r++) {
        round_of(&k);
        load_arrive(&k.load, PHASE_FIRST_ROUND + 2 * r);
        for (uint32_t i = 0; i < n; i++)
            client_close(&k.load.engine, &k.load.engine.clients[i], CLOSE_RESET);
        load_arrive(&k.load, PHASE_FIRST_ROUND + 2 * r + 1);
    }
    return load_process_end(&k.load);
}

static void rest(struct load *l, uint32_t ms)
{
    uint64_t end = now_ns() + ms * NS_PER_MS;

    while (now_ns() < end)
        load_tick(l);
}

static void round_json(struct load *l, uint32_t round, double rate, double per_cpu)
{
    json_begin(&l->json, "round");
    json_u64(&l->json, "round", round);
    json_f64(&l->json, "connects_per_second", rate);
    json_f64(&l->json, "connects_per_cpu_second", per_cpu);
    json_print(&l->json);
}

static void spread_json(struct json *j, const char *key, double *values, uint32_t n)
{
    json_object(j, key);
    json_f64(j, "median", median_of(values, n)); /* sorts them */
    json_f64(j, "min", values[0]);
    json_f64(j, "max", values[n - 1]);
    json_end(j);
}

int load_run_connect(const struct load_options *o)
{
    static struct load l;
    static double rates[LOAD_ROUNDS_MAX];
    static double per_cpu[LOAD_ROUNDS_MAX];
    struct connect_shared *s;
    double cpu_s = 0;

    load_prepare(&l, o, o->clients, sizeof *s);
    s = load_extra(l.shared);
    load_fork(&l, connect_main);
    for (uint32_t r = 0; r < o->rounds; r++) {
        uint64_t began_ns;
        uint32_t before = atomic_load(&s->opened);
        uint32_t n;

        while (r == 0 && atomic_load(&l.shared->arrived[PHASE_READY]) < l.procs)
            load_tick(&l);
        meter_begin(&l.meter);
        began_ns = now_ns();
        atomic_store(&l.shared->phase, r == 0 ? PHASE_READY : PHASE_FIRST_ROUND + 2 * r - 1);
        while (atomic_load(&l.shared->arrived[PHASE_FIRST_ROUND + 2 * r]) < l.procs)
            load_tick(&l);
        meter_end(&l.meter);
        n = atomic_load(&s->opened) - before;
        rates[r] = n ? n * 1e9 / (double)(atomic_load(&s->last_open_ns) - began_ns) : 0;
        per_cpu[r] = meter_cpu_s(&l.meter) > 0 ? n / meter_cpu_s(&l.meter) : 0;
        cpu_s += meter_cpu_s(&l.meter);
        round_json(&l, r, rates[r], per_cpu[r]);
        atomic_store(&l.shared->phase, PHASE_FIRST_ROUND + 2 * r);
        while (atomic_load(&l.shared->arrived[PHASE_FIRST_ROUND + 2 * r + 1]) < l.procs)
            load_tick(&l);
        rest(&l, r + 1 < o->rounds ? o->settle_ms : 0);
    }
    load_result(&l, "connect");
    json_u64(&l.json, "rounds", o->rounds);
    spread_json(&l.json, "connects_per_second", rates, o->rounds);
    spread_json(&l.json, "connects_per_cpu_second", per_cpu, o->rounds);
    json_f64(&l.json, "connecting_cpu_seconds", cpu_s);
    return load_finish(&l,
                       o->tolerate_closes || (atomic_load(&l.shared->unexpected_total) == 0 &&
                                              atomic_load(&s->opened) == o->clients * o->rounds));
}
