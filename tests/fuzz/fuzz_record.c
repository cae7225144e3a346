/* fuzz_record.c: any bytes as a record of the ring: what record_view accepts must hand out nothing
 * that lies outside of it. The bytes lie in memory of exactly their length. */
#include "shm/record.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)   \
    ((condition) ? (void)0 \
                 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint32_t sum; /* every byte is read */

static void read_all(struct slice s, const uint8_t *record, uint32_t n)
{
    const uint8_t *bytes = (const uint8_t *)s.bytes;

    if (bytes == NULL)
        return;
    CHECK(bytes >= record && bytes + s.n_bytes <= record + n);
    for (uint32_t i = 0; i < s.n_bytes; i++)
        sum += bytes[i];
}

static void walk(const struct record_view *v, const uint8_t *record, uint32_t n)
{
    read_all(v->nsp, record, n);
    read_all(v->frames, record, n);
    read_all(v->deflated, record, n);
    read_all(v->event, record, n);
    for (int list = RECORD_ROOMS; list <= RECORD_ARGS; list++) {
        struct record_names it = record_names_open(v, (enum record_list)list);
        struct slice name;
        uint64_t hash;

        while (record_names_next(&it, &name, &hash))
            read_all(name, record, n);
    }
    for (uint32_t i = 0; i < v->header->n_parts; i++) {
        uint8_t opcode;

        read_all(record_part(v, i, &opcode), record, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint32_t n_bytes = (uint32_t)n;
    struct record_view view;
    uint8_t *record;

    if (n == 0 || n > 65536)
        return 0;
    record = malloc(n);
    CHECK(record != NULL);
    memcpy(record, data, n);
    if (n >= sizeof n_bytes) /* the length is known to be right: everything else is the input's */
        memcpy(record, &n_bytes, sizeof n_bytes);
    if (record_view(&view, record, n_bytes)) {
        walk(&view, record, n_bytes);
        if (view.header->kind ==
            RECORD_BROADCAST) /* what may have an offset; it lies within it as well */
            record_stamp(record, 1);
        CHECK(record_view(&view, record, n_bytes));
    }
    free(record);
    return 0;
}
