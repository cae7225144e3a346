/* load_verify.c: who got what: the judgement at the end of the fanout scenario.
 *
 * A listener that is still there gives the reference order. Every other listener must have the same
 * hash, a publisher that of the reference without its own messages, a closed client that of a
 * beginning. Every message that must have arrived must be marked at every client that is open. */
#include <stdlib.h>
#include <string.h>

#include "lib/load_fanout.h"

bool fanout_drained(const struct fanout *f)
{
    const struct engine *e = &f->load.engine;
    uint32_t *own = must_calloc(f->load.options->publishers + 1, sizeof *own);
    uint32_t all = 0;
    bool done = true;

    for (uint32_t m = 0; m < f->shared->total; m++) {
        uint8_t state = atomic_load_explicit(&f->states[m], memory_order_relaxed);

        if (state == MESSAGE_SENT || state == MESSAGE_OK) {
            own[m / f->load.options->messages]++;
            all++;
        }
    }
    for (uint32_t i = 0; i < e->n_clients && done; i++) {
        const struct client *c = &e->clients[i];

        if (c->state == CLIENT_OPEN && !is_slow(&f->load, c))
            done = f->unique[i] >=
                   all - (is_publisher(&f->load, c) ? own[load_number(&f->load, c)] : 0);
    }
    free(own);
    return done || now_ns() - f->last_rx_ns > f->load.options->settle_ms * NS_PER_MS;
}

static bool must_arrive(const struct fanout *f, uint32_t m)
{
    uint8_t state = atomic_load(&f->states[m]);

    if (f->load.engine.config.dialect == DIALECT_SOCKETIO)
        return state == MESSAGE_OK;
    /* Whoever was lost on the plain dialect cannot tell what of it had been taken. */
    return state == MESSAGE_SENT && atomic_load(&f->shared->dead_publishers) == 0;
}

/* The hash of the reference's first `n` messages but those of `publisher` (UINT32_MAX: of
 * nobody). */
static uint64_t reference_hash(const struct fanout *f, uint32_t n, uint32_t publisher)
{
    const uint32_t *order = order_of(f->shared, f->shared->reference);
    uint64_t h = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (order[i] / f->load.options->messages != publisher)
            h = hash_step(h, order[i]);
    }
    return h;
}

static void verify_client(struct fanout *f, const struct client *c, uint64_t whole)
{
    uint32_t count = f->shared->candidates[f->shared->reference].count;
    uint32_t self = is_publisher(&f->load, c) ? load_number(&f->load, c) : UINT32_MAX;
    uint64_t due = 0;
    uint64_t lost = 0;
    uint64_t expected = whole;

    if (c->state != CLIENT_OPEN) {
        if (self == UINT32_MAX &&
            (f->unique[c->id] > count ||
             f->hashes[c->id] != reference_hash(f, f->unique[c->id], UINT32_MAX)))
            atomic_fetch_add(&f->shared->differing, 1);
        return;
    }
    for (uint32_t m = 0; m < f->shared->total; m++) {
        if (m / f->load.options->messages == self || !must_arrive(f, m))
            continue;
        due++;
        lost += !(f->seen[(size_t)c->id * f->words + m / 64] >> m % 64 & 1);
    }
    atomic_fetch_add(&f->shared->expected, due);
    atomic_fetch_add(&f->shared->lost, lost);
    if (self != UINT32_MAX)
        expected = reference_hash(f, count, self);
    if (f->hashes[c->id] != expected)
        atomic_fetch_add(&f->shared->differing, 1);
    atomic_fetch_add(&f->shared->verified, 1);
}

void fanout_verify(struct fanout *f)
{
    uint64_t whole;

    if (f->shared->reference == NO_REFERENCE)
        return;
    whole = reference_hash(f, f->shared->candidates[f->shared->reference].count, UINT32_MAX);
    for (uint32_t i = 0; i < f->load.engine.n_clients; i++) {
        const struct client *c = &f->load.engine.clients[i];

        if (!is_slow(&f->load, c))
            verify_client(f, c, whole);
    }
}

uint32_t fanout_choose_reference(const struct fanout_shared *s)
{
    uint32_t best = NO_REFERENCE;

    for (uint32_t i = 0; i < DRIVER_PROCESSES_MAX * CANDIDATES; i++) {
        if (atomic_load(&s->candidates[i].alive) &&
            (best == NO_REFERENCE || s->candidates[i].count > s->candidates[best].count))
            best = i;
    }
    return best;
}
