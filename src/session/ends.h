/* ends.h: connections that a server-side disconnect is to close: not before what was said to them last, their DISCONNECT packets among it, is out, and not while
 * their own input may be in somebody's hand. */
#ifndef PEAL_SESSION_ENDS_H
#define PEAL_SESSION_ENDS_H

#include "session/hub.h"

struct ends;

struct ends *ends_new(void);
void ends_free(struct ends *e);

/* Closes `c` (client_end, "server namespace disconnect") when everything that this worker has appended up to now has been taken in. */
void client_end_later(struct hub *h, struct conn *c);

/* Closes those that are due. Between two packets, and once a turn. */
void clients_end_due(struct hub *h);

bool clients_any_end(const struct hub *h);

#endif
