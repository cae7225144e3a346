/* loop.h: one io_uring, owned by the thread that made it: SQEs in, completions out. liburing stays behind this header.
 *
 * user_data is a tag: what was asked, of whom, of which generation of whom. A late completion therefore never touches a reused slot.
 * Every request ends with exactly one event without `more`; a multishot one that ends must be armed again by the caller. A full submission
 * queue is an ordinary state: requests are submitted to make room.
 *
 * The ladder (PEAL_RUNG forces a lower one, for tests):
 *   3  rung 2, and sends that take an iovec array without a msghdr (IORING_SEND_VECTORIZED; found by trying, Linux 6.17 and later)
 *   2  SINGLE_ISSUER | DEFER_TASKRUN | SUBMIT_ALL | TASKRUN_FLAG (Linux 6.1)
 *   1  COOP_TASKRUN | SUBMIT_ALL | TASKRUN_FLAG (Linux 5.19; kernels that lack what rung 2 needs)
 *   0  no io_uring: refused, there is no such loop */
#ifndef PEAL_NET_LOOP_H
#define PEAL_NET_LOOP_H

#include <sys/uio.h>

#include "base/slice.h"

struct loop;

/* tag: [ op:8 | index:24 | generation:32 ] */
static inline uint64_t tag_pack(uint8_t op, uint32_t index, uint32_t generation)
{
    return (uint64_t)op << 56 | (uint64_t)(index & 0xffffffu) << 32 | generation;
}
static inline uint8_t tag_op(uint64_t tag)
{
    return (uint8_t)(tag >> 56);
}
static inline uint32_t tag_index(uint64_t tag)
{
    return (uint32_t)(tag >> 32) & 0xffffffu;
}
static inline uint32_t tag_generation(uint64_t tag)
{
    return (uint32_t)tag;
}

struct loop_event {
    uint64_t tag;
    int32_t result; /* >= 0, or -errno */
    bool more;      /* multishot: still armed */
};

struct loop_options {
    uint32_t sq_entries; /* powers of two */
    uint32_t cq_entries;
};

/* 0, or -errno with `why` a text for people that names cause and remedy (io_uring_disabled, seccomp, old kernel, memory limits). */
MUST_USE int loop_new(struct loop **out, const struct loop_options *options, char *why,
                      uint32_t why_bytes);
void loop_free(struct loop *l);
uint32_t loop_rung(const struct loop *l);

/* Requests. They cannot fail: what is wrong with the descriptor comes as the event's result. */
void loop_accept(struct loop *l, int listener,
                 uint64_t tag); /* multishot; accepted sockets are CLOEXEC and NONBLOCK */
void loop_poll(struct loop *l, int fd, uint32_t events, uint64_t tag); /* multishot */
void loop_poll_once(struct loop *l, int fd, uint32_t events, uint64_t tag);
void loop_recv(struct loop *l, int fd, void *out, uint32_t n_bytes,
               uint64_t tag); /* MSG_DONTWAIT */
void loop_read(struct loop *l, int fd, void *out, uint32_t n_bytes,
               uint64_t tag); /* e.g. an eventfd: waits until readable */
void loop_send(struct loop *l, int fd, const void *bytes, uint32_t n_bytes,
               uint64_t tag); /* MSG_DONTWAIT | MSG_NOSIGNAL */
void loop_sendv(struct loop *l, int fd, const struct iovec *iov, uint32_t n_iov,
                uint64_t tag); /* the same; at most 1024 iovecs; `iov` must
                                                                                    live until loop_flush has returned */
void loop_cancel(struct loop *l, uint64_t tag_of_request,
                 uint64_t tag); /* cancels all requests with that tag */
void loop_close(struct loop *l, int fd, uint64_t tag);

/* Submits what is queued and calls `done` for each completion of a request whose tag has that `op`: sends, or receives. They do not
 * wait, so they complete within, and no request points to memory when this has returned. Other completions are kept for loop_turn. */
typedef void (*loop_done)(void *context, uint64_t tag, int32_t result);
void loop_flush(struct loop *l, uint8_t op, loop_done done, void *context);

/* Submits and waits up to `wait_ms` (0: does not wait) for at least one completion, then hands out at most `max` events. Kept ones come first. */
MUST_USE uint32_t loop_turn(struct loop *l, uint32_t wait_ms, struct loop_event *events,
                            uint32_t max);

/* Statistics since the loop was made. */
struct loop_stats {
    uint64_t n_enters;
    uint64_t n_sqes;
};
struct loop_stats loop_stats_read(const struct loop *l);

#endif
