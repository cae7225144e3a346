/* load_hold.c: connects clients, holds them, and obeys standard input until it ends.
 *
 *     open N · close N (clean) · reset N (RST) · eof N (no close frame) · silent N (read, never
 *     answer) stop N (read nothing) · resume (all read and answer again) · stats · quit
 *
 * Each command is answered by a line {"event":"done","command":…} with the counts, when all
 * processes have begun it; what follows from it (opens, closes) comes as "counts" lines. `open`
 * draws on --spare. Commands take the oldest clients that are open, read and answer. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/load.h"

#define LINE_BYTES_MAX 256u

enum { PHASE_CONNECTED = 1, PHASE_HELD };
enum verb {
    VERB_OPEN = 1,
    VERB_CLOSE,
    VERB_RESET,
    VERB_EOF,
    VERB_SILENT,
    VERB_STOP,
    VERB_RESUME,
    VERB_STATS,
    VERB_QUIT,
    VERBS
};

static const char *const verb_names[VERBS] = {
    [VERB_OPEN] = "open",     [VERB_CLOSE] = "close",   [VERB_RESET] = "reset",
    [VERB_EOF] = "eof",       [VERB_SILENT] = "silent", [VERB_STOP] = "stop",
    [VERB_RESUME] = "resume", [VERB_STATS] = "stats",   [VERB_QUIT] = "quit"
};

static void on_open(struct engine *e, struct client *c)
{
    struct load_process *p = e->config.ctx;

    load_opened(p);
    if (e->config.dialect == DIALECT_SOCKETIO && p->options->room)
        load_join(p, c, UINT32_MAX);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct load_process *p = e->config.ctx;

    load_closed(p, c, was_open, c->cause == CAUSE_OURS);
}

static void do_to_one(struct load_process *p, struct client *c, enum verb verb)
{
    switch (verb) {
    case VERB_CLOSE: client_close(&p->engine, c, CLOSE_CLEAN); return;
    case VERB_RESET: client_close(&p->engine, c, CLOSE_RESET); return;
    case VERB_EOF: client_close(&p->engine, c, CLOSE_EOF); return;
    case VERB_SILENT: c->silent = true; return;
    case VERB_STOP: client_read(&p->engine, c, false); return;
    case VERB_RESUME:
        c->silent = false;
        client_read(&p->engine, c, true);
        return;
    case VERB_OPEN:
    case VERB_STATS:
    case VERB_QUIT:
    case VERBS: return;
    }
}

static void obey(struct load_process *p, enum verb verb, uint32_t count)
{
    uint32_t n = driver_share_of(count, p->index, p->procs);

    if (verb == VERB_OPEN) {
        (void)engine_start(&p->engine, n);
        return;
    }
    if (verb == VERB_STATS || verb == VERB_QUIT)
        return;
    if (verb == VERB_RESUME)
        n = UINT32_MAX;
    for (uint32_t i = 0; i < p->engine.next_start && n > 0; i++) {
        struct client *c = &p->engine.clients[i];
        bool asleep = c->silent || c->unread;

        if (c->state != CLIENT_OPEN || c->closing || asleep != (verb == VERB_RESUME))
            continue;
        do_to_one(p, c, verb);
        n--;
    }
}

static void leave(struct load_process *p)
{
    uint64_t end = now_ns() + 5 * NS_PER_S;

    for (uint32_t i = 0; i < p->engine.next_start; i++) {
        struct client *c = &p->engine.clients[i];

        client_read(&p->engine, c, true);
        client_close(&p->engine, c, CLOSE_CLEAN);
    }
    while (p->engine.n_open > 0 && now_ns() < end)
        engine_turn(&p->engine, 20);
}

static int hold_main(uint32_t index, void *ctx)
{
    static struct load_process p;
    struct engine_config config = { .on_open = on_open,
                                    .on_message = load_on_message,
                                    .on_close = on_close };
    const struct load *l = ctx;
    uint32_t obeyed = 0;
    enum verb verb = VERB_STATS;

    load_process_init(&p, index, l, &config,
                      driver_share_of(l->options->clients, index, l->procs) +
                          l->options->spare / l->procs + 1);
    (void)engine_start(&p.engine, driver_share_of(l->options->clients, index, l->procs));
    while (p.engine.next_start < p.engine.start_end || p.engine.n_starting > 0)
        engine_turn(&p.engine, 20);
    load_arrive(&p, PHASE_CONNECTED);
    while (verb != VERB_QUIT) {
        engine_turn(&p.engine, 10);
        if (atomic_load(&p.shared->command_seq) == obeyed)
            continue;
        obeyed = atomic_load(&p.shared->command_seq);
        verb = (enum verb)atomic_load(&p.shared->command_verb);
        obey(&p, verb, atomic_load(&p.shared->command_count));
        atomic_fetch_add(&p.shared->arrived[PHASE_HELD], 1);
    }
    load_gaps(&p);
    leave(&p);
    atomic_fetch_add(&p.shared->arrived[PHASE_HELD], 1);
    return load_process_end(&p);
}

/* Gives a command to all processes and waits until they have begun it. */
static void command(struct load *l, enum verb verb, uint32_t count)
{
    struct load_shared *s = l->shared;

    atomic_store(&s->arrived[PHASE_HELD], 0);
    atomic_store(&s->command_verb, verb);
    atomic_store(&s->command_count, count);
    atomic_fetch_add(&s->command_seq, 1);
    while (atomic_load(&s->arrived[PHASE_HELD]) < l->procs)
        load_tick(l);
    json_begin(&l->json, "done");
    json_text(&l->json, "command", verb_names[verb]);
    json_u64(&l->json, "n", count);
    json_u64(&l->json, "open", atomic_load(&s->open));
    json_u64(&l->json, "opened", atomic_load(&s->opened_total));
    json_u64(&l->json, "joined", atomic_load(&s->joined_total));
    json_u64(&l->json, "received", atomic_load(&s->messages_total));
    json_print(&l->json);
}

/* Returns false at `quit`. */
static bool on_line(struct load *l, char *line)
{
    char *argument = strchr(line, ' ');
    uint32_t count = 0;

    if (argument)
        *argument++ = 0;
    for (uint32_t verb = VERB_OPEN; verb < VERBS; verb++) {
        if (strcmp(line, verb_names[verb]) != 0)
            continue;
        if (verb <= VERB_STOP && (!argument || !parse_u32(argument, &count)))
            die("'%s' needs a number", line);
        if (verb == VERB_QUIT)
            return false;
        command(l, (enum verb)verb, count);
        return true;
    }
    die("unknown command '%s'", line);
}

/* Obeys whole lines of standard input as they come, until it ends. */
static void listen_to_input(struct load *l)
{
    char buffer[LINE_BYTES_MAX];
    size_t n = 0;

    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) != 0)
        die("standard input: %s", strerror(errno));
    for (;;) {
        ssize_t got = read(STDIN_FILENO, buffer + n, sizeof buffer - 1 - n);
        char *end;

        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return;
        n += got > 0 ? (size_t)got : 0;
        buffer[n] = 0;
        while ((end = strchr(buffer, '\n')) != NULL) {
            *end = 0;
            if (!on_line(l, buffer))
                return;
            n -= (size_t)(end + 1 - buffer);
            memmove(buffer, end + 1, n + 1);
        }
        if (n == sizeof buffer - 1)
            die("a line of standard input is longer than %zu bytes", n);
        load_tick(l);
    }
}

int load_run_hold(const struct load_options *o)
{
    static struct load l;
    uint64_t end;
    uint32_t refused = 0;
    uint32_t open;
    bool ok;

    load_prepare(&l, o, o->clients + o->spare, 0);
    load_fork(&l, hold_main);
    load_phase(&l, PHASE_CONNECTED, "connected");
    listen_to_input(&l);
    for (uint32_t i = 100; i < 600; i++)
        refused += atomic_load(&l.shared->closes[i]);
    ok = o->tolerate_closes || atomic_load(&l.shared->unexpected_total) == refused;
    open = atomic_load(&l.shared->open);
    command(&l, VERB_QUIT, 0);
    end = now_ns() + 6 * NS_PER_S;
    while (atomic_load(&l.shared->arrived[PHASE_HELD]) < 2 * l.procs && now_ns() < end)
        load_tick(&l);
    load_result(&l, "hold");
    json_u64(&l.json, "open_before_quit", open);
    json_u64(&l.json, "refused", refused);
    json_u64(&l.json, "joined", atomic_load(&l.shared->joined_total));
    return load_finish(&l, ok);
}
