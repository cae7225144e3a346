/* exchange.c: see exchange.h. */
#include "session/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "session/clients.h"

#define HEAD_MAX (1024 + CORS_PREFLIGHT_MAX + EXCHANGE_HEADERS_MAX)
/* For a connection that served a session: longer than the minute for which nginx keeps idle connections to its upstreams, so that it is the proxy that
 * closes them, and none of its requests meets a close. */
#define IDLE_SERVED_MS 75000

struct exchange *exchange_begin(struct hub *h, struct conn *c, const struct http_request *request)
{
    struct exchange *x = malloc(sizeof *x);

    assert(exchange_of(h, c) == NULL);
    if (x == NULL)
        return NULL;
    memset(x, 0, offsetof(struct exchange, headers));
    http_body_init(&x->body, request);
    x->keep_alive = request->keep_alive;
    x->head_only = request->method == HTTP_HEAD_;
    conn_cold(&h->conns, c)->exchange = x;
    return x;
}

void exchange_add_lines(struct exchange *x, const char *lines, uint32_t n_bytes)
{
    assert(x->n_headers + n_bytes <= EXCHANGE_HEADERS_MAX);
    memcpy(x->headers + x->n_headers, lines, n_bytes);
    x->n_headers += (uint16_t)n_bytes;
}

void exchange_drop(struct hub *h, struct conn *c)
{
    free(exchange_of(h, c));
    conn_cold(&h->conns, c)->exchange = NULL;
}

void exchange_answer(struct hub *h, struct conn *c, const struct answer *a)
{
    const struct exchange *x = exchange_of(h, c);
    bool close = a->close || h->ending || (x != NULL && !x->keep_alive);
    bool head_only = a->head_only || (x != NULL && x->head_only);
    bool no_length =
        a->status == 304 || a->status == 204; /* 204: the preflight's own line says 0 */
    char length[40] = "";
    char head[HEAD_MAX];
    int n;

    if (!no_length)
        snprintf(length, sizeof length, "Content-Length: %u\r\n", a->body.n_bytes);
    n = snprintf(head, sizeof head, "HTTP/1.1 %u %s\r\n%s%s%s%s%s%.*sConnection: %s\r\n\r\n",
                 a->status, http_reason(a->status),
                 a->type == NULL ? "" : "Content-Type: ", a->type == NULL ? "" : a->type,
                 a->type == NULL ? "" : "\r\n", length, a->headers == NULL ? "" : a->headers,
                 x == NULL ? 0 : (int)x->n_headers, x == NULL ? "" : x->headers,
                 close ? "close" : "keep-alive");

    assert(n > 0 && n < (int)sizeof head);
    if (c->state != CONN_HTTP)
        return;
    c->kind = CONN_PLAIN_HTTP;
    c->owner = CONN_NONE;
    exchange_drop(h, c);
    client_settled(h, c);
    client_send(h, c, head, (uint32_t)n, false);
    if (!head_only && a->body.n_bytes > 0)
        client_send(h, c, a->body.bytes, a->body.n_bytes, false);
    if (close) {
        client_end(h, c, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
        return;
    }
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
              h->now_ms +
                  ((c->flags & CONN_SERVED) != 0 ? IDLE_SERVED_MS : h->config->header_timeout_ms));
    if ((c->flags & CONN_PAUSED) != 0)
        hub_retry_later(h, c); /* what came behind the request is the next one */
}
