/* dispatch.c: Socket.IO packets to applications.
 *
 * Source of what is closed, refused or ignored: socket.io 4.8.4 (client.ts, namespace.ts), recorded in tests/vectors/socketio-packets.json. */
#include "app/dispatch.h"

#include <assert.h>

#include "app/relay.h"
#include "proto/json.h"
#include "session/emit.h"
#include "session/publish.h"
#include "session/query.h"
#include "session/recovery.h"

static const struct peal_app nothing_app = { .abi = PEAL_APP_ABI, .name = "none" };

static const struct peal_app *app_of(const struct config *config, uint8_t section)
{
    const struct config_namespace *ns = &config->namespaces[section];

    if (config->demo && strcmp(ns->name, "/demo") == 0 && ns->app == APP_RELAY)
        return &demo_app;
    return ns->app == APP_RELAY ? &relay_app : &nothing_app;
}

/* Node closes the whole connection for packets that its state does not allow. */
static void close_for_state(struct hub *h, struct conn *c)
{
    client_end(h, c, CLOSE_FORCED_SERVER_CLOSE, WS_CLOSE_NO_STATUS, NULL);
}

static void announce_namespace(struct hub *h, uint32_t nsp)
{
    struct record_spec spec = { .nsp = namespace_name(&h->region, nsp) };

    spec.header.kind = RECORD_NAMESPACE;
    spec.header.detail = nsp;
    replies_push(h, &spec);
}

static void on_connect(struct peal_host *host, struct conn *c, const struct sio_packet *packet)
{
    struct hub *h = host->hub;
    struct session *n = session_at(&h->sockets, c->owner);
    const struct config_namespace *section =
        packet->nsp.n_bytes > NAME_BYTES_MAX ? NULL : config_namespace_find(h->config, packet->nsp);
    uint8_t index;
    uint32_t nsp;
    bool added;

    if (section == NULL) {
        client_send_connect_error(h, c, packet->nsp, slice_text("Invalid namespace"),
                                  (struct slice){ NULL, 0 });
        return;
    }
    index = (uint8_t)(section - h->config->namespaces);
    nsp = namespace_intern(&h->region, packet->nsp, index, &added);
    if (nsp == NAMESPACE_NONE) {
        client_send_connect_error(h, c, packet->nsp, slice_text("Too many namespaces"),
                                  (struct slice){ NULL, 0 });
        return;
    }
    if (added)
        announce_namespace(h, nsp);
    if (session_find_sock(&h->sockets, n, (uint16_t)nsp) != NULL) {
        close_for_state(h, c);
        return;
    }
    if (!recovery_begin(h, n, (uint16_t)nsp, index, packet->payload))
        dispatch_connect_anew(host, n, (uint16_t)nsp, index, packet->payload);
}

void dispatch_connect_anew(void *context, struct session *n, uint16_t nsp, uint8_t section,
                           struct slice auth)
{
    struct peal_host *host = context;
    struct hub *h = host->hub;
    const struct peal_app *app = app_of(h->config, section);
    struct sock *k = client_connect(h, n, nsp, section, auth);

    if (k == NULL)
        client_send_connect_error(h, conn_at(&h->conns, n->conn), namespace_name(&h->region, nsp),
                                  slice_text("Server is full"), (struct slice){ NULL, 0 });
    else if (app->connect == NULL)
        client_accept(h, k, NULL, 0);
    else
        app->connect(host, host_socket(h, k),
                     auth.bytes == NULL ? (struct peal_text){ "{}", 2 }
                                        : (struct peal_text){ auth.bytes, auth.n_bytes });
}

/* As in Node with skipMiddlewares: it was let in before, and is not asked again. */
void dispatch_socket_recovered(void *context, struct sock *k)
{
    struct peal_host *host = context;
    const struct peal_app *app = app_of(host->hub->config, k->section);

    if (app->recovered != NULL)
        app->recovered(host, host_socket(host->hub, k));
}

static enum dispatch_result on_event(struct peal_host *host, struct conn *c, struct sock *k,
                                     const struct sio_packet *packet,
                                     const struct slice *attachments, uint32_t n_attachments)
{
    struct hub *h = host->hub;
    const struct peal_app *app = app_of(h->config, k->section);
    struct peal_text texts[SIO_ATTACHMENTS_MAX];
    struct peal_event event = {
        .json = { packet->payload.bytes, packet->payload.n_bytes },
        .attachments = texts,
        .n_attachments = n_attachments,
        .ack = host_ack(packet->has_id, packet->id),
    };
    char name[NAME_BYTES_MAX + 1];
    struct json_iter it;
    struct slice key;
    struct slice first;
    enum json_kind kind;
    bool handled = app->event != NULL;
    enum peal_result result = PEAL_OK;

    if (packet->payload.bytes == NULL)
        return DISPATCH_DONE; /* `42` alone: no event is seen */
    for (uint32_t i = 0; i < n_attachments; i++)
        texts[i] = (struct peal_text){ attachments[i].bytes, attachments[i].n_bytes };
    it = json_iter_open(packet->payload);
    if (json_iter_next(&it, &key, &first, &kind) && kind == JSON_STRING) {
        uint32_t n_bytes = json_unescape(first, name, sizeof name);

        if (n_bytes <= NAME_BYTES_MAX)
            event.name = (struct peal_text){ name, n_bytes };
    }
    if (handled)
        result = app->event(host, host_socket(h, k), &event, &handled);
    if (!handled)
        count_add(h->row, COUNT_EVENTS_UNHANDLED, 1);
    if (result == PEAL_FULL)
        return DISPATCH_FULL;
    if (result == PEAL_TOO_BIG)
        client_end(h, c, CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG,
                   "event too big for the server (event_bytes_max, ring_bytes)");
    return DISPATCH_DONE;
}

static struct sock *joined(struct hub *h, const struct conn *c, struct slice nsp)
{
    uint32_t index = namespace_find(&h->region, nsp);
    struct sock *k =
        index == NAMESPACE_NONE
            ? NULL
            : session_find_sock(&h->sockets, session_at(&h->sockets, c->owner), (uint16_t)index);

    return k == NULL || k->state == SOCK_PENDING ? NULL : k;
}

enum dispatch_result dispatch_packet(struct peal_host *host, struct conn *c,
                                     const struct sio_packet *packet,
                                     const struct slice *attachments, uint32_t n_attachments)
{
    struct hub *h = host->hub;
    struct sock *k;

    if (packet->type == SIO_CONNECT) {
        on_connect(host, c, packet);
        return DISPATCH_DONE;
    }
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

void dispatch_second(struct peal_host *host)
{
    if (host->hub->config->demo)
        demo_app.second(host);
}

void dispatch_socket_gone(void *context, struct sock *k, enum close_reason reason)
{
    struct peal_host *host = context;
    const struct peal_app *app;

    if (k->section == UINT8_MAX || (k->state != SOCK_ACTIVATING && k->state != SOCK_ACTIVE))
        return;
    app = app_of(host->hub->config, k->section);
    if (app->disconnect != NULL)
        app->disconnect(host, host_socket(host->hub, k), close_reason_name(reason));
}
