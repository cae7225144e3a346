/* load_rooms.h: what the scenario of many rooms records, clients and their messages (load_rooms.c), the
 * parent's side and the result (load_rooms_run.c).
 *
 * Clients 0 to publishers - 1 publish; the others are members, each of one room. A message is the next
 * one of its stream: one publisher to one room. So a member knows from the numbers alone what it must
 * have got, and in which order; nothing is kept per message.
 * Owns:  struct rooms_shared lies behind load_shared, in memory of all processes. */
#ifndef BENCH_LIB_LOAD_ROOMS_H
#define BENCH_LIB_LOAD_ROOMS_H

#include "lib/load.h"

#define ROOMS_STAMP_CHARS 53u
#define ROOMS_PAYLOAD_MAX 65536u
#define ROOMS_STREAMS_MAX (UINT32_C(1) << 24)
#define ROOMS_MAX         (UINT32_C(1) << 20)

enum {
    ROOMS_CONNECTED = 1,
    ROOMS_JOINED,
    ROOMS_PROBED,
    ROOMS_PUBLISHED,
    ROOMS_DRAINED,
    ROOMS_VERIFY,
    ROOMS_VERIFIED
};

struct rooms_shared {
    _Atomic uint64_t expected;
    _Atomic uint64_t got; /* different messages */
    _Atomic uint64_t lost;
    _Atomic uint64_t repeated;
    _Atomic uint64_t out_of_order;
    _Atomic uint64_t foreign; /* not of this run, of another room, or damaged */
    _Atomic uint64_t sent;
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t refused;
    _Atomic uint32_t dead_publishers;
    _Atomic uint32_t probes; /* asked for by the parent, so far */
    _Atomic uint64_t last_rx_ns;
    uint32_t run;
    uint32_t rooms;
    /* behind it: the number of messages of each stream */
};

static inline _Atomic uint32_t *rooms_streams(struct rooms_shared *s)
{
    return (_Atomic uint32_t *)(void *)(s + 1);
}

/* The body of a client process; `ctx` is the struct load. */
int rooms_main(uint32_t index, void *ctx);

#endif
