/* forward_answer.h: what a Node server answered as what a client gets: Buffers, which JSON holds as objects, become binary. */
#ifndef PEAL_APP_FORWARD_ANSWER_H
#define PEAL_APP_FORWARD_ANSWER_H

#include "peal/app.h"

/* Memory that grows to the longest answer. */
struct forward_answer {
    char *text;
    char *bytes; /* of attachments */
    uint32_t max;
    struct peal_text attachments[PEAL_ATTACHMENTS_MAX];
};

/* The array `json`, with each object of exactly {"type":"Buffer","data":[bytes]} (in either order) as an attachment, in `*message`, which is valid until the
 * next call. `answer`: what came, for its own attachments. False: more than PEAL_ATTACHMENTS_MAX, or no memory. */
bool forward_answer_read(struct forward_answer *a, const struct peal_message *answer,
                         struct peal_text json, struct peal_message *message);

#endif
