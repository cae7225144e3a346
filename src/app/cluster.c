/* cluster.c: include/peal/app.h, the other servers of the cluster. The bridge asks them; what it hears comes as records, each of which is one answer (or, with
 * RECORD_LAST alone, the end). Answers are handed out as they come, and not kept. */
#include "app/asking.h"
#include "app/compose.h"
#include "shm/atomic.h"

#include <stdlib.h>

bool peal_cluster_reachable(const struct peal_host *host)
{
    const struct shm_slot *bridge = &host->hub->region.header->slots[PEAL_SLOT_BRIDGE];

    return host->hub->config->redis.enabled && shm_load_acquire_u32(&bridge->state) == SLOT_LIVE &&
           shm_load_u64(&bridge->redis_up) != 0;
}

/* The bridge skips what the ring has been written over. Who emits much waits instead for it to come nearer. */
static bool bridge_is_behind(const struct hub *h)
{
    const struct shm_slot *bridge = &h->region.header->slots[PEAL_SLOT_BRIDGE];

    return ring_tail(&h->ring) - shm_load_u64(&bridge->cursor) > h->ring.units / 4;
}

void cluster_finish(struct peal_host *host, struct request *r, enum peal_result result)
{
    struct request copy = *r;
    struct handler call;

    timer_cancel(&host->timers, r->timer);
    request_close(&host->requests, r);
    host_enter(host, &call, copy.app, "done");
    copy.done_fn(host, copy.context, result, copy.n_answers, copy.n_expected);
    host_leave(host, &call, (struct peal_text){ NULL, 0 });
}

/* Is more wanted? */
static bool hand_out(struct peal_host *host, const struct request *r,
                     const struct record_view *view)
{
    struct peal_text attachments[SIO_ATTACHMENTS_MAX];
    struct peal_message message = { .attachments = attachments };
    struct handler call;
    uint8_t opcode;
    bool more;

    if (view->header->n_parts > 1 + SIO_ATTACHMENTS_MAX)
        return true; /* the bridge writes none like that */
    message.json = text_from(record_part(view, 0, &opcode));
    for (uint32_t i = 1; i < view->header->n_parts; i++)
        attachments[message.n_attachments++] = text_from(record_part(view, i, &opcode));
    host_enter(host, &call, r->app, "answer");
    host->hub->prompt_append = host->hub->last_append;
    more = r->answer_fn(host, r->context, &message);
    host->hub->prompt_append = UINT64_MAX;
    host_leave(host, &call, (struct peal_text){ NULL, 0 });
    return more;
}

static enum peal_result result_of(const struct request *r, uint8_t flags)
{
    if ((flags & RECORD_LOST) != 0)
        return (flags & RECORD_TRUNCATED) != 0 ? PEAL_LIMIT : PEAL_UNREACHABLE;
    if (!r->counted || r->n_answers < r->n_expected)
        return PEAL_TIMEOUT;
    return r->truncated ? PEAL_TOO_BIG : PEAL_OK;
}

void cluster_take(struct peal_host *host, struct request *r, const struct record_view *view)
{
    const struct record_header *header = view->header;
    uint64_t id = r->id;
    bool more = true;

    if (header->kind != RECORD_REPLY || header->slot != PEAL_SLOT_BRIDGE)
        return;
    if (header->detail != UINT32_MAX) {
        r->n_expected = header->detail;
        r->counted = true;
    }
    r->truncated =
        r->truncated || (header->flags & (RECORD_TRUNCATED | RECORD_LAST)) == RECORD_TRUNCATED;
    if (header->n_parts > 0) {
        r->n_answers++;
        more = hand_out(host, r, view);
        r = request_find(&host->requests, id);
        if (r == NULL)
            return;
    }
    if (!more)
        cluster_finish(host, r, PEAL_OK);
    else if ((header->flags & RECORD_LAST) != 0)
        cluster_finish(host, r, result_of(r, header->flags));
}

enum peal_result peal_cluster_emit(struct peal_host *host, struct peal_text nsp,
                                   struct peal_message message, uint32_t timeout_ms,
                                   peal_cluster_answer_fn answer, peal_cluster_done_fn done,
                                   void *context)
{
    struct record_part parts[1 + SIO_ATTACHMENTS_MAX] = { { .opcode = 0 } };
    struct record_spec spec = { .nsp = slice_from(nsp), .parts = parts };
    struct request *r = NULL;
    enum peal_result result;
    struct composed c;
    char *joined;

    if (!host_on_loop(host, __func__))
        return PEAL_THREAD;
    if (nsp.bytes == NULL || nsp.n_bytes > NAME_BYTES_MAX ||
        (answer != NULL && (done == NULL || !asking_timeout(timeout_ms))) ||
        namespace_find(&host->hub->region, spec.nsp) == NAMESPACE_NONE)
        return PEAL_INVALID;
    if (!peal_cluster_reachable(host))
        return PEAL_UNREACHABLE;
    if (bridge_is_behind(host->hub))
        return PEAL_FULL;
    result = compose(host, &message, true, &c);
    if (result != PEAL_OK)
        return result;
    joined = composed_text(&c, &parts[0].payload);
    if (joined == NULL)
        return PEAL_FULL;
    for (uint32_t i = 0; i < c.n_attachments; i++)
        parts[1 + i] = (struct record_part){ .payload = c.attachments[i] };
    spec.n_parts = 1 + c.n_attachments;
    spec.header.kind = RECORD_SERVER_EMIT;
    spec.header.targets = 1ull << PEAL_SLOT_BRIDGE;
    if (answer != NULL) {
        r = asking_open(host, REQUEST_CLUSTER, NULL, context);
        if (r == NULL) {
            free(joined);
            return PEAL_LIMIT;
        }
        r->answer_fn = answer;
        r->done_fn = done;
        r->waiting = 1ull << PEAL_SLOT_BRIDGE; /* if it dies, done is told so */
        spec.header.id = r->id;
        spec.header.detail = timeout_ms;
        spec.header.flags = RECORD_WANTS_ACK;
    }
    result = message_append(host, &spec);
    free(joined);
    return r == NULL ? result : asking_opened(host, r, result, timeout_ms);
}
