/* ws_utf8.c: UTF-8 checked piece by piece.
 *
 * Invariant: a state names the set of bytes that may come next, so the first wrong byte is found
 *            when it arrives and not when its character would be complete (conformance suites
 *            demand that).
 * Why:       texts are mostly ASCII JSON; those are skipped eight bytes at a time. */
#include "proto/ws_utf8.h"

#include <stddef.h>

enum utf8_state {
    UTF8_WHOLE = WS_UTF8_WHOLE,
    UTF8_TAIL_1, /* one continuation byte is missing */
    UTF8_TAIL_2,
    UTF8_TAIL_3,
    UTF8_AFTER_E0, /* below A0 it would be an overlong form */
    UTF8_AFTER_ED, /* above 9F it would be a surrogate */
    UTF8_AFTER_F0, /* below 90 it would be an overlong form */
    UTF8_AFTER_F4, /* above 8F it would be beyond U+10FFFF */
    UTF8_WRONG
};

struct utf8_rule {
    uint8_t low, high; /* the bytes that may come */
    uint8_t then;      /* the state behind them */
};

static const struct utf8_rule rules[UTF8_WRONG] = {
    [UTF8_TAIL_1] = { 0x80, 0xbf, UTF8_WHOLE },    [UTF8_TAIL_2] = { 0x80, 0xbf, UTF8_TAIL_1 },
    [UTF8_TAIL_3] = { 0x80, 0xbf, UTF8_TAIL_2 },   [UTF8_AFTER_E0] = { 0xa0, 0xbf, UTF8_TAIL_1 },
    [UTF8_AFTER_ED] = { 0x80, 0x9f, UTF8_TAIL_1 }, [UTF8_AFTER_F0] = { 0x90, 0xbf, UTF8_TAIL_2 },
    [UTF8_AFTER_F4] = { 0x80, 0x8f, UTF8_TAIL_2 },
};

static uint8_t lead(uint8_t byte)
{
    if (byte < 0x80)
        return UTF8_WHOLE;
    if (byte < 0xc2) /* a stray continuation byte, or C0 and C1: overlong */
        return UTF8_WRONG;
    if (byte < 0xe0)
        return UTF8_TAIL_1;
    if (byte < 0xf0)
        return byte == 0xe0 ? UTF8_AFTER_E0 : byte == 0xed ? UTF8_AFTER_ED : UTF8_TAIL_2;
    if (byte < 0xf5)
        return byte == 0xf0 ? UTF8_AFTER_F0 : byte == 0xf4 ? UTF8_AFTER_F4 : UTF8_TAIL_3;
    return UTF8_WRONG;
}

static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end)
{
    uint64_t eight;

    while (end - at >= (ptrdiff_t)sizeof eight) {
        memcpy(&eight, at, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
        at += sizeof eight;
    }
    return at;
}

bool ws_utf8_take(uint8_t *state, struct slice bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.bytes;
    const uint8_t *end = at + bytes.n_bytes;
    uint8_t now = *state;

    while (at < end) {
        if (now == UTF8_WHOLE) {
            at = skip_ascii(at, end);
            if (at == end)
                break;
            now = lead(*at++);
            if (now == UTF8_WRONG)
                return false;
        } else {
            if (*at < rules[now].low || *at > rules[now].high)
                return false;
            now = rules[now].then;
            at++;
        }
    }
    *state = now;
    return true;
}
