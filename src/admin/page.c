/* page.c: see page.h.
 *
 * Invariant: n_bytes <= _room <= _max. What does not fit marks the page as failed and changes
 *            nothing else, so whoever writes need not look until the end. */
#include "admin/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/json.h"

#define PAGE_BYTES_FIRST 4096u

void page_init(struct page *p, uint32_t bytes_max)
{
    memset(p, 0, sizeof *p);
    p->_max = bytes_max;
}

void page_free(struct page *p)
{
    free(p->bytes);
    page_init(p, p->_max);
}

/* Room for `n` more bytes; false: the page has failed. */
static bool page_reserve(struct page *p, uint64_t n)
{
    uint64_t want = p->_room == 0 ? PAGE_BYTES_FIRST : p->_room;
    char *grown;

    if (p->failed || n > p->_max - p->n_bytes) {
        p->failed = true;
        return false;
    }
    if (n <= p->_room - p->n_bytes)
        return true;
    while (want < p->n_bytes + n)
        want *= 2;
    if (want > p->_max)
        want = p->_max;
    grown = realloc(p->bytes, want);
    if (grown == NULL) {
        p->failed = true;
        return false;
    }
    p->bytes = grown;
    p->_room = (uint32_t)want;
    return true;
}

void page_put(struct page *p, struct slice text)
{
    if (text.n_bytes == 0 || !page_reserve(p, text.n_bytes))
        return;
    memcpy(p->bytes + p->n_bytes, text.bytes, text.n_bytes);
    p->n_bytes += text.n_bytes;
}

void page_printf(struct page *p, const char *format, ...)
{
    char line[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line) {
        p->failed = true;
        return;
    }
    page_put(p, slice_of(line, (uint32_t)n));
}

void page_put_json(struct page *p, struct slice text)
{
    uint32_t n = json_put_string(NULL, text);

    if (!page_reserve(p, n))
        return;
    p->n_bytes += json_put_string(p->bytes + p->n_bytes, text);
}

void page_put_label(struct page *p, struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes;) {
        const char *at = text.bytes + i;
        bool good;
        uint32_t n = json_utf8_step(at, text.bytes + text.n_bytes, &good);

        i += n;
        if (!good)
            page_put(p, slice_text("\xEF\xBF\xBD"));
        else if (*at == '\n')
            page_put(p, slice_text("\\n"));
        else if (*at == '\\' || *at == '"')
            page_printf(p, "\\%c", *at);
        else
            page_put(p, slice_of(at, n));
    }
}
