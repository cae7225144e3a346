/* acks.c: one entry per broadcast with acknowledgement, with the sockets that were asked, sorted when first looked at.
 *
 * Invariant: the sum of n over all entries is n_expected <= ACKS_EXPECTED_MAX. */
#include "session/acks.h"

#include <stdlib.h>

struct asked {
    uint32_t sock;
    uint32_t generation;
    bool answered;
};

struct entry {
    struct entry *next;
    uint64_t id;
    uint64_t until_ms;
    struct asked *asked;
    uint32_t n;
    uint32_t max;
    bool sorted;
};

struct acks {
    struct entry *entries;
    uint32_t n_expected;
};

struct acks *acks_new(void)
{
    return calloc(1, sizeof(struct acks));
}

static void entry_free(struct acks *a, struct entry *e)
{
    a->n_expected -= e->n;
    free(e->asked);
    free(e);
}

void acks_free(struct acks *a)
{
    if (a == NULL)
        return;
    while (a->entries != NULL) {
        struct entry *e = a->entries;

        a->entries = e->next;
        entry_free(a, e);
    }
    free(a);
}

static struct entry *find(const struct acks *a, uint64_t id)
{
    struct entry *e = a->entries;

    while (e != NULL && e->id != id)
        e = e->next;
    return e;
}

bool acks_open(struct acks *a, uint64_t id, uint64_t now_ms, uint32_t timeout_ms)
{
    struct entry *e;

    if (find(a, id) != NULL || a->n_expected >= ACKS_EXPECTED_MAX)
        return false;
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return false;
    e->id = id;
    e->until_ms =
        now_ms +
        (timeout_ms == 0 || timeout_ms > ACKS_TIMEOUT_MAX_MS ? ACKS_TIMEOUT_MAX_MS : timeout_ms);
    e->next = a->entries;
    a->entries = e;
    return true;
}

void acks_expect(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation)
{
    struct entry *e = find(a, id);

    if (e == NULL || a->n_expected >= ACKS_EXPECTED_MAX)
        return;
    if (e->n == e->max) {
        uint32_t max = e->max == 0 ? 16 : e->max * 2;
        struct asked *asked = reallocarray(e->asked, max, sizeof *asked);

        if (asked == NULL)
            return;
        e->asked = asked;
        e->max = max;
    }
    e->asked[e->n++] = (struct asked){ sock, generation, false };
    a->n_expected++;
}

uint32_t acks_count(const struct acks *a, uint64_t id)
{
    const struct entry *e = find(a, id);

    return e == NULL ? 0 : e->n;
}

static int by_sock(const void *a, const void *b)
{
    const struct asked *x = a;
    const struct asked *y = b;

    return x->sock < y->sock ? -1 : x->sock > y->sock;
}

bool acks_take(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation)
{
    struct entry *e = find(a, id);
    struct asked key = { .sock = sock };
    struct asked *found;

    if (e == NULL)
        return false;
    if (!e->sorted && e->n > 0) {
        qsort(e->asked, e->n, sizeof *e->asked, by_sock);
        e->sorted = true; /* nobody is added once answers come in: the sweep is over */
    }
    found = e->n == 0 ? NULL : bsearch(&key, e->asked, e->n, sizeof *e->asked, by_sock);
    if (found == NULL || found->generation != generation || found->answered)
        return false;
    found->answered = true;
    return true;
}

void acks_expire(struct acks *a, uint64_t now_ms)
{
    struct entry **link = &a->entries;

    while (*link != NULL) {
        struct entry *e = *link;

        if (now_ms < e->until_ms) {
            link = &e->next;
            continue;
        }
        *link = e->next;
        entry_free(a, e);
    }
}
