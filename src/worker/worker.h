/* worker.h: one worker process. worker.c is the route of a message; http.c answers what is no message; life.c begins and ends the process. */
#ifndef PEAL_WORKER_WORKER_H
#define PEAL_WORKER_WORKER_H

#include "app/dispatch.h"
#include "net/child.h"
#include "net/inbox.h"
#include "proto/http.h"
#include "session/fanout.h"
#include "session/hub.h"
#include "session/input.h"

#define WORKER_EVENTS_MAX 4096

/* Operations of this process besides those of its connections. */
enum worker_op {
    OP_BELL = CONN_OP_LIMIT,
    OP_INBOX,
    OP_LIFE,
    OP_SIGNAL,
    OP_ACCEPT,
    OP_ACCEPT_CANCEL
};

struct inflater;

struct acceptor {
    bool armed; /* a poll is with the kernel */
    bool ready; /* it may have connections that wait */
    bool closed;
};

struct worker {
    struct hub hub;
    struct fanout fanout;
    struct peal_host host;
    const struct child *child;
    struct loop_event *events; /* [WORKER_EVENTS_MAX] */
    uint8_t *decoded;          /* engine.c: a binary packet of a POST */
    uint32_t decoded_max;
    struct inflater *inflater; /* of all clients' compressed messages; NULL: deflate = no */
    struct files *files;       /* client_files; NULL: none */
    char *page;                /* demo; NULL: none */
    uint32_t page_bytes;
    uint8_t *request; /* [INBOX_BYTES_MAX]: the bytes of a request that was handed over */
    uint64_t bell;    /* where the eventfd is read to */
    uint64_t second_at_ms;
    uint64_t queues_at_ms;
    uint64_t crowded_since_ms; /* max_pending reached: since when; 0: it is not */
    uint64_t ends_at_ms;       /* the process ends then at the latest; 0: it goes on */
    uint32_t drain_at;         /* the next connection that a drain looks at */
    int signal_fd;
    /* the packet last taken from the inbox; from held_at on there was no room yet (max_pending) */
    struct parcel held[INBOX_BATCH_MAX];
    int held_fds[INBOX_BATCH_MAX];
    uint32_t held_at;
    uint32_t n_held;
    bool inbox_waits;             /* readable, and not read because of max_pending */
    struct acceptor acceptors[8]; /* of this slot's listeners */
    uint64_t accept_at_ms;        /* not before: the last time failed */
    bool accept_due;              /* there is more to accept than a turn takes */
    bool stop;
};

/* The process's main function. Returns its exit code. */
int worker_main(const struct child *child);

/* life.c */
MUST_USE bool worker_open(struct worker *w, const struct child *child);
void worker_close(struct worker *w);
void worker_on_life_lost(struct worker *w);
void worker_on_signal(struct worker *w);
void worker_drain(struct worker *w);
bool worker_may_end(const struct worker *w);

/* admit.c: new connections */
void worker_on_inbox(struct worker *w);
void worker_on_accept(struct worker *w, const struct loop_event *event);
void worker_accept_more(struct worker *w);

/* Nothing new is let in any more: the listeners are closed, or the master is gone. */
bool worker_is_closed(const struct worker *w);
/* What waits in them is told so first; where the master is gone there is no time for that. */
void worker_close_listeners(struct worker *w);

/* May this connection become a client, one of that address? REFUSE_NOT: yes, and it counts by its address from here on, until client_open_… or, where that
 * fails, worker_admission_withdraw. */
MUST_USE enum parcel_refusal worker_admission(struct worker *w, const struct conn *c,
                                              const struct peer_address *address);
void worker_admission_withdraw(struct worker *w, const struct peer_address *address);

/* proxy.c: a connection was accepted: it has to begin with a PROXY header, or not. */
void proxy_begin(struct worker *w, struct conn *c);
/* CONN_PROXY_DUE: takes the header, which may come in pieces, off the front. False: there is more to come, or the connection has ended. */
MUST_USE bool proxy_take_header(struct worker *w, struct conn *c, struct slice *bytes);
void proxy_timed_out(struct worker *w, struct conn *c);
/* Whose request it is, and which host was asked for, as far as that is to be believed. */
struct peer_address proxy_client(struct worker *w, const struct conn *c,
                                 const struct http_request *r);
struct slice proxy_host(struct worker *w, const struct conn *c, const struct http_request *r);

/* worker.c: bytes that were read from a connection that speaks HTTP; also those that another worker had read. */
void worker_on_http_bytes(struct worker *w, struct conn *c, struct slice bytes);

/* compressed.c: a whole message that came compressed: as it was, borrowed until the next one. False: its client has been told what is wrong with it. */
MUST_USE bool worker_decompress(struct worker *w, struct conn *c, struct message *m);

/* worker.c: one Engine.IO packet of the client that `c` carries. FULL: it must come again. */
MUST_USE enum dispatch_result worker_on_packet(struct worker *w, struct conn *c,
                                               const struct message *m);

#endif
