/* accept.h: which listeners the master accepts on, and when. */
#ifndef PEAL_MASTER_ACCEPT_H
#define PEAL_MASTER_ACCEPT_H

#include "master/state.h"

/* A connection, or why there is none. */
void accept_on_event(struct master *m, const struct loop_event *event);

/* Arms what should be accepted on and cancels the rest. Once per turn. */
void accept_turn(struct master *m);

/* For good: takes what waits on the master's listeners, closes all, removes the files of UNIX sockets. */
void accept_close(struct master *m);

#endif
