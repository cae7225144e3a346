/* test_directory.c: bits follow counts, and a dead worker's column goes as a whole. */
#include "lib/shm_fixture.h"
#include "shm/directory.h"

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

static void test_the_bit_is_there_from_the_first_member_to_the_last(void **state)
{
    struct directory *one = directory_new(&fixture.views[1]);
    struct directory *two = directory_new(&fixture.views[2]);

    (void)state;
    assert_non_null(one);
    assert_non_null(two);
    assert_int_equal(directory_members(&fixture.master, 7), 0);
    directory_enter(one, 7);
    directory_enter(one, 7);
    directory_enter(two, 7);
    assert_int_equal(directory_members(&fixture.master, 7), 1u << 1 | 1u << 2);
    assert_int_equal(directory_members(&fixture.master, 8), 0);
    assert_true(directory_mine(one, 7));
    assert_true(directory_mine(two, 7));
    assert_false(directory_mine(one, 8));
    directory_leave(one, 7);
    assert_true(directory_mine(one, 7));
    assert_int_equal(directory_members(&fixture.master, 7), 1u << 1 | 1u << 2);
    directory_leave(one, 7);
    assert_int_equal(directory_members(&fixture.master, 7), 1u << 2);
    assert_false(directory_mine(one, 7));
    directory_leave(two, 7);
    assert_int_equal(directory_members(&fixture.master, 7), 0);
    directory_free(one);
    directory_free(two);
}

static void test_clearing_a_dead_column_leaves_the_others(void **state)
{
    struct directory *one = directory_new(&fixture.views[1]);
    struct directory *two = directory_new(&fixture.views[2]);

    (void)state;
    for (uint32_t bucket = 0; bucket < DIRECTORY_BUCKETS; bucket += 5) {
        directory_enter(one, bucket);
        if (bucket % 2 == 0)
            directory_enter(two, bucket);
    }
    directory_enter(one, DIRECTORY_BUCKETS - 1);
    directory_clear(&fixture.master, 1);
    for (uint32_t bucket = 0; bucket < DIRECTORY_BUCKETS; bucket++)
        assert_int_equal(directory_members(&fixture.master, bucket),
                         bucket % 10 == 0 ? 1u << 2 : 0);
    directory_free(one);
    directory_free(two);
}

/* The same with recovery. */
static int setup_recovery(void **state)
{
    struct config config = { .workers = 3,
                             .ring_bytes = 1u << 20,
                             .max_connections_per_worker = 256,
                             .recovery_ms = 60000 };

    (void)state;
    memset(&fixture, 0, sizeof fixture);
    fixture.config = config;
    if (region_create(&fixture.master, &fixture.config) != 0)
        abort();
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        fixture.master.bells[slot] = -1;
        fixture.views[slot] = fixture.master;
        fixture.views[slot].self = slot;
    }
    return 0;
}

static void test_who_is_away_may_want_it_for_as_long_as_the_ring_remembers(void **state)
{
    uint64_t *tail = &fixture.master.header->ring.tail;
    uint64_t units = fixture.master.header->ring.units;
    struct directory *one = directory_new(&fixture.views[1]);

    (void)state;
    assert_false(directory_wanted(&fixture.master, 7));
    directory_keep(&fixture.views[1], 7, 0); /* the very first position is one */
    assert_true(directory_wanted(&fixture.master, 7));
    assert_false(directory_wanted(&fixture.master, 8));
    *tail = units;
    assert_true(directory_wanted(&fixture.master, 7));
    *tail = units + 1;
    assert_false(directory_wanted(&fixture.master, 7));
    directory_enter(one, 7);
    assert_true(directory_wanted(&fixture.master, 7));
    directory_keep(&fixture.views[1], 7, 5);
    directory_keep(&fixture.views[2], 7, 3); /* the later position stays */
    directory_leave(one, 7);
    *tail = units + 5;
    assert_true(directory_wanted(&fixture.master, 7));
    *tail = units + 6;
    assert_false(directory_wanted(&fixture.master, 7));
    directory_keep(&fixture.views[1], 7, *tail);
    directory_clear(&fixture.master, 1); /* who kept it may die */
    assert_true(directory_wanted(&fixture.master, 7));
    directory_free(one);
}

static void test_without_recovery_only_members_count(void **state)
{
    struct directory *one = directory_new(&fixture.views[1]);

    (void)state;
    directory_keep(&fixture.views[1], 7, 0);
    assert_false(directory_wanted(&fixture.master, 7));
    directory_enter(one, 7);
    assert_true(directory_wanted(&fixture.master, 7));
    directory_free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_bit_is_there_from_the_first_member_to_the_last,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_clearing_a_dead_column_leaves_the_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_who_is_away_may_want_it_for_as_long_as_the_ring_remembers, setup_recovery,
            teardown),
        cmocka_unit_test_setup_teardown(test_without_recovery_only_members_count, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
