/* link.c: see link.h.
 *
 *     DOWN -> CONNECTING -> GREETING (AUTH, SELECT) -> UP -> DOWN
 *
 * Invariant: fd >= 0 and _reader != NULL in all states but DOWN. A failure of any kind goes through fail(), which logs (rate by the back-off itself: 100 ms
 *            doubling to 5 s, with jitter) and forgets what was to be written: what Redis did not get is lost, counted by the caller. */
#include "bridge/link.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define BACKOFF_FIRST_MS    100
#define BACKOFF_MAX_MS      5000
#define SILENT_MS           5000 /* then a PING */
#define DEAF_MS             5000 /* and no answer for that long: made anew */
#define CONNECT_MS          5000
#define READ_BYTES          16384
#define READS_PER_TURN      64
#define READER_DOUBLES_FROM (1u << 20)

void link_init(struct link *l, const struct config_redis *redis, const char *name)
{
    *l = (struct link){ .redis = redis, .name = name, .fd = -1 };
}

static void drop(struct link *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->_reader != NULL)
        redisReaderFree(l->_reader);
    free(l->_out);
    l->fd = -1;
    l->_reader = NULL;
    l->_out = NULL;
    l->_n_out = l->_out_at = l->_out_max = 0;
    l->_greetings = 0;
    l->_pinged_at_ms = 0;
    l->state = LINK_DOWN;
}

void link_close(struct link *l)
{
    drop(l);
}

static void fail(struct link *l, uint64_t now_ms, const char *why)
{
    uint32_t delay = BACKOFF_FIRST_MS << (l->_n_failures < 6 ? l->_n_failures : 6);
    uint32_t jitter = 0;

    if (delay > BACKOFF_MAX_MS)
        delay = BACKOFF_MAX_MS;
    if (getrandom(&jitter, sizeof jitter, GRND_NONBLOCK) == sizeof jitter)
        delay -= jitter % (delay / 2);
    l->_n_failures++;
    log_warning("redis_down", "link=%s host=%s port=%u reason=%s retry_in=%ums", l->name,
                l->redis->host, l->redis->port, why, delay);
    drop(l);
    l->_retry_at_ms = now_ms + delay;
}

static int open_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static int open_tcp(const struct config_redis *redis, const char **why)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    char port[8];
    int on = 1;
    int fd;
    int error;

    snprintf(port, sizeof port, "%u", redis->port);
    error = getaddrinfo(redis->host, port, &hints, &found);
    if (error != 0) {
        *why = gai_strerror(error);
        return -1;
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS) {
        *why = strerror(errno);
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof on); /* a matter of latency only */
    return fd;
}

static void begin(struct link *l, uint64_t now_ms)
{
    const char *why = NULL;

    l->fd = l->redis->is_unix ? open_unix(l->redis->host) : open_tcp(l->redis, &why);
    if (l->fd < 0) {
        fail(l, now_ms, why != NULL ? why : strerror(errno));
        return;
    }
    l->_reader = redisReaderCreate();
    if (l->_reader == NULL) {
        fail(l, now_ms, "out of memory");
        return;
    }
    l->state = LINK_CONNECTING;
    l->_heard_at_ms = now_ms;
}

static bool queue_bytes(struct link *l, const char *bytes, uint32_t n)
{
    if (l->_n_out - l->_out_at + n > LINK_OUT_MAX)
        return false;
    if (l->_out_at > 0 && l->_n_out + n > l->_out_max) {
        memmove(l->_out, l->_out + l->_out_at, l->_n_out - l->_out_at);
        l->_n_out -= l->_out_at;
        l->_out_at = 0;
    }
    if (l->_n_out + n > l->_out_max) {
        uint32_t max = l->_out_max == 0 ? 16384 : l->_out_max;
        char *out;

        while (max < l->_n_out + n)
            max *= 2;
        out = realloc(l->_out, max);
        if (out == NULL)
            return false;
        l->_out = out;
        l->_out_max = max;
    }
    memcpy(l->_out + l->_n_out, bytes, n);
    l->_n_out += n;
    return true;
}

static bool queue_command(struct link *l, uint32_t n, const struct slice *words)
{
    const char *argv[8];
    size_t lengths[8];
    char *formatted = NULL;
    long long n_bytes;
    bool queued;

    if (n > 8)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        argv[i] = words[i].bytes;
        lengths[i] = words[i].n_bytes;
    }
    n_bytes = redisFormatCommandArgv(&formatted, (int)n, argv, lengths);
    if (n_bytes < 0)
        return false;
    queued = queue_bytes(l, formatted, (uint32_t)n_bytes);
    redisFreeCommand(formatted);
    return queued;
}

bool link_command(struct link *l, uint32_t n, const struct slice *words)
{
    return l->state == LINK_UP && queue_command(l, n, words);
}

/* The socket is connected: says who we are. Answers come in the order of the questions. */
static void greet(struct link *l, uint64_t now_ms)
{
    const struct config_redis *r = l->redis;
    bool ok = true;

    l->state = LINK_GREETING;
    if (r->password[0] != 0) {
        struct slice words[3] = { slice_text("AUTH"), slice_text(r->user),
                                  slice_text(r->password) };

        if (r->user[0] == 0)
            words[1] = words[2];
        ok = queue_command(l, r->user[0] == 0 ? 2 : 3, words);
        l->_greetings++;
    }
    if (r->db != 0) {
        char db[16];
        struct slice words[2] = { slice_text("SELECT"),
                                  { db, (uint32_t)snprintf(db, sizeof db, "%u", r->db) } };

        ok = ok && queue_command(l, 2, words);
        l->_greetings++;
    }
    ok = ok && queue_command(l, 1, (struct slice[]){ slice_text("PING") });
    l->_greetings++;
    if (!ok)
        fail(l, now_ms, "out of memory");
}

short link_events(const struct link *l)
{
    switch ((enum link_state)l->state) {
    case LINK_DOWN: return 0;
    case LINK_CONNECTING: return POLLOUT;
    case LINK_GREETING:
    case LINK_UP: break;
    }
    return (short)(POLLIN | (l->_n_out > l->_out_at ? POLLOUT : 0));
}

void link_flush(struct link *l, uint64_t now_ms)
{
    while (l->state >= LINK_GREETING && l->_n_out > l->_out_at) {
        ssize_t n = send(l->fd, l->_out + l->_out_at, l->_n_out - l->_out_at, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            fail(l, now_ms, strerror(errno));
            return;
        }
        l->_out_at += (uint32_t)n;
    }
    if (l->_out_at == l->_n_out)
        l->_out_at = l->_n_out = 0;
}

static void on_greeting(struct link *l, const redisReply *reply, uint64_t now_ms)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        fail(l, now_ms, reply->str);
        return;
    }
    if (--l->_greetings > 0)
        return;
    l->state = LINK_UP;
    l->_n_failures = 0;
    log_info("redis_up", "link=%s host=%s port=%u", l->name, l->redis->host, l->redis->port);
}

bool link_replies(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context)
{
    while (l->state == LINK_GREETING || l->state == LINK_UP) {
        void *reply = NULL;
        bool go_on = true;

        if (redisReaderGetReply(l->_reader, &reply) != REDIS_OK) {
            fail(l, now_ms, "protocol error");
            return false;
        }
        if (reply == NULL)
            return true;
        if (l->state == LINK_GREETING)
            on_greeting(l, reply, now_ms);
        else
            go_on = on_reply(context, reply);
        freeReplyObject(reply);
        if (!go_on)
            return false;
    }
    return false;
}

/* The reader's buffer grows by 1 MB at a time, and each step copies all of it: a large message would cost its length squared. Doubled, it does not. False: out
 * of memory, nothing changed. */
static bool make_room(redisReader *reader, size_t n)
{
    size_t n_bytes = sdslen(reader->buf);
    sds buf;

    if (n_bytes < READER_DOUBLES_FROM || sdsavail(reader->buf) >= n)
        return true;
    buf = sdsMakeRoomFor(reader->buf, n_bytes);
    if (buf == NULL)
        return false;
    reader->buf = buf;
    return true;
}

/* What was read is taken in before more is: the reader moves all that it holds to the front for each KB that was taken. */
static void read_socket(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context)
{
    static char bytes[READ_BYTES];
    redisReader *reader = l->_reader;

    for (uint32_t i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(l->fd, bytes, sizeof bytes, 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            fail(l, now_ms, n == 0 ? "closed by Redis" : strerror(errno));
            return;
        }
        l->_heard_at_ms = now_ms;
        l->_pinged_at_ms = 0;
        if (reader->len > LINK_REPLY_MAX || !make_room(reader, (size_t)n) ||
            redisReaderFeed(reader, bytes, (size_t)n) != REDIS_OK) {
            fail(l, now_ms, "reply too large");
            return;
        }
        if (!link_replies(l, now_ms, on_reply, context) || (size_t)n < sizeof bytes)
            return;
    }
}

bool link_on_events(struct link *l, short events, bool read, uint64_t now_ms,
                    link_on_reply on_reply, void *context)
{
    bool was_up = l->state == LINK_UP;

    if (l->state == LINK_CONNECTING && (events & (POLLOUT | POLLERR | POLLHUP)) != 0) {
        int error = 0;
        socklen_t n = sizeof error;

        if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0)
            fail(l, now_ms, strerror(error != 0 ? error : errno));
        else
            greet(l, now_ms);
    }
    if (read && l->state >= LINK_GREETING && (events & (POLLIN | POLLERR | POLLHUP)) != 0)
        read_socket(l, now_ms, on_reply, context);
    link_flush(l, now_ms);
    return !was_up && l->state == LINK_UP;
}

void link_tick(struct link *l, uint64_t now_ms)
{
    switch ((enum link_state)l->state) {
    case LINK_DOWN:
        if (now_ms >= l->_retry_at_ms)
            begin(l, now_ms);
        break;
    case LINK_CONNECTING:
    case LINK_GREETING:
        if (now_ms - l->_heard_at_ms > CONNECT_MS)
            fail(l, now_ms, "no answer in time");
        break;
    case LINK_UP:
        if (l->_pinged_at_ms != 0 && now_ms - l->_pinged_at_ms > DEAF_MS) {
            fail(l, now_ms, "connected, but does not answer");
        } else if (l->_pinged_at_ms == 0 && now_ms - l->_heard_at_ms > SILENT_MS) {
            if (queue_command(l, 1, (struct slice[]){ slice_text("PING") }))
                l->_pinged_at_ms = now_ms;
        }
        break;
    }
}

uint32_t link_wait_ms(const struct link *l, uint64_t now_ms)
{
    if (l->state == LINK_DOWN)
        return l->_retry_at_ms > now_ms ? (uint32_t)(l->_retry_at_ms - now_ms) : 0;
    return 1000;
}
