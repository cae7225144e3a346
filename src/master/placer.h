/* placer.h: connections that the master accepted, on their way to a worker's inbox. */
#ifndef PEAL_MASTER_PLACER_H
#define PEAL_MASTER_PLACER_H

#include "master/state.h"

void placer_init(struct master *m);

/* Takes the descriptor of an accepted connection; `is_unix` spares the look at its peer. A connection
 * that is gone already, or for which there is no room, is closed. */
void placer_push(struct master *m, int fd, bool is_unix);

/* Places what waits and sends it, as far as inboxes take it. Once per turn. */
void placer_flush(struct master *m);

/* Reaping: what waits for the dead slot, here and in its inbox, waits for anybody again. */
void placer_reclaim(struct master *m, uint32_t slot);

/* Nothing waits any more: neither unplaced nor in a batch. */
bool placer_is_empty(const struct master *m);

/* How long the loop may sleep for this. */
uint32_t placer_wait_ms(const struct master *m);

#endif
