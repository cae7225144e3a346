/* test_outbuf.c: what waits for Redis: in order, whole, within its bounds, the oldest dropped first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/outbuf.h"

#define MB (1u << 20)

static struct outbuf o;

static int setup(void **state)
{
    (void)state;
    outbuf_init(&o, MB, 10000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    outbuf_clear(&o);
    assert_int_equal(o.n_bytes, 0);
    assert_int_equal(o.n_commands, 0);
    return 0;
}

/* PUBLISH c with the number and n bytes. */
static void push(uint64_t now_ms, uint32_t number, uint32_t n)
{
    char *payload = calloc(1, n + 16);
    struct slice words[3] = { slice_text("PUBLISH"), slice_text("c"), { payload, 0 } };

    assert_non_null(payload);
    snprintf(payload, 16, "%u:", number);
    words[2].n_bytes = n + (uint32_t)strlen(payload);
    assert_true(outbuf_push(&o, now_ms, words, 3));
    free(payload);
}

/* Takes everything, and reads it as Redis would: the numbers, in order. */
static uint32_t take_all(uint32_t *numbers, uint32_t max)
{
    redisReader *reader = redisReaderCreate();
    struct outbuf_chunk *c;
    uint32_t n = 0;

    assert_non_null(reader);
    while ((c = outbuf_take(&o)) != NULL) {
        uint32_t n_here = 0;
        void *reply = NULL;

        assert_true(c->first < c->n_commands);
        assert_int_equal(redisReaderFeed(reader, c->data + c->at, c->n_bytes - c->at), REDIS_OK);
        for (;;) {
            redisReply *r;

            assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
            if (reply == NULL)
                break;
            r = reply;
            assert_int_equal(r->elements, 3);
            assert_string_equal(r->element[0]->str, "PUBLISH");
            assert_string_equal(r->element[1]->str, "c");
            assert_true(n < max);
            numbers[n++] = (uint32_t)strtoul(r->element[2]->str, NULL, 10);
            freeReplyObject(reply);
            n_here++;
        }
        assert_int_equal(n_here, c->n_commands - c->first);
        outbuf_give(&o, c);
    }
    redisReaderFree(reader);
    assert_int_equal(o.n_commands, 0);
    assert_int_equal(o.n_bytes, 0);
    return n;
}

static void expect_in_order(uint32_t first, uint32_t n_expected)
{
    static uint32_t numbers[100000];
    uint32_t n = take_all(numbers, 100000);

    assert_int_equal(n, n_expected);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(numbers[i], first + i);
}

static void test_a_command_is_what_hiredis_would_write(void **state)
{
    static const char *const words[][4] = { { "PING", NULL },
                                            { "SUBSCRIBE", "", NULL },
                                            { "PUBLISH", "channel-10-bytes", "x", NULL } };
    (void)state;

    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct slice slices[4];
        struct outbuf_chunk *c;
        const char *argv[4];
        char *wanted;
        int n = 0;
        long long n_wanted;

        for (; words[i][n] != NULL; n++) {
            slices[n] = slice_text(words[i][n]);
            argv[n] = words[i][n];
        }
        n_wanted = redisFormatCommandArgv(&wanted, n, argv, NULL);
        assert_true(outbuf_push(&o, 0, slices, (uint32_t)n));
        c = outbuf_take(&o);
        assert_int_equal(c->n_bytes - c->at, n_wanted);
        assert_memory_equal(c->data + c->at, wanted, (size_t)n_wanted);
        outbuf_give(&o, c);
        redisFreeCommand(wanted);
    }
}

static void test_all_lengths_come_out_whole_and_in_order(void **state)
{
    uint32_t n = 0;
    (void)state;

    outbuf_init(&o, 1u << 30, 0);
    for (uint32_t length = 0; length < 300; length++)
        push(0, n++, length);
    for (uint32_t length = OUTBUF_CHUNK_BYTES - 150; length < OUTBUF_CHUNK_BYTES + 10; length++)
        push(0, n++, length);
    for (uint32_t length = 1; length < 9 * MB; length *= 3)
        push(0, n++, length);
    expect_in_order(0, n);
    assert_int_equal(o.dropped_full, 0);
}

static void test_beyond_its_bytes_the_oldest_go(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 50000; i++) {
        push(0, i, 100);
        assert_true(o.n_bytes <= MB);
        assert_int_equal(o.n_commands + o.dropped_full, i + 1);
    }
    assert_true(o.dropped_full > 0);
    assert_true(o.n_commands > 6000); /* about a megabyte of 140 bytes each */
    expect_in_order((uint32_t)o.dropped_full, 50000 - (uint32_t)o.dropped_full);
}

static void test_one_that_is_larger_than_all_is_taken_alone(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        push(0, i, 100);
    push(0, 10, 3 * MB);
    assert_int_equal(o.n_commands, 1);
    assert_int_equal(o.dropped_full, 10);
    push(0, 11, 100);
    assert_int_equal(o.n_commands, 1);
    assert_int_equal(o.dropped_full, 11);
    expect_in_order(11, 1);
}

static void test_what_has_waited_for_too_long_goes(void **state)
{
    const uint64_t late = UINT32_MAX - 5000ull; /* the low half of the clock turns over meanwhile */
    (void)state;

    for (uint32_t i = 0; i < 20; i++)
        push(late + i * 1000, i, 10000);
    outbuf_expire(&o, late + 10000);
    assert_int_equal(o.dropped_old, 0);
    outbuf_expire(&o, late + 10001);
    assert_int_equal(o.dropped_old, 1);
    outbuf_expire(&o, late + 15000);
    assert_int_equal(o.dropped_old, 5);
    expect_in_order(5, 15);
    push(late, 1, 1);
    outbuf_expire(&o, late + 100000);
    assert_int_equal(o.n_commands, 0);
    assert_int_equal(o.n_bytes, 0);
}

static void test_what_is_too_long_for_a_command_is_refused(void **state)
{
    static struct slice words[OUTBUF_WORDS_MAX + 1];
    (void)state;

    for (uint32_t i = 0; i <= OUTBUF_WORDS_MAX; i++)
        words[i] = slice_text("w");
    assert_false(outbuf_push(&o, 0, words, OUTBUF_WORDS_MAX + 1));
    assert_false(outbuf_push(&o, 0, words, 0));
    words[1] = (struct slice){ "w", OUTBUF_COMMAND_MAX }; /* is not looked at */
    assert_false(outbuf_push(&o, 0, words, 2));
    assert_int_equal(o.n_commands, 0);
    words[1] = slice_text("w");
    assert_true(outbuf_push(&o, 0, words, OUTBUF_WORDS_MAX));
}

/* Pushes, takes, drops and time at random, against a list of numbers. */
static void test_random_use_keeps_order_and_counts(void **state)
{
    static uint32_t numbers[100000];
    uint32_t pushed = 0, next = 0; /* next: no number below it may come */
    uint64_t now_ms = 0, n_taken = 0;
    (void)state;

    srandom(4711);
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t n;

        for (long i = random() % 300; i > 0; i--)
            push(now_ms, pushed++,
                 (uint32_t)(random() % 100 == 0 ? random() % 100000 : random() % 500));
        now_ms += (uint64_t)(random() % 8000);
        outbuf_expire(&o, now_ms);
        assert_true(o.n_bytes <= MB);
        if (random() % 3 != 0)
            continue;
        n = take_all(numbers, 100000);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(numbers[i] >= next);
            next = numbers[i] + 1;
        }
        n_taken += n;
        assert_int_equal(n_taken + o.dropped_full + o.dropped_old, pushed);
    }
    assert_true(o.dropped_old > 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_command_is_what_hiredis_would_write),
        CASE(test_all_lengths_come_out_whole_and_in_order),
        CASE(test_beyond_its_bytes_the_oldest_go),
        CASE(test_one_that_is_larger_than_all_is_taken_alone),
        CASE(test_what_has_waited_for_too_long_goes),
        CASE(test_what_is_too_long_for_a_command_is_refused),
        CASE(test_random_use_keeps_order_and_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
