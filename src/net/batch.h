/* batch.h: everything that goes out, in one pass: one send per connection and batch, whatever was queued for it.
 *
 * What is queued for a connection is a chain of nodes, newest first, each naming bytes that stay where they are until the batch is through (the
 * shared ring, or the batch's own arena). Connections that get the same pieces in the same order share the same nodes, hence one iovec array:
 * `memo` remembers the child that the last connection got, so building chains is O(1) a piece and sending coalesced frames to 10,000 members
 * builds one array. Sends complete within batch_flush, so nothing points into the ring when it has returned. A peer that cannot take all
 * of it gets an out-queue with the rest (outq.h). */
#ifndef PEAL_NET_BATCH_H
#define PEAL_NET_BATCH_H

#include "net/conn.h"
#include "net/outq.h"

struct batch;

struct batch_limits {
    uint32_t nodes_max;   /* of one batch */
    uint32_t arena_bytes; /* own bytes of one batch */
};

/* What the owner is told during a flush. It may kill connections in `failed` and `finished`, and must not queue anything from within. */
struct batch_events {
    /* a virtual connection has something in its queue; not during a flush, so it may queue things for others */
    void (*carry)(void *context, struct conn *c);
    void (*failed)(void *context, struct conn *c, int error); /* the socket is broken: end it */
    void (*finished)(void *context, struct conn *c); /* CONN_END_WHEN_SENT and everything is out */
    void (*lagged)(void *context, struct conn *c,
                   enum outq_result why); /* its out-queue cannot take a record: slow consumer */
    void *context;
};

struct batch_stats {
    uint64_t n_sends;
    uint64_t n_pieces; /* records that went out whole, at once or from a queue */
    uint64_t n_bytes;
    uint64_t n_short;
    uint64_t n_again;
};

struct batch *batch_new(struct conns *conns, struct outqs *outqs, const struct batch_limits *limits,
                        const struct batch_events *events);
void batch_free(struct batch *b);

/* Queues a whole record: `bytes` (its frames) lie in the ring and stay there until the batch is through. OUTQ_LIMIT, OUTQ_LOST: the peer is
 * blocked and its queue cannot take it; otherwise it goes out with the next flush. May flush by itself when the batch is full. */
MUST_USE enum outq_result batch_record(struct batch *b, struct conn *c,
                                       const struct outq_record *record, const uint8_t *bytes);

/* Queues own bytes; they are copied. `urgent`: WebSocket control frames and pings: before whole records that wait in an out-queue. */
MUST_USE enum outq_result batch_bytes(struct batch *b, struct conn *c, const void *bytes,
                                      uint32_t n_bytes, bool urgent);

/* Sends what is queued, to at most `budget` connections; true: everything is out, and the ring may move on. */
MUST_USE bool batch_flush(struct batch *b, uint32_t budget, uint64_t now_ms);
bool batch_idle(const struct batch *b);
uint32_t batch_pending(const struct batch *b); /* connections that have something to be sent */

/* Everything that is pending for this connection is with the kernel or in its out-queue when this returns. */
void batch_settle(struct batch *b, struct conn *c);

/* Calls `carry` for all virtual connections that got something. Before batch_flush. */
void batch_carry(struct batch *b);

/* A blocked connection became writable. */
void batch_on_writable(struct batch *b, struct conn *c, uint64_t now_ms);

/* Sends whatever blocked connections that became writable can take now. */
void batch_flush_writable(struct batch *b, uint64_t now_ms);

struct batch_stats batch_stats_take(struct batch *b); /* since the last call */

#endif
