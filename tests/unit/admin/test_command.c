/* test_command.c: what bodies ask for, and what is refused for which reason. */
#include "admin/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct command c;

/* A copy without anything behind it, for AddressSanitizer. */
static struct slice exact(const char *text)
{
    static char *copy;
    size_t n = strlen(text);

    free(copy);
    copy = malloc(n > 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    return slice_of(copy, (uint32_t)n);
}

static void test_an_emit_with_everything_is_understood(void **state)
{
    (void)state;
    assert_true(command_parse_emit(
        &c, exact(" {\"namespace\":\"/cha\\u0074\",\"rooms\":[\"a\",\"\\u00e9\"],\"except\":\"x\","
                  "\"event\":\"e\\u0031\",\"args\":[ 12345678901234567890 , {\"a\":[1, 2]} ]} ")));
    assert_true(slice_is(c.nsp, "/chat"));
    assert_int_equal(c.n_rooms, 2);
    assert_int_equal(c.n_except, 1);
    assert_true(slice_is(c.names[0], "a"));
    assert_true(slice_is(c.names[1], "\xc3\xa9"));
    assert_true(slice_is(c.names[2], "x"));
    assert_true(slice_is(c.event, "\"e\\u0031\""));
    assert_int_equal(c.n_args, 2);
    assert_true(slice_is(c.args, "12345678901234567890 , {\"a\":[1, 2]}"));
}

static void test_what_is_left_out_has_its_default_each_time(void **state)
{
    (void)state;
    assert_true(command_parse_emit(&c, exact("{\"event\":\"e\",\"rooms\":\"r\",\"args\":[1]}")));
    assert_true(command_parse_emit(&c, exact("{\"event\":\"e\"}")));
    assert_true(slice_is(c.nsp, "/"));
    assert_int_equal(c.n_rooms + c.n_except + c.n_args, 0);
    assert_int_equal(c.args.n_bytes, 0);
    assert_true(command_parse_emit(&c, exact("{\"event\":\"e\",\"args\":[]}")));
    assert_int_equal(c.n_args, 0);
}

static const struct {
    const char *body;
    const char *why;
} bad_emits[] = {
    { "", "no JSON" },
    { "{\"event\":\"e\"", "no JSON" },
    { "[]", "no JSON object" },
    { "\"e\"", "no JSON object" },
    { "{}", "event must be" },
    { "{\"event\":1}", "event must be" },
    { "{\"event\":\"connect\"}", "reserved" },
    { "{\"event\":\"dis\\u0063onnect\"}", "reserved" },
    { "{\"event\":\"e\",\"room\":\"a\"}", "unknown key \"room\"" },
    { "{\"event\":\"e\",\"rooms\":[]}", "rooms is empty" },
    { "{\"event\":\"e\",\"except\":[]}", "except is empty" },
    { "{\"event\":\"e\",\"rooms\":7}", "rooms must be" },
    { "{\"event\":\"e\",\"rooms\":null}", "rooms must be" },
    { "{\"event\":\"e\",\"rooms\":[\"a\",1]}", "rooms must be" },
    { "{\"event\":\"e\",\"args\":{}}", "args must be" },
    { "{\"event\":\"e\",\"namespace\":\"chat\"}", "begin with a slash" },
    { "{\"event\":\"e\",\"namespace\":\"\"}", "begin with a slash" },
    { "{\"event\":\"e\",\"namespace\":\"/a,b\"}", "comma" },
    { "{\"event\":\"e\",\"namespace\":1}", "namespace is no string" },
};

static void test_each_bad_emit_is_refused_with_its_reason(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof bad_emits / sizeof bad_emits[0]; i++) {
        if (command_parse_emit(&c, exact(bad_emits[i].body)))
            fail_msg("accepted: %s", bad_emits[i].body);
        if (strstr(c.why, bad_emits[i].why) == NULL)
            fail_msg("%s: \"%s\" instead of \"%s\"", bad_emits[i].body, c.why, bad_emits[i].why);
    }
}

/* {"event":"e","rooms":[…]} with `n` rooms of `n_bytes` bytes. */
static struct slice with_rooms(uint32_t n, uint32_t n_bytes)
{
    static char body[(RECORD_NAMES_MAX + 1) * (NAME_BYTES_MAX + 4) + 64];
    uint32_t at = (uint32_t)sprintf(body, "{\"event\":\"e\",\"rooms\":[");

    for (uint32_t i = 0; i < n; i++) {
        body[at++] = '"';
        memset(body + at, 'a', n_bytes);
        at += n_bytes;
        body[at++] = '"';
        body[at++] = i + 1 < n ? ',' : ']';
    }
    body[at++] = '}';
    return slice_of(body, at);
}

static void test_rooms_are_bounded_in_number_and_length(void **state)
{
    (void)state;
    assert_true(command_parse_emit(&c, with_rooms(RECORD_NAMES_MAX, NAME_BYTES_MAX)));
    assert_int_equal(c.n_rooms, RECORD_NAMES_MAX);
    assert_int_equal(c.names[RECORD_NAMES_MAX - 1].n_bytes, NAME_BYTES_MAX);
    assert_false(command_parse_emit(&c, with_rooms(RECORD_NAMES_MAX + 1, 1)));
    assert_non_null(strstr(c.why, "more than"));
    assert_false(command_parse_emit(&c, with_rooms(1, NAME_BYTES_MAX + 1)));
    assert_non_null(strstr(c.why, "longer than"));
}

static void test_names_of_255_bytes_are_taken_and_of_256_refused(void **state)
{
    char body[400], name[NAME_BYTES_MAX + 2];

    (void)state;
    memset(name, 'n', sizeof name);
    name[NAME_BYTES_MAX] = '\0';
    snprintf(body, sizeof body, "{\"event\":\"%s\"}", name);
    assert_true(command_parse_emit(&c, exact(body)));
    snprintf(body, sizeof body, "{\"event\":\"%sn\"}", name);
    assert_false(command_parse_emit(&c, exact(body)));
    snprintf(body, sizeof body, "{\"event\":\"e\",\"namespace\":\"/%s\"}", name);
    assert_false(command_parse_emit(&c, exact(body)));
    name[NAME_BYTES_MAX - 1] = '\0';
    snprintf(body, sizeof body, "{\"event\":\"e\",\"namespace\":\"/%s\"}", name);
    assert_true(command_parse_emit(&c, exact(body)));
    assert_int_equal(c.nsp.n_bytes, NAME_BYTES_MAX);
}

static void test_a_disconnect_names_rooms_or_one_socket(void **state)
{
    (void)state;
    assert_true(command_parse_disconnect(&c, exact("{\"rooms\":[\"a\"],\"close\":true}")));
    assert_int_equal(c.n_rooms, 1);
    assert_true(c.close);
    assert_true(command_parse_disconnect(
        &c, exact("{\"namespace\":\"/x\",\"id\":\"AAAA-_90AAAAAAAAAAAA\",\"close\":false}")));
    assert_int_equal(c.n_rooms, 1);
    assert_true(slice_is(c.names[0], "AAAA-_90AAAAAAAAAAAA"));
    assert_false(c.close);
    assert_false(command_parse_disconnect(&c, exact("{}"))); /* it would be everybody */
    assert_false(command_parse_disconnect(&c, exact("{\"rooms\":[]}")));
    assert_false(
        command_parse_disconnect(&c, exact("{\"rooms\":\"a\",\"id\":\"AAAAAAAAAAAAAAAAAAAA\"}")));
    assert_false(command_parse_disconnect(&c, exact("{\"id\":\"short\"}")));
    assert_false(command_parse_disconnect(&c, exact("{\"id\":\"AAAA!AAAAAAAAAAAAAAA\"}")));
    assert_false(command_parse_disconnect(&c, exact("{\"id\":3}")));
    assert_false(command_parse_disconnect(&c, exact("{\"rooms\":\"a\",\"close\":1}")));
    assert_false(command_parse_disconnect(&c, exact("{\"rooms\":\"a\",\"event\":\"e\"}")));
}

static void test_nothing_means_nothing(void **state)
{
    (void)state;
    assert_true(command_parse_nothing(&c, exact("")));
    assert_true(command_parse_nothing(&c, exact(" {} ")));
    assert_false(command_parse_nothing(&c, exact("{\"force\":true}")));
    assert_false(command_parse_nothing(&c, exact("x")));
}

static void test_a_room_in_a_path_is_decoded(void **state)
{
    char longest[3 * NAME_BYTES_MAX + 4];

    (void)state;
    assert_true(command_parse_room(&c, exact("public/a%20b+%2F")));
    assert_true(slice_is(c.names[0], "public/a b+/"));
    assert_true(slice_is(c.nsp, "/ws"));
    assert_false(command_parse_room(&c, exact("")));
    assert_false(command_parse_room(&c, exact("%zz")));
    assert_false(command_parse_room(&c, exact("%ff")));
    for (uint32_t i = 0; i <= NAME_BYTES_MAX; i++)
        memcpy(longest + (size_t)3 * i, "%61", 4);
    assert_false(command_parse_room(&c, exact(longest)));
    longest[3 * NAME_BYTES_MAX] = '\0';
    assert_true(command_parse_room(&c, exact(longest)));
    assert_int_equal(c.names[0].n_bytes, NAME_BYTES_MAX);
}

static void test_utf8_is_told_from_other_bytes(void **state)
{
    (void)state;
    assert_true(command_is_utf8((struct slice){ NULL, 0 }));
    assert_true(command_is_utf8(exact("a\xf0\x9f\x94\x94z")));
    assert_false(command_is_utf8(exact("a\xf0\x9f\x94")));
    assert_false(command_is_utf8(exact("\xc0\x80")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_emit_with_everything_is_understood),
        cmocka_unit_test(test_what_is_left_out_has_its_default_each_time),
        cmocka_unit_test(test_each_bad_emit_is_refused_with_its_reason),
        cmocka_unit_test(test_rooms_are_bounded_in_number_and_length),
        cmocka_unit_test(test_names_of_255_bytes_are_taken_and_of_256_refused),
        cmocka_unit_test(test_a_disconnect_names_rooms_or_one_socket),
        cmocka_unit_test(test_nothing_means_nothing),
        cmocka_unit_test(test_a_room_in_a_path_is_decoded),
        cmocka_unit_test(test_utf8_is_told_from_other_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
