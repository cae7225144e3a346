/* load_churn.c: clients that come and go in every way a client can.
 *
 * `clients` in all, at most `concurrent` at a time, each for a random time up to `life`; each
 * then ends as its share of the mix says: clean (close handshake), reset (RST), abort (RST
 * within the handshake), silent (it stays, reads and answers nothing, until the server has
 * enough of it). Afterwards, with --stay, it waits until standard input ends; else until the
 * server has ended all the silent ones.
 * Invariant: how client number g ends follows from --seed and g alone. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/load.h"

#define ABORT_WITHIN_MS 4u

enum { PHASE_CHURNED = 1, PHASE_SILENT_GONE };
enum end_kind { END_CLEAN, END_RESET, END_SILENT, END_ABORT, ENDS };

static const char *const end_names[ENDS] = { "clean", "reset", "silent", "abort" };

struct churn {
    struct load_process load;
    uint32_t shares[ENDS]; /* per cent */
    uint8_t *kinds;        /* by client */
    uint64_t *life_ns;     /* by client: from when it is open (abort: from its start) */
    uint64_t *due_ns;      /* by client: its end; UINT64_MAX: not yet known */
    bool *ended_by_us;
    _Atomic uint32_t *ends; /* shared: by kind */
    uint32_t first_alive;   /* all clients below are closed */
    uint32_t alive;
    uint64_t random;
};

/* "clean:50,reset:30,silent:10,abort:10" */
static void mix_parse(uint32_t *shares, const char *mix)
{
    uint32_t sum = 0;
    const char *at = mix;

    for (uint32_t i = 0; i < ENDS; i++)
        shares[i] = 0;
    while (*at) {
        char name[16];
        uint32_t share;
        uint32_t i = 0;
        int used = 0;

        if (sscanf(at, "%15[a-z]:%u%n", name, &share, &used) != 2)
            die("--mix is like clean:50,reset:30,silent:10,abort:10");
        while (i < ENDS && strcmp(name, end_names[i]) != 0)
            i++;
        if (i == ENDS || share > 100)
            die("--mix: '%s:%u' is no share of a known end", name, share);
        shares[i] = share;
        sum += share;
        at += used;
        at += *at == ',';
    }
    if (sum != 100)
        die("--mix: the shares add up to %u, not to 100", sum);
}

static void on_open(struct engine *e, struct client *c)
{
    struct churn *ch = ((struct load_process *)e->config.ctx)->scenario;

    load_opened(&ch->load);
    ch->due_ns[c->id] = now_ns() + ch->life_ns[c->id];
    if (e->config.dialect == DIALECT_SOCKETIO && ch->load.options->room)
        load_join(&ch->load, c, UINT32_MAX);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct churn *ch = ((struct load_process *)e->config.ctx)->scenario;

    if (c->silent)
        atomic_fetch_sub(&ch->load.shared->silent_open, 1);
    else
        ch->alive--;
    load_closed(&ch->load, c, was_open, c->silent || ch->ended_by_us[c->id]);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct churn *ch = ((struct load_process *)e->config.ctx)->scenario;

    (void)data;
    (void)n;
    (void)binary;
    (void)load_message(&ch->load, c);
}

static void end_one(struct churn *ch, struct client *c)
{
    ch->ended_by_us[c->id] = true;
    atomic_fetch_add(&ch->ends[ch->kinds[c->id]], 1);
    switch ((enum end_kind)ch->kinds[c->id]) {
    case END_CLEAN: client_close(&ch->load.engine, c, CLOSE_CLEAN); return;
    case END_SILENT:
        c->silent = true;
        atomic_fetch_add(&ch->load.shared->silent_open, 1);
        ch->alive--;
        return;
    case END_RESET:
    case END_ABORT:
    case ENDS: client_close(&ch->load.engine, c, CLOSE_RESET); return;
    }
}

static void plan_one(struct churn *ch, uint32_t i)
{
    struct client *c = &ch->load.engine.clients[i];
    uint64_t seed = (uint64_t)ch->load.options->seed * UINT64_C(0x9e3779b97f4a7c15) +
                    load_number(&ch->load, c) + 1;
    uint32_t dice;
    uint32_t within;
    uint8_t kind = 0;

    for (int k = 0; k < 4; k++)
        (void)random_next(&seed);
    dice = (uint32_t)(random_next(&seed) % 100);
    while (dice >= ch->shares[kind])
        dice -= ch->shares[kind++];
    within = kind == END_ABORT ? ABORT_WITHIN_MS : ch->load.options->life_ms;
    ch->kinds[i] = kind;
    ch->life_ns[i] = random_next(&seed) % (within * NS_PER_MS + 1);
    ch->due_ns[i] = kind == END_ABORT ? now_ns() + ch->life_ns[i] : UINT64_MAX;
}

/* Ends whoever's time has come and starts as many as are missing. */
static void churn_step(struct churn *ch)
{
    struct engine *e = &ch->load.engine;
    uint32_t concurrent =
        driver_share_of(ch->load.options->concurrent, ch->load.index, ch->load.procs);
    uint64_t now = now_ns();

    for (uint32_t i = ch->first_alive; i < e->start_end; i++) {
        struct client *c = &e->clients[i];

        if (i == ch->first_alive && c->state == CLIENT_CLOSED)
            ch->first_alive++;
        if (c->fd >= 0 && !ch->ended_by_us[i] && now >= ch->due_ns[i])
            end_one(ch, c);
    }
    while (ch->alive < concurrent && e->start_end < e->n_clients) {
        plan_one(ch, e->start_end);
        (void)engine_start(e, 1);
        ch->alive++;
    }
}

static int churn_main(uint32_t index, void *ctx)
{
    static struct churn ch;
    struct engine_config config = { .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close };
    const struct load *l = ctx;
    uint32_t n = driver_share_of(l->options->clients, index, l->procs);

    load_process_init(&ch.load, index, l, &config, n);
    ch.load.scenario = &ch;
    mix_parse(ch.shares, l->options->mix);
    ch.kinds = must_calloc(n, sizeof *ch.kinds);
    ch.life_ns = must_calloc(n, sizeof *ch.life_ns);
    ch.ends = load_extra(l->shared);
    ch.due_ns = must_calloc(n, sizeof *ch.due_ns);
    ch.ended_by_us = must_calloc(n, sizeof *ch.ended_by_us);
    while (ch.load.engine.start_end < n || ch.alive > 0) {
        churn_step(&ch);
        engine_turn(&ch.load.engine, 2);
    }
    load_arrive(&ch.load, PHASE_CHURNED);
    while (!l->options->stay && atomic_load(&ch.load.shared->silent_open) > 0)
        engine_turn(&ch.load.engine, 20);
    atomic_fetch_add(&ch.load.shared->arrived[PHASE_SILENT_GONE], 1);
    return load_process_end(&ch.load);
}

static void wait_for_input_end(struct load *l)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    char ignored[256];

    for (;;) {
        if (poll(&in, 1, 0) > 0 && read(STDIN_FILENO, ignored, sizeof ignored) <= 0)
            return;
        load_tick(l);
    }
}

int load_run_churn(const struct load_options *o)
{
    static struct load l;
    uint32_t shares[ENDS];
    bool ok;

    mix_parse(shares, o->mix);
    if (o->concurrent == 0)
        die("--concurrent must not be 0");
    /* Descriptors: the living and the silent. */
    load_prepare(&l, o,
                 o->concurrent + (uint32_t)((uint64_t)o->clients * shares[END_SILENT] / 50) + 64,
                 sizeof(_Atomic uint32_t) * ENDS);
    load_fork(&l, churn_main);
    load_phase(&l, PHASE_CHURNED, "churned");
    if (o->stay)
        wait_for_input_end(&l);
    else
        load_phase(&l, PHASE_SILENT_GONE, "silent_gone");
    ok = o->tolerate_closes || atomic_load(&l.shared->unexpected_total) == 0;
    load_result(&l, "churn");
    json_u64(&l.json, "silent_open", atomic_load(&l.shared->silent_open));
    json_object(&l.json, "ends");
    for (uint32_t i = 0; i < ENDS; i++)
        json_u64(&l.json, end_names[i],
                 atomic_load(&((_Atomic uint32_t *)load_extra(l.shared))[i]));
    json_end(&l.json);
    return load_finish(&l, ok);
}
