/* contest.h: several servers measured in turns, A/B/A/B, in one run.
 *
 * Every side has a server of its own and client processes of its own, all there for the whole run.
 * In a round one side's clients run until its server, all its processes together, has used
 * `round_cpu` seconds of user and system time and `round_samples` have been taken. A unit is what
 * the program counts: a delivery, a round trip, a connect.
 *
 * Invariant: clients are at rest, and have all that they wait for, between two rounds.
 * Owns:      servers and client processes; all end with contest_main(). A client process that fails
 *            or loses a connection voids the run: exit 2. */
#ifndef BENCH_LIB_CONTEST_H
#define BENCH_LIB_CONTEST_H

#include <stdatomic.h>

#include "lib/driver.h"
#include "lib/hist.h"
#include "lib/sides.h"

#define CONTEST_SIDES_MAX  12u
#define CONTEST_ROUNDS_MAX 64u

struct contest_options {
    uint32_t rounds;
    uint32_t round_samples;
    uint32_t round_seconds_max;
    uint32_t workers;
    uint32_t procs;
    uint32_t server_cpus; /* masks */
    uint32_t client_cpus;
    double round_cpu;
    double bar;
    const char *sides;
    const char *peal;
    const char *peers;
    const char *app; /* see machine.h */
    struct opt_list peal_args;
};

#define CONTEST_DEFAULTS(names)                                                                 \
    {                                                                                           \
        .rounds = 5, .round_seconds_max = 60, .workers = 1, .server_cpus = 1, .client_cpus = 1, \
        .round_cpu = 2.0, .sides = (names), .peers = "bench/peers",                             \
    }

/* The rows of an option table for `c`, a struct contest_options. */
#define CONTEST_OPTIONS(c)                                                                        \
    { "rounds", OPT_U32, &(c).rounds, "rounds of each side (5)" },                                \
        { "round-cpu", OPT_F64, &(c).round_cpu, "server CPU seconds of a round (2)" },            \
        { "round-samples", OPT_U32, &(c).round_samples, "and as many samples (0)" },              \
        { "round-seconds-max", OPT_U32, &(c).round_seconds_max,                                   \
          "but at most this long by the clock (60)" },                                            \
        { "sides", OPT_TEXT, &(c).sides, SIDES_HELP "; the ratio is first : second" },            \
        { "workers", OPT_U32, &(c).workers, "peal's workers (1)" },                               \
        { "peal", OPT_TEXT, &(c).peal, "peal's binary" },                                         \
        { "peal-arg", OPT_LIST, &(c).peal_args, "one more argument for peal, repeatable" },       \
        { "peers", OPT_TEXT, &(c).peers, "folder of the peers (bench/peers)" },                   \
        { "procs", OPT_U32, &(c).procs, "client processes of a side (as few as can hold them)" }, \
        { "server-cpus", OPT_U32, &(c).server_cpus, "CPU mask of the servers (1; 0: any)" },      \
        { "client-cpus", OPT_U32, &(c).client_cpus,                                               \
          "CPU mask of the clients (1, the servers': what waking another core costs is not "      \
          "the server's; 0: all others)" },                                                       \
    {                                                                                             \
        "bar", OPT_F64, &(c).bar, "exit 1 when the ratio is below this"                           \
    }

/* Shared by the parent and the clients of one side. Counters are of one writer each. */
struct contest_shared {
    _Atomic uint32_t processes_ready;
    _Atomic uint32_t failed;
    _Atomic uint32_t run;
    _Atomic uint64_t asked[DRIVER_PROCESSES_MAX]; /* units that are to come */
    _Atomic uint64_t units[DRIVER_PROCESSES_MAX]; /* and those that have */
    struct hist latency[DRIVER_PROCESSES_MAX];    /* of this round */
};

struct side {
    const struct side_kind *kind;
    struct server server;
    struct contest_shared *shared;
    void *own; /* shared memory of the program, `own_bytes` */
    struct driver clients;
    uint32_t n_procs;
    int wake; /* eventfd: written when a round begins */
    double rates[CONTEST_ROUNDS_MAX];
    double cpu_seconds[CONTEST_ROUNDS_MAX];
    uint64_t units[CONTEST_ROUNDS_MAX];
    double p50_us[CONTEST_ROUNDS_MAX];
    double p99_us[CONTEST_ROUNDS_MAX];
    struct hist latency; /* of all rounds */
};

struct contest {
    const char *bench;
    const char *unit; /* "deliveries" */
    const struct contest_options *options;
    uint32_t clients; /* of a side */
    size_t own_bytes;
    /* A client process; `ctx` is its side. Ends only when `failed` is set. */
    int (*body)(uint32_t index, void *ctx);
    /* One round instead of the usual one, or NULL. Gives the units, returns the CPU seconds. */
    double (*round)(struct side *s, double cpu_s, uint64_t *units);
    /* What else the result is to tell, or NULL. */
    void (*describe)(struct json *j);
};

/* Runs it, prints a line for each round and one for the result. Returns the program's exit code. */
int contest_main(const struct contest *c);

/* For client processes. */
void contest_pin(const struct contest_options *o);
/* What all programs ask of the engine of client process `index`; callbacks and `ctx` are the caller's. */
struct engine_config contest_engine(const struct side *s, uint32_t index);
/* All clients of this process are connected and in their rooms. */
void contest_ready(struct side *s);
/* Voids the run; the first reason is printed. */
void contest_fail(struct side *s, const char *why);
/* contest_fail() for a client that was closed. */
void contest_closed(struct side *s, const struct client *c, bool was_open);
/* Makes whoever watches `wake` look. */
void contest_wake(const struct side *s);
static inline void contest_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_release);
}

/* For `round`. Waits until `done`, dies when that takes longer or the clients have failed. */
void contest_wait(struct side *s, bool (*done)(const struct side *), uint32_t timeout_ms,
                  const char *what);
uint64_t contest_units(const struct side *s);
bool contest_at_rest(const struct side *s);

#endif
