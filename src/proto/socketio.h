/* socketio.h: Socket.IO protocol 5 packets as text (the part behind the Engine.IO `4`). Sans-IO, no
 * allocation.
 *
 * Source of every rule: the behaviour of socket.io-parser 4.2.7 and socket.io 4.8.4, recorded in
 * tests/vectors/socketio-packets.json. */
#ifndef PEAL_PROTO_SOCKETIO_H
#define PEAL_PROTO_SOCKETIO_H

#include "base/slice.h"

#define SIO_ATTACHMENTS_MAX 10
#define SIO_HEADER_MAX      64 /* bytes that sio_put_header writes besides the namespace */

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
    uint32_t n_attachments; /* 0 unless a binary type */
    struct slice nsp;       /* "/" where the text names none; borrowed from the text or static */
    bool has_id;
    double id;            /* as JavaScript reads it: digits beyond 2^53 are lost; "1 2" is NaN */
    struct slice payload; /* validated JSON of the accepted shape; bytes == NULL when missing */
};

/* Decodes a whole text packet (without the Engine.IO type). False: anything that Node closes the
 * connection for as a parse error (a CONNECT_ERROR from a client decodes; the session refuses it).
 * Reserved event names of EVENT are refused here. On false `out` is unchanged. */
MUST_USE bool sio_decode(struct slice text, struct sio_packet *out);

/* Are these event names refused from a client and from an application (connect, disconnect, ...)?
 * `name` is unescaped UTF-8. */
bool sio_event_reserved(struct slice name);

/* Writes `4`, type, count and dash, namespace and comma, id: everything before the JSON. `id` < 0:
 * none. `out` must have SIO_HEADER_MAX + nsp.n_bytes bytes. The namespace is left out if it is "/".
 * Returns the length. */
uint32_t sio_put_header(char *out, enum sio_type type, uint32_t n_attachments, struct slice nsp,
                        double id);

/* Checks, for a binary packet whose attachments have all come, that each
 * {"_placeholder":true,"num":k} in the validated JSON has 0 <= k < n_attachments and a numeric num.
 * False: Node closes the connection. */
MUST_USE bool sio_placeholders_valid(struct slice json, uint32_t n_attachments);

#endif
