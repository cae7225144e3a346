/* polling.h: sessions that are carried by HTTP requests (Engine.IO long-polling), and their upgrade to a WebSocket.
 *
 * The client's connection is a virtual one (net/conn.h): OPEN, with an out-queue that is always there and holds WebSocket frames like any other. A GET
 * that is held takes what the queue has, put into a polling body. Requests are answered where the session is: the worker hands others over.
 *
 * Source of all behaviour: engine.io 6.6.12, lib/transports/polling.ts and lib/socket.ts, recorded in tests/vectors. */
#ifndef PEAL_SESSION_POLLING_H
#define PEAL_SESSION_POLLING_H

#include "session/hub.h"

enum poll_closing {
    POLL_OPEN = 0,
    POLL_FLUSHING, /* closed by the server: what is queued goes with the next GETs */
    POLL_SHUT      /* all of it is out: the next GET is told of the close */
};

/* Beside each session that polls, or did: sessions.polls[index]. Zeroed memory is a valid start. */
struct poll {
    uint64_t noop_at_ms; /* probing: when a held GET is next let go; 0: not probing */
    uint32_t get;        /* connection whose GET is held, + 1; 0: none */
    uint32_t post;       /* connection whose POST is being received or dispatched, + 1 */
    uint32_t probe;      /* the WebSocket that is to take over, + 1 */
    uint8_t closing;     /* enum poll_closing */
    uint8_t _reserved[3];
};

/* The session of a sid: here (`*local` is its index), elsewhere on this host, or why it is not known. */
enum sid_place { SID_HERE = 0, SID_ELSEWHERE, SID_MALFORMED, SID_OTHER_HOST, SID_UNKNOWN };
MUST_USE enum sid_place polling_find(const struct hub *h, struct slice sid, uint32_t *local,
                                     uint32_t *owner);

static inline bool session_polls(const struct hub *h, const struct session *n)
{
    return (h->conns.hot[n->conn].flags & CONN_VIRTUAL) != 0;
}

/* A GET, whose exchange has begun. A second one beside a held one ends the session. */
void polling_get(struct hub *h, struct session *n, struct conn *c);

/* A POST begins: false: one is under way already; both are ended, with the session. */
MUST_USE bool polling_post(struct hub *h, struct session *n, struct conn *c);
/* Lets go of a POST's connection before it is answered. */
void polling_post_done(struct hub *h, struct conn *c);

/* A WebSocket with this session's sid. False: the session has one already. */
MUST_USE bool polling_probe(struct hub *h, struct session *n, struct conn *ws);
void polling_probed(struct hub *h, struct conn *ws); /* `2probe` came, `3probe` was sent */
/* `5`: the WebSocket carries the session from here on; what is queued goes to it. */
void polling_upgrade(struct hub *h, struct conn *ws);

/* The queue of a virtual connection has something (batch_events.carry). */
void polling_carry(void *hub, struct conn *c);

/* Could something be sent right now? For volatile messages. */
bool polling_writable(const struct hub *h, const struct conn *c);

/* For clients.c. An end: true if it is over at once, false if the client is still to be told. */
MUST_USE bool polling_end(struct hub *h, struct conn *c, enum close_reason reason);
void polling_detach(struct hub *h, struct conn *c); /* the virtual connection goes */
void polling_lost(struct hub *h, struct conn *c,
                  enum close_reason reason); /* a GET, POST or PROBE goes */
/* When it next wants to be looked at; UINT64_MAX: not by itself. polling_on_timer does what is due. */
uint64_t polling_deadline(const struct hub *h, const struct session *n);
void polling_on_timer(struct hub *h, struct session *n);

#endif
