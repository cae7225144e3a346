/* eio_payload.c: see eio_payload.h. */
#include "proto/eio_payload.h"

#include <assert.h>

#include "proto/base64.h"

#define SEPARATOR 0x1e

/* The header of a frame of ours: its payload, and where the next one begins. */
static struct slice take_frame(struct slice *frames, enum ws_opcode *opcode)
{
    const uint8_t *p = (const uint8_t *)frames->bytes;
    uint64_t length = p[1];
    uint32_t header = 2;
    struct slice payload;

    assert(frames->n_bytes >= 2);
    assert((p[0] & 0x80) != 0 && (p[1] & 0x80) == 0);
    *opcode = (enum ws_opcode)(p[0] & 0x0f);
    if (length == 126) {
        header = 4;
        length = (uint64_t)p[2] << 8 | p[3];
    } else if (length == 127) {
        header = 10;
        length = 0;
        for (uint32_t i = 2; i < 10; i++)
            length = length << 8 | p[i];
    }
    assert(frames->n_bytes >= header && length <= frames->n_bytes - header);
    payload = slice_of(frames->bytes + header, (uint32_t)length);
    *frames = slice_of(payload.bytes + payload.n_bytes,
                       frames->n_bytes - header - payload.n_bytes);
    return payload;
}

uint32_t eio_payload_put_frames(char *body, uint32_t at, struct slice frames)
{
    while (frames.n_bytes > 0) {
        enum ws_opcode opcode;
        struct slice payload = take_frame(&frames, &opcode);

        if (opcode != WS_TEXT && opcode != WS_BINARY)
            continue;
        if (at > 0)
            body[at++] = SEPARATOR;
        if (opcode == WS_BINARY) {
            body[at++] = 'b';
            at += base64_encode(body + at, (const uint8_t *)payload.bytes, payload.n_bytes);
        } else if (payload.n_bytes > 0) {
            memcpy(body + at, payload.bytes, payload.n_bytes);
            at += payload.n_bytes;
        }
    }
    return at;
}

bool eio_payload_next(struct slice *rest, struct slice *packet)
{
    const char *end;

    if (rest->bytes == NULL)
        return false;
    end = rest->n_bytes == 0 ? NULL : memchr(rest->bytes, SEPARATOR, rest->n_bytes);
    if (end == NULL) {
        *packet = *rest;
        *rest = (struct slice){ NULL, 0 };
        return true;
    }
    *packet = slice_of(rest->bytes, (uint32_t)(end - rest->bytes));
    *rest = slice_of(end + 1, rest->n_bytes - packet->n_bytes - 1);
    return true;
}
