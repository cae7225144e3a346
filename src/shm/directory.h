/* directory.h: which workers have members in a hash bucket of (namespace, room). It decides only who is woken, never who delivers. */
#ifndef PEAL_SHM_DIRECTORY_H
#define PEAL_SHM_DIRECTORY_H

#include "shm/region.h"

/* A worker's private member counts per bucket; sets and clears its bit in the shared array. */
struct directory;
struct directory *directory_new(struct region *region); /* NULL: out of memory */
void directory_free(struct directory *d);

/* The first member of a room on this worker, or the last one gone. Set before the join takes effect, cleared after the leave did. */
void directory_enter(struct directory *d, uint32_t bucket);
void directory_leave(struct directory *d, uint32_t bucket);

/* Mask of workers with members in the bucket. The caller has fenced after its commit. */
uint64_t directory_members(const struct region *region, uint32_t bucket);

/* Master, reaping: clears the column of a dead slot. */
void directory_clear(struct region *region, uint32_t slot);

#endif
