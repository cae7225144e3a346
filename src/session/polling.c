/* polling.c: what carries a polling session: held GETs, POSTs, and the WebSocket that takes over.
 *
 * Invariant: poll.get, .post and .probe name connections of kind GET, POST and PROBE whose `owner` is the session, and each such connection is named by
 *            its session: whoever goes first lets go of the other.
 * Never:     loses what a queue holds: a body is made and given to the GET's connection in one step. */
#include "session/polling.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/eio_payload.h"
#include "session/clients.h"
#include "session/exchange.h"
#include "session/input.h"

#define CLOSE_WAIT_MS 30000      /* for a GET that can be told of the close: fixed in engine.io */
#define NOOP_EVERY_MS 100        /* held GETs are let go that often while a WebSocket probes */
#define BODY_BYTES    (1u << 20) /* of frames in one body, besides the first record */
#define BODY_IOV      64
#define BODY_KEPT     (256u << 10) /* scratch that is kept between two bodies */

static struct poll *poll_of(const struct hub *h, const struct session *n)
{
    return &h->polls[n - h->sockets.sessions];
}

static struct session *owner_of(struct hub *h, const struct conn *c)
{
    assert(c->owner != CONN_NONE);
    return session_at(&h->sockets, c->owner);
}

static struct conn *conn_named(struct hub *h, uint32_t named)
{
    assert(named != 0);
    return conn_at(&h->conns, named - 1);
}

enum sid_place polling_find(const struct hub *h, struct slice sid, uint32_t *local, uint32_t *owner)
{
    uint8_t raw[EIO_SID_BYTES];
    uint32_t index;
    uint32_t host;
    uint16_t nsp;

    if (sid.n_bytes != EIO_SID_CHARS || !base64url_decode(raw, sid))
        return SID_MALFORMED;
    host = (uint32_t)raw[0] << 16 | (uint32_t)raw[1] << 8 | raw[2];
    index = (uint32_t)raw[3] << 16 | (uint32_t)raw[4] << 8 | raw[5];
    if (host != (h->region.header->host_id & 0xffffff))
        return SID_OTHER_HOST;
    if (!session_find(&h->region, SESSION_ENGINE, index, raw + 6, owner, local, &nsp))
        return SID_UNKNOWN;
    return *owner == h->region.self ? SID_HERE : SID_ELSEWHERE;
}

/* --- answers --- */

/* Compresses a body that is long enough where its client takes that. Returns the coding, CODING_IDENTITY if it stays as it is. */
static enum coding compress(struct hub *h, enum coding coding, struct slice *body)
{
    return body->n_bytes < h->config->http_compression_bytes
               ? CODING_IDENTITY
               : zipped_body(&h->zipped, coding, body);
}

static void answer_payload(struct hub *h, struct conn *c, struct slice body)
{
    enum coding coding = compress(h, (enum coding)exchange_of(h, c)->coding, &body);
    char headers[128];
    struct answer a = {
        .status = 200, .type = "text/plain; charset=UTF-8", .body = body, .headers = headers
    };

    snprintf(headers, sizeof headers, "%scache-control: no-store\r\n", gzip_header(coding));
    exchange_answer(h, c, &a);
}

static void answer_bad(struct hub *h, struct conn *c)
{
    struct answer a = { .status = 400, .close = true };

    exchange_answer(h, c, &a);
}

/* Answers the held GET with one packet (or none is held). */
static void release_get(struct hub *h, struct poll *p, const char *packet)
{
    struct conn *c;

    if (p->get == 0)
        return;
    c = conn_named(h, p->get);
    p->get = 0;
    answer_payload(h, c, slice_text(packet));
}

/* Makes a body of what the queue holds, as far as it fits; what went into it is out of the queue. False: no memory, nothing was taken.
 * `lost`: the next record was overwritten before it could be copied. */
static bool take_body(struct hub *h, struct outq *q, struct slice *body, bool *lost)
{
    struct iovec iov[BODY_IOV];
    uint32_t at = 0;
    uint64_t taken = 0;

    *lost = false;
    while (taken < BODY_BYTES) {
        uint32_t n = outq_peek(h->outqs, q, iov, BODY_IOV, lost);
        uint64_t n_bytes = 0;
        uint64_t need = at;

        if (n == 0)
            break;
        for (uint32_t i = 0; i < n; i++) {
            n_bytes += iov[i].iov_len;
            need += eio_payload_max(iov[i].iov_len);
        }
        if (need > h->body_bytes) {
            char *larger = need > UINT32_MAX / 2 ? NULL : realloc(h->body, need);

            if (larger == NULL)
                break;
            h->body = larger;
            h->body_bytes = (uint32_t)need;
        }
        for (uint32_t i = 0; i < n; i++)
            at = eio_payload_put_frames(h->body, at,
                                        slice_of(iov[i].iov_base, (uint32_t)iov[i].iov_len));
        h->n_polled += outq_consume(h->outqs, q, n_bytes, h->now_ms);
        taken += n_bytes;
    }
    *body = slice_of(h->body, at);
    return at > 0;
}

static void forget_bodies(struct hub *h)
{
    if (h->body_bytes > BODY_KEPT) {
        free(h->body);
        h->body = NULL;
        h->body_bytes = 0;
    }
    zipped_forget(&h->zipped);
}

void polling_carry(void *hub, struct conn *c)
{
    struct hub *h = hub;
    struct session *n = owner_of(h, c);
    struct poll *p = poll_of(h, n);
    struct slice body;
    struct conn *get;
    bool lost;

    if (p->get == 0 || outq_empty(c->outq))
        return;
    if (!take_body(h, c->outq, &body, &lost)) {
        client_condemn(h, c, lost ? CLOSE_SLOW_CONSUMER : CLOSE_MEMORY, false);
        return;
    }
    get = conn_named(h, p->get);
    p->get = 0;
    answer_payload(h, get, body);
    forget_bodies(h);
    if (p->closing == POLL_FLUSHING && outq_empty(c->outq))
        p->closing = POLL_SHUT;
}

bool polling_writable(const struct hub *h, const struct conn *c)
{
    const struct session *n = &h->sockets.sessions[c->owner];

    return poll_of(h, n)->get != 0 && outq_empty(c->outq);
}

/* --- requests --- */

static void hold(struct hub *h, struct session *n, struct conn *c, enum conn_kind kind)
{
    c->kind = (uint8_t)kind;
    c->owner = session_index(&h->sockets, n);
    c->flags |= CONN_SERVED;
    client_settled(h, c);
}

void polling_get(struct hub *h, struct session *n, struct conn *c)
{
    struct conn *carrier = conn_at(&h->conns, n->conn);
    struct poll *p = poll_of(h, n);

    assert(session_polls(h, n));
    if (p->get != 0) {
        answer_bad(h, c);
        client_end(h, carrier, CLOSE_TRANSPORT_ERROR, WS_CLOSE_NO_STATUS, NULL);
        return;
    }
    if (p->closing == POLL_SHUT) {
        answer_payload(h, c,
                       slice_text("6\x1e"
                                  "1"));
        client_gone(h, carrier, (enum close_reason)carrier->close_reason);
        return;
    }
    hold(h, n, c, CONN_GET);
    wheel_cancel(&h->conns.wheel, conn_index(&h->conns, c));
    p->get = conn_index(&h->conns, c) + 1;
    polling_carry(h, carrier);
}

bool polling_post(struct hub *h, struct session *n, struct conn *c)
{
    struct conn *carrier = conn_at(&h->conns, n->conn);
    struct poll *p = poll_of(h, n);

    if (p->post != 0) {
        answer_bad(h, c);
        client_gone(h, conn_named(h, p->post), CLOSE_TRANSPORT_ERROR); /* and with it the session */
        client_end(h, carrier, CLOSE_TRANSPORT_ERROR, WS_CLOSE_NO_STATUS, NULL);
        return false;
    }
    hold(h, n, c, CONN_POST);
    p->post = conn_index(&h->conns, c) + 1;
    return true;
}

void polling_post_done(struct hub *h, struct conn *c)
{
    if (c->kind != CONN_POST || c->owner == CONN_NONE)
        return;
    poll_of(h, owner_of(h, c))->post = 0;
    c->owner = CONN_NONE;
}

/* --- upgrade --- */

bool polling_probe(struct hub *h, struct session *n, struct conn *ws)
{
    struct poll *p = poll_of(h, n);

    if (!session_polls(h, n) || p->probe != 0 || p->closing != POLL_OPEN)
        return false;
    hold(h, n, ws, CONN_PROBE);
    p->probe = conn_index(&h->conns, ws) + 1;
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, ws),
              h->now_ms + h->config->upgrade_timeout_ms);
    return true;
}

void polling_probed(struct hub *h, struct conn *ws)
{
    struct session *n = owner_of(h, ws);

    poll_of(h, n)->noop_at_ms = h->now_ms + NOOP_EVERY_MS;
    client_arm_timer(h, conn_at(&h->conns, n->conn));
}

static void end_probe(struct hub *h, struct poll *p)
{
    struct conn *ws;

    if (p->probe == 0)
        return;
    ws = conn_named(h, p->probe);
    p->probe = 0;
    p->noop_at_ms = 0;
    ws->owner = CONN_NONE;
    client_end(h, ws, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
}

void polling_upgrade(struct hub *h, struct conn *ws)
{
    struct session *n = owner_of(h, ws);
    struct conn *carrier = conn_at(&h->conns, n->conn);
    struct poll *p = poll_of(h, n);

    batch_settle(h->batch, ws); /* the answer to the probe goes first */
    if (ws->state != CONN_OPEN || ws->outq != NULL || (ws->flags & CONN_CONDEMNED) != 0 ||
        carrier->state != CONN_OPEN || (carrier->flags & CONN_CONDEMNED) != 0) {
        end_probe(h,
                  p); /* a socket that is full before it has begun: the session goes on polling */
        return;
    }
    p->probe = 0;
    p->noop_at_ms = 0;
    release_get(h, p, "6");
    if (p->post != 0) { /* the real client has none under way when it sends `5` */
        struct conn *post = conn_named(h, p->post);

        p->post = 0;
        post->owner = CONN_NONE;
        client_gone(h, post, CLOSE_TRANSPORT_ERROR);
    }
    client_move(h, n, carrier, ws);
}

/* --- ends --- */

/* Does the client learn of it in order, after what was queued? Everything else ends the session at once, as an error does in engine.io. */
static bool is_orderly(enum close_reason reason)
{
    return reason == CLOSE_DRAIN || reason == CLOSE_HOST_STOP ||
           reason == CLOSE_SERVER_NAMESPACE_DISCONNECT || reason == CLOSE_FORCED_SERVER_CLOSE ||
           reason == CLOSE_FORCED_CLOSE || reason == CLOSE_SERVER_SHUTTING_DOWN;
}

bool polling_end(struct hub *h, struct conn *c, enum close_reason reason)
{
    struct session *n = owner_of(h, c);
    struct poll *p = poll_of(h, n);

    end_probe(h, p);
    if (!is_orderly(reason)) {
        release_get(
            h, p, reason == CLOSE_TRANSPORT_CLOSE ? "6" : "1"); /* `1` was the client's own wish */
        return true;
    }
    if (outq_empty(c->outq) && p->get != 0) {
        release_get(h, p, "1");
        return true;
    }
    p->closing = outq_empty(c->outq) ? POLL_SHUT : POLL_FLUSHING;
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c), h->now_ms + CLOSE_WAIT_MS);
    polling_carry(h, c);
    return false;
}

void polling_detach(struct hub *h, struct conn *c)
{
    struct poll *p = poll_of(h, owner_of(h, c));

    release_get(h, p, "1");
    end_probe(h, p);
    if (p->post != 0) /* it is answered all the same */
        conn_named(h, p->post)->owner = CONN_NONE;
    *p = (struct poll){ 0 };
}

void polling_lost(struct hub *h, struct conn *c, enum close_reason reason)
{
    struct session *n;
    struct poll *p;

    if (c->owner == CONN_NONE)
        return;
    n = owner_of(h, c);
    p = poll_of(h, n);
    c->owner = CONN_NONE;
    switch ((enum conn_kind)c->kind) {
    case CONN_PROBE:
        p->probe = 0;
        p->noop_at_ms = 0;
        return;
    case CONN_GET: p->get = 0; break;
    case CONN_POST: p->post = 0; break;
    case CONN_PLAIN_HTTP:
    case CONN_SOCKETIO:
    case CONN_ROOM:
    case CONN_ECHO: assert(!"not a request of a session"); return;
    }
    /* "poll connection closed prematurely", "data request connection closed prematurely" */
    client_gone(h, conn_at(&h->conns, n->conn), reason);
}

/* --- time --- */

uint64_t polling_deadline(const struct hub *h, const struct session *n)
{
    uint64_t at = session_polls(h, n) ? poll_of(h, n)->noop_at_ms : 0;

    return at == 0 ? UINT64_MAX : at;
}

void polling_on_timer(struct hub *h, struct session *n)
{
    struct poll *p = poll_of(h, n);

    if (h->now_ms <
        polling_deadline(
            h, n)) /* looks at `p` only if the session polls: others have none that is touched */
        return;
    p->noop_at_ms = h->now_ms + NOOP_EVERY_MS;
    release_get(h, p, "6");
}
