/* test_socketio.c: packet texts, against what was recorded from a Node server and its parser. */
#include "jansson_names.h"

#include "proto/json.h"
#include "proto/socketio.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#ifndef VECTORS
#define VECTORS "tests/vectors"
#endif

/* Recorded cases that Node closes although each packet is well formed: the state of the session is
 * the fault. */
static const char *const session_faults[] = { "connect-twice",
                                              "event-before-connect",
                                              "event-unjoined-namespace",
                                              "disconnect-before-connect",
                                              "disconnect-unknown-namespace",
                                              "disconnect-then-event",
                                              "connect-error-from-client",
                                              "binary-interrupted",
                                              "binary-unexpected",
                                              "binary-extra" };
/* Closed when the last attachment has come. */
static const char *const placeholder_faults[] = { "binary-num-out-of-range", "binary-num-negative",
                                                  "binary-num-string" };

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static bool is_listed(const char *name, const char *const *list, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++) {
        if (strcmp(name, list[i]) == 0)
            return true;
    }
    return false;
}

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);

    if (root == NULL)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

static struct slice string_of(const json_t *string)
{
    assert_non_null(string);
    return slice_of(json_string_value(string), (uint32_t)json_string_length(string));
}

/* In a heap block of its size, so that the sanitizer sees a byte read too much. The packet's slices
 * are moved to `text`. */
static bool decode_exactly(struct slice text, struct sio_packet *packet)
{
    char *copy = malloc(text.n_bytes > 0 ? text.n_bytes : 1);
    bool decoded;

    assert_non_null(copy);
    if (text.n_bytes > 0)
        memcpy(copy, text.bytes, text.n_bytes);
    decoded = sio_decode(slice_of(copy, text.n_bytes), packet);
    if (decoded && packet->nsp.bytes >= copy && packet->nsp.bytes < copy + text.n_bytes)
        packet->nsp.bytes = text.bytes + (packet->nsp.bytes - copy);
    if (decoded && packet->payload.bytes != NULL)
        packet->payload.bytes = text.bytes + (packet->payload.bytes - copy);
    free(copy);
    return decoded;
}

static bool is_binary(const struct sio_packet *packet)
{
    return packet->type == SIO_BINARY_EVENT || packet->type == SIO_BINARY_ACK;
}

/* A packet that Node wrote must come out of our writer as it was. */
static void check_rewritten(struct slice wire)
{
    struct sio_packet packet;
    char *out = malloc(SIO_HEADER_MAX + (size_t)wire.n_bytes);
    uint32_t n_bytes;

    assert_non_null(out);
    assert_true(decode_exactly(slice_of(wire.bytes + 1, wire.n_bytes - 1), &packet));
    n_bytes = sio_put_header(out, packet.type, packet.n_attachments, packet.nsp,
                             packet.has_id ? packet.id : -1);
    assert_true(n_bytes + packet.payload.n_bytes == wire.n_bytes);
    if (packet.payload.n_bytes > 0)
        memcpy(out + n_bytes, packet.payload.bytes, packet.payload.n_bytes);
    assert_memory_equal(out, wire.bytes, wire.n_bytes);
    free(out);
}

static void check_answers(json_t *answers, uint32_t *n_rewritten)
{
    size_t index;
    json_t *answer;

    json_array_foreach(answers, index, answer)
    {
        if (json_typeof(answer) == JANSSON_STRING) {
            check_rewritten(string_of(answer));
            (*n_rewritten)++;
        }
    }
}

/* Plays one recorded session: which step is refused as a parse error, or -1; and are the
 * placeholders of a complete packet good? */
static void play(json_t *steps, int *refused_at, bool *placeholders_good, uint32_t *n_rewritten)
{
    struct sio_packet packet = { .n_attachments = 0 };
    struct sio_packet waiting = { .n_attachments = 0 };
    uint32_t n_missing = 0;
    size_t index;
    json_t *step;

    *refused_at = -1;
    *placeholders_good = true;
    json_array_foreach(steps, index, step)
    {
        json_t *sent = json_object_get(step, "send");

        check_answers(json_object_get(step, "got"), n_rewritten);
        assert_int_equal(*refused_at, -1); /* nothing was sent after the fault */
        if (json_typeof(sent) == JANSSON_STRING) {
            struct slice wire = string_of(sent);

            assert_int_equal(wire.bytes[0], '4');
            if (!decode_exactly(slice_of(wire.bytes + 1, wire.n_bytes - 1), &packet))
                *refused_at = (int)index;
            else if (is_binary(&packet)) {
                waiting = packet;
                n_missing = packet.n_attachments;
            }
        } else if (n_missing > 0 && --n_missing == 0) {
            *placeholders_good = sio_placeholders_valid(waiting.payload, waiting.n_attachments);
        }
    }
}

static void test_recorded_sessions_are_refused_where_node_closed_them(void **state)
{
    json_t *root = load(VECTORS "/socketio-packets.json");
    json_t *vectors = json_object_get(root, "vectors");
    uint32_t n_listed = 0;
    uint32_t n_rewritten = 0;
    size_t index;
    json_t *vector;

    (void)state;
    json_array_foreach(vectors, index, vector)
    {
        const char *name = json_string_value(json_object_get(vector, "name"));
        json_t *steps = json_object_get(vector, "steps");
        bool closed = json_is_true(json_object_get(vector, "closed"));
        bool session_fault = is_listed(name, session_faults, COUNT(session_faults));
        bool placeholder_fault = is_listed(name, placeholder_faults, COUNT(placeholder_faults));
        int refused_at;
        bool placeholders_good;

        n_listed += session_fault || placeholder_fault;
        play(steps, &refused_at, &placeholders_good, &n_rewritten);
        if (session_fault || placeholder_fault)
            assert_true(closed);
        if (closed && !session_fault && !placeholder_fault) {
            if (refused_at != (int)json_array_size(steps) - 1)
                fail_msg("%s: Node refuses the last packet, we refuse %d", name, refused_at);
        } else if (refused_at != -1) {
            fail_msg("%s: Node takes packet %d", name, refused_at);
        }
        if (placeholders_good == placeholder_fault)
            fail_msg("%s: placeholders judged %d", name, placeholders_good);
    }
    assert_int_equal(json_array_size(vectors), 99);
    assert_int_equal(n_listed, COUNT(session_faults) + COUNT(placeholder_faults));
    assert_true(n_rewritten > 100);
    json_decref(root);
}

/* `id` as JavaScript prints it, from the header that we would answer with. */
static struct slice printed_id(char out[SIO_HEADER_MAX], double id)
{
    uint32_t n_bytes = sio_put_header(out, SIO_ACK, 0, slice_text("/"), id);

    return slice_of(out + 2, n_bytes - 2);
}

static bool agrees(json_t *expected, struct slice text)
{
    struct sio_packet packet;
    char out[SIO_HEADER_MAX];
    json_t *id = json_object_get(expected, "id");
    json_t *count = json_object_get(expected, "count");
    json_t *placeholders = json_object_get(expected, "placeholders");
    bool decoded = decode_exactly(text, &packet);

    if (json_is_true(json_object_get(expected, "error")))
        return !decoded;
    return decoded &&
           packet.type == (enum sio_type)json_integer_value(json_object_get(expected, "type")) &&
           slice_equal(packet.nsp, string_of(json_object_get(expected, "nsp"))) &&
           packet.has_id == (id != NULL) &&
           (id == NULL || slice_equal(printed_id(out, packet.id), string_of(id))) &&
           packet.n_attachments == (count == NULL ? 0 : (uint32_t)json_integer_value(count)) &&
           (packet.payload.bytes != NULL) == json_is_true(json_object_get(expected, "payload")) &&
           (placeholders == NULL || sio_placeholders_valid(packet.payload, packet.n_attachments) ==
                                        json_is_true(placeholders));
}

static void test_packets_are_judged_as_by_the_parser_of_node(void **state)
{
    json_t *root = load(VECTORS "/socketio-decode.json");
    json_t *cases = json_object_get(root, "cases");
    size_t index;
    json_t *expected;

    (void)state;
    json_array_foreach(cases, index, expected)
    {
        struct slice text = string_of(json_object_get(expected, "text"));

        /* The empty text: to the parser a CONNECT, but a server never hands it on (recorded as
         * empty-message). */
        if (text.n_bytes == 0)
            assert_false(sio_decode(text, &(struct sio_packet){ .n_attachments = 0 }));
        else if (!agrees(expected, text))
            fail_msg("case %zu: %.*s", index, (int)text.n_bytes, text.bytes);
    }
    assert_true(json_array_size(cases) > 1500);
    json_decref(root);
}

static void test_a_packet_is_taken_apart(void **state)
{
    static const char text[] = "62-/chat,0789[\"x\", {\"_placeholder\":true,\"num\":1}] \n";
    struct sio_packet packet;

    (void)state;
    assert_true(sio_decode(slice_text(text), &packet));
    assert_int_equal(packet.type, SIO_BINARY_ACK);
    assert_int_equal(packet.n_attachments, 2);
    assert_true(slice_is(packet.nsp, "/chat"));
    assert_true(packet.has_id);
    assert_true(packet.id == 789);
    assert_true(slice_is(packet.payload, "[\"x\", {\"_placeholder\":true,\"num\":1}]"));
    assert_ptr_equal(packet.payload.bytes, text + 13);
}

static void test_a_refused_packet_leaves_the_result_alone(void **state)
{
    struct sio_packet packet = { .type = SIO_ACK, .id = 42 };

    (void)state;
    assert_false(sio_decode(slice_text("25[\"a\""), &packet));
    assert_int_equal(packet.type, SIO_ACK);
    assert_true(packet.id == 42);
}

/* Cut anywhere, an event is refused from the first byte of its payload to the last; before that the
 * shorter text is a packet too. */
static void test_a_packet_cut_at_any_byte_is_refused_or_complete(void **state)
{
    static const char event[] = "2/chat,12[\"echo\",{\"a\":[1,true]}]";
    static const char binary[] = "510-/chat,12[\"echo\",{\"_placeholder\":true,\"num\":9}]";
    struct sio_packet packet;

    (void)state;
    for (uint32_t cut = 0; cut < sizeof event - 1; cut++)
        assert_int_equal(decode_exactly(slice_of(event, cut), &packet), cut >= 1 && cut <= 9);
    assert_true(decode_exactly(slice_text(event), &packet));
    for (uint32_t cut = 0; cut < sizeof binary - 1; cut++)
        assert_int_equal(decode_exactly(slice_of(binary, cut), &packet), cut >= 4 && cut <= 12);
    assert_true(decode_exactly(slice_text(binary), &packet));
}

static void test_payload_deeper_than_the_limit_is_refused(void **state)
{
    char text[2 + 6 + 2 * JSON_DEPTH_MAX];
    struct sio_packet packet;

    (void)state;
    for (uint32_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX; depth++) {
        uint32_t n_bytes = 0;

        memcpy(text, "2[\"a\",", 6);
        n_bytes = 6;
        memset(text + n_bytes, '[', depth);
        memset(text + n_bytes + depth, ']', depth);
        n_bytes += 2 * depth;
        text[n_bytes++] = ']';
        assert_int_equal(sio_decode(slice_of(text, n_bytes), &packet), depth < JSON_DEPTH_MAX);
    }
}

static void test_long_names_are_not_reserved(void **state)
{
    struct sio_packet packet;

    (void)state;
    assert_true(sio_event_reserved(slice_text("removeListener")));
    assert_false(sio_event_reserved(slice_text("removeListenerremoveListener")));
    assert_false(sio_event_reserved(slice_text("")));
    assert_true(sio_decode(slice_text("2[\"connectconnectconnect\"]"), &packet));
    assert_false(sio_decode(slice_text("2[\"\\u0072emove\\u004cistener\"]"), &packet));
    assert_true(sio_decode(slice_text("3[\"connect\"]"), &packet)); /* an answer has no name */
}

static void check_header(enum sio_type type, uint32_t n_attachments, const char *nsp, double id,
                         const char *want)
{
    uint32_t n_nsp = (uint32_t)strlen(nsp);
    char *out = malloc(SIO_HEADER_MAX + n_nsp);
    uint32_t n_bytes;

    assert_non_null(out);
    n_bytes = sio_put_header(out, type, n_attachments, slice_of(nsp, n_nsp), id);
    if (!slice_is(slice_of(out, n_bytes), want))
        fail_msg("%.*s, not %s", (int)n_bytes, out, want);
    free(out);
}

static void test_headers_are_written_as_node_does(void **state)
{
    (void)state;
    check_header(SIO_CONNECT, 0, "/", -1, "40");
    check_header(SIO_DISCONNECT, 0, "/chat", -1, "41/chat,");
    check_header(SIO_EVENT, 3, "", 0, "420"); /* the count is for binary types only */
    check_header(SIO_EVENT, 0, "/", -0.0, "420");
    check_header(SIO_ACK, 0, "/chat", 456, "43/chat,456");
    check_header(SIO_ACK, 0, "/", 1e20, "43100000000000000000000");
    check_header(SIO_ACK, 0, "/", 1e21, "431e+21");
    check_header(SIO_ACK, 0, "/", NAN, "43NaN");
    check_header(SIO_ACK, 0, "/", INFINITY, "43Infinity");
    check_header(SIO_CONNECT_ERROR, 0, "/nope", -1, "44/nope,");
    check_header(SIO_BINARY_EVENT, 10, "/", -1, "4510-");
    check_header(SIO_BINARY_ACK, 4294967295u, "/x", 1.7976931348623157e308,
                 "464294967295-/x,1.7976931348623157e+308");
}

static void test_placeholders_need_a_payload_only_if_there_is_one(void **state)
{
    (void)state;
    assert_true(sio_placeholders_valid(slice_of(NULL, 0), 1));
    assert_true(sio_placeholders_valid(slice_text("[]"), 1));
    assert_true(sio_placeholders_valid(slice_text("[{\"_placeholder\":true,\"num\":0}]"), 1));
    assert_false(sio_placeholders_valid(slice_text("[{\"_placeholder\":true,\"num\":0}]"), 0));
}

/* A member that a later one of the same name replaces is gone for JavaScript. One such name at a
 * time is followed; two bad ones at once are refused, other than by Node. */
static void test_bad_placeholders_that_are_replaced_later_are_forgiven_one_at_a_time(void **state)
{
#define BAD "{\"_placeholder\":true,\"num\":7}"
    (void)state;
    assert_true(sio_placeholders_valid(
        slice_text("[{\"a\":" BAD ",\"a\":1,\"b\":" BAD ",\"\\u0062\":1}]"), 1));
    assert_false(sio_placeholders_valid(slice_text("[{\"a\":" BAD ",\"a\":1,\"a\":" BAD "}]"), 1));
    assert_false(sio_placeholders_valid(slice_text("[{\"a\":" BAD ",\"b\":1}]"), 1));
    assert_false(
        sio_placeholders_valid(slice_text("[{\"a\":" BAD ",\"b\":" BAD ",\"a\":1,\"b\":1}]"), 1));
#undef BAD
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_sessions_are_refused_where_node_closed_them),
        cmocka_unit_test(test_packets_are_judged_as_by_the_parser_of_node),
        cmocka_unit_test(test_a_packet_is_taken_apart),
        cmocka_unit_test(test_a_refused_packet_leaves_the_result_alone),
        cmocka_unit_test(test_a_packet_cut_at_any_byte_is_refused_or_complete),
        cmocka_unit_test(test_payload_deeper_than_the_limit_is_refused),
        cmocka_unit_test(test_long_names_are_not_reserved),
        cmocka_unit_test(test_headers_are_written_as_node_does),
        cmocka_unit_test(test_placeholders_need_a_payload_only_if_there_is_one),
        cmocka_unit_test(test_bad_placeholders_that_are_replaced_later_are_forgiven_one_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
