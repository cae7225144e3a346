/* test_ws.c: frames as a client sends them, in whatever pieces they come; and what we send. */
#include "ws_run.h"

#include "proto/ws_utf8.h"

/* ---- Whole frames ---- */

static void test_text_binary_and_control_frames_arrive_whatever_the_cuts(void **state)
{
    (void)state;
    wire_clear();
    put_text(0x81, "hello");
    put_text(0x82, "raw");
    put_text(0x89, "are you there");
    put_text(0x8a, "");
    put_text(0x81, "");
    put_text(0x81, "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80");
    put_frame(0x88,
              "\x03\xe8"
              "bye",
              5);
    expect(100, "T\"hello\"B\"raw\"P\"are you there\"O\"\"T\"\""
                "T\"gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80\"C1000\"bye\".");
}

static void test_every_form_of_length_is_read(void **state)
{
    static const uint32_t sizes[] = { 0,    1,    124,  125,  126,   127,   4081,  4082,
                                      4083, 4095, 4096, 4097, 65535, 65536, 65537, 100000 };
    static uint8_t payload[100000];
    char expected[4096];

    (void)state;
    for (uint32_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + i / 256);
    for (uint32_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        begin(sizes[s]);
        run.n_message = 0;
        write_line("B");
        write_payload(payload, sizes[s]);
        write_line("T\"next\".");
        memcpy(expected, run.line, sizeof expected);
        ws_pool_free(run.pool);
        wire_clear();
        put_frame(0x82, payload, sizes[s]);
        put_text(0x81, "next");
        for (uint32_t cut = 0; cut < 20 && cut < wire.n; cut++)
            run_cut_at(cut, sizes[s] < 4 ? 4 : sizes[s], expected);
        for (uint32_t cut = 0; cut < 20; cut++)
            run_cut_at(wire.n - cut < wire.n ? wire.n - cut : 0, sizes[s] < 4 ? 4 : sizes[s],
                       expected);
        run_in_chunks(1, sizes[s] < 4 ? 4 : sizes[s], expected);
        run_in_chunks(4096, sizes[s] < 4 ? 4 : sizes[s], expected);
        run_in_chunks(1000, sizes[s] < 4 ? 4 : sizes[s], expected);
    }
}

static void test_fragments_are_joined_and_control_frames_may_stand_between(void **state)
{
    (void)state;
    wire_clear();
    put_text(0x01, "one ");
    put_text(0x89, "ping");
    put_text(0x00, "two ");
    put_text(0x8a, "pong");
    put_text(0x00, "");
    put_text(0x80, "three");
    put_text(0x02, "");
    put_text(0x00, "");
    put_text(0x80, "");
    put_text(0x02, "");
    put_text(0x80, "late");
    expect(13, "P\"ping\"O\"pong\"T\"one two three\"B\"\"B\"late\".");
}

static void test_an_unfinished_message_is_busy_without_holding_a_context(void **state)
{
    (void)state;
    wire_clear();
    put_text(0x01, "begun");
    expect(10, "~");
    begin(10);
    feed(wire.bytes, wire.n);
    assert_true(ws_in_busy(&run.in));
    assert_int_equal(ws_pool_lent(run.pool), 0);
    end("~", "at once", 0);
}

static void test_a_close_frame_ends_all_reading(void **state)
{
    (void)state;
    wire_clear();
    put_text(0x01, "cut off");
    put_text(0x88, "");
    put_text(0x83, "whatever \xff comes");
    put(0xff);
    expect(100, "C1005.");
}

/* ---- Faults ---- */

static void test_bad_first_bytes_are_refused_at_once(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        unsigned opcode = first & 15;
        bool control = opcode >= 8;
        bool known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
        bool good = !(first & 0x70) && known && opcode != 0 && (!control || (first & 0x80));

        wire_clear();
        put_text((uint8_t)first, "");
        if (!good)
            expect_fault_at(1, 10, "!1002");
        else
            expect(10, opcode == 8    ? "C1005."
                       : opcode == 9  ? "P\"\"."
                       : opcode == 10 ? "O\"\"."
                       : first < 0x80 ? "~"
                       : opcode == 1  ? "T\"\"."
                                      : "B\"\".");
    }
}

static int agree_on_deflate(void **state)
{
    (void)state;
    deflate = true;
    return 0;
}

static int agree_on_nothing(void **state)
{
    (void)state;
    deflate = false;
    return 0;
}

/* What is inside is no text before it has been decompressed. */
static void test_compressed_messages_are_told_from_others(void **state)
{
    (void)state;
    wire_clear();
    put_frame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07", 6);
    put_text(0x81, "plain");
    put_text(0x41, "one \xff");
    put_text(0x89, "ping");
    put_text(0x00, "");
    put_text(0x80, "two");
    put_text(0x81, "plain again");
    put_frame(0xc2, "", 0);
    put_text(0x02, "a");
    put_text(0x80, "b");
    expect(20, "zT\"\xf2\x48\xcd\xc9\xc9\x07\"T\"plain\"P\"ping\"zT\"one \xfftwo\"T\"plain "
               "again\"zB\"\"B\"ab\".");
}

static void test_rsv1_is_for_the_first_frame_of_a_message(void **state)
{
    static const uint8_t refused[] = { 0xc9, 0xca, 0xc8, 0xe1, 0xd1, 0xa2, 0xc0, 0x40, 0xc3 };

    (void)state;
    for (uint32_t i = 0; i < sizeof refused; i++) {
        wire_clear();
        put_text(refused[i], "x");
        expect_fault_at(1, 100, "!1002");
    }
    wire_clear();
    put_text(0x41, "x");
    put_text(0xc0, "y");
    expect_fault_at(8, 100, "!1002");
    wire_clear();
    put_text(0x01, "x");
    put_text(0xc0, "y");
    expect_fault_at(8, 100, "!1002");
    wire_clear();
    put_text(0xc1, "1234567890"); /* the limit holds for what comes as well */
    expect(9, "!1009");
}

static void test_a_new_message_inside_a_message_is_refused(void **state)
{
    (void)state;
    for (uint8_t first = 1; first < 3; first++) {
        wire_clear();
        put_text(0x01, "a");
        put_text((uint8_t)(0x80 | first), "b");
        expect_fault_at(8, 10, "!1002");
    }
}

static void test_a_continuation_of_nothing_is_refused(void **state)
{
    (void)state;
    wire_clear();
    put_text(0x01, "a");
    put_text(0x80, "b");
    put_text(0x80, "c");
    expect_fault_at(15, 10, "T\"ab\"!1002");
}

static void test_unmasked_frames_are_refused(void **state)
{
    (void)state;
    wire_clear();
    put(0x81);
    put(0x01);
    put('3');
    expect_fault_at(2, 10, "!1002");
}

static void test_long_control_frames_are_refused(void **state)
{
    static const uint8_t payload[126];

    (void)state;
    for (uint8_t first = 0x88; first <= 0x8a; first++) {
        wire_clear();
        put_frame(first, payload, 126);
        expect_fault_at(2, 1000, "!1002");
        wire_clear();
        put_frame_in_form(first, payload, 126, 8);
        expect_fault_at(2, 1000, "!1002");
    }
    wire_clear();
    put_frame(0x89, payload, 125);
    begin(0);
    write_line("P");
    write_payload(payload, 125);
    write_line(".");
    {
        char expected[64];

        memcpy(expected, run.line, sizeof expected);
        ws_pool_free(run.pool);
        expect(0, expected); /* the message limit is for messages */
    }
}

static void test_lengths_that_are_not_the_shortest_form_are_refused(void **state)
{
    static const uint8_t payload[65535];

    (void)state;
    wire_clear();
    put_frame_in_form(0x82, payload, 125, 2);
    expect_fault_at(4, 100000, "!1002");
    wire_clear();
    put_frame_in_form(0x82, payload, 0, 2);
    expect_fault_at(4, 100000, "!1002");
    wire_clear();
    put_frame_in_form(0x82, payload, 125, 8);
    expect_fault_at(10, 100000, "!1002");
    wire_clear();
    put(0x82);
    put(0xff);
    put_number(65535, 8);
    put_zeros(20);
    expect_fault_at(10, 100000, "!1002");
}

static void test_lengths_with_the_highest_bit_are_no_lengths(void **state)
{
    (void)state;
    wire_clear();
    put(0x82);
    put(0xff);
    put_number(UINT64_C(1) << 63 | 5, 8);
    put_zeros(9);
    expect_fault_at(10, UINT32_MAX, "!1002");
    wire_clear();
    put(0x82);
    put(0xff);
    put_number(INT64_MAX, 8);
    put_zeros(9);
    expect_fault_at(10, UINT32_MAX, "!1009");
    wire_clear();
    put(0x82);
    put(0xff);
    put_number(UINT64_C(1) << 32, 8); /* 0 in 32 bits */
    put_zeros(9);
    expect_fault_at(10, UINT32_MAX, "!1009");
}

static void test_a_message_over_the_limit_is_refused_before_its_payload(void **state)
{
    static const char payload[300];

    (void)state;
    wire_clear();
    put_frame(0x82, payload, 101);
    expect_fault_at(2, 100, "!1009");
    wire_clear();
    put_frame(0x82, payload, 300);
    expect_fault_at(4, 299, "!1009");
    wire_clear();
    put_text(0x01, "12345");
    put_text(0x00, "1234");
    put_text(0x80, "12");
    expect_fault_at(11 + 10 + 2, 10, "!1009");
    expect(11, "T\"12345123412\".");
    wire_clear();
    put_text(0x81, "");
    put_text(0x81, "1");
    expect_fault_at(6 + 2, 0, "T\"\"!1009");
}

static void test_the_limit_counts_each_message_anew(void **state)
{
    (void)state;
    wire_clear();
    for (int i = 0; i < 5; i++) {
        put_text(0x01, "123");
        put_text(0x80, "45");
    }
    expect(5, "T\"12345\"T\"12345\"T\"12345\"T\"12345\"T\"12345\".");
}

/* ---- Close frames ---- */

static void test_close_codes_are_those_of_the_registry(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code <= 4999);
        uint8_t payload[2] = { (uint8_t)(code >> 8), (uint8_t)code };
        char expected[16];

        wire_clear();
        put_frame(0x88, payload, 2);
        (void)snprintf(expected, sizeof expected, good ? "C%u." : "!1002", code);
        run_cut_at(0, 10, expected);
    }
}

static void test_close_frames_of_one_byte_are_refused(void **state)
{
    (void)state;
    wire_clear();
    put_frame(0x88, "\x03", 1);
    expect(10, "!1002");
}

static void test_close_reasons_must_be_utf8(void **state)
{
    (void)state;
    wire_clear();
    put_frame(0x88, "\x03\xe8\xe2\x82\xac", 5);
    expect(10, "C1000\"\xe2\x82\xac\".");
    wire_clear();
    put_frame(0x88, "\x03\xe8\xe2\x82", 4);
    expect(10, "!1007");
    wire_clear();
    put_frame(0x88, "\x03\xe8\xff", 3);
    expect(10, "!1007");
    wire_clear();
    put_frame(0x88, "\x03\xed\xff", 3); /* 1005: the code counts first */
    expect(10, "!1002");
}

/* ---- The pool ---- */

static void test_an_empty_pool_consumes_nothing_and_serves_later(void **state)
{
    struct ws_pool *pool = ws_pool_new(1);
    struct ws_in first = { 0 };
    struct ws_in second = { 0 };
    struct ws_piece piece;
    struct slice input;

    (void)state;
    assert_non_null(pool);
    wire_clear();
    put_text(0x81, "hi");
    input = slice_of(wire.bytes, 7);
    assert_int_equal(ws_next(&first, pool, &input, 10, &piece), WS_DATA);
    assert_int_equal(ws_pool_lent(pool), 1);
    input = slice_of(wire.bytes, wire.n);
    assert_int_equal(ws_next(&second, pool, &input, 10, &piece), WS_NO_CONTEXT);
    assert_int_equal(input.n_bytes, wire.n);
    assert_false(ws_in_busy(&second));
    input = slice_of(wire.bytes + 7, 1);
    assert_int_equal(ws_next(&first, pool, &input, 10, &piece), WS_DATA);
    assert_true(piece.last);
    assert_int_equal(ws_pool_lent(pool), 0);
    input = slice_of(wire.bytes, wire.n);
    assert_int_equal(ws_next(&second, pool, &input, 10, &piece), WS_DATA);
    assert_true(piece.last);
    assert_memory_equal(piece.bytes.bytes, "hi", 2);
    ws_pool_free(pool);
}

static void test_a_context_keeps_nothing_of_the_next_frame(void **state)
{
    struct ws_pool *pool = ws_pool_new(1);
    struct ws_in a = { 0 };
    struct ws_in b = { 0 };
    struct ws_piece piece;
    struct slice input_a;
    struct slice input_b;

    (void)state;
    assert_non_null(pool);
    wire_clear();
    put_text(0x81, "first");
    put_text(0x81, "second");
    input_a = slice_of(wire.bytes, wire.n);
    input_b = input_a;
    /* Two connections take turns with the only context, a frame each, though all bytes are there. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ws_next(&a, pool, &input_a, 10, &piece), WS_DATA);
        assert_true(slice_is(piece.bytes, i == 0 ? "first" : "second"));
        assert_int_equal(input_a.n_bytes, i == 0 ? 12 : 0);
        assert_int_equal(ws_next(&b, pool, &input_b, 10, &piece), WS_DATA);
        assert_true(slice_is(piece.bytes, i == 0 ? "first" : "second"));
        assert_int_equal(ws_pool_lent(pool), 0);
    }
    ws_pool_free(pool);
}

static void test_contexts_that_failed_or_were_cut_off_do_not_spoil_the_pool(void **state)
{
    struct ws_pool *pool = ws_pool_new(2);
    struct ws_piece piece;
    struct ws_in in = { 0 };
    struct slice input;

    (void)state;
    assert_non_null(pool);
    for (uint32_t cut = 1; cut < 8; cut++) {
        wire_clear();
        put_text(0x81, "hi");
        input = slice_of(wire.bytes, cut);
        (void)!ws_next(&in, pool, &input, 10, &piece);
        ws_in_reset(&in, pool);
        assert_int_equal(ws_pool_lent(pool), 0);
        wire.bytes[7] ^= 0xff;
        input = slice_of(wire.bytes, wire.n);
        assert_int_equal(ws_next(&in, pool, &input, 10, &piece), WS_BAD_UTF8);
        assert_int_equal(ws_pool_lent(pool), 0);
        assert_int_equal(ws_next(&in, pool, &input, 10, &piece), WS_NEED_MORE); /* no reset yet */
        ws_in_reset(&in, pool);
        wire.bytes[7] ^= 0xff;
        input = slice_of(wire.bytes, wire.n);
        assert_int_equal(ws_next(&in, pool, &input, 10, &piece), WS_DATA);
        assert_true(slice_is(piece.bytes, "hi"));
    }
    ws_pool_free(pool);
}

/* ---- What we send ---- */

static void test_server_headers_have_the_shortest_length_and_no_mask(void **state)
{
    static const struct {
        uint64_t payload_bytes;
        uint32_t n;
        uint8_t header[WS_HEADER_MAX];
    } cases[] = {
        { 0, 2, { 0x81, 0 } },
        { 125, 2, { 0x81, 125 } },
        { 126, 4, { 0x81, 126, 0, 126 } },
        { 65535, 4, { 0x81, 126, 0xff, 0xff } },
        { 65536, 10, { 0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0 } },
        { INT64_MAX, 10, { 0x81, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255 } },
    };
    uint8_t out[WS_HEADER_MAX];

    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(ws_put_header(out, WS_TEXT, cases[i].payload_bytes), cases[i].n);
        assert_memory_equal(out, cases[i].header, cases[i].n);
    }
    assert_int_equal(ws_put_header(out, WS_PONG, 3), 2);
    assert_memory_equal(out, "\x8a\x03", 2);
    assert_int_equal(ws_put_header(out, WS_BINARY, 1), 2);
    assert_memory_equal(out, "\x82\x01", 2);
}

static void test_close_frames_are_cut_at_a_character(void **state)
{
    uint8_t out[2 + WS_CONTROL_MAX];
    char reason[200];

    (void)state;
    assert_int_equal(ws_put_close(out, WS_CLOSE_NO_STATUS, "never sent"), 2);
    assert_memory_equal(out, "\x88\x00", 2);
    assert_int_equal(ws_put_close(out, WS_CLOSE_PROTOCOL, NULL), 4);
    assert_memory_equal(out, "\x88\x02\x03\xea", 4);
    assert_int_equal(ws_put_close(out, WS_CLOSE_RESTART, "drain"), 9);
    assert_memory_equal(out,
                        "\x88\x07\x03\xf4"
                        "drain",
                        9);
    for (uint32_t lead = 0; lead < 8; lead++) {
        uint8_t now = WS_UTF8_WHOLE;
        uint32_t n;

        memset(reason, 'x', lead);
        for (uint32_t i = lead; i + 3 < sizeof reason; i += 3)
            memcpy(reason + i, "\xe2\x82\xac", 4);
        n = ws_put_close(out, WS_CLOSE_POLICY, reason);
        assert_int_equal(n, 2 + 2 + lead + (123 - lead) / 3 * 3);
        assert_int_equal(out[1], n - 2);
        assert_true(ws_utf8_take(&now, slice_of(out + 4, n - 4)));
        assert_int_equal(now, WS_UTF8_WHOLE);
    }
    memset(reason, 'y', 123);
    reason[123] = '\0';
    assert_int_equal(ws_put_close(out, WS_CLOSE_POLICY, reason), 127);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_binary_and_control_frames_arrive_whatever_the_cuts),
        cmocka_unit_test(test_every_form_of_length_is_read),
        cmocka_unit_test(test_fragments_are_joined_and_control_frames_may_stand_between),
        cmocka_unit_test(test_an_unfinished_message_is_busy_without_holding_a_context),
        cmocka_unit_test(test_a_close_frame_ends_all_reading),
        cmocka_unit_test(test_bad_first_bytes_are_refused_at_once),
        cmocka_unit_test_setup_teardown(test_compressed_messages_are_told_from_others,
                                        agree_on_deflate, agree_on_nothing),
        cmocka_unit_test_setup_teardown(test_rsv1_is_for_the_first_frame_of_a_message,
                                        agree_on_deflate, agree_on_nothing),
        cmocka_unit_test(test_a_new_message_inside_a_message_is_refused),
        cmocka_unit_test(test_a_continuation_of_nothing_is_refused),
        cmocka_unit_test(test_unmasked_frames_are_refused),
        cmocka_unit_test(test_long_control_frames_are_refused),
        cmocka_unit_test(test_lengths_that_are_not_the_shortest_form_are_refused),
        cmocka_unit_test(test_lengths_with_the_highest_bit_are_no_lengths),
        cmocka_unit_test(test_a_message_over_the_limit_is_refused_before_its_payload),
        cmocka_unit_test(test_the_limit_counts_each_message_anew),
        cmocka_unit_test(test_close_codes_are_those_of_the_registry),
        cmocka_unit_test(test_close_frames_of_one_byte_are_refused),
        cmocka_unit_test(test_close_reasons_must_be_utf8),
        cmocka_unit_test(test_an_empty_pool_consumes_nothing_and_serves_later),
        cmocka_unit_test(test_a_context_keeps_nothing_of_the_next_frame),
        cmocka_unit_test(test_contexts_that_failed_or_were_cut_off_do_not_spoil_the_pool),
        cmocka_unit_test(test_server_headers_have_the_shortest_length_and_no_mask),
        cmocka_unit_test(test_close_frames_are_cut_at_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
