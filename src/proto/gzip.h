/* gzip.h: the body of one answer, compressed in one go, and which content coding its client takes
 * (RFC 9110 sections 8.4.1 and 12.5.3). */
#ifndef PEAL_PROTO_GZIP_H
#define PEAL_PROTO_GZIP_H

#include "proto/http.h"

#define GZIP_LEVEL_FAST 1 /* for what is compressed once a client */
#define GZIP_LEVEL_GOOD 6 /* for what is compressed once and kept */

enum coding { CODING_IDENTITY = 0, CODING_GZIP, CODING_DEFLATE };

struct gzip;

/* The only function here that allocates (some 270 KB); all bodies of a process share one. `level` is
 * 1 (fast) to 9 (small). NULL: no memory. */
struct gzip *gzip_new(int level);
void gzip_free(struct gzip *g); /* NULL is fine */

/* The coding with the highest q that the request's Accept-Encoding lists; of equals gzip, then
 * deflate. `*` counts for what is not listed; identity only against a coding of a lower q, since it
 * is what is left when no other may be used, even with `identity;q=0`. No such header: identity, as
 * Node does. To be asked when the request comes: a held answer outlives its request. */
enum coding gzip_negotiate(const struct http_request *r);

/* Content-Encoding as a header line with its CR LF; "" for identity. */
const char *gzip_header(enum coding coding);

/* Writes the compressed body to `out` and returns its length; 0: it would not fit in `room`
 * with a byte to spare, or saves no more than its header line costs, so the body is to be sent as it
 * is. `room` of body.n_bytes is always enough. `coding` is not identity. `deflate` is the zlib
 * format, as the RFC has it and as Node sends it. */
MUST_USE uint32_t gzip_body(struct gzip *g, enum coding coding, struct slice body, void *out,
                            uint32_t room);

#endif
