/* conformance.c: the application that Socket.IO's own test suite wants of a server, and a first example of a module.
 *
 *     on connection           emits `auth` with the client's auth payload
 *     `message`, ...args      emits `message-back`, ...args
 *     `message-with-ack`      acknowledges with the arguments
 *     `join`, room            joins it; an empty acknowledgement
 *     `leave`, room           leaves it; an empty acknowledgement
 *     `to`, room, ...args     emits ...args (an event and its arguments) to all of the room, the sender included
 *
 * Build:  gcc -std=c11 -shared -fPIC -o conformance.so conformance.c
 * Use:    peal serve --namespace:/:app=module:./conformance.so --namespace:/custom:app=module:./conformance.so */
#include <peal/app.h>

#define NAME_MAX_BYTES 255
#define AUTH_MAX       65536

/* Emits first, and that is all: when the ring is full, PEAL_FULL says so and Peal calls again. */
static enum peal_result on_connection(struct peal_host *host, peal_socket socket)
{
    static char text[AUTH_MAX]; /* a worker has one thread for us, and nothing outlives the call */
    struct peal_out out = peal_out(text, sizeof text);

    peal_put(&out, "[\"auth\",");
    peal_put_json(&out, peal_auth(host, socket));
    peal_put(&out, "]");
    return peal_send(host, socket, peal_written(&out));
}

/* The first argument as a room's name; false: it is no string, or too long. */
static bool room_of(const struct peal_event *event, char *bytes, struct peal_text *room)
{
    struct peal_value value;

    return peal_element(event->message.json, 1, &value) &&
           peal_take_string(value, bytes, NAME_MAX_BYTES, room);
}

static enum peal_result on_membership(struct peal_host *host, peal_socket socket,
                                      const struct peal_event *event, bool join)
{
    char bytes[NAME_MAX_BYTES];
    struct peal_text room;
    enum peal_result result;

    if (!room_of(event, bytes, &room))
        return PEAL_OK;
    result = join ? peal_join(host, socket, &room, 1) : peal_leave(host, socket, &room, 1);
    return result == PEAL_OK ? peal_reply(host, event->ack, peal_json("[]")) : result;
}

static enum peal_result on_event(struct peal_host *host, peal_socket socket,
                                 const struct peal_event *event, bool *handled)
{
    struct peal_message message = event->message;

    if (peal_is(event->name, "message")) {
        message.skip = 1; /* the name goes, the arguments stay as they came, attachments and all */
        message.prefix = peal_text("\"message-back\"");
        return peal_send(host, socket, message);
    }
    if (peal_is(event->name, "message-with-ack")) {
        message.skip = 1;
        return peal_reply(host, event->ack, message);
    }
    if (peal_is(event->name, "join"))
        return on_membership(host, socket, event, true);
    if (peal_is(event->name, "leave"))
        return on_membership(host, socket, event, false);
    if (peal_is(event->name, "to")) {
        char bytes[NAME_MAX_BYTES];
        struct peal_text room;
        struct peal_selector to = { .rooms = &room, .n_rooms = 1 };

        if (!room_of(event, bytes, &room))
            return PEAL_OK;
        message.skip = 2;
        return peal_emit(host, peal_namespace(host, socket), &to, message);
    }
    *handled = false;
    return PEAL_OK;
}

const struct peal_app peal_module = {
    .abi = PEAL_APP_ABI,
    .name = "conformance",
    .connection = on_connection,
    .event = on_event,
};
