/* ring.h: the one road between processes for messages. See the design notes in ring.c; tests/model/ring.pml and bell.pml are its protocols.
 *
 * Positions are 64-bit counts of units (64 bytes) and only grow. A record begins at a unit; it is readable at `ring_at(position)`, always
 * contiguous. Producers: ring_reserve, fill, ring_commit; at the end of the turn ring_bells. Consumers: ring_peek from their cursor on,
 * ring_release, and ring_park before they sleep. Nobody waits here, ever. */
#ifndef PEAL_SHM_RING_H
#define PEAL_SHM_RING_H

#include "shm/region.h"

enum ring_result {
    RING_OK = 0,
    RING_FULL,   /* try again in a later turn; this ends the turn: call ring_bells */
    RING_TOO_BIG /* never fits: more than a quarter of the ring */
};

/* Whom the records of a turn are for; gathered by the producer, looked up after the commits. */
struct ring_targets {
    uint64_t mask;                           /* processes, by slot */
    uint32_t buckets[RING_TURN_BUCKETS_MAX]; /* directory buckets, looked up in ring_bells */
    uint32_t n_buckets;
    uint32_t sessions[RING_TURN_BUCKETS_MAX]; /* session table indices: their owners */
    uint32_t n_sessions;
    bool everybody; /* too many to tell apart */
};

struct ring {
    struct region *region;
    struct shm_slot *slot; /* this process's */
    uint64_t units;
    uint64_t _floor; /* last minimum of the cursors that was seen; only grows */
    /* the turn */
    uint64_t _committed[RING_TURN_COMMITS_MAX];
    uint32_t _n_committed;
    uint64_t _end; /* of the last record committed in this turn */
    struct ring_targets _targets;
    uint64_t bells_rung; /* statistics */
    uint64_t bells_spared;
};

/* Consumers whose cursors gate (workers) begin at ring->slot->cursor: the master has set it. */
void ring_open(struct ring *ring, struct region *region);

/* --- producer --- */

/* Reserves room for a record of `n_bytes` (header unit included). RING_OK: `at` is its position, fill ring_at(ring, at) and commit soon: memcpy
 * only in between. RING_FULL also when this turn has committed RING_TURN_COMMITS_MAX records. */
MUST_USE enum ring_result ring_reserve(struct ring *ring, uint32_t n_bytes, uint64_t *at);
uint8_t *ring_at(const struct ring *ring, uint64_t position);

/* Would a record of that size find room just now? For who has something slow to do before it reserves. */
bool ring_takes(struct ring *ring, uint32_t n_bytes);
void ring_commit(struct ring *ring, uint64_t at, uint32_t n_bytes);

/* Between ring_reserve and ring_commit: the record that ends at `end` lets sockets join rooms. Whoever learns of it afterwards and asks ring_joins_taken gets
 * the truth. */
void ring_note_join(struct ring *ring, uint64_t end);

/* Have all consumers that gate taken in every record so noted? Then the directory has what they changed. */
bool ring_joins_taken(const struct ring *ring);

/* The record just committed is for these; gathered until ring_bells. */
void ring_target_mask(struct ring *ring, uint64_t slots);
void ring_target_bucket(struct ring *ring, uint32_t bucket);
void ring_target_session(struct ring *ring,
                         uint32_t index); /* its owner, as of the moment of ringing */

/* One full fence, then rings those who must be (design: doorbell). Does nothing if nothing was committed. End of each turn. */
void ring_bells(struct ring *ring);

/* Units reserved so far; everything that is appended later lies at or behind it. */
uint64_t ring_tail(const struct ring *ring);
uint64_t ring_capacity_bytes(const struct ring *ring);
uint32_t ring_record_bytes_max(const struct ring *ring);

/* --- consumer --- */

/* The record at `position`, or NULL if it is not committed yet. Valid until this consumer's cursor passes it. `n_units` gets its length as
 * checked (the header is written by other processes: a length that cannot be is fatal for this process: assert). */
MUST_USE const uint8_t *ring_peek(const struct ring *ring, uint64_t position, uint32_t *n_units);

/* Moves this consumer's cursor; everything before `position` may be overwritten from now on. */
void ring_release(struct ring *ring, uint64_t position);

/* Before sleeping, having found nothing at `position`, which becomes the cursor: true = parked, sleep until the bell, then ring_unpark and look;
 * false = look again (not parked). */
MUST_USE bool ring_park(struct ring *ring, uint64_t position);
void ring_unpark(struct ring *ring);

/* --- readers of history --- */

enum ring_history { HISTORY_OK = 0, HISTORY_GONE, HISTORY_NOT_YET };

/* Copies the record at `position` (a record's beginning) to `out` and validates it after the copy. HISTORY_GONE: overwritten, or not a record.
 * `n_bytes` gets the record's length; if it is more than `out_max`, nothing was copied and the answer is HISTORY_OK. */
MUST_USE enum ring_history ring_copy(const struct ring *ring, uint64_t position, uint8_t *out,
                                     uint32_t out_max, uint32_t *n_bytes);

/* The first record at or behind `position` that is still there; for a consumer that was overtaken. Position of the tail if there is none. */
uint64_t ring_resync(const struct ring *ring, uint64_t position);

/* --- master --- */

/* Step 1 and 2 of reaping: resolves the intent of the dead slot; commits its hole as VOID. False: a live process has the same intent still, try
 * again soon (never blocks). `dead` = mask of slots confirmed dead, master's own bit is not in it. */
MUST_USE bool ring_reap_intent(struct ring *ring, uint32_t slot, const bool dead[PEAL_SLOTS_ALL],
                               bool *voided);

/* A consumer begins to gate, or gates no more; its process does not run. It begins at the tail as of now, or at `position` if that is
 * further. Bridge and admin process never gate: they read history. */
void ring_consumer_add(struct ring *ring, uint32_t slot, uint64_t position);
void ring_consumer_remove(struct ring *ring, uint32_t slot);
void ring_bell_all(struct ring *ring);

/* Asserts what must always be true of this process's view. */
void ring_check(const struct ring *ring);

#endif
