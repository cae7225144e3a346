/* msgpack.h: MessagePack as the Node servers of a Socket.IO cluster write and read it (notepack.io
 * 3). Sans-IO, no allocation.
 *
 * Three layers: a bounded walker for foreign bytes, a writer that gives notepack's bytes, and the
 * two conversions between MessagePack and JSON text with attachments. Every walk costs O(input) and
 * is bounded in bytes, elements and depth; a length that reaches beyond the input is refused when
 * it is read, so a forged one costs nothing. */
#ifndef PEAL_PROTO_MSGPACK_H
#define PEAL_PROTO_MSGPACK_H

#include "base/slice.h"

#define MSGPACK_DEPTH_MAX 64 /* containers within containers, as with the JSON text */

/* Binary values in one event; more is MSGPACK_BAD. Our own clients send at most 10, but Node's
 * server passes on whatever a back end emits. */
#define MSGPACK_ATTACHMENTS_MAX 255

enum msgpack_result {
    MSGPACK_OK = 0,
    MSGPACK_BAD,    /* not MessagePack (or not JSON), too deep, too many or wrong attachments */
    MSGPACK_TOO_BIG /* does not fit into the sink or the scratch */
};

/* ---- Bytes under construction ----
 *
 * MessagePack or text, in memory of the caller. What does not fit is left out as a whole and sets
 * `too_big`, which stays: write everything, then ask once. Results of decoding (lists, text) are
 * put into a sink as well, and live as long as its memory does. */
struct msgpack_sink {
    char *bytes;
    uint32_t n_bytes;
    uint32_t n_max;
    bool too_big;
};

struct msgpack_sink msgpack_sink_of(void *bytes, uint32_t n_max);

/* What was written since n_bytes was `from`. */
struct slice msgpack_sink_slice(const struct msgpack_sink *sink, uint32_t from);

/* Room for n_bytes, aligned for any type; NULL sets too_big. */
void *msgpack_sink_reserve(struct msgpack_sink *sink, uint64_t n_bytes);

void msgpack_put_bytes(struct msgpack_sink *sink, struct slice bytes);
void msgpack_put_text(struct msgpack_sink *sink, const char *text);
void msgpack_put_json_string(struct msgpack_sink *sink, struct slice text); /* json_put_string */

/* ---- Reading ---- */

enum msgpack_kind {
    MSGPACK_NIL = 0,
    MSGPACK_UNDEFINED, /* d4 00 of old senders */
    MSGPACK_BOOL,
    MSGPACK_NUMBER,
    MSGPACK_STRING,
    MSGPACK_BINARY, /* bin, and ext type 0 of old senders (an ArrayBuffer) */
    MSGPACK_DATE,   /* timestamp, and d7 00 of old senders */
    MSGPACK_EXT,    /* any other: JavaScript gets [type, binary] */
    MSGPACK_ARRAY,
    MSGPACK_MAP
};

struct msgpack_value {
    enum msgpack_kind kind;
    bool boolean;     /* BOOL */
    int8_t ext_type;  /* EXT */
    uint32_t n_items; /* ARRAY: elements, MAP: members; they follow in the input */

    /* NUMBER, as JavaScript has it (64-bit integers lose digits). DATE: milliseconds since 1970 or
     * NaN. */
    double number;

    /* STRING (as sent: need not be UTF-8), BINARY, EXT; borrowed from the input. */
    struct slice bytes;
};

/* Takes one scalar, or the head of an array or map, from `rest`. False: cut short, 0xc1, or more
 * items than there are bytes. */
MUST_USE bool msgpack_read(struct slice *rest, struct msgpack_value *out);

/* Takes one whole value, containers with all that is in them. False: malformed, or deeper than
 * MSGPACK_DEPTH_MAX. */
MUST_USE bool msgpack_skip(struct slice *rest);

/* ---- Writing, byte for byte as notepack ---- */

void msgpack_put_nil(struct msgpack_sink *sink);
void msgpack_put_bool(struct msgpack_sink *sink, bool value);
void msgpack_put_string(struct msgpack_sink *sink, struct slice text); /* UTF-8 */
void msgpack_put_binary(struct msgpack_sink *sink, struct slice bytes);
void msgpack_put_array(struct msgpack_sink *sink, uint32_t n_items);
void msgpack_put_map(struct msgpack_sink *sink, uint32_t n_members);

/* Integers up to 2^53 in size take the shortest integer form, all else is float64: notepack writes
 * larger integers modulo 2^64, which is wrong, and every reader takes float64. */
void msgpack_put_number(struct msgpack_sink *sink, double value);

/* ---- JSON and back ---- */

/* JSON text in which each binary value is {"_placeholder":true,"num":k}, and those values by k.
 * With n_attachments == 0 such an object means nothing special, as with Socket.IO's packets. */
struct msgpack_text {
    struct slice json;
    uint32_t n_attachments;
    struct slice attachments[MSGPACK_ATTACHMENTS_MAX];
};

/* Takes one value from `rest` and puts into `sink` what JSON.stringify would write of it in
 * JavaScript: `undefined` in objects is left out and null elsewhere, numbers that JSON cannot say
 * are null, dates ISO texts, what is not UTF-8 becomes U+FFFD. Members stay in the order of the
 * input, repeated ones too. `out->json` points into the sink, attachments into the input, numbered
 * in the order in which they stand. The text is valid JSON whatever the input was.
 * At most 6 times the input and 40 bytes an attachment. On failure the sink has its old length. */
MUST_USE enum msgpack_result msgpack_to_json(struct slice *rest, struct msgpack_sink *sink,
                                             struct msgpack_text *out);

/* Writes what JavaScript has after JSON.parse and with the attachments put in: integer-like keys
 * first and ascending; of a repeated key the first place and the last value; objects whose
 * `_placeholder` is true replaced. MSGPACK_BAD: not one JSON value (it is validated here), or a
 * placeholder whose `num` is none of the attachments.
 * Output: at most 2.25 times the text, and each attachment as often as the text names it. Scratch:
 * four times the text, as much as the attachments and 64 bytes is always enough; it is left as it
 * was. On failure what was written is to be thrown away. */
MUST_USE enum msgpack_result msgpack_put_json(struct msgpack_sink *sink,
                                              const struct msgpack_text *text,
                                              struct msgpack_sink *scratch);

/* The text of a number that is used as a key or a name: json_put_number, but NaN and Infinity by
 * name. `out` has JSON_NUMBER_MAX bytes; returns the length. */
uint32_t msgpack_number_name(char *out, double value);

#endif
