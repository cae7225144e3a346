/* outbuf.c: see outbuf.h.
 *
 * Invariant: each chunk of the list holds at least one command; n_bytes is the sum of their memory and over bytes_max only while there is one chunk.
 * Owns:      its chunks, until they are taken.
 * Why chunks: what waited through an outage is memory that is given back when it is over; nothing is copied when the buffer grows; and a chunk is what
 *            one write takes. */
#include "bridge/outbuf.h"

#include <assert.h>
#include <stdlib.h>

struct mark {
    uint32_t end;       /* of the command, in data */
    uint32_t pushed_ms; /* the low half of the clock: ages are short */
};

_Static_assert(sizeof(struct outbuf_chunk) % _Alignof(struct mark) == 0, "marks are aligned");

static struct mark *mark_at(struct outbuf_chunk *c, uint32_t i)
{
    return (struct mark *)(void *)(c->data + c->room) - 1 - i;
}

static uint64_t chunk_bytes(const struct outbuf_chunk *c)
{
    return sizeof *c + c->room;
}

void outbuf_init(struct outbuf *o, uint64_t bytes_max, uint32_t age_max_ms)
{
    *o = (struct outbuf){ .bytes_max = bytes_max, .age_max_ms = age_max_ms };
}

void outbuf_give(struct outbuf *o, struct outbuf_chunk *chunk)
{
    if (o->_n_spare == OUTBUF_SPARE_CHUNKS || chunk_bytes(chunk) != OUTBUF_CHUNK_BYTES) {
        free(chunk);
        return;
    }
    chunk->next = o->_spare;
    o->_spare = chunk;
    o->_n_spare++;
}

static struct outbuf_chunk *pop(struct outbuf *o)
{
    struct outbuf_chunk *c = o->_head;

    o->_head = c->next;
    if (o->_head == NULL)
        o->_tail = NULL;
    o->n_bytes -= chunk_bytes(c);
    o->n_commands -= c->n_commands - c->first;
    return c;
}

struct outbuf_chunk *outbuf_take(struct outbuf *o)
{
    return o->_head != NULL ? pop(o) : NULL;
}

void outbuf_clear(struct outbuf *o)
{
    while (o->_head != NULL)
        free(pop(o));
    while (o->_spare != NULL) {
        struct outbuf_chunk *c = o->_spare;

        o->_spare = c->next;
        free(c);
    }
    o->_n_spare = 0;
}

static void drop_oldest(struct outbuf *o)
{
    struct outbuf_chunk *c = o->_head;

    if (c->first + 1 == c->n_commands) {
        outbuf_give(o, pop(o));
        return;
    }
    c->at = mark_at(c, c->first)->end;
    c->first++;
    o->n_commands--;
}

void outbuf_expire(struct outbuf *o, uint64_t now_ms)
{
    if (o->age_max_ms == 0)
        return;
    while (o->_head != NULL &&
           (uint32_t)now_ms - mark_at(o->_head, o->_head->first)->pushed_ms > o->age_max_ms) {
        drop_oldest(o);
        o->dropped_old++;
    }
}

/* A chunk at the end of the list with room for n bytes and a mark; NULL: no memory. */
static struct outbuf_chunk *chunk_for(struct outbuf *o, uint32_t n)
{
    struct outbuf_chunk *c = o->_tail;
    uint64_t want = sizeof *c + sizeof(struct mark) + ((uint64_t)n + 7) / 8 * 8;

    if (c != NULL && c->room - c->n_bytes - c->n_commands * sizeof(struct mark) >=
                         (uint64_t)n + sizeof(struct mark))
        return c;
    if (want < OUTBUF_CHUNK_BYTES)
        want = OUTBUF_CHUNK_BYTES;
    while (o->_head != NULL && o->n_bytes + want > o->bytes_max) {
        drop_oldest(o);
        o->dropped_full++;
    }
    c = o->_spare;
    if (c != NULL && want == OUTBUF_CHUNK_BYTES) {
        o->_spare = c->next;
        o->_n_spare--;
    } else {
        c = malloc(want);
        if (c == NULL)
            return NULL;
    }
    *c = (struct outbuf_chunk){ .room = (uint32_t)(want - sizeof *c) };
    if (o->_tail != NULL)
        o->_tail->next = c;
    else
        o->_head = c;
    o->_tail = c;
    o->n_bytes += want;
    return c;
}

static uint32_t n_digits(uint32_t n)
{
    uint32_t digits = 1;

    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

/* "*3\r\n", "$5\r\n" */
static char *put_head(char *to, char kind, uint32_t n)
{
    uint32_t digits = n_digits(n);

    *to++ = kind;
    for (uint32_t i = digits; i > 0; i--, n /= 10)
        to[i - 1] = (char)('0' + n % 10);
    memcpy(to + digits, "\r\n", 2);
    return to + digits + 2;
}

bool outbuf_push(struct outbuf *o, uint64_t now_ms, const struct slice *words, uint32_t n_words)
{
    uint64_t n = n_digits(n_words) + 3;
    struct outbuf_chunk *c;
    char *to;

    if (n_words == 0 || n_words > OUTBUF_WORDS_MAX)
        return false;
    for (uint32_t i = 0; i < n_words; i++)
        n += n_digits(words[i].n_bytes) + 3 + (uint64_t)words[i].n_bytes + 2;
    if (n > OUTBUF_COMMAND_MAX)
        return false;
    c = chunk_for(o, (uint32_t)n);
    if (c == NULL)
        return false;
    to = put_head(c->data + c->n_bytes, '*', n_words);
    for (uint32_t i = 0; i < n_words; i++) {
        to = put_head(to, '$', words[i].n_bytes);
        if (words[i].n_bytes > 0)
            memcpy(to, words[i].bytes, words[i].n_bytes);
        memcpy(to + words[i].n_bytes, "\r\n", 2);
        to += words[i].n_bytes + 2;
    }
    c->n_bytes += (uint32_t)n;
    assert(to == c->data + c->n_bytes);
    *mark_at(c, c->n_commands++) = (struct mark){ c->n_bytes, (uint32_t)now_ms };
    o->n_commands++;
    return true;
}
