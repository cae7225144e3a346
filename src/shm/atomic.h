/* atomic.h: the only way to touch words that processes share.
 *
 * Normally Concurrency Kit's ck_pr; under ThreadSanitizer, which cannot see inline assembly, the compiler's __atomic builtins with the same
 * or a stronger order. x86-64 is what is claimed: plain loads are acquires there and plain stores releases, and ck_pr's fences compile to
 * compiler barriers except the full one. */
#ifndef PEAL_SHM_ATOMIC_H
#define PEAL_SHM_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define SHM_ATOMIC_BUILTIN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHM_ATOMIC_BUILTIN 1
#endif
#endif

#ifdef SHM_ATOMIC_BUILTIN

static inline uint64_t shm_load_u64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline uint32_t shm_load_u32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline uint64_t shm_load_acquire_u64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline uint32_t shm_load_acquire_u32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline void shm_store_u64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void shm_store_u32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void shm_store_release_u64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline void shm_store_release_u32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
/* On failure *expected gets what was there. A full fence either way. */
static inline bool shm_cas_u64(uint64_t *word, uint64_t *expected, uint64_t value)
{
    return __atomic_compare_exchange_n(word, expected, value, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}
static inline bool shm_cas_u32(uint32_t *word, uint32_t expected, uint32_t value)
{
    return __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}
static inline void shm_or_u64(uint64_t *word, uint64_t bits)
{
    __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}
static inline void shm_and_u64(uint64_t *word, uint64_t bits)
{
    __atomic_fetch_and(word, bits, __ATOMIC_SEQ_CST);
}
static inline void shm_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void shm_fence_load(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}
static inline void shm_pause(void)
{
    __builtin_ia32_pause();
}

#else

#include <ck_pr.h>

static inline uint64_t shm_load_u64(const uint64_t *word)
{
    return ck_pr_load_64(word);
}
static inline uint32_t shm_load_u32(const uint32_t *word)
{
    return ck_pr_load_32(word);
}
static inline uint64_t shm_load_acquire_u64(const uint64_t *word)
{
    uint64_t value = ck_pr_load_64(word);

    ck_pr_fence_acquire();
    return value;
}
static inline uint32_t shm_load_acquire_u32(const uint32_t *word)
{
    uint32_t value = ck_pr_load_32(word);

    ck_pr_fence_acquire();
    return value;
}
static inline void shm_store_u64(uint64_t *word, uint64_t value)
{
    ck_pr_store_64(word, value);
}
static inline void shm_store_u32(uint32_t *word, uint32_t value)
{
    ck_pr_store_32(word, value);
}
static inline void shm_store_release_u64(uint64_t *word, uint64_t value)
{
    ck_pr_fence_release();
    ck_pr_store_64(word, value);
}
static inline void shm_store_release_u32(uint32_t *word, uint32_t value)
{
    ck_pr_fence_release();
    ck_pr_store_32(word, value);
}
/* On failure *expected gets what was there. A full fence either way. */
static inline bool shm_cas_u64(uint64_t *word, uint64_t *expected, uint64_t value)
{
    return ck_pr_cas_64_value(word, *expected, value, expected);
}
static inline bool shm_cas_u32(uint32_t *word, uint32_t expected, uint32_t value)
{
    return ck_pr_cas_32(word, expected, value);
}
static inline void shm_or_u64(uint64_t *word, uint64_t bits)
{
    ck_pr_or_64(word, bits);
}
static inline void shm_and_u64(uint64_t *word, uint64_t bits)
{
    ck_pr_and_64(word, bits);
}
static inline void shm_fence(void)
{
    ck_pr_fence_memory();
}
static inline void shm_fence_load(void)
{
    ck_pr_fence_load();
}
static inline void shm_pause(void)
{
    ck_pr_stall();
}

#endif

#endif
