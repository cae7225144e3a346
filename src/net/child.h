/* child.h: what the master hands a child: an explicit list of descriptors, named by environment-free argv `--child=ROLE:SLOT:GENERATION` and a
 * fixed order of descriptors that the spawner puts there. Everything else is closed before exec. */
#ifndef PEAL_NET_CHILD_H
#define PEAL_NET_CHILD_H

#include "base/slice.h"
#include "peal/limits.h"

enum child_role { CHILD_WORKER = 0, CHILD_BRIDGE, CHILD_ADMIN };

struct child {
    enum child_role role;
    uint32_t slot;
    uint32_t generation;
    int region_fd;
    int life_fd;                 /* read end of the life pipe: EOF = the master is dead */
    int inbox_fd;                /* read end of the own inbox */
    int inboxes[PEAL_SLOTS_ALL]; /* write ends; -1: no such slot */
    int bells[PEAL_SLOTS_ALL];   /* eventfds */
    int listeners[8];            /* reuseport, iphash: the slot's listeners; admin: its listener */
    uint32_t n_listeners;
};

/* The child's side: parses argv made by child_args and checks that the descriptors are there. False: not a child's command line or a bad one. */
MUST_USE bool child_parse(struct child *out, int argc, char *const argv[]);

/* The master's side: spawns (fork, descriptors moved to their numbers, close_range on the rest, PR_SET_PDEATHSIG, signals reset, exec of
 * /proc/self/exe). Returns the pid with `pidfd` set, or -errno. */
MUST_USE int child_spawn(const struct child *spec, int *pidfd);

#endif
