/* proxy_protocol.c: see proxy_protocol.h.
 *
 * Never:     guesses. A header is complete and right to the last byte, or the connection is nobody's: one that was let through with its proxy's own
 *            address would be trusted more than any client. */
#include "proto/proxy_protocol.h"

#define V2_FIXED      16u /* signature, version and command, family and protocol, length */
#define V2_LOCAL      0x20u
#define V2_PROXY      0x21u
#define V2_IPV4_BYTES 12u /* two addresses, two ports */
#define V2_IPV6_BYTES 36u
#define V2_UNIX_BYTES 216u

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n";

#define V1_START_BYTES ((uint32_t)sizeof v1_start - 1)
#define V2_START_BYTES ((uint32_t)sizeof v2_start - 1)

/* --- version 1 --- */

/* Takes the field up to the next space off the line; the last one is what is left. False: there is none, or it is empty. */
static bool take_field(struct slice *line, struct slice *field)
{
    const char *space = line->n_bytes > 0 ? memchr(line->bytes, ' ', line->n_bytes) : NULL;
    uint32_t n = space != NULL ? (uint32_t)(space - line->bytes) : line->n_bytes;

    *field = slice_of(line->bytes, n);
    n += space != NULL;
    *line = slice_of(line->bytes + n, line->n_bytes - n);
    return field->n_bytes > 0;
}

static bool parse_port(struct slice text, uint16_t *port)
{
    uint32_t number = 0;

    if (text.n_bytes > 5 || (text.bytes[0] == '0' && text.n_bytes > 1))
        return false;
    for (uint32_t i = 0; i < text.n_bytes; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(text.bytes[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

/* TCP6 may carry an IPv4-mapped address: it is an IPv4 address in ours. */
static bool parse_address(struct slice text, bool is_ipv6, struct peer_address *out)
{
    return (memchr(text.bytes, ':', text.n_bytes) != NULL) == is_ipv6 && address_parse(text, out);
}

/* What is behind "PROXY ", without its CR LF. */
static bool parse_v1(struct slice line, struct proxy_header *out)
{
    struct slice protocol, source, target, source_port, target_port;
    struct peer_address to;
    bool is_ipv6;

    if (!take_field(&line, &protocol))
        return false;
    if (slice_is(protocol, "UNKNOWN")) /* whatever follows is to be ignored */
        return true;
    is_ipv6 = slice_is(protocol, "TCP6");
    if (!is_ipv6 && !slice_is(protocol, "TCP4"))
        return false;
    if (!take_field(&line, &source) || !take_field(&line, &target) ||
        !take_field(&line, &source_port) || !take_field(&line, &target_port) ||
        line.bytes != target_port.bytes + target_port.n_bytes) /* something behind it, if a space */
        return false;
    out->has_source = true;
    return parse_address(source, is_ipv6, &out->source) && parse_address(target, is_ipv6, &to) &&
           parse_port(source_port, &out->source.port) && parse_port(target_port, &to.port);
}

static enum proxy_result find_v1(struct slice input, struct proxy_header *out)
{
    uint32_t n = input.n_bytes < PROXY_V1_MAX ? input.n_bytes : PROXY_V1_MAX;
    const char *end = memchr(input.bytes, '\r', n);
    uint32_t n_line;

    if (end == NULL || end + 1 == input.bytes + n) /* its end is not there yet */
        return n == PROXY_V1_MAX ? PROXY_HEADER_BROKEN : PROXY_HEADER_MORE;
    n_line = (uint32_t)(end - input.bytes);
    out->n_bytes = n_line + 2;
    if (end[1] != '\n' ||
        !parse_v1(slice_of(input.bytes + V1_START_BYTES, n_line - V1_START_BYTES), out))
        return PROXY_HEADER_BROKEN;
    return PROXY_HEADER_OK;
}

/* --- version 2 --- */

/* How many bytes of addresses there must be; UINT32_MAX: no such family and protocol. */
static uint32_t addresses_bytes(uint8_t family_protocol)
{
    switch (family_protocol) {
    case 0x00: return 0; /* unspecified */
    case 0x11:
    case 0x12: return V2_IPV4_BYTES; /* TCP, UDP */
    case 0x21:
    case 0x22: return V2_IPV6_BYTES;
    case 0x31:
    case 0x32: return V2_UNIX_BYTES; /* stream, datagram */
    default: return UINT32_MAX;
    }
}

static void take_source(const uint8_t *addresses, bool is_ipv6, struct proxy_header *out)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    const uint8_t *port = addresses + (is_ipv6 ? 32 : 8);

    out->has_source = true;
    out->source.port = (uint16_t)(port[0] << 8 | port[1]);
    if (is_ipv6 && memcmp(addresses, mapped, sizeof mapped) == 0) {
        addresses += sizeof mapped;
        is_ipv6 = false;
    }
    out->source.family = is_ipv6 ? ADDRESS_IPV6 : ADDRESS_IPV4;
    memcpy(out->source.bytes, addresses, is_ipv6 ? 16 : 4);
}

static enum proxy_result find_v2(struct slice input, struct proxy_header *out)
{
    const uint8_t *b = (const uint8_t *)input.bytes;
    uint32_t n_behind;
    uint32_t n_least;

    if (input.n_bytes < V2_FIXED)
        return PROXY_HEADER_MORE;
    n_behind = (uint32_t)b[14] << 8 | b[15];
    n_least = b[12] == V2_LOCAL ? 0 : addresses_bytes(b[13]);
    if ((b[12] != V2_LOCAL && b[12] != V2_PROXY) || n_behind < n_least ||
        V2_FIXED + n_behind > PROXY_HEADER_MAX)
        return PROXY_HEADER_BROKEN;
    if (input.n_bytes - V2_FIXED < n_behind)
        return PROXY_HEADER_MORE;
    out->n_bytes = V2_FIXED + n_behind;
    if (b[12] == V2_PROXY && (b[13] == 0x11 || b[13] == 0x21))
        take_source(b + V2_FIXED, b[13] == 0x21, out);
    return PROXY_HEADER_OK;
}

/* --- both --- */

static bool starts_with(struct slice input, const char *start, uint32_t n)
{
    return memcmp(input.bytes, start, input.n_bytes < n ? input.n_bytes : n) == 0;
}

enum proxy_result proxy_header_parse(struct slice input, struct proxy_header *out)
{
    *out = (struct proxy_header){ .has_source = false };
    if (input.n_bytes == 0)
        return PROXY_HEADER_MORE;
    if (starts_with(input, v1_start, V1_START_BYTES))
        return input.n_bytes < V1_START_BYTES ? PROXY_HEADER_MORE : find_v1(input, out);
    if (starts_with(input, v2_start, V2_START_BYTES))
        return find_v2(input, out);
    return PROXY_HEADER_NONE;
}
