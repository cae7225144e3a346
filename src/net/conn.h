/* conn.h: the TCP sockets of one process: what each is doing, its requests in the kernel, and its orderly end.
 *
 *     FREE -> HTTP -> OPEN ----+
 *               |              v
 *               +---------> CLOSING -> LINGER -> DYING -> FREE
 *
 * HTTP: reads request heads. OPEN: a WebSocket. CLOSING: what is queued goes out first. LINGER: shut down for writing, input is thrown away until the
 * peer's end, CLOSE_DRAIN_BYTES or CLOSE_LINGER_MS (closing a socket with unread input would reset it and lose the last answer). DYING:
 * requests are cancelled; the slot is released when the last completion has come home. Any state but FREE may go straight to DYING.
 *
 * An idle connection has one multishot poll in the kernel and nothing else: no receive, no buffer.
 *
 * A client that polls over HTTP has a *virtual* connection (CONN_VIRTUAL): a slot like any other, OPEN, without a descriptor. Its out-queue is always
 * there, and what carries the queue's contents are the requests that come and go (session/polling.c). So rooms, fan-out, queues and timers know one
 * kind of client, and an upgrade to a WebSocket moves the queue from one slot to another. */
#ifndef PEAL_NET_CONN_H
#define PEAL_NET_CONN_H

#include "base/wheel.h"
#include "net/inbox.h"
#include "net/loop.h"
#include "proto/ws.h"

enum conn_state {
    CONN_FREE = 0,
    CONN_HTTP,
    CONN_OPEN,
    CONN_CLOSING,
    CONN_LINGER,
    CONN_DYING,
    CONN_STATES
};
/* What it is for. GET, POST and PROBE belong to a session that another connection carries; the last three are clients. */
enum conn_kind {
    CONN_PLAIN_HTTP = 0,
    CONN_GET,   /* HTTP: its request is held until there is something to send */
    CONN_POST,  /* HTTP: its request's body is being received or taken in */
    CONN_PROBE, /* OPEN: a WebSocket that is to take over from polling */
    CONN_SOCKETIO,
    CONN_ROOM,
    CONN_ECHO
};

/* Operations in tags. Values from CONN_OP_LIMIT on are free for the owner of the loop. */
enum conn_op {
    CONN_OP_NONE = 0,
    CONN_OP_POLL,
    CONN_OP_RECV,
    CONN_OP_SEND,
    CONN_OP_WRITABLE,
    CONN_OP_CANCEL,
    CONN_OP_CLOSE,
    CONN_OP_LIMIT
};

/* What a proxy in front has to say, before the first request, of who its connection is from (the PROXY protocol). */
enum conn_proxy {
    CONN_PROXY_NONE = 0, /* nothing; or it has, and cold.peer is what it said */
    CONN_PROXY_DUE,      /* its header comes first */
    CONN_PROXY_SILENT    /* that it does not know: what requests say of it is not believed */
};

#define CONN_LISTED        0x01u  /* the slot is in the list of the readable, whoever has it */
#define CONN_READ_MORE     0x02u  /* readable again, as far as is known */
#define CONN_PAUSED        0x04u  /* not read: its input waits for something */
#define CONN_EOF           0x08u  /* the peer has ended its side */
#define CONN_WANT_WRITABLE 0x10u  /* a poll for writability is in the kernel */
#define CONN_HAS_PLACE     0x20u  /* holds a place given by the master */
#define CONN_COUNTED       0x40u  /* is a client: counted in limits and gauges */
#define CONN_END_WHEN_SENT 0x80u  /* CLOSING: shut down when everything is out */
#define CONN_POLLING       0x200u /* the multishot poll is armed */
#define CONN_CONDEMNED     0x400u /* its end has been decided and is about to be carried out */
#define CONN_RETRY         0x800u /* its input is to be looked at again in the next turn */
#define CONN_SENDING \
    0x1000u /* batch.c: has a send in this submission; virtual: is in the list of those to be carried */
#define CONN_VIRTUAL 0x2000u /* no descriptor: a polling client */
#define CONN_SERVED  0x4000u /* its last request was of a living session */
#define CONN_DEFLATE 0x8000u /* permessage-deflate has been agreed on: it takes compressed frames */

#define CONN_NONE UINT32_MAX

struct outq;
struct conn_input;
struct exchange;

/* Hot: one cache line. */
struct conn {
    int32_t fd;
    uint32_t generation;
    uint8_t state;     /* enum conn_state: conn_become */
    uint8_t kind;      /* enum conn_kind */
    uint16_t flags;    /* facts: CONN_* */
    uint32_t stamp;    /* of the last record that reached or skipped it: each record at most once */
    uint32_t pending;  /* batch.c: last node of what goes out in this batch; 0: nothing */
    uint32_t owner;    /* index of its session; CONN_NONE: none */
    struct outq *outq; /* outq.c: exists only while the peer is blocked; always, if virtual */
    struct wheel_node timer;
    uint8_t n_ops;          /* requests in the kernel whose last completion is to come */
    uint8_t refusal;        /* HTTP: enum parcel_refusal: why it must not become a client */
    uint8_t close_reason;   /* enum close_reason, when its end was decided */
    uint8_t proxy;          /* enum conn_proxy */
    uint32_t drained_bytes; /* LINGER */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct conn) == 64, "one cache line");

/* Cold: touched by input, not by fan-out. */
struct conn_cold {
    struct ws_in ws;
    struct conn_input *input;  /* session/input.c; exists only while something is incomplete */
    struct exchange *exchange; /* session/exchange.c; an HTTP request that has not been answered */
    struct peer_address peer;  /* of a client: its own address, as its handshake had it */
};

struct conns {
    struct loop *loop;
    struct conn *hot;       /* [max] */
    struct conn_cold *cold; /* [max] */
    struct wheel wheel;
    uint32_t max;         /* slots */
    uint32_t sockets_max; /* of them with a descriptor */
    uint32_t n_used;
    uint32_t n_virtual;
    uint32_t _free;      /* head of the free list through `owner`; CONN_NONE: none */
    uint32_t _fresh;     /* indices from here on were never used: their memory is untouched */
    uint32_t *_readable; /* [max]: ring of slots with CONN_LISTED, from which is to be received */
    uint32_t _readable_at;
    uint32_t n_readable;
    uint8_t *_buffers; /* [CONN_RECEIVE_BATCH][RECEIVE_BUFFER_BYTES] */
};

/* 0 or -errno. Slots for `sockets_max` descriptors and `virtual_max` virtual ones, together <= 2^24. Only what is used is resident. */
MUST_USE int conns_init(struct conns *cs, struct loop *loop, uint32_t sockets_max,
                        uint32_t virtual_max, uint64_t now_ms);

/* Takes over `fd` (nonblocking) and begins to read from it. CONN_NONE: no slot is free; the caller keeps the descriptor. */
MUST_USE uint32_t conn_open(struct conns *cs, int fd, const struct peer_address *peer);

/* The same for a connection whose first bytes the caller has already: nothing is read until he has dealt with them and calls conn_read_next. */
MUST_USE uint32_t conn_open_handed(struct conns *cs, int fd, const struct peer_address *peer);

/* A virtual one; OPEN. CONN_NONE: no slot is free. */
MUST_USE uint32_t conn_open_virtual(struct conns *cs, const struct peer_address *peer);

static inline struct conn *conn_at(struct conns *cs, uint32_t index)
{
    return &cs->hot[index];
}
static inline uint32_t conn_index(const struct conns *cs, const struct conn *c)
{
    return (uint32_t)(c - cs->hot);
}
static inline struct conn_cold *conn_cold(struct conns *cs, const struct conn *c)
{
    return &cs->cold[c - cs->hot];
}

void conn_become(struct conn *c, enum conn_state state);
bool conn_alive(const struct conn *c); /* HTTP, OPEN or CLOSING: output may still go to it */

/* Input. conn_on_poll: the socket became readable. conn_read_next: it may be received from again, once what had to wait is through; both put
 * it into the list of the readable if there may be something, unless it is paused. */
void conn_on_poll(struct conns *cs, struct conn *c, const struct loop_event *event);
void conn_read_next(struct conns *cs, struct conn *c);
/* One receive for each of the next connections of the list, at most CONN_RECEIVE_BATCH and `*left` of them (which it counts down), all in one
 * system call; then `received` for each that got something: bytes (`result` of them, good until it returns), 0: the peer has ended its
 * side, or -errno. It may end or pause any connection. Those of which more may come are in the list again, at its end. */
typedef void (*conn_received)(void *context, struct conn *c, const uint8_t *bytes, int32_t result);
void conns_receive(struct conns *cs, uint32_t *left, conn_received received, void *context);
/* Do bytes of the peer, or its end, wait in the kernel to be read? Asks the kernel: not for hot paths. */
bool conn_has_unread(const struct conn *c);
void conn_pause(struct conn *c);
void conn_resume(struct conn *c); /* may be read again; conn_read_next asks for it */

/* Asks for one CONN_OP_WRITABLE event, if none is asked for yet. */
void conn_want_writable(struct conns *cs, struct conn *c);

/* Everything is out: shuts down for writing and lingers. */
void conn_linger(struct conns *cs, struct conn *c, uint64_t now_ms);

/* Ends it now: cancels what is in the kernel; the slot comes back by itself. The owner of `input`, `outq` and `owner` has let go of them before. */
void conn_kill(struct conns *cs, struct conn *c);

/* A final completion of any of its requests (POLL without more, RECV, WRITABLE, CANCEL, CLOSE). True: the slot was released by it. */
bool conn_op_done(struct conns *cs, struct conn *c, enum conn_op op);

/* Is this event about the connection that is in the slot now, or of one before it? */
static inline bool conn_is_current(const struct conn *c, uint64_t tag)
{
    return c->state != CONN_FREE && c->generation == tag_generation(tag);
}

#endif
