/* deflate.h: permessage-deflate (RFC 7692) without context takeover: what is agreed on, messages compressed, messages decompressed. Sans-IO.
 *
 * Every message stands alone, in both directions: so one stream of a process serves all its clients, a message is compressed once for all of them,
 * and a connection keeps nothing. */
#ifndef PEAL_PROTO_DEFLATE_H
#define PEAL_PROTO_DEFLATE_H

#include "proto/http.h"

/* --- negotiation --- */

enum deflate_agreed {
    DEFLATE_NOT = 0, /* nothing that could be agreed on was offered */
    DEFLATE_AGREED,
    DEFLATE_AGREED_WINDOW, /* the offer has server_max_window_bits=15, which the answer must name, too */
    DEFLATE_MALFORMED /* a header is not of the form of RFC 6455 section 9.1: the handshake fails */
};

/* The first offer of permessage-deflate, in any of the request's Sec-WebSocket-Extensions headers, that can be agreed on (RFC 7692 sections 5 and 7.1): not one
 * with a parameter that is unknown, there twice or of a wrong value, nor with server_max_window_bits below 15. Any client_max_window_bits will do. */
enum deflate_agreed deflate_negotiate(const struct http_request *r);

/* The answer as a header line with its CR LF: always with server_no_context_takeover and client_no_context_takeover. "": none. */
const char *deflate_header(enum deflate_agreed agreed);

/* --- messages to clients --- */

struct deflater;

/* `level` 1 to 9, `mem_level` 1 to 9, as in zlib. The only allocation (deflater_bytes). NULL: no memory. */
struct deflater *deflater_new(int level, int mem_level);
void deflater_free(struct deflater *d); /* NULL is fine */
uint32_t deflater_bytes(int mem_level);

/* Writes the payload of a compressed message and returns its length; 0: it takes `room` or more. */
MUST_USE uint32_t deflater_pack(struct deflater *d, struct slice plain, uint8_t *out,
                                uint32_t room);

/* What a stored block adds besides the bytes in it, at most. */
#define DEFLATE_STORED_BYTES 6u

/* The same for a message of which the last `n_stored` bytes (1 to 65535) are not known yet: they are to be put at out + *stored_at, and may be changed there at any
 * time: they lie in a block without compression (BTYPE=00), whose length alone matters to what is around it. */
MUST_USE uint32_t deflater_pack_open(struct deflater *d, struct slice plain, uint32_t n_stored,
                                     uint8_t *out, uint32_t room, uint32_t *stored_at);

/* --- messages from clients --- */

#define INFLATER_BYTES (48u << 10) /* of a stream: the window and zlib's state */

struct inflater;

struct inflater *inflater_new(void); /* NULL: no memory */
void inflater_free(struct inflater *in);

enum inflate_result {
    INFLATE_OK = 0,
    INFLATE_CORRUPT, /* no deflate data, or cut off: answer 1007, as Node's ws does */
    INFLATE_TOO_BIG, /* more than bytes_max; no more than one byte beyond it was written: answer 1009 */
    INFLATE_NO_MEMORY
};

/* Decompresses the payload of a message. `plain` is borrowed until the next call. Blocks may follow one with BFINAL (section 7.2.3.4); such a block at the very end needs no
 * empty one behind it, and a payload of no bytes is an empty message: other receivers take both. */
MUST_USE enum inflate_result inflater_take(struct inflater *in, struct slice packed,
                                           uint32_t bytes_max, struct slice *plain);

/* Gives back what an unusually large message took. */
void inflater_forget(struct inflater *in);

#endif
