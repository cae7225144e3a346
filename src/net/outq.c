/* outq.c: what blocked peers still have to get.
 *
 * Invariant: n_items <= items_max (records) for each queue, always; positions of one queue only grow. bytes <= bytes_max holds for what is pushed, but
 *            for the first bytes of an empty queue. Positions that are copied later may go beyond it: who is over then is a slow consumer
 *            (clients_check_queues), and outqs_bytes, where a copy counts once, is bounded for the host.
 *            held records form one list sorted by position; `refs` is the number of items that name them. A record of which some get another part than
 *            others (compressed or not) is held once for each part.
 * Owns:      one reference per queued blob; a position owns nothing and may be overtaken by the ring.
 * Never:     exists for a peer that keeps up, blocks, or looks at payload bytes.
 * Why:       a slow reader must cost a fixed amount of memory and nobody else's time. */
#include "net/outq.h"

#include <assert.h>
#include <stdlib.h>

/* Bytes that live as long as someone has still to get them. */
struct blob {
    uint32_t refs;
    uint32_t n_bytes;
    uint8_t bytes[];
};

/* A record, or that part of it, that at least one queue waits to send. One per position, offset and worker. */
struct held {
    struct held *prev; /* lower position, or offset */
    struct held *next;
    struct item *holders; /* the items that name it */
    struct blob *blob;    /* once copied */
    struct outq_record record;
    bool lost;
};

struct item {
    struct item *next;        /* in the queue */
    struct held *held;        /* a record, or ... */
    struct blob *blob;        /* ... own bytes */
    struct item *holder_prev; /* other items with the same record */
    struct item *holder_next;
    struct outq *queue;
};

struct outq {
    struct item *first;
    struct item *last;
    struct item *urgent; /* the last urgent one that waits; NULL */
    struct outq *prev;
    struct outq *next;
    uint64_t bytes;
    uint64_t soft_since_ms;
    uint64_t progress_ms;
    uint32_t n_items;
    uint32_t sent; /* bytes of the first item that are out */
    uint32_t conn;
    bool
        rest; /* the first item is the rest of something whose beginning went out before the queue was */
    bool rest_of_record;
};

struct outqs {
    struct outq_source source;
    struct outq *queues;
    struct held *lowest;
    struct held *highest;
    struct item *spare; /* items come and go: a small pool, given back when the last queue ends */
    uint64_t bytes;
    uint32_t n_spare;
    uint32_t n_queues;
    uint32_t items_max;
    uint32_t bytes_max;
};

#define SPARE_ITEMS_MAX 4096
#define PEEK_COPY_MAX   65536 /* bytes of records copied for one send, besides its first */

struct outqs *outqs_new(const struct outq_source *source, uint32_t items_max, uint32_t bytes_max)
{
    struct outqs *qs = calloc(1, sizeof *qs);

    if (qs == NULL)
        return NULL;
    qs->source = *source;
    qs->items_max = items_max;
    qs->bytes_max = bytes_max;
    return qs;
}

static void drop_spare(struct outqs *qs)
{
    while (qs->spare != NULL) {
        struct item *it = qs->spare;

        qs->spare = it->next;
        free(it);
    }
    qs->n_spare = 0;
}

void outqs_free(struct outqs *qs)
{
    if (qs == NULL)
        return;
    while (qs->queues != NULL) {
        assert(qs->queues->prev == NULL); /* the first one: freeing it moves `queues` on */
        outq_free(qs, qs->queues);
    }
    drop_spare(qs);
    free(qs);
}

uint64_t outqs_bytes(const struct outqs *qs)
{
    return qs->bytes;
}

uint32_t outqs_count(const struct outqs *qs)
{
    return qs->n_queues;
}

static struct item *item_new(struct outqs *qs, struct outq *q)
{
    struct item *it = qs->spare;

    if (it != NULL) {
        qs->spare = it->next;
        qs->n_spare--;
    } else {
        it = malloc(sizeof *it);
        if (it == NULL)
            return NULL;
    }
    *it = (struct item){ .queue = q };
    return it;
}

static struct blob *blob_new(struct outqs *qs, uint32_t n_bytes)
{
    struct blob *b = malloc(sizeof *b + n_bytes);

    if (b == NULL)
        return NULL;
    b->refs = 0;
    b->n_bytes = n_bytes;
    qs->bytes += n_bytes;
    return b;
}

static void blob_unref(struct outqs *qs, struct blob *b)
{
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    qs->bytes -= b->n_bytes;
    free(b);
}

static bool is_above(const struct outq_record *a, const struct outq_record *b)
{
    return a->position > b->position || (a->position == b->position && a->offset > b->offset);
}

/* Finds or makes the entry of a record. Newest first: nearly always it is the last one. */
static struct held *held_get(struct outqs *qs, const struct outq_record *record)
{
    struct held *below = qs->highest;
    struct held *h;

    while (below != NULL && is_above(&below->record, record))
        below = below->prev;
    if (below != NULL && !is_above(record, &below->record))
        return below;
    h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->record = *record;
    h->prev = below;
    h->next = below != NULL ? below->next : qs->lowest;
    if (h->prev != NULL)
        h->prev->next = h;
    else
        qs->lowest = h;
    if (h->next != NULL)
        h->next->prev = h;
    else
        qs->highest = h;
    return h;
}

static void held_free(struct outqs *qs, struct held *h)
{
    assert(h->holders == NULL);
    assert(h->blob == NULL);
    if (h->prev != NULL)
        h->prev->next = h->next;
    else
        qs->lowest = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    else
        qs->highest = h->prev;
    free(h);
}

/* Copies the record; from then on each holder is charged for it, the total once. False: lost, or no memory (the same to its holders). */
static bool held_copy(struct outqs *qs, struct held *h)
{
    struct blob *b;

    if (h->blob != NULL)
        return true;
    if (h->lost)
        return false;
    b = blob_new(qs, h->record.n_bytes);
    if (b == NULL) {
        h->lost = true;
        return false;
    }
    if (!qs->source.copy(qs->source.context, h->record.position, h->record.offset, b->bytes,
                         b->n_bytes)) {
        b->refs = 1;
        blob_unref(qs, b);
        h->lost = true;
        return false;
    }
    h->blob = b;
    for (struct item *it = h->holders; it != NULL; it = it->holder_next) {
        b->refs++;
        it->queue->bytes += b->n_bytes;
    }
    return true;
}

static void item_release(struct outqs *qs, struct item *it)
{
    struct outq *q = it->queue;

    if (q->urgent == it)
        q->urgent = NULL;
    if (it->held != NULL) {
        struct held *h = it->held;

        if (it->holder_prev != NULL)
            it->holder_prev->holder_next = it->holder_next;
        else
            h->holders = it->holder_next;
        if (it->holder_next != NULL)
            it->holder_next->holder_prev = it->holder_prev;
        if (h->blob != NULL) {
            struct blob *b = h->blob;

            q->bytes -= b->n_bytes;
            if (h->holders == NULL)
                h->blob = NULL;
            blob_unref(qs, b);
        }
        if (h->holders == NULL)
            held_free(qs, h);
        q->n_items--;
    } else {
        q->bytes -= it->blob->n_bytes;
        blob_unref(qs, it->blob);
    }
    if (qs->n_spare < SPARE_ITEMS_MAX) {
        it->next = qs->spare;
        qs->spare = it;
        qs->n_spare++;
    } else {
        free(it);
    }
}

struct outq *outq_new(struct outqs *qs, uint32_t conn, uint64_t now_ms)
{
    struct outq *q = calloc(1, sizeof *q);

    if (q == NULL)
        return NULL;
    q->conn = conn;
    q->progress_ms = now_ms;
    q->next = qs->queues;
    if (q->next != NULL)
        q->next->prev = q;
    qs->queues = q;
    qs->n_queues++;
    return q;
}

void outq_free(struct outqs *qs, struct outq *q)
{
    if (q == NULL)
        return;
    while (q->first != NULL) {
        struct item *it = q->first;

        q->first = it->next;
        item_release(qs, it);
    }
    assert(q->bytes == 0);
    if (q->prev != NULL)
        q->prev->next = q->next;
    else
        qs->queues = q->next;
    if (q->next != NULL)
        q->next->prev = q->prev;
    free(q);
    if (--qs->n_queues == 0) {
        assert(qs->lowest == NULL);
        assert(qs->bytes == 0);
        drop_spare(qs);
    }
}

void outq_adopt(struct outq *q, uint32_t conn, uint64_t now_ms)
{
    q->conn = conn;
    q->progress_ms = now_ms;
}

static void append(struct outq *q, struct item *it)
{
    if (q->last != NULL)
        q->last->next = it;
    else
        q->first = it;
    q->last = it;
}

enum outq_result outq_push_record(struct outqs *qs, struct outq *q,
                                  const struct outq_record *record)
{
    struct held *h;
    struct item *it;

    if (q->n_items >= qs->items_max)
        return OUTQ_LIMIT;
    h = held_get(qs, record);
    if (h == NULL)
        return OUTQ_LIMIT;
    it = h->blob != NULL && q->bytes + h->blob->n_bytes > qs->bytes_max ? NULL : item_new(qs, q);
    if (it == NULL) {
        if (h->holders == NULL)
            held_free(qs, h);
        return OUTQ_LIMIT;
    }
    it->held = h;
    it->holder_next = h->holders;
    if (it->holder_next != NULL)
        it->holder_next->holder_prev = it;
    h->holders = it;
    if (h->blob != NULL) {
        h->blob->refs++;
        q->bytes += h->blob->n_bytes;
    }
    q->n_items++;
    append(q, it);
    return OUTQ_OK;
}

static struct item *own_bytes(struct outqs *qs, struct outq *q, const void *bytes, uint32_t n_bytes)
{
    struct item *it;

    if (q->first != NULL && q->bytes + n_bytes > qs->bytes_max)
        return NULL;
    it = item_new(qs, q);
    if (it == NULL)
        return NULL;
    it->blob = blob_new(qs, n_bytes);
    if (it->blob == NULL) {
        free(it);
        return NULL;
    }
    it->blob->refs = 1;
    memcpy(it->blob->bytes, bytes, n_bytes);
    q->bytes += n_bytes;
    return it;
}

enum outq_result outq_push_bytes(struct outqs *qs, struct outq *q, const void *bytes,
                                 uint32_t n_bytes)
{
    struct item *it = own_bytes(qs, q, bytes, n_bytes);

    if (it == NULL)
        return OUTQ_LIMIT;
    append(q, it);
    return OUTQ_OK;
}

enum outq_result outq_push_rest(struct outqs *qs, struct outq *q, const void *bytes,
                                uint32_t n_bytes, bool of_record)
{
    assert(q->first == NULL);
    if (outq_push_bytes(qs, q, bytes, n_bytes) != OUTQ_OK)
        return OUTQ_LIMIT;
    q->rest = true;
    q->rest_of_record = of_record;
    return OUTQ_OK;
}

enum outq_result outq_push_urgent(struct outqs *qs, struct outq *q, const void *bytes,
                                  uint32_t n_bytes)
{
    struct item *it = own_bytes(qs, q, bytes, n_bytes);
    struct item *after;

    if (it == NULL)
        return OUTQ_LIMIT;
    after = q->urgent != NULL ? q->urgent : outq_mid_record(q) ? q->first : NULL;
    if (after != NULL) {
        it->next = after->next;
        after->next = it;
    } else {
        it->next = q->first;
        q->first = it;
    }
    if (it->next == NULL)
        q->last = it;
    q->urgent = it; /* several keep their order */
    return OUTQ_OK;
}

uint32_t outq_drop(struct outqs *qs, struct outq *q)
{
    struct item *it = q->first;
    uint32_t n_records = 0;

    if (it != NULL && outq_mid_record(q)) {
        q->last = it;
        it = it->next;
        q->last->next = NULL;
    } else {
        q->first = NULL;
        q->last = NULL;
    }
    while (it != NULL) {
        struct item *next = it->next;

        n_records += it->held != NULL;
        item_release(qs, it);
        it = next;
    }
    return n_records;
}

uint32_t outq_peek(struct outqs *qs, struct outq *q, struct iovec *iov, uint32_t iov_max,
                   bool *lost)
{
    uint64_t n_bytes = 0;
    uint32_t n = 0;

    *lost = false;
    for (struct item *it = q->first; it != NULL && n < iov_max; it = it->next) {
        struct blob *b = it->blob;
        uint32_t skip = it == q->first ? q->sent : 0;

        if (it->held != NULL) {
            /* what fits into one send is copied, no more: a queue of positions must not become a queue of copies */
            if (n > 0 && it->held->blob == NULL &&
                n_bytes + it->held->record.n_bytes > PEEK_COPY_MAX)
                break;
            if (!held_copy(qs, it->held)) {
                *lost = n == 0;
                break;
            }
            b = it->held->blob;
        }
        n_bytes += b->n_bytes - skip;
        iov[n++] = (struct iovec){ b->bytes + skip, b->n_bytes - skip };
    }
    return n;
}

uint32_t outq_consume(struct outqs *qs, struct outq *q, uint64_t n_bytes, uint64_t now_ms)
{
    uint32_t n_records = 0;

    if (n_bytes > 0)
        q->progress_ms = now_ms;
    while (n_bytes > 0) {
        struct item *it = q->first;
        struct blob *b;
        uint64_t left;

        assert(it != NULL);
        b = it->held != NULL ? it->held->blob : it->blob;
        assert(b != NULL);
        left = b->n_bytes - q->sent;
        if (n_bytes < left) {
            q->sent += (uint32_t)n_bytes;
            break;
        }
        n_bytes -= left;
        n_records += it->held != NULL || q->rest_of_record;
        q->sent = 0;
        q->rest = false;
        q->rest_of_record = false;
        q->first = it->next;
        if (q->first == NULL)
            q->last = NULL;
        item_release(qs, it);
    }
    return n_records;
}

bool outq_empty(const struct outq *q)
{
    return q->first == NULL;
}

uint64_t outq_bytes(const struct outq *q)
{
    return q->bytes;
}

uint64_t outq_progress_ms(const struct outq *q)
{
    return q->progress_ms;
}

uint32_t outq_conn(const struct outq *q)
{
    return q->conn;
}

bool outq_mid_record(const struct outq *q)
{
    return q->sent > 0 || q->rest;
}

uint64_t outq_soft_since(struct outq *q, uint64_t soft_bytes, uint64_t now_ms)
{
    if (q->bytes <= soft_bytes)
        q->soft_since_ms = 0;
    else if (q->soft_since_ms == 0)
        q->soft_since_ms = now_ms;
    return q->soft_since_ms;
}

uint32_t outqs_rescue(struct outqs *qs, uint64_t limit)
{
    uint32_t n_lost = 0;

    for (struct held *h = qs->lowest; h != NULL && h->record.position < limit; h = h->next)
        n_lost += h->blob == NULL && !h->lost && !held_copy(qs, h);
    return n_lost;
}

struct outq *outqs_largest(const struct outqs *qs)
{
    struct outq *largest = NULL;

    for (struct outq *q = qs->queues; q != NULL; q = q->next)
        if (largest == NULL || q->bytes > largest->bytes)
            largest = q;
    return largest;
}

struct outq *outqs_next(const struct outqs *qs, const struct outq *q)
{
    return q == NULL ? qs->queues : q->next;
}

void outqs_check(const struct outqs *qs)
{
    uint64_t total = 0;
    uint32_t n_queues = 0;

    for (const struct held *h = qs->lowest; h != NULL; h = h->next) {
        assert(h == qs->lowest || is_above(&h->record, &h->prev->record));
        assert(h->holders != NULL);
        total += h->blob != NULL ? h->blob->n_bytes : 0;
    }
    for (const struct outq *q = qs->queues; q != NULL; q = q->next) {
        uint64_t bytes = 0;
        uint32_t n_items = 0;

        for (const struct item *it = q->first; it != NULL; it = it->next) {
            n_items += it->held != NULL;
            if (it->held == NULL)
                total += it->blob->n_bytes;
            bytes += it->held == NULL         ? it->blob->n_bytes
                     : it->held->blob != NULL ? it->held->blob->n_bytes
                                              : 0;
        }
        assert(bytes == q->bytes);
        assert(n_items == q->n_items);
        assert(n_items <= qs->items_max);
        n_queues++;
    }
    assert(total == qs->bytes);
    assert(n_queues == qs->n_queues);
}
