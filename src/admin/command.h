/* command.h: what the bodies of POST requests ask for. Parsing only: nothing is carried out here.
 *
 * Strict on purpose: an unknown key is refused, for a misspelt "rooms" would reach everybody; so is
 * an empty list of rooms. */
#ifndef PEAL_ADMIN_COMMAND_H
#define PEAL_ADMIN_COMMAND_H

#include "base/slice.h"
#include "peal/limits.h"

#define COMMAND_WHY_BYTES 160

/* Slices point into the body that was parsed, or into this struct. */
struct command {
    struct slice nsp;
    struct slice names[RECORD_NAMES_MAX]; /* rooms, then the excepted ones */
    uint32_t n_rooms;
    uint32_t n_except;
    struct slice event; /* raw JSON string, with its quotes */
    struct slice args;  /* raw JSON values with commas between them; n_bytes == 0: none */
    uint32_t n_args;
    bool close;
    char why[COMMAND_WHY_BYTES]; /* what is wrong, where a function returned false */
    char _nsp[NAME_BYTES_MAX + 1];
    char _names[RECORD_NAMES_MAX * (NAME_BYTES_MAX + 1)];
};

/* {"namespace":"/","rooms":["a"],"except":["b"],"event":"e","args":[…]}; all but event may be left
 * out, `rooms` and `except` may be one string. */
MUST_USE bool command_parse_emit(struct command *c, struct slice body);

/* {"namespace":"/","rooms":…} or {"namespace":"/","id":"…"}, and "close":true for the connections
 * as well. An id becomes the room of that id. */
MUST_USE bool command_parse_disconnect(struct command *c, struct slice body);

/* Nothing, or {}. */
MUST_USE bool command_parse_nothing(struct command *c, struct slice body);

/* The room in a path behind /api/ws/, percent-decoded: names[0], of /ws. */
MUST_USE bool command_parse_room(struct command *c, struct slice encoded);

/* Is all of it UTF-8? */
bool command_is_utf8(struct slice text);

#endif
