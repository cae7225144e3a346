/* counters.c: names of close reasons, histograms, and the two operations on rows of the dead: fold
 * and read.
 *
 * Invariant: what a reader adds up contains every count once. A fold moves counts from a slot's row
 *            into the totals between two stores of `folding`; a reader that saw it odd or changed
 *            reads again. Values only grow, so a row that its process goes on writing while it is
 *            read is seen at some moment of the reading.
 * Bound:     a fold takes microseconds; a reader gives up waiting for it after FOLD_LOOKS (the
 *            master was stopped or killed in the middle, and a killed master ends the host) and
 *            returns what it has. */
#include "shm/counters.h"

#include <assert.h>
#include <sched.h>

#include "shm/atomic.h"

#define FOLD_LOOKS 1000u

static_assert(CLOSE_REASONS <= COUNT_CLOSE_LAST - COUNT_CLOSE_FIRST + 1,
              "a counter for each reason");

const char *close_reason_name(enum close_reason reason)
{
    static const char *const names[CLOSE_REASONS] = {
        [CLOSE_TRANSPORT_CLOSE] = "transport_close",
        [CLOSE_TRANSPORT_ERROR] = "transport_error",
        [CLOSE_PING_TIMEOUT] = "ping_timeout",
        [CLOSE_PARSE_ERROR] = "parse_error",
        [CLOSE_FORCED_CLOSE] = "forced_close",
        [CLOSE_FORCED_SERVER_CLOSE] = "forced_server_close",
        [CLOSE_CLIENT_NAMESPACE_DISCONNECT] = "client_namespace_disconnect",
        [CLOSE_SERVER_NAMESPACE_DISCONNECT] = "server_namespace_disconnect",
        [CLOSE_SERVER_SHUTTING_DOWN] = "server_shutting_down",
        [CLOSE_SLOW_CONSUMER] = "slow_consumer",
        [CLOSE_DRAIN] = "drain",
        [CLOSE_TOO_BIG] = "too_big",
        [CLOSE_PROTOCOL_ERROR] = "protocol_error",
        [CLOSE_WORKER_DIED] = "worker_died",
        [CLOSE_HOST_STOP] = "host_stop",
        [CLOSE_MEMORY] = "memory",
        [CLOSE_MESSAGE_TIMEOUT] = "message_timeout",
        [CLOSE_POLICY] = "policy",
    };

    assert(reason < CLOSE_REASONS);
    return names[reason];
}

static_assert(RECOVERY_RESULTS <= COUNT_RECOVERY_LAST - COUNT_RECOVERY_FIRST + 1,
              "a counter for each result");

const char *recovery_result_name(enum recovery_result result)
{
    static const char *const names[RECOVERY_RESULTS] = {
        [RECOVERY_RECOVERED] = "recovered",       [RECOVERY_UNKNOWN_PID] = "unknown_pid",
        [RECOVERY_EXPIRED] = "expired",           [RECOVERY_UNKNOWN_OFFSET] = "unknown_offset",
        [RECOVERY_OVERRUN] = "overrun",           [RECOVERY_OTHER_HOST] = "other_host",
        [RECOVERY_DISCONNECTED] = "disconnected", [RECOVERY_BUSY] = "busy",
        [RECOVERY_TOO_BIG] = "too_big",           [RECOVERY_LAGGED] = "lagged",
    };

    assert(result < RECOVERY_RESULTS);
    return names[result];
}

static_assert(CONNECT_REFUSALS <= COUNT_CONNECT_REFUSED_LAST - COUNT_CONNECT_REFUSED_FIRST + 1,
              "a counter for each reason");

const char *connect_refusal_name(enum connect_refusal reason)
{
    static const char *const names[CONNECT_REFUSALS] = {
        [REFUSED_INVALID_NAMESPACE] = "invalid_namespace",
        [REFUSED_TOO_MANY_NAMESPACES] = "too_many_namespaces",
        [REFUSED_FULL] = "full",
        [REFUSED_BY_APPLICATION] = "application",
        [REFUSED_NO_ANSWER] = "no_answer",
    };

    assert(reason < CONNECT_REFUSALS);
    return names[reason];
}

static_assert(FORWARD_RESULTS <= COUNT_FORWARD_LAST - COUNT_FORWARD_FIRST + 1,
              "a counter for each result");

const char *forward_result_name(enum forward_result result)
{
    static const char *const names[FORWARD_RESULTS] = {
        [FORWARD_ACCEPTED] = "accepted",
        [FORWARD_REFUSED] = "refused",
        [FORWARD_NO_ANSWER] = "no_answer",
        [FORWARD_UNREACHABLE] = "unreachable",
        [FORWARD_BUSY] = "busy",
        [FORWARD_LATE] = "late",
        [FORWARD_EVENTS] = "events",
        [FORWARD_ACKNOWLEDGED] = "acknowledged",
        [FORWARD_UNACKNOWLEDGED] = "unacknowledged",
        [FORWARD_REFUSED_EVENT] = "refused_event",
        [FORWARD_BAD_ANSWER] = "bad_answer",
        [FORWARD_BAD_DATA] = "bad_data",
        [FORWARD_ENDED] = "ended",
        [FORWARD_LOST] = "lost",
    };

    assert(result < FORWARD_RESULTS);
    return names[result];
}

static_assert(DEFLATE_SKIPS <= COUNT_DEFLATE_SKIPPED_LAST - COUNT_DEFLATE_SKIPPED_FIRST + 1,
              "a counter for each reason");

const char *deflate_skip_name(enum deflate_skip reason)
{
    static const char *const names[DEFLATE_SKIPS] = {
        [DEFLATE_SKIP_BUDGET] = "budget",
        [DEFLATE_SKIP_TOO_BIG] = "too_big",
        [DEFLATE_SKIP_NO_GAIN] = "no_gain",
        [DEFLATE_SKIP_MEMORY] = "memory",
    };

    assert(reason < DEFLATE_SKIPS);
    return names[reason];
}

static_assert(INFLATE_FAILURES <= COUNT_INFLATE_FAILED_LAST - COUNT_INFLATE_FAILED_FIRST + 1,
              "a counter for each reason");

const char *inflate_failure_name(enum inflate_failure reason)
{
    static const char *const names[INFLATE_FAILURES] = {
        [INFLATE_FAILED_CORRUPT] = "corrupt",
        [INFLATE_FAILED_TOO_BIG] = "too_big",
        [INFLATE_FAILED_UTF8] = "utf8",
        [INFLATE_FAILED_MEMORY] = "memory",
    };

    assert(reason < INFLATE_FAILURES);
    return names[reason];
}

void histogram_add(struct shm_counters *row, enum histogram which, uint64_t us)
{
    struct shm_histogram *h = &row->histograms[which];
    uint32_t bucket = 0;

    while (bucket < HISTOGRAM_BUCKETS - 1 && us > 10ull << bucket) /* upper bounds are inclusive */
        bucket++;
    shm_store_u64(&h->buckets[bucket], h->buckets[bucket] + 1);
    shm_store_u64(&h->sum_us, h->sum_us + us);
}

/* Moves one word. Release: neither store may be seen by somebody who has not seen `folding` odd. */
static void word_move(uint64_t *to, uint64_t *from)
{
    uint64_t n = shm_load_u64(from);

    if (n == 0)
        return;
    shm_store_release_u64(to, shm_load_u64(to) + n);
    shm_store_release_u64(from, 0);
}

/* A client that was accepted and not closed died with its worker. */
static void close_the_dead(struct shm_counters *totals, const struct shm_counters *row)
{
    uint64_t *died = &totals->counters[COUNT_CLOSE_FIRST + CLOSE_WORKER_DIED];
    uint64_t accepted = shm_load_u64(&row->counters[COUNT_ACCEPTED]);
    uint64_t closed = 0;

    for (uint32_t i = COUNT_CLOSE_FIRST; i <= COUNT_CLOSE_LAST; i++)
        closed += shm_load_u64(&row->counters[i]);
    if (accepted > closed)
        shm_store_release_u64(died, shm_load_u64(died) +
                                        (accepted - closed)); /* release: as in word_move */
}

void counters_fold(struct region *region, uint32_t slot)
{
    struct shm_counters *totals = &region->counters[TOTALS_ROW];
    struct shm_counters *row = &region->counters[slot];
    uint64_t folding = shm_load_u64(&totals->folding);

    assert(slot < TOTALS_ROW);
    assert((folding & 1) == 0);
    shm_store_u64(&totals->folding, folding + 1);
    close_the_dead(totals, row);
    shm_store_release_u64(&row->accepted_before, /* release: as in word_move */
                          row->accepted_before + shm_load_u64(&row->counters[COUNT_ACCEPTED]));
    for (uint32_t i = 0; i < COUNTERS; i++)
        word_move(&totals->counters[i], &row->counters[i]);
    for (uint32_t i = 0; i < HISTOGRAMS; i++) {
        for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++)
            word_move(&totals->histograms[i].buckets[b], &row->histograms[i].buckets[b]);
        word_move(&totals->histograms[i].sum_us, &row->histograms[i].sum_us);
    }
    for (uint32_t i = 0; i < GAUGES; i++)
        shm_store_u64(&row->gauges[i], 0);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++)
        if (shm_load_u32(&row->sockets[i]) != 0) /* untouched pages stay untouched */
            shm_store_u32(&row->sockets[i], 0);
    shm_store_release_u64(&totals->folding,
                          folding + 2); /* release: everything has moved before it is even again */
}

static void rows_add(const struct region *region, struct counters_sum *sum)
{
    memset(sum, 0, sizeof *sum);
    for (uint32_t r = 0; r <= TOTALS_ROW; r++) {
        const struct shm_counters *row = &region->counters[r];

        for (uint32_t i = 0; i < COUNTERS; i++)
            sum->counters[i] += shm_load_u64(&row->counters[i]);
        if (r < PEAL_SLOTS_ALL)
            sum->accepted[r] =
                shm_load_u64(&row->accepted_before) + shm_load_u64(&row->counters[COUNT_ACCEPTED]);
        for (uint32_t i = 0; i < HISTOGRAMS; i++) {
            for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++)
                sum->histograms[i].buckets[b] += shm_load_u64(&row->histograms[i].buckets[b]);
            sum->histograms[i].sum_us += shm_load_u64(&row->histograms[i].sum_us);
        }
    }
}

void counters_read(const struct region *region, struct counters_sum *sum)
{
    const uint64_t *folding = &region->counters[TOTALS_ROW].folding;

    for (uint32_t look = 0; look < FOLD_LOOKS; look++) {
        uint64_t before = shm_load_acquire_u64(folding); /* acquire: before the words */

        rows_add(region, sum);
        shm_fence_load(); /* the words before the second look */
        if (shm_load_u64(folding) == before && (before & 1) == 0)
            return;
        (void)sched_yield(); /* the master may be waiting for this very CPU */
    }
}
