/* record.h: what travels in the ring: the vocabulary of the Socket.IO adapter. Encoding and validated reading; no ring in here.
 *
 * A record is a header (one unit) and a body: namespace, three lists of names with their keyed hashes (rooms, excepted rooms, argument rooms),
 * a table of parts, and the parts' bytes. The parts of a broadcast are WebSocket frames, ready to send, back to back: sending a record
 * is sending one range of the ring. Where there are clients with permessage-deflate the same frames may follow once more, those that are long enough
 * compressed: another range. The ring is an input: record_view checks every length before it hands out a pointer. */
#ifndef PEAL_SHM_RECORD_H
#define PEAL_SHM_RECORD_H

#include "base/slice.h"
#include "peal/limits.h"

enum record_kind {
    RECORD_VOID = 0,
    RECORD_BROADCAST, /* frames to the members of `rooms` (none: everybody in the namespace) but those of `except` */
    RECORD_JOIN, /* the selected sockets join `args` */
    RECORD_LEAVE,
    RECORD_DISCONNECT, /* the selected sockets are disconnected; flag RECORD_CLOSE: their connections too */
    RECORD_FETCH, /* query about the selected sockets: `id` = request, `detail` = enum record_fetch; each process in `targets` replies */
    RECORD_SERVER_EMIT, /* to applications: part 0 is the JSON array */
    RECORD_ACK, /* a client's answer to broadcast `id`: part 0 JSON array, further parts attachments; for targets */
    RECORD_REPLY, /* answer to request `id`; part 0 its bytes; several may belong together, flag RECORD_LAST ends them */
    RECORD_GONE, /* the process in slot `detail`, generation `id`, is dead: who waits for it completes */
    RECORD_NAMESPACE, /* the host has one more: wakes the bridge */
    RECORD_ROOM_NEWS, /* to the bridge: rooms that have come to this worker, or gone; part 0: session/room_news.h */
    RECORD_KINDS
};

enum record_fetch {
    FETCH_SOCKET_IDS = 0, /* REPLY: JSON array fragments, without brackets: "id","id" */
    FETCH_ROOMS,          /* REPLY: JSON strings with commas; may repeat between processes */
    FETCH_SOCKETS,        /* REPLY: JSON objects {id,handshake,rooms,data} with commas between */
    FETCH_COUNT,          /* REPLY: decimal number of selected sockets */
    FETCH_ROOM_NEWS       /* no REPLY: everything that RECORD_ROOM_NEWS tells, anew */
};

enum record_origin { ORIGIN_LOCAL = 0, ORIGIN_REDIS };

enum record_encoding {
    ENCODING_SOCKETIO =
        0, /* part 0: a text frame with the packet; further parts: binary frames with its attachments */
    ENCODING_WS_TEXT,   /* namespace /ws: one frame; the argument is a string ... */
    ENCODING_WS_BINARY, /* ... binary ... */
    ENCODING_WS_JSON    /* ... or any other JSON value, sent as text */
};

#define RECORD_VOLATILE    0x01u
#define RECORD_LOCAL       0x02u /* this host only */
#define RECORD_NO_COMPRESS 0x04u
#define RECORD_CLOSE       0x08u
#define RECORD_LAST        0x10u
#define RECORD_WANTS_ACK \
    0x20u /* broadcast: `id` is the ack id that clients answer with; FETCH-like replies with counts go to `slot` */
#define RECORD_TRUNCATED 0x40u /* reply: cut at a bound */
#define RECORD_LOST \
    0x80u /* disconnect: as if the connection had been lost: its client is back on another one */

/* The header, as it lies in the ring. */
struct record_header {
    uint32_t n_bytes; /* header and body */
    uint8_t kind;     /* enum record_kind */
    uint8_t origin;   /* enum record_origin */
    uint8_t slot;     /* who appended it */
    uint8_t flags;
    uint32_t generation; /* of the process that appended it */
    uint32_t detail;
    uint64_t id;
    uint64_t time_us; /* CLOCK_MONOTONIC at the append */
    uint64_t targets; /* mask of processes it is for, besides those with members (0: rooms only) */
    uint16_t n_nsp_bytes;
    uint16_t n_rooms;
    uint16_t n_except;
    uint16_t n_args;
    uint16_t n_parts;
    uint8_t encoding;
    uint8_t has_deflated; /* 1: a struct record_deflated and a second copy of the frames */
    uint32_t names_bytes; /* namespace and names, padded to 8 */
    uint32_t event_at;    /* Socket.IO: where the JSON array begins in part 0's payload */
    uint32_t offset_at;   /* where in the record the event's offset is (shm/offset.h); 0: none */
};
_Static_assert(sizeof(struct record_header) == 64, "one unit");

/* Behind the table of parts, if there is a second copy: it is the end of the record. */
struct record_deflated {
    uint32_t n_bytes;
    uint32_t offset_at; /* where in the copy the event's offset is; 0: none */
};

/* A keyed hash of (namespace, room); room.bytes == NULL: the namespace as a whole. SipHash-2-4 of `key`. */
uint64_t record_hash(const uint64_t key[2], struct slice nsp, struct slice room);
static inline uint32_t record_bucket(uint64_t hash)
{
    return (uint32_t)(hash & (DIRECTORY_BUCKETS - 1));
}

/* One part as the caller gives it. In a broadcast: opcode and payload; the frame header is written in front of it. Elsewhere plain bytes. */
struct record_part {
    struct slice payload;
    uint8_t opcode; /* 1 text, 2 binary, 0: no frame header */
};

/* What to write. All slices are borrowed for the time of the call. */
struct record_spec {
    struct record_header
        header; /* kind, origin, slot, flags, generation, detail, id, time_us, targets, encoding: the rest is filled in */
    struct slice nsp;
    const struct slice *rooms;
    const struct slice *except;
    const struct slice *args;
    const struct record_part *parts;
    uint32_t n_rooms, n_except, n_args, n_parts;
    uint32_t event_at; /* Socket.IO: offset of the JSON array in part 0's payload */
    bool with_offset;  /* the event gets its offset as one more last argument (record_ask_offset) */
    uint64_t epoch;    /* of the region, for the offset */
    /* Broadcast: the frames once more, for clients with permessage-deflate, smaller than the plain ones; bytes == NULL: none. With an offset: `deflated_offset_at` is
     * where in it the OFFSET_ARGUMENT_BYTES and the closing bracket begin, which are filled in by record_write. */
    struct slice deflated;
    uint32_t deflated_offset_at;
};

/* Asks for an offset where there can be one: in a Socket.IO event that wants no acknowledgement. */
void record_ask_offset(struct record_spec *spec, uint64_t epoch);

/* Bytes that record_write will take; 0: over RECORD_NAMES_MAX, NAME_BYTES_MAX, RECORD_PARTS_MAX or 2^31 bytes. */
uint32_t record_size(const struct record_spec *spec);
void record_write(uint8_t *out, const struct record_spec *spec, const uint64_t hash_key[2]);

/* Between reservation and commit: the digits of the position, if the event carries an offset, in both copies. `record` was written by record_write. */
void record_stamp(uint8_t *record, uint64_t position);

/* A validated reading. Pointers into the record. */
struct record_view {
    const struct record_header *header;
    struct slice nsp;
    struct slice frames; /* broadcast: all frames, back to back: what a WebSocket client gets */
    struct slice
        deflated; /* broadcast: the same for one with permessage-deflate: compressed, or `frames` */
    struct slice event; /* Socket.IO broadcast: the JSON array in part 0's payload */
    uint32_t
        n_offset_bytes; /* how much of `event`, before its closing bracket, is the offset: 0 or OFFSET_ARGUMENT_BYTES */
    const uint8_t *_names;
    const uint8_t *_parts;
};
MUST_USE bool record_view(struct record_view *out, const uint8_t *record, uint32_t n_bytes);

enum record_list { RECORD_ROOMS = 0, RECORD_EXCEPT, RECORD_ARGS };
struct record_names {
    const uint8_t *at;
    uint32_t left;
};
struct record_names record_names_open(const struct record_view *v, enum record_list list);
MUST_USE bool record_names_next(struct record_names *it, struct slice *name, uint64_t *hash);

/* Payload of part `i` (without its frame header) and its opcode. */
struct slice record_part(const struct record_view *v, uint32_t i, uint8_t *opcode);

#endif
