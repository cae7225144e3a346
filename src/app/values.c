/* values.c: include/peal/app.h, reading and writing JSON. Nothing here knows a host. */
#include <assert.h>
#include <stdlib.h>

#include "app/host.h"
#include "proto/json.h"

_Static_assert((int)PEAL_NULL == (int)JSON_NULL && (int)PEAL_OBJECT == (int)JSON_OBJECT,
               "one enumeration under two names");

static enum peal_kind kind_from(enum json_kind kind)
{
    return (enum peal_kind)kind;
}

bool peal_valid(struct peal_text json, struct peal_value *value)
{
    enum json_kind kind;

    if (json.bytes == NULL || !json_valid(slice_from(json), &kind))
        return false;
    if (value != NULL)
        *value = (struct peal_value){ json, kind_from(kind) };
    return true;
}

struct peal_iter peal_iterate(struct peal_text array_or_object)
{
    struct json_iter it = json_iter_open(slice_from(array_or_object));

    return (struct peal_iter){ it.at, it.end };
}

bool peal_next(struct peal_iter *it, struct peal_text *key, struct peal_value *value)
{
    struct json_iter inner = { it->_at, it->_end };
    struct slice name = { NULL, 0 };
    struct slice text;
    enum json_kind kind;
    bool any = json_iter_next(&inner, &name, &text, &kind);

    it->_at = inner.at;
    if (!any)
        return false;
    if (key != NULL)
        *key = text_from(name);
    *value = (struct peal_value){ text_from(text), kind_from(kind) };
    return true;
}

bool peal_element(struct peal_text array, uint32_t i, struct peal_value *value)
{
    struct peal_iter it = peal_iterate(array);
    struct peal_value skipped;

    while (i > 0 && peal_next(&it, NULL, &skipped))
        i--;
    return i == 0 && peal_next(&it, NULL, value);
}

bool peal_member(struct peal_value object, const char *name, struct peal_value *value)
{
    struct slice text;
    enum json_kind kind;

    if (object.kind != PEAL_OBJECT || !json_member(slice_from(object.json), name, &text, &kind))
        return false;
    *value = (struct peal_value){ text_from(text), kind_from(kind) };
    return true;
}

uint32_t peal_string(struct peal_value value, char *out, uint32_t max)
{
    return value.kind == PEAL_STRING ? json_unescape(slice_from(value.json), out, max) : 0;
}

bool peal_take_string(struct peal_value value, char *out, uint32_t max, struct peal_text *text)
{
    uint32_t n_bytes = peal_string(value, out, max);

    if (value.kind != PEAL_STRING || n_bytes > max)
        return false;
    *text = (struct peal_text){ out, n_bytes };
    return true;
}

double peal_number(struct peal_value value)
{
    return value.kind == PEAL_NUMBER ? json_number(slice_from(value.json)) : 0;
}

bool peal_true(struct peal_value value)
{
    return value.kind == PEAL_BOOL && value.json.bytes[0] == 't';
}

bool peal_binary(const struct peal_message *message, struct peal_value value,
                 struct peal_text *bytes)
{
    struct peal_value placeholder;
    struct peal_value num;
    double i;

    if (message->n_attachments == 0 || !peal_member(value, "_placeholder", &placeholder) ||
        !peal_true(placeholder) || !peal_member(value, "num", &num) || num.kind != PEAL_NUMBER)
        return false;
    i = peal_number(num);
    if (!(i >= 0 && i < message->n_attachments))
        return false;
    *bytes = message->attachments[(uint32_t)i];
    return true;
}

/* --- writing --- */

static void put(struct peal_out *out, const char *bytes, uint32_t n_bytes)
{
    if (out->too_big || n_bytes > out->max - out->n_bytes) {
        out->too_big = true;
        return;
    }
    if (n_bytes > 0)
        memcpy(out->bytes + out->n_bytes, bytes, n_bytes);
    out->n_bytes += n_bytes;
}

void peal_put(struct peal_out *out, const char *terminated)
{
    put(out, terminated, (uint32_t)strlen(terminated));
}

void peal_put_json(struct peal_out *out, struct peal_text json)
{
    put(out, json.bytes, json.n_bytes);
}

void peal_put_string(struct peal_out *out, struct peal_text text)
{
    struct slice slice = slice_of(text.bytes == NULL ? "" : text.bytes, text.n_bytes);
    uint32_t n_bytes = json_put_string(NULL, slice);

    if (out->too_big || n_bytes > out->max - out->n_bytes) {
        out->too_big = true;
        return;
    }
    (void)json_put_string(out->bytes + out->n_bytes, slice);
    out->n_bytes += n_bytes;
}

void peal_put_number(struct peal_out *out, double number)
{
    char text[JSON_NUMBER_MAX];

    put(out, text, json_put_number(text, number));
}

struct peal_message peal_written(const struct peal_out *out)
{
    struct peal_message message = { 0 };

    if (!out->too_big)
        message.json = (struct peal_text){ out->bytes, out->n_bytes };
    return message;
}
