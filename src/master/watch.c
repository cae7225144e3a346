/* watch.c: what the watchdog looks at; what it makes of it is stall.c.
 *
 * Why SIGKILL: whoever does not come back to its loop within STALL_TIMEOUT_MS while others wait for it
 *              cannot be asked. Its clients recover on other workers; what it was to deliver is in the
 *              ring. Its hole, if it left one, is voided when it is reaped. */
#include "master/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "master/slots.h"
#include "shm/atomic.h"

/* State T of proc(5). One under a debugger (t) is left alone: somebody is looking at it. */
static bool watch_is_stopped(int pid)
{
    char path[32], text[256];
    const char *state;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    state = strrchr(text, ')'); /* the name before it may hold anything */
    return state != NULL && state[1] == ' ' && state[2] == 'T';
}

/* Since when somebody has been waiting for room, in ms; 0: nobody waits. */
static uint64_t watch_wait_from(struct master *m)
{
    uint64_t from_ms = 0;

    for (uint32_t i = 0; i < PEAL_SLOTS_ALL; i++) {
        uint64_t since_ms = shm_load_u64(&master_shm(m, i)->waits_since_ms);

        if (i != PEAL_SLOT_MASTER && !slot_has_process(&m->slots[i]))
            continue;
        if (since_ms != 0 && (from_ms == 0 || since_ms < from_ms))
            from_ms = since_ms;
    }
    return from_ms;
}

static uint64_t watch_floor(struct master *m, uint64_t consumers)
{
    uint64_t floor = UINT64_MAX;

    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        uint64_t cursor = shm_load_u64(&master_shm(m, i)->cursor);

        if ((consumers & 1ull << i) && cursor < floor)
            floor = cursor;
    }
    return floor;
}

static void watch_kill(struct master *m, uint32_t slot, enum stall_verdict verdict)
{
    struct slot *s = &m->slots[slot];
    struct shm_slot *shm = master_shm(m, slot);

    s->killed = true;
    log_error("worker_stalled", "slot=%u pid=%d reason=%s behind_units=%llu", slot, s->pid,
              verdict == STALL_STOPPED ? "stopped" : "no progress while others wait",
              (unsigned long long)(ring_tail(&m->ring) - shm_load_u64(&shm->cursor)));
    (void)pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0); /* fails only if it is dead already */
}

void watch_turn(struct master *m)
{
    uint64_t wait_from_ms, consumers, floor;

    if (m->now_ms - m->watched_ms < WATCH_INTERVAL_MS || m->stopping)
        return;
    m->watched_ms = m->now_ms;
    wait_from_ms = watch_wait_from(m);
    consumers = shm_load_u64(&m->region.header->ring.consumers);
    floor = watch_floor(m, consumers);
    for (uint32_t i = 0; i < PEAL_SLOTS; i++) {
        struct slot *s = &m->slots[i];
        struct shm_slot *shm = master_shm(m, i);
        struct stall_sight sight;
        enum stall_verdict verdict;

        if (!slot_has_process(s) || s->killed)
            continue;
        sight.progress = shm_load_u64(&shm->progress);
        sight.is_floor = (consumers & 1ull << i) && shm_load_u64(&shm->cursor) == floor;
        sight.wait_from_ms = wait_from_ms;
        sight.is_stopped =
            (!s->stall.seen || s->stall.progress == sight.progress) && watch_is_stopped(s->pid);
        verdict = stall_look(&s->stall, &sight, m->now_ms);
        if (verdict != STALL_NOT)
            watch_kill(m, i, verdict);
    }
}
