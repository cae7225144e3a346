/* test_json.c: the JSON scanner, its strings and numbers: by tables, against what JavaScript
 * printed, and against jansson. */
#include "json_compare.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#ifndef VECTORS
#define VECTORS "tests/vectors"
#endif

static enum json_kind kind_when_valid(const char *text)
{
    enum json_kind kind = (enum json_kind)99;

    if (!json_valid(slice_text(text), &kind))
        fail_msg("refused: %s", text);
    return kind;
}

/* In a heap block of exactly its size, so that the sanitizer sees one byte read too much. */
static bool valid_exactly(const char *bytes, uint32_t n_bytes)
{
    char *copy = malloc(n_bytes > 0 ? n_bytes : 1);
    bool valid;

    assert_non_null(copy);
    memcpy(copy, bytes, n_bytes);
    valid = json_compare(slice_of(copy, n_bytes));
    free(copy);
    return valid;
}

static void test_each_kind_of_value_is_told(void **state)
{
    (void)state;
    assert_int_equal(kind_when_valid("null"), JSON_NULL);
    assert_int_equal(kind_when_valid(" true"), JSON_BOOL);
    assert_int_equal(kind_when_valid("false\t"), JSON_BOOL);
    assert_int_equal(kind_when_valid("\r\n-1.5e+3 "), JSON_NUMBER);
    assert_int_equal(kind_when_valid("\"\""), JSON_STRING);
    assert_int_equal(kind_when_valid(" [ ] "), JSON_ARRAY);
    assert_int_equal(kind_when_valid("{ }"), JSON_OBJECT);
    assert_true(json_valid(slice_text("1"), NULL));
}

static void test_what_is_not_json_is_refused(void **state)
{
    static const char *const bad[] = { "",
                                       " ",
                                       "nul",
                                       "nulll",
                                       "True",
                                       "truefalse",
                                       "1 2",
                                       "01",
                                       "-",
                                       "-01",
                                       "+1",
                                       ".5",
                                       "1.",
                                       "1.e5",
                                       "1e",
                                       "1e+",
                                       "0x1",
                                       "NaN",
                                       "Infinity",
                                       "\"",
                                       "\"\\\"",
                                       "\"\\x\"",
                                       "\"\\u12g4\"",
                                       "\"\\u123\"",
                                       "\"\t\"",
                                       "\"\n\"",
                                       "\"\x1f\"",
                                       "'a'",
                                       "[",
                                       "]",
                                       "[1",
                                       "[1,]",
                                       "[,1]",
                                       "[1 2]",
                                       "[1}",
                                       "{",
                                       "}",
                                       "{]",
                                       "{1:2}",
                                       "{\"a\"}",
                                       "{\"a\":}",
                                       "{\"a\":1,}",
                                       "{,}",
                                       "{\"a\" 1}",
                                       "{\"a\":1 \"b\":2}",
                                       "{a:1}",
                                       "{\"a\"::1}",
                                       "[1]]",
                                       "[1],",
                                       ",",
                                       ":",
                                       "[1:2]",
                                       "1,2",
                                       "\"a\":1",
                                       "/**/1",
                                       "[1]//",
                                       "\xef\xbb\xbf[]",
                                       "\xc2\xa0",
                                       "[1\v]",
                                       "\"\x80\"",
                                       "\"\xc1\x81\"",
                                       "\"\xe0\x80\x80\"",
                                       "\"\xed\xa0\x80\"",
                                       "\"\xf0\x80\x80\x80\"",
                                       "\"\xf4\x90\x80\x80\"",
                                       "\"\xf5\x80\x80\x80\"",
                                       "\"\xc3\"",
                                       "\"\xe2\x82\"",
                                       "\"\xf0\x9f\x98\"",
                                       "[{\"a\":[1,{\"b\":2]}]",
                                       "[tru]",
                                       "[nul,1]" };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (valid_exactly(bad[i], (uint32_t)strlen(bad[i])))
            fail_msg("taken: %s", bad[i]);
    }
    assert_false(json_valid(slice_of("1\0", 2), NULL));
    assert_false(json_valid(slice_of("\"\0\"", 3), NULL));
    assert_false(json_valid(slice_of(NULL, 0), NULL));
}

static void test_each_control_and_each_bad_byte_is_found_at_each_place(void **state)
{
    char text[36];

    (void)state;
    for (uint32_t at = 1; at < 33; at++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            bool fine = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';

            memset(text, 'a', sizeof text);
            text[0] = '"';
            text[33] = '"';
            text[at] = (char)byte;
            assert_int_equal(json_valid(slice_of(text, 34), NULL), fine);
        }
    }
}

static const char sample[] =
    " {\"a\\u00e9\\\"\":[1,-2.50e-3,{\"b\":{}},[],\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 plain "
    "text to run over\"],\"\":null , "
    "\"t\" : true,\"f\":false,\"s\":\"\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\\\"}\n";

static void test_a_text_cut_at_any_byte_is_refused(void **state)
{
    uint32_t n_bytes = sizeof sample - 1;

    (void)state;
    assert_true(valid_exactly(sample, n_bytes));
    assert_true(valid_exactly(sample, n_bytes - 1)); /* only the white space is gone */
    for (uint32_t cut = 0; cut < n_bytes - 1; cut++)
        assert_false(valid_exactly(sample, cut));
    for (uint32_t skip = 2; skip < n_bytes;
         skip++) /* and from the front it does not begin in the middle */
        (void)valid_exactly(sample + skip, n_bytes - skip);
}

static void test_depth_ends_at_the_limit(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1)];

    (void)state;
    for (uint32_t depth = 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(json_valid(slice_of(text, 2 * depth), NULL), depth <= JSON_DEPTH_MAX);
    }
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    text[2 * JSON_DEPTH_MAX - 1] = '}'; /* the outermost bracket is remembered */
    assert_false(json_valid(slice_of(text, 2 * JSON_DEPTH_MAX), NULL));
}

static void test_elements_are_found_with_their_borders(void **state)
{
    struct json_iter it =
        json_iter_open(slice_text(" [ 1 ,\"a,]\\\"\" , [2,[3]],{\"x\":[]} ,null,true ] "));
    static const char *const texts[] = {
        "1", "\"a,]\\\"\"", "[2,[3]]", "{\"x\":[]}", "null", "true"
    };
    static const enum json_kind kinds[] = { JSON_NUMBER, JSON_STRING, JSON_ARRAY,
                                            JSON_OBJECT, JSON_NULL,   JSON_BOOL };
    struct slice key;
    struct slice value;
    enum json_kind kind;

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        assert_true(json_iter_next(&it, &key, &value, &kind));
        assert_null(key.bytes);
        assert_true(slice_is(value, texts[i]));
        assert_int_equal(kind, kinds[i]);
    }
    assert_false(json_iter_next(&it, &key, &value, &kind));
    assert_false(json_iter_next(&it, &key, &value, &kind));
    it = json_iter_open(slice_text("\"[1]\""));
    assert_false(json_iter_next(&it, NULL, &value, &kind));
    it = json_iter_open(slice_text("{}"));
    assert_false(json_iter_next(&it, NULL, NULL, NULL));
}

static void test_members_are_found_by_meaning_and_the_last_counts(void **state)
{
    struct slice object = slice_text(
        "{\"a\":1, \"\\u0061b\" : [2] ,\"a\":\"z\",\"\":0,\"\\ud800\":3,\"in\":{\"deep\":1}}");
    struct slice value;
    enum json_kind kind;

    (void)state;
    assert_true(json_member(object, "a", &value, &kind));
    assert_true(slice_is(value, "\"z\""));
    assert_int_equal(kind, JSON_STRING);
    assert_true(json_member(object, "ab", &value, &kind));
    assert_true(slice_is(value, "[2]"));
    assert_true(json_member(object, "", NULL, NULL));
    assert_false(json_member(object, "deep", &value, &kind));
    assert_false(json_member(object, "b", &value, &kind));
    assert_false(json_member(object, "\xef\xbf\xbd", &value, &kind));
    assert_false(json_member(slice_text("[\"a\",1]"), "a", &value, &kind));
}

static void test_strings_are_compared_by_meaning(void **state)
{
    static const char *const same[][2] = { { "\"\"", "\"\"" },
                                           { "\"a\"", "\"\\u0061\"" },
                                           { "\"\\u00e9x\"", "\"\xc3\xa9x\"" },
                                           { "\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"" },
                                           { "\"\\uD800\"", "\"\\ud800\"" },
                                           { "\"\\/\\n\"", "\"/\\u000a\"" } };
    static const char *const different[][2] = { { "\"a\"", "\"b\"" },
                                                { "\"a\"", "\"\\u0061b\"" },
                                                { "\"\\u0061b\"", "\"a\"" },
                                                { "\"\\ud800\"", "\"\\ud801\"" },
                                                { "\"\\ud800\"", "\"\\ufffd\"" },
                                                { "\"\\u0000\"", "\"\"" },
                                                { "\"\\\\u0061\"", "\"a\"" } };

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        assert_true(json_string_equal(slice_text(same[i][0]), slice_text(same[i][1])));
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++)
        assert_false(json_string_equal(slice_text(different[i][0]), slice_text(different[i][1])));
    assert_true(json_string_is(slice_text("\"\\u0000\""), slice_of("", 1)));
    assert_false(json_string_is(slice_text("\"\\u0061\""), slice_text("ab")));
    assert_false(json_string_is(slice_text("\"\\u0061b\""), slice_text("a")));
    assert_false(json_string_is(slice_text("\"a\""), slice_text("")));
}

static void test_unescaping_gives_utf8_and_stops_at_the_room_there_is(void **state)
{
    struct slice text = slice_text("\"ab\\u00e9\\ud83d\\ude00\\ud800x\\udc00\\ud800\\u0041\\\"\\\\"
                                   "\\/\\b\\f\\n\\r\\t\xc3\xa9\"");
    static const char want[] = "ab\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd"
                               "A\"\\/\b\f\n\r\t\xc3\xa9";
    uint32_t n_bytes = sizeof want - 1;

    (void)state;
    for (uint32_t room = 0; room <= n_bytes; room++) {
        char *out = malloc(room > 0 ? room : 1);

        assert_non_null(out);
        assert_int_equal(json_unescape(text, out, room), n_bytes);
        assert_memory_equal(out, want, room);
        free(out);
    }
    assert_int_equal(json_unescape(slice_text("\"\""), NULL, 0), 0);
}

static void check_put(const char *plain, uint32_t n_bytes, const char *want)
{
    char *out = malloc(strlen(want));

    assert_non_null(out);
    assert_int_equal(json_put_string(NULL, slice_of(plain, n_bytes)), strlen(want));
    assert_int_equal(json_put_string(out, slice_of(plain, n_bytes)), strlen(want));
    assert_memory_equal(out, want, strlen(want));
    free(out);
}

static void test_strings_are_written_as_json_stringify_does(void **state)
{
    (void)state;
    check_put("", 0, "\"\"");
    check_put(NULL, 0, "\"\"");
    check_put("a/b\x7f", 4, "\"a/b\x7f\"");
    check_put("\0\1\2\3\4\5\6\7\b\t\n\v\f\r\x0e\x1f", 16,
              "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u0"
              "00e\\u001f\"");
    check_put("\"\\", 2, "\"\\\"\\\\\"");
    check_put("\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80", 9,
              "\"\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\"");
}

/* The expected texts are what TextDecoder makes of the bytes. */
static void test_bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
#define R "\xef\xbf\xbd"
    (void)state;
    check_put("\x80", 1, "\"" R "\"");
    check_put("a\xff\xfe"
              "b",
              4, "\"a" R R "b\"");
    check_put("\xc3", 1, "\"" R "\"");
    check_put("\xc3\"", 2, "\"" R "\\\"\"");
    check_put("\xe2\x82", 2, "\"" R "\"");
    check_put("\xe2\x82\x41", 3, "\"" R "A\"");
    check_put("\xf0\x9f\x98", 3, "\"" R "\"");
    check_put("\xf0\x9f\x41", 3, "\"" R "A\"");
    check_put("\xed\xa0\x80", 3, "\"" R R R "\"");
    check_put("\xc0\x80", 2, "\"" R R "\"");
    check_put("\xe0\x80\x80", 3, "\"" R R R "\"");
    check_put("\xf4\x90\x80\x80", 4, "\"" R R R R "\"");
    check_put("\xf1\x80\xc3\xa9", 4, "\"" R "\xc3\xa9\"");
#undef R
}

static double from_bits(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Reads the table that Node printed and checks printing and reading back. Returns the number of
 * lines. */
static uint32_t check_number_table(void)
{
    FILE *file = fopen(VECTORS "/js-numbers.txt", "r");
    char line[256];
    uint32_t n_lines = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char *want = line + 17;
        double value;
        char out[JSON_NUMBER_MAX];
        uint32_t n_bytes;

        if (line[0] == '#')
            continue;
        assert_int_equal(line[16], ' ');
        value = from_bits(strtoull(line, NULL, 16));
        want[strcspn(want, "\n")] = '\0';
        n_bytes = json_put_number(out, value);
        if (!slice_is(slice_of(out, n_bytes), want))
            fail_msg("%.17g: %.*s, not %s", value, (int)n_bytes, out, want);
        if (strcmp(want, "null") != 0)
            assert_true(json_number(slice_of(out, n_bytes)) == value);
        n_lines++;
    }
    assert_int_equal(fclose(file), 0);
    return n_lines;
}

static void test_numbers_are_printed_as_javascript_does(void **state)
{
    (void)state;
    assert_int_equal(check_number_table(), 700);
}

/* Few machines have such a locale installed, most can make one. */
static bool set_decimal_comma(const char *folder)
{
    char command[256];

    (void)snprintf(command, sizeof command,
                   "localedef --no-archive -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null", folder);
    /* NOLINTNEXTLINE(cert-env33-c): a fixed command of the test's own */
    return system(command) == 0 && setenv("LOCPATH", folder, 1) == 0 &&
           setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

static void test_numbers_do_not_depend_on_the_locale(void **state)
{
    char folder[] = "/tmp/peal-locale-XXXXXX";
    char command[64];
    char text[8];
    bool found;

    (void)state;
    assert_non_null(mkdtemp(folder));
    found = set_decimal_comma(folder);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): likewise */
    if (!found) {
        print_message("no locale with a decimal comma can be made (Debian package locales)\n");
        skip();
    }
    (void)snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5");
    assert_int_equal(check_number_table(), 700);
    assert_true(json_number(slice_text("1234567890.0987654321")) == 0x1.26580b486522cp+30);
    assert_non_null(setlocale(LC_ALL, "C"));
}

static void test_numbers_are_read_exactly(void **state)
{
    static const char *const texts[] = { "0",
                                         "0.0",
                                         "0e5",
                                         "0.000e-9",
                                         "1",
                                         "10",
                                         "123456789012345",
                                         "1234567890123456",
                                         "9007199254740993",
                                         "9007199254740993.0000000001",
                                         "1e22",
                                         "1e23",
                                         "8.5e-22",
                                         "123e-22",
                                         "123e-23",
                                         "1.7976931348623157e308",
                                         "1.7976931348623158e308",
                                         "1.7976931348623159e308",
                                         "1e309",
                                         "1e400",
                                         "5e-324",
                                         "2.4703282292062327e-324",
                                         "2.4703282292062328e-324",
                                         "1e-400",
                                         "2.2250738585072011e-308",
                                         "0.1e1",
                                         "1E+2",
                                         "1e-2",
                                         "1e00000000002",
                                         "1e99999999999999999999",
                                         "1e-99999999999999999999",
                                         "0e99999999999999999999",
                                         "0.00000000000000000000000000000000000001e40" };
    static char text[20100];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (json_number(slice_text(texts[i])) != strtod(texts[i], NULL))
            fail_msg("%s", texts[i]);
    }
    assert_true(signbit(json_number(slice_text("-0"))));
    assert_true(json_number(slice_text("-1e400")) == -INFINITY);

    /* A tie at 2^53 + 1 that the 1200th digit breaks, and one that nothing breaks. */
    (void)snprintf(text, sizeof text, "9007199254740993.%01200d1", 0);
    assert_true(json_number(slice_text(text)) == 9007199254740994.0);
    (void)snprintf(text, sizeof text, "9007199254740993.%01200d", 0);
    assert_true(json_number(slice_text(text)) == 9007199254740992.0);

    /* Zeros and an exponent that make up for each other. */
    (void)snprintf(text, sizeof text, "0.%01200d1e1201", 0);
    assert_true(json_number(slice_text(text)) == 1.0);
    (void)snprintf(text, sizeof text, "1%01200de-1200", 0);
    assert_true(json_number(slice_text(text)) == 1.0);
    (void)snprintf(text, sizeof text, "0.%020000d1e20001", 0);
    assert_true(json_number(slice_text(text)) == 1.0);
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void test_printed_numbers_read_back(void **state)
{
    uint64_t seed = 0x9e3779b97f4a7c15u;

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        double value = from_bits(random_next(&seed));
        char out[JSON_NUMBER_MAX + 1];
        uint32_t n_bytes;
        enum json_kind kind;

        if (i % 4 == 0)
            value = (double)(int64_t)random_next(&seed) / (double)(1u << (i % 24));
        if (!isfinite(value))
            continue;
        n_bytes = json_put_number(out, value);
        assert_true(n_bytes <= JSON_NUMBER_MAX);
        out[n_bytes] = '\0';
        assert_true(json_valid(slice_of(out, n_bytes), &kind));
        assert_int_equal(kind, JSON_NUMBER);
        assert_true(strtod(out, NULL) == value);
        assert_true(json_number(slice_of(out, n_bytes)) == value);
    }
}

struct text {
    char bytes[4096];
    uint32_t n_bytes;
};

static void text_add(struct text *t, const char *piece)
{
    uint32_t n_bytes = (uint32_t)strlen(piece);

    if (t->n_bytes + n_bytes <= sizeof t->bytes) {
        memcpy(t->bytes + t->n_bytes, piece, n_bytes);
        t->n_bytes += n_bytes;
    }
}

static void random_value(struct text *t, uint64_t *seed, uint32_t depth)
{
    static const char *const scalars[] = { "0",
                                           "-1",
                                           "1.25e-7",
                                           "12345678901234567890",
                                           "1e400",
                                           "-0",
                                           "true",
                                           "false",
                                           "null",
                                           "\"\"",
                                           "\"plain ascii text\"",
                                           "\"\xc3\xa9\xf0\x9f\x98\x80\"",
                                           "\"\\ud800\"",
                                           "\"\\u0000\\n\\\"\"",
                                           "\"\\ud83d\\ude00\"",
                                           "123.456",
                                           "\"]},{[\"" };
    static const char *const names[] = { "\"a\"", "\"a\"",        "\"\\u0061\"", "\"b\\\\\"",
                                         "\"\"",  "\"\xc3\xa9\"", "\"x\\u0000\"" };
    uint64_t dice = random_next(seed) >> 16;
    bool is_object = dice & 1;

    if (dice % 7 == 0)
        text_add(t, " \n");
    if (depth == 0 || dice % 3 == 0) {
        text_add(t, scalars[dice / 3 % (sizeof scalars / sizeof scalars[0])]);
        return;
    }
    text_add(t, is_object ? "{" : "[");
    for (uint64_t n = dice / 8 % 5; n > 0; n--) {
        if (is_object) {
            text_add(t, names[(random_next(seed) >> 16) % (sizeof names / sizeof names[0])]);
            text_add(t, ":");
        }
        random_value(t, seed, depth - 1);
        if (n > 1)
            text_add(t, ", ");
    }
    text_add(t, is_object ? "}" : "]");
}

static void test_random_values_are_judged_and_read_as_by_jansson(void **state)
{
    static const char noise[] = "{}[],:\"\\ \n0-1.eEtnul\x80\xc3\xff";
    uint64_t seed = 0x2545f4914f6cdd1du;
    uint32_t n_valid = 0;
    uint32_t n_refused = 0;

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        struct text t = { .n_bytes = 0 };

        random_value(&t, &seed, i % 6);
        for (uint64_t n = i % 2 == 0 ? 0 : random_next(&seed) % 3; n > 0; n--) {
            uint64_t dice = random_next(&seed) >> 16;

            t.bytes[dice % t.n_bytes] = noise[dice / 4096 % (sizeof noise - 1)];
        }
        if (valid_exactly(t.bytes, t.n_bytes))
            n_valid++;
        else
            n_refused++;
    }
    assert_true(n_valid > 10000);
    assert_true(n_refused > 3000);
}

/* Readers of valid text are given anything here: the answers do not matter, only that nothing is
 * read outside. */
static void test_readers_stay_inside_a_text_that_was_never_validated(void **state)
{
    uint32_t n_bytes = sizeof sample - 1;
    char out[256];

    (void)state;
    for (uint32_t start = 0; start < n_bytes; start++) {
        for (uint32_t end = start; end <= n_bytes; end++) {
            char *copy = malloc(end - start + (start == end));
            struct slice text = slice_of(copy, end - start);
            struct json_iter it;
            struct slice part;
            enum json_kind kind;
            uint32_t n_steps = 0;

            assert_non_null(copy);
            memcpy(copy, sample + start, end - start);
            for (it = json_iter_open(text); json_iter_next(&it, &part, &part, &kind);)
                n_steps++;
            for (it = json_walk_open(text); json_walk_next(&it, &part, &kind) != JSON_STEP_END;)
                n_steps++;
            n_steps += json_member(text, "s", &part, &kind);
            n_steps += json_string_equal(text, slice_of(sample, n_bytes));
            assert_true(n_steps <= 2 * n_bytes + 2);
            assert_true(json_unescape(text, out, sizeof out) <= 3 * n_bytes);
            (void)json_number(text);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_value_is_told),
        cmocka_unit_test(test_what_is_not_json_is_refused),
        cmocka_unit_test(test_each_control_and_each_bad_byte_is_found_at_each_place),
        cmocka_unit_test(test_a_text_cut_at_any_byte_is_refused),
        cmocka_unit_test(test_depth_ends_at_the_limit),
        cmocka_unit_test(test_elements_are_found_with_their_borders),
        cmocka_unit_test(test_members_are_found_by_meaning_and_the_last_counts),
        cmocka_unit_test(test_strings_are_compared_by_meaning),
        cmocka_unit_test(test_unescaping_gives_utf8_and_stops_at_the_room_there_is),
        cmocka_unit_test(test_strings_are_written_as_json_stringify_does),
        cmocka_unit_test(test_bytes_that_are_no_utf8_become_replacement_characters),
        cmocka_unit_test(test_numbers_are_printed_as_javascript_does),
        cmocka_unit_test(test_numbers_do_not_depend_on_the_locale),
        cmocka_unit_test(test_numbers_are_read_exactly),
        cmocka_unit_test(test_printed_numbers_read_back),
        cmocka_unit_test(test_random_values_are_judged_and_read_as_by_jansson),
        cmocka_unit_test(test_readers_stay_inside_a_text_that_was_never_validated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
