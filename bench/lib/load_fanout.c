/* load_fanout.c: one room, publishers, and the proof that everybody got everything once and in
 * one order.
 *
 * Clients 0 to publishers - 1 publish, the next `slow` stop reading after they have joined, the
 * others listen. A message's text is "RUN.INDEX.NANOSECONDS." and one letter, INDEX = publisher ×
 * messages + its sequence number. A client keeps one bit per message (repeats, losses) and a
 * running hash of the order (equal for all listeners); up to CANDIDATES listeners of each
 * process keep the order itself: one that lived becomes the reference, and what a publisher saw
 * must be the reference without its own messages, what a closed client saw a beginning of it. A
 * message *must* arrive when its acknowledgement said ok (plain: when its publisher is still
 * open); one sent and not acknowledged may arrive, but then at all or none, which the order hash
 * shows.
 * Owns:      the shared struct fanout_shared behind load_shared. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/load_fanout.h"

#define STAMP_CHARS    35u
#define EVENT_LEAD     "[\"m\",\""
#define PAYLOAD_MAX    65536u
#define SEEN_BYTES_MAX (UINT64_C(2) << 30)
#define QUIET_MS       300u
#define SILENCE_S      15u
#define SLOW_READ_MS   3000u

enum {
    PHASE_CONNECTED = 1,
    PHASE_JOINED,
    PHASE_PUBLISHED,
    PHASE_DRAINED,
    PHASE_VERIFY,
    PHASE_VERIFIED
};
/* What fills up message `m`: neighbours differ, so that a mixture of two shows. */
static char padding_of(uint32_t m)
{
    return (char)('a' + m % 26);
}

static void on_joined(struct fanout *f, struct client *c)
{
    int small = 4096;

    f->joined++;
    atomic_fetch_add(&f->load.shared->joined_total, 1);
    if (!is_slow(&f->load, c))
        return;
    if (setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) != 0)
        die("SO_RCVBUF: %s", strerror(errno));
    client_read(&f->load.engine, c, false);
}

static void on_open(struct engine *e, struct client *c)
{
    struct fanout *f = ((struct load_process *)e->config.ctx)->scenario;

    load_opened(&f->load);
    if (e->config.dialect == DIALECT_PLAIN)
        on_joined(f, c);
    else
        load_join(&f->load, c, UINT32_MAX);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct fanout *f = ((struct load_process *)e->config.ctx)->scenario;
    bool slow = is_slow(&f->load, c);

    if (slow) {
        atomic_fetch_add(&f->load.shared->slow_ends[c->cause], 1);
        f->slow_open -= f->slow_open > 0;
    }
    if (f->candidate_of[c->id] > 0)
        atomic_store(
            &f->shared->candidates[f->load.index * CANDIDATES + f->candidate_of[c->id] - 1].alive,
            0);
    for (uint32_t i = 0; i < f->n_publishers; i++) {
        if (f->publishers[i].client == c) {
            f->publishers[i].dead = true;
            atomic_fetch_add(&f->shared->dead_publishers, 1);
        }
    }
    load_closed(&f->load, c, was_open, slow || c->cause == CAUSE_OURS);
}

static void on_answer(struct fanout *f, struct client *c, const struct sio_packet *packet)
{
    bool ok = !load_refused(packet);
    struct publisher *p;
    uint32_t message;

    if (packet->id == 0) {
        if (ok)
            on_joined(f, c);
        else
            die("the server refuses the join: %.*s", (int)packet->args_bytes, packet->args);
        return;
    }
    p = c->id < f->n_publishers ? &f->publishers[c->id] : NULL;
    if (!p || packet->id > p->sent) {
        atomic_fetch_add(&f->shared->foreign, 1);
        return;
    }
    message = p->number * f->load.options->messages + packet->id - 1;
    if (atomic_load(&f->states[message]) != MESSAGE_SENT) {
        atomic_fetch_add(&f->shared->repeated, 1); /* a second acknowledgement */
        return;
    }
    f->last_rx_ns = now_ns();
    atomic_store(&f->states[message], ok ? MESSAGE_OK : MESSAGE_REFUSED);
    p->answered++;
    if (!ok)
        atomic_fetch_add(&f->shared->refused, 1);
}

/* Bookkeeping for message `m` at client `c`. */
static void on_stamp(struct fanout *f, struct client *c, uint32_t m)
{
    uint64_t *word = &f->seen[(size_t)c->id * f->words + m / 64];
    uint32_t messages = f->load.options->messages;
    uint32_t *highest = &f->highest[(size_t)c->id * f->load.options->publishers + m / messages];
    uint32_t candidate = f->candidate_of[c->id];

    if (*word >> m % 64 & 1) {
        atomic_fetch_add(&f->shared->repeated, 1);
        return;
    }
    *word |= UINT64_C(1) << m % 64;
    if (m % messages < *highest)
        atomic_fetch_add(&f->shared->out_of_order, 1);
    else
        *highest = m % messages + 1;
    f->hashes[c->id] = hash_step(f->hashes[c->id], m);
    f->unique[c->id]++;
    if (candidate > 0) {
        uint32_t at = f->load.index * CANDIDATES + candidate - 1;

        order_of(f->shared, at)[f->shared->candidates[at].count++] = m;
    }
}

/* Reads a message to its last byte. False when it is none of ours, cut, or mixed with another. */
static bool stamp_read(const struct fanout *f, const struct sio_packet *packet, uint64_t *m,
                       uint64_t *sent_ns)
{
    bool sio = f->load.engine.config.dialect == DIALECT_SOCKETIO;
    size_t padding = f->load.options->payload - STAMP_CHARS;
    size_t lead = sio ? strlen(EVENT_LEAD) : 0;
    const char *text = packet->args + lead;
    uint64_t tag;

    if (packet->args_bytes < lead + f->load.options->payload + (sio ? 2 : 0) ||
        (sio && memcmp(packet->args, EVENT_LEAD, lead) != 0))
        return false;
    if (sio ? text[f->load.options->payload] != '"'
            : packet->args_bytes != f->load.options->payload)
        return false;
    if (!parse_hex(text, 8, &tag) || !parse_hex(text + 9, 8, m) ||
        !parse_hex(text + 18, 16, sent_ns) || tag != f->shared->run || *m >= f->shared->total)
        return false;
    text += STAMP_CHARS;
    return padding == 0 || (text[0] == padding_of((uint32_t)*m) &&
                            memcmp(text, text + 1, padding - 1) == 0); /* all the same */
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct fanout *f = ((struct load_process *)e->config.ctx)->scenario;
    struct sio_packet packet = { .type = SIO_EVENT, .args = data, .args_bytes = n };
    uint64_t sent_ns;
    uint64_t m;
    uint64_t now;

    if (e->config.dialect == DIALECT_SOCKETIO) {
        if (sio_parse(data, n, e->config.nsp, &packet) != WIRE_OK)
            packet.type = SIO_BINARY_EVENT;
        if (packet.type == SIO_ACK) {
            on_answer(f, c, &packet);
            return;
        }
    }
    if (is_slow(&f->load, c))
        return;
    now = load_message(&f->load, c);
    f->last_rx_ns = now;
    if (binary || packet.type != SIO_EVENT || !stamp_read(f, &packet, &m, &sent_ns) ||
        m / f->load.options->messages == load_number(&f->load, c)) {
        atomic_fetch_add(&f->shared->foreign, 1); /* a publisher's own message is that too */
        return;
    }
    hist_add(&f->load.shared->latency[f->load.index], now - sent_ns);
    on_stamp(f, c, (uint32_t)m);
}

/* When a publisher's next message is due: their turns are spread over the period. With no rate:
 * now. What is sent late for want of an answer bears the time it was due, so that a stalling
 * server shows in the latencies. */
static uint64_t next_due_ns(const struct fanout *f, const struct publisher *p)
{
    const struct load_options *o = f->load.options;
    double periods = p->sent - p->sent % o->burst + (double)p->number / o->publishers;

    return o->rate > 0 ? f->publish_began_ns + (uint64_t)(periods / o->rate * 1e9) : now_ns();
}

static void publish_one(struct fanout *f, struct publisher *p, uint64_t due_ns)
{
    const struct load_options *o = f->load.options;
    uint32_t m = p->number * o->messages + p->sent;
    bool sio = f->load.engine.config.dialect == DIALECT_SOCKETIO;
    uint32_t lead = 0;
    int stamp;

    if (sio)
        lead = load_publish_lead(&f->load, f->packet, p->sent + 1, UINT32_MAX);
    stamp = snprintf(f->packet + lead, STAMP_CHARS + 1,
                     "%08" PRIx32 ".%08" PRIx32 ".%016" PRIx64 ".", f->shared->run, m, due_ns);
    memset(f->packet + lead + stamp, padding_of(m), o->payload - STAMP_CHARS);
    if (sio)
        memcpy(f->packet + lead + o->payload, "\"]", 2);
    atomic_store(&f->states[m], MESSAGE_SENT); /* before it goes: it may come back at once */
    p->sent++;
    (void)client_send(&f->load.engine, p->client, f->packet, lead + o->payload + (sio ? 2 : 0));
}

/* True when all publishers of this process have sent everything and have their answers, or are
 * gone. `next_ns`: when the next message is due. */
static bool publish_due(struct fanout *f, uint64_t *next_ns)
{
    const struct load_options *o = f->load.options;
    bool sio = f->load.engine.config.dialect == DIALECT_SOCKETIO;
    bool done = true;

    *next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < f->n_publishers; i++) {
        struct publisher *p = &f->publishers[i];

        while (!p->dead && p->sent < o->messages && (!sio || p->sent - p->answered < o->window)) {
            uint64_t due = next_due_ns(f, p);

            if (due > now_ns()) {
                *next_ns = due < *next_ns ? due : *next_ns;
                break;
            }
            publish_one(f, p, due);
        }
        if (!p->dead && (p->sent < o->messages || (sio && p->answered < p->sent)))
            done = false;
    }
    return done;
}

/* Turns until all is published. Where nothing comes any more, neither message nor answer, for
 * SILENCE_S and two periods of the rate, what is unanswered stays so. */
static void publish_all(struct fanout *f)
{
    double rate = f->load.options->rate;
    uint64_t next_ns;
    uint64_t patience_ns = SILENCE_S * NS_PER_S + (rate > 0 ? (uint64_t)(2e9 / rate) : 0);

    f->publish_began_ns = now_ns();
    f->last_rx_ns = f->publish_began_ns;
    while (!publish_due(f, &next_ns) && now_ns() - f->last_rx_ns < patience_ns)
        load_turn_until(&f->load, next_ns);
}

static void fanout_init(struct fanout *f, const struct load *run, uint32_t index)
{
    struct engine_config config = { .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close };
    const struct load_options *o = run->options;
    uint32_t n = driver_share_of(o->clients, index, run->procs);
    uint32_t taken = 0;
    uint32_t listeners;

    load_process_init(&f->load, index, run, &config, n);
    f->load.scenario = f;
    f->shared = load_extra(run->shared);
    f->states = states_of(f->shared);
    f->words = (f->shared->total + 63) / 64;
    f->seen = must_calloc((size_t)n * f->words, sizeof *f->seen);
    f->hashes = must_calloc(n, sizeof *f->hashes);
    f->unique = must_calloc(n, sizeof *f->unique);
    f->highest = must_calloc((size_t)n * o->publishers, sizeof *f->highest);
    f->candidate_of = must_calloc(n, 1);
    f->packet = must_calloc(1, PAYLOAD_MAX + 4096);
    f->n_publishers = driver_share_of(o->publishers, index, run->procs);
    f->publishers = must_calloc(f->n_publishers + 1, sizeof *f->publishers);
    for (uint32_t i = 0; i < f->n_publishers; i++)
        f->publishers[i] = (struct publisher){ .client = &f->load.engine.clients[i],
                                               .number = i * run->procs + index };
    /* Spread over the listeners: with many workers some candidate then outlives the death of any
     * one. */
    listeners = n - f->n_publishers;
    for (uint32_t i = f->n_publishers; i < n && taken < CANDIDATES; i++) {
        bool turn = (uint64_t)(i - f->n_publishers) * CANDIDATES / listeners >= taken;

        if (turn && !is_slow(&f->load, &f->load.engine.clients[i])) {
            f->candidate_of[i] = (uint8_t)++taken;
            atomic_store(&f->shared->candidates[index * CANDIDATES + taken - 1].alive, 1);
        }
    }
}

/* Reads on what the slow ones left, to see how the server ended them; with a window again that is
 * worth an announcement, or the rest would trickle in. */
static void read_slow(struct fanout *f)
{
    uint64_t end = now_ns() + SLOW_READ_MS * NS_PER_MS;
    int wide = 262144;

    f->slow_open = 0;
    for (uint32_t i = 0; i < f->load.engine.n_clients; i++) {
        struct client *c = &f->load.engine.clients[i];

        if (!is_slow(&f->load, c) || c->fd < 0)
            continue;
        if (setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &wide, sizeof wide) != 0)
            die("SO_RCVBUF: %s", strerror(errno));
        client_read(&f->load.engine, c, true);
        f->slow_open++;
    }
    while (f->slow_open > 0 && now_ns() < end)
        engine_turn(&f->load.engine, 50);
}

static int fanout_main(uint32_t index, void *ctx)
{
    static struct fanout f;
    struct engine *e = &f.load.engine;

    fanout_init(&f, ctx, index);
    load_connect_all(&f.load);
    load_arrive(&f.load, PHASE_CONNECTED);
    while (f.joined < e->n_open)
        engine_turn(e, 20);
    load_arrive(&f.load, PHASE_JOINED);
    publish_all(&f);
    load_arrive(&f.load, PHASE_PUBLISHED);
    f.last_rx_ns = now_ns(); /* settle_ms counts from here */
    while (!fanout_drained(&f))
        engine_turn(e, 50);
    load_arrive(&f.load, PHASE_DRAINED);
    load_arrive(&f.load, PHASE_VERIFY); /* the quiet time for repeats is in here */
    load_gaps(&f.load);
    fanout_verify(&f);
    read_slow(&f);
    load_arrive(&f.load, PHASE_VERIFIED);
    return load_process_end(&f.load);
}

static int fanout_report(struct load *l, struct fanout_shared *s)
{
    const struct load_options *o = l->options;
    bool order = strcmp(o->expect, "exactly-once-same-order") == 0;
    bool ok = s->reference != NO_REFERENCE && s->verified > 0;
    bool sio = load_dialect(o) == DIALECT_SOCKETIO;
    uint32_t states[4] = { 0 };

    for (uint32_t m = 0; m < s->total; m++)
        states[atomic_load(&states_of(s)[m]) & 3]++;
    load_result(l, o->slow > 0 ? "slow" : "fanout");
    json_u64(&l->json, "publishers", o->publishers);
    json_u64(&l->json, "sent", s->total - states[MESSAGE_NEW]);
    json_u64(&l->json, "acknowledged", states[MESSAGE_OK]);
    json_u64(&l->json, "unanswered", sio ? states[MESSAGE_SENT] : 0);
    json_u64(&l->json, "refused", s->refused);
    json_u64(&l->json, "verified_clients", s->verified);
    json_u64(&l->json, "expected", s->expected);
    json_u64(&l->json, "lost", s->lost);
    json_u64(&l->json, "repeated", s->repeated);
    json_u64(&l->json, "out_of_order", s->out_of_order);
    json_u64(&l->json, "foreign", s->foreign);
    json_u64(&l->json, "clients_with_another_order", s->differing);
    json_text(&l->json, "expect", o->expect);
    if (strcmp(o->expect, "nothing") == 0)
        return load_finish(l, true);
    ok = ok && s->lost == 0 && s->repeated == 0 && s->foreign == 0;
    if (order)
        ok = ok && s->differing == 0 && s->out_of_order == 0;
    if (!o->tolerate_closes)
        ok = ok && l->shared->unexpected_total == 0 && s->refused == 0 &&
             states[MESSAGE_NEW] == 0 && (!sio || states[MESSAGE_SENT] == 0);
    return load_finish(l, ok);
}

int load_run_fanout(const struct load_options *o)
{
    static struct load l;
    struct fanout_shared *s;
    uint64_t total = (uint64_t)o->publishers * o->messages;
    uint64_t wait;

    if (o->publishers == 0 || o->messages == 0 || o->publishers + o->slow >= o->clients)
        die("--publishers and --messages must not be 0, and somebody must listen (--clients)");
    if (o->payload < STAMP_CHARS || o->payload > PAYLOAD_MAX)
        die("--payload must be %u to %u", STAMP_CHARS, PAYLOAD_MAX);
    if (total > UINT32_MAX / 2 || total * o->clients / 8 > SEEN_BYTES_MAX)
        die("%llu messages for %u clients are more than can be verified", (unsigned long long)total,
            o->clients);
    load_prepare(&l, o, o->clients,
                 sizeof *s + total + 4 +
                     total * 4 * CANDIDATES * driver_processes_for(o->clients, o->procs));
    s = load_extra(l.shared);
    s->total = (uint32_t)total;
    s->run = (uint32_t)now_ns();
    s->reference = NO_REFERENCE;
    load_fork(&l, fanout_main);
    load_phase(&l, PHASE_CONNECTED, "connected");
    load_phase(&l, PHASE_JOINED, "publishing");
    meter_begin(&l.meter);
    load_phase(&l, PHASE_PUBLISHED, "published");
    load_phase(&l, PHASE_DRAINED, "drained");
    meter_end(&l.meter);
    wait = now_ns() + QUIET_MS * NS_PER_MS;
    while (now_ns() < wait)
        load_tick(&l);
    s->reference = fanout_choose_reference(s);
    load_phase(&l, PHASE_VERIFY, "verifying");
    load_phase(&l, PHASE_VERIFIED, "verified");
    return fanout_report(&l, s);
}
