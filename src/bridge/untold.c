/* untold.c: the ends of clients of `app = forward` whose worker died: it cannot tell the Node servers any more, so the bridge does, from the session table.
 *
 * When: the bridge has read the worker's `gone`, or has begun, or was overtaken by the ring; it has come as far as the ring was then, so that everything that
 *       the worker said has been published before; and Redis is there, not only just now: Node servers come back to it, too. Until then the entries stay (shm/sessions.h); after UNTOLD_KEEP_MS they are given up.
 * At most once: an entry's mark is taken away before it is told. What cannot be published is counted as lost. */
#include "bridge/wire.h"

#include "app/forward.h"
#include "proto/base64.h"
#include "proto/engineio.h"
#include "shm/sessions.h"

#define LOOKS_PER_TURN 16384u /* entries of the table */

void untold_begin(struct bridge *b, uint64_t slots)
{
    struct bridge_untold *u = &b->untold;

    if (!config_forwards(b->config))
        return;
    if ((u->next | u->slots) == 0)
        u->since_ms = b->now_ms;
    u->next |= slots;
    u->from = ring_tail(&b->ring); /* a dead worker's records are before it */
}

/* False: nobody will hear of it. */
static bool tell(struct bridge *b, const struct session_untold *end)
{
    char text[FORWARD_DISCONNECT_MAX];
    char room[2 * CONFIG_TEXT_MAX + NAME_BYTES_MAX + 2 * FORWARD_DISCONNECT_MAX];
    char id[SOCKET_ID_CHARS];
    struct peal_out out = peal_out(text, sizeof text);
    static struct msgpack_text event; /* 4 KB of attachments, none of them used */
    struct msgpack_sink sink = msgpack_sink_of(room, sizeof room);
    struct msgpack_sink scratch = msgpack_sink_of(NULL, 0);
    struct namespace_copy nsp;
    struct slice name, channel;

    if (!namespace_copy(&b->region, end->nsp, &nsp))
        return false;
    name = slice_of(nsp.name, nsp.n_bytes);
    base64url_encode(id, end->id, SOCKET_ID_BYTES);
    forward_put_disconnect(&out, (struct peal_text){ id, sizeof id }, peal_text("worker died"),
                           (struct peal_text){ NULL, 0 });
    b->wire->put_request_channel(b, &sink, name);
    channel = msgpack_sink_slice(&sink, 0);
    event.json = slice_of(out.bytes, out.n_bytes);
    return b->wire->put_server_emit(b, &sink, &scratch, name, (struct slice){ NULL, 0 }, &event) ==
               ADAPTER_OK &&
           !out.too_big && !sink.too_big &&
           bridge_publish(b, channel, msgpack_sink_slice(&sink, channel.n_bytes));
}

void untold_turn(struct bridge *b)
{
    struct bridge_untold *u = &b->untold;
    uint32_t budget = LOOKS_PER_TURN;
    bool hopeless = (u->next | u->slots) != 0 && b->now_ms - u->since_ms > UNTOLD_KEEP_MS;
    struct session_untold end;

    if (!b->wire->is_up(b))
        u->settled_at_ms = b->now_ms + FORWARD_SETTLE_MS;
    if (u->slots == 0 && u->next != 0 && b->at >= u->from) {
        u->slots = u->next;
        u->next = 0;
        u->walk = (struct session_walk){ 0 };
    }
    if (u->slots == 0 || (b->now_ms < u->settled_at_ms && !hopeless))
        return;
    while (sessions_next_untold(&b->region, u->slots, &u->walk, &budget, &end))
        count_add(b->row,
                  (enum counter)(COUNT_FORWARD_FIRST +
                                 (!hopeless && tell(b, &end) ? FORWARD_ENDED : FORWARD_LOST)),
                  1);
    if (sessions_walked(&b->region, &u->walk))
        u->slots = 0;
}

uint32_t untold_rest_ms(const struct bridge *b)
{
    uint64_t from_ms = b->untold.settled_at_ms;

    if ((b->untold.slots | b->untold.next) == 0)
        return UINT32_MAX;
    return from_ms > b->now_ms ? (uint32_t)(from_ms - b->now_ms) : 0;
}
