/* placer.c: a queue of what is not placed, and one packet under way per worker.
 *
 * Invariant: every descriptor pushed is in the queue, in one batch, sent, or closed.
 * Invariant: in leastconn n_places_given counts a connection from when it is put into a batch; so a
 *            worker never settles what was not given, and reclaiming a slot takes all of its back.
 * Bound:     PLACER_QUEUE_MAX unplaced and INBOX_BATCH_MAX per worker. Beyond PLACER_QUEUE_STOP nothing
 *            is accepted (accept.c), so the rest is for what is in the kernel's hands already. */
#include "master/placer.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/atomic.h"
#include "shm/counters.h"

#define PLACER_RETRY_MS 2  /* an inbox is full: its worker is about to read it */
#define PLACER_IDLE_MS  20 /* no worker lives */

/* A worker that starts will have room in a moment: for that long waiting is better than refusing. */
#define PLACER_START_WAIT_MS 1000

void placer_init(struct master *m)
{
    place_rate_init(&m->placer.rate, m->config->accept_rate, m->now_ms);
}

static void placer_drop(struct master *m, int fd)
{
    struct shm_counters *row = &m->region.counters[PEAL_SLOT_MASTER];
    uint32_t suppressed;

    close(fd);
    count_add(row, COUNT_REFUSED_PENDING, 1);
    if (log_allow(&m->placer.overflow_log, m->now_ms, 6, &suppressed))
        log_warning("accept_queue_full", "queued=%u suppressed=%u", m->placer.n, suppressed);
}

static void placer_enqueue(struct master *m, int fd, const struct peer_address *peer)
{
    struct placer *p = &m->placer;

    if (p->n == PLACER_QUEUE_MAX) {
        placer_drop(m, fd);
        return;
    }
    p->queue[(p->head + p->n++) % PLACER_QUEUE_MAX] = (struct placer_waiting){ fd, *peer };
}

void placer_push(struct master *m, int fd, bool is_unix)
{
    struct peer_address peer = { .family = AF_UNIX };
    struct sockaddr_storage address;
    socklen_t n_bytes = sizeof address;

    if (!is_unix) {
        if (getpeername(fd, (struct sockaddr *)&address, &n_bytes) < 0) {
            close(fd); /* reset while it waited to be accepted */
            return;
        }
        peer_address_from(&peer, &address);
    }
    placer_enqueue(m, fd, &peer);
}

/* The batch is the receiver's now, or nobody's. */
static void placer_batch_release(struct placer_batch *batch)
{
    for (uint32_t i = 0; i < batch->n; i++)
        close(batch->fds[i]);
    batch->n = 0;
}

/* False: the inbox is full, the batch stays. */
static bool placer_send(struct master *m, uint32_t slot)
{
    struct placer_batch *batch = &m->placer.batches[slot];
    uint32_t suppressed;
    int error;

    if (batch->n == 0)
        return true;
    error = inbox_send(m->slots[slot].inbox[1], batch->parcels, batch->fds, batch->n);
    if (error == -EAGAIN)
        return false;
    if (error != 0 && log_allow(&m->placer.send_log, m->now_ms, 6, &suppressed))
        log_error("placement_failed", "slot=%u connections=%u error=%s", slot, batch->n,
                  strerror(-error));
    if (error != 0) { /* the worker will never settle them */
        struct shm_slot *shm = master_shm(m, slot);

        for (uint32_t i = 0; i < batch->n; i++) {
            if (batch->parcels[i].has_place)
                shm_store_u32(&shm->n_places_given, shm->n_places_given - 1);
        }
    }
    placer_batch_release(batch);
    return true;
}

/* What place_choose decides by. Clients may end meanwhile, never begin without a place: a view of the
 * turn's beginning is on the safe side. */
static void placer_look(struct master *m, struct place_worker *workers)
{
    for (uint32_t i = 0; i < m->config->workers; i++) {
        const struct shm_slot *shm = master_shm(m, i);
        const struct slot *s = &m->slots[i];
        bool starts =
            s->phase == PHASE_STARTING && m->now_ms - s->started_ms < PLACER_START_WAIT_MS;
        bool sent = placer_send(m, i); /* what is left of earlier turns goes first */

        workers[i] = (struct place_worker){
            .is_live = s->phase == PHASE_LIVE || starts,
            .is_stuck = !sent || starts,
            .used = place_used(shm_load_u64(&shm->places), shm->n_places_given),
            .limit = shm->max_connections,
        };
    }
}

static struct place_choice placer_choose(struct master *m, const struct place_worker *workers)
{
    const uint32_t n = m->config->workers;
    struct placer *p = &m->placer;
    struct place_choice choice;

    if (m->region.header->draining == DRAIN_CLOSING)
        return place_anywhere(workers, n, REFUSE_DRAINING, &p->turn);
    if (m->config->balance != BALANCE_LEASTCONN) /* the workers count for themselves */
        return place_anywhere(workers, n, REFUSE_NOT, &p->turn);
    choice = place_choose(workers, n, m->region.header->max_connections, &p->turn);
    if (choice.verdict == PLACE_GIVEN && !place_rate_take(&p->rate, m->now_ms))
        choice = (struct place_choice){ PLACE_REFUSED, choice.slot, REFUSE_RATE };
    return choice;
}

static void placer_put(struct master *m, const struct place_choice *choice,
                       struct place_worker *worker, const struct placer_waiting *w)
{
    struct placer_batch *batch = &m->placer.batches[choice->slot];
    struct shm_slot *shm = master_shm(m, choice->slot);
    bool has_place = choice->verdict == PLACE_GIVEN;

    assert(batch->n < INBOX_BATCH_MAX);
    batch->fds[batch->n] = w->fd;
    batch->parcels[batch->n++] = (struct parcel){ .version = PARCEL_VERSION,
                                                  .kind = PARCEL_CONNECTION,
                                                  .refusal = (uint8_t)choice->refusal,
                                                  .has_place = has_place,
                                                  .from_slot = PEAL_SLOT_MASTER,
                                                  .peer = w->peer };
    if (has_place) {
        shm_store_u32(&shm->n_places_given, shm->n_places_given + 1);
        worker->used++;
    }
    if (batch->n == INBOX_BATCH_MAX && !placer_send(m, choice->slot))
        worker->is_stuck = true;
}

void placer_flush(struct master *m)
{
    struct place_worker workers[PEAL_WORKERS_MAX];
    struct placer *p = &m->placer;

    if (placer_is_empty(m))
        return;
    placer_look(m, workers);
    while (p->n > 0) {
        struct place_choice choice = placer_choose(m, workers);

        if (choice.verdict == PLACE_WAIT)
            break;
        placer_put(m, &choice, &workers[choice.slot], &p->queue[p->head]);
        p->head = (p->head + 1) % PLACER_QUEUE_MAX;
        p->n--;
    }
    for (uint32_t i = 0; i < m->config->workers; i++)
        (void)placer_send(m, i); /* a full inbox is an ordinary state: again in the next turn */
}

/* New connections are placed anew. Requests were for sessions that have died with their worker: there is nobody to answer them. */
static void placer_reclaim_inbox(struct master *m, uint32_t slot)
{
    static uint8_t request[INBOX_BYTES_MAX];
    struct parcel parcels[INBOX_BATCH_MAX];
    int fds[INBOX_BATCH_MAX];
    int n;

    while ((n = inbox_receive(m->slots[slot].inbox[0], parcels, fds, request)) > 0) {
        for (int i = 0; i < n; i++) {
            if (fds[i] >= 0 && parcels[i].kind == PARCEL_CONNECTION)
                placer_enqueue(m, fds[i], &parcels[i].peer);
            else if (fds[i] >= 0)
                close(fds[i]);
        }
    }
    if (n < 0)
        log_error("inbox_read_failed", "slot=%u error=%s", slot, strerror(-n));
}

void placer_reclaim(struct master *m, uint32_t slot)
{
    struct placer_batch *batch = &m->placer.batches[slot];

    for (uint32_t i = 0; i < batch->n; i++)
        placer_enqueue(m, batch->fds[i], &batch->parcels[i].peer);
    batch->n = 0;
    placer_reclaim_inbox(m, slot);
}

bool placer_is_empty(const struct master *m)
{
    if (m->placer.n > 0)
        return false;
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (m->placer.batches[i].n > 0)
            return false;
    }
    return true;
}

uint32_t placer_wait_ms(const struct master *m)
{
    if (placer_is_empty(m))
        return UINT32_MAX;
    for (uint32_t i = 0; i < m->config->workers; i++) {
        if (m->slots[i].phase == PHASE_LIVE)
            return PLACER_RETRY_MS;
    }
    return PLACER_IDLE_MS;
}
