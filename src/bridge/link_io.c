/* link_io.c: what goes over an established connection: replies in, commands and messages out.
 *
 * Invariant: at most LINK_FLIGHT_BYTES of messages and one chunk more are written and not answered: what a Redis that has stopped finds in its socket when it
 *            goes on is bounded, and so is what a cut can lose. A chunk that has been begun is written to its end or lost with the connection. */
#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/link_internal.h"

#define READ_BYTES          16384
#define READS_PER_TURN      64
#define READER_DOUBLES_FROM (1u << 20)

/* --- out --- */

static void begin_flight(struct link *l, const struct outbuf_chunk *c, bool are_messages,
                         uint64_t now_ms)
{
    struct link_flight *f = &l->_flight[(l->_flight_at + l->_n_flight++) % LINK_FLIGHT_MAX];

    *f = (struct link_flight){ .n = c->n_commands - c->first,
                               .n_bytes = are_messages ? c->n_bytes - c->at : 0,
                               .are_messages = are_messages };
    l->_flight_bytes += f->n_bytes;
    l->_wrote_at_ms = now_ms;
}

/* Chooses what is written next. A link that keeps messages knows what each answer is for. */
static bool stage(struct link *l, uint64_t now_ms)
{
    bool counts = l->keeps && l->state == LINK_UP;
    bool are_messages = l->_commands.n_commands == 0;

    if (l->state < LINK_GREETING || (counts && l->_n_flight == LINK_FLIGHT_MAX))
        return false;
    if (are_messages && (!counts || l->held || l->_flight_bytes >= LINK_FLIGHT_BYTES))
        return false;
    l->_stage = outbuf_take(are_messages ? &l->_messages : &l->_commands);
    if (l->_stage != NULL && counts)
        begin_flight(l, l->_stage, are_messages, now_ms);
    return l->_stage != NULL;
}

static void staged(struct link *l, uint64_t now_ms)
{
    if (l->_n_flight > 0)
        l->_flight[(l->_flight_at + l->_n_flight - 1) % LINK_FLIGHT_MAX].since_ms = now_ms;
    outbuf_give(&l->_messages, l->_stage);
    l->_stage = NULL;
}

static const char *why_of(const struct link *l)
{
    return l->_tls != NULL && errno == EPROTO ? tls_why(l->_tls) : strerror(errno);
}

static void fail_io(struct link *l, uint64_t now_ms, const char *text)
{
    char why[TLS_WHY_MAX];

    snprintf(why, sizeof why, "%s", text); /* the connection's own text ends with it */
    link_fail(l, now_ms, why);
}

void link_flush(struct link *l, uint64_t now_ms)
{
    while (l->_stage != NULL || stage(l, now_ms)) {
        struct outbuf_chunk *c = l->_stage;
        size_t left = c->n_bytes - c->at;
        ssize_t n = l->_tls != NULL ? tls_send(l->_tls, c->data + c->at, left)
                                    : send(l->fd, c->data + c->at, left, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            fail_io(l, now_ms, n == 0 ? "closed by Redis" : why_of(l));
            return;
        }
        l->_wrote_at_ms = now_ms;
        c->at += (uint32_t)n;
        if (c->at == c->n_bytes)
            staged(l, now_ms);
    }
}

bool link_command(struct link *l, uint32_t n, const struct slice *words)
{
    return l->state == LINK_UP && l->_commands.n_bytes < LINK_COMMANDS_MAX &&
           outbuf_push(&l->_commands, 0, words, n); /* they have no age */
}

bool link_message(struct link *l, uint64_t now_ms, uint32_t n, const struct slice *words)
{
    assert(l->keeps);
    if (outbuf_push(&l->_messages, now_ms, words, n))
        return true;
    l->dropped[LINK_DROP_TOO_BIG]++;
    return false;
}

uint64_t link_waits_since(const struct link *l)
{
    const struct link_flight *f = &l->_flight[l->_flight_at];

    if (l->_n_flight == 0)
        return UINT64_MAX;
    return f->since_ms != 0 ? f->since_ms : l->_wrote_at_ms;
}

bool link_is_idle(const struct link *l)
{
    return l->_stage == NULL && l->_n_flight == 0 && l->_messages.n_commands == 0;
}

/* --- in --- */

struct link_reader {
    redisReader *reader;
    redisReplyObjectFunctions functions; /* hiredis' own, behind a look at what an array costs */
    void *(*create_array)(const redisReadTask *task, int elements);
    uint32_t elements_left; /* of the reply that is being read */
};

static void *create_array(const redisReadTask *task, int elements)
{
    struct link_reader *r = task->privdata;

    if (elements > 0 && (uint32_t)elements > r->elements_left)
        return NULL; /* the reader fails */
    r->elements_left -= elements > 0 ? (uint32_t)elements : 0;
    return r->create_array(task, elements);
}

struct link_reader *link_reader_new(void)
{
    struct link_reader *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->reader = redisReaderCreate();
    if (r->reader == NULL) {
        free(r);
        return NULL;
    }
    r->functions = *r->reader->fn;
    r->create_array = r->functions.createArray;
    r->functions.createArray = create_array;
    r->reader->fn = &r->functions;
    r->reader->privdata = r;
    r->elements_left = LINK_ELEMENTS_MAX;
    return r;
}

void link_reader_free(struct link_reader *r)
{
    if (r == NULL)
        return;
    redisReaderFree(r->reader);
    free(r);
}

static void fail_too_large(struct link *l, uint64_t now_ms)
{
    l->dropped[LINK_DROP_TOO_BIG]++;
    link_fail(l, now_ms, "reply too large");
}

/* The oldest flight has got one more answer. */
static void on_answer(struct link *l, const redisReply *reply)
{
    struct link_flight *f = &l->_flight[l->_flight_at];

    if (l->_n_flight == 0)
        return; /* Redis said something by itself */
    if (f->are_messages && reply->type == REDIS_REPLY_ERROR)
        l->dropped[LINK_DROP_REFUSED]++;
    else if (f->are_messages)
        l->n_published++;
    if (--f->n > 0)
        return;
    l->_flight_bytes -= f->n_bytes;
    l->_flight_at = (l->_flight_at + 1) % LINK_FLIGHT_MAX;
    l->_n_flight--;
}

static void tell_error(struct link *l, const redisReply *reply, uint64_t now_ms)
{
    uint32_t suppressed;

    if (reply->type == REDIS_REPLY_ERROR && log_allow(&l->_error_rate, now_ms, 6, &suppressed))
        log_error("redis_error", "link=%s error=%s remedy=%s suppressed=%u", l->name, reply->str,
                  link_remedy(reply->str), suppressed);
}

bool link_replies(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context)
{
    while (l->state == LINK_GREETING || l->state == LINK_UP) {
        void *reply = NULL;
        bool go_on = true;

        if (redisReaderGetReply(l->_reader->reader, &reply) != REDIS_OK) {
            if (l->_reader->reader->err == REDIS_ERR_OOM)
                fail_too_large(l, now_ms);
            else
                fail_io(l, now_ms, l->_reader->reader->errstr);
            return false;
        }
        if (reply == NULL)
            return true;
        l->_reader->elements_left = LINK_ELEMENTS_MAX;
        if (l->state == LINK_GREETING) {
            link_on_greeting(l, reply, now_ms);
        } else {
            tell_error(l, reply, now_ms);
            if (l->keeps)
                on_answer(l, reply);
            go_on = on_reply(context, reply);
        }
        freeReplyObject(reply);
        if (!go_on)
            return false;
    }
    return false;
}

/* The reader's buffer grows by 1 MB at a time, and each step copies all of it: a large message would cost its length squared. Doubled, it does not. False: out
 * of memory, nothing changed. */
static bool make_room(redisReader *reader, size_t n)
{
    size_t n_bytes = sdslen(reader->buf);
    sds buf;

    if (n_bytes < READER_DOUBLES_FROM || sdsavail(reader->buf) >= n)
        return true;
    buf = sdsMakeRoomFor(reader->buf, n_bytes);
    if (buf == NULL)
        return false;
    reader->buf = buf;
    return true;
}

/* What was read is taken in before more is: the reader moves all that it holds to the front for each KB that was taken. */
void link_read(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context)
{
    static char bytes[READ_BYTES];
    redisReader *reader = l->_reader->reader;

    for (uint32_t i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = l->_tls != NULL ? tls_recv(l->_tls, bytes, sizeof bytes)
                                    : recv(l->fd, bytes, sizeof bytes, 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            fail_io(l, now_ms, n == 0 ? "closed by Redis" : why_of(l));
            return;
        }
        l->_heard_at_ms = now_ms;
        l->_pinged_at_ms = 0;
        if (reader->len > LINK_REPLY_MAX || !make_room(reader, (size_t)n) ||
            redisReaderFeed(reader, bytes, (size_t)n) != REDIS_OK) {
            fail_too_large(l, now_ms);
            return;
        }
        if (!link_replies(l, now_ms, on_reply, context) ||
            (l->_tls == NULL && (size_t)n < sizeof bytes))
            return;
    }
}
