/* ip_counts.c: a table of addresses for each worker, and a count that is their sum.
 *
 * Invariant: a worker's table is written by that worker alone (by the master when it is dead), so a kill at any instruction leaves nothing half done that
 *            outlives its reaping: the master throws the whole table away.
 * Invariant: no more than `limit` at once. Who wants one more stores a claim in his own word, and looks at the words of all others behind a full fence: of
 *            two at the same time at least one sees the other. Claims count like clients. Who finds the clients alone at the limit is refused; who finds
 *            it reached with claims of others only withdraws his own and tries again, since they may come to nothing. (tests/model/ips.pml)
 * Invariant: open addressing: an entry is free exactly if it has no clients and no search for an address that has some goes over it (`passed`). So a search
 *            ends as soon as it can, and never before the entry that it is for. Entries do not move. At most half of them have clients (region.c).
 * Why:       a sum on each admission costs a look into as many tables as there are workers, some 100 ns each; one shared count would have to be mended
 *            when a worker dies between counting and remembering that it did. */
#include "shm/ip_counts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "shm/atomic.h"
#include "shm/record.h"

#define TRIES \
    64u /* while claims of others are in the way: they are through in less than a microsecond, unless their process stands still */
#define LOOKS 4u /* at an entry that changes meanwhile */

struct table {
    struct shm_ip *entries;
    uint64_t mask;
};

static struct table table_of(const struct region *region, uint32_t slot)
{
    uint64_t n = region->header->ips_per_slot;

    assert(region->ips != NULL);
    return (struct table){ region->ips + slot * n, n - 1 };
}

/* Keyed: nobody can choose addresses that lie together. */
static uint64_t start_of(const struct region *region, uint64_t key)
{
    return record_hash(region->header->hash_key, slice_of(&key, sizeof key), slice_of(NULL, 0));
}

/* --- another's table, while he writes it --- */

/* The word of an entry, if it is that address's; 0 if it is not, or has no clients. `ends`: so does the search, here. */
static uint32_t look(const struct shm_ip *e, uint64_t key, bool *ends)
{
    for (uint32_t i = 0; i < LOOKS; i++) {
        uint64_t before = shm_load_acquire_u64(&e->key); /* acquire: before the word */
        uint32_t word = shm_load_u32(&e->word);

        *ends = before == 0;
        if (before != key)
            return 0;
        shm_fence_load(); /* the word before the second look at the key */
        if (shm_load_u64(&e->key) == key)
            return word;
    }
    return 0; /* it is given from one to another and back: none of them has stayed */
}

static uint32_t word_of(struct table t, uint64_t start, uint64_t key)
{
    uint32_t word = 0;
    bool ends = false;

    for (uint64_t i = 0; i <= t.mask && word == 0 && !ends; i++)
        word = look(&t.entries[(start + i) & t.mask], key, &ends);
    return word;
}

/* What all others have: clients in the low half, claims in the high one. */
static uint64_t sum_others(const struct region *region, uint64_t key, uint64_t start)
{
    uint64_t sum = 0;

    for (uint32_t slot = 0; slot < region->header->n_workers; slot++) {
        uint32_t word = slot == region->self ? 0 : word_of(table_of(region, slot), start, key);

        sum += (word & ~IP_CLAIM) + ((uint64_t)(word & IP_CLAIM) << 1);
    }
    return sum;
}

/* --- the own table --- */

static void set_word(struct shm_ip *e, uint32_t word)
{
    shm_store_release_u32(&e->word, word); /* release: the key is there before */
}

static void free_if_unused(struct shm_ip *e)
{
    if (e->word == 0 && e->passed == 0)
        shm_store_release_u64(&e->key, 0); /* release: behind the word */
}

/* The entry of an address that has clients; else, for it to have some, the first that nobody has. NULL: everybody has clients. */
static struct shm_ip *find(struct table t, uint64_t start, uint64_t key)
{
    struct shm_ip *place = NULL;

    for (uint64_t i = 0; i <= t.mask; i++) {
        struct shm_ip *e = t.entries + ((start + i) & t.mask);

        if (e->word != 0 && e->key == key)
            return e;
        if (e->word == 0 && place == NULL)
            place = e;
        if (e->key == 0)
            break;
    }
    return place;
}

/* An entry without clients is that address's from here on. */
static void enter(struct table t, uint64_t start, uint64_t key, struct shm_ip *e)
{
    for (uint64_t at = start & t.mask; &t.entries[at] != e; at = (at + 1) & t.mask)
        t.entries[at].passed++;
    shm_store_release_u64(&e->key, key); /* release: behind the word that was zeroed */
}

static void leave(struct table t, uint64_t start, struct shm_ip *e)
{
    for (uint64_t at = start & t.mask; &t.entries[at] != e; at = (at + 1) & t.mask) {
        t.entries[at].passed--;
        free_if_unused(&t.entries[at]);
    }
    free_if_unused(e);
}

bool ip_take(struct region *region, uint64_t key, uint32_t limit, uint32_t *n)
{
    uint64_t start = start_of(region, key);
    struct table own = table_of(region, region->self);
    struct shm_ip *e = find(own, start, key);
    uint32_t count;

    *n = 0;
    if (e == NULL)
        return false;
    count = e->word;
    assert((count & IP_CLAIM) == 0);
    if (count == 0)
        enter(own, start, key, e);
    for (uint32_t i = 0; i < TRIES; i++) {
        uint64_t others;
        uint64_t claims;

        set_word(e, count | IP_CLAIM);
        shm_fence(); /* our claim before the look at the others': see the head of the file */
        others = sum_others(region, key, start);
        claims = others >> 32;
        *n = count + (uint32_t)others;
        if (limit == 0 || *n + claims < limit) {
            set_word(e, count + 1);
            ++*n;
            return true;
        }
        set_word(e, count);
        if (*n >= limit)
            break;
        /* not all for the same time, or the same ones would meet again */
        for (uint32_t pause = 0; pause < 8 * (region->self + 1); pause++)
            shm_pause();
    }
    if (count == 0)
        leave(own, start, e);
    return false;
}

void ip_give_back(struct region *region, uint64_t key)
{
    uint64_t start = start_of(region, key);
    struct table own = table_of(region, region->self);
    struct shm_ip *e = find(own, start, key);

    assert(e != NULL);
    assert(e->word > 0 && (e->word & IP_CLAIM) == 0);
    set_word(e, e->word - 1);
    if (e->word == 0)
        leave(own, start, e);
}

uint32_t ip_count(const struct region *region, uint64_t key)
{
    uint64_t start = start_of(region, key);
    uint32_t n = 0;

    for (uint32_t slot = 0; slot < region->header->n_workers; slot++)
        n += word_of(table_of(region, slot), start, key) & ~IP_CLAIM;
    return n;
}

void ips_clear(struct region *region, uint32_t slot)
{
    struct table t = table_of(region, slot);
    off_t at = (off_t)((uint8_t *)t.entries - (uint8_t *)region->header);

    /* zero pages in place of those that were used: a table is as large as all clients might need, and mostly untouched */
    if (fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
                  (off_t)((t.mask + 1) * sizeof *t.entries)) == 0)
        return;
    log_warning("table_cleared_slowly", "slot=%u error=%m", slot);
    for (uint64_t i = 0; i <= t.mask; i++) {
        set_word(&t.entries[i], 0);
        t.entries[i].passed = 0;
        free_if_unused(&t.entries[i]);
    }
}

void ips_check(const struct region *region)
{
    struct table t = table_of(region, region->self);

    for (uint64_t i = 0; i <= t.mask; i++) {
        const struct shm_ip *e = &t.entries[i];
        uint32_t passed = 0;

        assert((e->word & IP_CLAIM) == 0);
        assert((e->key != 0) == (e->word > 0 || e->passed > 0));
        for (uint64_t k = 0; k <= t.mask;
             k++) { /* whose search, begun at or before i, goes on behind it */
            const struct shm_ip *of = &t.entries[k];

            passed += of->word > 0 && ((i - start_of(region, of->key)) & t.mask) <
                                          ((k - start_of(region, of->key)) & t.mask);
        }
        assert(e->passed == passed);
    }
}
