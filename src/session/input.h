/* input.h: what is incomplete of a connection's input: a request head, a message in pieces, an event whose attachments are to come, and bytes that must
 * wait because the ring is full. Exists only while there is such a thing. All of it counts towards inbound_bytes_total (whole host); beyond it the
 * oldest incomplete connection is closed. */
#ifndef PEAL_SESSION_INPUT_H
#define PEAL_SESSION_INPUT_H

#include "proto/socketio.h"
#include "session/hub.h"

struct inputs *inputs_new(void);
void inputs_free(struct inputs *in);
struct ws_pool *inputs_contexts(struct hub *h);

/* A complete message; borrowed until input_done or the next input_add. */
struct message {
    struct slice bytes;
    uint8_t opcode; /* WS_TEXT, WS_BINARY */
};

enum input_result {
    INPUT_MORE = 0, /* taken in; the message is not complete */
    INPUT_COMPLETE,
    INPUT_TOO_BIG, /* over the limit of a request head, or of an event with its attachments */
    INPUT_NO_MEMORY
};

/* Adds a piece of a message. A message in one piece is not copied: `out` points to the piece. */
MUST_USE enum input_result input_add(struct hub *h, struct conn *c, const struct ws_piece *piece,
                                     struct message *out);

/* The message has been dealt with: forgets it. */
void input_done(struct hub *h, struct conn *c);

/* Bytes of a request head. `all` gets everything so far; `scanned` points to http_parse's memory of it. Both until input_done. */
MUST_USE enum input_result input_add_head(struct hub *h, struct conn *c, struct slice bytes,
                                          struct slice *all, uint32_t **scanned);

/* Takes all bytes of the head out again, to be given anew; the caller frees them. */
MUST_USE struct slice input_take_head(struct hub *h, struct conn *c);

/* Is a frame or a fragmented message under way? Told after each receive, so that message_timeout runs from its first byte. */
void input_mark_busy(struct hub *h, struct conn *c, bool busy);

/* A text packet that announces attachments: kept until they have come. */
MUST_USE enum input_result input_expect(struct hub *h, struct conn *c, struct slice packet,
                                        uint32_t n_attachments);
bool input_expects(const struct hub *h, const struct conn *c);
/* Have all of them come, and the event is still here? */
bool input_complete(const struct hub *h, const struct conn *c);

/* One attachment. INPUT_COMPLETE: `packet` and `attachments` are whole (borrowed until input_event_done). */
MUST_USE enum input_result input_attach(struct hub *h, struct conn *c, struct slice bytes);
void input_event(const struct hub *h, const struct conn *c, struct slice *packet,
                 struct slice attachments[SIO_ATTACHMENTS_MAX], uint32_t *n);
void input_event_done(struct hub *h, struct conn *c);

/* The ring is full: keeps the complete message (or the complete event) and the bytes behind it, and stops reading. input_stalled: what waits, with the
 * message as it was; input_rest: takes the bytes behind it (the caller frees them). INPUT_NO_MEMORY: the caller ends the connection. */
MUST_USE enum input_result input_stall(struct hub *h, struct conn *c, const struct message *message,
                                       struct slice rest);
/* Only the bytes behind what is kept already (a POST's body). */
MUST_USE enum input_result input_keep_rest(struct hub *h, struct conn *c, struct slice rest);
bool input_stalled(const struct hub *h, const struct conn *c, struct message *out);
struct slice input_unstall(struct hub *h, struct conn *c);

/* When something incomplete has waited too long (message_timeout); UINT64_MAX: nothing is incomplete. */
uint64_t input_deadline(struct hub *h, struct conn *c);

/* A body (of a POST): adds to it, at most `limit` bytes in all (INPUT_TOO_BIG), and what there is of it. */
MUST_USE enum input_result input_add_body(struct hub *h, struct conn *c, struct slice piece,
                                          uint32_t limit);
struct slice input_body(const struct hub *h, const struct conn *c);

/* An event whose attachments are to come goes on with another connection: what is left of `from`'s input. `to` has no event under way. */
void input_move(struct hub *h, struct conn *from, struct conn *to);

/* Forgets everything of a connection that ends. */
void inputs_drop(struct hub *h, struct conn *c);

/* Over inbound_bytes_total: the connection whose incomplete input is oldest, CONN_NONE if we are within. */
uint32_t inputs_over(struct hub *h);
uint64_t inputs_bytes(const struct hub *h);

#endif
