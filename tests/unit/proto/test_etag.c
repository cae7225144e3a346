/* test_etag.c: tags of bodies, and which lists know them. */
#include "lib/http_request.h"

#include "proto/etag.h"

#define TAG "\"ba7816bf8f01cfea414140de5dae2223\"" /* SHA-256 of "abc", FIPS 180-4 */

static void test_a_tag_is_half_of_sha_256_in_quotes(void **state)
{
    char tag[ETAG_CHARS], other[ETAG_CHARS];
    (void)state;

    etag_make(tag, slice_text("abc"));
    assert_memory_equal(tag, TAG, ETAG_CHARS);
    etag_make(other, slice_text("abd"));
    assert_memory_not_equal(tag, other, ETAG_CHARS);
    etag_make(other, slice_of("", 0));
    assert_memory_equal(other, "\"e3b0c44298fc1c149afbf4c8996fb924\"", ETAG_CHARS);
}

static bool knows(const char *headers)
{
    parse_request("GET /", headers);
    return etag_known(&request, slice_text(TAG));
}

static void test_lists_that_know_a_tag(void **state)
{
    (void)state;
    assert_true(knows("If-None-Match: " TAG "\r\n"));
    assert_true(knows("If-None-Match: W/" TAG "\r\n"));
    assert_true(knows("If-None-Match: *\r\n"));
    assert_true(knows("If-None-Match: \"x\", W/\"y\" ,\t" TAG "\r\n"));
    assert_true(knows("If-None-Match: \"a,b\"," TAG ",\r\n"));
    assert_true(knows("if-none-match: \"x\"\r\nIF-NONE-MATCH: W/" TAG "\r\n"));
}

static void test_lists_that_do_not(void **state)
{
    (void)state;
    assert_false(knows(""));
    assert_false(knows("If-None-Match: \r\n"));
    assert_false(knows("If-None-Match: \"x\"\r\n"));
    assert_false(knows("If-None-Match: ba7816bf8f01cfea414140de5dae2223\r\n"));
    assert_false(knows("If-None-Match: w/" TAG "\r\n")); /* the W is one of case */
    assert_false(knows("If-None-Match: W/\r\n"));
    assert_false(knows("If-None-Match: W/W/" TAG "\r\n"));
    assert_false(knows("If-None-Match: \"*\"\r\n"));
    assert_false(knows("If-None-Match: " TAG "x\r\n"));
    assert_false(knows("If-Match: " TAG "\r\n"));
    assert_false(knows("If-None-Match: \"BA7816BF8F01CFEA414140DE5DAE2223\"\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tag_is_half_of_sha_256_in_quotes),
        cmocka_unit_test(test_lists_that_know_a_tag),
        cmocka_unit_test(test_lists_that_do_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
