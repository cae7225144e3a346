/* recoverable.h: what lets a socket come back after its connection or its worker is gone: its rooms and its `pid`, in shared memory at the index of its
 * entry in the session table. Layout: include/peal/shm.h.
 *
 *     NONE -> LIVE -> DETACHED -> CLAIMED -> LIVE ...
 *              |         ^           |
 *           SPOILED      +-----------+        and back to NONE from all but DETACHED, whose time runs out by way of CLAIMED
 *
 * The holder (the state's second byte) alone writes; DETACHED entries are nobody's, and a compare-and-swap on the state decides who gets one. */
#ifndef PEAL_SHM_RECOVERABLE_H
#define PEAL_SHM_RECOVERABLE_H

#include "shm/sessions.h"

#define PID_BYTES 15u

/* The rooms of one socket as they are stored: since (8 bytes) | length (1) | name, each. Sockets with more are not recoverable. */
#define RECOVERY_ROOMS_BYTES_MAX 32768u

static inline enum shm_recovery_state recovery_state(uint64_t word)
{
    return (enum shm_recovery_state)(word & 0xff);
}
static inline uint32_t recovery_holder(uint64_t word)
{
    return (uint32_t)(word >> 8 & 0xff);
}

/* One worker's part: which blocks of its arena are free. NULL: out of memory. */
struct recoverables;
struct recoverables *recoverables_new(struct region *region);
void recoverables_free(struct recoverables *r);

/* --- the holder of a living entry --- */

/* Makes the pid of a socket that this process has just claimed an identity for; tells it. */
void recoverable_prepare(struct sessions *s, struct region *region, uint32_t index);
void recoverable_pid(const struct region *region, uint32_t index, uint8_t pid[PID_BYTES]);

/* LIVE, in no room: events from `position` on are meant for it. */
void recoverable_open(struct region *region, uint32_t index, uint64_t position);

/* It enters a room, or leaves it. A record at `since` or behind it is for it if it is for that room; records from `as_of` on are not taken in yet. False:
 * over a bound; it is SPOILED then. */
MUST_USE bool recoverable_join(struct recoverables *r, uint32_t index, struct slice room,
                               uint64_t since, uint64_t as_of);
MUST_USE bool recoverable_leave(struct recoverables *r, uint32_t index, struct slice room,
                                uint64_t as_of);

/* All rooms at once, in the stored form. */
MUST_USE bool recoverable_store(struct recoverables *r, uint32_t index, struct slice rooms,
                                uint64_t as_of);

/* It has missed something that no replay can give back. */
bool recoverable_spoil(struct region *region, uint32_t index); /* true: it was LIVE */
bool recoverable_is_live(const struct region *region, uint32_t index);

/* Before the socket leaves its rooms to be away: what is for them and for its namespace is wanted from here on (directory_keep). */
void recoverable_keep(struct region *region, uint32_t index);

/* Without connection from here on: what is at or behind `position` was not taken in for it. Also for a CLAIMED entry whose claimer gives up. */
void recoverable_detach(struct sessions *s, uint32_t index, uint64_t position, uint64_t expires_ms);

/* Ends the identity, whatever state it is in that this process holds. */
void recoverable_release(struct recoverables *r, struct sessions *s, uint32_t index);

/* --- coming back --- */

enum recovery_claim {
    CLAIM_OK = 0,  /* CLAIMED by this process */
    CLAIM_UNKNOWN, /* no such pid in that namespace */
    CLAIM_EXPIRED,
    CLAIM_BUSY /* it has a connection still, or somebody else is claiming it: `word` is its state */
};
MUST_USE enum recovery_claim recoverable_claim(struct region *region, const uint8_t pid[PID_BYTES],
                                               uint16_t nsp, uint64_t now_ms, uint32_t *index,
                                               uint64_t *word);

/* Copies the rooms of an entry that this process has claimed. False: they are not whole. */
MUST_USE bool recoverable_rooms(const struct region *region, uint32_t index,
                                uint8_t out[RECOVERY_ROOMS_BYTES_MAX], uint32_t *n_bytes);

/* For who holds nothing: copies the rooms of a DETACHED entry. False: it is none, or somebody has changed it meanwhile. */
MUST_USE bool recoverable_peek(const struct region *region, uint32_t index,
                               uint8_t out[RECOVERY_ROOMS_BYTES_MAX], struct slice *rooms);

/* Walks over stored rooms: `at` begins at 0. */
MUST_USE bool recoverable_next_room(struct slice rooms, uint32_t *at, struct slice *name,
                                    uint64_t *since);
/* Adds one to stored rooms of `n_bytes` in a buffer of RECOVERY_ROOMS_BYTES_MAX, or takes one out. False: no room, or it was not in it. */
MUST_USE bool recoverable_put_room(uint8_t *rooms, uint32_t *n_bytes, struct slice name,
                                   uint64_t since);
bool recoverable_cut_room(uint8_t *rooms, uint32_t *n_bytes, struct slice name);

/* CLAIMED becomes LIVE again, at `local` of this process. */
void recoverable_adopt(struct sessions *s, struct region *region, uint32_t index, uint32_t local);

/* --- housekeeping --- */

/* Takes back blocks that no entry uses any more, looking at up to `budget`. */
void recoverables_collect(struct recoverables *r, uint32_t budget);

/* Master, reaping: what the dead process held is detached as of its cursor. Returns how many. Before sessions_clear. */
uint32_t recoverables_reap(struct region *region, uint32_t slot, uint64_t cursor,
                           uint64_t expires_ms);

#endif
