/* select.c: from a selector to sockets.
 *
 * A room is swept from its last member down: a member that leaves meanwhile is replaced by the last one, which has been seen already, and the stamp
 * keeps it from being taken twice. */
#include "session/select.h"

#include <assert.h>

struct sock *select_by_id(struct hub *h, struct slice name, uint16_t nsp)
{
    uint8_t id[SOCKET_ID_BYTES];
    uint32_t owner;
    uint32_t local;
    uint16_t where;
    struct sock *k;

    if (name.n_bytes != SOCKET_ID_CHARS || !base64url_decode(id, name))
        return NULL;
    if (!session_find(&h->region, SESSION_SOCKET, socket_id_index(id), id, &owner, &local, &where))
        return NULL;
    if (owner != h->region.self || where != nsp)
        return NULL;
    k = sock_at(&h->sockets, local);
    return k->state == SOCK_ACTIVE ? k : NULL;
}

static void except(struct hub *h, const struct record_view *view, uint16_t nsp)
{
    struct record_names it = record_names_open(view, RECORD_EXCEPT);
    struct slice name;
    uint64_t hash;

    while (record_names_next(&it, &name, &hash)) {
        uint32_t room = room_find(&h->rooms, hash, nsp, name);
        const struct sock *k = select_by_id(h, name, nsp);

        if (k != NULL)
            conn_at(&h->conns, k->conn)->stamp = h->stamp;
        if (room == ROOM_NONE)
            continue;
        for (uint32_t i = 0; i < room_at(&h->rooms, room)->n_members; i++)
            conn_at(&h->conns, room_members(room_at(&h->rooms, room))[i].conn)->stamp = h->stamp;
    }
}

static void begin_room(struct hub *h, struct selection *s, uint32_t room)
{
    s->room = room;
    s->left = room_at(&h->rooms, room)->n_members;
    room_at(&h->rooms, room)->refs++; /* it must not be freed and made anew under us */
}

void select_open(struct hub *h, struct selection *s, const struct record_view *view)
{
    uint32_t nsp = namespace_find(&h->region, view->nsp);

    assert(!s->open);
    *s = (struct selection){ .view = *view, .room = ROOM_NONE, .open = true };
    s->rooms = record_names_open(view, RECORD_ROOMS);
    if (nsp == NAMESPACE_NONE || !namespace_in_use(&h->region, nsp)) {
        s->nsp = NAMESPACE_NONE;
        s->rooms.left = 0;
        return;
    }
    namespace_use(&h->region, nsp); /* its last socket may go before we are through */
    s->nsp = nsp;
    s->whole_namespace = view->header->n_rooms == 0;
    if (++h->stamp == 0) /* 0 is what new connections have */
        h->stamp = 1;
    except(h, view, (uint16_t)nsp);
    if (s->whole_namespace && h->sockets.everyone[nsp] != ROOM_NONE)
        begin_room(h, s, h->sockets.everyone[nsp]);
}

static void end_room(struct hub *h, struct selection *s)
{
    room_unref(&h->rooms, s->room);
    s->room = ROOM_NONE;
}

static bool next_of_room(struct hub *h, struct selection *s, struct room_member *out)
{
    struct room *r = room_at(&h->rooms, s->room);
    const struct room_member *members = room_members(r);

    if (s->left > r->n_members)
        s->left = r->n_members;
    while (s->left > 0) {
        struct room_member m = members[--s->left];
        struct conn *c = conn_at(&h->conns, m.conn);

        if (s->left >= 8)
            __builtin_prefetch(conn_at(&h->conns, members[s->left - 8].conn), 1);
        if (c->stamp == h->stamp)
            continue;
        c->stamp = h->stamp;
        *out = m;
        return true;
    }
    return false;
}

bool select_next(struct hub *h, struct selection *s, struct room_member *out)
{
    const uint16_t nsp = (uint16_t)s->nsp;
    struct slice name;
    uint64_t hash;

    for (;;) {
        if (s->room != ROOM_NONE) {
            if (next_of_room(h, s, out))
                return true;
            end_room(h, s);
        }
        if (!record_names_next(&s->rooms, &name, &hash))
            return false;
        /* a room may bear the name of a socket's id: Node lets anybody join it; both count */
        uint32_t room = room_find(&h->rooms, hash, nsp, name);
        const struct sock *k = select_by_id(h, name, nsp);

        if (room != ROOM_NONE)
            begin_room(h, s, room);
        if (k != NULL && conn_at(&h->conns, k->conn)->stamp != h->stamp) {
            conn_at(&h->conns, k->conn)->stamp = h->stamp;
            *out = (struct room_member){ k->conn, sock_index(&h->sockets, k) };
            return true;
        }
    }
}

void select_close(struct hub *h, struct selection *s)
{
    if (s->room != ROOM_NONE)
        end_room(h, s);
    if (s->nsp != NAMESPACE_NONE)
        namespace_leave(&h->region, s->nsp);
    s->open = false;
}
