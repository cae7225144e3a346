/* asking.c: include/peal/app.h, what workers tell and ask each other: emits with acknowledgements, server-side emits, fetches, changes of many sockets. All of
 * it travels through the ring, also from a worker to itself: one order for all. */
#include <stdlib.h>

#include "app/asking.h"
#include "app/compose.h"
#include "shm/atomic.h"

#define BRIDGE         (1ull << PEAL_SLOT_BRIDGE)
#define BRIDGE_LATE_MS 1000

/* Workers that will read a record that is appended now; `starting`: also those that are about to serve. */
static uint64_t workers_mask(const struct peal_host *host, bool starting)
{
    const struct region *region = &host->hub->region;
    uint64_t mask = 1ull << region->self;

    for (uint32_t i = 0; i < region->header->n_workers; i++) {
        uint32_t state = shm_load_acquire_u32(&region->header->slots[i].state);

        if (state == SLOT_LIVE || (starting && state == SLOT_STARTING))
            mask |= 1ull << i;
    }
    return mask;
}

static void finish(struct peal_host *host, struct request *r, bool timed_out)
{
    struct handler call;
    struct peal_answers answers;
    struct request copy = *r;

    if (r->kind == REQUEST_CLUSTER) {
        cluster_finish(host, r, timed_out ? PEAL_TIMEOUT : PEAL_UNREACHABLE); /* the bridge died */
        return;
    }
    timer_cancel(&host->timers, r->timer);
    (void)request_answers(r, timed_out, &answers);
    host_enter(host, &call, copy.app, "answers");
    copy.fn(host, copy.context, &answers);
    host_leave(host, &call, (struct peal_text){ NULL, 0 });
    request_answers_free(&answers);
    request_close(&host->requests, r);
}

/* It is the bridge that knows which servers were silent: it is waited for a little longer, but not for long. */
static void out_of_time(struct peal_host *host, void *context)
{
    struct request *r = request_find(&host->requests, (uint64_t)(uintptr_t)context);

    if (r == NULL)
        return;
    if ((r->waiting & BRIDGE) == 0 || r->overtime) {
        finish(host, r, !request_complete(r));
        return;
    }
    r->overtime = true;
    r->timer =
        timer_new(&host->timers, NULL, host->hub->now_ms + BRIDGE_LATE_MS, 0, out_of_time, context);
}

void host_take_answer(struct peal_host *host, const struct record_view *view)
{
    struct request *r = request_find(&host->requests, view->header->id);

    if (r == NULL)
        return; /* too late */
    if (r->kind == REQUEST_CLUSTER)
        cluster_take(host, r, view);
    else if (requests_take(&host->requests, view) == r)
        finish(host, r, false);
    else if (r->overtime && (r->waiting & BRIDGE) == 0)
        finish(host, r, true);
}

void host_worker_gone(struct peal_host *host, uint32_t slot)
{
    struct request *r;
    uint32_t at = 0;

    while ((r = requests_gone(&host->requests, slot, &at)) != NULL)
        finish(host, r, false);
}

struct request *asking_open(struct peal_host *host, enum request_kind kind, peal_answers_fn fn,
                            void *context)
{
    struct request *r = request_open(&host->requests, host->hub, kind);

    if (r == NULL)
        return NULL;
    r->app = host->current != NULL ? host->current : &host->apps[0];
    r->fn = fn;
    r->context = context;
    return r;
}

enum peal_result asking_opened(struct peal_host *host, struct request *r, enum peal_result result,
                               uint32_t timeout_ms)
{
    if (result != PEAL_OK)
        request_close(&host->requests, r);
    else
        r->timer =
            timer_new(&host->timers, NULL, host->hub->now_ms + (r->waiting == 0 ? 0 : timeout_ms),
                      0, out_of_time, (void *)(uintptr_t)r->id);
    return result;
}

bool asking_timeout(uint32_t timeout_ms)
{
    return timeout_ms > 0 && timeout_ms <= PEAL_REQUEST_TIMEOUT_MAX;
}

/* Is the cluster to be asked besides this host? `unreachable`: it is, but cannot be. */
static uint64_t cluster_mask(const struct peal_host *host, uint32_t flags, bool *unreachable)
{
    bool is_wanted = (flags & PEAL_LOCAL) == 0 && host->hub->config->redis.enabled;

    *unreachable = is_wanted && !peal_cluster_reachable(host);
    return is_wanted && !*unreachable ? BRIDGE : 0;
}

/* Opens a request for what clients acknowledge, and says so in `with`. */
static enum peal_result ask_clients(struct peal_host *host, const char *function, uint64_t workers,
                                    uint32_t timeout_ms, peal_answers_fn answers, void *context,
                                    struct emit *with, struct request **r)
{
    if (!host_on_loop(host, function))
        return PEAL_THREAD;
    if (!asking_timeout(timeout_ms) || answers == NULL)
        return PEAL_INVALID;
    *r = asking_open(host, REQUEST_ACKS, answers, context);
    if (*r == NULL)
        return PEAL_LIMIT;
    (*r)->waiting = workers;
    with->timeout_ms = timeout_ms;
    with->ack_id = (*r)->id;
    with->targets = workers;
    return PEAL_OK;
}

enum peal_result peal_emit_ack(struct peal_host *host, struct peal_text nsp,
                               const struct peal_selector *to, struct peal_message message,
                               uint32_t timeout_ms, peal_answers_fn answers, void *context)
{
    struct emit with = { .flags = RECORD_WANTS_ACK };
    bool unreachable;
    uint64_t cluster = cluster_mask(host, to->flags, &unreachable);
    struct request *r;
    enum peal_result result = ask_clients(host, __func__, workers_mask(host, false) | cluster,
                                          timeout_ms, answers, context, &with, &r);

    if (result != PEAL_OK)
        return result;
    r->unreachable = unreachable;
    if (cluster == 0)
        with.flags |= RECORD_LOCAL;
    return asking_opened(host, r, message_emit(host, nsp, to, &message, &with), timeout_ms);
}

enum peal_result peal_send_ack(struct peal_host *host, peal_socket socket,
                               struct peal_message message, uint32_t timeout_ms,
                               peal_answers_fn answers, void *context)
{
    struct emit with = { .flags = RECORD_WANTS_ACK };
    uint64_t own = 1ull << host->hub->region.self; /* it is ours: nobody else need be woken */
    struct request *r;
    enum peal_result result =
        ask_clients(host, __func__, own, timeout_ms, answers, context, &with, &r);

    if (result != PEAL_OK)
        return result;
    r->single = true;
    return asking_opened(host, r, message_send(host, socket, &message, &with), timeout_ms);
}

enum peal_result peal_server_emit(struct peal_host *host, struct peal_text nsp,
                                  struct peal_message message, bool self, uint32_t timeout_ms,
                                  peal_answers_fn answers, void *context)
{
    struct hub *h = host->hub;
    uint64_t own = 1ull << h->region.self;
    struct record_part part = { .opcode = 0 };
    struct record_spec spec = { .nsp = slice_from(nsp), .parts = &part, .n_parts = 1 };
    struct request *r = NULL;
    enum peal_result result;
    struct composed c;
    char *joined;

    if (!host_on_loop(host, __func__))
        return PEAL_THREAD;
    if (nsp.bytes == NULL || message.n_attachments > 0 ||
        (answers != NULL && !asking_timeout(timeout_ms)))
        return PEAL_INVALID;
    result = compose(host, &message, true, &c);
    if (result != PEAL_OK)
        return result;
    joined = composed_text(&c, &part.payload);
    if (joined == NULL)
        return PEAL_FULL;
    spec.header.kind = RECORD_SERVER_EMIT;
    spec.header.flags = RECORD_LOCAL;
    spec.header.targets = (1ull << h->region.header->n_workers) - 1;
    if (!self)
        spec.header.targets &= ~own;
    if (answers != NULL) {
        r = asking_open(host, REQUEST_WORKERS, answers, context);
        if (r == NULL) {
            free(joined);
            return PEAL_LIMIT;
        }
        r->waiting = workers_mask(host, true) & spec.header.targets;
        r->n_expected = (uint32_t)__builtin_popcountll(r->waiting);
        spec.header.id = r->id;
        spec.header.flags |= RECORD_WANTS_ACK;
    }
    result = message_append(host, &spec);
    free(joined);
    return r == NULL ? result : asking_opened(host, r, result, timeout_ms);
}

enum peal_result peal_fetch(struct peal_host *host, struct peal_text nsp,
                            const struct peal_selector *to, enum peal_fetch what,
                            peal_answers_fn answers, void *context)
{
    static const uint8_t details[] = { FETCH_SOCKETS, FETCH_SOCKET_IDS, FETCH_COUNT, FETCH_ROOMS };
    struct names names;
    struct record_spec spec = { .nsp = slice_from(nsp),
                                .rooms = names.rooms,
                                .except = names.except };
    struct request *r;

    if (!host_on_loop(host, __func__))
        return PEAL_THREAD;
    if (nsp.bytes == NULL || answers == NULL || (uint32_t)what >= sizeof details ||
        !message_selector(to, &names))
        return PEAL_INVALID;
    r = asking_open(host, what == PEAL_FETCH_COUNT ? REQUEST_COUNT : REQUEST_LIST, answers,
                    context);
    if (r == NULL)
        return PEAL_LIMIT;
    r->unique = what == PEAL_FETCH_ROOMS;
    r->waiting = workers_mask(host, false) | cluster_mask(host, to->flags, &r->unreachable);
    spec.n_rooms = what == PEAL_FETCH_ROOMS ? 0 : to->n_rooms;
    spec.n_except = what == PEAL_FETCH_ROOMS ? 0 : to->n_except;
    spec.header.kind = RECORD_FETCH;
    spec.header.flags = RECORD_LOCAL;
    spec.header.id = r->id;
    spec.header.detail = details[what];
    spec.header.targets = r->waiting;
    return asking_opened(host, r, message_append(host, &spec),
                         host->hub->config->redis_request_timeout_ms);
}

/* --- changes of many sockets --- */

static enum peal_result change(struct peal_host *host, struct peal_text nsp,
                               const struct peal_selector *to, enum record_kind kind, uint8_t flags,
                               const struct peal_text *rooms, uint32_t n_rooms)
{
    struct names names;
    struct slice args[PEAL_ROOMS_MAX];
    struct record_spec spec = { .nsp = slice_from(nsp),
                                .rooms = names.rooms,
                                .n_rooms = to->n_rooms,
                                .except = names.except,
                                .n_except = to->n_except,
                                .args = args,
                                .n_args = n_rooms };

    if (nsp.bytes == NULL || !message_selector(to, &names) || !names_from(args, rooms, n_rooms))
        return PEAL_INVALID;
    spec.header.kind = (uint8_t)kind;
    spec.header.flags = flags | ((to->flags & PEAL_LOCAL) != 0 ? RECORD_LOCAL : 0);
    return message_append(host, &spec);
}

enum peal_result peal_sockets_join(struct peal_host *host, struct peal_text nsp,
                                   const struct peal_selector *to, const struct peal_text *rooms,
                                   uint32_t n_rooms)
{
    return host_on_loop(host, __func__) ? change(host, nsp, to, RECORD_JOIN, 0, rooms, n_rooms)
                                        : PEAL_THREAD;
}

enum peal_result peal_sockets_leave(struct peal_host *host, struct peal_text nsp,
                                    const struct peal_selector *to, const struct peal_text *rooms,
                                    uint32_t n_rooms)
{
    return host_on_loop(host, __func__) ? change(host, nsp, to, RECORD_LEAVE, 0, rooms, n_rooms)
                                        : PEAL_THREAD;
}

enum peal_result peal_sockets_disconnect(struct peal_host *host, struct peal_text nsp,
                                         const struct peal_selector *to, bool close)
{
    return host_on_loop(host, __func__)
               ? change(host, nsp, to, RECORD_DISCONNECT, close ? RECORD_CLOSE : 0, NULL, 0)
               : PEAL_THREAD;
}
