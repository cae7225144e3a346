/* status.c: is this host ready, and what do its processes do?
 *
 * Ready means: a load balancer may send clients. From the start until all workers serve it is not;
 * later a worker that died and is being started again does not take the whole host out of service,
 * as long as others serve: the body names it. */
#include "admin/state.h"

#include "shm/atomic.h"

typedef unsigned long long ull;

extern const char peal_version[]; /* made by the Makefile, in one object only */

/* Writes "worker 1, worker 3": those that do not serve. Returns how many do. */
static uint32_t name_absent(const struct admin *a, struct page *out)
{
    uint32_t n_serving = 0;
    const char *comma = "";

    for (uint32_t i = 0; i < a->region.header->n_workers; i++) {
        if (metrics_slot_serves(&a->region, i)) {
            n_serving++;
            continue;
        }
        page_printf(out, "%sworker %u", comma, i);
        comma = ", ";
    }
    return n_serving;
}

bool status_ready(struct admin *a, struct page *out)
{
    const struct config *c = a->region.config;
    const bool redis_down =
        c->redis.enabled &&
        shm_load_acquire_u64(&a->region.header->slots[PEAL_SLOT_BRIDGE].redis_up) == 0;
    struct page absent;
    uint32_t n_serving;
    bool ready = true;

    page_init(&absent, 1024);
    n_serving = name_absent(a, &absent);
    a->was_ready = a->was_ready || absent.n_bytes == 0;
    if (shm_load_acquire_u32(&a->region.header->draining) != DRAIN_NO) {
        ready = false;
        page_printf(out, "draining\n");
    } else if (!a->was_ready || n_serving == 0) {
        ready = false;
        page_printf(out, "%s: ", a->was_ready ? "no worker" : "starting");
        page_put(out, page_text(&absent));
        page_printf(out, "\n");
    } else if (redis_down) {
        ready = !c->ready_requires_redis;
        page_printf(out, "%s: redis\n", ready ? "degraded" : "not ready");
    } else if (absent.n_bytes > 0) {
        page_printf(out, "degraded: ");
        page_put(out, page_text(&absent));
        page_printf(out, "\n");
    } else {
        page_printf(out, "ready\n");
    }
    page_free(&absent);
    return ready;
}

/* --- /api/workers --- */

static const char *state_name(uint32_t state)
{
    switch ((enum shm_slot_state)state) {
    case SLOT_EMPTY: return "empty";
    case SLOT_STARTING: return "starting";
    case SLOT_LIVE: return "live";
    case SLOT_REAPING: return "reaping";
    }
    return "unknown";
}

/* What every process has; leaves the object open. */
static void put_process(const struct admin *a, uint32_t slot, struct page *out)
{
    const struct shm_slot *s = &a->region.header->slots[slot];
    const uint32_t generation = shm_load_u32(&s->generation);
    const uint32_t state = shm_load_acquire_u32(&s->state);
    const bool there = state == SLOT_STARTING || state == SLOT_LIVE;

    page_printf(out, "{\"slot\":%u,\"pid\":%d,\"state\":\"%s\",\"ready\":%s,\"generation\":%u",
                slot, s->pid, state_name(state),
                metrics_slot_serves(&a->region, slot) ? "true" : "false", generation);
    page_printf(out, ",\"restarts\":%u,\"ring_lag_bytes\":%llu",
                generation > 0 ? generation - 1 : 0,
                there ? (ull)metrics_lag_bytes(&a->region, slot) : 0);
}

static void put_worker(const struct admin *a, uint32_t slot, struct page *out)
{
    const struct shm_slot *s = &a->region.header->slots[slot];
    const uint64_t *gauges = a->region.counters[slot].gauges;
    const uint64_t websocket = shm_load_u64(&gauges[GAUGE_CONNECTIONS_WEBSOCKET]);
    const uint64_t polling = shm_load_u64(&gauges[GAUGE_CONNECTIONS_POLLING]);

    put_process(a, slot, out);
    page_printf(out, ",\"clients\":%llu,\"websocket\":%llu,\"polling\":%llu,\"limit\":%u",
                (ull)websocket + polling, (ull)websocket, (ull)polling, s->max_connections);
    page_printf(out, ",\"pending\":%u,\"rooms\":%llu,\"outq_bytes\":%llu,\"inbound_bytes\":%llu",
                shm_load_u32(&s->n_pending), (ull)shm_load_u64(&gauges[GAUGE_ROOMS]),
                (ull)shm_load_u64(&gauges[GAUGE_OUTQ_BYTES]),
                (ull)shm_load_u64(&gauges[GAUGE_INBOUND_BYTES]));
    page_printf(out, ",\"rung\":%u}", shm_load_u32(&s->loop_rung));
}

static const char *drain_name(uint32_t draining)
{
    switch ((enum shm_drain)draining) {
    case DRAIN_NO: return "no";
    case DRAIN_GRACE: return "grace";
    case DRAIN_CLOSING: return "closing";
    }
    return "unknown";
}

void status_workers(struct admin *a, struct page *out)
{
    const struct shm_header *h = a->region.header;
    const struct shm_slot *bridge = &h->slots[PEAL_SLOT_BRIDGE];
    const uint64_t ring_bytes = h->ring.units * RING_UNIT_BYTES;
    const uint64_t tail_bytes = shm_load_u64(&h->ring.tail) * RING_UNIT_BYTES;

    page_printf(out, "{\"version\":");
    page_put_json(out, slice_text(peal_version));
    page_printf(out, ",\"pid\":%d,\"started_ms\":%llu,\"draining\":\"%s\"", h->master_pid,
                (ull)h->started_ms, drain_name(shm_load_acquire_u32(&h->draining)));
    page_printf(out, ",\"max_connections\":%llu,\"restarts\":%llu", (ull)h->max_connections,
                (ull)shm_load_u64(&h->restarts_total));
    page_printf(out, ",\"ring\":{\"bytes\":%llu,\"tail_bytes\":%llu,\"voids\":%llu}",
                (ull)ring_bytes, (ull)tail_bytes, (ull)shm_load_u64(&h->voids_total));
    page_printf(out, ",\"workers\":[");
    for (uint32_t i = 0; i < h->n_workers; i++) {
        if (i > 0)
            page_printf(out, ",");
        put_worker(a, i, out);
    }
    page_printf(out, "],\"bridge\":");
    if (a->region.config->redis.enabled) {
        put_process(a, PEAL_SLOT_BRIDGE, out);
        page_printf(out, ",\"redis_up\":%s,\"redis_lag_us\":%llu}",
                    shm_load_u64(&bridge->redis_up) != 0 ? "true" : "false",
                    (ull)shm_load_u64(&bridge->redis_lag_us));
    } else {
        page_printf(out, "null");
    }
    page_printf(out, "}\n");
}
