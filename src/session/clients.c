/* clients.c: opening, namespaces and ends of clients. Heartbeat and queues: clients_time.c.
 *
 * Invariant: CONN_COUNTED <=> the connection is in n_clients, in COUNT_ACCEPTED and not yet in a close counter; it has a session.
 *            A client that ends is out of every room and count when client_end returns; what is left is bytes and a socket. */
#include "session/clients.h"

#include <assert.h>
#include <stdlib.h>

#include "peal/limits.h"
#include "proto/json.h"
#include "proto/socketio.h"
#include "session/input.h"
#include "session/recovery.h"
#include "shm/atomic.h"

#define CLOSE_TIMEOUT_MS 2000 /* for what was queued and the close frame to go out */

/* --- counting --- */

static void store_places(struct hub *h)
{
    /* one store: the master must never see a client that has come but not left its place, or the other way round */
    shm_store_release_u64(&h->slot->places, (uint64_t)h->n_settled << 32 | h->n_clients);
    gauge_set(h->row, GAUGE_CONNECTIONS_WEBSOCKET, h->n_clients);
}

void client_settled(struct hub *h, struct conn *c)
{
    if ((c->flags & CONN_HAS_PLACE) == 0)
        return;
    c->flags &= (uint16_t)~CONN_HAS_PLACE;
    h->n_settled++;
    store_places(h);
}

static void count_in(struct hub *h, struct conn *c)
{
    assert((c->flags & CONN_COUNTED) == 0);
    c->flags |= CONN_COUNTED;
    h->n_clients++;
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
    assert(h->n_clients > 0);
    h->n_clients--;
    count_add(h->row, COUNT_CLOSE_FIRST + reason, 1);
    store_places(h);
}

static void count_socket(struct hub *h, uint16_t nsp, int by)
{
    shm_store_u32(&h->row->sockets[nsp], h->row->sockets[nsp] + (uint32_t)by);
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

/* --- output --- */

void client_send(struct hub *h, struct conn *c, const void *bytes, uint32_t n_bytes, bool urgent)
{
    if (conn_alive(c) && batch_bytes(h->batch, c, bytes, n_bytes, urgent) != OUTQ_OK)
        client_condemn(h, c, CLOSE_SLOW_CONSUMER, false);
}

static void run(struct hub *h, struct deferred_item *item)
{
    struct conn *c = conn_at(&h->conns, item->conn);
    struct sock *k = item->sock == SOCK_NONE ? NULL : sock_at(&h->sockets, item->sock);
    bool live = c->generation == item->conn_generation && c->state == CONN_OPEN &&
                (k == NULL || k->generation == item->sock_generation);

    switch ((enum deferred_kind)item->kind) {
    case DEFERRED_ACTIVATE:
        if (!live)
            break;
        if (!sock_enter_namespace(&h->sockets, &h->rooms, k,
                                  record_hash(h->region.header->hash_key,
                                              namespace_name(&h->region, k->nsp),
                                              (struct slice){ NULL, 0 }))) {
            client_condemn(h, c, CLOSE_MEMORY, false);
            break;
        }
        sock_become(k, SOCK_ACTIVE);
        recovery_started(h, k);
        if (item->n_bytes > 0)
            client_send(h, c, item->bytes, item->n_bytes, false);
        break;
    case DEFERRED_SEND:
        if (live)
            client_send(h, c, item->bytes, item->n_bytes, false);
        break;
    case DEFERRED_JOIN:
        if (!live) {
            room_unref(&h->rooms, item->room);
            break;
        }
        k->n_joins--;
        if (sock_enter(&h->sockets, &h->rooms, k,
                       item->room)) /* false: it is in it already, which is fine */
            recovery_entered(h, k, room_name(room_at(&h->rooms, item->room)), h->walked, h->walked);
        break;
    case DEFERRED_LEAVE:
        if (live && sock_leave(&h->sockets, &h->rooms, k, item->room))
            recovery_left(h, k, room_name(room_at(&h->rooms, item->room)), h->walked);
        room_unref(&h->rooms, item->room);
        break;
    }
}

/* Carries `item` out now if the ring has been taken in that far, else when it has. */
static void at_position(struct hub *h, struct deferred_item item, uint64_t position)
{
    if (h->deferred.n > 0) {
        uint64_t last =
            h->deferred.items[(h->deferred.head + h->deferred.n - 1) % h->deferred.max].position;

        position = position > last ? position : last;
    }
    item.position = position;
    if (h->deferred.n == 0 && position <= h->walked)
        run(h, &item);
    else if (!deferred_room(&h->deferred, 1) || !deferred_push(&h->deferred, &item))
        client_condemn(h, conn_at(&h->conns, item.conn), CLOSE_MEMORY, false);
}

static struct deferred_item item_for(struct hub *h, const struct conn *c, const struct sock *k,
                                     enum deferred_kind kind)
{
    return (struct deferred_item){
        .conn = conn_index(&h->conns, c),
        .conn_generation = c->generation,
        .sock = k == NULL ? SOCK_NONE : sock_index(&h->sockets, k),
        .sock_generation = k == NULL ? 0 : k->generation,
        .kind = (uint8_t)kind,
    };
}

void client_send_later(struct hub *h, struct conn *c, const void *bytes, uint32_t n_bytes,
                       bool at_tail)
{
    struct deferred_item item = item_for(h, c, NULL, DEFERRED_SEND);

    item.bytes = (uint8_t *)(uintptr_t)bytes;
    item.n_bytes = n_bytes;
    at_position(h, item, at_tail ? ring_tail(&h->ring) : h->last_append);
}

void clients_run_deferred(struct hub *h, uint64_t position)
{
    struct deferred_item *due;

    while ((due = deferred_due(&h->deferred, position)) != NULL) {
        run(h, due);
        deferred_pop(&h->deferred);
    }
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
    n->opened_ms = h->now_ms;
    /* the phase of pings is spread, or clients that came together would be pinged together for ever */
    n->deadline_ms = h->now_ms + h->config->ping_interval_ms / 2 +
                     hub_random(h) % (h->config->ping_interval_ms / 2 + 1);
    c->owner = index;
    return n;
}

bool client_open_socketio(struct hub *h, struct conn *c, char *handshake)
{
    uint8_t id[SOCKET_ID_BYTES];
    uint8_t raw[EIO_SID_BYTES];
    char sid[EIO_SID_CHARS];
    char packet[EIO_OPEN_MAX];
    uint8_t frame[EIO_OPEN_MAX + WS_HEADER_MAX];
    uint32_t host = h->region.header->host_id;
    struct session *n = open_session(h, c);
    uint32_t identity;
    uint32_t n_bytes;

    if (n == NULL)
        return false;
    identity = session_claim(h->identities, SESSION_ENGINE, c->owner, 0, id);
    if (identity == SESSION_NONE) {
        session_free(&h->sockets, c->owner);
        c->owner = CONN_NONE;
        return false;
    }
    n->identity = identity;
    n->handshake = handshake;
    n->connect_in_ms = h->config->connect_timeout_ms;
    for (uint32_t i = 0; i < 3; i++) {
        raw[i] = (uint8_t)(host >> (16 - 8 * i));
        raw[3 + i] = (uint8_t)(identity >> (16 - 8 * i));
    }
    memcpy(raw + 6, id, sizeof id);
    base64url_encode(sid, raw, sizeof raw);
    c->kind = CONN_SOCKETIO;
    conn_become(c, CONN_OPEN);
    count_in(h, c);
    n_bytes = eio_put_open(packet, slice_of(sid, sizeof sid), false, h->config->ping_interval_ms,
                           h->config->ping_timeout_ms, h->config->max_message_bytes);
    n_bytes = client_frame_text(frame, packet, n_bytes);
    client_send(h, c, frame, n_bytes, false);
    client_arm_timer(h, c);
    return true;
}

bool client_open_echo(struct hub *h, struct conn *c)
{
    if (open_session(h, c) == NULL)
        return false;
    c->kind = CONN_ECHO;
    conn_become(c, CONN_OPEN);
    count_in(h, c);
    client_arm_timer(h, c);
    return true;
}

/* A socket with an identity of its own, PENDING. */
static struct sock *open_sock(struct hub *h, struct session *n, uint16_t nsp, uint8_t section)
{
    uint32_t index = sock_new(&h->sockets);
    uint8_t id[SOCKET_ID_BYTES];
    struct sock *k;

    if (index == SOCK_NONE)
        return NULL;
    k = sock_at(&h->sockets, index);
    sock_become(k, SOCK_PENDING);
    k->conn = n->conn;
    k->nsp = nsp;
    k->section = section;
    k->identity = session_claim(h->identities, SESSION_SOCKET, index, nsp, id);
    if (k->identity == SESSION_NONE) {
        sock_free(&h->sockets, index);
        return NULL;
    }
    session_link(&h->sockets, n, k);
    return k;
}

static void hold_rooms(struct hub *h, struct sock *k, const struct slice *rooms, uint32_t n_rooms)
{
    struct conn *c = conn_at(&h->conns, k->conn);
    struct slice nsp = namespace_name(&h->region, k->nsp);

    for (uint32_t i = 0; i < n_rooms; i++) {
        struct deferred_item item = item_for(h, c, k, DEFERRED_JOIN);

        item.room = room_ref(&h->rooms, record_hash(h->region.header->hash_key, nsp, rooms[i]),
                             k->nsp, rooms[i]);
        if (item.room == ROOM_NONE) {
            client_condemn(h, c, CLOSE_MEMORY, false);
            return;
        }
        k->n_joins++;
        at_position(h, item, ring_tail(&h->ring));
    }
}

bool client_open_room(struct hub *h, struct conn *c, const struct slice *rooms, uint32_t n_rooms)
{
    bool added;
    uint32_t nsp = namespace_intern(&h->region, slice_text("/ws"), UINT16_MAX, &added);
    struct session *n = nsp == NAMESPACE_NONE ? NULL : open_session(h, c);
    struct sock *k = n == NULL ? NULL : open_sock(h, n, (uint16_t)nsp, UINT8_MAX);

    if (k == NULL) {
        if (n != NULL)
            session_free(&h->sockets, c->owner);
        c->owner = CONN_NONE;
        return false;
    }
    c->kind = CONN_ROOM;
    conn_become(c, CONN_OPEN);
    count_in(h, c);
    count_socket(h, k->nsp, 1);
    k->first_room =
        room_ref(&h->rooms, record_hash(h->region.header->hash_key, slice_text("/ws"), rooms[0]),
                 k->nsp, rooms[0]);
    if (k->first_room == ROOM_NONE)
        client_condemn(h, c, CLOSE_MEMORY, false);
    sock_become(k, SOCK_ACTIVATING);
    at_position(h, item_for(h, c, k, DEFERRED_ACTIVATE), ring_tail(&h->ring));
    hold_rooms(h, k, rooms, n_rooms);
    client_arm_timer(h, c);
    return true;
}

/* --- namespaces --- */

void client_socket_id(struct hub *h, const struct sock *k, char id[SOCKET_ID_CHARS])
{
    base64url_encode(id, h->region.sessions[k->identity].id, SOCKET_ID_BYTES);
}

static void keep_auth(struct hub *h, uint32_t sock, struct slice auth)
{
    char *copy = auth.n_bytes > 2 ? malloc(auth.n_bytes + 1) : NULL; /* `{}` is what none means */

    h->sockets.auths[sock] = copy;
    if (copy == NULL)
        return;
    memcpy(copy, auth.bytes, auth.n_bytes);
    copy[auth.n_bytes] = 0;
}

struct sock *client_connect(struct hub *h, struct session *n, uint16_t nsp, uint8_t section,
                            struct slice auth)
{
    struct sock *k = open_sock(h, n, nsp, section);
    uint32_t index;

    if (k == NULL)
        return NULL;
    index = sock_index(&h->sockets, k);
    keep_auth(h, index, auth);
    return k;
}

/* `4`, type, namespace and comma. A custom namespace keeps its comma even without a payload. */
static uint32_t put_packet(char *out, enum sio_type type, struct slice nsp)
{
    return sio_put_header(out, type, 0, nsp, -1);
}

/* The CONNECT packet that answers, in its frame: with the pid where the client may come back. */
static uint32_t put_connect(struct hub *h, const struct sock *k, uint8_t frame[CLIENT_CONNECT_MAX])
{
    char packet[SIO_HEADER_MAX + NAME_BYTES_MAX + 64];
    uint32_t at = put_packet(packet, SIO_CONNECT, namespace_name(&h->region, k->nsp));

    memcpy(packet + at, "{\"sid\":\"", 8);
    client_socket_id(h, k, packet + at + 8);
    at += 8 + SOCKET_ID_CHARS;
    if (k->recoverable) {
        memcpy(packet + at, "\",\"pid\":\"", 9);
        recovery_pid(h, k, packet + at + 9);
        at += 9 + SOCKET_ID_CHARS;
    }
    memcpy(packet + at, "\"}", 2);
    return client_frame_text(frame, packet, at + 2);
}

struct sock *client_restore(struct hub *h, struct session *n, uint16_t nsp, uint8_t section,
                            uint32_t identity, struct slice auth)
{
    uint32_t index = sock_new(&h->sockets);
    struct sock *k;

    if (index == SOCK_NONE)
        return NULL;
    k = sock_at(&h->sockets, index);
    sock_become(k, SOCK_PENDING);
    k->conn = n->conn;
    k->nsp = nsp;
    k->section = section;
    k->identity = identity;
    keep_auth(h, index, auth);
    if (!sock_enter_namespace(&h->sockets, &h->rooms, k,
                              record_hash(h->region.header->hash_key,
                                          namespace_name(&h->region, nsp),
                                          (struct slice){ NULL, 0 }))) {
        sock_free(&h->sockets, index);
        return NULL;
    }
    session_link(&h->sockets, n, k);
    sock_become(k, SOCK_ACTIVATING);
    sock_become(k, SOCK_ACTIVE);
    n->connect_in_ms = 0;
    count_socket(h, nsp, 1);
    return k;
}

void client_send_connect(struct hub *h, struct sock *k)
{
    uint8_t frame[CLIENT_CONNECT_MAX];
    uint32_t n_bytes = put_connect(h, k, frame);

    client_send(h, conn_at(&h->conns, k->conn), frame, n_bytes, false);
}

void client_accept(struct hub *h, struct sock *k, const struct slice *rooms, uint32_t n_rooms)
{
    struct conn *c = conn_at(&h->conns, k->conn);
    struct session *n = session_at(&h->sockets, k->session);
    struct deferred_item item = item_for(h, c, k, DEFERRED_ACTIVATE);
    uint8_t frame[CLIENT_CONNECT_MAX];

    assert(k->state == SOCK_PENDING);
    sock_become(k, SOCK_ACTIVATING);
    n->connect_in_ms = 0;
    count_socket(h, k->nsp, 1);
    recovery_prepare(h, k);
    item.bytes = frame;
    item.n_bytes = put_connect(h, k, frame);
    at_position(h, item, ring_tail(&h->ring));
    hold_rooms(h, k, rooms, n_rooms);
}

void client_send_connect_error(struct hub *h, struct conn *c, struct slice nsp,
                               struct slice message, struct slice data)
{
    size_t max = SIO_HEADER_MAX + nsp.n_bytes + 6 * (size_t)message.n_bytes + data.n_bytes + 64;
    uint8_t *frame = malloc(WS_HEADER_MAX + 2 * max);
    char *packet;
    uint32_t at;

    if (frame == NULL) {
        client_condemn(h, c, CLOSE_MEMORY, false);
        return;
    }
    packet = (char *)frame + WS_HEADER_MAX + max;
    at = put_packet(packet, SIO_CONNECT_ERROR, nsp);
    memcpy(packet + at, "{\"message\":", 11);
    at += 11;
    at += json_put_string(packet + at, message);
    if (data.bytes != NULL) {
        memcpy(packet + at, ",\"data\":", 8);
        memcpy(packet + at + 8, data.bytes, data.n_bytes);
        at += 8 + data.n_bytes;
    }
    packet[at++] = '}';
    at = client_frame_text(frame, packet, at);
    client_send_later(h, c, frame, at, false);
    free(frame);
}

static void drop_sock(struct hub *h, struct sock *k, enum close_reason reason)
{
    struct session *n = session_at(&h->sockets, k->session);
    bool was_accepted = k->state == SOCK_ACTIVATING || k->state == SOCK_ACTIVE;

    if (h->socket_gone != NULL)
        h->socket_gone(h->socket_gone_context, k, reason);
    if (was_accepted)
        count_socket(h, k->nsp, -1);
    sock_leave_all(&h->sockets, &h->rooms, k);
    recovery_let_go(h, k, reason); /* its identity */
    session_unlink(&h->sockets, n, k);
    sock_free(&h->sockets, sock_index(&h->sockets, k));
}

void client_refuse(struct hub *h, struct sock *k, struct slice message, struct slice data)
{
    struct conn *c = conn_at(&h->conns, k->conn);

    assert(k->state == SOCK_PENDING);
    client_send_connect_error(h, c, namespace_name(&h->region, k->nsp), message, data);
    drop_sock(h, k, CLOSE_FORCED_CLOSE);
}

void client_leave(struct hub *h, struct sock *k, enum close_reason reason, bool tell)
{
    struct conn *c = conn_at(&h->conns, k->conn);

    if (tell && c->kind == CONN_SOCKETIO) {
        char packet[SIO_HEADER_MAX + NAME_BYTES_MAX];
        uint8_t frame[sizeof packet + WS_HEADER_MAX];
        uint32_t at = put_packet(packet, SIO_DISCONNECT, namespace_name(&h->region, k->nsp));

        at = client_frame_text(frame, packet, at);
        client_send_later(h, c, frame, at, false);
    }
    drop_sock(h, k, reason);
}

/* --- ends --- */

static void tear_down(struct hub *h, struct conn *c, enum close_reason reason)
{
    inputs_drop(h, c);
    ws_in_reset(&conn_cold(&h->conns, c)->ws, inputs_contexts(h));
    if (c->owner != CONN_NONE) {
        struct session *n = session_at(&h->sockets, c->owner);

        while (n->first_sock != SOCK_NONE)
            drop_sock(h, sock_at(&h->sockets, n->first_sock), reason);
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

void client_end(struct hub *h, struct conn *c, enum close_reason reason, uint16_t code,
                const char *why)
{
    uint8_t frame[WS_CONTROL_MAX + 2];
    bool is_ws = c->state == CONN_OPEN;
    enum outq_result result = OUTQ_OK;

    if (c->state != CONN_OPEN && c->state != CONN_HTTP)
        return;
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

/* --- rooms --- */

enum join_result client_join(struct hub *h, struct sock *k, const struct slice *rooms,
                             uint32_t n_rooms, uint32_t max_rooms)
{
    struct slice nsp = namespace_name(&h->region, k->nsp);
    uint32_t n_new = 0;

    for (uint32_t i = 0; i < n_rooms; i++) {
        uint32_t room = room_find(&h->rooms, record_hash(h->region.header->hash_key, nsp, rooms[i]),
                                  k->nsp, rooms[i]);

        n_new += room == ROOM_NONE || !sock_in_room(k, room);
    }
    if ((uint32_t)k->n_rooms + k->n_joins + n_new > max_rooms)
        return JOIN_LIMIT;
    if (!deferred_room(&h->deferred, n_rooms + 1)) /* and one for the answer */
        return JOIN_FULL;
    hold_rooms(h, k, rooms, n_rooms);
    return JOIN_OK;
}

enum join_result client_leave_rooms(struct hub *h, struct sock *k, const struct slice *rooms,
                                    uint32_t n_rooms)
{
    struct conn *c = conn_at(&h->conns, k->conn);
    struct slice nsp = namespace_name(&h->region, k->nsp);

    if (!deferred_room(&h->deferred, n_rooms + 1))
        return JOIN_FULL;
    for (uint32_t i = 0; i < n_rooms; i++) {
        struct deferred_item item = item_for(h, c, k, DEFERRED_LEAVE);

        item.room = room_find(&h->rooms, record_hash(h->region.header->hash_key, nsp, rooms[i]),
                              k->nsp, rooms[i]);
        if (item.room == ROOM_NONE)
            continue;
        room_at(&h->rooms, item.room)->refs++; /* until it has been carried out */
        at_position(h, item, ring_tail(&h->ring));
    }
    return JOIN_OK;
}

bool client_in_room(struct hub *h, const struct sock *k, uint32_t room)
{
    if (room == ROOM_NONE)
        return false;
    if (sock_in_room(k, room))
        return true;
    if (k->n_joins == 0)
        return false;
    /* `join` and `publish` in one breath: the join is in order before whatever is appended now */
    for (uint32_t i = 0; i < h->deferred.n; i++) {
        const struct deferred_item *item =
            &h->deferred.items[(h->deferred.head + i) % h->deferred.max];

        if (item->kind == DEFERRED_JOIN && item->room == room &&
            item->sock == sock_index(&h->sockets, k) && item->sock_generation == k->generation)
            return true;
    }
    return false;
}
