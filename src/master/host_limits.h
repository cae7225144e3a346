/* host_limits.h: what the host's limit of open files makes of the configured limits. Numbers only. */
#ifndef PEAL_MASTER_HOST_LIMITS_H
#define PEAL_MASTER_HOST_LIMITS_H

#include "base/config.h"
#include "peal/limits.h"

/* Descriptors of a worker that are neither clients nor pending: inboxes, bells and the reserve, from
 * which it also takes its own few. The same sum as where the configuration is resolved. */
#define HOST_FD_KEPT (FD_RESERVE + 2 * PEAL_SLOTS_ALL)

/* Checks the limits against `nofile` (RLIMIT_NOFILE as it holds, per process; the configuration was
 * resolved with the hard limit, which may not be had), fills in those that are still 0, and lowers
 * max_pending where it would take more than half. False: a limit is more than the host allows; `why`
 * names key, value and limit, and `c` is unchanged. */
MUST_USE bool host_limits_apply(struct config *c, uint64_t nofile, char *why, uint32_t why_bytes);

/* Raises the soft limit of open files to the hard one; returns what holds then. */
uint64_t host_nofile_raise(void);

#endif
