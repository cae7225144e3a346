/* forward_answer.c: see forward_answer.h. Works on text that is valid JSON: outside of strings a brace begins an object. */
#include "app/forward_answer.h"

#include <stdio.h>
#include <stdlib.h>

#define PLACEHOLDER_MAX 48

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* Behind the word and the white space around it; NULL: something else is there, or `at` is. */
static const char *match(const char *at, const char *end, const char *word)
{
    size_t n = strlen(word);

    if (at == NULL)
        return NULL;
    at = skip_space(at, end);
    if ((size_t)(end - at) < n || memcmp(at, word, n) != 0)
        return NULL;
    return skip_space(at + n, end);
}

/* The numbers of an array up to its bracket, as bytes. NULL: one of them is no byte. */
static const char *take_bytes(const char *at, const char *end, char *bytes, uint32_t *n_bytes)
{
    const char *close = match(at, end, "]");

    *n_bytes = 0;
    while (close == NULL) {
        uint32_t value = 0;
        uint32_t n_digits = 0;

        for (; at < end && *at >= '0' && *at <= '9' && n_digits < 4; at++, n_digits++)
            value = value * 10 + (uint32_t)(*at - '0');
        if (n_digits == 0 || value > UINT8_MAX)
            return NULL;
        bytes[(*n_bytes)++] = (char)value;
        close = match(at, end, "]");
        at = close == NULL ? match(at, end, ",") : close;
        if (at == NULL)
            return NULL;
    }
    return close;
}

/* Behind the object at `at`, if it is a Buffer's; else NULL. */
static const char *take_buffer(const char *at, const char *end, char *bytes, uint32_t *n_bytes)
{
    bool has_type = false;
    bool has_data = false;

    at = match(at, end, "{");
    for (uint32_t i = 0; i < 2; i++) {
        const char *type = match(match(match(at, end, "\"type\""), end, ":"), end, "\"Buffer\"");
        const char *data = match(match(match(at, end, "\"data\""), end, ":"), end, "[");

        has_type = has_type || type != NULL;
        has_data = has_data || data != NULL;
        at = type != NULL ? type : data != NULL ? take_bytes(data, end, bytes, n_bytes) : NULL;
        at = match(at, end, i == 0 ? "," : "}");
    }
    return has_type && has_data ? at : NULL;
}

static bool make_room(struct forward_answer *a, uint32_t n_bytes)
{
    uint32_t max = n_bytes + PEAL_ATTACHMENTS_MAX * PLACEHOLDER_MAX;
    char *text;
    char *bytes;

    if (max <= a->max)
        return true;
    text = realloc(a->text, max);
    if (text != NULL)
        a->text = text;
    bytes = realloc(a->bytes, max);
    if (bytes != NULL)
        a->bytes = bytes;
    if (text == NULL || bytes == NULL)
        return false;
    a->max = max;
    return true;
}

/* Behind the string that begins at `at`. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

static bool copy(struct forward_answer *a, struct peal_text json, struct peal_message *message)
{
    const char *end = json.bytes + json.n_bytes;
    char *to = a->text;
    char *bytes = a->bytes;

    for (const char *at = json.bytes; at < end;) {
        uint32_t n_bytes = 0;
        const char *next = *at == '{' ? take_buffer(at, end, bytes, &n_bytes) : NULL;

        if (next != NULL && message->n_attachments == PEAL_ATTACHMENTS_MAX)
            return false;
        if (next != NULL) {
            to += snprintf(to, PLACEHOLDER_MAX, "{\"_placeholder\":true,\"num\":%u}",
                           message->n_attachments);
            a->attachments[message->n_attachments++] = (struct peal_text){ bytes, n_bytes };
            bytes += n_bytes;
        } else {
            next = *at == '"' ? skip_string(at, end) : at + 1;
            memcpy(to, at, (size_t)(next - at));
            to += next - at;
        }
        at = next;
    }
    message->json = (struct peal_text){ a->text, (uint32_t)(to - a->text) };
    return true;
}

bool forward_answer_read(struct forward_answer *a, const struct peal_message *answer,
                         struct peal_text json, struct peal_message *message)
{
    *message = (struct peal_message){ .json = json,
                                      .attachments = answer->attachments,
                                      .n_attachments = answer->n_attachments };
    if (memmem(json.bytes, json.n_bytes, "\"Buffer\"", 8) == NULL)
        return true;
    if (answer->n_attachments > PEAL_ATTACHMENTS_MAX || !make_room(a, json.n_bytes))
        return false;
    for (uint32_t i = 0; i < answer->n_attachments; i++)
        a->attachments[i] = answer->attachments[i];
    message->attachments = a->attachments;
    return copy(a, json, message);
}
