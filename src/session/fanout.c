/* fanout.c: the consumer's side of the ring for a worker.
 *
 * Invariant: records are taken in strictly in order; what is deferred to a position runs before the record there; the cursor is moved only when nothing
 *            that is queued points before it. Who is in a room is decided when the record is arrived at, so a join before it is in force.
 * Never:     waits, or allocates for a peer that keeps up. */
#include "session/fanout.h"

#include <assert.h>

#include "session/acks.h"
#include "session/clients.h"
#include "session/ends.h"
#include "session/polling.h"
#include "session/publish.h"
#include "session/query.h"
#include "session/recovery.h"
#include "shm/atomic.h"

#define MEMBERS_PER_WALK 16384 /* pieces chained in one turn, besides what is sent */
#define PROGRESS_EVERY   1024

bool fanout_copy(void *context, uint64_t position, uint32_t offset, uint8_t *out, uint32_t n_bytes)
{
    struct hub *h = context;

    /* Behind the cursor the record may be overwritten at any time: copy first, then see that the tail has not come round to it. */
    if (ring_tail(&h->ring) > position + h->ring.units)
        return false;
    memcpy(out, ring_at(&h->ring, position) + offset, n_bytes);
    shm_fence_load(); /* the copy's loads before the load of the tail */
    return ring_tail(&h->ring) <= position + h->ring.units;
}

static void note_progress(struct hub *h)
{
    shm_store_u64(&h->slot->progress, h->slot->progress + 1);
}

/* --- broadcasts --- */

static void deliver(struct hub *h, const struct record_view *view, uint64_t position,
                    struct room_member m)
{
    struct conn *c = conn_at(&h->conns, m.conn);
    const struct slice *frames = (c->flags & CONN_DEFLATE) != 0 ? &view->deflated : &view->frames;
    struct outq_record record = {
        .position = position,
        .offset = (uint32_t)(frames->bytes - (const char *)view->header),
        .n_bytes = frames->n_bytes,
    };

    if (c->state != CONN_OPEN)
        return;
    if ((view->header->flags & RECORD_VOLATILE) != 0 && c->outq != NULL &&
        ((c->flags & CONN_VIRTUAL) == 0 || !polling_writable(h, c)))
        return; /* its transport cannot write right now */
    if ((view->header->flags & RECORD_WANTS_ACK) != 0)
        acks_expect(h->acks, view->header->id, m.sock, sock_at(&h->sockets, m.sock)->generation);
    if (batch_record(h->batch, c, &record, (const uint8_t *)frames->bytes) != OUTQ_OK)
        client_condemn(h, c, CLOSE_SLOW_CONSUMER, false);
}

/* All of them have been asked. Who issued it waits for the workers that it named, and for no others. */
static void tell_count(struct hub *h, const struct record_view *view)
{
    if ((view->header->targets >> h->region.self & 1) != 0)
        query_reply_count(h, view, acks_count(h->acks, view->header->id));
    acks_asked(h->acks, view->header->id);
}

/* Goes on with the broadcast in hand. False: the budget is used up before its members are. */
static bool sweep(struct hub *h, struct fanout *f, uint32_t *budget)
{
    struct room_member m;

    while (*budget > 0) {
        if (!select_next(h, &f->sweep, &m)) {
            if ((f->sweep.view.header->flags & RECORD_WANTS_ACK) != 0)
                tell_count(h, &f->sweep.view);
            select_close(h, &f->sweep);
            h->walked = f->end;
            return true;
        }
        deliver(h, &f->sweep.view, h->walked, m);
        (*budget)--;
    }
    return false;
}

/* --- joins, leaves, disconnects --- */

/* Applies `apply` to every selected socket; the selection is made first, since applying changes rooms. */
static void for_selected(struct hub *h, const struct record_view *view,
                         void (*apply)(struct hub *, struct sock *, const struct record_view *))
{
    struct selection s = { 0 };
    struct room_member m;
    uint32_t n = 0;

    select_open(h, &s, view);
    while (select_next(h, &s, &m))
        h->selected[n++] = m.sock;
    select_close(h, &s);
    for (uint32_t i = 0; i < n; i++) {
        struct sock *k = sock_at(&h->sockets, h->selected[i]);

        if (k->state == SOCK_ACTIVE)
            apply(h, k, view);
        if ((i + 1) % PROGRESS_EVERY == 0)
            note_progress(h);
    }
}

/* Where the record in hand ends. */
static uint64_t record_end(const struct hub *h, const struct record_view *view)
{
    return h->walked + (view->header->n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
}

static void apply_join(struct hub *h, struct sock *k, const struct record_view *view)
{
    struct record_names it = record_names_open(view, RECORD_ARGS);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        uint32_t room = room_ref(&h->rooms, hash, k->nsp, name);

        if (room != ROOM_NONE &&
            sock_enter(&h->sockets, &h->rooms, k, room)) /* false: already in it */
            recovery_entered(h, k, name, h->walked, record_end(h, view));
    }
}

static void apply_leave(struct hub *h, struct sock *k, const struct record_view *view)
{
    struct record_names it = record_names_open(view, RECORD_ARGS);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        uint32_t room = room_find(&h->rooms, hash, k->nsp, name);

        if (room != ROOM_NONE && sock_leave(&h->sockets, &h->rooms, k, room)) /* false: not in it */
            recovery_left(h, k, name, record_end(h, view));
    }
}

static void apply_disconnect(struct hub *h, struct sock *k, const struct record_view *view)
{
    struct conn *c = conn_at(&h->conns, k->conn);
    struct session *n = session_at(&h->sockets, k->session);

    if ((view->header->flags & RECORD_LOST) != 0) {
        client_condemn(h, c, CLOSE_TRANSPORT_CLOSE, false); /* its client is back elsewhere */
        return;
    }
    if (c->kind == CONN_ROOM) { /* a plain client is its only socket */
        client_end(h, c, CLOSE_SERVER_NAMESPACE_DISCONNECT, WS_CLOSE_NORMAL,
                   "disconnected by the server");
        return;
    }
    if ((view->header->flags & RECORD_CLOSE) == 0) {
        client_leave(h, k, CLOSE_SERVER_NAMESPACE_DISCONNECT, true);
        return;
    }
    while (n->first_sock != SOCK_NONE)
        client_leave(h, sock_at(&h->sockets, n->first_sock), CLOSE_SERVER_NAMESPACE_DISCONNECT,
                     true);
    client_end_later(h, c);
}

/* --- the walk --- */

static void process(struct hub *h, struct fanout *f, const struct record_view *view, uint64_t end,
                    uint32_t *budget)
{
    const struct record_header *header = view->header;

    switch ((enum record_kind)header->kind) {
    case RECORD_BROADCAST:
        if ((header->flags & RECORD_WANTS_ACK) != 0)
            (void)acks_open(h->acks, header->id, h->now_ms, header->detail);
        select_open(h, &f->sweep, view);
        f->end = end;
        (void)sweep(h, f, budget); /* if not through: the next turn goes on */
        return;
    case RECORD_JOIN: for_selected(h, view, apply_join); break;
    case RECORD_LEAVE: for_selected(h, view, apply_leave); break;
    case RECORD_DISCONNECT: for_selected(h, view, apply_disconnect); break;
    case RECORD_FETCH:
        if ((header->targets >> h->region.self & 1) != 0)
            query_answer(h, view);
        break;
    case RECORD_SERVER_EMIT:
    case RECORD_ACK:
    case RECORD_REPLY:
        if ((header->targets >> h->region.self & 1) != 0 && h->record_for_apps != NULL)
            h->record_for_apps(h->apps_context, view);
        break;
    case RECORD_GONE: /* whoever waits for it, also who was not serving yet when it was told */
        if (h->record_for_apps != NULL)
            h->record_for_apps(h->apps_context, view);
        break;
    case RECORD_VOID:
    case RECORD_NAMESPACE:
    case RECORD_ROOM_NEWS:
    case RECORD_KINDS: break;
    }
    h->walked = end;
}

bool fanout_walk(struct hub *h, struct fanout *f)
{
    uint32_t budget = fanout_far_behind(h) ? MEMBERS_PER_WALK * 4 : MEMBERS_PER_WALK;
    uint32_t n_records = 0;

    if (f->sweep.open && !sweep(h, f, &budget))
        return false;
    recovery_run(h); /* between two records: here who has come back joins its rooms */
    while (n_records < WORKER_RECORDS_PER_TURN && budget > 0) {
        struct record_view view;
        const uint8_t *record;
        uint32_t n_units;
        uint32_t n_bytes;
        bool valid;

        clients_run_deferred(h, h->walked);
        record = ring_peek(&h->ring, h->walked, &n_units);
        if (record == NULL)
            return true;
        n_bytes = ((const struct record_header *)(const void *)record)->n_bytes;
        valid = n_bytes <= n_units * RING_UNIT_BYTES && record_view(&view, record, n_bytes);
        assert(valid); /* its writer is one of us: better dead than wrong */
        if (view.header->kind == RECORD_BROADCAST)
            histogram_add(h->row, HISTOGRAM_BROADCAST,
                          h->now_us > view.header->time_us ? h->now_us - view.header->time_us : 0);
        process(h, f, &view, h->walked + n_units, &budget);
        n_records++;
        if (n_records % 64 == 0)
            note_progress(h);
        if (f->sweep.open)
            return false;
    }
    clients_run_deferred(h, h->walked);
    return false;
}

bool fanout_far_behind(const struct hub *h)
{
    return ring_tail(&h->ring) - h->walked > h->ring.units / 2;
}

static void rescue_held(struct hub *h)
{
    uint64_t tail = ring_tail(&h->ring);
    uint64_t reach = h->ring.units / 4 * 3;

    if (outqs_count(h->outqs) == 0 || tail - h->rescued_at < h->ring.units / 64)
        return;
    h->rescued_at = tail;
    if (tail > reach)
        count_add(h->row, COUNT_RING_LAPPED, outqs_rescue(h->outqs, tail - reach));
}

bool fanout_send(struct hub *h, struct fanout *f)
{
    bool sent = batch_flush(
        h->batch, fanout_far_behind(h) ? WORKER_SWEEP_SLICE * 8 : WORKER_SWEEP_SLICE, h->now_ms);

    note_progress(h);
    if (!sent || f->sweep.open)
        return false;
    /* before the cursor: what queues hold must be safe when others may overwrite it */
    rescue_held(h);
    ring_release(&h->ring, h->walked);
    return true;
}
