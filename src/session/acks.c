/* acks.c: one entry per broadcast with acknowledgement, with the sockets that were asked, sorted when first looked at. Most have asked one socket, and are gone
 * when it has answered: such an entry allocates nothing once there were as many at a time before.
 *
 * Invariant: the sum of n over all entries is n_expected <= ACKS_EXPECTED_MAX. */
#include "session/acks.h"

#include <assert.h>
#include <stdlib.h>

#define BUCKETS     4096
#define SPARE_MAX   1024
#define ENTRIES_MAX 65536

struct asked {
    uint32_t sock;
    uint32_t generation;
    bool answered;
};

struct entry {
    struct entry *next;
    uint64_t id;
    uint64_t until_ms;
    struct asked *asked; /* `one`, or allocated */
    struct asked one;
    uint32_t n;
    uint32_t n_answered;
    uint32_t max;
    bool sorted;
    bool complete; /* nobody will be added */
};

struct acks {
    struct entry *buckets[BUCKETS];
    struct entry *spare; /* freed ones, at most SPARE_MAX */
    uint32_t n_spare;
    uint32_t n_entries;
    uint32_t n_expected;
};

struct acks *acks_new(void)
{
    return calloc(1, sizeof(struct acks));
}

static struct entry **bucket(struct acks *a, uint64_t id)
{
    return &a->buckets[id / PEAL_SLOTS % BUCKETS]; /* ids of one issuer grow by PEAL_SLOTS */
}

static void entry_free(struct acks *a, struct entry *e)
{
    a->n_expected -= e->n;
    a->n_entries--;
    if (e->asked != &e->one)
        free(e->asked);
    if (a->n_spare == SPARE_MAX) {
        free(e);
        return;
    }
    e->next = a->spare;
    a->spare = e;
    a->n_spare++;
}

void acks_free(struct acks *a)
{
    if (a == NULL)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        while (a->buckets[i] != NULL) {
            struct entry *e = a->buckets[i];

            a->buckets[i] = e->next;
            entry_free(a, e);
        }
    }
    while (a->spare != NULL) {
        struct entry *e = a->spare;

        a->spare = e->next;
        free(e);
    }
    free(a);
}

/* Where it hangs; NULL: there is none. */
static struct entry **find(const struct acks *a, uint64_t id)
{
    struct entry **link = bucket((struct acks *)(uintptr_t)a, id);

    while (*link != NULL && (*link)->id != id)
        link = &(*link)->next;
    return *link == NULL ? NULL : link;
}

static void unlink_entry(struct acks *a, struct entry **link)
{
    struct entry *e = *link;

    *link = e->next;
    entry_free(a, e);
}

bool acks_open(struct acks *a, uint64_t id, uint64_t now_ms, uint32_t timeout_ms)
{
    struct entry *e = a->spare;

    if (find(a, id) != NULL || a->n_expected >= ACKS_EXPECTED_MAX || a->n_entries >= ENTRIES_MAX)
        return false;
    if (e != NULL) {
        a->spare = e->next;
        a->n_spare--;
    } else {
        e = malloc(sizeof *e);
    }
    if (e == NULL)
        return false;
    *e = (struct entry){ .id = id, .max = 1, .next = *bucket(a, id) };
    e->asked = &e->one;
    e->until_ms =
        now_ms +
        (timeout_ms == 0 || timeout_ms > ACKS_TIMEOUT_MAX_MS ? ACKS_TIMEOUT_MAX_MS : timeout_ms);
    *bucket(a, id) = e;
    a->n_entries++;
    return true;
}

static bool grow(struct entry *e)
{
    uint32_t max = e->max == 1 ? 16 : e->max * 2;
    struct asked *asked = reallocarray(e->asked == &e->one ? NULL : e->asked, max, sizeof *asked);

    if (asked == NULL)
        return false;
    if (e->asked == &e->one)
        asked[0] = e->one;
    e->asked = asked;
    e->max = max;
    return true;
}

void acks_expect(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation)
{
    struct entry **link = find(a, id);
    struct entry *e = link == NULL ? NULL : *link;

    if (e == NULL || a->n_expected >= ACKS_EXPECTED_MAX || (e->n == e->max && !grow(e)))
        return;
    e->asked[e->n++] = (struct asked){ sock, generation, false };
    e->sorted = e->n == 1; /* the first ones may answer while a large sweep asks the others */
    a->n_expected++;
}

uint32_t acks_count(const struct acks *a, uint64_t id)
{
    struct entry **link = find(a, id);

    return link == NULL ? 0 : (*link)->n;
}

void acks_asked(struct acks *a, uint64_t id)
{
    struct entry **link = find(a, id);

    if (link == NULL)
        return;
    (*link)->complete = true;
    if ((*link)->n_answered == (*link)->n)
        unlink_entry(a, link);
}

static int by_sock(const void *a, const void *b)
{
    const struct asked *x = a;
    const struct asked *y = b;

    return x->sock < y->sock ? -1 : x->sock > y->sock;
}

bool acks_take(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation)
{
    struct entry **link = find(a, id);
    struct asked key = { .sock = sock };
    struct asked *found;
    struct entry *e;

    if (link == NULL || (*link)->n == 0)
        return false;
    e = *link;
    if (!e->sorted) {
        qsort(e->asked, e->n, sizeof *e->asked, by_sock);
        e->sorted = true;
    }
    found = bsearch(&key, e->asked, e->n, sizeof *e->asked, by_sock);
    if (found == NULL || found->generation != generation || found->answered)
        return false;
    found->answered = true;
    e->n_answered++;
    assert(e->n_answered <= e->n);
    if (e->complete && e->n_answered == e->n)
        unlink_entry(a, link);
    return true;
}

void acks_expire(struct acks *a, uint64_t now_ms)
{
    if (a->n_entries == 0)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        struct entry **link = &a->buckets[i];

        while (*link != NULL) {
            if (now_ms < (*link)->until_ms)
                link = &(*link)->next;
            else
                unlink_entry(a, link);
        }
    }
}
