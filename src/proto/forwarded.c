/* forwarded.c: see forwarded.h. */
#include "proto/forwarded.h"

#include "proto/http_host.h"

/* Takes the last element off a comma-separated list, white space around it removed. False: the list is used up. */
static bool take_last(struct slice *list, struct slice *element)
{
    uint32_t n = list->n_bytes;

    if (list->bytes == NULL)
        return false;
    while (n > 0 && list->bytes[n - 1] != ',')
        n--;
    *element = http_trim(slice_of(list->bytes + n, list->n_bytes - n));
    *list = n > 0 ? slice_of(list->bytes, n - 1) : slice_of(NULL, 0);
    return true;
}

/* An address, an IPv4 address with a port, or an IPv6 address in brackets, with a port or without. */
static bool parse_entry(struct slice text, struct peer_address *out)
{
    struct http_authority authority;

    if (address_parse(text, out))
        return true;
    if (!http_authority_parse(text, &authority))
        return false;
    if (authority.host.bytes[0] == '[')
        authority.host = slice_of(authority.host.bytes + 1, authority.host.n_bytes - 2);
    if (!address_parse(authority.host, out))
        return false;
    out->port = authority.port > 0 ? (uint16_t)authority.port : 0;
    return true;
}

struct peer_address forwarded_client(const struct http_request *r, const struct peer_address *peer,
                                     const struct address_network *trusted, uint32_t n_trusted)
{
    struct peer_address client = *peer;

    for (uint32_t i = r->n_headers; i > 0; i--) {
        struct slice list = r->headers[i - 1].value;
        struct slice entry;

        if (!http_same_text(r->headers[i - 1].name, slice_text("x-forwarded-for")))
            continue;
        while (take_last(&list, &entry)) {
            struct peer_address hop;

            if (!address_is_in(&client, trusted, n_trusted) || !parse_entry(entry, &hop))
                return client;
            client = hop;
        }
    }
    return client;
}

struct slice forwarded_host(const struct http_request *r)
{
    struct slice rest = http_header_find(r, "x-forwarded-host");
    struct slice first;

    if (rest.n_bytes > 0 && http_list_next(&rest, &first) && first.n_bytes > 0)
        return first;
    return slice_of(NULL, 0);
}
