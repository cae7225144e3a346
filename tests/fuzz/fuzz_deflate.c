/* fuzz_deflate.c: permessage-deflate: any bytes as a client's compressed message, as what is to be compressed, and as headers with offers.
 *
 * Input: a byte that says which, a byte for a limit in units of 64 bytes, then the bytes. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "proto/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define STORED 36u

static struct deflater *deflater;
static struct inflater *inflater;

/* Twice the same, and never beyond the limit. */
static void take(struct slice packed, uint32_t limit)
{
    struct slice plain, again;
    enum inflate_result result = inflater_take(inflater, packed, limit, &plain);
    char *copy = malloc(plain.n_bytes + 1);

    assert(copy != NULL);
    assert(result != INFLATE_NO_MEMORY);
    assert(plain.n_bytes <= limit);
    memcpy(copy, plain.bytes, plain.n_bytes);
    plain.bytes = copy;
    assert(inflater_take(inflater, packed, limit, &again) == result);
    assert(slice_equal(plain, again));
    free(copy);
}

static void comes_back(const uint8_t *packed, uint32_t n, struct slice plain)
{
    struct slice back;
    enum inflate_result result = inflater_take(inflater, slice_of(packed, n), plain.n_bytes, &back);

    assert(result == INFLATE_OK);
    assert(slice_equal(back, plain));
}

static void pack(struct slice plain)
{
    uint32_t room = plain.n_bytes + plain.n_bytes / 8 + 64 + STORED;
    uint8_t *out = malloc(room);
    char *whole = malloc(plain.n_bytes + STORED);
    uint32_t stored_at;
    uint32_t n;

    assert(out != NULL && whole != NULL);
    n = deflater_pack(deflater, plain, out, room);
    assert(n > 0);
    comes_back(out, n, plain);
    n = deflater_pack_open(deflater, plain, STORED, out, room, &stored_at);
    assert(n > 0);
    memset(out + stored_at, 0xa5, STORED);
    if (plain.n_bytes > 0)
        memcpy(whole, plain.bytes, plain.n_bytes);
    memset(whole + plain.n_bytes, 0xa5, STORED);
    comes_back(out, n, slice_of(whole, plain.n_bytes + STORED));
    free(whole);
    free(out);
}

/* Each line is a header. */
static void negotiate(struct slice lines)
{
    static struct http_request request;

    request.n_headers = 0;
    while (lines.n_bytes > 0 && request.n_headers < HTTP_HEADERS_MAX) {
        const char *end = memchr(lines.bytes, '\n', lines.n_bytes);
        uint32_t n = end == NULL ? lines.n_bytes : (uint32_t)(end - lines.bytes);

        request.headers[request.n_headers++] =
            (struct http_header){ slice_text("Sec-WebSocket-Extensions"),
                                  slice_of(lines.bytes, n) };
        n += end != NULL;
        lines = slice_of(lines.bytes + n, lines.n_bytes - n);
    }
    assert(strlen(deflate_header(deflate_negotiate(&request))) < 200);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy; /* of exactly that size, for the address sanitizer */
    struct slice bytes;

    if (n < 2 || n > 1u << 20)
        return 0;
    if (deflater == NULL) {
        deflater = deflater_new(1 + data[1] % 9, 8);
        inflater = inflater_new();
        assert(deflater != NULL && inflater != NULL);
    }
    copy = malloc(n - 2 > 0 ? n - 2 : 1);
    assert(copy != NULL);
    memcpy(copy, data + 2, n - 2);
    bytes = slice_of(copy, (uint32_t)n - 2);
    switch (data[0] % 3) {
    case 0: take(bytes, data[1] * 64u); break;
    case 1: pack(bytes); break;
    default: negotiate(bytes); break;
    }
    inflater_forget(inflater);
    free(copy);
    return 0;
}
