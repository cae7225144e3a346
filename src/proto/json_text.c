/* json_text.c: what JSON strings mean, and how JavaScript would write them.
 *
 * Invariant: no byte behind a string is read, validated or not; what is written is UTF-8.
 * Owns:      nothing. Memory is the caller's and on the stack.
 * Why:       names are compared by what they mean (`"\u0061"` is `"a"`), as every peer does that
 *            parses them; and what a client sent may be quoted whatever bytes it has. */
#include "proto/json.h"

#include <assert.h>

#define REPLACEMENT 0xfffdu

uint32_t json_utf8_step(const char *at, const char *end, bool *good)
{
    unsigned char lead = (unsigned char)at[0];
    unsigned char low =
        0x80; /* of the second byte: shuts out long forms, surrogates and what is beyond U+10FFFF */
    unsigned char high = 0xbf;
    uint32_t n_bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    *good = lead < 0x80;
    if (lead < 0xc2 || lead > 0xf4)
        return 1;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (uint32_t i = 1; i < n_bytes; i++) {
        if (at + i == end || (unsigned char)at[i] < low || (unsigned char)at[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    *good = true;
    return n_bytes;
}

static bool is_surrogate(uint32_t code, uint32_t first)
{
    return code >= first && code < first + 0x400;
}

/* Writes a code point below 0x110000 as UTF-8 (a lone surrogate too, as three bytes that are no
 * UTF-8). Returns the length. */
static uint32_t put_code(char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Four hex digits behind a "\u" at `at`; false if there is no such escape. */
static bool take_unicode_escape(const char *at, const char *end, uint32_t *code)
{
    *code = 0;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return false;
    for (uint32_t i = 2; i < 6; i++) {
        uint32_t c = (unsigned char)at[i];
        uint32_t letter = (c | 0x20) - 'a';

        if (c - '0' < 10)
            *code = *code << 4 | (c - '0');
        else if (letter < 6)
            *code = *code << 4 | (letter + 10);
        else
            return false;
    }
    return true;
}

/* The escape at `*at` (a backslash) as a code point; a lone surrogate comes as itself. Moves behind
 * it. */
static uint32_t take_escape(const char **at, const char *end)
{
    static const char names[] = "bfnrt";
    static const char values[] = "\b\f\n\r\t";
    const char *found;
    uint32_t code;
    uint32_t low;
    char name;

    if (take_unicode_escape(*at, end, &code)) {
        *at += 6;
        if (is_surrogate(code, 0xd800) && take_unicode_escape(*at, end, &low) &&
            is_surrogate(low, 0xdc00)) {
            *at += 6;
            code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
        }
        return code;
    }
    if (end - *at < 2) { /* not in a validated string */
        *at = end;
        return REPLACEMENT;
    }
    name = (*at)[1];
    *at += 2;
    found = memchr(names, name, sizeof names - 1);
    return found != NULL ? (unsigned char)values[found - names] : (unsigned char)name;
}

static struct slice without_quotes(struct slice string)
{
    return string.n_bytes < 2 ? slice_of(string.bytes, 0)
                              : slice_of(string.bytes + 1, string.n_bytes - 2);
}

/* Copies what fits; the caller counts on. */
static void copy_bounded(char *out, uint32_t out_max, uint32_t at, const char *bytes,
                         uint32_t n_bytes)
{
    if (at < out_max)
        memcpy(out + at, bytes, n_bytes < out_max - at ? n_bytes : out_max - at);
}

uint32_t json_unescape(struct slice string, char *out, uint32_t out_max)
{
    struct slice body = without_quotes(string);
    const char *at = body.bytes;
    const char *end = body.bytes;
    uint32_t n_out = 0;

    if (body.n_bytes == 0)
        return 0;
    end += body.n_bytes;
    while (at < end) {
        const char *escape = memchr(at, '\\', (size_t)(end - at));
        uint32_t n_run = (uint32_t)((escape != NULL ? escape : end) - at);
        uint32_t code;
        uint32_t n_char;
        char utf8[4];

        copy_bounded(out, out_max, n_out, at, n_run);
        n_out += n_run;
        at += n_run;
        if (at == end)
            break;
        code = take_escape(&at, end);
        n_char = put_code(
            utf8, is_surrogate(code, 0xd800) || is_surrogate(code, 0xdc00) ? REPLACEMENT : code);
        copy_bounded(out, out_max, n_out, utf8, n_char);
        n_out += n_char;
    }
    return n_out;
}

/* The next character of a string's inside: raw ones byte by byte, escaped ones as the bytes of
 * their UTF-8. `*n_held` bytes of the last escape are still to come from `held`. -1 at the end. */
static int next_byte(const char **at, const char *end, char held[4], uint32_t *n_held,
                     uint32_t *n_given)
{
    if (*n_given < *n_held)
        return (unsigned char)held[(*n_given)++];
    if (*at == end)
        return -1;
    if (**at != '\\')
        return (unsigned char)*(*at)++;
    *n_held = put_code(held, take_escape(at, end));
    *n_given = 1;
    return (unsigned char)held[0];
}

static bool has_escape(struct slice body)
{
    return body.n_bytes > 0 && memchr(body.bytes, '\\', body.n_bytes) != NULL;
}

bool json_string_equal(struct slice a, struct slice b)
{
    struct slice text[2] = { without_quotes(a), without_quotes(b) };
    const char *at[2] = { text[0].bytes, text[1].bytes };
    char held[2][4];
    uint32_t n_held[2] = { 0, 0 };
    uint32_t n_given[2] = { 0, 0 };
    int byte[2];

    if (slice_equal(text[0], text[1]))
        return true;
    if (!has_escape(text[0]) && !has_escape(text[1]))
        return false;
    do {
        for (uint32_t i = 0; i < 2; i++) {
            const char *end = text[i].n_bytes > 0 ? text[i].bytes + text[i].n_bytes : text[i].bytes;

            byte[i] = next_byte(&at[i], end, held[i], &n_held[i], &n_given[i]);
        }
    } while (byte[0] == byte[1] && byte[0] >= 0);
    return byte[0] == byte[1];
}

bool json_string_is(struct slice string, struct slice plain)
{
    struct slice body = without_quotes(string);
    const char *at = body.bytes;
    const char *end = body.bytes;
    char held[4];
    uint32_t n_held = 0;
    uint32_t n_given = 0;

    if (!has_escape(body))
        return slice_equal(body, plain);
    end += body.n_bytes;
    for (uint32_t i = 0; i < plain.n_bytes; i++) {
        if (next_byte(&at, end, held, &n_held, &n_given) != (unsigned char)plain.bytes[i])
            return false;
    }
    return next_byte(&at, end, held, &n_held, &n_given) < 0;
}

static uint32_t put_bytes(char *out, uint32_t n_out, const char *bytes, uint32_t n_bytes)
{
    if (out != NULL)
        memcpy(out + n_out, bytes, n_bytes);
    return n_out + n_bytes;
}

/* Writes one character that must not stand raw between quotes. */
static uint32_t put_escaped(char *out, uint32_t n_out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_names[] = "btn\0fr"; /* of 0x08 to 0x0d; 0x0b has none */
    char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

    if (c >= 0x20)
        text[1] = (char)c;
    else if (c >= 0x08 && c <= 0x0d && short_names[c - 0x08] != '\0')
        text[1] = short_names[c - 0x08];
    return put_bytes(out, n_out, text, text[1] == 'u' ? 6 : 2);
}

uint32_t json_put_string(char *out, struct slice text)
{
    const char *at = text.bytes;
    const char *end = text.n_bytes > 0 ? text.bytes + text.n_bytes : text.bytes;
    const char *run = at; /* start of what goes out as it is */
    uint32_t n_out = put_bytes(out, 0, "\"", 1);

    assert(text.n_bytes <= (UINT32_MAX - 2) / 6);
    while (at < end) {
        unsigned char c = (unsigned char)*at;
        uint32_t n_char = 1;
        bool good = true;

        if (c >= 0x80)
            n_char = json_utf8_step(at, end, &good);
        if (good && c >= 0x20 && c != '"' && c != '\\') {
            at += n_char;
            continue;
        }
        if (at > run)
            n_out = put_bytes(out, n_out, run, (uint32_t)(at - run));
        n_out = good ? put_escaped(out, n_out, c) : put_bytes(out, n_out, "\xef\xbf\xbd", 3);
        at += n_char;
        run = at;
    }
    if (at > run)
        n_out = put_bytes(out, n_out, run, (uint32_t)(at - run));
    return put_bytes(out, n_out, "\"", 1);
}
