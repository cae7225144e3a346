/* backlog.h: messages kept in order: those that wait for an answer of Redis, and those that cannot be sent yet. Bytes in one block, bounded. */
#ifndef PEAL_BRIDGE_BACKLOG_H
#define PEAL_BRIDGE_BACKLOG_H

#include "base/slice.h"

struct backlog_item {
    uint64_t id; /* the user's */
    uint64_t since_ms;
    uint32_t n_channel;
    uint32_t n_payload;
    uint16_t slot;
    uint8_t kind; /* the user's */
    uint8_t attempts;
    uint32_t _reserved;
};

struct backlog {
    char *_bytes;
    uint32_t _at; /* the first item */
    uint32_t _end;
    uint32_t _max;
    uint32_t n_items;
};

void backlog_free(struct backlog *b); /* empties it; it can be used again */
uint32_t backlog_bytes(const struct backlog *b);

/* Copies `item`, of which n_channel and n_payload are filled in. False: over n_bytes_max or out of memory, nothing changed. */
MUST_USE bool backlog_push(struct backlog *b, struct backlog_item item, struct slice channel,
                           struct slice payload, uint32_t n_bytes_max);

/* The first item, which stays; NULL: there is none. Borrowed until the next push or pop, as are its texts. */
struct backlog_item *backlog_first(const struct backlog *b);
/* The one behind it; NULL: that was the last. */
struct backlog_item *backlog_next(const struct backlog *b, struct backlog_item *item);
struct slice backlog_channel(const struct backlog_item *item);
struct slice backlog_payload(const struct backlog_item *item);
void backlog_pop(struct backlog *b);

#endif
