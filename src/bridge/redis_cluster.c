/* redis_cluster.c: see redis_cluster.h: opening, closing, and the turn of the loop. The map of slots is cluster_map.c, what is published cluster_publish.c, what is
 * subscribed cluster_subscribe.c. */
#include "bridge/cluster_internal.h"

bool cluster_init(struct cluster *c, const struct config *config, struct tls_context *tls,
                  struct shm_counters *row, const uint64_t key[2])
{
    struct cluster_node *first = &c->nodes[0];

    memset(c, 0, sizeof *c);
    c->config = config;
    c->tls = tls;
    c->row = row;
    memset(c->map, CHANNEL_NODE_NONE, sizeof c->map);
    c->n_uncovered = REDIS_SLOTS;
    first->redis = config->redis;
    cluster_open_node(c, first);
    return channels_init(&c->channels, BRIDGE_ROOMS_MAX + 2 * NAMESPACES_MAX, key);
}

void cluster_close(struct cluster *c)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used)
            cluster_close_node(&c->nodes[i]);
    backlog_free(&c->waiting);
    channels_destroy(&c->channels);
}

/* --- the loop --- */

uint32_t cluster_fds(const struct cluster *c, struct pollfd *fds, bool read)
{
    uint32_t n_fds = 0;

    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        const struct cluster_node *n = &c->nodes[i];
        short in = n->used ? link_events(&n->in) : 0;
        short out = n->used ? link_events(&n->out) : 0;

        fds[2 * i] = (struct pollfd){ n->used ? n->in.fd : -1,
                                      (short)(read ? in : in & ~(POLLIN | POLLRDHUP)), 0 };
        fds[2 * i + 1] = (struct pollfd){ n->used ? n->out.fd : -1,
                                          (short)(read ? out : out & ~(POLLIN | POLLRDHUP)), 0 };
        n_fds = n->used ? 2 * i + 2 : n_fds;
    }
    return n_fds;
}

uint32_t cluster_wait_ms(const struct cluster *c, uint64_t now_ms)
{
    uint64_t wait = c->sweep_left > 0 ? 0 : 1000;

    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        const struct cluster_node *n = &c->nodes[i];

        if (n->used && link_wait_ms(&n->in, now_ms) < wait)
            wait = link_wait_ms(&n->in, now_ms);
        if (n->used && link_wait_ms(&n->out, now_ms) < wait)
            wait = link_wait_ms(&n->out, now_ms);
    }
    if (c->refresh_at_ms > now_ms && c->refresh_at_ms - now_ms < wait)
        wait = c->refresh_at_ms - now_ms;
    if (c->sweep_again_at_ms > now_ms && c->sweep_again_at_ms - now_ms < wait)
        wait = c->sweep_again_at_ms - now_ms;
    return (uint32_t)wait;
}

/* Takes what is left from a turn that was paused, and what has come; while it is paused, silence is no fault of Redis. True: it came up just now. */
static bool read_link(struct cluster *c, struct link *l, short events, link_on_reply on_reply,
                      struct cluster_reading *t)
{
    bool came_up;

    if (!c->paused && l->state == LINK_UP)
        (void)link_replies(l, c->now_ms, on_reply, t);
    came_up = link_on_events(l, events, !c->paused, c->now_ms, on_reply, t);
    if (!c->paused || l->state != LINK_UP)
        link_tick(l, c->now_ms);
    return came_up;
}

static void node_turn(struct cluster *c, struct cluster_node *n, short in_events, short out_events,
                      const struct cluster_events *events)
{
    struct cluster_reading t = { c, n, events };

    (void)read_link(c, &n->out, out_events, cluster_on_answer, &t);
    if (read_link(c, &n->in, in_events, cluster_on_push, &t))
        n->epoch++;
    if (n->in_up != (n->in.state == LINK_UP)) {
        n->in_up = !n->in_up;
        cluster_sweep_all(c);
    }
    if (n->out_up != (n->out.state == LINK_UP)) {
        n->out_up = !n->out_up;
        if (!n->out_up)
            cluster_on_publisher_gone(c, n);
        else if (c->single || c->n_uncovered > 0)
            c->refresh_at_ms = c->now_ms;
        c->try_waiting = c->try_waiting || n->out_up;
    }
}

void cluster_turn(struct cluster *c, const struct pollfd *fds, bool read, uint64_t now_ms,
                  const struct cluster_events *events)
{
    c->now_ms = now_ms;
    c->paused = !read;
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        struct cluster_node *n = &c->nodes[i];
        /* a node that has come since has other descriptors than those that were polled for */
        short in = fds[2 * i].fd == n->in.fd ? fds[2 * i].revents : 0;
        short out = fds[2 * i + 1].fd == n->out.fd ? fds[2 * i + 1].revents : 0;

        if (n->used)
            node_turn(c, n, in, out, events);
    }
    cluster_ask_for_map(c);
    cluster_send_waiting(c);
    cluster_sweep(c);
}

void cluster_flush(struct cluster *c, uint64_t now_ms)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++) {
        if (!c->nodes[i].used)
            continue;
        link_flush(&c->nodes[i].in, now_ms);
        link_flush(&c->nodes[i].out, now_ms);
    }
}

bool cluster_unsent(const struct cluster *c)
{
    for (uint32_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used && c->nodes[i].out.state == LINK_UP &&
            (link_events(&c->nodes[i].out) & POLLOUT) != 0)
            return true;
    return false;
}

bool cluster_is_up(const struct cluster *c)
{
    if (c->n_uncovered > 0)
        return false;
    for (uint8_t i = 0; i < REDIS_MASTERS_MAX; i++)
        if (c->nodes[i].used &&
            (c->nodes[i].in.state != LINK_UP || c->nodes[i].out.state != LINK_UP) &&
            cluster_is_master(c, i))
            return false;
    return true;
}
