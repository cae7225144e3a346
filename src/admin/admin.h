/* admin.h: the admin process: metrics, health, dashboard and API on a listener of their own. */
#ifndef PEAL_ADMIN_ADMIN_H
#define PEAL_ADMIN_ADMIN_H

#include "net/child.h"

/* Runs until the master ends it (SIGTERM) or is dead (the life pipe). Returns the exit status. */
MUST_USE int admin_main(const struct child *child);

#endif
