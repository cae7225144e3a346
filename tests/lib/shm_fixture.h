/* shm_fixture.h: a region with its bells for tests, and the views of several processes in one.
 *
 * Views are copies that share one mapping, so that ThreadSanitizer sees that they touch the same
 * words. Header only: a test program that includes a .c of src/shm may use it too. */
#ifndef PEAL_TESTS_SHM_FIXTURE_H
#define PEAL_TESTS_SHM_FIXTURE_H

#include <assert.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/region.h"

struct shm_fixture {
    struct config config;
    struct region master;
    struct region views[PEAL_SLOTS_ALL];
};

static inline void shm_fixture_init(struct shm_fixture *f, uint32_t workers, uint64_t ring_bytes)
{
    int error;

    memset(f, 0, sizeof *f);
    f->config.workers = workers;
    f->config.ring_bytes = ring_bytes;
    f->config.max_connections_per_worker = 256;
    error = region_create(&f->master, &f->config);
    if (error != 0) {
        fprintf(stderr, "region_create: %s\n", strerror(-error));
        abort();
    }
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        bool used = slot < workers || slot >= PEAL_SLOT_BRIDGE;

        f->master.bells[slot] = used ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
        assert(!used || f->master.bells[slot] >= 0);
    }
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++) {
        f->views[slot] = f->master;
        f->views[slot].self = slot;
    }
}

static inline void shm_fixture_destroy(struct shm_fixture *f)
{
    for (uint32_t slot = 0; slot < PEAL_SLOTS_ALL; slot++)
        if (f->master.bells[slot] >= 0)
            (void)close(f->master.bells[slot]);
    region_close(&f->master);
}

/* Gives an index of the table of namespaces a name that stays, for who needs some index only. */
static inline void shm_fixture_name(struct shm_fixture *f, uint32_t index)
{
    f->master.namespaces->entries[index].section = UINT16_MAX;
    f->master.namespaces->entries[index].word = 1u << 8 | NAMESPACE_READY;
}

/* A name whose application is `forward`. */
static inline void shm_fixture_forward(struct shm_fixture *f, uint32_t index)
{
    struct config *config = (struct config *)(uintptr_t)f->master.config;

    shm_fixture_name(f, index);
    f->master.namespaces->entries[index].section = 0;
    config->n_namespaces = 1;
    config->namespaces[0].app = APP_FORWARD;
}

/* Takes the bell's ring, if there is one. */
static inline bool shm_bell_take(const struct region *region, uint32_t slot)
{
    uint64_t n;

    return read(region->bells[slot], &n, sizeof n) == (ssize_t)sizeof n;
}

/* Is the bell rung? Leaves it so. */
static inline bool shm_bell_rung(const struct region *region, uint32_t slot)
{
    struct pollfd p = { .fd = region->bells[slot], .events = POLLIN };

    return poll(&p, 1, 0) == 1;
}

#endif
