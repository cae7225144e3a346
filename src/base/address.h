/* address.h: network addresses as values: of peers, of clients, and of networks that are trusted. Knows no socket; the numbers of families are the
 * kernel's (net/inbox.c checks it). */
#ifndef PEAL_BASE_ADDRESS_H
#define PEAL_BASE_ADDRESS_H

#include "base/slice.h"

#define ADDRESS_TEXT_MAX 46 /* bytes of an address or a network as text, its end included */

enum address_family {
    ADDRESS_NONE = 0,
    ADDRESS_UNIX = 1, /* the peer of a UNIX socket: there is no more to say of it */
    ADDRESS_IPV4 = 2,
    ADDRESS_IPV6 = 10
};

struct peer_address {
    uint16_t family; /* enum address_family; IPv4-mapped addresses are stored as IPv4 */
    uint16_t port;
    uint8_t bytes[16];
};

struct address_network {
    uint16_t family;
    uint16_t prefix_bits; /* 0 to 32 or 128; those of `bytes` behind it are zero */
    uint8_t bytes[16];
};

/* A numeric address without port, brackets or zone ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"): what inet_pton takes. False: it is none. */
MUST_USE bool address_parse(struct slice text, struct peer_address *out);

/* Text without port ("192.0.2.1", "2001:db8::1", "unix"), as inet_ntop writes it. At least ADDRESS_TEXT_MAX bytes. */
void peer_address_text(char *out, uint32_t out_bytes, const struct peer_address *address);

/* An address, ADDRESS/BITS, or "unix". Bits behind the prefix are cleared. False: it is none of these. */
MUST_USE bool address_network_parse(struct slice text, struct address_network *out);
void address_network_text(char *out, uint32_t out_bytes, const struct address_network *network);

bool address_is_in(const struct peer_address *address, const struct address_network *networks,
                   uint32_t n_networks);

/* What counts as one address, as a number that is never 0: an IPv4 address, a /64 of IPv6 (what one subscriber has), all UNIX peers together. */
uint64_t address_key(const struct peer_address *address);

#endif
