/* ip_counts.h: how many clients of one address the host has: max_connections_per_ip, and the warning that most come from one.
 *
 * Only where region.ips is not NULL: max_connections_per_ip or balance = iphash is set. Keys are address_key's (base/address.h). */
#ifndef PEAL_SHM_IP_COUNTS_H
#define PEAL_SHM_IP_COUNTS_H

#include "shm/region.h"

/* Worker: counts one client more, if the host then has at most `limit` of that address (0: whatever it has). `n` gets how many it has, this one included
 * if it was let in. The limit is never exceeded, whatever other workers do at the same time. */
MUST_USE bool ip_take(struct region *region, uint64_t key, uint32_t limit, uint32_t *n);

/* Worker: one that was let in has gone. */
void ip_give_back(struct region *region, uint64_t key);

/* How many the host has at this moment. */
uint32_t ip_count(const struct region *region, uint64_t key);

/* Master, reaping: the clients of a dead worker have gone. */
void ips_clear(struct region *region, uint32_t slot);

/* Tests: asserts what must be true of this process's table. */
void ips_check(const struct region *region);

#endif
