/* ws_run.h: feeds client frames to ws_next in whatever pieces. Shared by the tests of ws.c.
 *
 * A run's outcome is written as one line: T"text" B"binary" P"ping" O"pong" C1000"reason" for what
 * came whole (with a z in front if it was compressed), then ~ (in the middle of a frame or message), . (idle) or !1002 and the like. It must
 * not depend on the cuts. */
#ifndef PEAL_TESTS_WS_RUN_H
#define PEAL_TESTS_WS_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/ws.h"

#define HELPER   __attribute__((unused))
#define WIRE_MAX 200000
#define MASKED   0x80

struct wire {
    uint8_t bytes[WIRE_MAX];
    uint32_t n;
};

struct run {
    struct ws_pool *pool;
    struct ws_in in;
    uint32_t limit;
    char line[4096];
    size_t n_line;
    uint8_t message[WIRE_MAX];
    uint32_t n_message;
    bool in_message;
    bool failed;
    uint32_t n_fed;
};

static bool deflate; /* the client has agreed on it */

static struct wire wire;
static struct run run;

/* ---- Building frames ---- */

HELPER static void wire_clear(void)
{
    wire.n = 0;
}

HELPER static void put(uint8_t byte)
{
    assert_true(wire.n < WIRE_MAX);
    wire.bytes[wire.n++] = byte;
}

HELPER static void put_number(uint64_t value, int n_bytes)
{
    while (n_bytes-- > 0)
        put((uint8_t)(value >> (8 * n_bytes)));
}

HELPER static void put_zeros(uint32_t n)
{
    while (n-- > 0)
        put(0);
}

/* `form`: bytes of the long length, 0, 2 or 8. */
HELPER static void put_frame_in_form(uint8_t first, const void *payload, uint32_t n, int form)
{
    static const uint8_t mask[4] = { 0x11, 0x22, 0x33, 0x44 };

    put(first);
    put((uint8_t)(MASKED | (form == 8 ? 127 : form == 2 ? 126 : n)));
    put_number(n, form);
    for (int i = 0; i < 4; i++)
        put(mask[i]);
    for (uint32_t i = 0; i < n; i++)
        put(((const uint8_t *)payload)[i] ^ mask[i % 4]);
}

HELPER static void put_frame(uint8_t first, const void *payload, uint32_t n)
{
    put_frame_in_form(first, payload, n, n > 65535 ? 8 : n > 125 ? 2 : 0);
}

HELPER static void put_text(uint8_t first, const char *payload)
{
    put_frame(first, payload, (uint32_t)strlen(payload));
}

/* ---- Running them ---- */

static void write_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

HELPER static void write_line(const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(run.line + run.n_line, sizeof run.line - run.n_line, format, args);
    va_end(args);
    assert_true(n >= 0);
    assert_true((size_t)n < sizeof run.line - run.n_line);
    run.n_line += (size_t)n;
}

/* Long payloads as length and sum. */
HELPER static void write_payload(const void *payload, uint32_t n)
{
    uint32_t sum = 0;

    if (n <= 60) {
        write_line("\"%.*s\"", (int)n, (const char *)payload);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        sum = sum * 31 + ((const uint8_t *)payload)[i];
    write_line("<%u:%08x>", n, sum);
}

HELPER static void on_piece(const struct ws_piece *piece)
{
    assert_true(piece->opcode == WS_TEXT || piece->opcode == WS_BINARY);
    assert_int_equal(piece->first, !run.in_message);
    if (piece->first)
        run.n_message = 0;
    run.in_message = !piece->last;
    assert_true(run.n_message + piece->bytes.n_bytes <= run.limit);
    if (piece->bytes.n_bytes > 0)
        memcpy(run.message + run.n_message, piece->bytes.bytes, piece->bytes.n_bytes);
    run.n_message += piece->bytes.n_bytes;
    if (piece->last) {
        write_line(piece->compressed ? "z" : "");
        write_line(piece->opcode == WS_TEXT ? "T" : "B");
        write_payload(run.message, run.n_message);
    }
}

HELPER static void on_control(const struct ws_piece *piece)
{
    if (piece->opcode == WS_CLOSE) {
        write_line("C%u", piece->close_code);
        if (piece->bytes.n_bytes > 2)
            write_payload(piece->bytes.bytes + 2, piece->bytes.n_bytes - 2);
        return;
    }
    write_line(piece->opcode == WS_PING ? "P" : "O");
    write_payload(piece->bytes.bytes, piece->bytes.n_bytes);
}

/* The bytes are a copy of exactly that size, gone afterwards, so that sanitizers see who reads beyond or keeps a pointer. */
HELPER static void feed(const uint8_t *bytes, uint32_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct slice input;

    assert_non_null(copy);
    if (n > 0)
        memcpy(copy, bytes, n);
    input = slice_of(copy, n);
    while (!run.failed) {
        struct ws_piece piece;
        uint32_t before = input.n_bytes;
        enum ws_result result = ws_next(&run.in, run.pool, &input, run.limit, &piece);

        assert_true(input.n_bytes <= before);
        assert_ptr_equal(input.bytes, copy + (n - input.n_bytes));
        assert_int_equal(ws_pool_lent(run.pool), run.in._lent ? 1 : 0);
        if (result == WS_NEED_MORE) {
            assert_int_equal(input.n_bytes, 0);
            break;
        }
        switch (result) {
        case WS_DATA: on_piece(&piece); break;
        case WS_CONTROL: on_control(&piece); break;
        case WS_BAD_PROTOCOL:
            write_line("!1002");
            run.failed = true;
            break;
        case WS_BAD_UTF8:
            write_line("!1007");
            run.failed = true;
            break;
        case WS_TOO_BIG:
            write_line("!1009");
            run.failed = true;
            break;
        case WS_NEED_MORE:
        case WS_NO_CONTEXT: fail_msg("result %d", (int)result);
        }
    }
    if (!run.failed)
        run.n_fed += n;
    free(copy);
}

HELPER static void begin(uint32_t limit)
{
    memset(&run.in, 0, sizeof run.in);
    if (deflate)
        ws_in_deflate(&run.in);
    run.limit = limit;
    run.n_line = 0;
    run.line[0] = '\0';
    run.in_message = false;
    run.failed = false;
    run.n_fed = 0;
    run.pool = ws_pool_new(1);
    assert_non_null(run.pool);
}

HELPER static void end(const char *expected, const char *how, uint32_t cut)
{
    if (!run.failed)
        write_line(ws_in_busy(&run.in) ? "~" : ".");
    ws_in_reset(&run.in, run.pool);
    assert_int_equal(ws_pool_lent(run.pool), 0);
    assert_false(ws_in_busy(&run.in));
    ws_pool_free(run.pool);
    if (strcmp(run.line, expected) != 0)
        fail_msg("%s %u: got %s, expected %s", how, cut, run.line, expected);
}

HELPER static void run_cut_at(uint32_t cut, uint32_t limit, const char *expected)
{
    begin(limit);
    feed(wire.bytes, cut);
    feed(wire.bytes + cut, wire.n - cut);
    end(expected, "cut at", cut);
}

HELPER static void run_in_chunks(uint32_t size, uint32_t limit, const char *expected)
{
    begin(limit);
    for (uint32_t at = 0; at < wire.n; at += size)
        feed(wire.bytes + at, wire.n - at < size ? wire.n - at : size);
    end(expected, "chunks of", size);
}

/* The wire at once, cut at every byte, and in chunks of 1 to 9 bytes. */
HELPER static void expect(uint32_t limit, const char *expected)
{
    for (uint32_t cut = 0; cut <= wire.n; cut++)
        run_cut_at(cut, limit, expected);
    for (uint32_t size = 1; size < 10; size++)
        run_in_chunks(size, limit, expected);
}

/* Fed byte by byte the fault shows at byte `at` (from 1) and not before. */
HELPER static void expect_fault_at(uint32_t at, uint32_t limit, const char *expected)
{
    expect(limit, expected);
    begin(limit);
    for (uint32_t i = 0; i < wire.n; i++)
        feed(wire.bytes + i, 1);
    assert_int_equal(run.n_fed + 1, at);
    end(expected, "fault at", at);
}

#endif
