/* test_ring.c: reservation, commit, gating, parking, bells, history and reaping, one step at a time. */
#include "lib/shm_fixture.h"

/* Runs at one moment, where others may have been quicker. */
static int moment_wanted;
static void (*at_moment)(void);
static void on_moment(int moment)
{
    if (moment == moment_wanted && at_moment != NULL)
        at_moment();
}
#define RING_MOMENT(what) on_moment(what)

#include "shm/bell.c"
#include "shm/ring_consume.c"
#include "shm/ring_produce.c"
#include "shm/ring_reap.c"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

#define RING_BYTES (1u << 20)
#define UNITS      (RING_BYTES / RING_UNIT_BYTES)
#define UNIT       RING_UNIT_BYTES

static struct shm_fixture fixture;
static struct ring w0, w1, w2, bridge, admin, master;
static bool dead[PEAL_SLOTS_ALL];

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 3, RING_BYTES);
    ring_open(&w0, &fixture.views[0]);
    ring_open(&w1, &fixture.views[1]);
    ring_open(&w2, &fixture.views[2]);
    ring_open(&bridge, &fixture.views[PEAL_SLOT_BRIDGE]);
    ring_open(&admin, &fixture.views[PEAL_SLOT_ADMIN]);
    ring_open(&master, &fixture.master);
    memset(dead, 0, sizeof dead);
    at_moment = NULL;
    moment_wanted = RING_MOMENT_INTENT_SET;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ring_check(&w0);
    ring_check(&w1);
    ring_check(&w2);
    ring_check(&bridge);
    ring_check(&admin);
    ring_check(&master);
    shm_fixture_destroy(&fixture);
    return 0;
}

static uint64_t reserve(struct ring *ring, uint32_t n_units)
{
    uint64_t at;

    assert_int_equal(ring_reserve(ring, n_units * UNIT, &at), RING_OK);
    return at;
}

static void commit(struct ring *ring, uint64_t at, uint32_t n_units)
{
    struct record_header header = { .n_bytes = n_units * UNIT, .kind = RECORD_GONE };

    memcpy(ring_at(ring, at), &header, sizeof header);
    ring_commit(ring, at, n_units * UNIT);
}

static uint64_t append(struct ring *ring, uint32_t n_units)
{
    uint64_t at = reserve(ring, n_units);

    commit(ring, at, n_units);
    return at;
}

/* Moves the tail to `position` with records that nobody waits for. */
static void fill_to(struct ring *ring, uint64_t position)
{
    uint64_t left;

    while ((left = position - ring_tail(ring)) > 0) {
        (void)append(ring, left < UNITS / 4 ? (uint32_t)left : UNITS / 4);
        ring->_n_committed = 0; /* no bells: these are not what is tested */
    }
}

static enum ring_result try(struct ring *ring, uint32_t n_units)
{
    uint64_t at;

    return ring_reserve(ring, n_units * UNIT, &at);
}

static void add(struct ring *consumer)
{
    ring_consumer_add(&master, consumer->region->self, ring_tail(&master));
}

/* --- producing --- */

static void test_the_first_record_is_at_position_zero_and_zeroed_words_are_no_commits(void **state)
{
    uint32_t n_units;

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
    uint32_t n_units;
    uint64_t at;

    (void)state;
    assert_int_equal(ring_reserve(&w0, 65, &at), RING_OK);
    memcpy(ring_at(&w0, at), &header, sizeof header);
    ring_commit(&w0, at, 65);
    assert_non_null(ring_peek(&w1, at, &n_units));
    assert_int_equal(n_units, 2);
}

static void test_a_record_that_wraps_is_contiguous(void **state)
{
    uint64_t at;
    uint32_t n_units;
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
    ring_consumer_add(&master, PEAL_SLOT_BRIDGE, 40); /* goes on where it was */
    assert_int_equal(bridge.slot->cursor, 40);
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

/* While a producer looks for the floor, knowing who gates: another comes, and those whom it knows walk
 * on, beyond where the new one stands. */
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

static void test_a_bridge_that_was_overtaken_does_not_gate_until_it_rejoins(void **state)
{
    uint64_t at;

    (void)state;
    add(&bridge);
    ring_consumer_remove(&master, PEAL_SLOT_BRIDGE); /* it dies */
    fill_to(&w0, 3 * UNITS);
    ring_consumer_add(&master, PEAL_SLOT_BRIDGE, bridge.slot->cursor);
    fill_to(&w0, 5 * UNITS); /* nobody waits for it */
    at = ring_resync(&bridge, bridge.slot->cursor);
    assert_int_equal(at, 4 * UNITS);
    assert_int_equal(ring_rejoin(&bridge, at), 5 * UNITS);
    fill_to(&w0, 5 * UNITS);                  /* (no more) */
    assert_int_equal(try(&w1, 1), RING_FULL); /* whoever looks anew waits for it */
    ring_release(&bridge, 5 * UNITS);
    (void)append(&w1, 1);
}

/* --- history --- */

static uint8_t copied[RING_BYTES];

static enum ring_history copy(const struct ring *ring, uint64_t position, uint32_t *n)
{
    return ring_copy(ring, position, copied, sizeof copied, n);
}

static void test_history_is_readable_until_it_is_overwritten(void **state)
{
    uint64_t at;
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
    uint32_t n;

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
    uint32_t n_units;
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

/* --- parking and bells --- */

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

/* --- reaping --- */

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
    uint32_t n;
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
    uint32_t n;
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
    uint64_t at;

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
    uint64_t at;

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
    uint32_t n;

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

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        RING_TEST(test_a_bridge_that_was_overtaken_does_not_gate_until_it_rejoins),
        RING_TEST(test_history_is_readable_until_it_is_overwritten),
        RING_TEST(test_history_tells_a_hole_from_the_middle_of_a_record),
        RING_TEST(test_a_record_longer_than_the_buffer_is_not_copied),
        RING_TEST(test_resync_finds_the_first_record_that_is_left),
        RING_TEST(test_a_length_that_cannot_be_ends_the_process),
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
