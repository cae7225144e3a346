/* test_msgpack.c: the MessagePack walker, the writer and the conversions to and from JSON. What
 * the bytes must be was read off notepack.io 3.0.1; tests/e2e/codec-differential.test.mjs asks
 * it anew for generated values. */
#include "proto/msgpack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "proto/json.h"

#define BYTES_MAX (1u << 20)

static char bytes_of_hex[BYTES_MAX];
static char out_bytes[BYTES_MAX];
static char scratch_bytes[BYTES_MAX];
static struct msgpack_text text;

static struct slice unhex(const char *hex)
{
    uint32_t n = (uint32_t)strlen(hex) / 2;

    for (uint32_t i = 0; i < n; i++) {
        char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };

        bytes_of_hex[i] = (char)strtoul(pair, NULL, 16);
    }
    return slice_of(bytes_of_hex, n);
}

static void assert_slice(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got %.*s, not %s", (int)got.n_bytes, got.bytes, want);
}

/* Decodes to the last byte. */
static enum msgpack_result decode(struct slice bytes, struct msgpack_sink *sink)
{
    enum msgpack_result result;
    enum json_kind kind;

    *sink = msgpack_sink_of(out_bytes, sizeof out_bytes);
    result = msgpack_to_json(&bytes, sink, &text);
    if (result == MSGPACK_OK)
        assert_true(json_valid(text.json, &kind));
    return result == MSGPACK_OK && bytes.n_bytes != 0 ? MSGPACK_BAD : result;
}

static void assert_json(const char *hex, const char *want)
{
    struct msgpack_sink sink;

    assert_int_equal(decode(unhex(hex), &sink), MSGPACK_OK);
    assert_slice(text.json, want);
}

static void assert_bad(const char *hex)
{
    struct msgpack_sink sink;

    assert_int_equal(decode(unhex(hex), &sink), MSGPACK_BAD);
}

static enum msgpack_result encode(const struct msgpack_text *from, struct msgpack_sink *sink)
{
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, sizeof scratch_bytes);
    enum msgpack_result result;

    *sink = msgpack_sink_of(out_bytes, sizeof out_bytes);
    result = msgpack_put_json(sink, from, &scratch);
    assert_int_equal(scratch.n_bytes, 0);
    assert_false(scratch.too_big);
    return result;
}

static void assert_encodes(const char *json, const char *hex)
{
    struct msgpack_text from = { .json = slice_text(json) };
    struct msgpack_sink sink;

    assert_int_equal(encode(&from, &sink), MSGPACK_OK);
    assert_true(slice_equal(msgpack_sink_slice(&sink, 0), unhex(hex)));
}

static void test_each_scalar_form_is_read(void **state)
{
    (void)state;
    assert_json("c0", "null");
    assert_json("c2", "false");
    assert_json("c3", "true");
    assert_json("00", "0");
    assert_json("7f", "127");
    assert_json("ff", "-1");
    assert_json("e0", "-32");
    assert_json("ccff", "255");
    assert_json("cdffff", "65535");
    assert_json("ceffffffff", "4294967295");
    assert_json("cfffffffffffffffff", "18446744073709552000");
    assert_json("cf0020000000000001", "9007199254740992");
    assert_json("d080", "-128");
    assert_json("d18000", "-32768");
    assert_json("d280000000", "-2147483648");
    assert_json("d3ffffffff7fffffff", "-2147483649");
    assert_json("d38000000000000000", "-9223372036854776000");
    assert_json("ca3fc00000", "1.5");
    assert_json("ca7f800000", "null");
    assert_json("cb0000000000000001", "5e-324");
    assert_json("cb444b1ae4d6e2ef50", "1e+21");
    assert_json("cb7ff8000000000000", "null");
    assert_json("cb8000000000000000", "0");
    assert_json("a0", "\"\"");
    assert_json("a568c3a90a22", "\"h\xc3\xa9\\n\\\"\"");
    assert_json("d90161", "\"a\"");
    assert_json("da000161", "\"a\"");
    assert_json("db0000000161", "\"a\"");
}

static void test_containers_keep_their_order(void **state)
{
    (void)state;
    assert_json("90", "[]");
    assert_json("80", "{}");
    assert_json("93019102dc0000", "[1,[2],[]]");
    assert_json("dd00000002c0c3", "[null,true]");
    assert_json("82a16101a132de0001a163df00000000", "{\"a\":1,\"2\":{\"c\":{}}}");
}

static void test_keys_that_are_no_strings_become_their_text(void **state)
{
    (void)state;
    assert_json("86ca3fc0000001c002c303c4016104cb7ff000000000000005d4000006",
                "{\"1.5\":1,\"null\":2,\"true\":3,\"a\":4,\"Infinity\":5,\"undefined\":6}");
    assert_bad("819001");           /* an array */
    assert_bad("818001");           /* a map */
    assert_bad("81d6ff0000000001"); /* a date */
}

static void test_undefined_is_null_in_arrays_and_leaves_a_member_out(void **state)
{
    (void)state;
    assert_json("d40000", "null");
    assert_json("93d4007f01d40000", "[null,1,null]");
    assert_json("83a161d40000a16201a163d40000", "{\"b\":1}");
    assert_json("81a161d40000", "{}");
}

static void test_dates_are_iso_texts(void **state)
{
    (void)state;
    assert_json("d6ff6553f100", "\"2023-11-14T22:13:20.000Z\"");
    assert_json("d7ff1d536b006553f100", "\"2023-11-14T22:13:20.123Z\"");
    assert_json("c70cff3b8b87c0ffffffffffffffff", "\"1969-12-31T23:59:59.999Z\"");
    assert_json("c70cff000000000000000000000000", "\"1970-01-01T00:00:00.000Z\"");
    assert_json("d7000000018bcfe56800", "\"2023-11-14T22:13:20.000Z\"");
    assert_json("d70000000000000000ff", "\"1970-01-01T00:00:00.255Z\"");
    assert_json("d6ff386e2bdf", "\"2000-01-01T16:31:27.000Z\"");
    assert_json("d6ff38bb2dc0", "\"2000-02-29T02:24:00.000Z\"");
    assert_json("d700001eb208c2dc0000", "\"+275760-09-13T00:00:00.000Z\""); /* the last */
    assert_json("d700001eb208c2dc0001", "null");
    assert_json("d700ffe14df73d240000", "\"-271821-04-20T00:00:00.000Z\""); /* the first */
    assert_json("d700ffffc76e394a7400", "\"-000001-01-01T00:00:00.000Z\"");
    assert_bad("c70bff0000000000000000000000"); /* eleven bytes */
}

static void test_every_day_of_four_centuries_is_that_of_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = -73000; day < 73200; day++) {
        struct msgpack_sink in = msgpack_sink_of(bytes_of_hex, sizeof bytes_of_hex);
        struct msgpack_sink sink;
        time_t seconds = (time_t)(day * 86400 + 86399);
        char want[40];
        struct tm tm;

        msgpack_put_bytes(&in, slice_of("\xd7", 2)); /* the literal's NUL is the type */
        for (int shift = 56; shift >= 0; shift -= 8) {
            char byte = (char)((uint64_t)(seconds * 1000 + 999) >> shift);

            msgpack_put_bytes(&in, slice_of(&byte, 1));
        }
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(want, sizeof want, "\"%Y-%m-%dT%H:%M:%S.999Z\"", &tm) > 0);
        assert_int_equal(decode(msgpack_sink_slice(&in, 0), &sink), MSGPACK_OK);
        assert_slice(text.json, want);
    }
}

static void test_other_ext_is_a_pair(void **state)
{
    (void)state;
    assert_json("d4050a", "[5,{\"_placeholder\":true,\"num\":0}]");
    assert_int_equal(text.n_attachments, 1);
    assert_slice(text.attachments[0], "\n");
    assert_json(
        "92d580aabbc80001fe41",
        "[[-128,{\"_placeholder\":true,\"num\":0}],[-2,{\"_placeholder\":true,\"num\":1}]]");
    assert_json("d6000000"
                "0000",
                "[0,{\"_placeholder\":true,\"num\":0}]");
    assert_json("d8ff00112233445566778899aabbccddeeff", "[-1,{\"_placeholder\":true,\"num\":0}]");
}

static void test_binary_becomes_placeholders_in_depth_first_order(void **state)
{
    (void)state;
    assert_json(
        "93c40161a161"
        "82a162c500026262a163c702006363",
        "[{\"_placeholder\":true,\"num\":0},\"a\","
        "{\"b\":{\"_placeholder\":true,\"num\":1},\"c\":{\"_placeholder\":true,\"num\":2}}]");
    assert_int_equal(text.n_attachments, 3);
    assert_slice(text.attachments[0], "a");
    assert_slice(text.attachments[1], "bb");
    assert_slice(text.attachments[2], "cc");
    assert_json("c600000000", "{\"_placeholder\":true,\"num\":0}");
    assert_int_equal(text.attachments[0].n_bytes, 0);
}

static void test_bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    (void)state;
    assert_json("a1ff", "\"\xef\xbf\xbd\"");
    assert_json("a4f09f9861", "\"\xef\xbf\xbd"
                              "a\"");
    assert_json("a3eda080", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    assert_json("81a2c32801", "{\"\xef\xbf\xbd(\":1}");
}

static void test_lengths_beyond_the_input_are_refused(void **state)
{
    static const char *const bombs[] = { "",
                                         "c1",
                                         "ddffffffff",
                                         "df80000000",
                                         "dfffffffff01",
                                         "dcffff",
                                         "deffff",
                                         "9f",
                                         "81",
                                         "db80000000",
                                         "dbffffffff6161",
                                         "d9ff61",
                                         "c6ffffffff",
                                         "c680000000",
                                         "c9ffffffff01",
                                         "c980000000ff00",
                                         "c8ffff00",
                                         "c7ff",
                                         "cb00",
                                         "d8",
                                         "d60000",
                                         "ce",
                                         "a261" };

    (void)state;
    for (uint32_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        struct slice bytes = unhex(bombs[i]);

        assert_bad(bombs[i]);
        assert_false(msgpack_skip(&bytes));
    }
}

static void test_a_head_that_announces_more_than_is_left_is_refused_at_once(void **state)
{
    static const char *const more[] = { "9201", "dc000201", "dd0000000201", "8201c001",
                                        "de00010a" };

    (void)state;
    for (uint32_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        struct slice bytes = unhex(more[i]);
        struct msgpack_value value;

        assert_false(msgpack_read(&bytes, &value));
    }
}

static void test_nested_length_bombs_cost_no_more_than_their_bytes(void **state)
{
    struct msgpack_sink sink;
    struct slice bytes;
    clock_t begin = clock();

    (void)state;
    /* a million heads, each of which announces all the bytes that are left */
    for (uint32_t i = 0; i + 5 <= BYTES_MAX; i += 5) {
        uint32_t left = BYTES_MAX - i - 5;
        char head[5] = { (char)0xdd, (char)(left >> 24), (char)(left >> 16), (char)(left >> 8),
                         (char)left };

        memcpy(bytes_of_hex + i, head, 5);
    }
    bytes = slice_of(bytes_of_hex, BYTES_MAX);
    assert_int_equal(decode(bytes, &sink), MSGPACK_BAD);
    assert_false(msgpack_skip(&bytes));
    assert_true(clock() - begin < CLOCKS_PER_SEC);
}

static struct slice nested(uint32_t depth, const char *inner_hex)
{
    struct slice inner = unhex(inner_hex);
    static char bytes[256];

    memset(bytes, 0x91, depth);
    memcpy(bytes + depth, inner.bytes, inner.n_bytes);
    return slice_of(bytes, depth + inner.n_bytes);
}

static void test_depth_is_that_of_the_json_text(void **state)
{
    struct msgpack_sink sink;
    struct slice bytes;

    (void)state;
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX, "01"), &sink), MSGPACK_OK);
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX + 1, "01"), &sink), MSGPACK_BAD);
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX - 1, "c400"), &sink), MSGPACK_OK);
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX, "c400"), &sink), MSGPACK_BAD);
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX - 2, "d40500"), &sink), MSGPACK_OK);
    assert_int_equal(decode(nested(MSGPACK_DEPTH_MAX - 1, "d40500"), &sink), MSGPACK_BAD);
    bytes = nested(MSGPACK_DEPTH_MAX, "01");
    assert_true(msgpack_skip(&bytes));
    assert_int_equal(bytes.n_bytes, 0);
    bytes = nested(MSGPACK_DEPTH_MAX + 1, "01");
    assert_false(msgpack_skip(&bytes));
}

static void test_attachments_are_bounded(void **state)
{
    struct msgpack_sink sink;

    (void)state;
    for (uint32_t n = MSGPACK_ATTACHMENTS_MAX; n <= MSGPACK_ATTACHMENTS_MAX + 1; n++) {
        struct msgpack_sink in = msgpack_sink_of(bytes_of_hex, sizeof bytes_of_hex);

        msgpack_put_array(&in, n);
        for (uint32_t i = 0; i < n; i++)
            msgpack_put_binary(&in, slice_text("x"));
        assert_int_equal(decode(msgpack_sink_slice(&in, 0), &sink),
                         n == MSGPACK_ATTACHMENTS_MAX ? MSGPACK_OK : MSGPACK_BAD);
    }
}

static const char everything[] =
    "dc0010010203a161d90162cb3ff8000000000000c40161d6ff6553f100d4000083a161c0a16291c2a163d4000080"
    "da0003626364cd0100d18000c702006162d4050a";

static void test_any_cut_is_refused(void **state)
{
    struct slice whole = unhex(everything);
    struct msgpack_sink sink;

    (void)state;
    assert_int_equal(decode(whole, &sink), MSGPACK_OK);
    for (uint32_t n = 0; n < whole.n_bytes; n++) {
        char *copy =
            malloc(n > 0 ? n : 1); /* so that the address sanitizer sees one byte too many */
        struct slice cut = slice_of(copy, n);

        assert_non_null(copy);
        memcpy(copy, whole.bytes, n);
        assert_int_equal(decode(cut, &sink), MSGPACK_BAD);
        assert_false(msgpack_skip(&cut));
        free(copy);
    }
}

static void test_any_short_sink_is_too_big_and_left_alone(void **state)
{
    struct slice whole = unhex(everything);
    struct msgpack_sink sink;
    uint32_t n_all;

    (void)state;
    assert_int_equal(decode(whole, &sink), MSGPACK_OK);
    n_all = sink.n_bytes;
    for (uint32_t n = 0; n <= n_all; n++) {
        struct slice rest = whole;
        char *out = malloc(n + 3);

        assert_non_null(out);
        sink = msgpack_sink_of(out, n + 3);
        msgpack_put_text(&sink, "abc");
        assert_int_equal(msgpack_to_json(&rest, &sink, &text),
                         n == n_all ? MSGPACK_OK : MSGPACK_TOO_BIG);
        assert_int_equal(sink.n_bytes, n == n_all ? n + 3 : 3);
        assert_memory_equal(out, "abc", 3);
        free(out);
    }
}

static void test_numbers_take_the_forms_of_notepack(void **state)
{
    (void)state;
    assert_encodes("0", "00");
    assert_encodes("-0", "00");
    assert_encodes("-0.0", "00");
    assert_encodes("1.0", "01");
    assert_encodes("1e2", "64");
    assert_encodes("127", "7f");
    assert_encodes("128", "cc80");
    assert_encodes("255", "ccff");
    assert_encodes("256", "cd0100");
    assert_encodes("65536", "ce00010000");
    assert_encodes("4294967295", "ceffffffff");
    assert_encodes("4294967296", "cf0000000100000000");
    assert_encodes("9007199254740992", "cf0020000000000000");
    assert_encodes("9007199254740994", "cb4340000000000001"); /* where notepack ends to be right */
    assert_encodes("18446744073709551616", "cb43f0000000000000");
    assert_encodes("1e400", "cb7ff0000000000000");
    assert_encodes("-1e400", "cbfff0000000000000");
    assert_encodes("1.5", "cb3ff8000000000000");
    assert_encodes("-32", "e0");
    assert_encodes("-33", "d0df");
    assert_encodes("-128", "d080");
    assert_encodes("-129", "d1ff7f");
    assert_encodes("-32769", "d2ffff7fff");
    assert_encodes("-2147483648", "d280000000");
    assert_encodes("-2147483649", "d3ffffffff7fffffff");
    assert_encodes("-9007199254740992", "d3ffe0000000000000");
    assert_encodes("-9007199254740994", "cbc340000000000001");
}

static void test_strings_are_unescaped(void **state)
{
    (void)state;
    assert_encodes("\"\"", "a0");
    assert_encodes("\"h\xc3\xa9\"", "a368c3a9");
    assert_encodes("\"\\u0068\\n\\\"\"", "a3680a22");
    assert_encodes("\"\\ud83d\\ude00\"", "a4f09f9880");
    assert_encodes("\"\\ud83d\"", "a3efbfbd");
    assert_encodes("\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
                   "bf78787878787878787878787878787878787878787878787878787878787878");
    assert_encodes("\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
                   "d9207878787878787878787878787878787878787878787878787878787878787878");
}

static void test_long_containers_get_long_heads(void **state)
{
    static const uint32_t lengths[] = { 15, 16, 65535, 65536 };
    static const char *const heads[] = { "9f", "dc0010", "dcffff", "dd00010000" };
    static char json[200000];

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        struct msgpack_text from = { .json = { json, 2 * lengths[i] + 3 } };
        struct slice head = unhex(heads[i]);
        struct msgpack_sink sink;

        json[0] = json[1] = '['; /* an array within, so that the outer one is moved with it */
        memset(json + 2, '7', 2 * lengths[i]);
        for (uint32_t k = 0; k < lengths[i] - 1; k++)
            json[3 + 2 * k] = ',';
        json[2 * lengths[i] + 1] = json[2 * lengths[i] + 2] = ']';
        assert_int_equal(encode(&from, &sink), MSGPACK_OK);
        assert_int_equal((uint8_t)sink.bytes[0], 0x91);
        assert_memory_equal(sink.bytes + 1, head.bytes, head.n_bytes);
        assert_int_equal(sink.n_bytes, 1 + head.n_bytes + lengths[i]);
        for (uint32_t k = 1 + head.n_bytes; k < sink.n_bytes; k++)
            assert_int_equal(sink.bytes[k], 7);
    }
}

static void test_keys_take_the_order_of_javascript(void **state)
{
    (void)state;
    assert_encodes(" { \"b\" : 1 , \"a\" : [ ] } ", "82a16201a16190");
    assert_encodes("{\"2\":1,\"1\":2,\"x\":3}", "83a13102a13201a17803");
    assert_encodes("{\"x\":3,\"10\":1,\"9\":2}", "83a13902a2313001a17803");
    assert_encodes("{\"x\":1,\"01\":2,\"-1\":3,\"1.5\":4}", "84a17801a2303102a22d3103a3312e3504");
    assert_encodes("{\"4294967295\":1,\"4294967294\":2}",
                   "82aa3432393439363732393402aa3432393439363732393501");
    assert_encodes("{\"a\":1,\"b\":2,\"a\":3}", "82a16103a16202");
    assert_encodes("{\"a\":1,\"\\u0061\":3}", "81a16103");
    assert_encodes("{\"1\":1,\"1\":2}", "81a13102");
    assert_encodes("{\"a\":{\"b\":1,\"b\":[1,2]},\"1\":0,\"a\":{\"2\":0,\"1\":{\"0\":1}}}",
                   "82a13100a16182a13181a13001a13200");
    assert_encodes(
        "{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"d\":9}",
        "89a16100a16200a16300a16409a16500a16600a16700a16800a16900");
}

static void test_many_keys_cost_no_square(void **state)
{
    struct msgpack_text from;
    struct msgpack_sink json = msgpack_sink_of(bytes_of_hex, sizeof bytes_of_hex);
    struct msgpack_sink sink;
    clock_t begin = clock();
    uint32_t n = 0;

    (void)state;
    msgpack_put_text(&json, "{");
    for (; json.n_bytes + 20 < 200000; n++) {
        char member[20] = "\"k0000000\":1,";

        for (uint32_t i = 0, rest = n * 7919 % 10000000; i < 7; i++, rest /= 10)
            member[8 - i] = (char)('0' + rest % 10);
        msgpack_put_text(&json, member);
    }
    msgpack_put_text(&json, "\"k0000000\":2}");
    from = (struct msgpack_text){ .json = msgpack_sink_slice(&json, 0) };
    assert_int_equal(encode(&from, &sink), MSGPACK_OK);
    assert_int_equal(sink.n_bytes, 3 + n * 10);
    assert_int_equal(sink.bytes[3 + 9], 2);
    assert_true(clock() - begin < CLOCKS_PER_SEC);
}

static void assert_with_attachments(const char *json, const char *hex)
{
    struct msgpack_text from = { .json = slice_text(json),
                                 .n_attachments = 2,
                                 .attachments = { { "ab", 2 }, { "", 0 } } };
    struct msgpack_sink sink;

    if (hex == NULL) {
        assert_int_equal(encode(&from, &sink), MSGPACK_BAD);
        return;
    }
    assert_int_equal(encode(&from, &sink), MSGPACK_OK);
    assert_true(slice_equal(msgpack_sink_slice(&sink, 0), unhex(hex)));
}

static void test_placeholders_become_binary(void **state)
{
    (void)state;
    assert_with_attachments("[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
                            "92c4026162c400");
    assert_with_attachments("{\"a\":{\"num\":1.0,\"x\":[1],\"_placeholder\":true},\"1\":0}",
                            "82a13100a161c400");
    assert_with_attachments("[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]",
                            "92c4026162c4026162");
    assert_with_attachments("{\"_placeholder\":false,\"num\":9}",
                            "82ac5f706c616365686f6c646572c2a36e756d09");
    assert_with_attachments("{\"_placeholder\":true,\"_placeholder\":1}",
                            "81ac5f706c616365686f6c64657201");
    assert_with_attachments("{\"_placeholder\":1,\"num\":5,\"num\":1,\"_placeholder\":true}",
                            "c400");
    assert_with_attachments("{\"_placeholder\":true,\"num\":0.5}", "c0"); /* undefined */
    assert_with_attachments("{\"_placeholder\":true,\"num\":2}", NULL);
    assert_with_attachments("{\"_placeholder\":true,\"num\":-1}", NULL);
    assert_with_attachments("{\"_placeholder\":true,\"num\":\"0\"}", NULL);
    assert_with_attachments("{\"_placeholder\":true}", NULL);
    assert_encodes("{\"_placeholder\":true,\"num\":0}", "82ac5f706c616365686f6c646572c3a36e756d00");
}

static void test_what_is_not_one_json_value_is_refused(void **state)
{
    static const char *const bad[] = { "",    "[",        "[1,]", "{\"a\"}", "1 2",
                                       "nul", "\"\xff\"", "[1]]", "{1:2}",   "'a'" };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct msgpack_text from = { .json = slice_text(bad[i]) };
        struct msgpack_sink sink;

        assert_int_equal(encode(&from, &sink), MSGPACK_BAD);
    }
}

static void test_any_short_sink_or_scratch_of_the_encoder_is_too_big(void **state)
{
    static const char json[] =
        "[\"abc\",{\"b\":[1,2,300],\"a\":{\"_placeholder\":true,\"num\":0},\"1\":null,\"b\":1.5},"
        "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"\\u00e9\"]";
    struct msgpack_text from = { .json = slice_text(json),
                                 .n_attachments = 1,
                                 .attachments = { { "xyz", 3 } } };
    struct msgpack_sink whole;
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, 4 * sizeof json + 3);

    (void)state;
    assert_int_equal(encode(&from, &whole), MSGPACK_OK);
    for (uint32_t n = 0; n <= whole.n_bytes; n++) {
        char *out = malloc(n > 0 ? n : 1);
        struct msgpack_sink sink = msgpack_sink_of(out, n);
        enum msgpack_result result;

        assert_non_null(out);
        result = msgpack_put_json(&sink, &from, &scratch);
        /* a member that is dropped later needs its room for a while */
        if (n < whole.n_bytes)
            assert_int_equal(result, MSGPACK_TOO_BIG);
        assert_int_equal(scratch.n_bytes, 0);
        free(out);
    }
    for (uint32_t n = 0; n < 4 * sizeof json; n++) {
        struct msgpack_sink sink = msgpack_sink_of(out_bytes, sizeof out_bytes);
        struct msgpack_sink less = msgpack_sink_of(scratch_bytes, n);
        enum msgpack_result result = msgpack_put_json(&sink, &from, &less);

        assert_true(result == MSGPACK_TOO_BIG || result == MSGPACK_OK);
        assert_true(n > 0 || result == MSGPACK_TOO_BIG);
        assert_false(less.too_big);
    }
}

static void test_a_sink_never_takes_half_a_thing(void **state)
{
    char room[8];
    struct msgpack_sink sink = msgpack_sink_of(room, sizeof room);

    (void)state;
    msgpack_put_text(&sink, "abcde");
    msgpack_put_json_string(&sink, slice_text("\n")); /* four bytes */
    assert_true(sink.too_big);
    assert_int_equal(sink.n_bytes, 5);
    msgpack_put_text(&sink, "f"); /* would fit, but something before it is missing */
    assert_int_equal(sink.n_bytes, 5);
    sink = msgpack_sink_of(room, sizeof room);
    msgpack_put_text(&sink, "abcde");
    msgpack_put_json_string(&sink, slice_text("f"));
    assert_false(sink.too_big);
    assert_slice(msgpack_sink_slice(&sink, 0), "abcde\"f\"");
    assert_null(msgpack_sink_reserve(&sink, 1));
    sink = msgpack_sink_of(room, sizeof room);
    assert_null(msgpack_sink_reserve(&sink, UINT64_MAX));
    assert_true(sink.too_big);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_scalar_form_is_read),
        cmocka_unit_test(test_containers_keep_their_order),
        cmocka_unit_test(test_keys_that_are_no_strings_become_their_text),
        cmocka_unit_test(test_undefined_is_null_in_arrays_and_leaves_a_member_out),
        cmocka_unit_test(test_dates_are_iso_texts),
        cmocka_unit_test(test_every_day_of_four_centuries_is_that_of_the_c_library),
        cmocka_unit_test(test_other_ext_is_a_pair),
        cmocka_unit_test(test_binary_becomes_placeholders_in_depth_first_order),
        cmocka_unit_test(test_bytes_that_are_no_utf8_become_replacement_characters),
        cmocka_unit_test(test_lengths_beyond_the_input_are_refused),
        cmocka_unit_test(test_a_head_that_announces_more_than_is_left_is_refused_at_once),
        cmocka_unit_test(test_nested_length_bombs_cost_no_more_than_their_bytes),
        cmocka_unit_test(test_depth_is_that_of_the_json_text),
        cmocka_unit_test(test_attachments_are_bounded),
        cmocka_unit_test(test_any_cut_is_refused),
        cmocka_unit_test(test_any_short_sink_is_too_big_and_left_alone),
        cmocka_unit_test(test_numbers_take_the_forms_of_notepack),
        cmocka_unit_test(test_strings_are_unescaped),
        cmocka_unit_test(test_long_containers_get_long_heads),
        cmocka_unit_test(test_keys_take_the_order_of_javascript),
        cmocka_unit_test(test_many_keys_cost_no_square),
        cmocka_unit_test(test_placeholders_become_binary),
        cmocka_unit_test(test_what_is_not_one_json_value_is_refused),
        cmocka_unit_test(test_any_short_sink_or_scratch_of_the_encoder_is_too_big),
        cmocka_unit_test(test_a_sink_never_takes_half_a_thing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
