/* forwarded.h: whom a request is from and which host it asked for, as the proxies say that it came through. Sans-IO.
 *
 * Source: X-Forwarded-For as proxies write it (nginx, HAProxy, Apache, Envoy): each appends the address that it was connected from. So only the entry on
 * the right is known to be true, if the peer is trusted, and each further one as far as those to the right of it are. */
#ifndef PEAL_PROTO_FORWARDED_H
#define PEAL_PROTO_FORWARDED_H

#include "base/address.h"
#include "proto/http.h"

/* The address of the client: from `peer` on, and from the right of X-Forwarded-For (all of them, as one list), the first one that is not in the
 * trusted networks; the leftmost, if all are. An entry that is no address (with a port or without: "192.0.2.1:80", "[2001:db8::1]:80") ends the walk: the
 * client is then who told so. */
struct peer_address forwarded_client(const struct http_request *r, const struct peer_address *peer,
                                     const struct address_network *trusted, uint32_t n_trusted);

/* The first entry of X-Forwarded-Host, what the browser asked for; bytes == NULL if there is none. For requests of trusted peers: a page cannot have a
 * browser send such a header to another origin unasked, but who connects himself writes what he likes. */
struct slice forwarded_host(const struct http_request *r);

#endif
