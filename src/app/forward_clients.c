/* forward_clients.c: who comes and goes: peal:connect, its answers, and peal:disconnect.
 *
 *     ASKING -> IN        a client; its peal_pointer is a struct forward_client
 *        |       |
 *        +-------+-> GONE     its peal:disconnect is said at once, or waits in `farewells`; freed when no answer can come any more
 *
 * Invariant: after each peal:connect that was sent comes a peal:disconnect: when the client leaves, when it is refused, when nobody has answered, and once more
 *            for each server that accepts when the client is not waiting any more. What cannot be said is counted as lost.
 * Invariant: nobody is let in without an answer that says so.
 * Bounds:    one struct forward_client a socket, and FAREWELLS_MAX that are gone. */
#include <stdlib.h>

#include "app/forward_state.h"

#define NAME_MAX_BYTES 255
#define MESSAGE_MAX    1024  /* of a refusal; what is longer is cut */
#define LATE_MS        10000 /* how long after forward_timeout an answer is still looked at */
#define LATE_MAX       4096  /* requests that are kept open for such answers after a refusal */
#define RECOVERED_MS   1000  /* by which two workers may see Redis come back apart */
#define RETRY_MS       100
#define RETRIES_MAX    1024 /* at a time */
#define FAREWELLS_MAX  65536
#define FAREWELL_BYTES (16u << 20) /* of data that they hold */

static const char no_answer[] = "no back end answered"; /* contract: the README names it */

struct list {
    struct forward_client *first;
    struct forward_client *last;
    uint32_t n;
};

static struct {
    struct forward_client *newest; /* of all */
    struct peal_host *host;        /* for what ends with a socket, which is told without */
    struct list unsent;            /* peal:connect found the ring full */
    struct list farewells;         /* so did peal:disconnect, or Redis is away */
    peal_timer retry;
    uint64_t settled_at_ms; /* before it no end is told */
    bool reached;           /* Redis was there once */
    uint32_t farewell_bytes;
    uint32_t n_late;
} f;

static const struct peal_text absent = { NULL, 0 };

struct peal_text forward_id(const struct forward_client *c)
{
    return (struct peal_text){ c->id, sizeof c->id };
}

struct peal_text forward_nsp(const struct forward_client *c)
{
    return (struct peal_text){ c->nsp, c->n_nsp };
}

/* --- lists --- */

static void list_add(struct list *list, struct forward_client *c)
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

static struct forward_client *list_take(struct list *list)
{
    struct forward_client *c = list->first;

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

static void free_if_over(struct forward_client *c)
{
    if (c->socket != 0 || c->open || c->in_list)
        return;
    if (c->newer != NULL)
        c->newer->older = c->older;
    else
        f.newest = c->older;
    if (c->older != NULL)
        c->older->newer = c->newer;
    free(c->farewell);
    free(c);
}

/* Servers that lost their Redis as we did come back to it one by one: what must be heard waits for them. Once a second, and before anything is said. */
void forward_on_second(struct peal_host *host)
{
    if (peal_cluster_reachable(host))
        f.reached = true;
    else if (f.reached)
        f.settled_at_ms = peal_now_ms(host) + FORWARD_SETTLE_MS;
}

static enum peal_result say(struct peal_host *host, const struct forward_client *c,
                            struct peal_text json)
{
    struct peal_message message = { .json = json };

    forward_on_second(host);
    if (peal_now_ms(host) < f.settled_at_ms)
        return PEAL_UNREACHABLE;
    return peal_cluster_emit(host, forward_nsp(c), message, 0, NULL, NULL, NULL);
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
static bool keep_farewell(struct forward_client *c, struct peal_text json)
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

static void farewell(struct peal_host *host, struct forward_client *c, const char *reason,
                     struct peal_text data)
{
    char text[FORWARD_DISCONNECT_MAX];
    struct peal_out out = peal_out(text, sizeof text);
    enum peal_result result;

    forward_put_disconnect(&out, forward_id(c), peal_text(reason), data);
    result = say(host, c, peal_written(&out).json);
    if (again(result) && keep_farewell(c, peal_written(&out).json))
        retry_later(host);
    else
        count_farewell(host, result);
}

/* Do servers believe that it is there? Of one that is back it is not known whether they have heard that it had left: its worker may have died. */
static bool is_known(const struct forward_client *c)
{
    return c->sent || c->recovered;
}

/* Its socket is over: let in and left, refused, or gone while it waited. */
static void on_end(void *pointer)
{
    struct forward_client *c = pointer;

    c->socket = 0;
    c->state = FORWARD_GONE;
    peal_timer_cancel(f.host, c->timer);
    if (is_known(c) && !c->told)
        farewell(f.host, c, c->why, absent);
    free_if_over(c);
}

void forward_on_disconnect(struct peal_host *host, peal_socket socket, const char *reason)
{
    struct forward_client *c = peal_pointer(host, socket);

    if (c == NULL || !is_known(c))
        return;
    c->told = true;
    farewell(host, c, reason, peal_data(host, socket));
}

/* Out, with a message of ours or of the application's. PEAL_FULL: it is tried again. */
static enum peal_result put_out(struct peal_host *host, struct forward_client *c, const char *why,
                                struct peal_text message, struct peal_text data)
{
    c->why = why;
    if (c->recovered) /* it was let in once: it comes back and asks anew */
        return peal_disconnect(host, c->socket, true);
    return peal_refuse(host, c->socket, message, data);
}

static void out_of_time(struct peal_host *host, void *context);

static void refuse_unanswered(struct peal_host *host, struct forward_client *c,
                              enum forward_result result)
{
    peal_timer_cancel(host, c->timer);
    if (put_out(host, c, "timeout", peal_text(no_answer), absent) != PEAL_FULL)
        forward_count(host, result);
    else
        c->timer =
            peal_timer_after(host, RETRY_MS, out_of_time, c); /* 0: connect_timeout ends it */
}

/* --- peal:connect --- */

static bool in_time(struct peal_host *host, struct forward_client *c, struct peal_value object)
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
            if (n == PEAL_ROOMS_MAX ||
                !peal_take_string(room, rooms.text + (size_t)n * NAME_MAX_BYTES, NAME_MAX_BYTES,
                                  &rooms.names[n]))
                return false;
    }
    if (peal_member(object, "data", &value) &&
        peal_set_data(host, c->socket, value.json) != PEAL_OK)
        return false;
    return (c->recovered ? peal_join(host, c->socket, rooms.names, n)
                         : peal_accept(host, c->socket, rooms.names, n)) == PEAL_OK;
}

/* The first answer decides. */
static void decide(struct peal_host *host, struct forward_client *c, struct peal_value object,
                   bool ok)
{
    struct peal_value value;
    struct peal_text data = absent;
    char text[MESSAGE_MAX];
    struct peal_text message = peal_text("refused");

    peal_timer_cancel(host, c->timer);
    if (ok && in_time(host, c, object)) {
        c->state = FORWARD_IN;
        forward_count(host, FORWARD_ACCEPTED);
        return;
    }
    if (ok) {
        peal_log(
            host, PEAL_WARNING,
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
    struct forward_client *c = context;
    struct peal_value object;
    struct peal_value ok;

    if (!peal_element(answer->json, 0, &object) || !peal_member(object, "ok", &ok) ||
        ok.kind != PEAL_BOOL) {
        forward_count(host, FORWARD_BAD_ANSWER);
        return true;
    }
    if (c->state == FORWARD_IN)
        return false;
    if (c->state == FORWARD_ASKING) {
        decide(host, c, object, peal_true(ok));
    } else if (peal_true(ok)) {
        forward_count(host, FORWARD_LATE);
        farewell(host, c, c->why, absent);
    }
    if (c->state == FORWARD_IN || (!c->late && f.n_late == LATE_MAX))
        return false;
    f.n_late += !c->late;
    c->late = true;
    return true;
}

static void on_connect_done(struct peal_host *host, void *context, enum peal_result result,
                            uint32_t n_answers, uint32_t n_expected)
{
    struct forward_client *c = context;

    (void)n_answers;
    (void)n_expected;
    f.n_late -= c->late;
    if (c->state == FORWARD_ASKING)
        refuse_unanswered(host, c,
                          result == PEAL_UNREACHABLE || result == PEAL_GONE ? FORWARD_UNREACHABLE
                                                                            : FORWARD_NO_ANSWER);
    c->open = false;
    free_if_over(c);
}

static enum peal_result ask(struct peal_host *host, struct forward_client *c)
{
    struct peal_text handshake = peal_handshake(host, c->socket);
    struct peal_out out;
    enum peal_result result;

    if (handshake.bytes == NULL || !forward_begin(&out, handshake.n_bytes))
        return PEAL_LIMIT;
    peal_put(&out, "[\"peal:connect\",{\"id\":");
    peal_put_string(&out, forward_id(c));
    peal_put(&out, ",\"handshake\":");
    peal_put_json(&out, handshake);
    if (c->recovered)
        peal_put(&out, ",\"recovered\":true");
    peal_put(&out, ",\"hash\":");
    peal_put_number(&out, c->hash);
    peal_put(&out, "}]");
    result = peal_cluster_emit(host, forward_nsp(c), peal_written(&out),
                               peal_policy(host, c->socket).forward_timeout_ms + LATE_MS,
                               on_connect_answer, on_connect_done, c);
    c->sent = result == PEAL_OK;
    c->open = c->sent;
    return result;
}

static void out_of_time(struct peal_host *host, void *context)
{
    struct forward_client *c = context;

    refuse_unanswered(host, c, FORWARD_NO_ANSWER);
}

/* NULL: no memory. */
static struct forward_client *client_new(struct peal_host *host, peal_socket socket)
{
    struct peal_text nsp = peal_namespace(host, socket);
    struct forward_client *c = calloc(1, sizeof *c + nsp.n_bytes);

    if (c == NULL)
        return NULL;
    c->socket = socket;
    c->why = "transport close";
    c->n_nsp = nsp.n_bytes;
    memcpy(c->nsp, nsp.bytes, nsp.n_bytes);
    (void)peal_socket_id(host, socket, c->id);
    c->hash = (uint16_t)forward_hash(forward_id(c));
    if (peal_set_pointer(host, socket, c, on_end) != PEAL_OK) {
        free(c);
        return NULL;
    }
    c->older = f.newest;
    if (c->older != NULL)
        c->older->newer = c;
    f.newest = c;
    return c;
}

static enum forward_result unasked(enum peal_result result)
{
    return result == PEAL_UNREACHABLE ? FORWARD_UNREACHABLE : FORWARD_BUSY;
}

static void begin_asking(struct peal_host *host, struct forward_client *c)
{
    enum peal_result result;

    c->timer =
        peal_timer_after(host, peal_policy(host, c->socket).forward_timeout_ms, out_of_time, c);
    if (c->recovered && peal_now_ms(host) < f.settled_at_ms + RECOVERED_MS)
        result =
            PEAL_UNREACHABLE; /* that it had left waits to be said, perhaps on another worker, and must come first */
    else
        result = c->timer == 0 ? PEAL_LIMIT : ask(host, c);
    if (result == PEAL_FULL) {
        list_add(&f.unsent, c);
        retry_later(host);
    } else if (result != PEAL_OK) {
        refuse_unanswered(host, c, unasked(result));
    }
}

void forward_on_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    struct forward_client *c = client_new(host, socket);

    (void)auth; /* the handshake has it */
    if (c != NULL)
        begin_asking(host, c);
    else
        (void)peal_refuse(host, socket, peal_text("Server is full"), absent);
}

/* Its client was told that it is back; servers have been told that it had left, or its worker died. */
enum peal_result forward_on_connection(struct peal_host *host, peal_socket socket)
{
    struct forward_client *c;

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

static void retry_unsent(struct peal_host *host, struct forward_client *c)
{
    enum peal_result result;

    if (c->state != FORWARD_ASKING) { /* refused or gone meanwhile */
        free_if_over(c);
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
        struct forward_client *c = f.farewells.first;
        enum peal_result result = say(host, c, (struct peal_text){ c->farewell, c->n_farewell });

        if (again(result))
            break;
        (void)list_take(&f.farewells);
        f.farewell_bytes -= c->n_farewell;
        free(c->farewell);
        c->farewell = NULL;
        count_farewell(host, result);
        free_if_over(c);
    }
    if (f.unsent.n > 0 || f.farewells.n > 0)
        retry_later(host);
}

/* --- beginning and end --- */

void forward_clients_start(struct peal_host *host)
{
    f.host = host;
}

/* All sockets are gone, and what is still asked is not answered any more. */
void forward_clients_stop(struct peal_host *host)
{
    for (struct forward_client *c = f.newest, *older; c != NULL; c = older) {
        older = c->older;
        if (c->farewell != NULL)
            forward_count(host, FORWARD_LOST);
        free(c->farewell);
        free(c);
    }
    f.newest = NULL;
}
