/* load_echo.c: round trips: what a client says and what comes back for it.
 *
 * Plain: a text to a server that echoes (Peal: `echo = yes`, path /echo), which must come back as it
 * went. Socket.IO: an event with an acknowledgement, which must come; PUBLISH_EVENT to a room that
 * nobody else is in, or --echo-event with the text as its argument.
 * Closed loop: each client has --window under way and sends the next when one is back. Open loop
 * (--rate, --total-rate): message k of all is due at its time and goes when it is due, at the latest
 * when its client has less than --window under way; its latency counts from when it was due.
 * Invariant: a client's answers come in the order of its questions; `due` has one place for each that
 *            is under way. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/load.h"

#define STAMP_CHARS 18u /* "RUN.NUMBER." */
#define PAYLOAD_MAX 65536u
#define WINDOW_MAX  1024u
#define SILENCE_S   15u

enum { PHASE_CONNECTED = 1, PHASE_ECHOED };

struct echo_shared {
    _Atomic uint64_t sent;
    _Atomic uint64_t answered;
    _Atomic uint64_t repeated; /* or overtaken */
    _Atomic uint64_t out_of_order;
    _Atomic uint64_t foreign; /* damaged, or an answer to nothing */
    _Atomic uint64_t refused;
    uint32_t run;
};

struct echo {
    struct load_process load;
    struct echo_shared *shared;
    struct plan plan;
    uint32_t *sent;     /* by client */
    uint32_t *answered; /* by client */
    uint64_t *due_ns;   /* by client and place: `window` places each */
    uint64_t done;      /* messages of ours that are answered, or lost with their client */
    uint32_t round;     /* the open loop's next message: of client `turn` of ours */
    uint32_t turn;
    uint64_t last_rx_ns;
    char *packet;
};

static bool is_socketio(const struct echo *x)
{
    return x->load.engine.config.dialect == DIALECT_SOCKETIO;
}

/* The text of message number `n` of a client. */
static void put_text(const struct echo *x, char *out, uint32_t n)
{
    int stamp = snprintf(out, STAMP_CHARS + 1, "%08" PRIx32 ".%08" PRIx32 ".", x->shared->run, n);

    memset(out + stamp, 'a' + (int)(n % 26), x->load.options->payload - STAMP_CHARS);
}

static void ask(struct echo *x, struct client *c, uint64_t due_ns)
{
    const struct load_options *o = x->load.options;
    uint32_t n = x->sent[c->id]++;
    uint32_t lead = 0;

    assert(o->window > 0); /* checked at the start, or a default */

    if (is_socketio(x) && o->echo_event) {
        int used;

        lead = load_packet_lead(&x->load, x->packet, LOAD_LEAD_MAX, n + 1);
        used = snprintf(x->packet + lead, LOAD_LEAD_MAX - lead, "[\"%s\",\"", o->echo_event);
        if (used < 0 || (uint32_t)used >= LOAD_LEAD_MAX - lead)
            die("--echo-event is too long");
        lead += (uint32_t)used;
    } else if (is_socketio(x)) {
        lead = load_publish_lead(&x->load, x->packet, n + 1, load_number(&x->load, c));
    }
    put_text(x, x->packet + lead, n);
    if (is_socketio(x))
        memcpy(x->packet + lead + o->payload, "\"]", 2);
    x->due_ns[(size_t)c->id * o->window + n % o->window] = due_ns;
    atomic_fetch_add_explicit(&x->shared->sent, 1, memory_order_relaxed);
    (void)client_send(&x->load.engine, c, x->packet, lead + o->payload + (is_socketio(x) ? 2 : 0));
}

static void on_open(struct engine *e, struct client *c)
{
    (void)c;
    load_opened(e->config.ctx);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct echo *x = ((struct load_process *)e->config.ctx)->scenario;

    x->done += x->load.options->messages - x->answered[c->id];
    load_closed(&x->load, c, was_open, c->cause == CAUSE_OURS);
}

/* Which message an answer is for; UINT32_MAX: it is none. */
static uint32_t number_of(struct echo *x, const char *data, size_t n, bool binary)
{
    struct sio_packet packet;
    uint64_t number;

    if (binary)
        return UINT32_MAX;
    if (!is_socketio(x)) {
        if (n != x->load.options->payload || !parse_hex(data + 9, 8, &number))
            return UINT32_MAX;
        put_text(x, x->packet, (uint32_t)number);
        return memcmp(x->packet, data, n) == 0 ? (uint32_t)number : UINT32_MAX;
    }
    if (sio_parse(data, n, x->load.options->nsp, &packet) != WIRE_OK || packet.type != SIO_ACK ||
        packet.id == 0)
        return UINT32_MAX;
    if (load_refused(&packet))
        atomic_fetch_add(&x->shared->refused, 1);
    return packet.id - 1;
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct echo *x = ((struct load_process *)e->config.ctx)->scenario;
    const struct load_options *o = x->load.options;
    uint64_t now = load_message(&x->load, c);
    uint32_t number = number_of(x, data, n, binary);

    if (number < x->answered[c->id] || number >= x->sent[c->id]) {
        atomic_fetch_add(number >= x->sent[c->id] ? &x->shared->foreign : &x->shared->repeated, 1);
        return;
    }
    if (number != x->answered[c->id]) { /* what it has overtaken counts as repeated, if it comes */
        atomic_fetch_add(&x->shared->out_of_order, 1);
        x->done += number - x->answered[c->id];
        x->answered[c->id] = number;
    }
    hist_add(&x->load.shared->latency[x->load.index],
             now - x->due_ns[(size_t)c->id * o->window + number % o->window]);
    x->answered[c->id]++;
    x->done++;
    x->last_rx_ns = now;
    atomic_fetch_add_explicit(&x->shared->answered, 1, memory_order_relaxed);
    if (x->plan.rate <= 0 && x->sent[c->id] < o->messages)
        ask(x, c, now_ns());
}

/* Sends what is due, in the order of the plan; gives the time of the next one. */
static uint64_t ask_due(struct echo *x, uint64_t began_ns)
{
    const struct load_options *o = x->load.options;
    const struct engine *e = &x->load.engine;

    while (x->round < o->messages) {
        struct client *c = &e->clients[x->turn];
        uint64_t due = began_ns + plan_due_ns(&x->plan, (uint64_t)x->round * o->clients +
                                                            load_number(&x->load, c));
        uint64_t now = now_ns();

        if (due > now)
            return due;
        if (c->state == CLIENT_OPEN && x->sent[c->id] - x->answered[c->id] >= o->window)
            return UINT64_MAX; /* until something comes */
        if (c->state == CLIENT_OPEN) {
            hist_add(&x->load.shared->lag[x->load.index], now - due);
            ask(x, c, due);
        }
        x->turn = (x->turn + 1) % e->n_clients;
        x->round += x->turn == 0;
    }
    return UINT64_MAX;
}

static void echo_all(struct echo *x)
{
    const struct load_options *o = x->load.options;
    struct engine *e = &x->load.engine;
    uint64_t began_ns = now_ns();
    uint64_t gap_ns =
        SILENCE_S * NS_PER_S + (x->plan.rate > 0 ? (uint64_t)(2e9 * o->clients / x->plan.rate) : 0);
    uint64_t next_ns = UINT64_MAX;

    x->last_rx_ns = began_ns;
    for (uint32_t i = 0; x->plan.rate <= 0 && i < e->n_clients; i++) {
        for (uint32_t w = 0; w < o->window && w < o->messages; w++) {
            if (e->clients[i].state == CLIENT_OPEN)
                ask(x, &e->clients[i], now_ns());
        }
    }
    while (x->done < (uint64_t)e->n_clients * o->messages && now_ns() - x->last_rx_ns < gap_ns) {
        if (x->plan.rate > 0)
            next_ns = ask_due(x, began_ns);
        load_turn_until(&x->load, next_ns);
    }
}

static int echo_main(uint32_t index, void *ctx)
{
    static struct echo x;
    struct engine_config config = { .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close };
    const struct load *l = ctx;
    const struct load_options *o = l->options;
    uint32_t n = driver_share_of(o->clients, index, l->procs);

    load_process_init(&x.load, index, l, &config, n);
    x.load.scenario = &x;
    x.shared = load_extra(l->shared);
    x.plan = (struct plan){ .rate = o->total_rate, .burst = o->burst };
    x.sent = must_calloc(n, sizeof *x.sent);
    x.answered = must_calloc(n, sizeof *x.answered);
    x.due_ns = must_calloc((size_t)n * o->window, sizeof *x.due_ns);
    x.packet = must_calloc(1, PAYLOAD_MAX + LOAD_LEAD_MAX + 2);
    load_connect_all(&x.load);
    load_arrive(&x.load, PHASE_CONNECTED);
    echo_all(&x);
    load_arrive(&x.load, PHASE_ECHOED);
    return load_process_end(&x.load);
}

int load_run_echo(const struct load_options *o)
{
    static struct load l;
    struct echo_shared *s;
    uint64_t sent;
    double seconds;
    bool ok;

    if (o->messages == 0 || o->window > WINDOW_MAX)
        die("--messages must not be 0, --window is at most %u", WINDOW_MAX);
    if (o->payload < STAMP_CHARS || o->payload > PAYLOAD_MAX)
        die("--payload must be %u to %u", STAMP_CHARS, PAYLOAD_MAX);
    load_prepare(&l, o, o->clients, sizeof *s);
    s = load_extra(l.shared);
    s->run = (uint32_t)now_ns();
    load_fork(&l, echo_main);
    load_phase(&l, PHASE_CONNECTED, "connected");
    meter_begin(&l.meter);
    load_phase(&l, PHASE_ECHOED, "echoed");
    meter_end(&l.meter);
    sent = atomic_load(&s->sent);
    seconds = (double)(l.meter.end.at_ns - l.meter.begin.at_ns) / 1e9;
    ok = sent == (uint64_t)o->clients * o->messages && s->answered == sent && s->refused == 0;
    load_result(&l, "echo");
    json_text(&l.json, "loop", o->total_rate > 0 ? "open" : "closed");
    json_f64(&l.json, "rate", o->total_rate);
    json_u64(&l.json, "expected", sent);
    json_u64(&l.json, "answered", s->answered);
    json_u64(&l.json, "lost", sent - s->answered);
    json_u64(&l.json, "repeated", s->repeated);
    json_u64(&l.json, "out_of_order", s->out_of_order);
    json_u64(&l.json, "foreign", s->foreign);
    json_u64(&l.json, "refused", s->refused);
    json_f64(&l.json, "round_trips_per_second", (double)s->answered / seconds);
    json_f64(&l.json, "cpu_us_per_round_trip",
             s->answered > 0 ? meter_cpu_s(&l.meter) * 1e6 / (double)s->answered : 0);
    return load_finish(&l, (o->tolerate_closes || ok) && s->foreign == 0 && s->repeated == 0 &&
                               s->out_of_order == 0);
}
