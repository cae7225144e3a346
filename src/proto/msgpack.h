/* msgpack.h: MessagePack as the Node servers of a Socket.IO cluster write and read it (notepack.io 3). Sans-IO, no allocation.
 *
 * Three layers: a bounded walker for foreign bytes, a writer that gives notepack's bytes, and the two conversions between
 * MessagePack and JSON text with attachments. Every walk costs O(input) and is bounded in bytes, elements and depth; lengths that
 * reach beyond the input are refused when they are read, so a forged length costs nothing. */
#ifndef PEAL_PROTO_MSGPACK_H
#define PEAL_PROTO_MSGPACK_H

#include "base/slice.h"

#define MSGPACK_DEPTH_MAX 64 /* containers within containers; that of the JSON text as well */
#define MSGPACK_ATTACHMENTS_MAX \
    255 /* binary values in one event; more is MSGPACK_BAD. Clients of ours send at most 10, but Node's
                                       server passes on whatever a back end emits */

enum msgpack_result {
    MSGPACK_OK = 0,
    MSGPACK_BAD, /* not MessagePack (or not JSON), deeper than the limit, too many attachments, bad placeholder */
    MSGPACK_TOO_BIG /* does not fit into the sink or the scratch */
};

/* ---- bytes under construction -------------------------------------------------------------------------------------------------
 * MessagePack or text, in memory of the caller. Whatever does not fit is left out and sets `too_big`, which stays: write everything,
 * then ask once. Results of decoding (lists, text) are put into a sink as well and live as long as its memory does. */
struct msgpack_sink {
    char *bytes;
    uint32_t n_bytes;
    uint32_t n_max;
    bool too_big;
};

struct msgpack_sink msgpack_sink_of(void *bytes, uint32_t n_max);
struct slice msgpack_sink_slice(const struct msgpack_sink *sink,
                                uint32_t from); /* what was written since n_bytes was `from` */
void msgpack_put_bytes(struct msgpack_sink *sink, struct slice bytes);
void msgpack_put_text(struct msgpack_sink *sink, const char *text);
void msgpack_put_json_string(struct msgpack_sink *sink, struct slice text); /* as json_put_string */
void *msgpack_sink_reserve(struct msgpack_sink *sink,
                           uint64_t n_bytes); /* aligned for any type; NULL and too_big */

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

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
    double
        number; /* NUMBER as JavaScript has it (64-bit integers lose digits); DATE: milliseconds since 1970, may be NaN */
    struct slice
        bytes; /* STRING (as sent: need not be UTF-8), BINARY, EXT; borrowed from the input */
};

/* Takes one scalar, or the head of an array or map, from `rest`. False: cut short, 0xc1, or more items than there are bytes. */
MUST_USE bool msgpack_read(struct slice *rest, struct msgpack_value *out);

/* Takes one whole value, containers with all that is in them. False: malformed, or deeper than MSGPACK_DEPTH_MAX. */
MUST_USE bool msgpack_skip(struct slice *rest);

/* ---- writing, byte for byte as notepack ---------------------------------------------------------------------------------------- */

void msgpack_put_nil(struct msgpack_sink *sink);
void msgpack_put_bool(struct msgpack_sink *sink, bool value);
/* Integers up to 2^53 in size take the shortest integer form, all else is float64 (notepack writes larger integers modulo 2^64, which
 * is wrong; every reader takes float64). */
void msgpack_put_number(struct msgpack_sink *sink, double value);
void msgpack_put_string(struct msgpack_sink *sink, struct slice text); /* UTF-8 */
void msgpack_put_binary(struct msgpack_sink *sink, struct slice bytes);
void msgpack_put_array(struct msgpack_sink *sink, uint32_t n_items);
void msgpack_put_map(struct msgpack_sink *sink, uint32_t n_members);

/* ---- JSON and back --------------------------------------------------------------------------------------------------------------- */

/* JSON text in which each binary value is {"_placeholder":true,"num":k}, and the binary values by k. With n_attachments == 0 such an
 * object means nothing special, as with Socket.IO's packet types. */
struct msgpack_text {
    struct slice json;
    uint32_t n_attachments;
    struct slice attachments[MSGPACK_ATTACHMENTS_MAX];
};

/* Takes one value from `rest` and writes what JSON.stringify would write of it in JavaScript into `sink` (`undefined` in objects is left
 * out; elsewhere it is null, as are numbers that JSON cannot say; dates are ISO texts). `out->json` points into the sink, attachments
 * into the input; they are numbered in the order in which they stand. The text is valid JSON for any input that gives MSGPACK_OK.
 * At most 6 times the input plus 40 bytes an attachment. On failure the sink is as it was but for too_big. */
MUST_USE enum msgpack_result msgpack_to_json(struct slice *rest, struct msgpack_sink *sink,
                                             struct msgpack_text *out);

/* Writes what JavaScript has after JSON.parse and after the attachments are put in: integer-like keys first and ascending, of a repeated
 * key the first place and the last value, objects whose `_placeholder` is true replaced. MSGPACK_BAD: not one JSON value, or a
 * placeholder whose num is not one of the attachments.
 * Output: at most 2.25 times the text, and the attachments. Scratch: four times the text and once the attachments is always enough; it
 * is left as it was. On MSGPACK_BAD and MSGPACK_TOO_BIG what was written is to be thrown away. */
MUST_USE enum msgpack_result msgpack_put_json(struct msgpack_sink *sink,
                                              const struct msgpack_text *text,
                                              struct msgpack_sink *scratch);

/* The text that JavaScript makes of a number used as a key or a name (json_put_number, but NaN and Infinity by name).
 * `out` holds at least JSON_NUMBER_MAX bytes; returns the length. */
uint32_t msgpack_number_name(char *out, double value);

#endif
