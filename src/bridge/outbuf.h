/* outbuf.h: commands that wait to be written to Redis: whole, in order, bounded in memory and age. When there are too many, or they have waited too long,
 * the oldest go. Formatted as RESP arrays of bulk strings where they wait, many to a chunk, so that one write takes many. Knows no socket and no clock. */
#ifndef PEAL_BRIDGE_OUTBUF_H
#define PEAL_BRIDGE_OUTBUF_H

#include "base/slice.h"

#define OUTBUF_CHUNK_BYTES  32768u /* of memory; a longer command gets a chunk of its own */
#define OUTBUF_WORDS_MAX    1024   /* of one command */
#define OUTBUF_COMMAND_MAX  (1u << 30)
#define OUTBUF_SPARE_CHUNKS 4

struct outbuf_chunk {
    struct outbuf_chunk *next;
    uint32_t room; /* of data; at its end are the marks, which grow downwards */
    uint32_t at;   /* bytes before it have been dropped */
    uint32_t n_bytes;
    uint32_t first; /* commands before it have been dropped */
    uint32_t n_commands;
    uint32_t _pad;
    char data[];
};

struct outbuf {
    struct outbuf_chunk *_head, *_tail;
    struct outbuf_chunk *_spare;
    uint32_t _n_spare;
    uint32_t n_commands;   /* that wait */
    uint64_t n_bytes;      /* memory of the chunks that hold them */
    uint64_t bytes_max;    /* bound of n_bytes; one command that is larger is taken alone */
    uint32_t age_max_ms;   /* 0: they wait for ever */
    uint64_t dropped_full; /* commands dropped to make room for younger ones */
    uint64_t dropped_old;
};

void outbuf_init(struct outbuf *o, uint64_t bytes_max, uint32_t age_max_ms);

/* Forgets what waits, and gives its memory back. It may be used again. */
void outbuf_clear(struct outbuf *o);

/* Adds a command; older ones may be dropped. False: no memory for it, or over OUTBUF_WORDS_MAX or OUTBUF_COMMAND_MAX; it was not added. */
MUST_USE bool outbuf_push(struct outbuf *o, uint64_t now_ms, const struct slice *words,
                          uint32_t n_words);

/* Drops what has waited for more than age_max_ms. */
void outbuf_expire(struct outbuf *o, uint64_t now_ms);

/* The oldest commands, as many as lie together: bytes at to n_bytes, commands first to n_commands. NULL: none. They do not wait any more; the caller gives
 * the chunk back with outbuf_give. */
struct outbuf_chunk *outbuf_take(struct outbuf *o);
void outbuf_give(struct outbuf *o, struct outbuf_chunk *chunk);

#endif
