/* access.h: who may do what on the admin listener. A pure decision about one request head.
 *
 * Against cross-site requests: a page that a browser shows can send GET, and POST with one of three
 * simple types, to any address; all else needs a preflight, which is never granted (no CORS
 * header, ever). Against DNS rebinding: a foreign Host is refused. Against a reverse proxy that
 * publishes a loopback listener by mistake: so is what was forwarded. */
#ifndef PEAL_ADMIN_ACCESS_H
#define PEAL_ADMIN_ACCESS_H

#include "net/inbox.h"
#include "proto/http.h"

enum access_area {
    AREA_HEALTH = 0, /* /metrics, /livez, /readyz: for everybody */
    AREA_PAGE,       /* the dashboard: it holds nothing secret, it asks the API */
    AREA_API
};

enum access_type {
    TYPE_ANY = 0,
    TYPE_JSON,     /* application/json */
    TYPE_PREFLIGHT /* any that a browser does not send to a foreign site without asking before */
};

/* Of the listener. */
struct access_rules {
    bool is_loopback;   /* bound to a loopback address or a UNIX socket */
    struct slice token; /* n_bytes == 0: none */
};

enum access {
    ACCESS_GRANTED = 0,
    ACCESS_EXPOSED,   /* 403: not a loopback listener, and no token */
    ACCESS_PEER,      /* 403: without a token, peers on this host only */
    ACCESS_FORWARDED, /* 403: without a token, nothing that came through a proxy */
    ACCESS_HOST,      /* 403: without a token, Host must be localhost or a loopback address */
    ACCESS_ORIGIN,    /* 403: a page of another site */
    ACCESS_TOKEN,     /* 401 */
    ACCESS_TYPE,      /* 415 */
    ACCESS_OUTCOMES
};

MUST_USE enum access access_decide(const struct access_rules *rules, enum access_area area,
                                   enum access_type type, const struct peer_address *peer,
                                   const struct http_request *request);

uint16_t access_status(enum access outcome);
const char *access_text(enum access outcome); /* what is wrong and what to do */

bool access_is_loopback(const struct peer_address *address);

/* The essence of a Content-Type ("text/html" of "text/html; charset=utf-8"), and whether it says
 * charset=utf-8. */
struct slice access_type_essence(struct slice value, bool *utf8);

#endif
