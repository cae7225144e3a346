/* test_batch.c: what is queued goes out once, in order, byte for byte, however slowly the peer reads.
 *
 * Real socket pairs with small buffers on a real loop, so short sends and EAGAIN are the kernel's own. Records lie
 * in an array that stands for the ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/conn_fixture.h"
#include "net/batch.h"

#define RING_BYTES (4u << 20)
#define WANT_MAX   (2u << 20)

/* What a peer is to get, and has got. */
struct stream {
    uint8_t *want;
    uint8_t *got;
    uint32_t n_want;
    uint32_t n_got;
};

struct world {
    struct conn_fixture net;
    struct outqs *outqs;
    struct batch *batch;
    uint8_t *ring;
    uint32_t tail;
    uint32_t floor;
    struct stream streams[FIXTURE_SLOTS];
    uint32_t n_failed;
    uint32_t n_finished;
    uint32_t n_carried;
    struct conn *carrier; /* of what virtual connections got */
    uint32_t n_lagged;
    enum outq_result why;
    uint32_t seed;
};

static struct world *w;

static bool copy(void *context, uint64_t position, uint32_t offset, uint8_t *out, uint32_t n_bytes)
{
    (void)context;
    if (position < w->floor)
        return false;
    memcpy(out, w->ring + position + offset, n_bytes);
    return true;
}

static void on_failed(void *context, struct conn *c, int error)
{
    (void)context;
    assert_true(error > 0);
    outq_free(w->outqs, c->outq);
    c->outq = NULL;
    conn_kill(&w->net.conns, c);
    w->n_failed++;
}

static void on_finished(void *context, struct conn *c)
{
    (void)context;
    conn_linger(&w->net.conns, c, 0);
    w->n_finished++;
}

static void on_lagged(void *context, struct conn *c, enum outq_result why)
{
    (void)context;
    (void)c;
    w->why = why;
    w->n_lagged++;
}

/* As polling does: what the queue of a virtual connection has goes to a socket. */
static void on_carry(void *context, struct conn *c)
{
    struct iovec iov[4];
    bool lost;
    uint32_t n;

    (void)context;
    w->n_carried++;
    while ((n = outq_peek(w->outqs, c->outq, iov, 4, &lost)) > 0) {
        assert_false(lost);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(
                batch_bytes(w->batch, w->carrier, iov[i].iov_base, (uint32_t)iov[i].iov_len, false),
                OUTQ_OK);
            (void)outq_consume(w->outqs, c->outq, iov[i].iov_len, 0);
        }
    }
}

static void on_writable(void *context, struct conn *c)
{
    (void)context;
    batch_on_writable(w->batch, c, 1);
}

static void begin(uint32_t nodes_max, uint32_t arena_bytes, uint32_t items_max)
{
    struct batch_limits limits = { nodes_max, arena_bytes };
    struct batch_events events = {
        .carry = on_carry, .failed = on_failed, .finished = on_finished, .lagged = on_lagged
    };
    struct outq_source source = { copy, NULL };

    w = calloc(1, sizeof *w);
    assert_non_null(w);
    conn_fixture_init(&w->net);
    w->net.writable = on_writable;
    w->outqs = outqs_new(&source, items_max, 4u << 20);
    w->batch = batch_new(&w->net.conns, w->outqs, &limits, &events);
    w->ring = malloc(RING_BYTES);
    assert_non_null(w->outqs);
    assert_non_null(w->batch);
    assert_non_null(w->ring);
    w->seed = 12345;
    for (uint32_t i = 0; i < RING_BYTES; i++)
        w->ring[i] = (uint8_t)(i * 2654435761u >> 13);
    for (uint32_t i = 0; i < FIXTURE_SLOTS; i++) {
        w->streams[i].want = malloc(WANT_MAX);
        w->streams[i].got = malloc(WANT_MAX);
        assert_non_null(w->streams[i].want);
        assert_non_null(w->streams[i].got);
    }
}

static void end(void)
{
    for (uint32_t i = 0; i < FIXTURE_SLOTS; i++) {
        struct conn *c = conn_at(&w->net.conns, i);

        outq_free(w->outqs, c->outq);
        c->outq = NULL;
        free(w->streams[i].want);
        free(w->streams[i].got);
    }
    outqs_check(w->outqs);
    assert_int_equal(outqs_bytes(w->outqs), 0);
    conn_fixture_destroy(&w->net);
    batch_free(w->batch);
    outqs_free(w->outqs);
    free(w->ring);
    free(w);
}

static uint32_t any(uint32_t below)
{
    w->seed = w->seed * 1664525 + 1013904223;
    return (w->seed >> 8) % below;
}

static struct conn *opened(void)
{
    uint32_t i = conn_fixture_open(&w->net);

    assert_int_not_equal(i, CONN_NONE);
    w->streams[i].n_want = 0;
    w->streams[i].n_got = 0;
    conn_become(conn_at(&w->net.conns, i), CONN_OPEN);
    conn_fixture_settle(&w->net);
    return conn_at(&w->net.conns, i);
}

static struct stream *stream_of(const struct conn *c)
{
    return &w->streams[conn_index(&w->net.conns, c)];
}

static void expect(const struct conn *c, const void *bytes, uint32_t n_bytes)
{
    struct stream *s = stream_of(c);

    assert_true(s->n_want + n_bytes <= WANT_MAX);
    memcpy(s->want + s->n_want, bytes, n_bytes);
    s->n_want += n_bytes;
}

static struct outq_record append(uint32_t n_bytes)
{
    struct outq_record record = { w->tail, 0, n_bytes };

    w->tail += n_bytes;
    assert_true(w->tail <= RING_BYTES);
    return record;
}

static void send_record(struct conn *c, struct outq_record record)
{
    assert_int_equal(batch_record(w->batch, c, &record, w->ring + record.position), OUTQ_OK);
    expect(c, w->ring + record.position, record.n_bytes);
}

static void send_bytes(struct conn *c, const char *text)
{
    assert_int_equal(batch_bytes(w->batch, c, text, (uint32_t)strlen(text), false), OUTQ_OK);
    expect(c, text, (uint32_t)strlen(text));
}

static void flush(void)
{
    assert_true(batch_flush(w->batch, UINT32_MAX, 1));
}

/* Reads at most that much; true: there was something. */
static bool peer_read(const struct conn *c, uint32_t n_max)
{
    struct stream *s = stream_of(c);
    ssize_t n;

    if (n_max > WANT_MAX - s->n_got)
        n_max = WANT_MAX - s->n_got;
    n = recv(w->net.peers[conn_index(&w->net.conns, c)], s->got + s->n_got, n_max, 0);
    if (n > 0)
        s->n_got += (uint32_t)n;
    return n > 0;
}

/* The peer reads until nothing comes any more, and has got exactly what was sent. */
static void read_all(const struct conn *c)
{
    const struct stream *s = stream_of(c);

    for (uint32_t quiet = 0; quiet < 2 && s->n_got <= s->n_want;) {
        bool some = peer_read(c, 65536);

        some = conn_fixture_turn(&w->net, some ? 0 : 5) > 0 || some;
        batch_flush_writable(w->batch, 1);
        quiet = some ? 0 : quiet + 1;
    }
    assert_int_equal(s->n_got, s->n_want);
    assert_memory_equal(s->got, s->want, s->n_want);
}

/* Fills the socket until a send comes back short or not at all. */
static void block(struct conn *c)
{
    while (c->outq == NULL) {
        send_record(c, append(1500));
        flush();
    }
}

/* --- tests --- */

static void test_everything_queued_for_a_connection_is_one_send(void **state)
{
    struct conn *c;
    struct batch_stats stats;

    (void)state;
    begin(100, 1000, 10);
    c = opened();
    send_record(c, append(10));
    send_bytes(c, "own");
    send_record(c, append(20));
    assert_false(batch_idle(w->batch));
    flush();
    assert_true(batch_idle(w->batch));
    stats = batch_stats_take(w->batch);
    assert_int_equal(stats.n_sends, 1);
    assert_int_equal(stats.n_pieces, 2);
    assert_int_equal(stats.n_bytes, 33);
    assert_int_equal(batch_stats_take(w->batch).n_bytes, 0);
    read_all(c);
    end();
}

static void test_members_with_the_same_pieces_share_their_chain(void **state)
{
    struct conn *c[6];
    struct outq_record a, b;

    (void)state;
    begin(4, 0, 10); /* the root, and three pieces: more would make it flush by itself */
    for (uint32_t i = 0; i < 6; i++)
        c[i] = opened();
    a = append(100);
    b = append(200);
    for (uint32_t i = 0; i < 6; i++)
        send_record(c[i], a);
    for (uint32_t i = 0; i < 5; i++)
        send_record(c[i], b);
    assert_int_equal(batch_stats_take(w->batch).n_sends, 0);
    flush();
    assert_int_equal(batch_stats_take(w->batch).n_pieces, 11);
    for (uint32_t i = 0; i < 6; i++)
        read_all(c[i]);
    end();
}

/* A room in which every other member takes the compressed form: neighbours differ, chains are shared all the same. */
static void test_members_of_both_forms_share_the_chains_of_their_own(void **state)
{
    struct conn *c[6];
    struct outq_record r[4];

    (void)state;
    begin(
        6, 0,
        10); /* a root, two pieces for each form, and one to spare: more would make it flush by itself */
    for (uint32_t i = 0; i < 6; i++) {
        c[i] = opened();
        if (i % 2 == 1)
            c[i]->flags |= CONN_DEFLATE;
    }
    for (uint32_t i = 0; i < 4; i++)
        r[i] = append(100 + i);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 6; i++)
            send_record(c[i], r[2 * round + i % 2]);
    assert_int_equal(batch_stats_take(w->batch).n_sends, 0);
    flush();
    assert_int_equal(batch_stats_take(w->batch).n_pieces, 12);
    for (uint32_t i = 0; i < 6; i++)
        read_all(c[i]);
    send_record(c[1], r[0]); /* and anew, behind a flush */
    send_record(c[0], r[0]);
    flush();
    read_all(c[0]);
    read_all(c[1]);
    end();
}

static void test_chains_that_differ_do_not_mix(void **state)
{
    struct conn *c[4];
    struct outq_record r[3];

    (void)state;
    begin(100, 1000, 10);
    for (uint32_t i = 0; i < 4; i++)
        c[i] = opened();
    for (uint32_t i = 0; i < 3; i++)
        r[i] = append(50 + i);
    send_record(c[0], r[0]);
    send_record(c[1], r[1]);
    send_record(c[2], r[0]); /* the memo is of r[1] by now */
    send_record(c[0], r[2]);
    send_bytes(c[1], "for one only");
    send_record(c[1], r[2]);
    send_record(c[2], r[2]);
    send_bytes(c[3], "nothing else");
    flush();
    for (uint32_t i = 0; i < 4; i++)
        read_all(c[i]);
    end();
}

static void test_a_batch_that_is_full_sends_by_itself_and_loses_nothing(void **state)
{
    struct conn *c[3];

    (void)state;
    begin(8, 16, 2000);
    for (uint32_t i = 0; i < 3; i++)
        c[i] = opened();
    for (uint32_t round = 0; round < 300; round++) {
        struct conn *to = c[any(3)];

        if (any(2) == 0)
            send_record(to, append(1 + any(40)));
        else
            send_bytes(to, "sixteen or less" + any(15));
    }
    flush();
    for (uint32_t i = 0; i < 3; i++)
        read_all(c[i]);
    end();
}

static void test_more_pieces_than_one_send_takes_go_out_in_order(void **state)
{
    struct conn *c;

    (void)state;
    begin(2000, 1000, 2000);
    c = opened();
    for (uint32_t i = 0; i < 700; i++)
        send_record(c, append(1 + any(3)));
    flush();
    read_all(c);
    end();
}

static void test_own_bytes_beyond_the_arena_arrive_behind_what_was_pending(void **state)
{
    static char big[70000];
    struct conn *c;

    (void)state;
    begin(100, 1000, 10);
    c = opened();
    memset(big, 'b', sizeof big);
    send_bytes(c, "first");
    assert_int_equal(batch_bytes(w->batch, c, big, sizeof big, false), OUTQ_OK);
    expect(c, big, sizeof big);
    send_bytes(c, "last");
    read_all(c);
    end();
}

static void test_a_budget_ends_the_flush_and_the_next_one_goes_on(void **state)
{
    struct conn *c[5];
    struct outq_record a;

    (void)state;
    begin(100, 1000, 10);
    a = append(100);
    for (uint32_t i = 0; i < 5; i++) {
        c[i] = opened();
        send_record(c[i], a);
    }
    assert_false(batch_flush(w->batch, 2, 1));
    assert_false(batch_flush(w->batch, 2, 1));
    assert_false(batch_idle(w->batch));
    send_record(c[0], append(7)); /* it has been served, and is again */
    flush();
    for (uint32_t i = 0; i < 5; i++)
        read_all(c[i]);
    end();
}

static void test_what_a_full_socket_did_not_take_arrives_when_the_peer_reads(void **state)
{
    struct conn *c;
    struct batch_stats stats;
    uint32_t n_records = 0;

    (void)state;
    begin(100, 1000, 5000);
    c = opened();
    for (; c->outq == NULL; n_records += 3) {
        send_record(c, append(1000));
        send_record(c, append(1));
        send_record(c, append(2000));
        flush();
    }
    assert_true((c->flags & CONN_WANT_WRITABLE) != 0);
    for (uint32_t i = 0; i < 200; i++, n_records++)
        send_record(c, append(1 + any(2000)));
    send_bytes(c, "and bytes of its own");
    flush();
    read_all(c);
    assert_null(c->outq); /* caught up */
    stats = batch_stats_take(w->batch);
    assert_int_equal(stats.n_pieces, n_records);
    assert_int_equal(stats.n_bytes, stream_of(c)->n_want);
    assert_true(stats.n_short + stats.n_again > 0);
    end();
}

/* A stream socket that takes part of a send: what is left of the piece is not to be torn. */
static void test_a_ping_does_not_tear_the_record_that_a_send_cut(void **state)
{
    struct conn *c;
    struct outq_record record;
    struct stream *s;
    uint32_t before;

    (void)state;
    begin(100, 1000, 5000);
    c = opened();
    s = stream_of(c);
    record = append(1u << 20);
    send_record(c, record);
    before = s->n_want;
    send_bytes(c, "behind it");
    flush();
    assert_non_null(c->outq);
    assert_true(outq_mid_record(c->outq));
    assert_int_equal(batch_bytes(w->batch, c, "PING", 4, true), OUTQ_OK);
    memmove(s->want + before + 4, s->want + before, s->n_want - before);
    memcpy(s->want + before, "PING", 4);
    s->n_want += 4;
    read_all(c);
    end();
}

static void test_a_peer_without_room_in_its_queue_lags_and_the_others_do_not(void **state)
{
    struct conn *slow, *fast;
    struct outq_record record;

    (void)state;
    begin(100, 1000, 3);
    slow = opened();
    fast = opened();
    block(slow);
    while (outq_drop(w->outqs, slow->outq) > 0)
        ;
    for (uint32_t i = 0; i < 3; i++) {
        record = append(10);
        send_record(fast, record);
        assert_int_equal(batch_record(w->batch, slow, &record, w->ring + record.position), OUTQ_OK);
    }
    record = append(10);
    send_record(fast, record);
    assert_int_equal(batch_record(w->batch, slow, &record, w->ring + record.position), OUTQ_LIMIT);
    flush();
    assert_int_equal(w->n_lagged, 0); /* the caller has been told by the result */
    read_all(fast);
    end();
}

static void test_a_hole_is_reported_when_it_is_reached(void **state)
{
    struct conn *c;

    (void)state;
    begin(100, 1000, 100);
    c = opened();
    block(c);
    send_record(c, append(10));
    w->floor = w->tail; /* overwritten, and nobody rescued it */
    while (w->n_lagged == 0) {
        (void)peer_read(c, 65536);
        (void)conn_fixture_turn(&w->net, 5);
        batch_flush_writable(w->batch, 1);
    }
    assert_int_equal(w->why, OUTQ_LOST);
    assert_int_equal(w->n_lagged, 1);
    end();
}

static void test_a_connection_that_is_to_end_ends_when_everything_is_out(void **state)
{
    struct conn *c[2];
    char byte;

    (void)state;
    begin(100, 1000, 100);
    c[0] = opened();
    c[1] = opened();
    block(c[1]);
    for (uint32_t i = 0; i < 2; i++) {
        send_bytes(c[i], "the last words");
        conn_become(c[i], CONN_CLOSING);
        c[i]->flags |= CONN_END_WHEN_SENT;
    }
    flush();
    assert_int_equal(w->n_finished, 1);
    assert_int_equal(c[0]->state, CONN_LINGER);
    assert_int_equal(c[1]->state, CONN_CLOSING);
    read_all(c[0]);
    read_all(c[1]);
    assert_int_equal(w->n_finished, 2);
    assert_int_equal(c[1]->state, CONN_LINGER);
    assert_int_equal(recv(w->net.peers[conn_index(&w->net.conns, c[1])], &byte, 1, 0), 0);
    end();
}

static void test_a_virtual_connection_is_carried_once_a_turn_with_all_it_got(void **state)
{
    struct peer_address peer = { 0 };
    struct conn *virtual;

    (void)state;
    begin(100, 1000, 100);
    w->carrier = opened();
    virtual = conn_at(&w->net.conns, conn_open_virtual(&w->net.conns, &peer));
    virtual->outq = outq_new(w->outqs, conn_index(&w->net.conns, virtual), 0);
    assert_non_null(virtual->outq);
    batch_carry(w->batch);
    assert_int_equal(w->n_carried, 0);
    for (uint32_t turn = 1; turn <= 3; turn++) {
        for (uint32_t i = 0; i < 5; i++) {
            struct outq_record record = append(20 + i);

            assert_int_equal(batch_record(w->batch, virtual, &record, w->ring + record.position),
                             OUTQ_OK);
            expect(w->carrier, w->ring + record.position, record.n_bytes);
        }
        assert_int_equal(batch_bytes(w->batch, virtual, "own", 3, false), OUTQ_OK);
        expect(w->carrier, "own", 3);
        batch_carry(w->batch);
        assert_int_equal(w->n_carried, turn);
        flush();
        read_all(w->carrier);
    }
    outq_free(w->outqs, virtual->outq);
    virtual->outq = NULL;
    conn_kill(&w->net.conns, virtual);
    batch_carry(w->batch); /* in the list or not, it is gone */
    assert_int_equal(w->n_carried, 3);
    end();
}

static void test_a_broken_socket_fails_alone(void **state)
{
    struct conn *c[2];
    struct outq_record record;

    (void)state;
    begin(100, 1000, 100);
    c[0] = opened();
    c[1] = opened();
    assert_int_equal(close(w->net.peers[conn_index(&w->net.conns, c[0])]), 0);
    w->net.peers[conn_index(&w->net.conns, c[0])] = -1;
    record = append(10);
    send_record(c[0], record);
    send_record(c[1], record);
    flush();
    assert_int_equal(w->n_failed, 1);
    assert_int_equal(c[0]->state, CONN_DYING);
    read_all(c[1]);
    end();
}

static void test_what_was_queued_for_a_killed_connection_does_not_reach_its_successor(void **state)
{
    struct conn *c, *next;

    (void)state;
    begin(100, 1000, 100);
    c = opened();
    send_record(c, append(10));
    conn_kill(&w->net.conns, c);
    assert_int_equal(batch_bytes(w->batch, c, "dead", 4, false), OUTQ_OK); /* goes nowhere */
    conn_fixture_settle(&w->net);
    next = opened();
    assert_ptr_equal(next, c);
    send_bytes(next, "mine");
    flush();
    read_all(next);
    end();
}

static void test_random_traffic_to_readers_of_all_speeds_arrives_exactly(void **state)
{
    struct conn *c[4];

    (void)state;
    begin(64, 512, 100000);
    for (uint32_t i = 0; i < 4; i++)
        c[i] = opened();
    for (uint32_t turn = 0; turn < 400; turn++) {
        for (uint32_t n = any(6); n > 0; n--) {
            struct outq_record record = append(1 + any(any(4) == 0 ? 6000 : 100));

            for (uint32_t i = 0; i < 4; i++)
                if (any(3) > 0)
                    send_record(c[i], record);
            if (any(3) == 0)
                send_bytes(c[any(4)], "an answer to one of them");
        }
        if (!batch_flush(w->batch, 1 + any(5), turn))
            assert_false(batch_idle(w->batch));
        for (uint32_t i = 0; i < 4; i++)
            if (any(4) < i + 1)
                (void)peer_read(c[i], 1 + any(4000 * (i + 1)));
        (void)conn_fixture_turn(&w->net, 0);
        batch_flush_writable(w->batch, turn);
        if (batch_idle(w->batch)) {
            assert_int_equal(outqs_rescue(w->outqs, w->tail), 0);
            w->floor = w->tail; /* the ring has moved on */
        }
        outqs_check(w->outqs);
    }
    flush();
    for (uint32_t i = 0; i < 4; i++)
        read_all(c[i]);
    assert_int_equal(w->n_lagged, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_queued_for_a_connection_is_one_send),
        cmocka_unit_test(test_members_with_the_same_pieces_share_their_chain),
        cmocka_unit_test(test_members_of_both_forms_share_the_chains_of_their_own),
        cmocka_unit_test(test_chains_that_differ_do_not_mix),
        cmocka_unit_test(test_a_batch_that_is_full_sends_by_itself_and_loses_nothing),
        cmocka_unit_test(test_more_pieces_than_one_send_takes_go_out_in_order),
        cmocka_unit_test(test_own_bytes_beyond_the_arena_arrive_behind_what_was_pending),
        cmocka_unit_test(test_a_budget_ends_the_flush_and_the_next_one_goes_on),
        cmocka_unit_test(test_what_a_full_socket_did_not_take_arrives_when_the_peer_reads),
        cmocka_unit_test(test_a_ping_does_not_tear_the_record_that_a_send_cut),
        cmocka_unit_test(test_a_peer_without_room_in_its_queue_lags_and_the_others_do_not),
        cmocka_unit_test(test_a_hole_is_reported_when_it_is_reached),
        cmocka_unit_test(test_a_connection_that_is_to_end_ends_when_everything_is_out),
        cmocka_unit_test(test_a_virtual_connection_is_carried_once_a_turn_with_all_it_got),
        cmocka_unit_test(test_a_broken_socket_fails_alone),
        cmocka_unit_test(test_what_was_queued_for_a_killed_connection_does_not_reach_its_successor),
        cmocka_unit_test(test_random_traffic_to_readers_of_all_speeds_arrives_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
