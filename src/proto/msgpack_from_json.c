/* msgpack_from_json.c: JSON text as the MessagePack that notepack.io would write of it after
 * JSON.parse.
 *
 * One pass over the validated text. A container's count is known only at its end, so one byte is
 * left for its head; a longer head moves what is inside. What JavaScript does to objects happens
 * at their end too, on the finished members: repeated keys, integer-like keys, placeholders.
 *
 * Invariant: the scratch is a stack of one offset (into the sink, 4 bytes) for each member of
 *            each open object, in order. The offsets stay right when an inner container moves,
 *            since they point at or before its start.
 * Cost:      O(text); for objects of many keys O(n log n) comparisons whatever the keys are; a
 *            container of 16 items or more is moved once. No allocation. */
#include "proto/msgpack.h"

#include <assert.h>

#include "proto/json.h"

#define FEW_MEMBERS 8 /* up to here repeated keys are looked for pair by pair */
#define NO_INDEX    UINT64_MAX
#define INDEX_MAX   4294967294ull /* 2^32 - 2: the largest array index of ECMA-262 */
#define NOT_FIRST   UINT32_MAX

struct level {
    uint32_t start; /* offset of the head in the sink */
    uint32_t n_items;
    uint64_t last_index; /* last integer-like key, NO_INDEX before the first */
    bool is_map;
    bool want_key;
    bool any_name;     /* a key that is not integer-like has come */
    bool out_of_order; /* JavaScript would order, or drop, members */
    bool may_be_placeholder;
};

struct converter {
    struct msgpack_sink *sink;
    struct msgpack_sink *scratch;
    const struct msgpack_text *text;
    uint32_t depth;
    struct level levels[MSGPACK_DEPTH_MAX];
};

/* ---- members of the object that is being closed ---- */

/* Key and value of the member at an offset of the sink: our own bytes, so reading them cannot
 * fail. */
static struct slice member_key(const struct msgpack_sink *sink, uint32_t offset,
                               struct slice *behind)
{
    struct slice rest = msgpack_sink_slice(sink, offset);
    struct msgpack_value key;
    bool good = msgpack_read(&rest, &key);

    assert(good);
    assert(key.kind == MSGPACK_STRING);
    if (behind != NULL)
        *behind = rest;
    return key.bytes;
}

static uint64_t key_index(struct slice key)
{
    uint64_t value = 0;

    if (key.n_bytes == 0 || key.n_bytes > 10 || (key.bytes[0] == '0' && key.n_bytes > 1))
        return NO_INDEX;
    for (uint32_t i = 0; i < key.n_bytes; i++) {
        if (key.bytes[i] < '0' || key.bytes[i] > '9')
            return NO_INDEX;
        value = value * 10 + (uint64_t)(key.bytes[i] - '0');
    }
    return value <= INDEX_MAX ? value : NO_INDEX;
}

/* Order of two members by key: integer-like ones first and by value, then by length and bytes;
 * equal keys by place. */
static bool member_before(const struct msgpack_sink *sink, uint32_t a, uint32_t b)
{
    struct slice key_a = member_key(sink, a, NULL);
    struct slice key_b = member_key(sink, b, NULL);
    uint64_t index_a = key_index(key_a);
    uint64_t index_b = key_index(key_b);
    int order;

    if (index_a != index_b)
        return index_a < index_b;
    if (key_a.n_bytes != key_b.n_bytes)
        return key_a.n_bytes < key_b.n_bytes;
    order = key_a.n_bytes > 0 ? memcmp(key_a.bytes, key_b.bytes, key_a.n_bytes) : 0;
    return order != 0 ? order < 0 : a < b;
}

static bool same_key(const struct msgpack_sink *sink, uint32_t a, uint32_t b)
{
    return slice_equal(member_key(sink, a, NULL), member_key(sink, b, NULL));
}

static void sift_down(const struct msgpack_sink *sink, const uint32_t *members, uint32_t *heap,
                      uint32_t at, uint32_t n)
{
    for (uint32_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
        uint32_t moved = heap[at];

        if (child + 1 < n && member_before(sink, members[heap[child]], members[heap[child + 1]]))
            child++;
        if (!member_before(sink, members[moved], members[heap[child]]))
            return;
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

/* Heap sort: no recursion, no memory, and nobody can choose keys that make it quadratic. `order`
 * gets numbers of members. */
static void sort_members(const struct msgpack_sink *sink, const uint32_t *members, uint32_t *order,
                         uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(sink, members, order, i, n);
    for (uint32_t end = n; end-- > 1;) {
        uint32_t largest = order[0];

        order[0] = order[end];
        order[end] = largest;
        sift_down(sink, members, order, 0, end);
    }
}

static bool any_repeated_of_few(const struct msgpack_sink *sink, const uint32_t *members,
                                uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (same_key(sink, members[i], members[k]))
                return true;
    return false;
}

/* Keeps a copy of one member, key and value, on the scratch. */
static void copy_member(struct converter *c, const uint32_t *members, uint32_t n, uint32_t which)
{
    uint32_t end = which + 1 < n ? members[which + 1] : c->sink->n_bytes;

    msgpack_put_bytes(c->scratch, slice_of(c->sink->bytes + members[which], end - members[which]));
}

/* Writes the members anew in JavaScript's order. `order` is sorted; `value_of` is room for as
 * many numbers. False: no scratch. */
static bool rewrite_members(struct converter *c, struct level *level, const uint32_t *members,
                            const uint32_t *order, uint32_t *value_of)
{
    uint32_t n = level->n_items;
    uint32_t from = c->scratch->n_bytes;
    uint32_t n_kept = 0;

    for (uint32_t i = 0; i < n; i++)
        value_of[i] = NOT_FIRST;
    for (uint32_t i = 0, last; i < n; i = last + 1, n_kept++) {
        last = i; /* the end of a run of equal keys, which stand in the order of their places */
        while (last + 1 < n && same_key(c->sink, members[order[last]], members[order[last + 1]]))
            last++;
        if (key_index(member_key(c->sink, members[order[i]], NULL)) != NO_INDEX)
            copy_member(c, members, n, order[last]);
        else
            value_of[order[i]] = order[last];
    }
    for (uint32_t i = 0; i < n; i++)
        if (value_of[i] != NOT_FIRST)
            copy_member(c, members, n, value_of[i]);
    if (c->scratch->too_big)
        return false;
    c->sink->n_bytes = level->start + 1;
    msgpack_put_bytes(c->sink, msgpack_sink_slice(c->scratch, from));
    level->n_items = n_kept;
    return true;
}

/* Brings the members into the order and number that JavaScript has. False: no scratch. */
static bool order_members(struct converter *c, struct level *level, const uint32_t *members)
{
    uint32_t n = level->n_items;
    uint32_t mark = c->scratch->n_bytes;
    uint32_t *order;
    bool must_rewrite = level->out_of_order;

    if (!must_rewrite && n <= FEW_MEMBERS && !any_repeated_of_few(c->sink, members, n))
        return true;
    order = msgpack_sink_reserve(c->scratch, 2 * sizeof *order * (uint64_t)n);
    if (order == NULL)
        return false;
    sort_members(c->sink, members, order, n);
    for (uint32_t i = 1; i < n && !must_rewrite; i++)
        must_rewrite = same_key(c->sink, members[order[i - 1]], members[order[i]]);
    if (must_rewrite && !rewrite_members(c, level, members, order, order + n))
        return false;
    c->scratch->n_bytes = mark;
    return true;
}

/* An object of which the last `_placeholder` is true stands for attachment `num`. */
static enum msgpack_result replace_placeholder(struct converter *c, struct level *level,
                                               const uint32_t *members, bool *replaced)
{
    bool is_placeholder = false;
    double num = -1;

    *replaced = false;
    for (uint32_t i = 0; i < level->n_items; i++) {
        struct slice value_bytes;
        struct slice key = member_key(c->sink, members[i], &value_bytes);
        struct msgpack_value value;

        if (!msgpack_read(&value_bytes, &value))
            return MSGPACK_BAD;
        if (slice_is(key, "_placeholder"))
            is_placeholder = value.kind == MSGPACK_BOOL && value.boolean;
        else if (slice_is(key, "num"))
            num = value.kind == MSGPACK_NUMBER ? value.number : -1;
    }
    if (!is_placeholder)
        return MSGPACK_OK;
    if (!(num >= 0) || num >= c->text->n_attachments)
        return MSGPACK_BAD;
    *replaced = true;
    c->sink->n_bytes = level->start;
    if ((double)(uint32_t)num != num)
        msgpack_put_nil(c->sink); /* an array at a fraction is undefined in JavaScript */
    else
        msgpack_put_binary(c->sink, c->text->attachments[(uint32_t)num]);
    return MSGPACK_OK;
}

/* ---- the text, token by token ---- */

static void open_level(struct converter *c, bool is_map)
{
    assert(c->depth < MSGPACK_DEPTH_MAX); /* json_valid allows no more */
    c->levels[c->depth++] = (struct level){
        .start = c->sink->n_bytes, .is_map = is_map, .want_key = is_map, .last_index = NO_INDEX
    };
    msgpack_put_nil(c->sink); /* room for the shortest head */
}

/* Puts the head of a finished container before its content, which moves if the head is longer
 * than the byte left for it. */
static void put_container_head(struct converter *c, const struct level *level)
{
    struct msgpack_sink *sink = c->sink;
    char head_bytes[8];
    struct msgpack_sink head = msgpack_sink_of(head_bytes, sizeof head_bytes);
    uint32_t n_content = sink->n_bytes - level->start - 1;

    if (level->is_map)
        msgpack_put_map(&head, level->n_items);
    else
        msgpack_put_array(&head, level->n_items);
    if (head.n_bytes - 1 > sink->n_max - sink->n_bytes) {
        sink->too_big = true;
        return;
    }
    if (head.n_bytes > 1)
        memmove(sink->bytes + level->start + head.n_bytes, sink->bytes + level->start + 1,
                n_content);
    memcpy(sink->bytes + level->start, head_bytes, head.n_bytes);
    sink->n_bytes += head.n_bytes - 1;
}

static void value_done(struct converter *c)
{
    struct level *level;

    if (c->depth == 0)
        return;
    level = &c->levels[c->depth - 1];
    if (level->is_map)
        level->want_key = true;
    else
        level->n_items++;
}

static enum msgpack_result close_level(struct converter *c)
{
    struct level *level = &c->levels[c->depth - 1];
    enum msgpack_result result = MSGPACK_OK;
    bool replaced = false;

    if (level->is_map) {
        uint32_t n_offsets = level->n_items * (uint32_t)sizeof(uint32_t);
        const uint32_t *members =
            (const void *)(c->scratch->bytes + c->scratch->n_bytes - n_offsets);

        if (level->may_be_placeholder)
            result = replace_placeholder(c, level, members, &replaced);
        if (result == MSGPACK_OK && !replaced && !order_members(c, level, members))
            result = MSGPACK_TOO_BIG;
        c->scratch->n_bytes -= n_offsets;
    }
    if (result != MSGPACK_OK)
        return result;
    if (!replaced)
        put_container_head(c, level);
    c->depth--;
    value_done(c);
    return MSGPACK_OK;
}

static void put_json_text(struct msgpack_sink *sink, struct slice string)
{
    struct slice inner = slice_of(string.bytes + 1, string.n_bytes - 2);
    char nothing[1];
    uint32_t n;

    if (memchr(inner.bytes, '\\', inner.n_bytes) == NULL) {
        msgpack_put_string(sink, inner);
        return;
    }
    n = json_unescape(string, nothing, 0);
    assert(n <= inner.n_bytes);
    msgpack_put_string(
        sink, slice_of(inner.bytes, n)); /* the head and n bytes, which are then overwritten */
    if (!sink->too_big)
        (void)json_unescape(string, sink->bytes + sink->n_bytes - n, n);
}

static void put_member_key(struct converter *c, struct slice string)
{
    struct level *level = &c->levels[c->depth - 1];
    uint32_t offset = c->sink->n_bytes;
    struct slice key;
    uint64_t index;

    put_json_text(c->sink, string);
    msgpack_put_bytes(c->scratch, slice_of(&offset, sizeof offset));
    if (c->sink->too_big || c->scratch->too_big)
        return;
    key = member_key(c->sink, offset, NULL);
    index = key_index(key);
    if (index == NO_INDEX)
        level->any_name = true;
    else if (level->any_name || (level->last_index != NO_INDEX && index <= level->last_index))
        level->out_of_order = true;
    else
        level->last_index = index;
    if (c->text->n_attachments > 0 && slice_is(key, "_placeholder"))
        level->may_be_placeholder = true;
    level->n_items++;
    level->want_key = false;
}

/* Length of the string, number or word at the start of validated text. */
static uint32_t token_length(struct slice text)
{
    uint32_t n = 1;

    if (text.bytes[0] == '"') {
        while (n < text.n_bytes && text.bytes[n] != '"')
            n += text.bytes[n] == '\\' ? 2 : 1;
        return n + 1;
    }
    while (n < text.n_bytes && strchr(",:]} \t\r\n", text.bytes[n]) == NULL)
        n++;
    return n;
}

static void put_scalar(struct converter *c, struct slice token)
{
    switch (token.bytes[0]) {
    case '"':
        if (c->depth > 0 && c->levels[c->depth - 1].want_key) {
            put_member_key(c, token);
            return;
        }
        put_json_text(c->sink, token);
        break;
    case 'n': msgpack_put_nil(c->sink); break;
    case 't': msgpack_put_bool(c->sink, true); break;
    case 'f': msgpack_put_bool(c->sink, false); break;
    default: msgpack_put_number(c->sink, json_number(token)); break;
    }
    value_done(c);
}

static enum msgpack_result convert(struct converter *c)
{
    struct slice rest = c->text->json;
    enum msgpack_result result = MSGPACK_OK;

    while (result == MSGPACK_OK && rest.n_bytes > 0) {
        uint32_t n = 1;

        switch (rest.bytes[0]) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case ',':
        case ':': break; /* validated: separators say nothing new */
        case '[':
        case '{': open_level(c, rest.bytes[0] == '{'); break;
        case ']':
        case '}': result = close_level(c); break;
        default: n = token_length(rest); put_scalar(c, slice_of(rest.bytes, n));
        }
        assert(n <= rest.n_bytes);
        rest = slice_of(rest.bytes + n, rest.n_bytes - n);
        if (result == MSGPACK_OK && (c->sink->too_big || c->scratch->too_big))
            result = MSGPACK_TOO_BIG;
    }
    return result;
}

MUST_USE enum msgpack_result msgpack_put_json(struct msgpack_sink *sink,
                                              const struct msgpack_text *text,
                                              struct msgpack_sink *scratch)
{
    struct converter c = { .sink = sink, .scratch = scratch, .text = text };
    uint32_t mark = scratch->n_bytes;
    enum msgpack_result result = MSGPACK_TOO_BIG;
    enum json_kind kind;

    assert(!scratch->too_big);
    if (sink->too_big)
        return MSGPACK_TOO_BIG;
    if (text->n_attachments > MSGPACK_ATTACHMENTS_MAX || !json_valid(text->json, &kind))
        return MSGPACK_BAD; /* what Node cannot read ends a Node server: nothing goes unchecked */
    if (msgpack_sink_reserve(scratch, 0) != NULL) /* offsets are aligned from here on */
        result = convert(&c);
    scratch->n_bytes = mark;
    scratch->too_big = false;
    return result;
}
