/* query.c: questions of peers that this host's workers are answering.
 *
 * A question ends when every worker that was asked has answered or is gone, or shortly before the asker gives up: it is then answered with what came. A
 * broadcast with acknowledgement lives until its timeout, since acknowledgements may come until then. A server-side emit is answered by the first worker
 * whose application answers, at once if there is none that would, and not at all if it does not (as Node does). */
#include <stdlib.h>

#include "base/log.h"
#include "bridge/wire.h"
#include "proto/json.h"
#include "shm/atomic.h"

static bool take_text(char *to, uint32_t max, uint32_t *n, struct slice text)
{
    if (text.n_bytes > max)
        return false;
    *n = text.n_bytes;
    if (text.n_bytes > 0)
        memcpy(to, text.bytes, text.n_bytes);
    return true;
}

bool query_asker(struct bridge_asker *asker, const struct bridge_namespace *n,
                 const struct adapter_request *r)
{
    asker->type = (uint8_t)r->type;
    return r->request_id.bytes != NULL &&
           take_text(asker->request_id, sizeof asker->request_id, &asker->n_request_id,
                     r->request_id) &&
           take_text(asker->uid, sizeof asker->uid, &asker->n_uid, r->uid) &&
           take_text(asker->nsp, sizeof asker->nsp, &asker->n_nsp, bridge_nsp(n));
}

struct slice asker_nsp(const struct bridge_asker *asker)
{
    return slice_of(asker->nsp, asker->n_nsp);
}

struct slice asker_request_id(const struct bridge_asker *asker)
{
    return slice_of(asker->request_id, asker->n_request_id);
}

struct slice asker_uid(const struct bridge_asker *asker)
{
    return slice_of(asker->uid, asker->n_uid);
}

struct bridge_query *query_open(struct bridge *b, const struct bridge_namespace *n,
                                const struct adapter_request *r, uint32_t timeout_ms)
{
    struct bridge_query *q = NULL;
    struct bridge_asker asker;
    uint64_t counter;

    if (!query_asker(&asker, n, r))
        return NULL;
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX && q == NULL; i++)
        if (b->queries[i].id == 0)
            q = &b->queries[i];
    if (q == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_BUFFER, 1);
        return NULL;
    }
    if (q == &b->queries[b->queries_end])
        b->queries_end++;
    /* the counter lives in the slot and survives this process: an id is never used twice */
    counter = shm_load_u64(&b->slot->next_ack) + 1;
    shm_store_u64(&b->slot->next_ack, counter);
    *q = (struct bridge_query){ .id = counter * PEAL_SLOTS + PEAL_SLOT_BRIDGE,
                                .type = (uint8_t)r->type,
                                .asker = asker };
    q->until_ms = b->now_ms + (r->type == ADAPTER_BROADCAST || r->type == ADAPTER_SERVER_EMIT
                                   ? timeout_ms
                                   : timeout_ms / 10 * 8);
    return q;
}

static struct bridge_query *find(struct bridge *b, uint64_t id)
{
    for (uint32_t i = 0; i < b->queries_end; i++)
        if (b->queries[i].id == id && id != 0)
            return &b->queries[i];
    return NULL;
}

static void end(struct bridge_query *q)
{
    free(q->answer);
    *q = (struct bridge_query){ 0 };
}

static void note_truncated(struct bridge *b, const struct bridge_query *q)
{
    static struct log_rate rate;
    uint32_t suppressed;

    count_add(b->row,
              q->type == ADAPTER_ALL_ROOMS ? COUNT_REDIS_TRUNCATED_ROOMS
                                           : COUNT_REDIS_TRUNCATED_SOCKETS,
              1);
    if (log_allow(&rate, b->now_ms, 6, &suppressed))
        log_warning("redis_answer_truncated", "type=%u limit=%u key=%s suppressed=%u", q->type,
                    b->config->redis_answer_max_bytes, "redis_answer_max_bytes", suppressed);
}

/* The first element of an array, with the attachments of all of them (placeholders name them by number). */
static bool first_value(const struct record_view *view, struct msgpack_text *value)
{
    struct json_iter it;
    struct slice array, key;
    enum json_kind kind;
    uint8_t opcode;

    array = record_part(view, 0, &opcode);
    if (!json_valid(array, &kind) || kind != JSON_ARRAY)
        return false;
    it = json_iter_open(array);
    value->n_attachments = 0;
    if (!json_iter_next(&it, &key, &value->json, &kind))
        value->json = (struct slice){ NULL, 0 };
    for (uint32_t i = 1;
         i < view->header->n_parts && value->n_attachments < MSGPACK_ATTACHMENTS_MAX; i++)
        value->attachments[value->n_attachments++] = record_part(view, i, &opcode);
    return true;
}

static void answer_list(struct bridge *b, struct bridge_query *q)
{
    struct msgpack_sink sink;

    if (bridge_room(&b->payload, (uint64_t)q->n_answer + 4096) == NULL)
        return; /* the asker runs into its timeout */
    sink = msgpack_sink_of(b->payload.bytes, b->payload.n_max);
    if (!b->wire->put_list(b, &sink, &q->asker, (enum adapter_type)q->type,
                           slice_of(q->answer, q->n_answer)))
        return; /* cannot be: there is room for far more */
    if (q->truncated)
        note_truncated(b, q);
    (void)bridge_respond(b, &q->asker, msgpack_sink_slice(&sink, 0));
}

static void answer_count(struct bridge *b, struct bridge_query *q)
{
    char text[ANSWER_BYTES_MAX];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);

    b->wire->put_count(b, &sink, &q->asker, q->n_clients);
    q->counted = true;
    if (!sink.too_big)
        (void)bridge_respond(b, &q->asker, msgpack_sink_slice(&sink, 0));
}

/* What an application of ours answered, or null: the first value of `view`'s array. */
static void answer_emit(struct bridge *b, struct bridge_query *q, const struct record_view *view)
{
    static struct msgpack_text value;
    uint64_t n_bytes = view == NULL ? 0 : view->header->n_bytes;
    struct msgpack_sink sink, scratch;

    if (bridge_room(&b->payload, 4 * n_bytes + 4096) == NULL ||
        bridge_room(&b->scratch, 7 * n_bytes + 4096) == NULL)
        return; /* the asker runs into its timeout */
    value.json = slice_text("null");
    value.n_attachments = 0;
    if (view != NULL && !first_value(view, &value))
        return;
    sink = msgpack_sink_of(b->payload.bytes, b->payload.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    if (b->wire->put_emit_answer(b, &sink, &scratch, &q->asker, &value) == ADAPTER_OK)
        (void)bridge_respond(b, &q->asker, msgpack_sink_slice(&sink, 0));
}

/* Everybody who was asked has answered, or it is time. */
static void complete(struct bridge *b, struct bridge_query *q)
{
    switch ((enum adapter_type)q->type) {
    case ADAPTER_BROADCAST:
        if (!q->counted)
            answer_count(b, q);
        return;
    case ADAPTER_SERVER_EMIT:
        if (q->waiting == 0)
            answer_emit(b, q, NULL); /* nobody listens */
        break;
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_FETCH: answer_list(b, q); break;
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
    case ADAPTER_DISCONNECT:
    case ADAPTER_CLIENT_COUNT:
    case ADAPTER_CLIENT_ACK:
    case ADAPTER_TYPES: break;
    }
    end(q);
}

static void add_list(struct bridge *b, struct bridge_query *q, struct slice more)
{
    uint64_t want = (uint64_t)q->n_answer + more.n_bytes + 1;
    char *answer;

    if (more.n_bytes == 0 || q->truncated)
        return;
    /* whole replies are whole entries: what goes over the limit is left out as a piece */
    answer = want > b->config->redis_answer_max_bytes ? NULL : realloc(q->answer, want);
    if (answer == NULL) {
        q->truncated = true;
        return;
    }
    q->answer = answer;
    if (q->n_answer > 0 && more.bytes[0] != ',')
        q->answer[q->n_answer++] = ',';
    memcpy(q->answer + q->n_answer, more.bytes, more.n_bytes);
    q->n_answer += more.n_bytes;
}

void query_reply(struct bridge *b, const struct record_view *view)
{
    const struct record_header *header = view->header;
    struct bridge_query *q = find(b, header->id);
    struct slice payload;
    uint8_t opcode;

    if (q == NULL || header->slot >= PEAL_SLOTS || (q->waiting >> header->slot & 1) == 0)
        return; /* too late, or nobody asked it */
    if (q->type == ADAPTER_SERVER_EMIT) {
        q->waiting &= ~(1ull << header->slot);
        if (header->n_parts > 0) {
            answer_emit(b, q, view);
            end(q);
        } else if (q->waiting == 0) {
            complete(b, q);
        }
        return;
    }
    if (header->n_parts == 0)
        return;
    payload = record_part(view, 0, &opcode);
    if (q->type == ADAPTER_BROADCAST) {
        q->n_clients += (uint32_t)json_number(payload);
    } else {
        add_list(b, q, payload);
        q->truncated = q->truncated || (header->flags & RECORD_TRUNCATED) != 0;
    }
    if ((header->flags & RECORD_LAST) == 0)
        return;
    q->waiting &= ~(1ull << header->slot);
    if (q->waiting == 0)
        complete(b, q);
}

void query_gone(struct bridge *b, uint32_t slot)
{
    for (uint32_t i = 0; i < b->queries_end; i++) {
        struct bridge_query *q = &b->queries[i];

        if (q->id == 0 || slot >= PEAL_SLOTS || (q->waiting >> slot & 1) == 0)
            continue;
        q->waiting &= ~(1ull << slot);
        if (q->waiting == 0)
            complete(b, q);
    }
}

/* The first argument of a client's acknowledgement. */
void query_ack(struct bridge *b, const struct record_view *view)
{
    static struct msgpack_text value;
    struct bridge_query *q = find(b, view->header->id);
    uint64_t n_bytes = view->header->n_bytes;
    struct msgpack_sink sink, scratch;

    if (q == NULL || q->type != ADAPTER_BROADCAST || !first_value(view, &value) ||
        bridge_room(&b->payload, 4 * n_bytes + 4096) == NULL ||
        bridge_room(&b->scratch, 7 * n_bytes + 4096) == NULL)
        return;
    sink = msgpack_sink_of(b->payload.bytes, b->payload.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    if (b->wire->put_ack(b, &sink, &scratch, &q->asker, &value) == ADAPTER_OK)
        (void)bridge_respond(b, &q->asker, msgpack_sink_slice(&sink, 0));
}

void query_expire(struct bridge *b)
{
    for (uint32_t i = 0; i < b->queries_end; i++) {
        struct bridge_query *q = &b->queries[i];

        if (q->id == 0)
            continue;
        if (q->type == ADAPTER_BROADCAST && q->waiting == 0 && !q->counted)
            complete(b, q);
        else if (q->type == ADAPTER_SERVER_EMIT && q->waiting == 0)
            complete(b, q);
        if (q->id == 0 || b->now_ms < q->until_ms)
            continue;
        complete(b, q);
        if (q->id != 0)
            end(q);
    }
    while (b->queries_end > 0 && b->queries[b->queries_end - 1].id == 0)
        b->queries_end--;
}
