/* scale_host.h: what a machine must allow before very many connections fit into it, and a network
 * namespace for them.
 *
 * Why:   the namespace has ports, addresses and sysctls of its own: the run disturbs nobody's, and
 *        needs nobody's consent.
 * Owns:  the namespace, which is the calling process's and its children's, and ends with them. */
#ifndef BENCH_LIB_SCALE_HOST_H
#define BENCH_LIB_SCALE_HOST_H

#include <stdint.h>

#include "lib/json_out.h"

/* What the check counts with; measured, see bench/README. */
#define SCALE_PAIR_KERNEL_BYTES \
    8600u                          /* both ends: sockets, inodes, files, poll and epoll entries */
#define SCALE_PAIR_USER_BYTES 700u /* server and client */
#define SCALE_PROCESS_BYTES   (8u << 20)   /* each worker, each client process */
#define SCALE_FIXED_BYTES     (256u << 20) /* ring, receive buffers, tables */
/* Descriptors of a worker that are not clients: Peal's reserve and its default max_pending. */
#define SCALE_WORKER_RESERVE 1300u

#define SCALE_TEXT_BYTES_MAX 128u

struct scale_host {
    uint64_t nofile; /* of a process; the soft limit has been raised to the hard one */
    uint64_t needed_bytes;
    uint64_t available_bytes;
    char tcp_mem[SCALE_TEXT_BYTES_MAX]; /* in pages; of the machine: a namespace shows none */
};

/* Dies when `n_clients` on loopback, both ends, do not fit into this machine: says which limit is
 * short, what it is, and what it must be. */
void scale_host_check(struct scale_host *h, uint32_t n_clients, uint32_t workers, uint32_t procs);

/* Moves the calling process into a network namespace with nothing but loopback, whose ports go from
 * 1024 to 65535, and whose table of connections has a place for each of both ends of `n_clients`.
 * Dies when it may not. */
void scale_host_enter(uint32_t n_clients);

/* Writes "limits": what counts for many connections, as it is in this namespace. */
void scale_host_json(struct json *j, const struct scale_host *h);

#endif
