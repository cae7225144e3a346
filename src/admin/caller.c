/* caller.c: the way of a connection.
 *
 *     FREE -> HEAD -> BODY -> ANSWER -> WRITE -> HEAD (kept alive), or -> LINGER -> FREE
 *               +--------------^                Any state may go to FREE: error, end of file, deadline.
 *
 * HEAD: reads a request head, or waits for one. BODY: reads as many bytes as announced. ANSWER: asks
 * api.c; stays while the ring is full. WRITE: sends. LINGER: shut down for writing, input is thrown
 * away for a moment, so that closing with unread input does not reset the connection and lose the
 * answer.
 *
 * Owns:  its descriptor, its input buffer, the body and the answer; the body is charged to
 *        server.bodies_bytes as long as it exists.
 * Never: blocks; reads ahead of a request that is being answered. */
#include "admin/caller.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/atomic.h"

#define PIPELINED_PER_TURN 8

static const uint8_t caller_may_become[CALLER_STATES] = {
    [CALLER_FREE] = 1u << CALLER_HEAD,
    [CALLER_HEAD] =
        1u << CALLER_BODY | 1u << CALLER_ANSWER | 1u << CALLER_WRITE | 1u << CALLER_FREE,
    [CALLER_BODY] = 1u << CALLER_ANSWER | 1u << CALLER_WRITE | 1u << CALLER_FREE,
    [CALLER_ANSWER] = 1u << CALLER_WRITE | 1u << CALLER_FREE,
    [CALLER_WRITE] = 1u << CALLER_HEAD | 1u << CALLER_LINGER | 1u << CALLER_FREE,
    [CALLER_LINGER] = 1u << CALLER_FREE,
};

static void caller_become(struct server *s, struct caller *c, enum caller_state state,
                          uint64_t within_ms)
{
    assert(caller_may_become[c->state] & 1u << state);
    c->state = state;
    c->deadline_ms = s->admin->now_ms + within_ms;
}

static void caller_body_free(struct server *s, struct caller *c)
{
    if (c->body == NULL)
        return;
    free(c->body);
    c->body = NULL;
    assert(s->bodies_bytes >= c->body_bytes);
    s->bodies_bytes -= c->body_bytes;
}

void caller_free(struct server *s, struct caller *c)
{
    caller_become(s, c, CALLER_FREE, 0);
    close(c->fd);
    caller_body_free(s, c);
    page_free(&c->answer.body);
    free(c->input);
    c->input = NULL;
    assert(s->n_callers > 0);
    s->n_callers--;
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
static void caller_write(struct server *s, struct caller *c)
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
    caller_become(s, c, CALLER_WRITE, ADMIN_WRITE_MS);
}

/* An answer that needs no endpoint, after which the connection ends: where the next request begins
 * is not known, or not worth reading up to. */
static void caller_refuse(struct server *s, struct caller *c, uint16_t status, const char *why)
{
    answer_begin(&c->answer);
    api_error(&c->answer, status, why);
    c->answer.retry = status == 503;
    c->keep = false;
    caller_write(s, c);
}

/* The ring is full at the moment. The slot tells the watchdog that somebody waits. */
static void caller_wait(struct server *s)
{
    struct shm_slot *slot = s->admin->slot;

    s->n_waiting++;
    if (shm_load_u64(&slot->waits_since_ms) == 0)
        shm_store_u64(&slot->waits_since_ms, s->admin->now_ms);
}

/* False: it waits. */
static bool caller_answer(struct server *s, struct caller *c)
{
    const struct slice body = slice_of(c->body != NULL ? c->body : "", c->n_body);

    if (api_answer(s->admin, &c->request, body, &c->answer) == API_DONE) {
        caller_write(s, c);
        return true;
    }
    if (s->admin->now_ms < c->deadline_ms) {
        caller_wait(s);
        return false;
    }
    api_error(&c->answer, 503, "the ring is full: consumers do not keep up");
    c->answer.retry = true;
    caller_write(s, c);
    return true;
}

/* --- reading --- */

/* What was announced fits and is admitted: makes room for it, and takes what came with the head. */
static void caller_body_begin(struct server *s, struct caller *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uint32_t n = c->n_input - c->head_bytes;

    c->n_body = 0;
    c->body_bytes = (uint32_t)c->request.content_length;
    if (c->body_bytes == 0) {
        caller_become(s, c, CALLER_ANSWER, ADMIN_RING_WAIT_MS);
        return;
    }
    c->body = s->bodies_bytes + c->body_bytes <= ADMIN_BODIES_BYTES ? malloc(c->body_bytes) : NULL;
    if (c->body == NULL) {
        caller_refuse(s, c, 503, "too many requests at a time");
        return;
    }
    s->bodies_bytes += c->body_bytes;
    if (n > c->body_bytes)
        n = c->body_bytes;
    memcpy(c->body, c->input + c->head_bytes, n);
    c->n_body = n;
    memmove(c->input + c->head_bytes, c->input + c->head_bytes + n, c->n_input - c->head_bytes - n);
    c->n_input -= n;
    caller_become(s, c, CALLER_BODY, ADMIN_BODY_MS);
    /* Nothing is under way to this client, so it fits; if not, it asks no more after a while. */
    if (c->request.expect_continue && n == 0)
        (void)send(c->fd, go_on, sizeof go_on - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void caller_head_done(struct server *s, struct caller *c)
{
    const struct http_request *r = &c->request;
    const bool has_body = r->chunked || r->content_length > 0;

    c->keep = r->keep_alive;
    c->only_head = r->method == HTTP_HEAD_;
    answer_begin(&c->answer);
    if (!api_admit(s->admin, &c->peer, r, &c->answer)) {
        c->keep = c->keep && !has_body;
        caller_write(s, c);
    } else if (r->chunked) {
        caller_refuse(s, c, 411, "a Content-Length is needed");
    } else if (r->content_length > ADMIN_BODY_BYTES_MAX) {
        caller_refuse(s, c, 413, "a body may have 1 MB");
    } else {
        caller_body_begin(s, c);
    }
}

/* Looks at what is there. False: more is needed. */
static bool caller_head_parse(struct server *s, struct caller *c)
{
    uint16_t status;

    if (c->n_input == 0)
        return false;
    switch (http_parse(slice_of(c->input, c->n_input), &c->scanned, &c->request, &c->head_bytes,
                       &status)) {
    case HTTP_OK: caller_head_done(s, c); return true;
    case HTTP_BAD: caller_refuse(s, c, status, http_reason(status)); return true;
    case HTTP_NEED_MORE: break;
    }
    if (c->n_input < HTTP_HEAD_MAX)
        return false;
    caller_refuse(s, c, 431, http_reason(431));
    return true;
}

enum read_result { READ_BYTES = 0, READ_LATER, READ_END };

static enum read_result caller_receive(struct caller *c, char *to, uint32_t room, uint32_t *n_bytes)
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

static bool caller_head(struct server *s, struct caller *c)
{
    const bool was_idle = c->n_input == 0;

    if (caller_head_parse(s, c))
        return true;
    switch (caller_receive(c, c->input + c->n_input, HTTP_HEAD_MAX - c->n_input, &c->n_input)) {
    case READ_BYTES: break;
    case READ_LATER: return false;
    case READ_END: caller_free(s, c); return false;
    }
    if (was_idle) /* from the first byte on, for the whole head */
        c->deadline_ms = s->admin->now_ms + s->admin->region.config->header_timeout_ms;
    return true;
}

static bool caller_body(struct server *s, struct caller *c)
{
    if (c->n_body == c->body_bytes) {
        caller_become(s, c, CALLER_ANSWER, ADMIN_RING_WAIT_MS);
        return true;
    }
    switch (caller_receive(c, c->body + c->n_body, c->body_bytes - c->n_body, &c->n_body)) {
    case READ_BYTES: return true;
    case READ_LATER: return false;
    case READ_END: caller_free(s, c); return false;
    }
    return false;
}

static bool caller_linger(struct server *s, struct caller *c)
{
    char waste[4096];
    uint32_t n = 0;

    switch (caller_receive(c, waste, sizeof waste, &n)) {
    case READ_BYTES: break;
    case READ_LATER: return false;
    case READ_END: caller_free(s, c); return false;
    }
    c->n_drained += n;
    if (c->n_drained <= CLOSE_DRAIN_BYTES)
        return true;
    caller_free(s, c);
    return false;
}

/* --- sending --- */

/* Everything is out: the next request, or the end. */
static void caller_sent(struct server *s, struct caller *c)
{
    caller_body_free(s, c);
    page_free(&c->answer.body);
    if (!c->keep) {
        c->n_drained = 0;
        caller_become(s, c, CALLER_LINGER, CLOSE_LINGER_MS);
        (void)shutdown(c->fd, SHUT_WR); /* fails where the peer is gone: the next read says so */
        return;
    }
    memmove(c->input, c->input + c->head_bytes, c->n_input - c->head_bytes);
    c->n_input -= c->head_bytes;
    c->scanned = 0;
    c->only_head = false;
    caller_become(s, c, CALLER_HEAD,
                  c->n_input == 0 ? ADMIN_IDLE_MS : s->admin->region.config->header_timeout_ms);
}

static bool caller_send(struct server *s, struct caller *c)
{
    struct slice body = answer_body(&c->answer);
    const uint32_t n_body = c->only_head ? 0 : body.n_bytes;
    const uint32_t head_from = c->n_sent < c->n_head ? c->n_sent : c->n_head;
    const uint32_t body_from = c->n_sent - head_from;
    struct iovec iov[2] = { { c->head + head_from, c->n_head - head_from },
                            { (void *)(uintptr_t)(body.bytes + body_from), n_body - body_from } };
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 }; /* either may be empty */
    ssize_t n;

    do {
        n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n < 0) {
        caller_free(s, c);
        return false;
    }
    c->n_sent += (uint32_t)n;
    if (c->n_sent == c->n_head + n_body)
        caller_sent(s, c);
    return true;
}

/* --- one connection --- */

void caller_run(struct server *s, struct caller *c)
{
    uint32_t n_answered = 0;
    bool more = true;

    c->unseen = false;
    while (more) {
        const enum caller_state before = c->state;

        switch (c->state) {
        case CALLER_HEAD: more = caller_head(s, c); break;
        case CALLER_BODY: more = caller_body(s, c); break;
        case CALLER_ANSWER: more = caller_answer(s, c); break;
        case CALLER_WRITE: more = caller_send(s, c); break;
        case CALLER_LINGER: more = caller_linger(s, c); break;
        case CALLER_FREE:
        case CALLER_STATES: more = false; break;
        }
        if (before == CALLER_WRITE && c->state == CALLER_HEAD &&
            ++n_answered == PIPELINED_PER_TURN) {
            c->unseen = c->n_input > 0;
            break;
        }
    }
}

void caller_late(struct server *s, struct caller *c)
{
    if (c->state == CALLER_ANSWER) {
        caller_run(s, c); /* asks once more, then gives up with an answer */
    } else if ((c->state == CALLER_HEAD && c->n_input > 0) || c->state == CALLER_BODY) {
        caller_refuse(s, c, 408, http_reason(408));
        caller_run(s, c);
    } else {
        caller_free(s, c);
    }
}

/* --- beginning and waiting --- */

/* Who goes first when a place is needed: 0 has its answer, 1 has asked nothing, 2 is about to ask. */
static uint32_t caller_rank(const struct caller *c)
{
    return c->state == CALLER_LINGER ? 0 : c->n_input == 0 ? 1 : 2;
}

static bool caller_goes_before(const struct caller *a, const struct caller *b)
{
    const uint32_t rank_a = caller_rank(a), rank_b = caller_rank(b);

    return rank_a != rank_b ? rank_a < rank_b : a->deadline_ms < b->deadline_ms;
}

/* A place for a new connection: a free one, or that of the one that is missed least. */
static struct caller *caller_place(struct server *s)
{
    struct caller *least = NULL;

    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct caller *c = &s->callers[i];

        if (c->state == CALLER_FREE)
            return c;
        if ((c->state == CALLER_HEAD || c->state == CALLER_LINGER) &&
            (least == NULL || caller_goes_before(c, least)))
            least = c;
    }
    if (least != NULL)
        caller_free(s, least);
    return least;
}

bool caller_open(struct server *s, int fd, const struct sockaddr_storage *address)
{
    struct caller *c = caller_place(s);
    char *input = c != NULL ? malloc(HTTP_HEAD_MAX) : NULL;

    if (input == NULL)
        return false;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->input = input;
    peer_address_from(&c->peer, address);
    page_init(&c->answer.body, ADMIN_ANSWER_MAX);
    s->n_callers++;
    caller_become(s, c, CALLER_HEAD, s->admin->region.config->header_timeout_ms);
    caller_run(s, c);
    return true;
}

short caller_events(const struct caller *c)
{
    switch (c->state) {
    case CALLER_HEAD:
    case CALLER_BODY:
    case CALLER_LINGER: return POLLIN;
    case CALLER_WRITE: return POLLOUT;
    case CALLER_ANSWER:
    case CALLER_FREE:
    case CALLER_STATES: break;
    }
    return 0;
}
