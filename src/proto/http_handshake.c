/* http_handshake.c: may this client become a WebSocket, and may the page that asks?
 *
 * Version 13 only (RFC 6455). `Connection: upgrade` alone, as nginx sends it for every proxied
 * request, asks for nothing. */
#include "proto/http.h"

#include <assert.h>
#include <openssl/evp.h>

#include "proto/http_host.h"

#define KEY_CHARS  24 /* base64 of 16 bytes: 22 characters and "==" */
#define SHA1_BYTES 20

/* The only header of that name; bytes == NULL if there is none or more than one. */
static struct slice header_single(const struct http_request *r, const char *name)
{
    struct slice found = { NULL, 0 };

    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (!http_same_text(r->headers[i].name, slice_text(name)))
            continue;
        if (found.bytes)
            return (struct slice){ NULL, 0 };
        found = r->headers[i].value;
    }
    return found;
}

static bool header_lists(const struct http_request *r, const char *name, const char *token)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (http_same_text(r->headers[i].name, slice_text(name)) &&
            http_list_has(r->headers[i].value, token))
            return true;
    }
    return false;
}

static bool key_is_good(struct slice key)
{
    if (key.n_bytes != KEY_CHARS || key.bytes[KEY_CHARS - 2] != '=' ||
        key.bytes[KEY_CHARS - 1] != '=')
        return false;
    for (uint32_t i = 0; i < KEY_CHARS - 2; i++) {
        char c = key.bytes[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
            c != '+' && c != '/')
            return false;
    }
    return true;
}

enum http_ws http_ws_check(const struct http_request *r)
{
    /* Upgrade means nothing in HTTP/1.0 (RFC 9110 section 7.8). */
    if (r->minor < 1 || !r->connection_upgrade || !header_lists(r, "upgrade", "websocket"))
        return HTTP_WS_NOT_ASKED;
    if (r->method != HTTP_GET_)
        return HTTP_WS_BAD_METHOD;
    if (!slice_is(header_single(r, "sec-websocket-version"), "13"))
        return HTTP_WS_BAD_VERSION;
    if (!key_is_good(header_single(r, "sec-websocket-key")))
        return HTTP_WS_BAD_KEY;
    return HTTP_WS_OK;
}

/* EVP_Digest would look the algorithm up and allocate, for each handshake. Kept for as long as the process. */
static void sha1(const char *text, size_t n_bytes, unsigned char digest[SHA1_BYTES])
{
    static EVP_MD_CTX *context;
    static EVP_MD *algorithm;
    unsigned int n_digest = 0;
    bool done;

    if (context == NULL) {
        context = EVP_MD_CTX_new();
        algorithm = EVP_MD_fetch(NULL, "SHA1", NULL);
    }
    done = context != NULL && algorithm != NULL &&
           EVP_DigestInit_ex2(context, algorithm, NULL) == 1 &&
           EVP_DigestUpdate(context, text, n_bytes) == 1 &&
           EVP_DigestFinal_ex(context, digest, &n_digest) == 1;
    assert(done && n_digest == SHA1_BYTES);
}

void http_ws_accept(char out[HTTP_ACCEPT_CHARS], struct slice key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_CHARS + sizeof guid - 1];
    unsigned char digest[SHA1_BYTES];
    unsigned char encoded[HTTP_ACCEPT_CHARS + 1]; /* EVP_EncodeBlock ends it with NUL */
    int done;

    assert(key.n_bytes == KEY_CHARS); /* http_ws_check has seen it */
    memcpy(text, key.bytes, KEY_CHARS);
    memcpy(text + KEY_CHARS, guid, sizeof guid - 1);
    sha1(text, sizeof text, digest);
    done = EVP_EncodeBlock(encoded, digest, SHA1_BYTES);
    assert(done == HTTP_ACCEPT_CHARS);
    memcpy(out, encoded, HTTP_ACCEPT_CHARS);
}

struct slice http_ws_protocol(const struct http_request *r)
{
    struct slice rest = http_header_find(r, "sec-websocket-protocol");
    struct slice first;

    /* It is echoed in a header, so it has to be a token. */
    if (http_list_next(&rest, &first) && http_is_token(first))
        return first;
    return (struct slice){ NULL, 0 };
}

struct origin {
    struct slice scheme;
    struct http_authority authority; /* the default port is filled in */
};

/* False for "null", for anything with a path, and for what is no origin at all. */
static bool origin_parse(struct slice text, struct origin *out)
{
    const char *colon = text.n_bytes > 0 ? memchr(text.bytes, ':', text.n_bytes) : NULL;
    uint32_t n = colon ? (uint32_t)(colon - text.bytes) : 0;

    if (n == 0 || text.n_bytes < n + 3 || memcmp(colon, "://", 3) != 0)
        return false;
    out->scheme = slice_of(text.bytes, n);
    if (!http_is_token(out->scheme))
        return false;
    if (!http_authority_parse(slice_of(colon + 3, text.n_bytes - n - 3), &out->authority))
        return false;
    if (out->authority.port < 0)
        out->authority.port = http_scheme_port(out->scheme);
    return true;
}

static bool is_same_host(const struct origin *origin, struct slice host)
{
    int32_t default_port = http_scheme_port(origin->scheme);
    struct http_authority ours;

    if (default_port < 0) /* an extension or an app may call its pages by any host name */
        return false;
    if (!http_authority_parse(host, &ours))
        return false;
    if (ours.port < 0)
        ours.port = default_port;
    return ours.port == origin->authority.port && http_same_text(ours.host, origin->authority.host);
}

/* `pattern` is the host of an entry; `*.example.com` stands for one label more, not for none and
 * not for two. */
static bool host_matches(struct slice pattern, struct slice host)
{
    const char *dot;

    if (pattern.n_bytes < 3 || pattern.bytes[0] != '*' || pattern.bytes[1] != '.')
        return http_same_text(pattern, host);
    dot = memchr(host.bytes, '.', host.n_bytes);
    if (!dot || dot == host.bytes)
        return false;
    return http_same_text(slice_of(pattern.bytes + 1, pattern.n_bytes - 1),
                          slice_of(dot, host.n_bytes - (uint32_t)(dot - host.bytes)));
}

static bool entry_matches(struct slice entry, const struct origin *origin)
{
    struct origin allowed;

    return origin_parse(entry, &allowed) && http_same_text(allowed.scheme, origin->scheme) &&
           allowed.authority.port == origin->authority.port &&
           host_matches(allowed.authority.host, origin->authority.host);
}

/* Entries may be `*`, `same-host` or an origin whose host may begin with `*.`; an entry that is
 * none of these lets nobody in. A request without Origin is not from a page and is let in;
 * "null" (sandboxed frames, files) only with `*`. */
bool http_origin_allowed(const char *allowed, struct slice origin, struct slice host)
{
    struct slice rest = slice_text(allowed);
    struct slice entry;
    struct origin asking;
    bool known;

    if (!origin.bytes)
        return true;
    known = origin_parse(origin, &asking);
    while (http_list_next(&rest, &entry)) {
        if (slice_is(entry, "*"))
            return true;
        if (!known)
            continue;
        if (http_same_text(entry, slice_text("same-host")) ? is_same_host(&asking, host)
                                                           : entry_matches(entry, &asking))
            return true;
    }
    return false;
}
