/* exchange.c: see exchange.h. */
#include "session/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "session/clients.h"

#define HEAD_MAX (2048 + EXCHANGE_HEADERS_MAX)
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

void exchange_add_header(struct exchange *x, const char *name, struct slice value)
{
    size_t n = strlen(name) + 2 + value.n_bytes + 2;

    if (x->n_headers + n > EXCHANGE_HEADERS_MAX)
        return;
    x->n_headers += (uint16_t)snprintf(x->headers + x->n_headers, n + 1, "%s: %.*s\r", name,
                                       (int)value.n_bytes, value.bytes);
    x->headers[x->n_headers++] = '\n';
}

void exchange_drop(struct hub *h, struct conn *c)
{
    free(exchange_of(h, c));
    conn_cold(&h->conns, c)->exchange = NULL;
}

void exchange_answer(struct hub *h, struct conn *c, const struct answer *a)
{
    const struct exchange *x = exchange_of(h, c);
    bool close = a->close || (x != NULL && !x->keep_alive);
    bool head_only = a->head_only || (x != NULL && x->head_only);
    char head[HEAD_MAX];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %u %s\r\n%s%s%sContent-Length: %u\r\n%s%.*sConnection: %s\r\n\r\n",
                     a->status, http_reason(a->status), a->type == NULL ? "" : "Content-Type: ",
                     a->type == NULL ? "" : a->type, a->type == NULL ? "" : "\r\n",
                     a->body.n_bytes, a->headers == NULL ? "" : a->headers,
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
    if (close || h->ending) {
        client_end(h, c, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
        return;
    }
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
              h->now_ms + ((c->flags & CONN_SERVED) != 0 ? IDLE_SERVED_MS
                                                         : h->config->header_timeout_ms));
    if ((c->flags & CONN_PAUSED) != 0)
        hub_retry_later(h, c); /* what came behind the request is the next one */
}
