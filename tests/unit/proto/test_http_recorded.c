/* test_http_recorded.c: CORS lines, cookies and compressed bodies against the answers of a Node
 * server, byte for byte. */
#include "lib/http_request.h"

#include <jansson.h>
#include <zlib.h>

#include "proto/cookie.h"
#include "proto/cors.h"
#include "proto/gzip.h"

static struct config c;
static char lines[CORS_PREFLIGHT_MAX];

static json_t *load_vectors(const char *path)
{
    json_t *file = json_load_file(path, JSON_ALLOW_NUL, NULL);

    assert_non_null(file);
    return file;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *vector_of(const json_t *file, const char *name)
{
    json_t *vector;
    size_t at;

    json_array_foreach(json_object_get(file, "vectors"), at, vector)
    {
        if (strcmp(text_of(vector, "name"), name) == 0)
            return vector;
    }
    fail_msg("no vector %s", name);
    return NULL;
}

static uint32_t count_of(const char *text, const char *what)
{
    uint32_t n = 0;

    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

/* --- CORS --- */

/* The lines stand in the answer as they are, in one piece, and no other CORS line does. */
static void expect_in(const char *answer, const char *written)
{
    const char *at = strstr(answer, written);

    if (at == NULL)
        print_message("wrote\n%s\nrecorded\n%s\n", written, answer);
    assert_non_null(at);
    assert_memory_equal(at - 2, "\r\n", 2);
    assert_int_equal(count_of(answer, "Access-Control-"), count_of(written, "Access-Control-"));
    assert_int_equal(count_of(answer, "Vary:"), count_of(written, "Vary:"));
}

static void expect_lines_in(const char *head, const char *answer)
{
    parse_head(head);
    assert_true(cors_lines(&c, &request, lines) > 0);
    expect_in(answer, lines);
}

/* The options of the recorded server, in our words. */
static void set(const char *origins, bool credentials)
{
    config_defaults(&c);
    (void)snprintf(c.cors_origin, sizeof c.cors_origin, "%s", origins);
    c.cors_credentials = credentials;
}

static void test_the_recorded_cors_lines(void **state)
{
    json_t *file = load_vectors("tests/vectors/http-errors-and-options.json");
    const json_t *v = vector_of(file, "cors-star");
    static const char *const parts[] = { "get", "refused", "noOrigin", "error" };
    const json_t *transcript;
    (void)state;

    set("*", false);
    expect_lines_in(text_of(v, "request"), text_of(v, "response"));

    set("http://a.example,http://b.example", true); /* the second is a pattern there */
    v = vector_of(file, "cors-list");
    for (uint32_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const json_t *part = json_object_get(v, parts[i]);

        expect_lines_in(text_of(part, "request"), text_of(part, "response"));
    }
    expect_lines_in(text_of(json_object_get(v, "get"), "request"), text_of(v, "clientFile"));

    set("http://a.example", false);
    v = vector_of(file, "cors-string");
    expect_lines_in(text_of(v, "request"), text_of(v, "response"));

    set("http://a.example", true);
    transcript = json_object_get(vector_of(file, "cors-ws"), "transcript");
    expect_lines_in(text_of(json_array_get(transcript, 0), "text"),
                    text_of(json_array_get(transcript, 1), "text"));
    json_decref(file);
}

static void test_the_recorded_preflights(void **state)
{
    json_t *file = load_vectors("tests/vectors/http-errors-and-options.json");
    const json_t *v = vector_of(file, "cors-star-options");
    const char *answer;
    (void)state;

    set("*", false);
    parse_head(text_of(v, "request"));
    assert_true(cors_preflight(&c, &request, lines) > 0);
    expect_in(text_of(v, "response"), lines);

    /* That server had its own methods, headers and age; the rest is the same. */
    set("http://a.example,http://b.example", true);
    v = json_object_get(vector_of(file, "cors-list"), "preflight");
    parse_head(text_of(v, "request"));
    answer = strstr(text_of(v, "response"), "\r\n") + 2;
    assert_true(cors_preflight(&c, &request, lines) > 0);
    assert_int_equal(strstr(answer, "Access-Control-Allow-Methods") - answer,
                     strstr(lines, "Access-Control-Allow-Methods") - lines);
    assert_memory_equal(answer, lines,
                        (size_t)(strstr(lines, "Access-Control-Allow-Methods") - lines));
    assert_non_null(strstr(answer, "Content-Length: 0\r\n"));
    assert_string_equal(strstr(lines, "Content-Length"), "Content-Length: 0\r\n");
    json_decref(file);
}

/* Servers without the option, as by default, send no line and answer no preflight. */
static void test_without_the_option_nothing_is_recorded_nor_written(void **state)
{
    static const char *const files[] = { "tests/vectors/http-errors-and-options.json",
                                         "tests/vectors/http-polling.json" };
    uint32_t n = 0;
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        json_t *file = load_vectors(files[i]);
        json_t *vector;
        size_t at;

        json_array_foreach(json_object_get(file, "vectors"), at, vector)
        {
            const char *options = text_of(vector, "options");
            const char *name = text_of(vector, "name");

            if (text_of(vector, "request") == NULL || text_of(vector, "response") == NULL ||
                (options != NULL && strstr(options, "\"cors\"") != NULL) ||
                strcmp(name, "invalid-origin") == 0) /* not even a request to us */
                continue;
            parse_head(text_of(vector, "request"));
            assert_int_equal(cors_lines(&c, &request, lines), 0);
            assert_int_equal(cors_preflight(&c, &request, lines), 0);
            assert_int_equal(count_of(text_of(vector, "response"), "Access-Control-"), 0);
            assert_int_equal(count_of(text_of(vector, "response"), "Vary:"), 0);
            n++;
        }
        json_decref(file);
    }
    assert_true(n >= 50);
}

/* --- the cookie --- */

static void test_the_recorded_cookie(void **state)
{
    json_t *file = load_vectors("tests/vectors/http-errors-and-options.json");
    const json_t *v = vector_of(file, "cookie");
    const char *answer = text_of(v, "response");
    const char *sid = strstr(answer, "{\"sid\":\"") + 8;
    char line[COOKIE_LINE_MAX];
    (void)state;

    (void)cookie_line(line, "io", slice_of(sid, (uint32_t)strcspn(sid, "\"")));
    expect_in(answer, line);
    assert_int_equal(count_of(answer, "Set-Cookie"), 1);
    json_decref(file);
}

/* --- compression --- */

struct bytes {
    uint8_t bytes[4096];
    uint32_t n;
};

static void put_hex(struct bytes *to, const char *hex)
{
    for (to->n = 0; hex[0] != '\0'; hex += 2) {
        char pair[3] = { hex[0], hex[1], '\0' };

        assert_true(to->n < sizeof to->bytes);
        to->bytes[to->n++] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

/* Joins the chunks, in place. */
static void unchunk(struct bytes *b)
{
    uint32_t from = 0;
    uint32_t to = 0;

    for (;;) {
        char *end;
        uint32_t n = (uint32_t)strtoul((const char *)b->bytes + from, &end, 16);

        from = (uint32_t)((uint8_t *)end - b->bytes) + 2;
        if (n == 0)
            break;
        memmove(b->bytes + to, b->bytes + from, n);
        to += n;
        from += n + 2;
    }
    b->n = to;
}

static void gunzip(struct bytes *to, const struct bytes *from)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)from->bytes,
                   .avail_in = from->n,
                   .next_out = to->bytes,
                   .avail_out = sizeof to->bytes };

    assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    to->n = (uint32_t)z.total_out;
    assert_int_equal(inflateEnd(&z), Z_OK);
}

static void test_the_recorded_compressed_poll(void **state)
{
    static struct bytes recorded, body, ours, back;
    json_t *file = load_vectors("tests/vectors/http-polling.json");
    const json_t *v = vector_of(file, "gzip-poll");
    struct gzip *gzip = gzip_new(GZIP_LEVEL_GOOD);
    (void)state;

    assert_non_null(gzip);
    parse_head(text_of(v, "request"));
    assert_int_equal(gzip_negotiate(&request), CODING_GZIP);
    assert_non_null(strstr(text_of(v, "responseHead"), gzip_header(CODING_GZIP)));
    put_hex(&recorded, text_of(v, "bodyHex"));
    unchunk(&recorded);
    gunzip(&body, &recorded);
    assert_true(body.n >= 1024);
    assert_memory_equal(body.bytes, "42[", 3);
    ours.n =
        gzip_body(gzip, CODING_GZIP, slice_of(body.bytes, body.n), ours.bytes, sizeof ours.bytes);
    assert_in_range(ours.n, 1, recorded.n); /* it was flushed before its end */
    gunzip(&back, &ours);
    assert_int_equal(back.n, body.n);
    assert_memory_equal(back.bytes, body.bytes, body.n);

    /* What is small is not compressed, though the client would take it: the caller's threshold. */
    v = vector_of(file, "below-threshold-poll");
    parse_head(text_of(v, "request"));
    assert_int_equal(gzip_negotiate(&request), CODING_GZIP);
    assert_null(strstr(text_of(v, "responseHead"), "Content-Encoding"));
    assert_non_null(strstr(text_of(v, "responseHead"), "Content-Length: 912\r\n"));
    gzip_free(gzip);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_recorded_cors_lines),
        cmocka_unit_test(test_the_recorded_preflights),
        cmocka_unit_test(test_without_the_option_nothing_is_recorded_nor_written),
        cmocka_unit_test(test_the_recorded_cookie),
        cmocka_unit_test(test_the_recorded_compressed_poll),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
