/* deferred.c: a bounded ring of things to do, in position order. */
#include "session/deferred.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int deferred_init(struct deferred *d, uint32_t max)
{
    *d = (struct deferred){ .max = max };
    d->items = calloc(max, sizeof *d->items);
    d->small = calloc(max, sizeof *d->small);
    return d->items == NULL || d->small == NULL ? -ENOMEM : 0;
}

void deferred_destroy(struct deferred *d)
{
    free(d->items);
    free(d->small);
}

bool deferred_room(const struct deferred *d, uint32_t n)
{
    return d->max - d->n >= n;
}

bool deferred_push(struct deferred *d, const struct deferred_item *item)
{
    uint32_t place = (d->head + d->n) % d->max;
    struct deferred_item *to = &d->items[place];

    assert(d->n < d->max);
    assert(d->n == 0 || d->items[(d->head + d->n - 1) % d->max].position <= item->position);
    *to = *item;
    to->bytes = NULL;
    if (item->n_bytes > 0) {
        to->bytes = item->n_bytes <= DEFERRED_SMALL_BYTES ? d->small[place] : malloc(item->n_bytes);
        if (to->bytes == NULL)
            return false;
        memcpy(to->bytes, item->bytes, item->n_bytes);
    }
    d->n++;
    return true;
}

void deferred_move(struct deferred *d, uint32_t from, uint32_t from_generation, uint32_t to,
                   uint32_t to_generation)
{
    for (uint32_t i = 0; i < d->n; i++) {
        struct deferred_item *item = &d->items[(d->head + i) % d->max];

        if (item->conn == from && item->conn_generation == from_generation) {
            item->conn = to;
            item->conn_generation = to_generation;
        }
    }
}

struct deferred_item *deferred_due(struct deferred *d, uint64_t position)
{
    struct deferred_item *first = &d->items[d->head];

    return d->n > 0 && first->position <= position ? first : NULL;
}

void deferred_pop(struct deferred *d)
{
    assert(d->n > 0);
    if (d->items[d->head].n_bytes > DEFERRED_SMALL_BYTES)
        free(d->items[d->head].bytes);
    d->items[d->head].bytes = NULL;
    d->head = --d->n == 0 ? 0 : (d->head + 1) % d->max; /* few pages are touched that way */
}
