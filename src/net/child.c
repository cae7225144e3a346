/* child.c: how a process of the house comes to be, and what it finds.
 *
 * Invariant: descriptors lie at fixed numbers (below), a number that is not open means that there is no such thing; nothing else is open
 *            but standard input, output and error. So no client's descriptor, no listener and no life pipe's write end is ever inherited.
 * Between fork and exec only async-signal-safe calls are made, and nothing is allocated. */
#include "net/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_FD_REGION = 3,
    CHILD_FD_LIFE,
    CHILD_FD_INBOX,
    CHILD_FD_INBOXES,
    CHILD_FD_BELLS = CHILD_FD_INBOXES + PEAL_SLOTS_ALL,
    CHILD_FD_LISTENERS = CHILD_FD_BELLS + PEAL_SLOTS_ALL,
    CHILD_LISTENERS_MAX = 8,
    CHILD_FD_END = CHILD_FD_LISTENERS + CHILD_LISTENERS_MAX
};

static const char *const child_role_names[] = {
    [CHILD_WORKER] = "worker", [CHILD_BRIDGE] = "bridge", [CHILD_ADMIN] = "admin"
};

static bool child_slot_fits(enum child_role role, uint32_t slot)
{
    switch (role) {
    case CHILD_WORKER: return slot < PEAL_WORKERS_MAX;
    case CHILD_BRIDGE: return slot == PEAL_SLOT_BRIDGE;
    case CHILD_ADMIN: return slot == PEAL_SLOT_ADMIN;
    }
    return false;
}

/* --- the child's side --- */

/* A decimal number without sign, followed by `end`; moves `text` behind it. */
static bool child_number(const char **text, char end, uint32_t max, uint32_t *out)
{
    char *behind;
    unsigned long value;

    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    value = strtoul(*text, &behind, 10);
    if (errno != 0 || value > max || *behind != end)
        return false;
    *out = (uint32_t)value;
    *text = behind + (end != '\0');
    return true;
}

static bool child_parse_name(struct child *out, const char *text)
{
    const size_t n_roles = sizeof child_role_names / sizeof child_role_names[0];

    for (size_t role = 0; role < n_roles; role++) {
        size_t n = strlen(child_role_names[role]);
        const char *at = text + n;

        if (strncmp(text, child_role_names[role], n) != 0 || *at != ':')
            continue;
        at++;
        out->role = (enum child_role)role;
        return child_number(&at, ':', PEAL_SLOTS_ALL - 1, &out->slot) &&
               child_number(&at, '\0', UINT32_MAX, &out->generation) &&
               child_slot_fits(out->role, out->slot);
    }
    return false;
}

/* The descriptor if it is there, else -1. What this child starts must not inherit it: close-on-exec does not survive dup2. */
static int child_fd(int fd)
{
    if (fcntl(fd, F_GETFD) < 0)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

#if defined(__SANITIZE_ADDRESS__)
/* The search for leaks at the exit stops this process by ptrace, and the SIGCONT of a dying master (child_become) would take that stop
 * away: the search would wait for it for ever. */
static void child_outlives_parent(void)
{
    (void)prctl(PR_SET_PDEATHSIG, 0);
}
#endif

bool child_parse(struct child *out, int argc, char *const argv[])
{
    static const char prefix[] = "--child=";

#if defined(__SANITIZE_ADDRESS__)
    (void)atexit(child_outlives_parent); /* runs before the search: registered later */
#endif
    memset(out, 0, sizeof *out);
    if (argc != 2 || strncmp(argv[1], prefix, sizeof prefix - 1) != 0 ||
        !child_parse_name(out, argv[1] + sizeof prefix - 1))
        return false;
    out->region_fd = child_fd(CHILD_FD_REGION);
    out->life_fd = child_fd(CHILD_FD_LIFE);
    out->inbox_fd = child_fd(CHILD_FD_INBOX);
    for (int i = 0; i < PEAL_SLOTS_ALL; i++) {
        out->inboxes[i] = child_fd(CHILD_FD_INBOXES + i);
        out->bells[i] = child_fd(CHILD_FD_BELLS + i);
    }
    for (int i = 0; i < CHILD_LISTENERS_MAX && child_fd(CHILD_FD_LISTENERS + i) >= 0; i++)
        out->listeners[out->n_listeners++] = CHILD_FD_LISTENERS + i;
    for (uint32_t i = out->n_listeners; i < CHILD_LISTENERS_MAX; i++)
        out->listeners[i] = -1;
    return out->region_fd >= 0 && out->life_fd >= 0 && out->inbox_fd >= 0 &&
           out->inboxes[out->slot] >= 0 && out->bells[out->slot] >= 0;
}

/* --- the master's side --- */

struct child_move {
    int from;
    int to;
};

struct child_moves {
    struct child_move items[CHILD_FD_END];
    uint32_t n;
};

/* Kept sorted by source, so that what lies between the sources can be closed in ranges. */
static void child_moves_add(struct child_moves *m, int from, int to)
{
    uint32_t at = m->n;

    if (from < 0)
        return;
    assert(m->n < CHILD_FD_END);
    for (; at > 0 && m->items[at - 1].from > from; at--)
        m->items[at] = m->items[at - 1];
    m->items[at] = (struct child_move){ from, to };
    m->n++;
}

static void child_moves_collect(struct child_moves *m, const struct child *spec)
{
    m->n = 0;
    child_moves_add(m, spec->region_fd, CHILD_FD_REGION);
    child_moves_add(m, spec->life_fd, CHILD_FD_LIFE);
    child_moves_add(m, spec->inbox_fd, CHILD_FD_INBOX);
    for (int i = 0; i < PEAL_SLOTS_ALL; i++) {
        child_moves_add(m, spec->inboxes[i], CHILD_FD_INBOXES + i);
        child_moves_add(m, spec->bells[i], CHILD_FD_BELLS + i);
    }
    for (uint32_t i = 0; i < spec->n_listeners; i++)
        child_moves_add(m, spec->listeners[i], CHILD_FD_LISTENERS + (int)i);
}

/* After fork. First everything that is not passed on is closed: a master at its limit of open files still has room to move the rest. Then
 * sources within the target range go out of the way, then all go to their numbers. */
static bool child_descriptors_arrange(struct child_moves *m)
{
    bool used[CHILD_FD_END] = { false };
    unsigned from = 3;

    for (uint32_t i = 0; i < m->n; i++) {
        unsigned source = (unsigned)m->items[i].from;

        if (source > from && close_range(from, source - 1, 0) < 0)
            return false;
        if (source >= from)
            from = source + 1;
    }
    if (close_range(from, ~0u, 0) < 0)
        return false;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->items[i].from >= CHILD_FD_END)
            continue;
        m->items[i].from = fcntl(m->items[i].from, F_DUPFD_CLOEXEC, CHILD_FD_END);
        if (m->items[i].from < 0)
            return false;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        if (dup2(m->items[i].from, m->items[i].to) < 0)
            return false;
        used[m->items[i].to] = true;
    }
    for (int fd = 3; fd < CHILD_FD_END; fd++) {
        if (!used[fd])
            close(fd); /* most are not open */
    }
    return close_range(CHILD_FD_END, ~0u, 0) == 0;
}

/* Everything to its default, but: a closed standard error must not kill a process that logs (PIPE), and a terminal sends INT and HUP to the
 * whole group while it is the master who decides what they mean. */
static void child_signals_reset(void)
{
    static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP };
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        (void)sigaction(signal_number, &action,
                        NULL); /* fails for KILL, STOP and those of the C library */
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        (void)sigaction(ignored[i], &action, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void child_become(struct child_moves *moves, char *const argv[],
                                                   pid_t parent)
{
    /* The death of the master is told by the life pipe. The signal only wakes a child that is stopped (SIGCONT does nothing else), so that
     * it sees the end of the pipe; any other signal would cost the clients their goodbye. */
    if (prctl(PR_SET_PDEATHSIG, SIGCONT) < 0 || getppid() != parent)
        _exit(126);
    if (!child_descriptors_arrange(moves))
        _exit(126);
    child_signals_reset();
    execv("/proc/self/exe", argv);
    _exit(127);
}

int child_spawn(const struct child *spec, int *pidfd)
{
    static char program[] = "peal";
    char name[64];
    char *argv[] = { program, name, NULL };
    struct child_moves moves;
    sigset_t all, before;
    pid_t pid, self = getpid();
    int error;

    assert(child_slot_fits(spec->role, spec->slot));
    assert(spec->n_listeners <= CHILD_LISTENERS_MAX);
    snprintf(name, sizeof name, "--child=%s:%u:%u", child_role_names[spec->role], spec->slot,
             spec->generation);
    child_moves_collect(&moves, spec);

    sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, &before) <
        0) /* no handler of ours runs in the child before they are reset */
        return -errno;
    pid = fork();
    error = errno;
    if (pid == 0)
        child_become(&moves, argv, self);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return -error;
    *pidfd = pidfd_open(pid, 0); /* cannot be somebody else's: nobody but us reaps it */
    if (*pidfd < 0) {
        error = errno;
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return -error;
    }
    return pid;
}
