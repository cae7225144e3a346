/* codec_driver.c: the MessagePack codec on standard input and output, for
 * tests/e2e/codec-differential.test.mjs.
 *
 * Lines in, one line out for each, all in hex but for the words: D MSGPACK                  "ok
 * JSON ATTACHMENT..." or "bad", "too_big" E JSON ATTACHMENT...       "ok MSGPACK"            or
 * the same Empty bytes are written as a dash. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/msgpack.h"

#define OUT_MAX (64u << 20)

static struct msgpack_text text;

static void put_hex(struct slice bytes)
{
    if (bytes.n_bytes == 0)
        (void)fputs("-", stdout);
    for (uint32_t i = 0; i < bytes.n_bytes; i++) {
        (void)putchar_unlocked("0123456789abcdef"[(uint8_t)bytes.bytes[i] >> 4]);
        (void)putchar_unlocked("0123456789abcdef"[(uint8_t)bytes.bytes[i] & 15]);
    }
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Turns hex into bytes where it stands. */
static struct slice unhex(char *word)
{
    uint32_t n = word[0] == '-' ? 0 : (uint32_t)strlen(word) / 2;

    for (uint32_t i = 0; i < n; i++)
        word[i] = (char)(digit(word[2 * i]) << 4 | digit(word[2 * i + 1]));
    return slice_of(word, n);
}

static void decode(char *words, char *out)
{
    struct msgpack_sink sink = msgpack_sink_of(out, OUT_MAX);
    struct slice rest = unhex(strtok(words, " "));
    enum msgpack_result result = msgpack_to_json(&rest, &sink, &text);

    if (result != MSGPACK_OK || rest.n_bytes != 0) {
        (void)puts(result == MSGPACK_TOO_BIG ? "too_big" : "bad");
        return;
    }
    (void)fputs("ok ", stdout);
    put_hex(text.json);
    for (uint32_t i = 0; i < text.n_attachments; i++) {
        (void)fputs(" ", stdout);
        put_hex(text.attachments[i]);
    }
    (void)puts("");
}

static void encode(char *words, char *out, char *scratch_bytes)
{
    struct msgpack_sink sink = msgpack_sink_of(out, OUT_MAX);
    struct msgpack_sink scratch = msgpack_sink_of(scratch_bytes, OUT_MAX);
    enum msgpack_result result;
    char *word = strtok(words, " ");

    text = (struct msgpack_text){ .json = unhex(word) };
    for (word = strtok(NULL, " "); word != NULL && text.n_attachments < MSGPACK_ATTACHMENTS_MAX;
         word = strtok(NULL, " "))
        text.attachments[text.n_attachments++] = unhex(word);
    result = msgpack_put_json(&sink, &text, &scratch);
    if (result != MSGPACK_OK) {
        (void)puts(result == MSGPACK_TOO_BIG ? "too_big" : "bad");
        return;
    }
    (void)fputs("ok ", stdout);
    put_hex(msgpack_sink_slice(&sink, 0));
    (void)puts("");
}

int main(void)
{
    static char out[OUT_MAX];
    static char scratch[OUT_MAX];
    char *line = NULL;
    size_t n_line = 0;
    ssize_t n;

    while ((n = getline(&line, &n_line, stdin)) > 3) {
        line[n - 1] = 0;
        if (line[0] == 'D')
            decode(line + 2, out);
        else
            encode(line + 2, out, scratch);
    }
    free(line);
    return 0;
}
