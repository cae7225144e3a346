/* wheel.c: a hashed timer wheel over nodes that live in the caller's array.
 *
 * Invariant: an armed node is in the list of slot deadline_tick % WHEEL_SLOTS; while the slot of
 *            `tick` is being worked off, also in the list WHEEL_LATER, which holds those of this
 *            slot that were looked at and belong to a later round. A node's own links tell where it
 *            is, so it can be taken out at any moment, also in the middle of that work: the walk
 *            keeps no pointer, it always takes the first of the slot's list.
 * Owns:      the list heads. Nodes are the caller's; they are found by index, so the array may be
 *            shared memory or mapped elsewhere.
 * Bounded:   one call of wheel_expire looks at no more nodes than its budget, so 24,000 deadlines
 *            in one tick freeze nobody. A jump of the clock (a stopped process) costs one round,
 *            whatever its length. */
#include "base/wheel.h"

#include <assert.h>
#include <string.h>

#define WHEEL_HEAD  (1u << 31)
#define WHEEL_LATER WHEEL_SLOTS

static struct wheel_node *node_at(const struct wheel *w, uint32_t index)
{
    assert(index < w->n_nodes);
    return (struct wheel_node *)(void *)(w->nodes + index * w->stride);
}

static void set_head(struct wheel *w, uint32_t list, uint32_t link)
{
    w->heads[list] = link;
    if (list == WHEEL_LATER)
        return;
    if (link != 0)
        w->occupied[list / 64] |= 1ull << list % 64;
    else
        w->occupied[list / 64] &= ~(1ull << list % 64);
}

static void list_push(struct wheel *w, uint32_t list, uint32_t index)
{
    struct wheel_node *n = node_at(w, index);

    n->prev = WHEEL_HEAD | list;
    n->next = w->heads[list];
    if (n->next != 0)
        node_at(w, n->next - 1)->prev = index + 1;
    set_head(w, list, index + 1);
}

static void list_remove(struct wheel *w, struct wheel_node *n)
{
    if (n->next != 0)
        node_at(w, n->next - 1)->prev = n->prev;
    if ((n->prev & WHEEL_HEAD) != 0)
        set_head(w, n->prev & ~WHEEL_HEAD, n->next);
    else
        node_at(w, n->prev - 1)->next = n->next;
    n->prev = 0;
    n->next = 0;
}

static uint32_t tick_of(uint64_t ms)
{
    assert(ms / WHEEL_TICK_MS < UINT32_MAX - WHEEL_SLOTS); /* 17 years */
    return (uint32_t)(ms / WHEEL_TICK_MS);
}

void wheel_init(struct wheel *w, void *array, size_t stride, size_t offset, uint32_t n_nodes,
                uint64_t now_ms)
{
    assert(n_nodes <= WHEEL_NODES_MAX);
    assert(offset + sizeof(struct wheel_node) <= stride);
    assert((uintptr_t)((char *)array + offset) % _Alignof(struct wheel_node) == 0);
    assert(stride % _Alignof(struct wheel_node) == 0);
    memset(w, 0, sizeof *w);
    w->nodes = (char *)array + offset;
    w->stride = stride;
    w->n_nodes = n_nodes;
    w->tick = tick_of(now_ms);
}

void wheel_arm(struct wheel *w, uint32_t index, uint64_t deadline_ms)
{
    struct wheel_node *n = node_at(w, index);
    uint32_t tick = tick_of(deadline_ms + WHEEL_TICK_MS - 1); /* up: never early */

    if (tick < w->tick)
        tick = w->tick;
    if (n->prev != 0 && n->deadline_tick == tick)
        return; /* the usual case of a busy connection that pushes its deadline along */
    wheel_cancel(w, index);
    n->deadline_tick = tick;
    list_push(w, tick % WHEEL_SLOTS, index);
    w->n_armed++;
}

void wheel_cancel(struct wheel *w, uint32_t index)
{
    struct wheel_node *n = node_at(w, index);

    if (n->prev == 0)
        return;
    list_remove(w, n);
    assert(w->n_armed > 0);
    w->n_armed--;
}

bool wheel_is_armed(const struct wheel *w, uint32_t index)
{
    return node_at(w, index)->prev != 0;
}

/* The slot of `tick` is worked off: what belongs to later rounds goes back. Only the first node's
 * link changes. */
static void slot_finish(struct wheel *w)
{
    uint32_t slot = w->tick % WHEEL_SLOTS, later = w->heads[WHEEL_LATER];

    assert(w->heads[slot] == 0);
    if (later != 0) {
        node_at(w, later - 1)->prev = WHEEL_HEAD | slot;
        set_head(w, slot, later);
        w->heads[WHEEL_LATER] = 0;
    }
}

uint32_t wheel_expire(struct wheel *w, uint64_t now_ms, uint32_t *budget)
{
    uint32_t now = tick_of(now_ms);

    while (w->tick <= now) {
        uint32_t slot = w->tick % WHEEL_SLOTS, link;

        while ((link = w->heads[slot]) != 0) {
            struct wheel_node *n = node_at(w, link - 1);

            if (*budget == 0)
                return WHEEL_NONE;
            --*budget;
            if (n->deadline_tick <= now) {
                wheel_cancel(w, link - 1);
                return link - 1;
            }
            list_remove(w, n);
            list_push(w, WHEEL_LATER, link - 1);
        }
        slot_finish(w);
        /* After a jump each slot is looked at once: what is due is due by `now`, whatever round it
         * was meant for. */
        w->tick = now - w->tick >= WHEEL_SLOTS ? now - WHEEL_SLOTS + 1 : w->tick + 1;
    }
    return WHEEL_NONE;
}

uint32_t wheel_next_ms(const struct wheel *w, uint64_t now_ms)
{
    if (w->n_armed == 0)
        return WHEEL_NONE;
    if (w->heads[WHEEL_LATER] != 0 || w->tick < tick_of(now_ms))
        return 0;
    /* A word at a time; the first word's low bits come last, as the end of the round. */
    for (uint32_t i = 0; i < WHEEL_SLOTS;) {
        uint32_t slot = (w->tick + i) % WHEEL_SLOTS;
        uint64_t bits = w->occupied[slot / 64] >> slot % 64;

        if (bits != 0) {
            uint64_t at = (w->tick + i + (uint64_t)__builtin_ctzll(bits)) * WHEEL_TICK_MS;

            return at > now_ms ? (uint32_t)(at - now_ms) : 0;
        }
        i += 64 - slot % 64;
    }
    assert(!"armed nodes, and no list has one");
    return 0;
}

void wheel_check(const struct wheel *w)
{
    uint32_t n_armed = 0;

    for (uint32_t list = 0; list <= WHEEL_LATER; list++) {
        uint32_t prev = WHEEL_HEAD | list;
        uint32_t slot = list == WHEEL_LATER ? w->tick % WHEEL_SLOTS : list;

        for (uint32_t link = w->heads[list]; link != 0; link = node_at(w, link - 1)->next) {
            const struct wheel_node *n = node_at(w, link - 1);

            assert(n->prev == prev);
            assert(n->deadline_tick % WHEEL_SLOTS == slot);
            prev = link;
            n_armed++;
            assert(n_armed <= w->n_armed);
        }
        if (list < WHEEL_SLOTS)
            assert((w->occupied[list / 64] >> list % 64 & 1) == (w->heads[list] != 0));
    }
    assert(n_armed == w->n_armed);
    for (uint32_t i = 0; i < w->n_nodes; i++)
        n_armed -= node_at(w, i)->prev != 0;
    assert(n_armed == 0);
}
