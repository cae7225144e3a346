/* redis.c: see redis.h. */
#include "lib/redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/proc.h"
#include "lib/util.h"

void redis_launch(struct server *s, const char *binary)
{
    const char *folder = getenv("TMPDIR");
    char port[8];
    const char *argv[] = { binary,   "--port", port,           "--bind", "127.0.0.1",
                           "--save", "",       "--appendonly", "no",     NULL };

    *s = (struct server){ .port = proc_free_port() };
    (void)snprintf(port, sizeof port, "%u", s->port);
    (void)snprintf(s->log, sizeof s->log, "%s/bench-redis-%u.log", folder ? folder : "/tmp",
                   s->port);
    s->pid = server_start(argv, s->log, 0);
    server_wait_port(s->pid, s->port, 20000);
}

void redis_open(struct redis *r, uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    int on = 1;

    *r = (struct redis){ .bytes = must_calloc(1, REDIS_REPLY_MAX) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->fd < 0 || setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        connect(r->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("Redis on port %u: %s", port, strerror(errno));
}

size_t redis_put(char *out, uint32_t n_words, const char *const *words, const size_t *lengths)
{
    size_t n = (size_t)sprintf(out, "*%u\r\n", n_words);

    for (uint32_t i = 0; i < n_words; i++) {
        n += (size_t)sprintf(out + n, "$%zu\r\n", lengths[i]);
        memcpy(out + n, words[i], lengths[i]);
        n += lengths[i];
        memcpy(out + n, "\r\n", 2);
        n += 2;
    }
    return n;
}

void redis_write(const struct redis *r, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(r->fd, bytes, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            die("Redis: %s", strerror(errno));
        bytes += sent;
        n -= (size_t)sent;
    }
}

/* The line at `*at`, without its end; false: it is not whole yet. */
static bool take_line(const struct redis *r, uint32_t *at, const char **line)
{
    const char *begin = r->bytes + *at;
    const char *end = memchr(begin, '\n', r->n_bytes - *at);

    if (!end)
        return false;
    *line = begin;
    *at = (uint32_t)(end + 1 - r->bytes);
    return true;
}

/* One value, or the head of an array, whose `n_items` are to follow. */
static bool take_item(const struct redis *r, uint32_t *at, struct redis_reply *out,
                      int64_t *n_items)
{
    const char *line;
    int64_t n;

    if (!take_line(r, at, &line))
        return false;
    n = strtoll(line + 1, NULL, 10);
    switch (line[0]) {
    case '*': *n_items += n; return true;
    case ':': out->number = n; return true;
    case '+': return true;
    case '$':
        if (n < 0)
            return true;
        if (r->n_bytes - *at < (uint64_t)n + 2)
            return false;
        if (out->n_words < sizeof out->words / sizeof *out->words) {
            out->words[out->n_words] = r->bytes + *at;
            out->lengths[out->n_words] = (size_t)n;
        }
        out->n_words++;
        *at += (uint32_t)n + 2;
        return true;
    default: die("Redis says %.*s", (int)strcspn(line, "\r\n"), line);
    }
}

static bool take_reply(struct redis *r, struct redis_reply *out)
{
    uint32_t at = r->at;

    *out = (struct redis_reply){ .n_words = 0 };
    for (int64_t left = 1; left > 0; left--)
        if (!take_item(r, &at, out, &left))
            return false;
    r->at = at;
    return true;
}

static bool read_more(struct redis *r, bool wait)
{
    ssize_t n;

    if (r->at > 0) {
        memmove(r->bytes, r->bytes + r->at, r->n_bytes - r->at);
        r->n_bytes -= r->at;
        r->at = 0;
    }
    if (r->n_bytes == REDIS_REPLY_MAX)
        die("a reply of Redis over %u bytes", REDIS_REPLY_MAX);
    n = recv(r->fd, r->bytes + r->n_bytes, REDIS_REPLY_MAX - r->n_bytes, wait ? 0 : MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        die("Redis: %s", n == 0 ? "closed" : strerror(errno));
    r->n_bytes += (uint32_t)n;
    return true;
}

bool redis_next(struct redis *r, bool wait, struct redis_reply *out)
{
    while (!take_reply(r, out))
        if (!read_more(r, wait) && !wait)
            return false;
    return true;
}
