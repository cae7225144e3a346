/* hub.h: what the modules of one worker share: its loop, its view of the region, its tables. One per worker process, passed down as a parameter. */
#ifndef PEAL_SESSION_HUB_H
#define PEAL_SESSION_HUB_H

#include "net/batch.h"
#include "session/deferred.h"
#include "session/packer.h"
#include "session/rooms.h"
#include "session/sockets.h"
#include "session/zipped.h"
#include "shm/counters.h"
#include "shm/directory.h"
#include "shm/namespaces.h"
#include "shm/record.h"
#include "shm/ring.h"
#include "shm/sessions.h"

#define REPLIES_QUEUED_MAX \
    4096 /* records that wait for room in the ring: answers to queries, acknowledgements */

/* A connection whose end was found out while sending: it is carried out when nobody is in the middle of anything. */
struct condemned {
    uint32_t conn;
    uint32_t generation;
    uint8_t reason; /* enum close_reason */
    bool finished;  /* everything is out: linger, rather than kill */
};

struct acks;
struct replies;
struct inputs;
struct ends;
struct poll;
struct recovery;
struct recoverables;
struct session;

struct hub {
    const struct config *config;
    struct region region;
    struct ring ring;
    struct shm_slot *slot;
    struct shm_counters *row; /* this process's counters */
    struct loop *loop;
    struct conns conns;
    struct batch *batch;
    struct outqs *outqs;
    struct directory *directory;
    struct sessions *identities;
    struct rooms rooms;
    struct room_news *news; /* for the bridge; NULL: it need not know of rooms */
    struct sockets sockets;
    struct deferred deferred;
    struct acks *acks;                 /* broadcasts that local clients may acknowledge */
    struct replies *replies;           /* records that wait for room in the ring */
    struct packer packer;              /* of what is published here */
    struct inputs *inputs;             /* half-received messages */
    struct ends *ends;                 /* connections that a disconnect is to close */
    struct recoverables *recoverables; /* NULL: recovery is off */
    struct recovery *recovery;         /* clients that are coming back; NULL: recovery is off */
    struct condemned
        *condemned; /* [2 * conns.max]: CONN_CONDEMNED; burying one may condemn it anew */
    uint32_t n_condemned;
    uint32_t *selected; /* [socks_max]: scratch of fanout.c */
    struct poll *polls; /* [sessions_max]: of sessions that poll (polling.c) */
    char *body;         /* polling.c: an answer's body */
    uint32_t body_bytes;
    struct zipped zipped; /* the same compressed (http_compression) */
    uint32_t *
        retry; /* [conns.max]: connections whose input is to be looked at in the next turn; CONN_RETRY */
    uint32_t *retrying; /* [conns.max]: those of this turn */
    uint32_t n_retry;

    char *scratch; /* emit.c: a packet's text before it is appended; grows to the longest */
    uint64_t scratch_bytes;

    uint64_t now_ms; /* CLOCK_MONOTONIC, once per turn */
    uint64_t now_us;
    uint64_t random; /* state of a small generator: jitter, nothing secret */
    uint64_t
        walked; /* the ring up to here has been taken in; released (cursor) when the batch is through */
    uint32_t n_appended;  /* records appended in this turn: RING_TURN_COMMITS_MAX ends it */
    uint64_t last_append; /* the end of this worker's last own record */
    uint64_t
        prompt_append; /* while this is last_append what an application does is done at the record in hand; UINT64_MAX: at the tail */
    uint32_t stamp;    /* of the record in hand */
    uint32_t n_clients;  /* connections that count */
    uint32_t n_polling;  /* of them those that poll */
    uint32_t n_deflate;  /* of them those with permessage-deflate */
    uint64_t n_polled;   /* records that went out in polling bodies */
    uint32_t n_settled;  /* placed connections that need their place no more, in this generation */
    uint64_t rescued_at; /* tail when held records were last saved from being overwritten */
    /* The layer above, if there is one. A socket ends: called twice, in its rooms still, and when it has `left` them. It may disconnect others from within. */
    void (*socket_gone)(void *context, struct sock *k, enum close_reason reason, bool left);
    /* A record that is for this worker's applications: acknowledgement, reply, server-side emit; and the end of any worker. */
    void (*record_for_apps)(void *context, const struct record_view *view);
    struct slice (*socket_data)(void *context, const struct sock *k); /* JSON; absent: {} */
    /* A socket is back, in its rooms, its CONNECT packet sent; and a CONNECT that is like any other after all. */
    void (*socket_recovered)(void *context, struct sock *k);
    void (*connect_anew)(void *context, struct session *n, uint16_t nsp, uint8_t section,
                         struct slice auth);
    void *apps_context; /* of all of these */
    bool draining;
    bool ending; /* the master is gone */
};

uint64_t hub_random(struct hub *h);

/* The connection's input waits for something of ours: it is looked at again in the next turn. */
void hub_retry_later(struct hub *h, struct conn *c);

/* TCP sockets that are not part of a client (max_pending bounds them). Each polling client is allowed three: its GET, its POST, its probing WebSocket. */
uint32_t hub_pending(const struct hub *h);

#endif
