/* forward.c: what clients do goes to the Node servers of the cluster as peal:connect, peal:event and peal:disconnect; their answers decide and acknowledge.
 * Uses include/peal/app.h, and a counter.
 *
 *     ASKING -> IN        a client; its peal_pointer is a struct client
 *        |       |
 *        +-------+-> GONE     its peal:disconnect is said at once, or waits in `farewells`; freed when no answer can come any more
 *
 * Invariant: after each peal:connect that was sent comes a peal:disconnect: when the client leaves, when it is refused, when nobody has answered, and once more
 *            for each server that accepts when the client is not waiting any more. What cannot be said is counted as lost.
 * Invariant: nobody is let in without an answer that says so.
 * Order:     an event is handed on before the client's next one is read (PEAL_FULL), and one worker's emits keep their order.
 * Bounds:    one struct client a socket, and FAREWELLS_MAX that are gone; one struct asked for each acknowledgement that is awaited, PEAL_REQUESTS_MAX. */
#include "app/forward.h"

#include <stdlib.h>

#include "app/forward_answer.h"

#define NAME_MAX_BYTES 255
#define MESSAGE_MAX    1024  /* of a refusal; what is longer is cut */
#define LATE_MS        10000 /* how long after forward_timeout an answer is still looked at */
#define LATE_MAX       4096  /* requests that are kept open for such answers after a refusal */
#define RETRY_MS       100
#define RETRIES_MAX    1024 /* at a time */
#define FAREWELLS_MAX  65536
#define FAREWELL_BYTES (16u << 20) /* of data that they hold */

static const char no_answer[] = "no back end answered"; /* contract: the README names it */

enum client_state { ASKING = 0, IN, GONE };

struct client {
    struct client *next; /* in one of the lists */
    peal_socket socket;  /* 0: it has ended */
    peal_timer timer;    /* ASKING: until when */
    uint64_t seq;
    char id[PEAL_SOCKET_ID_BYTES];
    uint16_t hash;
    uint8_t state;  /* enum client_state */
    bool recovered; /* it is back: it has its CONNECT packet, and must be put out if nobody knows it */
    bool sent;      /* peal:connect was */
    bool open;      /* its answers may come */
    bool late;      /* open for those that come too late */
    bool in_list;
    bool told;      /* peal:disconnect was said by `disconnect`, which knows more than its end does */
    const char *why; /* for peal:disconnect, if it was not let in */
    char *farewell; /* the whole message, while it waits */
    uint32_t n_farewell;
    uint32_t n_nsp;
    char nsp[];
};

struct list {
    struct client *first;
    struct client *last;
    uint32_t n;
};

/* An event whose acknowledgement is awaited. */
struct asked {
    peal_ack ack;
    uint32_t next; /* index + 1: free */
    bool answered;
};

/* One instance in a worker. */
static struct {
    struct peal_host *host;
    struct list unsent;    /* peal:connect found the ring full */
    struct list farewells; /* so did peal:disconnect, or Redis is away */
    peal_timer retry;
    uint64_t settled_at_ms; /* before it no end is told */
    uint32_t farewell_bytes;
    uint32_t n_late;
    struct asked *asked; /* [PEAL_REQUESTS_MAX] */
    uint32_t free_asked; /* index + 1 */
    char *text;          /* messages to servers; grows to the longest */
    uint32_t text_max;
    struct forward_answer answer;
} f;

static const struct peal_text absent = { NULL, 0 };

/* --- messages --- */

uint32_t forward_hash(struct peal_text id)
{
    uint32_t hash = 2166136261u;

    for (uint32_t i = 0; i < id.n_bytes; i++)
        hash = (hash ^ (uint8_t)id.bytes[i]) * 16777619u;
    return (hash ^ hash >> 16) & 1023;
}

static void put_end(struct peal_out *out, struct peal_text data, uint32_t hash)
{
    peal_put(out, ",\"data\":");
    if (data.bytes == NULL)
        peal_put(out, "{}");
    else
        peal_put_json(out, data);
    peal_put(out, ",\"hash\":");
    peal_put_number(out, hash);
    peal_put(out, "}]");
}

void forward_put_disconnect(struct peal_out *out, struct peal_text id, struct peal_text reason,
                            struct peal_text data)
{
    peal_put(out, "[\"peal:disconnect\",{\"id\":");
    peal_put_string(out, id);
    peal_put(out, ",\"reason\":");
    peal_put_string(out, reason);
    put_end(out, data, forward_hash(id));
}

static struct peal_text id_of(const struct client *c)
{
    return (struct peal_text){ c->id, sizeof c->id };
}

static struct peal_text nsp_of(const struct client *c)
{
    return (struct peal_text){ c->nsp, c->n_nsp };
}

/* Room for a message of about `n_bytes`. False: no memory. */
static bool begin(struct peal_out *out, uint64_t n_bytes)
{
    uint64_t max = n_bytes + FORWARD_DISCONNECT_MAX;

    if (max > UINT32_MAX)
        return false;
    if (max > f.text_max) {
        char *text = realloc(f.text, max);

        if (text == NULL)
            return false;
        f.text = text;
        f.text_max = (uint32_t)max;
    }
    *out = peal_out(f.text, f.text_max);
    return true;
}

/* --- lists --- */

static void list_add(struct list *list, struct client *c)
{
    c->next = NULL;
    c->in_list = true;
    if (list->last != NULL)
        list->last->next = c;
    else
        list->first = c;
    list->last = c;
    list->n++;
}

static struct client *list_take(struct list *list)
{
    struct client *c = list->first;

    if (c == NULL)
        return NULL;
    list->first = c->next;
    if (list->first == NULL)
        list->last = NULL;
    c->in_list = false;
    list->n--;
    return c;
}

static void retry(struct peal_host *host, void *context);

static void retry_later(struct peal_host *host)
{
    if (f.retry == 0)
        f.retry = peal_timer_after(host, RETRY_MS, retry, NULL);
}

/* --- clients --- */

static void client_free_if_over(struct client *c)
{
    if (c->socket != 0 || c->open || c->in_list)
        return;
    free(c->farewell);
    free(c);
}

/* Servers that lost their Redis as we did come back to it one by one: what must be heard waits for them. */
static void note_reach(struct peal_host *host)
{
    if (!peal_cluster_reachable(host))
        f.settled_at_ms = peal_now_ms(host) + FORWARD_SETTLE_MS;
}

static enum peal_result say(struct peal_host *host, const struct client *c, struct peal_text json)
{
    struct peal_message message = { .json = json };

    note_reach(host);
    if (peal_now_ms(host) < f.settled_at_ms)
        return PEAL_UNREACHABLE;
    return peal_cluster_emit(host, nsp_of(c), message, 0, NULL, NULL, NULL);
}

static bool again(enum peal_result result)
{
    return result == PEAL_FULL || result == PEAL_UNREACHABLE;
}

static void count_farewell(struct peal_host *host, enum peal_result result)
{
    forward_count(host, result == PEAL_OK ? FORWARD_ENDED : FORWARD_LOST);
}

/* Keeps what could not be said. False: there is no room for it. */
static bool keep_farewell(struct client *c, struct peal_text json)
{
    if (c->in_list)
        return true; /* it is going to be said, after all that was */
    if (f.farewells.n == FAREWELLS_MAX || f.farewell_bytes + json.n_bytes > FAREWELL_BYTES)
        return false;
    c->farewell = malloc(json.n_bytes);
    if (c->farewell == NULL)
        return false;
    memcpy(c->farewell, json.bytes, json.n_bytes);
    c->n_farewell = json.n_bytes;
    f.farewell_bytes += json.n_bytes;
    list_add(&f.farewells, c);
    return true;
}

static void farewell(struct peal_host *host, struct client *c, const char *reason,
                     struct peal_text data)
{
    char text[FORWARD_DISCONNECT_MAX];
    struct peal_out out = peal_out(text, sizeof text);
    enum peal_result result;

    forward_put_disconnect(&out, id_of(c), peal_text(reason), data);
    result = say(host, c, peal_written(&out).json);
    if (again(result) && keep_farewell(c, peal_written(&out).json))
        retry_later(host);
    else
        count_farewell(host, result);
}

/* Its socket is over: let in and left, refused, or gone while it waited. */
static void on_end(void *pointer)
{
    struct client *c = pointer;

    c->socket = 0;
    c->state = GONE;
    peal_timer_cancel(f.host, c->timer);
    if (c->sent && !c->told)
        farewell(f.host, c, c->why, absent);
    client_free_if_over(c);
}

static void on_disconnect(struct peal_host *host, peal_socket socket, const char *reason)
{
    struct client *c = peal_pointer(host, socket);

    if (c == NULL || !c->sent)
        return;
    c->told = true;
    farewell(host, c, reason, peal_data(host, socket));
}

/* Out, with a message of ours or of the application's. PEAL_FULL: it is tried again. */
static enum peal_result put_out(struct peal_host *host, struct client *c, const char *why,
                                struct peal_text message, struct peal_text data)
{
    c->why = why;
    if (c->recovered) /* it was let in once: it comes back and asks anew */
        return peal_disconnect(host, c->socket, true);
    return peal_refuse(host, c->socket, message, data);
}

static void out_of_time(struct peal_host *host, void *context);

static void refuse_unanswered(struct peal_host *host, struct client *c, enum forward_result result)
{
    peal_timer_cancel(host, c->timer);
    if (put_out(host, c, "timeout", peal_text(no_answer), absent) != PEAL_FULL)
        forward_count(host, result);
    else
        c->timer = peal_timer_after(host, RETRY_MS, out_of_time, c); /* 0: connect_timeout ends it */
}

/* --- peal:connect --- */

static bool in_time(struct peal_host *host, struct client *c, struct peal_value object)
{
    static struct {
        struct peal_text names[PEAL_ROOMS_MAX];
        char text[PEAL_ROOMS_MAX * NAME_MAX_BYTES];
    } rooms; /* scratch: too much for the stack */
    struct peal_value value;
    struct peal_value room;
    uint32_t n = 0;

    if (peal_member(object, "rooms", &value)) {
        struct peal_iter it = peal_iterate(value.json);

        if (value.kind != PEAL_ARRAY)
            return false;
        for (; peal_next(&it, NULL, &room); n++)
            if (n == PEAL_ROOMS_MAX || !peal_take_string(room, rooms.text + (size_t)n * NAME_MAX_BYTES,
                                                         NAME_MAX_BYTES, &rooms.names[n]))
                return false;
    }
    if (peal_member(object, "data", &value) &&
        peal_set_data(host, c->socket, value.json) != PEAL_OK)
        return false;
    return (c->recovered ? peal_join(host, c->socket, rooms.names, n)
                         : peal_accept(host, c->socket, rooms.names, n)) == PEAL_OK;
}

/* The first answer decides. */
static void decide(struct peal_host *host, struct client *c, struct peal_value object, bool ok)
{
    struct peal_value value;
    struct peal_text data = absent;
    char text[MESSAGE_MAX];
    struct peal_text message = peal_text("refused");

    peal_timer_cancel(host, c->timer);
    if (ok && in_time(host, c, object)) {
        c->state = IN;
        forward_count(host, FORWARD_ACCEPTED);
        return;
    }
    if (ok) {
        peal_log(host, PEAL_WARNING,
                 "a back end accepts a client with rooms (max_rooms_per_socket, names of 255 bytes) "
                 "or data (%u bytes) that are too large; it is refused",
                 PEAL_DATA_BYTES_MAX);
        message = peal_text("rooms or data of the back end's answer are too large");
    } else {
        if (peal_member(object, "message", &value) && value.kind == PEAL_STRING) {
            uint32_t n = peal_string(value, text, sizeof text);

            message = (struct peal_text){ text, n < sizeof text ? n : sizeof text };
        }
        if (peal_member(object, "data", &value))
            data = value.json;
    }
    (void)put_out(host, c, "refused", message, data); /* at an answer there is room for it */
    forward_count(host, FORWARD_REFUSED);
}

static bool on_connect_answer(struct peal_host *host, void *context,
                              const struct peal_message *answer)
{
    struct client *c = context;
    struct peal_value object;
    struct peal_value ok;

    if (!peal_element(answer->json, 0, &object) || !peal_member(object, "ok", &ok) ||
        ok.kind != PEAL_BOOL) {
        forward_count(host, FORWARD_BAD_ANSWER);
        return true;
    }
    if (c->state == IN)
        return false;
    if (c->state == ASKING) {
        decide(host, c, object, peal_true(ok));
    } else if (peal_true(ok)) {
        forward_count(host, FORWARD_LATE);
        farewell(host, c, c->why, absent);
    }
    if (c->state == IN || (!c->late && f.n_late == LATE_MAX))
        return false;
    f.n_late += !c->late;
    c->late = true;
    return true;
}

static void on_connect_done(struct peal_host *host, void *context, enum peal_result result,
                            uint32_t n_answers, uint32_t n_expected)
{
    struct client *c = context;

    (void)n_answers;
    (void)n_expected;
    f.n_late -= c->late;
    if (c->state == ASKING)
        refuse_unanswered(host, c,
                          result == PEAL_UNREACHABLE || result == PEAL_GONE ? FORWARD_UNREACHABLE
                                                                             : FORWARD_NO_ANSWER);
    c->open = false;
    client_free_if_over(c);
}

static enum peal_result ask(struct peal_host *host, struct client *c)
{
    struct peal_text handshake = peal_handshake(host, c->socket);
    struct peal_out out;
    enum peal_result result;

    if (handshake.bytes == NULL || !begin(&out, handshake.n_bytes))
        return PEAL_LIMIT;
    peal_put(&out, "[\"peal:connect\",{\"id\":");
    peal_put_string(&out, id_of(c));
    peal_put(&out, ",\"handshake\":");
    peal_put_json(&out, handshake);
    if (c->recovered)
        peal_put(&out, ",\"recovered\":true");
    peal_put(&out, ",\"hash\":");
    peal_put_number(&out, c->hash);
    peal_put(&out, "}]");
    result = peal_cluster_emit(host, nsp_of(c), peal_written(&out),
                               peal_policy(host, c->socket).forward_timeout_ms + LATE_MS,
                               on_connect_answer, on_connect_done, c);
    c->sent = result == PEAL_OK;
    c->open = c->sent;
    return result;
}

static void out_of_time(struct peal_host *host, void *context)
{
    struct client *c = context;

    refuse_unanswered(host, c, FORWARD_NO_ANSWER);
}

/* NULL: no memory. */
static struct client *client_new(struct peal_host *host, peal_socket socket)
{
    struct peal_text nsp = peal_namespace(host, socket);
    struct client *c = calloc(1, sizeof *c + nsp.n_bytes);

    if (c == NULL)
        return NULL;
    c->socket = socket;
    c->why = "transport close";
    c->n_nsp = nsp.n_bytes;
    memcpy(c->nsp, nsp.bytes, nsp.n_bytes);
    (void)peal_socket_id(host, socket, c->id);
    c->hash = (uint16_t)forward_hash(id_of(c));
    if (peal_set_pointer(host, socket, c, on_end) != PEAL_OK) {
        free(c);
        return NULL;
    }
    return c;
}

static enum forward_result unasked(enum peal_result result)
{
    return result == PEAL_UNREACHABLE ? FORWARD_UNREACHABLE : FORWARD_BUSY;
}

static void begin_asking(struct peal_host *host, struct client *c)
{
    enum peal_result result;

    c->timer = peal_timer_after(host, peal_policy(host, c->socket).forward_timeout_ms, out_of_time, c);
    result = c->timer == 0 ? PEAL_LIMIT : ask(host, c);
    if (result == PEAL_FULL) {
        list_add(&f.unsent, c);
        retry_later(host);
    } else if (result != PEAL_OK) {
        refuse_unanswered(host, c, unasked(result));
    }
}

static void on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    struct client *c = client_new(host, socket);

    (void)auth; /* the handshake has it */
    if (c != NULL)
        begin_asking(host, c);
    else
        (void)peal_refuse(host, socket, peal_text("Server is full"), absent);
}

/* Its client was told that it is back; servers have been told that it had left, or its worker died. */
static enum peal_result on_connection(struct peal_host *host, peal_socket socket)
{
    struct client *c;

    if (!peal_recovered(host, socket))
        return PEAL_OK;
    c = client_new(host, socket);
    if (c == NULL)
        return peal_disconnect(host, socket, true);
    c->recovered = true;
    begin_asking(host, c);
    return PEAL_OK;
}

/* --- what found no room --- */

static void retry_unsent(struct peal_host *host, struct client *c)
{
    enum peal_result result;

    if (c->state != ASKING) { /* refused or gone meanwhile */
        client_free_if_over(c);
        return;
    }
    result = ask(host, c);
    if (result == PEAL_FULL)
        list_add(&f.unsent, c);
    else if (result != PEAL_OK)
        refuse_unanswered(host, c, unasked(result));
}

static void retry(struct peal_host *host, void *context)
{
    uint32_t n_unsent = f.unsent.n;

    (void)context;
    f.retry = 0;
    for (uint32_t i = 0; i < n_unsent; i++)
        retry_unsent(host, list_take(&f.unsent));
    for (uint32_t i = 0; i < RETRIES_MAX && f.farewells.first != NULL; i++) {
        struct client *c = f.farewells.first;
        enum peal_result result =
            say(host, c, (struct peal_text){ c->farewell, c->n_farewell });

        if (again(result))
            break;
        (void)list_take(&f.farewells);
        f.farewell_bytes -= c->n_farewell;
        count_farewell(host, result);
        client_free_if_over(c);
    }
    if (f.unsent.n > 0 || f.farewells.n > 0)
        retry_later(host);
}

/* --- peal:event --- */

static struct asked *asked_new(peal_ack ack)
{
    struct asked *a;

    if (f.free_asked == 0)
        return NULL;
    a = &f.asked[f.free_asked - 1];
    f.free_asked = a->next;
    *a = (struct asked){ .ack = ack };
    return a;
}

static void asked_free(struct asked *a)
{
    a->next = f.free_asked;
    f.free_asked = (uint32_t)(a - f.asked) + 1;
}

static bool on_event_answer(struct peal_host *host, void *context,
                            const struct peal_message *answer)
{
    struct asked *a = context;
    struct peal_value array;
    struct peal_message message;

    if (peal_element(answer->json, 0, &array) && array.kind == PEAL_ARRAY &&
        forward_answer_read(&f.answer, answer, array.json, &message)) {
        switch (peal_reply(host, a->ack, message)) {
        case PEAL_OK:
        case PEAL_GONE: /* the client has left */ a->answered = true; return false;
        case PEAL_FULL: return false; /* no memory */
        case PEAL_TOO_BIG:
        case PEAL_LIMIT:
        case PEAL_INVALID:
        case PEAL_THREAD:
        case PEAL_TIMEOUT:
        case PEAL_UNREACHABLE: break;
        }
    }
    forward_count(host, FORWARD_BAD_ANSWER);
    return true;
}

static void on_event_done(struct peal_host *host, void *context, enum peal_result result,
                          uint32_t n_answers, uint32_t n_expected)
{
    struct asked *a = context;

    (void)result;
    (void)n_answers;
    (void)n_expected;
    forward_count(host, a->answered ? FORWARD_ACKNOWLEDGED : FORWARD_UNACKNOWLEDGED);
    asked_free(a);
}

/* The client's own event was not handed on. */
static enum peal_result answer_error(struct peal_host *host, const struct peal_event *event,
                                     enum forward_result result, const char *error)
{
    char text[128];
    struct peal_out out = peal_out(text, sizeof text);
    enum peal_result replied;

    peal_put(&out, "[{\"ok\":false,\"error\":");
    peal_put_string(&out, peal_text(error));
    peal_put(&out, "}]");
    replied = peal_reply(host, event->ack, peal_written(&out));
    if (replied != PEAL_FULL)
        forward_count(host, result);
    return replied;
}

/* ["peal:event",{"id","seq","event","args","data","hash"}]. False: no memory. */
static bool put_event(struct peal_host *host, const struct client *c, const struct peal_event *event,
                      struct peal_out *out)
{
    struct peal_text json = event->message.json;
    struct peal_text data = peal_data(host, c->socket);
    struct peal_iter it = peal_iterate(json);
    struct peal_value value;

    if (!begin(out, (uint64_t)json.n_bytes + data.n_bytes))
        return false;
    (void)peal_next(&it, NULL, &value); /* there is a name: it has been validated */
    peal_put(out, "[\"peal:event\",{\"id\":");
    peal_put_string(out, id_of(c));
    peal_put(out, ",\"seq\":");
    peal_put_number(out, (double)c->seq + 1);
    peal_put(out, ",\"event\":");
    peal_put_json(out, value.json);
    peal_put(out, ",\"args\":[");
    if (peal_next(&it, NULL, &value)) /* up to the array's end, its bracket included */
        peal_put_json(out, (struct peal_text){ value.json.bytes,
                                               (uint32_t)(json.bytes + json.n_bytes - value.json.bytes) });
    else
        peal_put(out, "]");
    put_end(out, data, c->hash);
    return true;
}

static enum peal_result on_event(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event, bool *handled)
{
    struct client *c = peal_pointer(host, socket);
    struct peal_message message = event->message;
    struct asked *a = NULL;
    struct peal_value name;
    struct peal_out out;
    enum peal_result result;

    (void)handled; /* all are */
    if (event->name.bytes == NULL && peal_element(message.json, 0, &name) &&
        name.kind == PEAL_STRING)
        return answer_error(host, event, FORWARD_REFUSED_EVENT, "event name over 255 bytes");
    if (event->ack != 0) {
        a = asked_new(event->ack);
        if (a == NULL)
            return answer_error(host, event, FORWARD_BUSY, "too many acknowledgements are awaited");
    }
    result = PEAL_LIMIT;
    if (put_event(host, c, event, &out)) {
        message.json = peal_written(&out).json;
        result = peal_cluster_emit(host, nsp_of(c), message,
                                   peal_policy(host, socket).forward_timeout_ms,
                                   a == NULL ? NULL : on_event_answer, on_event_done, a);
    }
    if (result == PEAL_OK) {
        c->seq++;
        forward_count(host, FORWARD_EVENTS);
        return PEAL_OK;
    }
    if (a != NULL)
        asked_free(a);
    if (result == PEAL_UNREACHABLE)
        result = answer_error(host, event, FORWARD_UNREACHABLE, "back end unreachable");
    else if (result != PEAL_FULL && result != PEAL_TOO_BIG)
        result = answer_error(host, event, FORWARD_BUSY, "too many acknowledgements are awaited");
    c->seq += result != PEAL_FULL; /* who hears the next one sees that one is missing */
    return result;
}

/* --- peal:data --- */

/* Every worker hears it; one has the socket. */
static bool on_server_event(struct peal_host *host, struct peal_text nsp, uint32_t from,
                            const struct peal_event *event)
{
    char text[PEAL_SOCKET_ID_BYTES];
    struct peal_text id;
    struct peal_value object;
    struct peal_value value;
    const struct client *c;
    peal_socket socket;

    if (from != PEAL_FROM_CLUSTER || !peal_is(event->name, "peal:data") ||
        !peal_element(event->message.json, 1, &object) || !peal_member(object, "id", &value) ||
        !peal_take_string(value, text, sizeof text, &id))
        return false;
    socket = peal_find(host, nsp, id);
    c = socket == 0 ? NULL : peal_pointer(host, socket);
    if (c == NULL || c->state != IN)
        return false;
    if (!peal_member(object, "data", &value) ||
        peal_set_data(host, socket, value.json) != PEAL_OK)
        forward_count(host, FORWARD_BAD_DATA);
    return false; /* nobody is to wait for an answer to it */
}

/* --- beginning and end --- */

static bool start(struct peal_host *host)
{
    f.host = host;
    f.asked = calloc(PEAL_REQUESTS_MAX, sizeof *f.asked);
    if (f.asked == NULL)
        return false;
    for (uint32_t i = PEAL_REQUESTS_MAX; i > 0; i--)
        asked_free(&f.asked[i - 1]);
    return true;
}

static void stop(struct peal_host *host)
{
    for (struct client *c; (c = list_take(&f.farewells)) != NULL;) {
        forward_count(host, FORWARD_LOST);
        c->open = false;
        client_free_if_over(c);
    }
    for (struct client *c; (c = list_take(&f.unsent)) != NULL;)
        client_free_if_over(c);
    free(f.asked);
    free(f.text);
    free(f.answer.text);
    free(f.answer.bytes);
}

const struct peal_app forward_app = {
    .abi = PEAL_APP_ABI,
    .name = "forward",
    .start = start,
    .stop = stop,
    .connect = on_connect,
    .connection = on_connection,
    .event = on_event,
    .disconnect = on_disconnect,
    .server_event = on_server_event,
    .second = note_reach,
};
