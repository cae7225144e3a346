/* host_limits.c: see host_limits.h. */
#include "master/host_limits.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"

bool host_limits_apply(struct config *c, uint64_t nofile, char *why, uint32_t why_bytes)
{
    const uint64_t workers = c->workers;
    uint64_t pending = c->max_pending, usable, host;

    assert(workers > 0);
    if (nofile < HOST_FD_KEPT + 2) {
        snprintf(why, why_bytes,
                 "RLIMIT_NOFILE = %llu: too low: a worker needs %d descriptors for itself and more "
                 "for clients; raise it (ulimit -n, LimitNOFILE=)",
                 (unsigned long long)nofile, HOST_FD_KEPT);
        return false;
    }
    if (pending > (nofile - HOST_FD_KEPT) / 2)
        pending = (nofile - HOST_FD_KEPT) / 2;
    usable = nofile - HOST_FD_KEPT - pending;
    if (usable > UINT32_MAX / CONFIG_WORKERS_MAX)
        usable = UINT32_MAX / CONFIG_WORKERS_MAX;
    host = workers * usable;
    if (c->max_connections_per_worker > usable) {
        snprintf(why, why_bytes,
                 "max_connections_per_worker = %u: this host allows %llu: RLIMIT_NOFILE is %llu, "
                 "less %llu pending (max_pending) and a reserve of %d",
                 c->max_connections_per_worker, (unsigned long long)usable,
                 (unsigned long long)nofile, (unsigned long long)pending, HOST_FD_KEPT);
        return false;
    }
    if (c->max_connections > host) {
        snprintf(why, why_bytes,
                 "max_connections = %u: this host allows %llu: %llu workers with %llu each: "
                 "RLIMIT_NOFILE is %llu, less %llu pending (max_pending) and a reserve of %d",
                 c->max_connections, (unsigned long long)host, (unsigned long long)workers,
                 (unsigned long long)usable, (unsigned long long)nofile,
                 (unsigned long long)pending, HOST_FD_KEPT);
        return false;
    }
    if (c->max_connections_per_worker == 0)
        c->max_connections_per_worker = (uint32_t)usable;
    if (c->max_connections == 0)
        c->max_connections = (uint32_t)(workers * c->max_connections_per_worker);
    c->max_pending = (uint32_t)pending;
    return true;
}

uint64_t host_nofile_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = { limit.rlim_max, limit.rlim_max };

        if (setrlimit(RLIMIT_NOFILE, &raised) < 0)
            log_warning("nofile_not_raised", "soft=%llu hard=%llu error=%m",
                        (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
        else
            limit = raised;
    }
    return limit.rlim_cur;
}
