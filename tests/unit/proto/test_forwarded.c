/* test_forwarded.c: whom a request is from: from the right, over trusted hops, and no further than what is readable. */
#include "lib/http_request.h"

#include "proto/forwarded.h"

static struct address_network trusted[3];

static int setup(void **state)
{
    (void)state;
    assert_true(address_network_parse(slice_text("10.0.0.0/8"), &trusted[0]));
    assert_true(address_network_parse(slice_text("2001:db8:ffff::/48"), &trusted[1]));
    assert_true(address_network_parse(slice_text("unix"), &trusted[2]));
    return 0;
}

/* `lines`: headers, each with its CR LF. */
static void expect_client(const char *peer, const char *lines, const char *client, uint16_t port)
{
    struct peer_address from = { .family = ADDRESS_UNIX };
    struct peer_address found;
    char text[ADDRESS_TEXT_MAX];

    parse_request("GET /", lines);
    if (strcmp(peer, "unix") != 0)
        assert_true(address_parse(slice_text(peer), &from));
    from.port = 7;
    found = forwarded_client(&request, &from, trusted, 3);
    peer_address_text(text, sizeof text, &found);
    if (strcmp(text, client) != 0)
        fail_msg("%s and %s: %s", peer, lines, text);
    assert_int_equal(found.port, port);
    if (strcmp(client, peer) != 0) {
        found = forwarded_client(&request, &from, trusted, 0); /* nobody is trusted */
        peer_address_text(text, sizeof text, &found);
        assert_string_equal(text, peer);
    }
}

#define XFF "X-Forwarded-For: "

static void test_only_a_trusted_peer_is_believed(void **state)
{
    (void)state;
    expect_client("10.0.0.1", "", "10.0.0.1", 7);
    expect_client("10.0.0.1", XFF "192.0.2.1\r\n", "192.0.2.1", 0);
    expect_client("192.0.2.9", XFF "192.0.2.1\r\n", "192.0.2.9", 7);
    expect_client("unix", XFF "192.0.2.1\r\n", "192.0.2.1", 0);
    expect_client("2001:db8:ffff::1", XFF "2001:db8::1\r\n", "2001:db8::1", 0);
    expect_client("10.0.0.1", "Forwarded: for=192.0.2.1\r\n", "10.0.0.1", 7);
}

static void test_the_walk_goes_from_the_right_over_trusted_hops(void **state)
{
    (void)state;
    expect_client("10.0.0.1", XFF "1.1.1.1, 192.0.2.1\r\n", "192.0.2.1",
                  0); /* 1.1.1.1: his words */
    expect_client("10.0.0.1", XFF "1.1.1.1, 192.0.2.1, 10.0.0.2\r\n", "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "192.0.2.1,10.0.0.3 ,\t10.0.0.2\r\n", "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "10.0.0.3, 10.0.0.2\r\n", "10.0.0.3", 0); /* all are trusted */
    expect_client("unix", XFF "192.0.2.1, 2001:db8:ffff::2, 10.0.0.2\r\n", "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "10.0.0.9, 192.0.2.1, 10.0.0.2\r\n", "192.0.2.1", 0);
}

static void test_several_headers_are_one_list(void **state)
{
    (void)state;
    expect_client("10.0.0.1", XFF "1.1.1.1\r\nX-Other: y\r\nx-forwarded-for: 192.0.2.1\r\n",
                  "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "192.0.2.1\r\n" XFF "10.0.0.3, 10.0.0.2\r\n", "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "192.0.2.1\r\n" XFF "unknown\r\n", "10.0.0.1", 7);
}

static void test_entries_may_have_ports_and_brackets(void **state)
{
    (void)state;
    expect_client("10.0.0.1", XFF "192.0.2.1:4711\r\n", "192.0.2.1", 4711);
    expect_client("10.0.0.1", XFF "[2001:db8::1]:4711\r\n", "2001:db8::1", 4711);
    expect_client("10.0.0.1", XFF "[2001:db8::1]\r\n", "2001:db8::1", 0);
    expect_client("10.0.0.1", XFF "2001:db8::1\r\n", "2001:db8::1", 0);
    expect_client("10.0.0.1", XFF "192.0.2.1, 10.0.0.2:80\r\n", "192.0.2.1", 0);
    expect_client("10.0.0.1", XFF "::ffff:192.0.2.1\r\n", "192.0.2.1", 0);
}

static void test_what_is_no_address_ends_the_walk(void **state)
{
    static const char *const bad[] = { "unknown",
                                       "_hidden",
                                       "",
                                       "192.0.2",
                                       "192.0.2.1:65536",
                                       "192.0.2.1:x",
                                       "[192.0.2.1",
                                       "2001:db8::1]:80",
                                       "example.com",
                                       "192.0.2.1 192.0.2.2",
                                       "\"192.0.2.1\"",
                                       "192.0.2.1;",
                                       "fe80::1%eth0",
                                       "010.0.0.1",
                                       "::g",
                                       "user@192.0.2.1",
                                       "unix" };
    char lines[256];

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(lines, sizeof lines, XFF "192.0.2.9, %s\r\n", bad[i]);
        expect_client("10.0.0.1", lines, "10.0.0.1", 7);
        snprintf(lines, sizeof lines, XFF "192.0.2.9, %s, 10.0.0.2\r\n", bad[i]);
        expect_client("10.0.0.1", lines, "10.0.0.2", 0);
    }
    expect_client("10.0.0.1", XFF "\r\n", "10.0.0.1", 7);
    expect_client("10.0.0.1", XFF ",,,\r\n", "10.0.0.1", 7);
}

static void test_a_head_full_of_hops_is_walked_to_its_end(void **state)
{
    static char lines[12000];
    uint32_t n = (uint32_t)snprintf(lines, sizeof lines, XFF "192.0.2.1");

    (void)state;
    while (n < sizeof lines - 64)
        n += (uint32_t)snprintf(lines + n, sizeof lines - n, ",10.0.0.%u", n % 256);
    snprintf(lines + n, sizeof lines - n, "\r\n");
    expect_client("10.0.0.1", lines, "192.0.2.1", 0);
}

static void expect_host(const char *lines, const char *host)
{
    struct slice found;

    parse_request("GET /", lines);
    found = forwarded_host(&request);
    if (host == NULL)
        assert_null(found.bytes);
    else
        assert_true(slice_is(found, host));
}

static void test_the_host_is_the_first_that_is_named(void **state)
{
    (void)state;
    expect_host("", NULL);
    expect_host("X-Forwarded-Host: app.example.com\r\n", "app.example.com");
    expect_host("x-forwarded-host: app.example.com:8443 , inner\r\n", "app.example.com:8443");
    expect_host("X-Forwarded-Host:\r\n", NULL);
    expect_host("X-Forwarded-Host: , inner\r\n", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_a_trusted_peer_is_believed),
        cmocka_unit_test(test_the_walk_goes_from_the_right_over_trusted_hops),
        cmocka_unit_test(test_several_headers_are_one_list),
        cmocka_unit_test(test_entries_may_have_ports_and_brackets),
        cmocka_unit_test(test_what_is_no_address_ends_the_walk),
        cmocka_unit_test(test_a_head_full_of_hops_is_walked_to_its_end),
        cmocka_unit_test(test_the_host_is_the_first_that_is_named),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
