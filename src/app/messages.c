/* messages.c: include/peal/app.h, messages to clients: emits and acknowledgements. */
#include "app/messages.h"

#include <stdlib.h>

#include "app/compose.h"
#include "session/publish.h"

#define REPLY_SMALL_BYTES 1024 /* acknowledgements up to about 900 bytes: framed on the stack */

static enum peal_result result_from(enum ring_result result)
{
    switch (result) {
    case RING_OK: return PEAL_OK;
    case RING_FULL: return PEAL_FULL;
    case RING_TOO_BIG: break;
    }
    return PEAL_TOO_BIG;
}

/* A turn's commits end a producer's turn (RING_TURN_COMMITS_MAX), and a handler that is called again waits for the next one. Where nobody calls again, or
 * part of what it does has been done, the bells are rung, and it goes on. */
static bool begin_turn(struct peal_host *host, bool *once)
{
    struct hub *h = host->hub;

    if (*once || h->n_appended < RING_TURN_COMMITS_MAX || (host->retried && host->n_emitted == 0))
        return false;
    *once = true;
    ring_bells(&h->ring);
    return true;
}

enum peal_result message_append(struct peal_host *host, struct record_spec *spec)
{
    enum ring_result result;
    bool once = false;

    do {
        result = publish(host->hub, spec);
    } while (result == RING_FULL && begin_turn(host, &once));
    host->n_emitted += result == RING_OK;
    return result_from(result);
}

bool message_selector(const struct peal_selector *to, struct names *names)
{
    return names_from(names->rooms, to->rooms, to->n_rooms) &&
           names_from(names->except, to->except, to->n_except);
}

static uint8_t flags_of(const struct peal_selector *to)
{
    return (uint8_t)((to->flags & PEAL_LOCAL ? RECORD_LOCAL : 0u) |
                     (to->flags & PEAL_VOLATILE ? RECORD_VOLATILE : 0u) |
                     (to->flags & PEAL_NO_COMPRESS ? RECORD_NO_COMPRESS : 0u));
}

enum peal_result message_emit(struct peal_host *host, struct peal_text nsp,
                              const struct peal_selector *to, const struct peal_message *message,
                              const struct emit *with)
{
    struct names names;
    struct composed c;
    struct emit emit = with != NULL ? *with : (struct emit){ 0 };
    enum peal_result result;
    enum ring_result appended;
    bool once = false;

    if (nsp.bytes == NULL || nsp.n_bytes > NAME_BYTES_MAX || !message_selector(to, &names))
        return PEAL_INVALID;
    result = compose(host, message, true, &c);
    if (result != PEAL_OK)
        return result;
    emit.nsp = slice_from(nsp);
    emit.rooms = names.rooms;
    emit.n_rooms = to->n_rooms;
    emit.except = names.except;
    emit.n_except = to->n_except;
    emit.flags |= flags_of(to);
    do {
        appended = emit_event(host->hub, &emit, c.head, c.tail, c.attachments, c.n_attachments);
    } while (appended == RING_FULL && begin_turn(host, &once));
    host->n_emitted += appended == RING_OK;
    return result_from(appended);
}

enum peal_result peal_emit(struct peal_host *host, struct peal_text nsp,
                           const struct peal_selector *to, struct peal_message message)
{
    return host_on_loop(host, __func__) ? message_emit(host, nsp, to, &message, NULL) : PEAL_THREAD;
}

enum peal_result message_send(struct peal_host *host, peal_socket socket,
                              const struct peal_message *message, const struct emit *with)
{
    const struct sock *k = host_living(host, socket);
    char id[SOCKET_ID_CHARS];
    struct peal_text self = { id, sizeof id };
    struct peal_selector to = { .rooms = &self, .n_rooms = 1, .flags = PEAL_LOCAL };

    if (k == NULL)
        return PEAL_GONE;
    if (k->state == SOCK_PENDING)
        return PEAL_INVALID;
    client_socket_id(host->hub, k, id);
    return message_emit(host, text_from(namespace_name(&host->hub->region, k->nsp)), &to, message,
                        with);
}

enum peal_result peal_send(struct peal_host *host, peal_socket socket, struct peal_message message)
{
    return host_on_loop(host, __func__) ? message_send(host, socket, &message, NULL) : PEAL_THREAD;
}

/* --- acknowledgements of clients --- */

static char *put(char *to, struct slice bytes)
{
    if (bytes.n_bytes > 0)
        memcpy(to, bytes.bytes, bytes.n_bytes);
    return to + bytes.n_bytes;
}

/* Packet and attachments as frames, behind what this worker has appended. */
static enum peal_result reply_to_client(struct peal_host *host, const struct sock *k, double id,
                                        const struct composed *c)
{
    struct hub *h = host->hub;
    char header[SIO_HEADER_MAX + NAME_BYTES_MAX];
    uint8_t small[REPLY_SMALL_BYTES];
    uint8_t *frames = small;
    uint32_t n_header = sio_put_header(header, c->n_attachments > 0 ? SIO_BINARY_ACK : SIO_ACK,
                                       c->n_attachments, namespace_name(&h->region, k->nsp), id);
    uint64_t max = n_header + (uint64_t)c->n_bytes + (1 + c->n_attachments) * WS_HEADER_MAX;
    char *to;

    if (max > sizeof small)
        frames = malloc(max);
    if (frames == NULL)
        return PEAL_FULL;
    to = (char *)frames +
         ws_put_header(frames, WS_TEXT, (uint64_t)n_header + c->head.n_bytes + c->tail.n_bytes);
    to = put(to, slice_of(header, n_header));
    to = put(put(to, c->head), c->tail);
    for (uint32_t i = 0; i < c->n_attachments; i++) {
        to += ws_put_header((uint8_t *)to, WS_BINARY, c->attachments[i].n_bytes);
        to = put(to, c->attachments[i]);
    }
    client_send_later(h, conn_at(&h->conns, k->conn), frames, (uint32_t)(to - (char *)frames),
                      false);
    if (frames != small)
        free(frames);
    return PEAL_OK;
}

/* To another worker, or to the cluster. */
static enum peal_result reply_to_server(struct peal_host *host, const struct ticket *t,
                                        const struct composed *c)
{
    struct record_part parts[1 + SIO_ATTACHMENTS_MAX] = { { .payload = c->head } };
    struct record_spec spec = { .parts = parts, .n_parts = 1 + c->n_attachments };
    char *joined = NULL;

    if (c->n_attachments > 0 && t->slot != PEAL_SLOT_BRIDGE)
        return PEAL_INVALID;
    if (c->tail.n_bytes > 0) {
        joined = composed_text(c, &parts[0].payload);
        if (joined == NULL)
            return PEAL_FULL;
    }
    for (uint32_t i = 0; i < c->n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = c->attachments[i] };
    message_reply(host, t, &spec);
    free(joined);
    return PEAL_OK;
}

void message_reply(struct peal_host *host, const struct ticket *t, struct record_spec *spec)
{
    spec->nsp = slice_text("/");
    spec->header.kind = RECORD_REPLY;
    spec->header.id = t->request;
    spec->header.targets = 1ull << t->slot;
    spec->header.flags = RECORD_LAST | RECORD_LOCAL;
    replies_push(host->hub, spec);
}

enum peal_result peal_reply(struct peal_host *host, peal_ack ack, struct peal_message message)
{
    struct ticket *t;
    struct composed c;
    struct sock *k;
    enum peal_result result;

    if (!host_on_loop(host, __func__))
        return PEAL_THREAD;
    if (ack == 0)
        return PEAL_OK;
    t = ticket_find(&host->tickets, ack);
    if (t == NULL)
        return PEAL_GONE;
    k = t->socket == 0 ? NULL : host_living(host, t->socket);
    if (t->socket != 0 && k == NULL)
        return PEAL_GONE;
    if (!client_has_room(host->hub, 1))
        return PEAL_FULL;
    result = compose(host, &message, false, &c);
    if (result == PEAL_OK)
        result = k == NULL ? reply_to_server(host, t, &c) : reply_to_client(host, k, t->id, &c);
    if (result == PEAL_OK)
        ticket_use(&host->tickets,
                   k == NULL ? &host->tickets.of_workers : &host_local(host, k)->tickets, t);
    return result;
}
