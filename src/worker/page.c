/* page.c: demo.html with the configured path in place of the default one. Made once: a path does not change while a worker lives. */
#include "worker/page.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "proto/json.h"

extern const unsigned char asset_demo_html[];
extern const unsigned long asset_demo_html_size;

static const char place[] = "'/socket.io/'";

char *page_new(const char *path, uint32_t *n_bytes)
{
    const char *html = (const char *)asset_demo_html;
    const char *at = memmem(html, asset_demo_html_size, place, sizeof place - 1);
    char *page = malloc(asset_demo_html_size + 6 * CONFIG_TEXT_MAX + 2);
    size_t n_before;
    size_t n_after;

    assert(at != NULL);
    if (page == NULL)
        return NULL;
    n_before = (size_t)(at - html);
    n_after = asset_demo_html_size - n_before - (sizeof place - 1);
    memcpy(page, html, n_before);
    /* a path holds no quotes, brackets or backslashes (config_value.c): as JSON it may stand in a script */
    *n_bytes = (uint32_t)n_before + json_put_string(page + n_before, slice_text(path));
    memcpy(page + *n_bytes, at + sizeof place - 1, n_after);
    *n_bytes += (uint32_t)n_after;
    return page;
}
