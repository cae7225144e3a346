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
/* Ends an identity that this process has, in its own arena or another's, and its recoverability with it. */
void session_release(struct sessions *s, uint32_t index);
uint32_t sessions_used(const struct sessions *s);

/* Random bytes from the same buffer; at most 240. */
void sessions_random(struct sessions *s, uint8_t *out, uint32_t n);

/* Looks up by index and the whole id. False: no such identity. `owner` is a slot, `local` the owner's index. */
MUST_USE bool session_find(const struct region *region, enum shm_session_kind kind, uint32_t index,
                           const uint8_t id[15], uint32_t *owner, uint32_t *local, uint16_t *nsp);

/* Is there a socket of that id, with a connection or away? True as well if the entry is just being changed. */
MUST_USE bool session_exists(const struct region *region, uint32_t index, const uint8_t id[15]);

/* The slot that has the entry, or whose arena it is in if nobody has; the index may be out of range: then -1. */
int32_t session_owner(const struct region *region, uint32_t index);

/* Namespace of an entry that the caller holds or has claimed. */
uint16_t session_nsp(const struct region *region, uint32_t index);

/* --- sockets that come back (recoverable.h): the holder of the entry makes these changes --- */

/* It has no connection from here on: it is found no more. The holder's call, or the master's for a dead one. */
void session_detach(struct region *region, uint32_t index);
/* It is this process's, at `local`. */
void session_adopt(struct sessions *s, uint32_t index, uint32_t local);
/* This process has detached an entry, or has found one: sessions_collect looks at it from now on, if it is of its own arena. */
void session_watch(struct sessions *s, uint32_t index);
/* Looks at up to `budget` of the entries of the own arena that are detached or elsewhere: frees what has expired, takes back what was released.
 * Time: CLOCK_MONOTONIC, as in expires_ms. */
void sessions_collect(struct sessions *s, uint64_t now_ms, uint32_t budget);

struct region *sessions_region(struct sessions *s);

/* Master: frees an entry and its recoverability, whatever state its dead holder left it in. */
void session_wipe(struct region *region, uint32_t index);

/* Master, reaping: frees all entries of a dead slot but those that recoverables_reap has detached. */
void sessions_clear(struct region *region, uint32_t slot);

#endif
