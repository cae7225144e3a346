/* link.c: see link.h. The way up; what goes over an established connection is link_io.c.
 *
 *     DOWN -> RESOLVING -> CONNECTING (each address) -> SECURING (TLS) -> GREETING (AUTH, SELECT, PING) -> UP -> DOWN
 *
 * Invariant: fd >= 0 in all states but DOWN; _reader != NULL from GREETING on. A failure of any kind goes through link_down(), which logs, counts what was in
 *            flight and is not repeated, and forgets commands; messages stay. */
#include "bridge/link.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "bridge/link_internal.h"

#define BACKOFF_FIRST_MS      100
#define BACKOFF_SLOW_FIRST_MS 5000
#define RESOLVE_MS            5000
#define CONNECT_MS            1800 /* to one address: after the second SYN, long before the third */
#define GREET_MS              5000
#define SILENT_MS             2500 /* then a PING */
#define DEAF_MS               5000 /* and no answer for that long: made anew */
#define STABLE_MS             2000 /* up for that long, it was no mere attempt */
#define PATIENCE_MS           10   /* how long answers to messages may lie unread */

void link_init(struct link *l, const struct config_redis *redis, struct tls_context *tls,
               const char *name)
{
    *l = (struct link){ .redis = redis, .name = name, .fd = -1, ._tls_context = tls };
    outbuf_init(&l->_commands, UINT64_MAX, 0); /* link_command sees to the bound */
    outbuf_init(&l->_messages, 0, 0);
}

void link_keep(struct link *l, uint64_t bytes_max, uint32_t age_max_ms)
{
    outbuf_init(&l->_messages, bytes_max, age_max_ms);
    l->keeps = true;
}

static void forget(struct link *l)
{
    const char *why;

    if (l->_resolve != NULL)
        (void)resolve_end(l->_resolve, l->_addresses, &why); /* closes fd */
    else if (l->fd >= 0) {
        tls_free(l->_tls);
        (void)close(l->fd); /* whatever it says, it is closed */
    }
    link_reader_free(l->_reader);
    if (l->_stage != NULL)
        outbuf_give(&l->_messages, l->_stage);
    outbuf_clear(&l->_commands);
    l->_resolve = NULL;
    l->_tls = NULL;
    l->fd = -1;
    l->_reader = NULL;
    l->_stage = NULL;
    l->_flight_at = l->_n_flight = l->_flight_bytes = 0;
    l->_greetings = 0;
    l->_pinged_at_ms = 0;
    l->state = LINK_DOWN;
}

void link_close(struct link *l)
{
    forget(l);
    outbuf_clear(&l->_messages);
}

/* --- down --- */

/* What an operator can do about it. `slowly`: until somebody has, another attempt is of no use. */
static const struct {
    const char *sign; /* in the reason */
    const char *remedy;
    bool slowly;
} remedies[] = {
    { "WRONGPASS", "check user and password in redis, or redis_password_file", true },
    { "NOAUTH", "Redis wants a password: in redis, or in redis_password_file", true },
    { "without any password configured", "Redis has no password: configure none here", true },
    { "'cluster|slots'", "redis_adapter = sharded: ACL SETUSER USER +cluster|slots", true },
    { "NOPERM", "let this user use Pub/Sub: ACL SETUSER USER +@pubsub +@connection &*", true },
    { "DB index", "Redis has no such database: change the number behind the host in redis", true },
    { "SELECT is not allowed", "a Redis Cluster has one database: no number behind the host",
      true },
    { "protected mode", "give Redis a password or bind it to the network that is meant", true },
    { "unknown command 'SSUBSCRIBE'", "redis_adapter = sharded needs Redis 7 or newer", false },
    { "unknown command 'SPUBLISH'", "redis_adapter = sharded needs Redis 7 or newer", false },
    { "max number of clients", "raise maxclients in Redis", false },
    { "issuer certificate", "redis_ca_file = the PEM file of who signed Redis' certificate", true },
    { "self-signed", "redis_ca_file = the PEM file of who signed Redis' certificate", true },
    { "hostname mismatch", "use the name that Redis' certificate is for", true },
    { "IP address mismatch", "use the address or name that Redis' certificate is for", true },
    { "wrong version number", "this port speaks no TLS: redis:// instead of rediss://", true },
    { "TLS: no answer", "does this port speak TLS? without it is redis://", false },
    { "certificate required", "redis_cert_file and redis_cert_key_file, or tls-auth-clients no",
      true },
    { "redis_ca_file", "a readable file of PEM certificates", true },
    { "redis_cert", "a readable PEM file; certificate and key belong together", true },
    { "not known", "check the name and the resolver of this host", false },
};

static bool known(const char *why, const char **remedy)
{
    for (uint32_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        if (strstr(why, remedies[i].sign) != NULL) {
            *remedy = remedies[i].remedy;
            return remedies[i].slowly;
        }
    }
    *remedy = "";
    return false;
}

const char *link_remedy(const char *why)
{
    const char *remedy;

    (void)known(why, &remedy);
    return remedy;
}

/* A long outage is one line now and then, not one for each attempt. */
static void tell_down(struct link *l, uint64_t now_ms, const char *why, const char *remedy,
                      uint32_t retry_ms)
{
    uint32_t suppressed;

    if (strncmp(l->_told, why, sizeof l->_told - 1) != 0) {
        snprintf(l->_told, sizeof l->_told, "%s", why);
        l->_rate = (struct log_rate){ 0 };
    }
    if (!log_allow(&l->_rate, now_ms, 4, &suppressed))
        return;
    if (remedy[0] == '\0')
        log_warning("redis_down", "link=%s host=%s port=%u reason=%s retry_in=%ums suppressed=%u",
                    l->name, l->redis->host, l->redis->port, why, retry_ms, suppressed);
    else
        log_warning("redis_down",
                    "link=%s host=%s port=%u reason=%s remedy=%s retry_in=%ums suppressed=%u",
                    l->name, l->redis->host, l->redis->port, why, remedy, retry_ms, suppressed);
}

/* first_ms doubled with each failure, up to max_ms; less up to half of it, so that hosts do not come back all at once. */
static uint32_t backoff(const struct link *l, uint32_t first_ms, uint32_t max_ms)
{
    uint32_t delay = first_ms << (l->_n_failures < 6 ? l->_n_failures : 6);
    uint32_t jitter = 0;

    if (delay > max_ms)
        delay = max_ms;
    if (getrandom(&jitter, sizeof jitter, GRND_NONBLOCK) == sizeof jitter)
        delay -= jitter % (delay / 2);
    return delay;
}

void link_fail(struct link *l, uint64_t now_ms, const char *why)
{
    const char *remedy;
    bool slowly = known(why, &remedy);
    uint32_t delay;

    if (l->state == LINK_UP && now_ms > l->_since_ms + STABLE_MS) {
        l->_n_failures = 0;
        l->_told[0] = '\0';
    }
    if (remedy[0] == '\0' && l->state == LINK_GREETING && !l->redis->tls && !l->redis->is_unix)
        remedy = "is it Redis, and without TLS? with TLS it is rediss://";
    delay = slowly ? backoff(l, BACKOFF_SLOW_FIRST_MS, LINK_BACKOFF_SLOW_MS)
                   : backoff(l, BACKOFF_FIRST_MS, LINK_BACKOFF_MAX_MS);
    l->_n_failures++;
    tell_down(l, now_ms, why, remedy, delay);
    for (uint32_t i = 0; i < l->_n_flight; i++) {
        const struct link_flight *f = &l->_flight[(l->_flight_at + i) % LINK_FLIGHT_MAX];

        if (f->are_messages)
            l->dropped[LINK_DROP_CUT] += f->n;
    }
    forget(l);
    l->_retry_at_ms = now_ms + delay;
    l->_address++;
}

/* --- up --- */

static int open_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    memcpy(address.sun_path, path, strlen(path)); /* config_redis.c: at most 107 bytes */
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

static int open_tcp(const struct resolve_address *address)
{
    int fd =
        socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    int on = 1;
    int error;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a matter of latency only */
    if (connect(fd, (const struct sockaddr *)&address->address, address->n_bytes) == 0 ||
        errno == EINPROGRESS)
        return fd;
    error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

/* Goes on with the next address; when none is left, that was it for now. */
static void try_next(struct link *l, uint64_t now_ms, const char *why)
{
    if (l->fd >= 0)
        (void)close(l->fd);
    l->fd = -1;
    while (l->_n_tried < l->_n_addresses) {
        l->fd = open_tcp(&l->_addresses[(l->_address + l->_n_tried++) % l->_n_addresses]);
        if (l->fd >= 0) {
            l->state = LINK_CONNECTING;
            l->_since_ms = now_ms;
            return;
        }
        why = strerror(errno);
    }
    link_fail(l, now_ms, why);
}

static void begin(struct link *l, uint64_t now_ms)
{
    const struct config_redis *r = l->redis;
    const char *why = "no address";

    l->_since_ms = now_ms;
    l->_n_tried = l->_n_addresses = 0;
    if (r->tls && l->_tls_context == NULL) {
        link_fail(l, now_ms, "TLS is not set up");
        return;
    }
    if (r->is_unix) {
        l->fd = open_unix(r->host);
        l->state = LINK_CONNECTING;
        if (l->fd < 0)
            link_fail(l, now_ms, strerror(errno));
        return;
    }
    l->_resolve = resolve_begin(r->host, r->port, &l->fd, l->_addresses, &l->_n_addresses, &why);
    if (l->_resolve != NULL)
        l->state = LINK_RESOLVING;
    else
        try_next(l, now_ms, why);
}

static void on_resolved(struct link *l, uint64_t now_ms)
{
    const char *why = NULL;

    l->_n_addresses = resolve_end(l->_resolve, l->_addresses, &why);
    l->_resolve = NULL;
    l->fd = -1;
    try_next(l, now_ms, why);
}

/* Says who we are. Answers come in the order of the questions. */
static void greet(struct link *l, uint64_t now_ms)
{
    const struct config_redis *r = l->redis;
    struct slice auth[3] = { slice_text("AUTH"), slice_text(r->user), slice_text(r->password) };
    struct slice ping = slice_text("PING");
    char db[16];
    struct slice select[2] = { slice_text("SELECT"),
                               { db, (uint32_t)snprintf(db, sizeof db, "%u", r->db) } };
    bool ok = true;

    l->state = LINK_GREETING;
    l->_since_ms = l->_heard_at_ms = now_ms;
    l->_reader = link_reader_new();
    if (r->password[0] != '\0') {
        if (r->user[0] == '\0')
            auth[1] = auth[2];
        ok = outbuf_push(&l->_commands, 0, auth, r->user[0] == '\0' ? 2 : 3);
        l->_greetings++;
    }
    if (r->db != 0) {
        ok = ok && outbuf_push(&l->_commands, 0, select, 2);
        l->_greetings++;
    }
    ok = ok && outbuf_push(&l->_commands, 0, &ping, 1);
    l->_greetings++;
    if (!ok || l->_reader == NULL)
        link_fail(l, now_ms, "out of memory");
}

static void secure(struct link *l, uint64_t now_ms)
{
    switch (tls_handshake(l->_tls)) {
    case TLS_DONE: greet(l, now_ms); break;
    case TLS_AGAIN: break;
    case TLS_FAILED: {
        char why[TLS_WHY_MAX];

        snprintf(why, sizeof why, "%s", tls_why(l->_tls));
        link_fail(l, now_ms, why);
        break;
    }
    }
}

static void on_connected(struct link *l, uint64_t now_ms)
{
    int error = 0;
    socklen_t n = sizeof error;

    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0) {
        try_next(l, now_ms, strerror(error != 0 ? error : errno));
        return;
    }
    if (!l->redis->tls) {
        greet(l, now_ms);
        return;
    }
    l->state = LINK_SECURING;
    l->_since_ms = now_ms;
    l->_tls = tls_open(l->_tls_context, l->fd, l->redis->host);
    if (l->_tls == NULL)
        link_fail(l, now_ms, "TLS: out of memory");
    else
        secure(l, now_ms);
}

void link_on_greeting(struct link *l, const redisReply *reply, uint64_t now_ms)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        link_fail(l, now_ms, reply->str);
        return;
    }
    if (--l->_greetings > 0)
        return;
    l->state = LINK_UP;
    l->_since_ms = now_ms;
    log_info("redis_up", "link=%s host=%s port=%u tls=%s", l->name, l->redis->host, l->redis->port,
             l->redis->tls ? "yes" : "no");
}

/* --- events and time --- */

/* Are answers to a few messages all that is to come? Nobody waits for them, and they come just before Redis hands the messages on: whoever is woken for
 * them takes the CPU from the messages. They are read when something else has woken us, or a little later. */
static bool is_patient(const struct link *l)
{
    if (!l->keeps || l->state != LINK_UP || l->_n_flight == 0 ||
        l->_n_flight > LINK_FLIGHT_MAX / 2 || l->_flight_bytes > LINK_FLIGHT_BYTES / 2 ||
        l->_messages.n_commands > 0)
        return false;
    for (uint32_t i = 0; i < l->_n_flight; i++)
        if (!l->_flight[(l->_flight_at + i) % LINK_FLIGHT_MAX].are_messages)
            return false;
    return true;
}

short link_events(const struct link *l)
{
    short in = is_patient(l) ? POLLRDHUP : POLLIN;

    switch ((enum link_state)l->state) {
    case LINK_DOWN: return 0;
    case LINK_RESOLVING: return POLLIN;
    case LINK_CONNECTING: return POLLOUT;
    case LINK_SECURING: return tls_wants_write(l->_tls) ? POLLOUT : POLLIN;
    case LINK_GREETING:
    case LINK_UP: break;
    }
    return l->_stage != NULL || (l->_tls != NULL && tls_wants_write(l->_tls)) ? in | POLLOUT : in;
}

bool link_on_events(struct link *l, short events, bool read, uint64_t now_ms,
                    link_on_reply on_reply, void *context)
{
    bool was_up = l->state == LINK_UP;

    switch ((enum link_state)l->state) {
    case LINK_DOWN: break;
    case LINK_RESOLVING:
        if (events != 0)
            on_resolved(l, now_ms);
        break;
    case LINK_CONNECTING:
        if (events != 0)
            on_connected(l, now_ms);
        break;
    case LINK_SECURING:
        if (events != 0)
            secure(l, now_ms);
        break;
    case LINK_GREETING:
    case LINK_UP:
        if (read && ((events & ~POLLOUT) != 0 || is_patient(l) ||
                     (l->_tls != NULL && tls_pending(l->_tls))))
            link_read(l, now_ms, on_reply, context);
        break;
    }
    link_flush(l, now_ms);
    return !was_up && l->state == LINK_UP;
}

/* An established connection that does not answer is none, whatever the kernel thinks of it. */
static void check_alive(struct link *l, uint64_t now_ms)
{
    uint64_t since = link_waits_since(l);

    if (since != UINT64_MAX && since < l->_heard_at_ms)
        since = l->_heard_at_ms;
    if ((since != UINT64_MAX && now_ms > since + DEAF_MS) ||
        (l->_pinged_at_ms != 0 && now_ms > l->_pinged_at_ms + DEAF_MS)) {
        link_fail(l, now_ms, "connected, but does not answer");
    } else if (l->_pinged_at_ms == 0 && since == UINT64_MAX &&
               now_ms > l->_heard_at_ms + SILENT_MS &&
               link_command(l, 1, (struct slice[]){ slice_text("PING") })) {
        l->_pinged_at_ms = now_ms;
    }
}

void link_tick(struct link *l, uint64_t now_ms)
{
    outbuf_expire(&l->_messages, now_ms);
    l->dropped[LINK_DROP_FULL] += l->_messages.dropped_full;
    l->dropped[LINK_DROP_OLD] += l->_messages.dropped_old;
    l->_messages.dropped_full = l->_messages.dropped_old = 0;
    switch ((enum link_state)l->state) {
    case LINK_DOWN:
        if (now_ms >= l->_retry_at_ms)
            begin(l, now_ms);
        break;
    case LINK_RESOLVING:
        if (now_ms > l->_since_ms + RESOLVE_MS)
            link_fail(l, now_ms, "the look-up of the name takes too long");
        break;
    case LINK_CONNECTING:
        if (now_ms > l->_since_ms + CONNECT_MS)
            try_next(l, now_ms, "no answer in time");
        break;
    case LINK_SECURING:
        if (now_ms > l->_since_ms + GREET_MS)
            link_fail(l, now_ms, "TLS: no answer in time");
        break;
    case LINK_GREETING:
        if (now_ms > l->_since_ms + GREET_MS)
            link_fail(l, now_ms, "connected, but no answer in time");
        break;
    case LINK_UP: check_alive(l, now_ms); break;
    }
}

uint32_t link_wait_ms(const struct link *l, uint64_t now_ms)
{
    if (l->state == LINK_DOWN)
        return l->_retry_at_ms > now_ms ? (uint32_t)(l->_retry_at_ms - now_ms) : 0;
    if (l->_tls != NULL && tls_pending(l->_tls))
        return 0;
    if (is_patient(l))
        return PATIENCE_MS;
    return l->state == LINK_UP ? 1000 : 100;
}
