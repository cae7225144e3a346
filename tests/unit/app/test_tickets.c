/* test_tickets.c: an acknowledgement is answered once, by its own handle only, and who asks too much forgets his own oldest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/tickets.h"
#include "peal/app.h"

static struct tickets tickets;

static int setup(void **state)
{
    (void)state;
    return tickets_init(&tickets) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    tickets_destroy(&tickets);
    return 0;
}

static void test_a_ticket_is_good_once(void **state)
{
    struct ticket_list list = { 0 };
    struct ticket like = { .id = 7, .socket = 9 };
    uint64_t a = ticket_new(&tickets, &list, &like);
    uint64_t b = ticket_new(&tickets, &list, &like);
    (void)state;

    assert_true(a != 0);
    assert_true(a != b);
    assert_true(ticket_find(&tickets, a)->id == 7);
    ticket_use(&tickets, &list, ticket_find(&tickets, a));
    assert_null(ticket_find(&tickets, a));
    assert_non_null(ticket_find(&tickets, b));
    assert_int_equal(list.n, 1);
    /* its place is used again, the handle is not */
    assert_true(ticket_new(&tickets, &list, &like) != a);
    assert_null(ticket_find(&tickets, a));
    assert_null(ticket_find(&tickets, 0));
    assert_null(ticket_find(&tickets, UINT64_MAX));
    assert_null(ticket_find(&tickets, b + (1ull << 32)));
}

static void test_those_of_one_end_together(void **state)
{
    struct ticket_list one = { 0 };
    struct ticket_list other = { 0 };
    struct ticket like = { 0 };
    uint64_t handles[9];
    (void)state;

    for (uint32_t i = 0; i < 9; i++)
        handles[i] = ticket_new(&tickets, i % 3 == 0 ? &other : &one, &like);
    ticket_use(&tickets, &one, ticket_find(&tickets, handles[4])); /* out of the middle */
    tickets_end(&tickets, &one);
    assert_int_equal(one.n, 0);
    assert_int_equal(one.oldest + one.newest, 0);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(ticket_find(&tickets, handles[i]) != NULL, i % 3 == 0);
    assert_int_equal(other.n, 3);
}

static void test_who_asks_too_much_forgets_his_own_oldest(void **state)
{
    struct ticket_list one = { 0 };
    struct ticket_list other = { 0 };
    struct ticket like = { 0 };
    uint64_t theirs = ticket_new(&tickets, &other, &like);
    uint64_t first = ticket_new(&tickets, &one, &like);
    uint64_t second = ticket_new(&tickets, &one, &like);
    (void)state;

    for (uint32_t i = 2; i < PEAL_ACKS_PER_SOCKET_MAX; i++)
        assert_true(ticket_new(&tickets, &one, &like) != 0);
    assert_non_null(ticket_find(&tickets, first));
    assert_true(ticket_new(&tickets, &one, &like) != 0);
    assert_null(ticket_find(&tickets, first));
    assert_non_null(ticket_find(&tickets, second));
    assert_non_null(ticket_find(&tickets, theirs));
    assert_int_equal(one.n, PEAL_ACKS_PER_SOCKET_MAX);
}

static void test_with_a_pool_that_is_used_up_the_own_oldest_makes_room(void **state)
{
    static struct ticket_list lists[TICKETS_MAX / PEAL_ACKS_PER_SOCKET_MAX];
    struct ticket_list late = { 0 };
    struct ticket like = { 0 };
    (void)state;

    for (uint32_t i = 0; i < TICKETS_MAX; i++)
        assert_true(
            ticket_new(&tickets, &lists[i % (TICKETS_MAX / PEAL_ACKS_PER_SOCKET_MAX)], &like) != 0);
    assert_true(ticket_new(&tickets, &late, &like) == 0); /* has none that could go */
    ticket_use(&tickets, &lists[0], &tickets.items[lists[0].oldest - 1]);
    assert_true(ticket_new(&tickets, &late, &like) != 0);
    assert_true(ticket_new(&tickets, &late, &like) != 0);
    assert_int_equal(late.n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_ticket_is_good_once),
        TEST(test_those_of_one_end_together),
        TEST(test_who_asks_too_much_forgets_his_own_oldest),
        TEST(test_with_a_pool_that_is_used_up_the_own_oldest_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
