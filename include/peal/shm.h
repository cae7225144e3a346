/* shm.h: the layout of the shared region, for Peal's processes and for whoever wants to look on (map it read-only).
 *
 * One memfd, made, sized, sealed (SHRINK | GROW) and versioned by the master. It holds offsets and plain values only. Every word has one
 * writer, named here, unless it says "compare-and-swap". Words that several processes touch lie on cache lines of their own; two lines are
 * kept together (128 bytes) where the adjacent-line prefetcher would make neighbours fight. */
#ifndef PEAL_SHM_H
#define PEAL_SHM_H

#include <assert.h>
#include <stdint.h>

#include "peal/limits.h"

#define PEAL_SHM_MAGIC   0x314c414550ull /* "PEAL1" */
#define PEAL_SHM_VERSION 1

#define SHM_LINE __attribute__((aligned(128)))

/* --- the ring (design: one log, many producers, gated by its consumers) --- */

#define RING_NO_INTENT  UINT64_MAX
#define RING_NOT_PARKED UINT64_MAX

enum shm_slot_state {
    SLOT_EMPTY = 0, /* no process */
    SLOT_STARTING,  /* spawned, has not said that it is ready */
    SLOT_LIVE,
    SLOT_REAPING /* dead, being cleared by the master */
};

/* What a process shares with the others; index = slot. */
struct shm_slot {
    /* written by the master */
    SHM_LINE uint32_t state; /* enum shm_slot_state */
    uint32_t generation;     /* of the process in the slot; grows at each spawn */
    int32_t pid;
    uint32_t n_places_given; /* clients placed here by the master in this generation (wraps) */
    uint64_t
        drain_allowance; /* connections that this worker may have closed for the drain so far, in all */
    uint32_t max_connections; /* limit of this worker as resolved; 0 = none */
    uint32_t
        listener_taken; /* reuseport: the master accepts on this slot's listener, the slot being empty */

    /* written by the process in the slot: the consumer's side */
    SHM_LINE uint64_t
        cursor; /* units before it are needed no more; alone on its lines: producers read it */
    SHM_LINE uint64_t
        parked; /* RING_NOT_PARKED, or position * 2 + (1: at a hole, 0: at the tail) */

    /* written by the process in the slot: the producer's side; cleared by the master when it reaps */
    SHM_LINE uint64_t
        intent_at; /* RING_NO_INTENT, or the tail it tries to reserve at; after intent_units */
    uint32_t intent_units;

    /* written by the process in the slot */
    SHM_LINE uint64_t
        progress; /* advanced each loop turn, and at least once per slice of a sweep */
    uint64_t
        places; /* clients (low 32 bits) and placed connections settled in this generation (high 32), one store: the
                                  * master reads both at once, so a place is never counted twice or not at all */
    uint64_t drain_closed; /* connections closed for the drain so far */
    uint32_t n_pending;    /* TCP sockets that are no clients */
    uint32_t loop_rung;
    uint64_t ready_generation; /* = generation once the process serves */
    uint64_t
        waits_since_ms; /* 0, or since when (CLOCK_MONOTONIC) this producer finds the ring full */

    /* survives its process: written by the process in the slot */
    SHM_LINE uint64_t next_ack; /* counter of broadcast ack ids: id = counter * 64 + slot */
    uint64_t
        redis_up; /* bridge: 1 when both connections are up and the subscriptions are confirmed */
    uint64_t redis_lag_us; /* bridge: last self-probe's round trip */
};

struct shm_ring {
    uint64_t units;              /* of the payload area; a power of two; constant */
    SHM_LINE uint64_t tail;      /* units reserved so far; compare-and-swap */
    SHM_LINE uint64_t consumers; /* mask of slots whose cursors gate; written by the master */
    uint64_t bells_all;          /* how often the master rang everybody */
};

/* --- namespaces: names that live on this host, so that counts and the bridge agree on an index --- */

enum shm_namespace_state {
    NAMESPACE_FREE = 0,
    NAMESPACE_CLAIMED,
    NAMESPACE_READY,
    NAMESPACE_ABANDONED
};
struct shm_namespace {
    uint32_t
        state; /* compare-and-swap FREE -> CLAIMED -> READY (the name is there) or ABANDONED (its owner died); never goes back */
    uint16_t n_bytes;
    uint16_t section; /* index into config.namespaces, or UINT16_MAX for /ws */
    char name[NAME_BYTES_MAX + 1];
};

/* --- the session table: one look-up from an identity to its owner --- */

enum shm_session_kind { SESSION_FREE = 0, SESSION_SOCKET, SESSION_ENGINE };

/* 32 bytes. One writer: the process in the slot that the index belongs to (index / per_slot). Readers check `stamp` before and after. */
struct shm_session {
    uint64_t stamp;   /* even: stable; odd: being written; grows */
    uint8_t id[15];   /* socket: index and 96 random bits; engine: the random part of the sid */
    uint8_t kind;     /* enum shm_session_kind */
    uint32_t local;   /* index in the owner's own tables */
    uint16_t nsp;     /* socket: index of its namespace */
    uint8_t detached; /* recoverable, without connection */
    uint8_t _reserved;
};
static_assert(sizeof(struct shm_session) == 32, "two entries a cache line");

/* --- the head of the region --- */

struct shm_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* sizeof(struct shm_header): a second check that both sides agree */
    uint64_t region_bytes; /* of the memfd */
    uint64_t epoch;        /* random: this region and no other */
    uint64_t hash_key[2];  /* key of the room hashes, random */
    uint32_t host_id;      /* 24 bits, random */
    uint32_t n_workers;
    int32_t master_pid;
    uint32_t sessions_per_slot;
    uint64_t started_ms; /* CLOCK_REALTIME */

    uint64_t config_offset; /* struct config (src/base/config.h) */
    uint64_t config_bytes;
    uint64_t counters_offset;   /* src/shm/counters.h */
    uint64_t namespaces_offset; /* struct shm_namespace [NAMESPACES_MAX] */
    uint64_t directory_offset;  /* uint64_t [DIRECTORY_BUCKETS] */
    uint64_t sessions_offset;   /* struct shm_session [n_workers * sessions_per_slot] */
    uint64_t commits_offset;    /* uint64_t [ring.units] */
    uint64_t payload_offset;    /* ring.units * 64 bytes, mapped twice, back to back */

    SHM_LINE uint32_t draining; /* enum shm_drain; written by the master */
    uint32_t listeners_closed;  /* 1: nothing is accepted any more */
    uint64_t max_connections;   /* of the host as resolved; 0 = none */
    uint64_t restarts_total;    /* written by the master */
    uint64_t voids_total;       /* written by the master */

    struct shm_ring ring;
    struct shm_slot slots[PEAL_SLOTS_ALL];
};

enum shm_drain { DRAIN_NO = 0, DRAIN_GRACE, DRAIN_CLOSING };

#endif
