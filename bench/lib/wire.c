/* wire.c: see wire.h. */
#include "lib/wire.h"

#include <string.h>

enum wire_result wire_parse(const uint8_t *bytes, size_t n, struct wire_frame *out)
{
    size_t head = 2;
    uint64_t length;

    if (n < 2)
        return WIRE_NEED_MORE;
    if ((bytes[0] & 0xb0) != 0x80 || /* RSV1 says compressed: to a client that asked for it */
        (bytes[1] & 0x80) != 0)
        return WIRE_BAD;
    length = bytes[1];
    if (length == 126 || length == 127) {
        size_t digits = length == 126 ? 2 : 8;

        head += digits;
        if (n < head)
            return WIRE_NEED_MORE;
        length = 0;
        for (size_t i = 0; i < digits; i++)
            length = length << 8 | bytes[2 + i];
    }
    if (length > UINT32_MAX)
        return WIRE_BAD;
    if (n < head + length)
        return WIRE_NEED_MORE;
    out->opcode = bytes[0] & 0x0f;
    out->payload = bytes + head;
    out->payload_bytes = (size_t)length;
    out->frame_bytes = head + (size_t)length;
    return WIRE_OK;
}

size_t wire_client_frame(uint8_t *out, uint8_t opcode, const void *payload, size_t n, uint32_t mask)
{
    const uint8_t *from = payload;
    uint8_t key[4];
    size_t at = 2;

    out[0] = (uint8_t)(0x80 | opcode);
    if (n < 126) {
        out[1] = (uint8_t)(0x80 | n);
    } else {
        size_t digits = n < 65536 ? 2 : 8;

        out[1] = (uint8_t)(0x80 | (digits == 2 ? 126 : 127));
        for (size_t i = 0; i < digits; i++)
            out[at++] = (uint8_t)((uint64_t)n >> 8 * (digits - 1 - i));
    }
    memcpy(key, &mask, sizeof key);
    memcpy(out + at, key, sizeof key);
    at += sizeof key;
    for (size_t i = 0; i < n; i++)
        out[at + i] = from[i] ^ key[i % 4];
    return at + n;
}

enum wire_result wire_http_head(const uint8_t *bytes, size_t n, uint32_t *status,
                                size_t *head_bytes)
{
    const uint8_t *end = memmem(bytes, n, "\r\n\r\n", 4);

    if (!end)
        return n > 16384 ? WIRE_BAD : WIRE_NEED_MORE;
    if (n < 13 || memcmp(bytes, "HTTP/1.1 ", 9) != 0)
        return WIRE_BAD;
    *status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (bytes[i] < '0' || bytes[i] > '9')
            return WIRE_BAD;
        *status = *status * 10 + (uint32_t)(bytes[i] - '0');
    }
    *head_bytes = (size_t)(end - bytes) + 4;
    return WIRE_OK;
}

static size_t nsp_skip(const char *text, size_t n, const char *nsp)
{
    size_t length = strlen(nsp);

    if (strcmp(nsp, "/") == 0)
        return n > 0 && *text == '/' ? SIZE_MAX : 0;
    if (n < length || memcmp(text, nsp, length) != 0)
        return SIZE_MAX;
    if (n > length && text[length] == ',')
        return length + 1;
    return n == length ? length : SIZE_MAX;
}

enum wire_result sio_parse(const char *text, size_t n, const char *nsp, struct sio_packet *out)
{
    size_t at = 1;
    size_t skip;

    if (n < 1 || text[0] < '0' || text[0] > '6')
        return WIRE_BAD;
    *out = (struct sio_packet){ .type = (enum sio_type)(text[0] - '0') };
    if (out->type >= SIO_BINARY_EVENT) {
        while (at < n && text[at] >= '0' && text[at] <= '9')
            at++;
        if (at == n || text[at] != '-')
            return WIRE_BAD;
        at++;
    }
    skip = nsp_skip(text + at, n - at, nsp);
    if (skip == SIZE_MAX)
        return WIRE_BAD;
    at += skip;
    while (at < n && text[at] >= '0' && text[at] <= '9' && out->id < UINT32_MAX / 10) {
        out->has_id = true;
        out->id = out->id * 10 + (uint32_t)(text[at++] - '0');
    }
    out->args = text + at;
    out->args_bytes = n - at;
    return WIRE_OK;
}
