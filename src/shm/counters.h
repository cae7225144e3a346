/* counters.h: what is measured: one row of words per slot, written by the process in the slot only (plain stores), read by the admin process.
 *
 * Counters survive a process: when the master reaps a slot it folds them into the row of totals (TOTALS_ROW) and clears the slot's row. A reader
 * that adds all rows sees each count once (folding is done between two stores of `folding`, a sequence word: read again if it was odd or
 * changed). Gauges of a dead slot are cleared. */
#ifndef PEAL_SHM_COUNTERS_H
#define PEAL_SHM_COUNTERS_H

#include "shm/region.h"

enum counter {
    COUNT_ACCEPTED = 0, /* clients that became one */
    COUNT_REFUSED_HOST_LIMIT,
    COUNT_REFUSED_WORKER_LIMIT,
    COUNT_REFUSED_IP_LIMIT,
    COUNT_REFUSED_RATE,
    COUNT_REFUSED_PENDING,
    COUNT_REFUSED_MEMORY,
    COUNT_REFUSED_DRAINING,
    COUNT_REFUSED_ORIGIN,
    COUNT_PROXY_MISSING, /* PROXY headers: something else came */
    COUNT_PROXY_MALFORMED,
    COUNT_PROXY_TIMEOUT, /* it was begun and not finished within header_timeout */
    COUNT_CLOSE_FIRST,   /* ... + enum close_reason */
    COUNT_CLOSE_LAST = COUNT_CLOSE_FIRST + 31,
    COUNT_SESSION_UNKNOWN_MALFORMED,
    COUNT_SESSION_UNKNOWN_OTHER_HOST,
    COUNT_SESSION_UNKNOWN_ENDED,
    COUNT_MESSAGES_RECEIVED,
    COUNT_EVENTS_UNHANDLED,
    COUNT_DELIVERIES, /* frames handed to the kernel for clients from the ring */
    COUNT_SENDS,      /* send requests */
    COUNT_BYTES_RECEIVED,
    COUNT_BYTES_SENT,
    COUNT_RING_RECORDS,
    COUNT_RING_LAPPED,
    COUNT_SLOW_CLOSE,
    COUNT_SLOW_DROP,
    COUNT_HANDOFF_PLACEMENT,
    COUNT_HANDOFF_REQUEST,
    COUNT_WS_DROPPED, /* events for /ws that are no single `message` */
    COUNT_SEND_SHORT,
    COUNT_SEND_AGAIN,
    COUNT_ENTERS,
    COUNT_BELLS_RUNG,
    COUNT_BELLS_SPARED,
    COUNT_INBOUND_EVICTED,
    COUNT_REDIS_DROPPED_UNDECODABLE,
    COUNT_REDIS_DROPPED_TOO_BIG,
    COUNT_REDIS_DROPPED_DISCONNECTED,
    COUNT_REDIS_DROPPED_BUFFER,
    COUNT_REDIS_DROPPED_LAPPED,
    COUNT_REDIS_DROPPED_EXPIRED,
    COUNT_REDIS_DROPPED_REFUSED,
    COUNT_REDIS_TRUNCATED_SOCKETS,
    COUNT_REDIS_TRUNCATED_ROOMS,
    COUNT_REDIS_PUBLISHED,
    COUNT_REDIS_RECEIVED,
    COUNT_REDIS_ROOMS_UNHEARD,
    COUNT_REDIS_UNWANTED, /* of them for nobody here: dropped undecoded */
    COUNT_FORCED_CLOSES,
    COUNT_DEFLATE_COPIES,        /* messages that have a compressed copy ... */
    COUNT_DEFLATE_PLAIN_BYTES,   /* ... their frames as they were ... */
    COUNT_DEFLATE_PACKED_BYTES,  /* ... and in the copy */
    COUNT_DEFLATE_US,            /* spent compressing */
    COUNT_DEFLATE_SKIPPED_FIRST, /* ... + enum deflate_skip */
    COUNT_DEFLATE_SKIPPED_LAST = COUNT_DEFLATE_SKIPPED_FIRST + 3,
    COUNT_INFLATED,             /* compressed messages of clients */
    COUNT_INFLATE_FAILED_FIRST, /* ... + enum inflate_failure */
    COUNT_INFLATE_FAILED_LAST = COUNT_INFLATE_FAILED_FIRST + 3,
    COUNT_RECOVERY_FIRST, /* ... + enum recovery_result */
    COUNT_RECOVERY_LAST = COUNT_RECOVERY_FIRST + 11,
    COUNT_CONNECT_REFUSED_FIRST, /* ... + enum connect_refusal */
    COUNT_CONNECT_REFUSED_LAST = COUNT_CONNECT_REFUSED_FIRST + 7,
    COUNT_FORWARD_FIRST, /* ... + enum forward_result */
    COUNT_FORWARD_LAST = COUNT_FORWARD_FIRST + 15,
    COUNTERS
};

/* Why a client's connection ended: label `reason` of peal_closes_total. Socket.IO's reasons first. */
enum close_reason {
    CLOSE_TRANSPORT_CLOSE = 0,
    CLOSE_TRANSPORT_ERROR,
    CLOSE_PING_TIMEOUT,
    CLOSE_PARSE_ERROR,
    CLOSE_FORCED_CLOSE,
    CLOSE_FORCED_SERVER_CLOSE,
    CLOSE_CLIENT_NAMESPACE_DISCONNECT,
    CLOSE_SERVER_NAMESPACE_DISCONNECT,
    CLOSE_SERVER_SHUTTING_DOWN,
    CLOSE_SLOW_CONSUMER,
    CLOSE_DRAIN,
    CLOSE_TOO_BIG,
    CLOSE_PROTOCOL_ERROR,
    CLOSE_WORKER_DIED,
    CLOSE_HOST_STOP,
    CLOSE_MEMORY,
    CLOSE_MESSAGE_TIMEOUT,
    CLOSE_POLICY,
    CLOSE_REASONS
};
const char *close_reason_name(enum close_reason reason); /* snake_case */

/* What became of a client that wanted its session back, or why one cannot: label `result` of peal_recoveries_total. */
enum recovery_result {
    RECOVERY_RECOVERED = 0,
    RECOVERY_UNKNOWN_PID,
    RECOVERY_EXPIRED,
    RECOVERY_UNKNOWN_OFFSET,
    RECOVERY_OVERRUN,      /* the ring has been written over what it missed */
    RECOVERY_OTHER_HOST,   /* an offset of another host, or of this one before a restart */
    RECOVERY_DISCONNECTED, /* by the server, while it was away */
    RECOVERY_BUSY,    /* its old connection would not end in time, or too many come back at once */
    RECOVERY_TOO_BIG, /* too many rooms to be kept: it will not be recoverable */
    RECOVERY_LAGGED,  /* slow_consumer = drop has dropped something: it will not be recoverable */
    RECOVERY_RESULTS
};
const char *recovery_result_name(enum recovery_result result); /* snake_case */

/* Why a CONNECT to a namespace was answered with an error: label `reason` of peal_connects_refused_total. */
enum connect_refusal {
    REFUSED_INVALID_NAMESPACE = 0,
    REFUSED_TOO_MANY_NAMESPACES, /* as many as clients may choose under that prefix are in use */
    REFUSED_FULL,                /* no room for another socket */
    REFUSED_BY_APPLICATION,
    REFUSED_NO_ANSWER, /* the application did not answer in time */
    CONNECT_REFUSALS
};
const char *connect_refusal_name(enum connect_refusal reason); /* snake_case */

/* What became of what `app = forward` told the back ends: label `result` of peal_forward_total. */
enum forward_result {
    FORWARD_ACCEPTED = 0, /* clients let in */
    FORWARD_REFUSED,      /* by a back end */
    FORWARD_NO_ANSWER,    /* clients refused: none came in time */
    FORWARD_UNREACHABLE,  /* clients refused and events dropped: Redis is away */
    FORWARD_BUSY,         /* the same: too much is under way */
    FORWARD_LATE,         /* a back end accepted who was waiting no more */
    FORWARD_EVENTS,       /* handed on */
    FORWARD_ACKNOWLEDGED, /* of those that asked for it */
    FORWARD_UNACKNOWLEDGED,
    FORWARD_REFUSED_EVENT, /* a name over 255 bytes */
    FORWARD_BAD_ANSWER,    /* of the wrong shape: ignored */
    FORWARD_BAD_DATA,      /* peal:data that was not taken: too large */
    FORWARD_ENDED,         /* peal:disconnect was said */
    FORWARD_LOST,          /* it could not be */
    FORWARD_RESULTS
};
const char *forward_result_name(enum forward_result result); /* snake_case */

/* Why a message that has clients with permessage-deflate goes as it is: label `reason` of peal_deflate_skipped_total. */
enum deflate_skip {
    DEFLATE_SKIP_BUDGET = 0, /* DEFLATE_PER_SECOND_US has been used up */
    DEFLATE_SKIP_TOO_BIG, /* beyond DEFLATE_BYTES_MAX, or the record with both copies would be too big for the ring */
    DEFLATE_SKIP_NO_GAIN, /* compressed it is no smaller */
    DEFLATE_SKIP_MEMORY,
    DEFLATE_SKIPS
};
const char *deflate_skip_name(enum deflate_skip reason); /* snake_case */

/* Why a client's compressed message ended its connection: label `reason` of peal_inflate_errors_total. */
enum inflate_failure {
    INFLATE_FAILED_CORRUPT = 0,
    INFLATE_FAILED_TOO_BIG, /* decompressed it exceeds max_message_bytes */
    INFLATE_FAILED_UTF8,
    INFLATE_FAILED_MEMORY,
    INFLATE_FAILURES
};
const char *inflate_failure_name(enum inflate_failure reason); /* snake_case */

enum gauge {
    GAUGE_CONNECTIONS_WEBSOCKET = 0, /* Socket.IO and plain */
    GAUGE_CONNECTIONS_POLLING,
    GAUGE_PENDING,
    GAUGE_ROOMS,
    GAUGE_OUTQ_BYTES,
    GAUGE_INBOUND_BYTES,
    GAUGE_SESSIONS_USED,
    GAUGE_DEFLATE_CLIENTS, /* of the WebSockets */
    GAUGES
};

enum histogram { HISTOGRAM_BROADCAST = 0, HISTOGRAM_PING_RTT, HISTOGRAM_LOOP, HISTOGRAMS };
#define HISTOGRAM_BUCKETS 24 /* upper bounds: 10 us * 2^i; the last is infinite */

struct shm_histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS]; /* not cumulative */
    uint64_t sum_us;
};

struct shm_counters {
    SHM_LINE uint64_t folding; /* totals row only */
    uint64_t
        accepted_before; /* COUNT_ACCEPTED of the slot's earlier processes; the master's, and not part of any sum of rows */
    uint64_t counters[COUNTERS];
    uint64_t gauges[GAUGES];
    struct shm_histogram histograms[HISTOGRAMS];
    uint32_t
        sockets[NAMESPACES_MAX]; /* gauge: Socket.IO sockets and plain clients by namespace index */
};
#define TOTALS_ROW PEAL_SLOTS_ALL

/* For the process's own row. */
static inline void count_add(struct shm_counters *row, enum counter which, uint64_t n)
{
    __atomic_store_n(&row->counters[which], row->counters[which] + n, __ATOMIC_RELAXED);
}
static inline void gauge_set(struct shm_counters *row, enum gauge which, uint64_t value)
{
    __atomic_store_n(&row->gauges[which], value, __ATOMIC_RELAXED);
}
void histogram_add(struct shm_counters *row, enum histogram which, uint64_t us);

/* Master, reaping a slot: what it had accepted and not closed is counted as CLOSE_WORKER_DIED, counters go into the totals, gauges to 0. */
void counters_fold(struct region *region, uint32_t slot);

/* A consistent sum over all rows. */
struct counters_sum {
    uint64_t counters[COUNTERS];
    struct shm_histogram histograms[HISTOGRAMS];
    uint64_t accepted[PEAL_SLOTS_ALL]; /* COUNT_ACCEPTED by slot, its dead processes included */
};
void counters_read(const struct region *region, struct counters_sum *sum);

#endif
