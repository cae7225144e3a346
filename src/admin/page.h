/* page.h: text that grows as it is written, up to a bound: the body of an answer. */
#ifndef PEAL_ADMIN_PAGE_H
#define PEAL_ADMIN_PAGE_H

#include "base/slice.h"

struct page {
    char *bytes;
    uint32_t n_bytes;
    uint32_t _room;
    uint32_t _max;
    bool failed; /* it was cut: no memory, or over the bound */
};

void page_init(struct page *p, uint32_t bytes_max);
void page_free(struct page *p);
void page_put(struct page *p, struct slice text);
void page_printf(struct page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As a JSON string, with its quotes. */
void page_put_json(struct page *p, struct slice text);
/* As the value of a Prometheus label, without quotes; bytes that are not UTF-8 become U+FFFD. */
void page_put_label(struct page *p, struct slice text);

static inline struct slice page_text(const struct page *p)
{
    return slice_of(p->bytes, p->n_bytes);
}

#endif
