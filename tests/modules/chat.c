/* chat.c: a chat with rooms, the last messages, typing and a presence list: what an application looks like that runs in several workers at once.
 *
 *     auth {"name":"ann"}        needed: 1 to 32 bytes; else CONNECT_ERROR "a name is needed", data {"field":"name"}
 *     `enter`, room              joins; acknowledged by {"messages":[...],"present":["ann",...]}; the others get `entered`, {"room","name"}
 *     `leave`, room              acknowledged by nothing; the others get `left`, {"room","name"}, also when somebody disconnects
 *     `say`, room, text          everybody in the room gets `said`, {"room","name","text"}; acknowledged by {"ok":true} or {"ok":false,"error":"..."}
 *     `typing`, room, true       the others get `typing`, {"room","name","typing"}, if they can take it right now
 *     `who`, room                acknowledged by ["ann",...]
 *
 * Who is there is not kept here at all: it is the data of the sockets in the room, and all workers are asked for it (peal_fetch). The last messages are kept by
 * each worker: a message is told to all of them (peal_server_emit, `self` included), so all have the same list in the same order; a worker that is new
 * asks the others for theirs. */
#include <peal/app.h>

#include <stdlib.h>

#define NAME_MAX_BYTES 32
#define ROOM_MAX_BYTES 64
#define TEXT_MAX_BYTES 500
#define KEPT           256 /* messages of all rooms */
#define SHOWN          20  /* of one room, to who enters it */
#define JSON_MAX       4096
#define RETRY_MS       100

struct kept {
    char room[ROOM_MAX_BYTES];
    uint32_t n_room;
    char json[JSON_MAX]; /* {"room","name","text"} */
    uint32_t n_json;
};

/* One worker's instance. Its functions are called one at a time, so nothing here needs a lock. */
static struct kept kept[KEPT];
static uint32_t n_kept; /* in all; the last KEPT of them are there */
static bool is_live;    /* from here on all messages come by: the others' list is asked for */

static struct peal_text text_of(const char *bytes, uint32_t n_bytes)
{
    struct peal_text text = { bytes, n_bytes };

    return text;
}

/* --- the last messages --- */

/* `message` is {"room","name","text"}. */
static void keep(struct peal_value message)
{
    struct kept *k = &kept[n_kept % KEPT];
    struct peal_value room;
    struct peal_text name;

    if (message.json.n_bytes > sizeof k->json || !peal_member(message, "room", &room) ||
        !peal_take_string(room, k->room, sizeof k->room, &name))
        return;
    k->n_room = name.n_bytes;
    memcpy(k->json, message.json.bytes, message.json.n_bytes);
    k->n_json = message.json.n_bytes;
    n_kept++;
}

static uint32_t oldest_kept(void)
{
    return n_kept > KEPT ? n_kept - KEPT : 0;
}

static bool is_of(const struct kept *k, struct peal_text room)
{
    return k->n_room == room.n_bytes && memcmp(k->room, room.bytes, room.n_bytes) == 0;
}

/* [message,...] of one room, or of all; the oldest first, at most `max`. */
static void put_kept(struct peal_out *out, const struct peal_text *room, uint32_t max)
{
    uint32_t from = n_kept;
    uint32_t n = 0;
    bool any = false;

    while (from > oldest_kept() && n < max) {
        from--;
        n += room == NULL || is_of(&kept[from % KEPT], *room);
    }
    peal_put(out, "[");
    for (; from < n_kept; from++) {
        const struct kept *k = &kept[from % KEPT];

        if (room != NULL && !is_of(k, *room))
            continue;
        peal_put(out, any ? "," : "");
        peal_put_json(out, text_of(k->json, k->n_json));
        any = true;
    }
    peal_put(out, "]");
}

/* The others' messages are older than all that have come by since: they go in front. */
static void on_others_messages(struct peal_host *host, void *context,
                               const struct peal_answers *answers)
{
    struct kept *ours;
    struct peal_text theirs = { NULL, 0 };
    struct peal_iter it;
    struct peal_value value;
    uint32_t from = oldest_kept();
    uint32_t n = n_kept - from;

    (void)host;
    (void)context;
    for (uint32_t i = 0; i < answers->n_messages; i++) /* all have the same, but who is new, too */
        if (answers->messages[i].json.n_bytes > theirs.n_bytes)
            theirs = answers->messages[i].json;
    if (theirs.n_bytes == 0)
        return; /* nobody answered: the list begins empty */
    ours = malloc((n + 1) * sizeof *ours);
    if (ours == NULL)
        return;
    for (uint32_t i = 0; i < n; i++)
        ours[i] = kept[(from + i) % KEPT];
    n_kept = 0;
    it = peal_iterate(theirs);
    while (peal_next(&it, NULL, &value))
        keep(value);
    for (uint32_t i = 0; i < n; i++)
        kept[n_kept++ % KEPT] = ours[i];
    free(ours);
}

static void ask_others(struct peal_host *host, void *context)
{
    (void)context;
    /* it comes by here, too, and is_live from then on: what the others knew at that moment is what is missing here */
    if (peal_server_emit(host, peal_text("/"), peal_json("[\"messages?\"]"), true, 5000,
                         on_others_messages, NULL) != PEAL_OK)
        (void)peal_timer_after(host, RETRY_MS, ask_others, NULL);
}

static bool on_server_event(struct peal_host *host, struct peal_text nsp, uint32_t from,
                            const struct peal_event *event)
{
    static char text[65536];
    struct peal_out out = peal_out(text, sizeof text);
    struct peal_value message;

    (void)nsp;
    if (from == PEAL_FROM_CLUSTER)
        return false; /* each host keeps its own messages */
    if (peal_is(event->name, "said") && is_live && peal_element(event->message.json, 1, &message)) {
        keep(message);
    } else if (peal_is(event->name, "messages?") && from == peal_worker(host)) {
        is_live = true;
        (void)peal_reply(host, event->ack, peal_json("[]")); /* to ourselves */
    } else if (peal_is(event->name, "messages?")) {
        put_kept(&out, NULL, KEPT / 4);
        (void)peal_reply(host, event->ack, peal_written(&out));
    }
    return true;
}

static bool on_start(struct peal_host *host)
{
    ask_others(host, NULL);
    return true;
}

/* --- clients --- */

static void on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    char bytes[NAME_MAX_BYTES];
    char data[8 * NAME_MAX_BYTES];
    struct peal_out out = peal_out(data, sizeof data);
    struct peal_value object;
    struct peal_value value;
    struct peal_text name;

    if (!peal_valid(auth, &object) || !peal_member(object, "name", &value) ||
        !peal_take_string(value, bytes, sizeof bytes, &name) || name.n_bytes == 0) {
        (void)peal_refuse(host, socket, peal_text("a name is needed"),
                          peal_text("{\"field\":\"name\"}"));
        return;
    }
    peal_put(&out, "{\"name\":");
    peal_put_string(&out, name);
    peal_put(&out, "}");
    if (peal_set_data(host, socket, text_of(data, out.n_bytes)) != PEAL_OK ||
        peal_accept(host, socket, NULL, 0) != PEAL_OK)
        (void)peal_refuse(host, socket, peal_text("busy, try again"), text_of(NULL, 0));
}

/* {"room":...,"name":...  and, if there is more, its comma */
static void put_who(struct peal_out *out, struct peal_host *host, peal_socket socket,
                    struct peal_text room)
{
    struct peal_value data;
    struct peal_value name;

    peal_put(out, "{\"room\":");
    peal_put_string(out, room);
    peal_put(out, ",\"name\":");
    if (peal_valid(peal_data(host, socket), &data) && peal_member(data, "name", &name))
        peal_put_json(out, name.json);
    else
        peal_put(out, "null");
}

/* Tells the room, but not the socket itself: ["event",{"room","name"<more>}] */
static enum peal_result tell(struct peal_host *host, peal_socket socket, struct peal_text room,
                             const char *event, const char *more, uint32_t flags)
{
    char text[JSON_MAX];
    char id[PEAL_SOCKET_ID_BYTES];
    struct peal_text self = { id, sizeof id };
    struct peal_selector to = {
        .rooms = &room, .n_rooms = 1, .except = &self, .n_except = 1, .flags = flags
    };
    struct peal_out out = peal_out(text, sizeof text);

    if (peal_socket_id(host, socket, id) != PEAL_OK)
        return PEAL_GONE;
    peal_put(&out, "[\"");
    peal_put(&out, event);
    peal_put(&out, "\",");
    put_who(&out, host, socket, room);
    peal_put(&out, more);
    peal_put(&out, "}]");
    return peal_emit(host, peal_namespace(host, socket), &to, peal_written(&out));
}

/* --- who is there --- */

/* What a presence list is for: an answer that is to be given when all workers have told. */
struct question {
    peal_ack ack;
    bool with_messages; /* of this room */
    char room[ROOM_MAX_BYTES];
    uint32_t n_room;
};

static void on_present(struct peal_host *host, void *context, const struct peal_answers *answers)
{
    static char text[262144];
    struct question *q = context;
    struct peal_text room = text_of(q->room, q->n_room);
    struct peal_out out = peal_out(text, sizeof text);
    struct peal_value socket;
    struct peal_iter it;
    bool any = false;

    peal_put(&out, "[");
    if (q->with_messages) {
        peal_put(&out, "{\"messages\":");
        put_kept(&out, &room, SHOWN);
        peal_put(&out, ",\"present\":");
    }
    peal_put(&out, "[");
    it = peal_iterate(answers->n_messages > 0 ? answers->messages[0].json : peal_text("[]"));
    while (peal_next(&it, NULL, &socket)) {
        struct peal_value data;
        struct peal_value name;

        if (!peal_member(socket, "data", &data) || !peal_member(data, "name", &name))
            continue;
        peal_put(&out, any ? "," : "");
        peal_put_json(&out, name.json);
        any = true;
    }
    peal_put(&out, q->with_messages ? "]}]" : "]]");
    /* PEAL_GONE: it left meanwhile, which is nothing to us */
    (void)peal_reply(host, q->ack, peal_written(&out));
    free(q);
}

static enum peal_result ask_present(struct peal_host *host, peal_socket socket,
                                    struct peal_text room, peal_ack ack, bool with_messages)
{
    struct peal_selector to = { .rooms = &room, .n_rooms = 1 };
    struct question *q;
    enum peal_result result;

    if (ack == 0)
        return PEAL_OK;
    q = malloc(sizeof *q);
    if (q == NULL)
        return PEAL_FULL;
    q->ack = ack;
    q->with_messages = with_messages;
    memcpy(q->room, room.bytes, room.n_bytes);
    q->n_room = room.n_bytes;
    result = peal_fetch(host, peal_namespace(host, socket), &to, PEAL_FETCH_SOCKETS, on_present, q);
    if (result != PEAL_OK)
        free(q);
    return result;
}

/* --- events --- */

static enum peal_result on_say(struct peal_host *host, peal_socket socket, struct peal_text room,
                               const struct peal_event *event)
{
    char text[JSON_MAX];
    char bytes[TEXT_MAX_BYTES];
    struct peal_selector to = { .rooms = &room, .n_rooms = 1 };
    struct peal_out out = peal_out(text, sizeof text);
    struct peal_value value;
    struct peal_text said;
    enum peal_result result;

    if (!peal_element(event->message.json, 2, &value) ||
        !peal_take_string(value, bytes, sizeof bytes, &said))
        return peal_reply(host, event->ack, peal_json("[{\"ok\":false,\"error\":\"no text\"}]"));
    if (!peal_in_room(host, socket, room))
        return peal_reply(host, event->ack,
                          peal_json("[{\"ok\":false,\"error\":\"not in the room\"}]"));
    peal_put(&out, "[\"said\",");
    put_who(&out, host, socket, room);
    peal_put(&out, ",\"text\":");
    peal_put_json(&out, value.json);
    peal_put(&out, "}]");
    result = peal_emit(host, peal_namespace(host, socket), &to, peal_written(&out));
    if (result != PEAL_OK)
        return result; /* PEAL_FULL: nothing has happened, and Peal calls again */
    /* now it has been said; should the ring be full from here on, the lists miss one, and nobody else anything */
    result = peal_server_emit(host, peal_namespace(host, socket), peal_written(&out), true, 0, NULL,
                              NULL);
    if (result != PEAL_OK)
        peal_log(host, PEAL_WARNING, "a message was not kept: %s", peal_result_name(result));
    return peal_reply(host, event->ack, peal_json("[{\"ok\":true}]"));
}

static enum peal_result on_enter(struct peal_host *host, peal_socket socket, struct peal_text room,
                                 const struct peal_event *event)
{
    enum peal_result result = ask_present(host, socket, room, event->ack, true);

    /* The question is on its way, and in the ring before the join: who enters finds those who were there before. Should one of these fail, it is asked again with
     * a new acknowledgement, and the first answer goes nowhere. */
    if (result == PEAL_OK)
        result = tell(host, socket, room, "entered", "", 0);
    if (result == PEAL_OK)
        result = peal_join(host, socket, &room, 1);
    return result;
}

static enum peal_result on_event(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event, bool *handled)
{
    char bytes[ROOM_MAX_BYTES];
    struct peal_text room;
    struct peal_value value;
    enum peal_result result;

    if (!peal_element(event->message.json, 1, &value) ||
        !peal_take_string(value, bytes, sizeof bytes, &room) || peal_is_socket_id(room)) {
        *handled = false;
        return PEAL_OK;
    }
    if (peal_is(event->name, "enter"))
        return on_enter(host, socket, room, event);
    if (peal_is(event->name, "say"))
        return on_say(host, socket, room, event);
    if (peal_is(event->name, "who"))
        return ask_present(host, socket, room, event->ack, false);
    if (peal_is(event->name, "typing"))
        return tell(host, socket, room, "typing",
                    peal_element(event->message.json, 2, &value) && peal_true(value)
                        ? ",\"typing\":true"
                        : ",\"typing\":false",
                    PEAL_VOLATILE);
    if (!peal_is(event->name, "leave")) {
        *handled = false;
        return PEAL_OK;
    }
    if (peal_in_room(host, socket, room)) {
        result = tell(host, socket, room, "left", "", 0);
        if (result == PEAL_OK)
            result = peal_leave(host, socket, &room, 1);
        if (result != PEAL_OK)
            return result;
    }
    return peal_reply(host, event->ack, peal_json("[]"));
}

static void on_disconnecting(struct peal_host *host, peal_socket socket, const char *reason)
{
    struct peal_text rooms[64];
    uint32_t n = peal_rooms(host, socket, rooms, 64);

    (void)reason;
    for (uint32_t i = 0; i < n && i < 64; i++)
        (void)tell(host, socket, rooms[i], "left", "", 0); /* a full ring: `who` tells the truth */
}

const struct peal_app peal_module = {
    .abi = PEAL_APP_ABI,
    .name = "chat",
    .start = on_start,
    .connect = on_connect,
    .event = on_event,
    .disconnecting = on_disconnecting,
    .server_event = on_server_event,
};
