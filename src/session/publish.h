/* publish.h: appending records to the ring, and telling whom to wake. */
#ifndef PEAL_SESSION_PUBLISH_H
#define PEAL_SESSION_PUBLISH_H

#include "session/hub.h"

/* Appends one record: fills in slot, generation and time, and gathers its targets from rooms and header.targets; broadcasts of this host that are not
 * RECORD_LOCAL are for the bridge too. RING_FULL, RING_TOO_BIG: nothing was done. */
MUST_USE enum ring_result publish(struct hub *h, struct record_spec *spec);

/* Between reservation and commit of a record that lets sockets join: until every worker has taken it in nobody can say whom a message is not for, and those
 * that are away may join by it when they come back (directory_keep). Does nothing for other kinds. */
void publish_note(struct ring *ring, const struct record_view *view, uint64_t at);

/* Gathers whom a record in the ring is for; used by whoever appends. `bridge`: the host has one. */
void publish_target(struct ring *ring, const struct record_view *view, bool bridge);

/* Records that must not get lost when the ring is full (answers to queries, acknowledgements to other processes) wait here, bounded. */
struct replies *replies_new(void);
void replies_free(struct replies *r);
void replies_push(
    struct hub *h,
    const struct record_spec *spec); /* copies what the spec points to; appends at once if it can */
bool replies_flush(struct hub *h);   /* true: nothing waits */

#endif
