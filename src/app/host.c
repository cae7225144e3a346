/* host.c: include/peal/app.h on top of the session layer.
 *
 * A peal_socket is an index and a generation: using one after its end is found out and answered with PEAL_GONE, never obeyed. */
#include "app/host.h"

#include <stdlib.h>

#include "base/log.h"
#include "proto/json.h"
#include "proto/socketio.h"
#include "session/emit.h"
#include "shm/atomic.h"

#define NAMES_MAX         1024
#define REPLY_SMALL_BYTES 1024 /* acknowledgements up to about 400 bytes: on the stack */

static struct slice slice_from(struct peal_text t)
{
    return (struct slice){ t.bytes, t.n_bytes };
}

static struct peal_text text_from(struct slice s)
{
    return (struct peal_text){ s.bytes, s.n_bytes };
}

peal_socket host_socket(struct hub *h, const struct sock *k)
{
    return (uint64_t)k->generation << 32 | ((uint64_t)sock_index(&h->sockets, k) + 1);
}

struct sock *host_sock(const struct peal_host *host, peal_socket socket)
{
    uint32_t index = (uint32_t)socket - 1;
    struct sock *k;

    if ((uint32_t)socket == 0 || index >= host->hub->sockets.fresh_sock)
        return NULL;
    k = sock_at(&host->hub->sockets, index);
    return k->state != SOCK_FREE && k->generation == (uint32_t)(socket >> 32) ? k : NULL;
}

/* An id is a double that is not negative, so its sign bit is free to say that there is one. */
peal_ack host_ack(bool has_id, double id)
{
    uint64_t bits;

    if (!has_id)
        return 0;
    memcpy(&bits, &id, sizeof bits);
    return bits | 1ull << 63;
}

static double ack_id(peal_ack ack)
{
    uint64_t bits = ack & ~(1ull << 63);
    double id;

    memcpy(&id, &bits, sizeof id);
    return id;
}

static enum peal_result result_from(enum ring_result result)
{
    switch (result) {
    case RING_OK: return PEAL_OK;
    case RING_FULL: return PEAL_FULL;
    case RING_TOO_BIG: break;
    }
    return PEAL_TOO_BIG;
}

static enum peal_result result_from_join(enum join_result result)
{
    switch (result) {
    case JOIN_OK: return PEAL_OK;
    case JOIN_LIMIT: return PEAL_LIMIT;
    case JOIN_FULL: break;
    }
    return PEAL_FULL;
}

/* Copies names; false: too many, or one is too long. */
static bool names_from(struct slice *out, const struct peal_text *names, uint32_t n)
{
    if (n > NAMES_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (names[i].n_bytes > NAME_BYTES_MAX)
            return false;
        out[i] = slice_from(names[i]);
    }
    return true;
}

enum peal_result peal_accept(struct peal_host *host, peal_socket socket,
                             const struct peal_text *rooms, uint32_t n_rooms)
{
    struct sock *k = host_sock(host, socket);
    struct slice names[NAMES_MAX];

    if (k == NULL)
        return PEAL_GONE;
    if (k->state != SOCK_PENDING || !names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    if (!deferred_room(&host->hub->deferred, n_rooms + 1))
        return PEAL_FULL;
    client_accept(host->hub, k, names, n_rooms);
    return PEAL_OK;
}

enum peal_result peal_refuse(struct peal_host *host, peal_socket socket, struct peal_text message,
                             struct peal_text data)
{
    struct sock *k = host_sock(host, socket);
    enum json_kind kind;

    if (k == NULL)
        return PEAL_GONE;
    if (k->state != SOCK_PENDING || (data.bytes != NULL && !json_valid(slice_from(data), &kind)))
        return PEAL_INVALID;
    if (!deferred_room(&host->hub->deferred, 1))
        return PEAL_FULL;
    client_refuse(host->hub, k, slice_from(message), slice_from(data));
    return PEAL_OK;
}

enum peal_result peal_socket_id(struct peal_host *host, peal_socket socket,
                                char id[PEAL_SOCKET_ID_BYTES])
{
    const struct sock *k = host_sock(host, socket);

    if (k == NULL)
        return PEAL_GONE;
    client_socket_id(host->hub, k, id);
    return PEAL_OK;
}

enum peal_result peal_join(struct peal_host *host, peal_socket socket,
                           const struct peal_text *rooms, uint32_t n_rooms)
{
    struct sock *k = host_sock(host, socket);
    struct slice names[NAMES_MAX];

    if (k == NULL)
        return PEAL_GONE;
    if (!names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    return result_from_join(
        client_join(host->hub, k, names, n_rooms, peal_policy(host, socket).max_rooms_per_socket));
}

enum peal_result peal_leave(struct peal_host *host, peal_socket socket,
                            const struct peal_text *rooms, uint32_t n_rooms)
{
    struct sock *k = host_sock(host, socket);
    struct slice names[NAMES_MAX];

    if (k == NULL)
        return PEAL_GONE;
    if (!names_from(names, rooms, n_rooms))
        return PEAL_INVALID;
    return result_from_join(client_leave_rooms(host->hub, k, names, n_rooms));
}

bool peal_in_room(struct peal_host *host, peal_socket socket, struct peal_text room)
{
    struct hub *h = host->hub;
    const struct sock *k = host_sock(host, socket);
    uint64_t hash;

    if (k == NULL)
        return false;
    hash = record_hash(h->region.header->hash_key, namespace_name(&h->region, k->nsp),
                       slice_from(room));
    return client_in_room(h, k, room_find(&h->rooms, hash, k->nsp, slice_from(room)));
}

enum peal_result peal_disconnect(struct peal_host *host, peal_socket socket, bool close)
{
    struct sock *k = host_sock(host, socket);
    struct conn *c;

    if (k == NULL)
        return PEAL_GONE;
    c = conn_at(&host->hub->conns, k->conn);
    client_leave(host->hub, k, CLOSE_SERVER_NAMESPACE_DISCONNECT, true);
    if (close)
        client_end(host->hub, c, CLOSE_SERVER_NAMESPACE_DISCONNECT, WS_CLOSE_NO_STATUS, NULL);
    return PEAL_OK;
}

struct peal_policy peal_policy(struct peal_host *host, peal_socket socket)
{
    const struct config *config = host->hub->config;
    const struct sock *k = host_sock(host, socket);
    const struct config_namespace *section;

    if (k == NULL)
        return (struct peal_policy){ 0 };
    section = k->section == UINT8_MAX ? &config->ws : &config->namespaces[k->section];
    return (struct peal_policy){
        .client_join = section->client_join,
        .client_publish = (enum peal_publish)section->client_publish,
        .max_rooms_per_socket = section->max_rooms_per_socket,
    };
}

bool peal_is_socket_id(struct peal_text room)
{
    uint8_t id[SOCKET_ID_BYTES];

    return room.n_bytes == SOCKET_ID_CHARS && base64url_decode(id, slice_from(room));
}

bool peal_event_reserved(struct peal_text name)
{
    return sio_event_reserved(slice_from(name));
}

static enum peal_result emit_to(struct peal_host *host, struct peal_text nsp,
                                const struct peal_selector *to, struct slice head,
                                struct slice tail, const struct peal_text *attachments,
                                uint32_t n_attachments)
{
    struct slice rooms[NAMES_MAX];
    struct slice except[NAMES_MAX];
    struct slice parts[SIO_ATTACHMENTS_MAX];
    struct emit emit = { .nsp = slice_from(nsp),
                         .rooms = rooms,
                         .n_rooms = to->n_rooms,
                         .except = except,
                         .n_except = to->n_except };
    uint64_t n_bytes = (uint64_t)head.n_bytes + tail.n_bytes;

    if (n_attachments > SIO_ATTACHMENTS_MAX || !names_from(rooms, to->rooms, to->n_rooms) ||
        !names_from(except, to->except, to->n_except))
        return PEAL_INVALID;
    for (uint32_t i = 0; i < n_attachments; i++) {
        parts[i] = slice_from(attachments[i]);
        n_bytes += attachments[i].n_bytes;
    }
    if (n_bytes > host->hub->config->event_bytes_max)
        return PEAL_TOO_BIG;
    emit.flags = (uint8_t)((to->flags & PEAL_LOCAL ? RECORD_LOCAL : 0u) |
                           (to->flags & PEAL_VOLATILE ? RECORD_VOLATILE : 0u) |
                           (to->flags & PEAL_NO_COMPRESS ? RECORD_NO_COMPRESS : 0u));
    return result_from(emit_event(host->hub, &emit, head, tail, parts, n_attachments));
}

enum peal_result peal_emit(struct peal_host *host, struct peal_text nsp,
                           const struct peal_selector *to, struct peal_text json,
                           const struct peal_text *attachments, uint32_t n_attachments)
{
    enum json_kind kind;

    if (!json_valid(slice_from(json), &kind) || kind != JSON_ARRAY)
        return PEAL_INVALID;
    return emit_to(host, nsp, to, slice_from(json), (struct slice){ NULL, 0 }, attachments,
                   n_attachments);
}

enum peal_result peal_forward(struct peal_host *host, struct peal_text nsp,
                              const struct peal_selector *to, const struct peal_event *event,
                              uint32_t skip)
{
    struct slice array = slice_from(event->json);
    struct json_iter it = json_iter_open(array);
    struct slice key;
    struct slice value = { NULL, 0 };
    enum json_kind kind;

    for (uint32_t i = 0; i <= skip; i++)
        if (!json_iter_next(&it, &key, &value, &kind))
            return PEAL_INVALID;
    /* from the first element that stays to the end of the text, the closing bracket included */
    return emit_to(host, nsp, to, slice_text("["),
                   slice_of(value.bytes, (uint32_t)(array.bytes + array.n_bytes - value.bytes)),
                   event->attachments, event->n_attachments);
}

enum peal_result peal_reply(struct peal_host *host, peal_socket socket, peal_ack ack,
                            struct peal_text json)
{
    struct hub *h = host->hub;
    struct sock *k = host_sock(host, socket);
    struct slice nsp;
    uint8_t small[REPLY_SMALL_BYTES];
    uint8_t *frame = small;
    char *packet;
    size_t max;
    uint32_t at;

    if (k == NULL)
        return PEAL_GONE;
    if (ack == 0)
        return PEAL_OK;
    nsp = namespace_name(&h->region, k->nsp);
    max = SIO_HEADER_MAX + (size_t)nsp.n_bytes + json.n_bytes;
    if (WS_HEADER_MAX + 2 * max > sizeof small)
        frame = malloc(WS_HEADER_MAX + 2 * max);
    if (frame == NULL)
        return PEAL_FULL;
    packet = (char *)frame + WS_HEADER_MAX + max;
    at = sio_put_header(packet, SIO_ACK, 0, nsp, ack_id(ack));
    memcpy(packet + at, json.bytes, json.n_bytes);
    at = client_frame_text(frame, packet, at + json.n_bytes);
    client_send_later(h, conn_at(&h->conns, k->conn), frame, at, false);
    if (frame != small)
        free(frame);
    return PEAL_OK;
}

struct peal_text peal_namespace(struct peal_host *host, peal_socket socket)
{
    const struct sock *k = host_sock(host, socket);

    return k == NULL ? (struct peal_text){ NULL, 0 }
                     : text_from(namespace_name(&host->hub->region, k->nsp));
}

uint32_t peal_worker(const struct peal_host *host)
{
    return host->hub->region.self;
}

uint32_t peal_count(struct peal_host *host, struct peal_text nsp)
{
    uint32_t index = namespace_find(&host->hub->region, slice_from(nsp));

    return index == NAMESPACE_NONE ? 0 : host->hub->row->sockets[index];
}

uint64_t peal_stat(struct peal_host *host, enum peal_stat which)
{
    const struct region *region = &host->hub->region;
    uint64_t sum = 0;
    struct counters_sum counters;

    switch (which) {
    case PEAL_STAT_WORKERS: return region->header->n_workers;
    case PEAL_STAT_CONNECTIONS:
        for (uint32_t i = 0; i < region->header->n_workers; i++)
            sum += shm_load_u64(&region->counters[i].gauges[GAUGE_CONNECTIONS_WEBSOCKET]) +
                   shm_load_u64(&region->counters[i].gauges[GAUGE_CONNECTIONS_POLLING]);
        return sum;
    case PEAL_STAT_DELIVERIES:
    case PEAL_STAT_MESSAGES:
        counters_read(region, &counters);
        return counters
            .counters[which == PEAL_STAT_DELIVERIES ? COUNT_DELIVERIES : COUNT_MESSAGES_RECEIVED];
    }
    return 0;
}

void peal_log(const struct peal_host *host, const char *text)
{
    (void)host;
    log_info("app", "text=%s", text);
}
