/* memory_bound.c: see memory_bound.h. What the kernel may buffer for sockets is bounded by tcp_mem and
 * not by us; it is not in the sum. */
#include "master/memory_bound.h"

#include "app/host.h"
#include "base/log.h"
#include "peal/limits.h"
#include "proto/deflate.h"
#include "session/packer.h"
#include "shm/directory.h"

#define MEMORY_WS_CONTEXT      4400u /* wslay's frame context with its buffer */
#define MEMORY_SQE             64u
#define MEMORY_CQE             16u
#define MEMORY_NODE            64u  /* fan-out: a pending node of a batch, and an iovec */
#define MEMORY_DEFERRED        64u  /* an entry that waits for the cursor */
#define MEMORY_ROOM_CHANNEL    384u /* bridge: a channel with the longest name */
#define MEMORY_PENDING_CONNECT 512u /* a CONNECT in middleware */

/* What applications may have a worker keep (include/peal/app.h), besides what is theirs; the built-in ones ask for none of it. */
static uint64_t memory_of_apps(const struct config *c)
{
    const uint64_t worker =
        PEAL_DATA_BYTES_TOTAL + PEAL_REQUEST_BYTES_TOTAL + TIMERS_ALL * sizeof(struct timer) +
        PEAL_REQUESTS_MAX * sizeof(struct request) + TICKETS_MAX * sizeof(struct ticket) +
        PEAL_POSTS_MAX * sizeof(struct post) +
        (uint64_t)c->max_connections_per_worker * sizeof(struct local);

    for (uint32_t i = 0; i < c->n_namespaces; i++)
        if (c->namespaces[i].app == APP_MODULE)
            return worker;
    return 0;
}

/* deflate: of each process that appends messages, and of a worker, which takes in compressed ones. */
static uint64_t memory_of_packer(const struct config *c)
{
    return c->deflate ? packer_bytes() : 0;
}

static uint64_t memory_of_inflater(const struct config *c)
{
    return c->deflate ? INFLATER_BYTES + (uint64_t)c->max_message_bytes + 1 : 0;
}

void memory_bound_sum(struct memory_bound *out, const struct config *c,
                      const uint64_t region_bytes[2])
{
    const uint64_t n_connections = c->max_connections + (uint64_t)c->workers * c->max_pending;
    const uint64_t worker =
        MEMORY_WORKER_BASE + (uint64_t)WS_CONTEXTS_MAX * MEMORY_WS_CONTEXT +
        WORKER_SQ_ENTRIES * MEMORY_SQE + WORKER_CQ_ENTRIES * MEMORY_CQE +
        (uint64_t)WORKER_NODES_PER_BATCH * MEMORY_NODE + WORKER_CONTROL_ARENA_BYTES +
        (uint64_t)WORKER_DEFERRED_MAX * MEMORY_DEFERRED +
        (uint64_t)PENDING_CONNECTS_MAX * MEMORY_PENDING_CONNECT + directory_bytes() +
        memory_of_apps(c) + memory_of_packer(c) + memory_of_inflater(c);

    *out = (struct memory_bound){ 0 };
    out->region = region_bytes[0];
    out->region_populated = region_bytes[1];
    out->ring = c->ring_bytes;
    out->commits = c->ring_bytes / RING_UNIT_BYTES * sizeof(uint64_t);
    out->tables =
        out->region > out->ring + out->commits ? out->region - out->ring - out->commits : 0;
    out->receive = (uint64_t)c->workers * RECEIVE_BYTES_WORKER;
    out->outq = c->outq_bytes_total;
    out->inbound = c->inbound_bytes_total;
    out->workers = worker * c->workers + memory_of_packer(c); /* the admin process appends, too */
    if (c->redis
            .enabled) /* a reply lies in the reader's buffer and in the copy that is handed out */
        out->bridge = c->redis_buffer_bytes + 2 * (2ull * LINK_REPLY_MAX + LINK_COMMANDS_MAX) +
                      memory_of_packer(c);
    if (c->redis.enabled &&
        c->redis_sharded) /* (each master has two connections; the sum has one master's) */
        out->bridge += (uint64_t)REDIS_MASTERS_MAX * REDIS_FLIGHT_BYTES +
                       (uint64_t)BRIDGE_ROOMS_MAX * MEMORY_ROOM_CHANNEL;
    out->connections_user = n_connections * MEMORY_CONNECTION_USER;
    out->connections_kernel = n_connections * MEMORY_CONNECTION_KERNEL;
    out->total = out->region + out->receive + out->outq + out->inbound + out->workers +
                 out->bridge + out->connections_user + out->connections_kernel;
}

void memory_bound_log(const struct memory_bound *b, const struct config *c, uint64_t nofile,
                      uint64_t host_bytes)
{
    log_info(
        "limits",
        "max_connections=%u max_connections_per_worker=%u max_pending=%u nofile=%llu "
        "memory_bytes=%llu ring_bytes=%llu commit_bytes=%llu table_bytes=%llu "
        "receive_bytes=%llu outq_bytes=%llu inbound_bytes=%llu worker_bytes=%llu "
        "bridge_bytes=%llu connection_bytes=%llu connection_kernel_bytes=%llu populated_bytes=%llu "
        "host_bytes=%llu",
        c->max_connections, c->max_connections_per_worker, c->max_pending,
        (unsigned long long)nofile, (unsigned long long)b->total, (unsigned long long)b->ring,
        (unsigned long long)b->commits, (unsigned long long)b->tables,
        (unsigned long long)b->receive, (unsigned long long)b->outq, (unsigned long long)b->inbound,
        (unsigned long long)b->workers, (unsigned long long)b->bridge,
        (unsigned long long)b->connections_user, (unsigned long long)b->connections_kernel,
        (unsigned long long)(b->region_populated + b->receive), (unsigned long long)host_bytes);
    if (b->total > host_bytes)
        log_warning("memory_overcommitted", "memory_bytes=%llu host_bytes=%llu remedy=%s",
                    (unsigned long long)b->total, (unsigned long long)host_bytes,
                    "lower max_connections, outq_bytes_total, inbound_bytes_total or ring_bytes");
}
