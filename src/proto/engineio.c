/* engineio.c: writes the Engine.IO open packet, and identities as text.
 *
 * Invariant: base64url_decode takes exactly what base64url_encode writes: one text per identity, so
 *            texts may be compared.
 * Owns:      nothing. */
#include "proto/engineio.h"

#include <assert.h>
#include <stdio.h>

#define SID_BYTES_MAX 64 /* of the text; ours have EIO_SID_CHARS */

void base64url_encode(char *out, const uint8_t *bytes, uint32_t n_bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    assert(n_bytes % 3 == 0);
    for (uint32_t i = 0; i < n_bytes; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];

        *out++ = alphabet[word >> 18];
        *out++ = alphabet[word >> 12 & 63];
        *out++ = alphabet[word >> 6 & 63];
        *out++ = alphabet[word & 63];
    }
}

/* Six bits, or 64 if the character is not of the alphabet. */
static uint32_t base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '-' ? 62 : c == '_' ? 63 : 64;
}

bool base64url_decode(uint8_t *out, struct slice text)
{
    uint32_t seen = 0;

    if (text.n_bytes % 4 != 0)
        return false;
    for (uint32_t i = 0; i < text.n_bytes; i++)
        seen |= base64url_value(text.bytes[i]);
    if (seen > 63)
        return false; /* before anything is written */
    for (uint32_t i = 0; i < text.n_bytes; i += 4) {
        uint32_t word =
            base64url_value(text.bytes[i]) << 18 | base64url_value(text.bytes[i + 1]) << 12 |
            base64url_value(text.bytes[i + 2]) << 6 | base64url_value(text.bytes[i + 3]);

        *out++ = (uint8_t)(word >> 16);
        *out++ = (uint8_t)(word >> 8);
        *out++ = (uint8_t)word;
    }
    return true;
}

uint32_t eio_put_open(char *out, struct slice sid, bool may_upgrade, uint32_t ping_interval_ms,
                      uint32_t ping_timeout_ms, uint32_t max_payload_bytes)
{
    int n_bytes;

    assert(sid.n_bytes > 0 && sid.n_bytes <= SID_BYTES_MAX);
    for (uint32_t i = 0; i < sid.n_bytes; i++)
        assert(base64url_value(sid.bytes[i]) < 64); /* nothing that JSON would want escaped */
    n_bytes = snprintf(out, EIO_OPEN_MAX,
                       "0{\"sid\":\"%.*s\",\"upgrades\":[%s],\"pingInterval\":%u,\"pingTimeout\":%"
                       "u,\"maxPayload\":%u}",
                       (int)sid.n_bytes, sid.bytes, may_upgrade ? "\"websocket\"" : "",
                       ping_interval_ms, ping_timeout_ms, max_payload_bytes);
    assert(n_bytes > 0 && n_bytes < EIO_OPEN_MAX);
    return (uint32_t)n_bytes;
}
