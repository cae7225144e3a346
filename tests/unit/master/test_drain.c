/* test_drain.c: the drain's arithmetic (pace.c): rate, shares, and that nothing bursts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "master/pace.h"

static void test_auto_fits_everybody_into_four_fifths_of_the_time(void **state)
{
    (void)state;
    assert_int_equal(pace_auto(48000, 60000), 1000);
    assert_int_equal(pace_auto(48001, 60000), 1001); /* rounded up: the last one, too, is in time */
    assert_int_equal(pace_auto(0, 60000), PACE_AUTO_MIN);
    assert_int_equal(pace_auto(10, 60000), PACE_AUTO_MIN);
    assert_true(pace_auto(1000, 0) >= 1000);
}

static void test_each_full_second_hands_out_the_rate_however_ticks_fall(void **state)
{
    (void)state;
    srand(7);
    for (uint32_t rate = 1; rate < 100000; rate = rate * 3 + 1) {
        uint64_t now = 5000, second = 0, all = 0;
        struct pace p;

        pace_begin(&p, rate, now);
        for (uint64_t until = 6000; until <= 15000; until += 1000) {
            while (now < until) {
                now += 1 + (uint64_t)(rand() % 40);
                if (now > until)
                    now = until;
                second += pace_take(&p, now);
            }
            assert_int_equal(second, rate);
            all += second;
            second = 0;
        }
        assert_int_equal(all, (uint64_t)rate * 10);
    }
}

static void test_a_share_is_in_proportion_and_never_more_than_wanted(void **state)
{
    uint64_t wants[4] = { 100, 300, 0, 600 }, given[4];
    uint32_t turn = 0;

    (void)state;
    pace_share(10, wants, given, 4, &turn);
    assert_int_equal(given[0], 1);
    assert_int_equal(given[1], 3);
    assert_int_equal(given[2], 0);
    assert_int_equal(given[3], 6);
    pace_share(5000, wants, given, 4, &turn);
    assert_memory_equal(given, wants, sizeof wants);
}

static void test_shares_add_up_for_all_numbers(void **state)
{
    uint32_t turn = 0;

    (void)state;
    srand(11);
    for (int round = 0; round < 20000; round++) {
        uint32_t n = 1 + (uint32_t)(rand() % 62);
        uint64_t wants[62], given[62], all = 0, sum = 0, tokens = (uint64_t)(rand() % 200);

        for (uint32_t i = 0; i < n; i++)
            all += wants[i] = rand() % 3 == 0 ? 0 : (uint64_t)(rand() % (round % 2 ? 5 : 100000));
        pace_share(tokens, wants, given, n, &turn);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(given[i] <= wants[i]);
            sum += given[i];
        }
        assert_int_equal(sum, tokens < all ? tokens : all);
    }
}

static void test_the_odd_token_goes_round(void **state)
{
    uint64_t wants[3] = { 50, 50, 50 }, given[3], sum[3] = { 0 };
    uint32_t turn = 0;

    (void)state;
    for (int i = 0; i < 30; i++) {
        pace_share(1, wants, given, 3, &turn);
        for (int k = 0; k < 3; k++)
            sum[k] += given[k];
    }
    for (int k = 0; k < 3; k++)
        assert_int_equal(sum[k], 10);
}

static void test_tokens_that_nobody_could_use_do_not_come_back(void **state)
{
    uint64_t none[1] = { 0 }, many[1] = { 1000 }, given[1];
    uint32_t turn = 0;
    struct pace p;

    (void)state;
    pace_begin(&p, 500, 0);
    pace_share(pace_take(&p, 1000), none, given, 1, &turn);
    assert_int_equal(given[0], 0);
    pace_share(pace_take(&p, 1020), many, given, 1, &turn);
    assert_int_equal(given[0], 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_fits_everybody_into_four_fifths_of_the_time),
        cmocka_unit_test(test_each_full_second_hands_out_the_rate_however_ticks_fall),
        cmocka_unit_test(test_a_share_is_in_proportion_and_never_more_than_wanted),
        cmocka_unit_test(test_shares_add_up_for_all_numbers),
        cmocka_unit_test(test_the_odd_token_goes_round),
        cmocka_unit_test(test_tokens_that_nobody_could_use_do_not_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
