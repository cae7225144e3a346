/* namespaces.h: the host's table of live namespaces: a name gets the same index in every process. Entries are never removed. */
#ifndef PEAL_SHM_NAMESPACES_H
#define PEAL_SHM_NAMESPACES_H

#include "shm/region.h"

#define NAMESPACE_NONE UINT32_MAX

/* Index of `name`, or NAMESPACE_NONE. Wait-free, O(1) typically (open addressing by the keyed hash of the name). */
uint32_t namespace_find(const struct region *region, struct slice name);

/* Finds or adds. `added`: this call made it. NAMESPACE_NONE: the table is full (NAMESPACES_MAX) or the name too long. A process killed between claim and
 * name leaves an entry that nobody uses; a second one may then hold the same name never twice READY: see namespaces.c. */
MUST_USE uint32_t namespace_intern(struct region *region, struct slice name, uint16_t section,
                                   bool *added);

struct slice namespace_name(const struct region *region, uint32_t index);

#endif
