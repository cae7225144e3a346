/* query.h: answers of this worker to questions that came through the ring, and to broadcasts that want acknowledgements. */
#ifndef PEAL_SESSION_QUERY_H
#define PEAL_SESSION_QUERY_H

#include "session/hub.h"
#include "session/select.h"

/* RECORD_FETCH: one or more RECORD_REPLY to who asked, the last one marked so, also when there is nothing to tell. */
void query_answer(struct hub *h, const struct record_view *view);

/* How many local sockets a broadcast with acknowledgement went to: RECORD_REPLY with a decimal number. */
void query_reply_count(struct hub *h, const struct record_view *view, uint32_t n);

/* A client's acknowledgement of broadcast `id`: passed on to who issued it. True if it was one. */
bool query_take_ack(struct hub *h, struct sock *k, double id, struct slice json,
                    const struct slice *attachments, uint32_t n_attachments);

#endif
