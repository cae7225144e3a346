/* compressed.c: what clients with permessage-deflate send compressed.
 *
 * Bound: a message is max_message_bytes before and after; decompressing stops there. One stream serves all clients, since each message stands alone. */
#include "proto/deflate.h"
#include "proto/ws_utf8.h"
#include "session/clients.h"
#include "worker/worker.h"

static bool is_utf8(struct slice text)
{
    uint8_t state = WS_UTF8_WHOLE;

    return ws_utf8_take(&state, text) && state == WS_UTF8_WHOLE;
}

static void refuse_compressed(struct worker *w, struct conn *c, enum inflate_failure why)
{
    static const struct {
        enum close_reason reason;
        uint16_t code;
        const char *text;
    } ends[] = {
        [INFLATE_FAILED_CORRUPT] = { CLOSE_PROTOCOL_ERROR, WS_CLOSE_BAD_DATA,
                                     "message is no deflate data" },
        [INFLATE_FAILED_TOO_BIG] = { CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG,
                                     "message exceeds max_message_bytes" },
        [INFLATE_FAILED_UTF8] = { CLOSE_PROTOCOL_ERROR, WS_CLOSE_BAD_DATA, "text is not UTF-8" },
        [INFLATE_FAILED_MEMORY] = { CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory" },
    };

    count_add(w->hub.row, COUNT_INFLATE_FAILED_FIRST + why, 1);
    client_end(&w->hub, c, ends[why].reason, ends[why].code, ends[why].text);
}

bool worker_decompress(struct worker *w, struct conn *c, struct message *m)
{
    struct slice plain = { NULL, 0 };

    switch (inflater_take(w->inflater, m->bytes, w->hub.config->max_message_bytes, &plain)) {
    case INFLATE_OK:
        if (m->opcode != WS_TEXT || is_utf8(plain))
            break;
        refuse_compressed(w, c, INFLATE_FAILED_UTF8);
        return false;
    case INFLATE_CORRUPT: refuse_compressed(w, c, INFLATE_FAILED_CORRUPT); return false;
    case INFLATE_TOO_BIG: refuse_compressed(w, c, INFLATE_FAILED_TOO_BIG); return false;
    case INFLATE_NO_MEMORY: refuse_compressed(w, c, INFLATE_FAILED_MEMORY); return false;
    }
    count_add(w->hub.row, COUNT_INFLATED, 1);
    input_done(&w->hub, c); /* what waits, if it has to, is the plain message */
    m->bytes = plain;
    return true;
}
