/* test_offset.c: offsets say where they are from, and nothing else is taken for one. */
#include "shm/offset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define EPOCH 0x0123456789abcdefull

static const uint64_t positions[] = { 0, 1, 63, 64, 0xffffffffull, 1ull << 48, UINT64_MAX - 1 };

static void test_what_is_written_is_read(void **state)
{
    char text[OFFSET_CHARS];
    uint64_t position;

    (void)state;
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        offset_put(text, EPOCH);
        offset_put_position(text, positions[i]);
        assert_int_equal(offset_read(slice_of(text, sizeof text), EPOCH, &position), OFFSET_OK);
        assert_true(position == positions[i]);
    }
}

static void test_another_region_s_is_told_apart(void **state)
{
    char text[OFFSET_CHARS];
    uint64_t position;

    (void)state;
    offset_put(text, EPOCH + 1);
    assert_int_equal(offset_read(slice_of(text, sizeof text), EPOCH, &position), OFFSET_OTHER_HOST);
}

static void test_any_other_text_is_none(void **state)
{
    char text[OFFSET_CHARS + 1];
    uint64_t position;

    (void)state;
    offset_put(text, EPOCH);
    text[OFFSET_CHARS] = 'A';
    for (uint32_t n = 0; n <= sizeof text; n++)
        if (n != OFFSET_CHARS)
            assert_int_equal(offset_read(slice_of(text, n), EPOCH, &position), OFFSET_UNKNOWN);
    text[5] = '+';
    assert_int_equal(offset_read(slice_of(text, OFFSET_CHARS), EPOCH, &position), OFFSET_UNKNOWN);
    memset(text, 'A', sizeof text); /* another version */
    assert_int_equal(offset_read(slice_of(text, OFFSET_CHARS), EPOCH, &position), OFFSET_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_another_region_s_is_told_apart),
        cmocka_unit_test(test_any_other_text_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
