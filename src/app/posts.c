/* posts.c: the bounded queue of D. Vyukov with a ticket in each cell.
 *
 * Invariant: a cell whose `turn` equals the place that a producer reads from `tail` is free, and the compare-and-swap of `tail` makes it that producer's; `turn` =
 *            place + 1 says that it is filled. The consumer sets it to place + PEAL_POSTS_MAX: free for the next round.
 * A producer that is stopped between its compare-and-swap and its store keeps those behind it from being seen until it goes on; nobody waits for it: the
 * consumer finds nothing and the producer rings when it is done. */
#include "app/posts.h"

#include <stdlib.h>
#include <unistd.h>

#include "shm/atomic.h"

_Static_assert((PEAL_POSTS_MAX & (PEAL_POSTS_MAX - 1)) == 0, "a place is found by masking");

static struct post *cell(const struct posts *ps, uint64_t place)
{
    return &ps->items[place & (PEAL_POSTS_MAX - 1)];
}

bool posts_init(struct posts *ps, int bell_fd)
{
    ps->items = calloc(PEAL_POSTS_MAX, sizeof *ps->items);
    ps->tail = 0;
    ps->head = 0;
    ps->bell_fd = bell_fd;
    if (ps->items == NULL)
        return false;
    for (uint64_t i = 0; i < PEAL_POSTS_MAX; i++)
        ps->items[i].turn = i;
    return true;
}

void posts_destroy(struct posts *ps)
{
    free(ps->items);
    ps->items = NULL;
}

bool post_push(struct posts *ps, peal_fn fn, void *context)
{
    const uint64_t one = 1;
    uint64_t place = shm_load_u64(&ps->tail);
    struct post *p;

    for (;;) {
        uint64_t turn;

        p = cell(ps, place);
        /* acquire: the consumer has read what was in it before it gave it back */
        turn = shm_load_acquire_u64(&p->turn);
        if (turn == place) {
            if (shm_cas_u64(&ps->tail, &place, place + 1))
                break; /* else `place` is what was found */
        } else if ((int64_t)(turn - place) < 0) {
            return false; /* the consumer is a whole round behind */
        } else {
            place = shm_load_u64(&ps->tail);
        }
    }
    p->fn = fn;
    p->context = context;
    shm_store_release_u64(&p->turn, place + 1); /* release: what it holds before that it holds it */
    if (write(ps->bell_fd, &one, sizeof one) < 0)
        return true; /* EAGAIN: the counter is full, and such a bell rings */
    return true;
}

bool post_take(struct posts *ps, struct post *out)
{
    struct post *p = cell(ps, ps->head);

    if (shm_load_acquire_u64(&p->turn) != ps->head + 1) /* acquire: see the release above */
        return false;
    *out = *p;
    shm_store_release_u64(&p->turn, ps->head + PEAL_POSTS_MAX);
    ps->head++;
    return true;
}

bool posts_any(const struct posts *ps)
{
    return shm_load_acquire_u64(&cell(ps, ps->head)->turn) == ps->head + 1;
}
