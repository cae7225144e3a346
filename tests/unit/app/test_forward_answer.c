/* test_forward_answer.c: Buffers in what a Node server answered, and the hash that shares clients. */
#include "app/forward.h"
#include "app/forward_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct forward_answer answer;

static int teardown(void **state)
{
    (void)state;
    free(answer.text);
    free(answer.bytes);
    answer = (struct forward_answer){ 0 };
    return 0;
}

/* Reads `json`; what has become of it is `wanted`. */
static void reads(const char *json, const char *wanted, struct peal_message *out)
{
    struct peal_message none = { 0 };

    assert_true(forward_answer_read(&answer, &none, peal_text(json), out));
    assert_int_equal(out->json.n_bytes, strlen(wanted));
    assert_memory_equal(out->json.bytes, wanted, out->json.n_bytes);
}

static void stays(const char *json)
{
    struct peal_message out;

    reads(json, json, &out);
    assert_int_equal(out.n_attachments, 0);
}

static void test_buffers_become_attachments(void **state)
{
    struct peal_message out;

    (void)state;
    reads("[{\"type\":\"Buffer\",\"data\":[0,10,255]},{\"a\":[{ \"data\" : [ ] , \"type\" : "
          "\"Buffer\" }]},1]",
          "[{\"_placeholder\":true,\"num\":0},{\"a\":[{\"_placeholder\":true,\"num\":1}]},1]",
          &out);
    assert_int_equal(out.n_attachments, 2);
    assert_int_equal(out.attachments[0].n_bytes, 3);
    assert_memory_equal(out.attachments[0].bytes, "\0\n\xff", 3);
    assert_int_equal(out.attachments[1].n_bytes, 0);
}

static void test_what_only_looks_like_one_stays(void **state)
{
    (void)state;
    stays("[1]");
    stays("[\"Buffer\",{}]");
    stays("[{\"type\":\"Buffer\"}]");
    stays("[{\"data\":[1]},\"Buffer\"]");
    stays("[{\"type\":\"Buffer\",\"data\":[256]}]");
    stays("[{\"type\":\"Buffer\",\"data\":[-1]}]");
    stays("[{\"type\":\"Buffer\",\"data\":[1.5]}]");
    stays("[{\"type\":\"Buffer\",\"data\":[1e1]}]");
    stays("[{\"type\":\"Buffer\",\"data\":[[1]]}]");
    stays("[{\"type\":\"Buffer\",\"data\":\"1\"}]");
    stays("[{\"type\":\"Buffer\",\"data\":[1],\"more\":0}]");
    stays("[{\"type\":\"Buffer\",\"type\":\"Buffer\"}]");
    stays("[{\"data\":[1],\"data\":[1]},\"Buffer\"]");
    stays("[\"{\\\"type\\\":\\\"Buffer\\\",\\\"data\\\":[1]}\",\"Buffer\"]");
    stays("[\"\\\\\",\"Buffer\"]");
}

static void test_attachments_that_came_are_counted_first_and_ten_are_all(void **state)
{
    struct peal_text one[PEAL_ATTACHMENTS_MAX];
    struct peal_message came = { .attachments = one, .n_attachments = 1 };
    struct peal_message out;

    (void)state;
    for (uint32_t i = 0; i < PEAL_ATTACHMENTS_MAX; i++)
        one[i] = peal_text("came");
    assert_true(forward_answer_read(
        &answer, &came,
        peal_text("[{\"_placeholder\":true,\"num\":0},{\"type\":\"Buffer\",\"data\":[7]}]"), &out));
    assert_int_equal(out.n_attachments, 2);
    assert_memory_equal(out.attachments[0].bytes, "came", 4);
    assert_memory_equal(out.attachments[1].bytes, "\7", 1);
    came.n_attachments = PEAL_ATTACHMENTS_MAX;
    assert_false(forward_answer_read(&answer, &came,
                                     peal_text("[{\"type\":\"Buffer\",\"data\":[7]}]"), &out));
}

/* A contract: users' servers share clients by it. */
static void test_the_hash_of_an_id_never_changes(void **state)
{
    (void)state;
    assert_int_equal(forward_hash(peal_text("AAAAAAAAAAAAAAAAAAAA")), 296);
    assert_int_equal(forward_hash(peal_text("abcdefghij-_01234567")), 923);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_buffers_become_attachments, teardown),
        cmocka_unit_test_teardown(test_what_only_looks_like_one_stays, teardown),
        cmocka_unit_test_teardown(test_attachments_that_came_are_counted_first_and_ten_are_all,
                                  teardown),
        cmocka_unit_test(test_the_hash_of_an_id_never_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
