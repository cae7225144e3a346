/* watch.h: the watchdog: who is stuck is killed, and reaped like any other dead. */
#ifndef PEAL_MASTER_WATCH_H
#define PEAL_MASTER_WATCH_H

#include "master/state.h"

#define WATCH_INTERVAL_MS 250

/* Looks at all processes, if it is time. */
void watch_turn(struct master *m);

#endif
