/* test_http_handshake.c: who becomes a WebSocket, and which pages may ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/http.h"

#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"

static struct http_request request;
static char text[1024]; /* `request` points into it */

static void parse(const char *line, const char *headers)
{
    uint32_t scanned = 0;
    uint32_t head_bytes;
    uint16_t status;
    int n = snprintf(text, sizeof text, "%s\r\nHost: a\r\n%s\r\n", line, headers);

    assert_true(n > 0 && n < (int)sizeof text);
    assert_int_equal(http_parse(slice_text(text), &scanned, &request, &head_bytes, &status),
                     HTTP_OK);
}

static enum http_ws check(const char *headers)
{
    parse("GET / HTTP/1.1", headers);
    return http_ws_check(&request);
}

static void test_browsers_and_node_clients_are_served(void **state)
{
    (void)state;
    assert_int_equal(check(UPGRADE VERSION KEY), HTTP_WS_OK);
    assert_int_equal(check("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" VERSION KEY),
                     HTTP_WS_OK);
    assert_int_equal(check("Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: h2c, "
                           "websocket\r\n" VERSION KEY),
                     HTTP_WS_OK);
}

static void test_a_proxy_that_always_says_upgrade_asks_for_nothing(void **state)
{
    (void)state;
    assert_int_equal(check("Connection: upgrade\r\nX-Forwarded-For: 1.2.3.4\r\n"),
                     HTTP_WS_NOT_ASKED);
    assert_true(request.connection_upgrade);
    assert_int_equal(check("Connection: upgrade\r\nUpgrade:\r\n"), HTTP_WS_NOT_ASKED);
    assert_int_equal(check("Connection: upgrade\r\nUpgrade: h2c\r\n"), HTTP_WS_NOT_ASKED);
    assert_int_equal(check("Upgrade: websocket\r\n" VERSION KEY), HTTP_WS_NOT_ASKED);
    parse("GET / HTTP/1.0", UPGRADE VERSION KEY);
    assert_int_equal(http_ws_check(&request), HTTP_WS_NOT_ASKED);
}

static void test_bad_handshakes_are_told_apart(void **state)
{
    (void)state;
    parse("POST / HTTP/1.1", UPGRADE VERSION KEY);
    assert_int_equal(http_ws_check(&request), HTTP_WS_BAD_METHOD);
    assert_int_equal(check(UPGRADE KEY), HTTP_WS_BAD_VERSION);
    assert_int_equal(check(UPGRADE KEY "Sec-WebSocket-Version: 12\r\n"), HTTP_WS_BAD_VERSION);
    assert_int_equal(check(UPGRADE KEY "Sec-WebSocket-Version: 13, 8\r\n"), HTTP_WS_BAD_VERSION);
    assert_int_equal(check(UPGRADE KEY VERSION VERSION), HTTP_WS_BAD_VERSION);
    assert_int_equal(check(UPGRADE VERSION), HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION KEY KEY), HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION KEY KEY KEY), HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION "Sec-WebSocket-Key:\r\n"), HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n"),
                     HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n"),
                     HTTP_WS_BAD_KEY);
    assert_int_equal(check(UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n"),
                     HTTP_WS_BAD_KEY);
}

static void test_the_accept_key_of_rfc_6455(void **state)
{
    char out[HTTP_ACCEPT_CHARS];

    (void)state;
    http_ws_accept(out, slice_text("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_memory_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", HTTP_ACCEPT_CHARS);
}

static void test_the_first_subprotocol_is_answered(void **state)
{
    (void)state;
    (void)check("Sec-WebSocket-Protocol: a, b\r\n");
    assert_true(slice_is(http_ws_protocol(&request), "a"));
    (void)check("Sec-WebSocket-Protocol:  v1.json \r\nSec-WebSocket-Protocol: c\r\n");
    assert_true(slice_is(http_ws_protocol(&request), "v1.json"));
    (void)check("");
    assert_null(http_ws_protocol(&request).bytes);
    (void)check("Sec-WebSocket-Protocol:\r\n");
    assert_null(http_ws_protocol(&request).bytes);
    (void)check("Sec-WebSocket-Protocol: a b\r\n");
    assert_null(http_ws_protocol(&request).bytes);
}

static bool allowed(const char *origins, const char *origin, const char *host)
{
    return http_origin_allowed(origins, slice_text(origin), slice_text(host));
}

static void test_an_asterisk_lets_all_in_and_null_only_with_it(void **state)
{
    (void)state;
    assert_true(allowed("*", "https://evil.example", "a"));
    assert_true(allowed("*", "null", "a"));
    assert_true(allowed("https://a, *", "null", "a"));
    assert_false(allowed("same-host", "null", "null"));
    assert_false(allowed("null", "null", "null"));
    assert_false(allowed("https://null", "null", "null"));
    assert_false(allowed("same-host", "", ""));
    assert_false(allowed("", "", ""));
    assert_false(allowed("", "https://a", "a"));
}

static void test_a_request_without_origin_is_not_from_a_page(void **state)
{
    struct slice none = { NULL, 0 };

    (void)state;
    assert_true(http_origin_allowed("same-host", none, slice_text("a")));
    assert_true(http_origin_allowed("https://a", none, none));
}

static void test_same_host_compares_host_and_port(void **state)
{
    struct slice none = { NULL, 0 };

    (void)state;
    assert_true(allowed("same-host", "http://example.com", "example.com"));
    assert_true(allowed("same-host", "https://Example.com", "eXample.com"));
    assert_true(allowed("same-host", "http://example.com", "example.com:80"));
    assert_true(allowed("same-host", "https://example.com", "example.com:443"));
    assert_true(allowed("same-host", "https://example.com:443", "example.com"));
    assert_true(allowed("same-host", "http://a:3000", "a:3000"));
    assert_true(allowed("same-host", "http://[::1]:3000", "[::1]:3000"));
    assert_true(allowed("same-host", "http://[FE80::a]", "[fe80::A]:80"));
    assert_false(allowed("same-host", "https://example.com", "example.com:80"));
    assert_false(allowed("same-host", "http://example.com:443", "example.com"));
    assert_false(allowed("same-host", "http://a:3000", "a:3001"));
    assert_false(allowed("same-host", "http://a:3000", "a"));
    assert_false(allowed("same-host", "http://a.example.com", "example.com"));
    assert_false(allowed("same-host", "http://example.com.evil", "example.com"));
    assert_false(allowed("same-host", "http://example.com/", "example.com"));
    assert_false(allowed("same-host", "http://u@example.com", "example.com"));
    assert_false(allowed("same-host", "http://example.com:80:80", "example.com"));
    assert_false(allowed("same-host", "chrome-extension://example.com", "example.com"));
    assert_false(allowed("same-host", "example.com", "example.com"));
    assert_false(allowed("same-host", "://example.com", "example.com"));
    assert_false(allowed("same-host", "http://", ""));
    assert_false(http_origin_allowed("same-host", slice_text("http://a"), none));
    assert_true(allowed("https://other, same-host", "http://a", "a"));
}

static void test_listed_origins_compare_without_case_and_default_port(void **state)
{
    static const char list[] = "https://Example.com, http://b.example:8080,app://x , http://[::1]";

    (void)state;
    assert_true(allowed(list, "https://example.com", "h"));
    assert_true(allowed(list, "https://EXAMPLE.COM:443", "h"));
    assert_true(allowed(list, "http://b.example:8080", "h"));
    assert_true(allowed(list, "app://x", "h"));
    assert_true(allowed(list, "http://[::1]:80", "h"));
    assert_false(allowed(list, "http://example.com", "h"));
    assert_false(allowed(list, "https://example.com:8443", "h"));
    assert_false(allowed(list, "http://b.example", "h"));
    assert_false(allowed(list, "https://b.example:8080", "h"));
    assert_false(allowed(list, "http://h", "h"));
    assert_false(allowed(list, "https://example.com, http://b.example:8080", "h"));
}

static void test_a_wildcard_stands_for_exactly_one_label(void **state)
{
    static const char list[] = "https://*.example.com,http://*.dev.example:3000";

    (void)state;
    assert_true(allowed(list, "https://a.example.com", "h"));
    assert_true(allowed(list, "https://A.Example.com:443", "h"));
    assert_true(allowed(list, "http://b.dev.example:3000", "h"));
    assert_false(allowed(list, "https://example.com", "h"));
    assert_false(allowed(list, "https://.example.com", "h"));
    assert_false(allowed(list, "https://a.b.example.com", "h"));
    assert_false(allowed(list, "https://evilexample.com", "h"));
    assert_false(allowed(list, "https://a.example.com.evil", "h"));
    assert_false(allowed(list, "http://a.example.com", "h"));
    assert_false(allowed(list, "http://b.dev.example", "h"));
    assert_false(allowed("https://a.*.com", "https://a.b.com", "h"));
    assert_false(allowed("https://*", "https://a", "h"));
    assert_false(allowed("*.example.com", "https://a.example.com", "h"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_browsers_and_node_clients_are_served),
        cmocka_unit_test(test_a_proxy_that_always_says_upgrade_asks_for_nothing),
        cmocka_unit_test(test_bad_handshakes_are_told_apart),
        cmocka_unit_test(test_the_accept_key_of_rfc_6455),
        cmocka_unit_test(test_the_first_subprotocol_is_answered),
        cmocka_unit_test(test_an_asterisk_lets_all_in_and_null_only_with_it),
        cmocka_unit_test(test_a_request_without_origin_is_not_from_a_page),
        cmocka_unit_test(test_same_host_compares_host_and_port),
        cmocka_unit_test(test_listed_origins_compare_without_case_and_default_port),
        cmocka_unit_test(test_a_wildcard_stands_for_exactly_one_label),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
