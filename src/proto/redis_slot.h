/* redis_slot.h: which part of a Redis Cluster a name belongs to, and where a node sends us instead
 * of answering. Sans-IO. Source: the Redis Cluster specification. */
#ifndef PEAL_PROTO_REDIS_SLOT_H
#define PEAL_PROTO_REDIS_SLOT_H

#include "base/slice.h"

#define REDIS_SLOTS 16384

/* CRC16 (XMODEM) modulo REDIS_SLOTS, of what is between the first '{' and the next '}' if there is
 * something between, else of the whole name. */
uint16_t redis_slot(struct slice name);

enum redis_refusal {
    REFUSAL_OTHER = 0,  /* an error like any other */
    REFUSAL_MOVED,      /* the slot is somebody else's: from now on */
    REFUSAL_ASK,        /* ... for this one command, after ASKING */
    REFUSAL_NOT_NOW,    /* CLUSTERDOWN, TRYAGAIN, LOADING, MASTERDOWN: again a little later */
    REFUSAL_NO_CLUSTER, /* the server is none: there is one node, and all slots are its */
};

struct redis_redirection {
    enum redis_refusal kind;
    uint16_t slot;     /* MOVED, ASK */
    struct slice host; /* ... n_bytes == 0: that of the node that says so; points into the error */
    uint16_t port;
};

/* Reads the text of an error, without its '-'. */
struct redis_redirection redis_redirection(struct slice error);

#endif
