/* test_place.c: who gets a connection, by numbers alone; and the accept rate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/place.h"

static void test_a_place_is_counted_once_on_its_whole_way(void **state)
{
    (void)state;
    assert_int_equal(place_used(0, 0), 0);
    assert_int_equal(place_used(0, 3), 3);              /* given, not settled */
    assert_int_equal(place_used(1ull << 32 | 1, 3), 3); /* one became a client: no change */
    assert_int_equal(place_used(2ull << 32 | 1, 3), 2); /* one was none */
    assert_int_equal(place_used(3ull << 32 | 1, 3), 1);
    assert_int_equal(place_used(3ull << 32, 3), 0);               /* and ended */
    assert_int_equal(place_used(0xfffffffeull << 32 | 7, 1), 10); /* the counts wrap */
}

static void test_the_most_room_wins_whatever_the_turn(void **state)
{
    struct place_worker w[3] = { { true, false, 5, 10 },
                                 { true, false, 2, 10 },
                                 { true, false, 3, 9 } };

    (void)state;
    for (uint32_t turn = 0; turn < 7; turn++) {
        uint32_t t = turn;
        struct place_choice c = place_choose(w, 3, 0, &t);

        assert_int_equal(c.verdict, PLACE_GIVEN);
        assert_int_equal(c.slot, 1);
    }
}

static void test_equals_take_turns(void **state)
{
    struct place_worker w[3] = { { true, false, 0, 4 },
                                 { true, false, 0, 4 },
                                 { true, false, 0, 4 } };
    uint32_t turn = 0, n[3] = { 0 };

    (void)state;
    for (int i = 0; i < 9; i++) { /* each is settled and gone before the next comes */
        struct place_choice c = place_choose(w, 3, 0, &turn);

        n[c.slot]++;
    }
    assert_int_equal(n[0], 3);
    assert_int_equal(n[1], 3);
    assert_int_equal(n[2], 3);
}

static void test_limits_are_reached_exactly_and_reasons_told_apart(void **state)
{
    struct place_worker w[2] = { { true, false, 0, 3 }, { true, false, 0, 5 } };
    struct place_choice c;
    uint32_t turn = 0;

    (void)state;
    for (int i = 0; i < 8; i++) {
        c = place_choose(w, 2, 9, &turn);
        assert_int_equal(c.verdict, PLACE_GIVEN);
        w[c.slot].used++;
        assert_true(w[c.slot].used <= w[c.slot].limit);
    }
    c = place_choose(w, 2, 9, &turn);
    assert_int_equal(c.verdict, PLACE_REFUSED);
    assert_int_equal(c.refusal, REFUSE_WORKER_LIMIT);
    w[0].used--;
    assert_int_equal(place_choose(w, 2, 9, &turn).slot, 0);
    c = place_choose(w, 2, 7, &turn);
    assert_int_equal(c.verdict, PLACE_REFUSED);
    assert_int_equal(c.refusal, REFUSE_HOST_LIMIT);
    w[0].used--;
    assert_int_equal(place_choose(w, 2, 7, &turn).verdict, PLACE_GIVEN);
}

static void test_the_dead_get_nothing_and_still_count(void **state)
{
    struct place_worker w[2] = { { false, false, 4, 100 }, { true, false, 5, 10 } };
    uint32_t turn = 0;

    (void)state;
    assert_int_equal(place_choose(w, 2, 0, &turn).slot, 1);
    assert_int_equal(place_choose(w, 2, 9, &turn).refusal, REFUSE_HOST_LIMIT);
    w[1].is_live = false;
    assert_int_equal(place_choose(w, 2, 0, &turn).verdict, PLACE_WAIT);
}

static void test_nobody_is_refused_while_the_room_is_behind_a_full_inbox(void **state)
{
    struct place_worker w[2] = { { true, true, 0, 10 }, { true, false, 10, 10 } };
    uint32_t turn = 0;

    (void)state;
    assert_int_equal(place_choose(w, 2, 0, &turn).verdict, PLACE_WAIT);
    w[0].used = 10;
    assert_int_equal(place_choose(w, 2, 0, &turn).verdict, PLACE_REFUSED);
    assert_int_equal(place_choose(w, 2, 0, &turn).slot, 1); /* refusals avoid full inboxes, too */
    w[1].is_stuck = true;
    assert_int_equal(place_choose(w, 2, 0, &turn).verdict, PLACE_WAIT);
}

static void test_no_limit_means_the_fewest(void **state)
{
    struct place_worker w[2] = { { true, false, 7, 0 }, { true, false, 6, 0 } };
    uint32_t turn = 0;

    (void)state;
    assert_int_equal(place_choose(w, 2, 0, &turn).slot, 1);
}

static void test_what_needs_no_place_goes_round(void **state)
{
    struct place_worker w[3] = { { true, false, 9, 9 },
                                 { false, false, 0, 9 },
                                 { true, false, 9, 9 } };
    uint32_t turn = 0;

    (void)state;
    assert_int_equal(place_anywhere(w, 3, REFUSE_NOT, &turn).slot, 0);
    assert_int_equal(place_anywhere(w, 3, REFUSE_NOT, &turn).slot, 2);
    assert_int_equal(place_anywhere(w, 3, REFUSE_NOT, &turn).slot, 0);
}

static void test_the_rate_lets_one_second_s_worth_in_and_then_its_pace(void **state)
{
    struct place_rate r;
    int n = 0;

    (void)state;
    place_rate_init(&r, 10, 1000);
    while (place_rate_take(&r, 1000))
        n++;
    assert_int_equal(n, 10);
    assert_false(place_rate_take(&r, 1099));
    assert_true(place_rate_take(&r, 1100));
    assert_false(place_rate_take(&r, 1100));
    for (n = 0; place_rate_take(&r, 1000000); n++)
        ;
    assert_int_equal(n, 10); /* a long silence saves up no more than a second */
    for (n = 0, r.tokens_milli = 0; n < 1000;
         n++) { /* asked each millisecond: no rounding is lost */
        if (place_rate_take(&r, 1000001 + (uint64_t)n))
            assert_int_equal((n + 1) % 100, 0);
    }
    place_rate_init(&r, 0, 0);
    for (n = 0; n < 100000; n++)
        assert_true(place_rate_take(&r, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_place_is_counted_once_on_its_whole_way),
        cmocka_unit_test(test_the_most_room_wins_whatever_the_turn),
        cmocka_unit_test(test_equals_take_turns),
        cmocka_unit_test(test_limits_are_reached_exactly_and_reasons_told_apart),
        cmocka_unit_test(test_the_dead_get_nothing_and_still_count),
        cmocka_unit_test(test_nobody_is_refused_while_the_room_is_behind_a_full_inbox),
        cmocka_unit_test(test_no_limit_means_the_fewest),
        cmocka_unit_test(test_what_needs_no_place_goes_round),
        cmocka_unit_test(test_the_rate_lets_one_second_s_worth_in_and_then_its_pace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
