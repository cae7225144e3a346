/* ask.h: what the two halves of asking share: ask.c (the table, the requests) and ask_answers.c. */
#ifndef PEAL_BRIDGE_ASK_H
#define PEAL_BRIDGE_ASK_H

#include "bridge/wire.h"

#define ASK_NAMES_MAX 64 /* of silent servers that are told */

uint32_t ask_place(const struct bridge_asks *as, const struct bridge_ask *a);
/* Whose answer it is; NULL: nobody's (any more), or another server's. */
struct bridge_ask *ask_find(const struct bridge_asks *as, struct slice request_id);
/* Redis has told how many are to answer. */
void ask_take_count(struct bridge_asks *as, struct bridge_ask *a, uint32_t n_expected);
bool ask_is_complete(const struct bridge_ask *a);

/* To the worker that asked: a record; a reply of one text; the end, with those who may have been silent. What does not fit into the ring goes without its
 * parts, RECORD_TRUNCATED. */
void ask_tell(struct bridge *b, enum record_kind kind, const struct bridge_ask *a, uint8_t flags,
              const struct record_part *parts, uint32_t n_parts);
void ask_tell_text(struct bridge *b, const struct bridge_ask *a, uint8_t flags, struct slice text);
void ask_tell_end(struct bridge *b, const struct bridge_ask *a, uint8_t flags,
                  const struct slice *uids, uint32_t n_uids);

/* Its place is free; with its end told (RECORD_LOST: Redis is away), and without. */
void ask_end(struct bridge *b, struct bridge_ask *a, uint8_t flags);
void ask_drop(struct bridge *b, struct bridge_ask *a);

#endif
