/* http_host.h: `host[:port]`, as in Host headers, absolute targets and origins; lists and tokens. Internal to
 * proto/. */
#ifndef PEAL_PROTO_HTTP_HOST_H
#define PEAL_PROTO_HTTP_HOST_H

#include "base/slice.h"

struct http_authority {
    struct slice host; /* IPv6 with its brackets */
    int32_t port;      /* 0 to 65535; -1: none given */
};

/* Splits `host[:port]`. False if it is not of that form: a user name, a comma, white space, an
 * empty host, brackets that do not hold hex digits, colons and dots, a port that is no number up
 * to 65535. `host:` counts as without a port (RFC 3986 allows it). */
MUST_USE bool http_authority_parse(struct slice text, struct http_authority *out);

/* The default port of http, https, ws and wss, whatever the case; -1 for any other scheme. */
int32_t http_scheme_port(struct slice scheme);

/* The same bytes but for the case of ASCII letters? */
bool http_same_text(struct slice a, struct slice b);

/* Without spaces and tabs on either side. */
struct slice http_trim(struct slice text);

/* Takes the next element off a comma-separated list, white space around it removed; it may be
 * empty. False: `*rest` is used up. */
MUST_USE bool http_list_next(struct slice *rest, struct slice *element);

/* `tchar` of RFC 9110. */
bool http_is_token(struct slice text);

#endif
