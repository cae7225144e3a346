/* app.h: writing an application for namespaces. The built-in `relay`, the demo and every module (app = module:PATH) are written on this and on nothing else.
 * README, "Write your application in C", is the tour; this is the reference.
 *
 * An application is a struct peal_app of functions. A module is a shared object that exports one named `peal_module` and needs nothing but this header;
 * its peal_* functions are the server's own. Each worker process has one instance of it, whatever the number of namespaces that name it; what it emits
 * reaches clients on all workers and hosts through the ring.
 *
 * THREADS. Peal calls an application from the worker's loop, one call at a time: handlers must not block, and one that takes over 100 ms is logged by
 * name. Every function that takes a host is for that loop's thread, but peal_post and peal_log; from another one it does nothing and answers
 * PEAL_THREAD (or false, 0, absent), and that is logged. A thread of the module's own hands its result over with peal_post.
 *
 * FULL. An append may find the ring full. Then nothing has happened. A handler that returns PEAL_FULL is called again with the same client and event in a
 * later turn, and meanwhile that client is not read: so emit first, change your own state after. Where there is nobody to call again (a callback, a
 * disconnect handler) try again from a timer. A handler whose first emit was taken gets PEAL_FULL only from a ring that is full indeed.
 *
 * STALE HANDLES. A peal_socket, a peal_ack or a peal_timer is a number and never means another one later: after its end it is answered with
 * PEAL_GONE. From `disconnecting` on a socket can be asked (id, namespace, data, rooms), but nothing can be done to it any more.
 *
 * MEMORY. Text, JSON and attachments that a handler gets are borrowed for the time of the call; so is what it passes in. What a function returns is valid
 * until the handler returns, unless it says less. JSON that comes in has been validated; JSON that goes out must be valid (it is checked).
 * Bounds are the PEAL_*_MAX below; beyond one the answer is PEAL_LIMIT. */
#ifndef PEAL_APP_H
#define PEAL_APP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEAL_APP_ABI 3

#define PEAL_SOCKET_ID_BYTES     20
#define PEAL_ATTACHMENTS_MAX     10
#define PEAL_ROOMS_MAX           1024     /* names in one call: rooms, or excepted rooms */
#define PEAL_DATA_BYTES_MAX      4096     /* of one socket's data ... */
#define PEAL_DATA_BYTES_TOTAL    67108864 /* ... and of all of a worker's */
#define PEAL_TIMERS_MAX          65536    /* armed at a time, in a worker */
#define PEAL_POSTS_MAX           4096     /* posted and not called yet */
#define PEAL_REQUESTS_MAX        16384 /* emits with acknowledgements and fetches under way, of a worker */
#define PEAL_REQUEST_BYTES_MAX   16777216 /* answers to one of them ... */
#define PEAL_REQUEST_BYTES_TOTAL 67108864 /* ... and to all of a worker's */
#define PEAL_REQUEST_TIMEOUT_MAX 300000   /* ms */
#define PEAL_ACKS_PER_SOCKET_MAX \
    1024 /* of a client's that wait for peal_reply; then its oldest is forgotten */

struct peal_host;             /* one worker, as an application sees it */
typedef uint64_t peal_socket; /* a client in a namespace; 0 = none */
typedef uint64_t
    peal_ack; /* somebody waits for an answer: a client, or another worker; 0 = nobody */
typedef uint64_t peal_timer; /* 0 = none */

enum peal_result {
    PEAL_OK = 0,
    PEAL_FULL,    /* try again later; nothing was done */
    PEAL_TOO_BIG, /* never fits: larger than a quarter of the ring, or than event_bytes_max */
    PEAL_GONE,    /* no such socket, acknowledgement (any more), or it has been answered */
    PEAL_LIMIT,   /* max_rooms_per_socket, or one of the bounds above */
    PEAL_INVALID, /* bad argument: JSON, a name over 255 bytes, a reserved event name, a time out of range */
    PEAL_THREAD,     /* not from this thread; nothing was done */
    PEAL_TIMEOUT,    /* of answers: not everybody has answered in time */
    PEAL_UNREACHABLE /* no Redis is configured, or it is away: the other servers cannot be asked */
};
const char *peal_result_name(enum peal_result result); /* "PEAL_FULL" */

/* --- text and messages --- */

struct peal_text {
    const char *bytes; /* UTF-8, not terminated; NULL = absent */
    uint32_t n_bytes;
};

static inline struct peal_text peal_text(const char *terminated)
{
    struct peal_text text = { terminated, (uint32_t)strlen(terminated) };

    return text;
}

static inline bool peal_is(struct peal_text a, const char *terminated)
{
    return a.bytes != NULL && a.n_bytes == strlen(terminated) &&
           memcmp(a.bytes, terminated, a.n_bytes) == 0;
}

/* The arguments of an event (its name first) or of an acknowledgement. What comes in can be sent on as it is, in whole or in part, and is not encoded anew:
 *
 *     struct peal_message m = event->message;      ["say","lobby","hi",{...}]
 *     m.skip = 2;                                        ["hi",{...}]
 *     m.prefix = peal_text("\"said\"");            ["said","hi",{...}]                  */
struct peal_message {
    struct peal_text json; /* an array; binary values as {"_placeholder":true,"num":0} */
    const struct peal_text *attachments; /* what the placeholders stand for */
    uint32_t n_attachments;
    uint32_t skip; /* elements that are left out at the front */
    struct peal_text
        prefix; /* values with commas between, that come before those that are left; absent: none */
};

static inline struct peal_message peal_json(const char *terminated)
{
    struct peal_message message = { peal_text(terminated), NULL, 0, 0, { NULL, 0 } };

    return message;
}

/* An event of a client, or of a server (struct peal_app, server_event). */
struct peal_event {
    struct peal_text name; /* unescaped; absent if the event's name is a number or over 255 bytes */
    struct peal_message message; /* ["name",arg,...] */
    peal_ack ack;                /* answer it with peal_reply, now or later */
};

/* Whom something is for: the sockets of a namespace, on this host and on the other servers of the cluster, that are in one of the rooms and in none of the
 * excepted ones. A socket's id is a room. */
struct peal_selector {
    const struct peal_text *rooms; /* none: everybody in the namespace */
    uint32_t n_rooms;
    const struct peal_text *except;
    uint32_t n_except;
    uint32_t flags; /* PEAL_LOCAL ... */
};
#define PEAL_LOCAL       1u /* sockets of this host only; without Redis all are */
#define PEAL_VOLATILE    2u /* not to clients that cannot take it right now */
#define PEAL_NO_COMPRESS 4u

/* What the namespace's section in the configuration allows clients. */
enum peal_publish { PEAL_PUBLISH_NONE = 0, PEAL_PUBLISH_JOINED, PEAL_PUBLISH_ANY };
struct peal_policy {
    bool client_join;
    enum peal_publish client_publish;
    uint32_t max_rooms_per_socket;
};

/* --- the application --- */

/* Any of the functions may be NULL. */
struct peal_app {
    uint32_t abi;     /* PEAL_APP_ABI */
    const char *name; /* for the log: 1 to 63 visible ASCII characters */

    /* Once in each worker, before its first client. False: this worker cannot serve, and ends; the server tries it again. */
    bool (*start)(struct peal_host *host);
    /* The worker ends in order; all its sockets are gone. Threads of the module's own must have ended when this returns. */
    void (*stop)(struct peal_host *host);

    /* A client asks to be let in (Node: middleware), with its auth payload ({} if none). Answer with peal_accept or peal_refuse, now or within
     * connect_timeout; at most 1,024 wait in a worker. NULL: everybody is accepted. */
    void (*connect)(struct peal_host *host, peal_socket socket, struct peal_text auth);
    /* It was let in, or is back after a lost connection (peal_recovered; `connect` is not called for it then). Called before its first event; what is emitted from here on reaches it behind its CONNECT packet. */
    enum peal_result (*connection)(struct peal_host *host, peal_socket socket);
    /* An event of such a client; NULL: events are ignored, and counted as unhandled. *handled is true beforehand. */
    enum peal_result (*event)(struct peal_host *host, peal_socket socket,
                              const struct peal_event *event, bool *handled);
    /* It leaves, and is in its rooms still. `reason` as Node says it: "transport close", "client namespace disconnect", ... */
    void (*disconnecting)(struct peal_host *host, peal_socket socket, const char *reason);
    /* It has left, and is in no room. Both are called for exactly those sockets that `connection` was called for (NULL: that were accepted). */
    void (*disconnect)(struct peal_host *host, peal_socket socket, const char *reason);

    /* peal_server_emit of this application, on worker `from`; or, with PEAL_FROM_CLUSTER, what another server of the cluster emitted to all (Node:
     * io.of(nsp).serverSideEmit; peal_cluster_emit), on every worker. In the order of the ring. Of the workers of this host the first that answers
     * event->ack answers the cluster, with one value; attachments may come. False: the event is none of this application's, and nobody is to wait for this
     * worker's answer; where all workers say so, the cluster is answered at once, with null. */
    bool (*server_event)(struct peal_host *host, struct peal_text nsp, uint32_t from,
                         const struct peal_event *event);
    /* Once a second. */
    void (*second)(struct peal_host *host);
};

#define PEAL_FROM_CLUSTER UINT32_MAX /* server_event: not from a worker of this host */

/* What a module exports: `const struct peal_app peal_module = { .abi = PEAL_APP_ABI, .name = "mine", ... };` */
extern __attribute__((visibility("default"))) const struct peal_app peal_module;

/* --- answers to `connect` --- */

/* Accepts, and joins these rooms before anything else reaches the client. PEAL_FULL: too much is under way in this turn; refuse, or try from a timer. */
enum peal_result peal_accept(struct peal_host *host, peal_socket socket,
                             const struct peal_text *rooms, uint32_t n_rooms);
/* CONNECT_ERROR {"message":message,"data":data}; `data` is JSON or absent. */
enum peal_result peal_refuse(struct peal_host *host, peal_socket socket, struct peal_text message,
                             struct peal_text data);

/* --- a socket --- */

enum peal_result peal_socket_id(struct peal_host *host, peal_socket socket,
                                char id[PEAL_SOCKET_ID_BYTES]);
/* The socket of this worker with that id in that namespace; 0: none, or on another worker. */
peal_socket peal_find(struct peal_host *host, struct peal_text nsp, struct peal_text id);
struct peal_text peal_namespace(struct peal_host *host, peal_socket socket);
struct peal_text peal_auth(struct peal_host *host, peal_socket socket); /* {} if none */
/* Node's handshake object: headers, time, address, xdomain, secure, issued, url, query, auth; how many headers: the key fetch_handshake. Valid until
 * peal_handshake is called again. */
struct peal_text peal_handshake(struct peal_host *host, peal_socket socket);
struct peal_policy peal_policy(struct peal_host *host, peal_socket socket);

/* PEAL_LIMIT: max_rooms_per_socket. A join is in force for everything that is emitted after it. */
enum peal_result peal_join(struct peal_host *host, peal_socket socket,
                           const struct peal_text *rooms, uint32_t n_rooms);
enum peal_result peal_leave(struct peal_host *host, peal_socket socket,
                            const struct peal_text *rooms, uint32_t n_rooms);
/* Is it back after a lost connection (`recovery`), in the rooms that it was in, with its id? What it missed has been sent to it. Its data and pointer are
 * not kept. */
bool peal_recovered(struct peal_host *host, peal_socket socket);
bool peal_in_room(struct peal_host *host, peal_socket socket, struct peal_text room);
/* The rooms it is in (without that of its own id, and without joins and leaves of this very turn); at most `max` are written, the number of all is
 * returned. Valid until one is left. */
uint32_t peal_rooms(struct peal_host *host, peal_socket socket, struct peal_text *rooms,
                    uint32_t max);
/* Takes it out of its namespace, at once. `close`: all its client's namespaces, and the connection, when the handler has returned. */
enum peal_result peal_disconnect(struct peal_host *host, peal_socket socket, bool close);

/* Two things can be kept with a socket. Data is one JSON value (of at most PEAL_DATA_BYTES_MAX) that PEAL_FETCH_SOCKETS shows to every worker and every
 * Node server of the cluster; absent = {}. It is copied. A pointer is this worker's own; `release` (may be NULL) is called with it when it is replaced and
 * when the socket ends, accepted or not, after `disconnect`. */
enum peal_result peal_set_data(struct peal_host *host, peal_socket socket, struct peal_text json);
struct peal_text peal_data(struct peal_host *host, peal_socket socket);
enum peal_result peal_set_pointer(struct peal_host *host, peal_socket socket, void *pointer,
                                  void (*release)(void *pointer));
void *peal_pointer(struct peal_host *host, peal_socket socket);

/* --- messages --- */

/* Emits to the sockets of the namespace that the selector names, on all workers and hosts. */
enum peal_result peal_emit(struct peal_host *host, struct peal_text nsp,
                           const struct peal_selector *to, struct peal_message message);
/* To one socket. */
enum peal_result peal_send(struct peal_host *host, peal_socket socket, struct peal_message message);
/* Answers an acknowledgement; goes behind everything that was emitted before. Once: then PEAL_GONE. PEAL_OK if `ack` is 0. A client's may be answered from
 * peal_post or a timer as well, as long as the client is there. */
enum peal_result peal_reply(struct peal_host *host, peal_ack ack, struct peal_message message);

/* What a request brought. Called once, in a later turn, never from within the function that began it. A request to the cluster never fails as a whole: what
 * came in time is here, and how many of the other servers were silent. */
struct peal_answers {
    /* PEAL_OK: complete. PEAL_TIMEOUT: what came in time. PEAL_GONE: a worker died, its part is missing. PEAL_UNREACHABLE: Redis is away or went away, parts of
     * other servers are missing. PEAL_TOO_BIG: PEAL_REQUEST_BYTES_MAX or _TOTAL; the rest was left out. The first of these that is so. */
    enum peal_result result;
    const struct peal_message *messages;
    uint32_t n_messages;
    uint32_t n_expected; /* sockets or workers that were asked, as far as is known */
    uint32_t n_servers;  /* other servers of the cluster that were asked; 0 if Redis has not told */
    uint32_t n_silent;   /* of them those that have not answered */
    /* Who they may be: their uids in the cluster (a Peal host logs its own as event=cluster_uid; a Node server's is io.of(nsp).adapter.uid). Redis knows who is
     * there, and Peal hosts say in their answers who they are. Exactly n_silent of them: it is these. More: it is some of these, the others are Node servers
     * that have answered. Fewer: a server has left meanwhile. At most 64. */
    const struct peal_text *silent;
    uint32_t n_silent_names;
};
typedef void (*peal_answers_fn)(struct peal_host *host, void *context,
                                const struct peal_answers *answers);

/* Emits, and gathers what the clients' acknowledgements were called with: a message for each, in the order in which they came; of a client of another server it
 * is its first value. timeout_ms: 1 to PEAL_REQUEST_TIMEOUT_MAX; where servers are silent up to 1.2 s more. */
enum peal_result peal_emit_ack(struct peal_host *host, struct peal_text nsp,
                               const struct peal_selector *to, struct peal_message message,
                               uint32_t timeout_ms, peal_answers_fn answers, void *context);
/* The same to one socket: one message; or none, and PEAL_TIMEOUT, or PEAL_GONE if it left before it was asked. */
enum peal_result peal_send_ack(struct peal_host *host, peal_socket socket,
                               struct peal_message message, uint32_t timeout_ms,
                               peal_answers_fn answers, void *context);

/* --- all workers of this host --- */

/* Emits to this application's server_event on all other workers (Node: serverSideEmit), and with `self` on this one, too: all workers then see all such events
 * in one order. `answers` (may be NULL): each of those workers answers event->ack with peal_reply. No attachments. */
enum peal_result peal_server_emit(struct peal_host *host, struct peal_text nsp,
                                  struct peal_message message, bool self, uint32_t timeout_ms,
                                  peal_answers_fn answers, void *context);

/* --- the other servers of the cluster --- */

/* Is there a Redis, and are both connections to it up, with their subscriptions? Costs a read of shared memory. */
bool peal_cluster_reachable(const struct peal_host *host);

/* An answer, as it came: an array of the one value that a Node server's listener gave to its callback, or that a Peal host's application answered with; empty
 * if there was none. Binary is an attachment if a Peal host sent it; Node servers send it as {"type":"Buffer","data":[...]}, which is handed out as it is.
 * False: no more answers are wanted, and `done` is called. */
typedef bool (*peal_cluster_answer_fn)(struct peal_host *host, void *context,
                                       const struct peal_message *answer);
/* Called once, last. PEAL_OK: all that were asked have answered, or `answer` said that no more is wanted. PEAL_TIMEOUT. PEAL_UNREACHABLE: Redis went away, or the
 * process that speaks with it. PEAL_TOO_BIG: all have answered, but one answer did not fit into the ring. PEAL_LIMIT: too many are under way on this host.
 * `n_expected`: how many servers were asked, as far as is known: Redis counts them. */
typedef void (*peal_cluster_done_fn)(struct peal_host *host, void *context, enum peal_result result,
                                     uint32_t n_answers, uint32_t n_expected);

/* Emits to the other servers of the cluster (Node: io.of(nsp).serverSideEmit): Node servers hear it as io.of(nsp).on(event), the applications of Peal hosts as
 * server_event with PEAL_FROM_CLUSTER. Not to this host's workers (peal_server_emit), nor to clients (peal_emit). `nsp` must be a namespace of this host.
 * `answer` NULL: no answers are asked for, and `done` is not called; timeout_ms does not count then. Else both are called in later turns, timeout_ms is 1 to
 * PEAL_REQUEST_TIMEOUT_MAX, and 128 ms more may pass. What one worker emits reaches each server in that order. At most once: what is emitted while Redis goes
 * away may be lost, and is not repeated. PEAL_UNREACHABLE: nothing was sent. */
enum peal_result peal_cluster_emit(struct peal_host *host, struct peal_text nsp,
                                   struct peal_message message, uint32_t timeout_ms,
                                   peal_cluster_answer_fn answer, peal_cluster_done_fn done,
                                   void *context);

/* --- questions and changes --- */

/* Asks all workers and all other servers about the sockets that are selected (Node: fetchSockets, and the adapter's allRooms). The answer is one message.
 * Waits for redis_request_timeout at most, and where servers are silent up to 1.2 s more. */
enum peal_fetch {
    PEAL_FETCH_SOCKETS = 0, /* [{"id","handshake","rooms","data"},...] */
    PEAL_FETCH_IDS,         /* ["id",...] */
    PEAL_FETCH_COUNT,       /* [number] */
    PEAL_FETCH_ROOMS /* ["room",...] of the whole namespace, each once, in no order, sockets' ids among them; of the selector only the flags count */
};
enum peal_result peal_fetch(struct peal_host *host, struct peal_text nsp,
                            const struct peal_selector *to, enum peal_fetch what,
                            peal_answers_fn answers, void *context);

/* Node: socketsJoin, socketsLeave, disconnectSockets. On this host in the order of the ring, on the other servers in the order of the wire: a broadcast of this
 * worker that follows finds them done everywhere. While Redis is away they wait as broadcasts do (redis_buffer_age). */
enum peal_result peal_sockets_join(struct peal_host *host, struct peal_text nsp,
                                   const struct peal_selector *to, const struct peal_text *rooms,
                                   uint32_t n_rooms);
enum peal_result peal_sockets_leave(struct peal_host *host, struct peal_text nsp,
                                    const struct peal_selector *to, const struct peal_text *rooms,
                                    uint32_t n_rooms);
enum peal_result peal_sockets_disconnect(struct peal_host *host, struct peal_text nsp,
                                         const struct peal_selector *to, bool close);

/* --- time and threads --- */

typedef void (*peal_fn)(struct peal_host *host, void *context);

/* Calls after `ms`, once or again and again: never early, up to 128 ms late. 0: PEAL_TIMERS_MAX are armed. Cancelling one that is over does nothing. */
peal_timer peal_timer_after(struct peal_host *host, uint32_t ms, peal_fn fn, void *context);
peal_timer peal_timer_every(struct peal_host *host, uint32_t ms, peal_fn fn, void *context);
void peal_timer_cancel(struct peal_host *host, peal_timer timer);

/* From any thread of this process: calls `fn` soon, in the worker's loop, in the order in which they were posted. PEAL_FULL: PEAL_POSTS_MAX wait. */
enum peal_result peal_post(struct peal_host *host, peal_fn fn, void *context);

/* --- the host --- */

uint32_t peal_worker(const struct peal_host *host); /* its number, from 0 */
uint64_t peal_now_ms(
    const struct peal_host *host); /* the time of this turn: monotonic, not the calendar's */
/* Sockets of this worker in the namespace. */
uint32_t peal_count(struct peal_host *host, struct peal_text nsp);
enum peal_stat {
    PEAL_STAT_CONNECTIONS = 0,
    PEAL_STAT_DELIVERIES,
    PEAL_STAT_MESSAGES,
    PEAL_STAT_WORKERS
};
uint64_t peal_stat(struct peal_host *host, enum peal_stat which); /* of the whole machine */

/* event=app in the server's log, cut at 1 KB; from any thread (from another one it is posted, and lost where peal_post would answer PEAL_FULL). */
enum peal_level { PEAL_DEBUG = 0, PEAL_INFO, PEAL_WARNING, PEAL_ERROR };
void peal_log(struct peal_host *host, enum peal_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Has the room's name the form of a socket's id? By form, not by look-up: sockets of other hosts are not in our tables. */
bool peal_is_socket_id(struct peal_text room);
/* May neither come from a client nor be emitted: connect, disconnect, ... */
bool peal_event_reserved(struct peal_text name);

/* --- reading JSON: no trees, no allocation, any thread; what is read must be valid --- */

enum peal_kind { PEAL_NULL = 0, PEAL_BOOL, PEAL_NUMBER, PEAL_STRING, PEAL_ARRAY, PEAL_OBJECT };
struct peal_value {
    struct peal_text json; /* as it stands there; strings with their quotes */
    enum peal_kind kind;
};

/* Is it one JSON value? For text that comes from elsewhere. `value` may be NULL. */
bool peal_valid(struct peal_text json, struct peal_value *value);

/* Goes through an array, or the members of an object.
 *
 *     struct peal_iter it = peal_iterate(event->message.json);
 *     while (peal_next(&it, NULL, &value)) ...                                               */
struct peal_iter {
    const char *_at;
    const char *_end;
};
struct peal_iter peal_iterate(struct peal_text array_or_object);
/* `key` (may be NULL): an object's member's name with its quotes, as JSON. */
bool peal_next(struct peal_iter *it, struct peal_text *key, struct peal_value *value);

/* Element `i` of an array; of an event's message 0 is the name and 1 the first argument. False: there is none. */
bool peal_element(struct peal_text array, uint32_t i, struct peal_value *value);
/* The member of an object with that name. False: there is none, or it is no object. */
bool peal_member(struct peal_value object, const char *name, struct peal_value *value);

/* A string's text, unescaped. Returns the bytes that it has in all; more than `max` means that it was cut (nothing is ever terminated). 0 if it is no string. */
uint32_t peal_string(struct peal_value value, char *out, uint32_t max);
/* The same as borrowed text in `out`; false: no string, or longer than `max`. */
bool peal_take_string(struct peal_value value, char *out, uint32_t max, struct peal_text *text);
double peal_number(struct peal_value value); /* 0 if it is no number */
bool peal_true(struct peal_value value);     /* is it `true`? */
/* The bytes that a binary argument of the message stands for; false: it is not binary. */
bool peal_binary(const struct peal_message *message, struct peal_value value,
                 struct peal_text *bytes);

/* --- writing JSON into a buffer of yours; what does not fit is left out, and `too_big` says so --- */

struct peal_out {
    char *bytes;
    uint32_t max;
    uint32_t n_bytes;
    bool too_big;
};
static inline struct peal_out peal_out(char *bytes, uint32_t max)
{
    struct peal_out out = { bytes, max, 0, false };

    return out;
}
void peal_put(struct peal_out *out,
              const char *terminated); /* as it is: brackets, commas, literals */
void peal_put_json(struct peal_out *out, struct peal_text json);   /* as it is */
void peal_put_string(struct peal_out *out, struct peal_text text); /* with quotes and escapes */
void peal_put_number(struct peal_out *out, double number);
/* The message that was written. Its json is absent, which every sender refuses as PEAL_INVALID, if it was too big. */
struct peal_message peal_written(const struct peal_out *out);

#ifdef __cplusplus
}
#endif

#endif
