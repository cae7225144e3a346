/* gzip.c: one raw deflate stream for both codings; heads and checksums around it are written here.
 *
 * Invariant: after gzip_new the stream is at its beginning whenever no function runs; nothing is
 *            allocated between (deflateReset keeps all memory).
 * Why raw:   the wrapper is fixed when a stream is made, so zlib's own would cost a second stream
 *            (270 KB a worker) for a coding that hardly any client prefers. */
#include "proto/gzip.h"

#include <assert.h>
#include <stdlib.h>
#include <zlib.h>

#include "proto/http_host.h"

#define GZIP_HEAD    10
#define GZIP_TAIL    8
#define DEFLATE_HEAD 2
#define DEFLATE_TAIL 4

#define HEADER_LINE "Content-Encoding: gzip\r\n"
#define GAIN_LEAST  ((uint32_t)sizeof HEADER_LINE - 1)

#define Q_ONE    1000
#define Q_ABSENT (-1)

struct gzip {
    z_stream stream;
};

struct gzip *gzip_new(int level)
{
    struct gzip *g = calloc(1, sizeof *g);

    assert(level >= 1 && level <= 9);
    if (g == NULL)
        return NULL;
    if (deflateInit2(&g->stream, level, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(g);
        return NULL;
    }
    return g;
}

void gzip_free(struct gzip *g)
{
    if (g == NULL)
        return;
    (void)deflateEnd(&g->stream); /* Z_DATA_ERROR says that output was thrown away */
    free(g);
}

/* --- negotiation --- */

/* `0`, `0.5`, `1.000`: thousandths; 0 for anything else, so that a typing error forbids. */
static int32_t parse_q(struct slice text)
{
    int32_t q = 0;
    int32_t unit = 100;

    if (text.n_bytes == 0 || text.n_bytes > 5 || text.bytes[0] < '0' || text.bytes[0] > '1')
        return 0;
    q = (text.bytes[0] - '0') * Q_ONE;
    if (text.n_bytes > 1 && text.bytes[1] != '.')
        return 0;
    for (uint32_t i = 2; i < text.n_bytes; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9')
            return 0;
        q += (text.bytes[i] - '0') * unit;
        unit /= 10;
    }
    return q <= Q_ONE ? q : 0;
}

/* Splits `gzip;q=0.5` into its name and its q, in thousandths. */
static struct slice parse_element(struct slice element, int32_t *q)
{
    const char *semicolon =
        element.n_bytes > 0 ? memchr(element.bytes, ';', element.n_bytes) : NULL;
    struct slice weight;
    uint32_t n;

    *q = Q_ONE;
    if (semicolon == NULL)
        return element;
    n = (uint32_t)(semicolon - element.bytes);
    weight = http_trim(slice_of(semicolon + 1, element.n_bytes - n - 1));
    *q = 0;
    if (weight.n_bytes > 2 && (weight.bytes[0] == 'q' || weight.bytes[0] == 'Q') &&
        weight.bytes[1] == '=')
        *q = parse_q(slice_of(weight.bytes + 2, weight.n_bytes - 2));
    return http_trim(slice_of(element.bytes, n));
}

struct accepted {
    int32_t gzip, deflate, identity, star;
};

static void take_list(struct accepted *a, struct slice list)
{
    struct slice element;

    while (http_list_next(&list, &element)) {
        int32_t q;
        struct slice name = parse_element(element, &q);

        if (http_same_text(name, slice_text("gzip")) || http_same_text(name, slice_text("x-gzip")))
            a->gzip = q;
        else if (http_same_text(name, slice_text("deflate")))
            a->deflate = q;
        else if (http_same_text(name, slice_text("identity")))
            a->identity = q;
        else if (slice_is(name, "*"))
            a->star = q;
    }
}

enum coding gzip_negotiate(const struct http_request *r)
{
    struct accepted a = { Q_ABSENT, Q_ABSENT, 0, 0 };

    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (http_same_text(r->headers[i].name, slice_text("accept-encoding")))
            take_list(&a, r->headers[i].value);
    }
    if (a.gzip == Q_ABSENT)
        a.gzip = a.star;
    if (a.deflate == Q_ABSENT)
        a.deflate = a.star;
    if (a.gzip > 0 && a.gzip >= a.deflate && a.gzip >= a.identity)
        return CODING_GZIP;
    if (a.deflate > 0 && a.deflate >= a.identity)
        return CODING_DEFLATE;
    return CODING_IDENTITY;
}

const char *gzip_header(enum coding coding)
{
    switch (coding) {
    case CODING_GZIP: return HEADER_LINE;
    case CODING_DEFLATE: return "Content-Encoding: deflate\r\n";
    case CODING_IDENTITY: break;
    }
    return "";
}

/* --- compression --- */

static void put_u32_le(uint8_t *to, uint32_t n)
{
    for (uint32_t i = 0; i < 4; i++)
        to[i] = (uint8_t)(n >> 8 * i);
}

static void put_u32_be(uint8_t *to, uint32_t n)
{
    for (uint32_t i = 0; i < 4; i++)
        to[i] = (uint8_t)(n >> (24 - 8 * i));
}

/* The raw stream; 0: more than `room`. */
static uint32_t deflate_body(struct gzip *g, struct slice body, uint8_t *out, uint32_t room)
{
    z_stream *z = &g->stream;
    int result;

    z->next_in = (Bytef *)(uintptr_t)body.bytes; /* not written to: zlib.h without ZLIB_CONST */
    z->avail_in = body.n_bytes;
    z->next_out = out;
    z->avail_out = room;
    result = deflate(z, Z_FINISH);
    assert(result == Z_STREAM_END || result == Z_OK);
    room -= z->avail_out;
    if (deflateReset(z) != Z_OK)
        abort(); /* a stream that deflateInit2 has made cannot fail so */
    return result == Z_STREAM_END ? room : 0;
}

uint32_t gzip_body(struct gzip *g, enum coding coding, struct slice body, void *out, uint32_t room)
{
    static const uint8_t gzip_head[GZIP_HEAD] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
    static const uint8_t deflate_head[DEFLATE_HEAD] = { 0x78, 0x9c };
    bool is_gzip = coding == CODING_GZIP;
    uint32_t n_head = is_gzip ? GZIP_HEAD : DEFLATE_HEAD;
    uint32_t n_tail = is_gzip ? GZIP_TAIL : DEFLATE_TAIL;
    const Bytef *bytes = (const Bytef *)body.bytes;
    uint8_t *to = out;
    uint32_t n;

    assert(coding != CODING_IDENTITY);
    if (body.n_bytes <= GAIN_LEAST)
        return 0;
    if (room > body.n_bytes - GAIN_LEAST)
        room = body.n_bytes - GAIN_LEAST;
    if (room <= n_head + n_tail)
        return 0;
    n = deflate_body(g, body, to + n_head, room - n_head - n_tail);
    if (n == 0)
        return 0;
    memcpy(to, is_gzip ? gzip_head : deflate_head, n_head);
    n += n_head;
    if (is_gzip) {
        put_u32_le(to + n, (uint32_t)crc32(0, bytes, body.n_bytes));
        put_u32_le(to + n + 4, body.n_bytes);
    } else {
        put_u32_be(to + n, (uint32_t)adler32(1, bytes, body.n_bytes));
    }
    return n + n_tail;
}
