/* test_deferred.c: things to do come out in order, when their position has been reached, and never more than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "session/deferred.h"

static struct deferred list;

static int setup(void **state)
{
    (void)state;
    return deferred_init(&list, 4);
}

static int teardown(void **state)
{
    (void)state;
    while (list.n > 0)
        deferred_pop(&list);
    deferred_destroy(&list);
    return 0;
}

static void push(uint64_t position, const char *text)
{
    struct deferred_item item = { .position = position, .sock = (uint32_t)position };

    item.bytes = (uint8_t *)(uintptr_t)text;
    item.n_bytes = (uint32_t)strlen(text);
    assert_true(deferred_push(&list, &item));
}

static void pop(uint64_t position, const char *text)
{
    struct deferred_item *item = deferred_due(&list, position);

    assert_non_null(item);
    assert_int_equal(item->position, position);
    assert_int_equal(item->n_bytes, strlen(text));
    assert_memory_equal(item->bytes, text, item->n_bytes);
    deferred_pop(&list);
}

static void test_an_item_is_due_when_its_position_is_reached(void **state)
{
    (void)state;
    assert_null(deferred_due(&list, UINT64_MAX));
    push(10, "x");
    assert_null(deferred_due(&list, 9));
    assert_non_null(deferred_due(&list, 10));
    assert_non_null(deferred_due(&list, 11));
    pop(10, "x");
    assert_null(deferred_due(&list, UINT64_MAX));
}

static void test_the_room_is_what_is_left(void **state)
{
    (void)state;
    assert_true(deferred_room(&list, 4));
    assert_false(deferred_room(&list, 5));
    push(1, "a");
    push(1, "b");
    assert_true(deferred_room(&list, 2));
    assert_false(deferred_room(&list, 3));
    push(2, "c");
    push(3, "d");
    assert_true(deferred_room(&list, 0));
    assert_false(deferred_room(&list, 1));
}

static void test_order_is_kept_around_the_end_of_the_ring(void **state)
{
    char text[2] = "a";

    (void)state;
    push(1, "?");
    push(1, "!");
    for (uint64_t i = 0; i < 11; i++) {
        push(i + 2, text); /* copied: the text changes behind its back */
        pop(i < 2 ? 1 : i, i == 0 ? "?" : i == 1 ? "!" : (char[]){ (char)('a' + i - 2), 0 });
        text[0]++;
    }
    assert_int_equal(list.n, 2);
}

static void test_an_item_without_bytes_has_none(void **state)
{
    struct deferred_item *due;
    struct deferred_item item = { .position = 4,
                                  .kind = DEFERRED_JOIN,
                                  .room = 7,
                                  .bytes = (uint8_t *)(uintptr_t) "not looked at" };

    (void)state;
    assert_true(deferred_push(&list, &item));
    due = deferred_due(&list, 4);
    assert_non_null(due);
    assert_null(due->bytes);
    assert_int_equal(due->room, 7);
    assert_int_equal(due->kind, DEFERRED_JOIN);
}

static void test_what_is_due_moves_to_another_connection(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        struct deferred_item item = {
            .position = i, .conn = i % 2, .conn_generation = 5 + i / 2, .kind = DEFERRED_LEAVE
        };

        assert_true(deferred_push(&list, &item));
    }
    deferred_move(&list, 1, 5, 9, 77); /* not generation 6 of the same slot */
    for (uint32_t i = 0; i < 4; i++) {
        struct deferred_item *due = deferred_due(&list, i);

        assert_int_equal(due->conn, i == 1 ? 9 : i % 2);
        assert_int_equal(due->conn_generation, i == 1 ? 77 : 5 + i / 2);
        deferred_pop(&list);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_item_is_due_when_its_position_is_reached),
        TEST(test_the_room_is_what_is_left),
        TEST(test_order_is_kept_around_the_end_of_the_ring),
        TEST(test_an_item_without_bytes_has_none),
        TEST(test_what_is_due_moves_to_another_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
