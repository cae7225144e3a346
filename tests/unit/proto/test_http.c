/* test_http.c: request heads as clients, proxies and attackers send them, in whatever pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/http.h"

#define BIG_MAX 40000
#define H11     " HTTP/1.1\r\nHost: a\r\n\r\n"

static char head[BIG_MAX]; /* what `request` slices point into */
static struct http_request request;
static char big[BIG_MAX];

struct answer {
    enum http_result result;
    uint16_t status;
    uint32_t head_bytes;
};

/* In chunks of `size`; every call sees another copy, exactly that large, of the growing input. */
static struct answer parse_in_chunks(const char *bytes, uint32_t n, uint32_t size)
{
    struct answer a = { HTTP_NEED_MORE, 0, 0 };
    uint32_t scanned = 0;
    uint32_t have = 0;

    while (a.result == HTTP_NEED_MORE && have < n) {
        char *copy;

        have += n - have < size ? n - have : size;
        copy = malloc(have);
        assert_non_null(copy);
        memcpy(copy, bytes, have);
        a.result = http_parse(slice_of(copy, have), &scanned, &request, &a.head_bytes, &a.status);
        assert_true(scanned <= have);
        free(copy);
    }
    return a;
}

static bool same(struct answer a, struct answer b)
{
    return a.result == b.result && a.status == b.status && a.head_bytes == b.head_bytes;
}

/* The answer, which has to be the same whatever the pieces. `request` is left pointing into `head`. */
static struct answer parse_n(const char *bytes, uint32_t n)
{
    static const uint32_t sizes[] = { 1, 2, 3, 19, 100, 4096, 9000 };
    struct answer at_once = parse_in_chunks(bytes, n, n);
    uint32_t scanned = 0;

    assert_true(n <= sizeof head);
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct answer other;

        if (n / sizes[i] > 2000) /* each step copies all before it */
            continue;
        other = parse_in_chunks(bytes, n, sizes[i]);
        if (!same(at_once, other))
            fail_msg("chunks of %u: %d %u, at once %d %u: %.60s", sizes[i], (int)other.result,
                     other.status, (int)at_once.result, at_once.status, bytes);
    }
    memcpy(head, bytes, n);
    at_once.result =
        http_parse(slice_of(head, n), &scanned, &request, &at_once.head_bytes, &at_once.status);
    return at_once;
}

static struct answer parse(const char *text)
{
    return parse_n(text, (uint32_t)strlen(text));
}

static void good(const char *text)
{
    struct answer a = parse(text);

    if (a.result != HTTP_OK)
        fail_msg("%d %u: %s", (int)a.result, a.status, text);
    assert_int_equal(a.head_bytes, strlen(text));
    assert_int_equal(a.status, 0);
}

static void bad(uint16_t status, const char *text)
{
    struct answer a = parse(text);

    if (a.result != HTTP_BAD || a.status != status)
        fail_msg("%d %u instead of %u: %s", (int)a.result, a.status, status, text);
}

static void assert_slice(struct slice s, const char *text)
{
    if (!s.bytes || !slice_is(s, text))
        fail_msg("\"%.*s\" instead of \"%s\"", (int)s.n_bytes, s.bytes ? s.bytes : "", text);
}

/* ---- Good heads ---- */

static void test_a_head_is_taken_apart(void **state)
{
    (void)state;
    good("GET /socket.io/?EIO=4&x=?y HTTP/1.1\r\nHost: example.com:80\r\nX-Empty:\r\n"
         "x-PADDED: \t a b\t \r\nLatin: \xe4\r\nX-Empty-Too: \t\r\n\r\n");
    assert_int_equal(request.method, HTTP_GET_);
    assert_int_equal(request.minor, 1);
    assert_slice(request.target, "/socket.io/?EIO=4&x=?y");
    assert_slice(request.path, "/socket.io/");
    assert_slice(request.query, "EIO=4&x=?y");
    assert_int_equal(request.n_headers, 5);
    assert_slice(http_header_find(&request, "host"), "example.com:80");
    assert_slice(http_header_find(&request, "x-empty"), "");
    assert_slice(http_header_find(&request, "x-empty-too"), "");
    assert_slice(http_header_find(&request, "x-padded"), "a b");
    assert_slice(http_header_find(&request, "latin"), "\xe4");
    assert_null(http_header_find(&request, "x-emp").bytes);
    assert_true(request.keep_alive);
    assert_false(request.connection_upgrade);
    assert_false(request.chunked);
    assert_false(request.has_content_length);
    assert_false(request.expect_continue);
}

static void test_path_and_query_are_split_at_the_first_mark(void **state)
{
    (void)state;
    good("GET /a" H11);
    assert_null(request.query.bytes);
    good("GET /a?" H11);
    assert_slice(request.path, "/a");
    assert_slice(request.query, "");
    good("GET //a/../b;c=d?/e" H11);
    assert_slice(request.path, "//a/../b;c=d");
    assert_slice(request.query, "/e");
}

static void test_bytes_behind_the_head_are_left_alone(void **state)
{
    static const char first[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char both[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\x81\x82\r\n\r\n\x01";
    static const char post[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    struct answer a = parse_n(both, sizeof both - 1);

    (void)state;
    assert_int_equal(a.result, HTTP_OK);
    assert_int_equal(a.head_bytes, sizeof first - 1);
    a = parse(post);
    assert_int_equal(a.result, HTTP_OK);
    assert_int_equal(a.head_bytes, sizeof post - 1 - 5);
    assert_int_equal(request.content_length, 5);
    a = parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET");
    assert_int_equal(a.result, HTTP_OK);
}

static void test_one_empty_line_before_the_request_is_skipped(void **state)
{
    (void)state;
    good("\r\nGET /" H11);
    assert_slice(request.path, "/");
    bad(400, "\r\n\r\nGET /" H11);
    bad(400, "\nGET /" H11);
    bad(400, "\rGET /" H11);
}

static void test_methods_are_told_apart(void **state)
{
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = { { "GET", HTTP_GET_ },       { "HEAD", HTTP_HEAD_ },
                    { "POST", HTTP_POST_ },     { "OPTIONS", HTTP_OPTIONS_ },
                    { "PUT", HTTP_PUT_ },       { "DELETE", HTTP_DELETE_ },
                    { "PATCH", HTTP_OTHER_ },   { "TRACE", HTTP_OTHER_ },
                    { "PROPFIND", HTTP_OTHER_ } };
    char text[100];

    (void)state;
    for (uint32_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        (void)snprintf(text, sizeof text, "%s /" H11, methods[i].name);
        good(text);
        assert_int_equal(request.method, methods[i].method);
    }
    bad(400, "get /" H11);
    bad(400, "GOT /" H11);
    bad(400, "GETS /" H11);
    bad(400, "G\tT /" H11);
}

static void test_absolute_targets_become_paths(void **state)
{
    (void)state;
    good("GET http://a/p?q" H11);
    assert_slice(request.target, "http://a/p?q");
    assert_slice(request.path, "/p");
    assert_slice(request.query, "q");
    good("GET HTTP://A:80?q/" H11);
    assert_slice(request.path, "/");
    assert_slice(request.query, "q/");
    good("GET http://a" H11);
    assert_slice(request.path, "/");
    assert_null(request.query.bytes);
    good("GET https://[::1]/x HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
    assert_slice(request.path, "/x");
    bad(400, "GET http://b/" H11); /* another host than Host: two readers, two requests */
    bad(400, "GET http://a:81/" H11);
    bad(400, "GET http:///p" H11);
    bad(400, "GET http://u@a/" H11);
    bad(400, "GET http:/a/" H11);
    bad(400, "GET ftp://a/" H11);
    bad(400, "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n");
    good("GET http://a/x HTTP/1.0\r\n\r\n");
    assert_slice(request.path, "/x");
}

static void test_other_targets_are_refused_but_options_asterisk(void **state)
{
    (void)state;
    good("OPTIONS *" H11);
    assert_slice(request.path, "*");
    bad(400, "GET *" H11);
    bad(400, "OPTIONS **" H11);
    bad(400, "OPTIONS *?a" H11);
    bad(400, "CONNECT a:443" H11);
    bad(400, "GET a:443" H11);
    bad(400, "GET path" H11);
    bad(400, "GET ?q" H11);
    bad(400, "GET /a#b" H11);
    bad(400, "GET /a?b#c" H11);
    bad(400, "GET /\x80" H11);
    bad(400, "GET /\x7f" H11);
    bad(400, "GET /\t" H11);
}

static void test_versions(void **state)
{
    (void)state;
    good("GET / HTTP/1.0\r\n\r\n");
    assert_int_equal(request.minor, 0);
    assert_false(request.keep_alive);
    bad(505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
    bad(505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n");
    bad(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    bad(400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1\r\nHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1.\r\nHost: a\r\n\r\n");
    bad(400, "GET / http/1.1\r\nHost: a\r\n\r\n");
    bad(400, "GET / ICE/1.0\r\nHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n");
    bad(400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n");
    bad(400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n");
    bad(400, "GET /\r\nHost: a\r\n\r\n");
    bad(400, "GET\r\nHost: a\r\n\r\n");
}

static void test_keep_alive_is_by_version_and_connection(void **state)
{
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false },
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE , y\r\n\r\n", false },
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true },
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
        { "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false },
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        good(cases[i].text);
        assert_int_equal(request.keep_alive, cases[i].keep_alive);
    }
}

static void test_expect_is_seen(void **state)
{
    (void)state;
    good("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n");
    assert_true(request.expect_continue);
    good("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    assert_false(request.expect_continue);
}

/* ---- Smuggling ---- */

static void test_bodies_have_one_length(void **state)
{
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
    (void)state;
    good(POST "Content-Length: 0\r\n\r\n");
    assert_true(request.has_content_length);
    good(POST "Content-Length: 9223372036854775807\r\n\r\n");
    assert_true(request.content_length == INT64_MAX);
    good(POST "Transfer-Encoding: Chunked\r\n\r\n");
    assert_true(request.chunked);
    bad(400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n");
    bad(400, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n");
    bad(400, POST "Content-Length: 5, 5\r\n\r\n");
    bad(400, POST "Content-Length: 5 5\r\n\r\n");
    bad(400, POST "Content-Length: +5\r\n\r\n");
    bad(400, POST "Content-Length: -5\r\n\r\n");
    bad(400, POST "Content-Length: 0x5\r\n\r\n");
    bad(400, POST "Content-Length: 5a\r\n\r\n");
    bad(400, POST "Content-Length:\r\n\r\n");
    bad(400, POST "Content-Length: 18446744073709551617\r\n\r\n");
    bad(400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n");
    bad(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n");
    bad(400, POST "Transfer-Encoding: chunked, chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding: gzip, chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding: xchunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding: chunked;a=b\r\n\r\n");
    bad(400, POST "Transfer-Encoding: \x0b"
                  "chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding:\r\n\r\n");
    bad(400, POST "Transfer-Encoding\r\n: chunked\r\n\r\n");
    bad(400, POST "Transfer-Encoding : chunked\r\n\r\n");
    bad(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
#undef POST
}

static void test_lines_end_in_crlf_and_nothing_else(void **state)
{
    (void)state;
    bad(400, "GET / HTTP/1.1\nHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\r\n\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\n\n");
    bad(400, "GET / HTTP/1.1\r\rHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n");
}

static void test_header_lines_are_name_colon_value(void **state)
{
#define WITH "GET / HTTP/1.1\r\nHost: a\r\n"
    static const char control[] = WITH "X: a\0b\r\n\r\n";

    (void)state;
    bad(400, WITH "X : b\r\n\r\n");
    bad(400, WITH "X\t: b\r\n\r\n");
    bad(400, WITH " X: b\r\n\r\n");
    bad(400, WITH "X: a\r\n b\r\n\r\n");
    bad(400, WITH "X: a\r\n\tb\r\n\r\n");
    bad(400, WITH "X:\r\n b\r\n\r\n");
    bad(400, WITH "X\r\n\r\n");
    bad(400, WITH ": b\r\n\r\n");
    bad(400, WITH "X Y: b\r\n\r\n");
    bad(400, WITH "X(Y: b\r\n\r\n");
    bad(400, WITH "X\x80: b\r\n\r\n");
    bad(400, WITH "X: a\x01"
                  "b\r\n\r\n");
    bad(400, WITH "X: a\x7f\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    assert_int_equal(parse_n(control, sizeof control - 1).status, 400);
    good(WITH "!#$%&'*+-.^_`|~09azAZ: b:c\r\n\r\n");
    assert_slice(request.headers[1].value, "b:c");
#undef WITH
}

static void test_host_is_there_once_and_is_a_host(void **state)
{
    static const char *const hosts[] = { "a",     "a.b:80",         "A_b-c",
                                         "[::1]", "[fe80::1]:3000", "127.0.0.1:1",
                                         "a:",    "a:65535",        "" };
    static const char *const no_hosts[] = { "a b", "a,b", "a/b", "u@a", "a:b",   "a:65536", ":80",
                                            "[a",  "[]",  "[g]", "::1", "a:80a", "[::1]a",  "a\"" };
    char text[100];

    (void)state;
    bad(400, "GET / HTTP/1.1\r\n\r\n");
    bad(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    bad(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    for (uint32_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        (void)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        good(text);
    }
    for (uint32_t i = 0; i < sizeof no_hosts / sizeof no_hosts[0]; i++) {
        (void)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", no_hosts[i]);
        bad(400, text);
    }
}

/* ---- Limits ---- */

static uint32_t big_put(uint32_t at, const char *text, uint32_t times)
{
    uint32_t n = (uint32_t)strlen(text);

    for (uint32_t i = 0; i < times; i++, at += n) {
        assert_true(at + n <= sizeof big);
        memcpy(big + at, text, n);
    }
    return at;
}

static void expect_big(uint32_t n, enum http_result result, uint16_t status)
{
    struct answer a = parse_n(big, n);

    assert_int_equal(a.result, result);
    assert_int_equal(a.status, status);
}

static void test_targets_up_to_the_limit_pass(void **state)
{
    uint32_t n;

    (void)state;
    for (uint32_t more = 0; more < 2; more++) {
        n = big_put(0, "GET /", 1);
        n = big_put(n, "a", HTTP_TARGET_MAX - 1 + more);
        n = big_put(n, H11, 1);
        expect_big(n, more ? HTTP_BAD : HTTP_OK, more ? 414 : 0);
    }
    n = big_put(0, "GET /", 1);
    n = big_put(n, "a", HTTP_TARGET_MAX + 100); /* no end yet, and it does not matter any more */
    expect_big(n, HTTP_BAD, 414);
    n = big_put(n, "a", 20000);
    expect_big(n, HTTP_BAD, 414);
}

static void test_heads_up_to_the_limit_pass(void **state)
{
    uint32_t n;

    (void)state;
    for (uint32_t more = 0; more < 2; more++) {
        n = big_put(0, "GET / HTTP/1.1\r\nHost: a\r\nX: ", 1);
        n = big_put(n, "a", HTTP_HEAD_MAX - n - 4 + more);
        n = big_put(n, "\r\n\r\n", 1);
        expect_big(n, more ? HTTP_BAD : HTTP_OK, more ? 431 : 0);
    }
    n = big_put(0, "GET / HTTP/1.1\r\n", 1);
    n = big_put(n, "A: b\r\n", 5000); /* never ends */
    expect_big(n, HTTP_BAD, 431);
    n = big_put(0, "GET / HTTP/1.1\r\n", 1);
    n = big_put(n, "A", 30000);
    expect_big(n, HTTP_BAD, 431);
}

static void test_a_hundred_headers_pass(void **state)
{
    uint32_t n;

    (void)state;
    for (uint32_t more = 0; more < 2; more++) {
        n = big_put(0, "GET / HTTP/1.1\r\nHost: a\r\n", 1);
        n = big_put(n, "A: b\r\n", HTTP_HEADERS_MAX - 1 + more);
        n = big_put(n, "\r\n", 1);
        expect_big(n, more ? HTTP_BAD : HTTP_OK, more ? 431 : 0);
    }
}

static void test_noise_is_refused_at_its_first_byte(void **state)
{
    struct answer a;

    (void)state;
    a = parse_n("\x16\x03\x01\x02\x00", 5); /* TLS */
    assert_int_equal(a.result, HTTP_BAD);
    assert_int_equal(a.status, 400);
    a = parse_n("\0", 1);
    assert_int_equal(a.status, 400);
    a = parse_n("\r\n", 2);
    assert_int_equal(a.result, HTTP_NEED_MORE);
    a = parse_n("GET / HTTP/1.1\r\nHost: a\r\n\r", 27);
    assert_int_equal(a.result, HTTP_NEED_MORE);
}

/* ---- Lists ---- */

static void test_lists_hold_tokens_whatever_the_case(void **state)
{
    (void)state;
    assert_true(http_list_has(slice_text("keep-alive, Upgrade"), "upgrade"));
    assert_true(http_list_has(slice_text(",,\t upgrade\t"), "upgrade"));
    assert_false(http_list_has(slice_text("upgrades, up grade"), "upgrade"));
    assert_false(http_list_has(slice_text(""), "upgrade"));
    assert_false(http_list_has((struct slice){ NULL, 0 }, "upgrade"));
}

static void test_reasons(void **state)
{
    (void)state;
    assert_string_equal(http_reason(101), "Switching Protocols");
    assert_string_equal(http_reason(431), "Request Header Fields Too Large");
    assert_string_equal(http_reason(799), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_head_is_taken_apart),
        cmocka_unit_test(test_path_and_query_are_split_at_the_first_mark),
        cmocka_unit_test(test_bytes_behind_the_head_are_left_alone),
        cmocka_unit_test(test_one_empty_line_before_the_request_is_skipped),
        cmocka_unit_test(test_methods_are_told_apart),
        cmocka_unit_test(test_absolute_targets_become_paths),
        cmocka_unit_test(test_other_targets_are_refused_but_options_asterisk),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_keep_alive_is_by_version_and_connection),
        cmocka_unit_test(test_expect_is_seen),
        cmocka_unit_test(test_bodies_have_one_length),
        cmocka_unit_test(test_lines_end_in_crlf_and_nothing_else),
        cmocka_unit_test(test_header_lines_are_name_colon_value),
        cmocka_unit_test(test_host_is_there_once_and_is_a_host),
        cmocka_unit_test(test_targets_up_to_the_limit_pass),
        cmocka_unit_test(test_heads_up_to_the_limit_pass),
        cmocka_unit_test(test_a_hundred_headers_pass),
        cmocka_unit_test(test_noise_is_refused_at_its_first_byte),
        cmocka_unit_test(test_lists_hold_tokens_whatever_the_case),
        cmocka_unit_test(test_reasons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
