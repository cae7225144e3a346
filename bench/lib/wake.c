/* wake.c: see wake.h. */
#include "lib/wake.h"

#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/util.h"

#define WARM_UP      100u
#define SLEEPERS_MAX 64u

static void ring_open(struct io_uring *ring)
{
    int error =
        io_uring_queue_init(8, ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    if (error < 0)
        die("io_uring: %s", strerror(-error));
}

static void wait_for(struct io_uring *ring, int fd)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    static uint64_t count;

    io_uring_prep_read(sqe, fd, &count, sizeof count, 0);
    if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_peek_cqe(ring, &cqe) != 0 ||
        cqe->res != (int)sizeof count)
        die("a wait in io_uring failed");
    io_uring_cqe_seen(ring, cqe);
}

static void wake(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof one) != (ssize_t)sizeof one)
        die("eventfd: %s", strerror(errno));
}

static double used_us(int who)
{
    struct rusage u;

    if (getrusage(who, &u) != 0)
        die("getrusage: %s", strerror(errno));
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* A process that ends with us. 0: it is the new one. */
static pid_t fork_child(void)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        _exit(2);
    return pid;
}

static _Noreturn void answer(int mine, int theirs, uint32_t n)
{
    struct io_uring ring;

    ring_open(&ring);
    for (uint32_t i = 0; i < n; i++) {
        wait_for(&ring, mine);
        wake(theirs);
    }
    _exit(0);
}

void wake_measure(struct wake_cost *out, uint32_t n)
{
    struct io_uring ring;
    int to = eventfd(0, EFD_CLOEXEC);
    int back = eventfd(0, EFD_CLOEXEC);
    double before = used_us(RUSAGE_SELF) + used_us(RUSAGE_CHILDREN);
    pid_t pid;

    memset(out, 0, sizeof *out);
    if (to < 0 || back < 0)
        die("eventfd: %s", strerror(errno));
    pid = fork_child();
    if (pid == 0)
        answer(to, back, n + WARM_UP);
    ring_open(&ring);
    for (uint32_t i = 0; i < n + WARM_UP; i++) {
        uint64_t began_ns = now_ns();

        wake(to);
        wait_for(&ring, back);
        if (i >= WARM_UP)
            hist_add(&out->one_way, (now_ns() - began_ns) / 2);
    }
    io_uring_queue_exit(&ring);
    if (waitpid(pid, NULL, 0) != pid)
        die("waitpid: %s", strerror(errno));
    out->cpu_us =
        (used_us(RUSAGE_SELF) + used_us(RUSAGE_CHILDREN) - before) / (2.0 * (n + WARM_UP));
    (void)close(to);
    (void)close(back);
}

static _Noreturn void sleeper(int fd, uint32_t n)
{
    struct io_uring ring;

    ring_open(&ring);
    for (uint32_t i = 0; i < n; i++)
        wait_for(&ring, fd);
    _exit(0);
}

double wake_measure_seldom(uint32_t sleepers, uint32_t n, double rate)
{
    const uint64_t period_ns = (uint64_t)(1e9 / rate);
    double before = used_us(RUSAGE_SELF) + used_us(RUSAGE_CHILDREN);
    pid_t pids[SLEEPERS_MAX]; /* the caller has other children */
    int fds[SLEEPERS_MAX];
    uint64_t due_ns;

    if (sleepers == 0 || sleepers > SLEEPERS_MAX)
        die("1 to %u sleepers", SLEEPERS_MAX);
    for (uint32_t i = 0; i < sleepers; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
        if (fds[i] < 0)
            die("eventfd: %s", strerror(errno));
        pids[i] = fork_child();
        if (pids[i] == 0)
            sleeper(fds[i], n);
    }
    due_ns = now_ns();
    for (uint32_t i = 0; i < n; i++) {
        struct timespec due;

        due_ns += period_ns;
        due = (struct timespec){ (time_t)(due_ns / NS_PER_S), (long)(due_ns % NS_PER_S) };
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
        for (uint32_t k = 0; k < sleepers; k++)
            wake(fds[k]);
    }
    for (uint32_t i = 0; i < sleepers; i++) {
        if (waitpid(pids[i], NULL, 0) != pids[i])
            die("waitpid: %s", strerror(errno));
        (void)close(fds[i]);
    }
    return (used_us(RUSAGE_SELF) + used_us(RUSAGE_CHILDREN) - before) / ((double)sleepers * n);
}
