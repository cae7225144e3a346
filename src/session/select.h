/* select.h: which sockets of this worker a record is for: the union of its rooms (none: the whole namespace) without the excepted ones, each once.
 *
 * Works through `stamp` of the connection: a connection has at most one socket in a namespace. Can be interrupted between two calls of select_next for
 * other work, as long as no socket joins a room meanwhile (joins happen only between records); members may leave. */
#ifndef PEAL_SESSION_SELECT_H
#define PEAL_SESSION_SELECT_H

#include "session/hub.h"

struct selection {
    struct record_view view;
    struct record_names rooms;
    uint32_t room; /* the room being swept (a reference is held); ROOM_NONE */
    uint32_t left; /* its members from here down are to come */
    uint32_t nsp;  /* in use until select_close; NAMESPACE_NONE: nobody of this worker is in it */
    bool whole_namespace;
    bool open;
};

/* `view` must stay readable until select_close. An unknown namespace selects nobody. */
void select_open(struct hub *h, struct selection *s, const struct record_view *view);
MUST_USE bool select_next(struct hub *h, struct selection *s, struct room_member *out);
void select_close(struct hub *h, struct selection *s);

/* The socket of this worker with that id (20 characters) in that namespace, or NULL. */
struct sock *select_by_id(struct hub *h, struct slice name, uint16_t nsp);

#endif
