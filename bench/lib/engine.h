/* engine.h: very many WebSocket clients in one process, on one epoll.
 *
 *   IDLE -> CONNECTING -> UPGRADING -> [ENGINE -> NAMESPACE ->] OPEN -> CLOSED      (any -> CLOSED)
 *   CLOSED -> CONNECTING by engine_begin() only
 *
 * Invariant: a client between two frames holds no buffer: bytes are read into one buffer of the
 *            engine, and only a frame cut by a read border, or a send the kernel did not take,
 *            is kept aside. At most `connect_parallel` clients are between IDLE and OPEN at any
 *            time, but for those that engine_begin() starts.
 * Owns:      descriptors and kept bytes. Callbacks may call any function below but engine_turn().
 * Never:     blocks but in engine_turn(), or for longer than its timeout. */
#ifndef BENCH_LIB_ENGINE_H
#define BENCH_LIB_ENGINE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/wire.h"

#define ENGINE_TARGETS_MAX 16u
#define ENGINE_FRAME_MAX   (16u << 20)
#define ENGINE_CORK_MAX    (1u << 20)

enum dialect { DIALECT_PLAIN = 0, DIALECT_SOCKETIO };

enum client_state {
    CLIENT_IDLE = 0,
    CLIENT_CONNECTING,
    CLIENT_UPGRADING,
    CLIENT_ENGINE,
    CLIENT_NAMESPACE,
    CLIENT_OPEN,
    CLIENT_CLOSED
};

/* How a client ended: one of these, or an HTTP status (100 to 599), or a WebSocket close code
 * (from 1000). */
enum close_cause {
    CAUSE_NONE = 0,
    CAUSE_EOF,           /* closed without a close frame */
    CAUSE_RESET,         /* connection reset */
    CAUSE_REFUSED,       /* connect failed */
    CAUSE_TIMEOUT,       /* not OPEN within connect_timeout_ms */
    CAUSE_PROTOCOL,      /* the server sent what it must not */
    CAUSE_OURS,          /* we closed it */
    CAUSE_CONNECT_ERROR, /* Socket.IO CONNECT_ERROR */
    CAUSE_DISCONNECT,    /* Socket.IO DISCONNECT packet or Engine.IO close */
    CAUSE_STUCK,         /* more unsent bytes than we keep */
    CAUSES = 5000
};

enum close_kind { CLOSE_CLEAN, CLOSE_RESET, CLOSE_EOF };

/* One address to connect to. */
struct target {
    struct sockaddr_in address;
    char host[64];
    char path[512];
};

struct client {
    uint8_t *kept; /* a cut frame */
    uint8_t *unsent;
    uint32_t kept_bytes;
    uint32_t unsent_bytes;
    uint32_t deadline_ms; /* since the engine's start, while not OPEN */
    uint32_t id;          /* index into engine.clients */
    int fd;
    uint16_t cause;
    uint8_t state;
    bool silent : 1;   /* answers nothing any more: pings, close frames */
    bool unread : 1;   /* reads nothing any more */
    bool want_out : 1; /* waits for EPOLLOUT */
    bool closing : 1;  /* we sent a close frame and wait for the server's */
};

struct engine;

struct engine_config {
    struct target targets[ENGINE_TARGETS_MAX]; /* client i connects to target i % n_targets */
    uint32_t n_targets;
    enum dialect dialect;
    const char *nsp;           /* "/" or "/name" */
    const char *auth;          /* JSON object or NULL */
    const char *headers;       /* further request headers, each ended by CRLF, or NULL */
    uint32_t connect_parallel; /* 1 to 1024 */
    uint32_t connect_rate;     /* new connects a second, 0: no limit */
    uint32_t connect_timeout_ms;
    uint32_t receive_buffer; /* SO_RCVBUF of clients, 0: the kernel's */
    uint32_t
        sources; /* source addresses per process, 0: the kernel's choice (needed off loopback) */
    uint32_t process; /* index of this process: keeps sources apart */
    /* Where client `c` connects to, if not to its turn of `targets`; borrowed until the next call. */
    const struct target *(*target_of)(struct engine *e, const struct client *c);

    void (*on_open)(struct engine *e, struct client *c);
    /* One message. Socket.IO: the packet behind Engine.IO's "4". `data` is borrowed for the
     * call. */
    void (*on_message)(struct engine *e, struct client *c, const char *data, size_t n, bool binary);
    /* Once per client that was started; c->cause says why; `was_open`: it had been OPEN. */
    void (*on_close)(struct engine *e, struct client *c, bool was_open);
    /* A ping, Engine.IO's or WebSocket's, about to be answered. May be NULL. */
    void (*on_ping)(struct engine *e, struct client *c);
    void *ctx;
};

struct engine {
    struct engine_config config;
    struct client *clients;
    uint32_t n_clients;
    uint32_t next_start; /* the first client never started */
    uint32_t start_end;  /* clients below it may start */
    uint32_t n_starting; /* between IDLE and OPEN */
    uint32_t n_open;
    uint64_t began_ns;
    uint64_t rate_began_ns;
    uint32_t rate_base;
    uint64_t swept_ns;
    uint64_t random;
    uint8_t *buffer;
    char *request;
    struct client *corked;
    uint8_t *cork_buffer;
    size_t cork_bytes;
    int epoll_fd;
};

/* Reads "ws://HOST:PORT/PATH" (http:// likewise). The path of the Socket.IO dialect is
 * completed. Dies when malformed. */
void target_parse(struct target *t, const char *url, enum dialect dialect);

/* An engine with `n_clients` IDLE clients; dies when out of memory. */
void engine_init(struct engine *e, const struct engine_config *config, uint32_t n_clients);
/* Closes what is open, without callbacks. */
void engine_destroy(struct engine *e);

/* Lets `n` more clients start; fewer when there are no more. Returns how many. */
uint32_t engine_start(struct engine *e, uint32_t n);

/* Starts one client now, IDLE or CLOSED, whatever connect_parallel and connect_rate say. Not from a
 * callback: the turn may still hold an event of its last connection. */
void engine_begin(struct engine *e, struct client *c);

/* Waits for at most `timeout_ms`, handles what has come. A descriptor given to engine_watch()
 * counts. */
void engine_turn(struct engine *e, int timeout_ms);

/* Makes engine_turn() return when `fd` is readable (an eventfd or a timerfd: eight bytes are read). */
void engine_watch(struct engine *e, int fd);

/* Sends one message (Socket.IO: a packet, "4" is put before it). False when the client is not
 * OPEN or was just lost. */
bool client_send(struct engine *e, struct client *c, const char *data, size_t n);

/* Holds back what is sent to `c`, at most ENGINE_CORK_MAX bytes, until engine_uncork() writes it
 * in one go. One client at a time. */
void engine_cork(struct engine *e, struct client *c);
void engine_uncork(struct engine *e);

/* CLOSE_CLEAN sends a close frame and waits for the server's; the others close at once. on_close
 * is called. */
void client_close(struct engine *e, struct client *c, enum close_kind kind);

/* Stops or resumes reading; a stopped client still notices a reset. */
void client_read(struct engine *e, struct client *c, bool on);

/* "1001", "http_503", "reset" …; `buffer` has 24 bytes. */
const char *cause_name(uint32_t cause, char *buffer);

#endif
