/* json_compare.h: is our JSON scanner of one mind with jansson? Used by the unit tests and by the
 * fuzzer.
 *
 * Known differences: jansson refuses numbers beyond a double, lone surrogates, and an escaped NUL
 * in a member's name; it overlooks a NUL byte behind a number (`[1<NUL>]`); we refuse what is
 * deeper than JSON_DEPTH_MAX. */
#ifndef PEAL_TESTS_JSON_COMPARE_H
#define PEAL_TESTS_JSON_COMPARE_H

#include "jansson_names.h"

#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

#define COMPARE_CHECK(condition) \
    ((condition) ? (void)0       \
                 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

static enum json_kind compare_kind(const json_t *theirs)
{
    switch (json_typeof(theirs)) {
    case JANSSON_OBJECT: return JSON_OBJECT;
    case JANSSON_ARRAY: return JSON_ARRAY;
    case JANSSON_STRING: return JSON_STRING;
    case JSON_INTEGER:
    case JSON_REAL: return JSON_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return JSON_BOOL;
    default: return JSON_NULL;
    }
}

static void compare_string(const json_t *theirs, struct slice ours)
{
    uint32_t n_bytes = json_unescape(ours, NULL, 0);
    char *plain = malloc(n_bytes + 1u);
    struct slice value = slice_of(json_string_value(theirs), (uint32_t)json_string_length(theirs));

    COMPARE_CHECK(plain != NULL);
    COMPARE_CHECK(json_unescape(ours, plain, n_bytes) == n_bytes);
    COMPARE_CHECK(slice_equal(slice_of(plain, n_bytes), value));
    COMPARE_CHECK(json_string_is(ours, value));
    free(plain);
}

static void compare_value(json_t *theirs, struct slice ours, enum json_kind kind)
{
    struct json_iter it;
    struct slice key;
    struct slice value;
    enum json_kind value_kind;
    size_t n_seen = 0;
    const char *name;
    json_t *member;

    COMPARE_CHECK(kind == compare_kind(theirs));
    switch (kind) {
    case JSON_NULL: COMPARE_CHECK(slice_is(ours, "null")); break;
    case JSON_BOOL: COMPARE_CHECK(slice_is(ours, json_is_true(theirs) ? "true" : "false")); break;
    case JSON_NUMBER: COMPARE_CHECK(json_number(ours) == json_number_value(theirs)); break;
    case JSON_STRING: compare_string(theirs, ours); break;
    case JSON_ARRAY:
        for (it = json_iter_open(ours); json_iter_next(&it, &key, &value, &value_kind); n_seen++) {
            COMPARE_CHECK(key.bytes == NULL);
            compare_value(json_array_get(theirs, n_seen), value, value_kind);
        }
        COMPARE_CHECK(n_seen == json_array_size(theirs));
        break;
    case JSON_OBJECT:
        for (it = json_iter_open(ours); json_iter_next(&it, &key, &value, &value_kind); n_seen++)
            COMPARE_CHECK(key.bytes != NULL && key.bytes[0] == '"' &&
                          key.bytes[key.n_bytes - 1] == '"');
        COMPARE_CHECK(n_seen >= json_object_size(theirs)); /* more where names repeat */
        json_object_foreach(theirs, name, member)
        {
            COMPARE_CHECK(json_member(ours, name, &value, &value_kind));
            compare_value(member, value, value_kind);
        }
        break;
    }
}

/* The walk must see what the iteration of every level sees: as many brackets, names and scalars,
 * and end at depth 0. */
static void compare_walk(struct slice text)
{
    struct json_iter it = json_walk_open(text);
    struct slice part;
    enum json_kind kind;
    enum json_step step;
    enum json_kind part_kind;
    int depth = 0;
    uint32_t n_bytes = 0;

    while ((step = json_walk_next(&it, &part, &kind)) != JSON_STEP_END) {
        COMPARE_CHECK(part.bytes >= text.bytes &&
                      part.bytes + part.n_bytes <= text.bytes + text.n_bytes);
        n_bytes += part.n_bytes;
        depth += step == JSON_STEP_OPEN ? 1 : step == JSON_STEP_CLOSE ? -1 : 0;
        COMPARE_CHECK(depth >= 0 && depth <= JSON_DEPTH_MAX);
        if (step == JSON_STEP_SCALAR || step == JSON_STEP_KEY) {
            COMPARE_CHECK(json_valid(part, &part_kind));
            COMPARE_CHECK(part_kind == kind);
        }
    }
    COMPARE_CHECK(depth == 0);
    COMPARE_CHECK(n_bytes <= text.n_bytes);
}

static bool compare_has_surrogate(struct slice text)
{
    for (uint32_t i = 0; i + 2 < text.n_bytes; i++) {
        if (text.bytes[i] == '\\' && text.bytes[i + 1] == 'u' && (text.bytes[i + 2] | 0x20) == 'd')
            return true;
    }
    return false;
}

static uint32_t compare_depth(const json_t *theirs)
{
    uint32_t deepest = 0;
    size_t index;
    const char *name;
    json_t *item;

    if (json_typeof(theirs) == JANSSON_ARRAY) {
        json_array_foreach(theirs, index, item)
        {
            uint32_t depth = compare_depth(item);

            deepest = depth > deepest ? depth : deepest;
        }
    } else if (json_typeof(theirs) == JANSSON_OBJECT) {
        json_object_foreach((json_t *)(uintptr_t)theirs, name, item)
        {
            uint32_t depth = compare_depth(item);

            deepest = depth > deepest ? depth : deepest;
        }
    } else {
        return 0;
    }
    return deepest + 1;
}

/* Aborts with a message where the two disagree without an excuse. Returns what we say. */
static bool json_compare(struct slice text)
{
    json_error_t error;
    json_t *theirs = json_loadb(text.bytes, text.n_bytes,
                                JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    enum json_kind kind = JSON_NULL;
    bool valid = json_valid(text, &kind);

    if (text.n_bytes > 0 && memchr(text.bytes, '\0', text.n_bytes) != NULL) {
        COMPARE_CHECK(!valid);
        json_decref(theirs);
        return false;
    }
    if (valid)
        compare_walk(text);
    if (valid && theirs != NULL) {
        struct slice trimmed = text;

        while (trimmed.n_bytes > 0 && memchr(" \t\r\n", trimmed.bytes[0], 4) != NULL)
            trimmed = slice_of(trimmed.bytes + 1, trimmed.n_bytes - 1);
        while (trimmed.n_bytes > 0 &&
               memchr(" \t\r\n", trimmed.bytes[trimmed.n_bytes - 1], 4) != NULL)
            trimmed.n_bytes--;
        compare_value(theirs, trimmed, kind);
    } else if (valid) {
        enum json_error_code code = json_error_code(&error);

        COMPARE_CHECK(code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
                      (code == json_error_invalid_syntax && compare_has_surrogate(text)) ||
                      (code == json_error_invalid_utf8 && compare_has_surrogate(text)));
    } else if (theirs != NULL) {
        /* a repeated name may have hidden the deep value from the tree, so the brackets of the text
         * count as well */
        uint32_t n_open = 0;

        for (uint32_t i = 0; i < text.n_bytes; i++)
            n_open += text.bytes[i] == '[' || text.bytes[i] == '{';
        COMPARE_CHECK(compare_depth(theirs) > JSON_DEPTH_MAX || n_open > JSON_DEPTH_MAX);
    }
    json_decref(theirs);
    return valid;
}

#endif
