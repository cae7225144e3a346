/* zipped.h: bodies of polling answers, compressed. Members of a room that poll get equal bodies one after the other: those are compressed once. */
#ifndef PEAL_SESSION_ZIPPED_H
#define PEAL_SESSION_ZIPPED_H

#include "proto/gzip.h"

struct zipped {
    struct gzip *gzip; /* NULL: nothing is compressed */
    char *of;          /* the last body as it was ... */
    char *bytes;       /* ... and compressed */
    uint32_t of_room, n_of;
    uint32_t room, n_bytes; /* n_bytes 0: compressing it does not pay */
    uint8_t coding;         /* enum coding; CODING_IDENTITY: there is none */
};

/* False: no memory. */
MUST_USE bool zipped_open(struct zipped *z);
void zipped_close(struct zipped *z); /* {0} is fine */

/* Puts the compressed bytes, borrowed until the next call, in the place of `body`. Returns the coding they are in; CODING_IDENTITY: nothing was done, since it
 * does not pay, or there is no memory. */
enum coding zipped_body(struct zipped *z, enum coding coding, struct slice *body);

/* Gives back what an unusually large body took. */
void zipped_forget(struct zipped *z);

#endif
