/* test_acks.c: an answer counts only from a socket that was asked, and once, and in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/acks.h"

static struct acks *acks;

static int setup(void **state)
{
    (void)state;
    acks = acks_new();
    return acks == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    acks_free(acks);
    return 0;
}

static void test_only_who_was_asked_answers_and_only_once(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 0, 100));
    assert_true(acks_open(acks, 2, 0, 100));
    for (uint32_t i = 100; i > 0; i--) /* any order, and more than the first block holds */
        acks_expect(acks, 1, i * 3, 7);
    acks_expect(acks, 2, 4, 7);
    assert_int_equal(acks_count(acks, 1), 100);
    assert_int_equal(acks_count(acks, 2), 1);
    assert_int_equal(acks_count(acks, 3), 0);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_false(acks_take(acks, 1, i * 3 + 1, 7)); /* never asked */
        assert_false(acks_take(acks, 1, i * 3, 8));     /* another one in that slot */
        assert_true(acks_take(acks, 1, i * 3, 7));
        assert_false(acks_take(acks, 1, i * 3, 7)); /* again */
    }
    assert_false(acks_take(acks, 1, 4, 7)); /* it was asked by the other one */
    assert_true(acks_take(acks, 2, 4, 7));
    assert_false(acks_take(acks, 3, 4, 7));
}

static void test_an_id_that_waits_is_not_opened_again(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 0, 100));
    assert_false(acks_open(acks, 1, 0, 100));
    acks_expire(acks, 100);
    assert_true(acks_open(acks, 1, 100, 100));
}

static void test_answers_after_the_timeout_are_not_taken(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 50, 100));
    assert_true(acks_open(acks, 2, 50, 200));
    assert_true(acks_open(acks, 3, 50, 100));
    for (uint64_t id = 1; id <= 3; id++)
        acks_expect(acks, id, 5, 1);
    acks_expire(acks, 149);
    assert_int_equal(acks_count(acks, 1), 1);
    acks_expire(acks, 150);
    assert_false(acks_take(acks, 1, 5, 1));
    assert_true(acks_take(acks, 2, 5, 1));
    assert_false(acks_take(acks, 3, 5, 1));
}

static void test_no_timeout_is_the_longest_one(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 10, 0));
    assert_true(acks_open(acks, 2, 10, UINT32_MAX));
    acks_expect(acks, 1, 5, 1);
    acks_expect(acks, 2, 5, 1);
    acks_expire(acks, 10 + ACKS_TIMEOUT_MAX_MS - 1);
    assert_int_equal(acks_count(acks, 1) + acks_count(acks, 2), 2);
    acks_expire(acks, 10 + ACKS_TIMEOUT_MAX_MS);
    assert_int_equal(acks_count(acks, 1) + acks_count(acks, 2), 0);
}

static void test_the_number_of_those_asked_is_bounded_over_all(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 0, 100));
    assert_true(acks_open(acks, 2, 0, 500));
    acks_expect(acks, 2, 1, 1);
    for (uint32_t i = 0; i < ACKS_EXPECTED_MAX + 10; i++)
        acks_expect(acks, 1, i, 1);
    assert_int_equal(acks_count(acks, 1), ACKS_EXPECTED_MAX - 1);
    acks_expect(acks, 2, 2, 1);
    assert_int_equal(acks_count(acks, 2), 1);
    assert_false(acks_open(acks, 3, 0, 100));
    acks_expire(acks, 100); /* makes room */
    assert_true(acks_open(acks, 3, 100, 100));
    acks_expect(acks, 2, 2, 1);
    assert_int_equal(acks_count(acks, 2), 2);
}

static void test_who_answers_while_others_are_still_being_asked_counts(void **state)
{
    (void)state;
    assert_true(acks_open(acks, 1, 0, 100));
    for (uint32_t i = 200; i > 100; i--) /* a large sweep goes by slices */
        acks_expect(acks, 1, i, 7);
    assert_true(acks_take(acks, 1, 150, 7));
    for (uint32_t i = 100; i > 0; i--)
        acks_expect(acks, 1, i, 7);
    assert_int_equal(acks_count(acks, 1), 200);
    assert_false(acks_take(acks, 1, 150, 7));
    for (uint32_t i = 1; i <= 200; i++)
        if (i != 150)
            assert_true(acks_take(acks, 1, i, 7));
}

static void test_it_is_forgotten_when_all_have_answered_and_nobody_else_is_asked(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 3; id++)
        assert_true(acks_open(acks, id, 0, 100));
    acks_asked(acks, 1); /* nobody was there */
    assert_true(acks_open(acks, 1, 0, 100));
    acks_expect(acks, 2, 5, 1);
    acks_expect(acks, 2, 6, 1);
    assert_true(acks_take(acks, 2, 5, 1));
    acks_asked(acks, 2);
    assert_int_equal(acks_count(acks, 2), 2);
    assert_true(acks_take(acks, 2, 6, 1));
    assert_int_equal(acks_count(acks, 2), 0);
    acks_expect(acks, 3, 5, 1);
    assert_true(acks_take(acks, 3, 5, 1)); /* all so far, but others may be to come */
    acks_expect(acks, 3, 6, 1);
    acks_asked(acks, 3);
    assert_true(acks_take(acks, 3, 6, 1));
    acks_asked(acks, 9); /* unknown */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_only_who_was_asked_answers_and_only_once),
        TEST(test_an_id_that_waits_is_not_opened_again),
        TEST(test_answers_after_the_timeout_are_not_taken),
        TEST(test_no_timeout_is_the_longest_one),
        TEST(test_the_number_of_those_asked_is_bounded_over_all),
        TEST(test_who_answers_while_others_are_still_being_asked_counts),
        TEST(test_it_is_forgotten_when_all_have_answered_and_nobody_else_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
