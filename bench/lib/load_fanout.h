/* load_fanout.h: what the fanout scenario records, and its verification.
 *
 * Clients write their own marks while messages come (load_fanout.c); when all is quiet, every
 * process judges its own clients against one order that all share (load_verify.c).
 * Owns:      struct fanout_shared lies behind load_shared, in memory of all processes. */
#ifndef BENCH_LIB_LOAD_FANOUT_H
#define BENCH_LIB_LOAD_FANOUT_H

#include "lib/load.h"

#define CANDIDATES   16u
#define NO_REFERENCE UINT32_MAX

enum { MESSAGE_NEW = 0, MESSAGE_SENT, MESSAGE_OK, MESSAGE_REFUSED };

struct candidate {
    _Atomic uint32_t alive;
    uint32_t count;
};

struct fanout_shared {
    _Atomic uint64_t expected;
    _Atomic uint64_t lost;
    _Atomic uint64_t repeated;
    _Atomic uint64_t out_of_order; /* of one publisher */
    _Atomic uint64_t foreign;      /* not of this run, or damaged */
    _Atomic uint32_t differing;    /* clients whose order is not the reference's */
    _Atomic uint32_t refused;
    _Atomic uint32_t verified;
    _Atomic uint32_t dead_publishers;
    uint32_t run;
    uint32_t reference; /* candidate; set before PHASE_VERIFY */
    uint32_t total;
    struct candidate candidates[DRIVER_PROCESSES_MAX * CANDIDATES];
    /* behind it: one state byte per message, then the candidates' orders */
};

struct publisher {
    struct client *client;
    uint32_t number;
    uint32_t sent;
    uint32_t answered;
    bool dead;
};

/* One process. */
struct fanout {
    struct load_process load;
    struct fanout_shared *shared;
    _Atomic uint8_t *states;
    uint64_t *seen;        /* by client: a bit per message */
    uint64_t *hashes;      /* by client */
    uint32_t *unique;      /* by client: different messages */
    uint32_t *highest;     /* by client and publisher: 1 + highest sequence seen */
    uint8_t *candidate_of; /* by client: 1 + its candidate, 0: none */
    uint32_t words;        /* of `seen` per client */
    uint32_t joined;
    uint32_t slow_open; /* at the end, while they are read on */
    uint32_t n_publishers;
    struct publisher *publishers;
    uint64_t publish_began_ns;
    uint64_t last_rx_ns;
    char *packet;
};

static inline bool is_slow(const struct load_process *p, const struct client *c)
{
    uint32_t g = load_number(p, c);

    return g >= p->options->publishers && g - p->options->publishers < p->options->slow;
}

static inline bool is_publisher(const struct load_process *p, const struct client *c)
{
    return load_number(p, c) < p->options->publishers;
}

static inline uint64_t hash_step(uint64_t h, uint32_t message)
{
    h ^= message + UINT64_C(0x9e3779b97f4a7c15);
    h *= UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 32;
}

static inline _Atomic uint8_t *states_of(struct fanout_shared *s)
{
    return (_Atomic uint8_t *)(s + 1);
}

static inline uint32_t *order_of(struct fanout_shared *s, uint32_t candidate)
{
    size_t states = ((size_t)s->total + 3) / 4 * 4;

    return (uint32_t *)(void *)((char *)(s + 1) + states) + (size_t)candidate * s->total;
}

/* True when every open listener has all that was sent, or nothing has come for settle_ms. */
bool fanout_drained(const struct fanout *f);
/* Parent: the longest order of a listener that is still there; NO_REFERENCE when there is none. */
uint32_t fanout_choose_reference(const struct fanout_shared *s);
/* Counts lost messages and differing orders of this process's clients into the shared struct. */
void fanout_verify(struct fanout *f);

#endif
