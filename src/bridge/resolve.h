/* resolve.h: looks up a host's name without blocking: getaddrinfo() in a thread of its own. A thread that hangs in a resolver is left to itself; it delays
 * neither the loop nor the end of the process. */
#ifndef PEAL_BRIDGE_RESOLVE_H
#define PEAL_BRIDGE_RESOLVE_H

#include <sys/socket.h>

#include "base/slice.h"

#define RESOLVE_ADDRESSES_MAX 16

struct resolve_address {
    struct sockaddr_storage address;
    socklen_t n_bytes;
};

struct resolve; /* a look-up under way */

/* Begins. A numeric address needs no look-up: it is in `out` at once, *n is 1, and NULL is returned. NULL with *n = 0: it could not begin, *why says why.
 * Else *fd becomes readable when the answer is there; it is resolve_end's to close. */
struct resolve *resolve_begin(const char *host, uint16_t port, int *fd,
                              struct resolve_address out[RESOLVE_ADDRESSES_MAX], uint32_t *n,
                              const char **why);

/* When fd is readable, or to give up: frees it. The number of addresses; 0: none, *why (static text) says why. */
uint32_t resolve_end(struct resolve *r, struct resolve_address out[RESOLVE_ADDRESSES_MAX],
                     const char **why);

#endif
