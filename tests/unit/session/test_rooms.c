/* test_rooms.c: rooms by name, held by references, with dense arrays of members and a bit in the directory. */
#include "lib/shm_fixture.h"
#include "session/rooms.h"
#include "shm/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct shm_fixture fixture;
static struct rooms rooms;

static int setup(void **state)
{
    struct directory *directory;

    (void)state;
    shm_fixture_init(&fixture, 2, 1u << 20);
    directory = directory_new(&fixture.views[1]);
    assert_non_null(directory);
    assert_int_equal(rooms_init(&rooms, &fixture.views[1], directory, NULL), 0);
    for (uint32_t nsp = 0; nsp < 4; nsp++)
        shm_fixture_name(&fixture, nsp);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    directory_free(rooms.directory);
    rooms_destroy(&rooms);
    shm_fixture_destroy(&fixture);
    return 0;
}

static uint64_t members_of(uint64_t hash)
{
    return directory_members(&fixture.master, record_bucket(hash));
}

static void test_a_room_lives_as_long_as_somebody_holds_it(void **state)
{
    uint32_t room = room_ref(&rooms, 5, 3, slice_text("a"));

    (void)state;
    assert_int_not_equal(room, ROOM_NONE);
    assert_true(slice_is(room_name(room_at(&rooms, room)), "a"));
    assert_int_equal(members_of(5), 1u << 1);
    assert_int_equal(room_ref(&rooms, 5, 3, slice_text("a")), room);
    assert_int_equal(rooms.n_live, 1);
    assert_int_equal(rooms.n_named, 1);
    assert_true(namespace_in_use(&fixture.views[1], 3));
    assert_false(namespace_in_use(&fixture.views[0], 3));
    room_unref(&rooms, room);
    assert_true(namespace_in_use(&fixture.views[1], 3));
    assert_int_equal(room_find(&rooms, 5, 3, slice_text("a")), room);
    room_unref(&rooms, room);
    assert_int_equal(room_find(&rooms, 5, 3, slice_text("a")), ROOM_NONE);
    assert_int_equal(members_of(5), 0);
    assert_int_equal(rooms.n_live, 0);
    assert_int_equal(rooms.n_named, 0);
    assert_false(namespace_in_use(&fixture.views[1], 3));
}

static void test_equal_hashes_are_told_apart_by_namespace_and_name(void **state)
{
    struct slice whole = { NULL, 0 };
    uint32_t room[4];

    (void)state;
    room[0] = room_ref(&rooms, 9, 1, slice_text("a"));
    room[1] = room_ref(&rooms, 9, 2, slice_text("a"));
    room[2] = room_ref(&rooms, 9, 1, whole);          /* the namespace as a whole, and ... */
    room[3] = room_ref(&rooms, 9, 1, slice_text("")); /* ... a room without a name */
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(room[i], room[k]);
    assert_int_equal(room_find(&rooms, 9, 2, slice_text("a")), room[1]);
    assert_int_equal(room_find(&rooms, 9, 1, whole), room[2]);
    assert_int_equal(room_find(&rooms, 9, 1, slice_text("")), room[3]);
    assert_int_equal(room_find(&rooms, 9, 2, whole), ROOM_NONE);
    assert_int_equal(rooms.n_named, 3);
    room_unref(&rooms, room[1]);
    room_unref(&rooms, room[0]);
    assert_int_equal(members_of(9), 1u << 1); /* others of the bucket are left */
    room_unref(&rooms, room[3]);
    room_unref(&rooms, room[2]);
    assert_int_equal(members_of(9), 0);
}

static void test_the_last_member_takes_the_place_of_the_one_that_left(void **state)
{
    uint32_t room = ROOM_NONE;
    struct room_member moved = { 0, 0 };
    uint32_t at;

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        room = room_ref(&rooms, 1, 1, slice_text("r"));
        assert_true(room_add(&rooms, room, (struct room_member){ i, 10 + i }, &at));
        assert_int_equal(at, i);
    }
    assert_true(room_remove(&rooms, room, 1, &moved));
    assert_int_equal(moved.sock, 14);
    assert_int_equal(moved.conn, 4);
    assert_int_equal(room_members(room_at(&rooms, room))[1].sock, 14);
    assert_false(room_remove(&rooms, room, 3, &moved)); /* the last one itself */
    assert_int_equal(room_at(&rooms, room)->n_members, 3);
    while (room_at(&rooms, room)->n_members > 0)
        (void)room_remove(&rooms, room, 0, &moved);
    for (uint32_t i = 0; i < 5; i++)
        room_unref(&rooms, room);
    assert_int_equal(rooms.n_live, 0);
}

static void test_thousands_of_rooms_are_all_found_while_tables_grow(void **state)
{
    static uint32_t index[5000];
    char name[16];

    (void)state;
    for (uint32_t round = 0; round < 2; round++) { /* the second one from the free list */
        for (uint32_t i = 0; i < 5000; i++) {
            struct slice s = slice_of(name, (uint32_t)snprintf(name, sizeof name, "r%u", i));

            index[i] = room_ref(&rooms, (uint64_t)i % 1000 * 0x9e3779b97f4a7c15u, 0, s);
            assert_int_not_equal(index[i], ROOM_NONE);
        }
        assert_int_equal(rooms.n_live, 5000);
        assert_int_equal(rooms.n_rooms, 5000);
        for (uint32_t i = 0; i < 5000; i++) {
            struct slice s = slice_of(name, (uint32_t)snprintf(name, sizeof name, "r%u", i));

            assert_int_equal(room_find(&rooms, (uint64_t)i % 1000 * 0x9e3779b97f4a7c15u, 0, s),
                             index[i]);
        }
        for (uint32_t i = 0; i < 5000; i++)
            room_unref(&rooms, index[(i * 7u + 3) % 5000]);
        assert_int_equal(rooms.n_live, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_room_lives_as_long_as_somebody_holds_it),
        TEST(test_equal_hashes_are_told_apart_by_namespace_and_name),
        TEST(test_the_last_member_takes_the_place_of_the_one_that_left),
        TEST(test_thousands_of_rooms_are_all_found_while_tables_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
