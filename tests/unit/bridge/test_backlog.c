/* test_backlog.c: messages in the order in which they came, within a bound. */
#include "bridge/backlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void test_items_come_out_as_they_went_in(void **state)
{
    struct backlog b = { 0 };
    uint64_t next = 0;

    (void)state;
    for (uint64_t id = 0; id < 5000; id++) {
        char channel[32];
        int n = snprintf(channel, sizeof channel, "c%u", (unsigned)(id * id));
        struct backlog_item item = { .id = id, .slot = (uint16_t)id, .kind = 3 };

        assert_true(backlog_push(&b, item, slice_of(channel, (uint32_t)n), slice_text("payload"),
                                 1u << 20));
        if (id % 3 == 0)
            continue;
        assert_int_equal(backlog_first(&b)->id, next++);
        backlog_pop(&b);
    }
    for (struct backlog_item *item = backlog_first(&b); item != NULL;
         item = backlog_next(&b, item), next++) {
        char channel[32];

        (void)snprintf(channel, sizeof channel, "c%u", (unsigned)(next * next));
        assert_int_equal(item->id, next);
        assert_int_equal(item->kind, 3);
        assert_true(slice_is(backlog_channel(item), channel));
        assert_true(slice_is(backlog_payload(item), "payload"));
    }
    assert_int_equal(next, 5000);
    backlog_free(&b);
    assert_null(backlog_first(&b));
    assert_int_equal(backlog_bytes(&b), 0);
}

static void test_what_goes_over_the_bound_changes_nothing(void **state)
{
    static char large[100000];
    struct backlog b = { 0 };
    struct backlog_item item = { .id = 1 };

    (void)state;
    assert_true(backlog_push(&b, item, slice_text("c"), slice_of("", 0), 200));
    assert_false(backlog_push(&b, item, slice_text("c"), slice_of(large, sizeof large), 200));
    assert_int_equal(b.n_items, 1);
    backlog_pop(&b);
    assert_true(backlog_push(&b, item, slice_of("", 0), slice_of(large, sizeof large), 200000));
    assert_int_equal(backlog_payload(backlog_first(&b)).n_bytes, sizeof large);
    backlog_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items_come_out_as_they_went_in),
        cmocka_unit_test(test_what_goes_over_the_bound_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
