/* test_outq.c: what a blocked peer still gets, against a model that is nothing but arrays.
 *
 * The ring is a function of the position: byte i of record p is pattern(p, i), until `floor` has passed p. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "net/outq.h"

static uint64_t floor_at; /* records below it have been overwritten */
static uint32_t n_copies;

static uint8_t pattern(uint64_t id, uint32_t i)
{
    return (uint8_t)(id * 31 + i * 7 + (i >> 8));
}

static bool copy(void *context, uint64_t position, uint32_t offset, uint8_t *out, uint32_t n_bytes)
{
    (void)context;
    n_copies++;
    if (position < floor_at)
        return false;
    for (uint32_t i = 0; i < n_bytes; i++)
        out[i] = pattern(position, offset + i);
    return true;
}

static struct outqs *queues(uint32_t items_max, uint32_t bytes_max)
{
    struct outq_source source = { copy, NULL };
    struct outqs *qs = outqs_new(&source, items_max, bytes_max);

    floor_at = 0;
    n_copies = 0;
    assert_non_null(qs);
    return qs;
}

static enum outq_result push(struct outqs *qs, struct outq *q, uint64_t position, uint32_t n_bytes)
{
    struct outq_record record = { position, 0, n_bytes };

    return outq_push_record(qs, q, &record);
}

/* Everything that one outq_peek gives, as one text. */
static const char *peeked(struct outqs *qs, struct outq *q)
{
    static char text[256];
    struct iovec iov[16];
    size_t at = 0;
    bool lost;
    uint32_t n = outq_peek(qs, q, iov, 16, &lost);

    assert_false(lost);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(at + iov[i].iov_len < sizeof text);
        memcpy(text + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    text[at] = 0;
    return text;
}

static void test_records_are_limited_by_number_and_control_frames_are_not(void **state)
{
    struct outqs *qs = queues(2, 1000);
    struct outq *q = outq_new(qs, 7, 50);

    (void)state;
    assert_int_equal(push(qs, q, 1, 10), OUTQ_OK);
    assert_int_equal(push(qs, q, 2, 10), OUTQ_OK);
    assert_int_equal(push(qs, q, 3, 10), OUTQ_LIMIT);
    assert_int_equal(outq_push_bytes(qs, q, "x", 1), OUTQ_OK);
    assert_int_equal(outq_push_urgent(qs, q, "y", 1), OUTQ_OK);
    outqs_check(qs);
    assert_int_equal(outq_drop(qs, q), 2); /* the third left nothing behind */
    assert_int_equal(outq_conn(q), 7);
    outqs_free(qs);
}

static void test_own_bytes_and_copies_are_limited_by_bytes(void **state)
{
    struct outqs *qs = queues(10, 100);
    struct outq *q = outq_new(qs, 0, 0);
    struct outq *other = outq_new(qs, 1, 0);
    uint8_t bytes[100] = { 0 };

    (void)state;
    assert_int_equal(outq_push_bytes(qs, q, bytes, 60), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, bytes, 41), OUTQ_LIMIT);
    assert_int_equal(outq_push_urgent(qs, q, bytes, 41), OUTQ_LIMIT);
    assert_int_equal(outq_push_urgent(qs, q, bytes, 40), OUTQ_OK);
    assert_int_equal(outq_bytes(q), 100);
    assert_int_equal(push(qs, q, 1, 5000), OUTQ_OK); /* a position owns nothing */
    assert_int_equal(push(qs, other, 2, 50), OUTQ_OK);
    assert_int_equal(outqs_rescue(qs, 3), 0);
    assert_int_equal(push(qs, q, 2, 50), OUTQ_LIMIT); /* it is a copy by now */
    outqs_check(qs);
    outqs_free(qs);
}

static void test_a_record_is_copied_once_for_all_its_holders(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q[3];
    struct iovec iov[3];
    bool lost;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        q[i] = outq_new(qs, i, 0);
        assert_int_equal(push(qs, q[i], 5, 100), OUTQ_OK);
    }
    assert_int_equal(outqs_bytes(qs), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(outq_peek(qs, q[i], &iov[i], 1, &lost), 1);
    assert_int_equal(n_copies, 1);
    assert_ptr_equal(iov[0].iov_base, iov[2].iov_base);
    assert_int_equal(outqs_bytes(qs), 100);
    assert_int_equal(outq_bytes(q[1]), 100);
    assert_int_equal(outq_consume(qs, q[1], 100, 9), 1);
    assert_int_equal(outq_progress_ms(q[1]), 9);
    assert_int_equal(outqs_bytes(qs), 100);
    outq_free(qs, q[0]);
    outq_free(qs, q[2]);
    assert_int_equal(outqs_bytes(qs), 0);
    outqs_check(qs);
    outqs_free(qs);
}

static void test_rescue_saves_what_is_about_to_be_overwritten_and_nothing_else(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);
    struct iovec iov[2];
    bool lost;

    (void)state;
    assert_int_equal(push(qs, q, 10, 8), OUTQ_OK);
    assert_int_equal(push(qs, q, 20, 8), OUTQ_OK);
    assert_int_equal(outqs_rescue(qs, 10), 0); /* below the limit, not at it */
    assert_int_equal(n_copies, 0);
    assert_int_equal(outqs_rescue(qs, 11), 0);
    assert_int_equal(n_copies, 1);
    floor_at = 25;
    assert_int_equal(outq_peek(qs, q, iov, 2, &lost), 1);
    assert_false(lost); /* not before it is the next one */
    assert_int_equal(outq_consume(qs, q, 8, 0), 1);
    assert_int_equal(outq_peek(qs, q, iov, 2, &lost), 0);
    assert_true(lost);
    assert_int_equal(outqs_rescue(qs, 100), 0); /* counted once, when it was found out */
    assert_int_equal(push(qs, q, 24, 8), OUTQ_OK);
    assert_int_equal(outqs_rescue(qs, 100), 1);
    outqs_check(qs);
    outqs_free(qs);
}

static void test_urgent_bytes_wait_for_the_end_of_what_was_started(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);

    (void)state;
    assert_int_equal(outq_push_bytes(qs, q, "aaaa", 4), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, "bbbb", 4), OUTQ_OK);
    assert_int_equal(outq_push_urgent(qs, q, "1", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "1aaaabbbb");
    assert_int_equal(outq_consume(qs, q, 2, 0), 0);
    assert_true(outq_mid_record(q));
    assert_int_equal(outq_push_urgent(qs, q, "2", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "aaa2bbbb");
    assert_int_equal(outq_consume(qs, q, 3, 0), 0);
    assert_false(outq_mid_record(q));
    assert_string_equal(peeked(qs, q), "2bbbb");
    outqs_free(qs);
}

static void test_urgent_frames_keep_their_order(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);

    (void)state;
    assert_int_equal(outq_push_bytes(qs, q, "aaaa", 4), OUTQ_OK);
    assert_int_equal(outq_push_urgent(qs, q, "1", 1), OUTQ_OK);
    assert_int_equal(outq_push_urgent(qs, q, "23", 2), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "123aaaa");
    assert_int_equal(outq_consume(qs, q, 2, 0), 0); /* into the second */
    assert_int_equal(outq_push_urgent(qs, q, "4", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "34aaaa");
    assert_int_equal(outq_consume(qs, q, 3, 0), 0);
    assert_int_equal(outq_push_urgent(qs, q, "5", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "aaa5");
    assert_int_equal(outq_drop(qs, q), 0);
    assert_int_equal(outq_push_urgent(qs, q, "6", 1), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, "b", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "aaa6b");
    outqs_free(qs);
}

static void test_an_urgent_frame_behind_the_only_started_item_becomes_the_last(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);

    (void)state;
    assert_int_equal(outq_push_bytes(qs, q, "aaaa", 4), OUTQ_OK);
    assert_int_equal(outq_consume(qs, q, 1, 0), 0);
    assert_int_equal(outq_push_urgent(qs, q, "1", 1), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, "bb", 2), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "aaa1bb");
    outqs_free(qs);
}

static void test_a_ping_never_tears_a_record_whose_beginning_the_first_send_took(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);

    (void)state;
    assert_int_equal(outq_push_rest(qs, q, "est", 3, true), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, "next", 4), OUTQ_OK);
    assert_true(outq_mid_record(q));
    assert_int_equal(outq_push_urgent(qs, q, "!", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "est!next");
    assert_int_equal(outq_drop(qs, q), 0);
    assert_string_equal(peeked(qs, q), "est");
    assert_int_equal(outq_push_bytes(qs, q, "new", 3), OUTQ_OK);
    assert_int_equal(outq_consume(qs, q, 3, 0), 1); /* a whole record has gone out */
    assert_false(outq_mid_record(q));
    assert_int_equal(outq_push_urgent(qs, q, "?", 1), OUTQ_OK);
    assert_string_equal(peeked(qs, q), "?new");
    assert_int_equal(outq_consume(qs, q, 4, 0), 0);
    outqs_free(qs);
}

static void test_dropping_keeps_the_started_record_and_counts_the_others(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);
    struct iovec iov[4];
    bool lost;

    (void)state;
    for (uint64_t position = 1; position <= 3; position++)
        assert_int_equal(push(qs, q, position, 10), OUTQ_OK);
    assert_int_equal(outq_push_bytes(qs, q, "ack", 3), OUTQ_OK);
    assert_int_equal(outq_peek(qs, q, iov, 4, &lost), 4);
    assert_int_equal(outq_consume(qs, q, 4, 0), 0);
    assert_int_equal(outq_drop(qs, q), 2);
    outqs_check(qs);
    assert_int_equal(outq_peek(qs, q, iov, 4, &lost), 1);
    assert_int_equal(iov[0].iov_len, 6);
    assert_int_equal(((uint8_t *)iov[0].iov_base)[0], pattern(1, 4));
    assert_int_equal(outq_consume(qs, q, 6, 0), 1);
    assert_true(outq_empty(q));
    assert_int_equal(push(qs, q, 4, 10), OUTQ_OK);
    assert_int_equal(outq_drop(qs, q), 1); /* nothing was started */
    assert_true(outq_empty(q));
    outqs_free(qs);
}

static void test_a_long_queue_is_not_copied_in_one_go(void **state)
{
    struct outqs *qs = queues(64, 8u << 20);
    struct outq *q = outq_new(qs, 0, 0);
    struct iovec iov[64];
    bool lost;

    (void)state;
    for (uint64_t position = 1; position <= 10; position++)
        assert_int_equal(push(qs, q, position, 20000), OUTQ_OK);
    assert_int_equal(outq_peek(qs, q, iov, 64, &lost), 3); /* 60000; the next exceeds 64 KiB */
    assert_int_equal(outqs_bytes(qs), 60000);
    assert_int_equal(outq_drop(qs, q), 10);
    assert_int_equal(push(qs, q, 20, 1000000), OUTQ_OK); /* the first is, however long */
    assert_int_equal(outq_peek(qs, q, iov, 64, &lost), 1);
    outqs_free(qs);
}

static void test_the_soft_limit_counts_from_when_it_was_passed(void **state)
{
    struct outqs *qs = queues(10, 1000);
    struct outq *q = outq_new(qs, 0, 0);
    uint8_t bytes[20] = { 0 };

    (void)state;
    assert_int_equal(outq_push_bytes(qs, q, bytes, 10), OUTQ_OK);
    assert_int_equal(outq_soft_since(q, 10, 100), 0);
    assert_int_equal(outq_push_bytes(qs, q, bytes, 1), OUTQ_OK);
    assert_int_equal(outq_soft_since(q, 10, 200), 200);
    assert_int_equal(outq_soft_since(q, 10, 300), 200);
    assert_int_equal(outq_consume(qs, q, 10, 0), 0);
    assert_int_equal(outq_soft_since(q, 10, 400), 0);
    outqs_free(qs);
}

static void test_the_largest_queue_is_found_and_each_is_visited_once(void **state)
{
    struct outqs *qs = queues(10, 1000);
    uint32_t seen = 0;
    uint8_t bytes[20] = { 0 };

    (void)state;
    assert_null(outqs_largest(qs));
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(outq_push_bytes(qs, outq_new(qs, i, 0), bytes, i == 1 ? 20 : 5), OUTQ_OK);
    assert_int_equal(outq_conn(outqs_largest(qs)), 1);
    for (struct outq *q = outqs_next(qs, NULL); q != NULL; q = outqs_next(qs, q))
        seen += 1u << 4 * outq_conn(q);
    assert_int_equal(seen, 0x111);
    assert_int_equal(outqs_count(qs), 3);
    outqs_free(qs);
}

static void test_both_forms_of_a_record_are_held_side_by_side(void **state)
{
    static const struct outq_record plain = { 5, 100, 40 };
    static const struct outq_record packed = { 5, 140, 10 };
    static const struct outq_record next = { 6, 100, 30 };
    struct outqs *qs = queues(10, 1000);
    struct outq *q[4];

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        q[i] = outq_new(qs, i, 0);
        assert_int_equal(outq_push_record(qs, q[i], i % 2 == 0 ? &packed : &plain), OUTQ_OK);
        outqs_check(qs);
    }
    assert_int_equal(outq_push_record(qs, q[0], &next), OUTQ_OK);
    assert_int_equal(outq_push_record(qs, outq_new(qs, 4, 0), &packed), OUTQ_OK);
    outqs_check(qs);
    assert_int_equal(outqs_rescue(qs, 6), 0);
    assert_int_equal(n_copies, 2); /* each form once */
    assert_int_equal(outqs_bytes(qs), 50);
    for (uint32_t i = 0; i < 4; i++) {
        struct iovec iov[2];
        bool lost;

        assert_int_equal(outq_bytes(q[i]), i % 2 == 0 ? 10 : 40);
        assert_int_equal(outq_peek(qs, q[i], iov, 2, &lost), i == 0 ? 2 : 1);
        assert_int_equal(((uint8_t *)iov[0].iov_base)[0], pattern(5, i % 2 == 0 ? 140 : 100));
        assert_int_equal(outq_consume(qs, q[i], i % 2 == 0 ? 10 : 40, 0), 1);
        outqs_check(qs);
    }
    outqs_free(qs);
}

/* --- random steps against a model --- */

#define QUEUES    4
#define ITEMS_MAX 12
#define BYTES_MAX 6000
#define MODEL_MAX 8192
#define POSITIONS 4096

struct model_item {
    uint64_t id; /* position, or id of own bytes: POSITIONS and more */
    uint32_t n_bytes;
    uint32_t skip; /* the rest of something: pattern begins here */
    bool urgent;
};

struct model_queue {
    struct outq *q;
    struct model_item items[MODEL_MAX];
    uint32_t n;
    uint32_t sent;
    bool rest; /* the first item is */
};

struct model {
    struct outqs *qs;
    struct model_queue queues[QUEUES];
    bool copied[POSITIONS]; /* for as long as somebody holds it */
    uint64_t tail;
    uint64_t next_id;
    uint32_t seed;
};

static uint32_t any(struct model *m, uint32_t below)
{
    m->seed ^= m->seed << 13;
    m->seed ^= m->seed >> 17;
    m->seed ^= m->seed << 5;
    return m->seed % below;
}

static bool is_record(const struct model_item *it)
{
    return it->id < POSITIONS;
}

static uint32_t record_bytes(uint64_t position)
{
    return 1 + (uint32_t)(position * 7919 % 900);
}

static uint64_t model_bytes(const struct model *m, const struct model_queue *mq)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < mq->n; i++)
        sum += !is_record(&mq->items[i]) || m->copied[mq->items[i].id] ? mq->items[i].n_bytes : 0;
    return sum;
}

static uint32_t model_records(const struct model_queue *mq)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < mq->n; i++)
        n += is_record(&mq->items[i]);
    return n;
}

static bool model_held(const struct model *m, uint64_t position)
{
    for (uint32_t k = 0; k < QUEUES; k++)
        for (uint32_t i = 0; i < m->queues[k].n; i++)
            if (m->queues[k].items[i].id == position)
                return true;
    return false;
}

static void model_insert(struct model_queue *mq, uint32_t at, struct model_item item)
{
    assert_true(mq->n < MODEL_MAX);
    memmove(&mq->items[at + 1], &mq->items[at], (mq->n - at) * sizeof item);
    mq->items[at] = item;
    mq->n++;
}

/* Copies of records that nobody holds any more are forgotten; then all sums must be the same. */
static void model_compare(struct model *m)
{
    uint64_t total = 0;

    for (uint64_t p = 0; p < m->tail; p++) {
        m->copied[p] = m->copied[p] && model_held(m, p);
        total += m->copied[p] ? record_bytes(p) : 0;
    }
    outqs_check(m->qs);
    for (uint32_t k = 0; k < QUEUES; k++) {
        const struct model_queue *mq = &m->queues[k];

        assert_int_equal(outq_bytes(mq->q), model_bytes(m, mq));
        assert_int_equal(outq_empty(mq->q), mq->n == 0);
        assert_int_equal(outq_mid_record(mq->q), mq->sent > 0 || mq->rest);
        for (uint32_t i = 0; i < mq->n; i++)
            total += is_record(&mq->items[i]) ? 0 : mq->items[i].n_bytes;
    }
    assert_int_equal(outqs_bytes(m->qs), total);
}

/* The next record goes to some of the queues. */
static void step_record(struct model *m)
{
    uint32_t n_bytes = record_bytes(m->tail);

    if (m->tail == POSITIONS)
        return;
    for (uint32_t k = 0; k < QUEUES; k++) {
        struct model_queue *mq = &m->queues[k];
        bool fits = model_records(mq) < ITEMS_MAX;

        if (any(m, 2) == 0)
            continue;
        assert_int_equal(push(m->qs, mq->q, m->tail, n_bytes), fits ? OUTQ_OK : OUTQ_LIMIT);
        if (fits)
            model_insert(mq, mq->n, (struct model_item){ m->tail, n_bytes, 0, false });
    }
    m->tail++;
}

static void step_bytes(struct model *m, struct model_queue *mq)
{
    struct model_item item = { m->next_id++, 1 + any(m, 300), 0, false };
    bool fits = model_bytes(m, mq) + item.n_bytes <= BYTES_MAX;
    enum outq_result result;
    uint8_t bytes[300];
    uint32_t way = any(m, 3);
    uint32_t at = mq->n;

    for (uint32_t i = 0; i < item.n_bytes; i++)
        bytes[i] = pattern(item.id, i);
    if (way == 0 && mq->n == 0) {
        result = outq_push_rest(m->qs, mq->q, bytes, item.n_bytes, false);
        mq->rest = fits;
    } else if (way == 1) {
        item.urgent = true;
        at = mq->n > 0 && (mq->sent > 0 || mq->rest) ? 1 : 0;
        while (at < mq->n && mq->items[at].urgent) /* behind those that were before it */
            at++;
        result = outq_push_urgent(m->qs, mq->q, bytes, item.n_bytes);
    } else {
        result = outq_push_bytes(m->qs, mq->q, bytes, item.n_bytes);
    }
    assert_int_equal(result, fits ? OUTQ_OK : OUTQ_LIMIT);
    if (fits)
        model_insert(mq, at, item);
}

/* Compares what is to be sent with the model, then sends some of it. A hole ends the queue, as it ends a client. */
static void step_send(struct model *m, struct model_queue *mq)
{
    struct iovec iov[8];
    uint32_t iov_max = 1 + any(m, 8);
    uint64_t n_sent, sum = 0;
    uint32_t n_records = 0, want = 0;
    bool lost, hole = false;
    uint32_t n = outq_peek(m->qs, mq->q, iov, iov_max, &lost);

    for (; want < mq->n && want < iov_max && !hole; want += !hole) {
        const struct model_item *it = &mq->items[want];

        hole = is_record(it) && !m->copied[it->id] && it->id < floor_at;
        if (is_record(it) && !hole)
            m->copied[it->id] = true;
    }
    assert_int_equal(n, want);
    assert_int_equal(lost, hole && want == 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t skip = i == 0 ? mq->sent : 0;

        assert_int_equal(iov[i].iov_len, mq->items[i].n_bytes - skip);
        for (uint32_t j = 0; j < iov[i].iov_len; j++)
            assert_int_equal(((uint8_t *)iov[i].iov_base)[j], pattern(mq->items[i].id, skip + j));
        sum += iov[i].iov_len;
    }
    if (lost) {
        (void)outq_drop(m->qs, mq->q);
        mq->n = 0;
        return;
    }
    n_sent = any(m, 3) == 0 ? sum : any(m, (uint32_t)sum + 1);
    sum = n_sent;
    while (sum > 0 && sum >= mq->items[0].n_bytes - mq->sent) {
        sum -= mq->items[0].n_bytes - mq->sent;
        n_records += is_record(&mq->items[0]);
        mq->sent = 0;
        mq->rest = false;
        memmove(&mq->items[0], &mq->items[1], --mq->n * sizeof mq->items[0]);
    }
    mq->sent += (uint32_t)sum;
    assert_int_equal(outq_consume(m->qs, mq->q, n_sent, 1), n_records);
}

static void step_drop(struct model *m, struct model_queue *mq)
{
    uint32_t kept = mq->n > 0 && (mq->sent > 0 || mq->rest) ? 1 : 0;
    uint32_t n_records = model_records(mq) - (kept == 1 && is_record(&mq->items[0]));

    assert_int_equal(outq_drop(m->qs, mq->q), n_records);
    mq->n = kept;
}

static void step_reopen(struct model *m, struct model_queue *mq)
{
    outq_free(m->qs, mq->q);
    *mq = (struct model_queue){ .q = outq_new(m->qs, (uint32_t)(mq - m->queues), 0) };
    assert_non_null(mq->q);
}

/* The ring goes on: what lies below the limit is saved first, or, now and then, not. */
static void step_ring(struct model *m)
{
    uint64_t limit = floor_at + any(m, 8);
    uint32_t n_lost = outqs_rescue(m->qs, limit);

    for (uint64_t p = 0; p < m->tail && p < limit; p++)
        if (model_held(m, p) && p >= floor_at)
            m->copied[p] = true;
    assert_true(n_lost <= 8u);
    floor_at = limit + (any(m, 4) == 0 ? any(m, 4) : 0);
    if (floor_at > m->tail)
        floor_at = m->tail;
}

static void test_random_steps_leave_what_the_model_says(void **state)
{
    struct model *m = calloc(1, sizeof *m);

    (void)state;
    assert_non_null(m);
    for (uint32_t round = 1; round <= 4; round++) {
        *m = (struct model){ .qs = queues(ITEMS_MAX, BYTES_MAX), .next_id = POSITIONS };
        m->seed = round * 2654435761u;
        print_message("round %u\n", round);
        for (uint32_t k = 0; k < QUEUES; k++)
            step_reopen(m, &m->queues[k]);
        for (uint32_t step = 0; step < 4000; step++) {
            struct model_queue *mq = &m->queues[any(m, QUEUES)];
            uint32_t what = any(m, 100);

            if (what < 30)
                step_record(m);
            else if (what < 50)
                step_bytes(m, mq);
            else if (what < 85)
                step_send(m, mq);
            else if (what < 96)
                step_ring(m);
            else if (what < 99)
                step_drop(m, mq);
            else
                step_reopen(m, mq);
            model_compare(m);
        }
        outqs_free(m->qs);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_are_limited_by_number_and_control_frames_are_not),
        cmocka_unit_test(test_own_bytes_and_copies_are_limited_by_bytes),
        cmocka_unit_test(test_a_record_is_copied_once_for_all_its_holders),
        cmocka_unit_test(test_rescue_saves_what_is_about_to_be_overwritten_and_nothing_else),
        cmocka_unit_test(test_urgent_bytes_wait_for_the_end_of_what_was_started),
        cmocka_unit_test(test_urgent_frames_keep_their_order),
        cmocka_unit_test(test_an_urgent_frame_behind_the_only_started_item_becomes_the_last),
        cmocka_unit_test(test_a_ping_never_tears_a_record_whose_beginning_the_first_send_took),
        cmocka_unit_test(test_dropping_keeps_the_started_record_and_counts_the_others),
        cmocka_unit_test(test_a_long_queue_is_not_copied_in_one_go),
        cmocka_unit_test(test_the_soft_limit_counts_from_when_it_was_passed),
        cmocka_unit_test(test_the_largest_queue_is_found_and_each_is_visited_once),
        cmocka_unit_test(test_both_forms_of_a_record_are_held_side_by_side),
        cmocka_unit_test(test_random_steps_leave_what_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
