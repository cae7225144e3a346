/* test_input.c: incomplete input is kept, charged, bounded, and forgotten as a whole. */
#include "lib/shm_fixture.h"
#include "session/input.h"
#include "shm/atomic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/http.h"

static struct shm_fixture fixture;
static struct hub hub;

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 2, 1u << 20);
    fixture.config.max_message_bytes = 5000;
    fixture.config.event_bytes_max = 6000;
    fixture.config.message_timeout_ms = 1000;
    fixture.config.inbound_bytes_total = 50000;
    hub = (struct hub){ .config = &fixture.config, .region = fixture.views[0], .now_ms = 100 };
    hub.row = &hub.region.counters[0];
    hub.inputs = inputs_new();
    assert_non_null(hub.inputs);
    return conns_init(&hub.conns, NULL, 8, 0, 0);
}

/* Whatever a test has begun, forgetting its connections leaves nothing. */
static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < hub.conns.max; i++) {
        inputs_drop(&hub, conn_at(&hub.conns, i));
        assert_null(hub.conns.cold[i].input);
    }
    assert_int_equal(inputs_bytes(&hub), 0);
    assert_int_equal(inputs_over(&hub), CONN_NONE);
    inputs_free(hub.inputs);
    shm_fixture_destroy(&fixture);
    return 0;
}

static struct conn *conn(uint32_t i)
{
    return conn_at(&hub.conns, i);
}

static enum input_result add(struct conn *c, const char *text, bool first, bool last,
                             struct message *out)
{
    struct ws_piece piece = {
        .bytes = slice_text(text), .opcode = WS_TEXT, .first = first, .last = last
    };

    return input_add(&hub, c, &piece, out);
}

static uint64_t gauge(void)
{
    return shm_load_u64(&hub.row->gauges[GAUGE_INBOUND_BYTES]);
}

static void test_a_message_in_one_piece_is_not_kept(void **state)
{
    const char *text = "whole";
    struct message m;

    (void)state;
    assert_int_equal(add(conn(0), text, true, true, &m), INPUT_COMPLETE);
    assert_ptr_equal(m.bytes.bytes, text);
    assert_int_equal(m.opcode, WS_TEXT);
    assert_int_equal(inputs_bytes(&hub), 0);
    assert_int_equal(input_deadline(&hub, conn(0)), UINT64_MAX);
    input_done(&hub, conn(0));
}

static void test_pieces_become_one_message_until_it_is_done_with(void **state)
{
    struct message m;

    (void)state;
    assert_int_equal(add(conn(0), "a", true, false, &m), INPUT_MORE);
    hub.now_ms = 500;
    assert_int_equal(add(conn(0), "", false, false, &m), INPUT_MORE);
    assert_int_equal(add(conn(1), "other", true, false, &m), INPUT_MORE);
    assert_int_equal(input_deadline(&hub, conn(0)), 1100); /* from its first byte */
    assert_int_equal(gauge(), inputs_bytes(&hub));
    assert_true(gauge() > 0);
    assert_int_equal(add(conn(0), "bc", false, true, &m), INPUT_COMPLETE);
    assert_true(slice_is(m.bytes, "abc"));
    input_done(&hub, conn(0));
    assert_null(hub.conns.cold[0].input);
    assert_int_equal(input_deadline(&hub, conn(0)), UINT64_MAX);
    assert_int_equal(add(conn(1), "!", false, true, &m), INPUT_COMPLETE);
    assert_true(slice_is(m.bytes, "other!"));
}

static void test_a_message_may_be_as_long_as_the_limit(void **state)
{
    static char text[2001];
    struct message m;

    (void)state;
    memset(text, 'x', 2000);
    assert_int_equal(add(conn(0), text, true, false, &m), INPUT_MORE);
    assert_int_equal(add(conn(0), text, false, false, &m), INPUT_MORE);
    text[1000] = 0;
    assert_int_equal(add(conn(0), text, false, true, &m), INPUT_COMPLETE);
    assert_int_equal(m.bytes.n_bytes, 5000);
    assert_true(inputs_bytes(&hub) < 5000 + 1000); /* buffers double, but not beyond the limit */
    assert_int_equal(m.bytes.bytes[4999], 'x');
    input_done(&hub, conn(0));
}

static void test_a_request_head_grows_up_to_its_limit_and_can_be_taken_out(void **state)
{
    static char bytes[RECEIVE_BUFFER_BYTES];
    struct slice all;
    uint32_t *scanned;
    uint32_t n = 0;

    (void)state;
    memset(bytes, 'h', sizeof bytes);
    while (n + sizeof bytes <= HTTP_HEAD_MAX + RECEIVE_BUFFER_BYTES) {
        assert_int_equal(
            input_add_head(&hub, conn(0), slice_of(bytes, sizeof bytes), &all, &scanned),
            INPUT_COMPLETE);
        assert_int_equal(*scanned, n);
        n += sizeof bytes;
        *scanned = n;
        assert_int_equal(all.n_bytes, n);
    }
    assert_int_equal(input_add_head(&hub, conn(0), slice_of(bytes, 1), &all, &scanned),
                     INPUT_TOO_BIG);
    all = input_take_head(&hub, conn(0));
    assert_int_equal(all.n_bytes, n);
    free((void *)(uintptr_t)all.bytes);
    assert_int_equal(inputs_bytes(&hub), 0);
    assert_null(input_take_head(&hub, conn(0)).bytes);
}

static void test_an_event_is_whole_when_its_attachments_have_come(void **state)
{
    struct slice attachments[SIO_ATTACHMENTS_MAX];
    struct slice packet;
    uint32_t n;

    (void)state;
    assert_false(input_expects(&hub, conn(0)));
    assert_int_equal(input_expect(&hub, conn(0), slice_text("52-[...]"), 2), INPUT_MORE);
    assert_true(input_expects(&hub, conn(0)));
    assert_int_equal(input_deadline(&hub, conn(0)), 1100);
    hub.now_ms = 900;
    assert_int_equal(input_attach(&hub, conn(0), slice_text("one")), INPUT_MORE);
    input_done(&hub, conn(0)); /* the frame is done with, the event is not */
    assert_int_equal(input_deadline(&hub, conn(0)), 1100);
    assert_int_equal(input_attach(&hub, conn(0), slice_of("", 0)), INPUT_COMPLETE);
    input_event(&hub, conn(0), &packet, attachments, &n);
    assert_true(slice_is(packet, "52-[...]"));
    assert_int_equal(n, 2);
    assert_true(slice_is(attachments[0], "one"));
    assert_int_equal(attachments[1].n_bytes, 0);
    assert_non_null(attachments[1].bytes);
    input_event_done(&hub, conn(0));
    assert_false(input_expects(&hub, conn(0)));
    assert_int_equal(inputs_bytes(&hub), 0);
}

static void test_an_event_with_its_attachments_is_bounded(void **state)
{
    static char bytes[5990];

    (void)state;
    assert_int_equal(input_expect(&hub, conn(0), slice_text("0123456789"), 3), INPUT_MORE);
    assert_int_equal(input_attach(&hub, conn(0), slice_of(bytes, 5989)), INPUT_MORE);
    assert_int_equal(input_attach(&hub, conn(0), slice_of(bytes, 2)), INPUT_TOO_BIG);
    assert_int_equal(input_attach(&hub, conn(0), slice_of(bytes, 1)), INPUT_MORE);
}

static void test_a_stalled_message_waits_with_the_bytes_behind_it(void **state)
{
    char received[] = "messagerest";
    struct message m = { slice_of(received, 7), WS_BINARY };
    struct message waiting;
    struct slice rest;

    (void)state;
    assert_false(input_stalled(&hub, conn(0), &waiting));
    assert_int_equal(input_stall(&hub, conn(0), &m, slice_of(received + 7, 4)), INPUT_MORE);
    memset(received, 0, sizeof received); /* the receive buffer went back */
    assert_true((conn(0)->flags & CONN_PAUSED) != 0);
    assert_int_equal(input_deadline(&hub, conn(0)), UINT64_MAX); /* it waits for us */
    assert_true(input_stalled(&hub, conn(0), &waiting));
    assert_true(slice_is(waiting.bytes, "message"));
    assert_int_equal(waiting.opcode, WS_BINARY);
    rest = input_unstall(&hub, conn(0));
    assert_true(slice_is(rest, "rest"));
    free((void *)(uintptr_t)rest.bytes);
    assert_false(input_stalled(&hub, conn(0), &waiting));
    assert_int_equal(inputs_bytes(&hub), 0);
}

static void test_a_message_put_together_stalls_without_being_copied(void **state)
{
    struct message m, waiting;

    (void)state;
    assert_int_equal(add(conn(0), "two ", true, false, &m), INPUT_MORE);
    assert_int_equal(add(conn(0), "pieces", false, true, &m), INPUT_COMPLETE);
    assert_int_equal(input_stall(&hub, conn(0), &m, (struct slice){ NULL, 0 }), INPUT_MORE);
    assert_true(input_stalled(&hub, conn(0), &waiting));
    assert_ptr_equal(waiting.bytes.bytes, m.bytes.bytes);
    assert_true(slice_is(waiting.bytes, "two pieces"));
    assert_null(input_unstall(&hub, conn(0)).bytes);
    assert_null(hub.conns.cold[0].input);
}

static void test_an_empty_message_can_stall(void **state)
{
    struct message m = { slice_of("", 0), WS_TEXT };
    struct message waiting;

    (void)state;
    assert_int_equal(input_stall(&hub, conn(0), &m, (struct slice){ NULL, 0 }), INPUT_MORE);
    assert_true(input_stalled(&hub, conn(0), &waiting));
    assert_int_equal(waiting.bytes.n_bytes, 0);
    (void)input_unstall(&hub, conn(0));
}

static void test_a_frame_under_way_has_a_deadline(void **state)
{
    (void)state;
    input_mark_busy(&hub, conn(0), false);
    assert_null(hub.conns.cold[0].input);
    input_mark_busy(&hub, conn(0), true);
    hub.now_ms = 700;
    input_mark_busy(&hub, conn(0), true);
    assert_int_equal(input_deadline(&hub, conn(0)), 1100);
    input_mark_busy(&hub, conn(0), false);
    assert_int_equal(input_deadline(&hub, conn(0)), UINT64_MAX);
    assert_null(hub.conns.cold[0].input);
}

static void test_beyond_the_hosts_limit_the_oldest_goes(void **state)
{
    struct message m;

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(add(conn(i), "begun", true, false, &m), INPUT_MORE);
    assert_int_equal(inputs_over(&hub), CONN_NONE);
    gauge_set(&hub.region.counters[1], GAUGE_INBOUND_BYTES, 50000); /* the other worker's */
    assert_int_equal(inputs_over(&hub), 0);
    assert_int_equal(add(conn(0), "", false, true, &m), INPUT_COMPLETE);
    input_done(&hub, conn(0));
    assert_int_equal(add(conn(0), "anew", true, false, &m), INPUT_MORE);
    assert_int_equal(inputs_over(&hub), 1); /* the first one is the youngest now */
    inputs_drop(&hub, conn(1));
    assert_int_equal(inputs_over(&hub), 2);
    gauge_set(&hub.region.counters[1], GAUGE_INBOUND_BYTES, 0);
    assert_int_equal(inputs_over(&hub), CONN_NONE);
}

static void test_whoever_sends_without_a_break_is_not_kept_waiting_for_an_old_deadline(void **state)
{
    struct message m;

    (void)state;
    input_mark_busy(&hub, conn(0), true); /* a frame that ends, and the next one that begins */
    hub.now_ms = 1000;
    assert_int_equal(add(conn(0), "first", true, true, &m), INPUT_COMPLETE);
    input_done(&hub, conn(0));
    input_mark_busy(&hub, conn(0), true);
    assert_int_equal(input_deadline(&hub, conn(0)), 2000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_message_in_one_piece_is_not_kept),
        TEST(test_pieces_become_one_message_until_it_is_done_with),
        TEST(test_a_message_may_be_as_long_as_the_limit),
        TEST(test_a_request_head_grows_up_to_its_limit_and_can_be_taken_out),
        TEST(test_an_event_is_whole_when_its_attachments_have_come),
        TEST(test_an_event_with_its_attachments_is_bounded),
        TEST(test_a_stalled_message_waits_with_the_bytes_behind_it),
        TEST(test_a_message_put_together_stalls_without_being_copied),
        TEST(test_an_empty_message_can_stall),
        TEST(test_a_frame_under_way_has_a_deadline),
        TEST(test_beyond_the_hosts_limit_the_oldest_goes),
        TEST(test_whoever_sends_without_a_break_is_not_kept_waiting_for_an_old_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
