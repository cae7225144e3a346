/* agents.c: a hash table with chains, as long as clients make them: AGENTS_MAX comparisons of a number at worst, once a handshake.
 *
 * Invariant: an agent has refs > 0, and is in the chain of its hash, once. */
#include "session/agents.h"

#include <assert.h>
#include <stdlib.h>

struct agent {
    struct agent *next;
    uint32_t hash;
    uint32_t refs;
    uint32_t n_bytes;
    char bytes[];
};

/* FNV-1a */
static uint32_t hash_of(struct slice text)
{
    uint32_t hash = 2166136261u;

    for (uint32_t i = 0; i < text.n_bytes; i++)
        hash = (hash ^ (uint8_t)text.bytes[i]) * 16777619u;
    return hash;
}

struct agent *agent_ref(struct agents *all, struct slice text)
{
    uint32_t hash = hash_of(text);
    struct agent **bucket = &all->buckets[hash % AGENTS_BUCKETS];
    struct agent *a;

    for (a = *bucket; a != NULL; a = a->next) {
        if (a->hash == hash && slice_equal(agent_text(a), text)) {
            a->refs++;
            return a;
        }
    }
    a = all->n < AGENTS_MAX ? malloc(sizeof *a + text.n_bytes) : NULL;
    if (a == NULL)
        return NULL;
    *a = (struct agent){ .next = *bucket, .hash = hash, .refs = 1, .n_bytes = text.n_bytes };
    if (text.n_bytes > 0)
        memcpy(a->bytes, text.bytes, text.n_bytes);
    *bucket = a;
    all->n++;
    return a;
}

void agent_unref(struct agents *all, struct agent *agent)
{
    struct agent **link;

    if (agent == NULL)
        return;
    assert(agent->refs > 0);
    if (--agent->refs > 0)
        return;
    for (link = &all->buckets[agent->hash % AGENTS_BUCKETS]; *link != agent; link = &(*link)->next)
        assert(*link != NULL);
    *link = agent->next;
    all->n--;
    free(agent);
}

struct slice agent_text(const struct agent *agent)
{
    return slice_of(agent->bytes, agent->n_bytes);
}
