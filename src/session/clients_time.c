/* clients_time.c: what time does to clients: heartbeats, deadlines, queues that grow old.
 *
 * Source: engine.io 6.6: a ping each pingInterval after the open and after each pong; no pong within pingTimeout ends the session; the first other packet
 * while waiting restarts that timeout once per ping. The timeout runs from when the ping was handed to the kernel: a ping that waits behind
 * a full socket says nothing about the client yet. */
#include <stdlib.h>

#include "session/clients.h"
#include "session/input.h"
#include "session/polling.h"
#include "session/recovery.h"
#include "shm/atomic.h"

#define RECHECK_MS 1000

/* Has it a full socket? One that polls has none: its timeout runs from when the ping was queued, as in engine.io. */
static bool is_blocked(const struct conn *c)
{
    return c->outq != NULL && (c->flags & CONN_VIRTUAL) == 0;
}

static void send_ping(struct hub *h, struct conn *c, struct session *n)
{
    static const uint8_t engine_ping[] = { 0x81, 1, '2' };
    static const uint8_t ws_ping[] = { 0x89, 0 };

    n->heartbeat = HEARTBEAT_PINGED;
    n->extended = 0;
    n->ping_sent_ms = (uint32_t)h->now_ms;
    n->deadline_ms = is_blocked(c) ? 0 : h->now_ms + h->config->ping_timeout_ms;
    if (c->kind == CONN_SOCKETIO)
        client_send(h, c, engine_ping, sizeof engine_ping, true);
    else
        client_send(h, c, ws_ping, sizeof ws_ping, true);
}

void client_on_pong(struct hub *h, struct conn *c)
{
    struct session *n;

    if (c->owner == CONN_NONE)
        return;
    n = session_at(&h->sockets, c->owner);
    if (n->heartbeat != HEARTBEAT_PINGED)
        return; /* an unexpected pong is ignored */
    histogram_add(h->row, HISTOGRAM_PING_RTT,
                  (uint64_t)((uint32_t)h->now_ms - n->ping_sent_ms) * 1000);
    n->heartbeat = HEARTBEAT_WAITS;
    n->deadline_ms = h->now_ms + h->config->ping_interval_ms;
    client_arm_timer(h, c);
}

void client_on_packet(struct hub *h, struct conn *c)
{
    struct session *n = c->owner == CONN_NONE ? NULL : session_at(&h->sockets, c->owner);

    if (n == NULL || n->heartbeat != HEARTBEAT_PINGED || (n->extended & EXTENDED_PACKET) != 0 ||
        n->deadline_ms == 0)
        return;
    n->extended |= EXTENDED_PACKET;
    n->deadline_ms = h->now_ms + h->config->ping_timeout_ms;
}

/* False: the client is no more. */
static bool heartbeat_due(struct hub *h, struct conn *c, struct session *n)
{
    if (n->heartbeat == HEARTBEAT_WAITS) {
        if (h->now_ms >= n->deadline_ms)
            send_ping(h, c, n);
        return true;
    }
    if (n->deadline_ms == 0 &&
        (!is_blocked(c) ||
         (uint32_t)outq_progress_ms(c->outq) - n->ping_sent_ms < UINT32_MAX / 2)) {
        /* the queue has moved since: the ping, at the next record boundary, is with the kernel */
        n->deadline_ms = h->now_ms + h->config->ping_timeout_ms;
        return true;
    }
    if (n->deadline_ms != 0 && h->now_ms >= n->deadline_ms) {
        /* It is we who are late when its pong may lie in the kernel: a worker that was without a CPU would end all of its clients. */
        if ((n->extended & EXTENDED_UNREAD) == 0 && conn_has_unread(c)) {
            n->extended |= EXTENDED_UNREAD;
            n->deadline_ms = h->now_ms + RECHECK_MS;
            return true;
        }
        client_end(h, c, CLOSE_PING_TIMEOUT,
                   c->kind == CONN_SOCKETIO ? WS_CLOSE_NO_STATUS : WS_CLOSE_GOING_AWAY,
                   "ping timeout");
        return false;
    }
    return true;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void client_arm_timer(struct hub *h, struct conn *c)
{
    uint64_t at = h->now_ms + h->config->ping_interval_ms;

    if (c->owner != CONN_NONE) {
        const struct session *n = session_at(&h->sockets, c->owner);

        at = n->deadline_ms == 0 ? h->now_ms + RECHECK_MS : n->deadline_ms;
        if (n->connect_by_ms != 0)
            at = sooner(at, n->connect_by_ms);
        at = sooner(at, polling_deadline(h, n));
    }
    at = sooner(at, input_deadline(h, c));
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c), at);
}

static void on_open_timer(struct hub *h, struct conn *c)
{
    if (c->kind == CONN_PROBE) { /* no `5` within upgrade_timeout: the session goes on polling */
        client_end(h, c, CLOSE_TRANSPORT_CLOSE, WS_CLOSE_NO_STATUS, NULL);
        return;
    }
    if (h->now_ms >= input_deadline(h, c)) {
        client_end(h, c, CLOSE_MESSAGE_TIMEOUT, WS_CLOSE_POLICY,
                   "a message was begun and not finished in time (message_timeout)");
        return;
    }
    if (c->owner != CONN_NONE) {
        struct session *n = session_at(&h->sockets, c->owner);

        if (n->connect_by_ms != 0 && h->now_ms >= n->connect_by_ms) {
            client_end(h, c, CLOSE_FORCED_SERVER_CLOSE, WS_CLOSE_NO_STATUS, NULL);
            return;
        }
        if (!heartbeat_due(h, c, n))
            return;
        polling_on_timer(h, n);
    }
    if (c->state == CONN_OPEN)
        client_arm_timer(h, c);
}

void client_on_timer(struct hub *h, struct conn *c)
{
    switch ((enum conn_state)c->state) {
    case CONN_OPEN: on_open_timer(h, c); break;
    case CONN_HTTP:
    case CONN_CLOSING:
    case CONN_LINGER: client_gone(h, c, CLOSE_TRANSPORT_CLOSE); break;
    case CONN_FREE:
    case CONN_DYING:
    case CONN_STATES: break;
    }
}

/* What all workers hold in out-queues. */
static uint64_t host_outq_bytes(const struct hub *h)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < h->region.header->n_workers; i++)
        sum += shm_load_u64(&h->region.counters[i].gauges[GAUGE_OUTQ_BYTES]);
    return sum;
}

static void check_queue(struct hub *h, struct outq *q)
{
    struct conn *c = conn_at(&h->conns, outq_conn(q));
    uint64_t soft_since = outq_soft_since(q, h->config->outq_soft_bytes, h->now_ms);
    uint64_t patience_ms = (uint64_t)h->config->ping_interval_ms + h->config->ping_timeout_ms;

    if (outq_bytes(q) > h->config->outq_bytes_max ||
        (soft_since != 0 && h->now_ms - soft_since >= h->config->ping_timeout_ms))
        client_condemn(h, c, CLOSE_SLOW_CONSUMER, false);
    else if (is_blocked(c) && h->now_ms - outq_progress_ms(q) >= patience_ms)
        client_condemn(h, c, CLOSE_PING_TIMEOUT,
                       false); /* not even a ping could be handed to the kernel */
}

void clients_check_queues(struct hub *h)
{
    uint64_t held = outqs_bytes(h->outqs);

    gauge_set(h->row, GAUGE_OUTQ_BYTES, held);
    for (struct outq *q = outqs_next(h->outqs, NULL); q != NULL; q = outqs_next(h->outqs, q)) {
        if (conn_at(&h->conns, outq_conn(q))->state == CONN_OPEN)
            check_queue(h, q);
    }
    clients_bury(h);
    while (held > 0 && host_outq_bytes(h) > h->config->outq_bytes_total) {
        struct outq *largest = outqs_largest(h->outqs);
        struct conn *c;
        uint32_t n_dropped;

        if (largest == NULL || outq_bytes(largest) == 0)
            break;
        c = conn_at(&h->conns, outq_conn(largest));
        n_dropped = outq_drop(h->outqs, largest);
        if (c->state == CONN_OPEN && h->config->slow_consumer == SLOW_DROP &&
            outq_bytes(largest) == 0) {
            count_add(h->row, COUNT_SLOW_DROP, n_dropped);
            recovery_lagged(h, c);
        } else if (c->state == CONN_OPEN && outq_bytes(largest) == 0)
            client_lagged(h, c);
        else
            client_gone(
                h, c,
                CLOSE_SLOW_CONSUMER); /* the rest of a started record: it cannot even be closed orderly */
        held = outqs_bytes(h->outqs);
        gauge_set(h->row, GAUGE_OUTQ_BYTES, held);
    }
}
