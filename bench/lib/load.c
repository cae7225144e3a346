/* load.c: see load.h. */
#include "lib/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
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

/* The server's processes: those named, else those that listen here where we connect to. */
static void find_server(struct meter *m, const struct load_options *o)
{
    struct target t;

    for (uint32_t i = 0; i < o->server_pids.count; i++) {
        uint32_t pid;

        if (!parse_u32(o->server_pids.values[i], &pid))
            die("--server-pid is a number, not '%s'", o->server_pids.values[i]);
        meter_add(m, pid);
    }
    for (uint32_t i = 0; i < o->urls.count && o->server_pids.count == 0; i++) {
        target_parse(&t, o->urls.values[i], load_dialect(o));
        if (ntohl(t.address.sin_addr.s_addr) >> 24 == 127)
            meter_find(m, ntohs(t.address.sin_port));
    }
}

void load_prepare(struct load *l, const struct load_options *o, uint32_t clients,
                  size_t extra_bytes)
{
    memset(l, 0, sizeof *l);
    l->options = o;
    l->procs = driver_processes_for(clients, o->procs);
    l->shared = driver_share(sizeof *l->shared + 64 + extra_bytes);
    find_server(&l->meter, o);
    meter_begin(&l->meter);
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
    static struct hist lag;
    struct load_shared *s = l->shared;

    if (!l->meter.ended)
        meter_end(&l->meter);

    for (uint32_t i = 0; i < l->procs; i++) {
        hist_merge(&latency, &s->latency[i]);
        hist_merge(&gaps, &s->gaps[i]);
        hist_merge(&lag, &s->lag[i]);
    }
    json_begin(&l->json, "result");
    json_text(&l->json, "scenario", scenario);
    json_text(&l->json, "dialect", l->options->dialect);
    json_f64(&l->json, "seconds", (double)(now_ns() - l->began_ns) / 1e9);
    json_u64(&l->json, "clients", l->options->clients);
    json_u64(&l->json, "client_processes", l->procs);
    json_u64(&l->json, "opened", atomic_load(&s->opened_total));
    json_u64(&l->json, "open", atomic_load(&s->open));
    json_u64(&l->json, "received", atomic_load(&s->messages_total));
    json_u64(&l->json, "unexpected_closes", atomic_load(&s->unexpected_total));
    causes_json(&l->json, "closes", s->closes);
    if (l->options->slow > 0)
        causes_json(&l->json, "slow_ends", s->slow_ends);
    hist_json(&l->json, "latency", &latency);
    hist_json(&l->json, "longest_gap", &gaps);
    if (lag.count > 0)
        hist_json(&l->json, "send_lag", &lag);
    meter_json(&l->json, &l->meter);
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

void load_on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct load_process *p = e->config.ctx;
    struct sio_packet packet;

    if (e->config.dialect == DIALECT_SOCKETIO && !binary &&
        sio_parse(data, n, e->config.nsp, &packet) == WIRE_OK && packet.type == SIO_ACK)
        atomic_fetch_add(&p->shared->joined_total, 1);
    else
        (void)load_message(p, c);
}

void load_gaps(struct load_process *p)
{
    for (uint32_t i = 0; i < p->engine.n_clients; i++) {
        if (p->engine.clients[i].state == CLIENT_OPEN && p->gap_ns[i] > 0)
            hist_add(&p->shared->gaps[p->index], p->gap_ns[i]);
    }
}

uint32_t load_packet_lead(const struct load_process *p, char *out, uint32_t max, uint32_t id)
{
    bool root = strcmp(p->options->nsp, "/") == 0;
    char digits[16] = "";
    int n;

    if (id != UINT32_MAX)
        (void)snprintf(digits, sizeof digits, "%u", id);
    n = snprintf(out, max, "2%s%s%s", root ? "" : p->options->nsp, root ? "" : ",", digits);
    if (n < 0 || (uint32_t)n >= max)
        die("--namespace is too long");
    return (uint32_t)n;
}

void load_join(struct load_process *p, struct client *c, uint32_t number)
{
    char packet[1024];
    char suffix[16] = "";
    uint32_t lead = load_packet_lead(p, packet, sizeof packet, 0);
    int n;

    if (number != UINT32_MAX)
        (void)snprintf(suffix, sizeof suffix, "-%u", number);
    n = snprintf(packet + lead, sizeof packet - lead, "[\"%s\",\"%s%s\"]", p->options->join_event,
                 p->options->room, suffix);
    if (n < 0 || (size_t)n >= sizeof packet - lead)
        die("--room and --join-event are too long");
    (void)client_send(&p->engine, c, packet, lead + (size_t)n);
}

uint32_t load_publish_lead(const struct load_process *p, char *out, uint32_t id, uint32_t number)
{
    char suffix[16] = "";
    uint32_t lead = load_packet_lead(p, out, LOAD_LEAD_MAX, id);
    int n;

    if (number != UINT32_MAX)
        (void)snprintf(suffix, sizeof suffix, "-%u", number);
    n = snprintf(out + lead, LOAD_LEAD_MAX - lead, "[\"%s\",\"%s%s\",\"m\",\"",
                 p->options->publish_event, p->options->room, suffix);
    if (n < 0 || (uint32_t)n >= LOAD_LEAD_MAX - lead)
        die("--room and --publish-event are too long");
    return lead + (uint32_t)n;
}

bool load_refused(const struct sio_packet *answer)
{
    return memmem(answer->args, answer->args_bytes, "\"ok\":false", 10) != NULL;
}

void load_turn_until(struct load_process *p, uint64_t due_ns)
{
    struct itimerspec at = { .it_value = { .tv_sec = (time_t)(due_ns / NS_PER_S),
                                           .tv_nsec = (long)(due_ns % NS_PER_S) } };
    bool wait = due_ns > now_ns();

    if (p->timer_fd == 0) {
        p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (p->timer_fd < 0)
            die("timerfd: %s", strerror(errno));
        engine_watch(&p->engine, p->timer_fd);
    }
    if (wait && due_ns != UINT64_MAX &&
        timerfd_settime(p->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        die("timerfd: %s", strerror(errno));
    engine_turn(&p->engine, wait ? 20 : 0);
}

void load_connect_all(struct load_process *p)
{
    struct engine *e = &p->engine;

    (void)engine_start(e, UINT32_MAX);
    while (e->next_start < e->n_clients || e->n_starting > 0)
        engine_turn(e, 20);
}

int load_process_end(struct load_process *p)
{
    while (atomic_load(&p->shared->phase) < LOAD_PHASES)
        engine_turn(&p->engine, 20);
    engine_destroy(&p->engine);
    return 0;
}
