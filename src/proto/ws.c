/* ws.c: RFC 6455 framing for a server, on wslay's frame API.
 *
 * A frame goes   header bytes, judged one by one  ->  wslay (unmasks)  ->  pieces, or one whole control frame
 *
 * Invariant: wslay reads ahead as far as its callback lets it, so the callback hands out bytes
 *            of the current frame only. We read the header ourselves to know where the frame
 *            ends; hence a context holds no byte of the next frame when it is given back, and it
 *            stands at a frame boundary: no new init is needed. A context that stopped inside a
 *            frame is freed.
 * Invariant: a fault is found at the byte that makes it one, whatever the chunks: lengths before
 *            the payload comes, and text at its first wrong byte.
 * Owns:      the pool owns all contexts; a ws_in borrows one between the first and the last byte
 *            of a frame. */
#include "proto/ws.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#include "proto/ws_utf8.h"

#define CLIENT_HEADER_MAX 14 /* 2, 8 of length, 4 of mask */
#define MASK_BYTES        4

struct ws_context {
    struct ws_context *next_free;
    wslay_frame_context_ptr wslay;
    const char *payload; /* during one call of wslay: the caller's bytes, at most this frame's */
    uint32_t n_payload;
    uint64_t frame_bytes;      /* payload length of the frame */
    uint64_t frame_bytes_left; /* of which these were not handed to wslay yet */
    uint8_t header[CLIENT_HEADER_MAX];
    uint8_t n_header;     /* so many have come */
    uint8_t header_bytes; /* so many there will be: 0 before the second byte */
    uint8_t n_header_fed; /* so many wslay has read */
    uint8_t opcode;       /* of the frame: may be WS_CONTINUATION */
    bool fin;
    bool first; /* no piece of the message was reported yet */
    uint8_t n_control;
    char control[WS_CONTROL_MAX];
};

struct ws_pool {
    struct ws_context *free;
    uint32_t n_lent;
    uint32_t n_contexts; /* lent or free */
    uint32_t n_contexts_max;
};

/* wslay's source of bytes: what is left of the header, then payload of this frame. -1 tells it
 * to come back later. */
static ssize_t on_recv(uint8_t *out, size_t room, int flags, void *user)
{
    struct ws_context *c = user;
    size_t n_header = (size_t)(c->n_header - c->n_header_fed);
    size_t n_payload;

    (void)flags;
    if (n_header > room)
        n_header = room;
    memcpy(out, c->header + c->n_header_fed, n_header);
    c->n_header_fed = (uint8_t)(c->n_header_fed + n_header);
    n_payload = c->n_payload < room - n_header ? c->n_payload : room - n_header;
    if (n_payload > 0)
        memcpy(out + n_header, c->payload, n_payload);
    c->payload += n_payload;
    c->n_payload -= (uint32_t)n_payload;
    return n_header + n_payload > 0 ? (ssize_t)(n_header + n_payload) : -1;
}

static struct ws_context *context_new(void)
{
    static const struct wslay_frame_callbacks callbacks = { .recv_callback = on_recv };
    struct ws_context *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    if (wslay_frame_context_init(&c->wslay, &callbacks, c) != 0) {
        free(c);
        return NULL;
    }
    return c;
}

static void context_free(struct ws_context *c)
{
    wslay_frame_context_free(c->wslay);
    free(c);
}

struct ws_pool *ws_pool_new(uint32_t n_contexts_max)
{
    struct ws_pool *pool = calloc(1, sizeof *pool);

    assert(n_contexts_max > 0);
    if (pool)
        pool->n_contexts_max = n_contexts_max;
    return pool;
}

void ws_pool_free(struct ws_pool *pool)
{
    if (!pool)
        return;
    assert(pool->n_lent == 0);
    while (pool->free) {
        struct ws_context *c = pool->free;

        pool->free = c->next_free;
        context_free(c);
    }
    free(pool);
}

uint32_t ws_pool_lent(const struct ws_pool *pool)
{
    return pool->n_lent;
}

/* NULL: all are lent, or memory is short. */
static struct ws_context *pool_lend(struct ws_pool *pool)
{
    struct ws_context *c = pool->free;

    if (c) {
        pool->free = c->next_free;
    } else {
        if (pool->n_contexts == pool->n_contexts_max)
            return NULL;
        c = context_new();
        if (!c)
            return NULL;
        pool->n_contexts++;
    }
    pool->n_lent++;
    c->n_header = 0;
    c->header_bytes = 0;
    c->n_header_fed = 0;
    c->n_control = 0;
    return c;
}

static void pool_take_back(struct ws_pool *pool, struct ws_context *c)
{
    assert(pool->n_lent > 0);
    pool->n_lent--;
    c->next_free = pool->free;
    pool->free = c;
}

/* For a context that is not at a frame boundary: only a new one could be used again. */
static void pool_discard(struct ws_pool *pool, struct ws_context *c)
{
    assert(pool->n_lent > 0);
    pool->n_lent--;
    pool->n_contexts--;
    context_free(c);
}

static enum ws_result fail(struct ws_in *in, struct ws_pool *pool, enum ws_result why)
{
    pool_discard(pool, in->_lent);
    in->_lent = NULL;
    in->_opcode = WS_CONTINUATION;
    in->_closed = 1; /* a caller that goes on without ws_in_reset reads nothing more */
    return why;
}

static bool is_control(uint8_t opcode)
{
    return opcode >= WS_CLOSE;
}

static enum ws_result judge_first_byte(const struct ws_in *in, struct ws_context *c)
{
    c->fin = (c->header[0] & 0x80) != 0;
    c->opcode = c->header[0] & 0x0f;
    if ((c->header[0] & 0x30) != 0) /* no extension that uses them was agreed on */
        return WS_BAD_PROTOCOL;
    /* it is said of a message, in its first frame (RFC 7692 section 6.1) */
    if ((c->header[0] & WS_RSV1) != 0 && ((in->_deflate & WS_DEFLATE_AGREED) == 0 ||
                                          (c->opcode != WS_TEXT && c->opcode != WS_BINARY)))
        return WS_BAD_PROTOCOL;
    switch (c->opcode) {
    case WS_CONTINUATION: return in->_opcode ? WS_NEED_MORE : WS_BAD_PROTOCOL;
    case WS_TEXT:
    case WS_BINARY: return in->_opcode ? WS_BAD_PROTOCOL : WS_NEED_MORE;
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG: return c->fin ? WS_NEED_MORE : WS_BAD_PROTOCOL;
    default: return WS_BAD_PROTOCOL;
    }
}

static enum ws_result judge_second_byte(struct ws_context *c)
{
    uint8_t length = c->header[1] & 0x7f;

    if (!(c->header[1] & 0x80)) /* a client must mask */
        return WS_BAD_PROTOCOL;
    if (is_control(c->opcode) && length > WS_CONTROL_MAX)
        return WS_BAD_PROTOCOL;
    c->header_bytes = (uint8_t)(2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + MASK_BYTES);
    return WS_NEED_MORE;
}

/* All bytes of the length have come, the mask has not. */
static enum ws_result judge_length(const struct ws_in *in, struct ws_context *c,
                                   uint32_t message_bytes_max)
{
    uint64_t length = c->header[1] & 0x7f;

    if (length > 125) {
        uint64_t shortest = length == 126 ? 126 : 65536;

        length = 0;
        for (uint8_t i = 2; i < c->header_bytes - MASK_BYTES; i++)
            length = length << 8 | c->header[i];
        if (length < shortest || length >> 63)
            return WS_BAD_PROTOCOL;
    }
    if (!is_control(c->opcode)) {
        if (in->_message_bytes > message_bytes_max ||
            length > message_bytes_max - in->_message_bytes)
            return WS_TOO_BIG;
    }
    c->frame_bytes = length;
    c->frame_bytes_left = length;
    return WS_NEED_MORE;
}

/* WS_NEED_MORE: as far as it is there the header is good. */
static enum ws_result take_header(const struct ws_in *in, struct ws_context *c, struct slice *input,
                                  uint32_t message_bytes_max)
{
    enum ws_result result = WS_NEED_MORE;

    while (input->n_bytes > 0 && result == WS_NEED_MORE) {
        c->header[c->n_header++] = (uint8_t)*input->bytes;
        input->bytes++;
        input->n_bytes--;
        if (c->n_header == 1)
            result = judge_first_byte(in, c);
        if (c->n_header == 2)
            result = judge_second_byte(c);
        if (result == WS_NEED_MORE && c->n_header == c->header_bytes - MASK_BYTES)
            result = judge_length(in, c, message_bytes_max);
        if (c->n_header == c->header_bytes)
            break;
    }
    return result;
}

/* The header is whole and good: enter it into the message. */
static void begin_frame(struct ws_in *in, struct ws_context *c)
{
    c->first = false;
    if (is_control(c->opcode))
        return;
    if (c->opcode != WS_CONTINUATION) {
        c->first = true;
        in->_opcode = c->opcode;
        in->_utf8_state = WS_UTF8_WHOLE;
        in->_deflate = (uint8_t)((in->_deflate & WS_DEFLATE_AGREED) |
                                 ((c->header[0] & WS_RSV1) != 0 ? WS_DEFLATE_MESSAGE : 0));
    }
    /* judge_length has seen that the sum is at most message_bytes_max. */
    in->_message_bytes += (uint32_t)c->frame_bytes;
}

/* Lets wslay unmask what there is of the frame. WS_DATA: `*plain` is a piece of it, perhaps
 * empty; it lies in wslay's buffer. */
static enum ws_result take_payload(struct ws_context *c, struct slice *input, struct slice *plain)
{
    uint32_t offered =
        input->n_bytes < c->frame_bytes_left ? input->n_bytes : (uint32_t)c->frame_bytes_left;
    struct wslay_frame_iocb frame;
    uint32_t taken;
    ssize_t n;

    if (offered == 0 && c->frame_bytes_left > 0)
        return WS_NEED_MORE;
    memset(&frame, 0, sizeof frame);
    c->payload = input->bytes;
    c->n_payload = offered;
    n = wslay_frame_recv(c->wslay, &frame);
    taken = offered - c->n_payload;
    c->payload = NULL;
    c->n_payload = 0;
    if (n < 0) /* we judged first, so this is only for a wslay that is stricter than we are */
        return WS_BAD_PROTOCOL;
    /* What went in came out: nothing of the frame stays behind in wslay's buffer. */
    assert(frame.data_length == taken);
    assert(frame.payload_length == c->frame_bytes);
    assert(frame.opcode == c->opcode);
    input->bytes += taken;
    input->n_bytes -= taken;
    c->frame_bytes_left -= taken;
    *plain = slice_of(frame.data, taken);
    return WS_DATA;
}

static bool close_code_is_valid(uint16_t code)
{
    if (code >= 3000 && code <= 4999) /* registered and private use */
        return true;
    /* 1004 is reserved, 1005, 1006 and 1015 are never sent; 1012 to 1014 are in the IANA
     * registry. */
    return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

static enum ws_result read_close(struct ws_piece *out)
{
    const uint8_t *bytes = (const uint8_t *)out->bytes.bytes;
    uint8_t utf8 = WS_UTF8_WHOLE;

    out->close_code = WS_CLOSE_NO_STATUS;
    if (out->bytes.n_bytes == 0)
        return WS_CONTROL;
    if (out->bytes.n_bytes == 1)
        return WS_BAD_PROTOCOL;
    out->close_code = (uint16_t)(bytes[0] << 8 | bytes[1]);
    if (!close_code_is_valid(out->close_code))
        return WS_BAD_PROTOCOL;
    if (!ws_utf8_take(&utf8, slice_of(bytes + 2, out->bytes.n_bytes - 2)) || utf8 != WS_UTF8_WHOLE)
        return WS_BAD_UTF8;
    return WS_CONTROL;
}

/* WS_NEED_MORE: the frame is not whole yet. */
static enum ws_result gather_control(struct ws_in *in, struct ws_context *c, struct slice plain,
                                     struct ws_piece *out)
{
    assert(c->n_control + plain.n_bytes <= WS_CONTROL_MAX);
    memcpy(c->control + c->n_control, plain.bytes, plain.n_bytes);
    c->n_control = (uint8_t)(c->n_control + plain.n_bytes);
    if (c->frame_bytes_left > 0)
        return WS_NEED_MORE;
    *out = (struct ws_piece){ .bytes = slice_of(c->control, c->n_control), .opcode = c->opcode };
    if (c->opcode != WS_CLOSE)
        return WS_CONTROL;
    in->_closed = 1;
    return read_close(out);
}

/* WS_NEED_MORE: nothing worth a report (an empty fragment in the middle of a message). */
static enum ws_result report_data(struct ws_in *in, struct ws_context *c, struct slice plain,
                                  struct ws_piece *out)
{
    bool last = c->fin && c->frame_bytes_left == 0;
    bool compressed = (in->_deflate & WS_DEFLATE_MESSAGE) != 0;

    if (in->_opcode == WS_TEXT && !compressed) {
        if (!ws_utf8_take(&in->_utf8_state, plain))
            return WS_BAD_UTF8;
        if (last && in->_utf8_state != WS_UTF8_WHOLE)
            return WS_BAD_UTF8;
    }
    *out = (struct ws_piece){ .bytes = plain,
                              .opcode = in->_opcode,
                              .first = c->first,
                              .last = last,
                              .compressed = compressed };
    if (plain.n_bytes == 0 && !out->first && !last)
        return WS_NEED_MORE;
    c->first = false;
    if (last) {
        in->_opcode = WS_CONTINUATION;
        in->_message_bytes = 0;
    }
    return WS_DATA;
}

/* One step within the frame under way: everything up to its next report, or to the end of the
 * frame or of the input. */
static enum ws_result step(struct ws_in *in, struct ws_context *c, struct slice *input,
                           uint32_t message_bytes_max, struct ws_piece *out)
{
    struct slice plain;
    enum ws_result result;

    if (c->header_bytes == 0 || c->n_header < c->header_bytes) {
        result = take_header(in, c, input, message_bytes_max);
        if (result != WS_NEED_MORE || c->header_bytes == 0 || c->n_header < c->header_bytes)
            return result;
        begin_frame(in, c);
    }
    result = take_payload(c, input, &plain);
    if (result != WS_DATA)
        return result;
    return is_control(c->opcode) ? gather_control(in, c, plain, out)
                                 : report_data(in, c, plain, out);
}

static bool frame_is_over(const struct ws_context *c)
{
    return c->header_bytes > 0 && c->n_header == c->header_bytes && c->frame_bytes_left == 0;
}

enum ws_result ws_next(struct ws_in *in, struct ws_pool *pool, struct slice *input,
                       uint32_t message_bytes_max, struct ws_piece *out)
{
    while (input->n_bytes > 0) {
        enum ws_result result;

        if (in->_closed) {
            input->bytes += input->n_bytes;
            input->n_bytes = 0;
            break;
        }
        if (!in->_lent) {
            in->_lent = pool_lend(pool);
            if (!in->_lent)
                return WS_NO_CONTEXT;
        }
        result = step(in, in->_lent, input, message_bytes_max, out);
        if (result != WS_NEED_MORE && result != WS_DATA && result != WS_CONTROL)
            return fail(in, pool, result);
        if (frame_is_over(in->_lent)) {
            pool_take_back(pool, in->_lent);
            in->_lent = NULL;
            if (in->_closed)
                in->_opcode =
                    WS_CONTINUATION; /* a message that a close frame cuts off will not go on */
        }
        if (result != WS_NEED_MORE)
            return result;
    }
    return WS_NEED_MORE;
}

void ws_in_deflate(struct ws_in *in)
{
    assert(!ws_in_busy(in));
    in->_deflate = WS_DEFLATE_AGREED;
}

bool ws_in_busy(const struct ws_in *in)
{
    return in->_lent || in->_opcode != WS_CONTINUATION;
}

void ws_in_reset(struct ws_in *in, struct ws_pool *pool)
{
    if (in->_lent)
        pool_discard(pool, in->_lent);
    memset(in, 0, sizeof *in);
}

uint32_t ws_put_header(uint8_t *out, enum ws_opcode opcode, uint64_t payload_bytes)
{
    uint32_t n = 2;
    uint32_t n_length = 0;

    assert(payload_bytes >> 63 == 0);
    assert(!is_control((uint8_t)opcode) || payload_bytes <= WS_CONTROL_MAX);
    out[0] = (uint8_t)(0x80 | opcode);
    if (payload_bytes <= 125) {
        out[1] = (uint8_t)payload_bytes;
    } else if (payload_bytes <= UINT16_MAX) {
        out[1] = 126;
        n_length = 2;
    } else {
        out[1] = 127;
        n_length = 8;
    }
    while (n_length > 0)
        out[n++] = (uint8_t)(payload_bytes >> 8 * --n_length);
    return n;
}

uint32_t ws_put_close(uint8_t *out, uint16_t code, const char *reason)
{
    const uint32_t reason_max = WS_CONTROL_MAX - 2;
    uint32_t n_reason;
    uint32_t n;

    if (code == WS_CLOSE_NO_STATUS)
        return ws_put_header(out, WS_CLOSE, 0);
    assert(close_code_is_valid(code));
    n_reason = reason ? (uint32_t)strnlen(reason, reason_max + 1) : 0;
    if (n_reason > reason_max) {
        n_reason = reason_max;
        while (n_reason > 0 && ((uint8_t)reason[n_reason] & 0xc0) == 0x80)
            n_reason--;
    }
    n = ws_put_header(out, WS_CLOSE, 2 + n_reason);
    out[n++] = (uint8_t)(code >> 8);
    out[n++] = (uint8_t)code;
    if (n_reason > 0)
        memcpy(out + n, reason, n_reason);
    return n + n_reason;
}
