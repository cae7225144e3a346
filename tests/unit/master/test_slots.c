/* test_slots.c: what decides about processes and limits, by numbers: back-off, watchdog, limits, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/backoff.h"
#include "master/host_limits.h"
#include "master/memory_bound.h"
#include "master/stall.h"

static void test_five_deaths_are_free_and_then_the_delay_doubles_to_its_end(void **state)
{
    static const uint32_t delays[] = { 0, 0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000 };
    struct backoff b = { 0 };
    uint64_t now = 100000;

    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        uint32_t delay = backoff_death(&b, now);

        assert_int_equal(delay, delays[i]);
        now += delay + 10;
    }
}

static void test_deaths_a_minute_apart_stay_free(void **state)
{
    struct backoff b = { 0 };

    (void)state;
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(backoff_death(&b, 1000 + i * 12001), 0); /* five in any 60 s */
    for (int i = 0; i < 10; i++)
        (void)backoff_death(&b, 1000000);
    assert_int_equal(backoff_death(&b, 1000000 + BACKOFF_WINDOW_MS), 0); /* quiet makes good */
}

static void test_the_idle_may_sleep_while_nobody_waits(void **state)
{
    struct stall s = { 0 };
    struct stall_sight sight = { .progress = 7, .is_floor = true };

    (void)state;
    for (uint64_t now = 1000; now < 100000; now += 250)
        assert_int_equal(stall_look(&s, &sight, now), STALL_NOT);
    sight.wait_from_ms = 100000; /* somebody begins to wait: only from here on it counts */
    assert_int_equal(stall_look(&s, &sight, 101999), STALL_NOT);
    assert_int_equal(stall_look(&s, &sight, 102000), STALL_GATES);
}

static void test_progress_and_not_being_last_are_excuses(void **state)
{
    struct stall s = { 0 };
    struct stall_sight sight = { .is_floor = true, .wait_from_ms = 1000 };

    (void)state;
    for (uint64_t now = 1000; now < 60000; now += 250) {
        sight.progress += now % 1000 == 0; /* once a second: a long sweep */
        assert_int_equal(stall_look(&s, &sight, now), STALL_NOT);
    }
    sight.is_floor = false;
    assert_int_equal(stall_look(&s, &sight, 99000), STALL_NOT);
    sight.is_floor = true;
    assert_int_equal(stall_look(&s, &sight, 99001), STALL_GATES);
}

static void test_who_is_stopped_is_stalled_whoever_waits(void **state)
{
    struct stall s = { 0 };
    struct stall_sight sight = { .is_stopped = true };

    (void)state;
    assert_int_equal(stall_look(&s, &sight, 5000), STALL_NOT);
    assert_int_equal(stall_look(&s, &sight, 6999), STALL_NOT);
    assert_int_equal(stall_look(&s, &sight, 7000), STALL_STOPPED);
    sight.is_stopped = false;
    assert_int_equal(stall_look(&s, &sight, 7001), STALL_NOT);
    sight.is_stopped = true; /* anew */
    assert_int_equal(stall_look(&s, &sight, 7100), STALL_NOT);
}

static struct config some_config(uint32_t workers, uint32_t host, uint32_t per_worker)
{
    static struct config c;

    config_defaults(&c);
    c.workers = workers;
    c.max_connections = host;
    c.max_connections_per_worker = per_worker;
    c.max_pending = 1000;
    return c;
}

static void test_limits_that_are_left_open_are_what_the_host_allows(void **state)
{
    struct config c = some_config(4, 0, 0);
    char why[256] = "";

    (void)state;
    assert_true(host_limits_apply(&c, 20000, why, sizeof why));
    assert_int_equal(c.max_connections_per_worker, 20000 - HOST_FD_KEPT - 1000);
    assert_int_equal(c.max_connections, 4 * c.max_connections_per_worker);
    assert_int_equal(c.max_pending, 1000);
}

static void test_limits_within_the_host_s_are_left_alone(void **state)
{
    struct config c = some_config(4, 130, 50);
    char why[256] = "";

    (void)state;
    assert_true(host_limits_apply(&c, 20000, why, sizeof why));
    assert_int_equal(c.max_connections_per_worker, 50);
    assert_int_equal(c.max_connections, 130);
}

static void test_a_limit_beyond_is_refused_by_name_and_changes_nothing(void **state)
{
    struct config c = some_config(4, 0, 20000);
    char why[512] = "";

    (void)state;
    assert_false(host_limits_apply(&c, 20000, why, sizeof why));
    assert_non_null(strstr(why, "max_connections_per_worker = 20000: this host allows 18806"));
    assert_non_null(strstr(why, "RLIMIT_NOFILE is 20000"));
    assert_int_equal(c.max_connections, 0);
    c = some_config(4, 90000, 0);
    assert_false(host_limits_apply(&c, 20000, why, sizeof why));
    assert_non_null(strstr(why, "max_connections = 90000: this host allows 75224"));
    assert_false(host_limits_apply(&c, 100, why, sizeof why));
    assert_non_null(strstr(why, "RLIMIT_NOFILE = 100"));
}

static void test_few_descriptors_are_shared_with_the_pending(void **state)
{
    struct config c = some_config(1, 0, 0);
    char why[256] = "";

    (void)state;
    assert_true(host_limits_apply(&c, 1024, why, sizeof why));
    assert_int_equal(c.max_pending, (1024 - HOST_FD_KEPT) / 2);
    assert_int_equal(c.max_pending + c.max_connections + HOST_FD_KEPT, 1024);
}

static void test_the_bound_is_the_sum_of_its_terms(void **state)
{
    struct config c = some_config(2, 1000, 500);
    const uint64_t region[2] = { 100u << 20, 80u << 20 };
    struct memory_bound b, more;

    (void)state;
    c.ring_bytes = 64u << 20;
    c.outq_bytes_total = 5;
    c.inbound_bytes_total = 7;
    memory_bound_sum(&b, &c, region);
    assert_int_equal(b.ring + b.commits + b.tables, b.region);
    assert_int_equal(b.commits, 8u << 20);
    assert_int_equal(b.total, b.region + b.receive + 5 + 7 + b.workers + b.connections_user +
                                  b.connections_kernel);
    c.max_connections += 10;
    memory_bound_sum(&more, &c, region);
    assert_int_equal(more.total - b.total,
                     10 * (MEMORY_CONNECTION_USER + MEMORY_CONNECTION_KERNEL));
    assert_int_equal(more.bridge, 0);
    c.redis.enabled = true;
    c.redis_buffer_bytes = 9;
    memory_bound_sum(&b, &c, region);
    assert_true(b.bridge > LINK_REPLY_MAX);
    assert_int_equal(b.total - more.total, b.bridge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_five_deaths_are_free_and_then_the_delay_doubles_to_its_end),
        cmocka_unit_test(test_deaths_a_minute_apart_stay_free),
        cmocka_unit_test(test_the_idle_may_sleep_while_nobody_waits),
        cmocka_unit_test(test_progress_and_not_being_last_are_excuses),
        cmocka_unit_test(test_who_is_stopped_is_stalled_whoever_waits),
        cmocka_unit_test(test_limits_that_are_left_open_are_what_the_host_allows),
        cmocka_unit_test(test_limits_within_the_host_s_are_left_alone),
        cmocka_unit_test(test_a_limit_beyond_is_refused_by_name_and_changes_nothing),
        cmocka_unit_test(test_few_descriptors_are_shared_with_the_pending),
        cmocka_unit_test(test_the_bound_is_the_sum_of_its_terms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
