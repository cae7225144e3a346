/* test_metrics.c: the text of /metrics, /readyz and /api/workers over a region made by hand, and the
 * records that the API appends. */
#include "lib/shm_fixture.h"

#include "admin/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/json.h"
#include "shm/atomic.h"
#include "shm/namespaces.h"
#include "shm/record.h"

#define WORKERS 3

static struct shm_fixture fixture;
static struct admin *admin;
static struct child child;
static struct ring consumer;
static uint64_t taken; /* the ring up to here was looked at */

/* The configuration is the master's to write; children have it read-only by habit only. */
static struct config *config(void)
{
    return (struct config *)(uintptr_t)fixture.master.config;
}

static int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, WORKERS, 1u << 20);
    config()->event_bytes_max = 12u << 20;
    child = (struct child){ .role = CHILD_ADMIN, .slot = PEAL_SLOT_ADMIN, .generation = 1 };
    admin = calloc(1, sizeof *admin);
    assert_non_null(admin);
    admin->child = &child;
    admin->region = fixture.views[PEAL_SLOT_ADMIN];
    admin->now_us = 5000000;
    ring_open(&admin->ring, &admin->region);
    admin->slot = &admin->region.header->slots[PEAL_SLOT_ADMIN];
    admin->row = &admin->region.counters[PEAL_SLOT_ADMIN];
    ring_open(&consumer, &fixture.views[0]);
    taken = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(admin);
    shm_fixture_destroy(&fixture);
    return 0;
}

static char page_of[ADMIN_ANSWER_MAX];

static const char *metrics_text(void)
{
    struct page page;

    page_init(&page, ADMIN_ANSWER_MAX);
    metrics_write(&admin->metrics, &admin->ring, admin->now_us, &page);
    assert_false(page.failed);
    memcpy(page_of, page.bytes, page.n_bytes);
    page_of[page.n_bytes] = '\0';
    page_free(&page);
    return page_of;
}

static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);

    for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
        if ((at == text || at[-1] == '\n') && at[n] == '\n')
            return true;
    return false;
}

static void assert_line(const char *line)
{
    if (!has_line(metrics_text(), line))
        fail_msg("no line \"%s\" in:\n%s", line, page_of);
}

static void assert_no(const char *part)
{
    if (strstr(metrics_text(), part) != NULL)
        fail_msg("\"%s\" in:\n%s", part, page_of);
}

static void slot_serve(uint32_t slot, bool serves)
{
    struct shm_slot *s = &fixture.master.header->slots[slot];

    s->generation = 2;
    s->ready_generation = serves ? 2 : 1;
    s->state = SLOT_LIVE;
}

/* --- metrics --- */

static void test_every_family_has_help_and_type_before_its_samples(void **state)
{
    char name[128] = "";
    char *rest;

    (void)state;
    config()->redis.enabled = true;
    (void)metrics_text();
    for (char *line = strtok_r(page_of, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char help[128], type[128], kind[32];

        if (sscanf(line, "# HELP %127s", help) == 1) {
            line = strtok_r(NULL, "\n", &rest);
            assert_non_null(line);
            assert_int_equal(sscanf(line, "# TYPE %127s %31s", type, kind), 2);
            assert_string_equal(help, type);
            snprintf(name, sizeof name, "%s", type);
            if (strcmp(kind, "counter") == 0)
                assert_non_null(strstr(name, "_total"));
        } else if (strncmp(line, name, strlen(name)) != 0) {
            fail_msg("not of %s: %s", name, line);
        }
    }
}

static void test_the_names_of_the_contract_are_there(void **state)
{
    static const char *const names[] = {
        "peal_connections{worker=\"0\",transport=\"websocket\"} 0",
        "peal_connections_limit{worker=\"2\"} 256",
        "peal_connections_accepted_total{worker=\"1\"} 0",
        "peal_connections_refused_total{reason=\"host_limit\"} 0",
        "peal_connections_refused_total{reason=\"origin\"} 0",
        "peal_closes_total{reason=\"worker_died\"} 0",
        "peal_closes_total{reason=\"host_stop\"} 0",
        "peal_session_unknown_total{cause=\"ended\"} 0",
        "peal_rooms{worker=\"0\"} 0",
        "peal_messages_received_total 0",
        "peal_events_unhandled_total 0",
        "peal_deliveries_total 0",
        "peal_sends_total 0",
        "peal_bytes_received_total 0",
        "peal_bytes_sent_total 0",
        "peal_ring_records_total 0",
        "peal_ring_lapped_total 0",
        "peal_ring_voids_total 0",
        "peal_history_seconds 0.000000",
        "peal_outq_bytes{worker=\"0\"} 0",
        "peal_slow_consumers_total{action=\"close\"} 0",
        "peal_slow_consumers_total{action=\"drop\"} 0",
        "peal_broadcast_seconds_count 0",
        "peal_ping_rtt_seconds_sum 0.000000",
        "peal_loop_seconds_bucket{le=\"+Inf\"} 0",
        "peal_worker_restarts_total 0",
        "peal_handoffs_total{kind=\"placement\"} 0",
        "peal_draining 0",
        "peal_memory_bytes{kind=\"ring\"} 1048576",
        "peal_memory_bytes{kind=\"commits\"} 131072",
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_line(names[i]);
    assert_no("peal_redis");
}

static void test_counts_of_the_dead_stay_with_their_slot(void **state)
{
    struct shm_counters *row = &fixture.master.counters[1];

    (void)state;
    count_add(row, COUNT_ACCEPTED, 5);
    count_add(row, COUNT_CLOSE_FIRST + CLOSE_TRANSPORT_CLOSE, 2);
    gauge_set(row, GAUGE_CONNECTIONS_WEBSOCKET, 3);
    count_add(&fixture.master.counters[0], COUNT_ACCEPTED, 1);
    counters_fold(&fixture.master, 1);
    assert_line("peal_connections_accepted_total{worker=\"1\"} 5");
    count_add(row, COUNT_ACCEPTED, 4);
    assert_line("peal_connections_accepted_total{worker=\"0\"} 1");
    assert_line("peal_connections_accepted_total{worker=\"1\"} 9");
    assert_line("peal_connections_accepted_total{worker=\"2\"} 0");
    counters_fold(&fixture.master, 1);
    assert_line("peal_connections_accepted_total{worker=\"1\"} 9");
    assert_line("peal_closes_total{reason=\"transport_close\"} 2");
    assert_line("peal_closes_total{reason=\"worker_died\"} 7"); /* three, then four */
    assert_line("peal_connections{worker=\"1\",transport=\"websocket\"} 0");
}

static void test_gauges_of_a_worker_are_its_own(void **state)
{
    (void)state;
    gauge_set(&fixture.master.counters[2], GAUGE_CONNECTIONS_POLLING, 7);
    gauge_set(&fixture.master.counters[2], GAUGE_OUTQ_BYTES, 100);
    gauge_set(&fixture.master.counters[1], GAUGE_OUTQ_BYTES, 11);
    fixture.master.header->slots[1].n_pending = 4;
    fixture.master.header->slots[0].max_connections = 0;
    assert_line("peal_connections{worker=\"2\",transport=\"polling\"} 7");
    assert_line("peal_outq_bytes{worker=\"2\"} 100");
    assert_line("peal_memory_bytes{kind=\"outq\"} 111");
    assert_line("peal_pending_connections{worker=\"1\"} 4");
    assert_line("peal_connections_limit{worker=\"0\"} +Inf");
}

static void test_histograms_are_cumulative_and_in_seconds(void **state)
{
    (void)state;
    histogram_add(&fixture.master.counters[0], HISTOGRAM_LOOP, 10);
    histogram_add(&fixture.master.counters[1], HISTOGRAM_LOOP, 15);
    histogram_add(&fixture.master.counters[2], HISTOGRAM_LOOP, 10ull << 30);
    assert_line("peal_loop_seconds_bucket{le=\"1e-05\"} 1");
    assert_line("peal_loop_seconds_bucket{le=\"2e-05\"} 2");
    assert_line("peal_loop_seconds_bucket{le=\"41.94304\"} 2");
    assert_line("peal_loop_seconds_bucket{le=\"+Inf\"} 3");
    assert_line("peal_loop_seconds_count 3");
    assert_line("peal_loop_seconds_sum 10737.418265");
}

static uint32_t intern(const char *name)
{
    assert_true(namespace_reserve(&fixture.master, slice_text(name), 0));
    return namespace_find(&fixture.master, slice_text(name));
}

static void test_a_namespace_is_shown_from_its_first_socket_on(void **state)
{
    uint32_t *a = &fixture.master.counters[0].sockets[intern("/a\"\\\n\xff")];
    uint32_t *b = &fixture.master.counters[1].sockets[intern("/never")];

    (void)state;
    assert_no("peal_sockets{");
    *a = 2;
    assert_line("peal_sockets{namespace=\"/a\\\"\\\\\\n\xEF\xBF\xBD\"} 2");
    *a = 0;
    assert_line("peal_sockets{namespace=\"/a\\\"\\\\\\n\xEF\xBF\xBD\"} 0");
    assert_no("never");
    assert_int_equal(*b, 0);
}

static void test_the_hundred_first_namespace_is_other(void **state)
{
    char line[64], name[16];

    (void)state;
    for (uint32_t i = 0; i < NAMESPACES_NAMED; i++) {
        snprintf(name, sizeof name, "/n%u", i);
        fixture.master.counters[0].sockets[intern(name)] = 1;
    }
    assert_no("=\"other\"");
    fixture.master.counters[0].sockets[intern("/late")] = 3;
    fixture.master.counters[2].sockets[intern("/later")] = 4;
    assert_line("peal_sockets{namespace=\"other\"} 7");
    for (uint32_t i = 0; i < NAMESPACES_NAMED; i++) { /* and nobody loses its label */
        snprintf(line, sizeof line, "peal_sockets{namespace=\"/n%u\"} 1", i);
        assert_true(has_line(page_of, line));
    }
}

static void test_an_index_that_is_another_names_since_keeps_the_labels_right(void **state)
{
    uint32_t index = intern("/first");
    uint32_t *sockets = &fixture.master.counters[0].sockets[index];
    struct shm_namespace *e = &fixture.master.namespaces->entries[index];

    (void)state;
    *sockets = 1;
    assert_line("peal_sockets{namespace=\"/first\"} 1");
    e->word += 1u << 8; /* its next life */
    memcpy(e->name, "/later", 6);
    *sockets = 5;
    assert_line("peal_sockets{namespace=\"/first\"} 0");
    assert_line("peal_sockets{namespace=\"/later\"} 5");
    e->word += 1u << 8;
    memcpy(e->name, "/first", 6);
    assert_line("peal_sockets{namespace=\"/first\"} 5");
    assert_line("peal_sockets{namespace=\"/later\"} 0");
}

static void test_lag_is_of_those_who_could_lag(void **state)
{
    (void)state;
    slot_serve(1, true);
    fixture.master.header->ring.tail = 10;
    fixture.master.header->slots[1].cursor = 4;
    assert_line("peal_ring_lag_bytes{process=\"1\"} 384");
    assert_no("peal_ring_lag_bytes{process=\"0\"}");
    fixture.master.header->slots[1].cursor = 11; /* read a moment later than the tail was */
    assert_line("peal_ring_lag_bytes{process=\"1\"} 0");
}

static void test_redis_is_shown_where_it_is_configured(void **state)
{
    struct shm_slot *bridge = &fixture.master.header->slots[PEAL_SLOT_BRIDGE];

    (void)state;
    config()->redis.enabled = true;
    bridge->redis_up = 1;
    bridge->redis_lag_us = 1500;
    count_add(&fixture.master.counters[PEAL_SLOT_BRIDGE], COUNT_REDIS_DROPPED_BUFFER, 6);
    assert_line("peal_redis_up 1");
    assert_line("peal_redis_lag_seconds 0.001500");
    assert_line("peal_redis_dropped_total{reason=\"buffer\"} 6");
    count_add(&fixture.master.counters[PEAL_SLOT_BRIDGE], COUNT_REDIS_UNWANTED, 7);
    assert_line("peal_redis_unwanted_total 7");
    assert_line("peal_redis_answers_truncated_total{type=\"rooms\"} 0");
}

/* --- health --- */

static void assert_ready(bool expected, const char *text)
{
    struct page page;
    bool ready;

    page_init(&page, 4096);
    ready = status_ready(admin, &page);
    if (ready != expected || !slice_is(page_text(&page), text))
        fail_msg("%d %.*s", ready, (int)page.n_bytes, page.bytes);
    page_free(&page);
}

static void test_ready_from_when_all_workers_serve(void **state)
{
    (void)state;
    assert_ready(false, "starting: worker 0, worker 1, worker 2\n");
    slot_serve(0, true);
    slot_serve(1, true);
    slot_serve(2, false);
    assert_ready(false, "starting: worker 2\n");
    slot_serve(2, true);
    assert_ready(true, "ready\n");
    slot_serve(1, false); /* died, and is being started again */
    assert_ready(true, "degraded: worker 1\n");
    slot_serve(0, false);
    slot_serve(2, false);
    assert_ready(false, "no worker: worker 0, worker 1, worker 2\n");
}

static void test_not_ready_while_draining(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WORKERS; i++)
        slot_serve(i, true);
    assert_ready(true, "ready\n");
    fixture.master.header->draining = DRAIN_GRACE;
    assert_ready(false, "draining\n");
    assert_line("peal_draining 1");
    fixture.master.header->draining = DRAIN_CLOSING;
    assert_ready(false, "draining\n");
}

static void test_redis_away_is_told_and_counts_where_wanted(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WORKERS; i++)
        slot_serve(i, true);
    config()->redis.enabled = true;
    assert_ready(true, "degraded: redis\n");
    config()->ready_requires_redis = true;
    assert_ready(false, "not ready: redis\n");
    fixture.master.header->slots[PEAL_SLOT_BRIDGE].redis_up = 1;
    assert_ready(true, "ready\n");
}

static void test_workers_are_listed_as_json(void **state)
{
    struct slice workers, first, key, value;
    enum json_kind kind;
    struct json_iter it;
    struct page page;

    (void)state;
    slot_serve(0, true);
    gauge_set(&fixture.master.counters[0], GAUGE_CONNECTIONS_WEBSOCKET, 3);
    gauge_set(&fixture.master.counters[0], GAUGE_CONNECTIONS_POLLING, 4);
    page_init(&page, ADMIN_ANSWER_MAX);
    for (uint32_t redis = 0; redis < 2; redis++) {
        config()->redis.enabled = redis == 1;
        page.n_bytes = 0;
        status_workers(admin, &page);
        assert_true(json_valid(page_text(&page), &kind));
        assert_true(json_member(page_text(&page), "bridge", &value, &kind));
        assert_int_equal(kind, redis == 1 ? JSON_OBJECT : JSON_NULL);
    }
    assert_true(json_member(page_text(&page), "workers", &workers, &kind));
    it = json_iter_open(workers);
    assert_true(json_iter_next(&it, &key, &first, &kind));
    assert_true(json_member(first, "clients", &value, &kind));
    assert_true(slice_is(value, "7"));
    assert_true(json_member(first, "restarts", &value, &kind));
    assert_true(slice_is(value, "1"));
    assert_true(json_member(first, "limit", &value, &kind));
    assert_true(slice_is(value, "256"));
    page_free(&page);
}

/* --- appending --- */

/* The next record, which must be there. */
static struct record_view take(void)
{
    struct record_view view;
    uint32_t n_units;
    const uint8_t *record = ring_peek(&consumer, taken, &n_units);

    assert_non_null(record);
    assert_true(
        record_view(&view, record, ((const struct record_header *)(const void *)record)->n_bytes));
    taken += n_units;
    return view;
}

static enum append_result emit(const char *body)
{
    assert_true(command_parse_emit(&admin->command, slice_text(body)));
    return append_emit(admin, &admin->command);
}

static void serve_namespace(const char *name)
{
    struct config_namespace *n = &config()->namespaces[config()->n_namespaces++];

    snprintf(n->name, sizeof n->name, "%s", name);
}

static void test_an_emit_is_the_packet_that_clients_get(void **state)
{
    struct record_names it;
    struct record_view view;
    struct slice name;
    uint8_t opcode;
    uint64_t hash;

    (void)state;
    serve_namespace("/chat");
    assert_int_equal(emit("{\"namespace\":\"/chat\",\"rooms\":[\"a\",\"b\"],\"except\":\"c\","
                          "\"event\":\"hi\",\"args\":[1, \"x\"]}"),
                     APPEND_OK);
    view = take();
    assert_int_equal(view.header->kind, RECORD_BROADCAST);
    assert_int_equal(view.header->slot, PEAL_SLOT_ADMIN);
    assert_int_equal(view.header->generation, 1);
    assert_int_equal(view.header->origin, ORIGIN_LOCAL);
    assert_int_equal(view.header->time_us, admin->now_us);
    assert_true(slice_is(view.nsp, "/chat"));
    assert_true(slice_is(record_part(&view, 0, &opcode), "42/chat,[\"hi\",1, \"x\"]"));
    assert_int_equal(opcode, 1);
    assert_true(slice_is(view.event, "[\"hi\",1, \"x\"]"));
    it = record_names_open(&view, RECORD_ROOMS);
    assert_true(record_names_next(&it, &name, &hash));
    assert_true(slice_is(name, "a"));
    it = record_names_open(&view, RECORD_EXCEPT);
    assert_true(record_names_next(&it, &name, &hash));
    assert_true(slice_is(name, "c"));
    assert_int_equal(admin->row->counters[COUNT_RING_RECORDS], 1);
    admin->now_us += 2500000;
    assert_line("peal_history_seconds 2.500000");
}

static void test_an_emit_without_arguments_has_none(void **state)
{
    struct record_view view;
    uint8_t opcode;

    (void)state;
    serve_namespace("/");
    assert_int_equal(emit("{\"event\":\"hi\"}"), APPEND_OK);
    view = take();
    assert_true(slice_is(record_part(&view, 0, &opcode), "42[\"hi\"]"));
    assert_int_equal(view.header->n_rooms, 0);
}

static void test_plain_clients_get_one_frame(void **state)
{
    static const struct {
        const char *arg;
        const char *payload;
        enum record_encoding encoding;
    } args[] = {
        { "\"a\\u00e9\\n\"", "a\xc3\xa9\n", ENCODING_WS_TEXT },
        { "{\"x\": 1}", "{\"x\": 1}", ENCODING_WS_JSON },
        { "\"\"", "", ENCODING_WS_TEXT },
    };
    char body[128];

    (void)state;
    for (uint32_t i = 0; i < sizeof args / sizeof args[0]; i++) {
        struct record_view view;
        uint8_t opcode;

        snprintf(body, sizeof body, "{\"namespace\":\"/ws\",\"event\":\"message\",\"args\":[%s]}",
                 args[i].arg);
        assert_int_equal(emit(body), APPEND_OK);
        view = take();
        assert_true(slice_is(record_part(&view, 0, &opcode), args[i].payload));
        assert_int_equal(opcode, 1);
        assert_int_equal(view.header->encoding, args[i].encoding);
    }
    assert_int_equal(emit("{\"namespace\":\"/ws\",\"event\":\"x\",\"args\":[1]}"),
                     APPEND_NOT_A_MESSAGE);
    assert_int_equal(emit("{\"namespace\":\"/ws\",\"event\":\"message\",\"args\":[1,2]}"),
                     APPEND_NOT_A_MESSAGE);
}

static void test_a_body_becomes_a_frame_of_its_kind(void **state)
{
    struct record_view view;
    uint8_t opcode;

    (void)state;
    assert_true(command_parse_room(&admin->command, slice_text("public/a")));
    assert_int_equal(append_frame(admin, &admin->command, slice_of("\0\xff", 2), true), APPEND_OK);
    view = take();
    assert_int_equal(record_part(&view, 0, &opcode).n_bytes, 2);
    assert_int_equal(opcode, 2);
    assert_int_equal(view.header->encoding, ENCODING_WS_BINARY);
    assert_true(slice_is(view.nsp, "/ws"));
    assert_int_equal(view.header->n_rooms, 1);
}

static void test_a_disconnect_says_whether_connections_go_too(void **state)
{
    struct record_view view;

    (void)state;
    serve_namespace("/");
    for (uint32_t close = 0; close < 2; close++) {
        assert_true(command_parse_disconnect(
            &admin->command,
            slice_text(close == 1 ? "{\"rooms\":\"a\",\"close\":true}" : "{\"rooms\":\"a\"}")));
        assert_int_equal(append_disconnect(admin, &admin->command), APPEND_OK);
        view = take();
        assert_int_equal(view.header->kind, RECORD_DISCONNECT);
        assert_int_equal(view.header->flags & RECORD_CLOSE, close == 1 ? RECORD_CLOSE : 0);
    }
}

static void test_what_goes_to_redis_wakes_the_bridge(void **state)
{
    struct shm_slot *bridge = &fixture.master.header->slots[PEAL_SLOT_BRIDGE];

    (void)state;
    config()->redis.enabled = true;
    bridge->state = SLOT_LIVE;
    bridge->parked = 0; /* at the tail, position 0 */
    assert_int_equal(emit("{\"namespace\":\"/elsewhere\",\"event\":\"e\"}"), APPEND_OK);
    assert_true(shm_bell_take(&fixture.master, PEAL_SLOT_BRIDGE));
    assert_false(shm_bell_rung(&fixture.master, 1));
}

static void test_nobody_can_be_in_a_namespace_that_is_unknown(void **state)
{
    (void)state;
    assert_int_equal(emit("{\"namespace\":\"/unknown\",\"event\":\"e\"}"), APPEND_NO_NAMESPACE);
    (void)intern("/unknown");
    assert_int_equal(emit("{\"namespace\":\"/unknown\",\"event\":\"e\"}"), APPEND_OK);
}

static void test_too_large_and_full_are_told_apart(void **state)
{
    static char body[400000];
    static const char end[] = "\"]}";
    uint32_t n_appended = 0;
    int n = snprintf(body, sizeof body, "{\"event\":\"e\",\"args\":[\"");

    (void)state;
    serve_namespace("/");
    memset(body + n, 'x', 300000);
    memcpy(body + n + 300000, end, sizeof end);
    assert_int_equal(emit(body), APPEND_TOO_BIG); /* a quarter of the ring is 256 KB */
    memcpy(body + n + 100000, end, sizeof end);
    config()->event_bytes_max = 50000;
    assert_int_equal(emit(body), APPEND_TOO_BIG);
    config()->event_bytes_max = 12u << 20;
    ring_consumer_add(&(struct ring){ .region = &fixture.master, .units = admin->ring.units }, 0,
                      0);
    while (emit(body) == APPEND_OK)
        n_appended++;
    assert_in_range(n_appended, 9, 10);
    assert_int_equal(emit(body), APPEND_FULL);
    assert_int_equal(admin->slot->intent_at, RING_NO_INTENT);
}

/* --- pages --- */

static void test_a_page_stops_at_its_bound(void **state)
{
    struct page page;

    (void)state;
    page_init(&page, 10);
    page_printf(&page, "%s", "12345678");
    assert_false(page.failed);
    page_put(&page, slice_text("abc"));
    assert_true(page.failed);
    assert_true(slice_is(page_text(&page), "12345678"));
    page_put(&page, slice_text("a"));
    assert_int_equal(page.n_bytes, 8); /* once cut, nothing is added behind the gap */
    page_free(&page);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_every_family_has_help_and_type_before_its_samples),
        CASE(test_the_names_of_the_contract_are_there),
        CASE(test_counts_of_the_dead_stay_with_their_slot),
        CASE(test_gauges_of_a_worker_are_its_own),
        CASE(test_histograms_are_cumulative_and_in_seconds),
        CASE(test_a_namespace_is_shown_from_its_first_socket_on),
        CASE(test_the_hundred_first_namespace_is_other),
        CASE(test_an_index_that_is_another_names_since_keeps_the_labels_right),
        CASE(test_lag_is_of_those_who_could_lag),
        CASE(test_redis_is_shown_where_it_is_configured),
        CASE(test_ready_from_when_all_workers_serve),
        CASE(test_not_ready_while_draining),
        CASE(test_redis_away_is_told_and_counts_where_wanted),
        CASE(test_workers_are_listed_as_json),
        CASE(test_an_emit_is_the_packet_that_clients_get),
        CASE(test_an_emit_without_arguments_has_none),
        CASE(test_plain_clients_get_one_frame),
        CASE(test_a_body_becomes_a_frame_of_its_kind),
        CASE(test_a_disconnect_says_whether_connections_go_too),
        CASE(test_what_goes_to_redis_wakes_the_bridge),
        CASE(test_nobody_can_be_in_a_namespace_that_is_unknown),
        CASE(test_too_large_and_full_are_told_apart),
        cmocka_unit_test(test_a_page_stops_at_its_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
