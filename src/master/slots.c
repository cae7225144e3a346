/* slots.c: from spawn to reaping.
 *
 * Invariant: a slot's words in the region that its process writes are written here only between the
 *            confirmed death of one process and the spawn of the next.
 * Invariant: the order of reaping (design, "The ring") is the order of slot_resolve and slot_announce:
 *            death confirmed, intent resolved or voided, cursor withdrawn, bell to all, sessions,
 *            directory, words and counters cleared, `gone` appended, slot free, cursor to the tail,
 *            successor. Each step waits for the one before; a step that cannot be done (a live process
 *            has the same intent, the ring is full) is tried again in the next turn, nothing blocks.
 * Why the bridge never gates: a bridge that waits for Redis must not hold up local delivery. So it has
 *            no bit in ring.consumers, ever: it reads what is behind it as history (validated copies),
 *            skips what was overwritten, counted, and its successor goes on at the cursor it left.
 *            The admin process reads replies in the same way. */
#include "master/slots.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "master/placer.h"
#include "shm/atomic.h"
#include "shm/counters.h"
#include "shm/directory.h"
#include "shm/ip_counts.h"
#include "shm/namespaces.h"
#include "shm/record.h"
#include "shm/recoverable.h"
#include "shm/sessions.h"

static const char *const slot_names[] = {
    [CHILD_WORKER] = "worker", [CHILD_BRIDGE] = "bridge", [CHILD_ADMIN] = "admin"
};

static const uint8_t slot_may_become[PHASES] = {
    [PHASE_IDLE] = 1u << PHASE_STARTING,
    [PHASE_STARTING] = 1u << PHASE_LIVE | 1u << PHASE_RESOLVING | 1u << PHASE_IDLE,
    [PHASE_LIVE] = 1u << PHASE_RESOLVING | 1u << PHASE_IDLE,
    [PHASE_RESOLVING] = 1u << PHASE_ANNOUNCING,
    [PHASE_ANNOUNCING] = 1u << PHASE_IDLE,
};

static void slot_become(struct master *m, uint32_t slot, enum slot_phase phase)
{
    static const uint32_t shared[PHASES] = {
        [PHASE_IDLE] = SLOT_EMPTY,         [PHASE_STARTING] = SLOT_STARTING,
        [PHASE_LIVE] = SLOT_LIVE,          [PHASE_RESOLVING] = SLOT_REAPING,
        [PHASE_ANNOUNCING] = SLOT_REAPING,
    };
    struct slot *s = &m->slots[slot];

    assert(slot_may_become[s->phase] & 1u << phase);
    s->phase = phase;
    shm_store_release_u32(&master_shm(m, slot)->state, shared[phase]);
}

bool slot_has_process(const struct slot *s)
{
    return s->phase == PHASE_STARTING || s->phase == PHASE_LIVE;
}

int slots_open(struct master *m)
{
    for (uint32_t i = 0; i < PEAL_SLOTS_ALL; i++) {
        struct slot *s = &m->slots[i];
        bool worker = i < m->config->workers;
        int error;

        s->configured =
            worker || i == PEAL_SLOT_ADMIN || (i == PEAL_SLOT_BRIDGE && m->config->redis.enabled);
        s->role = i == PEAL_SLOT_BRIDGE  ? CHILD_BRIDGE
                  : i == PEAL_SLOT_ADMIN ? CHILD_ADMIN
                                         : CHILD_WORKER;
        s->pidfd = s->inbox[0] = s->inbox[1] = -1;
        if (!s->configured && i != PEAL_SLOT_MASTER)
            continue;
        error = inbox_open(s->inbox);
        if (error != 0)
            return error;
        /* Blocking: who reads it through io_uring waits for a ring instead of getting EAGAIN. A write
         * would block only after 2^64 unread rings. */
        m->region.bells[i] = eventfd(0, EFD_CLOEXEC);
        if (m->region.bells[i] < 0)
            return -errno;
        master_shm(m, i)->max_connections = worker ? m->config->max_connections_per_worker : 0;
    }
    return 0;
}

/* --- spawning --- */

/* What the process in the slot writes, as a new process must find it. Only while there is none. */
static void slot_words_clear(struct master *m, uint32_t slot)
{
    struct shm_slot *shm = master_shm(m, slot);

    shm_store_u64(&shm->parked, RING_NOT_PARKED);
    shm_store_u64(&shm->intent_at, RING_NO_INTENT);
    shm_store_u32(&shm->intent_units, 0);
    shm_store_u64(&shm->waits_since_ms, 0);
    shm_store_u64(&shm->places, 0);
    shm_store_u32(&shm->n_places_given, 0);
    shm_store_u32(&shm->n_pending, 0);
    shm_store_u64(&shm->redis_up, 0);
    shm_store_u64(&shm->arenas, 0);
}

static void slot_child_fill(struct master *m, uint32_t slot, struct child *child)
{
    const struct slot *s = &m->slots[slot];

    *child = (struct child){ .role = s->role,
                             .slot = slot,
                             .generation = master_shm(m, slot)->generation,
                             .region_fd = m->region.fd,
                             .life_fd = m->life[0],
                             .inbox_fd = s->inbox[0] };
    for (uint32_t i = 0; i < PEAL_SLOTS_ALL; i++) {
        bool exists = m->slots[i].configured || i == PEAL_SLOT_MASTER;

        child->inboxes[i] = m->slots[i].inbox[1];
        child->bells[i] = exists ? m->region.bells[i] : -1;
    }
    if (s->role == CHILD_ADMIN)
        child->listeners[child->n_listeners++] = m->admin.items[0].fd;
    for (uint32_t i = 0; i < m->clients.n && s->role == CHILD_WORKER; i++) {
        const struct listener *l = &m->clients.items[i];

        if (l->slot == slot && l->fd >= 0)
            child->listeners[child->n_listeners++] = l->fd;
    }
}

/* cpu_affinity: `auto` gives each worker a CPU of its own, if there are as many among those that we
 * may use; with fewer, pinning would only make some wait for others. */
static void slot_pin(struct master *m, uint32_t slot, int pid)
{
    const struct config *c = m->config;
    cpu_set_t ours, one;
    int cpu = -1;

    if (c->cpu_affinity == AFFINITY_OFF || m->slots[slot].role != CHILD_WORKER)
        return;
    if (c->cpu_affinity == AFFINITY_LIST) {
        if (c->n_cpu_list > 0)
            cpu = c->cpu_list[slot % c->n_cpu_list];
    } else if (sched_getaffinity(0, sizeof ours, &ours) == 0 &&
               (uint32_t)CPU_COUNT(&ours) >= c->workers) {
        uint32_t left = slot;

        for (cpu = 0; cpu < CPU_SETSIZE && (!CPU_ISSET(cpu, &ours) || left-- > 0); cpu++)
            ;
    }
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(pid, sizeof one, &one) < 0)
        log_warning("worker_not_pinned", "slot=%u pid=%d cpu=%d error=%m", slot, pid, cpu);
}

/* The process never was or is gone, and left nothing behind: withdraw what slot_spawn prepared. */
static void slot_spawn_failed(struct master *m, uint32_t slot, int error)
{
    struct slot *s = &m->slots[slot];
    uint32_t delay_ms = backoff_death(&s->backoff, m->now_ms);

    if (delay_ms < BACKOFF_FIRST_MS)
        delay_ms = BACKOFF_FIRST_MS; /* what was lacking is not there again at once */
    if (s->role == CHILD_WORKER)
        ring_consumer_remove(&m->ring, slot);
    slot_become(m, slot, PHASE_IDLE);
    s->respawn_at_ms = m->now_ms + delay_ms;
    log_error("spawn_failed", "process=%s slot=%u error=%s restart_in=%ums", slot_names[s->role],
              slot, strerror(error), delay_ms);
}

static void slot_spawn(struct master *m, uint32_t slot)
{
    struct slot *s = &m->slots[slot];
    struct shm_slot *shm = master_shm(m, slot);
    struct child child;
    int pid;

    slot_words_clear(m, slot);
    shm_store_u64(&shm->drain_allowance, 0);
    shm_store_u64(&shm->drain_closed, 0);
    shm_store_u32(&shm->generation, shm->generation + 1);
    slot_become(m, slot, PHASE_STARTING);
    if (s->role == CHILD_WORKER)
        ring_consumer_add(&m->ring, slot, ring_tail(&m->ring));
    else if (s->role == CHILD_ADMIN || shm->generation == 1)
        shm_store_u64(&shm->cursor, ring_tail(&m->ring)); /* a bridge's stays where it was */

    slot_child_fill(m, slot, &child);
    if (m->reserve_fd >= 0)
        close(m->reserve_fd);
    pid = child_spawn(&child, &s->pidfd);
    m->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pid < 0) {
        s->pidfd = -1;
        slot_spawn_failed(m, slot, -pid);
        return;
    }
    s->pid = pid;
    s->started_ms = m->now_ms;
    s->killed = false;
    s->stall = (struct stall){ 0 };
    shm->pid = pid;
    slot_pin(m, slot, pid);
    loop_poll_once(m->loop, s->pidfd, POLLIN, tag_pack(MASTER_OP_PIDFD, slot, shm->generation));
    log_debug("spawned", "process=%s slot=%u pid=%d generation=%u", slot_names[s->role], slot, pid,
              shm->generation);
}

/* --- death --- */

static void slot_log_death(struct master *m, uint32_t slot, const siginfo_t *info,
                           uint32_t delay_ms)
{
    static const char *const events[] = {
        [CHILD_WORKER] = "worker_died", [CHILD_BRIDGE] = "bridge_died", [CHILD_ADMIN] = "admin_died"
    };
    const struct slot *s = &m->slots[slot];

    if (info->si_code == CLD_EXITED)
        log_error(events[s->role], "slot=%u pid=%d status=%d restart_in=%ums", slot, s->pid,
                  info->si_status, delay_ms);
    else
        log_error(events[s->role], "slot=%u pid=%d signal=%d restart_in=%ums", slot, s->pid,
                  info->si_status, delay_ms);
}

static bool slot_may_respawn(const struct master *m, uint32_t slot)
{
    const struct slot *s = &m->slots[slot];

    /* who has no listener any more needs no new worker */
    return s->configured && !m->stopping &&
           (s->role != CHILD_WORKER || m->region.header->draining != DRAIN_CLOSING);
}

static bool slots_have_worker(const struct master *m)
{
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (slot_has_process(&m->slots[i]))
            return true;
    }
    return false;
}

void slots_on_pidfd(struct master *m, uint32_t slot, uint32_t generation)
{
    struct slot *s = &m->slots[slot];
    struct shm_slot *shm = master_shm(m, slot);
    siginfo_t info = { 0 };
    uint32_t delay_ms;

    if (!slot_has_process(s) || generation != shm->generation)
        return;
    if (waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0) {
        loop_poll_once(m->loop, s->pidfd, POLLIN, tag_pack(MASTER_OP_PIDFD, slot, generation));
        return;
    }
    close(s->pidfd);
    s->pidfd = -1;
    shm->pid = 0;
    if (m->stopping) {
        log_debug("ended", "process=%s slot=%u pid=%d", slot_names[s->role], slot, s->pid);
        slot_become(m, slot, PHASE_IDLE);
        if (s->role == CHILD_WORKER && !slots_have_worker(m))
            master_stop_rest(m);
        return;
    }
    m->dead[slot] = true;
    slot_become(m, slot, PHASE_RESOLVING);
    delay_ms = backoff_death(&s->backoff, m->now_ms);
    s->respawn_at_ms = m->now_ms + delay_ms;
    slot_log_death(m, slot, &info, delay_ms);
    if (!m->was_ready && s->backoff.n_deaths >= BACKOFF_FREE_DEATHS) {
        log_error("start_failed", "process=%s slot=%u deaths=%u", slot_names[s->role], slot,
                  s->backoff.n_deaths);
        master_stop(m, 1);
    }
}

/* Steps up to the cleared slot. */
static void slot_resolve(struct master *m, uint32_t slot)
{
    struct slot *s = &m->slots[slot];
    bool voided = false;

    if (!ring_reap_intent(&m->ring, slot, m->dead, &voided))
        return; /* a live process has the same intent and is about to use or drop it */
    if (voided)
        log_info("hole_voided", "slot=%u voids=%llu", slot,
                 (unsigned long long)m->region.header->voids_total);
    if (s->role == CHILD_WORKER)
        ring_consumer_remove(&m->ring, slot);
    ring_bell_all(&m->ring);
    if (s->role == CHILD_WORKER) {
        uint32_t n_detached =
            recoverables_reap(&m->region, slot, shm_load_u64(&master_shm(m, slot)->cursor),
                              m->now_ms + m->config->recovery_ms);

        if (n_detached > 0)
            log_info("sessions_detached", "slot=%u sockets=%u", slot, n_detached);
        sessions_clear(&m->region, slot);
        directory_clear(&m->region, slot);
        if (m->region.ips != NULL)
            ips_clear(&m->region, slot);
        namespaces_reap(&m->region, slot,
                        m->now_ms + m->config->recovery_ms +
                            (config_forwards(m->config) ? UNTOLD_KEEP_MS : 0));
        placer_reclaim(m,
                       slot); /* before the words are cleared: places go with their connections */
    }
    slot_words_clear(m, slot);
    counters_fold(&m->region, slot);
    slot_become(m, slot, PHASE_ANNOUNCING);
}

static uint64_t slots_live_mask(const struct master *m)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        if (slot_has_process(&m->slots[i]))
            mask |= 1ull << i;
    }
    return mask;
}

static void slot_announce(struct master *m, uint32_t slot)
{
    struct shm_slot *own = master_shm(m, PEAL_SLOT_MASTER);
    const uint64_t live = slots_live_mask(m);
    struct timespec now;
    struct record_spec spec = { .header = { .kind = RECORD_GONE,
                                            .origin = ORIGIN_LOCAL,
                                            .slot = PEAL_SLOT_MASTER,
                                            .flags = RECORD_LOCAL,
                                            .generation = own->generation,
                                            .detail = slot,
                                            .id = master_shm(m, slot)->generation,
                                            .targets = live } };
    uint32_t n_bytes;
    uint64_t at;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    spec.header.time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    n_bytes = record_size(&spec);
    switch (ring_reserve(&m->ring, n_bytes, &at)) {
    case RING_OK: break;
    case RING_FULL:
        if (own->waits_since_ms == 0)
            shm_store_u64(&own->waits_since_ms, m->now_ms); /* the watchdog frees us */
        return;
    case RING_TOO_BIG: assert(!"a gone record is one unit"); return;
    }
    shm_store_u64(&own->waits_since_ms, 0);
    record_write(ring_at(&m->ring, at), &spec, m->region.header->hash_key);
    ring_commit(&m->ring, at, n_bytes);
    ring_target_mask(&m->ring, live);

    m->dead[slot] = false;
    slot_become(m, slot, PHASE_IDLE);
}

/* --- turns --- */

static void slot_hear_ready(struct master *m, uint32_t slot)
{
    struct slot *s = &m->slots[slot];
    struct shm_slot *shm = master_shm(m, slot);

    if (shm_load_acquire_u64(&shm->ready_generation) == shm->generation) {
        slot_become(m, slot, PHASE_LIVE);
        log_debug("process_ready", "process=%s slot=%u pid=%d took=%llums", slot_names[s->role],
                  slot, s->pid, (unsigned long long)(m->now_ms - s->started_ms));
    } else if (m->now_ms - s->started_ms > SLOTS_START_TIMEOUT_MS && !s->killed) {
        s->killed = true;
        log_error("start_timeout", "process=%s slot=%u pid=%d", slot_names[s->role], slot, s->pid);
        (void)pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
    }
}

void slots_turn(struct master *m)
{
    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        struct slot *s = &m->slots[i];

        if (m->stopping)
            break;
        if (s->phase == PHASE_STARTING)
            slot_hear_ready(m, i);
        if (s->phase == PHASE_RESOLVING)
            slot_resolve(m, i);
        if (s->phase == PHASE_ANNOUNCING)
            slot_announce(m, i);
        if (s->phase == PHASE_IDLE && m->now_ms >= s->respawn_at_ms && slot_may_respawn(m, i)) {
            if (s->backoff.n_deaths > 0)
                shm_store_u64(&m->region.header->restarts_total,
                              m->region.header->restarts_total + (s->role == CHILD_WORKER));
            slot_spawn(m, i);
        }
    }
    ring_bells(&m->ring);
}

uint32_t slots_wait_ms(const struct master *m)
{
    uint64_t wait_ms = UINT32_MAX;

    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        const struct slot *s = &m->slots[i];
        uint64_t here = UINT32_MAX;

        switch (s->phase) {
        case PHASE_IDLE:
            if (slot_may_respawn(m, i))
                here = s->respawn_at_ms > m->now_ms ? s->respawn_at_ms - m->now_ms : 1;
            break;
        case PHASE_STARTING: here = 5; break; /* nobody rings when a process is ready */
        case PHASE_RESOLVING:
        case PHASE_ANNOUNCING: here = 1; break;
        case PHASE_LIVE:
        case PHASES: break;
        }
        if (here < wait_ms)
            wait_ms = here;
    }
    return (uint32_t)wait_ms;
}

bool slots_ready(const struct master *m)
{
    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        const struct slot *s = &m->slots[i];

        if (s->configured && s->role != CHILD_BRIDGE && s->phase != PHASE_LIVE)
            return false;
    }
    return true;
}

bool slots_have_process(const struct master *m)
{
    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        if (slot_has_process(&m->slots[i]))
            return true;
    }
    return false;
}

void slots_signal(struct master *m, int signal_number)
{
    bool workers = slots_have_worker(m);

    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        if (slot_has_process(&m->slots[i]) && !(workers && i == PEAL_SLOT_BRIDGE))
            (void)pidfd_send_signal(m->slots[i].pidfd, signal_number, NULL, 0);
    }
}
