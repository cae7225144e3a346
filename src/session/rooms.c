/* rooms.c: a hash table of rooms with chained buckets, and dense arrays of members.
 *
 * Invariant: a live room has refs > 0 and refs >= n_members; its bucket's bit in the directory is set, and its namespace used, for as long as it lives.
 * Owns:      names, and the arrays of rooms that have had more than one member. */
#include "session/rooms.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "session/room_news.h"
#include "shm/record.h"

#define ROOMS_FIRST   64
#define BUCKETS_FIRST 128
#define MEMBERS_FIRST 4

int rooms_init(struct rooms *rs, struct region *region, struct directory *directory,
               struct room_news *news)
{
    *rs = (struct rooms){ .region = region,
                          .directory = directory,
                          .news = news,
                          .free = ROOM_NONE,
                          .n_buckets = BUCKETS_FIRST,
                          .rooms_max = ROOMS_FIRST };
    rs->buckets = calloc(rs->n_buckets, sizeof *rs->buckets);
    rs->rooms = calloc(rs->rooms_max, sizeof *rs->rooms);
    return rs->buckets == NULL || rs->rooms == NULL ? -ENOMEM : 0;
}

static void free_parts(struct room *r)
{
    free(r->name);
    if (r->_many_max > 0)
        free(r->_many);
}

void rooms_destroy(struct rooms *rs)
{
    for (uint32_t i = 0; i < rs->n_rooms; i++)
        free_parts(&rs->rooms[i]);
    free(rs->rooms);
    free(rs->buckets);
}

/* The low bits choose the directory's bucket, so these are others. */
static uint32_t bucket_of(const struct rooms *rs, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & (rs->n_buckets - 1);
}

uint32_t room_find(const struct rooms *rs, uint64_t hash, uint16_t nsp, struct slice name)
{
    if (!directory_mine(rs->directory, record_bucket(hash)))
        return ROOM_NONE;
    for (uint32_t i = rs->buckets[bucket_of(rs, hash)]; i != 0; i = rs->rooms[i - 1].next) {
        const struct room *r = &rs->rooms[i - 1];

        if (r->hash != hash || r->nsp != nsp)
            continue;
        if (r->name == NULL || name.bytes == NULL ? r->name == name.bytes
                                                  : slice_equal(room_name(r), name))
            return i - 1;
    }
    return ROOM_NONE;
}

static void grow_buckets(struct rooms *rs)
{
    uint32_t n_old = rs->n_buckets;
    uint32_t *old = rs->buckets;
    uint32_t *buckets = calloc((size_t)n_old * 2, sizeof *buckets);

    if (buckets == NULL)
        return; /* longer chains work too */
    rs->buckets = buckets;
    rs->n_buckets = n_old * 2;
    for (uint32_t b = 0; b < n_old; b++) {
        for (uint32_t i = old[b], next; i != 0; i = next) {
            uint32_t to = bucket_of(rs, rs->rooms[i - 1].hash);

            next = rs->rooms[i - 1].next;
            rs->rooms[i - 1].next = rs->buckets[to];
            rs->buckets[to] = i;
        }
    }
    free(old);
}

static uint32_t take_entry(struct rooms *rs)
{
    uint32_t index = rs->free;

    if (index != ROOM_NONE) {
        rs->free = rs->rooms[index].next;
        return index;
    }
    if (rs->n_rooms == rs->rooms_max) {
        struct room *rooms = reallocarray(rs->rooms, (size_t)rs->rooms_max * 2, sizeof *rooms);

        if (rooms == NULL)
            return ROOM_NONE;
        rs->rooms = rooms;
        rs->rooms_max *= 2;
    }
    return rs->n_rooms++;
}

uint32_t room_ref(struct rooms *rs, uint64_t hash, uint16_t nsp, struct slice name)
{
    uint32_t index = room_find(rs, hash, nsp, name);
    struct room *r;
    uint32_t bucket;

    if (index != ROOM_NONE) {
        rs->rooms[index].refs++;
        return index;
    }
    index = take_entry(rs);
    if (index == ROOM_NONE)
        return ROOM_NONE;
    r = &rs->rooms[index];
    *r = (struct room){
        .hash = hash, .nsp = nsp, .refs = 1, .n_name_bytes = (uint16_t)name.n_bytes
    };
    if (name.bytes != NULL) {
        r->name = malloc(name.n_bytes > 0 ? name.n_bytes : 1);
        if (r->name == NULL) {
            r->refs = 0;
            r->next = rs->free;
            rs->free = index;
            return ROOM_NONE;
        }
        memcpy(r->name, name.bytes, name.n_bytes);
        rs->n_named++;
    }
    if (++rs->n_live > rs->n_buckets)
        grow_buckets(rs);
    bucket = bucket_of(rs, hash);
    r->next = rs->buckets[bucket];
    rs->buckets[bucket] = index + 1;
    namespace_use(rs->region, nsp);
    if (name.bytes != NULL)
        room_news_note(rs->news, rs->region, nsp, name, true);
    directory_enter(rs->directory, record_bucket(hash));
    return index;
}

void room_unref(struct rooms *rs, uint32_t index)
{
    struct room *r = &rs->rooms[index];
    uint32_t *link;

    assert(r->refs > 0);
    if (--r->refs > 0)
        return;
    assert(r->n_members == 0);
    directory_leave(rs->directory, record_bucket(r->hash));
    if (r->name != NULL)
        room_news_note(rs->news, rs->region, r->nsp, room_name(r), false);
    namespace_leave(rs->region, r->nsp);
    for (link = &rs->buckets[bucket_of(rs, r->hash)]; *link != index + 1;
         link = &rs->rooms[*link - 1].next)
        assert(*link != 0);
    *link = r->next;
    rs->n_live--;
    if (r->name != NULL)
        rs->n_named--;
    free_parts(r);
    *r = (struct room){ .next = rs->free };
    rs->free = index;
}

static bool grow_members(struct room *r)
{
    bool first = r->_many_max == 0;
    uint32_t max = first ? MEMBERS_FIRST : r->_many_max + r->_many_max / 2 + 1;
    struct room_member *many = reallocarray(first ? NULL : r->_many, max, sizeof *many);

    if (many == NULL)
        return false;
    if (first)
        many[0] = r->_one;
    r->_many = many;
    r->_many_max = max;
    return true;
}

bool room_add(struct rooms *rs, uint32_t index, struct room_member member, uint32_t *at)
{
    struct room *r = &rs->rooms[index];

    assert(r->n_members < r->refs);
    if (r->n_members == (r->_many_max == 0 ? 1 : r->_many_max) && !grow_members(r))
        return false;
    *at = r->n_members;
    room_members(r)[r->n_members++] = member;
    return true;
}

bool room_remove(struct rooms *rs, uint32_t index, uint32_t at, struct room_member *moved)
{
    struct room *r = &rs->rooms[index];

    assert(at < r->n_members);
    r->n_members--;
    if (at == r->n_members)
        return false;
    *moved = room_members(r)[r->n_members];
    room_members(r)[at] = *moved;
    return true;
}
