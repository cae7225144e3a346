/* test_resolve.c: names to addresses, without waiting for whoever answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>

#include "bridge/resolve.h"

static struct resolve_address out[RESOLVE_ADDRESSES_MAX];

static void test_a_numeric_address_needs_no_look_up(void **state)
{
    const struct sockaddr_in *v4 = (const void *)&out[0].address;
    const struct sockaddr_in6 *v6 = (const void *)&out[0].address;
    const char *why = NULL;
    uint32_t n;
    int fd = -1;
    (void)state;

    assert_null(resolve_begin("127.0.0.3", 6380, &fd, out, &n, &why));
    assert_int_equal(n, 1);
    assert_int_equal(v4->sin_family, AF_INET);
    assert_int_equal(ntohs(v4->sin_port), 6380);
    assert_int_equal(ntohl(v4->sin_addr.s_addr), 0x7f000003);
    assert_null(resolve_begin("::1", 6381, &fd, out, &n, &why));
    assert_int_equal(n, 1);
    assert_int_equal(v6->sin6_family, AF_INET6);
    assert_int_equal(ntohs(v6->sin6_port), 6381);
    assert_int_equal(fd, -1);
}

static void answered(struct resolve **r, const char *host, int *fd)
{
    const char *why = NULL;
    struct pollfd p;
    uint32_t n;

    *r = resolve_begin(host, 1, fd, out, &n, &why);
    assert_non_null(*r);
    assert_int_equal(n, 0);
    p = (struct pollfd){ *fd, POLLIN, 0 };
    assert_int_equal(poll(&p, 1, 30000), 1);
}

static void test_a_name_is_looked_up_beside_the_loop(void **state)
{
    const char *why = NULL;
    struct resolve *r;
    int fd;
    (void)state;

    answered(&r, "localhost", &fd);
    assert_true(resolve_end(r, out, &why) >= 1);
}

static void test_a_name_that_is_none_says_so(void **state)
{
    const char *why = NULL;
    struct resolve *r;
    int fd;
    (void)state;

    answered(&r, "no such name.invalid", &fd);
    assert_int_equal(resolve_end(r, out, &why), 0);
    assert_non_null(why);
}

/* Whether the thread has answered or not: it is freed once, by the second of the two (the sanitizers see to it). */
static void test_a_look_up_may_be_given_up_at_any_time(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        const char *why = NULL;
        struct resolve *r;
        uint32_t n;
        int fd;

        r = resolve_begin("localhost", 1, &fd, out, &n, &why);
        assert_non_null(r);
        if (i % 2 == 0)
            (void)poll(NULL, 0, (int)(i % 4));
        n = resolve_end(r, out, &why);
        assert_true(n > 0 || why != NULL);
    }
    (void)poll(NULL, 0, 200); /* the threads end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_numeric_address_needs_no_look_up),
        cmocka_unit_test(test_a_name_is_looked_up_beside_the_loop),
        cmocka_unit_test(test_a_name_that_is_none_says_so),
        cmocka_unit_test(test_a_look_up_may_be_given_up_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
