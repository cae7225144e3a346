/* caller.h: one connection to the admin listener: its states, and what they wait for. Private to
 * src/admin. */
#ifndef PEAL_ADMIN_CALLER_H
#define PEAL_ADMIN_CALLER_H

#include "admin/state.h"
#include "base/log.h"

enum caller_state {
    CALLER_FREE = 0,
    CALLER_HEAD,
    CALLER_BODY,
    CALLER_ANSWER,
    CALLER_WRITE,
    CALLER_LINGER,
    CALLER_STATES
};

#define ANSWER_HEAD_MAX 1024

struct caller {
    enum caller_state state;
    int fd;
    struct peer_address peer;
    uint64_t deadline_ms;
    char *input; /* HTTP_HEAD_MAX bytes; the request points into it until it is answered */
    uint32_t n_input;
    uint32_t scanned;
    uint32_t head_bytes;
    bool keep;      /* the connection outlives the answer */
    bool only_head; /* a HEAD was asked for: the body is only described */
    bool unseen;    /* HEAD: a request may lie in `input`, and it was the others' turn */
    struct http_request request;
    char *body;
    uint32_t n_body;
    uint32_t body_bytes; /* announced, and charged to server.bodies_bytes while `body` exists */
    struct answer answer;
    char head[ANSWER_HEAD_MAX];
    uint32_t n_head;
    uint32_t n_sent;
    uint32_t n_drained;
};

struct server {
    struct admin *admin;
    struct caller callers[ADMIN_CLIENTS_MAX];
    uint32_t n_callers;
    uint32_t bodies_bytes;
    uint32_t n_waiting; /* in ANSWER: the ring is full */
    int reserve_fd;
    uint64_t listen_again_ms;
    struct log_rate accept_log;
};

/* Takes over `fd` (nonblocking) and begins to read. False: no place; the caller keeps the descriptor. */
MUST_USE bool caller_open(struct server *s, int fd, const struct sockaddr_storage *address);

/* Goes on as far as possible without waiting. */
void caller_run(struct server *s, struct caller *c);

/* Its deadline has passed: an answer that says so where somebody waits for one, else the end. */
void caller_late(struct server *s, struct caller *c);

void caller_free(struct server *s, struct caller *c);

/* What poll(2) is to look for. */
short caller_events(const struct caller *c);

#endif
