/* life.c: the applications of a worker: how they begin and end, what they are told besides packets, and when.
 *
 *     connect -> connection -> event ... -> disconnecting -> disconnect        of one socket
 *     start -> ... timers, posts, server_event, second ... -> stop            of one application */
#include <dlfcn.h>
#include <stdlib.h>

#include "app/dispatch.h"
#include "app/forward.h"
#include "app/messages.h"
#include "app/module.h"
#include "app/relay.h"
#include "session/ends.h"
#include "shm/atomic.h"

#define TIMERS_PER_TURN 1024
#define POSTS_PER_TURN  1024
#define FULL_RETRY_MS   2 /* nobody rings a producer that found the ring full */

static const struct peal_text absent = { NULL, 0 };

/* --- beginning and end --- */

static const struct peal_app nothing_app = { .abi = PEAL_APP_ABI, .name = "none" };

static const struct peal_app *api_of(const struct config *config,
                                     const struct config_namespace *section)
{
    char why[MODULE_WHY_MAX];
    const struct peal_app *api;

    switch ((enum config_app)section->app) {
    case APP_RELAY:
        return config->demo && strcmp(section->name, "/demo") == 0 ? &demo_app : &relay_app;
    case APP_MODULE:
        api = module_load(section->module_path, why);
        if (api == NULL)
            log_error("module_refused", "namespace=%s%s reason=%s", section->name,
                      section->is_prefix ? "*" : "", why);
        return api;
    case APP_FORWARD: return &forward_app;
    case APP_NONE: break;
    }
    return &nothing_app;
}

/* Which file has this address in it, by where it was loaded. */
static const void *base_of(const void *address)
{
    Dl_info info;

    return dladdr(address, &info) == 0 ? NULL : info.dli_fbase;
}

/* The same file is the same object, however often it is loaded. */
static uint8_t app_index(struct peal_host *host, const struct peal_app *api)
{
    for (uint32_t i = 0; i < host->n_apps; i++)
        if (host->apps[i].api == api)
            return (uint8_t)i;
    host->apps[host->n_apps].api = api;
    host->apps[host->n_apps].base = base_of(api);
    return (uint8_t)host->n_apps++;
}

static bool start(struct peal_host *host, struct app *app)
{
    struct handler call;
    bool started;

    if (app->api->start == NULL) {
        app->started = true;
        return true;
    }
    host_enter(host, &call, app, "start");
    started = app->api->start(host);
    host_leave(host, &call, absent);
    app->started = started;
    if (!started)
        log_error("module_refused", "app=%s reason=%s", app->api->name, "its start() said no");
    return started;
}

static void on_socket_gone(void *context, struct sock *k, enum close_reason reason, bool left);
static void on_record(void *context, const struct record_view *view);

static struct slice data_of(void *context, const struct sock *k)
{
    const struct local *l = host_local(context, k);

    return slice_of(l->data, l->n_data);
}

bool dispatch_open(struct peal_host *host)
{
    struct hub *h = host->hub;

    host->owner = pthread_self();
    if (!locals_init(&host->locals, h->sockets.socks_max) || !tickets_init(&host->tickets) ||
        !requests_init(&host->requests) || !timers_init(&host->timers, h->now_ms) ||
        !posts_init(&host->posts, h->region.bells[h->region.self])) {
        log_error("out_of_memory", "what=%s", "tables of applications");
        return false;
    }
    h->socket_gone = on_socket_gone;
    h->record_for_apps = on_record;
    h->socket_data = data_of;
    h->apps_context = host;
    dispatch_hook_recovery(host);
    (void)app_index(host, &nothing_app);
    for (uint32_t i = 0; i < h->config->n_namespaces; i++) {
        const struct peal_app *api = api_of(h->config, &h->config->namespaces[i]);

        if (api == NULL)
            return false;
        host->by_section[i] = app_index(host, api);
    }
    for (uint32_t i = 0; i < host->n_apps; i++)
        if (!start(host, &host->apps[i]))
            return false;
    host->last_poster = &host->apps[0];
    return true;
}

void dispatch_close(struct peal_host *host)
{
    for (uint32_t i = 0; i < host->n_apps; i++) {
        struct app *app = &host->apps[i];
        struct handler call;

        if (!app->started || app->api->stop == NULL)
            continue;
        host_enter(host, &call, app, "stop");
        app->api->stop(host);
        host_leave(host, &call, absent);
    }
    host->hub->socket_gone = NULL;
    requests_destroy(&host->requests);
    timers_destroy(&host->timers);
    tickets_destroy(&host->tickets);
    posts_destroy(&host->posts);
    locals_destroy(&host->locals);
    free(host->handshake);
    free(host->text);
}

/* --- sockets --- */

enum peal_result host_tell(struct peal_host *host, struct sock *k)
{
    uint32_t index = sock_index(&host->hub->sockets, k);
    struct app *app = host_app(host, k);
    enum peal_result result;
    peal_socket socket;
    struct handler call;

    /* the first half for memory: without an application nothing of a socket's is looked at here */
    if (app->api->connection == NULL || (host->locals.items[index].flags & LOCAL_UNTOLD) == 0)
        return PEAL_OK;
    socket = host_socket(host->hub, k);
    local_untold_remove(&host->locals, index);
    host_enter(host, &call, app, "connection");
    host->retried = true;
    result = app->api->connection(host, socket);
    host_leave(host, &call, absent);
    if (result == PEAL_FULL && host_living(host, socket) != NULL)
        local_untold_add(&host->locals, index); /* it has not been connected, as far as it knows */
    return result;
}

/* As Node says it. */
static const char *reason_text(enum close_reason reason, char text[64])
{
    const char *name = close_reason_name(reason);
    uint32_t i = 0;

    for (; i < 63 && name[i] != '\0'; i++)
        text[i] = (char)(name[i] == '_' ? ' ' : name[i]);
    text[i] = '\0';
    return text;
}

/* Called twice for each socket that ends: in its rooms still, and when it has left. */
static void on_socket_gone(void *context, struct sock *k, enum close_reason reason, bool left)
{
    struct peal_host *host = context;
    struct app *app = host_app(host, k);
    struct local *l = host_local(host, k);
    void (*handler)(struct peal_host *, peal_socket, const char *) =
        left ? app->api->disconnect : app->api->disconnecting;
    struct handler call;
    char text[64];
    bool known;

    if (app == &host->apps[0])
        return; /* nothing is kept, and nobody told */
    known =
        (k->state == SOCK_ACTIVATING || k->state == SOCK_ACTIVE) && (l->flags & LOCAL_UNTOLD) == 0;
    if (app->api->disconnecting != NULL || app->api->disconnect != NULL)
        l->flags |= LOCAL_LEAVING;
    if (known && handler != NULL) {
        host_enter(host, &call, app, left ? "disconnect" : "disconnecting");
        handler(host, host_socket(host->hub, k), reason_text(reason, text));
        host_leave(host, &call, absent);
    }
    if (!left)
        return;
    host_answered(host, k);
    tickets_end(&host->tickets, &l->tickets);
    local_end(&host->locals, sock_index(&host->hub->sockets, k));
}

/* --- records for applications --- */

/* Events of the cluster whose name begins like this are Peal's own (forward). */
static bool is_own_event(struct peal_text name)
{
    static const char prefix[] = "peal:";

    return name.n_bytes >= sizeof prefix - 1 && memcmp(name.bytes, prefix, sizeof prefix - 1) == 0;
}

static bool call_server_event(struct peal_host *host, struct app *app,
                              const struct record_view *view, struct peal_event *event)
{
    bool from_cluster = view->header->origin == ORIGIN_REDIS;
    struct handler call;
    bool taken;

    host_enter(host, &call, app, "server_event");
    host->in_hand = slice_from(event->message.json); /* its sender has validated it */
    host->n_attached = event->message.n_attachments;
    taken = app->api->server_event(host, text_from(view->nsp),
                                   from_cluster ? PEAL_FROM_CLUSTER : view->header->slot, event);
    host_leave(host, &call, event->name);
    return taken;
}

static void on_server_emit(struct peal_host *host, const struct record_view *view)
{
    const struct record_header *header = view->header;
    const struct config_namespace *section = config_namespace_find(host->hub->config, view->nsp);
    struct ticket ticket = { .request = header->id, .slot = header->slot };
    struct peal_text attachments[SIO_ATTACHMENTS_MAX];
    struct peal_event event = { .message.attachments = attachments };
    struct record_spec none = { .n_parts = 0 };
    struct app *app = &host->apps[0];
    char name[NAME_BYTES_MAX + 1];
    bool taken = false;
    uint8_t opcode;

    if (section != NULL)
        app = &host->apps[host->by_section[section - host->hub->config->namespaces]];
    if (header->n_parts == 0 || header->n_parts > 1 + SIO_ATTACHMENTS_MAX)
        return;
    event.message.json = text_from(record_part(view, 0, &opcode));
    for (uint32_t i = 1; i < header->n_parts; i++)
        attachments[event.message.n_attachments++] = text_from(record_part(view, i, &opcode));
    event.name = dispatch_event_name(slice_from(event.message.json), name);
    if ((header->flags & RECORD_WANTS_ACK) != 0 && header->slot < PEAL_SLOTS)
        event.ack = ticket_new(&host->tickets, &host->tickets.of_workers, &ticket);
    if (app->api->server_event != NULL &&
        (header->origin != ORIGIN_REDIS || !is_own_event(event.name) ||
         (section != NULL && section->app == APP_FORWARD)))
        taken = call_server_event(host, app, view, &event);
    if (!taken && event.ack != 0 && ticket_find(&host->tickets, event.ack) != NULL) {
        struct ticket *t = ticket_find(&host->tickets, event.ack);

        message_reply(host, t, &none);
        ticket_use(&host->tickets, &host->tickets.of_workers, t);
    }
}

static void on_record(void *context, const struct record_view *view)
{
    switch ((enum record_kind)view->header->kind) {
    case RECORD_ACK:
    case RECORD_REPLY: host_take_answer(context, view); break;
    case RECORD_GONE: host_worker_gone(context, view->header->detail); break;
    case RECORD_SERVER_EMIT: on_server_emit(context, view); break;
    case RECORD_VOID:
    case RECORD_BROADCAST:
    case RECORD_JOIN:
    case RECORD_LEAVE:
    case RECORD_DISCONNECT:
    case RECORD_FETCH:
    case RECORD_NAMESPACE:
    case RECORD_ROOM_NEWS:
    case RECORD_KINDS: break;
    }
}

/* --- the turn --- */

static void run_timers(struct peal_host *host)
{
    uint32_t budget = TIMERS_PER_TURN;
    struct timer t;

    while (timers_due(&host->timers, host->hub->now_ms, &budget, &t)) {
        struct handler call;

        if (t.app == NULL) {
            t.fn(host, t.context);
            continue;
        }
        host_enter(host, &call, t.app, "timer");
        t.fn(host, t.context);
        host_leave(host, &call, absent);
    }
}

/* Whose function is this? Who posts is a thread that we do not know. */
static struct app *poster(struct peal_host *host, peal_fn fn)
{
    const void *base;

    if (host->last_posted == fn)
        return host->last_poster;
    base = base_of((const void *)(uintptr_t)fn);
    host->last_posted = fn;
    host->last_poster = &host->apps[0];
    for (uint32_t i = 0; i < host->n_apps; i++)
        if (host->apps[i].base == base)
            host->last_poster = &host->apps[i];
    return host->last_poster;
}

static void run_posts(struct peal_host *host)
{
    struct post p;

    for (uint32_t i = 0; i < POSTS_PER_TURN && post_take(&host->posts, &p); i++) {
        struct handler call;

        host_enter(host, &call, poster(host, p.fn), "post");
        p.fn(host, p.context);
        host_leave(host, &call, absent);
    }
}

static void tell_untold(struct peal_host *host)
{
    struct hub *h = host->hub;

    /* who finds the ring full goes to the end, and the others wait, too */
    for (uint32_t n = 0; host->locals.first_untold != 0 && n < TIMERS_PER_TURN; n++)
        if (!deferred_room(&h->deferred, PEAL_ROOMS_MAX + 1) ||
            host_tell(host, sock_at(&h->sockets, host->locals.first_untold - 1)) == PEAL_FULL)
            return;
}

void dispatch_turn(struct peal_host *host)
{
    run_posts(host);
    run_timers(host);
    tell_untold(host);
    clients_end_due(host->hub);
}

bool dispatch_waits(const struct peal_host *host)
{
    return host->locals.first_untold != 0;
}

uint32_t dispatch_rest_ms(const struct peal_host *host)
{
    uint32_t wait = timers_next_ms(&host->timers, host->hub->now_ms);

    if (posts_any(&host->posts))
        return 0;
    if ((host->locals.first_untold != 0 || clients_any_end(host->hub)) && wait > FULL_RETRY_MS)
        return FULL_RETRY_MS;
    return wait;
}

void dispatch_second(struct peal_host *host)
{
    for (uint32_t i = 0; i < host->n_apps; i++) {
        struct app *app = &host->apps[i];
        struct handler call;

        if (app->api->second == NULL)
            continue;
        host_enter(host, &call, app, "second");
        app->api->second(host);
        host_leave(host, &call, absent);
    }
}
