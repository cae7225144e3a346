/* command.c: see command.h. Built on the scanner of proto/json.h rather than on trees: arguments go
 * to clients byte for byte, so that no number loses digits on its way. */
#include "admin/command.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/engineio.h"
#include "proto/http.h"
#include "proto/json.h"
#include "proto/socketio.h"

static bool wrong(struct command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(struct command *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return false;
}

static void command_clear(struct command *c)
{
    c->nsp = slice_text("/");
    c->n_rooms = 0;
    c->n_except = 0;
    c->n_args = 0;
    c->event = (struct slice){ NULL, 0 };
    c->args = (struct slice){ NULL, 0 };
    c->close = false;
    c->why[0] = '\0';
}

/* An object with no other keys than these. */
static bool check_object(struct command *c, struct slice body, const char *const *keys)
{
    enum json_kind kind;
    struct json_iter it;
    struct slice key, value;

    if (!json_valid(body, &kind))
        return wrong(c, "the body is no JSON (or nested deeper than %d)", JSON_DEPTH_MAX);
    if (kind != JSON_OBJECT)
        return wrong(c, "the body is no JSON object");
    it = json_iter_open(body);
    while (json_iter_next(&it, &key, &value, &kind)) {
        uint32_t i = 0;

        while (keys[i] != NULL && !json_string_is(key, slice_text(keys[i])))
            i++;
        if (keys[i] == NULL)
            return wrong(c, "unknown key %.*s", key.n_bytes > 64 ? 64 : (int)key.n_bytes,
                         key.bytes);
    }
    return true;
}

static bool parse_namespace(struct command *c, struct slice body)
{
    enum json_kind kind;
    struct slice value;
    uint32_t n;

    if (!json_member(body, "namespace", &value, &kind))
        return true;
    if (kind != JSON_STRING)
        return wrong(c, "namespace is no string");
    n = json_unescape(value, c->_nsp, NAME_BYTES_MAX);
    if (n == 0 || n > NAME_BYTES_MAX || c->_nsp[0] != '/' || memchr(c->_nsp, ',', n) != NULL)
        return wrong(c, "namespace must begin with a slash, hold no comma and be at most %d bytes",
                     NAME_BYTES_MAX);
    c->nsp = slice_of(c->_nsp, n);
    return true;
}

static bool add_name(struct command *c, const char *what, struct slice value, enum json_kind kind)
{
    const uint32_t at = c->n_rooms + c->n_except;
    char *to = c->_names + (size_t)at * (NAME_BYTES_MAX + 1);
    uint32_t n;

    if (kind != JSON_STRING)
        return wrong(c, "%s must be a string or an array of strings", what);
    if (at == RECORD_NAMES_MAX)
        return wrong(c, "more than %d rooms", RECORD_NAMES_MAX);
    n = json_unescape(value, to, NAME_BYTES_MAX);
    if (n > NAME_BYTES_MAX)
        return wrong(c, "%s: a name is longer than %d bytes", what, NAME_BYTES_MAX);
    c->names[at] = slice_of(to, n);
    return true;
}

/* Appends to the names and counts in `*n`; a string or an array of strings. */
static bool parse_names(struct command *c, struct slice body, const char *what, uint32_t *n)
{
    enum json_kind kind;
    struct json_iter it;
    struct slice key, value, item;

    if (!json_member(body, what, &value, &kind))
        return true;
    if (kind != JSON_ARRAY) {
        if (!add_name(c, what, value, kind))
            return false;
        (*n)++;
        return true;
    }
    it = json_iter_open(value);
    while (json_iter_next(&it, &key, &item, &kind)) {
        if (!add_name(c, what, item, kind))
            return false;
        (*n)++;
    }
    return *n > 0 || wrong(c, "%s is empty: leave it out instead", what);
}

static bool parse_event(struct command *c, struct slice body)
{
    enum json_kind kind;
    char name[NAME_BYTES_MAX];
    uint32_t n;

    if (!json_member(body, "event", &c->event, &kind) || kind != JSON_STRING)
        return wrong(c, "event must be a string");
    n = json_unescape(c->event, name, sizeof name);
    if (n > sizeof name)
        return wrong(c, "event is longer than %d bytes", NAME_BYTES_MAX);
    if (sio_event_reserved(slice_of(name, n)))
        return wrong(c, "event is a reserved name");
    return true;
}

static bool parse_args(struct command *c, struct slice body)
{
    enum json_kind kind;
    struct json_iter it;
    struct slice key, value, item;

    if (!json_member(body, "args", &value, &kind))
        return true;
    if (kind != JSON_ARRAY)
        return wrong(c, "args must be an array");
    it = json_iter_open(value);
    while (json_iter_next(&it, &key, &item, &kind)) {
        if (c->n_args == 0)
            c->args.bytes = item.bytes;
        c->args.n_bytes = (uint32_t)(item.bytes + item.n_bytes - c->args.bytes);
        c->n_args++;
    }
    return true;
}

bool command_parse_emit(struct command *c, struct slice body)
{
    static const char *const keys[] = { "namespace", "rooms", "except", "event", "args", NULL };

    command_clear(c);
    return check_object(c, body, keys) && parse_namespace(c, body) &&
           parse_names(c, body, "rooms", &c->n_rooms) &&
           parse_names(c, body, "except", &c->n_except) && parse_event(c, body) &&
           parse_args(c, body);
}

static bool parse_id(struct command *c, struct slice body)
{
    uint8_t id[SOCKET_ID_BYTES];
    enum json_kind kind;
    struct slice value;

    if (!json_member(body, "id", &value, &kind))
        return c->n_rooms > 0 || wrong(c, "rooms or id is needed");
    if (c->n_rooms > 0)
        return wrong(c, "either rooms or id, not both");
    if (!add_name(c, "id", value, kind))
        return false;
    if (c->names[0].n_bytes != SOCKET_ID_CHARS || !base64url_decode(id, c->names[0]))
        return wrong(c, "id is not the id of a socket");
    c->n_rooms = 1;
    return true;
}

bool command_parse_disconnect(struct command *c, struct slice body)
{
    static const char *const keys[] = { "namespace", "rooms", "id", "close", NULL };
    enum json_kind kind;
    struct slice value;

    command_clear(c);
    if (!check_object(c, body, keys) || !parse_namespace(c, body) ||
        !parse_names(c, body, "rooms", &c->n_rooms) || !parse_id(c, body))
        return false;
    if (!json_member(body, "close", &value, &kind))
        return true;
    if (kind != JSON_BOOL)
        return wrong(c, "close must be true or false");
    c->close = slice_is(value, "true");
    return true;
}

bool command_parse_nothing(struct command *c, struct slice body)
{
    static const char *const keys[] = { NULL };

    command_clear(c);
    return body.n_bytes == 0 || check_object(c, body, keys);
}

bool command_parse_room(struct command *c, struct slice encoded)
{
    int32_t n = http_percent_decode(encoded, false, c->_names, NAME_BYTES_MAX);

    command_clear(c);
    if (n == -1)
        return wrong(c, "the room has a bad percent escape");
    if (n <= 0)
        return wrong(c, "the room must have 1 to %d bytes", NAME_BYTES_MAX);
    c->nsp = slice_text("/ws");
    c->names[0] = slice_of(c->_names, (uint32_t)n);
    if (!command_is_utf8(c->names[0]))
        return wrong(c, "the room is not UTF-8");
    c->n_rooms = 1;
    return true;
}

bool command_is_utf8(struct slice text)
{
    bool good = true;

    for (uint32_t at = 0; at < text.n_bytes && good;)
        at += json_utf8_step(text.bytes + at, text.bytes + text.n_bytes, &good);
    return good;
}
