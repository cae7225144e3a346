/* worker.c: THE route. What comes from a socket goes, step by step and in sight,
 *
 *     socket -> loop -> http | ws -> engineio -> socketio -> app -> ring            (on_received and below)
 *     ring -> fan-out -> batch -> (polling ->) loop -> socket                      (the end of worker_turn)
 *
 * A turn: completions, input, what of it had to wait, time, bells for what was appended, then everything ready off the ring and one send per connection. Nothing
 * in a turn waits; the only sleep is in loop_turn, parked at the ring's end, until a completion, a bell or a deadline. */
#include "worker/http.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "base/heap.h"
#include "base/log.h"
#include "proto/deflate.h"
#include "proto/engineio.h"
#include "session/acks.h"
#include "session/input.h"
#include "session/polling.h"
#include "session/publish.h"
#include "session/recovery.h"
#include "session/room_news.h"
#include "shm/atomic.h"

#define SECOND_MS        1000
#define QUEUES_MS        250
#define TIMERS_PER_TURN  4096
#define FULL_RETRY_MS    2 /* nobody rings a producer that found the ring full */
#define DRAIN_LOOK_MS    10
#define ANSWERS_PER_SEND 16 /* at least: from there on more of them save little */
#define ROOM_FOR_ANSWERS \
    1100 /* deferred items that one packet may need: rooms of one join, and its acknowledgement */

/* --- messages --- */

static void close_quietly(struct worker *w, struct conn *c, enum close_reason reason)
{
    client_end(&w->hub, c, reason, WS_CLOSE_NO_STATUS, NULL); /* Node's close frame has no code */
}

/* An event whose attachments have all come. */
static enum dispatch_result on_event_complete(struct worker *w, struct conn *c)
{
    struct slice attachments[SIO_ATTACHMENTS_MAX];
    struct sio_packet packet;
    enum dispatch_result result = DISPATCH_DONE;
    struct slice text;
    uint32_t n;

    input_event(&w->hub, c, &text, attachments, &n);
    if (!sio_decode(text, &packet) || !sio_placeholders_valid(packet.payload, n))
        close_quietly(w, c, CLOSE_FORCED_CLOSE);
    else
        result = dispatch_packet(&w->host, c, &packet, attachments, n);
    if (result == DISPATCH_DONE)
        input_event_done(&w->hub, c);
    return result;
}

static enum dispatch_result on_socketio_text(struct worker *w, struct conn *c, struct slice text)
{
    struct sio_packet packet;

    /* a text packet while attachments are missing; a parse error */
    if (input_expects(&w->hub, c) || !sio_decode(text, &packet)) {
        close_quietly(w, c, CLOSE_FORCED_CLOSE);
        return DISPATCH_DONE;
    }
    if (packet.n_attachments == 0)
        return dispatch_packet(&w->host, c, &packet, NULL, 0);
    if (text.n_bytes > w->hub.config->event_bytes_max ||
        input_expect(&w->hub, c, text, packet.n_attachments) != INPUT_MORE)
        client_end(&w->hub, c, CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory");
    return DISPATCH_DONE;
}

static enum dispatch_result on_socketio_binary(struct worker *w, struct conn *c,
                                               const struct message *m)
{
    /* the last attachment was taken in before the ring was found full: this is the second time */
    if (input_complete(&w->hub, c))
        return on_event_complete(w, c);
    if (!input_expects(&w->hub, c)) {
        close_quietly(w, c, CLOSE_FORCED_CLOSE);
        return DISPATCH_DONE;
    }
    switch (input_attach(&w->hub, c, m->bytes)) {
    case INPUT_MORE: return DISPATCH_DONE;
    case INPUT_COMPLETE: return on_event_complete(w, c);
    case INPUT_TOO_BIG:
        client_end(&w->hub, c, CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG,
                   "event with its attachments exceeds event_bytes_max");
        return DISPATCH_DONE;
    case INPUT_NO_MEMORY: break;
    }
    client_end(&w->hub, c, CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory");
    return DISPATCH_DONE;
}

static enum dispatch_result on_engine_packet(struct worker *w, struct conn *c,
                                             const struct message *m)
{
    if (m->opcode == WS_BINARY)
        return on_socketio_binary(w, c, m);
    if (m->bytes.n_bytes == 0) {
        close_quietly(w, c, CLOSE_PARSE_ERROR);
        return DISPATCH_DONE;
    }
    if (m->bytes.bytes[0] != EIO_PONG)
        client_on_packet(&w->hub, c);
    switch ((enum eio_type)m->bytes.bytes[0]) {
    case EIO_MESSAGE:
        return on_socketio_text(w, c, slice_of(m->bytes.bytes + 1, m->bytes.n_bytes - 1));
    case EIO_PONG: client_on_pong(&w->hub, c); return DISPATCH_DONE;
    case EIO_PING: /* the wrong way round in revision 4 */
        close_quietly(w, c, CLOSE_TRANSPORT_ERROR);
        return DISPATCH_DONE;
    case EIO_CLOSE: /* Node ignores it on a WebSocket */
        if ((c->flags & CONN_VIRTUAL) != 0)
            close_quietly(w, c, CLOSE_TRANSPORT_CLOSE);
        return DISPATCH_DONE;
    case EIO_OPEN:
    case EIO_UPGRADE:
    case EIO_NOOP: return DISPATCH_DONE;
    }
    close_quietly(w, c, CLOSE_PARSE_ERROR);
    return DISPATCH_DONE;
}

enum dispatch_result worker_on_packet(struct worker *w, struct conn *c, const struct message *m)
{
    if (!deferred_room(&w->hub.deferred, ROOM_FOR_ANSWERS))
        return DISPATCH_FULL;
    return on_engine_packet(w, c, m);
}

/* A WebSocket that is to take over from polling: `2probe`, `3probe`, `5`. Anything else ends it, and it only. */
static enum dispatch_result on_probe(struct worker *w, struct conn *c, const struct message *m)
{
    static const uint8_t answer[] = { 0x81, 6, '3', 'p', 'r', 'o', 'b', 'e' };

    if (m->opcode == WS_TEXT && slice_is(m->bytes, "2probe")) {
        client_send(&w->hub, c, answer, sizeof answer, false);
        polling_probed(&w->hub, c);
    } else if (m->opcode == WS_TEXT && slice_is(m->bytes, "5")) {
        polling_upgrade(&w->hub, c);
    } else {
        close_quietly(w, c, CLOSE_TRANSPORT_CLOSE);
    }
    return DISPATCH_DONE;
}

static enum dispatch_result on_echo(struct worker *w, struct conn *c, const struct message *m)
{
    uint8_t *frame;
    uint32_t n;

    if (c->outq != NULL)
        return DISPATCH_FULL; /* what it does not read back it need not send */
    frame = malloc(WS_HEADER_MAX + (size_t)m->bytes.n_bytes);
    if (frame == NULL)
        return DISPATCH_FULL;
    n = ws_put_header(frame, (enum ws_opcode)m->opcode, m->bytes.n_bytes);
    if (m->bytes.n_bytes > 0)
        memcpy(frame + n, m->bytes.bytes, m->bytes.n_bytes);
    client_send(&w->hub, c, frame, n + m->bytes.n_bytes, false);
    free(frame);
    return DISPATCH_DONE;
}

/* One complete message. FULL: it must be kept and come again. */
static enum dispatch_result on_message(struct worker *w, struct conn *c, const struct message *m)
{
    if (!deferred_room(&w->hub.deferred, ROOM_FOR_ANSWERS))
        return DISPATCH_FULL;
    switch ((enum conn_kind)c->kind) {
    case CONN_SOCKETIO: return on_engine_packet(w, c, m);
    case CONN_ROOM: return dispatch_frame(&w->host, c, m->bytes, m->opcode == WS_BINARY);
    case CONN_ECHO: return on_echo(w, c, m);
    case CONN_PROBE: return on_probe(w, c, m);
    case CONN_PLAIN_HTTP:
    case CONN_GET:
    case CONN_POST: break;
    }
    assert(!"a message on a connection that is no WebSocket");
    return DISPATCH_DONE;
}

/* Keeps a message that could not be dispatched, and what lies behind it. */
static void stall(struct worker *w, struct conn *c, const struct message *m, struct slice rest)
{
    if (input_stall(&w->hub, c, m, rest) != INPUT_MORE)
        client_end(&w->hub, c, CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory");
    else
        hub_retry_later(&w->hub, c);
}

static void on_whole(struct worker *w, struct conn *c, const struct message *m, struct slice rest)
{
    count_add(w->hub.row, COUNT_MESSAGES_RECEIVED, 1);
    if (on_message(w, c, m) == DISPATCH_FULL)
        stall(w, c, m, rest);
    else if (c->state == CONN_OPEN)
        input_done(&w->hub, c);
}

static void on_piece(struct worker *w, struct conn *c, const struct ws_piece *piece,
                     struct slice rest)
{
    struct message m;

    switch (input_add(&w->hub, c, piece, &m)) {
    case INPUT_MORE: return;
    case INPUT_COMPLETE:
        if (!piece->compressed) {
            on_whole(w, c, &m, rest);
        } else {
            if (worker_decompress(w, c, &m))
                on_whole(w, c, &m, rest);
            inflater_forget(w->inflater);
        }
        return;
    case INPUT_TOO_BIG:
    case INPUT_NO_MEMORY:
        client_end(&w->hub, c, CLOSE_MEMORY, WS_CLOSE_TRY_LATER, "out of memory");
        return;
    }
}

static void on_control(struct worker *w, struct conn *c, const struct ws_piece *piece)
{
    uint8_t frame[2 + WS_CONTROL_MAX];
    uint32_t n;

    switch (piece->opcode) {
    case WS_PING:
        n = ws_put_header(frame, WS_PONG, piece->bytes.n_bytes);
        if (piece->bytes.n_bytes > 0)
            memcpy(frame + n, piece->bytes.bytes, piece->bytes.n_bytes);
        client_send(&w->hub, c, frame, n + piece->bytes.n_bytes, true);
        break;
    case WS_PONG:
        if (c->kind != CONN_SOCKETIO &&
            c->kind != CONN_PROBE) /* there the heartbeat is Engine.IO's */
            client_on_pong(&w->hub, c);
        break;
    default: client_end(&w->hub, c, CLOSE_TRANSPORT_CLOSE, piece->close_code, NULL); break;
    }
}

/* --- bytes --- */

static void on_ws_bytes(struct worker *w, struct conn *c, struct slice bytes)
{
    struct hub *h = &w->hub;
    struct ws_in *in = &conn_cold(&h->conns, c)->ws;
    struct ws_piece piece;

    while (c->state == CONN_OPEN &&
           (c->flags & CONN_PAUSED) == 0) { /* any step may end or pause it; none frees it */
        switch (ws_next(in, inputs_contexts(h), &bytes, h->config->max_message_bytes, &piece)) {
        case WS_DATA: on_piece(w, c, &piece, bytes); break;
        case WS_CONTROL: on_control(w, c, &piece); break;
        case WS_NEED_MORE:
            input_mark_busy(h, c, ws_in_busy(in));
            if (ws_in_busy(in))
                client_arm_timer(h, c);
            return;
        case WS_NO_CONTEXT:
            client_end(h, c, CLOSE_MEMORY, WS_CLOSE_TRY_LATER,
                       "too many messages are half received");
            return;
        case WS_BAD_PROTOCOL:
            client_end(h, c, CLOSE_PROTOCOL_ERROR, WS_CLOSE_PROTOCOL, "protocol error");
            return;
        case WS_BAD_UTF8:
            client_end(h, c, CLOSE_PROTOCOL_ERROR, WS_CLOSE_BAD_DATA, "text is not UTF-8");
            return;
        case WS_TOO_BIG:
            client_end(h, c, CLOSE_TOO_BIG, WS_CLOSE_TOO_BIG, "message exceeds max_message_bytes");
            return;
        }
    }
}

/* Bytes that come while a request waits for its answer: those of its body, or the next request's, which wait too. */
static void on_bytes_behind(struct worker *w, struct conn *c, struct slice *bytes)
{
    struct slice all;
    uint32_t *scanned;

    if (c->kind == CONN_POST && !exchange_of(&w->hub, c)->body_whole) {
        engine_on_body(w, c, bytes);
        return;
    }
    if (c->kind == CONN_POST
            ? input_keep_rest(&w->hub, c, *bytes) != INPUT_MORE
            : input_add_head(&w->hub, c, *bytes, &all, &scanned) != INPUT_COMPLETE) {
        client_gone(&w->hub, c, CLOSE_MEMORY);
        return;
    }
    bytes->n_bytes = 0;
    conn_pause(c);
}

void worker_on_http_bytes(struct worker *w, struct conn *c, struct slice bytes)
{
    struct hub *h = &w->hub;

    if (c->proxy == CONN_PROXY_DUE && !proxy_take_header(w, c, &bytes))
        return;
    while (c->state == CONN_HTTP && bytes.n_bytes > 0) {
        struct http_request request;
        struct slice all;
        uint32_t *scanned;
        uint32_t head_bytes;
        uint16_t status = 400;

        if (exchange_of(h, c) != NULL) {
            on_bytes_behind(w, c, &bytes);
            continue;
        }
        if (input_add_head(h, c, bytes, &all, &scanned) != INPUT_COMPLETE) {
            http_answer_error(w, c, 431);
            return;
        }
        if (!deferred_room(&h->deferred, ROOM_FOR_ANSWERS)) {
            conn_pause(c);
            hub_retry_later(h, c);
            return;
        }
        switch (http_parse(all, scanned, &request, &head_bytes, &status)) {
        case HTTP_NEED_MORE:
            if (all.n_bytes ==
                bytes.n_bytes) /* the first of it: from here on it is a slow request */
                wheel_arm(&h->conns.wheel, conn_index(&h->conns, c),
                          h->now_ms + h->config->header_timeout_ms);
            return;
        case HTTP_BAD: http_answer_error(w, c, status); return;
        case HTTP_OK: break;
        }
        /* the head was incomplete without `bytes`, so what is behind it is their end */
        assert(all.n_bytes - head_bytes <= bytes.n_bytes);
        if (!http_serve(w, c, &request, all)) {
            conn_pause(c);
            hub_retry_later(h, c);
            return;
        }
        bytes = slice_of(bytes.bytes + bytes.n_bytes - (all.n_bytes - head_bytes),
                         all.n_bytes - head_bytes);
        if (c->state == CONN_HTTP || c->state == CONN_OPEN)
            input_done(h, c);
    }
    if (c->state == CONN_OPEN && bytes.n_bytes > 0)
        on_ws_bytes(w, c, bytes);
}

static void on_received(void *context, struct conn *c, const uint8_t *received, int32_t result)
{
    struct worker *w = context;
    struct hub *h = &w->hub;
    struct slice bytes;

    if (result == 0) { /* the peer has ended its side: nothing more to say to it either */
        client_gone(h, c, CLOSE_TRANSPORT_CLOSE);
        return;
    }
    if (result < 0) {
        client_gone(h, c, CLOSE_TRANSPORT_ERROR);
        return;
    }
    assert((c->flags & CONN_PAUSED) == 0); /* its bytes would have nowhere to go */
    bytes = slice_of(received, (uint32_t)result);
    count_add(h->row, COUNT_BYTES_RECEIVED, bytes.n_bytes);
    switch ((enum conn_state)c->state) {
    case CONN_HTTP: worker_on_http_bytes(w, c, bytes); break;
    case CONN_OPEN: on_ws_bytes(w, c, bytes); break;
    case CONN_CLOSING:
    case CONN_LINGER:
        c->drained_bytes += bytes.n_bytes;
        if (c->drained_bytes > CLOSE_DRAIN_BYTES && c->state == CONN_LINGER)
            client_gone(h, c, (enum close_reason)c->close_reason);
        break;
    case CONN_FREE:
    case CONN_DYING:
    case CONN_STATES: break;
    }
}

/* Receives once for whoever is readable now. Answers go out behind each batch, while sockets and bytes are in the cache, if there are enough of
 * them to share a system call; but not if something of an earlier turn is waiting to be sent, which goes by shares. */
static void receive(struct worker *w)
{
    struct hub *h = &w->hub;
    bool fresh = batch_idle(h->batch);

    for (uint32_t left = h->conns.n_readable; left > 0;) {
        conns_receive(&h->conns, &left, on_received, w);
        if (fresh && batch_pending(h->batch) >= ANSWERS_PER_SEND)
            fresh = batch_flush(h->batch, UINT32_MAX, h->now_ms);
    }
}

/* Input that waited for room: once more, first come first served. */
static void retry_stalled(struct worker *w)
{
    struct hub *h = &w->hub;
    uint32_t n = h->n_retry;
    uint32_t *these = h->retry;

    h->retry = h->retrying;
    h->retrying = these;
    h->n_retry = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = conn_at(&h->conns, these[i]);
        struct message m;
        struct slice rest;

        if ((c->flags & CONN_RETRY) == 0)
            continue; /* it has ended since */
        c->flags &= (uint16_t)~CONN_RETRY;
        if (c->state == CONN_HTTP && c->kind == CONN_POST) {
            conn_resume(c);
            engine_dispatch_body(w, c);
            if (exchange_of(h, c) == NULL) { /* answered: on to what came behind it */
                rest = input_unstall(h, c);
                worker_on_http_bytes(w, c, rest);
                free((void *)(uintptr_t)rest.bytes);
            }
            conn_read_next(&h->conns, c);
            continue;
        }
        if (c->state == CONN_HTTP) {
            rest = input_take_head(h, c);
            conn_resume(c);
            worker_on_http_bytes(w, c, rest);
            free((void *)(uintptr_t)rest.bytes);
            conn_read_next(&h->conns, c);
            continue;
        }
        if (c->state != CONN_OPEN || !input_stalled(h, c, &m))
            continue;
        if (on_message(w, c, &m) == DISPATCH_FULL) {
            hub_retry_later(h, c);
            continue;
        }
        if (c->state != CONN_OPEN)
            continue;
        rest = input_unstall(h, c);
        conn_resume(c);
        if (rest.n_bytes > 0)
            on_ws_bytes(w, c, rest);
        free((void *)(uintptr_t)rest.bytes);
        /* only now: a receive in flight while what is left here has to wait again would lose its bytes */
        conn_read_next(&h->conns, c);
    }
}

/* --- the turn --- */

static void on_conn_event(struct worker *w, const struct loop_event *event)
{
    struct hub *h = &w->hub;
    struct conn *c = conn_at(&h->conns, tag_index(event->tag));
    bool current = conn_is_current(c, event->tag);

    switch ((enum conn_op)tag_op(event->tag)) {
    case CONN_OP_POLL:
        if (current)
            conn_on_poll(&h->conns, c, event);
        if (current && c->kind == CONN_GET &&
            (c->flags & (CONN_PAUSED | CONN_EOF)) == (CONN_PAUSED | CONN_EOF))
            client_gone(h, c, CLOSE_TRANSPORT_ERROR); /* nobody will read its end */
        break;
    case CONN_OP_WRITABLE:
        if (current && !conn_op_done(&h->conns, c, CONN_OP_WRITABLE) && c->state != CONN_DYING)
            batch_on_writable(h->batch, c, h->now_ms);
        break;
    case CONN_OP_CANCEL:
    case CONN_OP_CLOSE:
        if (current)
            (void)conn_op_done(&h->conns, c, (enum conn_op)tag_op(event->tag));
        break;
    case CONN_OP_NONE:
    case CONN_OP_RECV:
    case CONN_OP_SEND:
    case CONN_OP_LIMIT: break;
    }
}

static void on_event(struct worker *w, const struct loop_event *event)
{
    if (tag_op(event->tag) < CONN_OP_LIMIT) {
        on_conn_event(w, event);
        return;
    }
    switch ((enum worker_op)tag_op(event->tag)) {
    case OP_BELL:
        loop_read(w->hub.loop, w->hub.region.bells[w->hub.region.self], &w->bell, sizeof w->bell,
                  event->tag);
        break;
    case OP_INBOX:
        worker_on_inbox(w);
        if (!event->more)
            loop_poll(w->hub.loop, w->child->inbox_fd, POLLIN, event->tag);
        break;
    case OP_LIFE: worker_on_life_lost(w); break;
    case OP_SIGNAL:
        worker_on_signal(w);
        if (!event->more && !w->stop)
            loop_poll(w->hub.loop, w->signal_fd, POLLIN, event->tag);
        break;
    case OP_ACCEPT: worker_on_accept(w, event); break;
    case OP_ACCEPT_CANCEL: break;
    }
}

static void read_clock(struct hub *h)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    h->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    h->now_ms = h->now_us / 1000;
}

static void evict_inputs(struct hub *h)
{
    uint32_t over;

    while ((over = inputs_over(h)) != CONN_NONE) {
        count_add(h->row, COUNT_INBOUND_EVICTED, 1);
        client_end(h, conn_at(&h->conns, over), CLOSE_MEMORY, WS_CLOSE_TRY_LATER,
                   "too much is half received (inbound_bytes_total)");
    }
}

static void run_timers(struct worker *w)
{
    struct hub *h = &w->hub;
    uint32_t budget = TIMERS_PER_TURN;
    uint32_t index;

    while ((index = wheel_expire(&h->conns.wheel, h->now_ms, &budget)) != WHEEL_NONE) {
        struct conn *c = conn_at(&h->conns, index);

        if (c->state == CONN_HTTP && c->kind == CONN_PLAIN_HTTP &&
            conn_cold(&h->conns, c)->input != NULL) {
            if (c->proxy == CONN_PROXY_DUE)
                proxy_timed_out(w, c);
            else
                http_answer_error(w, c, 408); /* a head that was begun and not finished */
        } else
            client_on_timer(h, c);
    }
    if (h->now_ms >= w->queues_at_ms) {
        w->queues_at_ms = h->now_ms + QUEUES_MS;
        clients_check_queues(h);
        evict_inputs(h);
    } else if (inputs_bytes(h) > h->config->inbound_bytes_total / h->region.header->n_workers) {
        evict_inputs(h); /* the sum cannot be over without somebody being over his share */
    }
    if (h->now_ms >= w->second_at_ms) {
        w->second_at_ms = h->now_ms + SECOND_MS;
        acks_expire(h->acks, h->now_ms);
        dispatch_second(&w->host);
        recovery_second(h);
        heap_give_back();
    }
}

static void publish_counts(struct worker *w)
{
    struct hub *h = &w->hub;
    struct batch_stats stats = batch_stats_take(h->batch);

    count_add(h->row, COUNT_DELIVERIES, stats.n_pieces + h->n_polled);
    h->n_polled = 0;
    count_add(h->row, COUNT_SENDS, stats.n_sends);
    count_add(h->row, COUNT_BYTES_SENT, stats.n_bytes);
    count_add(h->row, COUNT_SEND_SHORT, stats.n_short);
    count_add(h->row, COUNT_SEND_AGAIN, stats.n_again);
    count_add(h->row, COUNT_BELLS_RUNG, h->ring.bells_rung - h->row->counters[COUNT_BELLS_RUNG]);
    count_add(h->row, COUNT_BELLS_SPARED,
              h->ring.bells_spared - h->row->counters[COUNT_BELLS_SPARED]);
    count_add(h->row, COUNT_ENTERS,
              loop_stats_read(h->loop).n_enters - h->row->counters[COUNT_ENTERS]);
    gauge_set(h->row, GAUGE_ROOMS, h->rooms.n_named);
    gauge_set(h->row, GAUGE_PENDING, hub_pending(h));
    gauge_set(h->row, GAUGE_SESSIONS_USED, sessions_used(h->identities));
    shm_store_u32(&h->slot->n_pending, hub_pending(h));
}

/* How long to sleep. 0: there is something to do; nothing that may come while we sleep goes unnoticed, since we are parked then. */
static uint32_t rest_ms(struct worker *w, bool caught_up, bool sent)
{
    struct hub *h = &w->hub;
    bool waits_for_room =
        h->n_retry > 0 || !replies_flush(h) || !room_news_flush(h) || dispatch_waits(&w->host);
    uint32_t wait = wheel_next_ms(&h->conns.wheel, h->now_ms);
    uint32_t apps = dispatch_rest_ms(&w->host);
    uint64_t second = w->second_at_ms > h->now_ms ? w->second_at_ms - h->now_ms : 0;

    shm_store_u64(&h->slot->waits_since_ms, !waits_for_room                ? 0
                                            : h->slot->waits_since_ms != 0 ? h->slot->waits_since_ms
                                                                           : h->now_ms);
    if (!caught_up || !sent || h->n_condemned > 0 || !batch_idle(h->batch))
        return 0;
    if (waits_for_room && h->n_appended >= RING_TURN_COMMITS_MAX)
        return 0; /* not the ring was full, but the turn */
    if (w->accept_due || h->conns.n_readable > 0)
        return 0;
    if (w->accept_at_ms > h->now_ms && wait > w->accept_at_ms - h->now_ms)
        wait = (uint32_t)(w->accept_at_ms - h->now_ms);
    if (wait > second)
        wait = (uint32_t)second;
    if (wait > apps)
        wait = apps;
    if (outqs_count(h->outqs) > 0 || inputs_bytes(h) > 0)
        wait = wait < QUEUES_MS ? wait : QUEUES_MS;
    if (h->draining || h->ending)
        wait = wait < DRAIN_LOOK_MS ? wait : DRAIN_LOOK_MS;
    if (waits_for_room || w->inbox_waits)
        wait = wait < FULL_RETRY_MS ? wait : FULL_RETRY_MS;
    if (wait > recovery_wait_ms(h))
        wait = recovery_wait_ms(h);
    if (wait > 0 && !ring_park(&h->ring, h->walked))
        return 0;
    return wait;
}

static void worker_turn(struct worker *w, uint32_t *wait)
{
    struct hub *h = &w->hub;
    uint32_t n = loop_turn(h->loop, *wait, w->events, WORKER_EVENTS_MAX);
    uint64_t began_us;
    bool caught_up = false;
    bool sent;

    ring_unpark(&h->ring);
    h->n_appended = 0;
    read_clock(h);
    began_us = h->now_us;
    shm_store_u64(&h->slot->progress, h->slot->progress + 1);
    for (uint32_t i = 0; i < n; i++)
        on_event(w, &w->events[i]);
    receive(w);
    retry_stalled(w);
    run_timers(w);
    dispatch_turn(&w->host);
    worker_drain(w);
    worker_accept_more(w);
    (void)replies_flush(h); /* what is left is tried again in the next turn */
    ring_bells(&h->ring);

    if (batch_idle(h->batch) || w->fanout.sweep.open)
        caught_up = fanout_walk(h, &w->fanout);
    batch_carry(h->batch);
    sent = fanout_send(h, &w->fanout);
    batch_flush_writable(h->batch, h->now_ms);
    clients_bury(h);
    publish_counts(w);
    *wait = rest_ms(w, caught_up, sent);
    ring_bells(&h->ring); /* replies of this walk */
    if (n > 0 || !caught_up) {
        read_clock(h);
        histogram_add(h->row, HISTOGRAM_LOOP, h->now_us - began_us);
    }
}

int worker_main(const struct child *child)
{
    struct worker *w = calloc(1, sizeof *w);
    uint32_t wait = 0;

    if (w == NULL || !worker_open(w, child)) {
        free(w);
        return 1;
    }
    while (!w->stop && !worker_may_end(w))
        worker_turn(w, &wait);
    worker_close(w);
    free(w);
    return 0;
}
