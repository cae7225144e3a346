/* fanout.h: taking records off the ring, in order, and handing each to the sockets it is for. */
#ifndef PEAL_SESSION_FANOUT_H
#define PEAL_SESSION_FANOUT_H

#include "session/hub.h"
#include "session/select.h"

struct fanout {
    struct selection sweep; /* a broadcast in the middle of its members */
    uint64_t end;           /* of the record being swept */
    uint64_t n_turns_behind;
};

/* Takes in records up to a budget. True: caught up, there is nothing at h->walked. */
bool fanout_walk(struct hub *h, struct fanout *f);

/* Sends what has been taken in, by slices, and lets the ring move on when a batch is through. True: nothing waits to be sent. */
bool fanout_send(struct hub *h, struct fanout *f);

/* More than half the ring behind: this worker gets the whole turn. */
bool fanout_far_behind(const struct hub *h);

/* Where outq.c gets records from: the ring. */
bool fanout_copy(void *context, uint64_t position, uint32_t offset, uint8_t *out, uint32_t n_bytes);

#endif
