/* host.c: what all of include/peal/app.h stands on: handles, calls of applications, threads, and the host itself.
 *
 * A peal_socket is an index and a generation: using one after its end is found out and answered with PEAL_GONE, never obeyed. */
#include "app/host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "app/forward.h"
#include "proto/socketio.h"
#include "shm/atomic.h"

#define SLOW_MS            100
#define LOGS_PER_MINUTE    6
#define MISUSES_PER_MINUTE 60
#define LOG_TEXT_MAX       1024

const char *peal_result_name(enum peal_result result)
{
    static const char *const names[] = { "PEAL_OK",     "PEAL_FULL",    "PEAL_TOO_BIG",
                                         "PEAL_GONE",   "PEAL_LIMIT",   "PEAL_INVALID",
                                         "PEAL_THREAD", "PEAL_TIMEOUT", "PEAL_UNREACHABLE" };

    return (uint32_t)result < sizeof names / sizeof names[0] ? names[result] : "unknown";
}

/* --- handles --- */

peal_socket host_socket(struct hub *h, const struct sock *k)
{
    return (uint64_t)k->generation << 32 | ((uint64_t)sock_index(&h->sockets, k) + 1);
}

struct sock *host_sock(const struct peal_host *host, peal_socket socket)
{
    uint32_t index = (uint32_t)socket - 1;
    struct sock *k;

    if ((uint32_t)socket == 0 || index >= host->hub->sockets.fresh_sock)
        return NULL;
    k = sock_at(&host->hub->sockets, index);
    return k->state != SOCK_FREE && k->generation == (uint32_t)(socket >> 32) ? k : NULL;
}

struct sock *host_living(const struct peal_host *host, peal_socket socket)
{
    struct sock *k = host_sock(host, socket);

    if (k == NULL)
        return NULL;
    return (host->locals.items[(uint32_t)socket - 1].flags & LOCAL_LEAVING) != 0 ? NULL : k;
}

struct app *host_app(struct peal_host *host, const struct sock *k)
{
    return &host->apps[k->section == UINT8_MAX ? 0 : host->by_section[k->section]];
}

struct local *host_local(struct peal_host *host, const struct sock *k)
{
    return &host->locals.items[sock_index(&host->hub->sockets, k)];
}

bool names_from(struct slice *out, const struct peal_text *names, uint32_t n)
{
    if (n > PEAL_ROOMS_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (names[i].n_bytes > NAME_BYTES_MAX)
            return false;
        out[i] = slice_of(names[i].bytes == NULL ? "" : names[i].bytes, names[i].n_bytes);
    }
    return true;
}

char *host_text(struct peal_host *host, uint64_t n_bytes)
{
    if (n_bytes > host->text_max) {
        uint64_t want = n_bytes < 4096 ? 4096 : n_bytes + n_bytes / 2;
        char *text = want > UINT32_MAX ? NULL : realloc(host->text, want);

        if (text == NULL)
            return NULL;
        host->text = text;
        host->text_max = (uint32_t)want;
    }
    return host->text;
}

/* --- calls of applications --- */

/* Coarse: 4 ms do for 100, and it costs next to nothing. */
static uint64_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void host_enter(struct peal_host *host, struct handler *call, struct app *app, const char *name)
{
    *call = (struct handler){ .outer = host->current,
                              .outer_in_hand = host->in_hand,
                              .outer_attached = host->n_attached,
                              .outer_retried = host->retried,
                              .name = name,
                              .began_ms = clock_ms() };
    host->current = app;
    host->in_hand = (struct slice){ NULL, 0 };
    host->n_attached = 0;
    host->retried = false;
    if (call->outer == NULL)
        host->n_emitted = 0;
}

void host_leave(struct peal_host *host, const struct handler *call, struct peal_text detail)
{
    struct app *app = host->current;
    uint64_t now_ms = clock_ms();
    uint32_t suppressed;

    host->current = call->outer;
    host->in_hand = call->outer_in_hand;
    host->n_attached = call->outer_attached;
    host->retried = call->outer_retried;
    if (now_ms - call->began_ms < SLOW_MS || app == NULL ||
        !log_allow(&app->slow, now_ms, LOGS_PER_MINUTE, &suppressed))
        return;
    log_warning("app_slow", "app=%s handler=%s name=%.*s ms=%llu limit=%d suppressed=%u",
                app->api->name, call->name,
                detail.n_bytes > NAME_BYTES_MAX ? NAME_BYTES_MAX : (int)detail.n_bytes,
                detail.bytes == NULL ? "" : detail.bytes,
                (unsigned long long)(now_ms - call->began_ms), SLOW_MS, suppressed);
}

static void tell_misuse(struct peal_host *host, void *context)
{
    uint32_t suppressed;

    if (log_allow(&host->misuse, host->hub->now_ms, MISUSES_PER_MINUTE, &suppressed))
        log_error("app_misuse", "function=%s result=%s reason=%s suppressed=%u",
                  (const char *)context, "PEAL_THREAD",
                  "called from a thread that is not the loop's; use peal_post", suppressed);
}

bool host_on_loop(const struct peal_host *host, const char *function)
{
    if (pthread_equal(pthread_self(), host->owner))
        return true;
    /* log.c is for one thread, and so is what else there is of the host; its posts are not */
    (void)post_push((struct posts *)(uintptr_t)&host->posts, tell_misuse,
                    (void *)(uintptr_t)function);
    return false;
}

/* --- the host --- */

uint32_t peal_worker(const struct peal_host *host)
{
    return host->hub->region.self;
}

uint64_t peal_now_ms(const struct peal_host *host)
{
    return host_on_loop(host, __func__) ? host->hub->now_ms : 0;
}

uint32_t peal_count(struct peal_host *host, struct peal_text nsp)
{
    uint32_t index = namespace_find(&host->hub->region, slice_from(nsp));

    if (!host_on_loop(host, __func__))
        return 0;
    return index == NAMESPACE_NONE ? 0 : host->hub->row->sockets[index];
}

uint64_t peal_stat(struct peal_host *host, enum peal_stat which)
{
    const struct region *region = &host->hub->region;
    uint64_t sum = 0;
    struct counters_sum counters;

    switch (which) {
    case PEAL_STAT_WORKERS: return region->header->n_workers;
    case PEAL_STAT_CONNECTIONS:
        for (uint32_t i = 0; i < region->header->n_workers; i++)
            sum += shm_load_u64(&region->counters[i].gauges[GAUGE_CONNECTIONS_WEBSOCKET]) +
                   shm_load_u64(&region->counters[i].gauges[GAUGE_CONNECTIONS_POLLING]);
        return sum;
    case PEAL_STAT_DELIVERIES:
    case PEAL_STAT_MESSAGES:
        counters_read(region, &counters);
        return counters
            .counters[which == PEAL_STAT_DELIVERIES ? COUNT_DELIVERIES : COUNT_MESSAGES_RECEIVED];
    }
    return 0;
}

struct posted_line {
    enum peal_level level;
    char text[];
};

static void write_line(enum peal_level level, const char *app, const char *text)
{
    enum log_level at = level <= PEAL_DEBUG     ? LOG_DEBUG
                        : level == PEAL_INFO    ? LOG_INFO
                        : level == PEAL_WARNING ? LOG_WARNING
                                                : LOG_ERROR;

    if (log_level() <= at)
        log_write(at, "app", "app=%s text=%s", app, text);
}

static void write_posted(struct peal_host *host, void *context)
{
    struct posted_line *line = context;

    (void)host;
    write_line(line->level, "thread", line->text);
    free(line);
}

void peal_log(struct peal_host *host, enum peal_level level, const char *format, ...)
{
    char text[LOG_TEXT_MAX];
    struct posted_line *line;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (pthread_equal(pthread_self(), host->owner)) {
        write_line(level, host->current == NULL ? "" : host->current->api->name, text);
        return;
    }
    line = malloc(sizeof *line + strlen(text) + 1); /* log.c is for one thread */
    if (line == NULL)
        return;
    line->level = level;
    memcpy(line->text, text, strlen(text) + 1);
    if (!post_push(&host->posts, write_posted, line))
        free(line);
}

bool peal_is_socket_id(struct peal_text room)
{
    uint8_t id[SOCKET_ID_BYTES];

    return room.n_bytes == SOCKET_ID_CHARS && base64url_decode(id, slice_from(room));
}

bool peal_event_reserved(struct peal_text name)
{
    return sio_event_reserved(slice_from(name));
}

void forward_count(struct peal_host *host, enum forward_result result)
{
    count_add(host->hub->row, (enum counter)(COUNT_FORWARD_FIRST + result), 1);
}

/* --- time and threads --- */

static peal_timer arm(struct peal_host *host, uint32_t ms, uint32_t every_ms, peal_fn fn,
                      void *context)
{
    return fn == NULL
               ? 0
               : timer_new(&host->timers, host->current == NULL ? &host->apps[0] : host->current,
                           host->hub->now_ms + ms, every_ms, fn, context);
}

peal_timer peal_timer_after(struct peal_host *host, uint32_t ms, peal_fn fn, void *context)
{
    return host_on_loop(host, __func__) ? arm(host, ms, 0, fn, context) : 0;
}

peal_timer peal_timer_every(struct peal_host *host, uint32_t ms, peal_fn fn, void *context)
{
    return host_on_loop(host, __func__) ? arm(host, ms, ms == 0 ? 1 : ms, fn, context) : 0;
}

void peal_timer_cancel(struct peal_host *host, peal_timer timer)
{
    if (host_on_loop(host, __func__))
        timer_cancel(&host->timers, timer);
}

enum peal_result peal_post(struct peal_host *host, peal_fn fn, void *context)
{
    if (fn == NULL)
        return PEAL_INVALID;
    return post_push(&host->posts, fn, context) ? PEAL_OK : PEAL_FULL;
}
