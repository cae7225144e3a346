/* test_ip_counts.c: clients by address: never over the limit whatever workers do at once, right again after any kill. */
#include "lib/shm_fixture.h"

#include "shm/ip_counts.c"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define WORKERS 3
#define CLIENTS 127 /* of a worker: 256 entries */
#define LIMIT   5

static struct shm_fixture fixture;

static void open_fixture(uint32_t per_ip, enum config_balance balance)
{
    memset(&fixture, 0, sizeof fixture);
    fixture.config.workers = WORKERS;
    fixture.config.ring_bytes = 1u << 20;
    fixture.config.max_connections_per_worker = CLIENTS;
    fixture.config.max_connections_per_ip = per_ip;
    fixture.config.balance = (uint8_t)balance;
    if (region_create(&fixture.master, &fixture.config) != 0)
        abort();
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        fixture.master.bells[slot] = -1;
        fixture.views[slot] = fixture.master;
        fixture.views[slot].self = slot;
    }
}

static int setup(void **state)
{
    (void)state;
    open_fixture(LIMIT, BALANCE_LEASTCONN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t slot = 0; slot < WORKERS && fixture.master.ips != NULL; slot++)
        ips_check(&fixture.views[slot]);
    shm_fixture_destroy(&fixture);
    return 0;
}

static bool takes(uint32_t slot, uint64_t key)
{
    uint32_t before = ip_count(&fixture.master, key);
    uint32_t n;
    bool taken = ip_take(&fixture.views[slot], key, LIMIT, &n);

    assert_int_equal(n, before + taken);
    return taken;
}

static void test_the_limit_is_that_of_all_workers_together(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT; i++)
        assert_true(takes(i % WORKERS, 77));
    for (uint32_t slot = 0; slot < WORKERS; slot++) {
        assert_false(takes(slot, 77));
        assert_true(takes(slot, 78));
    }
    ip_give_back(&fixture.views[1], 77);
    assert_int_equal(ip_count(&fixture.master, 77), LIMIT - 1);
    assert_true(takes(2, 77));
    assert_false(takes(0, 77));
    assert_int_equal(ip_count(&fixture.master, 77), LIMIT);
    assert_int_equal(ip_count(&fixture.master, 78), WORKERS);
    assert_int_equal(ip_count(&fixture.master, 79), 0);
}

static void test_without_a_limit_it_is_only_counted(void **state)
{
    uint32_t n = 0;

    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        assert_true(ip_take(&fixture.views[i % WORKERS], 5, 0, &n));
    assert_int_equal(n, 100);
}

static void test_it_costs_nothing_where_nobody_asks(void **state)
{
    (void)state;
    open_fixture(0, BALANCE_REUSEPORT);
    assert_null(fixture.master.ips);
    assert_int_equal(fixture.master.header->ips_offset, 0);
    region_close(&fixture.master);
    open_fixture(0, BALANCE_IPHASH);
    assert_non_null(fixture.master.ips);
}

/* As many addresses as clients, again and again others, on tables that they half fill. */
static void test_addresses_come_and_go_without_end(void **state)
{
    uint64_t held[CLIENTS];
    uint32_t counts[CLIENTS] = { 0 };
    uint32_t seed = 9;
    uint32_t n;

    (void)state;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        held[i] = 1000 + i;
        assert_true(ip_take(&fixture.views[0], held[i], LIMIT, &n));
        counts[i] = 1;
    }
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t i;

        seed = seed * 1664525 + 1013904223;
        i = (seed >> 16) % CLIENTS;
        if (counts[i] > 0 && (seed >> 30) != 0) {
            ip_give_back(&fixture.views[0], held[i]);
            counts[i]--;
        } else {
            if (counts[i] == 0)
                held[i] = 100000 + round;
            counts[i] += ip_take(&fixture.views[0], held[i], LIMIT, &n);
        }
        if (round % 64 == 0)
            ips_check(&fixture.views[0]);
        assert_int_equal(ip_count(&fixture.views[1], held[i]), counts[i]);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(ip_count(&fixture.views[1], held[i]), counts[i]);
        while (counts[i]-- > 0)
            ip_give_back(&fixture.views[0], held[i]);
    }
    /* all are free again: nothing that was is in the way of a search */
    for (uint64_t i = 0; i < fixture.master.header->ips_per_slot; i++)
        assert_int_equal(fixture.master.ips[i].key, 0);
}

static void test_a_table_that_has_clients_everywhere_refuses(void **state)
{
    uint32_t entries = (uint32_t)fixture.master.header->ips_per_slot;
    uint32_t n;

    (void)state;
    assert_int_equal(entries, 256);
    for (uint32_t i = 1; i <= entries; i++)
        assert_true(ip_take(&fixture.views[0], i, LIMIT, &n));
    assert_false(ip_take(&fixture.views[0], entries + 1, LIMIT, &n));
    assert_true(ip_take(&fixture.views[0], 3, LIMIT, &n));
    assert_int_equal(ip_count(&fixture.views[1], entries + 1),
                     0); /* a search that never meets a free one ends */
    assert_true(ip_take(&fixture.views[1], entries + 1, LIMIT, &n));
}

static void test_the_dead_have_no_clients_and_their_pages_are_given_back(void **state)
{
    const uint64_t table_bytes = fixture.master.header->ips_per_slot * sizeof(struct shm_ip);
    struct stat before;
    struct stat after;
    uint32_t n;

    (void)state;
    for (uint32_t i = 0; i < LIMIT; i++)
        assert_true(takes(i % 2, 77));
    fixture.master.ips[fixture.master.header->ips_per_slot + 3].word = IP_CLAIM; /* half done */
    fixture.master.ips[fixture.master.header->ips_per_slot + 3].key = 12345;
    assert_int_equal(fstat(fixture.master.fd, &before), 0);
    ips_clear(&fixture.master, 1);
    assert_int_equal(fstat(fixture.master.fd, &after), 0);
    assert_true(after.st_blocks * 512 + (blkcnt_t)table_bytes <= before.st_blocks * 512);
    assert_int_equal(ip_count(&fixture.master, 77), (LIMIT + 1) / 2);
    for (uint32_t i = 0; i < LIMIT / 2; i++)
        assert_true(takes(1, 77));
    assert_false(takes(1, 77));
    assert_true(ip_take(&fixture.views[1], 12345, 1, &n));
}

/* --- at the same time --- */

#define ROUNDS 20000
static uint32_t admitted[2]; /* of the two addresses that all are after; never over the limit */
static uint32_t most[2];

static void *come_and_go(void *context)
{
    struct region *view = context;
    uint32_t held[2] = { 0, 0 };
    uint32_t seed = view->self + 1;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t which;
        uint32_t n;

        seed = seed * 1664525 + 1013904223;
        which = seed >> 31;
        if (held[which] > 0 && (seed >> 29 & 1) != 0) {
            held[which]--;
            (void)__atomic_sub_fetch(&admitted[which], 1, __ATOMIC_SEQ_CST);
            ip_give_back(view, 500 + which);
        } else if (ip_take(view, 500 + which, LIMIT, &n)) {
            uint32_t now = __atomic_add_fetch(&admitted[which], 1, __ATOMIC_SEQ_CST);

            held[which]++;
            if (now > most[which])
                __atomic_store_n(&most[which], now, __ATOMIC_RELAXED);
        }
        if (round % 16 == 0 &&
            ip_take(view, 1000 + seed % 400, 1, &n)) /* entries that change hands */
            ip_give_back(view, 1000 + seed % 400);
    }
    for (uint32_t which = 0; which < 2; which++)
        while (held[which]-- > 0) {
            (void)__atomic_sub_fetch(&admitted[which], 1, __ATOMIC_SEQ_CST);
            ip_give_back(view, 500 + which);
        }
    return NULL;
}

static void test_the_limit_holds_while_all_come_and_go(void **state)
{
    pthread_t threads[WORKERS];

    (void)state;
    memset(admitted, 0, sizeof admitted);
    memset(most, 0, sizeof most);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &fixture.views[i]), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (uint32_t which = 0; which < 2; which++) {
        assert_true(most[which] <= LIMIT);
        assert_true(most[which] >= LIMIT - 1); /* it was worth it */
        assert_int_equal(ip_count(&fixture.master, 500 + which), 0);
    }
}

static pthread_barrier_t start;
static uint32_t n_admitted;

static void *take_once(void *context)
{
    struct region *view = context;
    uint32_t n;

    for (uint32_t round = 0; round < 2000; round++) {
        (void)pthread_barrier_wait(&start);
        if (ip_take(view, 9, WORKERS - 1, &n))
            (void)__atomic_add_fetch(&n_admitted, 1, __ATOMIC_SEQ_CST);
        (void)pthread_barrier_wait(&start);
        if (__atomic_load_n(&n_admitted, __ATOMIC_SEQ_CST) != WORKERS - 1)
            return view; /* too many, or a place that nobody got */
        (void)pthread_barrier_wait(&start);
        if (ip_count(view, 9) != WORKERS - 1)
            return view;
        (void)pthread_barrier_wait(&start);
        if (word_of(table_of(view, view->self), start_of(view, 9), 9) > 0)
            ip_give_back(view, 9);
        __atomic_store_n(&n_admitted, 0, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* The last place goes to one of those who ask for it in the same instant, and not to none. */
static void test_of_those_who_ask_at_once_as_many_are_let_in_as_there_are_places(void **state)
{
    pthread_t threads[WORKERS];

    (void)state;
    n_admitted = 0;
    assert_int_equal(pthread_barrier_init(&start, NULL, WORKERS), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_once, &fixture.views[i]), 0);
    for (uint32_t i = 0; i < WORKERS; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    (void)pthread_barrier_destroy(&start);
}

/* A process that takes and gives back until it is killed, wherever it is. */
static pid_t start_victim(void)
{
    pid_t pid = fork();
    uint32_t n;

    if (pid != 0)
        return pid;
    for (uint32_t i = 0;; i++) {
        if (ip_take(&fixture.views[2], 77, 0, &n) && i % 3 != 0)
            ip_give_back(&fixture.views[2], 77);
        if (ip_take(&fixture.views[2], 1000 + i % 50, 0, &n))
            ip_give_back(&fixture.views[2], 1000 + i % 50);
        if (i % 1000 == 999)
            ips_clear(&fixture.views[2], 2); /* or it would have no end */
    }
}

static void test_counts_are_right_after_a_kill_at_any_moment(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        assert_true(takes(i % 2, 77));
    for (uint32_t round = 0; round < 200; round++) {
        pid_t pid = start_victim();
        int status;

        assert_true(pid > 0);
        usleep(round * 7 % 400);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        ips_clear(&fixture.master, 2);
        ips_check(&fixture.views[2]);
        assert_int_equal(ip_count(&fixture.master, 77), 3);
        assert_true(takes(2, 77));
        assert_true(takes(2, 77));
        assert_false(takes(2, 77));
        ip_give_back(&fixture.views[2], 77);
        ip_give_back(&fixture.views[2], 77);
    }
}

int main(void)
{
#define IN_A_REGION(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_A_REGION(test_the_limit_is_that_of_all_workers_together),
        IN_A_REGION(test_without_a_limit_it_is_only_counted),
        cmocka_unit_test_teardown(test_it_costs_nothing_where_nobody_asks, teardown),
        IN_A_REGION(test_addresses_come_and_go_without_end),
        IN_A_REGION(test_a_table_that_has_clients_everywhere_refuses),
        IN_A_REGION(test_the_dead_have_no_clients_and_their_pages_are_given_back),
        IN_A_REGION(test_the_limit_holds_while_all_come_and_go),
        IN_A_REGION(test_of_those_who_ask_at_once_as_many_are_let_in_as_there_are_places),
        IN_A_REGION(test_counts_are_right_after_a_kill_at_any_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
