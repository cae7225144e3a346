/* relay.c: join, leave, publish; each with an acknowledgement {"ok":true} or {"ok":false,"error":"..."}. Uses include/peal/app.h only.
 *
 * Whatever the policy, refused are: rooms that have the form of a socket's id (each socket is in the room of its own id, and a client must not reach
 * others' private rooms), event names that are reserved or no strings, names over 255 bytes. */
#include "app/relay.h"

#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 255
#define ROOMS_MAX      1024

/* Room names of one call, unescaped. */
struct rooms {
    struct peal_text names[ROOMS_MAX];
    char text[ROOMS_MAX * NAME_MAX_BYTES];
    uint32_t n;
};

static enum peal_result answer(struct peal_host *host, peal_ack ack, const char *error)
{
    char json[512];

    if (ack == 0)
        return PEAL_OK;
    if (error == NULL)
        snprintf(json, sizeof json, "[{\"ok\":true}]");
    else
        snprintf(json, sizeof json, "[{\"ok\":false,\"error\":\"%s\"}]", error);
    return peal_reply(host, ack, peal_json(json));
}

/* Adds one name; NULL, or what is wrong with it (plain text, fit for JSON). */
static const char *add_room(struct rooms *r, struct peal_value string, uint32_t max)
{
    char *to = r->text + (size_t)r->n * NAME_MAX_BYTES;

    if (r->n == max || r->n == ROOMS_MAX)
        return "too many rooms (max_rooms_per_socket)";
    if (!peal_take_string(string, to, NAME_MAX_BYTES, &r->names[r->n]))
        return "room name over 255 bytes";
    if (peal_is_socket_id(r->names[r->n]))
        return "room has the form of a socket id";
    r->n++;
    return NULL;
}

static const char *read_rooms(struct rooms *r, struct peal_value value, uint32_t max)
{
    struct peal_iter it;
    struct peal_value item;

    r->n = 0;
    if (value.kind == PEAL_STRING)
        return add_room(r, value, max);
    if (value.kind != PEAL_ARRAY)
        return "room must be a string or an array of strings";
    it = peal_iterate(value.json);
    while (peal_next(&it, NULL, &item)) {
        const char *wrong = item.kind == PEAL_STRING
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
    case PEAL_OK: return answer(host, event->ack, NULL);
    case PEAL_LIMIT: return answer(host, event->ack, "too many rooms (max_rooms_per_socket)");
    case PEAL_INVALID: return answer(host, event->ack, "invalid room");
    case PEAL_FULL:
    case PEAL_TOO_BIG:
    case PEAL_GONE:
    case PEAL_THREAD:
    case PEAL_TIMEOUT:
    case PEAL_UNREACHABLE: break;
    }
    return result;
}

/* The event to be published: a string, not reserved, not too long. */
static const char *check_event_name(struct peal_value value)
{
    char bytes[NAME_MAX_BYTES];
    struct peal_text name;

    if (value.kind != PEAL_STRING)
        return "event must be a string";
    if (!peal_take_string(value, bytes, sizeof bytes, &name))
        return "event name over 255 bytes";
    return peal_event_reserved(name) ? "event name is reserved" : NULL;
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
    struct peal_message message = event->message;
    enum peal_result result = peal_socket_id(host, socket, id);

    if (result != PEAL_OK)
        return result;
    message.skip = 2; /* "publish" and the rooms */
    result = peal_emit(host, peal_namespace(host, socket), &to, message);
    if (result == PEAL_OK)
        return answer(host, event->ack, NULL);
    if (result == PEAL_INVALID)
        return answer(host, event->ack, "invalid event");
    return result;
}

static enum peal_result relay_event(struct peal_host *host, peal_socket socket,
                                    const struct peal_event *event, bool *handled)
{
    static struct rooms
        rooms; /* scratch: 260 KB, too much for the stack; a worker has one thread, and nothing outlives the call */
    struct peal_policy policy = peal_policy(host, socket);
    bool join = peal_is(event->name, "join");
    bool leave = peal_is(event->name, "leave");
    struct peal_value value;
    const char *wrong = NULL;

    if (!join && !leave && !peal_is(event->name, "publish")) {
        *handled = false;
        return PEAL_OK;
    }
    /* leaving, too: who was put into a room by a back end does not take itself out */
    if ((join || leave) && !policy.client_join)
        return answer(host, event->ack,
                      "joining and leaving are not allowed here (client_join = no)");
    if (!join && !leave && policy.client_publish == PEAL_PUBLISH_NONE)
        return answer(host, event->ack, "publishing is not allowed here (client_publish = none)");
    if (!peal_element(event->message.json, 1, &value))
        return answer(host, event->ack, "no room given");
    wrong = read_rooms(&rooms, value, policy.max_rooms_per_socket);
    if (wrong != NULL)
        return answer(host, event->ack, wrong);
    if (join || leave)
        return on_membership(host, socket, event, &rooms, join);
    if (!peal_element(event->message.json, 2, &value))
        return answer(host, event->ack, "no event given");
    wrong = check_event_name(value);
    if (wrong == NULL)
        wrong = check_publish(host, socket, &policy, &rooms);
    if (wrong != NULL)
        return answer(host, event->ack, wrong);
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
static enum peal_result demo_connection(struct peal_host *host, peal_socket socket)
{
    char name[32];
    struct peal_text room = { name, 0 };

    for (uint64_t i = 0; peal_recovered(host, socket) && i < peal_stat(host, PEAL_STAT_WORKERS);
         i++) {
        snprintf(name, sizeof name, "worker %llu", (unsigned long long)i);
        room.n_bytes = (uint32_t)strlen(name);
        if (i == peal_worker(host))
            (void)peal_join(host, socket, &room, 1); /* full: no counters for this one */
        else
            (void)peal_leave(host, socket, &room, 1);
    }
    return PEAL_OK;
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
    (void)peal_emit(host, nsp, &to, peal_json(json));
}

const struct peal_app demo_app = {
    .abi = PEAL_APP_ABI,
    .name = "demo",
    .connect = demo_connect,
    .connection = demo_connection,
    .event = relay_event,
    .second = demo_second,
};
