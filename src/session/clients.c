/* clients.c: opening, moving and ends of clients. Their sockets in namespaces: client_socks.c. Heartbeat and queues: clients_time.c.
 *
 * Invariant: CONN_COUNTED <=> the connection is in n_clients, in COUNT_ACCEPTED and not yet in a close counter; it has a session, and in cold.peer the
 *            address that its client had in its handshake, by which it is counted in ip_counts (taken by whoever let it in).
 *            A client that ends is out of every room and count when client_end returns; what is left is bytes and a socket. */
#include "session/clients.h"

#include <assert.h>
#include <stdlib.h>

#include "peal/limits.h"
#include "session/client_socks.h"
#include "session/exchange.h"
#include "session/input.h"
#include "session/polling.h"
#include "session/recovery.h"
#include "shm/atomic.h"
#include "shm/ip_counts.h"

#define CLOSE_TIMEOUT_MS 2000 /* for what was queued and the close frame to go out */

/* --- counting --- */

static void store_places(struct hub *h)
{
    /* one store: the master must never see a client that has come but not left its place, or the other way round */
    shm_store_release_u64(&h->slot->places, (uint64_t)h->n_settled << 32 | h->n_clients);
    gauge_set(h->row, GAUGE_CONNECTIONS_WEBSOCKET, h->n_clients - h->n_polling);
    gauge_set(h->row, GAUGE_CONNECTIONS_POLLING, h->n_polling);
    gauge_set(h->row, GAUGE_DEFLATE_CLIENTS, h->n_deflate);
}

void client_settled(struct hub *h, struct conn *c)
{
    if ((c->flags & CONN_HAS_PLACE) == 0)
        return;
    c->flags &= (uint16_t)~CONN_HAS_PLACE;
    h->n_settled++;
    store_places(h);
}

static void count_in(struct hub *h, struct conn *c, const struct peer_address *address)
{
    assert((c->flags & CONN_COUNTED) == 0);
    c->flags |= CONN_COUNTED;
    conn_cold(&h->conns, c)->peer = *address;
    h->n_clients++;
    h->n_polling += (c->flags & CONN_VIRTUAL) != 0;
    h->n_deflate += (c->flags & CONN_DEFLATE) != 0;
    count_add(h->row, COUNT_ACCEPTED, 1);
    if ((c->flags & CONN_HAS_PLACE) != 0) {
        c->flags &= (uint16_t)~CONN_HAS_PLACE;
        h->n_settled++;
    }
    store_places(h);
}

static void count_out(struct hub *h, struct conn *c, enum close_reason reason)
{
    client_settled(h, c);
    if ((c->flags & CONN_COUNTED) == 0)
        return;
    c->flags &= (uint16_t)~CONN_COUNTED;
    if (h->region.ips != NULL)
        ip_give_back(&h->region, address_key(&conn_cold(&h->conns, c)->peer));
    assert(h->n_clients > 0);
    h->n_clients--;
    h->n_polling -= (c->flags & CONN_VIRTUAL) != 0;
    h->n_deflate -= (c->flags & CONN_DEFLATE) != 0;
    count_add(h->row, COUNT_CLOSE_FIRST + reason, 1);
    store_places(h);
}

uint64_t hub_random(struct hub *h)
{
    uint64_t x = h->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    h->random = x;
    return x;
}

void hub_retry_later(struct hub *h, struct conn *c)
{
    if ((c->flags & CONN_RETRY) != 0)
        return;
    c->flags |= CONN_RETRY;
    h->retry[h->n_retry++] = conn_index(&h->conns, c);
}

uint32_t hub_pending(const struct hub *h)
{
    uint32_t n_sockets = h->conns.n_used - h->conns.n_virtual;
    uint32_t n_allowed = h->n_clients - h->n_polling + 3 * h->n_polling;

    return n_sockets > n_allowed ? n_sockets - n_allowed : 0;
}

/* --- output --- */

void client_send(struct hub *h, struct conn *c, const void *bytes, uint32_t n_bytes, bool urgent)
{
    if (conn_alive(c) && batch_bytes(h->batch, c, bytes, n_bytes, urgent) != OUTQ_OK)
        client_condemn(h, c, CLOSE_SLOW_CONSUMER, false);
}

uint32_t client_frame_text(uint8_t *out, const void *text, uint32_t n_bytes)
{
    uint32_t n = ws_put_header(out, WS_TEXT, n_bytes);

    memcpy(out + n, text, n_bytes);
    return n + n_bytes;
}

/* --- opening --- */

static struct session *open_session(struct hub *h, struct conn *c)
{
    uint32_t index = session_new(&h->sockets);
    struct session *n;

    if (index == SOCK_NONE)
        return NULL;
    n = session_at(&h->sockets, index);
    n->conn = conn_index(&h->conns, c);
    /* the phase of pings is spread, or clients that came together would be pinged together for ever */
    n->deadline_ms = h->now_ms + h->config->ping_interval_ms / 2 +
                     hub_random(h) % (h->config->ping_interval_ms / 2 + 1);
    c->owner = index;
    return n;
}

/* A session with a sid, carried by `c`, and its open packet. */
static struct session *open_engine(struct hub *h, struct conn *c,
                                   const struct peer_address *address, char *handshake, char *sid)
{
    uint8_t id[SOCKET_ID_BYTES];
    uint8_t raw[EIO_SID_BYTES];
    char packet[EIO_OPEN_MAX];
    uint8_t frame[EIO_OPEN_MAX + WS_HEADER_MAX];
    uint32_t host = h->region.header->host_id;
    bool polls = (c->flags & CONN_VIRTUAL) != 0;
    struct session *n = open_session(h, c);
    uint32_t identity;
    uint32_t n_bytes;

    if (n == NULL)
        return NULL;
    identity = session_claim(h->identities, SESSION_ENGINE, c->owner, 0, id);
    if (identity == SESSION_NONE) {
        session_free(&h->sockets, c->owner);
        c->owner = CONN_NONE;
        return NULL;
    }
    n->identity = identity;
    n->handshake = handshake;
    n->connect_by_ms = h->now_ms + h->config->connect_timeout_ms;
    for (uint32_t i = 0; i < 3; i++) {
        raw[i] = (uint8_t)(host >> (16 - 8 * i));
        raw[3 + i] = (uint8_t)(identity >> (16 - 8 * i));
    }
    memcpy(raw + 6, id, sizeof id);
    base64url_encode(sid, raw, sizeof raw);
    c->kind = CONN_SOCKETIO;
    if (c->state == CONN_HTTP)
        conn_become(c, CONN_OPEN);
    count_in(h, c, address);
    n_bytes = eio_put_open(packet, slice_of(sid, EIO_SID_CHARS),
                           polls && h->config->transport_websocket, h->config->ping_interval_ms,
                           h->config->ping_timeout_ms, h->config->max_message_bytes);
    n_bytes = client_frame_text(frame, packet, n_bytes);
    client_send(h, c, frame, n_bytes, false);
    client_arm_timer(h, c);
    return n;
}

bool client_open_socketio(struct hub *h, struct conn *c, const struct peer_address *address,
                          char *handshake)
{
    char sid[EIO_SID_CHARS];

    return open_engine(h, c, address, handshake, sid) != NULL;
}

struct session *client_open_polling(struct hub *h, struct conn *c,
                                    const struct peer_address *address, char *handshake, char *sid)
{
    uint32_t index = conn_open_virtual(&h->conns, address);
    struct conn *carrier;
    struct session *n;

    if (index == CONN_NONE)
        return NULL;
    carrier = conn_at(&h->conns, index);
    carrier->outq = outq_new(h->outqs, index, h->now_ms);
    carrier->flags |= c->flags & CONN_HAS_PLACE;
    n = carrier->outq == NULL ? NULL : open_engine(h, carrier, address, handshake, sid);
    if (n == NULL) {
        carrier->flags &= (uint16_t)~CONN_HAS_PLACE; /* `c` keeps it */
        client_gone(h, carrier, CLOSE_MEMORY);
        return NULL;
    }
    c->flags &= (uint16_t)~CONN_HAS_PLACE;
    return n;
}

void client_move(struct hub *h, struct session *n, struct conn *from, struct conn *to)
{
    assert(to->pending == 0 && to->outq == NULL && to->state == CONN_OPEN);
    to->kind = from->kind;
    to->owner = from->owner;
    to->stamp = from->stamp; /* a sweep that is not through must neither repeat nor miss */
    n->conn = conn_index(&h->conns, to);
    for (uint32_t i = n->first_sock; i != SOCK_NONE; i = sock_at(&h->sockets, i)->next) {
        struct sock *k = sock_at(&h->sockets, i);

        sock_move(&h->sockets, &h->rooms, k, n->conn);
        if (k->state == SOCK_ACTIVATING || k->state == SOCK_ACTIVE)
            client_count_deflater(h, k, 1); /* `from` took nothing compressed */
    }
    deferred_move(&h->deferred, conn_index(&h->conns, from), from->generation, n->conn,
                  to->generation);
    input_move(h, from, to);
    to->outq = from->outq;
    from->outq = NULL;
    outq_adopt(to->outq, n->conn, h->now_ms);
    batch_on_writable(h->batch, to, h->now_ms); /* sends it, and lets an empty one go */
    assert((from->flags & CONN_COUNTED) != 0 && (to->flags & CONN_COUNTED) == 0);
    to->flags |= CONN_COUNTED;
    conn_cold(&h->conns, to)->peer = conn_cold(&h->conns, from)->peer;
    from->flags &= (uint16_t)~CONN_COUNTED;
    h->n_polling--;
    h->n_deflate += (to->flags & CONN_DEFLATE) != 0;
    store_places(h);
    from->owner = CONN_NONE;
    client_gone(h, from, CLOSE_TRANSPORT_CLOSE);
    client_arm_timer(h, to);
}

bool client_open_echo(struct hub *h, struct conn *c, const struct peer_address *address)
{
    if (open_session(h, c) == NULL)
        return false;
    c->kind = CONN_ECHO;
    conn_become(c, CONN_OPEN);
    count_in(h, c, address);
    client_arm_timer(h, c);
    return true;
}

bool client_open_room(struct hub *h, struct conn *c, const struct peer_address *address,
                      const struct slice *rooms, uint32_t n_rooms)
{
    uint32_t nsp = namespace_find(&h->region, slice_text("/ws"));
    struct session *n = nsp == NAMESPACE_NONE ? NULL : open_session(h, c);
    struct sock *k = n == NULL ? NULL : client_sock_new(h, n, (uint16_t)nsp, UINT8_MAX);

    if (k == NULL) {
        if (n != NULL)
            session_free(&h->sockets, c->owner);
        c->owner = CONN_NONE;
        return false;
    }
    c->kind = CONN_ROOM;
    conn_become(c, CONN_OPEN);
    count_in(h, c, address);
    client_count_socket(h, k, 1);
    k->first_room =
        room_ref(&h->rooms, record_hash(h->region.header->hash_key, slice_text("/ws"), rooms[0]),
                 k->nsp, rooms[0]);
    if (k->first_room == ROOM_NONE)
        client_condemn(h, c, CLOSE_MEMORY, false);
    sock_become(k, SOCK_ACTIVATING);
    client_activate(h, k);
    client_hold_rooms(h, k, rooms, n_rooms);
    client_arm_timer(h, c);
    return true;
}

/* --- ends --- */

static void tear_down(struct hub *h, struct conn *c, enum close_reason reason)
{
    inputs_drop(h, c);
    exchange_drop(h, c);
    ws_in_reset(&conn_cold(&h->conns, c)->ws, inputs_contexts(h));
    if (c->kind == CONN_GET || c->kind == CONN_POST || c->kind == CONN_PROBE)
        polling_lost(h, c, reason);
    if (c->owner != CONN_NONE) {
        struct session *n = session_at(&h->sockets, c->owner);

        client_drop_socks(h, n, reason);
        if ((c->flags & CONN_VIRTUAL) != 0)
            polling_detach(h, c);
        if (n->identity != SESSION_NONE)
            session_release(h->identities, n->identity);
        session_free(&h->sockets, c->owner);
        c->owner = CONN_NONE;
    }
    count_out(h, c, reason);
    c->close_reason = (uint8_t)reason;
}

/* Does what is queued still matter to a client that ends like this? */
static bool keeps_queue(enum close_reason reason)
{
    return reason == CLOSE_DRAIN || reason == CLOSE_HOST_STOP ||
           reason == CLOSE_SERVER_NAMESPACE_DISCONNECT || reason == CLOSE_TRANSPORT_CLOSE ||
           reason == CLOSE_FORCED_SERVER_CLOSE || reason == CLOSE_SERVER_SHUTTING_DOWN;
}

/* A client that polls stays until it has been told, and counts for so long. */
static void end_virtual(struct hub *h, struct conn *c, enum close_reason reason)
{
    client_drop_socks(h, session_at(&h->sockets, c->owner), reason);
    conn_become(c, CONN_CLOSING);
    c->close_reason = (uint8_t)reason;
    inputs_drop(h, c);
    if (polling_end(h, c, reason))
        client_gone(h, c, reason);
}

void client_end(struct hub *h, struct conn *c, enum close_reason reason, uint16_t code,
                const char *why)
{
    uint8_t frame[WS_CONTROL_MAX + 2];
    bool is_ws = c->state == CONN_OPEN;
    enum outq_result result = OUTQ_OK;

    if (c->state != CONN_OPEN && c->state != CONN_HTTP)
        return;
    if ((c->flags & CONN_VIRTUAL) != 0) {
        end_virtual(h, c, reason);
        return;
    }
    tear_down(h, c, reason);
    conn_become(c, CONN_CLOSING);
    c->flags = (uint16_t)((c->flags & ~(CONN_PAUSED | CONN_RETRY)) | CONN_END_WHEN_SENT);
    c->drained_bytes = 0;
    if (c->outq != NULL && !keeps_queue(reason))
        (void)outq_drop(h->outqs, c->outq);
    if (is_ws)
        result = batch_bytes(h->batch, c, frame, ws_put_close(frame, code, why == NULL ? "" : why),
                             false);
    wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
              h->now_ms + (keeps_queue(reason) && c->outq != NULL ? h->config->drain_timeout_ms
                                                                  : CLOSE_TIMEOUT_MS));
    if (result != OUTQ_OK || (c->pending == 0 && c->outq == NULL))
        client_condemn(h, c, reason, result == OUTQ_OK);
    else
        conn_read_next(&h->conns, c);
}

void client_gone(struct hub *h, struct conn *c, enum close_reason reason)
{
    if (c->state == CONN_FREE || c->state == CONN_DYING)
        return;
    if (c->state == CONN_CLOSING) /* why has been decided; one that polls still counts */
        reason = (enum close_reason)c->close_reason;
    tear_down(h, c, reason);
    outq_free(h->outqs, c->outq);
    c->outq = NULL;
    conn_kill(&h->conns, c);
}

void client_condemn(struct hub *h, struct conn *c, enum close_reason reason, bool finished)
{
    if (c->state == CONN_FREE || c->state == CONN_DYING || (c->flags & CONN_CONDEMNED) != 0)
        return;
    assert(h->n_condemned < 2 * h->conns.max);
    c->flags |= CONN_CONDEMNED;
    h->condemned[h->n_condemned++] =
        (struct condemned){ conn_index(&h->conns, c), c->generation, (uint8_t)reason, finished };
}

void clients_bury(struct hub *h)
{
    for (uint32_t i = 0; i < h->n_condemned;
         i++) { /* burying one may condemn others: the list grows at its end */
        struct condemned it = h->condemned[i];
        struct conn *c = conn_at(&h->conns, it.conn);

        if (c->generation != it.generation || c->state == CONN_FREE || c->state == CONN_DYING)
            continue;
        c->flags &= (uint16_t)~CONN_CONDEMNED;
        if (it.finished && c->state == CONN_CLOSING && c->pending == 0 && c->outq == NULL)
            conn_linger(&h->conns, c, h->now_ms);
        else if (it.reason == CLOSE_SLOW_CONSUMER && c->state == CONN_OPEN)
            client_lagged(h, c);
        else if (!it.finished)
            client_gone(h, c, (enum close_reason)it.reason);
    }
    h->n_condemned = 0;
}

void client_lagged(struct hub *h, struct conn *c)
{
    if (h->config->slow_consumer == SLOW_DROP && c->outq != NULL && c->state == CONN_OPEN) {
        count_add(h->row, COUNT_SLOW_DROP, 1 + outq_drop(h->outqs, c->outq));
        recovery_lagged(h, c);
        return;
    }
    count_add(h->row, COUNT_SLOW_CLOSE, 1);
    client_end(h, c, CLOSE_SLOW_CONSUMER, WS_CLOSE_TRY_LATER, "too slow");
}
