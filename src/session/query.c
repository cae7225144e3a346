/* query.c: see query.h. Replies are cut into records of at most REPLY_BYTES, so that a large one neither needs a large hole in the ring nor a large
 * buffer; together they are bounded by redis_answer_max_bytes per worker: beyond it the list ends and the last record says so (RECORD_TRUNCATED). */
#include "session/query.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/json.h"
#include "proto/socketio.h"
#include "session/acks.h"
#include "session/clients.h"
#include "session/handshake.h"
#include "session/publish.h"
#include "session/room_news.h"
#include "shm/atomic.h"

#define REPLY_BYTES 65536

struct reply_builder {
    struct hub *h;
    const struct record_view *question;
    char *bytes;
    uint32_t n_bytes;
    uint32_t max;
    uint64_t total;
    bool any;
    bool truncated;
};

static void send_reply(struct reply_builder *b, bool last)
{
    const struct record_header *q = b->question->header;
    struct record_part part = { .payload = slice_of(b->bytes == NULL ? "" : b->bytes, b->n_bytes) };
    struct record_spec spec = { .nsp = b->question->nsp, .parts = &part, .n_parts = 1 };

    spec.header.kind = RECORD_REPLY;
    spec.header.id = q->id;
    spec.header.detail = q->detail;
    spec.header.targets = 1ull << q->slot;
    spec.header.flags =
        (uint8_t)((last ? RECORD_LAST : 0u) | (b->truncated ? RECORD_TRUNCATED : 0u));
    replies_push(b->h, &spec);
    b->n_bytes = 0;
}

/* Room for `n` more bytes of one entry; NULL: the answer is cut here. */
static char *reply_room(struct reply_builder *b, uint32_t n)
{
    if (b->truncated || b->total + n > b->h->config->redis_answer_max_bytes) {
        b->truncated = true;
        return NULL;
    }
    if (b->n_bytes > 0 && b->n_bytes + n > REPLY_BYTES)
        send_reply(b, false);
    if (b->n_bytes + n > b->max) {
        uint32_t max = b->n_bytes + n > REPLY_BYTES ? b->n_bytes + n : REPLY_BYTES;
        char *bytes = realloc(b->bytes, max);

        if (bytes == NULL) {
            b->truncated = true;
            return NULL;
        }
        b->bytes = bytes;
        b->max = max;
    }
    return b->bytes + b->n_bytes;
}

static void took(struct reply_builder *b, const char *end)
{
    uint32_t n = (uint32_t)(end - (b->bytes + b->n_bytes));

    b->n_bytes += n;
    b->total += n;
    b->any = true;
}

static char *put_id(struct hub *h, char *to, const struct sock *k)
{
    *to++ = '"';
    client_socket_id(h, k, to);
    to += SOCKET_ID_CHARS;
    *to++ = '"';
    return to;
}

static void add_socket_id(struct reply_builder *b, const struct sock *k)
{
    char *to = reply_room(b, SOCKET_ID_CHARS + 3);

    if (to == NULL)
        return;
    if (b->any)
        *to++ = ',';
    took(b, put_id(b->h, to, k));
}

static void add_socket(struct reply_builder *b, const struct sock *k)
{
    struct hub *h = b->h;
    const struct session *n = session_at(&h->sockets, k->session);
    const char *auth = h->sockets.auths[sock_index(&h->sockets, k)];
    struct slice auth_json = auth == NULL ? (struct slice){ NULL, 0 } : slice_text(auth);
    struct slice data =
        h->socket_data == NULL ? (struct slice){ NULL, 0 } : h->socket_data(h->apps_context, k);
    uint32_t max = 256 + handshake_json_max(n->handshake, auth_json) + data.n_bytes;
    char *to;

    for (uint32_t i = 0; i < k->n_rooms; i++)
        max += 6u * room_at(&h->rooms, k->rooms[i].room)->n_name_bytes + 3;
    to = reply_room(b, max);
    if (to == NULL)
        return;
    if (b->any)
        *to++ = ',';
    memcpy(to, "{\"id\":", 6);
    to = put_id(h, to + 6, k);
    memcpy(to, ",\"handshake\":", 13);
    to += 13;
    to += handshake_put_json(to, n->handshake,
                             &conn_cold(&h->conns, conn_at(&h->conns, k->conn))->peer, auth_json);
    memcpy(to, ",\"rooms\":[", 10);
    to = put_id(h, to + 10, k);
    for (uint32_t i = 0; i < k->n_rooms; i++) {
        *to++ = ',';
        to += json_put_string(to, room_name(room_at(&h->rooms, k->rooms[i].room)));
    }
    memcpy(to, "],\"data\":", 9);
    to += 9;
    if (data.bytes == NULL)
        data = slice_text("{}");
    memcpy(to, data.bytes, data.n_bytes);
    to += data.n_bytes;
    *to++ = '}';
    took(b, to);
}

static void add_room(struct reply_builder *b, const struct room *r)
{
    char *to = reply_room(b, 6u * r->n_name_bytes + 3);

    if (to == NULL)
        return;
    if (b->any)
        *to++ = ',';
    took(b, to + json_put_string(to, room_name(r)));
}

static void add_all_rooms(struct reply_builder *b, uint16_t nsp)
{
    struct hub *h = b->h;
    uint32_t everyone = h->sockets.everyone[nsp];

    for (uint32_t i = 0; i < h->rooms.n_rooms; i++) {
        const struct room *r = room_at(&h->rooms, i);

        if (r->n_members > 0 && r->name != NULL && r->nsp == nsp)
            add_room(b, r);
    }
    if (everyone == ROOM_NONE)
        return;
    for (uint32_t i = 0; i < room_at(&h->rooms, everyone)->n_members;
         i++) /* each socket is in the room of its own id */
        add_socket_id(b, sock_at(&h->sockets, room_members(room_at(&h->rooms, everyone))[i].sock));
}

void query_answer(struct hub *h, const struct record_view *view)
{
    struct reply_builder b = { .h = h, .question = view };
    struct selection s = { 0 };
    struct room_member m;
    uint32_t nsp = namespace_find(&h->region, view->nsp);
    uint32_t n = 0;

    if (view->header->detail == FETCH_ROOM_NEWS) {
        room_news_tell_all(h->news);
        return;
    }
    if (view->header->detail == FETCH_ROOMS) {
        if (nsp != NAMESPACE_NONE)
            add_all_rooms(&b, (uint16_t)nsp);
    } else {
        select_open(h, &s, view);
        while (select_next(h, &s, &m)) {
            const struct sock *k = sock_at(&h->sockets, m.sock);

            if (view->header->detail == FETCH_SOCKET_IDS)
                add_socket_id(&b, k);
            else if (view->header->detail == FETCH_SOCKETS)
                add_socket(&b, k);
            if ((++n & 1023) == 0)
                shm_store_u64(&h->slot->progress,
                              h->slot->progress + 1); /* a long answer is progress */
        }
        select_close(h, &s);
    }
    if (view->header->detail == FETCH_COUNT) {
        char *to = reply_room(&b, 16);

        if (to != NULL)
            took(&b, to + sprintf(to, "%u", n));
    }
    send_reply(&b, true);
    free(b.bytes);
}

void query_reply_count(struct hub *h, const struct record_view *view, uint32_t n)
{
    struct reply_builder b = { .h = h, .question = view };
    char *to = reply_room(&b, 16);

    if (to != NULL)
        took(&b, to + sprintf(to, "%u", n));
    send_reply(&b, true);
    free(b.bytes);
}

bool query_take_ack(struct hub *h, struct sock *k, double id, struct slice json,
                    const struct slice *attachments, uint32_t n_attachments)
{
    struct record_part parts[1 + SIO_ATTACHMENTS_MAX];
    struct record_spec spec = { .nsp = namespace_name(&h->region, k->nsp),
                                .parts = parts,
                                .n_parts = 1 + n_attachments };
    uint64_t whole = id >= 0 && id < 9007199254740992.0 ? (uint64_t)id : 0;

    if (whole < PEAL_SLOTS || !acks_take(h->acks, whole, sock_index(&h->sockets, k), k->generation))
        return false;
    parts[0] = (struct record_part){ .payload = json.bytes == NULL ? slice_text("[]") : json };
    for (uint32_t i = 0; i < n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = attachments[i] };
    spec.header.kind = RECORD_ACK;
    spec.header.id = whole;
    spec.header.targets = 1ull << (whole % PEAL_SLOTS);
    replies_push(h, &spec);
    return true;
}
