/* server.c: a small HTTP/1.1 server on poll(2).
 *
 *     FREE -> HEAD -> BODY -> ANSWER -> WRITE -> HEAD (kept alive), or -> LINGER -> FREE
 *               +--------------^                Any state may go to FREE: error, end of file, deadline.
 *
 * HEAD: reads a request head, or waits for one. BODY: reads as many bytes as announced. ANSWER: asks
 * api.c; stays while the ring is full. WRITE: sends. LINGER: shut down for writing, input is thrown
 * away for a moment, so that closing with unread input does not reset the connection and lose the
 * answer.
 *
 * Invariant: at most ADMIN_CLIENTS_MAX connections, ADMIN_BODIES_BYTES of bodies, one answer of
 *            ADMIN_ANSWER_MAX each, and every state but FREE has a deadline.
 * Never:     blocks; reads ahead of a request that is being answered.
 * Reserve:   with all places taken, a connection that waits for a request makes room for a new one;
 *            with all descriptors taken, so does the one that is kept for that. */
#include "admin/state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "shm/atomic.h"

#define PIPELINED_PER_TURN 8
#define ACCEPTS_PER_TURN   16
#define ANSWER_HEAD_MAX    1024
#define LISTENERS_MAX_HERE 8
#define NO_DEADLINE        UINT64_MAX

enum client_state {
    CLIENT_FREE = 0,
    CLIENT_HEAD,
    CLIENT_BODY,
    CLIENT_ANSWER,
    CLIENT_WRITE,
    CLIENT_LINGER,
    CLIENT_STATES
};

static const uint8_t client_may_become[CLIENT_STATES] = {
    [CLIENT_FREE] = 1u << CLIENT_HEAD,
    [CLIENT_HEAD] = 1u << CLIENT_BODY | 1u << CLIENT_ANSWER | 1u << CLIENT_WRITE | 1u << CLIENT_FREE,
    [CLIENT_BODY] = 1u << CLIENT_ANSWER | 1u << CLIENT_WRITE | 1u << CLIENT_FREE,
    [CLIENT_ANSWER] = 1u << CLIENT_WRITE | 1u << CLIENT_FREE,
    [CLIENT_WRITE] = 1u << CLIENT_HEAD | 1u << CLIENT_LINGER | 1u << CLIENT_FREE,
    [CLIENT_LINGER] = 1u << CLIENT_FREE,
};

struct client {
    enum client_state state;
    int fd;
    struct peer_address peer;
    uint64_t deadline_ms;
    char *input; /* HTTP_HEAD_MAX bytes; the request points into it until it is answered */
    uint32_t n_input;
    uint32_t scanned;
    uint32_t head_bytes;
    bool keep;      /* the connection outlives the answer */
    bool only_head; /* a HEAD was asked for: the body is only described */
    bool unseen;    /* HEAD: a request may lie in `input`, and it was the others' turn */
    struct http_request request;
    char *body;
    uint32_t n_body;
    uint32_t body_bytes; /* announced, and charged to server.bodies_bytes while `body` exists */
    struct answer answer;
    char head[ANSWER_HEAD_MAX];
    uint32_t n_head;
    uint32_t n_sent;
    uint32_t n_drained;
};

struct server {
    struct admin *admin;
    struct client clients[ADMIN_CLIENTS_MAX];
    uint32_t n_clients;
    uint32_t bodies_bytes;
    uint32_t n_waiting; /* in ANSWER: the ring is full */
    int reserve_fd;
    uint64_t listen_again_ms;
    struct log_rate accept_log;
};

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

static void client_become(struct server *s, struct client *c, enum client_state state,
                          uint64_t within_ms)
{
    assert(client_may_become[c->state] & 1u << state);
    c->state = state;
    c->deadline_ms = s->admin->now_ms + within_ms;
}

static void client_body_free(struct server *s, struct client *c)
{
    if (c->body == NULL)
        return;
    free(c->body);
    c->body = NULL;
    assert(s->bodies_bytes >= c->body_bytes);
    s->bodies_bytes -= c->body_bytes;
}

static void client_free(struct server *s, struct client *c)
{
    client_become(s, c, CLIENT_FREE, 0);
    close(c->fd);
    client_body_free(s, c);
    page_free(&c->answer.body);
    free(c->input);
    c->input = NULL;
    assert(s->n_clients > 0);
    s->n_clients--;
}

/* --- answering --- */

static void answer_begin(struct answer *a)
{
    memset(a, 0, sizeof *a);
    page_init(&a->body, ADMIN_ANSWER_MAX);
}

static struct slice answer_body(const struct answer *a)
{
    return a->fixed.bytes != NULL ? a->fixed : page_text(&a->body);
}

/* The answer is there: it only has to be sent. */
static void client_write(struct server *s, struct client *c)
{
    static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; "
                                 "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
                                 "form-action 'none'; frame-ancestors 'none'";
    struct answer *a = &c->answer;
    int n;

    if (a->body.failed) {
        page_free(&a->body);
        answer_begin(a);
        api_error(a, 500, "the answer could not be put together");
    }
    n = snprintf(c->head, sizeof c->head,
                 "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %u\r\n"
                 "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                 "Content-Security-Policy: %s\r\nReferrer-Policy: no-referrer\r\n"
                 "Connection: %s\r\n%s%s%s%s%s\r\n",
                 a->status, http_reason(a->status), a->type, answer_body(a).n_bytes, policy,
                 c->keep ? "keep-alive" : "close", a->allow != NULL ? "Allow: " : "",
                 a->allow != NULL ? a->allow : "", a->allow != NULL ? "\r\n" : "",
                 a->retry ? "Retry-After: 1\r\n" : "",
                 a->ask_token ? "WWW-Authenticate: Bearer\r\n" : "");
    assert(n > 0);
    assert((size_t)n < sizeof c->head);
    c->n_head = (uint32_t)n;
    c->n_sent = 0;
    client_become(s, c, CLIENT_WRITE, ADMIN_WRITE_MS);
}

/* An answer that needs no endpoint, after which the connection ends: where the next request begins
 * is not known, or not worth reading up to. */
static void client_refuse(struct server *s, struct client *c, uint16_t status, const char *why)
{
    answer_begin(&c->answer);
    api_error(&c->answer, status, why);
    c->answer.retry = status == 503;
    c->keep = false;
    client_write(s, c);
}

/* The ring is full at the moment. The slot tells the watchdog that somebody waits. */
static void client_wait(struct server *s)
{
    struct shm_slot *slot = s->admin->slot;

    s->n_waiting++;
    if (shm_load_u64(&slot->waits_since_ms) == 0)
        shm_store_u64(&slot->waits_since_ms, s->admin->now_ms);
}

/* False: it waits. */
static bool client_answer(struct server *s, struct client *c)
{
    const struct slice body = slice_of(c->body != NULL ? c->body : "", c->n_body);

    if (api_answer(s->admin, &c->request, body, &c->answer) == API_DONE) {
        client_write(s, c);
        return true;
    }
    if (s->admin->now_ms < c->deadline_ms) {
        client_wait(s);
        return false;
    }
    api_error(&c->answer, 503, "the ring is full: consumers do not keep up");
    c->answer.retry = true;
    client_write(s, c);
    return true;
}

/* --- reading --- */

/* What was announced fits and is admitted: makes room for it, and takes what came with the head. */
static void client_body_begin(struct server *s, struct client *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uint32_t n = c->n_input - c->head_bytes;

    c->n_body = 0;
    c->body_bytes = (uint32_t)c->request.content_length;
    if (c->body_bytes == 0) {
        client_become(s, c, CLIENT_ANSWER, ADMIN_RING_WAIT_MS);
        return;
    }
    c->body = s->bodies_bytes + c->body_bytes <= ADMIN_BODIES_BYTES ? malloc(c->body_bytes) : NULL;
    if (c->body == NULL) {
        client_refuse(s, c, 503, "too many requests at a time");
        return;
    }
    s->bodies_bytes += c->body_bytes;
    if (n > c->body_bytes)
        n = c->body_bytes;
    memcpy(c->body, c->input + c->head_bytes, n);
    c->n_body = n;
    memmove(c->input + c->head_bytes, c->input + c->head_bytes + n, c->n_input - c->head_bytes - n);
    c->n_input -= n;
    client_become(s, c, CLIENT_BODY, ADMIN_BODY_MS);
    /* Nothing is under way to this client, so it fits; if not, it asks no more after a while. */
    if (c->request.expect_continue && n == 0)
        (void)send(c->fd, go_on, sizeof go_on - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void client_head_done(struct server *s, struct client *c)
{
    const struct http_request *r = &c->request;
    const bool has_body = r->chunked || r->content_length > 0;

    c->keep = r->keep_alive;
    c->only_head = r->method == HTTP_HEAD_;
    answer_begin(&c->answer);
    if (!api_admit(s->admin, &c->peer, r, &c->answer)) {
        c->keep = c->keep && !has_body;
        client_write(s, c);
    } else if (r->chunked) {
        client_refuse(s, c, 411, "a Content-Length is needed");
    } else if (r->content_length > ADMIN_BODY_BYTES_MAX) {
        client_refuse(s, c, 413, "a body may have 1 MB");
    } else {
        client_body_begin(s, c);
    }
}

/* Looks at what is there. False: more is needed. */
static bool client_head_parse(struct server *s, struct client *c)
{
    uint16_t status;

    if (c->n_input == 0)
        return false;
    switch (http_parse(slice_of(c->input, c->n_input), &c->scanned, &c->request, &c->head_bytes,
                       &status)) {
    case HTTP_OK: client_head_done(s, c); return true;
    case HTTP_BAD: client_refuse(s, c, status, http_reason(status)); return true;
    case HTTP_NEED_MORE: break;
    }
    if (c->n_input < HTTP_HEAD_MAX)
        return false;
    client_refuse(s, c, 431, http_reason(431));
    return true;
}

enum read_result { READ_BYTES = 0, READ_LATER, READ_END };

static enum read_result client_receive(struct client *c, char *to, uint32_t room, uint32_t *n_bytes)
{
    ssize_t n;

    assert(room > 0);
    do {
        n = recv(c->fd, to, room, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return READ_LATER;
    if (n <= 0)
        return READ_END;
    *n_bytes += (uint32_t)n;
    return READ_BYTES;
}

/* Each of the following returns true if there is more to do at once. */

static bool client_head(struct server *s, struct client *c)
{
    const bool was_idle = c->n_input == 0;

    if (client_head_parse(s, c))
        return true;
    switch (
        client_receive(c, c->input + c->n_input, HTTP_HEAD_MAX - c->n_input, &c->n_input)) {
    case READ_BYTES: break;
    case READ_LATER: return false;
    case READ_END:   client_free(s, c); return false;
    }
    if (was_idle) /* from the first byte on, for the whole head */
        c->deadline_ms = s->admin->now_ms + s->admin->region.config->header_timeout_ms;
    return true;
}

static bool client_body(struct server *s, struct client *c)
{
    if (c->n_body == c->body_bytes) {
        client_become(s, c, CLIENT_ANSWER, ADMIN_RING_WAIT_MS);
        return true;
    }
    switch (client_receive(c, c->body + c->n_body, c->body_bytes - c->n_body, &c->n_body)) {
    case READ_BYTES: return true;
    case READ_LATER: return false;
    case READ_END:   client_free(s, c); return false;
    }
    return false;
}

static bool client_linger(struct server *s, struct client *c)
{
    char waste[4096];
    uint32_t n = 0;

    switch (client_receive(c, waste, sizeof waste, &n)) {
    case READ_BYTES: break;
    case READ_LATER: return false;
    case READ_END:   client_free(s, c); return false;
    }
    c->n_drained += n;
    if (c->n_drained <= CLOSE_DRAIN_BYTES)
        return true;
    client_free(s, c);
    return false;
}

/* --- sending --- */

/* Everything is out: the next request, or the end. */
static void client_sent(struct server *s, struct client *c)
{
    client_body_free(s, c);
    page_free(&c->answer.body);
    if (!c->keep) {
        c->n_drained = 0;
        client_become(s, c, CLIENT_LINGER, CLOSE_LINGER_MS);
        (void)shutdown(c->fd, SHUT_WR); /* fails where the peer is gone: the next read says so */
        return;
    }
    memmove(c->input, c->input + c->head_bytes, c->n_input - c->head_bytes);
    c->n_input -= c->head_bytes;
    c->scanned = 0;
    c->only_head = false;
    client_become(s, c, CLIENT_HEAD,
                  c->n_input == 0 ? ADMIN_IDLE_MS : s->admin->region.config->header_timeout_ms);
}

static bool client_send(struct server *s, struct client *c)
{
    struct slice body = answer_body(&c->answer);
    const uint32_t n_body = c->only_head ? 0 : body.n_bytes;
    struct iovec iov[2];
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = 0 };
    ssize_t n;

    if (c->n_sent < c->n_head)
        iov[message.msg_iovlen++] =
            (struct iovec){ c->head + c->n_sent, c->n_head - c->n_sent };
    if (n_body > 0) {
        uint32_t from = c->n_sent > c->n_head ? c->n_sent - c->n_head : 0;

        iov[message.msg_iovlen++] =
            (struct iovec){ (void *)(uintptr_t)(body.bytes + from), n_body - from };
    }
    do {
        n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n < 0) {
        client_free(s, c);
        return false;
    }
    c->n_sent += (uint32_t)n;
    if (c->n_sent == c->n_head + n_body)
        client_sent(s, c);
    return true;
}

/* --- one connection --- */

static void client_run(struct server *s, struct client *c)
{
    uint32_t n_answered = 0;
    bool more = true;

    c->unseen = false;
    while (more) {
        const enum client_state before = c->state;

        switch (c->state) {
        case CLIENT_HEAD:   more = client_head(s, c); break;
        case CLIENT_BODY:   more = client_body(s, c); break;
        case CLIENT_ANSWER: more = client_answer(s, c); break;
        case CLIENT_WRITE:  more = client_send(s, c); break;
        case CLIENT_LINGER: more = client_linger(s, c); break;
        case CLIENT_FREE:
        case CLIENT_STATES: more = false; break;
        }
        if (before == CLIENT_WRITE && c->state == CLIENT_HEAD &&
            ++n_answered == PIPELINED_PER_TURN) {
            c->unseen = c->n_input > 0;
            break;
        }
    }
}

static void client_late(struct server *s, struct client *c)
{
    if (c->state == CLIENT_ANSWER) {
        client_run(s, c); /* asks once more, then gives up with an answer */
    } else if ((c->state == CLIENT_HEAD && c->n_input > 0) || c->state == CLIENT_BODY) {
        client_refuse(s, c, 408, http_reason(408));
        client_run(s, c);
    } else {
        client_free(s, c);
    }
}

/* --- accepting --- */

/* Who goes first when a place is needed: 0 has its answer, 1 has asked nothing, 2 is about to ask. */
static uint32_t client_rank(const struct client *c)
{
    return c->state == CLIENT_LINGER ? 0 : c->n_input == 0 ? 1 : 2;
}

static bool client_goes_before(const struct client *a, const struct client *b)
{
    const uint32_t rank_a = client_rank(a), rank_b = client_rank(b);

    return rank_a != rank_b ? rank_a < rank_b : a->deadline_ms < b->deadline_ms;
}

/* A place for a new connection: a free one, or that of the one that is missed least. */
static struct client *client_place(struct server *s)
{
    struct client *least = NULL;

    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];

        if (c->state == CLIENT_FREE)
            return c;
        if ((c->state == CLIENT_HEAD || c->state == CLIENT_LINGER) &&
            (least == NULL || client_goes_before(c, least)))
            least = c;
    }
    if (least != NULL)
        client_free(s, least);
    return least;
}

static bool client_open(struct server *s, int fd, const struct sockaddr_storage *address)
{
    struct client *c = client_place(s);
    char *input = c != NULL ? malloc(HTTP_HEAD_MAX) : NULL;

    if (input == NULL)
        return false;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->input = input;
    peer_address_from(&c->peer, address);
    page_init(&c->answer.body, ADMIN_ANSWER_MAX);
    s->n_clients++;
    client_become(s, c, CLIENT_HEAD, s->admin->region.config->header_timeout_ms);
    client_run(s, c);
    return true;
}

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
        if (!client_open(s, fd, &address))
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
        enum client_state state = s->clients[i].state;

        if (state == CLIENT_FREE || state == CLIENT_HEAD || state == CLIENT_LINGER)
            return true;
    }
    return false;
}

/* --- the loop --- */

static short client_events(const struct client *c)
{
    switch (c->state) {
    case CLIENT_HEAD:
    case CLIENT_BODY:
    case CLIENT_LINGER: return POLLIN;
    case CLIENT_WRITE:  return POLLOUT;
    case CLIENT_ANSWER:
    case CLIENT_FREE:
    case CLIENT_STATES: break;
    }
    return 0;
}

static int server_wait_ms(const struct server *s)
{
    uint64_t until = NO_DEADLINE;

    if (s->n_waiting > 0)
        return ADMIN_RING_RETRY_MS;
    if (s->admin->now_ms < s->listen_again_ms)
        until = s->listen_again_ms;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        const struct client *c = &s->clients[i];

        if (c->state == CLIENT_HEAD && c->unseen)
            return 0;
        if (c->state != CLIENT_FREE && c->deadline_ms < until)
            until = c->deadline_ms;
    }
    if (until == NO_DEADLINE)
        return -1;
    return until > s->admin->now_ms ? (int)(until - s->admin->now_ms) : 0;
}

/* Those that have something to do, those whose time is over, and those that wait for the ring. */
static void server_clients(struct server *s, const struct pollfd *polled)
{
    s->n_waiting = 0;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];

        if (c->state == CLIENT_FREE)
            continue;
        if (c->state == CLIENT_ANSWER && (polled[i].revents & (POLLERR | POLLHUP)))
            client_free(s, c); /* whoever asked is gone */
        else if (s->admin->now_ms >= c->deadline_ms)
            client_late(s, c);
        else if (polled[i].revents != 0 || c->unseen || c->state == CLIENT_ANSWER)
            client_run(s, c);
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
        const struct client *c = &s->clients[i];

        clients[i] = (struct pollfd){ .fd = c->state == CLIENT_FREE ? -1 : c->fd,
                                      .events = client_events(c) };
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
    server_clients(s, clients);
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
        if (s->clients[i].state != CLIENT_FREE)
            client_free(s, &s->clients[i]);
    }
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    free(s);
    return 0;
}
