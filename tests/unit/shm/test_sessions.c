/* test_sessions.c: identities, their owners, and what is left when an owner is killed. */
#include "lib/shm_fixture.h"
#include "shm/sessions.h"

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

static bool found(enum shm_session_kind kind, uint32_t index, const uint8_t id[15])
{
    uint32_t owner, local;
    uint16_t nsp;

    return session_find(&fixture.master, kind, index, id, &owner, &local, &nsp);
}

static void test_an_identity_leads_to_its_owner(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[1]);
    uint8_t id[15];
    uint32_t owner, local, index;
    uint16_t nsp;

    (void)state;
    index = session_claim(s, SESSION_SOCKET, 4711, 12, id);
    assert_int_not_equal(index, SESSION_NONE);
    assert_int_equal(id[0] << 16 | id[1] << 8 | id[2], index);
    assert_true(session_find(&fixture.views[2], SESSION_SOCKET, index, id, &owner, &local, &nsp));
    assert_int_equal(owner, 1);
    assert_int_equal(local, 4711);
    assert_int_equal(nsp, 12);
    assert_int_equal(session_owner(&fixture.master, index), 1);
    assert_int_equal(sessions_used(s), 1);
    sessions_free(s);
}

static void test_a_socket_exists_until_it_is_released_and_while_it_changes(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[1]);
    uint8_t id[15], sid[15];
    uint32_t index = session_claim(s, SESSION_SOCKET, 1, 0, id);
    uint32_t engine = session_claim(s, SESSION_ENGINE, 1, 0, sid);
    struct shm_session *e = &fixture.master.sessions[index];

    (void)state;
    assert_true(session_exists(&fixture.master, index, id));
    assert_false(session_exists(&fixture.master, engine, sid));
    assert_false(session_exists(&fixture.master, UINT32_MAX, id));
    session_detach(&fixture.master, index);
    assert_false(found(SESSION_SOCKET, index, id));
    assert_true(session_exists(&fixture.master, index, id));
    id[14] ^= 1;
    assert_false(session_exists(&fixture.master, index, id));
    e->stamp |= 1; /* somebody is writing: who knows? */
    assert_true(session_exists(&fixture.master, index, id));
    e->stamp++;
    session_release(s, index);
    id[14] ^= 1;
    assert_false(session_exists(&fixture.master, index, id));
    sessions_free(s);
}

static void test_every_bit_of_an_id_counts(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[0]);
    uint8_t id[15];
    uint32_t index = session_claim(s, SESSION_ENGINE, 1, 0, id);

    (void)state;
    for (uint32_t bit = 0; bit < 120; bit++) {
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(found(SESSION_ENGINE, index, id));
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(found(SESSION_ENGINE, index, id));
    assert_false(found(SESSION_SOCKET, index, id)); /* the other kind */
    assert_false(found(SESSION_ENGINE, index + 1, id));
    sessions_free(s);
}

static void test_an_index_out_of_range_is_nobodys(void **state)
{
    static const uint8_t zeros[15];
    uint32_t n = fixture.master.header->sessions_per_slot * 3;

    (void)state;
    assert_int_equal(session_owner(&fixture.master, n - 1), 2);
    assert_int_equal(session_owner(&fixture.master, n), -1);
    assert_int_equal(session_owner(&fixture.master, UINT32_MAX), -1);
    assert_false(found(SESSION_SOCKET, n, zeros));
    assert_false(found(SESSION_SOCKET, UINT32_MAX, zeros));
    assert_false(found(SESSION_SOCKET, 0, zeros)); /* free entries have no identity */
}

static void test_a_released_identity_is_gone_and_its_index_rests(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[0]);
    uint8_t id[15], other[15];
    uint32_t index = session_claim(s, SESSION_SOCKET, 1, 1, id);

    (void)state;
    session_release(s, index);
    assert_int_equal(sessions_used(s), 0);
    assert_false(found(SESSION_SOCKET, index, id));
    for (int i = 0; i < 256; i++)
        assert_int_not_equal(session_claim(s, SESSION_SOCKET, 1, 1, other), index);
    sessions_free(s);
}

static void test_a_table_is_used_to_the_last_entry_and_again(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[2]);
    uint32_t n = fixture.master.header->sessions_per_slot;
    bool *seen = calloc(n, sizeof *seen);
    uint8_t id[15];

    (void)state;
    assert_non_null(seen);
    for (int round = 0; round < 3; round++) {
        memset(seen, 0, n * sizeof *seen);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t index = session_claim(s, SESSION_ENGINE, i, 0, id);

            assert_in_range(index, 2 * n, 3 * n - 1);
            assert_false(seen[index - 2 * n]);
            seen[index - 2 * n] = true;
        }
        assert_int_equal(session_claim(s, SESSION_ENGINE, 0, 0, id), SESSION_NONE);
        assert_int_equal(sessions_used(s), n);
        for (uint32_t i = 0; i < n; i++)
            session_release(s, 2 * n + i);
    }
    free(seen);
    sessions_free(s);
}

static void test_sockets_and_engine_sessions_take_from_their_ends_and_then_from_each_others(
    void **state)
{
    struct sessions *s = sessions_new(&fixture.views[1]);
    uint32_t n = fixture.master.header->sessions_per_slot;
    uint32_t n_sockets = 0;
    uint32_t last = SESSION_NONE;
    uint8_t id[15];

    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(session_claim(s, SESSION_SOCKET, i, 0, id), n + i);
        assert_int_equal(session_claim(s, SESSION_ENGINE, i, 0, id), 2 * n - 1 - i);
    }
    for (uint32_t i = 0; i < 300; i++) {
        session_release(s, n + i);
        session_release(s, 2 * n - 1 - i);
    }
    for (uint32_t i = 0; i < 44; i++) { /* of each, those that do not rest */
        assert_in_range(session_claim(s, SESSION_SOCKET, i, 0, id), n, n + 43);
        assert_in_range(session_claim(s, SESSION_ENGINE, i, 0, id), 2 * n - 44, 2 * n - 1);
    }
    for (uint32_t index; (index = session_claim(s, SESSION_SOCKET, 0, 0, id)) != SESSION_NONE;
         n_sockets++)
        last = index;
    assert_int_equal(n_sockets, n - 88);
    assert_in_range(last, 2 * n - 300, 2 * n - 1); /* the other end's, which rested */
    session_release(s, last);
    assert_int_equal(session_claim(s, SESSION_ENGINE, 0, 0, id), last);
    assert_int_equal(session_claim(s, SESSION_ENGINE, 0, 0, id), SESSION_NONE);
    assert_int_equal(sessions_used(s), n);
    sessions_free(s);
}

static void test_few_connections_touch_few_pages(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[0]);
    const struct shm_header *h = fixture.master.header;
    uint8_t id[15];

    (void)state;
    for (int i = 0; i < 10000; i++)
        session_release(s, session_claim(s, SESSION_SOCKET, 0, 0, id));
    /* 256 resting and one more: 257 entries of 32 bytes are three pages. */
    assert_int_equal(lseek(fixture.master.fd, (off_t)h->sessions_offset, SEEK_HOLE),
                     (off_t)h->sessions_offset + 3 * 4096);
    sessions_free(s);
}

static void test_ids_do_not_repeat(void **state)
{
    static uint8_t ids[1000][15];
    struct sessions *s = sessions_new(&fixture.views[0]);

    (void)state;
    for (int i = 0; i < 1000; i++) {
        session_release(s, session_claim(s, SESSION_ENGINE, 0, 0, ids[i]));
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(ids[i] + 7, ids[j] + 7, 8);
    }
    sessions_free(s);
}

static void test_clearing_a_dead_slot_frees_all_its_entries_and_no_others(void **state)
{
    struct sessions *zero = sessions_new(&fixture.views[0]);
    struct sessions *one = sessions_new(&fixture.views[1]);
    struct sessions *two = sessions_new(&fixture.views[2]);
    uint8_t ids[3][500][15];
    uint32_t at[3][500];

    (void)state;
    for (uint32_t i = 0; i < 500; i++) {
        at[0][i] = session_claim(zero, SESSION_SOCKET, i, 0, ids[0][i]);
        at[1][i] = session_claim(one, SESSION_SOCKET, i, 0, ids[1][i]);
        at[2][i] = session_claim(two, SESSION_SOCKET, i, 0, ids[2][i]);
    }
    sessions_clear(&fixture.master, 1);
    for (uint32_t i = 0; i < 500; i++) {
        assert_true(found(SESSION_SOCKET, at[0][i], ids[0][i]));
        assert_false(found(SESSION_SOCKET, at[1][i], ids[1][i]));
        assert_true(found(SESSION_SOCKET, at[2][i], ids[2][i]));
    }
    sessions_free(zero);
    sessions_free(one);
    sessions_free(two);
}

static void test_a_kill_in_mid_change_blocks_no_reader_and_no_successor(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[1]);
    struct shm_session *e;
    uint8_t id[15];
    uint32_t index = session_claim(s, SESSION_SOCKET, 5, 0, id);
    uint64_t stamp;

    (void)state;
    e = &fixture.master.sessions[index];
    e->stamp++; /* where the kill left it */
    stamp = e->stamp;
    assert_int_equal(stamp & 1, 1);
    assert_false(found(SESSION_SOCKET, index, id)); /* and it does return */
    sessions_clear(&fixture.master, 1);
    assert_int_equal(e->stamp & 1, 0);
    assert_true(e->stamp > stamp);
    assert_int_equal(e->kind, SESSION_FREE);
    sessions_free(s);

    s = sessions_new(&fixture.views[1]); /* the successor */
    assert_int_equal(session_claim(s, SESSION_SOCKET, 6, 0, id), index);
    assert_true(found(SESSION_SOCKET, index, id));
    sessions_free(s);
}

static void test_a_stamp_never_comes_back(void **state)
{
    struct sessions *s = sessions_new(&fixture.views[1]);
    uint8_t id[15];
    uint32_t index = session_claim(s, SESSION_SOCKET, 5, 0, id);
    const struct shm_session *e = &fixture.master.sessions[index];
    uint64_t stamp = e->stamp;

    (void)state;
    session_release(s, index);
    assert_true(e->stamp > stamp);
    stamp = e->stamp;
    sessions_clear(&fixture.master, 1); /* nothing to clear */
    assert_true(e->stamp >= stamp);
    sessions_free(s);
}

/* How many ends of sockets of `slots` are to be told; the last one. */
static uint32_t told(uint64_t slots, struct session_untold *end)
{
    struct session_walk walk = { 0 };
    uint32_t n = 0;

    while (!sessions_walked(&fixture.master, &walk)) {
        uint32_t budget = 7; /* in pieces */

        n += sessions_next_untold(&fixture.master, slots, &walk, &budget, end);
    }
    return n;
}

static void test_ends_of_a_dead_workers_forwarded_sockets_are_told_once(void **state)
{
    uint32_t per_slot = fixture.master.header->sessions_per_slot;
    struct session_untold end;
    struct sessions *s;
    uint8_t id[15], other[15];
    uint32_t index;

    (void)state;
    shm_fixture_forward(&fixture, 3);
    shm_fixture_name(&fixture, 4);
    s = sessions_new(&fixture.views[1]);
    index = session_claim(s, SESSION_SOCKET, 9, 3, id);
    /* of another application, and no socket */
    assert_int_not_equal(session_claim(s, SESSION_SOCKET, 9, 4, other), SESSION_NONE);
    assert_int_not_equal(session_claim(s, SESSION_ENGINE, 9, 3, other), SESSION_NONE);
    session_release(s, session_claim(s, SESSION_SOCKET, 9, 3, other)); /* it has told itself */
    sessions_free(s);
    assert_int_equal(told(UINT64_MAX, &end), 0); /* its worker lives */
    sessions_clear(&fixture.master, 1);
    sessions_clear(&fixture.master, 1); /* dead twice: it is told all the same */
    assert_false(found(SESSION_SOCKET, index, id));

    s = sessions_new(&fixture.views[1]);
    assert_int_equal(sessions_used(s), 1);
    for (uint32_t i = 1; i < per_slot; i++)
        assert_int_not_equal(session_claim(s, SESSION_ENGINE, 0, 0, other), index);
    assert_int_equal(session_claim(s, SESSION_ENGINE, 0, 0, other), SESSION_NONE);
    sessions_collect(s, 0, 100);
    assert_int_equal(sessions_used(s), per_slot);

    assert_int_equal(told(1ull << 0 | 1ull << 2, &end), 0); /* others' */
    assert_int_equal(told(1ull << 1, &end), 1);
    assert_memory_equal(end.id, id, sizeof id);
    assert_int_equal(end.nsp, 3);
    assert_int_equal(told(UINT64_MAX, &end), 0);
    sessions_collect(s, 0, 100);
    assert_int_equal(session_claim(s, SESSION_ENGINE, 0, 0, other), index);
    sessions_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_identity_leads_to_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_socket_exists_until_it_is_released_and_while_it_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_bit_of_an_id_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_index_out_of_range_is_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_released_identity_is_gone_and_its_index_rests, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_table_is_used_to_the_last_entry_and_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_sockets_and_engine_sessions_take_from_their_ends_and_then_from_each_others, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_few_connections_touch_few_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_do_not_repeat, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_clearing_a_dead_slot_frees_all_its_entries_and_no_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_in_mid_change_blocks_no_reader_and_no_successor,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stamp_never_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_of_a_dead_workers_forwarded_sockets_are_told_once,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
