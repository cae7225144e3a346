/* hub.h: what the modules of one worker share: its loop, its view of the region, its tables. One per worker process, passed down as a parameter. */
#ifndef PEAL_SESSION_HUB_H
#define PEAL_SESSION_HUB_H

#include "net/batch.h"
#include "session/deferred.h"
#include "session/rooms.h"
#include "session/sockets.h"
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
    struct sockets sockets;
    struct deferred deferred;
    struct acks *acks;                 /* broadcasts that local clients may acknowledge */
    struct replies *replies;           /* records that wait for room in the ring */
    struct inputs *inputs;             /* half-received messages */
    struct recoverables *recoverables; /* NULL: recovery is off */
    struct recovery *recovery;         /* clients that are coming back; NULL: recovery is off */
    struct condemned
        *condemned; /* [2 * conns.max]: CONN_CONDEMNED; burying one may condemn it anew */
    uint32_t n_condemned;
    uint32_t *selected; /* [socks_max]: scratch of fanout.c */

    char *scratch; /* emit.c: a packet's text before it is appended; grows to the longest */
    uint64_t scratch_bytes;

    uint64_t now_ms; /* CLOCK_MONOTONIC, once per turn */
    uint64_t now_us;
    uint64_t random; /* state of a small generator: jitter, nothing secret */
    uint64_t
        walked; /* the ring up to here has been taken in; released (cursor) when the batch is through */
    uint32_t n_appended;  /* records appended in this turn: RING_TURN_COMMITS_MAX ends it */
    uint64_t last_append; /* the end of this worker's last own record */
    uint32_t stamp;       /* of the record in hand */
    uint32_t n_clients;   /* connections that count */
    uint32_t n_settled;   /* placed connections that need their place no more, in this generation */
    uint64_t rescued_at;  /* tail when held records were last saved from being overwritten */
    /* the application is told when a socket that it accepted has left; never from within dispatch of that socket's own event */
    void (*socket_gone)(void *context, struct sock *k, enum close_reason reason);
    /* a socket is back, in its rooms, CONNECT packet sent; and one that is not: a CONNECT like any other */
    void (*socket_recovered)(void *context, struct sock *k);
    void (*connect_anew)(void *context, struct session *n, uint16_t nsp, uint8_t section,
                         struct slice auth);
    void *socket_gone_context; /* of all three */
    bool draining;
    bool ending; /* the master is gone */
};

uint64_t hub_random(struct hub *h);

#endif
