/* test_ring.c: reservation, commit, gating and history, one step at a time. */
#include "unit/shm/ring_steps.h"

#include <sys/wait.h>

/* --- producing --- */

static void test_the_first_record_is_at_position_zero_and_zeroed_words_are_no_commits(void **state)
{
    uint32_t n_units = 0;

    (void)state;
    assert_null(ring_peek(&w1, 0, &n_units));
    assert_int_equal(reserve(&w0, 2), 0);
    assert_null(ring_peek(&w1, 0, &n_units));
    commit(&w0, 0, 2);
    assert_ptr_equal(ring_peek(&w1, 0, &n_units), fixture.master.payload);
    assert_int_equal(n_units, 2);
    assert_null(ring_peek(&w1, 1, &n_units)); /* inside */
    assert_null(ring_peek(&w1, 2, &n_units));
    assert_int_equal(ring_tail(&w2), 2);
}

static void test_a_length_that_fills_no_unit_takes_it_whole(void **state)
{
    struct record_header header = { .n_bytes = 65, .kind = RECORD_GONE };
    uint32_t n_units = 0;
    uint64_t at = 0;

    (void)state;
    assert_int_equal(ring_reserve(&w0, 65, &at), RING_OK);
    memcpy(ring_at(&w0, at), &header, sizeof header);
    ring_commit(&w0, at, 65);
    assert_non_null(ring_peek(&w1, at, &n_units));
    assert_int_equal(n_units, 2);
}

static void test_a_record_that_wraps_is_contiguous(void **state)
{
    uint64_t at = 0;
    uint32_t n_units = 0;
    const uint8_t *record;

    (void)state;
    fill_to(&w0, UNITS - 1);
    at = reserve(&w0, 3);
    memset(ring_at(&w0, at), 0x5a, 3 * UNIT);
    commit(&w0, at, 3);
    record = ring_peek(&w1, at, &n_units);
    assert_non_null(record);
    for (uint32_t i = 64; i < 3 * UNIT; i++)
        assert_int_equal(record[i], 0x5a);
    assert_int_equal(fixture.master.payload[2 * UNIT - 1], 0x5a); /* its end is at the beginning */
}

static void test_too_big_is_not_full(void **state)
{
    (void)state;
    assert_int_equal(ring_record_bytes_max(&w0), RING_BYTES / 4);
    assert_int_equal(ring_capacity_bytes(&w0), RING_BYTES);
    assert_int_equal(try(&w0, UNITS / 4 + 1), RING_TOO_BIG);
    assert_true(w0.slot->intent_at == RING_NO_INTENT);
    assert_int_equal(append(&w0, UNITS / 4), 0);
}

static void test_bytes_at_a_live_cursor_are_never_overwritten(void **state)
{
    (void)state;
    add(&w0);
    add(&w1);
    fill_to(&w2, UNITS);
    assert_int_equal(try(&w2, 1), RING_FULL);
    assert_true(w2.slot->intent_at == RING_NO_INTENT);
    ring_release(&w0, 10);
    assert_int_equal(try(&w2, 1), RING_FULL); /* w1 still needs the first */
    ring_release(&w1, 4);
    assert_int_equal(try(&w2, 5), RING_FULL);
    assert_int_equal(append(&w2, 4), UNITS);
    assert_int_equal(try(&w2, 1), RING_FULL);
}

static void test_a_turn_has_a_bounded_number_of_commits(void **state)
{
    (void)state;
    for (int i = 0; i < RING_TURN_COMMITS_MAX; i++)
        (void)append(&w0, 1);
    assert_int_equal(try(&w0, 1), RING_FULL);
    ring_bells(&w0);
    (void)append(&w0, 1);
}

static void test_without_consumers_the_ring_is_never_full(void **state)
{
    (void)state;
    fill_to(&w0, 5 * UNITS);
    add(&w1); /* at the tail */
    fill_to(&w0, 6 * UNITS);
    assert_int_equal(try(&w0, 1), RING_FULL);
    ring_consumer_remove(&master, 1);
    fill_to(&w0, 8 * UNITS);
}

static void test_a_hole_is_never_lapped_even_without_consumers(void **state)
{
    uint64_t hole;

    (void)state;
    fill_to(&w0, UNITS / 2);
    hole = reserve(&w1, 2);
    fill_to(&w0, hole + UNITS);
    assert_int_equal(try(&w0, 1), RING_FULL);
    add(&w2); /* a consumer that begins behind the hole changes nothing */
    ring_release(&w2, ring_tail(&w2));
    assert_int_equal(try(&w0, 1), RING_FULL);
    commit(&w1, hole, 2);
    fill_to(&w0, hole + UNITS + 100);
}

static void test_a_worker_begins_at_the_tail_as_of_when_it_gates(void **state)
{
    (void)state;
    fill_to(&w0, 100);
    ring_consumer_add(&master, 1, 40); /* the tail has moved on since the master looked */
    assert_int_equal(w1.slot->cursor, 100);
}

static struct ring *quicker;
static void somebody_is_quicker(void)
{
    at_moment = NULL;
    (void)append(quicker, 3);
}

static void test_a_lost_race_is_tried_again_behind_the_winner(void **state)
{
    (void)state;
    quicker = &w1;
    at_moment = somebody_is_quicker;
    assert_int_equal(append(&w0, 2), 3);
    assert_int_equal(ring_tail(&w0), 5);
}

static void test_a_race_lost_to_the_last_room_is_full_and_leaves_no_intent(void **state)
{
    (void)state;
    add(&w2);
    fill_to(&w0, UNITS - 3);
    quicker = &w1;
    at_moment = somebody_is_quicker;
    assert_int_equal(try(&w0, 2), RING_FULL);
    assert_true(w0.slot->intent_at == RING_NO_INTENT);
}

/* While a producer looks for the floor, knowing who gates: another comes, and those whom it knows
 * walk on, beyond where the new one stands. */
static void a_consumer_comes_and_others_walk_on(void)
{
    at_moment = NULL;
    add(&w2);
    fill_to(&w0, ring_tail(&w0) + 8);
    ring_release(&w1, ring_tail(&w1));
}

static void test_a_floor_found_while_a_consumer_came_is_not_beyond_it(void **state)
{
    (void)state;
    add(&w1);
    fill_to(&w0, UNITS - 8);
    fill_to(&admin, UNITS);
    ring_release(&w1, UNITS - 8);
    moment_wanted = RING_MOMENT_FLOOR;
    at_moment = a_consumer_comes_and_others_walk_on;
    w0._floor = UNITS; /* it has room anyway, so that only admin looks */
    (void)append(&admin, 1);
    assert_int_equal(w2.slot->cursor, UNITS);
    assert_true(admin._floor <= UNITS);
    ring_release(&w1, ring_tail(&w1));
    fill_to(&admin, 2 * UNITS);
    assert_int_equal(try(&admin, 1), RING_FULL);
}

/* --- history --- */

static uint8_t copied[RING_BYTES];

static enum ring_history copy(const struct ring *ring, uint64_t position, uint32_t *n)
{
    return ring_copy(ring, position, copied, sizeof copied, n);
}

static void test_joins_are_taken_when_all_who_gate_have_passed_the_last_one(void **state)
{
    uint64_t at;

    (void)state;
    assert_true(ring_joins_taken(&bridge));
    add(&w0);
    add(&w1);
    at = reserve(&bridge, 2);
    ring_note_join(&bridge, at + 2);
    assert_false(ring_joins_taken(&bridge)); /* before it is committed */
    commit(&bridge, at, 2);
    ring_release(&w0, at + 2);
    assert_false(ring_joins_taken(&bridge));
    ring_release(&w1, at + 1);
    assert_false(ring_joins_taken(&bridge));
    (void)append(&bridge, 1); /* no join */
    ring_release(&w1, at + 2);
    assert_true(ring_joins_taken(&bridge));
    at = reserve(&w2, 1);
    ring_note_join(&w2, at + 1);
    commit(&w2, at, 1);
    ring_release(&w0, at + 1);
    assert_false(ring_joins_taken(&bridge));
    ring_consumer_remove(&master, 1); /* a dead one is waited for by nobody */
    assert_true(ring_joins_taken(&bridge));
}

static void test_history_is_readable_until_it_is_overwritten(void **state)
{
    uint64_t at = 0;
    uint32_t n = 0;

    (void)state;
    at = reserve(&w0, 3);
    memset(ring_at(&w0, at), 0x77, 3 * UNIT);
    commit(&w0, at, 3);
    assert_int_equal(copy(&w1, at, &n), HISTORY_OK);
    assert_int_equal(n, 3 * UNIT);
    assert_int_equal(copied[100], 0x77);
    fill_to(&w0, UNITS);
    assert_int_equal(copy(&w1, at, &n), HISTORY_OK);
    (void)reserve(&w0, 1); /* that is enough: its bytes may be changing */
    assert_int_equal(copy(&w1, at, &n), HISTORY_GONE);
    commit(&w0, UNITS, 1);
}

static void test_history_tells_a_hole_from_the_middle_of_a_record(void **state)
{
    uint64_t first, hole;
    uint32_t n = 0;

    (void)state;
    first = append(&w0, 4);
    hole = reserve(&w1, 2);
    assert_int_equal(copy(&w2, first + 1, &n), HISTORY_GONE);
    assert_int_equal(copy(&w2, hole, &n), HISTORY_NOT_YET);
    assert_int_equal(copy(&w2, hole + 1, &n), HISTORY_GONE);
    assert_int_equal(copy(&w2, ring_tail(&w2), &n), HISTORY_NOT_YET);
    assert_int_equal(copy(&w2, UINT64_MAX, &n), HISTORY_NOT_YET);
    commit(&w1, hole, 2);
    assert_int_equal(copy(&w2, hole, &n), HISTORY_OK);
}

static void test_a_record_longer_than_the_buffer_is_not_copied(void **state)
{
    uint32_t n = 0;
    uint64_t at = append(&w0, 4);

    (void)state;
    memset(copied, 1, sizeof copied);
    assert_int_equal(ring_copy(&w1, at, copied, 4 * UNIT - 1, &n), HISTORY_OK);
    assert_int_equal(n, 4 * UNIT);
    assert_int_equal(copied[0], 1);
}

static void test_resync_finds_the_first_record_that_is_left(void **state)
{
    uint64_t second, hole;

    (void)state;
    (void)append(&w0, 10);
    second = append(&w0, 10);
    hole = reserve(&w1, 5);
    fill_to(&w0, UNITS + 3);
    assert_int_equal(ring_resync(&w2, 0), second); /* the first one's beginning is overwritten */
    assert_int_equal(ring_resync(&w2, second), second);
    assert_int_equal(ring_resync(&w2, second + 1), hole); /* will be a record */
    assert_int_equal(ring_resync(&w2, UNITS + 3), UNITS + 3);
    assert_int_equal(ring_resync(&w2, UNITS + 99), UNITS + 3);
    commit(&w1, hole, 5);
}

static void test_a_length_that_cannot_be_ends_the_process(void **state)
{
    uint64_t at = append(&w0, 1);
    uint32_t n_units = 0;
    int status;
    pid_t pid;

    (void)state;
    ((struct record_header *)ring_at(&w0, at))->n_bytes = RING_BYTES / 4 + 1;
    pid = fork();
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        (void)signal(SIGABRT, SIG_DFL);
        (void)!ring_peek(&w1, at, &n_units);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_the_first_record_is_at_position_zero_and_zeroed_words_are_no_commits),
        RING_TEST(test_a_length_that_fills_no_unit_takes_it_whole),
        RING_TEST(test_a_record_that_wraps_is_contiguous),
        RING_TEST(test_too_big_is_not_full),
        RING_TEST(test_bytes_at_a_live_cursor_are_never_overwritten),
        RING_TEST(test_a_turn_has_a_bounded_number_of_commits),
        RING_TEST(test_without_consumers_the_ring_is_never_full),
        RING_TEST(test_a_hole_is_never_lapped_even_without_consumers),
        RING_TEST(test_a_worker_begins_at_the_tail_as_of_when_it_gates),
        RING_TEST(test_a_lost_race_is_tried_again_behind_the_winner),
        RING_TEST(test_a_race_lost_to_the_last_room_is_full_and_leaves_no_intent),
        RING_TEST(test_a_floor_found_while_a_consumer_came_is_not_beyond_it),
        RING_TEST(test_joins_are_taken_when_all_who_gate_have_passed_the_last_one),
        RING_TEST(test_history_is_readable_until_it_is_overwritten),
        RING_TEST(test_history_tells_a_hole_from_the_middle_of_a_record),
        RING_TEST(test_a_record_longer_than_the_buffer_is_not_copied),
        RING_TEST(test_resync_finds_the_first_record_that_is_left),
        RING_TEST(test_a_length_that_cannot_be_ends_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
