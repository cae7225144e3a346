/* offset.h: the offset that events carry as their last argument where recovery is on: an opaque text of fixed width that names a record of this region.
 *
 * 32 characters of base64url, in three groups: version and 40 bits of the region's epoch (8), the record's position (12), room for the id of an entry
 * in a stream of another host (12, zero now). Only the middle group depends on the position, so the length is known before a reservation, and
 * those digits are all that is written between it and the commit. */
#ifndef PEAL_SHM_OFFSET_H
#define PEAL_SHM_OFFSET_H

#include "base/slice.h"

#define OFFSET_CHARS 32u

/* What it adds to an event's JSON array: a comma, quotes and itself. */
#define OFFSET_ARGUMENT_BYTES (OFFSET_CHARS + 3u)

/* Writes OFFSET_CHARS characters; the position is 0. */
void offset_put(char *out, uint64_t epoch);

/* Writes the digits of the position into an offset. */
void offset_put_position(char *offset, uint64_t position);

enum offset_result {
    OFFSET_OK = 0,
    OFFSET_UNKNOWN,   /* no offset: any text of an application's is taken for one by clients */
    OFFSET_OTHER_HOST /* of another region: another host, or this one before it was restarted */
};
MUST_USE enum offset_result offset_read(struct slice text, uint64_t epoch, uint64_t *position);

#endif
