/* bars.c: the bars that take several runs of bench/load, or several servers: starts both.
 *
 *     bars slow      1 % of the members do not read: the others' p99 against a room where all read
 *     bars storm     20,000 clients are cut at once and come back as the real client does
 *     bars unicast   members in rooms of their own: workers woken, CPU of a message, 8 workers and 1
 *     bars parked    what a message costs for each further worker that it has to wake
 *
 * What is compared takes turns, A/B/A/B; a ratio is the median of the rounds' ratios.
 * Owns:  the servers and the load processes, which end with it.
 * Exit:  0, 1 when a bar was missed, 2 when the run says nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/child.h"
#include "lib/json_out.h"
#include "lib/machine.h"
#include "lib/proc.h"
#include "lib/redis.h"
#include "lib/wake.h"

#define ROUNDS_MAX 32u
#define WAKES      20000u

static struct {
    const char *peal;
    const char *redis_server;
    uint32_t rounds;
    uint32_t clients;
    uint32_t workers;
    uint32_t seconds;
    uint32_t probes;
    double rate;
    double p99_bar;
    double storm_bar;
    double woken_bar;
    double cpu_bar;
    double parked_bar;
    bool redis;
} opt = { .redis_server = "redis-server",
          .p99_bar = 1.5,
          .storm_bar = 1.5,
          .woken_bar = 1.2,
          .cpu_bar = 1.3,
          .parked_bar = 1.3 };

static const struct opt options[] = {
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "rounds", OPT_U32, &opt.rounds,
      "rounds of each side, up to 32 (slow 7, storm 1, unicast 5, parked 7)" },
    { "clients", OPT_U32, &opt.clients,
      "slow: members (1000); storm (20000); unicast: members (10000); parked: members (40)" },
    { "workers", OPT_U32, &opt.workers, "peal's workers (slow 2, storm 4, unicast 8, parked 8)" },
    { "seconds", OPT_U32, &opt.seconds, "slow, unicast, parked: length of a round (4, 4, 6)" },
    { "probes", OPT_U32, &opt.probes,
      "unicast: single messages before each round, up to 1000 (100)" },
    { "rate", OPT_F64, &opt.rate, "messages a second (slow 50; unicast 50000; parked 200)" },
    { "redis", OPT_FLAG, &opt.redis,
      "unicast: publishers on another host of a cluster, over Redis" },
    { "redis-server", OPT_TEXT, &opt.redis_server, "Redis' binary (redis-server)" },
    { "p99-bar", OPT_F64, &opt.p99_bar, "slow: p99 at most this many times that of none (1.5)" },
    { "storm-bar", OPT_F64, &opt.storm_bar,
      "storm: all back within this x clients / connect rate + the back-off (1.5)" },
    { "woken-bar", OPT_F64, &opt.woken_bar,
      "unicast: workers woken a message, mean (1.2; median 1)" },
    { "cpu-bar", OPT_F64, &opt.cpu_bar,
      "unicast: CPU of a message against one worker's and a bare wake for each woken (1.3)" },
    { "parked-bar", OPT_F64, &opt.parked_bar,
      "parked: CPU for each further worker at most this many bare wakes (1.3)" },
    { NULL, OPT_FLAG, NULL, NULL },
};

static void set_default(uint32_t *value, uint32_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

/* ---- the servers ---- */

static void serve(struct server *s, uint32_t workers, const struct opt_list *args)
{
    struct server_options o = {
        .name = "peal", .binary = opt.peal, .socketio = true, .workers = workers, .args = args
    };

    server_launch(s, &o);
}

static void spread(struct json *j, const char *key, double *values, uint32_t n)
{
    json_object(j, key);
    json_f64(j, "median", median_of(values, n)); /* sorts them */
    json_f64(j, "min", values[0]);
    json_f64(j, "max", values[n - 1]);
    json_end(j);
}

static void result_begin(struct json *j, const char *bar)
{
    json_begin(j, "result");
    json_text(j, "bench", bar);
    machine_json(j);
    json_u64(j, "rounds", opt.rounds);
    json_u64(j, "clients", opt.clients);
    json_u64(j, "workers", opt.workers);
}

static int result_end(struct json *j, bool ok)
{
    json_bool(j, "ok", ok);
    json_print(j);
    return ok ? 0 : 1;
}

/* A room of opt.clients members and one publisher, for a round; `n_slow` of them do not read. */
static struct outcome *run_fanout(const struct server *s, uint32_t payload, uint32_t n_slow)
{
    struct child r;

    child_begin(&r, "fanout");
    child_add(&r, "--url=ws://127.0.0.1:%u/", s->port);
    child_add(&r, "--clients=%u", opt.clients + 1);
    child_add(&r, "--rate=%f", opt.rate);
    child_add(&r, "--messages=%u", (uint32_t)(opt.rate * opt.seconds));
    child_add(&r, "--payload=%u", payload);
    child_add(&r, "--slow=%u", n_slow);
    return child_run(&r);
}

/* ---- slow ---- */

static double slow_round(const struct server *s, uint32_t round, uint32_t n_slow, bool *ok)
{
    struct outcome *result = run_fanout(s, 1000, n_slow);
    double p99 = outcome_number(result, "latency.p99_us");
    struct json j;

    *ok = *ok && outcome_ok(result);
    json_begin(&j, "round");
    json_u64(&j, "round", round);
    json_u64(&j, "slow", n_slow);
    json_f64(&j, "samples", outcome_number(result, "latency.count"));
    json_f64(&j, "p50_us", outcome_number(result, "latency.p50_us"));
    json_f64(&j, "p99_us", p99);
    json_bool(&j, "ok", outcome_ok(result));
    json_print(&j);
    outcome_free(result);
    return p99;
}

static int bar_slow(void)
{
    double none[ROUNDS_MAX];
    double some[ROUNDS_MAX];
    double ratios[ROUNDS_MAX];
    struct server s;
    struct json j;
    bool ok = true;
    double ratio;

    set_default(&opt.rounds, 7);
    set_default(&opt.clients, 1000);
    set_default(&opt.workers, 2);
    set_default(&opt.seconds, 4);
    opt.rate = opt.rate > 0 ? opt.rate : 50;
    if (opt.clients < 100)
        die("--clients is at least 100: one of a hundred is slow");
    serve(&s, opt.workers, NULL);
    for (uint32_t i = 0; i < opt.rounds; i++) {
        none[i] = slow_round(&s, i, 0, &ok);
        some[i] = slow_round(&s, i, opt.clients / 100, &ok);
        ratios[i] = some[i] / none[i];
    }
    server_stop(s.pid);
    ratio = median_of(ratios, opt.rounds);
    result_begin(&j, "slow");
    json_u64(&j, "slow", opt.clients / 100);
    spread(&j, "p99_us_none", none, opt.rounds);
    spread(&j, "p99_us_slow", some, opt.rounds);
    spread(&j, "ratio", ratios, opt.rounds);
    json_f64(&j, "bar", opt.p99_bar);
    return result_end(&j, ok && ratio <= opt.p99_bar);
}

/* ---- storm ---- */

static int bar_storm(void)
{
    double back[ROUNDS_MAX];
    double bound[ROUNDS_MAX];
    double share[ROUNDS_MAX];
    struct server s;
    struct json j;
    bool ok = true;

    set_default(&opt.rounds, 1);
    set_default(&opt.clients, 20000);
    set_default(&opt.workers, 4);
    for (uint32_t i = 0; i < opt.rounds; i++) {
        struct child r;
        struct outcome *result;

        serve(&s, opt.workers, NULL);
        child_begin(&r, "storm");
        child_add(&r, "--url=ws://127.0.0.1:%u/", s.port);
        child_add(&r, "--clients=%u", opt.clients);
        child_add(&r, "--procs=2");
        child_add(&r, "--connect-parallel=512");
        child_add(&r, "--seed=%u", i + 1);
        child_add(&r, "--bar=%f", opt.storm_bar);
        result = child_run(&r);
        server_stop(s.pid);
        back[i] = outcome_number(result, "back_seconds");
        bound[i] = outcome_number(result, "bound_seconds");
        share[i] = back[i] / bound[i];
        ok = ok && outcome_ok(result);
        json_begin(&j, "round");
        json_u64(&j, "round", i);
        json_f64(&j, "connects_per_second", outcome_number(result, "connects_per_second"));
        json_f64(&j, "longest_back_off_seconds",
                 outcome_number(result, "longest_back_off_seconds"));
        json_f64(&j, "back_seconds", back[i]);
        json_f64(&j, "bound_seconds", bound[i]);
        json_f64(&j, "attempts", outcome_number(result, "attempts"));
        json_bool(&j, "ok", outcome_ok(result));
        json_print(&j);
        outcome_free(result);
    }
    result_begin(&j, "storm");
    spread(&j, "back_seconds", back, opt.rounds);
    spread(&j, "bound_seconds", bound, opt.rounds);
    spread(&j, "share_of_bound", share, opt.rounds);
    json_f64(&j, "bar", opt.storm_bar);
    return result_end(&j, ok);
}

/* ---- parked ---- */

/* CPU of a message to a few members, so seldom that all workers sleep before it. */
static double parked_round(const struct server *s, uint32_t workers, uint32_t round, bool *ok)
{
    struct outcome *result = run_fanout(s, 64, 0);
    double cpu_us =
        outcome_number(result, "server.cpu_seconds") * 1e6 / (uint32_t)(opt.rate * opt.seconds);
    struct json j;

    *ok = *ok && outcome_ok(result);
    json_begin(&j, "round");
    json_u64(&j, "round", round);
    json_u64(&j, "workers", workers);
    json_f64(&j, "cpu_us_per_message", cpu_us);
    json_f64(&j, "p50_us", outcome_number(result, "latency.p50_us"));
    json_bool(&j, "ok", outcome_ok(result));
    json_print(&j);
    outcome_free(result);
    return cpu_us;
}

static int bar_parked(void)
{
    double many[ROUNDS_MAX];
    double one[ROUNDS_MAX];
    double wakes[ROUNDS_MAX];
    double ratios[ROUNDS_MAX];
    struct server servers[2];
    struct json j;
    bool ok = true;
    double ratio;

    set_default(&opt.rounds, 7);
    set_default(&opt.clients, 40);
    set_default(&opt.workers, 8);
    set_default(&opt.seconds, 6);
    opt.rate = opt.rate > 0 ? opt.rate : 200;
    if (opt.workers < 2 || opt.clients < opt.workers)
        die("--workers is at least 2, --clients at least --workers: each has a member to send to");
    serve(&servers[0], opt.workers, NULL);
    serve(&servers[1], 1, NULL);
    for (uint32_t i = 0; i < opt.rounds; i++) {
        many[i] = parked_round(&servers[0], opt.workers, i, &ok);
        one[i] = parked_round(&servers[1], 1, i, &ok);
        wakes[i] =
            wake_measure_seldom(opt.workers - 1, (uint32_t)(opt.rate * opt.seconds), opt.rate);
        ratios[i] = (many[i] - one[i]) / (opt.workers - 1) / wakes[i];
    }
    server_stop(servers[0].pid);
    server_stop(servers[1].pid);
    result_begin(&j, "parked");
    json_f64(&j, "rate", opt.rate);
    spread(&j, "cpu_us_per_message", many, opt.rounds);
    spread(&j, "cpu_us_per_message_of_one_worker", one, opt.rounds);
    spread(&j, "cpu_us_of_a_bare_wake", wakes, opt.rounds);
    spread(&j, "ratio", ratios, opt.rounds);
    json_f64(&j, "bar", opt.parked_bar);
    ratio = median_of(ratios, opt.rounds);
    return result_end(&j, ok && ratio <= opt.parked_bar);
}

/* ---- unicast ---- */

/* Members are on `host`, publishers on `from`: the same one, or another of its cluster. */
struct side {
    struct server host;
    struct server from;
    double cpu_us[ROUNDS_MAX];
    double woken[ROUNDS_MAX];
    double probe_median[ROUNDS_MAX];
    double probe_mean[ROUNDS_MAX];
};

static void side_serve(struct side *side, uint32_t workers, uint16_t redis_port)
{
    char text[2][64];
    struct opt_list args = { .values = { text[0], text[1] }, .count = 2 };

    if (!opt.redis) {
        serve(&side->host, workers, NULL);
        side->from = side->host;
        return;
    }
    (void)snprintf(text[0], sizeof text[0], "--redis=redis://127.0.0.1:%u", redis_port);
    (void)snprintf(text[1], sizeof text[1], "--redis_key=bars-%u", workers); /* a cluster each */
    serve(&side->host, workers, &args);
    serve(&side->from, 1, &args);
}

static void side_stop(const struct side *side)
{
    server_stop(side->host.pid);
    if (opt.redis)
        server_stop(side->from.pid);
}

static void unicast_round(struct side *side, uint32_t workers, uint32_t round, bool *ok)
{
    uint32_t publishers = 20;
    struct child r;
    struct json j;
    struct outcome *result;

    child_begin(&r, "unicast");
    child_add(&r, "--url=ws://127.0.0.1:%u/", side->host.port);
    child_add(&r, "--publish-url=ws://127.0.0.1:%u/", side->from.port);
    child_add(&r, "--admin-url=http://127.0.0.1:%u", side->host.admin_port);
    child_add(&r, "--server-pid=%d", side->host.pid);
    child_add(&r, "--clients=%u", opt.clients + publishers);
    child_add(&r, "--publishers=%u", publishers);
    child_add(&r, "--total-rate=%f", opt.rate);
    child_add(&r, "--messages=%u", (uint32_t)(opt.rate * opt.seconds / publishers));
    child_add(&r, "--probes=%u", opt.probes);
    result = child_run(&r);
    side->cpu_us[round] = outcome_number(result, "cpu_us_per_message");
    side->woken[round] = outcome_number(result, "woken.per_message");
    side->probe_median[round] = outcome_number(result, "woken.probe_median");
    side->probe_mean[round] = outcome_number(result, "woken.probe_mean");
    *ok = *ok && outcome_ok(result);
    json_begin(&j, "round");
    json_u64(&j, "round", round);
    json_u64(&j, "workers", workers);
    json_f64(&j, "messages_per_second", outcome_number(result, "messages_per_second"));
    json_f64(&j, "lost", outcome_number(result, "lost"));
    json_f64(&j, "unexpected_closes", outcome_number(result, "unexpected_closes"));
    json_f64(&j, "cpu_us_per_message", side->cpu_us[round]);
    json_f64(&j, "woken_per_message", side->woken[round]);
    json_f64(&j, "probe_median", side->probe_median[round]);
    json_f64(&j, "probe_mean", side->probe_mean[round]);
    json_f64(&j, "p50_us", outcome_number(result, "latency.p50_us"));
    json_f64(&j, "p99_us", outcome_number(result, "latency.p99_us"));
    json_bool(&j, "ok", outcome_ok(result));
    json_print(&j);
    outcome_free(result);
}

static int unicast_report(struct side *many, struct side *one, double *wakes)
{
    double ratios[ROUNDS_MAX];
    double probe_median;
    double probe_mean;
    double woken;
    double ratio;
    struct json j;

    for (uint32_t i = 0; i < opt.rounds; i++)
        ratios[i] = many->cpu_us[i] / (one->cpu_us[i] + wakes[i] * many->woken[i]);
    result_begin(&j, opt.redis ? "unicast over redis" : "unicast");
    json_f64(&j, "rate", opt.rate);
    spread(&j, "cpu_us_per_message", many->cpu_us, opt.rounds);
    spread(&j, "cpu_us_per_message_of_one_worker", one->cpu_us, opt.rounds);
    spread(&j, "cpu_us_of_a_bare_wake", wakes, opt.rounds);
    spread(&j, "woken_per_message", many->woken, opt.rounds);
    spread(&j, "probe_median", many->probe_median, opt.rounds);
    spread(&j, "probe_mean", many->probe_mean, opt.rounds);
    spread(&j, "cpu_ratio", ratios, opt.rounds);
    json_f64(&j, "woken_bar", opt.woken_bar);
    json_f64(&j, "cpu_bar", opt.cpu_bar);
    ratio = median_of(ratios, opt.rounds);
    woken = median_of(many->woken, opt.rounds);
    probe_median = median_of(many->probe_median, opt.rounds);
    probe_mean = median_of(many->probe_mean, opt.rounds);
    return result_end(&j, woken <= opt.woken_bar && probe_median <= 1 &&
                              probe_mean <= opt.woken_bar && ratio <= opt.cpu_bar);
}

static int bar_unicast(void)
{
    static struct side many;
    static struct side one;
    static struct wake_cost wake;
    struct server redis = { .port = 0 };
    double wakes[ROUNDS_MAX];
    bool ok = true;
    int verdict;

    set_default(&opt.rounds, 5);
    set_default(&opt.clients, 10000);
    set_default(&opt.workers, 8);
    set_default(&opt.seconds, 4);
    set_default(&opt.probes, 100);
    opt.rate = opt.rate > 0 ? opt.rate : 50000;
    if (opt.redis)
        redis_launch(&redis, opt.redis_server);
    side_serve(&many, opt.workers, redis.port);
    side_serve(&one, 1, redis.port);
    for (uint32_t i = 0; i < opt.rounds; i++) {
        unicast_round(&many, opt.workers, i, &ok);
        unicast_round(&one, 1, i, &ok);
        wake_measure(&wake, WAKES);
        wakes[i] = wake.cpu_us;
    }
    side_stop(&many);
    side_stop(&one);
    if (opt.redis)
        server_stop(redis.pid);
    verdict = unicast_report(&many, &one, wakes);
    return ok ? verdict : 1;
}

int main(int argc, char **argv)
{
    const char *bar = opt_parse(options, "bars slow|storm|unicast|parked [options]", argc, argv);

    if (opt.rounds > ROUNDS_MAX)
        die("--rounds is at most %u", ROUNDS_MAX);
    if (bar && strcmp(bar, "slow") == 0)
        return bar_slow();
    if (bar && strcmp(bar, "storm") == 0)
        return bar_storm();
    if (bar && strcmp(bar, "unicast") == 0)
        return bar_unicast();
    if (bar && strcmp(bar, "parked") == 0)
        return bar_parked();
    die("which one: slow, storm, unicast or parked? (try --help)");
}
