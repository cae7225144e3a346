/* fuzz_forwarded.c: whatever X-Forwarded-For holds, its client is the peer or an entry, and what an untrusted one has written before changes nothing.
 *
 * Input: the value; a line feed begins another header. Networks that are trusted: as in `networks`. Text is read as inet_pton reads it elsewhere
 * (unit/base/address). */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool same(const struct peer_address *a, const struct peer_address *b)
{
    return a->family == b->family && a->port == b->port &&
           memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static void add_header(struct http_request *r, const char *bytes, uint32_t n)
{
    if (r->n_headers < HTTP_HEADERS_MAX)
        r->headers[r->n_headers++] =
            (struct http_header){ slice_text("X-Forwarded-For"), slice_of(bytes, n) };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const networks[] = { "10.0.0.0/8", "::1", "2001:db8::/33", "unix" };
    static const char forged[] = "198.51.100.99";
    struct address_network trusted[4];
    struct peer_address peer = { .family = ADDRESS_UNIX };
    struct peer_address client;
    struct peer_address again;
    struct peer_address parsed;
    struct http_request *r = calloc(1, sizeof *r);
    char *copy = malloc(n > 0 ? n : 1);
    char text[ADDRESS_TEXT_MAX];
    uint32_t from = 0;

    assert(r && copy);
    if (n > HTTP_HEAD_MAX)
        n = HTTP_HEAD_MAX;
    memcpy(copy, data, n);
    for (uint32_t i = 0; i < 4; i++)
        assert(address_network_parse(slice_text(networks[i]), &trusted[i]));
    for (uint32_t i = 0; i <= n; i++) {
        if (i < n && copy[i] != '\n')
            continue;
        add_header(r, copy + from, i - from);
        from = i + 1;
    }
    again = forwarded_client(r, &peer, trusted, 0);
    assert(same(&again, &peer));
    client = forwarded_client(r, &peer, trusted, 4);
    peer_address_text(text, sizeof text, &client);
    if (client.family != ADDRESS_UNIX) {
        assert(address_parse(slice_text(text), &parsed));
        parsed.port = client.port;
        assert(same(&parsed, &client));
    }
    /* one more in front, by somebody: it counts only if the walk went to the very end */
    if (!address_is_in(&client, trusted, 4) && r->n_headers < HTTP_HEADERS_MAX) {
        memmove(r->headers + 1, r->headers, r->n_headers++ * sizeof r->headers[0]);
        r->headers[0] = (struct http_header){ slice_text("x-forwarded-for"), slice_text(forged) };
        again = forwarded_client(r, &peer, trusted, 4);
        assert(same(&again, &client));
    }
    (void)forwarded_host(r);
    free(copy);
    free(r);
    return 0;
}
