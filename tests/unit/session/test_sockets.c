/* test_sockets.c: tables of sessions and sockets; and random joins and leaves against a model that is one table of bits. */
#include "lib/shm_fixture.h"
#include "session/sockets.h"
#include "shm/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SOCKS 24
#define ROOMS 10
#define NSPS  2
#define KEY   (fixture.master.header->hash_key)

static struct shm_fixture fixture;
static struct rooms rooms;
static struct sockets sockets;

static int setup(void **state)
{
    struct directory *directory;

    (void)state;
    shm_fixture_init(&fixture, 1, 1u << 20);
    directory = directory_new(&fixture.views[0]);
    assert_non_null(directory);
    assert_int_equal(rooms_init(&rooms, &fixture.views[0], directory, NULL), 0);
    for (uint32_t nsp = 0; nsp < NSPS; nsp++)
        shm_fixture_name(&fixture, nsp);
    assert_int_equal(sockets_init(&sockets, 4, SOCKS), 0);
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

static struct sock *new_sock(uint16_t nsp)
{
    uint32_t index = sock_new(&sockets);

    assert_int_not_equal(index, SOCK_NONE);
    sock_at(&sockets, index)->nsp = nsp;
    sock_at(&sockets, index)->conn = 100 + index;
    sock_become(sock_at(&sockets, index), SOCK_PENDING);
    return sock_at(&sockets, index);
}

static void test_tables_are_bounded_and_each_life_has_a_generation(void **state)
{
    uint32_t first = session_new(&sockets);
    uint32_t generation = session_at(&sockets, first)->generation;

    (void)state;
    for (uint32_t i = 1; i < 4; i++)
        assert_int_not_equal(session_new(&sockets), SOCK_NONE);
    assert_int_equal(session_new(&sockets), SOCK_NONE);
    session_at(&sockets, first)->handshake = calloc(1, 64); /* one without User-Agent */
    session_free(&sockets, first);
    assert_int_equal(sockets.n_sessions, 3);
    assert_int_equal(session_new(&sockets), first);
    assert_int_not_equal(session_at(&sockets, first)->generation, generation);
    assert_null(session_at(&sockets, first)->handshake);
    assert_int_equal(session_at(&sockets, first)->identity, SESSION_NONE);
}

static void test_a_freed_socket_is_of_another_generation_at_once(void **state)
{
    struct sock *k = new_sock(0);
    uint32_t generation = k->generation;

    (void)state;
    sockets.auths[sock_index(&sockets, k)] = malloc(3);
    sock_free(&sockets, sock_index(&sockets, k));
    assert_int_not_equal(k->generation, generation);
    assert_int_equal(k->state, SOCK_FREE);
    for (uint32_t i = 0; i < SOCKS; i++)
        (void)new_sock(0);
    assert_int_equal(sock_new(&sockets), SOCK_NONE);
    assert_int_equal(sockets.n_socks, SOCKS);
    assert_null(sockets.auths[sock_index(&sockets, k)]);
    assert_true(k->generation > generation);
}

static void test_a_session_finds_its_sockets_by_namespace(void **state)
{
    struct session *n = session_at(&sockets, session_new(&sockets));
    struct sock *k[3];

    (void)state;
    for (uint16_t i = 0; i < 3; i++) {
        k[i] = new_sock(i);
        session_link(&sockets, n, k[i]);
    }
    for (uint16_t i = 0; i < 3; i++) {
        assert_ptr_equal(session_find_sock(&sockets, n, i), k[i]);
        assert_int_equal(k[i]->session, session_index(&sockets, n));
    }
    session_unlink(&sockets, n, k[1]);
    assert_null(session_find_sock(&sockets, n, 1));
    assert_ptr_equal(session_find_sock(&sockets, n, 0), k[0]);
    session_unlink(&sockets, n, k[2]);
    session_unlink(&sockets, n, k[0]);
    assert_int_equal(n->first_sock, SOCK_NONE);
    assert_int_equal(n->n_socks, 0);
}

static void test_entering_twice_or_leaving_what_one_is_not_in_changes_nothing(void **state)
{
    struct sock *k = new_sock(0);
    uint32_t room = room_ref(&rooms, 1, 0, slice_text("r"));

    (void)state;
    assert_true(sock_enter(&sockets, &rooms, k, room));
    assert_int_equal(room_ref(&rooms, 1, 0, slice_text("r")), room);
    assert_false(sock_enter(&sockets, &rooms, k, room)); /* drops that reference */
    assert_int_equal(room_at(&rooms, room)->refs, 1);
    assert_int_equal(room_at(&rooms, room)->n_members, 1);
    assert_true(sock_leave(&sockets, &rooms, k, room));
    assert_false(sock_leave(&sockets, &rooms, k, room));
    assert_int_equal(rooms.n_live, 0);
    sock_leave_all(&sockets, &rooms, k);
    sock_free(&sockets, sock_index(&sockets, k));
}

/* --- random steps --- */

struct model {
    struct sock *socks[SOCKS];
    bool active[SOCKS];
    bool in[SOCKS][ROOMS];
    uint32_t first_room[SOCKS]; /* ROOMS: none */
    uint32_t seed;
};

static uint32_t any(struct model *m, uint32_t below)
{
    m->seed = m->seed * 1664525 + 1013904223;
    return (m->seed >> 8) % below;
}

static struct slice nsp_name(uint32_t nsp)
{
    return slice_text(nsp == 0 ? "/" : "/other");
}

/* Names are the same in both namespaces. */
static struct slice name_of(uint32_t r)
{
    static char name[ROOMS][4];

    return slice_of(name[r], (uint32_t)snprintf(name[r], sizeof name[r], "r%u", r));
}

static uint64_t hash_of(uint32_t nsp, uint32_t r)
{
    return record_hash(KEY, nsp_name(nsp), name_of(r));
}

static uint64_t hash_of_all(uint32_t nsp)
{
    return record_hash(KEY, nsp_name(nsp), (struct slice){ NULL, 0 });
}

static uint32_t found(uint32_t nsp, uint32_t r)
{
    return room_find(&rooms, hash_of(nsp, r), (uint16_t)nsp, name_of(r));
}

static uint32_t held(uint32_t nsp, uint32_t r)
{
    uint32_t room = room_ref(&rooms, hash_of(nsp, r), (uint16_t)nsp, name_of(r));

    assert_int_not_equal(room, ROOM_NONE);
    return room;
}

static void check_room(const struct model *m, uint32_t nsp, uint32_t r)
{
    uint32_t room = found(nsp, r);
    uint32_t n_members = 0, n_held = 0;

    for (uint32_t i = 0; i < SOCKS; i++) {
        const struct sock *k = m->socks[i];

        if (k == NULL || k->nsp != nsp)
            continue;
        n_members += m->in[i][r];
        n_held += m->first_room[i] == r;
        assert_int_equal(room != ROOM_NONE && sock_in_room(k, room), m->in[i][r]);
    }
    assert_int_equal(room != ROOM_NONE, n_members + n_held > 0);
    assert_int_equal(directory_members(&fixture.master, record_bucket(hash_of(nsp, r))) != 0,
                     room != ROOM_NONE);
    if (room == ROOM_NONE)
        return;
    assert_int_equal(room_at(&rooms, room)->n_members, n_members);
    assert_int_equal(room_at(&rooms, room)->refs, n_members + n_held);
}

/* Each membership names the place where the room has this socket. */
static void check_back_references(const struct sock *k, bool active)
{
    uint32_t index = sock_index(&sockets, k);

    for (uint32_t i = 0; i < k->n_rooms; i++) {
        struct room *room = room_at(&rooms, k->rooms[i].room);

        assert_true(k->rooms[i].at < room->n_members);
        assert_int_equal(room_members(room)[k->rooms[i].at].sock, index);
        assert_int_equal(room_members(room)[k->rooms[i].at].conn, k->conn);
    }
    if (active) {
        struct room *everyone = room_at(&rooms, sockets.everyone[k->nsp]);

        assert_true(k->everyone_at < everyone->n_members);
        assert_int_equal(room_members(everyone)[k->everyone_at].sock, index);
    }
}

static void check(const struct model *m)
{
    uint32_t n_active[NSPS] = { 0 };

    for (uint32_t i = 0; i < SOCKS; i++) {
        uint32_t n = 0;

        if (m->socks[i] == NULL)
            continue;
        check_back_references(m->socks[i], m->active[i]);
        for (uint32_t r = 0; r < ROOMS; r++)
            n += m->in[i][r];
        assert_int_equal(m->socks[i]->n_rooms, n);
        n_active[m->socks[i]->nsp] += m->active[i];
    }
    for (uint32_t nsp = 0; nsp < NSPS; nsp++) {
        uint32_t everyone = sockets.everyone[nsp];

        for (uint32_t r = 0; r < ROOMS; r++)
            check_room(m, nsp, r);
        assert_int_equal(everyone != ROOM_NONE, n_active[nsp] > 0);
        if (everyone != ROOM_NONE)
            assert_int_equal(room_at(&rooms, everyone)->n_members, n_active[nsp]);
    }
}

static void step_come(struct model *m, uint32_t i)
{
    m->socks[i] = new_sock((uint16_t)any(m, NSPS));
    m->active[i] = false;
    m->first_room[i] = ROOMS;
    memset(m->in[i], 0, sizeof m->in[i]);
    if (any(m, 4) == 0) { /* a plain client publishes to a room that it may leave */
        m->first_room[i] = any(m, ROOMS);
        m->socks[i]->first_room = held(m->socks[i]->nsp, m->first_room[i]);
    }
}

static void step_activate(struct model *m, uint32_t i)
{
    struct sock *k = m->socks[i];

    if (m->active[i])
        return;
    sock_become(k, SOCK_ACTIVATING);
    assert_true(sock_enter_namespace(&sockets, &rooms, k, hash_of_all(k->nsp)));
    sock_become(k, SOCK_ACTIVE);
    m->active[i] = true;
}

static void step_go(struct model *m, uint32_t i)
{
    sock_leave_all(&sockets, &rooms, m->socks[i]);
    sock_free(&sockets, sock_index(&sockets, m->socks[i]));
    m->socks[i] = NULL;
}

static void step(struct model *m)
{
    uint32_t i = any(m, SOCKS);
    uint32_t r = any(m, ROOMS);
    uint32_t what = any(m, 100);
    struct sock *k = m->socks[i];

    if (k == NULL) {
        step_come(m, i);
    } else if (what < 5) {
        step_go(m, i);
    } else if (what < 20) {
        step_activate(m, i);
    } else if (what < 25) {
        sock_move(&sockets, &rooms, k,
                  1000 + any(m, 100)); /* an upgrade: every place says so (check_room) */
    } else if (what < 65) {
        assert_int_equal(sock_enter(&sockets, &rooms, k, held(k->nsp, r)), !m->in[i][r]);
        m->in[i][r] = true;
    } else if (found(k->nsp, r) != ROOM_NONE) {
        assert_int_equal(sock_leave(&sockets, &rooms, k, found(k->nsp, r)), m->in[i][r]);
        m->in[i][r] = false;
    }
}

static void test_random_joins_and_leaves_leave_what_the_model_says(void **state)
{
    static struct model model;

    (void)state;
    for (uint32_t round = 1; round <= 3; round++) {
        print_message("round %u\n", round);
        model = (struct model){ .seed = round };
        for (uint32_t i = 0; i < 4000; i++) {
            step(&model);
            check(&model);
        }
        for (uint32_t i = 0; i < SOCKS; i++)
            if (model.socks[i] != NULL)
                step_go(&model, i);
        check(&model);
        assert_int_equal(rooms.n_live, 0);
        assert_int_equal(sockets.n_socks, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tables_are_bounded_and_each_life_has_a_generation),
        TEST(test_a_freed_socket_is_of_another_generation_at_once),
        TEST(test_a_session_finds_its_sockets_by_namespace),
        TEST(test_entering_twice_or_leaving_what_one_is_not_in_changes_nothing),
        TEST(test_random_joins_and_leaves_leave_what_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
