/* host_view.c: what /metrics shows that is in no row of counters: the age of the history, and the
 * descriptors of the house's processes. */
#include "admin/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "shm/atomic.h"
#include "shm/counters.h"
#include "shm/record.h"

#define HISTORY_LOOKS    16 /* records that are skipped at most: the oldest may be just going */
#define HISTORY_COPY_MAX 65536u

/* --- history --- */

uint64_t metrics_history_us(const struct ring *ring, uint64_t now_us)
{
    /* One process, one thread; the copy is not kept. 64-bit words for the header's alignment. */
    static uint64_t copy[HISTORY_COPY_MAX / sizeof(uint64_t)];
    const struct record_header *header = (const struct record_header *)copy;
    uint64_t at = ring_resync(ring, 0);

    for (uint32_t look = 0; look < HISTORY_LOOKS; look++) {
        uint32_t n_bytes;

        switch (ring_copy(ring, at, (uint8_t *)copy, HISTORY_COPY_MAX, &n_bytes)) {
        case HISTORY_OK:
            if (n_bytes <= HISTORY_COPY_MAX && header->time_us != 0)
                return now_us > header->time_us ? now_us - header->time_us : 0;
            at += (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES; /* long, or a void's */
            break;
        case HISTORY_GONE: at = ring_resync(ring, at + 1); break;
        case HISTORY_NOT_YET: return 0;
        }
    }
    return 0;
}

/* --- descriptors --- */

/* Entries of our own /proc/self/fd: bounded by what this process may have open. */
static uint64_t own_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n > 3 ? n - 3 : 0; /* without ".", ".." and the one that reads */
}

/* From Linux 6.2 on the size of /proc/PID/fd is the number of entries. Listing a worker's would cost
 * time per client; so on an older kernel it is what each process inherits, which is about what we
 * have, and its clients. */
static uint64_t process_descriptors(const struct region *region, int pid, uint32_t slot,
                                    uint64_t *own)
{
    char path[32];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    if (stat(path, &st) != 0)
        return 0;
    if (st.st_size > 0)
        return (uint64_t)st.st_size;
    if (*own == 0)
        *own = own_descriptors();
    return *own + shm_load_u32(&region->header->slots[slot].n_pending) +
           shm_load_u64(&region->counters[slot].gauges[GAUGE_CONNECTIONS_WEBSOCKET]) +
           shm_load_u64(&region->counters[slot].gauges[GAUGE_CONNECTIONS_POLLING]);
}

void metrics_descriptors(const struct region *region, uint64_t *open, uint64_t *max)
{
    const struct shm_header *h = region->header;
    uint64_t own = 0;

    *open = 0;
    *max = 0;
    for (uint32_t i = 0; i < PEAL_SLOTS_ALL; i++) {
        int pid = i == PEAL_SLOT_MASTER ? h->master_pid : h->slots[i].pid;
        struct rlimit limit;

        if (pid <= 0)
            continue;
        *open += process_descriptors(region, pid, i, &own);
        if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0)
            *max += limit.rlim_cur;
    }
}
