/* conn_fixture.h: connections over socket pairs, on a real loop, for tests of src/net.
 *
 * The program under test owns one end of each pair as a conn; the test holds the other, the peer. Bytes that
 * arrive are kept per connection; a connection that became writable is noted for whoever looks. */
#ifndef PEAL_TESTS_CONN_FIXTURE_H
#define PEAL_TESTS_CONN_FIXTURE_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn.h"
#include "peal/limits.h"

#define FIXTURE_CONNS   8
#define FIXTURE_VIRTUAL 4
#define FIXTURE_SLOTS   (FIXTURE_CONNS + FIXTURE_VIRTUAL)

struct conn_fixture {
    struct loop *loop;
    struct conns conns;
    int peers[FIXTURE_SLOTS]; /* by index of the connection; -1: none */
    char got[FIXTURE_SLOTS][65536];
    uint32_t n_got[FIXTURE_SLOTS];
    bool ended[FIXTURE_SLOTS];   /* the peer's end has been read */
    bool deaf;                   /* turns do not receive */
    uint32_t kill_when_received; /* this one, by whoever is heard first; CONN_NONE: nobody */
    uint32_t n_stale;            /* events of connections that were not there any more */
    void (*writable)(void *context, struct conn *c);
    void *context;
};

static inline void conn_fixture_init(struct conn_fixture *f)
{
    struct loop_options options = { .sq_entries = 64, .cq_entries = 256 };
    char why[512] = "";
    int error = loop_new(&f->loop, &options, why, sizeof why);

    if (error != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    if (conns_init(&f->conns, f->loop, FIXTURE_CONNS, FIXTURE_VIRTUAL, 0) != 0)
        abort();
    for (uint32_t i = 0; i < FIXTURE_SLOTS; i++)
        f->peers[i] = -1;
    f->kill_when_received = CONN_NONE;
}

/* Opens a connection; its descriptor is [0] of a pair with small buffers. CONN_NONE: no slot was free. */
static inline uint32_t conn_fixture_open(struct conn_fixture *f)
{
    struct peer_address peer = { .family = AF_UNIX };
    int bytes = 4096;
    int pair[2];
    uint32_t index;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0)
        abort();
    index = conn_open(&f->conns, pair[0], &peer);
    if (index == CONN_NONE) {
        (void)close(pair[0]);
        (void)close(pair[1]);
        return index;
    }
    if (f->peers[index] >= 0)
        (void)close(f->peers[index]);
    f->peers[index] = pair[1];
    f->n_got[index] = 0;
    f->ended[index] = false;
    return index;
}

static inline void conn_fixture_received(void *context, struct conn *c, const uint8_t *bytes,
                                         int32_t result)
{
    struct conn_fixture *f = context;
    uint32_t i = conn_index(&f->conns, c);

    if (f->kill_when_received != CONN_NONE)
        conn_kill(&f->conns, conn_at(&f->conns, f->kill_when_received));
    f->kill_when_received = CONN_NONE;
    if (result <= 0) {
        f->ended[i] = true;
        return;
    }
    assert(f->n_got[i] + (uint32_t)result <= sizeof f->got[i]);
    memcpy(f->got[i] + f->n_got[i], bytes, (size_t)result);
    f->n_got[i] += (uint32_t)result;
}

static inline void conn_fixture_event(struct conn_fixture *f, const struct loop_event *event)
{
    struct conn *c = conn_at(&f->conns, tag_index(event->tag));
    enum conn_op op = (enum conn_op)tag_op(event->tag);
    bool current = conn_is_current(c, event->tag);

    f->n_stale += !current;
    if (current && op == CONN_OP_POLL)
        conn_on_poll(&f->conns, c, event);
    else if (current && op == CONN_OP_WRITABLE) {
        if (!conn_op_done(&f->conns, c, op) && c->state != CONN_DYING && f->writable != NULL)
            f->writable(f->context, c);
    } else if (current && (op == CONN_OP_CANCEL || op == CONN_OP_CLOSE))
        (void)conn_op_done(&f->conns, c, op);
}

/* One turn: waits until something happens (at most wait_ms). Returns the number of events and receives. */
static inline uint32_t conn_fixture_turn(struct conn_fixture *f, uint32_t wait_ms)
{
    struct loop_event events[64];
    uint32_t n = loop_turn(f->loop, f->conns.n_readable > 0 && !f->deaf ? 0 : wait_ms, events, 64);

    for (uint32_t i = 0; i < n; i++)
        conn_fixture_event(f, &events[i]);
    if (!f->deaf) {
        uint32_t left = f->conns.n_readable;

        n += left;
        while (left > 0)
            conns_receive(&f->conns, &left, conn_fixture_received, f);
    }
    return n;
}

/* Turns until nothing is left to happen. */
static inline void conn_fixture_settle(struct conn_fixture *f)
{
    while (conn_fixture_turn(f, 20) > 0)
        ;
}

/* Ends all connections, and sees to it that every slot comes back. */
static inline void conn_fixture_destroy(struct conn_fixture *f)
{
    for (uint32_t i = 0; i < f->conns._fresh; i++)
        if (conn_at(&f->conns, i)->state != CONN_FREE)
            conn_kill(&f->conns, conn_at(&f->conns, i));
    for (uint32_t turn = 0; turn < 1000 && f->conns.n_used > 0; turn++)
        (void)conn_fixture_turn(f, 10);
    assert(f->conns.n_used == 0);
    for (uint32_t i = 0; i < FIXTURE_SLOTS; i++)
        if (f->peers[i] >= 0)
            (void)close(f->peers[i]);
    loop_free(f->loop);
}

#endif
