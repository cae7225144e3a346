/* load.c: the general load program: many clients against one or several servers.
 *
 *     load [fanout] --url=ws://127.0.0.1:3000/ --clients=5000 --room=r --publishers=20
 *     load slow     the same, with --slow=1000 clients that stop reading
 *     load hold     --url=ws://127.0.0.1:3000/ws/r --dialect=plain --clients=2000
 *                   commands on standard input: see lib/load_hold.c
 *     load churn    --url=ws://127.0.0.1:3000/ --clients=20000 --mix=clean:50,reset:30,silent:20
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
    .expect = "exactly-once-same-order",
    .mix = "clean:50,reset:30,silent:10,abort:10",
    .clients = 100,
    .sources = 16,
    .connect_parallel = 128,
    .connect_timeout_ms = 20000,
    .timeout_s = 300,
    .publishers = 1,
    .messages = 50,
    .payload = 128,
    .window = 8,
    .settle_ms = 3000,
    .spare = 1000,
    .concurrent = 500,
    .life_ms = 500,
    .seed = 1,
};

static const struct opt options[] = {
    { "url", OPT_LIST, &opt.urls,
      "ws://HOST:PORT/PATH, repeatable: clients take turns; HOST is IPv4" },
    { "dialect", OPT_TEXT, &opt.dialect, "socketio (default) or plain" },
    { "namespace", OPT_TEXT, &opt.nsp, "socketio: the namespace (/)" },
    { "auth", OPT_TEXT, &opt.auth, "socketio: JSON object for CONNECT" },
    { "room", OPT_TEXT, &opt.room,
      "socketio: joined by an event `join` (r); plain: it is in the path" },
    { "clients", OPT_U32, &opt.clients, "clients in all, over all processes (100)" },
    { "procs", OPT_U32, &opt.procs, "client processes (as few as descriptors allow)" },
    { "sources", OPT_U32, &opt.sources,
      "source addresses of a process; 0 where the server is not on loopback (16)" },
    { "connect-parallel", OPT_U32, &opt.connect_parallel,
      "handshakes at a time and process, up to 1024 (128)" },
    { "connect-rate", OPT_U32, &opt.connect_rate, "connects per second, 0: no limit (0)" },
    { "connect-timeout", OPT_U32, &opt.connect_timeout_ms, "ms until a client is open (20000)" },
    { "timeout", OPT_U32, &opt.timeout_s, "seconds for the whole run (300)" },
    { "publishers", OPT_U32, &opt.publishers,
      "fanout: clients that publish; they get what the others publish (1)" },
    { "messages", OPT_U32, &opt.messages, "fanout: messages of each publisher (50)" },
    { "payload", OPT_U32, &opt.payload, "fanout: bytes of text of a message, at least 35 (128)" },
    { "rate", OPT_F64, &opt.rate,
      "fanout: messages per second of each publisher (plain: 20; socketio: 0, no limit)" },
    { "window", OPT_U32, &opt.window,
      "fanout, socketio: unacknowledged publishes of a publisher (8)" },
    { "slow", OPT_U32, &opt.slow, "fanout: clients that stop reading once they have joined (0)" },
    { "settle", OPT_U32, &opt.settle_ms,
      "fanout: ms of silence after which what is missing is lost (3000)" },
    { "expect", OPT_TEXT, &opt.expect,
      "fanout: exactly-once-same-order (default), exactly-once, nothing" },
    { "tolerate-closes", OPT_FLAG, &opt.tolerate_closes,
      "lost connections, refusals and publishers are no failure" },
    { "each-close", OPT_FLAG, &opt.each_close, "a line for every client that is closed" },
    { "spare", OPT_U32, &opt.spare, "hold: clients that `open` may add (1000)" },
    { "concurrent", OPT_U32, &opt.concurrent, "churn: clients at a time (500)" },
    { "life", OPT_U32, &opt.life_ms, "churn: longest life in ms (500)" },
    { "mix", OPT_TEXT, &opt.mix,
      "churn: per cent of each end (clean:50,reset:30,silent:10,abort:10)" },
    { "seed", OPT_U32, &opt.seed, "churn: of the random choices (1)" },
    { "stay", OPT_FLAG, &opt.stay, "churn: afterwards wait until standard input ends" },
    { NULL, OPT_FLAG, NULL, NULL },
};

static void options_check(void)
{
    if (opt.urls.count == 0)
        die("--url is missing (try --help)");
    if (strcmp(opt.dialect, "plain") != 0 && strcmp(opt.dialect, "socketio") != 0)
        die("--dialect is plain or socketio");
    if (opt.nsp[0] != '/')
        die("--namespace begins with /");
    if (opt.clients == 0 || opt.clients > 4000000 || opt.spare > 4000000 || opt.timeout_s == 0)
        die("--clients is 1 to 4000000, --timeout at least 1");
    if (opt.connect_parallel == 0 || opt.connect_parallel > 1024 || opt.sources > 60000)
        die("--connect-parallel is 1 to 1024, --sources at most 60000");
    if (opt.window == 0)
        die("--window is at least 1");
    if (strcmp(opt.expect, "exactly-once-same-order") != 0 &&
        strcmp(opt.expect, "exactly-once") != 0 && strcmp(opt.expect, "nothing") != 0)
        die("--expect is exactly-once-same-order, exactly-once or nothing");
    if (opt.rate <= 0 && load_dialect(&opt) == DIALECT_PLAIN)
        opt.rate = 20; /* nothing is acknowledged there */
}

int main(int argc, char **argv)
{
    const char *scenario =
        opt_parse(options, "load [fanout|slow|hold|churn] --url=… [options]", argc, argv);

    options_check();
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        die("signal");
    if (!scenario || strcmp(scenario, "fanout") == 0)
        return load_run_fanout(&opt);
    if (strcmp(scenario, "slow") == 0) {
        if (opt.slow == 0)
            opt.slow = opt.clients / 10;
        return load_run_fanout(&opt);
    }
    if (strcmp(scenario, "hold") == 0)
        return load_run_hold(&opt);
    if (strcmp(scenario, "churn") == 0)
        return load_run_churn(&opt);
    die("unknown scenario '%s'", scenario);
}
