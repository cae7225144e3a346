/* address.c: see address.h. Text as RFC 4291 section 2.2 and RFC 5952 have it. */
#include "base/address.h"

#include <assert.h>
#include <stdio.h>

#define GROUPS 8u

/* Keys of what is no IPv6 network lie in ff00::/8, multicast, where nobody can come from. */
#define KEY_IPV4 0xffff000000000000ull
#define KEY_UNIX 0xffff000100000000ull
#define KEY_ZERO 0xffff000200000000ull /* ::/64, which has ::1 */

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }; /* ::ffff:0:0/96 */

/* Four numbers up to 255, none with a leading zero (which some take for octal). */
static bool parse_ipv4(const char *p, const char *end, uint8_t out[4])
{
    for (uint32_t i = 0; i < 4; i++) {
        const char *from = p;
        uint32_t number = 0;

        for (; p < end && *p >= '0' && *p <= '9' && p - from < 4; p++)
            number = number * 10 + (uint32_t)(*p - '0');
        if (p == from || number > 255 || (*from == '0' && p - from > 1))
            return false;
        out[i] = (uint8_t)number;
        if (i < 3 && (p == end || *p++ != '.'))
            return false;
    }
    return p == end;
}

static int32_t hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Eight groups of up to four hexadecimal digits, one run of them left out as "::", the last two perhaps as an IPv4 address. No zone. */
static bool parse_ipv6(const char *p, const char *end, uint8_t out[16])
{
    bool has_gap = false;
    bool after_group = false;
    uint32_t gap = 0;
    uint32_t n = 0;

    memset(out, 0, 16);
    while (p < end) {
        const char *from;
        uint32_t group = 0;

        if (end - p >= 2 && p[0] == ':' && p[1] == ':') {
            if (has_gap)
                return false;
            has_gap = true;
            gap = n;
            after_group = false;
            p += 2;
            continue;
        }
        if (after_group && *p++ != ':')
            return false;
        for (from = p; p < end && hex_digit(*p) >= 0 && p - from < 5; p++)
            group = group << 4 | (uint32_t)hex_digit(*p);
        if (p > from && p < end && *p == '.') {
            if (n > 12 || !parse_ipv4(from, end, out + n))
                return false;
            n += 4;
            break;
        }
        if (p == from || p - from > 4 || n == 16)
            return false;
        out[n++] = (uint8_t)(group >> 8);
        out[n++] = (uint8_t)group;
        after_group = true;
    }
    if (!has_gap)
        return n == 16;
    if (n == 16)
        return false; /* "::" stands for one group at least */
    memmove(out + 16 - (n - gap), out + gap, n - gap);
    memset(out + gap, 0, 16 - n);
    return true;
}

bool address_parse(struct slice text, struct peer_address *out)
{
    const char *end = text.bytes + text.n_bytes;

    *out = (struct peer_address){ .family = ADDRESS_IPV4 };
    if (text.n_bytes == 0)
        return false;
    if (parse_ipv4(text.bytes, end, out->bytes))
        return true;
    out->family = ADDRESS_IPV6;
    if (!parse_ipv6(text.bytes, end, out->bytes))
        return false;
    if (memcmp(out->bytes, mapped, sizeof mapped) == 0) {
        out->family = ADDRESS_IPV4;
        memmove(out->bytes, out->bytes + sizeof mapped, 4);
        memset(out->bytes + 4, 0, sizeof out->bytes - 4);
    }
    return true;
}

/* The longest run of two or more zero groups, the first of several: from where, and how many; 0: there is none. */
static uint32_t longest_gap(const uint16_t groups[GROUPS], uint32_t *n)
{
    uint32_t at = 0;

    *n = 0;
    for (uint32_t i = 0; i < GROUPS; i++) {
        uint32_t run = 0;

        while (i + run < GROUPS && groups[i + run] == 0)
            run++;
        if (run > *n) {
            at = i;
            *n = run;
        }
        i += run;
    }
    if (*n == 1)
        *n = 0;
    return at;
}

static void ipv6_text(char *out, uint32_t out_bytes, const uint8_t bytes[16])
{
    uint16_t groups[GROUPS];
    uint32_t n_gap;
    uint32_t gap;
    int n = 0;

    for (uint32_t i = 0; i < GROUPS; i++)
        groups[i] = (uint16_t)(bytes[2 * i] << 8 | bytes[2 * i + 1]);
    gap = longest_gap(groups, &n_gap);
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (n_gap > 0 && i == gap) {
            n += snprintf(out + n, out_bytes - (uint32_t)n, "::");
            i += n_gap - 1;
            continue;
        }
        n += snprintf(out + n, out_bytes - (uint32_t)n,
                      i == 0 || (n_gap > 0 && i == gap + n_gap) ? "%x" : ":%x", groups[i]);
    }
}

void peer_address_text(char *out, uint32_t out_bytes, const struct peer_address *address)
{
    const uint8_t *b = address->bytes;

    assert(out_bytes >= ADDRESS_TEXT_MAX);
    if (address->family == ADDRESS_IPV4)
        snprintf(out, out_bytes, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    else if (address->family == ADDRESS_IPV6)
        ipv6_text(out, out_bytes, b);
    else
        snprintf(out, out_bytes, "unix");
}

/* --- networks --- */

static uint32_t bits_of(uint16_t family)
{
    return family == ADDRESS_IPV4 ? 32 : family == ADDRESS_IPV6 ? 128 : 0;
}

/* One to three digits. UINT32_MAX: they are none. */
static uint32_t parse_bits(const char *p, const char *end)
{
    uint32_t bits = 0;

    if (p == end || end - p > 3)
        return UINT32_MAX;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return UINT32_MAX;
        bits = bits * 10 + (uint32_t)(*p - '0');
    }
    return bits;
}

bool address_network_parse(struct slice text, struct address_network *out)
{
    const char *slash = text.n_bytes > 0 ? memchr(text.bytes, '/', text.n_bytes) : NULL;
    const char *end = text.bytes + text.n_bytes;
    struct peer_address address;
    uint32_t bits;

    *out = (struct address_network){ .family = ADDRESS_UNIX };
    if (slice_is(text, "unix"))
        return true;
    if (!address_parse(slice_of(text.bytes, (uint32_t)((slash ? slash : end) - text.bytes)),
                       &address))
        return false;
    bits = slash != NULL ? parse_bits(slash + 1, end) : bits_of(address.family);
    /* a prefix of an IPv4-mapped address counts from the front of all its bits */
    if (slash != NULL && address.family == ADDRESS_IPV4 &&
        memchr(text.bytes, ':', text.n_bytes) != NULL)
        bits = bits >= 96 && bits != UINT32_MAX ? bits - 96 : UINT32_MAX;
    if (bits > bits_of(address.family))
        return false;
    out->family = address.family;
    out->prefix_bits = (uint16_t)bits;
    for (uint32_t i = 0; 8 * i < bits; i++)
        out->bytes[i] =
            (uint8_t)(address.bytes[i] & (bits - 8 * i >= 8 ? 0xff : 0xff00 >> (bits - 8 * i)));
    return true;
}

void address_network_text(char *out, uint32_t out_bytes, const struct address_network *network)
{
    struct peer_address address = { .family = network->family };
    uint32_t n;

    memcpy(address.bytes, network->bytes, sizeof address.bytes);
    peer_address_text(out, out_bytes, &address);
    n = (uint32_t)strlen(out);
    if (network->prefix_bits < bits_of(network->family))
        snprintf(out + n, out_bytes - n, "/%u", network->prefix_bits);
}

static bool is_in(const struct peer_address *address, const struct address_network *network)
{
    uint32_t whole = network->prefix_bits / 8;
    uint32_t rest = network->prefix_bits % 8;

    if (address->family != network->family || memcmp(address->bytes, network->bytes, whole) != 0)
        return false;
    return rest == 0 || (address->bytes[whole] ^ network->bytes[whole]) >> (8 - rest) == 0;
}

bool address_is_in(const struct peer_address *address, const struct address_network *networks,
                   uint32_t n_networks)
{
    for (uint32_t i = 0; i < n_networks; i++)
        if (is_in(address, &networks[i]))
            return true;
    return false;
}

uint64_t address_key(const struct peer_address *address)
{
    uint32_t n_bytes = address->family == ADDRESS_IPV4 ? 4 : 8;
    uint64_t key = 0;

    if (address->family != ADDRESS_IPV4 && address->family != ADDRESS_IPV6)
        return KEY_UNIX;
    for (uint32_t i = 0; i < n_bytes; i++)
        key = key << 8 | address->bytes[i];
    if (address->family == ADDRESS_IPV4)
        return KEY_IPV4 | key;
    return key == 0 ? KEY_ZERO : key;
}
