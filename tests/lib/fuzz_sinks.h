/* fuzz_sinks.h: what the fuzzers of messages share. Sinks are allocated with exactly the size that is asked for, so that a wrong bound shows. */
#ifndef PEAL_TESTS_FUZZ_SINKS_H
#define PEAL_TESTS_FUZZ_SINKS_H

#include <stdio.h>
#include <stdlib.h>

#include "proto/msgpack.h"

#define CHECK(condition)   \
    ((condition) ? (void)0 \
                 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Its bytes are the caller's to free. */
static inline struct msgpack_sink new_sink(uint64_t n_max)
{
    char *bytes = malloc(n_max > 0 ? n_max : 1);

    CHECK(bytes != NULL);
    return msgpack_sink_of(bytes, (uint32_t)n_max);
}

static inline bool same_names(const struct slice *a, uint32_t n_a, const struct slice *b,
                              uint32_t n_b)
{
    if (n_a != n_b)
        return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (!slice_equal(a[i], b[i]))
            return false;
    return true;
}

#endif
