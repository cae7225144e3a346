/* state.h: what the admin process knows: one struct, passed to all its parts. Private to src/admin.
 *
 *   admin.c     start, end             server.c   the loop; caller.c  one connection
 *   api.c       which request is what  access.c   who may
 *   command.c   what a body asks for   append.c   carrying it out, through the ring
 *   metrics.c   /metrics               status.c   /readyz, /api/workers */
#ifndef PEAL_ADMIN_STATE_H
#define PEAL_ADMIN_STATE_H

#include "admin/access.h"
#include "admin/command.h"
#include "admin/metrics.h"
#include "net/child.h"
#include "session/packer.h"
#include "shm/counters.h"
#include "shm/ring.h"

#define ADMIN_CLIENTS_MAX     64
#define ADMIN_BODY_BYTES_MAX  (1u << 20)  /* of one request: beyond it 413 */
#define ADMIN_BODIES_BYTES    (16u << 20) /* of all requests together: beyond it 503 */
#define ADMIN_ANSWER_MAX      (2u << 20) /* 62 workers, 101 namespaces of 255 escaped bytes: 0.2 MB */
#define ADMIN_IDLE_MS         60000      /* between two requests of a connection */
#define ADMIN_BODY_MS         10000      /* for a whole body */
#define ADMIN_WRITE_MS        20000      /* for a whole answer */
#define ADMIN_RING_WAIT_MS    (2 * STALL_TIMEOUT_MS + 1000) /* the watchdog frees the ring before */
#define ADMIN_RING_RETRY_MS   2
#define ADMIN_LISTENER_OFF_MS 100 /* after an accept that failed for want of something */

struct admin {
    const struct child *child;
    struct region region;
    struct ring ring;
    struct packer packer;
    struct shm_slot *slot;
    struct shm_counters *row;
    struct access_rules rules;
    struct metrics metrics;
    struct command command;
    bool was_ready;  /* all workers have served at the same time since this process began */
    uint64_t now_ms; /* CLOCK_MONOTONIC, once per turn */
    uint64_t now_us;
};

/* The answer to one request. Private fields belong to nobody. */
struct answer {
    uint16_t status;
    const char *type;   /* Content-Type */
    const char *allow;  /* of a 405; NULL: none */
    bool retry;         /* Retry-After: 1 */
    bool ask_token;     /* WWW-Authenticate */
    struct slice fixed; /* the body, if bytes != NULL: lives for ever */
    struct page body;   /* else this; whoever has the answer frees it */
};

/* --- api.c --- */

enum api_result {
    API_DONE = 0,
    API_WAITS /* the ring is full: nothing was done, ask again */
};

/* Looks at the head alone. False: refused, `out` is the answer, and the body is not to be read. */
MUST_USE bool api_admit(struct admin *a, const struct peer_address *peer,
                        const struct http_request *request, struct answer *out);

/* Carries out an admitted request. API_WAITS: `out` is as it was. */
MUST_USE enum api_result api_answer(struct admin *a, const struct http_request *request,
                                    struct slice body, struct answer *out);

/* {"ok":false,"error":why}, with that status. Frees nothing: for a fresh answer. */
void api_error(struct answer *out, uint16_t status, const char *why);

/* --- append.c: carrying commands out; nothing here waits --- */

enum append_result {
    APPEND_OK = 0,
    APPEND_FULL,
    APPEND_TOO_BIG,
    APPEND_NO_MEMORY,
    APPEND_NO_NAMESPACE, /* nobody could be in it */
    APPEND_NOT_A_MESSAGE /* /ws carries the event "message" with one argument only */
};
MUST_USE enum append_result append_emit(struct admin *a, const struct command *c);
MUST_USE enum append_result append_disconnect(struct admin *a, const struct command *c);
MUST_USE enum append_result append_frame(struct admin *a, const struct command *c,
                                         struct slice payload, bool binary);

/* --- status.c --- */

/* False: not ready. `out` says why, or what is amiss. */
MUST_USE bool status_ready(struct admin *a, struct page *out);
void status_workers(struct admin *a, struct page *out); /* JSON */

/* --- server.c --- */

/* Serves the listeners until SIGTERM or the end of the life pipe. 0, or -errno. */
MUST_USE int server_run(struct admin *a, int signal_fd);

#endif
