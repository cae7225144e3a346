/* recovery.c: see recovery.h.
 *
 * Invariant: a client that is coming back has no socket: its entry in the session table is CLAIMED by this worker, or it WAITS for it. It gets its socket
 *            at `walked` of this worker, when everything before has been replayed and nothing before it was seen already: neither hole nor repetition.
 * Bound:     WORKER_REPLAYS_MAX of them, each for as long as its connection lives; WAITING for TAKEOVER_MS. */
#include "session/recovery.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/json.h"
#include "session/clients.h"
#include "session/publish.h"
#include "session/replay.h"
#include "shm/atomic.h"
#include "shm/offset.h"

#define POLL_MS            2    /* nobody rings when a connection elsewhere has ended */
#define COLLECT_PER_SECOND 8192 /* at least: an eighth of what there is, if that is more */

struct returning {
    struct replay replay;
    uint32_t session;
    uint32_t generation;
    uint16_t nsp; /* in use for as long as this is there */
    uint8_t section;
    bool waits; /* for its old connection to end; else its entry is claimed */
    bool asked; /* that connection's worker has been told */
    bool has_offset;
    uint32_t index;
    uint64_t until_ms;
    uint64_t offset;
    uint8_t pid[PID_BYTES];
    struct slice auth; /* a copy; absent if there was none */
};

struct recovery {
    struct returning **list; /* [WORKER_REPLAYS_MAX] */
    struct replay **walking; /* [WORKER_REPLAYS_MAX] */
    uint32_t n;
    bool idle; /* nobody could go on without time or room */
    struct replay_walk walk;
    uint8_t rooms[RECOVERY_ROOMS_BYTES_MAX];
};

static void give(void *context, struct replay *replay, const struct record_view *view);

bool recovery_open(struct hub *h)
{
    struct recovery *all = calloc(1, sizeof *all);

    if (all == NULL)
        return false;
    h->recovery = all;
    h->recoverables = recoverables_new(&h->region);
    all->list = calloc(WORKER_REPLAYS_MAX, sizeof(struct returning *));
    all->walking = calloc(WORKER_REPLAYS_MAX, sizeof(struct replay *));
    all->walk = (struct replay_walk){ .ring = &h->ring, .give = give, .context = h };
    return h->recoverables != NULL && all->list != NULL && all->walking != NULL;
}

static void returning_free(struct hub *h, struct returning *it)
{
    namespace_leave(&h->region, it->nsp);
    replay_close(&it->replay);
    free((void *)(uintptr_t)it->auth.bytes);
    free(it);
}

void recovery_close(struct hub *h)
{
    struct recovery *all = h->recovery;

    if (all == NULL)
        return;
    for (uint32_t i = 0; i < all->n; i++)
        returning_free(h, all->list[i]); /* the master detaches what they had claimed */
    recoverables_free(h->recoverables);
    free(all->list);
    free(all->walking);
    free(all->walk.record);
    free(all);
    h->recovery = NULL;
    h->recoverables = NULL;
}

static void count(struct hub *h, enum recovery_result result)
{
    count_add(h->row, COUNT_RECOVERY_FIRST + result, 1);
}

/* --- while it lives --- */

void recovery_prepare(struct hub *h, struct sock *k)
{
    if (h->recoverables == NULL || k->section == UINT8_MAX)
        return;
    recoverable_prepare(h->identities, &h->region, k->identity);
    k->recoverable = 1;
}

void recovery_pid(struct hub *h, const struct sock *k, char pid[SOCKET_ID_CHARS])
{
    uint8_t bytes[PID_BYTES];

    recoverable_pid(&h->region, k->identity, bytes);
    base64url_encode(pid, bytes, PID_BYTES);
}

void recovery_started(struct hub *h, struct sock *k)
{
    if (k->recoverable)
        recoverable_open(&h->region, k->identity, h->walked);
}

void recovery_entered(struct hub *h, struct sock *k, struct slice room, uint64_t since,
                      uint64_t as_of)
{
    if (k->recoverable && !recoverable_join(h->recoverables, k->identity, room, since, as_of))
        count(h, RECOVERY_TOO_BIG);
}

void recovery_left(struct hub *h, struct sock *k, struct slice room, uint64_t as_of)
{
    if (k->recoverable && !recoverable_leave(h->recoverables, k->identity, room, as_of))
        count(h, RECOVERY_TOO_BIG);
}

void recovery_lagged(struct hub *h, struct conn *c)
{
    if (h->recoverables == NULL || c->owner == CONN_NONE)
        return;
    for (uint32_t i = session_at(&h->sockets, c->owner)->first_sock; i != SOCK_NONE;
         i = sock_at(&h->sockets, i)->next) {
        const struct sock *k = sock_at(&h->sockets, i);

        if (k->recoverable && recoverable_spoil(&h->region, k->identity))
            count(h, RECOVERY_LAGGED);
    }
}

/* Node keeps sessions for these; ours besides, since the client can know of nothing but a lost connection: a peer that broke the frame protocol
 * or its limits (Node: "transport error"), one that was too slow, or half-received for too long. */
static bool may_return(enum close_reason reason)
{
    switch (reason) {
    case CLOSE_TRANSPORT_CLOSE:
    case CLOSE_TRANSPORT_ERROR:
    case CLOSE_PING_TIMEOUT:
    case CLOSE_FORCED_CLOSE:
    case CLOSE_FORCED_SERVER_CLOSE:
    case CLOSE_SERVER_SHUTTING_DOWN:
    case CLOSE_SLOW_CONSUMER:
    case CLOSE_TOO_BIG:
    case CLOSE_PROTOCOL_ERROR:
    case CLOSE_MEMORY:
    case CLOSE_MESSAGE_TIMEOUT: return true;
    case CLOSE_PARSE_ERROR:
    case CLOSE_CLIENT_NAMESPACE_DISCONNECT:
    case CLOSE_SERVER_NAMESPACE_DISCONNECT:
    case CLOSE_DRAIN:
    case CLOSE_WORKER_DIED:
    case CLOSE_HOST_STOP:
    case CLOSE_POLICY:
    case CLOSE_REASONS: break;
    }
    return false;
}

/* Joins and leaves of its own that wait for their place in the ring: they count from there on, though nobody will carry them out here. */
static void store_pending(struct hub *h, struct sock *k)
{
    for (uint32_t i = 0; i < h->deferred.n; i++) {
        const struct deferred_item *item =
            &h->deferred.items[(h->deferred.head + i) % h->deferred.max];

        if (item->sock != sock_index(&h->sockets, k) || item->sock_generation != k->generation)
            continue;
        if (item->kind == DEFERRED_JOIN)
            recovery_entered(h, k, room_name(room_at(&h->rooms, item->room)), item->position,
                             h->walked);
        else if (item->kind == DEFERRED_LEAVE)
            recovery_left(h, k, room_name(room_at(&h->rooms, item->room)), h->walked);
    }
}

static bool is_kept(const struct hub *h, const struct sock *k, enum close_reason reason)
{
    return h->recoverables != NULL && k->recoverable && k->state == SOCK_ACTIVE &&
           may_return(reason);
}

void recovery_leaving(struct hub *h, struct sock *k, enum close_reason reason)
{
    if (!is_kept(h, k, reason))
        return;
    store_pending(h, k);
    if (recoverable_is_live(&h->region, k->identity))
        recoverable_keep(&h->region, k->identity);
}

void recovery_let_go(struct hub *h, struct sock *k, enum close_reason reason)
{
    if (h->recoverables == NULL) {
        session_release(h->identities, k->identity);
        return;
    }
    if (is_kept(h, k, reason)) {
        if (recoverable_is_live(&h->region, k->identity)) {
            recoverable_detach(h->identities, k->identity, h->walked,
                               h->now_ms + h->config->recovery_ms);
            namespace_keep(&h->region, k->nsp, h->now_ms + h->config->recovery_ms);
            return;
        }
    }
    recoverable_release(h->recoverables, h->identities, k->identity);
}

/* --- the way back: claiming --- */

static struct session *session_of(struct hub *h, const struct returning *it)
{
    struct session *n = session_at(&h->sockets, it->session);

    return n->generation == it->generation && conn_at(&h->conns, n->conn)->owner == it->session &&
                   conn_at(&h->conns, n->conn)->state == CONN_OPEN
               ? n
               : NULL;
}

/* The connection that still has the entry: the server has not noticed that it is lost. */
static void end_old_connection(struct hub *h, struct returning *it, uint64_t word)
{
    const struct shm_session *identity = &h->region.sessions[it->index];
    struct record_spec spec = { .nsp = namespace_name(&h->region, it->nsp), .n_rooms = 1 };
    char id[SOCKET_ID_CHARS];
    struct slice room = { id, sizeof id };

    if (it->asked || recovery_state(word) != RECOVERY_LIVE)
        return; /* somebody else is just claiming it, and may give it up */
    it->asked = true;
    if (recovery_holder(word) == h->region.self) {
        const struct sock *k = sock_at(&h->sockets, identity->local);

        assert(k->identity == it->index);
        client_condemn(h, conn_at(&h->conns, k->conn), CLOSE_TRANSPORT_CLOSE, false);
        return;
    }
    base64url_encode(id, identity->id, SOCKET_ID_BYTES);
    spec.rooms = &room;
    spec.header.kind = RECORD_DISCONNECT;
    spec.header.flags = RECORD_LOST | RECORD_LOCAL;
    replies_push(h, &spec);
}

/* Where its events begin. */
static enum recovery_result find_beginning(struct hub *h, struct returning *it)
{
    const struct shm_recovery *e = &h->region.recovery[it->index];
    struct replay *r = &it->replay;
    _Alignas(8) uint8_t head[RING_UNIT_BYTES];
    uint32_t n_bytes = 0;

    r->resume = shm_load_u64(&e->resume);
    r->from = shm_load_u64(&e->start);
    if (it->has_offset && it->offset >= r->from) {
        switch (ring_copy(&h->ring, it->offset, head, sizeof head, &n_bytes)) {
        case HISTORY_OK: break;
        case HISTORY_NOT_YET: return RECOVERY_UNKNOWN_OFFSET;
        case HISTORY_GONE:
            return ring_tail(&h->ring) > it->offset + h->ring.units ? RECOVERY_OVERRUN
                                                                    : RECOVERY_UNKNOWN_OFFSET;
        }
        r->from = it->offset + (n_bytes + RING_UNIT_BYTES - 1) / RING_UNIT_BYTES;
    }
    r->at = r->from < r->resume ? r->from : r->resume;
    return ring_tail(&h->ring) > r->at + h->ring.units ? RECOVERY_OVERRUN : RECOVERY_RECOVERED;
}

/* The entry is claimed: gets everything ready for the walk. RECOVERED: it is. */
static enum recovery_result prepare_replay(struct hub *h, struct returning *it)
{
    struct recovery *all = h->recovery;
    struct replay *r = &it->replay;
    enum recovery_result result = find_beginning(h, it);
    uint32_t n_bytes;

    if (result != RECOVERY_RECOVERED)
        return result;
    r->directory = h->directory;
    r->nsp = namespace_name(&h->region, it->nsp);
    base64url_encode(r->id, h->region.sessions[it->index].id, SOCKET_ID_BYTES);
    if (!recoverable_rooms(&h->region, it->index, all->rooms, &n_bytes) ||
        !replay_open(r, h->region.header->hash_key, slice_of(all->rooms, n_bytes)))
        return RECOVERY_UNKNOWN_PID;
    return RECOVERY_RECOVERED;
}

/* RECOVERED: it waits, or is claimed and ready. */
static enum recovery_result claim(struct hub *h, struct returning *it)
{
    enum recovery_result result;
    uint64_t word;

    switch (recoverable_claim(&h->region, it->pid, it->nsp, h->now_ms, &it->index, &word)) {
    case CLAIM_OK: break;
    case CLAIM_UNKNOWN: return RECOVERY_UNKNOWN_PID;
    case CLAIM_EXPIRED: return RECOVERY_EXPIRED;
    case CLAIM_BUSY:
        if (it->waits && h->now_ms >= it->until_ms)
            return RECOVERY_BUSY;
        if (!it->waits)
            it->until_ms = h->now_ms + TAKEOVER_MS;
        it->waits = true;
        end_old_connection(h, it, word);
        return RECOVERY_RECOVERED;
    }
    it->waits = false;
    session_watch(h->identities, it->index);
    result = prepare_replay(h, it);
    if (result != RECOVERY_RECOVERED)
        recoverable_release(h->recoverables, h->identities, it->index);
    return result;
}

static bool text_member(struct slice auth, const char *name, char *out, uint32_t max, uint32_t *n)
{
    struct slice value;
    enum json_kind kind;

    if (!json_member(auth, name, &value, &kind) || kind != JSON_STRING)
        return false;
    *n = json_unescape(value, out, max);
    return true;
}

/* What the client says. False: it does not want to come back. RECOVERED: it may be possible. */
static bool read_auth(struct hub *h, struct slice auth, struct returning *it,
                      enum recovery_result *result)
{
    char pid[SOCKET_ID_CHARS];
    char offset[OFFSET_CHARS];
    uint32_t n = 0;

    *result = RECOVERY_RECOVERED;
    if (auth.bytes == NULL || !text_member(auth, "pid", pid, sizeof pid, &n))
        return false;
    if (n != sizeof pid || !base64url_decode(it->pid, slice_of(pid, sizeof pid))) {
        *result = RECOVERY_UNKNOWN_PID;
        return true;
    }
    it->has_offset = text_member(auth, "offset", offset, sizeof offset, &n);
    if (!it->has_offset)
        return true;
    switch (offset_read(slice_of(offset, n <= sizeof offset ? n : 0), h->region.header->epoch,
                        &it->offset)) {
    case OFFSET_OK: break;
    case OFFSET_UNKNOWN: *result = RECOVERY_UNKNOWN_OFFSET; break;
    case OFFSET_OTHER_HOST: *result = RECOVERY_OTHER_HOST; break;
    }
    return true;
}

static struct returning *returning_new(struct hub *h, const struct returning *from,
                                       struct slice auth)
{
    struct returning *it = malloc(sizeof *it);
    char *copy = malloc(auth.n_bytes + 1);

    if (it == NULL || copy == NULL) {
        free(it);
        free(copy);
        return NULL;
    }
    *it = *from;
    memcpy(copy, auth.bytes, auth.n_bytes);
    it->auth = slice_of(copy, auth.n_bytes);
    namespace_use(&h->region, it->nsp);
    return it;
}

bool recovery_begin(struct hub *h, struct session *n, uint16_t nsp, uint8_t section,
                    struct slice auth)
{
    struct returning first = { .session = session_index(&h->sockets, n),
                               .generation = n->generation,
                               .nsp = nsp,
                               .section = section };
    struct recovery *all = h->recovery;
    enum recovery_result result;
    struct returning *it;

    if (all == NULL || !read_auth(h, auth, &first, &result))
        return false;
    it = result != RECOVERY_RECOVERED || all->n == WORKER_REPLAYS_MAX
             ? NULL
             : returning_new(h, &first, auth);
    if (result == RECOVERY_RECOVERED)
        result = it == NULL ? RECOVERY_BUSY : claim(h, it);
    if (result == RECOVERY_RECOVERED) {
        all->list[all->n++] = it;
        all->idle = false;
        return true;
    }
    count(h, result);
    if (it != NULL)
        returning_free(h, it);
    return false;
}

/* --- the way back: replaying --- */

/* Each frame by itself: what carries the session may be no WebSocket. */
static void give(void *context, struct replay *replay, const struct record_view *view)
{
    struct hub *h = context;
    const struct returning *it = replay->client;
    struct session *n = session_of(h, it);
    const char *at = view->frames.bytes;
    struct conn *c = n == NULL ? NULL : conn_at(&h->conns, n->conn);

    if (c != NULL && (c->flags & CONN_DEFLATE) != 0) {
        client_send(h, c, view->deflated.bytes, view->deflated.n_bytes, false);
        return;
    }
    for (uint32_t i = 0; c != NULL && i < view->header->n_parts; i++) {
        uint8_t opcode;
        struct slice payload = record_part(view, i, &opcode);
        const char *end = payload.bytes + payload.n_bytes;

        client_send(h, c, at, (uint32_t)(end - at), false);
        at = end;
    }
}

/* Its client has not taken what it was given. */
static bool is_behind(struct hub *h, struct returning *it)
{
    const struct session *n = session_of(h, it);
    const struct conn *c = n == NULL ? NULL : conn_at(&h->conns, n->conn);

    return c != NULL && c->outq != NULL && outq_bytes(c->outq) >= REPLAY_AHEAD_BYTES;
}

/* Its connection has gone: it may try again. */
static void give_back(struct hub *h, struct returning *it)
{
    if (it->waits)
        return;
    recoverable_detach(h->identities, it->index, it->replay.resume,
                       h->now_ms + h->config->recovery_ms);
    namespace_keep(&h->region, it->nsp, h->now_ms + h->config->recovery_ms);
}

static void connect_anew(struct hub *h, struct returning *it, enum recovery_result result)
{
    struct session *n = session_of(h, it);

    count(h, result);
    if (session_find_sock(&h->sockets, n, it->nsp) != NULL) /* a second CONNECT meanwhile */
        client_end(h, conn_at(&h->conns, n->conn), CLOSE_FORCED_SERVER_CLOSE, WS_CLOSE_NO_STATUS,
                   NULL);
    else
        h->connect_anew(h->apps_context, n, it->nsp, it->section, it->auth);
}

static void enter_rooms(struct hub *h, struct returning *it, struct sock *k)
{
    const struct replay *r = &it->replay;

    for (uint32_t i = 0; i < r->n_rooms; i++) {
        const struct replay_room *room = &r->rooms[i];
        uint32_t at = room_ref(&h->rooms, room->hash, k->nsp, slice_of(room->name, room->n_bytes));

        if (at == ROOM_NONE || !sock_enter(&h->sockets, &h->rooms, k, at)) {
            client_condemn(h, conn_at(&h->conns, k->conn), CLOSE_MEMORY, false);
            return;
        }
    }
}

/* Everything before `walked` has been replayed: from here on it is a socket like any other. */
static void restore(struct hub *h, struct returning *it)
{
    struct recovery *all = h->recovery;
    struct session *n = session_of(h, it);
    bool stored = true;
    uint32_t n_bytes;
    struct sock *k;

    if (session_find_sock(&h->sockets, n, it->nsp) != NULL) {
        give_back(h, it);
        client_end(h, conn_at(&h->conns, n->conn), CLOSE_FORCED_SERVER_CLOSE, WS_CLOSE_NO_STATUS,
                   NULL);
        return;
    }
    k = client_restore(h, n, it->nsp, it->section, it->index, it->auth);
    if (k == NULL) {
        give_back(h, it);
        count(h, RECOVERY_BUSY);
        count_add(h->row, COUNT_CONNECT_REFUSED_FIRST + REFUSED_FULL, 1);
        client_send_connect_error(h, conn_at(&h->conns, n->conn), it->replay.nsp,
                                  slice_text("Server is full"), (struct slice){ NULL, 0 });
        return;
    }
    if (it->replay.changed)
        stored =
            replay_rooms(&it->replay, all->rooms, &n_bytes) &&
            recoverable_store(h->recoverables, it->index, slice_of(all->rooms, n_bytes), h->walked);
    recoverable_adopt(h->identities, &h->region, it->index, sock_index(&h->sockets, k));
    k->recoverable = 1;
    k->recovered = 1;
    if (!stored && recoverable_spoil(&h->region, it->index))
        count(h, RECOVERY_TOO_BIG);
    enter_rooms(h, it, k);
    count(h, RECOVERY_RECOVERED);
    client_send_connect(h, k);
    h->socket_recovered(h->apps_context, k);
}

/* True: it is through, one way or the other. */
static bool settle(struct hub *h, struct returning *it)
{
    struct replay *r = &it->replay;
    enum recovery_result result = RECOVERY_RECOVERED;

    if (session_of(h, it) == NULL) {
        give_back(h, it);
        return true;
    }
    if (it->waits) {
        result = claim(h, it);
        if (result == RECOVERY_RECOVERED)
            return false;
        connect_anew(h, it, result);
        return true;
    }
    if (r->end != REPLAY_GOES_ON) {
        recoverable_release(h->recoverables, h->identities, it->index);
        connect_anew(h, it, r->end == REPLAY_OVERRUN ? RECOVERY_OVERRUN : RECOVERY_DISCONNECTED);
        return true;
    }
    if (r->at < h->walked || r->from > h->walked || r->resume > h->walked)
        return false;
    restore(h, it);
    return true;
}

void recovery_run(struct hub *h)
{
    struct recovery *all = h->recovery;
    uint32_t n = 0;
    bool arrived;

    if (all == NULL || all->n == 0)
        return;
    for (uint32_t i = 0; i < all->n; i++) {
        struct returning *it = all->list[i];

        if (it->waits || session_of(h, it) == NULL)
            continue;
        it->replay.client = it;
        it->replay.n_given = 0;
        it->replay.blocked = is_behind(h, it);
        all->walking[n++] = &it->replay;
    }
    all->walk.until = h->walked;
    arrived = replay_walk(&all->walk, all->walking, n);
    for (uint32_t i = 0; i < all->n;) {
        struct returning *it = all->list[i];

        if (!settle(h, it)) {
            i++;
            continue;
        }
        all->list[i] = all->list[--all->n];
        returning_free(h, it);
    }
    all->idle = arrived;
}

uint32_t recovery_wait_ms(const struct hub *h)
{
    const struct recovery *all = h->recovery;

    if (all == NULL || all->n == 0)
        return UINT32_MAX;
    return all->idle ? POLL_MS : 0;
}

void recovery_second(struct hub *h)
{
    sessions_collect(h->identities, h->now_ms,
                     COLLECT_PER_SECOND + sessions_used(h->identities) / 8);
    if (h->recoverables != NULL)
        recoverables_collect(h->recoverables, COLLECT_PER_SECOND);
}
