/* room_news.h: tells the bridge which rooms this worker has, where it must know: with redis_adapter = sharded it subscribes a channel for each.
 *
 * What comes and goes is noted in order and leaves in records at the end of the turn (RECORD_ROOM_NEWS). When the bridge asks (it is new, or has missed records),
 * or more was noted than there is memory for, everything is told from the beginning, between two marks. */
#ifndef PEAL_SESSION_ROOM_NEWS_H
#define PEAL_SESSION_ROOM_NEWS_H

#include "session/hub.h"

/* What a record's part 0 is made of: one byte of these, one byte n, and n bytes of name. */
enum room_news_op {
    NEWS_GONE = 0, /* this worker has nobody in the room any more */
    NEWS_COME,
    NEWS_BEGIN, /* no name: forget what I have said, all of it follows */
    NEWS_WHOLE  /* no name: that was all */
};

struct room_news;

/* *out is NULL where nobody needs to know. False: out of memory. */
MUST_USE bool room_news_new(struct hub *h, struct room_news **out);
void room_news_free(struct room_news *news);

/* `news` may be NULL. */
void room_news_note(struct room_news *news, const struct region *region, uint16_t nsp,
                    struct slice name, bool come);
/* A socket: it is the room of its own id, which has a channel in the mode `dynamic-private`. */
void room_news_note_socket(struct hub *h, const struct sock *k, bool come);

/* All of it, from the beginning; sent by the flushes that follow. */
void room_news_tell_all(struct room_news *news);

/* True: nothing waits. False: the ring is full. */
bool room_news_flush(struct hub *h);

/* Reading: `at` begins at 0. False: that was all, or what follows is no entry. */
MUST_USE bool room_news_next(struct slice part, uint32_t *at, enum room_news_op *op,
                             struct slice *name);

#endif
