/* msgpack.c: walking foreign MessagePack, and writing it as notepack.io 3 does.
 *
 * Invariant: a reader never looks at a byte behind `rest`, and no count is believed that the
 *            bytes left could not hold.
 * Why own code: the walkers of libmsgpuck 1.0.3 overflow on lengths of 2^31 and more, and know
 *               neither depth nor old notepack forms. */
#include "proto/msgpack.h"

#include <math.h>
#include <stddef.h>

#include "proto/json.h"

#define MAX_SAFE 9007199254740992.0 /* 2^53: up to here integers are exact, and notepack right */

/* ---- sink ---- */

struct msgpack_sink msgpack_sink_of(void *bytes, uint32_t n_max)
{
    return (struct msgpack_sink){ .bytes = (char *)bytes, .n_max = n_max };
}

struct slice msgpack_sink_slice(const struct msgpack_sink *sink, uint32_t from)
{
    return slice_of(sink->bytes + from, sink->n_bytes - from);
}

/* Room for n more bytes, or NULL. */
static char *sink_take(struct msgpack_sink *sink, uint32_t n_bytes)
{
    char *at = sink->bytes + sink->n_bytes;

    if (sink->too_big || n_bytes > sink->n_max - sink->n_bytes) {
        sink->too_big = true;
        return NULL;
    }
    sink->n_bytes += n_bytes;
    return at;
}

void msgpack_put_bytes(struct msgpack_sink *sink, struct slice bytes)
{
    char *at = sink_take(sink, bytes.n_bytes);

    if (at != NULL && bytes.n_bytes > 0)
        memcpy(at, bytes.bytes, bytes.n_bytes);
}

void msgpack_put_text(struct msgpack_sink *sink, const char *text)
{
    msgpack_put_bytes(sink, slice_text(text));
}

void msgpack_put_json_string(struct msgpack_sink *sink, struct slice text)
{
    uint64_t n_worst = 6 * (uint64_t)text.n_bytes + 2;
    uint32_t n;

    if (sink->too_big)
        return;
    if (n_worst <= sink->n_max - sink->n_bytes) {
        sink->n_bytes += json_put_string(sink->bytes + sink->n_bytes, text);
        return;
    }
    /* near the end of the sink only: measured first. A text too long for the length to be
     * measured in 32 bits does not fit anyway */
    if (text.n_bytes > sink->n_max - sink->n_bytes || n_worst > UINT32_MAX) {
        sink->too_big = true;
        return;
    }
    n = json_put_string(NULL, text);
    if (sink_take(sink, n) != NULL)
        (void)json_put_string(sink->bytes + sink->n_bytes - n, text);
}

void *msgpack_sink_reserve(struct msgpack_sink *sink, uint64_t n_bytes)
{
    uintptr_t end = (uintptr_t)sink->bytes + sink->n_bytes;
    uint32_t pad = (uint32_t)(-end & (_Alignof(max_align_t) - 1));

    if (sink->too_big || n_bytes > UINT32_MAX - pad ||
        n_bytes + pad > sink->n_max - sink->n_bytes) {
        sink->too_big = true;
        return NULL;
    }
    return sink_take(sink, pad + (uint32_t)n_bytes) + pad;
}

/* ---- reading ---- */

static uint64_t big_endian(const char *bytes, uint32_t n_bytes)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < n_bytes; i++)
        value = value << 8 | (uint8_t)bytes[i];
    return value;
}

static bool take(struct slice *rest, uint32_t n_bytes, struct slice *out)
{
    if (n_bytes > rest->n_bytes)
        return false;
    *out = slice_of(rest->bytes, n_bytes);
    *rest = slice_of(rest->bytes + n_bytes, rest->n_bytes - n_bytes);
    return true;
}

static bool take_uint(struct slice *rest, uint32_t n_bytes, uint64_t *out)
{
    struct slice bytes;

    if (!take(rest, n_bytes, &bytes))
        return false;
    *out = big_endian(bytes.bytes, n_bytes);
    return true;
}

static bool read_counted(struct slice *rest, enum msgpack_kind kind, uint64_t n,
                         struct msgpack_value *out)
{
    out->kind = kind;
    if (kind == MSGPACK_ARRAY || kind == MSGPACK_MAP) {
        out->n_items = (uint32_t)n;
        return n <= rest->n_bytes /
                        (kind == MSGPACK_MAP ? 2u : 1u); /* each item has at least one byte */
    }
    return take(rest, (uint32_t)n, &out->bytes);
}

static double read_float(uint64_t bits, uint32_t n_bytes)
{
    uint32_t bits32 = (uint32_t)bits;
    double wide;
    float narrow;

    if (n_bytes == 4) {
        memcpy(&narrow, &bits32, sizeof narrow);
        return (double)narrow;
    }
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static bool read_number(struct slice *rest, uint8_t head, struct msgpack_value *out)
{
    uint32_t n_bytes = head < 0xcc ? 4u << (head - 0xca) : 1u << ((head - 0xcc) & 3);
    uint64_t bits;

    out->kind = MSGPACK_NUMBER;
    if (!take_uint(rest, n_bytes, &bits))
        return false;
    if (head < 0xcc)
        out->number = read_float(bits, n_bytes);
    else if (head < 0xd0)
        out->number = (double)bits; /* rounded once, as in JavaScript */
    else
        out->number = (double)((int64_t)(bits << (64 - 8 * n_bytes)) >> (64 - 8 * n_bytes));
    return true;
}

/* What a Date constructor of JavaScript keeps: whole milliseconds within 100 million days, else
 * an invalid date. */
static double time_clip(double ms)
{
    return fabs(ms) <= 8.64e15 ? trunc(ms) + 0.0 : NAN;
}

/* Type -1: timestamps of 4, 8 or 12 bytes, but notepack knows them only under the heads d6, d7
 * and c7. */
static void read_timestamp(const char *bytes, uint32_t n_bytes, struct msgpack_value *out)
{
    uint64_t high = big_endian(bytes, 4);
    double ms;

    if (n_bytes == 4) {
        ms = (double)high * 1e3;
    } else if (n_bytes == 8) {
        ms =
            (double)((high & 3) << 32 | big_endian(bytes + 4, 4)) * 1e3 + (double)(high >> 2) / 1e6;
    } else {
        ms = (double)(int64_t)big_endian(bytes + 4, 8) * 1e3 + (double)high / 1e6;
    }
    out->kind = MSGPACK_DATE;
    out->number = time_clip(ms);
}

static bool read_ext(struct slice *rest, uint8_t head, struct msgpack_value *out)
{
    bool is_fixed = head >= 0xd4;
    uint64_t n = is_fixed ? 1u << (head - 0xd4) : 0;
    uint64_t type;

    if (!is_fixed && !take_uint(rest, 1u << (head - 0xc7), &n))
        return false;
    if (!take_uint(rest, 1, &type) || !take(rest, (uint32_t)n, &out->bytes))
        return false;
    out->ext_type = (int8_t)type;
    out->kind = MSGPACK_EXT;
    if (out->ext_type == 0 && !is_fixed) {
        out->kind = MSGPACK_BINARY;
    } else if (out->ext_type == 0 && head == 0xd4) {
        out->kind = MSGPACK_UNDEFINED;
    } else if (out->ext_type == 0 && head == 0xd7) {
        out->kind = MSGPACK_DATE;
        out->number = time_clip((double)(int64_t)big_endian(out->bytes.bytes, 8));
    } else if (out->ext_type == -1 && (head == 0xd6 || head == 0xd7 || head == 0xc7)) {
        if (head == 0xc7 && n != 12)
            return false; /* notepack would read 12 bytes whatever the length says */
        read_timestamp(out->bytes.bytes, (uint32_t)n, out);
    }
    return true;
}

MUST_USE bool msgpack_read(struct slice *rest, struct msgpack_value *out)
{
    struct slice first;
    uint8_t head;
    uint64_t n;

    *out = (struct msgpack_value){ .kind = MSGPACK_NIL };
    if (!take(rest, 1, &first))
        return false;
    head = (uint8_t)first.bytes[0];
    if (head < 0x80 || head >= 0xe0) {
        out->kind = MSGPACK_NUMBER;
        out->number = (int8_t)head;
        return true;
    }
    if (head < 0x90)
        return read_counted(rest, MSGPACK_MAP, head & 15, out);
    if (head < 0xa0)
        return read_counted(rest, MSGPACK_ARRAY, head & 15, out);
    if (head < 0xc0)
        return read_counted(rest, MSGPACK_STRING, head & 31, out);
    if (head < 0xc4) {
        out->kind = head == 0xc0 ? MSGPACK_NIL : MSGPACK_BOOL;
        out->boolean = head == 0xc3;
        return head != 0xc1;
    }
    if (head < 0xc7)
        return take_uint(rest, 1u << (head - 0xc4), &n) &&
               read_counted(rest, MSGPACK_BINARY, n, out);
    if (head < 0xca || (head >= 0xd4 && head < 0xd9))
        return read_ext(rest, head, out);
    if (head < 0xd4)
        return read_number(rest, head, out);
    if (head < 0xdc)
        return take_uint(rest, 1u << (head - 0xd9), &n) &&
               read_counted(rest, MSGPACK_STRING, n, out);
    return take_uint(rest, head & 1 ? 4 : 2, &n) &&
           read_counted(rest, head < 0xde ? MSGPACK_ARRAY : MSGPACK_MAP, n, out);
}

MUST_USE bool msgpack_skip(struct slice *rest)
{
    uint64_t left[MSGPACK_DEPTH_MAX]; /* values still to come in each open container */
    uint32_t depth = 0;
    struct msgpack_value value;

    do {
        if (depth > 0)
            left[depth - 1]--;
        if (!msgpack_read(rest, &value))
            return false;
        if (value.kind == MSGPACK_ARRAY || value.kind == MSGPACK_MAP) {
            if (depth == MSGPACK_DEPTH_MAX)
                return false;
            left[depth++] = (uint64_t)value.n_items * (value.kind == MSGPACK_MAP ? 2u : 1u);
        }
        while (depth > 0 && left[depth - 1] == 0)
            depth--;
    } while (depth > 0);
    return true;
}

/* ---- writing ---- */

static void put_head(struct msgpack_sink *sink, uint8_t head, uint64_t value, uint32_t n_bytes)
{
    char *at = sink_take(sink, 1 + n_bytes);

    if (at == NULL)
        return;
    at[0] = (char)head;
    for (uint32_t i = 0; i < n_bytes; i++)
        at[1 + i] = (char)(value >> 8 * (n_bytes - 1 - i));
}

void msgpack_put_nil(struct msgpack_sink *sink)
{
    put_head(sink, 0xc0, 0, 0);
}

void msgpack_put_bool(struct msgpack_sink *sink, bool value)
{
    put_head(sink, value ? 0xc3 : 0xc2, 0, 0);
}

static void put_integer(struct msgpack_sink *sink, int64_t value)
{
    uint64_t bits = (uint64_t)value;

    if (value >= -0x20 && value < 0x80)
        put_head(sink, (uint8_t)bits, 0, 0);
    else if (value >= 0 && bits < 0x100)
        put_head(sink, 0xcc, bits, 1);
    else if (value >= 0 && bits < 0x10000)
        put_head(sink, 0xcd, bits, 2);
    else if (value >= 0 && bits < 0x100000000)
        put_head(sink, 0xce, bits, 4);
    else if (value >= 0)
        put_head(sink, 0xcf, bits, 8);
    else if (value >= INT8_MIN)
        put_head(sink, 0xd0, bits, 1);
    else if (value >= INT16_MIN)
        put_head(sink, 0xd1, bits, 2);
    else if (value >= INT32_MIN)
        put_head(sink, 0xd2, bits, 4);
    else
        put_head(sink, 0xd3, bits, 8);
}

void msgpack_put_number(struct msgpack_sink *sink, double value)
{
    uint64_t bits;

    if (fabs(value) <= MAX_SAFE && trunc(value) == value) {
        put_integer(sink, (int64_t)value);
        return;
    }
    memcpy(&bits, &value, sizeof bits);
    put_head(sink, 0xcb, bits, 8);
}

void msgpack_put_string(struct msgpack_sink *sink, struct slice text)
{
    if (text.n_bytes < 0x20)
        put_head(sink, (uint8_t)(0xa0 | text.n_bytes), 0, 0);
    else if (text.n_bytes < 0x100)
        put_head(sink, 0xd9, text.n_bytes, 1);
    else if (text.n_bytes < 0x10000)
        put_head(sink, 0xda, text.n_bytes, 2);
    else
        put_head(sink, 0xdb, text.n_bytes, 4);
    msgpack_put_bytes(sink, text);
}

void msgpack_put_binary(struct msgpack_sink *sink, struct slice bytes)
{
    if (bytes.n_bytes < 0x100)
        put_head(sink, 0xc4, bytes.n_bytes, 1);
    else if (bytes.n_bytes < 0x10000)
        put_head(sink, 0xc5, bytes.n_bytes, 2);
    else
        put_head(sink, 0xc6, bytes.n_bytes, 4);
    msgpack_put_bytes(sink, bytes);
}

static void put_count(struct msgpack_sink *sink, uint8_t fix, uint8_t head16, uint32_t n)
{
    if (n < 0x10)
        put_head(sink, (uint8_t)(fix | n), 0, 0);
    else if (n < 0x10000)
        put_head(sink, head16, n, 2);
    else
        put_head(sink, (uint8_t)(head16 + 1), n, 4);
}

void msgpack_put_array(struct msgpack_sink *sink, uint32_t n_items)
{
    put_count(sink, 0x90, 0xdc, n_items);
}

void msgpack_put_map(struct msgpack_sink *sink, uint32_t n_members)
{
    put_count(sink, 0x80, 0xde, n_members);
}
