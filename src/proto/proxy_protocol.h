/* proxy_protocol.h: the header that a proxy puts in front of a connection to say who it is from. Sans-IO, no allocation.
 *
 * Source: "The PROXY protocol", versions 1 and 2, by Willy Tarreau (doc/proxy-protocol.txt of HAProxy). Taken are, in version 1, TCP4, TCP6 and
 * UNKNOWN; in version 2, PROXY over TCP and IPv4 or IPv6, and LOCAL. What else version 2 allows (UDP, UNIX sockets, no family) says nothing of use here
 * and counts as unknown, as the specification asks for. TLVs are skipped, whatever is in them. */
#ifndef PEAL_PROTO_PROXY_PROTOCOL_H
#define PEAL_PROTO_PROXY_PROTOCOL_H

#include "base/address.h"

#define PROXY_V1_MAX     107   /* bytes of a header of version 1, its CR LF included */
#define PROXY_HEADER_MAX 16384 /* of version 2 with its TLVs; what senders make is smaller */

enum proxy_result {
    PROXY_HEADER_OK = 0,
    PROXY_HEADER_MORE,  /* so far it could be one */
    PROXY_HEADER_NONE,  /* it begins like something else */
    PROXY_HEADER_BROKEN /* it begins like one and is none */
};

struct proxy_header {
    bool
        has_source; /* false: UNKNOWN, LOCAL: the connection is its sender's own, or of somebody that it does not know */
    struct peer_address source;
    uint32_t n_bytes; /* of the header; what is behind it is the client's */
};

/* Looks for a header at the start of `input`, which grows from call to call. `out` is valid with OK only. */
MUST_USE enum proxy_result proxy_header_parse(struct slice input, struct proxy_header *out);

#endif
