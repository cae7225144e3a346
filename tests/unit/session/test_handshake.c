/* test_handshake.c: the handshake object that comes out is what went in, as JSON, and never longer than announced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "session/handshake.h"

#define GUARD 0x5a

static struct agents agents;
static const struct peer_address peer = { .family = AF_INET, .bytes = { 192, 0, 2, 7 } };

static struct http_request parsed(const char *head)
{
    struct http_request request;
    uint32_t scanned = 0, head_bytes;
    uint16_t status = 0;

    assert_int_equal(http_parse(slice_text(head), &scanned, &request, &head_bytes, &status),
                     HTTP_OK);
    return request;
}

/* Writes it into exactly as much as was announced, with a guard behind it, and reads it back. */
static json_t *written(const char *kept, struct slice auth)
{
    uint32_t max = handshake_json_max(kept, auth);
    uint8_t *out = malloc(max + 1);
    json_t *json;
    uint32_t n;

    assert_non_null(out);
    out[max] = GUARD;
    n = handshake_put_json((char *)out, kept, &peer, auth);
    assert_true(n <= max);
    assert_int_equal(out[max], GUARD);
    json = json_loadb((char *)out, n, 0, NULL);
    assert_non_null(json);
    free(out);
    return json;
}

static void is_text(const json_t *object, const char *key, const char *text)
{
    assert_string_equal(json_string_value(json_object_get(object, key)), text);
}

static void test_all_parts_come_out_as_node_has_them(void **state)
{
    struct http_request request = parsed("GET /socket.io/?EIO=4&transport=websocket&a%20b=c+d "
                                         "HTTP/1.1\r\nHost: example\r\nUser-Agent: \"UA\"\r\n"
                                         "Origin: http://example\r\nX-Other: secret\r\n\r\n");
    char *kept = handshake_keep(&request, false, 1700000000123, &agents);
    json_t *json = written(kept, slice_text("{\"token\":[1,null]}"));
    const json_t *headers = json_object_get(json, "headers");
    const json_t *query = json_object_get(json, "query");

    (void)state;
    is_text(headers, "user-agent", "\"UA\"");
    is_text(headers, "origin", "http://example");
    assert_int_equal(json_object_size(headers), 2);
    is_text(json, "time", "Tue Nov 14 2023 22:13:20 GMT+0000 (Coordinated Universal Time)");
    is_text(json, "address", "192.0.2.7");
    assert_true(json_is_true(json_object_get(json, "xdomain")));
    assert_true(json_is_false(json_object_get(json, "secure")));
    assert_int_equal(json_integer_value(json_object_get(json, "issued")), 1700000000123);
    is_text(json, "url", "/socket.io/?EIO=4&transport=websocket&a%20b=c+d");
    is_text(query, "EIO", "4");
    is_text(query, "transport", "websocket");
    is_text(query, "a b", "c d");
    assert_int_equal(json_object_size(query), 3);
    assert_int_equal(json_array_size(json_object_get(json_object_get(json, "auth"), "token")), 2);
    assert_int_equal(json_object_size(json), 9);
    json_decref(json);
    handshake_free(kept, &agents);
}

/* What Node's querystring.parse makes of them. */
static void test_bad_escapes_in_the_query_stand_for_themselves(void **state)
{
    struct http_request request =
        parsed("GET /?a%zz=1&%=%&%4=x%4&%4g=%g4&a%20%zz%41=%c3%28&x=%41%&y=%E0%A4%A&k=%%41&l=%4%41 "
               "HTTP/1.1\r\nHost: example\r\n\r\n");
    char *kept = handshake_keep(&request, false, 0, &agents);
    json_t *json = written(kept, (struct slice){ NULL, 0 });
    const json_t *query = json_object_get(json, "query");

    (void)state;
    is_text(query, "a%zz", "1");
    is_text(query, "%", "%");
    is_text(query, "%4", "x%4");
    is_text(query, "%4g", "%g4");
    is_text(query, "a %zzA", "\xEF\xBF\xBD(");
    is_text(query, "x", "A%");
    is_text(query, "y", "\xEF\xBF\xBD%A");
    is_text(query, "k", "%A");
    is_text(query, "l", "%4A");
    assert_int_equal(json_object_size(query), 9);
    json_decref(json);
    handshake_free(kept, &agents);
}

static void test_full_keeps_every_header_under_its_small_name(void **state)
{
    struct http_request request =
        parsed("GET / HTTP/1.1\r\nHost: example\r\nX-Other: \r\nCOOKIE: a=b\r\n\r\n");
    char *kept = handshake_keep(&request, true, 0, &agents);
    json_t *json = written(kept, (struct slice){ NULL, 0 });
    const json_t *headers = json_object_get(json, "headers");

    (void)state;
    is_text(headers, "host", "example");
    is_text(headers, "x-other", "");
    is_text(headers, "cookie", "a=b");
    assert_int_equal(json_object_size(headers), 3);
    assert_true(json_is_false(json_object_get(json, "xdomain")));
    assert_int_equal(json_object_size(json_object_get(json, "query")), 0);
    assert_int_equal(json_object_size(json_object_get(json, "auth")), 0);
    json_decref(json);
    handshake_free(kept, &agents);
}

static void test_without_memory_for_it_there_is_an_empty_one(void **state)
{
    json_t *json = written(NULL, (struct slice){ NULL, 0 });

    (void)state;
    assert_int_equal(json_object_size(json_object_get(json, "headers")), 0);
    is_text(json, "url", "");
    is_text(json, "address", "192.0.2.7");
    json_decref(json);
}

/* A target and headers that take as many bytes as a client can make them take. */
static void test_the_worst_request_is_within_what_was_announced(void **state)
{
    static const char *const worst[] = { "&",  "=",    "a&",  "%01", "%01=%01&", "\"",
                                         "\\", "%22=", "%ff", "%",   "%f" };
    static char target[HTTP_TARGET_MAX];
    static char value[HTTP_HEAD_MAX - HTTP_TARGET_MAX];

    (void)state;
    for (uint32_t i = 0; i < sizeof worst / sizeof worst[0]; i++) {
        struct http_request request = { .n_headers = HTTP_HEADERS_MAX };
        size_t n = strlen(worst[i]);
        char *kept;

        memcpy(target, "/?", 2);
        for (size_t k = 2; k < sizeof target; k++)
            target[k] = worst[i][(k - 2) % n];
        memset(value, i % 2 == 0 ? '\t' : 0x01, sizeof value);
        request.target = slice_of(target, sizeof target);
        for (uint32_t h = 0; h < HTTP_HEADERS_MAX; h++) {
            request.headers[h].name = slice_text(h == 0 && i % 2 == 0 ? "user-agent" : "x");
            request.headers[h].value = slice_of(value, h == 0 ? sizeof value : 0);
        }
        kept = handshake_keep(&request, true, UINT32_MAX, &agents);
        assert_non_null(kept);
        json_decref(written(kept, slice_text("[]")));
        handshake_free(kept, &agents);
    }
}

static void test_a_user_agent_is_kept_once_for_all_who_have_it_and_not_longer(void **state)
{
    static const char head[] = "GET /?a=%u HTTP/1.1\r\nHost: x\r\nUser-Agent: A %u\r\n\r\n";
    static char *kept[AGENTS_MAX + 2];
    char text[128], agent[32];

    (void)state;
    for (uint32_t i = 0; i < AGENTS_MAX + 2; i++) { /* the last two find the table full */
        struct http_request request;

        (void)snprintf(text, sizeof text, head, i, i);
        request = parsed(text);
        kept[i] = handshake_keep(&request, false, 0, &agents);
        assert_int_equal(agents.n, i < AGENTS_MAX ? i + 1 : AGENTS_MAX);
        request.target = slice_text("/");
        handshake_free(handshake_keep(&request, false, 0, &agents), &agents);
    }
    for (uint32_t i = 0; i < AGENTS_MAX + 2; i++) {
        json_t *json = written(kept[i], (struct slice){ NULL, 0 });

        (void)snprintf(agent, sizeof agent, "A %u", i);
        is_text(json_object_get(json, "headers"), "user-agent", agent);
        json_decref(json);
        handshake_free(kept[i], &agents);
    }
    assert_int_equal(agents.n, 0);
    for (uint32_t i = 0; i < AGENTS_BUCKETS; i++)
        assert_null(agents.buckets[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_parts_come_out_as_node_has_them),
        cmocka_unit_test(test_bad_escapes_in_the_query_stand_for_themselves),
        cmocka_unit_test(test_full_keeps_every_header_under_its_small_name),
        cmocka_unit_test(test_without_memory_for_it_there_is_an_empty_one),
        cmocka_unit_test(test_a_user_agent_is_kept_once_for_all_who_have_it_and_not_longer),
        cmocka_unit_test(test_the_worst_request_is_within_what_was_announced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
