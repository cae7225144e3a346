/* fuzz_adapter.c: any bytes as a broadcast, as a request and as an answer; what decodes is written
 * again and must decode to the same. */
#include "proto/adapter.h"

#include "lib/fuzz_sinks.h"
#include "proto/json.h"

#define INPUT_MAX 20000

static void check_names(const struct slice *names, uint32_t n_names)
{
    char *quoted;
    enum json_kind kind;

    for (uint32_t i = 0; i < n_names; i++) {
        quoted = malloc(6 * (size_t)names[i].n_bytes + 2);
        CHECK(quoted != NULL);
        CHECK(json_valid(slice_of(quoted, json_put_string(quoted, names[i])), &kind));
        free(quoted);
    }
}

static void check_same(const struct adapter_broadcast *a, const struct adapter_broadcast *b)
{
    CHECK(slice_equal(a->nsp, b->nsp));
    CHECK(a->has_id == b->has_id);
    CHECK(!a->has_id || a->id == b->id);
    CHECK(same_names(a->opts.rooms, a->opts.n_rooms, b->opts.rooms, b->opts.n_rooms));
    CHECK(same_names(a->opts.except, a->opts.n_except, b->opts.except, b->opts.n_except));
    CHECK(a->opts.flags.is_volatile == b->opts.flags.is_volatile);
    CHECK(a->opts.flags.is_broadcast == b->opts.flags.is_broadcast);
    CHECK(a->opts.flags.expects_single == b->opts.flags.expects_single);
    CHECK(a->opts.flags.has_compress == b->opts.flags.has_compress);
    CHECK(a->opts.flags.compress == b->opts.flags.compress);
    CHECK(a->opts.flags.has_timeout == b->opts.flags.has_timeout);
    CHECK(!a->opts.flags.has_timeout || a->opts.flags.timeout_ms == b->opts.flags.timeout_ms);
}

/* Maps that look like placeholders among the real ones may name an attachment twice, or one that
 * there is not. */
static bool has_lookalikes(const struct msgpack_text *text)
{
    const char *at = text->json.bytes;
    uint32_t n = 0;

    while ((at = memmem(at, (size_t)(text->json.bytes + text->json.n_bytes - at), "_placeholder",
                        12)) != NULL) {
        at += 12;
        n++;
    }
    return n > text->n_attachments;
}

/* Writes a decoded broadcast and reads it again. */
static void round_trip(const struct adapter_broadcast *b, const struct msgpack_text *event,
                       uint64_t n_input)
{
    static struct msgpack_text event_again;
    uint64_t n_max = 3 * (uint64_t)event->json.n_bytes + 32 * n_input + 1024;
    struct msgpack_sink out = new_sink(n_max);
    struct msgpack_sink scratch = new_sink(4 * (uint64_t)event->json.n_bytes + n_input + 64);
    struct msgpack_sink arena = new_sink(24 * n_max + 6 * n_max + 40 * MSGPACK_ATTACHMENTS_MAX);
    struct adapter_broadcast again;
    enum adapter_result result;

    result = adapter_put_broadcast(&out, &scratch, b->uid, b->nsp, b->has_id ? b->id : -1, &b->opts,
                                   event);
    if (result == ADAPTER_OK) {
        CHECK(adapter_open_broadcast(msgpack_sink_slice(&out, 0), &arena, &again) == ADAPTER_OK);
        check_same(b, &again);
        CHECK(adapter_take_event(&again, &arena, &event_again) == ADAPTER_OK);
    } else {
        CHECK(has_lookalikes(event));
    }
    free(arena.bytes);
    free(scratch.bytes);
    free(out.bytes);
}

static void as_broadcast(struct slice payload)
{
    static struct msgpack_text event;
    struct msgpack_sink sink = new_sink(24 * (uint64_t)payload.n_bytes);
    struct msgpack_sink text =
        new_sink(6 * (uint64_t)payload.n_bytes + 40 * MSGPACK_ATTACHMENTS_MAX);
    struct adapter_broadcast b;
    enum adapter_result result = adapter_open_broadcast(payload, &sink, &b);
    enum json_kind kind;

    CHECK(result != ADAPTER_TOO_BIG);
    if (result == ADAPTER_OK) {
        check_names(b.opts.rooms, b.opts.n_rooms);
        check_names(b.opts.except, b.opts.n_except);
        result = adapter_take_event(&b, &text, &event);
        CHECK(result != ADAPTER_TOO_BIG);
        if (result == ADAPTER_OK) {
            CHECK(json_valid(event.json, &kind));
            CHECK(kind == JSON_ARRAY);
            round_trip(&b, &event, payload.n_bytes);
        }
    }
    free(text.bytes);
    free(sink.bytes);
}

static void as_request(struct slice payload)
{
    static struct adapter_request r;
    struct msgpack_sink sink = new_sink(24 * (uint64_t)payload.n_bytes + 16384);
    enum adapter_result result = adapter_read_request(payload, &sink, &r);
    enum json_kind kind;

    CHECK(result != ADAPTER_TOO_BIG);
    if (result == ADAPTER_OK) {
        CHECK(r.type < ADAPTER_TYPES);
        check_names(r.opts.rooms, r.opts.n_rooms);
        check_names(r.opts.except, r.opts.n_except);
        check_names(r.names, r.n_names);
        if (r.data.json.bytes != NULL)
            CHECK(json_valid(r.data.json, &kind));
    }
    free(sink.bytes);
}

static void as_reply(struct slice payload)
{
    static struct adapter_reply r;
    bool is_json = payload.n_bytes > 0 && payload.bytes[0] == '{';
    struct msgpack_sink sink =
        new_sink(is_json ? INPUT_MAX : 24 * (uint64_t)payload.n_bytes + 16384);
    enum adapter_result result = adapter_read_reply(payload, &sink, &r);
    struct slice key, entry;
    enum json_kind kind;

    CHECK(result != ADAPTER_TOO_BIG);
    if (result == ADAPTER_OK) {
        CHECK(r.request_id.bytes != NULL);
        if (r.value.json.bytes != NULL)
            CHECK(json_valid(r.value.json, &kind));
        if (r.list.bytes != NULL) {
            struct json_iter it = { r.list.bytes, r.list.bytes + r.list.n_bytes };

            while (json_iter_next(&it, &key, &entry, &kind))
                CHECK(json_valid(entry, &kind));
        }
    }
    free(sink.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct slice room;

    if (n > INPUT_MAX)
        return 0;
    as_broadcast(slice_of(data, (uint32_t)n));
    as_request(slice_of(data, (uint32_t)n));
    as_reply(slice_of(data, (uint32_t)n));
    if (adapter_channel_room(slice_of(data, (uint32_t)n), slice_text("k"), slice_text("/"),
                             &room) &&
        room.bytes != NULL)
        CHECK(room.n_bytes + 5 == n);
    return 0;
}
