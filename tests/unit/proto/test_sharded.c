/* test_sharded.c: the wire of the sharded adapter. What real Node servers published is read and
 * written again, byte for byte; what no recording holds is tested by hand. */
#include "jansson_names.h"

#include "proto/sharded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/json.h"

#define BYTES_MAX (1u << 20)

static char payload_bytes[BYTES_MAX];
static char decode_bytes[BYTES_MAX];
static char encode_bytes[BYTES_MAX];
static char scratch_bytes[BYTES_MAX];
static struct sharded_message message;
static struct adapter_request *const r = &message.request;

static const struct slice NONE = { NULL, 0 };

static struct slice unhex(const char *hex)
{
    uint32_t n = (uint32_t)strlen(hex) / 2;

    assert_true(n <= BYTES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };

        payload_bytes[i] = (char)strtoul(pair, NULL, 16);
    }
    return slice_of(payload_bytes, n);
}

static void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got %.*s, not %s", (int)got.n_bytes, got.bytes, want);
}

static enum adapter_result read_payload(struct slice payload)
{
    struct msgpack_sink sink = msgpack_sink_of(decode_bytes, sizeof decode_bytes);

    return sharded_read(payload, &sink, &message);
}

static enum adapter_result read_text(const char *json)
{
    return read_payload(slice_text(json));
}

static struct slice inside(struct slice array)
{
    return slice_of(array.bytes + 1, array.n_bytes - 2);
}

/* The message that was read last. */
static struct slice write_again(void)
{
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    struct sharded_head head = { r->uid, message.nsp, r->request_id };
    enum adapter_result result = ADAPTER_OK;

    switch (r->type) {
    case ADAPTER_BROADCAST:
        result = sharded_put_broadcast(&sink, &scratch, &head, &r->opts, &r->data);
        break;
    case ADAPTER_JOIN:
    case ADAPTER_LEAVE:
        sharded_put_membership(&sink, r->type, &head, &r->opts, r->names, r->n_names);
        break;
    case ADAPTER_DISCONNECT: sharded_put_disconnect(&sink, &head, &r->opts, r->close); break;
    case ADAPTER_FETCH:
        if (message.is_answer)
            sharded_put_sockets(&sink, &head, inside(r->data.json));
        else
            sharded_put_fetch(&sink, &head, &r->opts);
        break;
    case ADAPTER_SERVER_EMIT:
        if (message.is_answer)
            result = sharded_put_emit_answer(&sink, &scratch, &head, &r->data);
        else
            result = sharded_put_server_emit(&sink, &scratch, &head, &r->data);
        break;
    case ADAPTER_CLIENT_COUNT:
        sharded_put_client_count(&sink, &head, (uint32_t)r->client_count);
        break;
    case ADAPTER_CLIENT_ACK:
        result = sharded_put_client_ack(&sink, &scratch, &head, &r->data);
        break;
    case ADAPTER_SOCKETS:
    case ADAPTER_ALL_ROOMS:
    case ADAPTER_TYPES: fail();
    }
    assert_int_equal(result, ADAPTER_OK);
    assert_false(sink.too_big);
    return msgpack_sink_slice(&sink, 0);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

/* Which channel Node chose for the broadcast that was read last. */
static void check_channel(const char *vector, const char *channel)
{
    enum sharded_mode mode = strncmp(vector, "static/", 7) == 0    ? SHARDED_STATIC
                             : strncmp(vector, "dynamic/", 8) == 0 ? SHARDED_DYNAMIC
                                                                   : SHARDED_DYNAMIC_PRIVATE;
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
    bool own = r->opts.n_rooms == 1 && r->request_id.bytes == NULL &&
               sharded_room_has_channel(mode, r->opts.rooms[0]);

    sharded_put_channel(&sink, slice_text("socket.io"), message.nsp, own ? r->opts.rooms[0] : NONE);
    assert_slice(msgpack_sink_slice(&sink, 0), channel);
}

static void test_recorded_messages_of_node_servers(void **state)
{
    json_t *file = json_load_file("tests/vectors/redis-sharded-adapter.json", 0, NULL);
    json_t *vector, *command;
    size_t i, k;
    uint32_t n = 0;

    (void)state;
    assert_non_null(file);
    json_array_foreach(json_object_get(file, "vectors"), i, vector)
    {
        json_array_foreach(json_object_get(vector, "commands"), k, command)
        {
            const char *hex = text_of(command, "hex");

            if (hex[0] == 0)
                continue;
            print_message("%s\n", text_of(vector, "name"));
            assert_int_equal(read_payload(unhex(hex)), ADAPTER_OK);
            assert_true(
                slice_equal(write_again(), slice_of(payload_bytes, (uint32_t)strlen(hex) / 2)));
            if (r->type == ADAPTER_BROADCAST)
                check_channel(text_of(vector, "name"), text_of(command, "channel"));
            n++;
        }
    }
    json_decref(file);
    assert_true(n >= 25);
}

static void test_each_type_is_read(void **state)
{
    (void)state;
    assert_int_equal(
        read_text("{\"nsp\":\"/chat\",\"uid\":\"u\",\"data\":{\"opts\":{\"rooms\":[\"a\",7],"
                  "\"except\":[],\"flags\":{\"volatile\":true,\"compress\":false}},"
                  "\"packet\":{\"data\":[\"e\",{\"x\":[1]}],\"type\":2}},\"type\":3}"),
        ADAPTER_OK);
    assert_int_equal(r->type, ADAPTER_BROADCAST);
    assert_null(r->request_id.bytes);
    assert_slice(message.nsp, "/chat");
    assert_slice(r->uid, "u");
    assert_slice(r->data.json, "[\"e\",{\"x\":[1]}]");
    assert_int_equal(r->opts.n_rooms, 2);
    assert_slice(r->opts.rooms[1], "7");
    assert_true(r->opts.flags.is_volatile);
    assert_true(r->opts.flags.has_compress);
    assert_false(r->opts.flags.compress);
    assert_false(r->has_id);

    assert_int_equal(
        read_text("{\"type\":8,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{\"requestId\":\"q\","
                  "\"sockets\":[{\"id\":\"i\"}]}}"),
        ADAPTER_OK);
    assert_true(message.is_answer);
    assert_slice(r->data.json, "[{\"id\":\"i\"}]");
    assert_int_equal(read_text("{\"type\":10,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\"}}"),
                     ADAPTER_OK);
    assert_true(message.is_answer);
    assert_null(r->data.json.bytes);
    assert_null(r->uid.bytes);
    assert_slice(write_again(),
                 "{\"type\":10,\"data\":{\"requestId\":\"q\"},\"uid\":\"\",\"nsp\":\"/\"}");
    assert_int_equal(read_text("{\"type\":6,\"nsp\":\"/\",\"data\":{\"opts\":{}}}"), ADAPTER_OK);
    assert_false(r->close);
}

static void test_what_cannot_be_acted_on_is_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "[]",
        "[3]",
        "null",
        "{\"type\":3}",
        "{\"type\":3,\"nsp\":\"/\"}",
        /* types that there are not, or that are for heartbeats */
        "{\"type\":1,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        "{\"type\":2,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        "{\"type\":13,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        "{\"type\":3.5,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        "{\"type\":\"3\",\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        "{\"type\":1e300,\"nsp\":\"/\",\"uid\":\"u\",\"data\":{}}",
        /* no namespace, or none that is a text */
        "{\"type\":3,\"data\":{\"packet\":{\"type\":2,\"data\":[\"e\"]},\"opts\":{}}}",
        "{\"type\":3,\"nsp\":4,\"data\":{\"packet\":{\"type\":2,\"data\":[\"e\"]},\"opts\":{}}}",
        /* packets of other types, without a name, lists that are none
         * NOLINTNEXTLINE(bugprone-suspicious-missing-comma): cut for the length of the line */
        "{\"type\":3,\"nsp\":\"/"
        "\",\"data\":{\"packet\":{\"type\":0,\"data\":[\"e\"]},\"opts\":{}}}",
        "{\"type\":3,\"nsp\":\"/\",\"data\":{\"packet\":{\"type\":2,\"data\":[]},\"opts\":{}}}",
        "{\"type\":3,\"nsp\":\"/\",\"data\":{\"packet\":{\"type\":2,\"data\":[{}]},\"opts\":{}}}",
        "{\"type\":3,\"nsp\":\"/\",\"data\":{\"packet\":{\"type\":2,\"data\":[\"e\"]}}}",
        "{\"type\":3,\"nsp\":\"/"
        "\",\"data\":{\"packet\":{\"type\":2,\"data\":[\"e\"]},\"opts\":{\"rooms\":1}}}",
        "{\"type\":3,\"nsp\":\"/"
        "\",\"data\":{\"packet\":{\"type\":2,\"data\":[\"e\"]},\"opts\":{\"rooms\":[[]]}}}",
        "{\"type\":3,\"nsp\":\"/"
        "\",\"data\":{\"requestId\":4,\"packet\":{\"type\":2,\"data\":[\"e\"]},\"opts\":{}}}",
        "{\"type\":3,\"nsp\":\"/\",\"data\":[]}",
        "{\"type\":4,\"nsp\":\"/\",\"data\":{\"opts\":{}}}",
        "{\"type\":4,\"nsp\":\"/\",\"data\":{\"sid\":\"s\",\"room\":\"r\",\"rooms\":[\"r\"]}}",
        "{\"type\":6,\"nsp\":\"/\",\"data\":{\"close\":true}}",
        "{\"type\":7,\"nsp\":\"/\",\"data\":{\"opts\":{}}}",
        "{\"type\":7,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\"}}",
        "{\"type\":8,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\",\"sockets\":{}}}",
        "{\"type\":8,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\"}}",
        "{\"type\":9,\"nsp\":\"/\",\"data\":{\"packet\":[]}}",
        "{\"type\":10,\"nsp\":\"/\",\"data\":{\"packet\":1}}",
        "{\"type\":11,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\",\"clientCount\":-1}}",
        "{\"type\":11,\"nsp\":\"/\",\"data\":{\"requestId\":\"q\"}}",
        "{\"type\":12,\"nsp\":\"/\",\"data\":{}}",
        "{\"type\":6,\"nsp\":\"/\",\"data\":{\"opts\":{}}} x",
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        print_message("%s\n", bad[i]);
        assert_int_equal(read_text(bad[i]), ADAPTER_BAD);
    }
}

static void test_any_cut_of_a_message_is_bad(void **state)
{
    static const char hex[] = "84a47479706503a46461746182a67061636b657482a47479706502a46461746192a3"
                              "62696ec4020102a46f707473"
                              "83a5726f6f6d7390a665786365707490a5666c61677380a3756964b0633561633237"
                              "36663163346164393635a36e"
                              "7370a12f";
    struct slice payload = unhex(hex);

    (void)state;
    assert_int_equal(read_payload(payload), ADAPTER_OK);
    for (uint32_t n = 0; n < payload.n_bytes; n++)
        assert_int_equal(read_payload(slice_of(payload.bytes, n)), ADAPTER_BAD);
    payload_bytes[payload.n_bytes] = 0;
    assert_int_equal(read_payload(slice_of(payload.bytes, payload.n_bytes + 1)), ADAPTER_BAD);
}

static void test_a_sink_that_is_too_small_gives_no_message(void **state)
{
    static struct msgpack_text event;
    static const struct slice rooms[] = { { "room", 4 } };
    struct adapter_opts opts = { .rooms = rooms, .n_rooms = 1, .except = rooms, .n_except = 1 };
    struct sharded_head head = { slice_text("u"), slice_text("/"), slice_text("id") };

    (void)state;
    event.json = slice_text("[\"e\",{\"_placeholder\":true,\"num\":0}]");
    event.attachments[0] = slice_text("binary");
    for (event.n_attachments = 0; event.n_attachments < 2; event.n_attachments++) {
        for (uint32_t n = 0;; n++) {
            struct msgpack_sink sink = msgpack_sink_of(encode_bytes, n);
            struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

            if (sharded_put_broadcast(&sink, &scratch, &head, &opts, &event) == ADAPTER_OK) {
                assert_int_equal(read_payload(msgpack_sink_slice(&sink, 0)), ADAPTER_OK);
                break;
            }
            assert_true(sink.too_big);
            assert_true(n < 1000);
        }
    }
}

static void test_text_that_is_no_event_is_not_written(void **state)
{
    static const char *const bad[] = { "", "{}", "[1", "null", "[1]]" };
    static struct msgpack_text event;
    struct adapter_opts opts = { .n_rooms = 0 };
    struct sharded_head head = { slice_text("u"), slice_text("/"), NONE };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
        struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

        event.json = slice_text(bad[i]);
        assert_int_equal(sharded_put_broadcast(&sink, &scratch, &head, &opts, &event), ADAPTER_BAD);
        assert_int_equal(sharded_put_server_emit(&sink, &scratch, &head, &event), ADAPTER_BAD);
    }
    event.json = slice_text("[1,]");
    {
        struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);
        struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);

        assert_int_equal(sharded_put_client_ack(&sink, &scratch, &head, &event), ADAPTER_BAD);
        assert_int_equal(sharded_put_emit_answer(&sink, &scratch, &head, &event), ADAPTER_BAD);
    }
}

static void test_flags_are_written_in_nodes_order(void **state)
{
    struct adapter_opts opts = { .flags = { .is_volatile = true,
                                            .is_broadcast = true,
                                            .expects_single = true,
                                            .has_compress = true,
                                            .has_timeout = true,
                                            .timeout_ms = 400 } };
    struct sharded_head head = { slice_text("u"), slice_text("/"), slice_text("q") };
    struct msgpack_sink sink = msgpack_sink_of(encode_bytes, sizeof encode_bytes);

    (void)state;
    sharded_put_fetch(&sink, &head, &opts);
    assert_slice(
        msgpack_sink_slice(&sink, 0),
        "{\"type\":7,\"data\":{\"opts\":{\"rooms\":[],\"except\":[],\"flags\":{"
        "\"expectSingleResponse\":true,\"timeout\":400,\"volatile\":true,\"compress\":false,"
        "\"broadcast\":true}},\"requestId\":\"q\"},\"uid\":\"u\",\"nsp\":\"/\"}");
}

static void test_names_of_twenty_utf16_units_have_no_channel_in_dynamic_mode(void **state)
{
    static const struct {
        const char *room;
        bool in_dynamic;
    } rooms[] = {
        { "", true },
        { "1234567890123456789", true },
        { "12345678901234567890", false },
        { "123456789012345678901", true },
        { "1234567890123456789\xc3\xa9", false },        /* é: one unit */
        { "123456789012345678\xf0\x9f\x98\x80", false }, /* an emoji: two */
        { "1234567890123456789\xf0\x9f\x98\x80", true },
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        struct slice room = slice_text(rooms[i].room);

        assert_int_equal(sharded_room_has_channel(SHARDED_DYNAMIC, room), rooms[i].in_dynamic);
        assert_true(sharded_room_has_channel(SHARDED_DYNAMIC_PRIVATE, room));
        assert_false(sharded_room_has_channel(SHARDED_STATIC, room));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_messages_of_node_servers),
        cmocka_unit_test(test_each_type_is_read),
        cmocka_unit_test(test_what_cannot_be_acted_on_is_bad),
        cmocka_unit_test(test_any_cut_of_a_message_is_bad),
        cmocka_unit_test(test_a_sink_that_is_too_small_gives_no_message),
        cmocka_unit_test(test_text_that_is_no_event_is_not_written),
        cmocka_unit_test(test_flags_are_written_in_nodes_order),
        cmocka_unit_test(test_names_of_twenty_utf16_units_have_no_channel_in_dynamic_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
