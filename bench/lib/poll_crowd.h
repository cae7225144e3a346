/* poll_crowd.h: Socket.IO clients that poll, in one process, on an epoll of their own.
 *
 * Each has two connections that are kept alive: one always has a GET with the server, the other takes its POSTs.
 *
 *   OPENING (GET without sid) -> CONNECTING (POST 40) -> JOINING (POST of a join) -> READY
 *
 * Invariant: at most one request is under way on each connection.
 * Owns:      descriptors and what of an answer has come. Whatever a server must not do ends the process (die). */
#ifndef BENCH_LIB_POLL_CROWD_H
#define BENCH_LIB_POLL_CROWD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define POLL_ANSWER_MAX 262144u /* bytes of one answer, head and body */

enum poll_state { POLL_OPENING = 0, POLL_CONNECTING, POLL_JOINING, POLL_READY };

struct poll_client {
    struct poll_wire {
        char *answer; /* so far */
        uint32_t n_bytes;
        int fd;
        bool busy;
    } get, post;
    char sid[64];
    uint64_t n_events; /* events received, the answer to the join not counted */
    uint8_t state;     /* enum poll_state */
    char next[128];    /* packets for the next POST, while one is under way */
};

struct poll_crowd {
    struct poll_client *clients;
    uint32_t n_clients;
    uint32_t n_started;
    uint32_t n_ready;
    uint64_t n_events; /* of all */
    char room[32];
    int epoll_fd;
    struct sockaddr_in server;
    struct in_addr source;
};

/* `n` clients from one source address, not started yet, that will join `room` ("": none). */
void poll_crowd_init(struct poll_crowd *p, uint16_t port, struct in_addr source, uint32_t n,
                     const char *room);

/* Starts who has not been started, a few at a time; waits for at most `timeout_ms`; handles what has come. */
void poll_crowd_turn(struct poll_crowd *p, int timeout_ms);

/* Closes all of it at once. */
void poll_crowd_destroy(struct poll_crowd *p);

#endif
