/* test_packer.c: which messages get a compressed copy, what is in it, and what it may cost. */
#include "lib/shm_fixture.h"

#include "session/packer.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define THRESHOLD  200u
#define RING_BYTES (1u << 20)

static struct shm_fixture fixture;
static struct ring ring;
static struct packer packer;
static struct shm_counters *row;
static struct inflater *inflater;
static uint32_t nsp;
static char text[2u << 20];
static struct record_part parts[RECORD_PARTS_MAX];

static int setup(void **state)
{
    struct config *c;

    (void)state;
    shm_fixture_init(&fixture, 2, RING_BYTES);
    c = (struct config *)(uintptr_t)fixture.master.config;
    c->deflate = true;
    c->deflate_threshold_bytes = THRESHOLD;
    if (!namespace_reserve(&fixture.master, slice_text("/"), UINT16_MAX))
        return 1;
    nsp = namespace_find(&fixture.master, slice_text("/"));
    namespace_use(&fixture.views[1], nsp);
    namespace_add_deflaters(&fixture.views[1], nsp, 1);
    ring_open(&ring, &fixture.views[0]);
    row = &fixture.views[0].counters[0];
    inflater = inflater_new();
    return inflater == NULL || !packer_open(&packer, &ring, row);
}

static int teardown(void **state)
{
    (void)state;
    packer_close(&packer);
    inflater_free(inflater);
    shm_fixture_destroy(&fixture);
    return 0;
}

/* An event of `n` bytes in all. */
static struct slice event(uint32_t n)
{
    uint32_t at = (uint32_t)sprintf(text, "42[\"e\",\"");

    for (; at < n - 2; at++)
        text[at] = (char)('a' + at % 23);
    text[n - 2] = '"';
    text[n - 1] = ']';
    return slice_of(text, n);
}

static struct record_spec broadcast(uint32_t n)
{
    parts[0] = (struct record_part){ event(n), WS_TEXT };
    return (struct record_spec){ .header = { .kind = RECORD_BROADCAST },
                                 .nsp = slice_text("/"),
                                 .parts = parts,
                                 .n_parts = 1,
                                 .event_at = 2 };
}

static bool packs(struct record_spec spec)
{
    packer_pack(&packer, &spec);
    return spec.deflated.bytes != NULL;
}

/* Frame by frame, the copy says what the frames say. */
static void says_the_same(const struct record_view *v, const char *rsv)
{
    const uint8_t *at = (const uint8_t *)v->deflated.bytes;

    for (uint32_t i = 0; i < v->header->n_parts; i++) {
        uint8_t opcode;
        struct slice expected = record_part(v, i, &opcode);
        struct slice got;
        uint32_t n_head = at[1] <= 125 ? 2 : at[1] == 126 ? 4 : 10;
        uint32_t n = n_head == 2 ? at[1] : 0;

        for (uint32_t k = 2; k < n_head; k++)
            n = n << 8 | at[k];
        assert_int_equal(at[0], 0x80 | opcode | (rsv[i] == '1' ? WS_RSV1 : 0));
        got = slice_of(at + n_head, n);
        if (rsv[i] == '1')
            assert_int_equal(inflater_take(inflater, got, 4u << 20, &got), INFLATE_OK);
        assert_int_equal(got.n_bytes, expected.n_bytes);
        assert_memory_equal(got.bytes, expected.bytes, expected.n_bytes);
        at += n_head + n;
    }
    assert_ptr_equal(at, v->deflated.bytes + v->deflated.n_bytes);
}

static void check_record(struct record_spec *spec, const char *rsv)
{
    uint32_t n_bytes = record_size(spec);
    uint8_t *record = malloc(n_bytes);
    struct record_view view;

    assert_non_null(record);
    record_write(record, spec, fixture.master.header->hash_key);
    for (uint64_t position = 5; position < 1ull << 50; position <<= 20) {
        record_stamp(record, position);
        assert_true(record_view(&view, record, n_bytes));
        assert_true(view.deflated.n_bytes < view.frames.n_bytes);
        says_the_same(&view, rsv);
    }
    free(record);
}

static void test_the_copy_says_the_same_with_and_without_an_offset(void **state)
{
    static const uint32_t sizes[] = { THRESHOLD, 201,   253,   254,   255,    1000,  1024,
                                      65500,     65535, 65536, 65600, 100000, 200000 };

    (void)state;
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t with_offset = 0; with_offset < 2; with_offset++) {
            struct record_spec spec = broadcast(sizes[i]);

            packer.left_us = DEFLATE_BURST_US;
            if (with_offset == 1)
                record_ask_offset(&spec, 77);
            packer_pack(&packer, &spec);
            assert_non_null(spec.deflated.bytes);
            check_record(&spec, "1");
        }
    }
}

static void test_each_frame_is_compressed_or_not_by_its_own_length(void **state)
{
    static char zeros[5000];

    (void)state;
    for (uint32_t with_offset = 0; with_offset < 2; with_offset++) {
        struct record_spec spec = broadcast(100);

        parts[1] = (struct record_part){ slice_of(zeros, 5000), WS_BINARY };
        parts[2] = (struct record_part){ slice_of(zeros, THRESHOLD - 1), WS_BINARY };
        parts[3] = (struct record_part){ slice_of(NULL, 0), WS_BINARY };
        parts[4] = (struct record_part){ slice_of(zeros, THRESHOLD), WS_BINARY };
        spec.n_parts = 5;
        if (with_offset == 1)
            record_ask_offset(&spec, 77);
        packer_pack(&packer, &spec);
        check_record(&spec, "01001");
    }
}

static void test_what_is_not_to_be_compressed_is_not(void **state)
{
    struct record_spec spec;

    (void)state;
    assert_true(packs(broadcast(THRESHOLD)));
    assert_false(packs(broadcast(THRESHOLD - 1)));
    spec = broadcast(1000);
    spec.header.flags = RECORD_NO_COMPRESS;
    assert_false(packs(spec));
    spec = broadcast(1000);
    spec.header.kind = RECORD_SERVER_EMIT;
    assert_false(packs(spec));
    spec = broadcast(1000);
    spec.nsp = slice_text("/unknown");
    assert_false(packs(spec));
    namespace_add_deflaters(&fixture.views[1], nsp, -1);
    assert_false(packs(broadcast(1000)));
    namespace_add_deflaters(&fixture.views[1], nsp, 1);
    assert_true(packs(broadcast(1000)));
    assert_int_equal(row->counters[COUNT_DEFLATE_COPIES], 2);
    for (uint32_t i = 0; i < DEFLATE_SKIPS; i++)
        assert_int_equal(row->counters[COUNT_DEFLATE_SKIPPED_FIRST + i], 0);
}

static void test_off_it_does_nothing_and_holds_nothing(void **state)
{
    struct packer off = { .ring = NULL };
    struct record_spec spec = broadcast(1000);

    (void)state;
    packer_pack(&off, &spec);
    assert_null(spec.deflated.bytes);
    ((struct config *)(uintptr_t)fixture.master.config)->deflate = false;
    assert_true(packer_open(&off, &ring, row));
    packer_pack(&off, &spec);
    assert_null(spec.deflated.bytes);
    assert_null(off.deflater);
    packer_close(&off);
}

static uint64_t skipped(enum deflate_skip reason)
{
    return row->counters[COUNT_DEFLATE_SKIPPED_FIRST + reason];
}

static void test_a_copy_that_is_no_smaller_is_not_kept(void **state)
{
    static uint8_t noise[3000];
    struct record_spec spec = broadcast(300);
    uint32_t x = 1;

    (void)state;
    for (uint32_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    parts[0] = (struct record_part){ slice_of(noise, sizeof noise), WS_BINARY };
    spec.header.encoding = ENCODING_WS_BINARY;
    assert_false(packs(spec));
    assert_int_equal(skipped(DEFLATE_SKIP_NO_GAIN), 1);
}

static void test_a_record_goes_without_a_copy_that_does_not_fit(void **state)
{
    uint32_t most = ring_record_bytes_max(&ring);
    struct record_spec spec = broadcast(most - 400);
    uint64_t at;

    (void)state;
    assert_false(packs(spec)); /* compressed it takes 2 KB, and only 400 bytes are left */
    assert_int_equal(skipped(DEFLATE_SKIP_TOO_BIG), 1);
    assert_int_equal(ring_reserve(&ring, record_size(&spec), &at), RING_OK);
    assert_true(packs(broadcast(most - 20000)));
}

static void test_a_message_that_would_take_too_long_is_not_begun(void **state)
{
    (void)state;
    assert_false(packs(broadcast(DEFLATE_BYTES_MAX + 1)));
    assert_int_equal(skipped(DEFLATE_SKIP_TOO_BIG), 1);
    assert_int_equal(row->counters[COUNT_DEFLATE_US], 0);
    assert_int_equal(packer.room, 0);
}

static void test_the_budget_ends_and_comes_back(void **state)
{
    (void)state;
    packer.filled_us = clock_us();
    packer.left_us = -1000000; /* more than is earned while the test runs */
    assert_false(packs(broadcast(1000)));
    assert_int_equal(skipped(DEFLATE_SKIP_BUDGET), 1);
    packer.filled_us -= DEFLATE_BURST_US * (1000000 / DEFLATE_PER_SECOND_US); /* an idle while */
    assert_true(packs(broadcast(1000)));
    assert_in_range(packer.left_us, 0, DEFLATE_BURST_US);
    assert_true(row->counters[COUNT_DEFLATE_COPIES] == 1);
}

static void test_what_is_earned_in_small_pieces_is_earned(void **state)
{
    const uint64_t for_each = 1000000 / DEFLATE_PER_SECOND_US;
    uint64_t now = packer.filled_us;

    (void)state;
    packer.left_us = 0;
    for (uint32_t i = 0; i < 1000; i++)
        refill(&packer, now += 1);
    assert_int_equal(packer.left_us, 1000 / for_each);
    refill(&packer, now += 3600ull * 1000000);
    assert_int_equal(packer.left_us, DEFLATE_BURST_US);
    refill(&packer, now);
    assert_int_equal(packer.left_us, DEFLATE_BURST_US);
}

static void test_many_parts_fit_the_scratch_memory_to_the_byte(void **state)
{
    static char one[THRESHOLD + 1];
    struct record_spec spec = broadcast(THRESHOLD);

    (void)state;
    for (uint32_t i = 0; i < sizeof one; i++)
        one[i] = (char)(i * 7919 >> 3);
    for (uint32_t i = 1; i < RECORD_PARTS_MAX; i++)
        parts[i] = (struct record_part){ slice_of(one, i % 3 == 0 ? 1 : sizeof one), WS_BINARY };
    spec.n_parts = RECORD_PARTS_MAX;
    packer_pack(&packer, &spec);
    assert_true(packer.room >= frames_bytes(&spec));
}

int main(void)
{
#define IN_A_REGION(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_A_REGION(test_the_copy_says_the_same_with_and_without_an_offset),
        IN_A_REGION(test_each_frame_is_compressed_or_not_by_its_own_length),
        IN_A_REGION(test_what_is_not_to_be_compressed_is_not),
        IN_A_REGION(test_off_it_does_nothing_and_holds_nothing),
        IN_A_REGION(test_a_copy_that_is_no_smaller_is_not_kept),
        IN_A_REGION(test_a_record_goes_without_a_copy_that_does_not_fit),
        IN_A_REGION(test_a_message_that_would_take_too_long_is_not_begun),
        IN_A_REGION(test_the_budget_ends_and_comes_back),
        IN_A_REGION(test_what_is_earned_in_small_pieces_is_earned),
        IN_A_REGION(test_many_parts_fit_the_scratch_memory_to_the_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
