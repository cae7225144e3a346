/* agents.h: User-Agent texts of clients, each kept once: they are long, and of a hundred thousand clients only some hundred differ. */
#ifndef PEAL_SESSION_AGENTS_H
#define PEAL_SESSION_AGENTS_H

#include "base/slice.h"

#define AGENTS_MAX     4096u /* different ones; further ones are not taken */
#define AGENTS_BUCKETS 512u

struct agent;

/* All zeros: none yet. Nothing is left of it when every reference has been dropped. */
struct agents {
    struct agent *buckets[AGENTS_BUCKETS];
    uint32_t n;
};

/* A reference to the text. NULL: there are AGENTS_MAX others, or no memory. */
MUST_USE struct agent *agent_ref(struct agents *all, struct slice text);
void agent_unref(struct agents *all, struct agent *agent); /* NULL is fine */

struct slice agent_text(const struct agent *agent);

#endif
