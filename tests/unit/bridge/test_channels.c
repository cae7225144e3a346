/* test_channels.c: who needs which channel, and for how long it stays when nobody does. */
#include "bridge/channels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t key[2] = { 1, 2 };
static struct channels cs;

static int teardown(void **state)
{
    (void)state;
    channels_check(&cs);
    channels_destroy(&cs);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return channels_init(&cs, 4, key) ? 0 : -1;
}

static uint32_t hold(const char *name, uint64_t holders)
{
    uint32_t index = channels_hold(&cs, slice_text(name), holders);

    channels_check(&cs);
    return index;
}

static void test_a_channel_stays_while_somebody_holds_it(void **state)
{
    uint32_t a = hold("a", 1);

    (void)state;
    assert_int_not_equal(a, CHANNEL_NONE);
    assert_int_equal(cs.entries[a].node, CHANNEL_NODE_NONE);
    assert_int_equal(hold("a", 2), a);
    assert_int_equal(cs.entries[a].holders, 3);
    channels_release(&cs, a, 1, 100);
    assert_int_equal(channels_oldest(&cs), CHANNEL_NONE);
    channels_release(&cs, a, 4, 100); /* who does not hold it changes nothing */
    assert_int_equal(cs.entries[a].holders, 2);
    channels_release(&cs, a, 2, 100);
    assert_int_equal(channels_oldest(&cs), a);
    assert_int_equal(cs.entries[a].until_ms, 100);
    assert_int_equal(channels_find(&cs, slice_text("a")), a);
    channels_remove(&cs, a);
    assert_int_equal(channels_find(&cs, slice_text("a")), CHANNEL_NONE);
    assert_int_equal(cs.n_used, 0);
}

static void test_who_comes_back_keeps_the_channel_and_its_subscription(void **state)
{
    uint32_t a = hold("a", 1), b = hold("b", 1), c = hold("c", 1);

    (void)state;
    cs.entries[b].node = 7;
    cs.entries[b].confirmed = true;
    channels_release(&cs, a, 1, 100);
    channels_release(&cs, b, 1, 200);
    channels_release(&cs, c, 1, 150); /* earlier than the one before it: it goes with that one */
    assert_int_equal(cs.entries[c].until_ms, 200);
    assert_int_equal(hold("b", 2), b);
    assert_int_equal(cs.entries[b].node, 7);
    assert_true(cs.entries[b].confirmed);
    assert_int_equal(channels_oldest(&cs), a);
    channels_remove(&cs, a);
    assert_int_equal(channels_oldest(&cs), c);
    channels_remove(&cs, c);
    assert_int_equal(channels_oldest(&cs), CHANNEL_NONE);
}

static void test_a_full_table_refuses_and_says_so(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        char name[2] = { (char)('a' + i), 0 };

        assert_false(channels_full(&cs));
        assert_int_not_equal(hold(name, 1), CHANNEL_NONE);
    }
    assert_true(channels_full(&cs));
    assert_int_equal(hold("e", 1), CHANNEL_NONE);
    assert_int_not_equal(hold("b", 2), CHANNEL_NONE); /* it is there already */
    channels_remove(&cs, channels_find(&cs, slice_text("c")));
    assert_int_not_equal(hold("e", 1), CHANNEL_NONE);
    assert_int_not_equal(hold("", 0x10), channels_find(&cs, slice_text("e")));
}

static void test_many_channels_come_and_go(void **state)
{
    (void)state;
    channels_destroy(&cs);
    assert_true(channels_init(&cs, 5000, key));
    srand(7);
    for (uint32_t i = 0; i < 60000; i++) {
        char name[16];
        uint32_t n = (uint32_t)rand();
        uint32_t index;

        (void)snprintf(name, sizeof name, "room %u", n % 3000);
        index = channels_find(&cs, slice_text(name));
        if ((n >> 16) % 3 != 0)
            assert_int_not_equal(channels_hold(&cs, slice_text(name), 1ull << n % 60),
                                 CHANNEL_NONE);
        else if (index != CHANNEL_NONE)
            channels_release(&cs, index, UINT64_MAX, i);
        while ((index = channels_oldest(&cs)) != CHANNEL_NONE &&
               cs.entries[index].until_ms + 500 < i)
            channels_remove(&cs, index);
        if (i % 5000 == 0)
            channels_check(&cs);
    }
    assert_true(cs.n_used > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_channel_stays_while_somebody_holds_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_comes_back_keeps_the_channel_and_its_subscription,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_table_refuses_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_channels_come_and_go, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
