/* sockets.c: tables of sessions and sockets, and who is in which room.
 *
 * Invariant: an ACTIVE socket is in the room of its namespace, at everyone_at; membership[i].at is its place in that room, always: when another
 *            member moves there by swap-remove, its record is mended at once. Own-id rooms do not exist here: they are the session table. */
#include "session/sockets.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static const uint8_t may_become[SOCK_STATES] = {
    [SOCK_FREE] = 1u << SOCK_PENDING,
    [SOCK_PENDING] = 1u << SOCK_ACTIVATING | 1u << SOCK_FREE,
    [SOCK_ACTIVATING] = 1u << SOCK_ACTIVE | 1u << SOCK_FREE,
    [SOCK_ACTIVE] = 1u << SOCK_FREE,
};

void sock_become(struct sock *k, enum sock_state state)
{
    assert((may_become[k->state] & 1u << state) != 0);
    k->state = (uint8_t)state;
}

static void *reserve(size_t n, size_t size)
{
    void *area = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return area == MAP_FAILED ? NULL : area;
}

int sockets_init(struct sockets *s, uint32_t sessions_max, uint32_t socks_max)
{
    *s = (struct sockets){ .sessions_max = sessions_max,
                           .socks_max = socks_max,
                           .free_sock = SOCK_NONE,
                           .free_session = SOCK_NONE };
    s->socks = reserve(socks_max, sizeof *s->socks);
    s->sessions = reserve(sessions_max, sizeof *s->sessions);
    s->auths = reserve(socks_max, sizeof *s->auths);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++)
        s->everyone[i] = ROOM_NONE;
    return s->socks == NULL || s->sessions == NULL || s->auths == NULL ? -ENOMEM : 0;
}

uint32_t session_new(struct sockets *s)
{
    uint32_t index = s->free_session;
    struct session *n;

    if (index != SOCK_NONE)
        s->free_session = s->sessions[index].conn;
    else if (s->fresh_session < s->sessions_max)
        index = s->fresh_session++;
    else
        return SOCK_NONE;
    n = &s->sessions[index];
    *n = (struct session){ .generation = n->generation + 1,
                           .first_sock = SOCK_NONE,
                           .identity = SESSION_NONE };
    s->n_sessions++;
    return index;
}

void session_free(struct sockets *s, uint32_t index)
{
    struct session *n = &s->sessions[index];

    assert(n->first_sock == SOCK_NONE);
    handshake_free(n->handshake, &s->agents);
    n->handshake = NULL;
    n->generation++; /* handles that are still about end here */
    n->conn = s->free_session;
    s->free_session = index;
    s->n_sessions--;
}

uint32_t sock_new(struct sockets *s)
{
    uint32_t index = s->free_sock;
    struct sock *k;

    if (index != SOCK_NONE)
        s->free_sock = s->socks[index].next;
    else if (s->fresh_sock < s->socks_max)
        index = s->fresh_sock++;
    else
        return SOCK_NONE;
    k = &s->socks[index];
    *k = (struct sock){ .generation = k->generation + 1,
                        .session = SOCK_NONE,
                        .next = SOCK_NONE,
                        .first_room = ROOM_NONE };
    s->n_socks++;
    return index;
}

void sock_free(struct sockets *s, uint32_t index)
{
    struct sock *k = &s->socks[index];

    assert(k->n_rooms == 0);
    sock_become(k, SOCK_FREE);
    free(k->rooms);
    k->rooms = NULL;
    free(s->auths[index]);
    s->auths[index] = NULL;
    k->generation++; /* handles that are still about end here */
    k->next = s->free_sock;
    s->free_sock = index;
    s->n_socks--;
}

void session_link(struct sockets *s, struct session *n, struct sock *k)
{
    uint32_t *link = &n->first_sock;

    while (
        *link !=
        SOCK_NONE) /* behind the others: they are told of an end in the order in which they came */
        link = &s->socks[*link].next;
    *link = sock_index(s, k);
    k->next = SOCK_NONE;
    k->session = session_index(s, n);
    n->n_socks++;
}

void session_unlink(struct sockets *s, struct session *n, struct sock *k)
{
    uint32_t *link = &n->first_sock;

    while (*link != sock_index(s, k)) {
        assert(*link != SOCK_NONE);
        link = &s->socks[*link].next;
    }
    *link = k->next;
    n->n_socks--;
}

struct sock *session_find_sock(struct sockets *s, const struct session *n, uint16_t nsp)
{
    for (uint32_t i = n->first_sock; i != SOCK_NONE; i = s->socks[i].next)
        if (s->socks[i].nsp == nsp)
            return &s->socks[i];
    return NULL;
}

static struct membership *membership_of(const struct sock *k, uint32_t room)
{
    for (uint32_t i = 0; i < k->n_rooms; i++)
        if (k->rooms[i].room == room)
            return &k->rooms[i];
    return NULL;
}

bool sock_in_room(const struct sock *k, uint32_t room)
{
    return membership_of(k, room) != NULL;
}

bool sock_enter(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t room)
{
    uint32_t at;

    if (k->n_rooms == k->rooms_max) {
        uint32_t max = k->rooms_max == 0 ? 1 : k->rooms_max * 2u;
        struct membership *rooms =
            max > UINT16_MAX ? NULL : reallocarray(k->rooms, max, sizeof *rooms);

        if (rooms == NULL) {
            room_unref(rs, room);
            return false;
        }
        k->rooms = rooms;
        k->rooms_max = (uint16_t)max;
    }
    if (membership_of(k, room) != NULL ||
        !room_add(rs, room, (struct room_member){ k->conn, sock_index(s, k) }, &at)) {
        room_unref(rs, room);
        return false;
    }
    k->rooms[k->n_rooms++] = (struct membership){ room, at };
    return true;
}

static void take_out(struct sockets *s, struct rooms *rs, uint32_t room, uint32_t at)
{
    struct room_member moved;

    if (room_remove(rs, room, at, &moved)) {
        struct membership *m = membership_of(&s->socks[moved.sock], room);

        assert(m != NULL);
        m->at = at;
    }
    room_unref(rs, room);
}

bool sock_leave(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t room)
{
    struct membership *m = membership_of(k, room);
    uint32_t at;

    if (m == NULL)
        return false;
    at = m->at;
    *m = k->rooms[--k->n_rooms];
    take_out(s, rs, room, at);
    return true;
}

bool sock_enter_namespace(struct sockets *s, struct rooms *rs, struct sock *k, uint64_t hash)
{
    uint32_t room = room_ref(rs, hash, k->nsp, (struct slice){ NULL, 0 });

    if (room == ROOM_NONE)
        return false;
    if (!room_add(rs, room, (struct room_member){ k->conn, sock_index(s, k) }, &k->everyone_at)) {
        room_unref(rs, room);
        return false;
    }
    s->everyone[k->nsp] = room;
    return true;
}

void sock_move(struct sockets *s, struct rooms *rs, struct sock *k, uint32_t conn)
{
    k->conn = conn;
    for (uint32_t i = 0; i < k->n_rooms; i++)
        room_members(room_at(rs, k->rooms[i].room))[k->rooms[i].at].conn = conn;
    if (k->state == SOCK_ACTIVE)
        room_members(room_at(rs, s->everyone[k->nsp]))[k->everyone_at].conn = conn;
}

void sock_leave_all(struct sockets *s, struct rooms *rs, struct sock *k)
{
    while (k->n_rooms > 0) {
        struct membership m = k->rooms[--k->n_rooms];

        take_out(s, rs, m.room, m.at);
    }
    if (k->state == SOCK_ACTIVE) {
        uint32_t room = s->everyone[k->nsp];
        struct room_member moved;

        if (room_remove(rs, room, k->everyone_at, &moved))
            s->socks[moved.sock].everyone_at = k->everyone_at;
        if (rs->rooms[room].n_members == 0)
            s->everyone[k->nsp] = ROOM_NONE; /* somebody may hold it for a moment more */
        room_unref(rs, room);
    }
    if (k->first_room != ROOM_NONE) {
        room_unref(rs, k->first_room);
        k->first_room = ROOM_NONE;
    }
}
