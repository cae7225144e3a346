/* server.c: the loop of the admin process: poll(2) over its listeners, its connections (caller.c) and
 * what tells it to end.
 *
 * Invariant: at most ADMIN_CLIENTS_MAX connections, ADMIN_BODIES_BYTES of bodies, one answer of
 *            ADMIN_ANSWER_MAX each, and every connection has a deadline.
 * Reserve:   with all places taken, a connection that waits for a request makes room for a new one;
 *            with all descriptors taken, so does the one that is kept for that. */
#include "admin/caller.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shm/atomic.h"

#define ACCEPTS_PER_TURN   16
#define LISTENERS_MAX_HERE 8
#define NO_DEADLINE        UINT64_MAX

static uint64_t now_us(void)
{
    struct timespec t;
    int error = clock_gettime(CLOCK_MONOTONIC, &t);

    assert(error == 0);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void server_time(struct server *s)
{
    s->admin->now_us = now_us();
    s->admin->now_ms = s->admin->now_us / 1000;
}

/* --- accepting --- */

/* No descriptor was to be had. The one in reserve is given for the connection that has waited
 * longest, and taken back from it when it ends. */
static bool reserve_use(struct server *s)
{
    if (s->reserve_fd < 0)
        return false;
    close(s->reserve_fd);
    s->reserve_fd = -1;
    return true;
}

static void reserve_renew(struct server *s)
{
    if (s->reserve_fd < 0)
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* False: nothing (more) to accept, or none of it possible at the moment. */
static bool server_accept_one(struct server *s, int listener)
{
    struct sockaddr_storage address = { 0 };
    socklen_t n = sizeof address;
    int fd = accept4(listener, (struct sockaddr *)&address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    uint32_t suppressed;

    if (fd >= 0) {
        if (!caller_open(s, fd, &address))
            close(fd);
        return true;
    }
    switch (errno) {
    case EAGAIN: return false;
    case EINTR:
    case ECONNABORTED: return true;
    case EMFILE:
    case ENFILE:
        if (reserve_use(s))
            return true;
        break;
    default: break;
    }
    if (log_allow(&s->accept_log, s->admin->now_ms, 6, &suppressed))
        log_warning("admin_accept_failed", "error=%m suppressed=%u", suppressed);
    s->listen_again_ms = s->admin->now_ms + ADMIN_LISTENER_OFF_MS;
    return false;
}

/* Is there a place, or one that could be made? */
static bool server_may_accept(const struct server *s)
{
    if (s->admin->now_ms < s->listen_again_ms)
        return false;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        enum caller_state state = s->callers[i].state;

        if (state == CALLER_FREE || state == CALLER_HEAD || state == CALLER_LINGER)
            return true;
    }
    return false;
}

/* --- the loop --- */

static int server_wait_ms(const struct server *s)
{
    uint64_t until = NO_DEADLINE;

    if (s->n_waiting > 0)
        return ADMIN_RING_RETRY_MS;
    if (s->admin->now_ms < s->listen_again_ms)
        until = s->listen_again_ms;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        const struct caller *c = &s->callers[i];

        if (c->state == CALLER_HEAD && c->unseen)
            return 0;
        if (c->state != CALLER_FREE && c->deadline_ms < until)
            until = c->deadline_ms;
    }
    if (until == NO_DEADLINE)
        return -1;
    return until > s->admin->now_ms ? (int)(until - s->admin->now_ms) : 0;
}

/* Those that have something to do, those whose time is over, and those that wait for the ring. */
static void server_callers(struct server *s, const struct pollfd *polled)
{
    s->n_waiting = 0;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct caller *c = &s->callers[i];

        if (c->state == CALLER_FREE)
            continue;
        if (c->state == CALLER_ANSWER && (polled[i].revents & (POLLERR | POLLHUP)))
            caller_free(s, c); /* whoever asked is gone */
        else if (s->admin->now_ms >= c->deadline_ms)
            caller_late(s, c);
        else if (polled[i].revents != 0 || c->unseen || c->state == CALLER_ANSWER)
            caller_run(s, c);
    }
    if (s->n_waiting == 0 && shm_load_u64(&s->admin->slot->waits_since_ms) != 0)
        shm_store_u64(&s->admin->slot->waits_since_ms, 0);
}

/* One turn. True: this process is to end. */
static bool server_turn(struct server *s, int signal_fd)
{
    enum { LIFE = 0, SIGNAL, LISTENERS };
    const struct child *child = s->admin->child;
    struct pollfd polled[LISTENERS + LISTENERS_MAX_HERE + ADMIN_CLIENTS_MAX];
    struct pollfd *clients = polled + LISTENERS + child->n_listeners;
    const bool may_accept = server_may_accept(s);
    int n;

    polled[LIFE] = (struct pollfd){ .fd = child->life_fd, .events = POLLIN };
    polled[SIGNAL] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
    for (uint32_t i = 0; i < child->n_listeners; i++)
        polled[LISTENERS + i] =
            (struct pollfd){ .fd = may_accept ? child->listeners[i] : -1, .events = POLLIN };
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        const struct caller *c = &s->callers[i];

        clients[i] = (struct pollfd){ .fd = c->state == CALLER_FREE ? -1 : c->fd,
                                      .events = caller_events(c) };
    }
    n = poll(polled, LISTENERS + child->n_listeners + ADMIN_CLIENTS_MAX, server_wait_ms(s));
    server_time(s);
    shm_store_u64(&s->admin->slot->progress, shm_load_u64(&s->admin->slot->progress) + 1);
    if (n < 0 && errno != EINTR) {
        log_error("admin_poll_failed", "error=%m");
        return true;
    }
    if (n < 0)
        return false;
    if (polled[LIFE].revents != 0 || polled[SIGNAL].revents != 0)
        return true;
    server_callers(s, clients);
    for (uint32_t i = 0; i < child->n_listeners; i++) {
        for (uint32_t k = 0; k < ACCEPTS_PER_TURN && polled[LISTENERS + i].revents != 0; k++) {
            if (!server_accept_one(s, child->listeners[i]))
                break;
        }
    }
    reserve_renew(s);
    return false;
}

int server_run(struct admin *a, int signal_fd)
{
    struct server *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ENOMEM;
    assert(a->child->n_listeners <= LISTENERS_MAX_HERE);
    s->admin = a;
    s->reserve_fd = -1;
    reserve_renew(s);
    server_time(s);
    shm_store_release_u64(&a->slot->ready_generation, a->child->generation);
    while (!server_turn(s, signal_fd))
        ;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        if (s->callers[i].state != CALLER_FREE)
            caller_free(s, &s->callers[i]);
    }
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    free(s);
    return 0;
}
