/* dispatch.c: Socket.IO packets to applications.
 *
 * Source of what is closed, refused or ignored: socket.io 4.8.4 (client.ts, namespace.ts), recorded in tests/vectors/socketio-packets.json. */
#include "app/dispatch.h"

#include <assert.h>

#include "proto/json.h"
#include "session/emit.h"
#include "session/ends.h"
#include "session/publish.h"
#include "session/query.h"
#include "session/recovery.h"

/* --- opening namespaces --- */

/* Node closes the whole connection for packets that its state does not allow. */
static void close_for_state(struct hub *h, struct conn *c)
{
    client_end(h, c, CLOSE_FORCED_SERVER_CLOSE, WS_CLOSE_NO_STATUS, NULL);
}

static void announce_namespace(struct hub *h, uint32_t nsp)
{
    struct record_spec spec = { .nsp = namespace_name(&h->region, nsp) };

    spec.header.kind = RECORD_NAMESPACE;
    replies_push(h, &spec);
}

static void ask_application(struct peal_host *host, struct sock *k, struct slice auth)
{
    struct app *app = host_app(host, k);
    peal_socket socket = host_socket(host->hub, k);
    struct handler call;

    if (app->api->connect == NULL) {
        host_accept(host, k, NULL, 0);
    } else {
        host_enter(host, &call, app, "connect");
        app->api->connect(host, socket,
                          auth.bytes == NULL ? (struct peal_text){ "{}", 2 } : text_from(auth));
        host_leave(host, &call, (struct peal_text){ NULL, 0 });
    }
    k = host_sock(host, socket);
    if (k == NULL)
        return; /* refused */
    if (k->state == SOCK_PENDING)
        host_await_answer(host, k);
    else
        (void)host_tell(host, k); /* FULL: it is told in a later turn, or before its first event */
}

static void refuse(struct hub *h, struct conn *c, struct slice nsp, enum connect_refusal reason)
{
    static const char *const texts[CONNECT_REFUSALS] = {
        [REFUSED_INVALID_NAMESPACE] = "Invalid namespace", /* Node's */
        [REFUSED_TOO_MANY_NAMESPACES] = "Too many namespaces in use under this prefix",
        [REFUSED_FULL] = "Server is full",
    };

    count_add(h->row, COUNT_CONNECT_REFUSED_FIRST + reason, 1);
    client_send_connect_error(h, c, nsp, slice_text(texts[reason]), (struct slice){ NULL, 0 });
}

/* A CONNECT that does not come back to an earlier session, or cannot (hub.connect_anew). */
static void connect_anew(void *context, struct session *n, uint16_t nsp, uint8_t section,
                         struct slice auth)
{
    struct peal_host *host = context;
    struct hub *h = host->hub;
    struct sock *k = client_connect(h, n, nsp, section, auth);

    if (k == NULL)
        refuse(h, conn_at(&h->conns, n->conn), namespace_name(&h->region, nsp), REFUSED_FULL);
    else
        ask_application(host, k, auth);
}

/* As in Node with skipMiddlewares: it was let in before, and is not asked again (hub.socket_recovered). */
static void socket_recovered(void *context, struct sock *k)
{
    struct peal_host *host = context;

    if (host_app(host, k)->api->connection == NULL)
        return;
    local_untold_add(&host->locals, sock_index(&host->hub->sockets, k));
    (void)host_tell(host, k); /* FULL: in a later turn, or before its first event */
}

void dispatch_hook_recovery(struct peal_host *host)
{
    host->hub->connect_anew = connect_anew;
    host->hub->socket_recovered = socket_recovered;
}

static enum dispatch_result on_connect(struct peal_host *host, struct conn *c,
                                       const struct sio_packet *packet)
{
    struct hub *h = host->hub;
    struct session *n = session_at(&h->sockets, c->owner);
    const struct config_namespace *section =
        packet->nsp.n_bytes > NAME_BYTES_MAX ? NULL : config_namespace_find(h->config, packet->nsp);
    uint8_t index;
    uint32_t nsp;

    if (section == NULL) {
        refuse(h, c, packet->nsp, REFUSED_INVALID_NAMESPACE);
        return DISPATCH_DONE;
    }
    index = (uint8_t)(section - h->config->namespaces);
    switch (namespace_enter(&h->region, packet->nsp, index, h->now_ms, &nsp)) {
    case NAMESPACE_OK: break;
    case NAMESPACE_ADDED: announce_namespace(h, nsp); break;
    case NAMESPACE_FULL:
        refuse(h, c, packet->nsp, REFUSED_TOO_MANY_NAMESPACES);
        return DISPATCH_DONE;
    case NAMESPACE_BUSY: return DISPATCH_FULL;
    }
    if (session_find_sock(&h->sockets, n, (uint16_t)nsp) != NULL)
        close_for_state(h, c);
    else if (!recovery_begin(h, n, (uint16_t)nsp, index, packet->payload))
        connect_anew(host, n, (uint16_t)nsp, index, packet->payload);
    namespace_leave(&h->region, nsp); /* the socket uses it, if there is one */
    return DISPATCH_DONE;
}

/* --- events --- */

struct peal_text dispatch_event_name(struct slice array, char name[NAME_BYTES_MAX + 1])
{
    struct json_iter it = json_iter_open(array);
    struct slice first;
    enum json_kind kind;
    uint32_t n_bytes;

    if (!json_iter_next(&it, NULL, &first, &kind) || kind != JSON_STRING)
        return (struct peal_text){ NULL, 0 };
    n_bytes = json_unescape(first, name, NAME_BYTES_MAX + 1);
    return n_bytes > NAME_BYTES_MAX ? (struct peal_text){ NULL, 0 }
                                    : (struct peal_text){ name, n_bytes };
}

static enum peal_result call_event(struct peal_host *host, struct app *app, struct sock *k,
                                   const struct sio_packet *packet, struct peal_event *event,
                                   bool *handled)
{
    struct hub *h = host->hub;
    peal_socket socket = host_socket(h, k);
    struct ticket ticket = { .id = packet->id, .socket = socket };
    enum peal_result result;
    struct handler call;

    if (packet->has_id)
        event->ack = ticket_new(&host->tickets, &host_local(host, k)->tickets, &ticket);
    host_enter(host, &call, app, "event");
    host->in_hand = packet->payload;
    host->n_attached = event->message.n_attachments;
    host->retried = true;
    result = app->api->event(host, socket, event, handled);
    host_leave(host, &call, event->name);
    if (result == PEAL_FULL ||
        !*handled) { /* it comes again with another ticket, or nobody will answer it */
        struct ticket *t = ticket_find(&host->tickets, event->ack);

        if (t != NULL)
            ticket_use(&host->tickets, &host_local(host, k)->tickets, t);
    }
    return result;
}

static enum dispatch_result on_event(struct peal_host *host, struct conn *c, struct sock *k,
                                     const struct sio_packet *packet,
                                     const struct slice *attachments, uint32_t n_attachments)
{
    struct hub *h = host->hub;
    struct app *app = host_app(host, k);
    peal_socket socket = host_socket(h, k);
    struct peal_text texts[SIO_ATTACHMENTS_MAX];
    struct peal_event event = { .message = { .json = text_from(packet->payload),
                                             .attachments = texts,
                                             .n_attachments = n_attachments } };
    char name[NAME_BYTES_MAX + 1];
    bool handled = app->api->event != NULL;
    enum peal_result result = PEAL_OK;

    if (packet->payload.bytes == NULL)
        return DISPATCH_DONE; /* `42` alone: no event is seen */
    if (host_tell(host, k) == PEAL_FULL)
        return DISPATCH_FULL; /* `connection` comes first */
    if (host_sock(host, socket) == NULL)
        return DISPATCH_DONE; /* and put it out */
    for (uint32_t i = 0; i < n_attachments; i++)
        texts[i] = text_from(attachments[i]);
    if (handled) {
        event.name = dispatch_event_name(packet->payload, name);
        result = call_event(host, app, k, packet, &event, &handled);
    }
    if (!handled)
        count_add(h->row, COUNT_EVENTS_UNHANDLED, 1);
    if (result == PEAL_FULL)
        return host_sock(host, socket) == NULL ? DISPATCH_DONE : DISPATCH_FULL;
    if (result == PEAL_TOO_BIG)
        client_end(h, c, CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG,
                   "event too big for the server (event_bytes_max, ring_bytes)");
    return DISPATCH_DONE;
}

/* --- packets --- */

static struct sock *joined(struct hub *h, const struct conn *c, struct slice nsp)
{
    uint32_t index = namespace_find(&h->region, nsp);
    struct sock *k =
        index == NAMESPACE_NONE
            ? NULL
            : session_find_sock(&h->sockets, session_at(&h->sockets, c->owner), (uint16_t)index);

    return k == NULL || k->state == SOCK_PENDING ? NULL : k;
}

static enum dispatch_result on_packet(struct peal_host *host, struct conn *c,
                                      const struct sio_packet *packet,
                                      const struct slice *attachments, uint32_t n_attachments)
{
    struct hub *h = host->hub;
    struct sock *k;

    if (packet->type == SIO_CONNECT)
        return on_connect(host, c, packet);
    k = joined(h, c, packet->nsp);
    if (k == NULL) {
        close_for_state(h, c);
        return DISPATCH_DONE;
    }
    switch (packet->type) {
    case SIO_EVENT:
    case SIO_BINARY_EVENT: return on_event(host, c, k, packet, attachments, n_attachments);
    case SIO_ACK:
    case SIO_BINARY_ACK:
        if (packet->has_id)
            (void)query_take_ack(h, k, packet->id, packet->payload, attachments,
                                 n_attachments); /* unknown ids are ignored */
        return DISPATCH_DONE;
    case SIO_DISCONNECT:
        client_leave(h, k, CLOSE_CLIENT_NAMESPACE_DISCONNECT, false);
        return DISPATCH_DONE;
    case SIO_CONNECT_ERROR: close_for_state(h, c); return DISPATCH_DONE;
    case SIO_CONNECT: break;
    }
    return DISPATCH_DONE;
}

enum dispatch_result dispatch_packet(struct peal_host *host, struct conn *c,
                                     const struct sio_packet *packet,
                                     const struct slice *attachments, uint32_t n_attachments)
{
    enum dispatch_result result = on_packet(host, c, packet, attachments, n_attachments);

    clients_end_due(host->hub);
    return c->state == CONN_OPEN ? result : DISPATCH_DONE;
}

enum dispatch_result dispatch_frame(struct peal_host *host, struct conn *c, struct slice payload,
                                    bool binary)
{
    struct hub *h = host->hub;
    struct session *n = session_at(&h->sockets, c->owner);
    struct sock *k = sock_at(&h->sockets, n->first_sock);
    struct slice room;
    char id[SOCKET_ID_CHARS];
    struct slice self = { id, sizeof id };
    struct emit to = {
        .nsp = slice_text("/ws"), .rooms = &room, .n_rooms = 1, .except = &self, .n_except = 1
    };

    if (h->config->ws.client_publish == PUBLISH_NONE) {
        client_end(h, c, CLOSE_POLICY, WS_CLOSE_POLICY,
                   "publishing is not allowed here (client_publish = none)");
        return DISPATCH_DONE;
    }
    assert(k->first_room != ROOM_NONE);
    room = room_name(room_at(&h->rooms, k->first_room));
    client_socket_id(h, k, id);
    switch (emit_frame(h, &to, payload, binary)) {
    case RING_OK: return DISPATCH_DONE;
    case RING_FULL: return DISPATCH_FULL;
    case RING_TOO_BIG: break;
    }
    client_end(h, c, CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG,
               "message too big for the server (ring_bytes)");
    return DISPATCH_DONE;
}
