/* bridge.h: the process that holds the host's only Redis connections, and translates between the ring and the wire of @socket.io/redis-adapter. */
#ifndef PEAL_BRIDGE_BRIDGE_H
#define PEAL_BRIDGE_BRIDGE_H

#include "net/child.h"

/* The process's main function. Returns its exit code. */
int bridge_main(const struct child *child);

#endif
