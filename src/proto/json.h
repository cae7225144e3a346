/* json.h: a validating JSON scanner (RFC 8259) that finds boundaries instead of building trees.
 *
 * Nothing here allocates or recurses without bound (depth <= JSON_DEPTH_MAX). Input is UTF-8; bad
 * UTF-8 in a string is an error. Escaped lone surrogates are legal text and become U+FFFD when
 * unescaped. */
#ifndef PEAL_PROTO_JSON_H
#define PEAL_PROTO_JSON_H

#include "base/slice.h"

#define JSON_DEPTH_MAX  64
#define JSON_NUMBER_MAX 32 /* bytes that json_put_number writes at most */

enum json_kind { JSON_NULL = 0, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Validates one value that must fill `text` but for white space around it. False: not JSON, or
 * deeper than JSON_DEPTH_MAX. */
MUST_USE bool json_valid(struct slice text, enum json_kind *kind);

/* Iterates over the elements of a *validated* array, or the members of a validated object.
 * `value` gets the raw text of the element (no white space around), `key` (objects only) the raw
 * text with its quotes. */
struct json_iter {
    const char *at;
    const char *end;
};
struct json_iter json_iter_open(struct slice array_or_object);
MUST_USE bool json_iter_next(struct json_iter *it, struct slice *key, struct slice *value,
                             enum json_kind *kind);

/* Finds a member of a validated object by its (unescaped) name; the last one of that name counts,
 * as in JavaScript. */
MUST_USE bool json_member(struct slice object, const char *name, struct slice *value,
                          enum json_kind *kind);

/* Unescapes a validated string (raw text with quotes) into `out` as UTF-8. Returns the number of
 * bytes that the whole text has; more than `out_max` means that it was cut there (at a byte,
 * perhaps inside a character). `out` may be NULL if `out_max` is 0. */
uint32_t json_unescape(struct slice string, char *out, uint32_t out_max);

/* Goes through a *validated* value once from front to back, down into everything, without a stack
 * of its own: linear where json_iter on each level would scan a deep text once per level.
 * OPEN and CLOSE tell JSON_ARRAY or JSON_OBJECT in `kind`; KEY and SCALAR give the raw text in
 * `text` (KEY: kind JSON_STRING). */
enum json_step {
    JSON_STEP_END = 0,
    JSON_STEP_OPEN,
    JSON_STEP_CLOSE,
    JSON_STEP_KEY,
    JSON_STEP_SCALAR
};
struct json_iter json_walk_open(struct slice text);
MUST_USE enum json_step json_walk_next(struct json_iter *it, struct slice *text,
                                       enum json_kind *kind);

/* Compares validated strings (raw text with quotes) by what they mean: with each other, and with
 * plain UTF-8. Code unit by code unit as JavaScript does: an escaped lone surrogate equals only
 * itself. */
MUST_USE bool json_string_equal(struct slice a, struct slice b);
MUST_USE bool json_string_is(struct slice string, struct slice plain);

/* Length of the UTF-8 character at `at` (< `end`), 1 to 4. If there is none, `*good` is false and
 * the length is that of the bytes that one U+FFFD stands for (the WHATWG way, as TextDecoder and
 * Node do it). */
uint32_t json_utf8_step(const char *at, const char *end, bool *good);

/* Writes `text` as a JSON string with quotes as JSON.stringify does (short escapes, \u00xx for
 * other controls, the rest raw; bytes that are not UTF-8 become U+FFFD). Returns the length; `out`
 * may be NULL to measure. At most 6 * n_bytes + 2. */
uint32_t json_put_string(char *out, struct slice text);

/* Writes a number as JavaScript prints it (shortest text that reads back: 5e-324, 1e+21, 0 for -0);
 * NaN and infinities give `null`. Returns the length, at most JSON_NUMBER_MAX. */
uint32_t json_put_number(char *out, double value);

/* Value of a validated number's text (1e400 is infinite, as in JavaScript). Does not depend on the
 * locale. */
double json_number(struct slice number);

#endif
