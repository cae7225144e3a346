/* locals.c: see locals.h.
 *
 * Invariant: data_bytes is the sum of n_data over all; an entry whose socket has ended is all zero. */
#include "app/locals.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "peal/app.h"

bool locals_init(struct locals *ls, uint32_t max)
{
    void *area = mmap(NULL, (size_t)max * sizeof *ls->items, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    *ls = (struct locals){ .max = max };
    if (area == MAP_FAILED)
        return false;
    ls->items = area;
    return true;
}

void locals_destroy(struct locals *ls)
{
    if (ls->items != NULL)
        (void)munmap(ls->items, (size_t)ls->max * sizeof *ls->items);
    ls->items = NULL;
}

void local_untold_add(struct locals *ls, uint32_t index)
{
    struct local *l = &ls->items[index];

    assert((l->flags & LOCAL_UNTOLD) == 0);
    l->flags |= LOCAL_UNTOLD;
    l->next = 0;
    l->prev = ls->last_untold;
    if (l->prev != 0)
        ls->items[l->prev - 1].next = index + 1;
    else
        ls->first_untold = index + 1;
    ls->last_untold = index + 1;
}

void local_untold_remove(struct locals *ls, uint32_t index)
{
    struct local *l = &ls->items[index];

    if ((l->flags & LOCAL_UNTOLD) == 0)
        return;
    l->flags &= (uint8_t)~LOCAL_UNTOLD;
    if (l->prev != 0)
        ls->items[l->prev - 1].next = l->next;
    else
        ls->first_untold = l->next;
    if (l->next != 0)
        ls->items[l->next - 1].prev = l->prev;
    else
        ls->last_untold = l->prev;
    l->next = 0;
    l->prev = 0;
}

enum local_result local_set_data(struct locals *ls, uint32_t index, struct slice data)
{
    struct local *l = &ls->items[index];
    char *copy = NULL;

    if (data.n_bytes > PEAL_DATA_BYTES_MAX ||
        ls->data_bytes - l->n_data + data.n_bytes > PEAL_DATA_BYTES_TOTAL)
        return LOCAL_LIMIT;
    if (data.bytes != NULL) {
        copy = malloc(data.n_bytes);
        if (copy == NULL)
            return LOCAL_NO_MEMORY;
        memcpy(copy, data.bytes, data.n_bytes);
    }
    ls->data_bytes += (uint64_t)data.n_bytes - l->n_data;
    free(l->data);
    l->data = copy;
    l->n_data = data.n_bytes;
    return LOCAL_OK;
}

void local_set_pointer(struct locals *ls, uint32_t index, void *pointer, void (*release)(void *))
{
    struct local *l = &ls->items[index];
    struct local before = *l;

    l->pointer = pointer;
    l->release = release;
    if (before.release != NULL && before.pointer != NULL && before.pointer != pointer)
        before.release(before.pointer);
}

void local_end(struct locals *ls, uint32_t index)
{
    struct local *l = &ls->items[index];

    if (l->flags == 0 && l->pointer == NULL && l->data == NULL && l->release == NULL)
        return; /* most are untouched, and a page that was never written has no memory */
    assert(l->tickets.n == 0);
    local_untold_remove(ls, index);
    local_set_pointer(ls, index, NULL, NULL);
    ls->data_bytes -= l->n_data;
    free(l->data);
    *l = (struct local){ 0 };
}
