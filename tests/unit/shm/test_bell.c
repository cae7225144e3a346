/* test_bell.c: who is rung, and who is not; parking while others are quicker. */
#include "unit/shm/ring_steps.h"

static bool rung(uint32_t slot)
{
    return shm_bell_take(&fixture.master, slot);
}

static void test_whoever_parks_says_where_and_at_what(void **state)
{
    uint64_t hole;

    (void)state;
    add(&w0);
    assert_true(ring_park(&w0, 0));
    assert_int_equal(w0.slot->parked, 0);
    ring_unpark(&w0);
    assert_true(w0.slot->parked == RING_NOT_PARKED);
    hole = append(&w1, 3) + 3;
    (void)reserve(&w1, 1);
    assert_true(ring_park(&w0, hole));
    assert_int_equal(w0.slot->parked, hole * 2 + 1);
    assert_int_equal(w0.slot->cursor, hole); /* it does not hold what it has walked */
    ring_unpark(&w0);
    commit(&w1, hole, 1);
    assert_false(ring_park(&w0, hole)); /* there is something: look again */
    assert_true(w0.slot->parked == RING_NOT_PARKED);
}

static void test_only_those_whom_the_record_is_for_are_rung_at_the_tail(void **state)
{
    (void)state;
    add(&w0);
    add(&w1);
    add(&w2);
    assert_true(ring_park(&w1, 0));
    assert_true(ring_park(&w2, 0));
    (void)append(&w0, 1);
    ring_target_mask(&w0, 1u << 2 | 1u << 0);
    ring_bells(&w0);
    assert_false(rung(0)); /* never itself */
    assert_false(rung(1));
    assert_true(rung(2));
    assert_int_equal(w0.bells_rung, 1);
    assert_int_equal(w0.bells_spared, 1);
    ring_bells(&w0); /* nothing new */
    assert_false(rung(2));
}

static void test_a_process_that_is_awake_is_not_rung(void **state)
{
    (void)state;
    add(&w0);
    add(&w1);
    (void)append(&w0, 1);
    ring_target_mask(&w0, UINT64_MAX);
    ring_bells(&w0);
    assert_false(rung(1));
    assert_false(rung(PEAL_SLOT_ADMIN));
}

static void test_admin_is_rung_though_it_gates_nothing(void **state)
{
    (void)state;
    assert_true(ring_park(&admin, 0));
    (void)append(&w0, 1);
    ring_target_mask(&w0, 1ull << PEAL_SLOT_ADMIN);
    ring_bells(&w0);
    assert_true(rung(PEAL_SLOT_ADMIN));
    ring_unpark(&admin);
}

static void test_members_are_looked_up_when_the_bells_ring(void **state)
{
    (void)state;
    add(&w0);
    add(&w1);
    add(&w2);
    assert_true(ring_park(&w1, 0));
    assert_true(ring_park(&w2, 0));
    fixture.master.directory[77] = 1u << 1;
    (void)append(&w0, 1);
    ring_target_bucket(&w0, 77);
    ring_target_bucket(&w0, 77);
    assert_int_equal(w0._targets.n_buckets, 1);
    fixture.master.directory[77] = 1u << 2; /* a member came, one went */
    ring_bells(&w0);
    assert_false(rung(1));
    assert_true(rung(2));
}

static void test_the_owner_of_a_session_is_rung(void **state)
{
    uint32_t per_slot = fixture.master.header->sessions_per_slot;

    (void)state;
    add(&w0);
    add(&w1);
    add(&w2);
    assert_true(ring_park(&w1, 0));
    assert_true(ring_park(&w2, 0));
    (void)append(&w0, 1);
    ring_target_session(&w0, per_slot + 5);
    ring_target_session(&w0, UINT32_MAX); /* nobody's */
    ring_bells(&w0);
    assert_true(rung(1));
    assert_false(rung(2));
}

static void test_too_many_targets_to_tell_apart_are_everybody(void **state)
{
    (void)state;
    add(&w0);
    add(&w1);
    assert_true(ring_park(&w1, 0));
    (void)append(&w0, 1);
    for (uint32_t i = 0; i < RING_TURN_BUCKETS_MAX; i++)
        ring_target_bucket(&w0, i);
    assert_false(w0._targets.everybody);
    ring_target_bucket(&w0, RING_TURN_BUCKETS_MAX);
    assert_true(w0._targets.everybody);
    ring_bells(&w0);
    assert_true(rung(1));
    (void)append(&w0, 1);
    for (uint32_t i = 0; i <= RING_TURN_BUCKETS_MAX; i++)
        ring_target_session(&w0, i);
    ring_bells(&w0);
    assert_true(rung(1));
    (void)append(&w0, 1);
    ring_bells(&w0); /* the next turn begins with nobody */
    assert_false(rung(1));
}

static void test_at_a_hole_exactly_who_commits_it_rings(void **state)
{
    uint64_t first, second;

    (void)state;
    add(&w2);
    first = reserve(&w0, 1);
    second = reserve(&w1, 1);
    assert_true(ring_park(&w2, first));
    commit(&w1, second, 1);
    ring_target_mask(&w1, UINT64_MAX); /* for it, but it waits for another */
    ring_bells(&w1);
    assert_false(rung(2));
    commit(&w0, first, 1); /* for nobody, but it waits for this */
    ring_bells(&w0);
    assert_true(rung(2));
}

static void test_any_commit_of_the_turn_may_be_the_one_waited_for(void **state)
{
    (void)state;
    add(&w2);
    for (uint32_t which = 0; which < 7; which++) {
        uint64_t begin = ring_tail(&w0), hole;

        (void)append(&w0, 1);
        for (uint32_t i = 1; i < 7; i++)
            (void)append(&w0, i);
        hole = w0._committed[which];
        w2.slot->cursor = hole;
        w2.slot->parked = hole * 2 + 1; /* it parked before the commit */
        ring_bells(&w0);
        assert_true(rung(2));
        assert_true(hole >= begin);
        ring_unpark(&w2);
        ring_release(&w2, ring_tail(&w2));
    }
}

static void test_who_is_left_a_quarter_behind_is_rung(void **state)
{
    (void)state;
    add(&w1);
    assert_true(ring_park(&w1, 0));
    (void)append(&w0, UNITS / 4);
    ring_bells(&w0);
    assert_false(rung(1)); /* not more than a quarter */
    (void)append(&w0, 1);
    ring_bells(&w0);
    assert_true(rung(1));
}

static void somebody_reserves(void)
{
    at_moment = NULL;
    (void)reserve(&w0, 1);
}

static void test_a_tail_that_moved_while_parking_is_parked_at_as_a_hole(void **state)
{
    (void)state;
    add(&w1);
    moment_wanted = RING_MOMENT_PARKING;
    at_moment = somebody_reserves; /* it is about to say that it waits at the tail */
    assert_true(ring_park(&w1, 0));
    assert_int_equal(w1.slot->parked, 1);
    commit(&w0, 0, 1);
    ring_bells(&w0);
    assert_true(rung(1));
}

static void somebody_appends(void)
{
    at_moment = NULL;
    (void)append(&w0, 1);
    ring_target_mask(&w0, UINT64_MAX);
    ring_bells(&w0);
}

static void test_a_commit_while_parking_is_seen(void **state)
{
    (void)state;
    add(&w1);
    moment_wanted = RING_MOMENT_PARKING;
    at_moment = somebody_appends;
    assert_false(ring_park(&w1, 0));
    assert_false(rung(1)); /* it was not parked yet: only its second look tells it */
}

static void test_a_bell_that_nobody_reads_stays_rung(void **state)
{
    uint64_t almost = UINT64_MAX - 1;

    (void)state;
    add(&w1);
    assert_true(ring_park(&w1, 0));
    assert_int_equal(write(fixture.master.bells[1], &almost, 8), 8);
    (void)append(&w0, 1);
    ring_target_mask(&w0, 2);
    ring_bells(&w0); /* EAGAIN */
    assert_true(rung(1));
}

static void test_the_master_rings_everybody(void **state)
{
    (void)state;
    ring_bell_all(&master);
    assert_true(rung(0) && rung(1) && rung(2) && rung(PEAL_SLOT_BRIDGE) && rung(PEAL_SLOT_ADMIN));
    assert_int_equal(fixture.master.header->ring.bells_all, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_whoever_parks_says_where_and_at_what),
        RING_TEST(test_only_those_whom_the_record_is_for_are_rung_at_the_tail),
        RING_TEST(test_a_process_that_is_awake_is_not_rung),
        RING_TEST(test_admin_is_rung_though_it_gates_nothing),
        RING_TEST(test_members_are_looked_up_when_the_bells_ring),
        RING_TEST(test_the_owner_of_a_session_is_rung),
        RING_TEST(test_too_many_targets_to_tell_apart_are_everybody),
        RING_TEST(test_at_a_hole_exactly_who_commits_it_rings),
        RING_TEST(test_any_commit_of_the_turn_may_be_the_one_waited_for),
        RING_TEST(test_who_is_left_a_quarter_behind_is_rung),
        RING_TEST(test_a_tail_that_moved_while_parking_is_parked_at_as_a_hole),
        RING_TEST(test_a_commit_while_parking_is_seen),
        RING_TEST(test_a_bell_that_nobody_reads_stays_rung),
        RING_TEST(test_the_master_rings_everybody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
