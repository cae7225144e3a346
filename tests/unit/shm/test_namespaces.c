/* test_namespaces.c: one name, one index, whoever adds it and whoever dies adding it. */
#include "lib/shm_fixture.h"

#include "shm/namespaces.c"

#include <pthread.h>
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

static struct slice numbered(char text[32], int i)
{
    (void)snprintf(text, 32, "/dynamic-%d", i);
    return slice_text(text);
}

static void test_a_name_has_the_same_index_everywhere(void **state)
{
    bool added;
    uint32_t index = namespace_intern(&fixture.views[0], slice_text("/chat"), 3, &added);

    (void)state;
    assert_int_not_equal(index, NAMESPACE_NONE);
    assert_true(added);
    assert_int_equal(namespace_find(&fixture.views[2], slice_text("/chat")), index);
    assert_int_equal(namespace_intern(&fixture.views[1], slice_text("/chat"), 3, &added), index);
    assert_false(added);
    assert_true(slice_is(namespace_name(&fixture.master, index), "/chat"));
    assert_int_equal(fixture.master.namespaces[index].section, 3);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/cha")), NAMESPACE_NONE);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/chatt")), NAMESPACE_NONE);
}

static void test_the_table_takes_as_many_names_as_it_says_and_no_more(void **state)
{
    char text[32];
    bool added;

    (void)state;
    for (int i = 0; i < NAMESPACES_MAX; i++) {
        assert_int_not_equal(namespace_intern(&fixture.master, numbered(text, i), 0, &added),
                             NAMESPACE_NONE);
        assert_true(added);
    }
    assert_int_equal(namespace_intern(&fixture.master, slice_text("/more"), 0, &added),
                     NAMESPACE_NONE);
    assert_false(added);
    assert_int_equal(namespace_find(&fixture.master, slice_text("/more")), NAMESPACE_NONE);
    for (int i = 0; i < NAMESPACES_MAX; i++) {
        uint32_t index = namespace_find(&fixture.master, numbered(text, i));

        assert_int_not_equal(index, NAMESPACE_NONE);
        assert_true(slice_is(namespace_name(&fixture.master, index), text));
    }
}

static void test_a_name_too_long_is_refused(void **state)
{
    char longest[NAME_BYTES_MAX + 1];
    bool added;

    (void)state;
    memset(longest, 'n', sizeof longest);
    assert_int_equal(
        namespace_intern(&fixture.master, slice_of(longest, NAME_BYTES_MAX + 1), 0, &added),
        NAMESPACE_NONE);
    assert_int_equal(namespace_find(&fixture.master, slice_of(longest, NAME_BYTES_MAX + 1)),
                     NAMESPACE_NONE);
    assert_int_not_equal(
        namespace_intern(&fixture.master, slice_of(longest, NAME_BYTES_MAX), 0, &added),
        NAMESPACE_NONE);
    assert_true(added);
}

static void test_an_index_that_is_none_has_no_name(void **state)
{
    (void)state;
    assert_null(namespace_name(&fixture.master, NAMESPACE_NONE).bytes);
    assert_null(namespace_name(&fixture.master, NAMESPACES_MAX).bytes);
    assert_null(namespace_name(&fixture.master, 0).bytes);
}

static void test_a_kill_between_claim_and_name_costs_one_entry_only(void **state)
{
    struct slice name = slice_text("/lost");
    uint32_t first = start_of(&fixture.master, name);
    struct shm_namespace *e = &fixture.master.namespaces[first];
    bool added;
    uint32_t index;

    (void)state;
    e->state = NAMESPACE_CLAIMED; /* its owner is dead */
    assert_int_equal(namespace_find(&fixture.master, name), NAMESPACE_NONE);
    index = namespace_intern(&fixture.master, name, 0, &added);
    assert_true(added);
    assert_int_equal(index, (first + 1) % NAMESPACES_MAX);
    assert_int_equal(namespace_find(&fixture.master, name), index);
    assert_null(namespace_name(&fixture.master, first).bytes);
}

static void test_an_owner_that_was_only_slow_does_not_add_the_name_twice(void **state)
{
    struct slice name = slice_text("/slow");
    struct shm_namespace *e = &fixture.master.namespaces[start_of(&fixture.master, name)];
    bool added;
    uint32_t index;

    (void)state;
    e->state = NAMESPACE_CLAIMED; /* by the slow one, which now loses its time slice ... */
    index = namespace_intern(&fixture.views[1], name, 0, &added);
    assert_true(added);
    assert_false(entry_publish(e, name, 0)); /* ... and comes back */
    assert_int_equal(namespace_intern(&fixture.views[0], name, 0, &added), index);
    assert_false(added);
}

static void *add_all(void *view)
{
    char text[32];
    bool added;
    uintptr_t n_added = 0;

    for (int i = 0; i < 500; i++) {
        assert_int_not_equal(namespace_intern(view, numbered(text, i), 0, &added), NAMESPACE_NONE);
        n_added += added;
    }
    return (void *)n_added; /* NOLINT(performance-no-int-to-ptr) */
}

static void test_of_several_adding_the_same_names_one_adds_each(void **state)
{
    pthread_t threads[3];
    uintptr_t n_added = 0;
    uint32_t n_ready = 0;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_all, &fixture.views[i]), 0);
    for (int i = 0; i < 3; i++) {
        void *result;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        n_added += (uintptr_t)result;
    }
    for (int i = 0; i < NAMESPACES_MAX; i++)
        n_ready += fixture.master.namespaces[i].state == NAMESPACE_READY;
    assert_int_equal(n_added, 500);
    assert_int_equal(n_ready, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_name_has_the_same_index_everywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_table_takes_as_many_names_as_it_says_and_no_more,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_name_too_long_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_index_that_is_none_has_no_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_between_claim_and_name_costs_one_entry_only,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_owner_that_was_only_slow_does_not_add_the_name_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_several_adding_the_same_names_one_adds_each, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
