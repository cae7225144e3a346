/* http.h: HTTP/1.x request heads, answers, and the WebSocket handshake. Sans-IO, no allocation; parsing is libhttp-parser's. */
#ifndef PEAL_PROTO_HTTP_H
#define PEAL_PROTO_HTTP_H

#include "base/slice.h"

#define HTTP_HEAD_MAX    16384 /* request line and headers: beyond it 431 */
#define HTTP_TARGET_MAX  8192  /* beyond it 414 */
#define HTTP_HEADERS_MAX 100   /* beyond it 431 */

enum http_method {
    HTTP_GET_ = 0,
    HTTP_HEAD_,
    HTTP_POST_,
    HTTP_OPTIONS_,
    HTTP_PUT_,
    HTTP_DELETE_,
    HTTP_OTHER_
};

struct http_header {
    struct slice name;
    struct slice value; /* white space around removed */
};

struct http_request {
    enum http_method method;
    uint8_t minor;       /* HTTP/1.minor */
    struct slice target; /* as sent */
    struct slice path;   /* before '?' */
    struct slice query;  /* behind it; bytes == NULL if there is none */
    struct http_header headers[HTTP_HEADERS_MAX];
    uint32_t n_headers;
    bool keep_alive;         /* by version and Connection */
    bool connection_upgrade; /* Connection lists `upgrade` */
    bool chunked;
    bool has_content_length;
    uint64_t content_length;
    bool expect_continue;
    bool expect_other; /* something that nobody here can do: 417 */
};

enum http_result { HTTP_OK = 0, HTTP_NEED_MORE, HTTP_BAD };

/* Parses a request head at the start of `input` (what lies behind it is left alone). `scanned` is 0 at first and carries, from call to
 * call with the same growing input, how far the end of the head was searched. HTTP_OK: `head_bytes` is its length, slices point
 * into `input`. HTTP_BAD: `status` is 400, 414, 431 or 505. Both Transfer-Encoding and Content-Length, repeated or differing lengths,
 * a missing or repeated Host in HTTP/1.1: 400. One empty line before the request is skipped. Lines end in CR LF, nothing else. The path of
 * an absolute target (`http://host/path`, same host as Host) is what follows the host, at least `/`; of `OPTIONS *` it is `*`. */
MUST_USE enum http_result http_parse(struct slice input, uint32_t *scanned,
                                     struct http_request *out, uint32_t *head_bytes,
                                     uint16_t *status);

/* First header of that (lower-case) name; bytes == NULL if there is none. */
struct slice http_header_find(const struct http_request *r, const char *name);

/* Does the comma-separated value contain the token, whatever the case? */
bool http_list_has(struct slice value, const char *token);

/* Looks a key up in a query string: percent-decoded, '+' is a space, the last one wins (Node's querystring). Writes the decoded value to
 * `out` and returns its length; -1: no such key, -2: longer than out_max. A bad escape stands for itself; the value may hold any byte. */
int32_t http_query_get(struct slice query, const char *key, char *out, uint32_t out_max);

/* Iterates over all pairs of a query; raw slices, not decoded. */
MUST_USE bool http_query_next(struct slice *rest, struct slice *key, struct slice *value);

/* Percent-decodes ('+' becomes a space only if `plus`). Returns the length or -1: bad escape; -2: longer than out_max. */
int32_t http_percent_decode(struct slice text, bool plus, char *out, uint32_t out_max);

/* Decodes a key or a value as Node's querystring does: '+' is a space, a bad escape stands for itself. Returns the length, or -2: longer than out_max. */
int32_t http_query_decode(struct slice text, char *out, uint32_t out_max);

/* The WebSocket handshake (RFC 6455 section 4.2.1). HTTP_WS_OK or what is wrong. */
enum http_ws {
    HTTP_WS_OK = 0,
    HTTP_WS_NOT_ASKED,
    HTTP_WS_BAD_METHOD,
    HTTP_WS_BAD_VERSION,
    HTTP_WS_BAD_KEY
};
MUST_USE enum http_ws http_ws_check(const struct http_request *r);

#define HTTP_ACCEPT_CHARS 28
void http_ws_accept(char out[HTTP_ACCEPT_CHARS],
                    struct slice key); /* key: one that http_ws_check found good */

/* First entry of Sec-WebSocket-Protocol (what Node's ws answers); bytes == NULL if there is none. */
struct slice http_ws_protocol(const struct http_request *r);

/* May a browser page of this Origin in? `allowed` is the option `origins`: "*", "same-host" or a comma-separated list of origins;
 * entries compare without case and with default ports removed. same-host compares the origin's host and port with `host`; it may also
 * stand in the list. The host of an entry may begin with `*.`, which stands for exactly one label. An absent Origin (bytes == NULL) is
 * let in, since no page asks; "null" only by "*". */
MUST_USE bool http_origin_allowed(const char *allowed, struct slice origin, struct slice host);

const char *http_reason(uint16_t status);

#endif
