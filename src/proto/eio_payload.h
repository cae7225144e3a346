/* eio_payload.h: the body of a polling request or answer: packets with a byte 0x1e between them (Engine.IO 4). A text packet is as it is on a
 * WebSocket, a binary one is `b` and base64. Sans-IO, no allocation. */
#ifndef PEAL_PROTO_EIO_PAYLOAD_H
#define PEAL_PROTO_EIO_PAYLOAD_H

#include "proto/ws.h"

/* Bytes that frames of `n_bytes` in all become at most, with whatever is in them. A frame has two bytes of header at least. */
static inline uint64_t eio_payload_max(uint64_t n_bytes)
{
    return n_bytes / 3 * 4 + 8;
}

/* Appends the packets of whole server frames (unmasked, not fragmented: what was made to be sent over a WebSocket) to the body of which `at` bytes are
 * written. Control frames have no counterpart and are left out. Returns the new length. */
uint32_t eio_payload_put_frames(char *body, uint32_t at, struct slice frames);

/* Takes the first packet off `rest`; false: there is none left. An empty body is one empty packet. `rest->bytes` becomes NULL behind the last. */
MUST_USE bool eio_payload_next(struct slice *rest, struct slice *packet);

#endif
