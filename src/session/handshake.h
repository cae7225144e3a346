/* handshake.h: what is kept of the request that opened a session, for cluster queries: compact while it is kept, JSON when somebody asks. */
#ifndef PEAL_SESSION_HANDSHAKE_H
#define PEAL_SESSION_HANDSHAKE_H

#include "net/inbox.h"
#include "proto/http.h"
#include "session/agents.h"

/* Address, time, url; headers: `full` = all, else user-agent, origin and x-forwarded-for. To be freed with handshake_free; NULL: no memory. */
MUST_USE char *handshake_keep(const struct http_request *request, bool full,
                              uint64_t now_realtime_ms, struct agents *agents);
void handshake_free(char *kept, struct agents *agents); /* NULL is fine */

/* Bytes that handshake_put_json takes at most. */
uint32_t handshake_json_max(const char *kept, struct slice auth);

/* Writes Node's handshake object: headers, time, address, xdomain, secure, issued, url, query, auth. `kept` may be NULL. Returns the length. */
uint32_t handshake_put_json(char *out, const char *kept, const struct peer_address *peer,
                            struct slice auth);

#endif
