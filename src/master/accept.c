/* accept.c: arming and disarming.
 *
 * The master accepts on a listener of its own (leastconn, UNIX sockets) while workers live, and on a
 * slot's listener (reuseport, iphash) while that slot is without a live process and another has one.
 * At start nothing is accepted until all is ready: connections wait in the kernel and are then spread
 * evenly. It pauses while the placer's queue is long.
 *
 * Invariant: per listener at most one multishot accept is in the kernel; it is over only with an event
 *            without `more`, whatever was asked before. */
#include "master/accept.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "master/placer.h"
#include "shm/atomic.h"

#define ACCEPT_RETRY_MS 100
#define ACCEPT_RETRY_SHORT_MS \
    5 /* out of descriptors, while those that wait to be sent free theirs */

static void accept_failed(struct master *m, struct acceptor_listener *a, int error)
{
    bool scarce = error == EMFILE || error == ENFILE;
    uint32_t suppressed;

    if (error == ECANCELED || error == ECONNABORTED || error == EINTR || m->acceptor.closed)
        return;
    a->retry_at_ms =
        m->now_ms + (scarce && !placer_is_empty(m) ? ACCEPT_RETRY_SHORT_MS : ACCEPT_RETRY_MS);
    if (!log_allow(&m->acceptor.error_log, m->now_ms, 6, &suppressed))
        return;
    log_error("accept_failed", "error=%s remedy=%s suppressed=%u", strerror(error),
              error == EMFILE   ? "raise RLIMIT_NOFILE (LimitNOFILE=)"
              : error == ENFILE ? "raise sysctl fs.file-max"
                                : "none known; tried again",
              suppressed);
}

void accept_on_event(struct master *m, const struct loop_event *event)
{
    uint32_t index = tag_index(event->tag);
    struct acceptor_listener *a = &m->acceptor.listeners[index];

    if (!event->more)
        a->armed = a->cancelling = false;
    if (event->result >= 0)
        placer_push(m, event->result, m->clients.items[index].is_unix);
    else
        accept_failed(m, a, -event->result);
}

static bool accept_any_live(const struct master *m)
{
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (m->slots[i].phase == PHASE_LIVE)
            return true;
    }
    return false;
}

/* The master stands in for an empty slot; shown in the slot for whoever looks. */
static bool accept_stands_in(struct master *m, uint32_t slot, bool any_live)
{
    bool stands_in = any_live && m->slots[slot].phase != PHASE_LIVE;
    struct shm_slot *shm = master_shm(m, slot);

    if (shm->listener_taken != stands_in)
        shm_store_u32(&shm->listener_taken, stands_in);
    return stands_in;
}

void accept_turn(struct master *m)
{
    const bool any_live = m->was_ready && accept_any_live(m);
    struct acceptor *acceptor = &m->acceptor;

    if (m->placer.n >= PLACER_QUEUE_STOP)
        acceptor->paused = true;
    else if (m->placer.n < PLACER_QUEUE_STOP / 4)
        acceptor->paused = false;
    acceptor->wait_ms = UINT32_MAX;
    for (uint32_t i = 0; i < m->clients.n && !acceptor->closed; i++) {
        const struct listener *l = &m->clients.items[i];
        struct acceptor_listener *a = &acceptor->listeners[i];
        bool wanted =
            l->slot == LISTENER_SHARED ? any_live : accept_stands_in(m, l->slot, any_live);

        wanted = wanted && !acceptor->paused;
        if (wanted && !a->armed && m->now_ms >= a->retry_at_ms) {
            loop_accept(m->loop, l->fd, tag_pack(MASTER_OP_ACCEPT, i, 0));
            a->armed = true;
        } else if (wanted && !a->armed) {
            acceptor->wait_ms = ACCEPT_RETRY_SHORT_MS;
        } else if (!wanted && a->armed && !a->cancelling) {
            loop_cancel(m->loop, tag_pack(MASTER_OP_ACCEPT, i, 0),
                        tag_pack(MASTER_OP_CANCEL, i, 0));
            a->cancelling = true;
        }
    }
}

/* What has been accepted by the kernel and by nobody else. Bounded by what the queue holds. */
static void accept_rest(struct master *m, const struct listener *l)
{
    while (m->placer.n < PLACER_QUEUE_MAX) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && errno != ECONNABORTED && errno != EINTR)
            return;
        if (fd >= 0)
            placer_push(m, fd, l->is_unix);
    }
}

void accept_close(struct master *m)
{
    m->acceptor.closed = true;
    listeners_unlink(&m->clients);
    for (uint32_t i = 0; i < m->clients.n; i++) {
        struct listener *l = &m->clients.items[i];
        bool ours = l->slot == LISTENER_SHARED || m->slots[l->slot].phase != PHASE_LIVE;

        if (l->fd < 0)
            continue;
        if (m->acceptor.listeners[i].armed)
            loop_cancel(m->loop, tag_pack(MASTER_OP_ACCEPT, i, 0),
                        tag_pack(MASTER_OP_CANCEL, i, 0));
        if (ours) {
            /* A request in the kernel keeps the socket listening past our close: shutting it down ends
             * it for all at once. A live worker's listener is its to empty and to close. */
            accept_rest(m, l);
            (void)shutdown(l->fd, SHUT_RDWR);
        }
        close(l->fd);
        l->fd = -1;
    }
}
