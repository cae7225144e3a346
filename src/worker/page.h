/* page.h: the demo page, which must know under which path Engine.IO is served. */
#ifndef PEAL_WORKER_PAGE_H
#define PEAL_WORKER_PAGE_H

#include "base/slice.h"

/* The page with `path` put in. NULL: out of memory. The caller frees it. */
MUST_USE char *page_new(const char *path, uint32_t *n_bytes);

#endif
