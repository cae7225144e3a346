/* region.c: one memfd, mapped by every process of the host.
 *
 *     header | config | counters | namespaces | directory | sessions | recovery | blocks | ips | commit words | payload
 *     ... and payload once more
 *
 * Invariant: the layout is a pure function of the configuration, so both sides compute it and
 *            compare: a child never trusts an offset. The payload area is mapped twice, back to
 *            back: a record that wraps is contiguous for whoever reads or writes it.
 * Owns:      the descriptor and the mapping, for the life of the process; descriptors of bells
 *            belong to whoever opened them.
 * Why:       commit words and payload are allocated by fallocate, which says so when memory is not
 *            there (MAP_POPULATE alone keeps silent and the first touch is a SIGBUS), then mapped
 *            with MAP_POPULATE, so that no append takes a page fault. The second mapping of the
 *            payload is not populated: its pages are there already, only records that wrap touch
 *            it, and page tables for a whole ring would cost every process more than those few
 *            minor faults. Everything else (the session table above all) costs memory only where it
 *            is touched. The seals keep any process from cutting the file, which would be a SIGBUS
 *            for all others. */
#include "shm/region.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/counters.h"

#define PAGE_BYTES      4096u
#define DIRECTORY_BYTES (sizeof(uint64_t) * DIRECTORY_BUCKETS) /* without what is kept */
/* Entries of one slot begin on a page of their own: the master clears whole pages of a
 * dead slot (sessions.c). */
#define SESSIONS_PER_PAGE     (PAGE_BYTES / (uint32_t)sizeof(struct shm_session))
#define SESSIONS_PER_SLOT_MIN 1024u
#define SESSIONS_PER_CLIENT \
    4u /* an Engine.IO session, three namespaces; then a claim finds it full */

/* The same for clients by address, whose dead are cleared by taking the pages away (ip_counts.c). */
#define IPS_PER_PAGE (PAGE_BYTES / (uint32_t)sizeof(struct shm_ip))

static_assert(sizeof(struct shm_session) * SESSIONS_PER_PAGE == PAGE_BYTES, "entries fill pages");
static_assert(SESSIONS_PER_SLOT_MIN % SESSIONS_PER_PAGE == 0, "whole pages");

struct layout {
    uint64_t units;
    uint64_t config, counters, namespaces, directory, sessions, commits, payload; /* offsets */
    uint64_t recovery, blocks; /* 0: recovery is off */
    uint64_t ips;              /* 0: not asked for */
    uint64_t ips_per_slot;
    uint64_t bytes;
    uint32_t sessions_per_slot;
};

/* 0: nobody has said. */
static uint64_t clients_per_slot(const struct config *config)
{
    uint64_t clients = config->max_connections_per_worker;

    if (clients == 0 || (config->max_connections != 0 && config->max_connections < clients))
        clients = config->max_connections;
    return clients;
}

static uint32_t sessions_per_slot(const struct config *config)
{
    uint32_t per_slot_max =
        (1u << SESSION_INDEX_BITS) / config->workers / SESSIONS_PER_PAGE * SESSIONS_PER_PAGE;
    uint64_t clients = clients_per_slot(config);
    uint64_t wanted;

    if (clients == 0)
        return per_slot_max;
    wanted = (clients * SESSIONS_PER_CLIENT + SESSIONS_PER_PAGE - 1) / SESSIONS_PER_PAGE *
             SESSIONS_PER_PAGE;
    if (wanted < SESSIONS_PER_SLOT_MIN)
        wanted = SESSIONS_PER_SLOT_MIN;
    return wanted < per_slot_max ? (uint32_t)wanted : per_slot_max;
}

/* At least twice as many as clients: never full, and searches are short. 0: the configuration has no use for them (ip_counts.h). */
static uint64_t ips_per_slot(const struct config *config)
{
    uint64_t clients = clients_per_slot(config);
    uint64_t n = IPS_PER_PAGE;

    if (config->max_connections_per_ip == 0 && config->balance != BALANCE_IPHASH)
        return 0;
    if (clients == 0)
        clients = (1u << SESSION_INDEX_BITS) / config->workers;
    while (n < 2 * (clients + 1))
        n *= 2;
    return n;
}

/* Gives `bytes` their place behind what is there already, on pages of their own. */
static uint64_t place(uint64_t *end, uint64_t bytes)
{
    uint64_t at = *end;

    *end = (at + bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return at;
}

static bool layout_of(const struct config *config, struct layout *l)
{
    uint64_t end = 0;
    bool power_of_two = (config->ring_bytes & (config->ring_bytes - 1)) == 0;

    if (config->workers == 0 || config->workers > PEAL_WORKERS_MAX)
        return false;
    if (!power_of_two || config->ring_bytes < RING_BYTES_MIN || config->ring_bytes > RING_BYTES_MAX)
        return false;
    l->units = config->ring_bytes / RING_UNIT_BYTES;
    l->sessions_per_slot = sessions_per_slot(config);
    (void)place(&end, sizeof(struct shm_header));
    l->config = place(&end, sizeof(struct config));
    l->counters = place(&end, sizeof(struct shm_counters) * (TOTALS_ROW + 1));
    l->namespaces = place(&end, sizeof(struct shm_namespaces));
    l->directory =
        place(&end, sizeof(uint64_t) * DIRECTORY_BUCKETS * (config->recovery_ms > 0 ? 2 : 1));
    l->sessions = place(&end, sizeof(struct shm_session) * l->sessions_per_slot * config->workers);
    l->recovery = l->blocks = 0;
    if (config->recovery_ms > 0) {
        uint64_t n = (uint64_t)l->sessions_per_slot * config->workers;

        l->recovery = place(&end, sizeof(struct shm_recovery) * n);
        l->blocks = place(&end, sizeof(struct shm_recovery_block) * n);
    }
    l->ips_per_slot = ips_per_slot(config);
    l->ips = l->ips_per_slot > 0
                 ? place(&end, sizeof(struct shm_ip) * l->ips_per_slot * config->workers)
                 : 0;
    l->commits = place(&end, sizeof(uint64_t) * l->units);
    l->payload = place(&end, config->ring_bytes);
    l->bytes = end;
    return true;
}

void region_bytes(const struct config *config, uint64_t bytes[2])
{
    struct layout l;

    bytes[0] = bytes[1] = 0;
    if (!layout_of(config, &l))
        return;
    bytes[0] = l.bytes;
    bytes[1] = l.bytes - l.commits + DIRECTORY_BYTES;
}

static bool map_part(int fd, uint8_t *at, uint64_t offset, uint64_t bytes, int flags)
{
    const void *mapped =
        mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, fd, (off_t)offset);

    return mapped != MAP_FAILED;
}

/* Maps the file and the payload behind it once more. Address space is reserved first, so that the
 * fixed mappings replace our own only. */
static int map_region(struct region *r, const struct layout *l)
{
    uint64_t ring_bytes = l->units * RING_UNIT_BYTES;
    uint8_t *base = mmap(NULL, l->bytes + ring_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int error;

    if (base == MAP_FAILED)
        return -errno;
    if (!map_part(r->fd, base, 0, l->commits, 0) ||
        !map_part(r->fd, base + l->commits, l->commits, l->bytes - l->commits, MAP_POPULATE) ||
        !map_part(r->fd, base + l->bytes, l->payload, ring_bytes, 0) ||
        madvise(base + l->directory, DIRECTORY_BYTES, MADV_POPULATE_WRITE) != 0)
        goto failed;
    r->header = (struct shm_header *)base;
    r->config = (const struct config *)(base + l->config);
    r->counters = (struct shm_counters *)(base + l->counters);
    r->namespaces = (struct shm_namespaces *)(base + l->namespaces);
    r->directory = (uint64_t *)(base + l->directory);
    r->sessions = (struct shm_session *)(base + l->sessions);
    if (l->recovery != 0) {
        r->kept = r->directory + DIRECTORY_BUCKETS;
        r->recovery = (struct shm_recovery *)(base + l->recovery);
        r->blocks = (struct shm_recovery_block *)(base + l->blocks);
    }
    if (l->ips != 0)
        r->ips = (struct shm_ip *)(base + l->ips);
    r->commits = (uint64_t *)(base + l->commits);
    r->payload = base + l->payload;
    return 0;

failed:
    error = errno;
    (void)munmap(base, l->bytes + ring_bytes);
    return -error;
}

static bool random_fill(void *out, size_t n)
{
    return getrandom(out, n, 0) == (ssize_t)n; /* up to 256 bytes are never short */
}

/* Everything that is not zero at the beginning. Position 0 is the first record's, and a commit word
 * holds position + 1: zeroed words are no commits. */
static bool header_fill(struct region *r, const struct config *config, const struct layout *l)
{
    struct shm_header *h = r->header;
    struct timespec now;

    if (!random_fill(&h->epoch, sizeof h->epoch) || !random_fill(h->hash_key, sizeof h->hash_key) ||
        !random_fill(&h->host_id, sizeof h->host_id))
        return false;
    h->host_id &= 0xffffffu;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return false;
    h->started_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    h->header_bytes = sizeof *h;
    h->region_bytes = l->bytes;
    h->n_workers = config->workers;
    h->master_pid = getpid();
    h->sessions_per_slot = l->sessions_per_slot;
    h->config_offset = l->config;
    h->config_bytes = sizeof *config;
    h->counters_offset = l->counters;
    h->namespaces_offset = l->namespaces;
    h->directory_offset = l->directory;
    h->sessions_offset = l->sessions;
    h->recovery_offset = l->recovery;
    h->blocks_offset = l->blocks;
    h->ips_offset = l->ips;
    h->ips_per_slot = l->ips_per_slot;
    h->commits_offset = l->commits;
    h->payload_offset = l->payload;
    h->max_connections = config->max_connections;
    h->ring.units = l->units;
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        h->slots[slot].parked = RING_NOT_PARKED;
        h->slots[slot].intent_at = RING_NO_INTENT;
        if (slot < config->workers)
            h->slots[slot].max_connections = config->max_connections_per_worker;
    }
    memcpy((uint8_t *)h + l->config, config, sizeof *config);
    h->version = PEAL_SHM_VERSION;
    h->magic = PEAL_SHM_MAGIC;
    return true;
}

static void region_blank(struct region *r)
{
    memset(r, 0, sizeof *r);
    r->fd = -1;
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        r->bells[slot] = -1;
}

int region_create(struct region *r, const struct config *config)
{
    struct layout l;
    int error;

    region_blank(r);
    r->self = PEAL_SLOT_MASTER;
    if (!layout_of(config, &l))
        return -EINVAL;
    r->fd = memfd_create("peal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->fd < 0)
        return -errno;
    if (ftruncate(r->fd, (off_t)l.bytes) != 0 ||
        fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
        fallocate(r->fd, 0, (off_t)l.commits, (off_t)(l.bytes - l.commits)) != 0) {
        error = errno == ENOSPC ? -ENOMEM : -errno;
        goto failed;
    }
    error = map_region(r, &l);
    if (error != 0)
        goto failed;
    if (header_fill(r, config, &l))
        return 0;
    error = -EIO;
    region_close(r);
    return error;

failed:
    (void)close(r->fd);
    r->fd = -1;
    return error;
}

/* Does the file say of itself what its own configuration says it must be? Read from the mapping, so
 * no field can be changed in between without the master's doing. */
static bool header_fits(const struct shm_header *h, const struct layout *l)
{
    return h->region_bytes == l->bytes && h->sessions_per_slot == l->sessions_per_slot &&
           h->config_offset == l->config && h->counters_offset == l->counters &&
           h->namespaces_offset == l->namespaces && h->directory_offset == l->directory &&
           h->sessions_offset == l->sessions && h->recovery_offset == l->recovery &&
           h->blocks_offset == l->blocks && h->ips_offset == l->ips &&
           h->ips_per_slot == l->ips_per_slot && h->commits_offset == l->commits &&
           h->payload_offset == l->payload && h->ring.units == l->units;
}

/* Reads header and configuration through a mapping of their own, for the layout of the rest follows
 * from them. */
static int layout_read(int fd, struct layout *l)
{
    size_t head_bytes = (sizeof(struct shm_header) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES +
                        sizeof(struct config);
    struct stat st;
    const struct shm_header *h;
    int error = -EPROTO;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (st.st_size < (off_t)head_bytes)
        return -EPROTO;
    h = mmap(NULL, head_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        return -errno;
    if (h->magic != PEAL_SHM_MAGIC || h->version != PEAL_SHM_VERSION ||
        h->header_bytes != sizeof *h || h->config_bytes != sizeof(struct config) ||
        h->config_offset != head_bytes - sizeof(struct config))
        goto out;
    if (!layout_of((const struct config *)((const uint8_t *)h + h->config_offset), l))
        goto out;
    if (l->bytes == (uint64_t)st.st_size && header_fits(h, l))
        error = 0;
out:
    (void)munmap((void *)(uintptr_t)h, head_bytes);
    return error;
}

int region_open(struct region *r, int fd, uint32_t self, const int bells[PEAL_SLOTS_ALL])
{
    struct layout l = { 0 };
    int error;

    region_blank(r);
    if (self >= PEAL_SLOTS_ALL)
        return -EINVAL;
    error = layout_read(fd, &l);
    if (error != 0)
        return error;
    r->fd = fd;
    r->self = self;
    error = map_region(r, &l);
    if (error != 0) {
        r->fd = -1; /* on failure it is still the caller's */
        return error;
    }
    memcpy(r->bells, bells, sizeof r->bells);
    return 0;
}

void region_close(struct region *r)
{
    struct layout l;

    if (r->header == NULL)
        return;
    if (layout_of(r->config, &l))
        (void)munmap(r->header, l.bytes + l.units * RING_UNIT_BYTES);
    (void)close(r->fd);
    region_blank(r);
}

void region_each_touched(struct region *r, uint64_t table, uint32_t entry_bytes, uint32_t first,
                         uint32_t end,
                         void (*each)(void *context, struct region *r, uint32_t index),
                         void *context)
{
    uint64_t at = table + (uint64_t)first * entry_bytes;
    uint64_t stop = table + (uint64_t)end * entry_bytes;

    while (at < stop) {
        off_t data = lseek(r->fd, (off_t)at, SEEK_DATA); /* nobody uses the file's offset */
        off_t hole;

        if (data < 0 || (uint64_t)data >= stop)
            return; /* ENXIO: nothing but holes */
        hole = lseek(r->fd, data, SEEK_HOLE);
        if (hole < 0 || (uint64_t)hole > stop)
            hole = (off_t)stop;
        for (uint64_t i = ((uint64_t)data - table + entry_bytes - 1) / entry_bytes;
             table + i * entry_bytes < (uint64_t)hole; i++)
            each(context, r, (uint32_t)i);
        at = (uint64_t)hole;
    }
}
