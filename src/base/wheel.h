/* wheel.h: all deadlines of one worker: a hashed timer wheel that is told the time.
 *
 *     struct conn { …; struct wheel_node deadline; };               an all-zero node is not armed
 *     wheel_init(&w, conns, sizeof conns[0], offsetof(struct conn, deadline), n_conns, now_ms);
 *     wheel_arm(&w, index, now_ms + 25000);                         arms or re-arms
 *     for (uint32_t budget = 512; (index = wheel_expire(&w, now_ms, &budget)) != WHEEL_NONE;)
 *         conn_on_deadline(&conns[index]);                          may arm and cancel any node
 *
 * A node never fires early, and at most WHEEL_TICK_MS late (and by as much as the budget holds it
 * up). Arm, re-arm and cancel are O(1). `now_ms` is a monotonic clock; each call that takes it may
 * see the same or a later time than the one before, never an earlier one. */
#ifndef PEAL_BASE_WHEEL_H
#define PEAL_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_MS   128u
#define WHEEL_SLOTS     512u /* one round is 65.5 s; farther deadlines are looked at once a round */
#define WHEEL_NONE      UINT32_MAX /* no index; as a time: nothing is armed */
#define WHEEL_NODES_MAX (1u << 24) /* indices are below this */

/* Lives in the caller's struct. Zero is "not armed"; otherwise it is the wheel's alone. */
struct wheel_node {
    /* Index + 1, or WHEEL_HEAD and the number of the list whose first it is; 0 = not armed. */
    uint32_t prev;
    uint32_t next;          /* index + 1; 0 = last */
    uint32_t deadline_tick; /* fires when this tick has begun */
};

struct wheel {
    char *nodes; /* the first node; borrowed */
    size_t stride;
    uint32_t n_nodes;
    uint32_t n_armed;
    uint32_t tick; /* the first tick that is not done with */
    /* Index + 1. The last list: nodes of tick's slot that were looked at and are not due. */
    uint32_t heads[WHEEL_SLOTS + 1];
    uint64_t occupied[WHEEL_SLOTS / 64]; /* a bit per slot with a list */
};

/* `array` holds n_nodes elements of `stride` bytes with a node at `offset` in each; all nodes must
 * be zero. The array stays where it is for as long as the wheel is used. n_nodes <=
 * WHEEL_NODES_MAX. */
void wheel_init(struct wheel *w, void *array, size_t stride, size_t offset, uint32_t n_nodes,
                uint64_t now_ms);

/* Arms the node, or moves its deadline. A deadline that has passed fires at the next wheel_expire. */
void wheel_arm(struct wheel *w, uint32_t index, uint64_t deadline_ms);

/* Nothing happens if it is not armed. */
void wheel_cancel(struct wheel *w, uint32_t index);

bool wheel_is_armed(const struct wheel *w, uint32_t index);

/* The next node whose deadline has passed, no longer armed, or WHEEL_NONE. Each node looked at
 * takes one off *budget, due or not; WHEEL_NONE with *budget 0 means that more may be due: call
 * again in the next turn. Nodes that fire in one call come in no particular order. */
uint32_t wheel_expire(struct wheel *w, uint64_t now_ms, uint32_t *budget);

/* How long the loop may sleep, in ms: at most until the next deadline (a node of a later round may
 * cut it short); 0 = something may be due now; WHEEL_NONE = nothing is armed. */
uint32_t wheel_next_ms(const struct wheel *w, uint64_t now_ms);

/* Asserts the invariants; walks everything, for tests. */
void wheel_check(const struct wheel *w);

#endif
