/* ws.h: RFC 6455 framing for a server. Sans-IO.
 *
 * Inbound bytes go through wslay, but a wslay frame context (4.3 KB) is lent from a bounded pool only between the first and the last
 * byte of a frame: `struct ws_in` is all that an idle connection keeps. A fragmented message keeps opcode, UTF-8 state and length there,
 * no context. Zeroed memory is a valid idle ws_in. Outbound frames are headers written by hand: server frames are not masked. */
#ifndef PEAL_PROTO_WS_H
#define PEAL_PROTO_WS_H

#include "base/slice.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

#define WS_CLOSE_NORMAL     1000
#define WS_CLOSE_GOING_AWAY 1001
#define WS_CLOSE_PROTOCOL   1002
#define WS_CLOSE_NO_STATUS  1005 /* never on the wire: a close frame without a code */
#define WS_CLOSE_BAD_DATA   1007
#define WS_CLOSE_POLICY     1008
#define WS_CLOSE_TOO_BIG    1009
#define WS_CLOSE_RESTART    1012
#define WS_CLOSE_TRY_LATER  1013

#define WS_HEADER_MAX  10
#define WS_RSV1        0x40u /* in a frame's first byte: the message is compressed (RFC 7692 section 6) */
#define WS_CONTROL_MAX 125

struct ws_pool;
struct ws_context;

/* At most `n_contexts_max` contexts exist at a time; they are allocated when first needed and kept. */
struct ws_pool *ws_pool_new(uint32_t n_contexts_max);
void ws_pool_free(struct ws_pool *pool); /* every context must have come back */
uint32_t ws_pool_lent(const struct ws_pool *pool);

#define WS_DEFLATE_AGREED  1u
#define WS_DEFLATE_MESSAGE 2u /* the data message under way is compressed */

struct ws_in {
    struct ws_context *_lent; /* NULL between frames */
    uint32_t _message_bytes;  /* of the data message under way */
    uint8_t _opcode;          /* of the data message under way, 0 = none */
    uint8_t _utf8_state;      /* text: state of the validator at the end of the last chunk */
    uint8_t _closed;          /* a close frame has come: whatever follows is ignored */
    uint8_t _deflate;         /* permessage-deflate: WS_DEFLATE_* */
};

enum ws_result {
    WS_NEED_MORE = 0, /* all input is consumed */
    WS_DATA,          /* a piece of a data message */
    WS_CONTROL,       /* a whole PING, PONG or CLOSE frame */
    WS_NO_CONTEXT,    /* the pool is empty; nothing was consumed: try again later */
    WS_BAD_PROTOCOL,  /* answer 1002 */
    WS_BAD_UTF8,      /* answer 1007 */
    WS_TOO_BIG        /* answer 1009 */
};

struct ws_piece {
    struct slice
        bytes; /* unmasked payload (of a close frame: code and reason), valid until the next call with the same pool */
    uint8_t
        opcode; /* WS_TEXT, WS_BINARY (that of the message, also for continuations), WS_PING, WS_PONG, WS_CLOSE */
    bool first; /* data: begins a message */
    bool
        last; /* data: ends it; text is then known to be valid UTF-8 as a whole, unless it is ... */
    bool
        compressed; /* ... data: of a message that its receiver has to decompress, and to check then */
    uint16_t
        close_code; /* WS_CLOSE: code, or WS_CLOSE_NO_STATUS; bad codes and lengths are WS_BAD_PROTOCOL */
};

/* permessage-deflate has been agreed on: messages may be compressed from here on. */
void ws_in_deflate(struct ws_in *in);

/* Takes bytes from `input` (advanced) until there is something to say. `message_bytes_max` is the limit of a whole data message; a
 * longer one is WS_TOO_BIG as soon as a header announces it. Call it until it says WS_NEED_MORE.
 * After an error `in` must be passed to ws_in_reset. */
MUST_USE enum ws_result ws_next(struct ws_in *in, struct ws_pool *pool, struct slice *input,
                                uint32_t message_bytes_max, struct ws_piece *out);

/* Is a frame or a fragmented message under way? (For message_timeout and for moves.) */
bool ws_in_busy(const struct ws_in *in);

/* Gives a lent context back and makes `in` idle. Call when the connection ends, however it ends. */
void ws_in_reset(struct ws_in *in, struct ws_pool *pool);

/* Writes the header of one unmasked FIN frame. Returns its length, at most WS_HEADER_MAX. */
uint32_t ws_put_header(uint8_t *out, enum ws_opcode opcode, uint64_t payload_bytes);

/* Writes a whole close frame; WS_CLOSE_NO_STATUS gives `88 00`. `reason` is cut to fit at a UTF-8 border. At most 127 bytes. */
uint32_t ws_put_close(uint8_t *out, uint16_t code, const char *reason);

#endif
