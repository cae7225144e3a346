/* test_record.c: what is written is read back, and hostile bytes are refused without a look
 * outside. */
#include "shm/record.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t key[2] = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };

/* A record in memory of exactly its size, so that AddressSanitizer sees one byte too many. */
static uint8_t *exact(const void *bytes, uint32_t n)
{
    uint8_t *copy = malloc(n);

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    return copy;
}

static uint8_t *written(const struct record_spec *spec, uint32_t *n)
{
    uint8_t *out;

    *n = record_size(spec);
    out = *n > 0 ? malloc(*n) : NULL;
    if (out == NULL)
        abort();
    record_write(out, spec, key);
    return out;
}

/* Ends the program if it is refused: what follows would read nowhere. */
static void must_view(struct record_view *v, const uint8_t *record, uint32_t n)
{
    if (!record_view(v, record, n)) {
        print_error("a record of %u bytes is refused\n", n);
        abort();
    }
}

static const struct slice rooms[] = { { "room", 4 }, { "", 0 }, { "a longer room name", 18 } };
static const struct slice except[] = { { "not this one", 12 } };
static const struct slice args[] = { { "1234567", 7 }, { "12345678", 8 } };
static const struct record_part parts[] = {
    { { "451-[\"e\",{\"_placeholder\":true,\"num\":0}]", 39 }, WS_TEXT },
    { { "\x00\xff\x02", 3 }, WS_BINARY },
};

static struct record_spec full_spec(void)
{
    return (struct record_spec){ .header = { .kind = RECORD_BROADCAST,
                                             .origin = ORIGIN_REDIS,
                                             .slot = 7,
                                             .flags = RECORD_VOLATILE | RECORD_LOCAL,
                                             .generation = 99,
                                             .detail = 11,
                                             .id = 1ull << 40,
                                             .time_us = 123456789,
                                             .targets = 1ull << 62,
                                             .encoding = ENCODING_SOCKETIO },
                                 .nsp = slice_text("/chat"),
                                 .rooms = rooms,
                                 .n_rooms = 3,
                                 .except = except,
                                 .n_except = 1,
                                 .args = args,
                                 .n_args = 2,
                                 .parts = parts,
                                 .n_parts = 2,
                                 .event_at = 4 };
}

static uint64_t sip(const uint8_t *bytes, uint32_t n)
{
    struct sip s;

    sip_init(&s, key);
    sip_feed(&s, bytes, n);
    return sip_end(&s);
}

static void test_siphash_gives_the_vectors_of_its_paper(void **state)
{
    uint8_t input[64];

    (void)state;
    for (uint8_t i = 0; i < 64; i++)
        input[i] = i;
    assert_true(sip(input, 0) == 0x726fdb47dd0e0e31ull);
    assert_true(sip(input, 1) == 0x74f839c593dc67fdull);
    assert_true(sip(input, 8) == 0x93f5f5799a932462ull);
    assert_true(sip(input, 15) == 0xa129ca6149be45e5ull);
    for (uint32_t n = 0; n < 64; n++) { /* any split is the same */
        struct sip s;

        sip_init(&s, key);
        sip_feed(&s, input, n);
        sip_feed(&s, input + n, 64 - n);
        assert_true(sip_end(&s) == sip(input, 64));
    }
}

static void test_hashes_tell_namespace_room_and_key_apart(void **state)
{
    const uint64_t other[2] = { key[0], key[1] + 1 };
    uint64_t h = record_hash(key, slice_text("/a"), slice_text("b"));

    (void)state;
    assert_true(h == record_hash(key, slice_text("/a"), slice_text("b")));
    assert_true(h != record_hash(other, slice_text("/a"), slice_text("b")));
    assert_true(h != record_hash(key, slice_text("/ab"), slice_text("")));
    assert_true(h != record_hash(key, slice_text("/"), slice_text("ab")));
    assert_true(record_hash(key, slice_text("/a"), slice_text("")) !=
                record_hash(key, slice_text("/a"), slice_of(NULL, 0)));
    assert_in_range(record_bucket(h), 0, DIRECTORY_BUCKETS - 1);
}

static void assert_names(const struct record_view *v, enum record_list list,
                         const struct slice *names, uint32_t n)
{
    struct record_names it = record_names_open(v, list);
    struct slice name = slice_of(NULL, 0);
    uint64_t hash = 0;

    for (uint32_t i = 0; i < n; i++) {
        assert_true(record_names_next(&it, &name, &hash));
        assert_true(slice_equal(name, names[i]));
        assert_true(hash == record_hash(key, v->nsp, names[i]));
    }
    assert_false(record_names_next(&it, &name, &hash));
}

static void test_what_is_written_is_read_back(void **state)
{
    struct record_spec spec = full_spec();
    struct record_view v;
    struct slice part;
    uint32_t n;
    uint8_t opcode;
    uint8_t *record = written(&spec, &n);

    (void)state;
    must_view(&v, record, n);
    assert_int_equal(v.header->n_bytes, n);
    assert_int_equal(v.header->kind, RECORD_BROADCAST);
    assert_int_equal(v.header->origin, ORIGIN_REDIS);
    assert_int_equal(v.header->slot, 7);
    assert_int_equal(v.header->flags, RECORD_VOLATILE | RECORD_LOCAL);
    assert_int_equal(v.header->generation, 99);
    assert_int_equal(v.header->detail, 11);
    assert_true(v.header->id == 1ull << 40);
    assert_true(v.header->time_us == 123456789);
    assert_true(v.header->targets == 1ull << 62);
    assert_true(slice_is(v.nsp, "/chat"));
    assert_names(&v, RECORD_ROOMS, rooms, 3);
    assert_names(&v, RECORD_EXCEPT, except, 1);
    assert_names(&v, RECORD_ARGS, args, 2);
    part = record_part(&v, 0, &opcode);
    assert_true(slice_equal(part, parts[0].payload));
    assert_int_equal(opcode, WS_TEXT);
    part = record_part(&v, 1, &opcode);
    assert_true(slice_equal(part, parts[1].payload));
    assert_int_equal(opcode, WS_BINARY);
    assert_true(slice_is(v.event, "[\"e\",{\"_placeholder\":true,\"num\":0}]"));
    assert_int_equal(v.frames.n_bytes, 2 + 39 + 2 + 3);
    assert_memory_equal(v.frames.bytes, "\x81\x27", 2);
    assert_memory_equal(v.frames.bytes + 41, "\x82\x03\x00\xff\x02", 5);
    free(record);
}

static void test_frames_have_the_header_of_their_length(void **state)
{
    static char payload[70000];
    static const uint32_t lengths[] = { 0, 1, 125, 126, 127, 65535, 65536, 70000 };

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct record_part part = { slice_of(payload, lengths[i]), WS_BINARY };
        struct record_spec spec = { .header = { .kind = RECORD_BROADCAST,
                                                .encoding = ENCODING_WS_BINARY },
                                    .nsp = slice_text("/ws"),
                                    .parts = &part,
                                    .n_parts = 1 };
        uint32_t n, n_header = lengths[i] < 126 ? 2 : lengths[i] < 65536 ? 4 : 10;
        uint8_t *record = written(&spec, &n);
        struct record_view v;

        must_view(&v, record, n);
        assert_int_equal(v.frames.n_bytes, n_header + lengths[i]);
        assert_int_equal((uint8_t)v.frames.bytes[0], 0x82);
        assert_null(v.event.bytes);
        free(record);
    }
}

static void test_records_without_frames_carry_plain_bytes(void **state)
{
    struct record_part plain[] = { { slice_text("[1,2]"), 0 }, { slice_of(NULL, 0), 0 } };
    struct record_spec spec = { .header = { .kind = RECORD_REPLY, .flags = RECORD_LAST },
                                .parts = plain,
                                .n_parts = 2 };
    struct record_view v;
    uint32_t n;
    uint8_t opcode;
    uint8_t *record = written(&spec, &n);

    (void)state;
    must_view(&v, record, n);
    assert_true(slice_is(record_part(&v, 0, &opcode), "[1,2]"));
    assert_int_equal(opcode, 0);
    assert_int_equal(record_part(&v, 1, &opcode).n_bytes, 0);
    assert_null(v.frames.bytes);
    free(record);

    spec = (struct record_spec){ .header = { .kind = RECORD_GONE, .detail = 3, .id = 9 } };
    record = written(&spec, &n);
    assert_int_equal(n, 64);
    must_view(&v, record, n);
    free(record);
}

static void test_bounds_are_bounds(void **state)
{
    static struct slice many[RECORD_NAMES_MAX + 1];
    static struct record_part frames[RECORD_PARTS_MAX + 1];
    char longest[NAME_BYTES_MAX + 1] = { 0 };
    struct slice name = slice_of(longest, NAME_BYTES_MAX);
    struct record_spec spec = { .header = { .kind = RECORD_JOIN }, .rooms = &name, .n_rooms = 1 };
    struct record_part huge = { slice_of(longest, 1u << 31), 0 };

    (void)state;
    for (int i = 0; i <= RECORD_NAMES_MAX; i++)
        many[i] = slice_text("x");
    for (int i = 0; i <= RECORD_PARTS_MAX; i++)
        frames[i] = (struct record_part){ slice_text("y"), 0 };
    assert_int_not_equal(record_size(&spec), 0);
    name.n_bytes++;
    assert_int_equal(record_size(&spec), 0);
    spec = (struct record_spec){ .nsp = slice_of(longest, NAME_BYTES_MAX + 1) };
    assert_int_equal(record_size(&spec), 0);
    spec = (struct record_spec){ .rooms = many, .n_rooms = RECORD_NAMES_MAX - 1 };
    spec.except = many;
    spec.n_except = 1;
    assert_int_not_equal(record_size(&spec), 0);
    spec.args = many;
    spec.n_args = 1;
    assert_int_equal(record_size(&spec), 0);
    spec.n_rooms = UINT32_MAX;
    assert_int_equal(record_size(&spec), 0);
    spec = (struct record_spec){ .parts = frames, .n_parts = RECORD_PARTS_MAX };
    assert_int_not_equal(record_size(&spec), 0);
    spec.n_parts++;
    assert_int_equal(record_size(&spec), 0);
    spec = (struct record_spec){ .parts = &huge, .n_parts = 1 };
    assert_int_equal(record_size(&spec), 0);
}

static void test_the_largest_record_is_read_back(void **state)
{
    static struct slice many[RECORD_NAMES_MAX];
    static struct record_part frames[RECORD_PARTS_MAX];
    static char longest[NAME_BYTES_MAX];
    struct record_spec spec = { .header = { .kind = RECORD_BROADCAST },
                                .nsp = slice_of(longest, NAME_BYTES_MAX),
                                .rooms = many,
                                .n_rooms = RECORD_NAMES_MAX / 2,
                                .args = many,
                                .n_args = RECORD_NAMES_MAX / 2,
                                .parts = frames,
                                .n_parts = RECORD_PARTS_MAX };
    struct record_view v;
    uint32_t n;
    uint8_t *record;

    (void)state;
    memset(longest, 'n', sizeof longest);
    for (int i = 0; i < RECORD_NAMES_MAX; i++)
        many[i] = slice_of(longest, NAME_BYTES_MAX);
    for (int i = 0; i < RECORD_PARTS_MAX; i++)
        frames[i] = (struct record_part){ slice_text("yy"), i == 0 ? WS_TEXT : WS_BINARY };
    record = written(&spec, &n);
    must_view(&v, record, n);
    assert_names(&v, RECORD_ARGS, many, RECORD_NAMES_MAX / 2);
    free(record);
}

static void assert_within(struct slice s, const uint8_t *record, uint32_t n)
{
    if (s.bytes == NULL)
        return;
    assert_true((const uint8_t *)s.bytes >= record);
    assert_true((const uint8_t *)s.bytes + s.n_bytes <= record + n);
}

/* Walks everything that a view hands out. */
static void walk(const struct record_view *v, const uint8_t *record, uint32_t n)
{
    assert_within(v->nsp, record, n);
    assert_within(v->frames, record, n);
    assert_within(v->deflated, record, n);
    assert_within(v->event, record, n);
    for (int list = RECORD_ROOMS; list <= RECORD_ARGS; list++) {
        struct record_names it = record_names_open(v, (enum record_list)list);
        struct slice name;
        uint64_t hash;

        while (record_names_next(&it, &name, &hash))
            assert_within(name, record, n);
    }
    for (uint32_t i = 0; i < v->header->n_parts; i++) {
        uint8_t opcode;

        assert_within(record_part(v, i, &opcode), record, n);
    }
}

static void test_a_record_cut_anywhere_is_refused(void **state)
{
    struct record_spec spec = full_spec();
    struct record_view v;
    uint32_t n;
    uint8_t *record = written(&spec, &n);

    (void)state;
    for (uint32_t cut = 1; cut < n; cut++) {
        uint8_t *part = exact(record, cut);

        assert_false(record_view(&v, part, cut)); /* its length says more */
        if (cut >= 64) {
            ((struct record_header *)part)->n_bytes = cut;
            assert_false(record_view(&v, part, cut));
        }
        free(part);
    }
    free(record);
}

static void test_any_changed_byte_is_refused_or_harmless(void **state)
{
    static const uint8_t changes[] = { 0x01, 0x02, 0x80, 0xff, 0x7f, 0x10 };
    struct record_spec spec = full_spec();
    uint32_t n;
    uint32_t n_refused = 0;
    uint8_t *record = written(&spec, &n);

    (void)state;
    for (uint32_t at = 0; at < n; at++)
        for (size_t i = 0; i < sizeof changes; i++) {
            uint8_t *copy = exact(record, n);
            struct record_view v;

            copy[at] ^= changes[i];
            if (record_view(&v, copy, n))
                walk(&v, copy, n);
            else
                n_refused++;
            free(copy);
        }
    assert_true(n_refused > 100);
    free(record);
}

static void test_random_bytes_are_refused_or_harmless(void **state)
{
    struct record_spec spec = full_spec();
    uint32_t n;
    uint8_t *record = written(&spec, &n);

    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        uint8_t *copy = exact(record, n);
        struct record_view v;

        for (int i = rand() % 6; i >= 0; i--)
            copy[rand() % (int)n] = (uint8_t)rand();
        for (int i = rand() % 3; i > 0; i--) { /* counts and lengths above all */
            uint16_t small = (uint16_t)(rand() % 8);

            memcpy(copy + 48 + rand() % 8 * 2, &small, sizeof small);
        }
        memcpy(copy, &n, sizeof n);
        if (record_view(&v, copy, n))
            walk(&v, copy, n);
        free(copy);
    }
    free(record);
}

static void refuse_after(void (*change)(struct record_header *h))
{
    struct record_spec spec = full_spec();
    struct record_view v;
    uint32_t n;
    uint8_t *record = written(&spec, &n);

    must_view(&v, record, n);
    change((struct record_header *)record);
    assert_false(record_view(&v, record, n));
    free(record);
}

static void make_kind_unknown(struct record_header *h)
{
    h->kind = RECORD_KINDS;
}
static void make_slot_unknown(struct record_header *h)
{
    h->slot = PEAL_SLOTS_ALL;
}
static void make_event_far(struct record_header *h)
{
    h->event_at = 40;
}
static void make_encoding_plain(struct record_header *h)
{
    h->encoding = ENCODING_WS_TEXT; /* two frames are no single message */
}
static void make_names_huge(struct record_header *h)
{
    h->names_bytes = UINT32_MAX;
}
static void make_parts_none(struct record_header *h)
{
    h->n_parts = 0;
}
static void make_void_with_names(struct record_header *h)
{
    h->kind = RECORD_VOID;
}

static void test_headers_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    refuse_after(make_kind_unknown);
    refuse_after(make_slot_unknown);
    refuse_after(make_event_far);
    refuse_after(make_encoding_plain);
    refuse_after(make_names_huge);
    refuse_after(make_parts_none);
    refuse_after(make_void_with_names);
}

static void test_a_void_is_valid_whatever_lies_behind_its_header(void **state)
{
    uint64_t record[24];
    struct record_header header = { .n_bytes = sizeof record, .kind = RECORD_VOID, .slot = 3 };
    struct record_view v;

    (void)state;
    memset(record, 0xa5, sizeof record);
    memcpy(record, &header, sizeof header);
    must_view(&v, (const uint8_t *)record, sizeof record);
    walk(&v, (const uint8_t *)record, sizeof record);
    assert_null(v.frames.bytes);
}

/* --- offsets --- */

static struct record_spec event_spec(const char *packet, uint32_t event_at,
                                     struct record_part part[2])
{
    struct record_spec spec = { .header = { .kind = RECORD_BROADCAST },
                                .nsp = slice_text("/"),
                                .parts = part,
                                .n_parts = 1,
                                .event_at = event_at };

    part[0] = (struct record_part){ slice_text(packet), WS_TEXT };
    part[1] = (struct record_part){ slice_of("\x01\x02", 2), WS_BINARY };
    return spec;
}

static void test_an_offset_is_the_last_argument_whatever_the_length(void **state)
{
    static const char tail[] = ",\"...\"]";
    char packet[70000] = "42[\"e\",\"";

    (void)state;
    /* around the lengths at which a frame header grows, with what is added on either side */
    for (uint32_t n = 12; n < sizeof packet - 3; n += n < 300                  ? 1
                                                      : n > 65400 && n < 65600 ? 1
                                                                               : 997) {
        struct record_part part[2];
        struct record_view v;
        struct record_spec spec;
        uint64_t position;
        uint32_t n_bytes;
        uint8_t *record;

        memset(packet + 8, 'x', n - 8);
        memcpy(packet + n, "\"]", 3);
        spec = event_spec(packet, 2, part);
        spec.n_parts = 1 + n % 2;
        record_ask_offset(&spec, 0x1234567890ull);
        assert_true(spec.with_offset);
        record = written(&spec, &n_bytes);
        record_stamp(record, 4711 + n);
        must_view(&v, record, n_bytes);
        assert_int_equal(v.n_offset_bytes, OFFSET_ARGUMENT_BYTES);
        assert_int_equal(v.event.n_bytes, n + OFFSET_ARGUMENT_BYTES);
        assert_memory_equal(v.event.bytes, packet + 2, n - 1);
        assert_memory_equal(v.event.bytes + n - 1, tail, 2);
        assert_memory_equal(v.event.bytes + v.event.n_bytes - 2, tail + 5, 2);
        assert_int_equal(
            offset_read(slice_of(v.event.bytes + n + 1, OFFSET_CHARS), 0x1234567890ull, &position),
            OFFSET_OK);
        assert_true(position == 4711 + n);
        free(record);
    }
}

static void test_only_events_without_acknowledgement_get_an_offset(void **state)
{
    struct record_part part[2];
    struct record_spec spec;
    static const char *const refused[] = { "42[]", "42[ ]", "42[\t\n]", "42[1] ", "42", "42[" };

    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        spec = event_spec(refused[i], 2, part);
        record_ask_offset(&spec, 1);
        assert_false(spec.with_offset);
    }
    spec = event_spec("42[1]", 2, part);
    record_ask_offset(&spec, 1);
    assert_true(spec.with_offset);
    spec.header.flags = RECORD_WANTS_ACK;
    record_ask_offset(&spec, 1);
    assert_false(spec.with_offset);
    spec.header.flags = 0;
    spec.header.encoding = ENCODING_WS_TEXT;
    record_ask_offset(&spec, 1);
    assert_false(spec.with_offset);
    spec.header.encoding = ENCODING_SOCKETIO;
    spec.header.kind = RECORD_ACK;
    record_ask_offset(&spec, 1);
    assert_false(spec.with_offset);
}

static void test_an_offset_elsewhere_than_at_the_end_is_refused(void **state)
{
    struct record_part part[2];
    struct record_spec spec = event_spec("42[\"event\"]", 2, part);
    struct record_header *header;
    struct record_view v;
    uint32_t n, right;
    uint8_t *record;

    (void)state;
    record_ask_offset(&spec, 1);
    record = written(&spec, &n);
    header = (struct record_header *)record;
    right = header->offset_at;
    for (uint32_t at = 1; at < n + 64; at++) {
        header->offset_at = at;
        assert_int_equal(record_view(&v, record, n), at == right);
    }
    header->offset_at = right;
    header->encoding = ENCODING_WS_TEXT;
    assert_false(record_view(&v, record, n));
    header->kind = RECORD_REPLY;
    assert_false(record_view(&v, record, n));
    free(record);
}

/* --- the second copy --- */

#define STORED "\x24\x00\xdb\xff" /* the head of a stored block of 36 bytes */

/* Two parts, the first with an offset, packed or not; the bytes of a packed one are nobody's business here. */
static struct record_spec deflated_spec(struct record_part part[2], uint8_t copy[200], bool packed)
{
    struct record_spec spec = event_spec("42[\"event\",\"and some argument\"]", 2, part);
    uint32_t n = packed ? 4 + 4 + 36 + 1 : 31 + OFFSET_ARGUMENT_BYTES;

    memset(copy, 'z', 200);
    assert_int_equal(part[0].payload.n_bytes, 31);
    (void)ws_put_header(copy, WS_TEXT, n);
    if (packed) {
        copy[0] |= WS_RSV1;
        memcpy(copy + 2 + 4, STORED, 4);
        copy[2 + n - 1] = 0;
        spec.deflated_offset_at = 2 + 8;
    } else {
        memcpy(copy + 2, part[0].payload.bytes, 31);
        spec.deflated_offset_at = 2 + 30;
    }
    (void)ws_put_header(copy + 2 + n, WS_BINARY, 1);
    copy[2 + n] |= WS_RSV1;
    copy[2 + n + 2] = 'b';
    spec.n_parts = 2;
    spec.deflated = slice_of(copy, 2 + n + 3);
    record_ask_offset(&spec, 99);
    assert_true(spec.with_offset);
    return spec;
}

static void test_both_copies_get_the_digits(void **state)
{
    (void)state;
    for (uint32_t packed = 0; packed < 2; packed++) {
        struct record_part part[2];
        uint8_t copy[200];
        struct record_spec spec = deflated_spec(part, copy, packed);
        struct record_view v;
        const char *offset;
        uint64_t position;
        uint8_t opcode;
        uint32_t n;
        uint8_t *record = written(&spec, &n);

        record_stamp(record, 777);
        must_view(&v, record, n);
        assert_int_equal(v.deflated.n_bytes, spec.deflated.n_bytes);
        assert_ptr_equal(v.deflated.bytes + v.deflated.n_bytes, record + n);
        assert_ptr_equal(v.frames.bytes + v.frames.n_bytes, v.deflated.bytes);
        assert_true(slice_is(record_part(&v, 1, &opcode), "\x01\x02"));
        assert_int_equal(v.event.n_bytes, 29 + OFFSET_ARGUMENT_BYTES);
        for (uint32_t i = 0; i < 2; i++) {
            offset = i == 0 ? v.event.bytes + v.event.n_bytes - 36
                            : v.deflated.bytes + spec.deflated_offset_at;
            assert_memory_equal(offset, ",\"", 2);
            assert_int_equal(offset_read(slice_of(offset + 2, OFFSET_CHARS), 99, &position),
                             OFFSET_OK);
            assert_true(position == 777);
            assert_memory_equal(offset + 34, "\"]", 2);
        }
        free(record);
    }
}

static void test_without_a_second_copy_all_get_the_first(void **state)
{
    struct record_spec spec = full_spec();
    struct record_view v;
    uint32_t n;
    uint8_t *record = written(&spec, &n);

    (void)state;
    must_view(&v, record, n);
    assert_ptr_equal(v.deflated.bytes, v.frames.bytes);
    assert_int_equal(v.deflated.n_bytes, v.frames.n_bytes);
    ((struct record_header *)record)->has_deflated = 1; /* a part of the frames is no copy */
    assert_false(record_view(&v, record, n));
    free(record);
}

static void test_a_copy_without_an_offset_is_frames_alone(void **state)
{
    static const uint8_t copy[] = { 0xc1, 3, 'a', 'b', 'c' };
    struct record_part part = { slice_text("a text that is longer"), WS_TEXT };
    struct record_spec spec = { .header = { .kind = RECORD_BROADCAST,
                                            .encoding = ENCODING_WS_JSON },
                                .nsp = slice_text("/ws"),
                                .parts = &part,
                                .n_parts = 1,
                                .deflated = slice_of(copy, sizeof copy) };
    struct record_view v;
    uint32_t n;
    uint8_t *record = written(&spec, &n);

    (void)state;
    record_stamp(record, 1);
    must_view(&v, record, n);
    assert_memory_equal(v.deflated.bytes, copy, sizeof copy);
    ((struct record_header *)record)->kind = RECORD_ACK; /* only broadcasts have one */
    assert_false(record_view(&v, record, n));
    free(record);
}

static struct record_deflated *head_of(uint8_t *record)
{
    return (struct record_deflated *)(record + table_end((const struct record_header *)record));
}

static void test_hostile_copies_are_refused_or_harmless(void **state)
{
    static const uint8_t changes[] = { 0x01, 0x02, 0x80, 0xff, 0x7f, 0x10, 0x40 };
    static const uint32_t lengths[] = {
        0, 1, 2, 3, 46, 47, 1000, 0x7fffffff, 0x80000000, UINT32_MAX
    };
    struct record_part part[2];
    uint8_t bytes[200];

    (void)state;
    for (uint32_t packed = 0; packed < 2; packed++) {
        struct record_spec spec = deflated_spec(part, bytes, packed);
        struct record_view v;
        uint32_t n;
        uint8_t *record = written(&spec, &n);
        uint32_t right = head_of(record)->n_bytes;

        for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            head_of(record)->n_bytes = lengths[i];
            assert_int_equal(record_view(&v, record, n), lengths[i] == right);
        }
        for (uint32_t at = 0; at < n + 100; at++) { /* any other length of the copy */
            head_of(record)->n_bytes = at;
            assert_int_equal(record_view(&v, record, n), at == right);
        }
        head_of(record)->n_bytes = right;
        for (uint32_t at = 0; at < n + 100; at++) { /* and place of its offset */
            uint32_t was = head_of(record)->offset_at;

            head_of(record)->offset_at = at;
            assert_int_equal(record_view(&v, record, n), at == was);
            head_of(record)->offset_at = was;
        }
        for (uint32_t at = 0; at < n; at++)
            for (uint32_t i = 0; i < sizeof changes; i++) {
                uint8_t *copy = exact(record, n);

                copy[at] ^= changes[i];
                if (record_view(&v, copy, n)) {
                    walk(&v, copy, n);
                    record_stamp(copy, 1);
                }
                free(copy);
            }
        free(record);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_offset_is_the_last_argument_whatever_the_length),
        cmocka_unit_test(test_only_events_without_acknowledgement_get_an_offset),
        cmocka_unit_test(test_an_offset_elsewhere_than_at_the_end_is_refused),
        cmocka_unit_test(test_siphash_gives_the_vectors_of_its_paper),
        cmocka_unit_test(test_hashes_tell_namespace_room_and_key_apart),
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_frames_have_the_header_of_their_length),
        cmocka_unit_test(test_records_without_frames_carry_plain_bytes),
        cmocka_unit_test(test_bounds_are_bounds),
        cmocka_unit_test(test_the_largest_record_is_read_back),
        cmocka_unit_test(test_a_record_cut_anywhere_is_refused),
        cmocka_unit_test(test_any_changed_byte_is_refused_or_harmless),
        cmocka_unit_test(test_random_bytes_are_refused_or_harmless),
        cmocka_unit_test(test_headers_that_contradict_themselves_are_refused),
        cmocka_unit_test(test_a_void_is_valid_whatever_lies_behind_its_header),
        cmocka_unit_test(test_both_copies_get_the_digits),
        cmocka_unit_test(test_without_a_second_copy_all_get_the_first),
        cmocka_unit_test(test_a_copy_without_an_offset_is_frames_alone),
        cmocka_unit_test(test_hostile_copies_are_refused_or_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
