/* test_conn.c: connections on a real loop: what they may become, what they read, and how they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/conn_fixture.h"

static struct conn_fixture *f;

static int setup(void **state)
{
    (void)state;
    f = calloc(1, sizeof *f);
    assert_non_null(f);
    conn_fixture_init(f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    conn_fixture_destroy(f);
    free(f);
    return 0;
}

static void say(uint32_t index, const void *bytes, size_t n_bytes)
{
    assert_int_equal(send(f->peers[index], bytes, n_bytes, MSG_NOSIGNAL), (ssize_t)n_bytes);
}

static void test_an_idle_connection_has_one_poll_in_the_kernel_and_nothing_else(void **state)
{
    uint32_t i = conn_fixture_open(f);
    struct conn *c = conn_at(&f->conns, i);

    (void)state;
    assert_int_equal(c->state, CONN_HTTP);
    assert_true(conn_alive(c));
    conn_fixture_settle(f);
    assert_int_equal(c->n_ops, 1);
    assert_int_equal(c->flags & (CONN_POLLING | CONN_LISTED), CONN_POLLING);
}

static void test_bytes_arrive_whole_and_in_order_however_many(void **state)
{
    static char bytes[3 * RECEIVE_BUFFER_BYTES + 17];
    uint32_t i = conn_fixture_open(f);

    (void)state;
    for (uint32_t k = 0; k < sizeof bytes; k++)
        bytes[k] = (char)(k * 7 + (k >> 8));
    say(i, bytes, 1); /* an arrival that the first receive may see */
    conn_fixture_settle(f);
    say(i, bytes + 1, sizeof bytes - 1);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], sizeof bytes);
    assert_memory_equal(f->got[i], bytes, sizeof bytes);
    assert_int_equal(conn_at(&f->conns, i)->n_ops, 1);
    assert_false(f->ended[i]);
}

static void test_the_end_of_the_peer_is_seen_behind_its_last_bytes(void **state)
{
    uint32_t i = conn_fixture_open(f);

    (void)state;
    conn_fixture_settle(f);
    say(i, "last", 4);
    assert_int_equal(shutdown(f->peers[i], SHUT_WR), 0);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], 4);
    assert_memory_equal(f->got[i], "last", 4);
    assert_true(f->ended[i]);
}

static void test_an_end_that_was_there_at_the_start_is_seen(void **state)
{
    uint32_t i = conn_fixture_open(f);

    (void)state;
    say(i, "GET", 3);
    assert_int_equal(shutdown(f->peers[i], SHUT_WR), 0);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], 3);
    assert_true(f->ended[i]);
}

static void test_a_paused_connection_is_not_read_until_it_is_resumed(void **state)
{
    uint32_t i = conn_fixture_open(f);
    struct conn *c = conn_at(&f->conns, i);

    (void)state;
    conn_fixture_settle(f);
    conn_pause(c);
    say(i, "later", 5);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], 0);
    conn_resume(c);
    conn_read_next(&f->conns, c);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], 5);
}

static void test_a_slot_is_in_the_list_of_the_readable_once_whoever_has_it(void **state)
{
    (void)state;
    conn_fixture_settle(f);
    f->deaf = true;
    for (uint32_t round = 0; round < 3 * FIXTURE_SLOTS; round++) {
        uint32_t i = conn_fixture_open(f);

        assert_int_equal(i, 0);
        say(i, "x", 1);
        conn_fixture_settle(f);
        assert_int_equal(f->conns.n_readable, 1);
        if (round + 1 < 3 * FIXTURE_SLOTS) {
            conn_kill(&f->conns, conn_at(&f->conns, i));
            conn_fixture_settle(f);
        }
    }
    f->deaf = false; /* one that has gone is not read, the one in its place is */
    conn_fixture_settle(f);
    assert_int_equal(f->conns.n_readable, 0);
    assert_int_equal(f->n_got[0], 1);
}

static void test_a_virtual_one_in_the_slot_of_a_listed_one_is_not_read(void **state)
{
    struct peer_address peer = { .family = AF_UNIX };
    uint32_t i = conn_fixture_open(f);

    (void)state;
    f->deaf = true;
    say(i, "x", 1);
    conn_kill(&f->conns, conn_at(&f->conns, i));
    conn_fixture_settle(f);
    assert_int_equal(conn_open_virtual(&f->conns, &peer), i);
    f->deaf = false;
    conn_fixture_settle(f);
    assert_int_equal(f->conns.n_readable, 0);
    assert_int_equal(f->n_got[i], 0);
}

static void test_one_may_end_another_that_was_received_from_with_it(void **state)
{
    uint32_t i[3];

    (void)state;
    for (uint32_t k = 0; k < 3; k++)
        i[k] = conn_fixture_open(f);
    conn_fixture_settle(f);
    for (uint32_t k = 0; k < 3; k++)
        say(i[k], "x", 1);
    f->kill_when_received = i[1];
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i[0]], 1);
    assert_int_equal(f->n_got[i[1]], 0);
    assert_int_equal(f->n_got[i[2]], 1);
    assert_int_equal(conn_at(&f->conns, i[1])->state, CONN_FREE);
}

static void test_killing_with_requests_in_flight_frees_the_slot_when_all_are_home(void **state)
{
    uint32_t i = conn_fixture_open(f);
    struct conn *c = conn_at(&f->conns, i);
    char byte;

    (void)state;
    conn_fixture_settle(f);
    while (send(c->fd, f->got[7], 4096, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    conn_want_writable(&f->conns, c);
    conn_want_writable(&f->conns, c); /* asked for already */
    assert_int_equal(c->n_ops, 2);
    conn_kill(&f->conns, c);
    conn_kill(&f->conns, c); /* dying already */
    assert_int_equal(c->state, CONN_DYING);
    assert_false(conn_alive(c));
    assert_int_equal(c->n_ops, 5); /* two requests, their cancellations, the close */
    assert_int_equal(f->conns.n_used, 1);
    conn_fixture_settle(f);
    assert_int_equal(c->state, CONN_FREE);
    assert_int_equal(f->conns.n_used, 0);
    while (recv(f->peers[i], &byte, 1, 0) == 1)
        ;
    assert_int_equal(recv(f->peers[i], &byte, 1, 0), 0); /* really closed */
}

static void test_killing_before_the_first_turn_frees_the_slot(void **state)
{
    uint32_t i = conn_fixture_open(f);

    (void)state;
    say(i, "unread", 6);
    conn_kill(&f->conns, conn_at(&f->conns, i));
    conn_fixture_settle(f);
    assert_int_equal(conn_at(&f->conns, i)->state, CONN_FREE);
    assert_int_equal(f->n_got[i], 0);
}

static void test_a_slot_that_is_used_again_is_of_another_generation(void **state)
{
    uint32_t i = conn_fixture_open(f);
    struct conn *c = conn_at(&f->conns, i);
    uint64_t old = tag_pack(CONN_OP_RECV, i, c->generation);
    struct loop_event late = { .tag = old, .result = 0 };

    (void)state;
    assert_true(conn_is_current(c, old));
    conn_kill(&f->conns, c);
    conn_fixture_settle(f);
    assert_false(conn_is_current(c, old)); /* free */
    assert_int_equal(conn_fixture_open(f), i);
    assert_false(conn_is_current(c, old));
    conn_fixture_event(f, &late);
    assert_int_equal(f->n_stale, 1);
    assert_false(f->ended[i]);
    say(i, "new", 3);
    conn_fixture_settle(f);
    assert_memory_equal(f->got[i], "new", 3);
    assert_int_equal(c->owner, CONN_NONE);
    assert_int_equal(c->pending, 0);
}

static void test_beyond_max_the_caller_keeps_its_descriptor(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < FIXTURE_CONNS; k++)
        assert_int_equal(conn_fixture_open(f), k);
    assert_int_equal(conn_fixture_open(f),
                     CONN_NONE); /* closes it: no double close, or it aborts */
    assert_int_equal(f->conns.n_used, FIXTURE_CONNS);
    conn_kill(&f->conns, conn_at(&f->conns, 3));
    assert_int_equal(conn_fixture_open(f), CONN_NONE); /* not home yet */
    conn_fixture_settle(f);
    assert_int_equal(conn_fixture_open(f), 3);
}

static void test_lingering_tells_the_peer_the_end_and_goes_on_reading(void **state)
{
    uint32_t i = conn_fixture_open(f);
    struct conn *c = conn_at(&f->conns, i);
    char byte;

    (void)state;
    conn_become(c, CONN_OPEN);
    conn_become(c, CONN_CLOSING);
    conn_pause(c);
    conn_fixture_settle(f);
    conn_linger(&f->conns, c, 0);
    assert_int_equal(c->state, CONN_LINGER);
    assert_false(conn_alive(c));
    assert_true(wheel_is_armed(&f->conns.wheel, i));
    assert_int_equal(recv(f->peers[i], &byte, 1, 0), 0);
    say(i, "unread", 6);
    assert_int_equal(shutdown(f->peers[i], SHUT_WR), 0);
    conn_fixture_settle(f);
    assert_int_equal(f->n_got[i], 6);
    assert_true(f->ended[i]);
    conn_kill(&f->conns, c);
    assert_false(wheel_is_armed(&f->conns.wheel, i));
}

static void test_a_connection_becomes_only_what_the_drawing_allows(void **state)
{
    /* rows: from; columns: FREE HTTP OPEN CLOSING LINGER DYING */
    static const char *const allowed[CONN_STATES] = { ".x....", "..xxxx", "...xxx",
                                                      "....xx", ".....x", "x....." };

    (void)state;
    for (uint32_t from = 0; from < CONN_STATES; from++)
        for (uint32_t to = 0; to < CONN_STATES; to++) {
            static struct conn c; /* a cache line: the sanitizers' stacks do not align to it */

            if (allowed[from][to] != 'x')
                continue;
            c = (struct conn){ .state = (uint8_t)from };
            conn_become(&c, (enum conn_state)to);
            assert_int_equal(c.state, to);
        }
}

static void test_a_virtual_connection_has_bounds_and_generations_of_its_own(void **state)
{
    struct peer_address peer = { .port = 5 };
    uint32_t all[FIXTURE_VIRTUAL];
    uint64_t old;
    struct conn *c;

    (void)state;
    for (uint32_t i = 0; i < FIXTURE_VIRTUAL; i++) {
        all[i] = conn_open_virtual(&f->conns, &peer);
        assert_int_not_equal(all[i], CONN_NONE);
        assert_int_equal(conn_at(&f->conns, all[i])->state, CONN_OPEN);
    }
    assert_int_equal(conn_open_virtual(&f->conns, &peer), CONN_NONE);
    for (uint32_t i = 0; i < FIXTURE_CONNS; i++) /* they take no socket's place */
        assert_int_not_equal(conn_fixture_open(f), CONN_NONE);
    assert_int_equal(conn_fixture_open(f), CONN_NONE);
    c = conn_at(&f->conns, all[2]);
    old = tag_pack(CONN_OP_RECV, all[2], c->generation);
    conn_kill(&f->conns, c);
    assert_int_equal(c->state,
                     CONN_DYING); /* nobody finds another in the slot in the middle of a turn */
    assert_int_equal(conn_open_virtual(&f->conns, &peer), CONN_NONE);
    conn_fixture_settle(f);
    assert_int_equal(conn_open_virtual(&f->conns, &peer), all[2]);
    assert_false(conn_is_current(c, old));
    for (uint32_t i = 0; i < FIXTURE_VIRTUAL; i++)
        conn_kill(&f->conns, conn_at(&f->conns, all[i]));
    conn_fixture_settle(f);
    assert_int_equal(f->conns.n_virtual, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_idle_connection_has_one_poll_in_the_kernel_and_nothing_else),
        TEST(test_bytes_arrive_whole_and_in_order_however_many),
        TEST(test_the_end_of_the_peer_is_seen_behind_its_last_bytes),
        TEST(test_an_end_that_was_there_at_the_start_is_seen),
        TEST(test_a_paused_connection_is_not_read_until_it_is_resumed),
        TEST(test_a_slot_is_in_the_list_of_the_readable_once_whoever_has_it),
        TEST(test_a_virtual_one_in_the_slot_of_a_listed_one_is_not_read),
        TEST(test_one_may_end_another_that_was_received_from_with_it),
        TEST(test_killing_with_requests_in_flight_frees_the_slot_when_all_are_home),
        TEST(test_killing_before_the_first_turn_frees_the_slot),
        TEST(test_a_slot_that_is_used_again_is_of_another_generation),
        TEST(test_beyond_max_the_caller_keeps_its_descriptor),
        TEST(test_a_virtual_connection_has_bounds_and_generations_of_its_own),
        TEST(test_lingering_tells_the_peer_the_end_and_goes_on_reading),
        TEST(test_a_connection_becomes_only_what_the_drawing_allows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
