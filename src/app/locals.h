/* locals.h: what the application layer keeps of each socket of this worker, beside the session layer's table and with the same index. Untouched, hence
 * without memory, for sockets whose namespace has no application. */
#ifndef PEAL_APP_LOCALS_H
#define PEAL_APP_LOCALS_H

#include "base/slice.h"

/* A list of tickets: indices + 1; 0: none. */
struct ticket_list {
    uint32_t oldest;
    uint32_t newest;
    uint32_t n;
};

struct local {
    void *pointer; /* the application's own */
    void (*release)(void *pointer);
    char *data;            /* JSON; NULL: {} */
    uint64_t answer_timer; /* a CONNECT that waits for its answer: until when */
    struct ticket_list tickets;
    uint32_t n_data;
    uint32_t next; /* UNTOLD: those whose `connection` is to be called: index + 1 */
    uint32_t prev;
    uint8_t flags;
};
#define LOCAL_UNTOLD  1u
#define LOCAL_LEAVING 2u /* its disconnect handlers are being called */
#define LOCAL_WAITS   4u /* its CONNECT waits for the application's answer */

struct locals {
    struct local *items; /* [max] */
    uint32_t max;
    uint32_t first_untold; /* index + 1 */
    uint32_t last_untold;
    uint64_t data_bytes; /* of all */
};

MUST_USE bool locals_init(struct locals *ls, uint32_t max);
void locals_destroy(struct locals *ls);

/* Its `connection` is to be called, in order; and it is no more. */
void local_untold_add(struct locals *ls, uint32_t index);
void local_untold_remove(struct locals *ls, uint32_t index);

enum local_result { LOCAL_OK = 0, LOCAL_LIMIT, LOCAL_NO_MEMORY };
/* Copies JSON; data.bytes == NULL: forgets it. LOCAL_LIMIT: PEAL_DATA_BYTES_MAX or _TOTAL. Not OK: nothing changed. */
MUST_USE enum local_result local_set_data(struct locals *ls, uint32_t index, struct slice data);

/* The pointer is released. */
void local_set_pointer(struct locals *ls, uint32_t index, void *pointer, void (*release)(void *));

/* The socket has ended: everything but its tickets, which have been forgotten, is freed and zero. */
void local_end(struct locals *ls, uint32_t index);

#endif
