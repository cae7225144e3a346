/* test_ring_reap.c: what the dead leave in the ring, and what the master makes of it. */
#include "unit/shm/ring_steps.h"

static bool reap(struct ring *ring, bool *voided)
{
    dead[ring->region->self] = true;
    return ring_reap_intent(&master, ring->region->self, dead, voided);
}

static void intend(struct ring *ring, uint64_t at, uint32_t n_units)
{
    ring->slot->intent_units = n_units;
    ring->slot->intent_at = at;
}

static void assert_void(uint64_t at, uint32_t n_units)
{
    uint32_t n = 0;
    const uint8_t *record = ring_peek(&master, at, &n);
    struct record_view v;

    assert_non_null(record);
    assert_int_equal(n, n_units);
    assert_true(record_view(&v, record, n * UNIT));
    assert_int_equal(v.header->kind, RECORD_VOID);
}

static void test_who_dies_without_intent_leaves_nothing(void **state)
{
    bool voided;

    (void)state;
    (void)append(&w0, 1);
    assert_true(reap(&w0, &voided));
    assert_false(voided);
}

static void test_who_dies_before_reserving_leaves_nothing(void **state)
{
    bool voided;

    (void)state;
    (void)append(&w0, 3);
    intend(&w0, 3, 2); /* killed before its compare-and-swap */
    assert_true(reap(&w0, &voided));
    assert_false(voided);
    assert_true(w0.slot->intent_at == RING_NO_INTENT);
    assert_int_equal(append(&w1, 1), 3);
}

static void test_who_dies_after_committing_leaves_its_record(void **state)
{
    uint32_t n = 0;
    bool voided;
    uint64_t at = append(&w0, 3);

    (void)state;
    intend(&w0, at, 3); /* killed before it cleared the intent */
    assert_true(reap(&w0, &voided));
    assert_false(voided);
    assert_int_equal(((const struct record_header *)ring_peek(&w1, at, &n))->kind, RECORD_GONE);
}

static void test_a_hole_is_voided_with_the_length_that_was_reserved(void **state)
{
    bool voided;
    uint64_t at = 0;

    (void)state;
    (void)append(&w1, 1);
    at = reserve(&w0, 5);
    memset(ring_at(&w0, at), 0xee, 5 * UNIT); /* killed while filling */
    (void)append(&w1, 2);
    assert_true(reap(&w0, &voided));
    assert_true(voided);
    assert_void(at, 5);
    assert_int_equal(fixture.master.header->voids_total, 1);
    assert_true(w0.slot->intent_at == RING_NO_INTENT);
}

static void test_a_hole_at_the_tail_is_voided(void **state)
{
    bool voided;
    uint64_t at = reserve(&w0, 2);

    (void)state;
    assert_true(reap(&w0, &voided));
    assert_true(voided);
    assert_void(at, 2);
}

static void test_of_two_dead_with_one_intent_the_boundary_decides(void **state)
{
    bool voided;
    uint64_t at = 0;

    (void)state;
    /* w1 reserved 2, w0 tried 5 at the same tail: the end of the 2 is the tail. */
    at = reserve(&w1, 2);
    intend(&w0, at, 5);
    dead[1] = true;
    assert_true(reap(&w0, &voided));
    assert_true(voided);
    assert_void(at, 2);
    assert_true(reap(&w1, &voided));
    assert_false(voided);

    /* The longer one reserved: the shorter one's end is inside. */
    dead[0] = dead[1] = false;
    at = reserve(&w1, 5);
    intend(&w0, at, 2);
    dead[1] = true;
    assert_true(reap(&w0, &voided));
    assert_void(at, 5);
    assert_true(reap(&w1, &voided));

    /* The end is known by a commit behind it, the tail having moved on. */
    dead[0] = dead[1] = false;
    at = reserve(&w1, 3);
    intend(&w0, at, 4);
    (void)append(&w2, 4);
    dead[1] = true;
    assert_true(reap(&w0, &voided));
    assert_void(at, 3);
    assert_true(reap(&w1, &voided));

    /* The end is known by a live one's intent only. */
    dead[0] = dead[1] = false;
    at = reserve(&w1, 3);
    intend(&w0, at, 4);
    (void)reserve(&w2, 4);
    dead[1] = true;
    assert_true(reap(&w0, &voided));
    assert_void(at, 3);
    commit(&w2, at + 3, 4);
    assert_true(reap(&w1, &voided));
}

static void test_a_live_process_with_the_same_intent_is_waited_for_and_never_blocks(void **state)
{
    bool voided;
    uint64_t at = reserve(&w1, 2);
    uint32_t n = 0;

    (void)state;
    intend(&w0, at, 2);
    assert_false(reap(&w0, &voided));
    assert_false(reap(&w0, &voided));
    commit(&w1, at, 2);
    assert_true(reap(&w0, &voided)); /* it was the live one's */
    assert_false(voided);
    assert_int_equal(((const struct record_header *)ring_peek(&w2, at, &n))->kind, RECORD_GONE);

    dead[0] = false;
    at = reserve(&w0, 2);
    intend(&w1, at, 7); /* lost the race and has not noticed yet */
    assert_false(reap(&w0, &voided));
    w1.slot->intent_at = RING_NO_INTENT; /* it found the ring full */
    assert_true(reap(&w0, &voided));
    assert_true(voided);
    assert_void(at, 2);
}

static void test_an_intent_that_was_lapped_is_no_hole(void **state)
{
    bool voided;

    (void)state;
    fill_to(&w1, 10);
    fill_to(&w1, 2 * UNITS);
    /* It read the tail as 10, slept for a lap, stored its intent, and was killed. */
    intend(&w0, 10, 2);
    assert_true(reap(&w0, &voided));
    assert_false(voided);
    assert_true(fixture.master.commits[10] != 11);
    fill_to(&w1, 4 * UNITS);
}

static void test_a_dead_producers_hole_gates_until_it_is_voided(void **state)
{
    bool voided;
    uint64_t at = reserve(&w0, 1);

    (void)state;
    fill_to(&w1, UNITS);
    assert_int_equal(try(&w1, 1), RING_FULL);
    assert_true(reap(&w0, &voided));
    assert_true(voided);
    assert_void(at, 1);
    fill_to(&w1, 2 * UNITS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_who_dies_without_intent_leaves_nothing),
        RING_TEST(test_who_dies_before_reserving_leaves_nothing),
        RING_TEST(test_who_dies_after_committing_leaves_its_record),
        RING_TEST(test_a_hole_is_voided_with_the_length_that_was_reserved),
        RING_TEST(test_a_hole_at_the_tail_is_voided),
        RING_TEST(test_of_two_dead_with_one_intent_the_boundary_decides),
        RING_TEST(test_a_live_process_with_the_same_intent_is_waited_for_and_never_blocks),
        RING_TEST(test_an_intent_that_was_lapped_is_no_hole),
        RING_TEST(test_a_dead_producers_hole_gates_until_it_is_voided),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
