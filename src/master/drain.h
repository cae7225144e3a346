/* drain.h: from the wish to end to the end: grace, listeners closed, clients closed at a steady rate. */
#ifndef PEAL_MASTER_DRAIN_H
#define PEAL_MASTER_DRAIN_H

#include "master/state.h"

/* `by` is for the log. Nothing happens if a drain is under way. */
void drain_begin(struct master *m, const char *by);

void drain_turn(struct master *m);

/* How long the loop may sleep for this. */
uint32_t drain_wait_ms(const struct master *m);

#endif
