/* batch.c: chains of pieces, and the sends that carry them.
 *
 * Invariant: a connection with `pending` is in the list of the dirty; its slot may be there twice, when the one before it ended with something
 *            pending. It never has two sends in one submission, since the first might come back short. All nodes die together, when the list has been worked off.
 * Invariant: members of one room that take different forms of its messages (CONN_DEFLATE) do not share nodes: there is a tree for each form, so
 *            that neighbours in a walk which differ do not hide each other's chains from those behind them.
 * Owns:      nodes, iovecs and the arena of own bytes; nothing of the ring.
 * Why:       a system call a delivery is what a fan-out costs; one send for all that is pending, 256 to a submission, is what it need cost. */
#include "net/batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "peal/limits.h"

#define CHAIN_MAX     256 /* pieces in one send; IOV_MAX is 1024 */
#define WRITABLE_IOV  64
#define POSITION_NONE UINT64_MAX
#define ROOTS         2u /* nodes 0 and 1: parents of the first pieces of plain and of deflate clients */

struct node {
    const uint8_t *bytes;
    uint64_t position; /* of the record, or POSITION_NONE for own bytes */
    uint64_t total;    /* bytes of the whole chain up to here */
    uint32_t n_bytes;
    uint32_t offset; /* of the frames in the record */
    uint32_t parent; /* 0: none */
    uint32_t memo;   /* the child made last */
    uint32_t depth;
    uint32_t iov; /* index of the chain's iovecs + 1, once somebody sent it */
};

struct batch {
    struct conns *conns;
    struct outqs *outqs;
    struct batch_limits limits;
    struct batch_events events;
    struct node *nodes;
    uint32_t n_nodes;
    struct iovec *iov;
    uint32_t n_iov;
    uint8_t *arena;
    uint32_t arena_used;
    uint32_t *dirty; /* connections with something pending, in the order in which they got it */
    uint32_t n_dirty;
    uint32_t dirty_at;
    uint32_t dirty_max;
    uint32_t *writable; /* blocked connections to be tried */
    uint32_t n_writable;
    uint32_t *virtual; /* virtual connections that got something: CONN_SENDING */
    uint32_t n_virtual;
    uint64_t now_ms;
    struct batch_stats stats;
    bool flushing;
};

struct batch *batch_new(struct conns *conns, struct outqs *outqs, const struct batch_limits *limits,
                        const struct batch_events *events)
{
    struct batch *b = calloc(1, sizeof *b);

    if (b == NULL)
        return NULL;
    b->conns = conns;
    b->outqs = outqs;
    b->limits = *limits;
    b->limits.nodes_max += ROOTS - 1; /* one root is in the caller's count */
    b->events = *events;
    b->dirty_max = conns->max * 2;
    b->nodes = calloc(b->limits.nodes_max, sizeof *b->nodes);
    b->iov = calloc(b->limits.nodes_max, sizeof *b->iov);
    b->arena = malloc(limits->arena_bytes);
    b->dirty = calloc(b->dirty_max, sizeof *b->dirty);
    b->writable = calloc(conns->max, sizeof *b->writable);
    b->virtual = calloc(conns->max, sizeof *b->virtual);
    b->n_nodes = ROOTS; /* 0 means none */
    if (b->nodes == NULL || b->iov == NULL || b->arena == NULL || b->dirty == NULL ||
        b->writable == NULL || b->virtual == NULL) {
        batch_free(b);
        return NULL;
    }
    return b;
}

void batch_free(struct batch *b)
{
    if (b == NULL)
        return;
    free(b->nodes);
    free(b->iov);
    free(b->arena);
    free(b->dirty);
    free(b->writable);
    free(b->virtual);
    free(b);
}

bool batch_idle(const struct batch *b)
{
    return b->dirty_at == b->n_dirty;
}

uint32_t batch_pending(const struct batch *b)
{
    return b->n_dirty - b->dirty_at;
}

static void reset(struct batch *b)
{
    b->n_nodes = ROOTS;
    b->nodes[0].memo = 0;
    b->nodes[1].memo = 0;
    b->n_iov = 0;
    b->arena_used = 0;
    b->n_dirty = 0;
    b->dirty_at = 0;
}

/* Makes room for one more piece of `n_bytes` own bytes by sending everything, where there is none. */
static void make_room(struct batch *b, const struct conn *c, uint32_t n_bytes)
{
    if (b->n_nodes == b->limits.nodes_max || b->limits.arena_bytes - b->arena_used < n_bytes ||
        b->n_dirty == b->dirty_max || b->nodes[c->pending].depth == CHAIN_MAX) {
        bool idle = batch_flush(b, UINT32_MAX, b->now_ms);

        assert(idle);
    }
}

static void chain(struct batch *b, struct conn *c, struct node piece)
{
    uint32_t parent = c->pending;
    uint32_t under = parent != 0 ? parent : (c->flags & CONN_DEFLATE) != 0;
    uint32_t child = b->nodes[under].memo;

    if (child == 0 || b->nodes[child].bytes != piece.bytes) {
        child = b->n_nodes++;
        piece.parent = parent;
        piece.memo = 0;
        piece.iov = 0;
        piece.depth = parent == 0 ? 1 : b->nodes[parent].depth + 1;
        piece.total = piece.n_bytes + (parent == 0 ? 0 : b->nodes[parent].total);
        b->nodes[child] = piece;
        b->nodes[under].memo = child;
    }
    if (parent == 0)
        b->dirty[b->n_dirty++] = conn_index(b->conns, c);
    c->pending = child;
}

/* A slot is in the list once: a virtual connection that ends is released in a later turn, and the list is worked off in every turn. */
static void note_virtual(struct batch *b, struct conn *c)
{
    if ((c->flags & (CONN_VIRTUAL | CONN_SENDING)) != CONN_VIRTUAL)
        return;
    c->flags |= CONN_SENDING;
    b->virtual[b->n_virtual++] = conn_index(b->conns, c);
}

void batch_carry(struct batch *b)
{
    uint32_t n = b->n_virtual;

    assert(!b->flushing);
    b->n_virtual = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = conn_at(b->conns, b->virtual[i]);

        c->flags &= (uint16_t)~CONN_SENDING;
        if (c->outq != NULL && conn_alive(c))
            b->events.carry(b->events.context, c);
    }
    assert(b->n_virtual == 0); /* `carry` queues for those that have a socket */
}

void batch_settle(struct batch *b, struct conn *c)
{
    if (c->pending != 0) {
        bool idle = batch_flush(b, UINT32_MAX, b->now_ms);

        assert(idle);
    }
}

enum outq_result batch_record(struct batch *b, struct conn *c, const struct outq_record *record,
                              const uint8_t *bytes)
{
    assert(!b->flushing);
    if (c->outq != NULL) {
        note_virtual(b, c);
        return outq_push_record(b->outqs, c->outq, record);
    }
    make_room(b, c, 0);
    if (c->outq != NULL) /* making room has shown that it is blocked */
        return outq_push_record(b->outqs, c->outq, record);
    if (conn_alive(c))
        chain(b, c,
              (struct node){ .bytes = bytes,
                             .n_bytes = record->n_bytes,
                             .position = record->position,
                             .offset = record->offset });
    return OUTQ_OK;
}

enum outq_result batch_bytes(struct batch *b, struct conn *c, const void *bytes, uint32_t n_bytes,
                             bool urgent)
{
    uint8_t *own;

    assert(!b->flushing);
    if (c->outq == NULL && n_bytes <= b->limits.arena_bytes)
        make_room(b, c, n_bytes);
    if (c->outq == NULL && n_bytes > b->limits.arena_bytes) {
        /* too much for the arena: goes the way of the blocked, behind what is pending */
        bool idle = batch_flush(b, UINT32_MAX, b->now_ms);

        assert(idle);
        if (c->outq == NULL) {
            c->outq = outq_new(b->outqs, conn_index(b->conns, c), b->now_ms);
            if (c->outq == NULL)
                return OUTQ_LIMIT;
            batch_on_writable(b, c, b->now_ms);
        }
    }
    if (c->outq != NULL) {
        note_virtual(b, c);
        return urgent ? outq_push_urgent(b->outqs, c->outq, bytes, n_bytes)
                      : outq_push_bytes(b->outqs, c->outq, bytes, n_bytes);
    }
    if (!conn_alive(c))
        return OUTQ_OK;
    own = b->arena + b->arena_used;
    memcpy(own, bytes, n_bytes);
    b->arena_used += n_bytes;
    chain(b, c, (struct node){ .bytes = own, .n_bytes = n_bytes, .position = POSITION_NONE });
    return OUTQ_OK;
}

/* --- after a send --- */

static void block_rest(struct batch *b, struct conn *c, uint32_t last, uint64_t sent)
{
    uint32_t order[CHAIN_MAX];
    uint32_t n = 0;
    uint64_t at = 0;

    for (uint32_t i = last; i != 0; i = b->nodes[i].parent)
        order[n++] = i;
    c->outq = outq_new(b->outqs, conn_index(b->conns, c), b->now_ms);
    if (c->outq == NULL) {
        b->events.failed(b->events.context, c, ENOMEM);
        return;
    }
    conn_want_writable(b->conns, c);
    while (n > 0) {
        const struct node *piece = &b->nodes[order[--n]];
        uint64_t end = at + piece->n_bytes;
        enum outq_result result = OUTQ_OK;

        if (end <= sent) {
            b->stats.n_pieces += piece->position != POSITION_NONE;
        } else if (sent > at) {
            uint32_t skip = (uint32_t)(sent - at);

            /* the rest of a started record goes out whatever happens to what is behind it */
            result = outq_push_rest(b->outqs, c->outq, piece->bytes + skip, piece->n_bytes - skip,
                                    piece->position != POSITION_NONE);
        } else if (piece->position == POSITION_NONE) {
            result = outq_push_bytes(b->outqs, c->outq, piece->bytes, piece->n_bytes);
        } else {
            struct outq_record record = { piece->position, piece->offset, piece->n_bytes };

            result = outq_push_record(b->outqs, c->outq, &record);
        }
        if (result != OUTQ_OK) {
            b->events.lagged(b->events.context, c, result);
            return;
        }
        at = end;
    }
}

static void on_sent(void *context, uint64_t tag, int32_t result)
{
    struct batch *b = context;
    struct conn *c = conn_at(b->conns, tag_index(tag));
    uint32_t last = c->pending;
    const struct node *node = &b->nodes[last];

    assert(c->generation == tag_generation(tag));
    assert(last != 0);
    c->pending = 0;
    c->flags &= (uint16_t)~CONN_SENDING;
    if (result > 0) {
        b->stats.n_bytes += (uint64_t)result;
        if ((uint64_t)result == node->total) {
            if (node->depth == 1)
                b->stats.n_pieces += node->position != POSITION_NONE;
            else
                for (; last != 0; last = b->nodes[last].parent)
                    b->stats.n_pieces += b->nodes[last].position != POSITION_NONE;
            if ((c->flags & CONN_END_WHEN_SENT) != 0)
                b->events.finished(b->events.context, c);
            return;
        }
        b->stats.n_short++;
        block_rest(b, c, last, (uint64_t)result);
    } else if (result == -EAGAIN || result == -EINTR || result == -ENOBUFS || result == 0) {
        b->stats.n_again++;
        block_rest(b, c, last, 0);
    } else {
        b->events.failed(b->events.context, c, -result);
    }
}

static void queue_send(struct batch *b, struct conn *c)
{
    struct node *node = &b->nodes[c->pending];
    uint64_t tag = tag_pack(CONN_OP_SEND, conn_index(b->conns, c), c->generation);

    c->flags |= CONN_SENDING;
    if (node->depth == 1) {
        loop_send(b->conns->loop, c->fd, node->bytes, node->n_bytes, tag);
        return;
    }
    if (node->iov == 0) {
        uint32_t at = c->pending;

        assert(b->n_iov + node->depth <= b->limits.nodes_max);
        for (uint32_t i = node->depth; i > 0; i--) {
            b->iov[b->n_iov + i - 1] =
                (struct iovec){ (void *)(uintptr_t)b->nodes[at].bytes, b->nodes[at].n_bytes };
            at = b->nodes[at].parent;
        }
        assert(at == 0);
        node->iov = b->n_iov + 1;
        b->n_iov += node->depth;
    }
    loop_sendv(b->conns->loop, c->fd, &b->iov[node->iov - 1], node->depth, tag);
}

/* Iovec arrays of different chains may need more room than there is: those made so far have been sent and can go. */
static void forget_iovs(struct batch *b)
{
    b->n_iov = 0;
    for (uint32_t i = ROOTS; i < b->n_nodes; i++)
        b->nodes[i].iov = 0;
}

static void submit(struct batch *b)
{
    loop_flush(b->conns->loop, CONN_OP_SEND, on_sent, b);
}

bool batch_flush(struct batch *b, uint32_t budget, uint64_t now_ms)
{
    uint32_t n_queued = 0;

    assert(!b->flushing);
    b->flushing = true;
    b->now_ms = now_ms;
    while (b->dirty_at < b->n_dirty && budget > 0) {
        struct conn *c = conn_at(b->conns, b->dirty[b->dirty_at++]);

        if (b->dirty_at + 4 < b->n_dirty)
            __builtin_prefetch(conn_at(b->conns, b->dirty[b->dirty_at + 4]));
        if (c->pending == 0 || (c->flags & CONN_SENDING) != 0)
            continue; /* it has ended since; or it is the next in the slot of one that has, and was met already */
        if (b->nodes[c->pending].depth > 1 && b->nodes[c->pending].iov == 0 &&
            b->n_iov + b->nodes[c->pending].depth > b->limits.nodes_max) {
            submit(b);
            n_queued = 0;
            forget_iovs(b);
        }
        queue_send(b, c);
        b->stats.n_sends++;
        budget--;
        if (++n_queued == WORKER_SEND_BATCH) {
            submit(b);
            n_queued = 0;
        }
    }
    if (n_queued > 0)
        submit(b);
    b->flushing = false;
    if (!batch_idle(b))
        return false;
    reset(b);
    return true;
}

/* --- the blocked --- */

void batch_on_writable(struct batch *b, struct conn *c, uint64_t now_ms)
{
    b->now_ms = now_ms;
    if (c->outq == NULL)
        return;
    if (b->n_writable == b->conns->max)
        batch_flush_writable(b, now_ms);
    b->writable[b->n_writable++] = conn_index(b->conns, c);
}

struct writable_result {
    int32_t result;
    bool done;
};

static void on_writable_sent(void *context, uint64_t tag, int32_t result)
{
    struct writable_result *out = context;

    (void)tag;
    out->result = result;
    out->done = true;
}

/* One send of what is queued. False: no more now (full again, empty, or ended). */
static bool send_queued(struct batch *b, struct conn *c)
{
    struct iovec iov[WRITABLE_IOV];
    struct writable_result sent = { 0, false };
    uint64_t n_bytes = 0;
    bool lost;
    uint32_t n = outq_peek(b->outqs, c->outq, iov, WRITABLE_IOV, &lost);

    if (lost) {
        b->events.lagged(b->events.context, c, OUTQ_LOST);
        return false;
    }
    if (n == 0) {
        outq_free(b->outqs, c->outq);
        c->outq = NULL;
        if ((c->flags & CONN_END_WHEN_SENT) != 0)
            b->events.finished(b->events.context, c);
        return false;
    }
    for (uint32_t i = 0; i < n; i++)
        n_bytes += iov[i].iov_len;
    loop_sendv(b->conns->loop, c->fd, iov, n,
               tag_pack(CONN_OP_SEND, conn_index(b->conns, c), c->generation));
    loop_flush(b->conns->loop, CONN_OP_SEND, on_writable_sent, &sent);
    assert(sent.done);
    b->stats.n_sends++;
    if (sent.result < 0 && sent.result != -EAGAIN && sent.result != -EINTR &&
        sent.result != -ENOBUFS) {
        b->events.failed(b->events.context, c, -sent.result);
        return false;
    }
    if (sent.result > 0) {
        b->stats.n_bytes += (uint64_t)sent.result;
        b->stats.n_pieces += outq_consume(b->outqs, c->outq, (uint64_t)sent.result, b->now_ms);
    }
    if (sent.result < 0 || (uint64_t)sent.result < n_bytes) {
        conn_want_writable(b->conns, c);
        return false;
    }
    return true;
}

#define WRITABLE_SENDS \
    16 /* of one connection in one go: a fast reader with a long queue must not hold up the others */

void batch_flush_writable(struct batch *b, uint64_t now_ms)
{
    uint32_t n = b->n_writable;

    b->now_ms = now_ms;
    b->n_writable = 0;
    assert(!b->flushing);
    b->flushing = true;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = conn_at(b->conns, b->writable[i]);
        uint32_t left = WRITABLE_SENDS;

        while (c->outq != NULL && conn_alive(c) && left > 0 && send_queued(b, c))
            left--;
        if (left == 0 && c->outq != NULL && conn_alive(c))
            conn_want_writable(b->conns, c);
    }
    b->flushing = false;
}

struct batch_stats batch_stats_take(struct batch *b)
{
    struct batch_stats stats = b->stats;

    b->stats = (struct batch_stats){ 0 };
    return stats;
}
