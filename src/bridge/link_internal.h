/* link_internal.h: what link.c (the way up) and link_io.c (what goes over it) share. */
#ifndef PEAL_BRIDGE_LINK_INTERNAL_H
#define PEAL_BRIDGE_LINK_INTERNAL_H

#include "bridge/link.h"
#include "bridge/tls.h"

/* A reader that refuses replies of more than LINK_ELEMENTS_MAX; NULL: no memory. */
struct link_reader *link_reader_new(void);
void link_reader_free(struct link_reader *r);

/* What an operator can do about it; "": we do not know. */
const char *link_remedy(const char *why);

/* Reads what is there, up to a budget, and hands out its replies. */
void link_read(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context);

/* A reply in state GREETING. */
void link_on_greeting(struct link *l, const struct redisReply *reply, uint64_t now_ms);

#endif
