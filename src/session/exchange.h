/* exchange.h: HTTP answers, and what must be remembered of a request until it is answered: a polling GET may be held for long, and a POST's body comes
 * behind its head. A connection has at most one; without one it is between two requests, or its request was answered at once. */
#ifndef PEAL_SESSION_EXCHANGE_H
#define PEAL_SESSION_EXCHANGE_H

#include "proto/cookie.h"
#include "proto/cors.h"
#include "proto/gzip.h"
#include "proto/http_body.h"
#include "session/hub.h"

#define EXCHANGE_HEADERS_MAX (CORS_LINES_MAX + COOKIE_LINE_MAX + 64) /* bytes of header lines of its own */

struct exchange {
    struct http_body body;
    uint64_t n_discarded; /* bytes of a body that is too long and thrown away */
    uint32_t n_taken;     /* of the body, once it is whole: packets that have been dispatched */
    bool keep_alive;
    bool head_only;
    bool discards;
    uint8_t refusal; /* discards: why, when the body is through: index of engine.c's refusals; 0: it is too long */
    bool body_whole;
    uint8_t coding; /* enum coding: what its client takes */
    uint16_t n_headers;
    char headers[EXCHANGE_HEADERS_MAX]; /* CORS, cookie …; each line with its CR LF */
};

struct answer {
    uint16_t status;
    const char *type; /* NULL: no Content-Type */
    struct slice body;
    const char *headers; /* more of them, each with its CR LF; may be NULL */
    bool close;          /* the connection ends with it */
    bool head_only;
};

/* Remembers a request. NULL: out of memory. */
MUST_USE struct exchange *exchange_begin(struct hub *h, struct conn *c,
                                         const struct http_request *request);
static inline struct exchange *exchange_of(struct hub *h, const struct conn *c)
{
    return conn_cold(&h->conns, c)->exchange;
}
/* More header lines for its answer, each with its CR LF. */
void exchange_add_lines(struct exchange *x, const char *lines, uint32_t n_bytes);
void exchange_drop(struct hub *h, struct conn *c);

/* Answers the request in hand; the connection then waits for the next one, or ends. It belongs to no session any more. */
void exchange_answer(struct hub *h, struct conn *c, const struct answer *a);

#endif
