/* forward.c: what clients do goes to the Node servers of the cluster as peal:connect, peal:event and peal:disconnect; their answers decide and acknowledge; what
 * they say of a client (peal:data) is kept. Uses include/peal/app.h, and a counter.
 *
 * Order: an event is handed on before the client's next one is read (PEAL_FULL), and one worker's emits keep their order. */
#include "app/forward.h"

#include <stdlib.h>

#include "app/forward_state.h"

/* One instance in a worker. */
static struct {
    char *text; /* messages to servers; grows to the longest */
    uint32_t text_max;
} f;

/* --- messages --- */

uint32_t forward_hash(struct peal_text id)
{
    uint32_t hash = 2166136261u;

    for (uint32_t i = 0; i < id.n_bytes; i++)
        hash = (hash ^ (uint8_t)id.bytes[i]) * 16777619u;
    return (hash ^ hash >> 16) & 1023;
}

void forward_put_end(struct peal_out *out, struct peal_text data, uint32_t hash)
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
    forward_put_end(out, data, forward_hash(id));
}

bool forward_begin(struct peal_out *out, uint64_t n_bytes)
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

/* --- peal:data --- */

/* Every worker hears it; one has the socket. */
static bool on_server_event(struct peal_host *host, struct peal_text nsp, uint32_t from,
                            const struct peal_event *event)
{
    char text[PEAL_SOCKET_ID_BYTES];
    struct peal_text id;
    struct peal_value object;
    struct peal_value value;
    const struct forward_client *c;
    peal_socket socket;

    if (from != PEAL_FROM_CLUSTER || !peal_is(event->name, "peal:data") ||
        !peal_element(event->message.json, 1, &object) || !peal_member(object, "id", &value) ||
        !peal_take_string(value, text, sizeof text, &id))
        return false;
    socket = peal_find(host, nsp, id);
    c = socket == 0 ? NULL : peal_pointer(host, socket);
    if (c == NULL || c->state != FORWARD_IN)
        return false;
    if (!peal_member(object, "data", &value) || peal_set_data(host, socket, value.json) != PEAL_OK)
        forward_count(host, FORWARD_BAD_DATA);
    return false; /* nobody is to wait for an answer to it */
}

/* --- beginning and end --- */

static bool start(struct peal_host *host)
{
    forward_clients_start(host);
    return forward_events_start();
}

static void stop(struct peal_host *host)
{
    forward_clients_stop(host);
    forward_events_stop();
    free(f.text);
}

const struct peal_app forward_app = {
    .abi = PEAL_APP_ABI,
    .name = "forward",
    .start = start,
    .stop = stop,
    .connect = forward_on_connect,
    .connection = forward_on_connection,
    .event = forward_on_event,
    .disconnect = forward_on_disconnect,
    .server_event = on_server_event,
    .second = forward_on_second,
};
