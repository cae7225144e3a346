/* fuzz_msgpack.c: any bytes as MessagePack and as JSON text; what one conversion gives the other
 * must take.
 *
 * Sinks are allocated with exactly the size that the header says is enough, so a wrong bound
 * shows. */
#include "proto/msgpack.h"

#include "lib/fuzz_sinks.h"
#include "proto/json.h"

#define INPUT_MAX 20000

static uint64_t attachment_bytes(const struct msgpack_text *text)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < text->n_attachments; i++)
        n += text->attachments[i].n_bytes;
    return n;
}

/* Maps that look like placeholders among the real ones may name an attachment twice, or one that
 * there is not. */
static bool has_lookalikes(const struct msgpack_text *text)
{
    const char *at = text->json.bytes;
    uint32_t n = 0;

    while ((at = memmem(at, (size_t)(text->json.bytes + text->json.n_bytes - at), "_placeholder",
                        12)) != NULL) {
        at += 12;
        n++;
    }
    return n > text->n_attachments;
}

/* Decodes a whole input; the sink is the caller's to free, whatever comes out. */
static bool decode(struct slice bytes, struct msgpack_sink *sink, struct msgpack_text *text)
{
    enum json_kind kind;
    enum msgpack_result result;

    *sink = new_sink(6 * (uint64_t)bytes.n_bytes + 40 * MSGPACK_ATTACHMENTS_MAX);
    result = msgpack_to_json(&bytes, sink, text);
    CHECK(result != MSGPACK_TOO_BIG);
    if (result == MSGPACK_OK)
        CHECK(json_valid(text->json, &kind));
    else
        CHECK(sink->n_bytes == 0);
    return result == MSGPACK_OK;
}

static bool encode(const struct msgpack_text *text, uint64_t n_attachments,
                   struct msgpack_sink *sink)
{
    struct msgpack_sink scratch = new_sink(4 * (uint64_t)text->json.n_bytes + n_attachments + 64);
    enum msgpack_result result;

    *sink = new_sink(9 * (uint64_t)text->json.n_bytes / 4 + 9 + n_attachments);
    result = msgpack_put_json(sink, text, &scratch);
    CHECK(scratch.n_bytes == 0 && !scratch.too_big);
    CHECK(result != MSGPACK_TOO_BIG || has_lookalikes(text));
    free(scratch.bytes);
    return result == MSGPACK_OK;
}

/* encode(decode(x)) == x for what our encoder has written: it is in JavaScript's order already. */
static void check_stable(struct slice written)
{
    static struct msgpack_text text;
    struct msgpack_sink json, again;
    struct slice rest = written;

    CHECK(msgpack_skip(&rest) && rest.n_bytes == 0);
    CHECK(decode(written, &json, &text));
    if (encode(&text, attachment_bytes(&text), &again))
        CHECK(slice_equal(msgpack_sink_slice(&again, 0), written) ||
              memmem(written.bytes, written.n_bytes, "\xcb", 1) !=
                  NULL || /* infinity has become null */
              has_lookalikes(&text));
    else
        CHECK(has_lookalikes(&text));
    free(again.bytes);
    free(json.bytes);
}

static void from_msgpack(struct slice bytes)
{
    static struct msgpack_text text;
    struct msgpack_sink json, written;
    struct slice rest = bytes;
    bool walks = msgpack_skip(&rest);

    if (decode(bytes, &json, &text)) {
        CHECK(walks);
        if (encode(&text, attachment_bytes(&text), &written))
            check_stable(msgpack_sink_slice(&written, 0));
        else
            CHECK(has_lookalikes(&text));
        free(written.bytes);
    }
    free(json.bytes);
}

static void from_json(struct slice bytes)
{
    static struct msgpack_text text;
    struct msgpack_sink written;
    enum json_kind kind;
    bool good;

    text = (struct msgpack_text){ .json = bytes };
    good = encode(&text, 0, &written);
    CHECK(good == json_valid(bytes, &kind));
    if (good)
        check_stable(msgpack_sink_slice(&written, 0));
    free(written.bytes);
    /* with an attachment that may be named as often as the text has room to */
    text = (struct msgpack_text){ .json = bytes,
                                  .n_attachments = 1,
                                  .attachments = { { "binary", 6 } } };
    if (encode(&text, 6 * (uint64_t)bytes.n_bytes / 16, &written))
        CHECK(good);
    free(written.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > INPUT_MAX)
        return 0;
    from_msgpack(slice_of(data, (uint32_t)n));
    from_json(slice_of(data, (uint32_t)n));
    return 0;
}
