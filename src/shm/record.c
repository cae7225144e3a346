/* record.c: records to bytes and back.
 *
 *     header (64)
 *     namespace, padded to 8
 *     rooms, then excepted rooms, then argument rooms, each:  hash (8) | length (2) | name |
 *         padding to 8
 *     parts, each 12 bytes: offset of the payload from the first part's frame | its length |
 *         opcode | frame header's length; padded to 8
 *     struct record_deflated, if there is a second copy
 *     the parts' bytes, back to back, each frame header in front of its payload
 *     the second copy, to the end of the record: as many frames of the same opcodes, those that are
 *         compressed with RSV1
 *
 * Invariant: everything that record_view accepts lies within the bytes it was given, and
 *            record_names_next and record_part, which trust it, never leave them. What record_write
 *            wrote, record_view accepts.
 * Why:       the frames of a broadcast lie back to back so that sending it is one iovec; hashes
 *            come first so that a name which is not ours costs one comparison of words. */
#include "shm/record.h"

#include <assert.h>
#include <stddef.h>

#include "proto/ws.h"
#include "shm/offset.h"

#define NAME_HEAD_BYTES  10u
#define RECORD_BYTES_MAX (1ull << 31)

struct part_entry {
    uint32_t at; /* of the payload, from where the first part begins */
    uint32_t n_bytes;
    uint8_t opcode;
    uint8_t n_header_bytes;
    uint16_t _reserved;
};
static_assert(sizeof(struct part_entry) == 12, "no padding");

/* What follows the table of parts in front of the frames. */
static uint32_t deflated_head_bytes(bool has_deflated)
{
    return has_deflated ? (uint32_t)sizeof(struct record_deflated) : 0;
}

static uint64_t pad8(uint64_t n)
{
    return (n + 7) & ~7ull;
}

/* --- SipHash-2-4, fed piece by piece --- */

struct sip {
    uint64_t v0, v1, v2, v3;
    uint64_t word; /* bytes that do not fill a word yet, the first in the lowest place */
    uint64_t n_bytes;
};

static uint64_t rotate(uint64_t x, unsigned int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(struct sip *s, unsigned int n)
{
    while (n-- > 0) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 = rotate(s->v0, 32) + s->v3;
        s->v2 += s->v1;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v2 = rotate(s->v2, 32);
    }
}

static void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_rounds(s, 2);
    s->v0 ^= word;
}

static void sip_init(struct sip *s, const uint64_t key[2])
{
    *s = (struct sip){ key[0] ^ 0x736f6d6570736575ull,
                       key[1] ^ 0x646f72616e646f6dull,
                       key[0] ^ 0x6c7967656e657261ull,
                       key[1] ^ 0x7465646279746573ull,
                       0,
                       0 };
}

static void sip_feed(struct sip *s, const void *bytes, uint32_t n)
{
    const uint8_t *at = bytes;

    for (uint32_t i = 0; i < n; i++) {
        s->word |= (uint64_t)at[i] << (s->n_bytes % 8 * 8);
        if (++s->n_bytes % 8 == 0) {
            sip_word(s, s->word);
            s->word = 0;
        }
    }
}

static uint64_t sip_end(struct sip *s)
{
    sip_word(s, s->word | s->n_bytes << 56);
    s->v2 ^= 0xff;
    sip_rounds(s, 4);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t record_hash(const uint64_t key[2], struct slice nsp, struct slice room)
{
    struct sip s;
    uint8_t head[5];

    /* Where the namespace ends, and whether a room follows: no two pairs are the same bytes. */
    memcpy(head, &nsp.n_bytes, 4);
    head[4] = room.bytes != NULL;
    sip_init(&s, key);
    sip_feed(&s, head, sizeof head);
    sip_feed(&s, nsp.bytes, nsp.n_bytes);
    if (room.bytes != NULL)
        sip_feed(&s, room.bytes, room.n_bytes);
    return sip_end(&s);
}

/* --- writing --- */

static uint32_t frame_header(uint8_t out[WS_HEADER_MAX], uint8_t opcode, uint32_t n_bytes)
{
    assert(opcode <= WS_BINARY);
    return opcode == 0 ? 0 : ws_put_header(out, (enum ws_opcode)opcode, n_bytes);
}

/* The length of part `i`'s payload as it will be in the record. */
static uint32_t payload_bytes(const struct record_spec *spec, uint32_t i)
{
    return spec->parts[i].payload.n_bytes +
           (i == 0 && spec->with_offset ? OFFSET_ARGUMENT_BYTES : 0);
}

void record_ask_offset(struct record_spec *spec, uint64_t epoch)
{
    const struct record_part *text = spec->parts;
    const char *at;
    const char *end;

    spec->with_offset = false;
    if (spec->header.kind != RECORD_BROADCAST || spec->header.encoding != ENCODING_SOCKETIO ||
        (spec->header.flags & RECORD_WANTS_ACK) != 0 || spec->n_parts == 0)
        return;
    at = text->payload.bytes + spec->event_at;
    end = text->payload.bytes + text->payload.n_bytes;
    /* An array that does not end where the text ends, or has no element to put a comma behind. */
    if (end - at < 3 || *at != '[' || end[-1] != ']')
        return;
    for (at++; at < end - 1 && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'); at++)
        ;
    if (at == end - 1)
        return;
    spec->with_offset = true;
    spec->epoch = epoch;
}

static bool names_fit(const struct slice *names, uint32_t n, uint64_t *bytes)
{
    for (uint32_t i = 0; i < n; i++) {
        if (names[i].n_bytes > NAME_BYTES_MAX)
            return false;
        *bytes += pad8(NAME_HEAD_BYTES + names[i].n_bytes);
    }
    return true;
}

uint32_t record_size(const struct record_spec *spec)
{
    uint64_t bytes = sizeof(struct record_header);
    uint8_t scratch[WS_HEADER_MAX];

    if (spec->n_rooms > RECORD_NAMES_MAX || spec->n_except > RECORD_NAMES_MAX ||
        spec->n_args > RECORD_NAMES_MAX)
        return 0;
    if (spec->n_rooms + spec->n_except + spec->n_args > RECORD_NAMES_MAX)
        return 0;
    if (spec->nsp.n_bytes > NAME_BYTES_MAX || spec->n_parts > RECORD_PARTS_MAX)
        return 0;
    bytes += pad8(spec->nsp.n_bytes);
    if (!names_fit(spec->rooms, spec->n_rooms, &bytes) ||
        !names_fit(spec->except, spec->n_except, &bytes) ||
        !names_fit(spec->args, spec->n_args, &bytes))
        return 0;
    bytes += pad8(spec->n_parts * sizeof(struct part_entry));
    for (uint32_t i = 0; i < spec->n_parts; i++) {
        const struct record_part *part = &spec->parts[i];

        if (part->payload.n_bytes > RECORD_BYTES_MAX - OFFSET_ARGUMENT_BYTES)
            return 0;
        bytes += frame_header(scratch, part->opcode, payload_bytes(spec, i));
        bytes += payload_bytes(spec, i);
    }
    if (spec->deflated.bytes != NULL)
        bytes += deflated_head_bytes(true) + (uint64_t)spec->deflated.n_bytes;
    return bytes < RECORD_BYTES_MAX ? (uint32_t)bytes : 0;
}

/* Writes `n` bytes and the zeros up to the next multiple of 8. */
static uint8_t *put_padded(uint8_t *out, const void *bytes, uint32_t n)
{
    uint32_t padding = (uint32_t)pad8(n) - n;

    if (n > 0)
        memcpy(out, bytes, n);
    memset(out + n, 0, padding);
    return out + n + padding;
}

static uint8_t *put_names(uint8_t *out, const struct slice *names, uint32_t n, struct slice nsp,
                          const uint64_t key[2])
{
    for (uint32_t i = 0; i < n; i++) {
        /* A name of no bytes is a room of that name, never the namespace as a whole. */
        struct slice room = names[i].bytes != NULL ? names[i] : slice_text("");
        uint64_t hash = record_hash(key, nsp, room);
        uint16_t n_bytes = (uint16_t)room.n_bytes;
        uint32_t padding = (uint32_t)pad8(NAME_HEAD_BYTES + n_bytes) - NAME_HEAD_BYTES - n_bytes;

        memcpy(out, &hash, sizeof hash);
        memcpy(out + sizeof hash, &n_bytes, sizeof n_bytes);
        out += NAME_HEAD_BYTES;
        memcpy(out, room.bytes, n_bytes);
        memset(out + n_bytes, 0, padding);
        out += n_bytes + padding;
    }
    return out;
}

/* One more argument, and behind it the array's closing bracket. */
static void put_offset(uint8_t *to, uint64_t epoch)
{
    memcpy(to, ",\"", 2);
    offset_put((char *)to + 2, epoch);
    memcpy(to + 2 + OFFSET_CHARS, "\"]", 2);
}

static uint8_t *put_deflated(uint8_t *out, const struct record_spec *spec)
{
    memcpy(out, spec->deflated.bytes, spec->deflated.n_bytes);
    if (spec->with_offset)
        put_offset(out + spec->deflated_offset_at, spec->epoch);
    return out + spec->deflated.n_bytes;
}

static uint8_t *put_parts(uint8_t *out, const struct record_spec *spec)
{
    uint32_t table_bytes = spec->n_parts * (uint32_t)sizeof(struct part_entry);
    uint8_t *table = out;
    bool has_deflated = spec->deflated.bytes != NULL;
    uint8_t *frames = out + pad8(table_bytes) + deflated_head_bytes(has_deflated);

    memset(table, 0, (size_t)(frames - table));
    if (has_deflated) {
        struct record_deflated head = { .n_bytes = spec->deflated.n_bytes,
                                        .offset_at =
                                            spec->with_offset ? spec->deflated_offset_at + 2 : 0 };

        memcpy(frames - sizeof head, &head, sizeof head);
    }
    out = frames;
    for (uint32_t i = 0; i < spec->n_parts; i++) {
        const struct record_part *part = &spec->parts[i];
        uint32_t n_bytes = payload_bytes(spec, i);
        uint32_t n_header_bytes = frame_header(out, part->opcode, n_bytes);
        struct part_entry entry = { .at = (uint32_t)(out - frames) + n_header_bytes,
                                    .n_bytes = n_bytes,
                                    .opcode = part->opcode,
                                    .n_header_bytes = (uint8_t)n_header_bytes };

        memcpy(table + i * sizeof entry, &entry, sizeof entry);
        out += n_header_bytes;
        if (part->payload.n_bytes > 0)
            memcpy(out, part->payload.bytes, part->payload.n_bytes);
        out += n_bytes;
        if (i == 0 && spec->with_offset)
            put_offset(out - OFFSET_ARGUMENT_BYTES - 1, spec->epoch);
    }
    return has_deflated ? put_deflated(out, spec) : out;
}

void record_write(uint8_t *out, const struct record_spec *spec, const uint64_t hash_key[2])
{
    struct record_header header = spec->header;
    uint8_t *names = out + sizeof header;
    uint8_t *at;

    header.n_nsp_bytes = (uint16_t)spec->nsp.n_bytes;
    header.n_rooms = (uint16_t)spec->n_rooms;
    header.n_except = (uint16_t)spec->n_except;
    header.n_args = (uint16_t)spec->n_args;
    header.n_parts = (uint16_t)spec->n_parts;
    header.event_at = spec->event_at;
    header.has_deflated = spec->deflated.bytes != NULL;
    header.offset_at = 0;

    at = put_padded(names, spec->nsp.bytes, spec->nsp.n_bytes);
    at = put_names(at, spec->rooms, spec->n_rooms, spec->nsp, hash_key);
    at = put_names(at, spec->except, spec->n_except, spec->nsp, hash_key);
    at = put_names(at, spec->args, spec->n_args, spec->nsp, hash_key);
    header.names_bytes = (uint32_t)(at - names);
    if (spec->with_offset) {
        uint8_t scratch[WS_HEADER_MAX];
        uint32_t n_bytes = payload_bytes(spec, 0);

        assert(spec->n_parts > 0);
        header.offset_at =
            (uint32_t)(at - out) + (uint32_t)pad8(spec->n_parts * sizeof(struct part_entry)) +
            deflated_head_bytes(header.has_deflated) +
            frame_header(scratch, spec->parts[0].opcode, n_bytes) + n_bytes - OFFSET_CHARS - 2;
    }
    at = put_parts(at, spec);
    header.n_bytes = (uint32_t)(at - out);
    memcpy(out, &header, sizeof header);
}

/* Where the table of parts ends. */
static uint64_t table_end(const struct record_header *h)
{
    return sizeof *h + (uint64_t)h->names_bytes + pad8(h->n_parts * sizeof(struct part_entry));
}

static struct record_deflated deflated_head(const uint8_t *record)
{
    struct record_deflated head;

    memcpy(&head, record + table_end((const struct record_header *)record), sizeof head);
    return head;
}

void record_stamp(uint8_t *record, uint64_t position)
{
    const struct record_header *h = (const struct record_header *)record;

    if (h->offset_at == 0)
        return;
    offset_put_position((char *)record + h->offset_at, position);
    if (h->has_deflated) {
        struct record_deflated copy = deflated_head(record);

        offset_put_position((char *)record + h->n_bytes - copy.n_bytes + copy.offset_at, position);
    }
}

/* --- reading --- */

struct name_head {
    uint64_t hash;
    uint16_t n_bytes;
};

static struct name_head name_head(const uint8_t *at)
{
    struct name_head head;

    memcpy(&head.hash, at, sizeof head.hash);
    memcpy(&head.n_bytes, at + sizeof head.hash, sizeof head.n_bytes);
    return head;
}

static struct part_entry part_entry(const uint8_t *table, uint32_t i)
{
    struct part_entry entry;

    memcpy(&entry, table + i * sizeof entry, sizeof entry);
    return entry;
}

static bool header_ok(const struct record_header *h, uint32_t n_bytes)
{
    uint32_t n_names = (uint32_t)h->n_rooms + h->n_except + h->n_args;

    return h->n_bytes == n_bytes && h->kind < RECORD_KINDS && h->origin <= ORIGIN_REDIS &&
           h->slot < PEAL_SLOTS_ALL && h->encoding <= ENCODING_WS_JSON &&
           n_names <= RECORD_NAMES_MAX && h->n_nsp_bytes <= NAME_BYTES_MAX &&
           h->n_parts <= RECORD_PARTS_MAX && h->names_bytes <= n_bytes - sizeof *h &&
           h->has_deflated <= (h->kind == RECORD_BROADCAST);
}

/* Do namespace and names fill exactly the bytes that the header says? */
static bool names_ok(const struct record_header *h, const uint8_t *names)
{
    uint32_t n_names = (uint32_t)h->n_rooms + h->n_except + h->n_args;
    uint64_t at = pad8(h->n_nsp_bytes);

    for (uint32_t i = 0; i < n_names; i++) {
        uint16_t n;

        if (at + NAME_HEAD_BYTES > h->names_bytes)
            return false;
        n = name_head(names + at).n_bytes;
        if (n > NAME_BYTES_MAX)
            return false;
        at += pad8(NAME_HEAD_BYTES + (uint64_t)n);
        if (at > h->names_bytes)
            return false;
    }
    return at == h->names_bytes;
}

/* Are the parts back to back, from the first byte to the last, each behind the very frame header
 * that it must have? */
static bool parts_ok(const struct record_header *h, const uint8_t *table, const uint8_t *frames,
                     uint32_t n_frames_bytes)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < h->n_parts; i++) {
        struct part_entry entry = part_entry(table, i);
        uint8_t expected[WS_HEADER_MAX];
        uint32_t n_header_bytes;

        if (entry.opcode > WS_BINARY)
            return false;
        n_header_bytes = frame_header(expected, entry.opcode, entry.n_bytes);
        if (entry.n_header_bytes != n_header_bytes || entry.at != at + n_header_bytes)
            return false;
        if ((uint64_t)entry.at + entry.n_bytes > n_frames_bytes)
            return false;
        if (n_header_bytes > 0 && memcmp(frames + at, expected, n_header_bytes) != 0)
            return false;
        at = (uint64_t)entry.at + entry.n_bytes;
    }
    return at == n_frames_bytes;
}

/* A broadcast is frames and nothing else, of the opcodes that its encoding says. */
static bool frames_ok(const struct record_header *h, const uint8_t *table)
{
    if (h->n_parts == 0 || (h->encoding != ENCODING_SOCKETIO && h->n_parts != 1))
        return false;
    for (uint32_t i = 0; i < h->n_parts; i++) {
        bool binary = h->encoding == ENCODING_SOCKETIO ? i > 0 : h->encoding == ENCODING_WS_BINARY;

        if (part_entry(table, i).opcode != (binary ? WS_BINARY : WS_TEXT))
            return false;
    }
    return true;
}

/* The frame at the start of `bytes`: 0, or the length of its header, which must be what we would have written, but for RSV1. */
static uint32_t read_frame(const uint8_t *bytes, uint64_t n, uint8_t opcode, uint64_t *n_payload)
{
    uint8_t expected[WS_HEADER_MAX];
    uint32_t n_header = n < 2 ? UINT32_MAX : bytes[1] <= 125 ? 2 : bytes[1] == 126 ? 4 : 10;

    if (n_header > n)
        return 0;
    *n_payload = n_header == 2 ? bytes[1] : 0;
    for (uint32_t i = 2; i < n_header; i++)
        *n_payload = *n_payload << 8 | bytes[i];
    if (*n_payload > n - n_header ||
        frame_header(expected, opcode, (uint32_t)*n_payload) != n_header)
        return 0;
    expected[0] |= bytes[0] & WS_RSV1;
    return memcmp(bytes, expected, n_header) == 0 ? n_header : 0;
}

/* Is the second copy a frame for each part, to its last byte, with its offset at the end of the first one if the event has one? */
static bool deflated_ok(const struct record_header *h, const uint8_t *table, const uint8_t *copy,
                        struct record_deflated head)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < h->n_parts; i++) {
        uint64_t n_payload;
        uint32_t n_header =
            read_frame(copy + at, head.n_bytes - at, part_entry(table, i).opcode, &n_payload);
        bool is_packed = n_header > 0 && (copy[at] & WS_RSV1) != 0;
        /* what is stored at the end of a compressed message is followed by one byte (proto/deflate.c) */
        uint64_t n_stored = OFFSET_ARGUMENT_BYTES + 1 + is_packed;

        if (n_header == 0)
            return false;
        at += n_header + n_payload;
        if (i > 0 || h->offset_at == 0)
            continue;
        if (n_payload < n_stored || head.offset_at != at - n_stored + 2 ||
            memcmp(copy + at - n_stored, ",\"", 2) != 0 ||
            memcmp(copy + head.offset_at + OFFSET_CHARS, "\"]", 2) != 0)
            return false;
    }
    return at == head.n_bytes && (h->offset_at != 0 || head.offset_at == 0);
}

/* Is the offset where it must be, as the last argument of the event? */
static bool offset_ok(const struct record_header *h, struct slice event, const uint8_t *record)
{
    const char *end = event.bytes + event.n_bytes;

    return event.n_bytes > OFFSET_ARGUMENT_BYTES + 2 &&
           (const char *)record + h->offset_at == end - OFFSET_CHARS - 2 &&
           memcmp(end - OFFSET_CHARS - 4, ",\"", 2) == 0 && memcmp(end - 2, "\"]", 2) == 0;
}

bool record_view(struct record_view *out, const uint8_t *record, uint32_t n_bytes)
{
    const struct record_header *h = (const struct record_header *)record;
    const uint8_t *names = record + sizeof *h;
    struct record_deflated copy = { 0, 0 };
    const uint8_t *frames;
    uint64_t frames_at;
    uint32_t n_frames_bytes;
    struct part_entry first;

    assert((uintptr_t)record % 8 == 0);
    memset(out, 0, sizeof *out);
    if (n_bytes < sizeof *h || !header_ok(h, n_bytes))
        return false;
    out->header = h;
    out->_names = out->_parts = names;
    /* What a dead producer left behind its header is nobody's business. */
    if (h->kind == RECORD_VOID)
        return (h->n_nsp_bytes | h->n_rooms | h->n_except | h->n_args | h->n_parts) == 0 &&
               h->names_bytes == 0;
    frames_at = table_end(h) + deflated_head_bytes(h->has_deflated);
    if (frames_at > n_bytes || !names_ok(h, names))
        return false;
    if (h->has_deflated)
        copy = deflated_head(record);
    if (copy.n_bytes > n_bytes - frames_at)
        return false;
    frames = record + frames_at;
    n_frames_bytes = n_bytes - (uint32_t)frames_at - copy.n_bytes;
    out->nsp = slice_of(names, h->n_nsp_bytes);
    out->_names = names + pad8(h->n_nsp_bytes);
    out->_parts = names + h->names_bytes;
    if (!parts_ok(h, out->_parts, frames, n_frames_bytes))
        return false;
    if (h->kind != RECORD_BROADCAST)
        return h->offset_at == 0;
    if (!frames_ok(h, out->_parts))
        return false;
    if (h->has_deflated && !deflated_ok(h, out->_parts, frames + n_frames_bytes, copy))
        return false;
    out->frames = slice_of(frames, n_frames_bytes);
    out->deflated = h->has_deflated ? slice_of(frames + n_frames_bytes, copy.n_bytes) : out->frames;
    if (h->encoding != ENCODING_SOCKETIO)
        return h->offset_at == 0;
    first = part_entry(out->_parts, 0);
    if (h->event_at > first.n_bytes)
        return false;
    out->event = slice_of(frames + first.at + h->event_at, first.n_bytes - h->event_at);
    if (h->offset_at == 0)
        return true;
    out->n_offset_bytes = OFFSET_ARGUMENT_BYTES;
    return offset_ok(h, out->event, record);
}

struct record_names record_names_open(const struct record_view *v, enum record_list list)
{
    const uint16_t counts[3] = { v->header->n_rooms, v->header->n_except, v->header->n_args };
    struct record_names it = { v->_names, 0 };

    assert(list <= RECORD_ARGS);
    for (uint32_t before = 0; before < (uint32_t)list; before++) {
        struct slice name;
        uint64_t hash;

        it.left = counts[before];
        while (record_names_next(&it, &name, &hash))
            ;
    }
    it.left = counts[list];
    return it;
}

bool record_names_next(struct record_names *it, struct slice *name, uint64_t *hash)
{
    struct name_head head;

    if (it->left == 0)
        return false;
    it->left--;
    head = name_head(it->at);
    *hash = head.hash;
    *name = slice_of(it->at + NAME_HEAD_BYTES, head.n_bytes);
    it->at += pad8(NAME_HEAD_BYTES + (uint64_t)head.n_bytes);
    return true;
}

struct slice record_part(const struct record_view *v, uint32_t i, uint8_t *opcode)
{
    const uint8_t *frames;
    struct part_entry entry;

    assert(i < v->header->n_parts);
    frames = v->_parts + pad8(v->header->n_parts * sizeof entry) +
             deflated_head_bytes(v->header->has_deflated);
    entry = part_entry(v->_parts, i);
    *opcode = entry.opcode;
    return slice_of(frames + entry.at, entry.n_bytes);
}
