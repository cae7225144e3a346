/* misuse.c: everything that app.h says is refused, done on purpose; for tests/e2e/module.test.mjs. The event's name says what; the answer lists what each call
 * returned, by name. */
#include <peal/app.h>

#include <pthread.h>
#include <stdlib.h>

static struct peal_out out;
static char text[65536];

static void note(enum peal_result result)
{
    peal_put(&out, out.n_bytes == 1 ? "\"" : ",\"");
    peal_put(&out, peal_result_name(result));
    peal_put(&out, "\"");
}

static void note_true(bool value)
{
    peal_put(&out, out.n_bytes == 1 ? "" : ",");
    peal_put(&out, value ? "true" : "false");
}

static void no_answers(struct peal_host *host, void *context, const struct peal_answers *answers)
{
    (void)host;
    (void)context;
    (void)answers;
}

static void nothing(struct peal_host *host, void *context)
{
    (void)host;
    (void)context;
}

static const struct peal_text absent = { NULL, 0 };

/* Everything that takes a socket. */
static void use(struct peal_host *host, peal_socket socket)
{
    struct peal_text room = peal_text("r");
    char id[PEAL_SOCKET_ID_BYTES];

    note(peal_socket_id(host, socket, id));
    note(peal_accept(host, socket, NULL, 0));
    note(peal_refuse(host, socket, room, absent));
    note(peal_join(host, socket, &room, 1));
    note(peal_leave(host, socket, &room, 1));
    note(peal_set_data(host, socket, peal_text("1")));
    note(peal_set_pointer(host, socket, NULL, NULL));
    note(peal_send(host, socket, peal_json("[\"x\"]")));
    note(peal_send_ack(host, socket, peal_json("[\"x\"]"), 1000, no_answers, NULL));
    note(peal_disconnect(host, socket, false));
    note(peal_disconnect(host, socket, true));
    note_true(peal_in_room(host, socket, room) || peal_rooms(host, socket, NULL, 0) != 0 ||
              peal_pointer(host, socket) != NULL || peal_namespace(host, socket).bytes != NULL ||
              peal_auth(host, socket).bytes != NULL || peal_handshake(host, socket).bytes != NULL ||
              peal_data(host, socket).bytes != NULL ||
              peal_policy(host, socket).max_rooms_per_socket != 0);
}

struct outside {
    struct peal_host *host;
    peal_socket socket;
    peal_ack ack;
};

/* All functions that are for the loop's thread, from another one. */
static void *from_outside(void *context)
{
    struct outside *o = context;
    struct peal_text nsp = peal_text("/");
    struct peal_selector to = { 0 };
    struct peal_text room = peal_text("r");

    use(o->host, o->socket);
    note(peal_reply(o->host, o->ack, peal_json("[]")));
    note(peal_emit(o->host, nsp, &to, peal_json("[\"x\"]")));
    note(peal_emit_ack(o->host, nsp, &to, peal_json("[\"x\"]"), 1000, no_answers, NULL));
    note(peal_server_emit(o->host, nsp, peal_json("[\"x\"]"), true, 0, NULL, NULL));
    note(peal_fetch(o->host, nsp, &to, PEAL_FETCH_COUNT, no_answers, NULL));
    note(peal_sockets_join(o->host, nsp, &to, &room, 1));
    note(peal_sockets_leave(o->host, nsp, &to, &room, 1));
    note(peal_sockets_disconnect(o->host, nsp, &to, true));
    note_true(peal_timer_after(o->host, 1, nothing, NULL) != 0 ||
              peal_timer_every(o->host, 1, nothing, NULL) != 0 ||
              peal_find(o->host, nsp, room) != 0 || peal_count(o->host, nsp) != 0 ||
              peal_now_ms(o->host) != 0);
    peal_timer_cancel(o->host, 1);
    note(peal_post(o->host, nothing, NULL)); /* this one is allowed */
    peal_log(o->host, PEAL_INFO, "from %s", "outside");
    return NULL;
}

static void wrong_thread(struct peal_host *host, peal_socket socket, peal_ack ack)
{
    struct outside o = { host, socket, ack };
    pthread_t thread;

    /* a handler must not wait for a thread: this one knows that it will be quick */
    if (pthread_create(&thread, NULL, from_outside, &o) == 0)
        (void)pthread_join(thread, NULL);
}

static void bad_arguments(struct peal_host *host, peal_socket socket)
{
    static char deep[256];
    static char longest[300];
    static struct peal_text rooms[PEAL_ROOMS_MAX + 1];
    struct peal_text nsp = peal_namespace(host, socket);
    struct peal_text bytes = peal_text("b");
    struct peal_text too_long = { longest, 256 };
    struct peal_selector to = { .rooms = rooms, .n_rooms = 1 };
    struct peal_selector many = { .except = rooms, .n_except = PEAL_ROOMS_MAX + 1 };
    struct peal_selector far = { .rooms = &too_long, .n_rooms = 1 };
    struct peal_message m;
    static const char *const bad[] = {
        "",
        "{}",
        "[",
        "[\"x\"",
        "\"x\"",
        "[]",
        "[null]",
        "[{}]",
        "[true,1]",
        "[\"connect\"]",
        "[\"disconnect\",1]",
        "[\"x\",]",
        "[\"x\" 1]",
        "[\"\\ud\"]",
        "[\"x\",01]",
        "[\"x\"]]",
        "[\"disconnecting\"]",
        "[\"connect_error\"]",
        "[\"new\\u004cistener\"]",
    };

    memset(longest, 'r', sizeof longest);
    memset(deep, '[', 100);
    for (uint32_t i = 0; i <= PEAL_ROOMS_MAX; i++)
        rooms[i] = peal_text("r");
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        note(peal_emit(host, nsp, &to, peal_json(bad[i])));
    note(peal_emit(host, nsp, &to, peal_json(deep)));
    note(peal_emit(host, absent, &to, peal_json("[\"x\"]")));
    note(peal_emit(host, too_long, &to, peal_json("[\"x\"]")));
    note(peal_emit(host, nsp, &many, peal_json("[\"x\"]")));
    note(peal_emit(host, nsp, &far, peal_json("[\"x\"]")));
    m = peal_json("[\"x\"]"); /* more is left out than there is, or all */
    m.skip = 2;
    note(peal_emit(host, nsp, &to, m));
    m.skip = 1;
    note(peal_emit(host, nsp, &to, m));
    m = peal_json("[\"x\"]"); /* what comes in front is not JSON */
    m.prefix = peal_text(" ");
    note(peal_emit(host, nsp, &to, m));
    m.prefix = peal_text("\"a\",");
    note(peal_emit(host, nsp, &to, m));
    m.prefix = peal_text("1],[2");
    note(peal_emit(host, nsp, &to, m));
    m.prefix = peal_text("null");
    note(peal_emit(host, nsp, &to, m));
    m = peal_json("[\"x\",{\"_placeholder\":true,\"num\":1}]"); /* of one attachment */
    m.attachments = &bytes;
    m.n_attachments = 1;
    note(peal_emit(host, nsp, &to, m));
    m.n_attachments = PEAL_ATTACHMENTS_MAX + 1;
    note(peal_emit(host, nsp, &to, m));
    m = peal_json("[\"x\",{\"_placeholder\":true,\"num\":0}]");
    m.attachments = &bytes;
    m.n_attachments = 1;
    note(peal_server_emit(host, nsp, m, true, 0, NULL, NULL));
    note(peal_emit_ack(host, nsp, &to, peal_json("[\"x\"]"), 0, no_answers, NULL));
    note(peal_emit_ack(host, nsp, &to, peal_json("[\"x\"]"), PEAL_REQUEST_TIMEOUT_MAX + 1,
                       no_answers, NULL));
    note(peal_emit_ack(host, nsp, &to, peal_json("[\"x\"]"), 1000, NULL, NULL));
    note(peal_fetch(host, nsp, &to, (enum peal_fetch)7, no_answers, NULL));
    note(peal_join(host, socket, &too_long, 1));
    note(peal_join(host, socket, rooms, PEAL_ROOMS_MAX + 1));
    note(peal_set_data(host, socket, peal_text("{")));
    note(peal_accept(host, socket, NULL, 0)); /* it was let in long ago */
    note(peal_refuse(host, socket, peal_text("no"), absent));
    note(peal_post(host, NULL, NULL));
    note_true(peal_timer_after(host, 1, NULL, NULL) != 0);
}

static void limits(struct peal_host *host, peal_socket socket)
{
    static peal_timer timers[PEAL_TIMERS_MAX];
    static char data[PEAL_DATA_BYTES_MAX + 1];
    struct peal_text nsp = peal_namespace(host, socket);
    struct peal_text nowhere = peal_text("nowhere");
    struct peal_selector to = { .rooms = &nowhere, .n_rooms = 1 };
    struct peal_text json = { data, PEAL_DATA_BYTES_MAX };
    enum peal_result result = PEAL_OK;
    uint32_t n = 0;

    while (n < PEAL_TIMERS_MAX && (timers[n] = peal_timer_after(host, 60000, nothing, NULL)) != 0)
        n++;
    note_true(n == PEAL_TIMERS_MAX);
    note_true(peal_timer_after(host, 1, nothing, NULL) == 0);
    while (n > 0)
        peal_timer_cancel(host, timers[--n]);
    note_true(peal_timer_after(host, 1, nothing, NULL) != 0);

    memset(data, '1', sizeof data);
    note(peal_set_data(host, socket, json));
    json.n_bytes++;
    note(peal_set_data(host, socket, json));
    note_true(peal_data(host, socket).n_bytes == PEAL_DATA_BYTES_MAX); /* as it was */
    note(peal_set_data(host, socket, absent));

    for (n = 0; n < PEAL_POSTS_MAX && result == PEAL_OK; n++)
        result = peal_post(host, nothing, NULL);
    note(result);
    note(peal_post(host, nothing, NULL));

    result = PEAL_OK;
    for (n = 0; n <= PEAL_REQUESTS_MAX && result == PEAL_OK; n++)
        result = peal_emit_ack(host, nsp, &to, peal_json("[\"x\"]"), 1000, no_answers, NULL);
    note(result);
    note_true(n == PEAL_REQUESTS_MAX + 1);
}

static peal_socket last_gone;

static void on_disconnect(struct peal_host *host, peal_socket socket, const char *reason)
{
    (void)host;
    (void)reason;
    last_gone = socket;
}

static void on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    struct peal_text room = peal_text("early");

    (void)auth;
    /* before it is let in nothing can be sent to it, and no room joined but with peal_accept */
    out = peal_out(text, sizeof text);
    peal_put(&out, "[");
    note(peal_send(host, socket, peal_json("[\"x\"]")));
    note(peal_join(host, socket, &room, 1));
    note(peal_refuse(host, socket, peal_text("no"), peal_text("{")));
    note(peal_accept(host, socket, NULL, 0));
    note(peal_accept(host, socket, NULL, 0));
    note(peal_refuse(host, socket, peal_text("no"), absent));
    peal_put(&out, "]");
    peal_log(host, PEAL_INFO, "connect %.*s", (int)out.n_bytes, text);
}

static enum peal_result on_event(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event, bool *handled)
{
    peal_ack ack = event->ack;

    out = peal_out(text, sizeof text);
    peal_put(&out, "[");
    if (peal_is(event->name, "gone")) {
        use(host, last_gone);
    } else if (peal_is(event->name, "foreign")) {
        use(host, 0);
        use(host, socket ^ 1ull << 40);
        use(host, 0xdeadbeef12345678ull);
        note(peal_reply(host, 0xdeadbeef12345678ull, peal_json("[]")));
        note(peal_reply(host, ack ^ 1ull << 40, peal_json("[]")));
    } else if (peal_is(event->name, "thread")) {
        wrong_thread(host, socket, ack);
    } else if (peal_is(event->name, "arguments")) {
        bad_arguments(host, socket);
    } else if (peal_is(event->name, "limits")) {
        limits(host, socket);
    } else if (peal_is(event->name, "twice")) {
        note(peal_reply(host, ack, peal_json("{}"))); /* no answer, so it can still be answered */
        note(peal_reply(host, 0, peal_json("[]")));
        peal_put(&out, "]");
        if (peal_reply(host, ack, peal_written(&out)) != PEAL_OK)
            return PEAL_FULL;
        peal_log(host, PEAL_INFO, "second answer: %s",
                 peal_result_name(peal_reply(host, ack, peal_json("[\"again\"]"))));
        return PEAL_OK;
    } else if (peal_is(event->name, "after-disconnect") || peal_is(event->name, "after-close")) {
        note(peal_disconnect(host, socket, peal_is(event->name, "after-close")));
        use(host, socket);
        note(peal_reply(host, ack, peal_json("[]")));
        peal_put(&out, "]");
        /* the event is still what it was */
        peal_log(host, PEAL_INFO, "%.*s %.*s", (int)out.n_bytes, text,
                 (int)event->message.json.n_bytes, event->message.json.bytes);
        return PEAL_OK;
    } else {
        *handled = false;
        return PEAL_OK;
    }
    peal_put(&out, "]");
    return peal_reply(host, ack, peal_written(&out));
}

const struct peal_app peal_module = {
    .abi = PEAL_APP_ABI,
    .name = "misuse",
    .connect = on_connect,
    .event = on_event,
    .disconnect = on_disconnect,
};
