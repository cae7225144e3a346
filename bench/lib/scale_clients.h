/* scale_clients.h: the client processes of bench/scale: connect, join, answer pings, publish.
 *
 * Client number g = id * procs + process: consecutive numbers are in different processes, and room
 * g / members has its members in all of them and, as the server spreads connections, on all workers.
 * The first client of each process publishes.
 * Invariant: a process writes only its own struct scale_counts; the parent alone moves the phase.
 * Owns:      struct scale_shared, in memory of all processes, until the last of them has ended. */
#ifndef BENCH_LIB_SCALE_CLIENTS_H
#define BENCH_LIB_SCALE_CLIENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/hist.h"

#define SCALE_PAYLOAD_MIN 17u /* kind and time */
#define SCALE_PAYLOAD_MAX 8192u

enum scale_phase {
    SCALE_CONNECT = 0, /* connect and join */
    SCALE_REST,        /* answer pings; counts of pings begin */
    SCALE_FANOUT,      /* ... and publish */
    SCALE_DRAIN,       /* what was published arrives */
    SCALE_REPORT,      /* enter what was counted by client */
    SCALE_END
};

struct scale_options {
    uint32_t clients;
    uint32_t procs;
    uint32_t members;  /* of a room; 0: no rooms are joined */
    uint32_t payload;  /* bytes of text of a message */
    uint32_t parallel; /* handshakes at a time, all processes together */
    double rate;       /* messages a second to rooms, all processes together */
    double announce_s; /* between two messages to everybody; 0: none */
    uint16_t port;
};

/* What one process counts. */
struct scale_counts {
    _Atomic uint32_t opened;
    _Atomic uint32_t joined;
    _Atomic uint32_t closed;
    _Atomic uint64_t pings;
    _Atomic uint64_t sent;
    _Atomic uint64_t expected; /* deliveries of what it published */
    _Atomic uint64_t received;
    _Atomic uint64_t foreign; /* messages that nobody published */
    /* From the time that a message was due to its arrival: to rooms; to rooms within
     * SCALE_BESIDE_NS after one to everybody was due; to everybody. */
    struct hist rooms;
    struct hist beside;
    struct hist everybody;
    struct hist ping_gap; /* between two pings of one client, once all are connected */
    /* In SCALE_REPORT, over the clients that are open: */
    uint32_t pings_min;
    uint32_t pings_max;
};

struct scale_shared {
    _Atomic uint32_t phase; /* enum scale_phase */
    _Atomic uint32_t reported;
    _Atomic uint64_t announced_ns;
    _Atomic uint32_t closes[CAUSES];
    struct scale_counts counts[DRIVER_PROCESSES_MAX];
};

struct scale {
    struct scale_options options;
    struct scale_shared *shared;
};

/* Body of client process `index`; `ctx` is the struct scale. Ends in SCALE_END. */
int scale_client_main(uint32_t index, void *ctx);

#endif
