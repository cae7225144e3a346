/* forward_events.c: what clients say: peal:event, and the acknowledgements that servers answer with.
 *
 * Bound: one struct asked for each acknowledgement that is awaited, PEAL_REQUESTS_MAX; beyond it the client is told so. */
#include <stdlib.h>

#include "app/forward_answer.h"
#include "app/forward_state.h"

/* An event whose acknowledgement is awaited. */
struct asked {
    peal_ack ack;
    uint32_t next; /* index + 1: free */
    bool answered;
};

static struct {
    struct asked *asked; /* [PEAL_REQUESTS_MAX] */
    uint32_t free_asked; /* index + 1 */
    struct forward_answer answer;
} f;

static struct asked *asked_new(peal_ack ack)
{
    struct asked *a;

    if (f.free_asked == 0)
        return NULL;
    a = &f.asked[f.free_asked - 1];
    f.free_asked = a->next;
    *a = (struct asked){ .ack = ack };
    return a;
}

static void asked_free(struct asked *a)
{
    a->next = f.free_asked;
    f.free_asked = (uint32_t)(a - f.asked) + 1;
}

static bool on_event_answer(struct peal_host *host, void *context,
                            const struct peal_message *answer)
{
    struct asked *a = context;
    struct peal_value array;
    struct peal_message message;

    if (peal_element(answer->json, 0, &array) && array.kind == PEAL_ARRAY &&
        forward_answer_read(&f.answer, answer, array.json, &message)) {
        switch (peal_reply(host, a->ack, message)) {
        case PEAL_OK:
        case PEAL_GONE: /* the client has left */ a->answered = true; return false;
        case PEAL_FULL: return false; /* no memory */
        case PEAL_TOO_BIG:
        case PEAL_LIMIT:
        case PEAL_INVALID:
        case PEAL_THREAD:
        case PEAL_TIMEOUT:
        case PEAL_UNREACHABLE: break;
        }
    }
    forward_count(host, FORWARD_BAD_ANSWER);
    return true;
}

static void on_event_done(struct peal_host *host, void *context, enum peal_result result,
                          uint32_t n_answers, uint32_t n_expected)
{
    struct asked *a = context;

    (void)result;
    (void)n_answers;
    (void)n_expected;
    forward_count(host, a->answered ? FORWARD_ACKNOWLEDGED : FORWARD_UNACKNOWLEDGED);
    asked_free(a);
}

/* The client's own event was not handed on. */
static enum peal_result answer_error(struct peal_host *host, const struct peal_event *event,
                                     enum forward_result result, const char *error)
{
    char text[128];
    struct peal_out out = peal_out(text, sizeof text);
    enum peal_result replied;

    peal_put(&out, "[{\"ok\":false,\"error\":");
    peal_put_string(&out, peal_text(error));
    peal_put(&out, "}]");
    replied = peal_reply(host, event->ack, peal_written(&out));
    if (replied != PEAL_FULL)
        forward_count(host, result);
    return replied;
}

/* ["peal:event",{"id","seq","event","args","data","hash"}]. False: no memory. */
static bool put_event(struct peal_host *host, const struct forward_client *c,
                      const struct peal_event *event, struct peal_out *out)
{
    struct peal_text json = event->message.json;
    struct peal_text data = peal_data(host, c->socket);
    struct peal_iter it = peal_iterate(json);
    struct peal_value value;

    if (!forward_begin(out, (uint64_t)json.n_bytes + data.n_bytes))
        return false;
    (void)peal_next(&it, NULL, &value); /* there is a name: it has been validated */
    peal_put(out, "[\"peal:event\",{\"id\":");
    peal_put_string(out, forward_id(c));
    peal_put(out, ",\"seq\":");
    peal_put_number(out, (double)c->seq + 1);
    peal_put(out, ",\"event\":");
    peal_put_json(out, value.json);
    peal_put(out, ",\"args\":[");
    if (peal_next(&it, NULL, &value)) /* up to the array's end, its bracket included */
        peal_put_json(
            out, (struct peal_text){ value.json.bytes,
                                     (uint32_t)(json.bytes + json.n_bytes - value.json.bytes) });
    else
        peal_put(out, "]");
    forward_put_end(out, data, c->hash);
    return true;
}

enum peal_result forward_on_event(struct peal_host *host, peal_socket socket,
                                  const struct peal_event *event, bool *handled)
{
    struct forward_client *c = peal_pointer(host, socket);
    struct peal_message message = event->message;
    struct asked *a = NULL;
    struct peal_value name;
    struct peal_out out;
    enum peal_result result;

    (void)handled; /* all are */
    if (event->name.bytes == NULL && peal_element(message.json, 0, &name) &&
        name.kind == PEAL_STRING)
        return answer_error(host, event, FORWARD_REFUSED_EVENT, "event name over 255 bytes");
    if (event->ack != 0) {
        a = asked_new(event->ack);
        if (a == NULL)
            return answer_error(host, event, FORWARD_BUSY, "too many acknowledgements are awaited");
    }
    result = PEAL_LIMIT;
    if (put_event(host, c, event, &out)) {
        message.json = peal_written(&out).json;
        result = peal_cluster_emit(host, forward_nsp(c), message,
                                   peal_policy(host, socket).forward_timeout_ms,
                                   a == NULL ? NULL : on_event_answer, on_event_done, a);
    }
    if (result == PEAL_OK) {
        c->seq++;
        forward_count(host, FORWARD_EVENTS);
        return PEAL_OK;
    }
    if (a != NULL)
        asked_free(a);
    if (result == PEAL_UNREACHABLE)
        result = answer_error(host, event, FORWARD_UNREACHABLE, "back end unreachable");
    else if (result != PEAL_FULL && result != PEAL_TOO_BIG)
        result = answer_error(host, event, FORWARD_BUSY, "too many acknowledgements are awaited");
    c->seq += result != PEAL_FULL; /* who hears the next one sees that one is missing */
    return result;
}

bool forward_events_start(void)
{
    f.asked = calloc(PEAL_REQUESTS_MAX, sizeof *f.asked);
    if (f.asked == NULL)
        return false;
    for (uint32_t i = PEAL_REQUESTS_MAX; i > 0; i--)
        asked_free(&f.asked[i - 1]);
    return true;
}

void forward_events_stop(void)
{
    free(f.asked);
    free(f.answer.text);
    free(f.answer.bytes);
}
