/* admit.c: new connections: from the master's inbox (leastconn), from this slot's own listeners (reuseport, iphash), and whether one may become a client.
 *
 * max_pending bounds TCP sockets that are no clients. When it is reached, connections wait where they are (in the inbox, in the kernel's queue); only when
 * that has lasted for a second are they taken and refused: a burst is served late rather than not, and sockets that say nothing do not shut
 * others out for ever. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/listener.h"
#include "shm/atomic.h"
#include "shm/ip_counts.h"
#include "worker/worker.h"

#define CROWDED_PATIENCE_MS 1000
#define PACKETS_PER_TURN    64
#define ACCEPTS_PER_TURN    256
#define ACCEPT_RETRY_MS     100
#define ONE_ADDRESS_LEAST   8 /* clients of one address that are worth a word */

bool worker_is_closed(const struct worker *w)
{
    return w->hub.ending || shm_load_u32(&w->hub.region.header->listeners_closed) != 0;
}

/* Is there no room for more sockets that are no clients? With `refuse`: for so long that they are to be refused. */
static bool is_crowded(struct worker *w, bool *refuse)
{
    *refuse = false;
    if (hub_pending(&w->hub) < w->hub.config->max_pending) {
        w->crowded_since_ms = 0;
        return false;
    }
    if (w->crowded_since_ms == 0)
        w->crowded_since_ms = w->hub.now_ms;
    *refuse = worker_is_closed(w) || /* waiting would be in vain */
              w->hub.now_ms - w->crowded_since_ms >= CROWDED_PATIENCE_MS;
    return true;
}

static void refuse(struct worker *w, int fd, enum counter why)
{
    const char *text = why == COUNT_REFUSED_DRAINING ? "the server is draining"
                       : why == COUNT_REFUSED_PENDING
                           ? "too many connections wait here (max_pending)"
                           : "the server is full (max_connections_per_worker)";
    char answer[256];
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n"
                     "Content-Type: text/plain\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n%s\r\n",
                     strlen(text) + 2, text);

    count_add(w->hub.row, why, 1);
    /* a courtesy to a socket that is closed at once: whether it arrives does not matter */
    (void)send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void settle_refused(struct worker *w, const struct parcel *parcel)
{
    if (!parcel->has_place)
        return;
    w->hub.n_settled++;
    shm_store_release_u64(&w->hub.slot->places,
                          (uint64_t)w->hub.n_settled << 32 | w->hub.n_clients);
}

static void take(struct worker *w, int fd, const struct parcel *parcel, bool crowded)
{
    struct hub *h = &w->hub;
    uint32_t index = crowded ? CONN_NONE : conn_open(&h->conns, fd, &parcel->peer);
    struct conn *c;

    if (index == CONN_NONE) {
        settle_refused(w, parcel);
        refuse(w, fd,
               !crowded              ? COUNT_REFUSED_WORKER_LIMIT
               : worker_is_closed(w) ? COUNT_REFUSED_DRAINING
                                     : COUNT_REFUSED_PENDING);
        return;
    }
    c = conn_at(&h->conns, index);
    c->refusal = parcel->refusal;
    if (parcel->has_place)
        c->flags |= CONN_HAS_PLACE;
    proxy_begin(w, c);
    wheel_arm(&h->conns.wheel, index, h->now_ms + h->config->header_timeout_ms);
    gauge_set(h->row, GAUGE_PENDING, hub_pending(h));
}

/* A request of a session of ours that another worker has read. It was admitted with its session. */
static void take_request(struct worker *w, int fd, const struct parcel *parcel)
{
    struct hub *h = &w->hub;
    uint32_t index = conn_open_handed(&h->conns, fd, &parcel->peer);
    struct conn *c;

    if (index == CONN_NONE) {
        refuse(w, fd, COUNT_REFUSED_WORKER_LIMIT);
        return;
    }
    c = conn_at(&h->conns, index);
    c->proxy = parcel->proxy;
    wheel_arm(&h->conns.wheel, index, h->now_ms + h->config->header_timeout_ms);
    worker_on_http_bytes(w, c, slice_of(w->request, parcel->value));
    conn_read_next(&h->conns, c);
}

/* What came in one packet, one by one: the bound is exact. False: the rest waits for room. */
static bool take_held(struct worker *w)
{
    while (w->held_at < w->n_held) {
        uint32_t i = w->held_at;
        bool refuse_all;
        bool crowded = is_crowded(w, &refuse_all);

        if (crowded && !refuse_all && w->held[i].kind != PARCEL_REQUEST)
            return false;
        w->held_at++;
        if (w->held_fds[i] < 0)
            continue;
        if (w->held[i].kind == PARCEL_REQUEST) {
            take_request(w, w->held_fds[i], &w->held[i]);
            continue;
        }
        if (w->held[i].kind != PARCEL_CONNECTION) {
            close(w->held_fds[i]);
            continue;
        }
        count_add(w->hub.row, COUNT_HANDOFF_PLACEMENT, 1);
        take(w, w->held_fds[i], &w->held[i], crowded);
    }
    return true;
}

void worker_on_inbox(struct worker *w)
{
    bool refuse_all;

    w->inbox_waits = true; /* unless it is found empty: the next turn goes on */
    for (uint32_t packets = 0; packets < PACKETS_PER_TURN; packets++) {
        int n;

        if (!take_held(w) || (is_crowded(w, &refuse_all) && !refuse_all))
            return;
        n = inbox_receive(w->child->inbox_fd, w->held, w->held_fds, w->request);
        if (n <= 0) {
            w->inbox_waits = false;
            return;
        }
        w->held_at = 0;
        w->n_held = (uint32_t)n;
    }
}

/* --- the slot's own listeners --- */

void worker_on_accept(struct worker *w, const struct loop_event *event)
{
    struct acceptor *a = &w->acceptors[tag_index(event->tag)];

    a->armed = false;
    a->ready = event->result >= 0 && !a->closed;
}

/* No more descriptors, or what else there may be: what waits stays in the kernel, and readiness alone would have us try without a pause. */
static void accept_failed(struct worker *w, int error)
{
    static struct log_rate rate;
    uint32_t suppressed;

    w->accept_at_ms = w->hub.now_ms + ACCEPT_RETRY_MS;
    if (log_allow(&rate, w->hub.now_ms, 6, &suppressed))
        log_error("accept_failed", "error=%s remedy=%s suppressed=%u", strerror(error),
                  error == EMFILE ? "raise RLIMIT_NOFILE (LimitNOFILE=)"
                                  : "none known; tried again",
                  suppressed);
}

/* One by one, for as long as there is room: a request for many at once would deliver more than max_pending. */
static void accept_ready(struct worker *w, uint32_t i, uint32_t *budget)
{
    struct acceptor *a = &w->acceptors[i];

    for (; a->ready && *budget > 0; (*budget)--) {
        struct parcel parcel = { .kind = PARCEL_CONNECTION };
        struct sockaddr_storage address = { 0 };
        socklen_t address_bytes = sizeof address;
        bool refuse_all;
        bool crowded = is_crowded(w, &refuse_all);
        int fd;

        if (crowded && !refuse_all)
            return;
        fd = accept4(w->child->listeners[i], (struct sockaddr *)&address, &address_bytes,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            peer_address_from(&parcel.peer, &address);
            take(w, fd, &parcel, crowded);
        } else if (errno == EAGAIN) {
            a->ready = false;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            accept_failed(w, errno);
            return;
        }
    }
}

void worker_close_listeners(struct worker *w)
{
    for (uint32_t i = 0; i < w->child->n_listeners; i++) {
        struct acceptor *a = &w->acceptors[i];
        int listener = w->child->listeners[i];

        if (a->closed)
            continue;
        a->closed = true;
        a->ready = false;
        for (uint32_t n = 0; !w->hub.ending && n < LISTENER_BACKLOG; n++) {
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

            if (fd < 0)
                break;
            refuse(w, fd, COUNT_REFUSED_DRAINING); /* it came before anybody could know */
        }
        /* for all who have it: a request in the kernel keeps it listening past a close */
        if (!w->hub.ending)
            (void)shutdown(listener, SHUT_RDWR);
        else if (a->armed)
            loop_cancel(w->hub.loop, tag_pack(OP_ACCEPT, i, 0), tag_pack(OP_ACCEPT_CANCEL, i, 0));
        close(listener);
    }
}

void worker_accept_more(struct worker *w)
{
    uint32_t budget = ACCEPTS_PER_TURN;

    w->accept_due = false;
    if (w->inbox_waits && !w->hub.ending)
        worker_on_inbox(w);
    if (worker_is_closed(w)) {
        worker_close_listeners(w);
        return;
    }
    if (w->hub.now_ms < w->accept_at_ms)
        return;
    for (uint32_t i = 0; i < w->child->n_listeners; i++) {
        struct acceptor *a = &w->acceptors[i];

        accept_ready(w, i, &budget);
        if (a->ready || a->armed)
            continue;
        a->armed = true;
        loop_poll_once(w->hub.loop, w->child->listeners[i], POLLIN, tag_pack(OP_ACCEPT, i, 0));
    }
    w->accept_due = budget == 0;
}

/* --- admission --- */

static enum parcel_refusal by_places(struct worker *w, const struct conn *c)
{
    const struct shm_header *header = w->hub.region.header;
    uint64_t host = 0;
    bool full = false;

    if (w->hub.ending || shm_load_u32(&header->draining) == DRAIN_CLOSING)
        return REFUSE_DRAINING;
    if (c->refusal != REFUSE_NOT)
        return (enum parcel_refusal)c->refusal;
    if ((c->flags & CONN_HAS_PLACE) != 0)
        return REFUSE_NOT;
    for (uint32_t i = 0; i < header->n_workers; i++) {
        const struct shm_slot *slot = &header->slots[i];
        uint64_t places = shm_load_u64(&slot->places);
        uint64_t taken = (uint32_t)places +
                         (uint32_t)(shm_load_u32(&slot->n_places_given) - (uint32_t)(places >> 32));

        if (i == w->hub.region.self)
            full = slot->max_connections != 0 && taken >= slot->max_connections;
        host += taken;
    }
    /* where both are reached the host's is the one that was set */
    if (header->max_connections != 0 && host >= header->max_connections)
        return REFUSE_HOST_LIMIT;
    return full ? REFUSE_WORKER_LIMIT : REFUSE_NOT;
}

/* What a limit by address, or a placement by address, is worth if most clients have the same one: usually a proxy's, which should be told of. */
static void look_for_one_address(struct worker *w, const struct peer_address *address, uint32_t n)
{
    static struct log_rate rate;
    const struct shm_header *header = w->hub.region.header;
    char text[ADDRESS_TEXT_MAX];
    uint64_t all = 1; /* this one is not in `places` yet */
    uint32_t suppressed;

    if (n < ONE_ADDRESS_LEAST)
        return;
    for (uint32_t i = 0; i < header->n_workers; i++)
        all += (uint32_t)shm_load_u64(&header->slots[i].places);
    if (2ull * n <= all || !log_allow(&rate, w->hub.now_ms, 1, &suppressed))
        return;
    peer_address_text(text, sizeof text, address);
    log_warning("one_address", "address=%s clients=%u of=%llu concerns=%s remedy=%s suppressed=%u",
                text, n, (unsigned long long)all,
                w->hub.config->max_connections_per_ip != 0 ? "max_connections_per_ip"
                                                           : "balance = iphash",
                w->hub.config->max_connections_per_ip != 0
                    ? "behind a proxy: trusted_proxies (with proxy_protocol, if it does not speak "
                      "HTTP)"
                    : "behind a proxy: balance = leastconn",
                suppressed);
}

static void tell_of_ip_limit(struct worker *w, const struct peer_address *address, uint32_t n)
{
    static struct log_rate rate;
    char text[ADDRESS_TEXT_MAX];
    uint32_t suppressed;

    if (!log_allow(&rate, w->hub.now_ms, 10, &suppressed))
        return;
    peer_address_text(text, sizeof text, address);
    log_info("ip_limit", "address=%s clients=%u max_connections_per_ip=%u suppressed=%u", text, n,
             w->hub.config->max_connections_per_ip, suppressed);
}

enum parcel_refusal worker_admission(struct worker *w, const struct conn *c,
                                     const struct peer_address *address)
{
    struct region *region = &w->hub.region;
    enum parcel_refusal refusal = by_places(w, c);
    uint32_t n;

    if (refusal != REFUSE_NOT || region->ips == NULL)
        return refusal;
    if (!ip_take(region, address_key(address), region->config->max_connections_per_ip, &n)) {
        tell_of_ip_limit(w, address, n);
        return REFUSE_IP_LIMIT;
    }
    look_for_one_address(w, address, n);
    return REFUSE_NOT;
}

void worker_admission_withdraw(struct worker *w, const struct peer_address *address)
{
    if (w->hub.region.ips != NULL)
        ip_give_back(&w->hub.region, address_key(address));
}
