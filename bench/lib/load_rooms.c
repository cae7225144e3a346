/* load_rooms.c: the clients of the scenario of many rooms; see load_rooms.h.
 *
 * A message's text is "RUN.ROOM.PUBLISHER.NUMBER.NANOSECONDS." and one letter. With a rate the
 * time in it is the one that the message was due, whenever it went (an open loop: nothing holds it
 * back); without one a publisher has --window unacknowledged ones and the time is the sending's.
 * Plain clients publish to the room of their path: a publisher has one there.
 * Invariant: of each stream a member keeps the highest number and which of the 64 up to it have come. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/load_rooms.h"

#define EVENT_LEAD "[\"m\",\""
#define SILENCE_NS (15 * NS_PER_S)

struct track {
    uint64_t come; /* bit d: number highest - d */
    uint32_t highest;
};

struct publisher {
    struct client *client;
    uint32_t number;
    uint32_t room; /* plain */
    uint32_t sent;
    uint32_t answered;
    bool dead;
};

struct rooms {
    struct load_process load;
    struct rooms_shared *shared;
    struct plan plan;
    struct target publish_targets[ENGINE_TARGETS_MAX];
    struct target at; /* of the client that connects */
    uint32_t n_publish_targets;
    uint32_t n_publishers;
    uint32_t joined;
    uint32_t probed;
    uint32_t round; /* the open loop's next message: of publisher `turn` of ours */
    uint32_t turn;
    struct publisher *publishers;
    struct track *tracks; /* by client and publisher */
    uint64_t *unique;     /* by client */
    char *packet;
};

static bool is_member(const struct rooms *r, const struct client *c)
{
    return load_number(&r->load, c) >= r->load.options->publishers;
}

static uint32_t room_of(const struct rooms *r, const struct client *c)
{
    uint32_t g = load_number(&r->load, c);
    uint32_t publishers = r->load.options->publishers;

    return plan_room_of_member(&r->plan, g >= publishers ? g - publishers : g);
}

static bool is_socketio(const struct rooms *r)
{
    return r->load.engine.config.dialect == DIALECT_SOCKETIO;
}

/* Publishers may have servers of their own; a plain client's room is in its path. */
static const struct target *target_of(struct engine *e, const struct client *c)
{
    struct rooms *r = ((struct load_process *)e->config.ctx)->scenario;
    uint32_t g = load_number(&r->load, c);
    size_t n;

    if (!is_member(r, c) && r->n_publish_targets > 0)
        r->at = r->publish_targets[g % r->n_publish_targets];
    else
        r->at = e->config.targets[g % e->config.n_targets];
    n = strlen(r->at.path);
    if (!is_socketio(r) && snprintf(r->at.path + n, sizeof r->at.path - n, "-%u", room_of(r, c)) >=
                               (int)(sizeof r->at.path - n))
        die("the path of --url is too long");
    return &r->at;
}

static void on_open(struct engine *e, struct client *c)
{
    struct rooms *r = ((struct load_process *)e->config.ctx)->scenario;

    load_opened(&r->load);
    if (is_socketio(r) && is_member(r, c))
        load_join(&r->load, c, room_of(r, c));
    else
        r->joined++;
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    struct rooms *r = ((struct load_process *)e->config.ctx)->scenario;

    for (uint32_t i = 0; i < r->n_publishers; i++) {
        if (r->publishers[i].client == c) {
            r->publishers[i].dead = true;
            atomic_fetch_add(&r->shared->dead_publishers, 1);
        }
    }
    load_closed(&r->load, c, was_open, c->cause == CAUSE_OURS);
}

static uint32_t room_of_message(const struct rooms *r, const struct publisher *p, uint32_t i)
{
    const struct load_options *o = r->load.options;

    return is_socketio(r) ? plan_room_of_message(&r->plan, (uint64_t)i * o->publishers + p->number)
                          : p->room;
}

static void on_answer(struct rooms *r, const struct client *c, const struct sio_packet *packet)
{
    struct publisher *p = c->id < r->n_publishers ? &r->publishers[c->id] : NULL;

    if (!p && packet->id == 0 && !load_refused(packet)) {
        r->joined++;
        atomic_fetch_add(&r->load.shared->joined_total, 1);
        return;
    }
    if (!p && packet->id == 0)
        die("the server refuses the join: %.*s", (int)packet->args_bytes, packet->args);
    if (!p || packet->id == 0 || packet->id > p->sent) {
        atomic_fetch_add(&r->shared->foreign, 1);
        return;
    }
    p->answered++;
    atomic_store(&r->shared->last_rx_ns, now_ns());
    if (load_refused(packet)) { /* it had a number, but nobody is to expect it */
        uint32_t room = room_of_message(r, p, packet->id - 1);

        atomic_fetch_add(&r->shared->refused, 1);
        atomic_fetch_sub(&rooms_streams(r->shared)[p->number * r->shared->rooms + room], 1);
        return;
    }
    atomic_fetch_add(&r->shared->acknowledged, 1);
}

/* Number `n` (from 1) of a stream has come. */
static void on_number(struct rooms *r, const struct client *c, uint32_t publisher, uint32_t n)
{
    struct track *t = &r->tracks[(size_t)c->id * r->load.options->publishers + publisher];
    uint32_t ahead;

    if (n > t->highest) {
        ahead = n - t->highest;
        t->come = (ahead < 64 ? t->come << ahead : 0) | 1;
        t->highest = n;
    } else if (t->highest - n >= 64 || (t->come >> (t->highest - n) & 1)) {
        atomic_fetch_add(&r->shared->repeated, 1);
        return;
    } else {
        t->come |= UINT64_C(1) << (t->highest - n);
        atomic_fetch_add(&r->shared->out_of_order, 1);
    }
    r->unique[c->id]++;
}

struct stamp {
    uint64_t run, room, publisher, number, due_ns;
};

static bool stamp_read(const struct rooms *r, const struct sio_packet *packet, struct stamp *s)
{
    size_t lead = is_socketio(r) ? strlen(EVENT_LEAD) : 0;
    size_t payload = r->load.options->payload;
    const char *text = packet->args + lead;

    if (packet->args_bytes < lead + payload + (is_socketio(r) ? 2 : 0) ||
        memcmp(packet->args, EVENT_LEAD, lead) != 0)
        return false;
    if (is_socketio(r) ? text[payload] != '"' : packet->args_bytes != payload)
        return false;
    return parse_hex(text, 8, &s->run) && parse_hex(text + 9, 8, &s->room) &&
           parse_hex(text + 18, 8, &s->publisher) && parse_hex(text + 27, 8, &s->number) &&
           parse_hex(text + 36, 16, &s->due_ns);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct rooms *r = ((struct load_process *)e->config.ctx)->scenario;
    struct sio_packet packet = { .type = SIO_EVENT, .args = data, .args_bytes = n };
    struct stamp s;
    uint64_t now;

    if (is_socketio(r) && sio_parse(data, n, e->config.nsp, &packet) != WIRE_OK)
        packet.type = SIO_BINARY_EVENT;
    if (packet.type == SIO_ACK) {
        on_answer(r, c, &packet);
        return;
    }
    now = load_message(&r->load, c);
    atomic_store_explicit(&r->shared->last_rx_ns, now, memory_order_relaxed);
    if (binary || packet.type != SIO_EVENT || !is_member(r, c) || !stamp_read(r, &packet, &s) ||
        s.run != r->shared->run || s.room != room_of(r, c) || s.number == 0 ||
        s.publisher >= r->load.options->publishers) {
        atomic_fetch_add(&r->shared->foreign, 1);
        return;
    }
    hist_add(&r->load.shared->latency[r->load.index], now - s.due_ns);
    on_number(r, c, (uint32_t)s.publisher, (uint32_t)s.number);
}

static void publish_one(struct rooms *r, struct publisher *p, uint64_t due_ns)
{
    const struct load_options *o = r->load.options;
    uint32_t room = room_of_message(r, p, p->sent);
    _Atomic uint32_t *stream = &rooms_streams(r->shared)[p->number * r->shared->rooms + room];
    bool sio = is_socketio(r);
    uint32_t lead = 0;
    int stamp;

    if (sio)
        lead = load_publish_lead(&r->load, r->packet, o->unacknowledged ? UINT32_MAX : p->sent + 1,
                                 room);
    stamp = snprintf(r->packet + lead, ROOMS_STAMP_CHARS + 1,
                     "%08" PRIx32 ".%08" PRIx32 ".%08" PRIx32 ".%08" PRIx32 ".%016" PRIx64 ".",
                     r->shared->run, room, p->number, atomic_fetch_add(stream, 1) + 1, due_ns);
    memset(r->packet + lead + stamp, 'a' + (int)(p->sent % 26), o->payload - ROOMS_STAMP_CHARS);
    if (sio)
        memcpy(r->packet + lead + o->payload, "\"]", 2);
    p->sent++;
    atomic_fetch_add(&r->shared->sent, 1);
    (void)client_send(&r->load.engine, p->client, r->packet, lead + o->payload + (sio ? 2 : 0));
}

/* The open loop: sends what is due, in the order of the plan; gives the time of the next one. */
static uint64_t publish_due(struct rooms *r, uint64_t began_ns)
{
    const struct load_options *o = r->load.options;

    while (r->n_publishers > 0 && r->round < o->messages) {
        struct publisher *p = &r->publishers[r->turn];
        uint64_t due =
            began_ns + plan_due_ns(&r->plan, (uint64_t)r->round * o->publishers + p->number);
        uint64_t now = now_ns();

        if (due > now)
            return due;
        if (!p->dead) {
            hist_add(&r->load.shared->lag[r->load.index], now - due);
            publish_one(r, p, due);
        }
        r->turn = (r->turn + 1) % r->n_publishers;
        r->round += r->turn == 0;
    }
    return UINT64_MAX;
}

/* The closed loop: fills up every publisher's window. */
static void publish_more(struct rooms *r)
{
    const struct load_options *o = r->load.options;

    for (uint32_t i = 0; i < r->n_publishers; i++) {
        struct publisher *p = &r->publishers[i];

        while (!p->dead && p->sent < o->messages + r->probed && p->sent - p->answered < o->window)
            publish_one(r, p, now_ns());
    }
}

static bool all_published(const struct rooms *r)
{
    const struct load_options *o = r->load.options;
    bool answers = is_socketio(r) && !o->unacknowledged;

    for (uint32_t i = 0; i < r->n_publishers; i++) {
        const struct publisher *p = &r->publishers[i];

        if (!p->dead && (p->sent < o->messages || (answers && p->answered < p->sent)))
            return false;
    }
    return r->plan.rate <= 0 || r->n_publishers == 0 || r->round == o->messages;
}

static void publish_all(struct rooms *r)
{
    uint64_t began_ns = now_ns();
    uint64_t gap_ns = r->plan.rate > 0 ? (uint64_t)(2e9 * r->plan.burst / r->plan.rate) : 0;
    uint64_t next_ns = UINT64_MAX;

    atomic_store(&r->shared->last_rx_ns, began_ns);
    while (!all_published(r) &&
           now_ns() < atomic_load(&r->shared->last_rx_ns) + SILENCE_NS + gap_ns) {
        if (r->plan.rate > 0)
            next_ns = publish_due(r, began_ns);
        else
            publish_more(r);
        load_turn_until(&r->load, next_ns);
    }
}

/* Sends one message whenever the parent asks for one; the first process's first publisher does it. */
static void probe(struct rooms *r)
{
    atomic_fetch_add(&r->load.shared->arrived[ROOMS_PROBED], 1);
    while (atomic_load(&r->load.shared->phase) < ROOMS_PROBED) {
        if (r->load.index == 0 && r->probed < atomic_load(&r->shared->probes)) {
            r->probed++;
            publish_one(r, &r->publishers[0], now_ns());
        }
        engine_turn(&r->load.engine, 1);
    }
}

static uint64_t expected_of(const struct rooms *r, const struct client *c)
{
    uint64_t sum = 0;

    for (uint32_t p = 0; p < r->load.options->publishers; p++)
        sum += atomic_load(&rooms_streams(r->shared)[p * r->shared->rooms + room_of(r, c)]);
    return sum;
}

/* Waits until every open member has all that its room was sent, or nothing has come for --settle. */
static void drain(struct rooms *r)
{
    uint64_t settle_ns = r->load.options->settle_ms * NS_PER_MS;
    uint32_t i = 0;

    atomic_store(&r->shared->last_rx_ns, now_ns());
    while (i < r->load.engine.n_clients &&
           now_ns() < atomic_load(&r->shared->last_rx_ns) + settle_ns) {
        const struct client *c = &r->load.engine.clients[i];

        if (c->state != CLIENT_OPEN || !is_member(r, c) || r->unique[i] >= expected_of(r, c))
            i++;
        else
            engine_turn(&r->load.engine, 20);
    }
}

static void verify(struct rooms *r)
{
    for (uint32_t i = 0; i < r->load.engine.n_clients; i++) {
        const struct client *c = &r->load.engine.clients[i];
        uint64_t expected;

        if (c->state != CLIENT_OPEN || !is_member(r, c))
            continue;
        expected = expected_of(r, c);
        atomic_fetch_add(&r->shared->expected, expected);
        atomic_fetch_add(&r->shared->got, r->unique[i]);
        atomic_fetch_add(&r->shared->lost, expected > r->unique[i] ? expected - r->unique[i] : 0);
    }
    load_gaps(&r->load);
}

static void rooms_init(struct rooms *r, const struct load *run, uint32_t index)
{
    struct engine_config config = {
        .on_open = on_open, .on_message = on_message, .on_close = on_close, .target_of = target_of
    };
    const struct load_options *o = run->options;
    uint32_t n = driver_share_of(o->clients, index, run->procs);

    load_process_init(&r->load, index, run, &config, n);
    r->load.scenario = r;
    r->shared = load_extra(run->shared);
    plan_init(&r->plan, r->shared->rooms, o->zipf, o->seed);
    r->plan.rate = o->total_rate;
    r->plan.burst = o->burst;
    for (uint32_t i = 0; i < o->publish_urls.count; i++)
        target_parse(&r->publish_targets[r->n_publish_targets++], o->publish_urls.values[i],
                     config.dialect);
    r->packet = must_calloc(1, ROOMS_PAYLOAD_MAX + LOAD_LEAD_MAX + 2);
    r->unique = must_calloc(n, sizeof *r->unique);
    r->tracks = must_calloc((size_t)n * o->publishers, sizeof *r->tracks);
    r->n_publishers = driver_share_of(o->publishers, index, run->procs);
    r->publishers = must_calloc(r->n_publishers, sizeof *r->publishers);
    for (uint32_t i = 0; i < r->n_publishers; i++) {
        uint32_t number = i * run->procs + index;

        r->publishers[i] = (struct publisher){ .client = &r->load.engine.clients[i],
                                               .number = number,
                                               .room = plan_room_of_member(&r->plan, number) };
    }
}

int rooms_main(uint32_t index, void *ctx)
{
    static struct rooms r;

    rooms_init(&r, ctx, index);
    load_connect_all(&r.load);
    load_arrive(&r.load, ROOMS_CONNECTED);
    while (r.joined < r.load.engine.n_open)
        engine_turn(&r.load.engine, 20);
    load_arrive(&r.load, ROOMS_JOINED);
    probe(&r);
    publish_all(&r);
    load_arrive(&r.load, ROOMS_PUBLISHED);
    drain(&r);
    load_arrive(&r.load, ROOMS_DRAINED);
    load_arrive(&r.load, ROOMS_VERIFY); /* the quiet time for repeats is in here */
    verify(&r);
    load_arrive(&r.load, ROOMS_VERIFIED);
    return load_process_end(&r.load);
}
