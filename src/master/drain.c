/* drain.c: the drain's effects; its arithmetic is pace.c.
 *
 *     NO -> GRACE -> CLOSING -> (no clients: lingering) -> children told to end
 *
 * In CLOSING new clients are refused. The listeners close with it, unless there are clients that poll: each of their requests may be a new TCP connection,
 * so closing the listeners would cut them all at once, with what is queued for them. Then they stay open until the last of those has been told.
 *
 * drain_timeout and the rate begin with CLOSING: `auto` is to fit all closes into 80 % of it, however
 * long the grace was. Clients gone, last bytes may still be under way: a worker's sockets that are no
 * clients any more get CLOSE_LINGER_MS to be read to their end, or the exit would reset them. */
#include "master/drain.h"

#include "master/accept.h"
#include "master/notify.h"
#include "master/slots.h"
#include "shm/atomic.h"
#include "shm/counters.h"

static uint64_t drain_clients_of(struct master *m, uint32_t slot)
{
    return (uint32_t)shm_load_u64(&master_shm(m, slot)->places);
}

static uint64_t drain_clients(struct master *m)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < m->config->workers; i++)
        n += drain_clients_of(m, i);
    return n;
}

static uint64_t drain_closed(struct master *m)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < m->config->workers; i++)
        n += shm_load_u64(&master_shm(m, i)->drain_closed);
    return n;
}

static bool drain_polling_left(struct master *m)
{
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (slot_has_process(&m->slots[i]) &&
            shm_load_u64(&m->region.counters[i].gauges[GAUGE_CONNECTIONS_POLLING]) > 0)
            return true;
    }
    return false;
}

static void drain_close_listeners(struct master *m)
{
    if (m->region.header->listeners_closed)
        return;
    accept_close(m);
    shm_store_u32(&m->region.header->listeners_closed, 1);
    ring_bell_all(&m->ring);
    log_info("listeners_closed", "clients=%llu", (unsigned long long)drain_clients(m));
}

static bool drain_sockets_left(struct master *m)
{
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (slot_has_process(&m->slots[i]) && shm_load_u32(&master_shm(m, i)->n_pending) > 0)
            return true;
    }
    return false;
}

static void drain_state(struct master *m, enum shm_drain state)
{
    shm_store_release_u32(&m->region.header->draining, state);
    ring_bell_all(&m->ring); /* those asleep look at the header, too */
}

void drain_begin(struct master *m, const char *by)
{
    if (m->region.header->draining != DRAIN_NO || m->stopping)
        return;
    log_info("draining", "by=%s clients=%llu grace=%ums timeout=%ums", by,
             (unsigned long long)drain_clients(m), m->config->drain_grace_ms,
             m->config->drain_timeout_ms);
    m->drain.begun_ms = m->now_ms;
    drain_state(m, DRAIN_GRACE);
    notify_service_manager("STOPPING=1\nSTATUS=draining");
}

static void drain_close_begin(struct master *m)
{
    const uint64_t n = drain_clients(m);
    const uint32_t rate = m->config->drain_rate != 0 ? m->config->drain_rate
                                                     : pace_auto(n, m->config->drain_timeout_ms);

    if (!drain_polling_left(m))
        drain_close_listeners(m);
    m->drain.closing_ms = m->now_ms;
    m->drain.tick_ms = m->now_ms;
    pace_begin(&m->drain.pace, rate, m->now_ms);
    drain_state(m, DRAIN_CLOSING);
    log_info("closing", "clients=%llu rate=%u", (unsigned long long)n, rate);
}

/* Tokens to workers, in proportion to their clients without one. */
static void drain_hand_out(struct master *m)
{
    const uint32_t n = m->config->workers;
    uint64_t wants[PEAL_WORKERS_MAX], given[PEAL_WORKERS_MAX];

    for (uint32_t i = 0; i < n; i++) {
        const struct shm_slot *shm = master_shm(m, i);
        uint64_t clients = drain_clients_of(m, i);
        uint64_t closed = shm_load_u64(&shm->drain_closed);
        uint64_t unused = shm->drain_allowance > closed ? shm->drain_allowance - closed : 0;

        wants[i] = m->slots[i].phase == PHASE_LIVE && clients > unused ? clients - unused : 0;
    }
    pace_share(pace_take(&m->drain.pace, m->now_ms), wants, given, n, &m->drain.turn);
    for (uint32_t i = 0; i < n; i++) {
        struct shm_slot *shm = master_shm(m, i);

        if (given[i] == 0)
            continue;
        shm_store_u64(&shm->drain_allowance, shm->drain_allowance + given[i]);
        master_wake(m, i);
    }
}

static void drain_end(struct master *m, uint64_t forced)
{
    count_add(&m->region.counters[PEAL_SLOT_MASTER], COUNT_FORCED_CLOSES, forced);
    drain_close_listeners(m);
    log_info("drained", "closed=%llu forced=%llu took=%llums", (unsigned long long)drain_closed(m),
             (unsigned long long)forced, (unsigned long long)(m->now_ms - m->drain.begun_ms));
    master_stop(m, 0);
}

static void drain_closing(struct master *m)
{
    struct drain *d = &m->drain;
    const uint64_t left = drain_clients(m);

    if (!drain_polling_left(m))
        drain_close_listeners(m);
    if (left > 0 && m->now_ms - d->closing_ms >= m->config->drain_timeout_ms) {
        drain_end(m, left);
        return;
    }
    if (left > 0) {
        d->linger_until_ms = 0; /* a connection under way has become a client */
        if (m->now_ms >= d->tick_ms) {
            d->tick_ms = m->now_ms + PACE_TICK_MS;
            drain_hand_out(m);
        }
        return;
    }
    if (d->linger_until_ms == 0)
        d->linger_until_ms = m->now_ms + (drain_closed(m) > 0 ? CLOSE_LINGER_MS + 200 : 0);
    if (m->now_ms >= d->linger_until_ms || !drain_sockets_left(m))
        drain_end(m, 0);
}

void drain_turn(struct master *m)
{
    if (m->stopping)
        return;
    if (m->region.header->draining == DRAIN_GRACE &&
        m->now_ms - m->drain.begun_ms >= m->config->drain_grace_ms)
        drain_close_begin(m);
    if (m->region.header->draining == DRAIN_CLOSING)
        drain_closing(m);
}

uint32_t drain_wait_ms(const struct master *m)
{
    uint64_t since_ms = m->now_ms - m->drain.begun_ms;

    switch ((enum shm_drain)m->region.header->draining) {
    case DRAIN_NO: return UINT32_MAX;
    case DRAIN_GRACE:
        return since_ms < m->config->drain_grace_ms ? m->config->drain_grace_ms - (uint32_t)since_ms
                                                    : 1;
    case DRAIN_CLOSING: return PACE_TICK_MS / 2;
    }
    return PACE_TICK_MS;
}
