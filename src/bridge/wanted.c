/* wanted.c: whether anybody on this host can want a broadcast of Redis. What nobody can is dropped before it is decoded.
 *
 * The channel names the room, or none: then the namespace as a whole is what counts. The directory says which rooms have members, and which are of sockets
 * that may come back; a socket's own room is its entry in the session table.
 * Invariant: nothing is dropped that was published after a join of Redis or of this host: as long as a worker has not taken in the last join record, the
 *            directory does not know it, and everything is wanted. */
#include "bridge/state.h"
#include "proto/engineio.h"
#include "shm/directory.h"
#include "shm/sessions.h"

/* A socket's own room is not in the directory. */
static bool is_socket(const struct bridge *b, struct slice room)
{
    uint8_t id[SOCKET_ID_BYTES];

    return room.n_bytes == SOCKET_ID_CHARS && base64url_decode(id, room) &&
           session_exists(&b->region, socket_id_index(id), id);
}

bool bridge_wants(const struct bridge *b, struct slice nsp, struct slice room)
{
    uint64_t hash;

    if (room.n_bytes > NAME_BYTES_MAX)
        return false; /* no name of ours */
    if (!ring_joins_taken(&b->ring))
        return true;
    hash = record_hash(b->region.header->hash_key, nsp, room);
    return directory_wanted(&b->region, record_bucket(hash)) || is_socket(b, room);
}
