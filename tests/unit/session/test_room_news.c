/* test_room_news.c: what the bridge is told of rooms: in order, once, also through a full ring, and all of it when it asks. */
#include "lib/shm_fixture.h"
#include "session/room_news.h"
#include "shm/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct shm_fixture fixture;
static struct config config;
static struct hub h;
static uint64_t at;
static char told[1 << 20];

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 1, RING_BYTES_MIN);
    memset(&h, 0, sizeof h);
    config = (struct config){ .redis_sharded = true, .redis.enabled = true };
    h.config = &config;
    h.region = fixture.views[0];
    h.slot = &h.region.header->slots[0];
    h.row = &h.region.counters[0];
    ring_open(&h.ring, &h.region);
    assert_true(namespace_reserve(&fixture.master, slice_text("/"), 0));
    assert_true(namespace_reserve(&fixture.master, slice_text("/chat"), 1));
    assert_true(room_news_new(&h, &h.news));
    assert_int_equal(rooms_init(&h.rooms, &h.region, directory_new(&h.region), h.news), 0);
    at = ring_tail(&h.ring);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    room_news_free(h.news);
    directory_free(h.rooms.directory);
    rooms_destroy(&h.rooms);
    shm_fixture_destroy(&fixture);
    return 0;
}

/* Everything in the ring since the last call: "+room -room [ ] ", with the namespace when it changes. */
static const char *heard(void)
{
    static uint8_t bytes[1 << 17];
    char nsp[NAME_BYTES_MAX + 1] = "";
    uint32_t n_bytes;

    told[0] = '\0';
    while (ring_copy(&h.ring, at, bytes, sizeof bytes, &n_bytes) == HISTORY_OK) {
        struct record_view view;
        struct slice part, name;
        enum room_news_op op;
        uint32_t from = 0;
        uint8_t opcode;

        at += (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
        assert_true(record_view(&view, bytes, n_bytes));
        assert_int_equal(view.header->kind, RECORD_ROOM_NEWS);
        assert_int_equal(view.header->targets, 1ull << PEAL_SLOT_BRIDGE);
        if (!slice_is(view.nsp, nsp)) {
            (void)snprintf(nsp, sizeof nsp, "%.*s", (int)view.nsp.n_bytes, view.nsp.bytes);
            (void)snprintf(told + strlen(told), sizeof told - strlen(told), "%s: ", nsp);
        }
        part = record_part(&view, 0, &opcode);
        while (room_news_next(part, &from, &op, &name))
            (void)snprintf(told + strlen(told), sizeof told - strlen(told), "%c%.*s ", "-+[]"[op],
                           (int)name.n_bytes, name.bytes);
        assert_int_equal(from, part.n_bytes);
    }
    return told;
}

static uint32_t join(uint16_t nsp, const char *name)
{
    struct slice room = slice_text(name);
    uint64_t hash = record_hash(h.region.header->hash_key, namespace_name(&h.region, nsp), room);
    uint32_t index = room_ref(&h.rooms, hash, nsp, room);

    assert_int_not_equal(index, ROOM_NONE);
    return index;
}

static void flush(void)
{
    h.n_appended = 0;
    while (!room_news_flush(&h))
        ring_bells(&h.ring);
    ring_bells(&h.ring);
}

static void test_rooms_that_come_and_go_are_told_in_order(void **state)
{
    uint16_t chat = (uint16_t)namespace_find(&h.region, slice_text("/chat"));
    uint16_t root = (uint16_t)namespace_find(&h.region, slice_text("/"));
    uint32_t a, b;

    (void)state;
    flush();
    assert_string_equal(heard(), "");
    a = join(root, "a");
    (void)join(root, "a"); /* there already */
    b = join(chat, "b");
    room_unref(&h.rooms, a);
    flush();
    assert_string_equal(heard(), "/: +a /chat: +b ");
    room_unref(&h.rooms, a);
    room_unref(&h.rooms, b);
    b = join(chat, "b");
    flush();
    assert_string_equal(heard(), "/: -a /chat: -b +b ");
    room_unref(&h.rooms, b);
    /* the room that is the whole namespace is no news */
    a = room_ref(&h.rooms, 5, root, (struct slice){ NULL, 0 });
    room_unref(&h.rooms, a);
    flush();
    assert_string_equal(heard(), "/chat: -b ");
}

static void test_everything_is_told_when_the_bridge_asks(void **state)
{
    uint16_t root = (uint16_t)namespace_find(&h.region, slice_text("/"));
    uint32_t rooms[3000];
    const char *from;
    uint32_t n = 0;

    (void)state;
    for (uint32_t i = 0; i < 3000; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "r%u", i);
        rooms[i] = join(root, name);
    }
    flush();
    (void)heard();
    room_unref(&h.rooms, rooms[7]); /* noted, not told: what follows says it anyway */
    room_news_tell_all(h.news);
    for (uint32_t i = 0; i < 2; i++)
        assert_false(room_news_flush(&h)); /* a part of it in each turn */
    room_unref(&h.rooms, rooms[0]);
    room_unref(&h.rooms, rooms[2999]);
    flush();
    from = heard();
    assert_int_equal(strncmp(from, "/: [", 4), 0);
    assert_string_equal(from + strlen(from) - 2, "] ");
    assert_non_null(strstr(from, "+r1 "));
    assert_non_null(strstr(from, "+r0 "));
    assert_true(strstr(from, "-r0 ") > strstr(from, "+r0 "));
    assert_non_null(strstr(from, "-r2999 "));
    assert_null(strstr(from, "+r2999 "));
    assert_null(strstr(from, "r7 "));
    for (; (from = strchr(from, '+')) != NULL; from++)
        n++;
    assert_int_equal(n, 2998);
    flush();
    assert_string_equal(heard(), "");
    for (uint32_t i = 1; i < 2999; i++)
        if (i != 7)
            room_unref(&h.rooms, rooms[i]);
}

static void test_a_full_ring_delays_and_too_much_begins_anew(void **state)
{
    uint16_t root = (uint16_t)namespace_find(&h.region, slice_text("/"));
    char name[200];
    uint32_t room, kept = join(root, "kept");
    const char *from;

    (void)state;
    flush();
    (void)heard();
    ring_consumer_add(&h.ring, 0, at); /* a consumer that does not move: the ring fills */
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (uint32_t i = 0; i < 12000; i++) {
        room = join(root, name);
        room_unref(&h.rooms, room);
        if (i % 100 == 0 && !room_news_flush(&h))
            ring_bells(&h.ring);
    }
    assert_false(room_news_flush(&h));
    ring_consumer_remove(&h.ring, 0);
    at = ring_tail(&h.ring);
    flush();
    from = heard();
    assert_non_null(strstr(from, "["));
    assert_true(strstr(from, "+kept ") > strstr(from, "["));
    assert_string_equal(from + strlen(from) - 2, "] ");
    room_unref(&h.rooms, kept);
}

static void test_nobody_wants_news_without_the_sharded_adapter(void **state)
{
    struct room_news *news = (struct room_news *)1;

    (void)state;
    config.redis_subscription_mode = CONFIG_SUBSCRIPTIONS_STATIC;
    assert_true(room_news_new(&h, &news));
    assert_null(news);
    config.redis_subscription_mode = CONFIG_SUBSCRIPTIONS_DYNAMIC;
    config.redis_sharded = false;
    assert_true(room_news_new(&h, &news));
    assert_null(news);
    room_news_note(NULL, &h.region, 0, slice_text("a"), true);
    room_news_tell_all(NULL);
}

static void test_what_is_no_list_of_news_ends_it(void **state)
{
    static const char *const bad[] = { "", "\1", "\1\5abc", "\4\0" };
    enum room_news_op op;
    struct slice name;
    uint32_t from = 0;

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(room_news_next(slice_of(bad[i], i == 3 ? 2 : (uint32_t)strlen(bad[i])), &from,
                                    &op, &name));
    assert_int_equal(from, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_rooms_that_come_and_go_are_told_in_order),
        CASE(test_everything_is_told_when_the_bridge_asks),
        CASE(test_a_full_ring_delays_and_too_much_begins_anew),
        CASE(test_nobody_wants_news_without_the_sharded_adapter),
        CASE(test_what_is_no_list_of_news_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
