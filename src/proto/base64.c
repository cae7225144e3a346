/* base64.c: see base64.h. */
#include "proto/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint32_t base64_encode(char *out, const uint8_t *bytes, uint32_t n_bytes)
{
    char *to = out;
    uint32_t i = 0;

    for (; i + 3 <= n_bytes; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];

        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = alphabet[word >> 6 & 63];
        *to++ = alphabet[word & 63];
    }
    if (i < n_bytes) {
        uint32_t word = (uint32_t)bytes[i] << 16;

        if (i + 1 < n_bytes)
            word |= (uint32_t)bytes[i + 1] << 8;
        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = i + 1 < n_bytes ? alphabet[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    return (uint32_t)(to - out);
}

/* Six bits, or 64 for a character that is skipped. */
static uint32_t value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : 64;
}

uint32_t base64_decode(uint8_t *out, struct slice text)
{
    uint8_t *to = out;
    uint32_t bits = 0;
    uint32_t n_bits = 0;

    for (uint32_t i = 0; i < text.n_bytes && text.bytes[i] != '='; i++) {
        uint32_t value = value_of(text.bytes[i]);

        if (value > 63)
            continue;
        bits = (bits << 6 | value) & 0xfff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *to++ = (uint8_t)(bits >> n_bits);
        }
    }
    return (uint32_t)(to - out);
}
