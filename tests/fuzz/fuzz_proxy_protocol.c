/* fuzz_proxy_protocol.c: a PROXY header means the same in whatever pieces it comes, and is what it says: written anew it is read the same. */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* An exact copy, so that a sanitizer sees a look behind it. */
static enum proxy_result parse(const uint8_t *bytes, uint32_t n, struct proxy_header *out)
{
    char *copy = malloc(n > 0 ? n : 1);
    enum proxy_result result;

    assert(copy);
    memcpy(copy, bytes, n);
    result = proxy_header_parse(slice_of(copy, n), out);
    free(copy);
    return result;
}

static void same_source(const struct proxy_header *a, const struct proxy_header *b)
{
    assert(a->has_source == b->has_source);
    assert(a->source.family == b->source.family);
    assert(a->source.port == b->source.port);
    assert(memcmp(a->source.bytes, b->source.bytes, sizeof a->source.bytes) == 0);
}

/* The source, as a sender of version 1 would write it. */
static void try_rewritten(const struct proxy_header *header)
{
    char text[ADDRESS_TEXT_MAX];
    char line[PROXY_V1_MAX + 1];
    struct proxy_header again;
    int n;

    peer_address_text(text, sizeof text, &header->source);
    n = snprintf(line, sizeof line, "PROXY TCP%d %s %s %u 1\r\n",
                 header->source.family == ADDRESS_IPV6 ? 6 : 4, text, text, header->source.port);
    assert(n > 0 && n < (int)sizeof line);
    assert(parse((const uint8_t *)line, (uint32_t)n, &again) == PROXY_HEADER_OK);
    assert(again.n_bytes == (uint32_t)n);
    same_source(header, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum proxy_result result;
    struct proxy_header header;
    struct proxy_header part;
    uint32_t step;

    if (n > 1U << 16)
        return 0;
    result = parse(data, (uint32_t)n, &header);
    /* up to where it is decided it may be one; from there on nothing changes */
    step = n > 4096 ? 97 : 1;
    for (uint32_t cut = 0; cut < n; cut += step) {
        enum proxy_result now = parse(data, cut, &part);

        if (now == PROXY_HEADER_MORE) {
            assert(result != PROXY_HEADER_OK || cut < header.n_bytes);
            continue;
        }
        assert(now == result);
        if (now == PROXY_HEADER_OK) {
            assert(part.n_bytes == header.n_bytes && cut >= header.n_bytes);
            same_source(&part, &header);
        }
    }
    if (result != PROXY_HEADER_OK)
        return 0;
    assert(header.n_bytes > 0 && header.n_bytes <= n && header.n_bytes <= PROXY_HEADER_MAX);
    assert(header.has_source == (header.source.family != ADDRESS_NONE));
    if (header.has_source)
        try_rewritten(&header);
    return 0;
}
