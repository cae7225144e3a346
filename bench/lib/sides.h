/* sides.h: the servers that are measured against each other, by name, and how each is spoken to.
 *
 * Owns: nothing; see machine.h. What belongs to a peer (Node, nginx) is in bench/peers. */
#ifndef BENCH_LIB_SIDES_H
#define BENCH_LIB_SIDES_H

#include "lib/engine.h"
#include "lib/machine.h"

#define SIDE_PATH_BYTES 64u

/* Names of all sides, for --help. */
#define SIDES_HELP                                                                        \
    "comma-separated: peal, peal_socketio, bare_send, bare_send_coalescing, bare_uring, " \
    "bare_uring_coalescing, bare_echo, bare_connect, node, node_cluster, node_redis, nchan"

struct side_kind {
    const char *name;
    const char *program;  /* "peal", one beside this program, or one of --peers */
    const char *argument; /* after the port, or NULL */
    enum dialect dialect;
    bool peer;
    const char *subscribe; /* plain: the path before a room's name */
    const char *publish;
};

/* Dies when no side is called that. */
const struct side_kind *side_find(const char *name);

/* As server_launch(). `o` gives workers, CPUs, and for Peal its binary and further arguments; the
 * rest is the kind's. `peers` is the folder of the peers. */
void side_launch(struct server *s, const struct side_kind *kind, struct server_options o,
                 const char *peers);

/* Where a client of `room` connects to. */
void side_target(struct target *t, const struct side_kind *kind, uint16_t port, uint32_t room,
                 bool publisher);

#endif
