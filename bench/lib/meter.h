/* meter.h: what a run costs the server, seen from outside: CPU, memory, kernel slab.
 *
 * The server is the processes given, or those that listen where the clients connect to, each with all
 * its descendants; what a dead descendant had used counts as long as its parent lives.
 * Owns:  nothing; it only reads /proc. Slab is the whole kernel's: both ends of all connections on this
 *        machine, and what else runs here. */
#ifndef BENCH_LIB_METER_H
#define BENCH_LIB_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/json_out.h"

#define METER_ROOTS_MAX 16u

struct meter_sample {
    uint64_t at_ns;
    uint64_t cpu_ns;
    uint64_t pss_bytes;
    uint64_t slab_bytes;
    uint32_t processes;
};

struct meter {
    pid_t roots[METER_ROOTS_MAX];
    uint32_t count;
    bool ended;
    struct meter_sample begin;
    struct meter_sample end;
};

/* Adds a process; dies when it is not there. */
void meter_add(struct meter *m, uint32_t pid);
/* Adds the topmost processes that listen on `port`: none, where the server is elsewhere. */
void meter_find(struct meter *m, uint16_t port);

void meter_read(const struct meter *m, struct meter_sample *out);
void meter_begin(struct meter *m);
/* The second one of two ends counts. */
void meter_end(struct meter *m);

/* CPU between begin and end, in seconds; 0 when no server was found, or it has been another one meanwhile. */
double meter_cpu_s(const struct meter *m);
/* Writes "server": {processes, cpu_seconds, cpus_busy, pss_bytes, pss_growth_bytes, slab_bytes, slab_growth_bytes}. */
void meter_json(struct json *j, const struct meter *m);

#endif
