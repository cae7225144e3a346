/* metrics.h: /metrics, in Prometheus' text format 0.0.4. Names and labels are a contract.
 *
 * Costs a pass over the rows of counters (one per process) and some files of /proc; never anything
 * per client, per room or per record. */
#ifndef PEAL_ADMIN_METRICS_H
#define PEAL_ADMIN_METRICS_H

#include "admin/page.h"
#include "shm/ring.h"

/* A namespace that is shown by name. A label once given stays, for a series that changes its meaning is worse than none. */
struct metrics_label {
    uint32_t n_bytes;
    bool was_used; /* has had a socket at a scrape: shown from then on */
    char name[NAME_BYTES_MAX + 1];
};

struct metrics {
    struct metrics_label labels[NAMESPACES_NAMED]; /* configured ones, then those seen first */
    uint32_t n_labels;
    uint64_t life[NAMESPACES_MAX];  /* of the name that had the index when ... */
    uint16_t label[NAMESPACES_MAX]; /* ... its label was looked up; NAMESPACES_NAMED: `other` */
    bool others;                    /* there was more than has labels */
};

void metrics_init(struct metrics *m, const struct region *region);

/* `ring` is the caller's view; `now_us` is CLOCK_MONOTONIC. */
void metrics_write(struct metrics *m, const struct ring *ring, uint64_t now_us, struct page *out);

/* Is the process in the slot there and serving? */
bool metrics_slot_serves(const struct region *region, uint32_t slot);

/* Bytes of the ring between a consumer's cursor and the tail. */
uint64_t metrics_lag_bytes(const struct region *region, uint32_t slot);

/* Age of the oldest record that a reader still finds, in microseconds; 0: there is none. */
uint64_t metrics_history_us(const struct ring *ring, uint64_t now_us);

/* Open descriptors and their limit, summed over the house's processes. */
void metrics_descriptors(const struct region *region, uint64_t *open, uint64_t *max);

#endif
