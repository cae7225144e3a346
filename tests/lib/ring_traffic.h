/* ring_traffic.h: records whose every word says whose they are, and a reader that finds them torn,
 * lost or repeated. For programs that let processes or threads hammer the ring. Header only. */
#ifndef PEAL_TESTS_RING_TRAFFIC_H
#define PEAL_TESTS_RING_TRAFFIC_H

#include "shm/record.h"

/* An author is a slot and which of its lives; it numbers its records from 0. */
struct traffic_id {
    uint32_t slot, life, seq;
};

static inline uint64_t traffic_word(uint64_t index, struct traffic_id id)
{
    uint64_t key = (uint64_t)id.slot << 56 | (uint64_t)id.life << 28 | id.seq;

    return (index + 1) * 0x9e3779b97f4a7c15ull ^ key * 0xbf58476d1ce4e5b9ull;
}

/* Writes the first (with the header) or the second half of a record. */
static inline void traffic_fill(uint8_t *record, uint32_t n_units, struct traffic_id id, int half)
{
    struct record_header header = { .n_bytes = n_units * RING_UNIT_BYTES,
                                    .kind = RECORD_BROADCAST,
                                    .slot = (uint8_t)id.slot,
                                    .generation = id.life,
                                    .id = id.seq };
    uint64_t *words = (uint64_t *)record;
    uint64_t n_words = n_units * RING_UNIT_BYTES / 8;
    uint64_t middle = sizeof header / 8 + (n_words - sizeof header / 8) / 2;

    if (half == 0)
        memcpy(record, &header, sizeof header);
    for (uint64_t i = half == 0 ? sizeof header / 8 : middle; i < (half == 0 ? middle : n_words);
         i++)
        words[i] = traffic_word(i, id);
}

struct traffic_reader {
    bool from_start; /* from position 0 on: must see every author from its first record */
    struct {
        bool known;
        uint32_t life, next;
    } authors[PEAL_SLOTS_ALL];
};

/* NULL, or what is wrong with the next record. `id` gets whose it is; a VOID is nobody's. */
static inline const char *traffic_check(struct traffic_reader *reader, const uint8_t *record,
                                        uint32_t n_units, struct traffic_id *id)
{
    const struct record_header *h = (const struct record_header *)record;
    const uint64_t *words = (const uint64_t *)record;
    const char *wrong = NULL;

    *id = (struct traffic_id){ h->slot, h->generation, (uint32_t)h->id };
    if (h->kind == RECORD_VOID)
        return NULL;
    if (h->kind != RECORD_BROADCAST || h->slot >= PEAL_SLOTS_ALL)
        return "is no record";
    for (uint64_t i = sizeof *h / 8; i < n_units * RING_UNIT_BYTES / 8; i++)
        if (words[i] != traffic_word(i, *id))
            return "is torn";
    if (!reader->authors[id->slot].known) {
        if (reader->from_start && id->seq != 0)
            wrong = "is not its author's first";
    } else if (id->life == reader->authors[id->slot].life) {
        if (id->seq != reader->authors[id->slot].next)
            wrong = id->seq < reader->authors[id->slot].next ? "is repeated"
                                                             : "comes behind a lost one";
    } else if (id->life < reader->authors[id->slot].life || id->seq != 0) {
        wrong = "is not the first of its author's new life";
    }
    reader->authors[id->slot].known = true;
    reader->authors[id->slot].life = id->life;
    reader->authors[id->slot].next = id->seq + 1;
    return wrong;
}

/* A hash over all that was read, in its order. */
static inline uint64_t traffic_order(uint64_t order, uint64_t position, struct traffic_id id)
{
    return (order ^ position ^ traffic_word(0, id)) * 0x100000001b3ull;
}

#endif
