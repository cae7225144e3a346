/* json_out.c: see json_out.h. */
#include "lib/json_out.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/util.h"

__attribute__((format(printf, 2, 3))) static void put(struct json *j, const char *format, ...)
{
    size_t room = sizeof j->bytes - j->n_bytes;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(j->bytes + j->n_bytes, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= room)
        die("a JSON line is longer than %u bytes", JSON_BYTES_MAX);
    j->n_bytes += (size_t)n;
}

static void put_text(struct json *j, const char *text)
{
    put(j, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            put(j, "\\%c", c);
        else if (c < 0x20)
            put(j, "\\u%04x", c);
        else
            put(j, "%c", c);
    }
    put(j, "\"");
}

static void lead(struct json *j, const char *key)
{
    assert(j->depth > 0);
    if (j->comma[j->depth - 1])
        put(j, ",");
    j->comma[j->depth - 1] = true;
    if (key) {
        put_text(j, key);
        put(j, ":");
    }
}

static void open_level(struct json *j, const char *opener, char closer)
{
    assert(j->depth < JSON_DEPTH_MAX);
    put(j, "%s", opener);
    j->comma[j->depth] = false;
    j->closer[j->depth++] = closer;
}

void json_begin(struct json *j, const char *event)
{
    j->n_bytes = 0;
    j->depth = 0;
    open_level(j, "{", '}');
    json_text(j, "event", event);
}

void json_object(struct json *j, const char *key)
{
    lead(j, key);
    open_level(j, "{", '}');
}

void json_array(struct json *j, const char *key)
{
    lead(j, key);
    open_level(j, "[", ']');
}

void json_end(struct json *j)
{
    assert(j->depth > 0);
    put(j, "%c", j->closer[--j->depth]);
}

void json_text(struct json *j, const char *key, const char *value)
{
    lead(j, key);
    put_text(j, value);
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    lead(j, key);
    put(j, "%llu", (unsigned long long)value);
}

void json_f64(struct json *j, const char *key, double value)
{
    lead(j, key);
    if (isfinite(value))
        put(j, "%.3f", value);
    else
        put(j, "null");
}

void json_bool(struct json *j, const char *key, bool value)
{
    lead(j, key);
    put(j, "%s", value ? "true" : "false");
}

void json_print(struct json *j)
{
    size_t at = 0;

    while (j->depth > 0)
        json_end(j);
    put(j, "\n");
    while (at < j->n_bytes) {
        ssize_t n = write(STDOUT_FILENO, j->bytes + at, j->n_bytes - at);

        if (n < 0 && errno != EINTR)
            die("standard output: %s", strerror(errno));
        at += n > 0 ? (size_t)n : 0;
    }
}
