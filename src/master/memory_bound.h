/* memory_bound.h: every bound on memory, summed: what Peal can take at most, whatever its clients do. */
#ifndef PEAL_MASTER_MEMORY_BOUND_H
#define PEAL_MASTER_MEMORY_BOUND_H

#include "base/config.h"

/* What a connection costs while it is idle; measured, see README's benchmarks. */
#define MEMORY_CONNECTION_USER   1024u /* connection, session, socket, rooms, handshake */
#define MEMORY_CONNECTION_KERNEL 4608u /* socket, inode, file, dentry and one armed poll */

/* Of one worker, apart from what is in other terms: see the sum in memory_bound.c. */
#define MEMORY_WORKER_BASE (24u << 20) /* code, heap slack, parsers, tables of namespaces */

struct memory_bound {
    uint64_t region;             /* ring, commit words, tables: the shared memory as a whole */
    uint64_t region_populated;   /* of it: there from the start */
    uint64_t ring;               /* of it: the payload area */
    uint64_t commits;            /* of it: a word per unit */
    uint64_t tables;             /* of it: the rest: sessions, directory, counters, namespaces */
    uint64_t receive;            /* receive buffers of all workers, there from the start */
    uint64_t outq;               /* outq_bytes_total */
    uint64_t inbound;            /* inbound_bytes_total */
    uint64_t workers;            /* contexts, arenas, io_uring rings, nodes */
    uint64_t bridge;             /* what waits for Redis, and one reply on each connection */
    uint64_t connections_user;   /* max_connections and pending ones */
    uint64_t connections_kernel; /* of the same */
    uint64_t total;              /* the sum, each byte once */
};

/* `c` with its limits resolved; `region_bytes` as region_bytes() gives it. */
void memory_bound_sum(struct memory_bound *out, const struct config *c,
                      const uint64_t region_bytes[2]);

/* The line event=limits; warns where the sum is more than the host has, in bytes. */
void memory_bound_log(const struct memory_bound *b, const struct config *c, uint64_t nofile,
                      uint64_t host_bytes);

#endif
