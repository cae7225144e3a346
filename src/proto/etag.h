/* etag.h: a strong entity tag out of a body's bytes, and If-None-Match (RFC 9110 sections 8.8.3 and
 * 13.1.2). */
#ifndef PEAL_PROTO_ETAG_H
#define PEAL_PROTO_ETAG_H

#include "proto/http.h"

#define ETAG_CHARS 34 /* 16 bytes in hex, and the quotes */

/* The first half of the body's SHA-256: every worker and every host gives the same. Not terminated. */
void etag_make(char out[ETAG_CHARS], struct slice body);

/* Does the client have what `etag` names? True if an If-None-Match lists it, also as `W/"…"`, or is
 * `*`. */
MUST_USE bool etag_known(const struct http_request *r, struct slice etag);

#endif
