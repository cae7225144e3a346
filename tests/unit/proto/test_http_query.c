/* test_http_query.c: query strings as Node's querystring reads them, and strict escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/http.h"

static void expect_get(const char *query, const char *key, const char *value)
{
    uint32_t n_value = value ? (uint32_t)strlen(value) : 0;
    char out[64];
    int32_t n = http_query_get(slice_text(query), key, out, sizeof out);

    if (!value) {
        assert_int_equal(n, -1);
        return;
    }
    if (n < 0 || !slice_equal(slice_of(out, (uint32_t)n), slice_text(value)))
        fail_msg("%s of %s: %d \"%.*s\"", key, query, n, n > 0 ? n : 0, out);
    assert_int_equal(http_query_get(slice_text(query), key, out, n_value), n_value);
    if (n_value > 0)
        assert_int_equal(http_query_get(slice_text(query), key, out, n_value - 1), -2);
}

static void test_a_key_is_looked_up_as_node_does(void **state)
{
    (void)state;
    expect_get("EIO=4&transport=polling&t=x", "EIO", "4");
    expect_get("EIO=4&transport=polling&t=x", "transport", "polling");
    expect_get("EIO=4&transport=polling&t=x", "eio", NULL);
    expect_get("EIO=4&EIO=3", "EIO", "3");
    expect_get("a=1&a", "a", "");
    expect_get("sid=", "sid", "");
    expect_get("sid", "sid", "");
    expect_get("&&sid=1&&", "sid", "1");
    expect_get("=1&a=b=c", "a", "b=c");
    expect_get("=1&a=b", "", "1");
    expect_get("%45I%4f=4", "EIO", "4");
    expect_get("a+b=c+d%2Be%20f", "a b", "c d+e f");
    expect_get("r=%e2%82%AC", "r", "\xe2\x82\xac");
    expect_get("a=%", "a", "%");
    expect_get("a=%4", "a", "%4");
    expect_get("a=%zz%41", "a", "%zzA");
    expect_get("a=%%41", "a", "%A");
    expect_get("ab=1", "a", NULL);
    expect_get("a=1", "ab", NULL);
    expect_get("", "a", NULL);
    assert_int_equal(http_query_get((struct slice){ NULL, 0 }, "a", NULL, 0), -1);
}

static void test_a_zero_byte_does_not_end_a_key_or_value(void **state)
{
    char out[8];

    (void)state;
    assert_int_equal(http_query_get(slice_text("a=1%002"), "a", out, sizeof out), 3);
    assert_memory_equal(out,
                        "1\0"
                        "2",
                        3);
    assert_int_equal(http_query_get(slice_text("a%00b=1"), "a", out, sizeof out), -1);
}

static void test_pairs_come_raw_and_in_order(void **state)
{
    struct slice rest = slice_text("&a=1%20&&b&=c&d==&");
    static const char *const pairs[][2] = {
        { "a", "1%20" }, { "b", "" }, { "", "c" }, { "d", "=" }
    };
    struct slice key;
    struct slice value;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(http_query_next(&rest, &key, &value));
        assert_true(slice_is(key, pairs[i][0]));
        assert_true(slice_is(value, pairs[i][1]));
        assert_non_null(value.bytes);
    }
    assert_false(http_query_next(&rest, &key, &value));
    assert_false(http_query_next(&rest, &key, &value));
}

static void test_percent_escapes_are_strict_where_asked(void **state)
{
    char out[8];

    (void)state;
    assert_int_equal(http_percent_decode(slice_text("a%2Fb+c"), false, out, sizeof out), 5);
    assert_memory_equal(out, "a/b+c", 5);
    assert_int_equal(http_percent_decode(slice_text("a+b"), true, out, sizeof out), 3);
    assert_memory_equal(out, "a b", 3);
    assert_int_equal(http_percent_decode(slice_text(""), true, out, sizeof out), 0);
    assert_int_equal(http_percent_decode(slice_text("%"), false, out, sizeof out), -1);
    assert_int_equal(http_percent_decode(slice_text("%4"), false, out, sizeof out), -1);
    assert_int_equal(http_percent_decode(slice_text("%4g"), false, out, sizeof out), -1);
    assert_int_equal(http_percent_decode(slice_text("12345678"), false, out, sizeof out), 8);
    assert_int_equal(http_percent_decode(slice_text("123456789"), false, out, sizeof out), -2);
    assert_int_equal(http_percent_decode(slice_text("123456789%"), false, out, sizeof out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_looked_up_as_node_does),
        cmocka_unit_test(test_a_zero_byte_does_not_end_a_key_or_value),
        cmocka_unit_test(test_pairs_come_raw_and_in_order),
        cmocka_unit_test(test_percent_escapes_are_strict_where_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
