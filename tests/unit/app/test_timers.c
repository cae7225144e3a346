/* test_timers.c: never early, once or again and again; a handle that is over does nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/host.h"

static struct timers timers;
static struct app app;

static int setup(void **state)
{
    (void)state;
    return timers_init(&timers, 1000) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    timers_destroy(&timers);
    return 0;
}

static void nothing(struct peal_host *host, void *context)
{
    (void)host;
    (void)context;
}

/* How many are due; the last one in `out`. */
static uint32_t due(uint64_t now_ms, struct timer *out)
{
    uint32_t budget = 100000;
    uint32_t n = 0;

    while (timers_due(&timers, now_ms, &budget, out))
        n++;
    return n;
}

static void test_once_and_never_early(void **state)
{
    struct timer t;
    int context = 0;
    (void)state;

    assert_int_equal(timers_next_ms(&timers, 1000), WHEEL_NONE);
    assert_true(timer_new(&timers, &app, 1500, 0, nothing, &context) != 0);
    assert_true(timers_next_ms(&timers, 1000) <= 500 + WHEEL_TICK_MS);
    for (uint64_t now = 1000; now < 1500; now += 10)
        assert_int_equal(due(now, &t), 0);
    assert_int_equal(due(1500 + WHEEL_TICK_MS, &t), 1);
    assert_ptr_equal(t.context, &context);
    assert_ptr_equal(t.app, &app);
    assert_int_equal(due(100000, &t), 0);
    assert_int_equal(timers.n_apps, 0);
}

static void test_again_and_again_until_it_is_cancelled(void **state)
{
    struct timer t;
    peal_timer timer = timer_new(&timers, &app, 1100, 200, nothing, NULL);
    uint32_t n = 0;
    (void)state;

    for (uint64_t now = 1000; now < 11000; now += 50)
        n += due(now, &t);
    assert_in_range(n, 25, 50); /* late by a tick each time */
    timer_cancel(&timers, timer);
    timer_cancel(&timers, timer);
    assert_int_equal(due(100000, &t), 0);
    assert_int_equal(timers.n_apps, 0);
}

static void test_a_handle_that_is_over_cancels_nobody_else(void **state)
{
    struct timer t;
    peal_timer first = timer_new(&timers, &app, 1100, 0, nothing, NULL);
    peal_timer second;
    (void)state;

    assert_int_equal(due(2000, &t), 1);
    second = timer_new(&timers, &app, 3000, 0, nothing, NULL); /* in its place */
    assert_int_equal((uint32_t)first, (uint32_t)second);
    timer_cancel(&timers, first);
    timer_cancel(&timers, 0);
    timer_cancel(&timers, UINT64_MAX);
    assert_int_equal(due(4000, &t), 1);
}

static void test_applications_have_a_bound_and_the_rest_of_us_room_beside_it(void **state)
{
    struct timer t;
    (void)state;

    for (uint32_t i = 0; i < PEAL_TIMERS_MAX; i++)
        assert_true(timer_new(&timers, &app, 2000, 0, nothing, NULL) != 0);
    assert_true(timer_new(&timers, &app, 2000, 0, nothing, NULL) == 0);
    for (uint32_t i = 0; i < TIMERS_ALL - PEAL_TIMERS_MAX; i++)
        assert_true(timer_new(&timers, NULL, 2000, 0, nothing, NULL) != 0);
    assert_int_equal(due(3000, &t), TIMERS_ALL);
    assert_true(timer_new(&timers, &app, 2000, 0, nothing, NULL) != 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_once_and_never_early),
        TEST(test_again_and_again_until_it_is_cancelled),
        TEST(test_a_handle_that_is_over_cancels_nobody_else),
        TEST(test_applications_have_a_bound_and_the_rest_of_us_room_beside_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
