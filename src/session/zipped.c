/* zipped.c: see zipped.h.
 *
 * Invariant: where `coding` is not CODING_IDENTITY, `bytes` is what that coding makes of `of`. Equal bodies are found by their bytes, so that it does not
 *            matter where they come from; comparing costs little beside compressing, and ends early where every client gets something else. */
#include "session/zipped.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_KEPT (256u << 10)

bool zipped_open(struct zipped *z)
{
    *z = (struct zipped){ .gzip = gzip_new(GZIP_LEVEL_FAST) };
    return z->gzip != NULL;
}

static void forget(struct zipped *z)
{
    struct gzip *gzip = z->gzip;

    free(z->of);
    free(z->bytes);
    *z = (struct zipped){ .gzip = gzip };
}

void zipped_close(struct zipped *z)
{
    forget(z);
    gzip_free(z->gzip);
    z->gzip = NULL;
}

void zipped_forget(struct zipped *z)
{
    if (z->of_room > BYTES_KEPT)
        forget(z);
}

static bool make_room(char **bytes, uint32_t *room, uint32_t need)
{
    char *larger;

    if (need <= *room)
        return true;
    larger = realloc(*bytes, need);
    if (larger == NULL)
        return false;
    *bytes = larger;
    *room = need;
    return true;
}

static bool is_known(const struct zipped *z, enum coding coding, struct slice body)
{
    return z->coding == coding && slice_equal(slice_of(z->of, z->n_of), body);
}

enum coding zipped_body(struct zipped *z, enum coding coding, struct slice *body)
{
    if (z->gzip == NULL || coding == CODING_IDENTITY)
        return CODING_IDENTITY;
    if (!is_known(z, coding, *body)) {
        z->coding = CODING_IDENTITY;
        if (!make_room(&z->of, &z->of_room, body->n_bytes) ||
            !make_room(&z->bytes, &z->room, body->n_bytes))
            return CODING_IDENTITY;
        memcpy(z->of, body->bytes, body->n_bytes);
        z->n_of = body->n_bytes;
        z->n_bytes = gzip_body(z->gzip, coding, *body, z->bytes, body->n_bytes);
        z->coding = (uint8_t)coding;
    }
    if (z->n_bytes == 0)
        return CODING_IDENTITY;
    *body = slice_of(z->bytes, z->n_bytes);
    return coding;
}
