/* json_out.h: writes JSON, one object a line, so that a test can read results while they come.
 *
 * Invariant: a line never exceeds JSON_BYTES_MAX and goes out in one write(), so that lines of
 *            several processes on one pipe do not mix as long as they are shorter than PIPE_BUF.
 * Owns:      its buffer, inside the struct; nothing to free. */
#ifndef BENCH_LIB_JSON_OUT_H
#define BENCH_LIB_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_BYTES_MAX 65536u
#define JSON_DEPTH_MAX 8u

struct json {
    size_t n_bytes;
    uint32_t depth;
    bool comma[JSON_DEPTH_MAX];
    char closer[JSON_DEPTH_MAX];
    char bytes[JSON_BYTES_MAX];
};

/* Starts a line {"event":EVENT… */
void json_begin(struct json *j, const char *event);
/* Inside arrays `key` is NULL. */
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j);
void json_text(struct json *j, const char *key, const char *value);
void json_u64(struct json *j, const char *key, uint64_t value);
void json_f64(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);
/* Closes what is open and writes the line to standard output. */
void json_print(struct json *j);

#endif
