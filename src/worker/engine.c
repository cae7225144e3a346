/* engine.c: the Engine.IO endpoint: which request of which session gets which answer, and requests that belong to another worker.
 *
 * Order of checks and forms of errors: engine.io 6.6.12 (lib/server.ts: verify, lib/transports/polling.ts), recorded in tests/vectors. Where Node
 * completes an upgrade only to refuse it, this server refuses before the 101.
 *
 * Sticky by construction: a sid says whose session it is. A request for another worker goes there as it is, descriptor and bytes, when its head is
 * complete; the body stays in the kernel. It works per request: a kept-alive connection moves each time. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "proto/base64.h"
#include "proto/eio_payload.h"
#include "session/handshake.h"
#include "session/polling.h"
#include "worker/files.h"
#include "worker/http.h"

/* Of a body over the limit: read and thrown away, so that the answer arrives. */
#define DISCARD_MAX  (16u << 20)
#define DECODED_KEPT (64u << 10)

/* --- errors --- */

static bool is_upgrade(const struct http_request *r)
{
    return http_ws_check(r) != HTTP_WS_NOT_ASKED;
}

/* By code, as engine.io numbers them; and what it says, or rather does not, to methods that a session does not have. */
static const char *const refusals[] = { "Transport unknown",
                                        "Session ID unknown",
                                        "Bad handshake method",
                                        "Bad request",
                                        "Forbidden",
                                        "Unsupported protocol version",
                                        "" };
#define NO_SUCH_METHOD 6

static void answer_refusal(struct worker *w, struct conn *c, uint32_t code)
{
    char body[128];
    struct answer a = { .status = 400, .type = "application/json" };

    if (code == NO_SUCH_METHOD) {
        a.status = 500;
        a.type = NULL;
        exchange_answer(&w->hub, c, &a);
        return;
    }
    snprintf(body, sizeof body, "{\"code\":%u,\"message\":\"%s\"}", code, refusals[code]);
    a.body = slice_text(body);
    exchange_answer(&w->hub, c, &a);
}

/* JSON for plain requests, behind their bodies, so that a proxy's connection goes on; the bare message for upgrades, which end with it. */
static void refuse(struct worker *w, struct conn *c, const struct http_request *r, uint32_t code)
{
    struct hub *h = &w->hub;
    struct exchange *x = exchange_of(h, c);
    struct answer a = {
        .status = 400, .type = "text/html", .body = slice_text(refusals[code]), .close = true
    };
    struct slice nothing = { "", 0 };

    if (is_upgrade(r)) {
        exchange_answer(h, c, &a);
    } else if (http_goes_on(r) || !r->keep_alive || r->content_length > DISCARD_MAX) {
        x->keep_alive = http_goes_on(r);
        answer_refusal(w, c, code);
    } else {
        x->discards = true;
        x->refusal = (uint8_t)(code + 1);
        c->kind = CONN_POST; /* of no session */
        wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
                  h->now_ms + h->config->message_timeout_ms);
        engine_on_body(w, c, &nothing);
    }
}

static void answer_empty(struct worker *w, struct conn *c, const struct http_request *r,
                         uint16_t status)
{
    struct answer a = { .status = status, .close = r == NULL || !http_goes_on(r) };

    exchange_answer(&w->hub, c, &a);
}

/* Why a sid is not known, for the one who wonders about clients that connect anew. */
static void refuse_unknown(struct worker *w, struct conn *c, const struct http_request *r,
                           enum sid_place why)
{
    static struct log_rate rate;
    static const struct {
        enum counter counter;
        const char *text;
    } causes[] = {
        [SID_MALFORMED] = { COUNT_SESSION_UNKNOWN_MALFORMED, "no sid of this server's form" },
        [SID_OTHER_HOST] = { COUNT_SESSION_UNKNOWN_OTHER_HOST,
                             "made by another host, or before this one was restarted: behind a "
                             "load balancer polling needs stickiness between hosts" },
        [SID_UNKNOWN] = { COUNT_SESSION_UNKNOWN_ENDED,
                          "the session has ended, or its worker has died" },
    };
    uint32_t suppressed;

    count_add(w->hub.row, causes[why].counter, 1);
    if (log_allow(&rate, w->hub.now_ms, 10, &suppressed))
        log_info("session_unknown", "cause=%s suppressed=%u", causes[why].text, suppressed);
    refuse(w, c, r, 1);
}

static bool has_control_bytes(struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes; i++)
        if ((unsigned char)text.bytes[i] < 0x20 || text.bytes[i] == 0x7f)
            return true;
    return false;
}

/* --- opening --- */

static uint64_t realtime_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static char *keep_handshake(struct worker *w, const struct http_request *r)
{
    return handshake_keep(r, w->hub.config->fetch_handshake == FETCH_FULL, realtime_ms(),
                          &w->hub.sockets.agents);
}

static void open_websocket(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct peer_address address;
    char *handshake;

    if (!http_ws_good(w, c, r, 400) || !http_admit(w, c, r, &address))
        return;
    handshake = keep_handshake(w, r);
    http_send_switch(w, c, r);
    if (!client_open_socketio(&w->hub, c, &address, handshake)) {
        handshake_free(handshake, &w->hub.sockets.agents);
        worker_admission_withdraw(w, &address);
        client_condemn(&w->hub, c, CLOSE_MEMORY, false);
        count_add(w->hub.row, COUNT_REFUSED_MEMORY, 1);
    }
}

/* As engine.io does for the browsers that guess (polling.ts: headers). */
static void add_polling_lines(struct worker *w, struct conn *c, const struct http_request *r)
{
    static const char line[] = "X-XSS-Protection: 0\r\n";
    struct slice agent = http_header_find(r, "user-agent");
    struct exchange *x = exchange_of(&w->hub, c);

    x->coding = (uint8_t)gzip_negotiate(r);
    if (agent.n_bytes > 0 && (memmem(agent.bytes, agent.n_bytes, ";MSIE", 5) != NULL ||
                              memmem(agent.bytes, agent.n_bytes, "Trident/", 8) != NULL))
        exchange_add_lines(x, line, sizeof line - 1);
}

static void open_polling(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct hub *h = &w->hub;
    char sid[EIO_SID_CHARS];
    char line[COOKIE_LINE_MAX];
    struct peer_address address;
    uint32_t n_line;
    struct session *n;
    char *handshake;

    if (!http_admit(w, c, r, &address))
        return;
    handshake = keep_handshake(w, r);
    n = client_open_polling(h, c, &address, handshake, sid);
    if (n == NULL) {
        handshake_free(handshake, &w->hub.sockets.agents);
        worker_admission_withdraw(w, &address);
        http_refuse_full(w, c, REFUSE_NOT);
        return;
    }
    n_line = cookie_line(line, h->config->cookie, slice_of(sid, sizeof sid));
    add_polling_lines(w, c, r);
    exchange_add_lines(exchange_of(h, c), line, n_line);
    polling_get(h, n, c); /* the open packet is in the queue */
}

/* An upgrade that can carry nothing: Node says so with a close frame behind the 101. */
static void switch_and_close(struct worker *w, struct conn *c, const struct http_request *r)
{
    if (!http_ws_good(w, c, r, 400))
        return;
    http_send_switch(w, c, r);
    c->kind = CONN_PROBE; /* of no session */
    conn_become(c, CONN_OPEN);
    client_end(&w->hub, c, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
}

static void serve_new(struct worker *w, struct conn *c, const struct http_request *r,
                      bool websocket)
{
    char text[8];
    int32_t n;

    if (r->method != HTTP_GET_) {
        refuse(w, c, r, 2);
        return;
    }
    if (websocket && !is_upgrade(r)) {
        refuse(w, c, r, 3);
        return;
    }
    n = http_query_get(r->query, "EIO", text, sizeof text);
    if (n != 1 || text[0] != '4' || http_query_get(r->query, "j", text, 0) != -1) {
        refuse(w, c, r, 5);
        return;
    }
    if (websocket)
        open_websocket(w, c, r);
    else if (is_upgrade(r))
        switch_and_close(w, c, r);
    else
        open_polling(w, c, r);
}

/* --- requests of a session --- */

static void serve_upgrade(struct worker *w, struct conn *c, const struct http_request *r,
                          struct session *n, bool websocket)
{
    struct hub *h = &w->hub;

    if (!websocket) {
        switch_and_close(w, c, r);
        return;
    }
    if (!http_ws_good(w, c, r, 400))
        return;
    http_send_switch(w, c, r);
    conn_become(c, CONN_OPEN);
    if (polling_probe(h, n, c))
        return;
    c->kind = CONN_PROBE;
    client_end(h, c, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
}

static void serve_post(struct worker *w, struct conn *c, const struct http_request *r,
                       struct session *n)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct hub *h = &w->hub;
    uint64_t limit = h->config->max_message_bytes;
    struct exchange *x = exchange_of(h, c);
    struct slice nothing = { "", 0 };

    if (slice_is(http_header_find(r, "content-type"), "application/octet-stream")) {
        answer_empty(w, c, r, 400); /* the binary form of revision 3 */
        client_end(h, conn_at(&h->conns, n->conn), CLOSE_TRANSPORT_ERROR, WS_CLOSE_NO_STATUS, NULL);
        return;
    }
    if (!polling_post(h, n, c))
        return;
    if (r->content_length > limit + DISCARD_MAX) {
        polling_post_done(h, c);
        answer_empty(w, c, NULL, 413);
        return;
    }
    x->discards = r->content_length > limit;
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c), h->now_ms + h->config->message_timeout_ms);
    if (r->expect_continue && !x->discards)
        client_send(h, c, go_on, sizeof go_on - 1, false);
    engine_on_body(w, c, &nothing); /* one without content is whole already */
}

static void serve_session(struct worker *w, struct conn *c, const struct http_request *r,
                          struct session *n, bool websocket)
{
    char version[8];

    if (http_query_get(r->query, "EIO", version, sizeof version) != 1 || version[0] != '4') {
        refuse(w, c, r, 3);
        return;
    }
    if (is_upgrade(r)) {
        serve_upgrade(w, c, r, n, websocket);
        return;
    }
    if (websocket || !session_polls(&w->hub, n)) {
        refuse(w, c, r, 3); /* the transport of the session is another */
        return;
    }
    add_polling_lines(w, c, r);
    if (r->method == HTTP_GET_)
        polling_get(&w->hub, n, c);
    else if (r->method == HTTP_POST_)
        serve_post(w, c, r, n);
    else
        refuse(w, c, r, NO_SUCH_METHOD);
}

/* --- requests of another worker's session --- */

/* False: its inbox, or this socket, is full: later. */
static bool hand_over(struct worker *w, struct conn *c, uint32_t owner, struct slice all)
{
    struct hub *h = &w->hub;
    struct parcel parcel = { .version = PARCEL_VERSION,
                             .from_slot = h->region.self,
                             .proxy = c->proxy,
                             .peer = conn_cold(&h->conns, c)->peer };
    int error;

    batch_settle(h->batch, c); /* answers to what came before it on this connection */
    if (c->outq != NULL)
        return false;
    error = inbox_send_request(w->child->inboxes[owner], &parcel, c->fd, all);
    if (error == -EAGAIN)
        return false;
    if (error == 0)
        count_add(h->row, COUNT_HANDOFF_REQUEST, 1);
    else
        log_error("handover_failed", "to=%u error=%s", owner, strerror(-error));
    client_gone(h, c,
                CLOSE_TRANSPORT_CLOSE); /* of the socket, this process's name for it is closed */
    return true;
}

static bool serve_sid(struct worker *w, struct conn *c, const struct http_request *r,
                      struct slice sid, bool websocket, struct slice all)
{
    struct hub *h = &w->hub;
    uint32_t local;
    uint32_t owner;
    enum sid_place place = polling_find(h, sid, &local, &owner);

    if (place == SID_ELSEWHERE) {
        exchange_drop(h, c);
        return hand_over(w, c, owner, all);
    }
    if (place == SID_HERE)
        serve_session(w, c, r, session_at(&h->sockets, local), websocket);
    else
        refuse_unknown(w, c, r, place);
    return true;
}

/* A preflight, and the client's files: neither has anything to do with a session. False: it is another request. */
static bool serve_aside(struct worker *w, struct conn *c, const struct http_request *r)
{
    struct files_answer file;
    char lines[CORS_PREFLIGHT_MAX];
    struct answer a = { .status = 204, .headers = lines, .close = !http_goes_on(r) };

    if (cors_preflight(w->hub.config, r, lines) > 0) {
        exchange_answer(&w->hub, c, &a);
        return true;
    }
    exchange_add_lines(exchange_of(&w->hub, c), lines, cors_lines(w->hub.config, r, lines));
    if (!files_find(w->files, w->hub.config->path, r, &file))
        return false;
    a.status = file.status;
    a.type = file.type;
    a.headers = file.headers;
    a.body = file.body;
    exchange_answer(&w->hub, c, &a);
    return true;
}

bool engine_serve(struct worker *w, struct conn *c, const struct http_request *r, struct slice all)
{
    struct hub *h = &w->hub;
    char transport[16];
    char sid[64];
    int32_t n = http_query_get(r->query, "transport", transport, sizeof transport);
    bool websocket = n == 9 && memcmp(transport, "websocket", 9) == 0;
    bool polling = n == 7 && memcmp(transport, "polling", 7) == 0;

    if (exchange_begin(h, c, r) == NULL) {
        count_add(h->row, COUNT_REFUSED_MEMORY, 1);
        http_answer_error(w, c, 503);
        return true;
    }
    if (serve_aside(w, c, r))
        return true;
    if (!(websocket && h->config->transport_websocket) &&
        !(polling && h->config->transport_polling)) {
        refuse(w, c, r, 0);
        return true;
    }
    if (has_control_bytes(http_header_find(r, "origin"))) {
        refuse(w, c, r, 3);
        return true;
    }
    if (!http_origin_may(w, c, r))
        return true;
    n = http_query_get(r->query, "sid", sid, sizeof sid);
    if (n > 0 || n == -2)
        return serve_sid(w, c, r, slice_of(sid, n > 0 ? (uint32_t)n : 0), websocket, all);
    serve_new(w, c, r, websocket);
    return true;
}

/* --- bodies --- */

static void answer_ok(struct worker *w, struct conn *c)
{
    struct answer a = { .status = 200,
                        .type = "text/html",
                        .body = slice_text("ok"),
                        .headers = "cache-control: no-store\r\n" };

    polling_post_done(&w->hub, c);
    input_done(&w->hub, c);
    exchange_answer(&w->hub, c, &a);
}

static void answer_too_big(struct worker *w, struct conn *c, bool whole)
{
    struct answer a = { .status = 413, .close = !whole };

    polling_post_done(&w->hub, c);
    input_done(&w->hub, c);
    exchange_answer(&w->hub, c, &a); /* the session lives on */
}

/* Packet `b`: base64 of what would be a binary frame. */
static bool decode_binary(struct worker *w, struct slice text, struct message *m)
{
    uint32_t need = text.n_bytes / 4 * 3 + 3;

    if (need > w->decoded_max || (w->decoded_max > DECODED_KEPT && need <= DECODED_KEPT)) {
        free(w->decoded);
        w->decoded_max = need > DECODED_KEPT ? need : DECODED_KEPT;
        w->decoded = malloc(w->decoded_max);
        if (w->decoded == NULL) {
            w->decoded_max = 0;
            return false;
        }
    }
    *m = (struct message){ slice_of(w->decoded, base64_decode(w->decoded, text)), WS_BINARY };
    return true;
}

void engine_dispatch_body(struct worker *w, struct conn *c)
{
    struct hub *h = &w->hub;
    struct exchange *x = exchange_of(h, c);
    struct slice body = input_body(h, c);

    while (x->n_taken <= body.n_bytes && c->owner != CONN_NONE) {
        struct slice rest = slice_of(body.bytes + x->n_taken, body.n_bytes - x->n_taken);
        struct conn *carrier = conn_at(&h->conns, session_at(&h->sockets, c->owner)->conn);
        struct slice packet;
        struct message m;

        if (carrier->state != CONN_OPEN || !eio_payload_next(&rest, &packet))
            break;
        m = (struct message){ packet, WS_TEXT };
        if (packet.n_bytes > 0 && packet.bytes[0] == 'b' &&
            !decode_binary(w, slice_of(packet.bytes + 1, packet.n_bytes - 1), &m)) {
            client_end(h, carrier, CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory");
            break;
        }
        if (worker_on_packet(w, carrier, &m) == DISPATCH_FULL) {
            conn_pause(c);
            hub_retry_later(h, c);
            wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
                      h->now_ms + h->config->message_timeout_ms); /* it waits for us */
            return;
        }
        count_add(h->row, COUNT_MESSAGES_RECEIVED, 1);
        x->n_taken += packet.n_bytes + 1;
    }
    answer_ok(w, c);
}

/* False: nothing more is to be read for this request. */
static bool take_piece(struct worker *w, struct conn *c, struct slice piece)
{
    struct hub *h = &w->hub;
    struct exchange *x = exchange_of(h, c);

    if (!x->discards) {
        switch (input_add_body(h, c, piece, h->config->max_message_bytes)) {
        case INPUT_MORE:
        case INPUT_COMPLETE: return true;
        case INPUT_TOO_BIG:
            x->discards = true;
            input_done(h, c); /* what there is of it is not wanted any more */
            break;
        case INPUT_NO_MEMORY: client_gone(h, c, CLOSE_MEMORY); return false;
        }
    }
    x->n_discarded += piece.n_bytes;
    if (x->n_discarded <= (uint64_t)h->config->max_message_bytes + DISCARD_MAX)
        return true;
    answer_too_big(w, c, false);
    return false;
}

void engine_on_body(struct worker *w, struct conn *c, struct slice *bytes)
{
    struct hub *h = &w->hub;

    for (;;) { /* each round takes bytes off the input, or ends */
        struct exchange *x = exchange_of(h, c);
        struct slice piece;

        switch (http_body_next(&x->body, bytes, &piece)) {
        case HTTP_BODY_MORE: return;
        case HTTP_BODY_PIECE:
            if (!take_piece(w, c, piece))
                return;
            break;
        case HTTP_BODY_END:
            x->body_whole = true;
            if (x->refusal != 0)
                answer_refusal(w, c, x->refusal - 1u);
            else if (x->discards)
                answer_too_big(w, c, true);
            else
                engine_dispatch_body(w, c);
            return;
        case HTTP_BODY_BAD:
            if (c->owner != CONN_NONE)
                client_end(h, conn_at(&h->conns, session_at(&h->sockets, c->owner)->conn),
                           CLOSE_TRANSPORT_ERROR, WS_CLOSE_NO_STATUS, NULL);
            polling_post_done(h, c);
            input_done(h, c);
            http_answer_error(w, c, 400);
            return;
        }
    }
}
