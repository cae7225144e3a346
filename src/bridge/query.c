/* query.c: questions of peers that this host's workers are answering.
 *
 * A question ends when every worker that was asked has answered or is gone, or shortly before the asker gives up: it is then answered with what came. A
 * broadcast with acknowledgement lives until its timeout, since acknowledgements may come until then. A server-side emit is answered by the first worker
 * whose application answers, at once if there is none that would, and not at all if it does not (as Node does). */
#include <stdlib.h>

#include "base/log.h"
#include "bridge/state.h"
#include "proto/json.h"
#include "shm/atomic.h"

struct bridge_query *query_open(struct bridge *b, const struct bridge_namespace *n,
                                const struct adapter_request *r, uint32_t timeout_ms)
{
    struct slice request_id = r->request_id;
    enum adapter_type type = r->type;
    struct bridge_query *q = NULL;
    uint64_t counter;

    if (request_id.bytes == NULL || request_id.n_bytes > sizeof q->request_id)
        return NULL;
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX && q == NULL; i++)
        if (b->queries[i].id == 0)
            q = &b->queries[i];
    if (q == NULL) {
        count_add(b->row, COUNT_REDIS_DROPPED_BUFFER, 1);
        return NULL;
    }
    /* the counter lives in the slot and survives this process: an id is never used twice */
    counter = shm_load_u64(&b->slot->next_ack) + 1;
    shm_store_u64(&b->slot->next_ack, counter);
    *q = (struct bridge_query){ .id = counter * PEAL_SLOTS + PEAL_SLOT_BRIDGE,
                                .type = (uint8_t)type,
                                .n_nsp = n->name.n_bytes };
    memcpy(q->nsp, n->name.name, n->name.n_bytes);
    q->until_ms = b->now_ms + (type == ADAPTER_BROADCAST || type == ADAPTER_SERVER_EMIT
                                   ? timeout_ms
                                   : timeout_ms / 10 * 8);
    memcpy(q->request_id, request_id.bytes, request_id.n_bytes);
    q->n_request_id = request_id.n_bytes;
    /* answers to server-side emits go to the common channel always, as Node's do */
    if (b->config->redis_own_channel && type != ADAPTER_SERVER_EMIT && r->uid.bytes != NULL &&
        r->uid.n_bytes <= sizeof q->asker) {
        memcpy(q->asker, r->uid.bytes, r->uid.n_bytes);
        q->n_asker = r->uid.n_bytes;
    }
    return q;
}

static struct bridge_query *find(struct bridge *b, uint64_t id)
{
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX; i++)
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

static struct slice nsp_of(const struct bridge_query *q)
{
    return slice_of(q->nsp, q->n_nsp);
}

static bool respond(struct bridge *b, const struct bridge_query *q, struct slice payload)
{
    return bridge_respond(b, nsp_of(q), slice_of(q->n_asker > 0 ? q->asker : NULL, q->n_asker),
                          payload);
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
    struct adapter_answer list;
    struct msgpack_sink sink;

    if (bridge_room(&b->payload, (uint64_t)q->n_answer + 1024) == NULL)
        return; /* the asker runs into its timeout */
    sink = msgpack_sink_of(b->payload.bytes, b->payload.n_max);
    if (!adapter_answer_begin(&list, &sink, (enum adapter_type)q->type,
                              slice_of(q->request_id, q->n_request_id), bridge_uid(b)))
        return;          /* cannot be: there is room for far more */
    if (q->n_answer > 0) /* entries with their commas, as the workers wrote them */
        msgpack_put_bytes(&sink, slice_of(q->answer, q->n_answer));
    adapter_answer_end(&list);
    if (q->truncated)
        note_truncated(b, q);
    (void)respond(b, q, msgpack_sink_slice(&sink, 0));
}

static void answer_count(struct bridge *b, struct bridge_query *q)
{
    char text[256];
    struct msgpack_sink sink = msgpack_sink_of(text, sizeof text);

    adapter_put_client_count(&sink, slice_of(q->request_id, q->n_request_id), bridge_uid(b),
                             q->n_clients);
    q->counted = true;
    if (!sink.too_big)
        (void)respond(b, q, msgpack_sink_slice(&sink, 0));
}

/* What an application of ours answered, or null: the first value of `view`'s array. */
static void answer_emit(struct bridge *b, struct bridge_query *q, const struct record_view *view)
{
    static struct msgpack_text value;
    struct slice id = slice_of(q->request_id, q->n_request_id);
    uint64_t n_bytes = view == NULL ? 0 : view->header->n_bytes;
    struct msgpack_sink sink, scratch;
    enum adapter_result result = ADAPTER_OK;

    if (bridge_room(&b->payload, 4 * n_bytes + 4096) == NULL ||
        bridge_room(&b->scratch, 7 * n_bytes + 4096) == NULL)
        return; /* the asker runs into its timeout */
    value.json = slice_text("null");
    value.n_attachments = 0;
    if (view != NULL && !first_value(view, &value))
        return;
    sink = msgpack_sink_of(b->payload.bytes, b->payload.n_max);
    scratch = msgpack_sink_of(b->scratch.bytes, b->scratch.n_max);
    if (value.n_attachments > 0)
        result = adapter_put_emit_answer_binary(&sink, &scratch, id, &value);
    else
        adapter_put_emit_answer(&sink, id, value.json);
    if (result == ADAPTER_OK && !sink.too_big)
        (void)respond(b, q, msgpack_sink_slice(&sink, 0));
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
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX; i++) {
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
    if (adapter_put_client_ack(&sink, &scratch, slice_of(q->request_id, q->n_request_id), &value) ==
        ADAPTER_OK)
        (void)respond(b, q, msgpack_sink_slice(&sink, 0));
}

void query_expire(struct bridge *b)
{
    for (uint32_t i = 0; i < BRIDGE_QUERIES_MAX; i++) {
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
}
