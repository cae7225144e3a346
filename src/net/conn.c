/* conn.c: connections of one process; the states are drawn in conn.h.
 *
 * Invariant: n_ops counts the requests whose final completion has not been handled; a slot is FREE only with n_ops == 0 and its descriptor
 *            closed by a request of its own, so a descriptor number is never reused while something in the kernel still means the old one.
 * Why poll:  an armed multishot poll costs 254 bytes of kernel memory, an armed receive 830 or more; idle connections are most of them. The poll
 *            tells of each arrival (edge), so receiving goes on until it came back short with nothing new told meanwhile.
 * Why batch: receives that do not wait complete when they are submitted, so a few buffers serve everybody and stay in the cache, as do the
 *            sockets until they are answered; that many to a system call leave next to nothing of its cost. */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "peal/limits.h"

#define NO_RESULT INT32_MIN

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

static void *reserve(size_t bytes, int flags)
{
    void *area =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    return area == MAP_FAILED ? NULL : area;
}

int conns_init(struct conns *cs, struct loop *loop, uint32_t sockets_max, uint32_t virtual_max,
               uint64_t now_ms)
{
    uint32_t max = sockets_max + virtual_max;

    assert(sockets_max > 0 && sockets_max <= 1u << 24 && max <= 1u << 24);
    *cs =
        (struct conns){ .loop = loop, .max = max, .sockets_max = sockets_max, ._free = CONN_NONE };
    cs->hot = reserve((size_t)max * sizeof *cs->hot, MAP_NORESERVE);
    cs->cold = reserve((size_t)max * sizeof *cs->cold, MAP_NORESERVE);
    cs->_readable = reserve((size_t)max * sizeof *cs->_readable, MAP_NORESERVE);
    cs->_buffers = reserve(RECEIVE_BYTES_WORKER, MAP_POPULATE);
    if (cs->hot == NULL || cs->cold == NULL || cs->_readable == NULL || cs->_buffers == NULL)
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
    *c = (struct conn){ .fd = fd,
                        .generation = c->generation + 1,
                        .owner = CONN_NONE,
                        .kind = CONN_PLAIN_HTTP,
                        .flags = c->flags & CONN_LISTED };
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
        conn_read_next(cs, &cs->hot[index]); /* most clients have sent their request by now */
    return index;
}

uint32_t conn_open_virtual(struct conns *cs, const struct peer_address *peer)
{
    uint32_t index =
        cs->n_virtual < cs->max - cs->sockets_max ? take_slot(cs, -1, peer) : CONN_NONE;

    if (index == CONN_NONE)
        return CONN_NONE;
    cs->hot[index].flags |= CONN_VIRTUAL;
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
    if ((c->flags & (CONN_READ_MORE | CONN_LISTED | CONN_PAUSED | CONN_VIRTUAL)) != CONN_READ_MORE)
        return;
    c->flags |= CONN_LISTED;
    cs->_readable[(cs->_readable_at + cs->n_readable++) % cs->max] = conn_index(cs, c);
}

/* The next of the list from which is to be received; NULL: its entry was out of date. */
static struct conn *next_readable(struct conns *cs)
{
    struct conn *c = &cs->hot[cs->_readable[cs->_readable_at]];

    cs->_readable_at =
        --cs->n_readable == 0 ? 0 : (cs->_readable_at + 1) % cs->max; /* few pages are touched */
    assert((c->flags & CONN_LISTED) != 0);
    c->flags &= (uint16_t)~CONN_LISTED;
    /* ended, or paused, since; or its slot has another one, which has nothing yet */
    if (c->state == CONN_DYING || c->state == CONN_FREE ||
        (c->flags & (CONN_READ_MORE | CONN_PAUSED | CONN_VIRTUAL)) != CONN_READ_MORE)
        return NULL;
    c->flags &= (uint16_t)~CONN_READ_MORE;
    return c;
}

static void on_result(void *context, uint64_t tag, int32_t result)
{
    int32_t *results = context;

    results[tag_index(tag)] = result;
}

void conns_receive(struct conns *cs, uint32_t *left, conn_received received, void *context)
{
    struct conn *these[CONN_RECEIVE_BATCH];
    int32_t results[CONN_RECEIVE_BATCH];
    uint32_t n = 0;

    for (; *left > 0 && n < CONN_RECEIVE_BATCH; (*left)--) {
        struct conn *c = next_readable(cs);

        if (c == NULL)
            continue;
        loop_recv(cs->loop, c->fd, &cs->_buffers[(size_t)n * RECEIVE_BUFFER_BYTES],
                  RECEIVE_BUFFER_BYTES, tag_pack(CONN_OP_RECV, n, 0));
        results[n] = NO_RESULT;
        these[n++] = c;
    }
    if (n > 0)
        loop_flush(cs->loop, CONN_OP_RECV, on_result, results);
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = these[i];

        assert(results[i] != NO_RESULT);
        if (c->state == CONN_DYING || results[i] == -EAGAIN)
            continue; /* ended by one before it: its slot is not free before its last event */
        /* a full buffer: there may be more; an announced end: it comes behind the bytes and is not told again */
        if (results[i] == -EINTR || results[i] == (int32_t)RECEIVE_BUFFER_BYTES ||
            (results[i] > 0 && (c->flags & CONN_EOF) != 0))
            c->flags |= CONN_READ_MORE;
        if (results[i] != -EINTR)
            received(context, c, &cs->_buffers[(size_t)i * RECEIVE_BUFFER_BYTES], results[i]);
        conn_read_next(cs, c);
    }
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

static void release(struct conns *cs, struct conn *c)
{
    assert(c->n_ops == 0);
    assert(conn_cold(cs, c)->input == NULL);
    assert(conn_cold(cs, c)->exchange == NULL);
    cs->n_virtual -= (c->flags & CONN_VIRTUAL) != 0;
    conn_become(c, CONN_FREE);
    c->fd = -1;
    c->flags &= CONN_LISTED;
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
