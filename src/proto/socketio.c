/* socketio.c: takes Socket.IO packets apart and writes their headers.
 *
 * Invariant: what is refused here is what Node's parser throws for, but for JSON deeper than
 *            JSON_DEPTH_MAX.
 * Owns:      nothing; a packet's slices are borrowed from its text.
 * Never:     knows a namespace, a session or a pending attachment: those faults are the session's
 *            to find.
 * Why so odd: JavaScript reads the numbers. To it white space is the number 0, so blanks count as
 *             digits of an id, a packet that begins with a blank is a CONNECT, and a count may be
 *             `1e0` or ` 0x2`. "42 [..]" really comes from clients. */
#include "proto/socketio.h"

#include "proto/json.h"

#include <math.h>

#define RESERVED_MAX 16 /* bytes of the longest reserved name, at least */

/* The text, taken from the front. */
struct cursor {
    const char *at;
    const char *end;
};

static struct slice cursor_cut(struct cursor *c, const char *until)
{
    struct slice cut = slice_of(c->at, (uint32_t)(until - c->at));

    c->at = until;
    return cut;
}

/* Length of the white space character (in JavaScript's sense) at `at`, 0 if there is none. */
static uint32_t js_space(const char *at, const char *end)
{
    static const char *const wide[] = {
        /* U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000, U+FEFF */
        "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83",
        "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88",
        "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
        "\xe2\x81\x9f", "\xe3\x80\x80", "\xef\xbb\xbf"
    };

    if (at == end)
        return 0;
    if (*at == ' ' || (*at >= '\t' && *at <= '\r'))
        return 1;
    if ((unsigned char)*at < 0x80)
        return 0;
    if (end - at >= 2 && memcmp(at, "\xc2\xa0", 2) == 0)
        return 2;
    for (uint32_t i = 0; end - at >= 3 && i < sizeof wide / sizeof wide[0]; i++) {
        if (memcmp(at, wide[i], 3) == 0)
            return 3;
    }
    return 0;
}

static struct slice js_trim(struct slice text)
{
    const char *at = text.bytes;
    const char *end = at + text.n_bytes;
    const char *behind; /* of the last character that is no white space */
    uint32_t n_space;

    while ((n_space = js_space(at, end)) > 0)
        at += n_space;
    behind = at;
    for (const char *p = at; p < end; p += n_space) {
        n_space = js_space(p, end);
        if (n_space == 0) {
            n_space = 1;
            behind = p + 1;
        }
    }
    return slice_of(at, (uint32_t)(behind - at));
}

static uint32_t count_digits(const char *at, const char *end)
{
    const char *start = at;

    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return (uint32_t)(at - start);
}

/* 0x1F, 0o17, 0b11, without the sign that JavaScript does not allow there. Values over 1000 all
 * come as more than 1000. */
static bool radix_number(struct slice text, double *value)
{
    uint32_t radix;
    uint32_t sum = 0;

    switch (text.bytes[1] | 0x20) {
    case 'x': radix = 16; break;
    case 'o': radix = 8; break;
    case 'b': radix = 2; break;
    default: return false;
    }
    for (uint32_t i = 2; i < text.n_bytes; i++) {
        uint32_t c = (unsigned char)text.bytes[i];
        uint32_t letter = (c | 0x20) - 'a';
        uint32_t digit = c - '0' < 10 ? c - '0' : letter < 6 ? letter + 10 : radix;

        if (digit >= radix)
            return false;
        sum = sum > 1000 ? sum : sum * radix + digit;
    }
    *value = sum;
    return text.n_bytes > 2;
}

/* JavaScript's Number(text) for a text without `-`; false where that gives NaN or an infinity. */
static bool js_number(struct slice text, double *value)
{
    struct slice number = js_trim(text);
    const char *at = number.bytes;
    const char *end = at + number.n_bytes;
    uint32_t n_whole;
    uint32_t n_fraction = 0;

    *value = 0;
    if (number.n_bytes == 0)
        return true;
    if (number.n_bytes > 1 && at[0] == '0' && (unsigned char)at[1] > '9')
        if ((at[1] | 0x20) != 'e')
            return radix_number(number, value);
    if (*at == '+')
        at++;
    number = slice_of(at, (uint32_t)(end - at));
    n_whole = count_digits(at, end);
    at += n_whole;
    if (at < end && *at == '.') {
        n_fraction = count_digits(at + 1, end);
        at += 1 + n_fraction;
    }
    if (n_whole + n_fraction == 0)
        return false;
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        if (at < end && *at == '+')
            at++;
        if (at == end)
            return false;
        at += count_digits(at, end);
    }
    if (at < end)
        return false;
    *value = json_number(number); /* which takes `1.` and `.5` and leading zeros as they come */
    return isfinite(*value);
}

static bool take_type(struct cursor *c, enum sio_type *type)
{
    uint32_t n_space = js_space(c->at, c->end);

    if (n_space > 0) {
        c->at += n_space;
        *type = SIO_CONNECT;
        return true;
    }
    if (c->at == c->end || *c->at < '0' || *c->at > '6')
        return false;
    *type = (enum sio_type)(*c->at++ - '0');
    return true;
}

static bool take_count(struct cursor *c, uint32_t *n_attachments)
{
    const char *dash = c->at == c->end ? NULL : memchr(c->at, '-', (size_t)(c->end - c->at));
    double count;

    if (dash == NULL || !js_number(cursor_cut(c, dash), &count))
        return false;
    if (count < 1 || count > SIO_ATTACHMENTS_MAX || count != (uint32_t)count)
        return false;
    *n_attachments = (uint32_t)count;
    c->at++;
    return true;
}

static struct slice take_namespace(struct cursor *c)
{
    const char *comma;
    struct slice nsp;

    if (c->at == c->end || *c->at != '/')
        return slice_text("/");
    comma = memchr(c->at, ',', (size_t)(c->end - c->at));
    nsp = cursor_cut(c, comma != NULL ? comma : c->end);
    if (comma != NULL)
        c->at++;
    return nsp;
}

/* Digits and blanks. Only blanks are 0; a blank between digits makes it not a number, which Node
 * acknowledges as `43NaN[]`. */
static bool take_id(struct cursor *c, double *id)
{
    const char *at = c->at;
    struct slice digits;
    uint32_t n_char;

    do {
        n_char = count_digits(at, c->end);
        if (n_char == 0)
            n_char = js_space(at, c->end);
        at += n_char;
    } while (n_char > 0);
    if (at == c->at)
        return false;
    digits = js_trim(cursor_cut(c, at));
    if (count_digits(digits.bytes, digits.bytes + digits.n_bytes) == digits.n_bytes)
        *id = json_number(digits);
    else
        *id = NAN;
    return true;
}

bool sio_event_reserved(struct slice name)
{
    static const char *const reserved[] = { "connect",       "connect_error", "disconnect",
                                            "disconnecting", "newListener",   "removeListener" };

    for (uint32_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (slice_is(name, reserved[i]))
            return true;
    }
    return false;
}

/* Is the first element of the array a number, or a string that is not reserved? */
static bool event_valid(struct slice array)
{
    struct json_iter it = json_iter_open(array);
    struct slice name;
    enum json_kind kind;
    char plain[RESERVED_MAX];
    uint32_t n_bytes;

    if (!json_iter_next(&it, NULL, &name, &kind))
        return false;
    if (kind != JSON_STRING)
        return kind == JSON_NUMBER;
    n_bytes = json_unescape(name, plain, RESERVED_MAX);
    return n_bytes > RESERVED_MAX || !sio_event_reserved(slice_of(plain, n_bytes));
}

static bool payload_valid(enum sio_type type, struct slice json)
{
    enum json_kind kind;

    if (!json_valid(json, &kind))
        return false;
    switch (type) {
    case SIO_CONNECT: return kind == JSON_OBJECT;
    case SIO_DISCONNECT: return false;
    case SIO_EVENT:
    case SIO_BINARY_EVENT: return kind == JSON_ARRAY && event_valid(json);
    case SIO_ACK:
    case SIO_BINARY_ACK: return kind == JSON_ARRAY;
    case SIO_CONNECT_ERROR: return kind == JSON_OBJECT || kind == JSON_STRING;
    }
    return false;
}

/* In front there is none: it went to the id. */
static struct slice without_end_space(struct slice json)
{
    while (json.n_bytes > 0 && memchr(" \t\r\n", json.bytes[json.n_bytes - 1], 4) != NULL)
        json.n_bytes--;
    return json;
}

bool sio_decode(struct slice text, struct sio_packet *out)
{
    struct sio_packet packet = { .n_attachments = 0 };
    struct cursor c = { text.bytes, text.bytes };

    if (text.n_bytes == 0)
        return false;
    c.end += text.n_bytes;
    if (!take_type(&c, &packet.type))
        return false;
    if (packet.type == SIO_BINARY_EVENT || packet.type == SIO_BINARY_ACK) {
        if (!take_count(&c, &packet.n_attachments))
            return false;
    }
    packet.nsp = take_namespace(&c);
    packet.has_id = take_id(&c, &packet.id);
    if (c.at < c.end) {
        packet.payload = without_end_space(cursor_cut(&c, c.end));
        if (!payload_valid(packet.type, packet.payload))
            return false;
    }
    *out = packet;
    return true;
}

/* A number as JavaScript adds it to a text: unlike in JSON, NaN and Infinity have names. */
static uint32_t put_id(char *out, double id)
{
    if (isnan(id)) {
        memcpy(out, "NaN", 3);
        return 3;
    }
    if (isinf(id)) {
        memcpy(out, "Infinity", 8);
        return 8;
    }
    return json_put_number(out, id);
}

uint32_t sio_put_header(char *out, enum sio_type type, uint32_t n_attachments, struct slice nsp,
                        double id)
{
    uint32_t n = 0;

    out[n++] = '4';
    out[n++] = (char)('0' + type);
    if (type == SIO_BINARY_EVENT || type == SIO_BINARY_ACK) {
        n += json_put_number(out + n, n_attachments);
        out[n++] = '-';
    }
    if (nsp.n_bytes > 0 && !slice_is(nsp, "/")) {
        memcpy(out + n, nsp.bytes, nsp.n_bytes);
        n += nsp.n_bytes;
        out[n++] = ',';
    }
    return id < 0 ? n : n + put_id(out + n, id);
}

/* ---- placeholders ---- */

enum field { FIELD_OTHER = 0, FIELD_PLACEHOLDER, FIELD_NUM };

/* One open bracket. A later member of the same name replaces an earlier one, so what was bad in the
 * earlier one is forgiven; one such name is remembered per object (two at once are called bad:
 * nobody sends that, and it keeps the walk linear). */
struct level {
    bool is_object;
    bool is_placeholder;  /* the last `_placeholder` is true */
    bool has_num;         /* the last `num` is one of an attachment */
    bool has_bad;         /* something inside is bad */
    enum field field;     /* the member that comes */
    struct slice key;     /* its raw name */
    struct slice bad_key; /* of the one member in which something is bad */
};

static void level_key(struct level *l, struct slice key)
{
    l->key = key;
    l->field = json_string_is(key, slice_text("_placeholder")) ? FIELD_PLACEHOLDER
               : json_string_is(key, slice_text("num"))        ? FIELD_NUM
                                                               : FIELD_OTHER;
    if (l->bad_key.bytes != NULL && json_string_equal(key, l->bad_key))
        l->bad_key = slice_of(NULL, 0);
}

/* `value` is the member's text, or its first byte if it is an array or object. */
static void level_value(struct level *l, struct slice value, enum json_kind kind,
                        uint32_t n_attachments)
{
    if (l->field == FIELD_PLACEHOLDER)
        l->is_placeholder = kind == JSON_BOOL && value.bytes[0] == 't';
    else if (l->field == FIELD_NUM)
        l->has_num =
            kind == JSON_NUMBER && json_number(value) >= 0 && json_number(value) < n_attachments;
}

/* Node does not look into a placeholder, so nothing inside it is bad. */
static bool level_bad(const struct level *l)
{
    if (l->is_placeholder)
        return !l->has_num;
    return l->has_bad || l->bad_key.bytes != NULL;
}

static void level_add_bad(struct level *l)
{
    if (l->is_object && l->bad_key.bytes == NULL)
        l->bad_key = l->key;
    else
        l->has_bad = true;
}

bool sio_placeholders_valid(struct slice json, uint32_t n_attachments)
{
    struct level levels[JSON_DEPTH_MAX + 1]; /* [0] is around the whole */
    struct json_iter it = json_walk_open(json);
    enum json_step step;
    enum json_kind kind;
    struct slice text;
    uint32_t depth = 0;

    levels[0] = (struct level){ .is_object = false };
    while ((step = json_walk_next(&it, &text, &kind)) != JSON_STEP_END) {
        switch (step) {
        case JSON_STEP_OPEN:
            if (depth == JSON_DEPTH_MAX)
                return false;
            level_value(&levels[depth], text, kind, n_attachments);
            levels[++depth] = (struct level){ .is_object = kind == JSON_OBJECT };
            break;
        case JSON_STEP_CLOSE:
            if (depth == 0)
                return false;
            if (level_bad(&levels[depth--]))
                level_add_bad(&levels[depth]);
            break;
        case JSON_STEP_KEY: level_key(&levels[depth], text); break;
        case JSON_STEP_SCALAR: level_value(&levels[depth], text, kind, n_attachments); break;
        case JSON_STEP_END: break;
        }
    }
    return !level_bad(&levels[0]);
}
