/* emit.h: from an event to a record in the ring: encoded once for the whole host. */
#ifndef PEAL_SESSION_EMIT_H
#define PEAL_SESSION_EMIT_H

#include "session/hub.h"

struct emit {
    struct slice nsp;
    const struct slice *rooms; /* none: the whole namespace */
    uint32_t n_rooms;
    const struct slice *except;
    uint32_t n_except;
    uint8_t
        flags; /* RECORD_LOCAL, RECORD_VOLATILE, RECORD_NO_COMPRESS; RECORD_WANTS_ACK: with the rest */
    uint64_t ack_id;     /* what clients answer with */
    uint32_t timeout_ms; /* how long their answers are taken */
    uint64_t targets;    /* workers that tell how many they asked */
};

/* A Socket.IO event: `head` and `tail` together are the JSON array (tail may be empty), so that "[" can be put before the rest of another array. */
MUST_USE enum ring_result emit_event(struct hub *h, const struct emit *to, struct slice head,
                                     struct slice tail, const struct slice *attachments,
                                     uint32_t n_attachments);

/* A frame for plain clients. `to->nsp` is "/ws". */
MUST_USE enum ring_result emit_frame(struct hub *h, const struct emit *to, struct slice payload,
                                     bool binary);

#endif
