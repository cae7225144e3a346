/* base64.c: see base64.h. */
#include "proto/base64.h"

#include <assert.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static const char standard[] = LETTERS "+/";
static const char url[] = LETTERS "-_";

/* Whole groups of three bytes; returns where the next character goes. */
static char *encode_groups(char *to, const uint8_t *bytes, uint32_t n_bytes, const char *alphabet)
{
    for (uint32_t i = 0; i + 3 <= n_bytes; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];

        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = alphabet[word >> 6 & 63];
        *to++ = alphabet[word & 63];
    }
    return to;
}

uint32_t base64_encode(char *out, const uint8_t *bytes, uint32_t n_bytes)
{
    char *to = encode_groups(out, bytes, n_bytes, standard);
    uint32_t i = n_bytes - n_bytes % 3;

    if (i < n_bytes) {
        uint32_t word = (uint32_t)bytes[i] << 16;

        if (i + 1 < n_bytes)
            word |= (uint32_t)bytes[i + 1] << 8;
        *to++ = standard[word >> 18];
        *to++ = standard[word >> 12 & 63];
        *to++ = i + 1 < n_bytes ? standard[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    return (uint32_t)(to - out);
}

void base64url_encode(char *out, const uint8_t *bytes, uint32_t n_bytes)
{
    assert(n_bytes % 3 == 0);
    (void)encode_groups(out, bytes, n_bytes, url);
}

/* Six bits by the url-safe alphabet, or 64. */
static uint32_t url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '-' ? 62 : c == '_' ? 63 : 64;
}

uint32_t base64_decode(uint8_t *out, struct slice text)
{
    uint8_t *to = out;
    uint32_t bits = 0;
    uint32_t n_bits = 0;

    for (uint32_t i = 0; i < text.n_bytes && text.bytes[i] != '='; i++) {
        char c = text.bytes[i];
        uint32_t value = c == '+' ? 62 : c == '/' ? 63 : url_value(c);

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

bool base64url_valid(struct slice text)
{
    uint32_t seen = 0;

    for (uint32_t i = 0; i < text.n_bytes; i++)
        seen |= url_value(text.bytes[i]);
    return seen <= 63;
}

bool base64url_decode(uint8_t *out, struct slice text)
{
    if (text.n_bytes % 4 != 0 || !base64url_valid(text))
        return false; /* before anything is written */
    for (uint32_t i = 0; i < text.n_bytes; i += 4) {
        uint32_t word = url_value(text.bytes[i]) << 18 | url_value(text.bytes[i + 1]) << 12 |
                        url_value(text.bytes[i + 2]) << 6 | url_value(text.bytes[i + 3]);

        *out++ = (uint8_t)(word >> 16);
        *out++ = (uint8_t)(word >> 8);
        *out++ = (uint8_t)word;
    }
    return true;
}
