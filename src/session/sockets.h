/* sockets.h: sessions (one per client, whatever carries it) and the sockets on them: one per namespace that a client is in. A plain WebSocket client has
 * a session without an Engine.IO identity, and one socket, in /ws. Fixed records in two arrays; indices are stable, generations tell one life
 * from the next. */
#ifndef PEAL_SESSION_SOCKETS_H
#define PEAL_SESSION_SOCKETS_H

#include "peal/limits.h"
#include "proto/engineio.h"
#include "session/handshake.h"
#include "session/rooms.h"
#include "shm/sessions.h"

#define SOCK_NONE UINT32_MAX

enum sock_state {
    SOCK_FREE = 0,
    SOCK_PENDING,    /* CONNECT is with the application */
    SOCK_ACTIVATING, /* accepted; in its namespace when the ring has been taken in up to there */
    SOCK_ACTIVE,
    SOCK_STATES
};

struct membership {
    uint32_t room;
    uint32_t at; /* its place among the room's members */
};

struct sock {
    uint32_t conn;
    uint32_t session;
    uint32_t identity; /* its entry in the session table, which holds the id */
    uint32_t generation;
    uint32_t next;        /* of the same session; free list */
    uint32_t everyone_at; /* ACTIVE: its place in the room of the namespace */
    struct membership *rooms;
    uint16_t n_rooms;
    uint16_t rooms_max;
    uint16_t nsp;        /* index in the host's table, in use for as long as the socket lives */
    uint16_t n_joins;    /* joins under way */
    uint8_t state;       /* enum sock_state */
    uint8_t section;     /* index in config.namespaces; UINT8_MAX: /ws */
    uint8_t recoverable; /* has what recovery.c keeps of it in shared memory, or is about to */
    uint8_t recovered;   /* came back at the beginning of this connection */
    uint32_t
        first_room; /* plain: where its frames are published (a reference is held); ROOM_NONE */
};

enum heartbeat { HEARTBEAT_WAITS = 0, HEARTBEAT_PINGED };
#define EXTENDED_PACKET 1u /* another packet came while the pong was awaited */
#define EXTENDED_UNREAD 2u /* something lay unread when the time was over */

/* What is kept of one client. */
struct session {
    uint32_t conn;     /* free list */
    uint32_t identity; /* its sid's entry in the session table; SESSION_NONE: a plain client */
    uint32_t first_sock;
    uint32_t generation;
    uint64_t
        deadline_ms; /* next ping, or the end of waiting for its pong (0: the ping is not with the kernel yet) */
    uint64_t connect_by_ms; /* until then a namespace must have been joined; 0: one was */
    char *handshake;        /* handshake_keep; NULL if there was no memory */
    uint32_t ping_sent_ms;  /* low bits of the time */
    uint8_t heartbeat;      /* enum heartbeat */
    uint8_t
        extended; /* extensions of this ping's timeout that have been given: EXTENDED_*, each once */
    uint16_t n_socks;
};

struct sockets {
    struct sock *socks;
    struct session *sessions;
    uint32_t socks_max;
    uint32_t sessions_max;
    uint32_t free_sock;
    uint32_t free_session;
    uint32_t fresh_sock;
    uint32_t fresh_session;
    uint32_t n_socks;
    uint32_t n_sessions;
    char **auths;                      /* [socks_max]: JSON of the auth payload; NULL: {} */
    struct agents agents;              /* of the handshakes */
    uint32_t everyone[NAMESPACES_MAX]; /* room of each namespace as a whole; ROOM_NONE */
};

MUST_USE int sockets_init(struct sockets *s, uint32_t sessions_max, uint32_t socks_max);

static inline struct sock *sock_at(struct sockets *s, uint32_t index)
{
    return &s->socks[index];
}
static inline uint32_t sock_index(const struct sockets *s, const struct sock *k)
{
    return (uint32_t)(k - s->socks);
}
static inline struct session *session_at(struct sockets *s, uint32_t index)
{
    return &s->sessions[index];
}
static inline uint32_t session_index(const struct sockets *s, const struct session *n)
{
    return (uint32_t)(n - s->sessions);
}

/* Free entries, zeroed but for the generation; SOCK_NONE: the table is full. */
MUST_USE uint32_t session_new(struct sockets *s);
void session_free(struct sockets *s, uint32_t index);
MUST_USE uint32_t sock_new(struct sockets *s);
void sock_free(struct sockets *s, uint32_t index);
void sock_become(struct sock *k, enum sock_state state);

/* Links a socket to its session, and takes it out. */
void session_link(struct sockets *s, struct session *n, struct sock *k);
void session_unlink(struct sockets *s, struct session *n, struct sock *k);
struct sock *session_find_sock(struct sockets *s, const struct session *n, uint16_t nsp);

/* Room membership of one socket; the room reference is taken over (enter) and dropped (leave). enter: false = no memory, or it is in it already: then
 * the reference was dropped. leave: false = it was not in it. */
bool sock_enter(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t room);
bool sock_leave(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t room);
bool sock_in_room(const struct sock *k, uint32_t room);

/* Enters and leaves the room of its namespace as a whole. */
MUST_USE bool sock_enter_namespace(struct sockets *s, struct rooms *rs, struct sock *k,
                                   uint64_t hash);
/* It is carried by another connection from here on. */
void sock_move(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t conn);
void sock_leave_all(struct sockets *s, struct rooms *rs, struct sock *k);

#endif
