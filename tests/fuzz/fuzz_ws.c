/* fuzz_ws.c: the same client bytes must mean the same in whatever pieces they come.
 *
 * Input: a byte for the message limit, a byte for how many chunk sizes follow (low 4 bits) and
 * whether permessage-deflate was agreed on (16), those sizes, then the wire. It is read at once, in those chunks over and over, and byte by byte; what
 * came whole, how it ended and what is left open must be equal. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "proto/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct outcome {
    uint64_t sum; /* over all that came whole, in order */
    uint32_t n_whole;
    enum ws_result last;
    bool busy;
};

struct reader {
    struct ws_pool *pool;
    struct ws_in in;
    uint32_t limit;
    uint64_t message_sum;
    uint32_t message_bytes;
    bool in_message;
    struct outcome outcome;
};

static uint64_t add(uint64_t sum, const void *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        sum = (sum ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
    return sum;
}

static void whole(struct reader *r, const struct ws_piece *piece, uint64_t sum)
{
    r->outcome.n_whole++;
    r->outcome.sum = add(r->outcome.sum, &piece->opcode, sizeof piece->opcode);
    r->outcome.sum = add(r->outcome.sum, &piece->close_code, sizeof piece->close_code);
    r->outcome.sum = add(r->outcome.sum, &sum, sizeof sum);
}

static void on_data(struct reader *r, const struct ws_piece *piece)
{
    assert(piece->opcode == WS_TEXT || piece->opcode == WS_BINARY);
    assert(!piece->compressed || (r->in._deflate & WS_DEFLATE_AGREED) != 0);
    assert(piece->first == !r->in_message);
    if (piece->first) {
        r->message_sum = 0;
        r->message_bytes = 0;
    }
    r->message_sum = add(r->message_sum, piece->bytes.bytes, piece->bytes.n_bytes);
    r->message_bytes += piece->bytes.n_bytes;
    assert(r->message_bytes <= r->limit);
    r->in_message = !piece->last;
    if (piece->last)
        whole(r, piece, r->message_sum);
}

static void on_control(struct reader *r, const struct ws_piece *piece)
{
    assert(piece->opcode == WS_CLOSE || piece->opcode == WS_PING || piece->opcode == WS_PONG);
    assert(piece->bytes.n_bytes <= WS_CONTROL_MAX);
    whole(r, piece, add(0, piece->bytes.bytes, piece->bytes.n_bytes));
}

/* False when the wire is at fault. */
static bool feed(struct reader *r, const uint8_t *bytes, uint32_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct slice input;

    assert(copy);
    if (n > 0)
        memcpy(copy, bytes, n);
    input = slice_of(copy, n);
    for (;;) {
        struct ws_piece piece;
        enum ws_result result = ws_next(&r->in, r->pool, &input, r->limit, &piece);

        assert(input.bytes + input.n_bytes == (const char *)copy + n);
        assert(ws_pool_lent(r->pool) == (r->in._lent ? 1 : 0));
        assert(result != WS_NO_CONTEXT);
        if (result == WS_DATA) {
            on_data(r, &piece);
            continue;
        }
        if (result == WS_CONTROL) {
            on_control(r, &piece);
            continue;
        }
        assert(result != WS_NEED_MORE || input.n_bytes == 0);
        r->outcome.last = result;
        free(copy);
        return result == WS_NEED_MORE;
    }
}

static struct outcome read_all(const uint8_t *wire, uint32_t n, const uint8_t *sizes,
                               uint32_t n_sizes, uint32_t limit, bool deflate)
{
    struct reader r = { .limit = limit };
    uint32_t at = 0;

    r.pool = ws_pool_new(1);
    assert(r.pool);
    if (deflate)
        ws_in_deflate(&r.in);
    for (uint32_t i = 0; at < n; i++) {
        uint32_t size = n_sizes > 0 ? sizes[i % n_sizes] + 1U : n;

        if (size > n - at)
            size = n - at;
        if (!feed(&r, wire + at, size))
            break;
        at += size;
    }
    r.outcome.busy = ws_in_busy(&r.in);
    ws_in_reset(&r.in, r.pool);
    assert(ws_pool_lent(r.pool) == 0);
    ws_pool_free(r.pool);
    return r.outcome;
}

static void same(struct outcome a, struct outcome b)
{
    assert(a.n_whole == b.n_whole);
    assert(a.sum == b.sum);
    assert(a.last == b.last);
    assert(a.busy == b.busy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t one_by_one[] = { 0 };
    struct outcome at_once;
    uint32_t limit;
    uint32_t n_sizes;
    bool deflate;

    if (n < 2 || n > 1U << 20)
        return 0;
    limit = data[0] == 255 ? UINT32_MAX : data[0] * 64U;
    n_sizes = data[1] & 15;
    deflate = (data[1] & 16) != 0;
    if (n_sizes > n - 2)
        return 0;
    data += 2;
    n -= 2;
    at_once = read_all(data + n_sizes, (uint32_t)n - n_sizes, NULL, 0, limit, deflate);
    same(at_once, read_all(data + n_sizes, (uint32_t)n - n_sizes, data, n_sizes, limit, deflate));
    same(at_once, read_all(data + n_sizes, (uint32_t)n - n_sizes, one_by_one, 1, limit, deflate));
    return 0;
}
