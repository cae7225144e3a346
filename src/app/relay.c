/* relay.c: join, leave, publish; each with an acknowledgement {"ok":true} or {"ok":false,"error":"..."}. Uses include/peal/app.h only.
 *
 * Whatever the policy, refused are: rooms that have the form of a socket's id (each socket is in the room of its own id, and a client must not reach
 * others' private rooms), event names that are reserved or no strings, names over 255 bytes. */
#include "app/relay.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"

#define NAME_MAX_BYTES 255
#define ROOMS_MAX      1024

/* Room names of one call, unescaped. */
struct rooms {
    struct peal_text names[ROOMS_MAX];
    char text[ROOMS_MAX * (NAME_MAX_BYTES + 1)];
    uint32_t n;
};

static struct slice slice_from(struct peal_text t)
{
    return (struct slice){ t.bytes, t.n_bytes };
}

static enum peal_result answer(struct peal_host *host, peal_socket socket, peal_ack ack,
                               const char *error)
{
    char json[512];

    if (ack == 0)
        return PEAL_OK;
    if (error == NULL)
        snprintf(json, sizeof json, "[{\"ok\":true}]");
    else
        snprintf(json, sizeof json, "[{\"ok\":false,\"error\":\"%s\"}]", error);
    return peal_reply(host, socket, ack, (struct peal_text){ json, (uint32_t)strlen(json) });
}

/* Adds one name; NULL, or what is wrong with it (plain text, fit for JSON). */
static const char *add_room(struct rooms *r, struct slice string, uint32_t max)
{
    char *to = r->text + (size_t)r->n * (NAME_MAX_BYTES + 1);
    uint32_t n_bytes;

    if (r->n == max || r->n == ROOMS_MAX)
        return "too many rooms (max_rooms_per_socket)";
    n_bytes = json_unescape(string, to, NAME_MAX_BYTES + 1);
    if (n_bytes > NAME_MAX_BYTES)
        return "room name over 255 bytes";
    r->names[r->n] = (struct peal_text){ to, n_bytes };
    if (peal_is_socket_id(r->names[r->n]))
        return "room has the form of a socket id";
    r->n++;
    return NULL;
}

static const char *read_rooms(struct rooms *r, struct slice value, enum json_kind kind,
                              uint32_t max)
{
    struct json_iter it;
    struct slice key;
    struct slice item;
    enum json_kind item_kind;

    r->n = 0;
    if (kind == JSON_STRING)
        return add_room(r, value, max);
    if (kind != JSON_ARRAY)
        return "room must be a string or an array of strings";
    it = json_iter_open(value);
    while (json_iter_next(&it, &key, &item, &item_kind)) {
        const char *wrong = item_kind == JSON_STRING
                                ? add_room(r, item, max)
                                : "room must be a string or an array of strings";

        if (wrong != NULL)
            return wrong;
    }
    return r->n == 0 ? "no room given" : NULL;
}

static enum peal_result on_membership(struct peal_host *host, peal_socket socket,
                                      const struct peal_event *event, struct rooms *rooms,
                                      bool join)
{
    enum peal_result result = join ? peal_join(host, socket, rooms->names, rooms->n)
                                   : peal_leave(host, socket, rooms->names, rooms->n);

    switch (result) {
    case PEAL_OK: return answer(host, socket, event->ack, NULL);
    case PEAL_LIMIT:
        return answer(host, socket, event->ack, "too many rooms (max_rooms_per_socket)");
    case PEAL_INVALID: return answer(host, socket, event->ack, "invalid room");
    case PEAL_FULL:
    case PEAL_TOO_BIG:
    case PEAL_GONE: break;
    }
    return result;
}

/* The event to be published: a string, not reserved, not too long. */
static const char *check_event_name(struct slice value, enum json_kind kind)
{
    char name[NAME_MAX_BYTES + 1];
    uint32_t n_bytes;

    if (kind != JSON_STRING)
        return "event must be a string";
    n_bytes = json_unescape(value, name, sizeof name);
    if (n_bytes > NAME_MAX_BYTES)
        return "event name over 255 bytes";
    return peal_event_reserved((struct peal_text){ name, n_bytes }) ? "event name is reserved"
                                                                    : NULL;
}

static const char *check_publish(struct peal_host *host, peal_socket socket,
                                 const struct peal_policy *policy, const struct rooms *rooms)
{
    if (policy->client_publish == PEAL_PUBLISH_ANY)
        return NULL;
    for (uint32_t i = 0; i < rooms->n; i++)
        if (!peal_in_room(host, socket, rooms->names[i]))
            return "not in the room (client_publish = joined)";
    return NULL;
}

static enum peal_result on_publish(struct peal_host *host, peal_socket socket,
                                   const struct peal_event *event, const struct rooms *rooms)
{
    char id[PEAL_SOCKET_ID_BYTES];
    struct peal_text self = { id, sizeof id };
    struct peal_selector to = {
        .rooms = rooms->names, .n_rooms = rooms->n, .except = &self, .n_except = 1
    };
    enum peal_result result = peal_socket_id(host, socket, id);

    if (result != PEAL_OK)
        return result;
    result = peal_forward(host, peal_namespace(host, socket), &to, event, 2);
    if (result == PEAL_OK)
        return answer(host, socket, event->ack, NULL);
    if (result == PEAL_INVALID)
        return answer(host, socket, event->ack, "invalid event");
    return result;
}

/* What follows the event's name. */
static struct json_iter arguments(const struct peal_event *event)
{
    struct json_iter it = json_iter_open(slice_from(event->json));
    struct slice key;
    struct slice value;
    enum json_kind kind;
    bool named = json_iter_next(&it, &key, &value, &kind);

    assert(named); /* what has no name does not decode */
    return it;
}

static enum peal_result relay_event(struct peal_host *host, peal_socket socket,
                                    const struct peal_event *event, bool *handled)
{
    static struct rooms
        rooms; /* scratch: 260 KB, too much for the stack; a worker has one thread, and nothing outlives the call */
    struct peal_policy policy = peal_policy(host, socket);
    bool join = slice_is(slice_from(event->name), "join");
    bool leave = slice_is(slice_from(event->name), "leave");
    struct json_iter it = arguments(event);
    struct slice key;
    struct slice value;
    enum json_kind kind;
    const char *wrong = NULL;

    if (!join && !leave && !slice_is(slice_from(event->name), "publish")) {
        *handled = false;
        return PEAL_OK;
    }
    /* leaving, too: who was put into a room by a back end does not take itself out */
    if ((join || leave) && !policy.client_join)
        return answer(host, socket, event->ack,
                      "joining and leaving are not allowed here (client_join = no)");
    if (!join && !leave && policy.client_publish == PEAL_PUBLISH_NONE)
        return answer(host, socket, event->ack,
                      "publishing is not allowed here (client_publish = none)");
    if (!json_iter_next(&it, &key, &value, &kind))
        return answer(host, socket, event->ack, "no room given");
    wrong = read_rooms(&rooms, value, kind, policy.max_rooms_per_socket);
    if (wrong != NULL)
        return answer(host, socket, event->ack, wrong);
    if (join || leave)
        return on_membership(host, socket, event, &rooms, join);
    if (!json_iter_next(&it, &key, &value, &kind))
        return answer(host, socket, event->ack, "no event given");
    wrong = check_event_name(value, kind);
    if (wrong == NULL)
        wrong = check_publish(host, socket, &policy, &rooms);
    if (wrong != NULL)
        return answer(host, socket, event->ack, wrong);
    return on_publish(host, socket, event, &rooms);
}

const struct peal_app relay_app = { .abi = PEAL_APP_ABI, .name = "relay", .event = relay_event };

/* --- the demo page's namespace: relay, and what the page shows of the server --- */

static void worker_room(const struct peal_host *host, char *name, uint32_t max)
{
    snprintf(name, max, "worker %u", peal_worker(host));
}

static void demo_connect(struct peal_host *host, peal_socket socket, struct peal_text auth)
{
    char name[32];
    struct peal_text room = { name, 0 };

    (void)auth;
    worker_room(host, name, sizeof name);
    room.n_bytes = (uint32_t)strlen(name);
    if (peal_accept(host, socket, &room, 1) == PEAL_FULL)
        (void)peal_refuse(host, socket, (struct peal_text){ "busy", 4 },
                          (struct peal_text){ NULL, 0 });
}

/* Back on another worker, perhaps: the page shows the one that it is on. */
static void demo_recovered(struct peal_host *host, peal_socket socket)
{
    char name[32];
    struct peal_text room = { name, 0 };

    for (uint64_t i = 0; i < peal_stat(host, PEAL_STAT_WORKERS); i++) {
        snprintf(name, sizeof name, "worker %llu", (unsigned long long)i);
        room.n_bytes = (uint32_t)strlen(name);
        if (i == peal_worker(host))
            (void)peal_join(host, socket, &room, 1); /* full: no counters for this one */
        else
            (void)peal_leave(host, socket, &room, 1);
    }
}

static void demo_second(struct peal_host *host)
{
    static const struct peal_text nsp = { "/demo", 5 };
    struct peal_selector to = { .n_rooms = 1, .flags = PEAL_LOCAL };
    char name[32];
    char json[256];
    struct peal_text room = { name, 0 };

    if (peal_count(host, nsp) == 0)
        return;
    worker_room(host, name, sizeof name);
    room.n_bytes = (uint32_t)strlen(name);
    to.rooms = &room;
    snprintf(json, sizeof json,
             "[\"stats\",{\"worker\":%u,\"workers\":%llu,\"connections\":%llu,\"deliveries\":%llu,"
             "\"messages\":%llu}]",
             peal_worker(host), (unsigned long long)peal_stat(host, PEAL_STAT_WORKERS),
             (unsigned long long)peal_stat(host, PEAL_STAT_CONNECTIONS),
             (unsigned long long)peal_stat(host, PEAL_STAT_DELIVERIES),
             (unsigned long long)peal_stat(host, PEAL_STAT_MESSAGES));
    /* a full ring: the next second will do */
    (void)peal_emit(host, nsp, &to, (struct peal_text){ json, (uint32_t)strlen(json) }, NULL, 0);
}

const struct peal_app demo_app = {
    .abi = PEAL_APP_ABI,
    .name = "demo",
    .connect = demo_connect,
    .recovered = demo_recovered,
    .event = relay_event,
    .second = demo_second,
};
