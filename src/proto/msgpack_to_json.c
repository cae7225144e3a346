/* msgpack_to_json.c: one MessagePack value as the JSON text that a Node server would send of it.
 *
 * Invariant: `depth` counts containers of the JSON text, the placeholder of a binary value and
 *            the pair of an unknown ext included, and never exceeds MSGPACK_DEPTH_MAX: what
 *            comes out passes json_valid.
 * Owns:      nothing; the text goes into the caller's sink, attachments stay in the input. */
#include "proto/msgpack.h"

#include <math.h>

#include "proto/json.h"

struct level {
    uint32_t left; /* elements or members still to come */
    bool is_map;
    bool any; /* something is written: a comma comes first */
};

struct converter {
    struct msgpack_sink *sink;
    struct msgpack_text *text;
    uint32_t depth;
    struct level levels[MSGPACK_DEPTH_MAX];
};

uint32_t msgpack_number_name(char *out, double value)
{
    const char *name = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";

    if (isfinite(value))
        return json_put_number(out, value);
    memcpy(out, name, strlen(name));
    return (uint32_t)strlen(name);
}

static void put_number(struct msgpack_sink *sink, double value)
{
    char digits[JSON_NUMBER_MAX];

    msgpack_put_bytes(sink, slice_of(digits, json_put_number(digits, value)));
}

static char *put_digits(char *at, int64_t value, uint32_t n_digits)
{
    for (uint32_t i = n_digits; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + n_digits;
}

/* Date.prototype.toISOString, with the proleptic Gregorian calendar of ECMA-262; an invalid date
 * is null. */
static void put_date(struct msgpack_sink *sink, double ms_since_1970)
{
    char out[32];
    char *at = out;
    int64_t ms, day, era, year_of_era, day_of_year, month, year;

    if (isnan(ms_since_1970)) {
        msgpack_put_text(sink, "null");
        return;
    }
    ms = (int64_t)ms_since_1970;
    day = ms / 86400000 - (ms % 86400000 < 0);
    ms -= day * 86400000;
    /* years that begin in March, in eras of 400 years, make the leap day the last of a year (as
     * in days_from_civil of H. Hinnant) */
    day += 719468;
    era = (day >= 0 ? day : day - 146096) / 146097;
    day -= era * 146097;
    year_of_era = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month = (5 * day_of_year + 2) / 153;
    day = day_of_year - (153 * month + 2) / 5 + 1;
    month += month < 10 ? 3 : -9;
    year = year_of_era + era * 400 + (month <= 2);

    *at++ = '"';
    if (year < 0 || year > 9999)
        *at++ = year < 0 ? '-' : '+';
    at = put_digits(at, year < 0 ? -year : year, year < 0 || year > 9999 ? 6 : 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    at = put_digits(at, day, 2);
    *at++ = 'T';
    at = put_digits(at, ms / 3600000, 2);
    *at++ = ':';
    at = put_digits(at, ms / 60000 % 60, 2);
    *at++ = ':';
    at = put_digits(at, ms / 1000 % 60, 2);
    *at++ = '.';
    at = put_digits(at, ms % 1000, 3);
    *at++ = 'Z';
    *at++ = '"';
    msgpack_put_bytes(sink, slice_of(out, (uint32_t)(at - out)));
}

static bool put_attachment(struct converter *c, struct slice bytes, uint32_t depth_around)
{
    if (c->text->n_attachments == MSGPACK_ATTACHMENTS_MAX || depth_around == MSGPACK_DEPTH_MAX)
        return false;
    msgpack_put_text(c->sink, "{\"_placeholder\":true,\"num\":");
    put_number(c->sink, c->text->n_attachments);
    msgpack_put_text(c->sink, "}");
    c->text->attachments[c->text->n_attachments++] = bytes;
    return true;
}

/* JavaScript makes a string of whatever stands as a key. Keys that only a Node program with odd
 * ideas would send are refused. */
static bool put_key(struct converter *c, struct slice *rest)
{
    struct msgpack_value key;
    char digits[JSON_NUMBER_MAX];
    struct slice name;

    if (!msgpack_read(rest, &key))
        return false;
    switch (key.kind) {
    case MSGPACK_STRING:
    case MSGPACK_BINARY: name = key.bytes; break;
    case MSGPACK_NUMBER: name = slice_of(digits, msgpack_number_name(digits, key.number)); break;
    case MSGPACK_BOOL: name = slice_text(key.boolean ? "true" : "false"); break;
    case MSGPACK_NIL: name = slice_text("null"); break;
    case MSGPACK_UNDEFINED: name = slice_text("undefined"); break;
    case MSGPACK_DATE:
    case MSGPACK_EXT:
    case MSGPACK_ARRAY:
    case MSGPACK_MAP: return false;
    }
    msgpack_put_json_string(c->sink, name);
    msgpack_put_text(c->sink, ":");
    return true;
}

/* Takes a member whose value is `undefined`, which JSON.stringify leaves out. The input is
 * unchanged if it is none. */
static bool skip_undefined_member(struct slice *rest)
{
    struct slice ahead = *rest;
    struct msgpack_value value;

    if (!msgpack_read(&ahead, &value) || value.kind == MSGPACK_ARRAY || value.kind == MSGPACK_MAP)
        return false;
    if (!msgpack_read(&ahead, &value) || value.kind != MSGPACK_UNDEFINED)
        return false;
    *rest = ahead;
    return true;
}

static bool open_level(struct converter *c, const struct msgpack_value *value)
{
    if (c->depth == MSGPACK_DEPTH_MAX)
        return false;
    c->levels[c->depth++] =
        (struct level){ .left = value->n_items, .is_map = value->kind == MSGPACK_MAP };
    msgpack_put_text(c->sink, value->kind == MSGPACK_MAP ? "{" : "[");
    return true;
}

static bool put_value(struct converter *c, struct slice *rest)
{
    struct msgpack_value value;

    if (!msgpack_read(rest, &value))
        return false;
    switch (value.kind) {
    case MSGPACK_NIL:
    case MSGPACK_UNDEFINED: msgpack_put_text(c->sink, "null"); return true;
    case MSGPACK_BOOL: msgpack_put_text(c->sink, value.boolean ? "true" : "false"); return true;
    case MSGPACK_NUMBER: put_number(c->sink, value.number); return true;
    case MSGPACK_STRING: msgpack_put_json_string(c->sink, value.bytes); return true;
    case MSGPACK_DATE: put_date(c->sink, value.number); return true;
    case MSGPACK_BINARY: return put_attachment(c, value.bytes, c->depth);
    case MSGPACK_ARRAY:
    case MSGPACK_MAP: return open_level(c, &value);
    case MSGPACK_EXT:
        msgpack_put_text(c->sink, "[");
        put_number(c->sink, value.ext_type);
        msgpack_put_text(c->sink, ",");
        if (c->depth == MSGPACK_DEPTH_MAX || !put_attachment(c, value.bytes, c->depth + 1))
            return false;
        msgpack_put_text(c->sink, "]");
        return true;
    }
    return false;
}

/* The next element or member of the innermost container, or its end. */
static bool step(struct converter *c, struct slice *rest)
{
    struct level *level = &c->levels[c->depth - 1];

    if (level->left == 0) {
        msgpack_put_text(c->sink, level->is_map ? "}" : "]");
        c->depth--;
        return true;
    }
    level->left--;
    if (level->is_map && skip_undefined_member(rest))
        return true;
    if (level->any)
        msgpack_put_text(c->sink, ",");
    level->any = true;
    return (!level->is_map || put_key(c, rest)) && put_value(c, rest);
}

MUST_USE enum msgpack_result msgpack_to_json(struct slice *rest, struct msgpack_sink *sink,
                                             struct msgpack_text *out)
{
    struct converter c = { .sink = sink, .text = out };
    uint32_t from = sink->n_bytes;
    bool good;

    out->n_attachments = 0;
    out->json = (struct slice){ NULL, 0 };
    good = put_value(&c, rest);
    while (good && c.depth > 0 && !sink->too_big)
        good = step(&c, rest);
    if (good && !sink->too_big) {
        out->json = msgpack_sink_slice(sink, from);
        return MSGPACK_OK;
    }
    sink->n_bytes = from;
    out->n_attachments = 0;
    return good ? MSGPACK_TOO_BIG : MSGPACK_BAD;
}
