/* base64.h: base64 of binary packets in polling bodies (RFC 4648 section 4), and base64url of identities (section 5, no padding). Sans-IO, no
 * allocation. */
#ifndef PEAL_PROTO_BASE64_H
#define PEAL_PROTO_BASE64_H

#include "base/slice.h"

/* Characters that `n_bytes` become, padding included. */
static inline uint64_t base64_chars(uint64_t n_bytes)
{
    return (n_bytes + 2) / 3 * 4;
}

/* Writes base64_chars(n_bytes) characters; returns their number. n_bytes <= 2^30. */
uint32_t base64_encode(char *out, const uint8_t *bytes, uint32_t n_bytes);

/* As lenient as Node's Buffer.from(text, "base64"): the url-safe alphabet counts as well, other characters are skipped, `=` ends it, padding may be
 * missing. Writes at most text.n_bytes / 4 * 3 + 3 bytes; returns their number. `out` may be where the text is. */
uint32_t base64_decode(uint8_t *out, struct slice text);

/* Writes n_bytes / 3 * 4 characters; `n_bytes` is a multiple of 3. */
void base64url_encode(char *out, const uint8_t *bytes, uint32_t n_bytes);

/* Writes text.n_bytes / 4 * 3 bytes. Strict, so that there is one text per identity and texts may be compared: false, and nothing written, for another
 * character than the 64, or a length that is no multiple of 4. */
MUST_USE bool base64url_decode(uint8_t *out, struct slice text);

/* Are all characters among the 64? */
bool base64url_valid(struct slice text);

#endif
