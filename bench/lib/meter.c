/* meter.c: see meter.h. */
#include "lib/meter.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/proc.h"
#include "lib/util.h"

#define LISTENERS_MAX 64u
#define TCP_LISTEN    0x0au
/* Of a process, lowest first: who listens did so before anybody came; it may hold 20,000 of clients. */
#define DESCRIPTORS_LOOKED_AT 64u

struct listeners {
    unsigned long inodes[LISTENERS_MAX];
    uint32_t count;
};

/* The kernel names listeners before connections, of which there may be a million. */
static void read_listeners(struct listeners *l, const char *path, uint16_t port)
{
    FILE *f = fopen(path, "re");
    char line[512];

    while (f && fgets(line, sizeof line, f) && l->count < LISTENERS_MAX) {
        unsigned int at;
        unsigned int state;
        unsigned long inode;

        if (sscanf(line, " %*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*s %*s %lu", &at,
                   &state, &inode) != 3)
            continue; /* the heading */
        if (state != TCP_LISTEN)
            break;
        if (at == port)
            l->inodes[l->count++] = inode;
    }
    if (f)
        (void)fclose(f);
}

static bool holds_one(pid_t pid, const struct listeners *l)
{
    char path[320];
    char link[64];
    const struct dirent *d;
    uint32_t looked_at = 0;
    bool found = false;
    DIR *dir;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    dir = opendir(path);
    while (dir && !found && looked_at++ < DESCRIPTORS_LOOKED_AT && (d = readdir(dir)) != NULL) {
        unsigned long inode;
        ssize_t n;

        (void)snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, d->d_name);
        n = readlink(path, link, sizeof link - 1);
        if (n <= 0)
            continue;
        link[n] = 0;
        if (sscanf(link, "socket:[%lu]", &inode) != 1)
            continue;
        for (uint32_t i = 0; i < l->count && !found; i++)
            found = l->inodes[i] == inode;
    }
    if (dir)
        (void)closedir(dir);
    return found;
}

static void add_root(struct meter *m, pid_t pid)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->roots[i] == pid)
            return;
    }
    if (m->count == METER_ROOTS_MAX)
        die("the server has over %u processes without a common parent", METER_ROOTS_MAX);
    m->roots[m->count++] = pid;
}

void meter_add(struct meter *m, uint32_t pid)
{
    if (pid == 0 || pid > INT32_MAX || proc_tree_count((pid_t)pid) == 0)
        die("--server-pid: there is no process %u", pid);
    add_root(m, (pid_t)pid);
}

void meter_find(struct meter *m, uint16_t port)
{
    struct listeners l = { .count = 0 };
    const struct dirent *d;
    DIR *dir;

    read_listeners(&l, "/proc/net/tcp", port);
    read_listeners(&l, "/proc/net/tcp6", port);
    dir = l.count > 0 ? opendir("/proc") : NULL;
    while (dir && (d = readdir(dir)) != NULL) {
        pid_t pid = isdigit((unsigned char)d->d_name[0]) ? (pid_t)atoi(d->d_name) : 0;
        pid_t parent = pid ? proc_parent(pid) : 0;

        if (pid && holds_one(pid, &l) && !(parent > 1 && holds_one(parent, &l)))
            add_root(m, pid);
    }
    if (dir)
        (void)closedir(dir);
}

static uint64_t slab_bytes(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[128];

    while (f && fgets(line, sizeof line, f) && sscanf(line, "Slab: %llu kB", &kib) != 1)
        ;
    if (f)
        (void)fclose(f);
    return (uint64_t)kib * 1024;
}

void meter_read(const struct meter *m, struct meter_sample *out)
{
    *out = (struct meter_sample){ .at_ns = now_ns(), .slab_bytes = slab_bytes() };
    for (uint32_t i = 0; i < m->count; i++) {
        out->cpu_ns += proc_tree_cpu_ns(m->roots[i]);
        out->pss_bytes += proc_tree_pss_bytes(m->roots[i]);
        out->processes += proc_tree_count(m->roots[i]);
    }
}

void meter_begin(struct meter *m)
{
    meter_read(m, &m->begin);
    m->ended = false;
}

void meter_end(struct meter *m)
{
    meter_read(m, &m->end);
    m->ended = true;
}

double meter_cpu_s(const struct meter *m)
{
    return m->end.cpu_ns > m->begin.cpu_ns ? (double)(m->end.cpu_ns - m->begin.cpu_ns) / 1e9 : 0;
}

void meter_json(struct json *j, const struct meter *m)
{
    double seconds = (double)(m->end.at_ns - m->begin.at_ns) / 1e9;

    json_object(j, "server");
    json_u64(j, "processes", m->end.processes);
    json_f64(j, "seconds", seconds);
    json_f64(j, "cpu_seconds", meter_cpu_s(m));
    json_f64(j, "cpus_busy", seconds > 0 ? meter_cpu_s(m) / seconds : 0);
    json_u64(j, "pss_bytes", m->end.pss_bytes);
    json_f64(j, "pss_growth_bytes", (double)m->end.pss_bytes - (double)m->begin.pss_bytes);
    json_u64(j, "slab_bytes", m->end.slab_bytes);
    json_f64(j, "slab_growth_bytes", (double)m->end.slab_bytes - (double)m->begin.slab_bytes);
    json_end(j);
}
