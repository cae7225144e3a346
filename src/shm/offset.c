/* offset.c: see offset.h. Numbers are big-endian. */
#include "shm/offset.h"

#include "proto/engineio.h"

#define OFFSET_VERSION 1u
#define HEAD_BYTES     6u /* version, epoch */
#define POSITION_BYTES 9u /* a reserved one, position */
#define STREAM_BYTES   9u
#define HEAD_CHARS     (HEAD_BYTES / 3 * 4)
#define POSITION_CHARS (POSITION_BYTES / 3 * 4)
#define OFFSET_BYTES   (HEAD_BYTES + POSITION_BYTES + STREAM_BYTES)

_Static_assert(OFFSET_BYTES / 3 * 4 == OFFSET_CHARS, "fixed width");

static void put_number(uint8_t *out, uint64_t value, uint32_t n_bytes)
{
    for (uint32_t i = 0; i < n_bytes; i++)
        out[i] = (uint8_t)(value >> 8 * (n_bytes - 1 - i));
}

void offset_put(char *out, uint64_t epoch)
{
    uint8_t raw[OFFSET_BYTES] = { OFFSET_VERSION };

    put_number(raw + 1, epoch, HEAD_BYTES - 1);
    base64url_encode(out, raw, sizeof raw);
}

void offset_put_position(char *offset, uint64_t position)
{
    uint8_t raw[POSITION_BYTES] = { 0 };

    put_number(raw + 1, position, 8);
    base64url_encode(offset + HEAD_CHARS, raw, sizeof raw);
}

enum offset_result offset_read(struct slice text, uint64_t epoch, uint64_t *position)
{
    uint8_t raw[OFFSET_BYTES];
    uint8_t head[HEAD_BYTES] = { OFFSET_VERSION };

    if (text.n_bytes != OFFSET_CHARS || !base64url_decode(raw, text) || raw[0] != OFFSET_VERSION)
        return OFFSET_UNKNOWN;
    put_number(head + 1, epoch, HEAD_BYTES - 1);
    if (memcmp(raw, head, HEAD_BYTES) != 0)
        return OFFSET_OTHER_HOST;
    *position = 0;
    for (uint32_t i = 0; i < 8; i++)
        *position = *position << 8 | raw[HEAD_BYTES + 1 + i];
    return OFFSET_OK;
}
