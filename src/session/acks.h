/* acks.h: broadcasts that clients of this worker may acknowledge: an answer counts only from a socket to which that id was sent, and once. */
#ifndef PEAL_SESSION_ACKS_H
#define PEAL_SESSION_ACKS_H

#include "session/hub.h"

#define ACKS_EXPECTED_MAX   (1u << 20) /* sockets asked, over all broadcasts of a worker that wait */
#define ACKS_TIMEOUT_MAX_MS 300000

struct acks *acks_new(void);
void acks_free(struct acks *a);

/* The broadcast `id` is about to be sent to sockets; it is forgotten after timeout_ms. False: too much is waiting; nobody's answer will be taken. */
bool acks_open(struct acks *a, uint64_t id, uint64_t now_ms, uint32_t timeout_ms);
void acks_expect(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation);
uint32_t acks_count(const struct acks *a, uint64_t id);

/* Nobody else will be asked: it is forgotten as soon as all have answered. */
void acks_asked(struct acks *a, uint64_t id);

/* Takes an answer; false: not expected (or not any more). */
MUST_USE bool acks_take(struct acks *a, uint64_t id, uint32_t sock, uint32_t generation);

void acks_expire(struct acks *a, uint64_t now_ms);

#endif
