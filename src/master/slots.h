/* slots.h: the processes of the house: spawned, heard ready, reaped in the design's order, respawned. */
#ifndef PEAL_MASTER_SLOTS_H
#define PEAL_MASTER_SLOTS_H

#include "master/state.h"

#define SLOTS_START_TIMEOUT_MS 30000 /* to say ready; then it is killed and counts as a death */

/* Which slots there are, their inboxes and bells. 0 or -errno. The region exists. */
MUST_USE int slots_open(struct master *m);

/* A pidfd became readable. */
void slots_on_pidfd(struct master *m, uint32_t slot, uint32_t generation);

/* Spawns what is due, hears who is ready, takes reaping a step further. Once per turn. */
void slots_turn(struct master *m);

/* How long the loop may sleep for these. */
uint32_t slots_wait_ms(const struct master *m);

/* All workers and the admin process are live. The bridge is not asked: local delivery never depends
 * on it. */
bool slots_ready(const struct master *m);

bool slots_have_process(const struct master *m);
bool slot_has_process(const struct slot *s);
/* Not to the bridge while there are workers: what they say last is to go out. */
void slots_signal(struct master *m, int signal_number);

#endif
