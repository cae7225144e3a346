/* rooms.h: who is in which room on this worker. A room exists while somebody is in it or about to be. */
#ifndef PEAL_SESSION_ROOMS_H
#define PEAL_SESSION_ROOMS_H

#include "base/slice.h"
#include "shm/directory.h"
#include "shm/namespaces.h"

struct room_news;

#define ROOM_NONE UINT32_MAX

/* The connection beside the socket: a sweep touches the connection's cache line and no other. */
struct room_member {
    uint32_t conn;
    uint32_t sock;
};

struct room {
    uint64_t hash; /* record_hash of (namespace, name) */
    union {        /* room_members; dense: swap-remove */
        struct room_member _one;
        struct room_member *_many;
    };
    char *name; /* NULL: the namespace as a whole */
    uint32_t n_members;
    uint32_t _many_max; /* 0: there is place for one, here: what most rooms have */
    uint32_t refs;      /* members, and joins under way; 0: a free entry, `next` is the free list */
    uint32_t next;      /* chain of the hash bucket */
    uint16_t n_name_bytes;
    uint16_t nsp;
};

struct rooms {
    struct region *region; /* a room uses its namespace */
    struct directory *directory;
    struct room_news *news; /* who hears of rooms that come and go; NULL: nobody */
    struct room *rooms;
    uint32_t n_rooms; /* entries ever used */
    uint32_t rooms_max;
    uint32_t free;
    uint32_t *buckets; /* a power of two; index + 1 */
    uint32_t n_buckets;
    uint32_t n_live;
    uint32_t n_named; /* live ones with a name: the gauge */
};

/* 0 or -ENOMEM. */
MUST_USE int rooms_init(struct rooms *rs, struct region *region, struct directory *directory,
                        struct room_news *news);

void rooms_destroy(struct rooms *rs); /* nobody is in any */

static inline struct room *room_at(struct rooms *rs, uint32_t index)
{
    return &rs->rooms[index];
}
/* Borrowed until somebody enters a room or leaves one. */
static inline struct room_member *room_members(struct room *r)
{
    return r->_many_max == 0 ? &r->_one : r->_many;
}
static inline struct slice room_name(const struct room *r)
{
    return (struct slice){ r->name, r->n_name_bytes };
}

/* ROOM_NONE: nobody here is in it. `name.bytes` == NULL: the namespace as a whole. */
uint32_t room_find(const struct rooms *rs, uint64_t hash, uint16_t nsp, struct slice name);

/* Finds or makes it, and holds it; the first reference sets this worker's bit in the directory. ROOM_NONE: out of memory. The caller uses `nsp`. */
MUST_USE uint32_t room_ref(struct rooms *rs, uint64_t hash, uint16_t nsp, struct slice name);
void room_unref(struct rooms *rs, uint32_t index);

/* Adds a member; the caller holds a reference for it. False: out of memory. `at` gets its place, which moves when others leave. */
MUST_USE bool room_add(struct rooms *rs, uint32_t index, struct room_member member, uint32_t *at);

/* Removes the member at `at`; true: another one took its place: `moved`. Does not drop the reference. */
bool room_remove(struct rooms *rs, uint32_t index, uint32_t at, struct room_member *moved);

#endif
