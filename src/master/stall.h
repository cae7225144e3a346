/* stall.h: is a process stuck? Numbers only; told the time.
 *
 * An idle worker sleeps as long as it likes: its progress word need not move while nobody waits for
 * it. Stuck is (a) who gates the ring at its floor and has not moved for STALL_TIMEOUT_MS, counted
 * from when somebody began to wait, and (b) who has been stopped (SIGSTOP) for that long: it may hold
 * a reserved and uncommitted record, whoever it is. */
#ifndef PEAL_MASTER_STALL_H
#define PEAL_MASTER_STALL_H

#include <stdbool.h>
#include <stdint.h>

#include "peal/limits.h"

/* What is remembered of one process. Zero for a new one. */
struct stall {
    uint64_t progress;
    uint64_t moved_ms;         /* when the progress word was seen to move last */
    uint64_t stopped_since_ms; /* 0: runs */
    bool seen;
};

enum stall_verdict { STALL_NOT = 0, STALL_GATES, STALL_STOPPED };

struct stall_sight {
    uint64_t progress;
    bool is_floor;         /* it gates, and nobody's cursor is behind its own */
    bool is_stopped;       /* state T */
    uint64_t wait_from_ms; /* since when a producer waits for room; 0: none does */
};

enum stall_verdict stall_look(struct stall *s, const struct stall_sight *sight, uint64_t now_ms);

#endif
