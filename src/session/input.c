/* input.c: see input.h.
 *
 * Invariant: `charged` of a conn_input is what its buffers take; the sum over all is inputs.bytes and GAUGE_INBOUND_BYTES. The list is in the order in
 *            which something began to be incomplete; who completes it and begins anew goes to the end. */
#include "session/input.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/http.h"
#include "session/clients.h"
#include "shm/atomic.h"

#define MESSAGE_FIRST 2048

struct conn_input {
    struct conn_input *older;
    struct conn_input *newer;
    uint64_t started_ms; /* when the oldest incomplete thing began; 0: nothing is incomplete */
    uint8_t *message;
    uint8_t *rest;
    char *packet;
    struct slice attachments[SIO_ATTACHMENTS_MAX];
    uint32_t conn;
    uint32_t n_message;
    uint32_t message_max;
    uint32_t n_rest;
    uint32_t n_packet;
    uint32_t n_expected;
    uint32_t n_attached;
    uint32_t event_bytes;
    uint32_t charged;
    uint32_t scanned;
    uint8_t opcode;
    bool stalled;
    bool busy;
};

struct inputs {
    struct ws_pool *contexts;
    struct conn_input *oldest;
    struct conn_input *newest;
    uint64_t bytes;
};

struct inputs *inputs_new(void)
{
    struct inputs *in = calloc(1, sizeof *in);

    if (in == NULL)
        return NULL;
    in->contexts = ws_pool_new(WS_CONTEXTS_MAX);
    if (in->contexts == NULL) {
        free(in);
        return NULL;
    }
    return in;
}

void inputs_free(struct inputs *in)
{
    if (in == NULL)
        return;
    ws_pool_free(in->contexts);
    free(in);
}

struct ws_pool *inputs_contexts(struct hub *h)
{
    return h->inputs->contexts;
}

uint64_t inputs_bytes(const struct hub *h)
{
    return h->inputs->bytes;
}

static struct conn_input *input_of(const struct hub *h, const struct conn *c)
{
    return h->conns.cold[c - h->conns.hot].input;
}

static void charge(struct hub *h, struct conn_input *in, uint32_t more)
{
    in->charged += more;
    h->inputs->bytes += more;
    gauge_set(h->row, GAUGE_INBOUND_BYTES, h->inputs->bytes);
}

static void discharge(struct hub *h, struct conn_input *in, uint32_t less)
{
    assert(in->charged >= less);
    in->charged -= less;
    h->inputs->bytes -= less;
    gauge_set(h->row, GAUGE_INBOUND_BYTES, h->inputs->bytes);
}

static void unlink_input(struct inputs *all, struct conn_input *in)
{
    if (in->older != NULL)
        in->older->newer = in->newer;
    else
        all->oldest = in->newer;
    if (in->newer != NULL)
        in->newer->older = in->older;
    else
        all->newest = in->older;
}

static struct conn_input *input_get(struct hub *h, struct conn *c)
{
    struct conn_cold *cold = conn_cold(&h->conns, c);
    struct conn_input *in = cold->input;

    if (in != NULL)
        return in;
    in = calloc(1, sizeof *in);
    if (in == NULL)
        return NULL;
    in->conn = conn_index(&h->conns, c);
    in->older = h->inputs->newest;
    if (in->older != NULL)
        in->older->newer = in;
    else
        h->inputs->oldest = in;
    h->inputs->newest = in;
    cold->input = in;
    charge(h, in, sizeof *in);
    return in;
}

static void drop_message(struct hub *h, struct conn_input *in)
{
    discharge(h, in, in->message_max);
    free(in->message);
    in->message = NULL;
    in->n_message = 0;
    in->message_max = 0;
}

static void drop_event(struct hub *h, struct conn_input *in)
{
    discharge(h, in, in->event_bytes);
    free(in->packet);
    in->packet = NULL;
    for (uint32_t i = 0; i < in->n_attached; i++)
        free((void *)(uintptr_t)in->attachments[i].bytes);
    in->n_packet = 0;
    in->n_expected = 0;
    in->n_attached = 0;
    in->event_bytes = 0;
}

/* Frees the whole if nothing is incomplete any more. */
static void input_put(struct hub *h, struct conn *c)
{
    struct conn_cold *cold = conn_cold(&h->conns, c);
    struct conn_input *in = cold->input;

    if (in->message != NULL || in->packet != NULL || in->rest != NULL || in->stalled || in->busy)
        return;
    unlink_input(h->inputs, in);
    discharge(h, in, sizeof *in);
    assert(in->charged == 0);
    free(in);
    cold->input = NULL;
}

void inputs_drop(struct hub *h, struct conn *c)
{
    struct conn_input *in = input_of(h, c);

    if (in == NULL)
        return;
    drop_message(h, in);
    drop_event(h, in);
    discharge(h, in, in->n_rest);
    free(in->rest);
    in->rest = NULL;
    in->n_rest = 0;
    in->stalled = false;
    in->busy = false;
    input_put(h, c);
}

static bool grow_message(struct hub *h, struct conn_input *in, uint32_t n_more, uint32_t limit)
{
    uint32_t want = in->message_max == 0 ? MESSAGE_FIRST : in->message_max;
    uint8_t *message;

    while (want < in->n_message + n_more)
        want *= 2;
    if (want > limit)
        want = limit;
    assert(want >= in->n_message + n_more);
    if (want <= in->message_max)
        return true;
    message = realloc(in->message, want);
    if (message == NULL)
        return false;
    in->message = message;
    charge(h, in, want - in->message_max);
    in->message_max = want;
    return true;
}

static bool append(struct hub *h, struct conn_input *in, struct slice bytes, uint32_t limit)
{
    if (!grow_message(h, in, bytes.n_bytes, limit))
        return false;
    if (bytes.n_bytes > 0) {
        assert(in->message != NULL);
        memcpy(in->message + in->n_message, bytes.bytes, bytes.n_bytes);
    }
    in->n_message += bytes.n_bytes;
    if (in->started_ms == 0)
        in->started_ms = h->now_ms;
    return true;
}

enum input_result input_add(struct hub *h, struct conn *c, const struct ws_piece *piece,
                            struct message *out)
{
    struct conn_input *in;

    if (piece->first && piece->last) {
        *out = (struct message){ piece->bytes, piece->opcode };
        return INPUT_COMPLETE;
    }
    in = input_get(h, c);
    if (in == NULL || !append(h, in, piece->bytes, h->config->max_message_bytes))
        return INPUT_NO_MEMORY;
    in->opcode = piece->opcode;
    if (!piece->last)
        return INPUT_MORE;
    *out = (struct message){ slice_of(in->message, in->n_message), in->opcode };
    return INPUT_COMPLETE;
}

void input_done(struct hub *h, struct conn *c)
{
    struct conn_input *in = input_of(h, c);

    if (in == NULL)
        return;
    drop_message(h, in);
    in->scanned = 0;
    if (in->n_expected == 0)
        in->started_ms = 0;
    input_put(h, c);
}

enum input_result input_add_head(struct hub *h, struct conn *c, struct slice bytes,
                                 struct slice *all, uint32_t **scanned)
{
    struct conn_input *in = input_get(h, c);

    if (in == NULL)
        return INPUT_NO_MEMORY;
    if (in->n_message + bytes.n_bytes > HTTP_HEAD_MAX + RECEIVE_BUFFER_BYTES)
        return INPUT_TOO_BIG;
    if (!append(h, in, bytes, HTTP_HEAD_MAX + RECEIVE_BUFFER_BYTES))
        return INPUT_NO_MEMORY;
    *all = slice_of(in->message, in->n_message);
    *scanned = &in->scanned;
    return INPUT_COMPLETE;
}

struct slice input_take_head(struct hub *h, struct conn *c)
{
    struct conn_input *in = input_of(h, c);
    struct slice all = { NULL, 0 };

    if (in == NULL || in->message == NULL)
        return all;
    all = slice_of(in->message, in->n_message);
    discharge(h, in, in->message_max);
    in->message = NULL;
    in->n_message = 0;
    in->message_max = 0;
    in->scanned = 0;
    in->started_ms = 0;
    input_put(h, c);
    return all;
}

void input_mark_busy(struct hub *h, struct conn *c, bool busy)
{
    struct conn_input *in = busy ? input_get(h, c) : input_of(h, c);

    if (in == NULL)
        return; /* nothing is under way; or there is no memory for a note, and the heartbeat has to do */
    in->busy = busy;
    if (busy && in->started_ms == 0)
        in->started_ms = h->now_ms;
    else if (!busy)
        input_put(h, c);
}

enum input_result input_expect(struct hub *h, struct conn *c, struct slice packet,
                               uint32_t n_attachments)
{
    struct conn_input *in = input_get(h, c);

    if (in == NULL)
        return INPUT_NO_MEMORY;
    assert(in->packet == NULL);
    in->packet = malloc(packet.n_bytes);
    if (in->packet == NULL) {
        input_put(h, c);
        return INPUT_NO_MEMORY;
    }
    memcpy(in->packet, packet.bytes, packet.n_bytes);
    in->n_packet = packet.n_bytes;
    in->n_expected = n_attachments;
    in->event_bytes = packet.n_bytes;
    if (in->started_ms == 0)
        in->started_ms = h->now_ms;
    charge(h, in, packet.n_bytes);
    return INPUT_MORE;
}

bool input_expects(const struct hub *h, const struct conn *c)
{
    const struct conn_input *in = input_of(h, c);

    return in != NULL && in->n_expected > 0;
}

bool input_complete(const struct hub *h, const struct conn *c)
{
    const struct conn_input *in = input_of(h, c);

    return in != NULL && in->n_expected > 0 && in->n_attached == in->n_expected;
}

enum input_result input_attach(struct hub *h, struct conn *c, struct slice bytes)
{
    struct conn_input *in = input_of(h, c);
    char *copy;

    assert(in != NULL && in->n_attached < in->n_expected);
    if ((uint64_t)in->event_bytes + bytes.n_bytes > h->config->event_bytes_max)
        return INPUT_TOO_BIG;
    copy = malloc(bytes.n_bytes > 0 ? bytes.n_bytes : 1);
    if (copy == NULL)
        return INPUT_NO_MEMORY;
    if (bytes.n_bytes > 0)
        memcpy(copy, bytes.bytes, bytes.n_bytes);
    in->attachments[in->n_attached++] = slice_of(copy, bytes.n_bytes);
    in->event_bytes += bytes.n_bytes;
    charge(h, in, bytes.n_bytes);
    return in->n_attached == in->n_expected ? INPUT_COMPLETE : INPUT_MORE;
}

void input_event(const struct hub *h, const struct conn *c, struct slice *packet,
                 struct slice attachments[SIO_ATTACHMENTS_MAX], uint32_t *n)
{
    const struct conn_input *in = input_of(h, c);

    assert(in != NULL && in->n_attached == in->n_expected);
    *packet = slice_of(in->packet, in->n_packet);
    memcpy(attachments, in->attachments, sizeof in->attachments);
    *n = in->n_attached;
}

void input_event_done(struct hub *h, struct conn *c)
{
    struct conn_input *in = input_of(h, c);

    if (in == NULL)
        return; /* the connection ended in the application's hands */
    drop_event(h, in);
    in->started_ms = 0;
    input_put(h, c);
}

enum input_result input_keep_rest(struct hub *h, struct conn *c, struct slice rest)
{
    struct conn_input *in = input_get(h, c);

    if (in == NULL)
        return INPUT_NO_MEMORY;
    assert(in->rest == NULL && rest.n_bytes > 0);
    in->rest = malloc(rest.n_bytes);
    if (in->rest == NULL)
        return INPUT_NO_MEMORY;
    memcpy(in->rest, rest.bytes, rest.n_bytes);
    in->n_rest = rest.n_bytes;
    charge(h, in, rest.n_bytes);
    return INPUT_MORE;
}

enum input_result input_stall(struct hub *h, struct conn *c, const struct message *message,
                              struct slice rest)
{
    struct conn_input *in = input_get(h, c);

    if (in == NULL)
        return INPUT_NO_MEMORY;
    if (in->message == NULL || message->bytes.bytes != (const char *)in->message) {
        /* it lies in a receive buffer, which must go back */
        if (!append(h, in, message->bytes, message->bytes.n_bytes + MESSAGE_FIRST))
            return INPUT_NO_MEMORY;
        in->opcode = message->opcode;
    }
    if (rest.n_bytes > 0 && input_keep_rest(h, c, rest) != INPUT_MORE)
        return INPUT_NO_MEMORY;
    in->stalled = true;
    in->started_ms = 0; /* it waits for us, not for its sender */
    conn_pause(c);
    return INPUT_MORE;
}

bool input_stalled(const struct hub *h, const struct conn *c, struct message *out)
{
    const struct conn_input *in = input_of(h, c);

    if (in == NULL || !in->stalled)
        return false;
    *out = (struct message){ slice_of(in->message, in->n_message), in->opcode };
    return true;
}

struct slice input_unstall(struct hub *h, struct conn *c)
{
    struct conn_input *in = input_of(h, c);
    struct slice rest = { NULL, 0 };

    if (in == NULL)
        return rest;
    in->stalled = false;
    rest = slice_of(in->rest, in->n_rest);
    discharge(h, in, in->n_rest);
    in->rest = NULL;
    in->n_rest = 0;
    input_done(h, c);
    return rest;
}

enum input_result input_add_body(struct hub *h, struct conn *c, struct slice piece, uint32_t limit)
{
    struct conn_input *in = input_get(h, c);

    if (in == NULL)
        return INPUT_NO_MEMORY;
    if (piece.n_bytes > limit - in->n_message)
        return INPUT_TOO_BIG;
    return append(h, in, piece, limit) ? INPUT_MORE : INPUT_NO_MEMORY;
}

struct slice input_body(const struct hub *h, const struct conn *c)
{
    const struct conn_input *in = input_of(h, c);

    return in == NULL || in->n_message == 0 ? slice_text("") : slice_of(in->message, in->n_message);
}

void input_move(struct hub *h, struct conn *from, struct conn *to)
{
    struct conn_input *in = input_of(h, from);
    struct conn_input *out;

    if (in == NULL)
        return;
    assert(in->message == NULL && in->rest == NULL && !in->stalled); /* a virtual connection reads nothing */
    out = input_get(h, to);
    if (out == NULL) {
        client_condemn(h, to, CLOSE_MEMORY, false);
        inputs_drop(h, from);
        return;
    }
    assert(out->packet == NULL);
    out->packet = in->packet;
    out->n_packet = in->n_packet;
    out->n_expected = in->n_expected;
    out->n_attached = in->n_attached;
    out->event_bytes = in->event_bytes;
    memcpy(out->attachments, in->attachments, sizeof in->attachments);
    if (out->started_ms == 0)
        out->started_ms = in->started_ms;
    charge(h, out, in->event_bytes);
    discharge(h, in, in->event_bytes);
    in->packet = NULL;
    in->n_packet = 0;
    in->n_expected = 0;
    in->n_attached = 0;
    in->event_bytes = 0;
    in->busy = false;
    input_put(h, from);
    input_put(h, to);
}

uint64_t input_deadline(struct hub *h, struct conn *c)
{
    const struct conn_input *in = input_of(h, c);

    return in == NULL || in->started_ms == 0 ? UINT64_MAX
                                             : in->started_ms + h->config->message_timeout_ms;
}

uint32_t inputs_over(struct hub *h)
{
    uint64_t sum = 0;

    if (h->inputs->oldest == NULL)
        return CONN_NONE;
    for (uint32_t i = 0; i < h->region.header->n_workers; i++)
        sum += shm_load_u64(&h->region.counters[i].gauges[GAUGE_INBOUND_BYTES]);
    return sum > h->config->inbound_bytes_total ? h->inputs->oldest->conn : CONN_NONE;
}
