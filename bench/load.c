/* load.c: the load generator: many clients against one or several servers, Peal or any other that
 * speaks WebSocket or Socket.IO.
 *
 *     load connect  --url=ws://127.0.0.1:3000/ --clients=10000 --rounds=5
 *     load idle     --url=ws://127.0.0.1:3000/ --clients=40000 --warm=2000
 *     load echo     --url=ws://127.0.0.1:3000/echo --dialect=plain --clients=1000
 *     load [fanout] --url=ws://127.0.0.1:3000/ --clients=5000 --room=r --publishers=20
 *     load fanout   the same, with --rooms=100 --zipf=1 --total-rate=500
 *     load unicast  --url=ws://127.0.0.1:3000/ --clients=10020 --publishers=20 --total-rate=50000
 *     load slow     as fanout with one room, with --slow=1000 clients that stop reading
 *     load storm    --url=ws://127.0.0.1:3000/ --clients=20000 --bar=1.5
 *     load churn    --url=ws://127.0.0.1:3000/ --clients=20000 --mix=clean:50,reset:30,silent:20
 *     load hold     --url=ws://127.0.0.1:3000/ws/r --dialect=plain --clients=2000
 *                   commands on standard input: see lib/load_hold.c
 *     load plan     what a run would do: rooms, times, back-off
 *
 * Standard output: one JSON object a line; the last is {"event":"result",…,"ok":true|false}.
 * Exit: 0 ok, 1 what was expected did not hold, 2 the run itself failed. */
#include <signal.h>
#include <string.h>

#include "lib/load.h"

static struct load_options opt = {
    .dialect = "socketio",
    .nsp = "/",
    .room = "r",
    .join_event = "join",
    .publish_event = "publish",
    .expect = "exactly-once-same-order",
    .mix = "clean:50,reset:30,silent:10,abort:10",
    .cut = "drop",
    .clients = 100,
    .sources = 16,
    .connect_parallel = 128,
    .connect_timeout_ms = 20000,
    .timeout_s = 300,
    .publishers = 1,
    .messages = 50,
    .payload = 128,
    .settle_ms = 3000,
    .spare = 1000,
    .concurrent = 500,
    .life_ms = 500,
    .seed = 1,
    .rooms = 1,
    .burst = 1,
    .rounds = 5,
    .probes = 100,
};

static const struct opt options[] = {
    { "url", OPT_LIST, &opt.urls,
      "ws://HOST:PORT/PATH, repeatable: clients take turns; HOST is IPv4" },
    { "dialect", OPT_TEXT, &opt.dialect, "socketio (default) or plain" },
    { "namespace", OPT_TEXT, &opt.nsp, "socketio: the namespace (/)" },
    { "auth", OPT_TEXT, &opt.auth, "socketio: JSON object for CONNECT" },
    { "room", OPT_TEXT, &opt.room,
      "socketio: joined by an event (r); plain: it is in the path; of several: ROOM-0, ROOM-1, …" },
    { "join-event", OPT_TEXT, &opt.join_event, "socketio: event that joins ROOM (join)" },
    { "publish-event", OPT_TEXT, &opt.publish_event,
      "socketio: event that publishes ROOM, \"m\", text (publish)" },
    { "clients", OPT_U32, &opt.clients, "clients in all, over all processes (100)" },
    { "procs", OPT_U32, &opt.procs, "client processes (as few as descriptors allow)" },
    { "sources", OPT_U32, &opt.sources,
      "source addresses of a process; 0 where the server is not on loopback (16)" },
    { "server-pid", OPT_LIST, &opt.server_pids,
      "a process to measure, with its descendants, repeatable (who listens at --url, if on "
      "loopback)" },
    { "connect-parallel", OPT_U32, &opt.connect_parallel,
      "handshakes at a time and process, up to 1024 (128)" },
    { "connect-rate", OPT_U32, &opt.connect_rate, "connects per second, 0: no limit (0)" },
    { "connect-timeout", OPT_U32, &opt.connect_timeout_ms, "ms until a client is open (20000)" },
    { "timeout", OPT_U32, &opt.timeout_s, "seconds for the whole run (300)" },
    { "settle", OPT_U32, &opt.settle_ms,
      "ms: fanout: silence after which what is missing is lost; idle, connect: rest before "
      "measuring (3000)" },
    { "publishers", OPT_U32, &opt.publishers,
      "fanout: clients that publish; in one room they get what the others publish (1)" },
    { "messages", OPT_U32, &opt.messages,
      "fanout: messages of each publisher; echo: of each client (50)" },
    { "payload", OPT_U32, &opt.payload,
      "bytes of text of a message: echo at least 18, fanout 35, with --rooms 53 (128)" },
    { "rate", OPT_F64, &opt.rate,
      "fanout, echo: messages per second of each publisher, each client, at their scheduled times "
      "(plain fanout: 20; else 0: a closed loop)" },
    { "total-rate", OPT_F64, &opt.total_rate, "the same, of all together" },
    { "burst", OPT_U32, &opt.burst,
      "with a rate: messages due at once, then a pause as for each (1)" },
    { "window", OPT_U32, &opt.window,
      "unanswered messages of a publisher, of a client of echo (8; echo: 1, with a rate 64)" },
    { "rooms", OPT_U32, &opt.rooms,
      "fanout: rooms; over 1 publishers are in none of them and pick one for each message (1)" },
    { "zipf", OPT_F64, &opt.zipf,
      "rooms: sizes and messages go like 1 / rank^ZIPF; 0: all alike (0)" },
    { "unacknowledged", OPT_FLAG, &opt.unacknowledged,
      "rooms, socketio, with a rate: publishes ask for no answer" },
    { "publish-url", OPT_LIST, &opt.publish_urls,
      "rooms: where publishers connect, repeatable (--url): another host of a cluster" },
    { "admin-url", OPT_TEXT, &opt.admin_url,
      "rooms: http://HOST:PORT of Peal's admin listener: workers woken are counted" },
    { "probes", OPT_U32, &opt.probes,
      "rooms, with --admin-url: single messages before the load, up to 1000 (100)" },
    { "slow", OPT_U32, &opt.slow,
      "fanout, one room: clients that stop reading once they have joined (0; scenario slow: a "
      "tenth)" },
    { "expect", OPT_TEXT, &opt.expect,
      "fanout: exactly-once-same-order (default), exactly-once, nothing" },
    { "tolerate-closes", OPT_FLAG, &opt.tolerate_closes,
      "lost connections, refusals and publishers are no failure" },
    { "each-close", OPT_FLAG, &opt.each_close, "a line for every client that is closed" },
    { "rounds", OPT_U32, &opt.rounds, "connect: rounds, up to 32 (5)" },
    { "warm", OPT_U32, &opt.warm, "idle: clients that are there when memory is first read (0)" },
    { "hold-time", OPT_U32, &opt.hold_s, "idle: seconds of pings after that (0)" },
    { "echo-event", OPT_TEXT, &opt.echo_event,
      "echo, socketio: event with the text alone (PUBLISH_EVENT to a room of nobody else's)" },
    { "cut", OPT_TEXT, &opt.cut,
      "storm: drop (we reset all) or server (it ends all when \"waiting_for_cut\" comes) (drop)" },
    { "bar", OPT_F64, &opt.bar,
      "storm: all back within BAR x clients / connects per second + the longest back-off; 0: any "
      "(0)" },
    { "spare", OPT_U32, &opt.spare, "hold: clients that `open` may add (1000)" },
    { "concurrent", OPT_U32, &opt.concurrent, "churn: clients at a time (500)" },
    { "life", OPT_U32, &opt.life_ms, "churn: longest life in ms (500)" },
    { "mix", OPT_TEXT, &opt.mix,
      "churn: per cent of each end (clean:50,reset:30,silent:10,abort:10)" },
    { "seed", OPT_U32, &opt.seed, "of the random choices: churn, rooms, back-off (1)" },
    { "stay", OPT_FLAG, &opt.stay, "churn: afterwards wait until standard input ends" },
    { NULL, OPT_FLAG, NULL, NULL },
};

static int run_fanout(const struct load_options *o)
{
    if (o->rooms > 1)
        return load_run_rooms(o, false);
    if (o->publish_urls.count > 0 || o->admin_url || o->unacknowledged || o->zipf > 0)
        die("--publish-url, --admin-url, --unacknowledged and --zipf need --rooms over 1");
    return load_run_fanout(o);
}

static int run_unicast(const struct load_options *o)
{
    return load_run_rooms(o, true);
}

static int run_slow(const struct load_options *o)
{
    if (o->rooms > 1)
        die("slow: one room only");
    return load_run_fanout(o);
}

static const struct scenario {
    const char *name;
    int (*run)(const struct load_options *o);
} scenarios[] = {
    { "fanout", run_fanout },        { "unicast", run_unicast },  { "slow", run_slow },
    { "connect", load_run_connect }, { "idle", load_run_idle },   { "echo", load_run_echo },
    { "storm", load_run_storm },     { "churn", load_run_churn }, { "hold", load_run_hold },
    { "plan", load_run_plan },
};

static void options_check(bool connects)
{
    if (connects && opt.urls.count == 0)
        die("--url is missing (try --help)");
    if (strcmp(opt.dialect, "plain") != 0 && strcmp(opt.dialect, "socketio") != 0)
        die("--dialect is plain or socketio, not '%s'", opt.dialect);
    if (opt.nsp[0] != '/')
        die("--namespace begins with /");
    if (opt.clients == 0 || opt.clients > 4000000 || opt.spare > 4000000 || opt.timeout_s == 0)
        die("--clients is 1 to 4000000, --spare at most that, --timeout at least 1");
    if (opt.connect_parallel == 0 || opt.connect_parallel > 1024 || opt.sources > 60000)
        die("--connect-parallel is 1 to 1024, --sources at most 60000");
    if (opt.rooms == 0 || opt.burst == 0 || opt.rounds == 0 || opt.rounds > LOAD_ROUNDS_MAX)
        die("--rooms and --burst are at least 1, --rounds 1 to %u", LOAD_ROUNDS_MAX);
    if (opt.zipf > 10)
        die("--zipf is 0 to 10");
    if (opt.rate > 0 && opt.total_rate > 0)
        die("--rate or --total-rate, not both");
    if (strcmp(opt.expect, "exactly-once-same-order") != 0 &&
        strcmp(opt.expect, "exactly-once") != 0 && strcmp(opt.expect, "nothing") != 0)
        die("--expect is exactly-once-same-order, exactly-once or nothing");
}

/* What was not given, where it depends on the scenario; and both forms of the rate. */
static void options_complete(const char *scenario)
{
    bool echo = strcmp(scenario, "echo") == 0;
    uint32_t senders = echo ? opt.clients : opt.publishers;

    if (strcmp(scenario, "slow") == 0 && opt.slow == 0)
        opt.slow = opt.clients / 10;
    if (opt.rate <= 0 && opt.total_rate <= 0 && !echo && load_dialect(&opt) == DIALECT_PLAIN)
        opt.rate = 20; /* nothing is acknowledged there */
    if (opt.rate > 0)
        opt.total_rate = opt.rate * senders;
    else if (senders > 0)
        opt.rate = opt.total_rate / senders;
    if (opt.window == 0)
        opt.window = !echo ? 8 : opt.rate > 0 ? 64 : 1;
    if (opt.unacknowledged && opt.rate <= 0)
        die("--unacknowledged needs --rate or --total-rate");
}

int main(int argc, char **argv)
{
    const char *word;
    const struct scenario *s = scenarios;
    const struct scenario *end = scenarios + sizeof scenarios / sizeof *scenarios;

    word = opt_parse(
        options,
        "load [connect|idle|echo|fanout|unicast|slow|storm|churn|hold|plan] --url=… [options]",
        argc, argv);
    while (word && s < end && strcmp(s->name, word) != 0)
        s++;
    if (s == end)
        die("unknown scenario '%s' (try --help)", word);
    options_check(s->run != load_run_plan);
    options_complete(s->name);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        die("signal");
    return s->run(&opt);
}
