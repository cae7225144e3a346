/* ends.c: see ends.h. A list in the order of positions: an end is due when the ring has been taken in up to where clients.c puts what is said at that moment:
 * the worker's last append, or what is deferred already, if that is further; and when that has been said. */
#include "session/ends.h"

#include <stdlib.h>

#include "session/clients.h"

struct end {
    uint64_t position;
    uint32_t conn;
    uint32_t generation;
};

struct ends {
    struct end *items;
    uint32_t n;
    uint32_t max;
};

struct ends *ends_new(void)
{
    return calloc(1, sizeof(struct ends));
}

void ends_free(struct ends *e)
{
    if (e != NULL)
        free(e->items);
    free(e);
}

void client_end_later(struct hub *h, struct conn *c)
{
    const struct deferred *d = &h->deferred;
    struct ends *e = h->ends;
    uint64_t position = h->last_append;

    if (e->n == e->max) {
        uint32_t max = e->max == 0 ? 64 : e->max * 2;
        struct end *items = reallocarray(e->items, max, sizeof *items);

        if (items == NULL) {
            client_condemn(h, c, CLOSE_SERVER_NAMESPACE_DISCONNECT, false);
            return;
        }
        e->items = items;
        e->max = max;
    }
    if (d->n > 0 && d->items[(d->head + d->n - 1) % d->max].position > position)
        position = d->items[(d->head + d->n - 1) % d->max].position;
    e->items[e->n++] = (struct end){ position, conn_index(&h->conns, c), c->generation };
}

void clients_end_due(struct hub *h)
{
    struct ends *e = h->ends;
    uint32_t n = 0;

    /* what waits for an earlier position waits for all: clients.c has one list, in order */
    while (n < e->n && e->items[n].position <= h->walked &&
           (h->deferred.n == 0 ||
            h->deferred.items[h->deferred.head].position > e->items[n].position)) {
        struct end it = e->items[n++]; /* ending one may add others */
        struct conn *c = conn_at(&h->conns, it.conn);

        if (c->generation == it.generation)
            client_end(h, c, CLOSE_SERVER_NAMESPACE_DISCONNECT, WS_CLOSE_NO_STATUS, NULL);
    }
    if (n == 0)
        return;
    e->n -= n;
    memmove(e->items, e->items + n, e->n * sizeof *e->items);
}

bool clients_any_end(const struct hub *h)
{
    return h->ends->n > 0;
}
