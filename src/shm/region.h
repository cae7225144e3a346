/* region.h: the shared region: made by the master, opened by every child. The layout is include/peal/shm.h. */
#ifndef PEAL_SHM_REGION_H
#define PEAL_SHM_REGION_H

#include "base/config.h"
#include "peal/shm.h"

/* One process's view. Pointers are this process's own; only offsets are shared. Lives until the process ends. */
struct region {
    struct shm_header *header;
    const struct config *config;
    struct shm_counters
        *counters; /* [PEAL_SLOTS_ALL + 1]; the last is the totals of the dead (counters.h) */
    struct shm_namespaces *namespaces;
    uint64_t *directory;
    uint64_t *kept; /* NULL: recovery is off */
    struct shm_session *sessions;
    struct shm_recovery *recovery; /* NULL: recovery is off */
    struct shm_recovery_block *blocks;
    struct shm_ip *ips; /* NULL: clients are not counted by address */
    uint64_t *commits;
    uint8_t *payload; /* twice the payload area, contiguous */
    uint32_t self;    /* slot of this process, PEAL_SLOT_MASTER for the master */
    int fd;
    int bells[PEAL_SLOTS_ALL]; /* eventfds; -1 where not passed on */
};

/* Master: makes the memfd, populates ring, commit words and directory, and seals it. 0 or -errno (-ENOMEM: not enough memory). */
MUST_USE int region_create(struct region *r, const struct config *config);

/* Child: maps what it got from the master and checks magic, version and sizes. 0 or -errno. `bells` are copied. */
MUST_USE int region_open(struct region *r, int fd, uint32_t self, const int bells[PEAL_SLOTS_ALL]);

void region_close(struct region *r); /* for tests */

/* Calls `each` for those of the entries [first, end) of a table, at `table` of the file, that begin on a page which somebody has touched, and perhaps for
 * some that were never used. Reading a hole of the file through the mapping would allocate it; a table is mostly holes. */
void region_each_touched(struct region *r, uint64_t table, uint32_t entry_bytes, uint32_t first,
                         uint32_t end,
                         void (*each)(void *context, struct region *r, uint32_t index),
                         void *context);

/* Bytes that region_create would take with this configuration: [0] in all, [1] populated at start. */
void region_bytes(const struct config *config, uint64_t bytes[2]);

#endif
