/* limits.h: every bound that is not configuration, in one place, and what they add up to.
 *
 * Bounds that the operator sets are in the configuration reference; memory_bound_* in src/master sums both kinds at start-up and logs them. */
#ifndef PEAL_LIMITS_H
#define PEAL_LIMITS_H

/* --- processes --- */
#define PEAL_WORKERS_MAX 62
#define PEAL_SLOT_BRIDGE 62
#define PEAL_SLOT_ADMIN  63
#define PEAL_SLOTS       64 /* with a bit in masks: workers 0 to 61, bridge, admin */
#define PEAL_SLOT_MASTER 64 /* has an inbox and a ring slot, no bit */
#define PEAL_SLOTS_ALL   65

/* --- the ring --- */
#define RING_UNIT_BYTES       64u
#define RING_BYTES_MIN        (1u << 20)
#define RING_BYTES_MAX        (1ull << 32)
#define RING_TURN_COMMITS_MAX 256 /* records that one producer commits before it must ring */
#define RING_TURN_BUCKETS_MAX \
    256 /* distinct directory buckets it may have to look up; beyond it everybody is rung */
#define RECORD_NAMES_MAX 8192 /* rooms, excepted rooms and argument rooms of one record, together */
#define RECORD_PARTS_MAX 256  /* frames of one event: text and attachments */

/* --- names --- */
#define NAME_BYTES_MAX 255  /* rooms, namespaces, event names of clients */
#define NAMESPACES_MAX 1024 /* live on one host, dynamic ones included */
#define NAMESPACES_DYNAMIC \
    896 /* of them for names that clients choose, in equal shares for the configured prefixes; the rest is more than
         * configured names can be (NAMESPACE_SECTIONS and /ws) */
#define NAMESPACE_SECTIONS 64  /* = CONFIG_NAMESPACES_MAX */
#define NAMESPACES_NAMED   100 /* with a label of their own in metrics; the rest is `other` */

/* --- directory and identities --- */
#define DIRECTORY_BUCKETS  (1u << 16)
#define SESSION_INDEX_BITS 24

/* --- a worker --- */
#define WORKER_SQ_ENTRIES          1024
#define WORKER_CQ_ENTRIES          16384
#define WORKER_SEND_BATCH          256 /* SQEs per enter at most */
#define WORKER_SWEEP_SLICE         2048 /* sends per loop turn before timers and input get their turn */
#define WORKER_RECORDS_PER_TURN    256   /* records taken off the ring before they are sent */
#define WORKER_NODES_PER_BATCH     65536 /* pending nodes of one batch (fanout.c) */
#define WORKER_CONTROL_ARENA_BYTES (4u << 20)
#define WORKER_DEFERRED_MAX        8192 /* acknowledgements, joins and leaves that wait for the cursor */
#define CONN_RECEIVE_BATCH         128 /* receives per enter at most, and receive buffers of a worker */
#define RECEIVE_BUFFER_BYTES       4096u /* of each */
#define RECEIVE_BYTES_WORKER       (CONN_RECEIVE_BATCH * RECEIVE_BUFFER_BYTES)
#define WS_CONTEXTS_MAX            1024  /* lent wslay contexts per worker: 4.4 MB */
#define WORKER_REPLAYS_MAX         16384 /* clients that wait for what they missed */
#define REPLAY_CHECKS_PER_TURN     32768 /* records times clients that are looked at in one turn */
#define REPLAY_BYTES_PER_TURN      (4u << 20)   /* records read in one turn */
#define REPLAY_AHEAD_BYTES         (256u << 10) /* for one client, before it has taken them */
#define PENDING_CONNECTS_MAX       1024         /* CONNECTs in middleware, per worker */
#define CLIENT_SEND_BUFFER_BYTES \
    212992 /* SO_SNDBUF of clients' sockets (the kernel doubles it for its own overhead) */
#define CLOSE_LINGER_MS   1000
#define CLOSE_DRAIN_BYTES 65536
#define FD_RESERVE        64 /* descriptors of a process kept from clients */

/* --- the bridge: each of its connections to Redis --- */
#define LINK_REPLY_MAX    (64u << 20) /* bytes of one reply; beyond it the connection is made anew */
#define LINK_ELEMENTS_MAX (256u << 10) /* of one reply, nested ones included; beyond it as well */
#define LINK_COMMANDS_MAX \
    (16u << 20)            /* memory of commands that wait to be written; then no more are taken */
#define LINK_FLIGHT_MAX 64 /* writes that wait for answers ... */
#define LINK_FLIGHT_BYTES \
    (1u << 20) /* ... and bytes of messages in them, beyond which no more are written */
#define LINK_BACKOFF_MAX_MS  1000  /* between two attempts: Redis is back within seconds, or not */
#define LINK_BACKOFF_SLOW_MS 30000 /* where a person has to do something first: a wrong password */

/* --- the bridge, with redis_adapter = sharded --- */
#define REDIS_MASTERS_MAX 64 /* of a Redis Cluster: two connections to each */
#define REDIS_FLIGHT_BYTES \
    (4u                    \
     << 20) /* messages that one master has not answered: what goes over it is not kept, and lost if it is refused */
#define BRIDGE_ROOMS_MAX \
    (1u                  \
     << 20) /* rooms of this host with a channel of their own: about 80 bytes and the name, each */

/* --- permessage-deflate: of each process that appends messages --- */
#define DEFLATE_LEVEL     3
#define DEFLATE_MEM_LEVEL 8 /* zlib's; see session/packer.c for why these two */
#define DEFLATE_BYTES_MAX \
    (1u                   \
     << 20) /* of a message with its attachments: a larger one would hold up its process for too long, and goes as it is */
#define DEFLATE_PER_SECOND_US \
    250000u                     /* of compressing in a second; beyond it messages go as they are */
#define DEFLATE_BURST_US 50000u /* of that at once, in a turn of the loop */

/* --- time --- */
#define STALL_TIMEOUT_MS 2000
#define TAKEOVER_MS      2000 /* for a client's old connection to end when it is back on a new one */
#define LIFE_LOST_MS     5000 /* the master is gone: everything ends within it */
#define UNTOLD_KEEP_MS \
    600000 /* forward: for the bridge to tell the ends of a dead worker's sockets, Redis being away */

#endif
