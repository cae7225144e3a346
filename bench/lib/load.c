/* load.c: see load.h. */
#include "lib/load.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 20

enum dialect load_dialect(const struct load_options *o)
{
    return strcmp(o->dialect, "socketio") == 0 ? DIALECT_SOCKETIO : DIALECT_PLAIN;
}

void *load_extra(struct load_shared *s)
{
    return (char *)s + (sizeof *s + 63) / 64 * 64;
}

void load_prepare(struct load *l, const struct load_options *o, uint32_t clients,
                  size_t extra_bytes)
{
    memset(l, 0, sizeof *l);
    l->options = o;
    l->procs = driver_processes_for(clients, o->procs);
    l->shared = driver_share(sizeof *l->shared + 64 + extra_bytes);
    l->began_ns = now_ns();
    l->deadline_ns = l->began_ns + o->timeout_s * NS_PER_S;
}

void load_fork(struct load *l, int (*body)(uint32_t, void *))
{
    driver_fork(&l->driver, l->procs, body, l);
}

/* A line for each change, so that a test can wait for lines: who is open, and who ended how. */
static void print_changes(struct load *l)
{
    struct load_shared *s = l->shared;
    uint32_t opens = atomic_load(&s->opened_total);
    uint64_t closes = 0;
    char name[24];

    for (uint32_t i = 0; i < CAUSES; i++)
        closes += atomic_load_explicit(&s->closes[i], memory_order_relaxed);
    if (opens == l->printed_opens && closes == l->printed_closes)
        return;
    json_begin(&l->json, "counts");
    json_u64(&l->json, "t_ms", (now_ns() - l->began_ns) / NS_PER_MS);
    json_u64(&l->json, "open", atomic_load(&s->open));
    json_u64(&l->json, "opened", opens);
    json_u64(&l->json, "closed", closes);
    json_object(&l->json, "new");
    for (uint32_t i = 0; i < CAUSES; i++) {
        uint32_t n = atomic_load_explicit(&s->closes[i], memory_order_relaxed);

        if (n != l->printed[i])
            json_u64(&l->json, cause_name(i, name), n - l->printed[i]);
        l->printed[i] = n;
    }
    json_end(&l->json);
    json_print(&l->json);
    l->printed_opens = opens;
    l->printed_closes = closes;
}

void load_tick(struct load *l)
{
    (void)poll(NULL, 0, TICK_MS);
    print_changes(l);
    (void)driver_poll(&l->driver);
    if (l->driver.running < l->driver.count)
        die("a client process has ended early");
    if (now_ns() > l->deadline_ns)
        die("not done after %u s (--timeout)", l->options->timeout_s);
}

void load_phase(struct load *l, uint32_t phase, const char *event)
{
    while (atomic_load(&l->shared->arrived[phase]) < l->procs)
        load_tick(l);
    print_changes(l);
    json_begin(&l->json, event);
    json_u64(&l->json, "t_ms", (now_ns() - l->began_ns) / NS_PER_MS);
    json_u64(&l->json, "open", atomic_load(&l->shared->open));
    json_u64(&l->json, "received", atomic_load(&l->shared->messages_total));
    json_print(&l->json);
    atomic_store(&l->shared->phase, phase);
}

static void causes_json(struct json *j, const char *key, const _Atomic uint32_t *counts)
{
    char name[24];

    json_object(j, key);
    for (uint32_t i = 0; i < CAUSES; i++) {
        uint32_t n = atomic_load(&counts[i]);

        if (n > 0)
            json_u64(j, cause_name(i, name), n);
    }
    json_end(j);
}

void load_result(struct load *l, const char *scenario)
{
    static struct hist latency;
    static struct hist gaps;
    struct load_shared *s = l->shared;

    for (uint32_t i = 0; i < l->procs; i++) {
        hist_merge(&latency, &s->latency[i]);
        hist_merge(&gaps, &s->gaps[i]);
    }
    json_begin(&l->json, "result");
    json_text(&l->json, "scenario", scenario);
    json_text(&l->json, "dialect", l->options->dialect);
    json_f64(&l->json, "seconds", (double)(now_ns() - l->began_ns) / 1e9);
    json_u64(&l->json, "clients", l->options->clients);
    json_u64(&l->json, "opened", atomic_load(&s->opened_total));
    json_u64(&l->json, "open", atomic_load(&s->open));
    json_u64(&l->json, "received", atomic_load(&s->messages_total));
    json_u64(&l->json, "unexpected_closes", atomic_load(&s->unexpected_total));
    causes_json(&l->json, "closes", s->closes);
    if (l->options->slow > 0)
        causes_json(&l->json, "slow_ends", s->slow_ends);
    hist_json(&l->json, "latency", &latency);
    hist_json(&l->json, "longest_gap", &gaps);
}

int load_finish(struct load *l, bool ok)
{
    json_bool(&l->json, "ok", ok);
    json_print(&l->json);
    atomic_store(&l->shared->phase, LOAD_PHASES);
    if (driver_join(&l->driver, now_ns() + 10 * NS_PER_S) != 0)
        die("a client process failed at the end");
    return ok ? 0 : 1;
}

void load_process_init(struct load_process *p, uint32_t index, const struct load *l,
                       struct engine_config *config, uint32_t n)
{
    const struct load_options *o = l->options;

    *p = (struct load_process){
        .options = o, .shared = l->shared, .index = index, .procs = l->procs
    };
    config->dialect = load_dialect(o);
    for (uint32_t i = 0; i < o->urls.count; i++)
        target_parse(&config->targets[config->n_targets++], o->urls.values[i], config->dialect);
    config->nsp = o->nsp;
    config->auth = o->auth;
    config->connect_parallel = o->connect_parallel;
    config->connect_rate = (o->connect_rate + l->procs - 1) / l->procs;
    config->connect_timeout_ms = o->connect_timeout_ms;
    config->sources = o->sources;
    config->process = index;
    config->ctx = p;
    engine_init(&p->engine, config, n);
    p->last_ns = must_calloc(n, sizeof *p->last_ns);
    p->gap_ns = must_calloc(n, sizeof *p->gap_ns);
}

void load_arrive(struct load_process *p, uint32_t phase)
{
    atomic_fetch_add(&p->shared->arrived[phase], 1);
    while (atomic_load(&p->shared->phase) < phase)
        engine_turn(&p->engine, 10);
}

void load_opened(struct load_process *p)
{
    atomic_fetch_add(&p->shared->open, 1);
    atomic_fetch_add(&p->shared->opened_total, 1);
}

void load_closed(struct load_process *p, const struct client *c, bool was_open, bool wanted)
{
    if (was_open)
        atomic_fetch_sub(&p->shared->open, 1);
    if (!wanted)
        atomic_fetch_add(&p->shared->unexpected_total, 1);
    if (p->options->each_close) {
        struct json j;
        char name[24];

        json_begin(&j, "close");
        json_u64(&j, "client", load_number(p, c));
        json_text(&j, "cause", cause_name(c->cause, name));
        json_u64(&j, "at_ns", now_ns());
        json_print(&j);
    }
    atomic_fetch_add(&p->shared->closes[c->cause], 1);
}

uint64_t load_message(struct load_process *p, const struct client *c)
{
    uint64_t now = now_ns();
    uint64_t last = p->last_ns[c->id];

    if (last != 0 && now - last > p->gap_ns[c->id])
        p->gap_ns[c->id] = now - last;
    p->last_ns[c->id] = now;
    atomic_fetch_add_explicit(&p->shared->messages_total, 1, memory_order_relaxed);
    return now;
}

void load_gaps(struct load_process *p)
{
    for (uint32_t i = 0; i < p->engine.n_clients; i++) {
        if (p->engine.clients[i].state == CLIENT_OPEN && p->gap_ns[i] > 0)
            hist_add(&p->shared->gaps[p->index], p->gap_ns[i]);
    }
}

void load_join(struct load_process *p, struct client *c)
{
    char packet[1024];
    bool root = strcmp(p->options->nsp, "/") == 0;
    int n = snprintf(packet, sizeof packet, "2%s%s0[\"join\",\"%s\"]", root ? "" : p->options->nsp,
                     root ? "" : ",", p->options->room);

    if (n < 0 || (size_t)n >= sizeof packet)
        die("room and namespace are too long");
    (void)client_send(&p->engine, c, packet, (size_t)n);
}
