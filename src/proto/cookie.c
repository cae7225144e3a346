/* cookie.c: the Set-Cookie line, byte for byte as engine.io 6.6.12 writes it with `cookie: true`. */
#include "proto/cookie.h"

#include <assert.h>
#include <stdio.h>

uint32_t cookie_line(char out[COOKIE_LINE_MAX], const char *name, struct slice sid)
{
    int n;

    out[0] = '\0';
    if (name[0] == '\0')
        return 0;
    /* Both go into a header: a semicolon or a line's end would be an attribute or a header. */
    assert(sid.n_bytes > 0 && sid.n_bytes <= COOKIE_SID_MAX);
    for (uint32_t i = 0; i < sid.n_bytes; i++) {
        char c = sid.bytes[i];

        assert((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '-' || c == '_');
    }
    assert(strpbrk(name, " ;,=\r\n") == NULL); /* the configuration has seen to it */
    n = snprintf(out, COOKIE_LINE_MAX, "Set-Cookie: %s=%.*s; Path=/; HttpOnly; SameSite=Lax\r\n",
                 name, (int)sid.n_bytes, sid.bytes);
    assert(n > 0 && n < COOKIE_LINE_MAX);
    return (uint32_t)n;
}
