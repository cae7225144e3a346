/* test_listener.c: listeners as the kernel has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/listener.h"

static struct listeners l;
static char why[512];

static struct config_listen tcp(const char *host, uint16_t port)
{
    struct config_listen c = { .port = port };

    snprintf(c.host, sizeof c.host, "%s", host);
    return c;
}

static struct config_listen unix_at(const char *path)
{
    struct config_listen c = { .is_unix = true };

    snprintf(c.host, sizeof c.host, "%s", path);
    return c;
}

static uint16_t port_of(uint32_t address)
{
    const char *colon = strrchr(l.addresses[address].name, ':');

    assert_non_null(colon);
    return (uint16_t)atoi(colon + 1);
}

/* A client of 127.0.0.1 or ::1 from `source`; nonblocking connects to a listening loopback are done at once. */
static int client(const char *source, uint16_t port)
{
    struct sockaddr_in from = { .sin_family = AF_INET },
                       to = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, source, &from.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

static int client6(uint16_t port)
{
    struct sockaddr_in6 to = { .sin6_family = AF_INET6,
                               .sin6_port = htons(port),
                               .sin6_addr = in6addr_loopback };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The listener that has a connection waiting, which is taken and closed; UINT32_MAX: none within a second. */
static uint32_t who_has_it(int *nodelay)
{
    struct pollfd polls[LISTENERS_MAX];
    socklen_t n_bytes = sizeof *nodelay;

    for (uint32_t i = 0; i < l.n; i++)
        polls[i] = (struct pollfd){ .fd = l.items[i].fd, .events = POLLIN };
    if (poll(polls, l.n, 1000) <= 0)
        return UINT32_MAX;
    for (uint32_t i = 0; i < l.n; i++) {
        int fd = polls[i].revents ? accept(l.items[i].fd, NULL, NULL) : -1;

        if (fd < 0)
            continue;
        if (nodelay != NULL)
            assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, nodelay, &n_bytes), 0);
        close(fd);
        return i;
    }
    return UINT32_MAX;
}

static void test_a_free_port_is_taken_and_named(void **state)
{
    struct config_listen c = tcp("127.0.0.1", 0);
    int nodelay = 0, fd;
    char names[64];

    (void)state;
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why), 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.items[0].slot, LISTENER_SHARED);
    assert_true(port_of(0) > 0);
    listeners_names(&l, names, sizeof names);
    assert_string_equal(names, l.addresses[0].name);
    assert_true(fcntl(l.items[0].fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(l.items[0].fd, F_GETFD) & FD_CLOEXEC);
    fd = client("127.0.0.1", port_of(0));
    assert_true(fd >= 0);
    assert_int_equal(who_has_it(&nodelay), 0);
    assert_int_not_equal(nodelay, 0); /* inherited */
    close(fd);
    listeners_close(&l);
    assert_int_equal(client("127.0.0.1", port_of(0)), -1);
}

static void test_the_default_address_takes_ipv4_and_ipv6(void **state)
{
    struct config_listen c = tcp("", 0);
    int fd;

    (void)state;
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why), 0);
    fd = client("127.0.0.1", port_of(0));
    assert_true(fd >= 0);
    assert_int_equal(who_has_it(NULL), 0);
    close(fd);
    if (strncmp(l.addresses[0].name, "[::]:", 5) == 0) {
        fd = client6(port_of(0));
        assert_true(fd >= 0);
        assert_int_equal(who_has_it(NULL), 0);
        close(fd);
    } else {
        assert_int_equal(strncmp(l.addresses[0].name, "0.0.0.0:", 8), 0); /* a host without IPv6 */
    }
    listeners_close(&l);
}

static void test_several_addresses_have_a_listener_per_slot_each(void **state)
{
    struct config_listen c[2] = { tcp("127.0.0.1", 0), tcp("127.0.0.2", 0) };
    char names[128];

    (void)state;
    assert_int_equal(listeners_open(&l, c, 2, BALANCE_REUSEPORT, 3, why, sizeof why), 0);
    assert_int_equal(l.n, 6);
    for (uint32_t i = 0; i < l.n; i++) {
        assert_int_equal(l.items[i].slot, i % 3);
        assert_int_equal(l.items[i].address, i / 3);
    }
    listeners_names(&l, names, sizeof names);
    assert_non_null(strstr(names, ",127.0.0.2:"));
    listeners_close(&l);
}

static void test_an_address_in_use_is_refused_by_name_in_every_balance(void **state)
{
    struct config_listen c[2] = { tcp("127.0.0.2", 0), tcp("127.0.0.1", 0) };
    struct listeners other;
    char expected[64];

    (void)state;
    for (int theirs = BALANCE_LEASTCONN; theirs <= BALANCE_REUSEPORT; theirs++) {
        c[1].port = 0;
        assert_int_equal(
            listeners_open(&other, &c[1], 1, (enum config_balance)theirs, 2, why, sizeof why), 0);
        c[1].port = (uint16_t)atoi(strrchr(other.addresses[0].name, ':') + 1);
        snprintf(expected, sizeof expected, "127.0.0.1:%u: Address already in use", c[1].port);
        for (int ours = BALANCE_LEASTCONN; ours <= BALANCE_IPHASH; ours++) {
            assert_int_equal(
                listeners_open(&l, c, 2, (enum config_balance)ours, 2, why, sizeof why),
                -EADDRINUSE);
            assert_string_equal(why, expected);
            for (uint32_t i = 0; i < l.n; i++)
                assert_int_equal(l.items[i].fd, -1); /* nothing is left open */
        }
        listeners_close(&other);
    }
}

static void test_iphash_sends_a_source_where_it_is_computed(void **state)
{
    struct config_listen c = tcp("127.0.0.1", 0);
    uint32_t n_at[5] = { 0 };

    (void)state;
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_IPHASH, 5, why, sizeof why), 0);
    for (uint32_t i = 1; i <= 200; i++) {
        struct peer_address source = { .family = AF_INET,
                                       .bytes = { 127, (uint8_t)(i / 50), 9, (uint8_t)i } };
        char text[INET6_ADDRSTRLEN];

        peer_address_text(text, sizeof text, &source);
        for (int again = 0; again < 2; again++) {
            int fd = client(text, port_of(0));

            assert_true(fd >= 0);
            assert_int_equal(l.items[who_has_it(NULL)].slot, listener_iphash(&source, 5));
            close(fd);
        }
        n_at[listener_iphash(&source, 5)]++;
    }
    for (int i = 0; i < 5; i++)
        assert_in_range(n_at[i], 20, 60); /* 40 each on average */
    listeners_close(&l);
}

static void test_iphash_knows_both_families_on_a_dual_stack_listener(void **state)
{
    struct config_listen c = tcp("", 0);
    struct peer_address four = { .family = AF_INET, .bytes = { 127, 0, 0, 77 } };
    struct peer_address six = { .family = AF_INET6, .bytes = { [15] = 1 } };

    (void)state;
    /* over several group sizes, so that a program that looks at the wrong bytes cannot be right by chance */
    for (uint32_t n = 2; n <= 62; n += 7) {
        int fd;

        assert_int_equal(listeners_open(&l, &c, 1, BALANCE_IPHASH, n, why, sizeof why), 0);
        fd = client("127.0.0.77", port_of(0));
        assert_true(fd >= 0);
        assert_int_equal(l.items[who_has_it(NULL)].slot, listener_iphash(&four, n));
        close(fd);
        fd = client6(port_of(0));
        if (fd >= 0) {
            assert_int_equal(l.items[who_has_it(NULL)].slot, listener_iphash(&six, n));
            close(fd);
        }
        listeners_close(&l);
    }
}

static void test_ipv6_neighbours_are_spread(void **state)
{
    struct peer_address a = { .family = AF_INET6, .bytes = { 0x20, 0x01, 0x0d, 0xb8 } };
    uint32_t n_at[4] = { 0 };

    (void)state;
    for (int i = 0; i < 250; i++) {
        a.bytes[7] = (uint8_t)i;
        n_at[listener_iphash(&a, 4)]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(n_at[i], 40, 85);
}

static void test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(void **state)
{
    char folder[] = "/tmp/peal-listener-XXXXXX", path[64];
    struct config_listen c;
    struct listeners other;
    struct stat file;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    c = unix_at(path);
    assert_int_equal(listeners_open(&other, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why), 0);
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why), -EADDRINUSE);
    assert_non_null(strstr(why, path));
    assert_int_equal(stat(path, &file), 0); /* the refused one took nothing away */
    close(other.items[0].fd);               /* its process died without removing the file */
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_REUSEPORT, 4, why, sizeof why), 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.items[0].slot, LISTENER_SHARED);
    assert_true(l.items[0].is_unix);
    listeners_unlink(&other); /* not its file any more */
    assert_int_equal(stat(path, &file), 0);
    listeners_close(&l);
    assert_int_equal(stat(path, &file), -1);

    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* somebody's file, no socket */
    assert_true(fd >= 0);
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why), -EADDRINUSE);
    assert_int_equal(stat(path, &file), 0);
    close(fd);
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
}

static void test_a_path_that_is_too_long_is_refused_by_name(void **state)
{
    char path[200];
    struct config_listen c;

    (void)state;
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    c = unix_at(path);
    assert_int_equal(listeners_open(&l, &c, 1, BALANCE_LEASTCONN, 0, why, sizeof why),
                     -ENAMETOOLONG);
    assert_non_null(strstr(why, "unix:xxx"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_free_port_is_taken_and_named),
        cmocka_unit_test(test_the_default_address_takes_ipv4_and_ipv6),
        cmocka_unit_test(test_several_addresses_have_a_listener_per_slot_each),
        cmocka_unit_test(test_an_address_in_use_is_refused_by_name_in_every_balance),
        cmocka_unit_test(test_iphash_sends_a_source_where_it_is_computed),
        cmocka_unit_test(test_iphash_knows_both_families_on_a_dual_stack_listener),
        cmocka_unit_test(test_ipv6_neighbours_are_spread),
        cmocka_unit_test(test_a_stale_socket_file_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(test_a_path_that_is_too_long_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
