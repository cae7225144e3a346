/* redis.h: a Redis of the benchmark's own, and as much of RESP2 as it takes to publish and to
 * listen.
 *
 * Owns:   the server, which ends with this process; a connection's descriptor and buffer.
 * Never:  more than REDIS_REPLY_MAX bytes in one reply; anything else than whole, known replies is a
 *         reason to die. */
#ifndef BENCH_LIB_REDIS_H
#define BENCH_LIB_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/machine.h"

#define REDIS_REPLY_MAX (1u << 20)

/* Starts `binary` on a free port of 127.0.0.1, keeping nothing on disk; dies when it does not come
 * up. */
void redis_launch(struct server *s, const char *binary);

struct redis {
    int fd;
    uint32_t n_bytes; /* in `bytes`, from `at` on unread */
    uint32_t at;
    char *bytes;
};

void redis_open(struct redis *r, uint16_t port);

/* Appends one command to `out`; returns its length. `out` is long enough: 16 bytes a word and the
 * words. */
size_t redis_put(char *out, uint32_t n_words, const char *const *words, const size_t *lengths);

/* Writes all of it, waiting where the socket is full. */
void redis_write(const struct redis *r, const char *bytes, size_t n);

/* One reply. `words` get up to `max` of its bulk strings; the others' are counted only. */
struct redis_reply {
    uint32_t n_words;
    const char *words[4];
    size_t lengths[4];
    int64_t number; /* the last integer in it */
};

/* The next whole reply; what it points to is good until the next call. False: `wait` is false and
 * there is none yet. */
bool redis_next(struct redis *r, bool wait, struct redis_reply *out);

#endif
