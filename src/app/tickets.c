/* tickets.c: see tickets.h. A handle is index + 1 and the generation; the generation is odd while the ticket is good. */
#include "app/tickets.h"

#include <assert.h>
#include <sys/mman.h>

#include "peal/app.h"

bool tickets_init(struct tickets *ts)
{
    void *area = mmap(NULL, TICKETS_MAX * sizeof *ts->items, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    *ts = (struct tickets){ 0 };
    if (area == MAP_FAILED)
        return false;
    ts->items = area;
    return true;
}

void tickets_destroy(struct tickets *ts)
{
    if (ts->items != NULL)
        (void)munmap(ts->items, TICKETS_MAX * sizeof *ts->items);
    ts->items = NULL;
}

static bool is_exhausted(const struct tickets *ts)
{
    return ts->free == 0 && ts->fresh == TICKETS_MAX;
}

uint64_t ticket_new(struct tickets *ts, struct ticket_list *list, const struct ticket *like)
{
    struct ticket *t;
    uint32_t generation;
    uint32_t place;

    if (list->n > 0 && (list->n >= PEAL_ACKS_PER_SOCKET_MAX || is_exhausted(ts)))
        ticket_use(ts, list, &ts->items[list->oldest - 1]);
    if (is_exhausted(ts))
        return 0;
    place = ts->free != 0 ? ts->free : ++ts->fresh;
    t = &ts->items[place - 1];
    if (ts->free == place)
        ts->free = t->next;
    generation = t->generation + 1;
    assert(generation % 2 == 1);
    *t = *like;
    t->generation = generation;
    t->next = 0;
    t->prev = list->newest;
    if (t->prev != 0)
        ts->items[t->prev - 1].next = place;
    else
        list->oldest = place;
    list->newest = place;
    list->n++;
    return (uint64_t)generation << 32 | place;
}

struct ticket *ticket_find(struct tickets *ts, uint64_t handle)
{
    uint32_t place = (uint32_t)handle;
    struct ticket *t;

    if (place == 0 || place > ts->fresh)
        return NULL;
    t = &ts->items[place - 1];
    return t->generation % 2 == 1 && t->generation == (uint32_t)(handle >> 32) ? t : NULL;
}

void ticket_use(struct tickets *ts, struct ticket_list *list, struct ticket *t)
{
    assert(t->generation % 2 == 1);
    if (t->prev != 0)
        ts->items[t->prev - 1].next = t->next;
    else
        list->oldest = t->next;
    if (t->next != 0)
        ts->items[t->next - 1].prev = t->prev;
    else
        list->newest = t->prev;
    list->n--;
    t->generation++;
    t->next = ts->free;
    ts->free = (uint32_t)(t - ts->items) + 1;
}

void tickets_end(struct tickets *ts, struct ticket_list *list)
{
    while (list->n > 0)
        ticket_use(ts, list, &ts->items[list->oldest - 1]);
}
