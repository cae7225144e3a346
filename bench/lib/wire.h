/* wire.h: the client's side of RFC 6455 and the few Socket.IO packets that load needs; touches
 * no socket.
 *
 * Never:  fragments (no server measured here sends any: a frame without FIN is WIRE_BAD),
 *         extensions; what permessage-deflate made smaller is handed out as it is.
 * Owns:   nothing; what is parsed is borrowed from the bytes given. */
#ifndef BENCH_LIB_WIRE_H
#define BENCH_LIB_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_FRAME_OVERHEAD 14u
#define WIRE_OP_TEXT        1u
#define WIRE_OP_BINARY      2u
#define WIRE_OP_CLOSE       8u
#define WIRE_OP_PING        9u
#define WIRE_OP_PONG        10u

enum wire_result { WIRE_OK = 0, WIRE_NEED_MORE, WIRE_BAD };

struct wire_frame {
    const uint8_t *payload;
    size_t payload_bytes;
    size_t frame_bytes; /* header and payload */
    uint8_t opcode;
};

/* Reads one server frame (unmasked, FIN) from the `n` bytes at `bytes`. */
enum wire_result wire_parse(const uint8_t *bytes, size_t n, struct wire_frame *out);

/* Writes one masked client frame of `n` payload bytes to `out`, which has n +
 * WIRE_FRAME_OVERHEAD bytes. Returns the length of the frame. */
size_t wire_client_frame(uint8_t *out, uint8_t opcode, const void *payload, size_t n,
                         uint32_t mask);

/* Looks for a whole HTTP response head. WIRE_OK: `status` and the length of the head, blank line
 * included. */
enum wire_result wire_http_head(const uint8_t *bytes, size_t n, uint32_t *status,
                                size_t *head_bytes);

enum sio_type {
    SIO_CONNECT = 0,
    SIO_DISCONNECT,
    SIO_EVENT,
    SIO_ACK,
    SIO_CONNECT_ERROR,
    SIO_BINARY_EVENT,
    SIO_BINARY_ACK
};

struct sio_packet {
    enum sio_type type;
    bool has_id;
    uint32_t id;
    const char *args; /* the JSON text */
    size_t args_bytes;
};

/* Reads a Socket.IO packet (what follows Engine.IO's "4") of namespace `nsp` ("/" is never
 * written on the wire). WIRE_BAD for malformed packets and those of other namespaces. */
enum wire_result sio_parse(const char *text, size_t n, const char *nsp, struct sio_packet *out);

#endif
