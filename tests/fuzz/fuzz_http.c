/* fuzz_http.c: a request head means the same in whatever pieces it comes, and all slices lie in it.
 *
 * Input: a byte for how many chunk sizes follow (low 4 bits), those sizes, then the head and what
 * lies behind it. The parts of a good head are then fed to everything else of http.h. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "proto/cors.h"
#include "proto/etag.h"
#include "proto/gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct outcome {
    enum http_result result;
    uint16_t status;
    uint32_t head_bytes;
};

static bool inside(struct slice part, struct slice whole)
{
    return part.bytes >= whole.bytes && part.bytes + part.n_bytes <= whole.bytes + whole.n_bytes;
}

static void try_query(struct slice query)
{
    struct slice rest = query;
    struct slice key;
    struct slice value;
    char name[64];
    char out[64];

    while (query.bytes && http_query_next(&rest, &key, &value)) {
        int32_t n = http_percent_decode(key, true, name, sizeof name - 1);

        assert(inside(key, query));
        assert(inside(value, query));
        assert(n >= -2 && n < (int32_t)sizeof name);
        if (n < 0 || memchr(name, '\0', (size_t)n))
            continue;
        name[n] = '\0';
        n = http_query_get(query, name, out, sizeof out);
        assert(n == -2 || (n >= 0 && n <= (int32_t)sizeof out)); /* it is there */
    }
    (void)http_query_get(query, "sid", out, sizeof out);
}

/* Whole lines of visible text, and as many as expected: nobody writes one of his own. */
static void check_lines(const char *lines, uint32_t n, uint32_t n_lines_max)
{
    uint32_t n_lines = 0;

    assert(lines[n] == '\0');
    for (uint32_t i = 0; i < n; i++) {
        if (lines[i] == '\r') {
            assert(lines[i + 1] == '\n');
            n_lines++;
            i++;
            continue;
        }
        assert(lines[i] >= ' ' && lines[i] <= '~');
    }
    assert(n == 0 || lines[n - 1] == '\n');
    assert(n_lines <= n_lines_max);
}

static void try_answers(const struct http_request *r)
{
    static const char *const origins[] = { "same-host", "*", "http://a.b",
                                           "same-host,https://*.example.com" };
    static struct config c;
    char lines[CORS_PREFLIGHT_MAX];

    (void)gzip_negotiate(r);
    (void)!etag_known(r, slice_text("\"x\""));
    c.cors_credentials = true;
    for (uint32_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        strcpy(c.origins, origins[i]);
        check_lines(lines, cors_lines(&c, r, lines), 3);
        check_lines(lines, cors_preflight(&c, r, lines), 7);
    }
}

static void try_parts(const struct http_request *r, struct slice head)
{
    static const char allowed[] = "same-host, https://*.example.com, http://[::1]:80";
    struct slice host = http_header_find(r, "host");
    struct slice protocol = http_ws_protocol(r);

    assert(r->n_headers <= HTTP_HEADERS_MAX);
    assert(r->target.n_bytes <= HTTP_TARGET_MAX);
    assert(inside(r->target, head));
    assert(inside(r->path, head));
    assert(r->path.n_bytes > 0);
    assert(r->path.bytes[0] == '/' || r->method == HTTP_OPTIONS_);
    assert(!r->query.bytes || inside(r->query, head));
    assert(!(r->chunked && r->has_content_length));
    assert(host.bytes || r->minor == 0);
    assert(!protocol.bytes || inside(protocol, head));
    for (uint32_t i = 0; i < r->n_headers; i++) {
        struct slice value = r->headers[i].value;

        assert(inside(r->headers[i].name, head));
        assert(inside(value, head));
        assert(value.n_bytes == 0 || !memchr(value.bytes, '\r', value.n_bytes));
        assert(value.n_bytes == 0 || !memchr(value.bytes, '\n', value.n_bytes));
    }
    try_query(r->query);
    try_answers(r);
    assert(http_origin_allowed("*", http_header_find(r, "origin"), host));
    (void)!http_origin_allowed(allowed, http_header_find(r, "origin"), host);
    (void)!http_origin_allowed("http://a.b", host, host);
    if (http_ws_check(r) == HTTP_WS_OK) {
        char accept[HTTP_ACCEPT_CHARS];

        assert(r->connection_upgrade);
        http_ws_accept(accept, http_header_find(r, "sec-websocket-key"));
        assert(accept[HTTP_ACCEPT_CHARS - 1] == '=');
    }
}

/* As a connection does it: the same growing bytes, moved between calls. */
static struct outcome parse(const uint8_t *bytes, uint32_t n, const uint8_t *sizes,
                            uint32_t n_sizes)
{
    struct outcome o = { HTTP_NEED_MORE, 0, 0 };
    struct http_request r;
    uint32_t scanned = 0;
    uint32_t have = 0;

    for (uint32_t i = 0; o.result == HTTP_NEED_MORE && have < n; i++) {
        uint32_t size = n_sizes > 0 ? sizes[i % n_sizes] + 1U : n;
        uint8_t *copy;

        have += size < n - have ? size : n - have;
        copy = malloc(have);
        assert(copy);
        memcpy(copy, bytes, have);
        o.result = http_parse(slice_of(copy, have), &scanned, &r, &o.head_bytes, &o.status);
        assert(scanned <= have);
        if (o.result == HTTP_OK) {
            assert(o.head_bytes <= have && o.head_bytes <= HTTP_HEAD_MAX);
            assert(memcmp(copy + o.head_bytes - 4, "\r\n\r\n", 4) == 0);
            try_parts(&r, slice_of(copy, o.head_bytes));
        }
        free(copy);
    }
    return o;
}

static void same(struct outcome a, struct outcome b)
{
    assert(a.result == b.result);
    assert(a.result != HTTP_BAD || a.status == b.status);
    assert(a.result != HTTP_BAD || a.status == 400 || a.status == 414 || a.status == 431 ||
           a.status == 505);
    assert(a.result != HTTP_OK || a.head_bytes == b.head_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t one_by_one[] = { 0 };
    struct outcome at_once;
    uint32_t n_sizes;

    if (n < 1 || n > 1U << 16)
        return 0;
    n_sizes = data[0] & 15;
    if (n_sizes > n - 1)
        return 0;
    data++;
    n -= 1 + n_sizes;
    at_once = parse(data + n_sizes, (uint32_t)n, NULL, 0);
    same(at_once, parse(data + n_sizes, (uint32_t)n, data, n_sizes));
    if (n < 2048)
        same(at_once, parse(data + n_sizes, (uint32_t)n, one_by_one, 1));
    return 0;
}
