/* bridge.c: what a hop over Redis costs, beside bare PUBLISH/SUBSCRIBE, interleaved in one run; and
 * how many messages go through one bridge in each direction.
 *
 * One Redis, two Peal hosts A and B with one worker each. Rounds take turns: bare, hop, out, in.
 *   bare  PUBLISH at --rate a second; from before its send to after its reception elsewhere.
 *   hop   a client of A publishes at --rate to a room with one member on A and one on B, both in one
 *         process. Added by the hop: how much later the member on B has a message than the one on A.
 *   out   clients' messages into A's ring, as many as go; counted at a bare subscriber of their channel.
 *   in    bare PUBLISHes of what an emitter sends, as many as go; counted at the member on B, which has
 *         them from B's ring. A drops them: it has no member there.
 * In the last two --window messages are under way, so that nothing is dropped; all must arrive, or the
 * run is void. The CPU shares printed with them say which process is the limit.
 *
 * Owns:  Redis, the servers and the client processes; all end with this one.
 * Exit:  0, 1 when a bar is missed, 2 when the run is void. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "lib/driver.h"
#include "lib/engine.h"
#include "lib/hist.h"
#include "lib/machine.h"
#include "lib/proc.h"
#include "lib/redis.h"
#include "lib/util.h"

#define ROUNDS_MAX   64u
#define SEQ_DIGITS   8u
#define SEQ_MAX      (1u << 20) /* messages of a bare or hop round */
#define BATCH        64u        /* messages written in one go where as many go as can */
#define ROOM_CHANNEL "socket.io#/#%s#"

static struct {
    uint32_t rate;
    uint32_t rounds;
    uint32_t window;
    double round_seconds;
    double p50_bar;
    double p99_bar;
    double out_bar;
    double in_bar;
    const char *peal;
    const char *redis;
    struct opt_list peal_args;
} opt = { 5000, 5, 8192, 2, 0, 0, 0, 0, NULL, "redis-server", { .count = 0 } };

static const struct opt options[] = {
    { "rate", OPT_U32, &opt.rate, "messages a second of the bare and hop rounds (5000)" },
    { "rounds", OPT_U32, &opt.rounds, "rounds of each kind (5)" },
    { "round-seconds", OPT_F64, &opt.round_seconds, "length of a round (2)" },
    { "window", OPT_U32, &opt.window, "out and in: messages under way (8192)" },
    { "peal", OPT_TEXT, &opt.peal, "peal's binary" },
    { "peal-arg", OPT_LIST, &opt.peal_args, "one more argument for both, repeatable" },
    { "redis", OPT_TEXT, &opt.redis, "Redis' binary (redis-server)" },
    { "p50-bar", OPT_F64, &opt.p50_bar, "exit 1 when the hop adds more us at the median" },
    { "p99-bar", OPT_F64, &opt.p99_bar,
      "exit 1 when its 99th percentile is more times that of the bare ones" },
    { "out-bar", OPT_F64, &opt.out_bar, "exit 1 below this many messages a second from the ring" },
    { "in-bar", OPT_F64, &opt.in_bar, "exit 1 below this many messages a second into the ring" },
    { NULL, OPT_FLAG, NULL, NULL },
};

enum kind { KIND_NONE = 0, KIND_BARE, KIND_HOP, KIND_OUT, KIND_IN };

enum { TALKER = 0, LISTENER, SUBSCRIBER, PROCESSES };

/* One round at a time: the parent fills in, then raises `round`; the talker says when it is through. */
struct bridge_shared {
    uint16_t redis_port;
    uint16_t ports[2];
    _Atomic uint32_t ready; /* processes, and the members in their rooms */
    _Atomic uint32_t round;
    _Atomic uint32_t kind;
    _Atomic uint32_t talked; /* the round that the talker is through with */
    _Atomic uint64_t sent;
    _Atomic uint64_t
        received; /* bare: at the subscriber, hop: at both members, out and in: where it counts */
    _Atomic uint64_t began_ns;
    _Atomic uint64_t last_ns; /* of the last one received */
    _Atomic uint64_t
        at_ns[3]
             [SEQ_MAX]; /* sent (bare); received by A's member or the subscriber, by B's member */
};
enum { AT_SENT = 0, AT_NEAR, AT_FAR };

static struct bridge_shared *shared;

static void write_seq(char *at, uint32_t seq)
{
    for (uint32_t i = SEQ_DIGITS; i-- > 0; seq /= 10)
        at[i] = (char)('0' + seq % 10);
}

static uint32_t read_seq(const char *at)
{
    uint32_t seq = 0;

    for (uint32_t i = 0; i < SEQ_DIGITS; i++) {
        if (at[i] < '0' || at[i] > '9')
            die("a message is not what was sent");
        seq = seq * 10 + (uint32_t)(at[i] - '0');
    }
    if (seq >= SEQ_MAX)
        die("message %u was not sent", seq);
    return seq;
}

static void note_received(uint64_t n)
{
    atomic_store(&shared->last_ns, now_ns());
    atomic_fetch_add(&shared->received, n);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    char name[24];

    (void)e;
    die("client %u was closed (%s) %s", c->id, cause_name(c->cause, name),
        was_open ? "in the run" : "before it was open");
}

static void engine_prepare(struct engine *e, uint32_t n_clients,
                           void (*on_open)(struct engine *, struct client *),
                           void (*on_message)(struct engine *, struct client *, const char *,
                                              size_t, bool))
{
    struct engine_config config = { .n_targets = n_clients,
                                    .dialect = DIALECT_SOCKETIO,
                                    .nsp = "/",
                                    .connect_parallel = 2,
                                    .connect_timeout_ms = 20000,
                                    .on_open = on_open,
                                    .on_message = on_message,
                                    .on_close = on_close };
    char url[64];

    for (uint32_t i = 0; i < n_clients; i++) {
        (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u", shared->ports[i]);
        target_parse(&config.targets[i], url, DIALECT_SOCKETIO);
    }
    engine_init(e, &config, n_clients);
    (void)engine_start(e, n_clients);
}

/* --- the talker: a client of A, and a publisher at Redis --- */

struct talker {
    struct engine engine;
    struct redis redis;
    char command[256]; /* a bare PUBLISH, with the number in the end */
    size_t command_bytes;
    char *burst; /* BATCH PUBLISHes of an emitter's message to the room `in` */
    size_t burst_bytes;
};

static void talker_open(struct engine *e, struct client *c)
{
    (void)e;
    (void)c;
    atomic_fetch_add(&shared->ready, 1);
}

static void talker_message(struct engine *e, struct client *c, const char *data, size_t n,
                           bool binary)
{
    (void)e;
    (void)c;
    (void)binary;
    die("the publisher is in no room, and got %.*s", (int)n, data);
}

/* What @socket.io/redis-emitter publishes for io.to("in").emit("m", 1). */
static const char emitted[] = "\x93\xa7"
                              "emitter"
                              "\x83\xa4"
                              "type"
                              "\x02"
                              "\xa4"
                              "data"
                              "\x92\xa1"
                              "m"
                              "\x01"
                              "\xa3"
                              "nsp"
                              "\xa1"
                              "/"
                              "\x83\xa5"
                              "rooms"
                              "\x91\xa2"
                              "in"
                              "\xa5"
                              "flags"
                              "\x80"
                              "\xa6"
                              "except"
                              "\x90";

static void talker_prepare(struct talker *t)
{
    const char *bare[] = { "PUBLISH", "bare", "00000000" };
    char channel[64];
    const char *in[] = { "PUBLISH", channel, emitted };
    size_t channel_bytes = (size_t)snprintf(channel, sizeof channel, ROOM_CHANNEL, "in");

    redis_open(&t->redis, shared->redis_port);
    t->command_bytes = redis_put(t->command, 3, bare, (size_t[]){ 7, 4, SEQ_DIGITS });
    t->burst = must_calloc(BATCH, 256);
    for (uint32_t i = 0; i < BATCH; i++)
        t->burst_bytes += redis_put(t->burst + t->burst_bytes, 3, in,
                                    (size_t[]){ 7, channel_bytes, sizeof emitted - 1 });
    engine_prepare(&t->engine, 1, talker_open, talker_message);
}

static void drain_replies(struct talker *t)
{
    struct redis_reply reply;

    while (redis_next(&t->redis, false, &reply))
        ;
}

static void send_one(struct talker *t, enum kind kind, uint32_t seq)
{
    static char packet[] = "2[\"publish\",\"r\",\"m\",\"00000000\"]";

    if (kind == KIND_BARE) {
        write_seq(t->command + t->command_bytes - 2 - SEQ_DIGITS, seq);
        atomic_store(&shared->at_ns[AT_SENT][seq], now_ns());
        redis_write(&t->redis, t->command, t->command_bytes);
    } else {
        write_seq(packet + sizeof packet - 1 - 2 - SEQ_DIGITS, seq);
        atomic_store(&shared->at_ns[AT_SENT][seq], now_ns());
        if (!client_send(&t->engine, &t->engine.clients[0], packet, sizeof packet - 1))
            die("the publisher has lost its connection");
    }
    atomic_fetch_add(&shared->sent, 1);
}

static void send_batch(struct talker *t, enum kind kind)
{
    static const char packet[] = "2[\"publish\",\"out\",\"m\",1]";

    if (kind == KIND_IN) {
        redis_write(&t->redis, t->burst, t->burst_bytes);
    } else {
        engine_cork(&t->engine, &t->engine.clients[0]);
        for (uint32_t i = 0; i < BATCH; i++)
            (void)client_send(&t->engine, &t->engine.clients[0], packet, sizeof packet - 1);
        engine_uncork(&t->engine);
    }
    atomic_fetch_add(&shared->sent, BATCH);
}

static void rest_until(uint64_t ns)
{
    struct timespec at = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

/* One message each period, and none left out: what comes late goes at once. */
static void talk_steadily(struct talker *t, enum kind kind)
{
    uint32_t n = (uint32_t)(opt.rate * opt.round_seconds);
    uint64_t begin = now_ns();

    for (uint32_t seq = 0; seq < n; seq++) {
        rest_until(begin + seq * NS_PER_S / opt.rate);
        send_one(t, kind, seq);
        drain_replies(t);
        if (seq % 64 == 0)
            engine_turn(&t->engine, 0);
    }
}

static void talk_at_full_speed(struct talker *t, enum kind kind)
{
    uint64_t end = now_ns() + (uint64_t)(opt.round_seconds * (double)NS_PER_S);

    atomic_store(&shared->began_ns, now_ns());
    while (now_ns() < end) {
        if (atomic_load(&shared->sent) - atomic_load(&shared->received) + BATCH <= opt.window)
            send_batch(t, kind);
        else
            rest_until(now_ns() + 20000);
        drain_replies(t);
        engine_turn(&t->engine, 0);
    }
}

static _Noreturn void talker_main(void)
{
    static struct talker t;
    uint32_t round = 0;

    (void)prctl(PR_SET_TIMERSLACK, 1ul);
    talker_prepare(&t);
    for (;;) { /* until the parent kills us */
        enum kind kind;

        engine_turn(&t.engine, 5);
        drain_replies(&t);
        if (atomic_load(&shared->round) == round)
            continue;
        round = atomic_load(&shared->round);
        kind = (enum kind)atomic_load(&shared->kind);
        if (kind == KIND_BARE || kind == KIND_HOP)
            talk_steadily(&t, kind);
        else
            talk_at_full_speed(&t, kind);
        atomic_store(&shared->talked, round);
    }
}

/* --- the listener: a member on A, one on B --- */

static void listener_open(struct engine *e, struct client *c)
{
    static const char near[] = "21[\"join\",\"r\"]";
    static const char far[] = "21[\"join\",[\"r\",\"in\"]]";

    (void)client_send(e, c, c->id == 0 ? near : far, (c->id == 0 ? sizeof near : sizeof far) - 1);
}

static void listener_message(struct engine *e, struct client *c, const char *data, size_t n,
                             bool binary)
{
    static const char head[] = "2[\"m\",\"";

    (void)e;
    if (n > 2 && memcmp(data, "31", 2) == 0) {
        atomic_fetch_add(&shared->ready, 1);
    } else if (binary || n < 7) {
        die("a message is not what was sent");
    } else if (data[6] == '"') { /* r */
        if (n < sizeof head - 1 + SEQ_DIGITS)
            die("a message is not what was sent");
        atomic_store(
            &shared->at_ns[c->id == 0 ? AT_NEAR : AT_FAR][read_seq(data + sizeof head - 1)],
            now_ns());
        note_received(1);
    } else { /* in: counted per turn */
        uint64_t *counted = e->config.ctx;

        (*counted)++;
    }
}

static _Noreturn void listener_main(void)
{
    static struct engine engine;
    uint64_t counted = 0;

    engine_prepare(&engine, 2, listener_open, listener_message);
    engine.config.ctx = &counted;
    for (;;) {
        engine_turn(&engine, 100);
        if (counted > 0)
            note_received(counted);
        counted = 0;
    }
}

/* --- the subscriber: of bare messages, and of the room `out` --- */

static _Noreturn void subscriber_main(void)
{
    static const char subscribe[] = "SUBSCRIBE bare socket.io#/#out#\r\n";
    static struct redis r;
    struct redis_reply reply;

    redis_open(&r, shared->redis_port);
    redis_write(&r, subscribe, sizeof subscribe - 1);
    for (uint64_t counted = 0;;) {
        bool any = redis_next(&r, counted == 0, &reply);

        if (!any) {
            note_received(counted);
            counted = 0;
        } else if (reply.lengths[0] == 9) { /* "subscribe": the answer to ours, twice */
            atomic_fetch_add(&shared->ready, reply.number == 2);
        } else if (reply.lengths[1] == 4) {
            if (reply.lengths[2] != SEQ_DIGITS)
                die("a message is not what was sent");
            atomic_store(&shared->at_ns[AT_NEAR][read_seq(reply.words[2])], now_ns());
            note_received(1);
        } else {
            counted++;
        }
    }
}

static int process_main(uint32_t index, void *ctx)
{
    (void)ctx;
    switch (index) {
    case TALKER: talker_main();
    case LISTENER: listener_main();
    default: subscriber_main();
    }
}

/* --- the parent --- */

struct bench {
    struct server redis;
    struct server hosts[2];
    struct driver clients;
    pid_t bridges[2];
    pid_t workers[2];
};

struct round {
    double p50_us;
    double p99_us;
    double rate;
    double cpu_us; /* of the bridge, for each message */
    double shares[4];
};
static const char *const share_names[] = { "bridge", "worker", "redis", "peer_bridge" };

static void wait_for(struct bench *b, bool (*done)(uint64_t), uint64_t value, const char *what)
{
    uint64_t end = now_ns() + 20 * NS_PER_S + (uint64_t)(opt.round_seconds * (double)NS_PER_S);

    while (!done(value)) {
        (void)poll(NULL, 0, 5);
        if (driver_poll(&b->clients) || b->clients.running < PROCESSES)
            die("a client has failed, the run is void");
        if (now_ns() > end)
            die("%s: not in time (%llu sent, %llu received), the run is void; logs: %s %s", what,
                (unsigned long long)atomic_load(&shared->sent),
                (unsigned long long)atomic_load(&shared->received), b->hosts[0].log,
                b->hosts[1].log);
    }
}

static bool are_ready(uint64_t n)
{
    return atomic_load(&shared->ready) == n;
}

static bool has_talked(uint64_t round)
{
    return atomic_load(&shared->talked) == round;
}

static bool has_received(uint64_t times)
{
    return atomic_load(&shared->received) == atomic_load(&shared->sent) * times;
}

static void cpu_of(const struct bench *b, uint32_t host, uint64_t out[4])
{
    out[0] = proc_cpu_ns(b->bridges[host]);
    out[1] = proc_cpu_ns(b->workers[host]);
    out[2] = proc_cpu_ns(b->redis.pid);
    out[3] = proc_cpu_ns(b->bridges[1 - host]);
}

static void take_latencies(struct round *r, enum kind kind)
{
    static struct hist hist;
    uint64_t n = atomic_load(&shared->sent);

    memset(&hist, 0, sizeof hist);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from = atomic_load(&shared->at_ns[kind == KIND_BARE ? AT_SENT : AT_NEAR][i]);
        uint64_t to = atomic_load(&shared->at_ns[kind == KIND_BARE ? AT_NEAR : AT_FAR][i]);

        hist_add(&hist, to > from ? to - from : 0);
    }
    r->p50_us = (double)hist_percentile(&hist, 50) / 1e3;
    r->p99_us = (double)hist_percentile(&hist, 99) / 1e3;
}

static void run_round(struct bench *b, enum kind kind, struct round *r)
{
    static const char *const names[] = { "", "bare", "hop", "out", "in" };
    uint32_t host = kind == KIND_IN;
    uint64_t before[4];
    uint64_t after[4];
    double seconds;
    struct json j;

    atomic_store(&shared->sent, 0);
    atomic_store(&shared->received, 0);
    atomic_store(&shared->kind, kind);
    cpu_of(b, host, before);
    atomic_fetch_add(&shared->round, 1);
    wait_for(b, has_talked, atomic_load(&shared->round), names[kind]);
    wait_for(b, has_received, kind == KIND_HOP ? 2 : 1, names[kind]);
    cpu_of(b, host, after);
    json_begin(&j, "round");
    json_text(&j, "kind", names[kind]);
    json_u64(&j, "messages", atomic_load(&shared->sent));
    if (kind == KIND_BARE || kind == KIND_HOP) {
        take_latencies(r, kind);
        json_f64(&j, "p50_us", r->p50_us);
        json_f64(&j, "p99_us", r->p99_us);
        json_print(&j);
        return;
    }
    seconds = (double)(atomic_load(&shared->last_ns) - atomic_load(&shared->began_ns)) / 1e9;
    r->rate = (double)atomic_load(&shared->sent) / seconds;
    r->cpu_us = (double)(after[0] - before[0]) / 1e3 / (double)atomic_load(&shared->sent);
    json_f64(&j, "messages_per_second", r->rate);
    json_f64(&j, "bridge_cpu_us_per_message", r->cpu_us);
    json_object(&j, "cpu_shares");
    for (uint32_t i = 0; i < 4; i++) {
        r->shares[i] = (double)(after[i] - before[i]) / 1e9 / seconds;
        json_f64(&j, share_names[i], r->shares[i]);
    }
    json_print(&j);
}

static double median(const struct round *rounds, size_t member)
{
    double values[ROUNDS_MAX];

    for (uint32_t i = 0; i < opt.rounds; i++)
        memcpy(&values[i], (const char *)&rounds[i] + member, sizeof values[i]);
    return median_of(values, opt.rounds);
}

#define MEDIAN(kind, member) median(rounds[kind], offsetof(struct round, member))

static void report_direction(struct json *j, const char *name, const struct round *rounds)
{
    uint32_t most = 0;

    json_object(j, name);
    json_f64(j, "messages_per_second", median(rounds, offsetof(struct round, rate)));
    json_f64(j, "bridge_cpu_us_per_message", median(rounds, offsetof(struct round, cpu_us)));
    json_f64(j, "per_bridge_cpu_second", 1e6 / median(rounds, offsetof(struct round, cpu_us)));
    json_object(j, "cpu_shares");
    for (uint32_t i = 0; i < 4; i++) {
        size_t at = offsetof(struct round, shares) + i * sizeof(double);

        json_f64(j, share_names[i], median(rounds, at));
        if (median(rounds, at) >
            median(rounds, offsetof(struct round, shares) + most * sizeof(double)))
            most = i;
    }
    json_end(j);
    json_text(j, "busiest", share_names[most]);
    json_end(j);
}

static int report(struct round rounds[][ROUNDS_MAX])
{
    double ratio = MEDIAN(KIND_HOP, p99_us) / MEDIAN(KIND_BARE, p99_us);
    bool ok = (opt.p50_bar <= 0 || MEDIAN(KIND_HOP, p50_us) <= opt.p50_bar) &&
              (opt.p99_bar <= 0 || ratio <= opt.p99_bar) &&
              (opt.out_bar <= 0 || MEDIAN(KIND_OUT, rate) >= opt.out_bar) &&
              (opt.in_bar <= 0 || MEDIAN(KIND_IN, rate) >= opt.in_bar);
    struct json j;

    json_begin(&j, "result");
    json_text(&j, "bench", "bridge");
    machine_json(&j);
    json_u64(&j, "rate", opt.rate);
    json_u64(&j, "rounds", opt.rounds);
    json_f64(&j, "bare_p50_us", MEDIAN(KIND_BARE, p50_us));
    json_f64(&j, "bare_p99_us", MEDIAN(KIND_BARE, p99_us));
    json_f64(&j, "hop_added_p50_us", MEDIAN(KIND_HOP, p50_us));
    json_f64(&j, "hop_added_p99_us", MEDIAN(KIND_HOP, p99_us));
    json_f64(&j, "p99_ratio", ratio);
    report_direction(&j, "out", rounds[KIND_OUT]);
    report_direction(&j, "in", rounds[KIND_IN]);
    json_object(&j, "bars");
    json_f64(&j, "p50_us", opt.p50_bar);
    json_f64(&j, "p99_ratio", opt.p99_bar);
    json_f64(&j, "out", opt.out_bar);
    json_f64(&j, "in", opt.in_bar);
    json_end(&j);
    json_bool(&j, "ok", ok);
    json_print(&j);
    return ok ? 0 : 1;
}

/* Both hosts have subscribed to the namespace. */
static void wait_subscribed(const struct bench *b)
{
    static const char ask[] = "PUBSUB NUMSUB socket.io-request#/#\r\n";
    uint64_t end = now_ns() + 20 * NS_PER_S;
    struct redis r;
    struct redis_reply reply;

    redis_open(&r, b->redis.port);
    do {
        if (now_ns() > end)
            die("the hosts do not subscribe; logs: %s %s", b->hosts[0].log, b->hosts[1].log);
        (void)poll(NULL, 0, 20);
        redis_write(&r, ask, sizeof ask - 1);
        (void)redis_next(&r, true, &reply);
    } while (reply.number != 2);
}

static void launch(struct bench *b)
{
    static char url[64];
    struct opt_list args = opt.peal_args;
    struct server_options o = {
        .name = "peal", .binary = opt.peal, .socketio = true, .workers = 1, .args = &args
    };

    redis_launch(&b->redis, opt.redis);
    shared->redis_port = b->redis.port;
    if (args.count == OPT_LIST_MAX)
        die("at most %u --peal-arg", OPT_LIST_MAX - 1);
    (void)snprintf(url, sizeof url, "--redis=redis://127.0.0.1:%u", b->redis.port);
    args.values[args.count++] = url;
    for (uint32_t i = 0; i < 2; i++) {
        server_launch(&b->hosts[i], &o);
        shared->ports[i] = b->hosts[i].port;
    }
    wait_subscribed(b);
    for (uint32_t i = 0; i < 2; i++) {
        b->bridges[i] = proc_tree_find(b->hosts[i].pid, "--child=bridge");
        b->workers[i] = proc_tree_find(b->hosts[i].pid, "--child=worker");
        if (b->bridges[i] == 0 || b->workers[i] == 0)
            die("no bridge or worker below process %d", b->hosts[i].pid);
    }
    driver_fork(&b->clients, PROCESSES, process_main, NULL);
    wait_for(b, are_ready, 4, "the clients"); /* the publisher, two members, the subscriber */
}

int main(int argc, char **argv)
{
    static struct round rounds[KIND_IN + 1][ROUNDS_MAX];
    struct round warm;
    struct bench b;

    if (opt_parse(options, "bridge: a hop over Redis, and messages a second through a bridge", argc,
                  argv))
        die("options only");
    if (opt.rounds == 0 || opt.rounds > ROUNDS_MAX)
        die("--rounds is 1 to %u", ROUNDS_MAX);
    if (opt.rate == 0 || opt.rate * opt.round_seconds > SEQ_MAX || opt.window < BATCH)
        die("--rate times --round-seconds is 1 to %u, --window at least %u", SEQ_MAX, BATCH);
    shared = driver_share(sizeof *shared);
    launch(&b);
    for (enum kind kind = KIND_BARE; kind <= KIND_IN; kind++)
        run_round(&b, kind, &warm);
    for (uint32_t i = 0; i < opt.rounds; i++)
        for (enum kind kind = KIND_BARE; kind <= KIND_IN; kind++)
            run_round(&b, kind, &rounds[kind][i]);
    (void)driver_join(&b.clients, 0);
    for (uint32_t i = 0; i < 2; i++)
        server_stop(b.hosts[i].pid);
    server_stop(b.redis.pid);
    return report(rounds);
}
