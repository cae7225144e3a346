/* scale_memory.c: see scale_memory.h. */
#include "lib/scale_memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/proc.h"
#include "lib/util.h"

#define LINE_BYTES_MAX 512u
#define PROCESSES_MAX  128u
#define CACHES_SHOWN   16u
#define GROWTH_SHOWN   (256u << 10)

static const char *const kind_names[KINDS] = {
    [KIND_MASTER] = "master", [KIND_WORKER] = "workers", [KIND_BRIDGE] = "bridge",
    [KIND_ADMIN] = "admin",   [KIND_CLIENT] = "clients",
};

/* Peal's children say in their command line what they are. */
static enum process_kind kind_of(pid_t pid, pid_t root)
{
    if (pid == root)
        return KIND_MASTER;
    if (proc_command_holds(pid, "--child=bridge"))
        return KIND_BRIDGE;
    return proc_command_holds(pid, "--child=admin") ? KIND_ADMIN : KIND_WORKER;
}

/* Adds `line`'s figure to `sum` if the line is about `field`. */
static void take_kib(const char *line, const char *field, uint64_t *sum)
{
    size_t n = strlen(field);

    if (strncmp(line, field, n) == 0 && line[n] == ':')
        *sum += strtoull(line + n + 1, NULL, 10) * 1024;
}

static void read_process(struct process_memory *m, pid_t pid)
{
    char path[64];
    char line[LINE_BYTES_MAX];
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    f = fopen(path, "re");
    if (!f)
        die("%s: %s", path, strerror(errno));
    m->processes++;
    while (fgets(line, sizeof line, f)) {
        take_kib(line, "Pss", &m->pss);
        take_kib(line, "Pss_Anon", &m->anon);
        take_kib(line, "Pss_Shmem", &m->shared);
        take_kib(line, "Pss_File", &m->file);
        take_kib(line, "Private_Clean", &m->private);
        take_kib(line, "Private_Dirty", &m->private);
    }
    (void)fclose(f);
}

static void read_processes(struct scale_memory *m, pid_t server, const struct driver *clients)
{
    pid_t pids[PROCESSES_MAX];
    uint32_t n = proc_tree_pids(server, pids, PROCESSES_MAX);

    for (uint32_t i = 0; i < n; i++)
        read_process(&m->kinds[kind_of(pids[i], server)], pids[i]);
    for (uint32_t i = 0; clients && i < clients->count; i++)
        read_process(&m->kinds[KIND_CLIENT], clients->pids[i]);
}

static void read_slabs(struct scale_memory *m)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/slabinfo", "re");
    char line[LINE_BYTES_MAX];

    while (f && fgets(line, sizeof line, f) && m->n_caches < SLAB_CACHES_MAX) {
        struct slab_cache *c = &m->caches[m->n_caches];
        unsigned long long active, pages, slabs;

        if (sscanf(line, "%39s %llu %*u %*u %*u %llu : tunables %*u %*u %*u : slabdata %*u %llu",
                   c->name, &active, &pages, &slabs) != 4)
            continue; /* the two lines of the head */
        c->objects = active;
        c->bytes = slabs * pages * page;
        m->n_caches++;
    }
    if (f)
        (void)fclose(f);
}

static void read_meminfo(struct scale_memory *m)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[LINE_BYTES_MAX];

    while (f && fgets(line, sizeof line, f)) {
        take_kib(line, "Slab", &m->slab);
        take_kib(line, "PageTables", &m->page_tables);
        take_kib(line, "KernelStack", &m->kernel_stacks);
        take_kib(line, "MemAvailable", &m->available);
    }
    if (f)
        (void)fclose(f);
}

static void read_sockstat(struct scale_memory *m)
{
    FILE *f = fopen("/proc/net/sockstat", "re");
    char line[LINE_BYTES_MAX];
    unsigned long long used, pages;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "TCP: inuse %llu orphan %*u tw %*u alloc %*u mem %llu", &used, &pages) !=
            2)
            continue;
        m->tcp_sockets = used;
        m->tcp_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (f)
        (void)fclose(f);
}

void scale_memory_read(struct scale_memory *m, pid_t server, const struct driver *clients)
{
    memset(m, 0, sizeof *m);
    read_processes(m, server, clients);
    read_slabs(m);
    read_meminfo(m);
    read_sockstat(m);
}

uint64_t scale_memory_tcp_queued(void)
{
    static struct scale_memory m;

    read_sockstat(&m);
    return m.tcp_bytes;
}

uint64_t scale_memory_clients(const struct scale_memory *m)
{
    return m->kinds[KIND_CLIENT].pss;
}

uint64_t scale_memory_server(const struct scale_memory *m)
{
    uint64_t sum = 0;

    /* without the pages of programs and libraries: their share changes as others who run them come and go */
    for (uint32_t i = 0; i < KIND_CLIENT; i++)
        sum += m->kinds[i].pss - m->kinds[i].file;
    return sum;
}

static const struct slab_cache *cache_before(const struct scale_memory *before, const char *name)
{
    static const struct slab_cache none;

    for (uint32_t i = 0; i < before->n_caches; i++) {
        if (strcmp(before->caches[i].name, name) == 0)
            return &before->caches[i];
    }
    return &none;
}

struct growth {
    const char *name;
    int64_t bytes;
    int64_t objects;
};

static int compare_growth(const void *a, const void *b)
{
    const struct growth *x = a;
    const struct growth *y = b;

    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void slabs_json(struct json *j, const struct scale_memory *now,
                       const struct scale_memory *before)
{
    struct growth grown[SLAB_CACHES_MAX] = { 0 };

    for (uint32_t i = 0; i < now->n_caches; i++) {
        const struct slab_cache *c = &now->caches[i];
        const struct slab_cache *was = cache_before(before, c->name);

        grown[i] = (struct growth){ c->name, (int64_t)(c->bytes - was->bytes),
                                    (int64_t)(c->objects - was->objects) };
    }
    qsort(grown, now->n_caches, sizeof *grown, compare_growth);
    json_array(j, "slab_caches_grown");
    for (uint32_t i = 0; i < now->n_caches && i < CACHES_SHOWN; i++) {
        if (grown[i].bytes < (int64_t)GROWTH_SHOWN)
            break;
        json_object(j, NULL);
        json_text(j, "cache", grown[i].name);
        json_u64(j, "bytes", (uint64_t)grown[i].bytes);
        json_f64(j, "objects", (double)grown[i].objects);
        json_end(j);
    }
    json_end(j);
}

void scale_memory_json(struct json *j, const char *key, const struct scale_memory *now,
                       const struct scale_memory *before, uint32_t n_connections)
{
    double n = n_connections;

    json_object(j, key);
    for (uint32_t i = 0; i < KINDS; i++) {
        const struct process_memory *m = &now->kinds[i];

        if (m->processes == 0)
            continue;
        json_object(j, kind_names[i]);
        json_u64(j, "processes", m->processes);
        json_u64(j, "pss_bytes", m->pss);
        json_u64(j, "anon_bytes", m->anon);
        json_u64(j, "shared_bytes", m->shared);
        json_u64(j, "file_bytes", m->file);
        json_u64(j, "private_bytes", m->private);
        json_end(j);
    }
    json_f64(j, "server_bytes_per_connection",
             ((double)scale_memory_server(now) - (double)scale_memory_server(before)) / n);
    json_f64(j, "client_bytes_per_connection", (double)scale_memory_clients(now) / n);
    json_f64(j, "slab_bytes_per_pair", ((double)now->slab - (double)before->slab) / n);
    json_f64(j, "slab_grown_bytes", (double)now->slab - (double)before->slab);
    json_u64(j, "page_table_bytes", now->page_tables);
    json_u64(j, "kernel_stack_bytes", now->kernel_stacks);
    json_f64(j, "available_shrunk_bytes", (double)before->available - (double)now->available);
    json_u64(j, "tcp_sockets", now->tcp_sockets);
    json_u64(j, "tcp_queued_bytes", now->tcp_bytes);
    slabs_json(j, now, before);
    json_end(j);
}
