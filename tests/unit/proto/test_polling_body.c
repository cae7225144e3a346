/* test_polling_body.c: what polling requests and answers are made of: base64, payloads of packets, bodies by length and in chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base64.h"
#include "proto/eio_payload.h"
#include "proto/http_body.h"

/* --- base64 --- */

static void expect_base64(const char *bytes, uint32_t n_bytes, const char *text)
{
    char out[64];
    uint8_t back[64];

    assert_int_equal(base64_encode(out, (const uint8_t *)bytes, n_bytes), strlen(text));
    assert_int_equal(base64_chars(n_bytes), strlen(text));
    assert_memory_equal(out, text, strlen(text));
    assert_int_equal(base64_decode(back, slice_text(text)), n_bytes);
    assert_memory_equal(back, bytes, n_bytes);
}

static void test_base64_is_that_of_rfc_4648(void **state)
{
    (void)state;
    expect_base64("", 0, "");
    expect_base64("f", 1, "Zg==");
    expect_base64("fo", 2, "Zm8=");
    expect_base64("foo", 3, "Zm9v");
    expect_base64("foob", 4, "Zm9vYg==");
    expect_base64("\x01\x02\x03\x04", 4, "AQIDBA==");
    expect_base64("\xff\xfe\xfd\x00", 4, "//79AA==");
}

/* Each answer is Node's: Buffer.from(text, "base64").toString("hex"). */
static void test_decoding_is_as_lenient_as_nodes(void **state)
{
    static const struct {
        const char *text, *bytes;
        uint32_t n;
    } cases[] = {
        { "AQIDBA", "\x01\x02\x03\x04", 4 },      { "AQ ID\nBA==", "\x01\x02\x03\x04", 4 },
        { "__79AA", "\xff\xfe\xfd\x00", 4 },      { "AQ==AQ==", "\x01", 1 },
        { "A", "", 0 },                           { "*", "", 0 },
        { "AQIDBA==trailing", "\x01\x02\x03\x04", 4 },
    };
    uint8_t out[64];
    (void)state;

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(base64_decode(out, slice_text(cases[i].text)), cases[i].n);
        assert_memory_equal(out, cases[i].bytes, cases[i].n);
    }
}

/* --- payloads --- */

static uint32_t put_frame(uint8_t *out, enum ws_opcode opcode, const char *bytes, uint32_t n)
{
    uint32_t at = ws_put_header(out, opcode, n);

    memcpy(out + at, bytes, n);
    return at + n;
}

static void test_frames_become_packets_with_a_separator(void **state)
{
    static const char expected[] = "4hello\x1e"
                                   "bAQIDBA==\x1e"
                                   "2";
    uint8_t frames[64];
    char body[64];
    uint32_t n = put_frame(frames, WS_TEXT, "4hello", 6);
    (void)state;

    n += put_frame(frames + n, WS_BINARY, "\x01\x02\x03\x04", 4);
    n += put_frame(frames + n, WS_PING, "", 0); /* no packet */
    n += put_frame(frames + n, WS_TEXT, "2", 1);
    n = eio_payload_put_frames(body, 0, slice_of(frames, n));
    assert_int_equal(n, sizeof expected - 1);
    assert_memory_equal(body, expected, n);
}

static void test_every_length_of_frame_fits_the_bound(void **state)
{
    static const uint32_t lengths[] = { 0, 1, 2, 3, 124, 125, 126, 127, 65535, 65536, 70001 };
    (void)state;

    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int binary = 0; binary < 2; binary++) {
            uint32_t n = lengths[i];
            char *bytes = calloc(1, n + 1);
            uint8_t *frame = malloc(WS_HEADER_MAX + n);
            uint32_t n_frame = put_frame(frame, binary ? WS_BINARY : WS_TEXT, bytes, n);
            uint64_t max = eio_payload_max(n_frame);
            char *body = malloc(1 + max); /* the sanitizer sees a byte too many */
            uint32_t end = eio_payload_put_frames(body, 1, slice_of(frame, n_frame));

            assert_int_equal(end, 2 + (binary ? 1 + base64_chars(n) : n));
            assert_true(end <= 1 + max);
            free(body);
            free(frame);
            free(bytes);
        }
    }
}

static void test_a_payload_is_taken_apart(void **state)
{
    struct slice rest = slice_text("4a\x1e\x1e"
                                   "b\x1e");
    struct slice packet;
    (void)state;

    assert_true(eio_payload_next(&rest, &packet));
    assert_true(slice_is(packet, "4a"));
    assert_true(eio_payload_next(&rest, &packet));
    assert_int_equal(packet.n_bytes, 0);
    assert_true(eio_payload_next(&rest, &packet));
    assert_true(slice_is(packet, "b"));
    assert_true(eio_payload_next(&rest, &packet)); /* behind the last separator there is an empty one */
    assert_int_equal(packet.n_bytes, 0);
    assert_false(eio_payload_next(&rest, &packet));
    rest = slice_text("");
    assert_true(eio_payload_next(&rest, &packet));
    assert_int_equal(packet.n_bytes, 0);
    assert_false(eio_payload_next(&rest, &packet));
}

/* --- bodies --- */

/* Gives `input` in pieces of `step` bytes; `content` gets what comes out. `left` is what the decoder did not take. */
static enum http_body_result run(struct http_request request, const char *input, uint32_t step,
                                 char *content, uint32_t *n_content, uint32_t *n_left)
{
    struct http_body body;
    uint32_t n = (uint32_t)strlen(input);
    enum http_body_result result = HTTP_BODY_MORE;
    uint32_t at = 0;

    http_body_init(&body, &request);
    *n_content = 0;
    do {
        uint32_t give = n - at < step ? n - at : step;
        struct slice bytes = slice_of(input + at, give);
        struct slice piece;

        while ((result = http_body_next(&body, &bytes, &piece)) == HTTP_BODY_PIECE) {
            memcpy(content + *n_content, piece.bytes, piece.n_bytes);
            *n_content += piece.n_bytes;
        }
        at += give - bytes.n_bytes;
    } while (result == HTTP_BODY_MORE && at < n);
    *n_left = n - at;
    return result;
}

static void expect_body(bool chunked, uint64_t length, const char *input, const char *content,
                        const char *left)
{
    struct http_request request = { .chunked = chunked, .content_length = length };

    for (uint32_t step = 1; step <= strlen(input) + 1; step++) {
        char out[256];
        uint32_t n, n_left;

        assert_int_equal(run(request, input, step, out, &n, &n_left), HTTP_BODY_END);
        assert_int_equal(n, strlen(content));
        assert_memory_equal(out, content, n);
        assert_int_equal(n_left, strlen(left));
    }
}

static void test_bodies_however_they_are_cut(void **state)
{
    (void)state;
    expect_body(false, 0, "", "", "");
    expect_body(false, 0, "GET", "", "GET");
    expect_body(false, 5, "hello", "hello", "");
    expect_body(false, 5, "helloGET /", "hello", "GET /");
    expect_body(true, 0, "0\r\n\r\n", "", "");
    expect_body(true, 0, "5\r\nhello\r\n0\r\n\r\nGET /", "hello", "GET /");
    expect_body(true, 0, "5;a=b\r\nhello\r\nA \r\n0123456789\r\n00\r\nTrailer: x\r\n\r\nP",
                "hello0123456789", "P");
}

static void test_chunks_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "\r\n",         "g\r\n",          "5\nhello",       "5\r\nhelloX",      "5\r\nhello\nX",
        "-1\r\n",       "0x5\r\n",        "123456789\r\n",  "5\rhello",         ";a\r\n",
        "0\r\n\n",      "0\r\nT: x\n\r\n", "5;\nhello\r\n",  "0\r\nT: x\r\r\n\r\n",
    };
    struct http_request request = { .chunked = true };
    char out[64];
    uint32_t n, n_left;
    (void)state;

    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (uint32_t step = 1; step <= strlen(bad[i]); step++)
            if (run(request, bad[i], step, out, &n, &n_left) != HTTP_BODY_BAD)
                fail_msg("case %u was taken", i);
}

static void test_lines_in_a_body_are_bounded(void **state)
{
    static char input[8192];
    struct http_request request = { .chunked = true };
    char out[64];
    uint32_t n, n_left;
    (void)state;

    memset(input, 'x', sizeof input - 1);
    memcpy(input, "5;", 2);
    assert_int_equal(run(request, input, 1000, out, &n, &n_left), HTTP_BODY_BAD);
    memcpy(input, "0\r\nT:", 5);
    assert_int_equal(run(request, input, 1000, out, &n, &n_left), HTTP_BODY_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_is_that_of_rfc_4648),
        cmocka_unit_test(test_decoding_is_as_lenient_as_nodes),
        cmocka_unit_test(test_frames_become_packets_with_a_separator),
        cmocka_unit_test(test_every_length_of_frame_fits_the_bound),
        cmocka_unit_test(test_a_payload_is_taken_apart),
        cmocka_unit_test(test_bodies_however_they_are_cut),
        cmocka_unit_test(test_chunks_that_are_none_are_refused),
        cmocka_unit_test(test_lines_in_a_body_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
