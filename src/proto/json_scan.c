/* json_scan.c: finds out whether bytes are JSON, and where the parts of a validated text begin and
 * end.
 *
 * Invariant: nothing is read at or behind `end`, for any input, validated or not; every loop moves
 *            forward.
 * Owns:      nothing; all slices handed out are borrowed from the text that came in.
 * Never:     allocates or recurses. Which brackets are open is one bit each in a word, hence
 *            JSON_DEPTH_MAX = 64.
 * Why:       each client packet passes json_valid before anybody trusts it; plain text goes by
 *            eight bytes at a time.
 *
 *     VALUE ---scalar---> NEXT <---close--- (any)
 *       '[' -> ITEM_OR_CLOSE      NEXT ',' -> VALUE (array) or KEY (object)
 *       '{' -> KEY_OR_CLOSE       KEY ':' -> VALUE */
#include "proto/json.h"

#include <assert.h>
#include <stddef.h>

#define SWAR_ONES 0x0101010101010101u

static_assert(JSON_DEPTH_MAX == 64, "one bit of a 64-bit word per open bracket");

enum expect { EXPECT_VALUE, EXPECT_ITEM_OR_CLOSE, EXPECT_KEY, EXPECT_KEY_OR_CLOSE, EXPECT_NEXT };

struct scan {
    const char *at;
    const char *end;
    uint64_t objects; /* bit 0: is the innermost open bracket a '{' */
    uint32_t depth;
    enum expect expect;
};

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static inline const char *skip_space(const char *at, const char *end)
{
    while (at < end && is_space(*at))
        at++;
    return at;
}

static inline uint64_t load_8(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* Is any of eight bytes a control, a quote, a backslash or not ASCII? A byte that is none of these
 * neither borrows from its neighbour nor sets its own high bit in any of the terms, so "no" is
 * exact. */
static inline bool has_special(uint64_t word)
{
    uint64_t quote = (word ^ SWAR_ONES * '"') - SWAR_ONES;
    uint64_t backslash = (word ^ SWAR_ONES * '\\') - SWAR_ONES;
    uint64_t control = word - SWAR_ONES * 0x20;

    return ((word | quote | backslash | control) & SWAR_ONES * 0x80) != 0;
}

/* Is any of eight bytes a quote or a backslash? Bytes that are not ASCII do not count: `& ~x` keeps
 * their high bit out. */
static inline bool has_quote(uint64_t word)
{
    uint64_t quote = word ^ SWAR_ONES * '"';
    uint64_t backslash = word ^ SWAR_ONES * '\\';

    return ((((quote - SWAR_ONES) & ~quote) | ((backslash - SWAR_ONES) & ~backslash)) &
            SWAR_ONES * 0x80) != 0;
}

/* `at` is behind the backslash. Returns the place behind the escape, NULL if it is none. */
static const char *scan_escape(const char *at, const char *end)
{
    if (at == end)
        return NULL;
    switch (*at) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't': return at + 1;
    case 'u':
        if (end - at < 5 || !is_hex(at[1]) || !is_hex(at[2]) || !is_hex(at[3]) || !is_hex(at[4]))
            return NULL;
        return at + 5;
    default: return NULL;
    }
}

/* `at` is behind the opening quote. Returns the place behind the closing one, NULL if the string is
 * none. */
static const char *scan_string(const char *at, const char *end)
{
    while (at < end) {
        unsigned char c;
        bool good = true;

        if (end - at >= 8 && !has_special(load_8(at))) {
            at += 8;
            continue;
        }
        c = (unsigned char)*at;
        if (c == '"')
            return at + 1;
        if (c == '\\') {
            at = scan_escape(at + 1, end);
            if (at == NULL)
                return NULL;
        } else if (c >= 0x80) {
            at += json_utf8_step(at, end, &good);
        } else {
            good = c >= 0x20;
            at++;
        }
        if (!good)
            return NULL;
    }
    return NULL;
}

/* At least one digit. Returns the place behind the last, NULL if there is none. */
static const char *scan_digits(const char *at, const char *end)
{
    const char *start = at;

    while (at < end && is_digit(*at))
        at++;
    return at == start ? NULL : at;
}

static const char *scan_number(const char *at, const char *end)
{
    if (*at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else
        at = scan_digits(at, end);
    if (at != NULL && at < end && *at == '.')
        at = scan_digits(at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = scan_digits(at, end);
    }
    return at;
}

static const char *scan_word(const char *at, const char *end, const char *word, uint32_t n_bytes)
{
    return end - at >= (ptrdiff_t)n_bytes && memcmp(at, word, n_bytes) == 0 ? at + n_bytes : NULL;
}

static bool scan_open(struct scan *s, bool is_object)
{
    if (s->depth == JSON_DEPTH_MAX)
        return false;
    s->depth++;
    s->objects = s->objects << 1 | is_object;
    s->expect = is_object ? EXPECT_KEY_OR_CLOSE : EXPECT_ITEM_OR_CLOSE;
    s->at++;
    return true;
}

static bool scan_close(struct scan *s, bool is_object)
{
    if (s->depth == 0 || (s->objects & 1) != is_object)
        return false;
    s->depth--;
    s->objects >>= 1;
    s->expect = EXPECT_NEXT;
    s->at++;
    return true;
}

static bool scan_value(struct scan *s)
{
    switch (*s->at) {
    case '{': return scan_open(s, true);
    case '[': return scan_open(s, false);
    case '"': s->at = scan_string(s->at + 1, s->end); break;
    case 't': s->at = scan_word(s->at, s->end, "true", 4); break;
    case 'f': s->at = scan_word(s->at, s->end, "false", 5); break;
    case 'n': s->at = scan_word(s->at, s->end, "null", 4); break;
    default: s->at = scan_number(s->at, s->end); break;
    }
    s->expect = EXPECT_NEXT;
    return s->at != NULL;
}

static bool scan_key(struct scan *s)
{
    if (*s->at != '"')
        return false;
    s->at = scan_string(s->at + 1, s->end);
    if (s->at == NULL)
        return false;
    s->at = skip_space(s->at, s->end);
    if (s->at == s->end || *s->at != ':')
        return false;
    s->at++;
    s->expect = EXPECT_VALUE;
    return true;
}

static bool scan_next(struct scan *s)
{
    switch (*s->at) {
    case ',':
        if (s->depth == 0)
            return false;
        s->expect = s->objects & 1 ? EXPECT_KEY : EXPECT_VALUE;
        s->at++;
        return true;
    case ']': return scan_close(s, false);
    case '}': return scan_close(s, true);
    default: return false;
    }
}

/* One token; `s->at` stands before it, not on white space. */
static bool scan_token(struct scan *s)
{
    switch (s->expect) {
    case EXPECT_VALUE: return scan_value(s);
    case EXPECT_ITEM_OR_CLOSE: return *s->at == ']' ? scan_close(s, false) : scan_value(s);
    case EXPECT_KEY: return scan_key(s);
    case EXPECT_KEY_OR_CLOSE: return *s->at == '}' ? scan_close(s, true) : scan_key(s);
    case EXPECT_NEXT: return scan_next(s);
    }
    return false;
}

static enum json_kind kind_of(char first)
{
    switch (first) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't':
    case 'f': return JSON_BOOL;
    case 'n': return JSON_NULL;
    default: return JSON_NUMBER;
    }
}

bool json_valid(struct slice text, enum json_kind *kind)
{
    struct scan s = { .expect = EXPECT_VALUE };
    enum json_kind first;

    if (text.n_bytes == 0)
        return false;
    s.end = text.bytes + text.n_bytes;
    s.at = skip_space(text.bytes, s.end);
    if (s.at == s.end)
        return false;
    first = kind_of(*s.at);
    for (; s.at < s.end; s.at = skip_space(s.at, s.end)) {
        if (!scan_token(&s))
            return false;
    }
    if (s.depth != 0)
        return false;
    assert(s.expect == EXPECT_NEXT); /* a value ended, and the outermost one */
    if (kind != NULL)
        *kind = first;
    return true;
}

/* From here on the text is known to be valid, so only the borders are looked for. */

/* `at` is behind the opening quote; returns the place behind the closing one. */
static const char *skip_string(const char *at, const char *end)
{
    while (at < end) {
        if (end - at >= 8 && !has_quote(load_8(at))) {
            at += 8;
        } else if (*at == '"') {
            return at + 1;
        } else {
            at += *at == '\\' && end - at > 1 ? 2 : 1;
        }
    }
    return end;
}

static const char *skip_scalar(const char *at, const char *end)
{
    if (at < end && *at == '"')
        return skip_string(at + 1, end);
    while (at < end && *at != ',' && *at != ']' && *at != '}' && !is_space(*at))
        at++;
    return at;
}

static const char *skip_value(const char *at, const char *end)
{
    uint32_t depth = 0;

    if (at == end || (*at != '[' && *at != '{'))
        return skip_scalar(at, end);
    while (at < end) {
        switch (*at++) {
        case '"': at = skip_string(at, end); break;
        case '[':
        case '{': depth++; break;
        case ']':
        case '}':
            if (--depth == 0)
                return at;
            break;
        default: break;
        }
    }
    return end;
}

static const char *skip_separator(const char *at, const char *end)
{
    while (at < end && (is_space(*at) || *at == ',' || *at == ':'))
        at++;
    return at;
}

static struct slice between(const char *start, const char *end)
{
    return slice_of(start, (uint32_t)(end - start));
}

struct json_iter json_iter_open(struct slice array_or_object)
{
    struct json_iter it = json_walk_open(array_or_object);

    if (it.at == it.end || (*it.at != '[' && *it.at != '{'))
        it.at = it.end; /* a scalar has no elements */
    else
        it.at++;
    return it;
}

bool json_iter_next(struct json_iter *it, struct slice *key, struct slice *value,
                    enum json_kind *kind)
{
    const char *start = skip_separator(it->at, it->end);
    const char *behind;

    if (start == it->end || *start == ']' || *start == '}') {
        it->at = it->end;
        return false;
    }
    if (key != NULL)
        *key = slice_of(NULL, 0);
    if (*start == '"') {
        behind = skip_string(start + 1, it->end);
        it->at = skip_space(behind, it->end);
        if (it->at < it->end && *it->at == ':') { /* only names are followed by a colon */
            if (key != NULL)
                *key = between(start, behind);
            start = skip_separator(it->at, it->end);
            if (start == it->end)
                return false;
        }
    }
    it->at = skip_value(start, it->end);
    if (value != NULL)
        *value = between(start, it->at);
    if (kind != NULL)
        *kind = kind_of(*start);
    return true;
}

bool json_member(struct slice object, const char *name, struct slice *value, enum json_kind *kind)
{
    struct json_iter it = json_iter_open(object);
    struct slice plain = slice_text(name);
    struct slice key;
    struct slice text;
    enum json_kind text_kind;
    bool found = false;

    while (json_iter_next(&it, &key, &text, &text_kind)) {
        if (key.bytes == NULL || !json_string_is(key, plain))
            continue;
        found = true;
        if (value != NULL)
            *value = text;
        if (kind != NULL)
            *kind = text_kind;
    }
    return found;
}

struct json_iter json_walk_open(struct slice text)
{
    struct json_iter it = { text.bytes, text.bytes };

    if (text.n_bytes > 0) {
        it.end = text.bytes + text.n_bytes;
        it.at = skip_space(text.bytes, it.end);
    }
    return it;
}

enum json_step json_walk_next(struct json_iter *it, struct slice *text, enum json_kind *kind)
{
    const char *start = skip_separator(it->at, it->end);
    const char *behind;

    it->at = start;
    if (start == it->end)
        return JSON_STEP_END;
    *text = between(start, start + 1);
    switch (*start) {
    case '[':
    case '{':
        *kind = kind_of(*start);
        it->at++;
        return JSON_STEP_OPEN;
    case ']':
    case '}':
        *kind = *start == ']' ? JSON_ARRAY : JSON_OBJECT;
        it->at++;
        return JSON_STEP_CLOSE;
    default: break;
    }
    it->at = skip_scalar(start, it->end);
    *text = between(start, it->at);
    *kind = kind_of(*start);
    behind = skip_space(it->at, it->end);
    return behind < it->end && *behind == ':' ? JSON_STEP_KEY : JSON_STEP_SCALAR;
}
