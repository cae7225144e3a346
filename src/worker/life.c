/* life.c: how a worker begins, drains and ends.
 *
 * It ends in three ways: told to (SIGTERM: at once, or in a drain when what is being closed is through), with its master (the life pipe's end of file: clients
 * are closed with 1012, what is queued first, within LIFE_LOST_MS), or by kill -9, which needs no code here: the master reaps. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/deflate.h"
#include "session/acks.h"
#include "session/ends.h"
#include "session/input.h"
#include "session/polling.h"
#include "session/publish.h"
#include "session/recovery.h"
#include "session/room_news.h"
#include "shm/atomic.h"
#include "worker/files.h"
#include "worker/page.h"
#include "worker/worker.h"

#define CLOSINGS_MS 1900  /* the master kills 2 s after SIGTERM */
#define DRAIN_SCAN  65536 /* connections looked at in one turn */

static void on_failed(void *context, struct conn *c, int error)
{
    struct hub *h = context;

    client_condemn(h, c, error == ENOMEM ? CLOSE_MEMORY : CLOSE_TRANSPORT_ERROR, false);
}

static void on_finished(void *context, struct conn *c)
{
    client_condemn(context, c, (enum close_reason)c->close_reason, true);
}

static void on_lagged(void *context, struct conn *c, enum outq_result why)
{
    struct hub *h = context;

    if (why == OUTQ_LOST)
        count_add(h->row, COUNT_RING_LAPPED, 1);
    client_condemn(h, c, CLOSE_SLOW_CONSUMER, false);
}

static uint32_t count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t n = 0;

    if (dir == NULL)
        return 256;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* As many sockets as descriptors are left, less a reserve. */
static uint32_t connections_max(void)
{
    struct rlimit limit;
    uint32_t used = count_descriptors() + FD_RESERVE;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 1u << 24)
        return (1u << 24) - 1;
    return limit.rlim_cur > used + 16 ? (uint32_t)limit.rlim_cur - used : 16;
}

static bool open_loop(struct hub *h)
{
    struct loop_options options = { WORKER_SQ_ENTRIES, WORKER_CQ_ENTRIES };
    char why[512] = "";

    if (loop_new(&h->loop, &options, why, sizeof why) == 0)
        return true;
    log_error("io_uring_refused", "reason=%s", why);
    return false;
}

static bool open_tables(struct hub *h)
{
    struct outq_source source = { fanout_copy, h };
    struct batch_limits limits = { WORKER_NODES_PER_BATCH, WORKER_CONTROL_ARENA_BYTES };
    struct batch_events events = { polling_carry, on_failed, on_finished, on_lagged, h };
    uint32_t max = connections_max();

    if (conns_init(&h->conns, h->loop, max, max, h->now_ms) < 0 ||
        sockets_init(&h->sockets, max, h->region.header->sessions_per_slot) < 0)
        return false;
    h->directory = directory_new(&h->region);
    h->identities = sessions_new(&h->region);
    h->outqs = outqs_new(&source, h->config->outq_items_max, h->config->outq_bytes_max);
    h->acks = acks_new();
    h->replies = replies_new();
    h->inputs = inputs_new();
    h->ends = ends_new();
    if (h->config->recovery_ms > 0 && !recovery_open(h))
        return false;
    if (!room_news_new(h, &h->news))
        return false;
    h->condemned = calloc((size_t)h->conns.max * 2, sizeof *h->condemned);
    h->retry = calloc(h->conns.max, sizeof *h->retry);
    h->retrying = calloc(h->conns.max, sizeof *h->retrying);
    h->polls = calloc(h->sockets.sessions_max, sizeof *h->polls);
    if (h->config->http_compression_bytes > 0 && !zipped_open(&h->zipped))
        return false;
    if (!packer_open(&h->packer, &h->ring, h->row))
        return false;
    h->selected =
        calloc(h->sockets.socks_max, sizeof *h->selected); /* untouched pages cost nothing */
    if (h->directory == NULL || h->identities == NULL || h->outqs == NULL || h->acks == NULL ||
        h->replies == NULL || h->inputs == NULL || h->condemned == NULL || h->selected == NULL ||
        h->ends == NULL || h->retry == NULL || h->retrying == NULL || h->polls == NULL)
        return false;
    h->batch = batch_new(&h->conns, h->outqs, &limits, &events);
    return h->batch != NULL && rooms_init(&h->rooms, &h->region, h->directory, h->news) == 0 &&
           deferred_init(&h->deferred, WORKER_DEFERRED_MAX) == 0;
}

/* SIGINT of a terminal reaches the whole group; the master decides what it means. */
static int open_signals(void)
{
    sigset_t mask;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool load_files(struct worker *w)
{
    char why[FILES_WHY_MAX] = "";

    if (w->hub.config->client_files[0] == '\0')
        return true;
    w->files = files_load(w->hub.config->client_files, why);
    if (w->files == NULL)
        log_error("client_files", "reason=%s", why);
    return w->files != NULL;
}

/* OpenSSL sets itself up when it is first used: memory and time that are nobody's handshake. */
static void warm_up(void)
{
    char accept[HTTP_ACCEPT_CHARS];

    http_ws_accept(accept, slice_text("AAAAAAAAAAAAAAAAAAAAAA=="));
}

bool worker_open(struct worker *w, const struct child *child)
{
    struct hub *h = &w->hub;
    char name[32];
    struct timespec ts;

    snprintf(name, sizeof name, "worker-%u", child->slot);
    w->child = child;
    w->host.hub = h;
    if (region_open(&h->region, child->region_fd, child->slot, child->bells) < 0)
        return false;
    h->config = h->region.config;
    log_init(name, (enum log_level)h->config->log_level, (enum log_format)h->config->log_format);
    h->slot = &h->region.header->slots[child->slot];
    h->row = &h->region.counters[child->slot];
    ring_open(&h->ring, &h->region);
    h->walked = shm_load_u64(&h->slot->cursor);
    h->last_append = h->walked;
    h->prompt_append = UINT64_MAX;
    h->random = h->region.header->epoch ^ (uint64_t)getpid() << 32 ^ child->generation;
    h->random = h->random == 0 ? 1 : h->random;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    h->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    h->now_ms = h->now_us / 1000;
    w->signal_fd = open_signals();
    if (w->signal_fd < 0 || !open_loop(h))
        return false;
    w->events = calloc(WORKER_EVENTS_MAX, sizeof *w->events);
    if (w->events == NULL || !open_tables(h)) {
        log_error("out_of_memory", "what=%s", "tables of a worker");
        return false;
    }
    warm_up();
    w->request = malloc(INBOX_BYTES_MAX);
    w->inflater = h->config->deflate ? inflater_new() : NULL;
    if (h->config->demo)
        w->page = page_new(h->config->path, &w->page_bytes);
    if (w->request == NULL || (h->config->demo && w->page == NULL) ||
        (h->config->deflate && w->inflater == NULL) || !load_files(w))
        return false;
    if (!dispatch_open(&w->host))
        _exit(
            1); /* nothing is served yet; a module that began half may have threads, which nobody can stop */
    loop_read(h->loop, h->region.bells[child->slot], &w->bell, sizeof w->bell,
              tag_pack(OP_BELL, 0, 0));
    loop_poll(h->loop, child->inbox_fd, POLLIN, tag_pack(OP_INBOX, 0, 0));
    loop_poll_once(h->loop, child->life_fd, POLLIN | POLLHUP, tag_pack(OP_LIFE, 0, 0));
    loop_poll(h->loop, w->signal_fd, POLLIN, tag_pack(OP_SIGNAL, 0, 0));
    worker_accept_more(w);
    shm_store_u32(&h->slot->loop_rung, loop_rung(h->loop));
    shm_store_release_u64(&h->slot->ready_generation, child->generation);
    return true;
}

void worker_close(struct worker *w)
{
    struct hub *h = &w->hub;

    for (uint32_t i = 0; i < h->conns._fresh; i++)
        client_gone(h, conn_at(&h->conns, i),
                    h->ending ? CLOSE_HOST_STOP : CLOSE_SERVER_SHUTTING_DOWN);
    dispatch_close(&w->host);
    clients_run_deferred(h, UINT64_MAX);
    batch_free(h->batch);
    outqs_free(h->outqs);
    acks_free(h->acks);
    replies_free(h->replies);
    inputs_free(h->inputs);
    ends_free(h->ends);
    room_news_free(h->news);
    recovery_close(h);
    sessions_free(h->identities);
    directory_free(h->directory);
    loop_free(h->loop);
    rooms_destroy(&h->rooms);
    deferred_destroy(&h->deferred);
    free(h->condemned);
    free(h->selected);
    free(h->scratch);
    free(w->events);
    free(h->retry);
    free(h->retrying);
    free(h->polls);
    free(h->body);
    zipped_close(&h->zipped);
    packer_close(&h->packer);
    inflater_free(w->inflater);
    files_free(w->files);
    free(w->page);
    free(w->request);
    free(w->decoded);
}

static void end_all(struct worker *w, enum close_reason reason)
{
    struct hub *h = &w->hub;

    for (uint32_t i = 0; i < h->conns._fresh; i++) {
        struct conn *c = conn_at(&h->conns, i);

        if (c->state == CONN_OPEN)
            client_end(h, c, reason, WS_CLOSE_RESTART, "server stopped");
        else if (c->state == CONN_HTTP && c->owner == CONN_NONE)
            client_gone(h, c, reason); /* those of a session are answered by its end */
    }
}

void worker_on_life_lost(struct worker *w)
{
    struct hub *h = &w->hub;

    if (h->ending)
        return;
    log_error("master_lost", "action=%s", "closing clients and ending");
    h->ending = true;
    w->ends_at_ms = h->now_ms + LIFE_LOST_MS - 500;
    worker_close_listeners(w);
    end_all(w, CLOSE_HOST_STOP);
}

void worker_on_signal(struct worker *w)
{
    struct signalfd_siginfo info;
    struct hub *h = &w->hub;

    while (read(w->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_pid != (uint32_t)h->region.header->master_pid)
            continue; /* sent to the whole group, by a service manager or a terminal: the master decides what it means */
        if (shm_load_u32(&h->region.header->draining) == DRAIN_CLOSING) {
            h->ending = true;
            w->ends_at_ms = h->now_ms + CLOSINGS_MS;
            end_all(w, CLOSE_DRAIN);
        } else {
            w->stop = true;
        }
    }
}

bool worker_may_end(const struct worker *w)
{
    const struct hub *h = &w->hub;

    if (w->ends_at_ms == 0)
        return false;
    if (h->now_ms >= w->ends_at_ms || h->conns.n_used == 0)
        return true;
    /* without a master nobody will ever fill a hole */
    return h->ending && getppid() != h->region.header->master_pid &&
           ring_tail(&h->ring) != h->walked && batch_idle(h->batch);
}

/* Closes as many as the master allows; what it allows is paced. */
void worker_drain(struct worker *w)
{
    struct hub *h = &w->hub;
    uint64_t allowance = shm_load_u64(&h->slot->drain_allowance);
    uint64_t closed = h->slot->drain_closed;

    h->draining = shm_load_u32(&h->region.header->draining) != DRAIN_NO;
    for (uint32_t looked = 0; closed < allowance && h->n_clients > 0 && looked < DRAIN_SCAN;
         looked++) {
        struct conn *c;

        if (w->drain_at >= h->conns._fresh)
            w->drain_at = 0;
        c = conn_at(&h->conns, w->drain_at++);
        if (c->state != CONN_OPEN || (c->flags & CONN_COUNTED) == 0)
            continue;
        client_end(h, c, CLOSE_DRAIN, WS_CLOSE_RESTART, "server draining");
        closed++;
    }
    shm_store_u64(&h->slot->drain_closed, closed);
}
