/* test_recoverable.c: sockets that outlive their connection: rooms that survive a kill at any moment, one claimer, and entries that are used again. */
#include <signal.h>
#include <stdbool.h>

static void moment(void);
#define RECOVERABLE_MOMENT() moment()
#include "lib/shm_fixture.h"
#include "shm/recoverable.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#define WORKERS 3
#define NSP     7

static struct shm_fixture fixture;
static struct sessions *sessions[WORKERS];
static struct recoverables *parts[WORKERS];
static int moments_left = -1; /* the process kills itself at the last one; -1: never */

static void moment(void)
{
    if (moments_left > 0 && --moments_left == 0)
        raise(SIGKILL);
}

static void open_worker(uint32_t slot)
{
    sessions[slot] = sessions_new(&fixture.views[slot]);
    parts[slot] = recoverables_new(&fixture.views[slot]);
    assert_non_null(sessions[slot]);
    assert_non_null(parts[slot]);
}

/* As the master does it; the successor starts. */
static uint32_t reap_worker(uint32_t slot, uint64_t cursor, uint64_t expires_ms)
{
    uint32_t n = recoverables_reap(&fixture.master, slot, cursor, expires_ms);

    sessions_clear(&fixture.master, slot);
    fixture.master.header->slots[slot].arenas = 0;
    sessions_free(sessions[slot]);
    recoverables_free(parts[slot]);
    open_worker(slot);
    return n;
}

static int setup(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    fixture.config.workers = WORKERS;
    fixture.config.ring_bytes = 1u << 20;
    fixture.config.max_connections_per_worker = 256;
    fixture.config.recovery_ms = 60000;
    if (region_create(&fixture.master, &fixture.config) != 0)
        abort();
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        fixture.master.bells[slot] = -1;
        fixture.views[slot] = fixture.master;
        fixture.views[slot].self = slot;
    }
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        open_worker(slot);
    moments_left = -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t slot = 0; slot < WORKERS; slot++) {
        sessions_free(sessions[slot]);
        recoverables_free(parts[slot]);
    }
    shm_fixture_destroy(&fixture);
    return 0;
}

static uint32_t open_socket(uint32_t slot, uint64_t position, uint8_t pid[PID_BYTES])
{
    uint8_t id[15];
    uint32_t index = session_claim(sessions[slot], SESSION_SOCKET, 3, NSP, id);

    assert_int_not_equal(index, SESSION_NONE);
    recoverable_prepare(sessions[slot], &fixture.views[slot], index);
    recoverable_pid(&fixture.master, index, pid);
    recoverable_open(&fixture.views[slot], index, position);
    return index;
}

static struct slice name_of(uint32_t i)
{
    static char names[80][256];
    uint32_t n = 20 + i * 3 % 200;

    memset(names[i], 'a' + (int)(i % 26), n);
    (void)snprintf(names[i], 12, "room %u", i);
    names[i][strlen(names[i])] = ' ';
    return slice_of(names[i], n);
}

static void joined(uint32_t slot, uint32_t index, uint32_t room, uint64_t since)
{
    assert_true(recoverable_join(parts[slot], index, name_of(room), since, since));
}

static uint32_t rooms_of(uint32_t index, uint64_t *since_sum)
{
    static uint8_t bytes[RECOVERY_ROOMS_BYTES_MAX];
    uint32_t n_bytes, at = 0, n = 0;
    struct slice name;
    uint64_t since;

    *since_sum = 0;
    assert_true(recoverable_rooms(&fixture.master, index, bytes, &n_bytes));
    while (recoverable_next_room(slice_of(bytes, n_bytes), &at, &name, &since)) {
        assert_true(slice_equal(name, name_of(n)));
        *since_sum += since;
        n++;
    }
    assert_int_equal(at, n_bytes);
    return n;
}

static enum recovery_claim claim(uint32_t slot, const uint8_t pid[PID_BYTES], uint64_t now_ms)
{
    uint32_t index;
    uint64_t word;

    return recoverable_claim(&fixture.views[slot], pid, NSP, now_ms, &index, &word);
}

static void test_rooms_are_kept_in_one_piece_whatever_their_number(void **state)
{
    uint8_t pid[PID_BYTES];
    uint32_t index = open_socket(0, 5, pid);
    uint64_t sum, expected = 0;

    (void)state;
    assert_int_equal(rooms_of(index, &sum), 0);
    for (uint32_t i = 0; i < 64; i++) {
        joined(0, index, i, 100 + i);
        expected += 100 + i;
        assert_int_equal(rooms_of(index, &sum), i + 1);
        assert_true(sum == expected);
    }
    for (uint32_t i = 64; i-- > 0;) {
        assert_true(recoverable_leave(parts[0], index, name_of(i), 200));
        assert_int_equal(rooms_of(index, &sum), i);
    }
    /* superseded chains were freed: no more blocks are touched than two copies need */
    assert_true(parts[0]->n_fresh < 2 * 64 * 2);
    assert_int_equal(parts[0]->n_free, parts[0]->n_fresh);
}

static void test_too_many_rooms_spoil_and_nothing_leaks(void **state)
{
    uint8_t pid[PID_BYTES];
    uint32_t index = open_socket(0, 5, pid);
    char name[NAME_BYTES_MAX];
    bool fits = true;
    uint32_t n = 0;

    (void)state;
    memset(name, 'x', sizeof name);
    while (fits) {
        memcpy(name, &n, sizeof n);
        fits = recoverable_join(parts[0], index, slice_of(name, sizeof name), 1, 1);
        n++;
    }
    assert_int_equal(n - 1, RECOVERY_ROOMS_BYTES_MAX / (NAME_BYTES_MAX + 9));
    assert_false(recoverable_is_live(&fixture.master, index));
    assert_int_equal(claim(1, pid, 0), CLAIM_UNKNOWN);
    recoverable_release(parts[0], sessions[0], index);
    assert_int_equal(parts[0]->n_free, parts[0]->n_fresh);
    assert_int_equal(sessions_used(sessions[0]), 0);
}

static void test_only_the_whole_pid_of_that_namespace_claims_and_only_once(void **state)
{
    uint8_t pid[PID_BYTES];
    uint32_t index = open_socket(0, 5, pid);
    uint32_t found;
    uint64_t word;

    (void)state;
    assert_int_equal(claim(1, pid, 0), CLAIM_BUSY);
    recoverable_detach(sessions[0], index, 40, 1000);
    for (uint32_t bit = 0; bit < 8 * PID_BYTES; bit++) {
        pid[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(claim(1, pid, 0), CLAIM_UNKNOWN);
        pid[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(recoverable_claim(&fixture.views[1], pid, NSP + 1, 0, &found, &word),
                     CLAIM_UNKNOWN);
    fixture.master.namespaces->entries[NSP].word += 1u << 8; /* another name has the index now */
    assert_int_equal(claim(1, pid, 0), CLAIM_UNKNOWN);
    fixture.master.namespaces->entries[NSP].word -= 1u << 8;
    assert_int_equal(claim(1, pid, 1000), CLAIM_EXPIRED);
    assert_int_equal(claim(1, pid, 999), CLAIM_OK);
    assert_int_equal(claim(2, pid, 999), CLAIM_BUSY);
    assert_int_equal(fixture.master.recovery[index].resume, 40);
}

static void test_a_detached_socket_is_found_by_nobody_and_an_adopted_one_at_its_new_owner(
    void **state)
{
    uint8_t pid[PID_BYTES], id[15];
    uint32_t index = open_socket(0, 5, pid);
    uint32_t owner, local;
    uint16_t nsp;

    (void)state;
    memcpy(id, fixture.master.sessions[index].id, sizeof id);
    assert_true(session_find(&fixture.master, SESSION_SOCKET, index, id, &owner, &local, &nsp));
    recoverable_detach(sessions[0], index, 5, 1000);
    assert_false(session_find(&fixture.master, SESSION_SOCKET, index, id, &owner, &local, &nsp));
    assert_int_equal(claim(2, pid, 0), CLAIM_OK);
    recoverable_adopt(sessions[2], &fixture.views[2], index, 77);
    assert_true(session_find(&fixture.master, SESSION_SOCKET, index, id, &owner, &local, &nsp));
    assert_int_equal(owner, 2);
    assert_int_equal(local, 77);
    assert_int_equal(nsp, NSP);
    assert_int_equal(session_owner(&fixture.master, index), 2);
}

static void test_an_entry_comes_home_when_it_expires_or_is_released_elsewhere(void **state)
{
    uint8_t pids[2][PID_BYTES];
    uint32_t at[2] = { open_socket(0, 5, pids[0]), open_socket(0, 5, pids[1]) };

    (void)state;
    recoverable_detach(sessions[0], at[0], 5, 1000);
    recoverable_detach(sessions[0], at[1], 5, 1000);
    assert_int_equal(claim(1, pids[1], 0), CLAIM_OK);
    recoverable_adopt(sessions[1], &fixture.views[1], at[1], 1);
    joined(1, at[1], 0, 6);
    sessions_collect(sessions[0], 999, 100);
    assert_int_equal(sessions_used(sessions[0]), 2);
    sessions_collect(sessions[0], 1000, 100);
    assert_int_equal(sessions_used(sessions[0]), 1);
    assert_int_equal(claim(1, pids[0], 0), CLAIM_UNKNOWN);
    recoverable_release(parts[1], sessions[1], at[1]);
    sessions_collect(sessions[0], 1000, 100);
    assert_int_equal(sessions_used(sessions[0]), 0);
    assert_int_equal(sessions_used(sessions[1]), 0);
}

/* Whatever is inherited, adopted, released and collected: an index has one holder. */
static void test_no_index_is_handed_out_twice_by_a_successor(void **state)
{
    enum { N = 300 };
    static uint8_t pids[N][PID_BYTES];
    static uint32_t at[N];
    uint32_t per_slot = fixture.master.header->sessions_per_slot;
    bool *held = calloc(per_slot, sizeof *held);
    uint8_t id[15];

    (void)state;
    assert_non_null(held);
    for (uint32_t i = 0; i < N; i++) {
        at[i] = open_socket(0, 5, pids[i]);
        for (uint32_t room = 0; room < 6; room++)
            joined(0, at[i], room, 5);
    }
    assert_int_equal(reap_worker(0, 50, 1000), N);
    for (uint32_t i = 0; i < N;
         i++) { /* a third comes back here, a third elsewhere, a third does not */
        if (i % 3 == 2)
            continue;
        assert_int_equal(claim(i % 3, pids[i], 0), CLAIM_OK);
        recoverable_adopt(sessions[i % 3], &fixture.views[i % 3], at[i], i);
        joined(i % 3, at[i], 6, 60);
        held[at[i]] = i % 3 == 0;
    }
    sessions_collect(sessions[0], 0, 10000);
    for (uint32_t i = 1; i < N; i += 3)
        recoverable_release(parts[1], sessions[1], at[i]);
    sessions_collect(sessions[0], 5000,
                     10000); /* those elsewhere are home, the others have expired */
    for (;;) {
        uint32_t index = session_claim(sessions[0], SESSION_SOCKET, 0, NSP, id);

        if (index == SESSION_NONE)
            break;
        assert_false(held[index]);
        held[index] = true;
        recoverable_prepare(sessions[0], &fixture.views[0], index);
        recoverable_open(&fixture.views[0], index, 70);
        for (uint32_t room = 0; room < (index % 2 ? 4 : 1); room++) /* with a block, or without */
            joined(0, index, room, 70);
    }
    for (uint32_t i = 0; i < per_slot; i++)
        assert_true(held[i]);
    assert_int_equal(sessions_used(sessions[0]), per_slot);
    for (uint32_t i = 0; i < per_slot; i++) {
        uint64_t sum;

        assert_in_range(rooms_of(i, &sum), 1, 7); /* no block is in two chains */
    }
    free(held);
}

static bool is_hole(uint64_t offset, uint64_t n_bytes)
{
    off_t data = lseek(fixture.master.fd, (off_t)offset, SEEK_DATA);

    return data < 0 || (uint64_t)data >= offset + n_bytes;
}

static void test_only_sockets_touch_what_is_kept_of_sockets(void **state)
{
    uint32_t per_slot = fixture.master.header->sessions_per_slot;
    uint64_t table = fixture.master.header->recovery_offset;
    uint64_t arena_bytes = (uint64_t)per_slot * sizeof(struct shm_recovery);
    uint32_t engines[500];
    uint8_t pid[PID_BYTES], sid[15];

    (void)state;
    for (uint32_t i = 0; i < 500; i++)
        engines[i] = session_claim(sessions[1], SESSION_ENGINE, i, 0, sid);
    for (uint32_t i = 0; i < 250; i++)
        session_release(sessions[1], engines[i]);
    assert_int_equal(reap_worker(1, 10, 1000), 0); /* and a successor looks what there is */
    assert_true(is_hole(table + arena_bytes, arena_bytes));
    for (uint32_t i = 0; i < 100; i++)
        joined(1, open_socket(1, 5, pid), 0, 5);
    assert_int_equal(reap_worker(1, 10, 1000), 100);
    assert_false(is_hole(table + arena_bytes, arena_bytes));
    assert_true(is_hole(table + arena_bytes + 5 * 4096, arena_bytes - 5 * 4096));
    assert_true(is_hole(table + 2 * arena_bytes, arena_bytes));
}

static void test_the_dead_s_are_detached_as_of_their_cursor_wherever_they_lie(void **state)
{
    uint8_t pids[4][PID_BYTES];
    uint32_t at[4];
    uint64_t sum;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        at[i] = open_socket(0, 5, pids[i]);
        joined(0, at[i], 0, 5);
    }
    for (uint32_t i = 1; i < 4; i++)
        recoverable_detach(sessions[0], at[i], 10, 1000);
    for (uint32_t i = 1; i < 3; i++)
        assert_int_equal(claim(1, pids[i], 0), CLAIM_OK);
    recoverable_adopt(sessions[1], &fixture.views[1], at[1], 1);
    joined(1, at[1], 1, 30);
    /* worker 1 dies with one adopted, one still claimed; the others are not its */
    assert_int_equal(reap_worker(1, 20, 2000), 2);
    assert_int_equal(claim(2, pids[0], 1500), CLAIM_BUSY);
    assert_int_equal(claim(2, pids[3], 1500), CLAIM_EXPIRED);
    assert_int_equal(claim(2, pids[1], 1500), CLAIM_OK);
    assert_int_equal(claim(2, pids[2], 1500), CLAIM_OK);
    assert_int_equal(fixture.master.recovery[at[1]].resume, 30); /* its rooms are as of 30 */
    assert_int_equal(fixture.master.recovery[at[2]].resume, 10); /* nothing was taken in for it */
    assert_int_equal(rooms_of(at[1], &sum), 2);
    assert_int_equal(rooms_of(at[2], &sum), 1);
}

static bool wanted(uint32_t room)
{
    struct slice nsp = namespace_name(&fixture.master, NSP);
    struct slice name = room == UINT32_MAX ? (struct slice){ NULL, 0 } : name_of(room);

    return directory_wanted(&fixture.master,
                            record_bucket(record_hash(fixture.master.header->hash_key, nsp, name)));
}

static void test_rooms_of_the_dead_are_wanted_until_the_ring_has_been_written_over(void **state)
{
    uint8_t pid[PID_BYTES];
    uint32_t at = open_socket(0, 5, pid);

    (void)state;
    shm_fixture_name(&fixture, NSP);
    fixture.master.header->ring.tail = 40;
    for (uint32_t room = 0; room < 30; room++)
        joined(0, at, room, 5);
    assert_false(wanted(0));
    assert_int_equal(reap_worker(0, 20, 1000), 1);
    assert_true(wanted(UINT32_MAX));
    for (uint32_t room = 0; room < 30; room++)
        assert_true(wanted(room));
    assert_false(wanted(31));
    fixture.master.header->ring.tail = 41 + fixture.master.header->ring.units;
    assert_false(wanted(0));
    assert_false(wanted(UINT32_MAX));
}

static void test_a_kill_in_mid_update_leaves_the_older_copy(void **state)
{
    uint8_t pid[PID_BYTES];
    uint64_t sum;
    int killed = 0;

    (void)state;
    for (int at = 1;; at++) {
        uint32_t index = open_socket(0, 5, pid);
        int status;
        pid_t child;

        for (uint32_t i = 0; i < 20; i++)
            joined(0, index, i, 5);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            moments_left = at;
            _exit(recoverable_join(parts[0], index, name_of(20), 6, 6) ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(reap_worker(0, 5, 1000), 1);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_int_equal(rooms_of(index, &sum), 21);
            break;
        }
        killed++;
        assert_int_equal(rooms_of(index, &sum), 20);
        /* and the successor can go on with it; what was half made is found and used again */
        assert_int_equal(claim(0, pid, 0), CLAIM_OK);
        recoverable_adopt(sessions[0], &fixture.views[0], index, 0);
        joined(0, index, 20, 7);
        assert_int_equal(rooms_of(index, &sum), 21);
        recoverable_release(parts[0], sessions[0], index);
        recoverables_collect(parts[0], 10000);
        assert_int_equal(parts[0]->n_free, parts[0]->n_fresh);
    }
    assert_true(killed > 5);
}

/* Whole lives under SIGKILL at any instant: whatever is left is a prefix of the joins. */
static void test_a_kill_at_any_instant_leaves_a_state_that_once_was(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        uint8_t pid[PID_BYTES];
        uint32_t index = open_socket(0, 5, pid);
        uint64_t sum;
        pid_t child = fork();
        int status;

        assert_true(child >= 0);
        if (child == 0) {
            bool kept = true;

            while (kept) {
                for (uint32_t i = 0; i < 40; i++)
                    kept = kept && recoverable_join(parts[0], index, name_of(i), 1, 5);
                for (uint32_t i = 40; i-- > 0;)
                    kept = kept && recoverable_leave(parts[0], index, name_of(i), 5);
            }
            _exit(1);
        }
        usleep(200 + round * 37);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(reap_worker(0, 9, 1000), 1);
        assert_in_range(rooms_of(index, &sum), 0, 40);
        assert_int_equal(claim(1, pid, 0), CLAIM_OK);
        recoverable_release(parts[1], sessions[1], index);
        sessions_collect(sessions[0], 0, 1000);
        assert_int_equal(sessions_used(sessions[0]), 0);
    }
}

static uint32_t told(uint64_t slots)
{
    struct session_walk walk = { 0 };
    struct session_untold end;
    uint32_t budget = UINT32_MAX;
    uint32_t n = 0;

    while (sessions_next_untold(&fixture.master, slots, &walk, &budget, &end))
        n++;
    return n;
}

/* Three ways on for a forwarded socket that its worker's death has detached; its end is told in each but the one where it is somebody's again. */
static void test_a_detached_socket_of_a_dead_worker_is_told_unless_it_is_back(void **state)
{
    uint8_t pids[5][PID_BYTES];
    uint32_t indices[5];
    uint64_t word;
    uint32_t index;

    (void)state;
    shm_fixture_forward(&fixture, NSP);
    for (uint32_t i = 0; i < 5; i++)
        indices[i] = open_socket(0, 1, pids[i]);
    recoverable_detach(sessions[0], indices[4], 1, 1000); /* its worker lived and told it */
    assert_true(recoverable_spoil(&fixture.views[0], indices[3]));
    assert_int_equal(reap_worker(0, 5, 1000), 3);
    assert_int_equal(told(1ull << 1), 0);

    assert_int_equal(recoverable_claim(&fixture.views[1], pids[0], NSP, 0, &index, &word),
                     CLAIM_OK);
    recoverable_adopt(sessions[1], &fixture.views[1], index, 3);
    assert_int_equal(recoverable_claim(&fixture.views[1], pids[1], NSP, 0, &index, &word),
                     CLAIM_OK);
    recoverable_release(parts[1], sessions[1], index); /* it cannot come back after all */
    sessions_collect(sessions[0], 0, 100);
    assert_int_equal(sessions_used(sessions[0]), 5);
    assert_int_equal(told(UINT64_MAX), 3); /* that one, the one that is away, and the spoilt one */
    assert_int_equal(told(UINT64_MAX), 0);

    /* told and away: it may come back still; at last all are free */
    assert_int_equal(recoverable_claim(&fixture.views[1], pids[2], NSP, 0, &index, &word),
                     CLAIM_OK);
    recoverable_release(parts[1], sessions[1], index);
    recoverable_release(parts[1], sessions[1], indices[0]);
    sessions_collect(sessions[0], 2000, 100);
    assert_int_equal(sessions_used(sessions[0]), 0);
    assert_int_equal(told(UINT64_MAX), 0);
}

static void test_a_detached_socket_whose_time_is_over_is_told_still(void **state)
{
    uint8_t pid[PID_BYTES];
    uint32_t index;

    (void)state;
    shm_fixture_forward(&fixture, NSP);
    index = open_socket(0, 1, pid);
    assert_int_equal(reap_worker(0, 5, 1000), 1);
    sessions_collect(sessions[0], 2000, 100);
    assert_int_equal(sessions_used(sessions[0]), 1); /* not free before that */
    assert_int_equal(told(1ull << 0), 1);
    sessions_collect(sessions[0], 2000, 100);
    assert_int_equal(sessions_used(sessions[0]), 0);
    assert_int_equal(session_owner(&fixture.master, index), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_detached_socket_of_a_dead_worker_is_told_unless_it_is_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_detached_socket_whose_time_is_over_is_told_still,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_rooms_are_kept_in_one_piece_whatever_their_number,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_rooms_spoil_and_nothing_leaks, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_only_the_whole_pid_of_that_namespace_claims_and_only_once, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_detached_socket_is_found_by_nobody_and_an_adopted_one_at_its_new_owner, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_an_entry_comes_home_when_it_expires_or_is_released_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_sockets_touch_what_is_kept_of_sockets, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_index_is_handed_out_twice_by_a_successor, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_the_dead_s_are_detached_as_of_their_cursor_wherever_they_lie, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_rooms_of_the_dead_are_wanted_until_the_ring_has_been_written_over, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_in_mid_update_leaves_the_older_copy, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_at_any_instant_leaves_a_state_that_once_was,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
