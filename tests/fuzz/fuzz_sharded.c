/* fuzz_sharded.c: any bytes as a message of the sharded adapter; what is read is written again and
 * must read as the same. */
#include "proto/sharded.h"

#include "lib/fuzz_sinks.h"
#include "proto/json.h"

#define INPUT_MAX 20000

static void check_same(const struct sharded_message *a, const struct sharded_message *b)
{
    const struct adapter_request *x = &a->request;
    const struct adapter_request *y = &b->request;

    CHECK(x->type == y->type);
    CHECK(a->is_answer == b->is_answer);
    CHECK(slice_equal(a->nsp, b->nsp));
    CHECK(slice_equal(x->uid, y->uid));
    if (x->type != ADAPTER_JOIN && x->type != ADAPTER_LEAVE && x->type != ADAPTER_DISCONNECT)
        CHECK(slice_equal(x->request_id, y->request_id)); /* those that have one */
    CHECK(same_names(x->opts.rooms, x->opts.n_rooms, y->opts.rooms, y->opts.n_rooms));
    CHECK(same_names(x->opts.except, x->opts.n_except, y->opts.except, y->opts.n_except));
    CHECK(same_names(x->names, x->n_names, y->names, y->n_names));
    CHECK(x->opts.flags.is_volatile == y->opts.flags.is_volatile);
    CHECK(x->opts.flags.has_compress == y->opts.flags.has_compress);
    CHECK(x->opts.flags.has_timeout == y->opts.flags.has_timeout);
    CHECK(x->opts.flags.timeout_ms == y->opts.flags.timeout_ms);
    CHECK(x->close == y->close);
}

static enum adapter_result put(const struct sharded_message *m, struct msgpack_sink *sink,
                               struct msgpack_sink *scratch)
{
    const struct adapter_request *r = &m->request;
    struct sharded_head head = { r->uid, m->nsp, r->request_id };
    struct slice inside = r->data.json;

    switch (r->type) {
    case ADAPTER_BROADCAST: return sharded_put_broadcast(sink, scratch, &head, &r->opts, &r->data);
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
        sharded_put_membership(sink, r->type, &head, &r->opts, r->names, r->n_names);
        break;
    case ADAPTER_DISCONNECT: sharded_put_disconnect(sink, &head, &r->opts, r->close); break;
    case ADAPTER_FETCH:
        if (!m->is_answer) {
            sharded_put_fetch(sink, &head, &r->opts);
            break;
        }
        CHECK(inside.n_bytes >= 2);
        sharded_put_sockets(sink, &head, slice_of(inside.bytes + 1, inside.n_bytes - 2));
        break;
    case ADAPTER_SERVER_EMIT:
        return m->is_answer ? sharded_put_emit_answer(sink, scratch, &head, &r->data)
                            : sharded_put_server_emit(sink, scratch, &head, &r->data);
    case ADAPTER_CLIENT_COUNT:
        sharded_put_client_count(sink, &head, (uint32_t)r->client_count);
        break;
    case ADAPTER_CLIENT_ACK: return sharded_put_client_ack(sink, scratch, &head, &r->data);
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_TYPES: CHECK(false);
    }
    return sink->too_big ? ADAPTER_TOO_BIG : ADAPTER_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct sharded_message message, again;
    struct msgpack_sink arena, out, scratch, arena_again;
    enum adapter_result result;
    uint64_t n_max;
    enum json_kind kind;

    if (n > INPUT_MAX)
        return 0;
    arena = new_sink(24 * n + 16384);
    result = sharded_read(slice_of(data, (uint32_t)n), &arena, &message);
    CHECK(result != ADAPTER_TOO_BIG);
    if (result == ADAPTER_OK) {
        const struct msgpack_text *text = &message.request.data;

        CHECK(text->json.bytes == NULL || json_valid(text->json, &kind));
        n_max = 40 * n + 9 * (uint64_t)text->json.n_bytes + 4096;
        out = new_sink(n_max);
        scratch = new_sink(4 * (uint64_t)text->json.n_bytes + n + 64);
        arena_again = new_sink(24 * n_max + 16384);
        /* maps that look like placeholders may name an attachment that there is not, or one often */
        if (put(&message, &out, &scratch) == ADAPTER_OK) {
            CHECK(sharded_read(msgpack_sink_slice(&out, 0), &arena_again, &again) == ADAPTER_OK);
            check_same(&message, &again);
        } else {
            CHECK(text->n_attachments > 0);
        }
        free(out.bytes);
        free(scratch.bytes);
        free(arena_again.bytes);
    }
    free(arena.bytes);
    return 0;
}
