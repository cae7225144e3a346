/* test_requests.c: a request is complete when everybody has answered, dead workers do not answer, and all of it is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "app/requests.h"
#include "session/hub.h"

#define SELF 3

static struct shm_slot slot;
static struct hub hub;
static struct requests requests;

static int setup(void **state)
{
    (void)state;
    hub.slot = &slot;
    hub.region.self = SELF;
    return requests_init(&requests) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    requests_destroy(&requests);
    assert_int_equal(requests.n, 0);
    assert_true(requests.n_bytes == 0);
    return 0;
}

/* A record from `from`, as it would lie in the ring. */
static struct request *take(enum record_kind kind, uint64_t id, uint8_t from, uint8_t flags,
                            const char *json, uint32_t n_more)
{
    static _Alignas(64) uint8_t bytes[65536];
    static const uint64_t key[2] = { 1, 2 };
    struct record_part parts[16] = { { .payload = slice_text(json) } };
    struct record_spec spec = { .nsp = slice_text("/"), .parts = parts, .n_parts = 1 + n_more };
    struct record_view view;

    for (uint32_t i = 1; i <= n_more; i++)
        parts[i].payload = slice_text("bin");
    spec.header.kind = (uint8_t)kind;
    spec.header.id = id;
    spec.header.slot = from;
    spec.header.flags = flags;
    assert_true(record_size(&spec) < sizeof bytes);
    record_write(bytes, &spec, key);
    assert_true(record_view(&view, bytes, record_size(&spec)));
    return requests_take(&requests, &view);
}

static void test_ids_are_ours_and_never_the_same(void **state)
{
    struct request *a = request_open(&requests, &hub, REQUEST_COUNT);
    uint64_t first = a->id;
    (void)state;

    assert_int_equal(first % PEAL_SLOTS, SELF);
    assert_ptr_equal(request_find(&requests, first), a);
    request_close(&requests, a);
    assert_null(request_find(&requests, first));
    assert_true(request_open(&requests, &hub, REQUEST_COUNT)->id > first);
    assert_null(request_find(&requests, 0));
}

static void test_acknowledgements_may_come_before_the_numbers(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_ACKS);
    struct peal_answers answers;
    (void)state;

    r->waiting = 1ull << 1 | 1ull << 2;
    assert_null(take(RECORD_ACK, r->id, 1, 0, "[\"a\"]", 0));
    assert_null(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "2", 0));
    assert_null(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "9", 0)); /* again: nobody asked it */
    assert_null(take(RECORD_REPLY, r->id, 5, RECORD_LAST, "9", 0)); /* never asked */
    assert_null(take(RECORD_REPLY, r->id, 2, RECORD_LAST, "0", 0));
    assert_false(request_complete(r));
    assert_true(request_answers(r, true, &answers));
    assert_int_equal(answers.result, PEAL_TIMEOUT);
    assert_int_equal(answers.n_messages, 1);
    assert_int_equal(answers.n_expected, 2);
    request_answers_free(&answers);
    assert_ptr_equal(take(RECORD_ACK, r->id, 1, 0, "[]", 2), r);
    assert_true(request_answers(r, false, &answers));
    assert_int_equal(answers.result, PEAL_OK);
    assert_true(peal_is(answers.messages[0].json, "[\"a\"]"));
    assert_int_equal(answers.messages[1].n_attachments, 2);
    assert_true(peal_is(answers.messages[1].attachments[1], "bin"));
    request_answers_free(&answers);
}

static void test_a_list_is_put_together_from_the_parts_of_all(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_LIST);
    struct peal_answers answers;
    (void)state;

    r->waiting = 7;
    assert_null(take(RECORD_REPLY, r->id, 0, 0, "\"a\"", 0));
    assert_null(take(RECORD_REPLY, r->id, 2, RECORD_LAST, "", 0));
    assert_null(take(RECORD_REPLY, r->id, 0, RECORD_LAST, ",\"b\"",
                     0)); /* with its comma, as workers write */
    assert_ptr_equal(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "\"c\",\"d\"", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_true(peal_is(answers.messages[0].json, "[\"a\",\"b\",\"c\",\"d\"]"));
    assert_int_equal(answers.n_messages, 1);
    request_answers_free(&answers);
    request_close(&requests, r);
    r = request_open(&requests, &hub, REQUEST_LIST);
    assert_true(request_answers(r, false, &answers));
    assert_true(peal_is(answers.messages[0].json, "[]"));
    request_answers_free(&answers);
}

static void test_numbers_are_added(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_COUNT);
    struct peal_answers answers;
    (void)state;

    r->waiting = 3;
    assert_null(take(RECORD_REPLY, r->id, 0, RECORD_LAST, "40", 0));
    assert_ptr_equal(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "2", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_true(peal_is(answers.messages[0].json, "[42]"));
    request_answers_free(&answers);
}

static void test_a_dead_worker_is_not_waited_for(void **state)
{
    struct request *a = request_open(&requests, &hub, REQUEST_WORKERS);
    struct request *b = request_open(&requests, &hub, REQUEST_WORKERS);
    struct request *c = request_open(&requests, &hub, REQUEST_WORKERS);
    struct peal_answers answers;
    uint32_t at = 0;
    (void)state;

    a->waiting = 1ull << 9;
    b->waiting = 1ull << 9 | 1ull << 8;
    c->waiting = 1ull << 8;
    assert_ptr_equal(requests_gone(&requests, 9, &at), a);
    assert_true(request_answers(a, false, &answers));
    assert_int_equal(answers.result, PEAL_GONE);
    request_answers_free(&answers);
    request_close(&requests, a);
    assert_null(requests_gone(&requests, 9, &at));
    assert_true(b->waiting == 1ull << 8);
    assert_ptr_equal(take(RECORD_REPLY, b->id, 8, RECORD_LAST, "[1]", 0), b);
    assert_false(c->lost);
    at = 0;
    assert_null(requests_gone(&requests, PEAL_SLOT_MASTER, &at));
}

static void test_one_socket_that_was_not_there_is_gone(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_ACKS);
    struct peal_answers answers;
    (void)state;

    r->single = true;
    r->waiting = 1;
    assert_ptr_equal(take(RECORD_REPLY, r->id, 0, RECORD_LAST, "0", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_int_equal(answers.result, PEAL_GONE);
    request_answers_free(&answers);
}

static void test_the_bridge_tells_who_of_the_other_servers_was_silent(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_COUNT);
    struct peal_answers answers;
    (void)state;

    r->waiting = 1ull << 0 | 1ull << PEAL_SLOT_BRIDGE;
    assert_null(take(RECORD_REPLY, r->id, PEAL_SLOT_BRIDGE, 0, "5", 0)); /* of one server */
    assert_null(take(RECORD_REPLY, r->id, 0, RECORD_LAST, "2", 0));
    assert_ptr_equal(
        take(RECORD_REPLY, r->id, PEAL_SLOT_BRIDGE, RECORD_LAST, "[3,1,\"abc-_1\",\"second\"]", 0),
        r);
    assert_true(request_answers(r, false, &answers));
    assert_int_equal(answers.result, PEAL_TIMEOUT);
    assert_true(peal_is(answers.messages[0].json, "[7]"));
    assert_int_equal(answers.n_servers, 3);
    assert_int_equal(answers.n_silent, 2);
    assert_int_equal(answers.n_silent_names, 2);
    assert_true(peal_is(answers.silent[0], "abc-_1"));
    assert_true(peal_is(answers.silent[1], "second"));
    request_answers_free(&answers);
}

static void test_all_servers_have_answered(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_LIST);
    struct peal_answers answers;
    (void)state;

    r->waiting = 1ull << PEAL_SLOT_BRIDGE;
    assert_ptr_equal(take(RECORD_REPLY, r->id, PEAL_SLOT_BRIDGE, RECORD_LAST, "[2,3]", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_int_equal(answers.result, PEAL_OK);
    assert_int_equal(answers.n_servers, 2);
    assert_int_equal(answers.n_silent + answers.n_silent_names, 0);
    request_answers_free(&answers);
}

static void test_what_came_before_redis_went_away_is_told(void **state)
{
    struct request *a = request_open(&requests, &hub, REQUEST_LIST);
    struct request *b = request_open(&requests, &hub, REQUEST_LIST);
    struct peal_answers answers;
    uint32_t at = 0;
    (void)state;

    a->waiting = b->waiting = 1ull << PEAL_SLOT_BRIDGE;
    assert_null(take(RECORD_REPLY, a->id, PEAL_SLOT_BRIDGE, 0, "\"x\"", 0));
    assert_ptr_equal(
        take(RECORD_REPLY, a->id, PEAL_SLOT_BRIDGE, RECORD_LAST | RECORD_LOST, "[2,1]", 0), a);
    assert_ptr_equal(requests_gone(&requests, PEAL_SLOT_BRIDGE, &at), b); /* its process died */
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(request_answers(i == 0 ? a : b, false, &answers));
        assert_int_equal(answers.result, PEAL_UNREACHABLE);
        assert_true(peal_is(answers.messages[0].json, i == 0 ? "[\"x\"]" : "[]"));
        assert_int_equal(answers.n_silent, i == 0);
        request_answers_free(&answers);
    }
}

static void test_a_room_that_several_have_is_told_once(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_LIST);
    struct peal_answers answers;
    (void)state;

    r->unique = true;
    r->waiting = 1ull << 1 | 1ull << 2;
    assert_null(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "\"b\",\"a,\",\"\"", 0));
    assert_ptr_equal(take(RECORD_REPLY, r->id, 2, RECORD_LAST, "\"a,\",\"c\",\"b\",\"b\"", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_true(peal_is(answers.messages[0].json, "[\"\",\"a,\",\"b\",\"c\"]"));
    request_answers_free(&answers);
}

static void test_a_worker_that_does_not_listen_is_not_expected(void **state)
{
    struct request *r = request_open(&requests, &hub, REQUEST_WORKERS);
    static _Alignas(64) uint8_t bytes[4096];
    static const uint64_t key[2] = { 1, 2 };
    struct record_spec spec = { .nsp = slice_text("/") };
    struct peal_answers answers;
    struct record_view view;
    (void)state;

    r->waiting = 3;
    r->n_expected = 2;
    spec.header.kind = RECORD_REPLY;
    spec.header.id = r->id;
    spec.header.flags = RECORD_LAST;
    record_write(bytes, &spec, key);
    assert_true(record_view(&view, bytes, record_size(&spec)));
    assert_null(requests_take(&requests, &view));
    assert_ptr_equal(take(RECORD_REPLY, r->id, 1, RECORD_LAST, "[1]", 0), r);
    assert_true(request_answers(r, false, &answers));
    assert_int_equal(answers.result, PEAL_OK);
    assert_int_equal(answers.n_expected, 1);
    assert_int_equal(answers.n_messages, 1);
    request_answers_free(&answers);
}

static void test_the_bounds(void **state)
{
    static char large[60000];
    struct request *r = request_open(&requests, &hub, REQUEST_ACKS);
    uint32_t n = 1;
    (void)state;

    while (request_open(&requests, &hub, REQUEST_ACKS) != NULL)
        n++;
    assert_int_equal(n, PEAL_REQUESTS_MAX);
    memset(large, '1', sizeof large - 1);
    r->waiting = 1;
    for (uint32_t i = 0; i < 400; i++)
        assert_null(take(RECORD_ACK, r->id, 0, 0, large, 0));
    assert_true(r->truncated);
    assert_true(r->n_bytes <= PEAL_REQUEST_BYTES_MAX);
    assert_int_equal(r->n_answers, 400); /* counted, all of them */
    assert_true(requests.n_bytes == r->n_bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ids_are_ours_and_never_the_same),
        TEST(test_acknowledgements_may_come_before_the_numbers),
        TEST(test_a_list_is_put_together_from_the_parts_of_all),
        TEST(test_numbers_are_added),
        TEST(test_a_dead_worker_is_not_waited_for),
        TEST(test_one_socket_that_was_not_there_is_gone),
        TEST(test_the_bridge_tells_who_of_the_other_servers_was_silent),
        TEST(test_all_servers_have_answered),
        TEST(test_what_came_before_redis_went_away_is_told),
        TEST(test_a_room_that_several_have_is_told_once),
        TEST(test_a_worker_that_does_not_listen_is_not_expected),
        TEST(test_the_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
