/* scale_memory.h: where the memory of a run is: by kind of process, and what the kernel has of it.
 *
 * Kernel figures are of the whole machine: what others do meanwhile is in them. A growth is told
 * from a snapshot before. */
#ifndef BENCH_LIB_SCALE_MEMORY_H
#define BENCH_LIB_SCALE_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

#include "lib/driver.h"
#include "lib/json_out.h"

#define SLAB_CACHES_MAX 400u

enum process_kind { KIND_MASTER = 0, KIND_WORKER, KIND_BRIDGE, KIND_ADMIN, KIND_CLIENT, KINDS };

struct process_memory {
    uint32_t processes;
    uint64_t pss;     /* each page shared by the number of its holders */
    uint64_t anon;    /* of it: heap and stacks */
    uint64_t shared;  /* of it: the region: ring, tables */
    uint64_t file;    /* of it: programs and libraries */
    uint64_t private; /* pages that no other process has */
};

struct slab_cache {
    char name[40];
    uint64_t bytes;
    uint64_t objects; /* in use */
};

struct scale_memory {
    struct process_memory kinds[KINDS];
    struct slab_cache caches[SLAB_CACHES_MAX];
    uint32_t n_caches; /* 0: /proc/slabinfo cannot be read */
    uint64_t slab;
    uint64_t page_tables;
    uint64_t kernel_stacks;
    uint64_t available;
    uint64_t tcp_bytes; /* what sockets have queued, as the kernel counts it */
    uint64_t tcp_sockets;
};

/* `clients` may be NULL: none are there yet. */
void scale_memory_read(struct scale_memory *m, pid_t server, const struct driver *clients);

/* What sockets have queued now, as the kernel counts it against tcp_mem: whole pages. */
uint64_t scale_memory_tcp_queued(void);

/* PSS of all processes of the server, less the pages of files. */
uint64_t scale_memory_server(const struct scale_memory *m);
/* PSS of the client processes. */
uint64_t scale_memory_clients(const struct scale_memory *m);

/* Writes `key`: what is there now, and for the kernel how much it grew since `before`: the caches
 * that grew most, and all together by connection. */
void scale_memory_json(struct json *j, const char *key, const struct scale_memory *now,
                       const struct scale_memory *before, uint32_t n_connections);

#endif
