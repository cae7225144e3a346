/* test_access.c: who may do what, as a table of whole request heads. */
#include "admin/access.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define LOCAL               \
    {                       \
        .is_loopback = true \
    }
#define LOCKED                                        \
    {                                                 \
        .is_loopback = true, .token = { "s3cret", 6 } \
    }
#define OPEN                 \
    {                        \
        .is_loopback = false \
    }
#define GUARDED                                        \
    {                                                  \
        .is_loopback = false, .token = { "s3cret", 6 } \
    }
#define HERE   "Host: localhost:9300\r\n"
#define JSON   "Content-Type: application/json\r\n"
#define BEARER "Authorization: Bearer s3cret\r\n"

static struct peer_address peer_of(const char *text)
{
    struct sockaddr_storage address = { 0 };
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    struct peer_address peer;

    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        address.ss_family = AF_INET6;
    else
        address.ss_family = AF_UNIX;
    peer_address_from(&peer, &address);
    return peer;
}

static enum access decide(struct access_rules rules, enum access_area area, enum access_type type,
                          const char *peer, const char *headers)
{
    struct peer_address address = peer_of(peer);
    struct http_request request;
    char text[2048];
    uint32_t scanned = 0, head_bytes;
    uint16_t status = 0;

    snprintf(text, sizeof text, "POST /api/emit HTTP/1.1\r\n%s\r\n", headers);
    if (http_parse(slice_text(text), &scanned, &request, &head_bytes, &status) != HTTP_OK)
        fail_msg("not parsed (%u): %s", status, text);
    return access_decide(&rules, area, type, &address, &request);
}

static const struct {
    const char *what;
    struct access_rules rules;
    enum access_area area;
    enum access_type type;
    const char *peer;
    const char *headers;
    enum access outcome;
} cases[] = {
    { "health is for everybody", OPEN, AREA_HEALTH, TYPE_ANY, "192.0.2.1",
      "Host: x.example\r\nX-Forwarded-For: 1.2.3.4\r\nOrigin: http://e.example\r\n",
      ACCESS_GRANTED },
    { "an exposed listener without a token shows no dashboard", OPEN, AREA_PAGE, TYPE_ANY,
      "127.0.0.1", HERE, ACCESS_EXPOSED },
    { "nor an API, not even to local peers", OPEN, AREA_API, TYPE_JSON, "127.0.0.1", HERE JSON,
      ACCESS_EXPOSED },
    { "a local peer may", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1", HERE JSON, ACCESS_GRANTED },
    { "over IPv6 too", LOCAL, AREA_API, TYPE_JSON, "::1", "Host: [::1]:9300\r\n" JSON,
      ACCESS_GRANTED },
    { "IPv4 mapped into IPv6 is IPv4", LOCAL, AREA_API, TYPE_JSON, "::ffff:127.0.0.1", HERE JSON,
      ACCESS_GRANTED },
    { "over a UNIX socket too", LOCAL, AREA_API, TYPE_JSON, "unix", "Host: localhost\r\n" JSON,
      ACCESS_GRANTED },
    { "all of 127/8 is this host", LOCAL, AREA_API, TYPE_JSON, "127.9.9.9",
      "Host: 127.1.2.3\r\n" JSON, ACCESS_GRANTED },
    { "the case of the Host does not matter", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      "Host: LocalHost:1\r\n" JSON, ACCESS_GRANTED },
    { "a peer elsewhere may not", LOCAL, AREA_API, TYPE_JSON, "192.0.2.1", HERE JSON, ACCESS_PEER },
    { "a mapped peer elsewhere may not", LOCAL, AREA_API, TYPE_JSON, "::ffff:192.0.2.1", HERE JSON,
      ACCESS_PEER },
    { "X-Forwarded-For", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "X-Forwarded-For: 127.0.0.1\r\n", ACCESS_FORWARDED },
    { "any X-Forwarded-, in any case", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "x-forwarded-whatever: \r\n", ACCESS_FORWARDED },
    { "Forwarded", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1", HERE JSON "Forwarded: for=1\r\n",
      ACCESS_FORWARDED },
    { "X-Forwarded alone is no such header", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "X-Forwarded: x\r\n", ACCESS_GRANTED },
    { "a foreign Host", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1", "Host: evil.example\r\n" JSON,
      ACCESS_HOST },
    { "a Host that begins like ours", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      "Host: localhost.evil.example\r\n" JSON, ACCESS_HOST },
    { "a name made of digits", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      "Host: 127.0.0.1.nip.example\r\n" JSON, ACCESS_HOST },
    { "an address that is not ours", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      "Host: 192.0.2.1:9300\r\n" JSON, ACCESS_HOST },
    { "0.0.0.0 is no loopback address", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      "Host: 0.0.0.0:9300\r\n" JSON, ACCESS_HOST },
    { "a page of another site", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Origin: http://evil.example\r\n", ACCESS_ORIGIN },
    { "a page of another port", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Origin: http://localhost:3000\r\n", ACCESS_ORIGIN },
    { "a page without an origin", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Origin: null\r\n", ACCESS_ORIGIN },
    { "our own page", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Origin: http://localhost:9300\r\n", ACCESS_GRANTED },
    { "reading is refused to other sites as well", LOCAL, AREA_API, TYPE_ANY, "127.0.0.1",
      HERE "Origin: http://evil.example\r\n", ACCESS_ORIGIN },
    { "the token", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1", HERE JSON BEARER, ACCESS_GRANTED },
    { "the scheme in any case", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: bearer  s3cret\r\n", ACCESS_GRANTED },
    { "from elsewhere, by any name, through a proxy", GUARDED, AREA_API, TYPE_JSON, "192.0.2.1",
      "Host: peal.example\r\nX-Forwarded-For: 1.2.3.4\r\n" JSON BEARER, ACCESS_GRANTED },
    { "no token", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1", HERE JSON, ACCESS_TOKEN },
    { "another token", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: Bearer s3creT\r\n", ACCESS_TOKEN },
    { "the beginning of the token", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: Bearer s3cre\r\n", ACCESS_TOKEN },
    { "the token twice", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: Bearer s3crets3cret\r\n", ACCESS_TOKEN },
    { "an empty token", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: Bearer \r\n", ACCESS_TOKEN },
    { "another scheme", LOCKED, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE JSON "Authorization: Basic s3cret\r\n", ACCESS_TOKEN },
    { "the token does not let other sites in", GUARDED, AREA_API, TYPE_JSON, "192.0.2.1",
      "Host: peal.example\r\nOrigin: http://evil.example\r\n" JSON BEARER, ACCESS_ORIGIN },
    { "the dashboard itself needs no token", GUARDED, AREA_PAGE, TYPE_ANY, "192.0.2.1",
      "Host: peal.example\r\n", ACCESS_GRANTED },
    { "no type", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1", HERE, ACCESS_TYPE },
    { "a form's type", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE "Content-Type: application/x-www-form-urlencoded\r\n", ACCESS_TYPE },
    { "text/plain", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1", HERE "Content-Type: text/plain\r\n",
      ACCESS_TYPE },
    { "JSON only as a parameter", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE "Content-Type: text/plain; application/json\r\n", ACCESS_TYPE },
    { "JSON with a parameter", LOCAL, AREA_API, TYPE_JSON, "127.0.0.1",
      HERE "Content-Type: Application/JSON; charset=utf-8\r\n", ACCESS_GRANTED },
    { "a frame as JSON", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1", HERE JSON, ACCESS_GRANTED },
    { "a frame as bytes", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1",
      HERE "Content-Type: application/octet-stream\r\n", ACCESS_GRANTED },
    { "a frame as text/plain", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1",
      HERE "Content-Type: Text/Plain;charset=utf-8\r\n", ACCESS_TYPE },
    { "a frame as a form", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1",
      HERE "Content-Type: multipart/form-data; boundary=x\r\n", ACCESS_TYPE },
    { "a frame without a type", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1", HERE, ACCESS_TYPE },
    { "a frame with what is no type", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1",
      HERE "Content-Type: json\r\n", ACCESS_TYPE },
    { "a frame with two types", LOCAL, AREA_API, TYPE_PREFLIGHT, "127.0.0.1",
      HERE "Content-Type: text/plain, application/json\r\n", ACCESS_TYPE },
};

static void test_access_is_decided_as_the_table_says(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum access got =
            decide(cases[i].rules, cases[i].area, cases[i].type, cases[i].peer, cases[i].headers);

        if (got != cases[i].outcome)
            fail_msg("%s: %s instead of %s", cases[i].what, access_text(got),
                     access_text(cases[i].outcome));
    }
}

static void test_without_a_host_nothing_local_is_assumed(void **state)
{
    static const char text[] = "GET /api/workers HTTP/1.0\r\n\r\n";
    const struct access_rules rules = LOCAL;
    struct peer_address peer = peer_of("127.0.0.1");
    struct http_request request;
    uint32_t scanned = 0, head_bytes;
    uint16_t status;

    (void)state;
    assert_int_equal(http_parse(slice_text(text), &scanned, &request, &head_bytes, &status),
                     HTTP_OK);
    assert_int_equal(access_decide(&rules, AREA_API, TYPE_ANY, &peer, &request), ACCESS_HOST);
}

static void test_each_outcome_has_a_status_and_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < ACCESS_OUTCOMES; i++) {
        assert_true(access_status((enum access)i) >= 200);
        assert_true(strlen(access_text((enum access)i)) > 0);
    }
    assert_int_equal(access_status(ACCESS_TOKEN), 401);
    assert_int_equal(access_status(ACCESS_TYPE), 415);
    assert_int_equal(access_status(ACCESS_HOST), 403);
}

static void test_the_essence_of_a_type_and_its_charset(void **state)
{
    bool utf8;

    (void)state;
    assert_true(
        slice_is(access_type_essence(slice_text("text/html ; Charset=UTF-8"), &utf8), "text/html"));
    assert_true(utf8);
    assert_true(slice_is(access_type_essence(slice_text("a/b;x=charset=utf-8"), &utf8), "a/b"));
    assert_false(utf8);
    assert_null(access_type_essence((struct slice){ NULL, 0 }, &utf8).bytes);
    assert_true(slice_is(access_type_essence(slice_text("a/b;charset=\"utf-8\""), &utf8), "a/b"));
    assert_true(utf8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_access_is_decided_as_the_table_says),
        cmocka_unit_test(test_without_a_host_nothing_local_is_assumed),
        cmocka_unit_test(test_each_outcome_has_a_status_and_a_text),
        cmocka_unit_test(test_the_essence_of_a_type_and_its_charset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
