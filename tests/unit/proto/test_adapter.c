/* test_adapter.c: the wire of the Redis adapter. The recorded vectors of real Node servers are
 * decoded, compared with the frames that their clients got, and written again byte for byte;
 * what no recording holds is tested by hand. */
#include "jansson_names.h"

#include "proto/adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/json.h"
#include "proto/socketio.h"

#define BYTES_MAX (1u << 20)

static char payload_bytes[BYTES_MAX];
static char decode_bytes[BYTES_MAX];
static char encode_bytes[BYTES_MAX];
static char scratch_bytes[BYTES_MAX];
static char frame_bytes[BYTES_MAX];
static struct msgpack_text event;
static struct adapter_request request;

static const struct slice NONE = { NULL, 0 };

static struct slice unhex_into(char *out, const char *hex)
{
    uint32_t n = (uint32_t)strlen(hex) / 2;

    assert_true(n <= BYTES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };

        out[i] = (char)strtoul(pair, NULL, 16);
    }
    return slice_of(out, n);
}

static struct slice unhex(const char *hex)
{
    return unhex_into(payload_bytes, hex);
}

static void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got %.*s, not %s", (int)got.n_bytes, got.bytes, want);
}

static enum adapter_result open_payload(struct slice payload, struct adapter_broadcast *b)
{
    struct msgpack_sink sink = msgpack_sink_of(decode_bytes, sizeof decode_bytes);
    enum adapter_result result = adapter_open_broadcast(payload, &sink, b);
    enum json_kind kind;

    if (result != ADAPTER_OK)
        return result;
    result = adapter_take_event(b, &sink, &event);
    if (result == ADAPTER_OK)
        assert_true(json_valid(event.json, &kind));
    return result;
}

static enum adapter_result read_request(struct slice payload)
{
    struct msgpack_sink sink = msgpack_sink_of(decode_bytes, sizeof decode_bytes);

    return adapter_read_request(payload, &sink, &request);
}

static struct slice put_broadcast(const struct adapter_broadcast *b)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

    assert_int_equal(adapter_put_broadcast(&sink, &scratch, b->uid, b->nsp, b->has_id ? b->id : -1,
                                           &b->opts, &event),
                     ADAPTER_OK);
    return msgpack_sink_slice(&sink, 0);
}

/* ---- vectors ---- */

static json_t *load(const char *name)
{
    char path[128];
    json_t *file;

    (void)snprintf(path, sizeof path, "tests/vectors/%s", name);
    file = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (file == NULL)
        fail_msg("cannot read %s", path);
    return file;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

/* A name of a list in the recording: numbers have become texts. */
static void assert_names(const json_t *want, const struct slice *names, uint32_t n_names)
{
    assert_int_equal(json_array_size(want), n_names);
    for (uint32_t i = 0; i < n_names; i++) {
        json_t *name = json_array_get(want, i);
        char digits[32];

        (void)snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(name));
        assert_slice(names[i], json_is_integer(name) ? digits : json_string_value(name));
    }
}

/* The frames of a client of server B: text, then one for each attachment. */
static void assert_delivered(const struct adapter_broadcast *b, const json_t *frames)
{
    enum sio_type type = event.n_attachments > 0 ? SIO_BINARY_EVENT : SIO_EVENT;
    uint32_t n =
        sio_put_header(frame_bytes, type, event.n_attachments, b->nsp, b->has_id ? b->id : -1);
    const json_t *first = json_array_get(frames, 0);
    struct slice want = slice_of(json_string_value(first), (uint32_t)json_string_length(first));

    memcpy(frame_bytes + n, event.json.bytes, event.json.n_bytes);
    n += event.json.n_bytes;
    if (!slice_equal(slice_of(frame_bytes, n), want))
        fail_msg("delivered %.*s, not %.*s", (int)n, frame_bytes, (int)want.n_bytes, want.bytes);
    assert_int_equal(json_array_size(frames), 1 + event.n_attachments);
    for (uint32_t i = 0; i < event.n_attachments; i++) {
        const json_t *frame = json_array_get(frames, 1 + i);

        assert_true(
            slice_equal(event.attachments[i], unhex_into(frame_bytes, text_of(frame, "hex"))));
    }
}

static void check_channel(const struct adapter_broadcast *b, const char *channel)
{
    struct msgpack_sink sink = msgpack_sink_of(frame_bytes, sizeof frame_bytes);
    struct slice room;

    adapter_put_channel(&sink, slice_text("socket.io"), b->nsp, &b->opts);
    assert_slice(msgpack_sink_slice(&sink, 0), channel);
    assert_true(adapter_channel_room(slice_text(channel), slice_text("socket.io"), b->nsp, &room));
    if (b->opts.n_rooms == 1 && b->opts.rooms[0].n_bytes > 0)
        assert_true(slice_equal(room, b->opts.rooms[0]));
    else
        assert_null(room.bytes);
}

/* What Node wrote and we write in another way: names of rooms that were no strings, dates (texts
 * by now), numbers that notepack gets wrong, NaN and Infinity (null by now). */
static bool writes_otherwise(const char *name)
{
    static const char *const names[] = { "broadcast-room-number", "value-date",
                                         "value-date-invalid",    "value-nan-infinity",
                                         "value-huge-integers",   "value-floats" };

    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Checks one broadcast of a recording by Node servers (`by_node`), the emitter or by hand. */
static void check_broadcast(const json_t *vector, const json_t *message, bool by_node)
{
    static char again[BYTES_MAX];
    const json_t *decoded = json_object_get(message, "decoded");
    const json_t *opts = json_array_get(decoded, 2);
    const json_t *delivered = json_object_get(vector, "delivered");
    struct slice payload = unhex(text_of(message, "hex"));
    struct adapter_broadcast b;
    struct slice written;
    const char *client;
    json_t *frames;
    uint32_t n_again;

    assert_int_equal(open_payload(payload, &b), ADAPTER_OK);
    assert_slice(b.uid, json_string_value(json_array_get(decoded, 0)));
    assert_names(json_object_get(opts, "rooms"), b.opts.rooms, b.opts.n_rooms);
    assert_names(json_object_get(opts, "except"), b.opts.except, b.opts.n_except);
    assert_int_equal(b.opts.flags.is_volatile,
                     json_is_true(json_object_get(json_object_get(opts, "flags"), "volatile")));
    assert_int_equal(b.opts.flags.compress,
                     !json_is_false(json_object_get(json_object_get(opts, "flags"), "compress")));
    assert_int_equal((int)b.opts.flags.timeout_ms, json_integer_value(json_object_get(
                                                       json_object_get(opts, "flags"), "timeout")));
    json_object_foreach((json_t *)(uintptr_t)delivered, client, frames) if (client[0] == 'b')
        assert_delivered(&b, frames);

    written = put_broadcast(&b);
    if (by_node)
        assert_int_equal(slice_equal(written, payload), !writes_otherwise(text_of(vector, "name")));
    if (by_node)
        check_channel(&b, text_of(message, "channel"));
    n_again = event.json.n_bytes;
    memcpy(again, event.json.bytes, n_again);
    assert_int_equal(open_payload(written, &b), ADAPTER_OK);
    if (strcmp(text_of(vector, "name"), "value-nan-infinity") != 0)
        assert_true(slice_equal(event.json, slice_of(again, n_again)));
}

/* Runs `check` over the messages of a file that were published on a kind of channel and whose
 * bytes are all there. */
static uint32_t each_message(const char *file_name, const char *channel_begin,
                             void (*check)(const json_t *vector, const json_t *message))
{
    json_t *file = load(file_name);
    json_t *vector;
    json_t *message;
    size_t i, k;
    uint32_t n = 0;

    json_array_foreach(json_object_get(file, "vectors"), i, vector)
    {
        json_t *messages = json_object_get(vector, "messages");

        messages = messages != NULL ? json_incref(messages) : json_pack("[O]", vector);
        json_array_foreach(messages, k, message)
        {
            if (strncmp(text_of(message, "channel"), channel_begin, strlen(channel_begin)) != 0 ||
                text_of(message, "hex")[0] == 0)
                continue;
            print_message("%s\n", text_of(vector, "name"));
            check(vector, message);
            n++;
        }
        json_decref(messages);
    }
    json_decref(file);
    return n;
}

static void check_node_broadcast(const json_t *vector, const json_t *message)
{
    check_broadcast(vector, message, true);
}

static void check_other_broadcast(const json_t *vector, const json_t *message)
{
    check_broadcast(vector, message, false);
}

static void test_recorded_broadcasts_of_node_servers(void **state)
{
    (void)state;
    assert_true(each_message("redis-adapter.json", "socket.io#", check_node_broadcast) >= 45);
}

static void test_recorded_broadcasts_of_the_emitter(void **state)
{
    (void)state;
    assert_true(each_message("redis-emitter.json", "socket.io#", check_other_broadcast) >= 10);
}

static void check_injected(const json_t *vector, const json_t *message)
{
    static const char *const refused[] = { "packet-type-0",       "broadcast-malformed",
                                           "broadcast-truncated", "broadcast-trailing",
                                           "broadcast-not-array", "broadcast-no-opts",
                                           "broadcast-no-data" };
    struct adapter_broadcast b;

    for (uint32_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (strcmp(text_of(vector, "name"), refused[i]) != 0)
            continue;
        assert_int_equal(open_payload(unhex(text_of(message, "hex")), &b), ADAPTER_BAD);
        return;
    }
    check_broadcast(vector, message, false);
}

static void test_recorded_handmade_broadcasts(void **state)
{
    (void)state;
    assert_true(each_message("redis-adapter-inject.json", "socket.io#", check_injected) >= 25);
}

static uint32_t n_rewritten[ADAPTER_TYPES];

static void assert_optional(const json_t *want, struct slice got)
{
    if (json_string_value(want) != NULL) /* a macro of jansson would mean our JSON_STRING */
        assert_slice(got, json_string_value(want));
    else
        assert_null(got.bytes);
}

/* Requests that we can write ourselves are written again. */
static void rewrite_request(struct slice payload, struct slice nsp)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

    if (request.sid.bytes != NULL || request.has_id)
        return;
    if (payload.bytes[0] != '{') {
        if (request.type != ADAPTER_BROADCAST)
            return;
        assert_int_equal(adapter_put_broadcast_request(&sink, &scratch, request.uid,
                                                       request.request_id, nsp, &request.opts,
                                                       &request.data),
                         ADAPTER_OK);
    } else if (request.type == ADAPTER_JOIN || request.type == ADAPTER_LEAVE) {
        adapter_put_membership(&sink, request.type, request.uid, &request.opts, request.names,
                               request.n_names);
    } else if (request.type == ADAPTER_DISCONNECT) {
        adapter_put_disconnect(&sink, request.uid, &request.opts, request.close);
    } else if (request.type == ADAPTER_SERVER_EMIT) {
        adapter_put_server_emit(&sink, request.uid, request.request_id, request.data.json);
    } else if (request.type == ADAPTER_SOCKETS || request.type == ADAPTER_ALL_ROOMS ||
               request.type == ADAPTER_FETCH) {
        adapter_put_query(&sink, request.type, request.uid, request.request_id, &request.opts);
    } else {
        return;
    }
    assert_false(sink.too_big);
    if (!slice_equal(msgpack_sink_slice(&sink, 0), payload))
        fail_msg("written %.*s", (int)sink.n_bytes, sink.bytes);
    n_rewritten[request.type]++;
}

static void check_request(const json_t *vector, const json_t *message)
{
    static const char *const refused[] = { "unknown-99", "malformed-json", "request-no-opts",
                                           "request-broadcast-no-opts", "request-null" };
    const json_t *decoded = json_object_get(message, "decoded");
    const json_t *opts = json_object_get(decoded, "opts");
    struct slice payload = unhex(text_of(message, "hex"));
    json_t *want;
    json_t *got;
    char *dump;

    for (uint32_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (strcmp(text_of(vector, "name"), refused[i]) == 0) {
            assert_int_equal(read_request(payload), ADAPTER_BAD);
            return;
        }
    }
    assert_int_equal(read_request(payload), ADAPTER_OK);
    assert_int_equal(request.type, json_integer_value(json_object_get(decoded, "type")));
    assert_optional(json_object_get(decoded, "uid"), request.uid);
    assert_optional(json_object_get(decoded, "requestId"), request.request_id);
    assert_optional(json_object_get(decoded, "sid"), request.sid);
    assert_int_equal(request.close, json_is_true(json_object_get(decoded, "close")));
    if (opts != NULL) {
        assert_names(json_object_get(opts, "rooms"), request.opts.rooms, request.opts.n_rooms);
        assert_names(json_object_get(opts, "except"), request.opts.except, request.opts.n_except);
    }
    if (request.type == ADAPTER_SOCKETS)
        assert_names(json_object_get(decoded, "rooms"), request.opts.rooms, request.opts.n_rooms);
    if (request.type == ADAPTER_JOIN || request.type == ADAPTER_LEAVE) {
        if (request.sid.bytes == NULL)
            assert_names(json_object_get(decoded, "rooms"), request.names, request.n_names);
        else
            assert_slice(request.names[0], text_of(decoded, "room"));
    }
    want = json_object_get(
        request.type == ADAPTER_BROADCAST ? json_object_get(decoded, "packet") : decoded, "data");
    if (want != NULL) {
        got = json_loadb(request.data.json.bytes, request.data.json.n_bytes, 0, NULL);
        dump = json_dumps(got, JSON_COMPACT);
        if (!json_equal(got, want))
            fail_msg("data is %s", dump);
        free(dump);
        json_decref(got);
    }
    want = json_object_get(json_object_get(decoded, "packet"), "nsp");
    rewrite_request(payload, want == NULL ? NONE : slice_text(json_string_value(want)));
}

static void test_recorded_requests(void **state)
{
    (void)state;
    assert_true(each_message("redis-adapter.json", "socket.io-request#", check_request) >= 25);
    assert_true(each_message("redis-emitter.json", "socket.io-request#", check_request) >= 5);
    assert_true(each_message("redis-adapter-inject.json", "socket.io-request#", check_request) >=
                14);
    for (uint32_t type = ADAPTER_ALL_ROOMS; type <= ADAPTER_BROADCAST; type++)
        if (n_rewritten[type] == 0)
            fail_msg("no request of type %u was written", type);
}

/* ---- answers ---- */

static uint32_t take_list(struct slice json, struct slice *items, uint32_t max)
{
    struct json_iter it = json_iter_open(json);
    struct slice key;
    enum json_kind kind;
    uint32_t n = 0;

    while (n < max && json_iter_next(&it, &key, &items[n], &kind))
        n++;
    return n;
}

/* Takes a string's text without escapes, which these recordings do not have. */
static struct slice unquoted(struct slice string)
{
    return slice_of(string.bytes + 1, string.n_bytes - 2);
}

static void rewrite_socket(struct adapter_answer *a, struct slice entry)
{
    struct slice rooms_json, items[16];
    struct adapter_socket s;
    enum json_kind kind;

    assert_true(json_member(entry, "id", &s.id, &kind));
    assert_true(json_member(entry, "handshake", &s.handshake, &kind));
    assert_true(json_member(entry, "rooms", &rooms_json, &kind));
    assert_true(json_member(entry, "data", &s.data, &kind));
    s.id = unquoted(s.id);
    s.rooms = items;
    s.n_rooms = take_list(rooms_json, items, 16);
    for (uint32_t i = 0; i < s.n_rooms; i++)
        items[i] = unquoted(items[i]);
    assert_true(adapter_answer_socket(a, &s));
}

static void rewrite_list(struct msgpack_sink *sink, struct slice list, bool is_rooms,
                         struct slice id)
{
    struct slice items[16];
    uint32_t n = take_list(list, items, 16);
    bool is_fetch = n > 0 && items[0].bytes[0] == '{';
    struct adapter_answer a;

    assert_true(adapter_answer_begin(&a, sink,
                                     is_rooms   ? ADAPTER_ALL_ROOMS
                                     : is_fetch ? ADAPTER_FETCH
                                                : ADAPTER_SOCKETS,
                                     id, NONE));
    for (uint32_t i = 0; i < n; i++) {
        if (is_fetch)
            rewrite_socket(&a, items[i]);
        else
            assert_true(adapter_answer_name(&a, unquoted(items[i])));
    }
    adapter_answer_end(&a);
}

static void rewrite_typed_answer(struct msgpack_sink *sink, struct slice payload)
{
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    struct slice id, data = NONE;
    enum json_kind kind;

    if (read_request(payload) == ADAPTER_OK && request.type == ADAPTER_CLIENT_COUNT) {
        adapter_put_client_count(sink, request.request_id, NONE, (uint32_t)request.client_count);
    } else if (payload.bytes[0] != '{') {
        assert_int_equal(request.type, ADAPTER_CLIENT_ACK);
        assert_int_equal(adapter_put_client_ack(sink, &scratch, request.request_id, &request.data),
                         ADAPTER_OK);
    } else { /* to a server-side emit */
        assert_true(json_member(payload, "requestId", &id, &kind));
        if (!json_member(payload, "data", &data, &kind))
            data = NONE;
        adapter_put_emit_answer(sink, unquoted(id), data);
    }
}

static void rewrite_answer(struct slice payload)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct slice id, list;
    enum json_kind kind;

    if (payload.bytes[0] != '{' || json_member(payload, "type", &list, &kind)) {
        rewrite_typed_answer(&sink, payload);
    } else {
        bool is_rooms = json_member(payload, "rooms", &list, &kind);

        assert_true(json_member(payload, "requestId", &id, &kind));
        if (is_rooms || json_member(payload, "sockets", &list, &kind))
            rewrite_list(&sink, list, is_rooms, unquoted(id));
        else
            adapter_put_done(&sink, unquoted(id));
    }
    assert_false(sink.too_big);
    if (!slice_equal(msgpack_sink_slice(&sink, 0), payload))
        fail_msg("written %.*s", (int)sink.n_bytes, sink.bytes);
}

static void check_answer(const json_t *vector, const json_t *message)
{
    (void)vector;
    rewrite_answer(unhex(text_of(message, "hex")));
}

/* What an asker reads of an answer is what stands in it. */
static void check_reply(const json_t *vector, const json_t *message)
{
    static struct adapter_reply reply;
    struct slice payload = unhex(text_of(message, "hex"));
    struct msgpack_sink sink = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    struct slice id, value;
    enum json_kind kind;

    (void)vector;
    assert_int_equal(adapter_read_reply(payload, &sink, &reply), ADAPTER_OK);
    assert_null(reply.uid.bytes); /* Node servers do not say it */
    if (payload.bytes[0] != '{') {
        assert_int_equal(reply.type, ADAPTER_CLIENT_ACK);
        return;
    }
    assert_true(json_member(payload, "requestId", &id, &kind));
    assert_true(slice_equal(reply.request_id, unquoted(id)));
    if (json_member(payload, "sockets", &value, &kind) ||
        json_member(payload, "rooms", &value, &kind))
        assert_true(slice_equal(reply.list, unquoted(value))); /* without its brackets */
    else
        assert_null(reply.list.bytes);
    if (json_member(payload, "data", &value, &kind))
        assert_true(slice_equal(reply.value.json, value));
    if (json_member(payload, "clientCount", &value, &kind))
        assert_true(reply.client_count == json_number(value));
}

static void test_recorded_answers_are_read(void **state)
{
    (void)state;
    assert_true(each_message("redis-adapter.json", "socket.io-response#", check_reply) >= 15);
}

static enum adapter_result read_reply(const char *json, struct adapter_reply *out)
{
    struct msgpack_sink sink = msgpack_sink_of(scratch_bytes, 4096);

    return adapter_read_reply(slice_text(json), &sink, out);
}

static void test_odd_answers(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"requestId\":7}",
        "{\"type\":8,\"requestId\":\"a\"}",
        "{\"type\":8,\"requestId\":\"a\",\"clientCount\":-1}",
        "{\"type\":8,\"requestId\":\"a\",\"clientCount\":\"1\"}",
        "{\"requestId\":\"a\"} x",
    };
    static struct adapter_reply r;
    (void)state;

    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(read_reply(bad[i], &r), ADAPTER_BAD);
    assert_int_equal(read_reply("{\"uid\":\"me\",\"requestId\":\"a\",\"sockets\":[ ]}", &r),
                     ADAPTER_OK);
    assert_slice(r.uid, "me");
    assert_non_null(r.list.bytes);
    assert_int_equal(r.list.n_bytes, 0);
    assert_int_equal(r.type, ADAPTER_TYPES);
    assert_int_equal(read_reply("{\"requestId\":\"a\",\"sockets\":{},\"type\":5}", &r), ADAPTER_OK);
    assert_null(r.list.bytes);
    assert_int_equal(r.type, ADAPTER_TYPES);
    assert_int_equal(read_reply("{\"type\":6,\"requestId\":\"a\"}", &r), ADAPTER_OK);
    assert_null(r.value.json.bytes);
    assert_int_equal(read_reply("{\"type\":6,\"requestId\":\"\\u0061\",\"data\":[1]}", &r),
                     ADAPTER_OK);
    assert_slice(r.request_id, "a");
    assert_slice(r.value.json, "[1]");
}

/* Written and read by Peal hosts only: Node sends JSON, and reads both. */
static void test_server_side_emits_and_their_answers_may_be_binary(void **state)
{
    struct msgpack_text text = { .json = slice_text("[\"e\",{\"_placeholder\":true,\"num\":0}]"),
                                 .n_attachments = 1,
                                 .attachments = { slice_of("\0\1", 2) } };
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    static struct adapter_reply reply;
    (void)state;

    for (uint32_t with_id = 0; with_id < 2; with_id++) {
        sink.n_bytes = 0;
        assert_int_equal(adapter_put_server_emit_binary(&sink, &scratch, slice_text("u"),
                                                        with_id ? slice_text("r") : NONE, &text),
                         ADAPTER_OK);
        assert_int_equal(read_request(msgpack_sink_slice(&sink, 0)), ADAPTER_OK);
        assert_int_equal(request.type, ADAPTER_SERVER_EMIT);
        assert_slice(request.uid, "u");
        assert_true(with_id ? slice_is(request.request_id, "r") : request.request_id.bytes == NULL);
        assert_true(slice_equal(request.data.json, text.json));
        assert_int_equal(request.data.n_attachments, 1);
        assert_true(slice_equal(request.data.attachments[0], text.attachments[0]));
    }
    sink.n_bytes = 0;
    text.json = slice_text("{\"_placeholder\":true,\"num\":0}");
    assert_int_equal(adapter_put_emit_answer_binary(&sink, &scratch, slice_text("r"), &text),
                     ADAPTER_OK);
    scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    assert_int_equal(adapter_read_reply(msgpack_sink_slice(&sink, 0), &scratch, &reply),
                     ADAPTER_OK);
    assert_int_equal(reply.type, ADAPTER_SERVER_EMIT);
    assert_true(slice_equal(reply.value.json, text.json));
    assert_true(slice_equal(reply.value.attachments[0], text.attachments[0]));
}

static void test_a_peal_host_says_who_answers(void **state)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct adapter_answer a;
    (void)state;

    assert_true(
        adapter_answer_begin(&a, &sink, ADAPTER_ALL_ROOMS, slice_text("r"), slice_text("uid123")));
    adapter_answer_end(&a);
    assert_slice(msgpack_sink_slice(&sink, 0),
                 "{\"requestId\":\"r\",\"uid\":\"uid123\",\"rooms\":[]}");
    sink.n_bytes = 0;
    adapter_put_client_count(&sink, slice_text("r"), slice_text("uid123"), 2);
    assert_slice(msgpack_sink_slice(&sink, 0),
                 "{\"type\":8,\"requestId\":\"r\",\"uid\":\"uid123\",\"clientCount\":2}");
}

static void test_recorded_answers_are_written_byte_for_byte(void **state)
{
    json_t *file = load("redis-adapter-inject.json");
    json_t *vector;
    json_t *reply;
    size_t i, k;
    uint32_t n = 0;

    (void)state;
    assert_true(each_message("redis-adapter.json", "socket.io-response#", check_answer) >= 15);
    json_array_foreach(json_object_get(file, "vectors"), i, vector)
    {
        json_array_foreach(json_object_get(vector, "reply"), k, reply)
        {
            rewrite_answer(unhex(text_of(reply, "hex")));
            n++;
        }
    }
    json_decref(file);
    assert_true(n >= 7);
}

static void test_an_answer_is_cut_at_a_whole_entry(void **state)
{
    static const char whole[] = "{\"requestId\":\"r\",\"sockets\":[{\"id\":\"a\",\"handshake\":{},"
                                "\"rooms\":[\"a\",\"b\"],\"data\":{}},"
                                "{\"id\":\"b\",\"handshake\":{},\"rooms\":[],\"data\":{}}]}";
    static const struct slice rooms[] = { { "a", 1 }, { "b", 1 } };
    static const struct adapter_socket sockets[] = {
        { .id = { "a", 1 },
          .handshake = { "{}", 2 },
          .rooms = rooms,
          .n_rooms = 2,
          .data = { "{}", 2 } },
        { .id = { "b", 1 },
          .handshake = { "{}", 2 },
          .rooms = NULL,
          .n_rooms = 0,
          .data = { "{}", 2 } },
    };
    const uint32_t empty = 30; /* {"requestId":"r","sockets":[]} */

    (void)state;
    for (uint32_t n = 0; n <= sizeof whole - 1; n++) {
        char *out = malloc(n > 0 ? n : 1);
        struct msgpack_sink sink = msgpack_sink_of(out, n);
        struct adapter_answer a;
        enum json_kind kind;
        uint32_t n_added = 0;

        assert_non_null(out);
        if (!adapter_answer_begin(&a, &sink, ADAPTER_FETCH, slice_text("r"), NONE)) {
            assert_true(n < empty);
            free(out);
            continue;
        }
        assert_true(n >= empty);
        for (uint32_t i = 0; i < 2; i++)
            n_added += adapter_answer_socket(&a, &sockets[i]);
        adapter_answer_end(&a);
        assert_false(sink.too_big);
        assert_int_equal(sink.n_max, n);
        assert_true(json_valid(msgpack_sink_slice(&sink, 0), &kind));
        assert_true(n < sizeof whole - 1 || n_added == 2);
        if (n_added == 2)
            assert_slice(msgpack_sink_slice(&sink, 0), whole);
        free(out);
    }
}

/* ---- by hand ---- */

static void test_own_forms_of_channels(void **state)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct slice key = slice_text("k");
    struct slice nsp = slice_text("/chat");
    struct slice room;

    (void)state;
    adapter_put_request_channel(&sink, key, nsp);
    msgpack_put_text(&sink, " ");
    adapter_put_response_channel(&sink, key, nsp, NONE);
    msgpack_put_text(&sink, " ");
    adapter_put_response_channel(&sink, key, nsp, slice_text("abcdef"));
    assert_slice(msgpack_sink_slice(&sink, 0),
                 "k-request#/chat# k-response#/chat# k-response#/chat#abcdef#");
    assert_true(adapter_channel_room(slice_text("k#/chat#a#b#"), key, nsp, &room));
    assert_slice(room, "a#b");
    assert_true(adapter_channel_room(slice_text("k#/chat##"), key, nsp, &room));
    assert_null(room.bytes);
    assert_false(adapter_channel_room(slice_text("k#/chatter#"), key, nsp, &room));
    assert_false(adapter_channel_room(slice_text("k#/chat"), key, nsp, &room));
    assert_false(adapter_channel_room(slice_text(""), key, nsp, &room));
}

static void assert_bad_broadcast(const char *hex)
{
    struct adapter_broadcast b;

    assert_int_equal(open_payload(unhex(hex), &b), ADAPTER_BAD);
}

#define PACKET "83a47479706502a46461746191a178a36e7370a12f" /* {type:2,data:["x"],nsp:"/"} */

static void test_an_own_broadcast_is_known_by_its_first_bytes(void **state)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct msgpack_sink scratch = msgpack_sink_of(decode_bytes, sizeof decode_bytes);
    struct msgpack_text said = { .json = slice_text("[\"x\"]") };
    struct adapter_opts opts = { .n_rooms = 0 };
    struct slice payload;

    (void)state;
    assert_int_equal(adapter_put_broadcast(&sink, &scratch, slice_text("abc-_9"), slice_text("/"),
                                           -1, &opts, &said),
                     ADAPTER_OK);
    payload = msgpack_sink_slice(&sink, 0);
    assert_true(adapter_broadcast_is_of(payload, slice_text("abc-_9")));
    assert_false(adapter_broadcast_is_of(payload, slice_text("abc-_8")));
    for (uint32_t n = 0; n <= 8; n++)
        assert_false(adapter_broadcast_is_of(slice_of(payload.bytes, n), slice_text("abc-_9")));
}

static void test_odd_broadcasts(void **state)
{
    struct adapter_broadcast b;

    (void)state;
    /* a fourth element, opts with a number, true, nil and not UTF-8 as rooms, flags that are no
     * map */
    assert_int_equal(
        open_payload(
            unhex(
                "94a175" PACKET
                "83a5726f6f6d7395cb3ff8000000000000c3c0a2ff61a3c3a97aa6657863657074c0a5666c61677301"
                "05"),
            &b),
        ADAPTER_OK);
    assert_int_equal(b.opts.n_rooms, 5);
    assert_slice(b.opts.rooms[0], "1.5");
    assert_slice(b.opts.rooms[1], "true");
    assert_slice(b.opts.rooms[2], "null");
    assert_slice(b.opts.rooms[3], "\xef\xbf\xbd"
                                  "a");
    assert_slice(b.opts.rooms[4], "\xc3\xa9z");
    assert_int_equal(b.opts.n_except, 0);
    assert_true(b.opts.flags.compress);
    /* a uid that is no string is nobody's; repeated members: the last counts; undefined nsp */
    assert_int_equal(
        open_payload(unhex("9307"
                           "85a47479706500a464617461c0a46461746191a178a47479706502a36e7370d40000"
                           "80"),
                     &b),
        ADAPTER_OK);
    assert_null(b.uid.bytes);
    assert_slice(b.nsp, "/");
    assert_slice(event.json, "[\"x\"]");
    /* rooms that are no list, or hold one, would else be everybody */
    assert_bad_broadcast("93a175" PACKET "81a5726f6f6d7301");
    assert_bad_broadcast("93a175" PACKET "81a5726f6f6d73a161");
    assert_bad_broadcast("93a175" PACKET "81a5726f6f6d739190");
    assert_bad_broadcast("93a175" PACKET "81a5726f6f6d7391c40161");
    /* opts nil, nsp nil, data empty, event without a name, packet type a string, id broken or
     * negative */
    assert_bad_broadcast("93a175" PACKET "c0");
    assert_bad_broadcast("93a17583a47479706502a46461746191a178a36e7370c080");
    assert_bad_broadcast("93a17582a47479706502a46461746190"
                         "80");
    assert_bad_broadcast("93a17582a47479706502a46461746191c3"
                         "80");
    assert_bad_broadcast("93a17582a47479706502a46461746191cb7ff8000000000000"
                         "80");
    assert_bad_broadcast("93a17582a474797065a132a46461746191a178"
                         "80");
    assert_bad_broadcast("93a17583a47479706502a46461746191a178a26964cb3ff8000000000000"
                         "80");
    assert_bad_broadcast("93a17583a47479706502a46461746191a178a26964ff"
                         "80");
    assert_bad_broadcast("");
}

static void test_a_broadcast_cut_anywhere_is_refused(void **state)
{
    struct slice whole =
        unhex("93a663516144646c84a47479706502a46461746193a568656c6c6fc4020102cd0fffa2696407a36e7370"
              "a52f63686174"
              "83a5726f6f6d7392a16101a665786365707490a5666c61677381a8766f6c6174696c65c3");
    struct adapter_broadcast b;

    (void)state;
    assert_int_equal(open_payload(whole, &b), ADAPTER_OK);
    assert_true(b.has_id);
    assert_int_equal((int)b.id, 7);
    for (uint32_t n = 0; n < whole.n_bytes; n++) {
        char *copy = malloc(n > 0 ? n : 1);

        assert_non_null(copy);
        memcpy(copy, whole.bytes, n);
        assert_int_equal(open_payload(slice_of(copy, n), &b), ADAPTER_BAD);
        free(copy);
    }
}

static void test_a_short_sink_is_too_big(void **state)
{
    struct slice payload = unhex("93a175" PACKET "81a5726f6f6d7393a16101a2c3a9");
    struct slice as_request =
        slice_text("{\"type\":2,\"uid\":\"u\",\"opts\":{\"rooms\":[\"a\",1]},\"rooms\":[\"x\"]}");
    uint32_t n_ok = 0;

    (void)state;
    for (uint32_t n = 0; n < 256; n++) {
        struct msgpack_sink sink = msgpack_sink_of(decode_bytes, n);
        struct adapter_broadcast b;
        enum adapter_result result = adapter_open_broadcast(payload, &sink, &b);

        assert_true(result == ADAPTER_TOO_BIG || result == ADAPTER_OK);
        n_ok += result == ADAPTER_OK;
        sink = msgpack_sink_of(decode_bytes, n);
        result = adapter_read_request(as_request, &sink, &request);
        assert_true(result == ADAPTER_TOO_BIG || result == ADAPTER_OK);
        n_ok += result == ADAPTER_OK;
    }
    assert_in_range(n_ok, 100, 500);
}

static void assert_request(const char *json, enum adapter_result want)
{
    if (read_request(slice_text(json)) != want)
        fail_msg("%s", json);
}

static void test_odd_requests(void **state)
{
    (void)state;
    assert_request(" {\"type\":1,\"requestId\":\"r\"}", ADAPTER_BAD); /* the first byte decides */
    assert_request("{\"type\":1,\"requestId\":\"r\"} ", ADAPTER_OK);
    assert_request("{\"type\":1}", ADAPTER_BAD);
    assert_request("{\"type\":1,\"requestId\":7}", ADAPTER_BAD);
    assert_request("{\"type\":\"1\",\"requestId\":\"r\"}", ADAPTER_BAD);
    assert_request("{\"type\":1.5,\"requestId\":\"r\"}", ADAPTER_BAD);
    assert_request("{\"type\":-1,\"requestId\":\"r\"}", ADAPTER_BAD);
    assert_request("{\"type\":10,\"requestId\":\"r\"}", ADAPTER_BAD);
    assert_request("{\"type\":1e300,\"requestId\":\"r\"}", ADAPTER_BAD);
    assert_request("{}", ADAPTER_BAD);
    assert_request("", ADAPTER_BAD);
    assert_request("{\"type\":0,\"requestId\":\"r\"}", ADAPTER_OK);
    assert_int_equal(request.opts.n_rooms, 0);
    assert_request("{\"type\":0,\"requestId\":\"r\",\"rooms\":\"a\"}", ADAPTER_BAD);
    assert_request("{\"type\":2,\"opts\":{},\"rooms\":\"a\\u0062\"}", ADAPTER_OK);
    assert_int_equal(request.n_names, 1);
    assert_slice(request.names[0], "ab");
    assert_request("{\"type\":2,\"opts\":{\"rooms\":{}},\"rooms\":[\"a\"]}", ADAPTER_BAD);
    assert_request("{\"type\":2,\"opts\":{\"rooms\":[[]]},\"rooms\":[\"a\"]}", ADAPTER_BAD);
    assert_request("{\"type\":2,\"opts\":[],\"rooms\":[\"a\"]}",
                   ADAPTER_BAD); /* to Node everybody */
    assert_request("{\"type\":2,\"opts\":{}}", ADAPTER_BAD);
    assert_request("{\"type\":2,\"sid\":5,\"room\":\"a\"}", ADAPTER_BAD);
    assert_request("{\"type\":3,\"sid\":\"s\"}", ADAPTER_BAD);
    assert_request("{\"\\u0074ype\":3,\"sid\":\"s\",\"room\":1e0,\"type\":4}", ADAPTER_OK);
    assert_int_equal(request.type, ADAPTER_DISCONNECT);
    assert_request("{\"type\":4,\"opts\":{\"rooms\":[true,null,1.50]},\"close\":1}", ADAPTER_OK);
    assert_true(request.close);
    assert_slice(request.opts.rooms[0], "true");
    assert_slice(request.opts.rooms[1], "null");
    assert_slice(request.opts.rooms[2], "1.5");
    assert_request("{\"type\":6,\"data\":[]}", ADAPTER_BAD);
    assert_request("{\"type\":6,\"data\":\"a\"}", ADAPTER_BAD);
    assert_request(
        "{\"type\":7,\"requestId\":\"r\",\"opts\":{},\"packet\":{\"type\":3,\"data\":[\"a\"]}}",
        ADAPTER_BAD);
    assert_request("{\"type\":7,\"requestId\":\"r\",\"opts\":{\"flags\":{\"timeout\":50,"
                   "\"compress\":false,\"volatile\":1}},"
                   "\"packet\":{\"type\":2,\"data\":[\"a\"],\"id\":3}}",
                   ADAPTER_OK);
    assert_true(request.opts.flags.is_volatile);
    assert_false(request.opts.flags.compress);
    assert_int_equal((int)request.opts.flags.timeout_ms, 50);
    assert_int_equal((int)request.id, 3);
}

static void test_a_binary_request_keeps_its_attachments(void **state)
{
    (void)state;
    /* {uid:"u",type:6,data:["e",<01 02>]} */
    assert_int_equal(read_request(unhex("83a3756964a175a47479706506a46461746192a165c4020102")),
                     ADAPTER_OK);
    assert_slice(request.data.json, "[\"e\",{\"_placeholder\":true,\"num\":0}]");
    assert_int_equal(request.data.n_attachments, 1);
    assert_int_equal(request.data.attachments[0].n_bytes, 2);
    assert_int_equal(read_request(unhex("81a47479706501"
                                        "00")),
                     ADAPTER_BAD); /* trailing */
    assert_int_equal(read_request(unhex("93a175" PACKET "80")), ADAPTER_BAD);
    assert_int_equal(read_request(unhex("ddffffffff")), ADAPTER_BAD);
    assert_int_equal(read_request(unhex("df80000000")), ADAPTER_BAD);
}

static void test_an_event_that_is_no_list_is_not_sent(void **state)
{
    static const char *const bad[] = { "", "{}", "\"a\"", "[", "[1,]" };
    struct adapter_opts opts = { 0 };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
        struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

        event = (struct msgpack_text){ .json = slice_text(bad[i]) };
        assert_int_equal(adapter_put_broadcast(&sink, &scratch, slice_text("u"), slice_text("/"),
                                               -1, &opts, &event),
                         ADAPTER_BAD);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_broadcasts_of_node_servers),
        cmocka_unit_test(test_recorded_broadcasts_of_the_emitter),
        cmocka_unit_test(test_recorded_handmade_broadcasts),
        cmocka_unit_test(test_recorded_requests),
        cmocka_unit_test(test_recorded_answers_are_written_byte_for_byte),
        cmocka_unit_test(test_recorded_answers_are_read),
        cmocka_unit_test(test_odd_answers),
        cmocka_unit_test(test_server_side_emits_and_their_answers_may_be_binary),
        cmocka_unit_test(test_a_peal_host_says_who_answers),
        cmocka_unit_test(test_an_answer_is_cut_at_a_whole_entry),
        cmocka_unit_test(test_own_forms_of_channels),
        cmocka_unit_test(test_an_own_broadcast_is_known_by_its_first_bytes),
        cmocka_unit_test(test_odd_broadcasts),
        cmocka_unit_test(test_a_broadcast_cut_anywhere_is_refused),
        cmocka_unit_test(test_a_short_sink_is_too_big),
        cmocka_unit_test(test_odd_requests),
        cmocka_unit_test(test_a_binary_request_keeps_its_attachments),
        cmocka_unit_test(test_an_event_that_is_no_list_is_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
