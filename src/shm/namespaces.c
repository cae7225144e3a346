/* namespaces.c: open addressing over entries that never move.
 *
 *     FREE ---> WRITING -> READY <-> CLOSING -> GONE ---> WRITING ...
 *       ^                                        |
 *       +----------------------------------------+   if the next entry is FREE: no search passes here
 *
 * Invariant: one process at a time changes the table: the one whose slot is in `writer`. So no name is there twice. Nobody waits for it: who finds it
 *            taken tries again in its next turn, and the master takes it from the dead, with what they left half done.
 * Invariant: no use and no end of a name at once. Who takes the first use of an entry stores the use, then sees (behind a full fence) that the word is
 *            READY as it was; who ends a name stores CLOSING, then sees (behind a full fence) that no worker uses it. One of the two sees the other; a
 *            taker that sees CLOSING takes its use back. Further uses come from somebody who has one, and need no look.
 * Invariant: a searcher believes a name only if the entry's life is the same after the comparison as before it. Name words are stored with release behind
 *            WRITING, so none of a new name is seen without the new word.
 * Bound:     a section of names that clients choose has its share of NAMESPACES_DYNAMIC: one cannot take another's places, nor a configured name's.
 * Why:       names go only when their section has no place left: to add and end one for each client that comes and goes alone would cost more. */
#include "shm/namespaces.h"

#include <assert.h>

#include "shm/atomic.h"
#include "shm/record.h"

#define STATE_MASK 0xffull
#define LIFE_SHIFT 8
#define LOOKS      4u /* of a taker, while the entry changes under it */

static_assert(NAMESPACE_SECTIONS == CONFIG_NAMESPACES_MAX, "a count for each section");
static_assert(NAMESPACES_MAX - NAMESPACES_DYNAMIC > NAMESPACE_SECTIONS + 1,
              "configured names always find a place");

static enum shm_namespace_state state_of(uint64_t word)
{
    return (enum shm_namespace_state)(word & STATE_MASK);
}

static uint64_t life_of(uint64_t word)
{
    return word >> LIFE_SHIFT;
}

static uint64_t word_of(uint64_t life, enum shm_namespace_state state)
{
    return life << LIFE_SHIFT | (uint64_t)state;
}

/* CLOSING may be READY again: it is there for whoever uses it. */
static bool is_named(uint64_t word)
{
    return state_of(word) == NAMESPACE_READY || state_of(word) == NAMESPACE_CLOSING;
}

/* --- searching --- */

static uint32_t start_of(const struct region *region, struct slice name)
{
    uint64_t hash = record_hash(region->header->hash_key, name, slice_of(NULL, 0));

    return (uint32_t)(hash % NAMESPACES_MAX);
}

static uint64_t chunk_of(struct slice name, uint32_t at)
{
    uint32_t left = name.n_bytes - at;
    uint64_t chunk = 0;

    memcpy(&chunk, name.bytes + at, left < sizeof chunk ? left : sizeof chunk);
    return chunk;
}

static bool name_is(const struct shm_namespace *e, struct slice name)
{
    if (shm_load_u32(&e->n_bytes) != name.n_bytes)
        return false;
    for (uint32_t at = 0; at < name.n_bytes; at += sizeof e->name[0])
        if (shm_load_u64(&e->name[at / sizeof e->name[0]]) != chunk_of(name, at))
            return false;
    return true;
}

/* `word` gets what the entry's was when its name was right. */
static uint32_t find(const struct region *region, struct slice name, uint64_t *word)
{
    uint32_t start;

    if (name.n_bytes > NAME_BYTES_MAX)
        return NAMESPACE_NONE;
    start = start_of(region, name);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        uint32_t index = (start + i) % NAMESPACES_MAX;
        const struct shm_namespace *e = &region->namespaces->entries[index];
        uint64_t before = shm_load_acquire_u64(&e->word); /* acquire: before the name */

        if (state_of(before) == NAMESPACE_FREE)
            return NAMESPACE_NONE;
        if (!is_named(before) || !name_is(e, name))
            continue;
        shm_fence_load(); /* the name before the second look at the word */
        *word = shm_load_u64(&e->word);
        if (is_named(*word) && life_of(*word) == life_of(before))
            return index;
    }
    return NAMESPACE_NONE;
}

uint32_t namespace_find(const struct region *region, struct slice name)
{
    uint64_t word;

    return find(region, name, &word);
}

/* --- uses --- */

static uint32_t *uses_of(const struct region *region, uint32_t index)
{
    assert(region->self < PEAL_WORKERS_MAX);
    assert(index < NAMESPACES_MAX);
    return &region->namespaces->uses[region->self][index];
}

static bool is_dynamic(const struct region *region, uint32_t section)
{
    return section < region->config->n_namespaces && region->config->namespaces[section].is_prefix;
}

bool namespace_in_use(const struct region *region, uint32_t index)
{
    return *uses_of(region, index) > 0;
}

void namespace_use(struct region *region, uint32_t index)
{
    uint32_t *uses = uses_of(region, index);

    assert(is_named(shm_load_u64(&region->namespaces->entries[index].word)));
    assert(*uses > 0 || !is_dynamic(region, region->namespaces->entries[index].section));
    shm_store_u32(uses, *uses + 1);
}

void namespace_leave(struct region *region, uint32_t index)
{
    uint32_t *uses = uses_of(region, index);

    assert(*uses > 0);
    shm_store_release_u32(uses, *uses - 1); /* release: what was done under it is done before */
}

void namespace_add_deflaters(struct region *region, uint32_t index, int by)
{
    uint32_t *n = &region->namespaces->deflaters[index][region->self];

    assert(namespace_in_use(region, index));
    assert(by >= 0 || *n >= (uint32_t)-by);
    shm_store_u32(n, *n + (uint32_t)by);
}

bool namespace_deflates(const struct region *region, uint32_t index)
{
    for (uint32_t slot = 0; slot < region->header->n_workers; slot++)
        if (shm_load_u32(&region->namespaces->deflaters[index][slot]) > 0)
            return true;
    return false;
}

/* The first use by this process, perhaps. */
static enum namespace_result take(struct region *region, struct slice name, uint32_t *index)
{
    for (uint32_t look = 0; look < LOOKS; look++) {
        uint64_t word;
        uint32_t *uses;

        *index = find(region, name, &word);
        if (*index == NAMESPACE_NONE)
            return NAMESPACE_FULL;
        if (state_of(word) != NAMESPACE_READY)
            return NAMESPACE_BUSY;
        uses = uses_of(region, *index);
        shm_store_u32(uses, *uses + 1);
        shm_fence(); /* the use before the look at the word: see the head of the file */
        if (shm_load_u64(&region->namespaces->entries[*index].word) == word)
            return NAMESPACE_OK;
        namespace_leave(region, *index);
    }
    return NAMESPACE_BUSY;
}

void namespace_keep(struct region *region, uint32_t index, uint64_t until_ms)
{
    uint64_t *keep_ms = &region->namespaces->entries[index].keep_ms;

    if (shm_load_u64(keep_ms) < until_ms) /* of several at once the last counts: much the same */
        shm_store_u64(keep_ms, until_ms);
}

/* --- changing: by the writer alone --- */

static void note_change(struct shm_namespaces *t)
{
    shm_store_release_u64(&t->changes, t->changes + 1); /* release: what has changed is there */
}

static void entry_write(struct region *region, uint32_t index, struct slice name, uint32_t section)
{
    struct shm_namespaces *t = region->namespaces;
    struct shm_namespace *e = &t->entries[index];
    uint64_t life = life_of(e->word) + 1;

    shm_store_u64(&e->word, word_of(life, NAMESPACE_WRITING));
    shm_store_release_u32(&e->n_bytes, name.n_bytes); /* release: behind WRITING, as the name is */
    shm_store_u32(&e->section, section);
    shm_store_u64(&e->keep_ms, 0);
    for (uint32_t at = 0; at < name.n_bytes; at += sizeof e->name[0])
        shm_store_release_u64(&e->name[at / sizeof e->name[0]], chunk_of(name, at));
    if (name.n_bytes % sizeof e->name[0] == 0) /* namespace_name: a zero behind it */
        shm_store_release_u64(&e->name[name.n_bytes / sizeof e->name[0]], 0);
    if (is_dynamic(region, section))
        t->n_of[section]++;
    /* release: the name is there before it is READY */
    shm_store_release_u64(&e->word, word_of(life, NAMESPACE_READY));
    note_change(t);
}

static bool anybody_uses(const struct region *region, uint32_t index)
{
    for (uint32_t slot = 0; slot < region->header->n_workers; slot++)
        if (shm_load_acquire_u32(&region->namespaces->uses[slot][index]) >
            0) /* acquire: as in namespace_leave */
            return true;
    return false;
}

/* Ends a READY name that nobody uses. False: somebody does. */
static bool entry_end(struct region *region, uint32_t index)
{
    struct shm_namespace *e = &region->namespaces->entries[index];
    uint64_t word = e->word;

    shm_store_u64(&e->word, word_of(life_of(word), NAMESPACE_CLOSING));
    shm_fence(); /* CLOSING before the look at the uses: see the head of the file */
    if (anybody_uses(region, index)) {
        shm_store_u64(&e->word, word);
        return false;
    }
    shm_store_u64(&e->word, word_of(life_of(word), NAMESPACE_GONE));
    return true;
}

/* Ends what nobody uses in a section, and shortens the ways of searches. */
static void collect(struct region *region, uint32_t section, uint64_t now_ms)
{
    struct shm_namespaces *t = region->namespaces;

    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        const struct shm_namespace *e = &t->entries[i];

        if (state_of(e->word) != NAMESPACE_READY || e->section != section ||
            shm_load_u64(&e->keep_ms) > now_ms || anybody_uses(region, i) || !entry_end(region, i))
            continue;
        t->n_of[section]--;
        note_change(t);
    }
    for (uint32_t i = 2 * NAMESPACES_MAX; i > 0; i--) { /* twice round: a way may begin anywhere */
        struct shm_namespace *e = &t->entries[(i - 1) % NAMESPACES_MAX];
        const struct shm_namespace *next = &t->entries[i % NAMESPACES_MAX];

        if (state_of(e->word) == NAMESPACE_GONE && state_of(next->word) == NAMESPACE_FREE)
            shm_store_u64(&e->word, word_of(life_of(e->word), NAMESPACE_FREE));
    }
}

/* A place for a name that is not there. */
static uint32_t place_for(const struct region *region, struct slice name)
{
    uint32_t start = start_of(region, name);

    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        uint32_t index = (start + i) % NAMESPACES_MAX;
        enum shm_namespace_state state = state_of(region->namespaces->entries[index].word);

        if (state == NAMESPACE_FREE || state == NAMESPACE_GONE)
            return index;
    }
    return NAMESPACE_NONE;
}

static uint32_t add(struct region *region, struct slice name, uint32_t section, uint64_t now_ms)
{
    const uint32_t *n = is_dynamic(region, section) ? &region->namespaces->n_of[section] : NULL;
    uint32_t share = namespaces_share(region->config);
    uint32_t index;

    if (n != NULL && *n >= share)
        collect(region, section, now_ms);
    if (n != NULL && *n >= share)
        return NAMESPACE_NONE;
    index = place_for(region, name);
    if (index != NAMESPACE_NONE)
        entry_write(region, index, name, section);
    return index;
}

bool namespace_reserve(struct region *region, struct slice name, uint32_t section)
{
    assert(!is_dynamic(region, section));
    if (name.n_bytes > NAME_BYTES_MAX)
        return false;
    return namespace_find(region, name) != NAMESPACE_NONE ||
           add(region, name, section, 0) != NAMESPACE_NONE;
}

enum namespace_result namespace_enter(struct region *region, struct slice name, uint32_t section,
                                      uint64_t now_ms, uint32_t *index)
{
    enum namespace_result result = take(region, name, index);

    if (result != NAMESPACE_FULL) /* which is: not there */
        return result;
    if (!shm_cas_u32(&region->namespaces->writer, 0, region->self + 1))
        return NAMESPACE_BUSY;
    result = take(region, name, index); /* somebody may have added it before we were the writer */
    if (result == NAMESPACE_FULL) {
        *index = add(region, name, section, now_ms);
        if (*index != NAMESPACE_NONE) {
            shm_store_u32(uses_of(region, *index), *uses_of(region, *index) + 1);
            result = NAMESPACE_ADDED;
        }
    }
    shm_store_release_u32(&region->namespaces->writer, 0); /* release: what was changed */
    return result;
}

/* --- looking on --- */

struct slice namespace_name(const struct region *region, uint32_t index)
{
    const struct shm_namespace *e;

    if (index >= NAMESPACES_MAX)
        return slice_of(NULL, 0);
    e = &region->namespaces->entries[index];
    if (!is_named(shm_load_acquire_u64(&e->word))) /* acquire: before the name */
        return slice_of(NULL, 0);
    return slice_of((const char *)e->name, e->n_bytes);
}

bool namespace_is_forwarded(const struct region *region, uint32_t index)
{
    uint32_t section = shm_load_u32(&region->namespaces->entries[index].section);

    return section < region->config->n_namespaces &&
           region->config->namespaces[section].app == APP_FORWARD;
}

uint64_t namespace_life(const struct region *region, uint32_t index)
{
    return life_of(shm_load_u64(&region->namespaces->entries[index].word));
}

bool namespace_copy(const struct region *region, uint32_t index, struct namespace_copy *out)
{
    const struct shm_namespace *e = &region->namespaces->entries[index];
    uint64_t before = shm_load_acquire_u64(&e->word); /* acquire: before the name */
    uint64_t after;

    if (!is_named(before))
        return false;
    out->life = life_of(before);
    out->n_bytes = shm_load_u32(&e->n_bytes);
    for (uint32_t at = 0; at < sizeof out->name; at += sizeof e->name[0]) {
        uint64_t chunk = shm_load_u64(&e->name[at / sizeof e->name[0]]);

        memcpy(out->name + at, &chunk, sizeof chunk);
    }
    shm_fence_load(); /* the name before the second look at the word */
    after = shm_load_u64(&e->word);
    return is_named(after) && life_of(after) == out->life;
}

uint64_t namespaces_changes(const struct region *region)
{
    return shm_load_acquire_u64(&region->namespaces->changes); /* acquire: as in note_change */
}

uint32_t namespaces_share(const struct config *config)
{
    uint32_t n_sections = 0;

    for (uint32_t i = 0; i < config->n_namespaces; i++)
        n_sections += config->namespaces[i].is_prefix;
    return NAMESPACES_DYNAMIC / (n_sections > 0 ? n_sections : 1);
}

/* --- the master --- */

/* What a dead writer left: names that were not there yet are not, those that were are. */
static void repair(struct region *region)
{
    struct shm_namespaces *t = region->namespaces;

    memset(t->n_of, 0, sizeof t->n_of);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        struct shm_namespace *e = &t->entries[i];

        if (state_of(e->word) == NAMESPACE_WRITING)
            shm_store_u64(&e->word, word_of(life_of(e->word), NAMESPACE_GONE));
        if (state_of(e->word) == NAMESPACE_CLOSING)
            shm_store_u64(&e->word, word_of(life_of(e->word), NAMESPACE_READY));
        if (state_of(e->word) == NAMESPACE_READY && is_dynamic(region, e->section))
            t->n_of[e->section]++;
    }
    note_change(t);
}

void namespaces_reap(struct region *region, uint32_t slot, uint64_t keep_ms)
{
    struct shm_namespaces *t = region->namespaces;

    assert(slot < PEAL_WORKERS_MAX);
    for (uint32_t i = 0; i < NAMESPACES_MAX; i++) {
        if (shm_load_u32(&t->uses[slot][i]) == 0)
            continue;
        namespace_keep(region, i, keep_ms);
        if (shm_load_u32(&t->deflaters[i][slot]) > 0)
            shm_store_u32(&t->deflaters[i][slot], 0);
        shm_store_release_u32(&t->uses[slot][i], 0); /* release: it is kept before it is unused */
    }
    if (shm_load_u32(&t->writer) != slot + 1)
        return;
    repair(region);
    shm_store_release_u32(&t->writer, 0); /* release: what was mended */
}
