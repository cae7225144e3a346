/* inbox.h: a UNIX seqpacket socket per slot that every process may write to and that outlives the process in the slot. What goes through it
 * are parcels: a flat record, versioned, without pointers, and usually a descriptor (design: the parcel). EAGAIN is an ordinary state. */
#ifndef PEAL_NET_INBOX_H
#define PEAL_NET_INBOX_H

#include <netinet/in.h>

#include "base/address.h"

#define PARCEL_VERSION  1
#define INBOX_BATCH_MAX 64    /* parcels in one packet */
#define INBOX_BYTES_MAX 32768 /* of a request, with what was read behind it */

enum parcel_kind {
    PARCEL_CONNECTION = 1, /* a new connection, with its descriptor */
    PARCEL_COMMAND,        /* to the master: `command`, no descriptor */
    PARCEL_REQUEST /* a connection with the bytes already read from it (alone in its packet): a request of the receiver's session */
};

enum parcel_command { COMMAND_NONE = 0, COMMAND_DRAIN, COMMAND_LIMITS, COMMAND_RELOAD };

/* Why a connection that is placed anyway must be refused if it wants to become a client. */
enum parcel_refusal {
    REFUSE_NOT = 0,
    REFUSE_HOST_LIMIT,
    REFUSE_WORKER_LIMIT,
    REFUSE_RATE,
    REFUSE_DRAINING,
    REFUSE_IP_LIMIT
};

struct parcel {
    uint16_t version;
    uint8_t kind;    /* enum parcel_kind */
    uint8_t refusal; /* enum parcel_refusal */
    uint8_t
        has_place; /* leastconn: this connection holds a place (slot.places) until it is settled */
    uint8_t command;
    uint8_t proxy; /* REQUEST: enum conn_proxy (net/conn.h) */
    uint8_t _reserved;
    uint32_t from_slot;
    uint32_t value; /* COMMAND_LIMITS: new limit; REQUEST: how many bytes follow */
    struct peer_address peer;
};

/* Makes the pair: [0] read end, [1] write end; both nonblocking and CLOEXEC, with enough SO_SNDBUF for 8 full batches or more. 0 or -errno. */
MUST_USE int inbox_open(int fds[2]);

/* Sends one packet of `n` parcels (1 to INBOX_BATCH_MAX) with their descriptors (-1: none; those with one first). 0: sent, the receiver
 * has copies, the caller closes its own. -EAGAIN: full. Other -errno. Nothing is sent in part. */
MUST_USE int inbox_send(int fd, const struct parcel *parcels, const int *fds, uint32_t n);

/* Sends a REQUEST with its descriptor and `bytes` (at most INBOX_BYTES_MAX). As inbox_send. */
MUST_USE int inbox_send_request(int fd, const struct parcel *parcel, int client,
                                struct slice bytes);

/* Receives one packet; descriptors are CLOEXEC. Returns the number of parcels, 0: nothing there, or -errno. Packets of another version or
 * truncated ones are dropped with their descriptors closed, and logged. `bytes`: room for INBOX_BYTES_MAX, for those of a REQUEST; may be NULL in a
 * process that gets none (one would be dropped). */
MUST_USE int inbox_receive(int fd, struct parcel parcels[INBOX_BATCH_MAX], int fds[INBOX_BATCH_MAX],
                           uint8_t *bytes);

void peer_address_from(struct peer_address *out, const struct sockaddr_storage *address);

#endif
