/* test_namespaces.c: one name, one index, for as long as somebody uses it, whoever adds it and whoever dies doing so. */
#include "lib/shm_fixture.h"

#include "shm/namespaces.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WORKERS 3
enum { ROOT = 0, DYN, OTHER, SECTIONS_USED };

static struct shm_fixture fixture;

static int setup(void **state)
{
    struct config *c;

    (void)state;
    shm_fixture_init(&fixture, WORKERS, 1u << 20);
    c = (struct config *)(uintptr_t)fixture.master.config;
    c->n_namespaces = SECTIONS_USED;
    c->namespaces[DYN].is_prefix = true;
    c->namespaces[OTHER].is_prefix = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shm_fixture_destroy(&fixture);
    return 0;
}

static struct slice numbered(char text[32], const char *prefix, uint32_t i)
{
    (void)snprintf(text, 32, "%s-%u", prefix, i);
    return slice_text(text);
}

static struct shm_namespaces *table(void)
{
    return fixture.master.namespaces;
}

static uint32_t share(void)
{
    return namespaces_share(fixture.master.config);
}

static uint32_t entered(uint32_t slot, struct slice name, uint32_t section)
{
    uint32_t index;
    enum namespace_result result = namespace_enter(&fixture.views[slot], name, section, 0, &index);

    assert_true(result == NAMESPACE_OK || result == NAMESPACE_ADDED);
    return index;
}

static void assert_full(uint32_t slot, struct slice name, uint32_t section)
{
    uint32_t index;

    assert_int_equal(namespace_enter(&fixture.views[slot], name, section, 0, &index),
                     NAMESPACE_FULL);
}

static uint32_t n_ready(void)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < NAMESPACES_MAX; i++)
        n += state_of(table()->entries[i].word) == NAMESPACE_READY;
    return n;
}

static void test_a_name_has_the_same_index_everywhere(void **state)
{
    struct region *a = &fixture.views[0];
    struct region *b = &fixture.views[1];
    uint32_t index, again;

    (void)state;
    assert_int_equal(namespace_enter(a, slice_text("/dyn-chat"), DYN, 0, &index), NAMESPACE_ADDED);
    assert_int_equal(namespace_find(&fixture.views[2], slice_text("/dyn-chat")), index);
    assert_int_equal(namespace_enter(b, slice_text("/dyn-chat"), DYN, 0, &again), NAMESPACE_OK);
    assert_int_equal(again, index);
    assert_true(slice_is(namespace_name(&fixture.master, index), "/dyn-chat"));
    assert_int_equal(namespace_find(a, slice_text("/dyn-cha")), NAMESPACE_NONE);
    assert_int_equal(namespace_find(a, slice_text("/dyn-chatt")), NAMESPACE_NONE);
}

static void test_names_of_every_length_are_found(void **state)
{
    char longest[NAME_BYTES_MAX + 1];

    (void)state;
    memset(longest, 'n', sizeof longest);
    for (uint32_t n = 0; n <= NAME_BYTES_MAX; n++) {
        uint32_t index = entered(0, slice_of(longest, n), DYN);
        struct namespace_copy copy;

        assert_int_equal(namespace_find(&fixture.master, slice_of(longest, n)), index);
        assert_true(slice_equal(namespace_name(&fixture.master, index), slice_of(longest, n)));
        assert_true(namespace_copy(&fixture.master, index, &copy));
        assert_true(slice_equal(slice_of(copy.name, copy.n_bytes), slice_of(longest, n)));
    }
    assert_int_equal(namespace_find(&fixture.master, slice_of(longest, NAME_BYTES_MAX + 1)),
                     NAMESPACE_NONE);
}

static void test_an_index_that_is_none_has_no_name(void **state)
{
    struct namespace_copy copy;

    (void)state;
    assert_null(namespace_name(&fixture.master, NAMESPACE_NONE).bytes);
    assert_null(namespace_name(&fixture.master, NAMESPACES_MAX).bytes);
    assert_null(namespace_name(&fixture.master, 0).bytes);
    assert_false(namespace_copy(&fixture.master, 0, &copy));
}

static void test_names_come_and_go_without_end(void **state)
{
    char text[32];

    (void)state;
    for (uint32_t i = 0; i < 20 * NAMESPACES_MAX; i++) {
        uint32_t index = entered(i % WORKERS, numbered(text, "/dyn", i), DYN);

        assert_int_equal(namespace_find(&fixture.master, slice_text(text)), index);
        namespace_leave(&fixture.views[i % WORKERS], index);
    }
    assert_true(n_ready() <= share());
}

static void test_names_in_use_are_refused_beyond_the_share_and_cost_no_other_prefix_its_own(
    void **state)
{
    char text[32];

    (void)state;
    for (uint32_t i = 0; i < NAMESPACE_SECTIONS; i++)
        assert_true(namespace_reserve(&fixture.master, numbered(text, "/fixed", i), ROOT));
    assert_true(namespace_reserve(&fixture.master, slice_text("/ws"), UINT16_MAX));
    for (uint32_t i = 0; i < share(); i++)
        (void)entered(0, numbered(text, "/dyn", i), DYN);
    assert_full(0, slice_text("/dyn-more"), DYN);
    assert_full(1, slice_text("/dyn-more"), DYN);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-more")), NAMESPACE_NONE);
    (void)entered(1, slice_text("/dyn-0"), DYN); /* what is there may be entered */
    (void)entered(0, slice_text("/fixed-63"), ROOT);
    for (uint32_t i = 0; i < share(); i++)
        (void)entered(2, numbered(text, "/other", i), OTHER);
    assert_full(0, slice_text("/other-more"), OTHER);
    for (uint32_t i = 0; i < share(); i++)
        assert_int_not_equal(namespace_find(&fixture.master, numbered(text, "/dyn", i)),
                             NAMESPACE_NONE);
    assert_int_equal(n_ready(), NAMESPACE_SECTIONS + 1 + 2 * share());
}

/* Fills the section, all in use by worker 0; returns the index of `/dyn-0`. */
static uint32_t fill(void)
{
    char text[32];
    uint32_t first = entered(0, slice_text("/dyn-0"), DYN);

    for (uint32_t i = 1; i < share(); i++)
        (void)entered(0, numbered(text, "/dyn", i), DYN);
    return first;
}

static void test_the_last_use_of_all_workers_decides(void **state)
{
    uint32_t first = fill();
    uint64_t life = namespace_life(&fixture.master, first);

    (void)state;
    (void)entered(1, slice_text("/dyn-0"), DYN);
    namespace_use(&fixture.views[1], first);
    namespace_leave(&fixture.views[0], first);
    assert_full(0, slice_text("/dyn-more"), DYN);
    namespace_leave(&fixture.views[1], first);
    assert_true(namespace_in_use(&fixture.views[1], first));
    assert_full(0, slice_text("/dyn-more"), DYN);
    namespace_leave(&fixture.views[1], first);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-0")), first);
    (void)entered(0, slice_text("/dyn-more"), DYN);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-0")), NAMESPACE_NONE);
    (void)entered(0, slice_text("/dyn-more"), DYN);
    assert_full(0, slice_text("/dyn-0"), DYN);
    assert_true(namespace_life(&fixture.master, first) != life ||
                namespace_name(&fixture.master, first).bytes == NULL);
}

static void test_what_is_kept_for_who_may_come_back_stays_for_so_long(void **state)
{
    uint32_t first = fill();
    uint32_t index;

    (void)state;
    namespace_keep(&fixture.views[0], first, 1000);
    namespace_keep(&fixture.views[1], first, 500); /* less than what it has */
    namespace_leave(&fixture.views[0], first);
    assert_int_equal(namespace_enter(&fixture.views[1], slice_text("/dyn-more"), DYN, 999, &index),
                     NAMESPACE_FULL);
    assert_int_equal(namespace_enter(&fixture.views[1], slice_text("/dyn-more"), DYN, 1000, &index),
                     NAMESPACE_ADDED);
}

static void test_the_dead_use_nothing(void **state)
{
    uint32_t first = fill();
    uint32_t index;

    (void)state;
    (void)entered(1, slice_text("/dyn-0"), DYN);
    namespaces_reap(&fixture.master, 0, 1000);
    assert_full(2, slice_text("/dyn-more"), DYN); /* kept for its detached sessions */
    assert_int_equal(namespace_enter(&fixture.views[2], slice_text("/dyn-more"), DYN, 1000, &index),
                     NAMESPACE_ADDED);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-0")), first);
    assert_int_equal(n_ready(), 2);
}

static void test_a_taker_that_meets_the_end_of_a_name_takes_its_use_back(void **state)
{
    uint32_t index = entered(0, slice_text("/dyn-a"), DYN);
    uint64_t *word = &table()->entries[index].word;
    uint64_t ready = *word;
    uint32_t again;

    (void)state;
    *word = word_of(life_of(ready), NAMESPACE_CLOSING); /* the writer looks for uses just now */
    assert_int_equal(namespace_enter(&fixture.views[1], slice_text("/dyn-a"), DYN, 0, &again),
                     NAMESPACE_BUSY);
    assert_false(namespace_in_use(&fixture.views[1], index));
    assert_int_equal(namespace_find(&fixture.views[0], slice_text("/dyn-a")), index);
    assert_true(slice_is(namespace_name(&fixture.views[0], index), "/dyn-a"));
    *word = ready;
    assert_int_equal(entered(1, slice_text("/dyn-a"), DYN), index);
}

static void test_while_another_changes_the_table_only_new_names_wait(void **state)
{
    uint32_t index;

    (void)state;
    (void)entered(0, slice_text("/dyn-a"), DYN);
    table()->writer = 1 + 2;
    assert_int_equal(namespace_enter(&fixture.views[0], slice_text("/dyn-b"), DYN, 0, &index),
                     NAMESPACE_BUSY);
    (void)entered(1, slice_text("/dyn-a"), DYN);
    namespaces_reap(&fixture.master, 1, 0); /* not the one */
    assert_int_equal(namespace_enter(&fixture.views[0], slice_text("/dyn-b"), DYN, 0, &index),
                     NAMESPACE_BUSY);
    namespaces_reap(&fixture.master, 2, 0);
    (void)entered(0, slice_text("/dyn-b"), DYN);
}

static void test_a_kill_in_the_middle_of_a_change_is_mended(void **state)
{
    uint32_t closing = entered(0, slice_text("/dyn-closing"), DYN);
    uint32_t writing = entered(0, slice_text("/dyn-writing"), DYN);
    uint64_t changes = namespaces_changes(&fixture.master);
    struct shm_namespace *e = table()->entries;

    (void)state;
    e[closing].word = word_of(life_of(e[closing].word), NAMESPACE_CLOSING);
    e[writing].word = word_of(life_of(e[writing].word) + 1, NAMESPACE_WRITING);
    table()->n_of[DYN] = 77;
    table()->writer = 1;
    namespaces_reap(&fixture.master, 0, 0);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-closing")), closing);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/dyn-writing")), NAMESPACE_NONE);
    assert_int_equal(table()->n_of[DYN], 1);
    assert_true(namespaces_changes(&fixture.master) > changes);
    (void)entered(1, slice_text("/dyn-writing"), DYN);
    assert_int_equal(n_ready(), 2);
}

static void test_a_search_goes_on_behind_a_name_that_has_gone(void **state)
{
    struct slice name = slice_text("/dyn-first");
    struct slice second = slice_text("/dyn-second");
    uint32_t at = start_of(&fixture.master, second);
    uint32_t index;

    (void)state;
    /* the place where the second's search begins is taken, and free again later */
    entry_write(&fixture.master, at, name, DYN);
    index = entered(0, second, DYN);
    assert_int_equal(index, (at + 1) % NAMESPACES_MAX);
    collect(&fixture.views[0], DYN, 0);
    assert_int_equal(namespace_find(&fixture.master, name), NAMESPACE_NONE);
    assert_int_equal(namespace_find(&fixture.master, second), index);
    assert_int_equal(entered(1, second, DYN), index);
    namespaces_reap(&fixture.master, 0, 0);
    namespaces_reap(&fixture.master, 1, 0);
    collect(&fixture.views[0], DYN, 0);
    assert_int_equal(state_of(table()->entries[at].word), NAMESPACE_FREE);
    assert_int_equal(state_of(table()->entries[index].word), NAMESPACE_FREE);
}

/* Each thread is a worker that comes and goes in names of which there are more than the share: whoever is in one must find its name at its index for as
 * long as it is there, and the same index as everybody else who is in it. */
#define NAMES   (NAMESPACES_DYNAMIC / 2 * 3 / 2) /* half as much again as the share */
#define ROUNDS  20000u
#define AT_ONCE 100u

struct holding {
    uint32_t number;
    uint32_t index;
};

static void *come_and_go(void *context)
{
    struct region *view = context;
    struct holding held[AT_ONCE];
    uint32_t n_held = 0;
    uint64_t random = view->self + 1;
    char text[32];

    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t number;
        struct holding *h;

        random = random * 6364136223846793005u + 1442695040888963407u;
        number = (uint32_t)(random >> 33) % NAMES;
        h = &held[(random >> 20) % AT_ONCE];
        if (n_held == AT_ONCE) {
            assert_true(
                slice_equal(namespace_name(view, h->index), numbered(text, "/dyn", h->number)));
            assert_int_equal(namespace_find(view, slice_text(text)), h->index);
            namespace_leave(view, h->index);
            *h = held[--n_held];
        }
        h = &held[n_held];
        h->number = number;
        switch (namespace_enter(view, numbered(text, "/dyn", number), DYN, 0, &h->index)) {
        case NAMESPACE_OK:
        case NAMESPACE_ADDED: n_held++; break;
        case NAMESPACE_FULL: fail_msg("%u in use fit into the share", WORKERS * AT_ONCE); break;
        case NAMESPACE_BUSY: break;
        }
    }
    while (n_held > 0)
        namespace_leave(view, held[--n_held].index);
    return NULL;
}

static void test_workers_that_come_and_go_at_once_agree(void **state)
{
    pthread_t threads[WORKERS];
    char text[32];

    (void)state;
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &fixture.views[i]), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(table()->writer, 0);
    assert_int_equal(table()->n_of[DYN], n_ready());
    for (uint32_t i = 0, n = 0; i < NAMES; i++) { /* none is there twice */
        n += namespace_find(&fixture.master, numbered(text, "/dyn", i)) != NAMESPACE_NONE;
        if (i == NAMES - 1)
            assert_int_equal(n, n_ready());
    }
}

static void test_whoever_appends_sees_the_deflaters_of_all_workers(void **state)
{
    uint32_t index = entered(0, slice_text("/dyn-a"), DYN);

    (void)state;
    assert_int_equal(entered(2, slice_text("/dyn-a"), DYN), index);
    assert_false(namespace_deflates(&fixture.views[PEAL_SLOT_BRIDGE], index));
    namespace_add_deflaters(&fixture.views[0], index, 1);
    namespace_add_deflaters(&fixture.views[2], index, 1);
    namespace_add_deflaters(&fixture.views[2], index, 1);
    assert_true(namespace_deflates(&fixture.views[PEAL_SLOT_BRIDGE], index));
    assert_false(namespace_deflates(&fixture.views[1], (index + 1) % NAMESPACES_MAX));
    namespace_add_deflaters(&fixture.views[0], index, -1);
    assert_true(namespace_deflates(&fixture.views[PEAL_SLOT_ADMIN], index));
    namespaces_reap(&fixture.master, 2, 0); /* what the dead had counts no more */
    assert_false(namespace_deflates(&fixture.views[0], index));
    assert_true(namespace_in_use(&fixture.views[0], index));
}

int main(void)
{
#define IN_A_REGION(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_A_REGION(test_a_name_has_the_same_index_everywhere),
        IN_A_REGION(test_names_of_every_length_are_found),
        IN_A_REGION(test_an_index_that_is_none_has_no_name),
        IN_A_REGION(test_names_come_and_go_without_end),
        IN_A_REGION(
            test_names_in_use_are_refused_beyond_the_share_and_cost_no_other_prefix_its_own),
        IN_A_REGION(test_the_last_use_of_all_workers_decides),
        IN_A_REGION(test_what_is_kept_for_who_may_come_back_stays_for_so_long),
        IN_A_REGION(test_the_dead_use_nothing),
        IN_A_REGION(test_whoever_appends_sees_the_deflaters_of_all_workers),
        IN_A_REGION(test_a_taker_that_meets_the_end_of_a_name_takes_its_use_back),
        IN_A_REGION(test_while_another_changes_the_table_only_new_names_wait),
        IN_A_REGION(test_a_kill_in_the_middle_of_a_change_is_mended),
        IN_A_REGION(test_a_search_goes_on_behind_a_name_that_has_gone),
        IN_A_REGION(test_workers_that_come_and_go_at_once_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
