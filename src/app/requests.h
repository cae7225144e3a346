/* requests.h: what this worker's applications have asked, and wait for: acknowledgements of an emit, answers of workers and of the cluster. Answers come through
 * the ring, as records with the request's id; a request ends when everybody has answered, when its time is up, or with the worker. The bridge is asked like a
 * worker, for all other servers: its last record (RECORD_LAST) tells how they did, [asked,answered,"uid",...], see bridge/ask.c. */
#ifndef PEAL_APP_REQUESTS_H
#define PEAL_APP_REQUESTS_H

#include "app/timers.h"
#include "shm/record.h"

struct app;
struct hub;

enum request_kind {
    REQUEST_ACKS = 0, /* workers tell how many were asked; then their acknowledgements come */
    REQUEST_LIST,     /* each worker sends parts of a list, without brackets */
    REQUEST_COUNT,    /* each worker sends a number */
    REQUEST_WORKERS, /* each worker's application sends one array, or says that it has none to send */
    REQUEST_CLUSTER /* the bridge sends what each server answered: handed out as it comes (cluster.c) */
};

struct answer; /* one that has come */

struct request {
    uint64_t id; /* 0: a free entry */
    uint64_t
        waiting; /* workers, and the bridge, that have not answered (REQUEST_ACKS: not told their number) */
    struct app *app;
    peal_answers_fn fn; /* not of REQUEST_CLUSTER, which has these: */
    peal_cluster_answer_fn answer_fn;
    peal_cluster_done_fn done_fn;
    void *context;
    peal_timer timer;
    struct answer *first;
    struct answer *last;
    char *list;     /* REQUEST_LIST: with its opening bracket */
    uint64_t count; /* REQUEST_COUNT */
    uint32_t n_list;
    uint32_t n_bytes; /* of all answers */
    uint32_t n_answers;
    uint32_t n_expected;
    uint8_t kind; /* enum request_kind */
    bool single;  /* REQUEST_ACKS: of one socket */
    bool unique;  /* REQUEST_LIST: an entry that came twice is one */
    bool truncated;
    bool lost;        /* a worker died */
    bool unreachable; /* other servers could not be asked, or not be heard */
    bool counted;     /* REQUEST_CLUSTER: n_expected is known */
    bool overtime;    /* its time is up; the bridge will tell who was silent */
    uint32_t n_servers;
    uint32_t n_silent;
    char *silent; /* the rest of what the bridge told: "uid",...] */
    uint32_t n_silent_bytes;
};

struct requests {
    struct request *items; /* [PEAL_REQUESTS_MAX]: a request's place is its id's counter, modulo */
    uint32_t n;
    uint64_t n_bytes;
};

MUST_USE bool requests_init(struct requests *rs);
void requests_destroy(struct requests *rs);

/* A new one, whose id is unique on this host for ever: the counter lives in the slot and survives its process. NULL: PEAL_REQUESTS_MAX wait. */
struct request *request_open(struct requests *rs, struct hub *h, enum request_kind kind);
/* It was not sent after all, or has been answered: frees all. */
void request_close(struct requests *rs, struct request *r);

struct request *request_find(struct requests *rs, uint64_t id);

/* A record for one of them: RECORD_ACK or RECORD_REPLY. Returns the request if that completes it. */
struct request *requests_take(struct requests *rs, const struct record_view *view);

/* The process in `slot` is dead. The next request that this completes, from `*at` on, which begins with 0; call until NULL. */
struct request *requests_gone(struct requests *rs, uint32_t slot, uint32_t *at);

bool request_complete(const struct request *r);

/* What to tell the application, to be freed with request_answers_free. False: no memory, then it is empty. */
bool request_answers(struct request *r, bool timed_out, struct peal_answers *out);
void request_answers_free(struct peal_answers *out);

#endif
