/* probe.c: does what we publish come back to us? A PING tells that a connection is open, not that its subscriptions are there: only a message that was
 * published on one connection and received on the other does.
 *
 *     subscriber up -> SUBSCRIBE the channel, after all others -> confirmed -> PUBLISH -> received: proven -> PUBLISH every second -> ...
 *                                                               -> refused: we do without
 *
 * Until the first one has come back, messages wait: then Redis has taken our subscriptions, and peers count us, before it sees anything of ours. No peer
 * subscribes to the channel, by name or by pattern. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "bridge/state.h"
#include "shm/atomic.h"

#define PROBE_EVERY_MS 1000
#define PROBE_DEAF_MS  5000

static uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static struct slice channel_of(const struct bridge *b, char text[PROBE_CHANNEL_MAX])
{
    int n = snprintf(text, PROBE_CHANNEL_MAX, "%s-probe#%.*s#", b->config->redis_key,
                     ADAPTER_UID_CHARS, b->uid);

    return slice_of(text, (uint32_t)n);
}

bool probe_is_channel(const struct bridge *b, struct slice channel)
{
    char text[PROBE_CHANNEL_MAX];

    return slice_equal(channel, channel_of(b, text));
}

void probe_subscribe(struct bridge *b)
{
    char text[PROBE_CHANNEL_MAX];
    struct slice subscribe[2] = { slice_text("SUBSCRIBE"), channel_of(b, text) };
    struct slice ping = slice_text("PING");

    b->probe = (struct bridge_probe){ .n = b->probe.n };
    if (!link_command(&b->in, 2, subscribe) || !link_command(&b->in, 1, &ping))
        link_fail(&b->in, b->now_ms, "out of memory");
}

void probe_confirmed(struct bridge *b)
{
    b->probe.subscribed = true;
}

static void refuse(struct bridge *b)
{
    b->probe.is_out = false;
    b->probe.refused = true;
    log_warning("redis_probe_refused", "channels=%s-probe#* remedy=%s", b->config->redis_key,
                "ACL SETUSER USER +@pubsub &KEY-probe#*, or a deaf connection is not noticed");
}

void probe_pong(struct bridge *b)
{
    if (!b->probe.subscribed && !b->probe.refused)
        refuse(b); /* answers come in order */
}

void probe_denied(struct bridge *b)
{
    if (b->probe.is_out)
        refuse(b);
}

void probe_heard(struct bridge *b, struct slice payload)
{
    struct bridge_probe *p = &b->probe;
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64, p->n);

    if (!p->is_out || !slice_equal(payload, slice_of(text, (uint32_t)n)))
        return; /* one that was given up, or not ours */
    p->is_out = false;
    p->proven = true;
    shm_store_u64(&b->slot->redis_lag_us, clock_us() - p->sent_us);
}

static void send_probe(struct bridge *b)
{
    struct bridge_probe *p = &b->probe;
    char text[PROBE_CHANNEL_MAX], number[24];
    int n = snprintf(number, sizeof number, "%" PRIu64, p->n + 1);
    struct slice words[3] = { slice_text("PUBLISH"), channel_of(b, text),
                              slice_of(number, (uint32_t)n) };

    if (!link_command(&b->out, 3, words))
        return;
    p->n++;
    p->is_out = true;
    p->sent_ms = b->now_ms;
    p->sent_us = clock_us();
}

void probe_tick(struct bridge *b, bool drained)
{
    struct bridge_probe *p = &b->probe;

    if (b->in.state != LINK_UP) {
        *p = (struct bridge_probe){ .n = p->n };
    } else if (b->out.state != LINK_UP) {
        p->is_out = p->proven = false; /* what was out may have gone with the connection */
        p->sent_ms = 0;
    } else if (!p->is_out) {
        if (p->subscribed && !p->refused && b->now_ms >= p->sent_ms + PROBE_EVERY_MS)
            send_probe(b);
    } else {
        uint64_t age_us = clock_us() - p->sent_us;

        if (age_us > shm_load_u64(&b->slot->redis_lag_us))
            shm_store_u64(&b->slot->redis_lag_us, age_us);
        /* if Redis has not taken it yet, that is the publisher's trouble, and it will notice */
        if (drained && b->now_ms > p->sent_ms + PROBE_DEAF_MS &&
            link_waits_since(&b->out) > p->sent_ms)
            link_fail(&b->in, b->now_ms, "connected, but deaf: what is published does not come");
    }
    b->out.held = b->in.state != LINK_UP || (!p->proven && !p->refused);
}
