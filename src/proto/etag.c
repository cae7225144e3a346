/* etag.c: entity tags.
 *
 * A list is split at every comma, also at those inside of foreign tags: no tag of ours holds one, so
 * the pieces of a foreign tag equal none of ours. */
#include "proto/etag.h"

#include <assert.h>
#include <openssl/evp.h>

#include "proto/http_host.h"

#define HASH_BYTES_KEPT 16

void etag_make(char out[ETAG_CHARS], struct slice body)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n_digest = 0;
    int done = EVP_Digest(body.bytes, body.n_bytes, digest, &n_digest, EVP_sha256(), NULL);

    assert(done == 1);
    assert(n_digest >= HASH_BYTES_KEPT);
    out[0] = '"';
    for (uint32_t i = 0; i < HASH_BYTES_KEPT; i++) {
        out[1 + 2 * i] = digits[digest[i] >> 4];
        out[2 + 2 * i] = digits[digest[i] & 15];
    }
    out[ETAG_CHARS - 1] = '"';
}

static bool list_knows(struct slice list, struct slice etag)
{
    struct slice tag;

    while (http_list_next(&list, &tag)) {
        if (slice_is(tag, "*"))
            return true;
        if (tag.n_bytes > 2 && memcmp(tag.bytes, "W/", 2) == 0)
            tag = slice_of(tag.bytes + 2, tag.n_bytes - 2); /* the weak comparison is asked for */
        if (slice_equal(tag, etag))
            return true;
    }
    return false;
}

bool etag_known(const struct http_request *r, struct slice etag)
{
    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (http_same_text(r->headers[i].name, slice_text("if-none-match")) &&
            list_knows(r->headers[i].value, etag))
            return true;
    }
    return false;
}
