/* cors.h: the CORS header lines of an answer, and of the answer to a preflight: what the npm package
 * `cors` makes of `cors: { origin, credentials }`, as recorded from engine.io 6.6.12.
 *
 *     option                    Access-Control-Allow-Origin          Vary: Origin
 *     same-host                 none: CORS is off                    no
 *     *                         *                                    no
 *     one origin                the request's if allowed, else it    yes
 *     a list, or a `*.` host    the request's if allowed, else none  yes
 *
 * CORS refuses nothing: a request of an origin that is not allowed is served, and its browser keeps
 * the answer from the page. Who may come at all is the option `origins` (http_origin_allowed). */
#ifndef PEAL_PROTO_CORS_H
#define PEAL_PROTO_CORS_H

#include "base/config.h"
#include "proto/http.h"

#define CORS_ORIGIN_MAX  300  /* bytes of a reflected origin; a host name has at most 253 */
#define CORS_HEADERS_MAX 1024 /* bytes of a reflected list of header names */

/* Allow-Origin + Vary + Allow-Credentials, the end included */
#define CORS_LINES_MAX (31 + CORS_ORIGIN_MAX + 14 + 40 + 1)
/* and Allow-Methods + Vary + Allow-Headers + Content-Length */
#define CORS_PREFLIGHT_MAX (CORS_LINES_MAX + 62 + 38 + 32 + CORS_HEADERS_MAX + 19)

/* Writes the lines for any answer of the Engine.IO path: errors, 101 and client files too. Each with
 * its CR LF, ended with NUL. Returns their length, 0 when CORS is off. An answer that comes after its
 * request is gone needs a copy of them. */
uint32_t cors_lines(const struct config *c, const struct http_request *r, char out[CORS_LINES_MAX]);

/* Is it an OPTIONS request that CORS answers, before any other check? Writes all header lines of the
 * 204 but Connection, Content-Length: 0 included, and returns their length. 0: CORS is off or the
 * method is another; the request is treated like any other. */
uint32_t cors_preflight(const struct config *c, const struct http_request *r,
                        char out[CORS_PREFLIGHT_MAX]);

#endif
