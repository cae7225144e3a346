/* engineio.h: Engine.IO 4 packets and identities. Sans-IO, no allocation.
 *
 * Identities are fixed-width base64url (RFC 4648 section 5, no padding). Socket id (public):
 * exactly 20 characters = 15 bytes, a 24-bit big-endian index and 96 random bits. Engine sid
 * (secret): 28 characters = 21 bytes, 24-bit host id, 24-bit index, 120 random bits. */
#ifndef PEAL_PROTO_ENGINEIO_H
#define PEAL_PROTO_ENGINEIO_H

#include "proto/base64.h"

enum eio_type {
    EIO_OPEN = '0',
    EIO_CLOSE = '1',
    EIO_PING = '2',
    EIO_PONG = '3',
    EIO_MESSAGE = '4',
    EIO_UPGRADE = '5',
    EIO_NOOP = '6'
};

#define SOCKET_ID_BYTES 15
#define SOCKET_ID_CHARS 20
#define EIO_SID_BYTES   21
#define EIO_SID_CHARS   28
#define EIO_OPEN_MAX    256 /* bytes of an open packet at most */

static inline uint32_t socket_id_index(const uint8_t id[SOCKET_ID_BYTES])
{
    return (uint32_t)id[0] << 16 | (uint32_t)id[1] << 8 | id[2];
}

/* Writes the open packet `0{"sid":...}` with the keys in Node's order; `out` has EIO_OPEN_MAX
 * bytes, `sid` is base64url of at most 64 characters. Returns its length. */
uint32_t eio_put_open(char *out, struct slice sid, bool may_upgrade, uint32_t ping_interval_ms,
                      uint32_t ping_timeout_ms, uint32_t max_payload_bytes);

#endif
