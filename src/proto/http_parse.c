/* http_parse.c: one request head.
 *
 * Three steps:  find the end (bounded, in one pass over growing input)
 *               walk   our own strict reading of the lines
 *               parse  libhttp-parser reads the same bytes
 * The distribution's library is built without its strict mode: it would let bare LF, lone CR and
 * the like pass. So it has to agree with the walk on target and on every header, and what two
 * readers see differently is a 400. That is the rule against request smuggling: a proxy before
 * us must not have seen another request.
 *
 * Refused with 400, each on purpose: LF without CR and CR without LF, anywhere; folded headers;
 * white space before a colon; empty names; control bytes in values, and other than visible ASCII
 * in targets; more than one space in the request line; fragments in targets; Content-Length that
 * is not plain digits, repeated, or beside Transfer-Encoding; Transfer-Encoding other than
 * exactly one `chunked`, or in HTTP/1.0; a Host that is no `host[:port]`, or differs from an
 * absolute target's. One empty line before the request line is skipped (RFC 9112 section 2.2).
 * Faults are judged in the order of the bytes, so the answer does not depend on how the input
 * came in pieces. */
#include "proto/http.h"

#include <stddef.h>

/* The library has an `enum http_method` of its own. */
#define http_method http_parser_method
#include <http_parser.h>
#undef http_method

#include "proto/http_host.h"

#define REQUEST_LINE_MAX (HTTP_TARGET_MAX + 64) /* any method, two spaces, version, CR LF */
#define VERSION_CHARS    8                      /* HTTP/1.1 */

/* What libhttp-parser is measured against. */
struct agreement {
    const struct http_request *walked;
    uint32_t n_names;
    uint32_t n_values;
    bool target_seen;
    bool complete;
};

/* Step 1. HTTP_OK: `*end` is the length of the head, the empty line included. */
static enum http_result find_end(struct slice input, uint32_t start, uint32_t *scanned,
                                 uint32_t *end, uint16_t *status)
{
    uint32_t limit = input.n_bytes < HTTP_HEAD_MAX ? input.n_bytes : HTTP_HEAD_MAX;
    uint32_t at = *scanned > start ? *scanned : start;

    *status = 400;
    /* Once only: as soon as the line would be too long and before its end is looked for any
     * further. */
    if (limit > start + REQUEST_LINE_MAX && at <= start + REQUEST_LINE_MAX &&
        !memchr(input.bytes + start, '\n', REQUEST_LINE_MAX)) {
        *status = 414;
        return HTTP_BAD;
    }
    while (at < limit) {
        const char *lf = memchr(input.bytes + at, '\n', limit - at);

        if (!lf) {
            at = limit;
            break;
        }
        at = (uint32_t)(lf - input.bytes) + 1;
        if (lf[-1] != '\r') /* the first byte is a letter: there is one before */
            return HTTP_BAD;
        if (lf[-2] == '\n') {
            *end = at;
            return HTTP_OK;
        }
    }
    *scanned = at;
    if (input.n_bytes < HTTP_HEAD_MAX)
        return HTTP_NEED_MORE;
    *status = 431;
    return HTTP_BAD;
}

static bool is_visible_ascii(struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes; i++) {
        if (text.bytes[i] <= ' ' || text.bytes[i] > '~')
            return false;
    }
    return true;
}

/* Tabs, and bytes above 127 as old clients send them, are allowed. */
static bool is_field_text(struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes; i++) {
        uint8_t c = (uint8_t)text.bytes[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static struct slice next_line(struct slice *rest)
{
    const char *lf = memchr(rest->bytes, '\n',
                            rest->n_bytes); /* find_end has seen CR LF at the end of each line */
    uint32_t n = (uint32_t)(lf - rest->bytes) + 1;
    struct slice line = slice_of(rest->bytes, n - 2);

    rest->bytes += n;
    rest->n_bytes -= n;
    return line;
}

static uint16_t walk_request_line(struct slice line, struct http_request *out)
{
    const char *space = memchr(line.bytes, ' ', line.n_bytes);
    const char *target;
    const char *version;

    if (!space || !http_is_token(slice_of(line.bytes, (uint32_t)(space - line.bytes))))
        return 400;
    target = space + 1;
    space = memchr(target, ' ', line.n_bytes - (uint32_t)(target - line.bytes));
    if (!space)
        return 400;
    out->target = slice_of(target, (uint32_t)(space - target));
    if (out->target.n_bytes > HTTP_TARGET_MAX)
        return 414;
    if (out->target.n_bytes == 0 || !is_visible_ascii(out->target) ||
        memchr(target, '#', out->target.n_bytes))
        return 400;
    version = space + 1;
    if (line.n_bytes - (uint32_t)(version - line.bytes) != VERSION_CHARS ||
        memcmp(version, "HTTP/", 5) != 0 || version[5] < '0' || version[5] > '9' ||
        version[6] != '.' || version[7] < '0' || version[7] > '9')
        return 400;
    if (version[5] != '1')
        return 505;
    out->minor = (uint8_t)(version[7] - '0');
    return 0;
}

static uint16_t walk_headers(struct slice rest, struct http_request *out)
{
    for (;;) {
        struct slice line = next_line(&rest);
        struct http_header *header = &out->headers[out->n_headers];
        const char *colon;

        if (line.n_bytes == 0)
            return 0;
        if (out->n_headers == HTTP_HEADERS_MAX)
            return 431;
        colon = memchr(line.bytes, ':', line.n_bytes);
        if (!colon)
            return 400;
        header->name = slice_of(line.bytes, (uint32_t)(colon - line.bytes));
        header->value = http_trim(slice_of(colon + 1, line.n_bytes - header->name.n_bytes - 1));
        if (!http_is_token(header->name) ||
            !is_field_text(header->value)) /* a folded line has no token */
            return 400;
        out->n_headers++;
    }
}

static int on_url(http_parser *parser, const char *at, size_t n)
{
    struct agreement *a = parser->data;

    a->target_seen = at == a->walked->target.bytes && n == a->walked->target.n_bytes;
    return a->target_seen ? 0 : -1;
}

static int on_name(http_parser *parser, const char *at, size_t n)
{
    struct agreement *a = parser->data;
    const struct http_header *h = &a->walked->headers[a->n_names];

    if (a->n_names != a->n_values || a->n_names == a->walked->n_headers)
        return -1;
    a->n_names++;
    return at == h->name.bytes && n == h->name.n_bytes ? 0 : -1;
}

static int on_value(http_parser *parser, const char *at, size_t n)
{
    struct agreement *a = parser->data;
    const struct http_header *h = &a->walked->headers[a->n_values];
    struct slice value = http_trim(slice_of(at, (uint32_t)n));

    if (a->n_names != a->n_values + 1)
        return -1;
    a->n_values++;
    if (value.n_bytes != h->value.n_bytes)
        return -1;
    if (value.n_bytes == 0) /* the library reports an empty value from the next line */
        return 0;
    return value.bytes == h->value.bytes ? 0 : -1;
}

static int on_complete(http_parser *parser)
{
    struct agreement *a = parser->data;

    a->complete = true;
    return 2; /* no body, nothing behind it: the parser ends with the head */
}

static enum http_method method_of(unsigned int method)
{
    switch (method) {
    case HTTP_GET: return HTTP_GET_;
    case HTTP_HEAD: return HTTP_HEAD_;
    case HTTP_POST: return HTTP_POST_;
    case HTTP_OPTIONS: return HTTP_OPTIONS_;
    case HTTP_PUT: return HTTP_PUT_;
    case HTTP_DELETE: return HTTP_DELETE_;
    default: return HTTP_OTHER_;
    }
}

/* Step 3. */
static bool parser_agrees(struct slice head, struct http_request *out)
{
    struct agreement a = { .walked = out };
    http_parser_settings settings;
    http_parser parser;
    size_t n;

    http_parser_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_header_field = on_name;
    settings.on_header_value = on_value;
    settings.on_headers_complete = on_complete;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &a;
    n = http_parser_execute(&parser, &settings, head.bytes, head.n_bytes);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || n != head.n_bytes || !a.complete || !a.target_seen)
        return false;
    if (a.n_names != out->n_headers || a.n_values != out->n_headers)
        return false;
    if (parser.http_major != 1 || parser.http_minor != out->minor)
        return false;
    out->method = method_of(parser.method);
    return true;
}

/* Fills path and query; `*authority` is the one of an absolute target, else its bytes are NULL,
 * and `*port` the default one. */
static bool split_target(struct http_request *out, struct slice *authority, int32_t *port)
{
    struct slice rest = out->target;
    const char *mark;

    *authority = (struct slice){ NULL, 0 };
    *port = -1;
    if (slice_is(rest, "*")) {
        out->path = rest;
        return out->method == HTTP_OPTIONS_;
    }
    if (rest.bytes[0] != '/') {
        uint32_t n = 0;

        mark = memchr(rest.bytes, ':', rest.n_bytes);
        if (!mark || rest.n_bytes - (uint32_t)(mark - rest.bytes) < 3 ||
            memcmp(mark, "://", 3) != 0)
            return false;
        *port = http_scheme_port(slice_of(rest.bytes, (uint32_t)(mark - rest.bytes)));
        if (*port < 0)
            return false;
        mark += 3;
        rest = slice_of(mark, rest.n_bytes - (uint32_t)(mark - rest.bytes));
        while (n < rest.n_bytes && rest.bytes[n] != '/' && rest.bytes[n] != '?')
            n++;
        *authority = slice_of(rest.bytes, n);
        rest = slice_of(rest.bytes + n, rest.n_bytes - n);
    }
    mark = rest.n_bytes > 0 ? memchr(rest.bytes, '?', rest.n_bytes) : NULL;
    if (mark) {
        out->query = slice_of(mark + 1, rest.n_bytes - (uint32_t)(mark - rest.bytes) - 1);
        rest.n_bytes = (uint32_t)(mark - rest.bytes);
    }
    /* "http://host" has no path; the slash before its host will do for one. */
    out->path = rest.n_bytes > 0 ? rest : slice_of(authority->bytes - 1, 1);
    return true;
}

static bool judge_host(const struct http_request *r, struct slice authority, int32_t default_port)
{
    struct slice host = { NULL, 0 };
    struct http_authority named;
    struct http_authority asked;

    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (!http_same_text(r->headers[i].name, slice_text("host")))
            continue;
        if (host.bytes)
            return false;
        host = r->headers[i].value;
    }
    if (!host.bytes && r->minor > 0)
        return false;
    if (host.n_bytes > 0 && !http_authority_parse(host, &named))
        return false;
    if (!authority.bytes)
        return true;
    if (!http_authority_parse(authority, &asked))
        return false;
    if (!host.bytes)
        return true;
    if (host.n_bytes == 0)
        return false;
    if (named.port < 0)
        named.port = default_port;
    if (asked.port < 0)
        asked.port = default_port;
    return named.port == asked.port && http_same_text(named.host, asked.host);
}

static bool read_length(struct slice value, uint64_t *length)
{
    if (value.n_bytes == 0 || value.n_bytes > 19) /* 19 digits fit into 64 bits */
        return false;
    *length = 0;
    for (uint32_t i = 0; i < value.n_bytes; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9')
            return false;
        *length = *length * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    return true;
}

/* How long is the body, and what becomes of the connection? */
static bool judge_framing(struct http_request *r)
{
    bool close = false;
    bool keep = false;

    for (uint32_t i = 0; i < r->n_headers; i++) {
        struct slice name = r->headers[i].name;
        struct slice value = r->headers[i].value;

        if (http_same_text(name, slice_text("content-length"))) {
            if (r->has_content_length || !read_length(value, &r->content_length))
                return false;
            r->has_content_length = true;
        } else if (http_same_text(name, slice_text("transfer-encoding"))) {
            if (r->chunked || r->minor == 0 || !http_same_text(value, slice_text("chunked")))
                return false;
            r->chunked = true;
        } else if (http_same_text(name, slice_text("connection"))) {
            close = close || http_list_has(value, "close");
            keep = keep || http_list_has(value, "keep-alive");
            r->connection_upgrade = r->connection_upgrade || http_list_has(value, "upgrade");
        } else if (http_same_text(name, slice_text("expect"))) {
            r->expect_other = r->expect_other || !http_same_text(value, slice_text("100-continue"));
            r->expect_continue = r->expect_continue || (r->minor > 0 && !r->expect_other);
        }
    }
    r->keep_alive = !close && (r->minor > 0 || keep);
    return !(r->chunked && r->has_content_length);
}

/* Steps 2 and 3. 0, or the status. */
static uint16_t read_head(struct slice head, struct http_request *out)
{
    struct slice rest = head;
    struct slice authority;
    int32_t default_port;
    uint16_t status;

    memset(out, 0, offsetof(struct http_request, headers));
    memset(&out->n_headers, 0, sizeof *out - offsetof(struct http_request, n_headers));
    status = walk_request_line(next_line(&rest), out);
    if (status)
        return status;
    status = walk_headers(rest, out);
    if (status)
        return status;
    if (!parser_agrees(head, out) || !split_target(out, &authority, &default_port))
        return 400;
    return judge_host(out, authority, default_port) && judge_framing(out) ? 0 : 400;
}

enum http_result http_parse(struct slice input, uint32_t *scanned, struct http_request *out,
                            uint32_t *head_bytes, uint16_t *status)
{
    uint32_t start = 0;
    uint32_t end = 0;
    enum http_result result;

    *status = 0;
    if (input.n_bytes >= 2 && memcmp(input.bytes, "\r\n", 2) == 0)
        start = 2;
    else if (input.n_bytes == 1 && input.bytes[0] == '\r')
        return HTTP_NEED_MORE;
    if (input.n_bytes == start)
        return HTTP_NEED_MORE;
    /* Methods are capitals: a TLS hello or other noise need not wait for a line end or a
     * timeout. */
    if (input.bytes[start] < 'A' || input.bytes[start] > 'Z') {
        *status = 400;
        return HTTP_BAD;
    }
    result = find_end(input, start, scanned, &end, status);
    if (result != HTTP_OK)
        return result;
    *status = read_head(slice_of(input.bytes + start, end - start), out);
    if (*status)
        return HTTP_BAD;
    *head_bytes = end;
    return HTTP_OK;
}
