/* channels.c: see channels.h. A hash table with chained buckets over entries that stay in their places.
 *
 * Invariant: an entry without holders is in the list, and no other is; until_ms does not fall from the oldest to the newest.
 * Owns:      the names. */
#include "bridge/channels.h"

#include <assert.h>
#include <stdlib.h>

#include "shm/record.h"

#define ENTRIES_FIRST 64
#define BUCKETS_FIRST 128

bool channels_init(struct channels *cs, uint32_t max, const uint64_t key[2])
{
    *cs = (struct channels){ ._max = max,
                             ._entries_max = ENTRIES_FIRST,
                             ._free = CHANNEL_NONE,
                             ._n_buckets = BUCKETS_FIRST,
                             ._oldest = CHANNEL_NONE,
                             ._newest = CHANNEL_NONE,
                             ._key = key };
    cs->entries = calloc(cs->_entries_max, sizeof *cs->entries);
    cs->_buckets = calloc(cs->_n_buckets, sizeof *cs->_buckets);
    if (cs->entries != NULL && cs->_buckets != NULL)
        return true;
    channels_destroy(cs);
    return false;
}

void channels_destroy(struct channels *cs)
{
    for (uint32_t i = 0; i < cs->n_entries; i++)
        free(cs->entries[i].name);
    free(cs->entries);
    free(cs->_buckets);
    *cs = (struct channels){ ._free = CHANNEL_NONE };
}

static uint32_t *bucket_of(const struct channels *cs, struct slice name)
{
    uint64_t hash = record_hash(cs->_key, name, (struct slice){ NULL, 0 });

    return &cs->_buckets[hash & (cs->_n_buckets - 1)];
}

uint32_t channels_find(const struct channels *cs, struct slice name)
{
    for (uint32_t i = *bucket_of(cs, name); i != 0; i = cs->entries[i - 1].next)
        if (slice_equal(channel_name(&cs->entries[i - 1]), name))
            return i - 1;
    return CHANNEL_NONE;
}

bool channels_full(const struct channels *cs)
{
    return cs->n_used == cs->_max;
}

static void grow_buckets(struct channels *cs)
{
    uint32_t *buckets = calloc((size_t)cs->_n_buckets * 2, sizeof *buckets);

    if (buckets == NULL)
        return; /* longer chains work too */
    free(cs->_buckets);
    cs->_buckets = buckets;
    cs->_n_buckets *= 2;
    for (uint32_t i = 0; i < cs->n_entries; i++) {
        struct channel *c = &cs->entries[i];
        uint32_t *bucket;

        if (c->name == NULL)
            continue;
        bucket = bucket_of(cs, channel_name(c));
        c->next = *bucket;
        *bucket = i + 1;
    }
}

static uint32_t take_entry(struct channels *cs)
{
    uint32_t index = cs->_free;

    if (channels_full(cs))
        return CHANNEL_NONE;
    if (index != CHANNEL_NONE) {
        cs->_free = cs->entries[index].next;
        return index;
    }
    if (cs->n_entries == cs->_entries_max) {
        struct channel *entries =
            reallocarray(cs->entries, (size_t)cs->_entries_max * 2, sizeof *entries);

        if (entries == NULL)
            return CHANNEL_NONE;
        cs->entries = entries;
        cs->_entries_max *= 2;
    }
    return cs->n_entries++;
}

static uint32_t add(struct channels *cs, struct slice name)
{
    char *copy = malloc(name.n_bytes > 0 ? name.n_bytes : 1);
    uint32_t index = copy == NULL ? CHANNEL_NONE : take_entry(cs);
    uint32_t *bucket;

    if (index == CHANNEL_NONE) {
        free(copy);
        return CHANNEL_NONE;
    }
    if (++cs->n_used > cs->_n_buckets)
        grow_buckets(cs);
    memcpy(copy, name.bytes, name.n_bytes);
    bucket = bucket_of(cs, name);
    cs->entries[index] = (struct channel){ .name = copy,
                                           .n_name_bytes = name.n_bytes,
                                           .next = *bucket,
                                           .older = CHANNEL_NONE,
                                           .newer = CHANNEL_NONE,
                                           .node = CHANNEL_NODE_NONE };
    *bucket = index + 1;
    return index;
}

static void leave_list(struct channels *cs, uint32_t index)
{
    struct channel *c = &cs->entries[index];

    *(c->older == CHANNEL_NONE ? &cs->_oldest : &cs->entries[c->older].newer) = c->newer;
    *(c->newer == CHANNEL_NONE ? &cs->_newest : &cs->entries[c->newer].older) = c->older;
    c->older = c->newer = CHANNEL_NONE;
}

uint32_t channels_hold(struct channels *cs, struct slice name, uint64_t holders)
{
    uint32_t index = channels_find(cs, name);

    assert(holders != 0);
    if (index == CHANNEL_NONE) {
        index = add(cs, name);
        if (index == CHANNEL_NONE)
            return CHANNEL_NONE;
    } else if (cs->entries[index].holders == 0) {
        leave_list(cs, index);
    }
    cs->entries[index].holders |= holders;
    return index;
}

void channels_release(struct channels *cs, uint32_t index, uint64_t holders, uint64_t until_ms)
{
    struct channel *c = &cs->entries[index];

    if ((c->holders & holders) == 0)
        return;
    c->holders &= ~holders;
    if (c->holders != 0)
        return;
    if (cs->_newest != CHANNEL_NONE && cs->entries[cs->_newest].until_ms > until_ms)
        until_ms = cs->entries[cs->_newest].until_ms;
    c->until_ms = until_ms;
    c->older = cs->_newest;
    *(c->older == CHANNEL_NONE ? &cs->_oldest : &cs->entries[c->older].newer) = index;
    cs->_newest = index;
}

uint32_t channels_oldest(const struct channels *cs)
{
    return cs->_oldest;
}

void channels_remove(struct channels *cs, uint32_t index)
{
    struct channel *c = &cs->entries[index];
    uint32_t *link;

    assert(c->name != NULL);
    if (c->holders == 0)
        leave_list(cs, index);
    for (link = bucket_of(cs, channel_name(c)); *link != index + 1;
         link = &cs->entries[*link - 1].next)
        assert(*link != 0);
    *link = c->next;
    free(c->name);
    *c = (struct channel){ .next = cs->_free };
    cs->_free = index;
    cs->n_used--;
}

void channels_check(const struct channels *cs)
{
    uint32_t n_used = 0, n_listed = 0, n_idle = 0;
    uint64_t until_ms = 0;

    for (uint32_t i = 0; i < cs->n_entries; i++) {
        if (cs->entries[i].name == NULL)
            continue;
        assert(channels_find(cs, channel_name(&cs->entries[i])) == i);
        n_used++;
        n_idle += cs->entries[i].holders == 0;
    }
    for (uint32_t i = cs->_oldest; i != CHANNEL_NONE; i = cs->entries[i].newer) {
        assert(cs->entries[i].holders == 0);
        assert(cs->entries[i].until_ms >= until_ms);
        until_ms = cs->entries[i].until_ms;
        n_listed++;
    }
    assert(n_used == cs->n_used);
    assert(n_used <= cs->_max);
    assert(n_listed == n_idle);
}
