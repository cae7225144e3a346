/* test_values.c: what app.h offers for reading and writing JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peal/app.h"

static struct peal_value value_of(const char *json)
{
    struct peal_value value;

    assert_true(peal_valid(peal_text(json), &value));
    return value;
}

static void test_elements_and_members(void **state)
{
    struct peal_text array =
        peal_text(" [\"name\", 1.5 ,{\"a\":[2],\"b\\u0063\":true}, null,\"\"] ");
    struct peal_iter it = peal_iterate(array);
    static const enum peal_kind kinds[] = { PEAL_STRING, PEAL_NUMBER, PEAL_OBJECT, PEAL_NULL,
                                            PEAL_STRING };
    struct peal_value value;
    struct peal_value member;
    struct peal_text key;
    (void)state;

    for (uint32_t i = 0; i < 5; i++) {
        assert_true(peal_next(&it, NULL, &value));
        assert_int_equal(value.kind, kinds[i]);
        assert_true(peal_element(array, i, &value));
        assert_int_equal(value.kind, kinds[i]);
    }
    assert_false(peal_next(&it, NULL, &value));
    assert_false(peal_element(array, 5, &value));
    assert_true(peal_element(array, 1, &value));
    assert_true(peal_number(value) == 1.5);
    assert_false(peal_member(value, "a", &member)); /* no object */
    assert_true(peal_element(array, 2, &value));
    assert_true(peal_member(value, "bc", &member));
    assert_true(peal_true(member));
    assert_false(peal_member(value, "b", &member));
    it = peal_iterate(value.json);
    assert_true(peal_next(&it, &key, &member));
    assert_true(peal_is(key, "\"a\""));
    assert_false(peal_element(peal_text("{}"), 0, &value));
    assert_false(peal_element(peal_text("7"), 0, &value));
}

static void test_strings_are_unescaped_and_cut_where_the_room_ends(void **state)
{
    struct peal_value value = value_of("\"a\\n\\u00e9\\ud83d\\ude00\"");
    struct peal_text text;
    char out[16];
    (void)state;

    assert_int_equal(peal_string(value, out, sizeof out), 8);
    assert_memory_equal(out, "a\n\xc3\xa9\xf0\x9f\x98\x80", 8);
    assert_int_equal(peal_string(value, out, 3), 8); /* cut */
    assert_true(peal_take_string(value, out, 8, &text));
    assert_int_equal(text.n_bytes, 8);
    assert_false(peal_take_string(value, out, 7, &text));
    assert_false(peal_take_string(value_of("1"), out, sizeof out, &text));
    assert_int_equal(peal_string(value_of("[]"), out, sizeof out), 0);
    assert_true(peal_number(value) == 0);
    assert_false(peal_true(value));
}

static void test_text_that_is_no_json(void **state)
{
    static const char *const bad[] = { "", "[", "{\"a\"}", "nul", "[1,]", "\"\x80\"", "1 2" };
    (void)state;

    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(peal_valid(peal_text(bad[i]), NULL));
    assert_false(peal_valid((struct peal_text){ NULL, 0 }, NULL));
}

static void test_binary_arguments(void **state)
{
    struct peal_text bytes[] = { { "one", 3 }, { "two", 3 } };
    struct peal_message m = {
        .json =
            peal_text("[\"e\",{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":2},"
                      "{\"_placeholder\":1,\"num\":0},{\"num\":0},3]"),
        .attachments = bytes,
        .n_attachments = 2,
    };
    struct peal_value value;
    struct peal_text found;
    (void)state;

    assert_true(peal_element(m.json, 1, &value));
    assert_true(peal_binary(&m, value, &found));
    assert_true(peal_is(found, "two"));
    for (uint32_t i = 2; i < 6; i++) {
        assert_true(peal_element(m.json, i, &value));
        assert_false(peal_binary(&m, value, &found));
    }
}

static void test_what_does_not_fit_is_left_out_and_said(void **state)
{
    char room[64];
    struct peal_out out = peal_out(room, sizeof room);
    struct peal_text json;
    (void)state;

    peal_put(&out, "[\"x\",");
    peal_put_string(&out, peal_text("q\"\\\n\x01"));
    peal_put(&out, ",");
    peal_put_number(&out, 0.1);
    peal_put(&out, ",");
    peal_put_json(&out, peal_text("{\"a\":1}"));
    peal_put(&out, "]");
    json = peal_written(&out).json;
    assert_true(peal_is(json, "[\"x\",\"q\\\"\\\\\\n\\u0001\",0.1,{\"a\":1}]"));
    assert_true(peal_valid(json, NULL));
    for (uint32_t max = 0; max < json.n_bytes; max++) { /* whatever the room: never beyond it */
        memset(room, '#', sizeof room);
        out = peal_out(room, max);
        peal_put(&out, "[\"x\",");
        peal_put_string(&out, peal_text("q\"\\\n\x01"));
        peal_put(&out, ",");
        peal_put_number(&out, 0.1);
        peal_put(&out, ",");
        peal_put_json(&out, peal_text("{\"a\":1}"));
        peal_put(&out, "]");
        assert_true(out.too_big);
        assert_true(out.n_bytes <= max);
        assert_int_equal(room[max], '#');
        assert_null(peal_written(&out).json.bytes);
    }
}

static void test_names_of_results_and_reserved_events(void **state)
{
    (void)state;
    assert_string_equal(peal_result_name(PEAL_OK), "PEAL_OK");
    assert_string_equal(peal_result_name(PEAL_TIMEOUT), "PEAL_TIMEOUT");
    assert_string_equal(peal_result_name((enum peal_result)99), "unknown");
    assert_true(peal_event_reserved(peal_text("disconnecting")));
    assert_false(peal_event_reserved(peal_text("connection")));
    assert_true(peal_is_socket_id(peal_text("AAAAAAAAAAAAAAAAAAAA")));
    assert_false(peal_is_socket_id(peal_text("AAAAAAAAAAAAAAAAAAA")));
    assert_false(peal_is((struct peal_text){ NULL, 0 }, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_and_members),
        cmocka_unit_test(test_strings_are_unescaped_and_cut_where_the_room_ends),
        cmocka_unit_test(test_text_that_is_no_json),
        cmocka_unit_test(test_binary_arguments),
        cmocka_unit_test(test_what_does_not_fit_is_left_out_and_said),
        cmocka_unit_test(test_names_of_results_and_reserved_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
