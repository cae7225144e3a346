/* files.h: the Socket.IO client bundles, served from memory under the Engine.IO path (Node's
 * `serveClient`). */
#ifndef PEAL_WORKER_FILES_H
#define PEAL_WORKER_FILES_H

#include "proto/http.h"

#define FILES_WHY_MAX 1024

struct files;

/* Reads all files of the folder (option `client_files`) into memory, once plain and once compressed.
 * Called when the worker starts: it blocks and allocates. NULL: `why` says what is wrong; the
 * configuration has found the files fit to be read, so that is rare. */
struct files *files_load(const char *folder, char why[FILES_WHY_MAX]);
void files_free(struct files *f); /* NULL is fine */

/* Everything lives as long as the files. For HEAD the body is what GET would get: only its length is
 * to be sent. */
struct files_answer {
    uint16_t status;  /* 200 or 304 */
    const char *type; /* Content-Type; NULL with 304, which has neither that nor Content-Length */
    const char *headers; /* the other lines, each with its CR LF */
    struct slice body;   /* empty with 304 */
};

/* Is the request for one of the files? `path` is the option `path`; whatever stands in the query does
 * not matter, nor does the method (as with Node). False: not one of ours, `out` is unchanged; f may be
 * NULL. To be asked behind cors_preflight and before Engine.IO's own checks. */
MUST_USE bool files_find(const struct files *f, const char *path, const struct http_request *r,
                         struct files_answer *out);

#endif
