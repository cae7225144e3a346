/* packer.c: see packer.h.
 *
 * Invariant: what a message costs is known before the next one is begun: left_us grows by DEFLATE_PER_SECOND_US a second up to DEFLATE_BURST_US, and goes down by what compressing
 *            took; while it is not above 0 messages go as they are. So a turn compresses for DEFLATE_BURST_US and one message of at most DEFLATE_BYTES_MAX.
 * Why:       level 3 with memLevel 8, measured with zlib 1.2.13 on JSON: of 1 KB and 4 KB levels 1 to 3 take the same 6 and 14 us (a stream's reset is most of it), and 3 gives the least
 *            (37 %, 30 %); of 64 KB 1, 2, 3 and 6 take 270, 330, 490 and 1,170 us for 28, 27, 26 and 23 %. Smaller hash tables (memLevel 6) save 100 KB a process
 *            and cost a quarter more time from 64 KB on. */
#include "session/packer.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "proto/deflate.h"
#include "shm/namespaces.h"
#include "shm/offset.h"

#define ROOM_FIRST   4096u
#define OFFSET_BYTES (OFFSET_ARGUMENT_BYTES + 1) /* and the bracket behind it */

static_assert(1000000 % DEFLATE_PER_SECOND_US == 0, "refill divides");

static uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

bool packer_open(struct packer *p, struct ring *ring, struct shm_counters *row)
{
    *p = (struct packer){ .ring = ring, .row = row, .left_us = DEFLATE_BURST_US };
    if (!ring->region->config->deflate)
        return true;
    p->filled_us = clock_us();
    p->deflater = deflater_new(DEFLATE_LEVEL, DEFLATE_MEM_LEVEL);
    return p->deflater != NULL;
}

void packer_close(struct packer *p)
{
    deflater_free(p->deflater);
    free(p->bytes);
    *p = (struct packer){ 0 };
}

uint64_t packer_bytes(void)
{
    return deflater_bytes(DEFLATE_MEM_LEVEL) + PACKER_ROOM_MAX;
}

static void skip(struct packer *p, enum deflate_skip reason)
{
    count_add(p->row, COUNT_DEFLATE_SKIPPED_FIRST + reason, 1);
}

/* Of a part as it will be in the record. */
static uint32_t payload_bytes(const struct record_spec *spec, uint32_t i)
{
    return spec->parts[i].payload.n_bytes +
           (i == 0 && spec->with_offset ? OFFSET_ARGUMENT_BYTES : 0);
}

static uint64_t frames_bytes(const struct record_spec *spec)
{
    uint8_t header[WS_HEADER_MAX];
    uint64_t n = 0;

    for (uint32_t i = 0; i < spec->n_parts; i++) {
        uint32_t n_payload = payload_bytes(spec, i);

        n += ws_put_header(header, (enum ws_opcode)spec->parts[i].opcode, n_payload) +
             (uint64_t)n_payload;
    }
    return n;
}

static bool is_long(const struct packer *p, const struct record_part *part)
{
    return part->payload.n_bytes >= p->ring->region->config->deflate_threshold_bytes;
}

static bool is_wanted(const struct packer *p, const struct record_spec *spec)
{
    uint32_t i = 0;
    uint32_t nsp;

    if (spec->header.kind != RECORD_BROADCAST || (spec->header.flags & RECORD_NO_COMPRESS) != 0)
        return false;
    while (i < spec->n_parts && !is_long(p, &spec->parts[i]))
        i++;
    if (i == spec->n_parts)
        return false;
    nsp = namespace_find(p->ring->region, spec->nsp);
    return nsp != NAMESPACE_NONE && namespace_deflates(p->ring->region, nsp);
}

static bool make_room(struct packer *p, uint64_t n_bytes)
{
    uint64_t want = p->room == 0 ? ROOM_FIRST : p->room;
    uint8_t *larger;

    if (n_bytes <= p->room)
        return true;
    while (want < n_bytes)
        want *= 2;
    if (want > PACKER_ROOM_MAX)
        want = PACKER_ROOM_MAX;
    assert(want >= n_bytes);
    larger = realloc(p->bytes, want);
    if (larger == NULL)
        return false;
    p->bytes = larger;
    p->room = (uint32_t)want;
    return true;
}

/* The frame of part `i`, compressed. 0: it would be no smaller. */
static uint32_t put_packed(struct packer *p, const struct record_spec *spec, uint32_t i,
                           uint8_t *out, uint32_t *offset_at)
{
    struct slice text = spec->parts[i].payload;
    uint32_t room = payload_bytes(spec, i);
    uint8_t header[WS_HEADER_MAX];
    uint32_t n_header;
    uint32_t n;

    if (i == 0 && spec->with_offset)
        n = deflater_pack_open(p->deflater, slice_of(text.bytes, text.n_bytes - 1), OFFSET_BYTES,
                               out + WS_HEADER_MAX, room, offset_at);
    else
        n = deflater_pack(p->deflater, text, out + WS_HEADER_MAX, room);
    if (n == 0)
        return 0;
    n_header = ws_put_header(header, (enum ws_opcode)spec->parts[i].opcode, n);
    header[0] |= WS_RSV1;
    memcpy(out, header, n_header);
    memmove(out + n_header, out + WS_HEADER_MAX, n);
    *offset_at += n_header;
    return n_header + n;
}

static uint32_t put_plain(const struct record_spec *spec, uint32_t i, uint8_t *out,
                          uint32_t *offset_at)
{
    struct slice text = spec->parts[i].payload;
    uint32_t n_payload = payload_bytes(spec, i);
    uint32_t n_header = ws_put_header(out, (enum ws_opcode)spec->parts[i].opcode, n_payload);

    if (text.n_bytes > 0)
        memcpy(out + n_header, text.bytes, text.n_bytes);
    *offset_at = n_header + text.n_bytes - 1; /* used where there is an offset: over the bracket */
    return n_header + n_payload;
}

/* All frames. Its last byte but WS_HEADER_MAX is within n_plain of the beginning: no frame is longer than it was. */
static uint32_t put_frames(struct packer *p, struct record_spec *spec)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < spec->n_parts; i++) {
        uint32_t offset_at = 0;
        uint32_t n = 0;

        if (is_long(p, &spec->parts[i]))
            n = put_packed(p, spec, i, p->bytes + at, &offset_at);
        if (n == 0)
            n = put_plain(spec, i, p->bytes + at, &offset_at);
        if (i == 0 && spec->with_offset)
            spec->deflated_offset_at = offset_at;
        at += n;
    }
    return at;
}

static void refill(struct packer *p, uint64_t now_us)
{
    const uint64_t for_each = 1000000 / DEFLATE_PER_SECOND_US;
    uint64_t earned_us = (now_us - p->filled_us) / for_each;

    p->filled_us += earned_us * for_each; /* the rest counts the next time */
    if (earned_us < DEFLATE_BURST_US)
        p->left_us += (int64_t)earned_us;
    if (earned_us >= DEFLATE_BURST_US || p->left_us > DEFLATE_BURST_US)
        p->left_us = DEFLATE_BURST_US;
}

/* Something was compressed, and is kept if it pays and fits. */
static void take_copy(struct packer *p, struct record_spec *spec, uint32_t n_plain, uint32_t n)
{
    uint32_t n_record;

    if (n >= n_plain) {
        skip(p, DEFLATE_SKIP_NO_GAIN);
        return;
    }
    spec->deflated = slice_of(p->bytes, n);
    n_record = record_size(spec);
    if (n_record == 0 || n_record > ring_record_bytes_max(p->ring)) {
        spec->deflated = slice_of(NULL, 0);
        skip(p, DEFLATE_SKIP_TOO_BIG);
        return;
    }
    count_add(p->row, COUNT_DEFLATE_COPIES, 1);
    count_add(p->row, COUNT_DEFLATE_PLAIN_BYTES, n_plain);
    count_add(p->row, COUNT_DEFLATE_PACKED_BYTES, n);
}

void packer_pack(struct packer *p, struct record_spec *spec)
{
    uint64_t began_us;
    uint64_t n_plain;
    uint64_t took_us;
    uint32_t n;

    spec->deflated = slice_of(NULL, 0);
    if (p->deflater == NULL || !is_wanted(p, spec))
        return;
    n_plain = frames_bytes(spec);
    if (n_plain > DEFLATE_BYTES_MAX) {
        skip(p, DEFLATE_SKIP_TOO_BIG);
        return;
    }
    began_us = clock_us();
    refill(p, began_us);
    if (p->left_us <= 0) {
        skip(p, DEFLATE_SKIP_BUDGET);
        return;
    }
    if (!make_room(p, n_plain + WS_HEADER_MAX)) {
        skip(p, DEFLATE_SKIP_MEMORY);
        return;
    }
    n = put_frames(p, spec);
    took_us = clock_us() - began_us;
    p->left_us -= (int64_t)took_us;
    count_add(p->row, COUNT_DEFLATE_US, took_us);
    take_copy(p, spec, (uint32_t)n_plain, n);
}
