/* cors.c: CORS lines, in the order in which Node sends them.
 *
 * Invariant: what is reflected is visible ASCII (an origin that the matcher has split into scheme,
 *            host and port; names of headers and commas), so nobody can write a header of his own. */
#include "proto/cors.h"

#include <assert.h>
#include <stdio.h>

#include "proto/http_host.h"

#define METHODS "GET,HEAD,PUT,PATCH,POST,DELETE"

struct lines {
    char *out;
    uint32_t n;
    uint32_t room;
};

static void put(struct lines *l, const char *name, struct slice value)
{
    int n = snprintf(l->out + l->n, l->room - l->n, "%s: %.*s\r\n", name, (int)value.n_bytes,
                     value.bytes);

    assert(n > 0);
    assert((uint32_t)n < l->room - l->n); /* the bounds of cors.h are sums */
    l->n += (uint32_t)n;
}

static void put_text(struct lines *l, const char *name, const char *value)
{
    put(l, name, slice_text(value));
}

/* The option in force. */
static const char *origins_of(const struct config *c)
{
    return c->cors_origin[0] != '\0' ? c->cors_origin : c->origins;
}

/* Pages of the same host need no such header. */
static bool is_on(const struct config *c)
{
    return strcmp(origins_of(c), "same-host") != 0;
}

/* The origin to name; bytes == NULL: none. */
static struct slice origin_for(const char *origins, const struct http_request *r)
{
    struct slice origin = http_header_find(r, "origin");

    if (origin.bytes != NULL && origin.n_bytes <= CORS_ORIGIN_MAX &&
        http_origin_allowed(origins, origin, http_header_find(r, "host")))
        return origin;
    /* Node names a single origin whoever asks; to a page of another one that says no as well. */
    if (strchr(origins, ',') == NULL && strstr(origins, "://*.") == NULL)
        return slice_text(origins);
    return (struct slice){ NULL, 0 };
}

static void put_common(struct lines *l, const struct config *c, const struct http_request *r)
{
    const char *origins = origins_of(c);
    struct slice origin;

    if (strcmp(origins, "*") == 0) {
        put_text(l, "Access-Control-Allow-Origin", "*");
    } else {
        origin = origin_for(origins, r);
        if (origin.bytes != NULL)
            put(l, "Access-Control-Allow-Origin", origin);
        put_text(l, "Vary", "Origin"); /* also without: the answer depends on it all the same */
    }
    if (c->cors_credentials)
        put_text(l, "Access-Control-Allow-Credentials", "true");
}

/* Names of headers, separated by commas; bytes == NULL: not a list of these, or too long a one. */
static struct slice asked_headers(const struct http_request *r)
{
    struct slice asked = http_header_find(r, "access-control-request-headers");
    struct slice rest = asked;
    struct slice name;

    if (asked.n_bytes == 0 || asked.n_bytes > CORS_HEADERS_MAX ||
        memchr(asked.bytes, '\t', asked.n_bytes) != NULL)
        return (struct slice){ NULL, 0 };
    while (http_list_next(&rest, &name)) {
        if (name.n_bytes > 0 && !http_is_token(name))
            return (struct slice){ NULL, 0 };
    }
    return asked;
}

uint32_t cors_lines(const struct config *c, const struct http_request *r, char out[CORS_LINES_MAX])
{
    struct lines l = { out, 0, CORS_LINES_MAX };

    out[0] = '\0';
    if (is_on(c))
        put_common(&l, c, r);
    return l.n;
}

uint32_t cors_preflight(const struct config *c, const struct http_request *r,
                        char out[CORS_PREFLIGHT_MAX])
{
    struct lines l = { out, 0, CORS_PREFLIGHT_MAX };
    struct slice headers;

    out[0] = '\0';
    if (r->method != HTTP_OPTIONS_ || !is_on(c))
        return 0;
    put_common(&l, c, r);
    put_text(&l, "Access-Control-Allow-Methods", METHODS);
    put_text(&l, "Vary", "Access-Control-Request-Headers");
    headers = asked_headers(r);
    if (headers.bytes != NULL)
        put(&l, "Access-Control-Allow-Headers", headers);
    put_text(&l, "Content-Length", "0");
    return l.n;
}
