/* test_posts.c: what many threads post comes out once each, each thread's in order; a full queue says so; the bell rings.
 * @test tsan */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "app/posts.h"

#define THREADS 4
#define EACH    50000u

static struct posts posts;

static int setup(void **state)
{
    int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    (void)state;
    return bell >= 0 && posts_init(&posts, bell) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    posts_destroy(&posts);
    return close(posts.bell_fd);
}

static void nothing(struct peal_host *host, void *context)
{
    (void)host;
    (void)context;
}

static void test_order_and_bell(void **state)
{
    struct post p;
    uint64_t rung = 0;
    (void)state;

    assert_false(posts_any(&posts));
    assert_false(post_take(&posts, &p));
    for (uintptr_t i = 1; i <= 3; i++)
        assert_true(post_push(&posts, nothing, (void *)i));
    assert_true(posts_any(&posts));
    assert_int_equal(read(posts.bell_fd, &rung, sizeof rung), sizeof rung);
    assert_true(rung > 0);
    for (uintptr_t i = 1; i <= 3; i++) {
        assert_true(post_take(&posts, &p));
        assert_ptr_equal(p.fn, nothing);
        assert_int_equal((uintptr_t)p.context, i);
    }
    assert_false(posts_any(&posts));
}

static void test_a_full_queue_takes_none_and_loses_none(void **state)
{
    struct post p;
    (void)state;

    for (uint32_t round = 0; round < 3; round++) {
        for (uintptr_t i = 0; i < PEAL_POSTS_MAX; i++)
            assert_true(post_push(&posts, nothing, (void *)i));
        assert_false(post_push(&posts, nothing, NULL));
        assert_true(post_take(&posts, &p));
        assert_true(post_push(&posts, nothing, (void *)(uintptr_t)PEAL_POSTS_MAX));
        assert_false(post_push(&posts, nothing, NULL));
        for (uintptr_t i = 1; i <= PEAL_POSTS_MAX; i++) {
            assert_true(post_take(&posts, &p));
            assert_int_equal((uintptr_t)p.context, i);
        }
        assert_false(post_take(&posts, &p));
    }
}

static void *produce(void *context)
{
    uintptr_t thread = (uintptr_t)context;

    for (uintptr_t i = 0; i < EACH;) {
        if (post_push(&posts, nothing, (void *)(i * THREADS + thread)))
            i++;
        else
            (void)sched_yield();
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    uintptr_t next[THREADS] = { 0 };
    pthread_t threads[THREADS];
    struct post p;
    (void)state;

    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, produce, (void *)i), 0);
    for (uint32_t n = 0; n < THREADS * EACH;) {
        uintptr_t value;

        if (!post_take(&posts, &p)) {
            (void)sched_yield();
            continue;
        }
        value = (uintptr_t)p.context;
        assert_int_equal(value / THREADS, next[value % THREADS]);
        next[value % THREADS]++;
        n++;
    }
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_false(posts_any(&posts));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order_and_bell),
        TEST(test_a_full_queue_takes_none_and_loses_none),
        TEST(test_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
