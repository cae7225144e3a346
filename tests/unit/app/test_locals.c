/* test_locals.c: data is bounded for one and for all, pointers are released once, and the list of those to be told keeps its order whoever goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/locals.h"
#include "peal/app.h"

#define MAX 20000

static struct locals locals;

static int setup(void **state)
{
    (void)state;
    return locals_init(&locals, MAX) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MAX; i++)
        local_end(&locals, i);
    assert_true(locals.data_bytes == 0);
    assert_int_equal(locals.first_untold + locals.last_untold, 0);
    locals_destroy(&locals);
    return 0;
}

static uint32_t n_released;
static void *last_released;

static void release(void *pointer)
{
    n_released++;
    last_released = pointer;
}

static void test_a_pointer_is_released_when_it_is_replaced_and_at_the_end(void **state)
{
    int a;
    int b;
    (void)state;

    n_released = 0;
    local_set_pointer(&locals, 3, &a, release);
    local_set_pointer(&locals, 3, &a, release); /* the same: nothing to release */
    assert_int_equal(n_released, 0);
    local_set_pointer(&locals, 3, &b, release);
    assert_int_equal(n_released, 1);
    assert_ptr_equal(last_released, &a);
    local_end(&locals, 3);
    assert_int_equal(n_released, 2);
    assert_ptr_equal(last_released, &b);
    local_end(&locals, 3);
    assert_int_equal(n_released, 2);
    local_set_pointer(&locals, 4, &a, NULL);
    local_end(&locals, 4);
    assert_int_equal(n_released, 2);
    assert_null(locals.items[4].pointer);
}

static void test_data_has_a_bound_for_one_and_for_all(void **state)
{
    static char bytes[PEAL_DATA_BYTES_MAX + 1];
    struct slice longest = { bytes, PEAL_DATA_BYTES_MAX };
    struct slice longer = { bytes, PEAL_DATA_BYTES_MAX + 1 };
    uint32_t n = 0;
    (void)state;

    assert_int_equal(local_set_data(&locals, 0, longer), LOCAL_LIMIT);
    while (local_set_data(&locals, n, longest) == LOCAL_OK)
        n++;
    assert_int_equal(n, PEAL_DATA_BYTES_TOTAL / PEAL_DATA_BYTES_MAX);
    assert_int_equal(local_set_data(&locals, 5, longest), LOCAL_OK); /* in place of as much */
    assert_int_equal(local_set_data(&locals, n, (struct slice){ bytes, 1 }), LOCAL_LIMIT);
    local_end(&locals, 7);
    assert_int_equal(local_set_data(&locals, n, longest), LOCAL_OK);
    assert_int_equal(local_set_data(&locals, 8, (struct slice){ NULL, 0 }), LOCAL_OK);
    assert_null(locals.items[8].data);
}

static void test_those_to_be_told_keep_their_order(void **state)
{
    static const uint32_t left[] = { 2, 5, 9 };
    uint32_t at;
    (void)state;

    for (uint32_t i = 1; i < 10; i++)
        local_untold_add(&locals, i);
    local_untold_remove(&locals,
                        1); /* the first, the last but one, some between; twice does no harm */
    local_untold_remove(&locals, 1);
    local_untold_remove(&locals, 8);
    for (uint32_t i = 3; i < 8; i++)
        if (i != 5)
            local_untold_remove(&locals, i);
    at = locals.first_untold;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(at, left[i] + 1);
        at = locals.items[at - 1].next;
    }
    assert_int_equal(at, 0);
    assert_int_equal(locals.last_untold, 10);
    local_end(&locals, 9); /* a socket that ends is told nothing */
    assert_int_equal(locals.last_untold, 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_pointer_is_released_when_it_is_replaced_and_at_the_end),
        TEST(test_data_has_a_bound_for_one_and_for_all),
        TEST(test_those_to_be_told_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
