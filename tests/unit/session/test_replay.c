/* test_replay.c: what was missed, out of a ring: by room and time of joining, once and in order, or not at all. */
#include "lib/shm_fixture.h"
#include "session/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define KEY   (fixture.master.header->hash_key)
#define GIVEN 4096

static struct shm_fixture fixture;
static struct ring ring;
static struct directory *directory;
static struct replay_walk walk;
static struct {
    const struct replay *to;
    uint32_t number;
} given[GIVEN];
static uint32_t n_given;

static void give(void *context, struct replay *r, const struct record_view *view)
{
    (void)context;
    assert_true(n_given < GIVEN);
    given[n_given].to = r;
    given[n_given++].number = (uint32_t)view->header->id;
}

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 1, 1u << 20);
    ring_open(&ring, &fixture.views[0]);
    directory = directory_new(&fixture.views[0]);
    assert_non_null(directory);
    walk = (struct replay_walk){ .ring = &ring, .give = give };
    n_given = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(walk.record);
    for (uint32_t bucket = 0; bucket < DIRECTORY_BUCKETS; bucket++)
        assert_int_equal(directory_members(&fixture.master, bucket), 0);
    directory_free(directory);
    shm_fixture_destroy(&fixture);
    return 0;
}

static uint64_t append(struct record_spec *spec)
{
    uint32_t n_bytes;
    uint64_t at;

    spec->nsp = spec->nsp.bytes == NULL ? slice_text("/") : spec->nsp;
    record_ask_offset(spec, 1);
    n_bytes = record_size(spec);
    assert_int_equal(ring_reserve(&ring, n_bytes, &at), RING_OK);
    record_write(ring_at(&ring, at), spec, KEY);
    record_stamp(ring_at(&ring, at), at);
    ring_commit(&ring, at, n_bytes);
    ring_bells(&ring);
    return at;
}

static struct slice name(const char *text)
{
    return slice_text(text);
}

static uint64_t event(uint32_t number, const char *room, const char *except, uint8_t flags)
{
    static const struct record_part part = { { "42[\"e\"]", 7 }, WS_TEXT };
    struct slice rooms = name(room == NULL ? "" : room);
    struct slice excepts = name(except == NULL ? "" : except);
    struct record_spec spec = {
        .header = { .kind = RECORD_BROADCAST, .id = number, .flags = flags },
        .rooms = &rooms,
        .n_rooms = room != NULL,
        .except = &excepts,
        .n_except = except != NULL,
        .parts = &part,
        .n_parts = 1,
        .event_at = 2
    };

    return append(&spec);
}

static uint64_t change(enum record_kind kind, const char *selected, const char *room, uint8_t flags)
{
    struct slice rooms = name(selected);
    struct slice args = name(room);
    struct record_spec spec = { .header = { .kind = (uint8_t)kind, .flags = flags },
                                .rooms = &rooms,
                                .n_rooms = 1,
                                .args = &args,
                                .n_args = kind != RECORD_DISCONNECT };

    return append(&spec);
}

#define ME "AAAAaaaaBBBBbbbbCCCC"

/* A socket in these rooms, each since a position. */
static struct replay replay_in(const char *const *rooms, const uint64_t *since, uint32_t n,
                               uint64_t from)
{
    static uint8_t stored[RECOVERY_ROOMS_BYTES_MAX];
    struct replay r = {
        .directory = directory, .nsp = slice_text("/"), .from = from, .resume = from, .at = from
    };
    uint32_t n_bytes = 0;

    memcpy(r.id, ME, sizeof r.id);
    for (uint32_t i = 0; i < n; i++)
        assert_true(recoverable_put_room(stored, &n_bytes, name(rooms[i]), since[i]));
    assert_true(replay_open(&r, KEY, slice_of(stored, n_bytes)));
    return r;
}

static void run(struct replay *r)
{
    walk.until = ring_tail(&ring);
    while (!replay_walk(&walk, (struct replay *const[]){ r }, 1))
        r->n_given = 0;
}

static void assert_given(const uint32_t *numbers, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < n_given; i++)
        assert_int_equal(given[i].number, numbers[i]);
    assert_int_equal(n_given, n);
}

static void test_rooms_exceptions_and_the_own_id_decide(void **state)
{
    static const char *const rooms[] = { "a", "b", "" };
    static const uint64_t since[] = { 0, 0, 0 };
    struct replay r = replay_in(rooms, since, 3, ring_tail(&ring));

    (void)state;
    event(1, NULL, NULL, 0);
    event(2, "a", NULL, 0);
    event(3, "c", NULL, 0);
    event(4, "b", "a", 0);
    event(5, "b", "c", 0);
    event(6, ME, NULL, 0);
    event(7, NULL, ME, 0);
    event(8, "", NULL, 0);
    event(9, "a", NULL, RECORD_VOLATILE);
    event(10, "a", NULL, RECORD_WANTS_ACK);
    run(&r);
    assert_given((const uint32_t[]){ 1, 2, 5, 6, 8 }, 5);
    assert_true(r.at == ring_tail(&ring));
    assert_false(r.changed);
    replay_close(&r);
}

static void test_a_room_counts_from_when_it_was_joined(void **state)
{
    static const char *const rooms[] = { "a", "b" };
    uint64_t from = event(1, "a", NULL, 0);
    uint64_t since[] = { 0, event(2, "b", NULL, 0) + 1 };
    struct replay r = replay_in(rooms, since, 2, from);

    (void)state;
    event(3, "b", NULL, 0);
    event(4, "a", "b", 0);
    run(&r);
    assert_given((const uint32_t[]){ 1, 3 }, 2);
    replay_close(&r);
}

static void test_joins_and_leaves_by_record_are_followed_from_where_they_were_not_taken_in(
    void **state)
{
    static const char *const rooms[] = { "a" };
    static const uint64_t since[] = { 0 };
    uint64_t from = change(RECORD_LEAVE, ME, "a", 0); /* taken in, and joined again since */
    struct replay r = replay_in(rooms, since, 1, from);
    uint8_t stored[RECOVERY_ROOMS_BYTES_MAX];
    uint32_t n_bytes, at = 0;
    struct slice room;
    uint64_t when;

    (void)state;
    event(1, "a", NULL, 0);
    event(2, "x", NULL, 0);
    r.resume = change(RECORD_JOIN, ME, "x", 0);
    event(3, "x", NULL, 0);
    change(RECORD_JOIN, "x", "y", 0); /* by a room that it has just joined */
    change(RECORD_LEAVE, "y", "a", 0);
    change(RECORD_JOIN, "z", "w", 0); /* not for it */
    event(4, "a", NULL, 0);
    event(5, "w", NULL, 0);
    event(6, "y", NULL, 0);
    run(&r);
    assert_given((const uint32_t[]){ 1, 3, 6 }, 3);
    assert_true(r.changed);
    assert_true(replay_rooms(&r, stored, &n_bytes));
    assert_true(recoverable_next_room(slice_of(stored, n_bytes), &at, &room, &when));
    assert_true(slice_is(room, "y"));
    assert_true(recoverable_next_room(slice_of(stored, n_bytes), &at, &room, &when));
    assert_true(slice_is(room, "x"));
    assert_true(when == r.resume);
    assert_false(recoverable_next_room(slice_of(stored, n_bytes), &at, &room, &when));
    replay_close(&r);
}

static uint64_t holds(const char *room)
{
    struct slice text = room == NULL ? (struct slice){ NULL, 0 } : name(room);

    return directory_members(&fixture.master, record_bucket(record_hash(KEY, name("/"), text)));
}

static void test_what_is_for_its_rooms_is_wanted_while_it_is_under_way(void **state)
{
    static const char *const rooms[] = { "a" };
    static const uint64_t since[] = { 0 };
    struct replay r = replay_in(rooms, since, 1, ring_tail(&ring));

    (void)state;
    assert_true(holds("a"));
    assert_true(holds(NULL));
    assert_false(holds("x"));
    change(RECORD_JOIN, ME, "x", 0);
    change(RECORD_LEAVE, ME, "a", 0);
    run(&r);
    assert_true(holds("x"));
    assert_false(holds("a"));
    replay_close(&r);
    assert_false(holds("x"));
    assert_false(holds(NULL));
}

static void test_a_disconnect_by_the_server_ends_it_a_takeover_does_not(void **state)
{
    struct replay r = replay_in(NULL, NULL, 0, ring_tail(&ring));

    (void)state;
    change(RECORD_DISCONNECT, ME, "", RECORD_LOST);
    change(RECORD_DISCONNECT, "AAAAaaaaBBBBbbbbCCCD", "", 0);
    event(1, NULL, NULL, 0);
    run(&r);
    assert_int_equal(r.end, REPLAY_GOES_ON);
    change(RECORD_DISCONNECT, ME, "", 0);
    event(2, NULL, NULL, 0);
    run(&r);
    assert_int_equal(r.end, REPLAY_DISCONNECTED);
    assert_given((const uint32_t[]){ 1 }, 1);
    replay_close(&r);
}

static void test_a_history_that_is_written_over_is_an_end_and_no_hole(void **state)
{
    struct replay r = replay_in(NULL, NULL, 0, ring_tail(&ring));

    (void)state;
    event(1, NULL, NULL, 0);
    run(&r);
    for (uint32_t i = 0; i < 2 * ring.units; i += 3)
        event(2, NULL, NULL, 0);
    run(&r);
    assert_int_equal(r.end, REPLAY_OVERRUN);
    assert_given((const uint32_t[]){ 1 }, 1);
    replay_close(&r);
}

static void test_several_share_a_walk_and_each_gets_its_part_once_in_order(void **state)
{
    enum { N = 7, EVENTS = 400 };
    struct replay *replays[N];
    uint64_t at[EVENTS];

    (void)state;
    for (uint32_t i = 0; i < EVENTS; i++)
        at[i] = event(i, NULL, NULL, 0);
    for (uint32_t i = 0; i < N; i++) {
        replays[i] = malloc(sizeof *replays[i]);
        assert_non_null(replays[i]);
        *replays[i] = replay_in(NULL, NULL, 0, at[i * 50]);
    }
    walk.until = at[EVENTS - 10];
    replays[3]->blocked = true;
    while (!replay_walk(&walk, replays, N))
        ;
    assert_true(replays[3]->at == at[150]);
    replays[3]->blocked = false;
    while (!replay_walk(&walk, replays, N))
        ;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t next = i * 50;

        for (uint32_t g = 0; g < n_given; g++)
            if (given[g].to == replays[i])
                assert_int_equal(given[g].number, next++);
        assert_int_equal(next, EVENTS - 10);
        assert_true(replays[i]->at == walk.until);
        replay_close(replays[i]);
        free(replays[i]);
    }
}

static void test_who_has_got_enough_for_this_turn_waits_for_the_next(void **state)
{
    static char text[65536] = "42[\"";
    struct record_part part = { { text, sizeof text }, WS_TEXT };
    struct record_spec spec = {
        .header = { .kind = RECORD_BROADCAST }, .parts = &part, .n_parts = 1, .event_at = 2
    };
    struct replay r = replay_in(NULL, NULL, 0, ring_tail(&ring));
    uint32_t turns = 0;

    (void)state;
    memset(text + 4, 'x', sizeof text - 6);
    memcpy(text + sizeof text - 2, "\"]", 2);
    for (uint32_t i = 0; i < 12; i++)
        (void)append(&spec);
    walk.until = ring_tail(&ring);
    while (r.at < walk.until) {
        uint32_t before = n_given;

        assert_true(replay_walk(&walk, (struct replay *const[]){ &r }, 1));
        assert_in_range(n_given - before, 1, REPLAY_AHEAD_BYTES / 65536 + 1);
        r.n_given = 0;
        turns++;
    }
    assert_int_equal(n_given, 12);
    assert_true(turns >= 3);
    replay_close(&r);
}

static void test_damaged_rooms_are_refused(void **state)
{
    uint8_t stored[RECOVERY_ROOMS_BYTES_MAX];
    struct replay r = { .directory = directory, .nsp = slice_text("/") };
    uint32_t n_bytes = 0;

    (void)state;
    assert_true(recoverable_put_room(stored, &n_bytes, name("a room"), 1));
    for (uint32_t n = 1; n < n_bytes; n++)
        assert_false(replay_open(&r, KEY, slice_of(stored, n)));
    assert_true(replay_open(&r, KEY, slice_of(stored, n_bytes)));
    replay_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rooms_exceptions_and_the_own_id_decide, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_room_counts_from_when_it_was_joined, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_joins_and_leaves_by_record_are_followed_from_where_they_were_not_taken_in, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_what_is_for_its_rooms_is_wanted_while_it_is_under_way,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_disconnect_by_the_server_ends_it_a_takeover_does_not,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_history_that_is_written_over_is_an_end_and_no_hole,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_several_share_a_walk_and_each_gets_its_part_once_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_has_got_enough_for_this_turn_waits_for_the_next,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_rooms_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
