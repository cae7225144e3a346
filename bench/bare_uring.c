/* bare_uring.c: the second reference: bare_send.c with its sends batched through io_uring.
 *
 * A fan-out queues one send per member and enters the kernel once per BATCH of them. The sends are
 * MSG_DONTWAIT, so they complete inside io_uring_enter() and the frame may be reused afterwards.
 * Everything else, coalescing too, is bare_send.c's.
 *
 *     bare_uring PORT [coalesce] */
#define BARE_SENDS_OTHERWISE
#include "bare_send.c" /* NOLINT(bugprone-suspicious-include): one server, two ways to send */

#include <liburing.h>

#define BATCH 128u

static struct io_uring ring;

static void ring_init(void)
{
    int r = io_uring_queue_init(BATCH, &ring,
                                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                    IORING_SETUP_SUBMIT_ALL);

    if (r < 0)
        errx(1, "io_uring: %s", strerror(-r));
}

/* Submits what is queued and takes all its completions; members that could not take the frame
 * are dropped. */
static void sends_flush(unsigned queued, size_t frame_bytes)
{
    int lost[BATCH];
    unsigned n_lost = 0;

    if (queued == 0)
        return;
    if (io_uring_submit_and_wait(&ring, queued) != (int)queued)
        errx(1, "io_uring_enter");
    for (unsigned i = 0; i < queued; i++) {
        struct io_uring_cqe *cqe;

        if (io_uring_peek_cqe(&ring, &cqe) != 0)
            errx(1, "a completion is missing");
        if (cqe->res != (int)frame_bytes)
            lost[n_lost++] = (int)cqe->user_data;
        io_uring_cqe_seen(&ring, cqe);
    }
    while (n_lost > 0)
        drop(lost[--n_lost]);
}

static void sends_fan_out(struct room *r, int from, const uint8_t *frame, size_t n)
{
    unsigned queued = 0;

    if (ring.ring_fd == 0) /* the first time; 0 is standard input */
        ring_init();
    for (uint32_t i = r->count;
         i-- > 0;) { /* downwards: a drop puts a member from behind into the gap */
        struct io_uring_sqe *sqe;

        if (r->fds[i] == from)
            continue;
        sqe = io_uring_get_sqe(&ring);
        if (!sqe)
            errx(1, "the submission queue is full");
        io_uring_prep_send(sqe, r->fds[i], frame, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        sqe->user_data = (uint64_t)r->fds[i];
        if (++queued == BATCH) {
            sends_flush(queued, n);
            queued = 0;
        }
    }
    sends_flush(queued, n);
}
