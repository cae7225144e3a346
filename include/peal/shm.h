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
#define PEAL_SHM_VERSION 7

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

    uint64_t
        arenas; /* mask of slots in whose part of the session table it may have entries, besides its own */

    /* survives its process: written by the process in the slot */
    SHM_LINE uint64_t next_ack; /* counter of broadcast ack ids: id = counter * 64 + slot */
    uint64_t
        redis_up; /* bridge: 1 when both connections are up and a probe has come through both */
    uint64_t redis_lag_us; /* bridge: last self-probe's round trip */
};

struct shm_ring {
    uint64_t units;              /* of the payload area; a power of two; constant */
    SHM_LINE uint64_t tail;      /* units reserved so far; compare-and-swap */
    SHM_LINE uint64_t consumers; /* mask of slots whose cursors gate; written by the master */
    uint64_t bells_all;          /* how often the master rang everybody */
    SHM_LINE uint64_t
        joins; /* where the last RECORD_JOIN ends, of all that were reserved; compare-and-swap */
};

/* --- namespaces: names that live on this host, so that counts and the bridge agree on an index --- */

enum shm_namespace_state {
    NAMESPACE_FREE = 0, /* a search ends here */
    NAMESPACE_GONE,     /* held a name once: a search goes on behind it */
    NAMESPACE_WRITING,  /* the name is being put in */
    NAMESPACE_READY,
    NAMESPACE_CLOSING /* READY, and being looked at for whether anybody uses it: it is given up, or READY again */
};
struct shm_namespace {
    uint64_t word;    /* enum shm_namespace_state | life << 8; the life grows with each name */
    uint32_t n_bytes; /* of the name */
    uint32_t section; /* index into config.namespaces, or UINT16_MAX for /ws */
    uint64_t keep_ms; /* CLOCK_MONOTONIC: not given up before; whoever has a reason raises it */
    uint64_t name
        [32]; /* up to NAME_BYTES_MAX bytes and zeros, as words: it may be read while it changes */
};
static_assert(NAME_BYTES_MAX < 256, "a name and a zero fill the words");

struct shm_namespaces {
    uint32_t
        writer; /* 0, or 1 + slot of who changes the table; compare-and-swap; the master takes it from the dead */
    uint32_t n_of[NAMESPACE_SECTIONS]; /* dynamic names there are of each section; the writer's */
    SHM_LINE uint64_t changes;         /* grows with each name that comes or goes; the writer's */
    SHM_LINE struct shm_namespace entries[NAMESPACES_MAX];
    /* how often each worker uses an index: sockets, rooms, selections and clients coming back. One writer each: the worker, the master when it is dead */
    SHM_LINE uint32_t uses[PEAL_WORKERS_MAX][NAMESPACES_MAX];
    /* how many sockets with permessage-deflate each worker has in it: whoever appends a message looks at all workers' of one index, so these lie together.
     * Not more than `uses`; one writer each, as there */
    SHM_LINE uint32_t deflaters[NAMESPACES_MAX][PEAL_SLOTS];
};

/* --- the session table: one look-up from an identity to its owner --- */

enum shm_session_kind {
    SESSION_FREE = 0,
    SESSION_SOCKET,
    SESSION_ENGINE,
    SESSION_DETACHED, /* a socket without connection that may come back */
    SESSION_DEAD /* of a dead worker, in a namespace with app = forward: not free before the bridge has told its end */
};

/* 32 bytes. The index says in whose arena the entry is (index / per_slot): that process uses a free one. One writer: the process that has the
 * identity, `owner`; a socket that came back to another worker is in the arena of the one that made it. Readers check `stamp` before and after. */
struct shm_session {
    uint64_t stamp; /* even: stable; odd: being written; grows */
    uint8_t id[15]; /* socket: index and 96 random bits; engine: the random part of the sid */
    uint8_t kind;   /* enum shm_session_kind */
    uint32_t local; /* index in the owner's own tables */
    uint16_t nsp;   /* socket: index of its namespace */
    uint8_t owner;  /* slot of the process that has it */
    uint8_t flags;
};
#define SESSION_UNTOLD \
    1u /* DETACHED: as DEAD, the bridge has to tell; written by the master, cleared by compare-and-swap */
static_assert(sizeof(struct shm_session) == 32, "two entries a cache line");

/* --- clients by address: a table for each worker, written by it alone. Not there where nobody asks (max_connections_per_ip = 0). --- */

#define IP_CLAIM 0x80000000u /* one more is being let in, or not */

struct shm_ip {
    uint64_t key; /* address_key of src/base/address.h; 0: free, a search ends here */
    uint32_t
        word; /* clients of this address that the worker has | IP_CLAIM; 0: `key` was one that has none any more */
    uint32_t
        passed; /* addresses with clients whose entries are behind this one; nobody else reads it */
};
static_assert(sizeof(struct shm_ip) == 16, "four entries a cache line");

/* --- connection state recovery: what is known of a socket besides; at the same index. Not there if recovery is off. --- */

enum shm_recovery_state {
    RECOVERY_NONE = 0, /* not recoverable (yet), or free */
    RECOVERY_LIVE,     /* has a connection; its owner writes */
    RECOVERY_DETACHED, /* nobody writes; who changes it to CLAIMED by compare-and-swap has it */
    RECOVERY_CLAIMED,  /* somebody is bringing it back, or freeing it */
    RECOVERY_SPOILED   /* has a connection, but cannot come back */
};

#define RECOVERY_INLINE_BYTES 46u
#define RECOVERY_BLOCK_BYTES  240u

/* One of two copies of the rooms: `seq` says which one counts. The first bytes are here, the rest in a chain of blocks. */
struct shm_recovery_rooms {
    uint32_t block; /* index + 1 of the first; 0: none */
    uint16_t n_bytes;
    uint8_t bytes[RECOVERY_INLINE_BYTES]; /* each room: since (8), length (1), name */
};

struct shm_recovery {
    uint64_t state;      /* enum shm_recovery_state | holder's slot << 8 | changes << 16 */
    uint64_t expires_ms; /* DETACHED: until then (CLOCK_MONOTONIC) */
    uint64_t start;      /* position from which on events were meant for it */
    uint64_t resume;     /* DETACHED: records from here on were not taken in for it */
    uint8_t secret[12];  /* the random part of its pid, whose first three bytes are the index */
    uint32_t
        nsp_life; /* of its namespace's name: the index may be another's since (struct shm_namespace) */
    uint64_t seq;      /* its lowest bit: which copy; stored after that copy is whole */
    uint64_t as_of[2]; /* of the copies: joins and leaves by records from there on are not in it */
    struct shm_recovery_rooms rooms[2];
};
/* A socket with one room of its own and a shared one fits; neighbours are one worker's, so they need no cache lines of their own. */
static_assert(sizeof(struct shm_recovery) == 176, "no holes");

/* As many to a slot as entries. Taken by the process that has the arena; free again as soon as the entry does not use it any more. */
struct shm_recovery_block {
    uint64_t user; /* 0: free; else 1 << 63 | seq << 24 | index of the entry */
    uint32_t next; /* index + 1; 0: the last */
    uint32_t _reserved;
    uint8_t bytes[RECOVERY_BLOCK_BYTES];
};
static_assert(sizeof(struct shm_recovery_block) == 256, "four cache lines");

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
    uint64_t namespaces_offset; /* struct shm_namespaces */
    uint64_t
        directory_offset; /* uint64_t [DIRECTORY_BUCKETS]; where recovery is on as many behind them (src/shm/directory.h) */
    uint64_t sessions_offset; /* struct shm_session [n_workers * sessions_per_slot] */
    uint64_t recovery_offset; /* struct shm_recovery [as many as sessions]; 0: recovery is off */
    uint64_t blocks_offset;   /* struct shm_recovery_block [as many] */
    uint64_t ips_offset;      /* struct shm_ip [n_workers * ips_per_slot]; 0: nobody asks */
    uint64_t ips_per_slot;    /* a power of two */
    uint64_t commits_offset;  /* uint64_t [ring.units] */
    uint64_t payload_offset;  /* ring.units * 64 bytes, mapped twice, back to back */

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
