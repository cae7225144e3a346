/* scale_host.c: see scale_host.h. */
#include "lib/scale_host.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define CHILD_TABLE "/proc/sys/net/ipv4/tcp_child_ehash_entries"
#define TABLE_MAX   (16u << 20) /* the kernel's */

/* The first line of a file, its blanks single; false when there is none. */
static bool read_line(const char *path, char *out)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(out, SCALE_TEXT_BYTES_MAX, f);

    if (f)
        (void)fclose(f);
    if (!ok)
        return false;
    out[strcspn(out, "\n")] = 0;
    for (char *c = out; *c; c++) {
        if (*c == '\t')
            *c = ' ';
    }
    return true;
}

static uint64_t read_number(const char *path)
{
    char text[SCALE_TEXT_BYTES_MAX];
    unsigned long long v = 0;

    return read_line(path, text) && sscanf(text, "%llu", &v) == 1 ? v : 0;
}

static uint64_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[SCALE_TEXT_BYTES_MAX];

    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        ;
    if (f)
        (void)fclose(f);
    return (uint64_t)kib * 1024;
}

static uint64_t nofile_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("setrlimit: %s", strerror(errno));
    return limit.rlim_cur;
}

void scale_host_check(struct scale_host *h, uint32_t n_clients, uint32_t workers, uint32_t procs)
{
    uint64_t each = (n_clients + workers - 1) / workers;
    uint64_t watches = read_number("/proc/sys/fs/epoll/max_user_watches");

    if (!read_line("/proc/sys/net/ipv4/tcp_mem", h->tcp_mem))
        h->tcp_mem[0] = 0;
    h->nofile = nofile_raise();
    h->needed_bytes = (uint64_t)n_clients * (SCALE_PAIR_KERNEL_BYTES + SCALE_PAIR_USER_BYTES) +
                      (uint64_t)(workers + procs) * SCALE_PROCESS_BYTES + SCALE_FIXED_BYTES;
    h->available_bytes = memory_available();
    if (each + SCALE_WORKER_RESERVE > h->nofile)
        die("%u clients on %u workers are %llu descriptors in each, and %u of its own: "
            "RLIMIT_NOFILE "
            "is %llu: take more --workers, or raise it",
            n_clients, workers, (unsigned long long)each, SCALE_WORKER_RESERVE,
            (unsigned long long)h->nofile);
    if (watches < n_clients)
        die("fs.epoll.max_user_watches = %llu: %u clients need one each",
            (unsigned long long)watches, n_clients);
    if (h->available_bytes < h->needed_bytes)
        die("%u clients, %u workers and %u client processes need about %llu MiB, %llu are "
            "available",
            n_clients, workers, procs, (unsigned long long)(h->needed_bytes >> 20),
            (unsigned long long)(h->available_bytes >> 20));
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die("%s = %s: %s", path, text, strerror(errno));
    (void)close(fd);
}

static void enter_namespace(void)
{
    if (unshare(CLONE_NEWNET) != 0)
        die("a network namespace of its own: %s: it needs root (CAP_SYS_ADMIN), and a container "
            "that lets it have one",
            strerror(errno));
}

/* A namespace has the established-connections table of the machine, unless its parent says that its
 * children have their own: so we are our own parent first. Without that setting (Linux 6.0 and
 * older) it stays the machine's. */
static void enter_with_table(uint32_t n_sockets)
{
    char entries[16];

    if (access(CHILD_TABLE, F_OK) != 0)
        return;
    (void)snprintf(entries, sizeof entries, "%u", n_sockets < TABLE_MAX ? n_sockets : TABLE_MAX);
    write_text(CHILD_TABLE, entries);
    enter_namespace();
}

void scale_host_enter(uint32_t n_clients)
{
    struct ifreq loopback = { .ifr_name = "lo" };
    int fd;

    enter_namespace();
    enter_with_table(2 * n_clients);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &loopback) != 0)
        die("the namespace's loopback: %s", strerror(errno));
    loopback.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &loopback) != 0)
        die("the namespace's loopback cannot be brought up: %s", strerror(errno));
    (void)close(fd);
    write_text("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535");
}

void scale_host_json(struct json *j, const struct scale_host *h)
{
    static const char *const files[][2] = {
        { "fs.nr_open", "/proc/sys/fs/nr_open" },
        { "fs.file-max", "/proc/sys/fs/file-max" },
        { "fs.epoll.max_user_watches", "/proc/sys/fs/epoll/max_user_watches" },
        { "net.core.somaxconn", "/proc/sys/net/core/somaxconn" },
        { "net.ipv4.tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog" },
        { "net.ipv4.ip_local_port_range", "/proc/sys/net/ipv4/ip_local_port_range" },
        { "net.ipv4.tcp_ehash_entries", "/proc/sys/net/ipv4/tcp_ehash_entries" },
        { "net.ipv4.tcp_congestion_control", "/proc/sys/net/ipv4/tcp_congestion_control" },
        { "net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem" },
        { "net.ipv4.tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem" },
        { "net.netfilter.nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_max" },
    };
    char text[SCALE_TEXT_BYTES_MAX];

    json_object(j, "limits");
    json_u64(j, "nofile", h->nofile);
    json_u64(j, "memory_needed_bytes", h->needed_bytes);
    json_u64(j, "memory_available_bytes", h->available_bytes);
    json_text(j, "net.ipv4.tcp_mem", h->tcp_mem);
    for (uint32_t i = 0; i < sizeof files / sizeof *files; i++)
        json_text(j, files[i][0], read_line(files[i][1], text) ? text : "none");
    json_end(j);
}
