/* heap.h: how the allocator (jemalloc) keeps what is free: it comes back to the kernel although a process at rest allocates nothing that would remind it. */
#ifndef PEAL_BASE_HEAP_H
#define PEAL_BASE_HEAP_H

/* Gives back what has been free for about a second. Once a second; microseconds, where there is nothing. Nothing happens under another allocator. */
void heap_give_back(void);

#endif
