/* test_proxy_protocol.c: PROXY headers, versions 1 and 2: whole, cut at every byte, and wrong in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/proxy_protocol.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"

/* A header, with a request behind it: its length and source, whatever the number of bytes that are there. */
static void expect_header(const char *bytes, uint32_t n, const char *source, uint16_t port)
{
    static const char behind[] = "GET / HTTP/1.1\r\n";
    char *all = malloc(n + sizeof behind);
    struct proxy_header header;
    char text[ADDRESS_TEXT_MAX];

    assert_non_null(all);
    memcpy(all, bytes, n);
    memcpy(all + n, behind, sizeof behind);
    for (uint32_t cut = 0; cut < n; cut++) {
        char *exact = malloc(cut > 0 ? cut : 1); /* so that a sanitizer sees a look behind it */

        assert_non_null(exact);
        memcpy(exact, all, cut);
        assert_int_equal(proxy_header_parse(slice_of(exact, cut), &header), PROXY_HEADER_MORE);
        free(exact);
    }
    for (uint32_t more = 0; more < sizeof behind; more++) {
        assert_int_equal(proxy_header_parse(slice_of(all, n + more), &header), PROXY_HEADER_OK);
        assert_int_equal(header.n_bytes, n);
        assert_int_equal(header.has_source, source != NULL);
        if (source == NULL)
            continue;
        peer_address_text(text, sizeof text, &header.source);
        assert_string_equal(text, source);
        assert_int_equal(header.source.port, port);
    }
    free(all);
}

static void expect_v1(const char *text, const char *source, uint16_t port)
{
    expect_header(text, (uint32_t)strlen(text), source, port);
}

static void expect(enum proxy_result result, const char *bytes, uint32_t n)
{
    struct proxy_header header;

    if (proxy_header_parse(slice_of(bytes, n), &header) != result)
        fail_msg("\"%.*s\": not %d", (int)n, bytes, result);
}

static void test_version_1_names_addresses_and_ports(void **state)
{
    (void)state;
    expect_v1("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1", 56324);
    expect_v1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", 0);
    expect_v1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255",
              65535);
    expect_v1("PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", "2001:db8::7", 56324);
    expect_v1("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", "192.0.2.1", 1);
    expect_v1("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
}

static void test_version_1_may_not_know(void **state)
{
    (void)state;
    expect_v1("PROXY UNKNOWN\r\n", NULL, 0);
    expect_v1("PROXY UNKNOWN whatever  follows 1.2.3.4\t\x80\r\n", NULL, 0);
    expect_v1("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
              NULL, 0); /* 107 bytes: the longest there is */
}

static void test_version_1_is_refused_for_each_fault(void **state)
{
    static const char *const bad[] = {
        "PROXY \r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY unknown\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4\t1 1\r\n",
        "PROXY TCP4 1.2.3.400 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP4 ::ffff:1.2.3.4 ::ffff:1.2.3.4 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP6 ::1 1.2.3.4 1 1\r\n",
        "PROXY TCP6 ::1%lo ::1 1 1\r\n",
        "PROXY TCP6 [::1] [::1] 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 4294967297 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 0x1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rX",
        "PROXY UNKNOWN\r \n",
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(PROXY_HEADER_BROKEN, bad[i], (uint32_t)strlen(bad[i]));
}

static void test_version_1_ends_within_107_bytes(void **state)
{
    char line[200];

    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    for (uint32_t n = 15; n < PROXY_V1_MAX; n++)
        expect(PROXY_HEADER_MORE, line, n);
    expect(PROXY_HEADER_BROKEN, line, PROXY_V1_MAX);
    expect(PROXY_HEADER_BROKEN, line, sizeof line);
    line[PROXY_V1_MAX - 1] = '\r'; /* its LF would be the 108th */
    line[PROXY_V1_MAX] = '\n';
    expect(PROXY_HEADER_MORE, line, PROXY_V1_MAX - 1);
    expect(PROXY_HEADER_BROKEN, line, PROXY_V1_MAX);
    expect(PROXY_HEADER_BROKEN, line, PROXY_V1_MAX + 1);
    line[PROXY_V1_MAX - 2] = '\r';
    line[PROXY_V1_MAX - 1] = '\n';
    expect(PROXY_HEADER_MORE, line, PROXY_V1_MAX - 1);
    expect(PROXY_HEADER_OK, line, PROXY_V1_MAX);
    line[40] = '\n'; /* a line ends in CR LF; within what is ignored anything goes */
    expect(PROXY_HEADER_OK, line, PROXY_V1_MAX);
}

/* A header of version 2: command, family and protocol, addresses, and `n_tlvs` bytes that say nothing. */
static uint32_t put_v2(uint8_t *out, uint8_t command, uint8_t family, const void *addresses,
                       uint32_t n_addresses, uint32_t n_tlvs)
{
    uint32_t n = n_addresses + n_tlvs;

    memcpy(out, V2, 12);
    out[12] = command;
    out[13] = family;
    out[14] = (uint8_t)(n >> 8);
    out[15] = (uint8_t)n;
    if (n_addresses > 0)
        memcpy(out + 16, addresses, n_addresses);
    memset(out + 16 + n_addresses, 0xee, n_tlvs);
    return 16 + n;
}

static const uint8_t four[12] = { 192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb };
static const uint8_t six[36] = {
    0x20, 0x01, 0x0d, 0xb8, [15] = 7, [31] = 1, [32] = 0xdc, 0x04, 1, 0xbb
};

static void test_version_2_names_addresses_and_skips_tlvs(void **state)
{
    static uint8_t header[PROXY_HEADER_MAX];
    uint8_t mapped[36] = { [10] = 0xff, 0xff, 192, 0, 2, 9, [32] = 0, 5 };

    (void)state;
    expect_header((char *)header, put_v2(header, 0x21, 0x11, four, 12, 0), "192.0.2.1", 56324);
    expect_header((char *)header, put_v2(header, 0x21, 0x21, six, 36, 0), "2001:db8::7", 56324);
    expect_header((char *)header, put_v2(header, 0x21, 0x21, mapped, 36, 0), "192.0.2.9", 5);
    expect_header((char *)header, put_v2(header, 0x21, 0x11, four, 12, 300), "192.0.2.1", 56324);
    expect_header((char *)header, put_v2(header, 0x21, 0x21, six, 36, 1), "2001:db8::7", 56324);
    expect_header((char *)header, put_v2(header, 0x21, 0x11, four, 12, PROXY_HEADER_MAX - 16 - 12),
                  "192.0.2.1", 56324);
}

static void test_version_2_may_be_local_or_say_nothing_of_use(void **state)
{
    static const uint8_t nothing[216];
    uint8_t header[1024];

    (void)state;
    expect_header((char *)header, put_v2(header, 0x20, 0x00, NULL, 0, 0), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x20, 0x11, four, 12, 20), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x20, 0xff, NULL, 0, 9), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x21, 0x00, NULL, 0, 0), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x21, 0x00, NULL, 0, 50), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x21, 0x12, four, 12, 0), NULL, 0); /* UDP */
    expect_header((char *)header, put_v2(header, 0x21, 0x22, six, 36, 3), NULL, 0);
    expect_header((char *)header, put_v2(header, 0x21, 0x31, nothing, 216, 0), NULL, 0); /* UNIX */
    expect_header((char *)header, put_v2(header, 0x21, 0x32, nothing, 216, 1), NULL, 0);
}

static void test_version_2_is_refused_as_soon_as_its_fixed_part_is_there(void **state)
{
    static const uint8_t families[] = { 0x01, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xff };
    uint8_t header[1024];

    (void)state;
    for (uint32_t command = 0; command < 256; command++) {
        (void)put_v2(header, (uint8_t)command, 0x11, four, 12, 0);
        expect(command == 0x20 || command == 0x21 ? PROXY_HEADER_MORE : PROXY_HEADER_BROKEN,
               (char *)header, 16);
    }
    for (uint32_t i = 0; i < sizeof families; i++) {
        (void)put_v2(header, 0x21, families[i], six, 36, 200);
        expect(PROXY_HEADER_BROKEN, (char *)header, 16);
    }
    for (uint32_t n = 0; n < 12; n++) { /* shorter than its addresses are */
        (void)put_v2(header, 0x21, 0x11, four, n, 0);
        expect(PROXY_HEADER_BROKEN, (char *)header, 16);
    }
    for (uint32_t n = 0; n < 36; n++) {
        (void)put_v2(header, 0x21, 0x21, six, n, 0);
        expect(PROXY_HEADER_BROKEN, (char *)header, 16);
    }
    (void)put_v2(header, 0x21, 0x31, six, 36, 0);
    expect(PROXY_HEADER_BROKEN, (char *)header, 16);
    header[13] = 0x11; /* longer than we would keep */
    header[14] = PROXY_HEADER_MAX >> 8;
    header[15] = 0;
    expect(PROXY_HEADER_BROKEN, (char *)header, 16);
    header[14] = header[15] = 0xff;
    expect(PROXY_HEADER_BROKEN, (char *)header, 16);
}

static void test_what_begins_otherwise_is_no_header(void **state)
{
    static const char *const others[] = { "G",           "GET / HTTP/1.1\r\n",
                                          "PROXX",       "PROXY\r\n",
                                          "PROXYTCP4 ",  "proxy ",
                                          "\n",          "\r\r",
                                          "\r\n\r\nG",   "\r\nGET / HTTP/1.1\r\n",
                                          " PROXY TCP4", "\x16\x03\x01" };
    char signature[] = V2;

    (void)state;
    for (uint32_t i = 0; i < sizeof others / sizeof others[0]; i++)
        expect(PROXY_HEADER_NONE, others[i], (uint32_t)strlen(others[i]));
    for (uint32_t i = 0; i < 12; i++) {
        signature[i] ^= 1;
        expect(PROXY_HEADER_NONE, signature, 12);
        signature[i] ^= 1;
    }
    expect(PROXY_HEADER_MORE, signature, 12);
    expect(PROXY_HEADER_MORE, "", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_1_names_addresses_and_ports),
        cmocka_unit_test(test_version_1_may_not_know),
        cmocka_unit_test(test_version_1_is_refused_for_each_fault),
        cmocka_unit_test(test_version_1_ends_within_107_bytes),
        cmocka_unit_test(test_version_2_names_addresses_and_skips_tlvs),
        cmocka_unit_test(test_version_2_may_be_local_or_say_nothing_of_use),
        cmocka_unit_test(test_version_2_is_refused_as_soon_as_its_fixed_part_is_there),
        cmocka_unit_test(test_what_begins_otherwise_is_no_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
