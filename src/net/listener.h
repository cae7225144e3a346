/* listener.h: the sockets that clients come in by, made from the configuration.
 *
 * An address has one listener that the master accepts on (`leastconn`, UNIX sockets, the admin
 * listener), or one per worker slot in an SO_REUSEPORT group (`reuseport`; `iphash` adds a classic
 * BPF program that picks the slot by source address). All are nonblocking, close-on-exec, listening
 * with LISTENER_BACKLOG, and hand TCP_NODELAY down to what is accepted on them. */
#ifndef PEAL_NET_LISTENER_H
#define PEAL_NET_LISTENER_H

#include <sys/types.h>
#include <time.h>

#include "base/config.h"
#include "net/inbox.h"

#define LISTENER_BACKLOG    4096
#define LISTENER_SHARED     UINT32_MAX /* as a slot: the master's */
#define LISTENERS_MAX       (CONFIG_LISTEN_MAX * CONFIG_WORKERS_MAX)
#define LISTENER_NAME_BYTES (CONFIG_TEXT_MAX + 16)

struct listener {
    int fd;           /* -1: closed */
    uint32_t slot;    /* whose it is, or LISTENER_SHARED */
    uint32_t address; /* index into `addresses` */
    bool is_unix;
};

struct listener_address {
    char
        name[LISTENER_NAME_BYTES]; /* as it really is: "127.0.0.1:3000", "[::]:3000", "unix:PATH" */
    char path[CONFIG_TEXT_MAX];    /* UNIX: the file to remove; "" = none */
    dev_t device;                  /* of that file as we made it */
    ino_t inode;                   /* numbers are used again, so its time of making, too */
    struct timespec made;
};

struct listeners {
    struct listener items[LISTENERS_MAX];
    uint32_t n;
    struct listener_address addresses[CONFIG_LISTEN_MAX];
    uint32_t n_addresses;
};

/* Opens all listeners of `n` addresses (at most CONFIG_LISTEN_MAX); `n_slots` workers (used unless
 * leastconn). An address that another process listens on is refused also where SO_REUSEPORT would
 * let two servers share it unknowingly; the file of a UNIX socket that nobody listens on any more is
 * replaced. 0, or -errno with nothing open and `why` a text that names the address. */
MUST_USE int listeners_open(struct listeners *out, const struct config_listen *addresses,
                            uint32_t n, enum config_balance balance, uint32_t n_slots, char *why,
                            uint32_t why_bytes);

/* All names, comma-separated, cut at `out_bytes`. */
void listeners_names(const struct listeners *l, char *out, uint32_t out_bytes);

/* Removes the files of UNIX listeners, if they are still the ones we made. Once is enough. */
void listeners_unlink(struct listeners *l);

/* Closes what is open and removes the files. */
void listeners_close(struct listeners *l);

/* Which of `n` slots the kernel picks for this source under iphash: what the BPF program computes.
 * AF_INET and AF_INET6 only; IPv4-mapped addresses count as IPv4, as they do on the wire. */
uint32_t listener_iphash(const struct peer_address *source, uint32_t n);

#endif
