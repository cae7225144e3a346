/* forward_state.h: what the files of `forward` share: forward.c the application and its messages; forward_clients.c who comes and goes; forward_events.c what
 * clients say. One instance in a worker, and one thread: each file keeps its own part. */
#ifndef PEAL_APP_FORWARD_STATE_H
#define PEAL_APP_FORWARD_STATE_H

#include "app/forward.h"

enum forward_state { FORWARD_ASKING = 0, FORWARD_IN, FORWARD_GONE };

/* The peal_pointer of a socket. */
struct forward_client {
    struct forward_client *next;  /* in one of the lists of forward_clients.c */
    struct forward_client *newer; /* in that of all */
    struct forward_client *older;
    peal_socket socket; /* 0: it has ended */
    peal_timer timer;   /* ASKING: until when */
    uint64_t seq;       /* of its last event */
    char id[PEAL_SOCKET_ID_BYTES];
    uint16_t hash;
    uint8_t state; /* enum forward_state */
    bool
        recovered; /* it is back: it has its CONNECT packet, and must be put out if nobody knows it */
    bool sent;     /* peal:connect was */
    bool open;     /* its answers may come */
    bool late;     /* open for those that come too late */
    bool in_list;
    bool
        told; /* peal:disconnect was said by its disconnect handler, which knows more than its end does */
    const char *why; /* for peal:disconnect, if it was not let in */
    char *farewell;  /* the whole message, while it waits */
    uint32_t n_farewell;
    uint32_t n_nsp;
    char nsp[];
};

struct peal_text forward_id(const struct forward_client *c);
struct peal_text forward_nsp(const struct forward_client *c);

/* Room for a message of about `n_bytes` and a socket's data, valid until the next call. False: no memory. */
bool forward_begin(struct peal_out *out, uint64_t n_bytes);
/* `,"data":...,"hash":...}]`; absent data is {}. */
void forward_put_end(struct peal_out *out, struct peal_text data, uint32_t hash);

/* forward_clients.c: handlers of struct peal_app. */
void forward_on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth);
enum peal_result forward_on_connection(struct peal_host *host, peal_socket socket);
void forward_on_disconnect(struct peal_host *host, peal_socket socket, const char *reason);
void forward_on_second(struct peal_host *host);
void forward_clients_start(struct peal_host *host);
void forward_clients_stop(struct peal_host *host);

/* forward_events.c */
bool forward_events_start(void);
void forward_events_stop(void);
enum peal_result forward_on_event(struct peal_host *host, peal_socket socket,
                                  const struct peal_event *event, bool *handled);

#endif
