/* compose.h: from an application's message to the text that is sent: checked once, and what comes from a client not encoded anew. */
#ifndef PEAL_APP_COMPOSE_H
#define PEAL_APP_COMPOSE_H

#include "app/host.h"
#include "proto/socketio.h"

/* `head` and `tail` together are the JSON array; borrowed from the message and from host->text. */
struct composed {
    struct slice head;
    struct slice tail;
    struct slice attachments[SIO_ATTACHMENTS_MAX];
    uint32_t n_attachments;
    uint32_t n_bytes; /* of all */
};

/* `is_event`: the first element must be a name that may be emitted. PEAL_INVALID, PEAL_TOO_BIG (event_bytes_max), PEAL_FULL (no memory) or PEAL_OK. */
MUST_USE enum peal_result compose(struct peal_host *host, const struct peal_message *message,
                                  bool is_event, struct composed *out);

/* `head` and `tail` as one text, to be freed; NULL: no memory. */
MUST_USE char *composed_text(const struct composed *c, struct slice *text);

#endif
