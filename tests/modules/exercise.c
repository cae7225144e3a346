/* exercise.c: each part of include/peal/app.h, asked for by an event of the same name; for tests/e2e/module.test.mjs. Not an example of style: it trusts its
 * client. Answers are acknowledgements, mostly [result, ...]. */
#include <peal/app.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define JSON_MAX 262144

static char scratch[JSON_MAX]; /* one thread, one use at a time */
static peal_socket late[64];
static uint32_t n_late;

static struct peal_value argument(const struct peal_event *event, uint32_t i)
{
    struct peal_value value = { { "null", 4 }, PEAL_NULL };

    (void)peal_element(event->message.json, i + 1, &value);
    return value;
}

/* Text of a string argument; at most four live at a time. */
static struct peal_text string(struct peal_value value)
{
    static char texts[4][512];
    static uint32_t next;
    struct peal_text text = { "", 0 };

    (void)peal_take_string(value, texts[next % 4], sizeof texts[0], &text);
    next++;
    return text;
}

static enum peal_result reply_result(struct peal_host *host, peal_ack ack, enum peal_result result,
                                     struct peal_text json)
{
    struct peal_out out = peal_out(scratch, sizeof scratch);

    peal_put(&out, "[\"");
    peal_put(&out, peal_result_name(result));
    peal_put(&out, "\"");
    if (json.bytes != NULL) {
        peal_put(&out, ",");
        peal_put_json(&out, json);
    }
    peal_put(&out, "]");
    return peal_reply(host, ack, peal_written(&out));
}

static const struct peal_text nothing = { NULL, 0 };

/* A selector from {"rooms":[..],"except":[..],"local":true,"volatile":true} */
static struct peal_selector selector(struct peal_value object)
{
    static char texts[16][256];
    static struct peal_text names[16];
    struct peal_selector to = { .rooms = names, .except = names + 8 };
    struct peal_value list;
    struct peal_value name;
    struct peal_iter it;

    if (peal_member(object, "rooms", &list))
        for (it = peal_iterate(list.json); to.n_rooms < 8 && peal_next(&it, NULL, &name);
             to.n_rooms++)
            (void)peal_take_string(name, texts[to.n_rooms], 256, &names[to.n_rooms]);
    if (peal_member(object, "except", &list))
        for (it = peal_iterate(list.json); to.n_except < 8 && peal_next(&it, NULL, &name);
             to.n_except++)
            (void)peal_take_string(name, texts[8 + to.n_except], 256, &names[8 + to.n_except]);
    if (peal_member(object, "local", &name))
        to.flags |= PEAL_LOCAL;
    if (peal_member(object, "volatile", &name))
        to.flags |= PEAL_VOLATILE | PEAL_NO_COMPRESS;
    return to;
}

/* --- being let in --- */

static void accept_late(struct peal_host *host, void *context)
{
    struct peal_text rooms[2] = { peal_text("late"), peal_text("comers") };

    (void)context;
    while (n_late > 0) {
        peal_log(host, PEAL_INFO, "late: %s",
                 peal_result_name(peal_accept(host, late[--n_late], rooms, 2)));
    }
}

static void *accept_from_thread(void *context)
{
    (void)usleep(20000);
    (void)peal_post(context, accept_late, NULL);
    return NULL;
}

static void run_thread(void *(*body)(void *), void *context)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, body, context) == 0)
        (void)pthread_detach(thread);
}

static void on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    struct peal_value object;
    struct peal_value mode = { { "null", 4 }, PEAL_NULL };
    struct peal_text how;

    (void)peal_valid(auth, &object);
    (void)peal_member(object, "mode", &mode);
    how = string(mode);
    if (peal_is(how, "refuse")) {
        (void)peal_refuse(host, socket, peal_text("not \"you\""),
                          peal_text("{\"code\":7,\"list\":[1]}"));
    } else if (peal_is(how, "refuse-plain")) {
        (void)peal_refuse(host, socket, peal_text("no"), nothing);
    } else if (peal_is(how, "timer") || peal_is(how, "thread")) {
        late[n_late++] = socket;
        if (peal_is(how, "timer"))
            (void)peal_timer_after(host, 30, accept_late, NULL);
        else
            run_thread(accept_from_thread, host);
    } else if (!peal_is(how, "never")) {
        (void)peal_accept(host, socket, NULL, 0);
    }
}

static void count_release(void *pointer)
{
    free(pointer);
}

static enum peal_result on_connection(struct peal_host *host, peal_socket socket)
{
    char text[128];

    (void)peal_set_pointer(host, socket, strdup("mine"), count_release);
    snprintf(text, sizeof text, "[\"hello\",{\"worker\":%u,\"count\":%u}]", peal_worker(host),
             peal_count(host, peal_namespace(host, socket)));
    return peal_send(host, socket, peal_json(text));
}

/* --- leaving: told to the room `watch` --- */

static void tell_watchers(struct peal_host *host, peal_socket socket, const char *event,
                          const char *reason)
{
    struct peal_text watch = peal_text("watch");
    struct peal_selector to = { .rooms = &watch, .n_rooms = 1 };
    struct peal_out out = peal_out(scratch, sizeof scratch);
    struct peal_text rooms[64];
    uint32_t n = peal_rooms(host, socket, rooms, 64);
    struct peal_text extra = peal_text("extra");
    char id[PEAL_SOCKET_ID_BYTES];
    struct peal_text self = { id, sizeof id };

    (void)peal_socket_id(host, socket, id);
    peal_put(&out, "[\"");
    peal_put(&out, event);
    peal_put(&out, "\",");
    peal_put_string(&out, self);
    peal_put(&out, ",\"");
    peal_put(&out, reason);
    peal_put(&out, "\",[");
    for (uint32_t i = 0; i < n && i < 64; i++) {
        peal_put(&out, i > 0 ? "," : "");
        peal_put_string(&out, rooms[i]);
    }
    /* what can be asked, and what can be done */
    peal_put(&out, "],");
    peal_put_json(&out, peal_data(host, socket));
    peal_put(&out, ",[\"");
    peal_put(&out, peal_result_name(peal_join(host, socket, &extra, 1)));
    peal_put(&out, "\",\"");
    peal_put(&out, peal_result_name(peal_disconnect(host, socket, true)));
    peal_put(&out, "\",\"");
    peal_put(&out, peal_result_name(peal_send(host, socket, peal_json("[\"x\"]"))));
    peal_put(&out, "\",\"");
    peal_put(&out,
             peal_pointer(host, socket) == NULL ? "" : (const char *)peal_pointer(host, socket));
    peal_put(&out, "\"]]");
    (void)peal_emit(host, peal_namespace(host, socket), &to, peal_written(&out));
}

static void on_disconnecting(struct peal_host *host, peal_socket socket, const char *reason)
{
    tell_watchers(host, socket, "leaving", reason);
}

static void on_disconnect(struct peal_host *host, peal_socket socket, const char *reason)
{
    tell_watchers(host, socket, "has-left", reason);
}

/* --- requests --- */

static void *ack_context(peal_ack ack)
{
    peal_ack *copy = malloc(sizeof *copy);

    if (copy != NULL)
        *copy = ack;
    return copy;
}

static char servers[4096]; /* how they did at the last request: [n_servers,n_silent,"uid",...] */

static void note_servers(const struct peal_answers *answers)
{
    struct peal_out out = peal_out(servers, sizeof servers - 1);

    peal_put(&out, "[");
    peal_put_number(&out, answers->n_servers);
    peal_put(&out, ",");
    peal_put_number(&out, answers->n_silent);
    for (uint32_t i = 0; i < answers->n_silent_names; i++) {
        peal_put(&out, ",");
        peal_put_string(&out, answers->silent[i]);
    }
    peal_put(&out, "]");
    servers[out.n_bytes] = '\0';
}

static enum peal_result do_servers(struct peal_host *host, peal_socket socket,
                                   const struct peal_event *event)
{
    (void)socket;
    return peal_reply(host, event->ack, peal_json(servers));
}

static void on_answers(struct peal_host *host, void *context, const struct peal_answers *answers)
{
    peal_ack ack = *(peal_ack *)context;
    struct peal_out out = peal_out(scratch, sizeof scratch);
    struct peal_text attachments[PEAL_ATTACHMENTS_MAX];
    struct peal_message message;

    free(context);
    note_servers(answers);
    peal_put(&out, "[\"");
    peal_put(&out, peal_result_name(answers->result));
    peal_put(&out, "\",");
    peal_put_number(&out, answers->n_expected);
    for (uint32_t i = 0; i < answers->n_messages; i++) {
        peal_put(&out, ",");
        peal_put_json(&out, answers->messages[i].json);
    }
    peal_put(&out, "]");
    message = peal_written(&out);
    if (answers->n_messages == 1 && answers->messages[0].n_attachments > 0) {
        memcpy(attachments, answers->messages[0].attachments,
               answers->messages[0].n_attachments * sizeof *attachments);
        message.attachments = attachments;
        message.n_attachments = answers->messages[0].n_attachments;
    }
    (void)peal_reply(host, ack, message);
}

static enum peal_result begun(struct peal_host *host, const struct peal_event *event, void *context,
                              enum peal_result result)
{
    if (result == PEAL_OK)
        return result;
    free(context);
    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

/* ask, timeout, event, ...args: of this socket */
static enum peal_result do_ask(struct peal_host *host, peal_socket socket,
                               const struct peal_event *event)
{
    struct peal_message message = event->message;
    void *context = ack_context(event->ack);

    message.skip = 2;
    return begun(host, event, context,
                 peal_send_ack(host, socket, message, (uint32_t)peal_number(argument(event, 0)),
                               on_answers, context));
}

/* ask-room, selector, timeout, event, ...args */
static enum peal_result do_ask_room(struct peal_host *host, peal_socket socket,
                                    const struct peal_event *event)
{
    struct peal_selector to = selector(argument(event, 0));
    struct peal_message message = event->message;
    void *context = ack_context(event->ack);

    message.skip = 3;
    return begun(host, event, context,
                 peal_emit_ack(host, peal_namespace(host, socket), &to, message,
                               (uint32_t)peal_number(argument(event, 1)), on_answers, context));
}

/* fetch, selector, 0|1|2 */
static enum peal_result do_fetch(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event)
{
    struct peal_selector to = selector(argument(event, 0));
    void *context = ack_context(event->ack);

    return begun(host, event, context,
                 peal_fetch(host, peal_namespace(host, socket), &to,
                            (enum peal_fetch)(int)peal_number(argument(event, 1)), on_answers,
                            context));
}

/* server, self, ...args: answered by [worker, ...args] of each */
static enum peal_result do_server(struct peal_host *host, peal_socket socket,
                                  const struct peal_event *event)
{
    struct peal_message message = event->message;
    void *context = ack_context(event->ack);

    message.skip = 2;
    message.prefix = peal_text("\"ping\"");
    return begun(host, event, context,
                 peal_server_emit(host, peal_namespace(host, socket), message,
                                  peal_true(argument(event, 0)), 3000, on_answers, context));
}

/* ping, ...args: answered [worker, ...args]; the cluster is told the first value only, so it gets [[worker, ...args]] */
static bool on_server_event(struct peal_host *host, struct peal_text nsp, uint32_t from,
                            const struct peal_event *event)
{
    struct peal_message message = event->message;
    struct peal_out out = peal_out(scratch, sizeof scratch);
    struct peal_value value;
    struct peal_iter it;
    char prefix[64];

    (void)nsp;
    if (!peal_is(event->name, "ping"))
        return false;
    if (peal_is(string(argument(event, 0)), "silence"))
        return true;
    peal_log(host, PEAL_INFO, "ping from %s",
             from == PEAL_FROM_CLUSTER ? "the cluster" : "a worker");
    if (from != PEAL_FROM_CLUSTER) {
        snprintf(prefix, sizeof prefix, "%u", peal_worker(host));
        message.skip = 1;
        message.prefix = peal_text(prefix);
        (void)peal_reply(host, event->ack, message);
        return true;
    }
    peal_put(&out, "[[");
    peal_put_number(&out, peal_worker(host));
    it = peal_iterate(event->message.json);
    for (uint32_t i = 0; peal_next(&it, NULL, &value); i++) {
        if (i == 0)
            continue;
        peal_put(&out, ",");
        peal_put_json(&out, value.json);
    }
    peal_put(&out, "]]");
    message.json = peal_written(&out).json;
    (void)peal_reply(host, event->ack, message);
    return true;
}

/* --- the cluster --- */

struct gathered {
    peal_ack ack;
    uint32_t n_wanted; /* 0: all */
    uint32_t n;
    struct peal_out out;
    char bytes[65536];
};

static bool on_cluster_answer(struct peal_host *host, void *context,
                              const struct peal_message *answer)
{
    struct gathered *g = context;

    (void)host;
    peal_put(&g->out, ",");
    if (answer->n_attachments > 0)
        peal_put(&g->out, "\"binary\"");
    else
        peal_put_json(&g->out, answer->json);
    return ++g->n != g->n_wanted;
}

static void on_cluster_done(struct peal_host *host, void *context, enum peal_result result,
                            uint32_t n_answers, uint32_t n_expected)
{
    struct gathered *g = context;
    struct peal_out out = peal_out(scratch, sizeof scratch);

    peal_put(&out, "[\"");
    peal_put(&out, peal_result_name(result));
    peal_put(&out, "\",");
    peal_put_number(&out, n_answers);
    peal_put(&out, ",");
    peal_put_number(&out, n_expected);
    peal_put_json(&out, (struct peal_text){ g->bytes, g->out.n_bytes });
    peal_put(&out, "]");
    (void)peal_reply(host, g->ack, peal_written(&out));
    free(g);
}

/* cluster, timeout (0: no answers), wanted, event, ...args: answered by [result, n_answers, n_expected, ...answers] */
static enum peal_result do_cluster(struct peal_host *host, peal_socket socket,
                                   const struct peal_event *event)
{
    uint32_t timeout_ms = (uint32_t)peal_number(argument(event, 0));
    struct peal_message message = event->message;
    struct gathered *g = calloc(1, sizeof *g);
    enum peal_result result;

    message.skip = 3;
    if (g == NULL)
        return PEAL_FULL;
    g->ack = event->ack;
    g->n_wanted = (uint32_t)peal_number(argument(event, 1));
    g->out = peal_out(g->bytes, sizeof g->bytes);
    result = peal_cluster_emit(host, peal_namespace(host, socket), message, timeout_ms,
                               timeout_ms == 0 ? NULL : on_cluster_answer,
                               timeout_ms == 0 ? NULL : on_cluster_done, g);
    if (timeout_ms > 0 && result == PEAL_OK)
        return PEAL_OK;
    free(g);
    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

static enum peal_result do_reachable(struct peal_host *host, peal_socket socket,
                                     const struct peal_event *event)
{
    (void)socket;
    return reply_result(host, event->ack, peal_cluster_reachable(host) ? PEAL_OK : PEAL_UNREACHABLE,
                        nothing);
}

/* --- the rest --- */

static enum peal_result do_emit(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    struct peal_selector to = selector(argument(event, 0));
    struct peal_message message = event->message;
    enum peal_result result;

    message.skip = 2;
    result = peal_emit(host, peal_namespace(host, socket), &to, message);
    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

/* change, join|leave|disconnect|close, selector, room */
static enum peal_result do_change(struct peal_host *host, peal_socket socket,
                                  const struct peal_event *event)
{
    struct peal_text nsp = peal_namespace(host, socket);
    struct peal_selector to = selector(argument(event, 1));
    struct peal_text what = string(argument(event, 0));
    struct peal_text room = string(argument(event, 2));
    enum peal_result result = peal_is(what, "join") ? peal_sockets_join(host, nsp, &to, &room, 1)
                              : peal_is(what, "leave")
                                  ? peal_sockets_leave(host, nsp, &to, &room, 1)
                                  : peal_sockets_disconnect(host, nsp, &to, peal_is(what, "close"));

    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

static enum peal_result do_join(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    struct peal_text room = string(argument(event, 0));
    enum peal_result result = peal_join(host, socket, &room, 1);

    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

static enum peal_result do_leave(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event)
{
    struct peal_text room = string(argument(event, 0));
    enum peal_result result = peal_leave(host, socket, &room, 1);

    return result == PEAL_FULL ? result : reply_result(host, event->ack, result, nothing);
}

static enum peal_result do_rooms(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event)
{
    struct peal_text rooms[64];
    uint32_t n = peal_rooms(host, socket, rooms, 64);
    char text[4096];
    struct peal_out out = peal_out(text, sizeof text);

    peal_put(&out, "[");
    for (uint32_t i = 0; i < n && i < 64; i++) {
        peal_put(&out, i > 0 ? "," : "");
        peal_put_string(&out, rooms[i]);
    }
    peal_put(&out, "]");
    return reply_result(host, event->ack, PEAL_OK, peal_written(&out).json);
}

static enum peal_result do_data(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    struct peal_value value = argument(event, 0);
    enum peal_result result =
        peal_set_data(host, socket, value.kind == PEAL_NULL ? nothing : value.json);

    return reply_result(host, event->ack, result, peal_data(host, socket));
}

static enum peal_result do_handshake(struct peal_host *host, peal_socket socket,
                                     const struct peal_event *event)
{
    return reply_result(host, event->ack, PEAL_OK, peal_handshake(host, socket));
}

/* kick, id, close */
static enum peal_result do_kick(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    peal_socket other = peal_find(host, peal_namespace(host, socket), string(argument(event, 0)));
    enum peal_result result = peal_disconnect(host, other, peal_true(argument(event, 1)));

    /* the event lies in what may have been the connection's own memory */
    return reply_result(host, event->ack, result, argument(event, 1).json);
}

static enum peal_result do_slow(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    (void)socket;
    (void)usleep((useconds_t)(1000 * peal_number(argument(event, 0))));
    return reply_result(host, event->ack, PEAL_OK, nothing);
}

/* flood, n, bytes: so many to this socket from one handler; tells how many were taken, and what the first that was not got */
static enum peal_result do_flood(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event)
{
    uint32_t n = (uint32_t)peal_number(argument(event, 0));
    uint32_t n_bytes = (uint32_t)peal_number(argument(event, 1));
    struct peal_text self = peal_text("flooded");
    struct peal_selector to = { .rooms = &self, .n_rooms = 1 };
    enum peal_result result = PEAL_OK;
    char *json = malloc(n_bytes + 64u);
    uint32_t taken = 0;
    char count[32];

    if (json == NULL)
        return PEAL_OK;
    while (taken < n) {
        int at = snprintf(json, 64, "[\"flood\",%u,\"", taken);

        memset(json + at, 'x', n_bytes);
        memcpy(json + at + n_bytes, "\"]", 3);
        result = peal_emit(host, peal_namespace(host, socket), &to, peal_json(json));
        if (result != PEAL_OK)
            break;
        taken++;
    }
    free(json);
    if (taken == 0)
        return result;
    snprintf(count, sizeof count, "%u", taken);
    return reply_result(host, event->ack, result, peal_text(count));
}

static peal_timer ticking;
static peal_socket ticked;
static uint32_t n_ticks;

static void tick(struct peal_host *host, void *context)
{
    char text[64];

    (void)context;
    snprintf(text, sizeof text, "[\"tick\",%u]", ++n_ticks);
    (void)peal_send(host, ticked, peal_json(text));
    if (n_ticks == 3) {
        peal_timer_cancel(host, ticking);
        peal_timer_cancel(host, ticking); /* nothing */
    }
}

static enum peal_result do_tick(struct peal_host *host, peal_socket socket,
                                const struct peal_event *event)
{
    n_ticks = 0;
    ticked = socket;
    ticking = peal_timer_every(host, 10, tick, NULL);
    return reply_result(host, event->ack, ticking != 0 ? PEAL_OK : PEAL_LIMIT, nothing);
}

/* --- an answer from another thread --- */

struct job {
    struct peal_host *host;
    peal_ack ack;
    double number;
    char text[64];
};

static void job_done(struct peal_host *host, void *context)
{
    struct job *job = context;
    enum peal_result result = peal_reply(host, job->ack, peal_json(job->text));

    peal_log(host, PEAL_INFO, "job: %s", peal_result_name(result));
    free(job);
}

static void *work(void *context)
{
    struct job *job = context;

    (void)usleep(30000);
    snprintf(job->text, sizeof job->text, "[%.0f]", job->number * 2);
    peal_log(job->host, PEAL_INFO, "worked");
    while (peal_post(job->host, job_done, job) == PEAL_FULL)
        (void)usleep(1000);
    return NULL;
}

static enum peal_result do_later(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event)
{
    struct job *job = malloc(sizeof *job);

    (void)socket;
    if (job == NULL)
        return PEAL_OK;
    *job = (struct job){ host, event->ack, peal_number(argument(event, 0)), "" };
    run_thread(work, job);
    return PEAL_OK;
}

static const struct {
    const char *name;
    enum peal_result (*run)(struct peal_host *, peal_socket, const struct peal_event *);
} handlers[] = {
    { "ask", do_ask },
    { "ask-room", do_ask_room },
    { "fetch", do_fetch },
    { "server", do_server },
    { "emit", do_emit },
    { "change", do_change },
    { "join", do_join },
    { "leave", do_leave },
    { "rooms", do_rooms },
    { "data", do_data },
    { "handshake", do_handshake },
    { "kick", do_kick },
    { "slow", do_slow },
    { "flood", do_flood },
    { "tick", do_tick },
    { "servers", do_servers },
    { "later", do_later },
    { "cluster", do_cluster },
    { "reachable", do_reachable },
};

static enum peal_result on_event(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event, bool *handled)
{
    for (uint32_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++)
        if (peal_is(event->name, handlers[i].name))
            return handlers[i].run(host, socket, event);
    *handled = false;
    return PEAL_OK;
}

static bool on_start(struct peal_host *host)
{
    peal_log(host, PEAL_INFO, "start");
    return getenv("EXERCISE_NO_START") == NULL;
}

static void on_stop(struct peal_host *host)
{
    peal_log(host, PEAL_INFO, "stop");
}

const struct peal_app peal_module = {
    .abi = PEAL_APP_ABI,
    .name = "exercise",
    .start = on_start,
    .stop = on_stop,
    .connect = on_connect,
    .connection = on_connection,
    .event = on_event,
    .disconnecting = on_disconnecting,
    .disconnect = on_disconnect,
    .server_event = on_server_event,
};
