/* load_storm.c: everybody is cut at once and comes back, each as the real socket.io-client does.
 *
 *   OPEN -cut-> waits (plan_back_off_ms of its attempts) -> connects -> OPEN, attempts 0
 *                   ^------------- refused, lost ------------|
 *
 * All connect, which gives the rate. Then --cut=drop resets all connections from this end;
 * --cut=server waits for the server to end them all (a restart, a kill), which is yours to do when the
 * line "waiting_for_cut" comes. The run is over when all are back.
 * Invariant: nothing but its own waiting holds a client back: --connect-parallel and --connect-rate are
 *            for the time before the cut. */
#include <stdio.h>
#include <string.h>

#include "lib/load.h"

#define STEP_MS 2

enum { PHASE_CONNECTED = 1, PHASE_CUT, PHASE_BACK };

struct storm_shared {
    _Atomic uint64_t last_open_ns; /* before the cut, then after it */
    _Atomic uint64_t cut_ns;       /* the first one that was lost */
    _Atomic uint32_t back;         /* clients that have been lost and open again */
    _Atomic uint32_t attempts;
    _Atomic uint32_t back_off_max_ms; /* of one client, all of its waiting */
    _Atomic uint32_t refusals[CAUSES];
};

struct storm {
    struct load_process load;
    struct storm_shared *shared;
    uint64_t *due_ns;      /* by client: its next attempt; 0: none */
    uint32_t *back_off_ms; /* by client: what it has waited so far */
    uint8_t *attempts;     /* by client, since it was open last */
    bool *returned;        /* by client: it has been back since the cut */
    uint64_t random;
    bool cut;
};

static void raise_u64(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = atomic_load(word);

    while (value > now && !atomic_compare_exchange_weak(word, &now, value))
        ;
}

static void raise_u32(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t now = atomic_load(word);

    while (value > now && !atomic_compare_exchange_weak(word, &now, value))
        ;
}

static void on_open(struct engine *e, struct client *c)
{
    struct storm *s = ((struct load_process *)e->config.ctx)->scenario;
    uint64_t now = now_ns();

    load_opened(&s->load);
    raise_u64(&s->shared->last_open_ns, now);
    if (s->cut && !s->returned[c->id]) {
        s->returned[c->id] = true;
        atomic_fetch_add(&s->shared->back, 1);
        hist_add(&s->load.shared->latency[s->load.index], now - atomic_load(&s->shared->cut_ns));
    }
    s->attempts[c->id] = 0;
    if (e->config.dialect == DIALECT_SOCKETIO)
        load_join(&s->load, c, UINT32_MAX);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct storm *s = ((struct load_process *)e->config.ctx)->scenario;
    uint64_t never = 0;
    uint64_t now = now_ns();
    uint32_t wait;

    load_closed(&s->load, c, was_open, s->cut);
    if (!s->cut)
        return;
    (void)atomic_compare_exchange_strong(&s->shared->cut_ns, &never, now);
    if (!was_open)
        atomic_fetch_add(&s->shared->refusals[c->cause], 1);
    wait = plan_back_off_ms(s->attempts[c->id], &s->random);
    if (s->attempts[c->id] < UINT8_MAX)
        s->attempts[c->id]++;
    s->back_off_ms[c->id] += wait;
    s->due_ns[c->id] = now + wait * NS_PER_MS;
    raise_u32(&s->shared->back_off_max_ms, s->back_off_ms[c->id]);
}

static void begin_due(struct storm *s)
{
    struct engine *e = &s->load.engine;
    uint64_t now = now_ns();

    for (uint32_t i = 0; i < e->n_clients; i++) {
        if (s->due_ns[i] == 0 || s->due_ns[i] > now)
            continue;
        hist_add(&s->load.shared->lag[s->load.index], now_ns() - s->due_ns[i]);
        s->due_ns[i] = 0;
        atomic_fetch_add(&s->shared->attempts, 1);
        engine_begin(e, &e->clients[i]);
    }
}

static int storm_main(uint32_t index, void *ctx)
{
    static struct storm s;
    struct engine_config config = { .on_open = on_open,
                                    .on_message = load_on_message,
                                    .on_close = on_close };
    const struct load *l = ctx;
    struct engine *e = &s.load.engine;
    uint32_t n = driver_share_of(l->options->clients, index, l->procs);

    load_process_init(&s.load, index, l, &config, n);
    s.load.scenario = &s;
    s.shared = load_extra(l->shared);
    s.due_ns = must_calloc(n, sizeof *s.due_ns);
    s.back_off_ms = must_calloc(n, sizeof *s.back_off_ms);
    s.attempts = must_calloc(n, sizeof *s.attempts);
    s.returned = must_calloc(n, sizeof *s.returned);
    s.random = plan_random(l->options->seed, index);
    load_connect_all(&s.load);
    load_arrive(&s.load, PHASE_CONNECTED);
    s.cut = true;
    load_arrive(&s.load, PHASE_CUT);
    for (uint32_t i = 0; strcmp(l->options->cut, "drop") == 0 && i < n; i++)
        client_close(e, &e->clients[i], CLOSE_RESET);
    while (atomic_load(&s.shared->back) < l->options->clients ||
           atomic_load(&s.load.shared->open) < l->options->clients) {
        begin_due(&s);
        engine_turn(e, STEP_MS);
    }
    load_arrive(&s.load, PHASE_BACK);
    return load_process_end(&s.load);
}

/* Refused by a limit: the server said so. Anything else a client should not have met. */
static bool by_limit(uint32_t cause)
{
    return cause == 503 || cause == 429;
}

static int report(struct load *l, const struct storm_shared *s, double rate)
{
    const struct load_options *o = l->options;
    double back_s = (double)(atomic_load(&s->last_open_ns) - atomic_load(&s->cut_ns)) / 1e9;
    double back_off_s = atomic_load(&s->back_off_max_ms) / 1e3;
    double bound_s = o->bar * o->clients / rate + back_off_s;
    uint32_t others = 0;
    char name[24];
    bool ok;

    load_result(l, "storm");
    json_text(&l->json, "cut", o->cut);
    json_f64(&l->json, "connects_per_second", rate);
    json_f64(&l->json, "back_seconds", back_s);
    json_f64(&l->json, "longest_back_off_seconds", back_off_s);
    json_u64(&l->json, "attempts", atomic_load(&s->attempts));
    json_object(&l->json, "refusals");
    for (uint32_t i = 0; i < CAUSES; i++) {
        uint32_t n = atomic_load(&s->refusals[i]);

        if (n > 0)
            json_u64(&l->json, cause_name(i, name), n);
        others += by_limit(i) ? 0 : n;
    }
    json_end(&l->json);
    /* A server that is away refuses everybody until it is back. */
    ok = o->tolerate_closes || strcmp(o->cut, "server") == 0 || others == 0;
    if (o->bar > 0) {
        json_f64(&l->json, "bar", o->bar);
        json_f64(&l->json, "bound_seconds", bound_s);
        ok = ok && back_s <= bound_s;
    }
    return load_finish(l, ok);
}

int load_run_storm(const struct load_options *o)
{
    static struct load l;
    struct storm_shared *s;
    uint64_t began_ns;
    double rate;

    if (strcmp(o->cut, "drop") != 0 && strcmp(o->cut, "server") != 0)
        die("--cut is drop or server, not '%s'", o->cut);
    load_prepare(&l, o, o->clients, sizeof *s);
    s = load_extra(l.shared);
    began_ns = now_ns();
    load_fork(&l, storm_main);
    load_phase(&l, PHASE_CONNECTED, "connected");
    if (atomic_load(&l.shared->open) < o->clients)
        die("only %u of %u clients got in before the storm", atomic_load(&l.shared->open),
            o->clients);
    rate = o->clients * 1e9 / (double)(atomic_load(&s->last_open_ns) - began_ns);
    while (atomic_load(&l.shared->arrived[PHASE_CUT]) < l.procs)
        load_tick(&l);
    meter_begin(&l.meter);
    load_phase(&l, PHASE_CUT, strcmp(o->cut, "drop") == 0 ? "cut" : "waiting_for_cut");
    load_phase(&l, PHASE_BACK, "back");
    meter_end(&l.meter);
    return report(&l, s, rate);
}
