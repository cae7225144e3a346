/* outq.h: what a blocked peer still has to get. Exists only from the moment a peer's socket is full until it has caught up.
 *
 * An item is a position of a whole record in the ring (which costs 24 bytes and owns nothing), or bytes of its own: the rest of a started record,
 * and control frames. A record that queues still hold is copied once per worker into a blob shared by all its holders, when it is
 * sent or when the ring is about to overwrite it (outq_rescue), whichever is first. Only blobs and own bytes count as bytes held. */
#ifndef PEAL_NET_OUTQ_H
#define PEAL_NET_OUTQ_H

#include <sys/uio.h>

#include "base/slice.h"

/* Where records come from: the ring, behind a function, so that this module need not know it. Copies `n_bytes` at `offset` of the record at
 * `position` to `out`; false: it was overwritten. */
struct outq_source {
    bool (*copy)(void *context, uint64_t position, uint32_t offset, uint8_t *out, uint32_t n_bytes);
    void *context;
};

/* Part of a record that goes to a client: all its frames, in one form or another (compressed, for clients that take that). */
struct outq_record {
    uint64_t position;
    uint32_t offset; /* of the frames in the record */
    uint32_t n_bytes;
};

struct outq;
struct outqs; /* all queues of one worker */

struct outqs *outqs_new(const struct outq_source *source, uint32_t items_max, uint32_t bytes_max);
void outqs_free(struct outqs *qs);

uint64_t outqs_bytes(const struct outqs *qs); /* held by all queues, each blob once */
uint32_t outqs_count(const struct outqs *qs); /* blocked peers */

/* `conn` is the caller's index of the peer, given back by outqs_largest and outqs_next. NULL: out of memory. */
MUST_USE struct outq *outq_new(struct outqs *qs, uint32_t conn, uint64_t now_ms);
void outq_free(struct outqs *qs, struct outq *q);
void outq_adopt(struct outq *q, uint32_t conn,
                uint64_t now_ms); /* another peer has it from now on */

enum outq_result {
    OUTQ_OK = 0,
    OUTQ_LIMIT, /* items_max or bytes_max reached: nothing was queued; the caller applies slow_consumer and counts it */
    OUTQ_LOST   /* the record could not be copied: overwritten */
};

/* Queues a record. */
MUST_USE enum outq_result outq_push_record(struct outqs *qs, struct outq *q,
                                           const struct outq_record *record);

/* Queues own bytes (copied). They are not bound by items_max, but by bytes_max; an empty queue takes anything (an answer's body may be longer than what
 * it is made of). */
MUST_USE enum outq_result outq_push_bytes(struct outqs *qs, struct outq *q, const void *bytes,
                                          uint32_t n_bytes);

/* What a send left of a record (`of_record`: outq_consume counts it) or of own bytes: the first item of an empty queue. It has been started: nothing
 * gets in front of it, and outq_drop keeps it. */
MUST_USE enum outq_result outq_push_rest(struct outqs *qs, struct outq *q, const void *bytes,
                                         uint32_t n_bytes, bool of_record);

/* Own bytes at the next record boundary: in front of everything but the rest of what has been started. For pings and other WebSocket control frames. */
MUST_USE enum outq_result outq_push_urgent(struct outqs *qs, struct outq *q, const void *bytes,
                                           uint32_t n_bytes);

/* Drops all whole records and own bytes that have not been started (slow_consumer). Returns how many records were dropped. */
uint32_t outq_drop(struct outqs *qs, struct outq *q);

/* Fills iovecs with what is to be sent next, at most `iov_max`, copying records into blobs as needed. `lost` is set if the next record was overwritten
 * before it could be copied: the peer has a hole. Valid until the next call for any queue. Returns the number of iovecs; 0: empty. */
MUST_USE uint32_t outq_peek(struct outqs *qs, struct outq *q, struct iovec *iov, uint32_t iov_max,
                            bool *lost);

/* `n_bytes` of what outq_peek gave have been sent. Returns the number of whole records that ended with it. */
uint32_t outq_consume(struct outqs *qs, struct outq *q, uint64_t n_bytes, uint64_t now_ms);

bool outq_empty(const struct outq *q);
uint64_t outq_bytes(const struct outq *q);       /* held for this peer */
uint64_t outq_progress_ms(const struct outq *q); /* when it last sent something */
uint32_t outq_conn(const struct outq *q);
bool outq_mid_record(const struct outq *q); /* the first item has been started */

/* Above `soft_bytes` without a break since when? 0: it is not. Call now and then. */
uint64_t outq_soft_since(struct outq *q, uint64_t soft_bytes, uint64_t now_ms);

/* Copies every held record whose position is below `limit`. Returns the number of records that were lost. */
uint32_t outqs_rescue(struct outqs *qs, uint64_t limit);

/* The queue that holds most bytes, or NULL; and all queues, one after the other (NULL begins). */
struct outq *outqs_largest(const struct outqs *qs);
struct outq *outqs_next(const struct outqs *qs, const struct outq *q);

void outqs_check(const struct outqs *qs); /* asserts the sums; for tests */

#endif
