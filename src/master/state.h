/* state.h: what the master knows: one struct, passed to all its parts. Private to src/master.
 *
 * The parts and what they own of it:
 *   master.c  start, the loop, signals, the end     slots.c   spawning, readiness, reaping
 *   watch.c   who is stuck                          accept.c  which listeners are accepted on
 *   placer.c  what was accepted, on its way         drain.c   the drain */
#ifndef PEAL_MASTER_STATE_H
#define PEAL_MASTER_STATE_H

#include "base/log.h"
#include "master/backoff.h"
#include "master/pace.h"
#include "master/place.h"
#include "master/stall.h"
#include "net/child.h"
#include "net/listener.h"
#include "net/loop.h"
#include "shm/ring.h"

/* Operations in the tags of the master's loop. */
enum master_op {
    MASTER_OP_ACCEPT = 1, /* index: listener */
    MASTER_OP_SIGNAL,
    MASTER_OP_PIDFD, /* index: slot; generation: of its process */
    MASTER_OP_INBOX,
    MASTER_OP_CANCEL
};

/* The way of a slot: IDLE -> STARTING -> LIVE -> RESOLVING -> ANNOUNCING -> IDLE; STARTING may die too.
 * At the end of all, the dead go straight to IDLE. */
enum slot_phase {
    PHASE_IDLE = 0, /* no process; the next one comes at respawn_at_ms */
    PHASE_STARTING, /* has not said that it is ready */
    PHASE_LIVE,
    PHASE_RESOLVING,  /* dead; a live process may still have its intent */
    PHASE_ANNOUNCING, /* cleared; its `gone` record is not appended yet */
    PHASES
};

struct slot {
    bool configured; /* a process belongs here */
    enum child_role role;
    enum slot_phase phase; /* slot_become */
    int pid;
    int pidfd;    /* -1: none */
    int inbox[2]; /* [0] read end, [1] write end; outlive the processes; -1: no such slot */
    uint64_t started_ms;
    uint64_t respawn_at_ms;
    struct backoff backoff;
    struct stall stall;
    bool killed; /* by the watchdog; waits for its death */
};

/* A connection that was accepted and is not yet given to anybody. */
struct placer_waiting {
    int fd;
    struct peer_address peer;
};

#define PLACER_QUEUE_MAX 4096 /* beyond it what is accepted is closed, counted as pending */
#define PLACER_QUEUE_STOP \
    1024 /* from here on nothing is accepted until it has drained to a quarter */

struct placer {
    struct placer_waiting queue[PLACER_QUEUE_MAX];
    uint32_t head;
    uint32_t n;
    struct placer_batch {
        struct parcel parcels[INBOX_BATCH_MAX];
        int fds[INBOX_BATCH_MAX];
        uint32_t n;
    } batches[PEAL_WORKERS_MAX]; /* by slot: the next packet; stays where the inbox is full */
    uint32_t turn;
    struct place_rate rate;
    struct log_rate overflow_log;
    struct log_rate send_log;
};

struct acceptor {
    struct acceptor_listener {
        bool armed;      /* a multishot accept is in the kernel */
        bool cancelling; /* and asked to end */
        uint64_t retry_at_ms;
    } listeners[LISTENERS_MAX];
    bool paused;      /* the placer's queue is long */
    bool closed;      /* for good */
    uint32_t wait_ms; /* how long the loop may sleep: a retry is due */
    struct log_rate error_log;
};

struct drain {
    uint64_t begun_ms;   /* GRACE */
    uint64_t closing_ms; /* CLOSING */
    uint64_t tick_ms;
    uint64_t linger_until_ms; /* all clients are gone, last bytes may be on their way; 0: not yet */
    struct pace pace;
    uint32_t turn;
};

struct master {
    struct config resolved;
    const struct config *config; /* limits resolved; in the region once that exists */
    struct region region;
    struct ring ring;
    struct loop *loop;
    struct slot slots[PEAL_SLOTS_ALL]; /* the master's own has an inbox only */
    bool dead[PEAL_SLOTS_ALL]; /* confirmed dead and not yet free: what ring_reap_intent asks */
    struct listeners clients;
    struct listeners admin;
    int life[2]; /* nobody writes; nobody else has the write end */
    int signal_fd;
    int reserve_fd;      /* released for the moment of a spawn, which needs a descriptor */
    uint64_t now_ms;     /* CLOCK_MONOTONIC, once per turn */
    uint64_t watched_ms; /* when watch.c looked last */
    struct acceptor acceptor;
    struct placer placer;
    struct drain drain;
    uint32_t n_interrupts;
    bool pid_file_written;
    bool was_ready;
    bool stopping; /* all children are told to end; nothing is respawned */
    uint64_t kill_at_ms;
    int exit_code;
};

static inline struct shm_slot *master_shm(struct master *m, uint32_t slot)
{
    return &m->region.header->slots[slot];
}

/* Wakes the process in the slot: something in the header is new to it. */
void master_wake(struct master *m, uint32_t slot);

/* Begins the end: children are told to go, the loop ends when they have. The first call decides. */
void master_stop(struct master *m, int exit_code);
/* ... goes on: the workers are gone. */
void master_stop_rest(struct master *m);

#endif
