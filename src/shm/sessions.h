/* sessions.h: the session table: from a socket id or an engine sid to its owner, by index, in one look. Layout: include/peal/shm.h.
 *
 * Each worker owns the indices [slot * per_slot, (slot + 1) * per_slot). Only the owner writes; anybody reads. */
#ifndef PEAL_SHM_SESSIONS_H
#define PEAL_SHM_SESSIONS_H

#include "shm/region.h"

/* The owner's free list of its own indices. Private. */
struct sessions;
struct sessions *sessions_new(struct region *region);
void sessions_free(struct sessions *s);

#define SESSION_NONE UINT32_MAX

/* Claims an entry for a new identity; `id` (15 bytes) is made here: index (for sockets) and random bits from a buffered getrandom. SESSION_NONE: full. */
MUST_USE uint32_t session_claim(struct sessions *s, enum shm_session_kind kind, uint32_t local,
                                uint16_t nsp, uint8_t id[15]);
void session_release(struct sessions *s, uint32_t index);
uint32_t sessions_used(const struct sessions *s);

/* Looks up by index and the whole id. False: no such identity. `owner` is a slot, `local` the owner's index. */
MUST_USE bool session_find(const struct region *region, enum shm_session_kind kind, uint32_t index,
                           const uint8_t id[15], uint32_t *owner, uint32_t *local, uint16_t *nsp);

/* Owner of an index; the index may be out of range: then -1. */
int32_t session_owner(const struct region *region, uint32_t index);

/* Master, reaping: frees all entries of a dead slot. */
void sessions_clear(struct region *region, uint32_t slot);

#endif
