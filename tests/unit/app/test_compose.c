/* test_compose.c: from a message to the array that is sent: parts of what came in, in front of them what is new, and nothing that is no event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "app/compose.h"

static struct config config;
static struct hub hub = { .config = &config };
static struct peal_host host = { .hub = &hub };

static int setup(void **state)
{
    (void)state;
    config.event_bytes_max = 1000;
    host.in_hand = (struct slice){ NULL, 0 };
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(host.text);
    host.text = NULL;
    host.text_max = 0;
    return 0;
}

/* The whole array, or NULL and the result. */
static const char *composed(const char *json, uint32_t skip, const char *prefix, bool is_event,
                            enum peal_result *result)
{
    static char text[2048];
    struct peal_message m = peal_json(json);
    struct composed c;

    m.skip = skip;
    if (prefix != NULL)
        m.prefix = peal_text(prefix);
    *result = compose(&host, &m, is_event, &c);
    if (*result != PEAL_OK)
        return NULL;
    memcpy(text, c.head.bytes, c.head.n_bytes);
    if (c.tail.n_bytes > 0)
        memcpy(text + c.head.n_bytes, c.tail.bytes, c.tail.n_bytes);
    text[c.head.n_bytes + c.tail.n_bytes] = '\0';
    return text;
}

static void expect(const char *json, uint32_t skip, const char *prefix, const char *what)
{
    enum peal_result result;
    const char *text = composed(json, skip, prefix, true, &result);

    assert_int_equal(result, PEAL_OK);
    assert_string_equal(text, what);
}

static void refused(const char *json, uint32_t skip, const char *prefix)
{
    enum peal_result result;

    assert_null(composed(json, skip, prefix, true, &result));
    assert_int_equal(result, PEAL_INVALID);
}

static void test_whole_or_in_part(void **state)
{
    (void)state;
    expect("[\"a\",1, \"b\" ]", 0, NULL, "[\"a\",1, \"b\" ]");
    expect("[\"a\",\"b\" , {\"c\":[1,2]}]", 1, NULL, "[\"b\" , {\"c\":[1,2]}]");
    expect("[ \"a\" , 1 ]", 1, NULL, "[1 ]");
    expect("[\"a\",1]", 1, "\"n\"", "[\"n\",1]");
    expect("[\"a\",1]", 2, "\"n\",{\"x\":null}", "[\"n\",{\"x\":null}]");
    expect("[\"a\",1]", 0, "\"n\"", "[\"n\",\"a\",1]");
    expect("[]", 0, "\"n\"", "[\"n\"]");
    expect("[7]", 0, "", "[7]");
}

static void test_what_is_no_event(void **state)
{
    (void)state;
    refused("[\"a\"]", 1, NULL);
    refused("[\"a\"]", 2, NULL);
    refused("[\"a\"]", 3, "\"n\"");
    refused("[\"a\",null]", 1, NULL);
    refused("[\"a\",\"connect\"]", 1, NULL);
    refused("[\"a\"]", 0, "\"disconnect\"");
    refused("[\"a\"]", 0, "{}");
    refused("[\"a\"]", 0, " ");
    refused("[\"a\"]", 0, "1,");
    refused("[\"a\"]", 0, ",1");
    refused("[\"a\"]", 0, "1],[1");
    refused("{\"a\":1}", 0, "\"n\"");
    refused("[\"a\"", 0, NULL);
}

static void test_an_acknowledgement_may_be_any_array(void **state)
{
    enum peal_result result;
    (void)state;

    assert_string_equal(composed("[]", 0, NULL, false, &result), "[]");
    assert_string_equal(composed("[1]", 1, NULL, false, &result), "[]");
    assert_string_equal(composed("[null,{}]", 0, NULL, false, &result), "[null,{}]");
    assert_null(composed("null", 0, NULL, false, &result));
}

static void test_the_size_counts_all_of_it(void **state)
{
    static char bytes[1000];
    struct peal_text attachment = { bytes, 900 };
    struct peal_message m = peal_json("[\"a\",{\"_placeholder\":true,\"num\":0}]");
    struct composed c;
    (void)state;

    m.attachments = &attachment;
    m.n_attachments = 1;
    assert_int_equal(compose(&host, &m, true, &c), PEAL_OK);
    assert_int_equal(c.n_attachments, 1);
    attachment.n_bytes = 970;
    assert_int_equal(compose(&host, &m, true, &c), PEAL_TOO_BIG);
    m.n_attachments = PEAL_ATTACHMENTS_MAX + 1;
    assert_int_equal(compose(&host, &m, true, &c), PEAL_INVALID);
}

static void test_what_is_in_hand_is_not_scanned_again_and_nothing_else_passes_for_it(void **state)
{
    struct peal_message m = peal_json("[\"a\",1]");
    struct composed c;
    (void)state;

    host.in_hand = slice_from(m.json);
    assert_int_equal(compose(&host, &m, true, &c), PEAL_OK);
    m.json.n_bytes--; /* not the whole of it: looked at */
    assert_int_equal(compose(&host, &m, true, &c), PEAL_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole_or_in_part),
        TEST(test_what_is_no_event),
        TEST(test_an_acknowledgement_may_be_any_array),
        TEST(test_the_size_counts_all_of_it),
        TEST(test_what_is_in_hand_is_not_scanned_again_and_nothing_else_passes_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
