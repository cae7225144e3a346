/* app.h: writing an application for a namespace. The built-in `relay` and the demo are written on this and on nothing else.
 *
 * An application is a struct peal_app of functions. Peal calls them from the worker's loop: they must not block. Each worker process has its own
 * instance; what an application emits reaches clients on all workers and hosts through the ring.
 *
 * FULL: an append may find the ring full. Then nothing has happened, and a handler that returns PEAL_FULL is called again with the same event in a later
 * turn; meanwhile that client is not read. So: append first, change state after.
 *
 * Text and JSON are borrowed for the time of the call. JSON that comes in has been validated; JSON that goes out must be valid (it is checked). */
#ifndef PEAL_APP_H
#define PEAL_APP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEAL_APP_ABI 1

struct peal_host;             /* one worker, as an application sees it */
typedef uint64_t peal_socket; /* a client in a namespace; never reused by another; 0 = none */
typedef uint64_t peal_ack; /* the client's request for an acknowledgement; 0 = none was asked for */

enum peal_result {
    PEAL_OK = 0,
    PEAL_FULL,    /* try again later; nothing was done */
    PEAL_TOO_BIG, /* never fits: larger than a quarter of the ring, or than event_bytes_max */
    PEAL_GONE,    /* no such socket (any more) */
    PEAL_LIMIT,   /* max_rooms_per_socket */
    PEAL_INVALID  /* bad argument: JSON, a name over 255 bytes, a reserved event name */
};

struct peal_text {
    const char *bytes; /* UTF-8, not terminated; NULL = absent */
    uint32_t n_bytes;
};

/* An event from a client. */
struct peal_event {
    struct peal_text name; /* unescaped; absent if the event's name is a number */
    struct peal_text json; /* the whole array, ["name",arg,...], binary values as placeholders */
    const struct peal_text *attachments; /* what the placeholders stand for */
    uint32_t n_attachments;
    peal_ack ack;
};

struct peal_selector {
    const struct peal_text *rooms; /* none: everybody in the namespace */
    uint32_t n_rooms;
    const struct peal_text *except;
    uint32_t n_except;
    uint32_t flags; /* PEAL_* */
};
#define PEAL_LOCAL       1u /* this host only */
#define PEAL_VOLATILE    2u /* not to clients that cannot take it right now */
#define PEAL_NO_COMPRESS 4u

/* What the namespace's section in the configuration allows clients. */
enum peal_publish { PEAL_PUBLISH_NONE = 0, PEAL_PUBLISH_JOINED, PEAL_PUBLISH_ANY };
struct peal_policy {
    bool client_join;
    enum peal_publish client_publish;
    uint32_t max_rooms_per_socket;
};

struct peal_app {
    uint32_t abi; /* PEAL_APP_ABI */
    const char *name;

    /* Any of these may be NULL. */
    /* A CONNECT, with the auth payload ({} if none). Answer with peal_accept or peal_refuse, now or later; NULL: everybody is accepted. */
    void (*connect)(struct peal_host *host, peal_socket socket, struct peal_text auth);
    /* An event of an accepted client; NULL: events are ignored, and counted as unhandled. *handled is true beforehand. */
    enum peal_result (*event)(struct peal_host *host, peal_socket socket,
                              const struct peal_event *event, bool *handled);
    /* A socket is back after a lost connection (recovery > 0): accepted, in its rooms, with its id; connect is not called for it. */
    void (*recovered)(struct peal_host *host, peal_socket socket);
    /* An accepted socket has left. It is out of its rooms when this returns. */
    void (*disconnect)(struct peal_host *host, peal_socket socket, const char *reason);
    /* Once a second. */
    void (*second)(struct peal_host *host);
};

/* --- answers to a CONNECT --- */

/* Accepts, and joins these rooms before anything else reaches the client. */
enum peal_result peal_accept(struct peal_host *host, peal_socket socket,
                             const struct peal_text *rooms, uint32_t n_rooms);
/* CONNECT_ERROR {"message":message,"data":data}; `data` is JSON or absent. */
enum peal_result peal_refuse(struct peal_host *host, peal_socket socket, struct peal_text message,
                             struct peal_text data);

/* --- sockets --- */

#define PEAL_SOCKET_ID_BYTES 20
enum peal_result peal_socket_id(struct peal_host *host, peal_socket socket,
                                char id[PEAL_SOCKET_ID_BYTES]);
enum peal_result peal_join(struct peal_host *host, peal_socket socket,
                           const struct peal_text *rooms, uint32_t n_rooms);
enum peal_result peal_leave(struct peal_host *host, peal_socket socket,
                            const struct peal_text *rooms, uint32_t n_rooms);
bool peal_in_room(struct peal_host *host, peal_socket socket, struct peal_text room);
enum peal_result peal_disconnect(struct peal_host *host, peal_socket socket, bool close);
struct peal_policy peal_policy(struct peal_host *host, peal_socket socket);
/* Has the room's name the form of a socket's id? By form, not by look-up: sockets of other hosts are not in our tables. */
bool peal_is_socket_id(struct peal_text room);
/* May neither come from a client nor be emitted: connect, disconnect, ... */
bool peal_event_reserved(struct peal_text name);

/* --- messages --- */

/* Emits ["name",arg,...] (with its attachments, if it has placeholders) to the sockets of the namespace that the selector names. */
enum peal_result peal_emit(struct peal_host *host, struct peal_text nsp,
                           const struct peal_selector *to, struct peal_text json,
                           const struct peal_text *attachments, uint32_t n_attachments);
/* A client's event without the array's first `skip` elements: relays ["publish",room,"event",...] as ["event",...] without encoding anew. All its
 * attachments go along. */
enum peal_result peal_forward(struct peal_host *host, struct peal_text nsp,
                              const struct peal_selector *to, const struct peal_event *event,
                              uint32_t skip);
/* Answers an acknowledgement with a JSON array; goes behind everything that was emitted before. To be called once; nothing happens if `ack` is 0. */
enum peal_result peal_reply(struct peal_host *host, peal_socket socket, peal_ack ack,
                            struct peal_text json);

/* The namespace of a socket; borrowed for the socket's life. */
struct peal_text peal_namespace(struct peal_host *host, peal_socket socket);

/* --- the host --- */

uint32_t peal_worker(const struct peal_host *host); /* its slot */
/* Sockets of this worker in the namespace. */
uint32_t peal_count(struct peal_host *host, struct peal_text nsp);
enum peal_stat {
    PEAL_STAT_CONNECTIONS = 0,
    PEAL_STAT_DELIVERIES,
    PEAL_STAT_MESSAGES,
    PEAL_STAT_WORKERS
};
uint64_t peal_stat(struct peal_host *host, enum peal_stat which); /* of the whole machine */
void peal_log(const struct peal_host *host, const char *text);

#ifdef __cplusplus
}
#endif

#endif
