/* http_query.c: query strings and percent escapes.
 *
 * Node parity: a query is never wrong. A `%` that no two hex digits follow stands for itself, a
 * pair without `=` has an empty value, empty pairs are skipped, the last of equal keys wins. The
 * decoded bytes are whatever the client wrote: they may hold NUL and need not be UTF-8. */
#include "proto/http.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Takes one escape or plain byte off `*text`, which is not empty. False: a bad escape (then only
 * the '%' is taken, as `*byte`). */
static bool next_byte(struct slice *text, bool plus, char *byte)
{
    bool good = true;
    uint32_t n = 1;

    *byte = text->bytes[0];
    if (*byte == '%') {
        int high = text->n_bytes > 2 ? hex_value(text->bytes[1]) : -1;
        int low = text->n_bytes > 2 ? hex_value(text->bytes[2]) : -1;

        good = high >= 0 && low >= 0;
        if (good) {
            *byte = (char)(high << 4 | low);
            n = 3;
        }
    } else if (*byte == '+' && plus) {
        *byte = ' ';
    }
    text->bytes += n;
    text->n_bytes -= n;
    return good;
}

static int32_t decode(struct slice text, bool plus, bool lenient, char *out, uint32_t out_max)
{
    uint32_t n = 0;
    bool fits = true;

    while (text.n_bytes > 0) {
        char byte;

        if (!next_byte(&text, plus, &byte) && !lenient)
            return -1;
        if (n < out_max)
            out[n++] = byte;
        else
            fits = false; /* go on: a bad escape further behind outweighs it */
    }
    return fits ? (int32_t)n : -2;
}

int32_t http_percent_decode(struct slice text, bool plus, char *out, uint32_t out_max)
{
    return decode(text, plus, false, out, out_max);
}

int32_t http_query_decode(struct slice text, char *out, uint32_t out_max)
{
    return decode(text, true, true, out, out_max);
}

bool http_query_next(struct slice *rest, struct slice *key, struct slice *value)
{
    while (rest->n_bytes > 0) {
        const char *amp = memchr(rest->bytes, '&', rest->n_bytes);
        uint32_t n = amp ? (uint32_t)(amp - rest->bytes) : rest->n_bytes;
        struct slice pair = slice_of(rest->bytes, n);
        const char *equals;

        rest->bytes += amp ? n + 1 : n;
        rest->n_bytes -= amp ? n + 1 : n;
        if (n == 0)
            continue;
        equals = memchr(pair.bytes, '=', n);
        if (equals) {
            *key = slice_of(pair.bytes, (uint32_t)(equals - pair.bytes));
            *value = slice_of(equals + 1, n - key->n_bytes - 1);
        } else {
            *key = pair;
            *value = slice_of(pair.bytes + n, 0);
        }
        return true;
    }
    return false;
}

static bool key_is(struct slice raw, const char *key)
{
    while (raw.n_bytes > 0) {
        char byte;

        (void)next_byte(&raw, true, &byte);
        if (*key == '\0' || byte != *key)
            return false;
        key++;
    }
    return *key == '\0';
}

int32_t http_query_get(struct slice query, const char *key, char *out, uint32_t out_max)
{
    struct slice found = { NULL, 0 };
    struct slice name;
    struct slice value;

    while (http_query_next(&query, &name, &value)) {
        if (key_is(name, key))
            found = value;
    }
    return found.bytes ? decode(found, true, true, out, out_max) : -1;
}
