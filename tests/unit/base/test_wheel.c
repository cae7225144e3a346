/* test_wheel.c: the timer wheel against a model that keeps every deadline in a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/wheel.c"

#define N 300u

struct item {
    char other[20];
    struct wheel_node node;
    uint32_t more;
};

static uint64_t seed;

static uint32_t dice(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % n;
}

static void wheel_of(struct wheel *w, struct item *items, uint32_t n, uint64_t now)
{
    memset(items, 0, n * sizeof *items);
    wheel_init(w, items, sizeof *items, offsetof(struct item, node), n, now);
    wheel_check(w);
}

static void test_a_node_fires_not_early_and_at_most_a_tick_late(void **state)
{
    static struct item items[1];
    struct wheel w;
    (void)state;

    for (uint64_t start = 1000; start < 1300; start += 13) {
        for (uint64_t delay = 0; delay < 70000; delay += 997) {
            uint64_t now = start;
            uint32_t budget = 100000;

            wheel_of(&w, items, 1, start);
            wheel_arm(&w, 0, start + delay);
            for (; wheel_expire(&w, now, &budget) == WHEEL_NONE; now++)
                wheel_check(&w);
            assert_true(now >= start + delay);
            assert_true(now < start + delay + WHEEL_TICK_MS);
            assert_false(wheel_is_armed(&w, 0));
            start++;
            if (delay > 2000)
                delay += 9000; /* walked millisecond by millisecond: a few long ones do */
        }
    }
}

static void test_next_ms_never_sleeps_past_a_deadline_and_gets_there(void **state)
{
    static struct item items[1];
    struct wheel w;
    (void)state;

    for (uint64_t delay = 0; delay < 400000; delay += 1009) {
        uint64_t start = 77777 + delay * 3, now = start;
        uint32_t budget = 1000, wakes = 0;

        wheel_of(&w, items, 1, start);
        assert_int_equal(wheel_next_ms(&w, now), WHEEL_NONE);
        wheel_arm(&w, 0, start + delay);
        while (wheel_expire(&w, now, &budget) == WHEEL_NONE) {
            uint32_t sleep = wheel_next_ms(&w, now);

            assert_int_not_equal(sleep, WHEEL_NONE);
            assert_true(now + sleep < start + delay + WHEEL_TICK_MS);
            assert_true(sleep > 0);
            now += sleep;
            wakes++;
        }
        assert_true(now >= start + delay);
        assert_true(wakes <= 2 + delay / 65536);
    }
}

static void test_24000_deadlines_in_one_tick_come_in_budgeted_pieces(void **state)
{
    enum { MANY = 24000 };
    struct item *items = calloc(MANY, sizeof *items);
    uint32_t fired = 0, calls = 0, index;
    struct wheel w;
    (void)state;

    assert_non_null(items);
    wheel_of(&w, items, MANY, 5000);
    for (uint32_t i = 0; i < MANY; i++)
        wheel_arm(&w, i,
                  i % 2 == 0 ? 30000
                             : 30000 + WHEEL_SLOTS *
                                           WHEEL_TICK_MS); /* the odd ones: same slot, next round */
    wheel_check(&w);
    do {
        uint32_t budget = 500, got = 0;

        while ((index = wheel_expire(&w, 30200, &budget)) != WHEEL_NONE) {
            assert_int_equal(index % 2, 0);
            got++;
        }
        assert_true(got <= 500);
        fired += got;
        calls++;
        if (budget == 0 && calls % 7 == 0)
            wheel_check(&w);
        if (budget == 0 && calls * 500 < MANY)
            assert_int_equal(wheel_next_ms(&w, 30200), 0);
        else if (budget != 0)
            break;
    } while (calls < 1000);
    assert_int_equal(fired, MANY / 2);
    assert_int_equal(calls, MANY / 500 + 1);
    assert_int_equal(w.n_armed, MANY / 2);
    wheel_check(&w);
    for (uint32_t budget = MANY;
         (index = wheel_expire(&w, 30200 + WHEEL_SLOTS * WHEEL_TICK_MS, &budget)) != WHEEL_NONE;)
        assert_int_equal(index % 2, 1);
    assert_int_equal(w.n_armed, 0);
    free(items);
}

static void test_a_deadline_that_has_passed_fires_at_once(void **state)
{
    static struct item items[2];
    uint32_t budget = 10;
    struct wheel w;
    (void)state;

    wheel_of(&w, items, 2, 1000000);
    assert_int_equal(wheel_expire(&w, 1000000, &budget), WHEEL_NONE);
    wheel_arm(&w, 1, 12);
    wheel_check(&w);
    assert_true(wheel_next_ms(&w, 1000000) <= WHEEL_TICK_MS);
    assert_int_equal(wheel_expire(&w, 1000000 + WHEEL_TICK_MS, &budget), 1);
}

static void test_a_clock_jump_of_a_day_costs_one_round(void **state)
{
    static struct item items[N];
    uint32_t budget = 2 * N, fired = 0, index;
    uint64_t now = 1000;
    struct wheel w;
    (void)state;

    wheel_of(&w, items, N, now);
    for (uint32_t i = 0; i < N; i++)
        wheel_arm(&w, i, now + i * 991u);
    now += 86400000;
    wheel_arm(&w, 7, now + 5000);
    while ((index = wheel_expire(&w, now, &budget)) != WHEEL_NONE) {
        assert_int_not_equal(index, 7);
        fired++;
    }
    assert_int_equal(fired, N - 1);
    assert_true(wheel_is_armed(&w, 7));
    wheel_check(&w);
}

/* Random arm, re-arm, cancel and expire, also between the pieces of one budgeted expiry and over
 * several rounds. */
static void random_walk(uint64_t s)
{
    static struct item items[N];
    static uint64_t due[N]; /* 0 = not armed */
    uint64_t now = 1 + dice(1000000);
    struct wheel w;

    seed = s * 0x9e3779b97f4a7c15ull + 1;
    memset(due, 0, sizeof due);
    wheel_of(&w, items, N, now);
    for (uint32_t step = 0; step < 3000; step++) {
        uint32_t i = dice(N), what = dice(10);

        if (what < 5) {
            uint64_t span = dice(4) == 0 ? 300000 : dice(2) == 0 ? 2000 : 66000;

            due[i] = now + dice((uint32_t)span);
            wheel_arm(&w, i, due[i]);
        } else if (what < 7) {
            due[i] = 0;
            wheel_cancel(&w, i);
        } else {
            uint32_t budget = dice(20) == 0 ? 100000 : dice(12), index;

            now += dice(8) == 0 ? dice(200000) : dice(400);
            while ((index = wheel_expire(&w, now, &budget)) != WHEEL_NONE) {
                assert_int_not_equal(due[index], 0);
                assert_true(due[index] <= now);
                due[index] = 0;
            }
            if (budget > 0) { /* all that is more than a tick old must have fired */
                for (uint32_t k = 0; k < N; k++)
                    assert_true(due[k] == 0 || due[k] + WHEEL_TICK_MS > now);
                uint32_t sleep = wheel_next_ms(&w, now);

                for (uint32_t k = 0; k < N; k++)
                    assert_true(due[k] == 0 ||
                                (sleep != WHEEL_NONE && now + sleep < due[k] + 2 * WHEEL_TICK_MS));
            }
        }
        for (uint32_t k = 0; k < N; k += 1 + dice(3))
            assert_int_equal(wheel_is_armed(&w, k), due[k] != 0);
        wheel_check(&w);
    }
}

static void test_random_operations_agree_with_a_plain_array(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= 30; s++) {
        seed = s;
        random_walk(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_node_fires_not_early_and_at_most_a_tick_late),
        cmocka_unit_test(test_next_ms_never_sleeps_past_a_deadline_and_gets_there),
        cmocka_unit_test(test_24000_deadlines_in_one_tick_come_in_budgeted_pieces),
        cmocka_unit_test(test_a_deadline_that_has_passed_fires_at_once),
        cmocka_unit_test(test_a_clock_jump_of_a_day_costs_one_round),
        cmocka_unit_test(test_random_operations_agree_with_a_plain_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
