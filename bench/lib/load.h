/* load.h: what the scenarios of bench/load share.
 *
 * The parent forks client processes, moves them from phase to phase (each when all have
 * arrived), and prints one JSON object a line: progress, closes as they come, and at last
 * {"event":"result",…,"ok":…}.
 * Invariant: client number g lives in process g % procs, so that the special ones (the first
 *            numbers) are spread.
 * Owns:      struct load_shared: written by the clients with atomics, read by the parent. */
#ifndef BENCH_LIB_LOAD_H
#define BENCH_LIB_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/hist.h"
#include "lib/json_out.h"
#include "lib/meter.h"
#include "lib/plan.h"
#include "lib/util.h"

#define LOAD_PHASES     72u
#define LOAD_ROUNDS_MAX 32u
#define LOAD_LEAD_MAX   2048u

struct load_options {
    struct opt_list urls;
    struct opt_list publish_urls;
    struct opt_list server_pids;
    const char *admin_url;
    const char *join_event;
    const char *publish_event;
    const char *echo_event;
    const char *cut;
    const char *dialect;
    const char *nsp;
    const char *auth;
    const char *room;
    const char *expect;
    const char *mix;
    uint32_t clients;
    uint32_t procs;
    uint32_t sources;
    uint32_t connect_parallel;
    uint32_t connect_rate;
    uint32_t connect_timeout_ms;
    uint32_t timeout_s;
    uint32_t publishers;
    uint32_t messages;
    uint32_t payload;
    uint32_t window;
    uint32_t slow;
    uint32_t settle_ms;
    uint32_t spare;
    uint32_t concurrent;
    uint32_t life_ms;
    uint32_t seed;
    uint32_t rooms;
    uint32_t burst;
    uint32_t rounds;
    uint32_t warm;
    uint32_t hold_s;
    uint32_t probes;
    double rate;
    double total_rate;
    double zipf;
    double bar;
    bool unacknowledged;
    bool tolerate_closes;
    bool each_close;
    bool stay;
};

struct load_shared {
    _Atomic uint32_t phase;
    _Atomic uint32_t arrived[LOAD_PHASES];
    _Atomic uint32_t open; /* now */
    _Atomic uint32_t opened_total;
    _Atomic uint32_t joined_total;
    _Atomic uint64_t messages_total;   /* received */
    _Atomic uint32_t unexpected_total; /* closes that neither we nor the scenario wanted */
    _Atomic uint32_t closes[CAUSES];
    _Atomic uint32_t slow_ends[CAUSES];
    _Atomic uint32_t silent_open;
    _Atomic uint32_t command_seq; /* hold: what the parent read from standard input */
    _Atomic uint32_t command_verb;
    _Atomic uint32_t command_count;
    struct hist latency[DRIVER_PROCESSES_MAX];
    /* Of each client that stayed: its longest time between two messages. */
    struct hist gaps[DRIVER_PROCESSES_MAX];
    /* How late this program itself was with what had a time: the server is not to blame for that. */
    struct hist lag[DRIVER_PROCESSES_MAX];
};

/* One client process. The engine's config.ctx points here. */
struct load_process {
    const struct load_options *options;
    struct load_shared *shared;
    struct engine engine;
    uint32_t index;
    uint32_t procs;
    uint64_t *last_ns; /* by client: when it last got a message; 0: never */
    uint64_t *gap_ns;  /* by client: the longest time between two */
    int timer_fd;      /* for load_turn_until(); 0: not yet needed */
    void *scenario;
};

/* The parent's side of a run. */
struct load {
    const struct load_options *options;
    struct load_shared *shared;
    struct driver driver;
    uint32_t procs;
    uint64_t began_ns;
    uint64_t deadline_ns;
    uint32_t printed_opens;
    uint64_t printed_closes;
    uint32_t printed[CAUSES];
    struct meter meter; /* begun by load_prepare(); scenarios that measure a part begin it anew */
    struct json json;
};

/* The number of a client over all processes. */
static inline uint32_t load_number(const struct load_process *p, const struct client *c)
{
    return c->id * p->procs + p->index;
}

enum dialect load_dialect(const struct load_options *o);

/* Parent: makes the shared memory: our own part, and `extra_bytes` behind it (load_extra). */
void load_prepare(struct load *l, const struct load_options *o, uint32_t clients,
                  size_t extra_bytes);
/* Parent: makes the processes; `body` gets the load as its context. */
void load_fork(struct load *l, int (*body)(uint32_t index, void *ctx));
/* The `extra_bytes`, aligned to 64. */
void *load_extra(struct load_shared *s);

/* Parent: prints what changed, reaps; dies when a client process failed or time is up. Waits
 * about 20 ms. */
void load_tick(struct load *l);
/* Parent: ticks until all processes have arrived at `phase`, then says so in a line `event` and
 * lets them go on. */
void load_phase(struct load *l, uint32_t phase, const char *event);
/* Parent: the part of the result that all scenarios have; the caller adds its own and calls
 * load_finish. */
void load_result(struct load *l, const char *scenario);
/* Parent: prints the result with "ok", ends the processes. Returns the exit code. */
int load_finish(struct load *l, bool ok);

/* Client: an engine for `n` clients, with the callbacks of `config`, which need not set anything
 * else. */
void load_process_init(struct load_process *p, uint32_t index, const struct load *l,
                       struct engine_config *config, uint32_t n);
/* Client: waits for events, at most until `due_ns` (to the timer, not to the millisecond) or 20 ms. */
void load_turn_until(struct load_process *p, uint64_t due_ns);
/* Client: starts all clients and waits until each is open or refused. */
void load_connect_all(struct load_process *p);
/* Client: the end of every body: waits for the parent's last word, closes everything. Returns 0. */
int load_process_end(struct load_process *p);
/* Client: writes "TYPE[/nsp,][ID]" of a packet; returns its length. `id` UINT32_MAX: none. */
uint32_t load_packet_lead(const struct load_process *p, char *out, uint32_t max, uint32_t id);
/* Client: a packet up to the text of a message: [PUBLISH_EVENT,ROOM,"m"," behind load_packet_lead(). `out` has
 * LOAD_LEAD_MAX bytes. `number` as for load_join(). */
uint32_t load_publish_lead(const struct load_process *p, char *out, uint32_t id, uint32_t number);
/* Is it an answer that refuses: an object with "ok":false? Servers may answer otherwise, or with nothing. */
bool load_refused(const struct sio_packet *answer);
/* Client: arrives at `phase` and turns the engine until the parent lets all go on. */
void load_arrive(struct load_process *p, uint32_t phase);
/* Client: counts of an opened, a closed client; `wanted`: this end is part of the scenario. */
void load_opened(struct load_process *p);
void load_closed(struct load_process *p, const struct client *c, bool was_open, bool wanted);
/* Client: a message came; keeps the gap. Returns the time. */
uint64_t load_message(struct load_process *p, const struct client *c);
/* Client: on_message of scenarios in which nothing but joins is asked: counts an answer as a join, the rest as messages. */
void load_on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary);
/* Client: enters the gaps of those still open into the shared histogram. */
void load_gaps(struct load_process *p);
/* Client: asks for the room with acknowledgement id 0 (Socket.IO); `number` UINT32_MAX: "ROOM", else "ROOM-NUMBER". */
void load_join(struct load_process *p, struct client *c, uint32_t number);

int load_run_connect(const struct load_options *o);
int load_run_idle(const struct load_options *o);
int load_run_echo(const struct load_options *o);
int load_run_fanout(const struct load_options *o);
/* `unicast`: a room for each member. */
int load_run_rooms(const struct load_options *o, bool unicast);
int load_run_storm(const struct load_options *o);
int load_run_hold(const struct load_options *o);
int load_run_churn(const struct load_options *o);
int load_run_plan(const struct load_options *o);

#endif
