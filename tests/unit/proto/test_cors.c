/* test_cors.c: who gets which CORS lines, and that nobody writes a line of his own. The exact bytes
 * of Node are in test_http_recorded.c. */
#include "lib/http_request.h"

#include "proto/cookie.h"
#include "proto/cors.h"

#define ALLOW(origin) "Access-Control-Allow-Origin: " origin "\r\n"
#define VARY          "Vary: Origin\r\n"
#define CREDENTIALS   "Access-Control-Allow-Credentials: true\r\n"
#define METHODS_LINE  "Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n"
#define PREFLIGHT     METHODS_LINE "Vary: Access-Control-Request-Headers\r\n"
#define NO_BODY       "Content-Length: 0\r\n"

static struct config c;
static char lines[CORS_PREFLIGHT_MAX];

static void set(const char *origins, const char *cors_origin, bool credentials)
{
    config_defaults(&c);
    (void)snprintf(c.origins, sizeof c.origins, "%s", origins);
    (void)snprintf(c.cors_origin, sizeof c.cors_origin, "%s", cors_origin);
    c.cors_credentials = credentials;
}

static void expect_lines(const char *headers, const char *expected)
{
    parse_request("GET /", headers);
    assert_int_equal(cors_lines(&c, &request, lines), strlen(expected));
    assert_string_equal(lines, expected);
}

static void expect_preflight(const char *headers, const char *expected)
{
    parse_request("OPTIONS /", headers);
    assert_int_equal(cors_preflight(&c, &request, lines), strlen(expected));
    assert_string_equal(lines, expected);
}

static void test_the_default_sends_nothing(void **state)
{
    (void)state;
    config_defaults(&c);
    expect_lines("Origin: http://a\r\n", "");
    expect_lines("Origin: http://b\r\n", "");
    expect_preflight("Origin: http://b\r\nAccess-Control-Request-Method: POST\r\n", "");
    set("*", "same-host", false);
    expect_lines("Origin: http://a\r\n", "");
}

static void test_it_follows_origins_unless_set(void **state)
{
    (void)state;
    set("*", "", false);
    expect_lines("Origin: http://x\r\n", ALLOW("*"));
    expect_lines("", ALLOW("*"));
    set("http://a,http://b", "", true);
    expect_lines("Origin: http://b\r\n", ALLOW("http://b") VARY CREDENTIALS);
    set("*", "http://a,http://b", false);
    expect_lines("Origin: http://x\r\n", VARY);
    set("http://a,http://b", "*", false);
    expect_lines("Origin: http://x\r\n", ALLOW("*"));
}

static void test_a_list_names_the_asking_origin_or_none(void **state)
{
    (void)state;
    set("http://a.example,https://*.b.example:8443,same-host", "", false);
    expect_lines("Origin: http://a.example\r\n", ALLOW("http://a.example") VARY);
    expect_lines("Origin: https://x.b.example:8443\r\n", ALLOW("https://x.b.example:8443") VARY);
    expect_lines("Origin: https://x.b.example\r\n", VARY);
    expect_lines("Origin: http://a\r\n", ALLOW("http://a") VARY); /* the Host of these requests */
    expect_lines("Origin: null\r\n", VARY);
    expect_lines("Origin: \r\n", VARY);
    expect_lines("", VARY);
}

static void test_a_single_origin_is_named_whoever_asks(void **state)
{
    (void)state;
    set("*", "https://a.example:443", false);
    expect_lines("Origin: http://evil.example\r\n", ALLOW("https://a.example:443") VARY);
    expect_lines("", ALLOW("https://a.example:443") VARY);
    /* the browser compares text: it has to get what it sent */
    expect_lines("Origin: https://a.example\r\n", ALLOW("https://a.example") VARY);
    set("https://*.a.example", "", false); /* not an origin, so it cannot be named */
    expect_lines("Origin: http://evil.example\r\n", VARY);
    expect_lines("Origin: https://x.a.example\r\n", ALLOW("https://x.a.example") VARY);
}

static void test_a_preflight_is_answered_whole(void **state)
{
    (void)state;
    set("http://a,http://b", "", true);
    expect_preflight("Origin: http://b\r\nAccess-Control-Request-Method: POST\r\n"
                     "Access-Control-Request-Headers: content-type, x-b\r\n",
                     ALLOW("http://b") VARY CREDENTIALS PREFLIGHT
                     "Access-Control-Allow-Headers: content-type, x-b\r\n" NO_BODY);
    expect_preflight("Origin: http://x\r\n", VARY CREDENTIALS PREFLIGHT NO_BODY);
    expect_preflight("", VARY CREDENTIALS PREFLIGHT NO_BODY);
    parse_request("GET /", "Access-Control-Request-Method: POST\r\n");
    assert_int_equal(cors_preflight(&c, &request, lines), 0);
    assert_string_equal(lines, "");
}

/* http_parse lets no control byte through; these modules do not count on it. */
static void test_nothing_but_names_and_origins_is_reflected(void **state)
{
    static const char *const asked[] = { "x y",       "a;b",      "x\tq,b", "a:b",
                                         "a,\"b\"",   "\xc3\xa4", ",\t,",   "a\r\nSet-Cookie: x=1",
                                         "a\nX: y\n", "a,\x7f",   "(x)",    "a,b\r" };
    static const char *const origins[] = { "http://b.a.example\r\nSet-Cookie: x=1",
                                           "http://b .a.example",
                                           "http://\xc3\xa4.a.example",
                                           "http://b.a.example/\x1f",
                                           "http://b\x7f.a.example",
                                           "http://b\n.a.example" };
    (void)state;

    set("http://*.a.example", "", false);
    parse_request("OPTIONS /", "Access-Control-Request-Headers: x\r\nOrigin: x\r\n");
    assert_int_equal(request.n_headers, 3);
    for (uint32_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        request.headers[1].value = slice_text(asked[i]);
        assert_true(cors_preflight(&c, &request, lines) > 0);
        assert_string_equal(lines, VARY PREFLIGHT NO_BODY);
    }
    request.headers[1].value = (struct slice){ NULL, 0 };
    for (uint32_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        request.headers[2].value = slice_text(origins[i]);
        assert_true(cors_lines(&c, &request, lines) > 0);
        assert_string_equal(lines, VARY);
    }
    request.headers[2].value = slice_text("http://b.a.example");
    assert_true(cors_lines(&c, &request, lines) > 0);
    assert_string_equal(lines, ALLOW("http://b.a.example") VARY);
}

/* A text of n bytes of 'a' between two others. */
static const char *long_text(char *to, const char *before, uint32_t n, const char *after)
{
    (void)sprintf(to, "%s%*s%s", before, (int)n, "", after);
    memset(to + strlen(before), 'a', n);
    return to;
}

static void test_what_is_too_long_is_left_out(void **state)
{
    static char headers[4096], name[2048];
    uint32_t n;
    (void)state;

    /* the longest of all: nothing of it may be cut */
    set("http://*.b,http://c", "", true);
    long_text(name, "Origin: http://", CORS_ORIGIN_MAX - 9,
              ".b\r\nAccess-Control-Request-Headers: ");
    long_text(headers, name, CORS_HEADERS_MAX, "\r\n");
    parse_request("OPTIONS /", headers);
    n = cors_preflight(&c, &request, lines);
    assert_int_equal(n, CORS_PREFLIGHT_MAX - 1);
    assert_int_equal(strlen(lines), n);
    assert_string_equal(lines + n - strlen(NO_BODY), NO_BODY);
    assert_int_equal(cors_lines(&c, &request, lines), CORS_LINES_MAX - 1);
    /* one byte more of each */
    long_text(name, "Origin: http://", CORS_ORIGIN_MAX - 8,
              ".b\r\nAccess-Control-Request-Headers: ");
    expect_preflight(long_text(headers, name, CORS_HEADERS_MAX + 1, "\r\n"),
                     VARY CREDENTIALS PREFLIGHT NO_BODY);
    /* and the longest origin that the configuration takes */
    long_text(c.origins, "http://", CONFIG_TEXT_MAX - 8, "");
    n = cors_lines(&c, &request, lines);
    assert_true(n > CONFIG_TEXT_MAX && n < CORS_LINES_MAX);
}

/* --- the cookie --- */

static void test_the_cookie_line(void **state)
{
    char line[COOKIE_LINE_MAX], name[CONFIG_TEXT_MAX], sid[COOKIE_SID_MAX + 1];
    uint32_t n;
    (void)state;

    assert_int_equal(cookie_line(line, "", slice_text("x")), 0);
    assert_string_equal(line, "");
    n = cookie_line(line, "sticky", slice_text("aZ-_09"));
    assert_string_equal(line, "Set-Cookie: sticky=aZ-_09; Path=/; HttpOnly; SameSite=Lax\r\n");
    assert_int_equal(n, strlen(line));
    long_text(name, "", sizeof name - 1, "");
    long_text(sid, "", COOKIE_SID_MAX, "");
    n = cookie_line(line, name, slice_text(sid));
    assert_int_equal(n, strlen(line));
    assert_string_equal(line + n - 14, "SameSite=Lax\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_default_sends_nothing),
        cmocka_unit_test(test_it_follows_origins_unless_set),
        cmocka_unit_test(test_a_list_names_the_asking_origin_or_none),
        cmocka_unit_test(test_a_single_origin_is_named_whoever_asks),
        cmocka_unit_test(test_a_preflight_is_answered_whole),
        cmocka_unit_test(test_nothing_but_names_and_origins_is_reflected),
        cmocka_unit_test(test_what_is_too_long_is_left_out),
        cmocka_unit_test(test_the_cookie_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
