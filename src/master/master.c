/* master.c: the whole route of the master: start, the loop, the end. What the parts do is in their
 * files (state.h lists them); what happens in which order is here.
 *
 * Always true: the write end of the life pipe is in this process and no other, so the death of the
 *              master, however it comes, is the end of file that every child waits for.
 * Never:       reads what a client sent, touches a message, waits without a limit. */
#include "master/master.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "master/accept.h"
#include "master/drain.h"
#include "master/host_limits.h"
#include "master/memory_bound.h"
#include "master/notify.h"
#include "master/placer.h"
#include "master/slots.h"
#include "master/state.h"
#include "master/watch.h"
#include "shm/atomic.h"
#include "shm/namespaces.h"

#define MASTER_EVENTS_MAX   256
#define MASTER_STOP_MS      2000 /* children have that long to go by themselves */
#define MASTER_STOP_TICK_MS 20
#define MASTER_SQ_ENTRIES   256
#define MASTER_CQ_ENTRIES   4096

enum { EXIT_OK = 0, EXIT_OTHER = 1, EXIT_CONFIG = 2 };

static uint64_t master_clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void master_wake(struct master *m, uint32_t slot)
{
    static const uint64_t one = 1;

    if (write(m->region.bells[slot], &one, sizeof one) < 0)
        log_warning("bell_not_rung", "slot=%u error=%m", slot);
}

void master_stop(struct master *m, int exit_code)
{
    if (m->stopping)
        return;
    m->stopping = true;
    m->exit_code = exit_code;
    master_stop_rest(m);
}

void master_stop_rest(struct master *m)
{
    m->kill_at_ms = m->now_ms + MASTER_STOP_MS;
    slots_signal(m, SIGTERM);
}

/* --- start --- */

/* Descriptors 0 to 2 are there, or what is opened next would pose as standard error. */
static void master_stdio(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR); /* inherited on purpose where it fills a gap */
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int master_signals(struct master *m)
{
    static const int watched[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    struct sigaction action = { .sa_handler = SIG_IGN };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
        sigaddset(&set, watched[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || sigaction(SIGPIPE, &action, NULL) < 0)
        return -errno;
    action.sa_handler = SIG_DFL; /* ignored, children would be reaped by the kernel and not by us */
    if (sigaction(SIGCHLD, &action, NULL) < 0)
        return -errno;
    m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return m->signal_fd < 0 ? -errno : 0;
}

static int master_loop_open(struct master *m)
{
    const struct loop_options options = { .sq_entries = MASTER_SQ_ENTRIES,
                                          .cq_entries = MASTER_CQ_ENTRIES };
    char why[512] = "";
    char *remedy;

    if (loop_new(&m->loop, &options, why, sizeof why) == 0)
        return EXIT_OK;
    remedy = strstr(why, "; "); /* "cause; what to do about it" */
    if (remedy != NULL) {
        *remedy = '\0';
        remedy += 2;
    }
    log_error("io_uring_refused", "reason=%s remedy=%s", why,
              remedy ? remedy : "Linux 6.1 or newer with io_uring is needed");
    return EXIT_OTHER;
}

/* What the host has against what is asked for. */
static int master_limits(struct master *m)
{
    const uint64_t nofile = host_nofile_raise();
    struct config *c = &m->resolved;
    struct memory_bound bound;
    struct config_host host;
    uint64_t shared[2];
    char why[512];

    if (!host_limits_apply(c, nofile, why, sizeof why)) {
        log_error("limit_refused", "reason=%s", why);
        return EXIT_CONFIG;
    }
    config_host_read(&host);
    region_bytes(c, shared);
    memory_bound_sum(&bound, c, shared);
    memory_bound_log(&bound, c, nofile, host.memory_bytes);
    if (bound.region_populated + bound.receive > host.memory_bytes) {
        log_error("limit_refused",
                  "reason=ring_bytes = %llu: needs %llu bytes from the start, this host has %llu",
                  (unsigned long long)c->ring_bytes,
                  (unsigned long long)(bound.region_populated + bound.receive),
                  (unsigned long long)host.memory_bytes);
        return EXIT_CONFIG;
    }
    return EXIT_OK;
}

/* What is allowed, and seldom meant. */
static void master_advise(const struct master *m)
{
    const struct config *c = m->config;

    if (c->proxy_protocol && c->n_trusted_proxies == 0)
        log_warning("proxy_protocol_open", "reason=%s remedy=%s",
                    "whoever connects may claim any address",
                    "trusted_proxies, unless nobody but proxies can connect");
    if (c->balance == BALANCE_IPHASH && (c->proxy_protocol || c->n_trusted_proxies > 0))
        log_warning("iphash_sees_proxies", "reason=%s remedy=%s",
                    "the kernel hashes the address of the connection, which is a proxy's",
                    "balance = leastconn");
}

/* Configured namespaces have their places from the start: dynamic ones, which clients name, cannot take them. */
static void open_namespaces(struct master *m)
{
    bool reserved = namespace_reserve(&m->region, slice_text("/ws"), UINT16_MAX);

    for (uint32_t i = 0; i < m->config->n_namespaces; i++) {
        const struct config_namespace *ns = &m->config->namespaces[i];

        if (!ns->is_prefix)
            reserved = namespace_reserve(&m->region, slice_text(ns->name), i) && reserved;
    }
    assert(reserved); /* limits.h: the table has more places than a configuration has names */
}

static int master_region_open(struct master *m)
{
    int error = region_create(&m->region, &m->resolved);
    struct shm_slot *own;

    if (error == 0) {
        m->config = m->region.config;
        error = slots_open(m);
    }
    if (error != 0) {
        log_error("region_refused", "error=%s remedy=%s", strerror(-error),
                  "free memory or lower ring_bytes and max_connections");
        return EXIT_OTHER;
    }
    open_namespaces(m);
    ring_open(&m->ring, &m->region);
    own = master_shm(m, PEAL_SLOT_MASTER);
    own->generation = 1;
    own->pid = getpid();
    shm_store_u64(&own->ready_generation, 1);
    shm_store_release_u32(&own->state, SLOT_LIVE);
    return EXIT_OK;
}

static int master_listen(struct master *m)
{
    char why[LISTENER_NAME_BYTES + 128];
    const struct config *c = m->config;

    if (listeners_open(&m->clients, c->listen, c->n_listen, (enum config_balance)c->balance,
                       c->workers, why, sizeof why) != 0) {
        log_error("listen_failed", "key=listen reason=%s", why);
        return EXIT_OTHER;
    }
    if (listeners_open(&m->admin, &c->admin_listen, 1, BALANCE_LEASTCONN, 0, why, sizeof why) !=
        0) {
        log_error("listen_failed", "key=admin_listen reason=%s", why);
        return EXIT_OTHER;
    }
    return EXIT_OK;
}

static int master_pid_file(struct master *m)
{
    bool written;
    FILE *file;

    if (*m->config->pid_file == '\0')
        return EXIT_OK;
    file = fopen(m->config->pid_file, "we");
    m->pid_file_written = file != NULL; /* what is there, even in part, is removed at the end */
    written = file != NULL && fprintf(file, "%d\n", getpid()) > 0;
    if (file != NULL && fclose(file) != 0)
        written = false; /* a full disk is told here */
    if (written)
        return EXIT_OK;
    log_error("pid_file_failed", "pid_file=%s error=%m", m->config->pid_file);
    return EXIT_OTHER;
}

static int master_pipes(struct master *m)
{
    if (pipe2(m->life, O_CLOEXEC | O_NONBLOCK) < 0) {
        log_error("start_failed", "reason=life pipe: %m");
        return EXIT_OTHER;
    }
    m->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    loop_poll(m->loop, m->signal_fd, POLLIN, tag_pack(MASTER_OP_SIGNAL, 0, 0));
    loop_poll(m->loop, m->slots[PEAL_SLOT_MASTER].inbox[0], POLLIN,
              tag_pack(MASTER_OP_INBOX, 0, 0));
    return EXIT_OK;
}

/* Each step logs what is wrong. An exit code. */
static int master_start(struct master *m)
{
    int code, error = master_signals(m);

    if (error != 0) {
        log_error("start_failed", "reason=signals: %s", strerror(-error));
        return EXIT_OTHER;
    }
    code = master_loop_open(m); /* first: where it is refused nothing else matters */
    if (code == EXIT_OK)
        code = master_limits(m);
    if (code == EXIT_OK)
        code = master_region_open(m);
    if (code == EXIT_OK)
        code = master_listen(m);
    if (code == EXIT_OK)
        code = master_pipes(m);
    if (code == EXIT_OK)
        code = master_pid_file(m);
    if (code == EXIT_OK)
        master_advise(m);
    return code;
}

static void master_say_ready(struct master *m)
{
    char names[2048];

    if (m->was_ready || !slots_ready(m))
        return;
    m->was_ready = true;
    listeners_names(&m->clients, names, sizeof names);
    log_info("ready", "listen=%s admin=%s workers=%u pid=%d rung=%u", names,
             m->admin.addresses[0].name, m->config->workers, getpid(), loop_rung(m->loop));
    notify_service_manager("READY=1\nSTATUS=serving");
}

/* --- the loop --- */

static void master_on_signal(struct master *m, int signal_number)
{
    switch (signal_number) {
    case SIGTERM: drain_begin(m, "SIGTERM"); break;
    case SIGINT:
        if (++m->n_interrupts == 1) {
            drain_begin(m, "SIGINT");
            break;
        }
        log_warning("interrupted", "by=%s", "second SIGINT");
        master_stop(m, EXIT_OTHER);
        m->exit_code = EXIT_OTHER;
        m->kill_at_ms = m->now_ms;
        break;
    case SIGHUP:
        log_warning("signal_ignored", "signal=HUP reason=%s", "reload: not in this build");
        break;
    case SIGUSR2:
        log_warning("signal_ignored", "signal=USR2 reason=%s", "upgrade: not in this build");
        break;
    default:
        log_warning("signal_ignored", "signal=%d reason=%s", signal_number, "has no meaning");
        break;
    }
}

static void master_read_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        master_on_signal(m, (int)info.ssi_signo);
}

static void master_on_command(struct master *m, const struct parcel *parcel)
{
    switch ((enum parcel_command)parcel->command) {
    case COMMAND_DRAIN: drain_begin(m, "command"); return;
    case COMMAND_LIMITS:
    case COMMAND_RELOAD:
        log_warning("command_ignored", "command=%s from=%u reason=%s",
                    parcel->command == COMMAND_LIMITS ? "limits" : "reload", parcel->from_slot,
                    "not in this build");
        return;
    case COMMAND_NONE: break;
    }
    log_warning("command_ignored", "command=%u from=%u reason=%s", parcel->command,
                parcel->from_slot, "unknown");
}

static void master_read_inbox(struct master *m)
{
    struct parcel parcels[INBOX_BATCH_MAX];
    int fds[INBOX_BATCH_MAX];
    int n;

    while ((n = inbox_receive(m->slots[PEAL_SLOT_MASTER].inbox[0], parcels, fds, NULL)) > 0) {
        for (int i = 0; i < n; i++) {
            if (fds[i] >= 0)
                close(fds[i]); /* nobody has a connection for the master */
            if (parcels[i].kind == PARCEL_COMMAND)
                master_on_command(m, &parcels[i]);
        }
    }
    if (n < 0)
        log_error("inbox_read_failed", "slot=%u error=%s", PEAL_SLOT_MASTER, strerror(-n));
}

static void master_on_event(struct master *m, const struct loop_event *event)
{
    switch ((enum master_op)tag_op(event->tag)) {
    case MASTER_OP_ACCEPT: accept_on_event(m, event); break;
    case MASTER_OP_SIGNAL:
        if (!event->more)
            loop_poll(m->loop, m->signal_fd, POLLIN, event->tag);
        master_read_signals(m);
        break;
    case MASTER_OP_PIDFD:
        slots_on_pidfd(m, tag_index(event->tag), tag_generation(event->tag));
        break;
    case MASTER_OP_INBOX:
        if (!event->more)
            loop_poll(m->loop, m->slots[PEAL_SLOT_MASTER].inbox[0], POLLIN, event->tag);
        master_read_inbox(m);
        break;
    case MASTER_OP_CANCEL: break; /* the cancelled request tells for itself */
    }
}

static uint32_t master_wait_ms(const struct master *m)
{
    const uint32_t waits[] = { slots_wait_ms(m), placer_wait_ms(m), drain_wait_ms(m),
                               m->acceptor.wait_ms,
                               m->stopping ? MASTER_STOP_TICK_MS : WATCH_INTERVAL_MS };
    uint32_t least = UINT32_MAX;

    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        if (waits[i] < least)
            least = waits[i];
    }
    return least;
}

static void master_turn(struct master *m)
{
    struct loop_event events[MASTER_EVENTS_MAX];
    uint32_t n = loop_turn(m->loop, master_wait_ms(m), events, MASTER_EVENTS_MAX);

    m->now_ms = master_clock_ms();
    for (uint32_t i = 0; i < n; i++)
        master_on_event(m, &events[i]);
    slots_turn(m);
    master_say_ready(m);
    placer_flush(m); /* one flush per turn: what came together travels together */
    accept_turn(m);
    drain_turn(m);
    watch_turn(m);
    if (m->stopping && m->now_ms >= m->kill_at_ms) {
        slots_signal(m, SIGKILL);
        m->kill_at_ms = m->now_ms + MASTER_STOP_MS;
    }
}

/* --- the end --- */

/* What would outlive the process; the kernel takes back the rest. */
static void master_finish(struct master *m)
{
    listeners_close(&m->clients);
    listeners_close(&m->admin);
    if (m->pid_file_written)
        (void)unlink(m->config->pid_file);
    loop_free(m->loop);
}

int master_serve(const struct config *config)
{
    struct master *m = calloc(1, sizeof *m);
    int code;

    log_init("master", (enum log_level)config->log_level, (enum log_format)config->log_format);
    master_stdio();
    if (m == NULL) {
        log_error("start_failed", "reason=%s", "out of memory");
        return EXIT_OTHER;
    }
    m->resolved = *config;
    m->config = &m->resolved;
    m->acceptor.wait_ms = UINT32_MAX;
    m->now_ms = master_clock_ms();
    code = master_start(m);
    if (code == EXIT_OK) {
        placer_init(m);
        while (!m->stopping || slots_have_process(m))
            master_turn(m);
        code = m->exit_code;
        log_info("stopped", "exit=%d", code);
    }
    master_finish(m);
    free(m);
    return code;
}
