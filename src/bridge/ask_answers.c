/* ask_answers.c: what the other servers answer to what ask.c has asked, and what becomes of it if they do not.
 *
 * When an ask's time is up and servers are silent, Redis is asked who listens for answers in the namespace: those, less ourselves and those who have said in
 * their answer who they are (Peal hosts do, Node servers do not), are the names.
 *
 * Answers may come before the count. Expiry stops while bridge.n_pending > 0: what is told then waits for room in the ring. */
#include "bridge/ask.h"

#include <stdlib.h>

#include "base/log.h"
#include "proto/json.h"
#include "proto/socketio.h"

#define EXPIRES_PER_TURN  1024
#define LIST_WAIT_MS      400   /* for the list of channels */
#define PART_BYTES        65536 /* of a list, in one record */
#define SILENT_PER_MINUTE 6

/* An answer or the count has come. A broadcast goes on until all clients have acknowledged. */
static void settle(struct bridge *b, struct bridge_ask *a)
{
    if (!ask_is_complete(a))
        return;
    if (a->type == ADAPTER_BROADCAST && a->n_acks < a->n_clients) {
        if (!a->told)
            ask_tell_end(b, a, 0, NULL, 0);
        a->told = true;
        return;
    }
    ask_end(b, a, 0);
}

/* --- what comes back --- */

void ask_counted(struct bridge *b, const struct bridge_namespace *n, uint64_t n_servers)
{
    struct bridge_asks *as = &b->asks;

    for (uint32_t place = as->first_uncounted; place != 0; place = as->items[place - 1].next) {
        struct bridge_ask *a = &as->items[place - 1];

        if (a->nsp != n->index)
            continue;
        ask_take_count(as, a, n_servers == 0 ? 0 : (uint32_t)n_servers - 1);
        settle(b, a);
        return;
    }
}

/* Parts of a list for the worker: whole entries, with commas between. */
struct list_builder {
    struct bridge *b;
    const struct bridge_ask *a;
    uint32_t n_bytes; /* in b->payload */
};

static void list_flush(struct list_builder *l)
{
    if (l->n_bytes > 0)
        ask_tell_text(l->b, l->a, 0, slice_of(l->b->payload.bytes, l->n_bytes));
    l->n_bytes = 0;
}

static void list_add(struct list_builder *l, struct slice entry)
{
    char *bytes;

    if (l->n_bytes > 0 && l->n_bytes + 1 + entry.n_bytes > PART_BYTES)
        list_flush(l);
    bytes = bridge_room(&l->b->payload, PART_BYTES + 1ull + entry.n_bytes);
    if (bytes == NULL)
        return;
    if (l->n_bytes > 0)
        bytes[l->n_bytes++] = ',';
    memcpy(bytes + l->n_bytes, entry.bytes, entry.n_bytes);
    l->n_bytes += entry.n_bytes;
}

/* Where rooms cannot be asked for: those of a socket. A room that several have is told more than once, as several processes do. */
static void add_rooms(struct list_builder *l, struct slice socket)
{
    struct slice key, rooms, room;
    struct json_iter it;
    enum json_kind kind;

    if (!json_member(socket, "rooms", &rooms, &kind) || kind != JSON_ARRAY)
        return;
    it = json_iter_open(rooms);
    while (json_iter_next(&it, &key, &room, &kind))
        if (kind == JSON_STRING)
            list_add(l, room);
}

/* What was asked for is sockets, ids, rooms or a number; what came is sockets (type 5), ids (0) or rooms (1). */
static void take_list(struct bridge *b, const struct bridge_ask *a, struct slice list)
{
    struct list_builder l = { .b = b, .a = a };
    struct json_iter it = { list.bytes, list.bytes + list.n_bytes };
    struct slice key, entry;
    char digits[JSON_NUMBER_MAX];
    enum json_kind kind;
    uint32_t n = 0;

    while (json_iter_next(&it, &key, &entry, &kind)) {
        bool is_object = kind == JSON_OBJECT;

        n++;
        if (a->fetch == FETCH_COUNT)
            continue;
        if (a->fetch == FETCH_ROOMS && is_object) {
            add_rooms(&l, entry);
            continue;
        }
        if (a->fetch == FETCH_SOCKET_IDS && is_object) {
            if (!json_member(entry, "id", &entry, &kind))
                continue;
            is_object = false;
        }
        /* what is no such thing would be handed to an application that trusts in it */
        if (is_object == (a->fetch == FETCH_SOCKETS) && (is_object || kind == JSON_STRING))
            list_add(&l, entry);
    }
    if (a->fetch == FETCH_COUNT)
        list_add(&l, slice_of(digits, json_put_number(digits, n)));
    list_flush(&l);
}

/* A value as the array that an application gets, with its attachments. */
static void tell_value(struct bridge *b, enum record_kind kind, const struct bridge_ask *a,
                       uint8_t flags, const struct msgpack_text *value)
{
    static struct record_part parts[1 + SIO_ATTACHMENTS_MAX];
    uint32_t n = value->n_attachments;
    char *text = bridge_room(&b->payload, value->json.n_bytes + 2ull);

    if (text == NULL || n > SIO_ATTACHMENTS_MAX) {
        ask_tell(b, kind, a, flags | RECORD_TRUNCATED, NULL, 0);
        return;
    }
    text[0] = '[';
    if (value->json.n_bytes > 0)
        memcpy(text + 1, value->json.bytes, value->json.n_bytes);
    text[value->json.n_bytes + 1] = ']';
    parts[0] = (struct record_part){ .payload = slice_of(text, value->json.n_bytes + 2) };
    for (uint32_t i = 0; i < n; i++)
        parts[1 + i] = (struct record_part){ .payload = value->attachments[i] };
    ask_tell(b, kind, a, flags, parts, 1 + n);
}

/* It has said who it is. Out of memory it is named as silent if others are. */
static void note_answerer(struct bridge_ask *a, struct slice uid)
{
    void *more;

    if (uid.n_bytes != ADAPTER_UID_CHARS || a->n_answerers == ASK_NAMES_MAX)
        return;
    more = realloc(a->answerers, (a->n_answerers + 1) * sizeof *a->answerers);
    if (more == NULL)
        return;
    a->answerers = more;
    memcpy(a->answerers[a->n_answerers++], uid.bytes, ADAPTER_UID_CHARS);
}

static void on_server_emit(struct bridge *b, struct bridge_ask *a, const struct adapter_reply *r)
{
    bool last;

    a->n_answers++;
    last = ask_is_complete(a);
    tell_value(b, RECORD_REPLY, a, last ? RECORD_LAST : 0, &r->value);
    if (last)
        ask_drop(b, a);
}

static void on_broadcast(struct bridge *b, struct bridge_ask *a, const struct adapter_reply *r)
{
    char digits[JSON_NUMBER_MAX];

    if (r->type == ADAPTER_CLIENT_ACK) {
        a->n_acks++;
        tell_value(b, RECORD_ACK, a, 0, &r->value);
    } else if (r->type == ADAPTER_CLIENT_COUNT && !a->told) {
        uint32_t n = r->client_count < UINT32_MAX ? (uint32_t)r->client_count : UINT32_MAX;

        a->n_answers++;
        a->n_clients += n;
        note_answerer(a, r->uid);
        ask_tell_text(b, a, 0, slice_of(digits, json_put_number(digits, n)));
    }
    settle(b, a);
}

/* Room for what reading an answer needs: JSON, which may be a large list, is read where it lies. */
static bool answer_sink(struct bridge *b, struct slice payload, struct msgpack_sink *sink)
{
    if (payload.n_bytes == 0 || payload.bytes[0] != '{')
        return bridge_decode_sink(b, payload, sink);
    if (bridge_room(&b->scratch, 65536) == NULL)
        return false;
    *sink = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    return true;
}

void ask_answered(struct bridge *b, struct slice payload)
{
    static struct adapter_reply r;
    struct msgpack_sink sink;
    enum adapter_result result;

    if (b->asks.n == 0 || !answer_sink(b, payload, &sink))
        return; /* nearly always: answers to others' questions */
    result = adapter_read_reply(payload, &sink, &r);
    if (result == ADAPTER_OK)
        ask_take(b, &r);
    else
        bridge_undecodable(b, result);
}

void ask_take(struct bridge *b, const struct adapter_reply *r)
{
    struct bridge_ask *a = ask_find(&b->asks, r->request_id);

    if (a == NULL)
        return;
    switch ((enum adapter_type)a->type) {
    case ADAPTER_SERVER_EMIT:
        if (r->type == ADAPTER_SERVER_EMIT)
            on_server_emit(b, a, r);
        break;
    case ADAPTER_BROADCAST: on_broadcast(b, a, r); break;
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_FETCH:
        a->n_answers++; /* without a list, too, or it would be waited for */
        note_answerer(a, r->uid);
        if (r->list.n_bytes > 0 || a->fetch == FETCH_COUNT)
            take_list(b, a, r->list);
        settle(b, a);
        break;
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
    case ADAPTER_DISCONNECT:
    case ADAPTER_CLIENT_COUNT:
    case ADAPTER_CLIENT_ACK:
    case ADAPTER_TYPES: break;
    }
}

/* --- who was silent --- */

static const struct bridge_namespace *namespace_at(const struct bridge *b, uint32_t index)
{
    for (uint32_t i = 0; i < b->n_namespaces; i++)
        if (b->namespaces[i].index == index)
            return &b->namespaces[i];
    return NULL;
}

/* Asks Redis who listens for answers in that namespace. One list at a time: it serves all asks of that namespace. */
static bool list_channels(struct bridge *b, uint32_t nsp)
{
    const struct bridge_namespace *n = namespace_at(b, nsp);

    if (b->asks.listing && b->now_ms - b->asks.list_ms < LIST_WAIT_MS)
        return true;
    if (n == NULL)
        return false;
    b->asks.listing = b->wire->ask_names(b, n);
    b->asks.listed = nsp;
    b->asks.list_ms = b->now_ms;
    return b->asks.listing;
}

static bool has_answered(const struct bridge *b, const struct bridge_ask *a, struct slice uid)
{
    if (slice_equal(uid, bridge_uid(b)))
        return true;
    for (uint32_t i = 0; i < a->n_answerers; i++)
        if (slice_equal(uid, slice_of(a->answerers[i], ADAPTER_UID_CHARS)))
            return true;
    return false;
}

static void note_silence(struct bridge *b, const struct bridge_ask *a)
{
    static struct log_rate rate;
    uint32_t suppressed;

    if (log_allow(&rate, b->now_ms, SILENT_PER_MINUTE, &suppressed))
        log_warning("cluster_silent", "type=%u asked=%u answered=%u suppressed=%u", a->type,
                    a->n_expected, a->n_answers, suppressed);
}

void ask_listed(struct bridge *b, const struct slice *channels, uint32_t n_channels)
{
    char text[2 * CONFIG_TEXT_MAX + NAME_BYTES_MAX];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);
    const struct bridge_namespace *n = namespace_at(b, b->asks.listed);
    struct bridge_asks *as = &b->asks;

    if (!as->listing || n == NULL)
        return;
    as->listing = false;
    adapter_put_response_channel(&sink, slice_text(b->config->redis_key), bridge_nsp(n),
                                 (struct slice){ NULL, 0 });
    for (uint32_t i = 0; i < as->fresh; i++) {
        struct bridge_ask *a = &as->items[i];
        struct slice uids[ASK_NAMES_MAX];
        uint32_t n_uids = 0;

        if (a->request == 0 || !a->naming || a->nsp != as->listed)
            continue;
        for (uint32_t c = 0; c < n_channels && n_uids < ASK_NAMES_MAX; c++) {
            struct slice uid;

            if (channels[c].n_bytes != sink.n_bytes + ADAPTER_UID_CHARS + 1)
                continue; /* of a namespace whose name begins like this one; Redis has looked at the rest */
            uid = slice_of(channels[c].bytes + sink.n_bytes, ADAPTER_UID_CHARS);
            if (!has_answered(b, a, uid))
                uids[n_uids++] = uid;
        }
        ask_tell_end(b, a, 0, uids, n_uids);
        ask_drop(b, a);
    }
}

/* --- time --- */

static void expire(struct bridge *b, struct bridge_ask *a)
{
    bool names =
        a->type != ADAPTER_SERVER_EMIT && !a->told && !a->naming && a->n_expected != ASK_UNCOUNTED;

    if (!names) {
        ask_end(b, a, 0);
        return;
    }
    note_silence(b, a);
    if (!list_channels(b, a->nsp)) {
        ask_end(b, a, 0);
        return;
    }
    a->naming = true;
    wheel_arm(&b->asks.wheel, ask_place(&b->asks, a), b->now_ms + LIST_WAIT_MS);
}

void ask_expire(struct bridge *b)
{
    struct bridge_asks *as = &b->asks;
    uint32_t budget = EXPIRES_PER_TURN;

    if (as->n == 0)
        return;
    if (!b->wire->is_connected(b)) {
        /* answers may have been missed: nobody is to wait for them */
        for (uint32_t i = 0; i < as->fresh && b->n_pending == 0; i++)
            if (as->items[i].request != 0)
                ask_end(b, &as->items[i], RECORD_LOST);
        as->listing = false;
        return;
    }
    while (b->n_pending == 0) {
        uint32_t place = wheel_expire(&as->wheel, b->now_ms, &budget);

        if (place == WHEEL_NONE)
            return;
        expire(b, &as->items[place]);
    }
}

uint32_t ask_rest_ms(const struct bridge *b)
{
    return wheel_next_ms(&b->asks.wheel, b->now_ms);
}
