/* replay.h: what clients missed, out of the ring's history. Several that are being replayed to share one walk: each record is copied and validated once.
 *
 * A replay simulates the socket from where its worker stopped: records that let it join or leave change the rooms that decide about the records
 * behind them. Rooms know since when they count, so nothing is given from before a join. */
#ifndef PEAL_SESSION_REPLAY_H
#define PEAL_SESSION_REPLAY_H

#include "session/hub.h"
#include "shm/recoverable.h"

struct replay_room {
    uint64_t hash;
    uint64_t since;
    uint8_t n_bytes;
    char name[NAME_BYTES_MAX];
};

enum replay_end {
    REPLAY_GOES_ON = 0,
    REPLAY_OVERRUN,     /* what comes next has been written over */
    REPLAY_DISCONNECTED /* a record disconnects it */
};

struct replay {
    struct directory
        *directory;   /* its rooms are in it as if they had a member: what is for them comes */
    struct slice nsp; /* borrowed from the host's table */
    char id[SOCKET_ID_CHARS];
    uint64_t at;     /* the next record */
    uint64_t from;   /* events before it have been received */
    uint64_t resume; /* joins and leaves before it are in `rooms` */
    struct replay_room *rooms;
    uint32_t n_rooms;
    uint32_t rooms_max;
    uint64_t everyone; /* hash of the namespace as a whole */
    bool is_open;
    bool changed;     /* rooms are not those that are stored */
    bool blocked;     /* its client has not taken what it was given; set by the caller */
    uint8_t end;      /* enum replay_end */
    uint32_t n_given; /* bytes in this turn */
    void *client;     /* the caller's, for `give` */
};

/* Takes the stored rooms. False: no memory, or they are damaged. */
MUST_USE bool replay_open(struct replay *r, const uint64_t hash_key[2], struct slice stored);
void replay_close(struct replay *r);

/* The rooms in the stored form; false: they do not fit. */
MUST_USE bool replay_rooms(const struct replay *r, uint8_t *out, uint32_t *n_bytes);

struct replay_walk {
    const struct ring *ring;
    uint64_t until; /* records from here on are not looked at */
    void (*give)(void *context, struct replay *r, const struct record_view *view);
    void *context;
    uint8_t *record; /* the walk's copy; grows to the longest */
    uint32_t record_max;
};

/* Walks on from the earliest of those that can go on; each has then been given what is for it. True: all of them that are not blocked or at their end
 * have arrived at `until`. */
MUST_USE bool replay_walk(struct replay_walk *w, struct replay *const *replays, uint32_t n);

#endif
