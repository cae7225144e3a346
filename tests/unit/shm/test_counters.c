/* test_counters.c: counts survive their process, once; gauges do not. */
#include "lib/shm_fixture.h"
#include "shm/counters.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct shm_fixture fixture;

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 3, 1u << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shm_fixture_destroy(&fixture);
    return 0;
}

static void test_every_close_reason_has_its_own_name(void **state)
{
    (void)state;
    for (int a = 0; a < CLOSE_REASONS; a++) {
        const char *name = close_reason_name((enum close_reason)a);

        assert_non_null(name);
        assert_true(name[strspn(name, "abcdefghijklmnopqrstuvwxyz_")] == 0);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(name, close_reason_name((enum close_reason)b));
    }
}

static void test_a_time_falls_into_the_bucket_of_its_upper_bound(void **state)
{
    struct shm_counters *row = &fixture.master.counters[0];
    struct shm_histogram *h = &row->histograms[HISTOGRAM_LOOP];

    (void)state;
    histogram_add(row, HISTOGRAM_LOOP, 0);
    histogram_add(row, HISTOGRAM_LOOP, 10);
    assert_int_equal(h->buckets[0], 2);
    histogram_add(row, HISTOGRAM_LOOP, 11);
    histogram_add(row, HISTOGRAM_LOOP, 20);
    assert_int_equal(h->buckets[1], 2);
    histogram_add(row, HISTOGRAM_LOOP, 10ull << 22);
    assert_int_equal(h->buckets[22], 1);
    histogram_add(row, HISTOGRAM_LOOP, (10ull << 22) + 1);
    histogram_add(row, HISTOGRAM_LOOP, 1ull << 60);
    assert_int_equal(h->buckets[HISTOGRAM_BUCKETS - 1], 2);
    assert_true(h->sum_us == 41 + 2 * (10ull << 22) + 1 + (1ull << 60));
}

static void test_folding_keeps_every_sum(void **state)
{
    struct shm_counters *row = &fixture.master.counters[1];
    struct counters_sum before, after;

    (void)state;
    for (uint32_t i = 0; i < COUNTERS; i++) {
        count_add(row, (enum counter)i, 100 + i);
        count_add(&fixture.master.counters[2], (enum counter)i, 1);
    }
    histogram_add(row, HISTOGRAM_BROADCAST, 300);
    counters_read(&fixture.master, &before);
    counters_fold(&fixture.master, 1);
    counters_read(&fixture.master, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(after.counters[COUNT_SENDS], 101 + COUNT_SENDS);
    assert_int_equal(row->counters[COUNT_SENDS], 0);
    counters_fold(&fixture.master, 1); /* the successor did nothing yet */
    counters_read(&fixture.master, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

static void test_clients_of_a_dead_worker_are_closed_by_its_death(void **state)
{
    struct shm_counters *row = &fixture.master.counters[0];
    struct counters_sum sum;
    uint64_t closed = 0;

    (void)state;
    count_add(row, COUNT_ACCEPTED, 10);
    count_add(row, (enum counter)(COUNT_CLOSE_FIRST + CLOSE_PING_TIMEOUT), 3);
    counters_fold(&fixture.master, 0);
    counters_read(&fixture.master, &sum);
    assert_int_equal(sum.counters[COUNT_CLOSE_FIRST + CLOSE_WORKER_DIED], 7);
    for (uint32_t i = COUNT_CLOSE_FIRST; i <= COUNT_CLOSE_LAST; i++)
        closed += sum.counters[i];
    assert_int_equal(sum.counters[COUNT_ACCEPTED], closed);
}

static void test_more_closed_than_accepted_is_no_huge_number(void **state)
{
    struct shm_counters *row = &fixture.master.counters[0];
    struct counters_sum sum;

    (void)state;
    count_add(row, (enum counter)(COUNT_CLOSE_FIRST + CLOSE_DRAIN), 2);
    counters_fold(&fixture.master, 0);
    counters_read(&fixture.master, &sum);
    assert_int_equal(sum.counters[COUNT_CLOSE_FIRST + CLOSE_WORKER_DIED], 0);
}

static void test_gauges_die_with_their_process(void **state)
{
    struct shm_counters *row = &fixture.master.counters[2];

    (void)state;
    gauge_set(row, GAUGE_ROOMS, 5);
    row->sockets[3] = 7;
    row->sockets[NAMESPACES_MAX - 1] = 1;
    counters_fold(&fixture.master, 2);
    assert_int_equal(row->gauges[GAUGE_ROOMS], 0);
    assert_int_equal(row->sockets[3], 0);
    assert_int_equal(row->sockets[NAMESPACES_MAX - 1], 0);
}

static void test_a_reader_gives_up_on_a_fold_that_never_ends(void **state)
{
    struct counters_sum sum;

    (void)state;
    count_add(&fixture.master.counters[0], COUNT_SENDS, 9);
    fixture.master.counters[TOTALS_ROW].folding = 1;
    counters_read(&fixture.master, &sum);
    assert_int_equal(sum.counters[COUNT_SENDS], 9);
}

static void *fold_again_and_again(void *unused)
{
    (void)unused;
    for (int i = 0; i < 300; i++) {
        for (uint32_t slot = 0; slot < 3; slot++)
            counters_fold(&fixture.master, slot);
        count_add(&fixture.master.counters[0], COUNT_RING_RECORDS, 1);
    }
    return NULL;
}

static void test_a_reader_beside_a_fold_sees_no_count_twice_or_missing(void **state)
{
    struct counters_sum sum;
    uint64_t records = 0;
    pthread_t thread;

    (void)state;
    for (uint32_t slot = 0; slot < 3; slot++)
        count_add(&fixture.master.counters[slot], COUNT_DELIVERIES, 1000);
    assert_int_equal(pthread_create(&thread, NULL, fold_again_and_again, NULL), 0);
    do {
        counters_read(&fixture.master, &sum);
        assert_int_equal(sum.counters[COUNT_DELIVERIES], 3000);
        assert_true(sum.counters[COUNT_RING_RECORDS] >= records); /* never goes back */
        records = sum.counters[COUNT_RING_RECORDS];
    } while (records < 300);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_close_reason_has_its_own_name),
        cmocka_unit_test_setup_teardown(test_a_time_falls_into_the_bucket_of_its_upper_bound, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_folding_keeps_every_sum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clients_of_a_dead_worker_are_closed_by_its_death,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_closed_than_accepted_is_no_huge_number, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_gauges_die_with_their_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_gives_up_on_a_fold_that_never_ends, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_beside_a_fold_sees_no_count_twice_or_missing,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
