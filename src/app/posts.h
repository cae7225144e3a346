/* posts.h: functions that other threads of this process want called in the loop: a bounded queue of many producers and one consumer, and the doorbell. */
#ifndef PEAL_APP_POSTS_H
#define PEAL_APP_POSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "peal/app.h"

struct post {
    uint64_t turn; /* place: free for the producer that gets it; place + 1: filled */
    peal_fn fn;
    void *context;
};

struct posts {
    struct post *items; /* [PEAL_POSTS_MAX] */
    int bell_fd;        /* an eventfd that the loop reads */
    uint64_t tail;      /* next place to fill; compare-and-swap */
    char _apart[64];    /* producers and the consumer do not share a cache line */
    uint64_t head;      /* next place to take; the consumer's alone */
};

/* `bell_fd` is borrowed, and stays open as long as anybody posts. */
bool posts_init(struct posts *ps, int bell_fd);
void posts_destroy(struct posts *ps); /* nobody posts any more */

/* Any thread; waits for nobody. False: it is full. */
bool post_push(struct posts *ps, peal_fn fn, void *context);

/* The consumer's thread. False: there is nothing (yet). */
bool post_take(struct posts *ps, struct post *out);
bool posts_any(const struct posts *ps);

#endif
