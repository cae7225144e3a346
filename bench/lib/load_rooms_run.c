/* load_rooms_run.c: the parent's side of the scenario of many rooms: `fanout --rooms`, and `unicast`,
 * where each member has a room of its own.
 *
 * With --admin-url it asks Peal, before and after, how many processes were rung for records. A probe
 * is one message while all else rests: the counter's step is what this message woke, so that there is
 * a distribution and not only a mean. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/load_rooms.h"
#include "lib/scrape.h"

#define QUIET_MS      300u
#define PROBE_REST_MS 40 /* a worker writes its counters down with its next turn */
#define PROBES_MAX    1000u
#define RUNG          "peal_bells_rung_total"

struct woken {
    double each[PROBES_MAX];
    uint32_t count;
    double before; /* the load: at its begin and its end */
    double after;
};

static void probe_all(struct load *l, struct rooms_shared *s, struct woken *w)
{
    while (atomic_load(&l->shared->arrived[ROOMS_PROBED]) < l->procs)
        load_tick(l);
    while (l->options->admin_url && w->count < l->options->probes) {
        double before = scrape_sum(l->options->admin_url, RUNG);

        atomic_fetch_add(&s->probes, 1);
        (void)poll(NULL, 0, PROBE_REST_MS);
        w->each[w->count++] = scrape_sum(l->options->admin_url, RUNG) - before;
        load_tick(l);
    }
}

static void woken_json(struct load *l, const struct rooms_shared *s, struct woken *w)
{
    uint64_t sent = atomic_load(&s->sent) - w->count;

    json_object(&l->json, "woken");
    json_f64(&l->json, "per_message", sent > 0 ? (w->after - w->before) / (double)sent : 0);
    json_u64(&l->json, "probes", w->count);
    if (w->count > 0) {
        double sum = 0;

        for (uint32_t i = 0; i < w->count; i++)
            sum += w->each[i];
        json_f64(&l->json, "probe_median", median_of(w->each, w->count));
        json_f64(&l->json, "probe_mean", sum / w->count);
        json_f64(&l->json, "probe_max", w->each[w->count - 1]); /* median_of() has sorted them */
    }
    json_end(&l->json);
}

static int report(struct load *l, struct rooms_shared *s, struct woken *w, const char *scenario)
{
    const struct load_options *o = l->options;
    uint64_t sent = atomic_load(&s->sent);
    bool answers = load_dialect(o) == DIALECT_SOCKETIO && !o->unacknowledged;
    double seconds = (double)(l->meter.end.at_ns - l->meter.begin.at_ns) / 1e9;
    bool ok = s->lost == 0 && s->repeated == 0 && s->foreign == 0 && s->out_of_order == 0;

    load_result(l, scenario);
    json_u64(&l->json, "rooms", s->rooms);
    json_u64(&l->json, "publishers", o->publishers);
    json_text(&l->json, "loop", o->total_rate > 0 ? "open" : "closed");
    json_f64(&l->json, "rate", o->total_rate);
    json_u64(&l->json, "sent", sent);
    json_u64(&l->json, "acknowledged", s->acknowledged);
    json_u64(&l->json, "unanswered", answers ? sent - s->acknowledged - s->refused : 0);
    json_u64(&l->json, "refused", s->refused);
    json_u64(&l->json, "expected", s->expected);
    json_u64(&l->json, "got", s->got);
    json_u64(&l->json, "lost", s->lost);
    json_u64(&l->json, "repeated", s->repeated);
    json_u64(&l->json, "out_of_order", s->out_of_order);
    json_u64(&l->json, "foreign", s->foreign);
    json_f64(&l->json, "messages_per_second", (double)sent / seconds);
    json_f64(&l->json, "deliveries_per_second", (double)s->got / seconds);
    json_f64(&l->json, "cpu_us_per_message", meter_cpu_s(&l->meter) * 1e6 / (double)sent);
    if (o->admin_url)
        woken_json(l, s, w);
    json_text(&l->json, "expect", o->expect);
    if (!o->tolerate_closes)
        ok = ok && l->shared->unexpected_total == 0 && s->refused == 0 &&
             (!answers || s->acknowledged == sent);
    ok = (ok && s->expected > 0 && sent > 0) || strcmp(o->expect, "nothing") == 0;
    return load_finish(l, ok);
}

static void check(const struct load_options *o, uint32_t rooms)
{
    if (o->publishers == 0 || o->messages == 0 || o->publishers >= o->clients)
        die("--publishers and --messages must not be 0, and somebody must listen (--clients)");
    if (o->payload < ROOMS_STAMP_CHARS || o->payload > ROOMS_PAYLOAD_MAX)
        die("--payload must be %u to %u", ROOMS_STAMP_CHARS, ROOMS_PAYLOAD_MAX);
    if (rooms > ROOMS_MAX || (uint64_t)rooms * o->publishers > ROOMS_STREAMS_MAX)
        die("%u rooms and %u publishers: at most %u rooms, and %u of both multiplied", rooms,
            o->publishers, ROOMS_MAX, ROOMS_STREAMS_MAX);
    if ((uint64_t)o->clients * o->publishers > (UINT64_C(1) << 27))
        die("%u clients and %u publishers: at most %u, multiplied", o->clients, o->publishers,
            1u << 27);
    if (o->slow > 0)
        die("--slow goes with one room");
    if (o->probes > PROBES_MAX)
        die("--probes is at most %u", PROBES_MAX);
    if (load_dialect(o) == DIALECT_PLAIN && o->total_rate <= 0)
        die("plain clients get no acknowledgement to wait for: give --rate or --total-rate");
}

int load_run_rooms(const struct load_options *o, bool unicast)
{
    static struct load l;
    static struct woken woken;
    uint32_t rooms = unicast && o->clients > o->publishers ? o->clients - o->publishers : o->rooms;
    struct rooms_shared *s;
    uint64_t wait;

    if (unicast && load_dialect(o) == DIALECT_PLAIN)
        die("unicast: a plain client publishes to the room of its path only; use fanout --rooms");
    check(o, rooms);
    load_prepare(&l, o, o->clients,
                 sizeof *s + (uint64_t)rooms * o->publishers * sizeof *rooms_streams(s));
    s = load_extra(l.shared);
    s->run = (uint32_t)now_ns();
    s->rooms = rooms;
    load_fork(&l, rooms_main);
    load_phase(&l, ROOMS_CONNECTED, "connected");
    load_phase(&l, ROOMS_JOINED, "joined");
    probe_all(&l, s, &woken);
    if (o->admin_url)
        woken.before = scrape_sum(o->admin_url, RUNG);
    meter_begin(&l.meter);
    load_phase(&l, ROOMS_PROBED, "publishing");
    load_phase(&l, ROOMS_PUBLISHED, "published");
    load_phase(&l, ROOMS_DRAINED, "drained");
    meter_end(&l.meter);
    wait = now_ns() + QUIET_MS * NS_PER_MS;
    while (now_ns() < wait)
        load_tick(&l);
    if (o->admin_url)
        woken.after = scrape_sum(o->admin_url, RUNG);
    load_phase(&l, ROOMS_VERIFY, "verifying");
    load_phase(&l, ROOMS_VERIFIED, "verified");
    return report(&l, s, &woken, unicast ? "unicast" : "fanout");
}
