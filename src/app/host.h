/* host.h: the inner side of include/peal/app.h: what a worker gives its applications, in one struct per worker process.
 *
 * Every call of an application's function is between host_enter and host_leave: they know whose it is (for the log), how long it took, and which text it has in
 * hand that need not be validated again. Calls nest: a handler that disconnects a socket has its disconnect handler called. */
#ifndef PEAL_APP_HOST_H
#define PEAL_APP_HOST_H

#include <pthread.h>

#include "app/locals.h"
#include "app/posts.h"
#include "app/requests.h"
#include "app/tickets.h"
#include "app/timers.h"
#include "base/log.h"
#include "peal/app.h"
#include "session/clients.h"

/* One application in this worker, whatever the number of namespaces it serves. */
struct app {
    const struct peal_app *api;
    const void *base; /* where its code was loaded */
    struct log_rate slow;
    bool started;
};

struct peal_host {
    struct hub *hub;
    pthread_t owner;                            /* the loop's thread */
    struct app apps[CONFIG_NAMESPACES_MAX + 1]; /* [0]: none */
    uint32_t n_apps;
    uint8_t by_section[CONFIG_NAMESPACES_MAX]; /* index into apps */

    struct app *current;  /* whose function runs; NULL: nobody's */
    struct slice in_hand; /* JSON that has been validated, of the event that is being handled */
    uint32_t n_attached;  /* its attachments: its placeholders are right for so many */
    uint32_t n_emitted;   /* records appended by the function that runs */
    bool retried;         /* it is called again if it says PEAL_FULL */

    struct locals locals;
    struct tickets tickets;
    struct requests requests;
    struct timers timers;
    struct posts posts;
    struct log_rate misuse;
    uint32_t n_pending; /* CONNECTs that wait for an application's answer */
    char *handshake;    /* peal_handshake's answer */
    uint32_t handshake_max;
    peal_fn last_posted; /* whose it is: found once, posts come in series */
    struct app *last_poster;
    char *text; /* prefixes and reply frames; grows to the longest */
    uint32_t text_max;
};

/* --- handles --- */

peal_socket host_socket(struct hub *h, const struct sock *k);
struct sock *host_sock(const struct peal_host *host, peal_socket socket); /* NULL: gone */
/* The same for what changes it: NULL also while it is leaving. */
struct sock *host_living(const struct peal_host *host, peal_socket socket);
struct app *host_app(struct peal_host *host, const struct sock *k);
struct local *host_local(struct peal_host *host, const struct sock *k);

/* --- calls of applications --- */

struct handler {
    struct app *outer;
    struct slice outer_in_hand;
    uint32_t outer_attached;
    bool outer_retried;
    const char *name;
    uint64_t began_ms;
};
void host_enter(struct peal_host *host, struct handler *call, struct app *app, const char *name);
/* `detail` (may be absent): of an event its name. */
void host_leave(struct peal_host *host, const struct handler *call, struct peal_text detail);

/* Is this the loop's thread? If not, says in the log that `function` was refused. */
bool host_on_loop(const struct peal_host *host, const char *function);

/* --- shared by the files behind app.h --- */

static inline struct slice slice_from(struct peal_text t)
{
    return (struct slice){ t.bytes, t.n_bytes };
}
static inline struct peal_text text_from(struct slice s)
{
    return (struct peal_text){ s.bytes, s.n_bytes };
}

/* Copies names; false: over PEAL_ROOMS_MAX, or one is over NAME_BYTES_MAX. */
MUST_USE bool names_from(struct slice *out, const struct peal_text *names, uint32_t n);

/* Room for `n` bytes in host->text, or NULL. */
MUST_USE char *host_text(struct peal_host *host, uint64_t n_bytes);

/* Lets a PENDING socket in, on behalf of its application. */
void host_accept(struct peal_host *host, struct sock *k, const struct slice *rooms,
                 uint32_t n_rooms);
/* A PENDING socket that has not been answered at once waits, bounded in number and time. */
void host_await_answer(struct peal_host *host, struct sock *k);
void host_answered(struct peal_host *host, const struct sock *k);

/* Calls `connection` for a socket that was let in, unless that has been done. PEAL_FULL: it must be called again. The socket may be gone afterwards. */
enum peal_result host_tell(struct peal_host *host, struct sock *k);

#endif
