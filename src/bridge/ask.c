/* ask.c: what workers of this host ask the other servers of the cluster: the table of what is under way, and the requests. ask_answers.c is the other half.
 *
 * As Node does it: Redis is asked how many servers there are, the request is published, and that many answers less one, our own, are waited for. The count and
 * the request go out together on one connection, so nothing of a worker overtakes what it has asked, and no server comes between the two.
 *
 * What comes back goes to the worker that asked, as RECORD_REPLY and RECORD_ACK; the last RECORD_REPLY says RECORD_LAST. Of a server-side emit each answer is
 * one record (detail: how many were asked, ASK_UNCOUNTED if that is not known yet). Of all others the worker puts the parts together with those of its own
 * host, and the last one tells [asked,answered,"uid",...]: who may have been silent.
 *
 * Invariant: an ask is in the wheel from its opening to its end, and in the list of those that wait for their count until it has come.
 * Owns:      the table; a request id is a place in it and 20 random bits, so an answer that comes too late finds nothing. */
#include "bridge/ask.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/json.h"

#define ASK_PLACE_BITS    16
#define ASK_SALT_BITS     20
#define SUBSCRIBE_WAIT_MS 1000 /* a request waits so long for the confirmation of subscriptions */

static_assert(BRIDGE_ASKS_MAX == 1u << ASK_PLACE_BITS, "a request id names any place");
static_assert(ASK_PLACE_BITS + ASK_SALT_BITS == 6 * ADAPTER_UID_CHARS, "and no more than that");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

bool ask_open(struct bridge *b)
{
    struct bridge_asks *as = &b->asks;

    /* pages as they are needed */
    as->items = calloc(BRIDGE_ASKS_MAX, sizeof *as->items);
    if (as->items == NULL)
        return false;
    wheel_init(&as->wheel, as->items, sizeof *as->items, offsetof(struct bridge_ask, deadline),
               BRIDGE_ASKS_MAX, b->now_ms);
    return true;
}

void ask_close(struct bridge *b)
{
    for (uint32_t i = 0; i < b->asks.fresh; i++)
        free(b->asks.items[i].answerers);
    free(b->asks.items);
}

/* --- the table --- */

uint32_t ask_place(const struct bridge_asks *as, const struct bridge_ask *a)
{
    return (uint32_t)(a - as->items);
}

static void put_id(const struct bridge_asks *as, const struct bridge_ask *a,
                   char id[ADAPTER_UID_CHARS])
{
    uint64_t bits = (uint64_t)a->salt << ASK_PLACE_BITS | ask_place(as, a);

    for (uint32_t i = 0; i < ADAPTER_UID_CHARS; i++, bits >>= 6)
        id[i] = alphabet[bits & 63];
}

struct bridge_ask *ask_find(const struct bridge_asks *as, struct slice id)
{
    uint64_t bits = 0;
    struct bridge_ask *a;

    if (id.n_bytes != ADAPTER_UID_CHARS)
        return NULL;
    for (uint32_t i = ADAPTER_UID_CHARS; i-- > 0;) {
        const char *at = id.bytes[i] == '\0' ? NULL : strchr(alphabet, id.bytes[i]);

        if (at == NULL)
            return NULL;
        bits = bits << 6 | (uint64_t)(at - alphabet);
    }
    a = &as->items[bits & (BRIDGE_ASKS_MAX - 1)];
    return a->request != 0 && a->salt == bits >> ASK_PLACE_BITS ? a : NULL;
}

/* The list of those that wait for their count, in the order in which it was asked for. */
static void await_count(struct bridge_asks *as, struct bridge_ask *a)
{
    uint32_t place = ask_place(as, a) + 1;

    a->n_expected = ASK_UNCOUNTED;
    a->prev = as->last_uncounted;
    if (a->prev != 0)
        as->items[a->prev - 1].next = place;
    else
        as->first_uncounted = place;
    as->last_uncounted = place;
}

void ask_take_count(struct bridge_asks *as, struct bridge_ask *a, uint32_t n_expected)
{
    assert(a->n_expected == ASK_UNCOUNTED);
    a->n_expected = n_expected;
    if (a->prev != 0)
        as->items[a->prev - 1].next = a->next;
    else
        as->first_uncounted = a->next;
    if (a->next != 0)
        as->items[a->next - 1].prev = a->prev;
    else
        as->last_uncounted = a->prev;
    a->next = a->prev = 0;
}

static struct bridge_ask *open_ask(struct bridge *b, const struct record_header *header,
                                   uint32_t nsp, enum adapter_type type)
{
    struct bridge_asks *as = &b->asks;
    struct bridge_ask *a;
    uint32_t place;
    uint32_t salt;

    if (as->free == 0 && as->fresh == BRIDGE_ASKS_MAX)
        return NULL;
    if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
        abort(); /* never for so few bytes */
    place = as->free != 0 ? as->free - 1 : as->fresh++;
    a = &as->items[place];
    if (as->free != 0)
        as->free = a->next;
    *a = (struct bridge_ask){ .request = header->id,
                              .salt = salt & ((1u << ASK_SALT_BITS) - 1),
                              .nsp = nsp,
                              .slot = header->slot,
                              .type = (uint8_t)type,
                              .fetch = (uint8_t)header->detail };
    await_count(as, a);
    wheel_arm(&as->wheel, place,
              b->now_ms + (header->kind == RECORD_FETCH ? b->config->redis_request_timeout_ms
                                                        : header->detail));
    as->n++;
    return a;
}

void ask_drop(struct bridge *b, struct bridge_ask *a)
{
    struct bridge_asks *as = &b->asks;
    uint32_t place = ask_place(as, a);

    if (a->n_expected == ASK_UNCOUNTED)
        ask_take_count(as, a, 0);
    wheel_cancel(&as->wheel, place);
    free(a->answerers);
    *a = (struct bridge_ask){ .next = as->free };
    as->free = place + 1;
    as->n--;
}

/* --- to the worker that asked --- */

void ask_tell(struct bridge *b, enum record_kind kind, const struct bridge_ask *a, uint8_t flags,
              const struct record_part *parts, uint32_t n_parts)
{
    struct record_spec spec = { .nsp = slice_text("/"), .parts = parts, .n_parts = n_parts };
    uint32_t n_bytes;

    spec.header.kind = (uint8_t)kind;
    spec.header.id = a->request;
    spec.header.targets = 1ull << a->slot;
    spec.header.detail = a->n_expected;
    spec.header.flags = flags | RECORD_LOCAL;
    n_bytes = record_size(&spec);
    if (n_bytes == 0 || n_bytes > ring_record_bytes_max(&b->ring)) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        spec.header.flags |= RECORD_TRUNCATED; /* that there was one is told */
        spec.n_parts = 0;
    }
    bridge_append(b, &spec);
}

void ask_tell_text(struct bridge *b, const struct bridge_ask *a, uint8_t flags, struct slice text)
{
    struct record_part part = { .payload = text };

    ask_tell(b, RECORD_REPLY, a, flags, &part, 1);
}

bool ask_is_complete(const struct bridge_ask *a)
{
    return a->n_expected != ASK_UNCOUNTED && a->n_answers >= a->n_expected;
}

void ask_tell_end(struct bridge *b, const struct bridge_ask *a, uint8_t flags,
                  const struct slice *uids, uint32_t n_uids)
{
    char text[64 + ASK_NAMES_MAX * (ADAPTER_UID_CHARS * 8 + 3)];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);
    uint32_t n_asked = a->n_expected == ASK_UNCOUNTED ? a->n_answers : a->n_expected;
    char digits[JSON_NUMBER_MAX];

    if (a->type == ADAPTER_SERVER_EMIT) {
        ask_tell(b, RECORD_REPLY, a, flags | RECORD_LAST, NULL, 0); /* the numbers tell */
        return;
    }
    msgpack_put_text(&sink, "[");
    msgpack_put_bytes(&sink, slice_of(digits, json_put_number(digits, n_asked)));
    msgpack_put_text(&sink, ",");
    msgpack_put_bytes(&sink, slice_of(digits, json_put_number(digits, a->n_answers)));
    for (uint32_t i = 0; i < n_uids; i++) {
        msgpack_put_text(&sink, ",");
        msgpack_put_json_string(&sink, uids[i]);
    }
    msgpack_put_text(&sink, "]");
    assert(!sink.too_big);
    ask_tell_text(b, a, flags | RECORD_LAST, msgpack_sink_slice(&sink, 0));
}

void ask_end(struct bridge *b, struct bridge_ask *a, uint8_t flags)
{
    if (!a->told)
        ask_tell_end(b, a, flags, NULL, 0);
    ask_drop(b, a);
}

/* --- asking --- */

static bool is_reachable(const struct bridge *b)
{
    return b->in.state == LINK_UP && b->out.state == LINK_UP && !b->out.held &&
           b->n_confirmed >= b->n_subscriptions;
}

bool ask_must_wait(const struct bridge *b)
{
    if (b->n_pending > 0)
        return true; /* its end may have to be told */
    return b->in.state == LINK_UP && b->out.state == LINK_UP && !b->out.held &&
           b->n_confirmed < b->n_subscriptions &&
           b->now_ms - b->subscribed_at_ms < SUBSCRIBE_WAIT_MS;
}

static const struct bridge_namespace *namespace_of(const struct bridge *b, struct slice nsp)
{
    for (uint32_t i = 0; i < b->n_namespaces; i++)
        if (slice_equal(bridge_nsp(&b->namespaces[i]), nsp))
            return &b->namespaces[i];
    return NULL;
}

/* Which request brings what the worker wants. Ids alone are the smallest answer, but that request knows no excepted rooms. */
static enum adapter_type type_of(const struct record_header *header)
{
    if (header->kind == RECORD_SERVER_EMIT)
        return ADAPTER_SERVER_EMIT;
    if (header->kind == RECORD_BROADCAST)
        return ADAPTER_BROADCAST;
    switch ((enum record_fetch)header->detail) {
    case FETCH_ROOMS: return ADAPTER_ALL_ROOMS;
    case FETCH_SOCKET_IDS:
    case FETCH_COUNT: return header->n_except == 0 ? ADAPTER_SOCKETS : ADAPTER_FETCH;
    case FETCH_SOCKETS: break;
    }
    return ADAPTER_FETCH;
}

/* The event of a server-side emit: part 0 and its attachments. */
static void take_event(const struct record_view *view, struct msgpack_text *event)
{
    uint8_t opcode;

    event->json = record_part(view, 0, &opcode);
    event->n_attachments = 0;
    for (uint32_t i = 1;
         i < view->header->n_parts && event->n_attachments < MSGPACK_ATTACHMENTS_MAX; i++)
        event->attachments[event->n_attachments++] = record_part(view, i, &opcode);
}

static enum adapter_result put_server_emit(struct bridge *b, const struct record_view *view,
                                           struct slice id, struct msgpack_sink *sink,
                                           struct msgpack_sink *scratch)
{
    static struct msgpack_text event;

    take_event(view, &event);
    if (event.n_attachments > 0)
        return adapter_put_server_emit_binary(sink, scratch, bridge_uid(b), id, &event);
    adapter_put_server_emit(sink, bridge_uid(b), id, event.json);
    return ADAPTER_OK;
}

static enum adapter_result put_broadcast(struct bridge *b, const struct record_view *view,
                                         struct slice id, struct adapter_opts *opts,
                                         struct msgpack_sink *sink, struct msgpack_sink *scratch)
{
    static struct msgpack_text event;

    opts->flags.has_timeout = true;
    opts->flags.timeout_ms = view->header->detail;
    if (!outbound_event(b, view, &event))
        return ADAPTER_TOO_BIG;
    return adapter_put_broadcast_request(sink, scratch, bridge_uid(b), id, view->nsp, opts, &event);
}

/* Channel and request in b->message. False: it cannot be written, counted. */
static bool put_request(struct bridge *b, const struct record_view *view, enum adapter_type type,
                        struct slice id, struct slice *channel, struct slice *payload)
{
    enum adapter_result result = ADAPTER_OK;
    struct msgpack_sink sink, scratch;
    struct adapter_opts opts;
    uint64_t n_bytes = view->header->n_bytes;
    uint64_t n_names = outbound_selector(view, &opts);

    if (bridge_room(&b->scratch, 7 * n_bytes + 4096) == NULL ||
        bridge_room(&b->message, 4 * n_bytes + n_names + 4096) == NULL) {
        bridge_undecodable(b, ADAPTER_TOO_BIG);
        return false;
    }
    sink = msgpack_sink_of(b->message.bytes, b->message.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    adapter_put_request_channel(&sink, slice_text(b->config->redis_key), view->nsp);
    *channel = msgpack_sink_slice(&sink, 0);
    if (type == ADAPTER_SERVER_EMIT)
        result = put_server_emit(b, view, id, &sink, &scratch);
    else if (type == ADAPTER_BROADCAST)
        result = put_broadcast(b, view, id, &opts, &sink, &scratch);
    else
        adapter_put_query(&sink, type, bridge_uid(b), id, &opts);
    *payload = msgpack_sink_slice(&sink, channel->n_bytes);
    if (result == ADAPTER_OK && !sink.too_big)
        return true;
    bridge_undecodable(b, result);
    return false;
}

bool ask_pubsub(struct bridge *b, const char *what, struct slice about)
{
    struct slice words[3] = { slice_text("PUBSUB"), slice_text(what), about };

    return link_command(&b->out, 3, words);
}

/* Nothing is sent. RECORD_TRUNCATED: too many are under way. */
static void refuse(struct bridge *b, const struct record_header *header, enum adapter_type type,
                   uint8_t flags)
{
    struct bridge_ask none = { .request = header->id, .slot = header->slot, .type = (uint8_t)type };

    ask_tell_end(b, &none, flags | RECORD_LOST, NULL, 0);
}

void ask_record(struct bridge *b, const struct record_view *view)
{
    const struct record_header *header = view->header;
    const struct bridge_namespace *n = namespace_of(b, view->nsp);
    enum adapter_type type = type_of(header);
    struct slice channel, payload;
    char id[ADAPTER_UID_CHARS];
    struct bridge_ask *a;

    if ((type == ADAPTER_SERVER_EMIT && header->n_parts == 0) || header->slot >= PEAL_SLOT_BRIDGE)
        return;
    if (type == ADAPTER_SERVER_EMIT && (header->flags & RECORD_WANTS_ACK) == 0) {
        if (put_request(b, view, type, (struct slice){ NULL, 0 }, &channel, &payload))
            (void)bridge_publish(b, channel, payload); /* counted there */
        return;
    }
    if (!is_reachable(b) || n == NULL) {
        refuse(b, header, type, 0);
        return;
    }
    a = open_ask(b, header, n->index, type);
    if (a == NULL) {
        refuse(b, header, type, RECORD_TRUNCATED);
        return;
    }
    put_id(&b->asks, a, id);
    if (!put_request(b, view, type, slice_of(id, sizeof id), &channel, &payload) ||
        !ask_pubsub(b, "NUMSUB", channel) || !bridge_publish(b, channel, payload))
        ask_end(b, a, RECORD_LOST);
}
