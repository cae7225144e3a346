/* engine.c: see engine.h. */
#include "lib/engine.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define BUFFER_BYTES      (ENGINE_FRAME_MAX + 262144u)
#define READ_BYTES        262144u
#define REQUEST_BYTES_MAX 4096u
#define UNSENT_BYTES_MAX  (4u << 20)
#define MESSAGE_BYTES_MAX 1048576u
#define EVENTS_PER_TURN   512
#define WATCH_MARK        UINT32_MAX
#define SWEEP_NS          (250 * NS_PER_MS)

static uint32_t engine_ms(const struct engine *e)
{
    return (uint32_t)((now_ns() - e->began_ns) / NS_PER_MS);
}

void engine_init(struct engine *e, const struct engine_config *config, uint32_t n_clients)
{
    *e = (struct engine){ .config = *config, .n_clients = n_clients, .began_ns = now_ns() };
    e->random = e->began_ns | 1;
    e->swept_ns = e->began_ns;
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0)
        die("epoll: %s", strerror(errno));
    e->clients = must_calloc(n_clients, sizeof *e->clients);
    e->buffer = must_calloc(1, BUFFER_BYTES);
    e->request = must_calloc(1, REQUEST_BYTES_MAX);
    for (uint32_t i = 0; i < n_clients; i++) {
        e->clients[i].id = i;
        e->clients[i].fd = -1;
    }
}

void engine_destroy(struct engine *e)
{
    for (uint32_t i = 0; i < e->n_clients; i++) {
        struct client *c = &e->clients[i];

        if (c->fd >= 0)
            (void)close(c->fd);
        free(c->kept);
        free(c->unsent);
    }
    free(e->clients);
    free(e->buffer);
    free(e->request);
    free(e->cork_buffer);
    (void)close(e->epoll_fd);
}

static void client_gone(struct engine *e, struct client *c, uint32_t cause)
{
    bool was_open = c->state == CLIENT_OPEN;

    if (c->state == CLIENT_CLOSED)
        return;
    if (was_open)
        e->n_open--;
    else
        e->n_starting--;
    (void)close(c->fd); /* leaves the epoll set by that */
    free(c->kept);
    free(c->unsent);
    c->kept = NULL;
    c->unsent = NULL;
    c->kept_bytes = 0;
    c->unsent_bytes = 0;
    c->fd = -1;
    c->cause = (uint16_t)cause;
    c->state = CLIENT_CLOSED;
    e->config.on_close(e, c, was_open);
}

static void client_arm(struct engine *e, struct client *c, int op)
{
    struct epoll_event ev = { .data.u32 = c->id };

    if (!c->unread)
        ev.events |= EPOLLIN;
    if (c->want_out)
        ev.events |= EPOLLOUT;
    if (epoll_ctl(e->epoll_fd, op, c->fd, &ev) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Sources 127.A.0.B: A from the process, so that two processes never compete for a port. */
static int client_bind(const struct engine *e, const struct client *c)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    int on = 1;
    uint32_t b = 1 + c->id % e->config.sources;

    from.sin_addr.s_addr =
        htonl(127u << 24 | (10 + e->config.process) << 16 | (b >> 8) << 8 | (b & 255));
    /* The port is chosen at connect, when the destination is known: 28,000 per pair of
     * addresses. */
    if (setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0)
        return -1;
    return bind(c->fd, (struct sockaddr *)&from, sizeof from);
}

static const struct target *target_of(struct engine *e, const struct client *c)
{
    return e->config.target_of ? e->config.target_of(e, c)
                               : &e->config.targets[c->id % e->config.n_targets];
}

static void client_start(struct engine *e, struct client *c)
{
    const struct target *t = target_of(e, c);
    int on = 1;
    int size = (int)e->config.receive_buffer;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s (RLIMIT_NOFILE? try more --procs)", strerror(errno));
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        (size > 0 && setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0) ||
        (e->config.sources > 0 && client_bind(e, c) != 0))
        die("cannot prepare a client socket: %s", strerror(errno));
    e->n_starting++;
    c->state = CLIENT_CONNECTING;
    c->deadline_ms = engine_ms(e) + e->config.connect_timeout_ms;
    if (connect(c->fd, (const struct sockaddr *)&t->address, sizeof t->address) != 0 &&
        errno != EINPROGRESS) {
        client_gone(e, c, CAUSE_REFUSED);
        return;
    }
    c->want_out = true;
    client_arm(e, c, EPOLL_CTL_ADD);
}

void engine_begin(struct engine *e, struct client *c)
{
    assert(c->fd < 0);
    c->silent = false;
    c->unread = false;
    c->closing = false;
    if (c->id >= e->next_start)
        e->next_start = c->id + 1;
    if (e->start_end < e->next_start)
        e->start_end = e->next_start;
    client_start(e, c);
}

uint32_t engine_start(struct engine *e, uint32_t n)
{
    uint32_t left = e->n_clients - e->start_end;

    if (n > left)
        n = left;
    e->start_end += n;
    e->rate_began_ns = now_ns();
    e->rate_base = e->next_start;
    return n;
}

static void start_some(struct engine *e)
{
    uint32_t end = e->start_end;

    if (e->config.connect_rate > 0) {
        uint64_t due =
            e->rate_base + 1 + (now_ns() - e->rate_began_ns) * e->config.connect_rate / NS_PER_S;

        if (due < end)
            end = (uint32_t)due;
    }
    while (e->next_start < end && e->n_starting < e->config.connect_parallel)
        client_start(e, &e->clients[e->next_start++]);
}

/* Keeps what the kernel did not take. False when that is more than we hold: the client is lost. */
static bool keep_unsent(struct engine *e, struct client *c, const uint8_t *bytes, size_t n)
{
    uint8_t *grown = NULL;

    if (c->unsent_bytes + n <= UNSENT_BYTES_MAX)
        grown = realloc(c->unsent, c->unsent_bytes + n);
    if (!grown) {
        client_gone(e, c, CAUSE_STUCK);
        return false;
    }
    memcpy(grown + c->unsent_bytes, bytes, n);
    c->unsent = grown;
    c->unsent_bytes += (uint32_t)n;
    if (!c->want_out) {
        c->want_out = true;
        client_arm(e, c, EPOLL_CTL_MOD);
    }
    return true;
}

static bool client_write(struct engine *e, struct client *c, const uint8_t *bytes, size_t n)
{
    ssize_t sent = 0;

    if (c->unsent_bytes == 0) {
        sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            /* What the server said before it reset us, a close code perhaps, is still to be
             * read: the read notices. */
            return false;
        }
        if (sent < 0)
            sent = 0;
    }
    return (size_t)sent == n || keep_unsent(e, c, bytes + sent, n - (size_t)sent);
}

static bool client_frame(struct engine *e, struct client *c, uint8_t opcode, const char *prefix,
                         const char *data, size_t n)
{
    static uint8_t plain[MESSAGE_BYTES_MAX];
    static uint8_t frame[MESSAGE_BYTES_MAX + WIRE_FRAME_OVERHEAD];
    size_t lead = strlen(prefix);

    if (lead + n > sizeof plain)
        die("a message of %zu bytes is over the bound of %u", n, MESSAGE_BYTES_MAX);
    memcpy(plain, prefix, lead);
    memcpy(plain + lead, data, n);
    n = wire_client_frame(frame, opcode, plain, lead + n, (uint32_t)random_next(&e->random));
    if (c == e->corked && e->cork_bytes + n <= ENGINE_CORK_MAX) {
        memcpy(e->cork_buffer + e->cork_bytes, frame, n);
        e->cork_bytes += n;
        return true;
    }
    return client_write(e, c, frame, n);
}

bool client_send(struct engine *e, struct client *c, const char *data, size_t n)
{
    if (c->state != CLIENT_OPEN || c->closing)
        return false;
    return client_frame(e, c, WIRE_OP_TEXT, e->config.dialect == DIALECT_SOCKETIO ? "4" : "", data,
                        n);
}

void engine_cork(struct engine *e, struct client *c)
{
    assert(e->corked == NULL);
    if (!e->cork_buffer)
        e->cork_buffer = must_calloc(1, ENGINE_CORK_MAX);
    e->corked = c;
    e->cork_bytes = 0;
}

void engine_uncork(struct engine *e)
{
    struct client *c = e->corked;

    e->corked = NULL;
    if (c && c->fd >= 0 && e->cork_bytes > 0)
        (void)client_write(e, c, e->cork_buffer, e->cork_bytes);
}

void client_close(struct engine *e, struct client *c, enum close_kind kind)
{
    struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

    if (c->fd < 0)
        return;
    if (kind == CLOSE_CLEAN && c->state >= CLIENT_ENGINE) {
        c->closing = true;
        c->deadline_ms = engine_ms(e) + 5000;
        if (client_frame(e, c, WIRE_OP_CLOSE, "", "\x03\xe8", 2) || c->state == CLIENT_CLOSED)
            return;
    }
    if (kind == CLOSE_RESET &&
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) != 0)
        die("SO_LINGER: %s", strerror(errno));
    client_gone(e, c, CAUSE_OURS);
}

void client_read(struct engine *e, struct client *c, bool on)
{
    if (c->fd < 0 || c->unread == !on)
        return;
    c->unread = !on;
    client_arm(e, c, EPOLL_CTL_MOD);
}

static void send_upgrade(struct engine *e, struct client *c)
{
    const struct target *t = target_of(e, c);
    uint64_t a = random_next(&e->random);
    uint64_t b = random_next(&e->random);
    int n = snprintf(e->request, REQUEST_BYTES_MAX,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %011llx%010llxA==\r\n%s\r\n",
                     t->path, t->host, (unsigned long long)(a >> 20), (unsigned long long)(b >> 24),
                     e->config.headers ? e->config.headers : "");

    if (n < 0 || (uint32_t)n >= REQUEST_BYTES_MAX)
        die("request head over %u bytes", REQUEST_BYTES_MAX);
    c->state = CLIENT_UPGRADING;
    (void)client_write(e, c, (const uint8_t *)e->request, (size_t)n);
}

static void client_opened(struct engine *e, struct client *c)
{
    c->state = CLIENT_OPEN;
    e->n_starting--;
    e->n_open++;
    e->config.on_open(e, c);
}

/* Engine.IO's open packet is answered by a CONNECT to the namespace. */
static void send_connect(struct engine *e, struct client *c)
{
    char packet[2048];
    bool root = strcmp(e->config.nsp, "/") == 0;
    int n = snprintf(packet, sizeof packet, "0%s%s%s", root ? "" : e->config.nsp, root ? "" : ",",
                     e->config.auth ? e->config.auth : "");

    if (n < 0 || (size_t)n >= sizeof packet)
        die("auth over %zu bytes", sizeof packet);
    c->state = CLIENT_NAMESPACE;
    (void)client_frame(e, c, WIRE_OP_TEXT, "4", packet, (size_t)n);
}

static void on_packet(struct engine *e, struct client *c, const char *data, size_t n)
{
    struct sio_packet p;

    if (c->state == CLIENT_OPEN && data[0] != '1') {
        e->config.on_message(e, c, data, n, false);
        return;
    }
    if (sio_parse(data, n, e->config.nsp, &p) != WIRE_OK)
        client_gone(e, c, CAUSE_PROTOCOL);
    else if (p.type == SIO_CONNECT && c->state == CLIENT_NAMESPACE)
        client_opened(e, c);
    else
        client_gone(e, c,
                    p.type == SIO_CONNECT_ERROR ? CAUSE_CONNECT_ERROR
                    : p.type == SIO_DISCONNECT  ? CAUSE_DISCONNECT
                                                : CAUSE_PROTOCOL);
}

static void on_engineio(struct engine *e, struct client *c, const char *data, size_t n)
{
    if (n == 0) {
        client_gone(e, c, CAUSE_PROTOCOL);
        return;
    }
    switch (data[0]) {
    case '0':
        if (c->state == CLIENT_ENGINE)
            send_connect(e, c);
        return;
    case '1': client_gone(e, c, CAUSE_DISCONNECT); return;
    case '2':
        if (e->config.on_ping)
            e->config.on_ping(e, c);
        if (!c->silent)
            (void)client_frame(e, c, WIRE_OP_TEXT, "3", data + 1, n - 1);
        return;
    case '4':
        if (n > 1) {
            on_packet(e, c, data + 1, n - 1);
            return;
        }
        client_gone(e, c, CAUSE_PROTOCOL);
        return;
    case '6': return;
    default: client_gone(e, c, CAUSE_PROTOCOL);
    }
}

static void on_close_frame(struct engine *e, struct client *c, const struct wire_frame *f)
{
    uint32_t code = 1005;

    if (f->payload_bytes >= 2)
        code = (uint32_t)f->payload[0] << 8 | f->payload[1];
    if (code < 1000 || code >= CAUSES)
        code = CAUSE_PROTOCOL;
    if (!c->closing && !c->silent)
        (void)client_frame(e, c, WIRE_OP_CLOSE, "", (const char *)f->payload,
                           f->payload_bytes < 2 ? 0 : 2);
    client_gone(e, c, c->closing ? CAUSE_OURS : code);
}

static void on_frame(struct engine *e, struct client *c, const struct wire_frame *f)
{
    const char *data = (const char *)f->payload;

    switch (f->opcode) {
    case WIRE_OP_TEXT:
        if (e->config.dialect == DIALECT_SOCKETIO)
            on_engineio(e, c, data, f->payload_bytes);
        else
            e->config.on_message(e, c, data, f->payload_bytes, false);
        return;
    case WIRE_OP_BINARY:
        if (c->state == CLIENT_OPEN)
            e->config.on_message(e, c, data, f->payload_bytes, true);
        return;
    case WIRE_OP_PING:
        if (e->config.on_ping)
            e->config.on_ping(e, c);
        if (!c->silent)
            (void)client_frame(e, c, WIRE_OP_PONG, "", data, f->payload_bytes);
        return;
    case WIRE_OP_PONG: return;
    case WIRE_OP_CLOSE: on_close_frame(e, c, f); return;
    default: client_gone(e, c, CAUSE_PROTOCOL);
    }
}

/* Takes the response head off the front of the bytes; 0 when there is no whole one yet or the
 * client is gone. */
static size_t on_head(struct engine *e, struct client *c, const uint8_t *bytes, size_t n)
{
    uint32_t status;
    size_t head;

    switch (wire_http_head(bytes, n, &status, &head)) {
    case WIRE_NEED_MORE: return 0;
    case WIRE_BAD: client_gone(e, c, CAUSE_PROTOCOL); return 0;
    case WIRE_OK: break;
    }
    if (status != 101) {
        client_gone(e, c, status >= 100 && status < 600 ? status : CAUSE_PROTOCOL);
        return 0;
    }
    if (e->config.dialect == DIALECT_SOCKETIO)
        c->state = CLIENT_ENGINE;
    else
        client_opened(e, c);
    return head;
}

static void on_bytes(struct engine *e, struct client *c, const uint8_t *bytes, size_t n)
{
    struct wire_frame f;
    size_t at = 0;

    if (c->state == CLIENT_UPGRADING)
        at = on_head(e, c, bytes, n);
    while (c->state > CLIENT_UPGRADING && c->state != CLIENT_CLOSED) {
        enum wire_result r = wire_parse(bytes + at, n - at, &f);

        if (r == WIRE_NEED_MORE)
            break;
        if (r == WIRE_BAD) {
            client_gone(e, c, CAUSE_PROTOCOL);
            return;
        }
        at += f.frame_bytes;
        on_frame(e, c, &f);
    }
    if (c->state == CLIENT_CLOSED || at == n)
        return;
    if (n - at > ENGINE_FRAME_MAX) {
        client_gone(e, c, CAUSE_PROTOCOL);
        return;
    }
    c->kept = malloc(n - at);
    if (!c->kept)
        die("no memory for a cut frame");
    memcpy(c->kept, bytes + at, n - at);
    c->kept_bytes = (uint32_t)(n - at);
}

static void on_readable(struct engine *e, struct client *c)
{
    size_t before = c->kept_bytes;
    ssize_t n = recv(c->fd, e->buffer + before, READ_BYTES, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        uint32_t cause = n == 0                          ? CAUSE_EOF
                         : c->state == CLIENT_CONNECTING ? CAUSE_REFUSED
                                                         : CAUSE_RESET;

        client_gone(e, c, c->closing ? CAUSE_OURS : cause);
        return;
    }
    if (before > 0) {
        memcpy(e->buffer, c->kept, before);
        free(c->kept);
        c->kept = NULL;
        c->kept_bytes = 0;
    }
    on_bytes(e, c, e->buffer, before + (size_t)n);
}

static void on_writable(struct engine *e, struct client *c)
{
    ssize_t n;

    if (c->state == CLIENT_CONNECTING)
        send_upgrade(e, c);
    if (c->unsent_bytes > 0) {
        n = send(c->fd, c->unsent, c->unsent_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            c->unsent_bytes -= (uint32_t)n;
            memmove(c->unsent, c->unsent + n, c->unsent_bytes);
        }
        if (c->unsent_bytes > 0)
            return;
        free(c->unsent);
        c->unsent = NULL;
    }
    if (c->state != CLIENT_CLOSED && c->want_out) {
        c->want_out = false;
        client_arm(e, c, EPOLL_CTL_MOD);
    }
}

static void on_event(struct engine *e, struct client *c, uint32_t events)
{
    if (c->state == CLIENT_CONNECTING && (events & (EPOLLERR | EPOLLHUP))) {
        client_gone(e, c, CAUSE_REFUSED);
        return;
    }
    if (events & EPOLLOUT)
        on_writable(e, c);
    /* Errors and hang-ups are found by reading to the end: a close frame may stand before them.
     * That holds for a client that had stopped reading too, since epoll would report it again
     * and again. */
    if (events & (EPOLLERR | EPOLLHUP))
        c->unread = false;
    if (c->state != CLIENT_CLOSED && events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        on_readable(e, c);
}

static void sweep_deadlines(struct engine *e)
{
    uint64_t now = now_ns();
    uint32_t ms = engine_ms(e);

    if (now - e->swept_ns < SWEEP_NS)
        return;
    e->swept_ns = now;
    for (uint32_t i = 0; i < e->next_start; i++) {
        struct client *c = &e->clients[i];

        if (c->fd >= 0 && (c->state != CLIENT_OPEN || c->closing) && ms > c->deadline_ms)
            client_gone(e, c, c->closing ? CAUSE_OURS : CAUSE_TIMEOUT);
    }
}

void engine_watch(struct engine *e, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN,
                              .data.u64 = (uint64_t)(uint32_t)fd << 32 | WATCH_MARK };

    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

void engine_turn(struct engine *e, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    bool starting;
    int n;

    start_some(e);
    starting = e->next_start < e->start_end || e->n_starting > 0;
    if (starting && (timeout_ms < 0 || timeout_ms > 5))
        timeout_ms = 5;
    n = epoll_wait(e->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    if (n < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct client *c;

        if (events[i].data.u32 == WATCH_MARK) {
            uint64_t count;

            /* Read only to take the signal away; what it means is in shared memory. */
            if (read((int)(events[i].data.u64 >> 32), &count, sizeof count) < 0 && errno != EAGAIN)
                die("event: %s", strerror(errno));
            continue;
        }
        assert(events[i].data.u32 < e->n_clients);
        c = &e->clients[events[i].data.u32];
        if (c->fd >= 0)
            on_event(e, c, events[i].events);
    }
    sweep_deadlines(e);
}
