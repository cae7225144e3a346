/* ask.c: what workers of this host ask the other servers of the cluster, and what those answer.
 *
 * As Node does it: Redis is asked how many servers there are, the request is published, and that many answers less one, our own, are waited for. The count and
 * the request go out together on one connection, so nothing of a worker overtakes what it has asked, and no server comes between the two. Answers come on
 * the other connection, perhaps before the count. Each goes to the worker that asked as a RECORD_REPLY (detail: how many were asked, ASK_UNCOUNTED if that is
 * not known yet), and the last record says RECORD_LAST.
 *
 * Invariant: an ask is in the wheel from its opening to its end, and in the list of those that wait for their count until it has come. One record at a time is
 *            appended, and none while bridge.n_pending > 0.
 * Owns:      the table of asks; a request id is a place in it and 18 random bits, so an answer that comes too late finds nothing. */
#include "bridge/state.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/socketio.h"

#define ASK_PLACE_BITS    18
#define ASK_SALT_BITS     18
#define EXPIRES_PER_TURN  1024
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
    free(b->asks.items);
}

/* --- the table --- */

static uint32_t place_of(const struct bridge_asks *as, const struct bridge_ask *a)
{
    return (uint32_t)(a - as->items);
}

static void put_id(const struct bridge_asks *as, const struct bridge_ask *a,
                   char id[ADAPTER_UID_CHARS])
{
    uint64_t bits = (uint64_t)a->salt << ASK_PLACE_BITS | place_of(as, a);

    for (uint32_t i = 0; i < ADAPTER_UID_CHARS; i++, bits >>= 6)
        id[i] = alphabet[bits & 63];
}

/* Whose answer it is; NULL: nobody's (any more), or another server's. */
static struct bridge_ask *find(const struct bridge_asks *as, struct slice id)
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
    uint32_t place = place_of(as, a) + 1;

    a->n_expected = ASK_UNCOUNTED;
    a->prev = as->last_uncounted;
    if (a->prev != 0)
        as->items[a->prev - 1].next = place;
    else
        as->first_uncounted = place;
    as->last_uncounted = place;
}

static void take_count(struct bridge_asks *as, struct bridge_ask *a, uint32_t n_expected)
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
                                   uint32_t nsp)
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
                              .slot = header->slot };
    await_count(as, a);
    wheel_arm(&as->wheel, place, b->now_ms + header->detail);
    as->n++;
    return a;
}

static void close_ask(struct bridge *b, struct bridge_ask *a)
{
    struct bridge_asks *as = &b->asks;
    uint32_t place = place_of(as, a);

    if (a->n_expected == ASK_UNCOUNTED)
        take_count(as, a, 0);
    wheel_cancel(&as->wheel, place);
    *a = (struct bridge_ask){ .next = as->free };
    as->free = place + 1;
    as->n--;
}

/* --- to the worker that asked --- */

static void reply(struct bridge *b, uint64_t request, uint32_t slot, uint32_t n_expected,
                  uint8_t flags, const struct record_part *parts, uint32_t n_parts)
{
    struct record_spec spec = { .nsp = slice_text("/"), .parts = parts, .n_parts = n_parts };
    uint32_t n_bytes;

    spec.header.kind = RECORD_REPLY;
    spec.header.id = request;
    spec.header.targets = 1ull << slot;
    spec.header.detail = n_expected;
    spec.header.flags = flags | RECORD_LOCAL;
    n_bytes = record_size(&spec);
    if (n_bytes == 0 || n_bytes > ring_record_bytes_max(&b->ring)) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        spec.header.flags |= RECORD_TRUNCATED; /* that there was one is told */
        spec.n_parts = 0;
    }
    bridge_append(b, &spec);
}

/* It ends. RECORD_LOST: Redis is away. Without flags it is complete, or its time is up: the numbers tell. */
static void end_ask(struct bridge *b, struct bridge_ask *a, uint8_t flags)
{
    reply(b, a->request, a->slot, a->n_expected, flags | RECORD_LAST, NULL, 0);
    close_ask(b, a);
}

static bool is_complete(const struct bridge_ask *a)
{
    return a->n_expected != ASK_UNCOUNTED && a->n_answers >= a->n_expected;
}

/* --- asking --- */

static bool is_reachable(const struct bridge *b)
{
    return b->in.state == LINK_UP && b->out.state == LINK_UP &&
           b->n_confirmed >= b->n_subscriptions;
}

bool ask_must_wait(const struct bridge *b)
{
    if (b->n_pending > 0)
        return true; /* its end may have to be told */
    return b->in.state == LINK_UP && b->out.state == LINK_UP &&
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

static bool ask_count(struct bridge *b, struct slice channel)
{
    struct slice words[3] = { slice_text("PUBSUB"), slice_text("NUMSUB"), channel };

    return link_command(&b->out, 3, words);
}

/* The event of a record: part 0 and its attachments. */
static void take_event(const struct record_view *view, struct msgpack_text *event)
{
    uint8_t opcode;

    event->json = record_part(view, 0, &opcode);
    event->n_attachments = 0;
    for (uint32_t i = 1;
         i < view->header->n_parts && event->n_attachments < MSGPACK_ATTACHMENTS_MAX; i++)
        event->attachments[event->n_attachments++] = record_part(view, i, &opcode);
}

/* Channel and request in b->message. False: it cannot be written, counted. */
static bool put_server_emit(struct bridge *b, const struct record_view *view,
                            struct slice request_id, struct slice *channel, struct slice *payload)
{
    static struct msgpack_text event;
    uint64_t n_bytes = view->header->n_bytes;
    enum adapter_result result = ADAPTER_OK;
    struct msgpack_sink sink, scratch;

    if (view->header->n_parts == 0 || bridge_room(&b->scratch, 7 * n_bytes + 4096) == NULL ||
        bridge_room(&b->message, 4 * n_bytes + 4096) == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_TOO_BIG, 1);
        return false;
    }
    take_event(view, &event);
    sink = msgpack_sink_of(b->message.bytes, b->message.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    adapter_put_request_channel(&sink, slice_text(b->config->redis_key), view->nsp);
    *channel = msgpack_sink_slice(&sink, 0);
    if (event.n_attachments == 0)
        adapter_put_server_emit(&sink, bridge_uid(b), request_id, event.json);
    else
        result = adapter_put_server_emit_binary(&sink, &scratch, bridge_uid(b), request_id, &event);
    *payload = msgpack_sink_slice(&sink, channel->n_bytes);
    if (result == ADAPTER_OK && !sink.too_big)
        return true;
    count_add(b->row, COUNT_REDIS_DROPPED_UNDECODABLE, 1);
    return false;
}

void ask_server_emit(struct bridge *b, const struct record_view *view)
{
    const struct record_header *header = view->header;
    const struct bridge_namespace *n = namespace_of(b, view->nsp);
    struct slice channel, payload;
    struct bridge_ask *a = NULL;
    char id[ADAPTER_UID_CHARS];
    bool sent;

    if ((header->flags & RECORD_WANTS_ACK) == 0) {
        if (put_server_emit(b, view, (struct slice){ NULL, 0 }, &channel, &payload))
            (void)bridge_publish(b, channel, payload); /* counted there */
        return;
    }
    if (header->slot >= PEAL_SLOTS || header->slot == PEAL_SLOT_BRIDGE)
        return;
    if (is_reachable(b) && n != NULL)
        a = open_ask(b, header, n->index);
    if (a == NULL) { /* TRUNCATED besides: too many are under way */
        reply(b, header->id, header->slot, 0,
              RECORD_LAST | RECORD_LOST | (is_reachable(b) && n != NULL ? RECORD_TRUNCATED : 0u),
              NULL, 0);
        return;
    }
    put_id(&b->asks, a, id);
    sent = put_server_emit(b, view, slice_of(id, sizeof id), &channel, &payload) &&
           ask_count(b, channel) && bridge_publish(b, channel, payload);
    if (!sent)
        end_ask(b, a, RECORD_LOST);
}

/* --- what comes back --- */

void ask_counted(struct bridge *b, const struct bridge_namespace *n, uint64_t n_servers)
{
    struct bridge_asks *as = &b->asks;

    for (uint32_t place = as->first_uncounted; place != 0; place = as->items[place - 1].next) {
        struct bridge_ask *a = &as->items[place - 1];

        if (a->nsp != n->index)
            continue;
        take_count(as, a, n_servers == 0 ? 0 : (uint32_t)n_servers - 1);
        if (is_complete(a))
            end_ask(b, a, 0);
        return;
    }
}

void ask_answered(struct bridge *b, struct slice payload)
{
    static struct adapter_reply r;
    static struct record_part parts[1 + SIO_ATTACHMENTS_MAX];
    struct msgpack_sink sink;
    struct bridge_ask *a;
    enum adapter_result result;
    uint8_t flags = 0;

    if (b->asks.n == 0)
        return; /* nearly always: answers to others' questions */
    if (!bridge_decode_sink(b, payload, &sink))
        return;
    result = adapter_read_reply(payload, &sink, &r);
    if (result != ADAPTER_OK) {
        bridge_undecodable(b, result);
        return;
    }
    a = find(&b->asks, r.request_id);
    if (a == NULL || r.type != ADAPTER_SERVER_EMIT)
        return;
    a->n_answers++;
    if (is_complete(a))
        flags |= RECORD_LAST;
    parts[0] = (struct record_part){ .payload = r.value.json };
    if (r.value.n_attachments > SIO_ATTACHMENTS_MAX) {
        flags |= RECORD_TRUNCATED;
        r.value.n_attachments = 0;
        parts[0].payload = slice_text("null");
    }
    for (uint32_t i = 0; i < r.value.n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = r.value.attachments[i] };
    reply(b, a->request, a->slot, a->n_expected, flags, parts, 1 + r.value.n_attachments);
    if ((flags & RECORD_LAST) != 0)
        close_ask(b, a);
}

/* --- time --- */

void ask_expire(struct bridge *b)
{
    struct bridge_asks *as = &b->asks;
    uint32_t budget = EXPIRES_PER_TURN;

    if (as->n == 0)
        return;
    if (b->in.state != LINK_UP || b->out.state != LINK_UP) {
        /* answers may have been missed: nobody is to wait for them */
        for (uint32_t i = 0; i < as->fresh && b->n_pending == 0; i++)
            if (as->items[i].request != 0)
                end_ask(b, &as->items[i], RECORD_LOST);
        return;
    }
    while (b->n_pending == 0) {
        uint32_t place = wheel_expire(&as->wheel, b->now_ms, &budget);

        if (place == WHEEL_NONE)
            return;
        end_ask(b, &as->items[place], 0);
    }
}

uint32_t ask_rest_ms(const struct bridge *b)
{
    return wheel_next_ms(&b->asks.wheel, b->now_ms);
}
