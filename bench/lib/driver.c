/* driver.c: see driver.h. */
#include "lib/driver.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"

#define DESCRIPTOR_RESERVE 64u

void *driver_share(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        die("no shared memory of %zu bytes: %s", bytes, strerror(errno));
    return p;
}

void driver_fork(struct driver *d, uint32_t count, int (*body)(uint32_t, void *), void *ctx)
{
    pid_t parent = getpid();

    *d = (struct driver){ .count = count };
    for (uint32_t i = 0; i < count; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork: %s", strerror(errno));
        if (pid == 0) {
            /* The parent may be gone already: then no death signal will come. */
            if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
                _exit(2);
            exit(body(i, ctx));
        }
        d->pids[i] = pid;
        d->running++;
    }
}

bool driver_poll(struct driver *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        int status = 0;
        int code;

        if (d->pids[i] == 0 || waitpid(d->pids[i], &status, WNOHANG) == 0)
            continue;
        code = WIFEXITED(status) ? WEXITSTATUS(status) : 2;
        if (code > d->worst_exit)
            d->worst_exit = code;
        d->pids[i] = 0;
        d->running--;
    }
    return d->running == 0;
}

int driver_join(struct driver *d, uint64_t deadline_ns)
{
    while (!driver_poll(d)) {
        if (now_ns() > deadline_ns) {
            for (uint32_t i = 0; i < d->count; i++) {
                if (d->pids[i] != 0)
                    (void)kill(d->pids[i], SIGKILL);
            }
            deadline_ns = UINT64_MAX;
        }
        (void)poll(NULL, 0, 10);
    }
    return d->worst_exit;
}

uint32_t driver_processes_for(uint32_t n_clients, uint32_t asked)
{
    struct rlimit limit;
    uint64_t per_process;
    uint64_t need;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("setrlimit: %s", strerror(errno));
    per_process = limit.rlim_cur > 2 * DESCRIPTOR_RESERVE ? limit.rlim_cur - DESCRIPTOR_RESERVE : 1;
    need = (n_clients + per_process - 1) / per_process;
    if (asked > need)
        need = asked;
    if (need == 0)
        need = 1;
    if (need > DRIVER_PROCESSES_MAX)
        die("%u clients need %llu processes, at most %u", n_clients, (unsigned long long)need,
            DRIVER_PROCESSES_MAX);
    if (asked != 0 && asked < need)
        die("%u processes cannot hold %u clients (RLIMIT_NOFILE %llu)", asked, n_clients,
            (unsigned long long)limit.rlim_cur);
    return (uint32_t)need;
}
