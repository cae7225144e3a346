/* test_ws_recorded.c: the recorded clients of a Node server, read by us. */
#include "ws_run.h"

#include <jansson.h>

static void put_hex(const char *hex)
{
    for (; hex[0] != '\0'; hex += 2) {
        char pair[3] = { hex[0], hex[1], '\0' };

        put((uint8_t)strtoul(pair, NULL, 16));
    }
}

static const char *const outcomes[][2] = {
    { "session", "T\"40\"T\"42[\"echo\",\"hi\"]\"T\"421[\"echo\",1]\""
                 "T\"451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\"B\"\x01\x02\x03\"T\"41\"." },
    { "close-packet", "T\"1\"." },
    { "invalid-packet", "T\"abc\"C1005." },
    { "empty-text", "T\"\"C1005." },
    { "unmasked", "!1002" },
    { "rsv1", "!1002" },
    { "invalid-utf8", "!1007" },
    { "too-large", "T\"40\"!1009" },
    { "ws-ping", "P\"hey\"." },
    { "ws-close-1000", "C1000." },
    { "fragmented", "T\"40\"T\"42[\"echo\",\"frag\"]\"." },
};

/* The server's own close frame, which the recorded server sent, must be what we would write. */
static void compare_close(const char *server_hex)
{
    static const char *const faults[][2] = { { "!1002", "880203ea" },
                                             { "!1007", "880203ef" },
                                             { "!1009", "880203f1" } };
    uint8_t out[2 + WS_CONTROL_MAX];
    char hex[32] = "";

    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(server_hex, faults[i][1]) != 0)
            continue;
        for (uint32_t k = 0, n = ws_put_close(out, (uint16_t)atoi(faults[i][0] + 1), NULL); k < n;
             k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", out[k]);
        assert_string_equal(hex, server_hex);
    }
}

static void test_recorded_client_frames_are_read_as_node_read_them(void **state)
{
    json_t *file = json_load_file("tests/vectors/websocket.json", 0, NULL);
    json_t *vector;
    size_t at;
    uint32_t n_outcomes = 0;
    uint32_t n_vectors = 0;

    (void)state;
    assert_non_null(file);
    json_array_foreach(json_object_get(file, "vectors"), at, vector)
    {
        const char *name = json_string_value(json_object_get(vector, "name"));
        const char *options = json_string_value(json_object_get(vector, "options"));
        uint32_t limit = options && strstr(options, "\"maxHttpBufferSize\":100,") ? 100 : 1000000;
        const char *expected = NULL;
        json_t *entry;
        size_t k;

        wire_clear();
        json_array_foreach(json_object_get(vector, "transcript"), k, entry)
        {
            const char *dir = json_string_value(json_object_get(entry, "dir"));
            const char *hex = json_string_value(json_object_get(entry, "hex"));

            if (dir && hex && strcmp(dir, "c>") == 0)
                put_hex(hex);
            if (dir && hex && strcmp(dir, "s>") == 0)
                compare_close(hex);
        }
        for (uint32_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
            if (strcmp(outcomes[i][0], name) == 0)
                expected = outcomes[i][1];
        }
        if (expected) {
            expect(limit, expected);
            n_outcomes++;
        } else { /* no fault, and no rest */
            char line[sizeof run.line + 2];

            begin(limit);
            feed(wire.bytes, wire.n);
            assert_false(run.failed);
            (void)snprintf(line, sizeof line, "%s.", run.line);
            end(line, name, 0);
            expect(limit, line);
        }
        n_vectors++;
    }
    json_decref(file);
    assert_int_equal(n_outcomes, sizeof outcomes / sizeof outcomes[0]);
    assert_true(n_vectors >= 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_client_frames_are_read_as_node_read_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
