/* backlog.c: see backlog.h. Items lie one behind the other; what has been taken from the front is closed up when room is needed. */
#include "bridge/backlog.h"

#include <assert.h>
#include <stdlib.h>

#define BYTES_FIRST 16384

static uint64_t size_of(uint64_t n_channel, uint64_t n_payload)
{
    return (sizeof(struct backlog_item) + n_channel + n_payload + 7) & ~7ull;
}

void backlog_free(struct backlog *b)
{
    free(b->_bytes);
    *b = (struct backlog){ 0 };
}

uint32_t backlog_bytes(const struct backlog *b)
{
    return b->_end - b->_at;
}

static bool make_room(struct backlog *b, uint64_t n_bytes)
{
    uint64_t max = b->_max == 0 ? BYTES_FIRST : b->_max;
    char *bytes;

    if (b->_at > 0 && b->_end + n_bytes > b->_max) {
        memmove(b->_bytes, b->_bytes + b->_at, b->_end - b->_at);
        b->_end -= b->_at;
        b->_at = 0;
    }
    if (b->_end + n_bytes <= b->_max)
        return true;
    while (max < b->_end + n_bytes)
        max *= 2;
    bytes = max > UINT32_MAX ? NULL : realloc(b->_bytes, max);
    if (bytes == NULL)
        return false;
    b->_bytes = bytes;
    b->_max = (uint32_t)max;
    return true;
}

bool backlog_push(struct backlog *b, struct backlog_item item, struct slice channel,
                  struct slice payload, uint32_t n_bytes_max)
{
    uint64_t n_bytes = size_of(channel.n_bytes, payload.n_bytes);
    struct backlog_item *to;

    if (backlog_bytes(b) + n_bytes > n_bytes_max || !make_room(b, n_bytes))
        return false;
    item.n_channel = channel.n_bytes;
    item.n_payload = payload.n_bytes;
    to = (struct backlog_item *)(void *)(b->_bytes + b->_end);
    *to = item;
    if (channel.n_bytes > 0)
        memcpy((char *)(to + 1), channel.bytes, channel.n_bytes);
    if (payload.n_bytes > 0)
        memcpy((char *)(to + 1) + channel.n_bytes, payload.bytes, payload.n_bytes);
    b->_end += (uint32_t)n_bytes;
    b->n_items++;
    return true;
}

struct backlog_item *backlog_first(const struct backlog *b)
{
    return b->n_items == 0 ? NULL : (struct backlog_item *)(void *)(b->_bytes + b->_at);
}

struct backlog_item *backlog_next(const struct backlog *b, struct backlog_item *item)
{
    char *next = (char *)item + size_of(item->n_channel, item->n_payload);

    assert(next <= b->_bytes + b->_end);
    return next == b->_bytes + b->_end ? NULL : (struct backlog_item *)(void *)next;
}

struct slice backlog_channel(const struct backlog_item *item)
{
    return slice_of(item + 1, item->n_channel);
}

struct slice backlog_payload(const struct backlog_item *item)
{
    return slice_of((const char *)(item + 1) + item->n_channel, item->n_payload);
}

void backlog_pop(struct backlog *b)
{
    const struct backlog_item *first = backlog_first(b);

    assert(first != NULL);
    b->_at += (uint32_t)size_of(first->n_channel, first->n_payload);
    b->n_items--;
    if (b->n_items == 0)
        b->_at = b->_end = 0;
}
