/* http.c: the client listener: which request gets which answer. The Engine.IO path: engine.c. */
#include <stdio.h>

#include "base/log.h"
#include "proto/deflate.h"
#include "shm/atomic.h"
#include "worker/http.h"

#define SWITCH_MAX           (2048 + EXCHANGE_HEADERS_MAX) /* head of a 101 */
#define ROOMS_PER_CLIENT_MAX 64

/* A protocol may be half of it; the lines that are always there, or deflate_header's, are short. */
_Static_assert(SWITCH_MAX / 2 > 400 + EXCHANGE_HEADERS_MAX, "a head fits");

bool http_goes_on(const struct http_request *r)
{
    return r->keep_alive && !r->chunked && r->content_length == 0;
}

static void answer_text(struct worker *w, struct conn *c, const struct http_request *r,
                        uint16_t status, const char *text)
{
    struct answer a = {
        .status = status,
        .type = "text/plain; charset=utf-8",
        .body = slice_text(text),
        .headers = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
        .close = r == NULL || !http_goes_on(r),
        .head_only = r != NULL && r->method == HTTP_HEAD_,
    };

    exchange_answer(&w->hub, c, &a);
}

void http_answer_error(struct worker *w, struct conn *c, uint16_t status)
{
    answer_text(w, c, NULL, status, http_reason(status));
}

/* --- refusals --- */

void http_refuse_full(struct worker *w, struct conn *c, enum parcel_refusal why)
{
    static const struct {
        enum counter counter;
        const char *text;
    } reasons[] = {
        [REFUSE_NOT] = { COUNT_REFUSED_MEMORY, "the server's tables are full\n" },
        [REFUSE_HOST_LIMIT] = { COUNT_REFUSED_HOST_LIMIT,
                                "the server is full (max_connections)\n" },
        [REFUSE_WORKER_LIMIT] = { COUNT_REFUSED_WORKER_LIMIT,
                                  "the server is full (max_connections_per_worker)\n" },
        [REFUSE_RATE] = { COUNT_REFUSED_RATE, "too many new connections (accept_rate)\n" },
        [REFUSE_DRAINING] = { COUNT_REFUSED_DRAINING, "the server is draining\n" },
        [REFUSE_IP_LIMIT] = { COUNT_REFUSED_IP_LIMIT,
                              "too many connections from your address (max_connections_per_ip)\n" },
    };
    struct answer a = {
        .status = 503,
        .type = "text/plain; charset=utf-8",
        .body = slice_text(reasons[why].text),
        .headers = "Retry-After: 2\r\nCache-Control: no-store\r\n",
        .close = true,
    };

    count_add(w->hub.row, reasons[why].counter, 1);
    exchange_answer(&w->hub, c, &a);
}

/* A browser page of an origin that is not let in. Body and log say what would let it in. */
static void refuse_origin(struct worker *w, struct conn *c, struct slice origin, struct slice host)
{
    static struct log_rate rate;
    uint32_t suppressed;
    char body[1024];

    count_add(w->hub.row, COUNT_REFUSED_ORIGIN, 1);
    snprintf(body, sizeof body,
             "origin %.*s is not allowed for host %.*s; to let it in, set on the server: origins = "
             "%.*s\n",
             (int)(origin.n_bytes > 200 ? 200 : origin.n_bytes), origin.bytes,
             (int)(host.n_bytes > 200 ? 200 : host.n_bytes), host.bytes == NULL ? "" : host.bytes,
             (int)(origin.n_bytes > 200 ? 200 : origin.n_bytes), origin.bytes);
    if (log_allow(&rate, w->hub.now_ms, 10, &suppressed)) {
        char text[256];

        snprintf(text, sizeof text, "%.*s", (int)(origin.n_bytes > 200 ? 200 : origin.n_bytes),
                 origin.bytes);
        log_warning("origin_refused", "origin=%s fix=%s suppressed=%u", text, "add it to `origins`",
                    suppressed);
    }
    answer_text(w, c, NULL, 403, body);
}

bool http_origin_may(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct slice origin = http_header_find(r, "origin");
    struct slice host = proxy_host(w, c, r);

    if (origin.bytes == NULL || http_origin_allowed(w->hub.config->origins, origin, host))
        return true;
    refuse_origin(w, c, origin, host);
    return false;
}

/* --- upgrades --- */

static enum deflate_agreed agree(const struct worker *w, const struct http_request *r)
{
    return w->hub.config->deflate ? deflate_negotiate(r) : DEFLATE_NOT;
}

void http_send_switch(struct worker *w, struct conn *c, const struct http_request *r)
{
    const struct exchange *x = exchange_of(&w->hub, c);
    struct slice protocol = http_ws_protocol(r);
    enum deflate_agreed agreed = agree(w, r);
    char accept[HTTP_ACCEPT_CHARS];
    char head[SWITCH_MAX];
    int n;

    http_ws_accept(accept, http_header_find(r, "sec-websocket-key"));
    n = snprintf(head, sizeof head,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
                 "Upgrade\r\nSec-WebSocket-Accept: %.*s\r\n",
                 HTTP_ACCEPT_CHARS, accept);
    if (protocol.bytes != NULL && protocol.n_bytes > 0 && protocol.n_bytes < SWITCH_MAX / 2)
        n += snprintf(head + n, sizeof head - (size_t)n, "Sec-WebSocket-Protocol: %.*s\r\n",
                      (int)protocol.n_bytes, protocol.bytes);
    n += snprintf(head + n, sizeof head - (size_t)n, "%s%.*s\r\n", deflate_header(agreed),
                  x == NULL ? 0 : (int)x->n_headers, x == NULL ? "" : x->headers);
    exchange_drop(&w->hub, c);
    if (agreed != DEFLATE_NOT) {
        c->flags |= CONN_DEFLATE;
        ws_in_deflate(&conn_cold(&w->hub.conns, c)->ws);
    }
    client_send(&w->hub, c, head, (uint32_t)n, false);
}

bool http_ws_good(struct worker *w, struct conn *c, const struct http_request *r,
                  uint16_t bad_version_status)
{
    struct answer a = { .status = 400, .type = "text/html", .close = true };

    switch (http_ws_check(r)) {
    case HTTP_WS_OK:
        if (agree(w, r) != DEFLATE_MALFORMED)
            return true;
        a.body = slice_text("Invalid or unacceptable Sec-WebSocket-Extensions header");
        exchange_answer(&w->hub, c, &a);
        return false;
    case HTTP_WS_NOT_ASKED:
        a.status = 426;
        a.headers = "Upgrade: websocket\r\n";
        a.body = slice_text("this is a WebSocket endpoint");
        exchange_answer(&w->hub, c, &a);
        return false;
    case HTTP_WS_BAD_METHOD:
        a.status = 405;
        a.headers = "Allow: GET\r\n";
        a.body = slice_text("Invalid HTTP method");
        exchange_answer(&w->hub, c, &a);
        return false;
    case HTTP_WS_BAD_VERSION:
        a.status = bad_version_status;
        a.headers = "Sec-WebSocket-Version: 13\r\n";
        a.body = slice_text("Missing or invalid Sec-WebSocket-Version header");
        exchange_answer(&w->hub, c, &a);
        return false;
    case HTTP_WS_BAD_KEY:
        a.body = slice_text("Missing or invalid Sec-WebSocket-Key header");
        exchange_answer(&w->hub, c, &a);
        return false;
    }
    return false;
}

bool http_admit(struct worker *w, struct conn *c, const struct http_request *r,
                struct peer_address *address)
{
    enum parcel_refusal refusal;

    *address = proxy_client(w, c, r);
    refusal = worker_admission(w, c, address);
    if (refusal == REFUSE_NOT)
        return true;
    http_refuse_full(w, c, refusal);
    return false;
}

/* A good WebSocket handshake of a client that is let in? Answers otherwise. */
static bool may_upgrade(struct worker *w, struct conn *c, const struct http_request *r,
                        struct peer_address *address)
{
    return http_ws_good(w, c, r, 426) && http_origin_may(w, c, r) && http_admit(w, c, r, address);
}

/* --- plain WebSockets --- */

struct asked_rooms {
    struct slice names[ROOMS_PER_CLIENT_MAX];
    char text[ROOMS_PER_CLIENT_MAX][NAME_BYTES_MAX];
    uint32_t n;
};

/* 0, or the status of the refusal with its text. */
static uint16_t add_room(const struct worker *w, struct asked_rooms *rooms, struct slice raw,
                         bool plus, const char **why)
{
    char *to;
    int32_t n;

    if (rooms->n == ROOMS_PER_CLIENT_MAX || rooms->n >= w->hub.config->ws.max_rooms_per_socket) {
        *why = "too many rooms (max_rooms_per_socket)\n";
        return 400;
    }
    to = rooms->text[rooms->n];
    n = http_percent_decode(raw, plus, to, NAME_BYTES_MAX);
    if (n <= 0) {
        *why = n == 0    ? "a room needs a name\n"
               : n == -2 ? "room name over 255 bytes\n"
                         : "bad percent-encoding in a room name\n";
        return 400;
    }
    if (!w->hub.config->ws.client_join && (n < 7 || memcmp(to, "public/", 7) != 0)) {
        *why = "only rooms under public/ are open to clients ([ws] client_join = no)\n";
        return 403;
    }
    if (peal_is_socket_id((struct peal_text){ to, (uint32_t)n })) {
        *why = "room has the form of a socket id\n";
        return 403;
    }
    rooms->names[rooms->n++] = slice_of(to, (uint32_t)n);
    return 0;
}

static void serve_room(struct worker *w, struct conn *c, const struct http_request *r)
{
    static struct asked_rooms rooms; /* 17 KB of scratch; a worker has one thread */
    struct peer_address address;
    struct slice rest = r->query;
    struct slice key;
    struct slice value;
    const char *why = "";
    uint16_t status;

    rooms.n = 0;
    status = add_room(w, &rooms, slice_of(r->path.bytes + 4, r->path.n_bytes - 4), false, &why);
    while (status == 0 && http_query_next(&rest, &key, &value))
        if (slice_is(key, "room"))
            status = add_room(w, &rooms, value, true, &why);
    if (status != 0) {
        answer_text(w, c, r, status, why);
        return;
    }
    if (!may_upgrade(w, c, r, &address))
        return;
    http_send_switch(w, c, r);
    if (!client_open_room(&w->hub, c, &address, rooms.names, rooms.n)) {
        worker_admission_withdraw(w, &address);
        client_condemn(&w->hub, c, CLOSE_MEMORY, false);
        count_add(w->hub.row, COUNT_REFUSED_MEMORY, 1);
    }
}

static void serve_echo(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct peer_address address;

    if (!may_upgrade(w, c, r, &address))
        return;
    http_send_switch(w, c, r);
    if (!client_open_echo(&w->hub, c, &address)) {
        worker_admission_withdraw(w, &address);
        client_condemn(&w->hub, c, CLOSE_MEMORY, false);
    }
}

/* --- pages and health --- */

static void serve_ready(struct worker *w, struct conn *c, const struct http_request *r)
{
    const struct shm_header *header = w->hub.region.header;
    bool redis_down = w->hub.config->redis.enabled &&
                      shm_load_u64(&header->slots[PEAL_SLOT_BRIDGE].redis_up) == 0;

    if (shm_load_u32(&header->draining) != DRAIN_NO || w->hub.ending)
        answer_text(w, c, r, 503, "draining\n");
    else if (redis_down && w->hub.config->ready_requires_redis)
        answer_text(w, c, r, 503, "redis is down (ready_requires_redis)\n");
    else
        answer_text(w, c, r, 200, redis_down ? "ready, degraded: redis\n" : "ready\n");
}

static void serve_page(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct answer a = {
        .status = 200,
        .type = "text/html; charset=utf-8",
        .body = slice_of(w->page, w->page_bytes),
        .headers = "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
                   "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; "
                   "style-src 'unsafe-inline'; connect-src 'self' "
                   "ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
        .close = !http_goes_on(r),
        .head_only = r->method == HTTP_HEAD_,
    };

    exchange_answer(&w->hub, c, &a);
}

static bool path_is(const struct http_request *r, const char *path)
{
    return slice_is(r->path, path);
}

static bool path_under(const struct http_request *r, const char *prefix)
{
    uint32_t n = (uint32_t)strlen(prefix);

    return r->path.n_bytes >= n && memcmp(r->path.bytes, prefix, n) == 0;
}

bool http_serve(struct worker *w, struct conn *c, const struct http_request *r, struct slice all)
{
    const struct config *config = w->hub.config;
    bool page = config->demo && path_is(r, "/");
    bool live = config->health && path_is(r, "/livez");
    bool ready = config->health && path_is(r, "/readyz");

    if (r->expect_other) {
        http_answer_error(w, c, 417);
    } else if (path_under(r, config->path)) {
        return engine_serve(w, c, r, all);
    } else if (path_under(r, "/ws/")) {
        serve_room(w, c, r);
    } else if (config->echo && path_is(r, "/echo")) {
        serve_echo(w, c, r);
    } else if (page || live || ready) {
        if (r->method != HTTP_GET_ && r->method != HTTP_HEAD_) {
            struct answer a = { .status = 405,
                                .type = "text/plain",
                                .body = slice_text("GET and HEAD only\n"),
                                .headers = "Allow: GET, HEAD\r\n",
                                .close = true };

            exchange_answer(&w->hub, c, &a);
        } else if (page) {
            serve_page(w, c, r);
        } else if (live) {
            answer_text(w, c, r, 200, "alive\n");
        } else {
            serve_ready(w, c, r);
        }
    } else {
        answer_text(w, c, r, 404, "not found\n");
    }
    return true;
}
