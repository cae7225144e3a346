/* test_ws_utf8.c: text is UTF-8 or refused, at the first byte that cannot be right. */
#include "ws_run.h"

#include "proto/ws_utf8.h"

struct text_case {
    const char *text;
    uint32_t wrong_at; /* from 1; 0: good; one more than the length: unfinished */
};

static const struct text_case texts[] = {
    { "\x7f", 0 },
    { "\xc2\x80", 0 },
    { "\xdf\xbf", 0 },
    { "\xe0\xa0\x80", 0 },
    { "\xed\x9f\xbf", 0 },
    { "\xee\x80\x80", 0 },
    { "\xef\xbf\xbf", 0 },
    { "\xf0\x90\x80\x80", 0 },
    { "\xf4\x8f\xbf\xbf", 0 },
    { "0123456789abcdef\xe2\x82\xac 0123456789abcdef", 0 },
    { "\x80", 1 },
    { "\xbf", 1 },
    { "\xc0\xaf", 1 },
    { "\xc1\xbf", 1 },
    { "\xc3(", 2 },
    { "\xe0\x9f\xbf", 2 },
    { "\xed\xa0\x80", 2 },
    { "\xe2\x82(", 3 },
    { "\xf0\x8f\xbf\xbf", 2 },
    { "\xf4\x90\x80\x80", 2 },
    { "\xf5\x80\x80\x80", 1 },
    { "\xfe", 1 },
    { "\xff", 1 },
    { "0123456789abcdef\xff", 17 },
    { "\xe2\x82", 3 },
    { "ab\xf0\x9f\x98", 6 },
};

static void test_wrong_text_is_refused_at_its_first_wrong_byte(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint32_t n = (uint32_t)strlen(texts[i].text);
        char expected[128];

        wire_clear();
        put_text(0x81, texts[i].text);
        if (texts[i].wrong_at > 0) {
            /* An unfinished character is wrong when the last byte has come. */
            expect_fault_at(6 + (texts[i].wrong_at > n ? n : texts[i].wrong_at), 100, "!1007");
        } else {
            (void)snprintf(expected, sizeof expected, "T\"%s\".", texts[i].text);
            expect(100, expected);
        }
        wire_clear();
        put_text(0x82, texts[i].text);
        (void)snprintf(expected, sizeof expected, "B\"%s\".", texts[i].text);
        expect(100, expected);
    }
}

static void test_text_is_judged_over_fragment_borders(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint32_t n = (uint32_t)strlen(texts[i].text);

        for (uint32_t border = 0; border <= n; border++) {
            char expected[128];

            wire_clear();
            put_frame(0x01, texts[i].text, border);
            put_text(0x89, "\xff");
            put_frame(0x80, texts[i].text + border, n - border);
            if (texts[i].wrong_at == 0)
                (void)snprintf(expected, sizeof expected, "P\"\xff\"T\"%s\".", texts[i].text);
            else /* fails before the ping if the wrong byte is in the first fragment */
                (void)snprintf(expected, sizeof expected, "%s!1007",
                               texts[i].wrong_at > border ? "P\"\xff\"" : "");
            expect(100, expected);
        }
    }
}

/* Another way to say what UTF-8 is: decode, and ask whether that needed so many bytes. */
static bool is_character(const uint8_t *b, uint32_t n)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    static const uint8_t lead_mask[] = { 0, 0x80, 0xe0, 0xf0, 0xf8 };
    static const uint8_t lead_bits[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };
    uint32_t c = b[0] & ~lead_mask[n] & 0xff;

    if ((b[0] & lead_mask[n]) != lead_bits[n])
        return false;
    for (uint32_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (b[i] & 0x3f);
    }
    return c >= smallest[n] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
}

static bool is_text(const uint8_t *b, uint32_t n)
{
    while (n > 0) {
        uint32_t k = 1;

        while (k <= 4 && k <= n && !is_character(b, k))
            k++;
        if (k > 4 || k > n)
            return false;
        b += k;
        n -= k;
    }
    return true;
}

static void test_every_lead_and_second_byte_is_judged_as_a_decoder_would(void **state)
{
    static const uint8_t tails[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff };
    uint8_t b[4];

    (void)state;
    for (uint32_t i = 0; i < 256 * 256 * 100; i++) {
        b[0] = (uint8_t)(i / 25600);
        b[1] = (uint8_t)(i / 100);
        b[2] = tails[i / 10 % 10];
        b[3] = tails[i % 10];
        for (uint32_t n = 1; n <= 4; n++) {
            uint8_t now = WS_UTF8_WHOLE;
            bool good = ws_utf8_take(&now, slice_of(b, n)) && now == WS_UTF8_WHOLE;

            if (good != is_text(b, n))
                fail_msg("%02x %02x %02x %02x, %u bytes of it", b[0], b[1], b[2], b[3], n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_text_is_refused_at_its_first_wrong_byte),
        cmocka_unit_test(test_text_is_judged_over_fragment_borders),
        cmocka_unit_test(test_every_lead_and_second_byte_is_judged_as_a_decoder_would),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
