/* master.h: the process that owns the listeners, the shared region and the slots, and holds no client. */
#ifndef PEAL_MASTER_MASTER_H
#define PEAL_MASTER_MASTER_H

#include "base/config.h"

/* Serves until it is told to end. `config` as config_load left it. Returns the exit code: 0 after a
 * drain, 2 where the configuration asks for more than the host has, 1 otherwise; logs why. */
int master_serve(const struct config *config);

#endif
