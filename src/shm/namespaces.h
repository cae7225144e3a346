/* namespaces.h: the host's table of live namespaces: a name has the same index in every process for as long as somebody uses it.
 *
 * Configured names have their places for ever. A name that a client chose (a section `/name*`) stays until room is needed: then those of the same
 * section go that no worker uses, and their index may be another name's. So an index is worth something only to a worker that uses it: whoever holds
 * on to one (a socket, a room, a selection, a client coming back) counts a use. Records name namespaces by name. */
#ifndef PEAL_SHM_NAMESPACES_H
#define PEAL_SHM_NAMESPACES_H

#include "shm/region.h"

#define NAMESPACE_NONE UINT32_MAX

/* Index of `name`, or NAMESPACE_NONE. Wait-free, O(1) typically (open addressing by the keyed hash of the name). For a worker that uses that namespace
 * the answer lasts; else it may be wrong by the time it is looked at. */
uint32_t namespace_find(const struct region *region, struct slice name);

/* Master, before there are others: a name that stays. False: the table is full or the name too long. */
MUST_USE bool namespace_reserve(struct region *region, struct slice name, uint32_t section);

enum namespace_result {
    NAMESPACE_OK = 0,
    NAMESPACE_ADDED, /* it is new: the bridge must be told */
    NAMESPACE_FULL,  /* all names that this section may have are in use */
    NAMESPACE_BUSY   /* another process is changing the table: again in the next turn */
};

/* Worker: finds or adds, and counts a use; on FULL and BUSY nothing has changed. `name` has at most NAME_BYTES_MAX bytes, `section` is an index into
 * config.namespaces. `now_ms`: CLOCK_MONOTONIC. */
MUST_USE enum namespace_result namespace_enter(struct region *region, struct slice name,
                                               uint32_t section, uint64_t now_ms, uint32_t *index);

/* Worker: one use more of an index that it uses already, or that stays; and one less. */
void namespace_use(struct region *region, uint32_t index);
void namespace_leave(struct region *region, uint32_t index);
bool namespace_in_use(const struct region *region, uint32_t index); /* by this process */

/* Worker: so many sockets more, or less, of an index that it uses take compressed messages. And: does any on this host? What whoever uses nothing is told may be of
 * the name that had the index before: that decides only whether a message is compressed. */
void namespace_add_deflaters(struct region *region, uint32_t index, int by);
bool namespace_deflates(const struct region *region, uint32_t index);

/* Not to be given up before `until_ms`, though nobody uses it: somebody may come back. */
void namespace_keep(struct region *region, uint32_t index, uint64_t until_ms);

/* Borrowed: for as long as the index is used. Absent: there is no such. */
struct slice namespace_name(const struct region *region, uint32_t index);

/* Is its application `forward`? */
bool namespace_is_forwarded(const struct region *region, uint32_t index);

/* Tells the names apart that had an index one after the other. */
uint64_t namespace_life(const struct region *region, uint32_t index);

/* For who uses nothing: a copy. False: there is none at that index now. */
struct namespace_copy {
    uint64_t life;
    uint32_t n_bytes;
    char name[NAME_BYTES_MAX + 1];
};
MUST_USE bool namespace_copy(const struct region *region, uint32_t index,
                             struct namespace_copy *out);

/* Grows with each name that has come or gone. */
uint64_t namespaces_changes(const struct region *region);

/* How many names clients may choose in each section `/name*`. */
uint32_t namespaces_share(const struct config *config);

/* Master, reaping: ends the uses of a dead worker, and what it was changing. Its namespaces are kept until `keep_ms`. */
void namespaces_reap(struct region *region, uint32_t slot, uint64_t keep_ms);

#endif
