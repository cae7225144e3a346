/* directory.h: which workers have members in a hash bucket of (namespace, room). It decides who is woken, never who delivers; and whether anybody on this
 * host can want a message of Redis, so that the bridge may drop it undecoded. */
#ifndef PEAL_SHM_DIRECTORY_H
#define PEAL_SHM_DIRECTORY_H

#include "shm/region.h"

/* A worker's private member counts per bucket; sets and clears its bit in the shared array. */
struct directory;
struct directory *directory_new(struct region *region); /* NULL: out of memory */
void directory_free(struct directory *d);
uint64_t directory_bytes(void); /* memory of one */

/* The first member of a room on this worker, or the last one gone. Set before the join takes effect, cleared after the leave did. */
void directory_enter(struct directory *d, uint32_t bucket);
void directory_leave(struct directory *d, uint32_t bucket);

/* Does this worker have members in the bucket? Eight kilobytes answer for all of them: most records are for others. */
bool directory_mine(const struct directory *d, uint32_t bucket);

/* Mask of workers with members in the bucket. The caller has fenced after its commit. */
uint64_t directory_members(const struct region *region, uint32_t bucket);

/* Recovery: sockets that are away may want what is for this bucket from `position` of the ring on. They can come back only while the history still has
 * that position, so nobody takes this back. Before the last member's leave, or before the record that lets them join is committed. */
void directory_keep(struct region *region, uint32_t bucket, uint64_t position);

/* Can what is appended now be for anybody, with a connection or coming back? Socket ids are not entered: ask session_exists. */
bool directory_wanted(const struct region *region, uint32_t bucket);

/* Master, reaping: clears the column of a dead slot. */
void directory_clear(struct region *region, uint32_t slot);

#endif
