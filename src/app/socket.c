/* socket.c: include/peal/app.h, what is done to one socket, and asked of it. */
#include <stdlib.h>

#include "app/host.h"
#include "proto/json.h"
#include "session/ends.h"
#include "session/handshake.h"
#include "session/select.h"

#define DATA_NONE ((struct peal_text){ "{}", 2 })

static enum peal_result result_from_join(enum join_result result)
{
    switch (result) {
    case JOIN_OK: return PEAL_OK;
    case JOIN_LIMIT: return PEAL_LIMIT;
    case JOIN_FULL: break;
    }
    return PEAL_FULL;
}

/* The socket that a call of `function` is to change: PEAL_THREAD, PEAL_GONE, or PEAL_OK and `*k`. */
static enum peal_result reach(struct peal_host *host, peal_socket socket, const char *function,
                              struct sock **k)
{
    if (!host_on_loop(host, function))
        return PEAL_THREAD;
    *k = host_living(host, socket);
    return *k == NULL ? PEAL_GONE : PEAL_OK;
}

/* --- answers to `connect` --- */

void host_accept(struct peal_host *host, struct sock *k, const struct slice *rooms,
                 uint32_t n_rooms)
{
    client_accept(host->hub, k, rooms, n_rooms);
    if (host_app(host, k)->api->connection != NULL)
        local_untold_add(&host->locals, sock_index(&host->hub->sockets, k));
}

void host_answered(struct peal_host *host, const struct sock *k)
{
    struct local *l = host_local(host, k);

    if ((l->flags & LOCAL_WAITS) == 0)
        return;
    l->flags &= (uint8_t)~LOCAL_WAITS;
    timer_cancel(&host->timers, l->answer_timer);
    l->answer_timer = 0;
    host->n_pending--;
}

static void no_answer(struct peal_host *host, void *context)
{
    struct sock *k = host_sock(host, (uint64_t)(uintptr_t)context);

    if (k == NULL || k->state != SOCK_PENDING)
        return;
    host_answered(host, k);
    client_refuse(host->hub, k, REFUSED_NO_ANSWER,
                  slice_text("the application did not answer in time"), (struct slice){ NULL, 0 });
}

void host_await_answer(struct peal_host *host, struct sock *k)
{
    struct local *l = host_local(host, k);
    peal_socket socket = host_socket(host->hub, k);

    if (host->n_pending == PENDING_CONNECTS_MAX) {
        client_refuse(host->hub, k, REFUSED_FULL, slice_text("Server is full"),
                      (struct slice){ NULL, 0 });
        return;
    }
    host->n_pending++;
    l->flags |= LOCAL_WAITS;
    l->answer_timer =
        timer_new(&host->timers, NULL, host->hub->now_ms + host->hub->config->connect_timeout_ms, 0,
                  no_answer, (void *)(uintptr_t)socket);
}

enum peal_result peal_accept(struct peal_host *host, peal_socket socket,
                             const struct peal_text *rooms, uint32_t n_rooms)
{
    struct slice names[PEAL_ROOMS_MAX];
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    if (k->state != SOCK_PENDING || !names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    if (n_rooms > peal_policy(host, socket).max_rooms_per_socket)
        return PEAL_LIMIT;
    if (!client_has_room(host->hub, n_rooms + 1))
        return PEAL_FULL;
    host_answered(host, k);
    host_accept(host, k, names, n_rooms);
    return PEAL_OK;
}

enum peal_result peal_refuse(struct peal_host *host, peal_socket socket, struct peal_text message,
                             struct peal_text data)
{
    enum json_kind kind;
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    if (k->state != SOCK_PENDING || (data.bytes != NULL && !json_valid(slice_from(data), &kind)))
        return PEAL_INVALID;
    if (!client_has_room(host->hub, 1))
        return PEAL_FULL;
    host_answered(host, k);
    client_refuse(host->hub, k, REFUSED_BY_APPLICATION,
                  slice_of(message.bytes == NULL ? "" : message.bytes, message.n_bytes),
                  slice_from(data));
    return PEAL_OK;
}

/* --- asking --- */

enum peal_result peal_socket_id(struct peal_host *host, peal_socket socket,
                                char id[PEAL_SOCKET_ID_BYTES])
{
    const struct sock *k;

    if (!host_on_loop(host, __func__))
        return PEAL_THREAD;
    k = host_sock(host, socket);
    if (k == NULL)
        return PEAL_GONE;
    client_socket_id(host->hub, k, id);
    return PEAL_OK;
}

peal_socket peal_find(struct peal_host *host, struct peal_text nsp, struct peal_text id)
{
    uint32_t index;
    const struct sock *k;

    if (!host_on_loop(host, __func__))
        return 0;
    index = namespace_find(&host->hub->region, slice_from(nsp));
    k = index == NAMESPACE_NONE ? NULL : select_by_id(host->hub, slice_from(id), (uint16_t)index);
    return k == NULL || k->section == UINT8_MAX ? 0 : host_socket(host->hub, k);
}

struct peal_text peal_namespace(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;

    return k == NULL ? (struct peal_text){ NULL, 0 }
                     : text_from(namespace_name(&host->hub->region, k->nsp));
}

struct peal_text peal_auth(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;
    const char *auth;

    if (k == NULL)
        return (struct peal_text){ NULL, 0 };
    auth = host->hub->sockets.auths[sock_index(&host->hub->sockets, k)];
    return auth == NULL ? DATA_NONE : peal_text(auth);
}

struct peal_text peal_handshake(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;
    struct hub *h = host->hub;
    const struct session *n;
    struct slice auth;
    uint32_t max;

    if (k == NULL)
        return (struct peal_text){ NULL, 0 };
    n = session_at(&h->sockets, k->session);
    auth = slice_from(peal_auth(host, socket));
    max = handshake_json_max(n->handshake, auth);
    if (max > host->handshake_max) {
        char *grown = realloc(host->handshake, max);

        if (grown == NULL)
            return (struct peal_text){ NULL, 0 };
        host->handshake = grown;
        host->handshake_max = max;
    }
    return (struct peal_text){
        host->handshake,
        handshake_put_json(host->handshake, n->handshake,
                           &conn_cold(&h->conns, conn_at(&h->conns, k->conn))->peer, auth)
    };
}

struct peal_policy peal_policy(struct peal_host *host, peal_socket socket)
{
    const struct config *config = host->hub->config;
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;
    const struct config_namespace *section;

    if (k == NULL)
        return (struct peal_policy){ 0 };
    section = k->section == UINT8_MAX ? &config->ws : &config->namespaces[k->section];
    return (struct peal_policy){
        .client_join = section->client_join,
        .client_publish = (enum peal_publish)section->client_publish,
        .max_rooms_per_socket = section->max_rooms_per_socket,
        .forward_timeout_ms = section->forward_timeout_ms,
    };
}

/* --- rooms --- */

enum peal_result peal_join(struct peal_host *host, peal_socket socket,
                           const struct peal_text *rooms, uint32_t n_rooms)
{
    struct slice names[PEAL_ROOMS_MAX];
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    if (k->state == SOCK_PENDING || !names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    return result_from_join(
        client_join(host->hub, k, names, n_rooms, peal_policy(host, socket).max_rooms_per_socket));
}

enum peal_result peal_leave(struct peal_host *host, peal_socket socket,
                            const struct peal_text *rooms, uint32_t n_rooms)
{
    struct slice names[PEAL_ROOMS_MAX];
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    if (!names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    return result_from_join(client_leave_rooms(host->hub, k, names, n_rooms));
}

bool peal_recovered(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;

    return k != NULL && k->recovered;
}

bool peal_in_room(struct peal_host *host, peal_socket socket, struct peal_text room)
{
    struct hub *h = host->hub;
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;
    uint64_t hash;

    if (k == NULL)
        return false;
    hash = record_hash(h->region.header->hash_key, namespace_name(&h->region, k->nsp),
                       slice_from(room));
    return client_in_room(h, k, room_find(&h->rooms, hash, k->nsp, slice_from(room)));
}

uint32_t peal_rooms(struct peal_host *host, peal_socket socket, struct peal_text *rooms,
                    uint32_t max)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;

    if (k == NULL)
        return 0;
    for (uint32_t i = 0; i < k->n_rooms && i < max; i++)
        rooms[i] = text_from(room_name(room_at(&host->hub->rooms, k->rooms[i].room)));
    return k->n_rooms;
}

/* --- ends --- */

/* Another socket of the connection that can be taken out: not one whose disconnect handlers are running. */
static struct sock *next_to_leave(struct peal_host *host, const struct session *n)
{
    struct hub *h = host->hub;

    for (uint32_t i = n->first_sock; i != SOCK_NONE; i = sock_at(&h->sockets, i)->next)
        if ((host->locals.items[i].flags & LOCAL_LEAVING) == 0)
            return sock_at(&h->sockets, i);
    return NULL;
}

enum peal_result peal_disconnect(struct peal_host *host, peal_socket socket, bool close)
{
    struct hub *h = host->hub;
    const struct session *n;
    struct conn *c;
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    n = session_at(&h->sockets, k->session);
    if (!deferred_room(&h->deferred, n->n_socks))
        return PEAL_FULL;
    if (!close) {
        client_leave(h, k, CLOSE_SERVER_NAMESPACE_DISCONNECT, k->state != SOCK_PENDING);
        return PEAL_OK;
    }
    c = conn_at(&h->conns, k->conn);
    /* as Node: a DISCONNECT for each namespace, then the close */
    while ((k = next_to_leave(host, n)) != NULL)
        client_leave(h, k, CLOSE_SERVER_NAMESPACE_DISCONNECT, k->state != SOCK_PENDING);
    client_end_later(h, c);
    return PEAL_OK;
}

/* --- what is kept with it --- */

enum peal_result peal_set_data(struct peal_host *host, peal_socket socket, struct peal_text json)
{
    enum json_kind kind;
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    if (json.bytes != NULL && !json_valid(slice_from(json), &kind))
        return PEAL_INVALID;
    switch (local_set_data(&host->locals, sock_index(&host->hub->sockets, k), slice_from(json))) {
    case LOCAL_OK: return PEAL_OK;
    case LOCAL_LIMIT: return PEAL_LIMIT;
    case LOCAL_NO_MEMORY: break;
    }
    return PEAL_FULL;
}

struct peal_text peal_data(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;
    const struct local *l = k == NULL ? NULL : host_local(host, k);

    if (l == NULL)
        return (struct peal_text){ NULL, 0 };
    return l->data == NULL ? DATA_NONE : (struct peal_text){ l->data, l->n_data };
}

enum peal_result peal_set_pointer(struct peal_host *host, peal_socket socket, void *pointer,
                                  void (*release)(void *pointer))
{
    struct sock *k;
    enum peal_result result;

    result = reach(host, socket, __func__, &k);
    if (result != PEAL_OK)
        return result;
    local_set_pointer(&host->locals, sock_index(&host->hub->sockets, k), pointer, release);
    return PEAL_OK;
}

void *peal_pointer(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_on_loop(host, __func__) ? host_sock(host, socket) : NULL;

    return k == NULL ? NULL : host_local(host, k)->pointer;
}
