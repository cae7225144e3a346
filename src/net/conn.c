/* conn.c: connections of one process; the states are drawn in conn.h.
 *
 * Invariant: n_ops counts the requests whose final completion has not been handled; a slot is FREE only with n_ops == 0 and its descriptor
 *            closed by a request of its own, so a descriptor number is never reused while something in the kernel still means the old one.
 * Why poll:  an armed multishot poll costs 254 bytes of kernel memory, an armed receive 830 or more; idle connections are most of them. The poll
 *            tells of each arrival (edge), so a receive goes on until it came back short with nothing new told meanwhile. */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "peal/limits.h"

static const uint8_t may_become[CONN_STATES] = {
    [CONN_FREE] = 1u << CONN_HTTP | 1u << CONN_OPEN, /* OPEN at once: virtual */
    [CONN_HTTP] = 1u << CONN_OPEN | 1u << CONN_CLOSING | 1u << CONN_LINGER | 1u << CONN_DYING,
    [CONN_OPEN] = 1u << CONN_CLOSING | 1u << CONN_LINGER | 1u << CONN_DYING,
    [CONN_CLOSING] = 1u << CONN_LINGER | 1u << CONN_DYING,
    [CONN_LINGER] = 1u << CONN_DYING,
    [CONN_DYING] = 1u << CONN_FREE,
};

void conn_become(struct conn *c, enum conn_state state)
{
    assert((may_become[c->state] & 1u << state) != 0);
    c->state = (uint8_t)state;
}

bool conn_alive(const struct conn *c)
{
    return c->state == CONN_HTTP || c->state == CONN_OPEN || c->state == CONN_CLOSING;
}

static void *reserve(size_t bytes)
{
    void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return area == MAP_FAILED ? NULL : area;
}

int conns_init(struct conns *cs, struct loop *loop, uint32_t sockets_max, uint32_t virtual_max,
               uint64_t now_ms)
{
    uint32_t max = sockets_max + virtual_max;

    assert(sockets_max > 0 && sockets_max <= 1u << 24 && max <= 1u << 24);
    *cs =
        (struct conns){ .loop = loop, .max = max, .sockets_max = sockets_max, ._free = CONN_NONE };
    cs->hot = reserve((size_t)max * sizeof *cs->hot);
    cs->cold = reserve((size_t)max * sizeof *cs->cold);
    cs->starved = reserve((size_t)max * sizeof *cs->starved);
    if (cs->hot == NULL || cs->cold == NULL || cs->starved == NULL)
        return -ENOMEM;
    wheel_init(&cs->wheel, cs->hot, sizeof *cs->hot, offsetof(struct conn, timer), max, now_ms);
    return 0;
}

static uint64_t tag_of(const struct conns *cs, const struct conn *c, enum conn_op op)
{
    return tag_pack((uint8_t)op, conn_index(cs, c), c->generation);
}

static void arm_poll(struct conns *cs, struct conn *c)
{
    loop_poll(cs->loop, c->fd, POLLIN | POLLRDHUP, tag_of(cs, c, CONN_OP_POLL));
    c->flags |= CONN_POLLING;
    c->n_ops++;
}

static void arm_recv(struct conns *cs, struct conn *c)
{
    assert((c->flags & CONN_READING) == 0);
    loop_recv(cs->loop, c->fd, tag_of(cs, c, CONN_OP_RECV));
    c->flags = (uint16_t)((c->flags | CONN_READING) & ~CONN_READ_MORE);
    c->n_ops++;
}

static uint32_t take_slot(struct conns *cs, int fd, const struct peer_address *peer)
{
    uint32_t index = cs->_free;
    struct conn *c;

    if (index != CONN_NONE)
        cs->_free = cs->hot[index].owner;
    else if (cs->_fresh < cs->max)
        index = cs->_fresh++;
    else
        return CONN_NONE;
    c = &cs->hot[index];
    *c = (struct conn){
        .fd = fd, .generation = c->generation + 1, .owner = CONN_NONE, .kind = CONN_PLAIN_HTTP
    };
    cs->cold[index] = (struct conn_cold){ .peer = *peer };
    cs->n_used++;
    return index;
}

uint32_t conn_open_handed(struct conns *cs, int fd, const struct peer_address *peer)
{
    uint32_t index =
        cs->n_used - cs->n_virtual < cs->sockets_max ? take_slot(cs, fd, peer) : CONN_NONE;

    if (index == CONN_NONE)
        return CONN_NONE;
    conn_become(&cs->hot[index], CONN_HTTP);
    arm_poll(cs, &cs->hot[index]);
    cs->hot[index].flags |= CONN_READ_MORE;
    return index;
}

uint32_t conn_open(struct conns *cs, int fd, const struct peer_address *peer)
{
    uint32_t index = conn_open_handed(cs, fd, peer);

    if (index != CONN_NONE)
        arm_recv(cs, &cs->hot[index]); /* most clients have sent their request by now */
    return index;
}

uint32_t conn_open_virtual(struct conns *cs, const struct peer_address *peer)
{
    uint32_t index =
        cs->n_virtual < cs->max - cs->sockets_max ? take_slot(cs, -1, peer) : CONN_NONE;

    if (index == CONN_NONE)
        return CONN_NONE;
    cs->hot[index].flags = CONN_VIRTUAL;
    cs->n_virtual++;
    conn_become(&cs->hot[index], CONN_OPEN);
    return index;
}

void conn_on_poll(struct conns *cs, struct conn *c, const struct loop_event *event)
{
    if (!event->more) {
        c->flags &= (uint16_t)~CONN_POLLING;
        if (conn_op_done(cs, c, CONN_OP_POLL))
            return;
        if (c->state == CONN_DYING)
            return;
        arm_poll(cs, c); /* a multishot that ended without our asking: a full completion queue */
    }
    if (event->result > 0 && (event->result & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
        c->flags |= CONN_EOF; /* read until the end is seen */
    c->flags |= CONN_READ_MORE;
    conn_read_next(cs, c);
}

void conn_read_next(struct conns *cs, struct conn *c)
{
    if (c->state == CONN_DYING || c->state == CONN_FREE)
        return;
    if ((c->flags & CONN_READ_MORE) != 0 &&
        (c->flags & (CONN_READING | CONN_PAUSED | CONN_STARVED | CONN_VIRTUAL)) == 0)
        arm_recv(cs, c);
}

bool conn_on_received(struct conns *cs, struct conn *c, const struct loop_event *event)
{
    c->flags &= (uint16_t)~CONN_READING;
    if (conn_op_done(cs, c, CONN_OP_RECV) || c->state == CONN_DYING)
        return false;
    switch (event->result) {
    case -EAGAIN:
        conn_read_next(cs, c); /* something may have been told in between */
        return false;
    case -ENOBUFS:
        c->flags |= CONN_STARVED | CONN_READ_MORE;
        cs->starved[cs->n_starved++] = conn_index(cs, c);
        return false;
    case -EINTR:
        c->flags |= CONN_READ_MORE;
        conn_read_next(cs, c);
        return false;
    default: break;
    }
    /* a full buffer: there may be more; an announced end: it comes behind the bytes and is not told again */
    if (event->result == (int32_t)RECEIVE_BUFFER_BYTES ||
        (event->result > 0 && (c->flags & CONN_EOF) != 0))
        c->flags |= CONN_READ_MORE;
    return true;
}

bool conn_has_unread(const struct conn *c)
{
    struct pollfd look = { .fd = c->fd, .events = POLLIN };

    return (c->flags & CONN_VIRTUAL) == 0 && poll(&look, 1, 0) == 1;
}

void conn_pause(struct conn *c)
{
    c->flags |= CONN_PAUSED;
}

void conn_resume(struct conn *c)
{
    c->flags &= (uint16_t)~CONN_PAUSED;
}

void conn_feed_starved(struct conns *cs)
{
    uint32_t n = cs->n_starved;

    cs->n_starved = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &cs->hot[cs->starved[i]];

        assert((c->flags & CONN_STARVED) != 0);
        c->flags &= (uint16_t)~CONN_STARVED;
        conn_read_next(cs, c);
    }
}

void conn_want_writable(struct conns *cs, struct conn *c)
{
    assert((c->flags & CONN_VIRTUAL) == 0);
    if ((c->flags & CONN_WANT_WRITABLE) != 0 || c->state == CONN_DYING)
        return;
    c->flags |= CONN_WANT_WRITABLE;
    c->n_ops++;
    loop_poll_once(cs->loop, c->fd, POLLOUT, tag_of(cs, c, CONN_OP_WRITABLE));
}

void conn_linger(struct conns *cs, struct conn *c, uint64_t now_ms)
{
    assert(c->outq == NULL);
    conn_become(c, CONN_LINGER);
    c->drained_bytes = 0;
    (void)shutdown(c->fd, SHUT_WR); /* ENOTCONN: the peer is gone already, reading will say so */
    wheel_arm(&cs->wheel, conn_index(cs, c), now_ms + CLOSE_LINGER_MS);
    c->flags = (uint16_t)((c->flags & ~CONN_PAUSED) | CONN_READ_MORE);
    conn_read_next(cs, c);
}

void conn_kill(struct conns *cs, struct conn *c)
{
    if (c->state == CONN_DYING)
        return;
    assert(c->outq == NULL);
    conn_become(c, CONN_DYING);
    wheel_cancel(&cs->wheel, conn_index(cs, c));
    c->pending = 0;
    if ((c->flags & CONN_VIRTUAL) != 0) {
        /* nothing to cancel: the answer that there was nothing releases the slot when nobody is in the middle of it any more */
        c->n_ops++;
        loop_cancel(cs->loop, tag_of(cs, c, CONN_OP_POLL), tag_of(cs, c, CONN_OP_CANCEL));
        return;
    }
    if ((c->flags & CONN_POLLING) != 0) {
        c->n_ops++;
        loop_cancel(cs->loop, tag_of(cs, c, CONN_OP_POLL), tag_of(cs, c, CONN_OP_CANCEL));
    }
    if ((c->flags & CONN_WANT_WRITABLE) != 0) {
        c->n_ops++;
        loop_cancel(cs->loop, tag_of(cs, c, CONN_OP_WRITABLE), tag_of(cs, c, CONN_OP_CANCEL));
    }
    /* closing takes the number out of the table only; the cancellations above end what still holds the socket */
    c->n_ops++;
    loop_close(cs->loop, c->fd, tag_of(cs, c, CONN_OP_CLOSE));
}

/* Its slot may starve again before the list is looked at: two entries of one slot could be more than the list holds. */
static void forget_starved(struct conns *cs, const struct conn *c)
{
    uint32_t i = 0;

    while (cs->starved[i] != conn_index(cs, c)) {
        i++;
        assert(i < cs->n_starved);
    }
    cs->starved[i] = cs->starved[--cs->n_starved];
}

static void release(struct conns *cs, struct conn *c)
{
    assert(c->n_ops == 0);
    assert(conn_cold(cs, c)->input == NULL);
    assert(conn_cold(cs, c)->exchange == NULL);
    if ((c->flags & CONN_STARVED) != 0)
        forget_starved(cs, c);
    cs->n_virtual -= (c->flags & CONN_VIRTUAL) != 0;
    conn_become(c, CONN_FREE);
    c->fd = -1;
    c->flags = 0;
    c->owner = cs->_free;
    cs->_free = conn_index(cs, c);
    cs->n_used--;
}

bool conn_op_done(struct conns *cs, struct conn *c, enum conn_op op)
{
    assert(c->n_ops > 0);
    c->n_ops--;
    if (op == CONN_OP_WRITABLE)
        c->flags &= (uint16_t)~CONN_WANT_WRITABLE;
    if (c->state != CONN_DYING || c->n_ops > 0)
        return false;
    release(cs, c);
    return true;
}
