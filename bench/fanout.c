/* fanout.c: what one delivery costs: Peal, its peers and the bare loops, interleaved in one run.
 *
 * The payload is the whole WebSocket message, so that all sides write equal bytes. Closed loop, one
 * room: --in-flight=W sends message k when all members have message k - W; --pending=W writes W
 * messages in one go when all members have all. Open loop: --rate=N is deliveries a second in
 * --rooms rooms with a publisher each; a message is late from when it was to be sent, whenever it
 * was (no coordinated omission). Every frame is checked (length and sequence): a loss voids the run.
 *
 * Owns:  nothing but what contest.h does.
 * Exit:  0, 1 when --bar is missed, 2 when the run is void. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>

#include "lib/contest.h"
#include "lib/util.h"

#define WINDOW \
    1024u /* messages that may be under way; --in-flight and --pending stay below half of it */
#define WINDOW_USED_MAX 512u
#define ROOMS_MAX       1024u
#define SEQ_DIGITS      8u
#define STAMP_CHARS     (SEQ_DIGITS + 1 + 16 + 1) /* "SEQ.NANOSECONDS." */
#define PAYLOAD_MAX     4096u
#define LEAD_MAX        64u

static struct {
    struct contest_options contest;
    uint32_t members;
    uint32_t payload;
    uint32_t in_flight;
    uint32_t pending;
    uint32_t rooms;
    uint32_t rate;
} opt = { CONTEST_DEFAULTS("peal,bare_send"), 1000, 128, 1, 0, 1, 0 };

static const struct opt options[] = {
    { "members", OPT_U32, &opt.members, "members of all rooms beside the publishers (1000)" },
    { "payload", OPT_U32, &opt.payload, "bytes of a WebSocket message as members get it (128)" },
    { "in-flight", OPT_U32, &opt.in_flight, "messages on their way at any time (1)" },
    { "pending", OPT_U32, &opt.pending,
      "instead: messages written in one go, next when all have all" },
    { "rate", OPT_U32, &opt.rate, "instead: deliveries a second, sent when they are due" },
    { "rooms", OPT_U32, &opt.rooms, "with --rate: rooms, with a publisher each (1)" },
    CONTEST_OPTIONS(opt.contest),
    { NULL, OPT_FLAG, NULL, NULL },
};

/* Shared by the clients of one side, closed loop. Message numbers only grow. */
struct loop_shared {
    _Atomic uint64_t published;
    _Atomic uint64_t completed;
    _Atomic uint32_t processes_done[WINDOW]; /* by message: processes whose members all have it */
};

/* One client process. The publishers are the first clients of process 0, in the order of rooms. */
struct group {
    struct side *side;
    struct contest_shared *shared;
    struct loop_shared *loop;
    struct engine engine;
    struct target target;
    uint32_t index;
    uint32_t members;
    uint32_t publishers;
    uint32_t joined;
    uint64_t *received;          /* by client; publishers: what they have sent */
    uint32_t local_done[WINDOW]; /* by message: members here that have it */
    uint64_t digits_of;          /* the number in `digits` */
    char digits[SEQ_DIGITS + 1];
    size_t stamp_at;      /* offset of the stamp in what on_message gets */
    size_t message_bytes; /* length of what on_message gets */
    size_t text_bytes;    /* stamp and x's */
    char publish[LEAD_MAX + PAYLOAD_MAX + 8];
    uint64_t began_ns; /* open loop, this round; 0: at rest */
    uint64_t due;      /* the next message of this round */
    int schedule;      /* timer: ticks when messages are due */
};

static bool is_publisher(const struct group *g, const struct client *c)
{
    return c->id < g->publishers;
}

/* Members take turns over processes, and over rooms. */
static uint32_t room_of(const struct group *g, const struct client *c)
{
    if (is_publisher(g, c))
        return c->id;
    return ((c->id - g->publishers) * g->side->n_procs + g->index) % opt.rooms;
}

static const struct target *target_of(struct engine *e, const struct client *c)
{
    struct group *g = e->config.ctx;

    side_target(&g->target, g->side->kind, g->side->server.port, room_of(g, c), is_publisher(g, c));
    return &g->target;
}

static void on_joined(struct group *g)
{
    if (++g->joined == g->engine.n_clients)
        contest_ready(g->side);
}

static void on_open(struct engine *e, struct client *c)
{
    char join[32];
    int n;

    if (e->config.dialect == DIALECT_PLAIN) {
        on_joined(e->config.ctx);
        return;
    }
    n = snprintf(join, sizeof join, "21[\"join\",\"r%u\"]", room_of(e->config.ctx, c));
    (void)client_send(e, c, join, (size_t)n);
}

static void on_close(struct engine *e, struct client *c, bool was_open)
{
    const struct group *g = e->config.ctx;

    contest_closed(g->side, c, was_open);
}

/* A member here has message `seq`; the last one here tells the publisher. */
static void count_done(struct group *g, uint64_t seq)
{
    if (++g->local_done[seq % WINDOW] < g->members)
        return;
    g->local_done[seq % WINDOW] = 0;
    if (atomic_fetch_add(&g->loop->processes_done[seq % WINDOW], 1) + 1 < g->side->n_procs)
        return;
    atomic_store(&g->loop->processes_done[seq % WINDOW], 0);
    atomic_store(&g->loop->completed, seq + 1);
    if (g->index != 0)
        contest_wake(g->side);
}

static void on_message(struct engine *e, struct client *c, const char *data, size_t n, bool binary)
{
    struct group *g = e->config.ctx;
    uint64_t seq = g->received[c->id];
    uint64_t sent;

    if (e->config.dialect == DIALECT_SOCKETIO && n >= 2 && data[0] == '3' && seq == 0) {
        on_joined(g);
        return;
    }
    if (is_publisher(g, c) && g->side->kind->peer)
        return; /* Nchan tells a publisher about the channel */
    if (g->digits_of != seq) {
        g->digits_of = seq;
        (void)snprintf(g->digits, sizeof g->digits, "%08" PRIu32, (uint32_t)(seq % 100000000));
    }
    if (binary || is_publisher(g, c) || n != g->message_bytes ||
        memcmp(data + g->stamp_at, g->digits, SEQ_DIGITS) != 0) {
        contest_fail(g->side, "a member got what it was not to get next");
        return;
    }
    g->received[c->id]++;
    if (!parse_hex(data + g->stamp_at + SEQ_DIGITS + 1, 16, &sent))
        die("a stamp is damaged");
    hist_add(&g->shared->latency[g->index], now_ns() - sent);
    contest_count(&g->shared->units[g->index], 1);
    if (opt.rate == 0)
        count_done(g, seq);
}

/* What on_message is to expect follows from `payload`. */
static void prepare_message(struct group *g)
{
    bool sio = g->side->kind->dialect == DIALECT_SOCKETIO;
    size_t around = sio ? strlen("42[\"m\",\"\"]") : 0;

    if (opt.payload < around + STAMP_CHARS || opt.payload > PAYLOAD_MAX)
        die("--payload must be %zu to %u", around + STAMP_CHARS, PAYLOAD_MAX);
    g->text_bytes = opt.payload - around;
    g->stamp_at = sio ? strlen("2[\"m\",\"") : 0;
    g->message_bytes = opt.payload - (sio ? 1 : 0);
}

/* Message text: STAMP and x's. */
static void publish_one(struct group *g, uint32_t room, uint64_t sent_ns)
{
    bool sio = g->side->kind->dialect == DIALECT_SOCKETIO;
    uint64_t seq = g->received[room]++;
    char stamp[STAMP_CHARS + 1];
    size_t lead = 0;
    size_t end;

    if (sio)
        lead = (size_t)snprintf(g->publish, LEAD_MAX, "2[\"publish\",\"r%u\",\"m\",\"", room);
    (void)snprintf(stamp, sizeof stamp, "%08" PRIu32 ".%016" PRIx64 ".",
                   (uint32_t)(seq % 100000000), sent_ns);
    end = lead + g->text_bytes;
    memset(g->publish + lead, 'x', g->text_bytes);
    memcpy(g->publish + lead, stamp, STAMP_CHARS);
    memcpy(g->publish + end, "\"]", 2);
    contest_count(&g->shared->asked[0], opt.members / opt.rooms);
    (void)client_send(&g->engine, &g->engine.clients[room], g->publish, end + (sio ? 2 : 0));
}

static void publish_closed(struct group *g)
{
    uint64_t under_way = atomic_load(&g->loop->published) - atomic_load(&g->loop->completed);
    uint32_t n = 0;

    if (opt.pending > 0)
        n = under_way == 0 ? opt.pending : 0;
    else if (under_way < opt.in_flight)
        n = opt.in_flight - (uint32_t)under_way;
    if (n == 0 || !atomic_load(&g->shared->run))
        return;
    engine_cork(&g->engine, &g->engine.clients[0]);
    while (n-- > 0) {
        atomic_fetch_add(&g->loop->published, 1);
        publish_one(g, 0, now_ns());
    }
    engine_uncork(&g->engine);
}

static uint64_t open_period_ns(void)
{
    return NS_PER_S * (opt.members / opt.rooms) / opt.rate;
}

/* Ticks at `first_ns`, and each period from then on. */
static void tick_from(const struct group *g, uint64_t first_ns)
{
    struct timespec period = { .tv_sec = (time_t)(open_period_ns() / NS_PER_S),
                               .tv_nsec = (long)(open_period_ns() % NS_PER_S) };
    struct timespec first = { .tv_sec = (time_t)(first_ns / NS_PER_S),
                              .tv_nsec = (long)(first_ns % NS_PER_S) };
    struct itimerspec every = { .it_interval = period, .it_value = first };

    if (timerfd_settime(g->schedule, TFD_TIMER_ABSTIME, &every, NULL) != 0)
        die("timerfd: %s", strerror(errno));
}

static void publish_open(struct group *g)
{
    uint64_t now = now_ns();

    if (!atomic_load(&g->shared->run)) {
        g->began_ns = 0;
        return;
    }
    if (g->began_ns == 0) {
        g->began_ns = now;
        g->due = 0;
        tick_from(g, now + open_period_ns()); /* the first is due now */
    }
    for (; g->began_ns + g->due * open_period_ns() <= now; g->due++)
        publish_one(g, (uint32_t)(g->due % opt.rooms), g->began_ns + g->due * open_period_ns());
}

static void watch_schedule(struct group *g)
{
    g->schedule = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (g->schedule < 0)
        die("timerfd: %s", strerror(errno));
    tick_from(g, now_ns());
    engine_watch(&g->engine, g->schedule);
}

static int group_main(uint32_t index, void *ctx)
{
    static struct group g;
    struct engine_config config = contest_engine(ctx, index);

    g.side = ctx;
    g.shared = g.side->shared;
    g.loop = g.side->own;
    g.index = index;
    g.members = driver_share_of(opt.members, index, g.side->n_procs);
    g.publishers = index == 0 ? opt.rooms : 0;
    contest_pin(&opt.contest);
    config.target_of = target_of;
    config.on_open = on_open;
    config.on_message = on_message;
    config.on_close = on_close;
    config.ctx = &g;
    engine_init(&g.engine, &config, g.publishers + g.members);
    g.received = must_calloc(g.engine.n_clients, sizeof *g.received);
    g.digits_of = UINT64_MAX;
    prepare_message(&g);
    if (index == 0 && opt.rate > 0)
        watch_schedule(&g);
    else if (index == 0)
        engine_watch(&g.engine, g.side->wake);
    (void)engine_start(&g.engine, UINT32_MAX);
    while (!atomic_load(&g.shared->failed)) {
        engine_turn(&g.engine, 100);
        if (index == 0 && opt.rate > 0)
            publish_open(&g);
        else if (index == 0)
            publish_closed(&g);
    }
    return 2;
}

static void describe(struct json *j)
{
    json_u64(j, "members", opt.members);
    json_u64(j, "payload", opt.payload);
    json_u64(j, "in_flight", opt.pending || opt.rate ? 0 : opt.in_flight);
    json_u64(j, "pending", opt.rate ? 0 : opt.pending);
    json_u64(j, "rooms", opt.rooms);
    json_u64(j, "rate", opt.rate);
}

static void options_check(void)
{
    if (opt.in_flight == 0 || opt.in_flight > WINDOW_USED_MAX || opt.pending > WINDOW_USED_MAX)
        die("--in-flight and --pending are at most %u", WINDOW_USED_MAX);
    if (opt.rooms == 0 || opt.rooms > ROOMS_MAX || opt.members == 0 || opt.members % opt.rooms != 0)
        die("--members must be a multiple of --rooms, and those 1 to %u", ROOMS_MAX);
    if (opt.rooms > 1 && opt.rate == 0)
        die("several --rooms need a --rate");
    if (opt.rate > 0 && opt.rate < opt.members / opt.rooms)
        die("--rate must be a message a second at least: %u", opt.members / opt.rooms);
}

int main(int argc, char **argv)
{
    struct contest contest = { .bench = "fanout",
                               .unit = "deliveries",
                               .options = &opt.contest,
                               .own_bytes = sizeof(struct loop_shared),
                               .body = group_main,
                               .describe = describe };

    if (opt_parse(options, "fanout: deliveries per server-CPU-second, servers against each other",
                  argc, argv))
        die("options only");
    options_check();
    contest.clients = opt.members + opt.rooms;
    return contest_main(&contest);
}
