/* loop.c: the io_uring behind loop.h.
 *
 * Invariant: every SQE has a tag; every CQE that is reaped is either handed to `loop_done`, or becomes exactly one loop_event.
 * Owns:      the ring, and the kept events.
 * Never:     blocks outside loop_turn, or waits without a limit.
 * Sources:   io_uring_setup(2) for the flags; DEFER_TASKRUN runs completions of polls only in an enter that asks for events, which is why
 *            loop_flush sees little else than sends or receives (inline completions), and loop_turn always asks. */
#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUNG_LOWEST  1
#define RUNG_HIGHEST 3
#define SEND_VECTORIZED \
    (1u << 5) /* IORING_SEND_VECTORIZED: younger than the headers of liburing 2.3 */
#define SEND_FLAGS  (MSG_DONTWAIT | MSG_NOSIGNAL)
#define SENDV_SLOTS 1024 /* msghdrs of one batch: as many as the submission queue takes at most */

struct loop {
    struct io_uring uring;
    uint32_t rung;
    bool vectorized;

    /* rung < 3: sendmsg wants a msghdr, which must live until the submission */
    struct msghdr *headers;
    uint32_t n_headers;

    /* events that came in a flush; a queue that grows with the number of armed requests */
    struct loop_event *kept;
    uint32_t kept_at;
    uint32_t n_kept;
    uint32_t kept_max;
    bool stranded; /* some may be what is flushed: loop_flush hands them out */

    struct loop_stats stats;
};

static uint32_t rung_flags(uint32_t rung)
{
    return IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG |
           (rung >= 2 ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
                      : IORING_SETUP_COOP_TASKRUN);
}

/* What keeps io_uring from us, in words that say what to change. */
static void explain(int error, char *why, uint32_t why_bytes)
{
    char setting[8] = "";
    int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, setting, sizeof setting - 1) < 0)
            setting[0] = 0;
        close(fd);
    }
    if (error == ENOSYS)
        snprintf(why, why_bytes,
                 "this kernel has no io_uring; Linux 6.1 or newer with CONFIG_IO_URING is needed");
    else if (error == EPERM && setting[0] != 0 && setting[0] != '0')
        snprintf(why, why_bytes,
                 "io_uring is switched off by sysctl kernel.io_uring_disabled=%c; set it to 0",
                 setting[0]);
    else if (error == EPERM || error == EACCES)
        snprintf(
            why, why_bytes,
            "io_uring is refused (EPERM), most likely by the container's seccomp profile; allow "
            "io_uring_setup, io_uring_enter and io_uring_register in it");
    else if (error == ENOMEM)
        snprintf(why, why_bytes,
                 "io_uring got no memory (ENOMEM); raise RLIMIT_MEMLOCK or the memory limit");
    else if (error == EINVAL)
        snprintf(why, why_bytes, "this kernel's io_uring is too old; Linux 6.1 or newer is needed");
    else
        snprintf(why, why_bytes, "io_uring_setup failed: %s", strerror(error));
}

static int make_ring(struct loop *l, const struct loop_options *o, uint32_t rung)
{
    struct io_uring_params params = { .flags = rung_flags(rung) | IORING_SETUP_CQSIZE,
                                      .cq_entries = o->cq_entries };
    int result = io_uring_queue_init_params(o->sq_entries, &l->uring, &params);

    if (result < 0)
        return result;
    if ((params.features & IORING_FEAT_NODROP) == 0 ||
        (params.features & IORING_FEAT_EXT_ARG) == 0) {
        io_uring_queue_exit(&l->uring);
        return -EINVAL;
    }
    (void)io_uring_register_ring_fd(&l->uring); /* saves a file look-up per enter; works without */
    l->rung = rung;
    return 0;
}

/* Does this kernel take an iovec array in IORING_OP_SEND? There is no feature flag: send two pieces to ourselves and look. */
static bool try_vectorized(struct loop *l)
{
    struct iovec iov[2] = { { (void *)"ab", 2 }, { (void *)"c", 1 } };
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe;
    bool works = false;
    char got[4];
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    sqe = io_uring_get_sqe(&l->uring);
    assert(sqe != NULL);
    io_uring_prep_send(sqe, pair[0], iov, 2, SEND_FLAGS);
    sqe->ioprio = SEND_VECTORIZED;
    if (io_uring_submit_and_wait(&l->uring, 1) == 1 && io_uring_peek_cqe(&l->uring, &cqe) == 0) {
        works = cqe->res == 3 && read(pair[1], got, sizeof got) == 3 && memcmp(got, "abc", 3) == 0;
        io_uring_cqe_seen(&l->uring, cqe);
    }
    close(pair[0]);
    close(pair[1]);
    return works;
}

/* The highest rung allowed: PEAL_RUNG, else all. False: there is no such rung. */
static bool rung_wanted(uint32_t *rung, char *why, uint32_t why_bytes)
{
    const char *text = getenv("PEAL_RUNG");

    *rung = RUNG_HIGHEST;
    if (text == NULL || text[0] == 0)
        return true;
    if (text[1] != 0 || text[0] < '0' + RUNG_LOWEST || text[0] > '0' + RUNG_HIGHEST) {
        snprintf(why, why_bytes,
                 "PEAL_RUNG=%.16s is not supported: this build runs on rungs %d to %d, all with "
                 "io_uring; unset PEAL_RUNG",
                 text, RUNG_LOWEST, RUNG_HIGHEST);
        return false;
    }
    *rung = (uint32_t)(text[0] - '0');
    return true;
}

int loop_new(struct loop **out, const struct loop_options *o, char *why, uint32_t why_bytes)
{
    struct loop *l;
    uint32_t rung;
    int result;

    *out = NULL;
    if (!rung_wanted(&rung, why, why_bytes))
        return -ENOTSUP;
    l = calloc(1, sizeof *l);
    if (l == NULL)
        return -ENOMEM;
    result = make_ring(l, o, rung < 2 ? 1 : 2);
    if (result == -EINVAL && rung > 1)
        result = make_ring(l, o, 1);
    if (result < 0) {
        explain(-result, why, why_bytes);
        free(l);
        return result;
    }
    if (rung == 3 && l->rung == 2 && try_vectorized(l)) {
        l->rung = 3;
        l->vectorized = true;
    }
    l->headers = calloc(SENDV_SLOTS, sizeof *l->headers);
    l->kept_max = o->cq_entries;
    l->kept = calloc(l->kept_max, sizeof *l->kept);
    if (l->headers == NULL || l->kept == NULL) {
        snprintf(why, why_bytes, "there is no memory for %u completions", o->cq_entries);
        loop_free(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    io_uring_queue_exit(&l->uring);
    free(l->headers);
    free(l->kept);
    free(l);
}

uint32_t loop_rung(const struct loop *l)
{
    return l->rung;
}

/* --- completions --- */

static struct loop_event event_of(const struct io_uring_cqe *cqe)
{
    return (struct loop_event){
        .tag = cqe->user_data,
        .result = cqe->res,
        .more = (cqe->flags & IORING_CQE_F_MORE) != 0,
    };
}

static void keep(struct loop *l, struct loop_event event)
{
    if (l->n_kept == l->kept_max) {
        /* as many as there are armed requests; without memory for them the process cannot go on, and the master replaces it */
        struct loop_event *grown = calloc((size_t)l->kept_max * 2, sizeof *grown);

        assert(grown != NULL);
        for (uint32_t i = 0; i < l->n_kept; i++)
            grown[i] = l->kept[(l->kept_at + i) % l->kept_max];
        free(l->kept);
        l->kept = grown;
        l->kept_at = 0;
        l->kept_max *= 2;
    }
    l->kept[(l->kept_at + l->n_kept++) % l->kept_max] = event;
}

static void reap(struct loop *l, uint8_t op, loop_done done, void *context)
{
    struct io_uring_cqe *cqe;
    uint32_t head;
    uint32_t n;

    do {
        n = 0;
        io_uring_for_each_cqe(&l->uring, head, cqe)
        {
            n++;
            if (done != NULL && tag_op(cqe->user_data) == op)
                done(context, cqe->user_data, cqe->res);
            else
                keep(l, event_of(cqe));
        }
        io_uring_cq_advance(&l->uring, n);
    } while (n > 0 && io_uring_cq_has_overflow(&l->uring) && io_uring_get_events(&l->uring) >= 0);
}

/* Completions must be taken before the kernel accepts more. */
static void make_room(struct loop *l)
{
    reap(l, 0, NULL, NULL);
    l->stranded = true;
}

static void submit(struct loop *l)
{
    while (io_uring_sq_ready(&l->uring) > 0) {
        int result = io_uring_submit(&l->uring);

        l->stats.n_enters++;
        if (result > 0)
            l->stats.n_sqes += (uint64_t)result;
        else if (result == -EBUSY || result == -EAGAIN)
            make_room(l);
        else
            assert(result == -EINTR);
    }
}

static struct io_uring_sqe *get_sqe(struct loop *l, uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&l->uring);

    if (sqe == NULL) {
        submit(l);
        sqe = io_uring_get_sqe(&l->uring);
        assert(sqe != NULL);
    }
    sqe->user_data = tag;
    return sqe;
}

/* --- requests --- */

void loop_accept(struct loop *l, int listener, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    sqe->user_data = tag;
}

void loop_poll(struct loop *l, int fd, uint32_t events, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_poll_multishot(sqe, fd, events);
    sqe->user_data = tag;
}

void loop_poll_once(struct loop *l, int fd, uint32_t events, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_poll_add(sqe, fd, events);
    sqe->user_data = tag;
}

void loop_recv(struct loop *l, int fd, void *out, uint32_t n_bytes, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_recv(sqe, fd, out, n_bytes, MSG_DONTWAIT);
    sqe->user_data = tag;
}

void loop_read(struct loop *l, int fd, void *out, uint32_t n_bytes, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_read(sqe, fd, out, n_bytes, 0);
    sqe->user_data = tag;
}

void loop_send(struct loop *l, int fd, const void *bytes, uint32_t n_bytes, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_send(sqe, fd, bytes, n_bytes, SEND_FLAGS);
    sqe->user_data = tag;
}

void loop_sendv(struct loop *l, int fd, const struct iovec *iov, uint32_t n_iov, uint64_t tag)
{
    struct io_uring_sqe *sqe;

    if (l->vectorized) {
        sqe = get_sqe(l, tag);
        io_uring_prep_send(sqe, fd, iov, n_iov, SEND_FLAGS);
        sqe->ioprio = SEND_VECTORIZED;
    } else {
        struct msghdr *header;

        if (l->n_headers == SENDV_SLOTS || io_uring_sq_space_left(&l->uring) == 0) {
            submit(l); /* the kernel has copied the msghdrs when this returns */
            l->n_headers = 0;
        }
        header = &l->headers[l->n_headers++];
        *header = (struct msghdr){ .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n_iov };
        sqe = get_sqe(l, tag);
        io_uring_prep_sendmsg(sqe, fd, header, SEND_FLAGS);
    }
    sqe->user_data = tag;
}

void loop_cancel(struct loop *l, uint64_t tag_of_request, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_cancel64(sqe, tag_of_request, IORING_ASYNC_CANCEL_ALL);
    sqe->user_data = tag;
}

void loop_close(struct loop *l, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(l, tag);

    io_uring_prep_close(sqe, fd);
    sqe->user_data = tag;
}

/* --- turns --- */

static uint32_t take_kept(struct loop *l, struct loop_event *events, uint32_t max)
{
    uint32_t n = 0;

    while (n < max && l->n_kept > 0) {
        events[n++] = l->kept[l->kept_at];
        l->kept_at =
            --l->n_kept == 0 ? 0 : (l->kept_at + 1) % l->kept_max; /* few pages are touched */
    }
    return n;
}

/* Completions that were taken by make_room while others were submitted. */
static void hand_out_stranded(struct loop *l, uint8_t op, loop_done done, void *context)
{
    l->stranded = false;
    for (uint32_t n = l->n_kept; n > 0; n--) {
        struct loop_event event;

        (void)take_kept(l, &event, 1);
        if (tag_op(event.tag) == op)
            done(context, event.tag, event.result);
        else
            keep(l, event);
    }
}

void loop_flush(struct loop *l, uint8_t op, loop_done done, void *context)
{
    submit(l);
    l->n_headers = 0;
    if (l->stranded)
        hand_out_stranded(l, op, done, context);
    reap(l, op, done, context);
}

/* Has the kernel completions that it hands out only when asked? It says so in the shared memory, which costs no system call. */
static bool kernel_has_more(const struct loop *l)
{
    return (IO_URING_READ_ONCE(*l->uring.sq.kflags) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

uint32_t loop_turn(struct loop *l, uint32_t wait_ms, struct loop_event *events, uint32_t max)
{
    struct __kernel_timespec timeout = { .tv_sec = wait_ms / 1000,
                                         .tv_nsec = (long long)(wait_ms % 1000) * 1000000 };
    uint32_t n = take_kept(l, events, max);
    struct io_uring_cqe *cqe = NULL;
    uint32_t n_ready = io_uring_sq_ready(&l->uring);
    uint32_t n_seen = 0;
    uint32_t head;
    bool wait = wait_ms > 0 && n == 0 && io_uring_cq_ready(&l->uring) == 0;
    int result = 0;

    if (wait || n_ready > 0 || kernel_has_more(l)) {
        result = wait ? io_uring_submit_and_wait_timeout(&l->uring, &cqe, 1, &timeout, NULL)
                      : io_uring_submit_and_get_events(&l->uring);
        l->stats.n_enters++;
        l->stats.n_sqes += n_ready;
        l->n_headers = 0;
    }
    assert(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
           result == -EAGAIN);
    io_uring_for_each_cqe(&l->uring, head, cqe)
    {
        if (n == max)
            break;
        events[n++] = event_of(cqe);
        n_seen++;
    }
    io_uring_cq_advance(&l->uring, n_seen);
    return n;
}

struct loop_stats loop_stats_read(const struct loop *l)
{
    return l->stats;
}
