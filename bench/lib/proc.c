/* proc.c: see proc.h. */
#include "lib/proc.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"

#define PROCESSES_MAX 4096u
#define TREE_MAX      128u

struct entry {
    pid_t pid;
    pid_t parent;
    uint64_t ticks;
};

struct tree {
    struct entry members[TREE_MAX];
    uint32_t count;
};

/* The command name may hold blanks and brackets, so fields are counted from the last bracket. */
static bool read_stat(pid_t pid, struct entry *out)
{
    char path[64];
    char line[1024];
    unsigned long u;
    unsigned long s;
    long cu;
    long cs;
    int parent;
    const char *fields;
    FILE *f;
    bool ok;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    ok = fgets(line, sizeof line, f) != NULL;
    (void)fclose(f);
    fields = ok ? strrchr(line, ')') : NULL;
    if (!fields || sscanf(fields + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld",
                          &parent, &u, &s, &cu, &cs) != 5)
        return false;
    *out = (struct entry){ pid, (pid_t)parent, u + s + (uint64_t)cu + (uint64_t)cs };
    return true;
}

uint64_t proc_cpu_ns(pid_t pid)
{
    char path[64];
    unsigned long long ns;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    f = fopen(path, "re");
    if (!f || fscanf(f, "%llu", &ns) != 1)
        die("%s: cannot be read", path);
    (void)fclose(f);
    return ns;
}

uint64_t proc_machine_busy_ns(void)
{
    unsigned long long user, nice, system, irq, softirq;
    FILE *f = fopen("/proc/stat", "re");

    if (!f || fscanf(f, "cpu %llu %llu %llu %*u %*u %llu %llu", &user, &nice, &system, &irq,
                     &softirq) != 5)
        die("/proc/stat: cannot be read");
    (void)fclose(f);
    return (user + nice + system + irq + softirq) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint32_t read_all(struct entry *all)
{
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    uint32_t n = 0;

    if (!dir)
        die("/proc: %s", strerror(errno));
    while (n < PROCESSES_MAX && (d = readdir(dir)) != NULL) {
        if (isdigit((unsigned char)d->d_name[0]) && read_stat((pid_t)atoi(d->d_name), &all[n]))
            n++;
    }
    (void)closedir(dir);
    return n;
}

static void tree_read(pid_t root, struct tree *t)
{
    static struct entry all[PROCESSES_MAX];
    uint32_t n = read_all(all);

    t->count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (all[i].pid == root)
            t->members[t->count++] = all[i];
    }
    for (uint32_t done = 0; done < t->count; done++) {
        for (uint32_t i = 0; i < n && t->count < TREE_MAX; i++) {
            if (all[i].parent == t->members[done].pid)
                t->members[t->count++] = all[i];
        }
    }
}

uint64_t proc_tree_cpu_ns(pid_t root)
{
    uint64_t ticks = 0;
    struct tree t;

    tree_read(root, &t);
    for (uint32_t i = 0; i < t.count; i++)
        ticks += t.members[i].ticks;
    return ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* `field`: "Pss:", or a part of it. */
static uint64_t pss_of(pid_t pid, const char *field)
{
    unsigned long long kib = 0;
    size_t n = strlen(field);
    char path[64];
    char line[256];
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    f = fopen(path, "re");
    if (!f && errno != ENOENT && errno != ESRCH && errno != EACCES)
        die("%s: %s", path, strerror(errno));
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) &&
           (strncmp(line, field, n) != 0 || sscanf(line + n, "%llu kB", &kib) != 1))
        ;
    (void)fclose(f);
    return (uint64_t)kib * 1024;
}

static uint64_t tree_pss(pid_t root, const char *field)
{
    uint64_t bytes = 0;
    struct tree t;

    tree_read(root, &t);
    for (uint32_t i = 0; i < t.count; i++)
        bytes += pss_of(t.members[i].pid, field);
    return bytes;
}

uint64_t proc_tree_pss_bytes(pid_t root)
{
    return tree_pss(root, "Pss:");
}

uint64_t proc_tree_pss_file_bytes(pid_t root)
{
    return tree_pss(root, "Pss_File:");
}

uint32_t proc_tree_pids(pid_t root, pid_t *pids, uint32_t max)
{
    struct tree t;

    tree_read(root, &t);
    for (uint32_t i = 0; i < t.count && i < max; i++)
        pids[i] = t.members[i].pid;
    return t.count < max ? t.count : max;
}

uint32_t proc_tree_count(pid_t root)
{
    struct tree t;

    tree_read(root, &t);
    return t.count;
}

pid_t proc_parent(pid_t pid)
{
    struct entry e;

    return read_stat(pid, &e) ? e.parent : 0;
}

bool proc_command_holds(pid_t pid, const char *word)
{
    char path[64];
    char line[1024];
    size_t n;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    n = fread(line, 1, sizeof line, f);
    (void)fclose(f);
    return memmem(line, n, word, strlen(word)) != NULL;
}

pid_t proc_tree_find(pid_t root, const char *word)
{
    struct tree t;

    tree_read(root, &t);
    for (uint32_t i = 1; i < t.count; i++)
        if (proc_command_holds(t.members[i].pid, word))
            return t.members[i].pid;
    return 0;
}

static int loopback_socket(uint16_t port, struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket: %s", strerror(errno));
    *a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
    a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd;
}

uint16_t proc_free_port(void)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int fd = loopback_socket(0, &a);

    if (bind(fd, (struct sockaddr *)&a, n) != 0 || getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        die("no free port: %s", strerror(errno));
    (void)close(fd);
    return ntohs(a.sin_port);
}

void proc_pin(uint64_t mask)
{
    cpu_set_t set;

    if (mask == 0)
        return;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < 64; i++) {
        if (mask >> i & 1)
            CPU_SET(i, &set);
    }
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("cannot run on the CPUs of mask %#llx: %s", (unsigned long long)mask, strerror(errno));
}

static _Noreturn void server_child(const char *const argv[], const char *log_path,
                                   uint64_t cpu_mask)
{
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct rlimit limit;
    int out = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        die("%s: %s", log_path, strerror(errno));
    /* The reference servers take the limit as it is. */
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("setrlimit: %s", strerror(errno));
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || setpgid(0, 0) != 0)
        die("server process: %s", strerror(errno));
    proc_pin(cpu_mask);
    (void)execvp(argv[0], (char *const *)(uintptr_t)argv); /* exec changes nothing in them */
    die("%s: %s", argv[0], strerror(errno));
}

pid_t server_start(const char *const argv[], const char *log_path, uint64_t cpu_mask)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0)
        server_child(argv, log_path, cpu_mask);
    return pid;
}

/* Until the server has closed this connection, which was to try it: one of Peal's places is taken by it until then. */
static void leave(int fd)
{
    const struct timeval patience = { .tv_sec = 2 };
    char rest[512];

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        shutdown(fd, SHUT_WR) != 0)
        return;
    for (int i = 0; i < 16 && recv(fd, rest, sizeof rest, 0) > 0; i++)
        ;
}

void server_wait_port(pid_t pid, uint16_t port, uint32_t timeout_ms)
{
    uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
    struct sockaddr_in a;

    for (;;) {
        int fd = loopback_socket(port, &a);
        int failed = connect(fd, (struct sockaddr *)&a, sizeof a);

        if (!failed)
            leave(fd);
        (void)close(fd);
        if (!failed)
            return;
        if (waitpid(pid, NULL, WNOHANG) != 0)
            die("the server on port %u has ended; see its log", port);
        if (now_ns() > end) {
            server_stop(pid);
            die("nothing listens on port %u after %u ms", port, timeout_ms);
        }
        (void)poll(NULL, 0, 20);
    }
}

void server_stop(pid_t pid)
{
    bool reaped = false;

    for (int i = 0; i < 150 && !reaped; i++) {
        if (i == 0 || i == 5)
            (void)kill(pid, SIGINT);
        (void)poll(NULL, 0, 20);
        reaped = waitpid(pid, NULL, WNOHANG) != 0;
    }
    (void)kill(-pid, SIGKILL);
    if (!reaped)
        (void)waitpid(pid, NULL, 0);
}
