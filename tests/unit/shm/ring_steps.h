/* ring_steps.h: three workers, bridge, admin and master on one small ring, for tests that take the
 * ring's functions one step at a time. It includes the ring's sources, so that something can happen
 * at the moments inside of them. */
#ifndef PEAL_TESTS_RING_STEPS_H
#define PEAL_TESTS_RING_STEPS_H

#include "lib/shm_fixture.h"

/* Runs at one moment, where others may have been quicker. */
static int moment_wanted;
static void (*at_moment)(void);
static void on_moment(int moment)
{
    if (moment == moment_wanted && at_moment != NULL)
        at_moment();
}
#define RING_MOMENT(what) on_moment(what)

#include "shm/bell.c"
#include "shm/ring_consume.c"
#include "shm/ring_produce.c"
#include "shm/ring_reap.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RING_BYTES (1u << 20)
#define UNITS      (RING_BYTES / RING_UNIT_BYTES)
#define UNIT       RING_UNIT_BYTES

static struct shm_fixture fixture;
static struct ring w0, w1, w2, bridge, admin, master;
static bool dead[PEAL_SLOTS_ALL];

static inline int setup(void **state)
{
    (void)state;
    shm_fixture_init(&fixture, 3, RING_BYTES);
    ring_open(&w0, &fixture.views[0]);
    ring_open(&w1, &fixture.views[1]);
    ring_open(&w2, &fixture.views[2]);
    ring_open(&bridge, &fixture.views[PEAL_SLOT_BRIDGE]);
    ring_open(&admin, &fixture.views[PEAL_SLOT_ADMIN]);
    ring_open(&master, &fixture.master);
    memset(dead, 0, sizeof dead);
    at_moment = NULL;
    moment_wanted = RING_MOMENT_INTENT_SET;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    ring_check(&w0);
    ring_check(&w1);
    ring_check(&w2);
    ring_check(&bridge);
    ring_check(&admin);
    ring_check(&master);
    shm_fixture_destroy(&fixture);
    return 0;
}

static uint64_t reserve(struct ring *ring, uint32_t n_units)
{
    uint64_t at = 0;

    assert_int_equal(ring_reserve(ring, n_units * UNIT, &at), RING_OK);
    return at;
}

static void commit(struct ring *ring, uint64_t at, uint32_t n_units)
{
    struct record_header header = { .n_bytes = n_units * UNIT, .kind = RECORD_GONE };

    memcpy(ring_at(ring, at), &header, sizeof header);
    ring_commit(ring, at, n_units * UNIT);
}

static uint64_t append(struct ring *ring, uint32_t n_units)
{
    uint64_t at = reserve(ring, n_units);

    commit(ring, at, n_units);
    return at;
}

/* Moves the tail to `position` with records that nobody waits for. */
static inline void fill_to(struct ring *ring, uint64_t position)
{
    uint64_t left;

    while ((left = position - ring_tail(ring)) > 0) {
        (void)append(ring, left < UNITS / 4 ? (uint32_t)left : UNITS / 4);
        ring->_n_committed = 0; /* no bells: these are not what is tested */
    }
}

static inline enum ring_result try(struct ring *ring, uint32_t n_units)
{
    uint64_t at = 0;

    return ring_reserve(ring, n_units * UNIT, &at);
}

static inline void add(struct ring *consumer)
{
    ring_consumer_add(&master, consumer->region->self, ring_tail(&master));
}

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
