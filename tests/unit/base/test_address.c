/* test_address.c: addresses and networks as text and values, measured against inet_pton and inet_ntop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <sys/socket.h>

#include "base/address.h"

static struct peer_address address_of(const char *text)
{
    struct peer_address address;

    if (!address_parse(slice_text(text), &address))
        fail_msg("%s is an address", text);
    return address;
}

static struct address_network network_of(const char *text)
{
    struct address_network network;

    if (!address_network_parse(slice_text(text), &network))
        fail_msg("%s is a network", text);
    return network;
}

/* Ours and the C library's reading of the same text. */
static void expect_agreement(const char *text)
{
    uint8_t theirs[16] = { 0 };
    struct peer_address ours;
    bool is_ipv4 = inet_pton(AF_INET, text, theirs) == 1;
    bool is_ipv6 = !is_ipv4 && inet_pton(AF_INET6, text, theirs) == 1;

    if (address_parse(slice_text(text), &ours) != (is_ipv4 || is_ipv6))
        fail_msg("\"%s\": inet_pton says %d", text, is_ipv4 || is_ipv6);
    if (!is_ipv4 && !is_ipv6)
        return;
    if (is_ipv6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)theirs)) {
        assert_int_equal(ours.family, AF_INET);
        assert_memory_equal(ours.bytes, theirs + 12, 4);
        return;
    }
    assert_int_equal(ours.family, is_ipv4 ? AF_INET : AF_INET6);
    assert_int_equal(ours.port, 0);
    assert_memory_equal(ours.bytes, theirs, sizeof theirs);
}

static void test_what_inet_pton_takes_is_an_address_and_nothing_else(void **state)
{
    static const char *const texts[] = {
        "0.0.0.0",
        "255.255.255.255",
        "192.0.2.1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.04",
        "1..2.3",
        ".1.2.3.4",
        "1.2.3.4.",
        " 1.2.3.4",
        "1.2.3.4 ",
        "1.2.3.+4",
        "1.2.3.4444444444",
        "::",
        "::1",
        "1::",
        "::1:2",
        "1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4::5:6:7:8",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        ":",
        ":::",
        ":1",
        "1:",
        "1:::2",
        "1::2::3",
        "12345::",
        "::12345",
        "g::",
        "::ffff:1.2.3.4",
        "::FFFF:1.2.3.4",
        "::1.2.3.4",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "1:2:3:4:5:1.2.3.4",
        "::1.2.3",
        "::1.2.3.4:5",
        "1.2.3.4::",
        "::1.2.3.400",
        "fe80::1%eth0",
        "[::1]",
        "1.2.3.4:80",
        "2001:DB8::A",
        "2001:0db8:0000:0000:0000:0000:0000:000a",
        "",
        "unix",
        "localhost",
        "1",
        "a",
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect_agreement(texts[i]);
}

static void test_any_mixture_of_their_parts_is_read_as_inet_pton_does(void **state)
{
    static const char *const pieces[] = { ":",    ":",     "::",        "1",   "0",
                                          "ffff", "abcde", "127.0.0.1", "255", "256",
                                          ".",    "01",    "g",         "%",   "1:2:3:4:5:6" };
    uint64_t seed = 1;

    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        char text[128] = "";
        size_t used = 0;

        for (uint32_t n = 1 + i % 9; n > 0; n--) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            used += (size_t)snprintf(text + used, sizeof text - used, "%s",
                                     pieces[(seed >> 33) % (sizeof pieces / sizeof pieces[0])]);
        }
        expect_agreement(text);
    }
}

static void test_text_is_what_inet_ntop_writes_and_comes_back_the_same(void **state)
{
    uint32_t seed = 7;
    char ours[ADDRESS_TEXT_MAX];
    char theirs[INET6_ADDRSTRLEN];

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        struct peer_address address = { .family = ADDRESS_IPV6, .bytes = { 0x20 } };
        struct peer_address again;

        for (uint32_t at = 1; at < 16; at++) {
            seed = seed * 1664525 + 1013904223;
            address.bytes[at] = (uint8_t)((seed >> 28) < 11 ? 0 : seed >> 20); /* many zeros */
        }
        peer_address_text(ours, sizeof ours, &address);
        assert_non_null(inet_ntop(AF_INET6, address.bytes, theirs, sizeof theirs));
        assert_string_equal(ours, theirs);
        assert_true(address_parse(slice_text(ours), &again));
        assert_memory_equal(again.bytes, address.bytes, sizeof again.bytes);
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct peer_address address = address_of(i == 0 ? "::" : "::1");

        peer_address_text(ours, sizeof ours, &address);
        assert_string_equal(ours, i == 0 ? "::" : "::1");
    }
}

static void expect_network(const char *text, const char *as_text)
{
    struct address_network network = network_of(text);
    char now[ADDRESS_TEXT_MAX];

    address_network_text(now, sizeof now, &network);
    assert_string_equal(now, as_text);
}

static void test_networks_are_addresses_with_a_prefix_or_without(void **state)
{
    static const char *const bad[] = { "",
                                       "/8",
                                       "10.0.0.0/",
                                       "10.0.0.0/33",
                                       "::/129",
                                       "10.0.0.0/-1",
                                       "10.0.0.0/8/8",
                                       "10.0.0.0/0008",
                                       "10.0.0/8",
                                       "unix/8",
                                       "any",
                                       "[::1]",
                                       "::1/ 8",
                                       "::ffff:10.0.0.0/95",
                                       "example.com" };
    struct address_network network;

    (void)state;
    expect_network("10.0.0.0/8", "10.0.0.0/8");
    expect_network("10.1.2.3/8", "10.0.0.0/8");
    expect_network("10.1.2.3/15", "10.0.0.0/15");
    expect_network("192.0.2.7", "192.0.2.7");
    expect_network("192.0.2.7/32", "192.0.2.7");
    expect_network("0.0.0.0/0", "0.0.0.0/0");
    expect_network("::/0", "::/0");
    expect_network("2001:DB8:ffff::/33", "2001:db8:8000::/33");
    expect_network("::1", "::1");
    expect_network("::ffff:10.1.2.3/104", "10.0.0.0/8");
    expect_network("::ffff:10.1.2.3", "10.1.2.3");
    expect_network("unix", "unix");
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (address_network_parse(slice_text(bad[i]), &network))
            fail_msg("%s is no network", bad[i]);
}

static bool is_in(const char *address, const char *network)
{
    const struct address_network networks[2] = { network_of("203.0.113.0/24"),
                                                 network_of(network) };
    struct peer_address a = { .family = ADDRESS_UNIX };

    if (strcmp(address, "unix") != 0)
        a = address_of(address);
    return address_is_in(&a, networks, 2);
}

static void test_an_address_is_in_a_network_by_its_first_bits(void **state)
{
    (void)state;
    assert_true(is_in("10.255.0.1", "10.0.0.0/8"));
    assert_false(is_in("11.0.0.1", "10.0.0.0/8"));
    assert_true(is_in("10.1.255.255", "10.0.0.0/15"));
    assert_false(is_in("10.2.0.0", "10.0.0.0/15"));
    assert_true(is_in("1.2.3.4", "0.0.0.0/0"));
    assert_true(is_in("::ffff:10.0.0.1", "10.0.0.1"));
    assert_false(is_in("10.0.0.1", "::/0"));
    assert_false(is_in("::1", "0.0.0.0/0"));
    assert_true(is_in("2001:db8::1", "2001:db8::/32"));
    assert_false(is_in("2001:db9::1", "2001:db8::/32"));
    assert_true(is_in("203.0.113.9", "::1"));
    assert_true(is_in("unix", "unix"));
    assert_false(is_in("unix", "0.0.0.0/0"));
    assert_false(is_in("0.0.0.0", "unix"));
    for (uint32_t bits = 0; bits <= 128; bits++) {
        struct address_network network;
        struct peer_address address = address_of("5555:5555:5555:5555:5555:5555:5555:5555");
        char text[64];

        snprintf(text, sizeof text, "5555:5555:5555:5555:5555:5555:5555:5555/%u", bits);
        network = network_of(text);
        for (uint32_t bit = 0; bit < 128; bit++) {
            struct peer_address other = address;

            other.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            assert_int_equal(address_is_in(&other, &network, 1), bit >= bits);
        }
    }
}

static void test_one_key_is_an_ipv4_address_a_64_of_ipv6_or_all_of_unix(void **state)
{
    static const char *const apart[] = {
        "0.0.0.0", "192.0.2.1",   "192.0.2.2",       "::1",
        "1::",     "2001:db8::1", "2001:db8:0:1::1", "0:0:0:1::1"
    };
    struct peer_address a = { .family = ADDRESS_UNIX };
    struct peer_address b;

    (void)state;
    assert_int_not_equal(address_key(&a), 0);
    for (uint32_t i = 0; i < sizeof apart / sizeof apart[0]; i++) {
        a = address_of(apart[i]);
        assert_int_not_equal(address_key(&a), 0);
        a.port = 77; /* nothing to it */
        for (uint32_t j = 0; j < sizeof apart / sizeof apart[0]; j++) {
            b = address_of(apart[j]);
            assert_int_equal(address_key(&a) == address_key(&b), i == j);
        }
        b = (struct peer_address){ .family = ADDRESS_UNIX };
        assert_int_not_equal(address_key(&a), address_key(&b));
    }
    a = address_of("2001:db8:1:2:3:4:5:6");
    b = address_of("2001:db8:1:2:ffff::");
    assert_int_equal(address_key(&a), address_key(&b));
    a = address_of("::ffff:192.0.2.1");
    b = address_of("192.0.2.1");
    assert_int_equal(address_key(&a), address_key(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_inet_pton_takes_is_an_address_and_nothing_else),
        cmocka_unit_test(test_any_mixture_of_their_parts_is_read_as_inet_pton_does),
        cmocka_unit_test(test_text_is_what_inet_ntop_writes_and_comes_back_the_same),
        cmocka_unit_test(test_networks_are_addresses_with_a_prefix_or_without),
        cmocka_unit_test(test_an_address_is_in_a_network_by_its_first_bits),
        cmocka_unit_test(test_one_key_is_an_ipv4_address_a_64_of_ipv6_or_all_of_unix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
