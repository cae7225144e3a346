/* packer.h: the second copy of a broadcast's frames, compressed once, by whoever appends it, for all clients with permessage-deflate on this host. */
#ifndef PEAL_SESSION_PACKER_H
#define PEAL_SESSION_PACKER_H

#include "proto/ws.h"
#include "shm/counters.h"
#include "shm/record.h"
#include "shm/ring.h"

struct deflater;

/* One for each process that appends messages. Zeroed memory is one that never packs. */
struct packer {
    struct ring *ring;
    struct shm_counters *row;
    struct deflater *deflater; /* NULL: deflate = no */
    uint8_t *bytes;            /* the copy last made */
    uint32_t room;             /* at most PACKER_ROOM_MAX */
    int64_t left_us;           /* of the budget; less than 0: the last message took more */
    uint64_t filled_us;        /* when it was last added to */
};

#define PACKER_ROOM_MAX (DEFLATE_BYTES_MAX + WS_HEADER_MAX)

/* Does nothing with deflate = no. False: out of memory. The first call of all; `ring` and `row` are the process's own, and outlive it. */
MUST_USE bool packer_open(struct packer *p, struct ring *ring, struct shm_counters *row);
void packer_close(struct packer *p);

/* Memory of one, at most. */
uint64_t packer_bytes(void);

/* Gives `spec` a second copy, borrowed until the next call, where it is a broadcast that may be compressed, one of its frames is deflate_threshold long or longer, a client here
 * can make use of it, and it is smaller. To be called when the rest of `spec` is complete, record_ask_offset included, and before anything is reserved. */
void packer_pack(struct packer *p, struct record_spec *spec);

#endif
