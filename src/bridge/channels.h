/* channels.h: the channels that this host needs, who on it needs them, and where they are subscribed. A table; nothing here speaks to Redis.
 *
 * A channel is there while somebody holds it, and some time longer: a room whose last member has just gone may have one again, or a client that may come
 * back to it (recovery). Those that nobody holds wait in a list in the order in which their time runs out. */
#ifndef PEAL_BRIDGE_CHANNELS_H
#define PEAL_BRIDGE_CHANNELS_H

#include "base/slice.h"
#include "peal/limits.h"

#define CHANNEL_NONE      UINT32_MAX
#define CHANNEL_NODE_NONE UINT8_MAX

struct channel {
    char *name;       /* NULL: a free entry, `next` is the free list */
    uint64_t holders; /* mask of slots: workers with members, the bridge for what it needs itself */
    uint64_t until_ms; /* nobody holds it: kept until then */
    uint32_t next;     /* chain of the hash bucket */
    uint32_t older;    /* nobody holds it: neighbours in the list */
    uint32_t newer;
    uint32_t n_name_bytes;
    /* the subscription; the user's */
    uint32_t epoch; /* of the connection that it was asked for on */
    uint64_t asked_ms;
    uint16_t slot;
    uint8_t node; /* whom; CHANNEL_NODE_NONE: nobody */
    bool confirmed;
};

struct channels {
    struct channel *entries;
    uint32_t n_entries; /* ever used: 0 to n_entries - 1 may be looked at, free ones have no name */
    uint32_t n_used;
    uint32_t _max;
    uint32_t _entries_max;
    uint32_t _free;
    uint32_t *_buckets; /* a power of two; index + 1 */
    uint32_t _n_buckets;
    uint32_t _oldest;
    uint32_t _newest;
    const uint64_t *_key; /* of the hash: names are chosen by others */
};

/* At most `max` channels. `key` (record_hash) is borrowed. False: out of memory. */
MUST_USE bool channels_init(struct channels *cs, uint32_t max, const uint64_t key[2]);
void channels_destroy(struct channels *cs);

static inline struct slice channel_name(const struct channel *c)
{
    return slice_of(c->name, c->n_name_bytes);
}

uint32_t channels_find(const struct channels *cs, struct slice name); /* or CHANNEL_NONE */
bool channels_full(const struct channels *cs);

/* `holders` need it from now on; made if it is not there: then it is subscribed nowhere. CHANNEL_NONE: full, or out of memory. */
MUST_USE uint32_t channels_hold(struct channels *cs, struct slice name, uint64_t holders);

/* They need it no more. The last one: it stays until `until_ms`, and until those go that were released before. */
void channels_release(struct channels *cs, uint32_t index, uint64_t holders, uint64_t until_ms);

/* Of those that nobody holds the one whose time runs out first; CHANNEL_NONE: there is none. */
uint32_t channels_oldest(const struct channels *cs);
void channels_remove(struct channels *cs, uint32_t index);

/* Asserts what must always be true. */
void channels_check(const struct channels *cs);

#endif
