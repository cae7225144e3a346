/* fuzz_json.c: any bytes as JSON, judged and read as jansson does; the first eight also as a double
 * and all of them as a string. */
#include "../unit/proto/json_compare.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* JSON.stringify and back: the text is valid, and what was UTF-8 comes back unchanged. */
static void fuzz_string(struct slice text)
{
    uint32_t n_quoted = json_put_string(NULL, text);
    char *quoted = malloc(n_quoted);
    char *again = malloc(n_quoted);
    struct slice once;
    enum json_kind kind = JSON_NULL;
    uint32_t n_plain;

    COMPARE_CHECK(quoted != NULL);
    COMPARE_CHECK(again != NULL);
    COMPARE_CHECK(json_put_string(quoted, text) == n_quoted);
    COMPARE_CHECK(n_quoted <= 6 * text.n_bytes + 2);
    once = slice_of(quoted, n_quoted);
    COMPARE_CHECK(json_valid(once, &kind));
    COMPARE_CHECK(kind == JSON_STRING);
    n_plain = json_unescape(once, again, n_quoted);
    COMPARE_CHECK(json_string_is(once, slice_of(again, n_plain)));
    COMPARE_CHECK(json_put_string(NULL, slice_of(again, n_plain)) == n_quoted);
    free(again);
    free(quoted);
}

static void fuzz_double(const uint8_t *data)
{
    char out[JSON_NUMBER_MAX];
    double value;
    uint32_t n_bytes;
    enum json_kind kind = JSON_NULL;

    memcpy(&value, data, sizeof value);
    n_bytes = json_put_number(out, value);
    COMPARE_CHECK(n_bytes <= JSON_NUMBER_MAX);
    COMPARE_CHECK(json_valid(slice_of(out, n_bytes), &kind));
    COMPARE_CHECK(kind == (isfinite(value) ? JSON_NUMBER : JSON_NULL));
    COMPARE_CHECK(kind == JSON_NULL || json_number(slice_of(out, n_bytes)) == value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct slice text = slice_of(data, (uint32_t)n_bytes);

    if (n_bytes > 65536)
        return 0;
    (void)json_compare(text);
    fuzz_string(text);
    if (n_bytes >= sizeof(double))
        fuzz_double(data);
    return 0;
}
