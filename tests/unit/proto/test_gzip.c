/* test_gzip.c: which coding is taken, and that what is compressed comes back the same. */
#include "lib/http_request.h"

#include <malloc.h>
#include <zlib.h>

#include "proto/gzip.h"

#define BODY_MAX 100000

static struct gzip *gzip;
static char body[BODY_MAX], back[BODY_MAX];
static uint8_t out[BODY_MAX];

static int make_gzip(void **state)
{
    (void)state;
    gzip = gzip_new(GZIP_LEVEL_FAST);
    return gzip == NULL;
}

static int free_gzip(void **state)
{
    (void)state;
    gzip_free(gzip);
    gzip_free(NULL);
    return 0;
}

/* --- negotiation --- */

static enum coding negotiate(const char *value)
{
    char line[1024];

    (void)snprintf(line, sizeof line, "Accept-Encoding: %s\r\n", value);
    parse_request("GET /", line);
    return gzip_negotiate(&request);
}

static void test_gzip_is_taken_where_it_is_as_good_as_deflate(void **state)
{
    (void)state;
    assert_int_equal(negotiate("gzip, deflate, br"), CODING_GZIP);
    assert_int_equal(negotiate("deflate, gzip"), CODING_GZIP);
    assert_int_equal(negotiate("GZip"), CODING_GZIP);
    assert_int_equal(negotiate("x-gzip"), CODING_GZIP);
    assert_int_equal(negotiate("deflate"), CODING_DEFLATE);
    assert_int_equal(negotiate("deflate;q=0.9, gzip;q=0.899"), CODING_DEFLATE);
    assert_int_equal(negotiate("gzip;q=0.001"), CODING_GZIP);
    assert_int_equal(negotiate(" ,, gzip\t; Q=0.5 ,"), CODING_GZIP);
}

static void test_an_asterisk_is_whatever_is_not_listed(void **state)
{
    (void)state;
    assert_int_equal(negotiate("*"), CODING_GZIP);
    assert_int_equal(negotiate("gzip;q=0, *"), CODING_DEFLATE);
    assert_int_equal(negotiate("*, gzip;q=0"), CODING_DEFLATE);
    assert_int_equal(negotiate("gzip;q=0.5, *"), CODING_DEFLATE);
    assert_int_equal(negotiate("gzip;q=0, deflate;q=0, *"), CODING_IDENTITY);
    assert_int_equal(negotiate("*;q=0"), CODING_IDENTITY);
    assert_int_equal(negotiate("gzip, *;q=0"), CODING_GZIP);
}

static void test_identity_is_left_over_or_asked_for(void **state)
{
    (void)state;
    assert_int_equal(negotiate(""), CODING_IDENTITY);
    assert_int_equal(negotiate("br"), CODING_IDENTITY);
    assert_int_equal(negotiate("identity"), CODING_IDENTITY);
    assert_int_equal(negotiate("gzip;q=0"), CODING_IDENTITY);
    assert_int_equal(negotiate("gzip;q=0.0, deflate;q=0.000"), CODING_IDENTITY);
    assert_int_equal(negotiate("gzip;q=0.5, identity"), CODING_IDENTITY);
    assert_int_equal(negotiate("deflate;q=0.5, identity"), CODING_IDENTITY);
    assert_int_equal(negotiate("gzip, identity;q=0.5"), CODING_GZIP);
    assert_int_equal(negotiate("gzip, identity;q=0"), CODING_GZIP);
    assert_int_equal(negotiate("identity;q=0, deflate;q=0.1"), CODING_DEFLATE);
    assert_int_equal(negotiate("identity;q=0"), CODING_IDENTITY); /* nothing else is possible */
    parse_request("GET /", "");
    assert_int_equal(gzip_negotiate(&request), CODING_IDENTITY);
}

static void test_a_weight_that_is_none_forbids(void **state)
{
    static const char *const wrong[] = { "q=",      "q=2",      "q=1.001", "q=-1", "q=0,5",
                                         "q=.5",    "q=0.5000", "q=a",     "q",    "p=1",
                                         "q=1;x=1", "q=0.5x",   "",        "q= 1", "q=1e0" };
    (void)state;

    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char value[64];

        (void)snprintf(value, sizeof value, "gzip;%s", wrong[i]);
        assert_int_equal(negotiate(value), CODING_IDENTITY);
    }
    assert_int_equal(negotiate("gzip;q=1."), CODING_GZIP);
    assert_int_equal(negotiate("gzip;q=1.000"), CODING_GZIP);
}

static void test_repeated_headers_are_one_list(void **state)
{
    (void)state;
    parse_request("GET /", "Accept-Encoding: br\r\naccept-encoding: deflate\r\n");
    assert_int_equal(gzip_negotiate(&request), CODING_DEFLATE);
}

/* --- compression --- */

/* MAX_WBITS + 16: gzip and nothing else; MAX_WBITS: zlib and nothing else. Both check the sums. */
static void expect_back(enum coding coding, uint32_t n_out, uint32_t n_body)
{
    z_stream z = {
        .next_in = out, .avail_in = n_out, .next_out = (Bytef *)back, .avail_out = sizeof back
    };

    assert_int_equal(inflateInit2(&z, coding == CODING_GZIP ? MAX_WBITS + 16 : MAX_WBITS), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    assert_int_equal(z.total_out, n_body);
    assert_memory_equal(back, body, n_body);
    assert_int_equal(inflateEnd(&z), Z_OK);
}

static void fill_text(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        body[i] = "42[\"message\",{\"id\":7}]\x1e"[i * i % 97 % 23];
}

static void fill_noise(uint32_t n)
{
    uint32_t x = 1;

    for (uint32_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        body[i] = (char)(x >> 24);
    }
}

static void test_bodies_come_back_in_both_codings(void **state)
{
    static const uint32_t sizes[] = { 200, 1024, 1025, 32768, 32769, 65535, 65536, BODY_MAX };
    (void)state;

    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fill_text(sizes[i]);
        for (enum coding coding = CODING_GZIP; coding <= CODING_DEFLATE; coding++) {
            uint32_t n = gzip_body(gzip, coding, slice_of(body, sizes[i]), out, sizes[i]);

            assert_true(n > 0 && n < sizes[i]);
            expect_back(coding, n, sizes[i]);
        }
    }
}

static void test_what_does_not_pay_is_left_as_it_is(void **state)
{
    (void)state;
    fill_noise(BODY_MAX);
    for (enum coding coding = CODING_GZIP; coding <= CODING_DEFLATE; coding++) {
        assert_int_equal(gzip_body(gzip, coding, slice_of(body, BODY_MAX), out, BODY_MAX), 0);
        for (uint32_t n = 0; n < 60; n++)
            assert_int_equal(gzip_body(gzip, coding, slice_of(body, n), out, n), 0);
    }
    assert_int_equal(gzip_body(gzip, CODING_GZIP, (struct slice){ NULL, 0 }, out, 0), 0);
    fill_text(1024); /* and what failed has left nothing behind */
    expect_back(CODING_GZIP, gzip_body(gzip, CODING_GZIP, slice_of(body, 1024), out, 1024), 1024);
}

static void test_the_room_is_never_left(void **state)
{
    uint32_t least, n;
    (void)state;

    fill_text(1024);
    for (enum coding coding = CODING_GZIP; coding <= CODING_DEFLATE; coding++) {
        least = gzip_body(gzip, coding, slice_of(body, 1024), out, 1024);
        assert_true(least > 0);
        for (uint32_t room = 0; room < 1024; room++) {
            memset(out, 0xa5, 1024);
            n = gzip_body(gzip, coding, slice_of(body, 1024), out, room);
            assert_int_equal(n, room <= least ? 0 : least);
            for (uint32_t i = room; i < 1024; i++)
                assert_int_equal(out[i], 0xa5);
        }
    }
}

/* What the header line costs has to be won back: 24 bytes. */
static void test_a_gain_of_the_header_line_is_none(void **state)
{
    uint32_t n_least = 0;
    (void)state;

    assert_int_equal(strlen(gzip_header(CODING_GZIP)), 24);
    memset(body, 'a', 256);
    for (uint32_t n = 1; n < 256; n++) {
        uint32_t n_out = gzip_body(gzip, CODING_GZIP, slice_of(body, n), out, n);

        if (n_least == 0 && n_out > 0)
            n_least = n;
        if (n_least != 0)
            assert_in_range(n_out, 1, n - 24);
    }
    assert_in_range(n_least, 24 + 18, 64);
}

static void test_bodies_cost_no_memory(void **state)
{
    size_t before;
    (void)state;

#ifndef __SANITIZE_ADDRESS__
    fill_text(BODY_MAX);
    before = mallinfo2().uordblks;
    for (uint32_t i = 0; i < 50; i++)
        assert_true(gzip_body(gzip, CODING_GZIP + i % 2, slice_of(body, BODY_MAX), out, BODY_MAX) >
                    0);
    assert_int_equal(mallinfo2().uordblks, before);
#else
    (void)before;
    skip();
#endif
}

static void test_header_lines(void **state)
{
    (void)state;
    assert_string_equal(gzip_header(CODING_IDENTITY), "");
    assert_string_equal(gzip_header(CODING_GZIP), "Content-Encoding: gzip\r\n");
    assert_string_equal(gzip_header(CODING_DEFLATE), "Content-Encoding: deflate\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip_is_taken_where_it_is_as_good_as_deflate),
        cmocka_unit_test(test_an_asterisk_is_whatever_is_not_listed),
        cmocka_unit_test(test_identity_is_left_over_or_asked_for),
        cmocka_unit_test(test_a_weight_that_is_none_forbids),
        cmocka_unit_test(test_repeated_headers_are_one_list),
        cmocka_unit_test(test_bodies_come_back_in_both_codings),
        cmocka_unit_test(test_what_does_not_pay_is_left_as_it_is),
        cmocka_unit_test(test_the_room_is_never_left),
        cmocka_unit_test(test_a_gain_of_the_header_line_is_none),
        cmocka_unit_test(test_bodies_cost_no_memory),
        cmocka_unit_test(test_header_lines),
    };

    return cmocka_run_group_tests(tests, make_gzip, free_gzip);
}
