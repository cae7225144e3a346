/* test_zipped.c: equal bodies that follow each other are compressed once; what comes out is what the coding makes of what went in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "session/zipped.h"

static struct zipped zipped;

static int setup(void **state)
{
    (void)state;
    return zipped_open(&zipped) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    zipped_close(&zipped);
    return 0;
}

static void comes_back(enum coding coding, const char *text, uint32_t n)
{
    struct slice body = slice_of(text, n);
    z_stream z = { 0 };
    char *out = malloc(n);

    assert_int_equal(zipped_body(&zipped, coding, &body), coding);
    assert_true(body.n_bytes < n);
    assert_int_equal(inflateInit2(&z, 15 + 32), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)body.bytes;
    z.avail_in = body.n_bytes;
    z.next_out = (unsigned char *)out;
    z.avail_out = n;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.total_out, n);
    assert_memory_equal(out, text, n);
    assert_int_equal(inflateEnd(&z), Z_OK);
    free(out);
}

static void test_equal_bodies_are_compressed_once(void **state)
{
    char a[2000], same[2000], other[2000];
    struct slice body = slice_of(same, sizeof same);

    (void)state;
    memset(a, 'a', sizeof a);
    memset(same, 'a', sizeof same);
    memset(other, 'b', sizeof other);
    comes_back(CODING_GZIP, a, sizeof a);
    zipped.bytes[zipped.n_bytes - 1] ^= 1; /* a mark that would not survive compressing */
    assert_int_equal(zipped_body(&zipped, CODING_GZIP, &body), CODING_GZIP);
    assert_ptr_equal(body.bytes, zipped.bytes);
    zipped.bytes[zipped.n_bytes - 1] ^= 1;
    comes_back(CODING_GZIP, same, sizeof same);
    comes_back(CODING_DEFLATE, same, sizeof same); /* another coding is another body */
    comes_back(CODING_DEFLATE, other, sizeof other);
    comes_back(CODING_DEFLATE, other, sizeof other - 1); /* a beginning of it, too */
    comes_back(CODING_GZIP, a, sizeof a);
}

static void test_what_does_not_pay_stays_as_it_is_and_is_not_tried_again(void **state)
{
    char noise[512];
    struct slice body = slice_of(noise, sizeof noise);
    uint32_t random = 1;

    (void)state;
    for (uint32_t i = 0; i < sizeof noise; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        noise[i] = (char)random;
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(zipped_body(&zipped, CODING_GZIP, &body), CODING_IDENTITY);
        assert_ptr_equal(body.bytes, noise);
        assert_int_equal(zipped.coding, CODING_GZIP); /* it is known that it does not pay */
    }
    assert_int_equal(zipped_body(&zipped, CODING_IDENTITY, &body), CODING_IDENTITY);
}

static void test_the_memory_of_a_large_body_is_given_back(void **state)
{
    uint32_t n = 1u << 20;
    char *large = malloc(n);

    (void)state;
    memset(large, 'x', n);
    comes_back(CODING_GZIP, large, n);
    zipped_forget(&zipped);
    assert_null(zipped.of);
    assert_null(zipped.bytes);
    comes_back(CODING_GZIP, large, 4096);
    zipped_forget(&zipped);
    assert_non_null(zipped.of);
    free(large);
}

static void test_without_compression_nothing_is_done(void **state)
{
    struct zipped none = { 0 };
    struct slice body = slice_text("some text");

    (void)state;
    assert_int_equal(zipped_body(&none, CODING_GZIP, &body), CODING_IDENTITY);
    zipped_forget(&none);
    zipped_close(&none);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_equal_bodies_are_compressed_once),
        TEST(test_what_does_not_pay_stays_as_it_is_and_is_not_tried_again),
        TEST(test_the_memory_of_a_large_body_is_given_back),
        TEST(test_without_compression_nothing_is_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
