/* contest.c: see contest.h. */
#include "lib/contest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/proc.h"
#include "lib/util.h"

#define CONNECT_MS         60000u
#define CONNECT_MS_PER     20u /* and for each client */
#define LAST_DELIVERIES_MS 20000u
#define NAMES_BYTES        256u
#define LOOK_MS            50 /* reading the whole of /proc more often would weigh on the clients */

void contest_pin(const struct contest_options *o)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t all = n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;

    proc_pin(o->client_cpus ? o->client_cpus : all & ~(uint64_t)o->server_cpus);
}

struct engine_config contest_engine(const struct side *s, uint32_t index)
{
    return (struct engine_config){ .n_targets = 1,
                                   .nsp = "/",
                                   .dialect = s->kind->dialect,
                                   .connect_parallel = 128,
                                   .connect_timeout_ms = 60000,
                                   .sources = 16,
                                   .process = index };
}

void contest_ready(struct side *s)
{
    atomic_fetch_add(&s->shared->processes_ready, 1);
}

void contest_fail(struct side *s, const char *why)
{
    if (atomic_exchange(&s->shared->failed, 1) == 0)
        (void)fprintf(stderr, "%s: %s\n", s->kind->name, why);
}

void contest_closed(struct side *s, const struct client *c, bool was_open)
{
    char name[24];
    char why[128];

    (void)snprintf(why, sizeof why, "client %u was closed (%s) %s", c->id,
                   cause_name(c->cause, name), was_open ? "in the run" : "before it was open");
    contest_fail(s, why);
}

void contest_wake(const struct side *s)
{
    uint64_t one = 1;

    if (write(s->wake, &one, sizeof one) != sizeof one)
        die("eventfd: %s", strerror(errno));
}

static void check_side(struct side *s)
{
    if (driver_poll(&s->clients) || s->clients.running < s->n_procs ||
        atomic_load(&s->shared->failed))
        die("%s: the clients have failed, the run is void (server's log: %s)", s->kind->name,
            s->server.log);
}

void contest_wait(struct side *s, bool (*done)(const struct side *), uint32_t timeout_ms,
                  const char *what)
{
    uint64_t end = now_ns() + timeout_ms * NS_PER_MS;

    while (!done(s)) {
        check_side(s);
        if (now_ns() > end)
            die("%s: %s took more than %u ms, the run is void (server's log: %s)", s->kind->name,
                what, timeout_ms, s->server.log);
        (void)poll(NULL, 0, 10);
    }
}

static uint64_t sum(const _Atomic uint64_t *counters, uint32_t n)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += atomic_load(&counters[i]);
    return total;
}

uint64_t contest_units(const struct side *s)
{
    return sum(s->shared->units, s->n_procs);
}

/* Units first: what is asked for meanwhile makes it false, never true. */
bool contest_at_rest(const struct side *s)
{
    uint64_t units = contest_units(s);

    return units == sum(s->shared->asked, s->n_procs);
}

static bool all_ready(const struct side *s)
{
    return atomic_load(&s->shared->processes_ready) == s->n_procs;
}

static void side_start(const struct contest *c, struct side *s, const char *name)
{
    const struct contest_options *o = c->options;
    struct server_options server = { .binary = o->peal,
                                     .app = o->app,
                                     .workers = o->workers,
                                     .cpu_mask = o->server_cpus,
                                     .args = &o->peal_args };

    s->kind = side_find(name);
    s->n_procs = driver_processes_for(c->clients, o->procs);
    s->shared = driver_share(sizeof *s->shared);
    s->own = c->own_bytes ? driver_share(c->own_bytes) : NULL;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake < 0)
        die("eventfd: %s", strerror(errno));
    side_launch(&s->server, s->kind, server, o->peers);
    driver_fork(&s->clients, s->n_procs, c->body, s);
    contest_wait(s, all_ready, CONNECT_MS + c->clients * CONNECT_MS_PER, "connecting");
}

/* Runs until the server has used `cpu_s` and the samples are there; returns what it used by the time
 * that all units asked for have come. */
static double side_run(const struct contest_options *o, struct side *s, double cpu_s,
                       uint32_t samples, uint64_t *units)
{
    uint64_t cpu = proc_tree_cpu_ns(s->server.pid);
    uint64_t before = contest_units(s);
    uint64_t end = now_ns() + o->round_seconds_max * NS_PER_S;

    atomic_store(&s->shared->run, 1);
    contest_wake(s);
    do {
        (void)poll(NULL, 0, LOOK_MS);
        check_side(s);
        /* Samples first: looking through /proc would be in them. */
    } while ((contest_units(s) - before < samples ||
              (double)(proc_tree_cpu_ns(s->server.pid) - cpu) < cpu_s * 1e9) &&
             now_ns() < end);
    atomic_store(&s->shared->run, 0);
    contest_wait(s, contest_at_rest, LAST_DELIVERIES_MS, "the last units");
    *units = contest_units(s) - before;
    return (double)(proc_tree_cpu_ns(s->server.pid) - cpu) / 1e9;
}

static void side_round(const struct contest *c, struct side *s, uint32_t round)
{
    static struct hist all;
    struct json j;

    for (uint32_t i = 0; i < s->n_procs; i++)
        memset(&s->shared->latency[i], 0, sizeof s->shared->latency[i]);
    s->cpu_seconds[round] = c->round ? c->round(s, c->options->round_cpu, &s->units[round])
                                     : side_run(c->options, s, c->options->round_cpu,
                                                c->options->round_samples, &s->units[round]);
    if (s->cpu_seconds[round] <= 0 || s->units[round] == 0)
        die("%s: nothing was measured in a round", s->kind->name);
    s->rates[round] = (double)s->units[round] / s->cpu_seconds[round];
    memset(&all, 0, sizeof all);
    for (uint32_t i = 0; i < s->n_procs; i++)
        hist_merge(&all, &s->shared->latency[i]);
    hist_merge(&s->latency, &all);
    s->p50_us[round] = (double)hist_percentile(&all, 50) / 1e3;
    s->p99_us[round] = (double)hist_percentile(&all, 99) / 1e3;
    json_begin(&j, "round");
    json_u64(&j, "round", round + 1);
    json_text(&j, "side", s->kind->name);
    json_u64(&j, c->unit, s->units[round]);
    json_f64(&j, "server_cpu_s", s->cpu_seconds[round]);
    json_f64(&j, "per_cpu_s", s->rates[round]);
    json_f64(&j, "p99_us", s->p99_us[round]);
    json_print(&j);
}

static void rounds_json(struct json *j, const char *key, const double *values, uint32_t n)
{
    json_array(j, key);
    for (uint32_t i = 0; i < n; i++)
        json_f64(j, NULL, values[i]);
    json_end(j);
}

/* Spread: (highest - lowest) / median of the rounds. */
static double side_json(struct json *j, const struct side *s, uint32_t rounds)
{
    double sorted[CONTEST_ROUNDS_MAX];
    double median;

    memcpy(sorted, s->rates, sizeof sorted);
    median = median_of(sorted, rounds);
    json_object(j, NULL);
    json_text(j, "name", s->kind->name);
    json_text(j, "dialect", s->kind->dialect == DIALECT_PLAIN ? "plain" : "socketio");
    rounds_json(j, "per_cpu_s", s->rates, rounds);
    rounds_json(j, "server_cpu_s", s->cpu_seconds, rounds);
    rounds_json(j, "p50_us", s->p50_us, rounds);
    rounds_json(j, "p99_us", s->p99_us, rounds);
    json_f64(j, "median", median);
    json_f64(j, "spread", (sorted[rounds - 1] - sorted[0]) / median);
    hist_json(j, "latency", &s->latency);
    json_end(j);
    return median;
}

/* The ratio is the median of the rounds' ratios: neighbours in time share the machine's mood. */
static int report(const struct contest *c, const struct side *sides, uint32_t n)
{
    uint32_t rounds = c->options->rounds;
    double medians[CONTEST_SIDES_MAX];
    double ratios[CONTEST_ROUNDS_MAX];
    double ratio = 0;
    struct json j;

    json_begin(&j, "result");
    json_text(&j, "bench", c->bench);
    json_text(&j, "unit", c->unit);
    machine_json(&j);
    json_u64(&j, "clients", c->clients);
    json_u64(&j, "workers", c->options->workers);
    if (c->describe)
        c->describe(&j);
    json_array(&j, "sides");
    for (uint32_t i = 0; i < n; i++)
        medians[i] = side_json(&j, &sides[i], rounds);
    json_end(&j);
    if (n > 1) {
        for (uint32_t i = 0; i < rounds; i++)
            ratios[i] = sides[0].rates[i] / sides[1].rates[i];
        ratio = median_of(ratios, rounds);
        json_f64(&j, "ratio", ratio);
        json_f64(&j, "ratio_lowest", ratios[0]);
        json_f64(&j, "ratio_highest", ratios[rounds - 1]);
        json_f64(&j, "ratio_of_medians", medians[0] / medians[1]);
    }
    json_f64(&j, "bar", c->options->bar);
    json_bool(&j, "ok", ratio >= c->options->bar);
    json_print(&j);
    return ratio >= c->options->bar ? 0 : 1;
}

static uint32_t sides_start(const struct contest *c, struct side *sides)
{
    char names[NAMES_BYTES];
    char *next = names;
    uint32_t n = 0;

    if (snprintf(names, sizeof names, "%s", c->options->sides) >= (int)sizeof names)
        die("--sides is too long");
    for (char *name; (name = strsep(&next, ",")) != NULL;) {
        if (n == CONTEST_SIDES_MAX)
            die("at most %u sides", CONTEST_SIDES_MAX);
        side_start(c, &sides[n++], name);
    }
    return n;
}

int contest_main(const struct contest *c)
{
    static struct side sides[CONTEST_SIDES_MAX];
    const struct contest_options *o = c->options;
    uint64_t ignored;
    uint32_t n;
    int result;

    if (o->rounds == 0 || o->rounds > CONTEST_ROUNDS_MAX || o->round_cpu <= 0)
        die("--rounds (1 to %u) and --round-cpu must not be 0", CONTEST_ROUNDS_MAX);
    n = sides_start(c, sides);
    contest_pin(o);
    for (uint32_t i = 0; i < n && !c->round; i++)
        (void)side_run(o, &sides[i], o->round_cpu / 2, 0, &ignored); /* warm: Node compiles */
    for (uint32_t round = 0; round < o->rounds; round++) {
        for (uint32_t i = 0; i < n; i++)
            side_round(c, &sides[i], round);
    }
    result = report(c, sides, n);
    for (uint32_t i = 0; i < n; i++) {
        (void)driver_join(&sides[i].clients, 0);
        server_stop(sides[i].server.pid);
    }
    return result;
}
