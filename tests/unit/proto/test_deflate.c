/* test_deflate.c: messages compressed come back the same, whatever is put into them later; and what clients send is decompressed within bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "proto/deflate.h"

#define TEXT_MAX 300000u

static struct deflater *deflater;
static struct inflater *inflater;
static uint8_t out[TEXT_MAX];
static char text[TEXT_MAX];

static int make_streams(void **state)
{
    (void)state;
    deflater = deflater_new(1, 8);
    inflater = inflater_new();
    return deflater == NULL || inflater == NULL;
}

static int free_streams(void **state)
{
    (void)state;
    deflater_free(deflater);
    deflater_free(NULL);
    inflater_free(inflater);
    inflater_free(NULL);
    return 0;
}

static struct slice json(uint32_t n_bytes)
{
    uint32_t n = 0;

    while (n < n_bytes)
        n += (uint32_t)snprintf(text + n, TEXT_MAX - n, "{\"id\":%u,\"name\":\"player %u\"},", n,
                                n * 7919);
    return slice_of(text, n_bytes);
}

static void comes_back(const uint8_t *packed, uint32_t n, struct slice plain)
{
    struct slice back;

    assert_int_equal(inflater_take(inflater, slice_of(packed, n), plain.n_bytes, &back),
                     INFLATE_OK);
    assert_int_equal(back.n_bytes, plain.n_bytes);
    assert_memory_equal(back.bytes, plain.bytes, plain.n_bytes);
}

static void take_hex(const char *hex, enum inflate_result expected, const char *plain)
{
    uint8_t bytes[64];
    uint32_t n = 0;
    struct slice back;

    for (const char *at = hex; *at != '\0'; at += at[2] == ' ' ? 3 : 2)
        bytes[n++] = (uint8_t)strtoul((char[]){ at[0], at[1], '\0' }, NULL, 16);
    assert_int_equal(inflater_take(inflater, slice_of(bytes, n), 64, &back), expected);
    if (expected == INFLATE_OK)
        assert_true(slice_is(back, plain));
}

static void test_a_message_comes_back_as_it_was(void **state)
{
    static const uint32_t sizes[] = { 0, 1, 2, 100, 1024, 4095, 4096, 65535, 65536, 250000 };

    (void)state;
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct slice plain = json(sizes[i]);
        uint32_t n = deflater_pack(deflater, plain, out, sizeof out);

        assert_true(n > 0);
        if (plain.n_bytes > 200)
            assert_true(n < plain.n_bytes);
        comes_back(out, n, plain);
    }
}

static void test_the_empty_message_is_one_byte(void **state)
{
    (void)state;
    assert_int_equal(deflater_pack(deflater, slice_text(""), out, sizeof out), 1);
    assert_int_equal(out[0], 0);
}

static void test_no_message_refers_to_one_before_it(void **state)
{
    static uint8_t again[TEXT_MAX];
    uint32_t first = deflater_pack(deflater, json(5000), out, sizeof out);

    (void)state;
    assert_true(deflater_pack(deflater, json(90000), again, sizeof again) > 0);
    assert_int_equal(deflater_pack(deflater, json(5000), again, sizeof again), first);
    assert_memory_equal(again, out, first);
}

static void test_what_does_not_fit_is_told_and_harms_nothing(void **state)
{
    struct slice plain = json(3000);
    uint32_t n = deflater_pack(deflater, plain, out, sizeof out);
    uint32_t stored_at;

    (void)state;
    assert_int_equal(deflater_pack(deflater, plain, out, n), 0);
    for (uint32_t room = 0; room < 64; room++) {
        assert_int_equal(deflater_pack(deflater, plain, out, room), 0);
        assert_int_equal(deflater_pack_open(deflater, plain, 36, out, room, &stored_at), 0);
    }
    assert_int_equal(deflater_pack(deflater, plain, out, n + 5), n);
    comes_back(out, n, plain);
}

static void test_the_end_can_be_written_later(void **state)
{
    static const uint32_t sizes[] = { 0, 1, 500, 70000 };
    static const uint32_t stored[] = { 1, 36, 255, 256, 65535 };

    (void)state;
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t j = 0; j < sizeof stored / sizeof stored[0]; j++) {
            struct slice plain = json(sizes[i]);
            uint32_t at;
            uint32_t n = deflater_pack_open(deflater, plain, stored[j], out, sizeof out, &at);

            assert_true(n > 0);
            assert_int_equal(n, at + stored[j] + 1);
            for (uint32_t round = 0; round < 2; round++) { /* changed in place */
                memset(out + at, 'a' + (int)round, stored[j]);
                memset(text + sizes[i], 'a' + (int)round, stored[j]);
                comes_back(out, n, slice_of(text, sizes[i] + stored[j]));
            }
        }
    }
}

static void test_an_open_end_costs_no_more_than_it_says(void **state)
{
    uint32_t at;

    (void)state;
    assert_true(deflater_pack_open(deflater, json(1000), 36, out, sizeof out, &at) <=
                deflater_pack(deflater, json(1000), out, sizeof out) + 36 + DEFLATE_STORED_BYTES);
}

/* RFC 7692 section 7.2.3. */
static void test_the_examples_of_the_rfc(void **state)
{
    (void)state;
    take_hex("f2 48 cd c9 c9 07 00", INFLATE_OK, "Hello");
    take_hex("00 05 00 fa ff 48 65 6c 6c 6f 00", INFLATE_OK, "Hello");
    take_hex("f3 48 cd c9 c9 07 00 00", INFLATE_OK, "Hello");                /* BFINAL */
    take_hex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", INFLATE_OK, "Hello"); /* two blocks */
    take_hex("00", INFLATE_OK, "");
}

static void test_forms_that_other_receivers_take_as_well(void **state)
{
    (void)state;
    take_hex("", INFLATE_OK, "");
    take_hex("f3 48 cd c9 c9 07 00", INFLATE_OK, "Hello"); /* BFINAL and nothing behind it */
    take_hex("01 05 00 fa ff 48 65 6c 6c 6f", INFLATE_OK, "Hello");
    /* a block behind a final one */
    take_hex("01 05 00 fa ff 48 65 6c 6c 6f 00 05 00 fa ff 48 65 6c 6c 6f 00", INFLATE_OK,
             "HelloHello");
    take_hex("03 00 03 00 f2 48 cd c9 c9 07 00", INFLATE_OK, "Hello");
}

static void test_what_is_no_deflate_data_is_corrupt(void **state)
{
    (void)state;
    take_hex("07", INFLATE_CORRUPT, NULL); /* BTYPE 11 */
    take_hex("ff ff ff", INFLATE_CORRUPT, NULL);
    take_hex("00 05 00 fa fe 48 65 6c 6c 6f 00", INFLATE_CORRUPT, NULL); /* NLEN */
    take_hex("00 05 00 fa ff 48 65", INFLATE_CORRUPT, NULL);             /* cut off */
    take_hex("f2 48 cd c9 c9", INFLATE_CORRUPT, NULL);
    take_hex("01 05 00 fa ff 48 65 6c 6c 6f 07", INFLATE_CORRUPT, NULL); /* behind the final one */
    take_hex("02 03 01", INFLATE_CORRUPT, NULL);           /* a distance that goes too far back */
    take_hex("f2 48 cd c9 c9 07 00", INFLATE_OK, "Hello"); /* none of it stays behind */
}

static void test_a_bomb_is_stopped_at_the_limit(void **state)
{
    static char zeros[TEXT_MAX];
    struct slice back;
    uint32_t n = deflater_pack(deflater, slice_of(zeros, TEXT_MAX), out, sizeof out);

    (void)state;
    assert_true(n > 0 && n < TEXT_MAX / 100);
    assert_int_equal(inflater_take(inflater, slice_of(out, n), TEXT_MAX, &back), INFLATE_OK);
    assert_int_equal(back.n_bytes, TEXT_MAX);
    assert_int_equal(inflater_take(inflater, slice_of(out, n), TEXT_MAX - 1, &back),
                     INFLATE_TOO_BIG);
    assert_int_equal(inflater_take(inflater, slice_of(out, n), 64, &back), INFLATE_TOO_BIG);
    assert_int_equal(inflater_take(inflater, slice_of(out, n), 0, &back), INFLATE_TOO_BIG);
    inflater_forget(inflater);
    assert_int_equal(inflater_take(inflater, slice_of(out, n), 4096, &back), INFLATE_TOO_BIG);
}

/* One that ends, to the byte, at the limit in a final block; and one byte more. */
static void test_the_limit_is_exact_in_a_final_block(void **state)
{
    uint8_t stored[5 + 100] = { 0x01, 100, 0, (uint8_t)~100, 0xff };
    struct slice back;

    (void)state;
    assert_int_equal(inflater_take(inflater, slice_of(stored, sizeof stored), 100, &back),
                     INFLATE_OK);
    assert_int_equal(back.n_bytes, 100);
    assert_int_equal(inflater_take(inflater, slice_of(stored, sizeof stored), 99, &back),
                     INFLATE_TOO_BIG);
}

static void test_every_cut_and_every_changed_byte_is_survived(void **state)
{
    uint32_t n = deflater_pack(deflater, json(600), out, sizeof out);
    struct slice back;

    (void)state;
    for (uint32_t cut = 1; cut < n; cut++)
        assert_true(inflater_take(inflater, slice_of(out, cut), TEXT_MAX, &back) !=
                    INFLATE_NO_MEMORY);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            out[i] ^= (uint8_t)(1u << bit);
            (void)!inflater_take(inflater, slice_of(out, n), 1000, &back);
            assert_true(back.n_bytes <= 1000);
            out[i] ^= (uint8_t)(1u << bit);
        }
    }
    comes_back(out, n, json(600));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_comes_back_as_it_was),
        cmocka_unit_test(test_the_empty_message_is_one_byte),
        cmocka_unit_test(test_no_message_refers_to_one_before_it),
        cmocka_unit_test(test_what_does_not_fit_is_told_and_harms_nothing),
        cmocka_unit_test(test_the_end_can_be_written_later),
        cmocka_unit_test(test_an_open_end_costs_no_more_than_it_says),
        cmocka_unit_test(test_the_examples_of_the_rfc),
        cmocka_unit_test(test_forms_that_other_receivers_take_as_well),
        cmocka_unit_test(test_what_is_no_deflate_data_is_corrupt),
        cmocka_unit_test(test_a_bomb_is_stopped_at_the_limit),
        cmocka_unit_test(test_the_limit_is_exact_in_a_final_block),
        cmocka_unit_test(test_every_cut_and_every_changed_byte_is_survived),
    };

    return cmocka_run_group_tests(tests, make_streams, free_streams);
}
