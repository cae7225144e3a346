/* slice.h: borrowed bytes. A slice owns nothing; whoever hands it out says how long it stays valid. */
#ifndef PEAL_BASE_SLICE_H
#define PEAL_BASE_SLICE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MUST_USE __attribute__((warn_unused_result))

struct slice {
    const char *bytes; /* not terminated; NULL means absent */
    uint32_t n_bytes;
};

static inline struct slice slice_of(const void *bytes, uint32_t n_bytes)
{
    return (struct slice){ (const char *)bytes, n_bytes };
}

static inline struct slice slice_text(const char *text)
{
    return (struct slice){ text, (uint32_t)strlen(text) };
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.n_bytes == b.n_bytes && (a.n_bytes == 0 || memcmp(a.bytes, b.bytes, a.n_bytes) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_text(text));
}

#endif
