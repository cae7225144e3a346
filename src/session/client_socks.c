/* client_socks.c: sockets in namespaces: CONNECT and its answers, rooms, and what is deferred to a position of the ring. The clients that they belong to: clients.c.
 *
 * Invariant: a socket's own joins and leaves take effect at the tail of the moment at which it asked; answers never overtake the records before them.
 *            One list in position order serves both (deferred.h). */
#include "session/client_socks.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/json.h"
#include "proto/socketio.h"
#include "session/recovery.h"
#include "session/room_news.h"
#include "shm/atomic.h"

/* --- at a position of the ring --- */

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

/* An application is told a record, and has appended nothing since: what it does counts from that record on, not from the tail. */
static bool is_prompt(const struct hub *h)
{
    return h->prompt_append == h->last_append;
}

bool client_has_room(const struct hub *h, uint32_t n)
{
    return is_prompt(h) || deferred_room(&h->deferred, n);
}

/* Carries `item` out now if the ring has been taken in that far, else when it has. */
static void at_position(struct hub *h, struct deferred_item item, uint64_t position)
{
    if (is_prompt(h)) {
        run(h, &item);
        return;
    }
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

/* --- coming and going --- */

void client_count_deflater(struct hub *h, const struct sock *k, int by)
{
    if ((conn_at(&h->conns, k->conn)->flags & CONN_DEFLATE) != 0)
        namespace_add_deflaters(&h->region, k->nsp, by);
}

void client_count_socket(struct hub *h, const struct sock *k, int by)
{
    client_count_deflater(h, k, by);
    shm_store_u32(&h->row->sockets[k->nsp], h->row->sockets[k->nsp] + (uint32_t)by);
    room_news_note_socket(h, k, by > 0);
}

/* PENDING, without an identity, and not linked to its session yet. NULL: the table is full. */
static struct sock *take_sock(struct hub *h, const struct session *n, uint16_t nsp, uint8_t section)
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
    return k;
}

struct sock *client_sock_new(struct hub *h, struct session *n, uint16_t nsp, uint8_t section)
{
    struct sock *k = take_sock(h, n, nsp, section);
    uint8_t id[SOCKET_ID_BYTES];
    uint32_t index;

    if (k == NULL)
        return NULL;
    index = sock_index(&h->sockets, k);
    k->identity = session_claim(h->identities, SESSION_SOCKET, index, nsp, id);
    if (k->identity == SESSION_NONE) {
        sock_free(&h->sockets, index);
        return NULL;
    }
    session_link(&h->sockets, n, k);
    namespace_use(&h->region, nsp);
    return k;
}

void client_activate(struct hub *h, struct sock *k)
{
    at_position(h, item_for(h, conn_at(&h->conns, k->conn), k, DEFERRED_ACTIVATE),
                ring_tail(&h->ring));
}

void client_hold_rooms(struct hub *h, struct sock *k, const struct slice *rooms, uint32_t n_rooms)
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
    struct sock *k = client_sock_new(h, n, nsp, section);

    if (k != NULL)
        keep_auth(h, sock_index(&h->sockets, k), auth);
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
    struct sock *k = take_sock(h, n, nsp, section);
    uint32_t index;

    if (k == NULL)
        return NULL;
    index = sock_index(&h->sockets, k);
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
    namespace_use(&h->region, nsp);
    sock_become(k, SOCK_ACTIVATING);
    sock_become(k, SOCK_ACTIVE);
    n->connect_by_ms = 0;
    client_count_socket(h, k, 1);
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
    n->connect_by_ms = 0;
    client_count_socket(h, k, 1);
    recovery_prepare(h, k);
    item.bytes = frame;
    item.n_bytes = put_connect(h, k, frame);
    at_position(h, item, ring_tail(&h->ring));
    client_hold_rooms(h, k, rooms, n_rooms);
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
        h->socket_gone(h->apps_context, k, reason, false);
    if (was_accepted)
        client_count_socket(h, k, -1);
    recovery_leaving(h, k, reason);
    sock_leave_all(&h->sockets, &h->rooms, k);
    if (h->socket_gone != NULL)
        h->socket_gone(h->apps_context, k, reason, true);
    recovery_let_go(h, k, reason); /* its identity */
    session_unlink(&h->sockets, n, k);
    namespace_leave(&h->region, k->nsp);
    sock_free(&h->sockets, sock_index(&h->sockets, k));
}

void client_refuse(struct hub *h, struct sock *k, enum connect_refusal reason, struct slice message,
                   struct slice data)
{
    struct conn *c = conn_at(&h->conns, k->conn);

    assert(k->state == SOCK_PENDING);
    count_add(h->row, COUNT_CONNECT_REFUSED_FIRST + reason, 1);
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

void client_drop_socks(struct hub *h, struct session *n, enum close_reason reason)
{
    while (n->first_sock != SOCK_NONE)
        drop_sock(h, sock_at(&h->sockets, n->first_sock), reason);
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
    if (!client_has_room(h, n_rooms + 1)) /* and one for the answer */
        return JOIN_FULL;
    client_hold_rooms(h, k, rooms, n_rooms);
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
