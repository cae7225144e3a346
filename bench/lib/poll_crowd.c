/* poll_crowd.c: see poll_crowd.h. */
#include "lib/poll_crowd.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"
#include "lib/wire.h"

#define STARTING_MAX    32u
#define EVENTS_PER_TURN 256
#define BODY_MAX        256u
#define RECORD_END      "\x1e" /* between the packets of a body */

void poll_crowd_init(struct poll_crowd *p, uint16_t port, struct in_addr source, uint32_t n,
                     const char *room)
{
    *p = (struct poll_crowd){ .n_clients = n, .source = source };
    p->server = (struct sockaddr_in){ .sin_family = AF_INET,
                                      .sin_port = htons(port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (snprintf(p->room, sizeof p->room, "%s", room) >= (int)sizeof p->room)
        die("the room's name is too long");
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0)
        die("epoll: %s", strerror(errno));
    p->clients = must_calloc(n, sizeof *p->clients);
    for (uint32_t i = 0; i < n; i++)
        p->clients[i].get.fd = p->clients[i].post.fd = -1;
}

static void wire_close(struct poll_wire *w)
{
    if (w->fd >= 0)
        (void)close(w->fd);
    free(w->answer);
}

void poll_crowd_destroy(struct poll_crowd *p)
{
    for (uint32_t i = 0; i < p->n_clients; i++) {
        wire_close(&p->clients[i].get);
        wire_close(&p->clients[i].post);
    }
    free(p->clients);
    (void)close(p->epoll_fd);
}

/* The mark in an event: the client's number, and which of its connections. */
static void wire_open(struct poll_crowd *p, struct poll_wire *w, uint32_t mark)
{
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = p->source };
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = mark };
    int on = 1;

    w->answer = must_calloc(1, POLL_ANSWER_MAX);
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* blocking: what is sent is small, and loopback connects at once */
    if (w->fd < 0 || setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        setsockopt(w->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(w->fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        connect(w->fd, (struct sockaddr *)&p->server, sizeof p->server) != 0 ||
        epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) != 0)
        die("a polling client cannot connect: %s", strerror(errno));
}

static void request(struct poll_wire *w, const char *text, int n)
{
    if (w->busy)
        die("two requests at once on one connection");
    w->busy = true;
    if (send(w->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        die("a polling client cannot send: %s", strerror(errno));
}

static void send_get(struct poll_client *c)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "GET /socket.io/?EIO=4&transport=polling%s%s HTTP/1.1\r\nHost: bench\r\n\r\n",
                     *c->sid ? "&sid=" : "", c->sid);

    request(&c->get, text, n);
}

static void send_post(struct poll_client *c, const char *body)
{
    char text[256 + BODY_MAX];
    int n = snprintf(text, sizeof text,
                     "POST /socket.io/?EIO=4&transport=polling&sid=%s HTTP/1.1\r\nHost: bench\r\n"
                     "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %zu\r\n\r\n%s",
                     c->sid, strlen(body), body);

    request(&c->post, text, n);
}

static void post(struct poll_client *c, const char *packet)
{
    size_t n = strlen(c->next);

    if (!c->post.busy)
        send_post(c, packet);
    else if (snprintf(c->next + n, sizeof c->next - n, "%s%s", n > 0 ? RECORD_END : "", packet) >=
             (int)(sizeof c->next - n))
        die("too much waits for an answer to a POST");
}

static void ready(struct poll_crowd *p, struct poll_client *c)
{
    c->state = POLL_READY;
    p->n_ready++;
}

static void on_packet(struct poll_crowd *p, struct poll_client *c, const char *text, size_t n)
{
    char body[BODY_MAX];
    const char *sid;

    if (c->state == POLL_OPENING && n > 1 && text[0] == '0') {
        sid = memmem(text, n, "\"sid\":\"", 7);
        if (sid == NULL || sscanf(sid + 7, "%63[^\"]", c->sid) != 1)
            die("a handshake without sid");
        c->state = POLL_CONNECTING;
        post(c, "40");
    } else if (n == 1 && text[0] == '2') {
        post(c, "3");
    } else if (c->state == POLL_CONNECTING && n > 2 && memcmp(text, "40", 2) == 0) {
        c->state = POLL_JOINING;
        if (*p->room == 0) {
            ready(p, c);
        } else {
            (void)snprintf(body, sizeof body, "420[\"join\",\"%s\"]", p->room);
            post(c, body);
        }
    } else if (c->state == POLL_JOINING && n > 3 && memcmp(text, "430", 3) == 0) {
        ready(p, c);
    } else if (c->state == POLL_READY && n > 2 && memcmp(text, "42", 2) == 0) {
        c->n_events++;
        p->n_events++;
    } else {
        die("a polling client got '%.*s', which it was not to get", (int)(n < 40 ? n : 40), text);
    }
}

static void on_body(struct poll_crowd *p, struct poll_client *c, const char *body, size_t n)
{
    while (n > 0) {
        const char *end = memchr(body, *RECORD_END, n);
        size_t length = end ? (size_t)(end - body) : n;

        on_packet(p, c, body, length);
        length += end != NULL;
        body += length;
        n -= length;
    }
}

/* The length of the whole answer; 0: there is more to come. */
static size_t answer_bytes(const struct poll_wire *w, size_t *head)
{
    const char *length;
    uint32_t status;
    unsigned long body;

    switch (wire_http_head((const uint8_t *)w->answer, w->n_bytes, &status, head)) {
    case WIRE_NEED_MORE: return 0;
    case WIRE_BAD: die("an answer that is no HTTP");
    case WIRE_OK: break;
    }
    length = memmem(w->answer, *head, "\r\nContent-Length: ", 18);
    if (status != 200 || length == NULL)
        die("a request was answered with %u: %.*s", status, (int)w->n_bytes, w->answer);
    body = strtoul(length + 18, NULL, 10);
    if (*head + body > POLL_ANSWER_MAX)
        die("an answer of %lu bytes is over the bound of %u", body, POLL_ANSWER_MAX);
    return w->n_bytes < *head + body ? 0 : *head + body;
}

static void on_readable(struct poll_crowd *p, struct poll_client *c, bool is_post)
{
    struct poll_wire *w = is_post ? &c->post : &c->get;
    ssize_t n = recv(w->fd, w->answer + w->n_bytes, POLL_ANSWER_MAX - w->n_bytes, MSG_DONTWAIT);
    size_t head;
    size_t whole;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        die("a polling client's connection has ended");
    w->n_bytes += (uint32_t)n;
    whole = answer_bytes(w, &head);
    if (whole == 0)
        return;
    w->busy = false;
    w->n_bytes = 0; /* nothing follows: one request at a time */
    if (!is_post) {
        on_body(p, c, w->answer + head, whole - head);
        send_get(c);
    } else if (*c->next != 0) {
        send_post(c, c->next);
        *c->next = 0;
    }
}

void poll_crowd_turn(struct poll_crowd *p, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int n;

    while (p->n_started < p->n_clients && p->n_started - p->n_ready < STARTING_MAX) {
        struct poll_client *c = &p->clients[p->n_started];

        wire_open(p, &c->get, 2 * p->n_started);
        wire_open(p, &c->post, 2 * p->n_started + 1);
        p->n_started++;
        send_get(c);
    }
    n = epoll_wait(p->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    if (n < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++)
        on_readable(p, &p->clients[events[i].data.u32 / 2], events[i].data.u32 % 2 == 1);
}
