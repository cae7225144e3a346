/* test_child.c: what a child finds, and what it must not find.
 *
 * The program is its own child: child_spawn executes /proc/self/exe, so with `--child=...` it writes what
 * it sees to descriptor 2 and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/child.h"
#include "net/inbox.h"

/* --- the child --- */

static unsigned file_of(int fd)
{
    struct stat s;

    return fd >= 0 && fstat(fd, &s) == 0 ? (unsigned)s.st_ino : 0;
}

static int child_main(const struct child *c)
{
    uint32_t n_open = 0, n_inboxes = 0, n_bells = 0, cloexec = 0;
    struct sigaction action;
    sigset_t mask;
    int death = 0;

    for (int fd = 3; fd < 20000; fd++) {
        int flags = fcntl(fd, F_GETFD);

        n_open += flags >= 0;
        cloexec += flags == FD_CLOEXEC;
    }
    for (int i = 0; i < PEAL_SLOTS_ALL; i++) {
        n_inboxes += c->inboxes[i] >= 0;
        n_bells += c->bells[i] >= 0;
    }
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigaction(SIGTERM, NULL, &action);
    prctl(PR_GET_PDEATHSIG, &death);
    dprintf(STDERR_FILENO,
            "role=%d slot=%u generation=%u region=%u life=%u inbox=%u own=%u bell=%u listener=%u "
            "open=%u cloexec=%u inboxes=%u bells=%u listeners=%u blocked=%d term=%d death=%d\n",
            (int)c->role, c->slot, c->generation, file_of(c->region_fd), file_of(c->life_fd),
            file_of(c->inbox_fd), file_of(c->inboxes[c->slot]), file_of(c->bells[c->slot]),
            file_of(c->n_listeners ? c->listeners[c->n_listeners - 1] : -1), n_open, cloexec,
            n_inboxes, n_bells, c->n_listeners, sigismember(&mask, SIGTERM),
            action.sa_handler == SIG_DFL, death);
    return 42;
}

/* --- the test --- */

struct world {
    struct child spec;
    int life[2];
    int files[8];
};

/* Files are memfds, so that each has an inode of its own. */
static int some_file(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static struct world world_make(void)
{
    struct world w;
    struct child *c = &w.spec;

    memset(&w, 0, sizeof w);
    assert_int_equal(pipe2(w.life, O_CLOEXEC), 0);
    *c = (struct child){ .role = CHILD_WORKER, .slot = 3, .generation = 17, .life_fd = w.life[0] };
    c->region_fd = some_file();
    c->inbox_fd = some_file();
    for (int i = 0; i < PEAL_SLOTS_ALL; i++) {
        bool exists = i < 5 || i == PEAL_SLOT_ADMIN || i == PEAL_SLOT_MASTER;

        c->inboxes[i] = exists ? some_file() : -1;
        c->bells[i] = exists ? some_file() : -1;
    }
    c->n_listeners = 2;
    c->listeners[0] = some_file();
    c->listeners[1] = some_file();
    return w;
}

static void world_end(struct world *w)
{
    close(w->life[0]);
    close(w->life[1]);
    close(w->spec.region_fd);
    close(w->spec.inbox_fd);
    for (int i = 0; i < PEAL_SLOTS_ALL; i++) {
        if (w->spec.inboxes[i] >= 0)
            close(w->spec.inboxes[i]);
        if (w->spec.bells[i] >= 0)
            close(w->spec.bells[i]);
    }
    for (uint32_t i = 0; i < w->spec.n_listeners; i++)
        close(w->spec.listeners[i]);
}

/* Spawns, and gives what the child wrote. */
static void run(const struct child *spec, char *out, size_t max)
{
    int pipes[2], saved = dup(STDERR_FILENO), pidfd = -1, pid;
    struct pollfd p = { .events = POLLIN };
    siginfo_t info = { 0 };
    ssize_t n;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    dup2(pipes[1], STDERR_FILENO);
    pid = child_spawn(spec, &pidfd);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipes[1]);
    assert_true(pid > 0);
    p.fd = pidfd;
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    assert_int_equal(info.si_pid, pid);
    n = read(pipes[0], out, max - 1);
    out[n > 0 ? n : 0] = '\0';
    assert_int_equal(info.si_status, 42);
    close(pipes[0]);
    close(pidfd);
}

static void expect_world(const struct world *w, const char *seen)
{
    const struct child *c = &w->spec;
    char expected[512];

    snprintf(expected, sizeof expected,
             "role=0 slot=3 generation=17 region=%u life=%u inbox=%u own=%u bell=%u listener=%u "
             "open=19 cloexec=19 inboxes=7 bells=7 listeners=2 blocked=0 term=1 death=%d\n",
             file_of(c->region_fd), file_of(c->life_fd), file_of(c->inbox_fd),
             file_of(c->inboxes[3]), file_of(c->bells[3]), file_of(c->listeners[1]), SIGCONT);
    assert_string_equal(seen, expected);
}

static void test_a_child_finds_what_it_was_given_and_nothing_else(void **state)
{
    struct world w = world_make();
    int inherited = fcntl(w.files[0], F_DUPFD, 200), high = fcntl(w.files[0], F_DUPFD, 900);
    sigset_t block;
    char seen[512];

    (void)state;
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    run(&w.spec, seen, sizeof seen);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    expect_world(&w, seen);
    close(inherited);
    close(high);
    world_end(&w);
}

static void test_descriptors_may_lie_in_each_other_s_way(void **state)
{
    struct world w = world_make();
    struct child *c = &w.spec;
    char seen[512];
    int swap;

    (void)state;
    /* the low numbers, which are targets, are all taken by sources of something else */
    swap = c->region_fd;
    c->region_fd = c->listeners[1];
    c->listeners[1] = swap;
    swap = c->inbox_fd;
    c->inbox_fd = c->bells[3];
    c->bells[3] = swap;
    run(&w.spec, seen, sizeof seen);
    expect_world(&w, seen);
    c->region_fd = fcntl(swap, F_DUPFD_CLOEXEC, 3000); /* and one beyond all */
    run(&w.spec, seen, sizeof seen);
    assert_non_null(strstr(seen, "open=19 cloexec=19"));
    close(c->region_fd);
    c->region_fd = some_file();
    world_end(&w);
}

static void test_only_a_whole_command_line_is_a_child_s(void **state)
{
    static const char *const bad[] = {
        "serve",
        "--child=",
        "--child=worker",
        "--child=worker:3",
        "--child=worker:3:",
        "--child=worker::1",
        "--child=worker:3:1x",
        "--child=worker:62:1",
        "--child=worker:-1:1",
        "--child=bridge:3:1",
        "--child=admin:62:1",
        "--child=master:64:1",
        "--child=worker:3:4294967296",
        "--child=worker:3:1:1",
        "--child=workers:3:1",
        "--child=worker: 3:1",
    };
    struct child c;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[64], program[] = "peal";
        char *argv[] = { program, text, NULL };

        snprintf(text, sizeof text, "%s", bad[i]);
        assert_false(child_parse(&c, 2, argv));
        assert_false(child_parse(&c, 1, argv));
    }
}

static void test_a_child_without_its_descriptors_is_none(void **state)
{
    char program[] = "peal", text[] = "--child=worker:3:17";
    char *argv[] = { program, text, NULL };
    struct child c;
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        (void)close_range(3, ~0u, 0);
        _exit(child_parse(&c, 2, argv));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_child_finds_what_it_was_given_and_nothing_else),
        cmocka_unit_test(test_descriptors_may_lie_in_each_other_s_way),
        cmocka_unit_test(test_only_a_whole_command_line_is_a_child_s),
        cmocka_unit_test(test_a_child_without_its_descriptors_is_none),
    };
    struct child child;

    if (child_parse(&child, argc, argv))
        return child_main(&child);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
