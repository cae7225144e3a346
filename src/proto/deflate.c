/* deflate.c: see deflate.h. One raw stream for each direction, allocated once: resetting keeps its memory and forgets what went through it, so that no client's
 * message is ever part of what another one gets. */
#include "proto/deflate.h"

#include <assert.h>
#include <stdlib.h>
#include <zlib.h>

#define PLAIN_FIRST 4096u
#define PLAIN_KEPT  (256u << 10)

/* How a flushed stream ends: the length, and its complement, of an empty stored block. A message goes without them (RFC 7692 section 7.2.1). */
static const uint8_t tail[4] = { 0x00, 0x00, 0xff, 0xff };

/* --- compressing --- */

struct deflater {
    z_stream stream;
};

/* zlib.h: "(1 << (windowBits+2)) + (1 << (memLevel+9))", and some kilobytes. */
uint32_t deflater_bytes(int mem_level)
{
    return (1u << (MAX_WBITS + 2)) + (1u << (mem_level + 9)) + (8u << 10);
}

struct deflater *deflater_new(int level, int mem_level)
{
    struct deflater *d = calloc(1, sizeof *d);

    if (d != NULL && deflateInit2(&d->stream, level, Z_DEFLATED, -MAX_WBITS, mem_level,
                                  Z_DEFAULT_STRATEGY) != Z_OK) {
        free(d);
        return NULL;
    }
    return d;
}

void deflater_free(struct deflater *d)
{
    if (d == NULL)
        return;
    (void)deflateEnd(&d->stream); /* Z_DATA_ERROR says that output was thrown away */
    free(d);
}

/* Everything up to the end of a flush, the tail included. 0: it takes `room` or more. */
static uint32_t flush(struct deflater *d, struct slice plain, uint8_t *out, uint32_t room)
{
    z_stream *z = &d->stream;
    uint32_t n;
    int result;

    if (room <= sizeof tail)
        return 0;
    z->next_in = (Bytef *)(uintptr_t)(plain.n_bytes > 0 ? plain.bytes : "");
    z->avail_in = plain.n_bytes;
    z->next_out = out;
    z->avail_out = room;
    result = deflate(z, Z_SYNC_FLUSH);
    n = room - z->avail_out;
    if (result != Z_OK || z->avail_in > 0 || z->avail_out == 0)
        n = 0; /* a full buffer may not be all of it */
    result = deflateReset(z);
    assert(result == Z_OK);
    assert(n == 0 || memcmp(out + n - sizeof tail, tail, sizeof tail) == 0);
    return n;
}

uint32_t deflater_pack(struct deflater *d, struct slice plain, uint8_t *out, uint32_t room)
{
    uint32_t n = flush(d, plain, out, room);

    return n == 0 ? 0 : n - (uint32_t)sizeof tail;
}

uint32_t deflater_pack_open(struct deflater *d, struct slice plain, uint32_t n_stored, uint8_t *out,
                            uint32_t room, uint32_t *stored_at)
{
    uint32_t n;
    uint8_t *at;

    assert(n_stored > 0 && n_stored <= UINT16_MAX);
    if (room <= n_stored + 1)
        return 0;
    n = flush(d, plain, out, room - n_stored - 1);
    if (n == 0)
        return 0;
    /* The flush ended in the head of an empty stored block: it becomes that of ours. Behind our bytes the head of another one begins, whose rest is the tail
     * that receivers add. */
    at = out + n - sizeof tail;
    at[0] = (uint8_t)n_stored;
    at[1] = (uint8_t)(n_stored >> 8);
    at[2] = (uint8_t)~at[0];
    at[3] = (uint8_t)~at[1];
    *stored_at = n;
    out[n + n_stored] = 0;
    return n + n_stored + 1;
}

/* --- decompressing --- */

struct inflater {
    z_stream stream;
    uint8_t *plain;
    uint32_t room;
    uint32_t n;
};

struct inflater *inflater_new(void)
{
    struct inflater *in = calloc(1, sizeof *in);

    if (in != NULL && inflateInit2(&in->stream, -MAX_WBITS) != Z_OK) {
        free(in);
        return NULL;
    }
    return in;
}

void inflater_free(struct inflater *in)
{
    if (in == NULL)
        return;
    (void)inflateEnd(&in->stream);
    free(in->plain);
    free(in);
}

void inflater_forget(struct inflater *in)
{
    if (in->room <= PLAIN_KEPT)
        return;
    free(in->plain);
    in->plain = NULL;
    in->room = 0;
}

/* Room for one byte more than may come, at most: that one tells that it is too much. */
static bool grow(struct inflater *in, uint32_t bytes_max)
{
    uint64_t want = in->room == 0 ? PLAIN_FIRST : (uint64_t)in->room * 2;
    uint8_t *larger;

    if (in->n < in->room)
        return true;
    if (want > (uint64_t)bytes_max + 1)
        want = (uint64_t)bytes_max + 1;
    assert(want > in->n);
    larger = want > UINT32_MAX ? NULL : realloc(in->plain, want);
    if (larger == NULL)
        return false;
    in->plain = larger;
    in->room = (uint32_t)want;
    return true;
}

/* One call of zlib. */
static int step(struct inflater *in)
{
    z_stream *z = &in->stream;
    int result;

    z->next_out = in->plain + in->n;
    z->avail_out = in->room - in->n;
    result = inflate(z, Z_SYNC_FLUSH);
    in->n = in->room - z->avail_out;
    return result;
}

/* Takes all of `input`. `ended`: it ended, to the byte, in a block with BFINAL. */
static enum inflate_result take(struct inflater *in, const uint8_t *input, uint32_t n_input,
                                uint32_t bytes_max, bool *ended)
{
    z_stream *z = &in->stream;

    *ended = false;
    z->next_in = (Bytef *)(uintptr_t)input;
    z->avail_in = n_input;
    for (;;) { /* each round takes input, or gives output, or ends */
        if (!grow(in, bytes_max))
            return INFLATE_NO_MEMORY;
        switch (step(in)) {
        case Z_OK:
        case Z_BUF_ERROR: /* it could do nothing: not an error */ break;
        case Z_STREAM_END:
            if (in->n > bytes_max)
                return INFLATE_TOO_BIG;
            *ended = z->avail_in == 0;
            if (*ended)
                return INFLATE_OK;
            (void)inflateReset(z); /* keeps next_in: another block may follow */
            continue;
        case Z_MEM_ERROR: return INFLATE_NO_MEMORY;
        default: return INFLATE_CORRUPT;
        }
        if (in->n > bytes_max)
            return INFLATE_TOO_BIG;
        if (z->avail_out > 0) {
            assert(z->avail_in == 0);
            return INFLATE_OK;
        }
    }
}

enum inflate_result inflater_take(struct inflater *in, struct slice packed, uint32_t bytes_max,
                                  struct slice *plain)
{
    enum inflate_result result;
    bool ended;

    assert(bytes_max < UINT32_MAX);
    in->n = 0;
    *plain = slice_text("");
    if (packed.n_bytes == 0)
        return INFLATE_OK;
    (void)inflateReset(&in->stream);
    result = take(in, (const uint8_t *)packed.bytes, packed.n_bytes, bytes_max, &ended);
    if (result == INFLATE_OK && !ended) {
        result = take(in, tail, sizeof tail, bytes_max, &ended);
        /* data_type: 128 says that a block has just ended (zlib.h). Elsewhere the message was cut off. */
        if (result == INFLATE_OK && !ended && (in->stream.data_type & 128) == 0)
            result = INFLATE_CORRUPT;
    }
    if (result == INFLATE_OK && in->n > 0)
        *plain = slice_of(in->plain, in->n);
    return result;
}
