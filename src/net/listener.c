/* listener.c: opening the listeners.
 *
 * Invariant: the listeners of one SO_REUSEPORT group are opened in the order of the slots and none is
 *            closed while the group is in use: the kernel numbers a group in the order of listen(),
 *            and the BPF program's answer is such a number.
 * Owns:      the descriptors until listeners_close, and the files of UNIX sockets. */
#include "net/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "peal/limits.h"

#define IPHASH_MULTIPLIER 0x9e3779b1u /* 2^32 / golden ratio: neighbours go far apart */
#define IPHASH_SHIFT      16

union any_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

/* --- iphash --- */

uint32_t listener_iphash(const struct peer_address *source, uint32_t n)
{
    uint32_t words[4], n_words = source->family == AF_INET6 ? 4 : 1, hash = 0;

    assert(n > 0);
    memcpy(words, source->bytes, n_words * sizeof words[0]);
    for (uint32_t i = 0; i < n_words; i++)
        hash ^= ntohl(words[i]);
    return (hash * IPHASH_MULTIPLIER >> IPHASH_SHIFT) % n;
}

/* The same for the kernel. Offsets from SKF_NET_OFF count from the IP header; the version in its
 * first byte tells IPv4 from IPv6 also on a dual-stack socket. An answer outside the group (it cannot
 * be: modulo) would fall back to the kernel's own hash. */
static int listener_attach_iphash(int fd, uint32_t n_slots)
{
    const uint32_t net = (uint32_t)SKF_NET_OFF;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, net),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 2, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12), /* IPv4: the source */
        BPF_JUMP(BPF_JMP | BPF_JA, 10, 0, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 8), /* IPv6: its four words */
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 16),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 20),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, IPHASH_MULTIPLIER), /* where the IPv4 way joins */
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, IPHASH_SHIFT),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, n_slots),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = { .len = sizeof code / sizeof code[0], .filter = code };

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) < 0
               ? -errno
               : 0;
}

/* --- TCP --- */

static int listener_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* A bound and listening TCP socket, or -errno. */
static int listener_tcp_at(const union any_address *address, socklen_t n_bytes, bool reuseport)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -errno;
    error = listener_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && reuseport)
        error = listener_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (error == 0 && address->any.sa_family == AF_INET6)
        error = listener_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (error == 0)
        error = listener_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
    if (error == 0) /* a peer that does not read must not fill megabytes of the kernel's memory */
        error = listener_option(fd, SOL_SOCKET, SO_SNDBUF, CLIENT_SEND_BUFFER_BYTES);
    if (error == 0 && bind(fd, &address->any, n_bytes) < 0)
        error = -errno;
    if (error == 0 && listen(fd, LISTENER_BACKLOG) < 0)
        error = -errno;
    if (error == 0)
        return fd;
    close(fd);
    return error;
}

/* Numeric host and port to an address; "" and "::" are [::]. False: not an address. */
static bool listener_address_parse(union any_address *out, socklen_t *n_bytes, const char *host,
                                   uint16_t port)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        *n_bytes = sizeof out->in;
        return true;
    }
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(port);
    *n_bytes = sizeof out->in6;
    return *host == '\0' || inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1;
}

static uint16_t listener_port(int fd)
{
    union any_address address = { .storage = { 0 } };
    socklen_t n = sizeof address;

    if (getsockname(fd, &address.any, &n) < 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port);
}

static void listener_port_set(union any_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->in6.sin6_port = htons(port);
    else
        address->in.sin_port = htons(port);
}

static void listener_name(char *out, uint32_t out_bytes, const union any_address *address)
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof host);
        snprintf(out, out_bytes, "[%s]:%u", host, ntohs(address->in6.sin6_port));
    } else {
        (void)inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof host);
        snprintf(out, out_bytes, "%s:%u", host, ntohs(address->in.sin_port));
    }
}

static void listeners_add(struct listeners *l, int fd, uint32_t slot, bool is_unix)
{
    assert(l->n < LISTENERS_MAX);
    l->items[l->n++] = (struct listener){ fd, slot, l->n_addresses, is_unix };
}

/* The whole group of one address. The first socket was a probe without SO_REUSEPORT: it finds a free
 * port, and finds out whether somebody else listens there, with SO_REUSEPORT or not. */
static int listeners_add_group(struct listeners *l, const union any_address *address,
                               socklen_t n_bytes, bool iphash, uint32_t n_slots)
{
    int error = 0, first = -1;

    for (uint32_t slot = 0; slot < n_slots; slot++) {
        int fd = listener_tcp_at(address, n_bytes, true);

        if (fd < 0)
            return fd; /* those that are open are in the list, whose owner closes it */
        listeners_add(l, fd, slot, false);
        if (first < 0)
            first = fd;
    }
    if (iphash)
        error = listener_attach_iphash(first, n_slots); /* the program belongs to the group */
    return error;
}

static int listeners_add_tcp(struct listeners *l, const struct config_listen *wanted,
                             enum config_balance balance, uint32_t n_slots)
{
    union any_address address;
    socklen_t n_bytes;
    bool any = *wanted->host == '\0' || strcmp(wanted->host, "::") == 0;
    int fd;

    if (!listener_address_parse(&address, &n_bytes, wanted->host, wanted->port))
        return -EINVAL;
    fd = listener_tcp_at(&address, n_bytes, false);
    if (any && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) { /* a host without IPv6 */
        bool parsed = listener_address_parse(&address, &n_bytes, "0.0.0.0", wanted->port);

        assert(parsed);
        fd = listener_tcp_at(&address, n_bytes, false);
    }
    if (fd < 0)
        return fd;
    listener_port_set(&address, listener_port(fd));
    listener_name(l->addresses[l->n_addresses].name, LISTENER_NAME_BYTES, &address);
    if (balance == BALANCE_LEASTCONN) {
        listeners_add(l, fd, LISTENER_SHARED, false);
        return 0;
    }
    close(fd);
    return listeners_add_group(l, &address, n_bytes, balance == BALANCE_IPHASH, n_slots);
}

/* --- UNIX --- */

/* The file is a socket that nobody listens on. */
static bool listener_unix_is_stale(const union any_address *address, socklen_t n_bytes)
{
    struct stat file;
    bool stale;
    int fd;

    if (lstat(address->un.sun_path, &file) < 0 || !S_ISSOCK(file.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    stale = connect(fd, &address->any, n_bytes) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int listener_unix_bind(int fd, const union any_address *address, socklen_t n_bytes)
{
    if (bind(fd, &address->any, n_bytes) == 0)
        return 0;
    if (errno != EADDRINUSE || !listener_unix_is_stale(address, n_bytes))
        return -errno;
    if (unlink(address->un.sun_path) < 0 || bind(fd, &address->any, n_bytes) < 0)
        return -errno;
    return 0;
}

static int listeners_add_unix(struct listeners *l, const struct config_listen *wanted)
{
    struct listener_address *entry = &l->addresses[l->n_addresses];
    union any_address address;
    size_t n = strlen(wanted->host);
    socklen_t n_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    struct stat file;
    int fd, error;

    memset(&address, 0, sizeof address);
    if (n == 0 || n >= sizeof address.un.sun_path)
        return -ENAMETOOLONG;
    address.un.sun_family = AF_UNIX;
    memcpy(address.un.sun_path, wanted->host, n + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    error = listener_unix_bind(fd, &address, n_bytes);
    if (error != 0) {
        close(fd);
        return error;
    }
    listeners_add(l, fd, LISTENER_SHARED, true);
    memcpy(entry->path, wanted->host, n + 1);
    snprintf(entry->name, sizeof entry->name, "unix:%s", wanted->host);
    if (lstat(entry->path, &file) == 0) {
        entry->device = file.st_dev;
        entry->inode = file.st_ino;
        entry->made = file.st_mtim; /* of a socket nothing else changes it */
    }
    return listen(fd, LISTENER_BACKLOG) < 0 ? -errno : 0;
}

/* --- all --- */

static void listener_wanted_name(char *out, uint32_t out_bytes, const struct config_listen *wanted)
{
    bool v6 = *wanted->host == '\0' || strchr(wanted->host, ':') != NULL;

    if (wanted->is_unix)
        snprintf(out, out_bytes, "unix:%s", wanted->host);
    else
        snprintf(out, out_bytes, v6 ? "[%s]:%u" : "%s:%u",
                 *wanted->host ? wanted->host : "::", wanted->port);
}

int listeners_open(struct listeners *out, const struct config_listen *addresses, uint32_t n,
                   enum config_balance balance, uint32_t n_slots, char *why, uint32_t why_bytes)
{
    assert(n <= CONFIG_LISTEN_MAX);
    assert(balance == BALANCE_LEASTCONN || (n_slots > 0 && n_slots <= CONFIG_WORKERS_MAX));
    memset(out, 0, sizeof *out);
    for (; out->n_addresses < n; out->n_addresses++) {
        const struct config_listen *wanted = &addresses[out->n_addresses];
        int error = wanted->is_unix ? listeners_add_unix(out, wanted)
                                    : listeners_add_tcp(out, wanted, balance, n_slots);
        char name[LISTENER_NAME_BYTES];

        if (error == 0)
            continue;
        listener_wanted_name(name, sizeof name, wanted);
        snprintf(why, why_bytes, "%s: %s", name, strerror(-error));
        out->n_addresses++; /* its file, if it was made, is removed as well */
        listeners_close(out);
        return error;
    }
    return 0;
}

void listeners_names(const struct listeners *l, char *out, uint32_t out_bytes)
{
    uint32_t at = 0;

    assert(out_bytes > 0);
    *out = '\0';
    for (uint32_t i = 0; i < l->n_addresses && at < out_bytes - 1; i++) {
        int n = snprintf(out + at, out_bytes - at, i ? ",%s" : "%s", l->addresses[i].name);

        at += n < 0 ? 0 : (uint32_t)n;
    }
}

void listeners_unlink(struct listeners *l)
{
    for (uint32_t i = 0; i < l->n_addresses; i++) {
        struct listener_address *entry = &l->addresses[i];
        struct stat file;

        if (*entry->path != '\0' && lstat(entry->path, &file) == 0 &&
            file.st_dev == entry->device && file.st_ino == entry->inode &&
            file.st_mtim.tv_sec == entry->made.tv_sec &&
            file.st_mtim.tv_nsec == entry->made.tv_nsec)
            (void)unlink(entry->path); /* nothing can be done about it, and it is stale next time */
        *entry->path = '\0';
    }
}

void listeners_close(struct listeners *l)
{
    listeners_unlink(l);
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->items[i].fd >= 0)
            close(l->items[i].fd);
        l->items[i].fd = -1;
    }
}
