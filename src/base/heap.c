/* heap.c: jemalloc purges as time goes by, but looks at the clock only when somebody allocates or frees, and by default waits 10 s: a worker whose tables
 * have just grown, or whose clients have all left, would keep the old ones for as long as it is idle. */
#include "base/heap.h"

#include <stddef.h>

/* jemalloc's; sanitizers bring an allocator that has neither. */
extern const char *malloc_conf;
int mallctl(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes)
    __attribute__((weak));

/* One thread, one arena. */
const char *malloc_conf = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0";

void heap_give_back(void)
{
    if (mallctl != NULL)
        (void)mallctl("arena.0.decay", NULL, NULL, NULL, 0); /* ENOENT: nothing allocated yet */
}
